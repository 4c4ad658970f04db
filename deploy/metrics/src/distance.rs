use std::ops::Range;

use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2};
use rayon::prelude::*;

use crate::{Matrix, MetricsError, Rows};

/// Rows of each side per block: at 4096 f32 values, 32 rows are 512 KiB, about one L2 cache.
pub(crate) const BLOCK: usize = 32;

/// Distances of queries to a gallery. They are computed when they are read, because the matrix of all of them may not
/// fit into memory.
pub trait Distances: Sync {
    /// Number of queries.
    fn queries(&self) -> usize;

    /// Number of gallery rows.
    fn gallery(&self) -> usize;

    /// Calls `see` with each query and its distances to all gallery rows, on all threads; returns its answers in the
    /// order of the queries. The distances are the same with any number of threads.
    fn each<T: Send>(&self, see: impl Fn(usize, &[f32]) -> T + Sync) -> Vec<T>;

    /// All distances at once, `[queries, gallery]`: for few of them.
    fn matrix(&self) -> Matrix {
        let rows = self.each(|_, row| row.to_vec());
        let whole = Matrix::new(rows.concat(), self.queries(), self.gallery());
        whole.unwrap_or_else(|_| unreachable!("a distance for each entry"))
    }
}

impl Distances for Matrix {
    fn queries(&self) -> usize {
        self.rows()
    }

    fn gallery(&self) -> usize {
        self.cols()
    }

    fn each<T: Send>(&self, see: impl Fn(usize, &[f32]) -> T + Sync) -> Vec<T> {
        (0..self.rows()).into_par_iter().map(|query| see(query, self.row(query))).collect()
    }
}

/// Cosine distances; see [`cosine_distance`].
#[derive(Debug, Clone, Copy)]
pub struct CosineDistance<'a> {
    query: Rows<'a>,
    gallery: Rows<'a>,
}

/// Cosine distance `1 - q.g` of every query to every gallery row, 0 to 2; the same bits on every processor.
///
/// # Shapes
/// - `query`: `[queries, embed_dim]`, rows of unit length (not checked: other lengths scale the result)
/// - `gallery`: `[gallery, embed_dim]`, rows of unit length
///
/// # Errors
/// Different `embed_dim`, or a value that is not finite.
pub fn cosine_distance<'a>(
    query: impl Into<Rows<'a>>,
    gallery: impl Into<Rows<'a>>,
) -> Result<CosineDistance<'a>, MetricsError> {
    let (query, gallery) = (query.into(), gallery.into());
    check_comparable(query, gallery)?;
    Ok(CosineDistance { query, gallery })
}

impl Distances for CosineDistance<'_> {
    fn queries(&self) -> usize {
        self.query.rows()
    }

    fn gallery(&self) -> usize {
        self.gallery.rows()
    }

    fn each<T: Send>(&self, see: impl Fn(usize, &[f32]) -> T + Sync) -> Vec<T> {
        let width = self.gallery.rows();
        let block = |block: usize| {
            let first = block * BLOCK;
            let query = self.query.slice(first..self.query.rows().min(first + BLOCK));
            let mut rows = vec![0.0_f32; query.rows() * width];
            products(query, self.gallery, &mut rows);
            rows.iter_mut().for_each(|value| *value = 1.0 - *value);
            (0..query.rows()).map(|at| see(first + at, &rows[at * width..(at + 1) * width])).collect()
        };
        let blocks: Vec<Vec<T>> = (0..self.query.rows().div_ceil(BLOCK)).into_par_iter().map(block).collect();
        blocks.into_iter().flatten().collect()
    }
}

/// Fails unless rows of both sides have the same length and only finite values.
pub(crate) fn check_comparable(query: Rows<'_>, gallery: Rows<'_>) -> Result<(), MetricsError> {
    if query.cols() != gallery.cols() {
        return Err(MetricsError::Dimension { query: query.cols(), gallery: gallery.cols() });
    }
    query.check_finite("query embeddings")?;
    gallery.check_finite("gallery embeddings")
}

/// Dot products of every row of `left` with every row of `right`, each with the bits of [`dot`].
///
/// # Shapes
/// - `left`: `[left, cols]`, `right`: `[right, cols]`
/// - `out`: `[left, right]`, row-major, overwritten
///
/// # Panics
/// If the shapes do not fit each other.
pub fn products(left: Rows<'_>, right: Rows<'_>, out: &mut [f32]) {
    let width = right.rows();
    assert!(left.cols() == right.cols() && out.len() == left.rows() * width, "shapes of a product");
    for start in (0..width).step_by(BLOCK) {
        let end = (start + BLOCK).min(width);
        for (pair, rows) in out.chunks_mut(2 * width).enumerate() {
            let at = 2 * pair;
            match rows.split_at_mut(width) {
                (one, []) => strip([left.row(at)], right, start..end, [one]),
                (one, two) => strip([left.row(at), left.row(at + 1)], right, start..end, [one, two]),
            }
        }
    }
}

