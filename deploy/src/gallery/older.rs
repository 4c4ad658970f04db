//! Embeddings on disk: a folder of `embeddings.npy`, `rows.jsonl` and `embeddings.json`, pinned to the contract id of
//! the model that made it. No ONNX Runtime here.
//!
//! `embeddings.json` holds the SHA-256 of the other two files and is replaced by one rename: that rename is the change.
//! A new state is written as `embeddings.npy.new` and `rows.jsonl.new` before it, and these take the places of the old
//! files after it. [`open`] takes the files that `embeddings.json` describes, under either name, so that readers need
//! no lock and a crash leaves the old state or the new one. Who changes a gallery holds its lock ([`Exclusive`]) from
//! reading to the rename.

mod template;
mod writer;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use files::npy::Array;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use template::{Stamp, Template};
pub use writer::{Exclusive, Writer};

use crate::DeployError;
use crate::pictures::lossy;

/// File of the values.
pub const VALUES: &str = "embeddings.npy";

/// File of the rows, a JSON object a line.
pub const ROWS: &str = "rows.jsonl";

/// File of the facts.
pub const FACTS: &str = "embeddings.json";

/// Version of the folder's layout.
const VERSION: u32 = 1;

/// Metadata of an embeddings folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of the layout.
    pub version: u32,
    /// Contract id of the model.
    pub contract_id: String,
    /// Network of the model.
    pub architecture: String,
    /// SHA-256 of the model file.
    pub model_sha256: String,
    /// Values per row.
    pub dim: usize,
    /// Rows.
    pub rows: usize,
    /// Grows by one with every change, so that a reader notices a change back to what was there before.
    #[serde(default)]
    pub generation: u64,
    /// SHA-256 of the values' and the rows' files; galleries made before it was stored have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Checksums>,
    /// Pictures that could not be used.
    pub skipped: usize,
    /// Working folder when the rows were made; relative paths of rows start there.
    #[serde(serialize_with = "lossy")]
    pub folder: PathBuf,
    /// Program and version.
    pub made_by: String,
}

/// SHA-256 of the files of a gallery, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checksums {
    /// Of [`VALUES`].
    pub values: String,
    /// Of [`ROWS`].
    pub rows: String,
}

/// Rows of unit length, with metadata for each.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `[rows, dim]`, row-major, L2 norm 1.
    pub values: Vec<f32>,
    /// Values per row.
    pub dim: usize,
    /// Metadata of each row.
    pub templates: Vec<Template>,
    /// Where relative paths of the templates start; empty for the working folder.
    pub folder: PathBuf,
}

impl Embeddings {
    /// Values of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..][..self.dim]
    }

    /// Full path of a file that a template names.
    pub fn file(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// All rows, borrowed.
    ///
    /// # Errors
    /// If the values do not make whole rows.
    pub fn view(&self) -> Result<metrics::Rows<'_>, DeployError> {
        Ok(metrics::Rows::new(&self.values, self.templates.len(), self.dim)?)
    }
}

/// Whether the folder holds embeddings and not pictures.
pub fn is_embeddings(folder: &Path) -> bool {
    folder.join(FACTS).is_file() || folder.join(VALUES).is_file()
}

/// Reads a gallery made with the model of `contract_id`. It may be read while another process changes it: the state
/// before the change or the one after it is returned.
///
/// # Errors
/// If a file is missing or damaged, the files do not belong together, a value is not finite, or the rows were made by
/// another model than `model`.
pub fn open(folder: &Path, model: &Path, contract_id: &str, dim: usize) -> Result<(Embeddings, Facts), DeployError> {
    read_if(folder, |facts| {
        if facts.contract_id != contract_id {
            return Err(DeployError::OtherModel {
                path: folder.to_owned(),
                gallery: facts.contract_id.clone(),
                model: contract_id.to_owned(),
                model_path: model.to_owned(),
            });
        }
        if facts.dim != dim {
            let problem = format!("{FACTS} says {} values a row, the model's rows have {dim}", facts.dim);
            return Err(DeployError::Embeddings { path: folder.to_owned(), problem });
        }
        Ok(())
    })
}

/// Reads a gallery of any model.
///
/// # Errors
/// As [`open`].
pub fn read(folder: &Path) -> Result<(Embeddings, Facts), DeployError> {
    read_if(folder, |_| Ok(()))
}

/// Reads the metadata of a gallery.
///
/// # Errors
/// If the folder holds no gallery, or one of another layout.
pub fn facts(folder: &Path) -> Result<Facts, DeployError> {
    parse_facts(folder, &read_facts(folder)?)
}

