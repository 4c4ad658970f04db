//! Ranked list loss on Euclidean distances of features of unit length.

use burn::tensor::{Int, Tensor, assert_shape};

use super::pairs::{constant, euclidean, same_identity};
use crate::nn::vector::unit_or_zero;

/// Ranked list loss, Wang et al. 2019 (arXiv:1903.03238), mean over anchors: positives are pulled inside a sphere
/// around their anchor, negatives pushed out of a larger one, the nearest with the most weight. Pairs on their side of
/// the boundary have no part in it.
#[derive(Debug, Clone, PartialEq)]
pub struct RankedList {
    /// m, distance between the two boundaries: positives have to be nearer than α − m.
    pub margin: f64,
    /// α, the distance that negatives have to exceed. Rows of unit length are at most 2 apart.
    pub boundary: f64,
    /// T, how much more the nearest negatives weigh; 0: all alike.
    pub temperature: f64,
}

impl RankedList {
    /// The α = 2 and T = 1 of the reference, whose margin is 1.3.
    pub fn new(margin: f64) -> Self {
        Self { margin, boundary: 2.0, temperature: 1.0 }
    }

    /// The loss of one batch. The weights of negatives carry no gradient.
    ///
    /// # Shapes
    /// - `features`: `[batch, feat_dim]`, any scale
    /// - `classes`: `[batch]`; rows with equal values are positives of each other
    /// - returns: `[1]`, in units of distance, never negative
    ///
    /// # Batch
    /// At least two identities with two pictures each. An anchor without positives or without negatives adds 0 for
    /// them and still counts in the mean.
    ///
    /// # Panics
    /// If the batch sizes differ.
    pub fn forward(&self, features: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
        let [batch] = classes.dims();
        assert_shape!(features, [batch, _]);
        let device = features.device();
        let distance = euclidean(unit_or_zero(features));
        let same = same_identity(classes);
        let itself = Tensor::<2, Int>::eye(batch, &device).bool();

        let pull = distance.clone().sub_scalar(self.boundary - self.margin).clamp_min(0.0);
        let pull = pull.mask_fill(same.clone().bool_not().bool_or(itself), 0.0);
        let pulled = constant(pull.clone()).greater_scalar(0.0).float().sum_dim(1).clamp_min(1.0);
        let positives = pull.sum_dim(1) / pulled;

        let push = distance.neg().add_scalar(self.boundary).clamp_min(0.0).mask_fill(same, 0.0);
        let fixed = constant(push.clone());
        let outside = fixed.clone().lower_equal_scalar(0.0);
        let weights = fixed.mul_scalar(self.temperature).exp().mask_fill(outside, 0.0);
        // A weight is at least 1: without any, the sum above it is 0, too.
        let negatives = (push * weights.clone()).sum_dim(1) / weights.sum_dim(1).clamp_min(1.0);
        (positives + negatives).mean()
    }
}
