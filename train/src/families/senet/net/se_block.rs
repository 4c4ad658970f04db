//! Squeeze and excitation, Hu et al. 2018 (arXiv:1709.01507), on vectors and maps.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig, Relu};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, assert_shape};

use crate::nn::init::{Init, Source, initialise};

/// Weighs channels by gates between 0 and 1 that it computes from them.
#[derive(Module, Debug)]
pub struct SeBlock {
    fc: (Linear, Relu, Linear),
    #[module(skip)]
    use_batch_stat: bool,
}

impl SeBlock {
    /// For `channels`, through `channels / reduction` hidden values. With `use_batch_stat` vectors share the gates of
    /// their batch's mean: a row's result then depends on its companions.
    ///
    /// # Panics
    /// If `reduction` is 0 or above `channels`.
    pub fn new(channels: usize, reduction: usize, use_batch_stat: bool, device: &Device) -> Self {
        let hidden = channels / reduction;
        assert!(hidden > 0, "{channels} channels reduced by {reduction}");
        let linear = |input, output| LinearConfig::new(input, output).with_bias(false).init(device);
        Self { fc: (linear(channels, hidden), Relu::new(), linear(hidden, channels)), use_batch_stat }
    }

    /// A block on its own with the initial weights of `seed`: normal, standard deviation √(2 / outputs). Inside a
    /// network, the network's rule holds.
    pub fn seeded(channels: usize, reduction: usize, use_batch_stat: bool, seed: u64, device: &Device) -> Self {
        let mut block = Self::new(channels, reduction, use_batch_stat, device);
        initialise(&mut block, |key| Source { name: key.to_owned(), init: Init::NormalFanOut }, seed);
        block
    }

    /// The gates of vectors.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels]`
    /// - returns: the same, or `[1, channels]` with `use_batch_stat`; between 0 and 1
    pub fn gates(&self, input: Tensor<2>) -> Tensor<2> {
        let (squeeze, relu, excite) = &self.fc;
        let input = if self.use_batch_stat { input.mean_dim(0) } else { input };
        sigmoid(excite.forward(relu.forward(squeeze.forward(input))))
    }

    /// # Shapes
    /// - `input`: `[batch, channels]`
    /// - returns: the same
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let gates = self.gates(input.clone());
        input * gates
    }

    /// Maps are squeezed to their means, each by itself whatever `use_batch_stat` is.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, height, width]`
    /// - returns: the same
    pub fn forward_maps(&self, input: Tensor<4>) -> Tensor<4> {
        let [batch, channels, _, _] = input.dims();
        let (squeeze, relu, excite) = &self.fc;
        let means = input.clone().mean_dim(3).mean_dim(2).reshape([batch, channels]);
        let gates = sigmoid(excite.forward(relu.forward(squeeze.forward(means))));
        assert_shape!(gates, [batch, channels]);
        input * gates.reshape([batch, channels, 1, 1])
    }
}
