//! SENet: from an embedding and its pose to the embedding of the frontal view, identity features and the frontal pose.

use anyhow::bail;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use contract::{Axis, InputSpec, ModelContract, OutputSpec};
use export::ExportedModel;
use train::families::senet::net::{SenetNetConfig, SenetTripletNetwork, load};
use train::families::senet::task::FAMILY;
use train::nn::dropout::Masks;
use train::run::checkpoint::Checkpoint;

use super::{Options, declare};

/// The network in evaluation mode, with its settings.
pub struct Senet {
    net: SenetTripletNetwork,
    config: SenetNetConfig,
}

/// The exported model and its contract.
pub fn export(
    Senet { net, config }: &Senet,
    checkpoint: &Checkpoint,
    options: &Options,
) -> anyhow::Result<(ExportedModel, ModelContract)> {
    let batch = &options.batch;
    let inputs = vec![
        InputSpec::numbers("features", batch.clone(), config.image_dim, "face embedding of any view, of unit length"),
        InputSpec::numbers("pose", batch.clone(), config.pose_dim, "angles of that view in degrees: yaw, pitch, roll")
            .within(-90.0, 90.0),
    ];
    let output = |name: &str, size: usize, meaning: &str, unit_length: bool, metric: &str| OutputSpec {
        name: name.into(),
        meaning: meaning.into(),
        shape: vec![batch.clone(), Axis::Size(size)],
        unit_length,
        metric: metric.into(),
        picture: None,
        map: None,
    };
    let outputs = vec![
        output("front_features", config.image_dim, "embedding of the frontal view, of any length", false, "cosine"),
        output("identity_features", config.identity_dim, "features that metric losses have shaped", true, "cosine"),
        output("front_pose", config.pose_dim, "estimated angles of the frontal view in degrees", false, ""),
    ];
    let mut exporter = options.exporter();
    for input in &inputs {
        exporter = declare(exporter, input);
    }
    for output in &outputs {
        exporter = exporter.output(&output.name);
    }
    let model = exporter.export(net, |net: &SenetTripletNetwork, (features, pose): (Tensor<2>, Tensor<2>)| {
        let output = net.forward(features, pose, &mut Masks::none());
        (output.front_features, output.identity_features, output.front_pose)
    })?;
    let contract = ModelContract { input: inputs, output: outputs, ..options.contract(checkpoint, "SENet")? };
    Ok((model, contract))
}

/// Reads the network of a checkpoint.
pub fn open(checkpoint: &Checkpoint) -> anyhow::Result<Senet> {
    let config: SenetNetConfig = checkpoint.network(FAMILY)?;
    if config.use_batch_stat {
        bail!(
            "`{}` was trained with --use_batch_stat: its gates use the mean of the batch, so a row's result depends on \
             the other rows; a deployed model must compute each row by itself",
            checkpoint.path.display()
        );
    }
    let mut net = SenetTripletNetwork::new(&config, 0, &Device::flex());
    load(&checkpoint.path, &mut net)?;
    Ok(Senet { net: net.valid(), config })
}
