//! Rows on disk: two files that only grow, whose removed rows are overwritten with zeros, and a smaller copy derived
//! from them.

mod disk;
mod format;
#[cfg(feature = "ann")]
mod graph;
mod map;
mod reduced;
mod writer;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use metrics::Rows;

pub use disk::{Disk, System};
#[cfg(target_arch = "x86_64")]
pub(crate) use format::TAIL;
pub(crate) use format::{GalleryId, HEADER, Header, Kind, Misfit, Record, Seeds, VERSION};
#[cfg(feature = "ann")]
pub(crate) use graph::{Graph, NONE};
pub(crate) use reduced::{Codes, Reduced, encode, quantised};
pub(crate) use writer::{Writer, paths_of};

use crate::{GalleryError, TemplateId};
use map::Map;

/// Rows whose checksums are compared together, when one of them is first read.
const BLOCK: usize = 128;

/// The committed rows of a segment, mapped. Ids grow from row to row.
#[derive(Debug)]
pub(crate) struct Segment {
    header: Header,
    seeds: Seeds,
    rows: usize,
    values: Map,
    records: Map,
    values_path: PathBuf,
    records_path: PathBuf,
    /// What was found right of each block of rows: [`RECORDS`], [`VALUES`].
    checked: Vec<AtomicU8>,
}

/// The records of a block are what was written.
const RECORDS: u8 = 1;
/// And so are its values.
const VALUES: u8 = 2;

/// A row that is not what was written.
#[derive(Debug)]
pub(crate) struct BadRow {
    pub(crate) row: usize,
    /// As its record says, which may be damaged itself.
    pub(crate) id: TemplateId,
    pub(crate) error: GalleryError,
}

impl Segment {
    /// Maps `rows` rows of segment `header.segment` in `folder`.
    ///
    /// # Errors
    /// [`GalleryError::Io`] with `NotFound` if compaction has replaced it meanwhile; files that are too short, or of
    /// something else.
    pub(crate) fn open(folder: &Path, header: Header, rows: usize) -> Result<Self, GalleryError> {
        let open = |kind: Kind| -> Result<(Map, PathBuf), GalleryError> {
            let path = path_of(folder, header.segment, kind);
            let length = kind.stride(header.dim).checked_mul(rows).and_then(|bytes| bytes.checked_add(HEADER));
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
        let checked = (0..rows.div_ceil(BLOCK)).map(|_| AtomicU8::new(0)).collect();
        Ok(Self { header, seeds: header.seeds(), rows, values, records, values_path, records_path, checked })
    }

    /// Takes over what `older`, the same segment with fewer rows, has found right.
    pub(crate) fn trust(&self, older: &Self) {
        // The last block of the older one may be a part.
        for (own, older) in self.checked.iter().zip(&older.checked[..older.rows / BLOCK]) {
            own.store(older.load(Ordering::Relaxed), Ordering::Relaxed);
        }
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
        let values = bytemuck::cast_slice(&self.values.bytes()[HEADER..]);
        Rows::new(values, self.rows, self.header.dim).expect("as many bytes are mapped")
    }

    fn record_bytes(&self, row: usize) -> &[u8; format::RECORD] {
        &self.records.bytes()[HEADER..].as_chunks().0[row]
    }

    /// The record of a row.
    pub(crate) fn record(&self, row: usize) -> Result<Record, BadRow> {
        let copy = *self.record_bytes(row);
        Record::decode(self.seeds, &copy).ok_or_else(|| {
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

    /// Compares the checksums of `rows`, each block of rows once in this process. Other rows of a block may be removed
    /// and about to be overwritten: they are no error here, and the block is compared again next time.
    pub(crate) fn check(&self, rows: Range<usize>) -> Result<(), BadRow> {
        self.check_blocks(rows, RECORDS | VALUES, |row| {
            let record = self.glance(row)?;
            self.check_values(row, &record)
        })
    }

    /// The same of their records alone.
    pub(crate) fn check_records(&self, rows: Range<usize>) -> Result<(), BadRow> {
        self.check_blocks(rows, RECORDS, |row| self.record(row).map(drop))
    }

    fn check_blocks(
        &self,
        rows: Range<usize>,
        wanted: u8,
        check: impl Fn(usize) -> Result<(), BadRow>,
    ) -> Result<(), BadRow> {
        for block in rows.start / BLOCK..rows.end.div_ceil(BLOCK) {
            if self.checked[block].load(Ordering::Relaxed) & wanted == wanted {
                continue;
            }
            let mut whole = true;
            for row in block * BLOCK..self.rows.min((block + 1) * BLOCK) {
                match check(row) {
                    Err(bad) if rows.contains(&row) => return Err(bad),
                    found => whole &= found.is_ok(),
                }
            }
            if whole {
                self.checked[block].fetch_or(wanted, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    /// The record of a row for looks at many. It is compared with its checksum once in this process: a row that is
    /// removed at this moment may have any, and is found out when [`Segment::record`] is asked for it.
    pub(crate) fn glance(&self, row: usize) -> Result<Record, BadRow> {
        match self.checked[row / BLOCK].load(Ordering::Relaxed) & RECORDS {
            0 => self.record(row),
            _ => Ok(Record::decode_unchecked(&{ *self.record_bytes(row) })),
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
