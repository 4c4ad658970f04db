//! Computes the complete report on a verifier, with intervals by identity, from embeddings and labels.

use std::collections::BTreeMap;

use serde::Serialize;

use super::compare::{self, Genuine, Impostor, Refined};
use super::draws::{Drawn, Draws};
use super::groups::{Groups, Impostors};
use super::identification::{Identification, identify};
use super::keys::{BINS, FINE_BITS, key, similarity};
use super::{AtThreshold, EqualError, Point, Roc};
use crate::bootstrap::{Interval, Resampling, interval};
use crate::{MetricsError, Rows};

/// Options of [`evaluate`].
#[derive(Debug, Clone, PartialEq)]
pub struct VerificationOptions {
    /// Which pairs of two identities count.
    pub impostors: Impostors,
    /// Label of distractors: rows that belong to none of the identities. They form impostor pairs with every identity,
    /// but not with each other.
    pub distractor: Option<i64>,
    /// False accept rates at which the true accept rate is reported.
    pub fars: Vec<f64>,
    /// Bootstrap samples of the identities; 0 for no intervals.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Whether false accept rates get intervals as well, which takes another round over the impostor pairs.
    pub far_intervals: bool,
    /// Bars per histogram.
    pub bins: usize,
}

impl Default for VerificationOptions {
    fn default() -> Self {
        Self {
            impostors: Impostors::Exhaustive,
            distractor: None,
            fars: vec![1e-1, 1e-2, 1e-3, 1e-4],
            resamples: 200,
            seed: 42,
            far_intervals: false,
            bins: 50,
        }
    }
}

/// True accept rate at a required false accept rate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TarAtFar {
    /// The required false accept rate.
    pub target: f64,
    /// The last point of the curve that keeps this rate; its threshold is infinite if every impostor pair must be
    /// rejected.
    #[serde(flatten)]
    pub point: Point,
    /// 95 % interval of the true accept rate.
    pub interval: Option<Interval>,
    /// 95 % interval of the false accept rate at this threshold; see [`VerificationOptions::far_intervals`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub far_interval: Option<Interval>,
    /// Whether there are fewer pairs of identities than one over the target; then it only means that no impostor pair
    /// was accepted. Pairs of rows do not count, because those of the same two identities are not independent.
    pub below_resolution: bool,
}

/// Independent trials behind the rates, counted by identities, since rows of one identity are not independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Trials {
    /// Identities with at least two rows.
    pub genuine: usize,
    /// Pairs of two identities, or of an identity and a distractor.
    pub impostor: u64,
}

/// Shares of similarities in bars of equal width.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Lower edge of the first bar.
    pub low: f32,
    /// Upper edge of the last bar.
    pub high: f32,
    /// Share of the genuine pairs in each bar.
    pub genuine: Vec<f64>,
    /// Share of the impostor pairs in each bar.
    pub impostor: Vec<f64>,
}

/// How well similarities tell genuine pairs from impostor pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerificationReport {
    /// Number of rows.
    pub samples: usize,
    /// Number of identities.
    pub identities: usize,
    /// Number of distractors.
    pub distractors: usize,
    /// Independent trials behind genuine and impostor rates.
    pub trials: Trials,
    /// Number of genuine pairs.
    pub genuine: u64,
    /// Number of impostor pairs.
    pub impostor: u64,
    /// Equal error rate.
    pub eer: EqualError,
    /// 95 % interval of the equal error rate.
    pub eer_interval: Option<Interval>,
    /// Area under the curve.
    pub auc: f64,
    /// 95 % interval of the area.
    pub auc_interval: Option<Interval>,
    /// True accept rates at the required false accept rates.
    pub tar: Vec<TarAtFar>,
    /// Rates at the threshold of the equal error rate.
    pub at_eer: AtThreshold,
    /// Identification, if any identity has a second row.
    pub identification: Option<Identification>,
    /// 95 % interval of the identification's rank 1.
    pub rank1_interval: Option<Interval>,
    /// Mean similarity of genuine pairs.
    pub genuine_mean: f64,
    /// Mean similarity of impostor pairs.
    pub impostor_mean: f64,
    /// Similarities of both kinds of pairs.
    pub histogram: Histogram,
    /// The curve, thinned to points that are visibly different.
    pub curve: Vec<Point>,
    /// Bootstrap samples, for [`interval_of_means`].
    #[serde(skip)]
    pub drawn: Vec<Drawn>,
}

