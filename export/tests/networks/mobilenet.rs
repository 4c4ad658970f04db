//! Inverted residuals as in MobileNetV2 (arXiv:1801.04381) and V3 (arXiv:1905.02244): depthwise convolutions, ReLU6,
//! hard swish, squeeze and excitation.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::activation::{hard_sigmoid, hard_swish, relu, silu};
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};

use super::conv;
use crate::filled;

#[derive(Module, Debug)]
struct ConvNorm {
    conv: Conv2d,
    bn: BatchNorm,
}

#[derive(Module, Debug)]
struct Inverted {
    expand: ConvNorm,
    depthwise: ConvNorm,
    squeeze: Option<(Conv2d, Conv2d)>,
    project: ConvNorm,
    #[module(skip)]
    residual: bool,
}

#[derive(Module, Debug)]
pub struct MobileNet {
    stem: ConvNorm,
    features: Vec<Inverted>,
    last: ConvNorm,
    classifier: Linear,
}

impl ConvNorm {
    fn new(channels: [usize; 2], kernel: usize, stride: usize, groups: usize) -> Self {
        let bn = BatchNormConfig::new(channels[1]).init(&Device::flex());
        Self { conv: conv(channels, kernel, stride, groups, false), bn }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.bn.forward(self.conv.forward(x))
    }
}

impl Inverted {
    fn new([input, output]: [usize; 2], kernel: usize, stride: usize, squeeze: bool) -> Self {
        let width = 3 * input;
        Self {
            expand: ConvNorm::new([input, width], 1, 1, 1),
            depthwise: ConvNorm::new([width, width], kernel, stride, width),
            squeeze: squeeze.then(|| (conv([width, 4], 1, 1, 1, true), conv([4, width], 1, 1, 1, true))),
            project: ConvNorm::new([width, output], 1, 1, 1),
            residual: stride == 1 && input == output,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.expand.forward(x.clone()).clamp(0.0, 6.0);
        let y = self.depthwise.forward(y);
        let y = match &self.squeeze {
            Some((fc1, fc2)) => {
                let y = hard_swish(y);
                let scale = fc2.forward(relu(fc1.forward(adaptive_avg_pool2d(y.clone(), [1, 1]))));
                y * hard_sigmoid(scale, 1.0 / 6.0, 0.5)
            }
            None => y.clamp(0.0, 6.0),
        };
        let y = self.project.forward(y);
        if self.residual { x + y } else { y }
    }
}

impl MobileNet {
    pub fn new() -> Self {
        filled(Self {
            stem: ConvNorm::new([3, 8], 3, 2, 1),
            features: vec![
                Inverted::new([8, 8], 3, 1, false),
                Inverted::new([8, 12], 5, 2, true),
                Inverted::new([12, 12], 5, 1, true),
            ],
            last: ConvNorm::new([12, 32], 1, 1, 1),
            classifier: LinearConfig::new(32, 6).init(&Device::flex()),
        })
    }

    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = hard_swish(self.stem.forward(images));
        let x = self.features.iter().fold(x, |x, block| block.forward(x));
        let x = adaptive_avg_pool2d(silu(self.last.forward(x)), [1, 1]);
        self.classifier.forward(x.flatten::<2>(1, 3))
    }
}

#[cfg(test)]
mod tests {
    use export::Exporter;

    use super::MobileNet;
    use crate::batch_of;
    use crate::networks::agrees::{agrees, any_picture};

    #[test]
    fn mobilenet() {
        let exporter = Exporter::new("mobilenet").input("image", batch_of(&[3, 32, 24])).output("logits");
        let model = agrees(&exporter, &MobileNet::new(), MobileNet::forward);
        assert!(!crate::operators(&model).contains(&"BatchNormalization".to_owned()));
        let exporter = Exporter::new("mobilenet-any")
            .input("image", any_picture(3))
            .recorded_at("height", [16, 24, 40])
            .recorded_at("width", [16, 24, 40]);
        agrees(&exporter, &MobileNet::new(), MobileNet::forward);
    }
}