/// Attempts of a reader; each failed one means that a writer finished in between.
const TRIES: usize = 100;

fn read_if(
    folder: &Path,
    check: impl Fn(&Facts) -> Result<(), DeployError>,
) -> Result<(Embeddings, Facts), DeployError> {
    let mut bytes = read_facts(folder)?;
    for _ in 0..TRIES {
        let facts = parse_facts(folder, &bytes)?;
        check(&facts)?;
        let state = read_state(folder, &facts);
        let now = read_facts(folder)?;
        if now == bytes {
            return state.map(|embeddings| (embeddings, facts));
        }
        bytes = now;
    }
    let problem = format!("it changed {TRIES} times while it was read");
    Err(DeployError::Embeddings { path: folder.to_owned(), problem })
}

/// Largest [`FACTS`] in bytes.
const LARGEST_FACTS: u64 = 1 << 20;

fn read_facts(folder: &Path) -> Result<Vec<u8>, DeployError> {
    let path = folder.join(FACTS);
    files::read_limited(&path, LARGEST_FACTS).map_err(|source| DeployError::Read { path, source })
}

fn parse_facts(folder: &Path, bytes: &[u8]) -> Result<Facts, DeployError> {
    let facts: Facts =
        serde_json::from_slice(bytes).map_err(|source| DeployError::Json { path: folder.join(FACTS), source })?;
    if facts.version != VERSION {
        let problem = format!("layout version {}, this program reads {VERSION}", facts.version);
        return Err(DeployError::Embeddings { path: folder.to_owned(), problem });
    }
    Ok(facts)
}

/// The state that the facts describe.
fn read_state(folder: &Path, facts: &Facts) -> Result<Embeddings, DeployError> {
    let damaged = |problem: String| DeployError::Embeddings { path: folder.to_owned(), problem };
    let sums = facts.sha256.as_ref();
    let (values, rows, dim) = Array::decode(&read_file(folder, VALUES, sums.map(|sums| &sums.values))?)
        .and_then(Array::into_matrix)
        .map_err(|problem| damaged(format!("{VALUES}: {problem}")))?;
    if facts.dim != dim || facts.rows != rows {
        let stated = format!("[{}, {}]", facts.rows, facts.dim);
        return Err(damaged(format!("{VALUES} has shape [{rows}, {dim}], {FACTS} says {stated}")));
    }
    let lines = read_file(folder, ROWS, sums.map(|sums| &sums.rows))?;
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let json = |source| DeployError::Json { path: folder.join(ROWS), source };
    let templates: Vec<Template> = lines.map(serde_json::from_slice).collect::<Result<_, _>>().map_err(json)?;
    if templates.len() != rows {
        return Err(damaged(format!("{ROWS} has {} lines for {rows} rows", templates.len())));
    }
    for (row, values) in values.chunks_exact(dim.max(1)).enumerate() {
        let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        // 0 is what older versions stored for a picture without features.
        if length.is_nan() || ((length - 1.0).abs() > 1e-3 && length != 0.0) {
            return Err(damaged(format!("row {row} of {VALUES} has length {length}, unit length is needed")));
        }
    }
    Ok(Embeddings { values, dim, templates, folder: facts.folder.clone() })
}

/// Name of a new file until the facts are renamed.
fn pending(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.new"))
}

/// The content with this `sha256`, from the pending file or else from the file in place. In this order, since a writer
/// may rename the pending one in between.
fn read_file(folder: &Path, name: &str, sha256: Option<&String>) -> Result<Vec<u8>, DeployError> {
    let Some(sha256) = sha256 else {
        let path = folder.join(name);
        return files::read_limited(&path, files::LARGEST_ARRAY).map_err(|source| DeployError::Read { path, source });
    };
    for path in [pending(folder, name), folder.join(name)] {
        match files::read_limited(&path, files::LARGEST_ARRAY) {
            Ok(bytes) if hex::encode(Sha256::digest(&bytes)) == *sha256 => return Ok(bytes),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(source) => return Err(DeployError::Read { path, source }),
        }
    }
    let path = folder.join(name);
    if !path.exists() {
        return Err(DeployError::Read { path, source: ErrorKind::NotFound.into() });
    }
    let problem = format!("{name} is damaged or was replaced: its SHA-256 is not the one in {FACTS}");
    Err(DeployError::Embeddings { path: folder.to_owned(), problem })
}
