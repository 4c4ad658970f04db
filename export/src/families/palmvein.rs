//! Palm and veins: a pair of pictures to one embedding, or one backbone alone.

use anyhow::{Context, bail};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use contract::{Axis, EmbeddingSpec, InputSpec, ModelContract, OutputSpec};
use export::ExportedModel;
use train::families::palmvein::net::{
    Branch, Details, Features, PalmVeinNet, PalmVeinNetConfig, Stage1Net, Stage1NetConfig, load_whole,
};
use train::families::palmvein::{FAMILY, STAGE1_FAMILY, Stage1Config, Stage2Config};
use train::run::checkpoint::Checkpoint;

use super::Options;

/// A whole network in evaluation mode, or one of its backbones.
pub enum PalmVein {
    /// Both stages.
    Whole(Box<Whole>),
    /// One backbone.
    Branch(Box<Single>),
}

/// A whole network with its run's settings.
pub struct Whole {
    net: PalmVeinNet,
    network: PalmVeinNetConfig,
    config: Stage2Config,
}

/// A backbone and the side length of its pictures.
pub struct Single {
    net: Stage1Net,
    network: Stage1NetConfig,
    img_size: usize,
}

/// Reads a checkpoint of either stage. `branch` extracts one backbone of a whole network.
pub fn open(checkpoint: &Checkpoint, branch: Option<Branch>) -> anyhow::Result<PalmVein> {
    let malformed = || format!("the settings in `{}` are malformed", checkpoint.path.display());
    let settings = checkpoint.record.config.clone();
    let device = Device::flex();
    if checkpoint.record.family == STAGE1_FAMILY {
        let network: Stage1NetConfig = checkpoint.network(STAGE1_FAMILY)?;
        if let Some(asked) = branch.filter(|asked| *asked != network.branch) {
            bail!("`{}` holds the branch {}, not {asked}", checkpoint.path.display(), network.branch);
        }
        let config: Stage1Config = serde_json::from_value(settings).with_context(malformed)?;
        let mut net = Stage1Net::new(&network, 0, &device)?;
        load_whole(&checkpoint.path, network.branch.name(), &mut net)?;
        let img_size = config.common.img_size;
        return Ok(PalmVein::Branch(Box::new(Single { net: net.valid(), network, img_size })));
    }
    let network: PalmVeinNetConfig = checkpoint.network(FAMILY)?;
    let config: Stage2Config = serde_json::from_value(settings).with_context(malformed)?;
    let Some(branch) = branch else {
        let mut net = PalmVeinNet::new(&network, 0, &device)?;
        load_whole(&checkpoint.path, &network.to_string(), &mut net)?;
        return Ok(PalmVein::Whole(Box::new(Whole { net: net.valid(), network, config })));
    };
    if !network.branches().any(|own| own == branch) {
        let own: Vec<_> = network.branches().map(Branch::name).collect();
        bail!("`{}` has no branch {branch}; it has {}", checkpoint.path.display(), own.join(", "));
    }
    let network = Stage1NetConfig { branch, backbone: network.backbone(branch), classes: 0, identity: None };
    let mut net = Stage1Net::new(&network, 0, &device)?;
    let tensors = train::families::palmvein::net::read_backbone(&checkpoint.path, branch)?;
    train::families::palmvein::net::load_backbone(&checkpoint.path, tensors, branch.name(), &mut net.model)?;
    let img_size = config.common.img_size;
    Ok(PalmVein::Branch(Box::new(Single { net: net.valid(), network, img_size })))
}

/// The exported model and its contract.
pub fn export(
    network: &PalmVein,
    checkpoint: &Checkpoint,
    options: &Options,
) -> anyhow::Result<(ExportedModel, ModelContract)> {
    match network {
        PalmVein::Whole(whole) => self::whole(whole, checkpoint, options),
        PalmVein::Branch(single) => {
            if options.attention {
                bail!("--attention needs a whole network; a single branch has no attention weights");
            }
            branch(single, checkpoint, options)
        }
    }
}

fn picture(name: &str, batch: &Axis, side: usize) -> InputSpec {
    InputSpec::picture(name, batch.clone(), train::families::palmvein::data::picture_spec([side; 2]))
}

fn rows(name: &str, meaning: &str, shape: Vec<Axis>) -> OutputSpec {
    OutputSpec {
        name: name.into(),
        meaning: meaning.into(),
        shape,
        unit_length: false,
        metric: String::new(),
        picture: None,
        map: None,
    }
}

fn embedding(batch: &Axis, dim: usize, meaning: &str) -> (OutputSpec, EmbeddingSpec) {
    let output = OutputSpec {
        unit_length: true,
        metric: "cosine".into(),
        ..rows("embedding", meaning, vec![batch.clone(), Axis::Size(dim)])
    };
    // A mirrored hand looks like the other hand, so mirror images are not added to the embedding.
    let spec = EmbeddingSpec { output: output.name.clone(), dim, parts: 1, flip: false, contract_id: String::new() };
    (output, spec)
}

