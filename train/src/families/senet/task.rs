//! Frontalisation of face embeddings: data, network and losses of a SENet run together.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use crate::data::sampler::{PkSampler, Sampler, UniformSampler};
use crate::families::faces::split::{self, Order, Split};
use crate::families::senet::net::{SenetNetConfig, SenetOutput, SenetTripletNetwork};
use crate::families::senet::settings::SenetConfig;
use crate::loss::{
    AngleTriplet, AngleTripletTerms, IdentityPreserving, LossTerms, RECONSTRUCTION, front_pose_loss, target_loss,
};
use crate::nn::dropout::Masks;
use crate::nn::vector::cosine;
use crate::rng::Step;
use crate::run::amp;
use crate::run::engine::{Decisive, Epoch, Settings, Task, TaskError};
use crate::run::log::{Line, Log, Panel, Summary, named};
use crate::run::tensorboard::Reporter;

use super::data::{FaceBatch, FacePairs, SenetDataError};
use super::identify::{self, Identification};

/// Family name in checkpoints and contracts.
pub const FAMILY: &str = "senet";

/// Keeps dropout's random numbers apart from those of other parts with the same seed.
const STREAM: u64 = 0x6d61_736b_7300_0000;

/// Fusion weights inside this range let both branches speak.
const BALANCED: std::ops::RangeInclusive<f64> = 0.3..=0.8;

/// Weights of the identity term that keep identity without holding the embedding where it is.
const IDENTITY_WEIGHTS: std::ops::RangeInclusive<f64> = 0.2..=0.4;

/// Evaluations without a lower validation loss before that is worth a warning.
const PATIENCE: usize = 10;

/// Losses and similarities of one batch.
struct Terms {
    triplet: AngleTripletTerms,
    identity: Tensor<1>,
    target: Option<Tensor<1>>,
    front_pose: Option<Tensor<1>>,
}

impl Terms {
    /// What decides: without the identity term, as the reference does it, and with those that it lacks.
    fn validation(&self) -> Tensor<1> {
        [&self.target, &self.front_pose]
            .into_iter()
            .flatten()
            .fold(self.triplet.total(), |sum, term| sum + term.clone())
    }
}

/// Data and losses of a SENet run.
pub struct SenetTask {
    config: SenetConfig,
    pairs: Arc<FacePairs>,
    split: Split,
    sampler: Sampler,
    triplet: AngleTriplet,
    identity: IdentityPreserving,
    device: Device,
    figures: Vec<(String, f64)>,
    watch: Watch,
}

/// What warnings need to remember.
#[derive(Default)]
struct Watch {
    unbalanced: Cell<bool>,
    validation: RefCell<Vec<f64>>,
}

impl Watch {
    /// Warns once when the validation loss has not fallen for [`PATIENCE`] evaluations.
    fn note(&self, loss: f64) {
        let mut losses = self.validation.borrow_mut();
        losses.push(loss);
        let lowest = |losses: &[f64]| losses.iter().copied().fold(f64::INFINITY, f64::min);
        if losses.len() > PATIENCE {
            let (before, last) = losses.split_at(losses.len() - PATIENCE);
            if lowest(last) >= lowest(before) {
                terminal::tell!(
                    "warning: the validation loss has not fallen for {PATIENCE} evaluations (lowest {:.4}); a smaller \
                     --lr, more people or --frames_per_person may help",
                    lowest(before)
                );
                // Count again from here.
                let lowest = lowest(before);
                *losses = vec![lowest];
            }
        }
    }
}

/// The four panels of the manual.
fn panels() -> Vec<Panel> {
    let loss = [Line::new("train", "loss/total"), Line::new("validation", "metrics/total_loss")];
    let triplet = [Line::new("train", "loss/triplet"), Line::new("validation", "metrics/triplet_loss")];
    vec![
        Panel { right: vec![Line::new("cosine", "metrics/cosine_sim")], ..Panel::new("Loss", loss) },
        Panel::new("Triplet loss", triplet),
        Panel::new("Identity loss", [Line::new("train", "loss/identity")]),
        Panel {
            range: Some([0.0, 1.0]),
            guide: Some(0.5),
            ..Panel::new("Fusion weight", [Line::new("identity branch", "metrics/fusion_alpha")])
        },
    ]
}

/// What the training loop needs of the settings.
pub fn settings(config: &SenetConfig, keep: usize) -> Settings {
    Settings {
        keep,
        accumulation: config.gradient_accumulation_steps,
        save_interval: config.save_interval,
        amp: config.use_amp,
        log_dir: Some(config.log_dir.clone().into()),
        ..crate::families::faces::settings::face_settings(config.epochs, config.lr, config.weight_decay, config.ema)
    }
}