/// Evaluates embeddings `[rows, embed_dim]` of unit length by cosine similarity; `labels` holds the identity of each
/// row.
///
/// Compares every pair, in three rounds over the rows on all threads: genuine pairs, whose similarities are kept and
/// sorted; impostor pairs, counted in coarse bins; impostor pairs again, by exact similarity in the bins that hold the
/// answers. All rates, areas, thresholds and ranks are exact. Memory is 4 bytes per genuine pair and some MiB per
/// thread, whatever the number of impostor pairs.
///
/// # Ties
/// A threshold accepts equal similarities together, and the area counts a tie of a genuine and an impostor pair as
/// half. Ranks go by similarity and then by row, as in [`rank`](crate::rank()).
///
/// # Intervals
/// They come from resampling identities, not pairs, because pairs of one identity are not independent. The bootstrap
/// cannot show events that did not occur. Each interval therefore reaches at least to the exact binomial bound for no
/// event in as many trials as there are identities with two rows (Clopper and Pearson 1934; the rule of three of Hanley
/// and Lippman-Hand 1983); see [`unseen`](super::unseen). For a false accept rate the trials are pairs of identities.
///
/// # Errors
/// The number of labels differs from the rows, there is no genuine or no impostor pair, a value is not finite, or a
/// rate is outside 0 to 1.
pub fn evaluate<'a>(
    embeddings: impl Into<Rows<'a>>,
    labels: &[i64],
    options: &VerificationOptions,
) -> Result<VerificationReport, MetricsError> {
    let embeddings = embeddings.into();
    if labels.len() != embeddings.rows() {
        let found = format!("{} for {} rows", labels.len(), embeddings.rows());
        return Err(MetricsError::Parameter { name: "number of labels", found, allowed: "one per row" });
    }
    embeddings.check_finite("embeddings")?;
    let groups = Groups::of(embeddings, labels, options.distractor);
    let (pairs, [trials, impostor_pairs]) = (groups.genuine(), groups.impostors(options.impostors));
    if pairs == 0 {
        return Err(MetricsError::Empty { what: "genuine pairs: no identity has two rows" });
    }
    if impostor_pairs == 0 {
        return Err(MetricsError::Empty { what: "impostor pairs: all rows are of one identity" });
    }
    let genuine = compare::genuine(&groups);
    let resampling = Resampling { samples: options.resamples, seed: options.seed };
    let draws = Draws::new(&groups, &genuine.sorted, resampling);
    let impostor = compare::impostors(&groups, &genuine, draws.as_ref(), options.impostors);
    let bars = Bars::of(&genuine, &impostor, options.bins.max(1));
    let wanted = wanted_bins(&genuine, &impostor, &options.fars);
    let refined = compare::refine(&groups, wanted, bars.count, |value| bars.at(value), options.impostors);

    let roc = Roc::weighted(points(&genuine, &impostor, &refined));
    let identification = identify(&groups, &genuine, &impostor);
    let drawn = match (&draws, &impostor.drawing) {
        (Some(draws), Some(drawing)) => {
            draws.measure(drawing, identification.as_ref().map(|found| found.rights.as_slice()), &options.fars)?
        }
        _ => Vec::new(),
    };
    let with_pairs = (0..groups.len()).filter(|group| groups.indices(*group).len() > 1).count();
    let interval = |value: &dyn Fn(&Drawn) -> f64| interval(drawn.iter().map(value).collect(), with_pairs);
    let fars = match &draws {
        Some(draws) if options.far_intervals => far_intervals(&groups, draws, &roc, options, trials)?,
        _ => vec![None; options.fars.len()],
    };
    let tar_at = |(at, target): (usize, &f64)| {
        let point = roc.tar_at_far(*target)?;
        let below_resolution = *target * (trials as f64) < 1.0;
        let interval = interval(&|drawn| drawn.tar[at]);
        Ok(TarAtFar { target: *target, point, interval, far_interval: fars[at], below_resolution })
    };
    let eer = roc.eer();
    let histogram = Histogram {
        low: bars.low,
        high: bars.high,
        genuine: bars.shares(genuine.sorted.keys().iter().map(|key| bars.at(similarity(*key)))),
        impostor: refined.bars.iter().map(|count| *count as f64 / impostor_pairs as f64).collect(),
    };
    Ok(VerificationReport {
        samples: labels.len(),
        identities: groups.persons(),
        distractors: groups.len() - groups.persons(),
        trials: Trials { genuine: with_pairs, impostor: trials },
        genuine: pairs,
        impostor: impostor_pairs,
        eer,
        eer_interval: interval(&|drawn| drawn.eer),
        auc: impostor.wins as f64 / 2.0 / pairs as f64 / impostor_pairs as f64,
        auc_interval: interval(&|drawn| drawn.auc),
        tar: options.fars.iter().enumerate().map(tar_at).collect::<Result<_, MetricsError>>()?,
        at_eer: roc.at(eer.threshold),
        rank1_interval: identification.as_ref().and_then(|_| interval(&|drawn| drawn.rank1)),
        identification,
        genuine_mean: genuine.mean,
        impostor_mean: impostor.mean,
        histogram,
        curve: thinned(roc.dropped().points()),
        drawn,
    })
}

