//! Pooling.

use burn::backend::ir::TensorIr;
use graph::{DType, Dim, Formula, Op, PadMode, Plain, Window};

use super::builder::{Lowered, Lowering, Reason, onnx_type};
use super::conv::int64s;
use super::weighted::{Weights, weighted};

/// Settings of a pooling, one entry per spatial axis; padding is the same on both sides.
pub(super) struct Pool<'a> {
    pub kernel: &'a [usize],
    pub stride: &'a [usize],
    pub padding: &'a [usize],
    pub dilation: &'a [usize],
    pub ceil_mode: bool,
}

impl Pool<'_> {
    fn window(&self) -> Window {
        Window {
            kernel: int64s(self.kernel),
            strides: int64s(self.stride),
            pads: int64s(&[self.padding, self.padding].concat()),
            dilations: int64s(self.dilation),
        }
    }

    /// Rounds up as Burn does, by extending `pads` to the end of the last window. Runtimes disagree on when to drop a
    /// last window inside the padding, but agree on explicit padding.
    ///
    /// On an axis of any size, `pads` extend to the furthest possible end of a last window; rounding down then gives
    /// Burn's rounding up. This fails only where windows are so far apart that one would begin behind the input, which
    /// Burn leaves out.
    fn round_up(&self, l: &Lowering, x: &TensorIr, out: &TensorIr, window: &mut Window) -> Result<(), Reason> {
        if !self.ceil_mode {
            return Ok(());
        }
        let dims = l.dims(x).into_iter().skip(2);
        for (axis, dim) in dims.enumerate() {
            let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
            let end = if dim.is_fixed() || padding + stride > kernel {
                let size = l.fixed("pooling that rounds up with windows this far apart", &[dim])?[0];
                let reach = self.dilation[axis] * (kernel - 1) + 1;
                let needed = (out.shape[2 + axis].saturating_sub(1)) * stride + reach;
                needed.saturating_sub(size + padding).max(padding)
            } else {
                padding + stride - 1
            };
            window.pads[self.kernel.len() + axis] = end as i64;
        }
        Ok(())
    }
}

/// Burn `max_pool1d`, `max_pool2d` -> ONNX `MaxPool`; padding is never the maximum in either.
pub(super) fn max(l: &mut Lowering, x: &TensorIr, pool: &Pool, out: &TensorIr) -> Lowered {
    let input = l.input(x)?;
    let mut window = pool.window();
    pool.round_up(l, x, out, &mut window)?;
    l.emit(Op::MaxPool { window }, &[input], out)
}

/// Burn `max_pool1d_with_indices`, `max_pool2d_with_indices` -> ONNX `MaxPool` with its second output. ONNX indexes the
/// whole tensor, Burn one channel, so the index is taken modulo the channel's size.
pub(super) fn max_with_indices(
    l: &mut Lowering,
    x: &TensorIr,
    pool: &Pool,
    out: &TensorIr,
    out_indices: &TensorIr,
) -> Lowered {
    let input = l.input(x)?;
    let mut window = pool.window();
    pool.round_up(l, x, out, &mut window)?;
    let plane = l.dims(x).iter().skip(2).try_fold(Formula::constant(1), |plane, dim| plane.times(&dim.formula()?));
    let dims = l.dims(out);
    l.emit(Op::MaxPool { window }, &[input], out)?;
    let everywhere = l.second_output("positions", DType::Int64, dims.clone());
    let plane = l.size(&plane.map_or(Dim::Unknown, Dim::from))?;
    let inside = l.intermediate(Plain::Mod, &[everywhere, plane], DType::Int64, dims);
    l.give_index(inside, out_indices)
}

/// Burn `avg_pool1d`, `avg_pool2d` -> ONNX `AveragePool`. Where Burn rounds up and counts padding, a separate `Pad`
/// adds that padding, because what the last window reaches beyond it must not count.
pub(super) fn average(l: &mut Lowering, x: &TensorIr, pool: &Pool, count_include_pad: bool, out: &TensorIr) -> Lowered {
    let mut input = l.input(x)?;
    let mut window = pool.window();
    pool.round_up(l, x, out, &mut window)?;
    let axes = pool.padding.len();
    let beyond = window.pads[axes..].iter().zip(pool.padding).any(|(&end, &padding)| end > padding as i64);
    if !(beyond && count_include_pad) {
        return l.emit(Op::AveragePool { window, count_include_pad }, &[input], out);
    }
    if pool.padding.iter().any(|&padding| padding > 0) {
        let padding = int64s(&[&[0, 0], pool.padding].concat());
        let pads = l.int64s("pads", &[padding.clone(), padding].concat());
        let zero = l.float("zero", x.dtype, 0.0)?;
        let mut dims = l.dims(x);
        for (axis, padding) in pool.padding.iter().enumerate() {
            let padded = dims[2 + axis].formula().and_then(|size| size.plus(&Formula::constant(2 * *padding as i64)));
            dims[2 + axis] = padded.map_or(Dim::Unknown, Dim::from);
            window.pads[axes + axis] -= *padding as i64;
            window.pads[axis] = 0;
        }
        input = l.intermediate(Op::Pad { mode: PadMode::Constant }, &[input, pads, zero], onnx_type(x.dtype)?, dims);
    }
    l.emit(Op::AveragePool { window, count_include_pad: false }, &[input], out)
}

/// Burn `adaptive_avg_pool*d` -> ONNX `GlobalAveragePool` for size 1, `AveragePool` where the size divides the input's,
/// else the exact bins as one matrix product per axis. On a dynamic axis the model computes the matrix.
pub(super) fn adaptive(l: &mut Lowering, x: &TensorIr, output_size: &[usize], out: &TensorIr) -> Lowered {
    let input = l.input(x)?;
    if output_size.iter().all(|&size| size == 1) {
        return l.emit(Plain::GlobalAveragePool, &[input], out);
    }
    let dims: Vec<Dim> = l.dims(x).into_iter().skip(2).collect();
    let sizes: Option<Vec<usize>> = dims.iter().map(Dim::size).collect();
    let dividing = |sizes: &Vec<usize>| sizes.iter().zip(output_size).all(|(size, &bins)| bins > 0 && size % bins == 0);
    if let Some(sizes) = sizes.filter(dividing) {
        let kernel: Vec<i64> = sizes.iter().zip(output_size).map(|(size, bins)| (size / bins) as i64).collect();
        let rank = kernel.len();
        let window = Window { strides: kernel.clone(), kernel, pads: vec![0; 2 * rank], dilations: vec![1; rank] };
        return l.emit(Op::AveragePool { window, count_include_pad: false }, &[input], out);
    }
    let weights: Vec<_> = dims.iter().zip(output_size).map(|(size, &bins)| Weights::bins(size, bins)).collect();
    weighted(l, input, x, &weights, out)
}
