//! Loops over slices that the own operations are made of. Every result is summed in an order that shapes alone decide, so it
//! has the same bits whatever the number of threads.

use bytemuck::{bytes_of, cast_slice, cast_slice_mut, pod_read_unaligned};
use macerator::{AutoArch, ReduceAdd, Scalar, Simd, Vector, WithSimd};
use rayon::prelude::*;

/// Runs `operation` compiled for the widest vectors of this processor.
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

/// Rows of an output tile held in registers.
const ROWS: usize = 6;
/// Inner dimension of a block: with it two panels of a tile stay in the first cache.
const DEPTH: usize = 256;
/// Columns packed at a time: with [`DEPTH`] rows they stay in the second cache.
const COLUMNS: usize = 128;
/// Pixels of a block of [`outer_sum`].
const PIXELS: usize = 512;

/// The right-hand matrix of a product, given by its rows' parts. For a convolution, rows are kernel taps and columns pixels.
pub trait Columns: Sync {
    /// Writes row `row` from column `first` on into `out`.
    fn fill(&self, row: usize, first: usize, out: &mut [f32]);
}

/// A left-hand matrix, packed for [`product`]: by blocks of [`DEPTH`] columns, within them by panels of [`ROWS`] rows.
pub struct Packed {
    values: Vec<f32>,
    rows: usize,
    depth: usize,
}

