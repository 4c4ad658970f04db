//! Embeddings of any view and their poses to embeddings of the frontal view, by a model that `export` made of a SENet.

use std::path::Path;

use files::npy::Array;
use serde::Deserialize;

use crate::DeployError;
use crate::gallery::Embeddings;
use crate::pictures::Picture;
use crate::runtime::Model;

/// Inputs and output of such a model, by name.
const FEATURES: &str = "features";
const POSE: &str = "pose";
const FRONT: &str = "front_features";

/// What such a model does.
const TASK: &str = "turn embeddings into frontal ones, as an exported SENet does";

/// Rows in the network at a time.
const BATCH: usize = 256;

/// A model that frontalises embeddings.
#[derive(Debug)]
pub struct Frontalizer<'a> {
    model: &'a Model,
    dim: usize,
    angles: usize,
}

impl<'a> Frontalizer<'a> {
    /// Checks that the model takes features and pose and gives frontal features of the same width.
    ///
    /// # Errors
    /// If it does something else.
    pub fn new(model: &'a Model) -> Result<Self, DeployError> {
        let lacks = |problem: String| model.lacks(TASK, problem);
        let [features, pose] = model.contract.input.as_slice() else {
            return Err(lacks(format!("it has {} inputs", model.contract.input.len())));
        };
        for (spec, name) in [(features, FEATURES), (pose, POSE)] {
            if spec.name != name {
                return Err(lacks(format!("an input is called `{}`, `{name}` is needed", spec.name)));
            }
        }
        let width = |row: Option<Vec<usize>>, what: &str| match row.as_deref() {
            Some([width]) if *width > 0 => Ok(*width),
            _ => Err(lacks(format!("`{what}` is no vector of a fixed width"))),
        };
        let (dim, angles) = (width(features.row(), FEATURES)?, width(pose.row(), POSE)?);
        if !model.contract.output.iter().any(|output| output.name == FRONT) {
            return Err(lacks(format!("it has no output `{FRONT}`")));
        }
        Ok(Self { model, dim, angles })
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Angles of a pose.
    pub fn angles(&self) -> usize {
        self.angles
    }

    /// The frontal embeddings, each of unit length.
    ///
    /// # Shapes
    /// - `features`: `[rows, dim]`
    /// - `poses`: `[rows, angles]`, in degrees
    /// - returns: `[rows, dim]`
    ///
    /// # Errors
    /// If a length does not fit, a value is not finite, or the model cannot be run.
    pub fn apply(&self, features: &[f32], poses: &[f32]) -> Result<Vec<f32>, DeployError> {
        let rows = features.len() / self.dim;
        for (found, needed) in [(features.len(), rows * self.dim), (poses.len(), rows * self.angles)] {
            if found != needed {
                return Err(DeployError::Batch { rows, found, needed });
            }
        }
        let mut frontal = Vec::with_capacity(features.len());
        for (features, poses) in features.chunks(BATCH * self.dim).zip(poses.chunks(BATCH * self.angles)) {
            let rows = features.len() / self.dim;
            let mut outputs = self.model.run(&[features, poses], rows, Some(FRONT))?;
            let values = outputs.remove(FRONT).map(|(_, values)| values).unwrap_or_default();
            if values.len() != features.len() {
                return Err(DeployError::Batch { rows, found: values.len(), needed: features.len() });
            }
            for row in values.chunks_exact(self.dim) {
                let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
                if !length.is_finite() {
                    return Err(DeployError::NotFinite { path: self.model.path.clone() });
                }
                frontal.extend(row.iter().map(|value| (f64::from(*value) / length.max(1e-12)) as f32));
            }
        }
        Ok(frontal)
    }

    /// [`Frontalizer::apply`] on embedded pictures, whose poses are found by path or by place in `pictures`, the list they were
    /// embedded from.
    ///
    /// # Errors
    /// As [`Frontalizer::apply`]; embeddings of another width; a picture without a pose.
    pub fn apply_to(
        &self,
        embeddings: &mut Embeddings,
        pictures: &[Picture],
        poses: &Poses,
    ) -> Result<(), DeployError> {
        if embeddings.dim != self.dim {
            let problem = format!("it takes embeddings of {} values, the embedder gives {}", self.dim, embeddings.dim);
            return Err(self.model.lacks(TASK, problem));
        }
        let mut place = pictures.iter().enumerate();
        let mut of_each = Vec::with_capacity(embeddings.pictures.len() * self.angles);
        for picture in &embeddings.pictures {
            // Unusable pictures are left out, the order stays.
            let at = place.find(|(_, listed)| listed.path == picture.path).map(|(at, _)| at);
            of_each.extend_from_slice(poses.of(&picture.path, at, pictures.len())?);
        }
        embeddings.values = self.apply(&embeddings.values, &of_each)?;
        Ok(())
    }
}

/// Poses of pictures, by path or by place.
#[derive(Debug, Clone, PartialEq)]
pub struct Poses {
    path: std::path::PathBuf,
    rows: Vec<Row>,
}

/// The picture, where rows name theirs, and its angles.
type Row = (Option<String>, Vec<f32>);

/// A line of a JSON Lines file of poses.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    pose: Option<Vec<f32>>,
    #[serde(default)]
    yaw: Option<f32>,
    #[serde(default)]
    pitch: Option<f32>,
    #[serde(default)]
    roll: Option<f32>,
}

