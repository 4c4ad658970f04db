//! The length of a vector in pieces, `√Σx²`, becomes one `ReduceL2`, also with a lower bound inside the root:
//! `√max(Σx², c)` is `max(‖x‖, √c)`. A normalised embedding then takes three nodes instead of five.

use super::rewrite::sibling;
use super::wiring::{Wiring, each};
use crate::graph::{Graph, ValueId};
use crate::op::{Op, Plain, Reduction};
use crate::tensor::{DType, Tensor};

pub(super) fn run(graph: &mut Graph) -> bool {
    each(graph, find, replace)
}

fn replace(graph: &mut Graph, root: usize, pieces: Pieces) {
    let Pieces { floor, sum, x } = pieces;
    let (length, value) = (graph.nodes[root].outputs[0], graph.nodes[sum].outputs[0]);
    let name = sibling(graph, sum, "ReduceL2");
    if let Op::Reduce { reduction, .. } = &mut graph.nodes[sum].op {
        *reduction = Reduction::L2;
    }
    graph.nodes[sum].inputs[0] = Some(x);
    match floor {
        // The last node writes the recorded value, but the value in between is a new one.
        Some(Floor { node, place, bound }) => {
            let (dtype, dims) = (graph.value(value).dtype, graph.value(value).dims.clone());
            let unbounded = graph.add_value(&format!("{name}/output"), dtype, dims);
            let bound = graph.add_initialiser(&format!("{name}/floor"), bound);
            graph.nodes[sum].outputs = vec![unbounded];
            graph.nodes[node].inputs[place] = Some(bound);
            graph.nodes[node].inputs[1 - place] = Some(unbounded);
            graph.nodes[node].outputs = vec![length];
        }
        None => graph.nodes[sum].outputs = vec![length],
    }
    graph.nodes[sum].name = name;
    graph.nodes.remove(root);
}

struct Pieces {
    floor: Option<Floor>,
    sum: usize,
    x: ValueId,
}

struct Floor {
    node: usize,
    /// Index of the input that holds the bound.
    place: usize,
    /// Square root of the bound.
    bound: Tensor,
}

/// Matches the pieces that end with the root at `index`.
fn find(wiring: &Wiring<'_>, index: usize) -> Option<Pieces> {
    let (graph, node) = (wiring.graph, &wiring.graph.nodes[index]);
    let below = wiring.inner(node.input(0).filter(|_| node.is(Plain::Sqrt))?)?;
    let floor = floor(graph, below);
    let sum = match &floor {
        Some(Floor { place, .. }) => wiring.inner(graph.nodes[below].input(1 - place)?)?,
        None => below,
    };
    let Op::Reduce { reduction: Reduction::Sum, .. } = graph.nodes[sum].op else { return None };
    let product = wiring.node(graph.nodes[sum].input(0)?)?;
    let x = product.input(0).filter(|_| product.is(Plain::Mul))?;
    // Integers have no square root in ONNX, and f16 would round differently.
    let single = graph.value(x).dtype == DType::Float;
    (single && product.input(1) == Some(x)).then_some(Pieces { floor, sum, x })
}

fn floor(graph: &Graph, index: usize) -> Option<Floor> {
    let node = graph.nodes.get(index).filter(|node| node.is(Plain::Max) && node.inputs.len() == 2)?;
    [0, 1].into_iter().find_map(|place| {
        let number = graph.initialiser(node.input(place)?).filter(|tensor| tensor.count() == 1)?;
        let value = number.to_f64s()?.first().copied().filter(|value| *value >= 0.0)?;
        Some(Floor {
            node: index,
            place,
            bound: Tensor::from_f64s(number.dtype(), number.dims().to_vec(), &[value.sqrt()])?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, Built};
    use crate::op::{Op, Plain, Reduction};

    /// Rows of `x` divided by their length, which is at least the root of `floor`. With `other` the product is not a
    /// square.
    fn normalised(floor: Option<f64>, other: bool) -> Built {
        let mut build = Build::new(&[3, 5]);
        let x = build.x();
        let factor = if other { build.weights(&[3, 5]) } else { x };
        let square = build.node(Plain::Mul, &[x, factor], &[3, 5]);
        let sum = Op::Reduce { reduction: Reduction::Sum, axes: vec![1], keep_dims: true };
        let mut length = build.node(sum, &[square], &[3, 1]);
        if let Some(floor) = floor {
            let floor = build.number(floor);
            length = build.node(Plain::Max, &[length, floor], &[3, 1]);
        }
        let length = build.node(Plain::Sqrt, &[length], &[3, 1]);
        let y = build.node(Plain::Div, &[x, length], &[3, 5]);
        build.output(y)
    }

    #[test]
    fn lengths_are_one_node() {
        // The last bound is larger than the lengths of the rows.
        for (floor, nodes) in [(None, 2), (Some(1e-24), 3), (Some(0.0), 3), (Some(9.0), 3)] {
            let after = normalised(floor, false).check(super::run);
            assert_eq!(after.nodes.len(), nodes, "{floor:?}");
            assert_eq!(after.nodes[0].op.name(), "ReduceL2");
        }
    }

    #[test]
    fn other_sums_stay() {
        normalised(Some(1e-24), true).unchanged(super::run);
        normalised(Some(-1.0), false).unchanged(super::run);
    }

    #[test]
    fn a_sum_that_is_read_elsewhere_stays() {
        let mut build = Build::new(&[3, 5]);
        let x = build.x();
        let square = build.node(Plain::Mul, &[x, x], &[3, 5]);
        let sum = Op::Reduce { reduction: Reduction::Sum, axes: vec![1], keep_dims: true };
        let sum = build.node(sum, &[square], &[3, 1]);
        let length = build.node(Plain::Sqrt, &[sum], &[3, 1]);
        let y = build.node(Plain::Div, &[sum, length], &[3, 1]);
        build.output(y).unchanged(super::run);
    }
}
