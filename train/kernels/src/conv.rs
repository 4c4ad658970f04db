//! Convolutions: the choice of loops, and their node in Burn's autodiff graph.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::nn::PaddingConfig2d;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use super::dense::{self, Geometry};
use super::depthwise::{self, Plane};
use super::fused::add_bias;
use super::{Site, Tracked, USE_OUR_KERNELS, packed, tensor, values};

/// The loops for a convolution.
#[derive(Debug, Clone, Copy)]
enum Method {
    /// Each channel alone.
    Depthwise(Plane),
    /// Matrix products of patches.
    Dense(Geometry),
    /// A 1×1 convolution of a single pixel: a product of two matrices.
    Single(Geometry),
}

impl Method {
    /// `None` for convolutions that only Burn supports: other groups, dilation, padding that differs by side.
    fn of(conv: &Conv2d, [_, input, height, width]: [usize; 4]) -> Option<Self> {
        let padding = match conv.padding {
            PaddingConfig2d::Valid => [0, 0],
            PaddingConfig2d::Explicit(top, left, bottom, right) if top == bottom && left == right => [top, left],
            _ => return None,
        };
        let [output, ..] = conv.weight.dims();
        let geometry =
            Geometry { input, output, size: [height, width], kernel: conv.kernel_size, stride: conv.stride, padding };
        let fits = (0..2).all(|k| geometry.size[k] + 2 * padding[k] >= geometry.kernel[k]);
        if conv.dilation != [1, 1] || !fits {
            return None;
        }
        match conv.groups {
            1 if [height, width] == [1, 1] && conv.kernel_size == [1, 1] && padding == [0, 0] => {
                Some(Self::Single(geometry))
            }
            1 => Some(Self::Dense(geometry)),
            groups if groups == input && groups == output => {
                let ([kernel, _], [stride, _]) = (conv.kernel_size, conv.stride);
                let square = conv.kernel_size == [kernel; 2] && conv.stride == [stride; 2];
                (square && padding == [kernel / 2; 2])
                    .then(|| Plane::new([height, width], kernel, stride))?
                    .map(Self::Depthwise)
            }
            _ => None,
        }
    }

    fn forward(self, input: &FlexTensor, weight: &FlexTensor) -> FlexTensor {
        let [batch, output] = [input.layout().shape()[0], weight.layout().shape()[0]];
        let (input, weight) = (packed(input.clone()), packed(weight.clone()));
        match self {
            Self::Depthwise(plane) => tensor(
                depthwise::forward(values(&input), values(&weight), plane),
                [batch, output, plane.out_height, plane.out_width],
            ),
            Self::Dense(geometry) => {
                let [height, width] = geometry.out_size();
                tensor(dense::forward(values(&input), values(&weight), geometry), [batch, output, height, width])
            }
            Self::Single(geometry) => {
                tensor(dense::single(values(&input), values(&weight), geometry), [batch, output, 1, 1])
            }
        }
    }
}

/// The output of a convolution layer.
///
/// # Shapes
/// - `input`: `[batch, input channels, height, width]`
/// - returns: `[batch, output channels, output height, output width]`
///
/// # Panics
/// If the number of input channels is not the layer's.
pub fn conv2d(conv: &Conv2d, input: Tensor<4>) -> Tensor<4> {
    let (weight, found) = (conv.weight.dims(), input.dims());
    let wanted = weight[1] * conv.groups;
    assert!(
        found[1] == wanted,
        "conv2d: the weight {weight:?} in {} groups takes {wanted} input channels, the input {found:?} has {}",
        conv.groups,
        found[1]
    );
    let Some(method) = USE_OUR_KERNELS.then(|| Method::of(conv, input.dims())).flatten() else {
        return conv.forward(input);
    };
    own(conv, method, &input).unwrap_or_else(|| conv.forward(input))
}

fn own(conv: &Conv2d, method: Method, input: &Tensor<4>) -> Option<Tensor<4>> {
    let weight = conv.weight.val();
    let output = match Site::of(input) {
        Site::Tracked(input) => {
            Tensor::from_primitive::<Autodiff<Flex>>(record(method, input, Site::tracked(&weight)?))
        }
        Site::Plain(input) => Tensor::from_primitive::<Flex>(method.forward(&input, &Site::plain(&weight)?)),
        Site::Other => return None,
    };
    Some(match &conv.bias {
        Some(bias) => add_bias(output, bias.val()),
        None => output,
    })
}

#[derive(Debug)]
struct Conv;

impl Backward<Flex, 2> for Conv {
    type State = (Method, FlexTensor, FlexTensor);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [to_input, to_weight] = ops.parents;
        let grad = packed(grads.consume::<Flex>(&ops.node));
        let (method, input, weight) = ops.state;
        let (input, weight) = (packed(input), packed(weight));
        let shape = |of: &FlexTensor| of.layout().shape().to_vec();
        let (input_grad, weight_grad) = match method {
            Method::Depthwise(plane) => {
                let (of_input, of_weight) = depthwise::backward(values(&input), values(&weight), values(&grad), plane);
                (Some(tensor(of_input, shape(&input))), Some(tensor(of_weight, shape(&weight))))
            }
            Method::Dense(geometry) => (
                to_input
                    .is_some()
                    .then(|| tensor(dense::input_grad(values(&weight), values(&grad), geometry), shape(&input))),
                to_weight
                    .is_some()
                    .then(|| tensor(dense::weight_grad(values(&input), values(&grad), geometry), shape(&weight))),
            ),
            Method::Single(geometry) => {
                let (of_input, of_weight) =
                    dense::single_grads(values(&input), values(&weight), values(&grad), geometry);
                (Some(tensor(of_input, shape(&input))), Some(tensor(of_weight, shape(&weight))))
            }
        };
        for (node, grad) in [(to_input, input_grad), (to_weight, weight_grad)] {
            if let (Some(node), Some(grad)) = (node, grad) {
                grads.register::<Flex>(node.id, grad);
            }
        }
    }
}

fn record(method: Method, input: Tracked, weight: Tracked) -> Tracked {
    match Conv.prepare::<NoCheckpointing>([input.node(), weight.node()]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let output = method.forward(input.primitive(), weight.primitive());
            prep.finish((method, input.into_primitive(), weight.into_primitive()), output)
        }
        OpsKind::UnTracked(prep) => prep.finish(method.forward(input.primitive(), weight.primitive())),
    }
}
