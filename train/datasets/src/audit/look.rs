//! One picture as an audit sees it.

use std::path::Path;

use contract::Filter;
use contract::preprocess::{decode, grey, resize};
use sha2::{Digest, Sha256};

/// Height and width of the small picture that is compared.
const SMALL: [usize; 2] = [16, 8];

/// Pixels of the small picture.
const PIXELS: usize = SMALL[0] * SMALL[1];

/// Grey levels between the darkest and the lightest pixel of the small picture, up to which there is nothing to see.
const BLANK: u8 = 6;

/// Mean and standard deviation that the small picture's levels are brought to.
const MEAN: f64 = 128.0;
const SPREAD: f64 = 32.0;

/// What a picture looks like, whatever its size, light and compression: a small grey picture of fixed mean and
/// contrast.
///
/// Of 272 crops of pedestrians (MOT17), copies of half the size and JPEG quality 40 are up to 3.4 levels from their
/// originals in the mean, and different people 12.9 or more. By the 256 signs of differences between neighbours, a
/// usual hash of pictures, it is 74 bits and 68: in plain clothes they are noise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Look([u8; PIXELS]);

impl Look {
    /// The mean difference in levels, where it is at most `most`.
    pub(super) fn distance(&self, other: &Self, most: f32) -> Option<f32> {
        let limit = (f64::from(most) * PIXELS as f64) as u32;
        let mut sum = 0;
        // Others are far apart after the first few rows.
        for (left, right) in self.0.chunks_exact(PIXELS / 4).zip(other.0.chunks_exact(PIXELS / 4)) {
            sum += left.iter().zip(right).map(|(left, right)| u32::from(left.abs_diff(*right))).sum::<u32>();
            if sum > limit {
                return None;
            }
        }
        Some(sum as f32 / PIXELS as f32)
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
    Ok(Seen { size, pixels: pixels.finalize().into(), look: look(small.as_raw()) })
}

fn look(levels: &[u8]) -> Option<Look> {
    let (dark, light) = levels.iter().fold((u8::MAX, 0), |(dark, light), level| (dark.min(*level), light.max(*level)));
    if light.saturating_sub(dark) <= BLANK {
        return None;
    }
    let count = levels.len() as f64;
    let mean = levels.iter().map(|level| f64::from(*level)).sum::<f64>() / count;
    let variance = levels.iter().map(|level| (f64::from(*level) - mean).powi(2)).sum::<f64>() / count;
    let brought = |level: &u8| (MEAN + (f64::from(*level) - mean) / variance.sqrt() * SPREAD).round() as u8;
    let levels: Vec<u8> = levels.iter().map(brought).collect();
    Some(Look(levels.try_into().expect("as many as the small picture has")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_and_contrast_do_not_count_and_levels_do() {
        let ramp: Vec<u8> = (0..PIXELS as u8).collect();
        let one = look(&ramp).unwrap();
        let brighter: Vec<u8> = ramp.iter().map(|level| level / 2 + 100).collect();
        // Halves are rounded: by 0.43 of the 32 levels that are 37 of the ramp.
        assert!(one.distance(&look(&brighter).unwrap(), 0.5).is_some());
        let turned: Vec<u8> = ramp.iter().rev().copied().collect();
        assert_eq!(one.distance(&look(&turned).unwrap(), 50.0), None);
        // A ramp and its mirror differ by 2·|x| everywhere, and |x| is √3/2 deviations of 32 levels in the mean.
        let apart = one.distance(&look(&turned).unwrap(), 64.0).unwrap();
        assert!((apart - 55.4).abs() < 0.5, "{apart}");
        assert_eq!(one.distance(&one, 0.0), Some(0.0));
        assert_eq!(look(&[100; PIXELS]), None);
        assert_eq!(look(&ramp.iter().map(|level| 100 + level % 7).collect::<Vec<_>>()), None);
        assert!(look(&ramp.iter().map(|level| 100 + level % 8).collect::<Vec<_>>()).is_some());
    }
}
