//! Average query expansion, Chum et al. 2007 (doi:10.1109/ICCV.2007.4408891).

use crate::{Distances, Matrix, MetricsError, Rows, cosine_distance, nearer};

/// A query with the mean of it and its nearest entries in its place, of unit length; the query itself if they cancel
/// each other out.
pub fn expanded<'a>(query: &[f32], nearest: impl IntoIterator<Item = &'a [f32]>) -> Vec<f32> {
    let mut sum: Vec<f64> = query.iter().map(|value| f64::from(*value)).collect();
    for entry in nearest {
        sum.iter_mut().zip(entry).for_each(|(sum, value)| *sum += f64::from(*value));
    }
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt();
    // Opposite rows may leave nothing.
    if length < 1e-6 { query.to_vec() } else { sum.iter().map(|value| (value / length) as f32).collect() }
}

/// All queries, each expanded by its `k` nearest gallery rows; of equally near ones the earlier.
///
/// # Shapes
/// - `query`: `[queries, embed_dim]`, `gallery`: `[gallery, embed_dim]`, rows of unit length
/// - returns: `[queries, embed_dim]`
///
/// # Errors
/// Different `embed_dim`, or a value that is not finite.
pub fn expand<'a>(query: impl Into<Rows<'a>>, gallery: impl Into<Rows<'a>>, k: usize) -> Result<Matrix, MetricsError> {
    let (query, gallery) = (query.into(), gallery.into());
    let rows = cosine_distance(query, gallery)?.each(|i, distances| {
        let mut order: Vec<usize> = (0..distances.len()).collect();
        let closer = |a: &usize, b: &usize| nearer((distances[*a], *a), (distances[*b], *b));
        if k < order.len() {
            order.select_nth_unstable_by(k, closer);
            order.truncate(k);
        }
        order.sort_unstable_by(closer);
        expanded(query.row(i), order.into_iter().map(|row| gallery.row(row)))
    });
    Matrix::new(rows.concat(), query.rows(), query.cols())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_moves_to_its_neighbours_by_hand() {
        let query = Matrix::new(vec![1.0, 0.0], 1, 2).unwrap();
        let gallery = Matrix::new(vec![0.0, 1.0, 0.6, 0.8, -1.0, 0.0], 3, 2).unwrap();
        let near = |found: &Matrix, wanted: [f32; 2]| {
            assert!(found.row(0).iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} for {wanted:?}");
        };
        // (1.6, 0.8) and (1.6, 1.8), by their lengths.
        near(&expand(&query, &gallery, 1).unwrap(), [1.6 / 3.2_f32.sqrt(), 0.8 / 3.2_f32.sqrt()]);
        near(&expand(&query, &gallery, 2).unwrap(), [1.6 / 5.8_f32.sqrt(), 1.8 / 5.8_f32.sqrt()]);
        near(&expand(&query, &gallery, 0).unwrap(), [1.0, 0.0]);
        near(&expand(&query, &gallery, 9).unwrap(), [0.6 / 3.6_f32.sqrt(), 1.8 / 3.6_f32.sqrt()]);
        assert_eq!(expanded(&[1.0, 0.0], [&[-1.0, 0.0][..]]), [1.0, 0.0], "nothing is left");
    }
}
