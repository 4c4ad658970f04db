//! `train senet`: a run that teaches a network to frontalise face embeddings.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::ensure;
use burn::module::Module;
use serde::Serialize;
use serde_json::json;

use crate::device;
use crate::families::faces::reference as foreign;
use crate::families::senet::cli::{AnalyseArgs, SenetArgs, SenetVerb};
use crate::families::senet::data::FacePairs;
use crate::families::senet::identify::{Identification, Way};
use crate::families::senet::net::{SenetNetConfig, SenetTripletNetwork, load};
use crate::families::senet::settings::SenetConfig;
use crate::families::senet::task::{self as senet, SenetTask};
use crate::run::checkpoint::Checkpoint;
use crate::run::directory::{self as run, Run};
use crate::run::engine::{self, Outcome, Task};
use crate::run::flags::{EvalArgs, Format};
use crate::run::history::EpochRecord;
use crate::weights::StateDict;

/// The manual's run directory.
const PLACE: &str = "checkpoints_senet";

/// File of the test split's figures in a run directory.
const TEST: &str = "test_metrics.json";

pub fn senet(mut args: SenetArgs) -> anyhow::Result<ExitCode> {
    if let Some(SenetVerb::Analyse(args)) = &args.verb {
        return analyse(args);
    }
    let earlier = foreign::replace::<SenetConfig>(&mut args.run)?;
    train(&args, earlier)
}

/// `earlier`: epochs that another program trained, where it continues one of its checkpoints.
fn train(args: &SenetArgs, earlier: Option<Vec<EpochRecord>>) -> anyhow::Result<ExitCode> {
    let place = |_: &SenetConfig| PLACE.into();
    let Some(run) = Run::prepare(&args.run, args, Path::new("."), place)? else { return Ok(ExitCode::SUCCESS) };
    let config = &run.config;

    let stop = engine::watch_interrupts();
    let device = run.device.clone().autodiff();
    let mut task = SenetTask::open(config, &device).map_err(anyhow::Error::from_boxed)?;
    let network = SenetTask::network(config);
    let record = run::record(senet::FAMILY, &network, config)?.on(&config.data_dir, task.fingerprint());
    let settings = senet::settings(config, args.run.keep_checkpoints);
    let mut net = SenetTripletNetwork::new(&network, config.seed, &device);
    terminal::tell!("device {}", device::name(&device));
    if let Some(checkpoint) = &run.resumed {
        let saved: SenetNetConfig = checkpoint.network(senet::FAMILY)?;
        // The weight at the start is of no account any more.
        let saved = SenetNetConfig { fusion_alpha: network.fusion_alpha, dropout: network.dropout, ..saved };
        checkpoint.agrees(&saved, &network, ToString::to_string)?;
        load(&checkpoint.path, &mut net)?;
        run::continues(checkpoint, &record, config.epochs);
    } else {
        terminal::tell!("starting from random weights (seed {})", config.seed);
    }
    terminal::tell!("{}", task.describe_data());
    let parameters = StateDict::of(&net).parameters();
    terminal::tell!("{parameters} parameters, fusion weight {:.4}", net.fusion_weight());

    run.begin(&record, config.seed)?;
    foreign::remember(earlier, &run.dir, task.log(), settings.log_dir.as_deref())?;
    let (_, outcome) = engine::train(&mut task, net, &settings, &run.dir, record, run.resumed.as_ref(), stop)?;
    if let (Outcome::Finished { .. }, Some(best)) = (&outcome, Checkpoint::best(&run.dir)?) {
        let mut net = SenetTripletNetwork::new(&network, config.seed, &device);
        load(&best.path, &mut net)?;
        let figures = test(&task, &net.valid(), best.record.epoch)?;
        files::write(&run.dir.join(TEST), serde_json::to_string_pretty(&figures)?)?;
        terminal::tell!("{}", figures.table().trim_end());
    }
    run.end(outcome, senet::FAMILY, "validation loss")
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
    fn table(&self) -> String {
        let metrics: String = self.metrics.iter().map(|(name, value)| format!("  {name} {value:.4}")).collect();
        let mut text = format!("test people, network after epoch {}:{metrics}\n", self.epoch);
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
    if let Some(data) = &args.datadir {
        config.data_dir = data.display().to_string();
    }
    let device = device::open(args.device)?;
    let mut net = SenetTripletNetwork::new(&network, config.seed, &device);
    load(&checkpoint.path, &mut net)?;
    let task = SenetTask::open(&config, &device).map_err(anyhow::Error::from_boxed)?;
    let figures = test(&task, &net.valid(), checkpoint.record.epoch)?;
    args.format.print(&figures, || figures.table())?;
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
