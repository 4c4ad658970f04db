//! Stage 2: the head on the backbones, frozen or fine-tuned; also everything in one go.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use datasets::paired::{PairOptions, PairedDataset};

use crate::families::palmvein::data::{PairBatch, pair_batches, shuffled};
use crate::families::palmvein::net::{Backbones, Branch, Details, Features, PalmVeinNet, PalmVeinNetConfig};
use crate::loss::{FusionLoss, FusionTerms, LossTerms};
use crate::nn::dropout::Masks;
use crate::rng::{Rng, Step};
use crate::run::checkpoint::Checkpoint;
use crate::run::engine::{Decisive, Epoch, Task, TaskError};
use crate::run::log::{Log, named};

use super::data::Missing;
use super::embed::{correct, embed_pairs, examine_pairs, images, labels, verify};
use super::settings::Stage2Config;
use super::{DROP_PATH, Data, reading};

/// Keeps the choice of pictures that are taken away apart from other random numbers with the same seed.
const MODALITIES: u64 = 0x6d6f_6461_6c69_7479;

/// Data and loss of a stage-2 run.
pub struct Stage2Task {
    config: Stage2Config,
    data: Data,
    loss: FusionLoss,
    device: Device,
    epoch: Cell<usize>,
    accuracy: f64,
}

/// The stage-1 weights of a branch: the file given for it, or below the folder of stage 1 the run's best
/// network (`<branch>/best_model.safetensors`) or the reference's `<branch>_phase1_best.pth`.
///
/// # Errors
/// If there are none.
pub fn stage1_weights(config: &Stage2Config, branch: Branch) -> Result<PathBuf, TaskError> {
    let given = config.weights(branch);
    if !given.is_empty() {
        return Ok(given.into());
    }
    let name = branch.name();
    if config.stage1.is_empty() {
        let message = format!(
            "no stage-1 weights for {name}: give --stage1 DIR or --{branch} FILE, or --from-scratch to start from \
             random ones"
        );
        return Err(message.into());
    }
    let folder = Path::new(&config.stage1);
    if let Some(best) = Checkpoint::best(&folder.join(name))? {
        return Ok(best.path);
    }
    let published = folder.join(format!("{name}_phase1_best.pth"));
    if published.is_file() {
        return Ok(published);
    }
    let run = folder.join(name);
    let message = format!(
        "no stage-1 weights for {name}: neither a best network in `{}` nor `{}`",
        run.display(),
        published.display()
    );
    Err(message.into())
}

impl Stage2Task {
    /// Lists the data. `device` is where the network trains.
    ///
    /// # Errors
    /// If the data cannot be listed, or nothing can be learnt from them.
    pub fn open(config: &Stage2Config, device: &Device) -> Result<Self, TaskError> {
        Self::with_pairs(config, &config.common.pairs(), device)
    }

    /// The same with the pairs shared out by `options`, whatever the settings' seed.
    ///
    /// # Errors
    /// As [`Stage2Task::open`].
    pub fn with_pairs(config: &Stage2Config, options: &PairOptions, device: &Device) -> Result<Self, TaskError> {
        let data = Data::open(&config.common, options)?;
        let loss = FusionLoss { label_smoothing: config.label_smoothing, ..FusionLoss::new(config.loss_mode) };
        let (config, device, epoch) = (config.clone(), device.clone(), Cell::new(0));
        Ok(Self { config, data, loss, device, epoch, accuracy: 0.0 })
    }

    /// The pairs.
    pub fn data(&self) -> &PairedDataset {
        &self.data.pairs
    }

    /// The network these data and settings ask for.
    pub fn network(&self) -> PalmVeinNetConfig {
        self.config.network(self.data.pairs.num_classes)
    }

    /// Whether the backbones are frozen in the current epoch.
    fn frozen(&self) -> bool {
        let Stage2Config { freeze_stage1, unfreeze_epoch, .. } = self.config;
        freeze_stage1 && (unfreeze_epoch == 0 || self.epoch.get() < unfreeze_epoch)
    }

    /// Takes one picture of some pairs away, the same ones in every run of these settings.
    fn drop_modalities(&self, batch: &PairBatch, step: Step) -> (Vec<f32>, Vec<f32>) {
        let (mut palm, mut vein) = (batch.palm.clone(), batch.vein.clone());
        let pixels = batch.shape[1..].iter().product::<usize>();
        if self.config.modality_dropout > 0.0 {
            let mut rng = Rng::new(&step.keys(MODALITIES, self.config.common.seed));
            for (palm, vein) in palm.chunks_exact_mut(pixels).zip(vein.chunks_exact_mut(pixels)) {
                if rng.happens(self.config.modality_dropout) {
                    if rng.happens(0.5) { palm } else { vein }.fill(0.0);
                }
            }
        }
        (palm, vein)
    }

    fn terms(&self, net: &PalmVeinNet, details: Details, classes: Tensor<1, Int>) -> FusionTerms {
        let fused = |branch: &Option<_>| {
            branch.as_ref().map(|branch: &crate::families::palmvein::net::BranchDetails| branch.fused.clone())
        };
        let branches = match (fused(&details.global), fused(&details.local)) {
            (Some(global), Some(local)) => Some([global, local]),
            _ => None,
        };
        let weights =
            [&details.global, &details.local].into_iter().flatten().filter_map(|branch| branch.weights.as_ref());
        let attention = weights.map(|[palm, vein]| [palm.values(), vein.values()]).collect();
        let centers = net.criterion.as_ref().map(|criterion| criterion.center_loss.centers.val());
        let logits = net.fusion.logits(details.embedding.clone(), classes);
        FusionTerms {
            logits: logits.expect("a network that trains has ArcFace"),
            branches,
            attention,
            centers: centers.map(|centers| (details.embedding, centers)),
        }
    }
}

