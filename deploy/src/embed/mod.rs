//! Pictures to embeddings, as a stream: memory does not grow with their number.
//!
//! A source gives pictures: a list of files, or a source of [`Picture`]s, which may be pixels, as frames of a video
//! are. Each lane is a thread that decodes, resizes, normalises, runs and embeds its share of the batches of pictures.
//! Lanes share only the source and, on a device, the session: on the CPU no core waits for another, and on a device the
//! other lanes decode while it computes. Rows come in the order of the pictures, and no lane runs more than a few
//! batches ahead.

mod lanes;
mod source;

pub use source::{Picture, Source};

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use contract::preprocess::{self, PictureError};
use contract::{EmbeddingSpec, InputSpec, ModelContract, PictureSpec};

use crate::DeployError;
use crate::gallery::{Embeddings, Template};
use crate::pictures::Input;
use crate::runtime::Model;

/// Number of unusable pictures that are named; the rest are only counted.
const NAMED: usize = 5;

/// How pictures are embedded.
#[derive(Debug, Clone)]
pub struct Options {
    /// Pictures per run of the network. On the CPU the lanes share them.
    pub batch_size: usize,
    /// Threads; 0 is one per core.
    pub threads: usize,
    /// Whether a picture that cannot be used is an error.
    pub strict: bool,
}

impl Options {
    /// Default of [`Options::batch_size`].
    pub const BATCH_SIZE: usize = 16;

    /// Number of lanes worth starting for `pictures` pictures, at most one per thread.
    pub fn lanes(&self, pictures: usize) -> usize {
        let threads = self.all_threads();
        // With four pictures, a lane saves more time than opening its session costs.
        threads.min(pictures.div_ceil(4)).max(1)
    }
}

impl Options {
    fn all_threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { batch_size: Self::BATCH_SIZE, threads: 0, strict: false }
    }
}

/// Pictures that could not be used.
#[derive(Debug, Default)]
pub struct Skipped {
    /// How many.
    pub count: usize,
    /// The first few of them, with the reason.
    pub named: Vec<PictureError>,
}

/// Everything embedded, in memory.
#[derive(Debug)]
pub struct Collected {
    /// The rows.
    pub embeddings: Embeddings,
    /// Pictures that could not be used.
    pub skipped: Skipped,
}

/// Embeds pictures into memory.
///
/// # Errors
/// As [`stream`].
pub fn collect(model: &Model, pictures: &[Input], options: &Options) -> Result<Collected, DeployError> {
    collect_with(model, pictures, options, |_| ())
}

/// As [`collect`]; calls `done` with the number of pictures of each finished batch.
///
/// # Errors
/// As [`stream`].
pub fn collect_with(
    model: &Model,
    pictures: &[Input],
    options: &Options,
    done: impl FnMut(usize),
) -> Result<Collected, DeployError> {
    let (_, spec) = model.embedding()?;
    let mut embeddings =
        Embeddings { values: Vec::new(), dim: spec.dim, templates: Vec::new(), folder: PathBuf::new() };
    let skipped = stream(model, pictures, options, done, |picture, row| {
        embeddings.values.extend_from_slice(row);
        embeddings.templates.push(Template::from(picture));
        Ok(())
    })?;
    Ok(Collected { embeddings, skipped })
}

/// Refuses batches that would take more memory than a model may ask for, before any is made.
fn bounded(contract: &ModelContract, lanes: usize, batch_size: usize) -> Result<(), DeployError> {
    let row =
        contract.input.iter().filter_map(InputSpec::row).flat_map(|row| row.into_iter().reduce(usize::saturating_mul));
    let row = row.fold(0, usize::saturating_add);
    let numbers = row.saturating_mul(batch_size).saturating_mul(lanes);
    if numbers <= contract::LARGEST_BATCH {
        return Ok(());
    }
    let bytes = |numbers: usize| numbers as u128 * size_of::<f32>() as u128;
    let (bytes, allowed) = (bytes(numbers), bytes(contract::LARGEST_BATCH));
    Err(DeployError::BatchMemory { lanes, batch_size, bytes, allowed })
}

