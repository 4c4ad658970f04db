//! ONNX Runtime, and models opened in it.

mod library;
mod session;

pub use library::{Runtime, load};
pub use session::{GraphFacts, Model, ModelFile, Options, Outputs, Port, Provider, SelfTest};
