//! Flags of `train reid`.

use clap::Args;
use serde::Serialize;

use crate::families::reid::net::{FeatInference, Gem, HeadKind, Pool};
use crate::families::reid::settings::MOST_LISTS;
use crate::loss::CenterRule;
use crate::nn::attention::AttentionKind;
use crate::nn::resnet::Stem;
use crate::run::flags::{RunArgs, boolean, word};
use crate::run::optim::OptimizerKind;
use crate::run::preview::PreviewFlags;
use crate::run::schedule::Warmup;

/// Flags that only the reference has. They are accepted and then ignored with a note, or refused, as in a settings
/// file.
#[derive(Debug, Args, Serialize)]
struct ReferenceArgs {
    /// GPUs: at most 1, and --device says which.
    #[arg(long = "nGPU", alias = "n-gpu", hide = true, value_parser = clap::value_parser!(u8).range(0..=1))]
    #[serde(rename = "nGPU")]
    n_gpu: Option<u8>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    cpu: Option<String>,
    #[arg(long = "T", hide = true)]
    #[serde(rename = "T")]
    temperature: Option<String>,
    #[arg(long, hide = true)]
    num_anchors: Option<String>,
    #[arg(long, hide = true)]
    act: Option<String>,
    #[arg(long, hide = true)]
    lr_decay: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    reset: Option<String>,
    #[arg(short = 'n', long, hide = true)]
    nep_token: Option<String>,
    #[arg(long, hide = true)]
    nep_id: Option<String>,
    #[arg(long, hide = true)]
    nep_name: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    wandb: Option<String>,
    #[arg(long, hide = true)]
    wandb_name: Option<String>,
    #[arg(long, hide = true)]
    num_classes: Option<usize>,
}

/// Flags of `train preview reid`: those of `train reid`, and what to draw.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// The run that is looked at.
    #[command(flatten)]
    pub reid: ReidArgs,
    /// What to draw: a row for each identity of a batch.
    #[command(flatten)]
    pub preview: PreviewFlags,
}

