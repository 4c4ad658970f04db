//! Products of probes and rows of eight bits. The sums are of integers and exact: every processor has the same. How far
//! they may be from the true similarity is known for each row, so that no row is lost by it.

use macerator::{AutoArch, Simd, WithSimd};
use metrics::Rows;

use super::kernel::{BLOCK, Passed};
use crate::segment::Codes;
use crate::template::LENGTH_TOLERANCE;

/// Probes up to which reading the rows takes longer than multiplying them, on any processor.
const FEW: usize = 3;

/// Room for sums, used again from block to block.
pub(super) type Sums = Vec<[i32; 16]>;

/// Probes, in sixteen bits and, where the processor multiplies bytes, packed in eight.
pub(super) struct Probes {
    count: usize,
    dim: usize,
    /// `[count, dim]`: as fine as 32 bits have room for the products with any row.
    fine: Vec<i16>,
    /// What a product with `fine` is divided by.
    steps: Vec<f32>,
    /// Lengths of what is lost of a probe in `fine`: the largest.
    lost: f64,
    #[cfg(target_arch = "x86_64")]
    bytes: Option<vnni::Packed>,
}

/// The longest a row or a probe is.
const LENGTH: f64 = 1.0 + LENGTH_TOLERANCE;

/// How far a product may be off by the rounding of the few operations that it goes through, and the one dot product by
/// its own: those are in single precision, the values are at most about 1.
fn rounding(dim: usize) -> f64 {
    f64::from(super::kernel::error(dim)) + 1e-6
}

/// Whether a search with this many probes is faster with rows of eight bits.
pub(super) fn worth_it(probes: usize) -> bool {
    probes <= FEW || multiplies_bytes()
}

fn multiplies_bytes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return vnni::token().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl Probes {
    pub(super) fn new(probes: Rows<'_>) -> Self {
        let (count, dim) = (probes.rows(), probes.cols());
        // A row of integers is not longer than 127 times the root of `dim`: with such a probe no sum needs more than 31
        // bits.
        let root = (dim as f64).sqrt();
        let most = (f64::from(i32::MAX) / (127.0 * root) - root) / LENGTH;
        let mut fine = Vec::with_capacity(count * dim);
        let (mut steps, mut lost) = (Vec::with_capacity(count), 0.0_f64);
        for probe in 0..count {
            let values = probes.row(probe);
            let step = most.min(f64::from(i16::MAX) / largest(values)) as f32;
            lost = lost.max(integers(values, step, i16::MAX.into(), |integer| fine.push(integer as i16)));
            steps.push(step);
        }
        #[cfg(target_arch = "x86_64")]
        let bytes = vnni::token().filter(|_| count > FEW).map(|token| vnni::Packed::new(token, probes));
        Self {
            count,
            dim,
            fine,
            steps,
            lost,
            #[cfg(target_arch = "x86_64")]
            bytes,
        }
    }

    /// Compares at most [`BLOCK`] rows with all probes and adds those that may reach the floor of their probe to
    /// `passed`, by rows. `floors` has a number for each probe.
    pub(super) fn compare(&self, rows: Codes<'_>, floors: &[f32], sums: &mut Sums, passed: &mut Vec<Passed>) {
        assert!(rows.rows() <= BLOCK && rows.dim() == self.dim && floors.len() == self.count);
        #[cfg(target_arch = "x86_64")]
        if let Some(bytes) = &self.bytes {
            return bytes.compare(self, rows, floors, sums, passed);
        }
        let _ = sums;
        self.compare_each(rows, floors, passed);
    }

    /// The same on any processor.
    fn compare_each(&self, rows: Codes<'_>, floors: &[f32], passed: &mut Vec<Passed>) {
        AutoArch::new().dispatch(CompareEach { probes: self, rows, floors, passed });
    }

    /// How far products with `fine` may be from the similarity that counts.
    fn error(&self, rows: Codes<'_>, row: usize) -> f32 {
        error(self.lost, rows.lost(row), self.dim)
    }

    /// About the similarity of the first probe and the first row.
    #[cfg(feature = "ann")]
    #[inline(always)]
    pub(super) fn product(&self, row: Codes<'_>) -> f32 {
        dot(row.row(0), &self.fine[..self.dim]) as f32 * (row.scale(0) / self.steps[0])
    }

    /// The row, if it may reach the floor.
    #[inline(always)]
    fn consider(&self, rows: Codes<'_>, row: usize, probe: usize, floor: f32, error: f32) -> Option<Passed> {
        let sum = dot(rows.row(row), &self.fine[probe * self.dim..(probe + 1) * self.dim]);
        let product = sum as f32 * (rows.scale(row) / self.steps[probe]);
        (product + error >= floor).then_some(Passed { row: row as u32, probe: probe as u32, product, error })
    }
}

