//! Embeddings and labels to everything that is said about a verifier, with intervals by identity.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::identification::{Identification, identify};
use super::pairs::{Groups, Impostors, Pair};
use super::{AtThreshold, EqualError, Point, Roc, Scored};
use crate::distance::dot;
use crate::{Matrix, MetricsError};

/// What is measured, and how surely.
#[derive(Debug, Clone, PartialEq)]
pub struct VerificationOptions {
    /// Which pairs of two identities count.
    pub impostors: Impostors,
    /// False accept rates at which the true accept rate is told.
    pub fars: Vec<f64>,
    /// Bootstrap samples of the identities; 0: no intervals.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
    /// Bars of the histograms.
    pub bins: usize,
}

impl Default for VerificationOptions {
    fn default() -> Self {
        Self {
            impostors: Impostors::Exhaustive,
            fars: vec![1e-1, 1e-2, 1e-3, 1e-4],
            resamples: 200,
            seed: 42,
            bins: 50,
        }
    }
}

/// 95 % of the bootstrap's values lie between these.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Interval {
    /// 2.5 % lie below.
    pub low: f64,
    /// 2.5 % lie above.
    pub high: f64,
}

/// True accept rate at a promised false accept rate.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TarAtFar {
    /// The promise.
    pub target: f64,
    /// The last point of the curve that keeps it; its threshold is infinite where every impostor must be refused.
    #[serde(flatten)]
    pub point: Point,
    /// 95 % interval of the true accept rate.
    pub interval: Option<Interval>,
    /// Fewer impostor pairs than one over the target: says no more than that none was accepted.
    pub below_resolution: bool,
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
    /// Rows.
    pub samples: usize,
    /// Identities.
    pub identities: usize,
    /// Genuine pairs.
    pub genuine: usize,
    /// Impostor pairs.
    pub impostor: usize,
    /// Equal error rate.
    pub eer: EqualError,
    /// 95 % interval of the equal error rate.
    pub eer_interval: Option<Interval>,
    /// Area under the curve.
    pub auc: f64,
    /// 95 % interval of the area.
    pub auc_interval: Option<Interval>,
    /// True accept rates at false accept rates.
    pub tar: Vec<TarAtFar>,
    /// What the threshold of the equal error rate does.
    pub at_eer: AtThreshold,
    /// Identification, where an identity has a second row.
    pub identification: Option<Identification>,
    /// 95 % interval of the identification's rank 1.
    pub rank1_interval: Option<Interval>,
    /// Mean similarity of genuine pairs.
    pub genuine_mean: f64,
    /// Mean similarity of impostor pairs.
    pub impostor_mean: f64,
    /// Similarities of both kinds of pairs.
    pub histogram: Histogram,
    /// The curve, thinned to what an eye can tell apart.
    pub curve: Vec<Point>,
    /// What the bootstrap drew, for [`interval_of_means`].
    #[serde(skip)]
    pub drawn: Vec<Drawn>,
}

/// Measures embeddings `[rows, embed_dim]` of unit length by cosine similarity; `labels` say whose each row is.
///
/// Intervals come from drawing the identities, not the pairs: pairs of one identity are not independent.
///
/// # Errors
/// Labels that are not one per row, no genuine or no impostor pair, a value that is not finite, a rate outside 0 to 1.
pub fn evaluate(
    embeddings: &Matrix,
    labels: &[i64],
    options: &VerificationOptions,
) -> Result<VerificationReport, MetricsError> {
    if labels.len() != embeddings.rows() {
        let found = format!("{} for {} rows", labels.len(), embeddings.rows());
        return Err(MetricsError::Parameter { name: "number of labels", found, allowed: "one per row" });
    }
    embeddings.check_finite("embeddings")?;
    let groups = Groups::of(labels);
    let (genuine, impostors) = (groups.genuine(), groups.impostors(options.impostors));
    if genuine.is_empty() {
        return Err(MetricsError::Empty { what: "genuine pairs: no identity has two rows" });
    }
    if impostors.is_empty() {
        return Err(MetricsError::Empty { what: "impostor pairs: all rows are of one identity" });
    }
    let mut scores = scored(embeddings, &genuine, true);
    scores.extend(scored(embeddings, &impostors, false));
    let mean = |of: &[Scored]| of.iter().map(|one| f64::from(one.similarity)).sum::<f64>() / of.len() as f64;
    let (genuine_mean, impostor_mean) = (mean(&scores[..genuine.len()]), mean(&scores[genuine.len()..]));
    let histogram = histogram(&scores, genuine.len(), options.bins.max(1));
    scores.par_sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    let roc = Roc::weighted(scores.iter().map(|one| (one.similarity, one.genuine, 1)));
    let identification = identify(embeddings, &groups);
    let drawn = bootstrap(&scores, &groups, identification.as_ref(), options)?;
    let interval = |value: &dyn Fn(&Drawn) -> f64| interval(drawn.iter().map(value).collect());
    let tar_at = |(at, target): (usize, &f64)| {
        let point = roc.tar_at_far(*target)?;
        let below_resolution = *target * (impostors.len() as f64) < 1.0;
        Ok(TarAtFar { target: *target, point, interval: interval(&|drawn| drawn.tar[at]), below_resolution })
    };
    let eer = roc.eer();
    Ok(VerificationReport {
        samples: labels.len(),
        identities: groups.rows.len(),
        genuine: genuine.len(),
        impostor: impostors.len(),
        eer,
        eer_interval: interval(&|drawn| drawn.eer),
        auc: roc.auc(),
        auc_interval: interval(&|drawn| drawn.auc),
        tar: options.fars.iter().enumerate().map(tar_at).collect::<Result<_, MetricsError>>()?,
        at_eer: roc.at(eer.threshold),
        rank1_interval: identification.as_ref().and_then(|_| interval(&|drawn| drawn.rank1)),
        identification,
        genuine_mean,
        impostor_mean,
        histogram,
        curve: thinned(roc.dropped().points()),
        drawn,
    })
}

