//! Palm print and palm veins: two global and two local backbones, and the head that fuses them.

mod arcface;
mod cascaded;
mod convnext;
mod efficientvit;
mod fusion;
mod layers;
mod load;

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

pub use arcface::{ArcFaceConfig, ArcMarginProduct};
pub use cascaded::{CascadedAttention, LocalWindow, bias_columns};
pub use convnext::{ConvNext, ConvNextConfig};
pub use efficientvit::{BlockSteps, EfficientVit, EfficientVitConfig, Mixer};
pub use fusion::{Backbones, BranchDetails, Details, Features, Fusion, FusionConfig, Parts};
pub use load::{LoadError, load_backbone, load_network, load_single, load_whole, read_backbone};

use crate::nn::dropout::Masks;
use crate::nn::init::{Init, Source, initialise};
use crate::nn::vector::unit;
use crate::weights::StateDict;
use crate::words::words;

/// Sizes that make no network.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PalmVeinError {
    /// A number that is out of its range.
    #[error("{what} is {found}; allowed: {allowed}")]
    Config {
        /// Which number.
        what: &'static str,
        /// Its value.
        found: String,
        /// The range.
        allowed: &'static str,
    },
}

words! {
    /// One of the four backbones.
    Branch {
        /// Global features of the palm.
        VitPalm = "vit-palm",
        /// Global features of the veins.
        VitVein = "vit-vein",
        /// Local features of the palm.
        CnnPalm = "cnn-palm",
        /// Local features of the veins.
        CnnVein = "cnn-vein",
    }
}

impl Branch {
    /// All, in the order of the reference's stage 1.
    pub const ALL: [Self; 4] = [Self::VitPalm, Self::VitVein, Self::CnnPalm, Self::CnnVein];

    /// Key in checkpoints and name of run directories.
    pub fn name(self) -> &'static str {
        match self {
            Self::VitPalm => "vit_palm",
            Self::VitVein => "vit_vein",
            Self::CnnPalm => "cnn_palm",
            Self::CnnVein => "cnn_vein",
        }
    }

    /// Whether it reads palm pictures; otherwise veins.
    pub fn is_palm(self) -> bool {
        matches!(self, Self::VitPalm | Self::CnnPalm)
    }

    /// Whether it is an EfficientViT; otherwise a ConvNeXt.
    pub fn is_vit(self) -> bool {
        matches!(self, Self::VitPalm | Self::VitVein)
    }
}

/// Sizes of one backbone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackboneConfig {
    /// See [`EfficientVit`].
    Vit(EfficientVitConfig),
    /// See [`ConvNext`].
    Cnn(ConvNextConfig),
}

/// One backbone. Parameter paths are the reference's keys.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "few of them exist, and Burn derives no module for a box")]
pub enum Backbone {
    /// Global.
    Vit(EfficientVit),
    /// Local.
    Cnn(ConvNext),
}

impl Backbone {
    /// Not yet initialised.
    fn empty(config: &BackboneConfig, device: &Device) -> Result<Self, PalmVeinError> {
        Ok(match config {
            BackboneConfig::Vit(config) => Self::Vit(EfficientVit::new(config, device)?),
            BackboneConfig::Cnn(config) => Self::Cnn(ConvNext::new(config, device)?),
        })
    }

    /// The pooled features, `[batch, channels, height, width]` to `[batch, features]`. `masks` drop branches in
    /// training.
    ///
    /// # Panics
    /// See [`EfficientVit::forward`] and [`ConvNext::forward`].
    pub fn forward(&self, images: Tensor<4>, masks: &mut Masks) -> Tensor<2> {
        match self {
            Self::Vit(net) => net.forward(images),
            Self::Cnn(net) => net.forward(images, masks),
        }
    }
}

impl BackboneConfig {
    /// Width of the features.
    pub fn features(&self) -> usize {
        match self {
            Self::Vit(config) => config.features(),
            Self::Cnn(config) => config.features(),
        }
    }

