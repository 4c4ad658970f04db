//! Finds the node where two computations of one network start to differ, by comparing intermediate values.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use burn::tensor::TensorData;
use graph::run::{Array, Opening, Runtime};
use onnx::{Message, ModelProto, NodeProto};

use super::runtime;
use crate::error::{Divergence, ExportError};
use crate::lower::Origin;
use crate::model::ExportedModel;
use crate::replay::Replay;

/// A relative difference beyond f32 rounding in a single operator, as a share of the largest value.
const CLEAR: f64 = 1e-5;

/// Growth of the difference within one node that rounding cannot explain.
const JUMP: f64 = 10.0;

/// Largest values below this count as this value: after cancellation, relative differences mean nothing.
const SMALL: f64 = 1e-4;

/// Operators that only move values.
const MOVING: [&str; 6] = ["Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"];

/// Values fetched per run: all values of a large network would not fit into memory at once.
const AT_ONCE: usize = 16;

/// The first node of an encoded model whose value differs from what the module computes on `inputs`.
pub(crate) fn from_burn(
    model: &ExportedModel,
    bytes: &[u8],
    beside: Option<&Path>,
    runtime: &Runtime,
    inputs: &[(String, TensorData)],
) -> Divergence {
    let search = || -> Result<Divergence, ExportError> {
        let data: Vec<TensorData> = inputs.iter().map(|(_, data)| data.clone()).collect();
        let trace = model.burn_module().record(&data)?;
        let graph = model.graph();
        let written = graph.producers();
        let mut seen = HashSet::new();
        let comparable = |value| written.of(value).is_some() && graph.as_recorded(value);
        let origins = model.origins().iter().filter(|origin| comparable(origin.value));
        let origins: Vec<&Origin> = origins.filter(|origin| seen.insert(origin.value)).collect();
        let values: Vec<String> = origins.iter().map(|origin| graph.value(origin.value).name.clone()).collect();
        let mut replay = Replay::new(trace);
        let mut expected = |index: usize| {
            let Origin { operation, output, .. } = *origins[index];
            Ok(replay.output(operation, output).map(|data| runtime::array(&data)))
        };
        let proto = ModelProto::decode(bytes).map_err(|error| ExportError::Undecodable(Box::new(error)))?;
        Search::new(&proto).run(runtime, bytes, beside, inputs, &values, &mut expected)
    };
    // The replay supports fewer types than traces may hold.
    match catch_unwind(AssertUnwindSafe(search)) {
        Ok(Ok(divergence)) => divergence,
        Ok(Err(error)) => Divergence::Unknown { cause: error.to_string() },
        Err(_) => Divergence::Unknown { cause: "burn cannot compute the trace again".into() },
    }
}

/// The first node of a model file whose value on `inputs` differs from that of the node with the same name in another.
pub(crate) fn from_model(
    (expected, expected_beside): (&[u8], Option<&Path>),
    (found, found_beside): (&[u8], Option<&Path>),
    runtime: &Runtime,
    inputs: &[(String, TensorData)],
) -> Divergence {
    let search = || -> Result<Divergence, ExportError> {
        let decode = |bytes| ModelProto::decode(bytes).map_err(|error| ExportError::Undecodable(Box::new(error)));
        let (ours, theirs) = (decode(expected)?, decode(found)?);
        let known: HashSet<String> = written(&ours).collect();
        let values: Vec<String> = written(&theirs).filter(|name| known.contains(name)).collect();
        let outputs = intermediate(&ours, &values);
        let opening = Opening { optimise: false, beside: expected_beside, outputs: &outputs };
        let mut session = runtime.open(expected, opening)?;
        let mut held = vec![];
        let mut expected = |index: usize| {
            if index.is_multiple_of(AT_ONCE) {
                held = runtime::run(&mut session, inputs, &values[index..values.len().min(index + AT_ONCE)])?;
            }
            Ok(held.get(index % AT_ONCE).cloned())
        };
        Search::new(&theirs).run(runtime, found, found_beside, inputs, &values, &mut expected)
    };
    search().unwrap_or_else(|error| Divergence::Unknown { cause: error.to_string() })
}

fn written(model: &ModelProto) -> impl Iterator<Item = String> {
    let nodes = model.graph.iter().flat_map(|graph| &graph.node);
    nodes.flat_map(|node| &node.output).filter(|name| !name.is_empty()).cloned()
}

/// The `values` that are not outputs already.
fn intermediate(model: &ModelProto, values: &[String]) -> Vec<String> {
    let is_output =
        |name: &String| model.graph.iter().flat_map(|graph| &graph.output).any(|output| output.name == *name);
    values.iter().filter(|name| !is_output(name)).cloned().collect()
}

/// A search through one model.
struct Search<'a> {
    model: &'a ModelProto,
    /// Index of the node that writes each value.
    producers: HashMap<&'a str, usize>,
    /// Relative differences found so far.
    differences: HashMap<&'a str, f64>,
}

/// A value that differs more than the inputs of its node.
struct Suspect {
    value: usize,
    growth: f64,
    max_abs: f64,
    scale: f64,
}

