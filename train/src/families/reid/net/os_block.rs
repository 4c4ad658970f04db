//! Blocks of OSNet, Zhou et al. 2019 (arXiv:1905.00953), and of OSNet-AIN (arXiv:1910.06827). Field names are the
//! published state-dictionary keys.
#![expect(non_snake_case, reason = "instance norms are called `IN` in the published state dictionaries")]

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::{Device, Tensor};

use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::conv::conv;
use crate::nn::instance_norm::{MapNorm, SampleNorm};

/// Convolution, norm, and a ReLU unless it ends a residual branch.
#[derive(Module, Debug)]
pub struct ConvLayer<N = UnbiasedBatchNorm> {
    conv: Conv2d,
    bn: Option<N>,
    #[module(skip)]
    activated: bool,
}

impl<N: MapNorm> ConvLayer<N> {
    /// `kernel`×`kernel`, padded to keep the size at stride 1, then ReLU.
    pub fn new(input: usize, output: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        let conv = conv(input, output, kernel, stride, 1, device);
        Self { conv, bn: Some(N::of_channels(output, device)), activated: true }
    }

    /// 1×1 with ReLU.
    pub fn pointwise(input: usize, output: usize, device: &Device) -> Self {
        Self::new(input, output, 1, 1, device)
    }

    /// 1×1 without activation.
    pub fn linear(input: usize, output: usize, device: &Device) -> Self {
        Self { activated: false, ..Self::new(input, output, 1, 1, device) }
    }

    /// 1×1 without norm and activation.
    fn bare(input: usize, output: usize, device: &Device) -> Self {
        Self { bn: None, ..Self::linear(input, output, device) }
    }

    /// `[batch, input, height, width]` to `[batch, output, height / stride, width / stride]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let filtered = kernels::conv2d(&self.conv, input);
        match &self.bn {
            Some(norm) if self.activated => norm.of_map_relu(filtered),
            Some(norm) => norm.of_map(filtered),
            None => filtered,
        }
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

    /// The sum of streams `[batch, channels, height, width]`, each weighed by its own gates.
    fn fuse(&self, streams: [Tensor<4>; kernels::STREAMS]) -> Tensor<4> {
        let gates = streams.each_ref().map(|stream| self.forward(stream.clone()));
        kernels::gated_sum(streams, gates)
    }
}

/// A map through one convolution after another.
fn through(convolutions: &[LightConv3x3], map: Tensor<4>) -> Tensor<4> {
    convolutions.iter().fold(map, |map, conv| conv.forward(map))
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
    /// In OSNet-IBN, behind the sum.
    IN: Option<SampleNorm>,
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
            IN: None,
        }
    }

    /// The same with an instance norm between the sum and the ReLU, as in OSNet-IBN.
    pub fn normalised(input: usize, output: usize, device: &Device) -> Self {
        Self { IN: Some(MapNorm::of_channels(output, device)), ..Self::new(input, output, device) }
    }

    /// `[batch, input, height, width]` to `[batch, output, height, width]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let narrow = self.conv1.forward(input.clone());
        let [b, c, d] = [&self.conv2b, &self.conv2c, &self.conv2d].map(|stream| through(stream, narrow.clone()));
        let fused = self.gate.fuse([self.conv2a.forward(narrow), b, c, d]);
        let residual = match &self.downsample {
            Some(downsample) => downsample.forward(input),
            None => input,
        };
        let map = self.conv3.forward(fused);
        match &self.IN {
            Some(norm) => relu(norm.of_map(map + residual)),
            None => kernels::add_relu(map, residual),
        }
    }
}

/// Convolutions one after another.
#[derive(Module, Debug)]
struct Stream {
    layers: Vec<LightConv3x3>,
}

/// The block of OSNet-AIN: that of OSNet under other names, where an instance norm may end the residual branch instead
/// of a batch norm.
#[derive(Module, Debug)]
pub struct AinBlock {
    conv1: ConvLayer,
    conv2: Vec<Stream>,
    gate: ChannelGate,
    conv3: ConvLayer,
    downsample: Option<ConvLayer>,
    IN: Option<SampleNorm>,
}

