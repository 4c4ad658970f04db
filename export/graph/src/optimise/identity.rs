//! Drops nodes that return their input: `Identity`, `Reshape` and `Expand` to the same shape, `Transpose` in order,
//! `Concat` of one tensor, `Cast` to the same type.

use super::rewrite::bypass;
use crate::graph::{Graph, Node, ValueId};
use crate::op::{Op, Plain};

pub(super) fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut index = 0;
    while index < graph.nodes.len() {
        match source(graph, &graph.nodes[index]) {
            Some(source) if bypass(graph, index, source) => changed = true,
            _ => index += 1,
        }
    }
    changed
}

fn source(graph: &Graph, node: &Node) -> Option<ValueId> {
    let input = node.input(0)?;
    let (from, to) = (&graph.value(input).dims, &graph.value(*node.outputs.first()?).dims);
    let same = from.len() == to.len() && from.iter().zip(to).all(|(a, b)| a.same(b));
    let idle = match &node.op {
        Op::Plain(Plain::Identity) => true,
        Op::Plain(Plain::Reshape | Plain::Expand) => same,
        Op::Transpose { order } => order.iter().copied().eq(0..order.len() as i64),
        Op::Concat { .. } => node.inputs.len() == 1,
        Op::Cast { to } => graph.value(input).dtype == *to,
        _ => false,
    };
    idle.then_some(input)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::op::{Op, Plain};

    #[test]
    fn idle_nodes_go_and_the_output_keeps_its_name() {
        let mut build = Build::new(&[2, 3]);
        let x = build.x();
        let y = build.node(Op::Transpose { order: vec![0, 1] }, &[x], &[2, 3]);
        let y = build.node(Plain::Relu, &[y], &[2, 3]);
        let shape = build.int64s(&[2, 3]);
        let y = build.node(Plain::Reshape, &[y, shape], &[2, 3]);
        let y = build.node(Op::Concat { axis: 1 }, &[y], &[2, 3]);
        let after = build.output(y).check(super::run);
        assert_eq!(after.nodes.len(), 1);
        assert_eq!(after.value(after.outputs[0]).name, "y");
    }
}
