//! Rewrites of the graph, repeated until none applies. Each has a pattern, a precondition and a replacement, and a test
//! that runs the graph before and after in ONNX Runtime.
//!
//! What ONNX Runtime fuses itself is left in the form it looks for: `Conv` directly followed by its activation, `Add`
//! of a residual after a `Conv`, `Sigmoid` and `Mul` apart (it makes them one). It has no better kernel for
//! `HardSwish` and `Mish` than for their pieces, so that these stay pieces. Before operator set 23 attention stays
//! `MatMul`, `Softmax`, `MatMul`: ONNX Runtime makes the scale part of the first.

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

/// A rewrite: `true` if it changed something.
type Pass = fn(&mut Graph) -> bool;

/// All passes with their names and the first operator set that has what they write, in the order they are tried.
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
    // After the norms, which are known by their means.
    ("global-pool", 17, global_pool::run),
    ("gelu", gelu::SINCE, gelu::run),
    ("attention", attention::SINCE, attention::run),
];

/// Runs all passes that an operator set allows until none applies.
pub fn optimise(graph: &mut Graph, opset: u32) {
    let passes = || PASSES.iter().filter(|(_, since, _)| *since <= opset);
    // Every pass removes nodes or turns them into a form it does not match, so that this ends.
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
