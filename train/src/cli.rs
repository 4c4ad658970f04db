//! The command line: one file for the flags of each family, and how flags become [`settings`].

use std::any::TypeId;
use std::str::FromStr;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use serde_json::{Map, Value};

use crate::families::controlnet::cli::{self as controlnet, ControlnetArgs};
use crate::families::controlnet::settings::ControlnetConfig;
use crate::families::palmvein::cli::PalmveinArgs;
use crate::families::palmvein::{Stage1Config, Stage2Config};
use crate::families::reid::cli::ReidArgs;
use crate::families::reid::settings::ReidConfig;
use crate::families::senet::cli::SenetArgs;
use crate::families::senet::settings::SenetConfig;
use crate::run::flags::{BenchStepArgs, EvalArgs, ImportArgs, InspectArgs};
use crate::run::settings;

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
    /// Train a network that draws a face in another pose.
    #[command(args_override_self = true)]
    Controlnet(Box<ControlnetArgs>),
    /// Train a network that frontalises face embeddings, or analyse such data.
    #[command(args_override_self = true)]
    Senet(Box<SenetArgs>),
    /// Train palm-vein recognition: backbones, the head that fuses them, ablations.
    Palmvein(PalmveinArgs),
    /// Evaluate a checkpoint: query against gallery, CMC and mAP by the Market-1501 protocol; of a SENet, how well
    /// profile views of its test people are found among frontal pictures; of an ImageControlNet, how near its
    /// pictures are to the true ones; of palm and veins, verification of the test pairs.
    Eval(EvalArgs),
    /// Make a checkpoint of foreign weights (.pth, .pt, .safetensors); every tensor is used or named.
    Import(ImportArgs),
    /// Show what a checkpoint is: network, parameters, run, metrics.
    Inspect(InspectArgs),
    /// Time one training step on made-up pictures (for ci/bench).
    BenchStep(BenchStepArgs),
}

/// The commands whose flags are settings, a verb and its step each, with the defaults that the settings own.
fn families() -> [(&'static str, Option<&'static str>, Map<String, Value>); 6] {
    let (stage1, stage2) = (settings::fields(&Stage1Config::default()), settings::fields(&Stage2Config::default()));
    [
        ("reid", None, settings::fields(&ReidConfig::default())),
        ("senet", None, settings::fields(&SenetConfig::default())),
        ("controlnet", None, settings::fields(&ControlnetConfig::default())),
        ("palmvein", Some("stage1"), stage1),
        ("palmvein", Some("stage2"), stage2.clone()),
        ("palmvein", Some("ablate"), stage2),
    ]
}

/// The command line, checked; `--help` shows the defaults that the settings own.
///
/// # Errors
/// What clap found, a request for help included.
pub fn parse() -> Result<Cli, clap::Error> {
    let command = families().iter().fold(Cli::command(), |command, (verb, step, defaults)| {
        command.mut_subcommand(verb, |verb| match step {
            Some(step) => verb.mut_subcommand(step, |step| show_defaults(step, defaults)),
            None => show_defaults(verb, defaults),
        })
    });
    let matches = with_ranges(command).try_get_matches_from(controlnet::dashed(terminal::arguments()))?;
    Cli::from_arg_matches(&matches)
}

/// Negative numbers are values, which are out of range, not flags; whole numbers say their range.
fn with_ranges(command: clap::Command) -> clap::Command {
    let command = command.allow_negative_numbers(true).mut_args(|arg| {
        let kind = arg.get_value_parser().type_id();
        if kind == TypeId::of::<usize>() {
            arg.value_parser(whole::<usize>)
        } else if kind == TypeId::of::<u64>() {
            arg.value_parser(whole::<u64>)
        } else {
            arg
        }
    });
    command.mut_subcommands(with_ranges)
}

fn whole<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("whole numbers from 0 to {} are allowed", u64::MAX))
}

/// Adds to the help of each flag that is a setting the setting's default.
fn show_defaults(command: clap::Command, defaults: &Map<String, Value>) -> clap::Command {
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
        let command = Cli::command();
        for (verb, step, settings) in families() {
            let family = command.find_subcommand(verb).unwrap();
            let family = step.map_or(family, |step| family.find_subcommand(step).unwrap());
            let flags: Vec<_> = family.get_arguments().map(|arg| arg.get_id().as_str()).collect();
            assert!(settings.len() > 30, "{verb} {step:?}");
            for key in settings.keys().map(String::as_str) {
                assert!(flags.contains(&key), "{verb} {step:?} {key}");
            }
        }
    }
}
