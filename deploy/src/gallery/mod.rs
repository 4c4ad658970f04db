//! Templates of people and who they are: galleries on disk, which the crate [`gallery`] keeps, galleries of
//! the older layout, and pictures that were just embedded. No ONNX Runtime here.

pub mod faiss;
pub mod older;
pub mod parquet;
mod template;

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::gallery::{
    Engine, Filter, GalleryError, Indexes, KeyFile, Model, Near, Opening, Remote, Rows, Selection, Snapshot, Store,
    TemplateId, address,
};
use datasets::Naming;
use metrics::{Label, Spread};
use serde::{Deserialize, Serialize};

pub use template::{BY_FILE, DISTRACTOR, JUNK, OWN, Stamp, Template};

use crate::DeployError;
use crate::identify::Size;
use crate::identity::{Identity, People};
use crate::pictures::{self, lossy};

/// What is noted about a gallery.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// Working folder when it was made; relative paths of its templates start there.
    #[serde(serialize_with = "lossy")]
    pub folder: PathBuf,
    /// Pictures that could not be used.
    pub skipped: usize,
    /// Folders and files whose pictures were embedded, as they were named.
    pub places: Vec<PathBuf>,
    /// What was to name the people, if not the usual rule: folder or file.
    pub identity_from: Option<String>,
    /// Similarity from which on a service says that somebody is found, where one was stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f32>,
}

impl About {
    /// Of a gallery that is made here and now.
    pub fn here(skipped: usize) -> Self {
        Self { folder: std::env::current_dir().unwrap_or_default(), skipped, ..Self::default() }
    }

    /// As it is stored.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What other programs note is not ours to read.
    pub fn of(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

/// Rows of unit length, with metadata for each.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `[rows, dim]`, row-major, L2 norm 1.
    pub values: Vec<f32>,
    /// Values per row.
    pub dim: usize,
    /// Metadata of each row.
    pub templates: Vec<Template>,
    /// Where relative paths of the templates start; empty for the working folder.
    pub folder: PathBuf,
}

impl Embeddings {
    /// Values of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..][..self.dim]
    }

    /// Full path of a file that a template names.
    pub fn file(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// All rows, borrowed.
    ///
    /// # Errors
    /// If the values do not make whole rows.
    pub fn view(&self) -> Result<Rows<'_>, DeployError> {
        Ok(Rows::new(&self.values, self.templates.len(), self.dim)?)
    }
}

/// The key of encrypted galleries.
static KEY: OnceLock<KeyFile> = OnceLock::new();

/// From here on this process opens encrypted galleries with the key of this file, and no others.
///
/// # Errors
/// If it is no key file, or others can read it.
pub fn unlock(file: &Path) -> Result<(), DeployError> {
    let key = KeyFile::open(file)?;
    // A second call would change nothing that is open.
    KEY.set(key).map_err(|_| DeployError::Unused { flag: "--key-file", why: "a key is open already".to_owned() })
}

/// As [`unlock`]; makes the key file if there is none and no gallery in `folder` whose key it should be.
///
/// # Errors
/// As there; if it cannot be made.
pub fn unlock_or_create(file: &Path, folder: &Path) -> Result<(), DeployError> {
    if !file.exists() && !Store::is_at(folder) && address(folder).is_none() {
        KeyFile::create(file)?;
    }
    unlock(file)
}

fn key() -> Option<&'static KeyFile> {
    KEY.get()
}

/// Fails if there is a key, for what has no use for one.
///
/// # Errors
/// [`DeployError::Unused`].
pub fn keyless(why: impl FnOnce() -> String) -> Result<(), DeployError> {
    if key().is_some() { Err(DeployError::Unused { flag: "--key-file", why: why() }) } else { Ok(()) }
}

/// Whether a gallery is encrypted, which is seen without its key.
///
/// # Errors
/// If it cannot be read.
pub fn is_encrypted(folder: &Path) -> Result<bool, DeployError> {
    Ok(Store::is_at(folder) && Store::is_encrypted_at(folder)?)
}

/// Opens a gallery for reading, encrypted or not.
///
/// # Errors
/// If there is none, or it is encrypted with another key than that of [`unlock`].
pub fn read(folder: &Path) -> Result<Store, DeployError> {
    Ok(Store::open_with(folder, key())?)
}

/// Decrypted rows that may be written to swap space, in bytes.
static UNLOCKED: AtomicUsize = AtomicUsize::new(0);

fn hold(store: &Store) {
    let held = store.held_memory();
    UNLOCKED.fetch_max(held.bytes - held.locked, Ordering::Relaxed);
}

/// Bytes of decrypted rows that the system did not keep out of its swap space; 0 if it kept all.
pub fn unlocked() -> usize {
    UNLOCKED.load(Ordering::Relaxed)
}

/// Whether this is a gallery, and not a folder of pictures only.
pub fn is_gallery(folder: &Path) -> bool {
    address(folder).is_some() || older::is_at(folder) || Store::is_at(folder)
}

