//! LMBN_n, the light multi-branch network of Herzog et al. 2021 (arXiv:2101.10774), on OSNet x1.0: 9.15 M parameters
//! with 751 classes and 512 features, 2.43 G multiply-adds at 384×128.
//!
//! Fields and tuples are arranged so that a parameter's path is its key in the reference's state dictionary.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d};
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor, assert_shape};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::{conv, halving_max_pool};
use crate::nn::init::{Init, Source};
use crate::run::checks::{ConfigError, counts};
use crate::run::settings::fields;

use super::erase::BatchFeatureEraseTop;
use super::head::{BnNeck, BnNeck3};
use super::os_block::{ConvLayer, OsBlock};
use super::{MOST_FEATURES, Network, NetworkSettings, ReidModule, ReidNet, TrainOutput, feats};

/// Channels of OSNet x1.0 after `conv1` … `conv4`.
const CHANNELS: [usize; 4] = [64, 256, 384, 512];

/// Parts of an embedding: global, erased, whole body, upper, lower, two halves of the channels.
const PARTS: usize = 7;

/// Settings of [`LmbnN`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LmbnNSettings {
    /// Features of each part of an embedding.
    pub feats: usize,
}

impl Default for LmbnNSettings {
    fn default() -> Self {
        Self { feats: feats() }
    }
}

impl NetworkSettings for LmbnNSettings {
    fn name(&self) -> &'static str {
        "LMBN_n"
    }

    fn features(&self) -> usize {
        self.feats
    }

    fn check(&self) -> Result<(), ConfigError> {
        counts([("feats", self.feats, 1, MOST_FEATURES)])
    }

    fn flat(&self) -> Map<String, Value> {
        fields(self)
    }

    fn read(&self, flat: Map<String, Value>) -> Result<Network, serde_json::Error> {
        serde_json::from_value(Value::Object(flat)).map(Network::LmbnN)
    }

    fn build(&self, classes: usize, device: &Device) -> ReidNet {
        ReidNet::LmbnN(LmbnN::new(classes, self.feats, device))
    }
}

/// A 1×1 convolution and a halving of the size.
type Reduction = (ConvLayer, AvgPool2d);

/// What follows the trunk: conv3 without its block 0, which is the trunk's last layer (the others keep their places
/// in the keys), conv4 and conv5.
type Branch = ((Option<OsBlock>, OsBlock, Reduction), (OsBlock, OsBlock), ConvLayer);

/// The network. `backone` is spelled as in the reference's keys.
#[derive(Module, Debug)]
pub struct LmbnN {
    backone: (ConvLayer, MaxPool2d, (OsBlock, OsBlock, Reduction), OsBlock),
    global_branch: Branch,
    partial_branch: Branch,
    channel_branch: Branch,
    batch_drop_block: BatchFeatureEraseTop,
    reduction_0: BnNeck3,
    reduction_1: BnNeck3,
    reduction_2: BnNeck3,
    reduction_3: BnNeck3,
    reduction_4: BnNeck3,
    shared: (Conv2d, UnbiasedBatchNorm),
    reduction_ch_0: BnNeck,
    reduction_ch_1: BnNeck,
}

/// The pooled vectors the seven heads read, each `[batch, channels, 1, 1]`, in the order of the parts.
struct Pooled {
    global: Tensor<4>,
    erased: Tensor<4>,
    partial: Tensor<4>,
    upper: Tensor<4>,
    lower: Tensor<4>,
    channels: [Tensor<4>; 2],
}

impl LmbnN {
    /// The network for `classes` training identities and `features` values per part, not yet initialised.
    fn new(classes: usize, features: usize, device: &Device) -> Self {
        let [c0, c1, c2, c3] = CHANNELS;
        let block = |input, output| OsBlock::new(input, output, device);
        let halve = |channels| -> Reduction {
            let pool = AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
            (ConvLayer::pointwise(channels, channels, device), pool)
        };
        let branch = || -> Branch {
            let conv3 = (None, block(c2, c2), halve(c2));
            (conv3, (block(c2, c3), block(c3, c3)), ConvLayer::pointwise(c3, c3, device))
        };
        let reduction = || BnNeck3::new(c3, features, classes, device);
        let conv2 = (block(c0, c1), block(c1, c1), halve(c1));
        Self {
            backone: (ConvLayer::new(3, c0, 7, 2, device), halving_max_pool(), conv2, block(c1, c2)),
            global_branch: branch(),
            partial_branch: branch(),
            channel_branch: branch(),
            batch_drop_block: BatchFeatureEraseTop::new(c3, device),
            reduction_0: reduction(),
            reduction_1: reduction(),
            reduction_2: reduction(),
            reduction_3: reduction(),
            reduction_4: reduction(),
            shared: (conv(c3 / 2, features, 1, 1, 1, device), UnbiasedBatchNorm::new(features, device)),
            reduction_ch_0: BnNeck::new(features, classes, device),
            reduction_ch_1: BnNeck::new(features, classes, device),
        }
    }

