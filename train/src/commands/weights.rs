//! `train import` and `train inspect`: checkpoints made of foreign weights, and what a checkpoint is.

use std::process::ExitCode;

use anyhow::Context;
use burn::tensor::Device;
use clap::ValueEnum;
use serde_json::json;

use crate::families::controlnet::settings::ControlnetConfig;
use crate::families::faces::reference as foreign;
use crate::families::palmvein::attention;
use crate::families::palmvein::net::{BackboneConfig, Branch, load_network, load_single};
use crate::families::palmvein::{self, Common, FusionKind, Stage1Config, Stage2Config};
use crate::families::reid::net::ReidNet;
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task as reid;
use crate::families::senet::settings::SenetConfig;
use crate::run::checkpoint::{self, Checkpoint, Record};
use crate::run::directory::command_line;
use crate::run::directory::record;
use crate::run::flags::{Format, ImportArgs, InspectArgs};
use crate::weights::{Partial, StateDict};

/// `train import`.
pub fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    if args.model.eq_ignore_ascii_case("SENet") {
        return foreign::import::<SenetConfig>(args);
    }
    if args.model.eq_ignore_ascii_case("ImageControlNet") {
        return foreign::import::<ControlnetConfig>(args);
    }
    if args.model == palmvein::FAMILY {
        return import_pair_network(args);
    }
    if let Ok(branch) = Branch::from_str(&args.model, false) {
        return import_branch(args, branch);
    }
    let weights = StateDict::read(&args.weights)?;
    let classes = match args.num_classes {
        Some(classes) => classes,
        None => weights.classes().with_context(|| {
            format!("`{}` has no classifier to count the classes from; give --num-classes", args.weights.display())
        })?,
    };
    let config = ReidConfig {
        model: args.model.clone(),
        // The two heads have other keys.
        bnneck: weights.get("classifier.bn.weight").is_some(),
        feats: args.feats,
        height: args.height,
        width: args.width,
        num_classes: classes,
        ..ReidConfig::default()
    };
    config.check()?;
    let network = reid::network(&config);
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
    terminal::show!("{}: {}, {report}", args.output.display(), network.model)?;
    Ok(ExitCode::SUCCESS)
}

/// Both stages of palm-vein recognition, with the sizes the tensors have.
fn import_pair_network(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let config = Stage2Config::default();
    let common = Common { img_size: args.img_size, ..config.common };
    let like = Stage2Config { common: common.clone(), ..Stage2Config::default() }.network(0);
    let (net, network, report) = load_network(&args.weights, &like, &Device::flex())?;
    let config = Stage2Config {
        common: common.sized(&network.vit, &network.cnn),
        mode: if network.fusion.use_spatial_fusion { FusionKind::Spatial } else { FusionKind::Vector },
        parts: network.fusion.parts,
        share_backbones: network.share_backbones,
        out_dim_global: network.fusion.out_dim_global,
        out_dim_local: network.fusion.out_dim_local,
        ..Stage2Config::default()
    };
    config.check()?;
    let record = record(palmvein::FAMILY, &network, &config)?;
    checkpoint::save_weights(&args.output, &StateDict::of(&net), &record)?;
    terminal::show!("{}: {network}, {report}", args.output.display())?;
    Ok(ExitCode::SUCCESS)
}

/// One backbone of palm-vein recognition, with the sizes its tensors have.
fn import_branch(args: &ImportArgs, branch: Branch) -> anyhow::Result<ExitCode> {
    let (net, network, report) = load_single(&args.weights, branch, args.img_size, &Device::flex())?;
    let config = Stage1Config::default();
    let common = Common { img_size: args.img_size, ..config.common };
    let (mut vit, mut cnn) = (common.vit(), common.cnn());
    match &network.backbone {
        BackboneConfig::Vit(found) => vit = found.clone(),
        BackboneConfig::Cnn(found) => cnn = found.clone(),
    }
    let config = Stage1Config { common: common.sized(&vit, &cnn), branch, ..Stage1Config::default() };
    config.check()?;
    let record = record(palmvein::STAGE1_FAMILY, &network, &config)?;
    checkpoint::save_weights(&args.output, &StateDict::of(&net), &record)?;
    terminal::show!("{}: {branch}, {report}", args.output.display())?;
    Ok(ExitCode::SUCCESS)
}

/// `train inspect`.
pub fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    if args.channels {
        return crate::families::senet::channels::channels(args, &checkpoint);
    }
    if let Some(folder) = &args.attention {
        let summaries = attention::draw(&checkpoint, args.data_dir.as_deref(), args.pairs, folder)?;
        terminal::show!("{}", serde_json::to_string_pretty(&summaries)?)?;
        return Ok(ExitCode::SUCCESS);
    }
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
