//! `deploy search`: probes against a gallery.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::gallery::Indexes;
use datasets::Note;
use metrics::open_set::Fusion;

use super::args::{ByArg, Format, FusionArg, IndexArg, ModelArgs, RunArgs, SearchArgs};
use super::shared::{
    collect, embed_options, list, list_with_notes, one_row, open, pin, print, print_json, ranked, say_naming,
    warn_when_collapsed,
};
use crate::frontalize::Frontalizer;
use crate::gallery::{self, Embeddings, Gallery, Template};
use crate::pictures::{self, Input, Listed};
use crate::poses::Poses;
use crate::report::{Decision, LISTED, SearchReport};
use crate::runtime::Model;
use crate::search::{Ask, By, Scope};
use crate::stale::Stale;
use crate::{DeployError, identify};

/// Default number of entries of each probe that are re-ranked.
const RERANK_TOP: NonZeroUsize = NonZeroUsize::new(200).unwrap();

pub(crate) fn run(args: &SearchArgs) -> Result<ExitCode, DeployError> {
    if args.fusion == FusionArg::Mean && args.by == ByArg::Template {
        let why = "a template has one similarity; `--by subject` fuses those of a person".to_owned();
        return Err(DeployError::Unused { flag: "--fusion", why });
    }
    if args.index == IndexArg::Exact && args.effort.is_some() {
        let why = "every row is compared; `--index ann` has an effort".to_owned();
        return Err(DeployError::Unused { flag: "--effort", why });
    }
    if args.index == IndexArg::Ann && args.rerank.scope(Scope::Nearest(RERANK_TOP)) == Some(Scope::Everyone) {
        let why = "`--rerank-top all` compares every entry".to_owned();
        return Err(DeployError::Unused { flag: "--index ann", why });
    }
    let searched = Searched::list(args)?;
    let asked = Asked::of(&args.query)?;
    if !asked.arrays.is_empty() && args.frontalize.is_some() {
        let why = "poses are those of pictures; `deploy frontalize` takes embeddings".to_owned();
        return Err(DeployError::Unused { flag: "--frontalize", why });
    }
    let listed = match asked.pictures.is_empty() {
        true => (Vec::new(), Vec::new()),
        false => list_with_notes(&asked.pictures, &args.pairs, args.naming.identity_from, args.reading.strict)?,
    };
    let model = open(&args.model, listed.0.len().max(searched.pictures()))?;
    let frontal = frontal_model(args)?;
    let frontalizer = frontal.as_ref().map(Frontalizer::new).transpose()?;
    let frontal = match (frontalizer, &args.poses) {
        (Some(frontalizer), Some(poses)) => {
            let poses = Poses::read(poses, frontalizer.angles())?;
            Some((frontalizer, poses))
        }
        _ => None,
    };

    // Check the gallery first: a mismatch should fail before any probe is embedded.
    let (gallery, skipped_entries, stale) = searched.open(args, &model)?;
    let gallery = gallery.filtered(args.filter.filter())?;
    say_who_is_left_out(args, &gallery)?;
    if let Some(Stale { new, changed, gone }) = stale {
        terminal::warn(&format!(
            "the pictures in `{}` differ from the gallery: {new} new, {changed} changed, {gone} gone; `deploy \
             gallery sync` follows them, or embed again with `deploy embed --replace`",
            args.gallery.display()
        ));
    }
    let (probes, skipped_probes) = probes(args, &model, &asked, listed, &gallery, frontal)?;
    warn_when_collapsed(&gallery.spread()?);

    let (min_similarity, decision) = match (args.fpir, args.min_similarity) {
        (Some(fpir), _) => calibrated(&model, &gallery, fpir, args.fusion.into())?,
        (None, Some(least)) => (Some(least), Decision::chosen(least, "--min-similarity", "--fpir")),
        (None, None) => (None, Decision::none()),
    };
    let ask = Ask {
        k: args.top_k.get(),
        min_similarity,
        rerank: args.rerank.scope(Scope::Nearest(RERANK_TOP)),
        by: match args.by {
            ByArg::Template => By::Template,
            ByArg::Subject => By::Subject(args.fusion.into()),
        },
        expand: args.expand,
        listed: LISTED,
        ..Ask::default()
    };
    // One probe is compared with every row once, or with the neighbours that expand it, twice.
    if probes.templates.len() == 1 && args.expand == 0 {
        gallery.read_once();
    }
    let found = ranked(&probes, &gallery, &ask, true)?;
    if found.themselves > 0 {
        let who = match found.themselves {
            1 => "1 probe is in the gallery: it matches itself".to_owned(),
            count => format!("{count} probes are in the gallery: they match themselves"),
        };
        terminal::note(&format!("{who}, which CMC and mAP leave out"));
    }

    let skipped = skipped_entries + skipped_probes;
    let name = args.gallery.display().to_string();
    let mut report = SearchReport::of((&model).into(), name, &probes, &gallery, skipped, &ask, &found)?;
    report.stale = stale;
    if args.report.format == Format::Csv && args.fpir.is_some() {
        terminal::note(&decision.meaning.join(" "));
    }
    report.decision = Some(decision);
    if let Some(path) = &args.report.report {
        files::write(path, report.html(args.report.report_probes))?;
        terminal::tell!("report in {}", path.display());
    }
    match args.report.format {
        Format::Table => print(&report.table())?,
        Format::Csv => print(&terminal::printable(&report.csv()))?,
        Format::Json => print_json(&report)?,
    }
    let any = report.probes.iter().any(|probe| !probe.matches.is_empty());
    Ok(ExitCode::from(if any { 0 } else { terminal::EXIT_NO }))
}

