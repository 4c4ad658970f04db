//! Models of smaller numbers, run in ONNX Runtime.

#![cfg(feature = "run")]

mod draft;
mod halves;
mod insert;
mod plan;
mod pools;
mod prepare;
mod range;
mod weights;

/// ONNX Runtime; panics with the advice how to install it.
fn runtime() -> graph::run::Runtime {
    graph::run::Runtime::load().unwrap_or_else(|error| panic!("{error}"))
}
