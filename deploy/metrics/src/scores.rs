//! How similar queries are to entries of the same and of different people.

use std::sync::{Mutex, PoisonError};

use crate::rank::check_labels;
use crate::verification::Histogram;
use crate::{Distances, JUNK, Label, MetricsError};

/// Bins of a cosine distance of 0 to 2, before those with pairs are joined into bars.
const BINS: usize = 2000;

/// Most bars of a histogram.
const BARS: usize = 50;

/// Shares of the cosine similarities of queries and entries of the same person, and of different people, in at most 50
/// bars of equal width. Pairs that the Market-1501 protocol leaves out do not count; `None` without pairs of both
/// kinds.
///
/// # Shapes
/// - `distance`: `[queries, gallery]`, 1 minus the similarity, so 0 to 2
/// - `query`: `[queries]`, `gallery`: `[gallery]`
///
/// # Errors
/// The number of labels does not match the distances.
pub fn similarities(
    distance: &impl Distances,
    query: &[Label],
    gallery: &[Label],
) -> Result<Option<Histogram>, MetricsError> {
    check_labels(distance, query, gallery)?;
    let sums = Mutex::new([vec![0_u64; BINS], vec![0_u64; BINS]]);
    distance.each(|i, row| {
        if query[i].identity == JUNK {
            return;
        }
        let mut counts = [vec![0_u32; BINS], vec![0_u32; BINS]];
        for (distance, entry) in row.iter().zip(gallery) {
            if let Some(right) = query[i].judge(*entry) {
                // The last bin is that of the most similar pairs.
                let bin = ((2.0 - distance) * (BINS as f32 / 2.0)).clamp(0.0, (BINS - 1) as f32) as usize;
                counts[usize::from(!right)][bin] += 1;
            }
        }
        let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
        let bins = sums.iter_mut().flatten().zip(counts.iter().flatten());
        bins.for_each(|(sum, count)| *sum += u64::from(*count));
    });
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    let [same, different] = sums.each_ref().map(|bins| bins.iter().sum::<u64>());
    if same == 0 || different == 0 {
        return Ok(None);
    }
    let filled: Vec<usize> = (0..BINS).filter(|bin| sums.iter().any(|bins| bins[*bin] > 0)).collect();
    let (first, last) = (filled[0], filled[filled.len() - 1]);
    let joined = (last + 1 - first).div_ceil(BARS);
    let bars = (last + 1 - first).div_ceil(joined);
    let shares = |bins: &[u64], all: u64| -> Vec<f64> {
        let bar = |bar: usize| bins.iter().skip(first + bar * joined).take(joined).sum::<u64>() as f64 / all as f64;
        (0..bars).map(bar).collect()
    };
    let edge = |bin: usize| bin as f32 / (BINS as f32 / 2.0) - 1.0;
    Ok(Some(Histogram {
        low: edge(first),
        high: edge(first + bars * joined),
        genuine: shares(&sums[0], same),
        impostor: shares(&sums[1], different),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Matrix;

    fn label(identity: i64, camera: i64) -> Label {
        Label { identity, camera }
    }

    /// Similarities 0.9 and 0.5 of the same person, 0.5 and 0.1 of others; junk and the same camera do not count.
    #[test]
    fn pairs_are_counted_as_the_protocol_judges_them() {
        let similarity = [0.9, 0.5, 0.5, 0.1, 0.99, 0.95, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3];
        let values = similarity.iter().map(|value| 1.0 - value).collect();
        let gallery = [label(1, 1), label(1, 2), label(2, 0), label(0, 3), label(1, 0), label(JUNK, 1)];
        let distance = Matrix::new(values, 2, 6).unwrap();
        let found = similarities(&distance, &[label(1, 0), label(JUNK, 0)], &gallery).unwrap().unwrap();
        assert!((found.low - 0.1).abs() < 2e-3 && (0.9..0.95).contains(&found.high), "{found:?}");
        assert!(found.genuine.len() <= 50 && found.genuine.len() == found.impostor.len());
        let width = (found.high - found.low) / found.genuine.len() as f32;
        for (shares, values) in [(&found.genuine, [0.5, 0.9]), (&found.impostor, [0.1, 0.5])] {
            let filled: Vec<usize> = (0..shares.len()).filter(|bar| shares[*bar] > 0.0).collect();
            assert_eq!(filled.iter().map(|bar| shares[*bar]).collect::<Vec<_>>(), [0.5, 0.5]);
            for (bar, value) in filled.into_iter().zip(values) {
                let left = found.low + bar as f32 * width;
                assert!((left - 2e-3..left + width + 2e-3).contains(&value), "{value} in bar {bar} of {found:?}");
            }
        }
        assert_eq!(similarities(&distance, &[label(7, 0), label(JUNK, 0)], &gallery).unwrap(), None);
        assert!(similarities(&distance, &[label(7, 0)], &gallery).is_err());
    }
}
