//! Products of probes and rows of eight bits. The sums are of integers and exact: every processor has the same. How far
//! they may be from the true similarity is known for each row, so that no row is lost by it.

use std::sync::OnceLock;

use macerator::{AutoArch, Simd, WithSimd};
use metrics::Rows;

use super::kernel::{BLOCK, Passed};
use crate::segment::Codes;
use crate::template::LENGTH_TOLERANCE;

/// Probes up to which reading the rows takes longer than multiplying them, on any processor.
const FEW: usize = 3;

/// Probes from which rows without a copy are reduced before they are multiplied. Up to here products of float32 take
/// no longer than reading the rows does (two cores of AVX-512 multiply 512 values with a probe in a sixteenth of the
/// time in which they read them); beyond, those of eight bits are four times as fast, and reducing a row costs as much
/// as five probes.
const MANY: usize = 16;

/// Probes up to which a copy is read where there is one. It is a quarter of the bytes; beyond, multiplying takes longer
/// than reading float32 rows does, and these are at hand when what may be among the nearest is looked at.
const COPY: usize = 128;

/// Rows that are multiplied together.
const TOGETHER: usize = 8;

/// A block of rows, and memory that is used again from block to block.
#[derive(Default)]
pub(super) struct Scratch {
    /// Four values of eight rows, those of the next four and so on; then those of the next eight rows.
    eights: Vec<[i32; TOGETHER]>,
    /// The sum of each row's integers.
    totals: Vec<i32>,
    /// Sums of rows whose values are multiplied in several steps.
    #[cfg(target_arch = "x86_64")]
    sums: Vec<[i32; 16]>,
    /// What is looked at more closely.
    hits: Vec<Hit>,
}

/// A row and a probe whose product may reach the floor.
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "found by instructions of x86-64 only"))]
struct Hit {
    row: u32,
    probe: u32,
    /// Of their integers.
    sum: i32,
}

impl Scratch {
    /// Lays a block of rows out for the products with any number of probes.
    pub(super) fn lay_out(&mut self, rows: Codes<'_>) {
        let Self { eights, totals, .. } = self;
        totals.clear();
        let total = |row| rows.row(row).iter().map(|value| i32::from(*value)).sum::<i32>();
        totals.extend((0..rows.rows()).map(total));
        let fours = rows.dim().div_ceil(4);
        eights.resize(rows.rows().div_ceil(TOGETHER) * fours, [0; TOGETHER]);
        for (eight, out) in eights.chunks_exact_mut(fours).enumerate() {
            // The last row stands in for those that are missing.
            for k in 0..TOGETHER {
                let row = rows.with_tail((eight * TOGETHER + k).min(rows.rows() - 1));
                for (out, four) in out.iter_mut().zip(row.as_chunks::<4>().0) {
                    out[k] = i32::from_ne_bytes(four.map(|value| value as u8));
                }
            }
        }
    }
}

/// Probes, in sixteen bits and, where the processor multiplies bytes, packed in eight.
pub(super) struct Probes<'a> {
    probes: Rows<'a>,
    fine: OnceLock<Fine>,
    #[cfg(target_arch = "x86_64")]
    bytes: Option<vnni::Packed>,
}

/// Probes in sixteen bits.
struct Fine {
    /// `[probes, dim]`: as fine as 32 bits have room for the products with any row.
    values: Vec<i16>,
    /// What a product with them is divided by.
    steps: Vec<f32>,
    /// Lengths of what is lost of a probe: the largest.
    lost: f64,
}

/// The longest a row or a probe is.
const LENGTH: f64 = 1.0 + LENGTH_TOLERANCE;

/// How far a product may be off by the rounding of the few operations that it goes through, and the one dot product by
/// its own: those are in single precision, the values are at most about 1.
fn rounding(dim: usize) -> f64 {
    f64::from(super::kernel::error(dim)) + 1e-6
}

/// Whether a search with this many probes is faster with a copy of the rows in eight bits.
pub(super) fn copy_helps(probes: usize) -> bool {
    probes <= FEW || (probes <= COPY && multiplies_bytes())
}

/// Whether a search with this many probes is faster if it first reduces the rows to eight bits.
pub(super) fn quantising_helps(probes: usize) -> bool {
    probes >= MANY && multiplies_bytes()
}