/// Whether the folder holds a gallery of the older layout, which is only read.
pub fn is_older(folder: &Path) -> bool {
    older::is_at(folder)
}

/// Opens a gallery to change it.
///
/// # Errors
/// If there is none, it is of the older layout, or another program changes it and `wait` is not set.
pub fn write(folder: &Path, wait: bool) -> Result<Store, DeployError> {
    changeable(folder)?;
    Ok(Store::write_with(folder, &Opening { wait, key: key().cloned(), ..Opening::default() })?)
}

/// How a gallery is opened or made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Making {
    /// Wait while another program changes it.
    pub wait: bool,
    /// A new one has renewable templates.
    pub renewable: bool,
}

/// Opens a gallery to change it, or makes one for embeddings of `model`, encrypted if there is a key.
///
/// # Errors
/// As [`write()`]; if it holds embeddings of another model than `model`, which is the file at `path`.
pub fn write_or_create(folder: &Path, model: &Model, path: &Path, how: Making) -> Result<Store, DeployError> {
    changeable(folder)?;
    let store = open_or_make(folder, model, how)?;
    pinned(folder, store.model(), model, path)?;
    Ok(store)
}

/// Opens a gallery to change it, of whatever model, or makes one for embeddings of `model`, encrypted if there is a
/// key.
///
/// # Errors
/// As [`write()`]; if a gallery that is there should be renewable and is not.
pub fn open_or_make(folder: &Path, model: &Model, how: Making) -> Result<Store, DeployError> {
    let store = Store::write_or_create_with(folder, model, how.wait, key(), how.renewable)?;
    // A new one is.
    if how.renewable && !store.is_renewable() {
        let why =
            format!("`{}` is there already; `deploy gallery renew` makes its templates renewable", folder.display());
        return Err(DeployError::Unused { flag: "--renewable", why });
    }
    Ok(store)
}

