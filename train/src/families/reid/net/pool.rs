//! From maps to vectors: whole, or cut into stripes of rows.

use burn::module::{Module, Param};
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{DType, Device, FloatDType, Tensor};

use crate::words::words;

words! {
    /// Whether a map becomes a vector by a generalised mean, the p-th root of the mean of p-th powers (Radenović et al.
    /// 2018, arXiv:1711.02512).
    Gem (None) {
        /// No.
        None = "none",
        /// With exponent 3.
        Fixed = "fixed",
        /// With an exponent that is learned, from 3.
        Learned = "learned",
    }
}

/// Exponent of a generalised mean, at the start where it is learned.
pub const EXPONENT: f32 = 3.0;

/// Floor of what a generalised mean takes to a power.
const FLOOR: f32 = 1e-6;

/// A generalised mean of maps.
#[derive(Module, Debug)]
pub struct GemPool {
    /// The exponent where it is learned, `[1]`.
    p: Option<Param<Tensor<1>>>,
}

impl GemPool {
    /// A pool, where there is one.
    pub fn new(kind: Gem, device: &Device) -> Option<Self> {
        let learned = || Param::from_tensor(Tensor::full([1], EXPONENT, device));
        (kind != Gem::None).then(|| Self { p: (kind == Gem::Learned).then(learned) })
    }

    /// `[batch, channels, height, width]` to `[batch, channels, 1, 1]`, none less than the floor. Powers are computed
    /// in single precision.
    pub fn whole(&self, map: Tensor<4>) -> Tensor<4> {
        match map.dtype() {
            DType::F32 => self.whole_single(map),
            precision => self.whole_single(map.cast(FloatDType::F32)).cast(precision),
        }
    }

    fn whole_single(&self, map: Tensor<4>) -> Tensor<4> {
        let map = map.clamp_min(FLOOR);
        match &self.p {
            // Burn has no power of tensors that an export knows.
            Some(p) => {
                let p = p.val().reshape([1, 1, 1, 1]);
                let mean = kernels::global_avg_pool((map.log() * p.clone()).exp());
                (mean.log() / p).exp()
            }
            None => kernels::global_avg_pool(map.clone().square() * map).powf_scalar(1.0 / EXPONENT),
        }
    }
}

words! {
    /// How a map becomes a vector.
    Pool (Avg) {
        /// By its mean.
        Avg = "avg",
        /// By its maximum.
        Max = "max",
    }
}

impl Pool {
    /// The whole map: `[batch, channels, height, width]` to `[batch, channels, 1, 1]`.
    pub fn whole(self, map: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Avg => kernels::global_avg_pool(map),
            Self::Max => map.max_dim(3).max_dim(2),
        }
    }

    /// Stripes from the top, each `[batch, channels, 1, 1]`. Stripe k of n has the rows from ⌊k·height/n⌋ to
    /// ⌈(k + 1)·height/n⌉, as PyTorch's adaptive pools have them: neighbours share a row where n does not divide the
    /// height.
    pub fn stripes(self, map: Tensor<4>, count: usize) -> Vec<Tensor<4>> {
        match self {
            Self::Avg => adaptive_avg_pool2d(map, [count, 1]).chunk(count, 2),
            Self::Max => {
                let [_, _, height, _] = map.dims();
                let rows = |k: usize| (k * height / count, ((k + 1) * height).div_ceil(count));
                let stripe = |(first, end): (usize, usize)| self.whole(map.clone().narrow(2, first, end - first));
                (0..count).map(rows).map(stripe).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ∛((1 + 8 + 27 + 0) / 4) = ∛9; what is below the floor counts as nothing.
    #[test]
    fn a_generalised_mean_is_the_root_of_a_mean_of_powers() {
        let device = Device::flex();
        let map = Tensor::<1>::from_floats([1.0, 2.0, 3.0, -4.0], &device).reshape([1, 1, 2, 2]);
        for kind in [Gem::Fixed, Gem::Learned] {
            let found = GemPool::new(kind, &device).unwrap().whole(map.clone()).into_scalar::<f32>();
            assert!((found - 9f32.cbrt()).abs() < 1e-5, "{kind}: {found}");
        }
        assert!(GemPool::new(Gem::None, &device).is_none());
    }

    #[test]
    fn stripes_are_those_of_adaptive_pools() {
        let device = Device::flex();
        let map = Tensor::<1>::from_floats([1.0, 2.0, 4.0, 8.0, 16.0], &device).reshape([1, 1, 5, 1]);
        let of = |pool: Pool, count: usize| {
            let stripes = pool.stripes(map.clone(), count);
            stripes.into_iter().map(|stripe| stripe.into_scalar::<f32>()).collect::<Vec<_>>()
        };
        for (pool, count, wanted) in [
            (Pool::Avg, 1, &[6.2][..]),
            (Pool::Avg, 2, &[7.0 / 3.0, 28.0 / 3.0]),
            (Pool::Max, 1, &[16.0]),
            (Pool::Max, 2, &[4.0, 16.0]),
            (Pool::Max, 5, &[1.0, 2.0, 4.0, 8.0, 16.0]),
        ] {
            let found = of(pool, count);
            assert_eq!(found.len(), wanted.len());
            assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{pool} {count}: {found:?}");
        }
    }
}
