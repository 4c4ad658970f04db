//! RandAugment (Cubuk et al. 2020, arXiv:1909.13719): some of fourteen operations, one after the other, all of one
//! strength. Ranges are those of torchvision's `RandAugment` with 31 magnitudes; operations on colours are Pillow's.

use image::{Rgb, RgbImage};

use crate::rng::Rng;

/// Largest magnitude.
pub const MOST: usize = 30;

/// Operations that a picture may go through.
pub const OPERATIONS: usize = Operation::ALL.len();

/// How a picture is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandAugment {
    /// Operations for each picture, any of which may come more than once.
    pub operations: usize,
    /// Their strength, 0 to [`MOST`].
    pub magnitude: usize,
}

impl RandAugment {
    /// A random view of a picture, of the same size.
    pub fn apply(self, mut picture: RgbImage, rng: &mut Rng) -> RgbImage {
        for _ in 0..self.operations {
            let operation = Operation::ALL[rng.below(OPERATIONS)];
            // Drawn also where it means nothing, so that each operation takes as many numbers.
            let sign = if rng.happens(0.5) { -1.0 } else { 1.0 };
            picture = operation.apply(picture, self.magnitude as f32 / MOST as f32, sign);
        }
        picture
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Colour,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
}

impl Operation {
    const ALL: [Self; 14] = [
        Self::Identity,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
        Self::Brightness,
        Self::Colour,
        Self::Contrast,
        Self::Sharpness,
        Self::Posterize,
        Self::Solarize,
        Self::AutoContrast,
        Self::Equalize,
    ];

    /// `level` is 0 to 1; `sign` is the direction of what has one.
    fn apply(self, picture: RgbImage, level: f32, sign: f32) -> RgbImage {
        /// Pixels that a picture of 331 moves at most.
        const SHIFT: f32 = 150.0 / 331.0;
        let (width, height) = (picture.width() as f32, picture.height() as f32);
        let factor = 1.0 + sign * 0.9 * level;
        match self {
            Self::Identity => picture,
            Self::ShearX => moved(&picture, [1.0, sign * 0.3 * level, 0.0], [0.0, 1.0, 0.0]),
            Self::ShearY => moved(&picture, [1.0, 0.0, 0.0], [sign * 0.3 * level, 1.0, 0.0]),
            Self::TranslateX => moved(&picture, [1.0, 0.0, sign * (SHIFT * width * level).trunc()], [0.0, 1.0, 0.0]),
            Self::TranslateY => moved(&picture, [1.0, 0.0, 0.0], [0.0, 1.0, sign * (SHIFT * height * level).trunc()]),
            Self::Rotate => rotated(&picture, sign * 30.0 * level),
            Self::Brightness => brightness(picture, factor),
            Self::Colour => saturation(picture, factor),
            Self::Contrast => contrast(picture, factor),
            Self::Sharpness => sharpness(&picture, factor),
            Self::Posterize => {
                let kept = 8 - (4.0 * level).round() as u32;
                by_table(picture, |value| value & (0xff_u8 << (8 - kept)))
            }
            Self::Solarize => {
                let threshold = 255.0 * (1.0 - level);
                by_table(picture, |value| if f32::from(value) < threshold { value } else { 255 - value })
            }
            Self::AutoContrast => by_histogram(picture, stretched),
            Self::Equalize => by_histogram(picture, equalized),
        }
    }
}

/// Each pixel from the place `[a, b, c]·(x, y, 1)`, `[d, e, f]·(x, y, 1)`, the nearest one; black where nothing was.
fn moved(picture: &RgbImage, across: [f32; 3], down: [f32; 3]) -> RgbImage {
    let (width, height) = picture.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (x as f32 + 0.5, y as f32 + 0.5);
        let place = |[a, b, c]: [f32; 3]| (a * x + b * y + c).floor();
        let (x, y) = (place(across), place(down));
        let inside = x >= 0.0 && y >= 0.0 && x < width as f32 && y < height as f32;
        if inside { *picture.get_pixel(x as u32, y as u32) } else { Rgb([0; 3]) }
    })
}

/// Turned about the centre.
fn rotated(picture: &RgbImage, degrees: f32) -> RgbImage {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (x, y) = (picture.width() as f32 / 2.0, picture.height() as f32 / 2.0);
    moved(picture, [cos, sin, x - cos * x - sin * y], [-sin, cos, y + sin * x - cos * y])
}

fn by_table(mut picture: RgbImage, of: impl Fn(u8) -> u8) -> RgbImage {
    let table: [u8; 256] = std::array::from_fn(|value| of(value as u8));
    picture.iter_mut().for_each(|value| *value = table[usize::from(*value)]);
    picture
}

