//! Flags that both networks of faces share.

use clap::Args;
use serde::Serialize;

use crate::families::faces::pose::PoseUnit;
use crate::run::flags::{boolean, word};

/// Flags of `train senet` and `train controlnet` alike. Each is a field of both families' settings, which own the
/// defaults.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct FaceArgs {
    /// Folder of the face set: front_metadata.json, front_keypoints.npy, the same for video; senet also *_feature.npy.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Frames in a batch, at least 2.
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Threads that decode pictures; SENet's embeddings are in memory and take no other number than the default.
    #[arg(long, value_name = "N")]
    num_workers: Option<usize>,
    /// Angles of a pose.
    #[arg(long, value_name = "N")]
    pose_dim: Option<usize>,
    /// Unit of angles inside the network: degrees, as in the reference, or right-angles, with which embeddings and
    /// pictures count as much as the pose and are learned much sooner.
    #[arg(long, value_name = "UNIT", value_parser = word::<PoseUnit>())]
    pose_unit: Option<PoseUnit>,
    /// Share of values dropped in training, 0 to below 1.
    #[arg(long)]
    dropout: Option<f64>,
    /// Epochs of the whole run; 0: the untrained network is evaluated and saved.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Learning rate of the first epoch; it follows half a cosine down to 1e-6.
    #[arg(long)]
    lr: Option<f64>,
    /// Decoupled weight decay.
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Decay of a moving average of weights and running statistics (0.999 is usual), below 1; 0: none. The average is
    /// evaluated, and is the best and the final network; checkpoints hold the weights of the last step.
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Mixed precision, where the device computes faster in it.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    use_amp: Option<bool>,
    /// Batches averaged into one step.
    #[arg(long, value_name = "N")]
    gradient_accumulation_steps: Option<usize>,
    /// Epochs between checkpoints that stay, whatever --keep-checkpoints says; 0: none.
    #[arg(long, value_name = "N")]
    save_interval: Option<usize>,
    /// Folder of TensorBoard's file.
    #[arg(long, value_name = "DIR")]
    log_dir: Option<String>,
    /// Share of the people that train.
    #[arg(long)]
    train_ratio: Option<f64>,
    /// Share of the people that validate; the rest tests.
    #[arg(long)]
    val_ratio: Option<f64>,
    /// Seed of split, batches, dropout and initial weights.
    #[arg(long)]
    seed: Option<u64>,
}
