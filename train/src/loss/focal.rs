//! Focal loss over identity classes.

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, assert_shape};

/// Focal loss, Lin et al. 2017 (arXiv:1708.02002): −α (1 − q)^γ log q of the true class, mean over the batch. q is
/// softmax + 1e-6, so that a vanishing probability has a finite loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Focal {
    /// Width of the scores.
    pub num_classes: usize,
    /// α, a constant factor.
    pub alpha: f64,
    /// γ, how strongly easy samples are damped; at least 1, so that the gradient at q = 1 is finite.
    pub gamma: f64,
}

impl Focal {
    /// The reference's values, α = 1 and γ = 2.
    pub fn new(num_classes: usize) -> Self {
        Self { num_classes, alpha: 1.0, gamma: 2.0 }
    }

    /// The loss of one batch.
    ///
    /// # Shapes
    /// - `scores`: `[batch, num_classes]`, logits
    /// - `classes`: `[batch]`, 0..`num_classes`
    /// - returns: `[1]`; a sample classified with certainty adds −1e-6, the least value
    ///
    /// # Panics
    /// If the score width is not `num_classes`, or the batch sizes differ.
    pub fn forward(&self, scores: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
        let [batch] = classes.dims();
        assert_shape!(scores, [batch, self.num_classes]);
        let q = softmax(scores, 1).gather(1, classes.unsqueeze_dim(1)).add_scalar(1e-6);
        // q may exceed 1 by 1e-6, and a power of a negative number is not defined for every γ.
        let doubt = q.clone().neg().add_scalar(1.0).clamp_min(0.0);
        (doubt.powf_scalar(self.gamma) * q.log()).mean().mul_scalar(-self.alpha)
    }
}
