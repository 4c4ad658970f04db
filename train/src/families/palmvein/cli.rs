//! Flags of `train palmvein`.

use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand};
use datasets::paired::{PairLayout, PairOptions, SplitRule};
use serde::Serialize;

use crate::device::DeviceName;
use crate::families::palmvein::data::roi::Hang;
use crate::families::palmvein::net::{Branch, Mixer, Parts};
use crate::families::palmvein::{FusionKind, Stage1Loss};
use crate::loss::{FusionMode, Mining};
use crate::run::flags::{Format, RunArgs, boolean, word};
use crate::run::preview::PreviewFlags;
use crate::words::words;

/// The steps of palm-vein recognition.
#[derive(Debug, Args)]
pub struct PalmveinArgs {
    /// Which step.
    #[command(subcommand)]
    pub command: PalmveinCommand,
}

/// The steps of palm-vein recognition.
#[derive(Debug, Subcommand)]
pub enum PalmveinCommand {
    /// Train backbones, each by itself on its own modality.
    #[command(args_override_self = true)]
    Stage1(Box<Stage1Args>),
    /// Train the head on the backbones of stage 1, which are frozen or train along.
    #[command(args_override_self = true)]
    Stage2(Box<Stage2Args>),
    /// Train the head with parts left out, and compare on the test pairs.
    #[command(args_override_self = true)]
    Ablate(Box<AblateArgs>),
    /// Cut aligned palms out of pictures of whole hands, with a contact sheet to check them by eye.
    Roi(RoiArgs),
}

/// How pictures of pairs are named.
#[derive(Debug, Clone, Args, Serialize)]
pub struct NamingArgs {
    /// Layout of the pairs: auto, plain, casia, polyu, tongji, manifest.
    #[arg(long)]
    layout: Option<PairLayout>,
    /// Folder or spectrum of the palm pictures, such as Red or WHT; the layout's without.
    #[arg(long = "palm-band", visible_alias = "palm", value_name = "NAME")]
    palm: Option<String>,
    /// Folder or spectrum of the vein pictures, such as NIR or 940; the layout's without.
    #[arg(long = "vein-band", visible_alias = "vein", value_name = "NAME")]
    vein: Option<String>,
    /// Regular expression over relative paths with the groups subject, hand, band, index and session; the layout's
    /// without.
    #[arg(long, value_name = "REGEX")]
    pattern: Option<String>,
}

impl NamingArgs {
    /// The same, where no settings are.
    pub fn options(&self) -> PairOptions {
        let (palm, vein, pattern) = (self.palm.clone(), self.vein.clone(), self.pattern.clone());
        PairOptions { layout: self.layout.unwrap_or_default(), palm, vein, pattern, ..PairOptions::default() }
    }
}

