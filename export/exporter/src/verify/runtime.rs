//! Converts Burn's arrays for ONNX Runtime, and back.

use burn::tensor::TensorData;
use graph::DType;
use graph::run::{Array, Session};

use crate::error::ExportError;
use crate::types::{dtype, tensor};

/// Runs a session on named inputs and returns the named outputs, in order.
pub(crate) fn run(
    session: &mut Session,
    inputs: &[(String, TensorData)],
    outputs: &[String],
) -> Result<Vec<Array>, ExportError> {
    let mut feeds = vec![];
    for (name, data) in inputs {
        let unknown = || ExportError::Feed { input: name.clone(), dtype: format!("{:?}", data.dtype()) };
        feeds.push((name.clone(), tensor(data).ok_or_else(unknown)?));
    }
    Ok(session.run(&feeds, outputs)?)
}

/// Burn's array in the type of ONNX Runtime's outputs.
pub(crate) fn array(data: &TensorData) -> Array {
    // Only quantised tensors have no ONNX type, and the capture device holds none.
    let dtype = dtype(data.dtype()).unwrap_or(DType::Float);
    Array { dtype, shape: data.shape().iter().copied().collect(), values: data.iter::<f64>().collect() }
}
