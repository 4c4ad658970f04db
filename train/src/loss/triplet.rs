//! Triplet losses on Euclidean distances of unnormalised features.

use burn::tensor::{Int, Tensor, assert_shape};

use super::pairs::{euclidean, same_identity};

/// Batch-hard triplet loss, Hermans et al. 2017 (arXiv:1703.07737), mean over anchors: the furthest positive must be
/// nearer than the nearest negative by `margin`. Margin 0 is the soft margin, log(1 + exp(positive − negative)).
#[derive(Debug, Clone, PartialEq)]
pub struct Triplet {
    /// Margin in units of distance; 0 for the soft margin.
    pub margin: f64,
}

impl Triplet {
    /// The loss of one batch.
    ///
    /// # Shapes
    /// - `features`: `[batch, feat_dim]`
    /// - `classes`: `[batch]`; rows with equal values are positives of each other
    /// - returns: `[1]`, never negative
    ///
    /// # Batch
    /// At least two identities with two pictures each. A row without a partner is its own positive; a batch of one
    /// identity has no negatives and loss 0. `PkSampler` yields neither.
    ///
    /// # Panics
    /// If the batch sizes differ.
    pub fn forward(&self, features: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
        let [batch] = classes.dims();
        assert_shape!(features, [batch, _]);
        let distance = euclidean(features);
        let same = same_identity(classes);
        let farthest_positive = distance.clone().mask_fill(same.clone().bool_not(), 0.0).max_dim(1);
        let nearest_negative = distance.mask_fill(same, f32::INFINITY).min_dim(1);
        let violation = farthest_positive - nearest_negative;
        if self.margin == 0.0 {
            // log(1 + exp(v)) without overflow: for a large v the result is v.
            return (violation.clone().clamp_min(0.0) + violation.abs().neg().exp().log1p()).mean();
        }
        violation.add_scalar(self.margin).clamp_min(0.0).mean()
    }
}

/// Semihard triplet loss, Schroff et al. 2015 (arXiv:1503.03832), mean over all ordered positive pairs. The negative of
/// a pair is the nearest one that is further than the positive or, if there is none, the furthest negative.
#[derive(Debug, Clone, PartialEq)]
pub struct TripletSemihard {
    /// Margin in units of distance.
    pub margin: f64,
}

impl TripletSemihard {
    /// The loss of one batch.
    ///
    /// # Shapes
    /// - `features`: `[batch, feat_dim]`
    /// - `classes`: `[batch]`; rows with equal values are positives of each other
    /// - returns: `[1]`, never negative
    ///
    /// # Batch
    /// At least two identities, one of them with two pictures; without a pair or without negatives the loss is 0. Needs
    /// memory for `batch`³ numbers.
    ///
    /// # Panics
    /// If the batch sizes differ.
    pub fn forward(&self, features: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
        let [batch] = classes.dims();
        assert_shape!(features, [batch, _]);
        let cube = [batch, batch, batch];
        let device = features.device();
        let distance = euclidean(features);
        let same = same_identity(classes);

        // Axes: anchor, positive, negative.
        let to_positive = distance.clone().unsqueeze_dim::<3>(2).expand(cube);
        let to_negative = distance.clone().unsqueeze_dim::<3>(1).expand(cube);
        let unusable = same.clone().unsqueeze_dim::<3>(1).expand(cube);
        let unusable = unusable.bool_or(to_negative.clone().lower_equal(to_positive));
        let nearest_farther = to_negative.mask_fill(unusable, f32::INFINITY).min_dim(2).squeeze_dim::<2>(2);
        let farthest = distance.clone().mask_fill(same.clone(), f32::NEG_INFINITY).max_dim(1).expand([batch, batch]);
        let none_farther = nearest_farther.clone().equal_scalar(f32::INFINITY);
        let negative = nearest_farther.mask_where(none_farther, farthest);

        let itself = Tensor::<2, Int>::eye(batch, &device).bool();
        let no_negatives = same.clone().all_dim(1).expand([batch, batch]);
        let no_pair = same.bool_not().bool_or(itself).bool_or(no_negatives);
        let pairs = no_pair.clone().bool_not().float().sum().clamp_min(1.0);
        let hinge = (distance - negative).add_scalar(self.margin).clamp_min(0.0);
        hinge.mask_fill(no_pair, 0.0).sum() / pairs
    }
}
