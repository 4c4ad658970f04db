//! Metadata of a row of a gallery.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::pictures::{Input, lossy};

/// What is stored beside an embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct Template {
    /// The first file, as it was named; see [`Embeddings::file`](super::Embeddings::file).
    pub path: PathBuf,
    /// Files for the model's further inputs, in its order: the veins of a palm.
    pub others: Vec<PathBuf>,
    /// Inputs of the model that had no file.
    pub missing: Vec<String>,
    /// Who it is.
    pub identity: Identity,
    /// Camera, from 0; 0 if unknown.
    pub camera: i64,
    /// Size and time of its files when they were embedded; `None` in older galleries.
    pub stamp: Option<Stamp>,
}

/// Size and time of files, which change when a file is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Size of all files together, in bytes.
    pub size: u64,
    /// Latest time of modification, in milliseconds since 1970.
    pub modified: u64,
}

impl Stamp {
    /// Reads them from the files; `None` if one does not exist.
    pub fn of(files: impl IntoIterator<Item = impl AsRef<Path>>) -> Option<Self> {
        let mut stamp = Self { size: 0, modified: 0 };
        for file in files {
            let file = std::fs::metadata(file.as_ref()).ok().filter(std::fs::Metadata::is_file)?;
            let since = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let modified = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
            stamp = Self { size: stamp.size.saturating_add(file.len()), modified: stamp.modified.max(modified) };
        }
        Some(stamp)
    }
}

impl Default for Template {
    /// A template of nobody.
    fn default() -> Self {
        Self {
            path: PathBuf::new(),
            others: Vec::new(),
            missing: Vec::new(),
            identity: Identity::Unnamed,
            camera: 0,
            stamp: None,
        }
    }
}

impl From<&Input> for Template {
    fn from(input: &Input) -> Self {
        let Input { files, missing, identity, camera } = input;
        Self {
            path: files[0].clone(),
            others: files[1..].to_vec(),
            missing: missing.clone(),
            identity: identity.clone(),
            camera: *camera,
            stamp: None,
        }
    }
}

impl Template {
    /// The same with the stamp of its files, relative to the working folder.
    #[must_use]
    pub fn stamped(self) -> Self {
        Self { stamp: Stamp::of(self.files()), ..self }
    }

    /// Its files, the first one first.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        std::iter::once(&self.path).chain(&self.others)
    }
}

/// A line of `rows.jsonl`.
#[derive(Serialize, Deserialize)]
struct Row {
    #[serde(serialize_with = "lossy")]
    path: PathBuf,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    identity: i64,
    identity_name: String,
    camera: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stamp: Option<Stamp>,
}

impl From<Row> for Template {
    fn from(Row { path, others, missing, identity, identity_name, camera, stamp }: Row) -> Self {
        Self { path, others, missing, identity: Identity::from_parts(identity, identity_name), camera, stamp }
    }
}

impl From<Template> for Row {
    fn from(Template { path, others, missing, identity, camera, stamp }: Template) -> Self {
        let (number, text) = identity.to_parts();
        let (number, text) = (number, text.to_owned());
        Self { path, others, missing, identity: number, identity_name: text, camera, stamp }
    }
}
