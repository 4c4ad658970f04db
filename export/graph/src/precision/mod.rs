//! Smaller number formats for any ONNX model: 8-bit integers with static `QuantizeLinear`/`DequantizeLinear` pairs, and
//! float16.
//!
//! All of it works on the messages of a file, so that models of others are treated as ours: operators that nobody here
//! knows stay as they are. The order is [`prepare`] → `observe` (ranges of values over calibration inputs) →
//! [`integers`] or [`half()`].

mod halves;
mod insert;
mod net;
#[cfg(feature = "run")]
mod observe;
#[cfg(feature = "run")]
mod plan;
mod pools;
mod prepare;
pub mod range;
mod rules;
pub mod weights;

pub use halves::{Half, half};
pub use insert::{Inserted, Int8, integers};
#[cfg(feature = "run")]
pub use observe::{Batch, Observations, Seen, cosines, observe};
#[cfg(feature = "run")]
pub use plan::{NodePlan, Plan, Planner, fixed};
pub use prepare::{Prepared, UnfitModel, prepare};
pub use rules::{Candidate, candidates};

use std::collections::BTreeMap;

/// What computes the integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// ONNX Runtime's CPU kernels: activations of unsigned bytes with a zero point, results quantised too.
    Cpu,
    /// TensorRT with explicit quantisation: signed bytes, zero point 0 everywhere, pairs only before what is computed
    /// in integers.
    TensorRt,
}

/// Smallest and largest value of each tensor, by its name.
pub type Ranges = BTreeMap<String, [f32; 2]>;