impl Packed {
    /// Packs the `rows`×`depth` matrix whose element at (row, k) is `at(row, k)`.
    pub fn new(rows: usize, depth: usize, at: impl Fn(usize, usize) -> f32) -> Self {
        let panels = rows.div_ceil(ROWS);
        let mut values = Vec::with_capacity(panels * ROWS * depth);
        for start in (0..depth).step_by(DEPTH) {
            for panel in 0..panels {
                for k in start..depth.min(start + DEPTH) {
                    values.extend((0..ROWS).map(|r| {
                        let row = panel * ROWS + r;
                        if row < rows { at(row, k) } else { 0.0 }
                    }));
                }
            }
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

/// `out[rows, width] = left · right`, for the panels of rows from `first_panel` on that `out` has room for.
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
                    right.fill(start + k, first, &mut line[..columns]);
                    for (t, part) in line.chunks_exact(tile).take(tiles).enumerate() {
                        let at = (t * depth + k) * tile;
                        packed[at..at + tile].copy_from_slice(part);
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

/// Stores as much of two vectors as `out` has room for, or adds it.
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
    // Few samples: their rows are shared out, at the price of packing the right-hand side once per share.
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

/// Sums over samples and pixels of left row × right row: what a convolution's weight gradient is.
struct OuterSum<'a, C> {
    left: &'a [f32],
    left_rows: usize,
    rows: std::ops::Range<usize>,
    right: &'a [Rows<'a, C>],
    right_rows: usize,
    pixels: usize,
    out: &'a mut [f32],
}

/// The right-hand rows of [`outer_sum`], one sample.
pub enum Rows<'a, C> {
    /// They lie in memory as they are, one after the other.
    Plain(&'a [f32]),
    /// They are made when needed.
    Made(C),
}

impl<C: Columns> WithSimd for OuterSum<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { left, left_rows, rows, right, right_rows, pixels, out } = self;
        let mut made = Vec::new();
        for (sample, right) in right.iter().enumerate() {
            for first in (0..pixels).step_by(PIXELS) {
                let count = PIXELS.min(pixels - first);
                let (right, pitch) = match right {
                    Rows::Plain(values) => (&values[first..], pixels),
                    Rows::Made(columns) => {
                        made.resize(right_rows * count, 0.0);
                        for (row, out) in made.chunks_exact_mut(count).enumerate() {
                            columns.fill(row, first, out);
                        }
                        (&made[..], count)
                    }
                };
                let left = &left[(sample * left_rows + rows.start) * pixels + first..];
                let left_row = |r: usize| &left[r * pixels..][..count];
                let right_row = |c: usize| &right[c * pitch..][..count];
                let mut r = 0;
                while r < rows.len() {
                    let four = rows.len() - r >= 4;
                    let mut c = 0;
                    while c < right_rows {
                        let three = right_rows - c >= 3;
                        let at = r * right_rows + c;
                        match (four, three) {
                            (true, true) => add_dots::<S, 4, 3>(
                                std::array::from_fn(|k| left_row(r + k)),
                                std::array::from_fn(|k| right_row(c + k)),
                                &mut out[at..],
                                right_rows,
                            ),
                            (true, false) => add_dots::<S, 4, 1>(
                                std::array::from_fn(|k| left_row(r + k)),
                                [right_row(c)],
                                &mut out[at..],
                                right_rows,
                            ),
                            (false, true) => add_dots::<S, 1, 3>(
                                [left_row(r)],
                                std::array::from_fn(|k| right_row(c + k)),
                                &mut out[at..],
                                right_rows,
                            ),
                            (false, false) => {
                                add_dots::<S, 1, 1>([left_row(r)], [right_row(c)], &mut out[at..], right_rows);
                            }
                        }
                        c += if three { 3 } else { 1 };
                    }
                    r += if four { 4 } else { 1 };
                }
            }
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

/// `out[left_rows, right_rows] = Σ over samples and pixels of left × right`, `left` being `[samples, left_rows, pixels]`.
pub fn outer_sum<C: Columns>(left: &[f32], right: &[Rows<'_, C>], right_rows: usize, pixels: usize, out: &mut [f32]) {
    let left_rows = out.len() / right_rows;
    // A multiple of the four rows of a tile, and enough shares for a few threads.
    let share = left_rows.div_ceil(8).next_multiple_of(4).max(4);
    out.par_chunks_mut(share * right_rows).enumerate().for_each(|(k, out)| {
        let rows = k * share..(k * share + out.len() / right_rows);
        dispatch(OuterSum { left, left_rows, rows, right, right_rows, pixels, out });
    });
}

/// `out[i] = Σ_k weights[k] · taps[k][i]`.
pub struct WeightedSum<'a, const N: usize> {
    /// As long as `out` or longer.
    pub taps: [&'a [f32]; N],
    /// One factor per tap.
    pub weights: [f32; N],
    /// A multiple of [`VECTOR`] long.
    pub out: &'a mut [f32],
}

/// What the lengths of scratch buffers are rounded up to: the widest vector there is.
pub const VECTOR: usize = 16;

impl<const N: usize> WithSimd for WeightedSum<'_, N> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let lanes = S::lanes32();
        let taps = self.taps.map(|tap| &tap[..self.out.len()]);
        let weights = self.weights.map(|weight| weight.splat::<S>());
        for (i, out) in self.out.chunks_exact_mut(lanes).enumerate() {
            let at = |k: usize| load::<S>(&taps[k][i * lanes..]);
            let mut sum = at(0) * weights[0];
            for k in 1..N {
                sum = at(k).mul_add(weights[k], sum);
            }
            store(sum, out);
        }
    }
}

/// `Σ_i grad[i] · taps[k][i]` for each of nine taps.
pub struct NineDots<'a> {
    /// As long as `grad` or longer.
    pub taps: [&'a [f32]; 9],
    /// A multiple of [`VECTOR`] long.
    pub grad: &'a [f32],
}

impl WithSimd for NineDots<'_> {
    type Output = [f32; 9];

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> [f32; 9] {
        let lanes = S::lanes32();
        let taps = self.taps.map(|tap| &tap[..self.grad.len()]);
        let mut sums = [0.0.splat::<S>(); 9];
        for (i, grad) in self.grad.chunks_exact(lanes).enumerate() {
            let grad = load::<S>(grad);
            for (sum, tap) in sums.iter_mut().zip(&taps) {
                *sum = load::<S>(&tap[i * lanes..]).mul_add(grad, *sum);
            }
        }
        sums.map(f32::reduce_add)
    }
}
