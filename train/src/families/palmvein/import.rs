//! `train import` of palm-vein networks.

use std::process::ExitCode;

use burn::tensor::Device;

use crate::families::Guess;
use crate::families::palmvein::net::{BackboneConfig, Branch, load_network, load_single};
use crate::families::palmvein::{Common, FAMILY, FusionKind, STAGE1_FAMILY, Stage1Config, Stage2Config};
use crate::run::checkpoint;
use crate::run::directory::record;
use crate::run::flags::ImportArgs;
use crate::weights::StateDict;
use crate::words::Word;

/// Which palm-vein network foreign weights are of. A backbone alone does not tell palm from vein.
pub fn guess(weights: &StateDict) -> Guess {
    let has = |start: &str| weights.iter().any(|(key, _)| key.starts_with(start));
    let backbone = |key: &str| [key.to_owned(), format!("model.{key}")].iter().any(|key| weights.get(key).is_some());
    let branches = |vit: bool| {
        let branches = Branch::WORDS.iter().zip(Branch::ALL).filter(|(_, branch)| branch.is_vit() == vit);
        Guess::OneOf(branches.map(|(word, _)| *word).collect())
    };
    if has("fusion.g_align_") || has("fusion.l_align_") {
        Guess::Is(FAMILY)
    } else if backbone("patch_embed.0.c.weight") {
        branches(true)
    } else if backbone("downsample_layers.0.0.weight") {
        branches(false)
    } else {
        Guess::None(Vec::new())
    }
}

/// The settings with the input's size that was given.
fn sized_like(args: &ImportArgs, common: Common) -> Common {
    Common { img_size: args.img_size.unwrap_or(common.img_size), ..common }
}

/// Both stages of palm-vein recognition, with the sizes the tensors have.
pub fn import_pair_network(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let config = Stage2Config::default();
    let common = sized_like(args, config.common);
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
    let record = record(FAMILY, &network, &config)?;
    checkpoint::save_weights(&args.output, &StateDict::of(&net), &record)?;
    terminal::show!("{}: {network}, {report}", args.output.display())?;
    Ok(ExitCode::SUCCESS)
}

/// One backbone of palm-vein recognition, with the sizes its tensors have.
pub fn import_branch(args: &ImportArgs, branch: Branch) -> anyhow::Result<ExitCode> {
    let (net, network, report) =
        load_single(&args.weights, branch, args.img_size.unwrap_or(Common::default().img_size), &Device::flex())?;
    let config = Stage1Config::default();
    let common = sized_like(args, config.common);
    let (mut vit, mut cnn) = (common.vit(), common.cnn());
    match &network.backbone {
        BackboneConfig::Vit(found) => vit = found.clone(),
        BackboneConfig::Cnn(found) => cnn = found.clone(),
    }
    let config = Stage1Config { common: common.sized(&vit, &cnn), branch, ..Stage1Config::default() };
    config.check()?;
    let record = record(STAGE1_FAMILY, &network, &config)?;
    checkpoint::save_weights(&args.output, &StateDict::of(&net), &record)?;
    terminal::show!("{}: {}, {report}", args.output.display(), branch.name())?;
    Ok(ExitCode::SUCCESS)
}
