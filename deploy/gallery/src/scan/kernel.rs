//! Products of probes and rows, fast and about right: how they are rounded depends on the processor.

use std::ops::Range;

use bytemuck::{bytes_of, cast_slice, cast_slice_mut, pod_read_unaligned};
use macerator::{AutoArch, ReduceAdd, Scalar, Simd, Vector, WithSimd};
use metrics::Rows;

/// Probes up to which they are compared one after the other.
const FEW: usize = 3;

/// Rows of a block: with [`DEPTH`] values of each they stay in the second cache.
pub(super) const BLOCK: usize = 128;

/// Values of a row that are multiplied before the next ones: with 256 probes they are 512 KiB of the second cache.
const DEPTH: usize = 512;

/// Vectors of probes in a panel.
const WIDTH: usize = 3;

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

/// Probes, packed for the products.
pub(super) struct Probes<'a> {
    probes: Rows<'a>,
    /// For each depth of [`DEPTH`] values and each panel of vectors: for each value the vectors of all its probes.
    /// Empty for [`FEW`] probes.
    panels: Vec<f32>,
    /// Probes in a vector.
    lanes: usize,
    /// Probes with those that fill the last vector.
    width: usize,
}

/// A product that reaches the floor of its probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Passed {
    pub(super) row: u32,
    pub(super) probe: u32,
    pub(super) product: f32,
    /// How far it may be from the similarity that counts.
    pub(super) error: f32,
}

impl<'a> Probes<'a> {
    pub(super) fn new(probes: Rows<'a>) -> Self {
        let lanes = AutoArch::new().dispatch(Lanes);
        if probes.rows() <= FEW {
            return Self { probes, panels: Vec::new(), lanes, width: probes.rows() };
        }
        let width = probes.rows().next_multiple_of(lanes);
        let mut panels = Vec::with_capacity(width * probes.cols());
        for depth in depths(probes.cols()) {
            for panel in self::panels(width, lanes) {
                for at in depth.clone() {
                    let value = |probe: usize| if probe < probes.rows() { probes.row(probe)[at] } else { 0.0 };
                    panels.extend(panel.clone().map(value));
                }
            }
        }
        Self { probes, panels, lanes, width }
    }

    /// Products that one row needs room for.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Compares at most [`BLOCK`] rows with all probes and adds the products that are not below the floor of their
    /// probe to `passed`, by rows. `floors` has a number for each of [`Probes::width`]; `products` has room for all of
    /// them.
    pub(super) fn compare(&self, rows: Rows<'_>, floors: &[f32], products: &mut [f32], passed: &mut Vec<Passed>) {
        assert!(rows.rows() <= BLOCK && rows.cols() == self.probes.cols() && floors.len() == self.width);
        let products = &mut products[..rows.rows() * self.width];
        if self.panels.is_empty() {
            let rows: Vec<&[f32]> = (0..rows.rows()).map(|row| rows.row(row)).collect();
            return self.compare_few(&rows, floors, products, passed);
        }
        AutoArch::new().dispatch(Compare { probes: self, rows, floors, products, passed });
    }

    /// The same where there are [few probes](are_few), with rows that do not lie behind each other.
    pub(super) fn compare_few(&self, rows: &[&[f32]], floors: &[f32], products: &mut [f32], passed: &mut Vec<Passed>) {
        assert!(rows.len() <= BLOCK && floors.len() == self.width && self.panels.is_empty());
        let products = &mut products[..rows.len() * self.width];
        AutoArch::new().dispatch(CompareFew { probes: self, rows, floors, products, passed });
    }
}

/// The product of one probe with one row.
pub(super) fn product(probe: &[f32], row: &[f32]) -> f32 {
    AutoArch::new().dispatch(Product { probe, row })
}

struct Product<'a> {
    probe: &'a [f32],
    row: &'a [f32],
}

impl WithSimd for Product<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> f32 {
        dot::<S>(self.probe, self.row)
    }
}

/// Whether so few probes are compared that rows are read once for each, wherever they are.
pub(super) fn are_few(probes: usize) -> bool {
    probes <= FEW
}

/// Ranges of a row's values.
fn depths(dim: usize) -> impl Iterator<Item = Range<usize>> {
    (0..dim).step_by(DEPTH).map(move |at| at..dim.min(at + DEPTH))
}

/// Ranges of probes.
fn panels(width: usize, lanes: usize) -> impl Iterator<Item = Range<usize>> {
    (0..width).step_by(WIDTH * lanes).map(move |at| at..width.min(at + WIDTH * lanes))
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> usize {
        S::lanes32()
    }
}

