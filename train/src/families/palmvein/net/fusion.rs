//! Stage2FusionCA: palm and vein, global and local features to one embedding. Field names are the reference's
//! state-dictionary keys. The ablations are the same head with parts left out.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Linear, LinearConfig, Relu};
use burn::tensor::activation::{relu, softmax};
use burn::tensor::{Device, Int, Tensor, assert_shape};
use serde::{Deserialize, Serialize};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::dropout::Dropout;
use crate::nn::init::Init;
use crate::nn::vector::unit;
use crate::words::words;

use super::PalmVeinError;
use super::arcface::{ArcFaceConfig, ArcMarginProduct};

words! {
    /// What the head is made of: the whole, or an ablation.
    Parts (Attention) {
        /// Attention over palm and vein in the global and in the local branch.
        Attention = "attention",
        /// The global branch alone.
        GlobalOnly = "global-only",
        /// The local branch alone.
        LocalOnly = "local-only",
        /// All four aligned features side by side, no attention.
        Concat = "concat",
        /// The mean of palm and vein in both branches, no attention.
        Mean = "mean",
        /// Global and local features of the palm alone.
        PalmOnly = "palm-only",
        /// Global and local features of the veins alone.
        VeinOnly = "vein-only",
    }
}

impl Parts {
    /// Whether there is a global branch.
    pub fn global(self) -> bool {
        self != Self::LocalOnly
    }

    /// Whether there is a local branch.
    pub fn local(self) -> bool {
        self != Self::GlobalOnly
    }

    /// Whether palm pictures are read.
    pub fn palm(self) -> bool {
        self != Self::VeinOnly
    }

    /// Whether vein pictures are read.
    pub fn vein(self) -> bool {
        self != Self::PalmOnly
    }

    /// Whether palm and vein are weighed against each other.
    pub fn attention(self) -> bool {
        matches!(self, Self::Attention | Self::GlobalOnly | Self::LocalOnly)
    }
}

/// Sizes and kind of a [`Fusion`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FusionConfig {
    /// Width of the global vectors, palm and vein.
    pub in_dim_global: [usize; 2],
    /// Width of the local vectors or maps, palm and vein.
    pub in_dim_local: [usize; 2],
    /// Width of the global half of the embedding.
    pub out_dim_global: usize,
    /// Width of the local half of the embedding.
    pub out_dim_local: usize,
    /// Whether the local branch weighs palm against vein at each place of their maps, or per channel of their vectors.
    pub use_spatial_fusion: bool,
    /// Whether embeddings have length 1.
    pub final_l2norm: bool,
    /// What the head is made of.
    pub parts: Parts,
    /// Training identities; 0: no ArcFace.
    pub classes: usize,
    /// Scale and margin.
    pub arcface: ArcFaceConfig,
}

impl Default for FusionConfig {
    fn default() -> Self {
        Self {
            in_dim_global: [192, 192],
            in_dim_local: [768, 768],
            out_dim_global: 256,
            out_dim_local: 256,
            use_spatial_fusion: false,
            final_l2norm: true,
            parts: Parts::Attention,
            classes: 0,
            arcface: ArcFaceConfig::default(),
        }
    }
}

impl FusionConfig {
    /// # Errors
    /// If the sizes make no head.
    pub fn check(&self) -> Result<(), PalmVeinError> {
        let refuse = |what, found: String, allowed| Err(PalmVeinError::Config { what, found, allowed });
        let sizes = [self.in_dim_global, self.in_dim_local, [self.out_dim_global, self.out_dim_local]];
        if sizes.as_flattened().contains(&0) {
            return refuse("width of the fusion head", "0".into(), "1 or more");
        }
        let ArcFaceConfig { scale, margin, .. } = self.arcface;
        if !(scale.is_finite() && scale > 0.0) {
            return refuse("ArcFace scale", scale.to_string(), "a number above 0");
        }
        if !(0.0..=std::f64::consts::PI).contains(&margin) {
            return refuse("ArcFace margin", margin.to_string(), "0 to 3.14159 radians");
        }
        Ok(())
    }

    /// Values of an embedding.
    pub fn embedding(&self) -> usize {
        let (global, local) = (self.out_dim_global, self.out_dim_local);
        match self.parts {
            Parts::GlobalOnly => global,
            Parts::LocalOnly => local,
            Parts::Concat => 2 * (global + local),
            _ => global + local,
        }
    }
}

/// Features of one kind, as vectors or maps.
#[derive(Debug, Clone)]
pub enum Features {
    /// `[batch, channels]`.
    Vector(Tensor<2>),
    /// `[batch, channels, height, width]`.
    Map(Tensor<4>),
}

