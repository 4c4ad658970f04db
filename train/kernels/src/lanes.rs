//! Functions of two values, applied to slices.

use macerator::{ReduceAdd, Scalar, Simd, Vector, WithSimd};

use super::loops::{load, store};

/// A function of two numbers that can also be applied to vectors; numbers remain at the end of a plane.
pub trait Lanes: Copy + Sync {
    /// The function of vectors.
    fn vector<S: Simd>(self, a: Vector<S, f32>, b: Vector<S, f32>) -> Vector<S, f32>;
    /// The function of numbers.
    fn scalar(self, a: f32, b: f32) -> f32;
}

/// The sum `Σ f(a, b)`.
pub struct Sum<'a, F>(pub F, pub &'a [f32], pub &'a [f32]);

impl<F: Lanes> WithSimd for Sum<'_, F> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> f32 {
        let Self(function, a, b) = self;
        let block = 4 * S::lanes32();
        let mut sums = [0.0.splat::<S>(); 4];
        let (a_blocks, b_blocks) = (a.chunks_exact(block), b.chunks_exact(block));
        let tail: f32 =
            a_blocks.remainder().iter().zip(b_blocks.remainder()).map(|(&a, &b)| function.scalar(a, b)).sum();
        for (a, b) in a_blocks.zip(b_blocks) {
            for (k, sum) in sums.iter_mut().enumerate() {
                let at = k * S::lanes32();
                *sum += function.vector::<S>(load(&a[at..]), load(&b[at..]));
            }
        }
        f32::reduce_add((sums[0] + sums[1]) + (sums[2] + sums[3])) + tail
    }
}

/// Writes `out = f(a, b)`.
pub struct Map<'a, F>(pub F, pub &'a [f32], pub &'a [f32], pub &'a mut [f32]);

impl<F: Lanes> WithSimd for Map<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self(function, a, b, out) = self;
        let lanes = S::lanes32();
        let whole = out.len() / lanes * lanes;
        let parts = out[..whole].chunks_exact_mut(lanes).zip(a.chunks_exact(lanes)).zip(b.chunks_exact(lanes));
        parts.for_each(|((out, a), b)| store(function.vector::<S>(load(a), load(b)), out));
        let rest = out[whole..].iter_mut().zip(&a[whole..]).zip(&b[whole..]);
        rest.for_each(|((out, &a), &b)| *out = function.scalar(a, b));
    }
}

/// Writes `values = f(values, values)`.
pub struct Change<'a, F>(pub F, pub &'a mut [f32]);

impl<F: Lanes> WithSimd for Change<'_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self) {
        let Self(function, values) = self;
        let mut whole = values.chunks_exact_mut(S::lanes32());
        for some in &mut whole {
            let vector = load(some);
            store(function.vector::<S>(vector, vector), some);
        }
        whole.into_remainder().iter_mut().for_each(|value| *value = function.scalar(*value, *value));
    }
}

/// `a`.
#[derive(Clone, Copy)]
pub struct First;

impl Lanes for First {
    #[inline(always)]
    fn vector<S: Simd>(self, a: Vector<S, f32>, _: Vector<S, f32>) -> Vector<S, f32> {
        a
    }
    #[inline(always)]
    fn scalar(self, a: f32, _: f32) -> f32 {
        a
    }
}

/// `a · b`.
#[derive(Clone, Copy)]
pub struct Times;

impl Lanes for Times {
    #[inline(always)]
    fn vector<S: Simd>(self, a: Vector<S, f32>, b: Vector<S, f32>) -> Vector<S, f32> {
        a * b
    }
    #[inline(always)]
    fn scalar(self, a: f32, b: f32) -> f32 {
        a * b
    }
}

/// `a` times a constant.
#[derive(Clone, Copy)]
pub struct Scaled(pub f32);

impl Lanes for Scaled {
    #[inline(always)]
    fn vector<S: Simd>(self, a: Vector<S, f32>, _: Vector<S, f32>) -> Vector<S, f32> {
        a * self.0.splat()
    }
    #[inline(always)]
    fn scalar(self, a: f32, _: f32) -> f32 {
        a * self.0
    }
}

/// `max(a + b, 0)`.
#[derive(Clone, Copy)]
pub struct AddRelu;

impl Lanes for AddRelu {
    #[inline(always)]
    fn vector<S: Simd>(self, a: Vector<S, f32>, b: Vector<S, f32>) -> Vector<S, f32> {
        (a + b).max(0.0.splat())
    }
    #[inline(always)]
    fn scalar(self, a: f32, b: f32) -> f32 {
        (a + b).max(0.0)
    }
}

/// `b` where `a` is positive, else 0.
#[derive(Clone, Copy)]
pub struct WherePositive;

impl Lanes for WherePositive {
    #[inline(always)]
    fn vector<S: Simd>(self, a: Vector<S, f32>, b: Vector<S, f32>) -> Vector<S, f32> {
        a.gt(0.0.splat()).select(b, 0.0.splat())
    }
    #[inline(always)]
    fn scalar(self, a: f32, b: f32) -> f32 {
        if a > 0.0 { b } else { 0.0 }
    }
}
