//! The SENet triplet network: a face embedding and its pose in, the embedding of the frontal view out.
//!
//! Fields and tuples are arranged so that a parameter's path is its key in the reference's state dictionary.

mod dual_branch;
mod se_block;

use std::path::Path;

use burn::module::Module;
use burn::nn::activation::{Activation, ActivationConfig};
use burn::nn::{Linear, LinearConfig, Relu};
use burn::tensor::{Device, Tensor, TensorData, assert_shape};
use serde::{Deserialize, Serialize};

use crate::nn::angles::{scale_in_words, scaled};
use crate::nn::batch_norm::UnbiasedBatchNorm;
use crate::nn::dropout::{Dropout, Masks};
use crate::nn::init::{Init, Source, initialise};
use crate::nn::vector::unit;
use crate::weights::{LoadReport, StateDict, WeightsError};
use crate::words::words;

use dual_branch::{INNER_DROPOUT, NormedBottleneck, bottleneck, stored_alpha};

pub use dual_branch::{Branches, DualBranchConfig, DualBranchSenet};
pub use se_block::SeBlock;

words! {
    /// What makes a layer more than linear.
    ActivationKind {
        /// The positive part.
        Relu = "relu",
        /// By the error function.
        Gelu = "gelu",
    }
}

/// What fixes the network's parameters and arithmetic, stored in each checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SenetNetConfig {
    /// Values of an embedding.
    pub image_dim: usize,
    /// Angles of a pose.
    pub pose_dim: usize,
    /// Width of the fusion layers; even.
    pub hidden_dim: usize,
    /// Depth, at least 1.
    pub num_layers: usize,
    /// Share of values dropped in training, 0 to below 1; the branches have 0.1 of their own.
    pub dropout: f64,
    /// What follows each fusion layer's norm.
    pub activation: ActivationKind,
    /// What the gates' hidden layer divides the embedding by.
    pub se_reduction: usize,
    /// Weight of the identity branch at the start.
    pub fusion_alpha: f64,
    /// Whether that weight is trained.
    pub learnable_fusion: bool,
    /// Gates from the batch's mean: a row's result then depends on its companions.
    pub use_batch_stat: bool,
    /// Values of an identity feature.
    pub identity_dim: usize,
    /// What angles are multiplied by on their way in; 1: degrees, as in the reference.
    pub pose_scale: f64,
}

impl Default for SenetNetConfig {
    fn default() -> Self {
        Self {
            image_dim: 512,
            pose_dim: 3,
            hidden_dim: 1024,
            num_layers: 3,
            dropout: 0.1,
            activation: ActivationKind::Relu,
            se_reduction: 16,
            fusion_alpha: 0.7,
            learnable_fusion: true,
            use_batch_stat: false,
            identity_dim: 512,
            pose_scale: 1.0,
        }
    }
}

impl std::fmt::Display for SenetNetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { image_dim, pose_dim, hidden_dim, num_layers, se_reduction, identity_dim, pose_scale, .. } = self;
        let fusion = if self.learnable_fusion { "learned" } else { "fixed" };
        let gates = if self.use_batch_stat { "the batch's gates" } else { "gates" };
        write!(
            f,
            "SENet of {num_layers} layers {hidden_dim} wide ({}) on {image_dim} values and {pose_dim} angles{}, \
             {gates} through a {se_reduction}th, a {fusion} fusion weight, {identity_dim} identity features",
            self.activation,
            scale_in_words(*pose_scale)
        )
    }
}

impl SenetNetConfig {
    fn dual_branch(&self) -> DualBranchConfig {
        DualBranchConfig {
            feature_dim: self.image_dim,
            reduction: self.se_reduction,
            fusion_alpha: self.fusion_alpha,
            learnable_fusion: self.learnable_fusion,
            use_batch_stat: self.use_batch_stat,
        }
    }
}

/// Linear, norm, activation, dropout.
type Block = (Linear, UnbiasedBatchNorm, Activation, Dropout);

/// The network. Names of fields are those of the reference's keys.
#[derive(Module, Debug)]
pub struct SenetTripletNetwork {
    fusion_layers: Vec<Block>,
    dual_branch: DualBranchSenet,
    front_feature_projection: (Linear, UnbiasedBatchNorm, Relu, Dropout),
    front_pose_layers: Vec<Block>,
    front_pose_output: Linear,
    identity_head: NormedBottleneck,
    #[module(skip)]
    pose_scale: f64,
}

