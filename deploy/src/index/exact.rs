//! Exact search: every probe against every row, in blocks that stay in the processor's cache.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use metrics::Rows;
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

/// Collects the similarities of one probe.
pub trait Collect: Send {
    /// Takes the similarity of a row. Rows come in any order, each once.
    fn take(&mut self, row: usize, similarity: f32);

    /// Adds what was collected from other rows.
    fn merge(self, other: Self) -> Self;
}

/// Collects at most `k` hits, the best ones.
#[derive(Default)]
pub struct Best {
    heap: BinaryHeap<Worst>,
    k: usize,
}

impl Best {
    /// Holds `k` hits at most.
    pub fn new(k: usize) -> Self {
        Self { heap: BinaryHeap::new(), k }
    }

    /// Takes a hit if it is one of the best.
    pub fn offer(&mut self, hit: Hit) {
        if self.heap.len() < self.k {
            self.heap.push(Worst(hit));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && best_first(&hit, &worst.0) == Ordering::Less
        {
            *worst = Worst(hit);
        }
    }

    /// The best of both.
    pub fn merge(mut self, other: Self) -> Self {
        other.heap.into_iter().for_each(|Worst(hit)| self.offer(hit));
        self
    }

    /// The hits, best first.
    pub fn ranked(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|Worst(hit)| hit).collect()
    }
}

/// Probes that are compared with a block at a time.
const PROBES: usize = 32;

/// Compares every probe with every row and passes each similarity to a collector of the probe. `start` makes the
/// collectors, one per probe and thread. `compared` is called with numbers of compared pairs, from any thread.
///
/// # Shapes
/// - `probes`: `[probes, dim]`, `gallery`: `[rows, dim]`, both of unit length and finite
/// - returns: a collector per probe
///
/// # Panics
/// If the rows of the two differ in length.
pub fn scan<C: Collect>(
    probes: Rows<'_>,
    gallery: Rows<'_>,
    start: impl Fn(usize) -> C + Sync,
    compared: impl Fn(usize) + Sync,
) -> Vec<C> {
    let empty = || (0..probes.rows()).map(&start).collect::<Vec<_>>();
    let block_rows = (BLOCK / gallery.cols().max(1)).max(1);
    (0..gallery.rows().div_ceil(block_rows))
        .into_par_iter()
        .fold(empty, |mut collectors, block| {
            let rows = block * block_rows..gallery.rows().min((block + 1) * block_rows);
            let values = gallery.slice(rows.clone());
            let mut similarities = vec![0.0; PROBES.min(probes.rows()) * rows.len()];
            for first in (0..probes.rows()).step_by(PROBES) {
                let some = first..probes.rows().min(first + PROBES);
                let similarities = &mut similarities[..some.len() * rows.len()];
                metrics::products(probes.slice(some.clone()), values, similarities);
                for (collector, similarities) in collectors[some].iter_mut().zip(similarities.chunks_exact(rows.len()))
                {
                    for (row, &similarity) in rows.clone().zip(similarities.iter()) {
                        collector.take(row, similarity);
                    }
                }
            }
            compared(probes.rows() * rows.len());
            collectors
        })
        .reduce(empty, |a, b| a.into_iter().zip(b).map(|(a, b)| a.merge(b)).collect())
}

/// [`Best`] with a lowest similarity.
struct AtLeast {
    best: Best,
    min: Option<f32>,
}

impl Collect for AtLeast {
    fn take(&mut self, row: usize, similarity: f32) {
        if self.min.is_none_or(|min| similarity >= min) {
            self.best.offer(Hit { row, similarity });
        }
    }

    fn merge(self, other: Self) -> Self {
        Self { best: self.best.merge(other.best), ..self }
    }
}