/// Whether this many probes are compared with rows that are laid out.
pub(super) fn multiplies(probes: usize) -> bool {
    probes > FEW && multiplies_bytes()
}

fn multiplies_bytes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return vnni::token().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Makes [`Codes`] of rows, with nothing in place of their checksums. Only where [`quantising_helps`].
pub(super) fn quantise(rows: Rows<'_>, codes: &mut Vec<u8>) {
    #[cfg(target_arch = "x86_64")]
    if let Some(token) = vnni::token() {
        return vnni::quantise(token, rows, codes);
    }
    unreachable!("{} rows are reduced for a processor that does not multiply bytes: {}", rows.rows(), codes.len())
}

impl<'a> Probes<'a> {
    pub(super) fn new(probes: Rows<'a>) -> Self {
        Self {
            probes,
            fine: OnceLock::new(),
            #[cfg(target_arch = "x86_64")]
            bytes: vnni::token().filter(|_| probes.rows() > FEW).map(|token| vnni::Packed::new(token, probes)),
        }
    }

    fn fine(&self) -> &Fine {
        self.fine.get_or_init(|| {
            let (count, dim) = (self.probes.rows(), self.probes.cols());
            // A row of integers is not longer than 127 times the root of `dim`: with such a probe no sum needs more
            // than 31 bits.
            let root = (dim as f64).sqrt();
            let most = (f64::from(i32::MAX) / (127.0 * root) - root) / LENGTH;
            let mut fine = Fine { values: Vec::with_capacity(count * dim), steps: Vec::new(), lost: 0.0 };
            for probe in 0..count {
                let values = self.probes.row(probe);
                let step = most.min(f64::from(i16::MAX) / largest(values)) as f32;
                let lost = integers(values, step, i16::MAX.into(), |integer| fine.values.push(integer as i16));
                fine.lost = fine.lost.max(lost);
                fine.steps.push(step);
            }
            fine
        })
    }

    /// Compares at most [`BLOCK`] rows, which are [laid out](Scratch::lay_out), with all probes and adds those that may
    /// reach the floor of their probe to `passed`. `floors` has a number for each probe. Where the rows' values are at
    /// hand, and not only their codes, products that reach the floor are as good as those of float32.
    pub(super) fn compare(
        &self,
        rows: Codes<'_>,
        values: Option<Rows<'_>>,
        floors: &[f32],
        scratch: &mut Scratch,
        passed: &mut Vec<Passed>,
    ) {
        let (count, dim) = (self.probes.rows(), self.probes.cols());
        assert!(rows.rows() <= BLOCK && rows.dim() == dim && floors.len() == count);
        assert!(values.is_none_or(|values| values.rows() == rows.rows() && values.cols() == dim));
        #[cfg(target_arch = "x86_64")]
        if let Some(bytes) = &self.bytes {
            bytes.compare(rows, floors, scratch);
            match values {
                Some(values) => bytes.look_closer(self.probes, rows, values, floors, scratch, passed),
                None => passed.extend(scratch.hits.iter().filter_map(|hit| {
                    let (row, probe) = (hit.row as usize, hit.probe as usize);
                    self.consider(self.fine(), rows, row, probe, floors[probe], self.error(rows, row))
                })),
            }
            return;
        }
        let _ = values;
        scratch.hits.clear();
        self.compare_each(rows, floors, passed);
    }

    /// The same on any processor.
    fn compare_each(&self, rows: Codes<'_>, floors: &[f32], passed: &mut Vec<Passed>) {
        AutoArch::new().dispatch(CompareEach { probes: self, rows, floors, passed });
    }

    /// How far products with sixteen bits may be from the similarity that counts.
    fn error(&self, rows: Codes<'_>, row: usize) -> f32 {
        error(self.fine().lost, rows.lost(row), self.probes.cols())
    }

    /// About the similarity of the first probe and the first row.
    #[cfg(feature = "ann")]
    #[inline(always)]
    pub(super) fn product(&self, row: Codes<'_>) -> f32 {
        let fine = self.fine();
        dot(row.row(0), &fine.values[..self.probes.cols()]) as f32 * (row.scale(0) / fine.steps[0])
    }

