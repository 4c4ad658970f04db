//! Reductions, one axis after the other, become one, and drop their axes where a reshape behind them does; over all spatial
//! axes that stay they are a global pooling, which runtimes have fast kernels for, though not in double precision.

use super::sibling;
use crate::graph::{DType, Graph, Node, Op, Plain, Reduction};

pub(super) fn run(graph: &mut Graph) -> bool {
    merge(graph) || squeeze(graph) || name(graph)
}

/// What a node reduces, and along which axes, if these stay with size 1.
fn reduction(graph: &Graph, node: &Node) -> Option<(Reduction, Vec<i64>)> {
    let spatial = || Some((2..graph.value(node.input(0)?).dims.len() as i64).collect());
    match &node.op {
        Op::Reduce { reduction, axes, keep_dims: true } => Some((*reduction, axes.clone())),
        Op::Plain(Plain::GlobalAveragePool) => Some((Reduction::Mean, spatial()?)),
        Op::Plain(Plain::GlobalMaxPool) => Some((Reduction::Max, spatial()?)),
        _ => None,
    }
}

/// A `Reshape` that drops just the axes that were reduced, the only reader of a reduction: the reduction can do that.
fn squeeze(graph: &mut Graph) -> bool {
    let (uses, producers) = (graph.uses(), graph.producers());
    let found = graph.nodes.iter().enumerate().filter(|(_, node)| node.is(Plain::Reshape)).find_map(|(index, node)| {
        let reduced = node.input(0).filter(|id| uses.get(id) == Some(&1))?;
        let first = *producers.get(&reduced)?;
        let (reduction, axes) = reduction(graph, &graph.nodes[first])?;
        let stay = graph.value(reduced).dims.iter().zip(0..).filter(|(_, axis)| !axes.contains(axis));
        let (stay, to): (Vec<_>, _) = (stay.map(|(dim, _)| dim).collect(), &graph.value(node.outputs[0]).dims);
        let same = stay.len() == to.len() && stay.iter().zip(to).all(|(a, b)| a.same(b));
        same.then_some((index, first, Op::Reduce { reduction, axes, keep_dims: false }))
    });
    let Some((index, first, op)) = found else { return false };
    graph.nodes[first].name = sibling(graph, first, &op.name());
    graph.nodes[first].op = op;
    graph.nodes[first].outputs = std::mem::take(&mut graph.nodes[index].outputs);
    graph.nodes.remove(index);
    true
}

/// `Reduce(Reduce(x))` of one kind, the inner one read only here. A mean of means is the mean: groups are equally large.
fn merge(graph: &mut Graph) -> bool {
    let uses = graph.uses();
    let producers = graph.producers();
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Some(input) = node.input(0) else { continue };
        let Some(&first) = producers.get(&input) else { continue };
        let inner = &graph.nodes[first];
        let (
            Op::Reduce { reduction: a, axes: outer_axes, keep_dims: true },
            Op::Reduce { reduction: b, axes: inner_axes, keep_dims: true },
        ) = (&node.op, &inner.op)
        else {
            continue;
        };
        if a != b || uses.get(&input) != Some(&1) {
            continue;
        }
        let mut axes = [outer_axes.as_slice(), inner_axes].concat();
        axes.sort_unstable();
        axes.dedup();
        let op = Op::Reduce { reduction: *a, axes, keep_dims: true };
        let source = inner.inputs.clone();
        graph.nodes[index].op = op;
        graph.nodes[index].inputs = source;
        graph.nodes.remove(first);
        return true;
    }
    false
}

fn name(graph: &mut Graph) -> bool {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let Op::Reduce { reduction, axes, keep_dims: true } = &node.op else { continue };
        let Some(input) = node.input(0) else { continue };
        let value = graph.value(input);
        let rank = value.dims.len();
        if !(3..=5).contains(&rank)
            || !matches!(value.dtype, DType::Float | DType::Float16)
            || !axes.iter().copied().eq(2..rank as i64)
        {
            continue;
        }
        let pool = match reduction {
            Reduction::Max => Plain::GlobalMaxPool,
            Reduction::Mean => Plain::GlobalAveragePool,
            Reduction::L2 | Reduction::Min | Reduction::Prod | Reduction::Sum => continue,
        };
        graph.nodes[index].name = sibling(graph, index, &format!("{pool:?}"));
        graph.nodes[index].op = pool.into();
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::graph::{Op, Plain, Reduction};

    #[test]
    fn two_axes_are_a_global_pooling() {
        for (reduction, pool) in [(Reduction::Max, "GlobalMaxPool"), (Reduction::Mean, "GlobalAveragePool")] {
            let mut build = Build::new(&[2, 3, 4, 5]);
            let x = build.x();
            let along = |axis| Op::Reduce { reduction, axes: vec![axis], keep_dims: true };
            let y = build.node(along(3), &[x], &[2, 3, 4, 1]);
            let y = build.node(along(2), &[y], &[2, 3, 1, 1]);
            let after = build.output(y).check(|graph| super::run(graph) && super::run(graph));
            assert_eq!(after.nodes.len(), 1);
            assert_eq!(after.nodes[0].op.name(), pool);
        }
    }

    #[test]
    fn axes_that_are_dropped_at_once_are_dropped_in_reducing() {
        for reduction in [Reduction::Max, Reduction::Mean] {
            // By its own name as well.
            for named in [false, true] {
                let mut build = Build::new(&[2, 3, 4, 5]);
                let x = build.x();
                let op = Op::Reduce { reduction, axes: vec![2, 3], keep_dims: true };
                let pool = build.node(op, &[x], &[2, 3, 1, 1]);
                let shape = build.int64s(&[0, 3]);
                let y = build.node(Plain::Reshape, &[pool, shape], &[2, 3]);
                let y = build.node(Plain::Neg, &[y], &[2, 3]);
                let after = build.output(y).check(|graph| (!named || super::name(graph)) && super::squeeze(graph));
                assert_eq!(after.nodes.len(), 2);
                assert_eq!(after.nodes[0].op, Op::Reduce { reduction, axes: vec![2, 3], keep_dims: false });
            }
        }
    }

    #[test]
    fn other_shapes_and_other_readers_keep_the_axes() {
        for (target, read) in [([2, 3, 1].as_slice(), false), (&[3, 2], false), (&[2, 3], true)] {
            let mut build = Build::new(&[2, 3, 4, 5]);
            let x = build.x();
            let op = Op::Reduce { reduction: Reduction::Max, axes: vec![2, 3], keep_dims: true };
            let pool = build.node(op, &[x], &[2, 3, 1, 1]);
            let shape = build.int64s(&target.iter().map(|&size| size as i64).collect::<Vec<_>>());
            let mut y = build.node(Plain::Reshape, &[pool, shape], target);
            if read {
                let again = build.node(Plain::Relu, &[pool], &[2, 3, 1, 1]);
                y = build.node(Plain::Add, &[y, again], &[2, 3, 2, 3]);
            }
            build.output(y).unchanged(super::squeeze);
        }
    }

    #[test]
    fn a_reduction_over_channels_stays() {
        let mut build = Build::new(&[2, 3, 4, 5]);
        let x = build.x();
        let op = Op::Reduce { reduction: Reduction::Max, axes: vec![1], keep_dims: true };
        let y = build.node(op, &[x], &[2, 1, 4, 5]);
        build.output(y).unchanged(super::run);
    }
}
