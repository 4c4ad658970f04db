//! Settings of a SENet run.

use serde::{Deserialize, Serialize};

use crate::families::faces::pose::PoseUnit;
use crate::families::senet::net::ActivationKind;
use crate::run::checks::ConfigError;
use crate::run::checks::{below_one, counts, face_set, from, not_negative, positive, range};
use crate::run::recipe::Recipe;
use crate::run::settings::{Settings, idle};

/// Settings of a SENet run: fields are flags, defaults the manual's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SenetConfig {
    /// Folder of the six files of a face set.
    pub data_dir: String,
    /// Rows in a batch, at least 2.
    pub batch_size: usize,
    /// Threads that load data. All data are in memory: only the default is accepted, which the manual's lines name.
    pub num_workers: usize,
    /// Values of an embedding.
    pub image_dim: usize,
    /// Angles of a pose.
    pub pose_dim: usize,
    /// Unit of the angles inside the network.
    pub pose_unit: PoseUnit,
    /// Width of the fusion layers.
    pub hidden_dim: usize,
    /// Depth.
    pub num_layers: usize,
    /// Share of values dropped, 0 to below 1.
    pub dropout: f64,
    /// Activation of the fusion layers.
    pub activation: ActivationKind,
    /// What the gates' hidden layer divides the embedding by; must divide it.
    pub se_reduction: usize,
    /// Weight of the identity branch at the start, 0 to 1.
    pub fusion_alpha: f64,
    /// Whether that weight is trained.
    pub learnable_fusion: bool,
    /// Gates from the batch's mean.
    pub use_batch_stat: bool,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// Learning rate of the first epoch.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Weight of what keeps identity dimensions.
    pub identity_preserve_weight: f64,
    /// Which dimensions those are.
    pub identity_dims: Vec<usize>,
    /// Weight of one minus the cosine to the true frontal embedding; the reference has no such term.
    pub target_weight: f64,
    /// Weight of the squared error of the frontal pose in right angles; the reference has no such term.
    pub front_pose_weight: f64,
    /// Margin of the triplet loss, in units of distance.
    pub margin: f64,
    /// Factor of triplets whose positive is seen from another side.
    pub alpha: f64,
    /// Factor of triplets whose negative is seen from the same side.
    pub beta: f64,
    /// Negatives within these degrees are chosen by similarity.
    pub angle_threshold: f64,
    /// Differences of angles are taken the short way round.
    pub wrap_angles: bool,
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
    /// Share of the people that train.
    pub train_ratio: f64,
    /// Share of the people that validate; the rest tests.
    pub val_ratio: f64,
    /// Frames of one person in a batch (K of P × K), at least 2; 0: rows in any order.
    pub frames_per_person: usize,
    /// Frames whose first angle is farther from 0 than this are left out, in degrees.
    pub max_yaw: f64,
    /// Frames whose first angle is nearer to 0 than this are left out, in degrees.
    pub min_yaw: f64,
    /// Seed of split, batches, dropout and initial weights.
    pub seed: u64,
}

impl Default for SenetConfig {
    fn default() -> Self {
        Self {
            data_dir: String::new(),
            batch_size: 32,
            num_workers: 4,
            image_dim: 512,
            pose_dim: 3,
            pose_unit: PoseUnit::Degrees,
            hidden_dim: 1024,
            num_layers: 3,
            dropout: 0.1,
            activation: ActivationKind::Relu,
            se_reduction: 16,
            fusion_alpha: 0.7,
            learnable_fusion: true,
            use_batch_stat: false,
            epochs: 100,
            lr: 1e-4,
            weight_decay: 1e-5,
            identity_preserve_weight: 0.3,
            // `crate::loss::IDENTITY_DIMS`, which a test compares; settings import nothing of ours.
            identity_dims: vec![
                60, 312, 459, 217, 115, 74, 350, 113, 305, 149, 42, 88, 156, 201, 267, 298, 341, 378, 412, 445,
            ],
            target_weight: 0.0,
            front_pose_weight: 0.0,
            margin: 0.3,
            alpha: 2.0,
            beta: 1.0,
            angle_threshold: 30.0,
            wrap_angles: false,
            ema: 0.0,
            use_amp: false,
            gradient_accumulation_steps: 1,
            save_interval: 10,
            log_dir: "logs_senet".into(),
            train_ratio: 0.6,
            val_ratio: 0.3,
            frames_per_person: 0,
            max_yaw: 180.0,
            min_yaw: 0.0,
            seed: 42,
        }
    }
}