/// Flags of `train reid`. Each is a field of [`train::families::reid::settings::ReidConfig`], which owns the defaults.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct ReidArgs {
    /// The run itself.
    #[command(flatten)]
    #[serde(skip)]
    pub run: RunArgs,
    /// Evaluate the weights of --pre-train on the test sets, and stop.
    #[arg(long, conflicts_with_all = ["resume", "pre_train_partial"])]
    #[serde(skip)]
    pub test_only: bool,
    /// What only the reference's command lines have.
    #[command(flatten)]
    #[serde(flatten)]
    reference: ReferenceArgs,
    /// Allow weights of another number of classes in --pre-train; the classifiers then start from random values.
    #[arg(long)]
    #[serde(skip)]
    pub pre_train_partial: bool,
    /// Of --pre-train, take the weights of the last step where the file also has a moving average of them (EMA), which
    /// is taken without this.
    #[arg(long)]
    #[serde(skip)]
    pub pre_train_no_ema: bool,

    /// Network
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Folder of the datasets, or of the one dataset.
    #[arg(long, value_name = "DIR", alias = "data-dir")]
    datadir: Option<String>,
    /// Datasets to train on, joined by +: market1501, dukemtmc, cuhk03, msmt17, viper, grid, prid2011, ilids, folders
    /// (sensereid only tests), or tables of your own pictures (.csv, .tsv, .jsonl, .parquet) below --datadir or
    /// anywhere, with the columns path (below the table's folder), identity, camera, split (train, query or gallery)
    /// and, if you like, time; empty: told from the folders.
    #[arg(long, value_name = "NAMES")]
    data_train: Option<String>,
    /// Datasets to evaluate on, joined by +; empty: those of --data-train; none: no evaluation.
    #[arg(long, value_name = "NAMES")]
    data_test: Option<String>,
    /// cuhk03 means the hand-drawn boxes, not the detected ones.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    cuhk03_labeled: Option<bool>,
    /// Dataset `folders`: identities that train, the first in natural order; half of them without.
    #[arg(long, value_name = "N")]
    train_identities: Option<usize>,
    /// Epochs to train; 0: the untrained network is evaluated and saved.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Epochs between evaluations; 0: only after the last.
    #[arg(long, value_name = "N")]
    test_every: Option<usize>,
    /// Identities in a batch (P).
    #[arg(long, value_name = "P")]
    batchid: Option<usize>,
    /// Pictures of each identity in a batch (K).
    #[arg(long, value_name = "K")]
    batchimage: Option<usize>,
    /// Pictures in a batch of evaluation.
    #[arg(long, value_name = "N")]
    batchtest: Option<usize>,
    /// Batches of P identities × K pictures; False: P·K pictures in any order.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    sampler: Option<bool>,
    /// Batches of P × K: pictures of as many cameras as an identity has.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    balance_cameras: Option<bool>,
    /// Loss, weight*name joined by +: CrossEntropy, Focal, Triplet, TripletSemihard, MSLoss, RankedList, CenterLoss.
    #[arg(long, value_name = "EXPRESSION")]
    loss: Option<String>,
    /// Label smoothing (0.1) in the cross entropy.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    if_labelsmooth: Option<bool>,
    /// Margin of Triplet (Euclidean distance; 0: soft), TripletSemihard, RankedList (of unit rows) and MSLoss (cosine).
    #[arg(long)]
    margin: Option<f64>,
    /// How the class centres of CenterLoss follow the features.
    #[arg(long, value_name = "RULE", value_parser = word::<CenterRule>())]
    center_rule: Option<CenterRule>,
    /// Features of each part of the embedding.
    #[arg(long, value_name = "N")]
    feats: Option<usize>,
    /// Height of the network's input in pixels.
    #[arg(long, value_name = "PIXELS")]
    height: Option<usize>,
    /// Width of the network's input in pixels.
    #[arg(long, value_name = "PIXELS")]
    width: Option<usize>,
    /// ResNets: a batch-norm neck, which makes the 2048 channels the embedding; PCB: necks in the heads of the stripes.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    bnneck: Option<bool>,
    /// ResNets: erase a block of the map while training, and pool by the maximum.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    drop_block: Option<bool>,
    /// Height of the dropped block, as a share of the map, above 0 to 1.
    #[arg(long, value_name = "SHARE")]
    h_ratio: Option<f64>,
    /// Width of the dropped block, as a share of the map, above 0 to 1.
    #[arg(long, value_name = "SHARE")]
    w_ratio: Option<f64>,
    /// ResNets with a neck: which features are compared.
    #[arg(long, value_name = "WHERE", value_parser = word::<FeatInference>())]
    feat_inference: Option<FeatInference>,
    /// ResNets without a neck: what reads the pooled map.
    #[arg(long, value_name = "KIND", value_parser = word::<HeadKind>())]
    head: Option<HeadKind>,
    /// ResNets: stride of the last stage, 1 or 2.
    #[arg(long, value_name = "STRIDE")]
    last_stride: Option<usize>,
    /// ResNets: what lies between the first norm and the first stage.
    #[arg(long, value_name = "KIND", value_parser = word::<Stem>())]
    stem: Option<Stem>,
    /// ResNets: pool by a generalised mean.
    #[arg(long, value_name = "KIND", value_parser = word::<Gem>())]
    gem: Option<Gem>,
    /// ResNets: non-local blocks in the second and the third stage.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    non_local: Option<bool>,
    /// PCB: stripes that the map is cut into.
    #[arg(long, value_name = "N")]
    parts: Option<usize>,
    /// PCB: the backbone learns at a tenth of the rate.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    pcb_different_lr: Option<bool>,
    /// MGN: how maps and stripes become vectors.
    #[arg(long, value_name = "HOW", value_parser = word::<Pool>())]
    pool: Option<Pool>,
    /// LMBN, ResNets, PCB, MGN: attention between the blocks, behind the second stage and behind the third (where LMBN
    /// and MGN have branches: behind their trunk).
    #[arg(long, value_name = "KIND", value_parser = word::<AttentionKind>())]
    attention: Option<AttentionKind>,
    /// Optimiser.
    #[arg(long, value_parser = word::<OptimizerKind>())]
    optimizer: Option<OptimizerKind>,
    /// Learning rate.
    #[arg(long)]
    lr: Option<f64>,
    /// Momentum (SGD, RMSprop), 0 to 1.
    #[arg(long)]
    momentum: Option<f64>,
    /// Dampening of the momentum (SGD), 0 to 1.
    #[arg(long)]
    dampening: Option<f64>,
    /// Nesterov momentum (SGD).
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    nesterov: Option<bool>,
    /// Decay of the first moment (ADAM, NADAM), 0 to 1.
    #[arg(long)]
    beta1: Option<f64>,
    /// Decay of the second moment (ADAM, NADAM), 0 to 1.
    #[arg(long)]
    beta2: Option<f64>,
    /// Largest second moment so far instead of the last (ADAM).
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    amsgrad: Option<bool>,
    /// Floor under the second moment's root.
    #[arg(long)]
    epsilon: Option<f64>,
    /// Factor of the learning rate at each milestone.
    #[arg(long)]
    gamma: Option<f64>,
    /// L2 penalty, added to the gradient.
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Milestones: step_40_70 lowers the rate after 40 and after 70 epochs, step never.
    #[arg(long, value_name = "STEPS")]
    decay_type: Option<String>,
    /// Start of the learning rate without a cosine.
    #[arg(long, value_parser = word::<Warmup>())]
    warmup: Option<Warmup>,
    /// Epochs of warm-up.
    #[arg(long, value_name = "N")]
    warmup_epochs: Option<usize>,
    /// Learning rate follows half a cosine.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    cosine_annealing: Option<bool>,
    /// Learning rate warms up, then follows half a cosine.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    w_cosine_annealing: Option<bool>,
    /// Random erasing.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    random_erasing: Option<bool>,
    /// Probability of random erasing, 0 to 1.
    #[arg(long)]
    probability: Option<f64>,
    /// Blank out a random 64×64 square.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    cutout: Option<bool>,
    /// Probability of changed brightness, contrast, saturation and hue (by up to 15, 15, 10 and 10 %, as in fast-reid),
    /// 0 to 1.
    #[arg(long, value_name = "P", visible_alias = "color-jitter")]
    colour_jitter: Option<f64>,
    /// Operations of RandAugment (Cubuk et al. 2020, arXiv:1909.13719) on each picture, 0 to 14; 0: none.
    #[arg(long, value_name = "N")]
    rand_augment: Option<usize>,
    /// Strength of RandAugment's operations, 0 to 30.
    #[arg(long, value_name = "M")]
    rand_magnitude: Option<usize>,
    /// Decay of a moving average of weights and running statistics (0.999 is usual), below 1; 0: none. The average is
    /// evaluated, and is the best and the final network; checkpoints hold the weights of the last step.
    #[arg(long, value_name = "DECAY")]
    ema: Option<f64>,
    /// Epochs at the start in which only the heads learn, for runs from --pre-train. Norms of the backbone go on
    /// following the batches.
    #[arg(long, value_name = "N")]
    freeze_epochs: Option<usize>,
    /// Compute in bfloat16 where the device gains by it (a GPU): weights, updates and losses stay in float32.
    #[arg(long, alias = "amp", num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    use_amp: Option<bool>,
    /// Also report k-reciprocal re-ranking at evaluation.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    re_rank: Option<bool>,
    /// With each evaluation, TensorBoard gets the first 16 queries under the maps that the embedding is read from:
    /// where the network looks.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    activation_map: Option<bool>,
    /// With each evaluation, TensorBoard gets the first N queries, each with the ten entries that it ranks first: right
    /// ones in green frames, wrong ones in red frames; 0: none.
    #[arg(long, value_name = "N", value_parser = |text: &str| terminal::whole(text, 0, MOST_LISTS))]
    ranked_lists: Option<usize>,
    /// Name of the run: its directory is runs/reid/<save>; empty: run- and the time in seconds.
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
    /// Weights to start from (.pth, .pt, .safetensors): of the network, or of its ImageNet backbone.
    #[arg(long, value_name = "FILE")]
    pre_train: Option<String>,
    /// Seed of sampler, transforms and initial weights.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads that decode pictures.
    #[arg(long, value_name = "N", aliases = ["nThread", "num-workers"])]
    n_thread: Option<usize>,
    /// An unreadable picture is an error; otherwise it is replaced or left out, and counted.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    strict: Option<bool>,
    /// Memory for decoded training pictures, in MB; 0: none are kept.
    #[arg(long, value_name = "MB")]
    cache_mb: Option<usize>,
}
