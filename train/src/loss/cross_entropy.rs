//! Cross entropy over identity classes, with optional label smoothing.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, assert_shape};

/// Cross entropy of classifier scores, mean over the batch. With smoothing ε the target is (1 − ε)·onehot + ε/classes,
/// Szegedy et al. 2016 (arXiv:1512.00567).
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEntropy {
    /// Width of the scores.
    pub num_classes: usize,
    /// ε; 0 for hard labels.
    pub smoothing: f64,
}

impl CrossEntropy {
    /// ε of the reference implementation when smoothing is on.
    pub const SMOOTHING: f64 = 0.1;

    /// The loss of one batch.
    ///
    /// # Shapes
    /// - `scores`: `[batch, num_classes]`, logits
    /// - `classes`: `[batch]`, 0..`num_classes`
    /// - returns: `[1]`, nats, never negative
    ///
    /// # Panics
    /// If the score width is not `num_classes`, or the batch sizes differ.
    pub fn forward(&self, scores: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
        let [batch] = classes.dims();
        assert_shape!(scores, [batch, self.num_classes]);
        let log_probability = log_softmax(scores, 1);
        let hard = log_probability.clone().gather(1, classes.unsqueeze_dim(1)).mean().neg();
        if self.smoothing == 0.0 {
            return hard;
        }
        // Σ_k ε/K·log p_k, averaged over the batch, is ε times the mean of the whole matrix.
        hard.mul_scalar(1.0 - self.smoothing) - log_probability.mean().mul_scalar(self.smoothing)
    }
}
