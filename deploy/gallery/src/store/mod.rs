//! The embedded engine: a folder with a catalogue in SQLite and segments of rows.
//!
//! ```text
//! gallery/.lock              who changes the gallery
//!         gallery.db         what is enrolled (and gallery.db-wal, gallery.db-shm while it is open)
//!         segments/N.values  rows of float32
//!         segments/N.rows    id, subject, camera, time, tags and checksums of each row
//!         segments/N.int8    the rows in eight bits, derived: see [`Store::reduce`]
//!         segments/N.graph   which rows are near each other, derived: see [`Store::index`]
//! ```
//!
//! An encrypted gallery has no derived files, and its keys lie elsewhere: see [`crate::KeyFile`].
//!
//! A gallery that migrates to another model has segments of both, and the catalogue says which are searched.
//!
//! Enrolling writes rows behind those that the catalogue knows, waits for the disk and then commits them in the
//! catalogue. Until that commit they do not exist; after it they are durable. Removing commits the removal first, which
//! makes it true, and then overwrites the rows; a crash in between is made up for by the next who opens the gallery for
//! writing. Files of rows are never shortened below committed rows and never replaced under their name, so that readers
//! in any process keep what they have mapped.

#[cfg(feature = "ann")]
mod approximate;
mod changes;
mod check;
mod derived;
mod migrate;
mod moment;
mod people;
mod reduce;
mod traces;
mod vault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use files::lock::{Lock, LockError};
use metrics::Rows;

#[cfg(feature = "ann")]
pub use approximate::Approximate;
pub use changes::Changes;
pub use check::Problem;
pub use derived::{Index, Indexes};
pub use migrate::{Migrated, Migration};
pub use traces::{Trace, traces};
pub use vault::HeldMemory;

use crate::catalogue::{self, Act, Catalogue, Extent, Facts, LogEntry, Note, Place};
use crate::segment::{Disk, Header, Record, Reduced, Segment, System, Writer, paths_of};
use crate::turn::Turn;
use crate::vault::{KeyFile, Vault};
use crate::{Engine, GalleryError, Info, MAX_DIM, Model, NewTemplate, Selection, Snapshot, TemplateId};
use moment::{Moment, RowsOf};

/// Folder of the segments.
const SEGMENTS: &str = "segments";

/// Bytes of values after which another segment is begun: what compaction copies at a time.
const SEGMENT_BYTES: usize = 1 << 30;

/// The same of an encrypted gallery: what is opened again when a row of it was removed.
const SEALED_SEGMENT_BYTES: usize = 32 << 20;

/// States that a reader meets before it gives up: each needs a compaction that finished meanwhile.
const TRIES: usize = 100;

/// A gallery in a folder. Any number of processes may read it while one of them changes it.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    facts: Facts,
    writer: Option<Mutex<Exclusive>>,
    mapped: Mutex<BTreeMap<u64, Arc<Segment>>>,
    reduced: Mutex<BTreeMap<u64, Arc<Reduced>>>,
    /// The keys of an encrypted gallery.
    vault: Option<Arc<Vault>>,
    /// What renewable templates are turned by.
    turn: Option<Arc<Turn>>,
}

/// What only the one who changes the gallery has.
#[derive(Debug)]
struct Exclusive {
    catalogue: Catalogue,
    segments: Writer,
    // Given back after the catalogue is closed.
    _lock: Lock,
}

/// How a gallery is made.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Bytes of values after which another segment is begun.
    pub segment_bytes: usize,
    /// Where it is written to.
    pub disk: Arc<dyn Disk>,
    /// The key of an encrypted gallery; none for one that is not.
    pub key: Option<KeyFile>,
    /// Templates are renewable, which needs a key: see [`Store::renew_templates`].
    pub renewable: bool,
}

impl Default for Layout {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, disk: Arc::new(System), key: None, renewable: false }
    }
}

/// How a gallery is opened for writing.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Wait while another process has it open for writing.
    pub wait: bool,
    /// Where it is written to.
    pub disk: Arc<dyn Disk>,
    /// The key of an encrypted gallery.
    pub key: Option<KeyFile>,
}

