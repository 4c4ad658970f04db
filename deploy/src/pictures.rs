//! What can be embedded: pictures and pairs of pictures, listed from files and folders.

use std::path::{Path, PathBuf};

use contract::InputSpec;
use datasets::paired::Pair;
use datasets::{LeftOut, Naming, Sample};
use serde::{Deserialize, Serialize};

use crate::DeployError;

/// Identities from here on are hashes of folder names, smaller ones are numbers in file names.
pub(crate) const FOLDER_IDENTITY: i64 = 1 << 52;

/// A picture, who is on it and which camera saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// The file, as it was named.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// Files for the model's further inputs, in its order: the veins of a palm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<PathBuf>,
    /// Inputs of the model that have no file here, which it must bear.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Number of the identity; see [`datasets::list_pictures`].
    pub identity: i64,
    /// The identity as its file or folder name has it.
    pub identity_name: String,
    /// Camera, from 0.
    pub camera: i64,
}

impl From<Sample> for Picture {
    fn from(sample: Sample) -> Self {
        let Sample { path, identity, identity_name, camera } = sample;
        Self { path, others: Vec::new(), missing: Vec::new(), identity, identity_name, camera }
    }
}

impl Picture {
    /// Its files in the order of the model's `inputs`, none for those it lacks.
    pub fn files<'a>(&'a self, inputs: &'a [InputSpec]) -> impl Iterator<Item = Option<&'a PathBuf>> {
        let mut given = std::iter::once(&self.path).chain(&self.others);
        inputs.iter().map(move |input| if self.missing.contains(&input.name) { None } else { given.next() })
    }

    /// Whether the identity is the name of the folder the picture lies in, which may be no identity at all.
    pub fn named_by_folder(&self) -> bool {
        self.identity >= FOLDER_IDENTITY
    }
}

/// Pictures that can be embedded, and what lies among them.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// The pictures.
    pub pictures: Vec<Picture>,
    /// What is not among them.
    pub left_out: LeftOut,
    /// Where folders and file names contradict each other: which was taken.
    pub notes: Vec<String>,
}

/// The pictures of files and folders, in the order given and natural order within. Who is on them is decided as in
/// [`datasets::list_pictures`], or by `naming`.
///
/// # Errors
/// If one does not exist or holds no picture.
pub fn list(places: &[PathBuf], naming: Option<Naming>) -> Result<Listed, DeployError> {
    let mut all = Listed::default();
    for place in places {
        if !place.exists() {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(DeployError::Read { path: place.clone(), source });
        }
        let list = datasets::list_pictures(place, naming)?;
        all.pictures.extend(list.samples.into_iter().map(Picture::from));
        all.left_out.extend(list.left_out);
        all.notes.extend(list.note);
    }
    Ok(all)
}

/// What says who is on these pictures; none where it is the folder for some and the file name for others.
pub fn naming(pictures: &[Picture]) -> Option<Naming> {
    let by_folder = pictures.iter().filter(|picture| picture.named_by_folder()).count();
    match by_folder {
        0 if !pictures.is_empty() => Some(Naming::File),
        count if count == pictures.len() && count > 0 => Some(Naming::Folder),
        _ => None,
    }
}

/// Rows of pairs, whose classes are named by `classes`.
pub fn of_pairs<'a>(pairs: impl Iterator<Item = &'a Pair>, classes: &[String]) -> Vec<Picture> {
    let row = |pair: &Pair| Picture {
        path: pair.palm.clone(),
        others: vec![pair.vein.clone()],
        missing: vec![],
        identity: datasets::number_of(&classes[pair.class]),
        identity_name: classes[pair.class].clone(),
        camera: i64::from(pair.session) - 1,
    };
    pairs.map(row).collect()
}

/// A path that is no Unicode keeps its row; it only cannot be opened again.
pub(crate) fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}
