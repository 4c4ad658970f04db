//! PCB, the part-based network of Sun et al. 2018 (arXiv:1711.09349) on ResNet-50, with a head for the whole map beside
//! those for its stripes: 35.6 M parameters with 751 classes, 512 features, six stripes and necks.
//!
//! Fields are arranged so that a parameter's path is its key in the reference's state dictionary.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::nn::attention::AttentionKind;
use crate::nn::init::Source;
use crate::nn::resnet::{self, RESNET_FEATURES, RESNET50, ResNet};
use crate::run::checks::{ConfigError, counts};

use super::head::{self, BnNeck3, ClassBlock, Head, HeadOutput};
use super::pool::Pool;
use super::{Draws, MOST_FEATURES, Network, NetworkSettings, ReidModule, ReidNet, TrainOutput, feats};

/// Most stripes that a map can be cut into: more than the largest picture has rows in its map.
const MOST_PARTS: usize = 512;

/// Share of a stripe's features that training drops, where there is no neck.
const DROPPED: f64 = 0.5;

/// Factor of the backbone's learning rate where it has one of its own.
const BACKBONE_RATE: f64 = 0.1;

/// Settings of [`Pcb`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PcbSettings {
    /// Stripes that the map is cut into.
    pub parts: usize,
    /// Whether the stripes' heads have batch-norm necks.
    pub bnneck: bool,
    /// Features of each part of an embedding.
    pub feats: usize,
    /// Whether the backbone learns at a tenth of the rate.
    pub pcb_different_lr: bool,
    /// Attention behind the second and the third stage.
    pub attention: AttentionKind,
}

impl Default for PcbSettings {
    fn default() -> Self {
        Self { parts: 6, bnneck: false, feats: feats(), pcb_different_lr: false, attention: AttentionKind::default() }
    }
}

impl NetworkSettings for PcbSettings {
    fn name(&self) -> &'static str {
        "PCB"
    }

    fn about(&self) -> &'static str {
        "ResNet-50 cut into stripes (Sun et al. 2018)."
    }

    fn features(&self) -> usize {
        self.feats
    }

    fn check(&self) -> Result<(), ConfigError> {
        counts([("feats", self.feats, 1, MOST_FEATURES), ("parts", self.parts, 1, MOST_PARTS)])
    }

    fn read(&self, flat: Map<String, Value>) -> Result<Network, serde_json::Error> {
        serde_json::from_value(Value::Object(flat)).map(Network::Pcb)
    }

    fn build(&self, classes: usize, device: &Device) -> ReidNet {
        ReidNet::Pcb(Pcb::new(self, classes, device))
    }

    fn flags(&self) -> Vec<String> {
        let mut flags = vec![format!("--parts {}", self.parts)];
        if self.bnneck {
            flags.push("--bnneck".to_owned());
        }
        flags.extend(super::attention_flag(self.attention));
        flags
    }

    fn rate(&self, path: &str) -> f64 {
        // Paths of a training loop begin with the network's place in `ReidNet`.
        let path = path.strip_prefix("Pcb.").unwrap_or(path);
        if self.pcb_different_lr && path.starts_with("model.") { BACKBONE_RATE } else { 1.0 }
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct Pcb {
    model: ResNet,
    /// A head for each stripe, `classifier0`, `classifier1` … in files.
    classifier_: Vec<Head>,
    global_branch: BnNeck3,
}

impl Pcb {
    /// The network for `classes` training identities, not yet initialised.
    fn new(settings: &PcbSettings, classes: usize, device: &Device) -> Self {
        let features = settings.feats;
        let global = || BnNeck3::new(RESNET_FEATURES, features, classes, device);
        let head = || match settings.bnneck {
            true => Head::Reduced(global()),
            false => Head::Block(ClassBlock::new(RESNET_FEATURES, features, classes, DROPPED, device)),
        };
        let model = ResNet::new(RESNET50, 1, device).with_classifier(device);
        Self {
            model: model.with_attention(settings.attention, device),
            classifier_: (0..settings.parts).map(|_| head()).collect(),
            global_branch: global(),
        }
    }

    /// What the heads read: the stripes, then the whole map.
    fn pool(&self, images: Tensor<4>) -> (Vec<Tensor<4>>, Tensor<4>) {
        let map = self.model.forward_features(images);
        (Pool::Avg.stripes(map.clone(), self.classifier_.len()), Pool::Avg.whole(map))
    }
}

impl ReidModule for Pcb {
    fn name(&self) -> &'static str {
        "PCB"
    }

    /// A score for each stripe and one for the whole, and the whole's features before the neck.
    fn forward(&self, images: Tensor<4>, mut draws: Draws) -> TrainOutput {
        let (stripes, whole) = self.pool(images);
        let stripes = self.classifier_.iter().zip(stripes);
        let mut scores: Vec<_> = stripes.map(|(head, part)| head.forward(part, &mut draws.masks).scores).collect();
        let HeadOutput { scores: whole, before } = self.global_branch.forward(whole);
        scores.push(whole);
        TrainOutput { scores, features: vec![before] }
    }

    /// Features after the last norm, stripes from the top, then the whole: `[batch, features, parts + 1]`.
    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let (stripes, whole) = self.pool(images);
        let mut parts: Vec<_> = self.classifier_.iter().zip(stripes).map(|(head, part)| head.embed(part)).collect();
        parts.push(self.global_branch.embed(whole));
        Tensor::stack(parts, 2)
    }

    fn feature_maps(&self, images: Tensor<4>) -> Vec<(&'static str, Tensor<4>)> {
        vec![("whole", self.model.forward_features(images))]
    }

    fn parts(&self) -> usize {
        self.classifier_.len() + 1
    }

    fn init(&self) -> fn(&str) -> Source {
        source
    }

    fn backbone_key(&self) -> fn(&str) -> Option<String> {
        |key| key.strip_prefix("model.").and_then(resnet::classifier_key)
    }
}

/// How the parameter at `key` starts.
fn source(key: &str) -> Source {
    let init = match key.split_once('.') {
        Some(("model", rest)) => resnet::init(rest),
        Some((_, rest)) => head::init(rest),
        None => unreachable!("`{key}` has no module"),
    };
    Source { name: key.to_owned(), init }
}
