//! Compares ONNX Runtime with Burn on the same inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use graph::run::{Array, Opening, Runtime};
use serde::{Deserialize, Serialize};

use super::closeness::{Scale, Tolerance, Worst, cosine, same_type, worst};
use super::samples::{Sampler, Seeded, StoredError, arrays};
use super::{divergence, runtime};
use crate::coverage::{Assignment, Group};
use crate::error::ExportError;
use crate::model::ExportedModel;
use crate::panics::{caught, quietly};

/// One output at one batch size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputParity {
    /// Name of the output.
    pub output: String,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest difference as a share of the allowed difference.
    pub of_limit: f64,
    /// Smallest cosine of a row.
    pub min_cosine: f64,
    /// Largest absolute value in Burn, to judge the difference by.
    pub scale: f64,
}

impl OutputParity {
    fn new(output: &str) -> Self {
        Self { output: output.into(), max_abs: 0.0, of_limit: 0.0, min_cosine: 1.0, scale: 0.0 }
    }
}

/// Parity of all outputs at one batch size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchParity {
    /// Rows per run.
    pub batch: usize,
    /// Rows compared in all.
    pub rows: usize,
    /// One entry per output.
    pub output: Vec<OutputParity>,
}

/// The result of a comparison, printed in the model card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    /// Allowed differences.
    pub tolerance: Tolerance,
    /// One entry per batch size.
    pub batch: Vec<BatchParity>,
    /// Sizes that each dynamic axis was compared at, in ascending order.
    pub sizes: BTreeMap<String, BTreeSet<usize>>,
}

impl Parity {
    /// The result as a Markdown table.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from(
            "| output | batch | rows | max abs difference | share of allowed | min cosine | largest value |\n\
             |---|---:|---:|---:|---:|---:|---:|\n",
        );
        for batch in &self.batch {
            for output in &batch.output {
                text.push_str(&format!(
                    "| {} | {} | {} | {:.1e} | {:.4} | {:.8} | {:.3} |\n",
                    output.output,
                    batch.batch,
                    batch.rows,
                    output.max_abs,
                    output.of_limit,
                    output.min_cosine,
                    output.scale
                ));
            }
        }
        text
    }
}

/// Some values of an output of Burn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// Name of the output.
    pub output: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Distance between stored elements, in elements.
    pub every: usize,
    /// Elements 0, `every`, 2·`every`, … in row-major order; `null` stands for a value that is not finite.
    pub values: Vec<Option<f32>>,
}

/// Approximate number of elements stored of an output of the first run: all of an embedding, so that one wrong column
/// shows.
const FIRST_SAMPLES: usize = 1 << 14;

/// The same for every other run.
const SAMPLES: usize = 64;

impl Sampled {
    fn new(output: &str, array: &Array, samples: usize) -> Self {
        let every = match array.values.len() {
            count if count <= samples => 1,
            // Odd, so that the stored elements are not all of one column.
            count => (count / samples) | 1,
        };
        let values = array.values.iter().step_by(every);
        Self {
            output: output.into(),
            shape: array.shape.clone(),
            every,
            values: values.map(|&value| value.is_finite().then_some(value as f32)).collect(),
        }
    }

    /// The worst difference of `found` from the stored values. The error says what has another shape or type.
    pub(crate) fn compare(&self, found: &Array, scale: &Scale, tolerance: &Tolerance) -> Result<Worst, StoredError> {
        if found.shape != self.shape {
            let (output, found, stored) = (self.output.clone(), found.shape.clone(), self.shape.clone());
            return Err(StoredError::Shape { output, found, stored });
        }
        let every = self.every.max(1);
        if found.values.len().div_ceil(every) != self.values.len() {
            return Err(StoredError::Values { output: self.output.clone(), shape: self.shape.clone() });
        }
        let indexed = self.values.iter().enumerate().map(|(index, stored)| (index * every, stored));
        let (finite, others): (Vec<_>, Vec<_>) = indexed.partition(|(_, stored)| stored.is_some());
        if let Some((index, _)) = others.iter().find(|(index, _)| found.values[*index].is_finite()) {
            return Err(StoredError::Finite { output: self.output.clone(), index: *index });
        }
        if !found.dtype.is_float() {
            // Stored as f32: integers beyond 2²⁴ are compared after rounding to f32.
            let other = finite.iter().find(|(index, stored)| Some(found.values[*index] as f32) != **stored);
            let share = if other.is_some() { f64::INFINITY } else { 0.0 };
            return Ok(Worst { difference: share, limit: 0.0, share });
        }
        let stored = finite.into_iter().filter_map(|(index, stored)| Some((index, f64::from((*stored)?))));
        Ok(worst(found, stored, scale, tolerance))
    }
}