impl Default for Opening {
    fn default() -> Self {
        Self { wait: false, disk: Arc::new(System), key: None }
    }
}

/// What compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    /// Rows of removed templates that are no more.
    pub rows: u64,
    /// Segments that were written anew.
    pub segments: usize,
    /// Rows that are in no graph of approximate searches any more.
    pub unindexed: u64,
}

/// What renewable templates of this gallery are turned by.
fn turn(vault: Option<&Vault>, facts: &Facts) -> Result<Option<Arc<Turn>>, GalleryError> {
    let (Some(vault), Some(turn)) = (vault, facts.turn) else { return Ok(None) };
    Ok(Some(Arc::new(Turn::new(&*vault.turn(turn)?, facts.model.dim))))
}

impl Store {
    /// Makes an empty gallery for embeddings of `model` in a folder, which is made if needed, and opens it for writing.
    /// Other files of the folder, pictures for example, are left alone.
    ///
    /// # Errors
    /// If the folder has a gallery, or something else where its segments go, or cannot be written to.
    pub fn create(folder: &Path, model: &Model) -> Result<Self, GalleryError> {
        Self::create_with(folder, model, Layout::default())
    }

    /// Like [`Store::create`], with another layout.
    ///
    /// # Errors
    /// As there.
    pub fn create_with(folder: &Path, model: &Model, layout: Layout) -> Result<Self, GalleryError> {
        match Self::locked(folder, model, layout, false)? {
            (store, true) => Ok(store),
            (_, false) => Err(GalleryError::Occupied { path: folder.to_owned(), found: "a gallery" }),
        }
    }

    /// Opens a gallery for writing, as [`Store::write`] does, or makes one for embeddings of `model`, as
    /// [`Store::create`] does. One that was there may be of another model.
    ///
    /// # Errors
    /// As either.
    pub fn write_or_create(folder: &Path, model: &Model, wait: bool) -> Result<Self, GalleryError> {
        Self::write_or_create_with(folder, model, wait, None, false)
    }

    /// Like [`Store::write_or_create`], of an encrypted gallery if there is a key; a new one has renewable templates if
    /// `renewable`, one that is there keeps what it has.
    ///
    /// # Errors
    /// As there; if the gallery is encrypted and the key is not its key, or it is not encrypted.
    pub fn write_or_create_with(
        folder: &Path,
        model: &Model,
        wait: bool,
        key: Option<&KeyFile>,
        renewable: bool,
    ) -> Result<Self, GalleryError> {
        let layout = Layout { key: key.cloned(), renewable, ..Layout::default() };
        Self::locked(folder, model, layout, wait).map(|(store, _)| store)
    }

    /// The gallery in a folder, and whether it is new.
    fn locked(folder: &Path, model: &Model, layout: Layout, wait: bool) -> Result<(Self, bool), GalleryError> {
        check_dim(model)?;
        files::make_folder(folder).map_err(GalleryError::io("create", folder))?;
        local(folder)?;
        let lock = lock(folder, wait)?;
        if Catalogue::exists(folder)? {
            let catalogue = Catalogue::open(folder, true)?;
            return Ok((Self::exclusive(folder, catalogue, lock, layout.disk, layout.key.as_ref())?, false));
        }
        let segments = folder.join(SEGMENTS);
        private_folder(&segments).map_err(GalleryError::io("create", &segments))?;
        // A creation that was interrupted leaves it empty.
        if std::fs::read_dir(&segments).map_err(GalleryError::io("read", &segments))?.next().is_some() {
            return Err(GalleryError::Occupied { path: segments, found: "files" });
        }
        if layout.renewable && layout.key.is_none() {
            let why = "only an encrypted gallery can: what they are turned by is kept with its keys";
            return Err(GalleryError::Unsupported { what: "have renewable templates", why });
        }
        let gallery = crate::vault::random()?;
        let vault = layout.key.as_ref().map(|key| Vault::create(key, gallery, folder)).transpose()?;
        let most = if vault.is_some() { SEALED_SEGMENT_BYTES } else { usize::MAX };
        let rows = segment_rows(layout.segment_bytes.min(most), model.dim);
        let turn = vault.as_ref().filter(|_| layout.renewable).map(Vault::make_turn).transpose()?;
        let catalogue = Catalogue::create(folder, model, rows, (gallery, vault.map(Arc::new), turn))?;
        layout.disk.sync_folder(folder).map_err(GalleryError::io("sync", folder))?;
        Ok((Self::exclusive(folder, catalogue, lock, layout.disk, layout.key.as_ref())?, true))
    }

