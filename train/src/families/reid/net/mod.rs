//! Networks of re-identification.

mod erase;
mod head;
mod lmbn_n;
mod os_block;
mod osnet;
mod resnet50;

use std::collections::BTreeSet;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::nn::init;
use crate::nn::resnet::RESNET50_FEATURES;
use crate::weights::{LoadReport, Partial, StateDict, WeightsError};

pub use erase::{drop_block, drop_top_rows};
pub use lmbn_n::LmbnN;
pub use osnet::OsNet;
pub use resnet50::{ReidResNet50, ReidResNet50Options};

/// What a re-identification network gives a training step.
pub struct TrainOutput {
    /// Class scores, each `[batch, classes]`.
    pub scores: Vec<Tensor<2>>,
    /// Features for metric losses, each `[batch, features]`.
    pub features: Vec<Tensor<2>>,
}

/// Names of the re-identification networks, as `--model` takes them.
pub const REID_NETWORKS: [&str; 6] = ["LMBN_n", "OSNet", "OSNet_x0_75", "OSNet_x0_5", "OSNet_x0_25", "ResNet50"];

/// What fixes a re-identification network's parameters, stored in each checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReidNetConfig {
    /// One of [`REID_NETWORKS`].
    pub model: String,
    /// Training identities.
    pub classes: usize,
    /// Values per part of the embedding.
    pub features: usize,
    /// ResNet50: a batch-norm neck on the map's 2048 channels, which then are the embedding, instead of a reduction.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bnneck: bool,
    /// ResNet50: share of height and width of the block that training erases; the map is then pooled by its maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drop_block: Option<[f64; 2]>,
    /// ResNet50: embeddings are the features before the neck.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub before_neck: bool,
}

impl ReidNetConfig {
    /// The network called `model`, in its plain form.
    pub fn new(model: &str, classes: usize, features: usize) -> Self {
        Self { model: model.to_owned(), classes, features, bnneck: false, drop_block: None, before_neck: false }
    }

    /// Values per part of an embedding, and of the features that metric losses read.
    pub fn width(&self) -> usize {
        if self.bnneck { RESNET50_FEATURES } else { self.features }
    }
}

impl std::fmt::Display for ReidNetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {} features a part and {} training identities", self.model, self.width(), self.classes)?;
        let options = [
            (self.bnneck, "a neck"),
            (self.drop_block.is_some(), "a drop block"),
            (self.before_neck, "features before it"),
        ];
        options.iter().filter(|(on, _)| *on).try_for_each(|(_, option)| write!(f, ", {option}"))
    }
}

/// A re-identification network chosen by name.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a program has one network, and Burn has no boxed modules")]
pub enum ReidNet {
    /// See [`LmbnN`].
    LmbnN(LmbnN),
    /// See [`OsNet`].
    OsNet(OsNet),
    /// See [`ReidResNet50`].
    ResNet50(ReidResNet50),
}

/// A name that is not in [`REID_NETWORKS`].
#[derive(Debug, thiserror::Error)]
#[error("unknown network `{found}`; known: {}", REID_NETWORKS.join(", "))]
pub struct UnknownNetwork {
    /// The name.
    pub found: String,
}

impl ReidNet {
    /// The network with the initial weights of `seed`.
    ///
    /// # Errors
    /// If the name is unknown.
    pub fn new(config: &ReidNetConfig, seed: u64, device: &Device) -> Result<Self, UnknownNetwork> {
        let &ReidNetConfig { classes, features, bnneck, drop_block, before_neck, .. } = config;
        let width = osnet::WIDTHS.iter().find(|(name, _)| *name == config.model);
        let (mut net, source): (_, fn(&str) -> init::Source) = match (config.model.as_str(), width) {
            ("LMBN_n", _) => (Self::LmbnN(LmbnN::new(classes, features, device)), LmbnN::init),
            ("ResNet50", _) => {
                let options = ReidResNet50Options { features, bnneck, drop_block, before_neck };
                (Self::ResNet50(ReidResNet50::new(classes, options, device)), ReidResNet50::init)
            }
            (_, Some((_, channels))) => (Self::OsNet(OsNet::new(*channels, classes, features, device)), OsNet::init),
            _ => return Err(UnknownNetwork { found: config.model.clone() }),
        };
        init::initialise(&mut net, source, seed);
        Ok(net)
    }