/// `p x` is `p' x'` and what is lost: `(p - p') x' + p (x - x')`. Neither term is more than the product of its lengths,
/// and `x'` is not longer than `x` and what is lost of it.
fn error(lost_of_probe: f64, lost_of_row: f32, dim: usize) -> f32 {
    let row = f64::from(lost_of_row);
    ((lost_of_probe * (LENGTH + row) + LENGTH * row + rounding(dim)) as f32).next_up()
}

/// The largest absolute value, and not quite zero.
fn largest(values: &[f32]) -> f64 {
    f64::from(values.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs())))
}

/// Gives each value times `step` as an integer, and returns the length of what is lost by that.
fn integers(values: &[f32], step: f32, most: f64, mut each: impl FnMut(i32)) -> f64 {
    let step = f64::from(step);
    let mut lost = 0.0;
    for value in values {
        let integer = (f64::from(*value) * step).round_ties_even().clamp(-most, most);
        lost += (f64::from(*value) - integer / step).powi(2);
        each(integer as i32);
    }
    lost.sqrt() * (1.0 + 1e-6)
}

#[inline(always)]
fn dot(row: &[i8], probe: &[i16]) -> i32 {
    row.iter().zip(probe).map(|(row, probe)| i32::from(*row) * i32::from(*probe)).sum()
}

struct CompareEach<'a, 'b> {
    probes: &'b Probes,
    rows: Codes<'a>,
    floors: &'b [f32],
    passed: &'b mut Vec<Passed>,
}

impl WithSimd for CompareEach<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { probes, rows, floors, passed } = self;
        for row in 0..rows.rows() {
            let error = probes.error(rows, row);
            for (probe, floor) in floors.iter().enumerate() {
                passed.extend(probes.consider(rows, row, probe, *floor, error));
            }
        }
    }
}

/// For processors that multiply 64 bytes at a time: AVX-512 with VNNI.
#[cfg(target_arch = "x86_64")]
mod vnni {
    use std::ops::Range;

    use archmage::prelude::*;
    use metrics::Rows;

    use super::{BLOCK, Codes, Passed, integers, largest};

    /// Probes in a vector.
    const LANES: usize = 16;

    /// Vectors of probes in a panel.
    const WIDTH: usize = 3;

    /// Rows at a time: with [`WIDTH`] their sums fill 24 registers.
    const TOGETHER: usize = 8;

    /// Four values that are multiplied and added at once.
    type Four = [u8; 4];

    /// Fours of a row that are multiplied before the next ones: with 256 probes they are half of the second cache.
    const DEPTH: usize = 512;

    pub(super) fn token() -> Option<X64V4xToken> {
        X64V4xToken::summon()
    }

    /// Probes in eight bits, 128 added to each value.
    pub(super) struct Packed {
        token: X64V4xToken,
        /// For each depth of [`DEPTH`] fours and each panel: for each four the vectors of all its probes.
        panels: Vec<[Four; LANES]>,
        /// What a product is times, for each probe and those that fill the last vector.
        inverse: Vec<f32>,
        /// Lengths of what is lost of a probe: the largest.
        lost: f64,
    }

    impl Packed {
        pub(super) fn new(token: X64V4xToken, probes: Rows<'_>) -> Self {
            let (width, fours) = (probes.rows().next_multiple_of(LANES), probes.cols().div_ceil(4));
            let (mut values, mut inverse, mut lost) = (vec![0; width * fours * 4], vec![0.0; width], 0.0_f64);
            for probe in 0..probes.rows() {
                let row = probes.row(probe);
                let step = (127.0 / largest(row)) as f32;
                // Values that fill the last four stay zero, whatever they are multiplied with.
                let mut places = values[probe * fours * 4..].iter_mut();
                let put = |integer: i32| *places.next().expect("a place") = (integer + 128) as u8;
                lost = lost.max(integers(row, step, 127.0, put));
                inverse[probe] = 1.0 / step;
            }
            let values: &[Four] = bytemuck::cast_slice(&values);
            let mut packed = Vec::with_capacity(width * fours / LANES);
            for depth in depths(fours) {
                for panel in panels(width) {
                    for at in depth.clone() {
                        let vector = |first: usize| std::array::from_fn(|lane| values[(first + lane) * fours + at]);
                        packed.extend(panel.clone().step_by(LANES).map(vector));
                    }
                }
            }
            Self { token, panels: packed, inverse, lost }
        }

