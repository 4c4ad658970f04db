//! Dropout and stochastic depth. Masks are drawn from keys instead of a device's generator, so that a resumed run drops
//! what the uninterrupted run would have dropped, on any device.

use burn::module::Module;
use burn::tensor::{Shape, Tensor, TensorData};

use crate::rng::Rng;

/// Where masks come from.
#[derive(Debug, Clone)]
pub struct Masks(Option<Rng>);

impl Masks {
    /// Nothing is dropped: evaluation.
    pub fn none() -> Self {
        Self(None)
    }

    /// Masks drawn one after another by a generator with these keys, such as `[seed, epoch, step]`.
    pub fn of(keys: &[u64]) -> Self {
        Self(Some(Rng::new(keys)))
    }

    /// The input times the next mask, which has this shape and is broadcast. Its values are 0 with probability `rate`
    /// and otherwise 1 / (1 - rate), which keeps the mean. In evaluation and at rate 0 the input is returned as it is.
    fn apply<const D: usize>(&mut self, input: Tensor<D>, shape: impl Into<Shape>, rate: f64) -> Tensor<D> {
        let (Some(rng), true) = (&mut self.0, rate > 0.0) else { return input };
        let shape = shape.into();
        let kept = (1.0 / (1.0 - rate)) as f32;
        let count = shape.num_elements();
        let mask: Vec<f32> = (0..count).map(|_| if rng.happens(rate) { 0.0 } else { kept }).collect();
        let mask = TensorData::new(mask, shape).convert_dtype(input.dtype());
        let device = input.device();
        input * Tensor::from_data(mask, &device)
    }
}

/// Inverted dropout (Srivastava et al. 2014): a share of the values becomes 0, and the others are scaled up so that the
/// mean stays.
#[derive(Module, Debug)]
pub struct Dropout {
    #[module(skip)]
    rate: f64,
}

impl Dropout {
    /// Drops this share of values, 0 to below 1.
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }

    /// The input times the next mask.
    ///
    /// # Shapes
    /// - `input`: any
    /// - returns: the same
    pub fn forward<const D: usize>(&self, input: Tensor<D>, masks: &mut Masks) -> Tensor<D> {
        let shape = input.shape();
        masks.apply(input, shape, self.rate)
    }
}

/// Stochastic depth (Huang et al. 2016, arXiv:1603.09382): a residual branch is left out for some samples, and scaled
/// up for the others so that the mean stays.
#[derive(Module, Debug)]
pub struct DropPath {
    #[module(skip)]
    rate: f64,
}

impl DropPath {
    /// Leaves the branch out for this share of samples, 0 to below 1.
    pub fn new(rate: f64) -> Self {
        Self { rate }
    }

    /// The branch times the next mask, which has one value per sample.
    ///
    /// # Shapes
    /// - `branch`: `[batch, channels, height, width]`
    /// - returns: the same
    pub fn forward(&self, branch: Tensor<4>, masks: &mut Masks) -> Tensor<4> {
        let [batch, _, _, _] = branch.dims();
        masks.apply(branch, [batch, 1, 1, 1], self.rate)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_tenth_is_dropped_the_mean_stays_and_keys_decide() {
        let ones = || Tensor::<2>::ones([100, 100], &Device::flex());
        let dropped =
            |masks: &mut Masks| Dropout::new(0.1).forward(ones(), masks).into_data().try_to_vec::<f32>().unwrap();
        let values = dropped(&mut Masks::of(&[1, 2]));
        let zeros = values.iter().filter(|value| **value == 0.0).count();
        // Standard deviation 30; five of them.
        assert!(zeros.abs_diff(1000) < 150, "{zeros}");
        assert!(values.iter().all(|value| *value == 0.0 || (value - 1.0 / 0.9).abs() < 1e-6));
        assert_eq!(values, dropped(&mut Masks::of(&[1, 2])));
        let mut masks = Masks::of(&[1, 2]);
        assert_eq!(values, dropped(&mut masks));
        assert_ne!(values, dropped(&mut masks), "the next mask is another one");
        assert_eq!(dropped(&mut Masks::none()), vec![1.0; 10_000]);
    }

    #[test]
    fn a_branch_is_left_out_whole_for_a_share_of_the_samples() {
        let ones = || Tensor::<4>::ones([1000, 2, 3, 1], &Device::flex());
        let dropped =
            |masks: &mut Masks| DropPath::new(0.3).forward(ones(), masks).into_data().try_to_vec::<f32>().unwrap();
        let values = dropped(&mut Masks::of(&[1, 2]));
        let samples: Vec<&[f32]> = values.chunks(6).collect();
        assert!(
            samples.iter().all(|sample| sample.iter().all(|value| value == &sample[0])),
            "a sample is whole or gone"
        );
        let zeros = samples.iter().filter(|sample| sample[0] == 0.0).count();
        // Standard deviation 14.5; five of them.
        assert!(zeros.abs_diff(300) < 73, "{zeros}");
        assert!(samples.iter().all(|sample| sample[0] == 0.0 || (sample[0] - 1.0 / 0.7).abs() < 1e-6));
        assert_eq!(values, dropped(&mut Masks::of(&[1, 2])));
        assert_eq!(dropped(&mut Masks::none()), vec![1.0; 6000]);
    }
}
