//! Batch normalisation with PyTorch's running variance.

use burn::module::{Flag, Module, Param, RunningState};
use burn::tensor::{DType, Device, FloatDType, Tensor};
use kernels::{batch_norm_given, batch_norm_train};

/// Batch normalisation whose running variance is a mean of unbiased batch variances, as in PyTorch; the normalisation
/// itself uses the biased variance in both. The layer of Burn 0.22 averages biased variances, so that a run continued
/// from a PyTorch checkpoint would drift. Parameters have PyTorch's names.
///
/// On an autodiff device the layer uses the statistics of the batch, otherwise the running ones: `module.valid()` is
/// for evaluation. A frozen layer (`module.freeze()`) always uses the running ones and does not change them. The layer
/// computes in single precision and returns the precision of its input.
#[derive(Module, Debug)]
pub struct UnbiasedBatchNorm {
    /// Scale γ, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift β, `[channels]`.
    pub bias: Param<Tensor<1>>,
    /// Mean over past batches, `[channels]`.
    pub running_mean: RunningState<Tensor<1>>,
    /// Unbiased variance over past batches, `[channels]`.
    pub running_var: RunningState<Tensor<1>>,
    /// Whether the layer takes part in training.
    training: Param<Flag>,
}

/// Share of a new batch in the running statistics.
const MOMENTUM: f64 = 0.1;

/// Floor of the variance under the root.
const EPSILON: f64 = 1e-5;

impl UnbiasedBatchNorm {
    /// γ = 1, β = 0, mean 0, variance 1.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], device)),
            bias: Param::from_tensor(Tensor::zeros([channels], device)),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
            training: Param::from_bool(true),
        }
    }

    /// As [`UnbiasedBatchNorm::new`], with a β that is stored but gets no gradient, for the necks of re-identification.
    pub fn with_fixed_bias(channels: usize, device: &Device) -> Self {
        let norm = Self::new(channels, device);
        Self { bias: norm.bias.set_require_grad(false), ..norm }
    }

    /// Normalises over every axis but the second.
    ///
    /// # Shapes
    /// - `input`: `[batch, channels, ..]`
    /// - returns: the same
    ///
    /// # Panics
    /// If the second axis is not `channels`, or if the statistics of a batch with one value per channel are asked for:
    /// its variance is 0 and the output would be the shift whatever the input is. PyTorch refuses this as well.
    pub fn forward<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.normalise(input, false)
    }

    /// As [`UnbiasedBatchNorm::forward`], then a ReLU.
    ///
    /// # Panics
    /// As [`UnbiasedBatchNorm::forward`].
    pub fn forward_relu<const D: usize>(&self, input: Tensor<D>) -> Tensor<D> {
        self.normalise(input, true)
    }

    fn normalise<const D: usize>(&self, input: Tensor<D>, activated: bool) -> Tensor<D> {
        match input.dtype() {
            DType::F32 => self.normalise_single(input, activated),
            precision => self.normalise_single(input.cast(FloatDType::F32), activated).cast(precision),
        }
    }

    fn normalise_single<const D: usize>(&self, input: Tensor<D>, activated: bool) -> Tensor<D> {
        if !input.device().is_autodiff() || !self.training.is_enabled() {
            let (mean, variance) = (self.running_mean.value(), self.running_var.value());
            return batch_norm_given(input, [self.weight.val(), self.bias.val(), mean, variance], EPSILON, activated);
        }
        let dims = input.dims();
        let count = dims.iter().product::<usize>() / dims[1];
        assert!(count > 1, "batch normalisation in training needs more than one value per channel: input {dims:?}");
        let count = count as f64;
        let batch = batch_norm_train(input, self.weight.val(), self.bias.val(), EPSILON, activated);
        let follow = |state: &RunningState<Tensor<1>>, value: Tensor<1>, scale: f64| {
            let old = state.value_sync().mul_scalar(1.0 - MOMENTUM);
            state.update((old + value.detach().mul_scalar(MOMENTUM * scale)).detach());
        };
        follow(&self.running_mean, batch.mean, 1.0);
        follow(&self.running_var, batch.variance, count / (count - 1.0));
        batch.output
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `torch.nn.BatchNorm1d(1)` on [0, 2, 4]: mean 0.1 · 2, variance 0.9 + 0.1 · 4.
    #[test]
    fn running_variance_is_unbiased() {
        let device = Device::flex().autodiff();
        let norm = UnbiasedBatchNorm::new(1, &device);
        norm.forward(Tensor::<2>::from_floats([[0.0], [2.0], [4.0]], &device));
        let eval = norm.valid();
        let value = |state: &RunningState<Tensor<1>>| state.value().into_scalar::<f32>();
        assert!((value(&eval.running_mean) - 0.2).abs() < 1e-6);
        assert!((value(&eval.running_var) - 1.3).abs() < 1e-6);
    }

    #[test]
    #[should_panic(expected = "needs more than one value per channel: input [1, 3]")]
    fn one_value_per_channel_is_refused_in_training() {
        let device = Device::flex().autodiff();
        UnbiasedBatchNorm::new(3, &device).forward(Tensor::<2>::ones([1, 3], &device));
    }

    /// A map has more values per channel than rows, and evaluation reads no statistics of the batch.
    #[test]
    fn one_row_is_enough_on_maps_and_in_evaluation() {
        let device = Device::flex().autodiff();
        let norm = UnbiasedBatchNorm::new(3, &device);
        norm.forward(Tensor::<4>::ones([1, 3, 2, 1], &device));
        norm.valid().forward(Tensor::<2>::ones([1, 3], &device.inner()));
    }

    /// A copy made by `valid()` must not move with the original (Burn shares statistics between clones).
    #[test]
    fn a_valid_copy_keeps_its_statistics() {
        let device = Device::flex().autodiff();
        let norm = UnbiasedBatchNorm::new(1, &device);
        let input = || Tensor::<2>::from_floats([[0.0], [2.0], [4.0]], &device);
        norm.forward(input());
        let copy = norm.valid();
        norm.forward(input());
        let _ = norm.valid();
        assert!((copy.running_mean.value_sync().into_scalar::<f32>() - 0.2).abs() < 1e-6);
    }

    /// A frozen layer in a network that trains: running statistics, which stay, and a gradient for what lies before it.
    #[test]
    fn a_frozen_layer_keeps_its_statistics() {
        let device = Device::flex().autodiff();
        let norm = UnbiasedBatchNorm::new(1, &device);
        norm.forward(Tensor::<2>::from_floats([[0.0], [2.0], [4.0]], &device));
        let norm = norm.valid().train().freeze();
        let input = Tensor::<2>::from_floats([[1.0], [5.0]], &device).require_grad();
        let output = norm.forward(input.clone());
        let grads = output.clone().sum().backward();
        let found = output.into_data().try_to_vec::<f32>().unwrap();
        // (x - 0.2) / sqrt(1.3 + 1e-5)
        assert!((found[0] - 0.8 / 1.30001f32.sqrt()).abs() < 1e-6 && (found[1] - 4.8 / 1.30001f32.sqrt()).abs() < 1e-6);
        let grad = input.grad(&grads).unwrap().into_data().try_to_vec::<f32>().unwrap();
        assert!(grad.iter().all(|value| (value - 1.0 / 1.30001f32.sqrt()).abs() < 1e-6), "{grad:?}");
        assert!((norm.valid().running_mean.value_sync().into_scalar::<f32>() - 0.2).abs() < 1e-6);
    }
}
