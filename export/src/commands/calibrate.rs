//! Pictures that calibrate a model, and others that test it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::bail;
use contract::{Axis, CHANNELS_FIRST, InputSpec, ModelContract, PictureSpec, embedding, preprocess};
use datasets::list_pictures;
use datasets::paired::{PairOptions, list_pairs};
use export::Runtime;
use export::bundle::facts::{Quality, Ranking};
use export::graph::precision::Batch;
use export::graph::run::Opening;
use export::graph::{DType, Tensor};
use metrics::{Label, Matrix, cosine_distance, rank};
use onnx::{Message, ModelProto};
use sha2::{Digest, Sha256};

/// Rows of a batch where the model leaves it open.
const ROWS: usize = 4;

/// How many times as many pictures test as calibrate, at most.
const TESTED: usize = 4;

/// Files of one row: a picture, or one for each input.
type Files = Vec<PathBuf>;

/// Values of one row, for each input.
type Row = Vec<Vec<f32>>;

/// The pictures of a folder, in two parts.
pub struct Pictures<'a> {
    inputs: Vec<(&'a InputSpec, &'a PictureSpec)>,
    flip: bool,
    rows: Option<usize>,
    calibrating: Vec<Files>,
    testing: Vec<(Files, i64)>,
}

/// What calibrates.
pub struct Calibration {
    /// Batches for the model.
    pub batches: Vec<Batch>,
    /// Pictures in them; their mirror images are not counted.
    pub pictures: usize,
    /// SHA-256 of their values.
    pub fingerprint: String,
}

impl<'a> Pictures<'a> {
    /// Lists the pictures below `folder` for a model with these inputs, pairs of palm and vein for one of two pictures,
    /// and divides them: of several people every second one calibrates, with all pictures, and the others test; else
    /// every second picture does.
    ///
    /// # Errors
    /// If the model takes anything but one or two pictures, or there are fewer than four pictures.
    pub fn list(folder: &Path, inputs: &'a [InputSpec], flip: bool, most: usize) -> anyhow::Result<Self> {
        if inputs.is_empty() || inputs.len() > 2 {
            bail!("the model has {} inputs; models of one picture or a pair can be calibrated", inputs.len());
        }
        let mut specs = vec![];
        for input in inputs {
            let Some(picture) = &input.picture else {
                bail!("input `{}` is no picture; models of one picture or a pair can be calibrated", input.name);
            };
            if picture.is_channels_last() {
                bail!(
                    "input `{}` has the layout `{}`; `{CHANNELS_FIRST}` can be calibrated",
                    input.name,
                    picture.layout
                );
            }
            specs.push((input, picture));
        }
        let rows = match inputs[0].shape.first() {
            Some(Axis::Size(rows)) => Some((*rows).max(1)),
            _ => None,
        };
        let mut people: BTreeMap<i64, Vec<Files>> = BTreeMap::new();
        let mut order = vec![];
        for (files, identity) in listed(folder, inputs.len())? {
            if !people.contains_key(&identity) {
                order.push(identity);
            }
            people.entry(identity).or_default().push(files);
        }
        let (mut calibrating, mut testing) = (vec![], vec![]);
        let by_person = order.len() >= 4;
        let mut at = 0;
        for (index, identity) in order.iter().enumerate() {
            for files in people.remove(identity).unwrap_or_default() {
                let first = if by_person { index % 2 == 0 } else { at % 2 == 0 };
                at += 1;
                if first { calibrating.push(files) } else { testing.push((files, *identity)) }
            }
        }
        if calibrating.len() < 2 || testing.len() < 2 {
            bail!(
                "`{}` has {at} {}, which give {} to calibrate and {} to test; 2 of each are needed",
                folder.display(),
                if inputs.len() == 1 { "pictures" } else { "pairs of pictures" },
                calibrating.len(),
                testing.len()
            );
        }
        spread(&mut calibrating, most);
        // Whole people, so that each has others to be found among.
        testing.truncate(most * TESTED);
        Ok(Self { inputs: specs, flip, rows, calibrating, testing })
    }