/// Intervals of the false accept rates at the thresholds for the options' rates.
fn far_intervals(
    groups: &Groups<'_>,
    draws: &Draws,
    roc: &Roc,
    options: &VerificationOptions,
    trials: u64,
) -> Result<Vec<Option<Interval>>, MetricsError> {
    let thresholds = options.fars.iter().map(|far| Ok(key(roc.tar_at_far(*far)?.threshold)));
    let thresholds: Vec<u32> = thresholds.collect::<Result<_, MetricsError>>()?;
    let mut edges = thresholds.clone();
    edges.sort_unstable();
    edges.dedup();
    let draws = draws.at(edges.clone());
    let accepted = draws.accepted(&compare::count(groups, &draws, options.impostors));
    let trials = usize::try_from(trials).unwrap_or(usize::MAX);
    let of = |threshold: &u32| interval(accepted[edges.partition_point(|edge| edge < threshold)].clone(), trials);
    Ok(thresholds.iter().map(of).collect())
}

/// Coarse bins with at least one pair, from the most similar, with their impostor and genuine pairs.
fn filled<'a>(genuine: &'a Genuine, impostor: &'a Impostor) -> impl Iterator<Item = (usize, [u64; 2])> + 'a {
    let counts = |bin: usize| (bin, [impostor.coarse[bin], genuine.sorted.in_bin(bin).len() as u64]);
    (0..BINS).rev().map(counts).filter(|(_, counts)| *counts != [0, 0])
}

/// Coarse bins that hold an answer, ascending: where the equal error rate is crossed, where each false accept rate is
/// exceeded, and before each of them the last bin that still keeps the rate.
fn wanted_bins(genuine: &Genuine, impostor: &Impostor, fars: &[f64]) -> Vec<usize> {
    let impostors: u64 = impostor.coarse.iter().sum();
    let pairs = genuine.sorted.keys().len();
    let mut asked: Vec<Option<f64>> = fars.iter().copied().map(Some).collect();
    asked.push(None); // the equal error rate
    let (mut wanted, mut so_far, mut before) = (Vec::new(), [0, 0], None);
    for (bin, [more, more_genuine]) in filled(genuine, impostor) {
        so_far = [so_far[0] + more, so_far[1] + more_genuine];
        let (far, tar) = (so_far[0] as f64 / impostors as f64, so_far[1] as f64 / pairs as f64);
        let open = asked.len();
        asked.retain(|rate| match rate {
            Some(rate) => far <= *rate,
            None => far + tar - 1.0 < 0.0,
        });
        if asked.len() < open {
            wanted.extend(before);
            wanted.push(bin);
        }
        before = Some(bin);
    }
    // A rate of 1 accepts everything.
    wanted.extend(before.filter(|_| !asked.is_empty()));
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Similarities in descending order with their impostor and genuine pairs: each one of a refined bin, and the lower
/// edge of every other bin, which accepts the same pairs as the least similarity in it.
fn points<'a>(
    genuine: &'a Genuine,
    impostor: &'a Impostor,
    refined: &'a Refined,
) -> impl Iterator<Item = (f32, [u64; 2])> + 'a {
    filled(genuine, impostor).flat_map(|(bin, counts)| {
        let Some(keys) = refined.keys(bin) else {
            return vec![(similarity((bin as u32) << FINE_BITS), counts)];
        };
        let mut points: BTreeMap<u32, [u64; 2]> = BTreeMap::new();
        for (key, count) in keys {
            points.entry(key).or_default()[0] += count;
        }
        for key in genuine.sorted.in_bin(bin) {
            points.entry(*key).or_default()[1] += 1;
        }
        points.into_iter().rev().map(|(key, counts)| (similarity(key), counts)).collect()
    })
}

