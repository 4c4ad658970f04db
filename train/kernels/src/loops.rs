//! The loops behind the kernels. The order of every sum depends only on shapes, so results have the same bits with any
//! number of threads.

use std::ops::Range;

use bytemuck::{bytes_of, cast_slice, cast_slice_mut, pod_read_unaligned};
use macerator::{AutoArch, ReduceAdd, Scalar, Simd, Vector, WithSimd};
use rayon::prelude::*;

/// Runs `operation`, compiled for the widest vectors of this processor.
pub fn dispatch<O: WithSimd>(operation: O) -> O::Output {
    AutoArch::new().dispatch(operation)
}

/// The first vector of `values`.
#[inline(always)]
pub fn load<S: Simd>(values: &[f32]) -> Vector<S, f32> {
    pod_read_unaligned(cast_slice(&values[..S::lanes32()]))
}

/// Writes `vector` to the start of `out`.
#[inline(always)]
pub fn store<S: Simd>(vector: Vector<S, f32>, out: &mut [f32]) {
    cast_slice_mut(&mut out[..S::lanes32()]).copy_from_slice(bytes_of(&vector));
}

/// Rows of an output tile, held in registers.
const ROWS: usize = 6;
/// Inner dimension of a block, so that two panels of a tile stay in the first-level cache.
const DEPTH: usize = 256;
/// Columns packed at a time, so that with [`DEPTH`] rows they stay in the second-level cache.
const COLUMNS: usize = 128;
/// Pixels per block of [`outer_sum`].
const PIXELS: usize = 1024;

/// The right-hand matrix of a product, which can write parts of its rows. For a convolution, rows are kernel taps and
/// columns are pixels.
pub trait Columns: Sync {
    /// Writes part of row `row`, from column `first` on, into `out`.
    fn fill(&self, row: usize, first: usize, out: &mut [f32]);

    /// `count` values of row `row` from column `first` on, if they are contiguous in memory.
    fn contiguous(&self, _row: usize, _first: usize, _count: usize) -> Option<&[f32]> {
        None
    }
}

/// A left-hand matrix, packed for [`product`]: in blocks of [`DEPTH`] columns, and inside them in panels of [`ROWS`]
/// rows.
pub struct Packed {
    values: Vec<f32>,
    rows: usize,
    depth: usize,
}

impl Packed {
    /// Packs the `rows`×`depth` matrix whose element at (row, k) is `at(row, k)`.
    pub fn new(rows: usize, depth: usize, at: impl Fn(usize, usize) -> f32 + Sync) -> Self {
        let panels = rows.div_ceil(ROWS);
        let mut values = vec![0.0; panels * ROWS * depth];
        for (block, values) in values.chunks_mut(DEPTH * panels * ROWS).enumerate() {
            let size = values.len() / panels;
            values.par_chunks_mut(size).enumerate().with_min_len(16).for_each(|(panel, values)| {
                let first = panel * ROWS;
                for (k, column) in values.chunks_exact_mut(ROWS).enumerate() {
                    for (row, value) in (first..rows).zip(column) {
                        *value = at(row, block * DEPTH + k);
                    }
                }
            });
        }
        Self { values, rows, depth }
    }

    fn panel(&self, start: usize, panel: usize) -> &[f32] {
        let block = DEPTH.min(self.depth - start);
        let panels = self.rows.div_ceil(ROWS);
        let first = start * panels * ROWS + panel * block * ROWS;
        &self.values[first..first + block * ROWS]
    }
}

/// `out[rows, width] = left · right` for as many panels of rows, from `first_panel` on, as `out` has room for.
struct Product<'a, C> {
    left: &'a Packed,
    right: &'a C,
    width: usize,
    first_panel: usize,
    out: &'a mut [f32],
}

