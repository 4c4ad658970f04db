//! Random tensors. Each run draws other numbers, in Burn as in ONNX Runtime: only the distribution is the same.

use burn::backend::ir::{RandomOpIr, ScalarIr, TensorIr};
use burn::tensor::{DType as BurnType, Distribution};
use graph::{DType, Op, Plain, ValueId};

use super::base::fill;
use super::builder::{Lowered, Lowering, Reason, onnx_type};

/// Burn `random` of floats -> ONNX `RandomUniformLike` or `RandomNormalLike`. A Bernoulli value, 1 with probability p,
/// is `Floor` of a number between p and 1 + p: the specification's own expansion of `Bernoulli`, which ONNX Runtime
/// follows, compares the wrong way round.
pub(super) fn floats(l: &mut Lowering, op: &RandomOpIr) -> Lowered {
    let (draw, like) = drawn(l, op.distribution, &op.out, op.out.dtype)?;
    if let Distribution::Bernoulli(_) = op.distribution {
        let drawn = l.intermediate_like(draw, &[like]);
        return l.emit(Plain::Floor, &[drawn], &op.out);
    }
    l.emit(draw, &[like], &op.out)
}

/// Burn `random` of integers -> [`floats`] in f32, rounded down; normal ones rounded towards zero, as in Burn.
pub(super) fn integers(l: &mut Lowering, op: &RandomOpIr) -> Lowered {
    if op.distribution == Distribution::Default {
        return Err(Reason::Unsupported(
            "ONNX draws no integers over the whole range of their type; give the bounds by `Distribution::Uniform`"
                .into(),
        ));
    }
    let to = onnx_type(op.out.dtype)?;
    let (draw, like) = drawn(l, op.distribution, &op.out, BurnType::F32)?;
    let mut value = l.intermediate_like(draw, &[like]);
    if let Distribution::Uniform(..) | Distribution::Bernoulli(_) = op.distribution {
        value = l.intermediate_like(Plain::Floor, &[value]);
    }
    l.emit(Op::Cast { to }, &[value], &op.out)
}

/// The random operator, and the tensor that gives it shape and type.
fn drawn(
    l: &mut Lowering,
    distribution: Distribution,
    out: &TensorIr,
    dtype: BurnType,
) -> Result<(Op, ValueId), Reason> {
    let draw = match distribution {
        Distribution::Default => Op::RandomUniformLike { low: 0.0, high: 1.0 },
        Distribution::Uniform(low, high) => Op::RandomUniformLike { low: low as f32, high: high as f32 },
        Distribution::Normal(mean, scale) => Op::RandomNormalLike { mean: mean as f32, scale: scale as f32 },
        Distribution::Bernoulli(probability) => {
            Op::RandomUniformLike { low: probability as f32, high: 1.0 + probability as f32 }
        }
    };
    let draw = l.available(draw)?;
    let (op, shape) = fill(l, out, dtype, ScalarIr::Float(0.0))?;
    let dims = l.dims(out);
    let onnx: DType = onnx_type(dtype)?;
    Ok((draw, l.intermediate(op, &[shape], onnx, dims)))
}
