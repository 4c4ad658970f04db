//! Batch normalisation in Burn's autodiff graph.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::activation::relu;
use burn::tensor::{Tensor, module};

use super::norm::{self, Layout, Saved};
use super::{Site, Tracked, USE_OUR_KERNELS, packed, tensor, values, whole};

/// A normalised batch with its statistics.
pub struct NormTrain<const D: usize> {
    /// `[batch, channels, ..]`, as the input.
    pub output: Tensor<D>,
    /// Mean of each channel, `[channels]`, without gradient.
    pub mean: Tensor<1>,
    /// Biased variance of each channel, `[channels]`, without gradient.
    pub variance: Tensor<1>,
}

/// Normalises each channel by the batch's own mean and biased variance, then scales and shifts it and, if `activated`,
/// applies a ReLU.
///
/// # Shapes
/// - `input`: `[batch, channels, ..]`
/// - `scale`, `shift`: `[channels]`
/// - returns: output as `input`, mean and variance `[channels]`
///
/// # Panics
/// If `scale` or `shift` does not have one value per channel.
pub fn batch_norm_train<const D: usize>(
    input: Tensor<D>,
    scale: Tensor<1>,
    shift: Tensor<1>,
    epsilon: f64,
    activated: bool,
) -> NormTrain<D> {
    let shape = input.dims();
    for (name, found) in [("scale", scale.dims()), ("shift", shift.dims())] {
        assert!(
            found == [shape[1]],
            "batch_norm_train: the {name} {found:?} does not have one value per channel of the input {shape:?}"
        );
    }
    let tracked = USE_OUR_KERNELS
        .then(|| Some((Site::tracked(&input)?, Site::tracked(&scale)?, Site::tracked(&shift)?)))
        .flatten();
    if let Some((input, scale, shift)) = tracked {
        let [output, mean, variance] = record(input, scale, shift, epsilon, activated);
        return NormTrain {
            output: Tensor::from_primitive::<Autodiff<Flex>>(output),
            mean: Tensor::from_primitive::<Autodiff<Flex>>(mean),
            variance: Tensor::from_primitive::<Autodiff<Flex>>(variance),
        };
    }
    let batch = module::batch_norm_train(input, scale, shift, epsilon);
    let output = if activated { relu(batch.output) } else { batch.output };
    NormTrain { output, mean: batch.mean, variance: batch.variance }
}

/// Normalises each channel by the given mean and variance, then scales and shifts it and, if `activated`, applies a
/// ReLU: in one pass and in the memory of `input` where no gradients are recorded and nothing else holds it.
///
/// # Shapes
/// - `input`: `[batch, channels, ..]`
/// - `scale`, `shift`, `mean`, `variance`: `[channels]`
/// - returns: as `input`
///
/// # Panics
/// If one of those does not have one value per channel.
pub fn batch_norm_given<const D: usize>(
    input: Tensor<D>,
    [scale, shift, mean, variance]: [Tensor<1>; 4],
    epsilon: f64,
    activated: bool,
) -> Tensor<D> {
    let shape = input.dims();
    for (name, given) in [("scale", &scale), ("shift", &shift), ("mean", &mean), ("variance", &variance)] {
        let found = given.dims();
        assert!(
            found == [shape[1]],
            "batch_norm_given: the {name} {found:?} does not have one value per channel of the input {shape:?}"
        );
    }
    let given = [&scale, &shift, &mean, &variance].map(Site::plain);
    match (USE_OUR_KERNELS.then(|| Site::of(&input)), given) {
        (Some(Site::Plain(maps)), [Some(scale), Some(shift), Some(mean), Some(variance)]) => {
            drop(input);
            let mut maps = whole(maps);
            let given = [scale, shift, mean, variance].map(packed);
            let layout = Layout { channels: shape[1], pixels: shape[2..].iter().product(), relu: activated };
            norm::apply(maps.storage_mut::<f32>(), given.each_ref().map(values), epsilon, layout);
            Tensor::from_primitive::<Flex>(maps)
        }
        _ => {
            let normed = module::batch_norm(input, scale, shift, mean, variance, epsilon);
            if activated { relu(normed) } else { normed }
        }
    }
}

#[derive(Debug)]
struct BatchNorm;

#[derive(Debug, Clone)]
struct State {
    input: FlexTensor,
    scale: FlexTensor,
    shift: FlexTensor,
    mean: FlexTensor,
    variance: FlexTensor,
    epsilon: f64,
    layout: Layout,
}

impl Backward<Flex, 3> for BatchNorm {
    type State = State;

    fn backward(self, ops: Ops<State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = packed(grads.consume::<Flex>(&ops.node));
        let state = ops.state;
        let saved = Saved {
            input: values(&state.input),
            scale: values(&state.scale),
            shift: values(&state.shift),
            mean: values(&state.mean),
            variance: values(&state.variance),
        };
        let made = norm::backward(&saved, values(&grad), state.epsilon, state.layout);
        let channels = [state.layout.channels];
        let shape = state.input.layout().shape().to_vec();
        let made = [tensor(made.input, shape), tensor(made.scale, channels), tensor(made.shift, channels)];
        for (node, grad) in ops.parents.into_iter().zip(made) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, grad);
            }
        }
    }
}

/// Records the node. Returns `[batch, channels, ..]` and twice `[channels]`: output, mean and variance.
fn record(input: Tracked, scale: Tracked, shift: Tracked, epsilon: f64, relu: bool) -> [Tracked; 3] {
    let nodes = [input.node(), scale.node(), shift.node()];
    let [input, scale, shift] = [input, scale, shift].map(|tracked| packed(tracked.into_primitive()));
    let shape = input.layout().shape().to_vec();
    let layout = Layout { channels: shape[1], pixels: shape[2..].iter().product(), relu };
    let normed = norm::forward(values(&input), values(&scale), values(&shift), epsilon, layout);
    let channels = [layout.channels];
    let (mean, variance) = (tensor(normed.mean, channels), tensor(normed.variance, channels));
    let output = tensor(normed.output, shape);
    let statistics = [mean.clone(), variance.clone()].map(Tracked::new);
    let output = match BatchNorm.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(State { input, scale, shift, mean, variance, epsilon, layout }, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    let [mean, variance] = statistics;
    [output, mean, variance]
}
