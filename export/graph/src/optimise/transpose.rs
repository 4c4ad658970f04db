//! `Transpose` of a `Transpose` becomes one; one in order is then dropped as an identity.

use crate::graph::Graph;
use crate::op::Op;

pub(super) fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    let producers = graph.producers();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Some(first) = node.input(0).and_then(|id| producers.of(id)) else { continue };
        let (Op::Transpose { order: outer }, Op::Transpose { order: inner }) = (&node.op, &graph.nodes[first].op)
        else {
            continue;
        };
        let order: Option<Vec<i64>> =
            outer.iter().map(|&axis| usize::try_from(axis).ok().and_then(|axis| inner.get(axis)).copied()).collect();
        let Some(order) = order else { continue };
        let source = graph.nodes[first].inputs.clone();
        graph.nodes[index].op = Op::Transpose { order };
        graph.nodes[index].inputs = source;
        changed = true;
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::super::{dead_code, identity, testing::Build};
    use crate::op::{Op, Plain};

    #[test]
    fn orders_compose_and_cancel() {
        let mut build = Build::new(&[2, 3, 4]);
        let x = build.x();
        let y = build.node(Op::Transpose { order: vec![1, 2, 0] }, &[x], &[3, 4, 2]);
        let z = build.node(Op::Transpose { order: vec![0, 2, 1] }, &[y], &[3, 2, 4]);
        let back = build.node(Op::Transpose { order: vec![2, 0, 1] }, &[y], &[2, 3, 4]);
        let back = build.node(Plain::Relu, &[back], &[2, 3, 4]);
        let back = build.node(Op::Transpose { order: vec![1, 0, 2] }, &[back], &[3, 2, 4]);
        let sum = build.node(Plain::Add, &[z, back], &[3, 2, 4]);
        let after = build.output(sum).check(|graph| {
            let changed = super::run(graph) && identity::run(graph);
            dead_code::run(graph) && changed
        });
        assert_eq!(after.nodes.len(), 4, "{:?}", after.nodes);
    }
}
