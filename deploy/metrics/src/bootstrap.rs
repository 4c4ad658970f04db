//! Confidence intervals by bootstrap: identities are drawn with replacement and everything is measured again. Rows and
//! queries of one identity are not independent, so they are never drawn one by one.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// A 95 % interval: the central part of the bootstrap's values, but never tighter than the number of identities allows;
/// see [`unseen`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// 2.5 % of the values are lower.
    pub low: f64,
    /// 2.5 % of the values are higher.
    pub high: f64,
}

/// A mean and how far it can be trusted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) interval: Option<Interval>,
}

/// How often identities are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resampling {
    /// Samples; 0 for no intervals.
    pub(crate) samples: usize,
    pub(crate) seed: u64,
}

impl Default for Resampling {
    fn default() -> Self {
        Self { samples: 200, seed: 42 }
    }
}

impl Resampling {
    /// The random numbers of a sample, each below what it is asked for; the same ones on every platform.
    pub(crate) fn numbers(self, sample: usize) -> impl FnMut(usize) -> usize {
        let mut rng = splitmix64(self.seed.wrapping_add(splitmix64(sample as u64)));
        move |below| {
            rng = rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
            ((u128::from(splitmix64(rng)) * below as u128) >> 64) as usize
        }
    }

    /// The groups of a sample: `count` of as many, with replacement.
    pub(crate) fn groups(self, sample: usize, count: usize) -> impl Iterator<Item = usize> {
        let mut number = self.numbers(sample);
        (0..count).map(move |_| number(count))
    }

    /// Means of `N` values over trials. `groups` holds, for each group, the number of its trials and the sums of their
    /// values; groups without a trial do not count. Without any trial the means are not numbers.
    pub(crate) fn means<const N: usize>(self, mut groups: Vec<(f64, [f64; N])>) -> [Estimate; N] {
        groups.retain(|(trials, _)| *trials > 0.0);
        let over = |some: &mut dyn Iterator<Item = usize>| -> [f64; N] {
            let (mut trials, mut sums) = (0.0, [0.0; N]);
            for group in some {
                let (more, values) = &groups[group];
                trials += more;
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
            sums.map(|sum| sum / trials)
        };
        let means = over(&mut (0..groups.len()));
        let draw = |sample: usize| over(&mut self.groups(sample, groups.len()));
        let samples = if groups.is_empty() { 0 } else { self.samples };
        let drawn: Vec<[f64; N]> = (0..samples).into_par_iter().map(draw).collect();
        std::array::from_fn(|at| {
            let values = drawn.iter().map(|means| means[at]).collect();
            Estimate { mean: means[at], interval: interval(values, groups.len()) }
        })
    }
}

/// Vigna's mixing function.
fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The 95 % interval of a rate with bootstrap `values`, measured on `identities`.
pub(crate) fn interval(mut values: Vec<f64>, identities: usize) -> Option<Interval> {
    values.sort_by(f64::total_cmp);
    let quantile = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let unseen = unseen(identities);
    (!values.is_empty()).then(|| Interval { low: quantile(0.025).min(1.0 - unseen), high: quantile(0.975).max(unseen) })
}

/// Upper 97.5 % confidence bound on the rate of an event that occurred in none of `trials` independent trials (Clopper
/// and Pearson 1934, exact): about 3.7 / trials, the two-sided form of the rule of three.
pub fn unseen(trials: usize) -> f64 {
    1.0 - 0.025_f64.powf(1.0 / trials.max(1) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_in_n_identities_bounds_the_rate() {
        // Exact binomial: 0 of 3, and about 3.7 / n for many.
        assert!((unseen(3) - 0.7076).abs() < 1e-4 && (unseen(1000) - 0.003_682).abs() < 1e-6);
        assert_eq!(interval(vec![0.0; 200], 3), Some(Interval { low: 0.0, high: unseen(3) }));
        assert_eq!(interval(vec![1.0; 200], 3), Some(Interval { low: 1.0 - unseen(3), high: 1.0 }));
        assert_eq!(interval(vec![], 3), None);
        let wide: Vec<f64> = (0..201).map(|at| f64::from(at) / 200.0).collect();
        assert_eq!(interval(wide, 1000), Some(Interval { low: 0.025, high: 0.975 }));
    }

    /// Each sample's mean is that of the groups it drew, each as often as it drew it.
    #[test]
    fn means_are_those_of_the_drawn_groups() {
        let groups = vec![(2.0, [1.0, 0.5]), (0.0, [0.0, 0.0]), (1.0, [1.0, 0.25]), (5.0, [0.0, 4.0])];
        let resampling = Resampling { samples: 40, seed: 7 };
        let found = resampling.means(groups.clone());
        let counted: Vec<_> = groups.iter().filter(|(trials, _)| *trials > 0.0).collect();
        for (at, estimate) in found.into_iter().enumerate() {
            let mean = |some: &[usize]| {
                let trials: f64 = some.iter().map(|group| counted[*group].0).sum();
                some.iter().map(|group| counted[*group].1[at]).sum::<f64>() / trials
            };
            assert_eq!(estimate.mean, mean(&[0, 1, 2]));
            let drawn = (0..40).map(|sample| mean(&resampling.groups(sample, 3).collect::<Vec<_>>())).collect();
            assert_eq!(estimate.interval, interval(drawn, 3));
        }
        let [none] = Resampling { samples: 0, seed: 7 }.means(vec![(2.0, [1.0])]);
        assert_eq!((none.mean, none.interval), (0.5, None));
        let [nothing] = Resampling::default().means::<1>(Vec::new());
        assert!(nothing.mean.is_nan() && nothing.interval.is_none());
    }

    #[test]
    fn samples_differ_and_repeat() {
        let of = |seed, sample| Resampling { samples: 2, seed }.groups(sample, 50).collect::<Vec<_>>();
        assert_eq!(of(1, 0), of(1, 0));
        assert!(of(1, 0) != of(1, 1) && of(1, 0) != of(2, 0));
        assert!(of(1, 0).iter().all(|group| *group < 50));
    }
}
