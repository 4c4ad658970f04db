//! `train senet`: a run that teaches a network to frontalise face embeddings.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::ensure;
use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;
use serde_json::json;

use crate::device;
use crate::families::faces::pose::PoseUnit;
use crate::families::faces::reference;
use crate::families::senet::cli::{AnalyseArgs, SenetArgs, SenetVerb};
use crate::families::senet::data::FacePairs;
use crate::families::senet::identify::{Identification, Way};
use crate::families::senet::net::{SenetNetConfig, SenetTripletNetwork, load};
use crate::families::senet::settings::SenetConfig;
use crate::families::senet::task::{self as senet, SenetTask};
use crate::run::checkpoint::Checkpoint;
use crate::run::directory;
use crate::run::engine;
use crate::run::flags::{EvalArgs, Format};
use crate::run::start::{self, Adopted, Family, Finished, Opened, Plan};
use crate::weights::StateDict;

/// The manual's run directory.
const PLACE: &str = "checkpoints_senet";

/// File of the test split's figures in a run directory.
const TEST: &str = "test_metrics.json";

/// `train senet`.
pub fn senet(args: &SenetArgs) -> anyhow::Result<ExitCode> {
    match &args.verb {
        Some(SenetVerb::Analyse(args)) => analyse(args),
        None => start::train(&SenetRun, &args.run, args),
    }
}

/// Runs of the frontalizer.
struct SenetRun;

impl Family for SenetRun {
    type Config = SenetConfig;
    type Task = SenetTask;
    type Network = SenetNetConfig;

    const FAMILY: &'static str = senet::FAMILY;
    const VERB: &'static str = "senet";
    const METRIC: &'static str = "validation loss";
    const RUNS: &'static str = ".";
    const WEIGHTS: Option<&'static str> = None;

    fn place(_: &SenetConfig) -> PathBuf {
        PLACE.into()
    }

    fn data_folder(config: &mut SenetConfig) -> &mut String {
        &mut config.data_dir
    }

    fn seed(config: &SenetConfig) -> u64 {
        config.seed
    }

    fn adopt(&self, path: &Path) -> anyhow::Result<Option<Adopted>> {
        reference::adopt::<SenetConfig>(path)
    }

    fn open(&self, plan: &Plan<Self>, device: &Device) -> anyhow::Result<Opened<Self>> {
        let config = plan.config.clone();
        let task = SenetTask::open(&config, device).map_err(anyhow::Error::from_boxed)?;
        let network = SenetTask::network(&config);
        let settings = senet::settings(&config, plan.keep);
        let mut net = SenetTripletNetwork::new(&network, config.seed, device);
        terminal::tell!("device {}", device::name(device));
        if let Some(checkpoint) = plan.checkpoint() {
            let saved: SenetNetConfig = checkpoint.network(senet::FAMILY)?;
            // The checkpoint's weights replace what the fusion weight starts with.
            let saved = SenetNetConfig { fusion_alpha: network.fusion_alpha, dropout: network.dropout, ..saved };
            checkpoint.agrees(&saved, &network, ToString::to_string)?;
            load(&checkpoint.path, &mut net)?;
        } else {
            terminal::tell!("starting from random weights (seed {})", config.seed);
        }
        terminal::tell!("{}", task.describe_data());
        let parameters = StateDict::of(&net).parameters();
        terminal::tell!("{parameters} parameters, fusion weight {:.4}", net.fusion_weight());
        let dataset = (config.data_dir.clone(), task.fingerprint().to_owned());
        Ok(Opened { config, task, net, network, dataset, people: None, settings, anew: false })
    }

    /// The best network on the test people.
    fn finish(&self, run: &Finished<'_, Self>) -> anyhow::Result<()> {
        let Some(best) = Checkpoint::best(run.dir)? else { return Ok(()) };
        let mut net = SenetTripletNetwork::new(run.network, run.config.seed, &run.device);
        load(&best.path, &mut net)?;
        let figures = test(run.task, &net.valid(), best.record.epoch)?;
        files::write(&run.dir.join(TEST), serde_json::to_string_pretty(&figures)?)?;
        terminal::tell!("{}", figures.table().trim_end());
        figures.warning(run.config).iter().for_each(|warning| terminal::warn(warning));
        Ok(())
    }
}

/// What a network does for the people nobody trained or chose by.
#[derive(Debug, Serialize)]
struct TestFigures {
    /// Finished epochs of the network.
    epoch: usize,
    metrics: BTreeMap<String, f64>,
    identification: Option<Identification>,
}

