//! Products of probes and rows, fast and about right: how they are rounded depends on the processor.

use bytemuck::{cast_slice, pod_read_unaligned};
use macerator::{AutoArch, ReduceAdd, Scalar, Simd, Vector, WithSimd};
use metrics::Rows;
use ndarray::{ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

/// Probes from which a matrix product is faster than one probe after another.
const FEW: usize = 4;

/// How far a product computed here, or [`metrics::dot`], may be from the other for rows of about unit length.
///
/// A sum of `n` products, in any order, with or without fused additions, is off by at most `n u / (1 - n u)` times the
/// sum of their absolute values (Higham, Accuracy and Stability of Numerical Algorithms, 2002, 3.1), which is at most
/// the product of the lengths; `u` is 2^-24. Two of them differ by twice that.
pub(super) fn error(dim: usize) -> f32 {
    let terms = (dim + 8) as f64 * 2.0_f64.powi(-24);
    let lengths = (1.0 + crate::template::LENGTH_TOLERANCE).powi(2);
    (2.0 * terms / (1.0 - terms) * lengths) as f32 * 1.001
}

/// Similarities of all probes and all rows: `out` is `[probes, rows]`.
pub(super) fn products(probes: Rows<'_>, rows: Rows<'_>, out: &mut [f32]) {
    if probes.rows() < FEW {
        for (probe, out) in out.chunks_exact_mut(rows.rows().max(1)).enumerate() {
            AutoArch::new().dispatch(Dots { probe: probes.row(probe), rows, out });
        }
        return;
    }
    let view = |rows: Rows<'_>| -> (usize, usize) { (rows.rows(), rows.cols()) };
    let shape = (probes.rows(), rows.rows());
    let probes = ArrayView2::from_shape(view(probes), probes.data()).expect("rows fill their shape");
    let rows = ArrayView2::from_shape(view(rows), rows.data()).expect("rows fill their shape");
    let mut out = ArrayViewMut2::from_shape(shape, out).expect("as many products");
    general_mat_mul(1.0, &probes, &rows.t(), 0.0, &mut out);
}

/// Products of one probe with every row: as fast as the rows come out of memory.
struct Dots<'a> {
    probe: &'a [f32],
    rows: Rows<'a>,
    out: &'a mut [f32],
}

/// Rows at a time: they share the loads of the probe, and their sums do not wait for each other.
const TOGETHER: usize = 4;

impl WithSimd for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { probe, rows, out } = self;
        let mut row = 0;
        while row + TOGETHER <= rows.rows() {
            let some = std::array::from_fn(|k| rows.row(row + k));
            out[row..row + TOGETHER].copy_from_slice(&dots::<S, TOGETHER>(probe, some));
            row += TOGETHER;
        }
        for (row, out) in out.iter_mut().enumerate().skip(row) {
            [*out] = dots::<S, 1>(probe, [rows.row(row)]);
        }
    }
}

#[inline(always)]
fn dots<S: Simd, const N: usize>(probe: &[f32], rows: [&[f32]; N]) -> [f32; N] {
    let lanes = S::lanes32();
    let whole = probe.len() / lanes * lanes;
    let mut sums = [0.0.splat::<S>(); N];
    for at in (0..whole).step_by(lanes) {
        let value = load::<S>(&probe[at..]);
        for (sum, row) in sums.iter_mut().zip(&rows) {
            *sum = value.mul_add(load::<S>(&row[at..]), *sum);
        }
    }
    std::array::from_fn(|k| {
        let tail: f32 = probe[whole..].iter().zip(&rows[k][whole..]).map(|(a, b)| a * b).sum();
        f32::reduce_add(sums[k]) + tail
    })
}

#[inline(always)]
fn load<S: Simd>(values: &[f32]) -> Vector<S, f32> {
    pod_read_unaligned(cast_slice(&values[..S::lanes32()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_within_their_error() {
        for (probes, rows, dim) in [(1, 9, 1), (2, 33, 7), (3, 5, 64), (4, 100, 100), (17, 65, 512), (9, 30, 3584)] {
            let unit = |rows: usize, phase: f32| -> Vec<f32> {
                let mut values: Vec<f32> = (0..rows * dim).map(|at| (at as f32 * 0.7 + phase).sin() + 0.1).collect();
                for row in values.chunks_exact_mut(dim) {
                    let length = metrics::dot(row, row).sqrt();
                    row.iter_mut().for_each(|value| *value /= length);
                }
                values
            };
            let (a, b) = (unit(probes, 0.0), unit(rows, 1.0));
            let (a, b) = (Rows::new(&a, probes, dim).unwrap(), Rows::new(&b, rows, dim).unwrap());
            let mut out = vec![f32::NAN; probes * rows];
            products(a, b, &mut out);
            for (at, found) in out.into_iter().enumerate() {
                let wanted = metrics::dot(a.row(at / rows), b.row(at % rows));
                assert!((found - wanted).abs() <= error(dim), "{probes}x{rows}x{dim} at {at}: {found} and {wanted}");
            }
        }
    }
}
