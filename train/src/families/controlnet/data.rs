//! Pairs of a frontal picture and a video frame of the same person, with the poses of both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use contract::preprocess::{self, PictureError, normalise};
use contract::{Filter, PictureSpec};
use metrics::Matrix;
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::data::loader::{Batch, Batches, LoaderError, Pictures, Skipped};
use crate::families::controlnet::settings::{ControlnetConfig, PoseSource};
use crate::families::faces::{
    Metadata, Person, Side, gather, local_path, normalised_keypoints, pairing, pose, read_features, read_keypoints,
};
use crate::run::engine::TaskError;

/// Data that a run cannot begin with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlnetDataError {
    /// Poses of another number of angles.
    #[error("poses of `{data}` have {found} angles, --pose-dim is {wanted}")]
    Angles {
        /// The folder.
        data: String,
        /// Angles found.
        found: usize,
        /// Angles of the network.
        wanted: usize,
    },
    /// A field that the settings ask for and the metadata lack.
    #[error("`{}` has no `{field}`, which {flag} needs", path.display())]
    Lacks {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What asks for it.
        flag: &'static str,
    },
    /// No two poses of a person in the wanted distance.
    #[error(
        "no pair in `{data}`: {people} people have pictures on both sides, and none of their frames is {min} to {max} \
         degrees from a frontal pose"
    )]
    NoPair {
        /// The folder.
        data: String,
        /// People on both sides.
        people: usize,
        /// Least distance.
        min: f64,
        /// Largest distance.
        max: f64,
    },
    /// Most pictures are not there.
    #[error(
        "{missing} of {pictures} pictures are missing or unreadable, which leaves {left} of {pairs} pairs; at least \
         half are needed (--image-dir says where they are, --allow-missing takes grey ones instead); the first: {first}"
    )]
    Missing {
        /// Pictures that are not there.
        missing: usize,
        /// All pictures.
        pictures: usize,
        /// Pairs left.
        left: usize,
        /// All pairs.
        pairs: usize,
        /// The first such picture, and where it was looked for or what is wrong with it.
        first: String,
    },
}

/// One sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    /// Place of the person among those with pairs.
    pub person: usize,
    /// Row of the frontal side: the source.
    pub front: usize,
    /// Row of the video side: the target.
    pub video: usize,
}

/// A picture's place among those that are read; none where it is missing and grey.
type Place = Option<usize>;

/// The pairs of a face set.
pub struct HeadPairs {
    /// Samples in the data set's order.
    pub pairs: Vec<Pair>,
    /// Names of the people with pairs.
    pub people: Vec<String>,
    /// Pictures that are missing, or whose header cannot be read.
    pub missing: usize,
    /// Hash of names, paths and poses.
    pub fingerprint: String,
    poses: [Vec<Vec<f32>>; 2],
    places: [BTreeMap<usize, Place>; 2],
    pictures: Pictures,
    embeddings: Option<Matrix>,
    size: usize,
    /// Whether a picture that cannot be read is grey instead of taking its pairs with it.
    grey: bool,
    /// Damaged pictures that were warned of: once, not in each epoch.
    warned: Mutex<BTreeSet<PathBuf>>,
}

/// Which pictures of a pair are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Targets alone; sources are empty.
    Targets,
    /// Sources and targets.
    Both,
}

/// Pictures and poses of some pairs.
#[derive(Debug, Clone)]
pub struct HeadBatch {
    /// Numbers of the pairs, without those whose pictures turned out to be damaged.
    pub pairs: Vec<usize>,
    /// Sources, then targets, each `[pairs, 3, size, size]`, values in [−1, 1].
    pub pixels: [Vec<f32>; 2],
    /// Poses of sources and of targets, `[pairs, angles]` in degrees.
    pub poses: [Vec<f32>; 2],
    /// Embeddings of the sources, where the encoder reads them, `[pairs, 512]`.
    pub embeddings: Vec<f32>,
    /// Pictures that turned out to be damaged.
    pub skipped: Vec<Skipped>,
}

impl Batch for HeadBatch {
    fn rows(&self) -> usize {
        self.pairs.len()
    }

