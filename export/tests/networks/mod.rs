//! Whole third-party networks with small widths, as users bring them. Each is compared with Burn at several batch
//! sizes, optimised and as recorded, at an early, the default and a late operator set.
//!
//! Only the tests in these files use our exporter: `ci/burn_onnx` compiles the same networks for another exporter.

#[cfg(test)]
mod agrees;
pub mod block;
pub mod convnext;
pub mod gpt;
pub mod mobilenet;
pub mod norms;
pub mod recurrent;
pub mod resnet;
pub mod unet;
pub mod vit;

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};

/// A square convolution whose padding is half its kernel.
pub fn conv([input, output]: [usize; 2], kernel: usize, stride: usize, groups: usize, bias: bool) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([input, output], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_groups(groups)
        .with_bias(bias)
        .init(&burn::tensor::Device::flex())
}
