use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::Rows;
use crate::distance::dot;

/// Largest number of sampled rows: 256 give 32,640 pairs, whose mean is far more stable than the margin to the limit.
const SAMPLE: usize = 256;

/// Mean cosine above which embeddings count as collapsed; see [`spread`](fn@spread).
const COLLAPSED: f64 = 0.99;

/// How far apart embeddings are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// Mean cosine similarity of the sampled pairs, -1 to 1; 0 without pairs.
    pub mean_similarity: f64,
    /// Smallest cosine similarity of the sampled pairs, -1 to 1; 0 without pairs.
    pub min_similarity: f64,
    /// Number of sampled pairs.
    pub pairs: usize,
    /// Whether the embeddings are nearly identical.
    pub collapsed: bool,
}

impl Spread {
    /// A warning if the embeddings have collapsed, else `None`.
    pub fn warning(&self) -> Option<String> {
        let Self { mean_similarity, pairs, collapsed, .. } = self;
        collapsed.then(|| {
            format!(
                "the embeddings are nearly identical (mean cosine {mean_similarity:.4} over {pairs} pairs of \
                 pictures): \
                 the network is untrained or its outputs have collapsed, and its ranking means little"
            )
        })
    }
}

/// Checks whether embeddings are nearly identical, as those of an untrained or collapsed network are.
///
/// Compares all pairs of up to 256 rows, evenly spaced over the matrix: this involves no randomness, and in a gallery
/// sorted by identity few pairs show the same person. Rows need not be of unit length. A row that is zero or not finite
/// says nothing about its picture, so it counts as identical to all others.
///
/// `collapsed` means a mean cosine above 0.99: the typical angle between two pictures, of any persons, is then below 8
/// degrees. Random filters with global pooling mostly return the picture's mean, so freshly initialised networks tend
/// to be in this range. A metric loss that works at all pushes other identities far below it, because its margins on
/// the cosine are tens of times wider than the remaining 0.01. Fewer than two rows are never collapsed.
pub fn spread<'a>(embeddings: impl Into<Rows<'a>>) -> Spread {
    let embeddings = embeddings.into();
    let rows = embeddings.rows();
    let count = rows.min(SAMPLE);
    let sample: Vec<Vec<f32>> = (0..count).map(|i| unit(embeddings.row(i * rows / count))).collect();
    let similarity = |a: &[f32], b: &[f32]| {
        if a.is_empty() || b.is_empty() { 1.0 } else { f64::from(dot(a, b)).clamp(-1.0, 1.0) }
    };
    let per_row: Vec<(f64, f64)> = (0..count)
        .into_par_iter()
        .map(|i| {
            let each = sample[i + 1..].iter().map(|other| similarity(&sample[i], other));
            each.fold((0.0, f64::INFINITY), |(sum, min), value| (sum + value, min.min(value)))
        })
        .collect();
    let pairs = count * count.saturating_sub(1) / 2;
    if pairs == 0 {
        return Spread { mean_similarity: 0.0, min_similarity: 0.0, pairs, collapsed: false };
    }
    let mean_similarity = per_row.iter().map(|(sum, _)| sum).sum::<f64>() / pairs as f64;
    let min_similarity = per_row.iter().map(|(_, min)| *min).fold(f64::INFINITY, f64::min);
    Spread { mean_similarity, min_similarity, pairs, collapsed: mean_similarity > COLLAPSED }
}

/// The row at unit length; empty if it has no direction.
fn unit(row: &[f32]) -> Vec<f32> {
    let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length.is_finite() && length > 0.0 {
        row.iter().map(|x| (f64::from(*x) / length) as f32).collect()
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;

    #[test]
    fn right_angles_are_spread_and_copies_are_not() {
        let corners = Matrix::new(vec![1.0, 0.0, 0.0, 2.0, -3.0, 0.0], 3, 2).unwrap();
        let got = spread(&corners); // pairs 0, -1, 0
        assert_eq!(got.pairs, 3);
        assert!((got.mean_similarity + 1.0 / 3.0).abs() < 1e-7 && got.min_similarity == -1.0);
        assert_eq!((got.collapsed, got.warning()), (false, None));
        let copies = Matrix::new([0.6, 0.8].repeat(1000), 1000, 2).unwrap();
        let got = spread(&copies);
        assert_eq!((got.pairs, got.collapsed), (32_640, true));
        assert!(got.warning().unwrap().contains("mean cosine 1.0000 over 32640 pairs"));
        assert!((got.mean_similarity - 1.0).abs() < 1e-6);
    }

    #[test]
    fn dead_rows_count_as_identical() {
        let dead = Matrix::new(vec![0.0, 0.0, f32::NAN, 1.0, 0.0, 0.0], 3, 2).unwrap();
        assert!(spread(&dead).collapsed);
    }

    #[test]
    fn one_row_or_none_is_no_evidence() {
        for rows in 0..2 {
            let got = spread(&Matrix::new(vec![1.0; rows * 4], rows, 4).unwrap());
            assert_eq!((got.pairs, got.collapsed, got.mean_similarity), (0, false, 0.0));
        }
    }
}
