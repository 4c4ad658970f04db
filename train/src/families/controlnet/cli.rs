//! Flags of `train controlnet`.

use std::ffi::OsString;

use clap::Args;
use serde::Serialize;

use crate::families::controlnet::settings::{EncoderChoice, PictureLossKind, PoseSource, PoseTarget};
use crate::families::faces::flags::FaceArgs;
use crate::run::flags::{RunArgs, boolean, word};
use crate::run::preview::PreviewFlags;

/// Flags of `train preview controlnet`: those of `train controlnet`, and what to draw.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// The run that is looked at.
    #[command(flatten)]
    pub controlnet: ControlnetArgs,
    /// What to draw: a row for each pair.
    #[command(flatten)]
    pub preview: PreviewFlags,
}

/// Flags of `train controlnet`. Each is a field of [`train::families::controlnet::settings::ControlnetConfig`], which
/// owns the defaults.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct ControlnetArgs {
    /// The run itself.
    #[command(flatten)]
    #[serde(skip)]
    pub run: RunArgs,
    /// What both networks of faces share.
    #[command(flatten)]
    #[serde(flatten)]
    faces: FaceArgs,

    /// Folder of the pictures; that of the data without. Both are tried, with stored paths and bare names.
    #[arg(long, value_name = "DIR")]
    image_dir: Option<String>,
    /// Edge of the pictures in pixels, a multiple of 16.
    #[arg(long, value_name = "PIXELS")]
    image_size: Option<usize>,
    /// Features between encoder and generator.
    #[arg(long, value_name = "N")]
    feature_dim: Option<usize>,
    /// Layers of the control branch.
    #[arg(long, value_name = "N")]
    num_control_layers: Option<usize>,
    /// What reads the source picture.
    #[arg(long, value_parser = word::<EncoderChoice>())]
    encoder: Option<EncoderChoice>,
    /// Freeze ResNet-50.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    freeze_backbone: Option<bool>,
    /// Freeze the generator (first of two stages). A run that continues in another directory unfreezes whatever its
    /// command line does not freeze again.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pub freeze_generator: Option<bool>,
    /// Weights to start from (.pth, .pt, .safetensors): of the network, or of an ImageNet ResNet-50.
    #[arg(long, value_name = "FILE")]
    pre_train: Option<String>,
    /// Weight of the pose's squared error, in the square of the pose's unit.
    #[arg(long)]
    pose_loss_weight: Option<f64>,
    /// What the pose read from the source picture should be.
    #[arg(long, value_parser = word::<PoseTarget>())]
    pose_target: Option<PoseTarget>,
    /// How pictures are compared.
    #[arg(long, value_parser = word::<PictureLossKind>())]
    loss_type: Option<PictureLossKind>,
    /// Weight of the squared difference in combined.
    #[arg(long)]
    mse_weight: Option<f64>,
    /// Weight of the absolute difference in combined.
    #[arg(long)]
    l1_weight: Option<f64>,
    /// Where poses come from.
    #[arg(long, value_parser = word::<PoseSource>())]
    pose_source: Option<PoseSource>,
    /// Pairs whose poses are nearer than this are left out, in degrees.
    #[arg(long, value_name = "DEGREES")]
    min_angle: Option<f64>,
    /// Pairs whose poses are farther apart than this are left out, in degrees.
    #[arg(long, value_name = "DEGREES")]
    max_angle: Option<f64>,
    /// Pairs used, the first ones; 0: all.
    #[arg(long, value_name = "N")]
    max_samples: Option<usize>,
    /// Grey pictures in place of missing ones; without, their pairs are left out.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    allow_missing: Option<bool>,
    /// Cut pictures to the metadata's boxes.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    face_crop: Option<bool>,
    /// What is added to each side of a box, as a share of its size.
    #[arg(long)]
    crop_margin: Option<f64>,
    /// Share of the training people's pairs that is kept out, to measure new poses of known people at the end.
    #[arg(long, value_name = "SHARE")]
    holdout_poses: Option<f64>,
    /// Memory for decoded pictures, in MB; 0: none are kept.
    #[arg(long, value_name = "MB")]
    cache_mb: Option<usize>,
}

/// Puts dashes before flags that were written without, as the manual's shortest command line has them: `epochs 100` is
/// `--epochs 100`. The command has no arguments of another kind.
pub fn dashed(arguments: Vec<OsString>) -> Vec<OsString> {
    if arguments.get(1).is_none_or(|verb| verb != "controlnet") {
        return arguments;
    }
    let names = crate::run::settings::fields(&crate::families::controlnet::settings::ControlnetConfig::default());
    let is_name = |word: &OsString| word.to_str().is_some_and(|word| names.contains_key(&word.replace('-', "_")));
    let mut made: Vec<OsString> = arguments[..2].to_vec();
    let mut rest = arguments.into_iter().skip(2).peekable();
    while let Some(word) = rest.next() {
        let text = word.to_string_lossy().into_owned();
        let bare = is_name(&word);
        match text.strip_prefix("--") {
            _ if bare => made.push(format!("--{}", text.replace('_', "-")).into()),
            Some(flag) if !flag.contains('=') => made.push(word),
            _ => {
                made.push(word);
                continue;
            }
        }
        // What follows a flag is its value, unless it is the next flag.
        if let Some(value) = rest.next_if(|next| !(next.to_string_lossy().starts_with("--") || bare && is_name(next))) {
            made.push(value);
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_names_become_flags_and_values_stay() {
        let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        for (typed, meant) in [
            (
                "train controlnet data_dir a/b epochs 100 lr 1e-4",
                "train controlnet --data-dir a/b --epochs 100 --lr 1e-4",
            ),
            ("train controlnet --data-dir epochs --lr 1", "train controlnet --data-dir epochs --lr 1"),
            ("train controlnet freeze_generator seed 3", "train controlnet --freeze-generator --seed 3"),
            ("train controlnet --use-amp --seed=3 stray", "train controlnet --use-amp --seed=3 stray"),
            ("train reid epochs 3", "train reid epochs 3"),
        ] {
            assert_eq!(dashed(words(typed)), words(meant));
        }
    }
}
