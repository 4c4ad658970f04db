//! Pictures to batches, decoded in threads, in an order that is fixed: how many threads there are and how fast each is changes
//! nothing about what comes out.
//!
//! Decoding and resizing are the same in every epoch, so pictures are kept at the network's size as far as memory
//! allows ([`Pictures`]); what is random comes after that.
//!
//! ```no_run
//! use std::sync::Arc;
//! use train::{config::ReidConfig, loader::*, sampler::Sampler, transforms::Transforms};
//! # fn input() -> contract::PictureSpec { train::task::reid::picture_spec(&Default::default()) }
//! # fn main() -> anyhow::Result<()> {
//! let config = ReidConfig::default();
//! let options = contract::dataset::Options::default();
//! let dataset = contract::dataset::Dataset::open(&config.data_train, config.datadir.as_ref(), &options)?;
//! let pictures = Arc::new(Pictures::training(&dataset, input(), config.cache_mb));
//! let sampler = Sampler::new(&config, pictures.classes())?;
//! for epoch in 0..config.epochs {
//!     let options = LoaderOptions {
//!         transforms: Some((Transforms::new(&config), epoch)),
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

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use contract::dataset::{Dataset, Sample};
use contract::preprocess::{PictureError, decode, normalise, resize};
use contract::{PictureSpec, Resize};
use image::RgbImage;

use crate::transforms::Transforms;

