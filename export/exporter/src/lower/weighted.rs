//! Weighted sums along the spatial axes of `[batch, channels, ..]`, for bins and kernels that are not windows of one
//! size.

use burn::backend::ir::TensorIr;
use burn::tensor::DType as BurnType;
use graph::{DType, Dim, Op, Plain, ValueId};

use super::base::reshaped;
use super::builder::{Lowered, Lowering, Reason, onnx_type};
use crate::resolve::Ramp;

/// The weights of one axis: one row per new element.
pub(super) enum Weights {
    /// Constants, `[new][old]`.
    Known(Vec<Vec<f64>>),
    /// The weights of [`Weights::bins`] on an axis whose size is known only when the model runs.
    Bins {
        /// Size of the axis.
        size: Dim,
        /// Number of bins.
        bins: usize,
    },
}

impl Weights {
    /// The means of adaptive pooling: bin `i` covers `floor(i·size/bins)..ceil((i + 1)·size/bins)`.
    pub(super) fn bins(size: &Dim, bins: usize) -> Self {
        let Some(size) = size.size() else { return Self::Bins { size: size.clone(), bins } };
        let row = |bin: usize| {
            let (start, end) = (bin * size / bins, ((bin + 1) * size).div_ceil(bins));
            let share = |at: usize| if (start..end).contains(&at) { 1.0 / (end - start) as f64 } else { 0.0 };
            (0..size).map(share).collect()
        };
        Self::Known((0..bins).map(row).collect())
    }

    fn before(&self) -> Dim {
        match self {
            Self::Known(rows) => Dim::Size(rows.first().map_or(0, Vec::len)),
            Self::Bins { size, .. } => size.clone(),
        }
    }

    fn after(&self) -> Dim {
        Dim::Size(match self {
            Self::Known(rows) => rows.len(),
            Self::Bins { bins, .. } => *bins,
        })
    }

    /// The weights as a matrix: `[new, old]`, or `[old, new]` if transposed.
    fn matrix(&self, l: &mut Lowering, dtype: BurnType, transposed: bool) -> Result<ValueId, Reason> {
        match self {
            Self::Known(rows) => {
                let (new, old) = (rows.len(), rows.first().map_or(0, Vec::len));
                let across = || (0..old * new).map(|at| rows[at % new][at / new]).collect();
                let (dims, values) = if transposed { ([old, new], across()) } else { ([new, old], rows.concat()) };
                l.floats("weights", dtype, dims, values)
            }
            Self::Bins { size, bins } => computed(l, size, *bins, onnx_type(dtype)?, transposed),
        }
    }
}

/// Computes the matrix of adaptive pooling from the size of the axis: 1 for each position inside a bin, divided by the
/// number of positions in it.
fn computed(l: &mut Lowering, size: &Dim, bins: usize, dtype: DType, transposed: bool) -> Result<ValueId, Reason> {
    let [column, row] = [[bins, 1], [1, bins]];
    let edges = if transposed { row } else { column };
    let edge_dims = edges.map(Dim::Size).to_vec();
    let dims = if transposed { vec![size.clone(), Dim::Size(bins)] } else { vec![Dim::Size(bins), size.clone()] };

    let mut place = l.ramp(Ramp { start: 0, step: 1 }, size, DType::Int64)?;
    if transposed {
        let last = l.int64s("axes", &[1]);
        place = l.intermediate(Plain::Unsqueeze, &[place, last], DType::Int64, vec![size.clone(), Dim::Size(1)]);
    }
    let size = l.size(size)?;
    let bin = |first: usize| (first..first + bins).map(|bin| bin as i64).collect::<Vec<_>>();
    let divisor = l.int64s("bins", &[bins as i64]);
    let mut edge = |first: usize, round: i64| {
        let bin = l.int64_tensor("bin", edges, bin(first));
        let mut edge = l.intermediate(Plain::Mul, &[bin, size], DType::Int64, edge_dims.clone());
        if round > 0 {
            let round = l.int64s("round_up", &[round]);
            edge = l.intermediate_like(Plain::Add, &[edge, round]);
        }
        l.intermediate_like(Plain::Div, &[edge, divisor])
    };
    let (start, end) = (edge(0, 0), edge(1, bins as i64 - 1));
    let behind = l.intermediate(Plain::GreaterOrEqual, &[place, start], DType::Bool, dims.clone());
    let before = l.intermediate(Plain::Less, &[place, end], DType::Bool, dims);
    let inside = l.intermediate_like(Plain::And, &[behind, before]);
    let inside = l.cast(inside, dtype);
    let count = l.intermediate_like(Plain::Sub, &[end, start]);
    let count = l.cast(count, dtype);
    Ok(l.intermediate_like(Plain::Div, &[inside, count]))
}

/// Sums along each spatial axis with its weights -> a `MatMul` from the left for rows and from the right for columns.
/// With three axes, the depth is moved to the rows first.
pub(super) fn weighted(l: &mut Lowering, input: ValueId, x: &TensorIr, weights: &[Weights], out: &TensorIr) -> Lowered {
    let dtype = onnx_type(out.dtype)?;
    let mut value = input;
    let mut dims = l.dims(x);
    let rank = dims.len();
    if let [depth, rows, columns] = weights {
        let slice = rows.before().formula().zip(columns.before().formula()).and_then(|(a, b)| a.times(&b));
        let mut flat = [&dims[..2], &[depth.before(), slice.map_or(Dim::Unknown, Dim::from)]].concat();
        value = reshaped(l, value, &flat)?;
        let left = depth.matrix(l, out.dtype, false)?;
        flat[2] = depth.after();
        value = l.intermediate(Plain::MatMul, &[left, value], dtype, flat);
        dims[2] = depth.after();
        value = reshaped(l, value, &dims)?;
    }
    if let [.., rows, _] = weights {
        let left = rows.matrix(l, out.dtype, false)?;
        dims[rank - 2] = rows.after();
        value = l.intermediate(Plain::MatMul, &[left, value], dtype, dims);
    }
    let Some(columns) = weights.last() else { return l.alias(value, out) };
    let right = columns.matrix(l, out.dtype, true)?;
    l.emit(Op::from(Plain::MatMul), &[value, right], out)
}
