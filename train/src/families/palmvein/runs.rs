//! Runs of both stages: what is special to their start.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use burn::module::Module;
use burn::tensor::Device;
use datasets::paired::PairOptions;
use serde::Serialize;

use crate::families::palmvein::cli::{Branches, Stage1Args};
use crate::families::palmvein::net::{
    Branch, PalmVeinNet, PalmVeinNetConfig, Stage1Net, Stage1NetConfig, load_backbone, load_whole, read_backbone,
};
use crate::families::palmvein::settings::BACKBONES;
use crate::families::palmvein::{
    FAMILY, STAGE1_FAMILY, Stage1Config, Stage1Task, Stage2Config, Stage2Task, stage1_weights, test_pairs,
};
use crate::run::checkpoint::Checkpoint;
use crate::run::engine::Task;
use crate::run::start::{self, Family, Finished, Opened, Plan};

/// Folder of all runs.
const RUNS: &str = "runs/palmvein";

/// A network in full: two of one name differ in any of their sizes.
fn in_full(network: &impl Serialize) -> String {
    serde_json::to_string(network).expect("sizes are plain data")
}

/// `train palmvein stage1`.
pub fn stage1(args: &Stage1Args) -> anyhow::Result<ExitCode> {
    if args.branch == Some(Branches::All) { every_branch(args) } else { start::train(&Stage1Run, &args.run, args) }
}