impl<'a> Search<'a> {
    fn new(model: &'a ModelProto) -> Self {
        let nodes = model.graph.iter().flat_map(|graph| &graph.node).enumerate();
        let producers = nodes.flat_map(|(index, node)| node.output.iter().map(move |name| (name.as_str(), index)));
        Self { model, producers: producers.collect(), differences: HashMap::new() }
    }

    /// Compares `values`, which are in topological order, with their expected values until one clearly differs although
    /// the inputs of its node agree. If there is none, returns the node within which the difference grows most.
    fn run(
        mut self,
        runtime: &Runtime,
        bytes: &[u8],
        beside: Option<&Path>,
        inputs: &[(String, TensorData)],
        values: &'a [String],
        expected: &mut dyn FnMut(usize) -> Result<Option<Array>, ExportError>,
    ) -> Result<Divergence, ExportError> {
        let outputs = intermediate(self.model, values);
        let mut session = runtime.open(bytes, Opening { optimise: false, beside, outputs: &outputs })?;
        let mut worst: Option<Suspect> = None;
        for (chunk, names) in values.chunks(AT_ONCE).enumerate() {
            let found = runtime::run(&mut session, inputs, names)?;
            for (offset, found) in found.iter().enumerate() {
                let value = chunk * AT_ONCE + offset;
                let Some(expected) = expected(value)? else { continue };
                let (max_abs, scale) = difference(found, &expected);
                let relative = max_abs / scale.max(SMALL);
                self.differences.insert(&values[value], relative);
                let growth = relative / self.upstream(&values[value]).max(CLEAR / 100.0);
                let suspect = Suspect { value, growth, max_abs, scale };
                if relative > CLEAR && growth > JUMP {
                    return Ok(self.node(&values[value], &suspect));
                }
                if relative > CLEAR / 10.0 && worst.as_ref().is_none_or(|worst| growth > worst.growth) {
                    worst = Some(suspect);
                }
            }
        }
        Ok(worst.map_or(Divergence::Nowhere, |suspect| self.node(&values[suspect.value], &suspect)))
    }

    fn producer(&self, value: &str) -> Option<&'a NodeProto> {
        self.producers.get(value).and_then(|&index| self.model.graph.as_ref()?.node.get(index))
    }

    fn node(&self, value: &str, suspect: &Suspect) -> Divergence {
        let mut found = self.producer(value);
        // A node that only moves values is not to blame for inputs that were not compared.
        while let Some(node) = found.filter(|node| MOVING.contains(&node.op_type.as_str()))
            && let Some(source) = node.input.first().filter(|input| !self.differences.contains_key(input.as_str()))
            && let Some(before) = self.producer(source)
        {
            found = Some(before);
        }
        match found {
            Some(node) => Divergence::Node {
                node: node.name.clone(),
                operator: node.op_type.clone(),
                max_abs: suspect.max_abs,
                scale: suspect.scale,
            },
            None => Divergence::Unknown { cause: format!("no node writes `{value}`") },
        }
    }

    /// Largest difference among the inputs of the node that writes `value`, looking through nodes that were not
    /// compared.
    fn upstream(&self, value: &str) -> f64 {
        let mut worst = 0.0f64;
        let (mut seen, mut open) = (HashSet::new(), vec![value]);
        while let Some(value) = open.pop() {
            let Some(node) = self.producer(value) else { continue };
            for input in node.input.iter().map(String::as_str).filter(|input| seen.insert(*input)) {
                match self.differences.get(input) {
                    Some(difference) => worst = worst.max(*difference),
                    None => open.push(input),
                }
            }
        }
        worst
    }
}

/// Largest absolute difference, and the largest expected value. Equal infinities, and NaN in the same position, agree,
/// because masks are made of them.
fn difference(found: &Array, expected: &Array) -> (f64, f64) {
    let finite = expected.values.iter().filter(|value| value.is_finite());
    let scale = finite.fold(0.0f64, |largest, value| largest.max(value.abs()));
    if found.values.len() != expected.values.len() {
        return (f64::INFINITY, scale);
    }
    let apart = |(a, b): (&f64, &f64)| match (a - b).abs() {
        _ if a == b || (a.is_nan() && b.is_nan()) => 0.0,
        difference if difference.is_nan() => f64::INFINITY,
        difference => difference,
    };
    (found.values.iter().zip(&expected.values).map(apart).fold(0.0, f64::max), scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_see_masks_and_shapes() {
        let array =
            |values: &[f64]| Array { dtype: graph::DType::Float, shape: vec![values.len()], values: values.to_vec() };
        let mask = array(&[f64::NEG_INFINITY, 2.0, f64::NAN]);
        assert_eq!(difference(&mask, &mask), (0.0, 2.0));
        assert_eq!(difference(&array(&[1.0, 2.0]), &array(&[1.0, 2.5])), (0.5, 2.5));
        assert_eq!(difference(&array(&[f64::NAN]), &array(&[1.0])).0, f64::INFINITY);
        assert_eq!(difference(&array(&[f64::INFINITY]), &array(&[f64::NEG_INFINITY])).0, f64::INFINITY);
        assert_eq!(difference(&array(&[1.0]), &array(&[1.0, 1.0])).0, f64::INFINITY);
    }
}
