//! Rows on disk: two files that only grow, whose removed rows are overwritten with zeros, and a smaller copy derived
//! from them.

mod disk;
mod format;
mod graph;
mod map;
mod reduced;
mod sealed;
mod writer;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Rows;

pub use disk::{Disk, System};
#[cfg(target_arch = "x86_64")]
pub(crate) use format::TAIL;
pub(crate) use format::{HEADER, Header, Kind, Misfit, Record, Seeds, VERSION};
pub(crate) use graph::Graph;
#[cfg(feature = "ann")]
pub(crate) use graph::NONE;
pub(crate) use reduced::{Codes, Reduced, encode, quantised};
pub(crate) use writer::{Writer, paths_of};

use crate::vault::Vault;
use crate::{GalleryError, TemplateId};
use map::Map;
use sealed::Open;

/// Rows whose copies are looked at together, when one of them is first read.
const BLOCK: usize = 128;

/// The committed rows of a segment, mapped. Ids grow from row to row.
#[derive(Debug)]
pub(crate) struct Segment {
    header: Header,
    seeds: Seeds,
    rows: usize,
    open: Open,
    values_path: PathBuf,
    records_path: PathBuf,
    /// Rows whose records were found right.
    right_records: Marked,
    /// Rows whose values were, too.
    right_values: Marked,
}

/// Rows that are marked, each once for all threads.
#[derive(Debug)]
struct Marked(Vec<AtomicU64>);

