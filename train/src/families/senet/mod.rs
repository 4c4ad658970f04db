//! Frontalisation of face embeddings.

pub(crate) mod bench_step;
pub(crate) mod channels;
pub(crate) mod cli;
pub(crate) mod command;
pub mod data;
pub mod identify;
pub(crate) mod import;
pub mod net;
pub(crate) mod product;
pub mod settings;
pub mod task;
