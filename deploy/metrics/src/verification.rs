//! Verification, 1:1: how well a threshold on the similarity tells genuine pairs from impostor pairs.

mod compare;
mod draws;
pub(crate) mod groups;
mod identification;
mod keys;
mod report;

use serde::{Deserialize, Serialize};

use crate::MetricsError;

pub use crate::bootstrap::{Interval, unseen};
pub use draws::Drawn;
pub use groups::Impostors;
pub use identification::Identification;
pub use report::{Histogram, TarAtFar, Trials, VerificationOptions, VerificationReport, evaluate, interval_of_means};

/// A point of a ROC curve. A pair is accepted if its similarity is at least the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Smallest accepted similarity.
    pub threshold: f32,
    /// Share of impostor pairs accepted (false accept rate), 0 to 1.
    pub far: f64,
    /// Share of genuine pairs accepted (true accept rate), 0 to 1.
    pub tar: f64,
}

/// Equal error rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EqualError {
    /// Rate at which false accepts and false rejects meet, 0 to 1.
    pub rate: f64,
    /// Threshold at which they meet.
    pub threshold: f32,
}

/// Rates at a given threshold.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AtThreshold {
    /// Smallest accepted similarity.
    pub threshold: f32,
    /// Share of impostor pairs accepted, 0 to 1.
    pub far: f64,
    /// Share of genuine pairs rejected, 0 to 1.
    pub frr: f64,
    /// Share of all pairs that are classified correctly, 0 to 1.
    pub accuracy: f64,
}

/// Receiver operating characteristic.
#[derive(Debug, Clone, PartialEq)]
pub struct Roc {
    points: Vec<Point>,
    /// Pairs of each kind.
    genuine: u64,
    impostor: u64,
}

impl Roc {
    /// From similarities (larger is closer) of genuine pairs and of impostor pairs.
    ///
    /// # Errors
    /// No genuine or no impostor pair, or a similarity that is not finite.
    pub fn new(genuine: &[f32], impostor: &[f32]) -> Result<Self, MetricsError> {
        check(genuine, "genuine similarities")?;
        check(impostor, "impostor similarities")?;
        let kinds = [(genuine, true), (impostor, false)];
        let count = |kind: bool| [u64::from(!kind), u64::from(kind)];
        let mut all: Vec<(f32, [u64; 2])> = kinds
            .into_iter()
            .flat_map(|(values, kind)| values.iter().map(move |value| (*value, count(kind))))
            .collect();
        all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        Ok(Self::weighted(all.into_iter()))
    }

    /// From similarities in descending order with the number of impostor and genuine pairs at each. Equal similarities
    /// form one point, because a threshold accepts all or none of them.
    fn weighted(descending: impl Iterator<Item = (f32, [u64; 2])>) -> Self {
        let mut counts: Vec<(f32, [u64; 2])> = vec![(f32::INFINITY, [0, 0])];
        let mut so_far = [0, 0];
        for (similarity, more) in descending.filter(|(_, more)| *more != [0, 0]) {
            so_far = [so_far[0] + more[0], so_far[1] + more[1]];
            match counts.last_mut() {
                Some((threshold, counts)) if *threshold == similarity => *counts = so_far,
                _ => counts.push((similarity, so_far)),
            }
        }
        let [impostor, genuine] = so_far;
        let point = |(threshold, [far, tar]): (f32, [u64; 2])| Point {
            threshold,
            far: far as f64 / impostor.max(1) as f64,
            tar: tar as f64 / genuine.max(1) as f64,
        };
        Self { points: counts.into_iter().map(point).collect(), genuine, impostor }
    }

    /// One point per distinct similarity, from "accept nothing" (threshold infinite) to "accept all".
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Area under the curve, 0 to 1: the probability that a genuine pair is more similar than an impostor pair, where a
    /// tie counts half.
    pub fn auc(&self) -> f64 {
        self.points.windows(2).map(|pair| (pair[1].far - pair[0].far) * (pair[1].tar + pair[0].tar) / 2.0).sum()
    }

    /// The point where false accept and false reject rate are equal, interpolated linearly between neighbouring points.
    pub fn eer(&self) -> EqualError {
        // far + tar - 1 rises from -1 to 1, so exactly one pair of neighbours encloses the crossing.
        let excess = |point: &Point| point.far + point.tar - 1.0;
        let at = self.points.partition_point(|point| excess(point) < 0.0).max(1);
        let (before, after) = (&self.points[at - 1], &self.points[at]);
        let share = -excess(before) / (excess(after) - excess(before));
        let rate = before.far + share * (after.far - before.far);
        let threshold = if before.threshold.is_finite() {
            let (before, after) = (f64::from(before.threshold), f64::from(after.threshold));
            (before + share * (after - before)) as f32
        } else {
            after.threshold
        };
        EqualError { rate, threshold }
    }

