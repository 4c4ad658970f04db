//! Pictures to another size, as the libraries do it that networks are trained with: to the bit.

use std::collections::VecDeque;

use image::RgbImage;

use crate::Filter;

/// Fraction bits of Pillow's weights.
const FRACTION: u32 = 22;

/// Scales a picture to `height`×`width`; each axis has its own factor.
///
/// # Panics
/// If the picture has no pixels.
pub fn resize(picture: &RgbImage, [height, width]: [usize; 2], filter: Filter) -> RgbImage {
    assert!(picture.width() > 0 && picture.height() > 0, "a picture of no pixels cannot be resized");
    if picture.dimensions() == (width as u32, height as u32) {
        return picture.clone();
    }
    match filter {
        Filter::Bilinear => pillow(picture, [height, width], triangle, 1.0),
        Filter::Bicubic => pillow(picture, [height, width], cubic, 2.0),
        Filter::Lanczos => pillow(picture, [height, width], lanczos, 3.0),
        Filter::Box => pillow(picture, [height, width], mean, 0.5),
        Filter::Opencv => opencv(picture, [height, width]),
    }
}

/// The weight of a sample at a distance from the middle, in samples of the smaller of the two pictures.
type Weight = fn(f64) -> f64;

fn mean(x: f64) -> f64 {
    if x > -0.5 && x <= 0.5 { 1.0 } else { 0.0 }
}

fn triangle(x: f64) -> f64 {
    (1.0 - x.abs()).max(0.0)
}

fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    match x.abs() {
        x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
        x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
        _ => 0.0,
    }
}

fn lanczos(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

/// For each sample of the result the first sample it is made of, and the weights of that one and the following, in
/// parts of 2^[`FRACTION`].
fn taps(from: usize, to: usize, weight: Weight, reach: f64) -> Vec<(usize, Vec<i32>)> {
    let scale = from as f64 / to as f64;
    let wide = scale.max(1.0);
    let (reach, narrow) = (reach * wide, 1.0 / wide);
    let tap = |at: usize| {
        let middle = (at as f64 + 0.5) * scale;
        // Negative numbers become 0, as they should.
        let first = (middle - reach + 0.5) as usize;
        let end = ((middle + reach + 0.5) as usize).min(from);
        let weights: Vec<f64> = (first..end).map(|sample| weight((sample as f64 - middle + 0.5) * narrow)).collect();
        let sum: f64 = weights.iter().sum();
        let share = |weight: f64| if sum == 0.0 { weight } else { weight / sum };
        let fixed = |weight: f64| (share(weight) * f64::from(1 << FRACTION)).round() as i32;
        (first, weights.into_iter().map(fixed).collect())
    };
    (0..to).map(tap).collect()
}

/// A sum of weighted levels as a level.
#[inline(always)]
fn level(sum: i32) -> u8 {
    (sum >> FRACTION).clamp(0, 255) as u8
}

/// Half a level, for rounding.
const HALF: i32 = 1 << (FRACTION - 1);

/// Pillow's resize: a filter across and a filter down, with a rounding after each. Which comes first is the rule of
/// version 13; up to version 12 the first always ran across, which gives the same to one level.
fn pillow(picture: &RgbImage, [height, width]: [usize; 2], weight: Weight, reach: f64) -> RgbImage {
    let [from_width, from_height] = [picture.width(), picture.height()].map(|edge| edge as usize);
    // An axis that keeps its size is not filtered.
    let columns = (width != from_width).then(|| taps(from_width, width, weight, reach));
    let rows = (height != from_height).then(|| taps(from_height, height, weight, reach));
    let [less_high, less_wide] =
        [(from_height, height), (from_width, width)].map(|(from, to)| from as isize - to as isize);
    let down_first = less_high > 0 && less_high > 2 * less_wide;
    let source = |row: usize| &picture.as_raw()[row * from_width * 3..][..from_width * 3];
    let mut out = Vec::with_capacity(height * width * 3);
    match (rows, &columns) {
        (None, None) => out.extend_from_slice(picture.as_raw()),
        (None, Some(columns)) => (0..height).for_each(|row| across(source(row), columns, &mut out)),
        (Some(rows), None) => {
            let mut sums = vec![HALF; width * 3];
            for (first, weights) in rows {
                down((first..).map(source), &weights, &mut sums, &mut out);
            }
        }
        (Some(rows), Some(columns)) if down_first => {
            let (mut sums, mut made) = (vec![HALF; from_width * 3], Vec::with_capacity(from_width * 3));
            for (first, weights) in rows {
                made.clear();
                down((first..).map(source), &weights, &mut sums, &mut made);
                across(&made, columns, &mut out);
            }
        }
        (Some(rows), Some(columns)) => {
            // Rows that were filtered across and are needed still, from the row `begin` on.
            let (mut made, mut begin) = (VecDeque::<Vec<u8>>::new(), 0);
            let mut sums = vec![HALF; width * 3];
            for (first, weights) in rows {
                let mut spare = Vec::new();
                while begin < first {
                    spare.extend(made.pop_front());
                    begin += 1;
                }
                while made.len() < weights.len() {
                    let mut row = spare.pop().unwrap_or_default();
                    row.clear();
                    across(source(begin + made.len()), columns, &mut row);
                    made.push_back(row);
                }
                down(made.iter().map(Vec::as_slice), &weights, &mut sums, &mut out);
            }
        }
    }
    RgbImage::from_raw(width as u32, height as u32, out).expect("three bytes a pixel")
}

/// A row of weighted rows, of which there are at least as many as weights.
fn down<'a>(rows: impl Iterator<Item = &'a [u8]>, weights: &[i32], sums: &mut [i32], out: &mut Vec<u8>) {
    sums.fill(HALF);
    for (weight, row) in weights.iter().zip(rows) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += i32::from(*value) * weight;
        }
    }
    out.extend(sums.iter().map(|sum| level(*sum)));
}

