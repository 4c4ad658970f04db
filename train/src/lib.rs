//! Trains Vitrine's biometric and re-identification networks with Burn.

pub mod config;
