//! `train inspect --channels`: how a SENet weighs the channels of one sample, as a picture and a list.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use serde_json::json;

use crate::families::senet::data::FacePairs;
use crate::families::senet::net::{SenetNetConfig, SenetTripletNetwork, load};
use crate::families::senet::settings::SenetConfig;
use crate::families::senet::task::FAMILY;
use crate::run::checkpoint::Checkpoint;
use crate::run::curves::channel_curves;
use crate::run::flags::{Format, InspectArgs};

pub fn channels(args: &InspectArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
    let network: SenetNetConfig = checkpoint.network(FAMILY)?;
    let config: SenetConfig = checkpoint.settings()?;
    let mut net = SenetTripletNetwork::new(&network, config.seed, &Device::flex());
    load(&checkpoint.path, &mut net)?;
    let folder = args.data_dir.clone().unwrap_or_else(|| config.data_dir.clone().into());
    let pairs = FacePairs::read(&folder, [config.min_yaw, config.max_yaw])?;
    ensure!(
        args.sample < pairs.len(),
        "--sample is {}; 0 to {} are allowed, the pairs of `{}`",
        args.sample,
        pairs.len() - 1,
        folder.display()
    );
    let batch = pairs.batch(vec![args.sample]);
    if pairs.widths() != [network.image_dim, network.pose_dim] {
        bail!(
            "the network takes {} values and {} angles, `{}` has {:?}",
            network.image_dim,
            network.pose_dim,
            folder.display(),
            pairs.widths()
        );
    }
    let row = |values: Vec<f32>| {
        let width = values.len();
        Tensor::<2>::from_data(TensorData::new(values, [1, width]), &Device::flex())
    };
    let gates = net.valid().gates(row(batch.source), row(batch.pose));
    let gates = gates.map(|gates| gates.into_data().iter::<f32>().collect::<Vec<_>>());
    let panels = [("Identity branch", gates[0].as_slice()), ("Pose branch", gates[1].as_slice())];
    let output = args.output.clone().unwrap_or_else(|| Path::new("channels.png").to_owned());
    files::write(&output, channel_curves(&panels)?)?;

    let top = panels.map(|(name, gates)| {
        let mut order: Vec<usize> = (0..gates.len()).collect();
        order.sort_by(|a, b| gates[*b].total_cmp(&gates[*a]).then(a.cmp(b)));
        order.truncate(args.top);
        (name, gates, order)
    });
    match args.format {
        Format::Json => {
            let branch = |(name, gates, order): &(&str, &[f32], Vec<usize>)| {
                let list: Vec<_> = order.iter().map(|at| json!({ "channel": at, "gate": gates[*at] })).collect();
                json!({ "branch": name, "largest": list, "gates": gates })
            };
            let branches: Vec<_> = top.iter().map(branch).collect();
            let facts = json!({ "sample": args.sample, "picture": output, "branches": branches });
            terminal::show!("{}", serde_json::to_string_pretty(&facts)?)?;
        }
        Format::Table => {
            terminal::show!("{}: gates of sample {} of `{}`", output.display(), args.sample, folder.display())?;
            for (name, gates, order) in &top {
                let (low, high) =
                    gates.iter().fold((1.0f32, 0.0f32), |(low, high), gate| (low.min(*gate), high.max(*gate)));
                terminal::show!(
                    "{name}: {} gates from {low:.4} to {high:.4}; the largest {}",
                    gates.len(),
                    order.len()
                )?;
                for at in order {
                    terminal::show!("{at:>6}  {:.4}", gates[*at])?;
                }
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
