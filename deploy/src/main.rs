//! `deploy`: runs exported models. See the library for the work.

use std::process::ExitCode;

fn main() -> ExitCode {
    terminal::guarded(deploy::cli::run)
}
