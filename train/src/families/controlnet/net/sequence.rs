//! PyTorch's `Sequential`: layers in a row, whose numbers are their keys.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig2d, Relu};
use burn::tensor::{Device, Tensor};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::dropout::{Dropout, Masks};

/// A layer on maps.
#[derive(Module, Debug)]
pub enum MapLayer {
    /// Convolution with bias.
    Conv(Conv2d),
    /// Transposed convolution with bias.
    Transposed(ConvTranspose2d),
    /// Batch normalisation and the ReLU behind it, which has a number of its own.
    NormRelu(UnbiasedBatchNorm),
    /// The number of the ReLU.
    Relu(Relu),
}

/// Convolutions, each with batch normalisation and ReLU behind it.
pub type Maps = Vec<MapLayer>;

/// A convolution, its normalisation and ReLU: three numbers of a sequence.
pub fn conv_norm_relu(input: usize, output: usize, kernel: usize, stride: usize, device: &Device) -> [MapLayer; 3] {
    let pad = kernel / 2;
    let conv = Conv2dConfig::new([input, output], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .init(device);
    norm_relu(MapLayer::Conv(conv), output, device)
}

/// A transposed 4×4 convolution of stride 2, which doubles the size.
pub fn doubling(input: usize, output: usize, device: &Device) -> MapLayer {
    let config = ConvTranspose2dConfig::new([input, output], [4, 4]).with_stride([2, 2]).with_padding([1, 1]);
    MapLayer::Transposed(config.init(device))
}

/// A layer of `channels`, its normalisation and ReLU: three numbers of a sequence.
pub fn norm_relu(layer: MapLayer, channels: usize, device: &Device) -> [MapLayer; 3] {
    [layer, MapLayer::NormRelu(UnbiasedBatchNorm::new(channels, device)), MapLayer::Relu(Relu)]
}

/// `[batch, channels, height, width]` through all layers.
pub fn maps(layers: &Maps, input: Tensor<4>) -> Tensor<4> {
    layers.iter().fold(input, |map, layer| match layer {
        MapLayer::Conv(conv) => kernels::conv2d(conv, map),
        MapLayer::Transposed(conv) => kernels::conv_transpose2d(conv, map),
        MapLayer::NormRelu(norm) => norm.forward_relu(map),
        // Done together with the norm before it, in one pass.
        MapLayer::Relu(_) => map,
    })
}

/// Added to variances in layer norms: PyTorch's default.
const EPSILON: f64 = 1e-5;

/// A layer on rows.
#[derive(Module, Debug)]
pub enum RowLayer {
    /// Linear with bias.
    Linear(Linear),
    /// Layer normalisation.
    LayerNorm(LayerNorm),
    /// Batch normalisation.
    BatchNorm(UnbiasedBatchNorm),
    /// ReLU.
    Relu(Relu),
    /// Dropout, in training only.
    Dropout(Dropout),
}

/// Layers on rows.
pub type Rows = Vec<RowLayer>;

/// Linear, with bias.
pub fn linear(input: usize, output: usize, device: &Device) -> RowLayer {
    RowLayer::Linear(LinearConfig::new(input, output).init(device))
}

/// Layer normalisation of `width` values.
pub fn layer_norm(width: usize, device: &Device) -> RowLayer {
    RowLayer::LayerNorm(LayerNormConfig::new(width).with_epsilon(EPSILON).init(device))
}

/// Batch normalisation of `width` values.
pub fn batch_norm(width: usize, device: &Device) -> RowLayer {
    RowLayer::BatchNorm(UnbiasedBatchNorm::new(width, device))
}

/// ReLU.
pub fn relu() -> RowLayer {
    RowLayer::Relu(Relu)
}

/// Dropout with this probability.
pub fn dropout(probability: f64) -> RowLayer {
    RowLayer::Dropout(Dropout::new(probability))
}

/// `[batch, width]` through all layers; each dropout takes the next of `masks`.
pub fn rows(layers: &Rows, input: Tensor<2>, masks: &mut Masks) -> Tensor<2> {
    layers.iter().fold(input, |row, layer| match layer {
        RowLayer::Linear(linear) => linear.forward(row),
        RowLayer::LayerNorm(norm) => kernels::layer_norm(norm, EPSILON, row),
        RowLayer::BatchNorm(norm) => norm.forward(row),
        RowLayer::Relu(relu) => relu.forward(row),
        RowLayer::Dropout(dropout) => dropout.forward(row, masks),
    })
}