    fn source(&self, name: &str, key: &str) -> Source {
        match self {
            Self::Vit(_) => efficientvit::source(name, key),
            Self::Cnn(config) => convnext::source(name, config, key),
        }
    }
}

/// What a stage-1 loss learns beside the backbone; thrown away after stage 1.
#[derive(Module, Debug)]
pub enum IdentityHead {
    /// Linear scores with bias.
    Linear(Linear),
    /// A direction per class.
    Cosine(CosineHead),
}

/// Scaled cosines to a direction per class.
#[derive(Module, Debug)]
pub struct CosineHead {
    weight: Param<Tensor<2>>,
}

/// Factor of a [`CosineHead`]'s cosines.
pub const COSINE_SCALE: f64 = 16.0;

impl CosineHead {
    /// Not yet initialised.
    pub fn new(features: usize, classes: usize, device: &Device) -> Self {
        Self { weight: Param::from_tensor(Tensor::zeros([classes, features], device)) }
    }

    /// Scores of `[batch, features]` rows, `[batch, classes]`: scale · cosine, each class direction taken at length
    /// 1. The reference divides by the length over classes instead, which does not give a cosine.
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        unit(features).matmul(unit(self.weight.val()).transpose()).mul_scalar(COSINE_SCALE)
    }
}

impl IdentityHead {
    /// Scores, `[batch, features]` to `[batch, classes]`.
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Linear(head) => head.forward(features),
            Self::Cosine(head) => head.forward(features),
        }
    }
}

/// Which [`IdentityHead`] a stage-1 loss wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityKind {
    /// See [`IdentityHead::Linear`].
    Linear,
    /// See [`IdentityHead::Cosine`].
    Cosine,
}

/// A backbone in stage 1, with what its loss learns beside it. Keys: `model.` and `criterion.`, as the reference
/// saves them.
#[derive(Module, Debug)]
pub struct Stage1Net {
    /// The backbone.
    pub model: Backbone,
    /// What the loss learns.
    pub criterion: Option<IdentityHead>,
}

/// What fixes a [`Stage1Net`]'s parameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage1NetConfig {
    /// Which branch.
    pub branch: Branch,
    /// Its sizes.
    pub backbone: BackboneConfig,
    /// Training identities.
    pub classes: usize,
    /// What the loss learns.
    pub identity: Option<IdentityKind>,
}

impl Stage1Net {
    /// The network with the initial weights of `seed`. A branch starts the same here as in [`PalmVeinNet::new`].
    ///
    /// # Errors
    /// If the sizes make no network.
    pub fn new(config: &Stage1NetConfig, seed: u64, device: &Device) -> Result<Self, PalmVeinError> {
        let (features, classes) = (config.backbone.features(), config.classes);
        let head = |kind| match kind {
            IdentityKind::Linear => IdentityHead::Linear(LinearConfig::new(features, classes).init(device)),
            IdentityKind::Cosine => IdentityHead::Cosine(CosineHead::new(features, classes, device)),
        };
        let mut net = Self { model: Backbone::empty(&config.backbone, device)?, criterion: config.identity.map(head) };
        let name = config.branch.name();
        let source = |key: &str| match (key.strip_prefix("model."), config.identity) {
            (Some(key), _) => config.backbone.source(name, key),
            (None, identity) => {
                let cosine = identity == Some(IdentityKind::Cosine);
                let init = if cosine { Init::XavierUniform } else { Init::UniformFanIn };
                Source { name: format!("{name}.{key}"), init }
            }
        };
        initialise(&mut net, source, seed);
        Ok(net)
    }

    /// Embeddings of one modality's pictures: `[batch, channels, height, width]` to `[batch, features]`, L2 norm 1.
    ///
    /// # Panics
    /// As [`Backbone::forward`].
    pub fn embed(&self, images: Tensor<4>) -> Tensor<2> {
        unit(self.model.forward(images, &mut Masks::none()))
    }
}

