//! Pairs of a frame and a frontal picture of one person.

use std::path::Path;

use metrics::Matrix;
use sha2::{Digest, Sha256};

use crate::families::faces::{FacesError, Metadata, People, Side, gather, pairing, read_features, read_keypoints};

/// Why a face set cannot train a network.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SenetDataError {
    /// A file.
    #[error(transparent)]
    Faces(#[from] FacesError),
    /// Names are what tells people apart.
    #[error("`{path}` has no `person_name` in entry {entry}")]
    Nameless {
        /// The metadata file.
        path: String,
        /// From 0.
        entry: usize,
    },
    /// Embeddings or poses of another width than the network's.
    #[error("{what} of `{data}` have {found} values, the network takes {wanted}; give --{flag} {found}")]
    Width {
        /// Embeddings or poses.
        what: &'static str,
        /// The folder.
        data: String,
        /// Width in the files.
        found: usize,
        /// Width of the network.
        wanted: usize,
        /// The flag that settles it.
        flag: &'static str,
    },
    /// Frontal pictures and frames of different widths.
    #[error("{what} of frontal pictures in `{data}` have {front} values, those of frames {video}")]
    Sides {
        /// Embeddings or poses.
        what: &'static str,
        /// The folder.
        data: String,
        /// Width of the frontal side.
        front: usize,
        /// Width of the video side.
        video: usize,
    },
    /// Nobody is on both sides, or the yaw filter left nothing.
    #[error(
        "`{data}` has no frame of anybody with a frontal picture{}",
        if *filtered { " within --min-yaw and --max-yaw" } else { "" }
    )]
    NoPairs {
        /// The folder.
        data: String,
        /// Whether frames were filtered by yaw.
        filtered: bool,
    },
}

/// A face set as pairs of a frame and a frontal picture of one person.
#[derive(Debug)]
pub struct FacePairs {
    pub(crate) front: Matrix,
    pub(crate) video: Matrix,
    pub(crate) front_poses: Matrix,
    pub(crate) poses: Matrix,
    /// Frontal row, video row, person.
    pub(crate) pairs: Vec<[usize; 3]>,
    pub(crate) people: People,
    pub(crate) fingerprint: String,
}

impl FacePairs {
    /// Reads the six files of a set and lists every frame of everybody with every frontal picture of theirs. Frames
    /// whose first angle is outside `yaw` (smallest and largest, without sign) are left out. Warns of people
    /// without frames, and of angles that jump.
    ///
    /// # Errors
    /// See [`SenetDataError`].
    pub fn read(folder: &Path, yaw: [f64; 2]) -> Result<Self, SenetDataError> {
        let [front, video] = [Side::Front, Side::Video].map(|side| Self::side(folder, side));
        let (front_metadata, front, front_poses, front_hash) = front?;
        let (video_metadata, video, poses, video_hash) = video?;
        for (what, front, video) in
            [("embeddings", front.cols(), video.cols()), ("poses", front_poses.cols(), poses.cols())]
        {
            if front != video {
                return Err(SenetDataError::Sides { what, data: folder.display().to_string(), front, video });
            }
        }
        let people = pairing(&front_metadata, &video_metadata);
        people.warnings().iter().for_each(|warning| terminal::warn(warning));
        warn_of_jumps(&poses);
        let inside = |row: &usize| {
            let angle = f64::from(poses.row(*row)[0]).abs();
            angle >= yaw[0] && angle <= yaw[1]
        };
        let mut pairs = Vec::new();
        for (person, met) in people.met.iter().enumerate() {
            for front in &met.front {
                pairs.extend(met.video.iter().copied().filter(inside).map(|video| [*front, video, person]));
            }
        }
        if pairs.is_empty() {
            let filtered = !people.met.is_empty();
            return Err(SenetDataError::NoPairs { data: folder.display().to_string(), filtered });
        }
        let fingerprint = format!("sha256:{}", hex::encode(Sha256::digest([front_hash, video_hash].concat())));
        Ok(Self { front, video, front_poses, poses, pairs, people, fingerprint })
    }