/// Flags of both stages. Each is a field of both stages' settings, which own the defaults.
#[derive(Debug, Clone, Args, Serialize)]
pub struct CommonArgs {
    /// Folder of the pairs.
    #[arg(long, value_name = "DIR", alias = "data-dir")]
    datadir: Option<String>,
    /// How they are named.
    #[command(flatten)]
    #[serde(flatten)]
    naming: NamingArgs,
    /// What parts the test pairs from the others: people (other people test), pairs, session.
    #[arg(long)]
    split: Option<SplitRule>,
    /// Share of the pairs that train.
    #[arg(long, value_name = "SHARE")]
    train_share: Option<f64>,
    /// Share of the pairs that choose the best network; the rest tests.
    #[arg(long, value_name = "SHARE")]
    val_share: Option<f64>,
    /// Side of the network's input in pixels, 32 or more.
    #[arg(long, value_name = "PIXELS")]
    img_size: Option<usize>,
    /// Channels of the EfficientViT's stages.
    #[arg(long, action = ArgAction::Set, value_delimiter = ',', value_name = "A,B,C")]
    vit_dims: Option<Vec<usize>>,
    /// Blocks of the EfficientViT's stages.
    #[arg(long, action = ArgAction::Set, value_delimiter = ',', value_name = "A,B,C")]
    vit_depths: Option<Vec<usize>>,
    /// Attention heads of the EfficientViT's stages.
    #[arg(long, action = ArgAction::Set, value_delimiter = ',', value_name = "A,B,C")]
    vit_heads: Option<Vec<usize>>,
    /// Width of queries and keys of the EfficientViT's stages.
    #[arg(long, action = ArgAction::Set, value_delimiter = ',', value_name = "A,B,C")]
    vit_key_dims: Option<Vec<usize>>,
    /// Mixer of the EfficientViT.
    #[arg(long, value_parser = word::<Mixer>())]
    mixer: Option<Mixer>,
    /// Channels of the ConvNeXt's stages.
    #[arg(long, action = ArgAction::Set, value_delimiter = ',', value_name = "A,B,C,D")]
    cnn_dims: Option<Vec<usize>>,
    /// Blocks of the ConvNeXt's stages.
    #[arg(long, action = ArgAction::Set, value_delimiter = ',', value_name = "A,B,C,D")]
    cnn_depths: Option<Vec<usize>>,
    /// Share of samples that skip the ConvNeXt's last block while it trains.
    #[arg(long, value_name = "SHARE")]
    drop_path: Option<f64>,
    /// Start of the ConvNeXt's scale per channel; 0: none.
    #[arg(long, value_name = "SCALE")]
    layer_scale: Option<f64>,
    /// Augmentation: largest rotation, in degrees.
    #[arg(long, value_name = "DEGREES")]
    rotation: Option<f64>,
    /// Augmentation: largest translation, as a share of a side.
    #[arg(long, value_name = "SHARE")]
    translation: Option<f64>,
    /// Augmentation: largest change of brightness.
    #[arg(long, value_name = "SHARE")]
    brightness: Option<f64>,
    /// Augmentation: largest change of contrast.
    #[arg(long, value_name = "SHARE")]
    contrast: Option<f64>,
    /// Move both pictures of a pair alike.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    shared_geometry: Option<bool>,
    /// Epochs between evaluations; 0: only after the last.
    #[arg(long, value_name = "N")]
    test_every: Option<usize>,
    /// Pairs in a batch of evaluation.
    #[arg(long, value_name = "N")]
    batchtest: Option<usize>,
    /// Decay of a moving average of weights and running statistics (0.999 is usual), below 1; 0: none. The average is
    /// evaluated, and is the best and the final network; checkpoints hold the weights of the last step.
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Largest global norm of a step's gradients.
    #[arg(long, value_name = "NORM")]
    clip: Option<f64>,
    /// Seed of split, sampler, transforms and initial weights.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads that decode pictures.
    #[arg(long, value_name = "N", alias = "num-workers")]
    n_thread: Option<usize>,
    /// An unreadable picture is an error; otherwise it is replaced or left out, and counted.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    strict: Option<bool>,
    /// Memory for decoded pictures, in MB; 0: none are kept.
    #[arg(long, value_name = "MB")]
    cache_mb: Option<usize>,
    /// Name of the run: its directory is runs/palmvein/<save>.
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
    /// Epochs; 0: the untrained network is evaluated and saved.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Anchors (stage 1) or pairs (stage 2) in a batch.
    #[arg(long, value_name = "N", alias = "batch-size")]
    batch: Option<usize>,
    /// Learning rate at the start, in stage 2 of the head; it follows half a cosine to 0.
    #[arg(long, alias = "head-lr")]
    lr: Option<f64>,
    /// L2 penalty, added to the gradient.
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Evaluations without a better EER at which the run ends; 0: it does not.
    #[arg(long, value_name = "N")]
    patience: Option<usize>,
    /// What counts as a better EER.
    #[arg(long, value_name = "EER")]
    min_delta: Option<f64>,
}

words! {
    /// Which branches stage 1 trains.
    Branches {
        /// Global, palm.
        VitPalm = "vit-palm",
        /// Global, vein.
        VitVein = "vit-vein",
        /// Local, palm.
        CnnPalm = "cnn-palm",
        /// Local, vein.
        CnnVein = "cnn-vein",
        /// The four, one after the other.
        All = "all",
    }
}

impl From<Branch> for Branches {
    fn from(branch: Branch) -> Self {
        match branch {
            Branch::VitPalm => Self::VitPalm,
            Branch::VitVein => Self::VitVein,
            Branch::CnnPalm => Self::CnnPalm,
            Branch::CnnVein => Self::CnnVein,
        }
    }
}

