//! The older layout, which is only read: a folder of `embeddings.npy`, `rows.jsonl` and `embeddings.json`.
//!
//! `embeddings.json` holds the SHA-256 of the other two files. A change of it was one rename: the new state was written
//! as `embeddings.npy.new` and `rows.jsonl.new` before, and these took the places of the old files after it. A program
//! that crashed may have left either.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use ::gallery::Model;
use files::npy::{Array, Writer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{About, BATCH, Embeddings, Gallery, Template, streamed};
use crate::DeployError;
use crate::pictures::lossy;

/// File of the values.
pub const VALUES: &str = "embeddings.npy";

/// File of the rows, a JSON object a line.
pub const ROWS: &str = "rows.jsonl";

/// File of the facts.
const FACTS: &str = "embeddings.json";

/// Version of the folder's layout.
const VERSION: u32 = 1;

/// What [`FACTS`] says.
#[derive(Debug, Serialize, Deserialize)]
struct Facts {
    version: u32,
    contract_id: String,
    architecture: String,
    model_sha256: String,
    dim: usize,
    rows: usize,
    #[serde(default)]
    sha256: Option<Checksums>,
    skipped: usize,
    #[serde(serialize_with = "lossy")]
    folder: PathBuf,
    made_by: String,
}

/// SHA-256 of the files, in hexadecimal.
#[derive(Debug, Serialize, Deserialize)]
struct Checksums {
    values: String,
    rows: String,
}

/// Whether the folder holds a gallery of the older layout, which counts until it is removed.
pub fn is_at(folder: &Path) -> bool {
    folder.join(FACTS).is_file() || (folder.join(VALUES).is_file() && !::gallery::Store::is_at(folder))
}

/// Removes it, the file that makes it a gallery first.
pub fn remove(folder: &Path) -> Result<(), DeployError> {
    let pending = [FACTS, VALUES, ROWS].map(|name| pending(folder, name));
    for path in [FACTS, VALUES, ROWS].map(|name| folder.join(name)).into_iter().chain(pending) {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(DeployError::Write { path, source }),
            _ => {}
        }
    }
    Ok(())
}

/// Attempts of a reader; each failed one means that a writer finished in between.
const TRIES: usize = 100;

/// Writes a gallery in this layout, which numpy and other programs read, in a new or an empty folder.
///
/// # Errors
/// If there is anything in the folder, or it cannot be written to.
pub fn write(folder: &Path, gallery: &Gallery) -> Result<(), DeployError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DeployError::Write { path, source }
    };
    files::make_folder(folder).map_err(failed(folder))?;
    if std::fs::read_dir(folder).map_err(failed(folder))?.next().is_some() {
        return Err(DeployError::NotEmpty { path: folder.to_owned() });
    }
    let (rows, model) = (gallery.rows()?, gallery.model());
    let values = folder.join(VALUES);
    streamed(&values, |out| {
        let mut writer = Writer::new(out, model.dim).map_err(failed(&values))?;
        for rows in rows.chunks(BATCH) {
            for row in gallery.vectors(rows)?.chunks_exact(model.dim) {
                writer.row(row).map_err(failed(&values))?;
            }
        }
        writer.finish().map(drop).map_err(failed(&values))
    })?;
    write_lines(&folder.join(ROWS), gallery, &rows)?;
    let sum = |name| {
        let path = folder.join(name);
        files::sha256(&path).map(|(sum, _)| sum).map_err(|source| DeployError::Read { path, source })
    };
    let facts = Facts {
        version: VERSION,
        contract_id: model.contract_id.clone(),
        architecture: model.architecture.clone(),
        model_sha256: model.sha256.clone(),
        dim: model.dim,
        rows: rows.len(),
        sha256: Some(Checksums { values: sum(VALUES)?, rows: sum(ROWS)? }),
        skipped: gallery.about().skipped,
        folder: gallery.about().folder.clone(),
        made_by: format!("deploy {}", env!("CARGO_PKG_VERSION")),
    };
    let facts = serde_json::to_string_pretty(&facts)
        .map_err(|source| DeployError::Json { path: folder.join(FACTS), source })?;
    Ok(files::write_private(&folder.join(FACTS), facts + "\n")?)
}

/// Writes what is said about rows, a line of JSON for each.
///
/// # Errors
/// If the gallery cannot be read, or the file cannot be written; it is then as it was.
pub fn write_lines(path: &Path, gallery: &Gallery, rows: &[usize]) -> Result<(), DeployError> {
    streamed(path, |out| {
        for rows in rows.chunks(BATCH) {
            for template in gallery.templates(rows)? {
                serde_json::to_writer(&mut *out, &template)
                    .map_err(|source| DeployError::Json { path: path.to_owned(), source })?;
                out.write_all(b"\n").map_err(|source| DeployError::Write { path: path.to_owned(), source })?;
            }
        }
        Ok(())
    })
}

/// Reads it; `check` sees the model before the rows are read.
///
/// # Errors
/// If a file is missing or damaged, the files do not belong together, or a row is not of unit length.
pub(super) fn read(
    folder: &Path,
    check: impl Fn(&Model) -> Result<(), DeployError>,
) -> Result<(Embeddings, Model, About), DeployError> {
    let mut bytes = read_facts(folder)?;
    for _ in 0..TRIES {
        let facts = parse_facts(folder, &bytes)?;
        let model = Model {
            contract_id: facts.contract_id.clone(),
            dim: facts.dim,
            architecture: facts.architecture.clone(),
            sha256: facts.model_sha256.clone(),
        };
        check(&model)?;
        let state = read_state(folder, &facts);
        let now = read_facts(folder)?;
        if now == bytes {
            let about = About { folder: facts.folder, skipped: facts.skipped, ..About::default() };
            return state.map(|embeddings| (embeddings, model, about));
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
        let source = std::io::Error::new(ErrorKind::NotFound, "there is no file of this name");
        return Err(DeployError::Read { path, source });
    }
    let problem = format!("{name} is damaged or was replaced: its SHA-256 is not the one in {FACTS}");
    Err(DeployError::Embeddings { path: folder.to_owned(), problem })
}
