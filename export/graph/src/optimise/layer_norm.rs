//! A layer norm in pieces, `(x - mean) / √(variance + ε)` over the last axis, with its scale and shift, becomes one
//! `LayerNormalization`: one node for up to nine. ONNX Runtime 1.31 recognises the pieces only if `Pow` computes the
//! square.

use super::rewrite::sibling;
use super::wiring::{Wiring, each};
use crate::graph::{Graph, Node, ValueId};
use crate::op::{Op, Plain, Reduction};
use crate::tensor::Tensor;

pub(super) fn run(graph: &mut Graph) -> bool {
    each(graph, find, |graph, _, Norm { last, x, epsilon, parameters }| {
        let mut inputs = vec![Some(x)];
        for (constant, vector) in parameters {
            inputs.push(Some(match constant {
                Some(constant) => graph.reshape_initialiser(constant, vector),
                None => graph.add_initialiser("ones", vector),
            }));
        }
        graph.nodes[last].name = sibling(graph, last, "LayerNormalization");
        graph.nodes[last].op = Op::LayerNormalization { axis: -1, epsilon };
        graph.nodes[last].inputs = inputs;
    })
}

/// A matched layer norm.
struct Norm {
    /// Index of its last node.
    last: usize,
    x: ValueId,
    epsilon: f32,
    /// Scale and optional shift, each with the constant that held it, if one did.
    parameters: Vec<(Option<ValueId>, Tensor)>,
}

/// Matches the norm whose quotient is the node at `index`.
fn find(wiring: &Wiring<'_>, index: usize) -> Option<Norm> {
    let graph = wiring.graph;
    let (x, epsilon) = wiring.normalised(&graph.nodes[index])?;
    let width = graph.value(x).dims.last()?.size()?;
    let (mut last, mut parameters) = (index, vec![]);
    for operator in [Plain::Mul, Plain::Add] {
        let Some((next, constant)) = wiring.affine(last, operator, width) else { break };
        last = next;
        parameters.push((Some(constant), graph.initialiser(constant)?.reshaped(vec![width])?));
    }
    if parameters.is_empty() {
        parameters.push((None, Tensor::from_f64s(graph.value(x).dtype, vec![width], &vec![1.0; width])?));
    }
    Some(Norm { last, x, epsilon, parameters })
}

