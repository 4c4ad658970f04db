//! Shapes, slices, masks and casts.

use burn::backend::ir::{
    BaseOperationIr, BinaryOpIr, CastOpIr, CatOpIr, EmbeddingOpIr, FlipOpIr, GatherNdOpIr, GatherOpIr, MaskFillOpIr,
    MaskWhereOpIr, OperationIr, PermuteOpIr, ReduceDimOpIr, ReduceOpIr, RepeatDimOpIr, ScalarIr, ScalarOpIr,
    SelectOpIr, ShapeOpIr, SliceOpIr, SwapDimsOpIr, TensorIr, UnfoldOpIr,
};
use burn::tensor::{DType as BurnType, Slice, TensorData};
use graph::{DType, Dim, Op, Plain, Reduction, ValueId};

use super::builder::{Lowered, Lowering, Reason, onnx_type};
use crate::resolve::Fit;
use crate::types::tensor;

/// Burn `reshape` -> ONNX `Reshape`. A dynamic axis that keeps its index is 0 (copied) and one other may be -1; further
/// dynamic sizes are computed from the inputs' shapes.
pub(super) fn reshape(l: &mut Lowering, op: &ShapeOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let to = l.dims(&op.out);
    // Beside an empty axis -1 is undefined and 0 would copy; a tensor without elements needs neither.
    if to.contains(&Dim::Size(0)) {
        return filled(l, &op.out, ScalarIr::Int(0));
    }
    let target = target(l, input, &to)?;
    l.emit(Plain::Reshape, &[input, target], &op.out)
}

/// Reshapes a value to another shape with as many elements, as an intermediate result.
pub(super) fn reshaped(l: &mut Lowering, input: ValueId, to: &[Dim]) -> Result<ValueId, Reason> {
    let target = target(l, input, to)?;
    let dtype = l.value(input).dtype;
    Ok(l.intermediate(Plain::Reshape, &[input, target], dtype, to.to_vec()))
}

/// The shape operand of a `Reshape` of `input`.
fn target(l: &mut Lowering, input: ValueId, to: &[Dim]) -> Result<ValueId, Reason> {
    let from = &l.value(input).dims;
    let stays = |axis: usize, dim: &Dim| from.get(axis).is_some_and(|old| old.same(dim));
    let entry = |(axis, dim): (usize, &Dim)| match dim.size() {
        Some(size) => size as i64,
        None if stays(axis, dim) => 0,
        None => -1,
    };
    let target: Vec<i64> = to.iter().enumerate().map(entry).collect();
    let free = target.iter().filter(|&&size| size == -1).count();
    if free <= 1 { Ok(l.int64s("shape", &target)) } else { l.shape("shape", to) }
}

/// Burn `swap_dims` -> ONNX `Transpose`.
pub(super) fn swap_dims(l: &mut Lowering, op: &SwapDimsOpIr) -> Lowered {
    let mut order: Vec<i64> = (0..op.input.shape.len() as i64).collect();
    let rank = order.len();
    order.swap(super::builder::axis_of(rank, op.dim1)?, super::builder::axis_of(rank, op.dim2)?);
    let input = l.input(&op.input)?;
    l.emit(Op::Transpose { order }, &[input], &op.out)
}

/// Burn `permute` -> ONNX `Transpose`. Both list, for each axis of the result, the axis it comes from.
pub(super) fn permute(l: &mut Lowering, op: &PermuteOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let order = op.axes.iter().map(|&axis| axis as i64).collect();
    l.emit(Op::Transpose { order }, &[input], &op.out)
}

/// Burn `flip` -> ONNX `Slice` with step -1.
pub(super) fn flip(l: &mut Lowering, op: &FlipOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let count = op.axes.len();
    let axes: Vec<i64> = op.axes.iter().map(|&axis| axis as i64).collect();
    let inputs = [
        input,
        l.int64s("starts", &vec![-1; count]),
        l.int64s("ends", &vec![i64::MIN; count]),
        l.int64s("axes", &axes),
        l.int64s("steps", &vec![-1; count]),
    ];
    l.emit(Plain::Slice, &inputs, &op.out)
}