/// Dot products of every row of `left` with every row of `right`, several times as fast as [`products`]. How they are
/// rounded depends on the processor, but not on the other rows or on which side a row is.
///
/// # Panics
/// If the shapes do not fit each other; see [`products`].
pub(crate) fn fast_products(left: Rows<'_>, right: Rows<'_>, out: &mut [f32]) {
    const WHOLE: &str = "whole rows";
    fn view(rows: Rows<'_>) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape((rows.rows(), rows.cols()), rows.data()).expect(WHOLE)
    }
    let mut out = ArrayViewMut2::from_shape((left.rows(), right.rows()), out).expect(WHOLE);
    general_mat_mul(1.0, &view(left), &view(right).t(), 0.0, &mut out);
}

/// Fills `cols` of the `M` rows `out`, four columns at a time, so that each loaded value serves several products.
fn strip<const M: usize>(a: [&[f32]; M], right: Rows<'_>, cols: Range<usize>, mut out: [&mut [f32]; M]) {
    let mut col = cols.start;
    while col < cols.end {
        let step = if col + 4 <= cols.end { 4 } else { 1 };
        if step == 4 {
            let products = tile(a, [0, 1, 2, 3].map(|k| right.row(col + k)));
            (0..M).for_each(|m| out[m][col..col + 4].copy_from_slice(&products[m]));
        } else {
            let products = tile(a, [right.row(col)]);
            (0..M).for_each(|m| out[m][col] = products[m][0]);
        }
        col += step;
    }
}

/// Dot product of two rows of equal length: the cosine similarity of rows of unit length.
///
/// The whole workspace uses this function. A similarity that is printed, one that is compared with a threshold and one
/// that a threshold was calibrated on are therefore equal bit for bit, whether the pair was computed alone or in a
/// block.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    tile([a], [b])[0][0]
}

/// Dot products of `M` rows with `N` rows of the same length. Each product is summed in four lanes, then across them,
/// then over the tail; this order, and so the bits, never depend on other rows.
fn tile<const M: usize, const N: usize>(a: [&[f32]; M], b: [&[f32]; N]) -> [[f32; N]; M] {
    let (a, b) = (a.map(|row| row.as_chunks::<4>()), b.map(|row| row.as_chunks::<4>()));
    let chunks = a[0].0.len();
    // Slices of one known length move the bounds checks out of the loop.
    let (left, right) = (a.map(|row| &row.0[..chunks]), b.map(|row| &row.0[..chunks]));
    let mut sums = [[[0.0_f32; 4]; N]; M];
    for i in 0..chunks {
        let y: [[f32; 4]; N] = std::array::from_fn(|n| right[n][i]);
        for (sums, row) in sums.iter_mut().zip(&left) {
            let x = row[i];
            for (sum, y) in sums.iter_mut().zip(&y) {
                *sum = [sum[0] + x[0] * y[0], sum[1] + x[1] * y[1], sum[2] + x[2] * y[2], sum[3] + x[3] * y[3]];
            }
        }
    }
    std::array::from_fn(|m| {
        std::array::from_fn(|n| {
            let [s0, s1, s2, s3] = sums[m][n];
            let tail: f32 = a[m].1.iter().zip(b[n].1).map(|(x, y)| x * y).sum();
            (s0 + s2) + (s1 + s3) + tail
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(rows: usize, cols: usize, phase: f32) -> Matrix {
        let data = (0..rows * cols).map(|i| (i as f32 * 0.7 + phase).sin()).collect();
        Matrix::new(data, rows, cols).unwrap()
    }

    #[test]
    fn blocks_and_tails_equal_the_plain_sum() {
        for (rows, gallery, cols) in [(1, 1, 1), (3, 5, 7), (33, 70, 19), (40, 64, 8), (2, 6, 0)] {
            let (q, g) = (wave(rows, cols, 0.0), wave(gallery, cols, 1.0));
            let got = cosine_distance(&q, &g).unwrap().matrix();
            for i in 0..rows {
                for j in 0..gallery {
                    let want = 1.0 - q.row(i).iter().zip(g.row(j)).map(|(a, b)| f64::from(a * b)).sum::<f64>();
                    assert!((f64::from(got.row(i)[j]) - want).abs() < 1e-4, "{rows}x{gallery}x{cols} at {i},{j}");
                }
            }
        }
    }

    #[test]
    fn a_pair_has_the_same_bits_wherever_it_stands() {
        let (q, g) = (wave(40, 67, 0.0), wave(71, 67, 1.0));
        let all = cosine_distance(&q, &g).unwrap().matrix();
        for (i, j) in [(0, 0), (39, 70), (33, 35), (17, 66)] {
            let one = Matrix::new(q.row(i).to_vec(), 1, 67).unwrap();
            let other = Matrix::new(g.row(j).to_vec(), 1, 67).unwrap();
            assert_eq!(cosine_distance(&one, &other).unwrap().matrix().data(), [all.row(i)[j]]);
        }
    }

    #[test]
    fn unequal_lengths_and_nan_are_errors() {
        let error = cosine_distance(&wave(1, 3, 0.0), &wave(1, 4, 0.0)).unwrap_err();
        assert_eq!(error.to_string(), "query embeddings have 3 values, gallery embeddings 4");
        let gallery = Matrix::new(vec![0.0, 1.0, f32::NAN, 1.0], 2, 2).unwrap();
        let error = cosine_distance(&wave(1, 2, 0.0), &gallery).unwrap_err();
        assert_eq!(error.to_string(), "gallery embeddings row 1, column 0 is NaN; only finite values can be ranked");
    }
}
