//! `MatMul` by a constant and `Add` of a constant become `Gemm`, where both are of rank 2: one kernel, and a place
//! for a batch norm to go.

use super::wiring::Wiring;
use crate::graph::Graph;
use crate::op::{Op, Plain};

pub(super) fn run(graph: &mut Graph) -> bool {
    let wiring = Wiring::of(graph);
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        if !node.is(Plain::Add) {
            continue;
        }
        for (product, bias) in [(0, 1), (1, 0)] {
            let (Some(product), Some(bias)) = (node.input(product), node.input(bias)) else { continue };
            // The product must not be read elsewhere, and both factors be matrices, the second one fixed.
            let Some(first) = wiring.inner(product) else { continue };
            let multiply = &graph.nodes[first];
            let (Some(x), Some(weight)) = (multiply.input(0), multiply.input(1)) else { continue };
            let matrices = graph.value(x).dims.len() == 2
                && graph
                    .initialiser(weight)
                    .is_some_and(|weight| weight.dims().len() == 2 && weight.dtype().is_float());
            let columns = graph.initialiser(weight).and_then(|weight| weight.dims().last().copied());
            let fits = graph.initialiser(bias).is_some_and(|bias| match bias.dims() {
                [size] | [1, size] => Some(*size) == columns,
                _ => false,
            });
            if !(multiply.is(Plain::MatMul) && matrices && fits) {
                continue;
            }
            let outputs = node.outputs.clone();
            // The sum's place: there all three are written.
            let name = multiply.name.clone();
            let gemm = &mut graph.nodes[index];
            gemm.op = Op::Gemm { transpose_b: false };
            gemm.inputs = vec![Some(x), Some(weight), Some(bias)];
            gemm.outputs = outputs;
            // Whichever of the two had the module's own name.
            if name.len() < gemm.name.len() {
                gemm.name = name;
            }
            graph.nodes.remove(first);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::op::Plain;

    #[test]
    fn product_and_sum_are_one_node() {
        let mut build = Build::new(&[2, 3]);
        let x = build.x();
        let (weight, bias) = (build.weights(&[3, 5]), build.weights(&[1, 5]));
        let y = build.node(Plain::MatMul, &[x, weight], &[2, 5]);
        let y = build.node(Plain::Add, &[bias, y], &[2, 5]);
        let after = build.output(y).check(super::run);
        assert_eq!(after.nodes.len(), 1);
        assert_eq!(after.nodes[0].op.name(), "Gemm");
    }

    #[test]
    fn a_batch_of_matrices_stays() {
        let mut build = Build::new(&[2, 3, 4]);
        let x = build.x();
        let (weight, bias) = (build.weights(&[4, 5]), build.weights(&[5]));
        let y = build.node(Plain::MatMul, &[x, weight], &[2, 3, 5]);
        let y = build.node(Plain::Add, &[y, bias], &[2, 3, 5]);
        build.output(y).unchanged(super::run);
    }
}
