//! Sets of faces in the layout of the users' manuals: one side of frontal pictures, one of video frames, each a
//! metadata file with arrays beside it whose rows it describes.
//!
//! ```no_run
//! use std::path::Path;
//! use train::families::faces::{Metadata, Side, pairing, read_features, split};
//!
//! let folder = Path::new("train/datas/file");
//! let front = Metadata::read(folder, Side::Front)?;
//! let video = Metadata::read(folder, Side::Video)?;
//! let features = read_features(folder, Side::Video, &video)?;
//! let people = pairing(&front, &video);
//! let of_person: Vec<Vec<usize>> = people.met.iter().map(|person| person.video.clone()).collect();
//! let parts = split::by_person(&of_person, [0.6, 0.3], 42, split::Order::Shuffled);
//! # let _ = (features, parts);
//! # Ok::<(), train::families::faces::FacesError>(())
//! ```

mod arrays;
pub(crate) mod bench_step;
pub(crate) mod flags;
mod metadata;
pub mod pose;
pub(crate) mod reference;
pub(crate) mod settings;
pub mod split;

use std::path::{Path, PathBuf};

pub use arrays::{gather, normalised_keypoints, read_features, read_keypoints};
pub use metadata::{Metadata, People, Person, Picture, Standard, local_path, pairing};

/// Left eye, right eye, nose tip, left and right corner of the mouth.
pub const KEYPOINTS: usize = 5;

/// One half of a face set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Frontal pictures: `front_metadata.json`, `front_feature.npy`, `front_keypoints.npy`.
    Front,
    /// Frames of videos, from any side: `video_…`.
    Video,
}

impl Side {
    /// Beginning of the names of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Front => "front",
            Self::Video => "video",
        }
    }
}

/// Why a face set cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FacesError {
    /// Nothing, or something else, where a face set was looked for.
    #[error(
        "`{}` is no face set: {found}; a folder with front_metadata.json, video_metadata.json and their arrays is \
         needed (docs/faces.md says which), as `fixtures face-features` and `fixtures heads` make one",
        folder.display()
    )]
    NoSet {
        /// The folder.
        folder: PathBuf,
        /// What is there.
        found: String,
    },
    /// A file is missing or unreadable.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file larger than any of its kind.
    #[error("`{}` has {bytes} bytes, {allowed} are allowed", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// Largest size that is read.
        allowed: u64,
    },
    /// A metadata file that is not JSON, not UTF-8, or has a field of another kind.
    #[error("`{}` is not metadata of a face set", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A list or number of a metadata file that does not fit the others.
    #[error("`{}`: `{field}` {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that is not an array file.
    #[error("`{}`", path.display())]
    Npy {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: files::npy::NpyError,
    },
    /// An array of another shape.
    #[error("`{}` has shape {found:?}; {wanted} is needed", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that is needed, and why.
        wanted: String,
    },
    /// Embeddings of length 0, which have no direction.
    #[error("row {row} of `{}` is only zeros, and {more} more rows are; an embedding has a direction", path.display())]
    Zero {
        /// The file.
        path: PathBuf,
        /// First such row, from 0.
        row: usize,
        /// Further ones.
        more: usize,
    },
    /// Values that are NaN or infinite.
    #[error("row {row} of `{}` is not finite, and {more} more rows are not", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// First such row, from 0.
        row: usize,
        /// Further ones.
        more: usize,
    },
}

impl FacesError {
    /// That the file `missing` is not in a folder, or the folder is none.
    fn missing(folder: &Path, missing: &Path) -> Self {
        let found = match missing.file_name() {
            Some(name) if folder.is_dir() => format!("it has no {}", name.to_string_lossy()),
            _ if folder.exists() => "it is a file".to_owned(),
            _ => "there is no such folder".to_owned(),
        };
        Self::NoSet { folder: folder.to_owned(), found }
    }
}
