//! ResNet-50 for re-identification: the last stage keeps its size, and a head of Luo et al. 2019 (arXiv:1903.07071)
//! or of Sun et al. 2018 (arXiv:1711.09349) follows. 27.1 M parameters with 751 classes and a neck.
//!
//! Fields are arranged so that a parameter's path is its key in the reference's state dictionary.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::init::{Init, Source};
use crate::nn::resnet::{RESNET50_FEATURES, ResNet50};
use crate::run::checks::{ConfigError, counts, range};
use crate::run::settings::fields;
use crate::words::words;

use super::erase::drop_block;
use super::head::{BnNeck, HeadOutput};
use super::{COMPARED, MOST_FEATURES, Network, NetworkSettings, ReidModule, ReidNet, TrainOutput, feats};

/// Classes of the ImageNet classifier, which is kept for its place in the state dictionary and never used.
const IMAGENET: usize = 1000;

words! {
    /// Which features are compared, where there is a batch-norm neck.
    FeatInference (After) {
        /// Those after the neck.
        After = "after",
        /// Those before it.
        Before = "before",
    }
}

/// What reads the pooled map.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ResNet50Head {
    /// A reduction with batch norm.
    Reduction {
        /// Features of an embedding.
        feats: usize,
    },
    /// A batch-norm neck on the map's 2048 channels, which are the embedding.
    Neck {
        /// Which features are compared.
        feat_inference: FeatInference,
    },
}

/// Settings of [`ReidResNet50`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Flat", into = "Flat")]
pub struct ResNet50Settings {
    /// What reads the pooled map.
    pub head: ResNet50Head,
    /// Share of height and width of the block that training erases. The map is then pooled by its maximum.
    pub drop_block: Option<[f64; 2]>,
}

/// The same by the names of flags: a setting that hangs on another is there with it only.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Flat {
    bnneck: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    feats: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    feat_inference: Option<FeatInference>,
    drop_block: Drop,
    #[serde(skip_serializing_if = "Option::is_none")]
    h_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    w_ratio: Option<f64>,
    /// Of earlier checkpoints.
    #[serde(skip_serializing)]
    before_neck: bool,
}

/// Whether there is a drop block; networks of earlier checkpoints have its shares.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(untagged, expecting = "`drop_block` is true or false")]
enum Drop {
    Asked(bool),
    Shares([f64; 2]),
}

impl Default for Drop {
    fn default() -> Self {
        Self::Asked(false)
    }
}

/// Share of height and width that a drop block erases.
const SHARES: [f64; 2] = [0.3, 1.0];

impl From<Flat> for ResNet50Settings {
    fn from(flat: Flat) -> Self {
        let before = if flat.before_neck { FeatInference::Before } else { FeatInference::After };
        Self {
            head: match flat.bnneck {
                true => ResNet50Head::Neck { feat_inference: flat.feat_inference.unwrap_or(before) },
                false => ResNet50Head::Reduction { feats: flat.feats.unwrap_or(feats()) },
            },
            drop_block: match flat.drop_block {
                Drop::Asked(false) => None,
                Drop::Asked(true) => Some([flat.h_ratio.unwrap_or(SHARES[0]), flat.w_ratio.unwrap_or(SHARES[1])]),
                Drop::Shares(shares) => Some(shares),
            },
        }
    }
}

impl From<ResNet50Settings> for Flat {
    fn from(ResNet50Settings { head, drop_block }: ResNet50Settings) -> Self {
        let flat = match head {
            ResNet50Head::Reduction { feats } => Self { feats: Some(feats), ..Self::default() },
            ResNet50Head::Neck { feat_inference } => {
                Self { bnneck: true, feat_inference: Some(feat_inference), ..Self::default() }
            }
        };
        let [h_ratio, w_ratio] = [0, 1].map(|side| drop_block.map(|shares| shares[side]));
        Self { drop_block: Drop::Asked(drop_block.is_some()), h_ratio, w_ratio, ..flat }
    }
}

impl Default for ResNet50Settings {
    fn default() -> Self {
        Flat::default().into()
    }
}

impl ResNet50Settings {
    /// With a batch-norm neck, whose outputs are compared.
    pub fn with_neck() -> Self {
        Self { head: ResNet50Head::Neck { feat_inference: FeatInference::After }, ..Self::default() }
    }