/// Filters a row.
fn across(row: &[u8], columns: &[(usize, Vec<i32>)], out: &mut Vec<u8>) {
    let (row, _) = row.as_chunks::<3>();
    for (first, weights) in columns {
        let mut sums = [HALF; 3];
        for (pixel, weight) in row[*first..].iter().zip(weights) {
            for (sum, value) in sums.iter_mut().zip(pixel) {
                *sum += i32::from(*value) * weight;
            }
        }
        out.extend(sums.map(level));
    }
}

/// For each output sample, the index of the first of the two input samples around it, and the weights of both in
/// 2048ths. Columns stop at the border; rows repeat the border's pixels.
fn opencv_taps(from: usize, to: usize, column: bool) -> Vec<(isize, [i32; 2])> {
    let last = from as isize - 1;
    let tap = |at: usize| {
        let position = ((at as f64 + 0.5) * (from as f64 / to as f64) - 0.5) as f32;
        let (mut first, mut share) = (position.floor() as isize, position - position.floor());
        if column && first < 0 {
            (first, share) = (0, 0.0);
        } else if column && first >= last {
            (first, share) = (last, 0.0);
        }
        let weight = |share: f32| (share * 2048.0).round_ties_even() as i32;
        (first, [weight(1.0 - share), weight(share)])
    };
    (0..to).map(tap).collect()
}

/// OpenCV's linear resize of 8-bit pictures, bit for bit.
fn opencv(picture: &RgbImage, [height, width]: [usize; 2]) -> RgbImage {
    let (from_width, from_height) = picture.dimensions();
    let (from_width, from_height) = (from_width as usize, from_height as usize);
    let columns = opencv_taps(from_width, width, true);
    let source = picture.as_raw();
    let across = |row: usize| -> Vec<i32> {
        let row = &source[row * from_width * 3..][..from_width * 3];
        let value = |&(first, [a, b]): &(isize, [i32; 2]), channel: usize| {
            let (first, next) = (first as usize, (first as usize + 1).min(from_width - 1));
            a * i32::from(row[first * 3 + channel]) + b * i32::from(row[next * 3 + channel])
        };
        columns.iter().flat_map(|tap| (0..3).map(move |channel| value(tap, channel))).collect()
    };
    let rows = opencv_taps(from_height, height, false);
    let mut out = Vec::with_capacity(width * height * 3);
    // Neighbouring rows of the result read the same rows of the source.
    let mut made: [(usize, Vec<i32>); 2] = [(usize::MAX, vec![]), (usize::MAX, vec![])];
    for (first, [a, b]) in rows {
        let wanted = [first, first + 1].map(|row| row.clamp(0, from_height as isize - 1) as usize);
        if made[1].0 == wanted[0] {
            made.swap(0, 1);
        }
        for (made, wanted) in made.iter_mut().zip(wanted) {
            if made.0 != wanted {
                *made = (wanted, across(wanted));
            }
        }
        let [(_, above), (_, below)] = &made;
        let level = |(above, below): (&i32, &i32)| {
            let sum = ((a * (above >> 4)) >> 16) + ((b * (below >> 4)) >> 16);
            ((sum + 2) >> 2).clamp(0, 255) as u8
        };
        out.extend(above.iter().zip(below).map(level));
    }
    RgbImage::from_raw(width as u32, height as u32, out).expect("three bytes a pixel")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `fixtures/pillow/README.md` names the versions.
    #[test]
    fn resizing_is_pillows_to_the_bit() {
        let golden = fixtures::Golden::load("pillow").unwrap();
        let resized = &golden.json()["resize"];
        let picture = |name: &str| {
            let (shape, bytes) = golden.tensor_u8(name).unwrap();
            RgbImage::from_raw(shape[1] as u32, shape[0] as u32, bytes).unwrap()
        };
        let source = picture(resized["image"].as_str().unwrap());
        let cases = resized["cases"].as_object().unwrap();
        assert_eq!(cases.len(), 36);
        for (name, case) in cases {
            let filter = serde_json::from_value(case["filter"].clone()).unwrap();
            let size = [0, 1].map(|axis| case["size"][axis].as_u64().unwrap() as usize);
            let found = resize(&source, size, filter);
            assert!(found == picture(case["tensor"].as_str().unwrap()), "{name}");
        }
    }

    #[test]
    fn one_colour_stays_what_it_is() {
        let picture = RgbImage::from_pixel(7, 11, image::Rgb([0, 255, 77]));
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos, Filter::Box, Filter::Opencv] {
            for size in [[1, 1], [3, 40], [200, 2]] {
                let resized = resize(&picture, size, filter);
                assert!(resized.pixels().all(|pixel| pixel.0 == [0, 255, 77]), "{filter:?} {size:?}");
            }
        }
    }
}
