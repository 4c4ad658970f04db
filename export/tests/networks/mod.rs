//! Whole networks that are not ours, with small widths: what users bring. Each is compared with Burn at several batch sizes,
//! simplified and as recorded, at an early, the default and a late operator set.

mod convnext;
mod gpt;
mod mobilenet;
mod recurrent;
mod resnet;
mod unet;
mod vit;

use burn::module::Module;
use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use contract::Axis;
use export::{ExportedModel, Exporter, Inputs, Outputs};

use crate::verified;

/// Exports in all forms, compares each, and gives the simplified one of the default operator set.
fn agrees<M, I, O>(exporter: &Exporter, net: &M, forward: fn(&M, I) -> O) -> ExportedModel
where
    M: Module + 'static,
    I: Inputs + 'static,
    O: Outputs + 'static,
{
    for opset in [17, 23] {
        verified(&exporter.clone().opset(opset).export(net, forward).unwrap());
    }
    verified(&exporter.clone().optimise(false).export(net, forward).unwrap());
    let model = exporter.clone().export(net, forward).unwrap();
    verified(&model);
    model
}

/// `[batch, channels, height, width]`, all but the channels of any size.
fn any_picture(channels: usize) -> [Axis; 4] {
    ["batch", "", "height", "width"].map(|name| match name {
        "" => Axis::Size(channels),
        name => Axis::Symbol(name.into()),
    })
}

/// A square convolution that pads by half its kernel.
fn conv([input, output]: [usize; 2], kernel: usize, stride: usize, groups: usize, bias: bool) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new([input, output], [kernel, kernel])
        .with_stride([stride, stride])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_groups(groups)
        .with_bias(bias)
        .init(&burn::tensor::Device::flex())
}
