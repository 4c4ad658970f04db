//! Renewable templates: embeddings turned by a rotation that a key chooses, one of so many that without the key it is
//! as good as random. Turned embeddings are as similar to each other as they were, so they are searched as they are;
//! turned by two keys they are as similar as strangers. A stolen gallery is made worthless by turning it anew.
//!
//! Up to [`DENSE`] values the rotation is a matrix, drawn evenly among all there are: Gaussian rows made orthogonal one
//! after the other. Longer rows go through [`ROUNDS`] rounds of random signs and Hadamard transforms, of the first and
//! then of the last values (as many as a power of two allows, at least half of them each), and a random order, which
//! cost about as many operations as values times their logarithm.

use metrics::Rows;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Values up to which the rotation is a matrix.
const DENSE: usize = 256;

/// Rounds of signs, transforms and orders.
const ROUNDS: usize = 5;

/// A rotation of rows of so many values, and how to undo it.
pub(crate) struct Turn {
    dim: usize,
    way: Way,
}

enum Way {
    /// `[dim, dim]`, row-major; its rows are orthogonal and of unit length.
    Matrix(Zeroizing<Vec<f64>>),
    Rounds(Vec<Round>),
}

struct Round {
    /// 1 or -1 for each value, before the first transform and before the second: without the latter two transforms of
    /// almost the same values would almost undo each other.
    signs: [Zeroizing<Vec<f64>>; 2],
    /// Which value goes to each place.
    order: Zeroizing<Vec<u32>>,
}

impl std::fmt::Debug for Turn {
    /// Without what the key chose.
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Turn").field("dim", &self.dim).finish_non_exhaustive()
    }
}

/// Numbers that a key chooses: SHA-256 of the key and a counter.
struct Stream<'a> {
    key: &'a [u8; 32],
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl<'a> Stream<'a> {
    fn new(key: &'a [u8; 32]) -> Self {
        Self { key, counter: 0, block: [0; 32], used: 32 }
    }

    fn next(&mut self) -> u64 {
        if self.used == 32 {
            let mut hash = Sha256::new();
            hash.update(b"vitrine turn 1");
            hash.update(self.key);
            hash.update(self.counter.to_le_bytes());
            self.block = hash.finalize().into();
            (self.counter, self.used) = (self.counter + 1, 0);
        }
        let bytes = self.block[self.used..self.used + 8].try_into().expect("eight bytes");
        self.used += 8;
        u64::from_le_bytes(bytes)
    }

    /// Above 0 and at most 1.
    fn fraction(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// From the normal distribution (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.fraction().ln()).sqrt() * (std::f64::consts::TAU * self.fraction()).cos()
    }
}

impl Turn {
    pub(crate) fn new(key: &[u8; 32], dim: usize) -> Self {
        let mut stream = Stream::new(key);
        let way = if dim <= DENSE {
            Way::Matrix(Zeroizing::new(orthogonal(&mut stream, dim)))
        } else {
            Way::Rounds((0..ROUNDS).map(|_| Round::new(&mut stream, dim)).collect())
        };
        Self { dim, way }
    }

    /// Rows turned. Their similarities are what they were, but for the rounding to float32 of each value: at most
    /// 2^-23.
    pub(crate) fn turned(&self, rows: Rows<'_>) -> Vec<f32> {
        self.each(rows.data(), |row| self.forward(row))
    }

    /// Rows turned back.
    pub(crate) fn back(&self, values: &[f32]) -> Vec<f32> {
        self.each(values, |row| self.backward(row))
    }

    fn each(&self, values: &[f32], work: impl Fn(&mut Vec<f64>) + Sync) -> Vec<f32> {
        let mut all = values.to_vec();
        all.par_chunks_exact_mut(self.dim).for_each(|row| {
            let mut wide = Zeroizing::new(row.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>());
            work(&mut wide);
            row.iter_mut().zip(wide.iter()).for_each(|(value, wide)| *value = *wide as f32);
        });
        all
    }

    fn forward(&self, row: &mut Vec<f64>) {
        match &self.way {
            Way::Matrix(matrix) => {
                let dot = |line: &[f64]| line.iter().zip(row.iter()).map(|(a, b)| a * b).sum();
                *row = matrix.chunks_exact(self.dim).map(dot).collect();
            }
            Way::Rounds(rounds) => rounds.iter().for_each(|round| {
                let part = part(self.dim);
                multiply(row, &round.signs[0]);
                hadamard(&mut row[..part]);
                if part < self.dim {
                    multiply(row, &round.signs[1]);
                    hadamard(&mut row[self.dim - part..]);
                }
                *row = round.order.iter().map(|at| row[*at as usize]).collect();
            }),
        }
    }

    fn backward(&self, row: &mut Vec<f64>) {
        match &self.way {
            Way::Matrix(matrix) => {
                let mut back = vec![0.0; self.dim];
                for (line, value) in matrix.chunks_exact(self.dim).zip(row.iter()) {
                    back.iter_mut().zip(line).for_each(|(back, entry)| *back += value * entry);
                }
                *row = back;
            }
            Way::Rounds(rounds) => rounds.iter().rev().for_each(|round| {
                let mut back = vec![0.0; self.dim];
                round.order.iter().zip(row.iter()).for_each(|(at, value)| back[*at as usize] = *value);
                let part = part(self.dim);
                if part < self.dim {
                    hadamard(&mut back[self.dim - part..]);
                    multiply(&mut back, &round.signs[1]);
                }
                hadamard(&mut back[..part]);
                multiply(&mut back, &round.signs[0]);
                *row = back;
            }),
        }
    }
}

