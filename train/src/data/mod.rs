//! Pictures to batches: the order, the threads, and what is changed at random.

pub mod augment;
pub mod loader;
pub mod policy;
pub mod sampler;
pub(crate) mod sheet;