/// The `k` rows nearest to each probe, best first, rows of equal similarity in their order.
///
/// # Shapes
/// - `probes`: `[probes, dim]`, `gallery`: `[rows, dim]`, both of unit length and finite
/// - returns: per probe at most `k` hits with a similarity of at least `min_similarity`
///
/// # Panics
/// If the rows of the two differ in length.
pub fn top_k(probes: Rows<'_>, gallery: Rows<'_>, k: usize, min_similarity: Option<f32>) -> Vec<Vec<Hit>> {
    let start = |_| AtLeast { best: Best::new(k), min: min_similarity };
    scan(probes, gallery, start, |_| ()).into_iter().map(|found| found.best.ranked()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit_rows(name: &str, rows: usize, dim: usize) -> Vec<f32> {
        contract::embedding::embed(&contract::fill::fill(&format!("input.{name}"), &[rows, dim]), &[], dim, 1)
    }

    fn rows(values: &[f32], dim: usize) -> Rows<'_> {
        Rows::new(values, values.len() / dim, dim).unwrap()
    }

    /// The plain sum in double precision: an oracle that shares no code with what it judges.
    fn plain(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    }

    #[test]
    fn equals_a_full_sort() {
        // Lengths with every kind of tail behind whole registers.
        for dim in [1, 3, 7, 18, 20, 64, 100] {
            let (probes, mut gallery) = (unit_rows("probes", 5, dim), unit_rows("gallery", 3000, dim));
            // Duplicates far apart: ties are broken by row, not by thread.
            let first = gallery[..dim].to_vec();
            for row in [17, 1500, 2999] {
                gallery[row * dim..][..dim].copy_from_slice(&first);
            }
            let all: Vec<Vec<Hit>> = top_k(rows(&probes, dim), rows(&gallery, dim), 5000, None);
            for (probe, found) in probes.chunks_exact(dim).zip(&all) {
                assert_eq!(found.len(), 3000);
                for Hit { row, similarity } in found {
                    let wanted = plain(probe, &gallery[row * dim..][..dim]);
                    assert!((f64::from(*similarity) - wanted).abs() < 1e-6, "dim {dim}: {similarity}, {wanted}");
                }
                assert!(found.is_sorted_by(|a, b| best_first(a, b) == Ordering::Less), "dim {dim}");
                let mut seen: Vec<usize> = found.iter().map(|hit| hit.row).collect();
                seen.sort_unstable();
                assert!(seen.into_iter().eq(0..3000), "every row once");
                let twins: Vec<usize> =
                    found.iter().map(|hit| hit.row).filter(|row| [0, 17, 1500, 2999].contains(row)).collect();
                assert_eq!(twins, [0, 17, 1500, 2999]);
            }
            for k in [1, 10] {
                let few = top_k(rows(&probes, dim), rows(&gallery, dim), k, None);
                assert!(few.iter().zip(&all).all(|(few, all)| few[..] == all[..k]), "dim {dim}, k {k}");
            }
        }
    }

    #[test]
    fn a_probe_finds_the_same_bits_alone_and_in_a_crowd() {
        let (probes, gallery) = (unit_rows("probes", 70, 19), unit_rows("gallery", 333, 19));
        let crowd = top_k(rows(&probes, 19), rows(&gallery, 19), 9, None);
        for (probe, crowd) in probes.chunks_exact(19).zip(crowd) {
            let alone = top_k(rows(probe, 19), rows(&gallery, 19), 9, None).swap_remove(0);
            assert_eq!(alone, crowd);
            for hit in alone {
                assert_eq!(hit.similarity, metrics::dot(probe, &gallery[hit.row * 19..][..19]));
            }
        }
    }

    #[test]
    fn threshold_is_inclusive_and_empty_galleries_have_no_hits() {
        let (probe, gallery) = ([1.0, 0.0], [1.0, 0.0, 0.0, 1.0, 0.5, 0.5]);
        let hits = top_k(rows(&probe, 2), rows(&gallery, 2), 9, Some(0.5));
        assert_eq!(hits[0].iter().map(|hit| hit.row).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(top_k(rows(&probe, 2), rows(&[], 2), 9, None), [vec![]]);
        assert_eq!(top_k(rows(&probe, 2), rows(&probe, 2), 0, None), [vec![]]);
    }
}
