//! Centre loss and its table of class centres.

use burn::tensor::{Device, Int, Tensor, TensorData, assert_shape};
use contract::fill::splitmix64;

use super::LossError;
use super::pairs::constant;
use crate::words::words;

words! {
    /// How class centres follow the features. Both rules are applied after the loss of the batch.
    CenterRule (Wen) {
        /// Each centre moves halfway to the mean of its features, less where they are few (Wen et al.).
        Wen = "wen",
        /// Gradient descent on the loss with rate 0.5, without its weight (Luo et al., Bag of Tricks).
        Sgd = "sgd",
    }
}

/// Centre loss, Wen et al. 2016 (doi:10.1007/978-3-319-46478-7_31): mean squared distance of each row to the centre of
/// its class, without the factor ½. The reference implementation keeps the centres fixed; here they follow
/// [`CenterRule`].
#[derive(Debug, Clone)]
pub struct CenterLoss {
    centers: Tensor<2>,
    rule: CenterRule,
}

impl CenterLoss {
    /// Rate of both rules.
    const RATE: f64 = 0.5;

    /// Centres drawn from N(0, 1) with `seed`, equal on every device.
    pub fn new(num_classes: usize, feat_dim: usize, rule: CenterRule, seed: u64) -> Self {
        let unit = |k: u64| (splitmix64(seed.wrapping_add(k)) >> 11) as f64 / (1u64 << 53) as f64;
        let normal = |k: u64| {
            // Box-Muller; 1 − u is never 0.
            let (u, v) = (unit(2 * k), unit(2 * k + 1));
            ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
        };
        let values = (0..(num_classes * feat_dim) as u64).map(normal).collect();
        Self { centers: table(values, [num_classes, feat_dim]), rule }
    }

    /// Loss of one batch. The centres carry no gradient and do not move.
    ///
    /// # Shapes
    /// - `features`: `[batch, feat_dim]`
    /// - `classes`: `[batch]`, 0..`num_classes`
    /// - returns: `[1]`, squared distance
    ///
    /// # Panics
    /// If the feature width differs from the table's, or the batch sizes differ.
    pub fn forward(&self, features: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<1> {
        let [num_classes, feat_dim] = self.centers.dims();
        let [batch] = classes.dims();
        assert_shape!(features, [batch, feat_dim]);
        let own = self.on(&features).select(0, classes);
        let square = (features - own).square().sum_dim(1);
        // The reference clamps a masked matrix, so every other class adds the lower bound.
        square.clamp(1e-12, 1e12).mean().add_scalar((num_classes - 1) as f64 * 1e-12)
    }

    /// Moves the centres by the features of one batch.
    ///
    /// # Shapes
    /// - `features`: each `[batch, feat_dim]`
    /// - `classes`: `[batch]`, 0..`num_classes`
    ///
    /// # Panics
    /// As [`CenterLoss::forward`].
    pub fn update(&mut self, features: &[Tensor<2>], classes: Tensor<1, Int>) {
        let [num_classes, feat_dim] = self.centers.dims();
        let [batch] = classes.dims();
        let Some(first) = features.first() else { return };
        let centers = self.on(first);
        let member = classes.clone().one_hot::<2>(num_classes).float().transpose();
        let own = centers.clone().select(0, classes);
        let mut pull = centers.zeros_like();
        for item in features {
            assert_shape!(item, [batch, feat_dim]);
            pull = pull + member.clone().matmul(own.clone() - constant(item.clone()));
        }
        let step = match self.rule {
            // c ← c − α Σ(c − x)/(1 + n) over the n samples of the class.
            CenterRule::Wen => {
                let samples = member.sum_dim(1).mul_scalar(features.len() as f64);
                pull.mul_scalar(Self::RATE) / samples.add_scalar(1.0)
            }
            // arXiv:1903.07071.
            CenterRule::Sgd => pull.mul_scalar(Self::RATE * 2.0 / batch as f64),
        };
        self.centers = (centers - step).inner();
    }

    /// The table's values, row-major, and its shape `[num_classes, feat_dim]`, for a checkpoint.
    pub fn centers(&self) -> (Vec<f32>, [usize; 2]) {
        (self.centers.to_data_as::<f32>().iter::<f32>().collect(), self.centers.dims())
    }

    /// Restores a table from a checkpoint.
    ///
    /// # Errors
    /// If its shape differs.
    pub fn set_centers(&mut self, values: Vec<f32>, shape: [usize; 2]) -> Result<(), LossError> {
        let wanted = self.centers.dims();
        if shape != wanted || values.len() != shape[0] * shape[1] {
            return Err(LossError::Centers { found: shape, values: values.len(), wanted });
        }
        self.centers = table(values, shape);
        Ok(())
    }

    /// The table on the device of `features`, as a constant.
    fn on(&self, features: &Tensor<2>) -> Tensor<2> {
        let centers = self.centers.clone().to_device(&features.device().inner());
        if features.is_autodiff() { centers.autodiff() } else { centers }
    }
}

/// The table starts on the CPU and moves to the device of the first features.
fn table(values: Vec<f32>, shape: [usize; 2]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}