    fn skipped(&mut self) -> &mut Vec<Skipped> {
        &mut self.skipped
    }
}

/// How pictures enter the network: stretched by OpenCV's rule, values in [−1, 1].
pub fn picture_spec(size: usize) -> PictureSpec {
    PictureSpec { mean: vec![0.5; 3], std: vec![0.5; 3], filter: Filter::Opencv, ..PictureSpec::imagenet([size, size]) }
}

/// Where a stored path is looked for, in this order.
fn candidates(stored: &str, image_dir: &Path, data_dir: &Path) -> Vec<PathBuf> {
    let path = local_path(stored);
    if path.is_absolute() {
        return vec![path];
    }
    let name = path.file_name().map(PathBuf::from).unwrap_or_default();
    let below = [image_dir, data_dir].into_iter().flat_map(|dir| [dir.join(&path), dir.join(&name)]);
    below.chain([path.clone()]).collect()
}

/// Poses of one side, from keypoints or metadata.
fn poses(
    folder: &Path,
    side: Side,
    metadata: &Metadata,
    front: &Metadata,
    source: PoseSource,
) -> Result<Vec<Vec<f32>>, TaskError> {
    // Read in either case: a set without them is not one of ours.
    let stored = read_keypoints(folder, side, metadata)?;
    if source == PoseSource::Metadata {
        if metadata.poses.is_empty() {
            let (path, field, flag) = (metadata.path.clone(), "poses", "--pose-source metadata");
            return Err(ControlnetDataError::Lacks { path, field, flag }.into());
        }
        return Ok(metadata.poses.clone());
    }
    let keypoints = normalised_keypoints(metadata, &stored, front.standard.as_ref(), true);
    Ok(keypoints.iter().map(|face| pose::from_keypoints(face).map(|angle| angle as f32).to_vec()).collect())
}

impl HeadPairs {
    /// Reads metadata, keypoints and the header of every picture that a pair needs. A picture whose header is right is
    /// decoded when a batch needs it, and reported then if it is damaged.
    ///
    /// # Errors
    /// A file that is missing or malformed, no pair, or too few pictures.
    pub fn read(config: &ControlnetConfig, embeddings: bool) -> Result<Self, TaskError> {
        let folder = Path::new(&config.data_dir);
        let sides = [Side::Front, Side::Video];
        let metadata = [Metadata::read(folder, Side::Front)?, Metadata::read(folder, Side::Video)?];
        let pose = |k: usize| poses(folder, sides[k], &metadata[k], &metadata[0], config.pose_source);
        let poses = [pose(0)?, pose(1)?];
        if let Some(row) = poses.iter().flatten().find(|pose| pose.len() != config.pose_dim) {
            let (data, found, wanted) = (config.data_dir.clone(), row.len(), config.pose_dim);
            return Err(ControlnetDataError::Angles { data, found, wanted }.into());
        }
        let embeddings = embeddings.then(|| read_features(folder, Side::Front, &metadata[0])).transpose()?;
        let met = pairing(&metadata[0], &metadata[1]);
        met.warnings().iter().for_each(|warning| terminal::warn(warning));
        let mut pairs = candidate_pairs(&met.met, &poses, config);
        if pairs.is_empty() {
            let (data, people) = (config.data_dir.clone(), met.met.len());
            let (min, max) = (config.min_angle, config.max_angle);
            return Err(ControlnetDataError::NoPair { data, people, min, max }.into());
        }
        let found = find_pictures(&pairs, &metadata, config)?;
        let all = pairs.len();
        let there = |side: usize, row: usize| config.allow_missing || found.places[side][&row].is_some();
        pairs.retain(|pair| there(0, pair.front) && there(1, pair.video));
        if found.missing > 0 && (pairs.len() * 2 < all || found.missing == found.count) {
            let (missing, pictures, left) = (found.missing, found.count, pairs.len());
            return Err(ControlnetDataError::Missing { missing, pictures, left, pairs: all, first: found.first }.into());
        }
        if found.missing > 0 {
            let place = if config.allow_missing { "grey ones take their place" } else { "their pairs are left out" };
            terminal::tell!(
                "warning: {} of {} pictures are missing or unreadable, {place}",
                found.missing,
                found.count
            );
        }
        // People are numbered again, without those who have no pair left.
        let mut people: Vec<String> = Vec::new();
        let mut numbers = BTreeMap::new();
        let mut hash = Sha256::new();
        for pair in &mut pairs {
            let name = &met.met[pair.person].name;
            pair.person = *numbers.entry(pair.person).or_insert_with(|| {
                people.push(name.clone());
                people.len() - 1
            });
            for (side, row) in [(0, pair.front), (1, pair.video)] {
                hash.update(format!("{name}\n{:?}\n{:?}\n", metadata[side].pictures[row].image_path, poses[side][row]));
            }
        }
        Ok(Self {
            pairs,
            people,
            missing: found.missing,
            fingerprint: hex::encode(hash.finalize()),
            poses,
            places: found.places,
            pictures: found.pictures,
            embeddings,
            size: config.image_size,
            grey: config.allow_missing,
            warned: Mutex::default(),
        })
    }

