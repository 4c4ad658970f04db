//! The command line: flags as typed, laid over a file, laid over the defaults.

use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};

use train::config::ReidConfig;

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
    /// Evaluate a checkpoint: query against gallery, CMC and mAP by the Market-1501 protocol.
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

/// Flags of `train reid`. Each is a field of [`ReidConfig`], which owns the defaults.
#[derive(Debug, Args, Serialize)]
#[serde(rename_all = "snake_case")]
pub struct ReidArgs {
    /// Settings from a YAML or TOML file; flags beat the file, the file beats the defaults.
    #[arg(long, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print every setting and where it comes from, and stop.
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
    /// Run directory, instead of runs/reid/<save>.
    #[arg(long, value_name = "DIR", conflicts_with = "resume")]
    #[serde(skip)]
    pub save_dir: Option<PathBuf>,
    /// Continue a run directory or checkpoint, with its settings; flags given here beat them.
    #[arg(long, value_name = "RUN", alias = "load")]
    #[serde(skip)]
    pub resume: Option<PathBuf>,
    /// Start a new run in a run directory that already holds one; its files are replaced.
    #[arg(long, conflicts_with = "resume")]
    #[serde(skip)]
    pub overwrite: bool,
    /// Resumable checkpoints to keep.
    #[arg(long, value_name = "N", default_value_t = 2)]
    #[serde(skip)]
    pub keep_checkpoints: usize,
    /// Allow weights of another number of classes in --pre-train; the classifiers then start anew.
    #[arg(long)]
    #[serde(skip)]
    pub pre_train_partial: bool,

    /// Network: LMBN_n.
    #[arg(long)]
    model: Option<String>,
    /// Folder of the datasets, or of the one dataset.
    #[arg(long, value_name = "DIR", alias = "data-dir")]
    datadir: Option<String>,
    /// Datasets to train on, joined by +: market1501, dukemtmc, cuhk03, msmt17, folders; empty: told from the folders.
    #[arg(long, value_name = "NAMES")]
    data_train: Option<String>,
    /// Datasets to evaluate on, joined by +; empty: told from the folders.
    #[arg(long, value_name = "NAMES")]
    data_test: Option<String>,
    /// cuhk03 means the hand-drawn boxes, not the detected ones.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    cuhk03_labeled: Option<bool>,
    /// Dataset `folders`: identities that train, the first in natural order; half of them without.
    #[arg(long, value_name = "N")]
    train_identities: Option<usize>,
    /// Epochs to train; 0: the untrained network is evaluated and saved.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Epochs between evaluations; 0: only after the last.
    #[arg(long, value_name = "N")]
    test_every: Option<usize>,
    /// Identities in a batch (P).
    #[arg(long, value_name = "P")]
    batchid: Option<usize>,
    /// Pictures of each identity in a batch (K).
    #[arg(long, value_name = "K")]
    batchimage: Option<usize>,
    /// Pictures in a batch of evaluation.
    #[arg(long, value_name = "N")]
    batchtest: Option<usize>,
    /// Batches of P identities × K pictures; False: P·K pictures in any order.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    sampler: Option<bool>,
    /// Loss, weight*name joined by +: CrossEntropy, Focal, Triplet, TripletSemihard, MSLoss, CenterLoss.
    #[arg(long, value_name = "EXPRESSION")]
    loss: Option<String>,
    /// Label smoothing (0.1) in the cross entropy.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    if_labelsmooth: Option<bool>,
    /// Margin of Triplet (Euclidean distance; 0: soft) and MSLoss (cosine).
    #[arg(long)]
    margin: Option<f64>,
    /// Features of each part of the embedding.
    #[arg(long, value_name = "N")]
    feats: Option<usize>,
    /// Height of the network's input in pixels.
    #[arg(long, value_name = "PIXELS")]
    height: Option<usize>,
    /// Width of the network's input in pixels.
    #[arg(long, value_name = "PIXELS")]
    width: Option<usize>,
    /// Optimiser: ADAM, SGD, NADAM, RMSprop.
    #[arg(long)]
    optimizer: Option<String>,
    /// Learning rate.
    #[arg(long)]
    lr: Option<f64>,
    /// Momentum (SGD, RMSprop), 0 to 1.
    #[arg(long)]
    momentum: Option<f64>,
    /// Dampening of the momentum (SGD), 0 to 1.
    #[arg(long)]
    dampening: Option<f64>,
    /// Nesterov momentum (SGD).
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    nesterov: Option<bool>,
    /// Decay of the first moment (ADAM, NADAM), 0 to 1.
    #[arg(long)]
    beta1: Option<f64>,
    /// Decay of the second moment (ADAM, NADAM), 0 to 1.
    #[arg(long)]
    beta2: Option<f64>,
    /// Largest second moment so far instead of the last (ADAM).
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    amsgrad: Option<bool>,
    /// Floor under the second moment's root.
    #[arg(long)]
    epsilon: Option<f64>,
    /// Factor of the learning rate at each milestone.
    #[arg(long)]
    gamma: Option<f64>,
    /// L2 penalty, added to the gradient.
    #[arg(long)]
    weight_decay: Option<f64>,
    /// Milestones: step_40_70 lowers the rate after 40 and after 70 epochs, step never.
    #[arg(long, value_name = "STEPS")]
    decay_type: Option<String>,
    /// Start of the learning rate without a cosine: constant, linear.
    #[arg(long)]
    warmup: Option<String>,
    /// Epochs of warm-up.
    #[arg(long, value_name = "N")]
    warmup_epochs: Option<usize>,
    /// Learning rate follows half a cosine.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    cosine_annealing: Option<bool>,
    /// Learning rate warms up, then follows half a cosine.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    w_cosine_annealing: Option<bool>,
    /// Random erasing.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    random_erasing: Option<bool>,
    /// Probability of random erasing, 0 to 1.
    #[arg(long)]
    probability: Option<f64>,
    /// Blank out a random 64×64 square.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    cutout: Option<bool>,
    /// Also report k-reciprocal re-ranking at evaluation.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    re_rank: Option<bool>,
    /// Name of the run: its directory is runs/reid/<save>.
    #[arg(long, value_name = "NAME")]
    save: Option<String>,
    /// Weights to start from (.pth, .pt, .safetensors): of the network, or of its ImageNet backbone.
    #[arg(long, value_name = "FILE")]
    pre_train: Option<String>,
    /// Seed of sampler, transforms and initial weights.
    #[arg(long)]
    seed: Option<u64>,
    /// Threads that decode pictures.
    #[arg(long, value_name = "N", aliases = ["nThread", "num-workers"])]
    n_thread: Option<usize>,
    /// An unreadable picture is an error; otherwise it is replaced or left out, and counted.
    #[arg(long, num_args = 0..=1, default_missing_value = "true", value_parser = boolean)]
    strict: Option<bool>,
    /// Memory for decoded training pictures, in MB; 0: none are kept.
    #[arg(long, value_name = "MB")]
    cache_mb: Option<usize>,
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
    /// Form of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// Flags of `train import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Weights: .pth or .pt (read as data only, with or without a dictionary around the state dictionary), or .safetensors.
    pub weights: PathBuf,
    /// Network: LMBN_n.
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
    /// Keep start values for classifiers of another number of classes.
    #[arg(long)]
    pub partial: bool,
}

