//! `train import` of re-identification networks.

use std::process::ExitCode;

use anyhow::Context;
use burn::tensor::Device;

use crate::families::reid::net::{Network, ReidNet};
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task as reid;
use crate::run::checkpoint;
use crate::run::directory::record;
use crate::run::flags::ImportArgs;
use crate::weights::{Partial, StateDict};

/// A checkpoint of foreign weights; the number of classes is read from them.
pub fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let weights = StateDict::read(&args.weights)?;
    let classes = match args.num_classes {
        Some(classes) => classes,
        None => weights.classes().with_context(|| {
            format!("`{}` has no classifier to count the classes from; give --num-classes", args.weights.display())
        })?,
    };
    let mut net = Network::named(&args.model)?;
    // A neck has other keys than a reduction. Weights of another network are named when they are read.
    if weights.get("classifier.bn.weight").is_some() {
        net = net.with("bnneck", true).unwrap_or(net);
    }
    if let Some(feats) = args.feats {
        net = net.with("feats", feats)?;
    }
    let defaults = ReidConfig::default();
    let config = ReidConfig {
        net,
        height: args.height.unwrap_or(defaults.height),
        width: args.width.unwrap_or(defaults.width),
        num_classes: classes,
        ..defaults
    };
    config.check()?;
    let network = reid::network(&config);
    let mut net = ReidNet::new(&network, config.seed, &Device::flex());
    let partial = if args.partial { Partial::Classifiers } else { Partial::Nothing };
    let report = net.load_pretrained(&args.weights, partial);
    // Would they fit without the classifiers?
    let partly = report.is_err() && net.load_pretrained(&args.weights, Partial::Classifiers).is_ok();
    let hint = || "only the classifiers do not fit: --partial leaves them at their start";
    let report = if partly { report.with_context(hint)? } else { report? };
    let record = record(reid::FAMILY, &network, &config)?;
    checkpoint::save_weights(&args.output, &StateDict::of(&net), &record)?;
    terminal::show!("{}: {}, {report}", args.output.display(), network.net)?;
    Ok(ExitCode::SUCCESS)
}
