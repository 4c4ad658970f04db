//! Helpers that several passes share.

use crate::graph::{Graph, ValueId};

/// The name of `other` in the module that `name` belongs to.
pub(super) fn beside(name: &str, other: &str) -> String {
    name.rsplit_once('/').map_or(other.to_owned(), |(module, _)| format!("{module}/{other}"))
}

/// A name for the replacement of node `index`: its module's name with the operator appended.
pub(super) fn sibling(graph: &mut Graph, index: usize, operator: &str) -> String {
    let wanted = beside(&graph.nodes[index].name, operator);
    graph.node_name(&wanted)
}

/// Removes node `index`, whose only output is the same tensor as `source`. Returns `false` and changes nothing if it
/// writes an output of the graph that `source` cannot replace.
pub(super) fn bypass(graph: &mut Graph, index: usize, source: ValueId) -> bool {
    let &[output] = graph.nodes[index].outputs.as_slice() else { return false };
    if graph.outputs.contains(&output) {
        // The output's name belongs to the user, so the producer of `source` writes the output itself.
        let taken =
            graph.inputs.contains(&source) || graph.outputs.contains(&source) || graph.initialiser(source).is_some();
        let Some(producer) = graph.producers().of(source).filter(|_| !taken) else { return false };
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
