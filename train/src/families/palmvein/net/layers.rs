//! Parts of the palm-vein backbones. Field names are the reference's state-dictionary keys.

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};

use crate::nn::batch_norm::UnbiasedBatchNorm;

/// A square convolution without bias, padded to keep the size at stride 1, and a batch norm. No activation.
#[derive(Module, Debug)]
pub struct ConvBn {
    c: Conv2d,
    bn: UnbiasedBatchNorm,
}

impl ConvBn {
    /// `kernel` is odd; `groups` divides both numbers of channels.
    pub fn new(input: usize, output: usize, kernel: usize, stride: usize, groups: usize, device: &Device) -> Self {
        let pad = kernel / 2;
        let c = Conv2dConfig::new([input, output], [kernel, kernel])
            .with_stride([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_groups(groups)
            .with_bias(false)
            .init(device);
        Self { c, bn: UnbiasedBatchNorm::new(output, device) }
    }

    /// 1×1.
    pub fn pointwise(input: usize, output: usize, device: &Device) -> Self {
        Self::new(input, output, 1, 1, 1, device)
    }

    /// Each channel alone.
    pub fn depthwise(channels: usize, kernel: usize, stride: usize, device: &Device) -> Self {
        Self::new(channels, channels, kernel, stride, channels, device)
    }

    /// `[batch, input, height, width]` to `[batch, output, ⌈height / stride⌉, ⌈width / stride⌉]`.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.bn.forward(kernels::conv2d(&self.c, input))
    }

    /// The same with a ReLU behind it.
    pub fn forward_relu(&self, input: Tensor<4>) -> Tensor<4> {
        self.bn.forward_relu(kernels::conv2d(&self.c, input))
    }
}

/// What a block adds to its input; the reference keeps it under the key `m`.
#[derive(Module, Debug)]
pub struct Residual<M: Module> {
    /// The branch.
    pub m: M,
}

/// Two 1×1 convolutions with a ReLU between them.
#[derive(Module, Debug)]
pub struct Ffn {
    pw1: ConvBn,
    pw2: ConvBn,
}

impl Ffn {
    /// Widens `channels` twofold inside.
    pub fn new(channels: usize, device: &Device) -> Self {
        let hidden = 2 * channels;
        Self { pw1: ConvBn::pointwise(channels, hidden, device), pw2: ConvBn::pointwise(hidden, channels, device) }
    }

    /// `[batch, channels, height, width]` to the same.
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        self.pw2.forward(self.pw1.forward_relu(input))
    }
}
