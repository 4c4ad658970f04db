//! Every network that both our exporter and burn-onnx's are tried on, with its inputs.

use burn::module::Module;
use burn::tensor::{Device, Int, Tensor};
use train::families::controlnet::net::{ControlNet, ControlNetConfig, EMBEDDING, EncoderKind};
use train::families::palmvein::net::{
    BackboneConfig, Branch, ConvNextConfig, EfficientVitConfig, FusionConfig, Mixer, PalmVeinNet, PalmVeinNetConfig,
    Stage1Net, Stage1NetConfig,
};
use train::families::reid::net::{ReidNet, ReidNetConfig};
use train::families::senet::net::{SenetNetConfig, SenetTripletNetwork};
use train::nn::dropout::Masks;

use crate::networks::block;
use crate::networks::convnext::ConvNext;
use crate::networks::gpt::{Gpt, TOKENS};
use crate::networks::mobilenet::MobileNet;
use crate::networks::norms::Norms;
use crate::networks::recurrent::Recurrent;
use crate::networks::resnet::ResNet;
use crate::networks::unet::UNet;
use crate::networks::vit::Vit;
use crate::{Given, Taken, filled};

use super::plain::{Arithmetic, Convolutional, Perceptron, Resized, Sound};

/// An input of a network: its first axis is the batch.
pub struct Input {
    /// Its name.
    pub name: &'static str,
    /// The axes after the batch.
    pub row: &'static [usize],
    /// Upper bound of integers, excluded; floats if `None`.
    pub below: Option<i64>,
}

/// A function applied to each network.
pub trait Visitor {
    /// Visits the network that `new` builds, the same in every call, with its forward function.
    fn visit<M, I, O>(&mut self, name: &'static str, new: fn() -> M, inputs: &[Input], forward: fn(&M, I) -> O)
    where
        M: Module + 'static,
        I: Taken + 'static,
        O: Given + 'static;
}

const fn floats(name: &'static str, row: &'static [usize]) -> Input {
    Input { name, row, below: None }
}

/// Networks of typical users.
pub fn others(visitor: &mut impl Visitor) {
    visitor.visit("convolutional", Convolutional::new, &[floats("image", &[3, 16, 24])], Convolutional::forward);
    visitor.visit("perceptron", Perceptron::new, &[floats("row", &[10])], Perceptron::forward);
    visitor.visit("sound", Sound::new, &[floats("wave", &[2, 40])], Sound::forward);
    visitor.visit("resized", Resized::new, &[floats("image", &[1, 12, 16])], Resized::forward);
    visitor.visit("arithmetic", Arithmetic::new, &[floats("rows", &[6])], Arithmetic::forward);
    visitor.visit("resnet18", || ResNet::new([2, 2, 2, 2], &[3, 3]), &[floats("image", &[3, 64, 32])], ResNet::forward);
    visitor.visit(
        "resnet50",
        || ResNet::new([3, 4, 6, 3], &[1, 3, 1]),
        &[floats("image", &[3, 32, 64])],
        ResNet::forward,
    );
    visitor.visit("mobilenet", MobileNet::new, &[floats("image", &[3, 32, 24])], MobileNet::forward);
    visitor.visit("unet", UNet::new, &[floats("image", &[1, 16, 24])], UNet::forward);
    visitor.visit("convnext", ConvNext::new, &[floats("image", &[3, 32, 16])], ConvNext::forward);
    visitor.visit("vit", Vit::new, &[floats("image", &[3, 16, 32])], Vit::forward);
    let tokens = Input { name: "tokens", row: &[7], below: Some(TOKENS as i64) };
    visitor.visit("gpt", Gpt::new, &[tokens], |net: &Gpt, tokens: Tensor<2, Int>| net.forward(tokens));
    visitor.visit("lstm", Recurrent::new, &[floats("sequence", &[5, 6])], Recurrent::lstm);
    visitor.visit("recurrent", Recurrent::new, &[floats("sequence", &[4, 6])], Recurrent::all);
    visitor.visit("norms", Norms::new, &[floats("image", &[3, 10, 12])], Norms::forward);
}

/// Re-identification: parts of the networks, and whole ones.
pub fn persons(visitor: &mut impl Visitor) {
    let image = [floats("image", &[3, 32, 16])];
    visitor.visit("block", || block::Net::new(&Device::flex()), &image, block::Net::embed);
    let image = [floats("image", &[3, 64, 32])];
    visitor.visit("osnet_x0_25", || reid("OSNet_x0_25"), &image, ReidNet::embed);
    visitor.visit("lmbn_n", || reid("LMBN_n"), &image, ReidNet::embed);
}

fn reid(model: &str) -> ReidNet {
    filled(ReidNet::new(&ReidNetConfig::new(model, 2, 16).expect("a known name"), 1, &Device::flex()))
}

/// Faces: SENet and ControlNet.
pub fn faces(visitor: &mut impl Visitor) {
    let features = [floats("features", &[32]), floats("pose", &[3])];
    visitor.visit("senet_relu", || senet("relu"), &features, frontal);
    visitor.visit("senet_gelu", || senet("gelu"), &features, frontal);
    let picture = [floats("image", &[3, 16, 16]), floats("pose", &[3])];
    visitor.visit(
        "controlnet_conv",
        || controlnet(EncoderKind::Conv),
        &picture,
        |net: &ControlNet, (image, pose)| net.forward(image, pose).image,
    );
    let embedding = [floats("embedding", &[EMBEDDING]), floats("pose", &[3])];
    visitor.visit(
        "controlnet_embedding",
        || controlnet(EncoderKind::Embedding),
        &embedding,
        |net: &ControlNet, (row, pose)| net.generate(net.encode_embeddings(row), pose, &mut Masks::none()).image,
    );
}

fn senet(activation: &str) -> SenetTripletNetwork {
    let config = SenetNetConfig {
        image_dim: 32,
        hidden_dim: 16,
        identity_dim: 32,
        activation: activation.parse().unwrap(),
        ..SenetNetConfig::default()
    };
    filled(SenetTripletNetwork::new(&config, 1, &Device::flex()))
}

fn frontal(net: &SenetTripletNetwork, (features, pose): (Tensor<2>, Tensor<2>)) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let output = net.forward(features, pose, &mut Masks::none());
    (output.front_features, output.identity_features, output.front_pose)
}

