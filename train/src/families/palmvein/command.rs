//! `train palmvein`: both stages.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use crate::device;
use crate::families::palmvein::cli::{Branches, PalmveinArgs, PalmveinCommand, Stage1Args, Stage2Args};
use crate::families::palmvein::net::{
    Branch, PalmVeinNet, PalmVeinNetConfig, Stage1Net, load_backbone, load_whole, read_backbone,
};
use crate::families::palmvein::{
    Common, FAMILY, STAGE1_FAMILY, Stage1Config, Stage1Task, Stage2Config, Stage2Task, stage1_weights, test_branch,
    test_pairs,
};
use crate::run::checkpoint::Checkpoint;
use crate::run::directory::{self as run, Run};
use crate::run::engine::{self, Outcome};
use crate::run::flags::EvalArgs;

use super::{ablate, roi};

/// Folder below which runs lie.
const RUNS: &str = "runs/palmvein";

/// `train palmvein`.
pub fn palmvein(args: PalmveinArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        PalmveinCommand::Stage1(args) => stage1(*args),
        PalmveinCommand::Stage2(args) => stage2(&args),
        PalmveinCommand::Ablate(args) => ablate::ablate(&args),
        PalmveinCommand::Roi(args) => roi::roi(&args),
    }
}

/// A network in full: two of one name differ in any of their sizes.
fn in_full(network: &impl Serialize) -> String {
    serde_json::to_string(network).expect("sizes are plain data")
}

