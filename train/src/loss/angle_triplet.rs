//! A triplet loss that considers poses: for each picture, the positive seen from the most different side, and the most
//! similar negative seen from nearly the same side.

use burn::tensor::{Device, Int, Tensor, TensorData, assert_shape};

use crate::nn::vector::cosine;

/// Positives further apart than this, in degrees, count `alpha` times.
const FAR: f64 = 45.0;

/// Negatives closer than this, in degrees, count `beta` times.
const NEAR: f64 = 15.0;

/// Added to every component of a difference before its length is computed, as in PyTorch's pairwise distance.
const OFFSET: f64 = 1e-6;

/// Weight of the reconstruction in the total.
pub const RECONSTRUCTION: f64 = 0.1;

/// Lower bound of the lengths that a cosine is divided by when negatives are chosen.
const SHORTEST: f64 = 1e-8;

/// Angle-weighted triplet loss with a reconstruction term.
#[derive(Debug, Clone, PartialEq)]
pub struct AngleTriplet {
    /// Margin in units of distance.
    pub margin: f64,
    /// Factor of triplets whose positive is more than 45 degrees away.
    pub alpha: f64,
    /// Factor of triplets whose negative is less than 15 degrees away.
    pub beta: f64,
    /// Negatives within this angle, in degrees, are chosen by similarity; if there are none, by angle.
    pub angle_threshold: f64,
    /// Whether differences of angles are taken the short way round, in (−180, 180].
    pub wrap_angles: bool,
}

impl Default for AngleTriplet {
    /// The defaults of the command line.
    fn default() -> Self {
        Self { margin: 0.3, alpha: 2.0, beta: 1.0, angle_threshold: 30.0, wrap_angles: false }
    }
}

/// The rows of a triplet, and its weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Triple {
    /// Row of the anchor.
    pub anchor: usize,
    /// Row with the same identity.
    pub positive: usize,
    /// Row with another identity.
    pub negative: usize,
    /// Weight, at least 0.
    pub weight: f64,
}

/// The parts of a batch's loss, each `[1]`.
#[derive(Debug, Clone)]
pub struct AngleTripletTerms {
    /// Mean over triplets; 0 if there are none.
    pub triplet: Tensor<1>,
    /// One minus the mean cosine to the originals, times 0.1; 0 if there are no triplets.
    pub reconstruction: Tensor<1>,
    /// Mean distances to positives and to negatives, without gradient; 0 if there are no triplets.
    pub distances: [Tensor<1>; 2],
    /// The triplets, at most one per row.
    pub triples: Vec<Triple>,
}

impl AngleTripletTerms {
    /// Sum of triplet and reconstruction.
    pub fn total(&self) -> Tensor<1> {
        self.triplet.clone() + self.reconstruction.clone()
    }
}

impl AngleTriplet {
    /// The triplets of a batch. The lowest row wins a tie.
    ///
    /// # Shapes
    /// - `features`: `[batch × dim]`, row after row
    /// - `identities`: `[batch]`
    /// - `angles`: `[batch × angles]`, row after row, in degrees
    ///
    /// # Panics
    /// If `features` or `angles` cannot be cut into one row per identity.
    pub fn select(&self, features: &[f32], identities: &[i64], angles: &[f32]) -> Vec<Triple> {
        let rows = identities.len();
        if rows == 0 {
            return Vec::new();
        }
        assert!(features.len().is_multiple_of(rows) && angles.len().is_multiple_of(rows), "as many rows of each");
        let feature = |row: usize| &features[row * (features.len() / rows)..][..features.len() / rows];
        let pose = |row: usize| &angles[row * (angles.len() / rows)..][..angles.len() / rows];
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let lengths: Vec<f64> = (0..rows).map(|i| dot(feature(i), feature(i)).sqrt().max(SHORTEST)).collect();
        let apart = |i: usize, j: usize| {
            let squares = pose(i).iter().zip(pose(j)).map(|(a, b)| self.difference(*a, *b).powi(2));
            squares.sum::<f64>().sqrt()
        };
        let alike = |i: usize, j: usize| dot(feature(i), feature(j)) / (lengths[i] * lengths[j]);
        // The first of equal ones: a later one must be strictly larger.
        let largest = |rows: &mut dyn Iterator<Item = (usize, f64)>| {
            rows.fold(None, |best: Option<(usize, f64)>, next| match best {
                Some(best) if best.1 >= next.1 => Some(best),
                _ => Some(next),
            })
        };
        let triple = |anchor: usize| {
            let others = || (0..rows).filter(|row| *row != anchor);
            let same = |row: &usize| identities[*row] == identities[anchor];
            let (positive, far) = largest(&mut others().filter(same).map(|row| (row, apart(anchor, row))))?;
            let negatives: Vec<(usize, f64)> =
                others().filter(|row| !same(row)).map(|row| (row, apart(anchor, row))).collect();
            let near = negatives.iter().filter(|(_, angle)| *angle < self.angle_threshold);
            let negative = largest(&mut near.map(|(row, _)| (*row, alike(anchor, *row))))
                .or_else(|| largest(&mut negatives.iter().map(|(row, angle)| (*row, -angle))))?
                .0;
            let mut weight = 1.0;
            if far > FAR {
                weight *= self.alpha;
            }
            if apart(anchor, negative) < NEAR {
                weight *= self.beta;
            }
            Some(Triple { anchor, positive, negative, weight })
        };
        (0..rows).filter_map(triple).collect()
    }

