//! What stands between a file that nobody vouches for and the crate `parquet`, which allocates what a file says it has:
//! numbers are compared with the bytes that are there before it sees them.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};

/// Bytes of a page at most, compressed or not. Writers make pages of about one MiB.
const PAGE: u64 = 64 << 20;

/// Values of a page at most: as many float32 as fit one.
const VALUES: u32 = 1 << 24;

/// Bytes of a page's header at most, statistics included.
const PAGE_HEADER: u64 = 64 << 10;

/// Elements of a list in metadata at most: columns, row groups.
const LIST: u64 = 1 << 16;

/// Structures inside structures at most.
const DEPTH: usize = 16;

/// The bytes of a structure in Thrift's compact encoding, which all metadata of Parquet are in.
pub(super) struct Thrift<'a>(pub(super) &'a [u8]);

impl Thrift<'_> {
    /// Goes over a structure; none if it does not end, or has a list of more elements than it can have. Returns the
    /// numbers of 32 bits among its first eight fields.
    pub(super) fn structure(&mut self) -> Option<[Option<i64>; 8]> {
        self.nested(DEPTH)
    }

    fn nested(&mut self, depth: usize) -> Option<[Option<i64>; 8]> {
        let (mut numbers, mut field) = ([None; 8], 0_i64);
        loop {
            let byte = self.byte()?;
            if byte == 0 {
                return Some(numbers);
            }
            field = match byte >> 4 {
                0 => zigzag(self.number()?),
                step => field.checked_add(i64::from(step))?,
            };
            match (byte & 15, usize::try_from(field)) {
                (5, Ok(at)) if at < numbers.len() => numbers[at] = Some(zigzag(self.number()?)),
                (1 | 2, _) => {}
                (kind, _) => self.skip(kind, depth)?,
            }
        }
    }

    /// Skips a value that has bytes of its own.
    fn skip(&mut self, kind: u8, depth: usize) -> Option<()> {
        let depth = depth.checked_sub(1)?;
        match kind {
            1..=3 => self.bytes(1),
            4..=6 => self.number().map(drop),
            7 => self.bytes(8),
            8 => {
                let length = self.number()?;
                self.bytes(length)
            }
            9 | 10 => {
                let byte = self.byte()?;
                let count = if byte >> 4 == 15 { self.number()? } else { u64::from(byte >> 4) };
                if count > LIST || count > self.0.len() as u64 {
                    return None;
                }
                (0..count).try_for_each(|_| self.skip(byte & 15, depth))
            }
            12 => self.nested(depth).map(drop),
            // Parquet has no maps.
            _ => None,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, count: u64) -> Option<()> {
        self.0 = self.0.get(usize::try_from(count).ok()?..)?;
        Some(())
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

fn zigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -((number & 1).cast_signed())
}

/// A file whose pages are looked at before they are read.
pub(super) struct Pages {
    file: Mutex<File>,
    length: u64,
}

impl Pages {
    pub(super) fn new(file: File, length: u64) -> Self {
        Self { file: Mutex::new(file), length }
    }

    /// Bytes of the file.
    pub(super) fn read(&self, start: u64, length: u64) -> std::io::Result<Vec<u8>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.by_ref().take(length).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.length
    }
}

fn refuse(problem: String) -> ParquetError {
    ParquetError::General(problem)
}

/// The header of a page, which is looked at when it is read: the library opens one, too, where it has read it before.
pub(super) struct PageHeader {
    bytes: Cursor<Vec<u8>>,
    start: u64,
}

impl Read for PageHeader {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.bytes.position() == 0 {
            let start = self.start;
            let Some([_, _, size, compressed, ..]) = Thrift(self.bytes.get_ref()).structure() else {
                return Err(std::io::Error::other(format!("at byte {start} is no header of a page")));
            };
            for size in [size, compressed] {
                if size.is_none_or(|size| !(0..=PAGE.cast_signed()).contains(&size)) {
                    let found = size.map_or_else(|| "an unknown number of".to_owned(), |size| size.to_string());
                    let problem = format!("the page at byte {start} has {found} bytes; 0 to {PAGE} are allowed");
                    return Err(std::io::Error::other(problem));
                }
            }
        }
        self.bytes.read(into)
    }
}

