//! The generator, as the verbs of the program see it.

use std::ffi::OsString;
use std::process::ExitCode;

use burn::tensor::Device;
use clap::{ArgMatches, FromArgMatches};
use serde_json::{Map, Value};

use crate::families::controlnet::cli::{self, ControlnetArgs, PreviewArgs};
use crate::families::controlnet::settings::ControlnetConfig;
use crate::families::controlnet::{bench_step, command, preview, task};
use crate::families::faces::reference::{self, Reference};
use crate::families::{Guess, Product, Verb};
use crate::run::checkpoint::Checkpoint;
use crate::run::flags::{BenchStepArgs, EvalArgs, ImportArgs, with_flags};
use crate::run::preview::refuse_unread;
use crate::run::recipe::Recipe;
use crate::run::settings::{Settings, fields};
use crate::weights::StateDict;

/// The generator.
pub(crate) struct Controlnet;

impl Product for Controlnet {
    fn command(&self) -> clap::Command {
        let about = "Train a network that draws a face in another pose";
        with_flags::<ControlnetArgs>(clap::Command::new("controlnet").about(about).args_override_self(true))
    }

    fn defaults(&self) -> Vec<(Option<&'static str>, Map<String, Value>)> {
        vec![(None, fields(&ControlnetConfig::default()))]
    }

    fn respell(&self, words: Vec<OsString>) -> Vec<OsString> {
        cli::dashed(words)
    }

    fn recipes(&self) -> Vec<(Option<&'static str>, &'static [Recipe])> {
        vec![(None, ControlnetConfig::RECIPES)]
    }

    fn train(&self, flags: &ArgMatches) -> anyhow::Result<ExitCode> {
        command::train(ControlnetArgs::from_arg_matches(flags)?)
    }

    fn preview(&self) -> Option<clap::Command> {
        let about =
            "Draw the pictures of ImageControlNet: source and target of the first pairs, as the flags make them";
        let verb = clap::Command::new("controlnet").about(about).args_override_self(true);
        Some(with_flags::<PreviewArgs>(verb))
    }

    fn draw_preview(&self, flags: &ArgMatches) -> anyhow::Result<ExitCode> {
        refuse_unread::<ControlnetArgs>(flags, &[])?;
        preview::draw(&PreviewArgs::from_arg_matches(flags)?)
    }

    fn checkpoints(&self) -> &'static [&'static str] {
        &[task::FAMILY]
    }

    fn networks(&self, verb: Verb) -> Vec<&'static str> {
        // With the small encoder, at its default size.
        match verb {
            Verb::BenchStep => vec!["ControlNet"],
            Verb::Inspect => vec![],
            _ => vec![ControlnetConfig::NAME],
        }
    }

    fn reads(&self, verb: Verb) -> &'static [&'static str] {
        match verb {
            Verb::Eval => &["report", "n_thread"],
            Verb::Import | Verb::Inspect | Verb::BenchStep => &[],
        }
    }

    fn eval(&self, args: &EvalArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
        command::eval(args, checkpoint)
    }

    fn guess(&self, weights: &StateDict) -> Guess {
        let known = weights.get("image_generator.spatial_proj.weight").is_some();
        if known { Guess::Is(ControlnetConfig::NAME) } else { Guess::None(Vec::new()) }
    }

    fn import(&self, args: &ImportArgs) -> anyhow::Result<ExitCode> {
        reference::import::<ControlnetConfig>(args)
    }

    fn bench_step(&self, args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value> {
        bench_step::step(args, plain)
    }
}
