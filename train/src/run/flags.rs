//! Flags that all families share.

use std::ffi::OsStr;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args, Command};
use serde::Serialize;

use crate::device::DeviceName;
use crate::words::{Word, words};

words! {
    /// Form of the results on stdout.
    Format {
        /// For people.
        Table = "table",
        /// For programs.
        Json = "json",
    }
}

impl Format {
    /// Prints a result: its `table`, or the whole of it as JSON.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn print(self, result: &impl Serialize, table: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self {
            Self::Json => terminal::show!("{}", serde_json::to_string_pretty(result)?)?,
            Self::Table => terminal::show!("{}", table().trim_end())?,
        }
        Ok(())
    }
}

/// Flags of every run, whatever its family.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Settings that belong together, by name; a settings file and flags beat them.
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    pub recipe: Option<String>,
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
    /// Also write a self-contained page: of re-identification the numbers, CMC, histograms and the queries that went
    /// worst with their pictures; of palm and veins ROC, DET and histograms; of an ImageControlNet sample pictures.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Re-identification: the page of --report also shows where the network looks on the queries that went worst.
    #[arg(long)]
    pub activation_map: bool,
    /// Also report k-reciprocal re-ranking.
    #[arg(long, alias = "re-rank")]
    pub rerank: bool,
    /// Rank for the mean of each query and its N nearest entries (average query expansion), 0 to 1000; 0 is off.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub expand: usize,
    /// Also report CMC with one picture of each person in the gallery, drawn ten times (CUHK03's first protocol).
    #[arg(long)]
    pub single_shot: bool,
    /// Pictures in a batch [default: 32].
    #[arg(long, value_name = "N")]
    pub batchtest: Option<usize>,
    /// Threads that decode pictures, at most 256 or one per core [default: 2].
    #[arg(long, value_name = "N", value_parser = terminal::threads)]
    pub n_thread: Option<NonZeroUsize>,
    /// An unreadable picture is an error; otherwise it is left out and counted.
    #[arg(long)]
    pub strict: bool,
    /// Where to compute: cpu, auto (a GPU if there is one), cuda:0, wgpu. A GPU's back end must be compiled in.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: DeviceName,
    /// Form of the results on stdout.
    #[arg(long, value_parser = word::<Format>(), default_value_t = Format::Table)]
    pub format: Format,
}

/// A flag that was given and that the checkpoint's or network's product does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{flag} is for {}; this is `{found}`", users.join(", "))]
pub struct ForeignFlag {
    /// The flag.
    pub flag: String,
    /// What it is for.
    pub users: Vec<&'static str>,
    /// What it was given for.
    pub found: String,
}

/// Flags of a verb that were given on the command line, by their ids.
pub(crate) fn given<A: Args>(matches: &ArgMatches) -> Vec<String> {
    let verb = A::augment_args(Command::new("verb"));
    let ids = verb.get_arguments().map(|arg| arg.get_id().to_string());
    ids.filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine)).collect()
}

impl EvalArgs {
    /// Pictures in a batch.
    pub fn batch(&self) -> usize {
        self.batchtest.unwrap_or(32)
    }

    /// Threads that decode pictures.
    pub fn threads(&self) -> usize {
        self.n_thread.map_or(2, NonZeroUsize::get)
    }
}

/// Flags of `train import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Weights: .pth or .pt (read as data only, with or without a dictionary around the state dictionary), or
    /// .safetensors.
    pub weights: PathBuf,
    /// Network: auto, the one whose tensors the weights are. Settings of SENet and ImageControlNet are read from the
    /// weights, palmvein is both stages, and the names behind it are its backbones. Others
    #[arg(long, default_value = AUTO)]
    pub model: String,
    /// Checkpoint to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Training identities; as in the weights without it.
    #[arg(long, value_name = "N")]
    pub num_classes: Option<usize>,
    /// Features of each part of the embedding; as in the weights without it.
    #[arg(long, value_name = "N")]
    pub feats: Option<usize>,
    /// A setting of the network that its tensors do not show, as in a settings file: last_stride=2, stem=padded. May
    /// be repeated.
    #[arg(long, value_name = "SETTING=VALUE")]
    pub with: Vec<String>,
    /// Height of the input the network was trained for, in pixels [default: 384].
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<usize>,
    /// Width of the input the network was trained for, in pixels [default: 128].
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<usize>,
    /// Palm and veins: side of the input the network was trained for, in pixels [default: 224].
    #[arg(long, value_name = "PIXELS")]
    pub img_size: Option<usize>,
    /// Keep start values for classifiers of another number of classes.
    #[arg(long)]
    pub partial: bool,
    /// Take the weights of the last step where the file also has a moving average of them (EMA), which is taken
    /// without this.
    #[arg(long)]
    pub no_ema: bool,
}

