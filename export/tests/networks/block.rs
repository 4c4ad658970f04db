//! A block with all parts of OSNet's blocks, and heads like LMBN_n's.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};

use crate::filled;

#[derive(Module, Debug)]
struct Light {
    conv1: Conv2d,
    conv2: Conv2d,
    bn: BatchNorm,
}

#[derive(Module, Debug)]
struct Gate {
    fc1: Conv2d,
    fc2: Conv2d,
}

#[derive(Module, Debug)]
pub struct Net {
    stem: (Conv2d, BatchNorm, MaxPool2d),
    light: Vec<Light>,
    gate: Gate,
    last: Conv2d,
    last_bn: BatchNorm,
    halve: AvgPool2d,
    heads: Vec<(Conv2d, BatchNorm)>,
    classifier: Linear,
}

fn conv(input: usize, output: usize, kernel: usize, groups: usize, bias: bool, device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([input, output], [kernel, kernel])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_groups(groups)
        .with_bias(bias)
        .init(device)
}

impl Net {
    pub fn new(device: &Device) -> Self {
        let norm = |channels: usize| BatchNormConfig::new(channels).init(device);
        let light =
            |_| Light { conv1: conv(8, 8, 1, 1, false, device), conv2: conv(8, 8, 3, 8, false, device), bn: norm(8) };
        let head = |_| (conv(16, 6, 1, 1, false, device), norm(6));
        filled(Self {
            stem: (
                conv(3, 8, 7, 1, false, device),
                norm(8),
                MaxPool2dConfig::new([3, 3])
                    .with_strides([2, 2])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                    .init(),
            ),
            light: (0..2).map(light).collect(),
            gate: Gate { fc1: conv(8, 2, 1, 1, true, device), fc2: conv(2, 8, 1, 1, true, device) },
            last: conv(8, 16, 1, 1, false, device),
            last_bn: norm(16),
            halve: AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            heads: (0..5).map(head).collect(),
            classifier: LinearConfig::new(6, 10).init(device),
        })
    }

    pub fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let (conv1, bn, pool) = &self.stem;
        let x = pool.forward(relu(bn.forward(conv1.forward(images))));
        let residual = x.clone();
        let x =
            self.light.iter().fold(x, |x, light| relu(light.bn.forward(light.conv2.forward(light.conv1.forward(x)))));
        let gate = adaptive_avg_pool2d(x.clone(), [1, 1]);
        let gate = sigmoid(self.gate.fc2.forward(relu(self.gate.fc1.forward(gate))));
        let x = relu(x * gate + residual);
        let x = self.halve.forward(relu(self.last_bn.forward(self.last.forward(x))));
        let halves = adaptive_avg_pool2d(x.clone(), [2, 1]);
        let pooled = vec![
            adaptive_avg_pool2d(x.clone(), [1, 1]),
            x.clone().max_dim(3).max_dim(2),
            x.mean_dim(2).mean_dim(3),
            halves.clone().narrow(2, 0, 1),
            halves.narrow(2, 1, 1),
        ];
        let parts: Vec<Tensor<2>> = pooled
            .into_iter()
            .zip(&self.heads)
            .map(|(pooled, (reduce, bn))| bn.forward(reduce.forward(pooled).flatten::<2>(1, 3)))
            .collect();
        Tensor::stack(parts, 2)
    }
}
