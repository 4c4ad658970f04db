//! Embeddings on disk: a folder of `embeddings.npy`, `rows.jsonl` and `embeddings.json`, pinned to the contract id of the
//! model that made it. No ONNX Runtime here.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use contract::InputSpec;
use datasets::Sample;
use datasets::paired::Pair;
use files::npy::{self, Array};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::DeployError;

/// File of the values.
pub const VALUES: &str = "embeddings.npy";

/// File of the rows, a JSON object a line.
pub const ROWS: &str = "rows.jsonl";

/// File of the facts; written last, so that a folder without it is incomplete.
pub const FACTS: &str = "embeddings.json";

/// Version of the folder's layout.
const VERSION: u32 = 1;

/// Identities from here on are hashes of folder names, smaller ones are numbers in file names.
const FOLDER_IDENTITY: i64 = 1 << 52;

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

/// The pictures of files and folders, in the order given and natural order within.
///
/// # Errors
/// If one does not exist or holds no picture.
pub fn list(places: &[PathBuf]) -> Result<Vec<Picture>, DeployError> {
    let mut pictures = Vec::new();
    for place in places {
        if !place.exists() {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(DeployError::Read { path: place.clone(), source });
        }
        pictures.extend(datasets::list_pictures(place)?.into_iter().map(Picture::from));
    }
    Ok(pictures)
}

/// Rows of pairs, whose classes are named by `classes`.
pub fn of_pairs<'a>(pairs: impl Iterator<Item = &'a Pair>, classes: &[String]) -> Vec<Picture> {
    let row = |pair: &Pair| Picture {
        path: pair.palm.clone(),
        others: vec![pair.vein.clone()],
        missing: vec![],
        identity: datasets::number_of(classes[pair.class].as_ref()),
        identity_name: classes[pair.class].clone(),
        camera: i64::from(pair.session) - 1,
    };
    pairs.map(row).collect()
}

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

    /// The rows as a matrix of the metrics.
    ///
    /// # Errors
    /// If the values do not make whole rows.
    pub fn matrix(&self) -> Result<metrics::Matrix, DeployError> {
        Ok(metrics::Matrix::new(self.values.clone(), self.pictures.len(), self.dim)?)
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

/// A path that is no Unicode keeps its row; it only cannot be opened again.
pub(crate) fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Which identities of a probe set and a gallery really say who somebody is.
#[derive(Debug)]
pub struct Identities {
    gallery: BTreeMap<i64, usize>,
    folders: usize,
}

impl Identities {
    /// Looks at the gallery.
    pub fn of(gallery: &[Picture]) -> Self {
        let mut count = BTreeMap::new();
        for picture in gallery {
            *count.entry(picture.identity).or_default() += 1;
        }
        let folders = count.range(FOLDER_IDENTITY..).count();
        Self { gallery: count, folders }
    }

    /// Whether a match is right; `None` where either identity is not known.
    pub fn right(&self, probe: &Picture, entry: &Picture) -> Option<bool> {
        let nobody = entry.identity == datasets::JUNK || (entry.named_by_folder() && self.folders < 2);
        (self.known(probe) && !nobody).then_some(probe.identity == entry.identity)
    }

    /// Whether the probe's identity is known. The name of a folder is an identity only where the gallery is laid out in
    /// several folders and the probe's is one of them.
    pub fn known(&self, probe: &Picture) -> bool {
        match probe.identity {
            datasets::JUNK => false,
            identity if identity >= FOLDER_IDENTITY => self.folders > 1 && self.gallery.contains_key(&identity),
            // 0 is a distractor: somebody, but nobody in particular.
            identity => identity > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(identity: i64) -> Picture {
        let (others, missing) = (vec![], vec![]);
        Picture { path: "p.jpg".into(), others, missing, identity, identity_name: String::new(), camera: 0 }
    }

    #[test]
    fn right_wrong_and_unknown() {
        let folder = |n: i64| picture(FOLDER_IDENTITY + n);
        let numbered = Identities::of(&[picture(1), picture(2), picture(0), picture(-1)]);
        assert_eq!(numbered.right(&picture(1), &picture(1)), Some(true));
        assert_eq!(numbered.right(&picture(1), &picture(2)), Some(false));
        assert_eq!(numbered.right(&picture(1), &picture(0)), Some(false), "distractors are wrong");
        assert_eq!(numbered.right(&picture(9), &picture(1)), Some(false), "somebody who is not enrolled");
        assert_eq!(numbered.right(&picture(1), &picture(-1)), None, "junk");
        assert_eq!(numbered.right(&folder(1), &picture(1)), None, "a folder of snapshots");
        let folders = Identities::of(&[folder(1), folder(2)]);
        assert_eq!(folders.right(&folder(1), &folder(1)), Some(true));
        assert_eq!(folders.right(&folder(1), &folder(2)), Some(false));
        assert_eq!(folders.right(&folder(3), &folder(2)), None);
        let flat = Identities::of(&[folder(1), folder(1)]);
        assert_eq!(flat.right(&picture(1), &folder(1)), None, "one flat folder names nobody");
        assert_eq!(flat.right(&folder(1), &folder(1)), None, "nor does it when the probes lie there too");
    }
}
