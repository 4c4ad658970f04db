//! Losses that tie a frontalised embedding to the dimensions that carry identity, to the true frontal embedding, or to
//! the true frontal pose.

use burn::tensor::{Int, Tensor, TensorData, assert_shape};

use crate::nn::vector::cosine;

/// The dimensions that the reference preserves. The first ten were found by measuring the correlation of side and
/// frontal embeddings; the others are regularly spaced.
pub const IDENTITY_DIMS: [usize; 20] =
    [60, 312, 459, 217, 115, 74, 350, 113, 305, 149, 42, 88, 156, 201, 267, 298, 341, 378, 412, 445];

/// Mean squared change of the chosen dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityPreserving {
    /// Weight of the loss.
    pub weight: f64,
    /// Indices of the dimensions; the loss is 0 if there are none.
    pub dims: Vec<usize>,
}

impl Default for IdentityPreserving {
    fn default() -> Self {
        Self { weight: 0.3, dims: IDENTITY_DIMS.into() }
    }
}

impl IdentityPreserving {
    /// The loss of one batch.
    ///
    /// # Shapes
    /// - `front`: `[batch, dim]`, frontalised
    /// - `side`: `[batch, dim]`, before frontalisation
    /// - returns: `[1]`, never negative
    ///
    /// # Panics
    /// If the shapes differ, or a dimension is not below `dim`.
    pub fn forward(&self, front: Tensor<2>, side: Tensor<2>) -> Tensor<1> {
        let [batch, dim] = front.dims();
        assert_shape!(side, [batch, dim]);
        assert!(self.dims.iter().all(|at| *at < dim), "dimensions {:?} of {dim}", self.dims);
        if self.dims.is_empty() {
            return front.sum().mul_scalar(0.0);
        }
        let chosen: Vec<i64> = self.dims.iter().map(|at| *at as i64).collect();
        let chosen = TensorData::new(chosen, [self.dims.len()]);
        let chosen = Tensor::<1, Int>::from_data(chosen, &front.device());
        (front - side).select(1, chosen).square().mean().mul_scalar(self.weight)
    }
}

/// One minus the mean cosine of frontalised and true frontal embeddings. The reference has no such term.
///
/// # Shapes
/// - `front`, `target`: `[batch, dim]`
/// - returns: `[1]`, 0 to 2
///
/// # Panics
/// If the shapes differ.
pub fn target_loss(front: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    cosine(front, target).mean().neg().add_scalar(1.0)
}

/// Mean squared error of the estimated frontal pose, in units of 90 degrees.
///
/// # Shapes
/// - `estimated`, `target`: `[batch, angles]`, in degrees
/// - returns: `[1]`, never negative
///
/// # Panics
/// If the shapes differ.
pub fn front_pose_loss(estimated: Tensor<2>, target: Tensor<2>) -> Tensor<1> {
    let [batch, angles] = estimated.dims();
    assert_shape!(target, [batch, angles]);
    (estimated - target).div_scalar(90.0).square().mean()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Worked by hand.
    #[test]
    fn optional_terms_have_their_values() {
        let device = Device::flex();
        let front = || Tensor::<2>::from_floats([[3.0, 4.0], [1.0, 0.0]], &device);
        let target = Tensor::<2>::from_floats([[4.0, 3.0], [0.0, 2.0]], &device);
        let value = |loss: Tensor<1>| loss.into_scalar::<f32>();
        assert!((value(target_loss(front(), target.clone())) - (1.0 - 0.96 / 2.0)).abs() < 1e-6);
        let pose = front_pose_loss(front().mul_scalar(90.0), target.mul_scalar(90.0));
        assert!((value(pose) - (1.0 + 1.0 + 1.0 + 4.0) / 4.0).abs() < 1e-6);
        let none = IdentityPreserving { dims: Vec::new(), ..IdentityPreserving::default() };
        assert_eq!(value(none.forward(front(), front())), 0.0);
    }
}
