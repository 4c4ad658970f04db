//! The products, a folder each: everything that is special to one, from its flags to its network. The verbs of the
//! program dispatch over [`PRODUCTS`]: without its folder and its line there, a product is gone.

pub mod controlnet;
pub mod faces;
pub mod palmvein;
pub mod reid;
pub mod senet;

use std::ffi::OsString;
use std::process::ExitCode;

use burn::tensor::Device;
use clap::ArgMatches;
use serde_json::{Map, Value};

use crate::run::checkpoint::Checkpoint;
use crate::run::flags::{BenchStepArgs, EvalArgs, ImportArgs, InspectArgs};
use crate::run::recipe::Recipe;
use crate::weights::StateDict;

/// A verb that several products have, each with some of its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// `train eval`.
    Eval,
    /// `train import`.
    Import,
    /// `train inspect`.
    Inspect,
    /// `train bench-step`.
    BenchStep,
}

/// What a product says of foreign weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Guess {
    /// They are those of this network.
    Is(&'static str),
    /// They would fit each of these networks, which differ in more than their weights.
    OneOf(Vec<&'static str>),
    /// They are those of a classifier on the backbone of these networks.
    Backbone(Vec<&'static str>),
    /// They are none of its networks'.
    None(Vec<Near>),
}

/// A network that foreign weights are not of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Near {
    /// Its name, with the flags of its form.
    pub name: String,
    /// Tensors of it that the weights have, in the same shape.
    pub found: usize,
    /// Tensors that it has.
    pub of: usize,
}

/// A product, as the verbs of the program see it.
pub(crate) trait Product: Sync {
    /// Its own verb, with its flags.
    fn command(&self) -> clap::Command;

    /// The settings behind those flags with their defaults; of a verb with steps, by step.
    fn defaults(&self) -> Vec<(Option<&'static str>, Map<String, Value>)>;

    /// The recipes behind `--recipe` of those verbs.
    fn recipes(&self) -> Vec<(Option<&'static str>, &'static [Recipe])>;

    /// Spells a command line of its manual as clap takes it.
    fn respell(&self, words: Vec<OsString>) -> Vec<OsString> {
        words
    }

    /// Does what its own verb asks.
    ///
    /// # Errors
    /// Whatever keeps it from doing so.
    fn train(&self, flags: &ArgMatches) -> anyhow::Result<ExitCode>;

    /// `train preview` of what its runs read: their flags, and what to draw. None where that cannot be looked at.
    fn preview(&self) -> Option<clap::Command> {
        None
    }

    /// Does what `train preview` asks.
    ///
    /// # Errors
    /// If the data cannot be read or drawn.
    fn draw_preview(&self, flags: &ArgMatches) -> anyhow::Result<ExitCode> {
        let _ = flags;
        anyhow::bail!("there is nothing to look at")
    }

    /// Families of its checkpoints.
    fn checkpoints(&self) -> &'static [&'static str];

    /// Names of networks that `--model` of a verb knows as its own.
    fn networks(&self, verb: Verb) -> Vec<&'static str>;

    /// The name of a network for what `--model` was given: another where it is published under another.
    fn spelling<'a>(&self, model: &'a str) -> &'a str {
        model
    }

    /// Flags of a verb that it reads, besides those that all products read.
    fn reads(&self, verb: Verb) -> &'static [&'static str];

    /// `train eval` of one of its checkpoints.
    ///
    /// # Errors
    /// If data or weights cannot be read.
    fn eval(&self, args: &EvalArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode>;

    /// Which of its networks foreign weights are of.
    fn guess(&self, weights: &StateDict) -> Guess;

    /// `train import` of one of its networks.
    ///
    /// # Errors
    /// If the weights are not those of the network.
    fn import(&self, args: &ImportArgs) -> anyhow::Result<ExitCode>;

    /// `train inspect` where it has something special to show; none for the facts that all checkpoints have.
    ///
    /// # Errors
    /// If that cannot be shown.
    fn inspect(&self, args: &InspectArgs, checkpoint: &Checkpoint) -> anyhow::Result<Option<ExitCode>> {
        let _ = (args, checkpoint);
        Ok(None)
    }

    /// `train inspect --model` of one of its networks, as far as [`Product::networks`] has any for it.
    ///
    /// # Errors
    /// If there is no such network.
    fn describe(&self, args: &InspectArgs) -> anyhow::Result<ExitCode> {
        let model = args.model.as_deref().unwrap_or_default();
        anyhow::bail!("`{model}` can only be inspected as a checkpoint")
    }

    /// `train bench-step` of one of its networks, on a device without autodiff.
    ///
    /// # Errors
    /// If the step cannot be made.
    fn bench_step(&self, args: &BenchStepArgs, plain: &Device) -> anyhow::Result<Value>;
}

/// All products.
pub(crate) static PRODUCTS: [&dyn Product; 4] =
    [&reid::product::Reid, &senet::product::Senet, &controlnet::product::Controlnet, &palmvein::product::Palmvein];
