//! `deploy evaluate`: CMC, mAP and mINP on a dataset.

use std::path::Path;
use std::process::ExitCode;

use ::report::ranking::{Evaluation, Ranked as Entry, Shown, WorstQuery};
use datasets::{DISTRACTOR, Dataset, Options, Sample};
use metrics::QueryScore;

use super::args::{EvaluateArgs, Format};
use super::shared::{
    collect, embed_options, open, overlap, print, print_json, ranked, say_left_out, warn_when_collapsed,
};
use crate::DeployError;
use crate::gallery::{Embeddings, Gallery, Template};
use crate::identity::Identity;
use crate::pictures::Input;
use crate::report::{self, EvaluationReport, ModelFacts, Score};
use crate::runtime::Model;
use crate::search::{Ask, Ranked, Scope};

/// Entries shown per query on the page.
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
            true => ::report::with_suffix(path, &dataset.name),
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
    let k = if page.is_some() { SHOWN } else { 0 };
    let ask = Ask { k, rerank, counted_only: true, expand: args.expand, ..Ask::default() };
    let found = ranked(&query, &gallery, &ask, false)?;
    let score = Score::of(&found.report, &found.labels);
    if let Score::Nothing { reason, .. } = &score {
        terminal::warn(&format!("nothing to score on {}: {reason}", dataset.name));
    }
    let single_shot = match args.single_shot {
        true => {
            let rows = gallery.rows()?;
            let values = gallery.values(&rows)?;
            let entries = metrics::Rows::new(&values, rows.len(), query.dim)?;
            let cosine = metrics::cosine_distance(query.view()?, entries)?;
            let labels = &found.labels;
            Some(metrics::single_shot(&cosine, &labels.probes, &labels.entries, metrics::SINGLE_SHOT_DRAWS)?)
        }
        false => None,
    };
    let report = EvaluationReport {
        model: model.into(),
        dataset: dataset.name,
        gallery_entries: gallery.count()?,
        skipped,
        reranked: rerank.is_some(),
        rerank_top: report::rerank_top(&ask),
        expanded: Some(args.expand).filter(|k| *k > 0),
        single_shot,
        people,
        score,
        spread,
    };
    if let Some(path) = page {
        let page = Page { report: &report, query: &query, gallery: &gallery, ask: &ask, found: &found };
        let limit = args.report.report_probes;
        files::write(path, page.evaluation(limit)?.html("Evaluation", report::small(report.model.orientation)))?;
        terminal::tell!("report in {}", path.display());
    }
    Ok(report)
}

/// What the page shows.
struct Page<'a> {
    report: &'a EvaluationReport,
    query: &'a Embeddings,
    gallery: &'a Gallery,
    ask: &'a Ask,
    found: &'a Ranked,
}

impl Page<'_> {
    fn evaluation(&self, limit: usize) -> Result<Evaluation, DeployError> {
        let (rows, labels) = (self.gallery.rows()?, &self.found.labels);
        let values = self.gallery.values(&rows)?;
        let entries = metrics::Rows::new(&values, rows.len(), self.query.dim)?;
        let cosine = metrics::cosine_distance(self.query.view()?, entries)?;
        let scores = self.found.ranks.iter().enumerate();
        let scores = scores.filter_map(|(query, ranks)| Some((query, QueryScore::of(ranks)?)));
        let reason = match &self.report.score {
            Score::Nothing { reason, .. } => Some(format!("nothing to score: {reason}")),
            Score::Measured(_) => None,
        };
        let scored = self.found.report.valid_queries;
        Ok(Evaluation {
            facts: self.facts(),
            warnings: reason.into_iter().chain(self.report.spread.warning()).collect(),
            rankings: vec![(report::order(self.ask), self.found.report.clone())],
            histogram: metrics::similarities(&cosine, &labels.probes, &labels.entries)?,
            worst: ::report::ranking::worst_first(scores, limit)
                .into_iter()
                .map(|(query, score)| self.worst(query, score, entries))
                .collect::<Result<_, _>>()?,
            scored,
        })
    }

    fn facts(&self) -> Vec<(&'static str, String)> {
        let EvaluationReport { model, dataset, gallery_entries, skipped, expanded, .. } = self.report;
        let ModelFacts { contract_id, provider, .. } = model;
        let queries = self.found.report.queries;
        let mut facts = vec![
            ("model", model.summary()),
            ("contract", contract_id.clone()),
            ("trained on", model.training()),
            ("ran on", provider.clone()),
            ("dataset", format!("{dataset}: {queries} queries, {gallery_entries} gallery entries")),
            ("unreadable pictures left out", skipped.to_string()),
        ];
        facts.extend(expanded.map(|k| ("queries expanded by", format!("the {k} nearest entries of each"))));
        facts
    }

    fn worst(&self, query: usize, score: QueryScore, entries: metrics::Rows<'_>) -> Result<WorstQuery, DeployError> {
        let labels = &self.found.labels;
        let judge = |row: usize| labels.probes[query].judge(labels.entries[row]);
        let entry = |(row, similarity): (usize, f32)| -> Result<Entry, DeployError> {
            let template = self.gallery.templates(&[row])?.swap_remove(0);
            let picture = shown(&template, self.gallery.file(&template.path));
            Ok(Entry { picture, similarity, right: judge(row) == Some(true) })
        };
        let found = self.found.matches[query].iter().map(|found| entry((found.row, found.similarity)));
        let found = found.collect::<Result<Vec<_>, _>>()?;
        let missed = match found.iter().any(|entry| entry.right) {
            true => None,
            false => {
                let right = (0..entries.rows()).filter(|row| judge(*row) == Some(true));
                let similar = right.map(|row| (row, metrics::dot(self.query.row(query), entries.row(row))));
                similar.max_by(|a, b| a.1.total_cmp(&b.1)).map(entry).transpose()?
            }
        };
        let template = &self.query.templates[query];
        Ok(WorstQuery { picture: shown(template, self.query.file(&template.path)), score, entries: found, missed })
    }
}

/// A picture on the page.
fn shown(template: &Template, file: std::path::PathBuf) -> Shown {
    let who = template.identity.text().to_owned() + &report::camera(template.camera);
    Shown { name: report::name(&template.path), file, who }
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
