//! A vision transformer, Dosovitskiy et al. 2020 (arXiv:2010.11929): patches, class token, positions, two blocks.

use burn::module::{Module, Param};
use burn::nn::attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Dropout, DropoutConfig, Gelu, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::{filled, known};

const WIDTH: usize = 24;

#[derive(Module, Debug)]
pub struct Mlp {
    fc1: Linear,
    act: Gelu,
    drop: Dropout,
    fc2: Linear,
}

#[derive(Module, Debug)]
pub struct Block {
    norm1: LayerNorm,
    attn: MultiHeadAttention,
    norm2: LayerNorm,
    mlp: Mlp,
}

#[derive(Module, Debug)]
pub struct Vit {
    patch_embed: Conv2d,
    cls_token: Param<Tensor<3>>,
    pos_embed: Param<Tensor<3>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl Block {
    /// A block of any width, with four heads.
    pub fn new(width: usize, gelu: Gelu) -> Self {
        let device = Device::flex();
        Self {
            norm1: LayerNormConfig::new(width).init(&device),
            attn: MultiHeadAttentionConfig::new(width, 4).init(&device),
            norm2: LayerNormConfig::new(width).init(&device),
            mlp: Mlp {
                fc1: LinearConfig::new(width, 4 * width).init(&device),
                act: gelu,
                drop: DropoutConfig::new(0.1).init(),
                fc2: LinearConfig::new(4 * width, width).init(&device),
            },
        }
    }

    /// Residual attention, then a residual perceptron; `mask` is true for tokens that must not be attended to.
    pub fn forward(&self, x: Tensor<3>, mask: Option<Tensor<3, burn::tensor::Bool>>) -> Tensor<3> {
        let attended = MhaInput::self_attn(self.norm1.forward(x.clone()));
        let attended = match mask {
            Some(mask) => attended.mask_attn(mask),
            None => attended,
        };
        let x = x + self.attn.forward(attended).context;
        let hidden = self.mlp.fc1.forward(self.norm2.forward(x.clone()));
        x + self.mlp.fc2.forward(self.mlp.drop.forward(self.mlp.act.forward(hidden)))
    }
}

impl Vit {
    pub fn new() -> Self {
        let device = Device::flex();
        filled(Self {
            patch_embed: Conv2dConfig::new([3, WIDTH], [8, 8]).with_stride([8, 8]).init(&device),
            cls_token: Param::from_tensor(known("cls", [1, 1, WIDTH])),
            pos_embed: Param::from_tensor(known("pos", [1, 9, WIDTH])),
            blocks: vec![Block::new(WIDTH, Gelu::new()), Block::new(WIDTH, Gelu::new_approximate())],
            norm: LayerNormConfig::new(WIDTH).init(&device),
            head: LinearConfig::new(WIDTH, 5).init(&device),
        })
    }

    pub fn forward(&self, images: Tensor<4>) -> (Tensor<2>, Tensor<3>) {
        let patches = self.patch_embed.forward(images).flatten::<3>(2, 3).swap_dims(1, 2);
        let [batch, ..] = patches.dims();
        let token = self.cls_token.val().expand([batch, 1, WIDTH]);
        let x = Tensor::cat(vec![token, patches], 1) + self.pos_embed.val();
        let x = self.norm.forward(self.blocks.iter().fold(x, |x, block| block.forward(x, None)));
        (self.head.forward(x.clone().narrow(1, 0, 1).squeeze_dim::<2>(1)), x.slice([0..batch, 1..9]))
    }
}

#[cfg(test)]
mod tests {
    use export::Exporter;

    use super::Vit;
    use crate::networks::agrees::agrees;
    use crate::{batch_of, operators};

    #[test]
    fn vit() {
        let exporter = Exporter::new("vit").input("image", batch_of(&[3, 16, 32])).output("logits").output("patches");
        let model = agrees(&exporter, &Vit::new(), Vit::forward);
        let names: Vec<_> = model.graph().nodes.iter().map(|node| node.name.as_str()).collect();
        for name in ["patch_embed", "blocks.0.norm1", "blocks.1.attn.query", "blocks.1.mlp.fc2", "norm", "head"] {
            assert!(names.contains(&name), "{name} is missing in {names:?}");
        }
        assert!(model.graph().initialiser_named("cls_token").is_some());
        let latest = operators(&exporter.opset(23).export(&Vit::new(), Vit::forward).unwrap());
        let count = |name: &str| latest.iter().filter(|operator| *operator == name).count();
        assert_eq!((count("Attention"), count("Softmax")), (2, 0), "{latest:?}");
    }
}
