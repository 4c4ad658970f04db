//! `train controlnet`: a run that teaches a network to draw a face in another pose.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::bail;
use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use crate::device;
use crate::families::controlnet::cli::ControlnetArgs;
use crate::families::controlnet::net::{
    ControlNet, ControlNetConfig, EncoderKind, encoder_of, is_resnet50, load_controlnet,
};
use crate::families::controlnet::page;
use crate::families::controlnet::scores::{Score, Scores};
use crate::families::controlnet::settings::{ControlnetConfig, EncoderChoice};
use crate::families::controlnet::task::{self as controlnet, ControlnetTask};
use crate::families::faces::pose::PoseUnit;
use crate::families::faces::reference;
use crate::run::checkpoint::Checkpoint;
use crate::run::directory;
use crate::run::engine::Task;
use crate::run::flags::EvalArgs;
use crate::run::history::History;
use crate::run::start::{self, Adopted, Family, Finished, Opened, Plan};
use crate::weights::{Partial, StateDict};

/// The manual's run directory.
const PLACE: &str = "checkpoints_image";

/// File of the figures at the end in a run directory.
const TEST: &str = "test_metrics.json";

/// File of the run's report.
const REPORT: &str = "report.html";

/// `train controlnet`.
pub fn train(mut args: ControlnetArgs) -> anyhow::Result<ExitCode> {
    // The second of two stages names another directory and does not freeze; a run continued in its own keeps what it
    // froze.
    let moves = args.run.resume.is_some() && args.run.save_dir.is_some() && args.run.config.is_none();
    if moves {
        args.freeze_generator.get_or_insert(false);
    }
    start::train(&ControlnetRun, &args.run, &args)
}

/// Runs of the generator.
struct ControlnetRun;

impl Family for ControlnetRun {
    type Config = ControlnetConfig;
    type Task = ControlnetTask;
    type Network = ControlNetConfig;

    const FAMILY: &'static str = controlnet::FAMILY;
    const VERB: &'static str = "controlnet";
    const METRIC: &'static str = "validation loss";
    const RUNS: &'static str = ".";

    fn place(_: &ControlnetConfig) -> PathBuf {
        PLACE.into()
    }

    fn data_folder(config: &mut ControlnetConfig) -> &mut String {
        &mut config.data_dir
    }

    fn seed(config: &ControlnetConfig) -> u64 {
        config.seed
    }

    fn adopt(&self, path: &Path) -> anyhow::Result<Option<Adopted>> {
        reference::adopt::<ControlnetConfig>(path)
    }

    fn open(&self, plan: &Plan<Self>, device: &Device) -> anyhow::Result<Opened<Self>> {
        let config = plan.config.clone();
        let network = network(plan)?;
        let task = ControlnetTask::open(&config, &network, device).map_err(anyhow::Error::from_boxed)?;
        let settings = controlnet::settings(&config, plan.keep);
        let mut net = ControlNet::new(&network, config.seed, device);
        terminal::tell!("device {}", device::name(device));
        let mut anew = false;
        if let Some(checkpoint) = plan.checkpoint() {
            StateDict::load_file(&checkpoint.path, &mut net, &network.to_string(), Partial::Nothing)?;
            if let Some(why) = begins_anew(checkpoint, &config)? {
                let path = checkpoint.path.display();
                if plan.continues_in_place() {
                    bail!("`{path}` {why}, which begins a new run; give it a directory of its own with --save-dir");
                }
                terminal::tell!(
                    "taking only the weights of {path}, as it {why}: optimiser, learning rate, log and epochs \
                     start afresh"
                );
                anew = true;
            }
        } else if config.pre_train.is_empty() {
            terminal::tell!("starting from random weights (seed {})", config.seed);
            if config.freeze_generator {
                terminal::tell!(
                    "warning: a generator that is frozen before it learned to draw leaves little to learn; \
                     --pre_train gives it weights"
                );
            }
        } else {
            let report = load_controlnet(&mut net, &network, Path::new(&config.pre_train))?;
            terminal::tell!("starting from {}: {report}", config.pre_train);
        }
        let net = controlnet::frozen(net, &config);
        terminal::tell!("{}", task.describe_data());
        let parameters = StateDict::of(&net).parameters();
        terminal::tell!("{network}: {parameters} parameters, {} of them train", controlnet::trainable(&net));
        let dataset = (config.data_dir.clone(), task.fingerprint().to_owned());
        Ok(Opened { config, task, net, network, dataset, people: None, settings, anew })
    }

    /// The best network on the test people, and the run's page.
    fn finish(&self, run: &Finished<'_, Self>) -> anyhow::Result<()> {
        let Some(best) = Checkpoint::best(run.dir)? else { return Ok(()) };
        let mut net = ControlNet::new(run.network, run.config.seed, &run.device);
        StateDict::load_file(&best.path, &mut net, &run.network.to_string(), Partial::Nothing)?;
        let net = net.valid();
        let figures = test(run.task, &net, &best)?;
        files::write(&run.dir.join(TEST), serde_json::to_string_pretty(&figures.parts)?)?;
        terminal::tell!("{}", figures.table().trim_end());
        figures.warning(run.config).iter().for_each(|warning| terminal::warn(warning));
        let log = run.task.log();
        let panels = log.panels.clone();
        let history = History::open(run.dir, log, run.settings.log_dir.as_deref())?;
        let epochs = page::Epochs { panels: &panels, records: history.records() };
        page::write(&run.dir.join(REPORT), run.task, &net, &best, &figures.parts, Some(epochs))
    }
}

