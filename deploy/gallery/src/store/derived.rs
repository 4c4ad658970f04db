use serde::Serialize;

use super::{SEGMENTS, Store};
use crate::GalleryError;
use crate::segment::{Graph, HEADER, Kind, Reduced};

/// What was derived from the rows of a gallery to find them faster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Indexes {
    /// Rows of the gallery, those of removed templates included until it is compacted.
    pub rows: u64,
    /// The copy that [`Store::reduce`] makes.
    pub reduced: Index,
    /// The graph that approximate searches walk along.
    pub graph: Index,
}

/// One of the [`Indexes`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Index {
    /// Rows that are in it; the others are newer, and searched as they are.
    pub rows: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

impl Store {
    /// What is there of derived files, and usable. Files that do not fit their segment are not counted: nothing uses
    /// them.
    ///
    /// # Errors
    /// If the catalogue cannot be read.
    pub fn indexes(&self) -> Result<Indexes, GalleryError> {
        let folder = self.folder.join(SEGMENTS);
        let mut found = Indexes::default();
        for extent in self.catalogue()?.segments()? {
            let header = self.header(extent.segment);
            found.rows += extent.rows as u64;
            let Some(reduced) = Reduced::open(&folder, header, extent.rows) else { continue };
            found.reduced.rows += reduced.rows() as u64;
            found.reduced.bytes += (HEADER + reduced.rows() * Kind::Reduced.stride(header.dim)) as u64;
            // A graph is walked along the copies of its rows.
            if let Some(graph) = Graph::open(&folder, header).filter(|graph| graph.rows() <= reduced.rows()) {
                found.graph.rows += graph.rows() as u64;
                found.graph.bytes += graph.bytes();
            }
        }
        Ok(found)
    }

    /// Removes all that [`Store::reduce`] made, and returns the number of files.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn remove_reduced(&self) -> Result<usize, GalleryError> {
        let removed = self.remove_derived(Kind::Reduced)?;
        self.reduced.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        Ok(removed)
    }

    /// Removes all graphs, and returns the number of files. What they are walked on, the copy of [`Store::reduce`],
    /// stays.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn remove_graphs(&self) -> Result<usize, GalleryError> {
        self.remove_derived(Kind::Graph)
    }

    fn remove_derived(&self, kind: Kind) -> Result<usize, GalleryError> {
        let writer = self.writer()?;
        let mut removed = 0;
        for extent in writer.catalogue.segments()? {
            removed += usize::from(writer.segments.remove_derived(extent.segment, kind)?);
        }
        Ok(removed)
    }
}

/// What programs without approximate search say to who asks for it.
#[cfg(not(feature = "ann"))]
impl Store {
    /// Makes the graph of approximate searches, in programs that can.
    ///
    /// # Errors
    /// Always: this program cannot.
    pub fn index(&self, _done: &(dyn Fn(u64) + Sync)) -> Result<u64, GalleryError> {
        Err(WITHOUT)
    }

    /// Searches approximately, in programs that can.
    ///
    /// # Errors
    /// Always: this program cannot.
    pub fn approximate(self, _effort: usize) -> Result<Box<dyn crate::Engine>, GalleryError> {
        Err(WITHOUT)
    }
}

#[cfg(not(feature = "ann"))]
const WITHOUT: GalleryError = GalleryError::Unsupported {
    what: "be indexed or searched approximately",
    why: "this program was built without the feature `ann`; build it with `cargo build --release -p deploy --features \
          ann`, which needs a C++ compiler",
};