/// Class centres that train with the network.
#[derive(Module, Debug)]
pub struct CenterTable {
    /// `[classes, embedding]`.
    pub centers: Param<Tensor<2>>,
}

/// What the stage-2 loss learns beside the network.
#[derive(Module, Debug)]
pub struct Criterion {
    /// Centres of the centre loss.
    pub center_loss: CenterTable,
}

/// What fixes a [`PalmVeinNet`]'s parameters, stored in each checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PalmVeinNetConfig {
    /// The global backbones.
    pub vit: EfficientVitConfig,
    /// The local backbones.
    pub cnn: ConvNextConfig,
    /// The head. The widths it reads are the backbones', whatever it says.
    pub fusion: FusionConfig,
    /// Whether palm and vein go through the same backbones, which then are called those of the palm.
    pub share_backbones: bool,
    /// Whether class centres train with the network.
    pub centers: bool,
}

impl PalmVeinNetConfig {
    /// Sizes of a branch.
    pub fn backbone(&self, branch: Branch) -> BackboneConfig {
        match branch.is_vit() {
            true => BackboneConfig::Vit(self.vit.clone()),
            false => BackboneConfig::Cnn(self.cnn.clone()),
        }
    }

    /// The head, reading what the backbones give.
    pub fn head(&self) -> FusionConfig {
        FusionConfig {
            in_dim_global: [self.vit.features(); 2],
            in_dim_local: [self.cnn.features(); 2],
            ..self.fusion.clone()
        }
    }

    /// The branches that have weights of their own.
    pub fn branches(&self) -> impl Iterator<Item = Branch> + use<> {
        let (parts, share) = (self.fusion.parts, self.share_backbones);
        Branch::ALL.into_iter().filter(move |branch| {
            let read = if branch.is_vit() { parts.global() } else { parts.local() };
            let own = if branch.is_palm() { parts.palm() || share } else { parts.vein() && !share };
            read && own
        })
    }
}

impl std::fmt::Display for PalmVeinNetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let FusionConfig { parts, use_spatial_fusion, classes, .. } = &self.fusion;
        let mode = if *use_spatial_fusion { "spatial" } else { "vector" };
        write!(f, "palmvein ({parts:?}, {mode} mode) with {} values an embedding", self.fusion.embedding())?;
        write!(f, " and {classes} training identities")
    }
}

/// Both stages in one: pictures of palm and vein to one embedding. Keys are those of the reference's `stage2_best.pth`.
#[derive(Module, Debug)]
pub struct PalmVeinNet {
    vit_palm: Option<EfficientVit>,
    vit_vein: Option<EfficientVit>,
    cnn_palm: Option<ConvNext>,
    cnn_vein: Option<ConvNext>,
    /// The head.
    pub fusion: Fusion,
    /// What the loss learns.
    pub criterion: Option<Criterion>,
    #[module(skip)]
    maps: bool,
    #[module(skip)]
    reads: [bool; 2],
    #[module(skip)]
    shared: bool,
}