    /// Whether a folder has a gallery, or a part of one whose creation was interrupted.
    pub fn is_at(folder: &Path) -> bool {
        folder.join(catalogue::FILE).is_file()
    }

    /// Opens a gallery for reading.
    ///
    /// # Errors
    /// If there is none, or it is not one that this program reads.
    pub fn open(folder: &Path) -> Result<Self, GalleryError> {
        Self::open_with(folder, None)
    }

    /// Like [`Store::open`], with the key of an encrypted gallery.
    ///
    /// # Errors
    /// As there; [`GalleryError::KeyNeeded`] or [`GalleryError::NotEncrypted`] if the key is missing or too much;
    /// [`GalleryError::KeyFile`] if it is another gallery's; [`GalleryError::Erased`] if this is a copy that still has
    /// people who were removed since.
    pub fn open_with(folder: &Path, key: Option<&KeyFile>) -> Result<Self, GalleryError> {
        local(folder)?;
        let catalogue = Catalogue::open(folder, false)?;
        catalogue.hold()?;
        let facts = catalogue.facts()?;
        let vault = vault::unlock(folder, &facts, key)?;
        if let Some(vault) = &vault
            && !catalogue.with_keys(Some(Arc::clone(vault))).erased()?.is_empty()
        {
            return Err(GalleryError::Erased { path: vault.file().store() });
        }
        let turn = turn(vault.as_deref(), &facts)?;
        let (mapped, reduced) = Default::default();
        Ok(Self { folder: folder.to_owned(), facts, writer: None, mapped, reduced, vault, turn })
    }

    /// Opens a gallery for writing, and clears up after a writer that crashed. If another process has it open for
    /// writing, `wait` waits until that one is done.
    ///
    /// # Errors
    /// [`GalleryError::Locked`] without `wait`, which names that process; otherwise as [`Store::open`].
    pub fn write(folder: &Path, wait: bool) -> Result<Self, GalleryError> {
        Self::write_with(folder, &Opening { wait, ..Opening::default() })
    }

    /// Like [`Store::write`], on another disk, or with the key of an encrypted gallery. From a copy that still has
    /// people who were removed after it was made they are removed.
    ///
    /// # Errors
    /// As there and, but for [`GalleryError::Erased`], as [`Store::open_with`].
    pub fn write_with(folder: &Path, Opening { wait, disk, key }: &Opening) -> Result<Self, GalleryError> {
        local(folder)?;
        // Whether it is a gallery is seen before a lock is made in a folder of something else.
        Catalogue::open(folder, false)?.hold()?;
        let lock = lock(folder, *wait)?;
        let catalogue = Catalogue::open(folder, true)?;
        Self::exclusive(folder, catalogue, lock, Arc::clone(disk), key.as_ref())
    }

