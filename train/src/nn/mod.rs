//! Layers that several networks share.

pub(crate) mod angles;
pub mod attention;
pub mod batch_norm;
pub(crate) mod conv;
pub mod dropout;
pub(crate) mod init;
pub mod instance_norm;
pub mod non_local;
pub mod resnet;
pub mod vector;