        pub(super) fn compare(
            &self,
            probes: &super::Probes,
            rows: Codes<'_>,
            floors: &[f32],
            sums: &mut super::Sums,
            passed: &mut Vec<Passed>,
        ) {
            let mut all = vec![f32::INFINITY; self.inverse.len()];
            all[..floors.len()].copy_from_slice(floors);
            sums.resize(BLOCK * all.len() / LANES, [0; LANES]);
            compare(self.token, self, probes, rows, &all, sums, passed);
        }
    }

    /// Ranges of the fours of a row.
    fn depths(fours: usize) -> impl Iterator<Item = Range<usize>> {
        (0..fours).step_by(DEPTH).map(move |at| at..fours.min(at + DEPTH))
    }

    /// Ranges of probes.
    fn panels(width: usize) -> impl Iterator<Item = Range<usize>> {
        (0..width).step_by(WIDTH * LANES).map(move |at| at..width.min(at + WIDTH * LANES))
    }

    #[arcane]
    fn compare(
        token: X64V4xToken,
        packed: &Packed,
        probes: &super::Probes,
        rows: Codes<'_>,
        floors: &[f32],
        sums: &mut [[i32; LANES]],
        passed: &mut Vec<Passed>,
    ) {
        let width = packed.inverse.len();
        let fours = rows.dim().div_ceil(4);
        for depth in depths(fours) {
            let all = &packed.panels[depth.start * width / LANES..depth.end * width / LANES];
            for first in (0..rows.rows()).step_by(TOGETHER) {
                // The last rows are multiplied with the ones before them a second time, or, if there are fewer,
                // repeated. The bytes behind a row that end its last four are multiplied with zeros.
                let some: [&[i8]; TOGETHER] = std::array::from_fn(|k| {
                    &rows.with_tail((first + k).min(rows.rows() - 1))[depth.start * 4..depth.end * 4]
                });
                let count = TOGETHER.min(rows.rows() - first);
                let out = &mut sums[first * width / LANES..(first + count) * width / LANES];
                let mut start = 0;
                for panel in panels(width) {
                    let vectors = panel.len() / LANES;
                    let values = &all[start..start + vectors * depth.len()];
                    start += values.len();
                    let at = Place { first: panel.start / LANES, width: width / LANES, begun: depth.start > 0 };
                    match vectors {
                        1 => tile::<1>(token, some, values, out, at),
                        2 => tile::<2>(token, some, values, out, at),
                        _ => tile::<3>(token, some, values, out, at),
                    }
                }
            }
        }
        for (row, sums) in sums.chunks_exact(width / LANES).take(rows.rows()).enumerate() {
            let (scale, fine) = (rows.scale(row), probes.error(rows, row));
            let error = super::error(packed.lost, rows.lost(row), rows.dim());
            // What the 128 that were added have added.
            let added = 128 * rows.row(row).iter().map(|value| i32::from(*value)).sum::<i32>();
            let vectors = sums.iter().zip(packed.inverse.as_chunks::<LANES>().0).zip(floors.as_chunks::<LANES>().0);
            for (vector, ((sums, inverse), floors)) in vectors.enumerate() {
                let mut any = false;
                for ((sum, inverse), floor) in sums.iter().zip(inverse).zip(floors) {
                    any |= (sum - added) as f32 * (inverse * scale) + error >= *floor;
                }
                // Nearly every vector has none that passes.
                if any {
                    for lane in 0..LANES {
                        if (sums[lane] - added) as f32 * (inverse[lane] * scale) + error >= floors[lane] {
                            passed.extend(probes.consider(rows, row, vector * LANES + lane, floors[lane], fine));
                        }
                    }
                }
            }
        }
    }

    /// Where sums belong: from vector `first` on in rows of `width` vectors, which have `begun` or not.
    #[derive(Clone, Copy)]
    struct Place {
        first: usize,
        width: usize,
        begun: bool,
    }

