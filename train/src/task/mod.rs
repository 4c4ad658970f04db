//! What is special to a family, one file each: its data, network and loss together.

pub mod controlnet;
pub mod palmvein;
pub mod reid;
pub mod senet;
