//! The frontalizer, as the verbs of the program see it.

use std::process::ExitCode;

use burn::tensor::Device;
use clap::{ArgMatches, FromArgMatches};
use serde_json::{Map, Value};

use crate::families::faces::reference::{self, Reference};
use crate::families::senet::cli::SenetArgs;
use crate::families::senet::settings::SenetConfig;
use crate::families::senet::{bench_step, channels, command, task};
use crate::families::{Guess, Product, Verb};
use crate::run::checkpoint::Checkpoint;
use crate::run::flags::{BenchStepArgs, EvalArgs, ImportArgs, InspectArgs, with_flags};
use crate::run::recipe::Recipe;
use crate::run::settings::{Settings, fields};
use crate::weights::StateDict;

/// The frontalizer.
pub(crate) struct Senet;

impl Product for Senet {
    fn command(&self) -> clap::Command {
        let about = "Train a network that frontalises face embeddings, or analyse such data";
        with_flags::<SenetArgs>(clap::Command::new("senet").about(about).args_override_self(true))
    }

    fn defaults(&self) -> Vec<(Option<&'static str>, Map<String, Value>)> {
        vec![(None, fields(&SenetConfig::default()))]
    }

    fn recipes(&self) -> Vec<(Option<&'static str>, &'static [Recipe])> {
        vec![(None, SenetConfig::RECIPES)]
    }

    fn train(&self, flags: &ArgMatches) -> anyhow::Result<ExitCode> {
        command::senet(&SenetArgs::from_arg_matches(flags)?)
    }

    fn checkpoints(&self) -> &'static [&'static str] {
        &[task::FAMILY]
    }

    fn networks(&self, verb: Verb) -> Vec<&'static str> {
        if verb == Verb::Inspect { vec![] } else { vec![SenetConfig::NAME] }
    }

    fn reads(&self, verb: Verb) -> &'static [&'static str] {
        match verb {
            Verb::Inspect => &["channels", "data_dir", "sample", "top", "output"],
            Verb::Eval | Verb::Import | Verb::BenchStep => &[],
        }
    }

    fn eval(&self, args: &EvalArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
        command::eval(args, checkpoint)
    }

    fn guess(&self, weights: &StateDict) -> Guess {
        let known = weights.get("front_feature_projection.0.weight").is_some();
        if known { Guess::Is(SenetConfig::NAME) } else { Guess::None(Vec::new()) }
    }

    fn import(&self, args: &ImportArgs) -> anyhow::Result<ExitCode> {
        reference::import::<SenetConfig>(args)
    }

    fn inspect(&self, args: &InspectArgs, checkpoint: &Checkpoint) -> anyhow::Result<Option<ExitCode>> {
        args.channels.then(|| channels::channels(args, checkpoint)).transpose()
    }

    fn bench_step(&self, args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value> {
        bench_step::step(args, plain)
    }
}
