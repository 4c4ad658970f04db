//! `deploy bench`: how fast models run here.
//!
//! Each combination is measured in a process of its own, so that its peak memory is its own, and what one has left in
//! caches and allocators does not help or hinder the next.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::args::{BenchArgs, FactsFormat, TuningArgs};
use super::shared::{print, print_json, say_opened};
use crate::DeployError;
use crate::bench::{Measured, measure, picture, table};
use crate::runtime::{Model, Optimisation, Options, Provider, Tuning};

pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode, DeployError> {
    let cases = cases(args);
    let rows = match cases.as_slice() {
        [case] => vec![alone(args, case)?],
        cases => apart(args, cases)?,
    };
    if let Some(path) = &args.picture {
        let drawn = picture(&rows)
            .map_err(|error| DeployError::Write { path: path.clone(), source: std::io::Error::other(error) })?;
        files::write(path, drawn)?;
    }
    match args.format {
        FactsFormat::Json => print_json(&rows)?,
        FactsFormat::Table => print(&table(&rows))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is measured at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Case<'a> {
    model: &'a Path,
    provider: Provider,
    threads: usize,
    batch: usize,
}

/// All combinations, the batch changing first.
fn cases(args: &BenchArgs) -> Vec<Case<'_>> {
    let mut cases = Vec::new();
    for model in &args.models {
        for provider in &args.provider {
            for threads in &args.threads {
                cases.extend(args.batch.iter().map(|batch| Case {
                    model,
                    provider: *provider,
                    threads: *threads,
                    batch: *batch,
                }));
            }
        }
    }
    cases
}

fn alone(args: &BenchArgs, case: &Case<'_>) -> Result<Measured, DeployError> {
    let started = Instant::now();
    terminal::note_fewer_threads(case.threads);
    let options = Options {
        provider: case.provider,
        threads: terminal::at_most_cores(case.threads),
        contract: args.contract.clone(),
        ..args.tuning.options()
    };
    let model = Model::open(case.model, &options)?;
    say_opened(&model, case.provider);
    // Counted on the CPU, where every node shows, and without the layouts that fill up vectors with zeros.
    let counted = || {
        if model.runtime.onnxruntime().is_none() {
            return Ok(None);
        }
        let tuning = Tuning { optimisation: Optimisation::Extended, ..options.tuning };
        let plain = Options { provider: Provider::Cpu, tuning, engines: None, self_test: false, ..options.clone() };
        Model::open(case.model, &plain)?.work(case.batch)
    };
    measure(&model, case.batch, Duration::from_secs_f64(args.seconds), started, counted)
}

fn apart(args: &BenchArgs, cases: &[Case<'_>]) -> Result<Vec<Measured>, DeployError> {
    let program = std::env::current_exe().map_err(|source| DeployError::Read { path: "deploy".into(), source })?;
    let bar = terminal::progress(cases.len() as u64, "measure", "combinations");
    let mut rows = Vec::with_capacity(cases.len());
    for case in cases {
        let unread = |source| DeployError::Read { path: program.clone(), source };
        let mut command = Command::new(&program);
        let answer = command.args(arguments(args, case)).stderr(Stdio::inherit()).output().map_err(unread)?;
        if !answer.status.success() {
            // It has said why.
            let (model, provider) = (case.model.to_owned(), case.provider.to_string());
            return Err(DeployError::Unmeasured { path: model, provider, threads: case.threads, batch: case.batch });
        }
        let mut measured: Vec<Measured> =
            serde_json::from_slice(&answer.stdout).map_err(|error| unread(std::io::Error::other(error)))?;
        rows.append(&mut measured);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(rows)
}

/// The command line that measures one combination.
fn arguments(args: &BenchArgs, case: &Case<'_>) -> Vec<OsString> {
    let TuningArgs { runtime, optimisation, spinning, arena, engine_cache } = &args.tuning;
    let word = |on: bool| if on { "on" } else { "off" }.to_owned();
    let mut line: Vec<OsString> = vec!["bench".into()];
    let mut flag = |name: &str, value: OsString| line.extend([name.into(), value]);
    flag("--provider", case.provider.to_string().into());
    flag("--threads", case.threads.to_string().into());
    flag("--batch", case.batch.to_string().into());
    flag("--seconds", args.seconds.to_string().into());
    flag("--format", "json".into());
    flag("--runtime", runtime.to_string().into());
    flag("--optimisation", optimisation.to_string().into());
    if let Some(on) = spinning {
        flag("--spinning", word(*on).into());
    }
    if let Some(on) = arena {
        flag("--arena", word(*on).into());
    }
    if let Some(folder) = engine_cache {
        flag("--engine-cache", folder.into());
    }
    if let Some(contract) = &args.contract {
        flag("--contract", contract.into());
    }
    line.extend(["--".into(), case.model.into()]);
    line
}
