//! Networks. Burn only: no data set and no loss is known here.

mod controlnet;
mod dropout;
mod erase;
mod head;
mod init;
mod lmbn_n;
mod norm;
mod osnet;
pub mod palmvein;
mod pickle;
mod resnet;
pub mod senet;
mod weights;

use std::collections::BTreeSet;
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

pub use controlnet::{
    ControlNet, ControlNetConfig, EMBEDDING, EncoderKind, Generated, encoder_of, is_resnet50, load_controlnet,
};
pub use dropout::{Dropout, Masks};
pub use erase::drop_top_rows;
pub use lmbn_n::LmbnN;
pub use norm::UnbiasedBatchNorm;
pub use resnet::{RESNET50_FEATURES, ResNet50};
pub use weights::{LoadReport, Partial, StateDict, WeightsError};

/// What a re-identification network gives a training step.
pub struct TrainOutput {
    /// Class scores, each `[batch, classes]`.
    pub scores: Vec<Tensor<2>>,
    /// Features for metric losses, each `[batch, features]`.
    pub features: Vec<Tensor<2>>,
}

/// Names of the re-identification networks, as `--model` takes them.
pub const REID_NETWORKS: [&str; 1] = ["LMBN_n"];

/// What fixes a re-identification network's parameters, stored in each checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReidNetConfig {
    /// One of [`REID_NETWORKS`].
    pub model: String,
    /// Training identities.
    pub classes: usize,
    /// Values per part of the embedding.
    pub features: usize,
}

impl std::fmt::Display for ReidNetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {} features a part and {} training identities", self.model, self.features, self.classes)
    }
}

/// A re-identification network chosen by name.
#[derive(Module, Debug)]
pub enum ReidNet {
    /// See [`LmbnN`].
    LmbnN(LmbnN),
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
        let (mut net, source) = match config.model.as_str() {
            "LMBN_n" => (Self::LmbnN(LmbnN::new(config.classes, config.features, device)), LmbnN::init),
            _ => return Err(UnknownNetwork { found: config.model.clone() }),
        };
        init::initialise(&mut net, source, seed);
        Ok(net)
    }

    /// Training, on an autodiff device: `[batch, 3, height, width]` to scores and features.
    pub fn forward(&self, images: Tensor<4>) -> TrainOutput {
        match self {
            Self::LmbnN(net) => net.forward(images),
        }
    }

    /// Evaluation, on a device without autodiff (`net.valid()`): `[batch, 3, height, width]` to `[batch, features, parts]`.
    pub fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        match self {
            Self::LmbnN(net) => net.embed(images),
        }
    }

    /// Parts of an embedding.
    pub fn parts(&self) -> usize {
        match self {
            Self::LmbnN(_) => lmbn_n::PARTS,
        }
    }

    /// Fills the network from a weights file: its own weights, or those of its backbone's ImageNet classifier (`conv1.…` to
    /// `conv5.…`), which every branch then starts from while the heads keep theirs.
    ///
    /// # Errors
    /// See [`WeightsError`]; the network is unchanged unless the result is `Ok`.
    pub fn load_pretrained(&mut self, path: &Path, partial: Partial) -> Result<LoadReport, WeightsError> {
        let (name, backbone_key): (_, fn(&str) -> Option<String>) = match self {
            Self::LmbnN(_) => ("LMBN_n", LmbnN::backbone_key),
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