/// Why there is no batch.
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
    classes: Vec<i64>,
    of_class: BTreeMap<i64, Vec<usize>>,
    input: PictureSpec,
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
        let mut of_class = BTreeMap::<i64, Vec<usize>>::new();
        for (index, class) in classes.iter().enumerate() {
            of_class.entry(*class).or_default().push(index);
        }
        let decoded = paths.iter().map(|_| OnceLock::new()).collect();
        let room = AtomicUsize::new(cache_mb.saturating_mul(1 << 20));
        Self { paths, classes, of_class, input, decoded, room, unreadable: Mutex::default() }
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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.paths.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The class of each.
    pub fn classes(&self) -> &[i64] {
        &self.classes
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
    fn get(&self, index: usize) -> Result<RgbImage, Arc<PictureError>> {
        if let Some(picture) = self.decoded[index].get() {
            return Ok(picture.clone());
        }
        if let Some(error) = lock(&self.unreadable).get(&index) {
            return Err(error.clone());
        }
        let Resize::Stretch = self.input.resize;
        let picture = match decode(&self.paths[index]) {
            Ok(picture) => resize(&picture, self.input.size, self.input.filter),
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

    /// A picture of the same class that can be read: the next one in order that is not `taken`, or else the next one.
    fn instead_of(&self, index: usize, taken: &BTreeSet<usize>) -> Option<(usize, RgbImage)> {
        let class = &self.of_class[&self.classes[index]];
        let at = class.partition_point(|one| *one <= index);
        let others = || class[at..].iter().chain(&class[..at]).copied().filter(|one| *one != index);
        let readable = |one| self.get(one).ok().map(|picture| (one, picture));
        others().filter(|one| !taken.contains(one)).find_map(readable).or_else(|| others().find_map(readable))
    }
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

/// How batches are made.
#[derive(Debug, Clone)]
pub struct LoaderOptions {
    /// Random transforms and the number of the epoch; without, pictures are as evaluation sees them.
    pub transforms: Option<(Transforms, usize)>,
    /// Threads that decode, at least one.
    pub workers: usize,
    /// The first batch to make: what came before is not decoded.
    pub start_batch: usize,
    /// An unreadable picture is an error. Otherwise another of its class takes its place in training, and in evaluation it is
    /// left out.
    pub strict: bool,
}

/// The batches of one epoch, made ahead by threads. Dropping it stops them.
#[derive(Debug)]
pub struct Loader {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Skipped pictures of batches that had no other.
    carried: Vec<Skipped>,
    yielded: bool,
}

#[derive(Debug)]
struct Shared {
    pictures: Arc<Pictures>,
    batches: Vec<Vec<usize>>,
    /// Place in the epoch of each batch's first picture.
    places: Vec<usize>,
    options: LoaderOptions,
    /// Batches made ahead of the one that is asked for.
    ahead: usize,
    state: Mutex<State>,
    changed: Condvar,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The next batch nobody makes yet.
    next: usize,
    /// The next batch to hand out.
    wanted: usize,
    ready: BTreeMap<usize, Result<PictureBatch, LoaderError>>,
    panic: Option<Box<dyn Any + Send>>,
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
        let place = |place: &mut usize, batch: &Vec<usize>| {
            let first = *place;
            *place += batch.len();
            Some(first)
        };
        let places = batches.iter().scan(0, place).collect();
        let workers = options.workers.clamp(1, batches.len().max(1));
        let state = Mutex::new(State { next: options.start_batch, wanted: options.start_batch, ..State::default() });
        let shared = Arc::new(Shared {
            pictures,
            batches,
            places,
            options,
            ahead: workers.max(2),
            state,
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let mut loader = Self { shared, threads: vec![], carried: vec![], yielded: false };
        for worker in 0..workers {
            let shared = loader.shared.clone();
            let thread = std::thread::Builder::new().name(format!("decode-{worker}"));
            match thread.spawn(move || shared.work()) {
                Ok(thread) => loader.threads.push(thread),
                // Fewer threads are slower, not wrong.
                Err(_) if worker > 0 => break,
                Err(source) => return Err(LoaderError::Threads { source: Arc::new(source) }),
            }
        }
        Ok(loader)
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
        let order: Vec<usize> = (0..pictures.len()).collect();
        let batches = order.chunks(batch).map(<[usize]>::to_vec).collect();
        Self::new(pictures, batches, LoaderOptions { transforms: None, workers, start_batch: 0, strict })
    }

    /// Batches still to come, if none turns out unreadable as a whole.
    pub fn remaining(&self) -> usize {
        self.shared.batches.len().saturating_sub(lock(&self.shared.state).wanted)
    }
}

impl Iterator for Loader {
    type Item = Result<PictureBatch, LoaderError>;

    /// # Panics
    /// With the panic of a decoding thread.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut state = lock(&self.shared.state);
            if state.wanted >= self.shared.batches.len() {
                break;
            }
            let made = loop {
                if let Some(panic) = state.panic.take() {
                    drop(state);
                    std::panic::resume_unwind(panic);
                }
                let wanted = state.wanted;
                if let Some(made) = state.ready.remove(&wanted) {
                    break made;
                }
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            state.wanted += 1;
            if made.is_err() {
                state.wanted = self.shared.batches.len();
            }
            drop(state);
            self.shared.changed.notify_all();
            match made {
                Ok(batch) if batch.indices.is_empty() => self.carried.extend(batch.skipped),
                Ok(mut batch) => {
                    batch.skipped.splice(..0, self.carried.drain(..));
                    self.yielded = true;
                    return Some(Ok(batch));
                }
                Err(error) => {
                    self.yielded = true;
                    return Some(Err(error));
                }
            }
        }
        let count = self.carried.len();
        let last = self.carried.drain(..).next_back().filter(|_| !self.yielded)?;
        self.yielded = true;
        Some(Err(LoaderError::AllUnreadable { count, source: last.error }))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Under the lock: a thread between its check and its wait would miss the news.
        drop(lock(&self.shared.state));
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // Their panics are caught inside.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// A thread's life: takes the next batch that is not too far ahead, makes it, puts it down.
    fn work(&self) {
        loop {
            let mut state = lock(&self.state);
            while !self.stopped.load(Ordering::Relaxed)
                && state.next < self.batches.len()
                && state.next >= state.wanted + self.ahead
            {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // After an error `wanted` is at the end: nothing more is asked for.
            if self.stopped.load(Ordering::Relaxed) || state.next.max(state.wanted) >= self.batches.len() {
                return;
            }
            let number = state.next;
            state.next += 1;
            drop(state);
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.make(number)));
            let mut state = lock(&self.state);
            match made {
                Ok(made) => drop(state.ready.insert(number, made)),
                Err(panic) => state.panic = Some(panic),
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    fn make(&self, number: usize) -> Result<PictureBatch, LoaderError> {
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
            if self.stopped.load(Ordering::Relaxed) {
                break;
            }
            let (index, picture) = match self.pictures.get(*index) {
                Ok(picture) => (*index, picture),
                Err(source) if self.options.strict => return Err(LoaderError::Unreadable { source }),
                Err(error) => {
                    let training = self.options.transforms.is_some();
                    let instead = if training { self.pictures.instead_of(*index, &taken) } else { None };
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
                    transforms.apply(picture, input, *epoch, self.places[number] + row, out);
                }
                None => normalise(&picture, input, out),
            }
            batch.classes.push(self.pictures.classes[index]);
            batch.indices.push(index);
        }
        batch.shape[0] = batch.indices.len();
        batch.pixels.truncate(batch.indices.len() * size);
        Ok(batch)
    }
}

#[cfg(test)]
mod tests;
