//! Reductions, indices of extremes, top-k, sorting.

use burn::backend::ir::{
    ReduceDimOpIr, ReduceDimWithIndicesOpIr, ReduceDimsOpIr, ReduceOpIr, SortOpIr, SortWithIndicesOpIr, TensorIr,
    TopKWithIndicesOpIr,
};
use graph::{DType, Dim, Op, Plain, Reduction, ValueId};

use super::builder::{Lowered, Lowering, Reason, onnx_type};

/// Burn's reductions of a whole tensor give shape `[1]` -> ONNX reduces all axes and the result is reshaped.
pub(super) fn whole(l: &mut Lowering, op: &ReduceOpIr, reduction: Reduction) -> Lowered {
    let input = l.input(&op.input)?;
    reduce_whole(l, input, op, reduction)
}

fn reduce_whole(l: &mut Lowering, input: ValueId, op: &ReduceOpIr, reduction: Reduction) -> Lowered {
    let axes = (0..op.input.shape.len() as i64).collect();
    let input = l.widen_to_int32(input);
    let dtype = l.value(input).dtype;
    let ones = vec![Dim::Size(1); op.input.shape.len()];
    let reduced = l.intermediate(Op::Reduce { reduction, axes, keep_dims: true }, &[input], dtype, ones);
    let reduced = l.cast(reduced, onnx_type(op.out.dtype)?);
    let shape: Vec<i64> = op.out.shape.iter().map(|&size| size as i64).collect();
    let shape = l.int64s("shape", &shape);
    l.emit(Plain::Reshape, &[reduced, shape], &op.out)
}

/// Burn's reductions of one axis keep it with size 1 -> ONNX's with `keepdims`.
pub(super) fn dim(l: &mut Lowering, op: &ReduceDimOpIr, reduction: Reduction) -> Lowered {
    let input = l.input(&op.input)?;
    l.emit_via_int32(Op::Reduce { reduction, axes: vec![op.axis as i64], keep_dims: true }, &[input], &op.out)
}

/// Burn `sum_dims` -> ONNX `ReduceSum`.
pub(super) fn sum_dims(l: &mut Lowering, op: &ReduceDimsOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let axes = op.axes.iter().map(|&axis| axis as i64).collect();
    l.emit_via_int32(Op::Reduce { reduction: Reduction::Sum, axes, keep_dims: true }, &[input], &op.out)
}

/// Burn `max_abs` -> ONNX `ReduceMax(Abs)`.
pub(super) fn max_abs(l: &mut Lowering, op: &ReduceOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let absolute = l.intermediate_like(Plain::Abs, &[input]);
    reduce_whole(l, absolute, op, Reduction::Max)
}

/// Burn `max_abs_dim` -> ONNX `ReduceMax(Abs)`.
pub(super) fn max_abs_dim(l: &mut Lowering, op: &ReduceDimOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let absolute = l.intermediate_like(Plain::Abs, &[input]);
    let reduce = Op::Reduce { reduction: Reduction::Max, axes: vec![op.axis as i64], keep_dims: true };
    l.emit_via_int32(reduce, &[absolute], &op.out)
}

/// Burn `argmax`, `argmin` -> ONNX `ArgMax`, `ArgMin` (the first of equal elements), cast to Burn's integer type.
pub(super) fn position(l: &mut Lowering, op: &ReduceDimOpIr, largest: bool) -> Lowered {
    let input = l.input(&op.input)?;
    index(l, input, op.axis, largest, &op.out)
}

fn index(l: &mut Lowering, input: ValueId, axis: usize, largest: bool, out: &TensorIr) -> Lowered {
    let axis = axis as i64;
    let input = l.widen_to_int32(input);
    let op = if largest { Op::ArgMax { axis } } else { Op::ArgMin { axis } };
    as_index(l, op, &[input], out)
}

/// The type of indices. Burn records 8-bit indices as such, although they end at 127, and computes them in a wider
/// type.
fn index_type(out: &TensorIr) -> Result<DType, Reason> {
    let to = onnx_type(out.dtype)?;
    if to.is_narrow() {
        let problem = format!("indices of type {to:?} are too small; cast the tensor to 32-bit integers first");
        return Err(Reason::Unsupported(problem));
    }
    Ok(to)
}

/// Emits an operator that returns 64-bit indices and casts them to Burn's integer type.
fn as_index(l: &mut Lowering, op: Op, inputs: &[ValueId], out: &TensorIr) -> Lowered {
    let to = index_type(out)?;
    if to == DType::Int64 {
        return l.emit(op, inputs, out);
    }
    let dims = l.dims(out);
    let found = l.intermediate(op, inputs, DType::Int64, dims);
    l.emit(Op::Cast { to }, &[found], out)
}

