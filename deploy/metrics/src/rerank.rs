//! k-reciprocal re-ranking, Zhong et al. 2017 (arXiv:1701.08398).

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::distance::{check_comparable, dot, fast_products};
use crate::{Distances, MetricsError, Rows};

/// Largest deviation from unit length: enough for half-precision embeddings, not for raw features.
const UNIT_TOLERANCE: f32 = 1e-2;

/// If all neighbours of a row are within rounding, they have no order, and its distances count as 0.
const ROUNDING: f32 = 1e-6;

/// Rows of each side that are compared together: the products of two blocks take 1 MiB, and each is computed once for
/// both sides.
const TILE: usize = 512;

/// Products that are compared with the floors at once.
const LANES: usize = 16;

/// Queries whose distances are computed together, and the gallery rows that a thread compares them with at a time.
const QUERIES: usize = 128;
const STRIP: usize = 1024;

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

/// k-reciprocal re-ranking of a gallery; see [`rerank`](fn@rerank).
pub struct Reranking<'a> {
    query: Rows<'a>,
    gallery: Rows<'a>,
    /// Largest squared distance of each query, by which the others are divided.
    largest: Vec<f32>,
    /// Of the queries.
    encodings: Vec<Encoding>,
    holders: Holders,
    lambda: f32,
}

/// k-reciprocal re-ranking of a gallery, query by query. The distance of a query to a gallery row is `(1 - lambda) *
/// Jaccard + lambda * D`, 0 to 1 up to rounding. `D` is the squared Euclidean distance divided by the largest one in
/// the query's row. Jaccard compares the two rows' k-reciprocal neighbourhoods in the union of queries and gallery.
///
/// Neighbourhoods are sparse: a row has at most a few hundred members, and mostly a few dozen. So memory grows with
/// `(queries + gallery) * (k1 + members)`, and neither the square matrix of all distances nor a copy of the embeddings
/// is made. Time grows with the square of `queries + gallery`. How distances are rounded depends on the processor, but
/// not on the number of threads.
///
/// # Shapes
/// - `query`: `[queries, embed_dim]`, rows of unit length or zero
/// - `gallery`: `[gallery, embed_dim]`, rows of unit length or zero
///
/// # Errors
/// Different `embed_dim`, a value that is not finite, a row whose length is neither 1 nor 0, a parameter out of range,
/// or 2³² rows or more.
pub fn rerank<'a>(
    query: impl Into<Rows<'a>>,
    gallery: impl Into<Rows<'a>>,
    params: &Rerank,
) -> Result<Reranking<'a>, MetricsError> {
    params.check()?;
    let (query, gallery) = (query.into(), gallery.into());
    check_comparable(query, gallery)?;
    check_unit(query, "query embeddings")?;
    check_unit(gallery, "gallery embeddings")?;
    let everyone = Everyone { query, gallery };
    if u32::try_from(everyone.len()).is_err() {
        let found = everyone.len().to_string();
        return Err(MetricsError::Parameter { name: "number of rows", found, allowed: "fewer than 2^32" });
    }
    let neighbours = neighbours(everyone, params.k1);
    let mut encodings = expand_query(encode(everyone, &neighbours, params.k1), &neighbours, params.k2);
    let entries = encodings.split_off(query.rows());
    let holders = Holders::of(entries, everyone.len());
    let mut largest = neighbours.largest;
    largest.truncate(query.rows());
    Ok(Reranking { query, gallery, largest, encodings, holders, lambda: params.lambda as f32 })
}

impl Reranking<'_> {
    /// Turns the products of a query with all gallery rows into distances. `shared` has room for as many.
    fn distances(&self, query: usize, shared: &mut [f32], row: &mut [f32]) {
        shared.fill(0.0);
        for &(member, weight) in &self.encodings[query] {
            for &(entry, other) in self.holders.of_member(member) {
                shared[entry as usize] += weight.min(other);
            }
        }
        for (value, shared) in row.iter_mut().zip(shared) {
            let jaccard = 1.0 - *shared / (2.0 - *shared);
            *value = (1.0 - self.lambda) * jaccard + self.lambda * normalised(*value, self.largest[query]);
        }
    }
}

