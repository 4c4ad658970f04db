//! Where, and in which channels, a network of two pictures looks at the palm and at the veins: as pictures and as
//! numbers.

use std::io::Cursor;

use files::table::Writer;
use image::imageops::{self, FilterType};
use image::{ImageBuffer, ImageError, ImageFormat, Luma, Rgb, RgbImage};
use serde::Serialize;

use crate::heat::{between, ends, enlarged, mix, viridis};

/// Mean shares outside of which one modality is as good as unread.
pub const BALANCED: std::ops::RangeInclusive<f64> = 0.1..=0.9;

/// Side of a panel and height of a bar diagram, in pixels.
const PANEL: u32 = 224;

/// Columns of the rows that [`Weights::rows`] adds.
pub const COLUMNS: [&str; 6] = ["pair", "identity", "branch", "place", "palm", "vein"];

/// What one half of a network gives palm and vein of one pair; at each place the two add up to 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    /// The half: `global` or `local`.
    pub branch: &'static str,
    /// Shares of the palm, by channel or place.
    pub palm: Vec<f32>,
    /// Shares of the veins.
    pub vein: Vec<f32>,
    /// Places in a row of a map; none where the shares are of channels.
    pub columns: Option<usize>,
}

impl Weights {
    /// The weights over both pictures as a PNG: overlays where they are a map, bars where they are of channels.
    /// `pixels` are palm and vein as the network reads them, -1 to 1, of `[height, width]`.
    ///
    /// # Errors
    /// If the PNG cannot be encoded.
    ///
    /// # Panics
    /// If the pixels do not make pictures of that size, or the weights no whole rows.
    pub fn draw(&self, pixels: [&[f32]; 2], size: [usize; 2]) -> Result<Vec<u8>, ImageError> {
        let sheet = match self.columns {
            None => bars(&self.palm),
            Some(columns) => {
                assert!(self.palm.len().is_multiple_of(columns), "{} weights in rows of {columns}", self.palm.len());
                let [palm, vein] = pixels.map(|pixels| grey(pixels, size.map(|side| side as u32)));
                overlays([&palm, &vein], [&self.palm, &self.vein], columns as u32)
            }
        };
        let mut bytes = Cursor::new(Vec::new());
        sheet.write_to(&mut bytes, ImageFormat::Png)?;
        Ok(bytes.into_inner())
    }

    /// Adds a row for each channel or place to a table of [`COLUMNS`].
    pub fn rows(&self, table: &mut Writer, pair: &str, identity: &str) {
        for (place, (palm, vein)) in self.palm.iter().zip(&self.vein).enumerate() {
            let [place, palm, vein] = [place.to_string(), palm.to_string(), vein.to_string()];
            table.row([pair, identity, self.branch, &place, &palm, &vein]);
        }
    }
}

/// Weights of the palm in one half over some pairs; the veins have the rest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The half.
    pub branch: &'static str,
    /// Pairs.
    pub pairs: usize,
    /// Mean share of the palm.
    pub mean: f64,
    /// Variance of the shares.
    pub variance: f64,
    /// Mean of −Σ w ln w, in nats: ln 2 where nothing is decided, 0 where everything is.
    pub entropy: f64,
    /// Whether one modality is as good as unread.
    pub collapsed: bool,
}

impl Summary {
    /// Of the shares of the palm in `pairs` pairs.
    pub fn of(branch: &'static str, pairs: usize, shares: &[f32]) -> Self {
        let count = shares.len() as f64;
        let mean = shares.iter().map(|share| f64::from(*share)).sum::<f64>() / count;
        let variance = shares.iter().map(|share| (f64::from(*share) - mean).powi(2)).sum::<f64>() / count;
        let part = |share: f64| if share > 0.0 { -share * share.ln() } else { 0.0 };
        let entropy = shares.iter().map(|share| part(f64::from(*share)) + part(1.0 - f64::from(*share))).sum::<f64>();
        Self { branch, pairs, mean, variance, entropy: entropy / count, collapsed: !BALANCED.contains(&mean) }
    }
}

