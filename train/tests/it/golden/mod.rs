//! Networks, losses and steps against their references, on any device: `fixtures/*/README.md` name the generators.

mod adam;
mod controlnet;
mod lmbn_n;
mod palmvein;
mod reid_networks;
mod senet;

use burn::tensor::Device;

/// Where networks are compared with their references: on the CPU, or where `VITRINE_TEST_DEVICE` says, as `--device` takes it.
/// `ci/bench gpu --golden` is who asks for another.
fn device() -> Device {
    let name = std::env::var("VITRINE_TEST_DEVICE").unwrap_or_else(|_| "cpu".into());
    train::device::open(name.parse().unwrap()).unwrap()
}

/// How many times farther from the reference than on the CPU a network may be: a GPU sums in other orders and has coarser
/// elementary functions.
fn slack() -> f32 {
    if train::device::is_cpu(&device()) { 1.0 } else { 20.0 }
}