/// What is read of a face set's metadata.
#[derive(Deserialize)]
struct Metadata {
    poses: Vec<Vec<f32>>,
}

impl Poses {
    /// Reads poses of `angles` angles in degrees: `.npy` (float32 or float64 `[rows, angles]`), `.csv` (a header with an optional
    /// `path` and a column for each angle), `.jsonl` (`{"path": …, "pose": […]}`, or yaw, pitch and roll), or the `.json` of a face set.
    ///
    /// # Errors
    /// A file that cannot be read, is of another kind, or has a pose of another width or with a value that is not finite.
    pub fn read(path: &Path, angles: usize) -> Result<Self, DeployError> {
        let wrong = |problem: String| DeployError::Poses { path: path.to_owned(), problem };
        let bytes = std::fs::read(path).map_err(|source| DeployError::Read { path: path.to_owned(), source })?;
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default().to_ascii_lowercase();
        let rows: Vec<Row> = match kind.as_str() {
            "npy" => {
                let (shape, values) = Array::decode(&bytes).map_err(|error| wrong(error.to_string()))?.into_f64();
                if shape.len() != 2 || shape[1] != angles {
                    return Err(wrong(format!("shape {shape:?}; [rows, {angles}] is needed")));
                }
                let row = |row: &[f64]| (None, row.iter().map(|value| *value as f32).collect());
                values.chunks_exact(angles).map(row).collect()
            }
            "csv" => from_csv(&bytes, angles).map_err(wrong)?,
            "jsonl" => {
                let lines =
                    bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
                let row = |(at, line): (usize, &[u8])| -> Result<_, DeployError> {
                    let line: Line =
                        serde_json::from_slice(line).map_err(|error| wrong(format!("line {}: {error}", at + 1)))?;
                    let named = || [line.yaw, line.pitch, line.roll].into_iter().collect::<Option<Vec<f32>>>();
                    let lacks = || wrong(format!("line {} has neither `pose` nor `yaw`, `pitch` and `roll`", at + 1));
                    Ok((line.path.clone(), line.pose.clone().or_else(named).ok_or_else(lacks)?))
                };
                lines.map(row).collect::<Result<_, _>>()?
            }
            "json" => {
                let metadata: Metadata = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
                metadata.poses.into_iter().map(|pose| (None, pose)).collect()
            }
            _ => return Err(wrong("a .npy, .csv, .jsonl or .json file is needed".into())),
        };
        for (at, (_, pose)) in rows.iter().enumerate() {
            if pose.len() != angles {
                return Err(wrong(format!("pose {at} has {} angles, {angles} are needed", pose.len())));
            }
            if !pose.iter().all(|angle| angle.is_finite()) {
                return Err(wrong(format!("pose {at} is not finite")));
            }
        }
        Ok(Self { path: path.to_owned(), rows })
    }

    /// All poses in their order, which must be those of `rows` rows.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub fn all(&self, rows: usize) -> Result<Vec<f32>, DeployError> {
        if self.rows.len() != rows {
            let problem = format!("{} poses for {rows} embeddings", self.rows.len());
            return Err(DeployError::Poses { path: self.path.clone(), problem });
        }
        Ok(self.rows.iter().flat_map(|(_, pose)| pose.iter().copied()).collect())
    }

    /// The pose of a picture: the row that names it, or where rows name nothing, the one at its place among `count` pictures.
    fn of(&self, picture: &Path, place: Option<usize>, count: usize) -> Result<&[f32], DeployError> {
        let wrong = |problem: String| DeployError::Poses { path: self.path.clone(), problem };
        if self.rows.iter().any(|(path, _)| path.is_some()) {
            let named = |path: &str| Path::new(path) == picture || picture.ends_with(path);
            let found = self.rows.iter().find(|(path, _)| path.as_deref().is_some_and(named));
            return found
                .map(|(_, pose)| pose.as_slice())
                .ok_or_else(|| wrong(format!("no pose for `{}`", picture.display())));
        }
        if self.rows.len() != count {
            return Err(wrong(format!("{} poses for {count} pictures", self.rows.len())));
        }
        let place = place.ok_or_else(|| wrong(format!("no pose for `{}`", picture.display())))?;
        Ok(&self.rows[place].1)
    }
}

