//! From features to a picture.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::sequence::{self, Maps, doubling, norm_relu};

/// Channels of the smallest map.
pub(crate) const CHANNELS: usize = 512;

/// Linear to a map of a sixteenth of the size, then four doublings.
#[derive(Module, Debug)]
pub struct ImageGenerator {
    spatial_proj: Linear,
    generator: Maps,
}

impl ImageGenerator {
    /// # Panics
    /// If `size` is not a multiple of 16 above 0.
    pub(crate) fn new(features: usize, size: usize, device: &Device) -> Self {
        assert!(size > 0 && size.is_multiple_of(16), "a picture's edge is a multiple of 16, not {size}");
        let edge = size / 16;
        let mut generator = Maps::new();
        for (input, output) in [(CHANNELS, 256), (256, 128), (128, 64)] {
            generator.extend(norm_relu(doubling(input, output, device), output, device));
        }
        generator.push(doubling(64, 3, device));
        Self { spatial_proj: LinearConfig::new(features, CHANNELS * edge * edge).init(device), generator }
    }

    /// `[batch, features]` to `[batch, 3, size, size]`, values in [−1, 1].
    pub(crate) fn forward(&self, features: Tensor<2>) -> Tensor<4> {
        let map = self.spatial_proj.forward(features);
        let [batch, values] = map.dims();
        let edge = (values / CHANNELS).isqrt();
        sequence::maps(&self.generator, map.reshape([batch, CHANNELS, edge, edge])).tanh()
    }
}