/// Warns about names that are not in the gallery, and about filters that nothing passes.
fn say_who_is_left_out(args: &SearchArgs, gallery: &Gallery) -> Result<(), DeployError> {
    for name in &args.filter.subject {
        if gallery.of_person(name)?.is_empty() {
            terminal::warn(&format!("nobody who is searched is called `{name}` (--subject)"));
        }
    }
    if gallery.count()? == 0 {
        terminal::warn("no template of the gallery passes the filters: probes are compared with nothing");
    }
    Ok(())
}

/// The threshold that keeps a false positive identification rate in this gallery, and what it means.
fn calibrated(
    model: &Model,
    gallery: &Gallery,
    fpir: f64,
    fusion: Fusion,
) -> Result<(Option<f32>, Decision), DeployError> {
    let size = gallery.size()?;
    let thresholds = model.contract.threshold.as_deref().unwrap_or_default();
    let Some(chosen) = identify::threshold(thresholds, fpir, size, fusion) else {
        let templates = if fusion == Fusion::Mean && size.fewest < size.most { None } else { Some(size.most) };
        return Err(DeployError::NoFpir { fpir, people: size.people, templates });
    };
    Ok((Some(chosen.similarity as f32), Decision::calibrated(fpir, size.people, chosen)))
}

/// Default rows that an approximate search keeps in view.
const EFFORT: usize = 128;

/// What is searched.
enum Searched {
    /// A folder that `deploy embed` or `deploy enroll` wrote.
    Embedded,
    /// Pictures that are still to be embedded.
    Pictures(Vec<Input>),
}

impl Searched {
    fn list(args: &SearchArgs) -> Result<Self, DeployError> {
        if !gallery::is_gallery(&args.gallery) {
            if args.index == IndexArg::Ann {
                let why =
                    "the gallery is a folder of pictures; one that `deploy embed` wrote can have an index".to_owned();
                return Err(DeployError::Unused { flag: "--index ann", why });
            }
            let folder = std::slice::from_ref(&args.gallery);
            return Ok(Self::Pictures(list(folder, &args.pairs, args.naming.identity_from, args.reading.strict)?));
        }
        if args.pairs.pairs && args.query.is_empty() {
            let why = "neither the probe nor the gallery is a folder of pairs".to_owned();
            return Err(DeployError::Unused { flag: "--pairs", why });
        }
        Ok(Self::Embedded)
    }

    /// Pictures to embed.
    fn pictures(&self) -> usize {
        match self {
            Self::Embedded => 0,
            Self::Pictures(pictures) => pictures.len(),
        }
    }

