//! Query against gallery while training: the same pictures, preprocessing, embedding rule and metrics as on the device.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};
use contract::{PictureSpec, embedding, preprocess};
use datasets::{Dataset, Sample};
use metrics::{Label, Matrix, RankingReport, Rerank, Spread};
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

/// Query against gallery by the Market-1501 protocol.
#[derive(Debug, Clone, Serialize)]
pub struct EvalReport {
    /// Name of the dataset.
    pub dataset: String,
    /// CMC and mAP.
    pub ranking: RankingReport,
    /// The same after k-reciprocal re-ranking, where it was asked for.
    pub reranked: Option<RankingReport>,
    /// How far apart the embeddings are.
    pub spread: Spread,
    /// Pictures that could not be read and were left out.
    pub skipped: usize,
}

impl EvalReport {
    /// Metrics by the names of logs: `mAP`, `rank1` …, `rerank_mAP` ….
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let named = |prefix: &'static str, report: &RankingReport| {
            let ranks: Vec<_> = RANKS.iter().map(|k| (format!("{prefix}rank{k}"), report.rank(*k))).collect();
            ranks.into_iter().chain([(format!("{prefix}mAP"), report.map)])
        };
        let reranked = self.reranked.iter().flat_map(|report| named("rerank_", report));
        named("", &self.ranking).chain(reranked).collect()
    }
}

/// Embeds a dataset's query and gallery with a network on a device without autodiff, and ranks.
///
/// # Errors
/// If a picture cannot be read and `reading.strict`, or the embeddings are not finite.
pub fn evaluate(
    net: &ReidNet,
    dataset: &Dataset,
    input: &PictureSpec,
    reading: Reading,
    rerank: bool,
) -> Result<EvalReport, TaskError> {
    let (query, query_labels, skipped_query) = embed(net, &dataset.query, input, reading, "query")?;
    let (gallery, gallery_labels, skipped_gallery) = embed(net, &dataset.gallery, input, reading, "gallery")?;
    let rank = |distance: &Matrix| metrics::rank(distance, &query_labels, &gallery_labels);
    let ranking = rank(&metrics::cosine_distance(&query, &gallery)?)?;
    let reranked = match rerank {
        true => Some(rank(&metrics::rerank(&query, &gallery, &Rerank::default())?)?),
        false => None,
    };
    let spread = metrics::spread(&gallery);
    Ok(EvalReport {
        dataset: dataset.name.clone(),
        ranking,
        reranked,
        spread,
        skipped: skipped_query + skipped_gallery,
    })
}

/// Embeddings of `samples` `[rows, features * parts]`, the labels of their rows, and how many pictures were left out.
fn embed(
    net: &ReidNet,
    samples: &[Sample],
    input: &PictureSpec,
    reading: Reading,
    what: &str,
) -> Result<(Matrix, Vec<Label>, usize), TaskError> {
    let device = net.devices().swap_remove(0);
    let [_, width] = input.size;
    let bar = progress(samples.len() as u64, what, "pictures");
    let (mut rows, mut labels, mut dim) = (Vec::new(), Vec::new(), 0);
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
        labels.extend(batch.indices.iter().map(|&index| label(&samples[index])));
        bar.inc(count as u64);
    }
    bar.finish_and_clear();
    let matrix = Matrix::new(rows, labels.len(), dim)?;
    let skipped = samples.len() - labels.len();
    Ok((matrix, labels, skipped))
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
