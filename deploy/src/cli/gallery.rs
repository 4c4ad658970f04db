//! `deploy gallery`: looks after a gallery.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::gallery::{Engine, Selection, Store, TemplateId};
use serde_json::json;

use super::args::{
    ExportFormat, FactsFormat, GalleryArgs, GalleryCommand, GalleryCompactArgs, GalleryExportArgs, GalleryImportArgs,
    GalleryShowArgs, GallerySyncArgs, ModelArgs, PairArgs, RunArgs,
};
use super::shared::{self, collect, embed_options, list, open, pin, print, print_json};
use super::{log, migrate};
use crate::DeployError;
use crate::gallery::{self, About, Embeddings, Gallery, Template, faiss, older};
use crate::pictures::Input;
use crate::report::aligned;
use crate::stale::Difference;

pub(crate) fn run(GalleryArgs { command }: &GalleryArgs) -> Result<ExitCode, DeployError> {
    match command {
        GalleryCommand::Info(args) => info(args),
        GalleryCommand::Check(args) => check(args),
        GalleryCommand::Compact(args) => compact(args),
        GalleryCommand::Sync(args) => sync(args),
        GalleryCommand::Export(args) => export(args),
        GalleryCommand::Import(args) => import(args),
        GalleryCommand::Migrate(args) => migrate::run(args),
        GalleryCommand::Log(args) => log::run(args),
    }
}