fn stage1(mut args: Stage1Args) -> anyhow::Result<ExitCode> {
    if args.branch != Some(Branches::All) {
        return branch(&args);
    }
    if args.run.resume.is_some() {
        bail!("--resume continues one branch: name its run directory, and leave --branch all out");
    }
    let place = args.run.save_dir.take();
    for next in Branch::ALL {
        args.branch = Some(next.into());
        args.run.save_dir = place.as_ref().map(|place| place.join(next.name()));
        terminal::tell!("{next}");
        let code = branch(&args)?;
        if code != ExitCode::SUCCESS || args.run.print_config {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn branch(args: &Stage1Args) -> anyhow::Result<ExitCode> {
    let place = |config: &Stage1Config| -> PathBuf {
        Path::new(RUNS).join(&config.common.save).join("stage1").join(config.branch.name())
    };
    let Some(run) = Run::prepare(&args.run, args, Path::new(RUNS), place)? else { return Ok(ExitCode::SUCCESS) };
    let config = &run.config;
    let stop = engine::watch_interrupts();
    let device = run.device.clone().autodiff();
    let mut task = Stage1Task::open(config, &device).map_err(anyhow::Error::from_boxed)?;
    let network = config.network(task.data().num_classes);
    let mut net = Stage1Net::new(&network, config.common.seed, &device)?;
    terminal::tell!("{}", task.data().describe());
    let record = run::record(STAGE1_FAMILY, &network, config)?.on(&task.data().name, task.data().fingerprint());
    if let Some(checkpoint) = &run.resumed {
        checkpoint.agrees(&checkpoint.network(STAGE1_FAMILY)?, &network, in_full)?;
        run::continues(checkpoint, &record, config.epochs);
        load_whole(&checkpoint.path, config.branch.name(), &mut net)?;
    } else if !config.pre_train.is_empty() {
        let path = Path::new(&config.pre_train);
        let report = load_backbone(path, read_backbone(path, config.branch)?, config.branch.name(), &mut net.model)?;
        terminal::tell!("starting from {}: {report}", config.pre_train);
    }
    run.begin(&record, config.common.seed)?;
    let settings = config.settings(args.run.keep_checkpoints);
    let (_, outcome) = engine::train(&mut task, net, &settings, &run.dir, record, run.resumed.as_ref(), stop)?;
    run.end(outcome, "palmvein stage1", "EER")
}

/// `train eval` of a checkpoint of either stage.
pub fn eval(args: &EvalArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
    let asked = |common: Common| Common {
        datadir: args.datadir.as_ref().map_or(common.datadir, |datadir| datadir.display().to_string()),
        batchtest: args.batch(),
        n_thread: args.threads(),
        strict: args.strict,
        ..common
    };
    let device = device::open(args.device)?;
    let report = if checkpoint.record.family == STAGE1_FAMILY {
        let config: Stage1Config = checkpoint.settings()?;
        let config = Stage1Config { common: asked(config.common), ..config };
        let mut net = Stage1Net::new(&checkpoint.network(STAGE1_FAMILY)?, 0, &device)?;
        load_whole(&checkpoint.path, config.branch.name(), &mut net)?;
        test_branch(&net.valid(), &config)
    } else {
        let network: PalmVeinNetConfig = checkpoint.network(FAMILY)?;
        let config: Stage2Config = checkpoint.settings()?;
        let config = Stage2Config { common: asked(config.common), ..config };
        let mut net = PalmVeinNet::new(&network, 0, &device)?;
        load_whole(&checkpoint.path, &network.to_string(), &mut net)?;
        test_pairs(&net.valid(), &network.to_string(), &config)
    };
    let report = report.map_err(anyhow::Error::from_boxed)?;
    args.format.print(&report, || report.table())?;
    if let Some(path) = &args.report {
        files::write(path, report.html())?;
        terminal::tell!("report in {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn stage2(args: &Stage2Args) -> anyhow::Result<ExitCode> {
    let place = |config: &Stage2Config| -> PathBuf { Path::new(RUNS).join(&config.common.save).join("stage2") };
    let Some(run) = Run::prepare(&args.run, args, Path::new(RUNS), place)? else { return Ok(ExitCode::SUCCESS) };
    let config = &run.config;
    let stop = engine::watch_interrupts();
    let device = run.device.clone().autodiff();
    let mut task = Stage2Task::open(config, &device).map_err(anyhow::Error::from_boxed)?;
    let network = task.network();
    terminal::tell!("{}", task.data().describe());
    let record = run::record(FAMILY, &network, config)?.on(&task.data().name, task.data().fingerprint());
    let net = if let Some(checkpoint) = &run.resumed {
        checkpoint.agrees(&checkpoint.network(FAMILY)?, &network, in_full)?;
        run::continues(checkpoint, &record, config.epochs);
        let mut net = PalmVeinNet::new(&network, config.common.seed, &device)?;
        load_whole(&checkpoint.path, &network.to_string(), &mut net)?;
        net
    } else {
        start(config, &task, &device)?
    };
    run.begin(&record, config.common.seed)?;
    let settings = config.settings(args.run.keep_checkpoints);
    let (last, outcome) = engine::train(&mut task, net, &settings, &run.dir, record, run.resumed.as_ref(), stop)?;
    let finished = matches!(outcome, Outcome::Finished { .. });
    let code = run.end(outcome, "palmvein stage2", "EER")?;
    if finished && !task.data().test.is_empty() {
        // The best network has its say on the test pairs, which took no part in choosing it.
        let mut net = last.valid();
        if let Some(best) = Checkpoint::best(&run.dir)? {
            load_whole(&best.path, &network.to_string(), &mut net)?;
        }
        let report = test_pairs(&net, &network.to_string(), config).map_err(anyhow::Error::from_boxed)?;
        files::write(&run.dir.join("test_report.json"), serde_json::to_string_pretty(&report)?)?;
        files::write(&run.dir.join("test_report.html"), report.html())?;
        terminal::show!("{}", report.table().trim_end())?;
    }
    Ok(code)
}

/// A network that stage 2 begins with: backbones from stage 1, or random ones where that was asked for.
pub(crate) fn start(config: &Stage2Config, task: &Stage2Task, device: &Device) -> anyhow::Result<PalmVeinNet> {
    let network = task.network();
    let mut net = PalmVeinNet::new(&network, config.common.seed, device)?;
    if config.from_scratch {
        terminal::tell!("starting from random weights (seed {})", config.common.seed);
        return Ok(net);
    }
    for branch in network.branches() {
        let path = stage1_weights(config, branch).map_err(anyhow::Error::from_boxed)?;
        let report = net.load_branch(&path, branch)?;
        terminal::tell!("{branch} from {}: {report}", path.display());
    }
    Ok(net)
}
