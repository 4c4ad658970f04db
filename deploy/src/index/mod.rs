//! Finds the gallery rows nearest to a probe. [`exact`] is the default, and the oracle for anything approximate.

pub mod exact;

use std::cmp::Ordering;

/// A gallery row and its cosine similarity to a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Row of the gallery.
    pub row: usize,
    /// Cosine similarity, -1 to 1.
    pub similarity: f32,
}

/// Best first; rows of equal similarity in the gallery's order, so that an answer never depends on threads.
pub fn best_first(a: &Hit, b: &Hit) -> Ordering {
    b.similarity.total_cmp(&a.similarity).then(a.row.cmp(&b.row))
}
