use std::sync::Arc;

use rayon::prelude::*;

use super::{Exclusive, SEGMENTS, Store};
use crate::GalleryError;
use crate::catalogue::Extent;
use crate::segment::{Kind, Reduced, Segment, encode};

impl Store {
    /// Makes, or completes, a copy of every row in a quarter of its bytes, which searches of few probes read first.
    /// Answers stay the same: what may be among them is looked at in full. Rows that are enrolled later are searched as
    /// they are until this is called again. Returns the number of rows that were written.
    ///
    /// The files (`segments/N.int8`) may be deleted at any time.
    ///
    /// # Errors
    /// If rows are damaged, or what the disk refuses; the gallery is as it was.
    pub fn reduce(&self) -> Result<u64, GalleryError> {
        self.reduce_with(&|_| {})
    }

    /// Like [`Store::reduce`]; `done` is called with numbers of rows that were looked at, all rows in the end.
    ///
    /// # Errors
    /// As there.
    pub fn reduce_with(&self, done: &dyn Fn(u64)) -> Result<u64, GalleryError> {
        self.plain_on_disk()?;
        let writer = self.writer()?;
        let mut written = 0;
        for extent in writer.catalogue.segments()? {
            written += self.reduce_segment(&writer, extent, done)?;
        }
        Ok(written)
    }

    /// Rows of a copy that are made at a time.
    const REDUCED: usize = 8192;

    pub(super) fn reduce_segment(
        &self,
        writer: &Exclusive,
        extent: Extent,
        done: &dyn Fn(u64),
    ) -> Result<u64, GalleryError> {
        let (header, segment) = (self.header(extent.segment), self.map(extent)?);
        let known = Reduced::open(&self.folder.join(SEGMENTS), header, extent.rows);
        if known.is_none() {
            writer.segments.create_reduced(header)?;
        }
        let fits = |row: &usize| -> Result<bool, GalleryError> {
            let record = segment.record(*row).map_err(|bad| bad.error)?;
            let known = known.as_ref().filter(|known| *row < known.rows());
            // The copy of a row that was removed is zeros.
            Ok(known.is_some_and(|known| record.erased || known.fits(*row, &record)))
        };
        let code = |row: usize| -> Result<Vec<u8>, GalleryError> {
            let (record, values) = segment.checked_row(row).map_err(|bad| bad.error)?;
            Ok(encode(&header, &values, &record))
        };
        let mut written = 0;
        for start in (0..extent.rows).step_by(Self::REDUCED) {
            let rows = start..extent.rows.min(start + Self::REDUCED);
            done(rows.len() as u64);
            if rows.clone().map(|row| fits(&row)).collect::<Result<Vec<_>, _>>()?.into_iter().all(|fits| fits) {
                continue;
            }
            let codes = rows.clone().into_par_iter().map(code).collect::<Result<Vec<_>, _>>()?.concat();
            writer.segments.write_reduced(header, start, &codes)?;
            written += rows.len() as u64;
        }
        Ok(written)
    }

    /// The copy of a segment, mapped once in this process and again when it has grown.
    pub(super) fn reduced(&self, segment: &Segment) -> Option<Arc<Reduced>> {
        if self.facts.sealed {
            return None;
        }
        let all = || self.reduced.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = all().get(&segment.number()).filter(|known| known.rows() == segment.rows()) {
            return Some(Arc::clone(known));
        }
        let found =
            Reduced::open(&self.folder.join(SEGMENTS), self.header(segment.number()), segment.rows()).map(Arc::new)?;
        all().insert(segment.number(), Arc::clone(&found));
        Some(found)
    }

    /// Overwrites the copies of rows, or removes them all with a file that is none of ours.
    pub(super) fn erase_reduced(&self, writer: &Exclusive, extent: Extent, rows: &[usize]) -> Result<(), GalleryError> {
        let header = self.header(extent.segment);
        match Reduced::open(&self.folder.join(SEGMENTS), header, usize::MAX) {
            None => writer.segments.remove_derived(extent.segment, Kind::Reduced).map(drop),
            Some(known) => {
                let there: Vec<usize> = rows.iter().copied().filter(|row| *row < known.rows()).collect();
                writer.segments.erase_reduced(header, &there)
            }
        }
    }
}
