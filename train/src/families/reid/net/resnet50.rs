//! ResNet-50 for re-identification: the last stage keeps its size, and a head of Luo et al. 2019 (arXiv:1903.07071)
//! or of Sun et al. 2018 (arXiv:1711.09349) follows. 27.1 M parameters with 751 classes and a neck. The same with
//! IBN-a, also 101 layers deep. Its settings make it the ResNet-50 of other projects, too, down to their last stride.
//!
//! Fields are arranged so that a parameter's path is its key in LightMBN's state dictionary; [`spellings`] has the keys
//! of others.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::nn::attention::AttentionKind;
use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::init::{Init, Source};
use crate::nn::instance_norm::MapNorm;
use crate::nn::resnet::{self, RESNET_FEATURES, RESNET50, RESNET101, ResNet, Stem};
use crate::run::checks::{ConfigError, counts, range};
use crate::words::{each, meaning, words};

use super::erase::drop_block;
use super::head::{self, BnNeck, ClassBlock, Head, HeadOutput, LinearHead, PlainHead};
use super::pool::{EXPONENT, Gem, GemPool, Pool};
use super::{
    COMPARED, Draws, MOST_FEATURES, Network, NetworkSettings, ReidModule, ReidNet, Spelling, TrainOutput, feats,
};

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

words! {
    /// What reads the pooled map where there is no batch-norm neck.
    HeadKind (Block) {
        /// A linear layer and a batch norm, then a classifier (LightMBN).
        Block = "block",
        /// A linear layer, a batch norm and a ReLU, then a classifier (torchreid's fc512).
        Linear = "linear",
        /// A classifier alone: the 2048 channels are the embedding (torchreid, torchvision).
        None = "none",
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
    /// The same with a ReLU.
    Linear {
        /// Features of an embedding.
        feats: usize,
    },
    /// A classifier on the map's 2048 channels, which are the embedding.
    Plain,
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
    /// Stride of the last stage, 1 or 2.
    pub last_stride: usize,
    /// What lies between the first norm and the first stage.
    pub stem: Stem,
    /// Whether the map is pooled by a generalised mean instead of the mean.
    pub gem: Gem,
    /// Whether non-local blocks lie behind the last blocks of the second and the third stage.
    pub non_local: bool,
}

/// Stride of the last stage, where nothing else is asked for.
const LAST_STRIDE: usize = 1;

/// The same by the names of flags: a setting that hangs on another is there with it only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
struct Flat {
    bnneck: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<HeadKind>,
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
    last_stride: usize,
    stem: Stem,
    gem: Gem,
    non_local: bool,
    /// Of earlier checkpoints.
    #[serde(skip_serializing)]
    before_neck: bool,
}

impl Default for Flat {
    fn default() -> Self {
        Self {
            bnneck: false,
            head: None,
            feats: None,
            feat_inference: None,
            drop_block: Drop::default(),
            h_ratio: None,
            w_ratio: None,
            attention: AttentionKind::default(),
            last_stride: LAST_STRIDE,
            stem: Stem::default(),
            gem: Gem::default(),
            non_local: false,
            before_neck: false,
        }
    }
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
        let feats = flat.feats.unwrap_or(feats());
        Self {
            variant: ResNetVariant::default(),
            head: match flat.head.unwrap_or_default() {
                _ if flat.bnneck => ResNet50Head::Neck { feat_inference: flat.feat_inference.unwrap_or(before) },
                HeadKind::Block => ResNet50Head::Reduction { feats },
                HeadKind::Linear => ResNet50Head::Linear { feats },
                HeadKind::None => ResNet50Head::Plain,
            },
            drop_block: match flat.drop_block {
                Drop::Asked(false) => None,
                Drop::Asked(true) => Some([flat.h_ratio.unwrap_or(SHARES[0]), flat.w_ratio.unwrap_or(SHARES[1])]),
                Drop::Shares(shares) => Some(shares),
            },
            attention: flat.attention,
            last_stride: flat.last_stride,
            stem: flat.stem,
            gem: flat.gem,
            non_local: flat.non_local,
        }
    }
}

