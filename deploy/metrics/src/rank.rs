//! CMC, mAP and mINP by the Market-1501 protocol.

use std::cmp::Ordering;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::bootstrap::{Interval, Resampling};
use crate::{Distances, MetricsError};

/// Identity of junk pictures, which count neither as right nor as wrong.
pub const JUNK: i64 = -1;

/// Length of a reported CMC curve.
pub const MAX_RANK: usize = 50;

/// Draws of a gallery with one picture of each person behind published figures; see [`single_shot`].
pub const SINGLE_SHOT_DRAWS: usize = 10;

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

/// How well the right entries of one query rank.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryScore {
    /// Rank of the first right entry, from 1.
    pub first: usize,
    /// Mean of `i / rank` over the right entries, 0 to 1: the sum form that published figures use (Zheng et al. 2015).
    pub average_precision: f64,
    /// Number of right entries over the rank of the last one, 0 to 1: the inverse negative penalty (Ye et al. 2021,
    /// arXiv:2001.04193). It is 1 if they all come first, and shows how far one has to look for the hardest.
    pub inverse_penalty: f64,
}

impl QueryScore {
    /// From the ranks of the right entries, from 1 and ascending; `None` without any.
    pub fn of(ranks: &[usize]) -> Option<Self> {
        let (first, last) = (*ranks.first()?, *ranks.last()?);
        let precisions = ranks.iter().enumerate().map(|(right, rank)| (right + 1) as f64 / *rank as f64);
        let average_precision = precisions.sum::<f64>() / ranks.len() as f64;
        Some(Self { first, average_precision, inverse_penalty: ranks.len() as f64 / last as f64 })
    }
}

/// Means over the valid queries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankingReport {
    /// Mean average precision, 0 to 1; 0 when no query is valid.
    pub map: f64,
    /// Mean inverse negative penalty, 0 to 1; 0 when no query is valid. See [`QueryScore::inverse_penalty`].
    pub minp: f64,
    /// `cmc[k - 1]`: share of valid queries with a match among the first `k`. It is always [`MAX_RANK`] long; the last
    /// value is repeated if the gallery is shorter, and all are 0 when no query is valid.
    pub cmc: Vec<f64>,
    /// How far these can be trusted; `None` when no query is valid.
    pub intervals: Option<RankingIntervals>,
    /// Queries with at least one match left in the gallery: the divisor of all means.
    pub valid_queries: usize,
    /// Number of queries.
    pub queries: usize,
    /// Number of gallery rows, including junk.
    pub gallery: usize,
}

/// 95 % intervals of the means, as if other people of the same kind were the queries. Identities are drawn with
/// replacement, because queries of one identity are not independent; the gallery is not drawn. No interval is tighter
/// than the number of identities allows, see [`unseen`](crate::verification::unseen).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RankingIntervals {
    /// Identities of the valid queries.
    pub identities: usize,
    /// Of CMC at rank 1.
    pub rank1: Interval,
    /// Of mAP.
    pub map: Interval,
    /// Of mINP.
    pub minp: Interval,
}

