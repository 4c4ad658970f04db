//! ResNet-50 for re-identification: the last stage keeps its size, and a head of Luo et al. 2019 (arXiv:1903.07071)
//! or of Sun et al. 2018 (arXiv:1711.09349) follows. 27.1 M parameters with 751 classes and a neck. The same with
//! IBN-a, also 101 layers deep.
//!
//! Fields are arranged so that a parameter's path is its key in the reference's state dictionary.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::nn::attention::AttentionKind;
use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::init::Source;
use crate::nn::instance_norm::MapNorm;
use crate::nn::resnet::{self, RESNET_FEATURES, RESNET50, RESNET101, ResNet};
use crate::run::checks::{ConfigError, counts, range};
use crate::run::settings::fields;
use crate::words::{each, meaning, words};

use super::erase::drop_block;
use super::head::{self, BnNeck, ClassBlock, Head, HeadOutput};
use super::pool::Pool;
use super::{COMPARED, Draws, MOST_FEATURES, Network, NetworkSettings, ReidModule, ReidNet, TrainOutput, feats};

words! {
    /// How deep the network is, and how it normalises.
    ResNetVariant (R50) {
        /// ResNet-50 as in "Bag of tricks" (Luo et al. 2019).
        R50 = "ResNet50",
        /// ResNet-50 with IBN-a (Pan et al. 2018).
        R50Ibn = "ResNet50_IBN",
        /// ResNet-101 with IBN-a.
        R101Ibn = "ResNet101_IBN",
    }
}

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
    /// How deep the network is, and how it normalises, which its name tells.
    pub variant: ResNetVariant,
    /// What reads the pooled map.
    pub head: ResNet50Head,
    /// Share of height and width of the block that training erases. The map is then pooled by its maximum.
    pub drop_block: Option<[f64; 2]>,
    /// Attention behind the second and the third stage.
    pub attention: AttentionKind,
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
    attention: AttentionKind,
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
            variant: ResNetVariant::default(),
            head: match flat.bnneck {
                true => ResNet50Head::Neck { feat_inference: flat.feat_inference.unwrap_or(before) },
                false => ResNet50Head::Reduction { feats: flat.feats.unwrap_or(feats()) },
            },
            drop_block: match flat.drop_block {
                Drop::Asked(false) => None,
                Drop::Asked(true) => Some([flat.h_ratio.unwrap_or(SHARES[0]), flat.w_ratio.unwrap_or(SHARES[1])]),
                Drop::Shares(shares) => Some(shares),
            },
            attention: flat.attention,
        }
    }
}

impl From<ResNet50Settings> for Flat {
    fn from(ResNet50Settings { variant: _, head, drop_block, attention }: ResNet50Settings) -> Self {
        let flat = match head {
            ResNet50Head::Reduction { feats } => Self { feats: Some(feats), ..Self::default() },
            ResNet50Head::Neck { feat_inference } => {
                Self { bnneck: true, feat_inference: Some(feat_inference), ..Self::default() }
            }
        };
        let [h_ratio, w_ratio] = [0, 1].map(|side| drop_block.map(|shares| shares[side]));
        Self { drop_block: Drop::Asked(drop_block.is_some()), h_ratio, w_ratio, attention, ..flat }
    }
}

impl Default for ResNet50Settings {
    fn default() -> Self {
        Flat::default().into()
    }
}

