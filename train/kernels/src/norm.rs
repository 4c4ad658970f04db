//! Batch normalisation over a training batch, with an optional ReLU.
//!
//! A channel is processed as a whole, all its planes, so that the second and third pass read from the cache.

use macerator::{Scalar, Simd, Vector};
use rayon::prelude::*;

use super::fused::planes;
use super::lanes::{Change, First, Lanes, Map, Sum};
use super::loops::dispatch;

/// Sizes of `[batch, channels, pixels]`, and whether a ReLU follows.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Channels.
    pub channels: usize,
    /// Values per plane.
    pub pixels: usize,
    /// Whether negative outputs become 0.
    pub relu: bool,
}

/// Results of a forward pass.
pub struct Normed {
    /// Same shape as the input.
    pub output: Vec<f32>,
    /// One mean per channel.
    pub mean: Vec<f32>,
    /// One biased variance per channel.
    pub variance: Vec<f32>,
}

/// Gradients from a backward pass.
pub struct Grads {
    /// Same shape as the input.
    pub input: Vec<f32>,
    /// One value per channel.
    pub scale: Vec<f32>,
    /// One value per channel.
    pub shift: Vec<f32>,
}

/// Squared distance from the mean.
#[derive(Clone, Copy)]
struct Spread(f32);

impl Lanes for Spread {
    #[inline(always)]
    fn vector<S: Simd>(self, a: Vector<S, f32>, _: Vector<S, f32>) -> Vector<S, f32> {
        let centred = a - self.0.splat();
        centred * centred
    }
    #[inline(always)]
    fn scalar(self, a: f32, _: f32) -> f32 {
        (a - self.0) * (a - self.0)
    }
}

/// The layer on one channel: (x − mean) · factor + shift.
#[derive(Clone, Copy)]
struct Norm {
    mean: f32,
    factor: f32,
    shift: f32,
    relu: bool,
}

impl Norm {
    /// The gradient where the ReLU passed the value on. The value is recomputed by exactly the operations of the
    /// forward pass.
    #[inline(always)]
    fn masked<S: Simd>(self, x: Vector<S, f32>, grad: Vector<S, f32>) -> Vector<S, f32> {
        if !self.relu {
            return grad;
        }
        let value = (x - self.mean.splat()) * self.factor.splat() + self.shift.splat();
        value.gt(0.0.splat()).select(grad, 0.0.splat())
    }

    #[inline(always)]
    fn masked_scalar(self, x: f32, grad: f32) -> f32 {
        if !self.relu || (x - self.mean) * self.factor + self.shift > 0.0 { grad } else { 0.0 }
    }
}

impl Lanes for Norm {
    #[inline(always)]
    fn vector<S: Simd>(self, x: Vector<S, f32>, _: Vector<S, f32>) -> Vector<S, f32> {
        let value = (x - self.mean.splat()) * self.factor.splat() + self.shift.splat();
        if self.relu { value.max(0.0.splat()) } else { value }
    }
    #[inline(always)]
    fn scalar(self, x: f32, _: f32) -> f32 {
        let value = (x - self.mean) * self.factor + self.shift;
        if self.relu { value.max(0.0) } else { value }
    }
}

/// The gradient after the ReLU.
#[derive(Clone, Copy)]
struct Masked(Norm);

impl Lanes for Masked {
    #[inline(always)]
    fn vector<S: Simd>(self, x: Vector<S, f32>, grad: Vector<S, f32>) -> Vector<S, f32> {
        self.0.masked(x, grad)
    }
    #[inline(always)]
    fn scalar(self, x: f32, grad: f32) -> f32 {
        self.0.masked_scalar(x, grad)
    }
}

/// The gradient after the ReLU, times the centred input.
#[derive(Clone, Copy)]
struct Projected(Norm);

impl Lanes for Projected {
    #[inline(always)]
    fn vector<S: Simd>(self, x: Vector<S, f32>, grad: Vector<S, f32>) -> Vector<S, f32> {
        self.0.masked(x, grad) * (x - self.0.mean.splat())
    }
    #[inline(always)]
    fn scalar(self, x: f32, grad: f32) -> f32 {
        self.0.masked_scalar(x, grad) * (x - self.0.mean)
    }
}

/// factor · (gradient − mean gradient − centred input · slope).
#[derive(Clone, Copy)]
struct InputGrad {
    norm: Norm,
    mean_grad: f32,
    slope: f32,
}

impl Lanes for InputGrad {
    #[inline(always)]
    fn vector<S: Simd>(self, x: Vector<S, f32>, grad: Vector<S, f32>) -> Vector<S, f32> {
        let centred = x - self.norm.mean.splat();
        let grad = self.norm.masked(x, grad) - self.mean_grad.splat();
        (grad - centred * self.slope.splat()) * self.norm.factor.splat()
    }
    #[inline(always)]
    fn scalar(self, x: f32, grad: f32) -> f32 {
        let grad = self.norm.masked_scalar(x, grad) - self.mean_grad;
        (grad - (x - self.norm.mean) * self.slope) * self.norm.factor
    }
}

