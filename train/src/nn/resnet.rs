//! ResNet-50 and its kin, with or without a classifier, He et al. 2015 (arXiv:1512.03385), the stride in the 3×3 as in
//! torchvision, whose keys the field names are; and IBN-a, Pan et al. 2018 (arXiv:1807.09441), with the keys of
//! IBN-Net.
#![expect(non_snake_case, reason = "non-local blocks are called `NL_2`, `NL_3` in the published state dictionaries")]

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, assert_shape};

use super::attention::{self, Attention, AttentionKind, attend};
use super::batch_norm::UnbiasedBatchNorm;
use super::conv::{conv, halving_max_pool, unpadded_max_pool};
use super::init::Init;
use super::instance_norm::MapNorm;
use super::non_local::{self, NonLocal};
use crate::words::words;

words! {
    /// What lies between the first norm of a ResNet and its first stage.
    Stem (Padded) {
        /// A ReLU, and a pool with a border of one pixel (torchvision).
        Padded = "padded",
        /// A ReLU, and a pool without a border (fast-reid).
        Unpadded = "unpadded",
        /// The pool with its border and no ReLU (the scripts of "Bag of tricks").
        NoRelu = "no-relu",
    }
}

/// Channels of [`ResNet::forward_features`].
pub const RESNET_FEATURES: usize = 2048;

/// Classes of ImageNet.
const IMAGENET: usize = 1000;

/// Widths inside the bottlenecks of the four stages; their outputs are four times as wide.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];

/// Channels behind each stage.
pub(crate) const CHANNELS: [usize; 4] = [4 * WIDTHS[0], 4 * WIDTHS[1], 4 * WIDTHS[2], RESNET_FEATURES];

/// Bottlenecks of each stage of ResNet-50.
pub const RESNET50: [usize; 4] = [3, 4, 6, 3];

/// Bottlenecks of each stage of ResNet-101.
pub const RESNET101: [usize; 4] = [3, 4, 23, 3];

/// The first `count` blocks of stage `k`, from 0, of which the first has this stride.
pub(crate) fn stage<N: MapNorm>(k: usize, count: usize, stride: usize, device: &Device) -> Vec<Bottleneck<N>> {
    let before = if k == 0 { 64 } else { CHANNELS[k - 1] };
    let block = |block: usize| match block {
        0 => Bottleneck::new(before, WIDTHS[k], stride, device),
        _ => Bottleneck::new(CHANNELS[k], WIDTHS[k], 1, device),
    };
    (0..count).map(block).collect()
}

/// 1×1, 3×3, 1×1 and a shortcut. The first norm is that of IBN-a in some networks.
#[derive(Module, Debug)]
pub struct Bottleneck<N = UnbiasedBatchNorm> {
    conv1: Conv2d,
    bn1: N,
    conv2: Conv2d,
    bn2: UnbiasedBatchNorm,
    conv3: Conv2d,
    bn3: UnbiasedBatchNorm,
    downsample: Option<(Conv2d, UnbiasedBatchNorm)>,
}

impl<N: MapNorm> Bottleneck<N> {
    /// From `input` channels to `4 · width`; the shortcut has a projection where shapes differ.
    pub fn new(input: usize, width: usize, stride: usize, device: &Device) -> Self {
        let output = 4 * width;
        let shortcut = || (conv(input, output, 1, stride, 1, device), UnbiasedBatchNorm::new(output, device));
        Self {
            conv1: conv(input, width, 1, 1, 1, device),
            bn1: N::of_channels(width, device),
            conv2: conv(width, width, 3, stride, 1, device),
            bn2: UnbiasedBatchNorm::new(width, device),
            conv3: conv(width, output, 1, 1, 1, device),
            bn3: UnbiasedBatchNorm::new(output, device),
            downsample: (input != output || stride != 1).then(shortcut),
        }
    }

    /// The output of the block.
    ///
    /// # Shapes
    /// - `input`: `[batch, input, height, width]`
    /// - returns: `[batch, 4 · width, height / stride, width / stride]`, sizes rounded up
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let map = self.bn1.of_map_relu(kernels::conv2d(&self.conv1, input.clone()));
        let map = self.bn2.forward_relu(kernels::conv2d(&self.conv2, map));
        let map = self.bn3.forward(kernels::conv2d(&self.conv3, map));
        let shortcut = match &self.downsample {
            Some((project, norm)) => norm.forward(kernels::conv2d(project, input)),
            None => input,
        };
        kernels::add_relu(map, shortcut)
    }
}

/// A map through one block after another.
pub(crate) fn through<N: MapNorm>(blocks: &[Bottleneck<N>], map: Tensor<4>) -> Tensor<4> {
    blocks.iter().fold(map, |map, block| block.forward(map))
}

/// A map through the blocks of a stage, and through a non-local block behind each of the last.
fn through_stage<N: MapNorm>(blocks: &[Bottleneck<N>], non_local: &[NonLocal], map: Tensor<4>) -> Tensor<4> {
    let plain = blocks.len() - non_local.len();
    let map = through(&blocks[..plain], map);
    let last = blocks[plain..].iter().zip(non_local);
    last.fold(map, |map, (block, non_local)| non_local.forward(block.forward(map)))
}