    fn before_neck(&self) -> bool {
        self.head == ResNet50Head::Neck { feat_inference: FeatInference::Before }
    }
}

impl NetworkSettings for ResNet50Settings {
    fn name(&self) -> &'static str {
        "ResNet50"
    }

    fn features(&self) -> usize {
        match self.head {
            ResNet50Head::Reduction { feats } => feats,
            ResNet50Head::Neck { .. } => RESNET50_FEATURES,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if let ResNet50Head::Reduction { feats } = self.head {
            counts([("feats", feats, 1, MOST_FEATURES)])?;
        }
        let [height, width] = self.drop_block.unwrap_or(SHARES);
        for (flag, share) in [("h-ratio", height), ("w-ratio", width)] {
            if !(share > 0.0 && share <= 1.0) {
                return Err(range(flag, share, "numbers above 0 up to 1"));
            }
        }
        Ok(())
    }

    fn flat(&self) -> Map<String, Value> {
        fields(self)
    }

    fn read(&self, flat: Map<String, Value>) -> Result<Network, serde_json::Error> {
        serde_json::from_value(Value::Object(flat)).map(Network::ResNet50)
    }

    fn build(&self, classes: usize, device: &Device) -> ReidNet {
        ReidNet::ResNet50(ReidResNet50::new(self, classes, device))
    }

    fn options(&self) -> Vec<(&'static str, Network)> {
        let neck = Self { head: Self::with_neck().head, ..self.clone() };
        let block = Self { drop_block: Some(SHARES), ..self.clone() };
        vec![("--bnneck", Network::ResNet50(neck)), ("--drop-block", Network::ResNet50(block))]
    }

    fn flags(&self) -> Vec<&'static str> {
        let flags = [
            (matches!(self.head, ResNet50Head::Neck { .. }), "--bnneck"),
            (self.before_neck(), "--feat-inference before"),
            (self.drop_block.is_some(), "--drop-block"),
        ];
        flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag).collect()
    }

    fn compared(&self) -> &'static str {
        if self.before_neck() { "features before the batch-norm neck" } else { COMPARED }
    }
}

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

impl ReidResNet50 {
    /// The network for `classes` training identities, not yet initialised.
    fn new(settings: &ResNet50Settings, classes: usize, device: &Device) -> Self {
        let classifier = match settings.head {
            ResNet50Head::Neck { .. } => Head::Neck(BnNeck::new(RESNET50_FEATURES, classes, device)),
            ResNet50Head::Reduction { feats } => Head::Block(ClassBlock::new(feats, classes, device)),
        };
        let model = ResNet50::new(1, device).with_classifier(IMAGENET, device);
        Self { model, classifier, drop_block: settings.drop_block, before_neck: settings.before_neck() }
    }

    fn pool(&self, map: Tensor<4>) -> Tensor<4> {
        match self.drop_block {
            Some(_) => map.max_dim(3).max_dim(2),
            None => kernels::global_avg_pool(map),
        }
    }
}

impl ReidModule for ReidResNet50 {
    fn name(&self) -> &'static str {
        "ResNet50"
    }

    /// One score, and the features for metric losses, before the neck where there is one. A block at `place` is
    /// erased, if any: see [`drop_block`].
    fn forward(&self, images: Tensor<4>, place: [f64; 2]) -> TrainOutput {
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

    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let pooled = self.pool(self.model.forward_features(images));
        let features = match &self.classifier {
            Head::Neck(_) if self.before_neck => pooled.flatten::<2>(1, 3),
            Head::Neck(head) => head.embed(pooled),
            Head::Block(head) => head.embed(pooled),
        };
        features.unsqueeze_dim(2)
    }

    fn init(&self) -> fn(&str) -> Source {
        source
    }

    fn backbone_key(&self) -> fn(&str) -> Option<String> {
        backbone_key
    }
}

/// How the parameter at `key` starts.
fn source(key: &str) -> Source {
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

/// The key, in torchvision's ResNet-50, of the weights that start the parameter at `key`; none for the head.
fn backbone_key(key: &str) -> Option<String> {
    key.strip_prefix("model.").map(str::to_owned)
}
