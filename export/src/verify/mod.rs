//! Does the file compute what the module computed? The specification's rules first, then ONNX Runtime against Burn.

pub mod checker;
pub mod parity;
mod runtime;
mod samples;

pub use parity::{BatchParity, OutputParity, Parity, Tolerance};
pub(crate) use runtime::Array;
pub use runtime::Runtime;
#[cfg(test)]
pub(crate) use runtime::run as run_session;
pub(crate) use samples::{SampleInput, Sampler};
