//! ImageControlNet: a picture and the pose wanted to a picture of the same person in that pose. Fields and sequences
//! are arranged so that a parameter's path is its key in the reference's state dictionary.
//!
//! An encoder turns the picture into features; from these a head reads the source's pose; a control branch turns the
//! change of pose into a control vector, which a convolution that starts at zero adds to the features; a generator
//! draws.

mod control;
mod encoder;
mod generator;
mod sequence;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, assert_shape};
use serde::{Deserialize, Serialize};

use crate::nn::angles::{scale_in_words, scaled};
use crate::nn::dropout::Masks;
use crate::nn::init::{Init, Source, initialise};
use crate::weights::{LoadReport, Partial, StateDict, WeightsError, is_count};

use control::{ControlBranch, PoseExtractor, ZeroConv};
use encoder::Encoder;
use generator::ImageGenerator;

/// Values of a face embedding.
pub const EMBEDDING: usize = 512;

/// What turns the source picture into features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderKind {
    /// Four convolutions that train with the rest.
    Conv,
    /// ResNet-50, normally pretrained and frozen.
    Resnet50,
    /// Face embeddings computed elsewhere.
    Embedding,
}

/// What fixes the network's parameters, stored in each checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ControlNetConfig {
    /// Encoder.
    pub encoder: EncoderKind,
    /// Features between encoder and generator.
    pub features: usize,
    /// Angles of a pose.
    pub angles: usize,
    /// Edge of the pictures in pixels, a multiple of 16.
    pub size: usize,
    /// Layers of the control branch.
    pub control_layers: usize,
    /// Probability of dropout in pose extractor and control branch.
    pub dropout: f64,
    /// What angles are multiplied by on their way in; 1: degrees, as in the reference.
    #[serde(default = "in_degrees")]
    pub pose_scale: f64,
}

fn in_degrees() -> f64 {
    1.0
}

impl std::fmt::Display for ControlNetConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { encoder, features, angles, size, control_layers, pose_scale, .. } = self;
        let encoder = format!("{encoder:?}").to_lowercase();
        let unit = scale_in_words(*pose_scale);
        write!(
            f,
            "ImageControlNet, encoder {encoder}, {features} features, {angles} angles{unit}, {size}×{size} pixels, \
             {control_layers} control layers"
        )
    }
}

/// The network.
#[derive(Module, Debug)]
pub struct ControlNet {
    image_encoder: Encoder,
    pose_extractor: PoseExtractor,
    control_branch: ControlBranch,
    zero_conv: ZeroConv,
    image_generator: ImageGenerator,
    #[module(skip)]
    pose_scale: f64,
}

/// What a forward pass makes.
pub struct Generated {
    /// Pictures `[batch, 3, size, size]`, RGB, values in [−1, 1].
    pub image: Tensor<4>,
    /// Control vectors before the zero convolution, `[batch, features]`.
    pub control: Tensor<2>,
    /// Poses read from the sources' features, `[batch, angles]` in degrees.
    pub source_pose: Tensor<2>,
}

impl ControlNet {
    /// The network with the initial weights of `seed`.
    ///
    /// # Panics
    /// If the size is not a multiple of 16 above 0.
    pub fn new(config: &ControlNetConfig, seed: u64, device: &Device) -> Self {
        let ControlNetConfig { encoder, features, angles, size, control_layers, dropout, pose_scale } = *config;
        let mut net = Self {
            image_encoder: Encoder::new(encoder, features, device),
            pose_extractor: PoseExtractor::new(features, angles, dropout, device),
            control_branch: ControlBranch::new(features, angles, control_layers, dropout, device),
            zero_conv: ZeroConv::new(features, device),
            image_generator: ImageGenerator::new(features, size, device),
            pose_scale,
        };
        initialise(&mut net, source, seed);
        net
    }

    /// Takes parts out of training: they get no gradient and their batch norms keep their running statistics.
    /// Gradients still pass through them. After weights were loaded, as loading does not ask.
    pub fn frozen(self, backbone: bool, generator: bool) -> Self {
        Self {
            image_encoder: if backbone { self.image_encoder.freeze_backbone() } else { self.image_encoder },
            image_generator: if generator { self.image_generator.freeze() } else { self.image_generator },
            ..self
        }
    }

    /// Source pictures and target poses to pictures, without dropout.
    ///
    /// # Shapes
    /// - `images`: `[batch, 3, size, size]`, RGB, values in [−1, 1]
    /// - `poses`: `[batch, angles]`, degrees
    ///
    /// # Panics
    /// If the network reads embeddings, or a shape is another.
    pub fn forward(&self, images: Tensor<4>, poses: Tensor<2>) -> Generated {
        self.generate(self.encode(images), poses, &mut Masks::none())
    }

    /// Source pictures to features `[batch, features]`; see [`ControlNet::forward`].
    ///
    /// # Panics
    /// If the network reads embeddings.
    pub fn encode(&self, images: Tensor<4>) -> Tensor<2> {
        assert_shape!(images, [_, 3, _, _]);
        self.image_encoder.of_images(images)
    }

