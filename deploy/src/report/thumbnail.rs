//! Small pictures inside a page.

use std::path::Path;

use contract::{Filter, preprocess};
use image::codecs::jpeg::JpegEncoder;

/// Box a thumbnail fits into, in pixels: twice what is shown, for sharp screens.
const HEIGHT: u32 = 288;
const WIDTH: u32 = 216;

/// JPEG quality, 1 to 100.
const QUALITY: u8 = 78;

/// A picture, scaled down.
pub(super) struct Thumbnail {
    /// Itself, as a `data:` URI.
    pub(super) uri: String,
    /// Width and height, in pixels.
    pub(super) size: [usize; 2],
}

impl Thumbnail {
    /// Of the picture, scaled down to fit the box; none if it cannot be read.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let picture = preprocess::decode(path).ok()?;
        let (width, height) = picture.dimensions();
        let scale = (f64::from(HEIGHT) / f64::from(height)).min(f64::from(WIDTH) / f64::from(width)).min(1.0);
        let scaled = |size: u32| ((f64::from(size) * scale).round() as usize).max(1);
        let size = [scaled(width), scaled(height)];
        let small = preprocess::resize(&picture, [size[1], size[0]], Filter::Bilinear);
        let mut jpeg = Vec::new();
        JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&small).ok()?;
        Some(Self { uri: ::report::data_uri("jpeg", &jpeg), size })
    }
}
