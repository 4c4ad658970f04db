//! ConvNeXt blocks, Liu et al. 2022 (arXiv:2201.03545): depthwise 7×7, layer norm over channels, an inverted
//! bottleneck.

use burn::module::{Module, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::conv;
use crate::{filled, known};

#[derive(Module, Debug)]
struct Block {
    dwconv: Conv2d,
    norm: LayerNorm,
    pwconv1: Linear,
    act: Gelu,
    pwconv2: Linear,
    gamma: Param<Tensor<1>>,
}

#[derive(Module, Debug)]
pub struct ConvNext {
    stem: Conv2d,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Block {
    fn new(width: usize) -> Self {
        let device = Device::flex();
        Self {
            dwconv: conv([width, width], 7, 1, width, true),
            norm: LayerNormConfig::new(width).with_epsilon(1e-6).init(&device),
            pwconv1: LinearConfig::new(width, 4 * width).init(&device),
            act: Gelu::new(),
            pwconv2: LinearConfig::new(4 * width, width).init(&device),
            gamma: Param::from_tensor(known("gamma", [width])),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.norm.forward(self.dwconv.forward(x.clone()).permute([0, 2, 3, 1]));
        let y = self.pwconv2.forward(self.act.forward(self.pwconv1.forward(y)));
        x + (y * self.gamma.val().unsqueeze::<4>()).permute([0, 3, 1, 2])
    }
}

impl ConvNext {
    pub fn new() -> Self {
        let device = Device::flex();
        filled(Self {
            stem: Conv2dConfig::new([3, 12], [4, 4]).with_stride([4, 4]).init(&device),
            blocks: (0..3).map(|_| Block::new(12)).collect(),
            norm: LayerNormConfig::new(12).init(&device),
            head: LinearConfig::new(12, 7).init(&device),
        })
    }

    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = self.blocks.iter().fold(self.stem.forward(images), |x, block| block.forward(x));
        self.head.forward(self.norm.forward(x.mean_dim(3).mean_dim(2).flatten::<2>(1, 3)))
    }
}

#[cfg(test)]
mod tests {
    use export::Exporter;

    use super::ConvNext;
    use crate::batch_of;
    use crate::networks::agrees::{agrees, any_picture};

    #[test]
    fn convnext() {
        let exporter = Exporter::new("convnext").input("image", batch_of(&[3, 32, 16])).output("logits");
        agrees(&exporter, &ConvNext::new(), ConvNext::forward);
        let exporter = Exporter::new("convnext-any").input("image", any_picture(3));
        agrees(&exporter, &ConvNext::new(), ConvNext::forward);
    }
}