    fn exclusive(
        folder: &Path,
        mut catalogue: Catalogue,
        lock: Lock,
        disk: Arc<dyn Disk>,
        key: Option<&KeyFile>,
    ) -> Result<Self, GalleryError> {
        // Before anything is written.
        let facts = catalogue.facts()?;
        let vault = vault::unlock(folder, &facts, key)?;
        catalogue = catalogue.with_keys(vault.clone());
        let turn = turn(vault.as_deref(), &facts)?;
        catalogue.upgrade()?;
        let segments = Writer::new(disk, folder.join(SEGMENTS), vault.clone());
        let store = Self {
            folder: folder.to_owned(),
            facts,
            writer: Some(Mutex::new(Exclusive { catalogue, segments, _lock: lock })),
            mapped: Mutex::default(),
            reduced: Mutex::default(),
            vault,
            turn,
        };
        store.recover()?;
        Ok(store)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whose embeddings the gallery holds.
    pub fn model(&self) -> &Model {
        &self.facts.model
    }

    /// What was noted about the gallery; see [`Changes::describe`].
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn about(&self) -> Result<String, GalleryError> {
        self.catalogue()?.about()
    }

    /// Hands out what was done to the gallery, the first change first, and returns what is wrong with that log: a
    /// record that was changed, or is missing. A gallery of an earlier version has no records until it is next changed.
    ///
    /// Each record has a hash of the one before, so that a change of any shows; but whoever can write to the catalogue
    /// and knows how can write all hashes anew. A hash that is kept elsewhere tells that.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn log(&self, each: impl FnMut(LogEntry)) -> Result<Vec<String>, GalleryError> {
        self.catalogue()?.log(each)
    }

    /// The catalogue as it is now.
    fn catalogue(&self) -> Result<Catalogue, GalleryError> {
        let catalogue = Catalogue::open(&self.folder, false)?;
        catalogue.hold()?;
        let renewed = || GalleryError::Renewed { path: self.folder.clone() };
        let same = (catalogue.facts()? == self.facts).then_some(catalogue).ok_or_else(renewed)?;
        Ok(same.with_keys(self.vault.clone()))
    }

