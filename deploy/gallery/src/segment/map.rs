//! The one file of this crate with `unsafe`: files as memory.
#![expect(unsafe_code, reason = "a mapped file is memory that others may change; each line says why that is sound")]

use std::fs::File;
use std::io;
use std::ops::Range;

/// The first bytes of a file as memory.
#[derive(Debug)]
pub(crate) struct Map {
    map: memmap2::Mmap,
    /// Whether there is a file that its bytes can be read from again.
    of_file: bool,
}

impl Map {
    /// Maps the first `length` bytes, which the file must have.
    pub(crate) fn new(file: &File, length: usize) -> io::Result<Self> {
        let found = file.metadata()?.len();
        if found < length as u64 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{found} of {length} bytes are there")));
        }
        // SAFETY: a mapped file must not shrink and its bytes must not be relied on to stay as they are.
        // - Nobody of ours shortens a file below the rows that the catalogue has committed, and only committed rows are
        //   mapped: `Segment::cut` removes what lies behind them, compaction unlinks whole files, which stay mapped.
        //   Somebody else who truncates the file ends this process with SIGBUS: it dies, it reads nothing wrong.
        // - Removal overwrites committed rows with zeros while other processes have them mapped. Bytes read here become
        //   float32 or int8 (every pattern is one), the numbers of records, which are copied out, checked against their
        //   CRC-32 and only then used, and numbers of rows in a graph, each copied out and compared with the number of
        //   rows. No length, index or pointer is taken from the mapping without that, so a value that changes between
        //   two reads changes a number and never what memory is touched.
        // - Files that are derived are never shortened either: they are overwritten in whole rows, or unlinked.
        let map = unsafe { memmap2::MmapOptions::new().len(length).map(file) }?;
        Ok(Self { map, of_file: true })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Takes pages out of this process's memory, of a file that is mapped. Who reads them again gets them from the
    /// file, which the system still has in memory. Memory of no file is left alone, and so is all of it on other
    /// systems than Linux.
    pub(crate) fn release(&self, bytes: Range<usize>) {
        #[cfg(target_os = "linux")]
        if self.of_file && bytes.end <= self.map.len() && !bytes.is_empty() {
            // SAFETY: MADV_DONTNEED removes entries of this process's page table, here of a shared mapping of a file
            // that can only be read (`Map::new`; memory of no file, which would become zeros, was excluded above).
            // - Nothing is written: there are no changes of ours that could be lost, and the page cache stays as it is.
            // - The addresses stay mapped: a slice that another thread reads at this moment faults the page in again,
            //   with the bytes of the file, as it does with a page that the system took back by itself.
            // - Bytes that others change in the file meanwhile are what `Map::new` argues about already.
            // - The range lies in the mapping; the system moves its start down and its end up to whole pages of the
            //   same mapping, of which the same is true.
            // Where the system refuses (pages that are locked), they stay: that costs memory and nothing else.
            let _ = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, bytes.start, bytes.len())
            };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (self.of_file, bytes);
    }
}

/// Memory of no file, for what no file is to have. It is zeros, and starts with a page.
#[derive(Debug)]
pub(crate) struct Locked(memmap2::MmapMut);

impl Locked {
    pub(crate) fn new(length: usize) -> io::Result<Self> {
        let map = memmap2::MmapMut::map_anon(length)?;
        // Not in the file of a crash either. What the system does not know it does not do.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::DontDump);
        Ok(Self(map))
    }

    /// Keeps it out of the swap space. The system may allow that for a few bytes only.
    pub(crate) fn lock(&self) -> bool {
        self.0.lock().is_ok()
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// The same, never changed again.
    pub(crate) fn freeze(self) -> io::Result<Map> {
        Ok(Map { map: self.0.make_read_only()?, of_file: false })
    }
}
