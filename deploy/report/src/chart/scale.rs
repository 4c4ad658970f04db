//! How values are laid out along an axis, and which of them are labelled.

/// How values of an axis are spread along it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Evenly.
    Linear {
        /// Least value.
        low: f64,
        /// Greatest value.
        high: f64,
    },
    /// By their logarithm; both ends are above 0.
    Log {
        /// Least value.
        low: f64,
        /// Greatest value.
        high: f64,
    },
    /// By the normal deviate, as detection error trade-offs are drawn (Martin et al., The DET curve, 1997); both ends
    /// are between 0 and 1.
    Probit {
        /// Least value.
        low: f64,
        /// Greatest value.
        high: f64,
    },
}

/// How a value is written beside an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// As it is.
    Number,
    /// A share of 1 as percent.
    Percent,
    /// A count: there is no tick between two whole numbers.
    Whole,
}

/// Shares that a probit axis labels.
const PROBIT_TICKS: [f64; 11] = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8];

/// Most decades that are labelled one by one.
const DECADES: i32 = 7;

impl Scale {
    pub(super) fn ends(self) -> [f64; 2] {
        let (Self::Linear { low, high } | Self::Log { low, high } | Self::Probit { low, high }) = self;
        [low, high]
    }

    fn warp(self, value: f64) -> f64 {
        match self {
            Self::Linear { .. } => value,
            Self::Log { .. } => value.log10(),
            Self::Probit { .. } => probit(value),
        }
    }

    /// Where a value is drawn: 0 at the low end, 1 at the high one; values beyond an end are drawn at it.
    pub(super) fn position(self, value: f64) -> f64 {
        let [low, high] = self.ends();
        let [from, to] = [low, high].map(|end| self.warp(end));
        (self.warp(value.clamp(low, high)) - from) / (to - from)
    }

    /// Values with a grid line and a label, about `count` of them on a linear axis.
    pub(super) fn ticks(self, unit: Unit, count: usize) -> Vec<f64> {
        let [low, high] = self.ends();
        match self {
            Self::Linear { .. } => round_numbers(low, high, count, unit == Unit::Whole),
            Self::Log { .. } => {
                let [first, last] = [low, high].map(|end| end.log10().round() as i32);
                let every = (last - first) / DECADES + 1;
                (first..=last).filter(|power| (last - power) % every == 0).map(|power| 10_f64.powi(power)).collect()
            }
            Self::Probit { .. } => PROBIT_TICKS.into_iter().filter(|tick| (low..=high).contains(tick)).collect(),
        }
    }
}

impl Unit {
    /// The labels of `ticks`, all to the precision that tells them apart.
    pub(super) fn labels(self, ticks: &[f64]) -> Vec<String> {
        let step = ticks.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
        let label = |tick: &f64| match self {
            Self::Number => number(*tick, step),
            Self::Percent => percent(*tick),
            Self::Whole => format!("{tick:.0}"),
        };
        ticks.iter().map(label).collect()
    }
}

/// About `count` round numbers from `low` to `high`; one step beyond `low` where fewer than two fit.
fn round_numbers(low: f64, high: f64, count: usize, whole: bool) -> Vec<f64> {
    let wanted = (high - low) / count as f64;
    let power = 10_f64.powf(wanted.log10().floor());
    let factor = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|factor| factor * power >= wanted * 0.999);
    let step = factor.unwrap_or(10.0) * power;
    let step = if whole { step.round().max(1.0) } else { step };
    let (first, last) = ((low / step - 1e-6).ceil() as i64, (high / step + 1e-6).floor() as i64);
    (first..=last.max(first + 1)).map(|index| index as f64 * step).collect()
}

/// A number to the precision of `step`.
fn number(value: f64, step: f64) -> String {
    let size = value.abs().max(if step.is_finite() { step } else { 0.0 });
    if value == 0.0 {
        return "0".to_owned();
    }
    if !(1e-3..1e5).contains(&size) {
        return format!("{value:.1e}");
    }
    let whole = |digits: &usize| {
        let scaled = step * 10_f64.powi(*digits as i32);
        scaled.round() >= 1.0 && (scaled - scaled.round()).abs() < 0.01
    };
    format!("{value:.*}", (0..5).find(whole).unwrap_or(5))
}

