//! ResNet-18 and ResNet-50, He et al. 2015 (arXiv:1512.03385), at an eighth of their width.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

use super::conv;
use crate::filled;

#[derive(Module, Debug)]
struct Residual {
    convs: Vec<Conv2d>,
    norms: Vec<BatchNorm>,
    downsample: Option<(Conv2d, BatchNorm)>,
}

#[derive(Module, Debug)]
pub struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    maxpool: MaxPool2d,
    layers: Vec<Vec<Residual>>,
    avgpool: AdaptiveAvgPool2d,
    fc: Linear,
}

fn norm(channels: usize) -> BatchNorm {
    BatchNormConfig::new(channels).init(&Device::flex())
}

impl Residual {
    /// Kernels of the block: `[3, 3]` for the basic block; `[1, 3, 1]` for the bottleneck, whose last convolution is
    /// four times as wide.
    fn new(input: usize, width: usize, kernels: &[usize], stride: usize) -> Self {
        let output = width * if kernels.len() == 3 { 4 } else { 1 };
        let strided = kernels.iter().position(|&kernel| kernel == 3).expect("a 3×3 kernel");
        let (mut convs, mut norms, mut from) = (vec![], vec![], input);
        for (index, &kernel) in kernels.iter().enumerate() {
            let to = if index + 1 == kernels.len() { output } else { width };
            convs.push(conv([from, to], kernel, if index == strided { stride } else { 1 }, 1, false));
            norms.push(norm(to));
            from = to;
        }
        let changes = input != output || stride != 1;
        let downsample = changes.then(|| (conv([input, output], 1, stride, 1, false), norm(output)));
        Self { convs, norms, downsample }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let shortcut = match &self.downsample {
            Some((conv, bn)) => bn.forward(conv.forward(x.clone())),
            None => x.clone(),
        };
        let last = self.convs.len() - 1;
        let x = self.convs.iter().zip(&self.norms).enumerate().fold(x, |x, (index, (conv, bn))| {
            let x = bn.forward(conv.forward(x));
            if index == last { x } else { relu(x) }
        });
        relu(x + shortcut)
    }
}

impl ResNet {
    pub fn new(blocks: [usize; 4], kernels: &[usize]) -> Self {
        let mut channels = 8;
        let layers = blocks
            .iter()
            .enumerate()
            .map(|(stage, &count)| {
                let width = 8 << stage;
                (0..count)
                    .map(|index| {
                        let block =
                            Residual::new(channels, width, kernels, if index == 0 && stage > 0 { 2 } else { 1 });
                        channels = width * if kernels.len() == 3 { 4 } else { 1 };
                        block
                    })
                    .collect()
            })
            .collect();
        let pad = PaddingConfig2d::Explicit(1, 1, 1, 1);
        filled(Self {
            conv1: conv([3, 8], 7, 2, 1, false),
            bn1: norm(8),
            maxpool: MaxPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(pad).init(),
            layers,
            avgpool: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            fc: LinearConfig::new(channels, 10).init(&Device::flex()),
        })
    }

    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.maxpool.forward(relu(self.bn1.forward(self.conv1.forward(images))));
        let x = self.layers.iter().flatten().fold(x, |x, block| block.forward(x));
        self.fc.forward(self.avgpool.forward(x).flatten(1, 3))
    }
}

#[cfg(test)]
mod tests {
    use export::Exporter;

    use super::ResNet;
    use crate::networks::agrees::{agrees, any_picture};
    use crate::{batch_of, operators};

    #[test]
    fn resnet_18() {
        let exporter = Exporter::new("resnet18").input("image", batch_of(&[3, 64, 32])).output("logits");
        let model = agrees(&exporter, &ResNet::new([2, 2, 2, 2], &[3, 3]), ResNet::forward);
        // 20 convolutions, 17 activations, 8 sums, 2 poolings, one flattening, one product: nothing else.
        assert_eq!(model.graph().nodes.len(), 20 + 17 + 8 + 2 + 1 + 1, "{:?}", operators(&model));
        let names: Vec<_> = model.graph().nodes.iter().map(|node| node.name.as_str()).collect();
        for name in ["conv1", "layers.0.1.convs.1", "layers.3.0.downsample.0", "fc"] {
            assert!(names.contains(&name), "{name} is missing in {names:?}");
        }
    }

    #[test]
    fn resnet_50() {
        let exporter = Exporter::new("resnet50").input("image", batch_of(&[3, 32, 64])).output("logits");
        let model = agrees(&exporter, &ResNet::new([3, 4, 6, 3], &[1, 3, 1]), ResNet::forward);
        assert_eq!(model.graph().nodes.len(), 53 + 49 + 16 + 2 + 1 + 1, "{:?}", operators(&model));
    }

    #[test]
    fn resnet_of_any_picture() {
        let exporter = Exporter::new("resnet18-any").input("image", any_picture(3)).output("logits");
        agrees(&exporter, &ResNet::new([1, 1, 1, 1], &[3, 3]), ResNet::forward);
    }
}