/// What the network computes of a batch.
#[derive(Debug, Clone)]
pub struct SenetOutput {
    /// Embedding of the frontal view, `[batch, image_dim]`, any length.
    pub front_features: Tensor<2>,
    /// For metric losses, `[batch, identity_dim]`, of unit length.
    pub identity_features: Tensor<2>,
    /// Pose of the frontal view, `[batch, pose_dim]`, in degrees.
    pub front_pose: Tensor<2>,
    /// What the embedding was made of.
    pub branches: Branches,
}

fn block(input: usize, output: usize, config: &SenetNetConfig, device: &Device) -> Block {
    let activation = match config.activation {
        ActivationKind::Relu => ActivationConfig::Relu,
        ActivationKind::Gelu => ActivationConfig::Gelu,
    };
    (
        LinearConfig::new(input, output).init(device),
        UnbiasedBatchNorm::new(output, device),
        activation.init(device),
        Dropout::new(config.dropout),
    )
}

fn through(blocks: &[Block], input: Tensor<2>, masks: &mut Masks) -> Tensor<2> {
    blocks.iter().fold(input, |x, (linear, norm, activation, dropout)| {
        dropout.forward(activation.forward(norm.forward(linear.forward(x))), masks)
    })
}

/// Where the parameter at `key` starts: weights Xavier uniform, the gates' included, biases 0.
fn source(key: &str, alpha: f32) -> Source {
    let init = if key.ends_with("fusion_alpha") { Init::Constant(alpha) } else { Init::XavierUniform };
    Source { name: key.to_owned(), init }
}

impl SenetTripletNetwork {
    /// The network with the initial weights of `seed`; α is exactly `fusion_alpha`.
    ///
    /// # Panics
    /// If a width is 0, or `se_reduction` above `image_dim`.
    pub fn new(config: &SenetNetConfig, seed: u64, device: &Device) -> Self {
        let SenetNetConfig { image_dim, pose_dim, hidden_dim, num_layers, identity_dim, .. } = *config;
        let half = hidden_dim / 2;
        let linear = |input, output| LinearConfig::new(input, output).init(device);
        let norm = |size| UnbiasedBatchNorm::new(size, device);
        // The first block of a chain changes the width, the others keep it.
        let chain = |input: usize, width: usize, count: usize| -> Vec<Block> {
            let from = |at: usize| if at == 0 { input } else { width };
            (0..count.max(1)).map(|at| block(from(at), width, config, device)).collect()
        };
        let mut net = Self {
            fusion_layers: chain(image_dim + pose_dim, hidden_dim, num_layers.saturating_sub(1)),
            dual_branch: DualBranchSenet::new(&config.dual_branch(), device),
            front_feature_projection: (
                linear(hidden_dim, image_dim),
                norm(image_dim),
                Relu::new(),
                Dropout::new(config.dropout),
            ),
            front_pose_layers: chain(hidden_dim, half, num_layers.saturating_sub(1)),
            front_pose_output: linear(half, pose_dim),
            identity_head: (
                linear(image_dim, image_dim),
                norm(image_dim),
                Relu::new(),
                Dropout::new(INNER_DROPOUT),
                linear(image_dim, identity_dim),
                norm(identity_dim),
            ),
            pose_scale: config.pose_scale,
        };
        let alpha = stored_alpha(&config.dual_branch());
        initialise(&mut net, |key| source(key, alpha), seed);
        net
    }

    /// On an autodiff device norms use the batch's statistics, otherwise (`net.valid()`) the running ones.
    ///
    /// # Shapes
    /// - `features`: `[batch, image_dim]`, embeddings of any view
    /// - `pose`: `[batch, pose_dim]`, the angles of that view in degrees
    ///
    /// # Panics
    /// If a shape is another.
    pub fn forward(&self, features: Tensor<2>, pose: Tensor<2>, masks: &mut Masks) -> SenetOutput {
        let [batch, _] = features.dims();
        assert_shape!(pose, [batch, _]);
        let fused = self.fused(features.clone(), pose, masks);
        let (linear, norm, relu, dropout) = &self.front_feature_projection;
        let projected = dropout.forward(relu.forward(norm.forward(linear.forward(fused.clone()))), masks);
        let (change, branches) = self.dual_branch.forward(projected, masks);
        let front_features = features + change;
        let front_pose = self.front_pose_output.forward(through(&self.front_pose_layers, fused, masks));
        let front_pose = scaled(front_pose, 1.0 / self.pose_scale);
        let (first, norm, relu, dropout, second, outer) = &self.identity_head;
        let head = bottleneck((first, norm, relu, dropout, second), front_features.clone(), masks);
        let identity_features = unit(outer.forward(head));
        SenetOutput { front_features, identity_features, front_pose, branches }
    }

