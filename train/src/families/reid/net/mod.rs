//! Networks of re-identification.

mod cost;
mod erase;
mod head;
mod lmbn;
mod lmbn_heads;
mod lmbn_n;
mod lmbn_r;
mod mgn;
mod os_block;
mod osnet;
mod pcb;
mod pool;
mod resnet50;
mod resnet_branch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::nn::attention::AttentionKind;
use crate::nn::dropout::Masks;
use crate::nn::init::{self, Source};
use crate::nn::instance_norm::{InstanceBatchNorm, SampleNorm};
use crate::run::checks::{ConfigError, counts};
use crate::run::settings::fields;
use crate::weights::{LoadReport, Partial, Shapes, StateDict, WeightsError, is_count, shapes_of};
use crate::words::hint;

use os_block::AinBlock;

pub use erase::{drop_block, drop_top_rows};
pub use lmbn::{LmbnSettings, LmbnTrunk};
pub use lmbn_n::LmbnN;
pub use lmbn_r::LmbnR;
pub use mgn::{Mgn, MgnSettings};
pub use osnet::{OsNet, OsNetSettings, OsNetVariant};
pub use pcb::{Pcb, PcbSettings};
pub use pool::{Gem, Pool};
pub use resnet50::{FeatInference, HeadKind, ReidResNet50, ResNet50Head, ResNet50Settings, ResNetVariant};

/// Most features of a part.
const MOST_FEATURES: usize = 65_536;

/// What an embedding is read from, in words.
const COMPARED: &str = "features after the last batch norm, one column for each part";

/// How keys begin of what an ImageNet classifier has behind its backbone.
const HEADS: [&str; 2] = ["fc.", "classifier."];

/// Features of a part, where nothing else is asked for.
const fn feats() -> usize {
    512
}

/// Which network, with the settings it has. In files they lie flat beside `model`, the network's name.
///
/// A further network is a file like those beside this one, with its settings and its module, and a line for it in
/// [`Network`], `Network::all`, `Network::own`, [`ReidNet`] and `ReidNet::own`.
#[derive(Debug, Clone, PartialEq)]
pub enum Network {
    /// See [`LmbnN`] and [`LmbnR`].
    Lmbn(LmbnSettings),
    /// See [`OsNet`].
    OsNet(OsNetSettings),
    /// See [`ReidResNet50`].
    ResNet50(ResNet50Settings),
    /// See [`Pcb`].
    Pcb(PcbSettings),
    /// See [`Mgn`].
    Mgn(MgnSettings),
}

/// Settings by the names of their flags.
pub trait Flat {
    /// The settings with their values.
    fn flat(&self) -> Map<String, Value>;
}

impl<S: Serialize> Flat for S {
    fn flat(&self) -> Map<String, Value> {
        fields(self)
    }
}

/// What each network's settings tell.
pub trait NetworkSettings: Flat {
    /// Name for `--model`.
    fn name(&self) -> &'static str;

    /// What it is, in a sentence.
    fn about(&self) -> &'static str;

    /// Values per part of an embedding, and of the features that metric losses read.
    fn features(&self) -> usize;

    /// Whether every value is in range.
    ///
    /// # Errors
    /// The first that is not, with its flag.
    fn check(&self) -> Result<(), ConfigError> {
        counts([("feats", self.features(), 1, MOST_FEATURES)])
    }

    /// The network of this name with other settings; those that are missing have their defaults, unknown ones are
    /// left out.
    ///
    /// # Errors
    /// If one is of another kind.
    fn read(&self, flat: Map<String, Value>) -> Result<Network, serde_json::Error>;

    /// The module for `classes` training identities, not yet initialised.
    fn build(&self, classes: usize, device: &Device) -> ReidNet;

    /// Flags that bring further settings along, and the network with each.
    fn options(&self) -> Vec<(&'static str, Network)> {
        Vec::new()
    }

    /// Further forms that other projects publish weights of, each with what the names of the projects begin with.
    fn published(&self) -> Vec<(&'static str, Network)> {
        Vec::new()
    }

