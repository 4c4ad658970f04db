//! What a model file is: its files, its hash, its graph; for people.

use std::collections::BTreeMap;
use std::path::Path;

use contract::Axis;
use ort::value::ValueType;
use sha2::{Digest, Sha256};

use super::backend::Declared;
use crate::DeployError;

/// A value of the graph as the runtime sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Element type.
    pub element: String,
    /// Axes: sizes, symbols, or `?`.
    pub shape: Vec<String>,
}

/// Facts about the graph, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphFacts {
    /// Operator sets by domain.
    pub opset: BTreeMap<String, i64>,
    /// Nodes by operator.
    pub nodes: BTreeMap<String, usize>,
    /// Values in float initialisers.
    pub parameters: u64,
    /// Bytes of the model's files together.
    pub file_bytes: u64,
    /// Tool that wrote the file.
    pub producer: String,
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
}

/// A file that a model consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// Its name in the model's folder.
    pub name: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// The model file at `path` and those called `beside` in its folder; those that we named must hold what their name
/// promises.
pub(super) fn model_files(path: &Path, bytes: &[u8], beside: &[String]) -> Result<Vec<ModelFile>, DeployError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut all = vec![ModelFile { name, sha256: hex::encode(Sha256::digest(bytes)), bytes: bytes.len() as u64 }];
    for name in beside {
        let unreadable = |source| DeployError::Read { path: path.with_file_name(name), source };
        let (sha256, bytes) = files::sha256(&path.with_file_name(name)).map_err(unreadable)?;
        if let Some(promised) = files::promised_sha256(name).filter(|digits| !sha256.starts_with(*digits)) {
            let (path, file, promised) = (path.to_owned(), name.clone(), promised.to_owned());
            return Err(DeployError::Weights { path, file, promised, sha256 });
        }
        all.push(ModelFile { name: name.clone(), sha256, bytes });
    }
    Ok(all)
}

/// One hash for all files of a model.
pub(super) fn identity(files: &[ModelFile]) -> String {
    match files {
        [only] => only.sha256.clone(),
        // The model file may have been renamed, the others it knows by name.
        [model, beside @ ..] => {
            let mut hash = Sha256::new_with_prefix(&model.sha256);
            beside.iter().for_each(|file| hash.update(format!("\n{}  {}", file.sha256, file.name)));
            hex::encode(hash.finalize())
        }
        [] => String::new(),
    }
}

pub(super) fn axes(shape: &[Axis]) -> String {
    let names = shape.iter().map(|axis| match axis {
        Axis::Size(size) => size.to_string(),
        Axis::Symbol(symbol) => symbol.clone(),
    });
    format!("[{}]", names.collect::<Vec<_>>().join(", "))
}

pub(super) fn port(outlet: &Declared) -> Port {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Port { name, element: format!("{:?}", outlet.dtype()), shape: Vec::new() };
    };
    let axis = |(size, symbol): (&i64, &String)| match (size, symbol.as_str()) {
        (-1, "") => "?".to_owned(),
        (-1, symbol) => symbol.to_owned(),
        (size, _) => size.to_string(),
    };
    Port { name, element: ty.to_string(), shape: shape.iter().zip(dimension_symbols.iter()).map(axis).collect() }
}

pub(super) fn facts(file: &onnx::ModelProto, file_bytes: u64, inputs: Vec<Port>, outputs: Vec<Port>) -> GraphFacts {
    let mut nodes = BTreeMap::new();
    let graph = file.graph.as_ref();
    for node in graph.map(|graph| graph.node.as_slice()).unwrap_or_default() {
        *nodes.entry(node.op_type.clone()).or_default() += 1;
    }
    let floats = [onnx::DataType::Float, onnx::DataType::Float16, onnx::DataType::Bfloat16, onnx::DataType::Int8];
    let initialisers = graph.map(|graph| graph.initializer.as_slice()).unwrap_or_default();
    let weights = initialisers.iter().filter(|tensor| floats.iter().any(|float| *float as i32 == tensor.data_type));
    let domain = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
    GraphFacts {
        opset: file.opset_import.iter().map(|opset| (domain(&opset.domain), opset.version)).collect(),
        nodes,
        parameters: weights.map(|tensor| tensor.dims.iter().map(|size| size.unsigned_abs()).product::<u64>()).sum(),
        file_bytes,
        producer: format!("{} {}", file.producer_name, file.producer_version).trim().to_owned(),
        inputs,
        outputs,
    }
}
