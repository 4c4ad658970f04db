//! Weights of 8 bits: symmetric, one scale for each output channel.

/// Values of 8 bits and their scales.
#[derive(Debug, Clone, PartialEq)]
pub struct Channels {
    /// Row-major values, of the shape of the weights.
    pub values: Vec<i8>,
    /// One scale for each index of the axis; above 0.
    pub scales: Vec<f32>,
}

/// Largest level of `bits` bits: 127 of 8, 63 of 7. With 7 bits, the sum of two products of processors without VNNI
/// cannot exceed 16 bits.
pub fn largest_level(bits: u8) -> f32 {
    f32::from((1u16 << (bits.clamp(2, 8) - 1)) - 1)
}

/// Quantises `weights` of shape `dims` with one scale for each index of `axis`.
///
/// `floor` is the least scale of each channel, in its order, or empty: runtimes write a bias in units of the scales of
/// input and weights, which must not exceed 32 bits. A channel of zeros has its floor, or 1.
///
/// # Panics
/// If `axis` is none of `dims`, or the number of weights is another.
pub fn per_channel(weights: &[f32], dims: &[usize], axis: usize, bits: u8, floor: &[f32]) -> Channels {
    assert_eq!(weights.len(), dims.iter().product::<usize>(), "a weight for each place");
    let channels = dims[axis];
    let inner: usize = dims[axis + 1..].iter().product();
    let channel = |index: usize| index / inner % channels;
    let mut largest = vec![0.0f32; channels];
    for (index, weight) in weights.iter().enumerate() {
        let largest = &mut largest[channel(index)];
        *largest = largest.max(weight.abs());
    }
    let level = largest_level(bits);
    let scale = |(channel, &largest): (usize, &f32)| {
        let least = floor.get(channel).copied().unwrap_or(0.0).max(1e-30);
        let scale = largest / level;
        if scale >= least {
            scale
        } else if largest > 0.0 || least > 1e-30 {
            least
        } else {
            1.0
        }
    };
    let scales: Vec<f32> = largest.iter().enumerate().map(scale).collect();
    let value =
        |(index, weight): (usize, &f32)| (weight / scales[channel(index)]).round_ties_even().clamp(-level, level) as i8;
    Channels { values: weights.iter().enumerate().map(value).collect(), scales }
}

/// The least scales of the weights' channels with which `bias` fits into 32 bits, where its unit is the product of the
/// scales.
pub fn bias_floor(bias: &[f32], input_scale: f32) -> Vec<f32> {
    bias.iter().map(|bias| bias.abs() / input_scale / (1u32 << 30) as f32).collect()
}