/// Embeds pictures and hands each row to `sink`, in the order of the pictures. Pictures that cannot be used are left
/// out and counted.
///
/// # Errors
/// If a picture cannot be used and `strict` is set, if none can, if the model does not embed, or if `sink` fails. A
/// picture whose embedding is not finite or only zeros cannot be used.
pub fn stream(
    model: &Model,
    pictures: &[Input],
    options: &Options,
    done: impl FnMut(usize),
    mut sink: impl FnMut(&Input, &[f32]) -> Result<(), DeployError>,
) -> Result<Skipped, DeployError> {
    let of = pictures.len();
    let report = Report { done, failed: |_: &Picture, _: &PictureError| Ok(()) };
    let source = pictures.iter().map(|input| Ok(Picture::from(input)));
    stream_from(model, source, Some(of), options, report, |picture, row| sink(&picture.input, row))
}

/// What [`stream_from`] tells as it goes on.
pub struct Report<D, F> {
    /// Called with the number of pictures of each finished batch.
    pub done: D,
    /// Called with each picture that cannot be used, and why.
    pub failed: F,
}

/// As [`stream`], of the pictures of a source, of which there are `of`, if that is known.
///
/// # Errors
/// As [`stream`], and those of the source, and of `report.failed`.
pub fn stream_from<'a>(
    model: &Model,
    source: impl Iterator<Item = Result<Picture<'a>, DeployError>> + Send,
    of: Option<usize>,
    options: &Options,
    mut report: Report<impl FnMut(usize), impl FnMut(&Picture<'a>, &PictureError) -> Result<(), DeployError>>,
    mut sink: impl FnMut(&Picture<'a>, &[f32]) -> Result<(), DeployError>,
) -> Result<Skipped, DeployError> {
    let (inputs, spec) = model.embedding()?;
    let inputs = inputs.as_slice();
    let lanes = of.map_or_else(|| options.all_threads(), |of| options.lanes(of));
    // The lanes share the batch size, so that memory does not grow with the number of cores; and a few pictures are
    // distributed evenly instead of all going to the first lane.
    let most = of.map_or(usize::MAX, |of| of.div_ceil(lanes)).max(1);
    let batch_size = options.batch_size.div_ceil(model.lanes).clamp(1, most);
    bounded(&model.contract, lanes, batch_size)?;
    let numbered = |(number, picture): (usize, Result<Picture<'a>, DeployError>)| {
        picture.and_then(|picture| fitting(&model.contract, Picture { number, ..picture }))
    };
    let fits = source.enumerate().map(numbered);
    let mut skipped = Skipped::default();
    let (mut rows, mut seen) = (0, 0);
    let work = |buffers: &mut Buffers, pictures| run_batch(model, inputs, spec, pictures, buffers);
    lanes::in_order(source::batches(fits, batch_size), lanes, Buffers::default, work, |batch| {
        let Batch { pictures, rows: embedded, unusable } = batch;
        seen += pictures.len();
        for (index, error) in unusable {
            skipped.count += 1;
            (report.failed)(&pictures[index], &error)?;
            if options.strict {
                return Err(DeployError::Strict { count: skipped.count, of: of.unwrap_or(seen), source: error });
            }
            if skipped.named.len() < NAMED {
                skipped.named.push(error);
            }
        }
        for (index, row) in &embedded {
            sink(&pictures[*index], row)?;
        }
        rows += embedded.len();
        (report.done)(pictures.len());
        Ok(())
    })?;
    if rows == 0 {
        return Err(match skipped.named.into_iter().next() {
            Some(source) => DeployError::NoneReadable { of: seen, source },
            None => DeployError::NoPictures,
        });
    }
    Ok(skipped)
}

/// The picture, if it has what the model's inputs need.
fn fitting<'a>(contract: &ModelContract, picture: Picture<'a>) -> Result<Picture<'a>, DeployError> {
    let (ports, input) = (&contract.input, &picture.input);
    let found = input.files.len();
    if found + input.missing.len() != ports.len() {
        let inputs = ports.iter().map(|input| input.name.clone()).collect();
        return Err(DeployError::Modalities { path: input.path().to_owned(), found, inputs });
    }
    let bears = |name: &String| ports.iter().any(|input| input.name == *name && input.absent.is_some());
    match input.missing.iter().find(|name| !bears(name)) {
        Some(missing) => Err(DeployError::MissingModality { missing: missing.clone() }),
        None => Ok(picture),
    }
}