    fn side(folder: &Path, side: Side) -> Result<(Metadata, Matrix, Matrix, Vec<u8>), SenetDataError> {
        let metadata = Metadata::read(folder, side)?;
        let path = || metadata.path.display().to_string();
        if let Some(entry) = metadata.pictures.iter().position(|picture| picture.person_name.is_none()) {
            return Err(SenetDataError::Nameless { path: path(), entry });
        }
        let Some(width) = metadata.poses.first().map(Vec::len) else {
            let problem = "is missing or empty".into();
            return Err(FacesError::Field { path: metadata.path.clone(), field: "poses", problem }.into());
        };
        let features = read_features(folder, side, &metadata)?;
        // The network does not see keypoints; a set that lacks them is incomplete all the same.
        read_keypoints(folder, side, &metadata)?;
        let poses = Matrix::new(metadata.poses.concat(), metadata.poses.len(), width).expect("poses of one width");
        let mut hash = Sha256::new();
        for picture in &metadata.pictures {
            hash.update(picture.person_name.as_deref().unwrap_or_default());
            hash.update([0]);
        }
        for matrix in [&features, &poses] {
            hash.update(bytemuck::cast_slice::<f32, u8>(matrix.data()));
        }
        Ok((metadata, features, poses, hash.finalize().to_vec()))
    }

    /// Pairs of everybody.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is no pair; reading refuses such a set.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Values of an embedding and angles of a pose.
    pub fn widths(&self) -> [usize; 2] {
        [self.front.cols(), self.poses.cols()]
    }

    /// The pairs of each person.
    pub fn of_person(&self) -> Vec<Vec<usize>> {
        let mut of_person = vec![Vec::new(); self.people.met.len()];
        for (index, [.., person]) in self.pairs.iter().enumerate() {
            of_person[*person].push(index);
        }
        of_person
    }

    /// Pearson's correlation of each dimension between frames and frontal embeddings over all pairs: what the
    /// identity dimensions were chosen by. A dimension that is constant on one side has 0.
    pub fn correlations(&self) -> Vec<f64> {
        let count = self.pairs.len() as f64;
        let correlation = |at: usize| {
            let values = || {
                let pair = |[front, video, _]: &[usize; 3]| (self.front.row(*front)[at], self.video.row(*video)[at]);
                self.pairs.iter().map(pair).map(|(front, video)| (f64::from(front), f64::from(video)))
            };
            let (a, b) = values().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / count, b + y / count));
            let (both, aa, bb) = values().fold((0.0, 0.0, 0.0), |(both, aa, bb), (x, y)| {
                (both + (x - a) * (y - b), aa + (x - a).powi(2), bb + (y - b).powi(2))
            });
            if aa * bb > 0.0 { both / (aa * bb).sqrt() } else { 0.0 }
        };
        (0..self.front.cols()).map(correlation).collect()
    }

    /// The rows of some pairs.
    pub fn batch(&self, indices: Vec<usize>) -> FaceBatch {
        let rows = |side: usize| indices.iter().map(move |index| self.pairs[*index][side]).collect::<Vec<_>>();
        let (front, video) = (rows(0), rows(1));
        FaceBatch {
            source: gather(&self.video, video.iter().copied()),
            target: gather(&self.front, front.iter().copied()),
            pose: gather(&self.poses, video),
            front_pose: gather(&self.front_poses, front),
            people: rows(2).into_iter().map(|person| person as i64).collect(),
            indices,
        }
    }
}

fn warn_of_jumps(poses: &Matrix) {
    for axis in 0..poses.cols() {
        let column = || (0..poses.rows()).map(|row| poses.row(row)[axis]);
        if column().any(|angle| angle > 170.0) && column().any(|angle| angle < -170.0) {
            terminal::tell!(
                "warning: angle {axis} has values on both sides of ±180 degrees: nearly equal poses then seem 360 \
                 degrees apart; --wrap_angles takes differences the short way round"
            );
        }
    }
}

/// Rows of a batch, one after another.
#[derive(Debug, Clone)]
pub struct FaceBatch {
    /// Which pairs.
    pub indices: Vec<usize>,
    /// Who is on them.
    pub people: Vec<i64>,
    /// Embeddings of the frames.
    pub source: Vec<f32>,
    /// Embeddings of the frontal pictures.
    pub target: Vec<f32>,
    /// Poses of the frames.
    pub pose: Vec<f32>,
    /// Poses of the frontal pictures.
    pub front_pose: Vec<f32>,
}
