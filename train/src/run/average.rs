//! An exponential moving average of a network's weights and running statistics.
//!
//! After step n the average moves to the network by 1 − d, with d the smaller of the decay and (1 + n) / (10 + n): the
//! weights that a run starts from are soon forgotten. (The rule is TensorFlow's `ExponentialMovingAverage` with
//! `num_updates`.)

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

use crate::weights::StateDict;

/// The average of the networks of a run so far.
pub(crate) struct Average<M> {
    /// On a device without autodiff.
    net: M,
    decay: f64,
    steps: u64,
}

impl<M: Module> Average<M> {
    /// The average before the first step, which is the network itself.
    pub fn new(net: &M, decay: f64) -> Self {
        Self { net: net.valid(), decay, steps: 0 }
    }

    /// The averaged network, on a device without autodiff.
    pub fn net(&self) -> &M {
        &self.net
    }

    /// Takes in the network after a step.
    pub fn follow(&mut self, net: &M) {
        self.steps += 1;
        let steps = self.steps as f64;
        let kept = self.decay.min((1.0 + steps) / (10.0 + steps));
        let mut values = Values(GradientsParams::new());
        // By `valid()`, which brings running statistics up to date.
        net.valid().visit(&mut values);
        self.net = self.net.clone().map(&mut Mix { values: values.0, share: 1.0 - kept });
    }

    /// The average and the number of its steps, exactly.
    pub fn to_bytes(&self) -> Vec<u8> {
        let weights = StateDict::of(&self.net).to_safetensors(self.steps, std::collections::BTreeMap::new());
        [&self.steps.to_le_bytes()[..], &weights].concat()
    }

    /// What [`Average::to_bytes`] gave, of a network like `net`.
    ///
    /// # Errors
    /// If it is not that.
    pub fn from_bytes(bytes: &[u8], net: &M, decay: f64) -> Result<Self, String> {
        let (steps, weights) = split(bytes)?;
        let mut average = Self { net: net.valid(), decay, steps };
        let report = weights.load_into(&mut average.net);
        if report.is_complete() { Ok(average) } else { Err(format!("holds the average of another network: {report}")) }
    }
}

/// Steps and weights of an average.
fn split(bytes: &[u8]) -> Result<(u64, StateDict), String> {
    let (steps, weights) = bytes.split_first_chunk::<8>().ok_or("holds an average that is cut off")?;
    Ok((u64::from_le_bytes(*steps), StateDict::from_safetensors(weights)?))
}

/// The weights of an average that was saved.
///
/// # Errors
/// If it is damaged.
pub(crate) fn weights(bytes: &[u8]) -> Result<StateDict, String> {
    Ok(split(bytes)?.1)
}

/// Float tensors of a network by number; of any rank, as gradients are.
struct Values(GradientsParams);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val());
    }
}

/// Moves each tensor to its new value by a share of the difference: where there is none, not a bit changes.
struct Mix {
    values: GradientsParams,
    share: f64,
}

impl ModuleMapper for Mix {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, old, mapper) = param.consume();
        let mixed = match self.values.remove::<D>(id) {
            Some(new) => old.clone() + (new - old).mul_scalar(self.share),
            None => old,
        };
        Param::from_mapped_value(id, mixed, mapper)
    }
}

#[cfg(test)]
mod tests {
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::nn::batch_norm::UnbiasedBatchNorm;

    #[derive(Module, Debug)]
    struct Net {
        line: Linear,
        norm: UnbiasedBatchNorm,
    }

    /// A network whose only weight has this value.
    fn set(net: &mut Net, weight: f32) {
        let one = |key: &str, value: f32, shape: Vec<usize>| (key.to_owned(), TensorData::new(vec![value], shape));
        let state = StateDict::from_iter([one("line.weight", weight, vec![1, 1])]);
        state.load_into(net);
    }

    fn value(state: &StateDict, key: &str) -> f32 {
        state.get(key).unwrap().as_slice::<f32>().unwrap()[0]
    }

    #[test]
    fn weights_and_statistics_are_averaged_and_saved_exactly() {
        let device = Device::flex().autodiff();
        let line = LinearConfig::new(1, 1).with_bias(false).init(&device);
        let mut net = Net { line, norm: UnbiasedBatchNorm::new(1, &device) };
        set(&mut net, 1.0);
        let mut average = Average::new(&net, 0.2);
        // Batches of mean 2 and 6: running means 0.2, then 0.78.
        let batch = |mean: f32| Tensor::<2>::from_floats([[mean - 1.0], [mean + 1.0]], &device);
        set(&mut net, 2.0);
        net.norm.forward(batch(2.0));
        average.follow(&net);
        // Step 1: the decay is (1 + 1) / (10 + 1).
        let kept = 2.0 / 11.0;
        let first = [kept + (1.0 - kept) * 2.0, (1.0 - kept) * 0.2];
        let close = |average: &Average<Net>, wanted: [f64; 2]| {
            let state = StateDict::of(average.net());
            let found = [value(&state, "line.weight"), value(&state, "norm.running_mean")];
            for (found, wanted) in found.into_iter().zip(wanted) {
                assert!((f64::from(found) - wanted).abs() < 1e-6, "{found} for {wanted}");
            }
            assert_eq!(value(&state, "norm.bias"), 0.0, "what does not move stays as it is");
        };
        close(&average, first);
        let mut again = Average::from_bytes(&average.to_bytes(), &net, 0.2).unwrap();
        set(&mut net, 4.0);
        net.norm.forward(batch(6.0));
        // Step 2: (1 + 2) / (10 + 2) is above 0.2.
        for average in [&mut average, &mut again] {
            average.follow(&net);
            close(average, [0.2 * first[0] + 0.8 * 4.0, 0.2 * first[1] + 0.8 * 0.78]);
        }
        let saved = weights(&average.to_bytes()).unwrap();
        assert_eq!(saved.keys(), StateDict::of(average.net()).keys(), "counts of batches are written anew");
        assert!(average.to_bytes() == again.to_bytes(), "an average that was saved goes on with the same bits");
        assert!(Average::from_bytes(&average.to_bytes()[..40], &net, 0.2).is_err());
        assert!(weights(&[1, 2]).is_err());
    }
}
