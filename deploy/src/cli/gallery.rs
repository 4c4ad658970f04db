//! `deploy gallery`: looks after a gallery.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use ::gallery::{Engine, GalleryError, Index, Indexes, KeyFile, Selection, Store, TemplateId};
use serde_json::json;

use super::args::{
    ExportFormat, FactsFormat, GalleryArgs, GalleryCommand, GalleryCompactArgs, GalleryEncryptArgs, GalleryExportArgs,
    GalleryImportArgs, GalleryIndexArgs, GalleryRenewArgs, GalleryRotateKeyArgs, GalleryShowArgs, GallerySyncArgs,
    IndexKindArg, ModelArgs, PairArgs, RunArgs,
};
use super::shared::{self, collect, embed_options, list, open, pin, print, print_json};
use super::{log, migrate};
use crate::DeployError;
use crate::gallery::faiss::{self, Vectors};
use crate::gallery::{self, About, BATCH, Embeddings, Gallery, Template, older, parquet};
use crate::pictures::Input;
use crate::report::aligned;
use crate::stale::Difference;

pub(crate) fn run(GalleryArgs { command }: &GalleryArgs) -> Result<ExitCode, DeployError> {
    match command {
        GalleryCommand::Info(args) => info(args),
        GalleryCommand::Check(args) => check(args),
        GalleryCommand::Compact(args) => compact(args),
        GalleryCommand::Index(args) => index(args),
        GalleryCommand::Sync(args) => sync(args),
        GalleryCommand::Export(args) => export(args),
        GalleryCommand::Import(args) => import(args),
        GalleryCommand::Migrate(args) => migrate::run(args),
        GalleryCommand::Log(args) => log::run(args),
        GalleryCommand::Encrypt(args) => encrypt(args),
        GalleryCommand::RotateKey(args) => rotate_key(args),
        GalleryCommand::Renew(args) => renew(args),
    }
}

