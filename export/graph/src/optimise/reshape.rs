//! A `Reshape` of a `Reshape` reads the first one's input.

use super::wiring::{Wiring, each};
use crate::dim::Dim;
use crate::graph::{Graph, ValueId};
use crate::op::Plain;
use crate::tensor::Tensor;

pub(super) fn run(graph: &mut Graph) -> bool {
    each(graph, find, |graph, index, (source, target)| {
        let name = format!("{}/shape", graph.nodes[index].name);
        let target = graph.add_initialiser(&name, Tensor::int64s(&target));
        graph.nodes[index].inputs = vec![Some(source), Some(target)];
    })
}

/// Matches a pair of reshapes that ends at `index`: the input of the first, and the target shape from there.
fn find(wiring: &Wiring<'_>, index: usize) -> Option<(ValueId, Vec<i64>)> {
    let graph = wiring.graph;
    let node = graph.nodes.get(index).filter(|node| node.is(Plain::Reshape))?;
    let source = wiring.node(node.input(0)?).filter(|first| first.is(Plain::Reshape))?.input(0)?;
    // A 0 in the target copies a size of the shape in between: compute a new target, or else keep the pair.
    let target = target(&graph.value(source).dims, &graph.value(*node.outputs.first()?).dims)?;
    Some((source, target))
}

/// Target of a reshape: numbers, 0 for a dynamic axis that keeps its index, and at most one -1.
fn target(from: &[Dim], to: &[Dim]) -> Option<Vec<i64>> {
    let mut free = 0;
    let target = to
        .iter()
        .enumerate()
        .map(|(axis, dim)| match dim.size() {
            Some(size) => size as i64,
            None if from.get(axis).is_some_and(|old| old.same(dim)) => 0,
            None => {
                free += 1;
                -1
            }
        })
        .collect();
    (free <= 1 && !to.contains(&Dim::Size(0))).then_some(target)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::op::Plain;

    #[test]
    fn two_become_one() {
        let mut build = Build::new(&[2, 6]);
        let x = build.x();
        let shape = build.int64s(&[2, 3, 2]);
        let y = build.node(Plain::Reshape, &[x, shape], &[2, 3, 2]);
        let shape = build.int64s(&[0, 6, 1]);
        let y = build.node(Plain::Reshape, &[y, shape], &[2, 6, 1]);
        let after = build.output(y).check(super::run);
        assert_eq!(after.nodes.len(), 1);
    }
}
