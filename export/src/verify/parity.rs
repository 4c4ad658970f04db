//! ONNX Runtime against Burn on the same inputs.

use std::path::Path;

use graph::run::{Array, Opening, Runtime};
use serde::{Deserialize, Serialize};

use super::samples::{Sampler, Seeded, arrays};
use super::{divergence, runtime};
use crate::error::ExportError;
use crate::model::ExportedModel;

/// How far the two may be apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Tolerance {
    /// Largest absolute difference of any element.
    pub max_abs: f64,
    /// The same as a share of the row's largest value; the larger of the two limits counts. Single precision rounds in
    /// proportion, and a trained network answers noise with values from 3 to 800.
    pub relative: f64,
    /// Smallest cosine of any row.
    pub min_cosine: f64,
}

impl Default for Tolerance {
    /// What single precision gives for networks of some hundred layers with room to spare, and what a wrong weight exceeds.
    fn default() -> Self {
        Self { max_abs: 1e-4, relative: 1e-4, min_cosine: 0.999_999 }
    }
}

/// One output at one batch size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputParity {
    /// Name of the output.
    pub output: String,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest difference as a share of its row's largest value.
    pub max_relative: f64,
    /// Smallest cosine of a row.
    pub min_cosine: f64,
    /// Largest absolute value in Burn: what the difference is to be seen against.
    pub scale: f64,
}

impl OutputParity {
    fn new(output: &str) -> Self {
        Self { output: output.into(), max_abs: 0.0, max_relative: 0.0, min_cosine: 1.0, scale: 0.0 }
    }
}

/// All outputs at one batch size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchParity {
    /// Rows per run.
    pub batch: usize,
    /// Rows compared in all.
    pub rows: usize,
    /// Per output.
    pub output: Vec<OutputParity>,
}

/// The comparison, as it goes into the model card.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parity {
    /// What was allowed.
    pub tolerance: Tolerance,
    /// Per batch size.
    pub batch: Vec<BatchParity>,
}

impl Parity {
    /// As a Markdown table.
    pub fn to_markdown(&self) -> String {
        let mut text = String::from(
            "| output | batch | rows | max abs difference | relative | min cosine | largest value |\n|---|---:|---:|---:|---:|---:|---:|\n",
        );
        for batch in &self.batch {
            for output in &batch.output {
                text.push_str(&format!(
                    "| {} | {} | {} | {:.1e} | {:.1e} | {:.8} | {:.3} |\n",
                    output.output,
                    batch.batch,
                    batch.rows,
                    output.max_abs,
                    output.max_relative,
                    output.min_cosine,
                    output.scale
                ));
            }
        }
        text
    }
}

/// Some values of an output as Burn gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// Name of the output.
    pub output: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Largest absolute value of all.
    pub scale: f64,
    /// Stride of the stored elements.
    pub every: usize,
    /// Elements 0, `every`, 2·`every` … of the row-major order.
    pub values: Vec<f32>,
}

/// Elements stored of an output, about.
const SAMPLES: usize = 64;

impl Sampled {
    fn new(output: &str, array: &Array) -> Self {
        // Odd, so that not one column is all that is seen.
        let every = (array.values.len() / SAMPLES) | 1;
        Self {
            output: output.into(),
            shape: array.shape.clone(),
            scale: array.values.iter().fold(0.0, |largest, value| largest.max(value.abs())),
            every,
            values: array.values.iter().step_by(every).map(|&value| value as f32).collect(),
        }
    }

    /// Largest difference of `found` from what is stored, and what is allowed; an error says what is of another form.
    pub(crate) fn compare(&self, found: &Array, tolerance: &Tolerance) -> Result<(f64, f64), String> {
        if found.shape != self.shape {
            return Err(format!("`{}` has shape {:?}, it had {:?}", self.output, found.shape, self.shape));
        }
        let every = self.every.max(1);
        if found.values.len().div_ceil(every) != self.values.len() || self.values.iter().any(|value| !value.is_finite())
        {
            return Err(format!("the stored values of `{}` do not fit its shape {:?}", self.output, self.shape));
        }
        let pairs = found.values.iter().step_by(every).zip(&self.values);
        let apart = pairs.map(|(found, &stored)| (found - f64::from(stored)).abs());
        let worst = apart.fold(
            0.0,
            |worst: f64, difference| if difference.is_nan() { f64::INFINITY } else { worst.max(difference) },
        );
        Ok((worst, tolerance.max_abs.max(tolerance.relative * self.scale)))
    }
}

/// One run of the comparison, so that it can be repeated where the module is not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Rows.
    pub batch: usize,
    /// The inputs.
    pub input: Vec<Seeded>,
    /// The outputs.
    pub output: Vec<Sampled>,
}

/// A comparison that went well.
#[derive(Debug, Clone)]
pub(crate) struct Comparison {
    pub parity: Parity,
    pub runs: Vec<Run>,
}

/// Batch sizes compared, and how many runs at each: every size sees at least 8 rows.
const BATCHES: [(usize, usize); 4] = [(1, 8), (2, 4), (7, 2), (32, 1)];

/// Runs when the first axis is fixed.
const FIXED_RUNS: usize = 8;

