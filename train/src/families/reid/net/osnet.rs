//! OSNet, Zhou et al. 2019 (arXiv:1905.00953), as a network of its own: 2.55 M parameters with 751 classes at full
//! width.
//!
//! Fields and tuples are arranged so that a parameter's path is its key in the published state dictionaries.

use burn::module::Module;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, assert_shape};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::halving_max_pool;
use crate::nn::init::{Init, Source};
use crate::run::checks::{ConfigError, counts};
use crate::run::settings::fields;
use crate::words::{Word, words};

use super::os_block::{ConvLayer, OsBlock};
use super::{MOST_FEATURES, Network, NetworkSettings, ReidModule, ReidNet, TrainOutput, feats};

words! {
    /// How many channels an OSNet has, by the published name of that network.
    OsNetWidth (Full) {
        /// All of the paper's.
        Full = "OSNet",
        /// Three quarters of them.
        ThreeQuarters = "OSNet_x0_75",
        /// Half of them.
        Half = "OSNet_x0_5",
        /// A quarter of them.
        Quarter = "OSNet_x0_25",
    }
}

impl OsNetWidth {
    /// Channels after `conv1` … `conv4`.
    fn channels(self) -> [usize; 4] {
        match self {
            Self::Full => [64, 256, 384, 512],
            Self::ThreeQuarters => [48, 192, 288, 384],
            Self::Half => [32, 128, 192, 256],
            Self::Quarter => [16, 64, 96, 128],
        }
    }
}

/// Settings of [`OsNet`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OsNetSettings {
    /// Its channels, which its name tells.
    #[serde(skip)]
    pub width: OsNetWidth,
    /// Features of an embedding.
    pub feats: usize,
}

impl Default for OsNetSettings {
    fn default() -> Self {
        Self { width: OsNetWidth::default(), feats: feats() }
    }
}

impl OsNetSettings {
    /// The defaults of every width.
    pub(super) fn every() -> impl Iterator<Item = Self> {
        let width = |word: &&str| word.parse().expect("it is one of the words");
        OsNetWidth::WORDS.iter().map(move |word| Self { width: width(word), ..Self::default() })
    }
}

impl NetworkSettings for OsNetSettings {
    fn name(&self) -> &'static str {
        self.width.word()
    }

    fn features(&self) -> usize {
        self.feats
    }

    fn check(&self) -> Result<(), ConfigError> {
        counts([("feats", self.feats, 1, MOST_FEATURES)])
    }

    fn flat(&self) -> Map<String, Value> {
        fields(self)
    }

    fn read(&self, flat: Map<String, Value>) -> Result<Network, serde_json::Error> {
        let read: Self = serde_json::from_value(Value::Object(flat))?;
        Ok(Network::OsNet(Self { width: self.width, ..read }))
    }

    fn build(&self, classes: usize, device: &Device) -> ReidNet {
        ReidNet::OsNet(OsNet::new(self.width.channels(), classes, self.feats, device))
    }
}

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
    /// The network of these channels after `conv1` … `conv4`, for `classes` training identities and embeddings of
    /// `features`, not yet initialised.
    fn new([c0, c1, c2, c3]: [usize; 4], classes: usize, features: usize, device: &Device) -> Self {
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
}

impl ReidModule for OsNet {
    /// Of any width: their keys are the same.
    fn name(&self) -> &'static str {
        "OSNet"
    }

    /// One score, and the features it is read from.
    fn forward(&self, images: Tensor<4>, _: [f64; 2]) -> TrainOutput {
        let features = self.features(images);
        TrainOutput { scores: vec![self.classifier.forward(features.clone())], features: vec![features] }
    }

    /// Features, none negative, `[batch, features, 1]`.
    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        self.features(images).unsqueeze_dim(2)
    }

    fn init(&self) -> fn(&str) -> Source {
        source
    }
}

/// How the parameter at `key` starts.
fn source(key: &str) -> Source {
    let linear = ["fc.", "classifier."].iter().any(|head| key.starts_with(head));
    let init = if linear { Init::Normal { std: 0.01 } } else { Init::NormalFanOut };
    Source { name: key.to_owned(), init }
}