impl PalmVeinNet {
    /// The network with the initial weights of `seed`.
    ///
    /// # Errors
    /// If the sizes make no network.
    pub fn new(config: &PalmVeinNetConfig, seed: u64, device: &Device) -> Result<Self, PalmVeinError> {
        let head = config.head();
        let has = |branch| config.branches().any(|other| other == branch);
        let vit = |branch| has(branch).then(|| EfficientVit::new(&config.vit, device)).transpose();
        let cnn = |branch| has(branch).then(|| ConvNext::new(&config.cnn, device)).transpose();
        let centers = || {
            let centers = Tensor::zeros([head.classes, head.embedding()], device);
            Criterion { center_loss: CenterTable { centers: Param::from_tensor(centers) } }
        };
        let mut net = Self {
            vit_palm: vit(Branch::VitPalm)?,
            vit_vein: vit(Branch::VitVein)?,
            cnn_palm: cnn(Branch::CnnPalm)?,
            cnn_vein: cnn(Branch::CnnVein)?,
            fusion: Fusion::new(&head, device)?,
            criterion: (config.centers && head.classes > 0).then(centers),
            maps: head.use_spatial_fusion,
            reads: [head.parts.palm(), head.parts.vein()],
            shared: config.share_backbones,
        };
        let source = |key: &str| {
            let branch = Branch::ALL.into_iter().find_map(|branch| {
                let rest = key.strip_prefix(branch.name())?.strip_prefix('.')?;
                Some(config.backbone(branch).source(branch.name(), rest))
            });
            let own = || {
                let init = match key.strip_prefix("fusion.") {
                    Some(key) => Fusion::init(key),
                    None => Init::XavierUniform,
                };
                Source { name: key.to_owned(), init }
            };
            branch.unwrap_or_else(own)
        };
        initialise(&mut net, source, seed);
        Ok(net)
    }

    /// Whether it reads palm and vein pictures.
    pub fn reads(&self) -> [bool; 2] {
        self.reads
    }

    /// What the backbones give the head for `[batch, 1, height, width]` pictures of palm and vein. `masks` drop
    /// branches in training.
    ///
    /// # Panics
    /// If the pictures are too small (see [`ConvNext::spatial`]), or the batch sizes differ.
    pub fn backbones(&self, palm: Tensor<4>, vein: Tensor<4>, masks: &mut Masks) -> Backbones {
        assert_eq!(palm.dims()[0], vein.dims()[0], "a pair is a palm and a vein");
        let mut local = |net: &ConvNext, images: Tensor<4>| match self.maps {
            true => Features::Map(net.spatial(images, masks)),
            false => Features::Vector(net.forward(images, masks)),
        };
        let vit_vein = if self.shared { &self.vit_palm } else { &self.vit_vein };
        let cnn_vein = if self.shared { &self.cnn_palm } else { &self.cnn_vein };
        let [reads_palm, reads_vein] = self.reads;
        let read = |reads: bool| move |_: &&EfficientVit| reads;
        let read_local = |reads: bool| move |_: &&ConvNext| reads;
        Backbones {
            global: [
                self.vit_palm.as_ref().filter(read(reads_palm)).map(|net| net.forward(palm.clone())),
                vit_vein.as_ref().filter(read(reads_vein)).map(|net| net.forward(vein.clone())),
            ],
            local: [
                self.cnn_palm.as_ref().filter(read_local(reads_palm)).map(|net| local(net, palm)),
                cnn_vein.as_ref().filter(read_local(reads_vein)).map(|net| local(net, vein)),
            ],
        }
    }

    /// Everything the network computes for `[batch, 1, height, width]` pictures of palm and vein, in evaluation.
    ///
    /// # Panics
    /// As [`PalmVeinNet::backbones`].
    pub fn forward(&self, palm: Tensor<4>, vein: Tensor<4>) -> Details {
        self.fusion.forward(self.backbones(palm, vein, &mut Masks::none()))
    }

    /// The tensors of a branch under its own keys.
    pub fn branch(&self, branch: Branch) -> Option<StateDict> {
        match branch {
            Branch::VitPalm => self.vit_palm.as_ref().map(StateDict::of),
            Branch::VitVein => self.vit_vein.as_ref().map(StateDict::of),
            Branch::CnnPalm => self.cnn_palm.as_ref().map(StateDict::of),
            Branch::CnnVein => self.cnn_vein.as_ref().map(StateDict::of),
        }
    }
}

/// The integer tensors that a network computes itself and no file decides.
fn is_computed(key: &str) -> bool {
    key.ends_with(".attention_bias_idxs")
}

/// Tensors of `own` that no file decides.
fn computed(own: &StateDict) -> impl Iterator<Item = (String, TensorData)> {
    own.iter().filter(|(key, _)| is_computed(key)).map(|(key, data)| (key.to_owned(), data.clone()))
}
