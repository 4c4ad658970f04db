//! A map of values over a picture: where a network looks.

use image::imageops::{self, FilterType};
use image::{ImageBuffer, Luma, Rgb, RgbImage};

/// Share of the colours in an overlay.
const OPACITY: f32 = 0.45;

/// `values`, rows of `columns`, over `picture`: from violet where they are least to yellow where they are greatest,
/// between their places on straight lines.
///
/// # Panics
/// If the values make no whole rows, or there are none.
pub fn overlay(picture: &RgbImage, values: &[f32], columns: usize) -> RgbImage {
    let (low, high) = ends(values);
    let span = if high > low { high - low } else { 1.0 };
    // Before it is enlarged, which keeps to 0 to 1.
    let shares: Vec<f32> = values.iter().map(|value| (value - low) / span).collect();
    let (width, height) = picture.dimensions();
    let map = enlarged(&shares, columns as u32, [width, height]);
    RgbImage::from_fn(width, height, |x, y| mix(*picture.get_pixel(x, y), viridis(map.get_pixel(x, y)[0])))
}

/// A map of values from 0 to 1 at another width and height, between its places on straight lines.
pub(crate) fn enlarged(values: &[f32], columns: u32, [width, height]: [u32; 2]) -> ImageBuffer<Luma<f32>, Vec<f32>> {
    let rows = values.len() as u32 / columns;
    assert!(rows * columns == values.len() as u32 && rows > 0, "{} values in rows of {columns}", values.len());
    let map = ImageBuffer::from_raw(columns, rows, values.to_vec()).expect("a value for each place");
    imageops::resize(&map, width, height, FilterType::Triangle)
}

/// The least value and the greatest.
pub(crate) fn ends(values: &[f32]) -> (f32, f32) {
    values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| (low.min(*value), high.max(*value)))
}

/// A colour over a pixel.
pub(crate) fn mix(pixel: Rgb<u8>, colour: Rgb<u8>) -> Rgb<u8> {
    Rgb(std::array::from_fn(|k| (f32::from(pixel[k]) * (1.0 - OPACITY) + f32::from(colour[k]) * OPACITY).round() as u8))
}

/// Colour on the straight line between the two of `stops` next to `at`, 0 to 1.
pub(crate) fn between<const N: usize>(stops: [[u8; 3]; N], at: f32) -> Rgb<u8> {
    let at = at.clamp(0.0, 1.0) * (N - 1) as f32;
    let first = (at as usize).min(N - 2);
    let share = at - first as f32;
    let (a, b) = (stops[first], stops[first + 1]);
    Rgb(std::array::from_fn(|k| (f32::from(a[k]) * (1.0 - share) + f32::from(b[k]) * share).round() as u8))
}

/// Matplotlib's viridis at five places: even in lightness.
pub(crate) fn viridis(value: f32) -> Rgb<u8> {
    between([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]], value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_value_is_yellow_and_the_least_violet_whatever_they_are() {
        let picture = RgbImage::from_pixel(40, 20, Rgb([100; 3]));
        for factor in [1.0, 1e-12, 1e6, -1.0] {
            let values = [0.0, 1.0, 0.0, 1.0].map(|value: f32| value * factor);
            let drawn = overlay(&picture, &values, 2);
            let (mut left, mut right) = (drawn.get_pixel(1, 10), drawn.get_pixel(38, 10));
            if factor < 0.0 {
                (left, right) = (right, left);
            }
            assert_eq!([*left, *right], [mix(Rgb([100; 3]), viridis(0.0)), mix(Rgb([100; 3]), viridis(1.0))]);
        }
        let flat = overlay(&picture, &[0.5; 4], 2);
        assert!(flat.pixels().all(|pixel| pixel == flat.get_pixel(0, 0)));
    }
}
