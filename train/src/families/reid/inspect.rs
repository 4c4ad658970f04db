//! `train inspect --model`: a network without weights.

use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use crate::families::reid::net::{Network, ReidNetConfig};
use crate::families::reid::settings::ReidConfig;
use crate::run::flags::{Format, InspectArgs};

/// Parameters, multiply-adds and embedding of the network that `--model` and `--with` ask for.
pub fn describe(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let name = args.model.as_deref().context("no network is named: give --model")?;
    let mut net = Network::named(name)?;
    for setting in &args.with {
        net = net.with_text(setting).with_context(|| format!("--with {setting}"))?;
    }
    let defaults = ReidConfig::default();
    let config = ReidConfig {
        net,
        height: args.height.unwrap_or(defaults.height),
        width: args.width.unwrap_or(defaults.width),
        num_classes: args.num_classes.unwrap_or(defaults.num_classes),
        ..defaults
    };
    config.check()?;
    let ReidConfig { net, height, width, num_classes: classes, .. } = config;
    let network = ReidNetConfig { classes, net };
    let cost = network.cost([height, width]);
    let (features, parts) = (network.net.features(), cost.parts);
    if args.format == Format::Json {
        let facts = json!({
            "network": network, "parameters": cost.parameters, "multiply_adds": cost.multiply_adds,
            "size": [height, width], "features": features, "parts": parts,
        });
        terminal::show!("{}", serde_json::to_string_pretty(&facts)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    terminal::show!("{}: {}", network.net, network.net.about())?;
    terminal::show!("  parameters     {} with {classes} training identities", cost.parameters)?;
    terminal::show!("  multiply-adds  {} for a picture of {height}×{width}", cost.multiply_adds)?;
    terminal::show!("  embedding      {} values: {parts} × {features}", parts * features)?;
    terminal::show!("  compared       {}", network.net.compared())?;
    Ok(ExitCode::SUCCESS)
}
