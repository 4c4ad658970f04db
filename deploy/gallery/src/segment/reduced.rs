//! Rows once more in a quarter of their bytes, with how far each is off: what a search reads first. A copy can be
//! deleted and made again at will. It counts only where its own checksum is right and the checksum of the values that
//! it was made from is the one in the row's record; other rows are read as float32.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use super::format::{HEADER, TAIL, array};
use super::{BLOCK, Header, Kind, Record, Segment, path_of};
use crate::segment::map::Map;

/// Rows of integers, `[rows, dim]`, which times the scale of their row are about the values of the gallery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codes<'a> {
    bytes: &'a [u8],
    dim: usize,
}

impl<'a> Codes<'a> {
    /// `bytes` has whole rows with their tails.
    pub(crate) fn new(bytes: &'a [u8], dim: usize) -> Self {
        assert!(bytes.len().is_multiple_of(dim + TAIL), "{} bytes in rows of {dim} values", bytes.len());
        Self { bytes, dim }
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn rows(&self) -> usize {
        self.bytes.len() / (self.dim + TAIL)
    }

    pub(crate) fn dim(&self) -> usize {
        self.dim
    }

    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        let stride = self.dim + TAIL;
        Self { bytes: &self.bytes[rows.start * stride..rows.end * stride], ..*self }
    }

    fn stored(&self, row: usize) -> &'a [u8] {
        let stride = self.dim + TAIL;
        &self.bytes[row * stride..(row + 1) * stride]
    }

    /// The integers of a row, -127 to 127.
    pub(crate) fn row(&self, row: usize) -> &'a [i8] {
        bytemuck::cast_slice(&self.stored(row)[..self.dim])
    }

    /// The same and, behind them, its tail.
    pub(crate) fn with_tail(&self, row: usize) -> &'a [i8] {
        bytemuck::cast_slice(self.stored(row))
    }

    /// What the integers of a row are times.
    pub(crate) fn scale(&self, row: usize) -> f32 {
        f32::from_le_bytes(array(self.stored(row), self.dim))
    }

    /// The length of what is lost of a row: the difference of its values and scaled integers.
    pub(crate) fn lost(&self, row: usize) -> f32 {
        f32::from_le_bytes(array(self.stored(row), self.dim + 4))
    }
}

/// The bytes of a row's copy. `record` is the one of the row that has these values.
pub(crate) fn encode(header: &Header, values: &[f32], record: &Record) -> Vec<u8> {
    let mut bytes = quantised(values);
    bytes.extend_from_slice(&record.values.to_le_bytes());
    let check = check(header, &bytes);
    bytes.extend_from_slice(&check.to_le_bytes());
    bytes
}

/// Integers, scale and error of a row.
pub(crate) fn quantised(values: &[f32]) -> Vec<u8> {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = (f64::from(largest) / 127.0) as f32;
    // A scale that is no normal number would not be precise.
    let scale = if scale.is_normal() { scale } else { 0.0 };
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / f64::from(scale) };
    let mut bytes = Vec::with_capacity(values.len() + TAIL);
    let mut lost = 0.0;
    for value in values {
        let integer = (f64::from(*value) * inverse).round_ties_even().clamp(-127.0, 127.0);
        lost += (f64::from(*value) - integer * f64::from(scale)).powi(2);
        bytes.push(integer as i8 as u8);
    }
    // Rounded up: the sum is off by less than a millionth of itself.
    let lost = ((lost.sqrt() * (1.0 + 1e-6)) as f32).next_up();
    bytes.extend_from_slice(&scale.to_le_bytes());
    bytes.extend_from_slice(&lost.to_le_bytes());
    bytes
}

fn check(header: &Header, bytes: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&header.gallery);
    hash.update(&header.segment.to_le_bytes());
    hash.update(bytes);
    hash.finalize()
}

/// What is known about a block of rows.
const UNKNOWN: u8 = 0;
const FITS: u8 = 1;
const UNFIT: u8 = 2;

