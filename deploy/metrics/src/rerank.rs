//! k-reciprocal re-ranking, Zhong et al. 2017 (arXiv:1701.08398).

use std::cmp::Ordering;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::distance::{BLOCK, check_comparable, dot, products};
use crate::{Matrix, MetricsError, Rows};

/// Largest deviation from unit length: enough for half-precision embeddings, not for raw features.
const UNIT_TOLERANCE: f32 = 1e-2;

/// If all neighbours of a row are within rounding, they have no order, and its distances count as 0.
const ROUNDING: f32 = 1e-6;

/// Parameters of [`rerank`](fn@rerank); the defaults are the paper's.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rerank {
    /// Number of nearest neighbours that may be reciprocal, at least 1.
    pub k1: usize,
    /// Number of neighbours whose encodings are averaged: 1 (only the row itself) to `k1 + 1`.
    pub k2: usize,
    /// Weight of the original distance, 0 to 1; 1 keeps the order.
    pub lambda: f64,
}

impl Default for Rerank {
    fn default() -> Self {
        Self { k1: 20, k2: 6, lambda: 0.3 }
    }
}

impl Rerank {
    fn check(&self) -> Result<(), MetricsError> {
        let fail = |name, found, allowed| Err(MetricsError::Parameter { name, found, allowed });
        if self.k1 == 0 {
            return fail("k1", self.k1.to_string(), "1 or more");
        }
        if self.k2 == 0 || self.k2 - 1 > self.k1 {
            return fail("k2", self.k2.to_string(), "1 to k1 + 1");
        }
        if !(0.0..=1.0).contains(&self.lambda) {
            return fail("lambda", self.lambda.to_string(), "0 to 1");
        }
        Ok(())
    }
}

/// k-reciprocal re-ranking of a gallery, query by query. The distance of a query to a gallery row is `(1 - lambda) *
/// Jaccard + lambda * D`. `D` is the squared Euclidean distance divided by the largest one in the query's row. Jaccard
/// compares the two rows' k-reciprocal neighbourhoods in the union of queries and gallery.
///
/// Memory grows with `(queries + gallery) * (embed_dim + k1)`: neither the square matrix of all distances nor the
/// result is stored. Time grows with the square of `queries + gallery`.
pub struct Reranking<'a> {
    query: Rows<'a>,
    gallery: Rows<'a>,
    /// Of the queries, followed by the gallery.
    neighbours: Vec<Neighbours>,
    encodings: Vec<Encoding>,
    holders: Vec<Encoding>,
    lambda: f32,
}

impl<'a> Reranking<'a> {
    /// Finds the neighbours of all rows.
    ///
    /// # Shapes
    /// - `query`: `[queries, embed_dim]`, rows of unit length or zero
    /// - `gallery`: `[gallery, embed_dim]`, rows of unit length or zero
    ///
    /// # Errors
    /// Different `embed_dim`, a value that is not finite, a row whose length is neither 1 nor 0, a parameter out of
    /// range.
    pub fn new(
        query: impl Into<Rows<'a>>,
        gallery: impl Into<Rows<'a>>,
        params: &Rerank,
    ) -> Result<Self, MetricsError> {
        params.check()?;
        let (query, gallery) = (query.into(), gallery.into());
        check_comparable(query, gallery)?;
        check_unit(query, "query embeddings")?;
        check_unit(gallery, "gallery embeddings")?;
        let queries = query.rows();
        let everyone = Matrix::new([query.data(), gallery.data()].concat(), queries + gallery.rows(), query.cols())?;
        let everyone = everyone.view();
        let neighbours = neighbours(everyone, params.k1);
        let encodings = expand_query(encode(everyone, &neighbours, params.k1), &neighbours, params.k2);
        let holders = invert(&encodings, queries);
        Ok(Self { query, gallery, neighbours, encodings, holders, lambda: params.lambda as f32 })
    }

    /// Distances of query `i` to every gallery row, 0 to 1 up to rounding; the same bits with any number of threads.
    ///
    /// # Panics
    /// If there is no such query.
    pub fn distances(&self, i: usize) -> Vec<f32> {
        assert!(i < self.query.rows(), "query {i} of {}", self.query.rows());
        let mut shared = vec![0.0_f32; self.gallery.rows()];
        for &(member, weight) in &self.encodings[i] {
            for &(j, other) in &self.holders[member as usize] {
                shared[j as usize] += weight.min(other);
            }
        }
        let mut row = vec![0.0_f32; self.gallery.rows()];
        products(self.query.slice(i..i + 1), self.gallery, &mut row);
        for (value, shared) in row.iter_mut().zip(shared) {
            let jaccard = 1.0 - shared / (2.0 - shared);
            *value = (1.0 - self.lambda) * jaccard + self.lambda * self.neighbours[i].distance(*value);
        }
        row
    }
}