    fn pool(&self, images: Tensor<4>) -> Pooled {
        assert_shape!(images, [_, 3, _, _]);
        let trunk = self.trunk(images);
        let (erased, global) = self.batch_drop_block.forward(branch(&self.global_branch, trunk.clone()));
        let partial = branch(&self.partial_branch, trunk.clone());
        let channel = branch(&self.channel_branch, trunk);

        let halves = adaptive_avg_pool2d(partial.clone(), [2, 1]);
        let channel = kernels::global_avg_pool(channel);
        let half = CHANNELS[3] / 2;
        let shared = |part: usize| {
            let (reduce, norm) = &self.shared;
            norm.forward_relu(kernels::conv2d(reduce, channel.clone().narrow(1, part * half, half)))
        };
        Pooled {
            global: kernels::global_avg_pool(global),
            erased: erased.max_dim(3).max_dim(2),
            partial: partial.max_dim(3).max_dim(2),
            upper: halves.clone().narrow(2, 0, 1),
            lower: halves.narrow(2, 1, 1),
            channels: [shared(0), shared(1)],
        }
    }

    fn trunk(&self, images: Tensor<4>) -> Tensor<4> {
        let (conv1, pool, (block0, block1, (reduce, halve)), conv3) = &self.backone;
        let map = pool.forward(conv1.forward(images));
        let map = block1.forward(block0.forward(map));
        conv3.forward(halve.forward(reduce.forward(map)))
    }
}

impl ReidModule for LmbnN {
    fn name(&self) -> &'static str {
        "LMBN_n"
    }

    /// Seven scores, and the metric losses' three features: global, erased, whole body.
    fn forward(&self, images: Tensor<4>, _: [f64; 2]) -> TrainOutput {
        let pooled = self.pool(images);
        let [c0, c1] = pooled.channels;
        let heads = [
            self.reduction_0.forward(pooled.global),
            self.reduction_4.forward(pooled.erased),
            self.reduction_1.forward(pooled.partial),
            self.reduction_2.forward(pooled.upper),
            self.reduction_3.forward(pooled.lower),
            self.reduction_ch_0.forward(c0),
            self.reduction_ch_1.forward(c1),
        ];
        let (scores, before): (Vec<_>, Vec<_>) = heads.into_iter().map(|head| (head.scores, head.before)).unzip();
        TrainOutput { scores, features: before.into_iter().take(3).collect() }
    }

    /// Features after the neck, `[batch, features, 7]`.
    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let pooled = self.pool(images);
        let [c0, c1] = pooled.channels;
        let parts = vec![
            self.reduction_0.embed(pooled.global),
            self.reduction_4.embed(pooled.erased),
            self.reduction_1.embed(pooled.partial),
            self.reduction_2.embed(pooled.upper),
            self.reduction_3.embed(pooled.lower),
            self.reduction_ch_0.embed(c0),
            self.reduction_ch_1.embed(c1),
        ];
        Tensor::stack(parts, 2)
    }

    fn parts(&self) -> usize {
        PARTS
    }

    fn init(&self) -> fn(&str) -> Source {
        source
    }

    fn backbone_key(&self) -> fn(&str) -> Option<String> {
        backbone_key
    }
}

fn branch(((_, block1, (reduce, halve)), (block2, block3), conv5): &Branch, trunk: Tensor<4>) -> Tensor<4> {
    let map = halve.forward(reduce.forward(block1.forward(trunk)));
    conv5.forward(block3.forward(block2.forward(map)))
}

/// How the parameter at `key` starts. Branches and reductions are copies of one another.
fn source(key: &str) -> Source {
    let twin = |prefix: &str, original: &str| key.strip_prefix(prefix).map(|rest| format!("{original}{rest}"));
    let name = twin("partial_branch.", "global_branch.")
        .or_else(|| twin("channel_branch.", "global_branch."))
        .or_else(|| (1..5).find_map(|k| twin(&format!("reduction_{k}."), "reduction_0.")))
        .unwrap_or_else(|| key.to_owned());
    let init = if key.ends_with("classifier.weight") {
        Init::Normal { std: 0.001 }
    } else if key.contains("reduction") || key.starts_with("shared") || key.starts_with("batch_drop_block") {
        Init::UniformFanIn
    } else {
        Init::NormalFanOut
    };
    Source { name, init }
}

/// The key, in an ImageNet OSNet x1.0, of the weights that start the parameter at `key`; none for the heads.
fn backbone_key(key: &str) -> Option<String> {
    const TRUNK: [(&str, &str); 3] = [("backone.0.", "conv1."), ("backone.2.", "conv2."), ("backone.3.", "conv3.0.")];
    const BRANCH: [(&str, &str); 3] = [("0.", "conv3."), ("1.", "conv4."), ("2.", "conv5.")];
    let swap = |key: &str, table: &[(&str, &str)]| {
        table.iter().find_map(|(own, osnet)| key.strip_prefix(own).map(|rest| format!("{osnet}{rest}")))
    };
    let in_branch = ["global_branch.", "partial_branch.", "channel_branch."]
        .iter()
        .find_map(|prefix| key.strip_prefix(prefix).and_then(|rest| swap(rest, &BRANCH)));
    in_branch.or_else(|| swap(key, &TRUNK))
}
