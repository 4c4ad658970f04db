//! What people look at: pages that load nothing, charts, the numbers of a verifier or of a ranking, and maps of
//! attention. The same while training and on the device.

pub mod attention;
pub mod chart;
pub mod heat;
mod open_set;
mod page;
mod pictures;
pub mod ranking;
mod verification;

pub use open_set::tradeoffs;
pub use page::{data_uri, page, rows, with_suffix};
pub use pictures::{Pictures, THUMBNAIL};
pub use ranking::intervals;
pub use verification::{charts, html, numbers, table};
