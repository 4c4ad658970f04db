//! Approximate search: from rows that a probe is nearest to among a few, along their neighbours to nearer ones.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use macerator::{AutoArch, Simd, WithSimd};
use metrics::Rows;

use super::reduced::Probes;
use crate::segment::{Codes, Graph};

/// Rows that are looked at to begin with, spread over all.
const STARTS: usize = 512;

/// Nearest of them, from which the walk goes on.
const GOOD_STARTS: usize = 8;

/// Bytes that come out of memory together.
const LINE: usize = 64;

/// A row and about how similar it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Step {
    pub(crate) similarity: f32,
    pub(crate) row: u32,
}

impl Eq for Step {}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Step {
    fn cmp(&self, other: &Self) -> Ordering {
        self.similarity.total_cmp(&other.similarity).then(other.row.cmp(&self.row))
    }
}

/// Looks for the `effort` rows nearest to a probe, `[1, dim]`, that pass. `codes` gives a row, or none if it cannot be
/// relied on: then there is no answer.
pub(crate) fn walk<'a>(
    graph: &Graph,
    probe: Rows<'_>,
    effort: usize,
    codes: impl Fn(usize) -> Option<Codes<'a>>,
    passes: impl Fn(u32) -> bool,
) -> Option<Vec<Step>> {
    AutoArch::new().dispatch(Walk { graph, probe: &Probes::new(probe), effort, codes, passes })
}

struct Walk<'b, C, P> {
    graph: &'b Graph,
    probe: &'b Probes<'b>,
    effort: usize,
    codes: C,
    passes: P,
}

impl<'a, C: Fn(usize) -> Option<Codes<'a>>, P: Fn(u32) -> bool> WithSimd for Walk<'_, C, P> {
    type Output = Option<Vec<Step>>;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> Option<Vec<Step>> {
        let Self { graph, probe, effort, codes, passes } = self;
        let rows = graph.rows();
        let mut seen = vec![0_u64; rows.div_ceil(64)];
        let mut new = |row: usize| {
            let (word, bit) = (&mut seen[row / 64], 1 << (row % 64));
            let new = *word & bit == 0;
            *word |= bit;
            new
        };
        let step = |row: usize| {
            let similarity = probe.product(codes(row)?);
            Some(Step { similarity, row: row as u32 })
        };
        let starts = (0..rows).step_by(rows.div_ceil(STARTS).max(1)).map(step);
        let mut starts = starts.collect::<Option<Vec<Step>>>()?;
        // The nearest first, the farthest of the best first.
        let mut open: BinaryHeap<Step> = BinaryHeap::new();
        let mut best: BinaryHeap<Reverse<Step>> = BinaryHeap::new();
        let keep = |best: &mut BinaryHeap<Reverse<Step>>, step: Step| {
            if passes(step.row) {
                best.push(Reverse(step));
                if best.len() > effort {
                    best.pop();
                }
            }
        };
        for start in &starts {
            new(start.row as usize);
            keep(&mut best, *start);
        }
        starts.sort_unstable_by(|a, b| b.cmp(a));
        open.extend(starts.into_iter().take(GOOD_STARTS));
        let mut next = Vec::new();
        while let Some(nearest) = open.pop() {
            if best.len() >= effort && best.peek().is_some_and(|Reverse(last)| nearest < *last) {
                break;
            }
            next.clear();
            for row in graph.neighbours(nearest.row as usize).iter().map(|row| *row as usize) {
                if row < rows && new(row) {
                    let codes = codes(row)?;
                    // The first loads of all rows are on their way before one is waited for.
                    let bytes = codes.bytes();
                    std::hint::black_box(bytes.iter().step_by(LINE).fold(0, |any, byte| any | byte));
                    next.push((row as u32, codes));
                }
            }
            for (row, codes) in next.drain(..) {
                let step = Step { similarity: probe.product(codes), row };
                if best.len() < effort || best.peek().is_some_and(|Reverse(last)| step > *last) {
                    open.push(step);
                    keep(&mut best, step);
                }
            }
        }
        Some(best.into_sorted_vec().into_iter().map(|Reverse(step)| step).collect())
    }
}
