//! Attention on maps, to be put between the blocks of a network: channel and spatial attention and both (CBAM, Woo et
//! al. 2018, arXiv:1807.06521), a gate for each pixel's channels, and attention between positions and between channels
//! (Fu et al. 2019, arXiv:1809.02983).
//!
//! Field names are the reference's state-dictionary keys. Every module keeps the shape of the map,
//! `[batch, channels, height, width]`.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::{Device, Tensor};

use super::conv::conv;
use super::init::Init;
use crate::words::words;

words! {
    /// Which attention lies between the blocks of a network.
    AttentionKind (None) {
        /// None.
        None = "none",
        /// A gate for each channel, from the map's mean and maximum.
        Channel = "channel",
        /// The same from the mean alone.
        ChannelAverage = "channel-avg",
        /// A gate for each position, from mean and maximum of its channels.
        Spatial = "spatial",
        /// Channel, then spatial.
        Cbam = "cbam",
        /// A gate for each channel of each position, from the channels there.
        Se = "se",
        /// Squeeze and excitation: the same from the map's mean.
        SePooled = "se-pooled",
        /// Position attention: each position takes from those like it. Memory grows with the square of the map.
        Pam = "pam",
        /// Channel attention by similarity: each channel takes from those unlike it.
        Cam = "cam",
        /// The sum of the two.
        Dual = "dual",
    }
}

/// Channels for each channel inside channel attention.
const CHANNEL_REDUCTION: usize = 16;

/// Channels for each channel inside [`SeModule`].
const SE_REDUCTION: usize = 4;

/// Channels for each channel of queries and keys inside [`PositionAttention`].
const POSITION_REDUCTION: usize = 8;

/// A gate for each channel: two shared layers on the map's mean and, unless it is asked to leave that, its maximum.
#[derive(Module, Debug)]
pub struct ChannelAttention {
    fc1: Conv2d,
    fc2: Conv2d,
    #[module(skip)]
    maximum: bool,
}

impl ChannelAttention {
    fn new(channels: usize, maximum: bool, device: &Device) -> Self {
        let hidden = (channels / CHANNEL_REDUCTION).max(1);
        let [fc1, fc2] = [(channels, hidden), (hidden, channels)].map(|(i, o)| conv(i, o, 1, 1, 1, device));
        Self { fc1, fc2, maximum }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let layers = |pooled| kernels::conv2d(&self.fc2, relu(kernels::conv2d(&self.fc1, pooled)));
        let average = layers(kernels::global_avg_pool(input.clone()));
        let gate = if self.maximum { average + layers(input.clone().max_dim(3).max_dim(2)) } else { average };
        input * sigmoid(gate)
    }
}

/// A gate for each position: a 7×7 convolution on mean and maximum over channels.
#[derive(Module, Debug)]
pub struct SpatialAttention {
    conv: Conv2d,
}

impl SpatialAttention {
    fn new(device: &Device) -> Self {
        Self { conv: conv(2, 1, 7, 1, 1, device) }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let pooled = Tensor::cat(vec![input.clone().mean_dim(1), input.clone().max_dim(1)], 1);
        input * sigmoid(kernels::conv2d(&self.conv, pooled))
    }
}

/// [`ChannelAttention`], then [`SpatialAttention`].
#[derive(Module, Debug)]
pub struct Cbam {
    channel: ChannelAttention,
    spatial: SpatialAttention,
}

impl Cbam {
    fn new(channels: usize, device: &Device) -> Self {
        Self { channel: ChannelAttention::new(channels, true, device), spatial: SpatialAttention::new(device) }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.spatial.forward(self.channel.forward(input))
    }
}

/// Two layers and a gate. The reference's module of this name does not pool: each position has gates of its own. With
/// pooling it is the squeeze and excitation of Hu et al. 2017 (arXiv:1709.01507).
#[derive(Module, Debug)]
pub struct SeModule {
    fc1: Conv2d,
    fc2: Conv2d,
    #[module(skip)]
    pooled: bool,
}