impl SenetTask {
    /// Reads and splits the data. `device` is where the network trains.
    ///
    /// # Errors
    /// Data that cannot be read or is too little for the settings.
    pub fn open(config: &SenetConfig, device: &Device) -> Result<Self, TaskError> {
        let folder = Path::new(&config.data_dir);
        let pairs = FacePairs::read(folder, [config.min_yaw, config.max_yaw])?;
        let [width, angles] = pairs.widths();
        for (what, flag, found, wanted) in
            [("embeddings", "image-dim", width, config.image_dim), ("poses", "pose-dim", angles, config.pose_dim)]
        {
            if found != wanted {
                let data = config.data_dir.clone();
                return Err(SenetDataError::Width { what, data, found, wanted, flag }.into());
            }
        }
        let ratios = [config.train_ratio, config.val_ratio];
        let split = split::by_person(&pairs.of_person(), ratios, config.seed, Order::Shuffled);
        split.check(ratios)?;
        let train = &split.samples[0];
        let sampler = match config.frames_per_person {
            0 => Sampler::Uniform(UniformSampler::new(train.len(), config.batch_size, config.seed)?),
            frames => {
                let people: Vec<i64> = train.iter().map(|index| pairs.pairs[*index][2] as i64).collect();
                Sampler::Pk(PkSampler::new(&people, config.batch_size / frames, frames, config.seed)?)
            }
        };
        let triplet = AngleTriplet {
            margin: config.margin,
            alpha: config.alpha,
            beta: config.beta,
            angle_threshold: config.angle_threshold,
            wrap_angles: config.wrap_angles,
        };
        // Without a weight the dimensions are not checked against the width.
        let dims = if config.identity_preserve_weight > 0.0 { config.identity_dims.clone() } else { Vec::new() };
        let identity = IdentityPreserving { weight: config.identity_preserve_weight, dims };
        if !IDENTITY_WEIGHTS.contains(&config.identity_preserve_weight) {
            terminal::tell!(
                "note: --identity_preserve_weight is {}; {} to {} is what the manual recommends",
                config.identity_preserve_weight,
                IDENTITY_WEIGHTS.start(),
                IDENTITY_WEIGHTS.end()
            );
        }
        Ok(Self {
            config: config.clone(),
            pairs: Arc::new(pairs),
            split,
            sampler,
            triplet,
            identity,
            device: device.clone(),
            figures: Vec::new(),
            watch: Watch::default(),
        })
    }

    /// The network these settings ask for.
    pub fn network(config: &SenetConfig) -> SenetNetConfig {
        SenetNetConfig {
            image_dim: config.image_dim,
            pose_dim: config.pose_dim,
            hidden_dim: config.hidden_dim,
            num_layers: config.num_layers,
            dropout: config.dropout,
            activation: config.activation,
            se_reduction: config.se_reduction,
            fusion_alpha: config.fusion_alpha,
            learnable_fusion: config.learnable_fusion,
            use_batch_stat: config.use_batch_stat,
            // The reconstruction compares them with the embedding.
            identity_dim: config.image_dim,
            pose_scale: config.pose_unit.scale(),
        }
    }

    /// Hash of names, embeddings and poses.
    pub fn fingerprint(&self) -> &str {
        &self.pairs.fingerprint
    }

    /// The pairs and their split, one line for people.
    pub fn describe_data(&self) -> String {
        let Self { config, pairs, split, sampler, .. } = self;
        let (batches, batch) = (sampler.epoch(1).len(), config.batch_size);
        format!("{}: {} pairs of {split}; {batches} batches of {batch} in an epoch", config.data_dir, pairs.len())
    }

    /// The losses and similarities of the people nobody trained or chose by, for a network on a device without
    /// autodiff.
    pub fn test(&self, net: &SenetTripletNetwork) -> BTreeMap<String, f64> {
        self.measure(net, &self.split.samples[2])
    }

    /// How well profile views of those people are found among everybody's frontal pictures. None where there is no
    /// such view.
    ///
    /// # Errors
    /// If the figures cannot be computed.
    pub fn identify(&self, net: &SenetTripletNetwork) -> Result<Option<Identification>, metrics::MetricsError> {
        identify::identify(net, &self.pairs, &self.split.people[2], &self.device.clone().inner())
    }

