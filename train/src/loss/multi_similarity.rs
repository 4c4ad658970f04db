//! Multi-similarity loss on cosine similarities.

use burn::tensor::{Int, Tensor, assert_shape};

use super::pairs::{constant, same_identity};
use crate::nn::vector::unit_or_zero;

/// Multi-similarity loss, Wang et al. 2019 (arXiv:1904.06627). Positives less similar than the hardest negative (plus
/// margin) and negatives more similar than the hardest positive (minus margin) are weighted by difficulty.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiSimilarity {
    /// How far beyond the hardest opposite a pair still counts, in cosine similarity: 0.1 in the paper, 0.7
    /// recommended.
    pub margin: f64,
    /// α, sharpness for positives.
    pub scale_positive: f64,
    /// β, sharpness for negatives.
    pub scale_negative: f64,
    /// λ, the similarity that separates positives from negatives.
    pub threshold: f64,
}

impl MultiSimilarity {
    /// The paper's α = 2 and β = 40, and the reference's λ = 0.5.
    pub fn new(margin: f64) -> Self {
        Self { margin, scale_positive: 2.0, scale_negative: 40.0, threshold: 0.5 }
    }

    /// The loss of one batch.
    ///
    /// # Shapes
    /// - `features`: `[batch, feat_dim]`, any scale
    /// - `classes`: `[batch]`; rows with equal values are positives of each other
    /// - returns: `[1]`, never negative
    ///
    /// # Batch
    /// At least two identities with two pictures each. An anchor without positives, without negatives or without a
    /// selected pair of either kind adds 0 and still counts in the mean. Pictures with equal features do not form a
    /// pair.
    ///
    /// # Panics
    /// If the batch sizes differ.
    pub fn forward(&self, features: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
        let [batch] = classes.dims();
        assert_shape!(features, [batch, _]);
        let unit = unit_or_zero(features);
        let similarity = unit.clone().matmul(unit.transpose());
        let same = same_identity(classes);

        // The selection is a constant of the step.
        let fixed = constant(similarity.clone());
        let positive = same.clone().bool_and(fixed.clone().lower_scalar(1.0 - 1e-5));
        let negative = same.bool_not();
        let hardest_positive = fixed.clone().mask_fill(positive.clone().bool_not(), f32::INFINITY).min_dim(1);
        let hardest_negative = fixed.clone().mask_fill(negative.clone().bool_not(), f32::NEG_INFINITY).max_dim(1);
        let square = [batch, batch];
        let negative =
            negative.bool_and(fixed.clone().add_scalar(self.margin).greater(hardest_positive.expand(square)));
        let positive = positive.bool_and(fixed.sub_scalar(self.margin).lower(hardest_negative.expand(square)));
        let skipped = positive.clone().any_dim(1).bool_and(negative.clone().any_dim(1)).bool_not();

        let term = |chosen: Tensor<2, _>, scale: f64| {
            let pull = similarity.clone().sub_scalar(self.threshold).mul_scalar(scale).exp();
            pull.mask_fill(Tensor::bool_not(chosen), 0.0).sum_dim(1).log1p().div_scalar(scale.abs())
        };
        let anchors = term(positive, -self.scale_positive) + term(negative, self.scale_negative);
        anchors.mask_fill(skipped, 0.0).sum().div_scalar(batch as f64)
    }
}
