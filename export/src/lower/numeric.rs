//! Arithmetic, comparisons, bits and elementary functions.

use burn::backend::ir::{
    BinaryOpIr, ClampOpIr, DimOpIr, MatmulOpIr, PadModeIr, PadOpIr, ScalarIr, ScalarOpIr, UnaryOpIr,
};

use super::{Lowered, Lowering, Reason, float_type};
use crate::graph::{Op, PadMode, Plain};

/// A function of one tensor that ONNX has under its own name.
pub(super) fn unary(l: &mut Lowering, op: &UnaryOpIr, plain: Plain) -> Lowered {
    let input = l.input(&op.input)?;
    l.emit(plain, &[input], &op.out)
}

/// A function of two tensors that ONNX has under its own name; both broadcast alike.
pub(super) fn binary(l: &mut Lowering, op: &BinaryOpIr, plain: Plain) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    l.emit(plain, &inputs, &op.out)
}

/// A function of a tensor and a number -> the operator with a constant of the tensor's type.
pub(super) fn scalar(l: &mut Lowering, op: &ScalarOpIr, plain: Plain) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.scalar("other", op.lhs.dtype, op.rhs)?];
    l.emit(plain, &inputs, &op.out)
}

/// Burn `remainder` (sign of the divisor) -> ONNX `Mod` for integers; for floats ONNX has only C's `fmod`, so
/// `x - y * floor(x / y)`.
pub(super) fn remainder(l: &mut Lowering, op: &BinaryOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    modulo(l, inputs, &op.out)
}

/// [`remainder`] by a number.
pub(super) fn remainder_scalar(l: &mut Lowering, op: &ScalarOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.scalar("other", op.lhs.dtype, op.rhs)?];
    modulo(l, inputs, &op.out)
}

fn modulo(l: &mut Lowering, [x, y]: [crate::graph::ValueId; 2], out: &burn::backend::ir::TensorIr) -> Lowered {
    let dtype = float_type(out.dtype)?;
    if !dtype.is_float() {
        return l.emit(Plain::Mod, &[x, y], out);
    }
    let dims = l.dims(out);
    let quotient = l.step(Plain::Div, &[x, y], dtype, dims.clone());
    let whole = l.step(Plain::Floor, &[quotient], dtype, dims.clone());
    let multiple = l.step(Plain::Mul, &[whole, y], dtype, dims);
    l.emit(Plain::Sub, &[x, multiple], out)
}

/// Burn `powf_scalar`, `powi_scalar` -> ONNX `Pow`; squares and roots are cheaper as what they are.
pub(super) fn power(l: &mut Lowering, op: &ScalarOpIr) -> Lowered {
    let exponent = match op.rhs {
        ScalarIr::Float(value) => value,
        ScalarIr::Int(value) => value as f64,
        ScalarIr::UInt(value) => value as f64,
        ScalarIr::Bool(value) => f64::from(u8::from(value)),
    };
    let input = l.input(&op.lhs)?;
    let is_float = float_type(op.lhs.dtype)?.is_float();
    if exponent == 2.0 {
        l.emit(Plain::Mul, &[input, input], &op.out)
    } else if exponent == 0.5 && is_float {
        l.emit(Plain::Sqrt, &[input], &op.out)
    } else if exponent == -1.0 && is_float {
        l.emit(Plain::Reciprocal, &[input], &op.out)
    } else {
        let exponent = l.scalar("exponent", op.lhs.dtype, op.rhs)?;
        l.emit(Plain::Pow, &[input, exponent], &op.out)
    }
}

/// Burn `clamp(min, max)` -> ONNX `Clip(x, min, max)`. Bounds are inputs since operator set 11 and have the type of `x`.
pub(super) fn clamp(l: &mut Lowering, op: &ClampOpIr) -> Lowered {
    let dtype = op.tensor.dtype;
    let inputs = [l.input(&op.tensor)?, l.scalar("min", dtype, op.min)?, l.scalar("max", dtype, op.max)?];
    l.emit(Plain::Clip, &inputs, &op.out)
}