/// Flags of `train inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Run directory or checkpoint.
    pub checkpoint: PathBuf,
    /// Form of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// Flags of `train bench-step`.
#[derive(Debug, Args)]
pub struct BenchStepArgs {
    /// Network: LMBN_n.
    #[arg(long, default_value = "LMBN_n")]
    pub model: String,
    /// Pictures in a batch.
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Height in pixels.
    #[arg(long, default_value_t = 384)]
    pub height: usize,
    /// Width in pixels.
    #[arg(long, default_value_t = 128)]
    pub width: usize,
    /// Training identities.
    #[arg(long, default_value_t = 751)]
    pub identities: usize,
    /// Steps that are timed.
    #[arg(long, default_value_t = 3)]
    pub steps: usize,
    /// Steps before them that are not.
    #[arg(long, default_value_t = 1)]
    pub warmup: usize,
    /// Threads.
    #[arg(long, default_value_t = 2)]
    pub threads: usize,
    /// Form of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// PyTorch scripts write `True` and `False`.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("True or False is wanted".into()),
    }
}

/// The command line, checked; `--help` shows the defaults that [`ReidConfig`] owns.
///
/// # Errors
/// What clap found, a request for help included.
pub fn parse() -> Result<Cli, clap::Error> {
    let Value::Object(defaults) = serde_json::to_value(ReidConfig::default()).expect("settings are plain data") else {
        unreachable!("a struct serialises to an object")
    };
    let with_defaults = |command: clap::Command| {
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
    };
    let command = Cli::command().mut_subcommand("reid", with_defaults);
    let matches = command.try_get_matches_from(contract::cli::arguments())?;
    Cli::from_arg_matches(&matches)
}

/// Why settings cannot be put together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read settings `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is neither YAML nor TOML, or does not hold settings by name.
    #[error("settings `{}`: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A setting is unknown or of the wrong kind.
    #[error("{origin}: {problem}")]
    Value {
        /// Where it was given.
        origin: String,
        /// What is wrong.
        problem: String,
    },
    /// A value out of range.
    #[error(transparent)]
    Config(#[from] train::config::ConfigError),
}

/// A setting's value and where it came from.
pub type Origins = Map<String, Value>;

