//! Functions without an ONNX operator, composed of those that exist, with the same signs, zeros and infinities.

use burn::backend::ir::{BinaryOpIr, CrossOpIr, DimOpIr, ScalarOpIr, TensorIr, UnaryOpIr};
use burn::tensor::DType as BurnType;
use graph::{DType, Dim, Op, Plain, ValueId};

use super::builder::{Lowered, Lowering, onnx_type};

/// Burn `trunc` -> ONNX `Where(x < 0, Ceil(x), Floor(x))`.
pub(super) fn trunc(l: &mut Lowering, op: &UnaryOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let zero = l.float("zero", op.input.dtype, 0.0)?;
    let dims = l.dims(&op.out);
    let negative = l.intermediate(Plain::Less, &[input, zero], DType::Bool, dims);
    let (up, down) = (l.intermediate_like(Plain::Ceil, &[input]), l.intermediate_like(Plain::Floor, &[input]));
    l.emit(Plain::Where, &[negative, up, down], &op.out)
}

/// Burn `atan2(y, x)` -> ONNX `Atan(y / x)`, plus or minus half a turn where `x` is negative. `0 / 0` is replaced by
/// the zero `y` and `∞ / ∞` by the product of the signs, so every quadrant and signed zero is as in C's `atan2`.
pub(super) fn atan2(l: &mut Lowering, op: &BinaryOpIr) -> Lowered {
    let (y, x) = (l.input(&op.lhs)?, l.input(&op.rhs)?);
    let dims = l.dims(&op.out);
    let dtype = op.out.dtype;
    let zero = l.float("zero", dtype, 0.0)?;
    let infinity = l.float("infinity", dtype, f64::INFINITY)?;
    let onnx = onnx_type(dtype)?;
    let quotient = l.intermediate(Plain::Div, &[y, x], onnx, dims.clone());
    let both = |l: &mut Lowering, bound: ValueId, dims: &[Dim]| {
        let [a, b] = [y, x].map(|value| {
            let absolute = l.intermediate_like(Plain::Abs, &[value]);
            let dims = l.value(value).dims.clone();
            l.intermediate(Plain::Equal, &[absolute, bound], DType::Bool, dims)
        });
        l.intermediate(Plain::And, &[a, b], DType::Bool, dims.to_vec())
    };
    let zeros = both(l, zero, &dims);
    let quotient = l.intermediate(Plain::Where, &[zeros, y, quotient], onnx, dims.clone());
    let infinities = both(l, infinity, &dims);
    let signs = [y, x].map(|value| l.intermediate_like(Plain::Sign, &[value]));
    let signs = l.intermediate(Plain::Mul, &signs, onnx, dims.clone());
    let quotient = l.intermediate(Plain::Where, &[infinities, signs, quotient], onnx, dims.clone());
    let angle = l.intermediate_like(Plain::Atan, &[quotient]);
    let (behind, below) = (negative(l, x, zero), negative(l, y, zero));
    let half = l.float("half_turn", dtype, std::f64::consts::PI)?;
    let back = l.float("half_turn_back", dtype, -std::f64::consts::PI)?;
    let below_dims = l.value(below).dims.clone();
    let turn = l.intermediate(Plain::Where, &[below, back, half], onnx, below_dims);
    let turned = l.intermediate(Plain::Add, &[angle, turn], onnx, dims);
    l.emit(Plain::Where, &[behind, turned, angle], &op.out)
}

/// Whether a value is negative or the negative zero: `x < 0` or `1 / x < 0`.
fn negative(l: &mut Lowering, value: ValueId, zero: ValueId) -> ValueId {
    let dims = l.value(value).dims.clone();
    let reciprocal = l.intermediate_like(Plain::Reciprocal, &[value]);
    let below = l.intermediate(Plain::Less, &[value, zero], DType::Bool, dims.clone());
    let beyond = l.intermediate(Plain::Less, &[reciprocal, zero], DType::Bool, dims.clone());
    l.intermediate(Plain::Or, &[below, beyond], DType::Bool, dims)
}

/// Burn `cross` along an axis of three -> ONNX `Gather`s that rotate the axis, `Mul` and `Sub`.
pub(super) fn cross(l: &mut Lowering, op: &CrossOpIr) -> Lowered {
    let (a, b) = (l.input(&op.lhs)?, l.input(&op.rhs)?);
    let (dtype, dims) = (onnx_type(op.out.dtype)?, l.dims(&op.out));
    let (forward, backward) = (l.int64s("forward", &[1, 2, 0]), l.int64s("backward", &[2, 0, 1]));
    let gather = Op::Gather { axis: op.dim as i64 };
    let product = |l: &mut Lowering, left: ValueId, right: ValueId| {
        let factors = [(a, left), (b, right)].map(|(x, order)| l.intermediate_like(gather.clone(), &[x, order]));
        l.intermediate(Plain::Mul, &factors, dtype, dims.clone())
    };
    let products = [product(l, forward, backward), product(l, backward, forward)];
    l.emit(Plain::Sub, &products, &op.out)
}

/// Burn `remainder`, with the sign of the divisor -> ONNX `Mod` for integers. For floats: C's `fmod`, plus the divisor
/// where the signs differ.
pub(super) fn remainder(l: &mut Lowering, op: &BinaryOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    modulo(l, inputs, &op.out)
}

/// [`remainder`] by a scalar.
pub(super) fn remainder_scalar(l: &mut Lowering, op: &ScalarOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.scalar("other", op.lhs.dtype, op.rhs)?];
    modulo(l, inputs, &op.out)
}

