//! Two nodes with the same operator, attributes and inputs compute the same: the second is dropped.

use std::collections::HashMap;

use super::bypass;
use crate::graph::{Graph, ValueId};

pub(super) fn run(graph: &mut Graph) -> bool {
    let mut seen: HashMap<String, ValueId> = HashMap::new();
    let mut changed = false;
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        let &[output] = node.outputs.as_slice() else {
            index += 1;
            continue;
        };
        let key = format!("{:?} {:?}", node.op, node.inputs);
        match seen.get(&key) {
            Some(&first) if bypass(graph, index, first) => {
                changed = true;
                // The first may have taken over the name of an output.
                seen.clear();
                index = 0;
            }
            Some(_) => index += 1,
            None => {
                seen.insert(key, output);
                index += 1;
            }
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::graph::Plain;

    #[test]
    fn the_same_twice_is_once() {
        let mut build = Build::new(&[2, 3]);
        let x = build.x();
        let a = build.node(Plain::Exp, &[x], &[2, 3]);
        let b = build.node(Plain::Exp, &[x], &[2, 3]);
        let sum = build.node(Plain::Add, &[a, b], &[2, 3]);
        let after = build.output(sum).check(super::run);
        assert_eq!(after.nodes.len(), 2);
    }
}