/// A header that names the columns, then rows; no quotes.
fn from_csv(bytes: &[u8], angles: usize) -> Result<Vec<Row>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let header: Vec<&str> = lines.next().map(|(_, line)| line.split(',').map(str::trim).collect()).unwrap_or_default();
    let path = header.iter().position(|name| *name == "path");
    let columns: Vec<usize> = (0..header.len()).filter(|column| Some(*column) != path).collect();
    if columns.len() != angles {
        return Err(format!("its header has {} columns besides `path`, {angles} are needed", columns.len()));
    }
    if header.iter().any(|name| name.parse::<f32>().is_ok()) {
        return Err("its first line has numbers; a header such as path,yaw,pitch,roll is needed".into());
    }
    let row = |(at, line): (usize, &str)| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if fields.len() != header.len() {
            return Err(format!("line {} has {} fields, the header {}", at + 1, fields.len(), header.len()));
        }
        let number = |column: &usize| {
            fields[*column].parse().map_err(|_| format!("line {}: `{}` is no number", at + 1, fields[*column]))
        };
        Ok((path.map(|column| fields[column].to_owned()), columns.iter().map(number).collect::<Result<_, _>>()?))
    };
    lines.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, bytes: &[u8]) -> Result<Poses, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Poses::read(&path, 3).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_gives_the_same_poses() {
        let values = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0];
        let npy = files::npy::encode(&[2, 3], &values);
        let wide = files::npy::encode(&[2, 3], &values.map(f64::from));
        for (name, bytes) in [
            ("a.npy", npy.as_slice()),
            ("b.npy", wide.as_slice()),
            ("c.csv", b"yaw,pitch,roll\n1,2,3\n\n4,5,6\n"),
            ("d.jsonl", b"{\"pose\": [1, 2, 3]}\n{\"yaw\": 4, \"pitch\": 5, \"roll\": 6}\n"),
            ("e.json", b"{\"metadata\": [], \"poses\": [[1, 2, 3], [4, 5, 6]]}"),
        ] {
            let poses = read(name, bytes).unwrap();
            assert_eq!(poses.all(2).unwrap(), values, "{name}");
            assert_eq!(poses.of(Path::new("x.jpg"), Some(1), 2).unwrap(), [4.0, 5.0, 6.0], "{name}");
            assert!(poses.all(3).unwrap_err().to_string().contains("2 poses for 3"), "{name}");
        }
        let named = read("f.csv", b"path,yaw,pitch,roll\na/x.jpg,1,2,3\na/y.jpg,4,5,6\n").unwrap();
        assert_eq!(named.of(Path::new("set/a/y.jpg"), Some(0), 9).unwrap(), [4.0, 5.0, 6.0]);
        assert!(named.of(Path::new("a/z.jpg"), Some(0), 2).unwrap_err().to_string().contains("a/z.jpg"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, bytes, word) in [
            ("a.npy", files::npy::encode(&[3, 2], &[0.0f32; 6]), "[rows, 3]"),
            ("b.npy", b"PK".to_vec(), "not a .npy"),
            ("c.csv", b"1,2,3\n4,5,6\n".to_vec(), "header"),
            ("d.csv", b"yaw,pitch\n1,2\n".to_vec(), "2 columns"),
            ("e.csv", b"yaw,pitch,roll\n1,2\n".to_vec(), "line 2 has 2 fields"),
            ("f.csv", b"yaw,pitch,roll\n1,2,x\n".to_vec(), "`x` is no number"),
            ("g.csv", b"yaw,pitch,roll\n1,2,inf\n".to_vec(), "not finite"),
            ("h.jsonl", b"{\"yaw\": 1}\n".to_vec(), "neither `pose`"),
            ("i.jsonl", b"{\"pose\": [1]}\n".to_vec(), "1 angles"),
            ("j.txt", b"".to_vec(), ".npy, .csv"),
        ] {
            let error = read(name, &bytes).unwrap_err();
            assert!(error.contains(word) && error.contains(name), "{name}: {error}");
        }
    }
}
