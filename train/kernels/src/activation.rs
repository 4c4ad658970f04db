//! GELU in one pass over memory, by polynomials instead of a call of `erf` for each value.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};
use std::ops::{Add, Div, Mul};

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::NoCheckpointing};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, activation};
use macerator::{Scalar, Simd, Vector};

use super::fused::{map, shape};
use super::lanes::Lanes;
use super::{Site, USE_OUR_KERNELS, packed, tensor, values};

/// The Gaussian error linear unit, `x Φ(x)` with the normal distribution function Φ (Hendrycks and Gimpel, 2016), not
/// its approximation by a tanh. Within 5e-7 (times `x`, where that is above 1) of the exact value.
///
/// # Shapes
/// - `input`: any
/// - returns: the same
pub fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    if !*USE_OUR_KERNELS {
        return activation::gelu(input);
    }
    match Site::of(&input) {
        Site::Tracked(tracked) => {
            let node = tracked.node();
            let input = packed(tracked.into_primitive());
            let output = forward(&input);
            let output = match GeluOp.prepare::<NoCheckpointing>([node]).compute_bound().stateful() {
                OpsKind::Tracked(prep) => prep.finish(input, output),
                OpsKind::UnTracked(prep) => prep.finish(output),
            };
            Tensor::from_primitive::<Autodiff<Flex>>(output)
        }
        Site::Plain(input) => Tensor::from_primitive::<Flex>(forward(&packed(input))),
        Site::Other => activation::gelu(input),
    }
}

fn forward(input: &FlexTensor) -> FlexTensor {
    tensor(map(Gelu, values(input), values(input)), shape(input))
}

#[derive(Debug)]
struct GeluOp;

impl Backward<Flex, 1> for GeluOp {
    /// The input.
    type State = FlexTensor;

    fn backward(self, ops: Ops<FlexTensor, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = packed(grads.consume::<Flex>(&ops.node));
        let [Some(node)] = ops.parents else { return };
        let made = map(GeluGrad, values(&ops.state), values(&grad));
        grads.register::<Flex>(node.id, tensor(made, shape(&grad)));
    }
}

/// Numbers or vectors of them: one definition of a function, with the same bits for both.
trait Number: Copy + Add<Output = Self> + Mul<Output = Self> + Div<Output = Self> {
    fn of(value: f32) -> Self;
    fn clamped(self, least: f32, most: f32) -> Self;
}

impl Number for f32 {
    #[inline(always)]
    fn of(value: f32) -> Self {
        value
    }
    #[inline(always)]
    fn clamped(self, least: f32, most: f32) -> Self {
        self.max(least).min(most)
    }
}

impl<S: Simd> Number for Vector<S, f32> {
    #[inline(always)]
    fn of(value: f32) -> Self {
        value.splat()
    }
    #[inline(always)]
    fn clamped(self, least: f32, most: f32) -> Self {
        self.max(least.splat()).min(most.splat())
    }
}

/// `Σ coefficients[k] x^k`.
#[inline(always)]
fn polynomial<N: Number>(x: N, coefficients: &[f32]) -> N {
    let (last, rest) = coefficients.split_last().expect("a polynomial has coefficients");
    rest.iter().rev().fold(N::of(*last), |sum, coefficient| sum * x + N::of(*coefficient))
}

/// The error function: `x P(x²) / Q(x²)`, fitted by least squares with weights until the largest errors were equal
/// (2e-8 in exact arithmetic, 4.5e-7 in this). It is 1 in single precision from 4 on.
#[inline(always)]
fn erf<N: Number>(x: N) -> N {
    const P: [f32; 6] = [FRAC_2_SQRT_PI, 0.196_247_83, 0.053_467_315, 0.004_003_592, 0.000_288_039_36, 1.974_829e-6];
    const Q: [f32; 6] = [1.0, 0.507_251_26, 0.116_475_94, 0.015_444_317, 0.001_216_345, 3.748_074e-5];
    let x = x.clamped(-4.0, 4.0);
    let square = x * x;
    (x * polynomial(square, &P) / polynomial(square, &Q)).clamped(-1.0, 1.0)
}

/// `exp(-x²/2)`: the sixteenth power of a polynomial, fitted to `exp` between -1.125 and 0 (2e-9). Within 1e-6; below
/// 2e-8 it stops falling.
#[inline(always)]
fn bell<N: Number>(x: N) -> N {
    const EXP: [f32; 8] =
        [1.0, 0.999_999_8, 0.499_996_66, 0.166_644_37, 0.041_591_913, 0.008_194_346, 0.001_241_441, 0.000_112_062_45];
    let root = polynomial((x * x * N::of(-0.5 / 16.0)).clamped(-1.125, 0.0), &EXP);
    let square = root * root;
    let fourth = square * square;
    let eighth = fourth * fourth;
    eighth * eighth
}

/// Φ(x).
#[inline(always)]
fn share_below<N: Number>(x: N) -> N {
    (erf(x * N::of(FRAC_1_SQRT_2)) + N::of(1.0)) * N::of(0.5)
}

#[inline(always)]
fn gelu_of<N: Number>(x: N) -> N {
    x * share_below(x)
}

/// The gradient of the input: `grad · (Φ(x) + x φ(x))`.
#[inline(always)]
fn gelu_grad_of<N: Number>(x: N, grad: N) -> N {
    // 1 / √(2π)
    const HEIGHT: f32 = 0.398_942_3;
    // Beyond 6 the bell is 0 in this precision, but the last factor may be large.
    let near = x.clamped(-6.0, 6.0);
    grad * (share_below(x) + near * bell(near) * N::of(HEIGHT))
}

#[derive(Clone, Copy)]
struct Gelu;

impl Lanes for Gelu {
    #[inline(always)]
    fn vector<S: Simd>(self, x: Vector<S, f32>, _: Vector<S, f32>) -> Vector<S, f32> {
        gelu_of(x)
    }
    #[inline(always)]
    fn scalar(self, x: f32, _: f32) -> f32 {
        gelu_of(x)
    }
}

#[derive(Clone, Copy)]
struct GeluGrad;

impl Lanes for GeluGrad {
    #[inline(always)]
    fn vector<S: Simd>(self, x: Vector<S, f32>, grad: Vector<S, f32>) -> Vector<S, f32> {
        gelu_grad_of(x, grad)
    }
    #[inline(always)]
    fn scalar(self, x: f32, grad: f32) -> f32 {
        gelu_grad_of(x, grad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_as_near_as_they_say() {
        // Abramowitz and Stegun, table 7.1.
        for (x, exact) in [(0.0, 0.0), (0.1, 0.112_462_92), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3)]
        {
            assert!((erf::<f32>(x) - exact).abs() <= 4.5e-7 && (erf::<f32>(-x) + exact).abs() <= 4.5e-7, "erf({x})");
        }
        for step in 0..=1400 {
            let x = step as f32 / 100.0 - 7.0;
            let exact = (-0.5 * f64::from(x).powi(2)).exp();
            assert!((f64::from(bell::<f32>(x)) - exact).abs() <= 1e-6, "bell({x})");
        }
        assert_eq!([erf::<f32>(4.0), erf::<f32>(f32::INFINITY), erf::<f32>(-9.0)], [1.0, 1.0, -1.0]);
        assert_eq!([gelu_of(-20.0_f32), gelu_of(20.0_f32)], [0.0, 20.0]);
    }
}
