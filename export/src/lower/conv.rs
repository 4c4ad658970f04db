//! Convolutions and interpolation.

use burn::backend::ir::{InterpolateModeIr, InterpolateOpIr, TensorIr};

use super::{Lowered, Lowering, Reason};
use crate::graph::{Coordinates, Op, ResizeMode, Window};

/// Numbers of a convolution, one entry per spatial axis.
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

/// Burn `interpolate` -> ONNX `Resize` with sizes. Burn's `Nearest` floors `out * in / out_size`; its `NearestExact` looks at
/// pixel centres.
pub(super) fn interpolate(l: &mut Lowering, op: &InterpolateOpIr) -> Lowered {
    let corners = if op.options.align_corners { Coordinates::AlignCorners } else { Coordinates::HalfPixel };
    let (mode, coordinates) = match op.options.mode {
        InterpolateModeIr::Nearest => (ResizeMode::NearestFloor, Coordinates::Asymmetric),
        InterpolateModeIr::NearestExact => (ResizeMode::NearestRound, Coordinates::HalfPixel),
        InterpolateModeIr::Bilinear => (ResizeMode::Linear, corners),
        InterpolateModeIr::Bicubic => (ResizeMode::Cubic, corners),
        InterpolateModeIr::Lanczos3 => return Err(Reason::Unsupported("ONNX has no Lanczos filter".into())),
    };
    let input = l.input(&op.x)?;
    let dims = l.dims(&op.out);
    let sizes = l.shape("sizes", &dims)?;
    l.emit_resize(Op::Resize { mode, coordinates }, input, sizes, &op.out)
}

impl Lowering<'_> {
    /// `Resize` leaves out its second and third input.
    fn emit_resize(
        &mut self,
        op: Op,
        input: crate::graph::ValueId,
        sizes: crate::graph::ValueId,
        out: &TensorIr,
    ) -> Lowered {
        self.emit(op, &[input], out)?;
        if let Some(node) = self.graph.nodes.last_mut() {
            node.inputs.extend([None, None, Some(sizes)]);
        }
        Ok(())
    }
}