/// Burn `log1p` -> ONNX `Log(x + 1)`: no operator of its own, small arguments lose digits.
pub(super) fn log1p(l: &mut Lowering, op: &UnaryOpIr) -> Lowered {
    let inputs = [l.input(&op.input)?, l.float("one", op.input.dtype, 1.0)?];
    let sum = l.like(Plain::Add, &inputs);
    l.emit(Plain::Log, &[sum], &op.out)
}

/// Burn `hypot` -> ONNX `Sqrt(x² + y²)`.
pub(super) fn hypot(l: &mut Lowering, op: &BinaryOpIr) -> Lowered {
    let (x, y) = (l.input(&op.lhs)?, l.input(&op.rhs)?);
    let (x, y) = (l.like(Plain::Mul, &[x, x]), l.like(Plain::Mul, &[y, y]));
    let (dtype, dims) = (float_type(op.out.dtype)?, l.dims(&op.out));
    let sum = l.step(Plain::Add, &[x, y], dtype, dims);
    l.emit(Plain::Sqrt, &[sum], &op.out)
}

/// Burn `matmul` -> ONNX `MatMul`.
pub(super) fn matmul(l: &mut Lowering, op: &MatmulOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    l.emit(Plain::MatMul, &inputs, &op.out)
}

/// Burn `cumsum` -> ONNX `CumSum`, whose axis is an input of rank 0.
pub(super) fn cumsum(l: &mut Lowering, op: &DimOpIr) -> Lowered {
    let axis = l.scalar("axis", burn::tensor::DType::I64, ScalarIr::Int(op.axis as i64))?;
    let inputs = [l.input(&op.input)?, axis];
    l.emit(Plain::CumSum, &inputs, &op.out)
}

/// Burn's shifts -> ONNX `BitShift`, which is defined for unsigned integers only.
pub(super) fn shift(l: &mut Lowering, op: &BinaryOpIr, left: bool) -> Lowered {
    unsigned(&op.lhs)?;
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    l.emit(Op::BitShift { left }, &inputs, &op.out)
}

/// [`shift`] by a number.
pub(super) fn shift_scalar(l: &mut Lowering, op: &ScalarOpIr, left: bool) -> Lowered {
    unsigned(&op.lhs)?;
    let inputs = [l.input(&op.lhs)?, l.scalar("other", op.lhs.dtype, op.rhs)?];
    l.emit(Op::BitShift { left }, &inputs, &op.out)
}

fn unsigned(tensor: &burn::backend::ir::TensorIr) -> Lowered {
    if tensor.dtype.is_uint() {
        return Ok(());
    }
    Err(Reason::Unsupported(format!("ONNX shifts unsigned integers only, these are {:?}", tensor.dtype)))
}

/// Refuses operators that came with a later operator set.
pub(super) fn since(l: &Lowering, plain: Plain) -> Result<Plain, Reason> {
    let since = Op::Plain(plain).since();
    if l.opset() >= since {
        return Ok(plain);
    }
    Err(Reason::Unsupported(format!("needs operator set {since} or later, this is {}", l.opset())))
}

/// Burn `pad` -> ONNX `Pad`: all begins, then all ends.
pub(super) fn pad(l: &mut Lowering, op: &PadOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let begins = op.padding.iter().map(|&(begin, _)| begin as i64);
    let ends = op.padding.iter().map(|&(_, end)| end as i64);
    let pads: Vec<i64> = begins.chain(ends).collect();
    let pads = l.int64s("pads", &pads);
    match op.mode {
        PadModeIr::Constant(value) => {
            let value = l.scalar("value", op.input.dtype, value)?;
            l.emit(Op::Pad { mode: PadMode::Constant }, &[input, pads, value], &op.out)
        }
        PadModeIr::Reflect => l.emit(Op::Pad { mode: PadMode::Reflect }, &[input, pads], &op.out),
        PadModeIr::Edge => l.emit(Op::Pad { mode: PadMode::Edge }, &[input, pads], &op.out),
    }
}