/// Burn `expand` -> ONNX `Expand`. A 1 in its shape keeps the axis, so only axes that grow need a size.
pub(super) fn expand(l: &mut Lowering, op: &ShapeOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let (from, to) = (l.dims(&op.input), l.dims(&op.out));
    let added = to.len().saturating_sub(from.len());
    let target: Vec<Dim> = to
        .iter()
        .enumerate()
        .map(|(axis, dim)| {
            let old = axis.checked_sub(added).and_then(|axis| from.get(axis));
            if old.is_some_and(|old| old.same(dim)) { Dim::Size(1) } else { dim.clone() }
        })
        .collect();
    let target = l.shape("shape", &target)?;
    l.emit(Plain::Expand, &[input, target], &op.out)
}

fn slices(operation: &OperationIr) -> Option<&[Slice]> {
    match operation {
        OperationIr::BaseFloat(op) | OperationIr::BaseInt(op) | OperationIr::BaseBool(op) => match op {
            BaseOperationIr::Slice(op) => Some(&op.ranges),
            BaseOperationIr::SliceAssign(op) => Some(&op.ranges),
            _ => None,
        },
        _ => None,
    }
}

fn sliced(operation: &OperationIr, axis: usize) -> Option<usize> {
    operation.inputs().next().and_then(|tensor| tensor.shape.iter().nth(axis).copied())
}

/// The part of one axis that a range selects.
pub(super) struct Cut {
    pub axis: usize,
    /// First element of the range.
    pub start: Fit,
    /// One past the last element of the range.
    pub end: Fit,
    /// Size of the axis.
    pub size: Fit,
    /// Step width; negative to walk the range from its end.
    pub step: i64,
}

impl Cut {
    /// Indices of the selected elements, in order, of a range that must be fixed.
    pub(super) fn positions(&self) -> Result<Vec<i64>, Reason> {
        let (Fit::Fixed(start), Fit::Fixed(end)) = (&self.start, &self.end) else {
            return Err(Reason::Baked("a step on a dynamic range".into()));
        };
        let step = self.step.unsigned_abs() as usize;
        Ok(if self.step > 0 {
            (*start..*end).step_by(step).collect()
        } else {
            (*start..*end).rev().step_by(step).collect()
        })
    }
}

/// The parts that the ranges of the current `slice` or `slice_assign` select, without axes that are selected whole.
pub(super) fn cuts(l: &Lowering, ranges: &[Slice]) -> Result<Vec<Cut>, Reason> {
    let mut cuts = vec![];
    for (axis, range) in ranges.iter().enumerate() {
        let bound = |operation: &OperationIr| {
            let (slice, size) = (slices(operation)?.get(axis)?, sliced(operation, axis)?);
            Some(slice.to_range(size))
        };
        // An axis selected whole in every trace needs nothing, whatever its size.
        let missing = |operation: &OperationIr| {
            let size = sliced(operation, axis)?;
            let range = bound(operation)?;
            Some(if range.start == 0 && range.end >= size { 0 } else { 1 })
        };
        let field = format!("ranges[{axis}]");
        if range.step == 1 && l.number(&field, missing)? == Fit::Fixed(0) {
            continue;
        }
        let start = l.number(&field, |operation| Some(bound(operation)?.start as i64))?;
        let end = l.number(&field, |operation| Some(bound(operation)?.end as i64))?;
        let size = l.number(&field, |operation| sliced(operation, axis).map(|size| size as i64))?;
        cuts.push(Cut { axis, start, end, size, step: range.step as i64 });
    }
    Ok(cuts)
}

