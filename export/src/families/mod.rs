//! The families that the program can export: how each checkpoint becomes a model and its contract.

mod controlnet;
mod palmvein;
mod reid;
mod senet;

use std::path::Path;

use contract::{Axis, Exporter as ExporterFacts, InputSpec, ModelContract, Training};
use export::{ExportedModel, Exporter};
use train::families::palmvein::net::Branch;
use train::run::checkpoint::{Checkpoint, CheckpointError};

/// Families of checkpoints that [`Network::open`] reads.
const FAMILIES: [&str; 5] = [
    train::families::reid::task::FAMILY,
    train::families::senet::task::FAMILY,
    train::families::controlnet::task::FAMILY,
    train::families::palmvein::FAMILY,
    train::families::palmvein::STAGE1_FAMILY,
];

/// Options from the command line, for any family.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name of the model.
    pub name: String,
    /// ONNX operator set.
    pub opset: u32,
    /// Whether the graph is optimised.
    pub optimise: bool,
    /// The first axis of every input.
    pub batch: Axis,
    /// Whether to embed the picture alone, without its mirror image.
    pub no_flip: bool,
    /// Bytes of weights above which they go into a separate file.
    pub external_data: u64,
    /// Whether attention weights are outputs too.
    pub attention: bool,
    /// Licence of weights and data.
    pub licence: String,
}

impl Options {
    /// An exporter with these options and no inputs yet.
    fn exporter(&self) -> Exporter {
        Exporter::new(&self.name).opset(self.opset).optimise(self.optimise).external_data(self.external_data)
    }

    /// A contract with everything that the families share; the caller adds inputs and outputs.
    fn contract(&self, checkpoint: &Checkpoint, architecture: &str) -> anyhow::Result<ModelContract> {
        let record = &checkpoint.record;
        Ok(ModelContract {
            version: contract::VERSION,
            family: record.family.clone(),
            architecture: architecture.into(),
            input: vec![],
            output: vec![],
            embedding: None,
            threshold: None,
            golden: None,
            precision: "fp32".into(),
            quantisation: None,
            training: Training {
                command: record.published_command(),
                dataset: record.dataset.clone(),
                dataset_fingerprint: record.dataset_fingerprint.clone(),
                epoch: record.epoch,
                metrics: record.metrics.clone(),
                licence: self.licence.clone(),
                people: record.people.clone(),
            },
            exporter: ExporterFacts { checkpoint_sha256: checkpoint.sha256()?, ..ExporterFacts::default() },
        })
    }
}

/// Declares an input of the contract, with its range of values, to the exporter.
fn declare(exporter: Exporter, input: &InputSpec) -> Exporter {
    match input.range {
        Some([low, high]) => exporter.floats(&input.name, input.shape.clone(), low..=high),
        None => exporter.input(&input.name, input.shape.clone()),
    }
}

/// The network of a checkpoint, read and ready to be exported.
pub enum Network {
    /// Faces in a pose.
    Controlnet(Box<controlnet::Controlnet>),
    /// Re-identification.
    Reid(Box<reid::Reid>),
    /// Frontalisation of embeddings.
    Senet(Box<senet::Senet>),
    /// Palm and veins.
    PalmVein(Box<palmvein::PalmVein>),
}

impl Network {
    /// Reads the network of a checkpoint.
    ///
    /// # Errors
    /// If the family is unknown or the checkpoint malformed.
    pub fn open(checkpoint: &Checkpoint, branch: Option<Branch>) -> anyhow::Result<Self> {
        match checkpoint.record.family.as_str() {
            train::families::controlnet::task::FAMILY => Ok(Self::Controlnet(Box::new(controlnet::open(checkpoint)?))),
            train::families::reid::task::FAMILY => Ok(Self::Reid(Box::new(reid::open(checkpoint)?))),
            train::families::senet::task::FAMILY => Ok(Self::Senet(Box::new(senet::open(checkpoint)?))),
            train::families::palmvein::FAMILY | train::families::palmvein::STAGE1_FAMILY => {
                Ok(Self::PalmVein(Box::new(palmvein::open(checkpoint, branch)?)))
            }
            family => {
                let (path, found) = (checkpoint.path.clone(), format!("the family `{family}`"));
                let [others @ .., last] = FAMILIES.map(|family| format!("`{family}`"));
                let allowed = format!("{} or {last}", others.join(", "));
                Err(CheckpointError::Other { path, found, allowed }.into())
            }
        }
    }

    /// The exported model and its contract.
    ///
    /// # Errors
    /// If the network cannot be exported.
    pub fn export(&self, checkpoint: &Checkpoint, options: &Options) -> anyhow::Result<(ExportedModel, ModelContract)> {
        match self {
            Self::Controlnet(network) => controlnet::export(network, checkpoint, options),
            Self::Reid(network) => reid::export(network, checkpoint, options),
            Self::Senet(network) => senet::export(network, checkpoint, options),
            Self::PalmVein(network) => palmvein::export(network, checkpoint, options),
        }
    }
}

/// Refuses flags that have no effect for the checkpoint's family.
///
/// # Errors
/// Names the first such flag.
pub fn refuse_unused(checkpoint: &Checkpoint, options: &Options, branch: Option<Branch>) -> anyhow::Result<()> {
    let family = checkpoint.record.family.as_str();
    let reid = family == train::families::reid::task::FAMILY;
    let palms = [train::families::palmvein::FAMILY, train::families::palmvein::STAGE1_FAMILY].contains(&family);
    let flags = [
        ("--no-flip", options.no_flip, reid, "the embeddings of re-identification"),
        ("--attention", options.attention, palms, "networks of palm and veins"),
        ("--branch", branch.is_some(), palms, "networks of palm and veins"),
    ];
    match flags.into_iter().find(|(_, given, known, _)| *given && !known) {
        Some((flag, _, _, what)) => {
            anyhow::bail!("{flag} is for {what}; `{}` holds the family `{family}`", checkpoint.path.display())
        }
        None => Ok(()),
    }
}

/// A warning if training could score nothing, so that no epoch is known to be the best.
pub fn nothing_scored(checkpoint: &Checkpoint) -> Option<String> {
    let warning = checkpoint.record.queries.as_ref()?.warning()?;
    Some(format!("{warning}; epoch {} is exported, and nothing says how good it is", checkpoint.record.epoch))
}

/// Default name of the model: the run directory's name, else the file's.
pub fn name(checkpoint: &Path) -> String {
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let in_run = checkpoint.parent().filter(|folder| folder.join("run.json").exists());
    in_run.and_then(name).or_else(|| name(&checkpoint.with_extension(""))).unwrap_or_else(|| "model".into())
}