    /// Keys that other projects have for this form's tensors.
    fn spellings(&self) -> &'static [Spelling] {
        &[]
    }

    /// Flags that make this network another than the plain one of its name.
    fn flags(&self) -> Vec<String> {
        Vec::new()
    }

    /// What an embedding is read from, in words.
    fn compared(&self) -> &'static str {
        COMPARED
    }

    /// Factor of the learning rate of the parameter at `path`.
    fn rate(&self, path: &str) -> f64 {
        let _ = path;
        1.0
    }
}

/// Keys of another project for the tensors of a network.
pub struct Spelling {
    /// Whose they are.
    pub project: &'static str,
    /// How keys begin here and there; of several that fit, the first counts.
    pub beginnings: &'static [(&'static str, &'static str)],
}

impl Spelling {
    /// The key there of the tensor that has this key here, where it has one.
    pub fn theirs(&self, key: &str) -> Option<String> {
        let other = |(own, theirs): &(&str, &str)| key.strip_prefix(own).map(|rest| format!("{theirs}{rest}"));
        self.beginnings.iter().find_map(other)
    }
}

/// The flag that asks for this attention, if there is any.
fn attention_flag(kind: AttentionKind) -> Vec<String> {
    if kind == AttentionKind::None { Vec::new() } else { vec![format!("--attention {kind}")] }
}

/// The name here of a network that torchreid or IBN-Net publish under another; any other name as it is.
pub(super) fn published(name: &str) -> &str {
    const NAMES: [(&str, &str); 5] = [
        ("osnet_x1_0", "OSNet"),
        ("osnet_ibn_x1_0", "OSNet_IBN"),
        ("osnet_ain_x1_0", "OSNet_AIN"),
        ("resnet50_ibn_a", "ResNet50_IBN"),
        ("resnet101_ibn_a", "ResNet101_IBN"),
    ];
    NAMES.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(name)).map_or(name, |(_, ours)| ours)
}

impl Network {
    /// The same with each of its options.
    pub(super) fn options(&self) -> Vec<Self> {
        self.own().options().into_iter().map(|(_, option)| option).collect()
    }

    /// Further forms that other projects publish weights of, each with what the names of the projects begin with.
    pub(super) fn published(&self) -> Vec<(&'static str, Self)> {
        self.own().published()
    }

