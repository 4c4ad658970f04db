//! Measures how well embeddings recognise people: slices in, numbers out.
//!
//! - Features to [`cosine_distance`] or [`rerank`](fn@rerank) to [`rank`](fn@rank) to [`RankingReport`]:
//!   identification, 1:N, query by query: the matrix of all [`Distances`] is never in memory.
//! - Similarities of genuine and impostor pairs to [`verification::Roc`]: verification, 1:1.
//! - Embeddings and gallery sizes to [`open_set::OpenSetReport`]: open-set identification, FPIR and FNIR.
//! - Embeddings to [`spread`](fn@spread): detects a collapsed network.
//! - A generated and the true picture to [`picture::psnr`] and [`picture::ssim`].
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

mod bootstrap;
mod distance;
mod error;
mod expand;
mod matrix;
pub mod open_set;
pub mod picture;
mod rank;
mod rerank;
mod scores;
mod spread;
pub mod verification;

pub use distance::{CosineDistance, Distances, cosine_distance, dot, products};
pub use error::MetricsError;
pub use expand::{expand, expanded};
pub use matrix::{Matrix, Rows};
pub use rank::{
    JUNK, Label, MAX_RANK, QueryScore, RankingIntervals, RankingReport, Ranks, SINGLE_SHOT_DRAWS, nearer, rank, ranks,
    single_shot,
};
pub use rerank::{Rerank, Reranking, rerank};
pub use scores::similarities;
pub use spread::{Spread, spread};

// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