    /// Face embeddings `[batch, 512]` of any length to features `[batch, features]`.
    ///
    /// # Panics
    /// If the network reads pictures.
    pub fn encode_embeddings(&self, embeddings: Tensor<2>) -> Tensor<2> {
        assert_shape!(embeddings, [_, EMBEDDING]);
        self.image_encoder.of_embeddings(embeddings)
    }

    /// The 2048 averages of ResNet-50 before their projection, `[batch, 2048]`; none with another encoder.
    pub fn backbone_features(&self, images: Tensor<4>) -> Option<Tensor<2>> {
        match &self.image_encoder {
            Encoder::ResNet50(net) => Some(net.backbone_features(images)),
            Encoder::Conv(_) | Encoder::Embedding(_) => None,
        }
    }

    /// Features and target poses to pictures; `masks` are those of dropout.
    pub fn generate(&self, features: Tensor<2>, poses: Tensor<2>, masks: &mut Masks) -> Generated {
        let source_pose = self.pose_extractor.forward(features.clone(), masks);
        let control = self.control_branch.forward(source_pose.clone(), scaled(poses, self.pose_scale), masks);
        let image = self.image_generator.forward(features + self.zero_conv.forward(control.clone()));
        let source_pose = scaled(source_pose, 1.0 / self.pose_scale);
        Generated { image, control, source_pose }
    }
}

/// How the parameter at `key` starts.
fn source(key: &str) -> Source {
    let init = if key.starts_with("image_encoder.") {
        return encoder::init(key);
    } else if key.starts_with("zero_conv.") {
        Init::Zero
    } else if key.starts_with("image_generator.generator.") {
        // The reference takes the first axis for the outputs also where a transposed convolution has its inputs there.
        Init::NormalFanOut
    } else {
        Init::XavierUniform
    };
    Source { name: key.to_owned(), init }
}

/// Whether a state dictionary is that of an ImageNet ResNet-50 under torchvision's keys.
pub fn is_resnet50(state: &StateDict) -> bool {
    state.get("layer1.0.conv1.weight").is_some_and(|weight| weight.shape().len() == 4)
}

/// Fills a network from a weights file: its own weights, or those of an ImageNet ResNet-50, which its encoder then
/// starts from while the rest keeps its start values.
///
/// # Errors
/// A file that cannot be read or does not fit; the network is then unchanged.
pub fn load_controlnet(
    net: &mut ControlNet,
    config: &ControlNetConfig,
    path: &Path,
) -> Result<LoadReport, WeightsError> {
    let own = StateDict::of(net);
    let file = StateDict::read(path)?;
    if !is_resnet50(&file) {
        return file.fitted_to(&own.keys()).load(path, net, &config.to_string(), Partial::Nothing);
    }
    let source = |key: &str| key.strip_prefix("image_encoder.backbone.").map(str::to_owned);
    let spread = file.spread(&own, source);
    let mut report = spread.compare(&own);
    report.missing.retain(|key| source(key).is_some());
    let used = |key: &str| own.get(&format!("image_encoder.backbone.{key}")).is_some();
    let left = file.iter().map(|(key, _)| key).filter(|key| !used(key)).map(str::to_owned);
    let (counts, left): (Vec<_>, Vec<_>) = left.partition(|key| is_count(key));
    // The classifier is of no use here; anything else left over is an error.
    let aside: Vec<_>;
    (aside, report.unused) = left.into_iter().partition(|key| key.starts_with("fc."));
    report.aside.extend(aside);
    report.counts = counts.len();
    if !report.is_complete() || report.applied == 0 {
        let (path, network) = (path.to_owned(), format!("the backbone of {config}"));
        return Err(WeightsError::Mismatch { path, network, report: Box::new(report) });
    }
    spread.load_into(net);
    Ok(report)
}

/// Sizes as far as a state dictionary shows them; what it does not show is taken from `rest`.
///
/// # Errors
/// The key that is missing or of another rank.
pub fn controlnet_of(state: &StateDict, rest: &ControlNetConfig) -> Result<ControlNetConfig, String> {
    let [values, features] = state.matrix("image_generator.spatial_proj.weight")?;
    let [_, angles] = state.matrix("control_branch.pose_encoder.0.weight")?;
    let layer = |at: &usize| state.get(&format!("control_branch.control_layers.{}.weight", 4 * at)).is_some();
    Ok(ControlNetConfig {
        encoder: encoder_of(state),
        features,
        angles,
        size: 16 * (values / generator::CHANNELS).isqrt(),
        control_layers: (0..).take_while(layer).count(),
        ..rest.clone()
    })
}

/// Which encoder a state dictionary belongs to, by its keys.
pub fn encoder_of(state: &StateDict) -> EncoderKind {
    let has = |prefix: &str| state.iter().any(|(key, _)| key.starts_with(prefix));
    if has("image_encoder.backbone.") {
        EncoderKind::Resnet50
    } else if has("image_encoder.encoder.") {
        EncoderKind::Conv
    } else {
        EncoderKind::Embedding
    }
}
