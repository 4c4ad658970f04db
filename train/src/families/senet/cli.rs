//! Flags of `train senet`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use serde::Serialize;

use crate::families::faces::flags::FaceArgs;
use crate::families::senet::net::ActivationKind;
use crate::run::flags::{Format, RunArgs, boolean, word};

/// Flags of `train senet`. Each is a field of [`train::families::senet::settings::SenetConfig`], which owns the
/// defaults.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "snake_case")]
#[command(args_conflicts_with_subcommands = true)]
pub struct SenetArgs {
    /// What to do instead of training.
    #[command(subcommand)]
    #[serde(skip)]
    pub verb: Option<SenetVerb>,
    /// The run itself.
    #[command(flatten)]
    #[serde(skip)]
    pub run: RunArgs,
    /// What both networks of faces share.
    #[command(flatten)]
    #[serde(flatten)]
    faces: FaceArgs,

    /// Values of an embedding.
    #[arg(long, value_name = "N")]
    image_dim: Option<usize>,
    /// Width of the fusion layers.
    #[arg(long, value_name = "N")]
    hidden_dim: Option<usize>,
    /// Depth of the network, at least 1.
    #[arg(long, value_name = "N")]
    num_layers: Option<usize>,
    /// Activation of the fusion layers.
    #[arg(long, value_parser = word::<ActivationKind>())]
    activation: Option<ActivationKind>,
    /// What the gates' hidden layer divides the embedding by.
    #[arg(long, value_name = "N")]
    se_reduction: Option<usize>,
    /// Weight of the identity branch at the start, 0 to 1.
    #[arg(long)]
    fusion_alpha: Option<f64>,
    /// Whether that weight is trained.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    learnable_fusion: Option<bool>,
    /// Gates from the batch's mean; such a network cannot be exported.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    use_batch_stat: Option<bool>,
    /// Weight of the term that keeps the identity dimensions.
    #[arg(long)]
    identity_preserve_weight: Option<f64>,
    /// Identity dimensions joined by commas; nothing: none.
    #[arg(long, value_name = "DIMS", num_args = 0.., action = ArgAction::Set, value_delimiter = ',')]
    identity_dims: Option<Vec<usize>>,
    /// Weight of 1 − cosine of frontalised and true frontal embedding; the reference has no such term.
    #[arg(long)]
    target_weight: Option<f64>,
    /// Weight of the squared error of the frontal pose; the reference has no such term.
    #[arg(long)]
    front_pose_weight: Option<f64>,
    /// Margin of the triplet loss (Euclidean distance).
    #[arg(long)]
    margin: Option<f64>,
    /// Factor of triplets whose positive is more than 45 degrees away.
    #[arg(long)]
    alpha: Option<f64>,
    /// Factor of triplets whose negative is less than 15 degrees away.
    #[arg(long)]
    beta: Option<f64>,
    /// Negatives within these degrees are chosen by similarity.
    #[arg(long, value_name = "DEGREES")]
    angle_threshold: Option<f64>,
    /// Take differences of angles the short way round.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    wrap_angles: Option<bool>,
    /// Frames of one person in a batch, at least 2; 0: rows in any order.
    #[arg(long, value_name = "K")]
    frames_per_person: Option<usize>,
    /// Leave out frames whose first angle is farther from 0.
    #[arg(long, value_name = "DEGREES")]
    max_yaw: Option<f64>,
    /// Leave out frames whose first angle is nearer to 0.
    #[arg(long, value_name = "DEGREES")]
    min_yaw: Option<f64>,
}

/// What `train senet` can do besides training.
#[derive(Debug, Subcommand)]
pub enum SenetVerb {
    /// Find the dimensions that carry identity: those whose values in frames and in frontal pictures correlate most.
    Analyse(AnalyseArgs),
}

/// Flags of `train senet analyse`.
#[derive(Debug, Args)]
pub struct AnalyseArgs {
    /// Folder of the face set.
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Dimensions to name, best first.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub top: usize,
    /// Form of the results on stdout.
    #[arg(long, value_parser = word::<Format>(), default_value_t = Format::Table)]
    pub format: Format,
}
