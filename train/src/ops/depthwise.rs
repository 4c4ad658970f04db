//! Depthwise 3×3 convolution, padding 1, stride 1 or 2.
//!
//! A plane is copied into a frame of zeros, for stride 2 into four frames by parity of row and column. Row ends then run into the
//! frame, so that a whole plane is one long vector loop whatever its width: `out[i] = Σ weight · frame[i + offset]`.

use rayon::prelude::*;

use super::kernels::{NineDots, VECTOR, WeightedSum, dispatch};

/// Planes of one thread's task.
const SHARE: usize = 16;

/// Sizes of a plane before and after, and of its frames.
#[derive(Debug, Clone, Copy)]
pub struct Plane {
    height: usize,
    width: usize,
    stride: usize,
    /// Height after the convolution.
    pub out_height: usize,
    /// Width after the convolution.
    pub out_width: usize,
    pitch: usize,
}

impl Plane {
    /// # Panics
    /// If `stride` is not 1 or 2.
    pub fn new(height: usize, width: usize, stride: usize) -> Self {
        assert!(matches!(stride, 1 | 2), "stride 1 or 2, not {stride}");
        let (out_height, out_width) = (height.div_ceil(stride), width.div_ceil(stride));
        Self { height, width, stride, out_height, out_width, pitch: out_width + 2 / stride }
    }

    fn size(&self) -> usize {
        self.height * self.width
    }

    fn out_size(&self) -> usize {
        self.out_height * self.out_width
    }

    /// Length of the vector loop over outputs.
    fn out_length(&self) -> usize {
        (self.out_height * self.pitch).next_multiple_of(VECTOR)
    }

    /// Length of a frame's vector loop.
    fn frame_length(&self) -> usize {
        ((self.out_height + 2 / self.stride) * self.pitch).next_multiple_of(VECTOR)
    }

    /// The largest offset of a tap.
    fn reach(&self) -> usize {
        2 / self.stride * (self.pitch + 1)
    }

    /// Frame and offset that a tap of the kernel reads at.
    fn tap(&self, tap: usize) -> (usize, usize) {
        let (y, x, s) = (tap / 3, tap % 3, self.stride);
        (y % s * s + x % s, y / s * self.pitch + x / s)
    }

    fn frames(&self) -> Vec<Vec<f32>> {
        vec![vec![0.0; self.frame_length() + self.reach()]; self.stride * self.stride]
    }

    /// Calls `visit` with frame, position there and position in the plane for runs of neighbours of one frame; the plane's
    /// positions advance by the stride.
    fn runs(&self, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let s = self.stride;
        for y in 0..self.height {
            let row = (y + 1) / s * self.pitch;
            for x in 0..s.min(self.width) {
                let count = (self.width - x).div_ceil(s);
                visit((y + 1) % s * s + (x + 1) % s, row + (x + 1) / s, y * self.width + x, count);
            }
        }
    }

    fn fill(&self, frames: &mut [Vec<f32>], plane: &[f32]) {
        self.runs(|frame, to, from, count| {
            let to = &mut frames[frame][to..to + count];
            match self.stride {
                1 => to.copy_from_slice(&plane[from..from + count]),
                s => to.iter_mut().zip(plane[from..].iter().step_by(s)).for_each(|(to, from)| *to = *from),
            }
        });
    }

    /// The frames at the nine taps, `length` values and more each.
    fn taps<'a>(&self, frames: &'a [Vec<f32>]) -> [&'a [f32]; 9] {
        std::array::from_fn(|tap| {
            let (frame, offset) = self.tap(tap);
            &frames[frame][offset..]
        })
    }
}

fn kernel(weight: &[f32], channel: usize) -> [f32; 9] {
    weight.as_chunks::<9>().0[channel]
}