    /// Keys that other projects have for this form's tensors.
    pub(super) fn spellings(&self) -> &'static [Spelling] {
        self.own().spellings()
    }

    /// Every network by name, with its defaults.
    pub(super) fn all() -> Vec<Self> {
        let mut all: Vec<_> = LmbnSettings::every().map(Self::Lmbn).collect();
        all.extend(OsNetSettings::every().map(Self::OsNet));
        all.extend(ResNet50Settings::every().map(Self::ResNet50));
        all.push(Self::Pcb(PcbSettings::default()));
        all.push(Self::Mgn(MgnSettings::default()));
        all
    }

    fn own(&self) -> &dyn NetworkSettings {
        match self {
            Self::Lmbn(own) => own,
            Self::OsNet(own) => own,
            Self::ResNet50(own) => own,
            Self::Pcb(own) => own,
            Self::Mgn(own) => own,
        }
    }

    /// Names for `--model`.
    pub fn names() -> Vec<&'static str> {
        Self::all().iter().map(Self::name).collect()
    }

    /// The network of this name, in any case, with its defaults.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<Self, UnknownNetwork> {
        let wanted = published(name.trim());
        let found = Self::all().into_iter().find(|net| net.name().eq_ignore_ascii_case(wanted));
        found.ok_or_else(|| UnknownNetwork { found: name.to_owned() })
    }

    /// The same with another value of the setting `key`.
    ///
    /// # Errors
    /// If the network has no such setting, or the value is of another kind.
    pub fn with(&self, key: &str, value: impl Into<Value>) -> Result<Self, serde_json::Error> {
        let mut flat = self.own().flat();
        if flat.insert(key.to_owned(), value.into()).is_none() {
            let user = self.unused().into_iter().find_map(|(other, user)| (other == key).then_some(user));
            let user = user.unwrap_or_else(|| "no network".into());
            return Err(serde_json::Error::custom(format!("`{key}` has no effect here: it is for {user}")));
        }
        self.own().read(flat)
    }

    /// The same with a setting as people write it, `parts=3`.
    ///
    /// # Errors
    /// If it is written otherwise, and as [`Network::with`].
    pub fn with_text(&self, setting: &str) -> Result<Self, serde_json::Error> {
        let (key, value) = setting.split_once('=').ok_or_else(|| {
            let allowed = "a setting and its value are allowed, such as parts=3";
            serde_json::Error::custom(format!("`{setting}` has no `=`; {allowed}"))
        })?;
        // Whatever is no number, true or false is a word.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        self.with(&key.replace('-', "_"), value)
    }

    /// Name for `--model`.
    pub fn name(&self) -> &'static str {
        self.own().name()
    }

    /// Values per part of an embedding, and of the features that metric losses read.
    pub fn features(&self) -> usize {
        self.own().features()
    }

    /// What an embedding is read from, in words.
    pub fn compared(&self) -> &'static str {
        self.own().compared()
    }

    /// What it is, in a sentence.
    pub fn about(&self) -> &'static str {
        self.own().about()
    }

    /// Factor of the learning rate of the parameter at `path`.
    pub fn rate(&self, path: &str) -> f64 {
        self.own().rate(path)
    }

    /// Whether every value is in range.
    ///
    /// # Errors
    /// The first that is not, with its flag.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.own().check()
    }

    /// Name and settings.
    pub(super) fn flat(&self) -> Map<String, Value> {
        let mut flat = self.own().flat();
        flat.insert("model".into(), self.name().into());
        flat
    }

    /// The settings of all networks, with their defaults.
    pub(super) fn defaults() -> Map<String, Value> {
        let mut all = Self::default().flat();
        for net in Self::all() {
            for (_, net) in net.own().options().into_iter().chain([("", net)]) {
                for (key, value) in net.own().flat() {
                    all.entry(key).or_insert(value);
                }
            }
        }
        // An option is off without its flag.
        Self::all().into_iter().for_each(|net| all.extend(net.own().flat()));
        all
    }

    /// Takes the network out of settings of all kinds: its name and settings, and those of other networks, which are
    /// dropped.
    ///
    /// # Errors
    /// If the name is unknown, or a setting of this network is of another kind.
    pub(super) fn take(settings: &mut Map<String, Value>) -> Result<Self, serde_json::Error> {
        let chosen = match settings.get("model") {
            Some(Value::String(name)) => Self::named(name).map_err(serde_json::Error::custom)?,
            Some(other) => return Err(serde_json::Error::custom(format!("`model` is {other}, not a name"))),
            None => Self::default(),
        };
        let names = Self::defaults();
        let own = names.keys().filter_map(|key| settings.remove_entry(key)).collect();
        chosen.own().read(own)
    }

    /// Settings of other networks, and of options that this one is without, each with what has it.
    pub(super) fn unused(&self) -> Vec<(String, String)> {
        let (mut plain, mut with) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
        for net in Self::all() {
            for key in net.own().flat().into_iter().map(|(key, _)| key) {
                plain.entry(key).or_default().push(net.name().to_owned());
            }
            for (flag, option) in net.own().options() {
                for key in option.own().flat().into_iter().map(|(key, _)| key) {
                    with.entry(key).or_default().push(format!("{} with {flag}", net.name()));
                }
            }
        }
        with.retain(|key, _| !plain.contains_key(key));
        let own = self.own().flat();
        let others = plain.into_iter().chain(with).filter(|(key, _)| !own.contains_key(key));
        others.map(|(key, users)| (key, format!("{}; this is {self}", users.join(", ")))).collect()
    }
}

/// The network's name, with the flags that make it another than the plain one.
impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flags = self.own().flags();
        let with = if flags.is_empty() { "" } else { " with " };
        write!(f, "{}{with}{}", self.name(), flags.join(" and "))
    }
}

impl Default for Network {
    fn default() -> Self {
        Self::Lmbn(LmbnSettings::default())
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.flat().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut flat = Map::deserialize(deserializer)?;
        // Earlier checkpoints call a part's features by this name.
        if let Some(features) = flat.remove("features") {
            flat.insert("feats".into(), features);
        }
        let name = flat.remove("model").ok_or_else(|| D::Error::missing_field("model"))?;
        let name = name.as_str().ok_or_else(|| D::Error::custom("`model` is not a name"))?;
        Self::named(name).map_err(D::Error::custom)?.own().read(flat).map_err(D::Error::custom)
    }
}