/// Compares encoded `bytes` with the module `model` was made from.
///
/// # Errors
/// [`ExportError::Parity`] at the first batch size where an output is too far off; failures of ONNX Runtime.
pub(crate) fn compare(
    model: &ExportedModel,
    bytes: &[u8],
    beside: Option<&Path>,
    runtime: &Runtime,
    tolerance: Tolerance,
) -> Result<Comparison, ExportError> {
    let mut session = runtime.open(bytes, Opening { beside, ..Opening::plain(true) })?;
    let outputs: Vec<String> = model.output_names();
    let batches = match model.batch_symbol() {
        Some(_) => BATCHES.to_vec(),
        None => vec![(model.fixed_batch(), FIXED_RUNS)],
    };
    let (mut table, mut recorded) = (vec![], vec![]);
    let mut sampler = Sampler::default();
    for (batch, runs) in batches {
        let mut worst: Vec<OutputParity> = outputs.iter().map(|name| OutputParity::new(name)).collect();
        for run in 0..runs {
            let drawn = model.sample(&mut sampler, batch, run);
            let inputs = arrays(&drawn);
            let expected = model.reference(inputs.iter().map(|(_, data)| data.clone()).collect());
            let found = runtime::run(&mut session, &inputs, &outputs)?;
            let seeds = drawn.first().map(|input| input.seeds.as_slice()).unwrap_or_default();
            let expected: Vec<Array> = expected.iter().map(runtime::array).collect();
            for ((total, found), expected) in worst.iter_mut().zip(&found).zip(&expected) {
                compare_output(total, found, expected, seeds, batch, tolerance).map_err(|mut error| {
                    if let ExportError::Parity { first, .. } = &mut error {
                        *first = Some(Box::new(divergence::from_burn(model, bytes, beside, runtime, &inputs)));
                    }
                    error
                })?;
            }
            let output = outputs.iter().zip(&expected).map(|(name, array)| Sampled::new(name, array)).collect();
            recorded.push(Run { batch, input: drawn, output });
        }
        table.push(BatchParity { batch, rows: batch * runs, output: worst });
    }
    Ok(Comparison { parity: Parity { tolerance, batch: table }, runs: recorded })
}

fn compare_output(
    total: &mut OutputParity,
    found: &Array,
    expected: &Array,
    seeds: &[String],
    batch: usize,
    tolerance: Tolerance,
) -> Result<(), ExportError> {
    if found.shape != expected.shape {
        let (output, expected) = (total.output.clone(), expected.shape.clone());
        return Err(ExportError::OutputShape { output, found: found.shape.clone(), expected });
    }
    // Rows follow the inputs' rows where the first axis is the batch; else the tensor is one row.
    let rows = if expected.shape.first() == Some(&seeds.len()) { seeds.len().max(1) } else { 1 };
    let length = (expected.values.len() / rows).max(1);
    for (row, (a, b)) in found.values.chunks(length).zip(expected.values.chunks(length)).enumerate() {
        let (max_abs, cosine) = distance(a, b);
        total.max_abs = total.max_abs.max(max_abs);
        total.min_cosine = total.min_cosine.min(cosine);
        let scale = b.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        total.scale = total.scale.max(scale);
        if max_abs > 0.0 {
            total.max_relative = total.max_relative.max(max_abs / scale.max(f64::MIN_POSITIVE));
        }
        let limit = tolerance.max_abs.max(tolerance.relative * scale);
        // Not `max_abs > limit`: nothing that is not a number may pass.
        if !(max_abs <= limit && cosine >= tolerance.min_cosine) {
            return Err(ExportError::Parity {
                output: total.output.clone(),
                max_abs,
                limit,
                min_cosine: cosine,
                min_allowed: tolerance.min_cosine,
                batch,
                seed: seeds.get(row).or(seeds.first()).cloned().unwrap_or_default(),
                first: None,
            });
        }
    }
    Ok(())
}

/// Largest absolute difference and cosine of two rows. A value that is not finite on either side is infinitely far; rows that
/// are both (nearly) zero point the same way.
fn distance(a: &[f64], b: &[f64]) -> (f64, f64) {
    let (mut max_abs, mut dot, mut aa, mut bb) = (0.0f64, 0.0, 0.0, 0.0);
    for (x, y) in a.iter().zip(b) {
        if !x.is_finite() || !y.is_finite() {
            return (f64::INFINITY, -1.0);
        }
        max_abs = max_abs.max((x - y).abs());
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    let lengths = (aa * bb).sqrt();
    (max_abs, if lengths < 1e-12 { 1.0 } else { dot / lengths })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_told_apart() {
        assert_eq!(distance(&[3.0, 4.0], &[3.0, 4.0]), (0.0, 1.0));
        assert_eq!(distance(&[0.0], &[0.0]), (0.0, 1.0));
        assert_eq!(distance(&[1.0, 0.0], &[0.0, 1.0]), (1.0, 0.0));
        assert_eq!(distance(&[f64::NAN], &[f64::NAN]).0, f64::INFINITY);
        assert_eq!(distance(&[f64::INFINITY], &[1.0]).0, f64::INFINITY);
    }
}
