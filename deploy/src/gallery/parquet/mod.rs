//! Parquet files of galleries, which pandas, Polars, DuckDB and Spark read: a row for each template.
//!
//! | column | type | |
//! |---|---|---|
//! | `id` | int64 | number of the template; an import gives new ones |
//! | `subject` | string, may be null | who it is |
//! | `camera` | unsigned int32, may be null | |
//! | `taken` | timestamp, may be null | milliseconds in UTC; of micro- and nanoseconds the rest is left out |
//! | `tags` | list of strings | words to filter by, and [`BY_FILE`], [`JUNK`], [`DISTRACTOR`] |
//! | `picture` | string, may be null | path of the picture |
//! | `others` | list of strings | paths of the pictures for further inputs of the model |
//! | `missing` | list of strings | inputs of the model that had no picture |
//! | `size`, `modified` | int64 and timestamp, may be null | bytes of the files and their latest change |
//! | `embedding` | list of float32 | unit length; of as many values in every row |
//!
//! An import needs `embedding`; the other columns may be missing, and columns of other names are left alone. The file's
//! own metadata names the model whose embeddings they are.

mod read;
mod write;

use std::path::{Path, PathBuf};

use super::{BY_FILE, DISTRACTOR, Identity, JUNK, OWN, Stamp, Template};
use crate::DeployError;

pub use datasets::columns::MAGIC;
pub use read::Reader;
pub use write::write;

/// Keys of the file's metadata.
const CONTRACT_ID: &str = "vitrine.contract_id";
const DIM: &str = "vitrine.dim";
const ARCHITECTURE: &str = "vitrine.architecture";
const SHA256: &str = "vitrine.model_sha256";
const ABOUT: &str = "vitrine.about";

/// Columns.
const SUBJECT: &str = "subject";
const CAMERA: &str = "camera";
const TAKEN: &str = "taken";
const TAGS: &str = "tags";
const PICTURE: &str = "picture";
const OTHERS: &str = "others";
const MISSING: &str = "missing";
const SIZE: &str = "size";
const MODIFIED: &str = "modified";
const EMBEDDING: &str = "embedding";

/// Longest text in a field, in bytes: longer than any path or name that a gallery stores.
const LONGEST: usize = 16 << 10;

/// Most strings in a list.
const MOST: usize = 128;

/// What is wrong with a column of a file.
fn wrong(path: &Path, column: &str, problem: impl std::fmt::Display) -> DeployError {
    DeployError::Features { path: path.to_owned(), problem: format!("column `{column}`: {problem}") }
}

/// What a row says about its template.
#[derive(Debug, Default)]
struct Row {
    subject: Option<String>,
    camera: Option<u32>,
    taken: Option<i64>,
    tags: Vec<String>,
    picture: Option<String>,
    others: Vec<String>,
    missing: Vec<String>,
    size: Option<i64>,
    modified: Option<i64>,
}

impl Row {
    /// Of a template.
    fn of(template: &Template) -> Self {
        let stored = template.to_stored();
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        Self {
            subject: stored.subject,
            camera: stored.camera,
            taken: stored.taken,
            tags: stored.tags,
            picture: Some(text(&template.path)).filter(|path| !path.is_empty()),
            others: template.others.iter().map(text).collect(),
            missing: template.missing.clone(),
            size: template.stamp.map(|stamp| stamp.size.cast_signed()),
            modified: template.stamp.map(|stamp| stamp.modified.cast_signed()),
        }
    }

    /// The template; or the tag that nobody may use.
    fn template(self) -> Result<Template, String> {
        let Self { subject, camera, taken, tags, picture, others, missing, size, modified } = self;
        let (own, tags): (Vec<String>, Vec<String>) = tags.into_iter().partition(|tag| tag.starts_with(OWN));
        let mark = |mark: &str| own.iter().any(|tag| tag == mark);
        if let Some(other) = own.iter().find(|tag| ![BY_FILE, JUNK, DISTRACTOR].contains(&&***tag)) {
            return Err(other.clone());
        }
        let identity = match subject {
            Some(name) if mark(BY_FILE) => Identity::by_file(&name),
            Some(name) => Identity::given(&name),
            None if mark(JUNK) => Identity::Junk,
            None if mark(DISTRACTOR) => Identity::Distractor,
            None => Identity::Unnamed,
        };
        let stamp = size.zip(modified);
        let stamp =
            stamp.map(|(size, modified)| Stamp { size: size.cast_unsigned(), modified: modified.cast_unsigned() });
        Ok(Template {
            path: picture.unwrap_or_default().into(),
            others: others.into_iter().map(PathBuf::from).collect(),
            missing,
            identity,
            camera,
            taken,
            tags,
            stamp,
        })
    }
}