fn test(task: &SenetTask, net: &SenetTripletNetwork, epoch: usize) -> anyhow::Result<TestFigures> {
    Ok(TestFigures { epoch, metrics: task.test(net), identification: task.identify(net)? })
}

impl TestFigures {
    /// What to say of a trained network that is worse than none: its settings decide what may help.
    fn warning(&self, config: &SenetConfig) -> Option<String> {
        let found = match &self.identification {
            Some(found) => [found.frontalised.cosine, found.untouched.cosine],
            None => ["front_cosine", "source_cosine"].map(|name| self.metrics[name]),
        };
        let [frontalised, untouched] = found;
        if self.epoch == 0 || frontalised >= untouched {
            return None;
        }
        let help = if config.target_weight > 0.0 && config.pose_unit == PoseUnit::RightAngles {
            "more --epochs, more people, or another --lr may help"
        } else {
            "`--recipe frontal` starts a run that learns it, with --target-weight 5 and --pose-unit right-angles"
        };
        Some(format!(
            "frontalised embeddings are worse than untouched ones, with a cosine to the true frontal embedding of \
             {frontalised:.4} instead of {untouched:.4}: {help}"
        ))
    }

    fn table(&self) -> String {
        let mut facts = vec![format!("test people, network after epoch {}:", self.epoch)];
        facts.extend(engine::metric_facts(&self.metrics));
        let mut text = terminal::facts(&facts, Some(80)) + "\n";
        let Some(found) = &self.identification else { return text + "no profile view among them\n" };
        text += &format!(
            "{} profile views of them against {} frontal pictures of everybody\n",
            found.probes, found.gallery
        );
        text += &format!("{:<20} {:>8} {:>8} {:>14}\n", "", "cosine", "Rank-1", "TAR@FAR=0.001");
        let ways = [
            ("untouched", &found.untouched),
            ("frontalised", &found.frontalised),
            ("identity features", &found.identity),
        ];
        for (name, Way { cosine, rank1, tar }) in ways {
            text += &format!("{name:<20} {cosine:>8.4} {rank1:>8.4} {tar:>14.4}\n");
        }
        text
    }
}

/// `train eval` of a SENet: its test people.
pub fn eval(args: &EvalArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
    let network: SenetNetConfig = checkpoint.network(senet::FAMILY)?;
    let mut config: SenetConfig = checkpoint.settings()?;
    match &args.datadir {
        Some(data) => config.data_dir = data.display().to_string(),
        None => directory::follow_of(&mut config.data_dir, checkpoint),
    }
    let device = device::open(args.device)?;
    let mut net = SenetTripletNetwork::new(&network, config.seed, &device);
    load(&checkpoint.path, &mut net)?;
    let task = SenetTask::open(&config, &device).map_err(anyhow::Error::from_boxed)?;
    let figures = test(&task, &net.valid(), checkpoint.record.epoch)?;
    args.format.print(&figures, || figures.table())?;
    figures.warning(&config).iter().for_each(|warning| terminal::warn(warning));
    Ok(ExitCode::SUCCESS)
}

fn analyse(args: &AnalyseArgs) -> anyhow::Result<ExitCode> {
    let pairs = FacePairs::read(&args.data_dir, [0.0, f64::INFINITY])?;
    let correlations = pairs.correlations();
    ensure!(
        (1..=correlations.len()).contains(&args.top),
        "--top is {}; 1 to {} are allowed, as many as an embedding has values",
        args.top,
        correlations.len()
    );
    let mut order: Vec<usize> = (0..correlations.len()).collect();
    order.sort_by(|a, b| correlations[*b].total_cmp(&correlations[*a]).then(a.cmp(b)));
    order.truncate(args.top);
    match args.format {
        Format::Json => {
            let chosen: Vec<_> =
                order.iter().map(|at| json!({ "dim": at, "correlation": correlations[*at] })).collect();
            terminal::show!(
                "{}",
                serde_json::to_string_pretty(&json!({ "pairs": pairs.len(), "identity_dims": chosen }))?
            )?;
        }
        Format::Table => {
            terminal::show!(
                "{} pairs of a frame and a frontal picture; correlation of each dimension over them",
                pairs.len()
            )?;
            for at in &order {
                terminal::show!("{at:>6}  {:.4}", correlations[*at])?;
            }
            let dims = order.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
            terminal::show!("--identity-dims {dims}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
