//! Triplet loss on cosine distances, for triplets chosen by the sampler or for the hardest ones of a batch.

use burn::tensor::{Int, Tensor, assert_shape};

use crate::words::words;

use super::pairs::same_identity;
use crate::nn::vector::unit_or_zero;

words! {
    /// The triplets of a batch that the mean is taken over.
    Mining (Hard) {
        /// Those that violate the margin; 0 if none does. Values of different epochs are not comparable.
        Hard = "hard",
        /// All triplets.
        None = "none",
        /// The hardest triplet of each picture, from its furthest positive and its nearest negative in the batch, if it
        /// violates the margin.
        BatchHard = "batch-hard",
    }
}

/// Triplet loss, Schroff et al. 2015 (arXiv:1503.03832), on cosine distances 1 − cos: the positive must be nearer to
/// the anchor than the negative by `margin`.
#[derive(Debug, Clone, PartialEq)]
pub struct CosineTriplet {
    /// Margin in units of cosine distance.
    pub margin: f64,
    /// The triplets that the mean is taken over.
    pub mining: Mining,
}

/// Results of a batch of triplets, each `[1]`. Only `loss` is meant for the backward pass.
#[derive(Debug, Clone)]
pub struct CosineTripletOutput {
    /// The loss, never negative.
    pub loss: Tensor<1>,
    /// Mean over all triplets, whatever the mining; comparable between epochs.
    pub all: Tensor<1>,
    /// Share of triplets that violate the margin.
    pub violating: Tensor<1>,
    /// Mean distance of anchor and positive.
    pub positive: Tensor<1>,
    /// Mean distance of anchor and negative.
    pub negative: Tensor<1>,
}

impl CosineTriplet {
    /// The loss of triplets chosen by the sampler.
    ///
    /// # Shapes
    /// - `anchor`, `positive`, `negative`: `[batch, feat_dim]`, any length
    /// - returns: `[1]` each
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn forward(&self, anchor: Tensor<2>, positive: Tensor<2>, negative: Tensor<2>) -> CosineTripletOutput {
        let [batch, feat_dim] = anchor.dims();
        assert_shape!(positive, [batch, feat_dim]);
        assert_shape!(negative, [batch, feat_dim]);
        let anchor = unit_or_zero(anchor);
        let distance = |other: Tensor<2>| (anchor.clone() * unit_or_zero(other)).sum_dim(1).neg().add_scalar(1.0);
        self.mean(distance(positive), distance(negative))
    }

    /// The loss of each row's hardest triplet, Hermans et al. 2017 (arXiv:1703.07737): its furthest positive and its
    /// nearest negative in the batch. A row without a partner is its own positive.
    ///
    /// # Shapes
    /// - `features`: `[batch, feat_dim]`, any length
    /// - `classes`: `[batch]`, with at least two different values; rows with equal values are positives of each other
    /// - returns: `[1]` each
    ///
    /// # Panics
    /// If the batch sizes differ.
    pub fn forward_batch(&self, features: Tensor<2>, classes: Tensor<1, Int>) -> CosineTripletOutput {
        let [batch] = classes.dims();
        assert_shape!(features, [batch, _]);
        let features = unit_or_zero(features);
        let distance = features.clone().matmul(features.transpose()).neg().add_scalar(1.0);
        let same = same_identity(classes);
        // Cosine distances are between 0 and 2.
        let farthest_positive = distance.clone().mask_fill(same.clone().bool_not(), -1.0).max_dim(1);
        let nearest_negative = distance.mask_fill(same, 3.0).min_dim(1);
        self.mean(farthest_positive, nearest_negative)
    }

    /// The results for distances `[batch, 1]` to positives and negatives.
    fn mean(&self, near: Tensor<2>, far: Tensor<2>) -> CosineTripletOutput {
        let [batch, _] = near.dims();
        let hinge = (near.clone() - far.clone()).add_scalar(self.margin).clamp_min(0.0);
        let violations = hinge.clone().greater_scalar(0.0).float().sum();
        let all = hinge.clone().mean();
        let loss = match self.mining {
            Mining::Hard | Mining::BatchHard => hinge.sum() / violations.clone().clamp_min(1.0),
            Mining::None => all.clone(),
        };
        let violating = violations.div_scalar(batch as f64);
        CosineTripletOutput { loss, all, violating, positive: near.mean(), negative: far.mean() }
    }
}
