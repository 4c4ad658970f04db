//! `deploy evaluate`: CMC and mAP on a dataset.

use std::path::Path;
use std::process::ExitCode;

use datasets::{DISTRACTOR, Dataset, Options, Sample};

use super::args::{EvaluateArgs, Format};
use super::shared::{
    collect, embed_options, open, overlap, print, print_json, ranked, say_left_out, warn_when_collapsed,
};
use crate::DeployError;
use crate::gallery::Gallery;
use crate::identity::Identity;
use crate::pictures::Input;
use crate::report::{self, EvaluationReport, Score, SearchReport};
use crate::runtime::Model;
use crate::search::{Ask, Scope};

/// Matches shown per query on the page.
const SHOWN: usize = 10;

pub(crate) fn run(args: &EvaluateArgs) -> Result<ExitCode, DeployError> {
    if args.pairs.pairs {
        return super::evaluate_pairs::run(args);
    }
    let options = Options { train_identities: args.train_identities, cuhk03_labeled: args.cuhk03_labeled };
    let datasets = Dataset::open_each(&args.dataset, &args.datadir, &options)?;
    for (given, flag, wanted) in [
        (args.train_identities.is_some(), "--train-identities", "folders"),
        (args.cuhk03_labeled, "--cuhk03-labeled", "cuhk03_labeled"),
    ] {
        if given && !datasets.iter().any(|dataset| dataset.name == wanted) {
            let found: Vec<&str> = datasets.iter().map(|dataset| dataset.name.as_str()).collect();
            let why = format!("it is for dataset `{wanted}`, which is not among {}", found.join(", "));
            return Err(DeployError::Unused { flag, why });
        }
    }
    for dataset in &datasets {
        say_left_out(&dataset.left_out, &[], args.reading.strict)?;
        dataset.warnings.iter().for_each(|warning| terminal::warn(warning));
    }
    let pictures = datasets.iter().map(|dataset| dataset.query.len() + dataset.gallery.len()).sum();
    let model = open(&args.model, pictures)?;
    let several = datasets.len() > 1;
    let evaluate = |dataset: Dataset| {
        let page = args.report.report.as_ref().map(|path| match several {
            true => path.with_file_name(page_name(path, &dataset.name)),
            false => path.clone(),
        });
        evaluate(&model, dataset, args, page.as_deref())
    };
    let reports = datasets.into_iter().map(evaluate).collect::<Result<Vec<_>, _>>()?;
    match args.report.format {
        Format::Table => print(&reports.iter().map(EvaluationReport::table).collect::<String>())?,
        Format::Csv => print(&EvaluationReport::csv(&reports))?,
        Format::Json => match reports.as_slice() {
            [report] => print_json(report)?,
            reports => print_json(&reports)?,
        },
    }
    let scored = reports.iter().all(|report| matches!(report.score, Score::Measured(_)));
    Ok(if scored { ExitCode::SUCCESS } else { ExitCode::from(terminal::EXIT_NO) })
}

/// `report.html` of several datasets is `report-market1501.html` and so on.
fn page_name(path: &Path, dataset: &str) -> String {
    let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let extension = if path.extension().is_some() { format!(".{}", part(path.extension())) } else { String::new() };
    format!("{}-{dataset}{extension}", part(path.file_stem()))
}

fn evaluate(
    model: &Model,
    dataset: Dataset,
    args: &EvaluateArgs,
    page: Option<&Path>,
) -> Result<EvaluationReport, DeployError> {
    let numbered = dataset.name != "folders";
    let pictures = |samples: Vec<Sample>| -> Vec<Input> {
        samples.into_iter().map(|sample| of_dataset(sample, numbered)).collect()
    };
    let (query, gallery) = (pictures(dataset.query), pictures(dataset.gallery));
    let options = embed_options(&args.model, &args.reading);
    let query = collect(model, &query, "query", &options)?;
    let gallery = collect(model, &gallery, "gallery", &options)?;
    let skipped = query.skipped.count + gallery.skipped.count;
    let (query, gallery) = (query.embeddings, gallery.embeddings);
    let people = overlap(model, &[&query, &gallery]);
    let gallery = Gallery::of(gallery);
    let spread = gallery.spread()?;
    warn_when_collapsed(&spread);

    let rerank = args.rerank.scope(Scope::Everyone);
    // What the protocol takes out is not shown either.
    let ask = Ask { k: if page.is_some() { SHOWN } else { 0 }, rerank, counted_only: true, ..Ask::default() };
    let found = ranked(&query, &gallery, &ask, false)?;
    let score = Score::of(&found.report, &found.labels);
    if let Score::Nothing { reason, .. } = &score {
        terminal::warn(&format!("nothing to score on {}: {reason}", dataset.name));
    }
    if let Some(path) = page {
        let report = SearchReport::of(model.into(), dataset.name.clone(), &query, &gallery, skipped, &ask, &found)?;
        files::write(path, report.html("Evaluation", args.report.report_probes))?;
        terminal::tell!("report in {}", path.display());
    }
    Ok(EvaluationReport {
        model: model.into(),
        dataset: dataset.name,
        gallery_entries: gallery.count()?,
        skipped,
        reranked: rerank.is_some(),
        rerank_top: report::rerank_top(&ask),
        people,
        score,
        spread,
    })
}

/// A picture of a dataset, whose names and cameras are known, whatever says them. Identity 0 is a distractor, unless
/// the dataset numbers its people by itself.
fn of_dataset(Sample { path, identity, identity_name, camera }: Sample, numbered: bool) -> Input {
    let identity = match identity {
        DISTRACTOR if numbered => Identity::Distractor,
        _ => Identity::by_file(identity_name),
    };
    Input::new(path, identity, u32::try_from(camera).ok())
}
