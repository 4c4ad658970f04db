//! Generation of face pictures in a pose: data, network and losses of an ImageControlNet run together.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use crate::families::controlnet::net::{ControlNet, ControlNetConfig, EMBEDDING, EncoderKind, Generated};
use crate::families::controlnet::settings::{ControlnetConfig, PoseTarget};
use crate::families::faces::split::{self, Order, Split};
use crate::loss::{LossTerms, PictureLoss};
use crate::nn::dropout::Masks;
use crate::rng::{Rng, Step};
use crate::run::amp;
use crate::run::engine::{Decisive, Epoch, Settings, Task, TaskError};
use crate::run::log::{Line, Log, Panel, Summary, named};
use crate::run::tensorboard::Reporter;

use super::data::{HeadBatch, HeadPairs, Pair, Reads};
use super::panels::{self, Panels};
use super::scores::{self, Scores};

/// Family name in checkpoints and contracts.
pub const FAMILY: &str = "controlnet";

/// Epochs between panels in TensorBoard.
const PANELS_EVERY: usize = 10;

/// Keeps dropout's random numbers apart from those of other parts with the same seed.
const DROPOUT: u64 = 0x6865_6164_6472_6f70;

/// Keeps the order of pairs apart.
const ORDER: u64 = 0x6865_6164_6f72_6400;

/// Keeps the choice of poses that are held out apart.
const HOLDOUT: u64 = 0x686f_6c64_6f75_7400;

/// Pairs whose poses a page shows, at most.
const MOST_POSES: usize = 1024;

/// Angles of some pairs in degrees, a row for each.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Poses {
    /// Of the targets.
    pub target: Vec<Vec<f32>>,
    /// Of the sources.
    pub source: Vec<Vec<f32>>,
    /// Of the sources as the network reads them.
    pub read: Vec<Vec<f32>>,
}

/// Data and losses of a run.
pub struct ControlnetTask {
    config: ControlnetConfig,
    network: ControlNetConfig,
    data: Arc<HeadPairs>,
    split: Split,
    /// Pairs of training people that do not train.
    held_out: Vec<usize>,
    loss: PictureLoss,
    device: Device,
}

/// What the training loop needs of the settings.
pub fn settings(config: &ControlnetConfig, keep: usize) -> Settings {
    Settings {
        keep,
        accumulation: config.gradient_accumulation_steps,
        save_interval: config.save_interval,
        amp: config.use_amp,
        log_dir: Some(config.log_dir.clone().into()),
        ..crate::families::faces::settings::face_settings(config.epochs, config.lr, config.weight_decay, config.ema)
    }
}

