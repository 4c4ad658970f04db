//! Ranges from values.

use graph::precision::range::{Affine, Histogram, Method};

use crate::draft::noise;

fn filled(values: &[f32]) -> Histogram {
    let low = values.iter().copied().fold(f32::INFINITY, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut histogram = Histogram::new([low, high]);
    histogram.add(values);
    histogram
}

const METHODS: [Method; 4] =
    [Method::MinMax, Method::Percentile { share: 0.999 }, Method::Percentile { share: 1.0 }, Method::Entropy];

/// Whatever the values, a range lies within what was seen and is not empty.
#[test]
fn ranges_lie_within_what_was_seen() {
    for seed in 0..40 {
        let power = 1 + seed % 5;
        let sign = if seed % 3 == 0 { 0.0 } else { 1.0 };
        let values: Vec<f32> =
            noise(seed, 3000).map(|u| (2.0 * u - sign).powi(power as i32) * 10f32.powi(seed as i32 % 7 - 3)).collect();
        let histogram = filled(&values);
        let [least, most] = histogram.range(Method::MinMax);
        for method in METHODS {
            let [low, high] = histogram.range(method);
            assert!(least <= low && low < high && high <= most, "{seed} {method:?} {low} {high}");
        }
        assert_eq!(histogram.range(Method::Percentile { share: 1.0 }), histogram.range(Method::MinMax));
    }
}

#[test]
fn the_middle_share_is_inside() {
    let values: Vec<f32> = noise(7, 20_000).map(|u| (2.0 * u - 1.0).powi(9)).collect();
    let [low, high] = filled(&values).range(Method::Percentile { share: 0.99 });
    let inside = values.iter().filter(|value| (low..=high).contains(value)).count() as f64 / values.len() as f64;
    assert!((0.99..0.995).contains(&inside), "{inside}");
}

/// One outlier of a hundred thousand values does not set the range, and zeros do not either.
#[test]
fn entropy_cuts_outliers_off() {
    let mut values: Vec<f32> = noise(3, 100_000).map(|u| (u - 0.5).max(0.0)).collect();
    values.push(8.0);
    let [low, high] = filled(&values).range(Method::Entropy);
    assert!(low == 0.0 && (0.45..2.0).contains(&high), "{low} {high}");
}

#[test]
fn constants_and_nothing_have_a_range() {
    for values in [vec![0.0; 9], vec![2.5; 9], vec![-1.0], vec![f32::NAN, 1.0]] {
        for method in METHODS {
            let range = filled(&values).range(method);
            let Affine { scale, zero } = Affine::unsigned(range);
            assert!(scale > 0.0 && scale.is_finite() && (0..=255).contains(&zero), "{values:?} {method:?}");
            assert!(Affine::symmetric(range).scale > 0.0);
        }
    }
    assert_eq!(Histogram::new([0.0, 1.0]).range(Method::Percentile { share: 0.5 }), [0.0, 1.0]);
}

/// Every value inside comes back within half a step, and 0 comes back as 0.
#[test]
fn values_come_back_within_half_a_step() {
    for seed in 0..50 {
        let ends: Vec<f32> = noise(seed, 2).map(|u| (u - 0.5) * 10f32.powi(seed as i32 % 9 - 4)).collect();
        let range = [ends[0].min(ends[1]), ends[0].max(ends[1])];
        let Affine { scale, zero } = Affine::unsigned(range);
        for u in noise(seed + 100, 50) {
            let value = range[0].min(0.0) + u * (range[1].max(0.0) - range[0].min(0.0));
            let level = ((value / scale).round_ties_even() + zero as f32).clamp(0.0, 255.0);
            let back = (level - zero as f32) * scale;
            // The zero point is rounded too, so an end may lose half a step more.
            assert!((back - value).abs() <= scale * 1.001, "{range:?} {value} {back}");
        }
        assert_eq!(Affine::unsigned([0.0, 3.0]).zero, 0);
    }
    assert_eq!(Affine::unsigned([0.0, 1e-38]), Affine { scale: 1.0, zero: 0 });
}
