//! How features become an embedding: one definition for evaluation while training, for verification and for the device.

/// Adds the features of the mirrored pictures, where there are any, scales each part of each row to length 1, and the
/// whole row to length 1.
///
/// # Shapes
/// - `features`: `[rows, channels, parts]`, row-major; `parts` 1 for plain vectors
/// - `mirrored`: the same for the left-right mirrored pictures, or empty
/// - returns: `[rows, channels * parts]`; element `c * parts + p` is channel `c` of part `p`; L2 norm 1, or 0 for a
///   row whose
///   features are all 0
///
/// # Panics
/// If the lengths do not fit the shapes.
pub fn embed(features: &[f32], mirrored: &[f32], channels: usize, parts: usize) -> Vec<f32> {
    let dim = channels * parts;
    assert!(features.len().is_multiple_of(dim), "{} features do not make rows of {dim}", features.len());
    assert!(mirrored.is_empty() || mirrored.len() == features.len(), "as many mirrored features as features");
    let mut rows = features.to_vec();
    for (value, mirror) in rows.iter_mut().zip(mirrored) {
        *value += mirror;
    }
    for row in rows.chunks_exact_mut(dim) {
        for part in 0..parts {
            // The floor keeps a part of zeros at zero instead of NaN.
            let length = row.iter().skip(part).step_by(parts).map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            let scale = 1.0 / (length.max(1e-12) * (parts as f64).sqrt());
            row.iter_mut().skip(part).step_by(parts).for_each(|v| *v = (f64::from(*v) * scale) as f32);
        }
    }
    rows
}

/// Why a row cannot be compared with others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// NaN or an infinity, which every similarity with the row would be.
    #[error("the network's features of it are not finite")]
    NotFinite,
    /// Only zeros: the similarity with every other row is 0.
    #[error("the network's features of it are all 0, so that it is as similar to one as to another")]
    Zero,
}

/// Whether an embedding can be compared with others.
///
/// # Errors
/// See [`RowError`].
pub fn check(row: &[f32]) -> Result<(), RowError> {
    if !row.iter().all(|value| value.is_finite()) {
        Err(RowError::NotFinite)
    } else if row.iter().all(|value| *value == 0.0) {
        Err(RowError::Zero)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_cannot_be_compared_are_told_apart() {
        assert_eq!(check(&[0.0, 0.6, 0.8]), Ok(()));
        for row in [[f32::NAN, 0.0, 1.0], [0.0, f32::INFINITY, 0.0]] {
            assert_eq!(check(&embed(&row, &[], 3, 1)), Err(RowError::NotFinite));
        }
        assert_eq!(check(&embed(&[0.0; 3], &[], 3, 1)), Err(RowError::Zero));
    }

    #[test]
    fn parts_weigh_the_same_and_rows_have_unit_length() {
        // Two channels, two parts: part 0 is (3, 4) of length 5, part 1 is (0, 2) of length 2.
        let row = embed(&[3.0, 0.0, 4.0, 2.0], &[], 2, 2);
        let half = 0.5f32.sqrt();
        let expected = [0.6 * half, 0.0, 0.8 * half, half];
        assert!(row.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-7), "{row:?}");
    }

    #[test]
    fn mirrored_features_are_added_first() {
        assert_eq!(embed(&[1.0, 0.0], &[0.0, 1.0], 2, 1), embed(&[1.0, 1.0], &[], 2, 1));
    }

    #[test]
    fn zeros_stay_zero() {
        assert_eq!(embed(&[0.0; 6], &[], 2, 3), [0.0; 6]);
    }
}
