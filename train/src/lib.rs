//! The training half of Vitrine: pictures to checkpoints, with Burn.
//!
//! The path of the data is the list of modules.

pub mod checkpoint;
pub mod config;
pub mod loader;
pub mod loss;
pub mod model;
pub mod rng;
pub mod sampler;
pub mod transforms;