impl<C: Columns> WithSimd for Product<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { left, right, width, first_panel, out } = self;
        let tile = 2 * S::lanes32();
        let mut line = [0.0f32; COLUMNS];
        let mut packed = vec![0.0f32; DEPTH.min(left.depth) * COLUMNS];
        for first in (0..width).step_by(COLUMNS) {
            let columns = COLUMNS.min(width - first);
            let tiles = columns.div_ceil(tile);
            for start in (0..left.depth).step_by(DEPTH) {
                let depth = DEPTH.min(left.depth - start);
                line[columns..].fill(0.0);
                for k in 0..depth {
                    let line = match right.contiguous(start + k, first, columns) {
                        Some(values) if columns.is_multiple_of(tile) => values,
                        _ => {
                            right.fill(start + k, first, &mut line[..columns]);
                            &line
                        }
                    };
                    for (t, part) in line.chunks_exact(tile).take(tiles).enumerate() {
                        let to = &mut packed[(t * depth + k) * tile..][..tile];
                        // Two vector moves are faster than a call of memcpy.
                        store::<S>(load(part), to);
                        store::<S>(load(&part[S::lanes32()..]), &mut to[S::lanes32()..]);
                    }
                }
                let rows = out.len() / width;
                for (p, band) in out.chunks_mut(ROWS * width).enumerate() {
                    let panel = left.panel(start, first_panel + p);
                    let live = ROWS.min(rows - p * ROWS);
                    for t in 0..tiles {
                        let right = &packed[t * depth * tile..(t + 1) * depth * tile];
                        let sums = tile_product::<S>(panel, right);
                        let column = first + t * tile;
                        let valid = tile.min(width - column);
                        for (r, sum) in sums.iter().enumerate().take(live) {
                            let at = r * width + column;
                            store_pair(sum, &mut band[at..at + valid], start > 0);
                        }
                    }
                }
            }
        }
    }
}

/// Six rows by two vectors, summed over the depth of the panels.
#[inline(always)]
fn tile_product<S: Simd>(left: &[f32], right: &[f32]) -> [[Vector<S, f32>; 2]; ROWS] {
    let lanes = S::lanes32();
    let mut sums = [[0.0.splat(); 2]; ROWS];
    for (left, right) in left.as_chunks::<ROWS>().0.iter().zip(right.chunks_exact(2 * lanes)) {
        let (low, high) = (load::<S>(right), load::<S>(&right[lanes..]));
        for (sum, &value) in sums.iter_mut().zip(left) {
            let value = value.splat();
            sum[0] = low.mul_add(value, sum[0]);
            sum[1] = high.mul_add(value, sum[1]);
        }
    }
    sums
}

/// Stores as much of two vectors as `out` has room for, or adds it to `out`.
#[inline(always)]
fn store_pair<S: Simd>(sum: &[Vector<S, f32>; 2], out: &mut [f32], add: bool) {
    let lanes = S::lanes32();
    if out.len() == 2 * lanes {
        for (&sum, out) in sum.iter().zip(out.chunks_exact_mut(lanes)) {
            store(if add { sum + load(out) } else { sum }, out);
        }
        return;
    }
    let values: &[f32] = cast_slice(sum);
    for (out, &value) in out.iter_mut().zip(values) {
        *out = if add { *out + value } else { value };
    }
}

/// `out[sample] = left · right[sample]` for every sample; `out` is `[samples, left rows, width]`.
pub fn product<C: Columns>(left: &Packed, right: &[C], width: usize, out: &mut [f32]) {
    let samples = right.len();
    let panels = left.rows.div_ceil(ROWS);
    // With few samples, threads share their rows; each share then packs the right-hand side again.
    let shares = if samples >= 4 { 1 } else { panels.min(4) };
    let share = panels.div_ceil(shares);
    let tasks: Vec<(usize, usize, &mut [f32])> = out
        .chunks_mut(left.rows * width)
        .enumerate()
        .flat_map(|(sample, out)| {
            out.chunks_mut(share * ROWS * width).enumerate().map(move |(k, out)| (sample, k * share, out))
        })
        .collect();
    tasks.into_par_iter().for_each(|(sample, first_panel, out)| {
        dispatch(Product { left, right: &right[sample], width, first_panel, out });
    });
}

