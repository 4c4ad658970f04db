//! Exact search: every probe against every row, in blocks that stay in the processor's cache.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::{Hit, best_first};

/// Values of a block of rows: 256 KiB.
const BLOCK: usize = 1 << 16;

/// The hit that [`best_first`] puts last is the greatest: the one a full heap gives up.
struct Worst(Hit);

impl PartialEq for Worst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Worst {}

impl PartialOrd for Worst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Worst {
    fn cmp(&self, other: &Self) -> Ordering {
        best_first(&self.0, &other.0)
    }
}

/// At most `k` hits, the best so far.
struct Best {
    heap: BinaryHeap<Worst>,
    k: usize,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { heap: BinaryHeap::new(), k }
    }

    fn offer(&mut self, hit: Hit) {
        if self.heap.len() < self.k {
            self.heap.push(Worst(hit));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && best_first(&hit, &worst.0) == Ordering::Less
        {
            *worst = Worst(hit);
        }
    }

    fn merge(mut self, other: Self) -> Self {
        other.heap.into_iter().for_each(|Worst(hit)| self.offer(hit));
        self
    }

    fn ranked(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|Worst(hit)| hit).collect()
    }
}

/// The `k` rows nearest to each probe, best first, rows of equal similarity in their order.
///
/// # Shapes
/// - `probes`: `[probes, dim]`, `gallery`: `[rows, dim]`, both of unit length and finite
/// - returns: per probe at most `k` hits with a similarity of at least `min_similarity`
///
/// # Panics
/// If `dim` is 0 or a length is no multiple of it.
pub fn top_k(probes: &[f32], gallery: &[f32], dim: usize, k: usize, min_similarity: Option<f32>) -> Vec<Vec<Hit>> {
    assert!(dim > 0 && probes.len().is_multiple_of(dim) && gallery.len().is_multiple_of(dim), "whole rows of {dim}");
    let empty = || probes.chunks_exact(dim).map(|_| Best::new(k)).collect::<Vec<_>>();
    let block_rows = (BLOCK / dim).max(1);
    let best = gallery
        .par_chunks(block_rows * dim)
        .enumerate()
        .fold(empty, |mut best, (block, rows)| {
            for (best, probe) in best.iter_mut().zip(probes.chunks_exact(dim)) {
                for (row, values) in rows.chunks_exact(dim).enumerate() {
                    let similarity = dot(probe, values);
                    if min_similarity.is_none_or(|min| similarity >= min) {
                        best.offer(Hit { row: block * block_rows + row, similarity });
                    }
                }
            }
            best
        })
        .reduce(empty, |a, b| a.into_iter().zip(b).map(|(a, b)| a.merge(b)).collect());
    best.into_iter().map(Best::ranked).collect()
}

/// Dot product. Sixteen sums side by side let the compiler use vector registers, always in the same order.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (blocks_a, blocks_b) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = blocks_a.remainder().iter().zip(blocks_b.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in blocks_a.zip(blocks_b) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit_rows(name: &str, rows: usize, dim: usize) -> Vec<f32> {
        contract::embedding::embed(&contract::fill::fill(&format!("input.{name}"), &[rows, dim]), &[], dim, 1)
    }

    #[test]
    fn equals_a_full_sort() {
        for dim in [1, 7, 64, 100] {
            let (probes, mut gallery) = (unit_rows("probes", 5, dim), unit_rows("gallery", 3000, dim));
            // Duplicates far apart: ties are broken by row, not by thread.
            let first = gallery[..dim].to_vec();
            for row in [17, 1500, 2999] {
                gallery[row * dim..][..dim].copy_from_slice(&first);
            }
            for k in [1, 10, 5000] {
                let found = top_k(&probes, &gallery, dim, k, None);
                for (probe, found) in probes.chunks_exact(dim).zip(found) {
                    let rows = gallery.chunks_exact(dim).enumerate();
                    let mut all: Vec<_> = rows.map(|(row, v)| Hit { row, similarity: dot(probe, v) }).collect();
                    all.sort_by(best_first);
                    all.truncate(k);
                    assert_eq!(found, all, "dim {dim}, k {k}");
                }
            }
        }
    }

    #[test]
    fn threshold_is_inclusive_and_empty_galleries_have_no_hits() {
        let hits = top_k(&[1.0, 0.0], &[1.0, 0.0, 0.0, 1.0, 0.5, 0.5], 2, 9, Some(0.5));
        assert_eq!(hits[0].iter().map(|hit| hit.row).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(top_k(&[1.0, 0.0], &[], 2, 9, None), [vec![]]);
        assert_eq!(top_k(&[1.0, 0.0], &[1.0, 0.0], 2, 0, None), [vec![]]);
    }
}