    /// The row, if it may reach the floor.
    #[inline(always)]
    fn consider(
        &self,
        fine: &Fine,
        rows: Codes<'_>,
        row: usize,
        probe: usize,
        floor: f32,
        error: f32,
    ) -> Option<Passed> {
        let dim = self.probes.cols();
        let sum = dot(rows.row(row), &fine.values[probe * dim..(probe + 1) * dim]);
        let product = sum as f32 * (rows.scale(row) / fine.steps[probe]);
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
    probes: &'b Probes<'b>,
    rows: Codes<'a>,
    floors: &'b [f32],
    passed: &'b mut Vec<Passed>,
}

impl WithSimd for CompareEach<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { probes, rows, floors, passed } = self;
        let fine = probes.fine();
        for row in 0..rows.rows() {
            let error = probes.error(rows, row);
            for (probe, floor) in floors.iter().enumerate() {
                passed.extend(probes.consider(fine, rows, row, probe, *floor, error));
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

    use super::{BLOCK, Codes, Hit, Passed, Scratch, TOGETHER, largest};
    use crate::segment::TAIL;

    /// Probes in a vector.
    const LANES: usize = 16;

    /// Vectors of probes in a panel: with [`TOGETHER`] rows their sums fill 24 registers.
    const WIDTH: usize = 3;

    /// Four values that are multiplied and added at once.
    type Four = [u8; 4];

    /// Fours of a row that are multiplied before the next ones: with 256 probes they are half of the second cache.
    const DEPTH: usize = 512;

    pub(super) fn token() -> Option<X64V4xToken> {
        X64V4xToken::summon()
    }

    /// Values that are multiplied at once.
    const BYTES: usize = 64;

    /// Steps of a probe's second digit in one of the first.
    const FINER: f64 = 254.0;

    /// Probes in two digits of eight bits, 128 added to each: all products are computed with the first one, those that
    /// may matter with the second one, too.
    pub(super) struct Packed {
        token: X64V4xToken,
        /// For each depth of [`DEPTH`] fours and each panel: for each four the vectors of all its probes.
        panels: Vec<[Four; LANES]>,
        /// What a product is times, for each probe and those that fill the last vector.
        inverse: Vec<f32>,
        /// Length of what is lost of each of these probes.
        lost: Vec<f32>,
        /// The second digit of each value, in steps of a [`FINER`]-th.
        second: Vec<[u8; BYTES]>,
        /// Length of what is lost of each probe by both digits.
        still_lost: Vec<f32>,
    }

    impl Packed {
        pub(super) fn new(token: X64V4xToken, probes: Rows<'_>) -> Self {
            let (width, fours) = (probes.rows().next_multiple_of(LANES), probes.cols().div_ceil(4));
            let (mut values, mut inverse, mut lost) = (vec![0; width * fours * 4], vec![0.0; width], vec![0.0; width]);
            let chunks = probes.cols().div_ceil(BYTES);
            let mut second = vec![[0; BYTES]; probes.rows() * chunks];
            let mut still_lost = Vec::with_capacity(probes.rows());
            for probe in 0..probes.rows() {
                let row = probes.row(probe);
                let step = (127.0 / largest(row)) as f32;
                // Values that fill the last four stay zero, whatever they are multiplied with.
                let firsts = &mut values[probe * fours * 4..];
                let seconds = second[probe * chunks..].as_flattened_mut();
                let [by_one, by_both] = digits(token, row, step, firsts, seconds);
                lost[probe] = by_one;
                still_lost.push(by_both);
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
            Self { token, panels: packed, inverse, lost, second, still_lost }
        }

        /// Finds the rows and probes whose product may reach the floor of the probe: the hits.
        pub(super) fn compare(&self, rows: Codes<'_>, floors: &[f32], scratch: &mut Scratch) {
            // The probes that fill the last vector find nothing.
            let mut all = vec![f32::INFINITY; self.inverse.len()];
            all[..floors.len()].copy_from_slice(floors);
            scratch.hits.clear();
            compare(self.token, self, rows, &all, scratch);
        }

        /// Adds those of the hits that reach the floor with values of float32. `rows` are those of `values`.
        pub(super) fn look_closer(
            &self,
            probes: Rows<'_>,
            rows: Codes<'_>,
            values: Rows<'_>,
            floors: &[f32],
            scratch: &Scratch,
            passed: &mut Vec<Passed>,
        ) {
            look_closer(self.token, self, probes, rows, values, floors, scratch, passed);
        }
    }

    /// Gives each value times `step` as two digits, and returns the lengths of what is lost by the first and by both.
    #[arcane]
    fn digits(_token: X64V4xToken, values: &[f32], step: f32, firsts: &mut [u8], seconds: &mut [u8]) -> [f32; 2] {
        let step = f64::from(step);
        let mut lost = [0.0; 2];
        for (value, (first, second)) in values.iter().zip(firsts.iter_mut().zip(seconds)) {
            let scaled = f64::from(*value) * step;
            let one = scaled.round_ties_even().clamp(-127.0, 127.0);
            let two = ((scaled - one) * FINER).round_ties_even().clamp(-127.0, 127.0);
            *first = (one as i32 + 128) as u8;
            *second = (two as i32 + 128) as u8;
            for (lost, integer) in lost.iter_mut().zip([one, one + two / FINER]) {
                *lost += (f64::from(*value) - integer / step).powi(2);
            }
        }
        lost.map(|lost| ((lost.sqrt() * (1.0 + 1e-6)) as f32).next_up())
    }

    /// Ranges of the fours of a row.
    fn depths(fours: usize) -> impl Iterator<Item = Range<usize>> {
        (0..fours).step_by(DEPTH).map(move |at| at..fours.min(at + DEPTH))
    }

    /// Ranges of probes.
    fn panels(width: usize) -> impl Iterator<Item = Range<usize>> {
        (0..width).step_by(WIDTH * LANES).map(move |at| at..width.min(at + WIDTH * LANES))
    }

    #[arcane(import_intrinsics)]
    fn compare(token: X64V4xToken, packed: &Packed, rows: Codes<'_>, floors: &[f32], scratch: &mut Scratch) {
        let width = packed.inverse.len();
        let fours = rows.dim().div_ceil(4);
        let Scratch { eights, totals, sums, hits } = scratch;
        assert!(totals.len() == rows.rows() && eights.len() == rows.rows().div_ceil(TOGETHER) * fours, "laid out");
        // Sums of rows that are multiplied in one step never leave the registers.
        sums.resize(if fours > DEPTH { BLOCK * width / LANES } else { 0 }, [0; LANES]);
        let [inverse, lost, floors] = [&packed.inverse[..], &packed.lost, floors].map(|all| all.as_chunks::<LANES>().0);
        for depth in depths(fours) {
            let all = &packed.panels[depth.start * width / LANES..depth.end * width / LANES];
            for (eight, values) in eights.chunks_exact(fours).enumerate() {
                let some = &values[depth.clone()];
                let first = eight * TOGETHER;
                let mut own = Eight { first, count: TOGETHER.min(rows.rows() - first), ..Eight::default() };
                if depth.end == fours {
                    for k in 0..own.count {
                        let row = first + k;
                        own.scale[k] = rows.scale(row);
                        own.error[k] = super::error(0.0, rows.lost(row), rows.dim());
                        own.longest[k] = (super::LENGTH + f64::from(rows.lost(row))) as f32 * 1.000_001;
                        // What the 128 that were added to the probes have added.
                        own.added[k] = 128 * totals[row];
                    }
                }
                let mut start = 0;
                for panel in panels(width) {
                    let vectors = panel.len() / LANES;
                    let values = &all[start..start + vectors * depth.len()];
                    start += values.len();
                    let own_probes = panel.start / LANES..panel.end / LANES;
                    let at = Place {
                        sums: &mut *sums,
                        width: width / LANES,
                        vector: own_probes.start,
                        begun: depth.start > 0,
                        ends: depth.end == fours,
                        inverse: &inverse[own_probes.clone()],
                        lost: &lost[own_probes.clone()],
                        floors: &floors[own_probes],
                        hits: &mut *hits,
                    };
                    match vectors {
                        1 => tile::<1>(token, some, values, &own, at),
                        2 => tile::<2>(token, some, values, &own, at),
                        _ => tile::<3>(token, some, values, &own, at),
                    }
                }
            }
        }
    }

    /// What is known of the rows that are multiplied together.
    #[derive(Default)]
    struct Eight {
        first: usize,
        count: usize,
        scale: [f32; TOGETHER],
        /// How far a product may be off by what is lost of the row, and what is lost of the probe is times.
        error: [f32; TOGETHER],
        longest: [f32; TOGETHER],
        added: [i32; TOGETHER],
    }

    /// Where products of a panel belong.
    struct Place<'a> {
        /// Sums of rows that have `begun` and do not end here: `width` vectors of each row, of which these probes have
        /// those from `vector` on.
        sums: &'a mut [[i32; LANES]],
        width: usize,
        vector: usize,
        begun: bool,
        ends: bool,
        inverse: &'a [[f32; LANES]],
        lost: &'a [[f32; LANES]],
        floors: &'a [[f32; LANES]],
        hits: &'a mut Vec<Hit>,
    }

    /// Products of eight rows with the `N` vectors of a panel.
    #[rite(import_intrinsics)]
    fn tile<const N: usize>(
        _token: X64V4xToken,
        rows: &[[i32; TOGETHER]],
        packed: &[[Four; LANES]],
        own: &Eight,
        at: Place<'_>,
    ) {
        let packed: &[[[i32; LANES]; N]] = bytemuck::cast_slice::<_, [i32; LANES]>(packed).as_chunks().0;
        let mut sums = [[_mm512_setzero_si512(); N]; TOGETHER];
        for (rows, packed) in rows.iter().zip(packed) {
            let probes: [__m512i; N] = std::array::from_fn(|n| _mm512_loadu_epi32(&packed[n]));
            for (sums, row) in sums.iter_mut().zip(rows) {
                let row = _mm512_set1_epi32(*row);
                for (sum, probes) in sums.iter_mut().zip(&probes) {
                    *sum = _mm512_dpbusd_epi32(*sum, *probes, row);
                }
            }
        }
        // A copy, which is looked up by number: the loop above keeps its own in registers.
        let done = sums;
        for (k, sums) in done.iter().enumerate().take(own.count) {
            let before = (own.first + k) * at.width + at.vector;
            let (scale, error) = (_mm512_set1_ps(own.scale[k]), _mm512_set1_ps(own.error[k]));
            let (longest, added) = (_mm512_set1_ps(own.longest[k]), _mm512_set1_epi32(own.added[k]));
            for (n, sum) in sums.iter().enumerate() {
                let mut sum = *sum;
                if at.begun {
                    sum = _mm512_add_epi32(sum, _mm512_loadu_epi32(&at.sums[before + n]));
                }
                if !at.ends {
                    _mm512_storeu_epi32(&mut at.sums[before + n], sum);
                    continue;
                }
                let times = _mm512_mul_ps(_mm512_loadu_ps(&at.inverse[n]), scale);
                let error = _mm512_fmadd_ps(_mm512_loadu_ps(&at.lost[n]), longest, error);
                let most = _mm512_fmadd_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(sum, added)), times, error);
                let mut passed = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(most, _mm512_loadu_ps(&at.floors[n]));
                // Nearly every vector has none that passes.
                if passed != 0 {
                    let mut all = [0; LANES];
                    _mm512_storeu_epi32(&mut all, _mm512_sub_epi32(sum, added));
                    while passed != 0 {
                        let lane = passed.trailing_zeros() as usize;
                        let (row, probe) = ((own.first + k) as u32, ((at.vector + n) * LANES + lane) as u32);
                        at.hits.push(Hit { row, probe, sum: all[lane] });
                        passed &= passed - 1;
                    }
                }
            }
        }
    }

