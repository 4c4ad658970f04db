//! The row of a gallery.

use std::path::PathBuf;

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
    /// Camera, from 0; 0 where nobody said.
    pub camera: i64,
}

impl Default for Template {
    /// Of nobody.
    fn default() -> Self {
        Self { path: PathBuf::new(), others: Vec::new(), missing: Vec::new(), identity: Identity::Unnamed, camera: 0 }
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
        }
    }
}

impl Template {
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
}

impl From<Row> for Template {
    fn from(Row { path, others, missing, identity, identity_name, camera }: Row) -> Self {
        Self { path, others, missing, identity: Identity::from_parts(identity, identity_name), camera }
    }
}

impl From<Template> for Row {
    fn from(Template { path, others, missing, identity, camera }: Template) -> Self {
        let (number, text) = identity.to_parts();
        let (number, text) = (number, text.to_owned());
        Self { path, others, missing, identity: number, identity_name: text, camera }
    }
}