    /// Training, on an autodiff device: `[batch, 3, height, width]` to scores and features. What is erased at random
    /// lies in the middle: see [`ReidNet::forward_at`].
    pub fn forward(&self, images: Tensor<4>) -> TrainOutput {
        self.forward_at(images, [0.5, 0.5])
    }

    /// As [`ReidNet::forward`], with the place of what is erased at random, each in `[0, 1)`: see [`drop_block`].
    pub fn forward_at(&self, images: Tensor<4>, place: [f64; 2]) -> TrainOutput {
        match self {
            Self::LmbnN(net) => net.forward(images),
            Self::OsNet(net) => net.forward(images),
            Self::ResNet50(net) => net.forward(images, place),
        }
    }

    /// Evaluation, on a device without autodiff (`net.valid()`): `[batch, 3, height, width]` to `[batch, features,
    /// parts]`.
    pub fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        match self {
            Self::LmbnN(net) => net.embed(images),
            Self::OsNet(net) => net.embed(images),
            Self::ResNet50(net) => net.embed(images),
        }
    }

    /// Parts of an embedding.
    pub fn parts(&self) -> usize {
        match self {
            Self::LmbnN(_) => lmbn_n::PARTS,
            Self::OsNet(_) | Self::ResNet50(_) => 1,
        }
    }

    /// Fills the network from a weights file: its own weights, or those of its backbone's ImageNet classifier
    /// (`conv1.…` to `conv5.…`, which every branch then starts from while the heads keep theirs; or torchvision's
    /// ResNet-50).
    ///
    /// # Errors
    /// See [`WeightsError`]; the network is unchanged unless the result is `Ok`.
    pub fn load_pretrained(&mut self, path: &Path, partial: Partial) -> Result<LoadReport, WeightsError> {
        let (name, backbone_key): (_, fn(&str) -> Option<String>) = match self {
            Self::LmbnN(_) => ("LMBN_n", LmbnN::backbone_key),
            // The classifier of ImageNet is this network with other classes.
            Self::OsNet(_) => ("OSNet", |_| None),
            Self::ResNet50(_) => ("ResNet50", ReidResNet50::backbone_key),
        };
        let own = StateDict::of(self);
        let file = StateDict::read(path)?;
        let is_backbone = |key: &str| backbone_key(key).is_some_and(|source| file.get(&source).is_some());
        if !own.iter().any(|(key, _)| is_backbone(key)) {
            return StateDict::load_file(path, self, name, partial);
        }
        let spread = file.spread(&own, backbone_key);
        let mut report = spread.compare(&own);
        let used: BTreeSet<_> = own.iter().filter_map(|(key, _)| backbone_key(key)).collect();
        // What an ImageNet classifier has behind its backbone is of no use here; anything else left over is an error.
        let head = |key: &str| ["fc.", "classifier."].iter().any(|head| key.starts_with(head));
        let counted = |key: &str| key.ends_with(".num_batches_tracked");
        let (aside, unused): (Vec<_>, Vec<_>) = file
            .iter()
            .map(|(key, _)| key.to_owned())
            .filter(|key| !used.contains(key) && !counted(key))
            .partition(|key| head(key));
        (report.aside, report.unused) = (aside, unused);
        // Those of the backbone first, which are an error; the heads keep theirs.
        report.missing.sort_by_key(|key| backbone_key(key).is_none());
        let heads_only = report.missing.iter().all(|key| backbone_key(key).is_none());
        if !heads_only || !report.unused.is_empty() || !report.mismatched.is_empty() {
            let (path, network) = (path.to_owned(), format!("the backbone of {name}"));
            return Err(WeightsError::Mismatch { path, network, report: Box::new(report) });
        }
        spread.load_into(self);
        Ok(report)
    }
}