/// One embedded batch; pictures by their index in it.
struct Batch<'a> {
    pictures: Vec<Picture<'a>>,
    rows: Vec<(usize, Vec<f32>)>,
    unusable: Vec<(usize, PictureError)>,
}

/// Memory of a lane, kept from batch to batch.
#[derive(Default)]
struct Buffers {
    /// Of each input.
    batches: Vec<Vec<f32>>,
    mirrored: Vec<Vec<f32>>,
}

fn run_batch<'a>(
    model: &Model,
    inputs: &[&PictureSpec],
    spec: &EmbeddingSpec,
    mut pictures: Vec<Picture<'a>>,
    buffers: &mut Buffers,
) -> Result<Batch<'a>, DeployError> {
    let Buffers { batches, mirrored } = buffers;
    let sizes: Vec<usize> =
        inputs.iter().map(|input| input.colour.channels() * input.size[0] * input.size[1]).collect();
    batches.resize(inputs.len(), Vec::new());
    batches.iter_mut().zip(&sizes).for_each(|(batch, size)| batch.resize(pictures.len() * size, 0.0));
    let (mut usable, mut unusable) = (Vec::new(), Vec::new());
    for (index, picture) in pictures.iter_mut().enumerate() {
        let row = usable.len();
        let ports = &model.contract.input;
        let targets = batches.iter_mut().zip(&sizes).map(|(batch, size)| &mut batch[row * size..][..*size]);
        if !picture.pixels.is_empty() {
            let own = std::mem::take(&mut picture.pixels);
            own.iter().zip(inputs).zip(targets).for_each(|((own, input), out)| preprocess::prepare(own, input, out));
            usable.push(index);
            continue;
        }
        let files = picture.input.in_order(ports).zip(ports).zip(inputs).zip(targets);
        let mut loaded = files.map(|(((path, port), input), out)| load(path, port, input, out));
        match loaded.try_for_each(|loaded| loaded) {
            Ok(()) => usable.push(index),
            // A row with one unusable picture is unusable.
            Err(error) => unusable.push((index, error)),
        }
    }
    if usable.is_empty() {
        return Ok(Batch { pictures, rows: Vec::new(), unusable });
    }
    batches.iter_mut().zip(&sizes).for_each(|(batch, size)| batch.truncate(usable.len() * size));
    let embedded = embed_rows(model, inputs, spec, batches, usable.len(), mirrored)?;
    let mut rows = Vec::with_capacity(usable.len());
    for (index, row) in usable.into_iter().zip(embedded.chunks_exact(spec.dim)) {
        match contract::embedding::check(row) {
            Ok(()) => rows.push((index, row.to_vec())),
            Err(source) => {
                unusable.push((index, PictureError::Row { path: pictures[index].input.path().to_owned(), source }));
            }
        }
    }
    Ok(Batch { pictures, rows, unusable })
}

