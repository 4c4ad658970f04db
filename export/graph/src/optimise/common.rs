//! Of two nodes with the same operator, attributes and inputs the second is dropped, unless they draw random numbers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::rewrite::bypass;
use crate::graph::{Graph, ValueId};
use crate::tensor::DType;

pub(super) fn run(graph: &mut Graph) -> bool {
    let mut seen: HashMap<String, ValueId> = HashMap::new();
    let mut changed = false;
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        let (&[output], false) = (node.outputs.as_slice(), node.op.is_random()) else {
            index += 1;
            continue;
        };
        let key = format!("{:?} {:?}", node.op, node.inputs);
        match seen.get(&key) {
            Some(&first) if bypass(graph, index, first) => {
                changed = true;
                // The first node may have taken over the name of an output.
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

/// Merges equal constants, under the shorter name. Weights that several nodes share are folded separately for each and
/// come out equal. Compares all constants, so it runs once, at the end.
pub(super) fn constants(graph: &mut Graph) {
    let mut first: HashMap<(DType, &[usize], &[u8]), ValueId> = HashMap::new();
    let mut same = vec![];
    for (id, tensor) in graph.initialisers() {
        match first.entry((tensor.dtype(), tensor.dims(), tensor.bytes())) {
            Entry::Occupied(mut entry) => {
                let (kept, other) = (*entry.get(), id);
                if graph.value(other).name.len() < graph.value(kept).name.len() {
                    entry.insert(other);
                }
                same.push((kept, other));
            }
            Entry::Vacant(entry) => {
                entry.insert(id);
            }
        }
    }
    // Shapes and bounds are not merged: they are small and belong to their nodes.
    for (a, b) in same {
        if graph.value(a).dtype == DType::Int64 {
            continue;
        }
        let (kept, dropped) = if graph.value(b).name.len() < graph.value(a).name.len() { (b, a) } else { (a, b) };
        graph.redirect(dropped, kept);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::op::Plain;

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

    #[test]
    fn equal_constants_are_one() {
        let mut build = Build::new(&[2, 3]);
        let x = build.x();
        let (a, b) = (build.weights(&[3]), build.weights(&[3]));
        let copy = build.copy(a, "longer name");
        let y = build.node(Plain::Mul, &[x, a], &[2, 3]);
        let y = build.node(Plain::Add, &[y, b], &[2, 3]);
        let y = build.node(Plain::Mul, &[y, copy], &[2, 3]);
        let after = build.output(y).check(|graph| {
            super::constants(graph);
            super::super::dead_code::run(graph)
        });
        assert_eq!(after.initialisers().count(), 2);
        assert!(after.initialiser_named("longer name").is_none());
    }
}
