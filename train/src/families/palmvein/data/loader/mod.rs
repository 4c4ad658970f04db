//! Pairs and triplets ready for the networks, decoded in threads; the order is fixed whatever the threads do.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::preprocess::{PictureError, grey, normalise_grey};
use datasets::paired::{Modality, Pair};
use image::GrayImage;

use crate::data::loader::{Batch, Batches, Classes, LoaderError, LoaderOptions, Pictures, Skipped, in_order, starts};

use super::sampler::{Triplet, View};
use super::{PairTransforms, picture_spec};

/// The pictures of pairs, kept at the network's size as far as memory allows. Shared by all epochs.
#[derive(Debug)]
pub struct PairPictures {
    pairs: Vec<Pair>,
    classes: Classes,
    /// Palms, then veins.
    pictures: Pictures,
}

impl PairPictures {
    /// The pictures of `pairs`, to be brought to `[height, width]`. Up to `cache_mb`·2²⁰ bytes are kept decoded.
    pub fn new(pairs: &[Pair], size: [usize; 2], cache_mb: usize) -> Self {
        let classes: Vec<i64> = pairs.iter().map(|pair| pair.class as i64).collect();
        let paths = Modality::BOTH.iter().flat_map(|side| pairs.iter().map(|pair| pair.path(*side).to_owned()));
        let pictures = Pictures::new(paths.collect(), classes.repeat(2), picture_spec(size), cache_mb);
        Self { pairs: pairs.to_vec(), classes: Classes::new(classes), pictures }
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The class of each pair.
    pub fn classes(&self) -> &[i64] {
        self.classes.of_row()
    }

    /// The pairs.
    pub fn pairs(&self) -> &[Pair] {
        &self.pairs
    }

    /// Pictures that were tried and could not be read, and why.
    pub fn unreadable(&self) -> Vec<(PathBuf, Arc<PictureError>)> {
        self.pictures.unreadable().into_iter().map(|(path, error)| (path.to_owned(), error)).collect()
    }

    fn number(&self, view: View) -> usize {
        match view.modality {
            Modality::Palm => view.index,
            Modality::Vein => self.pairs.len() + view.index,
        }
    }

    /// One picture, grey, or its file and what is wrong with it.
    fn get(&self, view: View) -> Result<GrayImage, (PathBuf, Arc<PictureError>)> {
        let number = self.number(view);
        let picture = self.pictures.get(number);
        picture.map(|picture| grey(&picture)).map_err(|error| (self.pictures.path(number).to_owned(), error))
    }

    /// The pictures of one row, each of `modalities` of pair `index`.
    fn row(&self, index: usize, modalities: &[Modality]) -> Result<Vec<GrayImage>, (PathBuf, Arc<PictureError>)> {
        modalities.iter().map(|modality| self.get(View { modality: *modality, index })).collect()
    }
}

/// How batches of pairs are made. An unreadable picture takes its pair with it.
pub type PairLoaderOptions = LoaderOptions<PairTransforms>;

/// Pairs ready for the network.
#[derive(Debug, Clone)]
pub struct PairBatch {
    /// Number of the batch, from 0.
    pub number: usize,
    /// Palm pictures, -1 to 1, row-major, in the form of [`PairBatch::shape`].
    pub palm: Vec<f32>,
    /// Vein pictures, likewise.
    pub vein: Vec<f32>,
    /// `[pairs, 1, height, width]`.
    pub shape: [usize; 4],
    /// Class of each pair.
    pub classes: Vec<i64>,
    /// Number of each pair in [`PairPictures`].
    pub indices: Vec<usize>,
    /// Pictures that could not be read and took their pairs with them; `replaced_by` numbers a pair.
    pub skipped: Vec<Skipped>,
}

impl Batch for PairBatch {
    fn rows(&self) -> usize {
        self.indices.len()
    }

