//! The local branch: ConvNeXt, Liu et al. 2022 (arXiv:2201.03545), the Tiny layout by default.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::nn::dropout::{DropPath, Masks};
use crate::nn::init::{Init, Source};

use super::PalmVeinError;

/// Floor of the variance under the root of each layer norm.
const EPSILON: f64 = 1e-6;

/// Sizes of a [`ConvNext`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvNextConfig {
    /// Channels of a picture.
    pub in_chans: usize,
    /// Blocks per stage.
    pub depths: [usize; 4],
    /// Channels per stage. The last is the width of the local features.
    pub dims: [usize; 4],
    /// Share of training samples that skip the last block's branch; earlier blocks linearly less. In [0, 1).
    pub drop_path_rate: f64,
    /// Start of each branch's scale per channel; 0: none.
    pub layer_scale_init_value: f64,
}

impl Default for ConvNextConfig {
    fn default() -> Self {
        Self {
            in_chans: 1,
            depths: [3, 3, 9, 3],
            dims: [96, 192, 384, 768],
            drop_path_rate: 0.0,
            layer_scale_init_value: 1e-6,
        }
    }
}

impl ConvNextConfig {
    /// # Errors
    /// If the sizes make no network.
    pub fn check(&self) -> Result<(), PalmVeinError> {
        let refuse = |what: &'static str, found: String, allowed: &'static str| {
            Err(PalmVeinError::Config { what, found, allowed })
        };
        if self.in_chans == 0 || self.depths.contains(&0) || self.dims.contains(&0) {
            return refuse("ConvNeXt size", format!("{self:?}"), "none of its numbers is 0");
        }
        if !(0.0..1.0).contains(&self.drop_path_rate) {
            return refuse("drop path rate", self.drop_path_rate.to_string(), "0 or more, and less than 1");
        }
        if !(0.0..=1.0).contains(&self.layer_scale_init_value) {
            return refuse("layer scale", self.layer_scale_init_value.to_string(), "0 to 1");
        }
        Ok(())
    }

    /// Width of the local vector and channels of the local map.
    pub fn features(&self) -> usize {
        self.dims[3]
    }
}

/// A norm over the channels of each place: `[batch, channels, height, width]` to the same.
fn channel_norm(norm: &LayerNorm, input: Tensor<4>) -> Tensor<4> {
    kernels::layer_norm(norm, EPSILON, input.permute([0, 2, 3, 1])).permute([0, 3, 1, 2])
}

/// What stands before a stage. The order of its two parts is not the same in the first.
#[derive(Module, Debug)]
pub enum Downsample {
    /// Convolution 4×4 by steps of 4, then a norm.
    Stem((Conv2d, LayerNorm)),
    /// A norm, then a convolution 2×2 by steps of 2.
    Halve((LayerNorm, Conv2d)),
}

impl Downsample {
    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Stem((conv, norm)) => channel_norm(norm, kernels::conv2d(conv, input)),
            Self::Halve((norm, conv)) => kernels::conv2d(conv, channel_norm(norm, input)),
        }
    }
}

/// Depthwise 7×7, norm and a widening to four times the channels, added to the input.
#[derive(Module, Debug)]
pub struct Block {
    dwconv: Conv2d,
    norm: LayerNorm,
    pwconv1: Linear,
    pwconv2: Linear,
    gamma: Option<Param<Tensor<1>>>,
    drop_path: DropPath,
}

impl Block {
    fn new(channels: usize, scaled: bool, drop: f64, device: &Device) -> Self {
        Self {
            dwconv: Conv2dConfig::new([channels, channels], [7, 7])
                .with_padding(PaddingConfig2d::Explicit(3, 3, 3, 3))
                .with_groups(channels)
                .init(device),
            norm: LayerNormConfig::new(channels).with_epsilon(EPSILON).init(device),
            pwconv1: LinearConfig::new(channels, 4 * channels).init(device),
            pwconv2: LinearConfig::new(4 * channels, channels).init(device),
            gamma: scaled.then(|| Param::from_tensor(Tensor::ones([channels], device))),
            drop_path: DropPath::new(drop),
        }
    }

    fn forward(&self, input: Tensor<4>, masks: &mut Masks) -> Tensor<4> {
        let [batch, channels, height, width] = input.dims();
        let map = kernels::conv2d(&self.dwconv, input.clone()).permute([0, 2, 3, 1]);
        // Rows of places: one product of two matrices each way.
        let rows = kernels::layer_norm(&self.norm, EPSILON, map.reshape([batch * height * width, channels]));
        let mut rows = self.pwconv2.forward(kernels::gelu(self.pwconv1.forward(rows)));
        if let Some(gamma) = &self.gamma {
            rows = rows * gamma.val().unsqueeze();
        }
        let branch = rows.reshape([batch, height, width, channels]).permute([0, 3, 1, 2]);
        input + self.drop_path.forward(branch, masks)
    }
}

