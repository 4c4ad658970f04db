//! Resampling pictures: interpolation and sampling at given places.

use burn::backend::ir::{
    GridSample2dOpIr, GridSamplePaddingModeIr as Padding, InterpolateModeIr as Mode, InterpolateOpIr, TensorIr,
};

use super::weighted::{Weights, weighted};
use super::{Lowered, Lowering, Reason, float_type};
use crate::graph::{Coordinates, Dim, Op, ResizeMode, ValueId};

/// Burn `interpolate` -> ONNX `Resize` with sizes. Burn's `Nearest` rounds `out * in / out_size` down; where the single
/// precision of runtimes would round to a neighbour, it is one `Gather` per axis. `NearestExact` looks at pixel centres.
/// `Lanczos3` is one matrix product per axis.
pub(super) fn interpolate(l: &mut Lowering, op: &InterpolateOpIr) -> Lowered {
    let align = op.options.align_corners;
    let corners = if align { Coordinates::AlignCorners } else { Coordinates::HalfPixel };
    let input = l.input(&op.x)?;
    let (from, to) = (l.dims(&op.x), l.dims(&op.out));
    let axes: Option<Vec<Axis>> =
        from.iter().zip(&to).skip(2).map(|(from, to)| Some(Axis { from: from.size()?, to: to.size()? })).collect();
    let (mode, coordinates) = match op.options.mode {
        Mode::Nearest => match axes.filter(|axes| !axes.iter().all(Axis::rounds_alike)) {
            Some(axes) => return nearest(l, input, from, &axes, &op.out),
            None => (ResizeMode::NearestFloor, Coordinates::Asymmetric),
        },
        Mode::NearestExact => (ResizeMode::NearestRound, Coordinates::HalfPixel),
        Mode::Bilinear => (ResizeMode::Linear, corners),
        Mode::Bicubic => (ResizeMode::Cubic, corners),
        Mode::Lanczos3 => {
            let axes = axes.ok_or_else(|| Reason::Baked("Lanczos interpolation needs fixed axes".into()))?;
            let weights: Vec<_> = axes.iter().map(|axis| Weights::Known(axis.lanczos(align))).collect();
            return weighted(l, input, &op.x, &weights, &op.out);
        }
    };
    let sizes = l.shape("sizes", &to)?;
    l.emit(Op::Resize { mode, coordinates }, &[input], &op.out)?;
    // `Resize` leaves out its second and third input.
    l.more_inputs([None, None, Some(sizes)]);
    Ok(())
}

/// One axis before and after.
struct Axis {
    from: usize,
    to: usize,
}

impl Axis {
    /// The pixel that Burn takes for each of the new ones, in double precision.
    fn nearest(&self) -> Vec<usize> {
        let ratio = self.from as f64 / self.to as f64;
        (0..self.to).map(|at| ((at as f64 * ratio) as usize).min(self.from - 1)).collect()
    }

    /// Whether single precision and the inverse ratio, as ONNX Runtime has them, take the same pixels.
    fn rounds_alike(&self) -> bool {
        let scale = self.to as f32 / self.from as f32;
        self.nearest().into_iter().enumerate().all(|(at, pixel)| (at as f32 / scale) as usize == pixel)
    }

    /// Burn's Lanczos weights of three lobes, a row for each new pixel: pixels outside are left out and the rest sums to 1.
    fn lanczos(&self, align_corners: bool) -> Vec<Vec<f64>> {
        let place = |at: usize| match align_corners {
            true => at as f64 * (self.from as f64 - 1.0) / self.to.saturating_sub(1).max(1) as f64,
            false => (at as f64 + 0.5) * self.from as f64 / self.to as f64 - 0.5,
        };
        let weight = |x: f64| {
            let angle = std::f64::consts::PI * x;
            match x.abs() {
                0.0 => 1.0,
                3.0.. => 0.0,
                _ => angle.sin() * (angle / 3.0).sin() / (angle * angle / 3.0),
            }
        };
        let row = |at: usize| {
            let place = place(at);
            let reach = place.floor() - 2.0..=place.floor() + 3.0;
            let taps = |pixel: usize| if reach.contains(&(pixel as f64)) { weight(place - pixel as f64) } else { 0.0 };
            let row: Vec<f64> = (0..self.from).map(taps).collect();
            let sum: f64 = row.iter().sum();
            if sum == 0.0 { row } else { row.into_iter().map(|weight| weight / sum).collect() }
        };
        (0..self.to).map(row).collect()
    }
}

fn nearest(l: &mut Lowering, input: ValueId, mut dims: Vec<Dim>, axes: &[Axis], out: &TensorIr) -> Lowered {
    let dtype = float_type(out.dtype)?;
    let pixels = |l: &mut Lowering, axis: &Axis| {
        let pixels: Vec<i64> = axis.nearest().into_iter().map(|pixel| pixel as i64).collect();
        l.int64s("pixels", &pixels)
    };
    let rows = pixels(l, &axes[0]);
    dims[2] = Dim::Size(axes[0].to);
    let value = l.step(Op::Gather { axis: 2 }, &[input, rows], dtype, dims);
    let columns = pixels(l, &axes[1]);
    l.emit(Op::Gather { axis: 3 }, &[value, columns], out)
}

/// Burn `grid_sample_2d` -> ONNX `GridSample`; operator set 20 renamed `bilinear` and `bicubic`.
pub(super) fn grid_sample(l: &mut Lowering, op: &GridSample2dOpIr) -> Lowered {
    let mode = match op.options.mode {
        Mode::Nearest => "nearest",
        Mode::Bilinear if l.opset() < 20 => "bilinear",
        Mode::Bilinear => "linear",
        Mode::Bicubic if l.opset() < 20 => "bicubic",
        Mode::Bicubic => "cubic",
        Mode::NearestExact | Mode::Lanczos3 => {
            return Err(Reason::Unsupported(format!("ONNX samples no grid by {:?}; use `Bilinear`", op.options.mode)));
        }
    };
    let padding = match op.options.padding_mode {
        Padding::Zeros => "zeros",
        Padding::Border => "border",
        Padding::Reflection => "reflection",
    };
    let inputs = [l.input(&op.tensor)?, l.input(&op.grid)?];
    l.emit(Op::GridSample { mode, padding, align_corners: op.options.align_corners }, &inputs, &op.out)
}
