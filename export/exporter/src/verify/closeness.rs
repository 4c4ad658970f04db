//! How far apart two arrays may be, element by element.

use graph::DType;
use graph::run::Array;
use serde::{Deserialize, Serialize};

/// How far apart ONNX Runtime and Burn may be. Integers and booleans must be equal; NaN and infinities must be the same
/// on both sides. A float may differ by `channel` times the root mean square of its channel, plus `relative` times its
/// own size, plus `floor` times the root mean square of the output.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Share of the root mean square of the element's channel, over all runs at one batch size. Channels are taken
    /// along the second and along the last axis; the smaller root mean square counts.
    pub channel: f64,
    /// Share of the element's own absolute value.
    pub relative: f64,
    /// Share of the root mean square of the whole output, for channels that are nearly zero.
    pub floor: f64,
    /// Smallest cosine of any row.
    pub min_cosine: f64,
}

impl Default for Tolerance {
    /// Room enough for f32 rounding in networks of some hundred layers, and too little for a wrong weight. Group and
    /// instance norms need the most: on a flat picture of 157×160 they divide by the deviation of a nearly constant
    /// map, whose sum Burn and ONNX Runtime round differently, and differ by 1.3e-4 of their channel. A channel that is
    /// zero but for a few values, as early in training, is as far off as what it was summed up from: by 3e-6 of the
    /// whole in an OSNet after four steps.
    fn default() -> Self {
        Self { channel: 3e-4, relative: 1e-4, floor: 4e-6, min_cosine: 0.999_999 }
    }
}

impl Tolerance {
    /// The stricter of two tolerances, number by number.
    pub(crate) fn capped(self, cap: Self) -> Self {
        // Not `min`, which would drop a NaN from a file: NaN must allow nothing.
        let least = |own: f64, cap: f64| if own < cap { own.max(0.0) } else { cap };
        Self {
            channel: least(self.channel, cap.channel),
            relative: least(self.relative, cap.relative),
            floor: least(self.floor, cap.floor),
            min_cosine: if self.min_cosine > cap.min_cosine { self.min_cosine } else { cap.min_cosine },
        }
    }
}

/// What the differences of an output are measured against, from all its arrays at one batch size.
#[derive(Debug)]
pub(crate) struct Scale {
    /// Root mean square of all values.
    whole: f64,
    /// Root mean squares along an axis, by index.
    channels: Vec<(usize, Vec<f64>)>,
}

impl Scale {
    /// The scale of arrays of one rank. An axis whose size differs between arrays has no channels.
    pub(crate) fn of(arrays: &[&Array]) -> Self {
        let rank = arrays.first().map_or(0, |array| array.shape.len());
        let mut axes = vec![1, rank.saturating_sub(1)];
        axes.dedup();
        let size = |axis: usize| {
            let size = *arrays.first()?.shape.get(axis)?;
            arrays.iter().all(|array| array.shape.get(axis) == Some(&size)).then_some(size)
        };
        let fixed = axes.into_iter().filter(|&axis| axis > 0).filter_map(|axis| Some((axis, size(axis)?)));
        let mut channels: Vec<(usize, Vec<f64>)> = vec![];
        for (axis, size) in fixed {
            let mut sums = vec![(0.0, 0usize); size];
            for array in arrays {
                let inner = elements_per_index(&array.shape, axis);
                for (index, value) in array.values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
                    let (sum, count) = &mut sums[index / inner % size];
                    *sum += value * value;
                    *count += 1;
                }
            }
            channels.push((axis, sums.into_iter().map(|(sum, count)| (sum / count.max(1) as f64).sqrt()).collect()));
        }
        let finite = || arrays.iter().flat_map(|array| &array.values).filter(|value| value.is_finite());
        let whole = (finite().map(|value| value * value).sum::<f64>() / finite().count().max(1) as f64).sqrt();
        Self { whole, channels }
    }

    /// The allowed difference of the element at `index` of an array of `shape`, expected to be `expected`.
    pub(crate) fn limit(&self, index: usize, shape: &[usize], expected: f64, tolerance: &Tolerance) -> f64 {
        let channel = self.channels.iter().filter_map(|(axis, channels)| {
            channels.get(index / elements_per_index(shape, *axis) % channels.len().max(1)).copied()
        });
        let channel = channel.fold(self.whole, f64::min);
        // Smaller numbers are subnormal and have fewer digits.
        let least = f64::from(f32::MIN_POSITIVE);
        tolerance.channel * channel + tolerance.relative * expected.abs() + tolerance.floor * self.whole + least
    }
}