impl SeModule {
    fn new(channels: usize, pooled: bool, device: &Device) -> Self {
        let hidden = (channels / SE_REDUCTION).max(1);
        let layer = |i, o| Conv2dConfig::new([i, o], [1, 1]).init(device);
        Self { fc1: layer(channels, hidden), fc2: layer(hidden, channels), pooled }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let squeezed = if self.pooled { kernels::global_avg_pool(input.clone()) } else { input.clone() };
        input * sigmoid(kernels::conv2d(&self.fc2, relu(kernels::conv2d(&self.fc1, squeezed))))
    }
}

/// A learned weight of one number, for a map.
fn scale(gamma: &Param<Tensor<1>>) -> Tensor<4> {
    gamma.val().reshape([1, 1, 1, 1])
}

fn zero(device: &Device) -> Param<Tensor<1>> {
    Param::from_tensor(Tensor::zeros([1], device))
}

/// Each position takes values from all positions, by the product of its query with their keys. `gamma`, which starts at
/// 0, says how much. Needs memory for `(height · width)²` numbers a sample.
#[derive(Module, Debug)]
pub struct PositionAttention {
    query_conv: Conv2d,
    key_conv: Conv2d,
    value_conv: Conv2d,
    gamma: Param<Tensor<1>>,
}

impl PositionAttention {
    fn new(channels: usize, device: &Device) -> Self {
        let layer = |output| Conv2dConfig::new([channels, output], [1, 1]).init(device);
        let narrow = (channels / POSITION_REDUCTION).max(1);
        Self { query_conv: layer(narrow), key_conv: layer(narrow), value_conv: layer(channels), gamma: zero(device) }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [query, key, value] = [&self.query_conv, &self.key_conv, &self.value_conv]
            .map(|layer| kernels::conv2d(layer, input.clone()).flatten::<3>(2, 3));
        // [batch, positions, positions], a row for each position that takes.
        let shares = softmax(query.swap_dims(1, 2).matmul(key), 2);
        let taken = value.matmul(shares.swap_dims(1, 2)).reshape(input.shape());
        scale(&self.gamma) * taken + input
    }
}

/// Each channel takes from the channels that are least like it. `gamma`, which starts at 0, says how much.
#[derive(Module, Debug)]
pub struct SimilarityAttention {
    gamma: Param<Tensor<1>>,
}

impl SimilarityAttention {
    fn new(device: &Device) -> Self {
        Self { gamma: zero(device) }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let flat = input.clone().flatten::<3>(2, 3);
        let alike = flat.clone().matmul(flat.clone().swap_dims(1, 2));
        let shares = softmax(alike.clone().max_dim(2) - alike, 2);
        scale(&self.gamma) * shares.matmul(flat).reshape(input.shape()) + input
    }
}

/// The sum of [`PositionAttention`] and [`SimilarityAttention`], so that a fresh one doubles the map.
#[derive(Module, Debug)]
pub struct DualAttention {
    pam: PositionAttention,
    cam: SimilarityAttention,
}

impl DualAttention {
    fn new(channels: usize, device: &Device) -> Self {
        Self { pam: PositionAttention::new(channels, device), cam: SimilarityAttention::new(device) }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.pam.forward(input.clone()) + self.cam.forward(input)
    }
}

/// Attention of any kind.
#[derive(Module, Debug)]
pub enum Attention {
    /// See [`ChannelAttention`].
    Channel(ChannelAttention),
    /// See [`SpatialAttention`].
    Spatial(SpatialAttention),
    /// See [`Cbam`].
    Cbam(Cbam),
    /// See [`SeModule`].
    Se(SeModule),
    /// See [`PositionAttention`].
    Pam(PositionAttention),
    /// See [`SimilarityAttention`].
    Cam(SimilarityAttention),
    /// See [`DualAttention`].
    Dual(DualAttention),
}

