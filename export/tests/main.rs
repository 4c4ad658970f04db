//! Exports Burn modules and runs them in ONNX Runtime.

mod blocks;
mod bundles;
mod burn_onnx;
mod controlnet;
mod faults;
mod identity;
mod kept;
mod large;
mod lmbn_n;
mod names;
mod networks;
mod operations;
mod palmvein;
mod palmvein_chain;
mod planted;
mod precision;
mod program;
mod random;
mod senet;
mod shapes;
mod verification;
mod weights;

use contract::Axis;
use export::{ExportedModel, Runtime};
// The list of networks in `burn_onnx` uses these names, whichever exporter it is compiled with.
use export::{Inputs as Taken, Outputs as Given};
use weights::{filled, known};

/// ONNX Runtime; panics with the advice how to install it.
fn runtime() -> Runtime {
    Runtime::load().unwrap_or_else(|error| panic!("{error}"))
}

/// Axes of an input: a batch of any size, then fixed `sizes`.
fn batch_of(sizes: &[usize]) -> Vec<Axis> {
    let fixed = sizes.iter().map(|&size| Axis::Size(size));
    std::iter::once(Axis::Symbol("batch".into())).chain(fixed).collect()
}

/// Operators by name, in order.
fn operators(model: &ExportedModel) -> Vec<String> {
    model.graph().nodes.iter().map(|node| node.op.name()).collect()
}

/// Compares with Burn at all batch sizes. Reads the bytes back with the reader for untrusted files.
fn verified(model: &ExportedModel) {
    kept::keep(model);
    match model.verify(&runtime()) {
        // Visible with `--nocapture`.
        Ok(parity) => println!("{}, operator set {}\n{}", model.name(), model.opset(), parity.to_markdown()),
        Err(error) => {
            let source = std::error::Error::source(&error);
            panic!("{}: {error} ({source:?}); nodes {:?}", model.name(), operators(model))
        }
    }
}