    #[arcane(import_intrinsics)]
    #[expect(clippy::too_many_arguments, reason = "the attribute makes no methods")]
    fn look_closer(
        token: X64V4xToken,
        packed: &Packed,
        probes: Rows<'_>,
        rows: Codes<'_>,
        values: Rows<'_>,
        floors: &[f32],
        scratch: &Scratch,
        passed: &mut Vec<Passed>,
    ) {
        let error = crate::scan::kernel::error(rows.dim());
        let chunks = rows.dim().div_ceil(BYTES);
        for &Hit { row, probe, sum } in &scratch.hits {
            let (r, p) = (row as usize, probe as usize);
            let second = &packed.second[p * chunks..(p + 1) * chunks];
            let finer = finer(token, second, rows.row(r)) - 128 * scratch.totals[r];
            let sum = sum as f32 + finer as f32 / FINER as f32;
            let about = sum * (packed.inverse[p] * rows.scale(r));
            let off = super::error(packed.still_lost[p].into(), rows.lost(r), rows.dim());
            // Most of those that may reach the floor, and do not seem to, are no candidates any more once it has risen.
            if about < floors[p] {
                let may = about + off >= floors[p];
                passed.extend(may.then_some(Passed { row, probe, product: about, error: off }));
                continue;
            }
            let product = dot(token, probes.row(p), values.row(r));
            if (product + error).next_up() >= floors[p] {
                passed.push(Passed { row, probe, product, error });
            }
        }
    }

