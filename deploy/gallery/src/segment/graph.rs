//! Which rows of a segment are near each other: what an approximate search walks along. The file has numbers of rows
//! and no values of any. Rows keep their numbers for as long as the segment is there, so it stays right; it can be
//! deleted and made again at will.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::format::{HEADER, array};
use super::{Header, Kind, path_of};
use crate::segment::map::Map;

/// No row.
pub(crate) const NONE: u32 = u32::MAX;

/// Where in the header rows, width and their checksum are.
const NUMBERS: usize = 64;

/// Neighbours of the first rows of a segment, mapped. They are numbers that anybody may have written: whoever follows
/// one looks first whether there is such a row.
#[derive(Debug)]
pub(crate) struct Graph {
    map: Map,
    rows: usize,
    width: usize,
}

impl Graph {
    /// The file of a segment's graph.
    pub(crate) fn path(folder: &Path, segment: u64) -> PathBuf {
        path_of(folder, segment, Kind::Graph)
    }

    /// The header of a graph in which each of `rows` rows has `width` neighbours, or [`NONE`] in their place.
    pub(crate) fn header(header: Header, rows: usize, width: usize) -> Vec<u8> {
        let mut bytes = header.encode(Kind::Graph);
        let numbers = [(rows as u64).to_le_bytes(), (width as u64).to_le_bytes()].concat();
        let check = crc32fast::hash(&[&bytes[..48], &numbers].concat());
        bytes[NUMBERS..NUMBERS + 16].copy_from_slice(&numbers);
        bytes[NUMBERS + 16..NUMBERS + 20].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// Maps the graph of a segment; none if there is no file that fits.
    pub(crate) fn open(folder: &Path, header: Header) -> Option<Self> {
        let file = File::open(Self::path(folder, header.segment)).ok()?;
        let start = Map::new(&file, HEADER).ok()?;
        header.expect(Kind::Graph, start.bytes()).ok()?;
        let numbers = &start.bytes()[NUMBERS..];
        let number = |at: usize| usize::try_from(u64::from_le_bytes(array(numbers, at))).ok();
        let (rows, width) = (number(0)?, number(8)?);
        let known = Self::header(header, rows, width);
        if known[NUMBERS..NUMBERS + 20] != numbers[..20] || u32::try_from(rows).is_err() {
            return None;
        }
        let map = Map::new(&file, rows.checked_mul(width)?.checked_mul(4)?.checked_add(HEADER)?).ok()?;
        Some(Self { map, rows, width })
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The neighbours of a row.
    pub(crate) fn neighbours(&self, row: usize) -> &[u32] {
        let all: &[u32] = bytemuck::cast_slice(&self.map.bytes()[HEADER..]);
        &all[row * self.width..(row + 1) * self.width]
    }
}
