//! Layers that several networks share.

pub(crate) mod angles;
pub mod attention;
pub mod batch_norm;
pub(crate) mod conv;
pub mod dropout;
pub(crate) mod init;
pub(crate) mod instance_norm;
pub mod resnet;
pub mod vector;