/// One branch after the other. With `--resume` finished branches are skipped, and the others go on or
/// begin with the settings of the first.
fn every_branch(args: &Stage1Args) -> anyhow::Result<ExitCode> {
    let root = args.run.resume.as_deref().map(branches_of).transpose()?;
    let mut base = None;
    for next in Branch::ALL {
        let (mut args, name) = (args.clone(), next.name());
        args.branch = Some(next.into());
        args.run.save_dir = args.run.save_dir.map(|place| place.join(name));
        if let Some(root) = &root {
            let dir = root.join(name);
            let begun = Checkpoint::newest(&dir)?.is_some();
            args.run.resume = begun.then(|| dir.clone());
            if !begun && args.run.save_dir.is_none() {
                args.run.save_dir = Some(dir);
            }
        }
        terminal::tell!("{name}");
        let Some(plan) = Plan::resolve_from(&Stage1Run, &args.run, &args, base.as_ref(), &BACKBONES.concat())? else {
            continue;
        };
        base.get_or_insert(serde_json::to_value(&plan.config)?);
        if plan.is_finished() {
            terminal::tell!("`{}` is finished", plan.dir.display());
            continue;
        }
        let code = start::run(&Stage1Run, plan)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The folder with a run for each branch that `--resume` names: a path, or the name of a run.
fn branches_of(named: &Path) -> anyhow::Result<PathBuf> {
    let places = [named.to_owned(), named.join("stage1"), Path::new(RUNS).join(named).join("stage1")];
    let holds = |place: &&PathBuf| Branch::ALL.iter().any(|branch| place.join(branch.name()).is_dir());
    match places.iter().find(holds) {
        Some(place) => Ok(place.clone()),
        None => bail!(
            "no runs of branches to resume in {}; --resume of one branch goes without --branch all",
            places.map(|place| format!("`{}`", place.display())).join(" nor in ")
        ),
    }
}

/// Runs of stage 1.
struct Stage1Run;

impl Family for Stage1Run {
    type Config = Stage1Config;
    type Task = Stage1Task;
    type Network = Stage1NetConfig;

    const FAMILY: &'static str = STAGE1_FAMILY;
    const VERB: &'static str = "palmvein stage1";
    const METRIC: &'static str = "EER";
    const RUNS: &'static str = RUNS;

    fn place(config: &Stage1Config) -> PathBuf {
        Path::new(RUNS).join(&config.common.save).join("stage1").join(config.branch.name())
    }

    fn data_folder(config: &mut Stage1Config) -> &mut String {
        &mut config.common.datadir
    }

    fn seed(config: &Stage1Config) -> u64 {
        config.common.seed
    }

    fn open(&self, plan: &Plan<Self>, device: &Device) -> anyhow::Result<Opened<Self>> {
        let config = plan.config.clone();
        let task = Stage1Task::open(&config, device).map_err(anyhow::Error::from_boxed)?;
        let split = config.common.pairs();
        let network = config.network(task.data().num_classes);
        let mut net = Stage1Net::new(&network, config.common.seed, device)?;
        terminal::tell!("{}", task.data().describe());
        if let Some(checkpoint) = plan.checkpoint() {
            checkpoint.agrees(&checkpoint.network(STAGE1_FAMILY)?, &network, in_full)?;
            load_whole(&checkpoint.path, config.branch.name(), &mut net)?;
        } else if !config.pre_train.is_empty() {
            let path = Path::new(&config.pre_train);
            let weights = read_backbone(path, config.branch)?;
            let report = load_backbone(path, weights, config.branch.name(), &mut net.model)?;
            terminal::tell!("starting from {}: {report}", config.pre_train);
        }
        let settings = config.settings(plan.keep);
        let dataset = (task.data().name.clone(), task.data().fingerprint());
        let people = Some(task.data().trained_on(&split));
        Ok(Opened { config, task, net, network, dataset, people, settings, anew: false })
    }

    fn finish(&self, run: &Finished<'_, Self>) -> anyhow::Result<()> {
        start::warn_no_better(run.dir, run.task.decisive(), HELP, || {
            let Stage1Config { branch, common, pre_train, .. } = run.config;
            let mut net = Stage1Net::new(run.network, common.seed, &run.device)?;
            if !pre_train.is_empty() {
                let path = Path::new(pre_train);
                load_backbone(path, read_backbone(path, *branch)?, branch.name(), &mut net.model)?;
            }
            error_rate(run.task, &net)
        })
    }
}

/// What to try where a run ends no better than it began.
const HELP: &str = "more --epochs, another --lr, or `--recipe hands` where hands are few may help";

/// The equal error rate of a network on the pairs that choose the best.
fn error_rate<T: Task>(task: &T, net: &T::Net) -> anyhow::Result<Option<f64>> {
    let found = task.evaluate(&net.valid()).map_err(anyhow::Error::from_boxed)?;
    Ok(found.get(task.decisive().metric).copied())
}

/// Runs of stage 2.
#[derive(Default)]
pub(crate) struct Stage2Run {
    /// How the pairs are shared out, whatever the settings' seed; by the settings without.
    pub split: Option<PairOptions>,
    /// Leaves the test pairs to the caller.
    pub quiet: bool,
}

impl Family for Stage2Run {
    type Config = Stage2Config;
    type Task = Stage2Task;
    type Network = PalmVeinNetConfig;

    const FAMILY: &'static str = FAMILY;
    const VERB: &'static str = "palmvein stage2";
    const METRIC: &'static str = "EER";
    const RUNS: &'static str = RUNS;

    fn place(config: &Stage2Config) -> PathBuf {
        Path::new(RUNS).join(&config.common.save).join("stage2")
    }

    fn data_folder(config: &mut Stage2Config) -> &mut String {
        &mut config.common.datadir
    }

    fn seed(config: &Stage2Config) -> u64 {
        config.common.seed
    }

    fn open(&self, plan: &Plan<Self>, device: &Device) -> anyhow::Result<Opened<Self>> {
        let config = plan.config.clone();
        let split = self.split.clone().unwrap_or_else(|| config.common.pairs());
        let task = Stage2Task::with_pairs(&config, &split, device).map_err(anyhow::Error::from_boxed)?;
        let network = task.network();
        terminal::tell!("{}", task.data().describe());
        let net = match plan.checkpoint() {
            Some(checkpoint) => {
                checkpoint.agrees(&checkpoint.network(FAMILY)?, &network, in_full)?;
                let mut net = PalmVeinNet::new(&network, config.common.seed, device)?;
                load_whole(&checkpoint.path, &network.to_string(), &mut net)?;
                net
            }
            None => {
                let (net, told) = begin(&config, &network, device)?;
                told.iter().for_each(|line| terminal::tell!("{line}"));
                net
            }
        };
        let settings = config.settings(plan.keep);
        let dataset = (task.data().name.clone(), task.data().fingerprint());
        let people = Some(task.data().trained_on(&split));
        Ok(Opened { config, task, net, network, dataset, people, settings, anew: false })
    }

    /// The best network on the test pairs, which took no part in choosing it.
    fn finish(&self, run: &Finished<'_, Self>) -> anyhow::Result<()> {
        if self.quiet || run.task.data().test.is_empty() {
            return Ok(());
        }
        let mut net = run.last.valid();
        if let Some(best) = Checkpoint::best(run.dir)? {
            load_whole(&best.path, &run.network.to_string(), &mut net)?;
        }
        let report = test_pairs(&net, &run.network.to_string(), run.config).map_err(anyhow::Error::from_boxed)?;
        files::write(&run.dir.join("test_report.json"), serde_json::to_string_pretty(&report)?)?;
        files::write(&run.dir.join("test_report.html"), report.html())?;
        terminal::show!("{}", report.table().trim_end())?;
        start::warn_no_better(run.dir, run.task.decisive(), HELP, || {
            let (net, _) = begin(run.config, run.network, &run.device)?;
            error_rate(run.task, &net)
        })
    }
}

/// A network that stage 2 begins with: backbones from stage 1, or random ones where that was asked for; and what to
/// tell of its weights.
fn begin(
    config: &Stage2Config,
    network: &PalmVeinNetConfig,
    device: &Device,
) -> anyhow::Result<(PalmVeinNet, Vec<String>)> {
    let mut net = PalmVeinNet::new(network, config.common.seed, device)?;
    if config.from_scratch {
        return Ok((net, vec![format!("starting from random weights (seed {})", config.common.seed)]));
    }
    let mut told = Vec::new();
    for branch in network.branches() {
        let path = stage1_weights(config, branch).map_err(anyhow::Error::from_boxed)?;
        let report = net.load_branch(&path, branch)?;
        told.push(format!("{} from {}: {report}", branch.name(), path.display()));
    }
    Ok((net, told))
}