impl Marked {
    fn new(rows: usize) -> Self {
        Self((0..rows.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    fn has(&self, row: usize) -> bool {
        self.0[row / 64].load(Ordering::Relaxed) >> (row % 64) & 1 == 1
    }

    /// Marks what `older`, with fewer rows, has marked.
    fn add(&self, older: &Self) {
        for (own, older) in self.0.iter().zip(&older.0) {
            own.fetch_or(older.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Marks rows after a look at those that are not marked yet.
    fn mark<E>(&self, rows: Range<usize>, look: impl Fn(usize) -> Result<(), E>) -> Result<(), E> {
        let words = if rows.is_empty() { 0..0 } else { rows.start / 64..rows.end.div_ceil(64) };
        for word in words {
            let here = rows.start.max(word * 64)..rows.end.min((word + 1) * 64);
            let wanted = (u64::MAX >> (64 - here.len())) << (here.start % 64);
            let known = self.0[word].load(Ordering::Relaxed);
            if known & wanted == wanted {
                continue;
            }
            here.filter(|row| known >> (row % 64) & 1 == 0).try_for_each(&look)?;
            self.0[word].fetch_or(wanted, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// A row that is not what was written.
#[derive(Debug)]
pub(crate) struct BadRow {
    pub(crate) row: usize,
    /// As its record says, which may be damaged itself.
    pub(crate) id: TemplateId,
    pub(crate) error: GalleryError,
}

impl Segment {
    /// Maps `rows` rows of segment `header.segment` in `folder`. Sealed ones are opened into memory, but for those that
    /// `older`, the same segment with fewer rows, has open.
    ///
    /// # Errors
    /// [`GalleryError::Io`] with `NotFound` if compaction has replaced it meanwhile; files that are too short, or of
    /// something else.
    pub(crate) fn open(
        folder: &Path,
        header: Header,
        rows: usize,
        vault: Option<&Vault>,
        older: Option<&Self>,
    ) -> Result<Self, GalleryError> {
        let open = |kind: Kind| -> Result<(Map, PathBuf), GalleryError> {
            let path = path_of(folder, header.segment, kind);
            let length = header.stride(kind).checked_mul(rows).and_then(|bytes| bytes.checked_add(HEADER));
            let length =
                length.ok_or_else(|| GalleryError::damaged(&path, format!("the catalogue says {rows} rows")))?;
            let file = File::open(&path).map_err(GalleryError::io("open", &path))?;
            let map = Map::new(&file, length).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => GalleryError::damaged(&path, format!("it is too short: {error}")),
                _ => GalleryError::Io { what: "map", path: path.clone(), source: error },
            })?;
            match header.expect(kind, map.bytes()) {
                Ok(()) => Ok((map, path)),
                Err(Misfit::ByteOrder) => Err(GalleryError::ByteOrder { path }),
                Err(Misfit::Version(found)) => Err(GalleryError::Version { path, found, known: VERSION }),
                Err(Misfit::Damaged(problem)) => Err(GalleryError::damaged(&path, problem)),
            }
        };
        let ((values, values_path), (records, records_path)) = (open(Kind::Values)?, open(Kind::Rows)?);
        let (right_records, right_values) = (Marked::new(rows), Marked::new(rows));
        let seeds = header.seeds();
        let open = match vault.filter(|_| header.sealed) {
            None => Open { values, records, keys: Vec::new(), locked: false },
            Some(vault) => {
                let files = [values.bytes(), records.bytes()];
                sealed::open(vault, &header, files, older.map(|older| &older.open))?
            }
        };
        Ok(Self { header, seeds, rows, open, values_path, records_path, right_records, right_values })
    }

    /// Bytes that are in memory of this process alone, and how many of them may not be written to swap space.
    pub(crate) fn memory(&self) -> (usize, usize) {
        if !self.header.sealed {
            return (0, 0);
        }
        let bytes = self.open.values.bytes().len() + self.open.records.bytes().len();
        (bytes, if self.open.locked { bytes } else { 0 })
    }

    /// Takes over what `older`, the same segment with fewer rows, has found right.
    pub(crate) fn trust(&self, older: &Self) {
        self.right_records.add(&older.right_records);
        self.right_values.add(&older.right_values);
    }

    /// Number of the segment.
    pub(crate) fn number(&self) -> u64 {
        self.header.segment
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// All values, `[rows, dim]`, unchecked.
    pub(crate) fn values(&self) -> Rows<'_> {
        let values = bytemuck::cast_slice(&self.open.values.bytes()[HEADER..]);
        Rows::new(values, self.rows, self.header.dim).expect("as many bytes are mapped")
    }

    /// Takes rows out of this process's memory, where they are in a file.
    pub(crate) fn release(&self, rows: Range<usize>) {
        for (map, kind) in [(&self.open.values, Kind::Values), (&self.open.records, Kind::Rows)] {
            // Of rows that are sealed these are not the strides, but those are in no file either.
            let stride = self.header.stride(kind);
            map.release(HEADER + rows.start * stride..HEADER + rows.end * stride);
        }
    }

    fn record_bytes(&self, row: usize) -> &[u8; format::RECORD] {
        &self.open.records.bytes()[HEADER..].as_chunks().0[row]
    }

    /// The record of a row.
    pub(crate) fn record(&self, row: usize) -> Result<Record, BadRow> {
        let copy = *self.record_bytes(row);
        let key = self.open.keys.get(row).copied().unwrap_or_default();
        let found = Record::decode(self.seeds, &copy).map(|record| Record { key, ..record });
        found.ok_or_else(|| {
            let error = GalleryError::damaged(&self.records_path, format!("the checksum of row {row} is wrong"));
            BadRow { row, id: Record::id(&copy), error }
        })
    }

    /// The row of a template, if it is here.
    pub(crate) fn find(&self, id: TemplateId) -> Option<usize> {
        let (mut from, mut to) = (0, self.rows);
        while from < to {
            let middle = usize::midpoint(from, to);
            if Record::id(self.record_bytes(middle)) < id { from = middle + 1 } else { to = middle }
        }
        (from < self.rows && Record::id(self.record_bytes(from)) == id).then_some(from)
    }

    /// A copy of a row's values that are what was written, and its record. A row that is removed meanwhile may be found
    /// erased.
    pub(crate) fn checked_row(&self, row: usize) -> Result<(Record, Vec<f32>), BadRow> {
        let record = self.record(row)?;
        let values = self.values().row(row).to_vec();
        if self.seeds.values(record.id, bytemuck::cast_slice(&values)) != record.values {
            return Err(self.bad_values(row, record.id));
        }
        Ok((record, values))
    }

    fn bad_values(&self, row: usize, id: TemplateId) -> BadRow {
        let problem = format!("the values of row {row}, template {}, are not what was written", id.0);
        BadRow { row, id, error: GalleryError::damaged(&self.values_path, problem) }
    }

    /// Compares the checksums of `rows`, each of them once in this process.
    pub(crate) fn check(&self, rows: Range<usize>) -> Result<(), BadRow> {
        self.check_records(rows.clone())?;
        self.right_values.mark(rows, |row| self.check_values(row, &self.glance(row)?))
    }

    /// The same of their records alone.
    pub(crate) fn check_records(&self, rows: Range<usize>) -> Result<(), BadRow> {
        self.right_records.mark(rows, |row| self.record(row).map(drop))
    }

    /// The record of a row for looks at many. It is compared with its checksum once in this process: a row that is
    /// removed at this moment may have any, and is found out when [`Segment::record`] is asked for it.
    pub(crate) fn glance(&self, row: usize) -> Result<Record, BadRow> {
        match self.right_records.has(row) {
            false => self.record(row),
            true => Ok(Record::decode_unchecked(&{ *self.record_bytes(row) })),
        }
    }

    /// Compares a row's checksums, whether that was done before or not.
    pub(crate) fn check_row(&self, row: usize) -> Result<Record, BadRow> {
        let record = self.record(row)?;
        self.check_values(row, &record).map(|()| record)
    }

    fn check_values(&self, row: usize, record: &Record) -> Result<(), BadRow> {
        let values = bytemuck::cast_slice(self.values().row(row));
        let whole = self.seeds.values(record.id, values) == record.values;
        if whole { Ok(()) } else { Err(self.bad_values(row, record.id)) }
    }
}

/// The file of a segment.
pub(crate) fn path_of(folder: &Path, segment: u64, kind: Kind) -> PathBuf {
    folder.join(format!("{segment:08}.{}", kind.ending()))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn rows_are_looked_at_once_and_only_those_that_are_wanted() {
        let marked = Marked::new(200);
        let looked = RefCell::new(Vec::new());
        let look = |row: usize| {
            looked.borrow_mut().push(row);
            if row == 150 { Err(row) } else { Ok(()) }
        };
        for (rows, wanted) in [(3..4, 3..4), (5..5, 5..5), (60..70, 60..70), (64..128, 70..128), (199..200, 199..200)] {
            assert_eq!(marked.mark(rows.clone(), look), Ok(()), "{rows:?}");
            assert_eq!(looked.take(), wanted.collect::<Vec<_>>(), "{rows:?}");
        }
        assert!([3, 60, 127, 199].iter().all(|row| marked.has(*row)) && !marked.has(4) && !marked.has(128));
        // What is wrong stays so.
        for _ in 0..2 {
            assert_eq!(marked.mark(149..200, look), Err(150));
            assert_eq!(looked.take(), [149, 150]);
        }
        let larger = Marked::new(300);
        larger.add(&marked);
        assert!(larger.has(127) && !larger.has(150) && !larger.has(250));
        larger.mark(0..64, look).unwrap();
        assert_eq!(looked.take(), [0, 1, 2].into_iter().chain(4..60).collect::<Vec<_>>());
    }
}
