//! Convolutions and pools as ResNet and OSNet have them.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::tensor::Device;

/// A square convolution without bias, padded by half its kernel: stride 1 keeps the size of a map.
pub fn conv(input: usize, output: usize, kernel: usize, stride: usize, groups: usize, device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([input, output], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_groups(groups)
        .with_bias(false)
        .init(device)
}

/// The 3×3 maximum after a network's first convolution. It halves height and width, rounding up.
pub fn halving_max_pool() -> MaxPool2d {
    let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
    MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(padding).init()
}

/// The same without a border: a window of even sizes lacks its last row and column instead of its first.
pub fn unpadded_max_pool() -> MaxPool2d {
    MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_ceil_mode(true).init()
}