    fn tensor(&self, values: &[f32], width: usize, device: &Device) -> Tensor<2> {
        Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / width, width]), device)
    }

    fn forward(&self, net: &SenetTripletNetwork, batch: &FaceBatch, device: &Device, masks: &mut Masks) -> SenetOutput {
        let source = amp::like(net, self.tensor(&batch.source, self.config.image_dim, device));
        let pose = amp::like(net, self.tensor(&batch.pose, self.config.pose_dim, device));
        net.forward(source, pose, masks)
    }

    fn terms(&self, output: &SenetOutput, batch: &FaceBatch, device: &Device) -> Terms {
        let SenetConfig { image_dim, pose_dim, target_weight, front_pose_weight, .. } = self.config;
        let source = self.tensor(&batch.source, image_dim, device);
        let front = amp::full(output.front_features.clone());
        let identity = amp::full(output.identity_features.clone());
        let wanted = |weight: f64, loss: &dyn Fn() -> Tensor<1>| (weight > 0.0).then(|| loss().mul_scalar(weight));
        Terms {
            triplet: self.triplet.forward(identity, &batch.people, &batch.pose, Some(source.clone())),
            identity: self.identity.forward(front.clone(), source),
            target: wanted(target_weight, &|| {
                target_loss(front.clone(), self.tensor(&batch.target, image_dim, device))
            }),
            front_pose: wanted(front_pose_weight, &|| {
                front_pose_loss(amp::full(output.front_pose.clone()), self.tensor(&batch.front_pose, pose_dim, device))
            }),
        }
    }

    /// Losses and similarities over some pairs, means over batches of the run's size, as the reference takes them.
    fn measure(&self, net: &SenetTripletNetwork, samples: &[usize]) -> BTreeMap<String, f64> {
        let device = self.device.clone().inner();
        let mut sums = BTreeMap::<String, f64>::new();
        let batches = samples.chunks(self.config.batch_size);
        let count = batches.len() as f64;
        for chunk in batches {
            let batch = self.pairs.batch(chunk.to_vec());
            let output = self.forward(net, &batch, &device, &mut Masks::none());
            let terms = self.terms(&output, &batch, &device);
            let [source, target] =
                [&batch.source, &batch.target].map(|values| self.tensor(values, self.config.image_dim, &device));
            let alike = |features: Tensor<2>| cosine(features, target.clone()).mean();
            let values = [
                ("total_loss", terms.validation()),
                ("triplet_loss", terms.triplet.triplet.clone()),
                ("identity_loss", terms.identity.clone()),
                ("cosine_sim", alike(output.identity_features)),
                ("front_cosine", alike(output.front_features)),
                ("source_cosine", alike(source)),
            ];
            let (names, tensors): (Vec<_>, Vec<_>) = values.into_iter().unzip();
            for (name, value) in names.into_iter().zip(Tensor::cat(tensors, 0).into_data().iter::<f64>()) {
                *sums.entry(name.to_owned()).or_default() += value / count;
            }
        }
        sums
    }
}

impl Task for SenetTask {
    type Net = SenetTripletNetwork;
    type Batch = FaceBatch;

    fn epoch(&self, epoch: usize, done: usize) -> Result<Epoch<FaceBatch>, TaskError> {
        let batches = self.sampler.epoch(epoch);
        let steps = batches.len();
        let train = &self.split.samples[0];
        let indices: Vec<(usize, Vec<usize>)> = batches
            .into_iter()
            .enumerate()
            .skip(done)
            .map(|(number, batch)| (number, batch.into_iter().map(|position| train[position]).collect()))
            .collect();
        // Each batch is gathered when it is needed: a whole epoch of embeddings is as large as the data or larger.
        let pairs = self.pairs.clone();
        let batches = indices.into_iter().map(move |(number, indices)| Ok((number, pairs.batch(indices))));
        Ok(Epoch { steps, batches: Box::new(batches) })
    }

    fn pictures(&self, batch: &FaceBatch) -> usize {
        batch.indices.len()
    }