    fn skipped(&mut self) -> &mut Vec<Skipped> {
        &mut self.skipped
    }
}

/// Triplets ready for the network.
#[derive(Debug, Clone)]
pub struct TripletBatch {
    /// Number of the batch, from 0.
    pub number: usize,
    /// Anchors, positives and negatives, -1 to 1, row-major, in the form of [`TripletBatch::shape`]; empty where they
    /// were not asked for.
    pub pixels: [Vec<f32>; 3],
    /// `[triplets, 1, height, width]`.
    pub shape: [usize; 4],
    /// Class of each anchor and positive.
    pub classes: Vec<i64>,
    /// Class of each negative.
    pub negatives: Vec<i64>,
    /// Numbers of the three pairs of each triplet in [`PairPictures`].
    pub indices: Vec<[usize; 3]>,
    /// Pictures that could not be read; `replaced_by` numbers a pair.
    pub skipped: Vec<Skipped>,
}

impl Batch for TripletBatch {
    fn rows(&self) -> usize {
        self.indices.len()
    }

    fn skipped(&mut self) -> &mut Vec<Skipped> {
        &mut self.skipped
    }
}

/// Batches of pairs, made ahead by threads. Dropping it stops them.
pub type PairLoader = Batches<PairBatch>;

/// Batches of triplets, made ahead by threads. Dropping it stops them.
pub type TripletLoader = Batches<TripletBatch>;

/// Starts making `batches`, each a list of numbers of pairs.
///
/// # Errors
/// If no thread can be started.
///
/// # Panics
/// If a number is not below `pictures.len()`.
pub fn pair_batches(
    pictures: &Arc<PairPictures>,
    batches: Vec<Vec<usize>>,
    options: PairLoaderOptions,
) -> Result<PairLoader, LoaderError> {
    assert!(batches.iter().flatten().all(|index| *index < pictures.len()), "numbers of these pairs");
    let (count, start, workers) = (batches.len(), options.start_batch, options.workers);
    let (starts, pictures) = (starts(&batches), pictures.clone());
    PairLoader::made_by(count, start, workers, move |number, stopped| {
        let maker = Maker { pictures: &pictures, options: &options, stopped };
        maker.pairs(number, &batches[number], starts[number])
    })
}

/// Which pictures of a triplet are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// The anchors alone, for a loss that compares nothing.
    Anchors,
    /// All three.
    All,
}

/// Starts making batches of triplets.
///
/// # Errors
/// If no thread can be started.
///
/// # Panics
/// If a number is not below `pictures.len()`.
pub fn triplet_batches(
    pictures: &Arc<PairPictures>,
    batches: Vec<Vec<Triplet>>,
    reads: Reads,
    options: PairLoaderOptions,
) -> Result<TripletLoader, LoaderError> {
    let numbers = batches.iter().flatten().flat_map(|one| [one.anchor, one.positive, one.negative]);
    assert!(numbers.map(|view| view.index).all(|index| index < pictures.len()), "numbers of these pairs");
    let (count, start, workers) = (batches.len(), options.start_batch, options.workers);
    let (starts, pictures) = (starts(&batches), pictures.clone());
    TripletLoader::made_by(count, start, workers, move |number, stopped| {
        let maker = Maker { pictures: &pictures, options: &options, stopped };
        maker.triplets(number, &batches[number], reads, starts[number])
    })
}

/// All pairs in order, `batch` at a time, as evaluation and the device see them.
///
/// # Errors
/// If no thread can be started.
///
/// # Panics
/// If `batch` is 0.
pub fn evaluation_batches(
    pictures: &Arc<PairPictures>,
    batch: usize,
    workers: usize,
    strict: bool,
) -> Result<PairLoader, LoaderError> {
    let batches = in_order(pictures.len(), batch);
    pair_batches(pictures, batches, PairLoaderOptions { transforms: None, workers, start_batch: 0, strict })
}

/// Makes one batch.
struct Maker<'a> {
    pictures: &'a PairPictures,
    options: &'a PairLoaderOptions,
    stopped: &'a AtomicBool,
}

