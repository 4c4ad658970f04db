//! Embeddings of pairs, and how well they tell hands apart.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, TensorData};
use metrics::verification::{self, VerificationOptions, VerificationReport};
use metrics::{Matrix, MetricsError};
use serde::Serialize;
use terminal::progress;

use crate::families::palmvein::data::{PairBatch, PairPictures, evaluation_batches};
use crate::families::palmvein::net::{Branch, PalmVeinNet, Stage1Net};
use crate::loss::CrossEntropy;
use crate::nn::dropout::Masks;
use crate::run::engine::TaskError;

use super::data::Missing;
use super::settings::Common;

/// Embeddings `[rows, dim]`, row by row, and the class of each.
pub type Embedded = (Matrix, Vec<i64>);

/// How well unit rows tell hands apart, every pair of rows compared once, with intervals of `resamples` bootstrap
/// samples; none where there is no genuine or no impostor pair to compare.
///
/// # Errors
/// If an embedding is not finite.
pub fn verify((rows, classes): &Embedded, resamples: usize) -> Result<Option<VerificationReport>, TaskError> {
    let options = VerificationOptions { resamples, ..VerificationOptions::default() };
    match verification::evaluate(rows, classes, &options) {
        Ok(report) => Ok(Some(report)),
        Err(MetricsError::Empty { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Closed-set classification of pairs whose people trained.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Classified {
    /// Pairs.
    pub pairs: usize,
    /// Share of them whose class has the largest score, no margin taken.
    pub accuracy: f64,
    /// Mean cross entropy of those scores.
    pub loss: f64,
}

/// Classifies pairs by `scores`, `[rows, classes]` of a batch; none where the network has no classifier or there is
/// no pair.
///
/// # Errors
/// If a picture cannot be read and that is to be an error.
pub(crate) fn classify(
    pictures: &Arc<PairPictures>,
    common: &Common,
    mut scores: impl FnMut(PairBatch) -> Option<Tensor<2>>,
) -> Result<Option<Classified>, TaskError> {
    let (mut right, mut loss, mut pairs) = (0, 0.0, 0);
    for batch in evaluation_batches(pictures, common.batchtest, common.n_thread, common.strict)? {
        let batch = batch?;
        let classes = batch.classes.clone();
        let Some(scores) = scores(batch) else { return Ok(None) };
        let [rows, num_classes] = scores.dims();
        let classes = labels(&classes, &scores.device());
        right += correct(scores.clone(), classes.clone());
        let value = CrossEntropy { num_classes, smoothing: 0.0 }.forward(scores, classes);
        loss += f64::from(value.into_scalar::<f32>()) * rows as f64;
        pairs += rows;
    }
    let share = |sum: f64| sum / pairs as f64;
    Ok((pairs > 0).then(|| Classified { pairs, accuracy: share(right as f64), loss: share(loss) }))
}

/// [`classify`] by a whole network's classifier.
///
/// # Errors
/// As [`classify`].
pub fn classify_pairs(
    net: &PalmVeinNet,
    pictures: &Arc<PairPictures>,
    common: &Common,
) -> Result<Option<Classified>, TaskError> {
    let device = net.devices().swap_remove(0);
    classify(pictures, common, |batch| net.fusion.plain_logits(embedded(net, batch, &device)))
}

/// [`classify`] by what a branch has learnt beside its features.
///
/// # Errors
/// As [`classify`].
pub fn classify_branch(
    net: &Stage1Net,
    branch: Branch,
    pictures: &Arc<PairPictures>,
    common: &Common,
) -> Result<Option<Classified>, TaskError> {
    let device = net.devices().swap_remove(0);
    classify(pictures, common, |batch| {
        let features = net.model.forward(side(branch, batch, &device), &mut Masks::none());
        net.criterion.as_ref().map(|head| head.forward(features))
    })
}

/// Rows whose largest score is that of their class.
pub(crate) fn correct(scores: Tensor<2>, classes: Tensor<1, Int>) -> usize {
    let best = scores.argmax(1).squeeze_dim::<1>(1);
    best.equal(classes).int().sum().into_scalar::<i64>() as usize
}

/// One of a batch's pictures as the network reads it.
pub(crate) fn images(pixels: Vec<f32>, shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(pixels, shape), device)
}

/// The classes of a batch.
pub(crate) fn labels(classes: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(classes.to_vec(), [classes.len()]), device)
}

/// Unit embeddings of a batch of pairs.
fn embedded(net: &PalmVeinNet, batch: PairBatch, device: &Device) -> Tensor<2> {
    let PairBatch { palm, vein, shape, .. } = batch;
    net.forward(images(palm, shape, device), images(vein, shape, device)).embedding
}

/// The pictures of a batch of pairs that a branch reads.
fn side(branch: Branch, batch: PairBatch, device: &Device) -> Tensor<4> {
    images(if branch.is_palm() { batch.palm } else { batch.vein }, batch.shape, device)
}

fn embed(
    pictures: &Arc<PairPictures>,
    common: &Common,
    mut of: impl FnMut(PairBatch) -> Tensor<2>,
) -> Result<Embedded, TaskError> {
    let bar = progress(pictures.len() as u64, "embedding", "pairs");
    let (mut rows, mut classes, mut dim) = (Vec::new(), Vec::new(), 0);
    for batch in evaluation_batches(pictures, common.batchtest, common.n_thread, common.strict)? {
        let batch = batch?;
        for skipped in &batch.skipped {
            terminal::tell!("warning: {}: left out", skipped.error);
        }
        classes.extend_from_slice(&batch.classes);
        bar.inc(batch.classes.len() as u64);
        let embedded = of(batch);
        dim = embedded.dims()[1];
        rows.extend(embedded.into_data().try_to_vec::<f32>()?);
    }
    bar.finish_and_clear();
    Ok((Matrix::new(rows, classes.len(), dim)?, classes))
}

/// Unit embeddings of pairs by a whole network on a device without autodiff; `missing` is left out of every pair.
///
/// # Errors
/// If a picture cannot be read and that is to be an error.
pub fn embed_pairs(
    net: &PalmVeinNet,
    pictures: &Arc<PairPictures>,
    common: &Common,
    missing: Option<Missing>,
) -> Result<Embedded, TaskError> {
    let device = net.devices().swap_remove(0);
    embed(pictures, common, |mut batch| {
        match missing {
            Some(Missing::Palm) => batch.palm.fill(0.0),
            Some(Missing::Vein) => batch.vein.fill(0.0),
            None => {}
        }
        embedded(net, batch, &device)
    })
}

/// Unit embeddings of one modality's pictures by a branch on a device without autodiff.
///
/// # Errors
/// As [`embed_pairs`].
pub fn embed_branch(
    net: &Stage1Net,
    branch: Branch,
    pictures: &Arc<PairPictures>,
    common: &Common,
) -> Result<Embedded, TaskError> {
    let device = net.devices().swap_remove(0);
    embed(pictures, common, |batch| net.embed(side(branch, batch, &device)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_by_hand() {
        // Two classes on two axes, one row of the second near the first axis.
        let rows = vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.8, 0.6];
        let found = verify(&(Matrix::new(rows, 4, 2).unwrap(), vec![0, 0, 1, 1]), 0).unwrap().unwrap();
        // Genuine 1 and 0.6; impostor 0, 0, 0.8, 0.8.
        assert_eq!((found.auc, found.eer.rate), (0.75, 0.5));
        assert!((found.genuine_mean - 0.8).abs() < 1e-6 && (found.impostor_mean - 0.4).abs() < 1e-6);
        // Row 2 has 0.6 to its partner, row 3 has 0.8 to strangers.
        assert_eq!(found.identification.unwrap().leave_one_out_rank1, 0.75);
    }

    #[test]
    fn a_collapsed_network_is_right_by_chance() {
        let rows = Matrix::new(vec![1.0; 6], 6, 1).unwrap();
        let found = verify(&(rows, vec![0, 0, 1, 1, 2, 2]), 0).unwrap().unwrap();
        // Of equal rows the earlier ranks first: chance, one in three.
        let identification = found.identification.unwrap();
        assert_eq!((identification.leave_one_out_rank1, identification.rank1), (1.0 / 3.0, 1.0 / 3.0));
        assert_eq!(found.eer.rate, 0.5);
    }

    #[test]
    fn without_partners_there_is_nothing_to_compare() {
        let rows = Matrix::new(vec![1.0, 0.0], 2, 1).unwrap();
        assert_eq!(verify(&(rows, vec![0, 1]), 0).unwrap(), None);
    }
}