    fn describe(&self, batch: &FaceBatch) -> String {
        let name = |index: &usize| {
            let [front, video, person] = self.pairs.pairs[*index];
            format!("{} (front {front}, video {video})", self.pairs.people.met[person].name)
        };
        batch.indices.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn loss(&mut self, net: &SenetTripletNetwork, batch: &FaceBatch, step: Step) -> LossTerms {
        let mut masks = Masks::of(&step.keys(STREAM, self.config.seed));
        let output = self.forward(net, batch, &self.device, &mut masks);
        let Terms { triplet, identity, target, front_pose } = self.terms(&output, batch, &self.device);
        let count = triplet.triples.len() as f64;
        let weight = triplet.triples.iter().map(|triple| triple.weight).sum::<f64>() / count.max(1.0);
        let reconstruction = f64::from(triplet.reconstruction.clone().into_scalar::<f32>()) / RECONSTRUCTION;
        self.figures = vec![
            ("num_triplets".into(), count),
            ("avg_weight".into(), weight),
            ("reconstruction".into(), reconstruction),
        ];
        let mut terms = vec![
            ("triplet".to_owned(), triplet.triplet),
            ("reconstruction".to_owned(), triplet.reconstruction),
            ("identity".to_owned(), identity),
        ];
        terms.extend(target.map(|term| ("target".to_owned(), term)));
        terms.extend(front_pose.map(|term| ("front_pose".to_owned(), term)));
        LossTerms::sum(terms)
    }

    fn figures(&self) -> Vec<(String, f64)> {
        self.figures.clone()
    }

    fn evaluate(&self, net: &SenetTripletNetwork) -> Result<BTreeMap<String, f64>, TaskError> {
        let mut metrics = self.measure(net, &self.split.samples[1]);
        metrics.insert("fusion_alpha".into(), net.fusion_weight());
        self.watch.note(metrics["total_loss"]);
        Ok(metrics)
    }

    fn decisive(&self) -> Decisive {
        Decisive::lower("total_loss")
    }

    fn log(&self) -> Log {
        let settings = serde_json::to_value(&self.config).expect("settings are plain data");
        Log {
            batch: named([
                ("loss/total", "Train/Loss"),
                ("loss/triplet", "Train/TripletLoss"),
                ("loss/identity", "Train/IdentityLoss"),
                ("lr", "Train/LearningRate"),
            ]),
            epoch: named([
                ("loss/total", "Epoch/TrainLoss"),
                ("metrics/total_loss", "Epoch/ValLoss"),
                ("metrics/cosine_sim", "Epoch/ValCosineSim"),
                ("metrics/fusion_alpha", "Epoch/FusionAlpha"),
            ]),
            first_epoch: 0,
            panels: panels(),
            figures: true,
            summary: Some(Summary {
                train: named([
                    ("loss/total", "total_loss"),
                    ("loss/triplet", "triplet_loss"),
                    ("train/reconstruction", "reconstruction_loss"),
                    ("loss/identity", "identity_loss"),
                    ("train/num_triplets", "num_triplets"),
                    ("metrics/fusion_alpha", "fusion_alpha"),
                ]),
                validation: named([
                    ("metrics/total_loss", "total_loss"),
                    ("metrics/triplet_loss", "triplet_loss"),
                    ("metrics/cosine_sim", "cosine_sim"),
                    ("metrics/identity_loss", "identity_loss"),
                    ("metrics/front_cosine", "front_cosine"),
                    ("metrics/source_cosine", "source_cosine"),
                ]),
                args: settings,
            }),
        }
    }

    fn report(&self, net: &SenetTripletNetwork, epoch: usize, _out: &mut Reporter) -> Result<(), TaskError> {
        let weight = net.fusion_weight();
        if !BALANCED.contains(&weight) && !self.watch.unbalanced.replace(true) {
            let [low, high] = [BALANCED.start(), BALANCED.end()];
            let (strong, weak) = if weight > *high { ("identity", "pose") } else { ("pose", "identity") };
            terminal::tell!(
                "warning: the fusion weight is {weight:.4} after epoch {epoch}, outside {low} to {high}: the {strong} \
                 branch dominates and the {weak} branch hardly learns; another --fusion_alpha or \
                 --identity_preserve_weight may help"
            );
        } else if BALANCED.contains(&weight) {
            self.watch.unbalanced.set(false);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use fixtures::{FaceFeaturesConfig, face_features};

    use super::*;

    /// An epoch of embeddings is as large as the data: 12 GB for three million pairs of 512 values.
    #[test]
    fn a_batch_is_gathered_when_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let set = FaceFeaturesConfig { people: 40, frames: 4, ..FaceFeaturesConfig::default() };
        face_features(&set, folder.path()).unwrap();
        let config = SenetConfig {
            data_dir: folder.path().to_str().unwrap().to_owned(),
            image_dim: set.dim,
            ..SenetConfig::default()
        };
        let mut task = SenetTask::open(&config, &Device::flex()).unwrap();
        // Rows that are not there: to gather a batch is to panic.
        let pairs = Arc::get_mut(&mut task.pairs).unwrap();
        pairs.pairs.iter_mut().for_each(|[front, _, _]| *front = usize::MAX);
        let mut epoch = task.epoch(0, 0).unwrap();
        assert!(epoch.steps > 1);
        assert!(catch_unwind(AssertUnwindSafe(|| epoch.batches.next())).is_err());
    }
}
