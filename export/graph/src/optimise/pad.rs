//! `Pad` with zeros before a `Conv` becomes the convolution's own padding: one node less, and no padded copy.

use super::wiring::Wiring;
use crate::graph::Graph;
use crate::op::{Op, PadMode};

pub(super) fn run(graph: &mut Graph) -> bool {
    let wiring = Wiring::of(graph);
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let (Op::Conv { window, group }, Some(padded)) = (&node.op, node.input(0)) else { continue };
        let Some(pad) = wiring.inner_node(padded) else { continue };
        if pad.op != (Op::Pad { mode: PadMode::Constant }) || pad.inputs.len() > 3 {
            continue;
        }
        let zero = pad.input(2).is_none_or(|value| wiring.number(value) == Some(0.0));
        let (Some(source), Some(pads)) = (pad.input(0), pad.input(1).and_then(|pads| graph.int64s(pads))) else {
            continue;
        };
        // All begins and then all ends; batch and channels first.
        let rank = window.pads.len() / 2 + 2;
        let spatial = pads.len() == 2 * rank
            && pads.iter().enumerate().all(|(at, &size)| if at % rank < 2 { size == 0 } else { size >= 0 });
        if !(zero && spatial) {
            continue;
        }
        let added = pads.iter().enumerate().filter(|(at, _)| at % rank >= 2).map(|(_, &size)| size);
        let Some(total) = window.pads.iter().zip(added).map(|(own, added)| own.checked_add(added)).collect() else {
            continue;
        };
        let mut window = window.clone();
        window.pads = total;
        graph.nodes[index].op = Op::Conv { window, group: *group };
        graph.nodes[index].inputs[0] = Some(source);
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::dead_code;
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
        let after = graph(PadMode::Constant, 0.0).check(|graph| super::run(graph) && dead_code::run(graph));
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
