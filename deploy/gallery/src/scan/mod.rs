//! Exact search: every probe against every row, by products that are fast and only about right, and the few rows that
//! may be the nearest once more by [`metrics::dot`]. The answer has the bits of a plain scan.

mod best;
mod kernel;
mod reduced;
#[cfg(feature = "ann")]
mod walk;

use std::ops::Range;

use metrics::Rows;
use rayon::prelude::*;

use std::convert::Infallible;

use best::{Best, Candidate};
use kernel::{Passed, Probes};

#[cfg(feature = "ann")]
pub(crate) use walk::walk;

use crate::segment::Codes;

/// Rows that are searched in one piece of memory.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// `[rows, dim]`.
    pub(crate) values: Rows<'a>,
    /// Those of them that are searched, in order.
    pub(crate) runs: Vec<Range<usize>>,
}

/// What holds the rows.
pub(crate) trait Source: Sync {
    /// Why there is no answer.
    type Error: Send;

    /// Called before rows of a part are read for the first time in a search.
    fn touch(&self, part: usize, rows: Range<usize>) -> Result<(), Self::Error>;

    /// The same rows in eight bits, where they can be relied on: then they are read instead.
    fn codes(&self, _part: usize, _rows: Range<usize>) -> Option<Codes<'_>> {
        None
    }

    /// The similarity that counts.
    fn similarity(&self, probe: &[f32], part: usize, row: usize) -> Result<f32, Self::Error>;
}

/// A row that was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Found {
    pub(crate) part: usize,
    pub(crate) row: usize,
    pub(crate) similarity: f32,
}

/// A row of a matrix that is near a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    /// Its number, from 0.
    pub row: usize,
    /// Cosine similarity to the probe, -1 to 1: the bits of [`metrics::dot`].
    pub similarity: f32,
}

/// The `k` rows nearest to each probe, for rows in memory: of pictures that were just embedded, or of an older gallery.
/// Best first, equal ones in their order. Answers do not depend on the processor or the number of threads.
///
/// # Shapes
/// - `rows`: `[rows, dim]`, `probes`: `[probes, dim]`, finite, none longer than 1.001 (not checked: of longer rows one
///   of the nearest may be missing)
/// - returns: for each probe at most `k` rows with a similarity of at least `min_similarity`
///
/// # Panics
/// If the rows of the two differ in length, or there are more than 2^32.
pub fn nearest_rows(rows: Rows<'_>, probes: Rows<'_>, k: usize, min_similarity: Option<f32>) -> Vec<Vec<Near>> {
    let Ok(found) = nearest(&Plain(rows), &[Plain(rows).part(probes)], probes, k, min_similarity);
    let near = |found: Found| Near { row: found.row, similarity: found.similarity };
    found.into_iter().map(|found| found.into_iter().map(near).collect()).collect()
}

/// For each probe and each of its `marks`, which are rows with their similarities, best first: how many of the rows
/// that are `counted` for the probe come before it and after the mark before. What CMC and average precision are made
/// of.
///
/// # Panics
/// As [`nearest_rows`]; if there are not as many lists of marks as probes.
pub fn nearer_rows(
    rows: Rows<'_>,
    probes: Rows<'_>,
    marks: &[Vec<Near>],
    counted: impl Fn(usize, usize) -> bool + Sync,
) -> Vec<Vec<u64>> {
    assert!(marks.len() == probes.rows(), "{} lists of marks for {} probes", marks.len(), probes.rows());
    let mark = |near: &Near| (near.similarity, near.row as u64);
    let marks: Vec<Vec<(f32, u64)>> = marks.iter().map(|marks| marks.iter().map(mark).collect()).collect();
    let key = |probe, _, row| Ok(counted(probe, row).then_some(row as u64));
    let Ok(counts) = nearer(&Plain(rows), &[Plain(rows).part(probes)], probes, &marks, key);
    counts
}

/// Rows in memory, which do not change.
struct Plain<'a>(Rows<'a>);

impl<'a> Plain<'a> {
    fn part(&self, probes: Rows<'_>) -> Part<'a> {
        let rows = self.0;
        assert!(probes.cols() == rows.cols(), "probes of {} values, rows of {}", probes.cols(), rows.cols());
        assert!(u32::try_from(rows.rows()).is_ok(), "{} rows", rows.rows());
        Part { values: rows, runs: Vec::from_iter((rows.rows() > 0).then_some(0..rows.rows())) }
    }
}

impl Source for Plain<'_> {
    type Error = Infallible;

