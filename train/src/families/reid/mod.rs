//! Person re-identification.

pub(crate) mod bench_step;
pub(crate) mod cli;
pub(crate) mod command;
pub mod evaluate;
pub mod net;
pub mod settings;
pub mod task;