fn modulo(l: &mut Lowering, [x, y]: [ValueId; 2], out: &TensorIr) -> Lowered {
    let dtype = onnx_type(out.dtype)?;
    if !dtype.is_float() {
        return l.emit(Plain::Mod, &[x, y], out);
    }
    let dims = l.dims(out);
    let zero = l.float("zero", out.dtype, 0.0)?;
    let rest = l.intermediate(Op::Fmod, &[x, y], dtype, dims.clone());
    // Signs differ where the product is negative; a product may underflow, two comparisons do not.
    let boolean =
        |l: &mut Lowering, op: Plain, inputs: &[ValueId]| l.intermediate(op, inputs, DType::Bool, dims.clone());
    let exact = boolean(l, Plain::Equal, &[rest, zero]);
    let inexact = boolean(l, Plain::Not, &[exact]);
    let divisor_dims = l.value(y).dims.clone();
    let divisor_sign = l.intermediate(Plain::Less, &[y, zero], DType::Bool, divisor_dims);
    let signs = [boolean(l, Plain::Less, &[rest, zero]), divisor_sign];
    let differ = boolean(l, Plain::Xor, &signs);
    let off = boolean(l, Plain::And, &[inexact, differ]);
    let further = l.intermediate(Plain::Add, &[rest, y], dtype, dims.clone());
    l.emit(Plain::Where, &[off, further, rest], out)
}

/// Burn `log1p` -> ONNX `Log(u)` with `u = 1 + x`; for small `x` times `x / (u - 1)`, which restores what the sum
/// rounded away (W. Kahan). Where `u` is 1, the logarithm is `x`.
pub(super) fn log1p(l: &mut Lowering, op: &UnaryOpIr) -> Lowered {
    let x = l.input(&op.input)?;
    let dtype = op.input.dtype;
    let (one, half) = (l.float("one", dtype, 1.0)?, l.float("half", dtype, 0.5)?);
    let dims = l.dims(&op.out);
    let sum = l.intermediate_like(Plain::Add, &[x, one]);
    let log = l.intermediate_like(Plain::Log, &[sum]);
    let kept = l.intermediate_like(Plain::Sub, &[sum, one]);
    let lost = l.intermediate_like(Plain::Div, &[x, kept]);
    let better = l.intermediate_like(Plain::Mul, &[log, lost]);
    let absolute = l.intermediate_like(Plain::Abs, &[x]);
    let small = l.intermediate(Plain::Less, &[absolute, half], DType::Bool, dims.clone());
    let tiny = l.intermediate(Plain::Equal, &[sum, one], DType::Bool, dims);
    let onnx = onnx_type(op.out.dtype)?;
    let dims = l.dims(&op.out);
    let inner = l.intermediate(Plain::Where, &[small, better, log], onnx, dims);
    l.emit(Plain::Where, &[tiny, x, inner], &op.out)
}

/// Burn `hypot` -> ONNX `Sqrt(x² + y²)`. f32 and narrower types are computed in f64, where the squares neither overflow
/// nor underflow.
pub(super) fn hypot(l: &mut Lowering, op: &BinaryOpIr) -> Lowered {
    let onnx = onnx_type(op.out.dtype)?;
    let wide = if op.out.dtype == BurnType::F64 { onnx } else { DType::Double };
    let squares = [&op.lhs, &op.rhs].map(|tensor| {
        let value = l.input(tensor)?;
        let value = l.cast(value, wide);
        Ok(l.intermediate_like(Plain::Mul, &[value, value]))
    });
    let [x, y] = squares;
    let dims = l.dims(&op.out);
    let sum = l.intermediate(Plain::Add, &[x?, y?], wide, dims.clone());
    if wide == onnx {
        return l.emit(Plain::Sqrt, &[sum], &op.out);
    }
    let root = l.intermediate(Plain::Sqrt, &[sum], wide, dims);
    l.emit(Op::Cast { to: onnx }, &[root], &op.out)
}

/// Burn `cumprod`, `cummin`, `cummax` -> a product, minimum or maximum with the tensor shifted by 1, 2, 4, … along the
/// axis, which must be fixed, because ONNX only has cumulative sums. Exact for minima and maxima; products are rounded
/// in another order than Burn's.
pub(super) fn cumulate(l: &mut Lowering, op: &DimOpIr, plain: Plain) -> Lowered {
    let mut value = l.input(&op.input)?;
    let dims = l.dims(&op.input);
    let axis = op.axis;
    let size = l.fixed("cumulating", &dims[axis..=axis])?[0];
    if size <= 1 {
        return l.alias(value, &op.out);
    }
    let dtype = onnx_type(op.out.dtype)?;
    let mut shift = 1;
    loop {
        let part = |l: &mut Lowering, start: usize, end: usize| {
            let mut dims = dims.clone();
            dims[axis] = Dim::Size(end - start);
            let inputs = [
                value,
                l.int64s("starts", &[start as i64]),
                l.int64s("ends", &[end as i64]),
                l.int64s("axes", &[axis as i64]),
            ];
            l.intermediate(Plain::Slice, &inputs, dtype, dims)
        };
        let (head, early, late) = (part(l, 0, shift), part(l, 0, size - shift), part(l, shift, size));
        let joined = l.intermediate_like(plain, &[early, late]);
        let concat = Op::Concat { axis: axis as i64 };
        shift *= 2;
        if shift >= size {
            return l.emit(concat, &[head, joined], &op.out);
        }
        value = l.intermediate(concat, &[head, joined], dtype, dims.clone());
    }
}
