//! Values of a model while it runs on calibration inputs.

use std::collections::BTreeMap;

use onnx::{Message, ModelProto};

use super::range::{Histogram, Method};
use super::{Prepared, Ranges};
use crate::error::Error;
use crate::run::{Opening, Runtime};
use crate::tensor::Tensor;

/// Inputs of one run, by name.
pub type Batch = Vec<(String, Tensor)>;

/// Values that are fetched of one run together.
const AT_A_TIME: usize = 64 << 20;

/// What was seen of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// Shape in the first run.
    pub shape: Vec<usize>,
    /// Smallest and largest value.
    pub range: [f32; 2],
}

/// What was seen of all values of single precision.
#[derive(Debug, Clone, PartialEq)]
pub struct Observations {
    /// By name.
    pub seen: BTreeMap<String, Seen>,
    /// The ranges that the method chose.
    pub ranges: Ranges,
}

/// Runs the model on all batches and takes down what its values of single precision are. The range by percentile or
/// entropy needs every run twice.
///
/// # Errors
/// If there is no batch, or ONNX Runtime fails.
pub fn observe(model: &Prepared, batches: &[Batch], method: Method, runtime: &Runtime) -> Result<Observations, Error> {
    let bytes = model.model().encode_to_vec();
    let graph = model.graph();
    let Some(first) = batches.first() else { return Err(Error::NoCalibration) };
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    let widen = |seen: &mut BTreeMap<String, Seen>, name: &str, shape: &[usize], values: &[f32]| {
        let entry = seen.entry(name.to_owned());
        let entry = entry.or_insert_with(|| Seen { shape: shape.to_vec(), range: [f32::INFINITY, f32::NEG_INFINITY] });
        for &value in values {
            // NaN makes the range one, so that nobody quantises it.
            entry.range =
                if value.is_nan() { [f32::NAN; 2] } else { [entry.range[0].min(value), entry.range[1].max(value)] };
            if value.is_nan() {
                break;
            }
        }
    };
    let values: Vec<String> =
        graph.node.iter().flat_map(|node| &node.output).filter(|n| !n.is_empty()).cloned().collect();
    // Which of them are tensors of single precision, and how large, is known after one run.
    let mut kept: Vec<(String, usize)> = vec![];
    for names in values.chunks(32) {
        let mut session = runtime.open(&bytes, Opening { outputs: &extra(model, names), ..Opening::plain(true) })?;
        session.visit(first, names, |name, shape, values| {
            kept.push((name.to_owned(), values.len()));
            widen(&mut seen, name, shape, values);
        })?;
    }
    for batch in batches {
        for (name, tensor) in batch {
            if let Some(values) = singles(tensor) {
                widen(&mut seen, name, tensor.dims(), &values);
            }
        }
    }
    let parts = parts(&kept);
    for names in &parts {
        let mut session = runtime.open(&bytes, Opening { outputs: &extra(model, names), ..Opening::plain(true) })?;
        for batch in &batches[1..] {
            session.visit(batch, names, |name, shape, values| widen(&mut seen, name, shape, values))?;
        }
    }
    let mut ranges: Ranges = seen.iter().map(|(name, seen)| (name.clone(), seen.range)).collect();
    if method != Method::MinMax {
        let finite = |range: &[f32; 2]| range.iter().all(|end| end.is_finite());
        let mut histograms: BTreeMap<String, Histogram> = ranges
            .iter()
            .filter(|(_, range)| finite(range))
            .map(|(n, &range)| (n.clone(), Histogram::new(range)))
            .collect();
        for names in &parts {
            let mut session =
                runtime.open(&bytes, Opening { outputs: &extra(model, names), ..Opening::plain(true) })?;
            for batch in batches {
                session.visit(batch, names, |name, _, values| {
                    if let Some(histogram) = histograms.get_mut(name) {
                        histogram.add(values);
                    }
                })?;
            }
        }
        for (name, tensor) in batches.iter().flatten() {
            if let (Some(histogram), Some(values)) = (histograms.get_mut(name), singles(tensor)) {
                histogram.add(&values);
            }
        }
        ranges.extend(histograms.into_iter().map(|(name, histogram)| (name, histogram.range(method))));
    }
    Ok(Observations { seen, ranges })
}

/// Those of the names that are no outputs yet.
fn extra(model: &Prepared, names: &[String]) -> Vec<String> {
    let net = model.net();
    names.iter().filter(|name| !net.is_output(name)).cloned().collect()
}

fn parts(kept: &[(String, usize)]) -> Vec<Vec<String>> {
    let mut parts: Vec<Vec<String>> = vec![];
    let mut together = usize::MAX;
    for (name, count) in kept {
        if together.saturating_add(*count) > AT_A_TIME {
            parts.push(vec![]);
            together = 0;
        }
        together += count;
        parts.last_mut().expect("one was begun").push(name.clone());
    }
    parts
}

fn singles(tensor: &Tensor) -> Option<Vec<f32>> {
    let float = tensor.dtype() == crate::tensor::DType::Float;
    float.then(|| tensor.bytes().as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk)).collect())
}

/// The cosines of the rows of two models' outputs over all batches, outputs joined.
///
/// # Errors
/// If ONNX Runtime refuses or fails to run one of them.
pub fn cosines(left: &ModelProto, right: &ModelProto, batches: &[Batch], runtime: &Runtime) -> Result<Vec<f64>, Error> {
    let mut rows = vec![];
    let (a, b) = (outputs(left, batches, runtime, true)?, outputs(right, batches, runtime, true)?);
    for (a, b) in a.iter().zip(&b) {
        rows.extend(a.iter().zip(b).map(|(a, b)| cosine(a, b)));
    }
    Ok(rows)
}

/// Rows of all outputs of single precision, joined, of each batch.
pub(super) fn outputs(
    model: &ModelProto,
    batches: &[Batch],
    runtime: &Runtime,
    optimise: bool,
) -> Result<Vec<Vec<Vec<f32>>>, Error> {
    let names: Vec<String> = model.graph.iter().flat_map(|graph| &graph.output).map(|o| o.name.clone()).collect();
    let mut session = runtime.open(&model.encode_to_vec(), Opening::plain(optimise))?;
    let mut all = vec![];
    for batch in batches {
        let count = batch.first().and_then(|(_, tensor)| tensor.dims().first().copied()).unwrap_or(1).max(1);
        let mut rows: Vec<Vec<f32>> = vec![vec![]; count];
        session.visit(batch, &names, |_, _, values| {
            let length = values.len() / count;
            for (row, values) in rows.iter_mut().zip(values.chunks_exact(length.max(1))) {
                row.extend_from_slice(values);
            }
        })?;
        all.push(rows);
    }
    Ok(all)
}

/// 1 of two rows of zeros, 0 where only one has no direction, and of rows that are not finite.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if a == b {
        1.0
    } else if lengths > 0.0 && lengths.is_finite() {
        dot(a, b) / lengths
    } else {
        0.0
    }
}