fn branch(
    Single { net, network, img_size }: &Single,
    checkpoint: &Checkpoint,
    options: &Options,
) -> anyhow::Result<(ExportedModel, ModelContract)> {
    let name = if network.branch.is_palm() { "palm" } else { "vein" };
    let input = picture(name, &options.batch, *img_size);
    let model = options
        .exporter()
        .input(&input.name, input.shape.clone())
        .output("embedding")
        .export(net, |net: &Stage1Net, images: Tensor<4>| net.embed(images))?;
    let (output, spec) =
        embedding(&options.batch, network.backbone.features(), "features of one branch, scaled to unit length");
    let contract = ModelContract {
        input: vec![input],
        output: vec![output],
        embedding: Some(spec),
        ..options.contract(checkpoint, network.branch.name())?
    };
    Ok((model, contract))
}

/// Attention weights in the order of the outputs; those that the head does not have are left out.
fn weights(details: &Details) -> Vec<(&'static str, &'static str, Features)> {
    const GLOBAL: [(&str, &str); 2] = [
        ("global_weight_palm", "share of the palm in each value of the global half, 0 to 1"),
        ("global_weight_vein", "share of the veins in each value of the global half, 0 to 1"),
    ];
    const LOCAL: [(&str, &str); 2] = [
        ("local_weight_palm", "share of the palm in each value, or at each position, of the local half, 0 to 1"),
        ("local_weight_vein", "share of the veins in each value, or at each position, of the local half, 0 to 1"),
    ];
    let branches = [(&details.global, GLOBAL), (&details.local, LOCAL)];
    let named = branches.into_iter().filter_map(|(branch, names)| Some((branch.as_ref()?.weights.as_ref()?, names)));
    named
        .flat_map(|(weights, names)| {
            names.into_iter().zip(weights).map(|((name, meaning), weights)| (name, meaning, weights.clone()))
        })
        .collect()
}

/// The weights as one tensor each, with maps flattened: `[batch, values]` or `[batch, height · width]`.
fn flat(features: Features) -> Tensor<2> {
    match features {
        Features::Vector(rows) => rows,
        Features::Map(map) => map.flatten(1, 3),
    }
}

fn whole(
    Whole { net, network, config }: &Whole,
    checkpoint: &Checkpoint,
    options: &Options,
) -> anyhow::Result<(ExportedModel, ModelContract)> {
    let side = config.common.img_size;
    let reads = net.reads();
    // Modality dropout in training replaces a normalised picture by zeros.
    let absent = (config.modality_dropout > 0.0).then_some(0.0);
    let inputs: Vec<InputSpec> = ["palm", "vein"]
        .into_iter()
        .zip(reads)
        .filter(|(_, reads)| *reads)
        .map(|(name, _)| InputSpec { absent, ..picture(name, &options.batch, side) })
        .collect();
    let mut exporter = options.exporter();
    for input in &inputs {
        exporter = exporter.input(&input.name, input.shape.clone());
    }
    exporter = exporter.output("embedding");
    let (output, spec) =
        embedding(&options.batch, network.fusion.embedding(), "palm and veins fused, scaled to unit length");
    let mut outputs = vec![output];
    if options.attention {
        let blank = || Tensor::zeros([1, 1, side, side], &Device::flex());
        let found = weights(&net.forward(blank(), blank()));
        if found.is_empty() {
            bail!("--attention: a head of kind {:?} has no attention weights", network.fusion.parts);
        }
        for (name, meaning, features) in found {
            exporter = exporter.output(name);
            let meaning = match &features {
                Features::Vector(_) => meaning.to_owned(),
                Features::Map(map) => {
                    let [_, _, height, width] = map.dims();
                    format!("{meaning}; {height} rows of {width} positions")
                }
            };
            let map = match &features {
                Features::Vector(_) => None,
                Features::Map(map) => Some([map.dims()[2], map.dims()[3]]),
            };
            let [_, values] = flat(features).dims();
            let output = rows(name, &meaning, vec![options.batch.clone(), Axis::Size(values)]);
            outputs.push(OutputSpec { map, ..output });
        }
    }
    let attention = options.attention;
    let taken = move |details: Details| {
        let weights = if attention { weights(&details) } else { vec![] };
        let weights = weights.into_iter().map(|(.., features)| flat(features));
        std::iter::once(details.embedding.clone()).chain(weights).collect::<Vec<Tensor<2>>>()
    };
    let model = if reads == [true, true] {
        let forward = move |net: &PalmVeinNet, (palm, vein): (Tensor<4>, Tensor<4>)| taken(net.forward(palm, vein));
        exporter.export(net, forward)?
    } else {
        // A network of one modality expects its pictures as both inputs and reads one.
        let forward = move |net: &PalmVeinNet, images: Tensor<4>| taken(net.forward(images.clone(), images));
        exporter.export(net, forward)?
    };
    let mode = if network.fusion.use_spatial_fusion { "spatial" } else { "channel" };
    let contract = ModelContract {
        input: inputs,
        output: outputs,
        embedding: Some(spec),
        ..options.contract(checkpoint, &format!("EfficientViT + ConvNeXt, Stage2FusionCA ({mode})"))?
    };
    Ok((model, contract))
}
