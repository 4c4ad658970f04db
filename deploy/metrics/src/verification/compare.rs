//! Compares all rows with all rows, in memory that grows with rows and threads, not with pairs.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::draws::{Drawing, Draws};
use super::groups::{Groups, Impostors, Unit};
use super::keys::{BINS, FINE_BITS, Sorted, bin, key};
use crate::distance::products;

/// Rows on the right side per comparison.
const STRIP: usize = 4096;

/// Similarities of a row to consecutive rows of one group.
struct Run<'a> {
    index: usize,
    group: usize,
    indices: Range<usize>,
    similarities: &'a [f32],
}

/// Calls `see` with the similarities of a unit's rows to the rows at `right`.
fn runs(groups: &Groups<'_>, unit: &Unit, right: Range<usize>, buffer: &mut Vec<f32>, mut see: impl FnMut(Run<'_>)) {
    for first in right.clone().step_by(STRIP) {
        let strip = first..right.end.min(first + STRIP);
        buffer.resize(unit.indices.len() * strip.len(), 0.0);
        products(groups.rows(unit.indices.clone()), groups.rows(strip.clone()), buffer);
        for (index, row) in unit.indices.clone().zip(buffer.chunks(strip.len())) {
            let mut at = strip.start;
            while at < strip.end {
                let group = groups.group_at[at] as usize;
                let indices = at..strip.end.min(groups.indices(group).end);
                let similarities = &row[indices.start - strip.start..indices.end - strip.start];
                at = indices.end;
                see(Run { index, group, indices, similarities });
            }
        }
    }
}

/// Distributes units over one worker per thread; each worker's state is created once.
fn share<T: Send>(units: &[Unit], state: impl Fn() -> T + Sync, work: impl Fn(&mut T, usize) + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let workers = rayon::current_num_threads().min(units.len()).max(1);
    (0..workers)
        .into_par_iter()
        .with_max_len(1)
        .map(|_| {
            let mut state = state();
            loop {
                let unit = next.fetch_add(1, Ordering::Relaxed);
                if unit >= units.len() {
                    return state;
                }
                work(&mut state, unit);
            }
        })
        .collect()
}

/// A row with its similarity to another row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Near {
    pub(super) similarity: f32,
    /// Row number of the caller.
    pub(super) row: usize,
}

impl Near {
    /// Ranks behind every row.
    const NONE: Self = Self { similarity: f32::NEG_INFINITY, row: usize::MAX };

    /// Whether it ranks before `other`: by similarity, then by row.
    pub(super) fn before(self, other: Self) -> bool {
        self.similarity > other.similarity || (self.similarity == other.similarity && self.row < other.row)
    }

    fn offer(&mut self, other: Self) {
        if other.before(*self) {
            *self = other;
        }
    }
}

/// The genuine pairs.
pub(super) struct Genuine {
    /// All similarities. Only this grows with the number of pairs, by 4 bytes each.
    pub(super) sorted: Sorted,
    pub(super) mean: f64,
    /// By index: similarity to the person's first row.
    pub(super) first: Vec<f32>,
    /// By index: the nearest other row of the person.
    pub(super) nearest: Vec<Near>,
}

/// Compares the rows of each person with each other.
pub(super) fn genuine(groups: &Groups<'_>) -> Genuine {
    let units = groups.units();
    let mut keys = vec![0_u32; groups.genuine() as usize];
    let (mut first, mut nearest) = (vec![0.0; groups.row_at.len()], vec![Near::NONE; groups.row_at.len()]);
    // Each unit writes its own part of each list.
    let mut parts = Vec::with_capacity(units.len());
    let (mut key_rest, mut first_rest, mut near_rest) = (&mut keys[..], &mut first[..], &mut nearest[..]);
    for unit in &units {
        let end = groups.indices(unit.group).end;
        let pairs = unit.indices.clone().map(|index| end - index - 1).sum();
        let (key_part, rest) = std::mem::take(&mut key_rest).split_at_mut(pairs);
        key_rest = rest;
        let (first_part, rest) = std::mem::take(&mut first_rest).split_at_mut(unit.indices.len());
        first_rest = rest;
        let (near_part, rest) = std::mem::take(&mut near_rest).split_at_mut(unit.indices.len());
        near_rest = rest;
        parts.push((unit, key_part, first_part, near_part));
    }
    let compare = |(unit, keys, first, nearest): (&Unit, &mut [u32], &mut [f32], &mut [Near])| {
        let (mut sum, mut at) = (0.0, 0);
        let indices = groups.indices(unit.group);
        let mut buffer = Vec::new();
        runs(groups, unit, indices.clone(), &mut buffer, |run| {
            let mine = run.index - unit.indices.start;
            if run.indices.start == indices.start {
                first[mine] = run.similarities[0];
            }
            for (index, &similarity) in run.indices.zip(run.similarities) {
                if index != run.index {
                    nearest[mine].offer(Near { similarity, row: groups.row_at[index] });
                }
                if index > run.index {
                    keys[at] = key(similarity);
                    at += 1;
                    sum += f64::from(similarity);
                }
            }
        });
        sum
    };
    // Sums in the order of the units, so that the mean does not depend on threads.
    let sums: Vec<f64> = parts.into_par_iter().map(compare).collect();
    let mean = sums.iter().sum::<f64>() / keys.len() as f64;
    keys.par_sort_unstable();
    Genuine { sorted: Sorted::new(keys), mean, first, nearest }
}