/// The same values on an autodiff device, without history.
fn constants(backbones: Backbones) -> Backbones {
    let feature = |feature: Option<Features>| {
        feature.map(|feature| match feature {
            Features::Vector(rows) => Features::Vector(rows.autodiff()),
            Features::Map(map) => Features::Map(map.autodiff()),
        })
    };
    Backbones { global: backbones.global.map(|rows| rows.map(Tensor::autodiff)), local: backbones.local.map(feature) }
}

impl Task for Stage2Task {
    type Net = PalmVeinNet;
    type Batch = PairBatch;

    fn epoch(&self, epoch: usize, done: usize) -> Result<Epoch<PairBatch>, TaskError> {
        self.epoch.set(epoch);
        let Stage2Config { common, batch, .. } = &self.config;
        let batches = shuffled(self.data.train.len(), *batch, common.seed, epoch);
        let steps = batches.len();
        Ok(Epoch::new(steps, pair_batches(&self.data.train, batches, reading(common, epoch, done))?.numbered()))
    }

    fn pictures(&self, batch: &PairBatch) -> usize {
        2 * batch.classes.len()
    }

    fn rows(&self, batch: &PairBatch) -> usize {
        batch.classes.len()
    }

    fn describe(&self, batch: &PairBatch) -> String {
        let name = |&index: &usize| self.data.train.pairs()[index].palm.display().to_string();
        batch.indices.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn loss(&mut self, net: &PalmVeinNet, batch: &PairBatch, step: Step) -> LossTerms {
        let (palm, vein) = self.drop_modalities(batch, step);
        let backbones = if self.frozen() {
            // Evaluation: the running statistics are used and stay, and nothing is recorded.
            let (net, device) = (net.valid(), self.device.clone().inner());
            let [palm, vein] = [palm, vein].map(|pixels| images(pixels, batch.shape, &device));
            constants(net.backbones(palm, vein, &mut Masks::none()))
        } else {
            let [palm, vein] = [palm, vein].map(|pixels| images(pixels, batch.shape, &self.device));
            net.backbones(palm, vein, &mut Masks::of(&step.keys(DROP_PATH, self.config.common.seed)))
        };
        let details = net.fusion.forward(backbones);
        let classes = labels(&batch.classes, &self.device);
        let terms = self.terms(net, details, classes.clone());
        let right = correct(terms.logits.clone().inner(), classes.clone().inner());
        self.accuracy = right as f64 / batch.classes.len() as f64;
        self.loss.forward(terms, classes)
    }

    fn figures(&self) -> Vec<(String, f64)> {
        vec![("accuracy".into(), self.accuracy)]
    }

    fn evaluate(&self, net: &PalmVeinNet) -> Result<BTreeMap<String, f64>, TaskError> {
        let common = &self.config.common;
        let (embedded, classified) = examine_pairs(net, &self.data.val, common, true)?;
        let Some(found) = verify(&embedded, 0)? else { return Ok(BTreeMap::new()) };
        let mut all = found.metrics();
        if let Some(found) = classified {
            all.extend([("accuracy".to_owned(), found.accuracy), ("loss".to_owned(), found.loss)]);
        }
        if self.config.modality_dropout > 0.0 {
            for (name, missing) in [("EER_vein_alone", Missing::Palm), ("EER_palm_alone", Missing::Vein)] {
                let found = verify(&embed_pairs(net, &self.data.val, common, Some(missing))?, 0)?;
                all.extend(found.map(|found| (name.to_owned(), found.eer.rate)));
            }
        }
        Ok(all)
    }

    fn decisive(&self) -> Decisive {
        Decisive::lower("EER")
    }

    fn rate(&self, path: &str) -> f64 {
        let backbone = Branch::ALL.iter().any(|branch| path.starts_with(branch.name()));
        match (backbone, self.frozen()) {
            (false, _) => 1.0,
            (true, true) => 0.0,
            (true, false) => self.config.backbone_lr / self.config.lr,
        }
    }

    fn log(&self) -> Log {
        Log {
            epoch: named([
                ("loss/total", "Phase2/TrainLoss"),
                ("train/accuracy", "Phase2/TrainAcc"),
                ("metrics/loss", "Phase2/ValLoss"),
                ("metrics/accuracy", "Phase2/ValAcc"),
                ("lr", "Phase2/LearningRate"),
                ("metrics/EER", "Phase2/EER"),
                ("metrics/AUC", "Phase2/AUC"),
                ("metrics/TAR@1%FAR", "Phase2/TAR@1%FAR"),
                ("metrics/GenuineMean", "Phase2/GenuineMean"),
                ("metrics/ImpostorMean", "Phase2/ImpostorMean"),
            ]),
            first_epoch: 0,
            ..Log::default()
        }
    }

    fn unreadable(&self) -> usize {
        self.data.train.unreadable().len()
    }
}
