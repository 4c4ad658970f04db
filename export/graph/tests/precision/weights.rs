//! Weights of 8 bits.

use graph::precision::weights::{Channels, bias_floor, largest_level, per_channel};

use crate::draft::noise;

#[test]
fn weights_come_back_within_half_a_step_of_their_channel() {
    for (axis, bits) in [(0, 8), (0, 7), (1, 8), (2, 8)] {
        let dims = [4, 3, 5];
        let weights: Vec<f32> = noise(axis as u64, 60).map(|u| (2.0 * u - 1.0).powi(3)).collect();
        let Channels { values, scales } = per_channel(&weights, &dims, axis, bits, &[]);
        assert_eq!(scales.len(), dims[axis]);
        let inner: usize = dims[axis + 1..].iter().product();
        let mut reached = vec![0i32; dims[axis]];
        for (index, (weight, value)) in weights.iter().zip(&values).enumerate() {
            let channel = index / inner % dims[axis];
            let scale = scales[channel];
            assert!((f32::from(*value) * scale - weight).abs() <= scale * 0.5001);
            reached[channel] = reached[channel].max(i32::from(*value).abs());
        }
        assert!(reached.iter().all(|&most| most == largest_level(bits) as i32), "{reached:?}");
    }
}

#[test]
fn a_channel_of_zeros_stays_zero() {
    let Channels { values, scales } = per_channel(&[0.0, 0.0, 1.0, -2.0], &[2, 2], 0, 8, &[]);
    assert_eq!((values, scales[0]), (vec![0, 0, 64, -127], 1.0));
    // The bias of a pruned channel still fits.
    let floor = bias_floor(&[1e6, 0.0], 1e-4);
    let Channels { scales, .. } = per_channel(&[0.0, 0.0, 1.0, -2.0], &[2, 2], 0, 8, &floor);
    assert!(1e6 / (scales[0] * 1e-4) < i32::MAX as f32);
    assert_eq!(scales[1], 2.0 / 127.0);
}

#[test]
fn halves_round_to_even() {
    let weights = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5];
    assert_eq!(per_channel(&weights, &[1, 6], 0, 8, &[]).values, [127, 0, 2, 2, 0, -2]);
}
