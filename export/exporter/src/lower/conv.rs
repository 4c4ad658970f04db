//! Convolutions.

use burn::backend::ir::{DeformConv2dOpIr, TensorIr, Unfold4dOpIr};
use graph::{Dim, Op, PadMode, Plain, Window};

use super::builder::{Lowered, Lowering, onnx_type};

/// Settings of a convolution, one entry per spatial axis.
pub(super) struct Geometry<'a> {
    pub stride: &'a [usize],
    pub begin: Vec<usize>,
    pub end: Vec<usize>,
    pub dilation: &'a [usize],
}

pub(super) fn int64s(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&value| value as i64).collect()
}

fn window(kernel: &[usize], geometry: &Geometry) -> Window {
    Window {
        kernel: int64s(kernel),
        strides: int64s(geometry.stride),
        pads: int64s(&[geometry.begin.as_slice(), geometry.end.as_slice()].concat()),
        dilations: int64s(geometry.dilation),
    }
}

fn kernel(weight: &TensorIr) -> Vec<usize> {
    weight.shape.iter().skip(2).copied().collect()
}

/// Burn `conv1d`, `conv2d`, `conv3d` -> ONNX `Conv`. Weights are `[out, in / groups, ..]` in both.
pub(super) fn conv(
    l: &mut Lowering,
    [x, weight, out]: [&TensorIr; 3],
    bias: Option<&TensorIr>,
    geometry: &Geometry,
    groups: usize,
) -> Lowered {
    let mut inputs = vec![l.input(x)?, l.input(weight)?];
    if let Some(bias) = bias {
        inputs.push(l.input(bias)?);
    }
    l.emit(Op::Conv { window: window(&kernel(weight), geometry), group: groups as i64 }, &inputs, out)
}

/// Burn `conv_transpose1d` … -> ONNX `ConvTranspose`. Weights are `[in, out / groups, ..]` in both.
pub(super) fn conv_transpose(
    l: &mut Lowering,
    [x, weight, out]: [&TensorIr; 3],
    bias: Option<&TensorIr>,
    geometry: &Geometry,
    padding_out: &[usize],
    groups: usize,
) -> Lowered {
    let mut inputs = vec![l.input(x)?, l.input(weight)?];
    if let Some(bias) = bias {
        inputs.push(l.input(bias)?);
    }
    let window = window(&kernel(weight), geometry);
    l.emit(Op::ConvTranspose { window, output_padding: int64s(padding_out), group: groups as i64 }, &inputs, out)
}

/// Burn `deform_conv2d` -> ONNX `DeformConv`, since operator set 19. Both lay out offsets and masks alike.
pub(super) fn deform_conv(l: &mut Lowering, op: &DeformConv2dOpIr) -> Lowered {
    let o = &op.options;
    let geometry =
        Geometry { stride: &o.stride, begin: o.padding.to_vec(), end: o.padding.to_vec(), dilation: &o.dilation };
    let (group, offset_group) = (o.weight_groups as i64, o.offset_groups as i64);
    let window = window(&kernel(&op.weight), &geometry);
    let deform = l.available(Op::DeformConv { window, group, offset_group })?;
    let inputs = [l.input(&op.x)?, l.input(&op.weight)?, l.input(&op.offset)?];
    let bias = op.bias.as_ref().map(|bias| l.input(bias)).transpose()?;
    let mask = op.mask.as_ref().map(|mask| l.input(mask)).transpose()?;
    l.emit(deform, &inputs, &op.out)?;
    match (bias, mask) {
        (None, None) => {}
        (bias, None) => l.more_inputs([bias]),
        (bias, mask) => l.more_inputs([bias, mask]),
    }
    Ok(())
}

/// Burn `unfold4d` (patches as columns) -> ONNX `Pad`, one `Gather` of rows and one of columns, on axes that must be
/// fixed, and a move of the new axes to the channels.
pub(super) fn unfold4d(l: &mut Lowering, op: &Unfold4dOpIr) -> Lowered {
    let dims = l.dims(&op.x);
    let dtype = onnx_type(op.x.dtype)?;
    let o = &op.options;
    let sizes = l.fixed("unfolding", &dims[1..])?;
    let mut value = l.input(&op.x)?;
    let mut padded = dims.clone();
    for axis in 0..2 {
        padded[2 + axis] = Dim::Size(sizes[1 + axis] + 2 * o.padding[axis]);
    }
    if o.padding != [0, 0] {
        let [height, width] = o.padding.map(|padding| padding as i64);
        let pads = l.int64s("pads", &[0, 0, height, width, 0, 0, height, width]);
        let zero = l.float("zero", op.x.dtype, 0.0)?;
        value = l.intermediate(Op::Pad { mode: PadMode::Constant }, &[value, pads, zero], dtype, padded.clone());
    }
    let mut windows = [0; 2];
    for axis in 0..2 {
        let (kernel, stride, dilation) = (op.kernel_size[axis], o.stride[axis], o.dilation[axis]);
        let reach = dilation * (kernel - 1) + 1;
        windows[axis] = (sizes[1 + axis] + 2 * o.padding[axis] - reach) / stride + 1;
        let indices =
            (0..kernel).flat_map(|tap| (0..windows[axis]).map(move |at| (tap * dilation + at * stride) as i64));
        let indices = l.int64_tensor("indices", [kernel, windows[axis]], indices.collect());
        // The rows have become two axes by the time the columns are gathered.
        let position = 2 + 2 * axis;
        let mut dims = l.value(value).dims.clone();
        dims.splice(position..=position, [Dim::Size(kernel), Dim::Size(windows[axis])]);
        value = l.intermediate(Op::Gather { axis: position as i64 }, &[value, indices], dtype, dims);
    }
    let order = [0, 1, 2, 4, 3, 5];
    let before = l.value(value).dims.clone();
    let moved = order.iter().map(|&axis| before[axis].clone()).collect();
    let order = order.iter().map(|&axis| axis as i64).collect();
    value = l.intermediate(Op::Transpose { order }, &[value], dtype, moved);
    let rows = sizes[0] * op.kernel_size.iter().product::<usize>();
    let columns = l.int64s("columns", &[0, rows as i64, (windows[0] * windows[1]) as i64]);
    l.emit(Plain::Reshape, &[value, columns], &op.out)
}
