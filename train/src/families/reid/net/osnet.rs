//! OSNet, Zhou et al. 2019 (arXiv:1905.00953), as a network of its own: 2.55 M parameters with 751 classes at full
//! width; and OSNet-AIN (arXiv:1910.06827), which has instance norms and other keys.
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
use crate::nn::instance_norm::MapNorm;
use crate::words::{each, meaning, words};

use super::erase::Block;
use super::os_block::{AinBlock, ConvLayer, OsBlock};
use super::{Draws, Network, NetworkSettings, ReidModule, ReidNet, TrainOutput, feats};

words! {
    /// Which OSNet: how many channels it has, and how it normalises.
    OsNetVariant (Full) {
        /// OSNet x1.0 (Zhou et al. 2019).
        Full = "OSNet",
        /// OSNet with 1¼ times the channels.
        Wide = "OSNet_x1_25",
        /// OSNet with ¾ of the channels.
        ThreeQuarters = "OSNet_x0_75",
        /// OSNet with half of the channels.
        Half = "OSNet_x0_5",
        /// OSNet with ¼ of the channels.
        Quarter = "OSNet_x0_25",
        /// OSNet x1.0 with instance norms in the first stages.
        Ibn = "OSNet_IBN",
        /// OSNet-AIN x1.0: instance norms where a search put them (Zhou et al. 2019).
        Ain = "OSNet_AIN",
    }
}

impl OsNetVariant {
    /// Channels after `conv1` … `conv4`.
    fn channels(self) -> [usize; 4] {
        match self {
            Self::Full | Self::Ibn | Self::Ain => [64, 256, 384, 512],
            Self::Wide => [80, 320, 480, 640],
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
    /// Its channels and norms, which its name tells.
    #[serde(skip)]
    pub variant: OsNetVariant,
    /// Features of an embedding.
    pub feats: usize,
}

impl Default for OsNetSettings {
    fn default() -> Self {
        Self { variant: OsNetVariant::default(), feats: feats() }
    }
}

impl OsNetSettings {
    /// The defaults of every variant.
    pub(super) fn every() -> impl Iterator<Item = Self> {
        each().map(|variant| Self { variant, ..Self::default() })
    }
}

impl NetworkSettings for OsNetSettings {
    fn name(&self) -> &'static str {
        self.variant.word()
    }

    fn about(&self) -> &'static str {
        meaning(&self.variant)
    }

    fn features(&self) -> usize {
        self.feats
    }

    fn read(&self, flat: Map<String, Value>) -> Result<Network, serde_json::Error> {
        let read: Self = serde_json::from_value(Value::Object(flat))?;
        Ok(Network::OsNet(Self { variant: self.variant, ..read }))
    }

    fn build(&self, classes: usize, device: &Device) -> ReidNet {
        let [c0, c1, c2, c3] = self.variant.channels();
        let os = |input, output| (OsBlock::new(input, output, device), OsBlock::new(output, output, device));
        let ibn = || (OsBlock::normalised(c0, c1, device), OsBlock::normalised(c1, c1, device));
        let plain = |input, output| AinBlock::new(input, output, device);
        let ain = |input, output| AinBlock::normalised(input, output, device);
        match self.variant {
            OsNetVariant::Ibn => ReidNet::OsNetIbn(OsNet::new(self, [ibn(), os(c1, c2), os(c2, c3)], classes, device)),
            OsNetVariant::Ain => {
                let stages = [(ain(c0, c1), ain(c1, c1)), (plain(c1, c2), ain(c2, c2)), (ain(c2, c3), plain(c3, c3))];
                ReidNet::OsNetAin(OsNet::new(self, stages, classes, device))
            }
            _ => ReidNet::OsNet(OsNet::new(self, [os(c0, c1), os(c1, c2), os(c2, c3)], classes, device)),
        }
    }
}

/// A 1×1 convolution and a halving of the size.
type Halving = (ConvLayer, AvgPool2d);

fn halving(channels: usize, device: &Device) -> Halving {
    let pool = AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
    (ConvLayer::pointwise(channels, channels, device), pool)
}