/// One run of a comparison, stored so that it can be repeated without the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Rows.
    pub batch: usize,
    /// The inputs.
    pub input: Vec<Seeded>,
    /// The outputs.
    pub output: Vec<Sampled>,
}

/// A successful comparison.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    pub parity: Parity,
    pub runs: Vec<Run>,
}

/// The results of one run.
struct Done {
    sizes: Assignment,
    drawn: Vec<Seeded>,
    expected: Vec<Array>,
    found: Vec<Array>,
}

/// Compares the encoded model with the module behind `model`, at all sizes of its axes that are to be compared.
///
/// # Errors
/// [`ExportError::Parity`] at the first batch size where an output is too far off, [`ExportError::OutputForm`] where
/// one has another shape or type; failures of ONNX Runtime, and of the module.
pub(crate) fn compare(
    model: &ExportedModel,
    bytes: &[u8],
    beside: Option<&Path>,
    runtime: &Runtime,
    tolerance: Tolerance,
) -> Result<Comparison, ExportError> {
    let mut session = runtime.open(bytes, Opening { beside, ..Opening::plain(true) })?;
    let outputs: Vec<String> = model.output_names();
    let coverage = &model.provenance().coverage;
    let (mut table, mut recorded) = (vec![], vec![]);
    let mut sizes: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    let mut sampler = Sampler::default();
    for Group { batch, runs } in coverage.compared(model.batch_symbol()) {
        let batch = batch.unwrap_or_else(|| model.fixed_batch());
        let mut done = vec![];
        for assignment in runs {
            let at = || coverage.text(&assignment);
            let drawn = model.sample(&mut sampler, &assignment);
            let inputs = arrays(&drawn);
            let data = inputs.iter().map(|(_, data)| data.clone()).collect();
            let expected = quietly(|| caught(|| model.reference(data)));
            let expected = expected.map_err(|message| ExportError::Reference { sizes: at(), message })?;
            let found = runtime::run(&mut session, &inputs, &outputs)?;
            let expected: Vec<Array> = expected.iter().map(runtime::array).collect();
            same_form(&outputs, &found, &expected, &at)?;
            for (symbol, size) in coverage.symbols.iter().zip(&assignment) {
                sizes.entry(symbol.name.clone()).or_default().insert(*size);
            }
            done.push(Done { sizes: assignment, drawn, expected, found });
        }
        let mut worst: Vec<OutputParity> = outputs.iter().map(|name| OutputParity::new(name)).collect();
        for (index, total) in worst.iter_mut().enumerate() {
            let all: Vec<&Array> = done.iter().map(|run| &run.expected[index]).collect();
            let scale = Scale::of(&all);
            for run in &done {
                let (found, expected) = (&run.found[index], &run.expected[index]);
                let seeds = run.drawn.first().map(|input| input.seeds.as_slice()).unwrap_or_default();
                let at = coverage.text(&run.sizes);
                compare_output(total, found, expected, &scale, seeds, at, tolerance).map_err(|mut error| {
                    if let ExportError::Parity { first, .. } = &mut error {
                        let inputs = arrays(&run.drawn);
                        *first = Some(Box::new(divergence::from_burn(model, bytes, beside, runtime, &inputs)));
                    }
                    error
                })?;
            }
        }
        table.push(BatchParity { batch, rows: batch * done.len(), output: worst });
        for run in done {
            let samples = if recorded.is_empty() { FIRST_SAMPLES } else { SAMPLES };
            let output = outputs.iter().zip(&run.expected).map(|(name, array)| Sampled::new(name, array, samples));
            recorded.push(Run { batch, output: output.collect(), input: run.drawn });
        }
    }
    Ok(Comparison { parity: Parity { tolerance, batch: table, sizes }, runs: recorded })
}

/// Checks that there are as many outputs as expected, with the same shapes and types.
fn same_form(
    names: &[String],
    found: &[Array],
    expected: &[Array],
    at: &dyn Fn() -> String,
) -> Result<(), ExportError> {
    if expected.len() != names.len() || found.len() != names.len() {
        let count = |arrays: &[Array]| format!("{} of {}", arrays.len(), names.len());
        return Err(ExportError::OutputForm {
            output: names.join("`, `"),
            found: count(found),
            expected: count(expected),
            sizes: at(),
        });
    }
    for ((name, found), expected) in names.iter().zip(found).zip(expected) {
        if found.shape != expected.shape || !same_type(found.dtype, expected.dtype) {
            let form = |array: &Array| format!("{:?} {:?}", array.dtype, array.shape);
            let (found, expected) = (form(found), form(expected));
            return Err(ExportError::OutputForm { output: name.clone(), found, expected, sizes: at() });
        }
    }
    Ok(())
}

