//! `train`: arguments and exit code, nothing else.

mod cli;
mod commands;
mod heap;

use std::process::ExitCode;

fn main() -> ExitCode {
    heap::keep();
    let cli = match cli::parse() {
        Ok(cli) => cli,
        // Help goes to stdout with exit code 0, a wrong flag to stderr with 2: clap's conventions are ours.
        Err(error) => error.exit(),
    };
    match commands::run(cli) {
        Ok(code) => code,
        Err(error) => terminal::fail(error.as_ref()),
    }
}
