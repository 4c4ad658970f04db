//! Flags that all families share.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::device::DeviceName;
use crate::families::palmvein::Stage1Config;
use crate::families::reid::settings::ReidConfig;

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
    /// Also write a self-contained page: of palm and veins ROC, DET and histograms, of an ImageControlNet sample
    /// pictures.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Also report k-reciprocal re-ranking.
    #[arg(long, alias = "re-rank")]
    pub rerank: bool,
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
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// Flags of `train eval` that only some families have, each with these.
const EVAL_FLAGS: [(&str, &[&str]); 7] = [
    ("dataset", &["reid"]),
    ("train-identities", &["reid"]),
    ("report", &["palmvein", "palmvein-branch", "controlnet"]),
    ("rerank", &["reid"]),
    ("batchtest", &["reid", "palmvein", "palmvein-branch"]),
    ("n-thread", &["reid", "palmvein", "palmvein-branch", "controlnet"]),
    ("strict", &["reid", "palmvein", "palmvein-branch"]),
];

/// A flag that a checkpoint's family does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("--{flag} is for checkpoints of {}; this one is of the family `{family}`", families.join(", "))]
pub struct ForeignFlag {
    /// The flag.
    pub flag: &'static str,
    /// The families that have it.
    pub families: &'static [&'static str],
    /// The checkpoint's.
    pub family: String,
}

impl EvalArgs {
    /// Flags that were given and that not every family has.
    fn given(&self) -> Vec<&'static str> {
        let Self {
            checkpoint: _,
            datadir: _,
            device: _,
            format: _,
            dataset,
            train_identities,
            report,
            rerank,
            batchtest,
            n_thread,
            strict,
        } = self;
        let given = [
            ("dataset", dataset.is_some()),
            ("train-identities", train_identities.is_some()),
            ("report", report.is_some()),
            ("rerank", *rerank),
            ("batchtest", batchtest.is_some()),
            ("n-thread", n_thread.is_some()),
            ("strict", *strict),
        ];
        given.into_iter().filter(|(_, given)| *given).map(|(flag, _)| flag).collect()
    }

    /// Whether every flag that was given has an effect on checkpoints of `family`.
    ///
    /// # Errors
    /// The first that has none.
    pub fn fit(&self, family: &str) -> Result<(), ForeignFlag> {
        let given = self.given();
        let foreign = EVAL_FLAGS.iter().find(|(flag, families)| given.contains(flag) && !families.contains(&family));
        match foreign {
            Some((flag, families)) => Err(ForeignFlag { flag, families, family: family.to_owned() }),
            None => Ok(()),
        }
    }

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
    /// Network: LMBN_n, OSNet, OSNet_x0_75, OSNet_x0_5, OSNet_x0_25, ResNet50; SENet and ImageControlNet, whose
    /// settings are read from the weights; palmvein (both stages), or one backbone of it: vit-palm, vit-vein,
    /// cnn-palm, cnn-vein.
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
    #[arg(long, value_name = "N", default_value_t = 8, requires = "attention")]
    pub pairs: usize,
    /// Form of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

/// Flags of `train bench-step`.
#[derive(Debug, Args)]
pub struct BenchStepArgs {
    /// Network: LMBN_n, OSNet, OSNet_x0_75, OSNet_x0_5, OSNet_x0_25, ResNet50; SENet, ControlNet (small encoder) and
    /// palmvein (stage 2, all four backbones train) at their default sizes.
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

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::{Cli, Command};

    fn eval(more: &[&str]) -> EvalArgs {
        let words = ["train", "eval", "run"].iter().chain(more);
        let Command::Eval(args) = Cli::try_parse_from(words).unwrap().command else { unreachable!() };
        args
    }

    /// Every flag is one of all families, or is refused by the families that do not have it.
    #[test]
    fn each_family_refuses_the_flags_of_others() {
        let command = Cli::command();
        let all = ["checkpoint", "datadir", "device", "format"];
        let flags = command
            .find_subcommand("eval")
            .unwrap()
            .get_arguments()
            .filter(|arg| !all.contains(&arg.get_id().as_str()));
        let mut walked = Vec::new();
        for arg in flags {
            let name = arg.get_long().unwrap();
            let flag = format!("--{name}");
            let args = if arg.get_action().takes_values() { eval(&[&flag, "3"]) } else { eval(&[&flag]) };
            let (listed, families) = EVAL_FLAGS.iter().find(|(flag, _)| *flag == name).expect("every flag is listed");
            for family in ["reid", "senet", "controlnet", "palmvein", "palmvein-branch"] {
                let fits = args.fit(family);
                assert_eq!(fits.is_ok(), families.contains(&family), "{flag} {family}");
                if let Err(error) = fits {
                    assert_eq!((error.flag, error.families), (*listed, *families));
                }
            }
            walked.push(name);
        }
        assert_eq!(walked.len(), EVAL_FLAGS.len());
        assert!(eval(&[]).fit("senet").is_ok());
    }
}
