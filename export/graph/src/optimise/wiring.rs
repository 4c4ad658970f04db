//! The writers and readers of a graph's values, for passes that match patterns. Passes add methods for their own
//! patterns.

use super::dead_code;
use crate::graph::{Graph, Node, Producers, Uses, ValueId};

/// A graph as it was when a pass started to search.
pub(super) struct Wiring<'a> {
    pub(super) graph: &'a Graph,
    tables: &'a Tables,
}

/// Writers and readers of a graph; out of date once the graph changes.
struct Tables {
    producers: Producers,
    uses: Uses,
}

impl Tables {
    fn of(graph: &Graph) -> Self {
        Self { producers: graph.producers(), uses: graph.uses() }
    }
}

/// Searches for a pattern at every node in turn and replaces each match. `find` gets the index of a node, `replace`
/// gets what was found there and may remove nodes. Returns `true` if anything was replaced: then there may be more
/// matches.
///
/// The tables are rebuilt for every replacement, not for every node, and the search continues where it was: a graph of
/// 18,000 nodes with 4,000 matches takes well under a second.
pub(super) fn each<M>(
    graph: &mut Graph,
    find: impl Fn(&Wiring<'_>, usize) -> Option<M>,
    replace: impl Fn(&mut Graph, usize, M),
) -> bool {
    let mut changed = false;
    let mut tables = Tables::of(graph);
    let mut index = 0;
    while index < graph.nodes.len() {
        if let Some(found) = find(&Wiring { graph, tables: &tables }, index) {
            replace(graph, index, found);
            tables = Tables::of(graph);
            changed = true;
        }
        index += 1;
    }
    if changed {
        // Replaced nodes still read their inputs and would count as readers.
        dead_code::run(graph);
    }
    changed
}

impl<'a> Wiring<'a> {
    /// Index of the node that writes a value; `None` for inputs and constants.
    pub(super) fn writer(&self, value: ValueId) -> Option<usize> {
        self.tables.producers.of(value)
    }

    /// Index of the node that writes a value, if the value is read only once.
    pub(super) fn inner(&self, value: ValueId) -> Option<usize> {
        self.writer(value).filter(|_| self.is_read_once(value))
    }

    /// Whether a value has exactly one reader, which may be a graph output.
    pub(super) fn is_read_once(&self, value: ValueId) -> bool {
        self.tables.uses.count(value) == 1
    }

    /// Index of the only node that reads a value, searched after `writer`, if the value is read only once.
    pub(super) fn only_reader(&self, writer: usize, value: ValueId) -> Option<usize> {
        if !self.is_read_once(value) {
            return None;
        }
        let behind = self.graph.nodes.iter().enumerate().skip(writer + 1);
        behind.into_iter().find(|(_, node)| node.inputs.contains(&Some(value))).map(|(index, _)| index)
    }

    /// The node that writes a value.
    pub(super) fn node(&self, value: ValueId) -> Option<&'a Node> {
        self.writer(value).map(|index| &self.graph.nodes[index])
    }

    /// The node that writes a value, if the value is read only once.
    pub(super) fn inner_node(&self, value: ValueId) -> Option<&'a Node> {
        self.inner(value).map(|index| &self.graph.nodes[index])
    }

    /// The value of a constant with one element.
    pub(super) fn number(&self, value: ValueId) -> Option<f64> {
        let tensor = self.graph.initialiser(value).filter(|tensor| tensor.count() == 1)?;
        tensor.to_f64s()?.first().copied()
    }
}
