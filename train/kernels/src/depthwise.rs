//! Depthwise convolution with padding of half a kernel: 3×3 (also with stride 2), 5×5 and 7×7.
//!
//! A plane is copied into a frame of zeros; for stride 2 into four frames, by parity of row and column. Row ends then
//! run into the frame, so a whole plane is one long vector loop of any width: `out[i] = Σ weight · frame[i + offset]`.

use rayon::prelude::*;

use super::loops::{Dots, VECTOR, WeightedSum, dispatch};

/// Planes per task of a thread.
const SHARE: usize = 16;

/// Sizes of a plane before and after the convolution, and of its frames.
#[derive(Debug, Clone, Copy)]
pub struct Plane {
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
    /// Height after the convolution.
    pub out_height: usize,
    /// Width after the convolution.
    pub out_width: usize,
    pitch: usize,
}

impl Plane {
    /// The plane of a `kernel`×`kernel` convolution with padding of half a kernel; `None` if no loop supports it.
    pub fn new([height, width]: [usize; 2], kernel: usize, stride: usize) -> Option<Self> {
        let (out_height, out_width) = (height.div_ceil(stride), width.div_ceil(stride));
        let pitch = out_width + (kernel - 1) / stride;
        matches!((kernel, stride), (3 | 5 | 7, 1) | (3, 2)).then_some(Self {
            height,
            width,
            kernel,
            stride,
            out_height,
            out_width,
            pitch,
        })
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

    /// Rows and columns of a frame in addition to those of the output.
    fn rim(&self) -> usize {
        (self.kernel - 1) / self.stride
    }

    /// Length of a frame's vector loop.
    fn frame_length(&self) -> usize {
        ((self.out_height + self.rim()) * self.pitch).next_multiple_of(VECTOR)
    }

    /// The largest offset of a tap.
    fn reach(&self) -> usize {
        self.rim() * (self.pitch + 1)
    }

    /// The frame that a tap of the kernel reads, and its offset there.
    fn tap(&self, tap: usize) -> (usize, usize) {
        let (y, x, s) = (tap / self.kernel, tap % self.kernel, self.stride);
        (y % s * s + x % s, y / s * self.pitch + x / s)
    }

    fn frames(&self) -> Vec<Vec<f32>> {
        vec![vec![0.0; self.frame_length() + self.reach()]; self.stride * self.stride]
    }

    /// Calls `visit` for each run of neighbours in one frame, with the frame, the position in it and the position in
    /// the plane, which advances by the stride.
    fn runs(&self, mut visit: impl FnMut(usize, usize, usize, usize)) {
        let (s, padding) = (self.stride, self.kernel / 2);
        for y in 0..self.height {
            let row = (y + padding) / s * self.pitch;
            for x in 0..s.min(self.width) {
                let count = (self.width - x).div_ceil(s);
                let frame = (y + padding) % s * s + (x + padding) % s;
                visit(frame, row + (x + padding) / s, y * self.width + x, count);
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

    /// The frames at `N` taps from `first` on, with at least `length` values each.
    fn taps<'a, const N: usize>(&self, frames: &'a [Vec<f32>], first: usize) -> [&'a [f32]; N] {
        std::array::from_fn(|tap| {
            let (frame, offset) = self.tap(first + tap);
            &frames[frame][offset..]
        })
    }
}

/// `[batch, channels, height, width]` and weights `[channels, 1, kernel, kernel]` to `[batch, channels, out_height,
/// out_width]`.
pub fn forward(input: &[f32], weight: &[f32], plane: Plane) -> Vec<f32> {
    match plane.kernel {
        3 => forward_of::<9>(input, weight, plane),
        5 => forward_of::<25>(input, weight, plane),
        _ => forward_of::<49>(input, weight, plane),
    }
}

/// [`forward`] with `N` taps.
fn forward_of<const N: usize>(input: &[f32], weight: &[f32], plane: Plane) -> Vec<f32> {
    let (weights, _) = weight.as_chunks::<N>();
    let mut output = vec![0.0; input.len() / plane.size() * plane.out_size()];
    output.par_chunks_mut(SHARE * plane.out_size()).zip(input.par_chunks(SHARE * plane.size())).enumerate().for_each(
        |(share, (output, input))| {
            let mut frames = plane.frames();
            let mut sums = vec![0.0; plane.out_length()];
            let planes = output.chunks_exact_mut(plane.out_size()).zip(input.chunks_exact(plane.size()));
            for (k, (output, input)) in planes.enumerate() {
                plane.fill(&mut frames, input);
                let weights = weights[(share * SHARE + k) % weights.len()];
                dispatch(WeightedSum { taps: plane.taps(&frames, 0), weights, out: &mut sums });
                let rows = output.chunks_exact_mut(plane.out_width).zip(sums.chunks_exact(plane.pitch));
                rows.for_each(|(row, sums)| row.copy_from_slice(&sums[..plane.out_width]));
            }
        },
    );
    output
}

/// Gradients of input and weight from the output gradient.
pub fn backward(input: &[f32], weight: &[f32], grad: &[f32], plane: Plane) -> (Vec<f32>, Vec<f32>) {
    match plane.kernel {
        3 => backward_of::<9, 9>(input, weight, grad, plane),
        5 => backward_of::<25, 5>(input, weight, grad, plane),
        _ => backward_of::<49, 7>(input, weight, grad, plane),
    }
}

/// [`backward`] with `N` taps, computing the gradients of `G` weights at a time.
fn backward_of<const N: usize, const G: usize>(
    input: &[f32],
    weight: &[f32],
    grad: &[f32],
    plane: Plane,
) -> (Vec<f32>, Vec<f32>) {
    let (weights, _) = weight.as_chunks::<N>();
    let planes = input.len() / plane.size();
    let mut input_grad = vec![0.0; input.len()];
    // One row per plane, summed over the batch at the end, so that the order of the sum does not depend on threads.
    let mut partial = vec![0.0; planes * N];
    input_grad.par_chunks_mut(SHARE * plane.size()).zip(partial.par_chunks_mut(SHARE * N)).enumerate().for_each(
        |(share, (input_grad, partial))| {
            let first = share * SHARE;
            let mut frames = plane.frames();
            let mut grad_frames = plane.frames();
            let lead = plane.reach();
            let mut framed = vec![0.0; lead + plane.frame_length()];
            let tasks = input_grad.chunks_exact_mut(plane.size()).zip(partial.as_chunks_mut::<N>().0);
            for (k, (input_grad, partial)) in tasks.enumerate() {
                let index = first + k;
                plane.fill(&mut frames, &input[index * plane.size()..][..plane.size()]);
                let grad = &grad[index * plane.out_size()..][..plane.out_size()];
                let rows = framed[lead..].chunks_exact_mut(plane.pitch).zip(grad.chunks_exact(plane.out_width));
                rows.for_each(|(row, grad)| row[..plane.out_width].copy_from_slice(grad));
                let grad = &framed[lead..lead + plane.out_length()];
                for (group, partial) in partial.as_chunks_mut::<G>().0.iter_mut().enumerate() {
                    *partial = dispatch(Dots { taps: plane.taps(&frames, group * G), grad });
                }
                scatter(plane, &framed, &weights[index % weights.len()], &mut grad_frames);
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

/// Scatters the framed output gradient into all input frames: each frame sums the taps that read it.
fn scatter<const N: usize>(plane: Plane, framed: &[f32], weights: &[f32; N], frames: &mut [Vec<f32>]) {
    let (lead, length) = (plane.reach(), plane.frame_length());
    for (frame, out) in frames.iter_mut().enumerate() {
        let out = &mut out[..length];
        let mut taps = (0..N).filter(|&tap| plane.tap(tap).0 == frame);
        let mut next = || {
            let tap = taps.next().expect("a frame is read by as many taps as its parity allows");
            (&framed[lead - plane.tap(tap).1..], weights[tap])
        };
        match (plane.stride, frame) {
            (1, _) => weighted::<N>(&mut next, out),
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
