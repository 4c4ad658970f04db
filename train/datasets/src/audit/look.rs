//! One picture as an audit sees it.

use std::path::Path;

use contract::Filter;
use contract::preprocess::{decode, grey, resize};
use sha2::{Digest, Sha256};

/// Height and width of the small picture whose neighbouring pixels are compared: 16 differences in each of 16 rows.
const SMALL: [usize; 2] = [16, 17];

/// Grey levels between the darkest and the lightest pixel of the small picture, up to which there is nothing to see.
const BLANK: u8 = 6;

/// What a picture looks like, whatever its size and compression: bit by bit whether it gets darker from left to right.
/// Nearly equal pictures differ in few of the 256 bits, others in about half of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look([u64; 4]);

impl Look {
    /// How many bits differ, where that is at most `most`.
    pub(super) fn distance(self, other: Self, most: u32) -> Option<u32> {
        let mut sum = 0;
        for (left, right) in self.0.into_iter().zip(other.0) {
            sum += (left ^ right).count_ones();
            if sum > most {
                return None;
            }
        }
        Some(sum)
    }
}

/// What is known of a picture that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// Width and height in pixels.
    pub(super) size: (u32, u32),
    /// Hash of size and pixels.
    pub(super) pixels: [u8; 32],
    /// None where all pixels are about the same.
    pub(super) look: Option<Look>,
}

/// Reads a picture; otherwise the reason why it cannot be read, in one line.
pub(super) fn see(path: &Path) -> Result<Seen, String> {
    let picture = decode(path).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        error.to_string() + &source.unwrap_or_default()
    })?;
    let size = picture.dimensions();
    let mut pixels = Sha256::new();
    pixels.update(size.0.to_le_bytes());
    pixels.update(size.1.to_le_bytes());
    pixels.update(picture.as_raw());
    let small = grey(&resize(&picture, SMALL, Filter::Bilinear));
    let levels = small.as_raw();
    let (dark, light) = levels.iter().fold((u8::MAX, 0), |(dark, light), level| (dark.min(*level), light.max(*level)));
    let look = (light - dark > BLANK).then(|| {
        let darker = levels.chunks_exact(SMALL[1]).flat_map(|row| row.windows(2).map(|pair| pair[1] < pair[0]));
        let mut words = [0_u64; 4];
        for (at, bit) in darker.enumerate() {
            words[at / 64] |= u64::from(bit) << (at % 64);
        }
        Look(words)
    });
    Ok(Seen { size, pixels: pixels.finalize().into(), look })
}
