//! Heads with a batch-norm neck, Luo et al. 2019 (arXiv:1903.07071): classifier and gallery read features after the
//! neck, metric losses before it.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::conv;

/// What a head gives a training step.
pub struct HeadOutput {
    /// Class scores, `[batch, classes]`.
    pub scores: Tensor<2>,
    /// Features before the neck, `[batch, features]`.
    pub before: Tensor<2>,
}

/// Neck and classifier on pooled features.
#[derive(Module, Debug)]
pub struct BnNeck {
    bn: UnbiasedBatchNorm,
    classifier: Linear,
}

impl BnNeck {
    /// A neck of `features` values and a classifier of `classes` without bias.
    pub fn new(features: usize, classes: usize, device: &Device) -> Self {
        Self {
            bn: UnbiasedBatchNorm::with_fixed_bias(features, device),
            classifier: LinearConfig::new(features, classes).with_bias(false).init(device),
        }
    }

    /// Training: `[batch, features, 1, 1]` to scores and the features before the neck.
    pub fn forward(&self, pooled: Tensor<4>) -> HeadOutput {
        let before = pooled.flatten::<2>(1, 3);
        let scores = self.classifier.forward(self.bn.forward(before.clone()));
        HeadOutput { scores, before }
    }

    /// Evaluation: `[batch, features, 1, 1]` to features after the neck, `[batch, features]`.
    pub fn embed(&self, pooled: Tensor<4>) -> Tensor<2> {
        self.bn.forward(pooled.flatten::<2>(1, 3))
    }
}

/// A 1×1 reduction, then [`BnNeck`].
#[derive(Module, Debug)]
pub struct BnNeck3 {
    reduction: Conv2d,
    bn: UnbiasedBatchNorm,
    classifier: Linear,
}

impl BnNeck3 {
    /// From `input` channels to `features`, without bias.
    pub fn new(input: usize, features: usize, classes: usize, device: &Device) -> Self {
        let BnNeck { bn, classifier } = BnNeck::new(features, classes, device);
        Self { reduction: conv(input, features, 1, 1, 1, device), bn, classifier }
    }

    /// Training: `[batch, input, 1, 1]` to scores and the features before the neck.
    pub fn forward(&self, pooled: Tensor<4>) -> HeadOutput {
        let before = kernels::conv2d(&self.reduction, pooled).flatten::<2>(1, 3);
        let scores = self.classifier.forward(self.bn.forward(before.clone()));
        HeadOutput { scores, before }
    }

    /// Evaluation: `[batch, input, 1, 1]` to features after the neck, `[batch, features]`.
    pub fn embed(&self, pooled: Tensor<4>) -> Tensor<2> {
        self.bn.forward(kernels::conv2d(&self.reduction, pooled).flatten::<2>(1, 3))
    }
}
