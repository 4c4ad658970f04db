//! `train bench-step`: the phases of a training step, timed.

use std::process::ExitCode;

use anyhow::bail;

use crate::device;
use crate::families::{controlnet, palmvein, reid, senet};
use crate::run::flags::{BenchStepArgs, Format};

/// `train bench-step`.
pub fn bench_step(args: &BenchStepArgs) -> anyhow::Result<ExitCode> {
    // Before anything touches the pool: it is made once.
    rayon::ThreadPoolBuilder::new().num_threads(args.threads.get()).build_global()?;
    let plain = device::open(args.device)?;
    let facts = match args.model.as_str() {
        model @ ("SENet" | "ControlNet" | "palmvein") if args.datadir.is_some() => {
            bail!("--datadir is for re-identification; `{model}` steps on made-up inputs")
        }
        "SENet" => senet::bench_step::step(args, &plain)?,
        "ControlNet" => controlnet::bench_step::step(args, &plain)?,
        "palmvein" => palmvein::bench_step::stage2(args, &plain)?,
        _ => reid::bench_step::step(args, &plain)?,
    };
    match args.format {
        Format::Json => terminal::show!("{facts}")?,
        Format::Table => terminal::show!("{}", serde_json::to_string_pretty(&facts)?)?,
    }
    Ok(ExitCode::SUCCESS)
}