impl SenetConfig {
    /// Whether every value is in range and none excludes another.
    ///
    /// # Errors
    /// The first that is not, with its flag.
    pub fn check(&self) -> Result<(), ConfigError> {
        counts([
            ("batch-size", self.batch_size, 2, 65_536),
            ("image-dim", self.image_dim, 1, 8_192),
            ("pose-dim", self.pose_dim, 1, 64),
            ("hidden-dim", self.hidden_dim, 2, 16_384),
            ("num-layers", self.num_layers, 1, 64),
            ("gradient-accumulation-steps", self.gradient_accumulation_steps, 1, 65_536),
            ("frames-per-person", self.frames_per_person, 0, 65_536),
            ("num-workers", self.num_workers, 0, terminal::most_threads()),
        ])?;
        if self.se_reduction == 0 || !self.image_dim.is_multiple_of(self.se_reduction) {
            let allowed = format!("divisors of --image-dim {}", self.image_dim);
            return Err(range("se-reduction", self.se_reduction, allowed));
        }
        let inside = self.fusion_alpha > 0.0 && self.fusion_alpha < 1.0;
        if !inside && (self.learnable_fusion || !(0.0..=1.0).contains(&self.fusion_alpha)) {
            let ends = if self.learnable_fusion { "numbers between 0 and 1" } else { "0 to 1" };
            return Err(range("fusion-alpha", self.fusion_alpha, ends));
        }
        not_negative([
            ("weight-decay", self.weight_decay),
            ("identity-preserve-weight", self.identity_preserve_weight),
            ("target-weight", self.target_weight),
            ("front-pose-weight", self.front_pose_weight),
            ("margin", self.margin),
            ("alpha", self.alpha),
            ("beta", self.beta),
            ("angle-threshold", self.angle_threshold),
            ("min-yaw", self.min_yaw),
        ])?;
        from("max-yaw", self.max_yaw, ("min-yaw", self.min_yaw))?;
        positive([("lr", self.lr)])?;
        below_one([("dropout", self.dropout), ("ema", self.ema)])?;
        face_set(&self.data_dir, [self.train_ratio, self.val_ratio])?;
        if let Some(dim) = self.identity_dims.iter().find(|dim| **dim >= self.image_dim)
            && self.identity_preserve_weight > 0.0
        {
            let allowed =
                format!("dimensions below --image-dim {}, such as `train senet analyse` finds,", self.image_dim);
            return Err(range("identity-dims", dim, allowed));
        }
        if let Some(persons) = self.batch_size.checked_div(self.frames_per_person)
            && (self.frames_per_person < 2 || persons < 2 || persons * self.frames_per_person != self.batch_size)
        {
            let allowed =
                format!("divisors of --batch-size {} that leave at least 2 people with 2 frames", self.batch_size);
            return Err(range("frames-per-person", self.frames_per_person, allowed));
        }
        Ok(())
    }
}

impl Settings for SenetConfig {
    fn check(&self) -> Result<(), ConfigError> {
        Self::check(self)
    }

    const RECIPES: &'static [Recipe] = &[Recipe {
        name: "frontal",
        about: "Frontalises, as the manual's defaults do not: on drawn embeddings of unseen people the cosine to the \
                true frontal one rises, instead of falling (docs/faces.md has the numbers)",
        text: include_str!("../../../recipes/frontal.toml"),
    }];

    fn unused(&self) -> Vec<(String, String)> {
        idle(&[
            (self.identity_preserve_weight > 0.0, &["identity_dims"], "--identity-preserve-weight above 0"),
            (false, &["num_workers"], "ImageControlNet, which decodes pictures; here all data are in memory"),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::checks::tests::{Wrong, refused};

    #[test]
    fn defaults_are_the_manuals_and_pass() {
        let config = SenetConfig { data_dir: "data".into(), ..SenetConfig::default() };
        config.check().unwrap();
        assert_eq!(config.identity_dims, crate::loss::IDENTITY_DIMS);
        assert!(SenetConfig::default().check().unwrap_err().to_string().starts_with("--data-dir"));
    }

    #[test]
    fn what_a_run_does_not_use_is_known() {
        let keys = |config: SenetConfig| config.unused().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(SenetConfig::default()), ["num_workers"]);
        let none = SenetConfig { identity_preserve_weight: 0.0, ..SenetConfig::default() };
        assert_eq!(keys(none), ["identity_dims", "num_workers"]);
    }

    #[test]
    fn every_check_names_its_flag_and_value() {
        let good = SenetConfig { data_dir: "data".into(), ..SenetConfig::default() };
        let wrong: &[Wrong<'_, SenetConfig>] = &[
            ("--batch-size", "1", |c| c.batch_size = 1),
            ("--hidden-dim", "20000", |c| c.hidden_dim = 20_000),
            ("--num-layers", "0", |c| c.num_layers = 0),
            ("--gradient-accumulation-steps", "0", |c| c.gradient_accumulation_steps = 0),
            ("--se-reduction", "divisors of --image-dim 512", |c| c.se_reduction = 17),
            ("--se-reduction", "0", |c| c.se_reduction = 0),
            ("--fusion-alpha", "1.5", |c| c.fusion_alpha = 1.5),
            ("--fusion-alpha", "1", |c| c.fusion_alpha = 1.0),
            ("--fusion-alpha", "-0.1", |c| (c.fusion_alpha, c.learnable_fusion) = (-0.1, false)),
            ("--margin", "NaN", |c| c.margin = f64::NAN),
            ("--target-weight", "-1", |c| c.target_weight = -1.0),
            ("--max-yaw", "10", |c| (c.min_yaw, c.max_yaw) = (20.0, 10.0)),
            ("--lr", "0", |c| c.lr = 0.0),
            ("--dropout", "1", |c| c.dropout = 1.0),
            ("--ema", "1", |c| c.ema = 1.0),
            ("--val-ratio", "0", |c| c.val_ratio = 0.0),
            ("--train-ratio", "val-ratio", |c| c.train_ratio = 0.9),
            ("--identity-dims", "312", |c| (c.identity_dims, c.image_dim) = (vec![60, 312], 128)),
            ("--frames-per-person", "5", |c| c.frames_per_person = 5),
            ("--frames-per-person", "32", |c| c.frames_per_person = 32),
        ];
        refused(&good, SenetConfig::check, wrong);
        SenetConfig { fusion_alpha: 1.0, learnable_fusion: false, ..good }.check().unwrap();
    }
}
