//! Numbers that say how well embeddings find people again: slices in, numbers out.
//!
//! Features `->` [`cosine_distance`] or [`rerank`](fn@rerank) `->` [`rank`](fn@rank) `->` [`RankingReport`] (1:N
//! identification); similarities of genuine and impostor pairs `->` [`verification::Roc`] (1:1); embeddings `->`
//! [`spread`](fn@spread) (is the network alive?); a generated picture and the true one `->` [`picture::psnr`],
//! [`picture::ssim`].
//!
//! ```
//! use metrics::{Label, Matrix, cosine_distance, rank};
//!
//! let query = Matrix::new(vec![1.0, 0.0], 1, 2)?;
//! let gallery = Matrix::new(vec![0.0, 1.0, 1.0, 0.0], 2, 2)?;
//! let distance = cosine_distance(&query, &gallery)?;
//! let report = rank(
//!     &distance,
//!     &[Label { identity: 7, camera: 0 }],
//!     &[Label { identity: 3, camera: 1 }, Label { identity: 7, camera: 1 }],
//! )?;
//! assert_eq!((report.rank(1), report.map), (1.0, 1.0));
//! # Ok::<(), metrics::MetricsError>(())
//! ```

mod distance;
mod error;
mod matrix;
pub mod picture;
mod rank;
mod rerank;
mod spread;
pub mod verification;

pub use distance::{cosine_distance, dot, products};
pub use error::MetricsError;
pub use matrix::{Matrix, Rows};
pub use rank::{JUNK, Label, MAX_RANK, RankingReport, Ranks, nearer, places, rank};
pub use rerank::{Rerank, Reranking, rerank};
pub use spread::{Spread, spread};
