//! Columns of Parquet files that nobody vouches for: what a file says it has is compared with the bytes that are there
//! before it is read.

mod guard;

use std::fs::File;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::page::PageReader;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::Length;
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::schema::types::ColumnDescPtr;

pub use guard::Budget;
use guard::{Guarded, Pages, Thrift};

/// How a file begins and ends.
pub const MAGIC: &[u8; 4] = b"PAR1";

/// Bytes of a footer at most.
const FOOTER: u64 = 64 << 20;

/// Why a file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system says so.
    #[error(transparent)]
    Read(#[from] std::io::Error),
    /// It is something else, or damaged.
    #[error("{0}")]
    Damaged(String),
}

/// An open file.
pub struct Columns {
    metadata: ParquetMetaData,
    pages: Arc<Pages>,
    rows: u64,
}

/// A column of a group of rows.
pub struct Chunk {
    /// Its type.
    pub descriptor: ColumnDescPtr,
    /// Its pages.
    pub pages: Box<dyn PageReader>,
    /// How many of its values may be read.
    pub budget: Arc<Budget>,
}

impl Columns {
    /// Reads the footer of a file of so many bytes.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(file: File, length: u64) -> Result<Self, OpenError> {
        let damaged = |problem: String| Err(OpenError::Damaged(problem));
        let few = || OpenError::Damaged(format!("{length} bytes are too few for a Parquet file"));
        let pages = Pages::new(file, length);
        let end = pages.read(length.checked_sub(8).ok_or_else(few)?, 8)?;
        let [a, b, c, d, ref magic @ ..] = end[..] else { return Err(few()) };
        if magic != MAGIC {
            let found = magic.escape_ascii();
            return damaged(format!("it ends in `{found}`; PAR1 is read, files that are not encrypted"));
        }
        let footer = u64::from(u32::from_le_bytes([a, b, c, d]));
        let start = length.checked_sub(footer + 8).filter(|start| *start >= MAGIC.len() as u64 && footer <= FOOTER);
        let Some(start) = start else {
            return damaged(format!("its footer has {footer} bytes; {FOOTER} and what is there are allowed"));
        };
        let footer = pages.read(start, footer)?;
        if Thrift(&footer).structure().is_none() {
            return damaged("its footer is damaged, or has a list of more than 65536 elements".into());
        }
        let metadata = match ParquetMetaDataReader::decode_metadata(&footer) {
            Ok(metadata) => metadata,
            Err(error) => return damaged(format!("its footer is damaged: {error}")),
        };
        let mut rows = 0_u64;
        for group in metadata.row_groups() {
            let more = u64::try_from(group.num_rows()).ok().and_then(|more| rows.checked_add(more));
            rows = match more {
                Some(rows) => rows,
                None => return damaged(format!("a group of {} rows", group.num_rows())),
            };
        }
        Ok(Self { metadata, pages: Arc::new(pages), rows })
    }

    /// What the file says about itself.
    pub fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows of a group.
    pub fn rows_of(&self, group: usize) -> u64 {
        u64::try_from(self.metadata.row_group(group).num_rows()).unwrap_or_default()
    }

    /// The pages of a column in a group of rows.
    ///
    /// # Errors
    /// If they are not in the file, or compressed by a method that is not read.
    pub fn column(&self, group: usize, at: usize) -> Result<Chunk, String> {
        let group = self.metadata.row_group(group);
        let Some(chunk) = group.columns().get(at) else { return Err("a group of rows does not have it".into()) };
        let codec = chunk.compression();
        if !matches!(codec, Compression::UNCOMPRESSED | Compression::SNAPPY) {
            return Err(format!("it is compressed by {codec}; UNCOMPRESSED and SNAPPY are read"));
        }
        if chunk.file_path().is_some() {
            return Err("it is in another file; columns in the file itself are read".into());
        }
        let start = chunk.dictionary_page_offset().unwrap_or(chunk.data_page_offset());
        let end = start.checked_add(chunk.compressed_size()).and_then(|end| u64::try_from(end).ok());
        if start < 0 || chunk.compressed_size() < 0 || end.is_none_or(|end| end > self.pages.len()) {
            let (bytes, all) = (chunk.compressed_size(), self.pages.len());
            return Err(format!("it is said to be {bytes} bytes from byte {start} on, in a file of {all}"));
        }
        let rows = usize::try_from(group.num_rows()).unwrap_or_default();
        let pages = SerializedPageReader::new(Arc::clone(&self.pages), chunk, rows, None);
        let pages = pages.map_err(|error| error.to_string())?;
        let budget = Arc::new(Budget::default());
        let pages = Box::new(Guarded { pages, budget: Arc::clone(&budget), dictionary: false });
        Ok(Chunk { descriptor: chunk.column_descr_ptr(), pages, budget })
    }
}
