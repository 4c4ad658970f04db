//! Generation of face pictures in a pose.

pub(crate) mod bench_step;
pub(crate) mod cli;
pub(crate) mod command;
pub mod data;
pub(crate) mod import;
pub mod net;
mod page;
pub mod panels;
mod preview;
pub(crate) mod product;
pub mod scores;
pub mod settings;
pub mod task;
