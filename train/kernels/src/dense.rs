//! Convolution without groups as matrix products. Patches are written while the product packs its operand; the whole
//! patch matrix never exists.

use rayon::prelude::*;

use super::loops::{Columns, Packed, outer_sum, product};

/// Sizes of a convolution. Kernel, stride and padding may differ by axis (rows first).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Height and width of the input.
    pub size: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Steps of the kernel.
    pub stride: [usize; 2],
    /// Rows and columns of zeros on each side.
    pub padding: [usize; 2],
}

impl Geometry {
    /// Height and width of the output.
    pub fn out_size(&self) -> [usize; 2] {
        std::array::from_fn(|k| (self.size[k] + 2 * self.padding[k] - self.kernel[k]) / self.stride[k] + 1)
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn pixels(&self) -> usize {
        self.size[0] * self.size[1]
    }

    fn out_pixels(&self) -> usize {
        self.out_size().iter().product()
    }

    /// Whether the patches are the pixels themselves.
    fn is_plain(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }
}

/// A matrix in memory, row by row.
struct Plain<'a> {
    values: &'a [f32],
    width: usize,
}

impl Columns for Plain<'_> {
    #[inline(always)]
    fn fill(&self, row: usize, first: usize, out: &mut [f32]) {
        out.copy_from_slice(&self.values[row * self.width + first..][..out.len()]);
    }

    #[inline(always)]
    fn contiguous(&self, row: usize, first: usize, count: usize) -> Option<&[f32]> {
        Some(&self.values[row * self.width + first..][..count])
    }
}

/// The patches that the kernel sees: one row per channel and tap, one column per output pixel.
struct Patches<'a> {
    image: &'a [f32],
    geometry: Geometry,
}

impl Columns for Patches<'_> {
    fn fill(&self, row: usize, first: usize, out: &mut [f32]) {
        let Geometry { size: [height, width], kernel, stride, padding, .. } = self.geometry;
        let [_, out_width] = self.geometry.out_size();
        let (channel, tap) = (row / self.geometry.taps(), row % self.geometry.taps());
        let image = &self.image[channel * height * width..][..height * width];
        for_rows(first, out, out_width, |y, x, out| {
            let source = (y * stride[0] + tap / kernel[1]).checked_sub(padding[0]).filter(|&y| y < height);
            let row = source.map_or(&[][..], |y| &image[y * width..][..width]);
            let start = (x * stride[1] + tap % kernel[1]) as isize - padding[1] as isize;
            match stride[1] {
                1 => copy_shifted(row, start, out),
                // Known to the compiler, which then reads whole vectors.
                2 => copy_strided(row, start, 2, out),
                stride => copy_strided(row, start, stride, out),
            }
        });
    }
}

/// The output gradient that the input of a convolution without stride sees: one row per output channel and tap, one
/// column per input pixel.
struct Spread<'a> {
    grad: &'a [f32],
    geometry: Geometry,
}

impl Columns for Spread<'_> {
    fn fill(&self, row: usize, first: usize, out: &mut [f32]) {
        let Geometry { size: [_, width], kernel, padding, .. } = self.geometry;
        let [out_height, out_width] = self.geometry.out_size();
        let (channel, tap) = (row / self.geometry.taps(), row % self.geometry.taps());
        let image = &self.grad[channel * out_height * out_width..][..out_height * out_width];
        for_rows(first, out, width, |y, x, out| {
            let source = (y + padding[0]).checked_sub(tap / kernel[1]).filter(|&y| y < out_height);
            let row = source.map_or(&[][..], |y| &image[y * out_width..][..out_width]);
            copy_shifted(row, (x + padding[1]) as isize - (tap % kernel[1]) as isize, out);
        });
    }
}

/// Splits the pixels from `first` on into rows of `width`: calls `visit` with row, column and the row's part of `out`.
fn for_rows(first: usize, mut out: &mut [f32], width: usize, mut visit: impl FnMut(usize, usize, &mut [f32])) {
    let (mut y, mut x) = (first / width, first % width);
    while !out.is_empty() {
        let (row, rest) = out.split_at_mut((width - x).min(out.len()));
        visit(y, x, row);
        (out, y, x) = (rest, y + 1, 0);
    }
}

/// `out[k] = row[start + k]`, 0 outside the row.
fn copy_shifted(row: &[f32], start: isize, out: &mut [f32]) {
    let before = ((-start).max(0) as usize).min(out.len());
    let from = start.max(0) as usize;
    let count = row.len().saturating_sub(from).min(out.len() - before);
    out[..before].fill(0.0);
    if count > 0 {
        out[before..before + count].copy_from_slice(&row[from..from + count]);
    }
    out[before + count..].fill(0.0);
}

/// `out[k] = row[start + k stride]`, 0 outside the row.
#[inline(always)]
fn copy_strided(row: &[f32], start: isize, stride: usize, out: &mut [f32]) {
    let before = ((-start).max(0) as usize).div_ceil(stride).min(out.len());
    let from = start + (before * stride) as isize;
    let (left_out, rest) = out.split_at_mut(before);
    left_out.fill(0.0);
    let row = usize::try_from(from).ok().and_then(|from| row.get(from..)).unwrap_or_default();
    let (inside, outside) = rest.split_at_mut(row.len().div_ceil(stride).min(rest.len()));
    inside.iter_mut().zip(row.iter().step_by(stride)).for_each(|(out, value)| *out = *value);
    outside.fill(0.0);
}