impl Round {
    fn new(stream: &mut Stream<'_>, dim: usize) -> Self {
        let mut signs = || -> Zeroizing<Vec<f64>> {
            Zeroizing::new((0..dim).map(|_| if stream.next() >> 63 == 0 { 1.0 } else { -1.0 }).collect())
        };
        let signs = [signs(), signs()];
        let mut order: Vec<u32> = (0..dim as u32).collect();
        for at in (1..dim).rev() {
            // Off by less than 2^-48 from even: there are at most 2^16 values.
            order.swap(at, (stream.next() % (at as u64 + 1)) as usize);
        }
        Self { signs, order: Zeroizing::new(order) }
    }
}

fn multiply(values: &mut [f64], signs: &[f64]) {
    values.iter_mut().zip(signs).for_each(|(value, sign)| *value *= sign);
}

/// The largest power of two that is not above `dim`.
fn part(dim: usize) -> usize {
    1 << dim.ilog2()
}

/// The Hadamard transform, which is its own reverse.
fn hadamard(values: &mut [f64]) {
    let mut half = 1;
    while half < values.len() {
        for pair in values.chunks_exact_mut(2 * half) {
            let (left, right) = pair.split_at_mut(half);
            for (left, right) in left.iter_mut().zip(right) {
                (*left, *right) = (*left + *right, *left - *right);
            }
        }
        half *= 2;
    }
    let scale = 1.0 / (values.len() as f64).sqrt();
    values.iter_mut().for_each(|value| *value *= scale);
}

/// A matrix of orthogonal rows of unit length, drawn evenly among all (Stewart 1980): Gram and Schmidt's method on
/// normal rows, twice for the sake of rounding.
fn orthogonal(stream: &mut Stream<'_>, dim: usize) -> Vec<f64> {
    let mut matrix: Vec<f64> = Vec::with_capacity(dim * dim);
    while matrix.len() < dim * dim {
        let mut row: Vec<f64> = (0..dim).map(|_| stream.normal()).collect();
        for _ in 0..2 {
            for before in matrix.chunks_exact(dim) {
                let along: f64 = before.iter().zip(&row).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(before).for_each(|(value, before)| *value -= along * before);
            }
        }
        let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        // Rows that happen to depend on each other are drawn again.
        if length > 1e-6 {
            matrix.extend(row.iter().map(|value| value / length));
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(seed: u64, rows: usize, dim: usize) -> Vec<f32> {
        let key = [seed as u8; 32];
        let mut stream = Stream::new(&key);
        let mut all = Vec::new();
        for _ in 0..rows {
            let row: Vec<f64> = (0..dim).map(|_| stream.normal()).collect();
            let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
            all.extend(row.iter().map(|value| (value / length) as f32));
        }
        all
    }

    /// For any number of values: powers of two, odd ones, one, those of networks in use.
    #[test]
    fn a_turn_keeps_similarities_and_is_undone() {
        for dim in [1, 2, 3, 7, 64, 255, 256, 257, 300, 512, 1000, 2048, 3584] {
            let turn = Turn::new(&[7; 32], dim);
            let values = unit(1, 6, dim);
            let rows = Rows::new(&values, 6, dim).unwrap();
            let turned = turn.turned(rows);
            let same = Rows::new(&turned, 6, dim).unwrap();
            for a in 0..6 {
                for b in 0..6 {
                    let (was, is) = (wide(rows.row(a), rows.row(b)), wide(same.row(a), same.row(b)));
                    assert!((was - is).abs() <= 2.0_f64.powi(-23) + 1e-12, "{dim}: {was} became {is}");
                }
            }
            let worst = |one: &[f32], other: &[f32]| {
                one.iter().zip(other).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
            };
            assert!(worst(&turn.back(&turned), &values) <= 2.0_f64.powi(-22), "{dim}");
            assert_eq!(Turn::new(&[7; 32], dim).turned(rows), turned, "the same in every process");
            if dim > 7 {
                assert!(worst(&turned, &values) > 0.1 / (dim as f64).sqrt(), "{dim} values are turned at all");
            }
        }
    }

    fn wide(one: &[f32], other: &[f32]) -> f64 {
        one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    /// A single value spreads over all of them, whichever it is.
    #[test]
    fn every_value_goes_everywhere() {
        for dim in [200, 257, 512, 3000, 3584] {
            let turn = Turn::new(&[9; 32], dim);
            for at in [0, 1, dim / 2, dim - 1] {
                let mut row = vec![0.0; dim];
                row[at] = 1.0;
                let turned = turn.turned(Rows::new(&row, 1, dim).unwrap());
                let largest = turned.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
                // The largest of so many normal numbers is about 4 times their spread.
                assert!(f64::from(largest) < 7.0 / (dim as f64).sqrt(), "{dim}: value {at}: {largest}");
                assert!(turned.iter().filter(|value| **value != 0.0).count() > dim * 9 / 10, "{dim}: value {at}");
            }
        }
    }
}