/// 95 % interval of the mean `value` of several networks, measured on the same rows with the same options: a draw holds the same
/// identities for each. None where nothing was drawn.
pub fn interval_of_means(reports: &[VerificationReport], value: impl Fn(&Drawn) -> f64) -> Option<Interval> {
    let draws = reports.iter().map(|report| report.drawn.len()).min()?;
    let mean = |draw: usize| reports.iter().map(|of| value(&of.drawn[draw])).sum::<f64>() / reports.len() as f64;
    interval((0..draws).map(mean).collect())
}

impl VerificationReport {
    /// Metrics by the names of logs, shares from 0 to 1: `EER`, `AUC`, `TAR@1%FAR` …, `rank1`, `GenuineMean`, `ImpostorMean`.
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

fn scored(embeddings: &Matrix, pairs: &[Pair], genuine: bool) -> Vec<Scored> {
    let score = |pair: &Pair| Scored {
        similarity: dot(embeddings.row(pair.rows[0]), embeddings.row(pair.rows[1])),
        genuine,
        identities: pair.identities,
    };
    pairs.par_iter().map(score).collect()
}

/// What one bootstrap sample gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawn {
    /// Equal error rate.
    pub eer: f64,
    /// Area under the curve.
    pub auc: f64,
    /// True accept rate at each false accept rate of the options.
    pub tar: Vec<f64>,
    /// Rank 1; 0 without identification.
    pub rank1: f64,
}

/// Draws as many identities as there are, with replacement. A pair counts as often as its identity was drawn, a pair of two
/// as often as both were: their product.
fn bootstrap(
    scores: &[Scored],
    groups: &Groups,
    identification: Option<&Identification>,
    options: &VerificationOptions,
) -> Result<Vec<Drawn>, MetricsError> {
    let count = groups.rows.len();
    let draw = |sample: usize| -> Option<Result<Drawn, MetricsError>> {
        let mut times = vec![0_u64; count];
        let mut rng = splitmix64(options.seed.wrapping_add(splitmix64(sample as u64)));
        for _ in 0..count {
            rng = rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
            times[((u128::from(splitmix64(rng)) * count as u128) >> 64) as usize] += 1;
        }
        let weight = |one: &Scored| {
            let [a, b] = one.identities.map(|identity| times[identity as usize]);
            if one.genuine { a } else { a * b }
        };
        let roc = Roc::weighted(scores.iter().map(|one| (one.similarity, one.genuine, weight(one))));
        // A sample of one identity many times, or of identities without a second row, measures nothing.
        if roc.genuine == 0 || roc.impostor == 0 {
            return None;
        }
        let (mut right, mut probes) = (0, 0);
        for (flags, times) in identification.iter().flat_map(|one| &one.right).zip(&times) {
            right += times * flags.iter().filter(|right| **right).count() as u64;
            probes += times * flags.len() as u64;
        }
        let tar: Result<_, _> = options.fars.iter().map(|far| roc.tar_at_far(*far).map(|point| point.tar)).collect();
        let rank1 = right as f64 / probes.max(1) as f64;
        Some(tar.map(|tar| Drawn { eer: roc.eer().rate, auc: roc.auc(), tar, rank1 }))
    };
    (0..options.resamples).into_par_iter().filter_map(draw).collect()
}

/// Vigna's mixing function, to draw the same identities on every platform.
fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn interval(mut values: Vec<f64>) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let quantile = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (!values.is_empty()).then(|| Interval { low: quantile(0.025), high: quantile(0.975) })
}

fn histogram(scores: &[Scored], genuine: usize, bins: usize) -> Histogram {
    let fold = |start: f32, pick: fn(f32, f32) -> f32| scores.iter().map(|one| one.similarity).fold(start, pick);
    let (low, high) = (fold(f32::INFINITY, f32::min), fold(f32::NEG_INFINITY, f32::max));
    let width = (high - low).max(1e-6);
    let shares = |of: &[Scored]| {
        let mut bars = vec![0.0; bins];
        for one in of {
            bars[(((one.similarity - low) / width * bins as f32) as usize).min(bins - 1)] += 1.0 / of.len() as f64;
        }
        bars
    };
    Histogram { low, high, genuine: shares(&scores[..genuine]), impostor: shares(&scores[genuine..]) }
}

/// Points that differ from the last one kept by what shows, on a linear and on a logarithmic axis; the first and the last.
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

    #[test]
    fn means_of_networks_vary_with_the_same_identities() {
        // Ten identities on a circle, two rows each, the second turned towards the next identity, by another amount in each network.
        let measured = |turn: f64| {
            let row = |angle: f64| [angle.cos() as f32, angle.sin() as f32];
            let rows = (0..10).flat_map(|k| [row(0.6 * f64::from(k)), row((0.6 + turn) * f64::from(k))]);
            let matrix = Matrix::new(rows.flatten().collect(), 20, 2).unwrap();
            let labels: Vec<i64> = (0..20).map(|k| k / 2).collect();
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
}
