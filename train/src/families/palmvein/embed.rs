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
use crate::nn::vector::unit;
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

/// What a network makes of a batch.
struct Output {
    /// Unit rows, `[rows, dim]`.
    embedding: Tensor<2>,
    /// Scores of the classes without margin, `[rows, classes]`, where the network has a classifier and they are asked
    /// for.
    scores: Option<Tensor<2>>,
}

/// Sums of a classification.
#[derive(Default)]
struct Tally {
    pairs: usize,
    right: usize,
    loss: f64,
}

impl Tally {
    fn add(&mut self, scores: Tensor<2>, classes: &[i64]) {
        let [rows, num_classes] = scores.dims();
        let classes = labels(classes, &scores.device());
        self.right += correct(scores.clone(), classes.clone());
        let value = CrossEntropy { num_classes, smoothing: 0.0 }.forward(scores, classes);
        self.loss += f64::from(value.into_scalar::<f32>()) * rows as f64;
        self.pairs += rows;
    }

    /// None where nothing was classified.
    fn classified(&self) -> Option<Classified> {
        let share = |sum: f64| sum / self.pairs as f64;
        let found = || Classified { pairs: self.pairs, accuracy: share(self.right as f64), loss: share(self.loss) };
        (self.pairs > 0).then(found)
    }
}

/// Runs a network over pairs once, and keeps what it makes of them.
fn examine(
    pictures: &Arc<PairPictures>,
    common: &Common,
    mut of: impl FnMut(PairBatch) -> Output,
) -> Result<(Embedded, Option<Classified>), TaskError> {
    let bar = progress(pictures.len() as u64, "embedding", "pairs");
    let (mut rows, mut classes, mut dim, mut tally) = (Vec::new(), Vec::new(), 0, Tally::default());
    for batch in evaluation_batches(pictures, common.batchtest, common.n_thread, common.strict)? {
        let batch = batch?;
        for skipped in &batch.skipped {
            terminal::tell!("warning: {}: left out", skipped.error);
        }
        let own = batch.classes.clone();
        let Output { embedding, scores } = of(batch);
        dim = embedding.dims()[1];
        rows.extend(embedding.into_data().try_to_vec::<f32>()?);
        if let Some(scores) = scores {
            tally.add(scores, &own);
        }
        bar.inc(own.len() as u64);
        classes.extend(own);
    }
    bar.finish_and_clear();
    Ok(((Matrix::new(rows, classes.len(), dim)?, classes), tally.classified()))
}

/// Unit embeddings of a batch of pairs.
fn embedded(net: &PalmVeinNet, batch: PairBatch, device: &Device) -> Tensor<2> {
    let PairBatch { palm, vein, shape, .. } = batch;
    net.forward(images(palm, shape, device), images(vein, shape, device)).embedding
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
    let (embedded, _) = examine(pictures, common, |mut batch| {
        match missing {
            Some(Missing::Palm) => batch.palm.fill(0.0),
            Some(Missing::Vein) => batch.vein.fill(0.0),
            None => {}
        }
        Output { embedding: embedded(net, batch, &device), scores: None }
    })?;
    Ok(embedded)
}

/// Unit embeddings of pairs by a whole network on a device without autodiff, and in the same pass how well its
/// classifier knows them, if `classify`; none where the network has no classifier or there is no pair.
///
/// # Errors
/// As [`embed_pairs`].
///
/// # Panics
/// If a pair that is classified is of a person who has no class.
pub fn examine_pairs(
    net: &PalmVeinNet,
    pictures: &Arc<PairPictures>,
    common: &Common,
    classify: bool,
) -> Result<(Embedded, Option<Classified>), TaskError> {
    let device = net.devices().swap_remove(0);
    examine(pictures, common, |batch| {
        let embedding = embedded(net, batch, &device);
        Output { scores: classify.then(|| net.fusion.plain_logits(embedding.clone())).flatten(), embedding }
    })
}