impl From<ResNet50Settings> for Flat {
    fn from(settings: ResNet50Settings) -> Self {
        let (bnneck, head, feats, feat_inference) = match settings.head {
            ResNet50Head::Reduction { feats } => (false, Some(HeadKind::Block), Some(feats), None),
            ResNet50Head::Linear { feats } => (false, Some(HeadKind::Linear), Some(feats), None),
            ResNet50Head::Plain => (false, Some(HeadKind::None), None, None),
            ResNet50Head::Neck { feat_inference } => (true, None, None, Some(feat_inference)),
        };
        let [h_ratio, w_ratio] = [0, 1].map(|side| settings.drop_block.map(|shares| shares[side]));
        Self {
            bnneck,
            head,
            feats,
            feat_inference,
            drop_block: Drop::Asked(settings.drop_block.is_some()),
            h_ratio,
            w_ratio,
            attention: settings.attention,
            last_stride: settings.last_stride,
            stem: settings.stem,
            gem: settings.gem,
            non_local: settings.non_local,
            before_neck: false,
        }
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

    /// Whether the network stores ImageNet's classifier, which nothing reads: LightMBN's state dictionaries have it,
    /// and no other project's.
    fn stores_classifier(&self) -> bool {
        let head = matches!(self.head, ResNet50Head::Reduction { .. } | ResNet50Head::Neck { .. });
        let trunk = (self.last_stride, self.stem, self.gem, self.non_local);
        head && trunk == (LAST_STRIDE, Stem::Padded, Gem::None, false)
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
            ResNet50Head::Reduction { feats } | ResNet50Head::Linear { feats } => feats,
            ResNet50Head::Neck { .. } | ResNet50Head::Plain => RESNET_FEATURES,
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        counts([("feats", self.features(), 1, MOST_FEATURES), ("last-stride", self.last_stride, 1, 2)])?;
        if self.gem != Gem::None && self.drop_block.is_some() {
            let why = "a map with a dropped block is pooled by its maximum";
            return Err(ConfigError::Conflict { flag: "gem", other: "drop-block", why });
        }
        let [height, width] = self.drop_block.unwrap_or(SHARES);
        for (flag, share) in [("h-ratio", height), ("w-ratio", width)] {
            if !(share > 0.0 && share <= 1.0) {
                return Err(range(flag, share, "numbers above 0 up to 1"));
            }
        }
        Ok(())
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
        let head = |head| Network::ResNet50(Self { head, ..self.clone() });
        let block = Self { drop_block: Some(SHARES), ..self.clone() };
        vec![
            ("--bnneck", head(Self::with_neck().head)),
            ("--drop-block", Network::ResNet50(block)),
            ("--head linear", head(ResNet50Head::Linear { feats: feats() })),
            ("--head none", head(ResNet50Head::Plain)),
        ]
    }

    fn published(&self) -> Vec<(&'static str, Network)> {
        let plain = Self { head: ResNet50Head::Plain, last_stride: 2, ..self.clone() };
        let neck = Self { head: Self::with_neck().head, ..self.clone() };
        let fast_reid = Self { stem: Stem::Unpadded, ..neck.clone() };
        // The scripts of "Bag of tricks" lack the ReLU in their plain ResNet only.
        let stem = if self.variant == ResNetVariant::R50 { Stem::NoRelu } else { Stem::Padded };
        let all = [
            // "Bag of tricks", SBS, AGW, and the pool of SBS alone.
            ("fast-reid", fast_reid.clone()),
            ("fast-reid", Self { gem: Gem::Learned, non_local: true, ..fast_reid.clone() }),
            ("fast-reid", Self { gem: Gem::Fixed, non_local: true, ..fast_reid.clone() }),
            ("fast-reid", Self { gem: Gem::Learned, ..fast_reid }),
            ("reid-strong-baseline", Self { stem, ..neck }),
            ("torchreid", Self { head: ResNet50Head::Linear { feats: feats() }, ..self.clone() }),
            // torchreid's plain one, torchvision's, IBN-Net's.
            ("torch", plain),
        ];
        all.into_iter().map(|(project, own)| (project, Network::ResNet50(own))).collect()
    }

    fn spellings(&self) -> &'static [Spelling] {
        spellings(&self.head)
    }

    fn flags(&self) -> Vec<String> {
        let flags = [
            (matches!(self.head, ResNet50Head::Neck { .. }), "--bnneck"),
            (matches!(self.head, ResNet50Head::Linear { .. }), "--head linear"),
            (self.head == ResNet50Head::Plain, "--head none"),
            (self.before_neck(), "--feat-inference before"),
            (self.drop_block.is_some(), "--drop-block"),
            (self.last_stride == 2, "--last-stride 2"),
            (self.stem == Stem::Unpadded, "--stem unpadded"),
            (self.stem == Stem::NoRelu, "--stem no-relu"),
            (self.gem == Gem::Fixed, "--gem fixed"),
            (self.gem == Gem::Learned, "--gem learned"),
            (self.non_local, "--non-local"),
        ];
        let flags = flags.into_iter().filter(|(on, _)| *on).map(|(_, flag)| flag.to_owned());
        flags.chain(super::attention_flag(self.attention)).collect()
    }