    /// The sum of products of a probe's second digits, 128 added to each, with a row.
    #[rite(import_intrinsics)]
    fn finer(_token: X64V4xToken, probe: &[[u8; BYTES]], row: &[i8]) -> i32 {
        let (whole, rest) = row.as_chunks::<BYTES>();
        // What fills the last chunk is zero in the row.
        let mut last = [0; BYTES];
        last[..rest.len()].copy_from_slice(rest);
        let product = |probe: &[u8; BYTES], row: &[i8; BYTES], sum| {
            _mm512_dpbusd_epi32(sum, _mm512_loadu_epi8(probe), _mm512_loadu_epi8(row))
        };
        let (twos, _) = whole.as_chunks::<2>();
        let (probe_twos, _) = probe.as_chunks::<2>();
        let (mut x, mut y) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for (probe, row) in probe_twos.iter().zip(twos) {
            x = product(&probe[0], &row[0], x);
            y = product(&probe[1], &row[1], y);
        }
        if whole.len() % 2 == 1 {
            x = product(&probe[whole.len() - 1], &whole[whole.len() - 1], x);
        }
        if !rest.is_empty() {
            y = product(&probe[whole.len()], &last, y);
        }
        _mm512_reduce_add_epi32(_mm512_add_epi32(x, y))
    }

