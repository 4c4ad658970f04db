//! The command line: one file for the flags of each family, and how flags become [`settings`].

mod controlnet;
mod faces;
mod palmvein;
mod reid;
mod senet;
pub mod settings;

use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};
use train::config::{ControlnetConfig, ReidConfig, SenetConfig};
use train::device::DeviceName;
use train::task::palmvein::{Stage1Config, Stage2Config};

pub use controlnet::ControlnetArgs;
pub use palmvein::{AblateArgs, Branches, PalmveinArgs, PalmveinCommand, RoiArgs, Stage1Args, Stage2Args};
pub use reid::ReidArgs;
pub use senet::{AnalyseArgs, SenetArgs, SenetVerb};

/// Train biometric and re-identification networks.
#[derive(Debug, Parser)]
#[command(name = "train", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a re-identification network.
    // Of a flag given twice the last counts, as scripts that append to a list of flags expect.
    #[command(args_override_self = true)]
    Reid(Box<ReidArgs>),
    /// Train a network that draws a face in another pose.
    #[command(args_override_self = true)]
    Controlnet(Box<ControlnetArgs>),
    /// Train a network that frontalises face embeddings, or analyse such data.
    #[command(args_override_self = true)]
    Senet(Box<SenetArgs>),
    /// Train palm-vein recognition: backbones, the head that fuses them, ablations.
    Palmvein(PalmveinArgs),
    /// Evaluate a checkpoint: query against gallery, CMC and mAP by the Market-1501 protocol; of a SENet, how well profile views of
    /// its test people are found among frontal pictures; of an ImageControlNet, how near its pictures are to the true ones; of palm
    /// and veins, verification of the test pairs.
    Eval(EvalArgs),
    /// Make a checkpoint of foreign weights (.pth, .pt, .safetensors); every tensor is used or named.
    Import(ImportArgs),
    /// Show what a checkpoint is: network, parameters, run, metrics.
    Inspect(InspectArgs),
    /// Time one training step on made-up pictures (for ci/bench).
    BenchStep(BenchStepArgs),
}

/// Form of the results on stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

impl Format {
    /// Prints a result: its `table`, or the whole of it as JSON.
    ///
    /// # Errors
    /// If it cannot be written as JSON.
    pub fn print(self, result: &impl Serialize, table: impl FnOnce() -> String) -> serde_json::Result<()> {
        match self {
            Self::Json => println!("{}", serde_json::to_string_pretty(result)?),
            Self::Table => print!("{}", table()),
        }
        Ok(())
    }
}

/// Flags of every run, whatever its family.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Settings from a YAML or TOML file; flags beat the file, the file beats the defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print every setting and where it comes from, and stop.
    #[arg(long)]
    pub print_config: bool,
    /// Run directory, instead of the one named after the run; with --resume, instead of the one that is continued.
    #[arg(long, value_name = "DIR")]
    pub save_dir: Option<PathBuf>,
    /// Continue a run directory or checkpoint, with its settings; flags given here beat them.
    #[arg(long, value_name = "RUN", alias = "load")]
    pub resume: Option<PathBuf>,
    /// Start a new run in a run directory that already holds one; its files are replaced.
    #[arg(long)]
    pub overwrite: bool,
    /// Where to compute: cpu, auto (a GPU if there is one), cuda:0, wgpu. A GPU's back end must be compiled in.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceName,
    /// Resumable checkpoints to keep.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub keep_checkpoints: usize,
}

/// Flags of `train eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// Run directory or checkpoint.
    pub checkpoint: PathBuf,
    /// Folder of the datasets; as in the run without it.
    #[arg(long, value_name = "DIR", alias = "data-dir")]
    pub datadir: Option<PathBuf>,
    /// Datasets to evaluate on, joined by +; as in the run without it.
    #[arg(long, value_name = "NAMES", alias = "data-test")]
    pub dataset: Option<String>,
    /// Dataset `folders`: identities left to training; as in the run without it.
    #[arg(long, value_name = "N")]
    pub train_identities: Option<usize>,
    /// Also write a self-contained page: of palm and veins ROC, DET and histograms, of an ImageControlNet sample pictures.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Also report k-reciprocal re-ranking.
    #[arg(long, alias = "re-rank")]
    pub rerank: bool,
    /// Pictures in a batch.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub batchtest: usize,
    /// Threads that decode pictures.
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub n_thread: usize,
    /// An unreadable picture is an error; otherwise it is left out and counted.
    #[arg(long)]
    pub strict: bool,
    /// Where to compute: cpu, auto (a GPU if there is one), cuda:0, wgpu. A GPU's back end must be compiled in.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceName,
    /// Form of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// Flags of `train import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Weights: .pth or .pt (read as data only, with or without a dictionary around the state dictionary), or .safetensors.
    pub weights: PathBuf,
    /// Network: LMBN_n, OSNet, OSNet_x0_75, OSNet_x0_5, OSNet_x0_25, ResNet50; SENet and ImageControlNet, whose settings are read from the weights; palmvein (both stages), or one backbone of it: vit-palm,
    /// vit-vein, cnn-palm, cnn-vein.
    #[arg(long, default_value = "LMBN_n")]
    pub model: String,
    /// Checkpoint to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Training identities; as in the weights without it.
    #[arg(long, value_name = "N")]
    pub num_classes: Option<usize>,
    /// Features of each part of the embedding.
    #[arg(long, value_name = "N", default_value_t = ReidConfig::default().feats)]
    pub feats: usize,
    /// Height of the input the network was trained for, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = ReidConfig::default().height)]
    pub height: usize,
    /// Width of the input the network was trained for, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = ReidConfig::default().width)]
    pub width: usize,
    /// Palm and veins: side of the input the network was trained for, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = Stage1Config::default().common.img_size)]
    pub img_size: usize,
    /// Keep start values for classifiers of another number of classes.
    #[arg(long)]
    pub partial: bool,
}

