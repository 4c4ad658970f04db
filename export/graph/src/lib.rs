//! ONNX graphs in memory, without Burn: typed values and nodes ([`Graph`]), operators ([`Op`]), the rules of ONNX
//! ([`checker`]), rewrites ([`optimise`]), protobuf ([`encode`]) and runs in ONNX Runtime ([`run`], feature `run`).

pub mod checker;
mod dim;
pub mod encode;
mod error;
mod graph;
mod op;
pub mod optimise;
pub mod precision;
#[cfg(feature = "run")]
pub mod run;
mod tensor;
mod types;

use std::ops::RangeInclusive;

pub use dim::{Dim, Factor, Formula};
pub use error::{Error, Rule};
pub use graph::{Graph, Node, Producers, Uses, Value, ValueId};
pub use op::{Attribute, Coordinates, Op, PadMode, Plain, Reduction, ResizeMode, Schema, Update, Window};
pub use tensor::{DType, Tensor};
pub use types::Types;

/// Operator sets that can be written.
pub const OPSETS: RangeInclusive<u32> = 17..=23;

/// The default operator set: 20, the newest that every TensorRT 10 and ONNX Runtime 1.31 support. The parser of
/// TensorRT 10.0 and 10.1 reads "the inclusive range of opset 9 to opset 20" and supports every operator that we write
/// except `BitShift`, `Bitwise…` and `DeformConv` (`docs/operators.md` of onnx/onnx-tensorrt, tags `release/10.0-GA`
/// and `release/10.1-GA`). ONNX Runtime 1.31 supports all of [`OPSETS`]. Set 20 is the first with `Gelu` as an
/// operator, and every runtime since 2023 reads its IR version, 9.
pub const DEFAULT_OPSET: u32 = 20;

// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
