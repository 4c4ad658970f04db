//! Palm-vein recognition, as the verbs of the program see it.

use std::process::ExitCode;

use burn::tensor::Device;
use clap::{ArgMatches, FromArgMatches};
use serde_json::{Map, Value};

use crate::families::palmvein::cli::PalmveinArgs;
use crate::families::palmvein::net::Branch;
use crate::families::palmvein::{
    FAMILY, STAGE1_FAMILY, Stage1Config, Stage2Config, attention, bench_step, command, import,
};
use crate::families::{Guess, Product, Verb};
use crate::run::checkpoint::Checkpoint;
use crate::run::flags::{BenchStepArgs, EvalArgs, Format, ImportArgs, InspectArgs, with_flags};
use crate::run::recipe::Recipe;
use crate::run::settings::{Settings, fields};
use crate::weights::StateDict;
use crate::words::Word;

/// Palm-vein recognition.
pub(crate) struct Palmvein;

impl Product for Palmvein {
    fn command(&self) -> clap::Command {
        let about = "Train palm-vein recognition: backbones, the head that fuses them, ablations";
        with_flags::<PalmveinArgs>(clap::Command::new("palmvein").about(about))
    }

    fn defaults(&self) -> Vec<(Option<&'static str>, Map<String, Value>)> {
        let (stage1, stage2) = (fields(&Stage1Config::default()), fields(&Stage2Config::default()));
        vec![(Some("stage1"), stage1), (Some("stage2"), stage2.clone()), (Some("ablate"), stage2)]
    }

    fn recipes(&self) -> Vec<(Option<&'static str>, &'static [Recipe])> {
        vec![(Some("stage1"), Stage1Config::RECIPES), (Some("stage2"), Stage2Config::RECIPES)]
    }

    fn train(&self, flags: &ArgMatches) -> anyhow::Result<ExitCode> {
        command::palmvein(&PalmveinArgs::from_arg_matches(flags)?)
    }

    fn checkpoints(&self) -> &'static [&'static str] {
        &[FAMILY, STAGE1_FAMILY]
    }

    fn networks(&self, verb: Verb) -> Vec<&'static str> {
        match verb {
            Verb::Import => [&[FAMILY], Branch::WORDS].concat(),
            Verb::Inspect => vec![],
            _ => vec![FAMILY],
        }
    }

    fn reads(&self, verb: Verb) -> &'static [&'static str] {
        match verb {
            Verb::Eval => &["report", "batchtest", "n_thread", "strict"],
            Verb::Import => &["img_size"],
            Verb::Inspect => &["attention", "data_dir", "pairs"],
            Verb::BenchStep => &["identities"],
        }
    }

    fn eval(&self, args: &EvalArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
        command::eval(args, checkpoint)
    }

    fn guess(&self, weights: &StateDict) -> Guess {
        import::guess(weights)
    }

    fn import(&self, args: &ImportArgs) -> anyhow::Result<ExitCode> {
        match args.model.parse() {
            Ok(branch) => import::import_branch(args, branch),
            Err(_) => import::import_pair_network(args),
        }
    }

    fn inspect(&self, args: &InspectArgs, checkpoint: &Checkpoint) -> anyhow::Result<Option<ExitCode>> {
        let Some(folder) = &args.attention else { return Ok(None) };
        let summaries = attention::draw(checkpoint, args.data_dir.as_deref(), args.pairs, folder)?;
        match args.format {
            Format::Json => terminal::show!("{}", serde_json::to_string_pretty(&summaries)?)?,
            Format::Table => terminal::show!("{}", attention::table(&summaries).trim_end())?,
        }
        Ok(Some(ExitCode::SUCCESS))
    }

    fn bench_step(&self, args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value> {
        bench_step::stage2(args, plain)
    }
}
