//! The training half of Vitrine: pictures to checkpoints, with Burn.
//!
//! A dataset (of the crate `datasets`) goes through [`data`], which samples, augments and batches it, into a network of
//! [`families`] and a loss of [`loss`]; [`run`] makes steps of the gradients and saves what comes out. A
//! [`run::engine::Task`] joins one family's data, network and loss, and [`run::engine`] is the one loop around it. Two
//! steps of that loop by hand:
//!
//! ```
//! use burn::module::Module;
//! use burn::optim::GradientsParams;
//! use burn::tensor::Device;
//! use train::run::checkpoint::{Checkpoint, Record, self};
//! use train::families::reid::settings::ReidConfig;
//! use train::run::engine::Task;
//! use train::families::reid::net::ReidNet;
//! use train::weights::StateDict;
//! use train::rng::Step;
//! use train::run::optim::Optimizer;
//! use train::families::reid::task::{ReidTask, self as reid};
//!
//! # let folder = tempfile::tempdir()?;
//! # let size = fixtures::Size { height: 32, width: 32 };
//! # let drawing = fixtures::PedestrianConfig { train_identities: 4, test_identities: 2, size, ..Default::default() };
//! # fixtures::pedestrians(&drawing, folder.path())?;
//! let config = ReidConfig {
//!     datadir: folder.path().display().to_string(),
//!     loss: "0.5*CrossEntropy+0.5*MSLoss".into(),
//!     batchid: 2,
//!     height: 32,
//!     width: 32,
//!     ..ReidConfig::default()
//! };
//! config.check()?;
//! let device = Device::flex().autodiff();
//! let mut task = ReidTask::open(&config, &device)?;
//! let mut net = ReidNet::new(&task.network(), config.seed, &device);
//! let settings = reid::settings(&config, 2)?;
//! let mut optimizer = Optimizer::new(&settings.optimizer)?;
//!
//! for batch in task.epoch(1, 0)?.batches.take(2) {
//!     let (number, batch) = batch?;
//!     let loss = task.loss(&net, &batch, Step { epoch: 1, batch: number });
//!     let gradients = GradientsParams::from_grads(loss.total.backward(), &net);
//!     net = optimizer.step(settings.schedule.lr(1), net, gradients);
//! }
//!
//! let metrics = task.evaluate(&net.valid())?;
//! let record = Record { family: reid::FAMILY.into(), metrics, ..Record::default() };
//! let path = folder.path().join("net.safetensors");
//! checkpoint::save_weights(&path, &StateDict::of(&net), &record)?;
//! assert!(Checkpoint::open(&path)?.record.metrics["mAP"] > 0.0);
//! # Ok::<(), train::run::engine::TaskError>(())
//! ```

mod cli;
mod commands;
pub mod data;
pub mod device;
pub mod families;
pub mod loss;
pub mod nn;
pub mod rng;
pub mod run;
pub mod weights;
pub mod words;

use std::process::ExitCode;

/// Version of Burn that this is built with.
pub const BURN_VERSION: &str = "0.22.1";

/// The program `train`: reads its arguments, does what they ask, and says how it ended.
pub fn main() -> ExitCode {
    let matches = match cli::parse() {
        Ok(matches) => matches,
        // Help goes to stdout with exit code 0, a wrong flag to stderr with 2: clap's conventions are ours.
        Err(error) => error.exit(),
    };
    if let Some(code) = terminal::manual(&cli::command(), &matches) {
        return code;
    }
    match commands::run(&matches) {
        Ok(code) => code,
        Err(error) => terminal::fail(error.as_ref()),
    }
}