    /// Pictures, or pairs of them, that test.
    pub fn tested(&self) -> usize {
        self.testing.len()
    }

    fn load(&self, files: &Files) -> anyhow::Result<Row> {
        let mut row = vec![];
        for (path, (_, picture)) in files.iter().zip(&self.inputs) {
            let mut values = vec![0.0; picture.colour.channels() * picture.size[0] * picture.size[1]];
            preprocess::load(path, picture, &mut values)?;
            row.push(values);
        }
        Ok(row)
    }

    fn mirrored(&self, row: &Row) -> Row {
        let mirrored = row.iter().zip(&self.inputs).map(|(values, (_, picture))| {
            let mut mirrored = vec![0.0; values.len()];
            preprocess::mirror(values, picture.size[1], &mut mirrored);
            mirrored
        });
        mirrored.collect()
    }

    /// Batches of the model's size; the last rows of a fixed size repeat.
    fn batches(&self, rows: &[Row], size: usize) -> Vec<Batch> {
        let batch = |rows: &[Row]| {
            let padded = self.rows.map_or(rows.len(), |size| size.max(rows.len()));
            let tensor = |(at, (input, picture)): (usize, &(&InputSpec, &PictureSpec))| {
                let values = (0..padded).flat_map(|row| &rows[row.min(rows.len() - 1)][at]);
                let bytes = values.flat_map(|value| value.to_le_bytes()).collect();
                let [height, width] = picture.size;
                let shape = vec![padded, picture.colour.channels(), height, width];
                let tensor = Tensor::new(DType::Float, shape, bytes).expect("rows have the picture's size");
                (input.name.clone(), tensor)
            };
            self.inputs.iter().enumerate().map(tensor).collect()
        };
        rows.chunks(self.rows.unwrap_or(size)).map(batch).collect()
    }

    /// Loads the pictures that calibrate, with their mirror images where the embedding has them.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn calibration(&self) -> anyhow::Result<Calibration> {
        let mut rows = vec![];
        let mut hash = Sha256::new();
        for files in &self.calibrating {
            let row = self.load(files)?;
            row.iter().flatten().for_each(|value| hash.update(value.to_le_bytes()));
            if self.flip {
                rows.push(self.mirrored(&row));
            }
            rows.push(row);
        }
        let fingerprint = hex::encode(hash.finalize());
        Ok(Calibration { batches: self.batches(&rows, ROWS), pictures: self.calibrating.len(), fingerprint })
    }

    /// Batches of these sizes to time, or one of the model's own.
    ///
    /// # Errors
    /// If a picture cannot be read.
    pub fn timed(&self, sizes: &[usize]) -> anyhow::Result<Vec<Batch>> {
        let row = self.load(&self.calibrating[0])?;
        Ok(match self.rows {
            Some(_) => self.batches(&[row], 1),
            None => sizes.iter().flat_map(|&size| self.batches(&vec![row.clone(); size], size)).collect(),
        })
    }
}

/// The files of each row for a model of this many inputs, and who is on them.
fn listed(folder: &Path, inputs: usize) -> anyhow::Result<Vec<(Files, i64)>> {
    if inputs == 2 {
        let list = list_pairs(folder, &PairOptions::default())?;
        list.left_out.warnings().iter().chain(&list.warnings).for_each(|warning| terminal::warn(warning));
        return Ok(list.pairs.into_iter().map(|pair| (vec![pair.palm, pair.vein], pair.class as i64)).collect());
    }
    let list = list_pictures(&[folder], None)?;
    list.left_out.warnings().iter().for_each(|warning| terminal::warn(warning));
    let known = list.samples.into_iter().filter(|sample| sample.identity != datasets::JUNK);
    Ok(known.map(|sample| (vec![sample.path], sample.identity)).collect())
}

/// Takes `most` of the rows, evenly over all of them.
fn spread(paths: &mut Vec<Files>, most: usize) {
    let all = paths.len();
    if all > most {
        *paths = (0..most).map(|at| std::mem::take(&mut paths[at * all / most])).collect();
    }
}

