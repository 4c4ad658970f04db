//! Triplet loss on cosine distances, of triplets that the sampler has chosen.

use burn::tensor::{Tensor, assert_shape};
use serde::{Deserialize, Serialize};

use super::pairs::unit;

/// Over which triplets of a batch the mean is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mining {
    /// Those that violate the margin; 0 if none does. Values of two epochs then cannot be compared.
    #[default]
    Hard,
    /// All.
    None,
}

/// Triplet loss, Schroff et al. 2015 (arXiv:1503.03832), on cosine distances 1 − cos: the positive must be nearer to the anchor
/// than the negative by `margin`.
#[derive(Debug, Clone, PartialEq)]
pub struct CosineTriplet {
    /// In units of cosine distance.
    pub margin: f64,
    /// Over which triplets the mean is taken.
    pub mining: Mining,
}

/// What a batch of triplets gives. All `[1]`; only the loss carries gradients that are meant.
#[derive(Debug, Clone)]
pub struct CosineTripletOutput {
    /// Never negative.
    pub loss: Tensor<1>,
    /// Mean over all triplets, whatever the mining: comparable between epochs.
    pub all: Tensor<1>,
    /// Share of triplets that violate the margin.
    pub violating: Tensor<1>,
    /// Mean distance of anchor and positive.
    pub positive: Tensor<1>,
    /// Mean distance of anchor and negative.
    pub negative: Tensor<1>,
}

impl CosineTriplet {
    /// # Shapes
    /// - `anchor`, `positive`, `negative`: `[batch, feat_dim]` each, any length
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn forward(&self, anchor: Tensor<2>, positive: Tensor<2>, negative: Tensor<2>) -> CosineTripletOutput {
        let [batch, feat_dim] = anchor.dims();
        assert_shape!(positive, [batch, feat_dim]);
        assert_shape!(negative, [batch, feat_dim]);
        let anchor = unit(anchor);
        let distance = |other: Tensor<2>| (anchor.clone() * unit(other)).sum_dim(1).neg().add_scalar(1.0);
        let (near, far) = (distance(positive), distance(negative));
        let hinge = (near.clone() - far.clone()).add_scalar(self.margin).clamp_min(0.0);
        let violations = hinge.clone().greater_scalar(0.0).float().sum();
        let all = hinge.clone().mean();
        let loss = match self.mining {
            Mining::Hard => hinge.sum() / violations.clone().clamp_min(1.0),
            Mining::None => all.clone(),
        };
        let violating = violations.div_scalar(batch as f64);
        CosineTripletOutput { loss, all, violating, positive: near.mean(), negative: far.mean() }
    }
}