/// Sums of left row × right row over samples and pixels: the weight gradient of a convolution. `out` is `[left_rows,
/// rows]`.
struct OuterSum<'a, C> {
    left: &'a [f32],
    left_rows: usize,
    right: &'a [C],
    rows: Range<usize>,
    pixels: usize,
    out: &'a mut [f32],
}

impl<C: Columns> WithSimd for OuterSum<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { left, left_rows, right, rows, pixels, out } = self;
        let width = rows.len();
        // Small samples are joined: otherwise the sums at the end of a block would cost as much as the block.
        let (step, samples) = (pixels.min(PIXELS), (PIXELS / pixels).max(1));
        // Right rows are copied even if they are contiguous: at distances of a power of two they evict each other from
        // the cache.
        let (mut lines, mut quad) = (vec![0.0; width * step * samples], vec![0.0; 4 * step * samples]);
        for (group, right) in right.chunks(samples).enumerate() {
            for first in (0..pixels).step_by(step) {
                let part = step.min(pixels - first);
                let count = part * right.len();
                for (row, line) in rows.clone().zip(lines.chunks_exact_mut(count)) {
                    for (sample, line) in right.iter().zip(line.chunks_exact_mut(part)) {
                        sample.fill(row, first, line);
                    }
                }
                let line = |c: usize| &lines[c * count..][..count];
                let left_row = |sample: usize, r: usize| {
                    &left[((group * samples + sample) * left_rows + r) * pixels + first..][..part]
                };
                let mut r = 0;
                while r < left_rows {
                    let four = left_rows - r >= 4;
                    if right.len() > 1 {
                        for (k, row) in quad.chunks_exact_mut(count).take(if four { 4 } else { 1 }).enumerate() {
                            for (sample, row) in row.chunks_exact_mut(part).enumerate() {
                                row.copy_from_slice(left_row(sample, r + k));
                            }
                        }
                    }
                    let strung = |k: usize| &quad[k * count..][..count];
                    let row = |k: usize| if right.len() > 1 { strung(k) } else { left_row(0, r + k) };
                    let out = &mut out[r * width..];
                    if four {
                        add_products::<S, 4>(std::array::from_fn(row), line, out, width);
                    } else {
                        add_products::<S, 1>([row(0)], line, out, width);
                    }
                    r += if four { 4 } else { 1 };
                }
            }
        }
    }
}

/// `out[l · width + c] += left[l] · line(c)` for every line.
#[inline(always)]
fn add_products<'a, S: Simd, const L: usize>(
    left: [&[f32]; L],
    line: impl Fn(usize) -> &'a [f32],
    out: &mut [f32],
    width: usize,
) {
    let mut c = 0;
    while c < width {
        if width - c >= 3 {
            add_dots::<S, L, 3>(left, std::array::from_fn(|k| line(c + k)), &mut out[c..], width);
            c += 3;
        } else {
            add_dots::<S, L, 1>(left, [line(c)], &mut out[c..], width);
            c += 1;
        }
    }
}

/// `out[l · pitch + r] += left[l] · right[r]`.
#[inline(always)]
fn add_dots<S: Simd, const L: usize, const R: usize>(
    left: [&[f32]; L],
    right: [&[f32]; R],
    out: &mut [f32],
    pitch: usize,
) {
    let lanes = S::lanes32();
    let whole = left[0].len() / lanes * lanes;
    let (left_heads, right_heads) = (left.map(|row| &row[..whole]), right.map(|row| &row[..whole]));
    let mut sums = [[0.0.splat::<S>(); R]; L];
    for k in (0..whole).step_by(lanes) {
        let right: [Vector<S, f32>; R] = std::array::from_fn(|r| load(&right_heads[r][k..k + lanes]));
        for (sums, left) in sums.iter_mut().zip(&left_heads) {
            let left = load::<S>(&left[k..k + lanes]);
            for (sum, &right) in sums.iter_mut().zip(&right) {
                *sum = left.mul_add(right, *sum);
            }
        }
    }
    for (l, sums) in sums.iter().enumerate() {
        for (r, sum) in sums.iter().enumerate() {
            let tail: f32 = left[l][whole..].iter().zip(&right[r][whole..]).map(|(a, b)| a * b).sum();
            out[l * pitch + r] += f32::reduce_add(*sum) + tail;
        }
    }
}

