//! Models in rten, which is Rust alone: nothing to install, on the CPU, in float32.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::rten::{Model, ModelOptions, RunOptions, ThreadPool, Value, ValueView};
use ort::value::{Shape, SymbolicDimensions, TensorElementType, ValueType};
use rten_tensor::prelude::*;

use super::backend::Declared;
use super::pool::Outputs;
use crate::DeployError;

/// An opened model.
pub(super) struct Rten {
    model: Model,
    threads: Arc<ThreadPool>,
}

/// What a model is opened from.
pub(super) enum From<'a> {
    /// A file with weights beside it.
    File(&'a Path),
    /// The bytes of a file.
    Bytes(&'a [u8]),
}

impl Rten {
    /// Opens a model for `threads` threads, which all runs share. The graph is rewritten to run faster if `optimise`.
    ///
    /// # Errors
    /// [`DeployError::Rten`] if it has an operator that rten lacks, or computes otherwise than ONNX says.
    pub(super) fn open(
        path: &Path,
        file: &onnx::ModelProto,
        from: &From<'_>,
        threads: usize,
        optimise: bool,
    ) -> Result<Self, DeployError> {
        let failed = |problem: String| DeployError::Rten { path: path.to_owned(), problem };
        let nodes = file.graph.as_ref().map(|graph| graph.node.as_slice()).unwrap_or_default();
        if let Some(node) = nodes.iter().find(|node| is_cubic(node)) {
            let output = node.output.first().cloned().unwrap_or_default();
            return Err(failed(format!("it interpolates `{output}` linearly where the graph asks for cubic")));
        }
        let mut options = ModelOptions::with_all_ops();
        options.enable_optimization(optimise);
        // It panics at some graphs where it should refuse them.
        let opened = catch_unwind(AssertUnwindSafe(|| match from {
            From::File(path) => options.load_file(path),
            From::Bytes(bytes) => options.load(bytes.to_vec()),
        }));
        let model = opened.map_err(|panic| failed(words(&*panic)))?.map_err(|error| failed(error.to_string()))?;
        Ok(Self { model, threads: Arc::new(ThreadPool::with_num_threads(threads)) })
    }

    /// Runs a batch: inputs by name with shapes; the outputs of these names.
    ///
    /// # Errors
    /// [`DeployError::Rten`].
    pub(super) fn run(
        &self,
        path: &Path,
        inputs: &[(&str, Vec<usize>, &[f32])],
        outputs: &[&str],
    ) -> Result<Outputs, DeployError> {
        let failed = |problem: String| DeployError::Rten { path: path.to_owned(), problem };
        let id = |name: &str| self.model.node_id(name).map_err(|error| failed(error.to_string()));
        let mut fed = Vec::with_capacity(inputs.len());
        for (name, shape, values) in inputs {
            let view = ValueView::from_shape(shape, values).map_err(|error| failed(error.to_string()))?;
            fed.push((id(name)?, view.into()));
        }
        let asked = outputs.iter().map(|name| id(name)).collect::<Result<Vec<_>, _>>()?;
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        let ran = catch_unwind(AssertUnwindSafe(|| self.model.run(fed, &asked, Some(options))));
        let values = ran.map_err(|panic| failed(words(&*panic)))?.map_err(|error| failed(error.to_string()))?;
        let mut all = Outputs::new();
        for (name, value) in outputs.iter().zip(values) {
            let Value::FloatTensor(tensor) = value else {
                return Err(failed(format!("output `{name}` is of type {}, not float32", value.dtype())));
            };
            all.insert((*name).to_owned(), (tensor.shape().to_vec(), tensor.to_vec()));
        }
        Ok(all)
    }
}

/// Inputs and outputs as the file says. Initialisers of old files are inputs too, and are left out.
pub(super) fn ports(file: &onnx::ModelProto) -> [Vec<Declared>; 2] {
    let Some(graph) = &file.graph else { return Default::default() };
    let given = |port: &&onnx::ValueInfoProto| !graph.initializer.iter().any(|tensor| tensor.name == port.name);
    let inputs = graph.input.iter().filter(given).map(declared).collect();
    [inputs, graph.output.iter().map(declared).collect()]
}

fn declared(port: &onnx::ValueInfoProto) -> Declared {
    let tensor = port.r#type.as_ref().and_then(|of| of.tensor_type.as_ref());
    let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
    let axes = shape.map(|shape| shape.dim.as_slice()).unwrap_or_default().iter().map(|axis| match &axis.value {
        Some(onnx::Dimension::Value(size)) => (*size, String::new()),
        Some(onnx::Dimension::Symbol(symbol)) => (-1, symbol.clone()),
        None => (-1, String::new()),
    });
    let (sizes, symbols): (Vec<i64>, Vec<String>) = axes.unzip();
    let ty = tensor.map_or(TensorElementType::Undefined, |tensor| element(tensor.elem_type));
    let dtype =
        ValueType::Tensor { ty, shape: Shape::from(sizes), dimension_symbols: SymbolicDimensions::new(symbols) };
    Declared { name: port.name.clone(), dtype }
}

fn element(of: i32) -> TensorElementType {
    match onnx::DataType::try_from(of) {
        Ok(onnx::DataType::Float) => TensorElementType::Float32,
        Ok(onnx::DataType::Float16) => TensorElementType::Float16,
        Ok(onnx::DataType::Bfloat16) => TensorElementType::Bfloat16,
        Ok(onnx::DataType::Double) => TensorElementType::Float64,
        Ok(onnx::DataType::Uint8) => TensorElementType::Uint8,
        Ok(onnx::DataType::Int8) => TensorElementType::Int8,
        Ok(onnx::DataType::Int32) => TensorElementType::Int32,
        Ok(onnx::DataType::Int64) => TensorElementType::Int64,
        Ok(onnx::DataType::Bool) => TensorElementType::Bool,
        _ => TensorElementType::Undefined,
    }
}

/// rten computes these linearly and says nothing, as its source has it.
fn is_cubic(node: &onnx::NodeProto) -> bool {
    let cubic = |attribute: &onnx::AttributeProto| attribute.name == "mode" && attribute.s.as_deref() == Some(b"cubic");
    ["Resize", "Upsample"].contains(&node.op_type.as_str()) && node.attribute.iter().any(cubic)
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it gave up without a word").to_owned()
}