impl Features {
    /// Vectors unchanged, maps as their mean: `[batch, channels]`.
    pub fn pooled(&self) -> Tensor<2> {
        match self {
            Self::Vector(rows) => rows.clone(),
            Self::Map(map) => kernels::global_avg_pool(map.clone()).flatten(1, 3),
        }
    }

    /// All values one after the other.
    pub fn values(&self) -> Tensor<1> {
        match self {
            Self::Vector(rows) => rows.clone().flatten(0, 1),
            Self::Map(map) => map.clone().flatten(0, 3),
        }
    }

    /// The vectors, if they are that.
    pub fn vector(&self) -> Option<&Tensor<2>> {
        match self {
            Self::Vector(rows) => Some(rows),
            Self::Map(_) => None,
        }
    }

    /// The maps, if they are that.
    pub fn map(&self) -> Option<&Tensor<4>> {
        match self {
            Self::Map(map) => Some(map),
            Self::Vector(_) => None,
        }
    }
}

/// What the backbones give the head; what the head does not read is left out.
#[derive(Debug, Clone, Default)]
pub struct Backbones {
    /// Global vectors, palm and vein, `[batch, in_dim_global]`.
    pub global: [Option<Tensor<2>>; 2],
    /// Local vectors or maps, palm and vein, `[batch, in_dim_local, ..]`.
    pub local: [Option<Features>; 2],
}

/// One branch of the head, in the order palm, vein.
#[derive(Debug, Clone)]
pub struct BranchDetails {
    /// Aligned features, where the modality is read.
    pub aligned: [Option<Features>; 2],
    /// Palm and vein together, `[batch, out_dim]`, before the final normalisation.
    pub fused: Tensor<2>,
    /// Attention weights of palm and vein, in [0, 1] and 1 together: `[batch, out_dim]`, or `[batch, 1, height,
    /// width]`. None where there is no attention.
    pub weights: Option<[Features; 2]>,
}

/// Everything the head computes.
#[derive(Debug, Clone)]
pub struct Details {
    /// The global branch.
    pub global: Option<BranchDetails>,
    /// The local branch.
    pub local: Option<BranchDetails>,
    /// The embedding, `[batch, embedding]`.
    pub embedding: Tensor<2>,
}

/// A linear layer to the common width.
#[derive(Module, Debug)]
pub struct FeatureAlign {
    fc: Linear,
}

/// A 1×1 convolution to the common width, and a batch norm.
#[derive(Module, Debug)]
pub struct ConvAlign2d {
    proj: (Conv2d, UnbiasedBatchNorm),
}

/// What brings features to the common width; keys tell the kinds apart.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "few of them exist, and Burn derives no module for a box")]
pub enum Align {
    /// Of vectors.
    Vector(FeatureAlign),
    /// Of maps.
    Map(ConvAlign2d),
}

impl Align {
    fn vector(input: usize, output: usize, device: &Device) -> Self {
        Self::Vector(FeatureAlign { fc: LinearConfig::new(input, output).init(device) })
    }

    fn map(input: usize, output: usize, device: &Device) -> Self {
        let conv = Conv2dConfig::new([input, output], [1, 1]).with_bias(false).init(device);
        Self::Map(ConvAlign2d { proj: (conv, UnbiasedBatchNorm::new(output, device)) })
    }

    /// # Panics
    /// If it gets maps for vectors or the other way round.
    fn forward(&self, input: Features) -> Features {
        match (self, input) {
            (Self::Vector(align), Features::Vector(rows)) => Features::Vector(align.fc.forward(rows)),
            (Self::Map(ConvAlign2d { proj: (conv, norm) }), Features::Map(map)) => {
                Features::Map(norm.forward(kernels::conv2d(conv, map)))
            }
            (Self::Vector(_), Features::Map(_)) => panic!("the head reads vectors, not maps"),
            (Self::Map(_), Features::Vector(_)) => panic!("the head reads maps, not vectors"),
        }
    }
}

/// Weighs two vectors against each other, channel by channel.
#[derive(Module, Debug)]
pub struct PairwiseChannelAttentionFusion {
    // The reference has a dropout of rate 0 as the third layer, which the keys count.
    mlp: (Linear, Relu, Dropout, Linear),
}

impl PairwiseChannelAttentionFusion {
    /// Channels inside are a quarter, at least 8.
    fn new(channels: usize, device: &Device) -> Self {
        let hidden = (channels / 4).max(8);
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        Self { mlp: (linear(2 * channels, hidden), Relu::new(), Dropout::new(0.0), linear(hidden, 2 * channels)) }
    }