struct Compare<'a, 'b> {
    probes: &'b Probes<'a>,
    rows: Rows<'b>,
    floors: &'b [f32],
    products: &'b mut [f32],
    passed: &'b mut Vec<Passed>,
}

impl WithSimd for Compare<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { probes, rows, floors, products, passed } = self;
        if S::lanes32() == 16 || cfg!(target_arch = "aarch64") {
            // 32 registers hold the products of eight rows.
            multiply::<S, 8>(probes, rows, products);
        } else {
            multiply::<S, 4>(probes, rows, products);
        }
        note(products, floors, error(rows.cols()), passed);
    }
}

struct CompareFew<'a, 'b> {
    probes: &'b Probes<'a>,
    rows: &'b [&'b [f32]],
    floors: &'b [f32],
    products: &'b mut [f32],
    passed: &'b mut Vec<Passed>,
}

impl WithSimd for CompareFew<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { probes, rows, floors, products, passed } = self;
        for probe in 0..probes.width {
            dots::<S>(probes.probes.row(probe), rows, products, probe, probes.width);
        }
        note(products, floors, error(probes.probes.cols()), passed);
    }
}

/// Adds the products that reach the floor of their probe, by rows.
#[inline(always)]
fn note(products: &[f32], floors: &[f32], error: f32, passed: &mut Vec<Passed>) {
    for (row, products) in products.chunks_exact(floors.len().max(1)).enumerate() {
        for (at, (products, floors)) in products.chunks(16).zip(floors.chunks(16)).enumerate() {
            // Nearly every chunk has none that passes.
            if !products.iter().zip(floors).fold(false, |any, (product, floor)| any | (product >= floor)) {
                continue;
            }
            for (lane, (&product, floor)) in products.iter().zip(floors).enumerate() {
                if product >= *floor {
                    passed.push(Passed { row: row as u32, probe: (at * 16 + lane) as u32, product, error });
                }
            }
        }
    }
}

/// Products of one probe with every row, to every `width`-th place of `out`: as fast as rows come out of memory. One
/// row after the other: what processors read ahead follows a single stream best (half the time of four rows at once).
#[inline(always)]
fn dots<S: Simd>(probe: &[f32], rows: &[&[f32]], out: &mut [f32], first: usize, width: usize) {
    for (row, out) in rows.iter().zip(out.chunks_exact_mut(width)) {
        out[first] = dot::<S>(probe, row);
    }
}

#[inline(always)]
fn dot<S: Simd>(probe: &[f32], row: &[f32]) -> f32 {
    /// Sums that do not wait for each other.
    const SUMS: usize = 4;
    let row = &row[..probe.len()];
    let lanes = S::lanes32();
    let (step, whole) = (SUMS * lanes, probe.len() / lanes * lanes);
    let mut sums = [0.0.splat::<S>(); SUMS];
    let mut at = 0;
    while at + step <= whole {
        let (probe, row) = (&probe[at..at + step], &row[at..at + step]);
        for (k, sum) in sums.iter_mut().enumerate() {
            *sum = load::<S>(&probe[k * lanes..]).mul_add(load::<S>(&row[k * lanes..]), *sum);
        }
        at += step;
    }
    for at in (at..whole).step_by(lanes) {
        sums[0] = load::<S>(&probe[at..]).mul_add(load::<S>(&row[at..]), sums[0]);
    }
    let tail: f32 = probe[whole..].iter().zip(&row[whole..]).map(|(a, b)| a * b).sum();
    f32::reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3])) + tail
}

/// Products of all probes with every row, `[rows, width]`; `M` rows at a time. The rows are read where they are: only
/// the probes are packed, once for all rows.
#[inline(always)]
fn multiply<S: Simd, const M: usize>(probes: &Probes<'_>, rows: Rows<'_>, products: &mut [f32]) {
    let (lanes, width) = (S::lanes32(), probes.width);
    debug_assert_eq!(lanes, probes.lanes);
    for depth in depths(rows.cols()) {
        let (begun, all) = (depth.start > 0, &probes.panels[depth.start * width..depth.end * width]);
        for first in (0..rows.rows()).step_by(M) {
            // The last rows are multiplied with the ones before them a second time, or, if there are fewer, repeated.
            let row = |k: usize| &rows.row((first + k).min(rows.rows() - 1))[depth.clone()];
            let some: [&[f32]; M] = std::array::from_fn(row);
            let count = M.min(rows.rows() - first);
            let out = &mut products[first * width..(first + count) * width];
            let mut start = 0;
            for panel in panels(width, lanes) {
                let packed = &all[start..start + panel.len() * depth.len()];
                start += packed.len();
                match panel.len() / lanes {
                    1 => tile::<S, M, 1>(some, packed, out, panel.start, width, begun),
                    2 => tile::<S, M, 2>(some, packed, out, panel.start, width, begun),
                    _ => tile::<S, M, 3>(some, packed, out, panel.start, width, begun),
                }
            }
        }
    }
}

