//! Heads: with a batch-norm neck, Luo et al. 2019 (arXiv:1903.07071), where classifier and gallery read features after
//! the neck and metric losses before it; or with a reduction, Sun et al. 2018 (arXiv:1711.09349).

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::conv;
use crate::nn::dropout::{Dropout, Masks};
use crate::nn::init::Init;

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

/// A reduction with batch norm, dropout and a classifier, both layers with biases. Metric losses and gallery read what
/// the norm gives.
#[derive(Module, Debug)]
pub struct ClassBlock {
    add_block: (Linear, UnbiasedBatchNorm, Dropout),
    classifier: Vec<Linear>,
}

impl ClassBlock {
    /// From `input` channels to `features`, of which training drops the share `dropped`.
    pub fn new(input: usize, features: usize, classes: usize, dropped: f64, device: &Device) -> Self {
        Self {
            add_block: (
                LinearConfig::new(input, features).init(device),
                UnbiasedBatchNorm::new(features, device),
                Dropout::new(dropped),
            ),
            classifier: vec![LinearConfig::new(features, classes).init(device)],
        }
    }

    /// Training: `[batch, input, 1, 1]` to scores and features, both behind the dropout.
    pub fn forward(&self, pooled: Tensor<4>, masks: &mut Masks) -> HeadOutput {
        let features = self.add_block.2.forward(self.embed(pooled), masks);
        HeadOutput { scores: self.classifier[0].forward(features.clone()), before: features }
    }

    /// Evaluation: `[batch, input, 1, 1]` to `[batch, features]`.
    pub fn embed(&self, pooled: Tensor<4>) -> Tensor<2> {
        let (linear, norm, _) = &self.add_block;
        norm.forward(linear.forward(pooled.flatten::<2>(1, 3)))
    }
}

/// A linear layer, batch norm and ReLU, then a classifier, both layers with biases. Metric losses and gallery read what
/// the ReLU gives.
#[derive(Module, Debug)]
pub struct LinearHead {
    fc: (Linear, UnbiasedBatchNorm),
    classifier: Linear,
}

impl LinearHead {
    /// From `input` channels to `features`.
    pub fn new(input: usize, features: usize, classes: usize, device: &Device) -> Self {
        Self {
            fc: (LinearConfig::new(input, features).init(device), UnbiasedBatchNorm::new(features, device)),
            classifier: LinearConfig::new(features, classes).init(device),
        }
    }

    /// Training: `[batch, input, 1, 1]` to scores and features.
    pub fn forward(&self, pooled: Tensor<4>) -> HeadOutput {
        let features = self.embed(pooled);
        HeadOutput { scores: self.classifier.forward(features.clone()), before: features }
    }

    /// Evaluation: `[batch, input, 1, 1]` to `[batch, features]`, none negative.
    pub fn embed(&self, pooled: Tensor<4>) -> Tensor<2> {
        let (linear, norm) = &self.fc;
        norm.forward_relu(linear.forward(pooled.flatten::<2>(1, 3)))
    }
}

/// A classifier with a bias on the pooled map, which is the embedding.
#[derive(Module, Debug)]
pub struct PlainHead {
    classifier: Linear,
}

impl PlainHead {
    /// On `input` channels.
    pub fn new(input: usize, classes: usize, device: &Device) -> Self {
        Self { classifier: LinearConfig::new(input, classes).init(device) }
    }

    /// Training: `[batch, input, 1, 1]` to scores and the pooled map.
    pub fn forward(&self, pooled: Tensor<4>) -> HeadOutput {
        let features = self.embed(pooled);
        HeadOutput { scores: self.classifier.forward(features.clone()), before: features }
    }

    /// Evaluation: `[batch, input, 1, 1]` to `[batch, input]`.
    pub fn embed(&self, pooled: Tensor<4>) -> Tensor<2> {
        pooled.flatten::<2>(1, 3)
    }
}

/// What reads the pooled map of a network that has a choice.
#[derive(Module, Debug)]
pub enum Head {
    /// See [`BnNeck`].
    Neck(BnNeck),
    /// See [`BnNeck3`].
    Reduced(BnNeck3),
    /// See [`ClassBlock`].
    Block(ClassBlock),
    /// See [`LinearHead`].
    Linear(LinearHead),
    /// See [`PlainHead`].
    Plain(PlainHead),
}

impl Head {
    /// Training: `[batch, input, 1, 1]` to scores and the features for metric losses.
    pub fn forward(&self, pooled: Tensor<4>, masks: &mut Masks) -> HeadOutput {
        match self {
            Self::Neck(head) => head.forward(pooled),
            Self::Reduced(head) => head.forward(pooled),
            Self::Block(head) => head.forward(pooled, masks),
            Self::Linear(head) => head.forward(pooled),
            Self::Plain(head) => head.forward(pooled),
        }
    }

    /// Evaluation: `[batch, input, 1, 1]` to features after the last norm, `[batch, features]`.
    pub fn embed(&self, pooled: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Neck(head) => head.embed(pooled),
            Self::Reduced(head) => head.embed(pooled),
            Self::Block(head) => head.embed(pooled),
            Self::Linear(head) => head.embed(pooled),
            Self::Plain(head) => head.embed(pooled),
        }
    }
}

/// How the parameter at `key` of any of these heads starts.
pub fn init(key: &str) -> Init {
    if key.starts_with("classifier.") {
        Init::Normal { std: 0.001 }
    } else if key.starts_with("fc.") {
        Init::Normal { std: 0.01 }
    } else if key == "add_block.1.weight" {
        Init::NormalAroundOne { std: 0.02 }
    } else if key.starts_with("reduction.") {
        Init::UniformFanIn
    } else {
        Init::NormalFanOut
    }
}