    fn writer(&self) -> Result<MutexGuard<'_, Exclusive>, GalleryError> {
        let writer = self.writer.as_ref().ok_or_else(|| GalleryError::ReadOnly { path: self.folder.clone() })?;
        // What a panic left undone was not committed.
        Ok(writer.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn header(&self, segment: u64) -> Header {
        Header { gallery: self.facts.gallery, segment, dim: self.facts.model.dim, sealed: self.facts.sealed }
    }

    /// Finishes what a crash interrupted: removes what was not committed, overwrites what was removed.
    fn recover(&self) -> Result<(), GalleryError> {
        let mut writer = self.writer()?;
        let extents = writer.catalogue.segments()?;
        // Before anything is written; see there.
        drop(writer.catalogue.change()?);
        writer.segments.sweep(&writer.catalogue.in_use()?)?;
        for extent in extents {
            writer.segments.cut(self.header(extent.segment), extent.rows)?;
        }
        if let Some(next) = writer.catalogue.next()? {
            for extent in writer.catalogue.staged()? {
                writer.segments.cut(self.next_header(&next, extent.segment), extent.rows)?;
            }
        }
        if let Some(vault) = &self.vault {
            // Of a renewal that was interrupted.
            vault.forget_turns(self.facts.turn)?;
        }
        // A copy from before a removal.
        let erased = writer.catalogue.erased()?;
        if !erased.is_empty() {
            let change = writer.catalogue.change()?;
            let mut removed = changes::Touched::default();
            let gone = change.remove(&Selection::Templates(erased))?;
            gone.into_iter().for_each(|(id, subject)| removed.add(id, subject));
            removed.note(&change, Act::Remove, Some("restore"))?;
            change.commit()?;
        }
        self.erase(&mut writer)
    }

    /// Overwrites the rows of templates that are removed and not erased yet, and deletes the keys of their subjects.
    fn erase(&self, writer: &mut Exclusive) -> Result<(), GalleryError> {
        let removed = writer.catalogue.removed()?;
        let pending: Vec<TemplateId> = removed.iter().filter(|(_, erased)| !erased).map(|(id, _)| *id).collect();
        let doomed = writer.catalogue.doomed()?;
        if pending.is_empty() && doomed.is_empty() {
            return Ok(());
        }
        // The keys first: whatever happens next, nobody can open the rows again.
        if let Some(vault) = &self.vault {
            vault.erase(&doomed)?;
        }
        for (extent, ids) in self.in_extents(&writer.catalogue.segments()?, &pending)? {
            let segment = self.map(extent)?;
            let row = |id: &TemplateId| {
                let record = Record::erased(&self.facts.gallery, *id, self.facts.model.dim);
                let lost = || {
                    let problem = format!("template {} is in none of its rows", id.0);
                    GalleryError::damaged(&paths_of(&self.folder.join(SEGMENTS), extent.segment)[1], problem)
                };
                segment.find(*id).map(|row| (row, record)).ok_or_else(lost)
            };
            let rows = ids.iter().map(row).collect::<Result<Vec<_>, _>>()?;
            // The copy first: what is erased in the segment would not be looked for again.
            self.erase_reduced(writer, extent, &rows.iter().map(|(row, _)| *row).collect::<Vec<_>>())?;
            writer.segments.erase(self.header(extent.segment), &rows)?;
            // What is open of it in memory is of before.
            if self.facts.sealed {
                self.mapped.lock().unwrap_or_else(PoisonError::into_inner).remove(&extent.segment);
            }
        }
        self.erase_staged(writer, &pending)?;
        let change = writer.catalogue.change()?;
        change.set_erased(&pending)?;
        if self.facts.sealed {
            change.forget_doomed(&doomed)?;
        }
        change.commit()?;
        // The log may still have the subject's name.
        writer.catalogue.tidy()?;
        Ok(())
    }

    /// Empties SQLite's log, which may still have names and small pictures of who was removed, once the catalogue has
    /// what else is in it. What removes does so itself; but whoever reads the gallery as it was before prevents it, and
    /// then this is false and to be repeated. It does not wait for them.
    ///
    /// # Errors
    /// [`GalleryError::ReadOnly`]; what the disk refuses.
    pub fn tidy(&self) -> Result<bool, GalleryError> {
        self.writer()?.catalogue.tidy()
    }

    /// The extents that hold `ids`, which are in order, each with its ids.
    fn in_extents<'a>(
        &self,
        extents: &[Extent],
        mut ids: &'a [TemplateId],
    ) -> Result<Vec<(Extent, &'a [TemplateId])>, GalleryError> {
        let mut found = Vec::new();
        for (at, extent) in extents.iter().enumerate() {
            let end = extents.get(at + 1).map_or(ids.len(), |next| ids.partition_point(|id| *id < next.first));
            let own;
            (own, ids) = ids.split_at(end);
            if !own.is_empty() {
                found.push((*extent, own));
            }
        }
        match ids.first() {
            None => Ok(found),
            Some(id) => {
                let problem = format!("no segment holds template {}", id.0);
                Err(GalleryError::damaged(&self.folder.join(catalogue::FILE), problem))
            }
        }
    }