    /// Products of eight rows with the `N` vectors of a panel, added to what is in `out` where the rows have begun.
    #[rite(import_intrinsics)]
    fn tile<const N: usize>(
        _token: X64V4xToken,
        rows: [&[i8]; TOGETHER],
        packed: &[[Four; LANES]],
        out: &mut [[i32; LANES]],
        at: Place,
    ) {
        let depth = rows[0].len() / 4;
        let rows: [&[[i8; 4]]; TOGETHER] = rows.map(|row| &row.as_chunks::<4>().0[..depth]);
        let packed: &[[i32; LANES]] = &bytemuck::cast_slice(packed)[..depth * N];
        let mut sums = [[_mm512_setzero_si512(); N]; TOGETHER];
        for four in 0..depth {
            let probes: [__m512i; N] = std::array::from_fn(|n| _mm512_loadu_epi32(&packed[four * N + n]));
            for (sums, row) in sums.iter_mut().zip(&rows) {
                let row = _mm512_set1_epi32(i32::from_ne_bytes(row[four].map(|value| value as u8)));
                for (sum, probes) in sums.iter_mut().zip(&probes) {
                    *sum = _mm512_dpbusd_epi32(*sum, *probes, row);
                }
            }
        }
        for (sums, out) in sums.iter().zip(out.chunks_exact_mut(at.width)) {
            for (sum, out) in sums.iter().zip(&mut out[at.first..at.first + N]) {
                let sum = if at.begun { _mm512_add_epi32(*sum, _mm512_loadu_epi32(out)) } else { *sum };
                _mm512_storeu_epi32(out, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::quantised;

    fn unit(rows: usize, dim: usize, phase: f32) -> Vec<f32> {
        let spike = |at: usize| if at % 11 == 3 { 9.0 } else { 1.0 };
        let mut values: Vec<f32> =
            (0..rows * dim).map(|at| ((at as f32 * 0.7 + phase).sin() + 0.1) * spike(at / dim)).collect();
        for row in values.chunks_exact_mut(dim) {
            // One large value takes the others' bits.
            row[0] *= 5.0;
            let length = metrics::dot(row, row).sqrt();
            row.iter_mut().for_each(|value| *value /= length);
        }
        values
    }

    /// (probes, rows, values).
    const CASES: [(usize, usize, usize); 9] = [
        (1, 9, 1),
        (2, 33, 7),
        (4, 100, 100),
        (17, 65, 513),
        (49, 128, 20),
        (9, 30, 3584),
        (200, 127, 41),
        (5, 3, 65536),
        (64, 1, 2050),
    ];

    #[test]
    fn no_product_is_further_off_than_it_says_and_none_is_missing() {
        for (probes, rows, dim) in CASES {
            let (a, b) = (unit(probes, dim, 0.0), unit(rows, dim, 1.0));
            let (a, b) = (Rows::new(&a, probes, dim).unwrap(), Rows::new(&b, rows, dim).unwrap());
            let codes = |row| quantised(b.row(row)).into_iter().chain([0; 8]);
            let bytes: Vec<u8> = (0..rows).flat_map(codes).collect();
            let (codes, packed) = (Codes::new(&bytes, dim), Probes::new(a));
            for floor in [f32::NEG_INFINITY, 0.3] {
                let floors = vec![floor; probes];
                let (mut passed, mut plain, mut sums) = (Vec::new(), Vec::new(), Sums::new());
                packed.compare(codes, &floors, &mut sums, &mut passed);
                packed.compare_each(codes, &floors, &mut plain);
                // Eight bits of a probe may already tell what sixteen leave open.
                assert!(passed.iter().all(|found| plain.contains(found)), "{probes}x{rows}x{dim}, floor {floor}");
                assert!(floor > 0.0 || passed == plain, "{probes}x{rows}x{dim}: the same on every processor");
                for row in 0..rows {
                    for probe in 0..probes {
                        let wanted = metrics::dot(a.row(probe), b.row(row));
                        let at = |found: &&Passed| (found.row, found.probe) == (row as u32, probe as u32);
                        match passed.iter().find(at) {
                            Some(found) => assert!((found.product - wanted).abs() <= found.error, "{found:?} {wanted}"),
                            None => assert!(wanted < floor, "{probes}x{rows}x{dim}: {row} {probe} {wanted}"),
                        }
                    }
                }
            }
        }
    }

    /// Values of one size are the longest rows of integers there are.
    #[test]
    fn the_largest_sums_have_room() {
        for dim in [1, 1000, crate::MAX_DIM] {
            let value = 1.0009 / (dim as f32).sqrt();
            let values: Vec<f32> = [vec![value; dim], vec![-value; dim]].concat();
            let many = values.repeat(4);
            let bytes: Vec<u8> =
                values.chunks_exact(dim).flat_map(|row| [quantised(row), vec![0; 8]].concat()).collect();
            let mut passed = Vec::new();
            let packed = Probes::new(Rows::new(&many, 8, dim).unwrap());
            packed.compare(Codes::new(&bytes, dim), &[f32::NEG_INFINITY; 8], &mut Sums::new(), &mut passed);
            for found in passed {
                let wanted = if found.row % 2 == found.probe % 2 { 1.0018 } else { -1.0018 };
                assert!((found.product - wanted).abs() <= 0.001, "{dim}: {found:?}");
            }
        }
    }
}
