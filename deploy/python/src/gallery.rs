//! `vitrine.Gallery`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use ::gallery::{Engine, GalleryError, Person, Selection, Store, TemplateId};
use deploy::DeployError;
use deploy::embed::Options;
use deploy::gallery::{self as galleries, About, Embeddings, Making, Template};
use deploy::identity::Identity;
use deploy::search::{self, Ask, By};
use metrics::open_set::Fusion;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::given::{Given, given};
use crate::model::{Model, Rows};
use crate::work::work;

/// What errors about embeddings that were given call them.
const VECTORS: &str = "array";

/// People that are listed at a time.
const PEOPLE: usize = 1024;

/// A template that a search found.
#[pyclass(frozen, eq, get_all, module = "vitrine")]
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Match {
    /// Who it is, where that is known.
    subject: Option<String>,
    /// Cosine similarity, -1 to 1.
    similarity: f32,
    /// Number of the template in the gallery.
    row: u64,
    /// Its picture, if it is a file.
    path: Option<PathBuf>,
}

#[pymethods]
impl Match {
    fn __repr__(&self) -> String {
        let subject = self.subject.as_ref().map_or_else(|| "None".to_owned(), |name| format!("{name:?}"));
        format!("Match(subject={subject}, similarity={:.4}, row={})", self.similarity, self.row)
    }
}

/// People and their templates, in a folder. Other programs may read and change it meanwhile: each call sees it as it is
/// then, and only a change locks it.
#[pyclass(frozen, module = "vitrine")]
pub(crate) struct Gallery {
    folder: PathBuf,
    model: Py<Model>,
    pin: ::gallery::Model,
    model_path: PathBuf,
    wait: bool,
    /// Open for reading.
    store: Mutex<Arc<Store>>,
    /// Threads of this program change it one after the other.
    changing: Mutex<()>,
}

#[pymethods]
impl Gallery {
    /// Opens a gallery of the model's embeddings.
    #[staticmethod]
    #[pyo3(signature = (folder, model, *, wait = false))]
    fn open(py: Python<'_>, folder: PathBuf, model: Py<Model>, wait: bool) -> PyResult<Self> {
        Self::new(py, folder, model, wait, |_, _, _| Ok(()))
    }

    /// Makes a gallery for the model's embeddings.
    #[staticmethod]
    #[pyo3(signature = (folder, model, *, wait = false))]
    fn create(py: Python<'_>, folder: PathBuf, model: Py<Model>, wait: bool) -> PyResult<Self> {
        Self::new(py, folder, model, wait, |folder, pin, path| {
            if galleries::is_gallery(folder) {
                return Err(GalleryError::Occupied { path: folder.to_owned(), found: "a gallery" }.into());
            }
            galleries::write_or_create(folder, pin, path, Making { wait, renewable: false }).map(drop)
        })
    }

    /// Its folder.
    #[getter]
    fn folder(&self) -> &Path {
        &self.folder
    }

    /// Enrols templates of a person, all or none, and returns their numbers.
    fn enrol(&self, subject: &str, what: &Bound<'_, PyAny>) -> PyResult<Vec<u64>> {
        let py = what.py();
        let name = name(subject)?;
        let mut new = self.embeddings(what)?;
        new.templates.iter_mut().for_each(|template| template.identity = Identity::given(name.clone()));
        if new.templates.is_empty() {
            return Ok(Vec::new());
        }
        work(py, || {
            let ids = self.change(|store| galleries::add(store, new))?;
            Ok(ids.into_iter().map(|id| id.0).collect())
        })
    }

    /// The nearest templates, or people, of each probe.
    #[pyo3(signature = (probes, k = 10, threshold = None, *, by = "template", fusion = "max"))]
    fn search(
        &self,
        probes: &Bound<'_, PyAny>,
        k: usize,
        threshold: Option<f32>,
        by: &str,
        fusion: &str,
    ) -> PyResult<Vec<Vec<Match>>> {
        let refused = |what: &str, found: &str, allowed: &str| {
            Err(PyValueError::new_err(format!("{what} {found}; {allowed} allowed")))
        };
        if k == 0 {
            return refused("k", "0", "whole numbers from 1 are");
        }
        if let Some(threshold) = threshold.filter(|threshold| !(-1.0..=1.0).contains(threshold)) {
            return refused("threshold", &threshold.to_string(), "a cosine similarity from -1 to 1 is");
        }
        let by = match (by, fusion) {
            ("template", "max") => By::Template,
            ("template", "mean") => return refused("fusion", "`mean`", "with `by=\"subject\"` alone it is"),
            ("subject", "max") => By::Subject(Fusion::Max),
            ("subject", "mean") => By::Subject(Fusion::Mean),
            (_, "max" | "mean") => return refused("by", &format!("`{by}`"), "`template` and `subject` are"),
            _ => return refused("fusion", &format!("`{fusion}`"), "`max` and `mean` are"),
        };
        let ask = Ask { k, min_similarity: threshold, by, ..Ask::default() };
        let embedded = self.embeddings(probes)?;
        if embedded.templates.is_empty() {
            return Ok(Vec::new());
        }
        work(probes.py(), || {
            let now = self.now()?;
            let found = search::rank(&embedded, &now, &ask, false, |_| ())?;
            found.matches.iter().map(|found| matches(&now, found)).collect()
        })
    }