impl Distances for Reranking<'_> {
    fn queries(&self) -> usize {
        self.query.rows()
    }

    fn gallery(&self) -> usize {
        self.gallery.rows()
    }

    fn each<T: Send>(&self, see: impl Fn(usize, &[f32]) -> T + Sync) -> Vec<T> {
        let (queries, width) = (self.query.rows(), self.gallery.rows());
        let mut all = Vec::with_capacity(queries);
        let mut products = vec![0.0_f32; queries.min(QUERIES) * width];
        for first in (0..queries).step_by(QUERIES) {
            let some = self.query.slice(first..queries.min(first + QUERIES));
            // Strip by strip, so that every thread writes its own part: [strip][query][row of the strip].
            let products = &mut products[..some.rows() * width];
            products.par_chunks_mut(some.rows() * STRIP).enumerate().for_each(|(strip, out)| {
                let entries = strip * STRIP..width.min((strip + 1) * STRIP);
                fast_products(some, self.gallery.slice(entries), out);
            });
            let seen = (0..some.rows()).into_par_iter().map_init(
                || (vec![0.0_f32; width], vec![0.0_f32; width]),
                |(shared, row), query| {
                    for (strip, part) in row.chunks_mut(STRIP).enumerate() {
                        let at = some.rows() * strip * STRIP + query * part.len();
                        part.copy_from_slice(&products[at..at + part.len()]);
                    }
                    self.distances(first + query, shared, row);
                    see(first + query, row)
                },
            );
            all.extend(seen.collect::<Vec<T>>());
        }
        all
    }
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

/// Squared distance of rows with this product, divided by the largest.
fn normalised(product: f32, largest: f32) -> f32 {
    if largest > ROUNDING { (2.0 - 2.0 * product) / largest } else { 0.0 }
}

/// The queries, followed by the gallery.
#[derive(Clone, Copy)]
struct Everyone<'a> {
    query: Rows<'a>,
    gallery: Rows<'a>,
}

impl<'a> Everyone<'a> {
    fn len(self) -> usize {
        self.query.rows() + self.gallery.rows()
    }

    fn row(self, i: usize) -> &'a [f32] {
        match i.checked_sub(self.query.rows()) {
            None => self.query.row(i),
            Some(entry) => self.gallery.row(entry),
        }
    }

    /// Rows that are compared together, with the number of the first.
    fn tiles(self) -> Vec<(usize, Rows<'a>)> {
        let of = |rows: Rows<'a>, before: usize| {
            let starts = (0..rows.rows()).step_by(TILE);
            starts.map(move |at| (before + at, rows.slice(at..rows.rows().min(at + TILE))))
        };
        of(self.query, 0).chain(of(self.gallery, self.query.rows())).collect()
    }
}

/// The nearest rows of every row, and the divisors of its distances.
struct Neighbours {
    /// For each row the same number of rows, nearest first, equal distances by index.
    nearest: Vec<u32>,
    kept: usize,
    largest: Vec<f32>,
}

impl Neighbours {
    /// The `k` nearest rows of `i` and the row itself, which is normally first.
    fn within(&self, i: usize, k: usize) -> &[u32] {
        &self.nearest[i * self.kept..][..self.kept.min(k + 1)]
    }

    /// Rows that are among the `k` nearest of `i` and have `i` among their own `k` nearest.
    fn reciprocal(&self, i: usize, k: usize) -> Vec<u32> {
        let mutual = |&&j: &&u32| self.within(j as usize, k).contains(&(i as u32));
        self.within(i, k).iter().filter(mutual).copied().collect()
    }
}

/// What is known so far of the rows of a tile.
struct Found {
    /// By row: what a product must reach to be among the nearest.
    floors: Vec<f32>,
    /// By row: the smallest product.
    least: Vec<f32>,
    /// By row: the largest products with their rows, best first.
    nearest: Vec<Vec<(f32, u32)>>,
}

impl Found {
    fn new(rows: usize) -> Self {
        Self {
            floors: vec![f32::NEG_INFINITY; rows],
            least: vec![f32::INFINITY; rows],
            nearest: vec![Vec::new(); rows],
        }
    }

    /// Keeps the `kept` best of each row. Whatever the order in which they come, these are the same.
    fn offer(&mut self, row: usize, product: f32, other: u32, kept: usize) {
        let nearest = &mut self.nearest[row];
        let at = nearest.partition_point(|(best, by)| *best > product || (*best == product && *by < other));
        if at == kept {
            return;
        }
        nearest.truncate(kept - 1);
        nearest.insert(at, (product, other));
        if let Some((floor, _)) = nearest.get(kept - 1) {
            self.floors[row] = *floor;
        }
    }

