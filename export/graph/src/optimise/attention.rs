//! Multi-head attention in pieces, from `[batch, length, heads·width]` and back to it, becomes one `Attention`: one
//! node for twelve. ONNX Runtime 1.31 fuses only the scale of the pieces, into a product; with the operator it
//! transposes less.
//!
//! An additive mask is kept. A mask that replaces scores by a number other than minus infinity is not: if it hides all
//! keys of a row, it weighs them equally.

use super::rewrite::beside;
use super::wiring::{Wiring, each};
use crate::graph::{Graph, ValueId};
use crate::op::{Op, Plain};

/// First operator set with `Attention`.
pub(super) const SINCE: u32 = 23;

pub(super) fn run(graph: &mut Graph) -> bool {
    each(
        graph,
        |wiring, index| wiring.attention(index),
        |graph, index, Attention { softmax, heads, scale, inputs }| {
            graph.nodes[index].name = graph.node_name(&beside(&softmax, "Attention"));
            graph.nodes[index].op = Op::Attention { heads: Some(heads), is_causal: false, scale, softcap: 0.0 };
            graph.nodes[index].inputs = inputs.into_iter().map(Some).collect();
        },
    )
}

/// The matched pieces of an attention.
struct Attention {
    /// Name of the softmax, from which the module's name is taken.
    softmax: String,
    /// Heads of the query, and heads of keys and values.
    heads: [i64; 2],
    scale: f32,
    /// Query, key, value and optional mask.
    inputs: Vec<ValueId>,
}

