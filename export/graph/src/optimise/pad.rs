//! `Pad` with zeros before a `Conv` becomes the convolution's own padding, which saves a node and a padded copy.

use super::wiring::{Wiring, each};
use crate::graph::{Graph, ValueId};
use crate::op::{Op, PadMode, Window};

pub(super) fn run(graph: &mut Graph) -> bool {
    each(graph, find, |graph, index, (op, source)| {
        graph.nodes[index].op = op;
        graph.nodes[index].inputs[0] = Some(source);
    })
}

/// Matches the `Pad` before the convolution at `index`: the convolution with its padding, and the unpadded input.
fn find(wiring: &Wiring<'_>, index: usize) -> Option<(Op, ValueId)> {
    let node = &wiring.graph.nodes[index];
    let Op::Conv { window, group } = &node.op else { return None };
    let pad = wiring.inner_node(node.input(0)?)?;
    let zero = pad.input(2).is_none_or(|value| wiring.number(value) == Some(0.0));
    if pad.op != (Op::Pad { mode: PadMode::Constant }) || pad.inputs.len() > 3 || !zero {
        return None;
    }
    let (source, pads) = (pad.input(0)?, wiring.graph.int64s(pad.input(1)?)?);
    // `Pad` lists the padding before all axes, then that after them; batch and channels come first.
    let rank = window.pads.len() / 2 + 2;
    let spatial = pads.len() == 2 * rank
        && pads.iter().enumerate().all(|(at, &size)| if at % rank < 2 { size == 0 } else { size >= 0 });
    let added = pads.iter().enumerate().filter(|(at, _)| at % rank >= 2).map(|(_, &size)| size);
    let total: Option<Vec<i64>> = window.pads.iter().zip(added).map(|(own, added)| own.checked_add(added)).collect();
    let window = Window { pads: total?, ..window.clone() };
    spatial.then_some((Op::Conv { window, group: *group }, source))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Build, Built};
    use crate::op::{Op, PadMode, Window};

    fn graph(mode: PadMode, value: f64) -> Built {
        let mut build = Build::new(&[2, 3, 5, 4]);
        let x = build.x();
        let (pads, value) = (build.int64s(&[0, 0, 1, 0, 0, 0, 2, 3]), build.number(value));
        let inputs = if mode == PadMode::Constant { vec![x, pads, value] } else { vec![x, pads] };
        let y = build.node(Op::Pad { mode }, &inputs, &[2, 3, 8, 7]);
        let weight = build.weights(&[4, 3, 3, 3]);
        let window = Window { kernel: vec![3; 2], strides: vec![1; 2], pads: vec![0, 1, 0, 0], dilations: vec![1; 2] };
        let y = build.node(Op::Conv { window, group: 1 }, &[y, weight], &[2, 4, 6, 6]);
        build.output(y)
    }

    #[test]
    fn zeros_are_the_convolutions_own() {
        let after = graph(PadMode::Constant, 0.0).check(super::run);
        assert_eq!(after.nodes.len(), 1);
        let Op::Conv { window, .. } = &after.nodes[0].op else { panic!("{:?}", after.nodes) };
        assert_eq!(window.pads, [1, 1, 2, 3]);
    }

    #[test]
    fn other_borders_stay() {
        graph(PadMode::Constant, 1.0).unchanged(super::run);
        graph(PadMode::Edge, 0.0).unchanged(super::run);
    }
}