/// The copy of a segment's first rows, mapped.
#[derive(Debug)]
pub(crate) struct Reduced {
    header: Header,
    map: Map,
    rows: usize,
    blocks: Vec<AtomicU8>,
}

impl Reduced {
    /// The file of a segment's copy.
    pub(crate) fn path(folder: &Path, segment: u64) -> PathBuf {
        path_of(folder, segment, Kind::Reduced)
    }

    /// Maps the copies of at most `most` rows; none if there is no file that fits.
    pub(crate) fn open(folder: &Path, header: Header, most: usize) -> Option<Self> {
        let file = File::open(Self::path(folder, header.segment)).ok()?;
        let stride = Kind::Reduced.stride(header.dim);
        let found = usize::try_from(file.metadata().ok()?.len()).ok()?.checked_sub(HEADER)? / stride;
        let rows = found.min(most);
        let map = Map::new(&file, HEADER + rows * stride).ok()?;
        header.expect(Kind::Reduced, map.bytes()).ok()?;
        let blocks = (0..rows.div_ceil(BLOCK)).map(|_| AtomicU8::new(UNKNOWN)).collect();
        Some(Self { header, map, rows, blocks })
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    fn codes(&self) -> Codes<'_> {
        Codes::new(&self.map.bytes()[HEADER..], self.header.dim)
    }

    /// Whether the copy of a row is what was made of the values that its record is about.
    pub(crate) fn fits(&self, row: usize, record: &Record) -> bool {
        let (bytes, dim) = (self.codes().stored(row), self.header.dim);
        let number = |at: usize| u32::from_le_bytes(array(bytes, at));
        number(dim + 8) == record.values && number(dim + 12) == check(&self.header, &bytes[..dim + 12])
    }

    /// Rows of `segment` in this copy, if all of them can be relied on. Each block of rows is looked at once in this
    /// process. Rows that are removed are none that anybody asks for.
    pub(crate) fn trusted(&self, segment: &Segment, rows: Range<usize>) -> Option<Codes<'_>> {
        if rows.end > self.rows {
            return None;
        }
        for block in rows.start / BLOCK..rows.end.div_ceil(BLOCK) {
            let known = self.blocks[block].load(Ordering::Relaxed);
            let found = if known == UNKNOWN {
                let mut all = block * BLOCK..self.rows.min((block + 1) * BLOCK);
                let fits = |row| segment.record(row).is_ok_and(|record| record.erased || self.fits(row, &record));
                let found = if all.all(fits) { FITS } else { UNFIT };
                self.blocks[block].store(found, Ordering::Relaxed);
                found
            } else {
                known
            };
            if found != FITS {
                return None;
            }
        }
        Some(self.codes().slice(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(values: &[f32]) -> Vec<u8> {
        let mut bytes = quantised(values);
        bytes.extend([0; 8]);
        bytes
    }

    #[test]
    fn what_is_lost_of_a_row_is_not_more_than_it_says() {
        let mut seed = 1_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((seed >> 40) as f32 / (1 << 23) as f32 - 1.0) * if seed >> 20 & 7 == 0 { 1.0 } else { 0.01 }
        };
        let mut rows: Vec<Vec<f32>> = (0..200).map(|_| (0..37).map(|_| next()).collect()).collect();
        rows.extend([vec![0.0; 5], vec![1.0], vec![-1.0, 0.0], vec![f32::MIN_POSITIVE; 3], vec![1.0, 1e-30, -1e-9]]);
        for row in rows {
            let bytes = codes(&row);
            let codes = Codes::new(&bytes, row.len());
            let lost = row
                .iter()
                .zip(codes.row(0))
                .map(|(value, integer)| (f64::from(*value) - f64::from(*integer) * f64::from(codes.scale(0))).powi(2));
            let lost = lost.sum::<f64>().sqrt();
            assert!(lost <= f64::from(codes.lost(0)) && f64::from(codes.lost(0)) <= lost * 1.001 + 1e-30, "{row:?}");
        }
    }
}
