use metrics::Rows;
use serde::Serialize;

use super::changes::{Target, Touched, record};
use super::{Exclusive, SEGMENTS, Store, check_dim, segment_rows};
use crate::catalogue::{Act, Catalogue, Extent, Facts, Next, Numbers, Place};
use crate::id::KeyId;
use crate::segment::{Header, Kind, Record, Segment, path_of};
use crate::template::check_rows;
use crate::{GalleryError, Model, NewTemplate, Selection, TemplateId};

/// A migration that is not finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Migration {
    /// The model that the gallery migrates to.
    pub model: Model,
    /// Templates that it has embedded already.
    pub templates: u64,
}

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Migrated {
    /// Templates that were embedded again.
    pub templates: u64,
    /// Templates that the next model has not embedded, and that are removed.
    pub dropped: u64,
    /// There were copies in eight bits or graphs of the old rows. They are gone; see [`Store::reduce`].
    pub indexed: bool,
}

/// Where a row of the next model is.
#[derive(Debug, Clone, Copy)]
struct Spot {
    id: TemplateId,
    part: usize,
    row: usize,
    erased: bool,
}

/// A gallery becomes one of another model: [`Store::begin_migration`], then [`Store::stage`] for all templates, then
/// [`Store::finish_migration`]. Until that last step searches find the rows of the old model, and what was staged stays
/// whatever happens to the process. Templates may be enrolled and removed between: the new ones are to be staged, too,
/// and the staged values of removed ones are overwritten with the others.
impl Store {
    /// The migration that was begun and is not finished.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn migration(&self) -> Result<Option<Migration>, GalleryError> {
        let catalogue = self.catalogue()?;
        let Some(next) = catalogue.next()? else { return Ok(None) };
        let templates = self.staged_ids(&catalogue, &next)?.len() as u64;
        Ok(Some(Migration { model: next.model, templates }))
    }

    /// Begins to migrate to `model`, or goes on with it.
    ///
    /// # Errors
    /// [`GalleryError::OtherMigration`] if a migration to another model is not finished.
    pub fn begin_migration(&self, model: &Model) -> Result<(), GalleryError> {
        check_dim(model)?;
        let mut writer = self.writer()?;
        match writer.catalogue.next()?.map(|next| next.model) {
            Some(found) if (&found.contract_id, found.dim) == (&model.contract_id, model.dim) => return Ok(()),
            Some(found) => {
                let (path, asked) = (self.folder.clone(), model.contract_id.clone());
                return Err(GalleryError::OtherMigration { path, found: found.contract_id, asked });
            }
            None => {}
        }
        // The size of segments stays.
        let bytes = self.facts.segment_rows * self.facts.model.dim * size_of::<f32>();
        let change = writer.catalogue.change()?;
        change.set_next(&Next { model: model.clone(), segment_rows: segment_rows(bytes, model.dim) })?;
        change.commit()
    }

    /// Forgets a migration that was begun, and the rows that were staged. Returns whether there was one.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn abandon_migration(&self) -> Result<bool, GalleryError> {
        let mut writer = self.writer()?;
        if writer.catalogue.next()?.is_none() {
            return Ok(false);
        }
        let change = writer.catalogue.change()?;
        change.forget_next()?;
        change.commit()?;
        writer.segments.sweep(&writer.catalogue.in_use()?)?;
        Ok(true)
    }

    /// Templates that are not staged yet, in order of their ids; all of them before a migration is begun.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn to_migrate(&self) -> Result<Vec<TemplateId>, GalleryError> {
        let catalogue = self.catalogue()?;
        let mut ids = catalogue.ids()?;
        if let Some(next) = catalogue.next()? {
            let staged = self.staged_ids(&catalogue, &next)?;
            ids.retain(|id| staged.binary_search(id).is_err());
        }
        Ok(ids)
    }

    /// Stores rows of the next model, `[templates, dim]` of unit length, durably. Searches do not see them yet.
    ///
    /// # Errors
    /// As [`crate::Engine::enrol`]; if a template is not there, or no migration was begun.
    ///
    /// # Panics
    /// If there are not as many templates as rows, or the ids do not grow.
    pub fn stage(&self, ids: &[TemplateId], values: Rows<'_>) -> Result<(), GalleryError> {
        self.stage_from(ids, values, None)
    }

    /// As [`Store::stage`], of pictures that were found elsewhere: the templates have these sources when the migration
    /// is finished, one for each.
    ///
    /// # Errors
    /// As there; a source that is too long.
    ///
    /// # Panics
    /// As there, and if there are not as many sources as templates.
    pub fn stage_moved(&self, ids: &[TemplateId], values: Rows<'_>, sources: &[String]) -> Result<(), GalleryError> {
        assert_eq!(ids.len(), sources.len(), "one source for each template");
        for source in sources {
            NewTemplate { source: source.clone(), ..NewTemplate::default() }.check()?;
        }
        self.stage_from(ids, values, Some(sources))
    }

    fn stage_from(&self, ids: &[TemplateId], values: Rows<'_>, sources: Option<&[String]>) -> Result<(), GalleryError> {
        assert_eq!(ids.len(), values.rows(), "one template for each row");
        assert!(ids.is_sorted_by(|one, other| one < other), "the ids of staged templates grow");
        let mut writer = self.writer()?;
        let Exclusive { catalogue, segments, .. } = &mut *writer;
        let next = catalogue.next()?.ok_or_else(|| self.no_migration())?;
        check_rows(values, next.model.dim)?;
        let Some(first) = ids.first() else { return Ok(()) };
        let facts = Facts { model: next.model.clone(), ..self.facts.clone() };
        let turned = super::turn(self.vault.as_deref(), &facts)?.map(|turn| turn.turned(values));
        let values = match &turned {
            Some(turned) => Rows::new(turned, values.rows(), values.cols()).expect("as many values"),
            None => values,
        };
        let (templates, keys) = (catalogue.templates(ids)?, catalogue.keys_of(ids)?);
        let numbers: Vec<(Numbers, KeyId)> = catalogue.numbers_of(ids)?.into_iter().zip(keys).collect();
        let record = |(row, own): (usize, &(Numbers, KeyId))| {
            record(&self.facts.gallery, own, &templates[row].about, values.row(row))
        };
        let records: Vec<Record> = numbers.iter().enumerate().map(record).collect();
        // Templates that could not be embedded before come later. They go into a segment of their own, in which ids
        // grow.
        let mut last = catalogue.staged()?.pop();
        if let Some(extent) = last.filter(|extent| extent.rows > 0) {
            let end = self.map_staged(&next, extent)?.record(extent.rows - 1).map_err(|bad| bad.error)?;
            last = last.filter(|_| end.id < *first);
        }
        let change = catalogue.change()?;
        let to = Target { change: &change, segments, place: Place::Staged, rows: next.segment_rows };
        to.append(|segment| self.next_header(&next, segment), last, values, &records)?;
        let owners: Vec<(TemplateId, KeyId)> = numbers.iter().map(|(numbers, key)| (numbers.id, *key)).collect();
        change.set_moved(&owners, sources)?;
        change.commit()
    }

    /// Makes the staged rows those that are searched, in one change. Ids and all that is said about templates stay.
    /// With `drop`, templates that are not staged are removed; whoever holds a snapshot keeps it.
    ///
    /// # Errors
    /// [`GalleryError::NotMigrated`] without `drop`, if templates are not staged. The gallery is then as it was, and to
    /// be opened again; so after all errors but [`GalleryError::OldRowsLeft`].
    pub fn finish_migration(mut self, drop: bool) -> Result<(Self, Migrated), GalleryError> {
        let next = self.writer()?.catalogue.next()?.ok_or_else(|| self.no_migration())?;
        let done = self.switch(&next, drop)?;
        let Next { model, segment_rows } = next;
        self.facts = Facts { model, segment_rows, ..self.facts };
        self.mapped = Default::default();
        self.reduced = Default::default();
        self.turn = super::turn(self.vault.as_deref(), &self.facts)?;
        {
            let mut writer = self.writer()?;
            let mut left = || {
                // Keys of those whom the next model has not embedded.
                self.erase(&mut writer)?;
                writer.segments.sweep(&writer.catalogue.in_use()?)?;
                writer.catalogue.tidy()
            };
            let old_rows_left =
                |source| GalleryError::OldRowsLeft { path: self.folder.clone(), source: Box::new(source) };
            left().map_err(old_rows_left)?;
        }
        Ok((self, done))
    }

    fn switch(&self, next: &Next, drop: bool) -> Result<Migrated, GalleryError> {
        let mut writer = self.writer()?;
        // Staged rows of removed templates are overwritten from here on.
        self.erase(&mut writer)?;
        let Exclusive { catalogue, segments, .. } = &mut *writer;
        let parts = catalogue.staged()?.into_iter().map(|extent| self.map_staged(next, extent));
        let parts = parts.collect::<Result<Vec<Segment>, _>>()?;
        let mut spots = Vec::new();
        for (part, segment) in parts.iter().enumerate() {
            for row in 0..segment.rows() {
                let record = segment.check_row(row).map_err(|bad| bad.error)?;
                spots.push(Spot { id: record.id, part, row, erased: record.erased });
            }
        }
        let enrolled = catalogue.ids()?;
        let is_enrolled = |spot: &Spot| !spot.erased && enrolled.binary_search(&spot.id).is_ok();
        let mut embedded: Vec<Spot> = spots.iter().copied().filter(is_enrolled).collect();
        // Of a template that was staged twice, the last row counts.
        embedded.sort_by_key(|spot| (spot.id, std::cmp::Reverse((spot.part, spot.row))));
        embedded.dedup_by_key(|spot| spot.id);
        let is_embedded = |id: &TemplateId| embedded.binary_search_by_key(id, |spot| spot.id).is_ok();
        let lost: Vec<TemplateId> = enrolled.iter().copied().filter(|id| !is_embedded(id)).collect();
        if !lost.is_empty() && !drop {
            return Err(GalleryError::NotMigrated { path: self.folder.clone(), templates: lost.len() as u64 });
        }
        let indexed = catalogue.segments()?.iter().any(|extent| {
            let derived = [Kind::Reduced, Kind::Graph];
            derived.into_iter().any(|kind| path_of(&self.folder.join(SEGMENTS), extent.segment, kind).is_file())
        });
        // Fields of the templates, before some of them are removed.
        let mut migrated = Touched::default();
        catalogue.numbers(|numbers| {
            if is_embedded(&numbers.id) {
                migrated.add(numbers.id, numbers.subject);
            }
        })?;
        let done = Migrated { templates: migrated.count, dropped: lost.len() as u64, indexed };

        let change = catalogue.change()?;
        // Records hold a checksum of what is said, to which the source belongs.
        let as_staged = !change.any_moved()? && spots.is_sorted_by(|one, other| one.id < other.id);
        let mut gone: Vec<TemplateId> = Vec::new();
        if as_staged && spots.iter().all(|spot| spot.erased || is_enrolled(spot)) {
            gone.extend(spots.iter().filter(|spot| spot.erased).map(|spot| spot.id));
        } else {
            change.forget_staged()?;
            let to = Target { change: &change, segments, place: Place::Staged, rows: next.segment_rows };
            let mut last: Option<Extent> = None;
            for spots in embedded.chunks(Self::COPY) {
                let (mut values, mut records) = (Vec::with_capacity(spots.len() * next.model.dim), Vec::new());
                let ids: Vec<TemplateId> = spots.iter().map(|spot| spot.id).collect();
                for (spot, moved) in spots.iter().zip(change.moved(&ids)?) {
                    let (mut record, row) = parts[spot.part].checked_row(spot.row).map_err(|bad| bad.error)?;
                    if let Some(about) = moved {
                        record.about = about.checksum(&self.facts.gallery, spot.id);
                    }
                    records.push(record);
                    values.extend_from_slice(&row);
                }
                let values = Rows::new(&values, records.len(), next.model.dim).expect("rows of as many values");
                last = to.append(|segment| self.next_header(next, segment), last, values, &records)?;
            }
        }
        let mut dropped = Touched::default();
        let removed = if lost.is_empty() { Vec::new() } else { change.remove(&Selection::Templates(lost))? };
        removed.iter().for_each(|(id, subject)| dropped.add(*id, *subject));
        change.switch(next, &gone)?;
        dropped.note(&change, Act::Remove, Some("migrate"))?;
        migrated.note(&change, Act::Migrate, None)?;
        change.commit()?;
        Ok(done)
    }

    /// Overwrites the staged rows of removed templates.
    pub(super) fn erase_staged(&self, writer: &Exclusive, removed: &[TemplateId]) -> Result<(), GalleryError> {
        let Some(next) = writer.catalogue.next()? else { return Ok(()) };
        for extent in writer.catalogue.staged()? {
            let segment = self.map_staged(&next, extent)?;
            let row = |id: &TemplateId| {
                let record = Record::erased(&self.facts.gallery, *id, next.model.dim);
                segment.find(*id).map(|row| (row, record))
            };
            let rows: Vec<_> = removed.iter().filter_map(row).collect();
            if !rows.is_empty() {
                writer.segments.erase(self.next_header(&next, extent.segment), &rows)?;
            }
        }
        Ok(())
    }

    /// Ids of the templates that have a staged row, in order.
    fn staged_ids(&self, catalogue: &Catalogue, next: &Next) -> Result<Vec<TemplateId>, GalleryError> {
        let mut ids = Vec::new();
        for extent in catalogue.staged()? {
            let segment = self.map_staged(next, extent)?;
            for row in 0..extent.rows {
                let record = segment.record(row).map_err(|bad| bad.error)?;
                if !record.erased {
                    ids.push(record.id);
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }

    pub(super) fn next_header(&self, next: &Next, segment: u64) -> Header {
        Header { dim: next.model.dim, ..self.header(segment) }
    }

    pub(super) fn map_staged(&self, next: &Next, extent: Extent) -> Result<Segment, GalleryError> {
        self.segment(self.next_header(next, extent.segment), extent.rows, None)
    }

    fn no_migration(&self) -> GalleryError {
        GalleryError::NoMigration { path: self.folder.clone() }
    }
}
