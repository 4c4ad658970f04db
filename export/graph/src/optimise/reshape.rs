//! `Reshape` of a `Reshape` reads the first one's input.

use crate::dim::Dim;
use crate::graph::Graph;
use crate::op::Plain;
use crate::tensor::Tensor;

pub(super) fn run(graph: &mut Graph) -> bool {
    let mut changed = false;
    let producers = graph.producers();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        if !node.is(Plain::Reshape) {
            continue;
        }
        let Some(first) = node.input(0).and_then(|id| producers.of(id)) else { continue };
        let before = &graph.nodes[first];
        if !before.is(Plain::Reshape) {
            continue;
        }
        let (Some(source), Some(&output)) = (before.input(0), node.outputs.first()) else { continue };
        // A 0 in the target spoke of the shape in between: the target is worked out anew, or the pair stays.
        let Some(target) = target(&graph.value(source).dims, &graph.value(output).dims) else { continue };
        let name = format!("{}/shape", node.name);
        let target = graph.add_initialiser(&name, Tensor::int64s(&target));
        graph.nodes[index].inputs = vec![Some(source), Some(target)];
        changed = true;
    }
    changed
}

/// Target of a reshape: numbers, 0 for a dynamic axis in its place, -1 for one other.
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
    use super::super::{dead_code, testing::Build};
    use crate::op::Plain;

    #[test]
    fn two_become_one() {
        let mut build = Build::new(&[2, 6]);
        let x = build.x();
        let shape = build.int64s(&[2, 3, 2]);
        let y = build.node(Plain::Reshape, &[x, shape], &[2, 3, 2]);
        let shape = build.int64s(&[0, 6, 1]);
        let y = build.node(Plain::Reshape, &[y, shape], &[2, 6, 1]);
        let after = build.output(y).check(|graph| super::run(graph) && dead_code::run(graph));
        assert_eq!(after.nodes.len(), 1);
    }
}