/// A name that no network has.
#[derive(Debug, thiserror::Error)]
#[error("unknown network `{found}`{}; known: {}", hint(found, Network::names()), Network::names().join(", "))]
pub struct UnknownNetwork {
    /// The name.
    pub found: String,
}

/// What fixes a re-identification network's parameters, stored in each checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReidNetConfig {
    /// Training identities.
    pub classes: usize,
    /// The network.
    #[serde(flatten)]
    pub net: Network,
}

impl ReidNetConfig {
    /// The network called `model`, in its plain form, with `feats` features a part.
    ///
    /// # Errors
    /// If the name is unknown.
    pub fn new(model: &str, classes: usize, feats: usize) -> Result<Self, UnknownNetwork> {
        let net = Network::named(model)?.with("feats", feats).expect("every network has a number of features");
        Ok(Self { classes, net })
    }
}

/// What a network costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cost {
    /// Parameters, classifiers included, running statistics not.
    pub parameters: usize,
    /// Products that an evaluation of one picture sums up, in convolutions, linear layers and matrix products.
    pub multiply_adds: u64,
    /// Parts of an embedding.
    pub parts: usize,
}

impl ReidNetConfig {
    /// What the network costs on pictures of this height and width, in pixels. Nothing is computed.
    pub fn cost(&self, size: [usize; 2]) -> Cost {
        let net = self.net.own().build(self.classes, &Device::flex());
        Cost {
            parameters: StateDict::of(&net).parameters(),
            multiply_adds: cost::multiply_adds(&net, size),
            parts: net.parts(),
        }
    }

    /// Keys and shapes of the network's tensors.
    pub(super) fn shapes(&self) -> Shapes {
        shapes_of(&self.net.own().build(self.classes, &Device::flex()))
    }

    /// Keys of the backbone's tensors: not of heads, nor of attention.
    pub(super) fn backbone(&self) -> BTreeSet<String> {
        let net = self.net.own().build(self.classes, &Device::flex());
        let (keys, source) = (shapes_of(&net).into_keys().collect::<BTreeSet<_>>(), net.own().backbone_key());
        let found: BTreeSet<_> = keys.iter().filter(|key| source(key).is_some()).cloned().collect();
        if !found.is_empty() {
            return found;
        }
        // The ImageNet classifier itself.
        keys.into_iter().filter(|key| !HEADS.iter().any(|head| key.starts_with(head))).collect()
    }

    /// The key, in the ImageNet classifier on the network's backbone, of the weights that start the parameter at a
    /// key, where there is one.
    pub(super) fn backbone_key(&self) -> fn(&str) -> Option<String> {
        self.net.own().build(self.classes, &Device::flex()).own().backbone_key()
    }
}

impl std::fmt::Display for ReidNetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { classes, net } = self;
        write!(f, "{} with {} features a part and {classes} training identities", net.name(), net.features())?;
        let flags = net.own().flags();
        if flags.is_empty() { Ok(()) } else { write!(f, " ({})", flags.join(", ")) }
    }
}

/// What a re-identification network gives a training step.
pub struct TrainOutput {
    /// Class scores, each `[batch, classes]`.
    pub scores: Vec<Tensor<2>>,
    /// Features for metric losses, each `[batch, features]`.
    pub features: Vec<Tensor<2>>,
}

/// What a training step draws at random.
#[derive(Debug, Clone)]
pub struct Draws {
    /// Where a block is erased, among all places, rows first, each in `[0, 1)`: see [`drop_block`].
    pub place: [f64; 2],
    /// What dropouts leave out.
    pub masks: Masks,
}

impl Draws {
    /// A block in the middle, and no dropout.
    pub fn none() -> Self {
        Self { place: [0.5, 0.5], masks: Masks::none() }
    }
}

/// What each network's module does.
pub trait ReidModule {
    /// Name in messages.
    fn name(&self) -> &'static str;

    /// Training, on an autodiff device: `[batch, 3, height, width]` to scores and features.
    fn forward(&self, images: Tensor<4>, draws: Draws) -> TrainOutput;

