//! What people look at: pages that load nothing, charts, the numbers of a verifier, and maps of attention. The same
//! while training and on the device.

pub mod attention;
pub mod chart;
mod open_set;
mod page;
mod verification;

pub use open_set::tradeoffs;
pub use page::{data_uri, page, rows};
pub use verification::{charts, html, numbers, table};
