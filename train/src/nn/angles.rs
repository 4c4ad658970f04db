//! Converts angles between the degrees of the data and the unit of a network's layers.

use burn::tensor::Tensor;

/// The angles times `scale`. A scale of 1 adds no operation.
///
/// # Shapes
/// - `angles`: `[batch, angles]`
/// - returns: the same
pub(crate) fn scaled(angles: Tensor<2>, scale: f64) -> Tensor<2> {
    if scale == 1.0 { angles } else { angles.mul_scalar(scale) }
}

/// What to write after "angles": nothing for degrees.
pub(crate) fn scale_in_words(scale: f64) -> String {
    if scale == 1.0 { String::new() } else { format!(" (1 is {:.0} degrees)", 1.0 / scale) }
}