    /// The point of highest true accept rate whose false accept rate is at most `far`, not interpolated: on these
    /// pairs, its threshold keeps the rate. If `far` is below one over the number of impostor pairs, no impostor pair
    /// was accepted, and nothing more precise can be said.
    ///
    /// # Errors
    /// `far` is outside 0 to 1.
    pub fn tar_at_far(&self, far: f64) -> Result<Point, MetricsError> {
        if !(0.0..=1.0).contains(&far) {
            return Err(MetricsError::Parameter { name: "far", found: far.to_string(), allowed: "0 to 1" });
        }
        let at = self.points.partition_point(|point| point.far <= far);
        Ok(self.points[at - 1])
    }

    /// Rates when similarities of at least `threshold` are accepted.
    pub fn at(&self, threshold: f32) -> AtThreshold {
        let at = self.points.partition_point(|point| point.threshold >= threshold).max(1);
        let Point { far, tar, .. } = self.points[at - 1];
        let (genuine, impostor) = (self.genuine as f64, self.impostor as f64);
        let accuracy = (tar * genuine + (1.0 - far) * impostor) / (genuine + impostor);
        AtThreshold { threshold, far, frr: 1.0 - tar, accuracy }
    }

    /// The curve without points on straight lines between their neighbours, as scikit-learn drops them. Area and equal
    /// error rate stay the same, but a rate read off the remaining points may be lower than on the full curve.
    pub fn dropped(&self) -> Self {
        let counts = |point: &Point| {
            let count = |share: f64, of: u64| (share * of as f64).round() as i64;
            [count(point.far, self.impostor), count(point.tar, self.genuine)]
        };
        let bends = |at: usize| {
            let [before, here, after] = [at - 1, at, at + 1].map(|at| counts(&self.points[at]));
            (0..2).any(|kind| after[kind] - 2 * here[kind] + before[kind] != 0)
        };
        let last = self.points.len() - 1;
        let kept = (0..=last).filter(|at| *at <= 1 || *at == last || bends(*at));
        Self { points: kept.map(|at| self.points[at]).collect(), ..*self }
    }
}

fn check(values: &[f32], what: &'static str) -> Result<(), MetricsError> {
    if values.is_empty() {
        return Err(MetricsError::Empty { what });
    }
    match values.iter().position(|value| !value.is_finite()) {
        Some(row) => Err(MetricsError::NotFinite { what, row, col: 0, value: values[row].to_string() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand. Descending: 0.9 g, 0.8 g, 0.7 i, 0.6 g, 0.5 i, 0.4 i, 0.3 g, 0.2 i.
    /// Of the 16 combinations of a genuine and an impostor pair, the genuine is higher in 4 + 4 + 3 + 1 = 12: AUC 0.75.
    /// (far, tar): 0.7 (1/4, 2/4), 0.6 (1/4, 3/4): at 0.6 far = 1 - tar = 1/4, the EER.
    #[test]
    fn curve_by_hand() {
        let roc = Roc::new(&[0.3, 0.9, 0.6, 0.8], &[0.7, 0.2, 0.5, 0.4]).unwrap();
        assert_eq!(roc.points().len(), 9);
        assert_eq!(roc.auc(), 0.75);
        assert_eq!(roc.eer(), EqualError { rate: 0.25, threshold: 0.6 });
        assert_eq!(roc.tar_at_far(0.0).unwrap(), Point { threshold: 0.8, far: 0.0, tar: 0.5 });
        assert_eq!(roc.tar_at_far(0.3).unwrap(), Point { threshold: 0.6, far: 0.25, tar: 0.75 });
        assert_eq!(roc.tar_at_far(1.0).unwrap().tar, 1.0);
    }

    /// (far, tar): 0.8 (0, 1/2), 0.6 (1, 1/2), 0.4 (1, 1): the crossing is half-way between the first two.
    #[test]
    fn equal_error_between_two_points() {
        let roc = Roc::new(&[0.8, 0.4], &[0.6]).unwrap();
        let eer = roc.eer();
        assert!((eer.rate - 0.5).abs() < 1e-12 && (eer.threshold - 0.7).abs() < 1e-6);
        assert_eq!(roc.auc(), 0.5);
    }

    #[test]
    fn separable_and_tied_pairs() {
        let roc = Roc::new(&[0.9, 0.8], &[0.1, 0.2]).unwrap();
        assert_eq!((roc.auc(), roc.eer().rate, roc.eer().threshold), (1.0, 0.0, 0.8));
        let roc = Roc::new(&[0.5; 3], &[0.5; 2]).unwrap();
        assert_eq!((roc.auc(), roc.eer().rate), (0.5, 0.5));
        assert_eq!(roc.tar_at_far(0.1).unwrap().tar, 0.0);
    }

    #[test]
    fn nothing_to_measure_is_an_error() {
        assert_eq!(Roc::new(&[], &[0.1]).unwrap_err().to_string(), "no genuine similarities");
        assert!(Roc::new(&[0.1], &[f32::NAN]).unwrap_err().to_string().contains("impostor similarities row 0"));
        assert!(Roc::new(&[0.1], &[0.1]).unwrap().tar_at_far(f64::NAN).is_err());
    }
}
