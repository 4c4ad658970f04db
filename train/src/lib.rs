//! The training half of Vitrine: pictures to checkpoints, with Burn.
//!
//! The path of the data is the list of modules: [`model`].

pub mod model;
