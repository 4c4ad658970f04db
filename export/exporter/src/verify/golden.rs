//! Known answers stored with a model for its self-test.

use std::collections::BTreeMap;

use burn::tensor::TensorData;
use contract::{Golden, InputSpec};

use crate::error::{ExportError, shape_text};
use crate::io::Values;
use crate::model::ExportedModel;

/// Approximate number of elements that golden vectors store of the largest output.
const GOLDEN_VALUES: usize = 256;

/// Golden tolerance as a share of the largest golden value. Runtimes and processors differ by about 1e-6 of it, a wrong
/// weight, colour order or filter by more than 1e-2.
const GOLDEN_TOLERANCE: f32 = 1e-3;

/// Allowed absolute difference from golden values.
pub(crate) fn golden_tolerance(stored: impl Iterator<Item = f32>) -> f32 {
    let scale = stored.fold(0.0f32, |largest, value| largest.max(value.abs()));
    GOLDEN_TOLERANCE * scale.max(f32::MIN_POSITIVE)
}

impl ExportedModel {
    /// Known answers for a self-test: Burn's outputs on the inputs that [`Golden::input`] defines for `specs`. The
    /// tolerance is 1e-3 of the largest stored value.
    ///
    /// # Errors
    /// If an input is not of type f32, is a picture whose sides are not multiples of `block`, or has an axis of
    /// variable size besides the batch.
    pub fn golden(&self, specs: &[InputSpec], seed: &str, batch: usize, block: usize) -> Result<Golden, ExportError> {
        let sizes = self.provenance().coverage.at_batch(self.batch_symbol(), batch);
        let batch = self.batch_of(&sizes);
        let mut golden = Golden {
            seed: seed.to_owned(),
            batch,
            block,
            pixels: false,
            tolerance: 0.0,
            every: 1,
            output: BTreeMap::new(),
        };
        let mut tensors = vec![];
        for (at, input) in self.provenance().inputs.iter().enumerate() {
            let drawn = specs.iter().find(|spec| spec.name == input.name).and_then(|spec| golden.input(spec));
            let expected = self.provenance().coverage.shape(&input.axes, &sizes);
            match drawn.filter(|(shape, _)| matches!(input.values, Values::Floats(_)) && *shape == expected) {
                Some((shape, values)) => tensors.push(TensorData::new(values, shape)),
                None => {
                    let shape = shape_text(&self.graph().value(self.graph().inputs[at]).dims);
                    return Err(ExportError::Golden { input: input.name.clone(), shape, block });
                }
            }
        }
        let outputs = self.reference(tensors);
        let largest = outputs.iter().map(TensorData::num_elements).max().unwrap_or(1);
        golden.every = largest.div_ceil(GOLDEN_VALUES).max(1);
        golden.output = self
            .output_names()
            .into_iter()
            .zip(&outputs)
            .map(|(name, data)| (name, data.iter::<f32>().step_by(golden.every).collect()))
            .collect();
        golden.tolerance = golden_tolerance(golden.output.values().flatten().copied());
        Ok(golden)
    }
}