/// `[left_rows, right_rows]`: Σ over samples and pixels of left × right, `left` being `[samples, left_rows, pixels]`.
pub fn outer_sum<C: Columns>(
    left: &[f32],
    left_rows: usize,
    right: &[C],
    right_rows: usize,
    pixels: usize,
) -> Vec<f32> {
    // How rows are shared among threads changes no sum.
    let share = right_rows.div_ceil(2 * rayon::current_num_threads()).next_multiple_of(3);
    let parts: Vec<Vec<f32>> = (0..right_rows)
        .into_par_iter()
        .step_by(share)
        .map(|first| {
            let rows = first..right_rows.min(first + share);
            let mut out = vec![0.0; left_rows * rows.len()];
            dispatch(OuterSum { left, left_rows, right, rows, pixels, out: &mut out });
            out
        })
        .collect();
    let mut out = Vec::with_capacity(left_rows * right_rows);
    for row in 0..left_rows {
        for part in &parts {
            let width = part.len() / left_rows;
            out.extend_from_slice(&part[row * width..][..width]);
        }
    }
    out
}

/// `out[i] = Σ_k weights[k] · taps[k][i]`.
pub struct WeightedSum<'a, const N: usize> {
    /// Each at least as long as `out`.
    pub taps: [&'a [f32]; N],
    /// One factor per tap.
    pub weights: [f32; N],
    /// Any length.
    pub out: &'a mut [f32],
}

/// Multiple that lengths of scratch buffers are rounded up to: the widest vector of any processor.
pub const VECTOR: usize = 16;

impl<const N: usize> WithSimd for WeightedSum<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let lanes = S::lanes32();
        let taps = self.taps.map(|tap| &tap[..self.out.len()]);
        let weights = self.weights.map(|weight| weight.splat::<S>());
        let whole = self.out.len() / lanes * lanes;
        for (i, out) in self.out[whole..].iter_mut().enumerate() {
            *out = taps.iter().zip(&self.weights).map(|(tap, weight)| tap[whole + i] * weight).sum();
        }
        for (i, out) in self.out[..whole].chunks_exact_mut(lanes).enumerate() {
            let at = |k: usize| load::<S>(&taps[k][i * lanes..]);
            let mut sum = at(0) * weights[0];
            for (k, &weight) in weights.iter().enumerate().skip(1) {
                sum = at(k).mul_add(weight, sum);
            }
            store(sum, out);
        }
    }
}

/// `Σ_i grad[i] · taps[k][i]` for each tap. The sums of up to nine taps fit into registers.
pub struct Dots<'a, const N: usize> {
    /// Each at least as long as `grad`.
    pub taps: [&'a [f32]; N],
    /// Its length is a multiple of [`VECTOR`].
    pub grad: &'a [f32],
}

impl<const N: usize> WithSimd for Dots<'_, N> {
    type Output = [f32; N];

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> [f32; N] {
        let lanes = S::lanes32();
        let taps = self.taps.map(|tap| &tap[..self.grad.len()]);
        let mut sums = [0.0.splat::<S>(); N];
        for (i, grad) in self.grad.chunks_exact(lanes).enumerate() {
            let grad = load::<S>(grad);
            for (sum, tap) in sums.iter_mut().zip(&taps) {
                *sum = load::<S>(&tap[i * lanes..]).mul_add(grad, *sum);
            }
        }
        sums.map(f32::reduce_add)
    }
}
