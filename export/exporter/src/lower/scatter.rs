//! Writing into a part of a tensor.

use burn::backend::ir::{ScatterNdOpIr, ScatterOpIr, SelectAssignOpIr, SliceAssignOpIr, TensorIr};
use burn::tensor::IndexingUpdateOp;
use graph::{DType, Dim, Op, Plain, Tensor, Update, ValueId};

use super::base::{Cut, bounds, cuts};
use super::builder::{Lowered, Lowering, Reason, onnx_type};
use crate::resolve::Fit;

/// Burn `slice_assign` -> ONNX `Concat` of what is before, the new part and what is behind, nested axis by axis. On an
/// axis with a step, `Where` selects between old and new.
pub(super) fn slice_assign(l: &mut Lowering, op: &SliceAssignOpIr) -> Lowered {
    let (whole, part) = (l.input(&op.tensor)?, l.input(&op.value)?);
    let cuts = cuts(l, &op.ranges)?;
    if cuts.is_empty() {
        return l.alias(part, &op.out);
    }
    let (last, inputs) = assign(l, whole, part, &cuts)?;
    l.emit(last, &inputs, &op.out)
}

/// The operator and inputs that replace the elements of `whole` inside all `cuts` (at least one) by `part`.
fn assign(l: &mut Lowering, whole: ValueId, part: ValueId, cuts: &[Cut]) -> Result<(Op, Vec<ValueId>), Reason> {
    let [cut, inner @ ..] = cuts else { return Ok((Plain::Identity.into(), vec![part])) };
    let part = if inner.is_empty() {
        part
    } else {
        let around = take(l, whole, cut)?;
        let (op, inputs) = assign(l, around, part, inner)?;
        let like = l.value(around).clone();
        l.intermediate(op, &inputs, like.dtype, like.dims)
    };
    if cut.step == 1 { between(l, whole, part, cut) } else { strided(l, whole, part, cut) }
}

/// The part of `whole` that `cut` selects.
fn take(l: &mut Lowering, whole: ValueId, cut: &Cut) -> Result<ValueId, Reason> {
    if cut.step == 1 {
        return stretch(l, whole, cut.axis, cut.start.clone(), cut.end.clone());
    }
    let like = l.value(whole).clone();
    let positions = cut.positions()?;
    let mut dims = like.dims;
    dims[cut.axis] = Dim::Size(positions.len());
    let positions = l.int64s("positions", &positions);
    Ok(l.intermediate(Op::Gather { axis: cut.axis as i64 }, &[whole, positions], like.dtype, dims))
}

/// Elements `start..end` of one axis.
fn stretch(l: &mut Lowering, whole: ValueId, axis: usize, start: Fit, end: Fit) -> Result<ValueId, Reason> {
    let like = l.value(whole).clone();
    let mut dims = like.dims;
    dims[axis] = match (&start, &end) {
        (Fit::Fixed(start), Fit::Fixed(end)) if *end != i64::MAX => Dim::Size((end - start).max(0) as usize),
        (Fit::Fixed(0), Fit::Dynamic(dim)) => dim.clone(),
        _ => Dim::Unknown,
    };
    let inputs =
        [whole, bounds(l, "starts", vec![start])?, bounds(l, "ends", vec![end])?, l.int64s("axes", &[axis as i64])];
    Ok(l.intermediate(Plain::Slice, &inputs, like.dtype, dims))
}

fn between(l: &mut Lowering, whole: ValueId, part: ValueId, cut: &Cut) -> Result<(Op, Vec<ValueId>), Reason> {
    let mut parts = vec![];
    if cut.start != Fit::Fixed(0) {
        parts.push(stretch(l, whole, cut.axis, Fit::Fixed(0), cut.start.clone())?);
    }
    parts.push(part);
    if cut.end != cut.size {
        let end = if let Fit::Fixed(_) = cut.end { cut.size.clone() } else { Fit::Fixed(i64::MAX) };
        parts.push(stretch(l, whole, cut.axis, cut.end.clone(), end)?);
    }
    Ok((Op::Concat { axis: cut.axis as i64 }, parts))
}

