//! Two gated branches, one for identity and one for pose, and their weighted sum.

use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig, Relu};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::dropout::{Dropout, Masks};
use crate::nn::init::initialise;

use super::SeBlock;

/// Share of values dropped inside the branches and the identity head, whatever the network's dropout is.
pub(crate) const INNER_DROPOUT: f64 = 0.1;

/// Linear, norm, ReLU, dropout, linear: the places are those of the keys.
pub(crate) type Bottleneck = (Linear, UnbiasedBatchNorm, Relu, Dropout, Linear);

/// The same with a norm behind it.
pub(crate) type NormedBottleneck = (Linear, UnbiasedBatchNorm, Relu, Dropout, Linear, UnbiasedBatchNorm);

/// What the sum is made of, each `[batch, feature_dim]`.
#[derive(Debug, Clone)]
pub struct Branches {
    /// Identity.
    pub identity: Tensor<2>,
    /// Pose.
    pub pose: Tensor<2>,
}

/// See [`DualBranchSenet::new`].
#[derive(Debug, Clone, PartialEq)]
pub struct DualBranchConfig {
    /// Values of a feature.
    pub feature_dim: usize,
    /// What the gates' hidden layer divides them by.
    pub reduction: usize,
    /// Weight of the identity branch at the start, 0 to 1.
    pub fusion_alpha: f64,
    /// Whether that weight is trained; it must then be between 0 and 1.
    pub learnable_fusion: bool,
    /// Gates from the batch's mean.
    pub use_batch_stat: bool,
}

impl Default for DualBranchConfig {
    fn default() -> Self {
        Self { feature_dim: 512, reduction: 16, fusion_alpha: 0.7, learnable_fusion: true, use_batch_stat: false }
    }
}

/// `α·I + (1 − α)·P` of an identity branch I, which has a way round it, and a pose branch P, which has none. Where it
/// is trained, α is the sigmoid of the stored number.
#[derive(Module, Debug)]
pub struct DualBranchSenet {
    identity_se: SeBlock,
    identity_fc: Bottleneck,
    pose_se: SeBlock,
    pose_fc: NormedBottleneck,
    fusion_alpha: Param<Tensor<1>>,
    #[module(skip)]
    learnable_fusion: bool,
}

/// Linear to norm to ReLU to dropout to linear.
pub(crate) fn bottleneck(
    (first, norm, relu, dropout, second): (&Linear, &UnbiasedBatchNorm, &Relu, &Dropout, &Linear),
    input: Tensor<2>,
    masks: &mut Masks,
) -> Tensor<2> {
    let hidden = relu.forward(norm.forward(first.forward(input)));
    second.forward(dropout.forward(hidden, masks))
}

impl DualBranchSenet {
    /// Not yet initialised, but for `fusion_alpha`.
    pub(crate) fn new(config: &DualBranchConfig, device: &Device) -> Self {
        let DualBranchConfig { feature_dim: dim, reduction, use_batch_stat, learnable_fusion, .. } = *config;
        let linear = || LinearConfig::new(dim, dim).init(device);
        let norm = || UnbiasedBatchNorm::new(dim, device);
        let dropout = || Dropout::new(INNER_DROPOUT);
        let se = || SeBlock::new(dim, reduction, use_batch_stat, device);
        let alpha = Param::from_tensor(Tensor::from_floats([stored_alpha(config)], device));
        Self {
            identity_se: se(),
            identity_fc: (linear(), norm(), Relu::new(), dropout(), linear()),
            pose_se: se(),
            pose_fc: (linear(), norm(), Relu::new(), dropout(), linear(), norm()),
            // A buffer where it is not trained: stored, without a gradient.
            fusion_alpha: if learnable_fusion { alpha } else { alpha.set_require_grad(false) },
            learnable_fusion,
        }
    }

    /// The two branches on their own, with the initial weights of `seed`: Xavier uniform, α exactly `fusion_alpha`.
    pub fn seeded(config: &DualBranchConfig, seed: u64, device: &Device) -> Self {
        let mut branches = Self::new(config, device);
        let alpha = stored_alpha(config);
        initialise(&mut branches, |key| super::source(key, alpha), seed);
        branches
    }

    /// The sum and its parts. On an autodiff device norms use the batch's statistics.
    ///
    /// # Shapes
    /// - `input`: `[batch, feature_dim]`
    /// - returns: the same, three times
    pub fn forward(&self, input: Tensor<2>, masks: &mut Masks) -> (Tensor<2>, Branches) {
        let (first, norm, relu, dropout, second) = &self.identity_fc;
        let gated = self.identity_se.forward(input.clone());
        let identity = bottleneck((first, norm, relu, dropout, second), gated, masks) + input.clone();
        let (first, norm, relu, dropout, second, outer) = &self.pose_fc;
        let gated = self.pose_se.forward(input);
        let pose = outer.forward(bottleneck((first, norm, relu, dropout, second), gated, masks));
        let alpha = self.alpha().unsqueeze::<2>();
        let rest = alpha.clone().neg().add_scalar(1.0);
        (identity.clone() * alpha + pose.clone() * rest, Branches { identity, pose })
    }

    /// Weight of the identity branch, `[1]`, between 0 and 1.
    pub fn alpha(&self) -> Tensor<1> {
        let stored = self.fusion_alpha.val();
        if self.learnable_fusion { sigmoid(stored) } else { stored }
    }

    /// Gates of the identity and of the pose branch.
    ///
    /// # Shapes
    /// - `input`: `[batch, feature_dim]`
    /// - returns: see [`SeBlock::gates`]
    pub fn gates(&self, input: Tensor<2>) -> [Tensor<2>; 2] {
        [&self.identity_se, &self.pose_se].map(|se| se.gates(input.clone()))
    }
}

/// What is stored so that α is `fusion_alpha` at the start.
pub(crate) fn stored_alpha(config: &DualBranchConfig) -> f32 {
    let alpha = config.fusion_alpha;
    if config.learnable_fusion { (alpha / (1.0 - alpha)).ln() as f32 } else { alpha as f32 }
}
