//! Dropout whose masks follow from keys instead of a device's generator: a resumed run drops what the run without a break would
//! have dropped, on any device.

use burn::module::Module;
use burn::tensor::{Tensor, TensorData};

use crate::rng::Rng;

/// Where masks come from.
#[derive(Debug, Clone)]
pub struct Masks(Option<Rng>);

impl Masks {
    /// Nothing is dropped: evaluation.
    pub fn none() -> Self {
        Self(None)
    }

    /// The masks of these keys, such as `[seed, epoch, step]`, one after another.
    pub fn of(keys: &[u64]) -> Self {
        Self(Some(Rng::new(keys)))
    }
}

/// Inverted dropout (Srivastava et al. 2014): values become 0 at a rate, the others grow so that the mean stays.
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

    /// The input with the next mask on it.
    pub fn forward<const D: usize>(&self, input: Tensor<D>, masks: &mut Masks) -> Tensor<D> {
        let (Some(rng), true) = (&mut masks.0, self.rate > 0.0) else { return input };
        let kept = (1.0 / (1.0 - self.rate)) as f32;
        let count = input.shape().num_elements();
        let mask: Vec<f32> = (0..count).map(|_| if rng.happens(self.rate) { 0.0 } else { kept }).collect();
        let mask = TensorData::new(mask, input.shape()).convert_dtype(input.dtype());
        let device = input.device();
        input * Tensor::from_data(mask, &device)
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
}
