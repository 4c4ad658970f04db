//! Exports Burn modules as verified ONNX models.
//!
//! [`Exporter::export`] records the module's forward pass at several sizes (`capture`), works out which axes are
//! dynamic (`resolve`), writes every operation as ONNX (`lower`), optimises the graph ([`graph::optimise`]) and
//! checks it against the rules of ONNX ([`graph::checker`]). [`ExportedModel::to_bytes`] encodes the model,
//! [`ExportedModel::verify`] compares ONNX Runtime with Burn on varied inputs, and [`bundle::write`] writes a folder
//! with the model, its contract and a model card, but only if verification succeeds.
//!
//! The exporter knows no particular network: it takes any Burn module, on any device.
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
//!
//! // All axes fixed, another operator set, not optimised.
//! let one = Exporter::new("net")
//!     .opset(17)
//!     .optimise(false)
//!     .input("x", [Axis::Size(1), Axis::Size(8)])
//!     .export(&net, |net: &Net, x: Tensor<2>| net.forward(x))?;
//! assert_eq!(one.outputs(), [("output".to_owned(), vec![Axis::Size(1), Axis::Size(4)])]);
//! # Ok::<(), export::ExportError>(())
//! ```
//!
//! # Several inputs, and structs as outputs
//!
//! The input of a forward function is a tensor, or tuples and arrays of tensors ([`Inputs`]). Its output is a tensor,
//! or tuples, arrays, vectors and options of tensors, nested to any depth ([`Outputs`]); a struct implements
//! [`Outputs`] in one line. Declare names in the same order. Integer inputs need their valid range, because the
//! module is run on them.
//!
//! ```
//! # use burn::module::Module;
//! # use burn::nn::{Embedding, EmbeddingConfig, Linear, LinearConfig};
//! # use burn::tensor::{Device, Int, Tensor};
//! # use contract::Axis;
//! use export::{AnyTensor, Exporter, Outputs};
//!
//! #[derive(Module, Debug)]
//! struct Tagger {
//!     words: Embedding,
//!     tags: Linear,
//! }
//!
//! struct Tagged {
//!     scores: Tensor<3>,
//!     sentence: Tensor<2>,
//! }
//!
//! impl Outputs for Tagged {
//!     fn tensors(&self) -> Vec<AnyTensor> {
//!         [self.scores.tensors(), self.sentence.tensors()].concat()
//!     }
//! }
//!
//! impl Tagger {
//!     fn forward(&self, tokens: Tensor<2, Int>, weight: Tensor<2>) -> Tagged {
//!         let words = self.words.forward(tokens) * weight.unsqueeze_dim::<3>(2);
//!         Tagged { scores: self.tags.forward(words.clone()), sentence: words.mean_dim(1).squeeze_dim(1) }
//!     }
//! }
//!
//! let device = Device::flex();
//! let net = Tagger { words: EmbeddingConfig::new(100, 8).init(&device), tags: LinearConfig::new(8, 5).init(&device) };
//! // A symbol means the same size in all inputs.
//! let axes = [Axis::Symbol("batch".into()), Axis::Symbol("length".into())];
//! let model = Exporter::new("tagger")
//!     .integers("tokens", axes.clone(), 0, 100)
//!     .input("weight", axes)
//!     .output("scores")
//!     .output("sentence")
//!     .export(&net, |net: &Tagger, (tokens, weight)| net.forward(tokens, weight))?;
//! let shape = [Axis::Symbol("batch".into()), Axis::Symbol("length".into()), Axis::Size(5)];
//! assert_eq!(model.outputs()[0], ("scores".to_owned(), shape.to_vec()));
//! # Ok::<(), export::ExportError>(())
//! ```
//!
//! # Axes of any size
//!
//! An axis is a number, or a symbol that stands for any size. The module is recorded at several sizes of every
//! symbol, also at odd ones if it accepts them. Each number in it then becomes a constant or a formula of the symbols
//! (sums, products, quotients rounded down), which the model computes from the shapes of its inputs. A number that
//! depends on a size but fits no formula is an error that names its operation, never a constant:
//!
//! ```
//! # use burn::nn::{Linear, LinearConfig};
//! # use burn::tensor::{Device, Tensor};
//! # use contract::Axis;
//! # use export::{ExportError, Exporter};
//! # let linear = LinearConfig::new(8, 4).init(&Device::flex());
//! let refused = Exporter::new("mean of the batch")
//!     .input("x", [Axis::Symbol("batch".into()), Axis::Size(8)])
//!     .export(&linear, |linear: &Linear, x: Tensor<2>| {
//!         let [batch, _] = x.dims();
//!         linear.forward(x) / batch as f64
//!     });
//! let error = refused.unwrap_err();
//! assert!(matches!(error, ExportError::Baked { .. }));
//! assert!(error.to_string().contains("`NumericFloat::DivScalar`"), "{error}");
//! ```
//!
//! [`Exporter::sizes`] declares the sizes of an axis: recording and comparison use only these, including the least
//! and the largest. [`Exporter::recorded_at`] records at particular sizes. Control flow that depends on a size
//! ([`ExportError::Diverged`]), as in an unrolled recurrent network, needs a fixed axis.
//!
//! ```
//! # use burn::nn::{Linear, LinearConfig};
//! # use burn::tensor::{Device, Tensor};
//! # use contract::Axis;
//! # use export::{Exporter, Sizes};
//! # let linear = LinearConfig::new(8, 4).init(&Device::flex());
//! let model = Exporter::new("tokens")
//!     .sizes("length", Sizes::between(1, 512))
//!     .floats("x", [Axis::Symbol("batch".into()), Axis::Symbol("length".into()), Axis::Size(8)], -1.0..=1.0)
//!     .export(&linear, |linear: &Linear, x: Tensor<3>| linear.forward(x))?;
//! # Ok::<(), export::ExportError>(())
//! ```
//!
//! # Errors and warnings
//!
//! A module that cannot be exported gives an [`ExportError`] that names the problem: operations without an ONNX form
//! (all at once, by module path), parameters that are not finite, duplicate names, inputs or computed values that are
//! read while recording. [`ExportedModel::warnings`] lists what is unusual but not wrong: an output that depends on
//! no input, an unused input, a node that draws random numbers.

pub mod bundle;
mod capture;
mod coverage;
mod error;
mod exporter;
mod fingerprint;
#[cfg(test)]
mod fuzz;
mod io;
mod lower;
mod model;
mod operations;
mod panics;
mod replay;
mod resolve;
mod types;
pub mod verify;

pub use bundle::{Bundle, Certificate, Check, Outcome};
pub use contract;
pub use coverage::Sizes;
pub use error::{CertificateProblem, Divergence, ExportError, Refusal};
pub use exporter::Exporter;
pub use graph;
pub use graph::encode::{DataFile, Encoded, MAX_INLINE_WEIGHTS};
pub use graph::run::Runtime;
pub use graph::{DEFAULT_OPSET, OPSETS};
pub use io::{AnyTensor, Inputs, Kind, Outputs, Signature};
pub use lower::operation_kinds;
pub use model::{ExportedModel, Warning};
pub use operations::{LoweredOperation, OperationKind, Support};
pub use panics::hide_expected_panics;
pub use verify::{Parity, Tolerance};

/// The version of Burn that modules are recorded with.
pub const BURN_VERSION: &str = "0.22.1";

// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
