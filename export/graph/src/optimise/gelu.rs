//! GELU in pieces becomes one `Gelu`, either with the error function, `x/2·(1 + erf(x/√2))`, or with the hyperbolic
//! tangent, `x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³)))`, whatever the order of the factors. ONNX Runtime 1.31 fuses the
//! first form itself but not the second, whose eight nodes take twice the time.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::rewrite::sibling;
use super::wiring::{Wiring, each};
use crate::graph::{Graph, ValueId};
use crate::op::{Op, Plain};

/// First operator set with `Gelu`.
pub(super) const SINCE: u32 = 20;

/// Largest relative difference of a factor from the formula's: rounding to f32, with some room.
const ROUNDING: f64 = 1e-6;

pub(super) fn run(graph: &mut Graph) -> bool {
    let find = |wiring: &Wiring<'_>, index: usize| {
        let node = &wiring.graph.nodes[index];
        let is_product = node.is(Plain::Mul) || node.is(Plain::Div);
        is_product.then(|| wiring.gelu(*node.outputs.first()?)).flatten()
    };
    each(graph, find, |graph, index, (x, tanh)| {
        graph.nodes[index].name = sibling(graph, index, "Gelu");
        graph.nodes[index].op = Op::Gelu { tanh };
        graph.nodes[index].inputs = vec![Some(x)];
    })
}

/// A product of a number and other values.
struct Product {
    scale: f64,
    factors: Vec<ValueId>,
}

fn near(found: f64, wanted: f64) -> bool {
    (found - wanted).abs() <= ROUNDING * wanted.abs()
}

impl Wiring<'_> {
    /// Splits a value into its factors.
    fn product(&self, value: ValueId) -> Product {
        let mut product = Product { scale: 1.0, factors: vec![] };
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            if let Some(number) = self.number(value) {
                product.scale *= number;
                continue;
            }
            let Some(node) = self.node(value).filter(|_| product.factors.len() + open.len() < 8) else {
                product.factors.push(value);
                continue;
            };
            match (node.input(0), node.input(1)) {
                (Some(a), Some(b)) if node.is(Plain::Mul) => open.extend([a, b]),
                (Some(a), Some(b)) if node.is(Plain::Div) && self.number(b).is_some_and(|number| number != 0.0) => {
                    product.scale /= self.number(b).unwrap_or(1.0);
                    open.push(a);
                }
                // A cube is three factors.
                (Some(a), Some(b)) if node.is(Plain::Pow) && self.number(b) == Some(3.0) => {
                    product.factors.extend([a, a, a]);
                }
                _ => product.factors.push(value),
            }
        }
        product
    }

    /// The two summands of a sum.
    fn sum(&self, value: ValueId) -> Option<[ValueId; 2]> {
        let node = self.node(value).filter(|node| node.is(Plain::Add))?;
        Some([node.input(0)?, node.input(1)?])
    }

    /// The argument of a GELU, and whether it is the form with the hyperbolic tangent.
    fn gelu(&self, value: ValueId) -> Option<(ValueId, bool)> {
        let Product { scale, factors } = self.product(value);
        let &[a, b] = factors.as_slice() else { return None };
        if !near(scale, 0.5) {
            return None;
        }
        [(a, b), (b, a)].into_iter().find_map(|(x, gate)| {
            let sides = self.sum(gate)?;
            let [left, right] = sides;
            let function = if self.number(left) == Some(1.0) { right } else { left };
            if !sides.iter().any(|&side| self.number(side) == Some(1.0)) {
                return None;
            }
            let node = self.node(function)?;
            let argument = self.product(node.input(0)?);
            let is_erf = node.is(Plain::Erf) && argument.factors == [x] && near(argument.scale, FRAC_1_SQRT_2);
            let is_tanh = node.is(Plain::Tanh)
                && near(argument.scale, FRAC_2_SQRT_PI * FRAC_1_SQRT_2)
                && argument.factors.len() == 1
                && self.is_cubic(argument.factors[0], x);
            (is_erf || is_tanh).then_some((x, is_tanh))
        })
    }

    /// Whether a value is `x + 0.044715·x³`.
    fn is_cubic(&self, value: ValueId, x: ValueId) -> bool {
        let Some([a, b]) = self.sum(value) else { return false };
        let other = if a == x { b } else { a };
        let cube = self.product(other);
        (a == x || b == x) && near(cube.scale, 0.044_715) && cube.factors == [x, x, x]
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Build;
    use crate::graph::ValueId;
    use crate::op::{Op, Plain};

    const SHAPE: [usize; 2] = [2, 30];

    fn erf(build: &mut Build, x: ValueId, root: f64) -> ValueId {
        let (root, one) = (build.number(root), build.number(1.0));
        let y = build.node(Plain::Div, &[x, root], &SHAPE);
        let y = build.node(Plain::Erf, &[y], &SHAPE);
        build.node(Plain::Add, &[one, y], &SHAPE)
    }

    #[test]
    fn by_the_error_function_in_any_order() {
        for order in 0..3 {
            let mut build = Build::new(&SHAPE);
            let x = build.x();
            let gate = erf(&mut build, x, std::f64::consts::SQRT_2);
            let half = build.number(0.5);
            let [a, b, c] = [[x, gate, half], [half, x, gate], [gate, half, x]][order];
            let y = build.node(Plain::Mul, &[a, b], &SHAPE);
            let y = build.node(Plain::Mul, &[y, c], &SHAPE);
            let after = build.output(y).check(super::run);
            assert_eq!(after.nodes.len(), 1);
            assert_eq!(after.nodes[0].op, Op::Gelu { tanh: false });
        }
    }

    #[test]
    fn by_the_hyperbolic_tangent() {
        for as_power in [true, false] {
            let mut build = Build::new(&SHAPE);
            let x = build.x();
            let cube = if as_power {
                let three = build.number(3.0);
                build.node(Plain::Pow, &[x, three], &SHAPE)
            } else {
                let square = build.node(Plain::Mul, &[x, x], &SHAPE);
                build.node(Plain::Mul, &[square, x], &SHAPE)
            };
            let (share, root) = (build.number(0.044_715), build.number((2.0 / std::f64::consts::PI).sqrt()));
            let (one, two) = (build.number(1.0), build.number(2.0));
            let y = build.node(Plain::Mul, &[cube, share], &SHAPE);
            let y = build.node(Plain::Add, &[x, y], &SHAPE);
            let y = build.node(Plain::Mul, &[y, root], &SHAPE);
            let y = build.node(Plain::Tanh, &[y], &SHAPE);
            let y = build.node(Plain::Add, &[y, one], &SHAPE);
            let y = build.node(Plain::Mul, &[x, y], &SHAPE);
            let y = build.node(Plain::Div, &[y, two], &SHAPE);
            let after = build.output(y).check(super::run);
            assert_eq!(after.nodes.len(), 1);
            assert_eq!(after.nodes[0].op, Op::Gelu { tanh: true });
        }
    }

    #[test]
    fn another_factor_is_another_function() {
        let mut build = Build::new(&SHAPE);
        let x = build.x();
        let gate = erf(&mut build, x, 1.5);
        let half = build.number(0.5);
        let y = build.node(Plain::Mul, &[x, gate], &SHAPE);
        let y = build.node(Plain::Mul, &[y, half], &SHAPE);
        build.output(y).unchanged(super::run);
    }
}
