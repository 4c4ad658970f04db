//! Query against gallery while training: the same pictures, preprocessing, embedding rule and metrics as on the device.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use contract::{PictureSpec, embedding, preprocess};
use datasets::{Dataset, Sample};
use metrics::{Label, Matrix, QueryScore, RankingReport, Rerank, SINGLE_SHOT_DRAWS, Spread};
use report::ranking::{self, Evaluation, Ranked, Shown, WorstQuery};
use serde::Serialize;
use terminal::progress;

use crate::data::loader::{Loader, Pictures};
use crate::families::reid::net::ReidNet;
use crate::run::engine::TaskError;

/// Ranks that are reported.
pub const RANKS: [usize; 4] = [1, 3, 5, 10];

/// How pictures are read for an evaluation.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Pictures in a batch.
    pub batch: usize,
    /// Threads that decode.
    pub threads: usize,
    /// Whether an unreadable picture is an error; otherwise it is left out and counted.
    pub strict: bool,
}

/// What is asked of an evaluation, besides CMC, mAP and mINP.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask {
    /// The same after k-reciprocal re-ranking.
    pub rerank: bool,
    /// Entries that each query is expanded by before it is compared (average query expansion).
    pub expand: usize,
    /// CMC with one picture of each person in the gallery, as CUHK03's first protocol has it.
    pub single_shot: bool,
}

/// Query against gallery by the Market-1501 protocol.
#[derive(Debug, Clone, Serialize)]
pub struct EvalReport {
    /// Name of the dataset.
    pub dataset: String,
    /// CMC, mAP and mINP, with intervals.
    pub ranking: RankingReport,
    /// The same after k-reciprocal re-ranking, where it was asked for.
    pub reranked: Option<RankingReport>,
    /// CMC with one picture of each person in the gallery, where it was asked for.
    pub single_shot: Option<Vec<f64>>,
    /// Entries by which each query was expanded; 0: none were.
    pub expanded: usize,
    /// How far apart the embeddings are.
    pub spread: Spread,
    /// Pictures that could not be read and were left out.
    pub skipped: usize,
}

impl EvalReport {
    /// Metrics by the names of logs: `mAP`, `mINP`, `rank1` …, `rerank_mAP` ….
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let named = |prefix: &'static str, report: &RankingReport| {
            let ranks: Vec<_> = RANKS.iter().map(|k| (format!("{prefix}rank{k}"), report.rank(*k))).collect();
            let means = [(format!("{prefix}mAP"), report.map), (format!("{prefix}mINP"), report.minp)];
            ranks.into_iter().chain(means)
        };
        let reranked = self.reranked.iter().flat_map(|report| named("rerank_", report));
        named("", &self.ranking).chain(reranked).collect()
    }
}

/// A query's picture, and the entries that are most similar to it.
pub struct RankedList {
    /// The query.
    pub query: PathBuf,
    /// Entries that count, and whether they show the query's person, the most similar first.
    pub entries: Vec<(PathBuf, bool)>,
}

/// Embeddings of a dataset's query and gallery.
pub struct Embedded<'a> {
    dataset: &'a Dataset,
    query: Part<'a>,
    gallery: Part<'a>,
}

/// Embeddings of one side, and what their rows are of.
struct Part<'a> {
    /// `[rows, features * parts]`.
    rows: Matrix,
    labels: Vec<Label>,
    samples: Vec<&'a Sample>,
    /// Pictures that could not be read.
    skipped: usize,
}

impl<'a> Embedded<'a> {
    /// Embeds with a network on a device without autodiff.
    ///
    /// # Errors
    /// If a picture cannot be read and `reading.strict`.
    pub fn of(net: &ReidNet, dataset: &'a Dataset, input: &PictureSpec, reading: Reading) -> Result<Self, TaskError> {
        let query = Part::of(net, &dataset.query, input, reading, "query")?;
        let gallery = Part::of(net, &dataset.gallery, input, reading, "gallery")?;
        Ok(Self { dataset, query, gallery })
    }

