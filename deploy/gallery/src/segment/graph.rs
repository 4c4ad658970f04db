//! Which rows of a segment are near each other: what an approximate search walks along. The file has numbers of rows
//! and no values of any. Rows keep their numbers for as long as the segment is there, so it stays right; it can be
//! deleted and made again at will.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::format::{HEADER, array};
use super::{Header, Kind, path_of};
use crate::segment::map::Map;

/// No row.
#[cfg(feature = "ann")]
pub(crate) const NONE: u32 = u32::MAX;

/// Where in the header rows, width, the checksum of the neighbours and that of all these are.
const NUMBERS: usize = 64;

/// Bytes of them.
const LENGTH: usize = 24;

/// Neighbours of the first rows of a segment, mapped. They are numbers that anybody may have written: whoever follows
/// one looks first whether there is such a row.
#[derive(Debug)]
pub(crate) struct Graph {
    map: Map,
    rows: usize,
    width: usize,
    /// Checksum of the neighbours.
    sum: u32,
}

impl Graph {
    /// The header of a graph in which each of `rows` rows has `width` neighbours, or [`NONE`] in their place.
    #[cfg(feature = "ann")]
    pub(crate) fn header(header: Header, rows: usize, width: usize, neighbours: &[u32]) -> Vec<u8> {
        Self::start(header, rows, width, crc32fast::hash(bytemuck::cast_slice(neighbours)))
    }

    fn start(header: Header, rows: usize, width: usize, sum: u32) -> Vec<u8> {
        let mut bytes = header.encode(Kind::Graph);
        let numbers = [&(rows as u64).to_le_bytes()[..], &(width as u64).to_le_bytes(), &sum.to_le_bytes()].concat();
        let check = crc32fast::hash(&[&bytes[..48], &numbers].concat());
        let numbers = [&numbers[..], &check.to_le_bytes()].concat();
        bytes[NUMBERS..NUMBERS + LENGTH].copy_from_slice(&numbers);
        bytes
    }

    /// Maps the graph of a segment; none if there is no file that fits.
    pub(crate) fn open(folder: &Path, header: Header) -> Option<Self> {
        let file = File::open(path_of(folder, header.segment, Kind::Graph)).ok()?;
        let start = Map::new(&file, HEADER).ok()?;
        header.expect(Kind::Graph, start.bytes()).ok()?;
        let numbers = &start.bytes()[NUMBERS..];
        let number = |at: usize| usize::try_from(u64::from_le_bytes(array(numbers, at))).ok();
        let (rows, width) = (number(0)?, number(8)?);
        let sum = u32::from_le_bytes(array(numbers, 16));
        let known = Self::start(header, rows, width, sum);
        if known[NUMBERS..NUMBERS + LENGTH] != numbers[..LENGTH] || u32::try_from(rows).is_err() {
            return None;
        }
        let map = Map::new(&file, rows.checked_mul(width)?.checked_mul(4)?.checked_add(HEADER)?).ok()?;
        Some(Self { map, rows, width, sum })
    }

    /// Whether a file has a header of whatever kind: it is written last, so that one that was only begun has none.
    pub(crate) fn has_header(path: &Path) -> bool {
        let mut start = [0; HEADER];
        let read = File::open(path).and_then(|mut file| file.read(&mut start));
        read.is_ok() && start.iter().any(|byte| *byte != 0)
    }

    /// Whether the neighbours are those that were written. A search does without knowing.
    pub(crate) fn is_whole(&self) -> bool {
        crc32fast::hash(&self.map.bytes()[HEADER..]) == self.sum
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        (HEADER + self.rows * self.width * size_of::<u32>()) as u64
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The neighbours of a row.
    #[cfg(feature = "ann")]
    pub(crate) fn neighbours(&self, row: usize) -> &[u32] {
        let all: &[u32] = bytemuck::cast_slice(&self.map.bytes()[HEADER..]);
        &all[row * self.width..(row + 1) * self.width]
    }
}
