//! ControlNet: generates a face in a given pose, from a picture (or an embedding) and the pose.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use contract::{Axis, Colour, InputSpec, ModelContract, OutputSpec, PictureOutput};
use export::ExportedModel;
use train::families::controlnet::net::{ControlNet, ControlNetConfig, EMBEDDING, EncoderKind};
use train::families::controlnet::task as controlnet;
use train::nn::dropout::Masks;
use train::run::checkpoint::Checkpoint;
use train::weights::{Partial, StateDict};

use super::{Options, declare};

/// The network in evaluation mode.
pub struct Controlnet {
    net: ControlNet,
    config: ControlNetConfig,
}

/// The exported model and its contract: a picture from a source and a pose.
pub fn export(
    Controlnet { net, config }: &Controlnet,
    checkpoint: &Checkpoint,
    options: &Options,
) -> anyhow::Result<(ExportedModel, ModelContract)> {
    let batch = || options.batch.clone();
    let source = match config.encoder {
        EncoderKind::Embedding => InputSpec::numbers("embedding", batch(), EMBEDDING, "face embedding of the source"),
        EncoderKind::Conv | EncoderKind::Resnet50 => {
            InputSpec::picture("image", batch(), train::families::controlnet::data::picture_spec(config.size))
        }
    };
    let pose = InputSpec::numbers("pose", batch(), config.angles, "requested pose: yaw, pitch, roll in degrees")
        .within(-90.0, 90.0);
    let output = OutputSpec {
        // Names are unique in a graph, and an input may already be called `image`.
        name: "generated".into(),
        meaning: "the source's face in the requested pose".into(),
        shape: vec![batch(), Axis::Size(3), Axis::Size(config.size), Axis::Size(config.size)],
        unit_length: false,
        metric: String::new(),
        picture: Some(PictureOutput { layout: "NCHW".into(), colour: Colour::Rgb, range: [-1.0, 1.0] }),
        map: None,
    };
    let exporter = declare(declare(options.exporter(), &source), &pose).output(&output.name);
    let model = if config.encoder == EncoderKind::Embedding {
        exporter.export(net, |net: &ControlNet, (embedding, pose): (Tensor<2>, Tensor<2>)| {
            net.generate(net.encode_embeddings(embedding), pose, &mut Masks::none()).image
        })?
    } else {
        exporter
            .export(net, |net: &ControlNet, (image, pose): (Tensor<4>, Tensor<2>)| net.forward(image, pose).image)?
    };
    let contract = ModelContract {
        input: vec![source, pose],
        output: vec![output],
        ..options.contract(checkpoint, "ImageControlNet")?
    };
    Ok((model, contract))
}

/// Reads the network of a checkpoint.
pub fn open(checkpoint: &Checkpoint) -> anyhow::Result<Controlnet> {
    let config: ControlNetConfig = checkpoint.network(controlnet::FAMILY)?;
    let mut net = ControlNet::new(&config, 0, &Device::flex());
    StateDict::load_file(&checkpoint.path, &mut net, &config.to_string(), Partial::Nothing)?;
    Ok(Controlnet { net: net.valid(), config })
}
