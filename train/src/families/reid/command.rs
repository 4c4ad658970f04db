//! `train reid`: a re-identification run.

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::families::reid::cli::ReidArgs;
use crate::families::reid::net::ReidNet;
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task::{self as reid, ReidTask};
use crate::run::directory::{self as run, Run};
use crate::run::engine;
use crate::weights::{Partial, StateDict};

/// Folder below which runs lie.
const RUNS: &str = "runs/reid";

pub fn train(args: &ReidArgs) -> anyhow::Result<ExitCode> {
    let place = |config: &ReidConfig| Path::new(RUNS).join(name(&config.save));
    let Some(run) = Run::prepare(&args.run, args, Path::new(RUNS), place)? else { return Ok(ExitCode::SUCCESS) };
    let config = &run.config;

    let stop = engine::watch_interrupts();
    let device = run.device.clone().autodiff();
    let mut task = ReidTask::open(config, &device).map_err(anyhow::Error::from_boxed)?;
    let network = task.network();
    let record = run::record(reid::FAMILY, &network, task.config())?.on(task.dataset_name(), task.fingerprint());
    let settings = reid::settings(config, args.run.keep_checkpoints).map_err(anyhow::Error::from_boxed)?;
    let mut net = ReidNet::new(&network, config.seed, &device)?;
    if let Some(checkpoint) = &run.resumed {
        checkpoint.agrees(&checkpoint.network(reid::FAMILY)?, &network, ToString::to_string)?;
        StateDict::load_file(&checkpoint.path, &mut net, &network.model, Partial::Nothing)?;
        run::continues(checkpoint, &record, config.epochs);
    } else if config.pre_train.is_empty() {
        eprintln!("starting from random weights (seed {})", config.seed);
    } else {
        let partial = if args.pre_train_partial { Partial::Classifiers } else { Partial::Nothing };
        let report = net.load_pretrained(Path::new(&config.pre_train), partial)?;
        eprintln!("starting from {}: {report}", config.pre_train);
    }
    eprintln!("{}", task.describe_data());

    // From here on the run directory is ours; what was wrong so far has touched nothing.
    run.begin(&record, config.seed)?;
    let (_, outcome) = engine::train(&mut task, net, &settings, &run.dir, record, run.resumed.as_ref(), stop)?;
    Ok(run.end(outcome, reid::FAMILY, "mAP"))
}

/// A run's name: without one the seconds since 1970, as scripts that pass an empty name expect something that is not taken.
fn name(save: &str) -> String {
    if !save.trim().is_empty() {
        return save.to_owned();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("run-{now}")
}
