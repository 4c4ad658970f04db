//! What turns a change of pose into a change of features.

use burn::module::Module;
use burn::nn::conv::{Conv1d, Conv1dConfig};
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::sequence::{self, Rows};
use crate::nn::dropout::Masks;

/// Width inside the branch.
const HIDDEN: usize = 256;

/// Reads the source's pose from its features.
#[derive(Module, Debug)]
pub struct PoseExtractor {
    pose_head: Rows,
}

impl PoseExtractor {
    pub(crate) fn new(features: usize, angles: usize, dropout: f64, device: &Device) -> Self {
        let pose_head = vec![
            sequence::linear(features, 256, device),
            sequence::relu(),
            sequence::dropout(dropout),
            sequence::linear(256, 128, device),
            sequence::relu(),
            sequence::linear(128, angles, device),
        ];
        Self { pose_head }
    }

    /// `[batch, features]` to angles in the network's unit, `[batch, angles]`.
    pub(crate) fn forward(&self, features: Tensor<2>, masks: &mut Masks) -> Tensor<2> {
        sequence::rows(&self.pose_head, features, masks)
    }
}

/// Turns the pose wanted and the pose found into a control vector.
#[derive(Module, Debug)]
pub struct ControlBranch {
    pose_encoder: Rows,
    control_layers: Rows,
    output_proj: Linear,
}

impl ControlBranch {
    pub(crate) fn new(features: usize, angles: usize, layers: usize, dropout: f64, device: &Device) -> Self {
        let layer = |_| {
            [
                sequence::linear(HIDDEN, HIDDEN, device),
                sequence::layer_norm(HIDDEN, device),
                sequence::relu(),
                sequence::dropout(dropout),
            ]
        };
        Self {
            pose_encoder: vec![
                sequence::linear(angles, HIDDEN, device),
                sequence::relu(),
                sequence::linear(HIDDEN, HIDDEN, device),
                sequence::relu(),
            ],
            control_layers: (0..layers).flat_map(layer).collect(),
            output_proj: LinearConfig::new(HIDDEN, features).init(device),
        }
    }

    /// Poses of source and target, `[batch, angles]` in the network's unit, to `[batch, features]`.
    pub(crate) fn forward(&self, source: Tensor<2>, target: Tensor<2>, masks: &mut Masks) -> Tensor<2> {
        let mut encode = |pose| sequence::rows(&self.pose_encoder, pose, masks);
        let change = encode(target.clone() - source) + encode(target);
        self.output_proj.forward(sequence::rows(&self.control_layers, change, masks))
    }
}

/// A 1×1 convolution that starts at zero, Zhang et al. 2023 (arXiv:2302.05543): in the beginning the control changes
/// nothing.
#[derive(Module, Debug)]
pub struct ZeroConv {
    conv: Conv1d,
}

impl ZeroConv {
    pub(crate) fn new(features: usize, device: &Device) -> Self {
        Self { conv: Conv1dConfig::new(features, features, 1).init(device) }
    }

    /// `[batch, features]` to the same.
    pub(crate) fn forward(&self, control: Tensor<2>) -> Tensor<2> {
        // On one position the convolution is a product of matrices.
        let weight = self.conv.weight.val().squeeze_dim::<2>(2).transpose();
        let output = control.matmul(weight);
        match &self.conv.bias {
            Some(bias) => output + bias.val().unsqueeze::<2>(),
            None => output,
        }
    }
}
