//! `train`: arguments and exit code, nothing else.

mod heap;

use std::process::ExitCode;

fn main() -> ExitCode {
    heap::keep();
    terminal::guarded(train::main)
}
