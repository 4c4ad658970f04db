//! CMC and mAP by the Market-1501 protocol.

use std::cmp::Ordering;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Matrix, MetricsError};

/// Identity of junk pictures, which count neither as right nor as wrong.
pub const JUNK: i64 = -1;

/// Length of a reported CMC curve.
pub const MAX_RANK: usize = 50;

/// Identity and camera of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Label {
    /// Identity; [`JUNK`] for junk and, by convention of the data sets, 0 for a distractor.
    pub identity: i64,
    /// Camera.
    pub camera: i64,
}

impl Label {
    /// Whether `entry` is right for a query with this label. `None` if the protocol removes it: junk, and entries of
    /// the same identity *and* camera.
    pub fn judge(self, entry: Self) -> Option<bool> {
        (entry.identity != JUNK && entry != self).then_some(entry.identity == self.identity)
    }
}

/// The ranks of the right entries of one query among all entries that count. The gallery may be passed in any order, or
/// in parts.
///
/// Entries are ordered by distance and then by row. Do not pass entries that the protocol removes.
#[derive(Debug, Clone)]
pub struct Ranks<'a> {
    right: &'a [(f32, usize)],
    /// For each right entry, the number of wrong entries between the previous right one and it.
    before: Vec<u32>,
}

/// Order of entries, `(distance, row)`. Distances are finite; 0 and -0 are equal, unlike in `total_cmp`.
pub fn nearer(a: (f32, usize), b: (f32, usize)) -> Ordering {
    a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1))
}

impl<'a> Ranks<'a> {
    /// Takes the right entries, sorted by [`nearer`].
    pub fn of(right: &'a [(f32, usize)]) -> Self {
        debug_assert!(right.is_sorted_by(|a, b| nearer(*a, *b) == Ordering::Less));
        Self { right, before: vec![0; right.len()] }
    }

    /// Counts a wrong entry.
    pub fn wrong(&mut self, distance: f32, row: usize) {
        let behind = |right: &(f32, usize)| nearer(*right, (distance, row)) == Ordering::Less;
        // Most wrong entries are behind all right ones and change nothing.
        if self.right.last().is_some_and(|last| !behind(last)) {
            self.before[self.right.partition_point(behind)] += 1;
        }
    }

    /// Adds the wrong entries counted on another part of the gallery.
    pub fn merge(mut self, other: Self) -> Self {
        self.before.iter_mut().zip(other.before).for_each(|(before, more)| *before += more);
        self
    }

    /// Rank of each right entry, from 1, ascending.
    pub fn right_ranks(&self) -> Vec<usize> {
        let mut wrong = 0;
        let rank = |(right, before): (usize, &u32)| {
            wrong += *before as usize;
            right + 1 + wrong
        };
        self.before.iter().enumerate().map(rank).collect()
    }
}

/// Means over the valid queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingReport {
    /// Mean average precision, 0 to 1; 0 when no query is valid.
    pub map: f64,
    /// `cmc[k - 1]`: share of valid queries with a match among the first `k`. It is always [`MAX_RANK`] long; the last
    /// value is repeated if the gallery is shorter, and all are 0 when no query is valid.
    pub cmc: Vec<f64>,
    /// Queries with at least one match left in the gallery: the divisor of both means.
    pub valid_queries: usize,
    /// Number of queries.
    pub queries: usize,
    /// Number of gallery rows, including junk.
    pub gallery: usize,
}

impl RankingReport {
    /// Averages over queries. Each query is given by the ranks of its right entries, from 1 and ascending (see
    /// [`Ranks::right_ranks`]); a query without any is not valid. Its average precision is the mean of `i / rank` over
    /// its right entries, the sum form that published figures use (Zheng et al. 2015).
    pub fn of(queries: &[Vec<usize>], gallery: usize) -> Self {
        let mut cmc = vec![0.0; MAX_RANK];
        let (mut map, mut valid_queries) = (0.0, 0);
        for ranks in queries {
            let Some(first) = ranks.first() else { continue };
            valid_queries += 1;
            let precisions = ranks.iter().enumerate().map(|(right, rank)| (right + 1) as f64 / *rank as f64);
            map += precisions.sum::<f64>() / ranks.len() as f64;
            cmc.iter_mut().skip(first - 1).for_each(|hits| *hits += 1.0);
        }
        if valid_queries > 0 {
            map /= valid_queries as f64;
            cmc.iter_mut().for_each(|hits| *hits /= valid_queries as f64);
        }
        Self { map, cmc, valid_queries, queries: queries.len(), gallery }
    }