/// Burn `slice` -> ONNX `Slice`. With a negative step Burn walks its range backwards, while ONNX's start is where the
/// walk begins; an end of `i64::MIN` reaches element 0.
pub(super) fn slice(l: &mut Lowering, op: &SliceOpIr) -> Lowered {
    let input = l.input(&op.tensor)?;
    let (mut starts, mut ends, mut axes, mut steps) = (vec![], vec![], vec![], vec![]);
    for Cut { axis, start, end, size, step } in cuts(l, &op.ranges)? {
        // A range that ends with its axis stays open, so no size has to be computed.
        let end = if end == size && step > 0 { Fit::Fixed(i64::MAX) } else { end };
        let (start, end) = if step > 0 {
            (start, end)
        } else {
            let before = |fit: Fit| match fit {
                Fit::Fixed(0) => Ok(Fit::Fixed(i64::MIN)),
                Fit::Fixed(number) => Ok(Fit::Fixed(number - 1)),
                Fit::Dynamic(_) => Err(Reason::Baked(format!("`ranges[{axis}]` runs backwards on a dynamic axis"))),
            };
            (before(end)?, before(start)?)
        };
        axes.push(axis as i64);
        starts.push(start);
        ends.push(end);
        steps.push(step);
    }
    if axes.is_empty() {
        return l.alias(input, &op.out);
    }
    let starts = bounds(l, "starts", starts)?;
    let ends = bounds(l, "ends", ends)?;
    let mut inputs = vec![input, starts, ends, l.int64s("axes", &axes)];
    if steps.iter().any(|&step| step != 1) {
        inputs.push(l.int64s("steps", &steps));
    }
    l.emit(Plain::Slice, &inputs, &op.out)
}

/// Burn `unfold` (windows along one axis, with their elements as the last axis) -> ONNX `Gather` with the windows'
/// indices, on an axis that must be fixed, and `Transpose`.
pub(super) fn unfold(l: &mut Lowering, op: &UnfoldOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let mut dims = l.dims(&op.input);
    super::builder::axis_of(dims.len(), op.dim)?;
    let size = l.fixed("unfolding", &dims[op.dim..=op.dim])?[0];
    let windows = (size + op.step).saturating_sub(op.size) / op.step;
    let indices = (0..windows).flat_map(|window| (0..op.size).map(move |at| (window * op.step + at) as i64)).collect();
    let indices = l.int64_tensor("indices", [windows, op.size], indices);
    let gather = Op::Gather { axis: op.dim as i64 };
    if op.dim + 1 == dims.len() {
        return l.emit(gather, &[input, indices], &op.out);
    }
    dims.splice(op.dim..=op.dim, [Dim::Size(windows), Dim::Size(op.size)]);
    let rank = dims.len() as i64;
    let value = l.intermediate(gather, &[input, indices], onnx_type(op.input.dtype)?, dims);
    let inner = op.dim as i64 + 1;
    let order = (0..rank).filter(|&axis| axis != inner).chain([inner]).collect();
    l.emit(Op::Transpose { order }, &[value], &op.out)
}

pub(super) fn bounds(l: &mut Lowering, role: &str, fits: Vec<Fit>) -> Result<ValueId, Reason> {
    let fixed: Option<Vec<i64>> = fits
        .iter()
        .map(|fit| match fit {
            Fit::Fixed(number) => Some(*number),
            Fit::Dynamic(_) => None,
        })
        .collect();
    if let Some(fixed) = fixed {
        return Ok(l.int64s(role, &fixed));
    }
    let parts = fits
        .into_iter()
        .map(|fit| match fit {
            Fit::Fixed(number) => Ok(l.int64s(role, &[number])),
            Fit::Dynamic(dim) => l.size(&dim),
        })
        .collect::<Result<Vec<_>, _>>()?;
    let count = Dim::Size(parts.len());
    Ok(l.intermediate(Op::Concat { axis: 0 }, &parts, DType::Int64, vec![count]))
}

/// Burn `select` (whole slices along an axis) -> ONNX `Gather`.
pub(super) fn select(l: &mut Lowering, op: &SelectOpIr) -> Lowered {
    let inputs = [l.input(&op.tensor)?, l.input(&op.indices)?];
    l.emit(Op::Gather { axis: op.dim as i64 }, &inputs, &op.out)
}