    /// Evaluation: `[batch, 3, height, width]` to `[batch, features, parts]`.
    fn embed(&self, images: Tensor<4>) -> Tensor<3>;

    /// Evaluation: the maps that the parts of an embedding are read from, by name: of `[batch, 3, height, width]`, each
    /// `[batch, channels, rows, columns]`.
    fn feature_maps(&self, images: Tensor<4>) -> Vec<(&'static str, Tensor<4>)>;

    /// Parts of an embedding.
    fn parts(&self) -> usize {
        1
    }

    /// How the parameter at a key starts.
    fn init(&self) -> fn(&str) -> Source;

    /// The key, in the published ImageNet classifier on this backbone, of the weights that start the parameter at a
    /// key; none for the heads, and where the classifier is this network with other classes.
    fn backbone_key(&self) -> fn(&str) -> Option<String> {
        |_| None
    }
}

/// A re-identification network.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a program has one network, and Burn has no boxed modules")]
pub enum ReidNet {
    /// See [`LmbnN`].
    LmbnN(LmbnN),
    /// See [`LmbnR`].
    LmbnR(LmbnR),
    /// See [`OsNet`].
    OsNet(OsNet),
    /// See [`OsNet`].
    OsNetIbn(OsNet<SampleNorm>),
    /// See [`OsNet`].
    OsNetAin(OsNet<SampleNorm, AinBlock>),
    /// See [`ReidResNet50`].
    ResNet50(ReidResNet50),
    /// See [`ReidResNet50`].
    ResNetIbn(ReidResNet50<InstanceBatchNorm>),
    /// See [`Pcb`].
    Pcb(Pcb),
    /// See [`Mgn`].
    Mgn(Mgn),
}

impl ReidNet {
    fn own(&self) -> &dyn ReidModule {
        match self {
            Self::LmbnN(own) => own,
            Self::LmbnR(own) => own,
            Self::OsNet(own) => own,
            Self::OsNetIbn(own) => own,
            Self::OsNetAin(own) => own,
            Self::ResNet50(own) => own,
            Self::ResNetIbn(own) => own,
            Self::Pcb(own) => own,
            Self::Mgn(own) => own,
        }
    }

    /// The network with the initial weights of `seed`.
    pub fn new(config: &ReidNetConfig, seed: u64, device: &Device) -> Self {
        let mut net = config.net.own().build(config.classes, device);
        let source = net.own().init();
        init::initialise(&mut net, source, seed);
        net
    }

    /// Training, on an autodiff device: `[batch, 3, height, width]` to scores and features. Nothing is drawn at random:
    /// see [`Draws::none`].
    pub fn forward(&self, images: Tensor<4>) -> TrainOutput {
        self.forward_with(images, Draws::none())
    }

    /// As [`ReidNet::forward`], with what is drawn at random.
    pub fn forward_with(&self, images: Tensor<4>, draws: Draws) -> TrainOutput {
        self.own().forward(images, draws)
    }

    /// Evaluation, on a device without autodiff (`net.valid()`): `[batch, 3, height, width]` to `[batch, features,
    /// parts]`.
    pub fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        self.own().embed(images)
    }

    /// Evaluation, as [`ReidNet::embed`]: the maps that the parts of an embedding are read from, by name, each `[batch,
    /// channels, rows, columns]`.
    pub fn feature_maps(&self, images: Tensor<4>) -> Vec<(&'static str, Tensor<4>)> {
        self.own().feature_maps(images)
    }

    /// Parts of an embedding.
    pub fn parts(&self) -> usize {
        self.own().parts()
    }

    /// Fills the network from a weights file: its own weights, or those of its backbone's ImageNet classifier (of
    /// OSNet, torchvision or IBN-Net), from which every branch then starts while heads and attention keep theirs.
    ///
    /// # Errors
    /// See [`WeightsError`]; the network is unchanged unless the result is `Ok`.
    pub fn load_pretrained(&mut self, path: &Path, partial: Partial) -> Result<LoadReport, WeightsError> {
        self.load_weights(path, StateDict::read(path)?, partial)
    }