/// The distances of all queries, as a matrix `[queries, gallery]`; see [`Reranking`].
///
/// # Errors
/// As [`Reranking::new`].
pub fn rerank<'a>(
    query: impl Into<Rows<'a>>,
    gallery: impl Into<Rows<'a>>,
    params: &Rerank,
) -> Result<Matrix, MetricsError> {
    let reranking = Reranking::new(query, gallery, params)?;
    let (queries, entries) = (reranking.query.rows(), reranking.gallery.rows());
    let mut out = vec![0.0_f32; queries * entries];
    if entries > 0 {
        let rows = out.par_chunks_mut(entries).enumerate();
        rows.for_each(|(i, row)| row.copy_from_slice(&reranking.distances(i)));
    }
    Matrix::new(out, queries, entries)
}

fn check_unit(matrix: Rows<'_>, what: &'static str) -> Result<(), MetricsError> {
    for row in 0..matrix.rows() {
        let square = dot(matrix.row(row), matrix.row(row));
        let length = square.sqrt();
        // A picture without features has a row of zeros: at distance 2 from every row, it is nobody's neighbour.
        if length != 0.0 && (length - 1.0).abs() > UNIT_TOLERANCE {
            return Err(MetricsError::NotUnit { what, row, length });
        }
    }
    Ok(())
}

/// The nearest rows of one row, and the divisor of its distances.
struct Neighbours {
    /// Nearest first, equal distances by index; `k1 + 1` rows, or all if there are fewer.
    nearest: Vec<u32>,
    largest: f32,
}

impl Neighbours {
    /// Normalised squared distance for a dot product.
    fn distance(&self, product: f32) -> f32 {
        if self.largest > ROUNDING { (2.0 - 2.0 * product) / self.largest } else { 0.0 }
    }

    /// The `k` nearest rows and the row itself, which is normally first.
    fn within(&self, k: usize) -> &[u32] {
        &self.nearest[..self.nearest.len().min(k + 1)]
    }
}

fn neighbours(everyone: Rows<'_>, k1: usize) -> Vec<Neighbours> {
    let rows = everyone.rows();
    let keep = rows.min(k1 + 1);
    let blocks: Vec<Vec<Neighbours>> = (0..rows.div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let first = block * BLOCK;
            let last = rows.min(first + BLOCK);
            let mut similarities = vec![0.0_f32; (last - first) * rows];
            products(everyone.slice(first..last), everyone, &mut similarities);
            let rank = |row: &[f32]| {
                let largest = row.iter().fold(f32::MIN, |largest, product| largest.max(2.0 - 2.0 * product));
                // Ascending distance is descending dot product.
                let closer = |a: &u32, b: &u32| {
                    row[*b as usize].partial_cmp(&row[*a as usize]).unwrap_or(Ordering::Equal).then(a.cmp(b))
                };
                let mut nearest: Vec<u32> = (0..rows as u32).collect();
                if keep < rows {
                    nearest.select_nth_unstable_by(keep, closer);
                    nearest.truncate(keep);
                    nearest.shrink_to_fit();
                }
                nearest.sort_unstable_by(closer);
                Neighbours { nearest, largest }
            };
            similarities.chunks(rows).map(rank).collect()
        })
        .collect();
    blocks.into_iter().flatten().collect()
}

/// Rows that are among the `k` nearest of `i` and have `i` among their own `k` nearest.
fn reciprocal(neighbours: &[Neighbours], i: usize, k: usize) -> Vec<u32> {
    let mutual = |&&j: &&u32| neighbours[j as usize].within(k).contains(&(i as u32));
    neighbours[i].within(k).iter().filter(mutual).copied().collect()
}

/// A sparse row of `V`: ascending members, weights with sum 1.
type Encoding = Vec<(u32, f32)>;

fn encode(everyone: Rows<'_>, neighbours: &[Neighbours], k1: usize) -> Vec<Encoding> {
    // Half to even, as in the reference's `np.around`.
    let half = (k1 as f64 / 2.0).round_ties_even() as usize;
    let close: Vec<Vec<u32>> = (0..everyone.rows()).into_par_iter().map(|i| reciprocal(neighbours, i, half)).collect();
    let encode = |i: usize| {
        let core = reciprocal(neighbours, i, k1);
        let mut members = core.clone();
        for &candidate in &core {
            let theirs = &close[candidate as usize];
            let common = theirs.iter().filter(|j| core.contains(j)).count();
            // More than two thirds, in integers because 2/3 is not exact in floating point.
            if 3 * common > 2 * theirs.len() {
                members.extend(theirs);
            }
        }
        members.sort_unstable();
        members.dedup();
        let weight = |j: u32| {
            let product = dot(everyone.row(i), everyone.row(j as usize));
            (-neighbours[i].distance(product)).exp()
        };
        let weights: Encoding = members.into_iter().map(|j| (j, weight(j))).collect();
        let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
        weights.into_iter().map(|(j, weight)| (j, weight / total)).collect()
    };
    (0..everyone.rows()).into_par_iter().map(encode).collect()
}