/// Each channel through the table that is made of its histogram.
fn by_histogram(mut picture: RgbImage, table: fn(&[u32; 256]) -> Option<[u8; 256]>) -> RgbImage {
    for channel in 0..3 {
        let mut histogram = [0_u32; 256];
        picture.pixels().for_each(|pixel| histogram[usize::from(pixel[channel])] += 1);
        if let Some(table) = table(&histogram) {
            picture.pixels_mut().for_each(|pixel| pixel[channel] = table[usize::from(pixel[channel])]);
        }
    }
    picture
}

/// From the darkest to the lightest value over the whole range.
fn stretched(histogram: &[u32; 256]) -> Option<[u8; 256]> {
    let low = histogram.iter().position(|count| *count > 0)?;
    let high = histogram.iter().rposition(|count| *count > 0)?;
    let scale = 255.0 / (high - low) as f64;
    let value = |value: usize| ((value as f64 - low as f64) * scale).round().clamp(0.0, 255.0) as u8;
    (high > low).then(|| std::array::from_fn(value))
}

/// As many pixels of each value as of any other.
fn equalized(histogram: &[u32; 256]) -> Option<[u8; 256]> {
    let used: Vec<u32> = histogram.iter().copied().filter(|count| *count > 0).collect();
    let step = (used.iter().sum::<u32>() - used.last()?) / 255;
    let mut sum = step / 2;
    (used.len() > 1 && step > 0).then(|| {
        histogram.map(|count| {
            let value = sum / step;
            sum += count;
            value.min(255) as u8
        })
    })
}

fn level(value: f32) -> u8 {
    value.round().clamp(0.0, 255.0) as u8
}

