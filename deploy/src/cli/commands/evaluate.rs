//! `deploy evaluate`: CMC and mAP on a dataset.

use std::process::ExitCode;

use contract::dataset::{Dataset, Options};
use metrics::{JUNK, Label};

use crate::DeployError;
use crate::cli::args::{EvaluateArgs, Format};
use crate::cli::{collect, embed_options, open, print, print_json};
use crate::gallery::Picture;
use crate::report::{self, EvaluationReport, SearchReport, Summary};
use crate::search;

/// Matches shown per query on the page.
const SHOWN: usize = 10;

pub(crate) fn run(args: &EvaluateArgs) -> Result<ExitCode, DeployError> {
    let options = Options { train_identities: args.train_identities, cuhk03_labeled: args.cuhk03_labeled };
    let dataset = Dataset::open(&args.dataset, &args.datadir, &options)?;
    let pictures = |samples: Vec<_>| samples.into_iter().map(Picture::from).collect::<Vec<_>>();
    let (query, gallery) = (pictures(dataset.query), pictures(dataset.gallery));
    let model = open(&args.model, query.len() + gallery.len())?;
    let options = embed_options(&args.model, &args.reading);
    let query = collect(&model, &query, "query", &options)?;
    let gallery = collect(&model, &gallery, "gallery", &options)?;
    let skipped = query.skipped.count + gallery.skipped.count;
    let (query, gallery) = (query.embeddings, gallery.embeddings);

    let spread = metrics::spread(&gallery.matrix()?);
    if spread.collapsed {
        eprintln!(
            "warning: the embeddings are nearly identical (mean cosine similarity {:.4} over {} pairs): \
             the network is untrained or has collapsed",
            spread.mean_similarity, spread.pairs
        );
    }
    let distance = match args.rerank {
        true => search::rerank(&query, &gallery)?,
        false => metrics::cosine_distance(&query.matrix()?, &gallery.matrix()?)?,
    };
    let label = |picture: &Picture| Label { identity: picture.identity, camera: picture.camera };
    let query_labels: Vec<Label> = query.pictures.iter().map(label).collect();
    let gallery_labels: Vec<Label> = gallery.pictures.iter().map(label).collect();
    let ranking = metrics::rank(&distance, &query_labels, &gallery_labels)?;
    if ranking.valid_queries == 0 {
        eprintln!("warning: no query has a match in the gallery; all numbers are 0");
    }
    let report = EvaluationReport {
        model: (&model).into(),
        dataset: dataset.name,
        gallery_entries: gallery.pictures.len(),
        skipped,
        reranked: args.rerank,
        summary: Summary::from(&ranking),
        spread,
    };
    if let Some(path) = &args.report.report {
        // What the protocol takes out is not shown either.
        let counts = |probe: usize, row: usize| {
            gallery_labels[row].identity != JUNK && gallery_labels[row] != query_labels[probe]
        };
        let matches = search::nearest(&distance, &query, &gallery, SHOWN, args.rerank, counts);
        let page = SearchReport {
            model: report.model.clone(),
            gallery: format!("{} in {}", report.dataset, args.datadir.display()),
            gallery_entries: report.gallery_entries,
            skipped,
            reranked: args.rerank,
            top_k: SHOWN,
            min_similarity: None,
            summary: Some(report.summary.clone()),
            probes: report::results(&query.pictures, &gallery.pictures, &matches),
        };
        contract::files::write(path, page.html("Evaluation", args.report.report_probes, None))?;
        eprintln!("report in {}", path.display());
    }
    match args.format {
        Format::Table => print(&report.table())?,
        Format::Csv => print(&report.csv())?,
        Format::Json => print_json(&report)?,
    }
    Ok(ExitCode::SUCCESS)
}
