//! One step of Adam in a single pass over memory, in place if nothing else holds the weights.

use burn::backend::Flex;
use burn::tensor::Tensor;
use macerator::{Simd, WithSimd};
use rayon::prelude::*;

use super::loops::dispatch;
use super::{Site, USE_OUR_KERNELS, packed, values, whole};

/// Values per task of a thread.
const SHARE: usize = 1 << 15;

/// The numbers of one step, equal for all weights.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// L2 penalty, added to the gradient.
    pub penalty: f64,
    /// Factor that keeps part of a weight before the step: decoupled weight decay.
    pub kept: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the square root of the second moment.
    pub epsilon: f64,
    /// Divisor of the square root of the second moment.
    pub root: f64,
    /// Factor of the update.
    pub rate: f64,
}

/// One Adam step. The result is bit for bit that of the same arithmetic on whole tensors.
///
/// # Shapes
/// - `tensors`: value, first moment, second moment and gradient, each `[values]`
/// - returns: the new value, first moment and second moment, each `[values]`
///
/// # Errors
/// Returns the four tensors unchanged if one of them is not on the CPU or `VITRINE_OPS=burn` is set.
///
/// # Panics
/// If the four do not have the same number of values.
pub fn adam(tensors: [Tensor<1>; 4], step: &AdamStep) -> Result<[Tensor<1>; 3], Box<[Tensor<1>; 4]>> {
    let [value, rest @ ..] = tensors.each_ref().map(Tensor::dims);
    assert!(
        rest == [value; 3],
        "adam: a value {value:?} with moments and gradient {rest:?}; all four must have the same number of values"
    );
    if !*USE_OUR_KERNELS {
        return Err(Box::new(tensors));
    }
    let found = tensors.each_ref().map(Site::plain);
    let [Some(value), Some(moment1), Some(moment2), Some(gradient)] = found else {
        return Err(Box::new(tensors));
    };
    // Drop the handles, or `storage_mut` would have to copy.
    drop(tensors);
    let [mut value, mut moment1, mut moment2] = [value, moment1, moment2].map(whole);
    let gradient = packed(gradient);
    let parts = value
        .storage_mut::<f32>()
        .par_chunks_mut(SHARE)
        .zip(moment1.storage_mut::<f32>().par_chunks_mut(SHARE))
        .zip(moment2.storage_mut::<f32>().par_chunks_mut(SHARE))
        .zip(values(&gradient).par_chunks(SHARE));
    parts.for_each(|(((value, moment1), moment2), gradient)| {
        dispatch(Update { step, value, moment1, moment2, gradient });
    });
    Ok([value, moment1, moment2].map(Tensor::from_primitive::<Flex>))
}

struct Update<'a> {
    step: &'a AdamStep,
    value: &'a mut [f32],
    moment1: &'a mut [f32],
    moment2: &'a mut [f32],
    gradient: &'a [f32],
}

impl WithSimd for Update<'_> {
    type Output = ();

    // A plain loop, which the compiler vectorises for the processor it compiles for.
    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { step, value, moment1, moment2, gradient } = self;
        let [penalty, kept, root] = [step.penalty, step.kept, step.root].map(|number| number as f32);
        let [beta1, new1] = [step.beta1, 1.0 - step.beta1].map(|number| number as f32);
        let [beta2, new2] = [step.beta2, 1.0 - step.beta2].map(|number| number as f32);
        let [epsilon, rate] = [step.epsilon, step.rate].map(|number| number as f32);
        let weights = value.iter_mut().zip(moment1).zip(moment2).zip(gradient);
        for (((value, moment1), moment2), gradient) in weights {
            let old = *value * kept;
            let gradient = if penalty == 0.0 { *gradient } else { *gradient + old * penalty };
            *moment1 = *moment1 * beta1 + gradient * new1;
            *moment2 = *moment2 * beta2 + gradient * gradient * new2;
            *value = old - *moment1 / (moment2.sqrt() / root + epsilon) * rate;
        }
    }
}
