//! The oracle: a gallery in memory that does everything in the plainest way there is.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Rows;

use crate::engine::best_first;
use crate::template::{MAX_TAGS, check_rows};
use crate::{
    Ask, Columns, Engine, Filter, GalleryError, Hit, Info, Model, NewTemplate, Selection, Snapshot, Template,
    TemplateId,
};

/// A gallery in memory, searched row by row. For tests of the others, and for galleries that need no file.
#[derive(Debug)]
pub struct Memory {
    model: Model,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: Arc<Vec<Row>>,
    enrolled: u64,
    generation: u64,
}

#[derive(Debug, Clone)]
struct Row {
    template: Template,
    values: Vec<f32>,
}

impl Memory {
    /// An empty gallery.
    pub fn new(model: Model) -> Self {
        Self { model, state: Mutex::default() }
    }

    /// The same gallery with the rows of another model, as after [`crate::Store::finish_migration`]: ids and all that
    /// is said stay, and templates for which `row` has none are left out.
    ///
    /// # Errors
    /// As [`Engine::enrol`].
    pub fn migrated(
        &self,
        model: Model,
        mut row: impl FnMut(&Template) -> Option<Vec<f32>>,
    ) -> Result<Self, GalleryError> {
        let State { rows, enrolled, generation } = &*self.state();
        let mut new = Vec::with_capacity(rows.len());
        for Row { template, .. } in &**rows {
            if let Some(values) = row(template) {
                check_rows(Rows::new(&values, 1, values.len()).expect("one row"), model.dim)?;
                new.push(Row { template: template.clone(), values });
            }
        }
        let state = State { rows: Arc::new(new), enrolled: *enrolled, generation: generation + 1 };
        Ok(Self { model, state: Mutex::new(state) })
    }

    /// No change is ever half done when something panics: rows are replaced as a whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for Memory {
    fn enrol(&self, templates: &[NewTemplate], values: Rows<'_>) -> Result<Vec<TemplateId>, GalleryError> {
        check_rows(values, self.model.dim)?;
        assert_eq!(templates.len(), values.rows(), "one template for each row");
        templates.iter().try_for_each(NewTemplate::check)?;
        let mut state = self.state();
        let mut rows = (*state.rows).clone();
        let mut next = state.enrolled;
        for (row, about) in templates.iter().enumerate() {
            next += 1;
            let template = Template { id: TemplateId(next), about: about.tidied() };
            rows.push(Row { template, values: values.row(row).to_vec() });
        }
        let tags: BTreeSet<&String> = rows.iter().flat_map(|row| &row.template.about.tags).collect();
        if tags.len() > MAX_TAGS {
            return Err(GalleryError::TooMany { what: "tags", found: tags.len() as u64, allowed: MAX_TAGS as u64 });
        }
        let ids = rows[state.rows.len()..].iter().map(|row| row.template.id).collect();
        let generation = state.generation + u64::from(!templates.is_empty());
        *state = State { rows: Arc::new(rows), enrolled: next, generation };
        Ok(ids)
    }

