//! `train import` and `train inspect`: checkpoints made of foreign weights, and what a checkpoint is.

use std::process::ExitCode;

use anyhow::Context;
use burn::tensor::Device;
use serde_json::json;
use train::checkpoint::{self, Checkpoint, Record};
use train::config::ReidConfig;
use train::model::{Partial, ReidNet, ReidNetConfig, StateDict};
use train::task::reid;

use super::command_line;
use crate::cli::{Format, ImportArgs, InspectArgs};

/// `train import`.
pub fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    if args.model.eq_ignore_ascii_case("SENet") {
        super::senet_import::import(args)?;
        return Ok(ExitCode::SUCCESS);
    }
    let weights = StateDict::read(&args.weights)?;
    let classes = match args.num_classes {
        Some(classes) => classes,
        None => weights.classes().with_context(|| {
            format!("`{}` has no classifier to count the classes from; give --num-classes", args.weights.display())
        })?,
    };
    let network = ReidNetConfig { model: args.model.clone(), classes, features: args.feats };
    let config = ReidConfig {
        model: args.model.clone(),
        feats: args.feats,
        height: args.height,
        width: args.width,
        num_classes: classes,
        ..ReidConfig::default()
    };
    config.check()?;
    let mut net = ReidNet::new(&network, config.seed, &Device::flex())?;
    let partial = if args.partial { Partial::Classifiers } else { Partial::Nothing };
    let report = net.load_pretrained(&args.weights, partial)?;
    let record = Record {
        family: reid::FAMILY.into(),
        network: serde_json::to_value(&network)?,
        config: serde_json::to_value(&config)?,
        command: command_line(),
        ..Record::default()
    };
    checkpoint::save_weights(&args.output, &StateDict::of(&net), &record)?;
    println!("{}: {}, {report}", args.output.display(), network.model);
    Ok(ExitCode::SUCCESS)
}

/// `train inspect`.
pub fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    if args.channels {
        return super::channels::channels(args, &checkpoint);
    }
    let weights = StateDict::read(&checkpoint.path)?;
    let parameters = weights.parameters();
    let record = &checkpoint.record;
    if args.format == Format::Json {
        let facts = json!({ "path": checkpoint.path, "parameters": parameters, "record": record });
        println!("{}", serde_json::to_string_pretty(&facts)?);
        return Ok(ExitCode::SUCCESS);
    }
    let tensors = weights.iter().count();
    println!("{}\n  family      {}\n  network     {}", checkpoint.path.display(), record.family, record.network);
    println!("  parameters  {parameters} in {tensors} tensors, running statistics counted as tensors only");
    println!("  epoch       {} ({} steps)", record.epoch, record.steps);
    println!("  dataset     {} {}", record.dataset, record.dataset_fingerprint);
    println!("  metrics     {}", serde_json::to_string(&record.metrics)?);
    println!("  resumable   {}", if record.state_sha256.is_some() { "yes" } else { "no, weights only" });
    println!("  command     {}", record.command);
    Ok(ExitCode::SUCCESS)
}
