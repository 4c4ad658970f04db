//! `deploy search`: probes against a gallery.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use datasets::Note;

use super::args::{Format, ModelArgs, RunArgs, SearchArgs};
use super::shared::{
    collect, embed_options, list, list_with_notes, one_row, open, print, print_json, ranked, say_naming,
    warn_when_collapsed,
};
use crate::DeployError;
use crate::frontalize::Frontalizer;
use crate::gallery::{self, Embeddings};
use crate::pictures::{self, Input, Listed};
use crate::poses::Poses;
use crate::report::SearchReport;
use crate::runtime::Model;
use crate::search::{Ask, Labels, Scope};
use crate::stale::Stale;
use crate::twins::Twins;

/// Default number of entries of each probe that are re-ranked.
const RERANK_TOP: NonZeroUsize = NonZeroUsize::new(200).unwrap();

pub(crate) fn run(args: &SearchArgs) -> Result<ExitCode, DeployError> {
    let searched = Searched::list(args)?;
    let listed = list_with_notes(&args.query, &args.pairs, args.naming.identity_from, args.reading.strict)?;
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
    let (entries, skipped_entries, stale) = searched.embeddings(args, &model)?;
    if let Some(Stale { new, changed, gone }) = stale {
        terminal::warn(&format!(
            "the pictures in `{}` differ from the gallery: {new} new, {changed} changed, {gone} gone; embed again with \
             `deploy embed --replace`",
            args.gallery.display()
        ));
    }
    let (probes, skipped_probes) = probes(args, &model, listed, &entries, frontal)?;
    warn_when_collapsed(&metrics::spread(entries.view()?));

    let ask = Ask {
        k: args.top_k.get(),
        min_similarity: args.min_similarity,
        rerank: args.rerank.scope(Scope::Nearest(RERANK_TOP)),
        counted_only: false,
    };
    let twins = Twins::of(&probes, &entries);
    let found = ranked(&probes, &entries, &Labels::of(&probes, &entries), &ask, Some(&twins))?;
    if found.themselves > 0 {
        let who = match found.themselves {
            1 => "1 probe is in the gallery: it matches itself".to_owned(),
            count => format!("{count} probes are in the gallery: they match themselves"),
        };
        terminal::note(&format!("{who}, which CMC and mAP leave out"));
    }

    let skipped = skipped_entries + skipped_probes;
    let name = args.gallery.display().to_string();
    let mut report = SearchReport::of((&model).into(), name, [&probes, &entries], skipped, &ask, &found);
    report.stale = stale;
    if let Some(path) = &args.report.report {
        files::write(path, report.html("Gallery search", args.report.report_probes))?;
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

/// What is searched.
enum Searched {
    /// A folder that `deploy embed` or `deploy enroll` wrote.
    Embedded,
    /// Pictures that are still to be embedded.
    Pictures(Vec<Input>),
}

impl Searched {
    fn list(args: &SearchArgs) -> Result<Self, DeployError> {
        if !gallery::is_embeddings(&args.gallery) {
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

    /// The rows, the number of unusable pictures, and how an embedded gallery differs from its pictures.
    fn embeddings(self, args: &SearchArgs, model: &Model) -> Result<(Embeddings, usize, Option<Stale>), DeployError> {
        match self {
            Self::Embedded => {
                let (_, spec) = model.embedding()?;
                let folder = &args.gallery;
                let (entries, facts) = gallery::open(folder, &model.path, &spec.contract_id, spec.dim)?;
                let stale = Stale::of(folder, &entries, facts.skipped);
                Ok((entries, 0, stale))
            }
            Self::Pictures(pictures) => {
                let collected = collect(model, &pictures, "gallery", &embed_options(&args.model, &args.reading))?;
                Ok((collected.embeddings, collected.skipped.count, None))
            }
        }
    }
}

/// The rows of the probes, frontal if a frontaliser and poses are given, and how many pictures cannot be used.
fn probes(
    args: &SearchArgs,
    model: &Model,
    (mut pictures, mut notes): (Vec<Input>, Vec<Note>),
    entries: &Embeddings,
    frontal: Option<(Frontalizer<'_>, Poses)>,
) -> Result<(Embeddings, usize), DeployError> {
    let naming = args.naming.identity_from;
    let named = pictures::naming(entries.templates.iter().map(|template| &template.identity));
    if args.query.is_empty() {
        let row;
        (row, notes) = one_row(model, &args.one, naming)?;
        pictures.push(row);
    } else if let (None, false, Some(naming)) = (naming, args.pairs.pairs, named) {
        // Probes are named as the gallery is, whatever would name them otherwise.
        Listed { pictures, notes, .. } = pictures::list(&args.query, Some(naming))?;
    }
    say_naming(&notes);
    let collected = collect(model, &pictures, "probes", &embed_options(&args.model, &args.reading))?;
    let mut probes = collected.embeddings;
    if let Some((frontalizer, poses)) = frontal {
        frontalizer.apply_to(&mut probes, &pictures, &poses)?;
    }
    Ok((probes, collected.skipped.count))
}

/// The model that frontalises the probes, which carries its own contract.
fn frontal_model(args: &SearchArgs) -> Result<Option<Model>, DeployError> {
    let Some(model) = args.frontalize.clone() else { return Ok(None) };
    let run = RunArgs { contract: None, ..args.model.run.clone() };
    open(&ModelArgs { model, run }, 1).map(Some)
}