fn strided(l: &mut Lowering, whole: ValueId, part: ValueId, cut: &Cut) -> Result<(Op, Vec<ValueId>), Reason> {
    let Fit::Fixed(size) = cut.size else {
        return Err(Reason::Baked("writing with a step needs a fixed axis".into()));
    };
    let like = l.value(whole).clone();
    // The element of the part for each index. Indices outside the range read element 0, which `Where` drops.
    let mut sources = vec![0; size as usize];
    let mut written = vec![0; size as usize];
    for (source, position) in cut.positions()?.into_iter().enumerate() {
        sources[position as usize] = source as i64;
        written[position as usize] = 1;
    }
    let mut column = vec![1; like.dims.len() - cut.axis];
    column[0] = size as usize;
    let written = Tensor::new(DType::Bool, column, written)
        .ok_or_else(|| Reason::Unsupported("a mask of another size than its axis".into()))?;
    let written = l.constant_tensor("written", written);
    let sources = l.int64s("sources", &sources);
    let spread = l.intermediate(Op::Gather { axis: cut.axis as i64 }, &[part, sources], like.dtype, like.dims.clone());
    Ok(l.select(written, [spread, whole], &like.dims))
}

/// Burn `select_assign` (whole slices along an axis) -> ONNX `ScatterElements` with every index repeated over its
/// slice.
pub(super) fn select_assign(l: &mut Lowering, op: &SelectAssignOpIr) -> Lowered {
    let dims = l.dims(&op.value);
    let mut indices = l.input(&op.indices)?;
    if dims.len() > 1 {
        let dtype = onnx_type(op.indices.dtype)?;
        let mut column = vec![1; dims.len()];
        column[op.dim] = -1;
        let column = l.int64s("column", &column);
        let mut thin = vec![Dim::Size(1); dims.len()];
        thin[op.dim] = dims[op.dim].clone();
        indices = l.intermediate(Plain::Reshape, &[indices, column], dtype, thin);
        let target = l.shape("shape", &dims)?;
        indices = l.intermediate(Plain::Expand, &[indices, target], dtype, dims);
    }
    let data = [l.input(&op.tensor)?, l.input(&op.value)?];
    let axis = op.dim as i64;
    let update = update(op.update);
    reduce_into(l, Op::ScatterElements { axis, update }, update, data, indices, &op.out)
}

/// Burn `scatter` (one element per index) -> ONNX `ScatterElements`; minimum and maximum since operator set 18.
pub(super) fn scatter(l: &mut Lowering, op: &ScatterOpIr) -> Lowered {
    let data = [l.input(&op.tensor)?, l.input(&op.value)?];
    let indices = l.input(&op.indices)?;
    let axis = op.dim as i64;
    let update = update(op.update);
    reduce_into(l, Op::ScatterElements { axis, update }, update, data, indices, &op.out)
}

/// Burn `scatter_nd` -> ONNX `ScatterND`, which accepts only 64-bit indices; minimum and maximum since operator set 18.
pub(super) fn scatter_nd(l: &mut Lowering, op: &ScatterNdOpIr) -> Lowered {
    let data = [l.input(&op.data)?, l.input(&op.values)?];
    let indices = l.input(&op.indices)?;
    let indices = l.cast(indices, DType::Int64);
    let update = update(op.reduction);
    reduce_into(l, Op::ScatterND { update }, update, data, indices, &op.out)
}

fn update(burn: IndexingUpdateOp) -> Update {
    match burn {
        IndexingUpdateOp::Assign => Update::Replace,
        IndexingUpdateOp::Add => Update::Add,
        IndexingUpdateOp::Mul => Update::Mul,
        IndexingUpdateOp::Min => Update::Min,
        IndexingUpdateOp::Max => Update::Max,
    }
}

/// Scatters `[data, value]`. Burn adds booleans by `or`: they are summed as integers and cast back. f16 and narrow
/// integers are updated in 32 bits, because runtimes have no kernels for them.
fn reduce_into(
    l: &mut Lowering,
    op: Op,
    update: Update,
    [data, value]: [ValueId; 2],
    indices: ValueId,
    out: &TensorIr,
) -> Lowered {
    let op = l.available(op)?;
    let to = onnx_type(out.dtype)?;
    let wide = match to {
        _ if update == Update::Replace => to,
        DType::Bool => DType::Int32,
        DType::Float16 | DType::Bfloat16 => DType::Float,
        narrow if narrow.is_narrow() => DType::Int32,
        _ => to,
    };
    if wide == to {
        return l.emit(op, &[data, indices, value], out);
    }
    let (data, value) = (l.cast(data, wide), l.cast(value, wide));
    let updated = l.intermediate_like(op, &[data, indices, value]);
    l.emit(Op::Cast { to }, &[updated], out)
}
