//! The command line: results on stdout, everything else on stderr; exit code 0 done, 1 the answer is no, 2 error.

mod adopt;
mod args;
mod audit;
mod bench;
mod calibrate;
mod doctor;
mod embed;
mod enroll;
mod evaluate;
mod evaluate_pairs;
mod frontalize;
mod gallery;
mod generate;
mod inspect;
#[cfg(feature = "serve")]
mod keys;
mod log;
mod migrate;
mod remove;
mod search;
#[cfg(feature = "serve")]
mod serve;
mod shared;
mod verify;

use std::process::ExitCode;

use terminal::fail;

use args::{Command, DeployArgs};

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    let command = terminal::parse::<DeployArgs>().command;
    if let Some(Err(error)) = command.key_file().map(|file| crate::gallery::unlock(file)) {
        return fail(&error);
    }
    let done = match command {
        Command::Adopt(args) => adopt::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Search(args) => search::run(&args),
        Command::Frontalize(args) => frontalize::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Enroll(args) => enroll::run(&args),
        Command::Remove(args) => remove::run(&args),
        Command::Gallery(args) => gallery::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Calibrate(args) => calibrate::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(*args),
        #[cfg(feature = "serve")]
        Command::Keys(args) => keys::run(&args.command),
        Command::Bench(args) => bench::run(&args),
    };
    let unlocked = crate::gallery::unlocked();
    if unlocked > 0 {
        terminal::note(&format!(
            "the system may write {unlocked} bytes of decrypted rows to its swap space; a higher `ulimit -l` keeps \
             them in memory"
        ));
    }
    done.unwrap_or_else(|error| fail(&error))
}
