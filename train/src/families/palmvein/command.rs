//! `train palmvein`: its steps, and `train eval` of either stage.

use std::process::ExitCode;

use burn::module::Module;

use crate::device;
use crate::families::palmvein::cli::{PalmveinArgs, PalmveinCommand};
use crate::families::palmvein::net::{PalmVeinNet, PalmVeinNetConfig, Stage1Net, load_whole};
use crate::families::palmvein::runs::{Stage2Run, stage1};
use crate::families::palmvein::{Common, FAMILY, STAGE1_FAMILY, Stage1Config, Stage2Config, test_branch, test_pairs};
use crate::run::checkpoint::Checkpoint;
use crate::run::directory;
use crate::run::flags::EvalArgs;
use crate::run::start;

use super::{ablate, roi};

/// `train palmvein`.
pub fn palmvein(args: &PalmveinArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        PalmveinCommand::Stage1(args) => stage1(args),
        PalmveinCommand::Stage2(args) => start::train(&Stage2Run::default(), &args.run, &**args),
        PalmveinCommand::Ablate(args) => ablate::ablate(args),
        PalmveinCommand::Roi(args) => roi::roi(args),
    }
}

/// `train eval` of a checkpoint of either stage.
pub fn eval(args: &EvalArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
    let asked = |mut common: Common| Common {
        datadir: match &args.datadir {
            Some(datadir) => datadir.display().to_string(),
            None => {
                directory::follow_of(&mut common.datadir, checkpoint);
                common.datadir
            }
        },
        batchtest: args.batch(),
        n_thread: args.threads(),
        strict: args.strict,
        ..common
    };
    let device = device::open(args.device)?;
    let report = if checkpoint.record.family == STAGE1_FAMILY {
        let config: Stage1Config = checkpoint.settings()?;
        let config = Stage1Config { common: asked(config.common), ..config };
        let mut net = Stage1Net::new(&checkpoint.network(STAGE1_FAMILY)?, 0, &device)?;
        load_whole(&checkpoint.path, config.branch.name(), &mut net)?;
        test_branch(&net.valid(), &config)
    } else {
        let network: PalmVeinNetConfig = checkpoint.network(FAMILY)?;
        let config: Stage2Config = checkpoint.settings()?;
        let config = Stage2Config { common: asked(config.common), ..config };
        let mut net = PalmVeinNet::new(&network, 0, &device)?;
        load_whole(&checkpoint.path, &network.to_string(), &mut net)?;
        test_pairs(&net.valid(), &network.to_string(), &config)
    };
    let report = report.map_err(anyhow::Error::from_boxed)?;
    args.format.print(&report, || report.table())?;
    if let Some(path) = &args.report {
        files::write(path, report.html())?;
        terminal::tell!("report in {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
