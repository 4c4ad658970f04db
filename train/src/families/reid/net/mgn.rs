//! MGN, the multiple-granularity network of Wang et al. 2018 (arXiv:1804.01438) on ResNet-50: 76.1 M parameters with
//! 751 classes and 512 features.
//!
//! Fields and tuples are arranged so that a parameter's path is its key in the reference's state dictionary.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::nn::attention::{self, Attention, AttentionKind};
use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::conv;
use crate::nn::init::{Init, Source};
use crate::nn::resnet::RESNET_FEATURES;

use super::pool::Pool;
use super::resnet_branch::{self as resnet, Branch, Trunk};
use super::{Draws, Network, NetworkSettings, ReidModule, ReidNet, TrainOutput, feats};

/// Parts of an embedding: the whole map of each branch, two stripes of the second, three of the third.
const PARTS: usize = 8;

/// Parts whose features metric losses read: the whole maps, which come first.
const WHOLE: usize = 3;

/// Settings of [`Mgn`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MgnSettings {
    /// How maps and stripes become vectors.
    pub pool: Pool,
    /// Features of each part of an embedding.
    pub feats: usize,
    /// Attention behind the second stage and behind the trunk.
    pub attention: AttentionKind,
}

impl Default for MgnSettings {
    fn default() -> Self {
        Self { pool: Pool::default(), feats: feats(), attention: AttentionKind::default() }
    }
}

impl NetworkSettings for MgnSettings {
    fn name(&self) -> &'static str {
        "MGN"
    }

    fn about(&self) -> &'static str {
        "Multiple-granularity network on ResNet-50 (Wang et al. 2018)."
    }

    fn features(&self) -> usize {
        self.feats
    }

    fn read(&self, flat: Map<String, Value>) -> Result<Network, serde_json::Error> {
        serde_json::from_value(Value::Object(flat)).map(Network::Mgn)
    }

    fn build(&self, classes: usize, device: &Device) -> ReidNet {
        ReidNet::Mgn(Mgn::new(self, classes, device))
    }

    fn flags(&self) -> Vec<String> {
        let pool = (self.pool != Pool::default()).then(|| format!("--pool {}", self.pool));
        pool.into_iter().chain(super::attention_flag(self.attention)).collect()
    }

    fn compared(&self) -> &'static str {
        "features after the reductions, one column for each part"
    }
}

/// A 1×1 convolution, batch norm and ReLU.
type Reduction = (Conv2d, UnbiasedBatchNorm);

/// The network. `backone` is spelled as in the reference's keys.
#[derive(Module, Debug)]
pub struct Mgn {
    backone: Trunk,
    p1: Branch,
    p2: Branch,
    p3: Branch,
    reduction_0: Reduction,
    reduction_1: Reduction,
    reduction_2: Reduction,
    reduction_3: Reduction,
    reduction_4: Reduction,
    reduction_5: Reduction,
    reduction_6: Reduction,
    reduction_7: Reduction,
    fc_id_2048_0: Linear,
    fc_id_2048_1: Linear,
    fc_id_2048_2: Linear,
    fc_id_256_1_0: Linear,
    fc_id_256_1_1: Linear,
    fc_id_256_2_0: Linear,
    fc_id_256_2_1: Linear,
    fc_id_256_2_2: Linear,
    /// Behind the second stage and behind the trunk, if there is any.
    attention: Vec<Attention>,
    #[module(skip)]
    pool: Pool,
}

impl Mgn {
    /// The network for `classes` training identities, not yet initialised.
    fn new(settings: &MgnSettings, classes: usize, device: &Device) -> Self {
        let features = settings.feats;
        let reduction = || -> Reduction {
            (conv(RESNET_FEATURES, features, 1, 1, 1, device), UnbiasedBatchNorm::new(features, device))
        };
        let classifier = || LinearConfig::new(features, classes).init(device);
        Self {
            backone: resnet::trunk(device),
            p1: resnet::branch(2, device),
            p2: resnet::branch(1, device),
            p3: resnet::branch(1, device),
            reduction_0: reduction(),
            reduction_1: reduction(),
            reduction_2: reduction(),
            reduction_3: reduction(),
            reduction_4: reduction(),
            reduction_5: reduction(),
            reduction_6: reduction(),
            reduction_7: reduction(),
            fc_id_2048_0: classifier(),
            fc_id_2048_1: classifier(),
            fc_id_2048_2: classifier(),
            fc_id_256_1_0: classifier(),
            fc_id_256_1_1: classifier(),
            fc_id_256_2_0: classifier(),
            fc_id_256_2_1: classifier(),
            fc_id_256_2_2: classifier(),
            attention: resnet::attention(settings.attention, device),
            pool: settings.pool,
        }
    }

