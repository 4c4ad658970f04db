//! Poses of pictures, read from tables and arrays.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use files::npy::Array;
use files::table::Table;
use serde::Deserialize;

use crate::DeployError;

/// Names of the angles of a pose, in the order of a model's input.
pub const ANGLES: [&str; 3] = ["yaw", "pitch", "roll"];

/// Largest angle, in degrees.
const MAX_ANGLE: f32 = 360.0;

/// Poses of pictures, by path or in the pictures' order.
#[derive(Debug, Clone, PartialEq)]
pub struct Poses {
    path: PathBuf,
    angles: usize,
    /// Row-major, in degrees.
    values: Vec<f32>,
    /// Row of each path, if the rows have paths.
    paths: Option<HashMap<PathBuf, usize>>,
}

/// A picture's path, if the row has one, and its angles.
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

/// The part of a face set's metadata that is read.
#[derive(Deserialize)]
struct Metadata {
    poses: Vec<Vec<f32>>,
}

impl Poses {
    /// Reads poses of `angles` angles in degrees: `.npy` (`[rows, angles]`), `.csv` (a header that names the columns
    /// `yaw`, `pitch`, `roll` and, if there, `path`, in any order), `.jsonl` (`{"path": …, "pose": […]}`, or yaw,
    /// pitch and roll), or the `.json` of a face set.
    ///
    /// # Errors
    /// A file that cannot be read, is of another kind, names a path twice or only in some rows, or has a pose of
    /// another width or with an angle beyond ±360.
    pub fn read(path: &Path, angles: usize) -> Result<Self, DeployError> {
        let wrong = |problem: String| DeployError::Poses { path: path.to_owned(), problem };
        let bytes = files::read_limited(path, files::LARGEST_TABLE);
        let bytes = bytes.map_err(|source| DeployError::Read { path: path.to_owned(), source })?;
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
        let named = rows.iter().filter(|(path, _)| path.is_some()).count();
        if named > 0 && named < rows.len() {
            return Err(wrong(format!("{named} of {} poses have a `path`; all or none must", rows.len())));
        }
        let mut poses = Self { path: path.to_owned(), angles, values: Vec::new(), paths: None };
        let mut paths = HashMap::with_capacity(named);
        for (at, (path, pose)) in rows.into_iter().enumerate() {
            if pose.len() != angles {
                return Err(wrong(format!("pose {at} has {} angles, {angles} are needed", pose.len())));
            }
            if let Some(angle) = pose.iter().find(|angle| !angle.is_finite() || angle.abs() > MAX_ANGLE) {
                let allowed = format!("finite degrees from -{MAX_ANGLE} to {MAX_ANGLE} are allowed");
                return Err(wrong(format!("pose {at} has the angle {angle}; {allowed}")));
            }
            if let Some(path) = path
                && let Some(before) = paths.insert(plain(Path::new(&path)), at)
            {
                return Err(wrong(format!("poses {before} and {at} are both of `{path}`")));
            }
            poses.values.extend(pose);
        }
        poses.paths = (named > 0).then_some(paths);
        Ok(poses)
    }

    /// Whether the rows have paths.
    pub fn are_named(&self) -> bool {
        self.paths.is_some()
    }

    /// Number of poses.
    fn count(&self) -> usize {
        self.values.len() / self.angles
    }

    fn wrong(&self, problem: String) -> DeployError {
        DeployError::Poses { path: self.path.clone(), problem }
    }