    /// Features and pose, in the unit the layers know, through the fusion layers.
    fn fused(&self, features: Tensor<2>, pose: Tensor<2>, masks: &mut Masks) -> Tensor<2> {
        through(&self.fusion_layers, Tensor::cat(vec![features, scaled(pose, self.pose_scale)], 1), masks)
    }

    /// Weight of the identity branch, 0 to 1.
    pub fn fusion_weight(&self) -> f64 {
        f64::from(self.dual_branch.alpha().into_scalar::<f32>())
    }

    /// Gates of the identity and of the pose branch for these rows, on a device without autodiff.
    ///
    /// # Shapes
    /// - `features`: `[batch, image_dim]`
    /// - `pose`: `[batch, pose_dim]`
    /// - returns: `[batch, image_dim]` each, or `[1, image_dim]` with `use_batch_stat`
    pub fn gates(&self, features: Tensor<2>, pose: Tensor<2>) -> [Tensor<2>; 2] {
        let fused = self.fused(features, pose, &mut Masks::none());
        let (linear, norm, relu, _) = &self.front_feature_projection;
        self.dual_branch.gates(relu.forward(norm.forward(linear.forward(fused))))
    }
}

/// Fills a network from weights of ours or of the reference.
///
/// The reference builds each front-pose block but the first for inputs twice as wide as it gives them, so that those
/// layers could never run; from such a file they keep their initial values, with a warning.
///
/// # Errors
/// See [`WeightsError`]; the network is unchanged unless the result is `Ok`.
pub fn load(path: &Path, net: &mut SenetTripletNetwork) -> Result<LoadReport, WeightsError> {
    let own = StateDict::of(net);
    let file = StateDict::read(path)?;
    let wide = |key: &str, data: &TensorData| {
        let Some(own) = own.get(key) else { return false };
        let later = key.starts_with("front_pose_layers.")
            && key.ends_with(".0.weight")
            && !key.starts_with("front_pose_layers.0.");
        later && *data.shape() == [own.shape()[0], 2 * own.shape()[1]].into()
    };
    let (never_ran, fitting): (Vec<_>, Vec<_>) = file.iter().partition(|(key, data)| wide(key, data));
    let fitting: StateDict = fitting.into_iter().map(|(key, data)| (key.to_owned(), data.clone())).collect();
    let mut report = fitting.compare(&own);
    report.missing.retain(|key| !never_ran.iter().any(|(wide, _)| wide == key));
    if !report.is_complete() {
        let (path, network) = (path.to_owned(), "this SENet".to_owned());
        return Err(WeightsError::Mismatch { path, network, report: Box::new(report) });
    }
    if !never_ran.is_empty() {
        let keys = never_ran.iter().map(|(key, _)| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        terminal::tell!(
            "warning: {keys} in `{}` belong to layers that could not run where they were made; they keep their initial \
             values",
            path.display()
        );
    }
    fitting.load_into(net);
    Ok(report)
}

/// Widths and depth, as far as a state dictionary shows them; what it does not show is taken from `rest`.
///
/// # Errors
/// The key that is missing or of another rank.
pub fn senet_of(state: &StateDict, rest: &SenetNetConfig) -> Result<SenetNetConfig, String> {
    let [image_dim, hidden_dim] = state.matrix("front_feature_projection.0.weight")?;
    let [_, input] = state.matrix("fusion_layers.0.0.weight")?;
    let pose_dim = input.checked_sub(image_dim).filter(|angles| *angles > 0);
    let pose_dim = pose_dim
        .ok_or_else(|| format!("`fusion_layers.0.0.weight` takes {input} values, {image_dim} of them features"))?;
    let [hidden, _] = state.matrix("dual_branch.identity_se.fc.0.weight")?;
    let [identity_dim, _] = state.matrix("identity_head.4.weight")?;
    let blocks = (0..).take_while(|at| state.get(&format!("fusion_layers.{at}.0.weight")).is_some()).count();
    Ok(SenetNetConfig {
        image_dim,
        pose_dim,
        hidden_dim,
        num_layers: blocks + 1,
        se_reduction: image_dim / hidden.max(1),
        identity_dim,
        ..rest.clone()
    })
}
