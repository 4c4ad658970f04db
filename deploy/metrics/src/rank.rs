//! CMC and mAP by the Market-1501 protocol.

use std::cmp::Ordering;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{Matrix, MetricsError};

/// Identity of junk pictures, which are neither right nor wrong.
pub const JUNK: i64 = -1;

/// Length of a reported CMC curve.
pub const MAX_RANK: usize = 50;

/// Who is on a row and which camera saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Label {
    /// Identity; [`JUNK`] is junk, 0 a distractor by the datasets' convention.
    pub identity: i64,
    /// Camera.
    pub camera: i64,
}

/// Means over the valid queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingReport {
    /// Mean average precision, 0 to 1; 0 when no query is valid.
    pub map: f64,
    /// `cmc[k - 1]`: share of valid queries with a match among the first `k`; always [`MAX_RANK`] long, the last value
    /// repeated when the gallery is shorter, all 0 when no query is valid.
    pub cmc: Vec<f64>,
    /// Queries with at least one match left in the gallery: the divisor of both means.
    pub valid_queries: usize,
    /// All queries.
    pub queries: usize,
    /// All gallery rows, junk included.
    pub gallery: usize,
}

impl RankingReport {
    /// CMC at rank `k`, from 1; ranks beyond the curve have its last value.
    ///
    /// # Panics
    /// If `k` is 0.
    pub fn rank(&self, k: usize) -> f64 {
        assert!(k > 0, "ranks count from 1");
        self.cmc.get(k - 1).or(self.cmc.last()).copied().unwrap_or(0.0)
    }
}

/// Ranks the gallery for each query and averages CMC and average precision (Zheng et al. 2015, with the sum form of
/// AP that published figures use).
///
/// Per query, junk and entries of the same identity *and* camera are taken out; a query without a remaining match is
/// left out of both means, and so is a query that is junk itself. Equal distances rank by gallery index.
///
/// # Shapes
/// - `distance`: `[queries, gallery]`, smaller is closer, any scale
/// - `query`: `[queries]`, `gallery`: `[gallery]`
///
/// # Errors
/// Labels that do not match the matrix, or a distance that is not finite. An empty gallery is no error: no query is
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
    let scored: Vec<Option<Scored>> =
        (0..query.len()).into_par_iter().map(|i| score(distance.row(i), query[i], gallery)).collect();
    // Added in query order, so the mean does not depend on the threads.
    let mut cmc = vec![0.0; MAX_RANK];
    let (mut map, mut valid_queries) = (0.0, 0);
    for Scored { average_precision, first_match } in scored.into_iter().flatten() {
        valid_queries += 1;
        map += average_precision;
        cmc.iter_mut().skip(first_match - 1).for_each(|hits| *hits += 1.0);
    }
    if valid_queries > 0 {
        map /= valid_queries as f64;
        cmc.iter_mut().for_each(|hits| *hits /= valid_queries as f64);
    }
    Ok(RankingReport { map, cmc, valid_queries, queries: query.len(), gallery: gallery.len() })
}

struct Scored {
    average_precision: f64,
    /// From 1.
    first_match: usize,
}

fn score(distance: &[f32], query: Label, gallery: &[Label]) -> Option<Scored> {
    if query.identity == JUNK {
        return None;
    }
    let mut kept: Vec<usize> =
        (0..gallery.len()).filter(|&j| gallery[j].identity != JUNK && gallery[j] != query).collect();
    // Stable, and finite by the check above; `partial_cmp` and not `total_cmp`, for which -0 is below 0.
    kept.sort_by(|&a, &b| distance[a].partial_cmp(&distance[b]).unwrap_or(Ordering::Equal));
    let (mut hits, mut precisions, mut first_match) = (0_usize, 0.0, 0);
    for (at, &j) in kept.iter().enumerate() {
        if gallery[j].identity == query.identity {
            hits += 1;
            precisions += hits as f64 / (at + 1) as f64;
            if hits == 1 {
                first_match = at + 1;
            }
        }
    }
    (hits > 0).then(|| Scored { average_precision: precisions / hits as f64, first_match })
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

    /// The nearest two are junk and the query's own camera; without them the match is first.
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

    #[test]
    fn a_report_survives_json() {
        let report = one_query(&[0.1, 0.2], &[label(2, 0), label(1, 1)]);
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<RankingReport>(&text).unwrap(), report);
    }
}
