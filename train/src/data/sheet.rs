//! Sheets of pictures: rows of them side by side, on a dark ground.

use contract::PictureSpec;
use image::{Rgb, RgbImage, imageops};

/// Pixels between pictures.
pub(crate) const GAP: u32 = 4;

/// Colour between them.
const GROUND: Rgb<u8> = Rgb([32; 3]);

/// Width of a frame inside a picture's edges, in pixels.
const FRAME: u32 = 3;

/// Most pixels of a sheet.
const MOST_PIXELS: u64 = 100_000_000;

/// Height and width of a sheet of so many rows and columns of pictures of `[height, width]`; none where it would be
/// larger than allowed.
///
/// # Errors
/// The height, the width and the most pixels that are allowed, in words.
pub(crate) fn size([rows, columns]: [usize; 2], [height, width]: [usize; 2]) -> Result<[u32; 2], String> {
    let side = |count: usize, side: usize| (count as u64).saturating_mul(side as u64 + u64::from(GAP));
    let [down, across] = [side(rows, height), side(columns, width)];
    if down.saturating_mul(across) > MOST_PIXELS {
        return Err(format!("{across}×{down} pixels; {MOST_PIXELS} in all are allowed"));
    }
    Ok([down, across].map(|side| side as u32 + GAP))
}

/// Normalised values `[channels, height, width]`, of one channel or three, as the picture that they are of.
pub(crate) fn picture(pixels: &[f32], input: &PictureSpec) -> RgbImage {
    let ([height, width], [black, white]) = (input.size, input.range);
    let channels = input.mean.len();
    let level = |channel: usize, at: usize| {
        let value = pixels[channel * height * width + at] * input.std[channel] + input.mean[channel];
        ((value - black) / (white - black) * 255.0).round().clamp(0.0, 255.0) as u8
    };
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = y as usize * width + x as usize;
        Rgb(std::array::from_fn(|channel| level(channel.min(channels - 1), at)))
    })
}

/// The picture in a frame of this colour, which covers its edges.
pub(crate) fn framed(mut picture: RgbImage, colour: Rgb<u8>) -> RgbImage {
    let (width, height) = picture.dimensions();
    for (x, y, pixel) in picture.enumerate_pixels_mut() {
        if x.min(width - 1 - x) < FRAME || y.min(height - 1 - y) < FRAME {
            *pixel = colour;
        }
    }
    picture
}

/// Rows of pictures of this height and width, from the left. What [`size`] refuses is the caller's to refuse.
pub(crate) fn sheet(rows: &[Vec<RgbImage>], picture: [usize; 2]) -> RgbImage {
    let [height, width] = picture.map(|side| side as u32 + GAP);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
    let mut sheet = RgbImage::from_pixel(columns * width + GAP, rows.len() as u32 * height + GAP, GROUND);
    for (row, y) in rows.iter().zip((i64::from(GAP)..).step_by(height as usize)) {
        for (picture, x) in row.iter().zip((i64::from(GAP)..).step_by(width as usize)) {
            imageops::replace(&mut sheet, picture, x, y);
        }
    }
    sheet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_lie_in_their_rows_and_frames_cover_their_edges() {
        let of = |level: u8| RgbImage::from_pixel(10, 20, Rgb([level; 3]));
        let red = framed(of(200), Rgb([255, 0, 0]));
        let drawn = sheet(&[vec![of(100)], vec![of(150), red]], [20, 10]);
        assert_eq!(drawn.dimensions(), (2 * 14 + 4, 2 * 24 + 4));
        assert_eq!(size([2, 2], [20, 10]), Ok([52, 32]));
        let at = |x, y| drawn.get_pixel(x, y).0;
        assert_eq!([at(4, 4), at(4, 28), at(18, 4)], [[100; 3], [150; 3], GROUND.0]);
        assert_eq!([at(18, 28), at(20, 40), at(21, 31), at(27, 47)], [[255, 0, 0], [255, 0, 0], [200; 3], [255, 0, 0]]);
        let refused = size([10_000, 10_000], [384, 128]).unwrap_err();
        assert!(refused.contains("1320000×3880000") && refused.contains("100000000"), "{refused}");
    }

    #[test]
    fn values_are_the_picture_that_they_are_of() {
        let input = PictureSpec::imagenet([2, 1]);
        let levels = [0u8, 255, 10, 20, 128, 64];
        let normalised =
            |(at, level): (usize, &u8)| (f32::from(*level) / 255.0 - input.mean[at / 2]) / input.std[at / 2];
        let pixels: Vec<f32> = levels.iter().enumerate().map(normalised).collect();
        let drawn = picture(&pixels, &input);
        assert_eq!([drawn.get_pixel(0, 0).0, drawn.get_pixel(0, 1).0], [[0, 10, 128], [255, 20, 64]]);
    }
}