/// 95 % interval of the mean of `value` over several networks, measured on the same rows with the same options, so that
/// a bootstrap sample holds the same identities for each. `None` without samples.
pub fn interval_of_means(reports: &[VerificationReport], value: impl Fn(&Drawn) -> f64) -> Option<Interval> {
    let draws = reports.iter().map(|report| report.drawn.len()).min()?;
    let mean = |draw: usize| reports.iter().map(|of| value(&of.drawn[draw])).sum::<f64>() / reports.len() as f64;
    interval((0..draws).map(mean).collect(), reports.iter().map(|report| report.trials.genuine).min()?)
}

impl VerificationReport {
    /// Metrics by their names in logs, as shares from 0 to 1: `EER`, `AUC`, `TAR@1%FAR`, …, `rank1`, `GenuineMean`,
    /// `ImpostorMean`.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::from([
            ("EER".to_owned(), self.eer.rate),
            ("AUC".to_owned(), self.auc),
            ("GenuineMean".to_owned(), self.genuine_mean),
            ("ImpostorMean".to_owned(), self.impostor_mean),
        ]);
        metrics.extend(self.tar.iter().map(|tar| (format!("TAR@{}%FAR", 100.0 * tar.target), tar.point.tar)));
        if let Some(identification) = &self.identification {
            metrics.insert("rank1".into(), identification.rank1);
            metrics.insert("rank1_leave_one_out".into(), identification.leave_one_out_rank1);
        }
        metrics
    }
}

/// Histogram bars of equal width.
struct Bars {
    low: f32,
    high: f32,
    count: usize,
}

impl Bars {
    /// From the least to the largest similarity; for impostors, to the ends of their coarse bins.
    fn of(genuine: &Genuine, impostor: &Impostor, count: usize) -> Self {
        let keys = genuine.sorted.keys();
        let edge = |bin: usize, fine: u32| similarity((bin as u32) << FINE_BITS | fine);
        let bins = || (0..BINS).filter(|bin| impostor.coarse[*bin] > 0);
        let low = bins().next().map_or(f32::INFINITY, |bin| edge(bin, 0));
        let high = bins().next_back().map_or(f32::NEG_INFINITY, |bin| edge(bin, (1 << FINE_BITS) - 1));
        let ends = [keys.first(), keys.last()].map(|key| key.map_or(f32::NAN, |key| similarity(*key)));
        Self { low: low.min(ends[0]), high: high.max(ends[1]), count }
    }

    fn at(&self, value: f32) -> usize {
        let width = (self.high - self.low).max(1e-6);
        (((value - self.low) / width * self.count as f32) as usize).min(self.count - 1)
    }

    fn shares(&self, bars: impl Iterator<Item = usize>) -> Vec<f64> {
        let (mut counts, mut all) = (vec![0_u64; self.count], 0_u64);
        for bar in bars {
            counts[bar] += 1;
            all += 1;
        }
        counts.into_iter().map(|count| count as f64 / all as f64).collect()
    }
}

