//! What the verbs do: one file for each family, and what all runs share in [`run`].

mod bench_step;
mod eval;
mod weights;

use std::process::ExitCode;

use crate::cli::{Cli, Command};
use crate::families;

/// Does what was asked.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Controlnet(args) => families::controlnet::command::train(*args),
        Command::Reid(args) => families::reid::command::train(&args),
        Command::Senet(args) => families::senet::command::senet(&args),
        Command::Palmvein(args) => families::palmvein::command::palmvein(&args),
        Command::Eval(args) => eval::eval(&args),
        Command::Import(args) => weights::import(&args),
        Command::Inspect(args) => weights::inspect(&args),
        Command::BenchStep(args) => bench_step::bench_step(&args),
    }
}