impl Wiring<'_> {
    /// Matches the attention that ends with the reshape at `index`.
    fn attention(&self, index: usize) -> Option<Attention> {
        let last = &self.graph.nodes[index];
        if !last.is(Plain::Reshape) {
            return None;
        }
        let turned = self.inner_node(last.input(0)?)?;
        let product = self.inner_node(turned.input(0)?)?;
        if turned.op != (Op::Transpose { order: vec![0, 2, 1, 3] }) || !product.is(Plain::MatMul) {
            return None;
        }
        let softmax = self.inner_node(product.input(0)?)?;
        if softmax.op != (Op::Softmax { axis: 3 }) {
            return None;
        }
        let (scores, mask) = self.masked(softmax.input(0)?)?;
        let (scores, scale) = self.scaled(scores)?;
        let scores = self.inner_node(scores).filter(|node| node.is(Plain::MatMul))?;
        let (query, heads) = self.split(scores.input(0)?, [0, 2, 1, 3])?;
        let (key, key_heads) = self.split(scores.input(1)?, [0, 2, 3, 1])?;
        let (value, value_heads) = self.split(product.input(1)?, [0, 2, 1, 3])?;
        let joined = self.graph.value(*last.outputs.first()?);
        let [out, query_dims] = [&joined.dims, &self.graph.value(query).dims];
        let width = self.graph.value(value).dims[2].size()?;
        let whole = out.len() == 3 && out[0].same(&query_dims[0]) && out[1].same(&query_dims[1]);
        if !whole || out[2].size()? != width || [key_heads, value_heads] != [heads; 2] {
            return None;
        }
        let inputs = [query, key, value].into_iter().chain(mask).collect();
        Some(Attention { softmax: softmax.name.clone(), heads: [heads; 2], scale, inputs })
    }

    /// Scores and the mask that is added to them, if any.
    fn masked(&self, value: ValueId) -> Option<(ValueId, Option<ValueId>)> {
        let node = self.inner_node(value)?;
        if !node.is(Plain::Add) {
            return Some((value, None));
        }
        let sides = [node.input(0)?, node.input(1)?];
        let is_score = |value: &ValueId| {
            self.inner_node(*value)
                .is_some_and(|node| node.is(Plain::MatMul) || node.is(Plain::Div) || node.is(Plain::Mul))
        };
        let scores = sides.into_iter().find(is_score)?;
        let mask = sides.into_iter().find(|&side| side != scores)?;
        // The mask must be as large as the scores or broadcast to them.
        (self.graph.value(mask).dims.len() <= 4).then_some((scores, Some(mask)))
    }

    /// Scores and their scale factor.
    fn scaled(&self, value: ValueId) -> Option<(ValueId, f32)> {
        let node = self.inner_node(value)?;
        if !(node.is(Plain::Div) || node.is(Plain::Mul)) {
            return Some((value, 1.0));
        }
        let number = self.number(node.input(1)?)?;
        let scale = if node.is(Plain::Div) { 1.0 / number } else { number };
        // `Attention` reads scale 0 as "not given".
        (scale > 0.0 && scale.is_finite()).then_some((node.input(0)?, scale as f32))
    }

    /// The tensor `[batch, length, heads·width]` that was split into heads, and the number of heads.
    fn split(&self, value: ValueId, order: [i64; 4]) -> Option<(ValueId, i64)> {
        let turned = self.node(value).filter(|node| node.op == (Op::Transpose { order: order.to_vec() }))?;
        let reshaped = turned.input(0)?;
        let source = self.node(reshaped).filter(|node| node.is(Plain::Reshape))?.input(0)?;
        let [from, to] = [source, reshaped].map(|value| self.graph.value(value).dims.as_slice());
        let ([batch, length, whole], [same_batch, same_length, heads, width]) = (from, to) else { return None };
        let fits =
            batch.same(same_batch) && length.same(same_length) && whole.size()? == heads.size()? * width.size()?;
        fits.then_some((source, i64::try_from(heads.size()?).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::graph::ValueId;
    use crate::op::{Op, Plain};

    const SHAPE: [usize; 3] = [2, 5, 12];
    const HEADS: usize = 3;

    /// Projections of the input, split into heads.
    fn heads(build: &mut Build, order: [i64; 4], dims: [usize; 4]) -> ValueId {
        let (x, weight) = (build.x(), build.weights(&[12, 12]));
        let y = build.node(Plain::MatMul, &[x, weight], &SHAPE);
        let shape = build.int64s(&[2, 5, 3, 4]);
        let y = build.node(Plain::Reshape, &[y, shape], &[2, 5, HEADS, 4]);
        build.node(Op::Transpose { order: order.to_vec() }, &[y], &dims)
    }

    /// Attention in pieces, where `change` modifies the scores.
    fn attention(change: impl Fn(&mut Build, ValueId) -> ValueId) -> (Build, ValueId) {
        let mut build = Build::new(&SHAPE);
        let query = heads(&mut build, [0, 2, 1, 3], [2, HEADS, 5, 4]);
        let key = heads(&mut build, [0, 2, 3, 1], [2, HEADS, 4, 5]);
        let value = heads(&mut build, [0, 2, 1, 3], [2, HEADS, 5, 4]);
        let scores = build.node(Plain::MatMul, &[query, key], &[2, HEADS, 5, 5]);
        let scores = change(&mut build, scores);
        let weights = build.node(Op::Softmax { axis: 3 }, &[scores], &[2, HEADS, 5, 5]);
        let y = build.node(Plain::MatMul, &[weights, value], &[2, HEADS, 5, 4]);
        let y = build.node(Op::Transpose { order: vec![0, 2, 1, 3] }, &[y], &[2, 5, HEADS, 4]);
        let shape = build.int64s(&[2, 5, 12]);
        let y = build.node(Plain::Reshape, &[y, shape], &SHAPE);
        (build, y)
    }

    const SCORES: [usize; 4] = [2, HEADS, 5, 5];

    #[test]
    fn pieces_become_one_node() {
        let plain = |_: &mut Build, scores| scores;
        let divided = |build: &mut Build, scores| {
            let root = build.number(2.0);
            build.node(Plain::Div, &[scores, root], &SCORES)
        };
        let masked = |build: &mut Build, scores| {
            let scale = build.number(0.3);
            let scores = build.node(Plain::Mul, &[scores, scale], &SCORES);
            let mask = build.weights(&[5, 5]);
            build.node(Plain::Add, &[scores, mask], &SCORES)
        };
        let check = |(build, y): (Build, ValueId), inputs: usize| {
            let after = build.output(y).at(super::SINCE).check(super::run);
            let [.., last] = after.nodes.as_slice() else { panic!("no nodes") };
            assert_eq!((after.nodes.len(), last.inputs.len()), (4, inputs));
            assert!(matches!(last.op, Op::Attention { heads: Some([3, 3]), .. }), "{:?}", last.op);
        };
        check(attention(plain), 3);
        check(attention(divided), 3);
        check(attention(masked), 4);
    }

    #[test]
    fn what_replaces_scores_stays() {
        let (build, y) = attention(|build, scores| {
            let (mask, low) = (build.weights(&[5, 5]), build.number(-1e4));
            let mask = build.typed(Plain::Less, &[mask, low], &[5, 5], crate::tensor::DType::Bool);
            build.node(Plain::Where, &[mask, low, scores], &SCORES)
        });
        build.output(y).at(super::SINCE).unchanged(super::run);
        let (build, y) = attention(|build, scores| build.node(Plain::Relu, &[scores], &SCORES));
        build.output(y).at(super::SINCE).unchanged(super::run);
    }
}
