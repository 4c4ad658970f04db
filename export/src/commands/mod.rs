//! What the program does besides exporting.

mod calibrate;
pub mod format;
pub mod ops;
pub mod quantise;
pub mod verify;