impl ChunkReader for Pages {
    type T = PageHeader;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let bytes = self.read(start, PAGE_HEADER).map_err(|error| ParquetError::External(error.into()))?;
        Ok(PageHeader { bytes: Cursor::new(bytes), start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<bytes::Bytes> {
        let bytes =
            self.read(start, (length as u64).min(PAGE)).map_err(|error| ParquetError::External(error.into()))?;
        if bytes.len() != length {
            return Err(refuse(format!("{} of {length} bytes are there from byte {start} on", bytes.len())));
        }
        Ok(bytes.into())
    }
}

/// How many values of a column the reader may ask for.
#[derive(Debug, Default)]
pub struct Budget {
    allowed: AtomicU64,
    handed: AtomicU64,
}

impl Budget {
    /// Allows so many values from the beginning on.
    pub fn allow(&self, values: u64) {
        self.allowed.store(values, Ordering::Relaxed);
    }
}

/// Pages whose numbers of values are possible, and no more of them than what is asked for needs: a row may go on over
/// pages without end.
pub(super) struct Guarded<P> {
    pub(super) pages: P,
    pub(super) budget: Arc<Budget>,
    /// Whether a dictionary has passed.
    pub(super) dictionary: bool,
}

impl<P: PageReader> Guarded<P> {
    fn look(&mut self, page: &Page) -> Result<()> {
        let bytes = page.buffer().len() as u64;
        let values = page.num_values();
        match page {
            Page::DictionaryPage { .. } if u64::from(values) <= bytes => {
                self.dictionary = true;
                return Ok(());
            }
            Page::DictionaryPage { .. } => {
                return Err(refuse(format!("a dictionary of {bytes} bytes says it has {values} values")));
            }
            Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, .. }
                if u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len) > bytes =>
            {
                return Err(refuse(format!("the levels of a page have more than its {bytes} bytes")));
            }
            _ => {}
        }
        // The library panics at it.
        if !self.dictionary && matches!(page.encoding(), Encoding::PLAIN_DICTIONARY | Encoding::RLE_DICTIONARY) {
            return Err(refuse("a page of entries of a dictionary has none before it".to_owned()));
        }
        if values > VALUES {
            return Err(refuse(format!("a page has {values} values; {VALUES} are allowed")));
        }
        let (handed, allowed) = (&self.budget.handed, self.budget.allowed.load(Ordering::Relaxed));
        // With exactly as many the end of the last row is on the next page.
        if handed.load(Ordering::Relaxed) > allowed {
            return Err(refuse("a row has more values than are allowed".to_owned()));
        }
        handed.fetch_add(u64::from(values), Ordering::Relaxed);
        Ok(())
    }
}

impl<P: PageReader> Iterator for Guarded<P> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<P: PageReader> PageReader for Guarded<P> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.pages.get_next_page()?;
        if let Some(page) = &page {
            self.look(page)?;
        }
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages without end.
    struct Endless(Page);

    impl Iterator for Endless {
        type Item = Result<Page>;

        fn next(&mut self) -> Option<Self::Item> {
            self.get_next_page().transpose()
        }
    }

    impl PageReader for Endless {
        fn get_next_page(&mut self) -> Result<Option<Page>> {
            Ok(Some(self.0.clone()))
        }

        fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
            Ok(None)
        }

        fn skip_next_page(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn data(num_values: u32) -> Page {
        let level = Encoding::RLE;
        Page::DataPage {
            buf: bytes::Bytes::from_static(&[0; 8]),
            num_values,
            encoding: Encoding::PLAIN,
            def_level_encoding: level,
            rep_level_encoding: level,
            statistics: None,
        }
    }

    #[test]
    fn a_row_that_goes_on_over_pages_without_end_is_refused() {
        let budget = Arc::new(Budget::default());
        let mut pages = Guarded { pages: Endless(data(10)), budget: Arc::clone(&budget), dictionary: false };
        budget.allow(20);
        // The third page may have the end of the last row.
        for _ in 0..3 {
            pages.get_next_page().unwrap().unwrap();
        }
        assert!(pages.get_next_page().unwrap_err().to_string().contains("more values"));
        budget.allow(30);
        pages.get_next_page().unwrap().unwrap();
    }

    #[test]
    fn pages_that_claim_more_than_they_can_have_are_refused() {
        let refused = |page: Page| {
            let budget = Arc::new(Budget::default());
            budget.allow(u64::MAX);
            Guarded { pages: Endless(page), budget, dictionary: false }.get_next_page().unwrap_err().to_string()
        };
        assert!(refused(data(u32::MAX)).contains("4294967295"));
        let Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } = data(1) else {
            unreachable!()
        };
        let encoding = Encoding::RLE_DICTIONARY;
        let entries =
            Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics: None };
        assert!(refused(entries).contains("dictionary"));
        let buf = bytes::Bytes::from_static(&[0; 8]);
        let dictionary =
            Page::DictionaryPage { buf: buf.clone(), num_values: 9, encoding: Encoding::PLAIN, is_sorted: false };
        assert!(refused(dictionary).contains("9 values"));
        let levels = Page::DataPageV2 {
            buf,
            num_values: 1,
            encoding: Encoding::PLAIN,
            num_nulls: 0,
            num_rows: 1,
            def_levels_byte_len: 5,
            rep_levels_byte_len: 4,
            is_compressed: false,
            statistics: None,
        };
        assert!(refused(levels).contains("8 bytes"));
    }

    #[test]
    fn structures_are_walked_to_their_end() {
        let numbers = |bytes: &[u8]| Thrift(bytes).structure();
        // Fields 1 and 3, with another structure and a list of two between and behind them.
        let whole = [0x15, 4, 0x1C, 0x15, 2, 0, 0x15, 3, 0x19, 0x25, 2, 2, 0];
        let found = numbers(&whole).unwrap();
        assert_eq!((found[1], found[2], found[3]), (Some(2), None, Some(-2)));
        for end in 0..whole.len() {
            assert!(numbers(&whole[..end]).is_none(), "{end} bytes");
        }
        // Lists and texts that are longer than what is there, maps, and structures inside structures inside …
        assert!(numbers(&[0x19, 0xFC, 0xFF, 0xFF, 0xFF, 0xFF, 7, 0]).is_none());
        assert!(numbers(&[0x18, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0]).is_none());
        assert!(numbers(&[0x1B, 0, 0]).is_none());
        assert!(numbers(&[0x1C; 100]).is_none());
    }
}