    /// One pose after the other.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks_exact(self.angles)
    }

    /// All poses in order, `[rows, angles]`; there must be `rows` of them.
    ///
    /// # Errors
    /// If there are more or fewer.
    pub fn all(&self, rows: usize) -> Result<&[f32], DeployError> {
        match self.count() == rows {
            true => Ok(&self.values),
            false => Err(self.wrong(format!("{} poses for {rows} embeddings", self.count()))),
        }
    }

    /// The pose of each picture, `[pictures, angles]`: the row that names the picture's path, or else the row
    /// that names the end of its path, or where rows name nothing, the row of the same index.
    ///
    /// # Errors
    /// If a picture has no pose or two, if two pictures would share one, or if the counts differ where rows name
    /// nothing.
    pub fn of<'a>(&self, pictures: impl ExactSizeIterator<Item = &'a Path>) -> Result<Vec<f32>, DeployError> {
        let Some(paths) = &self.paths else {
            return match self.count() == pictures.len() {
                true => Ok(self.values.clone()),
                false => Err(self.wrong(format!("{} poses for {} pictures", self.count(), pictures.len()))),
            };
        };
        let mut taken: HashMap<usize, &Path> = HashMap::new();
        let mut values = Vec::with_capacity(pictures.len() * self.angles);
        for path in pictures {
            let row = self.row(paths, path)?;
            if let Some(other) = taken.insert(row, path).filter(|other| *other != path) {
                let both = format!("`{}` and `{}`", other.display(), path.display());
                return Err(self.wrong(format!("pose {row} could be that of {both}: give longer paths")));
            }
            values.extend_from_slice(&self.values[row * self.angles..][..self.angles]);
        }
        Ok(values)
    }

    /// The row of `picture`. Only suffixes of its path are looked up, so the time does not depend on the number of
    /// rows.
    fn row(&self, paths: &HashMap<PathBuf, usize>, picture: &Path) -> Result<usize, DeployError> {
        let whole = plain(picture);
        if let Some(row) = paths.get(&whole) {
            return Ok(*row);
        }
        let parts: Vec<Component> = whole.components().collect();
        let ends = (1..parts.len()).filter_map(|from| paths.get(&parts[from..].iter().collect::<PathBuf>()));
        let mut rows: Vec<usize> = ends.copied().collect();
        rows.sort_unstable();
        match rows[..] {
            [row] => Ok(row),
            [] => Err(self.wrong(format!("no pose for `{}`", picture.display()))),
            [first, second, ..] => {
                let problem = format!("poses {first} and {second} could both be of `{}`", picture.display());
                Err(self.wrong(problem + ": give its whole path"))
            }
        }
    }
}

