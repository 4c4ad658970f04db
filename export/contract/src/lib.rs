//! What training, export and deployment of a model must agree on.
//!
//! A leaf crate that anyone may import: the [`ModelContract`] a model file carries, how features become an
//! [`embedding`], the rule that [`fill`]s tensors with known numbers, and with the feature `pictures` the one copy of
//! deterministic preprocessing (`preprocess`).

#[cfg(feature = "pictures")]
mod budget;
mod contract;
pub mod embedding;
pub mod fill;
#[cfg(feature = "pictures")]
mod jpeg;
mod picture;
#[cfg(feature = "pictures")]
pub mod preprocess;
#[cfg(feature = "pictures")]
mod resize;
#[cfg(feature = "pictures")]
mod tiff;
pub mod trained;

pub use contract::*;
