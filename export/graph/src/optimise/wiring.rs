//! Who writes and who reads the values of a graph, for passes that look for a pattern. Passes that know more of their
//! pattern add methods of their own.

use std::collections::HashMap;

use crate::graph::{Graph, Node, ValueId};

/// A graph as it is when a pass begins to look.
pub(super) struct Wiring<'a> {
    pub(super) graph: &'a Graph,
    producers: HashMap<ValueId, usize>,
    uses: HashMap<ValueId, usize>,
}

impl<'a> Wiring<'a> {
    pub(super) fn of(graph: &'a Graph) -> Self {
        Self { graph, producers: graph.producers(), uses: graph.uses() }
    }

    /// Index of the node that writes a value; none for inputs and constants.
    pub(super) fn writer(&self, value: ValueId) -> Option<usize> {
        self.producers.get(&value).copied()
    }

    /// Index of the node that writes a value which is read only once.
    pub(super) fn inner(&self, value: ValueId) -> Option<usize> {
        self.writer(value).filter(|_| self.uses.get(&value) == Some(&1))
    }

    /// The node that writes a value.
    pub(super) fn node(&self, value: ValueId) -> Option<&'a Node> {
        self.writer(value).map(|index| &self.graph.nodes[index])
    }

    /// The node that writes a value which is read only once.
    pub(super) fn inner_node(&self, value: ValueId) -> Option<&'a Node> {
        self.inner(value).map(|index| &self.graph.nodes[index])
    }

    /// The number behind a constant of one element.
    pub(super) fn number(&self, value: ValueId) -> Option<f64> {
        let tensor = self.graph.initialiser(value).filter(|tensor| tensor.count() == 1)?;
        tensor.to_f64s()?.first().copied()
    }
}