/// A path without `.`, and with slashes where a table from Windows has backslashes.
fn plain(path: &Path) -> PathBuf {
    let text = path.to_str().filter(|text| text.contains('\\')).map(|text| text.replace('\\', "/"));
    let path = text.as_deref().map_or(path, Path::new);
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// Columns by the names in the header. A pose of other than three angles has the columns `angle_1`, `angle_2` and so
/// on.
fn from_csv(bytes: &[u8], angles: usize) -> Result<Vec<Row>, String> {
    let table = Table::read(bytes).map_err(|error| error.to_string())?;
    if table.header().iter().any(|name| name.parse::<f32>().is_ok()) {
        return Err("its first line has numbers; a header such as path,yaw,pitch,roll is needed".into());
    }
    let named = |at: usize| match angles == ANGLES.len() {
        true => ANGLES[at].to_owned(),
        false => format!("angle_{}", at + 1),
    };
    let column = |name: String| {
        table.column(&name).ok_or_else(|| {
            let wanted: Vec<_> = (0..angles).map(named).collect();
            let found = table.header().join(", ");
            format!("its header ({found}) has no column `{name}`; {} and, if there, path are read", wanted.join(", "))
        })
    };
    let columns: Vec<usize> = (0..angles).map(|at| column(named(at))).collect::<Result<_, _>>()?;
    let path = table.column("path");
    let rows = table.rows().iter().map(|row| {
        let number = |column: &usize| {
            let text = &row.cells[*column];
            // Where a semicolon separates cells, the comma is the decimal sign.
            let number = text.parse().or_else(|_| text.replacen(',', ".", 1).parse());
            number.map_err(|_| format!("line {}: `{text}` is no number", row.line))
        };
        let path = path.map(|column| row.cells[column].clone());
        if path.as_ref().is_some_and(String::is_empty) {
            return Err(format!("line {} names no path", row.line));
        }
        Ok((path, columns.iter().map(number).collect::<Result<_, _>>()?))
    });
    rows.collect()
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

    fn pictures<'a>(paths: &'a [&str]) -> impl ExactSizeIterator<Item = &'a Path> {
        paths.iter().map(Path::new)
    }

    #[test]
    fn every_form_gives_the_same_poses() {
        let values = [1.0f32, 2.0, 3.0, 4.0, 5.0, 6.5];
        let npy = files::npy::encode(&[2, 3], &values);
        let wide = files::npy::encode(&[2, 3], &values.map(f64::from));
        for (name, bytes) in [
            ("a.npy", npy.as_slice()),
            ("b.npy", wide.as_slice()),
            ("c.csv", b"yaw,pitch,roll\n1,2,3\n\n4,5,6.5\n"),
            ("other_order.csv", b"roll,score,Pitch,yaw\n3,9,2,1\n6.5,9,5,4\n"),
            ("semicolons.csv", b"\xef\xbb\xbfyaw;pitch;roll\r\n1;2;3\r\n4;5;6,5\r\n"),
            ("d.jsonl", b"{\"pose\": [1, 2, 3]}\n{\"yaw\": 4, \"pitch\": 5, \"roll\": 6.5}\n"),
            ("e.json", b"{\"metadata\": [], \"poses\": [[1, 2, 3], [4, 5, 6.5]]}"),
        ] {
            let poses = read(name, bytes).unwrap();
            assert_eq!(poses.all(2).unwrap(), values, "{name}");
            assert_eq!(poses.of(pictures(&["x.jpg", "y.jpg"])).unwrap(), values, "{name}");
            assert!(poses.all(3).unwrap_err().to_string().contains("2 poses for 3"), "{name}");
            assert!(poses.of(pictures(&["x.jpg"])).unwrap_err().to_string().contains("2 poses for 1"), "{name}");
        }
    }

    #[test]
    fn the_exact_path_comes_first_and_what_is_ambiguous_is_refused() {
        let poses = |rows: &str| read("p.csv", format!("path,yaw,pitch,roll\n{rows}").as_bytes());
        let yaws = |rows: &str, paths: &[&str]| {
            let values = poses(rows).unwrap().of(pictures(paths)).map_err(|error| error.to_string())?;
            Ok::<_, String>(values.chunks(3).map(|pose| pose[0]).collect::<Vec<_>>())
        };
        let two = "\"b, c/x.jpg\",1,0,0\na/y.jpg,2,0,0\n";
        assert_eq!(yaws(two, &["set/a/y.jpg", "./b, c/x.jpg"]).unwrap(), [2.0, 1.0], "any order, more rows or fewer");
        assert!(yaws(two, &["a/z.jpg"]).unwrap_err().contains("no pose for `a/z.jpg`"));
        let short = "1.jpg,1,0,0\na/1.jpg,2,0,0\n";
        assert_eq!(yaws(short, &["a/1.jpg"]).unwrap(), [2.0], "a shorter row comes first in the file");
        assert!(yaws(short, &["set/a/1.jpg"]).unwrap_err().contains("poses 0 and 1 could both be of"));
        let error = yaws("1.jpg,1,0,0\n", &["a/1.jpg", "b/1.jpg"]).unwrap_err();
        assert!(error.contains("`a/1.jpg` and `b/1.jpg`"), "{error}");
        assert_eq!(yaws("a\\1.jpg,1,0,0\n", &["set/a/1.jpg"]).unwrap(), [1.0], "a table from Windows");
        let error = poses("a.jpg,1,0,0\n./a.jpg,2,0,0\n").unwrap_err();
        assert!(error.contains("poses 0 and 1 are both of `./a.jpg`"), "{error}");
        let error = read("p.jsonl", b"{\"path\": \"a\", \"pose\": [1, 2, 3]}\n{\"pose\": [1, 2, 3]}\n").unwrap_err();
        assert!(error.contains("1 of 2 poses have a `path`"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, bytes, word) in [
            ("a.npy", files::npy::encode(&[3, 2], &[0.0f32; 6]), "[rows, 3]"),
            ("b.npy", b"PK".to_vec(), "not a .npy"),
            ("c.csv", b"1,2,3\n4,5,6\n".to_vec(), "header"),
            ("d.csv", b"yaw,pitch\n1,2\n".to_vec(), "no column `roll`"),
            ("typo.csv", b"yaw,picth,roll\n1,2,3\n".to_vec(), "no column `pitch`"),
            ("e.csv", b"yaw,pitch,roll\n1,2\n".to_vec(), "line 2 has 2 cells"),
            ("f.csv", b"yaw,pitch,roll\n1,2,x\n".to_vec(), "`x` is no number"),
            ("g.csv", b"yaw,pitch,roll\n1,2,inf\n".to_vec(), "finite"),
            ("k.csv", b"yaw,pitch,roll\n1,2,361\n".to_vec(), "-360 to 360"),
            ("h.jsonl", b"{\"yaw\": 1}\n".to_vec(), "neither `pose`"),
            ("i.jsonl", b"{\"pose\": [1]}\n".to_vec(), "1 angles"),
            ("j.txt", b"".to_vec(), ".npy, .csv"),
        ] {
            let error = read(name, &bytes).unwrap_err();
            assert!(error.contains(word) && error.contains(name), "{name}: {error}");
        }
    }
}
