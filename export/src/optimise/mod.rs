//! Rewrites of the graph, repeated until none applies. Each has a pattern, a precondition and a replacement, and a test
//! that runs the graph before and after in ONNX Runtime.
//!
//! What ONNX Runtime fuses itself is left in the form it looks for: `Conv` directly followed by its activation, `Add` of a
//! residual after a `Conv`, `Sigmoid` and `Mul` apart.

mod batch_norm;
mod common;
mod constant;
mod dead_code;
mod gemm;
mod global_pool;
mod identity;
mod reshape;
mod transpose;

#[cfg(test)]
mod testing;

use crate::graph::{Graph, ValueId};

/// A rewrite: `true` if it changed something.
type Pass = fn(&mut Graph) -> bool;

/// All passes with their names, in the order they are tried.
pub const PASSES: [(&str, Pass); 9] = [
    ("dead-code", dead_code::run),
    ("identity", identity::run),
    ("constant", constant::run),
    ("reshape", reshape::run),
    ("transpose", transpose::run),
    ("common", common::run),
    ("gemm", gemm::run),
    ("batch-norm", batch_norm::run),
    ("global-pool", global_pool::run),
];

/// Runs all passes until none applies.
pub fn optimise(graph: &mut Graph) {
    // Every pass removes nodes or turns them into a form it does not match, so that this ends.
    while PASSES.iter().fold(false, |changed, (_, pass)| pass(graph) || changed) {}
    common::constants(graph);
    dead_code::run(graph);
}

/// Removes node `index`, whose only output is the same tensor as `source`. `false`, and nothing changed, if the output is one
/// of the graph's and `source` cannot take its place.
fn bypass(graph: &mut Graph, index: usize, source: ValueId) -> bool {
    let &[output] = graph.nodes[index].outputs.as_slice() else { return false };
    if graph.outputs.contains(&output) {
        // The name belongs to the user: the producer writes the output itself.
        let taken =
            graph.inputs.contains(&source) || graph.outputs.contains(&source) || graph.initialiser(source).is_some();
        let Some(&producer) = graph.producers().get(&source).filter(|_| !taken) else { return false };
        graph.redirect(source, output);
        for written in &mut graph.nodes[producer].outputs {
            if *written == source {
                *written = output;
            }
        }
    } else {
        graph.redirect(output, source);
    }
    graph.nodes.remove(index);
    true
}