/// The planes of each channel.
fn by_channel(values: &mut [f32], layout: Layout) -> Vec<Vec<&mut [f32]>> {
    let mut channels: Vec<Vec<_>> = (0..layout.channels).map(|_| Vec::new()).collect();
    for (k, plane) in values.chunks_exact_mut(layout.pixels).enumerate() {
        channels[k % layout.channels].push(plane);
    }
    channels
}

/// Sum over a channel: planes in f32, the batch in f64.
fn total<F: Lanes>(function: F, planes: impl Iterator<Item = (usize, usize)>, a: &[f32], b: &[f32]) -> f64 {
    planes.map(|(from, to)| f64::from(dispatch(Sum(function, &a[from..to], &b[from..to])))).sum()
}

fn ranges(layout: Layout, channel: usize, batch: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..batch).map(move |sample| {
        let from = (sample * layout.channels + channel) * layout.pixels;
        (from, from + layout.pixels)
    })
}

fn inverse_std(variance: f32, epsilon: f64) -> f32 {
    (1.0 / (f64::from(variance) + epsilon).sqrt()) as f32
}

/// Forward pass. `input` is `[batch, channels, pixels]`; `scale` and `shift` have one value per channel.
pub fn forward(input: &[f32], scale: &[f32], shift: &[f32], epsilon: f64, layout: Layout) -> Normed {
    let batch = input.len() / (layout.channels * layout.pixels);
    let count = (batch * layout.pixels) as f64;
    let mut output = vec![0.0; input.len()];
    let statistics: Vec<(f32, f32)> = by_channel(&mut output, layout)
        .into_par_iter()
        .enumerate()
        .map(|(channel, planes)| {
            let ranges = || ranges(layout, channel, batch);
            let mean = (total(First, ranges(), input, input) / count) as f32;
            let variance = (total(Spread(mean), ranges(), input, input) / count) as f32;
            let factor = scale[channel] * inverse_std(variance, epsilon);
            let norm = Norm { mean, factor, shift: shift[channel], relu: layout.relu };
            for (plane, (from, to)) in planes.into_iter().zip(ranges()) {
                dispatch(Map(norm, &input[from..to], &input[from..to], plane));
            }
            (mean, variance)
        })
        .collect();
    let (mean, variance) = statistics.into_iter().unzip();
    Normed { output, mean, variance }
}

/// The layer with given statistics, in place. `values` are `[batch, channels, pixels]`; each of scale, shift, mean and
/// variance has one value per channel.
pub fn apply(values: &mut [f32], [scale, shift, mean, variance]: [&[f32]; 4], epsilon: f64, layout: Layout) {
    let norm = |channel: usize| {
        let factor = scale[channel] * inverse_std(variance[channel], epsilon);
        Norm { mean: mean[channel], factor, shift: shift[channel], relu: layout.relu }
    };
    let norms: Vec<Norm> = (0..layout.channels).map(norm).collect();
    if layout.pixels == 1 {
        for row in values.chunks_exact_mut(layout.channels) {
            row.iter_mut().zip(&norms).for_each(|(value, norm)| *value = norm.scalar(*value, 0.0));
        }
        return;
    }
    let planes = planes(layout.pixels);
    values.par_chunks_mut((planes * layout.pixels).max(1)).enumerate().for_each(|(share, part)| {
        for (k, plane) in part.chunks_exact_mut(layout.pixels.max(1)).enumerate() {
            dispatch(Change(norms[(share * planes + k) % layout.channels], plane));
        }
    });
}

/// Values of the forward pass that [`backward`] needs.
pub struct Saved<'a> {
    /// Input.
    pub input: &'a [f32],
    /// Scale.
    pub scale: &'a [f32],
    /// Shift.
    pub shift: &'a [f32],
    /// Mean.
    pub mean: &'a [f32],
    /// Biased variance.
    pub variance: &'a [f32],
}

/// Gradients from the output gradient.
pub fn backward(saved: &Saved<'_>, grad: &[f32], epsilon: f64, layout: Layout) -> Grads {
    let Saved { input, scale, shift, mean, variance } = *saved;
    let batch = input.len() / (layout.channels * layout.pixels);
    let count = (batch * layout.pixels) as f64;
    let mut input_grad = vec![0.0; input.len()];
    let sums: Vec<(f32, f32)> = by_channel(&mut input_grad, layout)
        .into_par_iter()
        .enumerate()
        .map(|(channel, planes)| {
            let ranges = || ranges(layout, channel, batch);
            let inverse = inverse_std(variance[channel], epsilon);
            let factor = scale[channel] * inverse;
            let norm = Norm { mean: mean[channel], factor, shift: shift[channel], relu: layout.relu };
            let sum = total(Masked(norm), ranges(), input, grad);
            let projected = total(Projected(norm), ranges(), input, grad);
            let slope = f64::from(inverse) * f64::from(inverse) * projected / count;
            let function = InputGrad { norm, mean_grad: (sum / count) as f32, slope: slope as f32 };
            for (plane, (from, to)) in planes.into_iter().zip(ranges()) {
                dispatch(Map(function, &input[from..to], &grad[from..to], plane));
            }
            ((projected * f64::from(inverse)) as f32, sum as f32)
        })
        .collect();
    let (scale, shift) = sums.into_iter().unzip();
    Grads { input: input_grad, scale, shift }
}
