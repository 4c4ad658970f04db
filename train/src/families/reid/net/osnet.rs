//! OSNet, Zhou et al. 2019 (arXiv:1905.00953), as a network of its own: 2.55 M parameters with 751 classes at full
//! width.
//!
//! Fields and tuples are arranged so that a parameter's path is its key in the published state dictionaries.

use burn::module::Module;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, assert_shape};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::halving_max_pool;
use crate::nn::init::{Init, Source};

use super::TrainOutput;
use super::os_block::{ConvLayer, OsBlock};

/// Names of the widths and their channels after `conv1` … `conv4`.
pub const WIDTHS: [(&str, [usize; 4]); 4] = [
    ("OSNet", [64, 256, 384, 512]),
    ("OSNet_x0_75", [48, 192, 288, 384]),
    ("OSNet_x0_5", [32, 128, 192, 256]),
    ("OSNet_x0_25", [16, 64, 96, 128]),
];

/// Two blocks, then a 1×1 convolution and a halving of the size.
type Stage = (OsBlock, OsBlock, (ConvLayer, AvgPool2d));

/// The network.
#[derive(Module, Debug)]
pub struct OsNet {
    conv1: ConvLayer,
    maxpool: MaxPool2d,
    conv2: Stage,
    conv3: Stage,
    conv4: (OsBlock, OsBlock),
    conv5: ConvLayer,
    fc: (Linear, UnbiasedBatchNorm),
    classifier: Linear,
}

impl OsNet {
    /// The network of one of [`WIDTHS`] for `classes` training identities and embeddings of `features`, not yet
    /// initialised: see [`super::ReidNet::new`].
    pub(crate) fn new([c0, c1, c2, c3]: [usize; 4], classes: usize, features: usize, device: &Device) -> Self {
        let block = |input, output| OsBlock::new(input, output, device);
        let stage = |input, output| -> Stage {
            let pool = AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
            (block(input, output), block(output, output), (ConvLayer::pointwise(output, output, device), pool))
        };
        Self {
            conv1: ConvLayer::new(3, c0, 7, 2, device),
            maxpool: halving_max_pool(),
            conv2: stage(c0, c1),
            conv3: stage(c1, c2),
            conv4: (block(c2, c3), block(c3, c3)),
            conv5: ConvLayer::pointwise(c3, c3, device),
            fc: (LinearConfig::new(c3, features).init(device), UnbiasedBatchNorm::new(features, device)),
            classifier: LinearConfig::new(features, classes).init(device),
        }
    }

    /// Training: `[batch, 3, height, width]` to one score `[batch, classes]` and the features it is read from.
    pub fn forward(&self, images: Tensor<4>) -> TrainOutput {
        let features = self.features(images);
        TrainOutput { scores: vec![self.classifier.forward(features.clone())], features: vec![features] }
    }

    /// Evaluation: `[batch, 3, height, width]` to features, none negative, `[batch, features, 1]`.
    pub fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        self.features(images).unsqueeze_dim(2)
    }

    fn features(&self, images: Tensor<4>) -> Tensor<2> {
        assert_shape!(images, [_, 3, _, _]);
        let stage = |(first, second, (reduce, halve)): &Stage, map: Tensor<4>| {
            halve.forward(reduce.forward(second.forward(first.forward(map))))
        };
        let map = self.maxpool.forward(self.conv1.forward(images));
        let map = stage(&self.conv3, stage(&self.conv2, map));
        let map = self.conv5.forward(self.conv4.1.forward(self.conv4.0.forward(map)));
        let (linear, norm) = &self.fc;
        norm.forward_relu(linear.forward(kernels::global_avg_pool(map).flatten::<2>(1, 3)))
    }

    /// How the parameter at `key` starts.
    pub(crate) fn init(key: &str) -> Source {
        let linear = ["fc.", "classifier."].iter().any(|head| key.starts_with(head));
        let init = if linear { Init::Normal { std: 0.01 } } else { Init::NormalFanOut };
        Source { name: key.to_owned(), init }
    }
}
