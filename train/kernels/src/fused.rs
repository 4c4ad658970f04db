//! Operations between the convolutions of OSNet's blocks, each in one pass over memory.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn::tensor::module::adaptive_avg_pool2d;
use rayon::prelude::*;

use super::lanes::{AddRelu, First, Lanes, Map, Scaled, Sum, Times, WherePositive};
use super::loops::{WeightedSum, dispatch};
use super::{Site, Tracked, USE_OUR_KERNELS, packed, tensor, values, whole};

/// Values per task of a thread.
const SHARE: usize = 1 << 14;

/// Streams of an OSNet block.
pub const STREAMS: usize = 4;

/// The `inputs` if all are on the CPU with gradients and our kernels are on.
fn tracked<const N: usize, const D: usize>(inputs: [&Tensor<D>; N]) -> Option<[Tracked; N]> {
    if !*USE_OUR_KERNELS {
        return None;
    }
    let found: Option<Vec<Tracked>> = inputs.into_iter().map(Site::tracked).collect();
    found?.try_into().ok()
}

/// The `inputs`, contiguous, if all are on the CPU without gradients and our kernels are on.
fn plain<const N: usize, const D: usize>(inputs: [&Tensor<D>; N]) -> Option<[FlexTensor; N]> {
    if !*USE_OUR_KERNELS {
        return None;
    }
    let found: Option<Vec<FlexTensor>> = inputs.into_iter().map(|input| Site::plain(input).map(packed)).collect();
    found?.try_into().ok()
}

pub(super) fn shape(tensor: &FlexTensor) -> Vec<usize> {
    tensor.layout().shape().to_vec()
}

/// `function` of each pair of values.
pub(super) fn map<F: Lanes>(function: F, a: &[f32], b: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; a.len()];
    let parts = out.par_chunks_mut(SHARE).zip(a.par_chunks(SHARE)).zip(b.par_chunks(SHARE));
    parts.for_each(|((out, a), b)| dispatch(Map(function, a, b, out)));
    out
}

/// Planes of this many pixels per task.
pub(super) fn planes(pixels: usize) -> usize {
    (SHARE / pixels.max(1)).max(1)
}

/// `max(left + right, 0)`.
///
/// # Shapes
/// - `left`, `right`: `[batch, channels, height, width]`
/// - returns: the same
///
/// # Panics
/// If the shapes differ.
pub fn add_relu(left: Tensor<4>, right: Tensor<4>) -> Tensor<4> {
    let (a, b) = (left.dims(), right.dims());
    assert!(a == b, "add_relu: the left side {a:?} and the right side {b:?} must have one shape");
    let sum = |left: &FlexTensor, right: &FlexTensor| tensor(map(AddRelu, values(left), values(right)), shape(left));
    if let Some([left, right]) = plain([&left, &right]) {
        return Tensor::from_primitive::<Flex>(sum(&left, &right));
    }
    let Some([left, right]) = tracked([&left, &right]) else { return relu(left + right) };
    let nodes = [left.node(), right.node()];
    let [left, right] = [left, right].map(|side| packed(side.into_primitive()));
    let output = sum(&left, &right);
    let output = match Residual.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(output.clone(), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

#[derive(Debug)]
struct Residual;

impl Backward<Flex, 2> for Residual {
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = packed(grads.consume::<Flex>(&ops.node));
        let grad = tensor(map(WherePositive, values(&ops.state), values(&grad)), shape(&grad));
        for node in ops.parents.into_iter().flatten() {
            grads.register::<Flex>(node.id, grad.clone());
        }
    }
}

/// Adds a value to each plane of a channel, in the memory of `maps` if nothing else holds it.
///
/// # Shapes
/// - `maps`: `[batch, channels, height, width]`
/// - `bias`: `[channels]`
/// - returns: as `maps`
pub(super) fn add_bias(maps: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    let [channels] = bias.dims();
    match (Site::of(&maps), Site::of(&bias)) {
        (Site::Tracked(tracked), Site::Tracked(bias)) => {
            drop(maps);
            let nodes = [tracked.node(), bias.node()];
            let maps = biased(tracked.into_primitive(), &packed(bias.into_primitive()));
            let maps = match Bias.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish((), maps),
                OpsKind::UnTracked(prep) => prep.finish(maps),
            };
            Tensor::from_primitive::<Autodiff<Flex>>(maps)
        }
        (Site::Plain(primitive), Site::Plain(bias)) => {
            drop(maps);
            Tensor::from_primitive::<Flex>(biased(primitive, &packed(bias)))
        }
        _ => maps + bias.reshape([1, channels, 1, 1]),
    }
}

