//! A `BatchNormalization` after a `Conv`, `ConvTranspose`, `Gemm` or `MatMul` with constant weights is folded into
//! these weights, also through a `Reshape` that only drops axes of size 1. With the channel's scale s = γ / √(σ² + ε):
//! W' = s·W, b' = s·(b - μ) + β, computed in f64. A norm that cannot be folded and stands between two reshapes moves
//! before the first, which saves one of them.

use super::wiring::{Wiring, each};
use crate::dim::Dim;
use crate::graph::{Graph, ValueId};
use crate::op::{Op, Plain};
use crate::tensor::Tensor;

pub(super) fn run(graph: &mut Graph) -> bool {
    each(graph, foldable, fold) || before_reshape(graph)
}

/// Moves a norm between two reshapes, the first of which only drops axes of size 1, before the first.
fn before_reshape(graph: &mut Graph) -> bool {
    let find = |wiring: &Wiring<'_>, index: usize| {
        let graph = wiring.graph;
        let node = graph.nodes.get(index).filter(|node| node.is(Plain::Reshape))?;
        let norm = wiring.inner(node.input(0)?)?;
        let Op::BatchNormalization { .. } = graph.nodes[norm].op else { return None };
        let dropped = graph.nodes[norm].input(0)?;
        let source = wiring.inner_node(dropped).filter(|node| node.is(Plain::Reshape))?.input(0)?;
        // The last target may copy sizes by 0; the remaining axes keep their indices, so that stays right.
        drops_ones(&graph.value(source).dims, &graph.value(dropped).dims).then_some((norm, source))
    };
    each(graph, find, |graph, last, (norm, source)| {
        let (dtype, dims) = (graph.value(source).dtype, graph.value(source).dims.clone());
        let wanted = format!("{}/output", graph.nodes[norm].name);
        let normed = graph.add_value(&wanted, dtype, dims);
        graph.nodes[norm].inputs[0] = Some(source);
        graph.nodes[norm].outputs = vec![normed];
        graph.nodes[last].inputs[0] = Some(normed);
    })
}

/// A product with a norm folded into it.
struct Folded {
    /// Index of the product.
    product: usize,
    /// Index of the last node before the norm: the product, or a `Reshape` after it.
    last: usize,
    /// The old constant, whether nothing else reads it, and the new weights.
    weights: (ValueId, bool, Tensor),
    /// As `weights`, for the bias, which may be missing.
    shifts: (Option<(ValueId, bool)>, Tensor),
}

