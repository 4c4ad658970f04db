//! What several passes do to a graph.

use crate::graph::{Graph, ValueId};

/// What `name` would be of something else of the same module.
pub(super) fn beside(name: &str, other: &str) -> String {
    name.rsplit_once('/').map_or(other.to_owned(), |(module, _)| format!("{module}/{other}"))
}

/// A name for what takes the place of node `index`: that of its module with the operator's behind it.
pub(super) fn sibling(graph: &mut Graph, index: usize, operator: &str) -> String {
    let wanted = beside(&graph.nodes[index].name, operator);
    graph.node_name(&wanted)
}

/// Removes node `index`, whose only output is the same tensor as `source`. `false`, and nothing changed, if the
/// output is one of the graph's and `source` cannot take its place.
pub(super) fn bypass(graph: &mut Graph, index: usize, source: ValueId) -> bool {
    let &[output] = graph.nodes[index].outputs.as_slice() else { return false };
    if graph.outputs.contains(&output) {
        // The name belongs to the user: the producer writes the output itself.
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
