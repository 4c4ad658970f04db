//! Resampling of pictures: interpolation, and sampling at given coordinates.

use burn::backend::ir::{
    GridSample2dOpIr, GridSamplePaddingModeIr as Padding, InterpolateModeIr as Mode, InterpolateOpIr, TensorIr,
};
use burn::tensor::DType as BurnType;
use graph::{Coordinates, DType, Dim, Formula, Op, Plain, ResizeMode, ValueId};

use super::builder::{Lowered, Lowering, Reason, onnx_type};
use super::weighted::{Weights, weighted};

/// Burn `interpolate` -> ONNX `Resize` with sizes, or with factors where sizes would have to be computed only because
/// of the batch (the attribute `axes` would avoid that too, but not every runtime reads it). Burn's `Nearest` rounds
/// `output index · (input size / output size)` down in f64. Where runtimes, which compute in f32, may round to a
/// neighbour, it becomes one `Gather` per axis. `NearestExact` uses pixel centres. `Lanczos3` is one matrix product per
/// axis.
pub(super) fn interpolate(l: &mut Lowering, op: &InterpolateOpIr) -> Lowered {
    let align = op.options.align_corners;
    let corners = if align { Coordinates::AlignCorners } else { Coordinates::HalfPixel };
    let input = l.input(&op.x)?;
    let (from, to) = (l.dims(&op.x), l.dims(&op.out));
    let axes: Option<Vec<Resampling>> = from
        .iter()
        .zip(&to)
        .skip(2)
        .map(|(from, to)| Some(Resampling { from: from.size()?, to: to.size()? }))
        .collect();
    let known = to.iter().all(|dim| dim.size().is_some());
    let scales = axes.as_ref().filter(|_| !known).and_then(|axes| axes.iter().map(Resampling::scale).collect());
    let (mode, coordinates) = match op.options.mode {
        Mode::Nearest => {
            if !from.iter().zip(&to).skip(2).all(|(from, to)| rounds_alike(from, to)) {
                return nearest(l, input, from, &to, &op.out);
            }
            (ResizeMode::NearestFloor, Coordinates::Asymmetric)
        }
        Mode::NearestExact => (ResizeMode::NearestRound, Coordinates::HalfPixel),
        Mode::Bilinear => (ResizeMode::Linear, corners),
        Mode::Bicubic => (ResizeMode::Cubic, corners),
        Mode::Lanczos3 => {
            let axes = axes.ok_or_else(|| Reason::Baked("Lanczos interpolation needs fixed axes".into()))?;
            let weights: Vec<_> = axes.iter().map(|axis| Weights::Known(axis.lanczos(align))).collect();
            return weighted(l, input, &op.x, &weights, &op.out);
        }
    };
    let factors = match scales {
        Some::<Vec<f64>>(spatial) => {
            let all = [vec![1.0; from.len() - spatial.len()], spatial].concat();
            Some(l.floats("scales", BurnType::F32, [all.len()], all)?)
        }
        None => None,
    };
    let sizes = if factors.is_some() { None } else { Some(l.shape("sizes", &to)?) };
    l.emit(Op::Resize { mode, coordinates }, &[input], &op.out)?;
    // `Resize` has four inputs: the second stays empty, and one of the last two.
    match factors {
        Some(_) => l.more_inputs([None, factors]),
        None => l.more_inputs([None, None, sizes]),
    }
    Ok(())
}

/// Whether ONNX Runtime picks the same pixels along an axis as Burn, at every size that the axis may have.
fn rounds_alike(from: &Dim, to: &Dim) -> bool {
    match (from.size(), to.size()) {
        (Some(from), Some(to)) => Resampling { from, to }.rounds_alike(),
        _ => factor(from, to).is_some_and(whole_factor_rounds_alike),
    }
}

/// Largest integer factor between dynamic sizes that is tried.
const LARGEST_FACTOR: i64 = 64;

/// The integer factor between two dynamic sizes.
fn factor(from: &Dim, to: &Dim) -> Option<i64> {
    let (from, to) = (from.formula()?, to.formula()?);
    (1..=LARGEST_FACTOR).find(|&factor| from.times(&Formula::constant(factor)).as_ref() == Some(&to))
}

/// Whether f64 rounds multiples of `1 / factor` as exact arithmetic does, which ONNX Runtime's division by an integer
/// amounts to: with 49, Burn picks pixel 0 for 49 · (1 / 49). The error is relative and shows first at powers of two,
/// so the first multiple decides for all.
fn whole_factor_rounds_alike(factor: i64) -> bool {
    let factor = factor as f64;
    factor * (1.0 / factor) >= 1.0
}

/// Sizes of one axis before and after.
struct Resampling {
    from: usize,
    to: usize,
}

