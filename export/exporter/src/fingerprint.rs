//! A hash of what a network computes: operations, their numbers, parameters and wiring.

use std::collections::{HashMap, HashSet};

use burn::backend::ir::{OperationIr, TensorId};
use burn::tensor::TensorData;
use contract::Axis;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::capture::Trace;
use crate::error::ExportError;
use crate::model::ExportedModel;
use crate::panics::quietly;
use crate::resolve::name;

/// Rows of the hashed trace, whatever batch the model is exported for.
const ROWS: usize = 2;

impl ExportedModel {
    /// SHA-256, in hexadecimal, of what the network computes for `output`. Parameters, strides, activations and
    /// wiring change it. The operator set, batch size, passes, names and other outputs do not.
    ///
    /// # Errors
    /// If there is no such output, or the module cannot be recorded again.
    pub fn network_sha256(&self, output: &str) -> Result<String, ExportError> {
        let names = self.output_names();
        let index = names.iter().position(|name| name == output);
        let index =
            index.ok_or_else(|| ExportError::Contract { problem: format!("no output is called `{output}`") })?;
        let trace = self.record_rows()?;
        Ok(fingerprint(&trace, trace.outputs[index]))
    }

    /// A trace of two rows, or of the fixed batch if the module accepts no other.
    fn record_rows(&self) -> Result<Trace, ExportError> {
        let provenance = self.provenance();
        let sizes = provenance.coverage.at_batch(self.batch_symbol(), ROWS);
        let batch = provenance.inputs.first().and_then(|input| input.axes.first());
        let inputs = |rows: Option<usize>| -> Vec<TensorData> {
            let blank = provenance.inputs.iter().map(|input| {
                let mut shape = provenance.coverage.shape(&input.axes, &sizes);
                if let (Some(rows), Some(size)) = (rows, shape.first_mut())
                    && input.axes.first() == batch
                {
                    *size = rows;
                }
                input.values.blank(shape)
            });
            blank.collect()
        };
        // A module exported for a fixed batch may still accept other batches.
        if let Some(Axis::Size(_)) = batch
            && !cfg!(panic = "abort")
            && let Ok(trace) = quietly(|| self.burn_module().record(&inputs(Some(ROWS))))
        {
            return Ok(trace);
        }
        self.burn_module().record(&inputs(None))
    }
}

/// Hash of everything that `output` is computed from.
fn fingerprint(trace: &Trace, output: TensorId) -> String {
    let contributing = contributing(trace, output);
    let mut wires: HashMap<TensorId, String> = HashMap::new();
    for (index, id) in trace.inputs.iter().enumerate() {
        wires.insert(*id, format!("input {index}"));
    }
    let constant = |id: &TensorId| -> String {
        let Some(data) = trace.values.get(id) else { return "unknown".into() };
        let mut hash = Sha256::new();
        hash.update(format!("{:?} {:?}\n", data.dtype(), data.shape().iter().collect::<Vec<_>>()));
        hash.update(data.as_bytes());
        hex::encode(hash.finalize())
    };
    let mut hash = Sha256::new();
    let contributing = trace.operations.iter().zip(contributing).filter(|(_, contributing)| *contributing);
    for (number, (operation, _)) in contributing.enumerate() {
        for tensor in operation.inputs() {
            wires.entry(tensor.id).or_insert_with(|| constant(&tensor.id));
        }
        for (index, tensor) in operation.outputs().enumerate() {
            wires.insert(tensor.id, format!("operation {number}, output {index}"));
        }
        let tensors = operation.nodes();
        let mut known: HashMap<Json, &str> = HashMap::new();
        for tensor in tensors {
            let id = serde_json::to_value(tensor.id).unwrap_or_default();
            known.insert(id, wires.get(&tensor.id).map_or("unknown", String::as_str));
        }
        let mut json = serde_json::to_value(operation).unwrap_or_default();
        canonical(&mut json, &known);
        hash.update(format!("{} {json}\n", name(operation)));
    }
    let output = wires.get(&output).cloned().unwrap_or_else(|| constant(&output));
    hash.update(output);
    hex::encode(hash.finalize())
}

/// For each operation, whether `output` depends on it.
fn contributing(trace: &Trace, output: TensorId) -> Vec<bool> {
    let mut needed: HashSet<TensorId> = [output].into();
    let mut contributing: Vec<bool> = trace
        .operations
        .iter()
        .rev()
        .map(|operation: &OperationIr| {
            let contributing = operation.outputs().any(|tensor| needed.contains(&tensor.id));
            if contributing {
                needed.extend(operation.inputs().map(|tensor| tensor.id));
            }
            contributing
        })
        .collect();
    contributing.reverse();
    contributing
}

/// Reindexs the ids of tensors, which differ from trace to trace, by where the tensors come from; drops lifetimes.
fn canonical(json: &mut Json, wires: &HashMap<Json, &str>) {
    match json {
        Json::Object(fields) => {
            if fields.contains_key("id") && fields.contains_key("shape") && fields.contains_key("status") {
                fields.remove("status");
                if let Some(id) = fields.get_mut("id") {
                    *id = Json::from(wires.get(id).copied().unwrap_or("unknown"));
                }
            }
            fields.values_mut().for_each(|value| canonical(value, wires));
        }
        Json::Array(items) => items.iter_mut().for_each(|value| canonical(value, wires)),
        _ => {}
    }
}
