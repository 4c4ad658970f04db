//! Person re-identification, as the verbs of the program see it.

use std::process::ExitCode;

use burn::tensor::Device;
use clap::{ArgMatches, FromArgMatches};
use serde_json::{Map, Value};

use crate::families::reid::cli::{PreviewArgs, ReidArgs};
use crate::families::reid::net::{self, Network};
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::{bench_step, command, import, inspect, preview, task};
use crate::families::{Guess, Product, Verb};
use crate::run::checkpoint::Checkpoint;
use crate::run::flags::{BenchStepArgs, EvalArgs, ImportArgs, InspectArgs, with_flags, with_networks};
use crate::run::preview::refuse_unread;
use crate::run::recipe::Recipe;
use crate::run::settings::Settings;
use crate::weights::StateDict;

/// Person re-identification.
pub(crate) struct Reid;

impl Product for Reid {
    fn command(&self) -> clap::Command {
        // Of a flag given twice the last counts, as scripts that append to a list of flags expect.
        let verb = clap::Command::new("reid").about("Train a re-identification network").args_override_self(true);
        with_networks(with_flags::<ReidArgs>(verb), &Network::names())
    }

    fn defaults(&self) -> Vec<(Option<&'static str>, Map<String, Value>)> {
        vec![(None, ReidConfig::defaults())]
    }

    fn recipes(&self) -> Vec<(Option<&'static str>, &'static [Recipe])> {
        vec![(None, ReidConfig::RECIPES)]
    }

    fn train(&self, flags: &ArgMatches) -> anyhow::Result<ExitCode> {
        command::train(&ReidArgs::from_arg_matches(flags)?)
    }

    fn preview(&self) -> Option<clap::Command> {
        let about =
            "Draw the pictures of re-identification: a row for each identity of a batch, as the flags make them";
        let verb = clap::Command::new("reid").about(about).args_override_self(true);
        Some(with_networks(with_flags::<PreviewArgs>(verb), &Network::names()))
    }

    fn draw_preview(&self, flags: &ArgMatches) -> anyhow::Result<ExitCode> {
        const UNREAD: [&str; 3] = ["test_only", "pre_train_partial", "pre_train_no_ema"];
        refuse_unread::<ReidArgs>(flags, &UNREAD)?;
        preview::draw(&PreviewArgs::from_arg_matches(flags)?)
    }

    fn checkpoints(&self) -> &'static [&'static str] {
        &[task::FAMILY]
    }

    fn networks(&self, _: Verb) -> Vec<&'static str> {
        Network::names()
    }

    fn spelling<'a>(&self, model: &'a str) -> &'a str {
        net::published(model)
    }

    fn reads(&self, verb: Verb) -> &'static [&'static str] {
        match verb {
            Verb::Eval => &[
                "dataset",
                "train_identities",
                "rerank",
                "expand",
                "single_shot",
                "report",
                "activation_map",
                "batchtest",
                "n_thread",
                "strict",
            ],
            Verb::Import => &["num_classes", "feats", "height", "width", "partial", "no_ema", "with"],
            Verb::Inspect => &["model", "with", "height", "width", "num_classes"],
            Verb::BenchStep => &["height", "width", "identities", "datadir", "bnneck"],
        }
    }

    fn eval(&self, args: &EvalArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
        command::eval(args, checkpoint)
    }

    fn guess(&self, weights: &StateDict) -> Guess {
        import::guess(weights)
    }

    fn import(&self, args: &ImportArgs) -> anyhow::Result<ExitCode> {
        import::import(args)
    }

    fn describe(&self, args: &InspectArgs) -> anyhow::Result<ExitCode> {
        inspect::describe(args)
    }

    fn bench_step(&self, args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value> {
        bench_step::step(args, plain)
    }
}
