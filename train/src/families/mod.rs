//! The products, a folder each: everything that is special to one, from its flags to its network.

pub mod controlnet;
pub mod faces;
pub mod palmvein;
pub mod reid;
pub mod senet;