/// The first pass over impostor pairs: exact except for the similarities inside a coarse bin.
pub(super) struct Impostor {
    /// Pairs in each coarse bin.
    pub(super) coarse: Vec<u64>,
    pub(super) mean: f64,
    /// The area under the curve as a count: for each impostor pair, twice the genuine pairs above it plus those equal
    /// to it.
    pub(super) wins: u128,
    /// By index: number of first rows of other groups that rank before the first row of its own group.
    pub(super) closer: Vec<u32>,
    /// By index: the nearest row of another group.
    pub(super) stranger: Vec<Near>,
    /// Results of the bootstrap.
    pub(super) drawing: Option<Drawing>,
}

struct Seen<'a> {
    found: Impostor,
    drawing: Option<super::draws::Tally<'a>>,
    sums: Vec<(usize, f64)>,
    buffer: Vec<f32>,
}

/// Compares the rows of every two groups once. `impostors` selects the pairs that count; identification uses all.
pub(super) fn impostors(
    groups: &Groups<'_>,
    genuine: &Genuine,
    draws: Option<&Draws>,
    impostors: Impostors,
) -> Impostor {
    let (units, rows, samples) = (groups.units(), groups.row_at.len(), Groups::samples(impostors));
    let start = || Seen {
        found: Impostor {
            coarse: vec![0; BINS],
            mean: 0.0,
            wins: 0,
            closer: vec![0; rows],
            stranger: vec![Near::NONE; rows],
            drawing: None,
        },
        drawing: draws.map(Draws::tally),
        sums: Vec::new(),
        buffer: Vec::new(),
    };
    let work = |Seen { found, drawing, sums, buffer }: &mut Seen<'_>, number: usize| {
        let unit = &units[number];
        let (left, own) = (unit.group, groups.indices(unit.group));
        let mut sum = 0.0;
        runs(groups, unit, own.end..rows, buffer, |run| {
            if groups.distractor[left] && groups.distractor[run.group] {
                return;
            }
            let theirs = groups.indices(run.group);
            let mine = groups.row_at[run.index];
            for (index, &similarity) in run.indices.clone().zip(run.similarities) {
                found.stranger[run.index].offer(Near { similarity, row: groups.row_at[index] });
                found.stranger[index].offer(Near { similarity, row: mine });
                // The first row of each group is enrolled. Of equally similar ones, the earlier group's ranks first.
                if run.index == own.start && index > theirs.start {
                    found.closer[index] += u32::from(similarity >= genuine.first[index]);
                } else if run.index > own.start && index == theirs.start {
                    found.closer[run.index] += u32::from(similarity > genuine.first[run.index]);
                }
            }
            if run.index - own.start >= samples || !groups.are_impostors([left, run.group], impostors) {
                return;
            }
            for (_, &similarity) in run.indices.zip(run.similarities).take_while(|(at, _)| at - theirs.start < samples)
            {
                let key = key(similarity);
                found.coarse[bin(key)] += 1;
                sum += f64::from(similarity);
                let [below, upto] = genuine.sorted.rank(key);
                let (above, equal) = (genuine.sorted.keys().len() - upto, upto - below);
                found.wins += (2 * above + equal) as u128;
                if let Some(drawing) = drawing {
                    drawing.impostor(key, run.group);
                }
            }
            if let Some(drawing) = drawing {
                drawing.row_done(left);
            }
        });
        sums.push((number, sum));
        if let Some(drawing) = drawing {
            runs(groups, unit, unit.indices.start..own.end, buffer, |run| {
                for (index, &similarity) in run.indices.zip(run.similarities) {
                    if index > run.index {
                        drawing.genuine(key(similarity));
                    }
                }
            });
            drawing.unit_done(left);
        }
    };
    let seen = share(&units, start, work);
    let mut sums: Vec<(usize, f64)> = seen.iter().flat_map(|seen| &seen.sums).copied().collect();
    sums.sort_unstable_by_key(|(unit, _)| *unit);
    let mut seen = seen.into_iter();
    let Some(Seen { mut found, mut drawing, .. }) = seen.next() else { unreachable!("a worker at least") };
    for other in seen {
        found.coarse.iter_mut().zip(&other.found.coarse).for_each(|(sum, more)| *sum += more);
        found.wins += other.found.wins;
        found.closer.iter_mut().zip(&other.found.closer).for_each(|(sum, more)| *sum += more);
        found.stranger.iter_mut().zip(&other.found.stranger).for_each(|(best, near)| best.offer(*near));
        if let (Some(drawing), Some(other)) = (&mut drawing, other.drawing) {
            drawing.add(other);
        }
    }
    let pairs: u64 = found.coarse.iter().sum();
    found.mean = sums.iter().map(|(_, sum)| sum).sum::<f64>() / pairs as f64;
    found.drawing = drawing.map(super::draws::Tally::finish);
    found
}