    /// Compares each row with those from number `first` on; `products` are `[rows, width]`.
    fn offer_rows(&mut self, products: &[f32], width: usize, first: usize, kept: usize) {
        for (row, products) in products.chunks_exact(width).enumerate() {
            let mut least = [f32::INFINITY; LANES];
            for (at, some) in products.chunks(LANES).enumerate() {
                let floor = self.floors[row];
                let mut reached = false;
                for (least, product) in least.iter_mut().zip(some) {
                    *least = if product < least { *product } else { *least };
                    reached |= *product >= floor;
                }
                if reached {
                    for (lane, product) in some.iter().enumerate().filter(|(_, product)| **product >= floor) {
                        self.offer(row, *product, (first + at * LANES + lane) as u32, kept);
                    }
                }
            }
            self.least[row] = least.into_iter().fold(self.least[row], f32::min);
        }
    }

    /// The same where the rows of `self` are the columns.
    fn offer_columns(&mut self, products: &[f32], width: usize, first: usize, kept: usize) {
        for (other, products) in products.chunks_exact(width).enumerate() {
            for (at, some) in products.chunks(LANES).enumerate() {
                let columns = at * LANES..at * LANES + some.len();
                let mut reached = false;
                let state = self.floors[columns.clone()].iter().zip(&mut self.least[columns.clone()]);
                for ((floor, least), product) in state.zip(some) {
                    *least = if product < least { *product } else { *least };
                    reached |= product >= floor;
                }
                if reached {
                    for (column, product) in columns.zip(some) {
                        if *product >= self.floors[column] {
                            self.offer(column, *product, (first + other) as u32, kept);
                        }
                    }
                }
            }
        }
    }
}

fn locked(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compares every two rows once, tile by tile.
fn neighbours(everyone: Everyone<'_>, k1: usize) -> Neighbours {
    let kept = everyone.len().min(k1 + 1);
    let tiles = everyone.tiles();
    let found: Vec<Mutex<Found>> = tiles.iter().map(|(_, rows)| Mutex::new(Found::new(rows.rows()))).collect();
    let pairs: Vec<(u32, u32)> =
        (0..tiles.len() as u32).flat_map(|left| (left..tiles.len() as u32).map(move |right| (left, right))).collect();
    let buffer = || vec![0.0_f32; TILE * TILE];
    pairs.par_iter().for_each_init(buffer, |products, &(left, right)| {
        let [(first, rows), (second, others)] = [left, right].map(|tile| tiles[tile as usize]);
        let (width, products) = (others.rows(), &mut products[..rows.rows() * others.rows()]);
        fast_products(rows, others, products);
        locked(&found[left as usize]).offer_rows(products, width, second, kept);
        if left != right {
            locked(&found[right as usize]).offer_columns(products, width, first, kept);
        }
    });
    let mut nearest = Vec::with_capacity(everyone.len() * kept);
    let mut largest = Vec::with_capacity(everyone.len());
    for found in found {
        let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        nearest.extend(found.nearest.iter().flatten().map(|(_, row)| *row));
        largest.extend(found.least.iter().map(|product| 2.0 - 2.0 * product));
    }
    Neighbours { nearest, kept, largest }
}

/// A sparse row of `V`: ascending members, weights with sum 1.
type Encoding = Vec<(u32, f32)>;

fn encode(everyone: Everyone<'_>, neighbours: &Neighbours, k1: usize) -> Vec<Encoding> {
    // Half to even, as in the reference's `np.around`.
    let half = (k1 as f64 / 2.0).round_ties_even() as usize;
    let close: Vec<Vec<u32>> = (0..everyone.len()).into_par_iter().map(|i| neighbours.reciprocal(i, half)).collect();
    let encode = |i: usize| {
        let core = neighbours.reciprocal(i, k1);
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
            (-normalised(product, neighbours.largest[i])).exp()
        };
        let weights: Encoding = members.into_iter().map(|j| (j, weight(j))).collect();
        let total: f32 = weights.iter().map(|(_, weight)| weight).sum();
        weights.into_iter().map(|(j, weight)| (j, weight / total)).collect()
    };
    (0..everyone.len()).into_par_iter().map(encode).collect()
}