/// The first point, the last, and every point visibly different from the previous one kept, on a linear or logarithmic
/// axis.
fn thinned(points: &[Point]) -> Vec<Point> {
    let mut kept: Vec<Point> = Vec::new();
    for (at, point) in points.iter().enumerate() {
        let shows = kept.last().is_none_or(|last: &Point| {
            point.tar - last.tar >= 0.0025 || point.far > last.far * 1.02 || (last.far == 0.0) != (point.far == 0.0)
        });
        if point.threshold.is_finite() && (shows || at + 1 == points.len()) {
            kept.push(*point);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Matrix, dot};

    #[test]
    fn means_of_networks_vary_with_the_same_identities() {
        // Forty identities on a circle with two rows each; the second row is turned towards the next identity, by a
        // different amount in each network.
        let measured = |turn: f64| {
            let row = |angle: f64| [angle.cos() as f32, angle.sin() as f32];
            let rows = (0..40).flat_map(|k| [row(0.15 * f64::from(k)), row((0.15 + turn) * f64::from(k))]);
            let matrix = Matrix::new(rows.flatten().collect(), 80, 2).unwrap();
            let labels: Vec<i64> = (0..80).map(|k| k / 2).collect();
            evaluate(&matrix, &labels, &VerificationOptions::default()).unwrap()
        };
        let [one, other] = [0.08, 0.02].map(measured);
        let eer = |of: &[VerificationReport]| interval_of_means(of, |drawn| drawn.eer);
        assert_eq!(eer(std::slice::from_ref(&one)), one.eer_interval);
        assert_eq!(eer(&[one.clone(), one.clone()]), one.eer_interval);
        let mean = (one.eer.rate + other.eer.rate) / 2.0;
        let Interval { low, high } = eer(&[one, other]).unwrap();
        assert!(low <= mean && mean <= high && low < high, "{low} {mean} {high}");
        assert_eq!(eer(&[]), None);
    }

    /// Rows of 3 values on a coarse grid, with many equal similarities, and shuffled labels, one of which is a
    /// distractor's.
    fn crowd(rows: usize, people: i64) -> (Matrix, Vec<i64>) {
        let mut state = 7_u64;
        let mut next = move |of: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % of
        };
        let labels: Vec<i64> = (0..rows).map(|_| next(people as u64) as i64).collect();
        let values = labels.iter().flat_map(|label| {
            let own = [*label as f32, (label * label % 7) as f32, 3.0];
            own.map(|value| (value + next(4) as f32) / 16.0)
        });
        (Matrix::new(values.collect(), rows, 3).unwrap(), labels)
    }

    /// Everything by definition, from lists of all pairs.
    #[test]
    fn equals_the_plain_definitions() {
        let (matrix, labels) = crowd(90, 11);
        let similarity = |a: usize, b: usize| dot(matrix.row(a), matrix.row(b));
        for distractor in [None, Some(0)] {
            let (mut genuine, mut impostor) = (vec![], vec![]);
            for a in 0..90 {
                for b in a + 1..90 {
                    if labels[a] == labels[b] && Some(labels[a]) != distractor {
                        genuine.push(similarity(a, b));
                    } else if labels[a] != labels[b] {
                        impostor.push(similarity(a, b));
                    }
                }
            }
            let roc = Roc::new(&genuine, &impostor).unwrap();
            assert!(roc.points().len() < (genuine.len() + impostor.len()) / 2, "there must be ties");
            let fars = vec![0.0, 1e-4, 1e-3, 0.0101, 0.05, 0.1, 0.5, 0.9, 1.0];
            let options = VerificationOptions { fars, distractor, ..VerificationOptions::default() };
            let found = evaluate(&matrix, &labels, &options).unwrap();
            assert_eq!((found.genuine, found.impostor), (genuine.len() as u64, impostor.len() as u64));
            assert_eq!((found.eer, found.at_eer), (roc.eer(), roc.at(roc.eer().threshold)));
            assert!((found.auc - roc.auc()).abs() < 1e-12, "{} {}", found.auc, roc.auc());
            for tar in &found.tar {
                assert_eq!(tar.point, roc.tar_at_far(tar.target).unwrap(), "{tar:?}");
            }
            let mean = |of: &[f32]| of.iter().map(|one| f64::from(*one)).sum::<f64>() / of.len() as f64;
            assert!((found.genuine_mean - mean(&genuine)).abs() < 1e-12);
            assert!((found.impostor_mean - mean(&impostor)).abs() < 1e-12);
            for point in &found.curve {
                let accepted = |of: &[f32]| of.iter().filter(|one| **one >= point.threshold).count() as f64;
                assert_eq!(point.far, accepted(&impostor) / impostor.len() as f64, "{point:?}");
                assert_eq!(point.tar, accepted(&genuine) / genuine.len() as f64, "{point:?}");
            }
            let shares = |of: &[f64]| of.iter().sum::<f64>();
            assert!((shares(&found.histogram.genuine) - 1.0).abs() < 1e-9);
            assert!((shares(&found.histogram.impostor) - 1.0).abs() < 1e-9);

            // Leave-one-out by a full sort of the others; two distractors are not compared.
            let mut right = (0, 0);
            for a in 0..90 {
                let own = |b: &usize| labels[*b] == labels[a];
                if Some(labels[a]) == distractor || (0..90).filter(own).count() < 2 {
                    continue;
                }
                let mut others: Vec<usize> = (0..90).filter(|b| *b != a).collect();
                others.sort_by(|b, c| similarity(a, *c).total_cmp(&similarity(a, *b)).then(b.cmp(c)));
                right = (right.0 + usize::from(own(&others[0])), right.1 + 1);
            }
            let identification = found.identification.unwrap();
            assert_eq!(identification.leave_one_out_rank1, right.0 as f64 / right.1 as f64);
            // The first row of each identity is enrolled, and so is every distractor.
            let first = |label: i64| labels.iter().position(|other| *other == label).unwrap();
            let enrolled = |row: &usize| Some(labels[*row]) == distractor || first(labels[*row]) == *row;
            let (gallery, probes): (Vec<usize>, Vec<usize>) = (0..90).partition(enrolled);
            let mut cmc = vec![0.0; gallery.len().min(50)];
            for probe in &probes {
                let mut order = gallery.clone();
                order.sort_by(|b, c| similarity(*probe, *c).total_cmp(&similarity(*probe, *b)).then(b.cmp(c)));
                let rank = order.iter().position(|row| *row == first(labels[*probe])).unwrap();
                cmc.iter_mut().skip(rank).for_each(|hits| *hits += 1.0 / probes.len() as f64);
            }
            assert_eq!((identification.probes, identification.gallery), (probes.len(), gallery.len()));
            for (found, wanted) in identification.cmc.iter().zip(&cmc) {
                assert!((found - wanted).abs() < 1e-9, "{:?}\n{cmc:?}", identification.cmc);
            }
        }
    }

    /// A bootstrap sample is the set with identities repeated: evaluating such a set gives the same numbers.
    #[test]
    fn a_sample_is_a_set_with_repeated_identities() {
        let (matrix, labels) = crowd(40, 6);
        let options = VerificationOptions { resamples: 5, ..VerificationOptions::default() };
        let found = evaluate(&matrix, &labels, &options).unwrap();
        let groups = Groups::of(matrix.view(), &labels, None);
        let genuine = compare::genuine(&groups);
        for (sample, drawn) in found.drawn.iter().enumerate() {
            let draws = Draws::new(&groups, &genuine.sorted, Resampling { samples: 5, seed: options.seed }).unwrap();
            let times: Vec<u32> = (0..groups.len()).map(|group| draws.times(group, sample)).collect();
            assert_eq!(times.iter().sum::<u32>() as usize, groups.len());
            let (mut same, mut other) = (vec![], vec![]);
            for a in 0..40 {
                for b in a + 1..40 {
                    let [x, y] = [a, b].map(|index| groups.group_at[index] as usize);
                    let similarity = dot(matrix.row(groups.row_at[a]), matrix.row(groups.row_at[b]));
                    let count = if x == y { times[x] } else { times[x] * times[y] };
                    let list = if x == y { &mut same } else { &mut other };
                    list.extend(std::iter::repeat_n(similarity, count as usize));
                }
            }
            let roc = Roc::new(&same, &other).unwrap();
            assert!((drawn.eer - roc.eer().rate).abs() < 1e-12 && (drawn.auc - roc.auc()).abs() < 1e-12, "{drawn:?}");
            for (tar, far) in drawn.tar.iter().zip(&options.fars) {
                assert_eq!(*tar, roc.tar_at_far(*far).unwrap().tar);
            }
        }
    }

    /// The share of accepted pairs in each set with repeated identities, at the threshold of the whole set.
    #[test]
    fn intervals_of_false_accept_rates_are_those_of_repeated_sets() {
        let (matrix, labels) = crowd(40, 6);
        let fars = vec![0.5, 0.1, 0.02];
        let options =
            VerificationOptions { fars, resamples: 40, far_intervals: true, ..VerificationOptions::default() };
        let found = evaluate(&matrix, &labels, &options).unwrap();
        let groups = Groups::of(matrix.view(), &labels, None);
        let genuine = compare::genuine(&groups);
        let draws = Draws::new(&groups, &genuine.sorted, Resampling { samples: 40, seed: options.seed }).unwrap();
        for tar in &found.tar {
            let of_sample = |sample: usize| {
                let (mut accepted, mut all) = (0, 0);
                for (a, b) in (0..40).flat_map(|a| (a + 1..40).map(move |b| (a, b))) {
                    let [x, y] = [a, b].map(|index| groups.group_at[index] as usize);
                    let count = if x == y { 0 } else { draws.times(x, sample) * draws.times(y, sample) };
                    let similarity = dot(matrix.row(groups.row_at[a]), matrix.row(groups.row_at[b]));
                    all += count;
                    accepted += if similarity >= tar.point.threshold { count } else { 0 };
                }
                (all > 0).then(|| f64::from(accepted) / f64::from(all))
            };
            let shares: Vec<f64> = (0..40).filter_map(of_sample).collect();
            assert_eq!(tar.far_interval, interval(shares, 15), "15 pairs of 6 identities");
            let Interval { low, high } = tar.far_interval.unwrap();
            assert!(low <= tar.point.far && tar.point.far <= high, "{tar:?}");
        }
        let without = VerificationOptions { far_intervals: false, ..options };
        assert!(evaluate(&matrix, &labels, &without).unwrap().tar.iter().all(|tar| tar.far_interval.is_none()));
    }

    #[test]
    fn nothing_depends_on_the_threads() {
        let (matrix, labels) = crowd(200, 30);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| evaluate(&matrix, &labels, &VerificationOptions::default()).unwrap())
        };
        assert_eq!(with(1), with(5));
    }

    /// One embedding for every picture: every rank is chance, however it is counted.
    #[test]
    fn a_collapsed_network_recognises_nobody() {
        let labels: Vec<i64> = (0..60).map(|row| row / 3).collect();
        let found = evaluate(&Matrix::new(vec![1.0; 60], 60, 1).unwrap(), &labels, &VerificationOptions::default());
        let found = found.unwrap();
        assert_eq!((found.eer.rate, found.auc), (0.5, 0.5));
        assert!(found.tar.iter().all(|tar| tar.point.tar == 0.0));
        let identification = found.identification.unwrap();
        assert!((identification.rank1 - 1.0 / 20.0).abs() < 1e-12, "{}", identification.rank1);
        assert!((identification.leave_one_out_rank1 - 1.0 / 20.0).abs() < 1e-12);
    }

    /// Three identities that are told apart without error say little about a fourth.
    #[test]
    fn no_interval_is_tighter_than_its_identities_allow() {
        let rows = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [-1.0, 0.0], [-1.0, 0.0]].concat();
        let labels = [0, 0, 1, 1, 2, 2];
        let found = evaluate(&Matrix::new(rows, 6, 2).unwrap(), &labels, &VerificationOptions::default()).unwrap();
        assert_eq!((found.eer.rate, found.trials), (0.0, Trials { genuine: 3, impostor: 3 }));
        let unseen = crate::bootstrap::unseen(3);
        assert_eq!(found.eer_interval, Some(Interval { low: 0.0, high: unseen }));
        let lower = Some(Interval { low: 1.0 - unseen, high: 1.0 });
        assert_eq!((found.auc_interval, found.rank1_interval, found.tar[0].interval), (lower, lower, lower));
        assert!(found.tar.iter().all(|tar| tar.below_resolution), "3 pairs of identities cannot show rates below 1/3");
    }

    #[test]
    fn distractors_are_impostors_and_nobody_else() {
        let rows = [[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]].concat();
        let options = VerificationOptions { distractor: Some(0), ..VerificationOptions::default() };
        let found = evaluate(&Matrix::new(rows, 5, 2).unwrap(), &[5, 5, 0, 0, 0], &options).unwrap();
        assert_eq!((found.identities, found.distractors, found.genuine, found.impostor), (1, 3, 1, 6));
        assert_eq!(found.trials, Trials { genuine: 1, impostor: 3 });
    }
}
