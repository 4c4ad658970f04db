//! Additive angular margin, Deng et al. 2019 (arXiv:1801.07698).

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor, assert_shape};
use serde::{Deserialize, Serialize};

use crate::nn::vector::unit;

/// Floor of sin² under the root: where a row lies on its class, or opposite to it, the root has no finite slope.
const LEAST_SINE: f64 = 1e-9;

/// Scale and margin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ArcFaceConfig {
    /// Factor of all logits.
    pub scale: f64,
    /// Angle added between a row and its own class, in radians, 0 to π.
    pub margin: f64,
    /// Margin only for rows less than 90° from their class, instead of a linear penalty where the angle would pass π.
    pub easy_margin: bool,
}

impl Default for ArcFaceConfig {
    fn default() -> Self {
        Self { scale: 64.0, margin: 0.5, easy_margin: false }
    }
}

/// A class direction per row of `weight`, `[classes, features]`.
#[derive(Module, Debug)]
pub struct ArcMarginProduct {
    weight: Param<Tensor<2>>,
    #[module(skip)]
    config: ArcFaceConfig,
}

impl ArcMarginProduct {
    /// Not yet initialised.
    pub fn new(features: usize, classes: usize, config: ArcFaceConfig, device: &Device) -> Self {
        Self { weight: Param::from_tensor(Tensor::zeros([classes, features], device)), config }
    }

    /// Cosine between each row and each class direction, in [-1, 1] up to rounding.
    ///
    /// # Shapes
    /// - `features`: `[batch, features]`, any length
    /// - returns: `[batch, classes]`
    pub fn cosine(&self, features: Tensor<2>) -> Tensor<2> {
        unit(features).matmul(unit(self.weight.val()).transpose())
    }

    /// Logits without margin, which need no label: for prediction and accuracy.
    ///
    /// # Shapes
    /// - `features`: `[batch, features]`, any length
    /// - returns: `[batch, classes]`, scale · cosine
    pub fn plain(&self, features: Tensor<2>) -> Tensor<2> {
        self.cosine(features).mul_scalar(self.config.scale)
    }

    /// Logits with the margin at each row's own class, for training.
    ///
    /// # Shapes
    /// - `features`: `[batch, features]`, any length
    /// - `classes`: `[batch]`, 0..`classes`
    /// - returns: `[batch, classes]`
    ///
    /// # Panics
    /// If the batch sizes differ.
    pub fn forward(&self, features: Tensor<2>, classes: Tensor<1, Int>) -> Tensor<2> {
        let [batch] = classes.dims();
        assert_shape!(features, [batch, _]);
        let ArcFaceConfig { scale, margin, easy_margin } = self.config;
        let cosine = self.cosine(features);
        let [_, count] = cosine.dims();
        let own = cosine.clone().gather(1, classes.clone().unsqueeze_dim(1));
        let sine = own.clone().square().neg().add_scalar(1.0).clamp_min(LEAST_SINE).sqrt();
        let turned = own.clone().mul_scalar(margin.cos()) - sine.mul_scalar(margin.sin());
        let (limit, beyond) = if easy_margin {
            (0.0, own.clone())
        } else {
            ((std::f64::consts::PI - margin).cos(), own.clone().sub_scalar(margin * margin.sin()))
        };
        let turned = beyond.mask_where(own.clone().greater_scalar(limit), turned);
        let own_class = classes.one_hot::<2>(count).bool();
        cosine.mask_where(own_class, turned.expand([batch, count])).mul_scalar(scale)
    }
}
