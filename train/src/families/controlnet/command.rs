//! `train controlnet`: a run that teaches a network to draw a face in another pose.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use burn::module::Module;
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
use crate::families::faces::reference as foreign;
use crate::run::checkpoint::Checkpoint;
use crate::run::directory::{self as run, Run};
use crate::run::engine::{self, Outcome};
use crate::run::flags::EvalArgs;
use crate::run::history::History;
use crate::weights::{Partial, StateDict};

/// The manual's run directory.
const PLACE: &str = "checkpoints_image";

/// File of the figures at the end in a run directory.
const TEST: &str = "test_metrics.json";

/// File of the run's curves.
const CURVES: &str = "final_training_curves.png";

/// File of the run's report.
const REPORT: &str = "report.html";

pub fn train(mut args: ControlnetArgs) -> anyhow::Result<ExitCode> {
    // The second of two stages names another directory and does not freeze; a run continued in its own keeps what it
    // froze.
    let moves = args.run.resume.is_some() && args.run.save_dir.is_some() && args.run.config.is_none();
    if moves {
        args.freeze_generator.get_or_insert(false);
    }
    let mut earlier = foreign::replace::<ControlnetConfig>(&mut args.run)?;
    let Some(mut run) = Run::prepare(&args.run, &args, Path::new("."), |_: &ControlnetConfig| PLACE.into())? else {
        return Ok(ExitCode::SUCCESS);
    };
    let stop = engine::watch_interrupts();
    let device = run.device.clone().autodiff();
    let network = network(&run)?;
    let config = run.config.clone();
    let mut task = ControlnetTask::open(&config, &network, &device).map_err(anyhow::Error::from_boxed)?;
    let record = run::record(controlnet::FAMILY, &network, &config)?.on(&config.data_dir, task.fingerprint());
    let settings = controlnet::settings(&config, args.run.keep_checkpoints);
    let mut net = ControlNet::new(&network, config.seed, &device);
    terminal::tell!("device {}", device::name(&device));
    if let Some(checkpoint) = &run.resumed {
        StateDict::load_file(&checkpoint.path, &mut net, &network.to_string(), Partial::Nothing)?;
        match begins_anew(checkpoint, &config)? {
            Some(why) => {
                // What was imported lies in this run's directory already and begins no other run's.
                if earlier.is_none() && checkpoint.path.parent().is_some_and(|from| run::same(from, &run.dir)) {
                    bail!(
                        "`{}` {why}, which begins a new run; give it a directory of its own with --save-dir",
                        checkpoint.path.display()
                    );
                }
                terminal::tell!(
                    "taking the weights of {} only, as it {why}: optimiser, learning rate, log and epochs begin anew",
                    checkpoint.path.display()
                );
                (run.resumed, earlier) = (None, None);
            }
            None => run::continues(checkpoint, &record, config.epochs),
        }
    } else if config.pre_train.is_empty() {
        terminal::tell!("starting from random weights (seed {})", config.seed);
        if config.freeze_generator {
            terminal::tell!(
                "warning: a generator that is frozen before it learned to draw leaves little to learn; --pre_train gives it weights"
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

    run.begin(&record, config.seed)?;
    foreign::remember(earlier, &run.dir, engine::Task::log(&task), settings.log_dir.as_deref())?;
    let (_, outcome) = engine::train(&mut task, net, &settings, &run.dir, record, run.resumed.as_ref(), stop)?;
    if let (Outcome::Finished { .. }, Some(best)) = (&outcome, Checkpoint::best(&run.dir)?) {
        let mut net = ControlNet::new(&network, config.seed, &device);
        StateDict::load_file(&best.path, &mut net, &network.to_string(), Partial::Nothing)?;
        let net = net.valid();
        let figures = test(&task, &net, &best)?;
        files::write(&run.dir.join(TEST), serde_json::to_string_pretty(&figures.parts)?)?;
        terminal::tell!("{}", figures.table().trim_end());
        let history = History::open(&run.dir, engine::Task::log(&task), settings.log_dir.as_deref())?;
        let curves = std::fs::read(run.dir.join(CURVES)).ok();
        let epochs = page::Epochs { curves, records: history.records() };
        page::write(&run.dir.join(REPORT), &task, &net, &best, &figures.parts, Some(epochs))?;
    }
    run.end(outcome, controlnet::FAMILY, "validation loss")
}

/// The network that settings and checkpoint ask for.
fn network(run: &Run<ControlnetConfig>) -> anyhow::Result<ControlNetConfig> {
    let config = &run.config;
    let saved = run.resumed.as_ref().map(|checkpoint| checkpoint.network::<ControlNetConfig>(controlnet::FAMILY));
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
    if let (Some(saved), Some(checkpoint)) = (saved, &run.resumed) {
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
    if let Some(data) = &args.datadir {
        (config.data_dir, config.image_dir) = (data.display().to_string(), String::new());
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
    Ok(ExitCode::SUCCESS)
}