fn controlnet(encoder: EncoderKind) -> ControlNet {
    let config = ControlNetConfig {
        encoder,
        features: 8,
        angles: 3,
        size: 16,
        control_layers: 2,
        dropout: 0.1,
        pose_scale: 1.0 / 90.0,
    };
    filled(ControlNet::new(&config, 1, &Device::flex()))
}

/// Palms and veins: single backbones, and both with their fusion.
pub fn palms(visitor: &mut impl Visitor) {
    let picture = [floats("palm", &[1, 64, 64])];
    visitor.visit("palm_vit", || backbone(Branch::VitPalm, Mixer::Global), &picture, Stage1Net::embed);
    visitor.visit("palm_vit_cascaded", || backbone(Branch::VitPalm, Mixer::Cascaded), &picture, Stage1Net::embed);
    visitor.visit("palm_cnn", || backbone(Branch::CnnPalm, Mixer::Global), &picture, Stage1Net::embed);
    let pair = [floats("palm", &[1, 64, 64]), floats("vein", &[1, 64, 64])];
    visitor.visit("palmvein_spatial", || palmvein(true), &pair, fused);
    visitor.visit("palmvein_vector", || palmvein(false), &pair, fused);
}

fn vit(mixer: Mixer) -> EfficientVitConfig {
    EfficientVitConfig {
        embed_dim: [16, 16, 24],
        key_dim: [4; 3],
        depth: [1; 3],
        num_heads: [2; 3],
        mixer,
        img_size: 64,
        ..EfficientVitConfig::default()
    }
}

fn cnn() -> ConvNextConfig {
    ConvNextConfig { depths: [1; 4], dims: [4, 8, 8, 16], layer_scale_init_value: 1.0, ..ConvNextConfig::default() }
}

fn backbone(branch: Branch, mixer: Mixer) -> Stage1Net {
    let backbone = if branch.is_vit() { BackboneConfig::Vit(vit(mixer)) } else { BackboneConfig::Cnn(cnn()) };
    let config = Stage1NetConfig { branch, backbone, classes: 0, identity: None };
    filled(Stage1Net::new(&config, 1, &Device::flex()).expect("sizes of a network"))
}

fn palmvein(use_spatial_fusion: bool) -> PalmVeinNet {
    let fusion = FusionConfig { out_dim_global: 16, out_dim_local: 16, use_spatial_fusion, ..FusionConfig::default() };
    let config =
        PalmVeinNetConfig { vit: vit(Mixer::Global), cnn: cnn(), fusion, share_backbones: false, centers: false };
    filled(PalmVeinNet::new(&config, 1, &Device::flex()).expect("sizes of a network"))
}

fn fused(net: &PalmVeinNet, (palm, vein): (Tensor<4>, Tensor<4>)) -> Tensor<2> {
    net.forward(palm, vein).embedding
}