/// Normalised pixels, -1 to 1, as the picture they came from, at a panel's size.
fn grey(pixels: &[f32], [height, width]: [u32; 2]) -> RgbImage {
    assert_eq!(pixels.len(), (height * width) as usize, "pixels of {height}×{width}");
    let level = |value: f32| ((value + 1.0) * 127.5).round() as u8;
    let picture = RgbImage::from_fn(width, height, |x, y| Rgb([level(pixels[(y * width + x) as usize]); 3]));
    imageops::resize(&picture, PANEL, PANEL, FilterType::Triangle)
}

/// Two rows of panels: weights of palm and vein from 0 to 1 over their pictures and their difference from -1 (blue)
/// to 1 (red); below the same, each stretched from its least to its greatest value.
fn overlays(pictures: [&RgbImage; 2], weights: [&[f32]; 2], width: u32) -> RgbImage {
    let mut sheet = RgbImage::new(3 * PANEL, 2 * PANEL);
    let maps = weights.map(|weights| enlarged(weights, width, [PANEL; 2]));
    for (row, stretched) in [(0, false), (1, true)] {
        for (column, (picture, map)) in pictures.into_iter().zip(&maps).enumerate() {
            let (low, high) = if stretched { ends(map) } else { (0.0, 1.0) };
            let span = (high - low).max(1e-6);
            let panel = RgbImage::from_fn(PANEL, PANEL, |x, y| {
                mix(*picture.get_pixel(x, y), viridis((map.get_pixel(x, y)[0] - low) / span))
            });
            imageops::replace(&mut sheet, &panel, i64::from(PANEL) * column as i64, i64::from(PANEL) * row);
        }
        let difference =
            ImageBuffer::from_fn(PANEL, PANEL, |x, y| Luma([maps[0].get_pixel(x, y)[0] - maps[1].get_pixel(x, y)[0]]));
        let (low, high) = ends(&difference);
        let largest = if stretched { low.abs().max(high.abs()).max(1e-6) } else { 1.0 };
        let panel = RgbImage::from_fn(PANEL, PANEL, |x, y| diverging(difference.get_pixel(x, y)[0] / largest));
        imageops::replace(&mut sheet, &panel, 2 * i64::from(PANEL), i64::from(PANEL) * row);
    }
    sheet
}

/// A bar for each channel, the palm's share from below and the veins' above it, in the order of the shares.
fn bars(palm: &[f32]) -> RgbImage {
    let mut sorted = palm.to_vec();
    sorted.sort_by(f32::total_cmp);
    let bar = (512 / sorted.len() as u32).max(1);
    RgbImage::from_fn(bar * sorted.len() as u32, PANEL, |x, y| {
        let share = sorted[(x / bar) as usize];
        let height = 1.0 - (y as f32 + 0.5) / PANEL as f32;
        // The line of equal shares.
        if y == PANEL / 2 { Rgb([0; 3]) } else { diverging(if height < share { 0.8 } else { -0.8 }) }
    })
}

/// Blue at -1 (veins), white at 0, red at 1 (palm).
fn diverging(value: f32) -> Rgb<u8> {
    between([[33, 102, 172], [247, 247, 247], [178, 24, 43]], (value + 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undecided_weights_have_the_largest_entropy_and_collapse_is_seen() {
        let even = Summary::of("local", 1, &[0.5; 8]);
        assert!((even.entropy - std::f64::consts::LN_2).abs() < 1e-9 && !even.collapsed && even.variance == 0.0);
        let palm = Summary::of("local", 1, &[1.0; 8]);
        assert!(palm.collapsed && palm.entropy == 0.0 && palm.mean == 1.0);
    }

    #[test]
    fn overlays_show_where_the_palm_counts() {
        let picture = RgbImage::from_pixel(PANEL, PANEL, Rgb([128; 3]));
        // The palm counts at the left, the veins at the right.
        let sheet = overlays([&picture, &picture], [&[1.0, 0.0, 1.0, 0.0], &[0.0, 1.0, 0.0, 1.0]], 2);
        assert_eq!(sheet.dimensions(), (3 * PANEL, 2 * PANEL));
        let (left, right) = (sheet.get_pixel(10, 100), sheet.get_pixel(PANEL - 10, 100));
        assert!(left[0] > right[0], "yellow against violet: {left:?} {right:?}");
        let difference = [sheet.get_pixel(2 * PANEL + 10, 100), sheet.get_pixel(3 * PANEL - 10, 100)];
        assert!(difference[0][0] > difference[0][2] && difference[1][2] > difference[1][0], "{difference:?}");
    }
}