/// Compares two models on the pictures that test.
///
/// # Errors
/// If a picture cannot be read or a model cannot be run.
pub fn quality(
    float: &ModelProto,
    found: &ModelProto,
    contract: &ModelContract,
    pictures: &Pictures<'_>,
    runtime: &Runtime,
) -> anyhow::Result<Quality> {
    let mut sides = vec![];
    for model in [float, found] {
        sides.push(embeddings(model, contract, pictures, runtime)?);
    }
    let rows = |side: &Vec<Vec<f32>>| side.concat();
    let cosine =
        |(a, b): (&Vec<f32>, &Vec<f32>)| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    let cosines: Vec<f64> = sides[0].iter().zip(&sides[1]).map(cosine).collect();
    let mean_cosine = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let min_cosine = cosines.iter().copied().fold(f64::INFINITY, f64::min);
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for (_, identity) in &pictures.testing {
        *counts.entry(*identity).or_default() += 1;
    }
    let finite = sides.iter().flatten().flatten().all(|value| value.is_finite());
    let mut ranking = None;
    if contract.embedding.is_some() && finite && counts.len() > 1 && counts.values().any(|&count| count > 1) {
        // Each picture is a camera of its own, so that it is searched among all others.
        let labels: Vec<Label> = pictures
            .testing
            .iter()
            .enumerate()
            .map(|(at, (_, identity))| Label { identity: *identity, camera: at as i64 })
            .collect();
        let mut scores = vec![];
        for side in &sides {
            let matrix = Matrix::new(rows(side), side.len(), side[0].len())?;
            let report = rank(&cosine_distance(&matrix, &matrix)?, &labels, &labels)?;
            scores.push([report.rank(1), report.map]);
        }
        ranking = Some(Ranking {
            identities: counts.len(),
            rank_1: [scores[0][0], scores[1][0]],
            map: [scores[0][1], scores[1][1]],
        });
    }
    Ok(Quality { pictures: pictures.testing.len(), mean_cosine, min_cosine, ranking })
}

/// A row of unit length for each picture that tests: its embedding, or all outputs of a model that does not embed.
fn embeddings(
    model: &ModelProto,
    contract: &ModelContract,
    pictures: &Pictures<'_>,
    runtime: &Runtime,
) -> anyhow::Result<Vec<Vec<f32>>> {
    let names: Vec<String> = match &contract.embedding {
        Some(embedding) => vec![embedding.output.clone()],
        None => contract.output.iter().map(|output| output.name.clone()).collect(),
    };
    let mut session = runtime.open(&model.encode_to_vec(), Opening::plain(true))?;
    let mut all = vec![];
    for paths in pictures.testing.chunks(ROWS) {
        let mut rows = vec![];
        for (files, _) in paths {
            rows.push(pictures.load(files)?);
        }
        let mut run = |rows: &[Row]| -> anyhow::Result<Vec<Vec<f32>>> {
            let mut found = vec![];
            for batch in pictures.batches(rows, ROWS) {
                let count = batch[0].1.dims()[0];
                let mut part: Vec<Vec<f32>> = vec![vec![]; count];
                session.visit(&batch, &names, |_, _, values| {
                    for (row, values) in part.iter_mut().zip(values.chunks_exact((values.len() / count).max(1))) {
                        row.extend_from_slice(values);
                    }
                })?;
                found.extend(part);
            }
            found.truncate(rows.len());
            Ok(found)
        };
        let features = run(&rows)?;
        let mirrored = match pictures.flip {
            true => run(&rows.iter().map(|row| pictures.mirrored(row)).collect::<Vec<_>>())?,
            false => vec![],
        };
        for (at, row) in features.iter().enumerate() {
            let mirror = mirrored.get(at).map_or(&[][..], Vec::as_slice);
            let parts = contract.embedding.as_ref().map_or(1, |embedding| embedding.parts);
            if row.is_empty() || !row.len().is_multiple_of(parts) {
                bail!("`{}` has {} values a row, which make no {parts} parts", names.join("`, `"), row.len());
            }
            all.push(embedding::embed(row, mirror, row.len() / parts, parts));
        }
    }
    Ok(all)
}
