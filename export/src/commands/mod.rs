//! What the program does besides exporting.

pub mod format;
pub mod ops;
pub mod verify;