    /// Embeddings of the queries, each expanded by its `k` nearest entries.
    fn queries(&self, k: usize) -> Result<Cow<'_, Matrix>, TaskError> {
        Ok(match k {
            0 => Cow::Borrowed(&self.query.rows),
            k => Cow::Owned(metrics::expand(&self.query.rows, &self.gallery.rows, k)?),
        })
    }

    /// Ranks the gallery for each query, row by row: the matrix of distances is never in memory.
    ///
    /// # Errors
    /// If the embeddings are not finite.
    pub fn report(&self, ask: Ask) -> Result<EvalReport, TaskError> {
        let Self { dataset, query, gallery } = self;
        let queries = self.queries(ask.expand)?;
        let cosine = metrics::cosine_distance(&*queries, &gallery.rows)?;
        let reranked = match ask.rerank {
            true => {
                let distance = metrics::rerank(&*queries, &gallery.rows, &Rerank::default())?;
                Some(metrics::rank(&distance, &query.labels, &gallery.labels)?)
            }
            false => None,
        };
        let single_shot = match ask.single_shot {
            true => Some(metrics::single_shot(&cosine, &query.labels, &gallery.labels, SINGLE_SHOT_DRAWS)?),
            false => None,
        };
        Ok(EvalReport {
            dataset: dataset.name.clone(),
            ranking: metrics::rank(&cosine, &query.labels, &gallery.labels)?,
            reranked,
            single_shot,
            expanded: ask.expand,
            spread: metrics::spread(&gallery.rows),
            skipped: query.skipped + gallery.skipped,
        })
    }

    /// The page of a report that [`report`](Self::report) gave: its numbers, curves, and by cosine similarity the
    /// queries that went worst.
    ///
    /// # Errors
    /// If the embeddings are not finite.
    pub fn page(&self, report: &EvalReport, facts: Vec<(&'static str, String)>) -> Result<Evaluation, TaskError> {
        let Self { query, gallery, .. } = self;
        let queries = self.queries(report.expanded)?;
        let cosine = metrics::cosine_distance(&*queries, &gallery.rows)?;
        let ranks = metrics::ranks(&cosine, &query.labels, &gallery.labels)?;
        let scores = ranks.iter().enumerate().filter_map(|(at, ranks)| Some((at, QueryScore::of(ranks)?)));
        let worst = ranking::worst_first(scores, WORST);
        let rankings = [("cosine similarity", Some(&report.ranking)), ("re-ranking", report.reranked.as_ref())];
        let scored = report.ranking.valid_queries;
        let nothing = "nothing to score: no query has a match from another camera".to_owned();
        Ok(Evaluation {
            facts,
            warnings: (scored == 0).then_some(nothing).into_iter().chain(report.spread.warning()).collect(),
            rankings: rankings.into_iter().filter_map(|(by, report)| Some((by, report?.clone()))).collect(),
            histogram: metrics::similarities(&cosine, &query.labels, &gallery.labels)?,
            worst: worst.into_iter().map(|(at, score)| self.worst(at, queries.row(at), score)).collect(),
            scored,
        })
    }

    /// The first `count` queries, each with the entries that are most similar to it.
    pub fn lists(&self, count: usize) -> Vec<RankedList> {
        let Self { query, gallery, .. } = self;
        let list = |at: usize| {
            let mut entries = self.nearest(at, query.rows.row(at));
            entries.truncate(SHOWN);
            let entry = |(row, _, right): (usize, f32, bool)| (gallery.samples[row].path.clone(), right);
            RankedList { query: query.samples[at].path.clone(), entries: entries.into_iter().map(entry).collect() }
        };
        (0..query.labels.len().min(count)).map(list).collect()
    }

    /// Entries that count for query `at`, whose embedding is `values`: row, similarity and whether it is right, the
    /// most similar first.
    fn nearest(&self, at: usize, values: &[f32]) -> Vec<(usize, f32, bool)> {
        let Self { query, gallery, .. } = self;
        let similarity = |row: usize| metrics::dot(values, gallery.rows.row(row));
        let judged = |row: usize| Some((row, similarity(row), query.labels[at].judge(gallery.labels[row])?));
        let mut entries: Vec<(usize, f32, bool)> = (0..gallery.labels.len()).filter_map(judged).collect();
        entries.sort_by(|a, b| metrics::nearer((-a.1, a.0), (-b.1, b.0)));
        entries
    }

    /// Query `at`, whose embedding is `values`.
    fn worst(&self, at: usize, values: &[f32], score: QueryScore) -> WorstQuery {
        let Self { query, gallery, .. } = self;
        let entries = self.nearest(at, values);
        let entry = |&(row, similarity, right): &(usize, f32, bool)| Ranked {
            picture: shown(gallery.samples[row]),
            similarity,
            right,
        };
        let (first, rest) = entries.split_at(entries.len().min(SHOWN));
        let found = first.iter().any(|(.., right)| *right);
        let missed = rest.iter().find(|(.., right)| *right && !found).map(entry);
        WorstQuery { picture: shown(query.samples[at]), score, entries: first.iter().map(entry).collect(), missed }
    }
}