/// The product before the norm at `index`, if the norm can be folded into its weights.
fn foldable(wiring: &Wiring<'_>, index: usize) -> Option<Folded> {
    let graph = wiring.graph;
    let norm = &graph.nodes[index];
    let Op::BatchNormalization { epsilon } = norm.op else { return None };
    let input = norm.input(0)?;
    let last = wiring.inner(input)?;
    let mut product = last;
    if graph.nodes[last].is(Plain::Reshape) {
        let source = graph.nodes[last].input(0)?;
        if !drops_ones(&graph.value(source).dims, &graph.value(input).dims) {
            return None;
        }
        product = wiring.inner(source)?;
    }
    let node = &graph.nodes[product];
    let (weight_id, dtype) = (node.input(1)?, graph.value(input).dtype);
    let weight = graph.initialiser(weight_id)?;
    let parameter =
        |position: usize| norm.input(position).and_then(|id| graph.initialiser(id)).and_then(Tensor::to_f64s);
    let (gamma, beta, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
    let channels = gamma.len();
    let dims = weight.dims().to_vec();
    let block: usize = dims.get(2..).map_or(1, |spatial| spatial.iter().product());
    // The channel that an element of the weights belongs to.
    let channel: Box<dyn Fn(usize) -> usize> = match &node.op {
        Op::Conv { .. } if dims.first() == Some(&channels) => {
            let length = dims[1..].iter().product::<usize>().max(1);
            Box::new(move |element| element / length)
        }
        Op::ConvTranspose { group, .. } if dims.len() > 2 && dims[1] * *group as usize == channels => {
            let (per_group, inputs) = (dims[1], dims[0] / *group as usize);
            Box::new(move |element| {
                let (row, column) = (element / (per_group * block), element / block % per_group);
                row / inputs * per_group + column
            })
        }
        // Columns are channels only if the product's input is a matrix.
        Op::Gemm { transpose_b: false } | Op::Plain(Plain::MatMul)
            if dims.len() == 2 && dims[1] == channels && graph.value(node.outputs[0]).dims.len() == 2 =>
        {
            Box::new(move |element| element % channels)
        }
        _ => return None,
    };
    let bias = match node.input(2) {
        Some(id) => graph.initialiser(id)?.to_f64s()?,
        None => vec![0.0; channels],
    };
    let all = [&gamma, &beta, &mean, &variance, &bias];
    if all.iter().any(|list| list.len() != channels) {
        return None;
    }
    let scale: Vec<f64> = gamma.iter().zip(&variance).map(|(g, v)| g / (v + f64::from(epsilon)).sqrt()).collect();
    // Leave a negative variance in place so that verification reports it.
    if scale.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let weights: Vec<f64> =
        weight.to_f64s()?.into_iter().enumerate().map(|(element, value)| value * scale[channel(element)]).collect();
    let shifts: Vec<f64> = (0..channels).map(|c| (bias[c] - mean[c]) * scale[c] + beta[c]).collect();
    let weights = Tensor::from_f64s(dtype, dims, &weights)?;
    let shifts = Tensor::from_f64s(dtype, vec![channels], &shifts)?;
    let alone = |id: ValueId| (id, wiring.is_read_once(id));
    let (weight_id, alone_weight) = alone(weight_id);
    Some(Folded {
        product,
        last,
        weights: (weight_id, alone_weight, weights),
        shifts: (node.input(2).map(alone), shifts),
    })
}

fn fold(graph: &mut Graph, index: usize, folded: Folded) {
    let Folded { product, last, weights: (weight, alone, weights), shifts: (bias, shifts) } = folded;
    let weight = replace(graph, weight, alone, weights);
    let bias = match bias {
        Some((id, alone)) => replace(graph, id, alone, shifts),
        None => graph.add_initialiser(&format!("{}.bias", graph.nodes[product].name), shifts),
    };
    let target = &mut graph.nodes[product];
    if target.is(Plain::MatMul) {
        target.op = Op::Gemm { transpose_b: false };
    }
    target.inputs = vec![target.input(0), Some(weight), Some(bias)];
    if last != product {
        let between = graph.nodes[product].outputs[0];
        graph.redefine(between);
    }
    let norm = graph.nodes.remove(index);
    graph.nodes[last].outputs = norm.outputs;
}

/// Changes a constant in place if nothing else reads it, so that it keeps its name; else adds a new one.
fn replace(graph: &mut Graph, id: ValueId, alone: bool, tensor: Tensor) -> ValueId {
    if alone
        && let Some(constant) = graph.initialiser_mut(id)
        && constant.dims() == tensor.dims()
    {
        *constant = tensor;
        return id;
    }
    let name = graph.value(id).name.clone();
    graph.add_initialiser(&name, tensor)
}

/// Whether `to` is `from` without trailing axes of size 1.
fn drops_ones(from: &[Dim], to: &[Dim]) -> bool {
    to.len() >= 2
        && from.len() > to.len()
        && from[..to.len()].iter().zip(to).all(|(a, b)| a.same(b))
        && from[to.len()..].iter().all(|dim| *dim == Dim::Size(1))
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::graph::ValueId;
    use crate::op::{Op, Plain, Window};

    fn norm(build: &mut Build, input: ValueId, dims: &[usize]) -> ValueId {
        let channels = dims[1];
        let (gamma, beta, mean) = (build.weights(&[channels]), build.weights(&[channels]), build.weights(&[channels]));
        let variance = build.positive(&[channels]);
        build.node(Op::BatchNormalization { epsilon: 1e-5 }, &[input, gamma, beta, mean, variance], dims)
    }

    fn window(kernel: i64, pad: i64) -> Window {
        Window { kernel: vec![kernel; 2], strides: vec![1; 2], pads: vec![pad; 4], dilations: vec![1; 2] }
    }

    #[test]
    fn into_convolutions() {
        // Plain, depthwise, grouped; with and without bias.
        for (groups, kernel, bias) in [(1, 1, false), (4, 3, true), (2, 3, false)] {
            let mut build = Build::new(&[2, 4, 5, 6]);
            let x = build.x();
            let weight = build.weights(&[4, 4 / groups, kernel, kernel]);
            let mut inputs = vec![x, weight];
            if bias {
                inputs.push(build.weights(&[4]));
            }
            let op = Op::Conv { window: window(kernel as i64, kernel as i64 / 2), group: groups as i64 };
            let y = build.node(op, &inputs, &[2, 4, 5, 6]);
            let y = norm(&mut build, y, &[2, 4, 5, 6]);
            let y = build.node(Plain::Relu, &[y], &[2, 4, 5, 6]);
            let after = build.output(y).check(super::run);
            assert_eq!(after.nodes.iter().map(|node| node.op.name()).collect::<Vec<_>>(), ["Conv", "Relu"]);
        }
    }

    #[test]
    fn into_transposed_convolutions() {
        for groups in [1, 2] {
            let mut build = Build::new(&[2, 4, 5, 6]);
            let x = build.x();
            let weight = build.weights(&[4, 6 / groups, 3, 3]);
            let op = Op::ConvTranspose { window: window(3, 1), output_padding: vec![0, 0], group: groups as i64 };
            let y = build.node(op, &[x, weight], &[2, 6, 5, 6]);
            let y = norm(&mut build, y, &[2, 6, 5, 6]);
            let after = build.output(y).check(super::run);
            assert_eq!(after.nodes.len(), 1);
        }
    }

    #[test]
    fn into_matrices() {
        for bias in [false, true] {
            let mut build = Build::new(&[2, 3]);
            let x = build.x();
            let weight = build.weights(&[3, 5]);
            let y = if bias {
                let bias = build.weights(&[5]);
                build.node(Op::Gemm { transpose_b: false }, &[x, weight, bias], &[2, 5])
            } else {
                build.node(Plain::MatMul, &[x, weight], &[2, 5])
            };
            let y = norm(&mut build, y, &[2, 5]);
            let after = build.output(y).check(super::run);
            assert_eq!(after.nodes.len(), 1);
        }
    }

    #[test]
    fn before_the_second_of_two_reshapes() {
        for (shape, flat, applies) in [([2, 3, 1, 1], [2, 3], true), ([2, 3, 2, 1], [2, 6], false)] {
            let mut build = Build::new(&shape);
            let x = build.x();
            let target = build.int64s(&flat.map(|size| size as i64));
            let y = build.node(Plain::Reshape, &[x, target], &flat);
            let y = norm(&mut build, y, &flat);
            let target = build.int64s(&[0, 0, 1]);
            let y = build.node(Plain::Reshape, &[y, target], &[flat[0], flat[1], 1]);
            let built = build.output(y);
            if applies {
                let after = built.check(super::run);
                let names: Vec<_> = after.nodes.iter().map(|node| node.op.name()).collect();
                assert_eq!(names, ["BatchNormalization", "Reshape"]);
            } else {
                built.unchanged(super::run);
            }
        }
    }

    #[test]
    fn through_a_flattening() {
        let mut build = Build::new(&[2, 4, 1, 1]);
        let x = build.x();
        let weight = build.weights(&[5, 4, 1, 1]);
        let y = build.node(Op::Conv { window: window(1, 0), group: 1 }, &[x, weight], &[2, 5, 1, 1]);
        let shape = build.int64s(&[2, 5]);
        let y = build.node(Plain::Reshape, &[y, shape], &[2, 5]);
        let y = norm(&mut build, y, &[2, 5]);
        let after = build.output(y).check(super::run);
        assert_eq!(after.nodes.len(), 2);
    }

    #[test]
    fn not_when_the_product_is_read_elsewhere() {
        let mut build = Build::new(&[2, 4, 5, 6]);
        let x = build.x();
        let weight = build.weights(&[4, 4, 1, 1]);
        let y = build.node(Op::Conv { window: window(1, 0), group: 1 }, &[x, weight], &[2, 4, 5, 6]);
        let z = norm(&mut build, y, &[2, 4, 5, 6]);
        let sum = build.node(Plain::Add, &[y, z], &[2, 4, 5, 6]);
        build.output(sum).unchanged(super::run);
    }

    #[test]
    fn shared_weights_are_not_changed_for_the_other_reader() {
        let mut build = Build::new(&[2, 4, 5, 6]);
        let x = build.x();
        let weight = build.weights(&[4, 4, 1, 1]);
        let conv = || Op::Conv { window: window(1, 0), group: 1 };
        let y = build.node(conv(), &[x, weight], &[2, 4, 5, 6]);
        let y = norm(&mut build, y, &[2, 4, 5, 6]);
        let z = build.node(conv(), &[y, weight], &[2, 4, 5, 6]);
        build.output(z).check(super::run);
    }
}