    #[rite(import_intrinsics)]
    fn dot(_token: X64V4xToken, a: &[f32], b: &[f32]) -> f32 {
        let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        let ((fours, a_rest), (b_fours, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
        let product =
            |a: &[f32; LANES], b: &[f32; LANES], sum| _mm512_fmadd_ps(_mm512_loadu_ps(a), _mm512_loadu_ps(b), sum);
        // Sums that do not wait for each other, by name: of an array they would go through memory.
        let zero = _mm512_setzero_ps();
        let (mut w, mut x, mut y, mut z) = (zero, zero, zero, zero);
        for (a, b) in fours.iter().zip(b_fours) {
            w = product(&a[0], &b[0], w);
            x = product(&a[1], &b[1], x);
            y = product(&a[2], &b[2], y);
            z = product(&a[3], &b[3], z);
        }
        for (a, b) in a_rest.iter().zip(b_rest) {
            w = product(a, b, w);
        }
        let tail: f32 = a_tail.iter().zip(b_tail).map(|(a, b)| a * b).sum();
        _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(w, x), _mm512_add_ps(y, z))) + tail
    }

    #[arcane]
    pub(super) fn quantise(token: X64V4xToken, rows: Rows<'_>, codes: &mut Vec<u8>) {
        let stride = rows.cols() + TAIL;
        codes.resize(rows.rows() * stride, 0);
        for (row, codes) in codes.chunks_exact_mut(stride).enumerate() {
            quantise_row(token, rows.row(row), codes);
        }
    }