/// Local query expansion: each row becomes the mean over its `k2` nearest rows.
fn expand_query(encodings: Vec<Encoding>, neighbours: &[Neighbours], k2: usize) -> Vec<Encoding> {
    if k2 == 1 {
        return encodings;
    }
    let expand = |row: &Neighbours| {
        let nearest = row.within(k2 - 1);
        let mut all: Encoding = nearest.iter().flat_map(|&j| &encodings[j as usize]).copied().collect();
        // A stable sort, so that equal members are added nearest neighbour first.
        all.sort_by_key(|&(member, _)| member);
        let mut mean: Encoding = Vec::with_capacity(all.len());
        for (member, weight) in all {
            match mean.last_mut() {
                Some((last, sum)) if *last == member => *sum += weight,
                _ => mean.push((member, weight)),
            }
        }
        mean.iter_mut().for_each(|(_, sum)| *sum /= nearest.len() as f32);
        mean.shrink_to_fit();
        mean
    };
    neighbours.par_iter().map(expand).collect()
}

/// For each member, the gallery rows that contain it: `(gallery index, weight)`, ascending.
fn invert(encodings: &[Encoding], queries: usize) -> Vec<Encoding> {
    let mut holders: Vec<Encoding> = vec![Vec::new(); encodings.len()];
    for (j, encoding) in encodings[queries..].iter().enumerate() {
        for &(member, weight) in encoding {
            holders[member as usize].push((j as u32, weight));
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(degrees: &[f32]) -> Matrix {
        let data = degrees.iter().flat_map(|d| [d.to_radians().cos(), d.to_radians().sin()]).collect();
        Matrix::new(data, degrees.len(), 2).unwrap()
    }

    /// Worked by hand with k1 = k2 = 1. Rows: query 0°, gallery 10° and 90°. Nearest two: {0,10}, {10,0}, {90,10}.
    /// Reciprocal: 0° and 10° hold each other, 90° only itself (10° does not return it); round(1/2) = 0 adds nothing.
    /// D0(0°,10°) = 2 - 2 cos 10° = 0.030384, D0(0°,90°) = 2, D0(10°,90°) = 1.652704.
    /// V(0°) = [1, e^-0.015192] / 1.984923 = [0.503798, 0.496202]; V(10°) = [e^-0.018385, 1] / 1.981783
    /// = [0.495404, 0.504596]; shared 0.495404 + 0.496202 = 0.991606; Jaccard 1 - 0.991606 / 1.008394 = 0.016648.
    #[test]
    fn three_rows_by_hand() {
        let params = Rerank { k1: 1, k2: 1, lambda: 0.5 };
        let got = rerank(&circle(&[0.0]), &circle(&[10.0, 90.0]), &params).unwrap();
        assert!((got.row(0)[0] - 0.5 * (0.016648 + 0.015192)).abs() < 2e-6, "{}", got.row(0)[0]);
        assert!((got.row(0)[1] - 1.0).abs() < 1e-6, "nothing shared and the farthest: {}", got.row(0)[1]);
    }

    #[test]
    fn identical_rows_and_tiny_sets_stay_finite() {
        let same = circle(&[30.0; 40]);
        let got = rerank(&same, &same, &Rerank::default()).unwrap();
        assert!(got.data().iter().all(|value| value.is_finite() && (-1e-6..=1.0).contains(value)));
        let got = rerank(&circle(&[0.0]), &circle(&[5.0]), &Rerank::default()).unwrap();
        assert!(got.data()[0].is_finite());
        assert_eq!(rerank(&circle(&[0.0]), &circle(&[]), &Rerank::default()).unwrap().rows(), 1);
    }

    #[test]
    fn a_row_of_zeros_is_far_from_everyone() {
        let query = Matrix::new(vec![1.0, 0.0, 0.0, 0.0], 2, 2).unwrap();
        let gallery = Matrix::new(vec![0.0, 0.0, 0.8, 0.6, -1.0, 0.0], 3, 2).unwrap();
        let got = rerank(&query, &gallery, &Rerank { k1: 1, k2: 1, lambda: 0.3 }).unwrap();
        assert!(got.data().iter().all(|value| value.is_finite()), "{got:?}");
        assert!(got.row(0)[1] < got.row(0)[0] && got.row(0)[1] < got.row(0)[2], "{got:?}");
    }

    #[test]
    fn bad_parameters_and_rows_are_named() {
        let (q, g) = (circle(&[0.0]), circle(&[5.0]));
        let with = |k1, k2, lambda| rerank(&q, &g, &Rerank { k1, k2, lambda }).unwrap_err().to_string();
        assert_eq!(with(0, 1, 0.3), "k1 is 0; allowed: 1 or more");
        assert_eq!(with(3, 5, 0.3), "k2 is 5; allowed: 1 to k1 + 1");
        assert_eq!(with(3, 3, f64::NAN), "lambda is NaN; allowed: 0 to 1");
        let long = Matrix::new(vec![2.0, 0.0], 1, 2).unwrap();
        assert_eq!(
            rerank(&q, &long, &Rerank::default()).unwrap_err().to_string(),
            "gallery embeddings row 0 has length 2.0000; re-ranking needs rows of unit length"
        );
    }
}
