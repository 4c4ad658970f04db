//! What training, export and deployment of a model must agree on.
//!
//! A leaf crate that anyone may import: the [`ModelContract`] a model file carries, the one copy of deterministic
//! [`preprocess`]ing, how features become an [`embedding`], and the rule that [`fill`]s tensors with known numbers.

mod budget;
mod contract;
pub mod embedding;
pub mod fill;
mod jpeg;
mod picture;
pub mod preprocess;
mod resize;
mod tiff;
pub mod trained;

pub use contract::*;
