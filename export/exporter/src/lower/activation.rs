//! Activations.

use burn::backend::ir::{DimOpIr, HardSigmoidOpIr, ScalarIr, ScalarOpIr, UnaryOpIr};
use graph::{Op, Plain};

use super::builder::{Lowered, Lowering, Reason};

fn number(value: ScalarIr) -> Result<f32, Reason> {
    match value {
        ScalarIr::Float(value) => Ok(value as f32),
        other => Err(Reason::Unsupported(format!("a factor that is {other:?}"))),
    }
}

/// Burn `leaky_relu` -> ONNX `LeakyRelu`.
pub(super) fn leaky_relu(l: &mut Lowering, op: &ScalarOpIr) -> Lowered {
    let input = l.input(&op.lhs)?;
    l.emit(Op::LeakyRelu { alpha: number(op.rhs)? }, &[input], &op.out)
}

/// Burn `gelu` (with the error function) -> ONNX `Gelu` since operator set 20; before that, the pieces that runtimes
/// recognise.
pub(super) fn gelu(l: &mut Lowering, op: &UnaryOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let gelu = Op::Gelu { tanh: false };
    if l.opset() >= gelu.since() {
        return l.emit(gelu, &[input], &op.out);
    }
    let dtype = op.input.dtype;
    let root = l.float("sqrt_2", dtype, std::f64::consts::SQRT_2)?;
    let one = l.float("one", dtype, 1.0)?;
    let half = l.float("half", dtype, 0.5)?;
    let scaled = l.intermediate_like(Plain::Div, &[input, root]);
    let erf = l.intermediate_like(Plain::Erf, &[scaled]);
    let sum = l.intermediate_like(Plain::Add, &[erf, one]);
    let product = l.intermediate_like(Plain::Mul, &[input, sum]);
    l.emit(Plain::Mul, &[product, half], &op.out)
}

/// Burn `hard_sigmoid` -> ONNX `HardSigmoid`.
pub(super) fn hard_sigmoid(l: &mut Lowering, op: &HardSigmoidOpIr) -> Lowered {
    let input = l.input(&op.tensor)?;
    l.emit(Op::HardSigmoid { alpha: number(op.alpha)?, beta: number(op.beta)? }, &[input], &op.out)
}

/// Burn `log_sigmoid` -> ONNX `-Softplus(-x)`, which does not underflow.
pub(super) fn log_sigmoid(l: &mut Lowering, op: &UnaryOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let negative = l.intermediate_like(Plain::Neg, &[input]);
    let soft = l.intermediate_like(Plain::Softplus, &[negative]);
    l.emit(Plain::Neg, &[soft], &op.out)
}

/// Burn `softmax` -> ONNX `Softmax`.
pub(super) fn softmax(l: &mut Lowering, op: &DimOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    l.emit(Op::Softmax { axis: op.axis as i64 }, &[input], &op.out)
}

/// Burn `log_softmax` -> ONNX `LogSoftmax`.
pub(super) fn log_softmax(l: &mut Lowering, op: &DimOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    l.emit(Op::LogSoftmax { axis: op.axis as i64 }, &[input], &op.out)
}

/// Burn `softmin` -> ONNX `Softmax(-x)`.
pub(super) fn softmin(l: &mut Lowering, op: &DimOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let negative = l.intermediate_like(Plain::Neg, &[input]);
    l.emit(Op::Softmax { axis: op.axis as i64 }, &[negative], &op.out)
}
