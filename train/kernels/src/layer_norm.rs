//! Layer normalisation: forward and backward pass, each in one walk over the rows.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::nn::LayerNorm;
use burn::tensor::Tensor;
use macerator::{ReduceAdd, Scalar, Simd, Vector, WithSimd};
use rayon::prelude::*;

use super::fused::shape;
use super::loops::{dispatch, load, store};
use super::{Site, Tracked, USE_OUR_KERNELS, packed, tensor, values};

/// Rows per task. The sums of gradients over rows are made in these pieces, so they do not depend on threads.
const ROWS: usize = 128;

/// The output of a layer: each row normalised by its own mean and biased variance, then scaled and shifted.
///
/// # Shapes
/// - `input`: `[.., width]`
/// - returns: the same
///
/// `epsilon` is that of the layer, which Burn does not show.
///
/// # Panics
/// If the rows do not have the layer's width.
pub fn layer_norm<const D: usize>(norm: &LayerNorm, epsilon: f64, input: Tensor<D>) -> Tensor<D> {
    let (found, [width]) = (input.dims(), norm.gamma.dims());
    assert!(found[D - 1] == width, "layer_norm: a layer of {width} values, rows of {} in {found:?}", found[D - 1]);
    let own = if *USE_OUR_KERNELS && width > 0 { own(norm, epsilon, &input) } else { None };
    own.unwrap_or_else(|| norm.forward(input))
}

fn own<const D: usize>(norm: &LayerNorm, epsilon: f64, input: &Tensor<D>) -> Option<Tensor<D>> {
    let (scale, shift) = (norm.gamma.val(), norm.beta.as_ref()?.val());
    match Site::of(input) {
        Site::Tracked(input) => {
            let output = record(input, Site::tracked(&scale)?, Site::tracked(&shift)?, epsilon);
            Some(Tensor::from_primitive::<Autodiff<Flex>>(output))
        }
        Site::Plain(input) => {
            let [input, scale, shift] = [input, Site::plain(&scale)?, Site::plain(&shift)?].map(packed);
            let (output, _) = forward(values(&input), values(&scale), values(&shift), epsilon);
            Some(Tensor::from_primitive::<Flex>(tensor(output, shape(&input))))
        }
        Site::Other => None,
    }
}

/// Mean and inverse standard deviation of a row.
type Statistics = (f32, f32);

#[derive(Debug, Clone)]
struct State {
    input: FlexTensor,
    scale: FlexTensor,
    statistics: Vec<Statistics>,
}

#[derive(Debug)]
struct LayerNormOp;

impl Backward<Flex, 3> for LayerNormOp {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = packed(grads.consume::<Flex>(&ops.node));
        let State { input, scale, statistics } = ops.state;
        let width = values(&scale).len();
        let made = backward(values(&input), values(&scale), &statistics, values(&grad));
        let made = [tensor(made.input, shape(&input)), tensor(made.scale, [width]), tensor(made.shift, [width])];
        for (node, grad) in ops.parents.into_iter().zip(made) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, grad);
            }
        }
    }
}