    /// Numbers of each person's pairs.
    pub fn of_person(&self) -> Vec<Vec<usize>> {
        let mut of_person = vec![Vec::new(); self.people.len()];
        for (at, pair) in self.pairs.iter().enumerate() {
            of_person[pair.person].push(at);
        }
        of_person
    }

    /// Width of an embedding, where there are any.
    pub fn embedding_width(&self) -> Option<usize> {
        self.embeddings.as_ref().map(Matrix::cols)
    }

    /// Pictures that turned out to be damaged so far.
    pub fn unreadable(&self) -> usize {
        self.pictures.unreadable().len()
    }

    /// Batches of these pairs with their numbers, decoded ahead by `workers` threads; the first `done` are left out.
    /// Damaged pictures are warned of.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn load(
        self: &Arc<Self>,
        batches: Vec<Vec<usize>>,
        reads: Reads,
        done: usize,
        workers: usize,
    ) -> Result<impl Iterator<Item = Result<(usize, HeadBatch), LoaderError>> + use<>, LoaderError> {
        let (data, warn) = (self.clone(), self.clone());
        let batches = Batches::made_by(batches.len(), done, workers, move |number, stopped| {
            Ok::<_, LoaderError>(data.batch(&batches[number], reads, stopped))
        })?;
        Ok(batches.numbered().map(move |batch| batch.inspect(|(_, batch)| warn.warn_of(&batch.skipped))))
    }

    fn warn_of(&self, skipped: &[Skipped]) {
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        for Skipped { path, error, .. } in skipped {
            if warned.insert(path.clone()) {
                let place = if self.grey { "a grey one takes its place" } else { "its pairs are left out" };
                terminal::tell!("warning: {error}: {place}");
            }
        }
    }

    fn batch(&self, pairs: &[usize], reads: Reads, stopped: &AtomicBool) -> HeadBatch {
        let length = 3 * self.size * self.size;
        let mut batch = HeadBatch {
            pairs: Vec::with_capacity(pairs.len()),
            pixels: Default::default(),
            poses: Default::default(),
            embeddings: Vec::new(),
            skipped: Vec::new(),
        };
        let sides = if reads == Reads::Both { &[0, 1][..] } else { &[1] };
        sides.iter().for_each(|side| batch.pixels[*side].reserve_exact(pairs.len() * length));
        let mut picture = vec![0.0; length];
        for at in pairs {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            let Pair { front, video, .. } = self.pairs[*at];
            let mut whole = true;
            for side in sides {
                if let Err(skipped) = self.decode(*side, [front, video][*side], &mut picture) {
                    batch.skipped.push(skipped);
                    picture.fill(0.0);
                    whole &= self.grey;
                }
                batch.pixels[*side].extend_from_slice(&picture);
            }
            if whole {
                batch.pairs.push(*at);
                batch.poses[0].extend_from_slice(&self.poses[0][front]);
                batch.poses[1].extend_from_slice(&self.poses[1][video]);
            } else {
                sides.iter().for_each(|side| batch.pixels[*side].truncate(batch.pairs.len() * length));
            }
        }
        if let Some(all) = &self.embeddings {
            batch.embeddings = gather(all, batch.pairs.iter().map(|at| self.pairs[*at].front));
        }
        batch
    }

    /// Writes the values of a picture; grey where it is missing.
    fn decode(&self, side: usize, row: usize, out: &mut [f32]) -> Result<(), Skipped> {
        let Some(index) = self.places[side][&row] else {
            out.fill(0.0);
            return Ok(());
        };
        let damaged = |error| Skipped { path: self.pictures.path(index).to_owned(), error, replaced_by: None };
        let picture = self.pictures.get(index).map_err(damaged)?;
        normalise(&picture, self.pictures.input(), out);
        Ok(())
    }
}