impl ReidArgs {
    /// Defaults, then `base` (a checkpoint's settings), then the file, then the flags. Also returns where each value is from.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn resolve(&self, base: Option<&Value>) -> Result<(ReidConfig, Origins), SettingsError> {
        let Value::Object(mut values) = serde_json::to_value(ReidConfig::default()).expect("settings are plain data")
        else {
            unreachable!("a struct serialises to an object")
        };
        let mut origins: Origins = values.keys().map(|key| (key.clone(), "default".into())).collect();
        let mut lay = |layer: Map<String, Value>, origin: &str| {
            for (key, value) in layer {
                // Settings files of the reference spell one key in capitals.
                let key = if key == "nThread" { "n_thread".to_owned() } else { key.replace('-', "_") };
                if !values.contains_key(&key) {
                    let mut known: Vec<_> = values.keys().map(String::as_str).collect();
                    known.sort_unstable();
                    let problem = format!("unknown setting `{key}`; known: {}", known.join(", "));
                    return Err(SettingsError::Value { origin: origin.to_owned(), problem });
                }
                values.insert(key.clone(), value);
                origins.insert(key, origin.into());
            }
            // Checked layer by layer, so that the message names the layer.
            let check = serde_json::from_value::<ReidConfig>(Value::Object(values.clone()));
            check
                .map(drop)
                .map_err(|error| SettingsError::Value { origin: origin.to_owned(), problem: error.to_string() })
        };
        if let Some(Value::Object(base)) = base {
            lay(base.clone(), "checkpoint")?;
        }
        if let Some(path) = &self.config {
            lay(read_settings(path)?, &path.display().to_string())?;
        }
        let Value::Object(flags) = serde_json::to_value(self).expect("flags are plain data") else {
            unreachable!("a struct serialises to an object")
        };
        lay(flags.into_iter().filter(|(_, value)| !value.is_null()).collect(), "command line")?;
        let config: ReidConfig = serde_json::from_value(Value::Object(values)).expect("the last layer was checked");
        config.check()?;
        Ok((config, origins))
    }
}

/// Settings by name from a YAML or TOML file.
fn read_settings(path: &Path) -> Result<Map<String, Value>, SettingsError> {
    /// Larger than any settings file, small enough to read without a thought.
    const MAX_BYTES: u64 = 1 << 20;
    let unreadable = |source| SettingsError::Read { path: path.to_owned(), source };
    let wrong = |problem: String| SettingsError::File { path: path.to_owned(), problem };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_BYTES {
        return Err(wrong(format!("{size} bytes, {MAX_BYTES} allowed")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let value: Value = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        Some("yaml" | "yml") => serde_yaml_ng::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        other => return Err(wrong(format!("`.{}` is not `.yaml`, `.yml` or `.toml`", other.unwrap_or_default()))),
    };
    match value {
        Value::Object(settings) => Ok(settings),
        _ => Err(wrong("settings by name are wanted".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reid(arguments: &[&str]) -> ReidArgs {
        let arguments = ["train", "reid"].iter().chain(arguments);
        let Command::Reid(args) = Cli::try_parse_from(arguments).unwrap().command else { unreachable!() };
        *args
    }

    #[test]
    fn flags_beat_the_file_and_the_file_beats_the_defaults() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("a.yaml", "epochs: 7\nlr: 0.001\n"), ("a.toml", "epochs = 7\nlr = 0.001\n")] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let (config, origins) =
                reid(&["--config", path.to_str().unwrap(), "--lr", "0.5", "--sampler", "False"]).resolve(None).unwrap();
            assert_eq!((config.epochs, config.lr, config.sampler, config.batchid), (7, 0.5, false, 16));
            assert_eq!(origins["lr"], "command line");
            assert_eq!(origins["epochs"], path.to_str().unwrap());
            assert_eq!(origins["batchid"], "default");
        }
    }

    #[test]
    fn unknown_settings_and_wrong_kinds_name_their_origin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let problem = |text: &str| {
            std::fs::write(&path, text).unwrap();
            reid(&["--config", path.to_str().unwrap()]).resolve(None).unwrap_err().to_string()
        };
        assert!(problem("epoch: 7").contains("unknown setting `epoch`"));
        assert!(problem("epochs: many").contains("a.yaml"));
        assert!(problem("- 1").contains("by name"));
        let error = reid(&["--optimizer", "adamw"]).resolve(None).unwrap_err().to_string();
        assert!(error.contains("adamw") && error.contains("ADAM"), "{error}");
    }

    /// Every field of the settings has a flag, or is listed here with the network that it waits for.
    #[test]
    fn every_setting_has_a_flag() {
        let waiting = [
            "num_classes",
            "bnneck",
            "drop_block",
            "feat_inference",
            "h_ratio",
            "w_ratio",
            "pool",
            "parts",
            "pcb_different_lr",
        ];
        let Value::Object(settings) = serde_json::to_value(ReidConfig::default()).unwrap() else { unreachable!() };
        let command = Cli::command();
        let reid = command.find_subcommand("reid").unwrap();
        let flags: Vec<_> = reid.get_arguments().map(|arg| arg.get_id().as_str()).collect();
        for key in settings.keys() {
            assert_eq!(flags.contains(&key.as_str()), !waiting.contains(&key.as_str()), "{key}");
        }
    }
}