/// A share of 1 as percent, to seven digits after the point where it needs them.
fn percent(share: f64) -> String {
    let text = format!("{:.7}", 100.0 * share);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Inverse of the normal distribution (Acklam's rational approximation, relative error below 1.2e-9).
fn probit(share: f64) -> f64 {
    const A: [f64; 6] = [
        -39.69683028665376,
        220.9460984245205,
        -275.9285104469687,
        138.357751867269,
        -30.66479806614716,
        2.506628277459239,
    ];
    const B: [f64; 5] =
        [-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572];
    const C: [f64; 6] = [
        -0.007784894002430293,
        -0.3223964580411365,
        -2.400758277161838,
        -2.549732539343734,
        4.374664141464968,
        2.938163982698783,
    ];
    const D: [f64; 4] = [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416];
    let polynomial = |of: &[f64], at: f64| of.iter().fold(0.0, |sum, coefficient| sum * at + coefficient);
    let share = share.clamp(1e-12, 1.0 - 1e-12);
    let tail = |share: f64| {
        let at = (-2.0 * share.ln()).sqrt();
        polynomial(&C, at) / (polynomial(&D, at) * at + 1.0)
    };
    if share < 0.02425 {
        tail(share)
    } else if share > 1.0 - 0.02425 {
        -tail(1.0 - share)
    } else {
        let at = share - 0.5;
        let square = at * at;
        polynomial(&A, square) * at / (polynomial(&B, square) * square + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probit_is_the_normal_deviate() {
        for (share, deviate) in [(0.5, 0.0), (0.975, 1.959_964), (0.01, -2.326_348), (1e-4, -3.719_016)] {
            assert!((probit(share) - deviate).abs() < 1e-5, "{share}: {}", probit(share));
        }
    }

    #[test]
    fn scales_run_from_end_to_end() {
        for scale in [
            Scale::Linear { low: -1.0, high: 3.0 },
            Scale::Log { low: 1e-4, high: 1.0 },
            Scale::Probit { low: 1e-3, high: 0.6 },
        ] {
            let [low, high] = scale.ends();
            assert_eq!((scale.position(low), scale.position(high)), (0.0, 1.0));
            assert!(scale.position(low - 1.0) == 0.0 && scale.position(high + 1.0) == 1.0);
            let ticks = scale.ticks(Unit::Number, 5);
            assert!(ticks.windows(2).all(|pair| scale.position(pair[0]) < scale.position(pair[1])), "{ticks:?}");
        }
        assert_eq!(Scale::Log { low: 1e-3, high: 1.0 }.ticks(Unit::Percent, 5).len(), 4);
        // Nine decades: every second is labelled, the last one among them.
        assert_eq!(Scale::Log { low: 1e-8, high: 1.0 }.ticks(Unit::Percent, 5), [1e-8, 1e-6, 1e-4, 1e-2, 1.0]);
    }

    #[test]
    fn ticks_are_round_and_labels_short() {
        let labels = |low, high| Unit::Number.labels(&Scale::Linear { low, high }.ticks(Unit::Number, 5));
        assert_eq!(labels(0.0, 4.3), ["0", "1", "2", "3", "4"]);
        assert_eq!(labels(0.0, 0.98), ["0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(labels(0.0, 6e-4), ["0", "2.0e-4", "4.0e-4", "6.0e-4"]);
        assert_eq!(labels(0.0, 1.2), ["0", "0.25", "0.50", "0.75", "1.00"]);
        assert_eq!(Scale::Linear { low: 1.0, high: 3.0 }.ticks(Unit::Whole, 10), [1.0, 2.0, 3.0]);
        assert_eq!(Scale::Linear { low: 1.0, high: 2.0 }.ticks(Unit::Whole, 10), [1.0, 2.0]);
        assert_eq!(number(1234.5, 0.001), "1234.500");
        assert_eq!([0.05, 1e-4, 1.0, 1e-8].map(percent), ["5 %", "0.01 %", "100 %", "0.000001 %"]);
    }
}
