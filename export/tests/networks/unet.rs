//! A U-Net, Ronneberger et al. 2015 (arXiv:1505.04597): two poolings down, then up by a transposed convolution and by
//! interpolation to the size of the skip connection.

use burn::module::Module;
use burn::nn::conv::{Conv2d, ConvTranspose2d, ConvTranspose2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::tensor::activation::{leaky_relu, sigmoid};
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{Device, Tensor};

use super::conv;
use crate::filled;

#[derive(Module, Debug)]
struct Double {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
}

#[derive(Module, Debug)]
pub struct UNet {
    down: Vec<Double>,
    pool: MaxPool2d,
    bottom: Double,
    up: ConvTranspose2d,
    up_bn: BatchNorm,
    joined: Vec<Double>,
    head: Conv2d,
}

impl Double {
    fn new(input: usize, output: usize) -> Self {
        Self {
            conv1: conv([input, output], 3, 1, 1, false),
            bn1: BatchNormConfig::new(output).init(&Device::flex()),
            conv2: conv([output, output], 3, 1, 1, true),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        leaky_relu(self.conv2.forward(leaky_relu(self.bn1.forward(self.conv1.forward(x)), 0.1)), 0.1)
    }
}

impl UNet {
    pub fn new() -> Self {
        filled(Self {
            down: vec![Double::new(1, 4), Double::new(4, 8)],
            pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
            bottom: Double::new(8, 16),
            up: ConvTranspose2dConfig::new([16, 8], [2, 2]).with_stride([2, 2]).init(&Device::flex()),
            up_bn: BatchNormConfig::new(8).init(&Device::flex()),
            joined: vec![Double::new(16, 8), Double::new(12, 4)],
            head: conv([4, 2], 1, 1, 1, true),
        })
    }

    pub fn forward(&self, image: Tensor<4>) -> Tensor<4> {
        let first = self.down[0].forward(image);
        let second = self.down[1].forward(self.pool.forward(first.clone()));
        let x = self.bottom.forward(self.pool.forward(second.clone()));
        let x = self.up_bn.forward(self.up.forward(x));
        let x = self.joined[0].forward(Tensor::cat(vec![second, x], 1));
        let [_, _, height, width] = first.dims();
        let options = InterpolateOptions::new(InterpolateMode::Bilinear).with_align_corners(false);
        let x = interpolate(x, options.with_output_size([height, width]));
        let x = self.joined[1].forward(Tensor::cat(vec![first, x], 1));
        sigmoid(self.head.forward(x))
    }
}

#[cfg(test)]
mod tests {
    use contract::Axis;
    use export::Exporter;

    use super::UNet;
    use crate::batch_of;
    use crate::networks::agrees::{agrees, any_picture};

    #[test]
    fn unet() {
        let exporter = Exporter::new("unet").input("image", batch_of(&[1, 16, 24])).output("mask");
        let model = agrees(&exporter, &UNet::new(), UNet::forward);
        assert!(!crate::operators(&model).contains(&"BatchNormalization".to_owned()));
    }

    #[test]
    fn unet_of_any_picture() {
        // Two halvings and a doubling by transposed convolution fit together only for multiples of 4.
        let exporter = Exporter::new("unet-any")
            .input("image", any_picture(1))
            .recorded_at("height", [16, 24, 40])
            .recorded_at("width", [8, 12, 20])
            .output("mask");
        let model = agrees(&exporter, &UNet::new(), UNet::forward);
        let [batch, height, width] = ["batch", "height", "width"].map(|name| Axis::Symbol(name.into()));
        assert_eq!(model.outputs()[0].1, [batch, Axis::Size(2), height, width]);
    }
}
