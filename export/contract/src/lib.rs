//! What training, export and deployment of a model must agree on.
//!
//! A leaf crate that anyone may import: the [`ModelContract`] a model file carries, the one copy of deterministic
//! [`preprocess`]ing, the pictures of a [`dataset`] and who is on them, how features become an [`embedding`], the rule
//! that [`fill`]s tensors with known numbers, [`npy`] files, and the habits every program of ours shares: atomic
//! [`files`], the [`cli`], the verifier's [`report`], where ONNX [`runtime`] is found.

mod base64;
pub mod cli;
mod contract;
pub mod dataset;
pub mod embedding;
pub mod files;
pub mod fill;
pub mod npy;
pub mod preprocess;
pub mod report;
pub mod runtime;

pub use base64::base64;
pub use contract::*;