/// `[batch, channels, height, width]` and weights `[channels, 1, 3, 3]` to `[batch, channels, out_height, out_width]`.
pub fn forward(input: &[f32], weight: &[f32], plane: Plane) -> Vec<f32> {
    let channels = weight.len() / 9;
    let mut output = vec![0.0; input.len() / plane.size() * plane.out_size()];
    output.par_chunks_mut(SHARE * plane.out_size()).zip(input.par_chunks(SHARE * plane.size())).enumerate().for_each(
        |(share, (output, input))| {
            let mut frames = plane.frames();
            let mut sums = vec![0.0; plane.out_length()];
            let planes = output.chunks_exact_mut(plane.out_size()).zip(input.chunks_exact(plane.size()));
            for (k, (output, input)) in planes.enumerate() {
                plane.fill(&mut frames, input);
                let weights = kernel(weight, (share * SHARE + k) % channels);
                dispatch(WeightedSum { taps: plane.taps(&frames), weights, out: &mut sums });
                let rows = output.chunks_exact_mut(plane.out_width).zip(sums.chunks_exact(plane.pitch));
                rows.for_each(|(row, sums)| row.copy_from_slice(&sums[..plane.out_width]));
            }
        },
    );
    output
}

/// Gradients of input and weight, given that of the output.
pub fn backward(input: &[f32], weight: &[f32], grad: &[f32], plane: Plane) -> (Vec<f32>, Vec<f32>) {
    let channels = weight.len() / 9;
    let planes = input.len() / plane.size();
    let mut input_grad = vec![0.0; input.len()];
    // One row per plane, summed over the batch at the end: the order of that sum must not depend on threads.
    let mut partial = vec![0.0; planes * 9];
    input_grad.par_chunks_mut(SHARE * plane.size()).zip(partial.par_chunks_mut(SHARE * 9)).enumerate().for_each(
        |(share, (input_grad, partial))| {
            let first = share * SHARE;
            let mut frames = plane.frames();
            let mut grad_frames = plane.frames();
            let lead = plane.reach();
            let mut framed = vec![0.0; lead + plane.frame_length()];
            let tasks = input_grad.chunks_exact_mut(plane.size()).zip(partial.as_chunks_mut::<9>().0);
            for (k, (input_grad, partial)) in tasks.enumerate() {
                let index = first + k;
                plane.fill(&mut frames, &input[index * plane.size()..][..plane.size()]);
                let grad = &grad[index * plane.out_size()..][..plane.out_size()];
                let rows = framed[lead..].chunks_exact_mut(plane.pitch).zip(grad.chunks_exact(plane.out_width));
                rows.for_each(|(row, grad)| row[..plane.out_width].copy_from_slice(grad));
                let taps = plane.taps(&frames);
                *partial = dispatch(NineDots { taps, grad: &framed[lead..lead + plane.out_length()] });
                let weights = kernel(weight, index % channels);
                scatter(plane, &framed, weights, &mut grad_frames);
                plane.runs(|frame, from, to, count| {
                    let from = &grad_frames[frame][from..from + count];
                    match plane.stride {
                        1 => input_grad[to..to + count].copy_from_slice(from),
                        s => input_grad[to..].iter_mut().step_by(s).zip(from).for_each(|(to, from)| *to = *from),
                    }
                });
            }
        },
    );
    let mut weight_grad = vec![0.0; weight.len()];
    for sample in partial.chunks_exact(weight.len()) {
        weight_grad.iter_mut().zip(sample).for_each(|(sum, value)| *sum += value);
    }
    (input_grad, weight_grad)
}

/// The framed output gradient to every input frame: each frame sums the taps that read it.
fn scatter(plane: Plane, framed: &[f32], weights: [f32; 9], frames: &mut [Vec<f32>]) {
    let (lead, length) = (plane.reach(), plane.frame_length());
    for (frame, out) in frames.iter_mut().enumerate() {
        let out = &mut out[..length];
        let mut taps = (0..9).filter(|&tap| plane.tap(tap).0 == frame);
        let mut next = || {
            let tap = taps.next().expect("a frame is read by as many taps as its parity allows");
            (&framed[lead - plane.tap(tap).1..], weights[tap])
        };
        match (plane.stride, frame) {
            (1, _) => weighted::<9>(&mut next, out),
            (_, 0) => weighted::<4>(&mut next, out),
            (_, 1 | 2) => weighted::<2>(&mut next, out),
            _ => weighted::<1>(&mut next, out),
        }
    }
}

fn weighted<'a, const N: usize>(next: &mut impl FnMut() -> (&'a [f32], f32), out: &mut [f32]) {
    let pairs: [(&[f32], f32); N] = std::array::from_fn(|_| next());
    dispatch(WeightedSum { taps: pairs.map(|pair| pair.0), weights: pairs.map(|pair| pair.1), out });
}
