//! Exact search: every probe against every row, by products that are fast and only about right, and the few rows that
//! may be the nearest once more by [`metrics::dot`]. The answer has the bits of a plain scan.

mod best;
mod kernel;
mod reduced;
#[cfg(feature = "ann")]
mod walk;

use std::borrow::Cow;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use metrics::Rows;
use rayon::prelude::*;

use best::{Best, Candidate, Closer};
use kernel::{BLOCK, Passed};

#[cfg(feature = "ann")]
pub(crate) use walk::walk;

use crate::segment::Codes;

/// Rows that are searched in one piece of memory.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    /// `[rows, dim]`.
    pub(crate) values: Rows<'a>,
    /// Those of them that are searched, in order.
    pub(crate) runs: Cow<'a, [Range<usize>]>,
}

/// What holds the rows.
pub(crate) trait Source: Sync {
    /// Why there is no answer.
    type Error: Send;

    /// Called right before rows of a part are read, at most [`BLOCK`] of them: what it reads is still in the cache
    /// then.
    fn touch(&self, part: usize, rows: Range<usize>) -> Result<(), Self::Error>;

    /// Called when rows of a part that lie behind each other were compared with all probes, or with a share of them:
    /// few are read again.
    fn done(&self, _part: usize, _rows: Range<usize>) {}

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
        let runs = Vec::from_iter((rows.rows() > 0).then_some(0..rows.rows()));
        Part { values: rows, runs: runs.into() }
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

/// Rows of a tile that lie behind each other: what a thread takes at a time.
const TILE: usize = 1024;

/// Probes that a thread compares with a block of rows before the next ones: packed, they stay in the second cache.
const PROBES: usize = 256;

/// Probes a thread has to have for itself to be worth it.
const MANY: usize = 64;

/// Rows for each of the nearest that are wanted, before rows are reduced: while the floors are low, so many products
/// would have to be looked at more closely that those of float32 are faster.
const WARM: usize = 30;

/// Rows of the first block that a thread compares, the next has twice as many: while no floor is known every row
/// passes.
const FIRST: usize = 16;

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
        for run in &*rows.runs {
            // Long runs are used where they are; short ones are collected.
            if run.len() >= BLOCK {
                let mut start = run.start;
                while start < run.end {
                    // Tiles end where blocks of checksums do.
                    let end = run.end.min((start / TILE + 1) * TILE);
                    tiles.push(Tile { rows: end - start, pieces: vec![(part as u32, start..end)] });
                    start = end;
                }
                continue;
            }
            open.rows += run.len();
            open.pieces.push((part as u32, run.clone()));
            if open.rows >= BLOCK {
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
    let codes = reduced::copy_helps(probes.rows()) || reduced::quantising_helps(probes.rows());
    let room = if codes { 16 } else { 4 };
    let start = |_| Best::new(k, room, min_similarity);
    let best = compare(source, parts, probes, &tiles, k.saturating_mul(WARM), start)?;
    let finish = |(probe, best): (usize, Best)| {
        let found = closer(source, parts, probes.row(probe), |closer| best.finish(min_similarity, closer))?;
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
    let counts = compare(source, parts, probes, &tiles, 0, start)?;
    Ok(counts.into_iter().map(|counts| counts.before).collect())
}

/// What is wanted of the rows that may be similar enough to one probe.
trait Collect<E>: Send + Sized {
    /// Whether rows of eight bits are worth reading: what they let pass is looked at in full.
    const WITH_CODES: bool;

    /// Rows that cannot be this similar are not wanted.
    fn floor(&self) -> f32;

    /// Takes a row that may reach the floor, in any order.
    fn take(&mut self, one: Candidate, closer: &Closer<'_, E>) -> Result<(), E>;
}

impl<E> Collect<E> for Best {
    const WITH_CODES: bool = true;

    fn floor(&self) -> f32 {
        self.floor
    }

    fn take(&mut self, one: Candidate, closer: &Closer<'_, E>) -> Result<(), E> {
        self.offer(one, closer)
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

    fn take(&mut self, one: Candidate, closer: &Closer<'_, E>) -> Result<(), E> {
        let Some(key) = (self.key)(one.place())? else { return Ok(()) };
        let similarity = (closer.exact)(one.place())?;
        let ahead = |mark: &(f32, u64)| mark.0 > similarity || (mark.0 == similarity && mark.1 < key);
        let at = self.marks.partition_point(ahead);
        if let Some(before) = self.before.get_mut(at) {
            *before += 1;
        }
        Ok(())
    }
}

/// What all threads collect for one probe.
struct Wanted<C> {
    /// The bits of the collector's floor, which is read far more often than it rises.
    floor: AtomicU32,
    collector: Mutex<C>,
}

impl<C> Wanted<C> {
    fn new<E>(collector: C) -> Self
    where
        C: Collect<E>,
    {
        Self { floor: AtomicU32::new(collector.floor().to_bits()), collector: Mutex::new(collector) }
    }

    fn floor(&self) -> f32 {
        f32::from_bits(self.floor.load(Ordering::Relaxed))
    }

    fn take<E>(&self, one: Candidate, closer: &Closer<'_, E>) -> Result<(), E>
    where
        C: Collect<E>,
    {
        let mut collector = self.collector.lock().unwrap_or_else(PoisonError::into_inner);
        collector.take(one, closer)?;
        self.floor.store(collector.floor().to_bits(), Ordering::Relaxed);
        Ok(())
    }
}

/// Probes that are compared with a block of rows together, packed for it once for all threads.
struct Group<'a> {
    /// The first of them.
    first: usize,
    probes: Rows<'a>,
    floats: OnceLock<kernel::Probes<'a>>,
    reduced: OnceLock<reduced::Probes<'a>>,
}

impl<'a> Group<'a> {
    fn floats(&self) -> &kernel::Probes<'a> {
        self.floats.get_or_init(|| kernel::Probes::new(self.probes))
    }

    fn reduced(&self) -> &reduced::Probes<'a> {
        self.reduced.get_or_init(|| reduced::Probes::new(self.probes))
    }
}

/// Compares all probes with all rows, about `warm` of them before any are reduced. `start` makes the collectors, one
/// for each probe.
fn compare<S: Source, C: Collect<S::Error>>(
    source: &S,
    parts: &[Part<'_>],
    probes: Rows<'_>,
    tiles: &[Tile],
    warm: usize,
    start: impl Fn(usize) -> C + Sync,
) -> Result<Vec<C>, S::Error> {
    let wanted: Vec<Wanted<C>> = (0..probes.rows()).map(|probe| Wanted::new::<S::Error>(start(probe))).collect();
    let threads = rayon::current_num_threads();
    // Every tile is read, checked and reduced by one thread and for all probes, unless there are too few tiles.
    let mut groups = probes.rows().div_ceil(PROBES);
    let together = tiles.len() >= 4 * threads;
    if !together {
        let enough = (4 * threads).div_ceil(tiles.len().max(1));
        groups = groups.max(enough.min(probes.rows() / MANY));
    }
    let size = probes.rows().div_ceil(groups.max(1)).max(1);
    let group = |first: usize| Group {
        first,
        probes: probes.slice(first..probes.rows().min(first + size)),
        floats: OnceLock::new(),
        reduced: OnceLock::new(),
    };
    let groups: Vec<Group<'_>> = (0..probes.rows()).step_by(size).map(group).collect();
    let rows: usize = tiles.iter().map(|tile| tile.rows).sum();
    // Where no row would be reduced, probes are not either.
    let quantises = C::WITH_CODES && rows > warm && reduced::quantising_helps(probes.rows());
    if quantises {
        groups.par_iter().for_each(|group| {
            group.reduced();
            if warm > 0 {
                group.floats();
            }
        });
    }
    let shares: Vec<&[Group<'_>]> = groups.chunks(if together { groups.len().max(1) } else { 1 }).collect();
    let next = AtomicUsize::new(0);
    let work = |_| {
        let mut worker = Worker {
            source,
            parts,
            wanted: &wanted,
            dim: probes.cols(),
            with_copy: C::WITH_CODES && reduced::copy_helps(probes.rows()),
            quantises,
            warm: warm / threads,
            block: FIRST,
            room: Room::default(),
        };
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(share) = shares.get(at / tiles.len().max(1)) else { return Ok(()) };
            if let Err(error) = worker.tile(&tiles[at % tiles.len()], share) {
                // The others need not go on.
                next.store(shares.len() * tiles.len(), Ordering::Relaxed);
                return Err(error);
            }
        }
    };
    if !tiles.is_empty() {
        (0..threads).into_par_iter().try_for_each(work)?;
    }
    Ok(wanted.into_iter().map(|one| one.collector.into_inner().unwrap_or_else(PoisonError::into_inner)).collect())
}

/// Does something with closer looks at the rows that may be near a probe.
fn closer<S: Source, T>(
    source: &S,
    parts: &[Part<'_>],
    probe: &[f32],
    work: impl FnOnce(&Closer<'_, S::Error>) -> Result<T, S::Error>,
) -> Result<T, S::Error> {
    let about = |(part, row): (u32, u32)| {
        let (part, row) = (part as usize, row as usize);
        // One whose copy was read may not have been looked at yet.
        source.touch(part, row..row + 1)?;
        Ok(kernel::product(probe, parts[part].values.row(row)))
    };
    let exact = |(part, row): (u32, u32)| source.similarity(probe, part as usize, row as usize);
    work(&Closer { about: &about, error: kernel::error(probe.len()), exact: &exact })
}

/// A thread that compares rows.
struct Worker<'a, S, C> {
    source: &'a S,
    parts: &'a [Part<'a>],
    wanted: &'a [Wanted<C>],
    dim: usize,
    /// Whether rows are read from their copy in eight bits where there is one.
    with_copy: bool,
    /// Whether other rows are reduced to eight bits before they are compared.
    quantises: bool,
    /// Rows that it compares before it reduces any.
    warm: usize,
    /// Rows of the next block.
    block: usize,
    room: Room,
}

/// Memory that is used again from block to block.
#[derive(Default)]
struct Room {
    gathered: Vec<f32>,
    gathered_codes: Vec<u8>,
    compared: Compared,
}

#[derive(Default)]
struct Compared {
    codes: Vec<u8>,
    floors: Vec<f32>,
    products: Vec<f32>,
    scratch: reduced::Scratch,
    passed: Vec<Passed>,
}

/// Rows of a block as they are compared.
#[derive(Clone, Copy)]
enum Block<'a> {
    Values(Rows<'a>),
    /// Rows that do not lie behind each other, for few probes: moving them takes longer than reading them.
    Scattered(&'a [&'a [f32]]),
    Copy(Codes<'a>),
}

impl<'a, S: Source, C: Collect<S::Error>> Worker<'a, S, C> {
    /// Compares the rows of a tile with the probes of some groups.
    fn tile(&mut self, tile: &Tile, groups: &[Group<'_>]) -> Result<(), S::Error> {
        let mut room = std::mem::take(&mut self.room);
        let (source, mut scattered) = (self.source, Vec::new());
        let Room { gathered, gathered_codes, compared } = &mut room;
        let whole = match &tile.pieces[..] {
            [_] => None,
            pieces => Some(self.gather(pieces, &mut scattered, gathered, gathered_codes)?),
        };
        let mut start = 0;
        while start < tile.rows {
            let rows = start..tile.rows.min(start + self.block);
            self.block = BLOCK.min(self.block * 2);
            start = rows.end;
            let block = match (&tile.pieces[..], whole) {
                (_, Some(Block::Values(values))) => Block::Values(values.slice(rows.clone())),
                (_, Some(Block::Copy(codes))) => Block::Copy(codes.slice(rows.clone())),
                (_, Some(Block::Scattered(all))) => Block::Scattered(&all[rows.clone()]),
                ([(part, run)], None) => {
                    let (part, place) = (*part as usize, run.start + rows.start..run.start + rows.end);
                    match self.with_copy.then(|| source.codes(part, place.clone())).flatten() {
                        Some(codes) => Block::Copy(codes),
                        None => {
                            source.touch(part, place.clone())?;
                            Block::Values(self.parts[part].values.slice(place))
                        }
                    }
                }
                _ => unreachable!("several pieces are gathered"),
            };
            let quantises = self.quantises && self.warm == 0;
            self.warm = self.warm.saturating_sub(rows.len());
            match block {
                Block::Values(values) if quantises => {
                    reduced::quantise(values, &mut compared.codes);
                    compared.scratch.lay_out(Codes::new(&compared.codes, self.dim));
                }
                Block::Copy(codes) if reduced::multiplies(self.wanted.len()) => compared.scratch.lay_out(codes),
                _ => {}
            }
            for group in groups {
                self.compare(block, quantises, group, compared);
                for Passed { row, probe, product: similarity, error } in compared.passed.drain(..) {
                    let (part, row) = tile.place(rows.start + row as usize);
                    let candidate = Candidate { similarity, error, part, row };
                    let probe = probe as usize;
                    let wanted = &self.wanted[group.first + probe];
                    closer(source, self.parts, group.probes.row(probe), |closer| wanted.take(candidate, closer))?;
                }
            }
        }
        self.room = room;
        if let [(part, rows)] = &tile.pieces[..] {
            source.done(*part as usize, rows.clone());
        }
        Ok(())
    }

    /// Collects the rows of short runs, behind each other where that is worth it.
    fn gather<'b>(
        &self,
        pieces: &[(u32, Range<usize>)],
        scattered: &'b mut Vec<&'a [f32]>,
        values: &'b mut Vec<f32>,
        codes: &'b mut Vec<u8>,
    ) -> Result<Block<'b>, S::Error> {
        codes.clear();
        let copy = |(part, rows): &(u32, Range<usize>)| self.source.codes(*part as usize, rows.clone());
        let mut copies = pieces.iter().map(|piece| copy(piece).map(|copy| codes.extend_from_slice(copy.bytes())));
        if self.with_copy && copies.all(|copy| copy.is_some()) {
            return Ok(Block::Copy(Codes::new(codes, self.dim)));
        }
        if kernel::are_few(self.wanted.len()) {
            for (part, rows) in pieces {
                self.source.touch(*part as usize, rows.clone())?;
                let values = self.parts[*part as usize].values;
                scattered.extend(rows.clone().map(|row| values.row(row)));
            }
            return Ok(Block::Scattered(scattered));
        }
        values.clear();
        for (part, rows) in pieces {
            self.source.touch(*part as usize, rows.clone())?;
            values.extend_from_slice(self.parts[*part as usize].values.slice(rows.clone()).data());
        }
        let rows = values.len() / self.dim;
        Ok(Block::Values(Rows::new(values, rows, self.dim).expect("whole rows")))
    }

    /// Finds the rows of a block that may reach the floor of a probe.
    fn compare(&self, block: Block<'_>, quantises: bool, group: &Group<'_>, room: &mut Compared) {
        let Compared { codes, floors, products, scratch, passed } = room;
        floors.clear();
        floors.extend(self.wanted[group.first..group.first + group.probes.rows()].iter().map(Wanted::floor));
        match block {
            Block::Copy(codes) => group.reduced().compare(codes, None, floors, scratch, passed),
            Block::Values(values) if quantises => {
                group.reduced().compare(Codes::new(codes, self.dim), Some(values), floors, scratch, passed);
            }
            Block::Values(values) => {
                let packed = self.lowered(group, floors, products);
                packed.compare(values, floors, products, passed);
            }
            Block::Scattered(rows) => {
                let packed = self.lowered(group, floors, products);
                packed.compare_few(rows, floors, products, passed);
            }
        }
    }
}

impl<S, C> Worker<'_, S, C> {
    /// The probes of a group for products of float32, whose error lowers the floors.
    fn lowered<'g>(
        &self,
        group: &'g Group<'_>,
        floors: &mut Vec<f32>,
        products: &mut Vec<f32>,
    ) -> &'g kernel::Probes<'g> {
        let (packed, error) = (group.floats(), kernel::error(self.dim));
        floors.iter_mut().for_each(|floor| *floor = (*floor - error).next_down());
        // The probes that fill the last vector find nothing.
        floors.resize(packed.width(), f32::INFINITY);
        products.resize(BLOCK * packed.width(), 0.0);
        packed
    }
}

impl Tile {
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