    fn touch(&self, _: usize, _: Range<usize>) -> Result<(), Infallible> {
        Ok(())
    }

    fn similarity(&self, probe: &[f32], _: usize, row: usize) -> Result<f32, Infallible> {
        Ok(metrics::dot(probe, self.0.row(row)))
    }
}

/// Rows of a tile: what a thread takes at a time.
const TILE: usize = 1024;

/// Probes that a thread compares at a time: packed, they stay in the second cache.
const PROBES: usize = 256;

/// Probes a thread has to have for itself to be worth it.
const MANY: usize = 64;

/// Pieces of rows that are compared together.
struct Tile {
    pieces: Vec<(u32, Range<usize>)>,
    rows: usize,
}

/// Cuts the rows that are searched into tiles.
fn tiles(parts: &[Part<'_>]) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut open = Tile { pieces: Vec::new(), rows: 0 };
    let close = |tile: &mut Tile, tiles: &mut Vec<Tile>| {
        let empty = Tile { pieces: Vec::new(), rows: 0 };
        tiles.extend(Some(std::mem::replace(tile, empty)).filter(|tile| tile.rows > 0));
    };
    for (part, rows) in parts.iter().enumerate() {
        for run in &rows.runs {
            // Long runs are used where they are; short ones are collected.
            if run.len() >= TILE / 2 {
                let whole = (run.start..run.end).step_by(TILE).map(|at| at..run.end.min(at + TILE));
                tiles.extend(whole.map(|rows| Tile { rows: rows.len(), pieces: vec![(part as u32, rows)] }));
                continue;
            }
            open.rows += run.len();
            open.pieces.push((part as u32, run.clone()));
            if open.rows >= TILE {
                close(&mut open, &mut tiles);
            }
        }
    }
    close(&mut open, &mut tiles);
    tiles
}

/// The `k` rows nearest to each probe: best first, equal ones by part and row.
///
/// # Shapes
/// - `probes`: `[probes, dim]`, of unit length like the rows of `parts`
/// - returns: for each probe at most `k` rows with a similarity of at least `min_similarity`
pub(crate) fn nearest<S: Source>(
    source: &S,
    parts: &[Part<'_>],
    probes: Rows<'_>,
    k: usize,
    min_similarity: Option<f32>,
) -> Result<Vec<Vec<Found>>, S::Error> {
    let tiles = tiles(parts);
    let rows: usize = tiles.iter().map(|tile| tile.rows).sum();
    let k = k.min(rows);
    if k == 0 || probes.rows() == 0 {
        return Ok(vec![Vec::new(); probes.rows()]);
    }
    let room = if reduced::worth_it(probes.rows()) { 16 } else { 4 };
    let start = |_| Best::new(k, room, min_similarity);
    let best = compare(source, parts, probes, &tiles, start)?;
    let finish = |(probe, best): (usize, Best)| {
        let found = best.finish(min_similarity, |place| exact(source, probes.row(probe), place))?;
        let found = found.iter().map(|&Candidate { part, row, similarity, .. }| Found {
            part: part as usize,
            row: row as usize,
            similarity,
        });
        Ok(found.collect())
    };
    best.into_par_iter().enumerate().map(finish).collect()
}

/// For each mark of each probe the number of rows between the mark before it, or the best there is, and itself: by
/// similarity, equal ones by key. Marks are similarities with keys, in this order; rows without a key do not count.
pub(crate) fn nearer<S: Source>(
    source: &S,
    parts: &[Part<'_>],
    probes: Rows<'_>,
    marks: &[Vec<(f32, u64)>],
    key: impl Fn(usize, usize, usize) -> Result<Option<u64>, S::Error> + Sync,
) -> Result<Vec<Vec<u64>>, S::Error> {
    let (tiles, key) = (tiles(parts), &key);
    let start = |probe: usize| {
        let marks = &marks[probe][..];
        let key = move |(part, row): (u32, u32)| key(probe, part as usize, row as usize);
        Counts { marks, before: vec![0; marks.len()], key }
    };
    let counts = compare(source, parts, probes, &tiles, start)?;
    Ok(counts.into_iter().map(|counts| counts.before).collect())
}

/// What is wanted of the rows that may be similar enough to one probe.
trait Collect<E>: Send + Sized {
    /// Whether rows of eight bits are worth reading: what they let pass is looked at in full.
    const WITH_CODES: bool;

    /// Rows that cannot be this similar are not wanted.
    fn floor(&self) -> f32;

    /// Takes a row that reached the floor; `exact` gives exact similarities.
    fn take(&mut self, one: Candidate, exact: &dyn Fn((u32, u32)) -> Result<f32, E>) -> Result<(), E>;

    /// Adds what was taken of other rows.
    fn add(&mut self, other: Self, exact: &dyn Fn((u32, u32)) -> Result<f32, E>) -> Result<(), E>;
}

impl<E> Collect<E> for Best {
    const WITH_CODES: bool = true;

    fn floor(&self) -> f32 {
        self.floor
    }

    fn take(&mut self, one: Candidate, exact: &dyn Fn((u32, u32)) -> Result<f32, E>) -> Result<(), E> {
        self.offer(one, exact)
    }

    fn add(&mut self, other: Self, exact: &dyn Fn((u32, u32)) -> Result<f32, E>) -> Result<(), E> {
        self.merge(other, exact)
    }
}

/// Counts the rows between marks.
struct Counts<'a, K> {
    marks: &'a [(f32, u64)],
    before: Vec<u64>,
    key: K,
}

impl<E, K: Fn((u32, u32)) -> Result<Option<u64>, E> + Send> Collect<E> for Counts<'_, K> {
    const WITH_CODES: bool = false;

    fn floor(&self) -> f32 {
        self.marks.last().map_or(f32::INFINITY, |(last, _)| *last)
    }

    fn take(&mut self, one: Candidate, exact: &dyn Fn((u32, u32)) -> Result<f32, E>) -> Result<(), E> {
        let Some(key) = (self.key)(one.place())? else { return Ok(()) };
        let similarity = exact(one.place())?;
        let ahead = |mark: &(f32, u64)| mark.0 > similarity || (mark.0 == similarity && mark.1 < key);
        let at = self.marks.partition_point(ahead);
        if let Some(before) = self.before.get_mut(at) {
            *before += 1;
        }
        Ok(())
    }

    fn add(&mut self, other: Self, _: &dyn Fn((u32, u32)) -> Result<f32, E>) -> Result<(), E> {
        self.before.iter_mut().zip(other.before).for_each(|(own, more)| *own += more);
        Ok(())
    }
}

/// Compares all probes with all rows. `start` makes the collectors: one for each probe and task.
fn compare<S: Source, C: Collect<S::Error>>(
    source: &S,
    parts: &[Part<'_>],
    probes: Rows<'_>,
    tiles: &[Tile],
    start: impl Fn(usize) -> C + Sync,
) -> Result<Vec<C>, S::Error> {
    if tiles.is_empty() || probes.rows() == 0 {
        return Ok((0..probes.rows()).map(start).collect());
    }
    // Probes are split first: their floors rise as they see more rows. Rows are split where the probes are too few.
    let threads = rayon::current_num_threads();
    let mut groups = probes.rows().div_ceil(PROBES);
    let mut splits = 1;
    if probes.rows() >= threads * MANY {
        groups = groups.next_multiple_of(threads);
    } else {
        splits = (2 * threads).div_ceil(groups).min(tiles.len());
    }
    let group_size = probes.rows().div_ceil(groups);
    let groups = probes.rows().div_ceil(group_size);
    let split_size = tiles.len().div_ceil(splits);
    let search = |group: usize, split: usize| {
        let first = group * group_size;
        let probes = probes.slice(first..probes.rows().min(first + group_size));
        let tiles = &tiles[(split * split_size).min(tiles.len())..tiles.len().min((split + 1) * split_size)];
        let collectors = (first..first + probes.rows()).map(&start).collect();
        compare_tiles(source, parts, probes, tiles, collectors)
    };
    let tasks: Vec<(usize, usize)> =
        (0..groups).flat_map(|group| (0..splits).map(move |split| (group, split))).collect();
    let found = tasks.into_par_iter().map(|(group, split)| search(group, split));
    let mut found = found.collect::<Result<Vec<_>, _>>()?.into_iter();
    let mut all = Vec::with_capacity(probes.rows());
    for _ in 0..groups {
        let mut own = found.next().expect("a task for each split");
        for _ in 1..splits {
            for (probe, (own, other)) in own.iter_mut().zip(found.next().expect("as many")).enumerate() {
                let probe = probes.row(all.len() + probe);
                own.add(other, &|place| exact(source, probe, place))?;
            }
        }
        all.extend(own);
    }
    Ok(all)
}

fn exact<S: Source>(source: &S, probe: &[f32], (part, row): (u32, u32)) -> Result<f32, S::Error> {
    source.similarity(probe, part as usize, row as usize)
}

/// Compares a few probes with the rows of some tiles.
fn compare_tiles<S: Source, C: Collect<S::Error>>(
    source: &S,
    parts: &[Part<'_>],
    probes: Rows<'_>,
    tiles: &[Tile],
    mut collectors: Vec<C>,
) -> Result<Vec<C>, S::Error> {
    let dim = probes.cols();
    let with_codes = C::WITH_CODES && reduced::worth_it(probes.rows());
    let (mut floats, mut bytes, mut sums) = (None, None, reduced::Sums::new());
    let mut floors: Vec<f32> = collectors.iter().map(C::floor).collect();
    let (mut gathered, mut gathered_bytes, mut passed) = (Vec::new(), Vec::new(), Vec::new());
    let mut take = |tile: &Tile, first: usize, passed: &mut Vec<Passed>, floors: &mut [f32]| {
        for Passed { row, probe, product: similarity, error } in passed.drain(..) {
            let at = probe as usize;
            let (part, row) = tile.place(first + row as usize);
            let candidate = Candidate { similarity, error, part, row };
            collectors[at].take(candidate, &|place| exact(source, probes.row(at), place))?;
            floors[at] = collectors[at].floor();
        }
        Ok::<(), S::Error>(())
    };
    for tile in tiles {
        if with_codes && let Some(codes) = tile.codes(source, dim, &mut gathered_bytes) {
            let packed = bytes.get_or_insert_with(|| reduced::Probes::new(probes));
            for first in (0..tile.rows).step_by(kernel::BLOCK) {
                let block = codes.slice(first..tile.rows.min(first + kernel::BLOCK));
                packed.compare(block, &floors, &mut sums, &mut passed);
                take(tile, first, &mut passed, &mut floors)?;
            }
            continue;
        }
        let values = tile.values(source, parts, dim, &mut gathered)?;
        let (packed, lowered, products) = floats.get_or_insert_with(|| {
            let packed = Probes::new(probes);
            // The probes that fill the last vector find nothing.
            let lowered = vec![f32::INFINITY; packed.width()];
            let products = vec![0.0; kernel::BLOCK * packed.width()];
            (packed, lowered, products)
        });
        for first in (0..tile.rows).step_by(kernel::BLOCK) {
            let block = values.slice(first..tile.rows.min(first + kernel::BLOCK));
            let error = kernel::error(dim);
            lowered.iter_mut().zip(&floors).for_each(|(lowered, floor)| *lowered = (floor - error).next_down());
            packed.compare(block, lowered, products, &mut passed);
            take(tile, first, &mut passed, &mut floors)?;
        }
    }
    Ok(collectors)
}

impl Tile {
    /// Its rows, `[rows, dim]`.
    fn values<'a, S: Source>(
        &self,
        source: &S,
        parts: &'a [Part<'_>],
        dim: usize,
        gathered: &'a mut Vec<f32>,
    ) -> Result<Rows<'a>, S::Error> {
        for (part, rows) in &self.pieces {
            source.touch(*part as usize, rows.clone())?;
        }
        Ok(match &self.pieces[..] {
            [(part, rows)] => parts[*part as usize].values.slice(rows.clone()),
            pieces => {
                gathered.clear();
                for (part, rows) in pieces {
                    gathered.extend_from_slice(parts[*part as usize].values.slice(rows.clone()).data());
                }
                Rows::new(gathered, self.rows, dim).expect("as many rows")
            }
        })
    }

    /// Its rows in eight bits, if all can be relied on.
    fn codes<'a, S: Source>(&self, source: &'a S, dim: usize, gathered: &'a mut Vec<u8>) -> Option<Codes<'a>> {
        if let [(part, rows)] = &self.pieces[..] {
            return source.codes(*part as usize, rows.clone());
        }
        gathered.clear();
        for (part, rows) in &self.pieces {
            gathered.extend_from_slice(source.codes(*part as usize, rows.clone())?.bytes());
        }
        Some(Codes::new(gathered, dim))
    }

    /// Part and row of a row of the tile.
    fn place(&self, mut at: usize) -> (u32, u32) {
        for (part, rows) in &self.pieces {
            if at < rows.len() {
                return (*part, (rows.start + at) as u32);
            }
            at -= rows.len();
        }
        unreachable!("row {at} behind a tile of {} rows", self.rows)
    }
}