/// Counts impostor pairs in every sample of `draws`, at its edges.
pub(super) fn count(groups: &Groups<'_>, draws: &Draws, impostors: Impostors) -> Drawing {
    let (units, samples) = (groups.units(), Groups::samples(impostors));
    let work = |(tally, buffer): &mut (super::draws::Tally<'_>, Vec<f32>), number: usize| {
        let unit = &units[number];
        let own = groups.indices(unit.group);
        runs(groups, unit, own.end..groups.row_at.len(), buffer, |run| {
            if run.index - own.start >= samples || !groups.are_impostors([unit.group, run.group], impostors) {
                return;
            }
            let theirs = groups.indices(run.group);
            for (_, &similarity) in run.indices.zip(run.similarities).take_while(|(at, _)| at - theirs.start < samples)
            {
                tally.impostor(key(similarity), run.group);
            }
            tally.row_done(unit.group);
        });
        tally.unit_done(unit.group);
    };
    let mut tally = draws.tally();
    for (other, _) in share(&units, || (draws.tally(), Vec::new()), work) {
        tally.add(other);
    }
    tally.finish()
}

/// The second pass over impostor pairs: pairs by key in selected coarse bins, and bars of the histogram.
pub(super) struct Refined {
    /// Selected coarse bins, ascending.
    pub(super) bins: Vec<usize>,
    /// Pairs with each key of each selected bin.
    counts: Vec<u64>,
    /// Pairs in each bar.
    pub(super) bars: Vec<u64>,
}

impl Refined {
    /// Pairs by key in a coarse bin, ascending; `None` if the bin was not selected.
    pub(super) fn keys(&self, bin: usize) -> Option<impl DoubleEndedIterator<Item = (u32, u64)>> {
        let slot = self.bins.binary_search(&bin).ok()?;
        let counts = &self.counts[slot << FINE_BITS..(slot + 1) << FINE_BITS];
        let first = (bin as u32) << FINE_BITS;
        Some(
            counts
                .iter()
                .enumerate()
                .map(move |(at, count)| (first + at as u32, *count))
                .filter(|(_, count)| *count > 0),
        )
    }
}

/// Counts impostor pairs by key within `bins`, and by `bar` of `bars`.
pub(super) fn refine(
    groups: &Groups<'_>,
    bins: Vec<usize>,
    bars: usize,
    bar: impl Fn(f32) -> usize + Sync,
    impostors: Impostors,
) -> Refined {
    const NOT_ASKED: u32 = u32::MAX;
    let (units, samples) = (groups.units(), Groups::samples(impostors));
    let mut slots = vec![NOT_ASKED; BINS];
    bins.iter().enumerate().for_each(|(slot, bin)| slots[*bin] = slot as u32);
    let start = || (vec![0_u64; bins.len() << FINE_BITS], vec![0_u64; bars], Vec::new());
    let work = |(counts, bars, buffer): &mut (Vec<u64>, Vec<u64>, Vec<f32>), number: usize| {
        let unit = &units[number];
        let own = groups.indices(unit.group);
        runs(groups, unit, own.end..groups.row_at.len(), buffer, |run| {
            if run.index - own.start >= samples || !groups.are_impostors([unit.group, run.group], impostors) {
                return;
            }
            let theirs = groups.indices(run.group);
            for (_, &similarity) in run.indices.zip(run.similarities).take_while(|(at, _)| at - theirs.start < samples)
            {
                let key = key(similarity);
                let slot = slots[bin(key)];
                if slot != NOT_ASKED {
                    counts[(slot as usize) << FINE_BITS | (key & ((1 << FINE_BITS) - 1)) as usize] += 1;
                }
                bars[bar(similarity)] += 1;
            }
        });
    };
    let mut found = Refined { counts: vec![0; bins.len() << FINE_BITS], bars: vec![0; bars], bins: bins.clone() };
    for (counts, bars, _) in share(&units, start, work) {
        found.counts.iter_mut().zip(counts).for_each(|(sum, more)| *sum += more);
        found.bars.iter_mut().zip(bars).for_each(|(sum, more)| *sum += more);
    }
    found
}