fn info(GalleryShowArgs { gallery: folder, format }: &GalleryShowArgs) -> Result<ExitCode, DeployError> {
    let gallery = Gallery::open(folder)?;
    let (model, about) = (gallery.model(), gallery.about());
    let older = gallery::is_older(folder);
    let store = if older { None } else { Some(Store::open(folder)?) };
    let stored = store.as_ref().map(Store::info).transpose()?;
    let migration = store.as_ref().map(Store::migration).transpose()?.flatten();
    let templates = gallery.count()?;
    match format {
        FactsFormat::Json => print_json(&json!({
            "layout": if older { "embeddings.npy" } else { "gallery.db" },
            "templates": templates,
            "subjects": stored.as_ref().map(|info| info.subjects),
            "removed": stored.as_ref().map(|info| info.removed),
            "bytes": stored.as_ref().map(|info| info.bytes),
            "generation": stored.as_ref().map(|info| info.generation),
            "model": model,
            "migration": migration,
            "folder": about.folder.to_string_lossy(),
            "skipped": about.skipped,
        }))?,
        FactsFormat::Table => {
            let mut lines = vec![vec!["gallery".to_owned(), folder.display().to_string()]];
            let mut line = |name: &str, value: String| lines.push(vec![name.to_owned(), value]);
            line("templates", templates.to_string());
            match &stored {
                None => line("layout", "older (embeddings.npy), only read; `deploy gallery import` converts it".into()),
                Some(info) => {
                    line("subjects", info.subjects.to_string());
                    line("removed", format!("{} rows, until `deploy gallery compact`", info.removed));
                    line("bytes", info.bytes.to_string());
                    line("generation", info.generation.to_string());
                }
            }
            line("network", model.architecture.clone());
            line("contract id", model.contract_id.clone());
            line("values a row", model.dim.to_string());
            if let Some(::gallery::Migration { model, templates: done }) = &migration {
                let to = format!("{} (contract id {})", model.architecture, model.contract_id);
                line("migrating to", format!("{to}: {done} templates; `deploy gallery migrate` goes on"));
            }
            line("paths start in", about.folder.display().to_string());
            print(&aligned(&lines))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check(GalleryShowArgs { gallery: folder, format }: &GalleryShowArgs) -> Result<ExitCode, DeployError> {
    if gallery::is_older(folder) {
        return Err(DeployError::Older { path: folder.clone() });
    }
    let store = Store::open(folder)?;
    let (templates, problems) = (store.info()?.templates, store.check()?);
    match format {
        FactsFormat::Json => print_json(&json!({"templates": templates, "problems": problems}))?,
        FactsFormat::Table if problems.is_empty() => print(&format!("{templates} templates, all as written\n"))?,
        FactsFormat::Table => {
            let line = |problem: &::gallery::Problem| {
                let template = problem.template.map(|id| id.0.to_string()).unwrap_or_default();
                vec![problem.file.display().to_string(), template, problem.problem.clone()]
            };
            let mut lines = vec![["file", "template lost", "problem"].map(str::to_owned).to_vec()];
            lines.extend(problems.iter().map(line));
            print(&aligned(&lines))?;
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(terminal::EXIT_NO) })
}

fn compact(GalleryCompactArgs { gallery: folder, writing }: &GalleryCompactArgs) -> Result<ExitCode, DeployError> {
    let store = shared::writing(writing.wait, |wait| gallery::write(folder, wait))?;
    let before = store.info()?.bytes;
    let done = store.compact()?;
    let after = store.info()?.bytes;
    print(&format!("{} removed rows taken out; {before} bytes became {after}\n", done.rows))?;
    Ok(ExitCode::SUCCESS)
}

fn sync(args: &GallerySyncArgs) -> Result<ExitCode, DeployError> {
    let folder = &args.gallery;
    // From here on nobody else changes it.
    let store = shared::writing(args.writing.wait, |wait| gallery::write(folder, wait))?;
    let now = Gallery::open(folder)?;
    let about = now.about().clone();
    let places = match &args.folder[..] {
        [] => about.places.iter().map(|place| about.folder.join(place)).collect(),
        given => given.to_vec(),
    };
    if places.is_empty() {
        let why = format!("`{}` was not embedded from a folder of pictures", folder.display());
        return Err(DeployError::Needed { flag: "--folder", why });
    }
    let naming = about.identity_from.as_deref().and_then(|naming| naming.parse().ok());
    // A folder that is gone may be a disk that is not mounted: nobody is removed for that.
    let listed = list(&places, &PairArgs::default(), naming, args.reading.strict)?;
    let Difference { new, changed, gone, .. } = Difference::of(&now, &places, listed)?;
    let told = format!("{} new, {} changed, {} gone", new.len(), changed.len(), gone.len());
    if args.dry_run || (new.is_empty() && changed.is_empty() && gone.is_empty()) {
        let all = now.count()?;
        print(&format!(
            "{told}; {all} templates in {}{}\n",
            folder.display(),
            if args.dry_run { ", as before" } else { "" }
        ))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut removed: Vec<TemplateId> = gone.iter().map(|row| TemplateId(*row as u64)).collect();
    removed.extend(changed.iter().map(|(row, _)| TemplateId(*row as u64)));
    let pictures: Vec<Input> = new.into_iter().chain(changed.into_iter().map(|(_, picture)| picture)).collect();
    let mut rows = None;
    if !pictures.is_empty() {
        let model = open(&args.model, pictures.len())?;
        let (_, spec) = model.embedding()?;
        gallery::pinned(folder, store.model(), &pin(&model, spec), &model.path)?;
        // Pictures that cannot be used may be all there are.
        match collect(&model, &pictures, "embed", &embed_options(&args.model, &args.reading)) {
            Ok(collected) => rows = Some(collected.embeddings),
            Err(DeployError::NoneReadable { of, .. }) => {
                terminal::warn(&format!("none of the {of} new and changed pictures can be used"));
            }
            Err(error) => return Err(error),
        }
    }
    store.change(|changes| {
        changes.by("sync");
        changes.remove(&Selection::Templates(removed))?;
        if let Some(rows) = rows {
            let templates = rows.templates.into_iter().map(Template::stamped);
            let templates = templates.map(|template| gallery::named_from(&about, template)).collect();
            gallery::enrol(changes, &Embeddings { templates, ..rows })?;
        }
        Ok::<_, DeployError>(())
    })?;
    print(&format!("{told}; {} templates in {}\n", store.info()?.templates, folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// File of what is said about the rows of another.
fn beside(path: &Path) -> PathBuf {
    path.with_extension("jsonl")
}

fn export(args: &GalleryExportArgs) -> Result<ExitCode, DeployError> {
    let gallery = Gallery::open(&args.gallery)?;
    match args.format {
        ExportFormat::Npy => older::write(&args.out, &gallery)?,
        ExportFormat::Faiss => {
            let Embeddings { values, dim, templates, .. } = gallery.load()?;
            let json = |source| DeployError::Json { path: beside(&args.out), source };
            let lines = templates.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>().map_err(json)?;
            files::write_private(&args.out, faiss::encode(&values, templates.len(), dim))?;
            files::write_private(&beside(&args.out), lines.join("\n") + "\n")?;
        }
    }
    print(&format!("{} templates in {}\n", gallery.count()?, args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn import(args: &GalleryImportArgs) -> Result<ExitCode, DeployError> {
    let wait = args.writing.wait;
    let (store, folder) = if args.from.is_dir() {
        let unused = |flag, given: bool| match given {
            true => Err(DeployError::Unused { flag, why: "a gallery says these things itself".into() }),
            false => Ok(()),
        };
        unused("--rows", args.rows.is_some())?;
        unused("--model", args.model.is_some())?;
        match &args.out {
            None if gallery::is_older(&args.from) => {
                (shared::writing(wait, |wait| gallery::convert(&args.from, wait))?, &args.from)
            }
            None => {
                let why =
                    "only a gallery of the older layout (embeddings.npy) is imported in its own folder".to_owned();
                return Err(DeployError::Needed { flag: "--out", why });
            }
            Some(out) => {
                let from = Gallery::open(&args.from)?;
                let mut rows = from.load()?;
                gallery::without_zeros(&mut rows);
                let make = |wait| gallery::make(out, from.model(), from.about(), &rows, wait);
                (shared::writing(wait, make)?, out)
            }
        }
    } else {
        let Some(out) = &args.out else {
            let why = format!("`{}` is a file of rows and no folder of a gallery", args.from.display());
            return Err(DeployError::Needed { flag: "--out", why });
        };
        let Some(model) = &args.model else {
            let from = args.from.display();
            let why = format!("a gallery names the model whose embeddings it holds, which `{from}` does not");
            return Err(DeployError::Needed { flag: "--model", why });
        };
        let embeddings = rows_of(&args.from, args.rows.as_deref())?;
        let run = RunArgs { contract: args.contract.clone(), skip_self_test: true, ..RunArgs::default() };
        let model = open(&ModelArgs { model: model.clone(), run }, 1)?;
        let (_, spec) = model.embedding()?;
        if embeddings.dim != spec.dim {
            let problem = format!("its rows have {} values, those of the model {}", embeddings.dim, spec.dim);
            return Err(DeployError::Features { path: args.from.clone(), problem });
        }
        let make = |wait| gallery::make(out, &pin(&model, spec), &About::here(0), &embeddings, wait);
        (shared::writing(wait, make)?, out)
    };
    print(&format!("{} templates in {}\n", store.info()?.templates, folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Rows of numpy's or FAISS's file, and what a file of lines, that is named or lies beside it, says about them.
fn rows_of(path: &Path, lines: Option<&Path>) -> Result<Embeddings, DeployError> {
    let (values, rows, dim) = faiss::read(path)?;
    let lines = lines.map(Path::to_owned).or_else(|| Some(beside(path)).filter(|path| path.is_file()));
    let templates: Vec<Template> = match &lines {
        None => vec![Template::default(); rows],
        Some(lines) => {
            let text = files::read_text_limited(lines, files::LARGEST_TABLE);
            let text = text.map_err(|source| DeployError::Read { path: lines.clone(), source })?;
            let json = |source| DeployError::Json { path: lines.clone(), source };
            text.lines().map(serde_json::from_str).collect::<Result<_, _>>().map_err(json)?
        }
    };
    if templates.len() != rows {
        let problem = format!("it has {} lines for the {rows} rows of `{}`", templates.len(), path.display());
        return Err(DeployError::Features { path: lines.unwrap_or_default(), problem });
    }
    Ok(Embeddings { values, dim, templates, folder: PathBuf::new() })
}