/// Forward pass: `[batch, input, height, width]` and weights `[output, input, kernel]` to `[batch, output, out_height,
/// out_width]`.
pub fn forward(input: &[f32], weight: &[f32], geometry: Geometry) -> Vec<f32> {
    let depth = geometry.input * geometry.taps();
    let left = Packed::new(geometry.output, depth, |row, k| weight[row * depth + k]);
    let samples = input.chunks_exact(geometry.input * geometry.pixels());
    let width = geometry.out_pixels();
    let mut output = vec![0.0; samples.len() * geometry.output * width];
    if geometry.is_plain() {
        product(&left, &samples.map(|values| Plain { values, width }).collect::<Vec<_>>(), width, &mut output);
    } else {
        product(&left, &samples.map(|image| Patches { image, geometry }).collect::<Vec<_>>(), width, &mut output);
    }
    output
}

/// Gradient of the input from the output gradient.
pub fn input_grad(weight: &[f32], grad: &[f32], geometry: Geometry) -> Vec<f32> {
    if geometry.stride != [1, 1] {
        return transposed(grad, weight, geometry);
    }
    let taps = geometry.taps();
    let left = Packed::new(geometry.input, geometry.output * taps, |row, k| {
        weight[(k / taps * geometry.input + row) * taps + k % taps]
    });
    let samples = grad.chunks_exact(geometry.output * geometry.out_pixels());
    let width = geometry.pixels();
    let mut result = vec![0.0; samples.len() * geometry.input * width];
    if geometry.is_plain() {
        product(&left, &samples.map(|values| Plain { values, width }).collect::<Vec<_>>(), width, &mut result);
    } else {
        product(&left, &samples.map(|grad| Spread { grad, geometry }).collect::<Vec<_>>(), width, &mut result);
    }
    result
}

/// The transpose of [`forward`]: `[batch, output, out_height, out_width]` to `[batch, input, height, width]`. Computes
/// the sums from the contributions of each output pixel, without multiplying the zeros that a stride puts between
/// pixels.
pub fn transposed(input: &[f32], weight: &[f32], geometry: Geometry) -> Vec<f32> {
    let rows = geometry.input * geometry.taps();
    let left = Packed::new(rows, geometry.output, |row, k| weight[k * rows + row]);
    let width = geometry.out_pixels();
    let samples: Vec<_> = input.chunks_exact(geometry.output * width).map(|values| Plain { values, width }).collect();
    let mut contributions = vec![0.0; samples.len() * rows * width];
    product(&left, &samples, width, &mut contributions);

    let [height, across] = geometry.size;
    let [out_height, out_width] = geometry.out_size();
    let mut result = vec![0.0; samples.len() * geometry.input * geometry.pixels()];
    let planes = result.par_chunks_mut(geometry.pixels()).zip(contributions.par_chunks(geometry.taps() * width));
    planes.for_each(|(plane, taps)| {
        for (tap, values) in taps.chunks_exact(width).enumerate() {
            let (down, right) = (tap / geometry.kernel[1], tap % geometry.kernel[1]);
            for y in 0..out_height {
                let row = (y * geometry.stride[0] + down).checked_sub(geometry.padding[0]).filter(|row| *row < height);
                let Some(row) = row else { continue };
                let (row, values) = (&mut plane[row * across..][..across], &values[y * out_width..][..out_width]);
                // The first pixel whose contribution is inside the row, and the column of that contribution.
                let stride = geometry.stride[1];
                let first = geometry.padding[1].saturating_sub(right).div_ceil(stride);
                let place = first * stride + right - geometry.padding[1];
                if place < across && first < out_width {
                    let places = row[place..].iter_mut().step_by(stride);
                    places.zip(&values[first..]).for_each(|(sum, value)| *sum += value);
                }
            }
        }
    });
    result
}

/// Gradient of the weight from the output gradient.
pub fn weight_grad(input: &[f32], grad: &[f32], geometry: Geometry) -> Vec<f32> {
    let depth = geometry.input * geometry.taps();
    let samples = input.chunks_exact(geometry.input * geometry.pixels());
    let width = geometry.out_pixels();
    if geometry.is_plain() {
        let plain: Vec<_> = samples.map(|values| Plain { values, width }).collect();
        outer_sum(grad, geometry.output, &plain, depth, width)
    } else {
        let patches: Vec<_> = samples.map(|image| Patches { image, geometry }).collect();
        outer_sum(grad, geometry.output, &patches, depth, width)
    }
}

/// The 1×1 convolution of single pixels: `[batch, input]` and weights `[output, input]` to `[batch, output]`. The bits
/// of a row do not depend on the other rows.
pub fn single(input: &[f32], weight: &[f32], geometry: Geometry) -> Vec<f32> {
    let width = geometry.input;
    outer_sum(input, input.len() / width, &[Plain { values: weight, width }], geometry.output, width)
}

/// Gradients of [`single`]'s input and weight from the output gradient.
pub fn single_grads(input: &[f32], weight: &[f32], grad: &[f32], geometry: Geometry) -> (Vec<f32>, Vec<f32>) {
    let (width, outputs) = (geometry.input, geometry.output);
    let batch = input.len() / width;
    let (mut input_grad, mut weight_grad) = (vec![0.0; input.len()], vec![0.0; weight.len()]);
    let by_sample = Packed::new(batch, outputs, |row, k| grad[row * outputs + k]);
    product(&by_sample, &[Plain { values: weight, width }], width, &mut input_grad);
    let by_output = Packed::new(outputs, batch, |row, k| grad[k * outputs + row]);
    product(&by_output, &[Plain { values: input, width }], width, &mut weight_grad);
    (input_grad, weight_grad)
}