/// Fails unless rows of `model`, which is the file at `path`, can be enrolled in the gallery, or in a new one: before
/// pictures are embedded for nothing.
///
/// # Errors
/// As [`write_or_create`], but for who else changes it.
pub fn fits(folder: &Path, model: &Model, path: &Path) -> Result<(), DeployError> {
    if address(folder).is_some() {
        return match Gallery::open_for(folder, model, path) {
            Err(DeployError::NoGallery(_)) => Ok(()),
            opened => opened.map(drop),
        };
    }
    changeable(folder)?;
    match Store::open_with(folder, key()) {
        Ok(store) => pinned(folder, store.model(), model, path),
        Err(GalleryError::NoGallery { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn changeable(folder: &Path) -> Result<(), DeployError> {
    if address(folder).is_some() {
        keyless(|| format!("a server keeps `{}`", folder.display()))?;
        let why = "a server keeps it, where enroll, remove, search and verify work";
        return Err(GalleryError::Unsupported { what: "be changed so", why }.into());
    }
    if older::is_at(folder) { Err(DeployError::Older { path: folder.to_owned() }) } else { Ok(()) }
}

/// Fails unless a gallery of `found` is one of `model`, which is the file at `path`.
///
/// # Errors
/// If it is not.
pub fn pinned(folder: &Path, found: &Model, model: &Model, path: &Path) -> Result<(), DeployError> {
    if found.contract_id != model.contract_id {
        return Err(DeployError::OtherModel {
            path: folder.to_owned(),
            gallery: found.contract_id.clone(),
            model: model.contract_id.clone(),
            model_path: path.to_owned(),
        });
    }
    if found.dim != model.dim {
        let problem = format!("its rows have {} values, those of the model {}", found.dim, model.dim);
        return Err(DeployError::Embeddings { path: folder.to_owned(), problem });
    }
    Ok(())
}

/// Replaces a gallery of the older layout by one of the present layout, in its folder. A crash leaves one or the other.
///
/// # Errors
/// If it cannot be read, or has a row that is no embedding, or the folder cannot be written to; it is then as it was.
pub fn convert(folder: &Path, how: Making) -> Result<Store, DeployError> {
    let (mut embeddings, model, about) = older::read(folder, |_| Ok(()))?;
    without_zeros(&mut embeddings);
    // What an attempt that was interrupted left is no gallery of its own yet.
    let store = open_or_make(folder, &model, how)?;
    // Another program may have done it while this one waited.
    if !older::is_at(folder) {
        return Ok(store);
    }
    let (store, _) = store.renew(&model, |changes| {
        changes.by("import");
        changes.describe(&about.text())?;
        enrol(changes, &embeddings)
    })?;
    older::remove(folder)?;
    Ok(store)
}

/// Opens the gallery of a folder that has none, or an empty one, for rows that come from elsewhere.
///
/// # Errors
/// If a gallery is there that has rows, or the folder cannot be written to.
pub fn vacant(folder: &Path, model: &Model, how: Making) -> Result<Store, DeployError> {
    let occupied = |rows: u64| DeployError::Occupied { path: folder.to_owned(), rows: rows.to_string() };
    if older::is_at(folder) {
        return Err(occupied(older::read(folder, |_| Ok(()))?.0.templates.len() as u64));
    }
    let store = open_or_make(folder, model, how)?;
    match store.info()?.templates {
        0 => Ok(store),
        rows => Err(occupied(rows)),
    }
}

/// Makes it a gallery of `model` and of the rows that `work` hands over, some at a time: all of them, or none if that
/// fails or the program dies.
///
/// # Errors
/// Those of `work`, and of rows that are no embeddings.
pub fn fill(
    store: Store,
    model: &Model,
    about: &About,
    work: impl FnOnce(&mut Enrolment<'_, '_>) -> Result<(), DeployError>,
) -> Result<Store, DeployError> {
    let (store, _) = store.renew(model, |changes| {
        changes.by("import");
        changes.describe(&about.text())?;
        let mut enrolment = Enrolment::new(changes, model.dim);
        work(&mut enrolment)?;
        enrolment.finish()
    })?;
    Ok(store)
}

/// Removes rows of zeros, which older versions stored for pictures without features.
fn without_zeros(embeddings: &mut Embeddings) {
    let kept = |row: &usize| embeddings.row(*row).iter().any(|value| *value != 0.0);
    let kept: Vec<usize> = (0..embeddings.templates.len()).filter(kept).collect();
    if kept.len() < embeddings.templates.len() {
        embeddings.values = kept.iter().flat_map(|row| embeddings.row(*row)).copied().collect();
        embeddings.templates = kept.iter().map(|row| embeddings.templates[*row].clone()).collect();
    }
}

/// Rows that are enrolled, imported or exported at a time.
pub const BATCH: usize = 1024;

/// Enrols all rows and returns their numbers.
///
/// # Errors
/// As [`Changes::enrol`](::gallery::Changes::enrol).
pub fn enrol(changes: &mut ::gallery::Changes<'_>, embeddings: &Embeddings) -> Result<Vec<TemplateId>, DeployError> {
    enrol_from(changes, embeddings, 0)
}

/// The same for rows before which there were others: errors name a row by its number among all.
fn enrol_from(
    changes: &mut ::gallery::Changes<'_>,
    embeddings: &Embeddings,
    before: usize,
) -> Result<Vec<TemplateId>, DeployError> {
    let values = embeddings.view()?;
    let mut ids = Vec::with_capacity(embeddings.templates.len());
    for (at, templates) in embeddings.templates.chunks(BATCH).enumerate() {
        let first = at * BATCH;
        let new: Vec<_> = templates.iter().map(Template::to_stored).collect();
        let enrolled = changes.enrol(&new, values.slice(first..first + templates.len()));
        ids.extend(enrolled.map_err(|error| match error {
            GalleryError::Row { row, problem } => GalleryError::Row { row: before + first + row, problem },
            other => other,
        })?);
    }
    Ok(ids)
}

/// A template that was made here, for a gallery whose relative paths start in another folder perhaps.
pub fn named_from(about: &About, mut template: Template) -> Template {
    let here = std::env::current_dir().unwrap_or_default();
    if about.folder != here {
        let files = std::iter::once(&mut template.path).chain(&mut template.others);
        // A row without a picture has no file.
        for path in files.filter(|path| !path.as_os_str().is_empty()) {
            *path = here.join(&*path);
        }
    }
    template
}

/// Enrols rows that were made here and now, all of them or none, and returns their numbers. Relative paths start in the
/// folder of the gallery, which for a new one is the working folder.
///
/// # Errors
/// As [`Engine::enrol`].
pub fn add(store: &Store, mut embeddings: Embeddings) -> Result<Vec<TemplateId>, DeployError> {
    let (here, about) = (About::here(0), store.about()?);
    if !about.is_empty() {
        let own = About::of(&about);
        embeddings.templates = embeddings.templates.into_iter().map(|template| named_from(&own, template)).collect();
    }
    store.change(|changes| {
        if about.is_empty() {
            changes.describe(&here.text())?;
        }
        enrol(changes, &embeddings)
    })
}

/// As [`add`], in a gallery that a server keeps: relative paths are made absolute.
///
/// # Errors
/// As [`Engine::enrol`].
pub fn add_at(remote: &Remote, embeddings: &Embeddings) -> Result<Vec<TemplateId>, DeployError> {
    let here = About::here(0).folder;
    let absolute = |template: &Template| {
        let mut template = template.clone();
        for path in std::iter::once(&mut template.path).chain(&mut template.others) {
            *path = here.join(&*path);
        }
        template.to_stored()
    };
    let new: Vec<_> = embeddings.templates.iter().map(absolute).collect();
    Ok(remote.engine.enrol(&new, embeddings.view()?)?)
}

/// A gallery that is open to be changed.
pub enum Place {
    /// In a folder.
    Folder(Box<Store>),
    /// Kept by a server.
    Server(Remote),
}

impl Place {
    /// Opens a gallery.
    ///
    /// # Errors
    /// As [`write()`] and [`Remote::open`].
    pub fn open(at: &Path, wait: bool) -> Result<Self, DeployError> {
        match address(at) {
            Some(address) => {
                keyless(|| format!("a server keeps `{address}`"))?;
                Ok(Self::Server(Remote::open(address)?))
            }
            None => Ok(Self::Folder(Box::new(write(at, wait)?))),
        }
    }

    /// Opens a gallery, or makes one for embeddings of `model`, which is the file at `path`.
    ///
    /// # Errors
    /// As [`write_or_create`] and [`Remote::open_or_create`].
    pub fn open_or_create(at: &Path, model: &Model, path: &Path, how: Making) -> Result<Self, DeployError> {
        let Some(address) = address(at) else {
            return Ok(Self::Folder(Box::new(write_or_create(at, model, path, how)?)));
        };
        keyless(|| format!("a server keeps `{address}`"))?;
        let remote = Remote::open_or_create(address, model)?;
        pinned(at, &remote.model, model, path)?;
        Ok(Self::Server(remote))
    }

    /// What keeps it.
    pub fn engine(&self) -> &dyn Engine {
        match self {
            Self::Folder(store) => &**store,
            Self::Server(remote) => &*remote.engine,
        }
    }

    /// Whose embeddings it holds.
    pub fn model(&self) -> &Model {
        match self {
            Self::Folder(store) => store.model(),
            Self::Server(remote) => &remote.model,
        }
    }

    /// Number of templates.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn count(&self) -> Result<u64, DeployError> {
        Ok(self.engine().snapshot()?.count(&Filter::default())?)
    }
}

/// Enrols rows as they come, some at a time.
pub struct Enrolment<'a, 'b> {
    changes: &'a mut ::gallery::Changes<'b>,
    rows: Embeddings,
    count: usize,
}

impl<'a, 'b> Enrolment<'a, 'b> {
    /// Rows of `dim` values.
    pub fn new(changes: &'a mut ::gallery::Changes<'b>, dim: usize) -> Self {
        let rows = Embeddings { values: Vec::new(), dim, templates: Vec::new(), folder: PathBuf::new() };
        Self { changes, rows, count: 0 }
    }

    /// Takes a row.
    ///
    /// # Errors
    /// As [`enrol`].
    pub fn row(&mut self, template: Template, values: &[f32]) -> Result<(), DeployError> {
        self.rows.templates.push(template);
        self.rows.values.extend_from_slice(values);
        self.count += 1;
        if self.rows.templates.len() == BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), DeployError> {
        enrol_from(self.changes, &self.rows, self.count - self.rows.templates.len())?;
        self.rows.templates.clear();
        self.rows.values.clear();
        Ok(())
    }

    /// Enrols the rows that are left and returns how many there were in all.
    ///
    /// # Errors
    /// As [`enrol`].
    pub fn finish(mut self) -> Result<usize, DeployError> {
        self.flush()?;
        Ok(self.count)
    }
}

/// The rows of a file of numpy's or FAISS's, made to unit length: `[rows, dim]`.
///
/// # Errors
/// If it cannot be read, its rows are none of `dim` values, or one has no direction.
pub fn array(path: &Path, dim: usize) -> Result<Vec<f32>, DeployError> {
    let (mut values, rows, found) = faiss::read(path)?;
    make_unit(path, &mut values, [rows, found], dim)?;
    Ok(values)
}

/// Makes rows of a file, or of what `path` stands for, to unit length, `[rows, found]`.
///
/// # Errors
/// If they are none of `dim` values, or one has no direction.
pub fn make_unit(path: &Path, values: &mut [f32], [rows, found]: [usize; 2], dim: usize) -> Result<(), DeployError> {
    let wrong = |problem: String| DeployError::Features { path: path.to_owned(), problem };
    if found != dim || rows == 0 {
        return Err(wrong(format!("shape [{rows}, {found}]; [rows, {dim}] with at least one row is needed")));
    }
    for (at, row) in values.chunks_exact_mut(dim).enumerate() {
        let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if !length.is_finite() || length == 0.0 {
            return Err(wrong(format!("row {at} has length {length}; an embedding has a direction")));
        }
        // Rows of unit length keep their bits.
        if (length - 1.0).abs() > 1e-6 {
            row.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
        }
    }
    Ok(())
}

/// Lets `fill` write a file of templates, which is readable by its owner alone and created or replaced as a whole.
///
/// # Errors
/// Those of `fill`, and what the disk refuses; the file is then as it was.
pub fn streamed(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> Result<(), DeployError>,
) -> Result<(), DeployError> {
    let mut failed = None;
    let written = files::write_private_with(path, |out| {
        fill(out).map_err(|error| {
            failed = Some(error);
            std::io::ErrorKind::Other.into()
        })
    });
    match failed {
        Some(error) => Err(error),
        None => Ok(written?),
    }
}

/// Who is to be removed.
pub fn person(name: &str) -> Selection {
    Selection::Subject(name.to_owned())
}

/// A gallery that is open for reading. Rows are named by numbers: those of a gallery on disk by the ids of their
/// templates, which stay, others by their places.
pub struct Gallery {
    rows: Held,
    model: Model,
    about: About,
    filter: Filter,
    spread: OnceLock<Spread>,
}

enum Held {
    /// On disk or on a server, not read whole.
    Stored(Box<dyn Snapshot>),
    /// In memory.
    Here(Embeddings),
}

/// Rows that [`Gallery::spread`] looks at.
const SAMPLE: usize = 256;

impl Gallery {
    /// Opens a gallery of either layout, of any model.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn open(folder: &Path) -> Result<Self, DeployError> {
        Self::open_if(folder, |_| Ok(()))
    }

    /// Opens a gallery of embeddings of `model`, which is the file at `path`.
    ///
    /// # Errors
    /// As [`Gallery::open`]; if it holds embeddings of another model.
    pub fn open_for(folder: &Path, model: &Model, path: &Path) -> Result<Self, DeployError> {
        Self::open_if(folder, |found| pinned(folder, found, model, path))
    }

    /// Opens a gallery of embeddings of `model`, which is the file at `path`, for approximate searches with `effort`;
    /// see [`Store::approximate`]. What else is asked of it is answered exactly. Returns, too, what is indexed.
    ///
    /// # Errors
    /// As [`Gallery::open_for`]; if the program has no approximate search, or the gallery no index.
    pub fn open_approximate(
        folder: &Path,
        model: &Model,
        path: &Path,
        effort: usize,
    ) -> Result<(Self, Indexes), DeployError> {
        if older::is_at(folder) {
            return Err(DeployError::Older { path: folder.to_owned() });
        }
        if address(folder).is_some() {
            let why = "a server keeps it, which searches as it was set up to";
            let what = "be searched along an index of ours";
            return Err(GalleryError::Unsupported { what, why }.into());
        }
        let store = read(folder)?;
        pinned(folder, store.model(), model, path)?;
        let (model, about, indexes) = (store.model().clone(), About::of(&store.about()?), store.indexes()?);
        let engine = store.approximate(effort)?;
        if indexes.rows > 0 && indexes.graph.rows == 0 {
            return Err(DeployError::NoIndex { path: folder.to_owned() });
        }
        let rows = Held::Stored(engine.snapshot()?);
        Ok((Self { rows, model, about, filter: Filter::default(), spread: OnceLock::new() }, indexes))
    }

    /// Opens a gallery of either layout whose rows go into another: the key may be the other's alone.
    ///
    /// # Errors
    /// As [`Gallery::open`].
    pub fn open_to_copy(folder: &Path) -> Result<Self, DeployError> {
        let key = if is_encrypted(folder)? { key() } else { None };
        Self::open_by(folder, key, |_| Ok(()))
    }

    fn open_if(folder: &Path, check: impl Fn(&Model) -> Result<(), DeployError>) -> Result<Self, DeployError> {
        if older::is_at(folder) {
            keyless(|| format!("`{}` is a gallery of the older layout", folder.display()))?;
        }
        Self::open_by(folder, key(), check)
    }

    fn open_by(
        folder: &Path,
        key: Option<&KeyFile>,
        check: impl Fn(&Model) -> Result<(), DeployError>,
    ) -> Result<Self, DeployError> {
        if older::is_at(folder) {
            let (embeddings, model, about) = older::read(folder, check)?;
            return Ok(Self { model, about, ..Self::of(embeddings) });
        }
        if let Some(address) = address(folder) {
            keyless(|| format!("a server keeps `{address}`"))?;
            let Remote { engine, model } = Remote::open(address)?;
            check(&model)?;
            let (rows, about) = (Held::Stored(engine.snapshot()?), About::default());
            return Ok(Self { rows, model, about, filter: Filter::default(), spread: OnceLock::new() });
        }
        let store = Store::open_with(folder, key)?;
        check(store.model())?;
        let (rows, about) = (Held::Stored(store.snapshot()?), About::of(&store.about()?));
        hold(&store);
        Ok(Self { rows, model: store.model().clone(), about, filter: Filter::default(), spread: OnceLock::new() })
    }

    /// A gallery at one moment.
    pub fn at(snapshot: Box<dyn Snapshot>, model: Model, about: About) -> Self {
        Self { rows: Held::Stored(snapshot), model, about, filter: Filter::default(), spread: OnceLock::new() }
    }

    /// The numbers of people, in the order asked for; none for names not enrolled, and for rows without numbers.
    ///
    /// # Errors
    /// As [`Gallery::count`].
    pub fn numbers(&self, names: &[String]) -> Result<Vec<Option<u32>>, DeployError> {
        match &self.rows {
            Held::Stored(now) => Ok(now.numbers(names)?),
            Held::Here(_) => Ok(vec![None; names.len()]),
        }
    }

    /// Pictures that were just embedded.
    pub fn of(embeddings: Embeddings) -> Self {
        let model = Model { dim: embeddings.dim, ..Model::default() };
        let about = About { folder: embeddings.folder.clone(), ..About::default() };
        Self { rows: Held::Here(embeddings), model, about, filter: Filter::default(), spread: OnceLock::new() }
    }

    /// Only the templates that pass from here on.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    pub fn filtered(mut self, filter: Filter) -> Result<Self, DeployError> {
        if filter == Filter::default() {
            return Ok(self);
        }
        match &mut self.rows {
            Held::Stored(_) => self.filter = filter,
            Held::Here(all) => {
                let passes = |row: &usize| filter.passes(&all.templates[*row].to_stored());
                let kept: Vec<usize> = (0..all.templates.len()).filter(passes).collect();
                let values = kept.iter().flat_map(|row| all.row(*row)).copied().collect();
                let templates = kept.iter().map(|row| all.templates[*row].clone()).collect();
                *all = Embeddings { values, templates, dim: all.dim, folder: std::mem::take(&mut all.folder) };
            }
        }
        Ok(self)
    }

    /// Whether its rows have numbers that stay.
    pub fn is_stored(&self) -> bool {
        matches!(self.rows, Held::Stored(_))
    }

    /// The model whose embeddings it holds; of pictures that were just embedded only the width is known.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What is noted about it.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Full path of a file that a template names.
    pub fn file(&self, path: &Path) -> PathBuf {
        self.about.folder.join(path)
    }

    /// Number of rows.
    ///
    /// # Errors
    /// If the gallery cannot be read; so for all of these.
    pub fn count(&self) -> Result<usize, DeployError> {
        Ok(match &self.rows {
            Held::Stored(now) => usize::try_from(now.count(&self.filter)?).unwrap_or(usize::MAX),
            Held::Here(all) => all.templates.len(),
        })
    }

    /// All rows, in order.
    ///
    /// # Errors
    /// As [`Gallery::count`].
    pub fn rows(&self) -> Result<Vec<usize>, DeployError> {
        self.select(Filter::default())
    }

    /// The rows that pass another filter, too.
    ///
    /// # Errors
    /// As [`Gallery::count`].
    pub fn select(&self, more: Filter) -> Result<Vec<usize>, DeployError> {
        Ok(match &self.rows {
            Held::Stored(now) => now.select(&both(&self.filter, more))?.into_iter().map(|id| id.0 as usize).collect(),
            Held::Here(all) => {
                let passes = |row: &usize| more == Filter::default() || more.passes(&all.templates[*row].to_stored());
                (0..all.templates.len()).filter(passes).collect()
            }
        })
    }

    /// The rows nearest to each probe: best first, equal ones in their order.
    ///
    /// # Errors
    /// As [`Snapshot::search`].
    pub fn nearest(&self, probes: Rows<'_>, k: usize, min: Option<f32>) -> Result<Vec<Vec<Near>>, DeployError> {
        Ok(match &self.rows {
            Held::Stored(now) => {
                let ask = ::gallery::Ask { k, min_similarity: min, filter: self.filter.clone() };
                let near = |hit: &::gallery::Hit| Near { row: hit.id.0 as usize, similarity: hit.similarity };
                now.search(probes, &ask)?.iter().map(|hits| hits.iter().map(near).collect()).collect()
            }
            Held::Here(all) => ::gallery::nearest_rows(all.view()?, probes, k, min),
        })
    }

    /// From now on rows of a gallery on disk do not stay in memory when they were compared; see
    /// [`Snapshot::read_once`].
    pub fn read_once(&self) {
        if let Held::Stored(now) = &self.rows {
            now.read_once();
        }
    }

    /// For each probe and each of its marks: how many counted rows come before it and after the mark before; see
    /// [`Snapshot::nearer`].
    ///
    /// # Errors
    /// As [`Snapshot::search`].
    pub fn nearer(
        &self,
        probes: Rows<'_>,
        marks: &[Vec<Near>],
        counted: impl Fn(usize, usize) -> bool + Sync,
    ) -> Result<Vec<Vec<u64>>, DeployError> {
        Ok(match &self.rows {
            Held::Stored(now) => {
                let hit = |near: &Near| ::gallery::Hit { id: TemplateId(near.row as u64), similarity: near.similarity };
                let marks: Vec<Vec<_>> = marks.iter().map(|marks| marks.iter().map(hit).collect()).collect();
                now.nearer(probes, &marks, &|probe, id| counted(probe, id.0 as usize))?
            }
            Held::Here(all) => ::gallery::nearer_rows(all.view()?, probes, marks, counted),
        })
    }

    /// Values of rows, `[rows, dim]`.
    ///
    /// # Errors
    /// If one of them is not there.
    pub fn vectors(&self, rows: &[usize]) -> Result<Vec<f32>, DeployError> {
        Ok(match &self.rows {
            // No engine that is opened here keeps them to itself.
            Held::Stored(now) => now.vectors(&ids(rows))?.unwrap_or_default(),
            Held::Here(all) => rows.iter().flat_map(|row| all.row(*row)).copied().collect(),
        })
    }

    /// Templates of rows.
    ///
    /// # Errors
    /// If one of them is not there.
    pub fn templates(&self, rows: &[usize]) -> Result<Vec<Template>, DeployError> {
        Ok(match &self.rows {
            Held::Stored(now) => now.templates(&ids(rows))?.into_iter().map(|one| Template::from(one.about)).collect(),
            Held::Here(all) => rows.iter().map(|row| all.templates[*row].clone()).collect(),
        })
    }

    /// The rows of a person.
    ///
    /// # Errors
    /// As [`Gallery::count`].
    pub fn of_person(&self, name: &str) -> Result<Vec<usize>, DeployError> {
        self.select(Filter { subjects: Some(vec![name.to_owned()]), ..Filter::default() })
    }

    /// How far apart the embeddings are, by some of them.
    ///
    /// # Errors
    /// As [`Gallery::vectors`].
    pub fn spread(&self) -> Result<Spread, DeployError> {
        if let Some(spread) = self.spread.get() {
            return Ok(*spread);
        }
        let some: Vec<usize> = match &self.rows {
            Held::Stored(now) => now.sample(&self.filter, SAMPLE)?.into_iter().map(|id| id.0 as usize).collect(),
            Held::Here(all) => {
                let (rows, count) = (all.templates.len(), all.templates.len().min(SAMPLE));
                (0..count).map(|at| at * rows / count).collect()
            }
        };
        let spread = metrics::spread(Rows::new(&self.vectors(&some)?, some.len(), self.model.dim)?);
        Ok(*self.spread.get_or_init(|| spread))
    }

    /// Everything, in memory.
    ///
    /// # Errors
    /// As [`Gallery::vectors`].
    pub fn load(&self) -> Result<Embeddings, DeployError> {
        let rows = self.rows()?;
        let (values, templates) = (self.vectors(&rows)?, self.templates(&rows)?);
        Ok(Embeddings { values, templates, dim: self.model.dim, folder: self.about.folder.clone() })
    }

    /// Whether its people are named by folders or by file names; `None` if some are by each.
    ///
    /// # Errors
    /// As [`Gallery::count`].
    pub fn naming(&self) -> Result<Option<Naming>, DeployError> {
        let now = match &self.rows {
            Held::Here(all) => return Ok(pictures::naming(all.templates.iter().map(|template| &template.identity))),
            Held::Stored(now) => now,
        };
        let with = |tag: &str| now.count(&Filter { tags: vec![tag.to_owned()], ..self.filter.clone() });
        let by_file = with(BY_FILE)? + with(JUNK)? + with(DISTRACTOR)?;
        Ok(match (by_file, now.count(&self.filter)?) {
            (_, 0) => None,
            (0, _) => Some(Naming::Folder),
            (by_file, all) => (by_file == all).then_some(Naming::File),
        })
    }

    /// How many people and templates a probe is compared with.
    ///
    /// # Errors
    /// As [`Gallery::count`].
    pub fn size(&self) -> Result<Size, DeployError> {
        let (mut nobody, mut people) = (0, HashMap::<String, u64>::new());
        match &self.rows {
            Held::Here(all) => {
                for template in &all.templates {
                    match &template.identity {
                        Identity::Person(name) => *people.entry(name.text.clone()).or_default() += 1,
                        _ => nobody += 1,
                    }
                }
            }
            Held::Stored(now) => now.columns(&self.filter, &mut |columns| match columns.subject {
                Some(number) => *people.entry(number.to_string()).or_default() += 1,
                None => nobody += 1,
            })?,
        }
        let templates = || people.values().copied().chain((nobody > 0).then_some(1));
        Ok(Size {
            people: people.len() as u64 + nobody,
            fewest: templates().min().unwrap_or(0),
            most: templates().max().unwrap_or(0),
        })
    }

    /// Who of the probes' people is in the gallery.
    ///
    /// # Errors
    /// As [`Gallery::count`].
    pub fn people(&self, probes: &[Template]) -> Result<People, DeployError> {
        let now = match &self.rows {
            Held::Here(all) => return Ok(People::of(all.templates.iter().map(|template| &template.identity))),
            Held::Stored(now) => now,
        };
        let name = |probe: &Template| match &probe.identity {
            Identity::Person(name) => Some(name.text.clone()),
            _ => None,
        };
        let names: BTreeSet<String> = probes.iter().filter_map(name).collect();
        let names: Vec<String> = names.into_iter().collect();
        let numbers = names.iter().cloned().zip(now.numbers(&names)?);
        let known = numbers.filter_map(|(name, number)| Some((name, i64::from(number?))));
        Ok(People::known(now.subjects()? > 1, known))
    }

    /// Rows and their labels for the Market-1501 protocol, in order.
    ///
    /// # Errors
    /// As [`Gallery::count`].
    pub fn labels(&self, people: &People) -> Result<Vec<(usize, Label)>, DeployError> {
        let now = match &self.rows {
            Held::Here(all) => {
                let label = |of: &Template| people.entry_label(&of.identity, of.camera);
                return Ok(all.templates.iter().map(label).enumerate().collect());
            }
            Held::Stored(now) => now,
        };
        let tagged = |tag: &str| self.select(Filter { tags: vec![tag.to_owned()], ..Filter::default() });
        let distractors = tagged(DISTRACTOR)?;
        // A single name of a folder may be none.
        let by_file = (!people.are_several()).then(|| tagged(BY_FILE)).transpose()?;
        let mut labels = Vec::new();
        now.columns(&self.filter, &mut |own| {
            let row = own.id.0 as usize;
            let among = |rows: &Vec<usize>| rows.binary_search(&row).is_ok();
            let number = match own.subject {
                Some(number) => Some(i64::from(number)).filter(|_| by_file.as_ref().is_none_or(among)),
                None => among(&distractors).then_some(datasets::DISTRACTOR),
            };
            labels.push((row, People::label(number, own.camera)));
        })?;
        Ok(labels)
    }

    /// Who is on which row, for looks at many people.
    ///
    /// # Errors
    /// As [`Gallery::count`].
    pub(crate) fn persons(&self) -> Result<Persons, DeployError> {
        let mut of_row = Vec::new();
        match &self.rows {
            Held::Stored(now) => now.columns(&self.filter, &mut |own| {
                of_row.push((own.id.0 as usize, own.subject.map(i64::from)));
            })?,
            Held::Here(all) => {
                let people = People::of(all.templates.iter().map(|template| &template.identity));
                let number = |template: &Template| match &template.identity {
                    Identity::Person(name) => people.number(&name.text),
                    _ => None,
                };
                of_row.extend(all.templates.iter().map(number).enumerate());
            }
        }
        let mut rows: Vec<(i64, usize)> =
            of_row.iter().filter_map(|(row, person)| person.map(|person| (person, *row))).collect();
        rows.sort_unstable();
        Ok(Persons { of_row, rows })
    }

    /// As [`Gallery::vectors`], of all rows, and without a copy where they are in memory.
    pub(crate) fn values(&self, all: &[usize]) -> Result<Cow<'_, [f32]>, DeployError> {
        match &self.rows {
            Held::Here(here) => Ok(Cow::Borrowed(&here.values)),
            Held::Stored(_) => self.vectors(all).map(Cow::Owned),
        }
    }
}