fn info(GalleryShowArgs { gallery: folder, format, .. }: &GalleryShowArgs) -> Result<ExitCode, DeployError> {
    let gallery = Gallery::open(folder)?;
    let (model, about) = (gallery.model(), gallery.about());
    let older = gallery::is_older(folder);
    let store = if older { None } else { Some(gallery::read(folder)?) };
    let stored = store.as_ref().map(Store::info).transpose()?;
    let migration = store.as_ref().map(Store::migration).transpose()?.flatten();
    let indexes = store.as_ref().map(Store::indexes).transpose()?;
    let templates = gallery.count()?;
    match format {
        FactsFormat::Json => print_json(&json!({
            "layout": if older { "embeddings.npy" } else { "gallery.db" },
            "templates": templates,
            "subjects": stored.as_ref().map(|info| info.subjects),
            "removed": stored.as_ref().map(|info| info.removed),
            "bytes": stored.as_ref().map(|info| info.bytes),
            "generation": stored.as_ref().map(|info| info.generation),
            "encrypted": store.as_ref().map(Store::is_encrypted),
            "renewable": store.as_ref().map(Store::is_renewable),
            "indexes": indexes,
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
                    let kept = store.as_ref().map(|store| (store.is_encrypted(), store.is_renewable()));
                    line(
                        "encrypted",
                        match kept {
                            Some((true, true)) => "yes, renewable templates".into(),
                            Some((true, false)) => "yes".into(),
                            _ => "no".into(),
                        },
                    );
                    let indexes = indexes.unwrap_or_default();
                    line("reduced copy", indexed(&indexes, &indexes.reduced, "reduced"));
                    line("graph for `--index ann`", indexed(&indexes, &indexes.graph, "ann"));
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

/// Says how much of a gallery is in one of its indexes.
fn indexed(Indexes { rows, .. }: &Indexes, index: &Index, kind: &str) -> String {
    match (index.rows, rows - index.rows) {
        (0, _) => format!("none; `deploy gallery index --kind {kind}` makes it"),
        (all, 0) => format!("all {all} rows, {} bytes", index.bytes),
        (some, new) => format!("{some} of {rows} rows, {new} are new, {} bytes", index.bytes),
    }
}

/// Lets `work` count rows on a progress bar.
fn counted<T>(rows: u64, what: &str, work: impl FnOnce(&(dyn Fn(u64) + Sync)) -> T) -> T {
    let bar = terminal::progress(rows, what, "rows");
    let done = work(&|rows| bar.inc(rows));
    bar.finish_and_clear();
    done
}

fn index(GalleryIndexArgs { gallery: folder, kind, writing, .. }: &GalleryIndexArgs) -> Result<ExitCode, DeployError> {
    let store = shared::writing(writing.wait, |wait| gallery::write(folder, wait))?;
    let rows = store.indexes()?.rows;
    let start = Instant::now();
    match kind {
        IndexKindArg::Ann => drop(counted(rows, "graph", |done| store.index(done))?),
        IndexKindArg::Reduced => {
            counted(rows, "copy", |done| store.reduce_with(done))?;
            store.remove_graphs()?;
        }
        IndexKindArg::None => {
            store.remove_graphs()?;
            store.remove_reduced()?;
        }
    }
    let Indexes { rows, reduced, graph } = store.indexes()?;
    let (seconds, at) = (start.elapsed().as_secs_f64(), folder.display());
    print(&match kind {
        IndexKindArg::Ann => format!(
            "{} of {rows} rows in the copy and {} in the graph of {at}, {} and {} bytes; {seconds:.1} s\n",
            reduced.rows, graph.rows, reduced.bytes, graph.bytes
        ),
        IndexKindArg::Reduced => {
            format!("{} of {rows} rows in the copy of {at}, {} bytes; {seconds:.1} s\n", reduced.rows, reduced.bytes)
        }
        IndexKindArg::None => format!("no index is left in {at}; searches read its {rows} rows\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn check(GalleryShowArgs { gallery: folder, format, .. }: &GalleryShowArgs) -> Result<ExitCode, DeployError> {
    if gallery::is_older(folder) {
        return Err(DeployError::Older { path: folder.clone() });
    }
    let store = gallery::read(folder)?;
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

fn compact(GalleryCompactArgs { gallery: folder, writing, .. }: &GalleryCompactArgs) -> Result<ExitCode, DeployError> {
    let store = shared::writing(writing.wait, |wait| gallery::write(folder, wait))?;
    let before = store.info()?.bytes;
    let done = store.compact()?;
    let after = store.info()?.bytes;
    print(&format!("{} removed rows taken out; {before} bytes became {after}\n", done.rows))?;
    if done.unindexed > 0 {
        terminal::note(&format!(
            "{} rows have moved and are in no graph any more: they are searched exactly until `deploy gallery index {} \
             --kind ann`",
            done.unindexed,
            folder.display()
        ));
    }
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

fn encrypt(args: &GalleryEncryptArgs) -> Result<ExitCode, DeployError> {
    let folder = &args.gallery;
    if Store::is_encrypted_at(folder)? {
        return Err(GalleryError::Encrypted { path: folder.clone() }.into());
    }
    let store = shared::writing(args.writing.wait, |wait| gallery::write(folder, wait))?;
    let key = KeyFile::open_or_create(&args.key_file)?;
    let mut store = store.encrypt(&key)?;
    if args.renewable {
        store = store.renew_templates()?;
    }
    let (rows, at) = (store.info()?.templates, key.store());
    print(&format!("{rows} templates of {} are encrypted; their keys are in {}\n", folder.display(), at.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn rotate_key(args: &GalleryRotateKeyArgs) -> Result<ExitCode, DeployError> {
    let folder = &args.gallery;
    let store = shared::writing(args.writing.wait, |wait| gallery::write(folder, wait))?;
    let key = KeyFile::open_or_create(&args.new_key_file)?;
    store.rotate_key(&key)?;
    let (old, at) = (args.key_file.display(), key.store());
    print(&format!("the keys of {} are in {}; {old} opens it no more\n", folder.display(), at.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn renew(args: &GalleryRenewArgs) -> Result<ExitCode, DeployError> {
    let folder = &args.gallery;
    let store = shared::writing(args.writing.wait, |wait| gallery::write(folder, wait))?.renew_templates()?;
    print(&format!("{} templates of {} are renewed\n", store.info()?.templates, folder.display()))?;
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
            let (rows, dim) = (gallery.rows()?, gallery.model().dim);
            gallery::streamed(&args.out, |out| {
                let failed = |source| DeployError::Write { path: args.out.clone(), source };
                out.write_all(&faiss::header(rows.len(), dim)).map_err(failed)?;
                for rows in rows.chunks(BATCH) {
                    let bytes: Vec<u8> = gallery.vectors(rows)?.iter().flat_map(|value| value.to_le_bytes()).collect();
                    out.write_all(&bytes).map_err(failed)?;
                }
                Ok(())
            })?;
            older::write_lines(&beside(&args.out), &gallery, &rows)?;
        }
        ExportFormat::Parquet => parquet::write(&args.out, &gallery)?,
    }
    print(&format!("{} templates in {}\n", gallery.count()?, args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn import(args: &GalleryImportArgs) -> Result<ExitCode, DeployError> {
    let wait = args.writing.wait;
    args.key.unlock(args.out.as_ref().unwrap_or(&args.from))?;
    let (store, folder) = if args.from.is_dir() {
        let unused = |flag, given: bool| match given {
            true => Err(DeployError::Unused { flag, why: "a gallery says these things itself".into() }),
            false => Ok(()),
        };
        unused("--rows", args.rows.is_some())?;
        unused("--model", args.model.is_some())?;
        match &args.out {
            None if gallery::is_older(&args.from) => {
                (shared::writing(wait, |wait| gallery::convert(&args.from, args.key.making(wait)))?, &args.from)
            }
            None => {
                let why =
                    "only a gallery of the older layout (embeddings.npy) is imported in its own folder".to_owned();
                return Err(DeployError::Needed { flag: "--out", why });
            }
            Some(out) => (import_gallery(args, out)?, out),
        }
    } else {
        let Some(out) = &args.out else {
            let why = format!("`{}` is a file of rows and no folder of a gallery", args.from.display());
            return Err(DeployError::Needed { flag: "--out", why });
        };
        let store = if is_parquet(&args.from)? { import_parquet(args, out)? } else { import_file(args, out)? };
        (store, out)
    };
    print(&format!("{} templates in {}\n", store.info()?.templates, folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Opens where rows go: a gallery that is new or empty.
fn target(args: &GalleryImportArgs, out: &Path, model: &::gallery::Model) -> Result<Store, DeployError> {
    shared::writing(args.writing.wait, |wait| gallery::vacant(out, model, args.key.making(wait)))
}

fn import_gallery(args: &GalleryImportArgs, out: &Path) -> Result<Store, DeployError> {
    let from = Gallery::open_to_copy(&args.from)?;
    let (rows, model) = (from.rows()?, from.model());
    let store = target(args, out, model)?;
    let bar = terminal::progress(rows.len() as u64, "import", "rows");
    let filled = gallery::fill(store, model, from.about(), |enrolment| {
        for rows in rows.chunks(BATCH) {
            let values = from.vectors(rows)?;
            for (template, values) in from.templates(rows)?.into_iter().zip(values.chunks_exact(model.dim)) {
                // Older versions stored zeros for pictures without features.
                if values.iter().any(|value| *value != 0.0) {
                    enrolment.row(template, values)?;
                }
            }
            bar.inc(rows.len() as u64);
        }
        Ok(())
    });
    bar.finish_and_clear();
    filled
}

/// The model whose embeddings a file is said to hold.
fn named_model(args: &GalleryImportArgs) -> Result<::gallery::Model, DeployError> {
    let Some(model) = &args.model else {
        let from = args.from.display();
        let why = format!("a gallery names the model whose embeddings it holds, which `{from}` does not");
        return Err(DeployError::Needed { flag: "--model", why });
    };
    let run = RunArgs { contract: args.contract.clone(), skip_self_test: true, ..RunArgs::default() };
    let model = open(&ModelArgs { model: model.clone(), run }, 1)?;
    let (_, spec) = model.embedding()?;
    Ok(pin(&model, spec))
}

fn is_parquet(path: &Path) -> Result<bool, DeployError> {
    let failed = |source| DeployError::Read { path: path.to_owned(), source };
    let mut start = Vec::new();
    let file = files::open_regular(path).map_err(failed)?;
    file.take(parquet::MAGIC.len() as u64).read_to_end(&mut start).map_err(failed)?;
    Ok(start == parquet::MAGIC)
}

/// Names the file in errors about its rows.
fn in_file(path: &Path) -> impl Fn(DeployError) -> DeployError {
    |error| match error {
        DeployError::Gallery(error @ (GalleryError::Row { .. } | GalleryError::Field { .. })) => {
            DeployError::Features { path: path.to_owned(), problem: error.to_string() }
        }
        other => other,
    }
}

/// Imports a Parquet file, which may name its model itself.
fn import_parquet(args: &GalleryImportArgs, out: &Path) -> Result<Store, DeployError> {
    let path = &args.from;
    if args.rows.is_some() {
        return Err(DeployError::Unused { flag: "--rows", why: "a Parquet file says these things itself".into() });
    }
    let file = parquet::Reader::open(path)?;
    let (model, about) = match (file.model()?, &args.model) {
        (Some(own), None) => own,
        (own, _) => {
            let named = named_model(args)?;
            let about = match own {
                Some((found, about)) => {
                    gallery::pinned(path, &found, &named, args.model.as_deref().unwrap_or(path))?;
                    about
                }
                None => About::here(0),
            };
            (named, about)
        }
    };
    let store = target(args, out, &model)?;
    let bar = terminal::progress(file.rows(), "import", "rows");
    let filled = gallery::fill(store, &model, &about, |enrolment| {
        file.each(model.dim, &mut |template, values| {
            bar.inc(1);
            enrolment.row(template, values)
        })
    });
    bar.finish_and_clear();
    filled.map_err(in_file(path))
}

/// Imports numpy's or FAISS's file, and what a file of lines, that is named or lies beside it, says about its rows.
fn import_file(args: &GalleryImportArgs, out: &Path) -> Result<Store, DeployError> {
    let path = &args.from;
    let model = named_model(args)?;
    let mut vectors = Vectors::open_file(path)?;
    let (rows, dim) = (vectors.rows(), vectors.dim());
    if dim != model.dim {
        let problem = format!("its rows have {dim} values, those of the model {}", model.dim);
        return Err(DeployError::Features { path: path.clone(), problem });
    }
    let lines = args.rows.clone().or_else(|| Some(beside(path)).filter(|path| path.is_file()));
    let mut lines = lines.map(|lines| Lines::open(lines, path, rows)).transpose()?;
    let store = target(args, out, &model)?;
    let bar = terminal::progress(rows as u64, "import", "rows");
    let filled = gallery::fill(store, &model, &About::here(0), |enrolment| {
        for _ in (0..rows).step_by(BATCH) {
            let values = vectors.next(BATCH).map_err(|error| error.of(path))?;
            for values in values.chunks_exact(dim) {
                let template = lines.as_mut().map_or_else(|| Ok(Template::default()), Lines::template)?;
                enrolment.row(template, values)?;
            }
            bar.inc((values.len() / dim) as u64);
        }
        Ok(())
    });
    bar.finish_and_clear();
    filled.map_err(in_file(path))
}

/// What a file says about rows, a line of JSON for each.
struct Lines {
    path: PathBuf,
    lines: BufReader<File>,
}

impl Lines {
    /// Longest line in bytes: a path, names and tags.
    const LONGEST: usize = 1 << 20;

    /// Opens the file at `path`, which must have as many lines as `of` has rows.
    fn open(path: PathBuf, of: &Path, rows: usize) -> Result<Self, DeployError> {
        let failed = |source| DeployError::Read { path: path.clone(), source };
        let mut lines = BufReader::new(files::open_regular(&path).map_err(failed)?);
        let (mut found, mut ended) = (0, true);
        loop {
            let some = lines.fill_buf().map_err(failed)?;
            let Some(last) = some.last() else { break };
            found += some.iter().filter(|byte| **byte == b'\n').count();
            ended = *last == b'\n';
            let length = some.len();
            lines.consume(length);
        }
        found += usize::from(!ended);
        if found != rows {
            let problem = format!("it has {found} lines for the {rows} rows of `{}`", of.display());
            return Err(DeployError::Features { path, problem });
        }
        lines.rewind().map_err(failed)?;
        Ok(Self { path, lines })
    }

    /// What the next line says.
    fn template(&mut self) -> Result<Template, DeployError> {
        let mut line = Vec::new();
        let read = self.lines.by_ref().take(Self::LONGEST as u64).read_until(b'\n', &mut line);
        read.map_err(|source| DeployError::Read { path: self.path.clone(), source })?;
        if line.len() == Self::LONGEST {
            let problem = format!("a line has {} bytes or more", Self::LONGEST);
            return Err(DeployError::Features { path: self.path.clone(), problem });
        }
        serde_json::from_slice(&line).map_err(|source| DeployError::Json { path: self.path.clone(), source })
    }
}
