//! Non-local blocks, Wang et al. 2018 (arXiv:1711.07971), in the form that fast-reid puts into its ResNets. Field names
//! are the keys of its state dictionaries.
#![expect(non_snake_case, reason = "the last layer is called `W` in the published state dictionaries")]

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Tensor};

use super::batch_norm::UnbiasedBatchNorm;
use super::init::Init;

/// What every position takes from all others, added to the map. A fresh block adds nothing.
///
/// Inside there is one channel, as in fast-reid: position p takes θ(p) · mean over q of φ(q) · g(q). The mean is the
/// same for every p, so that no matrix of all pairs is needed.
#[derive(Module, Debug)]
pub struct NonLocal {
    g: Conv2d,
    theta: Conv2d,
    phi: Conv2d,
    W: (Conv2d, UnbiasedBatchNorm),
}

impl NonLocal {
    /// A block on maps of this many channels, not initialised.
    pub fn new(channels: usize, device: &Device) -> Self {
        let layer = |input, output| Conv2dConfig::new([input, output], [1, 1]).init(device);
        let inner = || layer(channels, 1);
        Self {
            g: inner(),
            theta: inner(),
            phi: inner(),
            W: (layer(1, channels), UnbiasedBatchNorm::new(channels, device)),
        }
    }

    /// The map and what was taken.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, height, width]`
    /// - returns: the same
    pub fn forward(&self, input: Tensor<4>) -> Tensor<4> {
        let [g, theta, phi] = [&self.g, &self.theta, &self.phi].map(|layer| kernels::conv2d(layer, input.clone()));
        let taken = theta * kernels::global_avg_pool(phi * g);
        let (widen, norm) = &self.W;
        norm.forward(kernels::conv2d(widen, taken)) + input
    }
}

/// How a parameter of a block starts: as in PyTorch, and the scale of the last norm at 0.
pub fn init(key: &str) -> Init {
    if key.ends_with(".W.1.weight") { Init::Constant(0.0) } else { Init::UniformFanIn }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    /// The product of all pairs, as the paper writes it.
    #[test]
    fn the_mean_is_that_over_all_pairs() {
        let device = Device::flex();
        let block = NonLocal::new(6, &device);
        let values: Vec<f32> = (0..6 * 12).map(|k| (k * 7 % 11) as f32 / 5.0 - 1.0).collect();
        let input = Tensor::<4>::from_data(TensorData::new(values, [1, 6, 4, 3]), &device);
        let flat = |layer: &Conv2d| layer.forward(input.clone()).reshape([12, 1]);
        let pairs = flat(&block.theta).matmul(flat(&block.phi).transpose()) / 12.0;
        let taken = pairs.matmul(flat(&block.g)).reshape([1, 1, 4, 3]);
        let wanted = block.W.1.forward(block.W.0.forward(taken)) + input.clone();
        let off = (block.forward(input) - wanted).abs().max().into_scalar::<f32>();
        assert!(off < 1e-5, "{off}");
    }
}
