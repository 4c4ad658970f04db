//! `train reid`: a re-identification run.

use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use train::checkpoint::{CheckpointError, Record};
use train::config::ReidConfig;
use train::engine;
use train::model::{Partial, ReidNet, ReidNetConfig, StateDict};
use train::task::reid::{self, ReidTask};

use super::run::{self, Run};
use crate::cli::ReidArgs;

/// Folder below which runs lie.
const RUNS: &str = "runs/reid";

pub fn train(args: &ReidArgs) -> anyhow::Result<ExitCode> {
    let place = |config: &ReidConfig| Path::new(RUNS).join(name(&config.save));
    let Some(run) = Run::prepare(&args.run, args, Path::new(RUNS), place)? else { return Ok(ExitCode::SUCCESS) };
    let config = &run.config;

    let stop = engine::watch_interrupts();
    let device = run.device.clone().autodiff();
    let mut task = ReidTask::open(config, &device).map_err(anyhow::Error::from_boxed)?;
    let (network, fingerprint) = (task.network(), task.fingerprint());
    let settings = reid::settings(config, args.run.keep_checkpoints).map_err(anyhow::Error::from_boxed)?;
    let mut net = ReidNet::new(&network, config.seed, &device)?;
    if let Some(checkpoint) = &run.resumed {
        let saved: ReidNetConfig = checkpoint.network(reid::FAMILY)?;
        if saved != network {
            let (path, found, allowed) = (checkpoint.path.clone(), saved.to_string(), network.to_string());
            return Err(CheckpointError::Other { path, found, allowed }.into());
        }
        if checkpoint.record.dataset_fingerprint != fingerprint {
            eprintln!("warning: the dataset `{}` is not the one this run began with", checkpoint.record.dataset);
        }
        StateDict::load_file(&checkpoint.path, &mut net, &network.model, Partial::Nothing)?;
        let Record { epoch, step, .. } = checkpoint.record;
        let within = if step > 0 { format!(" and {step} batches") } else { String::new() };
        eprintln!("continuing {} after epoch {epoch}{within}", checkpoint.path.display());
    } else if config.pre_train.is_empty() {
        eprintln!("starting from random weights (seed {})", config.seed);
    } else {
        let partial = if args.pre_train_partial { Partial::Classifiers } else { Partial::Nothing };
        let report = net.load_pretrained(Path::new(&config.pre_train), partial)?;
        eprintln!("starting from {}: {report}", config.pre_train);
    }
    eprintln!("{}", task.describe_data());

    let record = Record {
        dataset: task.dataset_name().to_owned(),
        dataset_fingerprint: fingerprint,
        ..run::record(reid::FAMILY, &network, task.config())?
    };
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