/// The network. Parameter paths are the reference's keys.
#[derive(Module, Debug)]
pub struct ConvNext {
    downsample_layers: Vec<Downsample>,
    stages: Vec<Vec<Block>>,
    norm: LayerNorm,
}

impl ConvNext {
    /// Smallest side of a picture.
    pub const SMALLEST: usize = 32;

    /// The network, not yet initialised.
    ///
    /// # Errors
    /// See [`ConvNextConfig::check`].
    pub fn new(config: &ConvNextConfig, device: &Device) -> Result<Self, PalmVeinError> {
        config.check()?;
        let dims = config.dims;
        let norm = |channels| LayerNormConfig::new(channels).with_epsilon(EPSILON).init(device);
        let conv = |input, output, step: usize| {
            Conv2dConfig::new([input, output], [step, step]).with_stride([step, step]).init(device)
        };
        let stem = Downsample::Stem((conv(config.in_chans, dims[0], 4), norm(dims[0])));
        let halves = dims.windows(2).map(|pair| Downsample::Halve((norm(pair[0]), conv(pair[0], pair[1], 2))));
        let last = (config.depths.iter().sum::<usize>() - 1).max(1) as f64;
        let mut rates = (0..).map(|block| config.drop_path_rate * f64::from(block) / last);
        let mut stage = |(&depth, &channels): (&usize, &usize)| {
            let scaled = config.layer_scale_init_value > 0.0;
            rates.by_ref().take(depth).map(|rate| Block::new(channels, scaled, rate, device)).collect()
        };
        Ok(Self {
            downsample_layers: std::iter::once(stem).chain(halves).collect(),
            stages: config.depths.iter().zip(&dims).map(&mut stage).collect(),
            norm: norm(dims[3]),
        })
    }

    /// The map, `return_spatial` = true in the reference, without the final norm: `[batch, in_chans, height, width]` to
    /// `[batch, features, height / 32, width / 32]`, each of the four steps rounding down.
    ///
    /// # Panics
    /// If a side is below [`ConvNext::SMALLEST`].
    pub fn spatial(&self, images: Tensor<4>, masks: &mut Masks) -> Tensor<4> {
        self.steps(images, masks).pop().expect("four stages").1
    }

    /// The local vector, `return_spatial` = false in the reference: the norm of the map's mean, `[batch, features]`.
    /// It is not the mean of [`ConvNext::spatial`].
    ///
    /// # Panics
    /// As [`ConvNext::spatial`].
    pub fn forward(&self, images: Tensor<4>, masks: &mut Masks) -> Tensor<2> {
        kernels::layer_norm(
            &self.norm,
            EPSILON,
            kernels::global_avg_pool(self.spatial(images, masks)).flatten::<2>(1, 3),
        )
    }

    /// Each stage's map before and after its blocks.
    ///
    /// # Panics
    /// As [`ConvNext::spatial`].
    pub fn steps(&self, images: Tensor<4>, masks: &mut Masks) -> Vec<(Tensor<4>, Tensor<4>)> {
        let [_, _, height, width] = images.dims();
        let smallest = Self::SMALLEST;
        assert!(height.min(width) >= smallest, "a picture of {height}×{width} is smaller than {smallest}×{smallest}");
        let mut steps: Vec<(Tensor<4>, Tensor<4>)> = Vec::new();
        for (downsample, blocks) in self.downsample_layers.iter().zip(&self.stages) {
            let input = steps.last().map_or(&images, |(_, map)| map).clone();
            let down = downsample.forward(input);
            let map = blocks.iter().fold(down.clone(), |map, block| block.forward(map, masks));
            steps.push((down, map));
        }
        steps
    }

    /// How the parameter at `key` starts.
    pub(crate) fn init(config: &ConvNextConfig, key: &str) -> Init {
        match key {
            _ if key.ends_with(".gamma") => Init::Constant(config.layer_scale_init_value as f32),
            _ => Init::Normal { std: 0.02 },
        }
    }
}

/// Where the weights of a branch called `name` come from.
pub(crate) fn source(name: &str, config: &ConvNextConfig, key: &str) -> Source {
    Source { name: format!("{name}.{key}"), init: ConvNext::init(config, key) }
}
