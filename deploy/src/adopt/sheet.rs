//! Pictures as a network will see them, for people to look at.

use contract::preprocess::reduced_as;
use contract::{Colour, PictureSpec};
use image::{Rgb, RgbImage, imageops};

use crate::DeployError;
use crate::embed;
use crate::pictures::Input;
use crate::runtime::Model;

/// Pairs in a row of the sheet.
const COLUMNS: usize = 4;

/// Pixels between pictures.
const GAP: u32 = 6;

/// Smallest height of a pair; smaller inputs are shown in larger pixels.
const HEIGHT: usize = 128;

/// Pictures and how a network sees them.
#[derive(Debug)]
pub struct Sheet {
    /// Pairs: the picture, and beside it the network's input with mean, deviation and range undone.
    pub picture: RgbImage,
    /// Values of the network's input, for each channel.
    pub channels: Vec<Channel>,
    /// How many pictures are on it.
    pub shown: usize,
}

/// Values of one channel of a network's input.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Channel {
    /// The smallest.
    pub smallest: f32,
    /// The mean.
    pub mean: f32,
    /// The largest.
    pub largest: f32,
}

/// The contact sheet of `pictures` for a model of one picture; those that cannot be used are left out.
///
/// # Errors
/// If not one of the pictures can be used, or the model takes something else.
pub fn sheet(model: &Model, pictures: &[Input]) -> Result<Sheet, DeployError> {
    let (specs, _) = model.embedding()?;
    let spec = specs[0];
    let [height, width] = spec.size;
    let zoom = HEIGHT.div_ceil(height).max(1) as u32;
    let shown = [height as u32 * zoom, width as u32 * zoom];
    let mut pairs = Vec::new();
    let mut sums = vec![(f32::INFINITY, 0.0_f64, f32::NEG_INFINITY); spec.colour.channels()];
    let mut unusable = None;
    for input in pictures {
        let values = match embed::inputs(model, input) {
            Ok(mut values) => values.swap_remove(0),
            Err(DeployError::NoneReadable { source, .. }) => {
                unusable.get_or_insert(source);
                continue;
            }
            Err(other) => return Err(other),
        };
        for (plane, (smallest, sum, largest)) in values.chunks_exact(height * width).zip(&mut sums) {
            *smallest = plane.iter().copied().fold(*smallest, f32::min);
            *largest = plane.iter().copied().fold(*largest, f32::max);
            *sum += plane.iter().copied().map(f64::from).sum::<f64>();
        }
        let seen = imageops::resize(&seen(&values, spec), shown[1], shown[0], imageops::FilterType::Nearest);
        // As wide as high at most, so that a landscape picture keeps its proportions.
        let picture = reduced_as(input.path(), [shown[0], shown[0].max(shown[1])], spec.orientation)?;
        pairs.push((picture, seen));
    }
    if pairs.is_empty() {
        let of = pictures.len();
        return Err(match unusable {
            Some(source) => DeployError::NoneReadable { of, source },
            None => DeployError::NoPictures,
        });
    }
    let count = (pairs.len() * height * width) as f64;
    let channels =
        sums.into_iter().map(|(smallest, sum, largest)| Channel { smallest, mean: (sum / count) as f32, largest });
    Ok(Sheet { picture: place(&pairs, shown), channels: channels.collect(), shown: pairs.len() })
}

/// Pairs in rows.
fn place(pairs: &[(RgbImage, RgbImage)], [height, width]: [u32; 2]) -> RgbImage {
    let left = pairs.iter().map(|(picture, _)| picture.width()).max().unwrap_or(0);
    let cell = [height + GAP, left + width + 3 * GAP];
    let columns = COLUMNS.min(pairs.len());
    let rows = pairs.len().div_ceil(columns);
    let paper = Rgb([255; 3]);
    let mut all = RgbImage::from_pixel(cell[1] * columns as u32 + GAP, cell[0] * rows as u32 + GAP, paper);
    for (at, (picture, seen)) in pairs.iter().enumerate() {
        let (row, column) = ((at / columns) as u32, (at % columns) as u32);
        let (x, y) = (GAP + column * cell[1], GAP + row * cell[0]);
        imageops::replace(&mut all, picture, i64::from(x), i64::from(y));
        imageops::replace(&mut all, seen, i64::from(x + left + GAP), i64::from(y));
    }
    all
}

/// The network's input as a picture: mean, deviation and range undone, red first.
fn seen(values: &[f32], spec: &PictureSpec) -> RgbImage {
    let [height, width] = spec.size;
    let plane = height * width;
    let [black, white] = spec.range;
    let level = |channel: usize, at: usize| {
        let value = values[channel * plane + at] * spec.std[channel] + spec.mean[channel];
        ((value - black) / (white - black) * 255.0).round().clamp(0.0, 255.0) as u8
    };
    let order = match spec.colour {
        Colour::Rgb => [0, 1, 2],
        Colour::Bgr => [2, 1, 0],
        Colour::Grey => [0; 3],
    };
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        let at = y as usize * width + x as usize;
        Rgb(order.map(|channel| level(channel, at)))
    })
}

#[cfg(test)]
mod tests {
    use contract::preprocess::normalise;

    use super::*;

    #[test]
    fn what_is_seen_is_the_picture_whatever_its_order_and_range() {
        let picture = RgbImage::from_fn(3, 2, |x, y| Rgb([(40 * x) as u8, (90 * y) as u8, 200]));
        for (colour, range, mean, std) in [
            (Colour::Rgb, [0.0, 1.0], [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            (Colour::Bgr, [0.0, 255.0], [127.5; 3], [128.0; 3]),
            (Colour::Bgr, [-1.0, 1.0], [0.0; 3], [1.0; 3]),
        ] {
            let spec =
                PictureSpec { colour, range, mean: mean.to_vec(), std: std.to_vec(), ..PictureSpec::imagenet([2, 3]) };
            let mut values = [0.0; 18];
            normalise(&picture, &spec, &mut values);
            assert_eq!(seen(&values, &spec), picture, "{colour:?}");
        }
    }
}
