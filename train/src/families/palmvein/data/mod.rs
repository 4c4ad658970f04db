//! Pairs of palm and vein pictures to batches: both pictures of a pair through one geometry, in an order that follows
//! from seed and epoch alone.
//!
//! ```no_run
//! use std::sync::Arc;
//! use datasets::paired::{PairOptions, PairedDataset};
//! use train::families::palmvein::data::{PairLoaderOptions, PairPictures, PairTransforms, pair_batches, shuffled};
//! # fn main() -> anyhow::Result<()> {
//! let data = PairedDataset::open("data/palms".as_ref(), &PairOptions::default())?;
//! let pictures = Arc::new(PairPictures::new(&data.train, [128, 128], 256));
//! for epoch in 1..=30 {
//!     let batches = shuffled(pictures.len(), 16, 42, epoch);
//!     let transforms = Some((PairTransforms::strong(42), epoch));
//!     let options = PairLoaderOptions { transforms, workers: 2, start_batch: 0, strict: false };
//!     for batch in pair_batches(&pictures, batches, options)? {
//!         let batch = batch?; // palm and vein: `[rows, 1, 128, 128]`
//! #       let _ = batch;
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod loader;
pub mod roi;
mod sampler;
mod transforms;

use contract::{Colour, PictureSpec};

pub use loader::{
    PairBatch, PairLoader, PairLoaderOptions, PairPictures, Reads, TripletBatch, TripletLoader, evaluation_batches,
    pair_batches, triplet_batches,
};
pub use sampler::{Triplet, View, shuffled, triplets};
pub use transforms::PairTransforms;

/// How a palm or vein picture becomes an input: grey, stretched to `[height, width]` by the bilinear filter, -1 to 1.
pub fn picture_spec(size: [usize; 2]) -> PictureSpec {
    PictureSpec { colour: Colour::Grey, mean: vec![0.5], std: vec![0.5], ..PictureSpec::imagenet(size) }
}

/// A picture that a pair lacks: the network then reads grey, which is 0 after normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The palm.
    Palm,
    /// The vein.
    Vein,
}