/// The network these settings ask for, with this encoder.
pub fn network(config: &ControlnetConfig, encoder: EncoderKind) -> ControlNetConfig {
    ControlNetConfig {
        encoder,
        features: config.feature_dim,
        angles: config.pose_dim,
        size: config.image_size,
        control_layers: config.num_control_layers,
        dropout: config.dropout,
        pose_scale: config.pose_unit.scale(),
    }
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

impl ControlnetTask {
    /// Reads and splits the data for a network. `device` is where it trains.
    ///
    /// # Errors
    /// Data that cannot be read or is too little.
    pub fn open(config: &ControlnetConfig, network: &ControlNetConfig, device: &Device) -> Result<Self, TaskError> {
        let embeddings = network.encoder == EncoderKind::Embedding;
        let data = Arc::new(HeadPairs::read(config, embeddings)?);
        if let Some(width) = data.embedding_width().filter(|width| *width != EMBEDDING) {
            return Err(
                format!("the embeddings of `{}` have {width} values; {EMBEDDING} are needed", config.data_dir).into()
            );
        }
        let ratios = [config.train_ratio, config.val_ratio];
        let mut split = split::by_person(&data.of_person(), ratios, config.seed, Order::Dataset);
        let mut rng = Rng::new(&[HOLDOUT, config.seed]);
        let (held_out, train) = split.samples[0].iter().partition(|_| rng.happens(config.holdout_poses));
        split.samples[0] = train;
        split.check(ratios)?;
        if split.samples[0].len() == 1 {
            return Err("one pair alone is left to train; a batch needs two".into());
        }
        let [mse, l1] = config.picture_weights();
        // Poses are compared in degrees, by squares.
        let loss = PictureLoss { mse, l1, pose: config.pose_loss_weight * network.pose_scale.powi(2) };
        let (config, network, device) = (config.clone(), network.clone(), device.clone());
        Ok(Self { config, network, data, split, held_out, loss, device })
    }

    /// Hash of names, paths and poses.
    pub fn fingerprint(&self) -> &str {
        &self.data.fingerprint
    }

    /// Who is on a pair, and which row of each side it is.
    pub(super) fn named(&self, pair: usize) -> (String, [String; 2]) {
        let Pair { person, front, video } = self.data.pairs[pair];
        (self.data.people[person].clone(), [format!("front {front}"), format!("video {video}")])
    }

    /// The pairs and their split, one line for people.
    pub fn describe_data(&self) -> String {
        let Self { config, data, split, held_out, .. } = self;
        let (pairs, held_out, batches) = (data.pairs.len(), held_out.len(), self.batches(1).len());
        format!(
            "{}: {pairs} pairs of {split}, {held_out} held out; {batches} batches of {} in an epoch",
            config.data_dir, config.batch_size
        )
    }

    /// The batches of an epoch: all training pairs in an order of its own. A single pair that is left at the end
    /// joins the batch before, as a batch norm on rows needs two.
    fn batches(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut order = self.split.samples[0].clone();
        Rng::new(&[ORDER, self.config.seed, epoch as u64]).shuffle(&mut order);
        let mut batches = self.in_order(&order);
        if let Some(single) = batches.pop_if(|batch| batch.len() == 1) {
            match batches.last_mut() {
                Some(last) => last.extend(single),
                None => batches.push(single),
            }
        }
        batches
    }

    fn in_order(&self, pairs: &[usize]) -> Vec<Vec<usize>> {
        pairs.chunks(self.config.batch_size).map(<[usize]>::to_vec).collect()
    }

    fn forward(&self, net: &ControlNet, batch: &HeadBatch, device: &Device, masks: &mut Masks) -> Generated {
        let (count, size) = (batch.pairs.len(), self.network.size);
        let target = amp::like(net, tensor(&batch.poses[1], [count, self.network.angles], device));
        let features = if self.network.encoder == EncoderKind::Embedding {
            net.encode_embeddings(amp::like(net, tensor(&batch.embeddings, [count, EMBEDDING], device)))
        } else {
            net.encode(amp::like(net, tensor(&batch.pixels[0], [count, 3, size, size], device)))
        };
        let made = net.generate(features, target, masks);
        Generated { image: amp::full(made.image), control: made.control, source_pose: amp::full(made.source_pose) }
    }

    fn terms(&self, made: Generated, batch: &HeadBatch, device: &Device) -> LossTerms {
        let (count, size) = (batch.pairs.len(), self.network.size);
        let wanted = tensor(&batch.pixels[1], [count, 3, size, size], device);
        let side = usize::from(self.config.pose_target == PoseTarget::Target);
        let pose = tensor(&batch.poses[side], [count, self.network.angles], device);
        self.loss.forward(made.image, wanted, made.source_pose, pose)
    }

    /// How well a network on a device without autodiff does on the people nobody trained or chose by, and, where some
    /// are held out, on new poses of people it trained on; beside it what copying the source and what the mean
    /// picture would do.
    ///
    /// # Errors
    /// If pictures cannot be read.
    pub fn test(&self, net: &ControlNet) -> Result<Vec<Scores>, TaskError> {
        let mean = scores::mean_target(self.load(&self.split.samples[0], Reads::Targets)?)?;
        let parts = [("unseen people", &self.split.samples[2]), ("seen people, poses held out", &self.held_out)];
        let device = self.device.clone().inner();
        let score = |(name, pairs): (&str, &Vec<usize>)| {
            scores::score(name, self.load(pairs, Reads::Both)?, &mean, self.network.size, |batch| {
                self.forward(net, batch, &device, &mut Masks::none())
                    .image
                    .into_data()
                    .try_to_vec()
                    .expect("pictures are floats")
            })
        };
        parts.into_iter().filter(|(_, pairs)| !pairs.is_empty()).map(score).collect()
    }

    /// Sources, targets and outputs of the first pairs that validate, for a network on a device without autodiff.
    ///
    /// # Errors
    /// If pictures cannot be read.
    pub fn panels(&self, net: &ControlNet) -> Result<Panels, TaskError> {
        let pairs = &self.split.samples[1];
        self.drawn(net, pairs[..pairs.len().min(self.config.batch_size).min(panels::COLUMNS)].to_vec())
    }

    /// The same of people nobody trained or chose by, spread over them.
    ///
    /// # Errors
    /// If pictures cannot be read.
    pub fn samples(&self, net: &ControlNet) -> Result<Panels, TaskError> {
        let pairs = &self.split.samples[2];
        let count = pairs.len().min(panels::COLUMNS);
        self.drawn(net, (0..count).map(|at| pairs[at * pairs.len() / count]).collect())
    }

    /// Poses of people nobody trained or chose by, for a network on a device without autodiff.
    ///
    /// # Errors
    /// If pictures cannot be read.
    pub fn poses(&self, net: &ControlNet) -> Result<Poses, TaskError> {
        let pairs = &self.split.samples[2];
        let device = self.device.clone().inner();
        let mut poses = Poses::default();
        for batch in self.load(&pairs[..pairs.len().min(MOST_POSES)], Reads::Both)? {
            let batch = batch?;
            let read = self.forward(net, &batch, &device, &mut Masks::none()).source_pose.into_data();
            let [source, target] = batch.poses;
            let read = read.try_to_vec::<f32>().expect("angles are floats");
            for (rows, angles) in [(&mut poses.target, target), (&mut poses.source, source), (&mut poses.read, read)] {
                rows.extend(angles.chunks_exact(self.network.angles).map(<[f32]>::to_vec));
            }
        }
        Ok(poses)
    }

    fn drawn(&self, net: &ControlNet, pairs: Vec<usize>) -> Result<Panels, TaskError> {
        let (_, batch) = self.data.load(vec![pairs], Reads::Both, 0, 1)?.next().ok_or("no pair to draw")??;
        let made = self.forward(net, &batch, &self.device.clone().inner(), &mut Masks::none());
        Ok(Panels::new(&batch, made, self.network.size))
    }

    fn load(
        &self,
        pairs: &[usize],
        reads: Reads,
    ) -> Result<impl Iterator<Item = Result<HeadBatch, TaskError>> + use<>, TaskError> {
        let batches = self.data.load(self.in_order(pairs), reads, 0, self.config.num_workers)?;
        Ok(batches.map(|batch| Ok(batch?.1)))
    }
}

impl Task for ControlnetTask {
    type Net = ControlNet;
    type Batch = HeadBatch;

    fn epoch(&self, epoch: usize, done: usize) -> Result<Epoch<HeadBatch>, TaskError> {
        let batches = self.batches(epoch);
        let steps = batches.len();
        Ok(Epoch::new(steps, self.data.load(batches, Reads::Both, done, self.config.num_workers)?))
    }

    fn pictures(&self, batch: &HeadBatch) -> usize {
        batch.pairs.len()
    }

    fn describe(&self, batch: &HeadBatch) -> String {
        let name = |at: &usize| {
            let (who, [front, video]) = self.named(*at);
            format!("{who} ({front}, {video})")
        };
        batch.pairs.iter().map(name).collect::<Vec<_>>().join(", ")
    }

    fn loss(&mut self, net: &ControlNet, batch: &HeadBatch, step: Step) -> LossTerms {
        let mut masks = Masks::of(&step.keys(DROPOUT, self.config.seed));
        let made = self.forward(net, batch, &self.device, &mut masks);
        self.terms(made, batch, &self.device)
    }

    /// Means over the pairs that validate, each batch's PSNR over the whole batch as the reference takes it.
    fn evaluate(&self, net: &ControlNet) -> Result<BTreeMap<String, f64>, TaskError> {
        let device = self.device.clone().inner();
        let mut sums = BTreeMap::<String, f64>::new();
        let mut count = 0.0;
        for batch in self.load(&self.split.samples[1], Reads::Both)? {
            let batch = batch?;
            let weight = batch.pairs.len() as f64;
            let made = self.forward(net, &batch, &device, &mut Masks::none());
            let pictures: Vec<f32> = made.image.clone().into_data().try_to_vec().expect("pictures are floats");
            let terms = self.terms(made, &batch, &device);
            let values = Tensor::cat(
                std::iter::once(terms.total).chain(terms.terms.into_iter().map(|(_, term)| term)).collect(),
                0,
            );
            let names = ["total_loss", "image_loss", "pose_loss"];
            for (name, value) in names.into_iter().zip(values.into_data().iter::<f64>()) {
                *sums.entry(name.to_owned()).or_default() += weight * value;
            }
            let psnr = metrics::picture::psnr(&pictures, &batch.pixels[1], 2.0)?;
            let ssim = scores::ssim(&pictures, &batch.pixels[1], self.network.size)?;
            *sums.entry("psnr".into()).or_default() += weight * psnr;
            *sums.entry("ssim".into()).or_default() += weight * ssim;
            count += weight;
        }
        sums.values_mut().for_each(|sum| *sum /= count);
        Ok(sums)
    }

    fn decisive(&self) -> Decisive {
        Decisive::lower("total_loss")
    }

    fn log(&self) -> Log {
        let settings = serde_json::to_value(&self.config).expect("settings are plain data");
        let both = |name: &str| {
            [Line::new("train", &format!("loss/{name}")), Line::new("validation", &format!("metrics/{name}"))]
        };
        Log {
            batch: named([
                ("loss/total", "Train/Loss"),
                ("loss/image_loss", "Train/ImageLoss"),
                ("loss/pose_loss", "Train/PoseLoss"),
                ("lr", "Train/LearningRate"),
            ]),
            epoch: named([
                ("loss/total", "Epoch/TrainLoss"),
                ("loss/image_loss", "Epoch/TrainImageLoss"),
                ("loss/pose_loss", "Epoch/TrainPoseLoss"),
                ("metrics/total_loss", "Epoch/ValLoss"),
                ("metrics/image_loss", "Epoch/ValImageLoss"),
                ("metrics/psnr", "Epoch/ValPSNR"),
            ]),
            first_epoch: 0,
            panels: vec![
                Panel::new(
                    "Total loss",
                    [Line::new("train", "loss/total"), Line::new("validation", "metrics/total_loss")],
                ),
                Panel::new("Image loss", both("image_loss")),
                Panel::new("Pose loss", [Line::new("train", "loss/pose_loss")]),
                Panel::new("PSNR in dB", [Line::new("validation", "metrics/psnr")]),
            ],
            figures: true,
            summary: Some(Summary {
                train: named([
                    ("loss/total", "total_loss"),
                    ("loss/image_loss", "image_loss"),
                    ("loss/pose_loss", "pose_loss"),
                ]),
                validation: named([
                    ("metrics/total_loss", "total_loss"),
                    ("metrics/image_loss", "image_loss"),
                    ("metrics/psnr", "psnr"),
                    ("metrics/ssim", "ssim"),
                ]),
                args: settings,
            }),
        }
    }

    fn unreadable(&self) -> usize {
        self.data.unreadable()
    }

    fn report(&self, net: &ControlNet, epoch: usize, out: &mut Reporter) -> Result<(), TaskError> {
        if epoch.is_multiple_of(PANELS_EVERY) { self.panels(net)?.report(out) } else { Ok(()) }
    }
}

/// A network as a run begins with it: `net` with the parts frozen that the settings freeze.
pub fn frozen(net: ControlNet, config: &ControlnetConfig) -> ControlNet {
    net.frozen(config.freeze_backbone, config.freeze_generator)
}

/// Parameters that a network trains.
pub fn trainable(net: &ControlNet) -> usize {
    use burn::module::{ModuleVisitor, Param};
    struct Count(usize);
    impl ModuleVisitor for Count {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            if value.is_require_grad() {
                self.0 += value.shape().num_elements();
            }
        }
    }
    let mut count = Count(0);
    net.visit(&mut count);
    count.0
}
