//! From the source picture to its features: three ways, told apart by their keys.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use crate::nn::dropout::Masks;
use crate::nn::init::{Init, Source};
use crate::nn::resnet::{RESNET_FEATURES, RESNET50, ResNet};
use crate::nn::vector::unit;

use super::sequence::{self, Maps, Rows, conv_norm_relu};
use super::{EMBEDDING, EncoderKind};

/// ImageNet's mean and standard deviation of red, green and blue, in units of [0, 1].
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// An encoder.
#[derive(Module, Debug)]
#[expect(clippy::large_enum_variant, reason = "a network has one: the size of the others is not missed")]
pub enum Encoder {
    /// Four convolutions of its own.
    Conv(ConvEncoder),
    /// ResNet-50, frozen or not.
    ResNet50(ResNetEncoder),
    /// A face embedding that was computed elsewhere.
    Embedding(EmbeddingEncoder),
}

/// Four convolutions, global average, linear.
#[derive(Module, Debug)]
pub struct ConvEncoder {
    encoder: Maps,
    feature_proj: Linear,
}

/// ResNet-50, global average, linear with batch norm and ReLU.
#[derive(Module, Debug)]
pub struct ResNetEncoder {
    backbone: ResNet,
    feature_proj: Rows,
}

/// An embedding of unit length, unchanged or projected to another width.
#[derive(Module, Debug)]
pub struct EmbeddingEncoder {
    feature_proj: Option<Rows>,
}

/// Without dropout, so that it needs no masks.
fn projection(input: usize, features: usize, device: &Device) -> Rows {
    vec![sequence::linear(input, features, device), sequence::batch_norm(features, device), sequence::relu()]
}

impl Encoder {
    pub(crate) fn new(kind: EncoderKind, features: usize, device: &Device) -> Self {
        match kind {
            EncoderKind::Conv => {
                let encoder = [(3, 64, 7), (64, 128, 3), (128, 256, 3), (256, 512, 3)]
                    .into_iter()
                    .flat_map(|(input, output, kernel)| conv_norm_relu(input, output, kernel, 2, device))
                    .collect();
                Self::Conv(ConvEncoder { encoder, feature_proj: LinearConfig::new(512, features).init(device) })
            }
            EncoderKind::Resnet50 => Self::ResNet50(ResNetEncoder {
                backbone: ResNet::new(RESNET50, 2, device),
                feature_proj: projection(RESNET_FEATURES, features, device),
            }),
            EncoderKind::Embedding => Self::Embedding(EmbeddingEncoder {
                feature_proj: (features != EMBEDDING).then(|| projection(EMBEDDING, features, device)),
            }),
        }
    }

    /// Freezes ResNet-50; the others have nothing that is pretrained.
    pub(crate) fn freeze_backbone(self) -> Self {
        match self {
            Self::ResNet50(net) => {
                Self::ResNet50(ResNetEncoder { backbone: net.backbone.freeze(), feature_proj: net.feature_proj })
            }
            other => other,
        }
    }

    /// Pictures `[batch, 3, size, size]` in [−1, 1] to `[batch, features]`.
    pub(crate) fn of_images(&self, images: Tensor<4>) -> Tensor<2> {
        match self {
            Self::Conv(net) => {
                let map = sequence::maps(&net.encoder, images);
                net.feature_proj.forward(kernels::global_avg_pool(map).flatten::<2>(1, 3))
            }
            Self::ResNet50(net) => sequence::rows(&net.feature_proj, net.backbone_features(images), &mut Masks::none()),
            Self::Embedding(_) => panic!("this network reads embeddings, not pictures"),
        }
    }

    /// Embeddings `[batch, 512]`, each divided by its length, to `[batch, features]`. A row of zeros stays zeros.
    pub(crate) fn of_embeddings(&self, embeddings: Tensor<2>) -> Tensor<2> {
        let Self::Embedding(net) = self else { panic!("this network reads pictures, not embeddings") };
        let unit = unit(embeddings);
        match &net.feature_proj {
            Some(projection) => sequence::rows(projection, unit, &mut Masks::none()),
            None => unit,
        }
    }
}

impl ResNetEncoder {
    /// The 2048 averages, pictures normalised as ImageNet's were.
    pub(crate) fn backbone_features(&self, images: Tensor<4>) -> Tensor<2> {
        let device = images.device();
        let row = |values: [f32; 3]| Tensor::<1>::from_floats(values, &device).reshape([1, 3, 1, 1]);
        // ((x + 1) / 2 − mean) / std
        let scale = STD.map(|std| 0.5 / std);
        let shift: [f32; 3] = std::array::from_fn(|k| (0.5 - MEAN[k]) / STD[k]);
        let normalised = images * row(scale) + row(shift);
        kernels::global_avg_pool(self.backbone.forward_features(normalised)).flatten::<2>(1, 3)
    }
}

/// How the encoder's parameter at `key` starts. What is pretrained is loaded later and stays.
pub(crate) fn init(key: &str) -> Source {
    let init = if key.contains("feature_proj") { Init::XavierUniform } else { Init::NormalFanOut };
    Source { name: key.to_owned(), init }
}
