//! Arithmetic, comparisons, bits and elementary functions.

use burn::backend::ir::{
    BinaryOpIr, ClampOpIr, DimOpIr, MatmulOpIr, PadModeIr, PadOpIr, ScalarIr, ScalarOpIr, TensorIr, UnaryOpIr,
};
use graph::{DType, Op, PadMode, Plain, ValueId};

use super::builder::{Lowered, Lowering, onnx_type};

/// A function of one tensor that ONNX has under its own name.
pub(super) fn unary(l: &mut Lowering, op: &UnaryOpIr, plain: Plain) -> Lowered {
    let input = l.input(&op.input)?;
    l.emit(plain, &[input], &op.out)
}

/// [`binary`] with an operator that ONNX lacks for integers of 8 and 16 bits.
pub(super) fn binary_via_int32(l: &mut Lowering, op: &BinaryOpIr, plain: Plain) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    l.emit_via_int32(plain, &inputs, &op.out)
}

/// [`unary`] with an operator that not every operator set has.
pub(super) fn unary_since(l: &mut Lowering, op: &UnaryOpIr, plain: Plain) -> Lowered {
    l.available(plain)?;
    unary(l, op, plain)
}

/// [`binary`] with an operator that not every operator set has.
pub(super) fn binary_since(l: &mut Lowering, op: &BinaryOpIr, plain: Plain) -> Lowered {
    l.available(plain)?;
    binary(l, op, plain)
}

/// [`scalar`] with an operator that not every operator set has.
pub(super) fn scalar_since(l: &mut Lowering, op: &ScalarOpIr, plain: Plain) -> Lowered {
    l.available(plain)?;
    scalar(l, op, plain)
}

/// A function of two tensors that ONNX has under its own name; both broadcast alike.
pub(super) fn binary(l: &mut Lowering, op: &BinaryOpIr, plain: Plain) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    l.emit(plain, &inputs, &op.out)
}

/// A function of a tensor and a scalar -> the operator with a constant of the tensor's type.
pub(super) fn scalar(l: &mut Lowering, op: &ScalarOpIr, plain: Plain) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.scalar("other", op.lhs.dtype, op.rhs)?];
    l.emit(plain, &inputs, &op.out)
}

/// Burn `powf_scalar`, `powi_scalar` -> ONNX `Pow`, or the cheaper `Sqrt`. Burn itself records squares as products and
/// the power of -1 as a reciprocal.
pub(super) fn power(l: &mut Lowering, op: &ScalarOpIr) -> Lowered {
    let input = l.input(&op.lhs)?;
    if op.rhs == ScalarIr::Float(0.5) && onnx_type(op.lhs.dtype)?.is_float() {
        return l.emit(Plain::Sqrt, &[input], &op.out);
    }
    let exponent = l.scalar("exponent", op.lhs.dtype, op.rhs)?;
    l.emit_via_int32(Plain::Pow, &[input, exponent], &op.out)
}

/// Burn `clamp(min, max)` -> ONNX `Clip(x, min, max)`. The bounds are inputs since operator set 11 and have the type of
/// `x`.
pub(super) fn clamp(l: &mut Lowering, op: &ClampOpIr) -> Lowered {
    let dtype = op.tensor.dtype;
    let inputs = [l.input(&op.tensor)?, l.scalar("min", dtype, op.min)?, l.scalar("max", dtype, op.max)?];
    l.emit(Plain::Clip, &inputs, &op.out)
}

/// Burn `matmul` -> ONNX `MatMul`.
pub(super) fn matmul(l: &mut Lowering, op: &MatmulOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    l.emit_via_int32(Plain::MatMul, &inputs, &op.out)
}

/// Burn `cumsum` -> ONNX `CumSum`, whose axis is an input of rank 0.
pub(super) fn cumsum(l: &mut Lowering, op: &DimOpIr) -> Lowered {
    let axis = l.scalar("axis", burn::tensor::DType::I64, ScalarIr::Int(op.axis as i64))?;
    let inputs = [l.input(&op.input)?, axis];
    l.emit_via_int32(Plain::CumSum, &inputs, &op.out)
}

/// Burn's left shifts -> ONNX `BitShift`, which is defined only for unsigned integers: signed ones are cast to them and
/// back.
pub(super) fn shift_left(l: &mut Lowering, op: &BinaryOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    shift(l, inputs, true, &op.out)
}

/// [`shift_left`] by a scalar.
pub(super) fn shift_left_scalar(l: &mut Lowering, op: &ScalarOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.scalar("other", op.lhs.dtype, op.rhs)?];
    shift(l, inputs, true, &op.out)
}

/// Burn's right shifts, which keep the sign -> ONNX `BitShift` of unsigned integers; negative `x` are shifted as `-1 -
/// x`.
pub(super) fn shift_right(l: &mut Lowering, op: &BinaryOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    shift(l, inputs, false, &op.out)
}

/// [`shift_right`] by a scalar.
pub(super) fn shift_right_scalar(l: &mut Lowering, op: &ScalarOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.scalar("other", op.lhs.dtype, op.rhs)?];
    shift(l, inputs, false, &op.out)
}

fn shift(l: &mut Lowering, [x, places]: [ValueId; 2], left: bool, out: &TensorIr) -> Lowered {
    let dtype = onnx_type(out.dtype)?;
    let unsigned = match dtype {
        DType::Int64 => DType::Uint64,
        DType::Uint8 | DType::Uint32 | DType::Uint64 => dtype,
        // Runtimes do not shift 16-bit integers; casting back drops the bits above them.
        _ => DType::Uint32,
    };
    let dims = l.dims(out);
    let op = Op::BitShift { left };
    if unsigned == dtype {
        return l.emit(op, &[x, places], out);
    }
    let places = l.cast(places, unsigned);
    let moved = |l: &mut Lowering, value: ValueId| {
        let value = l.cast(value, unsigned);
        let value = l.intermediate(op.clone(), &[value, places], unsigned, dims.clone());
        l.cast(value, dtype)
    };
    let is_signed = matches!(dtype, DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64);
    if left || !is_signed {
        let value = moved(l, x);
        return l.emit(Plain::Identity, &[value], out);
    }
    let zero = l.scalar("zero", out.dtype, ScalarIr::Int(0))?;
    let minus_one = l.scalar("minus_one", out.dtype, ScalarIr::Int(-1))?;
    let negative_dims = l.value(x).dims.clone();
    let negative = l.intermediate(Plain::Less, &[x, zero], DType::Bool, negative_dims);
    let mirror = |l: &mut Lowering, value: ValueId| {
        let dims = l.value(value).dims.clone();
        l.intermediate(Plain::Sub, &[minus_one, value], dtype, dims)
    };
    let mirrored = mirror(l, x);
    let below = moved(l, mirrored);
    let below = mirror(l, below);
    let above = moved(l, x);
    l.emit(Plain::Where, &[negative, below, above], out)
}

/// Burn `pad` -> ONNX `Pad`, which lists the padding before all axes, then that after them.
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
