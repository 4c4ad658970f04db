//! Pairs of a frontal picture and a video frame of the same person, with the poses of both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use contract::preprocess::PictureError;
use contract::{Filter, PictureSpec};
use sha2::{Digest, Sha256};

use crate::data::loader::{Loader, LoaderOptions, PictureBatch, Pictures};
use crate::families::controlnet::settings::{ControlnetConfig, PoseSource};
use crate::families::faces::{
    Metadata, Person, Side, local_path, normalised_keypoints, pairing, pose, read_features, read_keypoints,
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
        "no pair in `{data}`: {people} people have pictures on both sides, and no frame of theirs is {min} to {max} degrees from a frontal pose"
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
        "{missing} of {pictures} pictures are missing or unreadable, which leaves {left} of {pairs} pairs; at least half are needed (--image-dir says where they are, \
         --allow-missing takes grey ones instead); the first: {first}"
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
    /// Pictures that were missing or unreadable.
    pub missing: usize,
    /// Hash of names, paths and poses.
    pub fingerprint: String,
    poses: [Vec<Vec<f32>>; 2],
    places: [BTreeMap<usize, Place>; 2],
    pictures: Arc<Pictures>,
    embeddings: Option<crate::families::faces::Matrix>,
    size: usize,
}

/// Pictures and poses of some pairs.
#[derive(Debug, Clone)]
pub struct HeadBatch {
    /// Numbers of the pairs.
    pub pairs: Vec<usize>,
    /// Sources, then targets, each `[pairs, 3, size, size]`, values in [−1, 1].
    pub pixels: [Vec<f32>; 2],
    /// Poses of sources and of targets, `[pairs, angles]` in degrees.
    pub poses: [Vec<f32>; 2],
    /// Embeddings of the sources, where the encoder reads them, `[pairs, 512]`.
    pub embeddings: Vec<f32>,
}

/// How pictures enter the network: stretched by OpenCV's rule, values in [−1, 1].
pub fn picture_spec(size: usize) -> PictureSpec {
    PictureSpec { mean: vec![0.5; 3], std: vec![0.5; 3], filter: Filter::Opencv, ..PictureSpec::imagenet([size, size]) }
}

/// Where a stored path may lie, in this order.
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
    /// Reads metadata, keypoints and every picture that a pair needs.
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
        for name in &met.without_video {
            terminal::tell!("warning: {name} has no video frame and is left out");
        }
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
        // People are numbered anew: those whose pairs are all gone are gone.
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
        self.embeddings.as_ref().map(crate::families::faces::Matrix::width)
    }

    /// Batches of these pairs, decoded ahead by `workers` threads; the first `done` are left out.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn load(
        self: &Arc<Self>,
        batches: Vec<Vec<usize>>,
        done: usize,
        workers: usize,
    ) -> Result<impl Iterator<Item = Result<HeadBatch, TaskError>> + use<>, TaskError> {
        let data = self.clone();
        let read: Vec<Vec<usize>> =
            batches.iter().map(|pairs| data.sources_and_targets(pairs).flatten().collect()).collect();
        let mut loader = Loader::new(
            self.pictures.clone(),
            read,
            LoaderOptions { transforms: None, workers: workers.max(1), start_batch: done, strict: true },
        )?;
        let pairs = batches.into_iter().skip(done);
        // A batch whose pictures are all grey has nothing to read, and the loader skips it.
        Ok(pairs.map(move |pairs| {
            let nothing = data.sources_and_targets(&pairs).all(|place| place.is_none());
            let read = if nothing { None } else { loader.next().transpose()? };
            Ok(data.assemble(pairs, read))
        }))
    }

    fn sources_and_targets<'a>(&'a self, pairs: &'a [usize]) -> impl Iterator<Item = Place> + 'a {
        let place = |side: usize, row: usize| self.places[side][&row];
        let sources = pairs.iter().map(move |at| place(0, self.pairs[*at].front));
        sources.chain(pairs.iter().map(move |at| place(1, self.pairs[*at].video)))
    }

    fn assemble(&self, pairs: Vec<usize>, read: Option<PictureBatch>) -> HeadBatch {
        let length = 3 * self.size * self.size;
        let mut rows = read.iter().flat_map(|batch| batch.pixels.chunks_exact(length));
        let mut all = vec![0.0; 2 * pairs.len() * length];
        for (place, out) in self.sources_and_targets(&pairs).zip(all.chunks_exact_mut(length)) {
            if place.is_some() {
                out.copy_from_slice(rows.next().expect("every picture of the batch was read"));
            }
        }
        let targets = all.split_off(pairs.len() * length);
        let row = |side: usize, row: usize| self.poses[side][row].iter().copied();
        let poses = [
            pairs.iter().flat_map(|at| row(0, self.pairs[*at].front)).collect(),
            pairs.iter().flat_map(|at| row(1, self.pairs[*at].video)).collect(),
        ];
        let embeddings = self.embeddings.as_ref().map(|all| all.gather(pairs.iter().map(|at| self.pairs[*at].front)));
        HeadBatch { pixels: [all, targets], poses, embeddings: embeddings.unwrap_or_default(), pairs }
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
    pictures: Arc<Pictures>,
    count: usize,
    missing: usize,
    first: String,
}

/// Finds and decodes the pictures that pairs need.
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
    let classes = vec![0; paths.len()];
    let pictures = Pictures::new(paths, classes, picture_spec(config.image_size), config.cache_mb).with_crops(crops);
    pictures.read_all();
    let unreadable: BTreeMap<PathBuf, Arc<PictureError>> =
        pictures.unreadable().into_iter().map(|(path, error)| (path.to_owned(), error)).collect();
    for places in &mut places {
        for place in places.values_mut() {
            if place.is_some_and(|at| unreadable.contains_key(pictures.path(at))) {
                *place = None;
            }
        }
    }
    let first = first.or_else(|| {
        let (_, error) = unreadable.iter().next()?;
        let cause = std::error::Error::source(&**error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Some(format!("{error}{cause}"))
    });
    let count = places.iter().map(BTreeMap::len).sum();
    let missing = places.iter().flat_map(BTreeMap::values).filter(|place| place.is_none()).count();
    Ok(FoundPictures { places, pictures: Arc::new(pictures), count, missing, first: first.unwrap_or_default() })
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

        let batches: Vec<_> = data.load(vec![vec![3, 0], vec![1, 2, 4]], 1, 2).unwrap().collect();
        assert_eq!(batches.len(), 1);
        let batch = batches.into_iter().next().unwrap().unwrap();
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
        let batch = data.load(vec![vec![grey]], 0, 1).unwrap().next().unwrap().unwrap();
        assert!(batch.pixels[1].iter().all(|value| *value == 0.0) && batch.pixels[0].iter().any(|value| *value != 0.0));

        std::fs::remove_dir_all(folder.path().join("frames")).unwrap();
        let error = HeadPairs::read(&config(folder.path()), false).err().unwrap().to_string();
        assert!(error.contains("10 of 13") && error.contains("frames/head_0000/00000.png"), "{error}");
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
        let first = |data: &Arc<HeadPairs>| data.load(vec![vec![0]], 0, 1).unwrap().next().unwrap().unwrap();
        assert_ne!(first(&whole).pixels[0], first(&cut).pixels[0]);
    }
}
