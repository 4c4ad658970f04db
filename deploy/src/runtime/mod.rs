//! ONNX Runtime, and models opened in it.

mod facts;
mod library;
mod newest;
mod oldest;
mod placement;
mod pool;
mod provider;
mod rows;
mod self_test;
mod session;
mod tensors;

pub use facts::{GraphFacts, ModelFile, Port};
pub use library::{Runtime, load};
pub use placement::Placement;
pub use pool::Outputs;
pub use provider::Provider;
pub use rows::{Mixed, mixed};
pub use self_test::SelfTest;
pub(crate) use session::By;
pub use session::{Model, Options};