    /// CMC at rank `k`, from 1. Ranks beyond the curve have its last value.
    ///
    /// # Panics
    /// If `k` is 0.
    pub fn rank(&self, k: usize) -> f64 {
        assert!(k > 0, "ranks count from 1");
        self.cmc.get(k - 1).or(self.cmc.last()).copied().unwrap_or(0.0)
    }
}

/// Ranks the gallery for each query and averages CMC and average precision (Zheng et al. 2015).
///
/// For each query, junk and entries of the same identity *and* camera are removed. A query without a remaining match is
/// left out of both means, and so is a query that is junk itself. Equal distances rank by gallery index.
///
/// # Shapes
/// - `distance`: `[queries, gallery]`, smaller is closer, any scale
/// - `query`: `[queries]`, `gallery`: `[gallery]`
///
/// # Errors
/// The number of labels does not match the matrix, or a distance is not finite. An empty gallery is valid; no query is
/// valid then.
pub fn rank(distance: &Matrix, query: &[Label], gallery: &[Label]) -> Result<RankingReport, MetricsError> {
    for (axis, expected, found) in
        [("query", distance.rows(), query.len()), ("gallery", distance.cols(), gallery.len())]
    {
        if expected != found {
            return Err(MetricsError::Labels { axis, expected, found });
        }
    }
    distance.view().check_finite("distance")?;
    // Sums in query order, so that the mean does not depend on threads.
    let ranks: Vec<Vec<usize>> =
        (0..query.len()).into_par_iter().map(|i| right_ranks(distance.row(i), query[i], gallery)).collect();
    Ok(RankingReport::of(&ranks, gallery.len()))
}