impl AinBlock {
    /// A block from `input` to `output` channels, with a quarter of `output` inside.
    pub fn new(input: usize, output: usize, device: &Device) -> Self {
        let inner = output / 4;
        let stream = |length| Stream { layers: (0..length).map(|_| LightConv3x3::new(inner, device)).collect() };
        Self {
            conv1: ConvLayer::pointwise(input, inner, device),
            conv2: (1..=kernels::STREAMS).map(stream).collect(),
            gate: ChannelGate::new(inner, device),
            conv3: ConvLayer::linear(inner, output, device),
            downsample: (input != output).then(|| ConvLayer::linear(input, output, device)),
            IN: None,
        }
    }

    /// The same with an instance norm inside the residual branch.
    pub fn normalised(input: usize, output: usize, device: &Device) -> Self {
        Self {
            conv3: ConvLayer::bare(output / 4, output, device),
            IN: Some(MapNorm::of_channels(output, device)),
            ..Self::new(input, output, device)
        }
    }

    /// `[batch, input, height, width]` to `[batch, output, height, width]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let narrow = self.conv1.forward(input.clone());
        let fused = self.gate.fuse(std::array::from_fn(|k| through(&self.conv2[k].layers, narrow.clone())));
        let residual = match &self.downsample {
            Some(downsample) => downsample.forward(input),
            None => input,
        };
        let map = self.conv3.forward(fused);
        let map = match &self.IN {
            Some(norm) => norm.of_map(map),
            None => map,
        };
        kernels::add_relu(map, residual)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;
    use contract::fill::fill;

    use super::*;
    use crate::weights::StateDict;

    fn input(device: &Device) -> Tensor<4> {
        Tensor::from_data(TensorData::new(fill("input", &[2, 64, 6, 4]), [2, 64, 6, 4]), device)
    }

    fn values(map: Tensor<4>) -> Vec<f32> {
        map.into_data().try_to_vec().unwrap()
    }

    fn filled<M: Module>(mut block: M, name: impl Fn(&str) -> String) -> M {
        let state: StateDict = StateDict::of(&block)
            .iter()
            .map(|(key, data)| {
                let shape = data.shape().to_vec();
                (key.to_owned(), TensorData::new(fill(&name(key), &shape), shape))
            })
            .collect();
        assert!(state.load_into(&mut block).is_complete());
        block
    }

    /// What OSNet's block calls a parameter of OSNet-AIN's.
    fn osnet_name(key: &str) -> String {
        let Some((stream, rest)) = key.strip_prefix("conv2.").and_then(|rest| rest.split_once(".layers.")) else {
            return key.to_owned();
        };
        match stream {
            "0" => format!("conv2a.{}", rest.strip_prefix("0.").unwrap()),
            _ => format!("conv2{}.{rest}", ["b", "c", "d"][stream.parse::<usize>().unwrap() - 1]),
        }
    }

    #[test]
    fn the_plain_block_of_ain_is_that_of_osnet_under_other_names() {
        let device = Device::flex();
        let osnet = filled(OsBlock::new(64, 128, &device), str::to_owned).forward(input(&device));
        let ain = filled(AinBlock::new(64, 128, &device), osnet_name).forward(input(&device));
        assert_eq!(values(ain), values(osnet));
    }

    /// OSNet-AIN normalises the residual branch: a factor on its last convolution is of no account. OSNet-IBN
    /// normalises the sum of branch and shortcut: a factor on both is.
    #[test]
    fn an_instance_norm_is_where_it_belongs() {
        let device = Device::flex();
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-2);
        let ain = |factor: f64| {
            let mut block = filled(AinBlock::normalised(64, 128, &device), osnet_name);
            block.conv3.conv.weight = block.conv3.conv.weight.map(|weight| weight.mul_scalar(factor));
            values(block.forward(input(&device)))
        };
        assert!(close(&ain(1.0), &ain(4.0)));
        let ibn = |block: OsBlock, factor: f64| {
            let mut block = filled(block, str::to_owned);
            for layer in [Some(&mut block.conv3), block.downsample.as_mut()].into_iter().flatten() {
                let norm = layer.bn.as_mut().unwrap();
                norm.weight = norm.weight.clone().map(|weight| weight.mul_scalar(factor));
                norm.bias = norm.bias.clone().map(|bias| bias.mul_scalar(factor));
            }
            values(block.forward(input(&device)))
        };
        let normalised = || OsBlock::normalised(64, 128, &device);
        assert!(close(&ibn(normalised(), 1.0), &ibn(normalised(), 4.0)));
        let plain = || OsBlock::new(64, 128, &device);
        assert!(!close(&ibn(plain(), 1.0), &ibn(plain(), 4.0)));
    }
}
