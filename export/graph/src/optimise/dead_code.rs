//! Nodes and constants that no output needs are dropped.

use std::collections::HashSet;

use crate::graph::Graph;

pub(super) fn run(graph: &mut Graph) -> bool {
    let mut needed: HashSet<_> = graph.outputs.iter().copied().collect();
    let mut keep = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().any(|id| needed.contains(id)) {
            keep[index] = true;
            needed.extend(node.inputs.iter().flatten());
        }
    }
    let before = (graph.nodes.len(), graph.initialisers().count());
    let mut index = 0;
    graph.nodes.retain(|_| {
        index += 1;
        keep[index - 1]
    });
    graph.retain_initialisers(|id| needed.contains(&id));
    before != (graph.nodes.len(), graph.initialisers().count())
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::op::Plain;

    #[test]
    fn what_nobody_reads_goes() {
        let mut build = Build::new(&[2, 3]);
        let x = build.x();
        let y = build.node(Plain::Relu, &[x], &[2, 3]);
        let scale = build.weights(&[3]);
        build.node(Plain::Mul, &[x, scale], &[2, 3]);
        let before = build.output(y);
        let after = before.check(super::run);
        assert_eq!(after.nodes.len(), 1);
        assert_eq!(after.initialisers().count(), 0);
    }
}