/// Ranks of the right entries of one query, whose distances to the whole gallery must be finite; none for a junk query.
///
/// # Panics
/// If the numbers of distances and entries differ.
fn right_ranks(distance: &[f32], query: Label, gallery: &[Label]) -> Vec<usize> {
    assert_eq!(distance.len(), gallery.len(), "a distance for each entry");
    if query.identity == JUNK {
        return Vec::new();
    }
    let judged = |wanted: bool| {
        let entries = distance.iter().zip(gallery).enumerate();
        entries.filter(move |(_, (_, entry))| query.judge(**entry) == Some(wanted)).map(|(row, (d, _))| (*d, row))
    };
    let mut right: Vec<(f32, usize)> = judged(true).collect();
    right.sort_unstable_by(|a, b| nearer(*a, *b));
    let mut ranks = Ranks::of(&right);
    judged(false).for_each(|(distance, row)| ranks.wrong(distance, row));
    ranks.right_ranks()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(identity: i64, camera: i64) -> Label {
        Label { identity, camera }
    }

    fn one_query(distance: &[f32], gallery: &[Label]) -> RankingReport {
        let distance = Matrix::new(distance.to_vec(), 1, gallery.len()).unwrap();
        rank(&distance, &[label(1, 0)], gallery).unwrap()
    }

    /// Worked by hand: order 0.1 wrong, 0.2 right, 0.3 wrong, 0.4 right; AP = (1/2 + 2/4) / 2 = 1/2.
    #[test]
    fn average_precision_by_hand() {
        let report = one_query(&[0.4, 0.1, 0.2, 0.3], &[label(1, 1), label(2, 1), label(1, 2), label(0, 1)]);
        assert_eq!((report.map, report.rank(1), report.rank(2)), (0.5, 0.0, 1.0));
        assert_eq!((report.valid_queries, report.queries, report.gallery), (1, 1, 4));
    }

    /// The nearest two are junk and from the query's own camera; without them the match is first.
    #[test]
    fn junk_and_same_camera_are_taken_out() {
        let report = one_query(&[0.1, 0.2, 0.3, 0.4], &[label(-1, 1), label(1, 0), label(1, 1), label(2, 0)]);
        assert_eq!((report.map, report.rank(1)), (1.0, 1.0));
    }

    #[test]
    fn another_identity_in_the_same_camera_stays_and_is_wrong() {
        let report = one_query(&[0.1, 0.2], &[label(2, 0), label(1, 1)]);
        assert_eq!((report.map, report.rank(1), report.rank(2)), (0.5, 0.0, 1.0));
    }

    #[test]
    fn a_query_without_match_is_left_out_of_the_means() {
        let distance = Matrix::new(vec![0.1, 0.2, 0.1, 0.2, 0.1, 0.2], 3, 2).unwrap();
        let query = [label(1, 0), label(9, 0), label(-1, 0)];
        let report = rank(&distance, &query, &[label(1, 1), label(1, 0)]).unwrap();
        assert_eq!((report.map, report.rank(1), report.valid_queries, report.queries), (1.0, 1.0, 1, 3));
    }

    #[test]
    fn ties_rank_by_gallery_index() {
        let report = one_query(&[0.0, -0.0, 0.5], &[label(2, 1), label(1, 1), label(3, 1)]);
        assert_eq!(report.map, 0.5, "0 and -0 are a tie, so the first entry is first");
        let report = one_query(&[0.5; 3], &[label(1, 1), label(2, 1), label(3, 1)]);
        assert_eq!(report.map, 1.0);
    }

    #[test]
    fn a_short_gallery_repeats_the_last_value() {
        let report = one_query(&[0.1, 0.2, 0.3], &[label(2, 1), label(1, 1), label(3, 1)]);
        assert_eq!(report.cmc.len(), MAX_RANK);
        assert_eq!((report.cmc[0], report.cmc[1], report.cmc[49], report.rank(500)), (0.0, 1.0, 1.0, 1.0));
    }

    #[test]
    fn a_match_beyond_rank_50_counts_in_map_only() {
        let gallery: Vec<Label> = (0..60).map(|j| label(if j == 55 { 1 } else { 2 }, 1)).collect();
        let distance: Vec<f32> = (0..60).map(|j| j as f32).collect();
        let report = one_query(&distance, &gallery);
        assert_eq!((report.map, report.rank(50), report.valid_queries), (1.0 / 56.0, 0.0, 1));
    }

    #[test]
    fn an_empty_gallery_has_no_valid_query() {
        let report = one_query(&[], &[]);
        assert_eq!((report.map, report.rank(1), report.valid_queries, report.cmc.len()), (0.0, 0.0, 0, MAX_RANK));
    }

    #[test]
    fn nan_and_wrong_labels_are_named() {
        let distance = Matrix::new(vec![0.1, 0.2, 0.3, f32::NAN], 2, 2).unwrap();
        let labels = [label(1, 0), label(1, 1)];
        assert_eq!(
            rank(&distance, &labels, &labels).unwrap_err().to_string(),
            "distance row 1, column 1 is NaN; only finite values can be ranked"
        );
        assert_eq!(
            rank(&distance, &labels[..1], &labels).unwrap_err().to_string(),
            "distance matrix has 2 query rows, but 1 labels were given"
        );
        assert_eq!(
            rank(&distance, &labels, &labels[..1]).unwrap_err().to_string(),
            "distance matrix has 2 gallery columns, but 1 labels were given"
        );
    }

    /// Compared with a full sort, on distances with many ties, in one piece and in parts of any order.
    #[test]
    fn ranks_are_those_of_a_full_sort() {
        let random = |of: u64, at: usize| (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33 & (of - 1);
        for size in [1, 2, 7, 64, 300] {
            let distance: Vec<f32> = (0..size).map(|at| random(16, at) as f32 / 8.0 - 1.0).collect();
            let gallery: Vec<Label> =
                (0..size).map(|at| label(random(8, at + 1000) as i64 - 1, random(2, at + 2000) as i64)).collect();
            for query in [label(1, 0), label(3, 1), label(77, 0), label(-1, 0)] {
                let mut kept: Vec<usize> = (0..size).filter(|row| query.judge(gallery[*row]).is_some()).collect();
                kept.sort_by(|a, b| distance[*a].partial_cmp(&distance[*b]).unwrap());
                let right = |row: &usize| query.identity != JUNK && gallery[*row].identity == query.identity;
                let wanted: Vec<usize> = (0..kept.len()).filter(|at| right(&kept[*at])).map(|at| at + 1).collect();
                assert_eq!(right_ranks(&distance, query, &gallery), wanted, "{size} {query:?}");

                let mut right: Vec<(f32, usize)> = kept.iter().map(|row| (distance[*row], *row)).collect();
                right.retain(|(_, row)| query.judge(gallery[*row]) == Some(true));
                right.sort_by(|a, b| nearer(*a, *b));
                let mut parts = [Ranks::of(&right), Ranks::of(&right)];
                for row in (0..size).rev().filter(|row| query.judge(gallery[*row]) == Some(false)) {
                    parts[row % 2].wrong(distance[row], row);
                }
                let [one, other] = parts;
                assert!(query.identity == JUNK || one.merge(other).right_ranks() == wanted);
            }
        }
    }

    #[test]
    fn a_report_survives_json() {
        let report = one_query(&[0.1, 0.2], &[label(2, 0), label(1, 1)]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<RankingReport>(&text).unwrap(), report);
    }
}
