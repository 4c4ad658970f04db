//! What the verbs do: one file for each family, and what all runs share in [`run`].

mod ablate;
mod attention;
mod bench_step;
mod channels;
mod controlnet;
mod eval;
mod foreign;
mod palmvein;
mod reid;
mod roi;
mod run;
mod senet;
mod weights;

use std::process::ExitCode;

use crate::cli::{Cli, Command};

/// Does what was asked.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Controlnet(args) => controlnet::train(*args),
        Command::Reid(args) => reid::train(&args),
        Command::Senet(args) => senet::senet(*args),
        Command::Palmvein(args) => palmvein::palmvein(args),
        Command::Eval(args) => eval::eval(&args),
        Command::Import(args) => weights::import(&args),
        Command::Inspect(args) => weights::inspect(&args),
        Command::BenchStep(args) => bench_step::bench_step(&args),
    }
}

/// How this program was called.
fn command_line() -> String {
    std::env::args().collect::<Vec<_>>().join(" ")
}