/// Who is on which row.
#[derive(Debug, Default)]
pub(crate) struct Persons {
    /// In order of the rows.
    of_row: Vec<(usize, Option<i64>)>,
    /// Numbers of people with their rows, in order.
    rows: Vec<(i64, usize)>,
}

impl Persons {
    /// The number of the person on a row; none if it has no name.
    pub(crate) fn of(&self, row: usize) -> Option<i64> {
        let at = self.of_row.binary_search_by_key(&row, |(row, _)| *row).ok()?;
        self.of_row[at].1
    }

    /// The rows of a person.
    pub(crate) fn rows(&self, person: i64) -> Vec<usize> {
        let first = self.rows.partition_point(|(other, _)| *other < person);
        self.rows[first..].iter().take_while(|(other, _)| *other == person).map(|(_, row)| *row).collect()
    }
}

fn ids(rows: &[usize]) -> Vec<TemplateId> {
    rows.iter().map(|row| TemplateId(*row as u64)).collect()
}

/// The filter that passes what both pass.
fn both(one: &Filter, other: Filter) -> Filter {
    fn shared<T: PartialEq + Clone>(one: &Option<Vec<T>>, other: Option<Vec<T>>) -> Option<Vec<T>> {
        match (one, other) {
            (Some(one), Some(other)) => Some(one.iter().filter(|own| other.contains(own)).cloned().collect()),
            (one, other) => other.or_else(|| one.clone()),
        }
    }
    let later = |one: Option<i64>, other: Option<i64>| one.max(other);
    Filter {
        subjects: shared(&one.subjects, other.subjects),
        cameras: shared(&one.cameras, other.cameras),
        from: later(one.from, other.from),
        until: [one.until, other.until].into_iter().flatten().min(),
        tags: one.tags.iter().cloned().chain(other.tags).collect(),
    }
}