/// The trunk: what torchvision's `resnet50` is, by default without `fc`. `N` is the first norm of the bottlenecks of
/// all stages but the last.
#[derive(Module, Debug)]
pub struct ResNet<N = UnbiasedBatchNorm> {
    conv1: Conv2d,
    bn1: UnbiasedBatchNorm,
    maxpool: MaxPool2d,
    layer1: Vec<Bottleneck<N>>,
    layer2: Vec<Bottleneck<N>>,
    layer3: Vec<Bottleneck<N>>,
    layer4: Vec<Bottleneck>,
    /// Behind the last blocks of the second stage, if there is any.
    NL_2: Vec<NonLocal>,
    /// Behind the last blocks of the third stage, if there is any.
    NL_3: Vec<NonLocal>,
    /// Behind the second and the third stage, if there is any.
    attention: Vec<Attention>,
    fc: Option<Linear>,
    #[module(skip)]
    stem: Stem,
}

impl<N: MapNorm> ResNet<N> {
    /// The trunk with these bottlenecks in its stages, not initialised; `last_stride` is that of the last stage: 2, or
    /// 1 for a map of twice the size as in re-ID.
    pub fn new(blocks: [usize; 4], last_stride: usize, device: &Device) -> Self {
        Self {
            conv1: conv(3, 64, 7, 2, 1, device),
            bn1: UnbiasedBatchNorm::new(64, device),
            maxpool: halving_max_pool(),
            layer1: stage(0, blocks[0], 1, device),
            layer2: stage(1, blocks[1], 2, device),
            layer3: stage(2, blocks[2], 2, device),
            layer4: stage(3, blocks[3], last_stride, device),
            NL_2: Vec::new(),
            NL_3: Vec::new(),
            attention: Vec::new(),
            fc: None,
            stem: Stem::Padded,
        }
    }

    /// The trunk with another stem.
    pub(crate) fn with_stem(self, stem: Stem) -> Self {
        let maxpool = if stem == Stem::Unpadded { unpadded_max_pool() } else { halving_max_pool() };
        Self { maxpool, stem, ..self }
    }

    /// The trunk with a non-local block behind the last half of the blocks of the second stage, and behind about as
    /// many of the third: 2 and 3 in ResNet-50, 2 and 9 in ResNet-101, as in fast-reid.
    pub(crate) fn with_non_local(self, device: &Device) -> Self {
        let third = if self.layer3.len() == RESNET101[2] { 9 } else { self.layer3.len() / 2 };
        let blocks = |count: usize, stage: usize| (0..count).map(|_| NonLocal::new(CHANNELS[stage], device)).collect();
        Self { NL_2: blocks(self.layer2.len() / 2, 1), NL_3: blocks(third, 2), ..self }
    }

    /// The trunk with ImageNet's classifier, which nothing reads, so that state dictionaries with one can be loaded and
    /// saved.
    pub(crate) fn with_classifier(self, device: &Device) -> Self {
        Self { fc: Some(LinearConfig::new(RESNET_FEATURES, IMAGENET).init(device)), ..self }
    }

    /// The trunk with attention behind the second and the third stage.
    pub(crate) fn with_attention(self, kind: AttentionKind, device: &Device) -> Self {
        Self { attention: Attention::each(kind, [CHANNELS[1], CHANNELS[2]], device), ..self }
    }

    /// The map of the last stage.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, height, width]`
    /// - returns: `[batch, 2048, height / 32, width / 32]`, or sixteenths if the last stride is 1; sizes rounded up
    ///
    /// # Panics
    /// If the second axis is not 3.
    pub fn forward_features(&self, images: Tensor<4>) -> Tensor<4> {
        assert_shape!(images, [_, 3, _, _]);
        let map = kernels::conv2d(&self.conv1, images);
        let map = match self.stem {
            Stem::Padded | Stem::Unpadded => self.bn1.forward_relu(map),
            Stem::NoRelu => self.bn1.forward(map),
        };
        let map = through(&self.layer1, self.maxpool.forward(map));
        let map = attend(&self.attention, 0, through_stage(&self.layer2, &self.NL_2, map));
        let map = attend(&self.attention, 1, through_stage(&self.layer3, &self.NL_3, map));
        through(&self.layer4, map)
    }
}

/// How the parameter at `key` of a trunk starts.
pub(crate) fn init(key: &str) -> Init {
    match key.split('.').next() {
        Some("fc") => Init::UniformFanIn,
        Some("attention") => attention::init(key),
        Some("NL_2" | "NL_3") => non_local::init(key),
        _ => Init::NormalFanOut,
    }
}

/// The key, in a classifier of torchvision or IBN-Net, of the weights that start the parameter at `key` of a trunk;
/// none for attention and non-local blocks, which that classifier is without.
pub(crate) fn classifier_key(key: &str) -> Option<String> {
    let own = ["attention.", "NL_2.", "NL_3."];
    (!own.iter().any(|own| key.starts_with(own))).then(|| key.to_owned())
}