/// Products of `M` rows with the `N` vectors of a panel, added to what is in `out` where the rows have `begun`.
#[inline(always)]
fn tile<S: Simd, const M: usize, const N: usize>(
    rows: [&[f32]; M],
    packed: &[f32],
    out: &mut [f32],
    column: usize,
    width: usize,
    begun: bool,
) {
    let lanes = S::lanes32();
    let depth = rows[0].len();
    let rows = rows.map(|row| &row[..depth]);
    let packed = &packed[..depth * N * lanes];
    let mut sums = [[0.0.splat::<S>(); N]; M];
    for at in 0..depth {
        let values = &packed[at * N * lanes..(at + 1) * N * lanes];
        let probes: [Vector<S, f32>; N] = std::array::from_fn(|n| load::<S>(&values[n * lanes..]));
        for (sums, row) in sums.iter_mut().zip(&rows) {
            let value = row[at].splat::<S>();
            for (sum, probe) in sums.iter_mut().zip(&probes) {
                *sum = value.mul_add(*probe, *sum);
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.chunks_exact_mut(width)) {
        for (n, sum) in sums.iter().enumerate() {
            let out = &mut out[column + n * lanes..][..lanes];
            let sum = if begun { *sum + load::<S>(out) } else { *sum };
            cast_slice_mut(out).copy_from_slice(bytes_of(&sum));
        }
    }
}

#[inline(always)]
fn load<S: Simd>(values: &[f32]) -> Vector<S, f32> {
    pod_read_unaligned(cast_slice(&values[..S::lanes32()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Narrow<'a>(&'a Probes<'a>, Rows<'a>, &'a mut [f32]);

    impl WithSimd for Narrow<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self) {
            multiply::<S, 4>(self.0, self.1, self.2);
        }
    }

    fn unit(rows: usize, dim: usize, phase: f32) -> Vec<f32> {
        let mut values: Vec<f32> = (0..rows * dim).map(|at| (at as f32 * 0.7 + phase).sin() + 0.1).collect();
        for row in values.chunks_exact_mut(dim) {
            let length = metrics::dot(row, row).sqrt();
            row.iter_mut().for_each(|value| *value /= length);
        }
        values
    }

    #[test]
    fn products_are_within_their_error_and_none_is_missing() {
        let cases = [
            (1, 9, 1),
            (2, 33, 7),
            (3, 5, 64),
            (4, 100, 100),
            (17, 65, 513),
            (49, 128, 20),
            (9, 30, 3584),
            (200, 127, 40),
        ];
        for (probes, rows, dim) in cases {
            let (a, b) = (unit(probes, dim, 0.0), unit(rows, dim, 1.0));
            let (a, b) = (Rows::new(&a, probes, dim).unwrap(), Rows::new(&b, rows, dim).unwrap());
            let packed = Probes::new(a);
            let mut products = vec![f32::NAN; BLOCK * packed.width()];
            let mut passed = Vec::new();
            let mut floors = vec![f32::NEG_INFINITY; packed.width()];
            floors[probes..].fill(f32::INFINITY);
            packed.compare(b, &floors, &mut products, &mut passed);
            assert_eq!(passed.len(), probes * rows, "{probes}x{rows}x{dim}");
            for found in &passed {
                let wanted = metrics::dot(a.row(found.probe as usize), b.row(found.row as usize));
                assert!((found.product - wanted).abs() <= error(dim), "{probes}x{rows}x{dim}: {found:?}, {wanted}");
            }
            // As processors with fewer registers do it.
            if probes > FEW {
                let (wide, all) = (products.clone(), rows * packed.width());
                products.fill(f32::NAN);
                AutoArch::new().dispatch(Narrow(&packed, b, &mut products[..all]));
                assert_eq!(products[..all], wide[..all]);
            }
            // The same once more, for those that reach a floor.
            let all = std::mem::take(&mut passed);
            floors[..probes].fill(0.3);
            packed.compare(b, &floors, &mut products, &mut passed);
            assert_eq!(passed, all.into_iter().filter(|found| found.product >= 0.3).collect::<Vec<_>>());
        }
    }
}
