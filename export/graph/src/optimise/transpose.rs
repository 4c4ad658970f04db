//! Two successive `Transpose`s become one; if it keeps the order, it is dropped as an identity.

use super::wiring::{Wiring, each};
use crate::graph::{Graph, ValueId};
use crate::op::Op;

pub(super) fn run(graph: &mut Graph) -> bool {
    each(graph, find, |graph, index, (op, inputs)| {
        graph.nodes[index].op = op;
        graph.nodes[index].inputs = inputs;
    })
}

/// Merges the `Transpose` at `index` with the one before it.
fn find(wiring: &Wiring<'_>, index: usize) -> Option<(Op, Vec<Option<ValueId>>)> {
    let node = &wiring.graph.nodes[index];
    let first = wiring.node(node.input(0)?)?;
    let (Op::Transpose { order: outer }, Op::Transpose { order: inner }) = (&node.op, &first.op) else { return None };
    let axis = |&axis: &i64| inner.get(usize::try_from(axis).ok()?).copied();
    let order = outer.iter().map(axis).collect::<Option<Vec<i64>>>()?;
    Some((Op::Transpose { order }, first.inputs.clone()))
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
            dead_code::run(graph);
            changed
        });
        assert_eq!(after.nodes.len(), 4, "{:?}", after.nodes);
    }
}