/// Burn `gather` (one element per index) -> ONNX `GatherElements`. Burn wants the other axes at least as large as the
/// indices, which is ONNX's rule too.
pub(super) fn gather(l: &mut Lowering, op: &GatherOpIr) -> Lowered {
    let inputs = [l.input(&op.tensor)?, l.input(&op.indices)?];
    l.emit(Op::GatherElements { axis: op.dim as i64 }, &inputs, &op.out)
}

/// Burn `gather_nd` -> ONNX `GatherND`, which accepts only 64-bit indices.
pub(super) fn gather_nd(l: &mut Lowering, op: &GatherNdOpIr) -> Lowered {
    let data = l.input(&op.data)?;
    let indices = l.input(&op.indices)?;
    let indices = l.cast(indices, DType::Int64);
    l.emit(Plain::GatherND, &[data, indices], &op.out)
}

/// Burn `mask_where(mask, value)` -> ONNX `Where(mask, value, tensor)`.
pub(super) fn mask_where(l: &mut Lowering, op: &MaskWhereOpIr) -> Lowered {
    let mask = l.input(&op.mask)?;
    let values = [l.input(&op.value)?, l.input(&op.tensor)?];
    let dims = l.dims(&op.out);
    let (choice, inputs) = l.select(mask, values, &dims);
    l.emit(choice, &inputs, &op.out)
}

/// Burn `mask_fill(mask, scalar)` -> ONNX `Where(mask, scalar, tensor)`.
pub(super) fn mask_fill(l: &mut Lowering, op: &MaskFillOpIr) -> Lowered {
    let mask = l.input(&op.mask)?;
    let values = [l.scalar("value", op.tensor.dtype, op.value)?, l.input(&op.tensor)?];
    let dims = l.dims(&op.out);
    let (choice, inputs) = l.select(mask, values, &dims);
    l.emit(choice, &inputs, &op.out)
}

/// Burn `embedding` -> ONNX `Gather` of the table's rows.
pub(super) fn embedding(l: &mut Lowering, op: &EmbeddingOpIr) -> Lowered {
    let inputs = [l.input(&op.weights)?, l.input(&op.indices)?];
    l.emit(Op::Gather { axis: 0 }, &inputs, &op.out)
}

/// Burn `equal` -> ONNX `Equal`.
pub(super) fn equal(l: &mut Lowering, op: &BinaryOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    l.emit(Plain::Equal, &inputs, &op.out)
}

/// Burn `equal_elem` -> ONNX `Equal` with a constant.
pub(super) fn equal_elem(l: &mut Lowering, op: &ScalarOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.scalar("other", op.lhs.dtype, op.rhs)?];
    l.emit(Plain::Equal, &inputs, &op.out)
}

/// Burn `not_equal` -> ONNX `Not(Equal)`.
pub(super) fn not_equal(l: &mut Lowering, op: &BinaryOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.input(&op.rhs)?];
    let dims = l.dims(&op.out);
    let equal = l.intermediate(Plain::Equal, &inputs, DType::Bool, dims);
    l.emit(Plain::Not, &[equal], &op.out)
}

/// Burn `not_equal_elem` -> ONNX `Not(Equal)` with a constant.
pub(super) fn not_equal_elem(l: &mut Lowering, op: &ScalarOpIr) -> Lowered {
    let inputs = [l.input(&op.lhs)?, l.scalar("other", op.lhs.dtype, op.rhs)?];
    let dims = l.dims(&op.out);
    let equal = l.intermediate(Plain::Equal, &inputs, DType::Bool, dims);
    l.emit(Plain::Not, &[equal], &op.out)
}

