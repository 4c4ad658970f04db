//! Samples of the components to pixels: those that are fewer are interpolated, and the colours become RGB.

use image::RgbImage;

use super::markers::{Colours, Component, Frame};

/// How a component gets as many samples as there are pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interpolation {
    /// Each sample is so many pixels wide and high.
    Repeat([usize; 2]),
    /// Two pixels a sample across: three quarters of the nearer sample, one of the other.
    Across,
    /// The same, down.
    Down,
    /// The same in both directions.
    Both,
}

impl Interpolation {
    fn of(component: &Component, most: [usize; 2]) -> Self {
        let factor = [0, 1].map(|axis| most[axis] / component.sampling[axis]);
        match factor {
            // Of one or two samples libjpeg-turbo makes no line.
            [2, 1 | 2] if component.size[0] <= 2 => Self::Repeat(factor),
            [2, 1] => Self::Across,
            [1, 2] => Self::Down,
            [2, 2] => Self::Both,
            _ => Self::Repeat(factor),
        }
    }
}

/// The samples of a row of pixels; there may be more than pixels.
fn row<'a>(
    component: &Component,
    samples: &'a [u8],
    how: Interpolation,
    y: usize,
    sums: &mut [u16],
    made: &'a mut [u8],
) -> &'a [u8] {
    let [width, height] = component.size;
    let line = |row: usize| &samples[component.begin + row.min(height - 1) * component.stride()..][..width];
    // The row that has the pixels, and the nearer of its neighbours.
    let own = y / 2;
    let other = if y.is_multiple_of(2) { own.saturating_sub(1) } else { own + 1 };
    match how {
        Interpolation::Repeat([1, 1]) => return line(y),
        Interpolation::Repeat([across, down]) => {
            for (pixels, sample) in made.chunks_mut(across).zip(line(y / down)) {
                pixels.fill(*sample);
            }
        }
        Interpolation::Across => {
            let line = line(y);
            ends(made, u16::from(line[0]), u16::from(line[width - 1]), width);
            // Weights of a quarter; up and down from a half in turn.
            for (pair, near) in made[1..].chunks_exact_mut(2).zip(line.windows(2)) {
                let [left, right] = [near[0], near[1]].map(u16::from);
                pair[0] = ((3 * left + right + 2) >> 2) as u8;
                pair[1] = ((3 * right + left + 1) >> 2) as u8;
            }
        }
        Interpolation::Down => {
            let bias = if y.is_multiple_of(2) { 1 } else { 2 };
            for ((pixel, own), other) in made.iter_mut().zip(line(own)).zip(line(other)) {
                *pixel = ((3 * u16::from(*own) + u16::from(*other) + bias) >> 2) as u8;
            }
        }
        Interpolation::Both => {
            let sums = &mut sums[..width];
            for ((sum, own), other) in sums.iter_mut().zip(line(own)).zip(line(other)) {
                *sum = 3 * u16::from(*own) + u16::from(*other);
            }
            ends(made, (4 * sums[0] + 8) >> 4, (4 * sums[width - 1] + 7) >> 4, width);
            for (pair, near) in made[1..].chunks_exact_mut(2).zip(sums.windows(2)) {
                pair[0] = ((3 * near[0] + near[1] + 7) >> 4) as u8;
                pair[1] = ((3 * near[1] + near[0] + 8) >> 4) as u8;
            }
        }
    }
    made
}

/// Writes the first and the last pixel of a line of `width` samples.
fn ends(made: &mut [u8], first: u16, last: u16, width: usize) {
    made[0] = first as u8;
    made[2 * width - 1] = last as u8;
}

/// What a chroma sample adds to colours: red by the red difference, blue by the blue one, and what both take from green
/// in 65536ths.
#[inline(always)]
fn chroma(blue: u8, red: u8) -> [i32; 3] {
    let (blue, red) = (i32::from(blue) - 128, i32::from(red) - 128);
    let half = 1 << 15;
    [(91_881 * red + half) >> 16, (-22_554 * blue - 46_802 * red + half) >> 16, (116_130 * blue + half) >> 16]
}

/// A product of two levels as shares of 255.
#[inline(always)]
pub(crate) fn share(one: u8, other: u8) -> u8 {
    let product = u32::from(one) * u32::from(other) + 128;
    (((product >> 8) + product) >> 8) as u8
}

/// The picture in RGB.
pub(super) fn rgb(frame: Frame) -> RgbImage {
    let Frame { size: [width, height], components, most, colours, samples, .. } = frame;
    let mut pixels = vec![0_u8; width * height * 3];
    let hows: Vec<Interpolation> = components.iter().map(|component| Interpolation::of(component, most)).collect();
    // As long as the longest component's samples, each made two to four wide.
    let longest = components.iter().zip(&hows).map(|(component, how)| match how {
        Interpolation::Repeat([across, _]) => component.size[0] * across,
        _ => component.size[0] * 2,
    });
    let longest = longest.max().unwrap_or(0);
    let mut made = vec![vec![0_u8; longest]; components.len()];
    let mut sums = vec![0_u16; longest];
    for (y, out) in pixels.chunks_exact_mut(width * 3).enumerate() {
        let mut rows = components.iter().zip(&hows).zip(&mut made);
        let mut next =
            || rows.next().map(|((component, how), made)| &row(component, &samples, *how, y, &mut sums, made)[..width]);
        let rows = [next(), next(), next(), next()].map(Option::unwrap_or_default);
        write(colours, rows, out);
    }
    RgbImage::from_raw(width as u32, height as u32, pixels).expect("three bytes a pixel")
}

/// Writes a row of pixels, of as many rows of samples as there are components.
fn write(colours: Colours, [first, second, third, fourth]: [&[u8]; 4], out: &mut [u8]) {
    let pixels = out.as_chunks_mut::<3>().0.iter_mut();
    let level = |value: i32| value.clamp(0, 255) as u8;
    match colours {
        Colours::Grey => pixels.zip(first).for_each(|(pixel, grey)| *pixel = [*grey; 3]),
        Colours::Rgb => {
            for (((pixel, red), green), blue) in pixels.zip(first).zip(second).zip(third) {
                *pixel = [*red, *green, *blue];
            }
        }
        Colours::YCbCr => {
            for (((pixel, luma), blue), red) in pixels.zip(first).zip(second).zip(third) {
                *pixel = chroma(*blue, *red).map(|add| level(i32::from(*luma) + add));
            }
        }
        // Adobe stores how much light is left, which Pillow takes all files to do.
        Colours::Cmyk => {
            for ((((pixel, cyan), magenta), yellow), black) in pixels.zip(first).zip(second).zip(third).zip(fourth) {
                *pixel = [*cyan, *magenta, *yellow].map(|light| black.saturating_sub(share(255 - light, *black)));
            }
        }
        Colours::Ycck => {
            for ((((pixel, luma), blue), red), black) in pixels.zip(first).zip(second).zip(third).zip(fourth) {
                let light = chroma(*blue, *red).map(|add| level(255 - (i32::from(*luma) + add)));
                *pixel = light.map(|light| black.saturating_sub(share(255 - light, *black)));
            }
        }
    }
}
