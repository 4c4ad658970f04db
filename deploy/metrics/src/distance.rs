use std::ops::Range;

use rayon::prelude::*;

use crate::{Matrix, MetricsError, Rows};

/// Rows of each side per block: at 4096 f32 values, 32 rows are 512 KiB, about one L2 cache.
pub(crate) const BLOCK: usize = 32;

/// Cosine distance `1 - q.g` of every query to every gallery row.
///
/// # Shapes
/// - `query`: `[queries, embed_dim]`, rows of unit length (not checked: other lengths scale the result)
/// - `gallery`: `[gallery, embed_dim]`, rows of unit length
/// - returns: `[queries, gallery]`, 0 to 2; the same bits with any number of threads
///
/// # Errors
/// Different `embed_dim`, or a value that is not finite.
pub fn cosine_distance<'a>(query: impl Into<Rows<'a>>, gallery: impl Into<Rows<'a>>) -> Result<Matrix, MetricsError> {
    let (query, gallery) = (query.into(), gallery.into());
    check_comparable(query, gallery)?;
    let width = gallery.rows();
    let mut out = vec![0.0_f32; query.rows() * width];
    if width > 0 {
        out.par_chunks_mut(BLOCK * width).enumerate().for_each(|(block, out)| {
            let first = block * BLOCK;
            products(query.slice(first..first + out.len() / width), gallery, out);
            out.iter_mut().for_each(|value| *value = 1.0 - *value);
        });
    }
    Matrix::new(out, query.rows(), width)
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
            let got = cosine_distance(&q, &g).unwrap();
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
        let all = cosine_distance(&q, &g).unwrap();
        for (i, j) in [(0, 0), (39, 70), (33, 35), (17, 66)] {
            let one = Matrix::new(q.row(i).to_vec(), 1, 67).unwrap();
            let other = Matrix::new(g.row(j).to_vec(), 1, 67).unwrap();
            assert_eq!(cosine_distance(&one, &other).unwrap().data(), [all.row(i)[j]]);
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