/// Burn `repeat_dim` -> ONNX `Tile`.
pub(super) fn repeat_dim(l: &mut Lowering, op: &RepeatDimOpIr) -> Lowered {
    let input = l.input(&op.tensor)?;
    let times = l.number("times", |operation| match operation {
        OperationIr::BaseFloat(BaseOperationIr::RepeatDim(op))
        | OperationIr::BaseInt(BaseOperationIr::RepeatDim(op))
        | OperationIr::BaseBool(BaseOperationIr::RepeatDim(op)) => Some(op.times as i64),
        _ => None,
    })?;
    let mut repeats = vec![Dim::Size(1); op.tensor.shape.len()];
    let rank = repeats.len();
    repeats[super::builder::axis_of(rank, op.dim)?] = match times {
        Fit::Fixed(times) => Dim::Size(times as usize),
        Fit::Dynamic(dim) => dim,
    };
    let repeats = l.shape("repeats", &repeats)?;
    l.emit(Plain::Tile, &[input, repeats], &op.out)
}

/// Burn `cat` -> ONNX `Concat`.
pub(super) fn cat(l: &mut Lowering, op: &CatOpIr) -> Lowered {
    let inputs = op.tensors.iter().map(|tensor| l.input(tensor)).collect::<Result<Vec<_>, _>>()?;
    l.emit(Op::Concat { axis: op.dim as i64 }, &inputs, &op.out)
}

/// Burn's casts -> ONNX `Cast`. Both truncate floats to integers.
pub(super) fn cast(l: &mut Lowering, op: &CastOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let (from, to) = (onnx_type(op.input.dtype)?, onnx_type(op.out.dtype)?);
    if from == to {
        return l.alias(input, &op.out);
    }
    l.emit(Op::Cast { to }, &[input], &op.out)
}

/// Burn `empty`, `zeros`, `ones`, `full` -> ONNX `ConstantOfShape`, folded where the shape is fixed.
pub(super) fn filled(l: &mut Lowering, out: &TensorIr, value: ScalarIr) -> Lowered {
    let (op, shape) = fill(l, out, out.dtype, value)?;
    l.emit(op, &[shape], out)
}

/// The operator and input that fill a tensor of the shape of `out`.
pub(super) fn fill(
    l: &mut Lowering,
    out: &TensorIr,
    dtype: BurnType,
    value: ScalarIr,
) -> Result<(Op, ValueId), Reason> {
    let value = tensor(&TensorData::full_dtype([1], value, dtype))
        .ok_or_else(|| Reason::Unsupported(format!("filling tensors of type {dtype:?}")))?;
    let dims = l.dims(out);
    Ok((Op::ConstantOfShape { value }, l.shape("shape", &dims)?))
}

/// Burn `all` and `any` (of the whole tensor or along an axis) -> minimum or maximum of the booleans as integers.
pub(super) fn every(l: &mut Lowering, op: &ReduceOpIr, reduction: Reduction) -> Lowered {
    let axes = (0..op.input.shape.len() as i64).collect();
    truth(l, &op.input, &op.out, reduction, axes)
}

/// See [`every`].
pub(super) fn every_dim(l: &mut Lowering, op: &ReduceDimOpIr, reduction: Reduction) -> Lowered {
    truth(l, &op.input, &op.out, reduction, vec![op.axis as i64])
}

fn truth(l: &mut Lowering, input: &TensorIr, out: &TensorIr, reduction: Reduction, axes: Vec<i64>) -> Lowered {
    let mut value = l.input(input)?;
    let mut dims = l.dims(input);
    if onnx_type(input.dtype)? != DType::Bool {
        value = l.intermediate(Op::Cast { to: DType::Bool }, &[value], DType::Bool, dims.clone());
    }
    let value = l.intermediate(Op::Cast { to: DType::Int32 }, &[value], DType::Int32, dims.clone());
    for &axis in &axes {
        dims[axis as usize] = Dim::Size(1);
    }
    let reduce = Op::Reduce { reduction, axes, keep_dims: true };
    let value = l.intermediate(reduce, &[value], DType::Int32, dims.clone());
    let value = if out.shape.len() == input.shape.len() {
        value
    } else {
        let shape: Vec<i64> = out.shape.iter().map(|&size| size as i64).collect();
        let target = l.int64s("shape", &shape);
        let dims = l.dims(out);
        l.intermediate(Plain::Reshape, &[value, target], DType::Int32, dims)
    };
    l.emit(Op::Cast { to: DType::Bool }, &[value], out)
}