    /// Integers, scale and error of a row, as [`crate::segment::quantised`] has them but for the last bits.
    #[rite(import_intrinsics)]
    fn quantise_row(_token: X64V4xToken, values: &[f32], codes: &mut [u8]) {
        let (chunks, tail) = values.as_chunks::<LANES>();
        let mut last = [0.0; LANES];
        last[..tail.len()].copy_from_slice(tail);
        let mut most = _mm512_abs_ps(_mm512_loadu_ps(&last));
        for chunk in chunks {
            most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(chunk)));
        }
        let scale = _mm512_reduce_max_ps(most) / 127.0;
        // A scale that is no normal number would not be precise.
        let scale = if scale.is_normal() { scale } else { 0.0 };
        let times = _mm512_set1_ps(if scale == 0.0 { 0.0 } else { 1.0 / scale });
        let (scales, mut lost) = (_mm512_set1_ps(scale), _mm512_setzero_ps());
        // The tail of the codes has room for what fills the last chunk, and is written after it.
        for (chunk, codes) in chunks.iter().chain([&last]).zip(codes.as_chunks_mut::<LANES>().0) {
            let chunk = _mm512_loadu_ps(chunk);
            // Rounded to the nearest, ties to even: at most 127, since no value is larger than 127 scales and a bit.
            let integers = _mm512_cvtps_epi32(_mm512_mul_ps(chunk, times));
            let off = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(integers), scales, chunk);
            lost = _mm512_fmadd_ps(off, off, lost);
            _mm_storeu_si128(codes, _mm512_cvtsepi32_epi8(integers));
        }
        // Each difference is rounded once, each square and sum once more: together they are off by less than this
        // share. Squares that are too small for a number are less than the constant even if all are.
        let share = (chunks.len() + 10) as f64 * 2.0_f64.powi(-24);
        let lost = f64::from(_mm512_reduce_add_ps(lost)).sqrt() * (1.0 + share) + 1e-15;
        let tail = &mut codes[values.len()..];
        tail[..4].copy_from_slice(&scale.to_le_bytes());
        tail[4..8].copy_from_slice(&(lost as f32).next_up().to_le_bytes());
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
                let (mut passed, mut plain, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
                scratch.lay_out(codes);
                packed.compare(codes, None, &floors, &mut scratch, &mut passed);
                packed.compare_each(codes, &floors, &mut plain);
                passed.sort_unstable_by_key(|found| (found.row, found.probe));
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

    /// Rows that are reduced on the way, zeros and values next to nothing among them.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn no_row_that_is_reduced_on_the_way_is_lost() {
        if !quantising_helps(MANY) {
            return;
        }
        for (probes, rows, dim) in CASES {
            let (a, mut b) = (unit(probes, dim, 0.0), unit(rows, dim, 1.0));
            for (row, tiny) in [(1, 0.0), (2, 1e-30), (4, 1e-41)] {
                b.chunks_exact_mut(dim).skip(row).take(1).flatten().for_each(|value| *value *= tiny);
            }
            let (a, b) = (Rows::new(&a, probes, dim).unwrap(), Rows::new(&b, rows, dim).unwrap());
            // What an earlier block left is overwritten.
            let mut bytes = vec![0x55; 100];
            quantise(b, &mut bytes);
            let codes = Codes::new(&bytes, dim);
            for row in 0..rows {
                let off =
                    |(value, code): (&f32, &i8)| f64::from(*value) - f64::from(*code) * f64::from(codes.scale(row));
                let lost = b.row(row).iter().zip(codes.row(row)).map(|both| off(both).powi(2)).sum::<f64>().sqrt();
                let told = f64::from(codes.lost(row));
                assert!(lost <= told && told <= lost * 1.001 + 1e-14, "{rows}x{dim}, row {row}: {lost} of {told}");
            }
            let packed = Probes::new(a);
            if packed.bytes.is_none() {
                continue;
            }
            for floor in [f32::NEG_INFINITY, 0.3] {
                let (mut passed, mut scratch) = (Vec::new(), Scratch::default());
                scratch.lay_out(codes);
                packed.compare(codes, Some(b), &vec![floor; probes], &mut scratch, &mut passed);
                assert!(scratch.hits.len() >= passed.len());
                for row in 0..rows {
                    for probe in 0..probes {
                        let wanted = metrics::dot(a.row(probe), b.row(row));
                        let at = |found: &&Passed| (found.row, found.probe) == (row as u32, probe as u32);
                        match passed.iter().find(at) {
                            Some(found) => {
                                let float = crate::scan::kernel::error(dim);
                                assert!(found.error == float || found.product < floor, "{found:?} of {floor}");
                                assert!((found.product - wanted).abs() <= found.error, "{found:?} {wanted}");
                            }
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
            let floors = [f32::NEG_INFINITY; 8];
            let mut scratch = Scratch::default();
            scratch.lay_out(Codes::new(&bytes, dim));
            packed.compare(Codes::new(&bytes, dim), None, &floors, &mut scratch, &mut passed);
            for found in passed {
                let wanted = if found.row % 2 == found.probe % 2 { 1.0018 } else { -1.0018 };
                assert!((found.product - wanted).abs() <= 0.001, "{dim}: {found:?}");
            }
        }
    }
}
