//! Small pictures inside a page.

use std::path::Path;

use contract::Filter;
use contract::preprocess;
use image::codecs::jpeg::JpegEncoder;

/// Box a thumbnail fits into, in pixels: twice what is shown, for sharp screens.
const HEIGHT: u32 = 288;
const WIDTH: u32 = 216;

/// JPEG quality, 1 to 100.
const QUALITY: u8 = 78;

/// A `data:` URI of the picture, scaled down to fit the box; none if it cannot be read.
pub(super) fn data_uri(path: &Path) -> Option<String> {
    let picture = preprocess::decode(path).ok()?;
    let (width, height) = picture.dimensions();
    let scale = (f64::from(HEIGHT) / f64::from(height)).min(f64::from(WIDTH) / f64::from(width)).min(1.0);
    let scaled = |size: u32| ((f64::from(size) * scale).round() as usize).max(1);
    let small = preprocess::resize(&picture, [scaled(height), scaled(width)], Filter::Bilinear);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&small).ok()?;
    Some(format!("data:image/jpeg;base64,{}", base64(&jpeg)))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, i| bits << 8 | u32::from(group.get(i).copied().unwrap_or(0)));
        for digit in 0..4 {
            let value = DIGITS[(bits >> (18 - 6 * digit) & 63) as usize];
            text.push(if digit > group.len() { '=' } else { char::from(value) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_rfc() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}