/// Embeddings of normalised pictures, `[rows, dim]`, which may still have rows that are none: see
/// [`contract::embedding::check`]. `mirrored` is memory that is kept from call to call.
///
/// # Shapes
/// - `batches`: `[rows, channels, height, width]` of each input
///
/// # Errors
/// As [`Model::run`].
pub(crate) fn embed_rows(
    model: &Model,
    inputs: &[&PictureSpec],
    spec: &EmbeddingSpec,
    batches: &[Vec<f32>],
    rows: usize,
    mirrored: &mut Vec<Vec<f32>>,
) -> Result<Vec<f32>, DeployError> {
    let run = |batches: &[Vec<f32>]| {
        let batches: Vec<&[f32]> = batches.iter().map(Vec::as_slice).collect();
        model.features(&batches, rows)
    };
    let features = run(batches)?;
    let flipped = if spec.flip {
        mirrored.resize(inputs.len(), Vec::new());
        for ((batch, mirrored), input) in batches.iter().zip(mirrored.iter_mut()).zip(inputs) {
            mirrored.resize(batch.len(), 0.0);
            preprocess::mirror(batch, input.size[1], mirrored);
        }
        run(mirrored)?
    } else {
        Vec::new()
    };
    if features.len() != rows * spec.dim {
        return Err(DeployError::Batch { rows, found: features.len(), needed: rows * spec.dim });
    }
    Ok(contract::embedding::embed(&features, &flipped, spec.dim / spec.parts, spec.parts))
}

/// Fills an input from its file, or with the value for a missing one.
fn load(path: Option<&PathBuf>, port: &InputSpec, picture: &PictureSpec, out: &mut [f32]) -> Result<(), PictureError> {
    let Some(path) = path else {
        out.fill(port.absent.unwrap_or_default());
        return Ok(());
    };
    // If a decoder panics on a hostile file, only that file is lost.
    catch_unwind(AssertUnwindSafe(|| preprocess::load(path, picture, out))).unwrap_or_else(|_| {
        let source = std::io::Error::other("the decoder gave up on it");
        Err(PictureError::Read { path: path.clone(), source })
    })
}

/// The normalised pixels of each of the model's inputs for one row.
///
/// # Errors
/// If a picture cannot be used, or the model takes something else.
pub fn inputs(model: &Model, row: &Input) -> Result<Vec<Vec<f32>>, DeployError> {
    let (pictures, _) = model.embedding()?;
    let ports = &model.contract.input;
    let read = |((path, port), picture): ((Option<&PathBuf>, &InputSpec), &PictureSpec)| {
        let mut pixels = vec![0.0; picture.colour.channels() * picture.size[0] * picture.size[1]];
        load(path, port, picture, &mut pixels).map(|()| pixels)
    };
    let read: Result<Vec<_>, _> = row.in_order(ports).zip(ports).zip(pictures).map(read).collect();
    read.map_err(|source| DeployError::NoneReadable { of: 1, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_that_would_fill_the_memory_are_refused_in_bytes() {
        let text = r#"{"version":2,"family":"reid","architecture":"OSNet","input":[{"name":"image","shape":
            ["batch",3,8192,8192],"picture":{"layout":"NCHW","colour":"rgb","range":[0,1],"mean":[0,0,0],"std":[1,1,1],
            "size":[8192,8192],"filter":"bilinear","resize":"stretch"}}],"output":[{"name":"y","meaning":"",
            "shape":["batch",8],"unit_length":false,"metric":"cosine"}],"precision":"fp32"}"#;
        let contract = ModelContract::from_json(text).unwrap();
        bounded(&contract, 1, 1).unwrap();
        for (lanes, batch_size) in [(64, 1), (1, 64), (usize::MAX, usize::MAX)] {
            let error = bounded(&contract, lanes, batch_size).unwrap_err().to_string();
            assert!(error.contains("1073741824 are allowed") && error.contains("--batch-size"), "{error}");
        }
        assert!(bounded(&contract, 1, 64).unwrap_err().to_string().contains("51539607552 bytes"));
    }

    #[test]
    fn few_pictures_use_few_lanes() {
        let options = Options { threads: 8, ..Options::default() };
        assert_eq!([0, 1, 4, 5, 33].map(|pictures| options.lanes(pictures)), [1, 1, 1, 2, 8]);
    }
}
