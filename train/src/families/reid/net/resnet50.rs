//! ResNet-50 for re-identification: the last stage keeps its size, and a head of Luo et al. 2019 (arXiv:1903.07071)
//! or of Sun et al. 2018 (arXiv:1711.09349) follows. 27.1 M parameters with 751 classes and a neck.
//!
//! Fields are arranged so that a parameter's path is its key in the reference's state dictionary.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::init::{Init, Source};
use crate::nn::resnet::{RESNET50_FEATURES, ResNet50};

use super::TrainOutput;
use super::erase::drop_block;
use super::head::{BnNeck, HeadOutput};

/// Classes of the ImageNet classifier, which is kept for its place in the state dictionary and never used.
const IMAGENET: usize = 1000;

/// A reduction with batch norm, and a classifier, both with biases.
#[derive(Module, Debug)]
struct ClassBlock {
    add_block: (Linear, UnbiasedBatchNorm),
    classifier: Vec<Linear>,
}

impl ClassBlock {
    fn new(features: usize, classes: usize, device: &Device) -> Self {
        Self {
            add_block: (
                LinearConfig::new(RESNET50_FEATURES, features).init(device),
                UnbiasedBatchNorm::new(features, device),
            ),
            classifier: vec![LinearConfig::new(features, classes).init(device)],
        }
    }

    /// `[batch, 2048, 1, 1]` to `[batch, features]`.
    fn embed(&self, pooled: Tensor<4>) -> Tensor<2> {
        let (linear, norm) = &self.add_block;
        norm.forward(linear.forward(pooled.flatten::<2>(1, 3)))
    }

    fn forward(&self, pooled: Tensor<4>) -> HeadOutput {
        let features = self.embed(pooled);
        HeadOutput { scores: self.classifier[0].forward(features.clone()), before: features }
    }
}

/// What reads the pooled map.
#[derive(Module, Debug)]
enum Head {
    Neck(BnNeck),
    Block(ClassBlock),
}

/// The network.
#[derive(Module, Debug)]
pub struct ReidResNet50 {
    model: ResNet50,
    classifier: Head,
    #[module(skip)]
    drop_block: Option<[f64; 2]>,
    #[module(skip)]
    before_neck: bool,
}

/// What a ResNet-50 has besides its classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReidResNet50Options {
    /// Values of an embedding, unless there is a neck.
    pub features: usize,
    /// A batch-norm neck on the 2048 channels instead of a reduction.
    pub bnneck: bool,
    /// Share of height and width of the block that training erases. The map is then pooled by its maximum.
    pub drop_block: Option<[f64; 2]>,
    /// Embeddings are the features before the neck.
    pub before_neck: bool,
}

impl ReidResNet50 {
    /// The network for `classes` training identities, not yet initialised: see [`super::ReidNet::new`].
    pub(crate) fn new(classes: usize, options: ReidResNet50Options, device: &Device) -> Self {
        let ReidResNet50Options { features, bnneck, drop_block, before_neck } = options;
        let head = match bnneck {
            true => Head::Neck(BnNeck::new(RESNET50_FEATURES, classes, device)),
            false => Head::Block(ClassBlock::new(features, classes, device)),
        };
        let model = ResNet50::new(1, device).with_classifier(IMAGENET, device);
        Self { model, classifier: head, drop_block, before_neck }
    }

    /// Training: `[batch, 3, height, width]` to one score `[batch, classes]` and the features for metric losses,
    /// before the neck where there is one. A block at `place` is erased, if any: see [`drop_block`].
    pub fn forward(&self, images: Tensor<4>, place: [f64; 2]) -> TrainOutput {
        let map = self.model.forward_features(images);
        let map = match self.drop_block {
            Some(shares) => drop_block(map, shares, place),
            None => map,
        };
        let pooled = self.pool(map);
        let HeadOutput { scores, before } = match &self.classifier {
            Head::Neck(head) => head.forward(pooled),
            Head::Block(head) => head.forward(pooled),
        };
        TrainOutput { scores: vec![scores], features: vec![before] }
    }

    /// Evaluation: `[batch, 3, height, width]` to `[batch, features, 1]`.
    pub fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let pooled = self.pool(self.model.forward_features(images));
        let features = match &self.classifier {
            Head::Neck(_) if self.before_neck => pooled.flatten::<2>(1, 3),
            Head::Neck(head) => head.embed(pooled),
            Head::Block(head) => head.embed(pooled),
        };
        features.unsqueeze_dim(2)
    }

    fn pool(&self, map: Tensor<4>) -> Tensor<4> {
        match self.drop_block {
            Some(_) => map.max_dim(3).max_dim(2),
            None => kernels::global_avg_pool(map),
        }
    }

    /// How the parameter at `key` starts.
    pub(crate) fn init(key: &str) -> Source {
        let init = if key.starts_with("model.fc.") {
            Init::UniformFanIn
        } else if key.starts_with("classifier.classifier") {
            Init::Normal { std: 0.001 }
        } else if key == "classifier.add_block.1.weight" {
            Init::NormalAroundOne { std: 0.02 }
        } else {
            Init::NormalFanOut
        };
        Source { name: key.to_owned(), init }
    }

    /// The key of torchvision's ResNet-50 whose weights start the parameter at `key`; none for the head.
    pub(crate) fn backbone_key(key: &str) -> Option<String> {
        key.strip_prefix("model.").map(str::to_owned)
    }
}