fn candidate_pairs(people: &[Person], poses: &[Vec<Vec<f32>>; 2], config: &ControlnetConfig) -> Vec<Pair> {
    let wide = |pose: &[f32]| pose.iter().map(|angle| f64::from(*angle)).collect::<Vec<_>>();
    let mut pairs = Vec::new();
    let most = if config.max_samples == 0 { usize::MAX } else { config.max_samples };
    for (number, person) in people.iter().enumerate() {
        for &front in &person.front {
            for &video in &person.video {
                let apart = pose::distance(&wide(&poses[0][front]), &wide(&poses[1][video]));
                if (config.min_angle..=config.max_angle).contains(&apart) && pairs.len() < most {
                    pairs.push(Pair { person: number, front, video });
                }
            }
        }
    }
    pairs
}

struct FoundPictures {
    places: [BTreeMap<usize, Place>; 2],
    pictures: Pictures,
    count: usize,
    missing: usize,
    first: String,
}

/// Finds the pictures that pairs need, and reads their headers.
fn find_pictures(
    pairs: &[Pair],
    metadata: &[Metadata; 2],
    config: &ControlnetConfig,
) -> Result<FoundPictures, TaskError> {
    let data_dir = Path::new(&config.data_dir);
    let image_dir = if config.image_dir.is_empty() { data_dir } else { Path::new(&config.image_dir) };
    let mut places: [BTreeMap<usize, Place>; 2] = Default::default();
    let (mut paths, mut crops, mut first) = (Vec::new(), Vec::new(), None);
    for (side, metadata) in metadata.iter().enumerate() {
        if config.face_crop && metadata.boxes.is_empty() {
            let (path, field, flag) = (metadata.path.clone(), "boxes", "--face-crop");
            return Err(ControlnetDataError::Lacks { path, field, flag }.into());
        }
        for row in pairs.iter().map(|pair| if side == 0 { pair.front } else { pair.video }) {
            if places[side].contains_key(&row) {
                continue;
            }
            let stored = metadata.pictures[row].image_path.clone().unwrap_or_default();
            let tried = candidates(&stored, image_dir, data_dir);
            let found = tried.iter().find(|path| path.is_file());
            if found.is_none() && first.is_none() {
                let tried: Vec<_> = tried.iter().map(|path| format!("`{}`", path.display())).collect();
                first = Some(format!("`{stored}`, looked for as {}", tried.join(", ")));
            }
            places[side].insert(row, found.is_some().then_some(paths.len()));
            if let Some(path) = found {
                paths.push(path.clone());
                crops.push(config.face_crop.then(|| widened(metadata.boxes[row], config.crop_margin)));
            }
        }
    }
    let headers: Vec<Option<PictureError>> = paths.par_iter().map(|path| preprocess::dimensions(path).err()).collect();
    for place in places.iter_mut().flat_map(BTreeMap::values_mut) {
        *place = place.filter(|at| headers[*at].is_none());
    }
    let first = first.or_else(|| {
        let error = headers.iter().flatten().next()?;
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Some(format!("{error}{cause}"))
    });
    let count = places.iter().map(BTreeMap::len).sum();
    let missing = places.iter().flat_map(BTreeMap::values).filter(|place| place.is_none()).count();
    let classes = vec![0; paths.len()];
    let pictures = Pictures::new(paths, classes, picture_spec(config.image_size), config.cache_mb).with_crops(crops);
    Ok(FoundPictures { places, pictures, count, missing, first: first.unwrap_or_default() })
}

