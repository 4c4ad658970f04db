//! The training half of Vitrine: pictures to checkpoints, with Burn.
//!
//! The path of the data is the list of modules.

pub mod checkpoint;
pub mod config;
mod curves;
pub mod engine;
pub mod evaluate;
mod events;
pub mod history;
pub mod loader;
pub mod loss;
pub mod model;
pub mod optim;
pub mod rng;
pub mod sampler;
pub mod schedule;
pub mod task;
pub mod transforms;

/// Version of Burn that this is built with.
pub const BURN_VERSION: &str = "0.22.1";