    /// As [`ReidNet::load_pretrained`], with the tensors that were read from `path`.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`]; the network is unchanged unless the result is `Ok`.
    pub fn load_weights(&mut self, path: &Path, file: StateDict, partial: Partial) -> Result<LoadReport, WeightsError> {
        let name = self.own().name();
        let own = StateDict::of(self);
        let backbone_key = self.own().backbone_key();
        let mut wanted = own.keys();
        wanted.extend(own.iter().filter_map(|(key, _)| backbone_key(key)));
        let file = file.fitted_to(&wanted);
        let is_backbone = |key: &str| backbone_key(key).is_some_and(|source| file.get(&source).is_some());
        if !own.iter().any(|(key, _)| is_backbone(key)) {
            return file.load(path, self, name, partial);
        }
        let spread = file.spread(&own, backbone_key);
        let mut report = spread.compare(&own);
        let used: BTreeSet<_> = own.iter().filter_map(|(key, _)| backbone_key(key)).collect();
        // What an ImageNet classifier has behind its backbone is of no use here; anything else left over is an error.
        let head = |key: &str| HEADS.iter().any(|head| key.starts_with(head));
        let others = file.iter().map(|(key, _)| key.to_owned()).filter(|key| !used.contains(key));
        let (counts, others): (Vec<_>, Vec<_>) = others.partition(|key| is_count(key));
        let aside: Vec<_>;
        (aside, report.unused) = others.into_iter().partition(|key| head(key));
        report.aside.extend(aside);
        report.counts = counts.len();
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn networks_are_read_as_they_are_written_and_as_they_were() {
        for name in Network::names() {
            let plain = ReidNetConfig::new(&name.to_lowercase(), 7, 64).unwrap();
            let written = serde_json::to_value(&plain).unwrap();
            assert_eq!(
                (&written["model"], &written["feats"], &written["classes"]),
                (&json!(name), &json!(64), &json!(7))
            );
            assert_eq!(serde_json::from_value::<ReidNetConfig>(written).unwrap(), plain);
            // Earlier versions wrote this.
            let old = json!({ "model": name, "classes": 7, "features": 64 });
            assert_eq!(serde_json::from_value::<ReidNetConfig>(old).unwrap(), plain);
            let (all, backbone) = (plain.shapes().into_keys().collect::<BTreeSet<_>>(), plain.backbone());
            assert!(backbone.len() > 100 && backbone.len() < all.len(), "{name}");
            let heads = all.difference(&backbone).filter(|key| key.contains("classifier") || key.starts_with("fc"));
            assert!(heads.count() > 0, "{name}");
            for (_, option) in plain.net.own().options() {
                let written = serde_json::to_value(&option).unwrap();
                assert_eq!(serde_json::from_value::<Network>(written).unwrap(), option);
            }
        }
        let old = json!({
            "model": "ResNet50", "classes": 7, "features": 64, "bnneck": true, "drop_block": [0.2, 0.9],
            "before_neck": true,
        });
        let head = ResNet50Head::Neck { feat_inference: FeatInference::Before };
        let net =
            Network::ResNet50(ResNet50Settings { head, drop_block: Some([0.2, 0.9]), ..ResNet50Settings::default() });
        assert_eq!(serde_json::from_value::<ReidNetConfig>(old).unwrap(), ReidNetConfig { classes: 7, net });
        assert!(Network::named("LMBN_x").unwrap_err().to_string().contains("OSNet_x0_75"));
    }

    #[test]
    fn a_setting_of_another_network_names_those_that_have_it() {
        let message = |net: &Network, key: &str| net.with(key, true).unwrap_err().to_string();
        let osnet = Network::named("OSNet").unwrap();
        let with_neck = "ResNet50, ResNet50_IBN, ResNet101_IBN, PCB";
        assert_eq!(
            message(&osnet, "bnneck"),
            format!("`bnneck` has no effect here: it is for {with_neck}; this is OSNet")
        );
        let neck = Network::named("ResNet50").unwrap().with("bnneck", true).unwrap();
        assert!(message(&neck, "feats").ends_with("PCB, MGN; this is ResNet50 with --bnneck"));
        assert_eq!(message(&neck, "colour"), "`colour` has no effect here: it is for no network");
        assert_eq!(neck.features(), 2048);
        assert!(osnet.with("feats", "many").is_err());
    }
}
