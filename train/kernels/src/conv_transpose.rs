//! Transposed convolutions as matrix products: the contributions of all pixels at once, which are then added where they
//! belong. A transposed convolution is the input gradient of a convolution; its own gradients are that convolution's
//! forward pass and weight gradient.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::nn::conv::ConvTranspose2d;
use burn::tensor::Tensor;

use super::dense::{self, Geometry};
use super::fused::add_bias;
use super::{Site, Tracked, USE_OUR_KERNELS, packed, tensor, values};

/// The convolution from output to input whose transpose `conv` is. `None` for layers that only Burn supports: groups,
/// dilation, extra rows at the far side, an output smaller than its padding.
fn geometry(conv: &ConvTranspose2d, [_, input, height, width]: [usize; 4]) -> Option<Geometry> {
    let [_, output, ..] = conv.weight.dims();
    let size = [height, width];
    let after = |k: usize| ((size[k] - 1) * conv.stride[k] + conv.kernel_size[k]).checked_sub(2 * conv.padding[k]);
    let plain = conv.groups == 1 && conv.dilation == [1, 1] && conv.padding_out == [0, 0] && height * width > 0;
    let after = plain.then(|| Some([after(0)?, after(1)?])).flatten()?;
    (after.iter().all(|side| *side > 0)).then_some(Geometry {
        input: output,
        output: input,
        size: after,
        kernel: conv.kernel_size,
        stride: conv.stride,
        padding: conv.padding,
    })
}

/// The output of a transposed convolution layer.
///
/// # Shapes
/// - `input`: `[batch, input channels, height, width]`
/// - returns: `[batch, output channels, output height, output width]`
///
/// # Panics
/// If the number of input channels is not the layer's.
pub fn conv_transpose2d(conv: &ConvTranspose2d, input: Tensor<4>) -> Tensor<4> {
    let (weight, found) = (conv.weight.dims(), input.dims());
    assert!(
        found[1] == weight[0],
        "conv_transpose2d: the weight {weight:?} takes {} input channels, the input {found:?} has {}",
        weight[0],
        found[1]
    );
    let Some(geometry) = USE_OUR_KERNELS.then(|| geometry(conv, input.dims())).flatten() else {
        return conv.forward(input);
    };
    own(conv, geometry, &input).unwrap_or_else(|| conv.forward(input))
}

fn own(conv: &ConvTranspose2d, geometry: Geometry, input: &Tensor<4>) -> Option<Tensor<4>> {
    let weight = conv.weight.val();
    let output = match Site::of(input) {
        Site::Tracked(input) => {
            Tensor::from_primitive::<Autodiff<Flex>>(record(geometry, input, Site::tracked(&weight)?))
        }
        Site::Plain(input) => Tensor::from_primitive::<Flex>(forward(geometry, &input, &Site::plain(&weight)?)),
        Site::Other => return None,
    };
    Some(match &conv.bias {
        Some(bias) => add_bias(output, bias.val()),
        None => output,
    })
}

fn forward(geometry: Geometry, input: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
    let (input, weight) = (packed(input.clone()), packed(weight.clone()));
    let batch = input.layout().shape()[0];
    let [height, width] = geometry.size;
    tensor(dense::transposed(values(&input), values(&weight), geometry), [batch, geometry.input, height, width])
}

#[derive(Debug)]
struct Transposed;

impl Backward<Flex, 2> for Transposed {
    type State = (Geometry, FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [to_input, to_weight] = ops.parents;
        let grad = packed(grads.consume::<Flex>(&ops.node));
        let (geometry, input, weight) = ops.state;
        let (input, weight) = (packed(input), packed(weight));
        let shape = |of: &FlexTensor| of.layout().shape().to_vec();
        if let Some(node) = to_input {
            let made = dense::forward(values(&grad), values(&weight), geometry);
            grads.register::<Flex>(node.id, tensor(made, shape(&input)));
        }
        if let Some(node) = to_weight {
            let made = dense::weight_grad(values(&grad), values(&input), geometry);
            grads.register::<Flex>(node.id, tensor(made, shape(&weight)));
        }
    }
}

fn record(geometry: Geometry, input: Tracked, weight: Tracked) -> Tracked {
    match Transposed.prepare::<NoCheckpointing>([input.node(), weight.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let output = forward(geometry, input.primitive(), weight.primitive());
            prep.finish((geometry, input.into_primitive(), weight.into_primitive()), output)
        }
        OpsKind::UnTracked(prep) => prep.finish(forward(geometry, input.primitive(), weight.primitive())),
    }
}
