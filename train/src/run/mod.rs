//! A run, whatever it trains: settings, directory, the loop, checkpoints and logs.

pub mod amp;
pub(crate) mod average;
pub(crate) mod bench_step;
pub mod checkpoint;
pub mod checks;
pub(crate) mod curves;
pub(crate) mod directory;
pub mod engine;
pub mod epoch;
pub(crate) mod flags;
pub mod history;
pub mod log;
pub mod optim;
pub(crate) mod preview;
pub(crate) mod recipe;
pub mod schedule;
pub(crate) mod settings;
pub(crate) mod start;
pub(crate) mod tensorboard;