/// Number of elements from one index of an axis to the next.
fn elements_per_index(shape: &[usize], axis: usize) -> usize {
    shape.iter().skip(axis + 1).product::<usize>().max(1)
}

/// The worst element of a comparison.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Worst {
    /// Largest difference; infinite where only one side is finite.
    pub difference: f64,
    /// Allowed difference of the worst element: the one whose difference is the largest share of its limit.
    pub limit: f64,
    /// That share; above 1 the arrays differ.
    pub share: f64,
}

/// Whether types agree, as far as Burn tells: its devices store integers without a type of their own in 32 or 64 bits.
pub(crate) fn same_type(a: DType, b: DType) -> bool {
    let free = |dtype: DType| matches!(dtype, DType::Int32 | DType::Int64);
    a == b || (free(a) && free(b))
}

/// Difference of two values; 0 if they are the same, including NaN and infinities.
pub(crate) fn apart(found: f64, expected: f64) -> f64 {
    if found == expected || (found.is_nan() && expected.is_nan()) {
        return 0.0;
    }
    let difference = (found - expected).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

/// The worst among the elements at `indices`, of arrays of equal shape and type.
pub(crate) fn worst(
    found: &Array,
    expected: impl Iterator<Item = (usize, f64)>,
    scale: &Scale,
    tolerance: &Tolerance,
) -> Worst {
    let mut worst = Worst { difference: 0.0, limit: 0.0, share: 0.0 };
    for (index, expected) in expected {
        let difference = apart(found.values.get(index).copied().unwrap_or(f64::NAN), expected);
        let limit = if found.dtype.is_float() { scale.limit(index, &found.shape, expected, tolerance) } else { 0.0 };
        let share = match difference {
            0.0 => 0.0,
            // Never NaN: every comparison with NaN is false.
            _ if limit > 0.0 && limit.is_finite() => difference / limit,
            _ => f64::INFINITY,
        };
        worst.difference = worst.difference.max(difference);
        if share > worst.share || (worst.share == 0.0 && limit > worst.limit) {
            (worst.share, worst.limit) = (share, limit);
        }
    }
    worst
}

/// Cosine of two rows over the elements that are finite in both. Rows that are both (nearly) zero have cosine 1.
pub(crate) fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let (mut dot, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b).filter(|(x, y)| x.is_finite() && y.is_finite()) {
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    let lengths = f64::sqrt(aa) * f64::sqrt(bb);
    if lengths < 1e-12 { 1.0 } else { dot / lengths }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(dtype: DType, shape: &[usize], values: Vec<f64>) -> Array {
        Array { dtype, shape: shape.to_vec(), values }
    }

    /// Largest share of the allowed difference that `change` uses up.
    fn share(array: &Array, change: impl Fn(usize, f64) -> f64) -> f64 {
        let values = array.values.iter().enumerate().map(|(index, &value)| change(index, value)).collect();
        let found = Array { values, ..array.clone() };
        let expected = array.values.iter().copied().enumerate();
        worst(&found, expected, &Scale::of(&[array]), &Tolerance::default()).share
    }

    /// Four box coordinates in pixels and two scores per row, along either axis.
    fn detections(along_last: bool) -> Array {
        let (rows, anchors) = (8, 50);
        let value = |row: usize, anchor: usize, column: usize| match column {
            4.. => 0.05 / (1 + (row + anchor * 3 + column) % 7) as f64,
            _ => 640.0 * ((row * 31 + anchor * 17 + column * 7) % 100) as f64 / 100.0,
        };
        let mut values = vec![];
        for row in 0..rows {
            for index in 0..anchors * 6 {
                let (anchor, column) =
                    if along_last { (index / 6, index % 6) } else { (index % anchors, index / anchors) };
                values.push(value(row, anchor, column));
            }
        }
        array(DType::Float, &if along_last { [rows, anchors, 6] } else { [rows, 6, anchors] }, values)
    }

    #[test]
    fn scores_that_are_all_zero_are_seen_beside_boxes_in_pixels() {
        for along_last in [false, true] {
            let whole = detections(along_last);
            assert!(share(&whole, |_, value| if value <= 0.05 { 0.0 } else { value }) > 20.0);
            assert!(share(&whole, |_, value| value * (1.0 + 1e-6)) < 0.1, "the size of rounding errors");
        }
    }

    /// A feature that no picture excites yet: its few values are as far off as the sums they are the rest of.
    #[test]
    fn a_channel_that_is_nearly_zero_may_be_off_by_rounding() {
        let value = |index: usize| if index.is_multiple_of(4) { 1e-9 } else { 0.05 * (1 + index % 3) as f64 };
        let features = array(DType::Float, &[8, 4], (0..32).map(value).collect());
        let off = |by: f64| share(&features, |index, value| if index.is_multiple_of(4) { value + by } else { value });
        assert!(off(2.5e-7) < 1.0 && off(2.5e-6) > 1.0, "{} {}", off(2.5e-7), off(2.5e-6));
    }

    #[test]
    fn integers_and_booleans_are_exact() {
        let indices = array(DType::Int64, &[2], vec![49_996.0, 3.0]);
        assert_eq!(share(&indices, |index, value| if index == 0 { value + 4.0 } else { value }), f64::INFINITY);
        assert_eq!(share(&indices, |_, value| value), 0.0);
        let mask = array(DType::Bool, &[3], vec![0.0, 1.0, 1.0]);
        assert_eq!(share(&mask, |index, value| if index == 2 { 0.0 } else { value }), f64::INFINITY);
    }

    #[test]
    fn a_small_output_that_is_doubled_is_seen() {
        let scores = array(DType::Float, &[8, 1], (1..9).map(|row| 1e-5 * f64::from(row)).collect());
        assert!(share(&scores, |_, value| 2.0 * value) > 1000.0);
        assert!(share(&scores, |_, value| value * (1.0 + 1e-6)) < 0.1);
    }

    #[test]
    fn equal_nan_and_equal_infinities_agree() {
        let masked = array(DType::Float, &[2, 2], vec![f64::NEG_INFINITY, 1.0, f64::NAN, 2.0]);
        assert_eq!(share(&masked, |_, value| value), 0.0);
        for other in [0.0, f64::INFINITY, -1e30] {
            assert_eq!(share(&masked, |index, value| if index == 0 { other } else { value }), f64::INFINITY);
            assert_eq!(share(&masked, |index, value| if index == 2 { other } else { value }), f64::INFINITY);
            assert!(share(&masked, |index, value| if index == 1 { f64::NAN } else { value }) == f64::INFINITY);
        }
    }

    #[test]
    fn directions_are_told_apart() {
        assert_eq!(cosine(&[3.0, 4.0], &[3.0, 4.0]), 1.0);
        assert_eq!(cosine(&[0.0], &[0.0]), 1.0);
        assert_eq!(cosine(&[1.0, 0.0], &[0.0, 1.0]), 0.0);
        assert_eq!(cosine(&[1.0, f64::NAN], &[1.0, f64::NAN]), 1.0);
        assert!(same_type(DType::Int32, DType::Int64) && !same_type(DType::Float, DType::Double));
    }

    #[test]
    fn a_looser_tolerance_is_capped() {
        let ours = Tolerance::default();
        let loose = Tolerance { channel: 1e9, relative: f64::NAN, floor: 1.0, min_cosine: -1.0 };
        assert_eq!(loose.capped(ours), ours);
        let strict = Tolerance { channel: 1e-6, ..ours };
        assert_eq!(strict.capped(ours), strict);
    }
}