    /// Both `[batch, channels]` to the weighted sum and both weights, of the same shape.
    fn forward(&self, palm: Tensor<2>, vein: Tensor<2>) -> (Tensor<2>, [Tensor<2>; 2]) {
        let [batch, channels] = palm.dims();
        assert_shape!(vein, [batch, channels]);
        let (widen, _, _, weigh) = &self.mlp;
        let both = Tensor::cat(vec![palm.clone(), vein.clone()], 1);
        let weights = softmax(weigh.forward(relu(widen.forward(both))).reshape([batch, 2, channels]), 1);
        let weight = |stream: usize| weights.clone().narrow(1, stream, 1).reshape([batch, channels]);
        let (w_palm, w_vein) = (weight(0), weight(1));
        (palm * w_palm.clone() + vein * w_vein.clone(), [w_palm, w_vein])
    }
}

/// Weighs two maps against each other, place by place.
#[derive(Module, Debug)]
pub struct SpatialAttentionFusion {
    conv: (Conv2d, UnbiasedBatchNorm, Relu, Conv2d),
}

impl SpatialAttentionFusion {
    /// Channels inside are a sixteenth, at least 8.
    fn new(channels: usize, device: &Device) -> Self {
        let hidden = (channels / 16).max(8);
        let conv = |input, output, bias| Conv2dConfig::new([input, output], [1, 1]).with_bias(bias).init(device);
        let norm = UnbiasedBatchNorm::new(hidden, device);
        Self { conv: (conv(2 * channels, hidden, false), norm, Relu::new(), conv(hidden, 2, true)) }
    }

    /// Both `[batch, channels, height, width]` to the weighted sum and both weights `[batch, 1, height, width]`.
    fn forward(&self, palm: Tensor<4>, vein: Tensor<4>) -> (Tensor<4>, [Tensor<4>; 2]) {
        let [batch, channels, height, width] = palm.dims();
        assert_shape!(vein, [batch, channels, height, width]);
        let (narrow, norm, _, weigh) = &self.conv;
        let both = Tensor::cat(vec![palm.clone(), vein.clone()], 1);
        let hidden = norm.forward_relu(kernels::conv2d(narrow, both));
        let weights = softmax(kernels::conv2d(weigh, hidden), 1);
        let (w_palm, w_vein) = (weights.clone().narrow(1, 0, 1), weights.narrow(1, 1, 1));
        (palm * w_palm.clone() + vein * w_vein.clone(), [w_palm, w_vein])
    }
}

/// What weighs palm against vein; keys tell the kinds apart.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "few of them exist, and Burn derives no module for a box")]
pub enum Fuse {
    /// Per channel.
    Channel(PairwiseChannelAttentionFusion),
    /// Per place.
    Spatial(SpatialAttentionFusion),
}

impl Fuse {
    /// Palm and vein together, `[batch, channels]`, and their weights.
    fn forward(&self, [palm, vein]: [Features; 2]) -> (Tensor<2>, [Features; 2]) {
        match (self, palm, vein) {
            (Self::Channel(fuse), Features::Vector(palm), Features::Vector(vein)) => {
                let (fused, weights) = fuse.forward(palm, vein);
                (fused, weights.map(Features::Vector))
            }
            (Self::Spatial(fuse), Features::Map(palm), Features::Map(vein)) => {
                let (fused, weights) = fuse.forward(palm, vein);
                (Features::Map(fused).pooled(), weights.map(Features::Map))
            }
            _ => unreachable!("a branch aligns palm and vein the way it fuses them"),
        }
    }
}

/// The head. Stream a of the reference is the palm, stream b the vein.
#[derive(Module, Debug)]
pub struct Fusion {
    g_align_palm: Option<Align>,
    g_align_vein: Option<Align>,
    g_fuse: Option<Fuse>,
    l_align_palm: Option<Align>,
    l_align_vein: Option<Align>,
    l_fuse: Option<Fuse>,
    arcface: Option<ArcMarginProduct>,
    #[module(skip)]
    parts: Parts,
    #[module(skip)]
    final_l2norm: bool,
}

