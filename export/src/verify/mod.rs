//! Does the file compute what the module computed? The specification's rules first, then ONNX Runtime against Burn; where
//! the two disagree, the node at which they begin to.

pub mod checker;
pub(crate) mod divergence;
pub mod parity;
mod recheck;
mod runtime;
mod samples;

pub use divergence::Divergence;
pub(crate) use parity::Comparison;
pub use parity::{BatchParity, OutputParity, Parity, Run, Sampled, Tolerance};
pub use recheck::{Bundle, Check, Outcome};
pub use runtime::Runtime;
#[cfg(test)]
pub(crate) use runtime::run as run_session;
pub(crate) use runtime::{Array, Opening};
pub use samples::{Element, Seeded};
pub(crate) use samples::{SampleInput, Sampler};