    /// A segment, mapped once in this process and once more when it has grown.
    fn map(&self, extent: Extent) -> Result<Arc<Segment>, GalleryError> {
        let known = self.mapped.lock().unwrap_or_else(PoisonError::into_inner).get(&extent.segment).cloned();
        if let Some(known) = known.clone().filter(|known| known.rows() == extent.rows) {
            return Ok(known);
        }
        let older = known.as_deref().filter(|known| known.rows() < extent.rows);
        let segment = self.segment(self.header(extent.segment), extent.rows, older)?;
        if let Some(older) = known.filter(|known| known.rows() < extent.rows) {
            segment.trust(&older);
        }
        let segment = Arc::new(segment);
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner).insert(extent.segment, Arc::clone(&segment));
        Ok(segment)
    }

    /// A segment, mapped or opened anew.
    fn segment(&self, header: Header, rows: usize, older: Option<&Segment>) -> Result<Segment, GalleryError> {
        Segment::open(&self.folder.join(SEGMENTS), header, rows, self.vault.as_deref(), older)
    }

    /// Writes segments with rows of removed templates anew, without them, and reduced copies of those that had one;
    /// their graphs are gone. Who reads the old ones keeps them.
    ///
    /// # Errors
    /// If it cannot be written; then the gallery is as it was, though some of the segments may be done.
    pub fn compact(&self) -> Result<Compacted, GalleryError> {
        let mut writer = self.writer()?;
        self.erase(&mut writer)?;
        let removed: Vec<TemplateId> = writer.catalogue.removed()?.into_iter().map(|(id, _)| id).collect();
        let mut done = Compacted { rows: removed.len() as u64, segments: 0, unindexed: 0 };
        let indexed = self.indexes()?.graph.rows;
        for (extent, dead) in self.in_extents(&writer.catalogue.segments()?, &removed)? {
            self.compact_segment(&mut writer, extent, dead)?;
            done.segments += 1;
        }
        writer.catalogue.tidy()?;
        done.unindexed = indexed.saturating_sub(self.indexes()?.graph.rows);
        Ok(done)
    }

    /// Rows that are copied at a time.
    const COPY: usize = 4096;

    fn compact_segment(&self, writer: &mut Exclusive, extent: Extent, dead: &[TemplateId]) -> Result<(), GalleryError> {
        let old = self.map(extent)?;
        let reduced = self.reduced(&old).is_some();
        let Exclusive { catalogue, segments, .. } = writer;
        let change = catalogue.change()?;
        change.drop_segment(extent.segment)?;
        let mut taken_out = Note::of(Act::Compact, dead.len() as u64);
        dead.iter().for_each(|id| taken_out.templates.add(id.0));
        let mut copied = None;
        if extent.rows > dead.len() {
            let mut new = change.add_segment(Place::Live, extent.first)?;
            let header = self.header(new.segment);
            segments.create(header)?;
            for start in (0..extent.rows).step_by(Self::COPY) {
                let (mut values, mut records) = (Vec::new(), Vec::new());
                for row in start..extent.rows.min(start + Self::COPY) {
                    let (record, row) = old.checked_row(row).map_err(|bad| bad.error)?;
                    if dead.binary_search(&record.id).is_err() {
                        records.push(record);
                        values.extend_from_slice(&row);
                    }
                }
                segments.append(header, new.rows, &values, &records)?;
                new.rows += records.len();
            }
            change.set_rows(Place::Live, new)?;
            copied = Some(new).filter(|_| reduced);
        }
        change.forget(dead)?;
        change.note(&taken_out)?;
        change.commit()?;
        self.mapped.lock().unwrap_or_else(PoisonError::into_inner).remove(&extent.segment);
        self.reduced.lock().unwrap_or_else(PoisonError::into_inner).remove(&extent.segment);
        segments.sweep(&catalogue.in_use()?)?;
        copied.map_or(Ok(0), |new| self.reduce_segment(writer, new, &|_| {})).map(drop)
    }

    /// The catalogue as it is now, with the segments it names.
    fn moment(&self) -> Result<Moment, GalleryError> {
        let mut tries = 0;
        loop {
            let catalogue = self.catalogue()?;
            let extents = catalogue.segments()?;
            self.mapped
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|segment, _| extents.iter().any(|extent| extent.segment == *segment));
            self.reduced
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .retain(|segment, _| extents.iter().any(|extent| extent.segment == *segment));
            let removed: Vec<TemplateId> = catalogue.removed()?.into_iter().map(|(id, _)| id).collect();
            let dead = self.in_extents(&extents, &removed)?;
            let open = |extent: &Extent| {
                let dead = dead.iter().find(|(other, _)| other == extent).map_or(&[][..], |(_, ids)| ids);
                let segment = self.map(*extent)?;
                let reduced = self.reduced(&segment);
                Ok(RowsOf { segment, reduced, dead })
            };
            match extents.iter().map(open).collect::<Result<Vec<_>, _>>() {
                Ok(parts) => {
                    let facts = (self.facts.clone(), self.turn.clone());
                    return Moment::new(self.folder.clone(), facts, catalogue, &parts);
                }
                Err(GalleryError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound && tries < TRIES =>
                {
                    // Compacted since the catalogue was read; if not, the file is missing.
                    let now = Catalogue::open(&self.folder, false)?.segments()?;
                    if now == extents {
                        let missing = extents.iter().find(|extent| !self.files_exist(extent));
                        let segment = missing.map_or(0, |extent| extent.segment);
                        let path = &paths_of(&self.folder.join(SEGMENTS), segment)[0];
                        return Err(GalleryError::damaged(path, "a file of this segment is missing"));
                    }
                    tries += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn files_exist(&self, extent: &Extent) -> bool {
        paths_of(&self.folder.join(SEGMENTS), extent.segment).iter().all(|path| path.is_file())
    }
}

impl Engine for Store {
    fn enrol(&self, templates: &[NewTemplate], values: Rows<'_>) -> Result<Vec<TemplateId>, GalleryError> {
        self.change(|changes| changes.enrol(templates, values))
    }

    fn remove(&self, what: &Selection) -> Result<u64, GalleryError> {
        self.change(|changes| changes.remove(what))
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, GalleryError> {
        Ok(Box::new(self.moment()?))
    }

    fn info(&self) -> Result<Info, GalleryError> {
        let catalogue = self.catalogue()?;
        let (templates, subjects, removed) = catalogue.counts()?;
        let generation = catalogue.state()?.generation;
        let bytes = files_of(&self.folder).map_err(GalleryError::io("read", &self.folder))?;
        let bytes = bytes.iter().filter_map(|path| path.metadata().ok()).map(|facts| facts.len()).sum();
        Ok(Info { model: self.facts.model.clone(), templates, subjects, removed, bytes, generation })
    }
}

/// Every file below the folder.
fn files_of(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.sort();
    Ok(files)
}

fn check_dim(model: &Model) -> Result<(), GalleryError> {
    if (1..=MAX_DIM).contains(&model.dim) {
        return Ok(());
    }
    let problem = format!("a row has 1 to {MAX_DIM} values");
    Err(GalleryError::Field { what: "dim", value: model.dim.to_string(), problem })
}

/// Rows of a segment of so many bytes of values.
fn segment_rows(bytes: usize, dim: usize) -> usize {
    (bytes / (dim * size_of::<f32>())).max(1)
}

fn private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

/// The right to change the folder.
fn lock(folder: &Path, wait: bool) -> Result<Lock, GalleryError> {
    if wait {
        return Ok(Lock::wait(folder)?);
    }
    Lock::take(folder).map_err(|held| {
        // Whoever is refused for hours wants to know why. If the catalogue cannot be read, the lock is reason enough.
        let next = Catalogue::open(folder, false).and_then(|catalogue| catalogue.next());
        match (held, next) {
            (held @ LockError::Held { .. }, Ok(Some(next))) => {
                GalleryError::Migrating { held, contract_id: next.model.contract_id }
            }
            (held, _) => held.into(),
        }
    })
}

/// Fails if the folder is on another machine's disk.
fn local(folder: &Path) -> Result<(), GalleryError> {
    #[cfg(target_os = "linux")]
    if let Some(kind) = rustix::fs::statfs(folder).ok().and_then(|facts| network(facts.f_type as u64 & 0xFFFF_FFFF)) {
        return Err(GalleryError::Network { path: folder.to_owned(), kind });
    }
    Ok(())
}

/// Network file systems by their numbers in Linux's magic.h.
#[cfg(target_os = "linux")]
fn network(magic: u64) -> Option<&'static str> {
    match magic {
        0x6969 => Some("NFS"),
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => Some("SMB"),
        0x00C3_6400 => Some("Ceph"),
        0x5346_414F => Some("AFS"),
        0x7461_636F => Some("OCFS2"),
        0x0BD0_0BD0 => Some("Lustre"),
        _ => None,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn disks_of_other_machines_are_known_by_number() {
        assert_eq!((network(0x6969), network(0xFF53_4D42), network(0xEF53)), (Some("NFS"), Some("SMB"), None));
    }
}