fn biased(maps: FlexTensor, bias: &FlexTensor) -> FlexTensor {
    let mut maps = whole(maps);
    let [_, channels, height, width] = maps.layout().shape().dims();
    let (pixels, bias) = (height * width, values(bias));
    maps.storage_mut::<f32>().par_chunks_mut(planes(pixels) * pixels).enumerate().for_each(|(share, part)| {
        for (k, plane) in part.chunks_exact_mut(pixels).enumerate() {
            let value = bias[(share * planes(pixels) + k) % channels];
            plane.iter_mut().for_each(|pixel| *pixel += value);
        }
    });
    maps
}

#[derive(Debug)]
struct Bias;

impl Backward<Flex, 2> for Bias {
    type State = ();

    fn backward(self, ops: Ops<(), 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = packed(grads.consume::<Flex>(&ops.node));
        let [to_maps, to_bias] = ops.parents;
        if let Some(node) = to_bias {
            let [_, channels, height, width] = grad.layout().shape().dims();
            let (pixels, grad) = (height * width, values(&grad));
            let of_channel = |channel: usize| {
                let planes = grad.chunks_exact(pixels).skip(channel).step_by(channels);
                planes.map(|plane| f64::from(dispatch(Sum(First, plane, plane)))).sum::<f64>() as f32
            };
            let made: Vec<f32> = (0..channels).into_par_iter().map(of_channel).collect();
            grads.register::<Flex>(node.id, tensor(made, [channels]));
        }
        if let Some(node) = to_maps {
            grads.register::<Flex>(node.id, grad);
        }
    }
}

