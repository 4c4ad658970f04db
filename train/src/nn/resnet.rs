//! ResNet-50 and its kin, with or without a classifier, He et al. 2015 (arXiv:1512.03385), the stride in the 3×3 as in
//! torchvision, whose keys the field names are; and IBN-a, Pan et al. 2018 (arXiv:1807.09441), with the keys of
//! IBN-Net.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, assert_shape};

use super::attention::{self, Attention, AttentionKind, attend};
use super::batch_norm::UnbiasedBatchNorm;
use super::conv::{conv, halving_max_pool};
use super::init::Init;
use super::instance_norm::MapNorm;

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
    /// Behind the second and the third stage, if there is any.
    attention: Vec<Attention>,
    fc: Option<Linear>,
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
            attention: Vec::new(),
            fc: None,
        }
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
        let map = self.maxpool.forward(self.bn1.forward_relu(kernels::conv2d(&self.conv1, images)));
        let map = attend(&self.attention, 0, through(&self.layer2, through(&self.layer1, map)));
        let map = attend(&self.attention, 1, through(&self.layer3, map));
        through(&self.layer4, map)
    }
}

/// How the parameter at `key` of a trunk starts.
pub(crate) fn init(key: &str) -> Init {
    match key.split('.').next() {
        Some("fc") => Init::UniformFanIn,
        Some("attention") => attention::init(key),
        _ => Init::NormalFanOut,
    }
}

/// The key, in a classifier of torchvision or IBN-Net, of the weights that start the parameter at `key` of a trunk;
/// none for attention, which that classifier is without.
pub(crate) fn classifier_key(key: &str) -> Option<String> {
    (!key.starts_with("attention.")).then(|| key.to_owned())
}
