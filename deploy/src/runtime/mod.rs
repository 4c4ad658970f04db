//! What runs models, ONNX Runtime or rten, and models opened in it.

mod backend;
mod engines;
mod facts;
mod library;
mod machine;
mod newest;
mod oldest;
mod peak;
mod placement;
mod pool;
mod provider;
mod rows;
#[cfg(feature = "rten")]
mod rten;
mod self_test;
mod session;
mod tensors;
mod tuning;
mod work;

pub use backend::{Backend, RTEN, Wanted};
pub use facts::{GraphFacts, ModelFile, Port};
pub use library::{Runtime, load};
pub use machine::{Gpu, Instruction, Limits, Machine, gpus, peak_memory};
pub use peak::Peak;
pub use placement::Placement;
pub use pool::Outputs;
pub use provider::{Provider, Unit};
pub use rows::{Mixed, mixed};
pub use self_test::SelfTest;
pub use session::{Building, Model, Options};
pub(crate) use session::{By, MODEL, model_file};
pub use tuning::{Optimisation, Tuned, Tuning};
pub use work::Work;