impl Fusion {
    /// The head, not yet initialised.
    ///
    /// # Errors
    /// See [`FusionConfig::check`].
    pub fn new(config: &FusionConfig, device: &Device) -> Result<Self, PalmVeinError> {
        config.check()?;
        let (parts, spatial) = (config.parts, config.use_spatial_fusion);
        let (global, local) = (config.out_dim_global, config.out_dim_local);
        let g_align = |input| Align::vector(input, global, device);
        let l_align =
            |input| if spatial { Align::map(input, local, device) } else { Align::vector(input, local, device) };
        let l_fuse = || match spatial {
            true => Fuse::Spatial(SpatialAttentionFusion::new(local, device)),
            false => Fuse::Channel(PairwiseChannelAttentionFusion::new(local, device)),
        };
        let g_fuse = || Fuse::Channel(PairwiseChannelAttentionFusion::new(global, device));
        let arcface = || ArcMarginProduct::new(config.embedding(), config.classes, config.arcface.clone(), device);
        let [g_palm, g_vein] = config.in_dim_global;
        let [l_palm, l_vein] = config.in_dim_local;
        Ok(Self {
            g_align_palm: (parts.global() && parts.palm()).then(|| g_align(g_palm)),
            g_align_vein: (parts.global() && parts.vein()).then(|| g_align(g_vein)),
            g_fuse: (parts.global() && parts.attention()).then(g_fuse),
            l_align_palm: (parts.local() && parts.palm()).then(|| l_align(l_palm)),
            l_align_vein: (parts.local() && parts.vein()).then(|| l_align(l_vein)),
            l_fuse: (parts.local() && parts.attention()).then(l_fuse),
            arcface: (config.classes > 0).then(arcface),
            parts,
            final_l2norm: config.final_l2norm,
        })
    }

    /// Everything the head computes from the backbones' features.
    ///
    /// # Panics
    /// If the backbones lack a feature the head reads, or give vectors for maps or the other way round.
    pub fn forward(&self, backbones: Backbones) -> Details {
        let Backbones { global, local } = backbones;
        let global = global.map(|rows| rows.map(Features::Vector));
        let global = self.branch(&[&self.g_align_palm, &self.g_align_vein], &self.g_fuse, global);
        let local = self.branch(&[&self.l_align_palm, &self.l_align_vein], &self.l_fuse, local);
        let halves = [&global, &local].map(|branch| branch.as_ref().map(|branch| branch.fused.clone()));
        let fused = match halves {
            [Some(global), Some(local)] => Tensor::cat(vec![global, local], 1),
            [Some(only), None] | [None, Some(only)] => only,
            [None, None] => unreachable!("every kind of head has a branch"),
        };
        let embedding = if self.final_l2norm { unit(fused) } else { fused };
        Details { global, local, embedding }
    }

    fn branch(
        &self,
        align: &[&Option<Align>; 2],
        fuse: &Option<Fuse>,
        features: [Option<Features>; 2],
    ) -> Option<BranchDetails> {
        if align.iter().all(|align| align.is_none()) {
            return None;
        }
        let [palm, vein] = features;
        let apply = |align: &Option<Align>, features: Option<Features>| {
            align.as_ref().map(|align| align.forward(features.expect("the backbones give what the head reads")))
        };
        let aligned = [apply(align[0], palm), apply(align[1], vein)];
        let (fused, weights) = match (&aligned, fuse) {
            ([Some(palm), Some(vein)], Some(fuse)) => {
                let (fused, weights) = fuse.forward([palm.clone(), vein.clone()]);
                (fused, Some(weights))
            }
            ([Some(palm), Some(vein)], None) if self.parts == Parts::Mean => {
                ((palm.pooled() + vein.pooled()).mul_scalar(0.5), None)
            }
            ([Some(palm), Some(vein)], None) => (Tensor::cat(vec![palm.pooled(), vein.pooled()], 1), None),
            ([Some(only), None] | [None, Some(only)], _) => (only.pooled(), None),
            ([None, None], _) => return None,
        };
        Some(BranchDetails { aligned, fused, weights })
    }

    /// Logits with ArcFace's margin, `[batch, classes]`; none without ArcFace.
    pub fn logits(&self, embedding: Tensor<2>, classes: Tensor<1, Int>) -> Option<Tensor<2>> {
        self.arcface.as_ref().map(|arcface| arcface.forward(embedding, classes))
    }

    /// Logits without margin, `[batch, classes]`; none without ArcFace.
    pub fn plain_logits(&self, embedding: Tensor<2>) -> Option<Tensor<2>> {
        self.arcface.as_ref().map(|arcface| arcface.plain(embedding))
    }

    /// How the parameter at `key` starts.
    pub(crate) fn init(key: &str) -> Init {
        if key == "arcface.weight" {
            Init::XavierUniform
        } else if key.starts_with("l_fuse.conv.") {
            Init::UniformFanIn
        } else {
            Init::NormalFanIn { gain: if key.contains(".mlp.") { std::f64::consts::SQRT_2 } else { 1.0 } }
        }
    }
}
