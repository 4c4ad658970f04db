//! Focal loss over identity classes.

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor, assert_shape};

/// Focal loss, Lin et al. 2017 (arXiv:1708.02002): −α (1 − q)^γ log q of the true class, mean over the batch,
/// with q = softmax + 1e-6 so that a vanishing probability has a finite loss.
#[derive(Debug, Clone, PartialEq)]
pub struct Focal {
    /// Width of the scores.
    pub num_classes: usize,
    /// Factor in front.
    pub alpha: f64,
    /// How strongly easy samples are damped; at least 1, where the gradient at q = 1 is finite.
    pub gamma: f64,
}

impl Focal {
    /// The reference's α = 1, γ = 2.
    pub fn new(num_classes: usize) -> Self {
        Self { num_classes, alpha: 1.0, gamma: 2.0 }
    }

    /// # Shapes
    /// - `scores`: `[batch, num_classes]`, logits
    /// - `classes`: `[batch]`, 0..`num_classes`
    /// - returns: `[1]`; a sample classified without doubt adds −1e-6 at the least
    ///
    /// # Panics
    /// If the score width is not `num_classes`, or the batch sizes differ.
    pub fn forward(&self, scores: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
        let [batch] = classes.dims();
        assert_shape!(scores, [batch, self.num_classes]);
        let q = softmax(scores, 1).gather(1, classes.unsqueeze_dim(1)).add_scalar(1e-6);
        // q may exceed 1 by the 1e-6; a power of a negative number is not defined for every γ.
        let doubt = q.clone().neg().add_scalar(1.0).clamp_min(0.0);
        (doubt.powf_scalar(self.gamma) * q.log()).mean().mul_scalar(-self.alpha)
    }
}
