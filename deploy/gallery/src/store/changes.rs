use metrics::Rows;

use super::{Exclusive, Store, check_dim, segment_rows};
use crate::catalogue::{Change, Facts, Numbers};
use crate::segment::{Record, Writer};
use crate::template::check_rows;
use crate::{GalleryError, Model, NewTemplate, Selection, TemplateId};

/// Enrolments and removals that happen together or not at all.
pub struct Changes<'a> {
    store: &'a Store,
    change: Change<'a>,
    segments: &'a Writer,
    removed: u64,
    changed: bool,
    broken: bool,
}

impl Store {
    /// Lets `work` enrol and remove; all of it is durable when this returns, and none of it if `work` fails or the
    /// process dies before. Readers see none of it meanwhile.
    ///
    /// # Errors
    /// Those of `work`, and those of [`crate::Engine::enrol`] and [`crate::Engine::remove`].
    pub fn change<T, E: From<GalleryError>>(
        &self,
        work: impl FnOnce(&mut Changes<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut writer = self.writer()?;
        let Exclusive { catalogue, segments, .. } = &mut *writer;
        let mut changes = Changes::new(self, catalogue.change()?, segments);
        let done = work(&mut changes)?;
        let templates = changes.removed;
        changes.commit()?;
        if templates > 0 {
            let not_erased = |source| GalleryError::NotErased { templates, source: Box::new(source) };
            self.erase(&mut writer).map_err(not_erased)?;
        }
        Ok(done)
    }

    /// Takes everything out, makes it a gallery of `model` and lets `work` enrol; all in one change, as
    /// [`Store::change`].
    ///
    /// # Errors
    /// As there; the gallery is then as it was, and to be opened again.
    pub fn renew<T, E: From<GalleryError>>(
        mut self,
        model: &Model,
        work: impl FnOnce(&mut Changes<'_>) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        check_dim(model)?;
        // The size of segments stays.
        let bytes = self.facts.segment_rows * self.facts.model.dim * size_of::<f32>();
        let segment_rows = segment_rows(bytes, model.dim);
        self.facts = Facts { model: model.clone(), segment_rows, ..self.facts };
        self.mapped = Default::default();
        let done = self.renewed(work)?;
        Ok((self, done))
    }

    fn renewed<T, E: From<GalleryError>>(&self, work: impl FnOnce(&mut Changes<'_>) -> Result<T, E>) -> Result<T, E> {
        let mut writer = self.writer()?;
        let Exclusive { catalogue, segments, .. } = &mut *writer;
        let change = catalogue.change()?;
        let templates = change.clear(&self.facts.model, self.facts.segment_rows)?;
        let mut changes = Changes::new(self, change, segments);
        changes.changed = true;
        let done = work(&mut changes)?;
        changes.commit()?;
        let left = || {
            let left: Vec<u64> = catalogue.segments()?.iter().map(|extent| extent.segment).collect();
            segments.sweep(&left)?;
            catalogue.tidy()
        };
        left().map_err(|source| GalleryError::NotErased { templates, source: Box::new(source) })?;
        Ok(done)
    }
}

impl<'a> Changes<'a> {
    fn new(store: &'a Store, change: Change<'a>, segments: &'a Writer) -> Self {
        Self { store, change, segments, removed: 0, changed: false, broken: false }
    }

    /// Enrols one template for each row of `values`, as [`crate::Engine::enrol`] does.
    ///
    /// # Errors
    /// As there. After an error nothing of the change happens, whatever is done next.
    ///
    /// # Panics
    /// If there are not as many templates as rows.
    pub fn enrol(&mut self, templates: &[NewTemplate], values: Rows<'_>) -> Result<Vec<TemplateId>, GalleryError> {
        assert_eq!(templates.len(), values.rows(), "one template for each row");
        self.part(|own| {
            check_rows(values, own.store.facts.model.dim)?;
            templates.iter().try_for_each(NewTemplate::check)?;
            if templates.is_empty() {
                return Ok(Vec::new());
            }
            let templates: Vec<NewTemplate> = templates.iter().map(NewTemplate::tidied).collect();
            let numbers = own.change.enrol(&templates)?;
            own.append(&templates, &numbers, values)?;
            own.changed = true;
            Ok(numbers.iter().map(|numbers| numbers.id).collect())
        })
    }

    /// Removes templates, as [`crate::Engine::remove`] does, and returns their number.
    ///
    /// # Errors
    /// As there. After an error nothing of the change happens, whatever is done next.
    pub fn remove(&mut self, what: &Selection) -> Result<u64, GalleryError> {
        self.part(|own| {
            let templates = own.change.remove(what)?.len() as u64;
            own.removed += templates;
            own.changed |= templates > 0;
            Ok(templates)
        })
    }

    /// Notes something about the gallery, in place of what was noted before: text that [`Store::about`] gives back.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn describe(&mut self, about: &str) -> Result<(), GalleryError> {
        self.part(|own| own.change.describe(about))?;
        self.changed = true;
        Ok(())
    }

    /// What fails may have changed something before.
    fn part<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, GalleryError>) -> Result<T, GalleryError> {
        let done = work(self);
        self.broken |= done.is_err();
        done
    }

    fn commit(self) -> Result<(), GalleryError> {
        match self {
            Self { broken: true, store, .. } => Err(GalleryError::GivenUp { path: store.folder.clone() }),
            Self { changed: false, .. } => Ok(()),
            Self { change, .. } => change.commit(),
        }
    }

    fn append(&self, templates: &[NewTemplate], numbers: &[Numbers], values: Rows<'_>) -> Result<(), GalleryError> {
        let mut last = self.change.segments()?.pop();
        let mut at = 0;
        while at < numbers.len() {
            let mut extent = match last.take().filter(|extent| extent.rows < self.store.facts.segment_rows) {
                Some(extent) => extent,
                None => {
                    let extent = self.change.add_segment(numbers[at].id)?;
                    self.segments.create(self.store.header(extent.segment))?;
                    extent
                }
            };
            let end = numbers.len().min(at + self.store.facts.segment_rows - extent.rows);
            let some = values.slice(at..end);
            let record = |(row, numbers): (usize, &Numbers)| Record {
                id: numbers.id,
                subject: numbers.subject.unwrap_or(0),
                camera: numbers.camera.unwrap_or(Record::NO_CAMERA),
                taken: numbers.taken.unwrap_or(Record::NO_TIME),
                tags: numbers.tags,
                erased: false,
                values: Record::checksum(&self.store.facts.gallery, numbers.id, bytemuck::cast_slice(some.row(row))),
                about: templates[at + row].checksum(&self.store.facts.gallery, numbers.id),
            };
            let records: Vec<Record> = numbers[at..end].iter().enumerate().map(record).collect();
            self.segments.append(self.store.header(extent.segment), extent.rows, some.data(), &records)?;
            extent.rows += records.len();
            self.change.set_rows(extent)?;
            at = end;
        }
        Ok(())
    }
}
