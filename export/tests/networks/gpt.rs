//! A small GPT: token and position embeddings, blocks with a causal mask, logits by the transposed embedding.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, Gelu, LayerNorm, LayerNormConfig};
use burn::tensor::{Bool, Device, Int, Tensor};

use super::vit::Block;
use crate::filled;

const WIDTH: usize = 16;
pub const TOKENS: usize = 11;
const CONTEXT: usize = 24;

#[derive(Module, Debug)]
pub struct Gpt {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<Block>,
    ln_f: LayerNorm,
}

impl Gpt {
    pub fn new() -> Self {
        let device = Device::flex();
        filled(Self {
            wte: EmbeddingConfig::new(TOKENS, WIDTH).init(&device),
            wpe: EmbeddingConfig::new(CONTEXT, WIDTH).init(&device),
            h: (0..2).map(|_| Block::new(WIDTH, Gelu::new_approximate())).collect(),
            ln_f: LayerNormConfig::new(WIDTH).init(&device),
        })
    }

    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        let device = tokens.device();
        let positions = Tensor::arange(0..length as i64, &device).unsqueeze::<2>();
        let x = self.wte.forward(tokens) + self.wpe.forward(positions);
        let mask = Tensor::<2, Bool>::tril_mask([length, length], 0, &device).expand([batch, length, length]);
        let x = self.h.iter().fold(x, |x, block| block.forward(x, Some(mask.clone())));
        self.ln_f.forward(x).matmul(self.wte.weight.val().transpose().unsqueeze())
    }
}

#[cfg(test)]
mod tests {
    use contract::Axis;
    use export::Exporter;

    use super::{Gpt, TOKENS};
    use crate::networks::agrees::agrees;
    use crate::{batch_of, operators};

    #[test]
    fn gpt() {
        let exporter = Exporter::new("gpt").integers("tokens", batch_of(&[7]), 0, TOKENS as i64).output("logits");
        agrees(&exporter, &Gpt::new(), Gpt::forward);
    }

    #[test]
    fn gpt_of_any_length() {
        let exporter = Exporter::new("gpt-any")
            .integers("tokens", [Axis::Symbol("batch".into()), Axis::Symbol("length".into())], 0, TOKENS as i64)
            .recorded_at("length", [4, 7, 24])
            .output("logits");
        let model = agrees(&exporter, &Gpt::new(), Gpt::forward);
        // Positions and mask are computed from the length.
        assert!(operators(&model).contains(&"Range".to_owned()));
    }
}
