//! Settings of an ImageControlNet run.

use serde::{Deserialize, Serialize};

use crate::families::faces::pose::PoseUnit;
use crate::run::checks::ConfigError;
use crate::run::checks::{below_one, counts, face_set, from, not_negative, positive, range};
use crate::run::recipe::Recipe;
use crate::run::settings::{Settings, idle};
use crate::words::words;

words! {
    /// What reads the source picture.
    EncoderChoice {
        /// As the checkpoint or --pre-train has it, else conv.
        Auto = "auto",
        /// Face embeddings computed elsewhere, in front_feature.npy beside the pictures.
        Insightface = "insightface",
        /// ResNet-50.
        Resnet50 = "resnet50",
        /// Four convolutions.
        Conv = "conv",
    }
}

words! {
    /// How pictures are compared.
    PictureLossKind {
        /// Mean squared difference.
        Mse = "mse",
        /// Mean absolute difference.
        L1 = "l1",
        /// Both, weighted.
        Combined = "combined",
    }
}

words! {
    /// What the pose read from the source picture should be.
    PoseTarget {
        /// The source's pose, which is what the name promises.
        Source = "source",
        /// The target's pose, as the reference has it.
        Target = "target",
    }
}

words! {
    /// Where poses come from.
    PoseSource {
        /// The keypoints, by the reference's rule.
        Keypoints = "keypoints",
        /// The metadata's `poses`.
        Metadata = "metadata",
    }
}

/// Settings of an ImageControlNet run: fields are flags, defaults the manual's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlnetConfig {
    /// Folder of metadata and keypoints.
    pub data_dir: String,
    /// Folder of the pictures; empty: that of the data.
    pub image_dir: String,
    /// Pairs in a batch.
    pub batch_size: usize,
    /// Threads that decode pictures.
    pub num_workers: usize,
    /// Edge of the pictures in pixels, a multiple of 16.
    pub image_size: usize,
    /// Features between encoder and generator.
    pub feature_dim: usize,
    /// Angles of a pose.
    pub pose_dim: usize,
    /// Unit of the angles inside the network and of the pose's error.
    pub pose_unit: PoseUnit,
    /// Layers of the control branch.
    pub num_control_layers: usize,
    /// Share of values dropped in pose extractor and control branch, 0 to below 1.
    pub dropout: f64,
    /// Encoder.
    pub encoder: EncoderChoice,
    /// Whether ResNet-50 is frozen.
    pub freeze_backbone: bool,
    /// Whether the generator is frozen.
    pub freeze_generator: bool,
    /// Weights to start from: of the network, or of an ImageNet ResNet-50; empty: none.
    pub pre_train: String,

    /// Epochs of the whole run.
    pub epochs: usize,
    /// Learning rate of the first epoch.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Weight of the pose's squared error, in the square of the pose's unit.
    pub pose_loss_weight: f64,
    /// What the pose read from the source picture should be.
    pub pose_target: PoseTarget,
    /// How pictures are compared.
    pub loss_type: PictureLossKind,
    /// Weight of the squared difference in `combined`.
    pub mse_weight: f64,
    /// Weight of the absolute difference in `combined`.
    pub l1_weight: f64,
    /// Decay of a moving average of the weights, which is evaluated and kept; 0: none.
    pub ema: f64,
    /// Mixed precision.
    pub use_amp: bool,
    /// Batches averaged into one step.
    pub gradient_accumulation_steps: usize,
    /// Epochs between checkpoints that stay; 0: none.
    pub save_interval: usize,
    /// Folder of TensorBoard's file.
    pub log_dir: String,

    /// Where poses come from.
    pub pose_source: PoseSource,
    /// Pairs whose poses are nearer than this are left out, in degrees.
    pub min_angle: f64,
    /// Pairs whose poses are farther apart than this are left out, in degrees.
    pub max_angle: f64,
    /// Pairs used, the first ones; 0: all.
    pub max_samples: usize,
    /// Missing pictures become grey ones instead of being left out.
    pub allow_missing: bool,
    /// Cut pictures to the metadata's boxes.
    pub face_crop: bool,
    /// What is added to each side of a box, as a share of its size.
    pub crop_margin: f64,
    /// Share of the people that train.
    pub train_ratio: f64,
    /// Share of the people that validate; the rest tests.
    pub val_ratio: f64,
    /// Share of the training people's pairs that is kept out, to measure new poses of known people at the end.
    pub holdout_poses: f64,
    /// Memory for decoded pictures, in MB.
    pub cache_mb: usize,
    /// Seed of split, batches, dropout and initial weights.
    pub seed: u64,
}

impl Default for ControlnetConfig {
    fn default() -> Self {
        Self {
            data_dir: String::new(),
            image_dir: String::new(),
            batch_size: 16,
            num_workers: 4,
            image_size: 112,
            feature_dim: 512,
            pose_dim: 3,
            pose_unit: PoseUnit::Degrees,
            num_control_layers: 3,
            dropout: 0.1,
            encoder: EncoderChoice::Auto,
            freeze_backbone: true,
            freeze_generator: false,
            pre_train: String::new(),
            epochs: 100,
            lr: 1e-4,
            weight_decay: 1e-5,
            pose_loss_weight: 0.1,
            pose_target: PoseTarget::Source,
            loss_type: PictureLossKind::Mse,
            mse_weight: 1.0,
            l1_weight: 1.0,
            ema: 0.0,
            use_amp: false,
            gradient_accumulation_steps: 1,
            save_interval: 10,
            log_dir: "logs_image".into(),
            pose_source: PoseSource::Keypoints,
            min_angle: 5.0,
            max_angle: 90.0,
            max_samples: 0,
            allow_missing: false,
            face_crop: false,
            crop_margin: 0.2,
            train_ratio: 0.7,
            val_ratio: 0.15,
            holdout_poses: 0.0,
            cache_mb: 1024,
            seed: 42,
        }
    }
}