    /// The gallery, the number of unusable pictures, and how an embedded gallery differs from its pictures.
    fn open(self, args: &SearchArgs, model: &Model) -> Result<(Gallery, usize, Option<Stale>), DeployError> {
        match self {
            Self::Embedded => {
                let (_, spec) = model.embedding()?;
                let pin = pin(model, spec);
                let gallery = match args.index {
                    IndexArg::Exact => Gallery::open_for(&args.gallery, &pin, &model.path)?,
                    IndexArg::Ann => {
                        let opened =
                            Gallery::open_approximate(&args.gallery, &pin, &model.path, args.effort.unwrap_or(EFFORT))?;
                        let (gallery, Indexes { rows, graph, .. }) = opened;
                        terminal::note(&format!(
                            "this search is approximate: a few of the nearest may be missing; {} of {rows} rows are in \
                             the index, {} are newer and searched exactly",
                            graph.rows,
                            rows - graph.rows
                        ));
                        gallery
                    }
                };
                let stale = Stale::of(&args.gallery, &gallery)?;
                Ok((gallery, 0, stale))
            }
            Self::Pictures(pictures) => {
                gallery::keyless(|| format!("`{}` holds pictures", args.gallery.display()))?;
                let collected = collect(model, &pictures, "gallery", &embed_options(&args.model, &args.reading))?;
                Ok((Gallery::of(collected.embeddings), collected.skipped.count, None))
            }
        }
    }
}

/// The rows of the probes, frontal if a frontaliser and poses are given, and how many pictures cannot be used.
fn probes(
    args: &SearchArgs,
    model: &Model,
    asked: &Asked,
    (mut pictures, mut notes): (Vec<Input>, Vec<Note>),
    gallery: &Gallery,
    frontal: Option<(Frontalizer<'_>, Poses)>,
) -> Result<(Embeddings, usize), DeployError> {
    let naming = args.naming.identity_from;
    let named = gallery.naming()?;
    if args.query.is_empty() {
        let row;
        (row, notes) = one_row(model, &args.one, naming)?;
        pictures.push(row);
    } else if let (None, false, Some(naming)) = (naming, args.pairs.pairs, named) {
        // Probes are named as the gallery is, whatever would name them otherwise.
        if !asked.pictures.is_empty() {
            Listed { pictures, notes, .. } = pictures::list(&asked.pictures, Some(naming))?;
        }
    }
    say_naming(&notes);
    let (mut probes, mut skipped) = (empty(gallery.model().dim), 0);
    if !pictures.is_empty() || asked.arrays.is_empty() {
        let collected = collect(model, &pictures, "probes", &embed_options(&args.model, &args.reading))?;
        (probes, skipped) = (collected.embeddings, collected.skipped.count);
    }
    for path in &asked.arrays {
        let rows = array(path, probes.dim)?;
        probes.values.extend(rows.values);
        probes.templates.extend(rows.templates);
    }
    if let Some((frontalizer, poses)) = frontal {
        frontalizer.apply_to(&mut probes, &pictures, &poses)?;
    }
    Ok((probes, skipped))
}

/// What is asked for.
struct Asked {
    /// Files and folders.
    pictures: Vec<PathBuf>,
    /// Files of embeddings.
    arrays: Vec<PathBuf>,
}

impl Asked {
    fn of(query: &[PathBuf]) -> Result<Self, DeployError> {
        let mut asked = Self { pictures: Vec::new(), arrays: Vec::new() };
        for path in query {
            if path.as_os_str() == "-" {
                let failed = |source| DeployError::Read { path: "standard input".into(), source };
                let lines = std::io::stdin().lines().collect::<Result<Vec<_>, _>>().map_err(failed)?;
                let named = lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty());
                asked.pictures.extend(named.map(PathBuf::from));
            } else if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npy")) {
                asked.arrays.push(path.clone());
            } else {
                asked.pictures.push(path.clone());
            }
        }
        match query.is_empty() || !asked.pictures.is_empty() || !asked.arrays.is_empty() {
            true => Ok(asked),
            false => Err(DeployError::NoPictures),
        }
    }
}

fn empty(dim: usize) -> Embeddings {
    Embeddings { values: Vec::new(), dim, templates: Vec::new(), folder: PathBuf::new() }
}

/// The rows of a `.npy` as probes of nobody known.
fn array(path: &Path, dim: usize) -> Result<Embeddings, DeployError> {
    let rows = gallery::array(path, dim)?;
    let template = |row| Template { path: format!("{}#{row}", path.display()).into(), ..Template::default() };
    Ok(Embeddings { templates: (0..rows.len() / dim.max(1)).map(template).collect(), values: rows, ..empty(dim) })
}

/// The model that frontalises the probes, which carries its own contract.
fn frontal_model(args: &SearchArgs) -> Result<Option<Model>, DeployError> {
    let Some(model) = args.frontalize.clone() else { return Ok(None) };
    let run = RunArgs { contract: None, ..args.model.run.clone() };
    open(&ModelArgs { model, run }, 1).map(Some)
}