    /// The maps of the branches.
    fn maps(&self, images: Tensor<4>) -> [Tensor<4>; 3] {
        let trunk = resnet::trunk_map(&self.backone, &self.attention, images);
        [&self.p1, &self.p2, &self.p3].map(|branch| resnet::branch_map(branch, trunk.clone()))
    }

    /// Features of every part, in order, each `[batch, features]`.
    fn features(&self, images: Tensor<4>) -> Vec<Tensor<2>> {
        let [p1, p2, p3] = self.maps(images);
        let whole = [&p1, &p2, &p3].map(|map| self.pool.whole(map.clone()));
        let stripes = self.pool.stripes(p2, 2).into_iter().chain(self.pool.stripes(p3, 3));
        let reductions: [&Reduction; PARTS] = [
            &self.reduction_0,
            &self.reduction_1,
            &self.reduction_2,
            &self.reduction_3,
            &self.reduction_4,
            &self.reduction_5,
            &self.reduction_6,
            &self.reduction_7,
        ];
        let reduce = |((reduce, norm), pooled): (&Reduction, Tensor<4>)| {
            norm.forward_relu(kernels::conv2d(reduce, pooled)).flatten::<2>(1, 3)
        };
        reductions.into_iter().zip(whole.into_iter().chain(stripes)).map(reduce).collect()
    }
}

impl ReidModule for Mgn {
    fn name(&self) -> &'static str {
        "MGN"
    }

    /// A score for each part, and the features of the whole maps.
    fn forward(&self, images: Tensor<4>, _: Draws) -> TrainOutput {
        let mut features = self.features(images);
        let classifiers: [&Linear; PARTS] = [
            &self.fc_id_2048_0,
            &self.fc_id_2048_1,
            &self.fc_id_2048_2,
            &self.fc_id_256_1_0,
            &self.fc_id_256_1_1,
            &self.fc_id_256_2_0,
            &self.fc_id_256_2_1,
            &self.fc_id_256_2_2,
        ];
        let scores = classifiers.into_iter().zip(&features).map(|(layer, part)| layer.forward(part.clone())).collect();
        features.truncate(WHOLE);
        TrainOutput { scores, features }
    }

    /// Features of every part, none negative, `[batch, features, 8]`.
    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        Tensor::stack(self.features(images), 2)
    }

    fn feature_maps(&self, images: Tensor<4>) -> Vec<(&'static str, Tensor<4>)> {
        ["whole", "two stripes", "three stripes"].into_iter().zip(self.maps(images)).collect()
    }

    fn parts(&self) -> usize {
        PARTS
    }

    fn init(&self) -> fn(&str) -> Source {
        source
    }

    fn backbone_key(&self) -> fn(&str) -> Option<String> {
        |key| resnet::classifier_key(key, &["p1", "p2", "p3"])
    }
}

/// How the parameter at `key` starts. Branches and reductions are copies of one another.
fn source(key: &str) -> Source {
    let twin = |prefix: &str, original: &str| key.strip_prefix(prefix).map(|rest| format!("{original}{rest}"));
    let name = twin("p2.", "p1.")
        .or_else(|| twin("p3.", "p1."))
        .or_else(|| (1..PARTS).find_map(|k| twin(&format!("reduction_{k}."), "reduction_0.")))
        .unwrap_or_else(|| key.to_owned());
    let reduction = key.starts_with("reduction_");
    let init = if reduction && key.ends_with(".1.weight") {
        Init::NormalAroundOne { std: 0.02 }
    } else if reduction {
        Init::NormalFanIn { gain: std::f64::consts::SQRT_2 }
    } else if key.starts_with("attention.") {
        attention::init(key)
    } else {
        Init::NormalFanOut
    };
    Source { name, init }
}