impl Attention {
    /// Attention on maps of this many channels, not initialised; none of the kind `none`.
    pub fn new(kind: AttentionKind, channels: usize, device: &Device) -> Option<Self> {
        Some(match kind {
            AttentionKind::None => return None,
            AttentionKind::Channel => Self::Channel(ChannelAttention::new(channels, true, device)),
            AttentionKind::ChannelAverage => Self::Channel(ChannelAttention::new(channels, false, device)),
            AttentionKind::Spatial => Self::Spatial(SpatialAttention::new(device)),
            AttentionKind::Cbam => Self::Cbam(Cbam::new(channels, device)),
            AttentionKind::Se => Self::Se(SeModule::new(channels, false, device)),
            AttentionKind::SePooled => Self::Se(SeModule::new(channels, true, device)),
            AttentionKind::Pam => Self::Pam(PositionAttention::new(channels, device)),
            AttentionKind::Cam => Self::Cam(SimilarityAttention::new(device)),
            AttentionKind::Dual => Self::Dual(DualAttention::new(channels, device)),
        })
    }

    /// Attention of one kind behind maps of each of these channels; an empty list of the kind `none`.
    pub fn each(kind: AttentionKind, channels: [usize; 2], device: &Device) -> Vec<Self> {
        channels.into_iter().filter_map(|channels| Self::new(kind, channels, device)).collect()
    }

    /// The map, weighed.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, height, width]`
    /// - returns: the same
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Channel(own) => own.forward(input),
            Self::Spatial(own) => own.forward(input),
            Self::Cbam(own) => own.forward(input),
            Self::Se(own) => own.forward(input),
            Self::Pam(own) => own.forward(input),
            Self::Cam(own) => own.forward(input),
            Self::Dual(own) => own.forward(input),
        }
    }
}

/// The map behind the `k`-th of these, which is the map itself where there is none.
pub fn attend(attention: &[Attention], k: usize, map: Tensor<4>) -> Tensor<4> {
    match attention.get(k) {
        Some(attention) => attention.forward(map),
        None => map,
    }
}

/// How a parameter of attention starts: as in PyTorch, and shares of what is taken at 0.
pub fn init(key: &str) -> Init {
    if key.ends_with(".gamma") { Init::Constant(0.0) } else { Init::UniformFanIn }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::words::Word;

    /// A fresh one changes nothing where it adds what it took, which is nothing, and doubles where it adds twice.
    #[test]
    fn what_is_taken_starts_at_nothing() {
        let device = Device::flex();
        let values: Vec<f32> = (0..64).map(|k| (k % 7) as f32 - 3.0).collect();
        let input = Tensor::<4>::from_data(TensorData::new(values.clone(), [1, 16, 2, 2]), &device);
        for (kind, factor) in [(AttentionKind::Pam, 1.0), (AttentionKind::Cam, 1.0), (AttentionKind::Dual, 2.0)] {
            let output = Attention::new(kind, 16, &device).unwrap().forward(input.clone());
            let found = output.into_data().try_to_vec::<f32>().unwrap();
            let wanted: Vec<f32> = values.iter().map(|value| factor * value).collect();
            assert_eq!(found, wanted, "{kind}");
        }
    }

    /// Pooled gates are the same at every position; others follow the channels there.
    #[test]
    fn squeeze_and_excitation_has_one_gate_for_a_channel() {
        let device = Device::flex();
        let values: Vec<f32> = (0..64).map(|k| (k % 7) as f32 - 3.5).collect();
        let input = Tensor::<4>::from_data(TensorData::new(values, [1, 16, 2, 2]), &device);
        let equal = |kind: AttentionKind| {
            let gates = Attention::new(kind, 16, &device).unwrap().forward(input.clone()) / input.clone();
            let gates = gates.into_data().try_to_vec::<f32>().unwrap();
            gates.chunks(4).all(|channel| channel.iter().all(|gate| (gate - channel[0]).abs() < 1e-6))
        };
        assert!(equal(AttentionKind::SePooled) && equal(AttentionKind::Channel));
        assert!(!equal(AttentionKind::Se) && !equal(AttentionKind::Spatial));
    }

    #[test]
    fn every_kind_but_none_is_a_module_that_keeps_the_shape() {
        let device = Device::flex();
        for word in AttentionKind::WORDS {
            let kind: AttentionKind = word.parse().unwrap();
            match Attention::new(kind, 32, &device) {
                Some(attention) => {
                    let output = attention.forward(Tensor::ones([2, 32, 3, 5], &device));
                    assert_eq!(output.dims(), [2, 32, 3, 5], "{word}");
                }
                None => assert_eq!(kind, AttentionKind::None),
            }
        }
    }
}
