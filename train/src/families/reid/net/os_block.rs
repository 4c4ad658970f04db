//! Blocks of OSNet, Zhou et al. 2019 (arXiv:1905.00953). Field names are the reference's state-dictionary keys.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::conv;

/// Convolution, batch norm, and a ReLU unless it ends a residual branch.
#[derive(Module, Debug)]
pub struct ConvLayer {
    conv: Conv2d,
    bn: UnbiasedBatchNorm,
    #[module(skip)]
    activated: bool,
}

impl ConvLayer {
    /// `kernel`×`kernel`, padded to keep the size at stride 1, then ReLU.
    pub fn new(input: usize, output: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        let conv = conv(input, output, kernel, stride, 1, device);
        Self { conv, bn: UnbiasedBatchNorm::new(output, device), activated: true }
    }

    /// 1×1 with ReLU.
    pub fn pointwise(input: usize, output: usize, device: &Device) -> Self {
        Self::new(input, output, 1, 1, device)
    }

    /// 1×1 without activation.
    pub fn linear(input: usize, output: usize, device: &Device) -> Self {
        Self { activated: false, ..Self::new(input, output, 1, 1, device) }
    }

    /// `[batch, input, height, width]` to `[batch, output, height / stride, width / stride]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let filtered = kernels::conv2d(&self.conv, input);
        if self.activated { self.bn.forward_relu(filtered) } else { self.bn.forward(filtered) }
    }
}

/// The factorised 3×3: pointwise, then depthwise, nothing in between.
#[derive(Module, Debug)]
pub struct LightConv3x3 {
    conv1: Conv2d,
    conv2: Conv2d,
    bn: UnbiasedBatchNorm,
}

impl LightConv3x3 {
    fn new(channels: usize, device: &Device) -> Self {
        Self {
            conv1: conv(channels, channels, 1, 1, 1, device),
            conv2: conv(channels, channels, 3, 1, channels, device),
            bn: UnbiasedBatchNorm::new(channels, device),
        }
    }

    fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.bn.forward_relu(kernels::conv2d(&self.conv2, kernels::conv2d(&self.conv1, input)))
    }
}

/// Gate per channel from the global average, reduction 16.
#[derive(Module, Debug)]
pub struct ChannelGate {
    fc1: Conv2d,
    fc2: Conv2d,
}

impl ChannelGate {
    /// # Panics
    /// If there are fewer than 16 channels.
    pub fn new(channels: usize, device: &Device) -> Self {
        let hidden = channels / 16;
        assert!(hidden > 0, "a channel gate needs 16 channels or more, not {channels}");
        Self {
            fc1: Conv2dConfig::new([channels, hidden], [1, 1]).init(device),
            fc2: Conv2dConfig::new([hidden, channels], [1, 1]).init(device),
        }
    }

    /// A factor in (0, 1) for each channel: `[batch, channels, height, width]` to `[batch, channels, 1, 1]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let pooled = kernels::global_avg_pool(input);
        sigmoid(kernels::conv2d(&self.fc2, relu(kernels::conv2d(&self.fc1, pooled))))
    }
}

/// Omni-scale residual block: four streams of growing receptive field, fused by one shared gate.
#[derive(Module, Debug)]
pub struct OsBlock {
    conv1: ConvLayer,
    conv2a: LightConv3x3,
    conv2b: Vec<LightConv3x3>,
    conv2c: Vec<LightConv3x3>,
    conv2d: Vec<LightConv3x3>,
    gate: ChannelGate,
    conv3: ConvLayer,
    downsample: Option<ConvLayer>,
}

impl OsBlock {
    /// A block from `input` to `output` channels, with a quarter of `output` inside.
    pub fn new(input: usize, output: usize, device: &Device) -> Self {
        let inner = output / 4;
        let chain = |length| (0..length).map(|_| LightConv3x3::new(inner, device)).collect();
        Self {
            conv1: ConvLayer::pointwise(input, inner, device),
            conv2a: LightConv3x3::new(inner, device),
            conv2b: chain(2),
            conv2c: chain(3),
            conv2d: chain(4),
            gate: ChannelGate::new(inner, device),
            conv3: ConvLayer::linear(inner, output, device),
            downsample: (input != output).then(|| ConvLayer::linear(input, output, device)),
        }
    }

    /// `[batch, input, height, width]` to `[batch, output, height, width]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let narrow = self.conv1.forward(input.clone());
        let chain = |chain: &[LightConv3x3]| chain.iter().fold(narrow.clone(), |stream, conv| conv.forward(stream));
        let [b, c, d] = [&self.conv2b, &self.conv2c, &self.conv2d].map(|streams| chain(streams));
        let streams = [self.conv2a.forward(narrow.clone()), b, c, d];
        let gates = streams.each_ref().map(|stream| self.gate.forward(stream.clone()));
        let fused = kernels::gated_sum(streams, gates);
        let residual = match &self.downsample {
            Some(downsample) => downsample.forward(input),
            None => input,
        };
        kernels::add_relu(self.conv3.forward(fused), residual)
    }
}
