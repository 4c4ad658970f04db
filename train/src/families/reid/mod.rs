//! Person re-identification.

pub(crate) mod bench_step;
pub(crate) mod cli;
pub(crate) mod command;
pub mod evaluate;
mod import;
mod inspect;
mod look;
pub mod net;
mod preview;
pub(crate) mod product;
pub mod settings;
pub mod task;