impl Resampling {
    /// The input pixel that Burn picks for each output pixel, in f64.
    fn nearest(&self) -> Vec<usize> {
        let ratio = self.from as f64 / self.to as f64;
        (0..self.to).map(|at| ((at as f64 * ratio) as usize).min(self.from - 1)).collect()
    }

    /// Whether f32 and the inverse ratio, as ONNX Runtime computes, pick the same pixels.
    fn rounds_alike(&self) -> bool {
        let scale = self.to as f32 / self.from as f32;
        self.nearest().into_iter().enumerate().all(|(at, pixel)| (at as f32 / scale) as usize == pixel)
    }

    /// The factor between the sizes, if runtimes compute the new size from it exactly, both in f32 and in f64.
    fn scale(&self) -> Option<f64> {
        let scale = self.to as f32 / self.from as f32;
        let found = [(scale * self.from as f32) as usize, (f64::from(scale) * self.from as f64) as usize];
        (found == [self.to; 2]).then_some(scale.into())
    }

    /// Burn's Lanczos weights with three lobes, one row per output pixel. Pixels outside the picture are left out and
    /// the rest is scaled to sum 1.
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

/// One `Gather` per axis of the pixels that Burn picks.
fn nearest(l: &mut Lowering, input: ValueId, mut dims: Vec<Dim>, to: &[Dim], out: &TensorIr) -> Lowered {
    let dtype = onnx_type(out.dtype)?;
    let mut pixels = vec![];
    for (from, to) in dims.iter().zip(to).skip(2) {
        pixels.push(self::pixels(l, from, to)?);
    }
    dims[2] = to[2].clone();
    let value = l.intermediate(Op::Gather { axis: 2 }, &[input, pixels[0]], dtype, dims);
    l.emit(Op::Gather { axis: 3 }, &[value, pixels[1]], out)
}

/// The input pixel that Burn picks for each output pixel: a constant, or computed in f64 as Burn does.
fn pixels(l: &mut Lowering, from: &Dim, to: &Dim) -> Result<ValueId, Reason> {
    if let (Some(from), Some(to)) = (from.size(), to.size()) {
        let pixels: Vec<i64> = Resampling { from, to }.nearest().into_iter().map(|pixel| pixel as i64).collect();
        return Ok(l.int64s("pixels", &pixels));
    }
    let (old, new) = (l.size(from)?, l.size(to)?);
    let [old_float, new_float] = [old, new].map(|size| l.cast(size, DType::Double));
    let ratio = l.intermediate_like(Plain::Div, &[old_float, new_float]);
    let indices = l.indices(to)?;
    let indices = l.cast(indices, DType::Double);
    let places = l.intermediate_like(Plain::Mul, &[indices, ratio]);
    let places = l.intermediate_like(Plain::Floor, &[places]);
    let places = l.cast(places, DType::Int64);
    let one = l.int64s("one", &[1]);
    let last = l.intermediate_like(Plain::Sub, &[old, one]);
    Ok(l.intermediate_like(Plain::Min, &[places, last]))
}

/// Burn `grid_sample_2d` -> ONNX `GridSample`. Operator set 20 renamed `bilinear` and `bicubic`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_factors_round_as_exact_arithmetic_does_or_are_not_used() {
        let wrong: Vec<i64> = (1..=LARGEST_FACTOR).filter(|&factor| !whole_factor_rounds_alike(factor)).collect();
        assert_eq!(wrong, [49]);
        for factor in (1..=LARGEST_FACTOR as usize).filter(|&factor| whole_factor_rounds_alike(factor as i64)) {
            for from in (1..100).chain([127, 128, 129, 255, 256, 257, 511, 513]) {
                let pixels = Resampling { from, to: from * factor }.nearest();
                assert!(pixels.iter().enumerate().all(|(at, pixel)| at / factor == *pixel), "{from} times {factor}");
            }
        }
        let height = Formula::symbol("height");
        let doubled = height.times(&Formula::constant(2)).unwrap();
        assert_eq!(factor(&height.clone().into(), &doubled.clone().into()), Some(2));
        assert_eq!(factor(&doubled.into(), &height.into()), None);
    }

    #[test]
    fn factors_give_the_size_back_or_are_not_used() {
        let scale = |from, to| Resampling { from, to }.scale();
        assert_eq!([scale(3, 6), scale(6, 9), scale(8, 2)], [Some(2.0), Some(1.5), Some(0.25)]);
        // Rounded up in f32 and in f64.
        assert_eq!(scale(9, 12), Some(f64::from(4.0f32 / 3.0)));
        // Rounded down: 6.9999998 in f64. In f32 only 29 to 1 differs.
        assert_eq!([scale(3, 5), scale(3, 7), scale(7, 31)], [None; 3]);
    }
}
