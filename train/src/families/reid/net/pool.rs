//! From maps to vectors: whole, or cut into stripes of rows.

use burn::tensor::Tensor;
use burn::tensor::module::adaptive_avg_pool2d;

use crate::words::words;

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
    use burn::tensor::Device;

    use super::*;

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