/// Burn `max_dim_with_indices`, `min_dim_with_indices` -> ONNX `ReduceMax` and `ArgMax`, `ReduceMin` and `ArgMin`.
pub(super) fn with_index(l: &mut Lowering, op: &ReduceDimWithIndicesOpIr, largest: bool) -> Lowered {
    let input = l.input(&op.tensor)?;
    let reduction = if largest { Reduction::Max } else { Reduction::Min };
    l.emit_via_int32(Op::Reduce { reduction, axes: vec![op.dim as i64], keep_dims: true }, &[input], &op.out)?;
    index(l, input, op.dim, largest, &op.out_indices)
}

/// Burn `topk` -> values of ONNX `TopK`, largest first.
pub(super) fn top(l: &mut Lowering, op: &ReduceDimOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let [values, _] = ranked(l, input, &op.out, op.axis, Some(op.accumulator_len), true)?;
    l.emit(Plain::Identity, &[values], &op.out)
}

/// Burn `argtopk` -> indices of ONNX `TopK`.
pub(super) fn top_index(l: &mut Lowering, op: &ReduceDimOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let [_, indices] = ranked(l, input, &op.input, op.axis, Some(op.accumulator_len), true)?;
    l.give_index(indices, &op.out)
}

/// Burn `topk_with_indices` -> ONNX `TopK`.
pub(super) fn top_both(l: &mut Lowering, op: &TopKWithIndicesOpIr) -> Lowered {
    let input = l.input(&op.tensor)?;
    let [values, indices] = ranked(l, input, &op.out, op.dim, Some(op.k), true)?;
    l.emit(Plain::Identity, &[values], &op.out)?;
    l.give_index(indices, &op.out_indices)
}

/// Burn `sort` -> ONNX `TopK` of the whole axis.
pub(super) fn sort(l: &mut Lowering, op: &SortOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let [values, _] = ranked(l, input, &op.out, op.dim, None, op.descending)?;
    l.emit(Plain::Identity, &[values], &op.out)
}

/// Burn `argsort` -> indices of [`sort`].
pub(super) fn sort_index(l: &mut Lowering, op: &SortOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let [_, indices] = ranked(l, input, &op.input, op.dim, None, op.descending)?;
    l.give_index(indices, &op.out)
}

/// Burn `sort_with_indices` -> both outputs of [`sort`].
pub(super) fn sort_both(l: &mut Lowering, op: &SortWithIndicesOpIr) -> Lowered {
    let input = l.input(&op.input)?;
    let [values, indices] = ranked(l, input, &op.out, op.dim, None, op.descending)?;
    l.emit(Plain::Identity, &[values], &op.out)?;
    l.give_index(indices, &op.out_indices)
}

/// ONNX `TopK` along an axis; of the whole axis if `count` is `None`.
fn ranked(
    l: &mut Lowering,
    input: ValueId,
    like: &TensorIr,
    axis: usize,
    count: Option<usize>,
    largest: bool,
) -> Result<[ValueId; 2], Reason> {
    let mut dims = l.dims(like);
    let axis = super::builder::axis_of(dims.len(), axis)?;
    let count = match count {
        Some(count) => Dim::Size(count),
        None => dims[axis].clone(),
    };
    let k = l.shape("k", std::slice::from_ref(&count))?;
    dims[axis] = count;
    let op = Op::TopK { axis: axis as i64, largest };
    let to = l.value(input).dtype;
    let input = l.widen_to_int32(input);
    let dtype = l.value(input).dtype;
    let values = l.intermediate(op, &[input, k], dtype, dims.clone());
    let indices = l.second_output("indices", DType::Int64, dims);
    Ok([l.cast(values, to), indices])
}

impl Lowering<'_> {
    /// Casts 64-bit indices to Burn's integer type and makes them an output of the operation.
    pub(super) fn give_index(&mut self, indices: ValueId, out: &TensorIr) -> Lowered {
        match index_type(out)? {
            DType::Int64 => self.emit(Plain::Identity, &[indices], out),
            to => self.emit(Op::Cast { to }, &[indices], out),
        }
    }

    /// Adds a second output to the node that was added last.
    pub(super) fn second_output(&mut self, role: &str, dtype: DType, dims: Vec<Dim>) -> ValueId {
        let name = self.below(role);
        let second = self.graph.add_value(&name, dtype, dims);
        if let Some(node) = self.graph.nodes.last_mut() {
            node.outputs.push(second);
        }
        second
    }
}