/// The network that settings and checkpoint ask for.
fn network(plan: &Plan<ControlnetRun>) -> anyhow::Result<ControlNetConfig> {
    let config = &plan.config;
    let saved = plan.checkpoint().map(|checkpoint| checkpoint.network::<ControlNetConfig>(controlnet::FAMILY));
    let saved = saved.transpose()?;
    let encoder = match (config.encoder, &saved) {
        (EncoderChoice::Conv, _) => EncoderKind::Conv,
        (EncoderChoice::Resnet50, _) => EncoderKind::Resnet50,
        (EncoderChoice::Insightface, _) => EncoderKind::Embedding,
        (EncoderChoice::Auto, Some(saved)) => saved.encoder,
        (EncoderChoice::Auto, None) if config.pre_train.is_empty() => EncoderKind::Conv,
        (EncoderChoice::Auto, None) => {
            let weights = StateDict::read(Path::new(&config.pre_train))?;
            if is_resnet50(&weights) { EncoderKind::Resnet50 } else { encoder_of(&weights) }
        }
    };
    let network = controlnet::network(config, encoder);
    if let (Some(saved), Some(checkpoint)) = (saved, plan.checkpoint()) {
        let saved = ControlNetConfig { dropout: network.dropout, ..saved };
        checkpoint.agrees(&saved, &network, ToString::to_string)?;
    }
    Ok(network)
}

/// Why a run with these settings cannot go on where the checkpoint's stopped; none where it can.
fn begins_anew(checkpoint: &Checkpoint, config: &ControlnetConfig) -> anyhow::Result<Option<String>> {
    let saved: ControlnetConfig = checkpoint.settings()?;
    let frozen = |config: &ControlnetConfig| (config.freeze_generator, config.freeze_backbone);
    Ok(if frozen(&saved) != frozen(config) {
        let name = |frozen: bool| if frozen { "frozen" } else { "trained" };
        Some(format!(
            "was saved with the generator {} and the backbone {}, and now they are {} and {}",
            name(saved.freeze_generator),
            name(saved.freeze_backbone),
            name(config.freeze_generator),
            name(config.freeze_backbone)
        ))
    } else if checkpoint.record.state_sha256.is_none() {
        Some("holds no optimiser's state".into())
    } else {
        None
    })
}

/// What a network draws of people and poses it was not trained on, beside two ways to draw nothing.
#[derive(Debug, Serialize)]
struct TestFigures {
    /// Finished epochs of the network.
    epoch: usize,
    parts: Vec<Scores>,
}

fn test(task: &ControlnetTask, net: &ControlNet, checkpoint: &Checkpoint) -> anyhow::Result<TestFigures> {
    let parts = task.test(net).map_err(anyhow::Error::from_boxed)?;
    Ok(TestFigures { epoch: checkpoint.record.epoch, parts })
}

impl TestFigures {
    /// What to say of a trained network that draws unseen people worse than a way that draws nothing.
    fn warning(&self, config: &ControlnetConfig) -> Option<String> {
        let Scores { part, network, copy_source, mean_picture, .. } = self.parts.first()?;
        let ways = [("a copy of the source", copy_source), ("the mean picture", mean_picture)];
        let (way, best) = ways.into_iter().max_by(|a, b| a.1.psnr.total_cmp(&b.1.psnr))?;
        if self.epoch == 0 || network.psnr >= best.psnr {
            return None;
        }
        let help = if config.pose_unit == PoseUnit::RightAngles {
            "more --epochs, more people, or another --lr may help"
        } else {
            "`--recipe heads` starts a run that learns it on drawn heads, with --pose-unit right-angles and --lr 2e-3"
        };
        Some(format!(
            "{part} are drawn worse than by {way}, with a PSNR of {:.2} dB instead of {:.2} dB: {help}",
            network.psnr, best.psnr
        ))
    }

    fn table(&self) -> String {
        let mut text = format!("the network after epoch {}, PSNR in dB and SSIM\n", self.epoch);
        let mut line = |part: &str, pairs: &str, cells: [String; 3]| {
            let cells = cells.map(|cell| format!(" {cell:>16}")).concat();
            text += &format!("{part:<30} {pairs:>6}{cells}\n");
        };
        line("", "pairs", ["network", "copy source", "mean picture"].map(str::to_owned));
        for Scores { part, pairs, network, copy_source, mean_picture } in &self.parts {
            let cell = |score: &Score| format!("{:.2} {:.3}", score.psnr, score.ssim);
            line(part, &pairs.to_string(), [network, copy_source, mean_picture].map(cell));
        }
        text
    }
}

/// `train eval` of an ImageControlNet: its test people, and the poses it held out.
pub fn eval(args: &EvalArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
    let network: ControlNetConfig = checkpoint.network(controlnet::FAMILY)?;
    let mut config: ControlnetConfig = checkpoint.settings()?;
    match &args.datadir {
        Some(data) => (config.data_dir, config.image_dir) = (data.display().to_string(), String::new()),
        None => directory::follow_of(&mut config.data_dir, checkpoint),
    }
    config.num_workers = args.threads();
    let device = device::open(args.device)?;
    let mut net = ControlNet::new(&network, config.seed, &device);
    StateDict::load_file(&checkpoint.path, &mut net, &network.to_string(), Partial::Nothing)?;
    let (task, net) =
        (ControlnetTask::open(&config, &network, &device).map_err(anyhow::Error::from_boxed)?, net.valid());
    let figures = test(&task, &net, checkpoint)?;
    if let Some(path) = &args.report {
        page::write(path, &task, &net, checkpoint, &figures.parts, None)?;
    }
    args.format.print(&figures, || figures.table())?;
    figures.warning(&config).iter().for_each(|warning| terminal::warn(warning));
    Ok(ExitCode::SUCCESS)
}
