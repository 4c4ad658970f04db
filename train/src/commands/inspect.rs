//! `train inspect`: what every checkpoint tells of itself.

use std::process::ExitCode;

use serde_json::json;

use crate::run::checkpoint::Checkpoint;
use crate::run::flags::{Format, InspectArgs};
use crate::weights::StateDict;

/// Network, parameters, run and metrics of a checkpoint.
pub(super) fn facts(args: &InspectArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
    let weights = StateDict::read(&checkpoint.path)?;
    let parameters = weights.parameters();
    let record = &checkpoint.record;
    if args.format == Format::Json {
        let facts = json!({ "path": checkpoint.path, "parameters": parameters, "record": record });
        terminal::show!("{}", serde_json::to_string_pretty(&facts)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let tensors = weights.iter().count();
    terminal::show!(
        "{}\n  family      {}\n  network     {}",
        checkpoint.path.display(),
        record.family,
        record.network
    )?;
    terminal::show!("  parameters  {parameters} in {tensors} tensors, running statistics counted as tensors only")?;
    terminal::show!("  epoch       {} ({} steps)", record.epoch, record.steps)?;
    terminal::show!("  dataset     {} {}", record.dataset, record.dataset_fingerprint)?;
    terminal::show!("  metrics     {}", serde_json::to_string(&record.metrics)?)?;
    terminal::show!("  resumable   {}", if record.state_sha256.is_some() { "yes" } else { "no, weights only" })?;
    terminal::show!("  command     {}", record.command)?;
    Ok(ExitCode::SUCCESS)
}
