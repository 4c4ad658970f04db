//! What people look at: pages that load nothing, charts, the numbers of a verifier, and maps of attention. The same
//! while training and on the device.

pub mod attention;
pub mod chart;
mod page;
mod verification;

pub use page::{data_uri, page, rows};
pub use verification::{html, table};
