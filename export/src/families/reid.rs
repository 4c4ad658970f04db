//! Re-identification: a picture to the features of its parts.

use anyhow::Context;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use contract::{Axis, EmbeddingSpec, InputSpec, ModelContract, OutputSpec};
use export::ExportedModel;
use train::families::reid::net::{ReidNet, ReidNetConfig};
use train::families::reid::settings::ReidConfig;
use train::families::reid::task as reid;
use train::run::checkpoint::Checkpoint;
use train::weights::{Partial, StateDict};

use super::Options;

/// The network in evaluation mode, with its run's settings.
pub struct Reid {
    net: ReidNet,
    network: ReidNetConfig,
    config: ReidConfig,
}

/// The exported model and its contract: features of all parts from a picture.
pub fn export(
    Reid { net, network, config }: &Reid,
    checkpoint: &Checkpoint,
    options: &Options,
) -> anyhow::Result<(ExportedModel, ModelContract)> {
    let input = InputSpec::picture("image", options.batch.clone(), reid::picture_spec(config));
    let model = options
        .exporter()
        .input(&input.name, input.shape.clone())
        .output("features")
        .export(net, |net: &ReidNet, images: Tensor<4>| net.embed(images))?;

    let (channels, parts) = (network.net.features(), net.parts());
    let features = OutputSpec {
        name: "features".into(),
        meaning: network.net.compared().into(),
        shape: vec![options.batch.clone(), Axis::Size(channels), Axis::Size(parts)],
        unit_length: false,
        metric: "cosine".into(),
        picture: None,
        map: None,
    };
    let embedding = EmbeddingSpec {
        output: features.name.clone(),
        dim: channels * parts,
        parts,
        flip: !options.no_flip,
        // Set by the bundle, which hashes the weights.
        contract_id: String::new(),
    };
    let contract = ModelContract {
        input: vec![input],
        output: vec![features],
        embedding: Some(embedding),
        ..options.contract(checkpoint, network.net.name())?
    };
    Ok((model, contract))
}

/// Reads the network of a checkpoint.
pub fn open(checkpoint: &Checkpoint) -> anyhow::Result<Reid> {
    let network: ReidNetConfig = checkpoint.network(reid::FAMILY)?;
    let config: ReidConfig = serde_json::from_value(checkpoint.record.config.clone())
        .with_context(|| format!("the settings in `{}` are malformed", checkpoint.path.display()))?;
    let mut net = ReidNet::new(&network, config.seed, &Device::flex());
    StateDict::load_file(&checkpoint.path, &mut net, network.net.name(), Partial::Nothing)?;
    Ok(Reid { net: net.valid(), network, config })
}