/// The word of `--model` that lets the weights tell the network.
pub const AUTO: &str = "auto";

/// Flags of `train inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// Run directory or checkpoint.
    #[arg(required_unless_present = "model")]
    pub checkpoint: Option<PathBuf>,
    /// Parameters and multiply-adds of a network, without a checkpoint
    #[arg(long, value_name = "NAME", conflicts_with_all = ["checkpoint", "channels", "attention", "data_dir"])]
    pub model: Option<String>,
    /// A setting of the network, as in a settings file: parts=3, bnneck=true, attention=cbam. May be repeated.
    #[arg(long, value_name = "SETTING=VALUE")]
    pub with: Vec<String>,
    /// Height of the network's input in pixels [default: 384].
    #[arg(long, value_name = "PIXELS")]
    pub height: Option<usize>,
    /// Width of the network's input in pixels [default: 128].
    #[arg(long, value_name = "PIXELS")]
    pub width: Option<usize>,
    /// Training identities [default: 751].
    #[arg(long, value_name = "N")]
    pub num_classes: Option<usize>,
    /// SENet: draw and list how one sample's channels are weighed.
    #[arg(long, conflicts_with = "attention")]
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
    #[arg(long, value_name = "N", default_value_t = 8, requires = "attention")]
    pub pairs: usize,
    /// Form of the results on stdout.
    #[arg(long, value_parser = word::<Format>(), default_value_t = Format::Table)]
    pub format: Format,
}

/// Flags of `train bench-step`.
#[derive(Debug, Args)]
pub struct BenchStepArgs {
    /// Network; SENet, ControlNet (small encoder) and palmvein (stage 2, all four backbones train) at their default
    /// sizes
    #[arg(long, default_value = "LMBN_n")]
    pub model: String,
    /// Pictures in a batch, at least 2.
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// Height in pixels (re-ID).
    #[arg(long, default_value_t = 384)]
    pub height: usize,
    /// Width in pixels (re-ID).
    #[arg(long, default_value_t = 128)]
    pub width: usize,
    /// Training identities (re-ID, palmvein), at least 1.
    #[arg(long, default_value_t = 751)]
    pub identities: usize,
    /// Steps that are timed.
    #[arg(long, default_value_t = 3)]
    pub steps: usize,
    /// Steps before them that are not.
    #[arg(long, default_value_t = 1)]
    pub warmup: usize,
    /// Read batches from this folder as a run does (four pictures of each identity, random erasing, no picture kept
    /// decoded), instead of one made-up batch again and again.
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
    /// Threads, at most 256 or one per core.
    #[arg(long, default_value = "2", value_name = "N", value_parser = terminal::threads)]
    pub threads: NonZeroUsize,
    /// Form of the results on stdout.
    #[arg(long, value_parser = word::<Format>(), default_value_t = Format::Table)]
    pub format: Format,
}

/// A verb with the flags of `A`, and its own line of help: what is written on `A` is for programmers.
pub(crate) fn with_flags<A: Args>(verb: Command) -> Command {
    let about = verb.get_about().cloned().unwrap_or_default();
    A::augment_args(verb).about(about).long_about(None::<&'static str>)
}

/// Adds the names that `--model` of a verb knows to its help.
pub(crate) fn with_networks(command: Command, names: &[&str]) -> Command {
    command.mut_arg("model", |arg| {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{help}: {}", names.join(", ")))
    })
}

/// Reads one of the words of an enum, in any case; the help lists them with what they mean.
pub(crate) fn word<W: Word + Clone + Send + Sync + 'static>() -> impl TypedValueParser<Value = W> {
    Words(PhantomData)
}

#[derive(Clone)]
struct Words<W>(PhantomData<W>);

impl<W: Word> Words<W> {
    fn all() -> impl Iterator<Item = PossibleValue> {
        let meanings = W::MEANINGS.iter().map(|meaning| meaning.trim());
        W::WORDS.iter().zip(meanings).map(|(word, meaning)| PossibleValue::new(*word).help(meaning))
    }
}

impl<W: Word + Clone + Send + Sync + 'static> TypedValueParser for Words<W> {
    type Value = W;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<W, clap::Error> {
        let known = W::WORDS.iter().find(|word| value.eq_ignore_ascii_case(word));
        let parser = PossibleValuesParser::new(Self::all()).try_map(|word| word.parse::<W>());
        parser.parse_ref(command, arg, known.map_or(value, OsStr::new))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Self::all()))
    }
}

/// PyTorch scripts write `True` and `False`.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("True or False is wanted".into()),
    }
}