fn record(input: Tracked, scale: Tracked, shift: Tracked, epsilon: f64) -> Tracked {
    let nodes = [input.node(), scale.node(), shift.node()];
    let [input, scale, shift] = [input, scale, shift].map(|tracked| packed(tracked.into_primitive()));
    let (output, statistics) = forward(values(&input), values(&scale), values(&shift), epsilon);
    let output = tensor(output, shape(&input));
    match LayerNormOp.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(State { input, scale, statistics }, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

/// `input` is `[rows, width]`, `scale` and `shift` are `[width]`.
fn forward(input: &[f32], scale: &[f32], shift: &[f32], epsilon: f64) -> (Vec<f32>, Vec<Statistics>) {
    let width = scale.len();
    let mut output = vec![0.0; input.len()];
    let mut statistics = vec![(0.0, 0.0); input.len() / width];
    let parts = output.par_chunks_mut(ROWS * width).zip(statistics.par_chunks_mut(ROWS));
    parts.zip(input.par_chunks(ROWS * width)).for_each(|((output, statistics), input)| {
        dispatch(Forward { input, scale, shift, epsilon, output, statistics });
    });
    (output, statistics)
}

struct Grads {
    input: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

fn backward(input: &[f32], scale: &[f32], statistics: &[Statistics], grad: &[f32]) -> Grads {
    let width = scale.len();
    let mut made = vec![0.0; input.len()];
    let parts = made.par_chunks_mut(ROWS * width).zip(input.par_chunks(ROWS * width));
    let parts = parts.zip(grad.par_chunks(ROWS * width)).zip(statistics.par_chunks(ROWS));
    let sums: Vec<[Vec<f32>; 2]> = parts
        .map(|(((made, input), grad), statistics)| {
            let mut sums = [vec![0.0; width], vec![0.0; width]];
            dispatch(BackwardRows { input, scale, statistics, grad, made, sums: &mut sums });
            sums
        })
        .collect();
    let total = |which: usize| {
        let mut total = vec![0.0_f64; width];
        for sums in &sums {
            total.iter_mut().zip(&sums[which]).for_each(|(total, sum)| *total += f64::from(*sum));
        }
        total.into_iter().map(|sum| sum as f32).collect()
    };
    Grads { input: made, scale: total(0), shift: total(1) }
}

/// `Σ f(at)` over the positions of a row, by vectors and then single values.
#[inline(always)]
fn sum<S: Simd>(width: usize, vector: impl Fn(usize) -> Vector<S, f32>, single: impl Fn(usize) -> f32) -> f32 {
    let whole = width / S::lanes32() * S::lanes32();
    let mut sum = 0.0.splat::<S>();
    for at in (0..whole).step_by(S::lanes32()) {
        sum += vector(at);
    }
    f32::reduce_add(sum) + (whole..width).map(single).sum::<f32>()
}

struct Forward<'a> {
    input: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    epsilon: f64,
    output: &'a mut [f32],
    statistics: &'a mut [Statistics],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { input, scale, shift, epsilon, output, statistics } = self;
        let (width, lanes) = (scale.len(), S::lanes32());
        let rows = input.chunks_exact(width).zip(output.chunks_exact_mut(width)).zip(statistics);
        for ((row, output), statistics) in rows {
            let mean = sum::<S>(width, |at| load(&row[at..]), |at| row[at]) / width as f32;
            let spread = sum::<S>(
                width,
                |at| {
                    let centred = load::<S>(&row[at..]) - mean.splat();
                    centred * centred
                },
                |at| (row[at] - mean) * (row[at] - mean),
            );
            let factor = (1.0 / (f64::from(spread / width as f32) + epsilon).sqrt()) as f32;
            *statistics = (mean, factor);
            let whole = width / lanes * lanes;
            for at in (0..whole).step_by(lanes) {
                let normed = (load::<S>(&row[at..]) - mean.splat()) * factor.splat();
                store(normed * load(&scale[at..]) + load(&shift[at..]), &mut output[at..]);
            }
            for at in whole..width {
                output[at] = (row[at] - mean) * factor * scale[at] + shift[at];
            }
        }
    }
}

/// With `x̂` the normalised row and `g` the gradient times the scale, the gradient of the input is
/// `(g − mean(g) − x̂ mean(g x̂)) / std`; `sums` collect `grad x̂` and `grad`.
struct BackwardRows<'a> {
    input: &'a [f32],
    scale: &'a [f32],
    statistics: &'a [Statistics],
    grad: &'a [f32],
    made: &'a mut [f32],
    sums: &'a mut [Vec<f32>; 2],
}

impl WithSimd for BackwardRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self { input, scale, statistics, grad, made, sums: [of_scale, of_shift] } = self;
        let (width, lanes) = (scale.len(), S::lanes32());
        let whole = width / lanes * lanes;
        let rows = input.chunks_exact(width).zip(grad.chunks_exact(width)).zip(made.chunks_exact_mut(width));
        for (((row, grad), made), &(mean, factor)) in rows.zip(statistics) {
            let normed = |at: usize| (load::<S>(&row[at..]) - mean.splat()) * factor.splat();
            let normed_one = |at: usize| (row[at] - mean) * factor;
            let scaled = |at: usize| load::<S>(&grad[at..]) * load(&scale[at..]);
            let scaled_one = |at: usize| grad[at] * scale[at];
            let mean_grad = sum::<S>(width, scaled, scaled_one) / width as f32;
            let along = sum::<S>(width, |at| scaled(at) * normed(at), |at| scaled_one(at) * normed_one(at));
            let along = along / width as f32;
            for at in (0..whole).step_by(lanes) {
                let (normed, gradient) = (normed(at), load::<S>(&grad[at..]));
                let input = scaled(at) - mean_grad.splat() - normed * along.splat();
                store(input * factor.splat(), &mut made[at..]);
                store(load::<S>(&of_scale[at..]) + gradient * normed, &mut of_scale[at..]);
                store(load::<S>(&of_shift[at..]) + gradient, &mut of_shift[at..]);
            }
            for at in whole..width {
                made[at] = (scaled_one(at) - mean_grad - normed_one(at) * along) * factor;
                of_scale[at] += grad[at] * normed_one(at);
                of_shift[at] += grad[at];
            }
        }
    }
}
