//! Embeddings on disk: a folder of `embeddings.npy`, `rows.jsonl` and `embeddings.json`, pinned to the contract id of the
//! model that made it. No ONNX Runtime here.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use files::npy::{self, Array};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::DeployError;
use crate::pictures::{Picture, lossy};

/// File of the values.
pub const VALUES: &str = "embeddings.npy";

/// File of the rows, a JSON object a line.
pub const ROWS: &str = "rows.jsonl";

/// File of the facts; written last, so that a folder without it is incomplete.
pub const FACTS: &str = "embeddings.json";

/// Version of the folder's layout.
const VERSION: u32 = 1;

/// What an embeddings folder says about itself.
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
    /// Pictures that could not be used.
    pub skipped: usize,
    /// Working folder when the rows were made; relative paths of rows start there.
    #[serde(serialize_with = "lossy")]
    pub folder: PathBuf,
    /// Program and version.
    pub made_by: String,
}

/// Rows of unit length and the pictures they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// `[rows, dim]`, row-major, L2 norm 1.
    pub values: Vec<f32>,
    /// Values per row.
    pub dim: usize,
    /// The picture of each row.
    pub pictures: Vec<Picture>,
}

impl Embeddings {
    /// Values of a row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dim..][..self.dim]
    }

    /// All rows, borrowed.
    ///
    /// # Errors
    /// If the values do not make whole rows.
    pub fn view(&self) -> Result<metrics::Rows<'_>, DeployError> {
        Ok(metrics::Rows::new(&self.values, self.pictures.len(), self.dim)?)
    }
}

/// Whether the folder holds embeddings and not pictures.
pub fn is_embeddings(folder: &Path) -> bool {
    folder.join(FACTS).is_file() || folder.join(VALUES).is_file()
}

/// Reads an embeddings folder made with the model of `contract_id`.
///
/// # Errors
/// If a file is missing or damaged, the files do not belong together, a value is not finite, or the rows were made by
/// another model, `model` being the one they are wanted for.
pub fn open(folder: &Path, model: &Path, contract_id: &str, dim: usize) -> Result<(Embeddings, Facts), DeployError> {
    let read = |name: &str| {
        let path = folder.join(name);
        std::fs::read(&path).map_err(|source| DeployError::Read { path, source })
    };
    let damaged = |problem: String| DeployError::Embeddings { path: folder.to_owned(), problem };
    let json = |name: &str, source| DeployError::Json { path: folder.join(name), source };
    let facts: Facts = serde_json::from_slice(&read(FACTS)?).map_err(|source| json(FACTS, source))?;
    if facts.version != VERSION {
        return Err(damaged(format!("layout version {}, this program reads {VERSION}", facts.version)));
    }
    if facts.contract_id != contract_id {
        return Err(DeployError::OtherModel {
            path: folder.to_owned(),
            gallery: facts.contract_id,
            model: contract_id.to_owned(),
            model_path: model.to_owned(),
        });
    }
    let (values, rows, found) = Array::decode(&read(VALUES)?)
        .and_then(Array::into_matrix)
        .map_err(|problem| damaged(format!("{VALUES}: {problem}")))?;
    if found != dim || facts.dim != dim || facts.rows != rows {
        let stated = format!("[{}, {}]", facts.rows, facts.dim);
        return Err(damaged(format!(
            "{VALUES} has shape [{rows}, {found}], {FACTS} says {stated}, the model's rows have {dim} values"
        )));
    }
    let lines = read(ROWS)?;
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let pictures: Vec<Picture> =
        lines.map(serde_json::from_slice).collect::<Result<_, _>>().map_err(|source| json(ROWS, source))?;
    if pictures.len() != rows {
        return Err(damaged(format!("{ROWS} has {} lines for {rows} rows", pictures.len())));
    }
    for (row, values) in values.chunks_exact(dim).enumerate() {
        let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        // 0 is what a picture without features gives.
        if length.is_nan() || ((length - 1.0).abs() > 1e-3 && length != 0.0) {
            return Err(damaged(format!("row {row} of {VALUES} has length {length}, unit length is needed")));
        }
    }
    Ok((Embeddings { values, dim, pictures }, facts))
}

/// Writes an embeddings folder row by row; nothing shows in the folder before [`Writer::finish`].
pub struct Writer {
    folder: PathBuf,
    values: npy::Writer<BufWriter<NamedTempFile>>,
    rows: BufWriter<NamedTempFile>,
    count: usize,
    dim: usize,
}

impl Writer {
    /// Starts a folder of rows of `dim` values.
    ///
    /// # Errors
    /// If the folder cannot be made or written to.
    pub fn create(folder: &Path, dim: usize) -> Result<Self, DeployError> {
        let failed = |source| DeployError::Write { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let temporary =
            || tempfile::Builder::new().prefix(".vitrine-").suffix(".tmp").tempfile_in(folder).map(BufWriter::new);
        let values = temporary().and_then(|file| npy::Writer::new(file, dim)).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), values, rows: temporary().map_err(failed)?, count: 0, dim })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn row(&mut self, picture: &Picture, values: &[f32]) -> Result<(), DeployError> {
        let line = serde_json::to_string(picture).map_err(std::io::Error::from);
        let written = line.and_then(|line| writeln!(self.rows, "{line}")).and_then(|()| self.values.row(values));
        self.count += 1;
        written.map_err(|source| DeployError::Write { path: self.folder.clone(), source })
    }

    /// Puts the files in place; `facts` without rows and dim, which are known here.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn finish(self, facts: Facts) -> Result<Facts, DeployError> {
        let Self { folder, values, rows, count, dim } = self;
        let failed = |source| DeployError::Write { path: folder.clone(), source };
        let persist = |file: BufWriter<NamedTempFile>, name: &str| -> std::io::Result<()> {
            let file = file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
            }
            file.as_file().sync_all()?;
            file.persist(folder.join(name)).map_err(|error| error.error)?;
            Ok(())
        };
        let values = values.finish().map_err(failed)?;
        // Without its facts the folder is incomplete, so old facts never describe new rows.
        match std::fs::remove_file(folder.join(FACTS)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        persist(values, VALUES).and_then(|()| persist(rows, ROWS)).map_err(failed)?;
        let facts = Facts { version: VERSION, rows: count, dim, ..facts };
        let text = serde_json::to_string_pretty(&facts).map_err(|error| failed(error.into()))?;
        files::write(&folder.join(FACTS), text + "\n")?;
        Ok(facts)
    }
}
