use metrics::Rows;

use super::{Exclusive, Store, check_dim, segment_rows};
use crate::catalogue::{Act, Change, Extent, Facts, Note, Numbers, Place, Ranges};
use crate::id::{GalleryId, KeyId};
use crate::segment::{Header, Record, Writer};
use crate::template::check_rows;
use crate::{GalleryError, Model, NewTemplate, Selection, TemplateId};

/// Enrolments and removals that happen together or not at all.
pub struct Changes<'a> {
    pub(super) store: &'a Store,
    pub(super) change: Change<'a>,
    segments: &'a Writer,
    enrolled: Touched,
    removed: Touched,
    /// Templates whose rows are to be overwritten.
    pub(super) erased: u64,
    pub(super) changed: bool,
    broken: bool,
    /// What asked for it.
    command: Option<&'static str>,
}

/// Templates to which something was done.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) count: u64,
    templates: Ranges,
    subjects: Ranges,
}

impl Touched {
    pub(super) fn add(&mut self, id: TemplateId, subject: Option<u32>) {
        self.count += 1;
        self.templates.add(id.0);
        subject.into_iter().for_each(|subject| self.subjects.add(subject.into()));
    }

    /// Notes in the log what was done to them, if there are any.
    pub(super) fn note(self, change: &Change<'_>, act: Act, command: Option<&str>) -> Result<(), GalleryError> {
        let Self { count, templates, subjects } = self;
        if count == 0 { Ok(()) } else { change.note(&Note { act, command, count, templates, subjects, detail: "" }) }
    }
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
        let templates = changes.erased;
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
        self.turn = super::turn(self.vault.as_deref(), &self.facts)?;
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
        if templates > 0 {
            changes.change.note(&Note { command: changes.command, ..Note::of(Act::Clear, templates) })?;
        }
        changes.commit()?;
        let left = |writer: &mut Exclusive| {
            self.erase(writer)?;
            writer.segments.sweep(&writer.catalogue.in_use()?)?;
            writer.catalogue.tidy()
        };
        left(&mut writer).map_err(|source| GalleryError::NotErased { templates, source: Box::new(source) })?;
        Ok(done)
    }
}

impl<'a> Changes<'a> {
    fn new(store: &'a Store, change: Change<'a>, segments: &'a Writer) -> Self {
        let (enrolled, removed) = (Touched::default(), Touched::default());
        Self { store, change, segments, enrolled, removed, erased: 0, changed: false, broken: false, command: None }
    }

    /// Notes in the log what these changes were asked for by: "sync", which removes and enrols. Without it the log
    /// names what is done only.
    pub fn by(&mut self, command: &'static str) {
        self.command = Some(command);
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
            match &own.store.turn {
                None => own.append(&templates, &numbers, values)?,
                Some(turn) => {
                    let turned = turn.turned(values);
                    let turned = Rows::new(&turned, values.rows(), values.cols()).expect("as many values");
                    own.append(&templates, &numbers, turned)?;
                }
            }
            numbers.iter().for_each(|(numbers, _)| own.enrolled.add(numbers.id, numbers.subject));
            own.changed = true;
            Ok(numbers.iter().map(|(numbers, _)| numbers.id).collect())
        })
    }

    /// Removes templates, as [`crate::Engine::remove`] does, and returns their number.
    ///
    /// # Errors
    /// As there. After an error nothing of the change happens, whatever is done next.
    pub fn remove(&mut self, what: &Selection) -> Result<u64, GalleryError> {
        self.part(|own| {
            let templates = own.change.remove(what)?;
            templates.iter().for_each(|(id, subject)| own.removed.add(*id, *subject));
            own.erased += templates.len() as u64;
            own.changed |= !templates.is_empty();
            Ok(templates.len() as u64)
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
    pub(super) fn part<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, GalleryError>,
    ) -> Result<T, GalleryError> {
        let done = work(self);
        self.broken |= done.is_err();
        done
    }

    fn commit(self) -> Result<(), GalleryError> {
        match self {
            Self { broken: true, store, .. } => Err(GalleryError::GivenUp { path: store.folder.clone() }),
            Self { changed: false, .. } => Ok(()),
            Self { change, enrolled, removed, command, .. } => {
                removed.note(&change, Act::Remove, command)?;
                enrolled.note(&change, Act::Enrol, command)?;
                change.commit()
            }
        }
    }

    pub(super) fn append(
        &self,
        templates: &[NewTemplate],
        numbers: &[(Numbers, KeyId)],
        values: Rows<'_>,
    ) -> Result<(), GalleryError> {
        let facts = &self.store.facts;
        let record =
            |(row, own): (usize, &(Numbers, KeyId))| record(&facts.gallery, own, &templates[row], values.row(row));
        let records: Vec<Record> = numbers.iter().enumerate().map(record).collect();
        let last = self.change.segments()?.pop();
        let to = Target { change: &self.change, segments: self.segments, place: Place::Live, rows: facts.segment_rows };
        to.append(|segment| self.store.header(segment), last, values, &records).map(drop)
    }
}

/// The record of a template that is enrolled.
pub(super) fn record(
    gallery: &GalleryId,
    (numbers, key): &(Numbers, KeyId),
    about: &NewTemplate,
    values: &[f32],
) -> Record {
    Record {
        id: numbers.id,
        subject: numbers.subject.unwrap_or(0),
        camera: numbers.camera.unwrap_or(Record::NO_CAMERA),
        taken: numbers.taken.unwrap_or(Record::NO_TIME),
        tags: numbers.tags,
        erased: false,
        values: Record::checksum(gallery, numbers.id, bytemuck::cast_slice(values)),
        about: about.checksum(gallery, numbers.id),
        key: *key,
    }
}

/// Where rows go.
pub(super) struct Target<'a, 'b> {
    pub(super) change: &'a Change<'b>,
    pub(super) segments: &'a Writer,
    pub(super) place: Place,
    /// Rows after which another segment is begun.
    pub(super) rows: usize,
}

impl Target<'_, '_> {
    /// Writes rows behind those of the segment `last`, and into new ones; returns the segment of the last row.
    pub(super) fn append(
        &self,
        header: impl Fn(u64) -> Header,
        mut last: Option<Extent>,
        values: Rows<'_>,
        records: &[Record],
    ) -> Result<Option<Extent>, GalleryError> {
        let mut at = 0;
        while at < records.len() {
            let mut extent = match last.take().filter(|extent| extent.rows < self.rows) {
                Some(extent) => extent,
                None => {
                    let extent = self.change.add_segment(self.place, records[at].id)?;
                    self.segments.create(header(extent.segment))?;
                    extent
                }
            };
            let end = records.len().min(at + self.rows - extent.rows);
            let some = values.slice(at..end);
            self.segments.append(header(extent.segment), extent.rows, some.data(), &records[at..end])?;
            extent.rows += end - at;
            self.change.set_rows(self.place, extent)?;
            last = Some(extent);
            at = end;
        }
        Ok(last)
    }
}
