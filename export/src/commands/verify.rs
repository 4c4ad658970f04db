//! `export verify BUNDLE`: is the bundle what its certificate says?

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use export::{Bundle, Check, MAX_INLINE_WEIGHTS, Outcome, Runtime};
use train::families::palmvein::net::Branch;
use train::run::checkpoint::Checkpoint;

use super::format::Format;
use crate::families::{Network, Options};

/// Flags of `export verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Folder with `model.onnx` and `certificate.json`.
    bundle: PathBuf,
    /// Run directory or checkpoint to make the model from again.
    #[arg(long, value_name = "RUN_OR_CHECKPOINT")]
    checkpoint: Option<PathBuf>,
    /// Form of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

/// Checks, prints, and says by the exit code whether all holds.
pub fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let runtime = Runtime::load()?;
    let bundle = Bundle::open(&args.bundle)?;
    let certificate = bundle.certificate();
    if certificate.precision.is_some()
        && let Some(checkpoint) = &args.checkpoint
    {
        anyhow::bail!(
            "--checkpoint is for float32 bundles: no checkpoint gives `{}` again without its pictures and plan; verify \
             the float32 bundle of `{}`",
            args.bundle.display(),
            checkpoint.display()
        );
    }
    terminal::tell!("checking {}, made by Vitrine {}", args.bundle.display(), certificate.tools.vitrine);
    if let Some(folder) = bundle.unfinished() {
        terminal::note(&format!(
            "an export was killed before its last step: files beside the model are read from `{}`; the next export \
             into this folder puts them in place",
            folder.display()
        ));
    }
    let mut checks = bundle.check(&runtime);
    checks.push(match &args.checkpoint {
        Some(given) => against(&bundle, given, &runtime)?,
        None => Check::not_run(NAME, "--checkpoint names none"),
    });
    let passed = !checks.iter().any(Check::failed);
    match args.format {
        Format::Json => {
            let report = serde_json::json!({
                "bundle": args.bundle, "passed": passed, "checks": checks, "onnx_runtime": runtime.version(),
                "certified_with": certificate.tools,
            });
            terminal::show!("{report}")?;
        }
        Format::Table => {
            for Check { name, outcome } in &checks {
                let (word, detail) = match outcome {
                    Outcome::Passed(detail) => ("holds", detail),
                    Outcome::Failed(detail) => ("FAILS", detail),
                    Outcome::NotRun(detail) => ("not run", detail),
                };
                terminal::show!("{name:<17} {word:<8} {detail}")?;
            }
        }
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::from(terminal::EXIT_NO) })
}

const NAME: &str = "checkpoint";

/// Makes the model again and compares.
fn against(bundle: &Bundle, checkpoint: &Path, runtime: &Runtime) -> anyhow::Result<Check> {
    let checkpoint = Checkpoint::open(checkpoint)?;
    let (certificate, found) = (bundle.certificate(), checkpoint.sha256()?);
    if found != certificate.checkpoint.sha256 {
        let (path, certified) = (checkpoint.path.display(), &certificate.checkpoint.sha256);
        return Ok(Check::new(
            NAME,
            Err(format!("another checkpoint: `{path}` has SHA-256 {found}, certified is {certified}")),
        ));
    }
    let contract = match bundle.contract() {
        Ok(contract) => contract,
        Err(error) => return Ok(Check::new(NAME, Err(error))),
    };
    let Some(batch) = contract.input.first().and_then(|input| input.shape.first()) else {
        return Ok(Check::new(NAME, Err("the contract's first input has no axis".into())));
    };
    let options = Options {
        name: certificate.name.clone(),
        opset: u32::try_from(certificate.model.opset).unwrap_or(0),
        optimise: certificate.model.optimised,
        batch: batch.clone(),
        no_flip: contract.embedding.as_ref().is_some_and(|embedding| !embedding.flip),
        attention: contract.output.iter().any(|output| output.name.contains("_weight_")),
        external_data: if certificate.model.data.is_some() { 0 } else { MAX_INLINE_WEIGHTS },
        licence: contract.training.licence.clone(),
    };
    terminal::tell!("making the model again from {}", checkpoint.path.display());
    let branch = Branch::ALL.into_iter().find(|branch| branch.name() == contract.architecture);
    let (model, _) = Network::open(&checkpoint, branch)?.export(&checkpoint, &options)?;
    Ok(bundle.check_against(&model, runtime))
}