/// Queries on the page, and entries shown of each.
const WORST: usize = 100;
const SHOWN: usize = 10;

/// A picture on the page, by its name alone: the folders of this machine are nobody's business.
fn shown(sample: &Sample) -> Shown {
    let name = sample.path.file_name().unwrap_or_default().to_string_lossy();
    let who = format!("{} · cam {}", terminal::printable(&sample.identity_name), sample.camera + 1);
    Shown { file: sample.path.clone(), name: terminal::printable(&name).into_owned(), who }
}

impl<'a> Part<'a> {
    fn of(
        net: &ReidNet,
        samples: &'a [Sample],
        input: &PictureSpec,
        reading: Reading,
        what: &str,
    ) -> Result<Self, TaskError> {
        let device = net.devices().swap_remove(0);
        let [_, width] = input.size;
        let bar = progress(samples.len() as u64, what, "pictures");
        let (mut rows, mut read, mut dim) = (Vec::new(), Vec::new(), 0);
        let pictures = Arc::new(Pictures::evaluation(samples, input.clone(), 0));
        for batch in Loader::evaluation(pictures, reading.batch, reading.threads, reading.strict)? {
            let batch = batch?;
            let count = batch.indices.len();
            let features = |pixels: Vec<f32>| {
                let images = Tensor::from_data(TensorData::new(pixels, batch.shape), &device);
                net.embed(images)
            };
            let mut mirrored = vec![0.0; batch.pixels.len()];
            preprocess::mirror(&batch.pixels, width, &mut mirrored);
            let (straight, mirrored) = (features(batch.pixels), features(mirrored));
            for skipped in &batch.skipped {
                terminal::tell!("warning: {}: left out", skipped.error);
            }
            let [_, values, parts] = straight.dims();
            dim = values * parts;
            let flat = |features: Tensor<3>| features.into_data().convert::<f32>().try_to_vec::<f32>();
            let (straight, mirrored) = (flat(straight)?, flat(mirrored)?);
            rows.extend(embedding::embed(&straight, &mirrored, values, parts));
            read.extend(batch.indices.iter().map(|&index| &samples[index]));
            bar.inc(count as u64);
        }
        bar.finish_and_clear();
        Ok(Self {
            rows: Matrix::new(rows, read.len(), dim)?,
            labels: read.iter().map(|sample| label(sample)).collect(),
            skipped: samples.len() - read.len(),
            samples: read,
        })
    }
}

fn label(sample: &Sample) -> Label {
    Label { identity: sample.identity, camera: sample.camera }
}

/// Says on stderr when embeddings are nearly the same whatever the picture.
pub fn warn_when_collapsed(spread: &Spread) {
    if let Some(warning) = spread.warning() {
        terminal::tell!("warning: {warning}");
    }
}