    fn remove(&self, what: &Selection) -> Result<u64, GalleryError> {
        let mut state = self.state();
        let has = |row: &Row, id: &TemplateId| row.template.id == *id;
        let gone = |row: &Row| match what {
            Selection::Templates(ids) => ids.iter().any(|id| has(row, id)),
            Selection::Subject(name) => row.template.about.subject.as_ref() == Some(name),
        };
        match what {
            Selection::Templates(ids) => {
                if let Some(&id) = ids.iter().find(|id| !state.rows.iter().any(|row| has(row, id))) {
                    return Err(GalleryError::NoTemplate { id });
                }
            }
            Selection::Subject(name) if !state.rows.iter().any(gone) => {
                return Err(GalleryError::NoSubject { name: name.clone() });
            }
            Selection::Subject(_) => {}
        }
        let rows: Vec<Row> = state.rows.iter().filter(|row| !gone(row)).cloned().collect();
        let removed = (state.rows.len() - rows.len()) as u64;
        state.rows = Arc::new(rows);
        state.generation += u64::from(removed > 0);
        Ok(removed)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, GalleryError> {
        Ok(Box::new(Moment { dim: self.model.dim, rows: Arc::clone(&self.state().rows) }))
    }

    fn info(&self) -> Result<Info, GalleryError> {
        let state = self.state();
        let subjects: BTreeSet<_> = state.rows.iter().filter_map(|row| row.template.about.subject.as_ref()).collect();
        Ok(Info {
            model: self.model.clone(),
            templates: state.rows.len() as u64,
            subjects: subjects.len() as u64,
            removed: 0,
            bytes: 0,
            generation: state.generation,
        })
    }
}

struct Moment {
    dim: usize,
    rows: Arc<Vec<Row>>,
}

impl Moment {
    fn row(&self, id: TemplateId) -> Result<&Row, GalleryError> {
        self.rows.iter().find(|row| row.template.id == id).ok_or(GalleryError::NoTemplate { id })
    }

    /// Names of all subjects.
    fn names(&self) -> Vec<String> {
        let names: BTreeSet<&String> = self.rows.iter().filter_map(|row| row.template.about.subject.as_ref()).collect();
        names.into_iter().cloned().collect()
    }

    fn passing<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(|row| filter.passes(&row.template.about))
    }
}

impl Snapshot for Moment {
    fn search(&self, probes: Rows<'_>, ask: &Ask) -> Result<Vec<Vec<Hit>>, GalleryError> {
        check_rows(probes, self.dim)?;
        let answer = |probe: &[f32]| {
            let hit = |row: &Row| Hit { id: row.template.id, similarity: metrics::dot(probe, &row.values) };
            let good = |hit: &Hit| ask.min_similarity.is_none_or(|min| hit.similarity >= min);
            let mut hits: Vec<Hit> = self.passing(&ask.filter).map(hit).filter(good).collect();
            hits.sort_by(best_first);
            hits.truncate(ask.k);
            hits
        };
        Ok((0..probes.rows()).map(|probe| answer(probes.row(probe))).collect())
    }

    fn count(&self, filter: &Filter) -> Result<u64, GalleryError> {
        Ok(self.passing(filter).count() as u64)
    }

    fn select(&self, filter: &Filter) -> Result<Vec<TemplateId>, GalleryError> {
        Ok(self.passing(filter).map(|row| row.template.id).collect())
    }

    fn subjects(&self) -> Result<u64, GalleryError> {
        Ok(self.names().len() as u64)
    }

    fn numbers(&self, names: &[String]) -> Result<Vec<Option<u32>>, GalleryError> {
        let all = self.names();
        let number = |name: &String| all.iter().position(|other| other == name).map(|at| at as u32 + 1);
        Ok(names.iter().map(number).collect())
    }

    fn columns(&self, filter: &Filter, each: &mut dyn FnMut(Columns)) -> Result<(), GalleryError> {
        let all = self.names();
        for row in self.passing(filter) {
            let NewTemplate { subject, camera, taken, .. } = &row.template.about;
            let number = all.iter().position(|name| Some(name) == subject.as_ref());
            let subject = number.map(|at| at as u32 + 1);
            each(Columns { id: row.template.id, subject, camera: *camera, taken: *taken });
        }
        Ok(())
    }

    fn templates(&self, ids: &[TemplateId]) -> Result<Vec<Template>, GalleryError> {
        ids.iter().map(|id| Ok(self.row(*id)?.template.clone())).collect()
    }

    fn vectors(&self, ids: &[TemplateId]) -> Result<Option<Vec<f32>>, GalleryError> {
        let mut values = Vec::with_capacity(ids.len() * self.dim);
        for id in ids {
            values.extend_from_slice(&self.row(*id)?.values);
        }
        Ok(Some(values))
    }
}