/// Flags of `train palmvein stage1`. Each is a field of [`train::families::palmvein::Stage1Config`], which owns the
/// defaults.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Stage1Args {
    /// The run itself.
    #[command(flatten)]
    #[serde(skip)]
    pub run: RunArgs,
    /// The branch to train, in a folder of its own below the run: vit_palm, vit_vein, cnn_palm, cnn_vein.
    #[arg(long, value_parser = word::<Branches>())]
    pub branch: Option<Branches>,
    /// What both stages share.
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonArgs,
    /// Loss; the reference's is triplet with --mining hard, which collapses on small data.
    #[arg(long, value_parser = word::<Stage1Loss>())]
    loss: Option<Stage1Loss>,
    /// Margin of the triplets, in cosine distance.
    #[arg(long)]
    margin: Option<f64>,
    /// Triplets the mean is taken over: those drawn that violate the margin (hard), all drawn (none), or of every
    /// picture in the batch the hardest, with an identity term of every picture (batch-hard).
    #[arg(long, value_parser = word::<Mining>())]
    mining: Option<Mining>,
    /// Weight of the identity term in triplet+identity.
    #[arg(long, value_name = "WEIGHT")]
    identity_weight: Option<f64>,
    /// Positives and negatives from either modality, as the reference does.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    cross_modal: Option<bool>,
    /// Weights to start from (.pth, .pt, .safetensors).
    #[arg(long, value_name = "FILE")]
    pre_train: Option<String>,
}

/// Flags of stage 2's settings. Each is a field of [`train::families::palmvein::Stage2Config`], which owns the
/// defaults.
#[derive(Debug, Clone, Args, Serialize)]
pub struct Stage2Flags {
    /// What both stages share.
    #[command(flatten)]
    #[serde(flatten)]
    common: CommonArgs,
    /// Stage 1: its run directory, or a folder of <branch>_phase1_best.pth.
    #[arg(long, value_name = "DIR")]
    stage1: Option<String>,
    /// Stage-1 weights of the global palm branch, instead of those in --stage1.
    #[arg(long, value_name = "FILE")]
    vit_palm: Option<String>,
    /// Stage-1 weights of the global vein branch.
    #[arg(long, value_name = "FILE")]
    vit_vein: Option<String>,
    /// Stage-1 weights of the local palm branch.
    #[arg(long, value_name = "FILE")]
    cnn_palm: Option<String>,
    /// Stage-1 weights of the local vein branch.
    #[arg(long, value_name = "FILE")]
    cnn_vein: Option<String>,
    /// Train everything in one go from random weights, without stage 1.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    from_scratch: Option<bool>,
    /// Leave the backbones as stage 1 made them; False: they train along at --backbone-lr.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    freeze_stage1: Option<bool>,
    /// Epoch from which frozen backbones train along; 0: none.
    #[arg(long, value_name = "N")]
    unfreeze_epoch: Option<usize>,
    /// Local fusion: per channel of vectors (up to about 5,000 pictures), or per place of maps.
    #[arg(long, value_parser = word::<FusionKind>())]
    mode: Option<FusionKind>,
    /// The whole head, or an ablation.
    #[arg(long, value_parser = word::<Parts>())]
    parts: Option<Parts>,
    /// Terms of the loss: simple, +0.1 consistency, +0.05 attention, +0.01 centres.
    #[arg(long, value_parser = word::<FusionMode>())]
    loss_mode: Option<FusionMode>,
    /// Palm and vein through the same backbones.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    share_backbones: Option<bool>,
    /// Probability that a training pair loses one of its pictures; the model then bears a missing modality.
    #[arg(long, value_name = "P")]
    modality_dropout: Option<f64>,
    /// Width of the embedding's global half.
    #[arg(long, value_name = "N")]
    out_dim_global: Option<usize>,
    /// Width of the embedding's local half.
    #[arg(long, value_name = "N")]
    out_dim_local: Option<usize>,
    /// ArcFace's scale; 32 to 64 is usual.
    #[arg(long, value_name = "S")]
    arcface_s: Option<f64>,
    /// ArcFace's margin in radians; 0.3 to 0.5 is usual, less for little data.
    #[arg(long, value_name = "M")]
    arcface_m: Option<f64>,
    /// ArcFace's margin only below 90 degrees.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    easy_margin: Option<bool>,
    /// Label smoothing of the classification.
    #[arg(long, value_name = "SHARE")]
    label_smoothing: Option<f64>,
    /// Learning rate of the backbones at the start, where they train.
    #[arg(long)]
    backbone_lr: Option<f64>,
}

