//! Poolings.

use burn::backend::ir::TensorIr;

use super::conv::int64s;
use super::{Lowered, Lowering, Reason, float_type};
use crate::graph::{Op, Plain, Tensor, Window};

/// Numbers of a pooling, one entry per spatial axis; padding is the same on both sides.
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

    /// Whether rounding up or down makes no difference, or whether ONNX rounds up to the same size as Burn did. They
    /// differ where a last window would lie in the padding only.
    fn ceil_mode(&self, l: &Lowering, x: &TensorIr, out: &TensorIr) -> Result<bool, Reason> {
        if !self.ceil_mode {
            return Ok(false);
        }
        let sizes = l.fixed("pooling that rounds up", &l.dims(x)[2..])?;
        let mut exact = true;
        for (axis, size) in sizes.iter().enumerate() {
            let window = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
            let span = (size + 2 * self.padding[axis]).saturating_sub(window);
            exact &= span.is_multiple_of(self.stride[axis]);
            if span.div_ceil(self.stride[axis]) + 1 != out.shape[2 + axis] {
                return Err(Reason::Unsupported("rounding up to a window inside the padding".into()));
            }
        }
        Ok(!exact)
    }
}

/// Burn `max_pool1d`, `max_pool2d` -> ONNX `MaxPool`; padding never wins in either.
pub(super) fn max(l: &mut Lowering, x: &TensorIr, pool: &Pool, out: &TensorIr) -> Lowered {
    let input = l.input(x)?;
    let ceil_mode = pool.ceil_mode(l, x, out)?;
    l.emit(Op::MaxPool { window: pool.window(), ceil_mode }, &[input], out)
}

/// Burn `avg_pool1d`, `avg_pool2d` -> ONNX `AveragePool`.
pub(super) fn average(l: &mut Lowering, x: &TensorIr, pool: &Pool, count_include_pad: bool, out: &TensorIr) -> Lowered {
    let input = l.input(x)?;
    if pool.ceil_mode(l, x, out)? {
        return Err(Reason::Unsupported("averages over windows that reach beyond the padding".into()));
    }
    l.emit(Op::AveragePool { window: pool.window(), count_include_pad }, &[input], out)
}

/// Burn `adaptive_avg_pool*d` -> ONNX `GlobalAveragePool` for size 1, `AveragePool` where the size divides the input's, else
/// the exact bins as one matrix product per axis.
pub(super) fn adaptive(l: &mut Lowering, x: &TensorIr, output_size: &[usize], out: &TensorIr) -> Lowered {
    let input = l.input(x)?;
    if output_size.iter().all(|&size| size == 1) {
        return l.emit(Plain::GlobalAveragePool, &[input], out);
    }
    let sizes = l.fixed("adaptive pooling to more than one bin", &l.dims(x)[2..])?;
    if sizes.iter().zip(output_size).all(|(size, bins)| *bins > 0 && size % bins == 0) {
        let kernel: Vec<i64> = sizes.iter().zip(output_size).map(|(size, bins)| (size / bins) as i64).collect();
        let rank = kernel.len();
        let window = Window { strides: kernel.clone(), kernel, pads: vec![0; 2 * rank], dilations: vec![1; rank] };
        return l.emit(Op::AveragePool { window, count_include_pad: false }, &[input], out);
    }
    let &[height, width] = sizes.as_slice() else {
        return Err(Reason::Unsupported(format!("{sizes:?} does not divide into {output_size:?} bins")));
    };
    let dtype = float_type(x.dtype)?;
    let weights = |bins: usize, size: usize| {
        let mut weights = vec![0.0; bins * size];
        for bin in 0..bins {
            let (start, end) = (bin * size / bins, ((bin + 1) * size).div_ceil(bins));
            weights[bin * size + start..bin * size + end].fill(1.0 / (end - start) as f64);
        }
        Tensor::from_f64s(dtype, vec![bins, size], &weights)
            .ok_or_else(|| Reason::Unsupported(format!("bins of type {dtype:?}")))
    };
    let rows = weights(output_size[0], height)?;
    let columns = weights(output_size[1], width)?.transposed(&[1, 0]);
    let columns = columns.ok_or_else(|| Reason::Unsupported("a matrix that cannot be transposed".into()))?;
    let rows = l.constant_tensor("rows", rows);
    let columns = l.constant_tensor("columns", columns);
    let mut dims = l.dims(x);
    dims[2] = crate::graph::Dim::Size(output_size[0]);
    let pooled = l.step(Plain::MatMul, &[rows, input], dtype, dims);
    l.emit(Plain::MatMul, &[pooled, columns], out)
}
