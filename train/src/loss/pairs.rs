//! Helpers of the metric losses: distances and equality of identities for all pairs of a batch.

use burn::tensor::{Bool, Int, Tensor};

/// Euclidean distance of every pair of rows. Features are not normalised.
///
/// # Shapes
/// - `features`: `[batch, feat_dim]`
/// - returns: `[batch, batch]`, at least 1e-6
pub(super) fn euclidean(features: Tensor<2>) -> Tensor<2> {
    let square = features.clone().square().sum_dim(1);
    let product = features.clone().matmul(features.transpose());
    // The lower bound is inside the root: equal rows then have a finite gradient of zero.
    (square.clone() + square.transpose() - product.mul_scalar(2.0)).clamp_min(1e-12).sqrt()
}

/// Whether two rows have the same identity. Every row has the same identity as itself.
///
/// # Shapes
/// - `classes`: `[batch]`
/// - returns: `[batch, batch]`
pub(super) fn same_identity(classes: Tensor<1, Int>) -> Tensor<2, Bool> {
    let [batch] = classes.dims();
    let column = classes.clone().unsqueeze_dim::<2>(1).expand([batch, batch]);
    let row = classes.unsqueeze_dim::<2>(0).expand([batch, batch]);
    column.equal(row)
}

/// A copy without history: nothing computed from it has a gradient.
pub(super) fn constant<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    if tensor.is_autodiff() { tensor.inner().autodiff() } else { tensor }
}