/// Flags of `train palmvein stage2`.
#[derive(Debug, Args, Serialize)]
pub struct Stage2Args {
    /// The run itself.
    #[command(flatten)]
    #[serde(skip)]
    pub run: RunArgs,
    /// Settings.
    #[command(flatten)]
    #[serde(flatten)]
    pub flags: Stage2Flags,
}

/// Flags of `train palmvein ablate`.
#[derive(Debug, Args)]
pub struct AblateArgs {
    /// Settings of every run, as for stage2.
    #[command(flatten)]
    pub flags: Stage2Flags,
    /// Settings from a YAML or TOML file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of the runs and of table.md, table.csv and table.json.
    #[arg(short, long, value_name = "DIR", default_value = "runs/palmvein/ablation")]
    pub output: PathBuf,
    /// Heads to compare; all without.
    #[arg(long, action = ArgAction::Set, value_delimiter = ',', value_name = "NAMES")]
    pub ablation: Vec<String>,
    /// Runs of each head, by seeds that follow one another.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub seeds: u64,
    /// Replace the comparison in --output.
    #[arg(long)]
    pub overwrite: bool,
    /// Where to compute: cpu, auto (a GPU if there is one), cuda:0, wgpu. A GPU's back end must be compiled in.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceName,
    /// Form of the results on stdout.
    #[arg(long, value_parser = word::<Format>(), default_value_t = Format::Table)]
    pub format: Format,
}

/// Flags of `train preview palmvein`.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// Which stage's pictures.
    #[command(subcommand)]
    pub command: PreviewCommand,
}

/// What `train preview palmvein` can draw.
#[derive(Debug, Subcommand)]
pub enum PreviewCommand {
    /// A row for each triplet: anchor, positive, negative.
    Stage1(Box<Stage1Preview>),
    /// A row for each pair: palm and vein.
    Stage2(Box<Stage2Preview>),
}

/// Flags of `train preview palmvein stage1`.
#[derive(Debug, Args)]
pub struct Stage1Preview {
    /// The run that is looked at.
    #[command(flatten)]
    pub stage1: Stage1Args,
    /// What to draw: a row for each triplet.
    #[command(flatten)]
    pub preview: PreviewFlags,
}

/// Flags of `train preview palmvein stage2`.
#[derive(Debug, Args)]
pub struct Stage2Preview {
    /// The run that is looked at.
    #[command(flatten)]
    pub stage2: Stage2Args,
    /// What to draw: a row for each pair.
    #[command(flatten)]
    pub preview: PreviewFlags,
}

/// Flags of `train palmvein roi`.
#[derive(Debug, Args)]
pub struct RoiArgs {
    /// Folder of pairs: whole hands, bright on a dark ground, fingers spread, the arm reaching the picture's edge.
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Folder to write, a data set for stage1 and stage2: palm/, vein/, manifest.csv, and contact_sheet.png.
    #[arg(short, long, value_name = "DIR")]
    pub output: PathBuf,
    /// Height and width of the palms in pixels.
    #[arg(long, default_value_t = 128, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(16..=1024))]
    pub size: u32,
    /// How the pictures are named.
    #[command(flatten)]
    pub naming: NamingArgs,
    /// Look for the hand on the vein picture instead of the palm picture; both are cut by the same square.
    #[arg(long)]
    pub from_vein: bool,
    /// Side of the square, in distances between the outer finger valleys.
    #[arg(long, default_value_t = Hang::default().side, value_name = "RATIO", value_parser = ratio)]
    pub side: f32,
    /// From the line through the valleys to the square's centre, in the same unit.
    #[arg(long, default_value_t = Hang::default().offset, value_name = "RATIO", value_parser = ratio)]
    pub offset: f32,
    /// Write into a folder that holds files already.
    #[arg(long)]
    pub overwrite: bool,
    /// Form of the results on stdout.
    #[arg(long, value_parser = word::<Format>(), default_value_t = Format::Table)]
    pub format: Format,
}

fn ratio(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.1..=5.0).contains(&value) => Ok(value),
        _ => Err("0.1 to 5 are allowed".into()),
    }
}
