//! Normalisations and the linear layer.

use burn::backend::ir::{BatchNormOpIr, LayerNormOpIr, LinearOpIr, ScalarIr};
use graph::{Op, Plain};

use super::builder::{Lowered, Lowering, Reason, onnx_type};

fn epsilon(value: ScalarIr) -> Result<f32, Reason> {
    match value {
        ScalarIr::Float(value) => Ok(value as f32),
        other => Err(Reason::Unsupported(format!("an epsilon that is {other:?}"))),
    }
}

/// Burn `batch_norm` with given statistics -> ONNX `BatchNormalization` in its inference form.
pub(super) fn batch_norm(l: &mut Lowering, op: &BatchNormOpIr) -> Lowered {
    let inputs = [l.input(&op.x)?, l.input(&op.gamma)?, l.input(&op.beta)?, l.input(&op.mean)?, l.input(&op.variance)?];
    l.emit(Op::BatchNormalization { epsilon: epsilon(op.epsilon)? }, &inputs, &op.out)
}

/// Burn `layer_norm` over the last axis -> ONNX `LayerNormalization` (operator set 17).
pub(super) fn layer_norm(l: &mut Lowering, op: &LayerNormOpIr) -> Lowered {
    let mut inputs = vec![l.input(&op.input)?, l.input(&op.gamma)?];
    if let Some(beta) = &op.beta {
        inputs.push(l.input(beta)?);
    }
    l.emit(Op::LayerNormalization { axis: -1, epsilon: epsilon(op.epsilon)? }, &inputs, &op.out)
}

/// Burn `linear` -> ONNX `MatMul` and `Add`; a pass turns them into `Gemm` where the rank allows.
pub(super) fn linear(l: &mut Lowering, op: &LinearOpIr) -> Lowered {
    let (x, weight) = (l.input(&op.x)?, l.input(&op.weight)?);
    let Some(bias) = &op.bias else { return l.emit(Plain::MatMul, &[x, weight], &op.out) };
    let bias = l.input(bias)?;
    let (dtype, dims) = (onnx_type(op.out.dtype)?, l.dims(&op.out));
    let product = l.intermediate(Plain::MatMul, &[x, weight], dtype, dims);
    l.emit(Plain::Add, &[product, bias], &op.out)
}
