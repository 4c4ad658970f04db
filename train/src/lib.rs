//! Trains Vitrine's biometric and re-identification networks with Burn.

pub mod config;
pub mod loader;
pub mod rng;
pub mod sampler;
pub mod transforms;