/// From a pooled map to an embedding.
type Reduction = (Linear, UnbiasedBatchNorm);

fn reduction(channels: usize, features: usize, device: &Device) -> Reduction {
    (LinearConfig::new(channels, features).init(device), UnbiasedBatchNorm::new(features, device))
}

/// The last map to an embedding, `[batch, features]`.
fn reduce((linear, norm): &Reduction, map: Tensor<4>) -> Tensor<2> {
    norm.forward_relu(linear.forward(kernels::global_avg_pool(map).flatten::<2>(1, 3)))
}

/// Two blocks, then a halving of the size where its keys are those of the stage.
type Stage<B> = (B, B, Option<Halving>);

/// The network. `N` is the first norm, and `B` the block: that of OSNet or that of OSNet-AIN.
#[derive(Module, Debug)]
pub struct OsNet<N = UnbiasedBatchNorm, B = OsBlock> {
    conv1: ConvLayer<N>,
    maxpool: MaxPool2d,
    conv2: Stage<B>,
    /// In OSNet-AIN, a layer beside the stage.
    pool2: Option<Halving>,
    conv3: Stage<B>,
    pool3: Option<Halving>,
    conv4: (B, B),
    conv5: ConvLayer,
    fc: Reduction,
    classifier: Linear,
    #[module(skip)]
    name: &'static str,
}

impl<N: MapNorm, B: Block> OsNet<N, B> {
    /// The network with these blocks for `classes` training identities, not yet initialised.
    fn new(settings: &OsNetSettings, stages: [(B, B); 3], classes: usize, device: &Device) -> Self {
        let [c0, c1, c2, c3] = settings.variant.channels();
        let [(block20, block21), (block30, block31), conv4] = stages;
        let beside = settings.variant == OsNetVariant::Ain;
        let halving = |channels| {
            let halving = Some(halving(channels, device));
            if beside { [None, halving] } else { [halving, None] }
        };
        let ([inside2, pool2], [inside3, pool3]) = (halving(c1), halving(c2));
        Self {
            conv1: ConvLayer::new(3, c0, 7, 2, device),
            maxpool: halving_max_pool(),
            conv2: (block20, block21, inside2),
            pool2,
            conv3: (block30, block31, inside3),
            pool3,
            conv4,
            conv5: ConvLayer::pointwise(c3, c3, device),
            fc: reduction(c3, settings.feats, device),
            classifier: LinearConfig::new(settings.feats, classes).init(device),
            // Those of any other variant have the same keys.
            name: if beside { settings.name() } else { "OSNet" },
        }
    }

    /// The map before it is pooled.
    fn map(&self, images: Tensor<4>) -> Tensor<4> {
        assert_shape!(images, [_, 3, _, _]);
        let stage = |(first, second, inside): &Stage<B>, beside: &Option<Halving>, map: Tensor<4>| {
            let map = second.of_map(first.of_map(map));
            match inside.as_ref().or(beside.as_ref()) {
                Some((reduce, halve)) => halve.forward(reduce.forward(map)),
                None => map,
            }
        };
        let map = self.maxpool.forward(self.conv1.forward(images));
        let map = stage(&self.conv3, &self.pool3, stage(&self.conv2, &self.pool2, map));
        self.conv5.forward(self.conv4.1.of_map(self.conv4.0.of_map(map)))
    }

    fn features(&self, images: Tensor<4>) -> Tensor<2> {
        reduce(&self.fc, self.map(images))
    }
}

impl<N: MapNorm, B: Block> ReidModule for OsNet<N, B> {
    fn name(&self) -> &'static str {
        self.name
    }

    /// One score, and the features it is read from.
    fn forward(&self, images: Tensor<4>, _: Draws) -> TrainOutput {
        let features = self.features(images);
        TrainOutput { scores: vec![self.classifier.forward(features.clone())], features: vec![features] }
    }

    /// Features, none negative, `[batch, features, 1]`.
    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        self.features(images).unsqueeze_dim(2)
    }

    fn feature_maps(&self, images: Tensor<4>) -> Vec<(&'static str, Tensor<4>)> {
        vec![("whole", self.map(images))]
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
