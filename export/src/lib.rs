//! Burn modules as verified ONNX models.
//!
//! The path: [`Exporter::export`] records the module's forward pass at several sizes (`capture`), works out which axes are
//! dynamic (`resolve`), writes every operation as ONNX (`lower`), simplifies ([`optimise`]) and checks the result
//! against the rules of ONNX ([`verify::checker`]). [`ExportedModel::to_bytes`] encodes it, [`ExportedModel::verify`] runs it in
//! ONNX Runtime against Burn on varied inputs, and [`bundle::write`] puts it into a folder with its contract and a model
//! card, after verification and only then.
//!
//! Nothing of a network has to be known here: any Burn module will do, on any device.
//!
//! ```
//! use burn::module::Module;
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::{Device, Tensor, activation::relu};
//! use contract::Axis;
//! use export::Exporter;
//!
//! #[derive(Module, Debug)]
//! struct Net {
//!     hidden: Linear,
//!     head: Linear,
//! }
//!
//! impl Net {
//!     fn forward(&self, x: Tensor<2>) -> Tensor<2> {
//!         self.head.forward(relu(self.hidden.forward(x)))
//!     }
//! }
//!
//! let device = Device::flex();
//! let net = Net { hidden: LinearConfig::new(8, 16).init(&device), head: LinearConfig::new(16, 4).init(&device) };
//! let model = Exporter::new("net")
//!     .input("x", [Axis::Symbol("batch".into()), Axis::Size(8)])
//!     .output("y")
//!     .export(&net, |net: &Net, x: Tensor<2>| net.forward(x))?;
//!
//! let names: Vec<_> = model.graph().nodes.iter().map(|node| node.name.as_str()).collect();
//! assert_eq!(names, ["hidden", "hidden/Relu", "head"]);
//! let bytes = model.to_bytes(&[])?;
//! onnx::parse(&bytes, "net.onnx".as_ref(), &onnx::Limits::default()).expect("what we write can be read");
//! # Ok::<(), export::ExportError>(())
//! ```

pub mod bundle;
mod capture;
pub mod certificate;
mod encode;
mod error;
mod exporter;
pub mod graph;
mod io;
mod lower;
mod model;
mod operations;
pub mod optimise;
mod replay;
mod resolve;
pub mod verify;

use std::ops::RangeInclusive;

pub use certificate::Certificate;
pub use encode::{DataFile, Encoded, LARGEST_FILE};
pub use error::{ExportError, Refusal};
pub use exporter::Exporter;
pub use io::{AnyTensor, Inputs, Kind, Outputs, Signature};
pub use model::{ExportedModel, Warning};
pub use operations::{Fate, LoweredOperation, OperationKind, operation_kinds};
pub use verify::{Bundle, Check, Divergence, Outcome, Parity, Runtime, Tolerance};

/// Operator sets that can be written.
pub const OPSETS: RangeInclusive<u32> = 17..=23;

/// Operator set that is written when none is asked for: the newest that TensorRT 10 and ONNX Runtime 1.31 both take in full,
/// and the first with `Gelu` as an operator. Its IR version, 9, is read by every runtime since 2023.
pub const DEFAULT_OPSET: u32 = 20;

/// The Burn that modules are recorded with.
pub const BURN_VERSION: &str = "0.22.1";