    fn difference(&self, a: f32, b: f32) -> f64 {
        let plain = f64::from(a) - f64::from(b);
        if self.wrap_angles { plain - 360.0 * (plain / 360.0).round() } else { plain }
    }

    /// The loss of one batch.
    ///
    /// # Shapes
    /// - `features`: `[batch, dim]`
    /// - `identities`: `[batch]`; rows with equal values are positives of each other
    /// - `angles`: `[batch × angles]`, row after row, in degrees
    /// - `originals`: `[batch, dim]`, which the features should stay close to; without it there is no reconstruction
    /// - returns: `[1]` each
    ///
    /// # Batch
    /// A row without a positive or without a negative gives no triplet. Without any triplet all terms are 0.
    ///
    /// # Panics
    /// If the batch sizes or widths differ.
    pub fn forward(
        &self,
        features: Tensor<2>,
        identities: &[i64],
        angles: &[f32],
        originals: Option<Tensor<2>>,
    ) -> AngleTripletTerms {
        assert_shape!(features, [identities.len(), _]);
        let values = super::pairs::constant(features.clone()).into_data().convert::<f32>();
        let triples = self.select(values.as_slice().expect("converted to f32"), identities, angles);
        let device = features.device();
        if triples.is_empty() {
            // Still a function of the features, so that a batch without triplets has a gradient of zeros.
            let zero = features.sum().mul_scalar(0.0);
            let distances = [zero.clone(), zero.clone()].map(super::pairs::constant);
            return AngleTripletTerms { triplet: zero.clone(), reconstruction: zero, distances, triples };
        }
        let rows = |row: fn(&Triple) -> usize| {
            let rows: Vec<i64> = triples.iter().map(|triple| row(triple) as i64).collect();
            features.clone().select(0, indices(rows, &device))
        };
        let anchor = rows(|triple| triple.anchor);
        let distance = |other: Tensor<2>| {
            let difference = (anchor.clone() - other).add_scalar(OFFSET);
            difference.square().sum_dim(1).sqrt().squeeze_dim::<1>(1)
        };
        let positive = distance(rows(|triple| triple.positive));
        let negative = distance(rows(|triple| triple.negative));
        let weights: Vec<f32> = triples.iter().map(|triple| triple.weight as f32).collect();
        let weights = Tensor::<1>::from_data(TensorData::new(weights, [triples.len()]), &device);
        let hinge = (positive.clone() - negative.clone()).add_scalar(self.margin).clamp_min(0.0);
        let distances = [positive, negative].map(|distance| super::pairs::constant(distance).mean());
        let triplet = (hinge * weights).mean();
        let reconstruction = match originals {
            Some(originals) => cosine(features, originals).mean().neg().add_scalar(1.0).mul_scalar(RECONSTRUCTION),
            None => triplet.zeros_like(),
        };
        AngleTripletTerms { triplet, reconstruction, distances, triples }
    }
}

fn indices(rows: Vec<i64>, device: &Device) -> Tensor<1, Int> {
    let count = rows.len();
    Tensor::from_data(TensorData::new(rows, [count]), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked by hand: rows 0 and 1 are one person at 170 and −175 degrees: 345 degrees apart, or 15 the short way
    /// round.
    #[test]
    fn angles_may_be_wrapped() {
        let features = [1.0f32, 0.0, 0.8, 0.6, 0.6, 0.8, 0.0, 1.0];
        let (identities, angles) = ([0, 0, 1, 1], [170.0f32, -175.0, 160.0, -170.0]);
        let weights = |wrap_angles| -> Vec<f64> {
            let loss = AngleTriplet { wrap_angles, ..AngleTriplet::default() };
            loss.select(&features, &identities, &angles).iter().map(|triple| triple.weight).collect()
        };
        assert_eq!(weights(false), [2.0; 4]);
        assert_eq!(weights(true), [1.0; 4]);
        let loss = AngleTriplet { wrap_angles: true, ..AngleTriplet::default() };
        assert_eq!((loss.difference(180.0, -180.0), loss.difference(-170.0, 170.0)), (0.0, 20.0));
    }

    #[test]
    fn ties_go_to_the_lowest_row() {
        let features = [1.0f32, 1.0, 1.0, 1.0, 1.0];
        let triples = AngleTriplet::default().select(&features, &[0, 0, 0, 1, 1], &[0.0; 5]);
        let found: Vec<_> = triples.iter().map(|t| (t.anchor, t.positive, t.negative)).collect();
        assert_eq!(found, [(0, 1, 3), (1, 0, 3), (2, 0, 3), (3, 4, 0), (4, 3, 0)]);
    }
}