    /// Removes a person, or templates by their numbers, and returns how many templates that are.
    fn remove(&self, what: &Bound<'_, PyAny>) -> PyResult<u64> {
        let what = if let Ok(subject) = what.extract::<String>() {
            Selection::Subject(name(&subject)?)
        } else if let Ok(row) = what.extract::<u64>() {
            Selection::Templates(vec![TemplateId(row)])
        } else {
            let rows = what.extract::<Vec<u64>>();
            let rows =
                rows.map_err(|_| PyTypeError::new_err("a name, the number of a row, or a list of these is removed"))?;
            Selection::Templates(rows.into_iter().map(TemplateId).collect())
        };
        let removed = |store: &Store| {
            store.remove(&what).map_err(|error| match error {
                GalleryError::NoSubject { name } => {
                    DeployError::NotEnrolled { identity: name, gallery: self.folder.clone() }
                }
                other => other.into(),
            })
        };
        Python::attach(|py| work(py, || self.change(removed)))
    }

    /// Names of all people, in the order in which they were enrolled.
    fn subjects(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        work(py, || {
            let store = self.store()?;
            let mut people: Vec<Person> = Vec::new();
            loop {
                let more = store.people(people.last().map_or(0, |last| last.number), PEOPLE, None)?;
                if more.is_empty() {
                    return Ok(people.into_iter().map(|person| person.name).collect());
                }
                people.extend(more);
            }
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        work(py, || self.now()?.count())
    }

    fn __repr__(&self) -> String {
        format!("<vitrine.Gallery {}>", self.folder.display())
    }
}

impl Gallery {
    fn new(
        py: Python<'_>,
        folder: PathBuf,
        model: Py<Model>,
        wait: bool,
        make: impl FnOnce(&Path, &::gallery::Model, &Path) -> Result<(), DeployError> + Send,
    ) -> PyResult<Self> {
        let (own, shared) = (model.get(), &folder);
        let (pin, model_path, store) = work(py, || {
            let (pin, path) = (own.pin()?, own.opened.path.clone());
            make(shared, &pin, &path)?;
            let store = opened(shared, &pin, &path)?;
            Ok((pin, path, store))
        })?;
        let (store, changing) = (Mutex::new(Arc::new(store)), Mutex::new(()));
        Ok(Self { folder, model, pin, model_path, wait, store, changing })
    }

    /// Embeddings of pictures, or those that were given, of nobody in particular.
    fn embeddings(&self, what: &Bound<'_, PyAny>) -> PyResult<Embeddings> {
        let (py, dim, folder) = (what.py(), self.pin.dim, PathBuf::new());
        match given(what)? {
            Given::Pictures(rows) => {
                let Rows { values, inputs, .. } = self.model.get().rows(py, &rows, Options::BATCH_SIZE, true)?;
                let template = |(input, row): (_, &crate::given::Row)| match row.is_files() {
                    true => Template::from(input).stamped(),
                    false => Template::default(),
                };
                let templates = inputs.iter().zip(&rows).map(template).collect();
                Ok(Embeddings { values, dim, templates, folder })
            }
            Given::Vectors { mut values, shape } => {
                work(py, || galleries::make_unit(Path::new(VECTORS), &mut values, shape, dim))?;
                Ok(Embeddings { values, dim, templates: vec![Template::default(); shape[0]], folder })
            }
        }
    }

    /// The gallery that is open for reading; another one if it was made anew since.
    fn store(&self) -> Result<Arc<Store>, DeployError> {
        let mut held = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(held.about(), Err(GalleryError::Renewed { .. })) {
            *held = Arc::new(opened(&self.folder, &self.pin, &self.model_path)?);
        }
        Ok(Arc::clone(&held))
    }

    /// The gallery as it is now.
    fn now(&self) -> Result<galleries::Gallery, DeployError> {
        let store = self.store()?;
        let about = About::of(&store.about()?);
        Ok(galleries::Gallery::at(store.snapshot()?, store.model().clone(), about))
    }

    /// Changes it, as the only one who does.
    fn change<T>(&self, change: impl FnOnce(&Store) -> Result<T, DeployError>) -> Result<T, DeployError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let store = galleries::write(&self.folder, self.wait)?;
        galleries::pinned(&self.folder, store.model(), &self.pin, &self.model_path)?;
        change(&store)
    }
}

fn opened(folder: &Path, pin: &::gallery::Model, model_path: &Path) -> Result<Store, DeployError> {
    if galleries::is_older(folder) {
        return Err(DeployError::Older { path: folder.to_owned() });
    }
    let store = galleries::read(folder)?;
    galleries::pinned(folder, store.model(), pin, model_path)?;
    Ok(store)
}

/// The name of a person, composed as galleries have it.
fn name(text: &str) -> PyResult<String> {
    datasets::identity_name(text).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// What a search found, with what the gallery says about it.
fn matches(gallery: &galleries::Gallery, found: &[search::Match]) -> Result<Vec<Match>, DeployError> {
    let rows: Vec<usize> = found.iter().map(|found| found.row).collect();
    let one = |(found, template): (&search::Match, Template)| Match {
        subject: match template.identity {
            Identity::Person(name) => Some(name.text),
            _ => None,
        },
        similarity: found.similarity,
        row: found.row as u64,
        path: Some(template.path).filter(|path| !path.as_os_str().is_empty()).map(|path| gallery.file(&path)),
    };
    Ok(found.iter().zip(gallery.templates(&rows)?).map(one).collect())
}
