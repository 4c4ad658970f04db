//! Stage 1: one backbone on one modality, by triplets, by identities, or by both.

use std::collections::BTreeMap;

use burn::tensor::{Device, Int, Tensor};
use datasets::paired::{Modality, PairedDataset};

use crate::families::palmvein::data::{Reads, TripletBatch, triplet_batches, triplets};
use crate::families::palmvein::net::Stage1Net;
use crate::loss::{CosineTriplet, CosineTripletOutput, CrossEntropy, LossTerms, Mining};
use crate::nn::dropout::Masks;
use crate::rng::Step;
use crate::run::engine::{Decisive, Epoch, Task, TaskError};
use crate::run::log::{Log, named};

use super::embed::{examine_branch, images, labels, verify};
use super::settings::{Stage1Config, Stage1Loss};
use super::{DROP_PATH, Data, reading};

/// Data and loss of a stage-1 run.
pub struct Stage1Task {
    config: Stage1Config,
    data: Data,
    device: Device,
    figures: Vec<(String, f64)>,
}

impl Stage1Task {
    /// Lists the data. `device` is where the network trains.
    ///
    /// # Errors
    /// If the data cannot be listed, or nothing can be learnt from them.
    pub fn open(config: &Stage1Config, device: &Device) -> Result<Self, TaskError> {
        let data = Data::open(&config.common, &config.common.pairs())?;
        Ok(Self { config: config.clone(), data, device: device.clone(), figures: Vec::new() })
    }

    /// The pairs.
    pub fn data(&self) -> &PairedDataset {
        &self.data.pairs
    }

    fn modality(&self) -> Modality {
        if self.config.branch.is_palm() { Modality::Palm } else { Modality::Vein }
    }

    /// A softmax loss classifies the anchors and compares nothing.
    fn reads(&self) -> Reads {
        if self.config.loss == Stage1Loss::Softmax { Reads::Anchors } else { Reads::All }
    }

    /// Keeps the figures of a triplet loss, and gives the loss.
    fn note(&mut self, found: CosineTripletOutput) -> Tensor<1> {
        let number = |value: Tensor<1>| f64::from(value.into_scalar::<f32>());
        self.figures = vec![
            ("triplet_all".into(), number(found.all)),
            ("violating".into(), number(found.violating)),
            ("distance_positive".into(), number(found.positive)),
            ("distance_negative".into(), number(found.negative)),
        ];
        found.loss
    }

    /// The identity term of features, where the loss has one.
    fn identity(&self, net: &Stage1Net, features: Tensor<2>, classes: Tensor<1, Int>) -> Option<(String, Tensor<1>)> {
        let scores = net.criterion.as_ref()?.forward(features);
        let [_, num_classes] = scores.dims();
        let identity = CrossEntropy { num_classes, smoothing: 0.0 }.forward(scores, classes);
        let weight = if self.config.loss == Stage1Loss::Softmax { 1.0 } else { self.config.identity_weight };
        Some(("identity".to_owned(), identity.mul_scalar(weight)))
    }

    /// All pictures of a batch of triplets as one batch: each is compared with every other, and every one has an
    /// identity.
    fn batch_hard(&mut self, net: &Stage1Net, batch: &TripletBatch, masks: &mut Masks) -> LossTerms {
        let TripletBatch { pixels, shape: [rows, channels, height, width], classes, negatives, .. } = batch;
        let pictures = images(pixels.concat(), [3 * rows, *channels, *height, *width], &self.device);
        let features = net.model.forward(pictures, masks);
        let classes = labels(&[classes.as_slice(), classes, negatives].concat(), &self.device);
        let Stage1Config { margin, mining, .. } = self.config;
        let found = CosineTriplet { margin, mining }.forward_batch(features.clone(), classes.clone());
        let mut terms = vec![("triplet".to_owned(), self.note(found))];
        terms.extend(self.identity(net, features, classes));
        LossTerms::sum(terms)
    }
}

impl Task for Stage1Task {
    type Net = Stage1Net;
    type Batch = TripletBatch;

    fn epoch(&self, epoch: usize, done: usize) -> Result<Epoch<TripletBatch>, TaskError> {
        let Stage1Config { common, batch, cross_modal, .. } = &self.config;
        let classes = self.data.train.classes();
        let batches = triplets(classes, self.modality(), *cross_modal, *batch, common.seed, epoch)?;
        let steps = batches.len();
        let loader = triplet_batches(&self.data.train, batches, self.reads(), reading(common, epoch, done))?;
        Ok(Epoch::new(steps, loader.numbered()))
    }

    fn pictures(&self, batch: &TripletBatch) -> usize {
        if self.reads() == Reads::All { 3 * batch.classes.len() } else { batch.classes.len() }
    }

    fn rows(&self, batch: &TripletBatch) -> usize {
        batch.classes.len()
    }

    fn describe(&self, batch: &TripletBatch) -> String {
        let name =
            |&[anchor, ..]: &[usize; 3]| self.data.train.pairs()[anchor].path(self.modality()).display().to_string();
        batch.indices.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn loss(&mut self, net: &Stage1Net, batch: &TripletBatch, step: Step) -> LossTerms {
        let mut masks = Masks::of(&step.keys(DROP_PATH, self.config.common.seed));
        let Stage1Config { loss, margin, mining, .. } = self.config;
        if loss != Stage1Loss::Softmax && mining == Mining::BatchHard {
            return self.batch_hard(net, batch, &mut masks);
        }
        let [anchor, positive, negative] = &batch.pixels;
        let mut features =
            |pixels: &Vec<f32>| net.model.forward(images(pixels.clone(), batch.shape, &self.device), &mut masks);
        let anchor = features(anchor);
        let mut terms = Vec::new();
        if loss != Stage1Loss::Softmax {
            // One after the other, as the reference does: each batch norm sees three batches.
            let found =
                CosineTriplet { margin, mining }.forward(anchor.clone(), features(positive), features(negative));
            terms.push(("triplet".to_owned(), self.note(found)));
        }
        terms.extend(self.identity(net, anchor, labels(&batch.classes, &self.device)));
        LossTerms::sum(terms)
    }

    fn figures(&self) -> Vec<(String, f64)> {
        self.figures.clone()
    }

    fn evaluate(&self, net: &Stage1Net) -> Result<BTreeMap<String, f64>, TaskError> {
        let Stage1Config { branch, common, .. } = &self.config;
        let (embedded, _) = examine_branch(net, *branch, &self.data.val, common, false)?;
        Ok(verify(&embedded, 0)?.map(|found| found.metrics()).unwrap_or_default())
    }

    fn decisive(&self) -> Decisive {
        Decisive::lower("EER")
    }

    fn log(&self) -> Log {
        let tag = |what: &str| format!("Phase1_{}/{what}", self.config.branch.name());
        let (batch, epoch, eer) = (tag("BatchLoss"), tag("EpochLoss"), tag("EER"));
        Log {
            batch: named([("loss/total", batch.as_str())]),
            epoch: named([("loss/total", epoch.as_str()), ("metrics/EER", eer.as_str())]),
            first_epoch: 0,
            ..Log::default()
        }
    }

    fn unreadable(&self) -> usize {
        self.data.train.unreadable().len()
    }
}