/// Mean of each plane.
///
/// # Shapes
/// - `input`: `[batch, channels, height, width]`
/// - returns: `[batch, channels, 1, 1]`
pub fn global_avg_pool(input: Tensor<4>) -> Tensor<4> {
    if let Some([input]) = plain([&input]) {
        return Tensor::from_primitive::<Flex>(means(&input));
    }
    let Some([input]) = tracked([&input]) else { return adaptive_avg_pool2d(input, [1, 1]) };
    let node = input.node();
    let input = packed(input.into_primitive());
    let [_, _, height, width] = input.layout().shape().dims();
    let output = means(&input);
    let output = match Pool.prepare::<NoCheckpointing>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish([height, width], output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

fn means(input: &FlexTensor) -> FlexTensor {
    let [batch, channels, height, width] = input.layout().shape().dims();
    let pixels = height * width;
    let mut means = vec![0.0; batch * channels];
    let parts = means.par_chunks_mut(planes(pixels)).zip(values(input).par_chunks(planes(pixels) * pixels));
    parts.for_each(|(means, input)| {
        for (mean, plane) in means.iter_mut().zip(input.chunks_exact(pixels)) {
            *mean = dispatch(Sum(First, plane, plane)) / pixels as f32;
        }
    });
    tensor(means, [batch, channels, 1, 1])
}

#[derive(Debug)]
struct Pool;

impl Backward<Flex, 1> for Pool {
    type State = [usize; 2];

    fn backward(self, ops: Ops<[usize; 2], 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = packed(grads.consume::<Flex>(&ops.node));
        let [Some(node)] = ops.parents else { return };
        let [height, width] = ops.state;
        let pixels = height * width;
        let [batch, channels, ..] = grad.layout().shape().dims::<4>();
        let mut spread = vec![0.0; batch * channels * pixels];
        let parts = spread.par_chunks_mut(planes(pixels) * pixels).zip(values(&grad).par_chunks(planes(pixels)));
        parts.for_each(|(spread, grads)| {
            for (plane, grad) in spread.chunks_exact_mut(pixels).zip(grads) {
                plane.fill(grad / pixels as f32);
            }
        });
        grads.register::<Flex>(node.id, tensor(spread, [batch, channels, height, width]));
    }
}

/// Sum over the streams of `stream · gate`.
///
/// # Shapes
/// - `streams`: each `[batch, channels, height, width]`
/// - `gates`: each `[batch, channels, 1, 1]`
/// - returns: `[batch, channels, height, width]`
///
/// # Panics
/// If a stream has another shape than the first, or a gate does not have one value per sample and channel.
pub fn gated_sum(streams: [Tensor<4>; STREAMS], gates: [Tensor<4>; STREAMS]) -> Tensor<4> {
    let shape = streams[0].dims();
    let [batch, channels, ..] = shape;
    for (stream, gate) in streams.iter().zip(&gates) {
        let (stream, gate) = (stream.dims(), gate.dims());
        assert!(
            stream == shape && gate == [batch, channels, 1, 1],
            "gated_sum: a stream {stream:?} with the gate {gate:?}, where the first stream is {shape:?}; a gate is \
             [batch, channels, 1, 1]"
        );
    }
    if let (Some(streams), Some(gates)) = (plain(streams.each_ref()), plain(gates.each_ref())) {
        return Tensor::from_primitive::<Flex>(weighted(&streams, &gates));
    }
    let (Some(own), Some(own_gates)) = (tracked(streams.each_ref()), tracked(gates.each_ref())) else {
        let gated = streams.into_iter().zip(gates).map(|(stream, gate)| stream * gate);
        return gated.reduce(|sum, stream| sum + stream).expect("there are streams");
    };
    let [a, b, c, d] = own.each_ref().map(|tensor| tensor.node());
    let [e, f, g, h] = own_gates.each_ref().map(|tensor| tensor.node());
    let primitive = |tracked: Tracked| packed(tracked.into_primitive());
    let (streams, gates) = (own.map(primitive), own_gates.map(primitive));
    let output = weighted(&streams, &gates);
    let output = match Gated.prepare::<NoCheckpointing>([a, b, c, d, e, f, g, h]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish((streams, gates), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Tensor::from_primitive::<Autodiff<Flex>>(output)
}

fn weighted(streams: &[FlexTensor; STREAMS], gates: &[FlexTensor; STREAMS]) -> FlexTensor {
    let dims = shape(&streams[0]);
    let pixels = dims[2] * dims[3];
    let (streams, gates) = (streams.each_ref().map(values), gates.each_ref().map(values));
    let mut output = vec![0.0; streams[0].len()];
    output.par_chunks_mut(planes(pixels) * pixels).enumerate().for_each(|(share, output)| {
        for (k, out) in output.chunks_exact_mut(pixels).enumerate() {
            let plane = share * planes(pixels) + k;
            let taps = streams.map(|stream| &stream[plane * pixels..][..pixels]);
            dispatch(WeightedSum { taps, weights: gates.map(|gate| gate[plane]), out });
        }
    });
    tensor(output, dims)
}

#[derive(Debug)]
struct Gated;

impl Backward<Flex, { 2 * STREAMS }> for Gated {
    type State = ([FlexTensor; STREAMS], [FlexTensor; STREAMS]);

    fn backward(self, ops: Ops<Self::State, { 2 * STREAMS }>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = packed(grads.consume::<Flex>(&ops.node));
        let (streams, gates) = &ops.state;
        let (dims, gate_dims) = (shape(&grad), shape(&gates[0]));
        let pixels = dims[2] * dims[3];
        let mut made = Vec::with_capacity(2 * STREAMS);
        let mut made_gates = Vec::with_capacity(STREAMS);
        for (stream, gate) in streams.iter().zip(gates) {
            let (stream, gate, grad) = (values(stream), values(gate), values(&grad));
            let (mut stream_grad, mut gate_grad) = (vec![0.0; stream.len()], vec![0.0; gate.len()]);
            let parts =
                stream_grad.par_chunks_mut(planes(pixels) * pixels).zip(gate_grad.par_chunks_mut(planes(pixels)));
            parts.enumerate().for_each(|(share, (stream_grad, gate_grad))| {
                for (k, (out, gate_grad)) in stream_grad.chunks_exact_mut(pixels).zip(gate_grad).enumerate() {
                    let plane = share * planes(pixels) + k;
                    let at = plane * pixels..(plane + 1) * pixels;
                    let grad = &grad[at.clone()];
                    *gate_grad = dispatch(Sum(Times, grad, &stream[at]));
                    dispatch(Map(Scaled(gate[plane]), grad, grad, out));
                }
            });
            made.push(tensor(stream_grad, &dims));
            made_gates.push(tensor(gate_grad, &gate_dims));
        }
        made.append(&mut made_gates);
        for (node, grad) in ops.parents.into_iter().zip(made) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, grad);
            }
        }
    }
}
