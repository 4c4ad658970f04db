//! `deploy search`: probes against a gallery.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;

use super::args::{Format, ModelArgs, RunArgs, SearchArgs};
use super::shared::{collect, embed_options, list, one_row, open, print, print_json, warn_when_collapsed};
use crate::DeployError;
use crate::frontalize::Frontalizer;
use crate::gallery::{self, Embeddings};
use crate::pictures;
use crate::poses::Poses;
use crate::report::{self, SearchReport, Summary};
use crate::search;

/// Pairs of probe and entry up to which all distances are held for CMC and mAP: 1 GiB.
const SUMMARY_PAIRS: usize = 1 << 28;

pub(crate) fn run(args: &SearchArgs) -> Result<ExitCode, DeployError> {
    let (naming, strict) = (args.naming.identity_from, args.reading.strict);
    let mut probe_pictures = list(&args.query, &args.pairs, naming, strict)?;
    let embedded = gallery::is_embeddings(&args.gallery);
    if args.pairs.pairs && args.query.is_empty() && embedded {
        let why = "neither the probe nor the gallery is a folder of pairs".to_owned();
        return Err(DeployError::Unused { flag: "--pairs", why });
    }
    let gallery_pictures =
        if embedded { Vec::new() } else { list(std::slice::from_ref(&args.gallery), &args.pairs, naming, strict)? };
    let model = open(&args.model, probe_pictures.len().max(gallery_pictures.len()))?;
    if args.query.is_empty() {
        probe_pictures.push(one_row(&model, &args.one, naming)?);
    }
    let (_, spec) = model.embedding()?;
    let options = embed_options(&args.model, &args.reading);

    let run = RunArgs { contract: None, ..args.model.run.clone() };
    let frontalizer = args.frontalize.clone().map(|model| open(&ModelArgs { model, run }, 1)).transpose()?;
    let frontal = match (&frontalizer, &args.poses) {
        (Some(model), Some(poses)) => {
            let frontalizer = Frontalizer::new(model)?;
            let poses = Poses::read(poses, frontalizer.angles())?;
            Some((frontalizer, poses))
        }
        _ => None,
    };

    // A wrong gallery is told before time is spent on probes.
    let (entries, mut skipped, folder): (Embeddings, usize, Option<PathBuf>) = if embedded {
        let (entries, facts) = gallery::open(&args.gallery, &model.path, &spec.contract_id, spec.dim)?;
        (entries, 0, Some(facts.folder))
    } else {
        let collected = collect(&model, &gallery_pictures, "gallery", &options)?;
        (collected.embeddings, collected.skipped.count, None)
    };
    // Probes and gallery are named alike, whatever each of them would be named by alone.
    if let (None, false, Some(naming)) = (naming, args.pairs.pairs, pictures::naming(&entries.pictures))
        && !args.query.is_empty()
    {
        probe_pictures = pictures::list(&args.query, Some(naming))?.pictures;
    }
    let collected = collect(&model, &probe_pictures, "probes", &options)?;
    skipped += collected.skipped.count;
    let mut probes = collected.embeddings;
    if let Some((frontalizer, poses)) = &frontal {
        frontalizer.apply_to(&mut probes, &probe_pictures, poses)?;
    }
    let known: HashSet<_> = entries.pictures.iter().map(|entry| &entry.path).collect();
    let themselves = probes.pictures.iter().filter(|probe| known.contains(&probe.path)).count();
    if themselves > 0 {
        eprintln!("note: {themselves} probes are in the gallery and will match themselves");
    }

    let spread = metrics::spread(entries.view()?);
    warn_when_collapsed(&spread);

    let k = args.top_k.get();
    let pairs = probes.pictures.len().saturating_mul(entries.pictures.len());
    let distance = match args.rerank {
        true => Some(search::rerank(&probes, &entries)?),
        false if pairs <= SUMMARY_PAIRS => Some(metrics::cosine_distance(probes.view()?, entries.view()?)?),
        false => None,
    };
    let matches = match &distance {
        Some(distance) if args.rerank => {
            let mut matches = search::nearest(distance, &probes, &entries, k, true, |_, _| true);
            if let Some(min) = args.min_similarity {
                matches.iter_mut().for_each(|matches| matches.retain(|found| found.similarity >= min));
            }
            matches
        }
        _ => search::search(&probes, &entries, k, args.min_similarity)?,
    };
    let summary =
        distance.map(|distance| search::summary(&distance, &probes.pictures, &entries.pictures)).transpose()?;
    let report = SearchReport {
        model: (&model).into(),
        gallery: args.gallery.display().to_string(),
        gallery_entries: entries.pictures.len(),
        skipped,
        reranked: args.rerank,
        top_k: k,
        min_similarity: args.min_similarity,
        summary: summary.flatten().as_ref().map(Summary::from),
        spread,
        probes: report::results(&probes.pictures, &entries.pictures, &matches),
    };
    if let Some(path) = &args.report.report {
        files::write(path, report.html("Gallery search", args.report.report_probes, folder.as_deref()))?;
        eprintln!("report in {}", path.display());
    }
    match args.report.format {
        Format::Table => print(&report.table())?,
        Format::Csv => print(&terminal::printable(&report.csv()))?,
        Format::Json => print_json(&report)?,
    }
    let any = report.probes.iter().any(|probe| !probe.matches.is_empty());
    Ok(ExitCode::from(if any { 0 } else { terminal::EXIT_NO }))
}
