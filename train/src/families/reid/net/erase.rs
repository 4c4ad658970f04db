//! Feature erasing of LightMBN, Herzog et al. 2021 (arXiv:2101.10774).

use burn::module::{Module, ModuleDisplay};
use burn::tensor::{Tensor, TensorData, assert_shape};

use crate::nn::resnet::Bottleneck;

use super::os_block::{AinBlock, OsBlock};

/// Share of the rows that are erased.
const HEIGHT_RATIO: f64 = 0.33;

/// A block that keeps the size of a map.
pub trait Block: Module + ModuleDisplay {
    /// `[batch, input, height, width]` to `[batch, output, height, width]`.
    fn of_map(&self, map: Tensor<4>) -> Tensor<4>;
}

impl Block for OsBlock {
    fn of_map(&self, map: Tensor<4>) -> Tensor<4> {
        self.forward(map)
    }
}

impl Block for AinBlock {
    fn of_map(&self, map: Tensor<4>) -> Tensor<4> {
        self.forward(map)
    }
}

impl Block for Bottleneck {
    fn of_map(&self, map: Tensor<4>) -> Tensor<4> {
        self.forward(map)
    }
}

/// A bottleneck whose output loses its most active rows while training, so that the head behind it must look elsewhere.
#[derive(Module, Debug)]
pub struct BatchFeatureEraseTop<B> {
    drop_batch_bottleneck: B,
}

impl<B: Block> BatchFeatureEraseTop<B> {
    /// Behind this block, which keeps the channels.
    pub fn new(block: B) -> Self {
        Self { drop_batch_bottleneck: block }
    }

    /// `[batch, channels, height, width]` to (erased, whole), both of that shape. On a device without autodiff
    /// nothing is erased and both are the same tensor.
    pub fn forward(&self, input: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let whole = self.drop_batch_bottleneck.of_map(input);
        let erased =
            if whole.device().is_autodiff() { drop_top_rows(whole.clone(), HEIGHT_RATIO) } else { whole.clone() };
        (erased, whole)
    }
}

/// Sets the `round(ratio · height)` rows with the highest activation to zero, per sample. The activation of a row is
/// the largest sum of squares over channels among its pixels; of equal rows the later goes first. The choice carries
/// no gradient.
///
/// # Shapes
/// - `features`: `[batch, channels, height, width]`
/// - returns: the same
pub fn drop_top_rows(features: Tensor<4>, ratio: f64) -> Tensor<4> {
    let [batch, _, height, _] = features.dims();
    let dropped = (ratio * height as f64).round_ties_even();
    let activation = features.clone().detach().square().sum_dim(1).max_dim(3).reshape([batch, height, 1]);
    let other = activation.clone().swap_dims(1, 2);
    assert_shape!(other, [batch, 1, height]);
    // rank[y] = how many rows come before y; all pairs at once, since a sort has no tie rule.
    let later = Tensor::<2>::ones([height, height], &features.device()).triu(1).reshape([1, height, height]);
    let before = other.clone().greater(activation.clone()).float() + other.equal(activation).float() * later;
    let kept = before.sum_dim(2).greater_equal_elem(dropped).float().reshape([batch, 1, height, 1]);
    let precision = features.dtype();
    features * kept.cast(precision)
}

/// Sets one rectangle to zero, the same in every sample and channel: `shares` of height and width, rounded. `place`
/// in `[0, 1)` says where among all places, rows first.
///
/// # Shapes
/// - `features`: `[batch, channels, height, width]`
/// - returns: the same
pub fn drop_block(features: Tensor<4>, shares: [f64; 2], place: [f64; 2]) -> Tensor<4> {
    let [_, _, height, width] = features.dims();
    let range = |k: usize, size: usize| {
        let block = ((shares[k] * size as f64).round_ties_even() as usize).min(size);
        let first = (place[k] * (size - block + 1) as f64) as usize;
        first..first + block
    };
    let (rows, columns) = (range(0, height), range(1, width));
    let kept = |index: usize| !(rows.contains(&(index / width)) && columns.contains(&(index % width)));
    let mask = (0..height * width).map(|index| f32::from(kept(index))).collect::<Vec<_>>();
    let mask = Tensor::<4>::from_data(TensorData::new(mask, [1, 1, height, width]), &features.device());
    let precision = features.dtype();
    features * mask.cast(precision)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn one_block_goes_wherever_it_fits() {
        let zeros = |place: [f64; 2]| {
            let map = drop_block(Tensor::ones([2, 3, 4, 2], &Device::flex()), [0.5, 0.5], place);
            let values = map.into_data().try_to_vec::<f32>().unwrap();
            assert!(values.chunks(8).all(|plane| plane == &values[..8]));
            (0..8).filter(|index| values[*index] == 0.0).collect::<Vec<_>>()
        };
        assert_eq!(zeros([0.0, 0.0]), [0, 2]);
        assert_eq!(zeros([0.34, 0.5]), [3, 5]);
        assert_eq!(zeros([0.999, 0.999]), [5, 7]);
    }

    #[test]
    fn strongest_rows_go_and_of_equals_the_later() {
        let device = Device::flex();
        // Six rows, one channel, one column: 0.33 · 6 = 1.98, two rows go: the 9, then the later of the two 4s.
        let rows = Tensor::<1>::from_floats([1.0, 4.0, 9.0, -2.0, 4.0, 0.0], &device).reshape([1, 1, 6, 1]);
        let kept = drop_top_rows(rows, 0.33).into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(kept, [1.0, 4.0, 0.0, -2.0, 0.0, 0.0]);
    }
}