impl RankingReport {
    /// Averages over queries. Each query is given by its label and by the ranks of its right entries, from 1 and
    /// ascending (see [`Ranks::right_ranks`]); a query without any is not valid.
    ///
    /// # Panics
    /// If there are not as many labels as lists of ranks.
    pub fn of(queries: &[Label], ranks: &[Vec<usize>], gallery: usize) -> Self {
        assert_eq!(queries.len(), ranks.len(), "a label for each query");
        let mut cmc = vec![0.0; MAX_RANK];
        let mut valid_queries = 0;
        // By identity, in order of first appearance.
        let mut groups: Vec<(f64, [f64; 3])> = Vec::new();
        let mut of_identity = HashMap::new();
        for (query, ranks) in queries.iter().zip(ranks) {
            let Some(QueryScore { first, average_precision, inverse_penalty }) = QueryScore::of(ranks) else {
                continue;
            };
            valid_queries += 1;
            cmc.iter_mut().skip(first - 1).for_each(|hits| *hits += 1.0);
            let group = *of_identity.entry(query.identity).or_insert(groups.len());
            if group == groups.len() {
                groups.push((0.0, [0.0; 3]));
            }
            let (trials, sums) = &mut groups[group];
            *trials += 1.0;
            let values = [f64::from(first == 1), average_precision, inverse_penalty];
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
        let (queries, identities) = (queries.len(), groups.len());
        if valid_queries == 0 {
            return Self { map: 0.0, minp: 0.0, cmc, intervals: None, valid_queries, queries, gallery };
        }
        cmc.iter_mut().for_each(|hits| *hits /= valid_queries as f64);
        let [rank1, map, minp] = Resampling::default().means(groups);
        let intervals = match [rank1.interval, map.interval, minp.interval] {
            [Some(rank1), Some(map), Some(minp)] => Some(RankingIntervals { identities, rank1, map, minp }),
            _ => None,
        };
        Self { map: map.mean, minp: minp.mean, cmc, intervals, valid_queries, queries, gallery }
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

/// Ranks the gallery for each query and averages CMC, average precision (Zheng et al. 2015) and inverse negative
/// penalty (Ye et al. 2021).
///
/// For each query, junk and entries of the same identity *and* camera are removed. A query without a remaining match is
/// left out of the means, and so is a query that is junk itself. Equal distances rank by gallery index. One row of
/// distances per thread is in memory at a time, or some more, as `distance` makes them.
///
/// # Shapes
/// - `distance`: `[queries, gallery]`, smaller is closer, any scale
/// - `query`: `[queries]`, `gallery`: `[gallery]`
///
/// # Errors
/// The number of labels does not match the distances, or a distance is not finite. An empty gallery is valid; no query
/// is valid then.
pub fn rank(distance: &impl Distances, query: &[Label], gallery: &[Label]) -> Result<RankingReport, MetricsError> {
    // Sums in query order, so that the mean does not depend on threads.
    Ok(RankingReport::of(query, &ranks(distance, query, gallery)?, gallery.len()))
}

/// For each query the ranks of its right entries, from 1 and ascending; none for a query that is not valid. See
/// [`rank`](fn@rank).
///
/// # Errors
/// As [`rank`](fn@rank).
pub fn ranks(distance: &impl Distances, query: &[Label], gallery: &[Label]) -> Result<Vec<Vec<usize>>, MetricsError> {
    check_labels(distance, query, gallery)?;
    let ranks = |i: usize, row: &[f32]| match row.iter().position(|value| !value.is_finite()) {
        None => Ok(right_ranks(row, query[i], gallery)),
        Some(col) => Err(MetricsError::NotFinite { what: "distance", row: i, col, value: row[col].to_string() }),
    };
    distance.each(ranks).into_iter().collect()
}

pub(crate) fn check_labels(distance: &impl Distances, query: &[Label], gallery: &[Label]) -> Result<(), MetricsError> {
    for (axis, expected, found) in
        [("query", distance.queries(), query.len()), ("gallery", distance.gallery(), gallery.len())]
    {
        if expected != found {
            return Err(MetricsError::Labels { axis, expected, found });
        }
    }
    Ok(())
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

/// CMC with one gallery picture of each identity, as CUHK03's first protocol has it (Li et al. 2014): where several are
/// there, one is drawn, for each query and each of `draws` again, and the curve is the mean. It is as long as that of a
/// [`RankingReport`].
///
/// # Shapes
/// As [`rank`](fn@rank).
///
/// # Errors
/// As [`rank`](fn@rank).
pub fn single_shot(
    distance: &impl Distances,
    query: &[Label],
    gallery: &[Label],
    draws: usize,
) -> Result<Vec<f64>, MetricsError> {
    check_labels(distance, query, gallery)?;
    let mut people: HashMap<i64, Vec<u32>> = HashMap::new();
    for (row, entry) in gallery.iter().enumerate() {
        people.entry(entry.identity).or_default().push(row as u32);
    }
    // In order of their numbers, so that equal draws are equal pictures in every run.
    let mut people: Vec<(i64, Vec<u32>)> = people.into_iter().filter(|(identity, _)| *identity != JUNK).collect();
    people.sort_unstable_by_key(|(identity, _)| *identity);
    let of_query = |i: usize, row: &[f32]| {
        if let Some(col) = row.iter().position(|value| !value.is_finite()) {
            let value = row[col].to_string();
            return Err(MetricsError::NotFinite { what: "distance", row: i, col, value });
        }
        let mut hits = vec![0_u32; MAX_RANK];
        let own: Vec<u32> = match people.binary_search_by_key(&query[i].identity, |(identity, _)| *identity) {
            Ok(at) => {
                people[at].1.iter().copied().filter(|row| query[i].judge(gallery[*row as usize]).is_some()).collect()
            }
            Err(_) => Vec::new(),
        };
        if own.is_empty() {
            return Ok(None);
        }
        for draw in 0..draws {
            let resampling = Resampling { samples: draws, seed: i as u64 };
            let mut chosen = resampling.numbers(draw);
            let mut pick = |rows: &[u32]| rows[chosen(rows.len())] as usize;
            let right = pick(&own);
            let others = people.iter().filter(|(identity, _)| *identity != query[i].identity);
            let nearer = others
                .map(|(_, rows)| pick(rows))
                .filter(|other| nearer((row[*other], *other), (row[right], right)).is_lt());
            hits.iter_mut().skip(nearer.count()).for_each(|hits| *hits += 1);
        }
        Ok(Some(hits))
    };
    let hits: Vec<Option<Vec<u32>>> = distance.each(of_query).into_iter().collect::<Result<_, _>>()?;
    let valid = hits.iter().flatten().count();
    let share = |rank: usize| {
        let all: u64 = hits.iter().flatten().map(|hits| u64::from(hits[rank])).sum();
        all as f64 / (valid * draws).max(1) as f64
    };
    Ok((0..MAX_RANK).map(share).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;

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
        assert_eq!(report.minp, 2.0 / 4.0, "two right entries, the last of them at rank 4");
    }

    /// Two queries worked by hand. Right entries of the first at ranks 1 and 2: AP 1, INP 2/2. Of the second at ranks
    /// 2, 3 and 6: AP (1/2 + 2/3 + 3/6) / 3 = 5/9, INP 3/6.
    #[test]
    fn the_penalty_of_the_hardest_match_by_hand() {
        let queries = [label(1, 0), label(2, 0), label(3, 0)];
        let report = RankingReport::of(&queries, &[vec![1, 2], vec![2, 3, 6], vec![]], 9);
        assert!((report.map - (1.0 + 5.0 / 9.0) / 2.0).abs() < 1e-12, "{report:?}");
        assert_eq!((report.minp, report.rank(1), report.valid_queries), (0.75, 0.5, 2));
        let score = QueryScore::of(&[2, 3, 6]).unwrap();
        assert_eq!((score.first, score.inverse_penalty), (2, 0.5));
        assert_eq!(QueryScore::of(&[]), None);
    }

    /// The definition, by sorting the whole gallery: |G| over the position of the last right entry.
    #[test]
    fn the_penalty_is_that_of_the_definition() {
        let random = |of: u64, at: usize| (at as u64 + 9).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33 & (of - 1);
        let (queries, entries) = (30, 200);
        let query: Vec<Label> =
            (0..queries).map(|at| label(random(8, at) as i64 % 7, random(4, at + 50) as i64)).collect();
        let gallery: Vec<Label> =
            (0..entries).map(|at| label(random(8, at + 99) as i64 - 1, random(4, at + 500) as i64)).collect();
        let values = (0..queries * entries).map(|at| random(1 << 12, at + 7000) as f32 / 64.0).collect();
        let distance = Matrix::new(values, queries, entries).unwrap();
        let mut sum = 0.0;
        for (i, query) in query.iter().enumerate() {
            let mut order: Vec<usize> = (0..entries).collect();
            order.sort_by(|a, b| distance.row(i)[*a].total_cmp(&distance.row(i)[*b]));
            let kept: Vec<bool> = order.into_iter().filter_map(|row| query.judge(gallery[row])).collect();
            let right = kept.iter().filter(|right| **right).count();
            let hardest = kept.iter().rposition(|right| *right).unwrap() + 1;
            sum += right as f64 / hardest as f64;
        }
        let report = rank(&distance, &query, &gallery).unwrap();
        assert_eq!(report.valid_queries, queries);
        assert!((report.minp - sum / queries as f64).abs() < 1e-12 && report.minp < report.map, "{report:?}");
    }

    /// Twenty people, half of whom are always found at once and half never before rank 2: the interval is that of
    /// twenty coin tosses, however many pictures each has.
    #[test]
    fn intervals_count_people_and_not_pictures() {
        let of = |pictures: usize| {
            let labels: Vec<Label> = (0..20 * pictures).map(|at| label((at / pictures) as i64, 0)).collect();
            let ranks: Vec<Vec<usize>> = labels.iter().map(|own| vec![1 + (own.identity % 2) as usize]).collect();
            RankingReport::of(&labels, &ranks, 5)
        };
        let (one, many) = (of(1), of(50));
        let intervals = one.intervals.unwrap();
        assert_eq!(one.intervals, many.intervals);
        assert_eq!((one.map, one.minp, intervals.identities), (0.75, 0.75, 20));
        let Interval { low, high } = intervals.rank1;
        assert!((0.2..0.4).contains(&low) && (0.6..0.8).contains(&high), "{intervals:?}");
        assert!(intervals.map.low > low && intervals.minp == intervals.map, "{intervals:?}");
        assert_eq!(RankingReport::of(&[label(1, 0)], &[vec![]], 5).intervals, None);
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

    /// The query's own two pictures are at 0.1 and 0.9, somebody's only one at 0.5, and another's two at 0.3 and 0.7.
    /// If its own at 0.1 is drawn it is first, else third, whichever is drawn of the others: Rank-1 and Rank-2 1/2,
    /// Rank-3 1.
    #[test]
    fn one_picture_of_each_person_by_hand() {
        let distance = Matrix::new([[0.1, 0.9, 0.5, 0.3, 0.7, 0.0, 0.0]; 2].concat(), 2, 7).unwrap();
        let gallery = [label(1, 1), label(1, 2), label(2, 1), label(3, 1), label(3, 2), label(1, 0), label(JUNK, 1)];
        let query = [label(1, 0), label(9, 0)];
        let cmc = single_shot(&distance, &query, &gallery, 4000).unwrap();
        assert!((cmc[0] - 0.5).abs() < 0.03 && cmc[0] == cmc[1] && cmc[2] == 1.0, "{cmc:?}");
        assert_eq!(cmc, single_shot(&distance, &query, &gallery, 4000).unwrap(), "the same draws every time");
        // With one picture of each, it is the usual curve.
        let one = [label(1, 1), label(JUNK, 2), label(2, 1), label(3, 1), label(JUNK, 2), label(1, 0), label(JUNK, 1)];
        let usual = rank(&distance, &query, &one).unwrap();
        assert_eq!(single_shot(&distance, &query, &one, 10).unwrap(), usual.cmc);
        assert_eq!(
            single_shot(&distance, &query[1..], &one, 10).err().map(|error| error.to_string().contains("query")),
            Some(true)
        );
    }

    #[test]
    fn a_report_survives_json() {
        // Reading rounds the last digit of some fractions; those of the intervals are such.
        let report = RankingReport { intervals: None, ..one_query(&[0.1, 0.2], &[label(2, 0), label(1, 1)]) };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<RankingReport>(&text).unwrap(), report);
    }
}
