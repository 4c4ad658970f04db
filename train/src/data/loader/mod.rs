//! Pictures to batches, decoded in threads, in an order that is fixed: how many threads there are and how fast each
//! is changes nothing about what comes out.
//!
//! Decoding and resizing are the same in every epoch, so pictures are kept at the network's size as far as memory
//! allows ([`Pictures`]); what is random comes after that.
//!
//! ```no_run
//! use std::sync::Arc;
//! use train::data::loader::*;
//! use train::families::reid::settings::ReidConfig;
//! # fn input() -> contract::PictureSpec { train::families::reid::task::picture_spec(&Default::default()) }
//! # fn main() -> anyhow::Result<()> {
//! let config = ReidConfig::default();
//! let options = datasets::Options::default();
//! let dataset = datasets::Dataset::open(&config.data_train, config.datadir.as_ref(), &options)?;
//! let pictures = Arc::new(Pictures::training(&dataset, input(), config.cache_mb));
//! let cameras: Vec<i64> = dataset.train.iter().map(|sample| sample.camera).collect();
//! let sampler = config.sampler_of(pictures.classes(), &cameras)?;
//! for epoch in 0..config.epochs {
//!     let options = LoaderOptions {
//!         transforms: Some((config.transforms(), epoch)),
//!         workers: config.n_thread,
//!         start_batch: 0,
//!         strict: config.strict,
//!     };
//!     for batch in Loader::new(pictures.clone(), sampler.epoch(epoch), options)? {
//!         let PictureBatch { pixels, shape, classes, .. } = batch?;
//! #       let _ = (pixels, shape, classes);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod classes;
mod prefetch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use contract::preprocess::{self, PictureError, normalise, resize};
use contract::{PictureSpec, Resize};
use datasets::{Dataset, Sample};
use image::RgbImage;

use crate::data::augment::Transforms;
pub(crate) use classes::Classes;
pub use prefetch::{Batch, Batches};

/// Errors of the loader.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum LoaderError {
    /// A picture cannot be read, and that was to be an error.
    #[error("unreadable pictures are errors here (--strict)")]
    Unreadable {
        /// The cause, with the path.
        source: Arc<PictureError>,
    },
    /// Not one picture of any batch can be read.
    #[error("none of {count} pictures can be read")]
    AllUnreadable {
        /// Pictures tried.
        count: usize,
        /// What was wrong with one of them.
        source: Arc<PictureError>,
    },
    /// The system gives no thread.
    #[error("cannot start a thread to decode pictures")]
    Threads {
        /// The cause.
        source: Arc<std::io::Error>,
    },
}

/// Picture files with a number each, and their decoded form as far as memory allows. Shared by all epochs.
#[derive(Debug)]
pub struct Pictures {
    paths: Vec<PathBuf>,
    classes: Classes,
    input: PictureSpec,
    /// Part of each picture that is used, as x1, y1, x2, y2 in pixels; empty: all of all.
    crops: Vec<Option<[f64; 4]>>,
    decoded: Vec<OnceLock<RgbImage>>,
    /// Bytes that may still be kept.
    room: AtomicUsize,
    unreadable: Mutex<BTreeMap<usize, Arc<PictureError>>>,
}

impl Pictures {
    /// Pictures with a class each, to be brought to `input`'s form. Up to `cache_mb`·2²⁰ bytes are kept decoded.
    ///
    /// # Panics
    /// If there are not as many classes as paths.
    pub fn new(paths: Vec<PathBuf>, classes: Vec<i64>, input: PictureSpec, cache_mb: usize) -> Self {
        assert_eq!(paths.len(), classes.len(), "a class per picture");
        let decoded = paths.iter().map(|_| OnceLock::new()).collect();
        let room = AtomicUsize::new(cache_mb.saturating_mul(1 << 20));
        let (classes, crops) = (Classes::new(classes), Vec::new());
        Self { paths, classes, input, crops, decoded, room, unreadable: Mutex::default() }
    }

    /// The training pictures of a dataset, each with its class.
    pub fn training(dataset: &Dataset, input: PictureSpec, cache_mb: usize) -> Self {
        let paths = dataset.train.iter().map(|sample| sample.path.clone()).collect();
        let classes = dataset.train_classes().into_iter().map(|class| class as i64).collect();
        Self::new(paths, classes, input, cache_mb)
    }

    /// Any pictures, each with its identity as class.
    pub fn evaluation(samples: &[Sample], input: PictureSpec, cache_mb: usize) -> Self {
        let paths = samples.iter().map(|sample| sample.path.clone()).collect();
        Self::new(paths, samples.iter().map(|sample| sample.identity).collect(), input, cache_mb)
    }