/// Unit embeddings of one modality's pictures by a branch on a device without autodiff, and in the same pass how well
/// what it has learnt beside its features knows them, if `classify`; none where it has learnt nothing or there is no
/// picture.
///
/// # Errors
/// As [`embed_pairs`].
///
/// # Panics
/// As [`examine_pairs`].
pub fn examine_branch(
    net: &Stage1Net,
    branch: Branch,
    pictures: &Arc<PairPictures>,
    common: &Common,
    classify: bool,
) -> Result<(Embedded, Option<Classified>), TaskError> {
    let device = net.devices().swap_remove(0);
    examine(pictures, common, |batch| {
        let pixels = if branch.is_palm() { batch.palm } else { batch.vein };
        let features = net.model.forward(images(pixels, batch.shape, &device), &mut Masks::none());
        Output {
            scores: net.criterion.as_ref().filter(|_| classify).map(|head| head.forward(features.clone())),
            embedding: unit(features),
        }
    })
}

#[cfg(test)]
mod tests {
    use datasets::paired::{PairOptions, PairedDataset, SplitRule};

    use super::super::settings::{Stage1Config, Stage1Loss, Stage2Config};
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
    /// One pass gives the same bits as two: embeddings as without classifying, and the classifier's scores of them.
    #[test]
    fn examining_is_embedding_and_classifying() {
        let folder = tempfile::tempdir().unwrap();
        let drawing = fixtures::PalmConfig { people: 2, samples: 3, size: 64, ..Default::default() };
        fixtures::palms(&drawing, folder.path()).unwrap();
        let common = Common {
            datadir: folder.path().display().to_string(),
            img_size: 64,
            vit_dims: [16, 24, 32],
            vit_depths: [1, 1, 1],
            cnn_dims: [8, 16, 24, 32],
            cnn_depths: [1, 1, 1, 1],
            batchtest: 5,
            ..Common::default()
        };
        let options = PairOptions { split: SplitRule::Pairs, shares: [1.0, 0.0, 0.0], ..PairOptions::default() };
        let data = PairedDataset::open(folder.path(), &options).unwrap();
        let pictures = Arc::new(PairPictures::new(&data.train, common.size(), 1));
        let classes: Vec<i64> = data.train.iter().map(|pair| pair.class as i64).collect();
        let device = Device::flex();
        let by_hand = |scores: Tensor<2>| {
            let right = correct(scores.clone(), labels(&classes, &device));
            let loss = CrossEntropy { num_classes: data.num_classes, smoothing: 0.0 };
            let loss = loss.forward(scores, labels(&classes, &device)).into_scalar::<f32>();
            (right as f64 / classes.len() as f64, loss)
        };
        let same = |found: Classified, scores: Tensor<2>| {
            let (accuracy, loss) = by_hand(scores);
            assert_eq!((found.pairs, found.accuracy), (classes.len(), accuracy));
            assert!((found.loss - f64::from(loss)).abs() < 1e-5, "{} for {loss}", found.loss);
        };

        let config = Stage2Config { common: common.clone(), ..Stage2Config::default() };
        let net = PalmVeinNet::new(&config.network(data.num_classes), 3, &device).unwrap();
        let (embedded, found) = examine_pairs(&net, &pictures, &common, true).unwrap();
        let plain = embed_pairs(&net, &pictures, &common, None).unwrap();
        assert_eq!(embedded, plain);
        assert!(examine_pairs(&net, &pictures, &common, false).unwrap() == (plain.clone(), None));
        let rows = |(matrix, _): &Embedded| {
            let data = TensorData::new(matrix.data().to_vec(), [matrix.rows(), matrix.cols()]);
            Tensor::<2>::from_data(data, &device)
        };
        same(found.unwrap(), net.fusion.plain_logits(rows(&plain)).unwrap());

        let config = Stage1Config {
            common: common.clone(),
            branch: Branch::CnnVein,
            loss: Stage1Loss::Softmax,
            ..Stage1Config::default()
        };
        let net = Stage1Net::new(&config.network(data.num_classes), 3, &device).unwrap();
        let (embedded, found) = examine_branch(&net, Branch::CnnVein, &pictures, &common, true).unwrap();
        let all = evaluation_batches(&pictures, classes.len(), 1, true).unwrap().next().unwrap().unwrap();
        let images = images(all.vein, all.shape, &device);
        assert_eq!(rows(&embedded).into_data(), net.embed(images.clone()).into_data());
        let features = net.model.forward(images, &mut Masks::none());
        same(found.unwrap(), net.criterion.as_ref().unwrap().forward(features));
    }
}