/// Lightness of a pixel, 0 to 255 (ITU-R BT.601).
fn grey(pixel: &Rgb<u8>) -> f32 {
    let [red, green, blue] = pixel.0.map(f32::from);
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// Values times a factor.
pub(super) fn brightness(picture: RgbImage, factor: f32) -> RgbImage {
    by_table(picture, |value| level(f32::from(value) * factor))
}

/// Differences from the mean lightness, times a factor.
pub(super) fn contrast(picture: RgbImage, factor: f32) -> RgbImage {
    let sum: f64 = picture.pixels().map(|pixel| f64::from(grey(pixel))).sum();
    let mean = (sum / f64::from((picture.width() * picture.height()).max(1))).round() as f32;
    by_table(picture, |value| level(mean + (f32::from(value) - mean) * factor))
}

/// Differences from a pixel's lightness, times a factor.
pub(super) fn saturation(mut picture: RgbImage, factor: f32) -> RgbImage {
    for pixel in picture.pixels_mut() {
        let grey = grey(pixel);
        pixel.0 = pixel.0.map(|value| level(grey + (f32::from(value) - grey) * factor));
    }
    picture
}

/// Hues turned by a share of the circle.
pub(super) fn hue(mut picture: RgbImage, turn: f32) -> RgbImage {
    for pixel in picture.pixels_mut() {
        let [red, green, blue] = pixel.0.map(f32::from);
        let (low, high) = (red.min(green).min(blue), red.max(green).max(blue));
        let span = high - low;
        if span == 0.0 {
            continue;
        }
        // In sixths of the circle, red at 0.
        let hue = if high == red {
            (green - blue) / span
        } else if high == green {
            2.0 + (blue - red) / span
        } else {
            4.0 + (red - green) / span
        };
        let turned = (hue + 6.0 * turn).rem_euclid(6.0);
        let channel = |at: f32| {
            let far = (turned - at).rem_euclid(6.0);
            let share = (2.0 - far.min(6.0 - far)).clamp(0.0, 1.0);
            level(low + span * share)
        };
        pixel.0 = [channel(0.0), channel(2.0), channel(4.0)];
    }
    picture
}

/// Differences from a smooth picture, times a factor; the outermost pixels stay.
fn sharpness(picture: &RgbImage, factor: f32) -> RgbImage {
    let (width, height) = picture.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let own = picture.get_pixel(x, y);
        if x == 0 || y == 0 || x + 1 == width || y + 1 == height {
            return *own;
        }
        Rgb(std::array::from_fn(|channel| {
            let around = (y - 1..=y + 1).flat_map(|y| (x - 1..=x + 1).map(move |x| (x, y)));
            let sum: f32 = around.map(|(x, y)| f32::from(picture.get_pixel(x, y)[channel])).sum();
            // The pixel itself counts five times.
            let smooth = (sum + 4.0 * f32::from(own[channel])) / 13.0;
            level(smooth + (f32::from(own[channel]) - smooth) * factor)
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp() -> RgbImage {
        RgbImage::from_fn(32, 64, |x, y| Rgb([(8 * x) as u8, (4 * y) as u8, (x * y % 251) as u8]))
    }

    #[test]
    fn without_strength_only_histograms_change() {
        for operation in Operation::ALL {
            for sign in [-1.0, 1.0] {
                let view = operation.apply(ramp(), 0.0, sign);
                let changes = [Operation::AutoContrast, Operation::Equalize].contains(&operation);
                // Solarizing at 255 turns the lightest value only.
                assert!(changes || view == ramp(), "{operation:?}");
                assert_eq!(view.dimensions(), ramp().dimensions());
            }
        }
        for operation in Operation::ALL.into_iter().filter(|operation| *operation != Operation::Identity) {
            assert!(operation.apply(ramp(), 1.0, -1.0) != ramp(), "{operation:?}");
        }
    }

    /// Worked by hand.
    #[test]
    fn operations_do_what_they_are_called() {
        let one = |picture: &RgbImage, x: u32, y: u32| picture.get_pixel(x, y).0;
        let pixel = RgbImage::from_pixel(1, 1, Rgb([100, 50, 200]));
        assert_eq!(one(&brightness(pixel.clone(), 1.5), 0, 0), [150, 75, 255]);
        // Lightness 0.299·100 + 0.587·50 + 0.114·200 = 82.05.
        assert_eq!(one(&saturation(pixel.clone(), 0.0), 0, 0), [82; 3]);
        assert_eq!(one(&contrast(pixel.clone(), 0.5), 0, 0), [91, 66, 141]);
        assert_eq!(one(&hue(RgbImage::from_pixel(1, 1, Rgb([200, 0, 0])), 1.0 / 3.0), 0, 0), [0, 200, 0]);
        assert_eq!(one(&hue(RgbImage::from_pixel(1, 1, Rgb([200, 50, 50])), -1.0 / 6.0), 0, 0), [200, 50, 200]);
        assert_eq!(one(&Operation::Posterize.apply(pixel.clone(), 1.0, 1.0), 0, 0), [96, 48, 192]);
        assert_eq!(one(&Operation::Solarize.apply(pixel, 0.5, 1.0), 0, 0), [100, 50, 55]);
        // Two rows of darker and lighter values, over the whole range.
        let two = RgbImage::from_fn(2, 2, |x, _| Rgb([50 + 100 * x as u8, 7, 0]));
        let stretched = Operation::AutoContrast.apply(two, 0.0, 1.0);
        assert_eq!([one(&stretched, 0, 0), one(&stretched, 1, 1)], [[0, 7, 0], [255, 7, 0]]);
        // 150/331 of 32 pixels are 14.5, of which whole ones count.
        let shifted = Operation::TranslateX.apply(ramp(), 1.0, 1.0);
        assert_eq!((one(&shifted, 0, 5), one(&shifted, 18, 5)), (one(&ramp(), 14, 5), [0; 3]));
        let sheared = Operation::ShearX.apply(ramp(), 1.0, 1.0);
        // Row 10 begins 0.3 · 10.5 pixels further.
        assert_eq!(one(&sheared, 0, 10), one(&ramp(), 3, 10));
        // A quarter turn of a square: the bottom row becomes the left column.
        let square = RgbImage::from_fn(4, 4, |x, y| Rgb([(10 * x + y) as u8; 3]));
        let turned = rotated(&square, 90.0);
        assert_eq!((one(&turned, 0, 0), one(&turned, 0, 3)), (one(&square, 0, 3), one(&square, 3, 3)));
        // The middle of a bright dot: (8·0 + 5·130) / 13.
        let dot = RgbImage::from_fn(3, 3, |x, y| Rgb([if (x, y) == (1, 1) { 130 } else { 0 }; 3]));
        assert_eq!(one(&sharpness(&dot, 0.0), 1, 1), [50; 3]);
    }

    #[test]
    fn equal_shares_come_of_any_histogram() {
        // 100 pixels of 10, 100 of 11, 56 of 200; step (256 - 56) / 255 is 0, and nothing changes.
        let few = RgbImage::from_fn(16, 16, |x, y| {
            let at = 16 * y + x;
            Rgb([if at < 100 {
                10
            } else if at < 200 {
                11
            } else {
                200
            }; 3])
        });
        assert!(Operation::Equalize.apply(few.clone(), 0.0, 1.0) == few);
        // Of 32 × 64 pixels with 32 values: steps of (2048 - 64) / 255 = 7, so that value k begins at (3 + 64 k) / 7.
        let even = Operation::Equalize.apply(ramp(), 0.0, 1.0);
        assert_eq!([0, 1, 20].map(|x| even.get_pixel(x, 0)[0]), [0, 9, 183]);
    }

    #[test]
    fn every_operation_is_drawn_and_draws_repeat() {
        let policy = RandAugment { operations: 2, magnitude: 9 };
        let views: Vec<RgbImage> = (0..200).map(|place| policy.apply(ramp(), &mut Rng::new(&[place]))).collect();
        assert!(views[7] == policy.apply(ramp(), &mut Rng::new(&[7])));
        let mut different = views.clone();
        different.sort_by(|a, b| a.as_raw().cmp(b.as_raw()));
        different.dedup();
        // 14 operations in two directions, twice.
        assert!(different.len() > 100, "{}", different.len());
        assert!(RandAugment { operations: 0, magnitude: 30 }.apply(ramp(), &mut Rng::new(&[1])) == ramp());
    }
}
