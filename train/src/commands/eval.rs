//! `train eval`: a checkpoint's metrics on a dataset.

use std::process::ExitCode;

use crate::device;
use crate::families::controlnet::task as controlnet;
use crate::families::palmvein;
use crate::families::reid::command as reid_command;
use crate::families::reid::evaluate::Reading;
use crate::families::reid::net::{ReidNet, ReidNetConfig};
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task as reid;
use crate::families::senet::task as senet;
use crate::run::checkpoint::Checkpoint;
use crate::run::flags::EvalArgs;
use crate::weights::{Partial, StateDict};

/// `train eval`.
pub fn eval(args: &EvalArgs) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    args.fit(&checkpoint.record.family)?;
    match checkpoint.record.family.as_str() {
        palmvein::FAMILY | palmvein::STAGE1_FAMILY => {
            return crate::families::palmvein::command::eval(args, &checkpoint);
        }
        controlnet::FAMILY => return crate::families::controlnet::command::eval(args, &checkpoint),
        senet::FAMILY => return crate::families::senet::command::eval(args, &checkpoint),
        _ => {}
    }
    let network: ReidNetConfig = checkpoint.network(reid::FAMILY)?;
    let mut config: ReidConfig = checkpoint.settings()?;
    if let Some(datadir) = &args.datadir {
        config.datadir = datadir.display().to_string();
    }
    if let Some(dataset) = &args.dataset {
        config.data_test = dataset.clone();
    }
    config.train_identities = args.train_identities.or(config.train_identities);
    let mut net = ReidNet::new(&network, config.seed, &device::open(args.device)?)?;
    StateDict::load_file(&checkpoint.path, &mut net, &network.model, Partial::Nothing)?;
    let reading = Reading { batch: args.batch(), threads: args.threads(), strict: args.strict };
    reid_command::evaluate(&net, &config, reading, args.rerank, args.format)
}
