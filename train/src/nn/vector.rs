//! Lengths and angles of rows.

use burn::tensor::{Tensor, assert_shape};

/// A length below this counts as this, so that a row of zeros is divided by no zero. The square stands under the root,
/// where the gradient of a row of zeros is finite.
const SHORTEST: f64 = 1e-12;

/// The same for [`cosine`], where it is PyTorch's.
const SHORTEST_OF_COSINE: f64 = 1e-8;

/// Lengths of rows, at least `shortest`: `[rows, dim]` to `[rows, 1]`.
fn length(rows: Tensor<2>, shortest: f64) -> Tensor<2> {
    rows.square().sum_dim(1).clamp_min(shortest * shortest).sqrt()
}

/// Each row scaled to unit length. A row of zeros stays zero.
///
/// # Shapes
/// - `rows`: `[rows, dim]`, any length
/// - returns: `[rows, dim]`, L2 norm 1; less for rows shorter than 1e-12
pub fn unit(rows: Tensor<2>) -> Tensor<2> {
    let length = length(rows.clone(), SHORTEST);
    rows / length
}

/// As [`unit`], but a row shorter than 1e-12 has no direction: it becomes zero and gets no gradient. Division by the
/// lower bound would make its gradient 1e12 times that of the others.
///
/// # Shapes
/// - `rows`: `[rows, dim]`, any length
/// - returns: `[rows, dim]`, L2 norm 1 or 0
pub fn unit_or_zero(rows: Tensor<2>) -> Tensor<2> {
    let dims = rows.dims();
    let square = rows.clone().square().sum_dim(1);
    let directionless = square.lower_scalar(SHORTEST * SHORTEST).expand(dims);
    unit(rows).mask_fill(directionless, 0.0)
}

/// Cosine of each row of `a` and the same row of `b`. Lengths below 1e-8 count as 1e-8.
///
/// # Shapes
/// - `a`, `b`: `[rows, dim]`, any length
/// - returns: `[rows]`, in [-1, 1] up to rounding
///
/// # Panics
/// If the shapes differ.
pub fn cosine(a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
    let [rows, dim] = a.dims();
    assert_shape!(b, [rows, dim]);
    let product = (a.clone() * b.clone()).sum_dim(1);
    (product / (length(a, SHORTEST_OF_COSINE) * length(b, SHORTEST_OF_COSINE))).squeeze_dim::<1>(1)
}

/// Rows of numbers scaled to unit length, one after the other; rows of zeros stay.
///
/// # Panics
/// If `dim` is 0.
pub fn unit_values(rows: &[f32], dim: usize) -> Vec<f32> {
    let scaled = rows.chunks_exact(dim).flat_map(|row| {
        let length = row.iter().map(|value| value * value).sum::<f32>().sqrt().max(SHORTEST as f32);
        row.iter().map(move |value| value / length)
    });
    scaled.collect()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().unwrap()
    }

    /// Worked by hand: a row of length 5, one of zeros, and one below the shortest length.
    #[test]
    fn rows_have_length_1_or_stay_zero() {
        let device = Device::flex().autodiff();
        let rows = || Tensor::<2>::from_floats([[3.0, 4.0], [0.0, 0.0], [1e-13, 0.0]], &device).require_grad();
        let scaled = values(unit(rows()));
        assert_eq!(scaled[..4], [0.6, 0.8, 0.0, 0.0]);
        assert!((scaled[4] - 0.1).abs() < 1e-6 && scaled[5] == 0.0, "{scaled:?}");
        assert_eq!(values(unit_or_zero(rows())), [0.6, 0.8, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(unit_values(&[3.0, 4.0, 0.0, 0.0], 2), [0.6, 0.8, 0.0, 0.0]);
        let slope = |scaled: fn(Tensor<2>) -> Tensor<2>| {
            let rows = rows();
            let grads = scaled(rows.clone()).sum().backward();
            values(rows.grad(&grads).unwrap())
        };
        let (plain, zero) = (slope(unit), slope(unit_or_zero));
        assert_eq!(plain[..2], zero[..2], "rows with a direction have the same gradient");
        assert!(plain[2..].iter().all(|value| value.is_finite() && *value > 1e11), "{plain:?}");
        assert_eq!(zero[2..], [0.0; 4]);
    }

    #[test]
    fn cosines_by_hand() {
        let device = Device::flex();
        let a = Tensor::<2>::from_floats([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]], &device);
        let b = Tensor::<2>::from_floats([[4.0, 3.0], [0.0, 2.0], [-7.0, 0.0]], &device);
        let found = values(cosine(a, b));
        assert!(found.iter().zip([0.96, 0.0, -1.0]).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    }
}