/// Local query expansion: each row becomes the mean over its `k2` nearest rows.
fn expand_query(encodings: Vec<Encoding>, neighbours: &Neighbours, k2: usize) -> Vec<Encoding> {
    if k2 == 1 {
        return encodings;
    }
    let expand = |i: usize| {
        let nearest = neighbours.within(i, k2 - 1);
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
    (0..encodings.len()).into_par_iter().map(expand).collect()
}

/// For each member, the gallery rows that contain it.
struct Holders {
    /// First holder of each member, followed by their number.
    starts: Vec<usize>,
    /// Gallery row and weight, rows ascending.
    entries: Vec<(u32, f32)>,
}

impl Holders {
    fn of(encodings: Vec<Encoding>, members: usize) -> Self {
        let mut starts = vec![0_usize; members + 1];
        for (member, _) in encodings.iter().flatten() {
            starts[*member as usize + 1] += 1;
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let (mut next, mut entries) = (starts.clone(), vec![(0, 0.0); sum]);
        // By value: each encoding is freed when it is entered.
        for (row, encoding) in encodings.into_iter().enumerate() {
            for (member, weight) in encoding {
                let at = &mut next[member as usize];
                entries[*at] = (row as u32, weight);
                *at += 1;
            }
        }
        Self { starts, entries }
    }

    fn of_member(&self, member: u32) -> &[(u32, f32)] {
        let member = member as usize;
        &self.entries[self.starts[member]..self.starts[member + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;

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
        let (query, gallery) = (circle(&[0.0]), circle(&[10.0, 90.0]));
        let got = rerank(&query, &gallery, &params).unwrap().matrix();
        assert!((got.row(0)[0] - 0.5 * (0.016648 + 0.015192)).abs() < 2e-6, "{}", got.row(0)[0]);
        assert!((got.row(0)[1] - 1.0).abs() < 1e-6, "nothing shared and the farthest: {}", got.row(0)[1]);
    }

    #[test]
    fn identical_rows_and_tiny_sets_stay_finite() {
        let same = circle(&[30.0; 40]);
        let got = rerank(&same, &same, &Rerank::default()).unwrap().matrix();
        assert!(got.data().iter().all(|value| value.is_finite() && (-1e-6..=1.0).contains(value)));
        let [one, other, none] = [circle(&[0.0]), circle(&[5.0]), circle(&[])];
        assert!(rerank(&one, &other, &Rerank::default()).unwrap().matrix().data()[0].is_finite());
        let of_nobody = rerank(&one, &none, &Rerank::default()).unwrap();
        assert_eq!(of_nobody.each(|query, row| (query, row.len())), [(0, 0)]);
        assert_eq!(rerank(&none, &one, &Rerank::default()).unwrap().each(|_, _| ()), []);
    }

    #[test]
    fn a_row_of_zeros_is_far_from_everyone() {
        let query = Matrix::new(vec![1.0, 0.0, 0.0, 0.0], 2, 2).unwrap();
        let gallery = Matrix::new(vec![0.0, 0.0, 0.8, 0.6, -1.0, 0.0], 3, 2).unwrap();
        let got = rerank(&query, &gallery, &Rerank { k1: 1, k2: 1, lambda: 0.3 }).unwrap().matrix();
        assert!(got.data().iter().all(|value| value.is_finite()), "{got:?}");
        assert!(got.row(0)[1] < got.row(0)[0] && got.row(0)[1] < got.row(0)[2], "{got:?}");
    }

    #[test]
    fn bad_parameters_and_rows_are_named() {
        let (q, g) = (circle(&[0.0]), circle(&[5.0]));
        let with = |k1, k2, lambda| rerank(&q, &g, &Rerank { k1, k2, lambda }).err().unwrap().to_string();
        assert_eq!(with(0, 1, 0.3), "k1 is 0; allowed: 1 or more");
        assert_eq!(with(3, 5, 0.3), "k2 is 5; allowed: 1 to k1 + 1");
        assert_eq!(with(3, 3, f64::NAN), "lambda is NaN; allowed: 0 to 1");
        let long = Matrix::new(vec![2.0, 0.0], 1, 2).unwrap();
        assert_eq!(
            rerank(&q, &long, &Rerank::default()).err().unwrap().to_string(),
            "gallery embeddings row 0 has length 2.0000; re-ranking needs rows of unit length"
        );
    }

    /// Rows around centres, of about unit length, whose products are exact in f32 in any order of summation.
    fn clusters(name: &str, rows: usize, cols: usize) -> Matrix {
        let own = contract::fill::fill(&format!("input.clusters.{name}"), &[rows, cols]);
        let centres = contract::fill::fill("input.clusters", &[60, cols]);
        let values = (0..rows).flat_map(|row| {
            let sum = (0..cols).map(|col| centres[row * 7 % 60 * cols + col] + 0.8 * own[row * cols + col]);
            let sum: Vec<f32> = sum.collect();
            let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
            sum.into_iter().map(move |value| (value / length * 1024.0).round() / 1024.0)
        });
        Matrix::new(values.collect(), rows, cols).unwrap()
    }

    /// The definition with dense matrices of everyone, as the reference has it, in f64.
    fn dense(query: &Matrix, gallery: &Matrix, Rerank { k1, k2, lambda }: Rerank) -> Vec<Vec<f64>> {
        let all: Vec<&[f32]> =
            (0..query.rows()).map(|i| query.row(i)).chain((0..gallery.rows()).map(|j| gallery.row(j))).collect();
        let count = all.len();
        let mut distance: Vec<Vec<f64>> =
            all.iter().map(|a| all.iter().map(|b| 2.0 - 2.0 * f64::from(dot(a, b))).collect()).collect();
        for row in &mut distance {
            let largest = row.iter().copied().fold(0.0, f64::max);
            row.iter_mut().for_each(|value| *value /= largest);
        }
        let ranked = |i: usize| {
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|a, b| distance[i][*a].total_cmp(&distance[i][*b]));
            order
        };
        let ranked: Vec<Vec<usize>> = (0..count).map(ranked).collect();
        let near = |i: usize, k: usize| &ranked[i][..count.min(k + 1)];
        let mutual = |i: usize, k: usize| -> Vec<usize> {
            near(i, k).iter().copied().filter(|j| near(*j, k).contains(&i)).collect()
        };
        let half = (k1 as f64 / 2.0).round_ties_even() as usize;
        let mut v = vec![vec![0.0; count]; count];
        for (i, v) in v.iter_mut().enumerate() {
            let core = mutual(i, k1);
            let mut members = core.clone();
            for candidate in &core {
                let theirs = mutual(*candidate, half);
                let common = theirs.iter().filter(|j| core.contains(j)).count();
                if common as f64 > 2.0 / 3.0 * theirs.len() as f64 + 1e-9 {
                    members.extend(theirs);
                }
            }
            members.iter().for_each(|j| v[*j] = (-distance[i][*j]).exp());
            let total: f64 = v.iter().sum();
            v.iter_mut().for_each(|value| *value /= total);
        }
        let expanded = |i: usize| -> Vec<f64> {
            let nearest = near(i, k2 - 1);
            (0..count).map(|j| nearest.iter().map(|l| v[*l][j]).sum::<f64>() / nearest.len() as f64).collect()
        };
        // Not even the row itself has to be its own nearest: another may be longer.
        let v: Vec<Vec<f64>> = if k2 == 1 { v } else { (0..count).map(expanded).collect() };
        let value = |i: usize, j: usize| {
            let shared: f64 = v[i].iter().zip(&v[j]).map(|(a, b)| a.min(*b)).sum();
            (1.0 - lambda) * (1.0 - shared / (2.0 - shared)) + lambda * distance[i][j]
        };
        (0..query.rows()).map(|i| (query.rows()..count).map(|j| value(i, j)).collect()).collect()
    }

    /// More rows than a tile has, so that every kind of pair of tiles occurs.
    #[test]
    fn sparse_and_dense_agree() {
        let (query, gallery) = (clusters("query", 140, 24), clusters("gallery", 620, 24));
        let k = |k1, k2, lambda| Rerank { k1, k2, lambda };
        for params in [Rerank::default(), k(5, 1, 0.5), k(30, 8, 0.0)] {
            let wanted = dense(&query, &gallery, params);
            let found = rerank(&query, &gallery, &params).unwrap().matrix();
            for (i, wanted) in wanted.iter().enumerate() {
                for (j, (found, wanted)) in found.row(i).iter().zip(wanted).enumerate() {
                    let apart = (f64::from(*found) - wanted).abs();
                    assert!(apart < 2e-6, "{params:?} at {i}, {j}: {found} for {wanted}");
                }
            }
        }
    }

    /// Equal rows everywhere: who is kept must not depend on the order in which threads find them.
    #[test]
    fn ties_go_to_the_first_rows_with_any_number_of_threads() {
        let same = circle(&[30.0; 1100]);
        let found = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let everyone = Everyone { query: same.view().slice(0..9), gallery: same.view().slice(9..1100) };
            pool.install(|| neighbours(everyone, 20)).nearest
        };
        let (one, five) = (found(1), found(5));
        assert!(one == five && one.chunks(21).all(|nearest| nearest.iter().copied().eq(0..21)));
    }
}
