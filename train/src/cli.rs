//! The command line: the verbs of the program, and how their flags read.

use std::any::TypeId;

use clap::{ArgMatches, Args, Command};
use serde_json::{Map, Value};

use crate::families::PRODUCTS;
use crate::run::flags::{BenchStepArgs, EvalArgs, ImportArgs, InspectArgs};

/// The program with all its verbs.
pub(crate) fn command() -> Command {
    let products = PRODUCTS.iter().map(|product| {
        product.defaults().iter().fold(product.command(), |command, (step, defaults)| match step {
            Some(step) => command.mut_subcommand(step, |step| show_defaults(step, defaults)),
            None => show_defaults(command, defaults),
        })
    });
    let program = Command::new("train")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Train biometric and re-identification networks")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(products)
        .subcommands(verbs());
    with_ranges(program)
}

/// Verbs that products share.
fn verbs() -> [Command; 4] {
    let verb = |name: &'static str, about: &'static str| Command::new(name).about(about);
    [
        EvalArgs::augment_args(verb(
            "eval",
            "Evaluate a checkpoint: query against gallery, CMC and mAP by the Market-1501 protocol; of a SENet, how \
             well profile views of its test people are found among frontal pictures; of an ImageControlNet, how near \
             its pictures are to the true ones; of palm and veins, verification of the test pairs",
        )),
        ImportArgs::augment_args(verb(
            "import",
            "Make a checkpoint of foreign weights (.pth, .pt, .safetensors); every tensor is used or named",
        )),
        InspectArgs::augment_args(verb("inspect", "Show what a checkpoint is: network, parameters, run, metrics")),
        BenchStepArgs::augment_args(verb("bench-step", "Time one training step on made-up pictures (for ci/bench)")),
    ]
}

/// The command line, checked; `--help` shows the defaults that the settings own.
///
/// # Errors
/// What clap found, a request for help included.
pub(crate) fn parse() -> Result<ArgMatches, clap::Error> {
    let words = PRODUCTS.iter().fold(terminal::arguments(), |words, product| product.respell(words));
    command().try_get_matches_from(words)
}

/// Negative numbers are values, which are out of range, not flags; whole numbers say their range.
fn with_ranges(command: Command) -> Command {
    let command = command.allow_negative_numbers(true).mut_args(|arg| {
        let kind = arg.get_value_parser().type_id();
        if kind == TypeId::of::<usize>() {
            let most = most(arg.get_id().as_str());
            arg.value_parser(move |text: &str| terminal::whole(text, 0, most))
        } else if kind == TypeId::of::<u64>() {
            arg.value_parser(terminal::seed)
        } else {
            arg
        }
    });
    command.mut_subcommands(with_ranges)
}

/// Largest value of a flag that counts something, so that a slip of the finger does not fill the memory. What a network
/// or data set allows is checked with the settings.
fn most(flag: &str) -> usize {
    match flag {
        "batch" | "batchtest" | "batch_size" => 1 << 16,
        "height" | "width" | "img_size" | "image_size" | "feats" => 1 << 14,
        "num_classes" | "identities" | "steps" | "warmup" | "sample" | "top" | "pairs" => 1_000_000,
        _ => 1_000_000_000,
    }
}

/// Adds to the help of each flag that is a setting the setting's default.
fn show_defaults(command: Command, defaults: &Map<String, Value>) -> Command {
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

    #[test]
    fn every_setting_has_a_flag() {
        let program = command();
        for product in PRODUCTS {
            let own = product.command();
            let verb = program.find_subcommand(own.get_name()).unwrap();
            for (step, settings) in product.defaults() {
                let verb = step.map_or(verb, |step| verb.find_subcommand(step).unwrap());
                let flags: Vec<_> = verb.get_arguments().map(|arg| arg.get_id().as_str()).collect();
                assert!(settings.len() > 30, "{} {step:?}", own.get_name());
                for key in settings.keys().map(String::as_str) {
                    assert!(flags.contains(&key), "{} {step:?} {key}", own.get_name());
                }
            }
        }
    }
}
