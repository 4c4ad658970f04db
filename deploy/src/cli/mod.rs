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

use std::path::PathBuf;
use std::process::ExitCode;

use terminal::fail;

use args::{
    AdoptArgs, AuditArgs, AuditCommand, BenchArgs, CalibrateArgs, DoctorArgs, EmbedArgs, EnrollArgs, EvaluateArgs,
    FrontalizeArgs, GalleryArgs, GalleryCommand, GalleryMigrateArgs, GenerateArgs, InspectArgs, RemoveArgs, SearchArgs,
    VerifyArgs,
};

/// Runs exported models: embeddings, gallery search, evaluation. Results go to stdout, progress to stderr; the exit
/// code is 0 when done, 1 when the answer is no, 2 on errors.
#[derive(Debug, clap::Parser)]
#[command(name = "deploy", version, max_term_width = 100)]
struct DeployArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Adopt(AdoptArgs),
    Inspect(InspectArgs),
    Embed(EmbedArgs),
    Search(SearchArgs),
    Frontalize(FrontalizeArgs),
    Evaluate(EvaluateArgs),
    Generate(GenerateArgs),
    Enroll(EnrollArgs),
    Remove(RemoveArgs),
    Gallery(GalleryArgs),
    Audit(AuditArgs),
    /// The same as `deploy gallery migrate`.
    #[command(hide = true)]
    Migrate(GalleryMigrateArgs),
    Verify(VerifyArgs),
    Calibrate(CalibrateArgs),
    Doctor(DoctorArgs),
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeArgs>),
    #[cfg(feature = "serve")]
    Keys(keys::KeysArgs),
    Bench(BenchArgs),
}

impl Command {
    /// The key file of the gallery that it opens.
    fn key_file(&self) -> Option<&PathBuf> {
        let key = match self {
            Self::Search(args) => &args.key,
            Self::Remove(args) => &args.key,
            Self::Verify(args) => &args.key,
            Self::Migrate(args) => &args.key,
            Self::Audit(AuditArgs { command: AuditCommand::Verify(args) }) => &args.key,
            Self::Audit(AuditArgs { command: AuditCommand::List(args) }) => &args.key,
            Self::Gallery(GalleryArgs { command }) => match command {
                GalleryCommand::Info(args) | GalleryCommand::Check(args) => &args.key,
                GalleryCommand::Compact(args) => &args.key,
                GalleryCommand::Index(args) => &args.key,
                GalleryCommand::Sync(args) => &args.key,
                GalleryCommand::Export(args) => &args.key,
                GalleryCommand::Migrate(args) => &args.key,
                GalleryCommand::Log(args) => &args.key,
                GalleryCommand::RotateKey(args) => return Some(&args.key_file),
                GalleryCommand::Renew(args) => return Some(&args.key_file),
                // They make theirs if it is not there.
                GalleryCommand::Encrypt(_) | GalleryCommand::Import(_) => return None,
            },
            _ => return None,
        };
        key.key_file.as_ref()
    }
}

/// Parses the command line and does what it says.
pub fn run() -> ExitCode {
    let command = match terminal::parse::<DeployArgs>() {
        Ok(args) => args.command,
        Err(code) => return code,
    };
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
