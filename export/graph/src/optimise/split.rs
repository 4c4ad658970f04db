//! `Slice`s of one tensor that cut an axis into pieces, without gap or overlap, become one `Split`. Queries, keys and
//! values of attention are often cut like this.

use std::collections::BTreeMap;

use super::rewrite::sibling;
use crate::graph::{Graph, Node, ValueId};
use crate::op::{Op, Plain};
use crate::tensor::{DType, Tensor};

pub(super) fn run(graph: &mut Graph) -> bool {
    let mut groups: BTreeMap<(ValueId, usize), Vec<Piece>> = BTreeMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Some((source, axis, piece)) = piece(graph, index, node) {
            groups.entry((source, axis)).or_default().push(piece);
        }
    }
    for ((source, axis), mut pieces) in groups {
        pieces.sort_by_key(|piece| piece.start);
        let follows = pieces.windows(2).all(|pair| pair[0].end == pair[1].start);
        let whole = graph.value(source).dims[axis].size().map(|size| (0, size as i64));
        let ends = pieces.first().zip(pieces.last()).map(|(first, last)| (first.start, last.end));
        if pieces.len() > 1 && follows && ends == whole {
            replace(graph, source, axis, &pieces);
            return true;
        }
    }
    false
}

/// The range that one `Slice` selects.
struct Piece {
    /// Index of the node.
    index: usize,
    start: i64,
    /// One past the last element.
    end: i64,
}

/// The tensor, axis and range of a node, if it is a `Slice` of one axis with constant bounds and step 1.
fn piece(graph: &Graph, index: usize, node: &Node) -> Option<(ValueId, usize, Piece)> {
    let source = node.input(0).filter(|_| node.is(Plain::Slice))?;
    let only = |input: usize| match graph.int64s(node.input(input)?)?.as_slice() {
        &[number] => Some(number),
        _ => None,
    };
    let value = graph.value(source);
    // ONNX Runtime's `Split` does not support every type.
    let known = matches!(value.dtype, DType::Float | DType::Int32 | DType::Int64);
    if !known || (node.input(4).is_some() && only(4) != Some(1)) {
        return None;
    }
    let axis = usize::try_from(only(3)?).ok()?;
    let size = value.dims.get(axis)?.size()? as i64;
    let place = |number: i64| if number < 0 { number.saturating_add(size).max(0) } else { number.min(size) };
    let (start, end) = (place(only(1)?), place(only(2)?));
    (start < end).then_some((source, axis, Piece { index, start, end }))
}

/// Replaces the pieces by a `Split` in the place of the first one.
fn replace(graph: &mut Graph, source: ValueId, axis: usize, pieces: &[Piece]) {
    let mut places: Vec<usize> = pieces.iter().map(|piece| piece.index).collect();
    places.sort_unstable();
    let name = sibling(graph, places[0], "Split");
    let sizes: Vec<i64> = pieces.iter().map(|piece| piece.end - piece.start).collect();
    let sizes = graph.add_initialiser(&format!("{name}/sizes"), Tensor::int64s(&sizes));
    let outputs = pieces.iter().map(|piece| graph.nodes[piece.index].outputs[0]).collect();
    let inputs = vec![Some(source), Some(sizes)];
    graph.nodes[places[0]] = Node { name, op: Op::Split { axis: axis as i64 }, inputs, outputs };
    for &index in places[1..].iter().rev() {
        graph.nodes.remove(index);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use super::*;

    /// The sum of slices of axis 1 of `[2, 6, 3]`, each multiplied by its index; all are 2 wide.
    fn sliced(ranges: &[[i64; 2]]) -> super::super::testing::Built {
        let mut build = Build::new(&[2, 6, 3]);
        let x = build.x();
        let mut sum = None;
        for (number, [start, end]) in (1..).zip(ranges) {
            let inputs = [x, build.int64s(&[*start]), build.int64s(&[*end]), build.int64s(&[1])];
            let part = build.node(Plain::Slice, &inputs, &[2, 2, 3]);
            let factor = build.number(f64::from(number));
            let part = build.node(Plain::Mul, &[part, factor], &[2, 2, 3]);
            sum = Some(sum.map_or(part, |sum| build.node(Plain::Add, &[sum, part], &[2, 2, 3])));
        }
        build.output(sum.unwrap())
    }

    #[test]
    fn pieces_in_any_order_are_one_split() {
        for (opset, ranges) in [(17, [[2, 4], [0, 2], [4, 6]]), (20, [[-2, i64::MAX], [0, 2], [2, -2]])] {
            let after = sliced(&ranges).at(opset).check(run);
            let splits: Vec<&Node> = after.nodes.iter().filter(|node| node.op == Op::Split { axis: 1 }).collect();
            assert!(splits.len() == 1 && splits[0].outputs.len() == 3, "{:?}", after.nodes);
            assert!(!after.nodes.iter().any(|node| node.is(Plain::Slice)));
        }
    }

    #[test]
    fn gaps_overlaps_and_single_pieces_stay() {
        sliced(&[[0, 2], [4, 6]]).unchanged(run);
        sliced(&[[0, 2], [2, 4]]).unchanged(run);
        sliced(&[[0, 2], [1, 3], [2, 4], [4, 6]]).unchanged(run);
        sliced(&[[0, 2], [2, 4], [2, 4], [4, 6]]).unchanged(run);
        sliced(&[[4, 6]]).unchanged(run);
    }

    #[test]
    fn steps_stay() {
        let mut build = Build::new(&[2, 6]);
        let x = build.x();
        let mut half = |start: i64, end: i64| {
            let inputs = [start, end, 1, 2].map(|number| build.int64s(&[number]));
            build.node(Plain::Slice, &[[x].as_slice(), &inputs].concat(), &[2, 2])
        };
        let (a, b) = (half(0, 3), half(3, 6));
        let sum = build.node(Plain::Add, &[a, b], &[2, 2]);
        build.output(sum).unchanged(run);
    }
}
