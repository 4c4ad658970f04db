//! Small networks of common layers, and one of operations outside layers.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv1d, Conv1dConfig, Conv2d};
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig1d};
use burn::tensor::activation::{relu, sigmoid, tanh};
use burn::tensor::module::{adaptive_avg_pool2d, interpolate};
use burn::tensor::ops::{InterpolateMode, InterpolateOptions, PadMode};
use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};

use crate::networks::conv;
use crate::{filled, known};

/// Convolutions, norm, activation, both poolings, a classifier.
#[derive(Module, Debug)]
pub struct Convolutional {
    conv1: Conv2d,
    bn: BatchNorm,
    most: MaxPool2d,
    conv2: Conv2d,
    mean: AvgPool2d,
    fc: Linear,
}

impl Convolutional {
    pub fn new() -> Self {
        let device = Device::flex();
        filled(Self {
            conv1: conv([3, 8], 3, 1, 1, false),
            bn: BatchNormConfig::new(8).init(&device),
            most: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            conv2: conv([8, 12], 3, 2, 4, true),
            mean: AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            fc: LinearConfig::new(12, 5).init(&device),
        })
    }

    pub fn forward(&self, image: Tensor<4>) -> Tensor<2> {
        let x = self.most.forward(relu(self.bn.forward(self.conv1.forward(image))));
        let x = self.mean.forward(relu(self.conv2.forward(x)));
        self.fc.forward(adaptive_avg_pool2d(x, [1, 1]).flatten(1, 3))
    }
}

/// Linear layers.
#[derive(Module, Debug)]
pub struct Perceptron {
    layers: Vec<Linear>,
}

impl Perceptron {
    pub fn new() -> Self {
        let layer = |[from, to]: [usize; 2]| LinearConfig::new(from, to).init(&Device::flex());
        filled(Self { layers: [[10, 24], [24, 16], [16, 4]].map(layer).into() })
    }

    pub fn forward(&self, row: Tensor<2>) -> Tensor<2> {
        let x = relu(self.layers[0].forward(row));
        sigmoid(self.layers[2].forward(tanh(self.layers[1].forward(x))))
    }
}

/// 1-D convolutions, as used for audio.
#[derive(Module, Debug)]
pub struct Sound {
    conv1: Conv1d,
    bn: BatchNorm,
    conv2: Conv1d,
    fc: Linear,
}

impl Sound {
    pub fn new() -> Self {
        let device = Device::flex();
        let padding = PaddingConfig1d::Explicit(2, 2);
        filled(Self {
            conv1: Conv1dConfig::new(2, 8, 5).with_stride(2).with_padding(padding).init(&device),
            bn: BatchNormConfig::new(8).init(&device),
            conv2: Conv1dConfig::new(8, 6, 3).with_dilation(2).init(&device),
            fc: LinearConfig::new(6, 3).init(&device),
        })
    }

    pub fn forward(&self, wave: Tensor<3>) -> Tensor<2> {
        let x = relu(self.bn.forward(self.conv1.forward(wave)));
        self.fc.forward(self.conv2.forward(x).sum_dim(2).squeeze_dim(2))
    }
}

/// Pictures resized to half and back, by each interpolation that both exporters support.
#[derive(Module, Debug)]
pub struct Resized {
    down: Conv2d,
    middle: Conv2d,
    up: Conv2d,
}

impl Resized {
    pub fn new() -> Self {
        filled(Self {
            down: conv([1, 6], 3, 2, 1, true),
            middle: conv([6, 6], 3, 2, 1, true),
            up: conv([6, 1], 3, 1, 1, true),
        })
    }

    pub fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        let resized = |x: Tensor<4>, mode: InterpolateMode, size: [usize; 2]| {
            interpolate(x, InterpolateOptions::new(mode).with_align_corners(false).with_output_size(size))
        };
        let first = relu(self.down.forward(image));
        let x = relu(self.middle.forward(first.clone()));
        let x = resized(x, InterpolateMode::Nearest, [6, 8]) + first;
        let x = resized(x, InterpolateMode::Bilinear, [9, 12]);
        sigmoid(self.up.forward(resized(x, InterpolateMode::Bicubic, [12, 16])))
    }
}

/// Operations outside layers: arithmetic, extremes, indices, slices.
#[derive(Module, Debug)]
pub struct Arithmetic {
    mix: Linear,
    factor: Param<Tensor<2>>,
}

impl Arithmetic {
    pub fn new() -> Self {
        let mix = LinearConfig::new(6, 6).with_bias(false).init(&Device::flex());
        filled(Self { mix, factor: Param::from_tensor(known("factor", [5, 3])) })
    }

    pub fn forward(&self, rows: Tensor<2>) -> (Tensor<2>, Tensor<2, Int>) {
        let device = rows.device();
        let [batch, width] = rows.dims();
        let x = self.mix.forward(rows.clone() * 0.5 - 0.25);
        let x = x.clone().abs().sqrt() - (-x.abs() / 3.0).exp() + (rows.clone().abs() + 1.0).log();
        let (largest, at) = x.clone().max_dim_with_indices(1);
        let (least, from) = x.clone().min_dim_with_indices(1);
        let x = (x - least) / (largest + 2.5);
        // Every row scatters into the columns that its indices name.
        let targets = Tensor::<2, Int>::zeros([batch, width], &device) + at.clone();
        let raised = Tensor::zeros([batch, width], &device).scatter(1, targets, x.clone(), IndexingUpdateOp::Add);
        let order = Tensor::<1, Int>::from_ints([5, 1, 3, 0], &device);
        let chosen = (raised + Tensor::ones([batch, width], &device)).select(1, order);
        let padded = chosen.pad([(1, 2)], PadMode::Constant(0.75)) * Tensor::full([batch, 7], 1.5, &device);
        let mixed = padded.slice([0..batch, 1..6]).matmul(self.factor.val());
        let winner = x.clone().argmax(1) + x.clone().argmin(1) * 2 - from;
        let counts = Tensor::cat(vec![winner, at], 1);
        let table = Tensor::<2, Int>::from_ints([[1, -2, 3], [4, 0, -1]], &device);
        (Tensor::cat(vec![mixed, x.sum_dim(1)], 1), counts.matmul(table))
    }
}