    fn compared(&self) -> &'static str {
        match self.head {
            _ if self.before_neck() => "features before the batch-norm neck",
            ResNet50Head::Linear { .. } => "features behind the linear layer, its norm and its ReLU",
            ResNet50Head::Plain => "the pooled map",
            _ => COMPARED,
        }
    }
}

/// The network. `N` is the first norm of most bottlenecks.
#[derive(Module, Debug)]
pub struct ReidResNet50<N = UnbiasedBatchNorm> {
    model: ResNet<N>,
    classifier: Head,
    pool: Option<GemPool>,
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
            ResNet50Head::Linear { feats } => Head::Linear(LinearHead::new(RESNET_FEATURES, feats, classes, device)),
            ResNet50Head::Plain => Head::Plain(PlainHead::new(RESNET_FEATURES, classes, device)),
        };
        let model = ResNet::new(blocks, settings.last_stride, device).with_stem(settings.stem);
        let model = if settings.non_local { model.with_non_local(device) } else { model };
        let model = if settings.stores_classifier() { model.with_classifier(device) } else { model };
        Self {
            model: model.with_attention(settings.attention, device),
            classifier,
            pool: GemPool::new(settings.gem, device),
            drop_block: settings.drop_block,
            before_neck: settings.before_neck(),
            name: settings.name(),
        }
    }

    fn pool(&self, map: Tensor<4>) -> Tensor<4> {
        match &self.pool {
            Some(pool) => pool.whole(map),
            None if self.drop_block.is_some() => Pool::Max.whole(map),
            None => Pool::Avg.whole(map),
        }
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

    fn feature_maps(&self, images: Tensor<4>) -> Vec<(&'static str, Tensor<4>)> {
        vec![("whole", self.model.forward_features(images))]
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
        Some(("pool", _)) => Init::Constant(EXPONENT),
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

/// The keys of other projects whose ResNet-50 has this head.
fn spellings(head: &ResNet50Head) -> &'static [Spelling] {
    // Of fast-reid, whose versions name one thing or another anew.
    const BACKBONE: (&str, &str) = ("model.", "backbone.");
    const NORM: (&str, &str) = ("classifier.bn.", "heads.bottleneck.0.");
    const CLASSIFIER: (&str, &str) = ("classifier.classifier.", "heads.classifier.");
    const POOL: (&str, &str) = ("pool.", "heads.pool_layer.");
    const NECK: &[Spelling] = &[
        Spelling {
            project: "fast-reid",
            beginnings: &[BACKBONE, NORM, ("classifier.classifier.weight", "heads.weight"), POOL],
        },
        Spelling { project: "fast-reid 1.0", beginnings: &[BACKBONE, NORM, CLASSIFIER, POOL] },
        // That of the weights in its model zoo.
        Spelling {
            project: "fast-reid 0.1",
            beginnings: &[BACKBONE, ("classifier.bn.", "heads.bnneck."), CLASSIFIER, POOL],
        },
        Spelling {
            project: "reid-strong-baseline (Bag of tricks)",
            beginnings: &[
                ("model.", "base."),
                ("classifier.bn.", "bottleneck."),
                ("classifier.classifier.", "classifier."),
            ],
        },
    ];
    const LINEAR: &[Spelling] = &[Spelling {
        project: "torchreid",
        beginnings: &[("model.", ""), ("classifier.fc.", "fc."), ("classifier.classifier.", "classifier.")],
    }];
    const PLAIN: &[Spelling] = &[
        Spelling { project: "torchreid", beginnings: &[("model.", ""), ("classifier.classifier.", "classifier.")] },
        Spelling {
            project: "torchvision or IBN-Net (an ImageNet classifier)",
            beginnings: &[("model.", ""), ("classifier.classifier.", "fc.")],
        },
    ];
    match head {
        ResNet50Head::Reduction { .. } => &[],
        ResNet50Head::Neck { .. } => NECK,
        ResNet50Head::Linear { .. } => LINEAR,
        ResNet50Head::Plain => PLAIN,
    }
}
