//! Losses of generated pictures.

use burn::tensor::Tensor;

use super::LossTerms;

/// Weights of the errors of a picture and its pose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PictureLoss {
    /// Weight of the mean squared difference; 0 leaves it out.
    pub mse: f64,
    /// Weight of the mean absolute difference; 0 leaves it out.
    pub l1: f64,
    /// Weight of the pose's mean squared error, in degrees squared; 0 leaves it out.
    pub pose: f64,
}

impl PictureLoss {
    /// Names of the terms: picture, pose.
    pub const TERMS: [&str; 2] = ["image_loss", "pose_loss"];

    /// Weighted errors of pictures and poses. A term of weight 0 is 0 and has no gradient.
    ///
    /// # Shapes
    /// - `image`, `wanted`: `[batch, channels, height, width]`
    /// - `pose`, `true_pose`: `[batch, angles]`, degrees
    /// - returns: `[1]` each
    ///
    /// # Panics
    /// If the shapes differ.
    pub fn forward(&self, image: Tensor<4>, wanted: Tensor<4>, pose: Tensor<2>, true_pose: Tensor<2>) -> LossTerms {
        assert_eq!(image.dims(), wanted.dims(), "pictures to compare have one shape");
        assert_eq!(pose.dims(), true_pose.dims(), "poses to compare have one shape");
        let zero = Tensor::<1>::zeros([1], &image.device());
        let difference = image - wanted;
        let weighted = |weight: f64, term: &dyn Fn() -> Tensor<1>| (weight != 0.0).then(|| term().mul_scalar(weight));
        let parts = [
            weighted(self.mse, &|| difference.clone().square().mean()),
            weighted(self.l1, &|| difference.clone().abs().mean()),
        ];
        let image_loss = parts.into_iter().flatten().reduce(|a, b| a + b).unwrap_or_else(|| zero.clone());
        let pose_loss =
            weighted(self.pose, &|| (pose.clone() - true_pose.clone()).square().mean()).unwrap_or_else(|| zero.clone());
        let [first, second] = Self::TERMS.map(str::to_owned);
        LossTerms::sum(vec![(first, image_loss), (second, pose_loss)])
    }
}