fn compare_output(
    total: &mut OutputParity,
    found: &Array,
    expected: &Array,
    scale: &Scale,
    seeds: &[String],
    sizes: String,
    tolerance: Tolerance,
) -> Result<(), ExportError> {
    // The inputs' rows are the tensor's rows if its first axis is the batch; else the tensor is one row.
    let rows = if expected.shape.first() == Some(&seeds.len()) { seeds.len().max(1) } else { 1 };
    let length = (expected.values.len() / rows).max(1);
    for (row, (a, b)) in found.values.chunks(length).zip(expected.values.chunks(length)).enumerate() {
        let start = row * length;
        let worst = worst(found, b.iter().enumerate().map(|(at, &value)| (start + at, value)), scale, &tolerance);
        let cosine = cosine(a, b);
        total.max_abs = total.max_abs.max(worst.difference);
        total.min_cosine = total.min_cosine.min(cosine);
        total.of_limit = total.of_limit.max(worst.share);
        let finite = b.iter().filter(|value| value.is_finite());
        total.scale = finite.fold(total.scale, |largest, value| largest.max(value.abs()));
        // Not `cosine < …`: a NaN cosine must not pass.
        if !(worst.share <= 1.0 && cosine >= tolerance.min_cosine) {
            return Err(ExportError::Parity {
                output: total.output.clone(),
                max_abs: worst.difference,
                limit: worst.limit,
                min_cosine: cosine,
                min_allowed: tolerance.min_cosine,
                sizes,
                seed: seeds.get(row).or(seeds.first()).cloned().unwrap_or_default(),
                first: None,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use graph::DType;

    use super::*;

    fn array(shape: &[usize], values: Vec<f64>) -> Array {
        Array { dtype: DType::Float, shape: shape.to_vec(), values }
    }

    #[test]
    fn outputs_of_another_number_shape_or_type_are_refused() {
        let names = ["a".to_owned(), "b".to_owned()];
        let one = || array(&[2], vec![1.0, 2.0]);
        let refused = |given: &[Array], wanted: &[Array]| match same_form(&names, given, wanted, &|| "batch 2".into())
            .unwrap_err()
        {
            ExportError::OutputForm { output, found, expected, sizes } => {
                assert_eq!(sizes, "batch 2");
                [output, found, expected]
            }
            error => panic!("{error}"),
        };
        same_form(&names, &[one(), one()], &[one(), one()], &|| String::new()).unwrap();
        assert_eq!(refused(&[one(), one()], &[one(), one(), one()]), ["a`, `b", "2 of 2", "3 of 2"]);
        let turned = array(&[1, 2], vec![1.0, 2.0]);
        assert_eq!(refused(&[one(), turned], &[one(), one()]), ["b", "Float [1, 2]", "Float [2]"]);
        let double = Array { dtype: DType::Double, ..one() };
        assert_eq!(refused(&[double, one()], &[one(), one()]), ["a", "Double [2]", "Float [2]"]);
    }

    #[test]
    fn one_wrong_column_of_an_embedding_is_seen() {
        let values: Vec<f64> = (0..3584).map(|column| f64::from(column % 97) / 97.0 - 0.5).collect();
        let whole = array(&[1, 3584], values);
        let stored = Sampled::new("embedding", &whole, FIRST_SAMPLES);
        let (scale, tolerance) = (Scale::of(&[&whole]), Tolerance::default());
        assert!(stored.compare(&whole, &scale, &tolerance).unwrap().share < 1e-2);
        for column in 0..3584 {
            let mut changed = whole.clone();
            changed.values[column] += 0.01;
            assert!(stored.compare(&changed, &scale, &tolerance).unwrap().share > 1.0, "column {column}");
        }
        let mut infinite = whole.clone();
        infinite.values[7] = f64::NEG_INFINITY;
        let stored = Sampled::new("embedding", &infinite, FIRST_SAMPLES);
        assert_eq!(stored.values[7], None);
        assert!(stored.compare(&infinite, &scale, &tolerance).unwrap().share < 1e-2);
        let finite = StoredError::Finite { output: "embedding".into(), index: 7 };
        assert_eq!(stored.compare(&whole, &scale, &tolerance).unwrap_err(), finite);
    }
}
