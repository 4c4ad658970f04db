//! Rewrites of the graph, repeated until none applies. Each has a pattern, a precondition and a replacement, and a test
//! that runs the graph before and after in ONNX Runtime.
//!
//! Patterns that ONNX Runtime fuses are kept in the form it looks for: `Conv` directly followed by its activation,
//! `Add` of a residual after a `Conv`, `Sigmoid` and `Mul` as two nodes (it merges them). For `HardSwish` and `Mish`
//! its kernels are no faster than the pieces, so the pieces stay. Before operator set 23 attention stays `MatMul`,
//! `Softmax`, `MatMul`: ONNX Runtime fuses the scale into the first.

mod attention;
mod batch_norm;
mod cast;
mod common;
mod constant;
mod dead_code;
mod gelu;
mod gemm;
mod global_pool;
mod identity;
mod instance_norm;
mod l2_norm;
mod layer_norm;
mod pad;
mod reshape;
mod rewrite;
mod split;
mod transpose;
mod wiring;

#[cfg(test)]
mod testing;

use crate::graph::Graph;

/// A rewrite; returns whether it changed the graph.
type Pass = fn(&mut Graph) -> bool;

/// All passes in the order they are tried, with their names and the first operator set that has the operators they
/// write.
pub const PASSES: [(&str, u32, Pass); 17] = [
    ("dead-code", 17, dead_code::run),
    ("identity", 17, identity::run),
    ("constant", 17, constant::run),
    ("reshape", 17, reshape::run),
    ("transpose", 17, transpose::run),
    ("cast", 17, cast::run),
    ("common", 17, common::run),
    ("split", 17, split::run),
    ("gemm", 17, gemm::run),
    ("batch-norm", 17, batch_norm::run),
    ("pad", 17, pad::run),
    ("instance-norm", 17, instance_norm::run),
    ("l2-norm", 17, l2_norm::run),
    ("layer-norm", 17, layer_norm::run),
    // After the norms, whose patterns contain means.
    ("global-pool", 17, global_pool::run),
    ("gelu", gelu::SINCE, gelu::run),
    ("attention", attention::SINCE, attention::run),
];

/// Runs all passes that an operator set allows, until none applies.
pub fn optimise(graph: &mut Graph, opset: u32) {
    let passes = || PASSES.iter().filter(|(_, since, _)| *since <= opset);
    // This ends, because every pass removes nodes or turns them into a form it does not match.
    let mut exhaust = |pass: Pass| {
        let mut changed = false;
        while pass(graph) {
            changed = true;
        }
        changed
    };
    while passes().fold(false, |changed, (_, _, pass)| exhaust(*pass) || changed) {}
    common::constants(graph);
    dead_code::run(graph);
}

#[cfg(test)]
mod tests {
    use super::testing::Build;
    use crate::op::{Op, Plain};

    /// Passes that search the whole graph again after every replacement take minutes here.
    #[test]
    fn a_graph_of_eighteen_thousand_nodes() {
        const BLOCKS: usize = 2000;
        const SHAPE: [usize; 2] = [2, 3];
        let mut build = Build::new(&SHAPE);
        let (root, one, half) = (build.number(2f64.sqrt()), build.number(1.0), build.number(0.5));
        let (weight, bias) = (build.weights(&[3, 3]), build.weights(&[3]));
        let mut x = build.x();
        for _ in 0..BLOCKS {
            let y = build.node(Plain::Div, &[x, root], &SHAPE);
            let y = build.node(Plain::Erf, &[y], &SHAPE);
            let y = build.node(Plain::Add, &[one, y], &SHAPE);
            let y = build.node(Plain::Mul, &[x, y], &SHAPE);
            let y = build.node(Plain::Mul, &[y, half], &SHAPE);
            let y = build.node(Op::Transpose { order: vec![1, 0] }, &[y], &[3, 2]);
            let y = build.node(Op::Transpose { order: vec![1, 0] }, &[y], &SHAPE);
            let y = build.node(Plain::MatMul, &[y, weight], &SHAPE);
            x = build.node(Plain::Add, &[y, bias], &SHAPE);
        }
        let mut graph = build.output(x).graph();
        super::optimise(&mut graph, crate::DEFAULT_OPSET);
        let gelus = graph.nodes.iter().filter(|node| matches!(node.op, Op::Gelu { .. })).count();
        let gemms = graph.nodes.iter().filter(|node| matches!(node.op, Op::Gemm { .. })).count();
        assert_eq!([graph.nodes.len(), gelus, gemms], [2 * BLOCKS, BLOCKS, BLOCKS]);
    }
}