    /// Uses a part of some pictures only: x1, y1, x2, y2 in pixels, which may reach beyond the picture.
    ///
    /// # Panics
    /// If there are not as many as pictures.
    pub fn with_crops(self, crops: Vec<Option<[f64; 4]>>) -> Self {
        assert_eq!(crops.len(), self.paths.len(), "a part per picture");
        Self { crops, ..self }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The file of one.
    ///
    /// # Panics
    /// If there is no such picture.
    pub fn path(&self, index: usize) -> &Path {
        &self.paths[index]
    }

    /// The class of each.
    pub fn classes(&self) -> &[i64] {
        self.classes.of_row()
    }

    /// The form they are brought to.
    pub fn input(&self) -> &PictureSpec {
        &self.input
    }

    /// Those that were tried and could not be read, and why. Each is tried once.
    pub fn unreadable(&self) -> Vec<(&Path, Arc<PictureError>)> {
        let unreadable = lock(&self.unreadable);
        unreadable.iter().map(|(index, error)| (self.paths[*index].as_path(), error.clone())).collect()
    }

    /// One picture at the network's size.
    pub(crate) fn get(&self, index: usize) -> Result<RgbImage, Arc<PictureError>> {
        if let Some(picture) = self.decoded[index].get() {
            return Ok(picture.clone());
        }
        if let Some(error) = lock(&self.unreadable).get(&index) {
            return Err(error.clone());
        }
        let Resize::Stretch = self.input.resize;
        let picture = match preprocess::decode(&self.paths[index]) {
            Ok(picture) => {
                let used = match self.crops.get(index).copied().flatten() {
                    Some(crop) => cropped(&picture, crop),
                    None => picture,
                };
                resize(&used, self.input.size, self.input.filter)
            }
            Err(error) => {
                let error = Arc::new(error);
                lock(&self.unreadable).insert(index, error.clone());
                return Err(error);
            }
        };
        let take = |room: usize| room.checked_sub(picture.as_raw().len());
        if self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
            && self.decoded[index].set(picture.clone()).is_err()
        {
            // Another thread decoded the same picture meanwhile.
            self.room.fetch_add(picture.as_raw().len(), Ordering::Relaxed);
        }
        Ok(picture)
    }
}

/// The part of a picture inside a box, at least a pixel.
fn cropped(picture: &RgbImage, [left, top, right, bottom]: [f64; 4]) -> RgbImage {
    let (width, height) = picture.dimensions();
    let span = |from: f64, to: f64, size: u32| {
        let first = from.floor().clamp(0.0, f64::from(size - 1)) as u32;
        (first, (to.ceil().clamp(0.0, f64::from(size)) as u32).saturating_sub(first).max(1))
    };
    let ((x, across), (y, down)) = (span(left, right, width), span(top, bottom, height));
    image::imageops::crop_imm(picture, x, y, across, down).to_image()
}

/// A picture of a batch that could not be read.
#[derive(Debug, Clone)]
pub struct Skipped {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: Arc<PictureError>,
    /// The picture of the same class that took its place; without one the batch is smaller.
    pub replaced_by: Option<usize>,
}

/// Pictures ready for the network.
#[derive(Debug, Clone)]
pub struct PictureBatch {
    /// Number of the batch, from 0; [`Loader::new`]'s `start_batch` continues after the ones before.
    pub number: usize,
    /// Normalised values, row-major, in the form of [`PictureBatch::shape`].
    pub pixels: Vec<f32>,
    /// `[pictures, channels, height, width]`.
    pub shape: [usize; 4],
    /// Class of each picture.
    pub classes: Vec<i64>,
    /// Number of each picture in [`Pictures`].
    pub indices: Vec<usize>,
    /// Pictures that were to be in this batch, or in one left out before it, and could not be read.
    pub skipped: Vec<Skipped>,
}

/// How batches are made, of one family's random transforms.
#[derive(Debug, Clone)]
pub struct LoaderOptions<T = Transforms> {
    /// Random transforms and the number of the epoch; without, pictures are as evaluation sees them.
    pub transforms: Option<(T, usize)>,
    /// Threads that decode, at least one.
    pub workers: usize,
    /// The first batch to make: what came before is not decoded.
    pub start_batch: usize,
    /// An unreadable picture is an error. Otherwise another of its class takes its place in training, and in
    /// evaluation it is left out.
    pub strict: bool,
}

/// The batches of one epoch of pictures, made ahead by threads. Dropping it stops them.
pub type Loader = Batches<PictureBatch>;

impl Batch for PictureBatch {
    fn rows(&self) -> usize {
        self.indices.len()
    }

