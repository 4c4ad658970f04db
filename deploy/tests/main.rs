//! The program as its users run it: a real ONNX model, pictures in a temporary folder, the built binary.
//!
//! ONNX Runtime must be there; without it these tests fail with the command that installs it.

mod adopt;
mod audit;
mod bench;
mod embed;
mod enroll;
mod evaluate;
mod fixture;
mod flags;
mod frontalize;
mod gallery;
mod generate;
mod index;
mod manual;
mod migrate;
mod model;
mod pages;
mod pairs;
mod places;
#[cfg(feature = "rten")]
mod rten;
mod runtime;
mod search;
#[cfg(feature = "serve")]
mod serve;
#[cfg(feature = "serve")]
mod serve_sealed;
#[cfg(feature = "serve")]
mod serve_tls;
mod sources;
mod transfer;
mod vault;
mod verify;
