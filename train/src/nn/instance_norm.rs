//! Norms of maps: instance norm, alone and beside a batch norm.
#![expect(non_snake_case, reason = "fields are called as in the published state dictionaries: `IN`, `BN`")]

use burn::module::{Module, ModuleDisplay, Param};
use burn::nn::InstanceNormConfig;
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, FloatDType, Tensor};

use super::batch_norm::UnbiasedBatchNorm;

/// A norm of maps, `[batch, channels, height, width]`, as networks have it behind their convolutions.
pub trait MapNorm: Module + ModuleDisplay {
    /// For maps of this many channels, with scale 1 and shift 0.
    fn of_channels(channels: usize, device: &Device) -> Self;

    /// The normalised map.
    fn of_map(&self, map: Tensor<4>) -> Tensor<4>;

    /// As [`MapNorm::of_map`], then a ReLU.
    fn of_map_relu(&self, map: Tensor<4>) -> Tensor<4> {
        relu(self.of_map(map))
    }
}

impl MapNorm for UnbiasedBatchNorm {
    fn of_channels(channels: usize, device: &Device) -> Self {
        Self::new(channels, device)
    }

    fn of_map(&self, map: Tensor<4>) -> Tensor<4> {
        self.forward(map)
    }

    fn of_map_relu(&self, map: Tensor<4>) -> Tensor<4> {
        self.forward_relu(map)
    }
}

/// Instance norm: each channel of each sample over its map, in training and in evaluation alike. It computes in single
/// precision and returns the precision of its input, as batch norms do. Burn's layer does the work; its parameters have
/// PyTorch's names here, which the store gives to other norms only.
///
/// A channel without variance comes out as its shift: see [`centred`].
#[derive(Module, Debug)]
pub struct SampleNorm {
    /// Scale γ, `[channels]`.
    weight: Param<Tensor<1>>,
    /// Shift β, `[channels]`.
    bias: Param<Tensor<1>>,
}

/// Each channel less its mean, which moves it near 0. A norm takes the mean off once more.
///
/// The mean of a channel that hardly varies is off by some ε of its values. A norm alone divides what that leaves by
/// √1e-5, its floor under the deviation: 300 ε, by which Burn and every runtime of an export differ, as each adds up in
/// its own order. What is left around 0 has an ε of its own.
fn centred(map: Tensor<4>) -> Tensor<4> {
    let mean = kernels::global_avg_pool(map.clone());
    map - mean
}

impl MapNorm for SampleNorm {
    fn of_channels(channels: usize, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
        }
    }

    fn of_map(&self, map: Tensor<4>) -> Tensor<4> {
        let [_, channels, ..] = map.dims();
        let norm = InstanceNormConfig::new(channels).with_affine(false).init(&map.device());
        let each = |parameter: &Param<Tensor<1>>| parameter.val().reshape([1, channels, 1, 1]);
        let single = |map: Tensor<4>| norm.forward(centred(map)) * each(&self.weight) + each(&self.bias);
        match map.dtype() {
            DType::F32 => single(map),
            precision => single(map.cast(FloatDType::F32)).cast(precision),
        }
    }
}

/// IBN-a, Pan et al. 2018 (arXiv:1807.09441): instance norm on the first half of the channels, batch norm on the rest.
#[derive(Module, Debug)]
pub struct InstanceBatchNorm {
    IN: SampleNorm,
    BN: UnbiasedBatchNorm,
}

impl MapNorm for InstanceBatchNorm {
    fn of_channels(channels: usize, device: &Device) -> Self {
        let half = channels / 2;
        Self { IN: MapNorm::of_channels(half, device), BN: MapNorm::of_channels(channels - half, device) }
    }

    fn of_map(&self, map: Tensor<4>) -> Tensor<4> {
        let [_, channels, ..] = map.dims();
        let half = channels / 2;
        let first = self.IN.of_map(map.clone().narrow(1, 0, half));
        Tensor::cat(vec![first, self.BN.of_map(map.narrow(1, half, channels - half))], 1)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;

    /// Two samples of two channels: [1, 3] becomes ∓1, whatever the other sample has; the batch norm, which has seen
    /// nothing yet, changes nothing.
    #[test]
    fn the_first_half_is_normalised_by_sample() {
        let device = Device::flex();
        let values = vec![1.0f32, 3.0, 5.0, 6.0, 10.0, 30.0, -5.0, 7.0];
        let input = Tensor::<4>::from_data(TensorData::new(values, [2, 2, 1, 2]), &device);
        let output = InstanceBatchNorm::of_channels(2, &device).of_map_relu(input);
        let found = output.into_data().try_to_vec::<f32>().unwrap();
        for (found, wanted) in found.iter().zip([0.0, 1.0, 5.0, 6.0, 0.0, 1.0, 0.0, 7.0]) {
            assert!((found - wanted).abs() < 1e-4, "{found} for {wanted}");
        }
    }

    /// In exact numbers such a channel is its shift, 0 here. Off by as little as one bit, the mean of 3,072 values of
    /// 100 would leave 2e-3.
    #[test]
    fn a_channel_without_variance_is_its_shift() {
        let device = Device::flex();
        for value in [0.1f32, 1.7, 33.3, 100.3, -12_345.6] {
            let input = Tensor::<4>::full([2, 3, 96, 32], value, &device);
            let found = SampleNorm::of_channels(3, &device).of_map(input).into_data().try_to_vec::<f32>().unwrap();
            let largest = found.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            assert!(largest < 1e-5, "{value}: {largest}");
        }
    }

    #[test]
    fn half_precision_is_computed_in_single() {
        let device = Device::flex();
        let input = Tensor::<4>::from_data(TensorData::new(vec![1.0f32, 3.0, 3.0, 1.0], [1, 1, 2, 2]), &device);
        let output = SampleNorm::of_channels(1, &device).of_map(input.cast(FloatDType::BF16));
        assert_eq!(output.dtype(), DType::BF16);
        let found = output.cast(FloatDType::F32).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(found, [-1.0, 1.0, 1.0, -1.0]);
    }
}
