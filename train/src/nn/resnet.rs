//! ResNet-50, with or without its classifier, He et al. 2015 (arXiv:1512.03385), the stride in the 3×3 as in
//! torchvision, whose keys the field names are.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, assert_shape};

use super::batch_norm::UnbiasedBatchNorm;
use super::conv::{conv, halving_max_pool};

/// Channels of [`ResNet50::forward_features`].
pub const RESNET50_FEATURES: usize = 2048;

/// Widths inside the bottlenecks of the four stages; their outputs are four times as wide.
const WIDTHS: [usize; 4] = [64, 128, 256, 512];

/// Bottlenecks of each stage.
const BLOCKS: [usize; 4] = [3, 4, 6, 3];

/// 1×1, 3×3, 1×1 and a shortcut.
#[derive(Module, Debug)]
pub struct Bottleneck {
    conv1: Conv2d,
    bn1: UnbiasedBatchNorm,
    conv2: Conv2d,
    bn2: UnbiasedBatchNorm,
    conv3: Conv2d,
    bn3: UnbiasedBatchNorm,
    downsample: Option<(Conv2d, UnbiasedBatchNorm)>,
}

impl Bottleneck {
    /// From `input` channels to `4 · width`; the shortcut has a projection where shapes differ.
    pub fn new(input: usize, width: usize, stride: usize, device: &Device) -> Self {
        let output = 4 * width;
        let shortcut = || (conv(input, output, 1, stride, 1, device), UnbiasedBatchNorm::new(output, device));
        Self {
            conv1: conv(input, width, 1, 1, 1, device),
            bn1: UnbiasedBatchNorm::new(width, device),
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
        let map = self.bn1.forward_relu(kernels::conv2d(&self.conv1, input.clone()));
        let map = self.bn2.forward_relu(kernels::conv2d(&self.conv2, map));
        let map = self.bn3.forward(kernels::conv2d(&self.conv3, map));
        let shortcut = match &self.downsample {
            Some((project, norm)) => norm.forward(kernels::conv2d(project, input)),
            None => input,
        };
        kernels::add_relu(map, shortcut)
    }
}

/// The trunk: what torchvision's `resnet50` is, by default without `fc`.
#[derive(Module, Debug)]
pub struct ResNet50 {
    conv1: Conv2d,
    bn1: UnbiasedBatchNorm,
    maxpool: MaxPool2d,
    layer1: Vec<Bottleneck>,
    layer2: Vec<Bottleneck>,
    layer3: Vec<Bottleneck>,
    layer4: Vec<Bottleneck>,
    fc: Option<Linear>,
}

impl ResNet50 {
    /// The trunk, not initialised; `last_stride` is that of the last stage: 2, or 1 for a map of twice the size as in
    /// re-ID.
    pub fn new(last_stride: usize, device: &Device) -> Self {
        let stage = |k: usize, stride: usize| -> Vec<Bottleneck> {
            let before = if k == 0 { 64 } else { 4 * WIDTHS[k - 1] };
            let block = |block: usize| match block {
                0 => Bottleneck::new(before, WIDTHS[k], stride, device),
                _ => Bottleneck::new(4 * WIDTHS[k], WIDTHS[k], 1, device),
            };
            (0..BLOCKS[k]).map(block).collect()
        };
        Self {
            conv1: conv(3, 64, 7, 2, 1, device),
            bn1: UnbiasedBatchNorm::new(64, device),
            maxpool: halving_max_pool(),
            layer1: stage(0, 1),
            layer2: stage(1, 2),
            layer3: stage(2, 2),
            layer4: stage(3, last_stride),
            fc: None,
        }
    }

    /// The trunk with a classifier that nothing reads, so that state dictionaries with one can be loaded and saved.
    pub(crate) fn with_classifier(self, classes: usize, device: &Device) -> Self {
        Self { fc: Some(LinearConfig::new(RESNET50_FEATURES, classes).init(device)), ..self }
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
        [&self.layer1, &self.layer2, &self.layer3, &self.layer4]
            .into_iter()
            .flatten()
            .fold(map, |map, block| block.forward(map))
    }
}