    fn skipped(&mut self) -> &mut Vec<Skipped> {
        &mut self.skipped
    }
}

/// A thread that panicked while it held the lock left plain data behind; the panic itself is handed on elsewhere.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Loader {
    /// Starts making `batches`, each a list of numbers in `pictures`.
    ///
    /// # Errors
    /// If no thread can be started.
    ///
    /// # Panics
    /// If a number is not below `pictures.len()`.
    pub fn new(pictures: Arc<Pictures>, batches: Vec<Vec<usize>>, options: LoaderOptions) -> Result<Self, LoaderError> {
        assert!(batches.iter().flatten().all(|index| *index < pictures.len()), "numbers of these pictures");
        let (count, start, workers) = (batches.len(), options.start_batch, options.workers);
        let builder = BatchBuilder { starts: starts(&batches), pictures, batches, options };
        Self::made_by(count, start, workers, move |number, stopped| builder.make(number, stopped))
    }

    /// All pictures in order, `batch` at a time, as evaluation and the device see them.
    ///
    /// # Errors
    /// If no thread can be started.
    ///
    /// # Panics
    /// If `batch` is 0.
    pub fn evaluation(
        pictures: Arc<Pictures>,
        batch: usize,
        workers: usize,
        strict: bool,
    ) -> Result<Self, LoaderError> {
        let batches = in_order(pictures.len(), batch);
        Self::new(pictures, batches, LoaderOptions { transforms: None, workers, start_batch: 0, strict })
    }
}

/// All of `count` rows in order, `batch` at a time.
///
/// # Panics
/// If `batch` is 0.
pub(crate) fn in_order(count: usize, batch: usize) -> Vec<Vec<usize>> {
    (0..count).step_by(batch).map(|first| (first..count.min(first + batch)).collect()).collect()
}

/// Place in the epoch of each batch's first row.
pub(crate) fn starts<T>(batches: &[Vec<T>]) -> Vec<usize> {
    let place = |place: &mut usize, batch: &Vec<T>| {
        let first = *place;
        *place += batch.len();
        Some(first)
    };
    batches.iter().scan(0, place).collect()
}

/// What the threads need to make a batch.
#[derive(Debug)]
struct BatchBuilder {
    pictures: Arc<Pictures>,
    batches: Vec<Vec<usize>>,
    starts: Vec<usize>,
    options: LoaderOptions,
}

impl BatchBuilder {
    fn make(&self, number: usize, stopped: &AtomicBool) -> Result<PictureBatch, LoaderError> {
        let planned = &self.batches[number];
        let input = &self.pictures.input;
        let [height, width] = input.size;
        let size = input.colour.channels() * height * width;
        let mut batch = PictureBatch {
            number,
            pixels: vec![0.0; planned.len() * size],
            shape: [0, input.colour.channels(), height, width],
            classes: Vec::with_capacity(planned.len()),
            indices: Vec::with_capacity(planned.len()),
            skipped: vec![],
        };
        let mut taken: BTreeSet<usize> = planned.iter().copied().collect();
        for (row, index) in planned.iter().enumerate() {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let (index, picture) = match self.pictures.get(*index) {
                Ok(picture) => (*index, picture),
                Err(source) if self.options.strict => return Err(LoaderError::Unreadable { source }),
                Err(error) => {
                    let training = self.options.transforms.is_some();
                    let read = |one| self.pictures.get(one).ok();
                    let instead = training.then(|| self.pictures.classes.instead_of(*index, &taken, read)).flatten();
                    let replaced_by = instead.as_ref().map(|(other, _)| *other);
                    batch.skipped.push(Skipped { path: self.pictures.paths[*index].clone(), error, replaced_by });
                    let Some((other, picture)) = instead else { continue };
                    taken.insert(other);
                    (other, picture)
                }
            };
            let out = &mut batch.pixels[batch.indices.len() * size..][..size];
            match &self.options.transforms {
                Some((transforms, epoch)) => {
                    transforms.apply(picture, input, *epoch, self.starts[number] + row, out);
                }
                None => normalise(&picture, input, out),
            }
            batch.classes.push(self.pictures.classes()[index]);
            batch.indices.push(index);
        }
        batch.shape[0] = batch.indices.len();
        batch.pixels.truncate(batch.indices.len() * size);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests;