impl Wiring<'_> {
    /// The only reader of node `index` and its constant, if it is `operator` with a constant vector along the last
    /// axis.
    fn affine(&self, index: usize, operator: Plain, width: usize) -> Option<(usize, ValueId)> {
        let &output = self.graph.nodes[index].outputs.first()?;
        let next = self.only_reader(index, output)?;
        let node = &self.graph.nodes[next];
        let other = [node.input(0)?, node.input(1)?].into_iter().find(|&id| id != output)?;
        let dims = self.graph.initialiser(other)?.dims();
        let is_row = dims.last() == Some(&width) && dims[..dims.len() - 1].iter().all(|&size| size == 1);
        let keeps_shape = dims.len() <= self.graph.value(output).dims.len();
        (node.is(operator) && is_row && keeps_shape).then_some((next, other))
    }

    /// The value whose mean over the last axis this is.
    fn averaged(&self, value: Option<ValueId>) -> Option<ValueId> {
        let node = self.node(value?)?;
        let source = node.input(0)?;
        let rank = self.graph.value(source).dims.len() as i64;
        match &node.op {
            Op::Reduce { reduction: Reduction::Mean, axes, keep_dims: true } if *axes == [rank - 1] => Some(source),
            // A sum divided by the number of its terms.
            Op::Plain(Plain::Div | Plain::Mul) => {
                let sum = self.node(source)?;
                let of = sum.input(0)?;
                let Op::Reduce { reduction: Reduction::Sum, axes, keep_dims: true } = &sum.op else { return None };
                let dims = &self.graph.value(of).dims;
                let (count, number) = (dims.last()?.size()? as f64, self.number(node.input(1)?)?);
                let number = if node.is(Plain::Mul) { 1.0 / number } else { number };
                (*axes == [dims.len() as i64 - 1] && (number / count - 1.0).abs() < 1e-6).then_some(of)
            }
            _ => None,
        }
    }

    /// `x` of `x - mean(x)`.
    fn centred(&self, value: Option<ValueId>) -> Option<ValueId> {
        let node = self.node(value?).filter(|node| node.is(Plain::Sub))?;
        let x = node.input(0)?;
        (self.averaged(node.input(1)) == Some(x)).then_some(x)
    }

    /// The value whose square this is.
    fn squared(&self, value: ValueId) -> Option<ValueId> {
        let node = self.node(value)?;
        let (a, b) = (node.input(0)?, node.input(1)?);
        let square = (node.is(Plain::Mul) && a == b) || (node.is(Plain::Pow) && self.number(b) == Some(2.0));
        square.then_some(a)
    }

    /// `x` and ε of `(x - mean) / √(variance + ε)`.
    pub(super) fn normalised(&self, node: &Node) -> Option<(ValueId, f32)> {
        let x = self.centred(node.input(0)).filter(|&x| self.graph.value(x).dtype.is_float())?;
        let root = if node.is(Plain::Div) {
            self.node(node.input(1)?)?
        } else if node.is(Plain::Mul) {
            let inverse = self.node(node.input(1)?).filter(|node| node.is(Plain::Reciprocal))?;
            self.node(inverse.input(0)?)?
        } else {
            return None;
        };
        let under = root.input(0).filter(|_| root.is(Plain::Sqrt))?;
        let sum = self.node(under).filter(|sum| sum.is(Plain::Add))?;
        let (a, b) = (sum.input(0)?, sum.input(1)?);
        let (variance, epsilon) = if self.number(b).is_some() { (a, b) } else { (b, a) };
        let epsilon = self.number(epsilon).filter(|epsilon| *epsilon > 0.0)? as f32;
        let of_square = self.squared(self.averaged(Some(variance))?)?;
        (self.centred(Some(of_square)) == Some(x)).then_some((x, epsilon))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::graph::ValueId;
    use crate::op::{Op, Plain, Reduction};

    const SHAPE: [usize; 3] = [2, 3, 5];
    const COLUMN: [usize; 3] = [2, 3, 1];

    fn mean(build: &mut Build, x: ValueId, axis: i64) -> ValueId {
        let op = Op::Reduce { reduction: Reduction::Mean, axes: vec![axis], keep_dims: true };
        build.node(op, &[x], &COLUMN)
    }

    fn pieces(build: &mut Build, as_power: bool) -> ValueId {
        let x = build.x();
        let mean_of = mean(build, x, 2);
        let centred = build.node(Plain::Sub, &[x, mean_of], &SHAPE);
        let square = if as_power {
            let two = build.number(2.0);
            build.node(Plain::Pow, &[centred, two], &SHAPE)
        } else {
            build.node(Plain::Mul, &[centred, centred], &SHAPE)
        };
        let variance = mean(build, square, 2);
        let epsilon = build.number(1e-5);
        let sum = build.node(Plain::Add, &[variance, epsilon], &COLUMN);
        let root = build.node(Plain::Sqrt, &[sum], &COLUMN);
        if as_power {
            let inverse = build.node(Plain::Reciprocal, &[root], &COLUMN);
            return build.node(Plain::Mul, &[centred, inverse], &SHAPE);
        }
        build.node(Plain::Div, &[centred, root], &SHAPE)
    }

    #[test]
    fn with_and_without_scale_and_shift() {
        for (parameters, as_power) in [(0, false), (1, true), (2, false)] {
            let mut build = Build::new(&SHAPE);
            let mut y = pieces(&mut build, as_power);
            for operator in [Plain::Mul, Plain::Add].into_iter().take(parameters) {
                let row = build.weights(&[1, 1, 5]);
                y = build.node(operator, &[y, row], &SHAPE);
            }
            let after = build.output(y).check(super::run);
            assert_eq!(after.nodes.len(), 1, "{:?}", after.nodes);
            assert_eq!(after.nodes[0].op, Op::LayerNormalization { axis: -1, epsilon: 1e-5 });
        }
    }

    #[test]
    fn not_over_another_axis() {
        let mut build = Build::new(&[2, 3, 3]);
        let x = build.x();
        let op = || Op::Reduce { reduction: Reduction::Mean, axes: vec![1], keep_dims: true };
        let mean = build.node(op(), &[x], &[2, 1, 3]);
        let centred = build.node(Plain::Sub, &[x, mean], &[2, 3, 3]);
        let square = build.node(Plain::Mul, &[centred, centred], &[2, 3, 3]);
        let variance = build.node(op(), &[square], &[2, 1, 3]);
        let epsilon = build.number(1e-5);
        let sum = build.node(Plain::Add, &[variance, epsilon], &[2, 1, 3]);
        let root = build.node(Plain::Sqrt, &[sum], &[2, 1, 3]);
        let y = build.node(Plain::Div, &[centred, root], &[2, 3, 3]);
        build.output(y).unchanged(super::run);
    }
}
