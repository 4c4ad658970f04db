//! Palm-vein recognition, as the verbs of the program see it.

use std::process::ExitCode;

use burn::tensor::Device;
use clap::{ArgMatches, FromArgMatches};
use serde_json::{Map, Value};

use crate::families::palmvein::cli::{PalmveinArgs, PreviewArgs, PreviewCommand, Stage1Args, Stage2Args};
use crate::families::palmvein::net::Branch;
use crate::families::palmvein::{
    FAMILY, STAGE1_FAMILY, Stage1Config, Stage2Config, attention, bench_step, command, import, preview,
};
use crate::families::{Guess, Product, Verb};
use crate::run::checkpoint::Checkpoint;
use crate::run::flags::{BenchStepArgs, EvalArgs, Format, ImportArgs, InspectArgs, with_flags};
use crate::run::preview::refuse_unread;
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

    fn preview(&self) -> Option<clap::Command> {
        let about = "Draw the pictures of palm and veins: the first triplets of stage 1, or the first pairs of stage 2";
        Some(with_flags::<PreviewArgs>(clap::Command::new("palmvein").about(about)))
    }

    fn draw_preview(&self, flags: &ArgMatches) -> anyhow::Result<ExitCode> {
        let args = PreviewArgs::from_arg_matches(flags)?;
        let (_, own) = flags.subcommand().expect("clap asks for a stage");
        // What a stage starts from is not drawn.
        let weights = ["vit_palm", "vit_vein", "cnn_palm", "cnn_vein"];
        match &args.command {
            PreviewCommand::Stage1(_) => refuse_unread::<Stage1Args>(own, &["pre_train"])?,
            PreviewCommand::Stage2(_) => refuse_unread::<Stage2Args>(own, &[&["stage1"], &weights[..]].concat())?,
        }
        preview::draw(&args.command)
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