impl ControlnetConfig {
    /// Whether every value is in range and none excludes another.
    ///
    /// # Errors
    /// The first that is not, with its flag.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.image_size.is_multiple_of(16) || !(16..=1024).contains(&self.image_size) {
            return Err(range("image-size", self.image_size, "multiples of 16 from 16 to 1024"));
        }
        counts([
            ("batch-size", self.batch_size, 2, 65_536),
            ("feature-dim", self.feature_dim, 1, 8_192),
            ("pose-dim", self.pose_dim, 1, 64),
            ("num-control-layers", self.num_control_layers, 0, 64),
            ("gradient-accumulation-steps", self.gradient_accumulation_steps, 1, 65_536),
            ("num-workers", self.num_workers, 0, terminal::most_threads()),
        ])?;
        not_negative([
            ("weight-decay", self.weight_decay),
            ("pose-loss-weight", self.pose_loss_weight),
            ("mse-weight", self.mse_weight),
            ("l1-weight", self.l1_weight),
            ("min-angle", self.min_angle),
            ("crop-margin", self.crop_margin),
        ])?;
        from("max-angle", self.max_angle, ("min-angle", self.min_angle))?;
        if self.loss_type == PictureLossKind::Combined && self.mse_weight + self.l1_weight == 0.0 {
            return Err(range("mse-weight", "0, as is --l1-weight", "weights that are not both 0"));
        }
        positive([("lr", self.lr)])?;
        below_one([("dropout", self.dropout), ("holdout-poses", self.holdout_poses), ("ema", self.ema)])?;
        face_set(&self.data_dir, [self.train_ratio, self.val_ratio])
    }

    /// Weights of squared and absolute differences.
    pub fn picture_weights(&self) -> [f64; 2] {
        match self.loss_type {
            PictureLossKind::Mse => [1.0, 0.0],
            PictureLossKind::L1 => [0.0, 1.0],
            PictureLossKind::Combined => [self.mse_weight, self.l1_weight],
        }
    }
}

impl Settings for ControlnetConfig {
    fn check(&self) -> Result<(), ConfigError> {
        Self::check(self)
    }

    const RECIPES: &'static [Recipe] = &[Recipe {
        name: "heads",
        about: "Drawn heads of 32 pixels (`fixtures heads`): draws unseen people better than their source picture is \
                (docs/faces.md has the numbers)",
        text: include_str!("../../../recipes/heads.toml"),
    }];

    fn unused(&self) -> Vec<(String, String)> {
        let combined = self.loss_type == PictureLossKind::Combined;
        // What `auto` is, the checkpoint decides.
        let resnet50 = matches!(self.encoder, EncoderChoice::Auto | EncoderChoice::Resnet50);
        idle(&[
            (combined, &["mse_weight", "l1_weight"], "--loss-type combined"),
            (resnet50, &["freeze_backbone"], "the encoder resnet50"),
            (self.face_crop, &["crop_margin"], "--face-crop"),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::checks::tests::{Wrong, refused};

    #[test]
    fn every_check_names_its_flag_and_value() {
        let good = ControlnetConfig { data_dir: "data".into(), ..ControlnetConfig::default() };
        let wrong: &[Wrong<'_, ControlnetConfig>] = &[
            ("--data-dir", "empty", |c| c.data_dir = String::new()),
            ("--image-size", "100", |c| c.image_size = 100),
            ("--batch-size", "1", |c| c.batch_size = 1),
            ("--gradient-accumulation-steps", "0", |c| c.gradient_accumulation_steps = 0),
            ("--pose-loss-weight", "-1", |c| c.pose_loss_weight = -1.0),
            ("--max-angle", "4", |c| c.max_angle = 4.0),
            ("--mse-weight", "both 0", |c| {
                (c.loss_type, c.mse_weight, c.l1_weight) = (PictureLossKind::Combined, 0.0, 0.0);
            }),
            ("--lr", "NaN", |c| c.lr = f64::NAN),
            ("--dropout", "1", |c| c.dropout = 1.0),
            ("--ema", "-0.1", |c| c.ema = -0.1),
            ("--val-ratio", "0", |c| c.val_ratio = 0.0),
            ("--train-ratio", "val-ratio", |c| c.train_ratio = 0.9),
        ];
        refused(&good, ControlnetConfig::check, wrong);
    }

    #[test]
    fn what_a_choice_does_not_use_is_known() {
        let keys = |config: ControlnetConfig| config.unused().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(ControlnetConfig::default()), ["mse_weight", "l1_weight", "crop_margin"]);
        let (loss_type, encoder) = (PictureLossKind::Combined, EncoderChoice::Conv);
        let other = ControlnetConfig { loss_type, encoder, face_crop: true, ..ControlnetConfig::default() };
        assert_eq!(keys(other), ["freeze_backbone"]);
    }
}
