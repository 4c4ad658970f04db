//! Pictures that are too poor for a template to enrol.
//!
//! The limits lie below everything in 272 pictures of people from surveillance cameras (MOT17) and 200 photographs of
//! faces (AT&T): there the least brightness was 28, the least sharpness 2.3, and the smallest picture had a fourteenth
//! of the network's pixels. Blurring these pictures by 2/256 of their height takes half of the former below the limit
//! of sharpness.

use std::path::Path;

use contract::preprocess::{self, PictureError};
use contract::{Filter, PictureSpec};
use serde::Serialize;

/// A sixteenth of the network's pixels.
const TINY: u32 = 16;

/// Mean brightness, of 255.
const DARK: f64 = 25.0;

/// Variance of the Laplacian, at the size of the network's input.
const BLURRED: f64 = 2.0;

/// What is measured of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quality {
    /// Width and height, in pixels.
    pub size: [u32; 2],
    /// Mean brightness, 0 to 255.
    pub brightness: f64,
    /// Variance of the Laplacian of the brightness, at the size of the network's input: 0 for one colour, hundreds for
    /// a photograph in focus.
    pub sharpness: f64,
}

impl Quality {
    /// Measures a picture for an input of the network.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(path: &Path, input: &PictureSpec) -> Result<Self, PictureError> {
        Ok(Self::measure(&preprocess::decode_as(path, input.orientation)?, input))
    }

    /// Measures a decoded picture for an input of the network.
    pub fn measure(picture: &image::RgbImage, input: &PictureSpec) -> Self {
        let (width, height) = picture.dimensions();
        let [rows, columns] = input.size;
        let small = preprocess::resize(picture, input.size, Filter::Bilinear);
        // The weights of ITU-R BT.601.
        let luma = |pixel: &image::Rgb<u8>| {
            let [red, green, blue] = pixel.0.map(f64::from);
            0.299 * red + 0.587 * green + 0.114 * blue
        };
        let luma: Vec<f64> = small.pixels().map(luma).collect();
        let at = |row: usize, column: usize| luma[row * columns + column];
        let mut edges = Vec::with_capacity(luma.len());
        for row in 1..rows.saturating_sub(1) {
            for column in 1..columns.saturating_sub(1) {
                let around = at(row - 1, column) + at(row + 1, column) + at(row, column - 1) + at(row, column + 1);
                edges.push(4.0 * at(row, column) - around);
            }
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let middle = mean(&edges);
        let squares: Vec<f64> = edges.iter().map(|edge| (edge - middle).powi(2)).collect();
        Self { size: [width, height], brightness: mean(&luma), sharpness: mean(&squares) }
    }

    /// What is wrong with it for an input of the network, in words; none if it is good enough.
    pub fn problems(&self, input: &PictureSpec) -> Vec<String> {
        let Self { size: [width, height], brightness, sharpness } = *self;
        let [rows, columns] = input.size;
        let mut problems = Vec::new();
        if u64::from(width) * u64::from(height) * u64::from(TINY) < (rows * columns) as u64 {
            problems.push(format!("tiny: {width}×{height} pixels, the network sees {columns}×{rows}"));
        }
        if brightness < DARK {
            problems.push(format!("dark: mean brightness {brightness:.0} of 255, at least {DARK:.0} is good"));
        }
        if sharpness < BLURRED {
            problems.push(format!("blurred: sharpness {sharpness:.1}, at least {BLURRED:.1} is good"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    #[test]
    fn tiny_dark_and_blurred_pictures_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let input = PictureSpec::imagenet([64, 32]);
        let problems = |picture: RgbImage| -> Vec<String> {
            let path = folder.path().join("picture.png");
            picture.save(&path).unwrap();
            let problems = Quality::of(&path, &input).unwrap().problems(&input);
            problems.iter().map(|problem| problem.split(':').next().unwrap().to_owned()).collect()
        };
        let squares = |edge: u32, light: u8| {
            RgbImage::from_fn(64, 128, move |x, y| {
                image::Rgb([if (x / edge + y / edge).is_multiple_of(2) { light } else { 0 }; 3])
            })
        };
        assert_eq!(problems(squares(8, 200)), [""; 0]);
        assert_eq!(problems(squares(8, 40)), ["dark"]);
        assert_eq!(problems(RgbImage::from_fn(64, 128, |x, _| image::Rgb([2 * x as u8; 3]))), ["blurred"]);
        assert_eq!(problems(RgbImage::from_pixel(5, 9, image::Rgb([0; 3]))), ["tiny", "dark", "blurred"]);
        assert!(Quality::of(&folder.path().join("none.png"), &input).is_err());
    }
}