impl ResNet50Settings {
    /// The defaults of every variant.
    pub(super) fn every() -> impl Iterator<Item = Self> {
        each().map(|variant| Self { variant, ..Self::default() })
    }

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
        self.variant.word()
    }

    fn about(&self) -> &'static str {
        meaning(&self.variant)
    }

    fn features(&self) -> usize {
        match self.head {
            ResNet50Head::Reduction { feats } => feats,
            ResNet50Head::Neck { .. } => RESNET_FEATURES,
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
        let read: Self = serde_json::from_value(Value::Object(flat))?;
        Ok(Network::ResNet50(Self { variant: self.variant, ..read }))
    }

    fn build(&self, classes: usize, device: &Device) -> ReidNet {
        match self.variant {
            ResNetVariant::R50 => ReidNet::ResNet50(ReidResNet50::new(self, RESNET50, classes, device)),
            ResNetVariant::R50Ibn => ReidNet::ResNetIbn(ReidResNet50::new(self, RESNET50, classes, device)),
            ResNetVariant::R101Ibn => ReidNet::ResNetIbn(ReidResNet50::new(self, RESNET101, classes, device)),
        }
    }

    fn options(&self) -> Vec<(&'static str, Network)> {
        let neck = Self { head: Self::with_neck().head, ..self.clone() };
        let block = Self { drop_block: Some(SHARES), ..self.clone() };
        vec![("--bnneck", Network::ResNet50(neck)), ("--drop-block", Network::ResNet50(block))]
    }

    fn flags(&self) -> Vec<String> {
        let flags = [
            (matches!(self.head, ResNet50Head::Neck { .. }), "--bnneck"),
            (self.before_neck(), "--feat-inference before"),
            (self.drop_block.is_some(), "--drop-block"),
        ];
        let flags = flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.to_owned());
        flags.chain(super::attention_flag(self.attention)).collect()
    }

    fn compared(&self) -> &'static str {
        if self.before_neck() { "features before the batch-norm neck" } else { COMPARED }
    }
}

/// The network. `N` is the first norm of most bottlenecks.
#[derive(Module, Debug)]
pub struct ReidResNet50<N = UnbiasedBatchNorm> {
    model: ResNet<N>,
    classifier: Head,
    #[module(skip)]
    drop_block: Option<[f64; 2]>,
    #[module(skip)]
    before_neck: bool,
    #[module(skip)]
    name: &'static str,
}

impl<N: MapNorm> ReidResNet50<N> {
    /// The network with these bottlenecks in its stages for `classes` training identities, not yet initialised.
    fn new(settings: &ResNet50Settings, blocks: [usize; 4], classes: usize, device: &Device) -> Self {
        let classifier = match settings.head {
            ResNet50Head::Neck { .. } => Head::Neck(BnNeck::new(RESNET_FEATURES, classes, device)),
            ResNet50Head::Reduction { feats } => {
                Head::Block(ClassBlock::new(RESNET_FEATURES, feats, classes, 0.0, device))
            }
        };
        let model = ResNet::new(blocks, 1, device).with_classifier(device);
        Self {
            model: model.with_attention(settings.attention, device),
            classifier,
            drop_block: settings.drop_block,
            before_neck: settings.before_neck(),
            name: settings.name(),
        }
    }

    fn pool(&self, map: Tensor<4>) -> Tensor<4> {
        if self.drop_block.is_some() { Pool::Max.whole(map) } else { Pool::Avg.whole(map) }
    }
}

impl<N: MapNorm> ReidModule for ReidResNet50<N> {
    fn name(&self) -> &'static str {
        self.name
    }

    /// One score, and the features for metric losses, before the neck where there is one. A block is erased, if any:
    /// see [`drop_block`].
    fn forward(&self, images: Tensor<4>, mut draws: Draws) -> TrainOutput {
        let map = self.model.forward_features(images);
        let map = match self.drop_block {
            Some(shares) => drop_block(map, shares, draws.place),
            None => map,
        };
        let HeadOutput { scores, before } = self.classifier.forward(self.pool(map), &mut draws.masks);
        TrainOutput { scores: vec![scores], features: vec![before] }
    }

    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let pooled = self.pool(self.model.forward_features(images));
        let features = match &self.classifier {
            Head::Neck(_) if self.before_neck => pooled.flatten::<2>(1, 3),
            head => head.embed(pooled),
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
    let init = match key.split_once('.') {
        Some(("classifier", rest)) => head::init(rest),
        Some((_, rest)) => resnet::init(rest),
        None => unreachable!("`{key}` has no module"),
    };
    Source { name: key.to_owned(), init }
}

/// The key, in the ImageNet classifier on this backbone, of the weights that start the parameter at `key`; none for the
/// head.
fn backbone_key(key: &str) -> Option<String> {
    key.strip_prefix("model.").and_then(resnet::classifier_key)
}