impl Maker<'_> {
    /// Pictures of pair `index`, or of the one that takes its place; none if the row is to be left out.
    fn row(
        &self,
        index: usize,
        modalities: &[Modality],
        taken: &mut BTreeSet<usize>,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Option<(usize, Vec<GrayImage>)>, LoaderError> {
        match self.pictures.row(index, modalities) {
            Ok(row) => Ok(Some((index, row))),
            Err((_, source)) if self.options.strict => Err(LoaderError::Unreadable { source }),
            Err((path, error)) => {
                let training = self.options.transforms.is_some();
                let read = |one| self.pictures.row(one, modalities).ok();
                let instead = training.then(|| self.pictures.classes.instead_of(index, taken, read)).flatten();
                skipped.push(Skipped { path, error, replaced_by: instead.as_ref().map(|(other, _)| *other) });
                taken.extend(instead.as_ref().map(|(other, _)| *other));
                Ok(instead)
            }
        }
    }

    /// Appends a picture's values. `part` tells the pictures of a row apart.
    fn write(&self, picture: &GrayImage, place: usize, part: u64, out: &mut Vec<f32>) {
        let start = out.len();
        out.resize(start + picture.as_raw().len(), 0.0);
        let spec = self.pictures.pictures.input();
        match &self.options.transforms {
            Some((transforms, epoch)) => {
                normalise_grey(&transforms.apply(picture, *epoch, place, part), spec, &mut out[start..]);
            }
            None => normalise_grey(picture, spec, &mut out[start..]),
        }
    }

    fn shape(&self, rows: usize) -> [usize; 4] {
        let [height, width] = self.pictures.pictures.input().size;
        [rows, 1, height, width]
    }

    fn pairs(&self, number: usize, planned: &[usize], first: usize) -> Result<PairBatch, LoaderError> {
        let (palm, vein, classes, indices, skipped) = Default::default();
        let mut batch = PairBatch { number, palm, vein, shape: [0; 4], classes, indices, skipped };
        let mut taken: BTreeSet<usize> = planned.iter().copied().collect();
        for (row, index) in planned.iter().enumerate() {
            if self.stopped.load(Ordering::Relaxed) {
                break;
            }
            let Some((index, row_pictures)) = self.row(*index, &Modality::BOTH, &mut taken, &mut batch.skipped)? else {
                continue;
            };
            self.write(&row_pictures[0], first + row, 0, &mut batch.palm);
            self.write(&row_pictures[1], first + row, 1, &mut batch.vein);
            batch.classes.push(self.pictures.classes()[index]);
            batch.indices.push(index);
        }
        batch.shape = self.shape(batch.indices.len());
        Ok(batch)
    }

    fn triplets(
        &self,
        number: usize,
        planned: &[Triplet],
        reads: Reads,
        first: usize,
    ) -> Result<TripletBatch, LoaderError> {
        let (pixels, classes, negatives, indices, skipped) = Default::default();
        let mut batch = TripletBatch { number, pixels, shape: [0; 4], classes, negatives, indices, skipped };
        for (row, Triplet { anchor, positive, negative }) in planned.iter().enumerate() {
            if self.stopped.load(Ordering::Relaxed) {
                break;
            }
            let all = [anchor, positive, negative];
            let read = if reads == Reads::All { &all[..] } else { &all[..1] };
            let mut views: Vec<(usize, Vec<GrayImage>)> = Vec::with_capacity(3);
            for view in read {
                // The positive must not become the anchor while there is another.
                let mut taken = BTreeSet::from([anchor.index, positive.index]);
                views.extend(self.row(view.index, &[view.modality], &mut taken, &mut batch.skipped)?);
            }
            if views.len() < read.len() {
                continue;
            }
            for (part, ((_, pictures), out)) in views.iter().zip(&mut batch.pixels).enumerate() {
                // Each of the three is moved in its own way: only the pictures of one pair share their geometry.
                self.write(&pictures[0], 3 * (first + row) + part, 0, out);
            }
            let indices = [0, 1, 2].map(|part| views.get(part).map_or(all[part].index, |(index, _)| *index));
            batch.indices.push(indices);
            batch.classes.push(self.pictures.classes()[indices[0]]);
            batch.negatives.push(self.pictures.classes()[indices[2]]);
        }
        batch.shape = self.shape(batch.indices.len());
        Ok(batch)
    }
}

#[cfg(test)]
mod tests;
