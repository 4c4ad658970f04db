//! `MatMul` by a constant and `Add` of a constant become `Gemm` if both have rank 2: one kernel, into which a batch
//! norm can be folded.

use super::wiring::{Wiring, each};
use crate::graph::{Graph, ValueId};
use crate::op::{Op, Plain};

pub(super) fn run(graph: &mut Graph) -> bool {
    each(graph, find, |graph, index, Product { multiply, inputs }| {
        // The `Gemm` replaces the sum, where all its inputs are available. One of the two nodes had the module's own
        // name.
        let name = graph.nodes[multiply].name.clone();
        let gemm = &mut graph.nodes[index];
        gemm.op = Op::Gemm { transpose_b: false };
        gemm.inputs = inputs.map(Some).to_vec();
        if name.len() < gemm.name.len() {
            gemm.name = name;
        }
        graph.nodes.remove(multiply);
    })
}

/// A matched matrix product with a sum.
struct Product {
    /// Index of the `MatMul`.
    multiply: usize,
    /// Left matrix, right matrix, bias.
    inputs: [ValueId; 3],
}

/// Matches the product before the `Add` at `index`.
fn find(wiring: &Wiring<'_>, index: usize) -> Option<Product> {
    let node = &wiring.graph.nodes[index];
    if !node.is(Plain::Add) {
        return None;
    }
    [(0, 1), (1, 0)].into_iter().find_map(|(product, bias)| {
        let (product, bias) = (node.input(product)?, node.input(bias)?);
        // Nothing else may read the product. Both factors must be matrices, and the second a constant.
        let multiply = wiring.inner(product).filter(|&first| wiring.graph.nodes[first].is(Plain::MatMul))?;
        let [x, weight] = [0, 1].map(|at| wiring.graph.nodes[multiply].input(at));
        let (x, weight) = (x?, weight?);
        let matrix = wiring.graph.initialiser(weight).filter(|weight| weight.dtype().is_float())?;
        let &[_, columns] = matrix.dims() else { return None };
        let fits = match wiring.graph.initialiser(bias)?.dims() {
            [size] | [1, size] => *size == columns,
            _ => false,
        };
        let is_matrix = wiring.graph.value(x).dims.len() == 2;
        (fits && is_matrix).then_some(Product { multiply, inputs: [x, weight, bias] })
    })
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