/// Flags of `train inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Run directory or checkpoint.
    pub checkpoint: PathBuf,
    /// SENet: draw and list how one sample's channels are weighed.
    #[arg(long)]
    pub channels: bool,
    /// Data set of --channels or --attention; as in the run without it.
    #[arg(long, value_name = "DIR", alias = "datadir")]
    pub data_dir: Option<PathBuf>,
    /// Which pair of a frame and a frontal picture, from 0.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "channels")]
    pub sample: usize,
    /// Channels to list, largest gate first.
    #[arg(short = 'k', long, value_name = "K", default_value_t = 10, requires = "channels")]
    pub top: usize,
    /// Picture to write [default: channels.png].
    #[arg(short, long, value_name = "FILE", requires = "channels")]
    pub output: Option<PathBuf>,
    /// Palm and veins: draw the attention weights of test pairs into a folder, as pictures and CSV.
    #[arg(long, value_name = "DIR")]
    pub attention: Option<PathBuf>,
    /// Test pairs that --attention draws.
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub pairs: usize,
    /// Form of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// Flags of `train bench-step`.
#[derive(Debug, Args)]
pub struct BenchStepArgs {
    /// Network: LMBN_n, OSNet, OSNet_x0_75, OSNet_x0_5, OSNet_x0_25, ResNet50; SENet, ControlNet (small encoder) and palmvein (stage
    /// 2, all four backbones train) at their default sizes.
    #[arg(long, default_value = "LMBN_n")]
    pub model: String,
    /// Pictures in a batch.
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Height in pixels (re-ID).
    #[arg(long, default_value_t = 384)]
    pub height: usize,
    /// Width in pixels (re-ID).
    #[arg(long, default_value_t = 128)]
    pub width: usize,
    /// Training identities (re-ID, palmvein).
    #[arg(long, default_value_t = 751)]
    pub identities: usize,
    /// Steps that are timed.
    #[arg(long, default_value_t = 3)]
    pub steps: usize,
    /// Steps before them that are not.
    #[arg(long, default_value_t = 1)]
    pub warmup: usize,
    /// Read batches from this folder as a run does (four pictures of each identity, random erasing, no picture kept decoded),
    /// instead of one made-up batch again and again.
    #[arg(long, value_name = "DIR")]
    pub datadir: Option<PathBuf>,
    /// ResNet50: with a batch-norm neck.
    #[arg(long)]
    pub bnneck: bool,
    /// Where to compute: cpu, auto (a GPU if there is one), cuda:0, wgpu. A GPU's back end must be compiled in.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceName,
    /// Compute in bfloat16 where the device gains by it.
    #[arg(long)]
    pub use_amp: bool,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Form of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// PyTorch scripts write `True` and `False`.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("True or False is wanted".into()),
    }
}

/// The commands whose flags are settings, a verb and its step each, with the defaults that the settings own.
fn families() -> [(&'static str, Option<&'static str>, Map<String, Value>); 6] {
    let (stage1, stage2) = (settings::fields(&Stage1Config::default()), settings::fields(&Stage2Config::default()));
    [
        ("reid", None, settings::fields(&ReidConfig::default())),
        ("senet", None, settings::fields(&SenetConfig::default())),
        ("controlnet", None, settings::fields(&ControlnetConfig::default())),
        ("palmvein", Some("stage1"), stage1),
        ("palmvein", Some("stage2"), stage2.clone()),
        ("palmvein", Some("ablate"), stage2),
    ]
}

/// The command line, checked; `--help` shows the defaults that the settings own.
///
/// # Errors
/// What clap found, a request for help included.
pub fn parse() -> Result<Cli, clap::Error> {
    let command = families().iter().fold(Cli::command(), |command, (verb, step, defaults)| {
        command.mut_subcommand(verb, |verb| match step {
            Some(step) => verb.mut_subcommand(step, |step| show_defaults(step, defaults)),
            None => show_defaults(verb, defaults),
        })
    });
    let matches = command.try_get_matches_from(controlnet::dashed(terminal::arguments()))?;
    Cli::from_arg_matches(&matches)
}

/// Adds to the help of each flag that is a setting the setting's default.
fn show_defaults(command: clap::Command, defaults: &Map<String, Value>) -> clap::Command {
    command.mut_args(|arg| {
        let Some(default) = defaults.get(arg.get_id().as_str()) else { return arg };
        let shown = match default {
            Value::Null | Value::Bool(false) => return arg,
            Value::String(text) if text.is_empty() => return arg,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{help} [default: {shown}]"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of the settings has a flag, or is listed here with the networks that are to come.
    #[test]
    fn every_setting_has_a_flag() {
        let waiting = [("reid", ["num_classes", "pool", "parts", "pcb_different_lr"])];
        let command = Cli::command();
        for (verb, step, settings) in families() {
            let family = command.find_subcommand(verb).unwrap();
            let family = step.map_or(family, |step| family.find_subcommand(step).unwrap());
            let flags: Vec<_> = family.get_arguments().map(|arg| arg.get_id().as_str()).collect();
            assert!(settings.len() > 30, "{verb} {step:?}");
            for key in settings.keys().map(String::as_str) {
                let waits = waiting.iter().any(|(of, keys)| *of == verb && keys.contains(&key));
                assert_eq!(flags.contains(&key), !waits, "{verb} {step:?} {key}");
            }
        }
    }
}