/// A box with a share of its size added on each side.
fn widened([left, top, right, bottom]: [f64; 4], margin: f64) -> [f64; 4] {
    let (across, down) = ((right - left) * margin, (bottom - top) * margin);
    [left - across, top - down, right + across, bottom + down]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> ControlnetConfig {
        ControlnetConfig { data_dir: folder.display().to_string(), image_size: 16, ..ControlnetConfig::default() }
    }

    fn set(people: usize) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let heads = fixtures::HeadsConfig { people, frames: 4, size: 24, ..Default::default() };
        fixtures::heads(&heads, folder.path()).unwrap();
        folder
    }

    #[test]
    fn pairs_follow_the_ranges_and_batches_hold_what_they_name() {
        let folder = set(3);
        let metadata = ControlnetConfig { pose_source: PoseSource::Metadata, ..config(folder.path()) };
        let data = Arc::new(HeadPairs::read(&metadata, false).unwrap());
        for pair in &data.pairs {
            let wide =
                |side: usize, row: usize| data.poses[side][row].iter().map(|a| f64::from(*a)).collect::<Vec<_>>();
            let apart = pose::distance(&wide(0, pair.front), &wide(1, pair.video));
            assert!((5.0..=90.0).contains(&apart) && pair.video / 4 == pair.front, "{pair:?}: {apart}");
        }
        let few = ControlnetConfig { max_samples: 5, ..metadata.clone() };
        assert_eq!(HeadPairs::read(&few, false).unwrap().pairs, data.pairs[..5]);
        let none = ControlnetConfig { min_angle: 89.9, ..metadata };
        let error = HeadPairs::read(&none, false).err().unwrap().to_string();
        assert!(error.contains("3 people") && error.contains("89.9"), "{error}");

        let batches: Vec<_> = data.load(vec![vec![3, 0], vec![1, 2, 4]], Reads::Both, 1, 2).unwrap().collect();
        assert_eq!(batches.len(), 1);
        let (number, batch) = batches.into_iter().next().unwrap().unwrap();
        assert_eq!(number, 1);
        assert_eq!((batch.pairs.len(), batch.pixels[0].len()), (3, 3 * 3 * 256));
        let target = folder.path().join(format!("frames/head_0000/{:05}.png", data.pairs[1].video));
        let mut wanted = vec![0.0; 3 * 256];
        contract::preprocess::load(&target, &picture_spec(16), &mut wanted).unwrap();
        assert_eq!(batch.pixels[1][..3 * 256], wanted);
        assert!(wanted.iter().all(|value| (-1.0..=1.0).contains(value)));
    }

    #[test]
    fn missing_and_broken_pictures_are_left_out_and_too_many_are_an_error() {
        let folder = set(3);
        let pairs = HeadPairs::read(&config(folder.path()), false).unwrap().pairs.len();
        std::fs::remove_file(folder.path().join("frames/head_0001/00002.png")).unwrap();
        std::fs::write(folder.path().join("frames/head_0002/00001.png"), b"no picture").unwrap();
        let data = HeadPairs::read(&config(folder.path()), false).unwrap();
        assert_eq!((data.missing, data.pairs.len()), (2, pairs - 2));
        let allowed = ControlnetConfig { allow_missing: true, ..config(folder.path()) };
        let data = Arc::new(HeadPairs::read(&allowed, false).unwrap());
        assert_eq!(data.pairs.len(), pairs);
        let grey = data.pairs.iter().position(|pair| pair.video == 6).unwrap();
        let (_, batch) = data.load(vec![vec![grey]], Reads::Both, 0, 1).unwrap().next().unwrap().unwrap();
        assert!(batch.pixels[1].iter().all(|value| *value == 0.0) && batch.pixels[0].iter().any(|value| *value != 0.0));

        std::fs::remove_dir_all(folder.path().join("frames")).unwrap();
        let error = HeadPairs::read(&config(folder.path()), false).err().unwrap().to_string();
        assert!(error.contains("10 of 13") && error.contains("frames/head_0000/00000.png"), "{error}");
    }

    /// Right headers and no pixels behind them: nothing is decoded before a batch needs it, and then the damage is told
    /// and costs its pairs alone.
    #[test]
    fn pictures_are_decoded_when_a_batch_needs_them() {
        let folder = set(3);
        let path = |video: usize| folder.path().join(format!("frames/head_{:04}/{:05}.png", video / 4, video % 4));
        let whole = HeadPairs::read(&config(folder.path()), false).unwrap();
        let cut = |path: PathBuf| {
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            assert!(preprocess::dimensions(&path).is_ok() && preprocess::decode(&path).is_err());
        };
        let damaged = whole.pairs[1].video;
        cut(path(damaged));
        let data = Arc::new(HeadPairs::read(&config(folder.path()), false).unwrap());
        assert_eq!((&data.pairs, data.missing, data.unreadable()), (&whole.pairs, 0, 0));
        assert_eq!(data.fingerprint, whole.fingerprint);
        let load = |data: &Arc<HeadPairs>, batches, reads| -> Vec<HeadBatch> {
            data.load(batches, reads, 0, 1).unwrap().map(|batch| batch.unwrap().1).collect()
        };
        let batches = load(&data, vec![vec![0, 1, 2], vec![1], vec![3]], Reads::Both);
        let left: Vec<&[usize]> = batches.iter().map(|batch| batch.pairs.as_slice()).collect();
        assert_eq!(left, [&[0, 2][..], &[3]], "a batch of nothing else is left out");
        assert_eq!(batches[0].skipped[0].path, path(damaged));
        assert_eq!(data.unreadable(), 1);
        // What is left is as without the damage.
        let alone = load(&data, vec![vec![0], vec![2]], Reads::Both);
        for side in 0..2 {
            assert_eq!(batches[0].pixels[side], [alone[0].pixels[side].as_slice(), &alone[1].pixels[side]].concat());
            assert_eq!(batches[0].poses[side], [alone[0].poses[side].as_slice(), &alone[1].poses[side]].concat());
        }
        let allowed = ControlnetConfig { allow_missing: true, ..config(folder.path()) };
        let grey = Arc::new(HeadPairs::read(&allowed, false).unwrap());
        let batch = load(&grey, vec![vec![1]], Reads::Both).remove(0);
        assert!(batch.pairs == [1] && batch.pixels[1].iter().all(|value| *value == 0.0));

        // Targets alone: sources are not decoded.
        for person in 0..3 {
            cut(folder.path().join(format!("faces/head_{person:04}.png")));
        }
        let data = Arc::new(HeadPairs::read(&config(folder.path()), false).unwrap());
        let targets = load(&data, vec![vec![0, 2]], Reads::Targets).remove(0);
        assert!(targets.pixels[0].is_empty() && targets.pixels[1] == batches[0].pixels[1]);
        assert_eq!(data.unreadable(), 0);
        let error = data.load(vec![vec![0], vec![1, 2]], Reads::Both, 0, 2).unwrap().next().unwrap().unwrap_err();
        assert!(error.to_string().contains("can be read"), "{error}");
    }

    #[test]
    fn windows_paths_and_bare_names_are_found() {
        let tried = candidates(r"train\datas\face\a.jpg", Path::new("images"), Path::new("data"));
        let expected = ["images/train/datas/face/a.jpg", "images/a.jpg", "data/train/datas/face/a.jpg", "data/a.jpg"];
        assert_eq!(tried[..4], expected.map(PathBuf::from));
        assert_eq!(tried[4], Path::new("train/datas/face/a.jpg"));
    }

    #[test]
    fn crops_follow_the_boxes() {
        let folder = set(2);
        let whole = Arc::new(HeadPairs::read(&config(folder.path()), false).unwrap());
        let cut = ControlnetConfig { face_crop: true, crop_margin: 0.0, ..config(folder.path()) };
        let cut = Arc::new(HeadPairs::read(&cut, false).unwrap());
        let first =
            |data: &Arc<HeadPairs>| data.load(vec![vec![0]], Reads::Both, 0, 1).unwrap().next().unwrap().unwrap().1;
        assert_ne!(first(&whole).pixels[0], first(&cut).pixels[0]);
    }
}
