//! What is known of the pictures of one side: `front_metadata.json`, `video_metadata.json`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{FacesError, KEYPOINTS, Side};

/// Largest metadata file that is read, in bytes: about a million pictures.
const MAX_FILE: u64 = 1 << 30;

/// One picture.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Picture {
    /// Who is on it, when that was written down.
    #[serde(default)]
    pub person_name: Option<String>,
    /// Its file as stored, often with the separators of Windows; see [`local_path`].
    #[serde(default, alias = "file_path")]
    pub image_path: Option<String>,
    /// Width and height in pixels.
    #[serde(default)]
    pub image_size: Option<[u32; 2]>,
    /// Stem of a video frame's file.
    #[serde(default)]
    pub frame_index: Option<String>,
}

/// The measures that keypoints were normalised by: an average of the frontal faces.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Standard {
    /// Centre in millimetres.
    #[serde(rename = "standard_center")]
    pub centre: [f64; 3],
    /// Units per millimetre.
    #[serde(rename = "standard_scale")]
    pub scale: f64,
}

/// Metadata of one side. Lists that training may do without are empty or have an entry for each picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// The file.
    pub path: PathBuf,
    /// The pictures, in the order of the arrays' rows.
    pub pictures: Vec<Picture>,
    /// Yaw, pitch and roll in degrees (or however many angles a set has, the same for all), or empty.
    pub poses: Vec<Vec<f32>>,
    /// x1, y1, x2, y2 in pixels, or empty.
    pub boxes: Vec<[f64; 4]>,
    /// Keypoints in pixels, or empty.
    pub landmarks_2d: Vec<[[f64; 2]; KEYPOINTS]>,
    /// Keypoints in millimetres in front of the camera, or empty. Extractors are known to leave some out: a list of
    /// another length counts as empty.
    pub landmarks_3d: Vec<[[f64; 3]; KEYPOINTS]>,
    /// Of the frontal side, when it has one.
    pub standard: Option<Standard>,
}

/// As stored. Fields that nobody here reads may hold anything.
#[derive(Deserialize)]
struct Stored {
    #[serde(default)]
    num_samples: Option<usize>,
    metadata: Vec<Picture>,
    #[serde(default)]
    poses: Option<Vec<Vec<f32>>>,
    #[serde(default)]
    boxes: Option<Vec<[f64; 4]>>,
    #[serde(default)]
    landmarks_2d: Option<Vec<[[f64; 2]; KEYPOINTS]>>,
    #[serde(default)]
    landmarks_3d_original: Option<Vec<[[f64; 3]; KEYPOINTS]>>,
    #[serde(default)]
    standard_info: Option<Standard>,
}

impl Metadata {
    /// Reads `<side>_metadata.json`: an object as the extractor writes it, or a bare list of pictures.
    ///
    /// # Errors
    /// A file that is missing or malformed, or whose lists do not have one entry for each picture.
    pub fn read(folder: &Path, side: Side) -> Result<Self, FacesError> {
        let path = folder.join(format!("{}_metadata.json", side.name()));
        let unreadable = |source: std::io::Error| match source.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => FacesError::missing(folder, &path),
            _ => FacesError::Read { path: path.clone(), source },
        };
        let bytes = std::fs::metadata(&path).map_err(unreadable)?.len();
        if bytes > MAX_FILE {
            return Err(FacesError::Size { path, bytes, allowed: MAX_FILE });
        }
        let bytes = files::read_limited(&path, MAX_FILE).map_err(unreadable)?;
        // Told apart by the first character, so that the error of a malformed object names the field.
        let list = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        let stored = if list {
            serde_json::from_slice(&bytes).map(|metadata| Stored {
                num_samples: None,
                metadata,
                poses: None,
                boxes: None,
                landmarks_2d: None,
                landmarks_3d_original: None,
                standard_info: None,
            })
        } else {
            serde_json::from_slice(&bytes)
        };
        let stored: Stored = stored.map_err(|source| FacesError::Json { path: path.clone(), source })?;
        Self::check(path, stored)
    }

    fn check(path: PathBuf, stored: Stored) -> Result<Self, FacesError> {
        let count = stored.metadata.len();
        let wrong = |field, problem| Err(FacesError::Field { path: path.clone(), field, problem });
        if count == 0 {
            return wrong("metadata", "lists no picture".into());
        }
        if let Some(announced) = stored.num_samples.filter(|announced| *announced != count) {
            return wrong("metadata", format!("lists {count} pictures, `num_samples` says {announced}"));
        }
        let poses = stored.poses.unwrap_or_default();
        let boxes = stored.boxes.unwrap_or_default();
        let landmarks_2d = stored.landmarks_2d.unwrap_or_default();
        let lengths = [("poses", poses.len()), ("boxes", boxes.len()), ("landmarks_2d", landmarks_2d.len())];
        for (field, length) in lengths {
            if length != 0 && length != count {
                return wrong(field, format!("has {length} entries for {count} pictures"));
            }
        }
        let width = poses.first().map_or(0, Vec::len);
        if let Some((row, pose)) = poses.iter().enumerate().find(|(_, pose)| pose.len() != width || width == 0) {
            return wrong("poses", format!("has {} angles in entry {row}, {width} in the first", pose.len()));
        }
        // A number beyond single precision becomes infinite on reading.
        if let Some(row) = poses.iter().position(|pose| !pose.iter().all(|angle| angle.is_finite())) {
            return wrong("poses", format!("is not finite in entry {row}"));
        }
        if let Some(standard) = &stored.standard_info
            && !(standard.scale.is_finite() && standard.scale > 0.0)
        {
            return wrong("standard_info", format!("has the scale {}, a positive one is needed", standard.scale));
        }
        let landmarks_3d = stored.landmarks_3d_original.unwrap_or_default();
        Ok(Self {
            pictures: stored.metadata,
            poses,
            boxes,
            landmarks_2d,
            landmarks_3d: if landmarks_3d.len() == count { landmarks_3d } else { Vec::new() },
            standard: stored.standard_info,
            path,
        })
    }

    /// Who is on picture `index`; `person_<index>` when that was not written down.
    pub fn person(&self, index: usize) -> String {
        self.pictures[index].person_name.clone().unwrap_or_else(|| format!("person_{index}"))
    }
}

/// Somebody with pictures on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Name.
    pub name: String,
    /// Rows of the frontal side.
    pub front: Vec<usize>,
    /// Rows of the video side.
    pub video: Vec<usize>,
}

/// Who is on both sides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct People {
    /// In the order of their first frontal picture.
    pub met: Vec<Person>,
    /// Names with a frontal picture and no video frame.
    pub without_video: Vec<String>,
    /// Names with video frames and no frontal picture.
    pub without_front: Vec<String>,
    /// Their frames.
    pub frames_without_front: usize,
}

impl People {
    /// Who is left out, one sentence for each side that they lack.
    pub fn warnings(&self) -> Vec<String> {
        const NAMED: usize = 5;
        let sentence = |names: &[String], lack: &str, what: String| {
            let named = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let more = if names.len() > NAMED { ", …" } else { "" };
            let people = if names.len() == 1 { "1 person has".into() } else { format!("{} people have", names.len()) };
            (!names.is_empty()).then(|| format!("{people} no {lack} and {what} left out: {named}{more}"))
        };
        let one = self.without_video.len() == 1;
        let frames = match self.frames_without_front {
            1 => "their 1 video frame is".to_owned(),
            count => format!("their {count} video frames are"),
        };
        let lonely = sentence(&self.without_video, "video frame", if one { "is" } else { "are" }.into());
        [lonely, sentence(&self.without_front, "frontal picture", frames)].into_iter().flatten().collect()
    }
}

/// Brings the two sides together by name.
pub fn pairing(front: &Metadata, video: &Metadata) -> People {
    let mut frames = BTreeMap::<String, Vec<usize>>::new();
    for row in 0..video.pictures.len() {
        frames.entry(video.person(row)).or_default().push(row);
    }
    let mut place = BTreeMap::<String, usize>::new();
    let mut order: Vec<(String, Vec<usize>)> = Vec::new();
    for row in 0..front.pictures.len() {
        let name = front.person(row);
        let at = *place.entry(name.clone()).or_insert_with(|| {
            order.push((name, Vec::new()));
            order.len() - 1
        });
        order[at].1.push(row);
    }
    let mut people = People::default();
    for (name, front) in order {
        match frames.remove(&name) {
            Some(video) => people.met.push(Person { name, front, video }),
            None => people.without_video.push(name),
        }
    }
    people.frames_without_front = frames.values().map(Vec::len).sum();
    people.without_front = frames.into_keys().collect();
    people
}

/// A stored path with this system's separators: `train\datas\face\a.jpg` is `train/datas/face/a.jpg`.
pub fn local_path(stored: &str) -> PathBuf {
    stored.split(['\\', '/']).enumerate().fold(PathBuf::new(), |path, (at, part)| match part {
        "" if at == 0 => PathBuf::from("/"),
        _ => path.join(part),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Result<Metadata, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("front_metadata.json"), text).unwrap();
        Metadata::read(folder.path(), Side::Front).map_err(|error| {
            use std::error::Error;
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            format!("{error}{source}")
        })
    }

    #[test]
    fn lists_must_fit_and_the_error_names_the_field() {
        let text = br#"{"num_samples": 1, "metadata": [{"person_name": "a", "image_path": "x\\y.jpg"}],
                        "poses": [[1, 2, 3]]}"#;
        let good = read(text).unwrap();
        assert_eq!((good.person(0), good.poses[0].clone()), ("a".into(), vec![1.0, 2.0, 3.0]));
        assert_eq!(local_path(good.pictures[0].image_path.as_deref().unwrap()), Path::new("x/y.jpg"));
        for (text, word) in [
            (&br#"{"num_samples": 2, "metadata": [{}]}"#[..], "`num_samples` says 2"),
            (br#"{"metadata": []}"#, "no picture"),
            (br#"{"metadata": [{}], "poses": [[1], [2]]}"#, "`poses` has 2 entries for 1"),
            (br#"{"metadata": [{}, {}], "poses": [[1], [2, 3]]}"#, "2 angles in entry 1, 1 in the first"),
            (br#"{"metadata": [{}], "poses": [[1e60]]}"#, "poses"),
            (br#"{"metadata": [{}], "poses": [[]]}"#, "0 angles"),
            (br#"{"metadata": [{}], "poses": [["a"]]}"#, "invalid type"),
            (br#"{"metadata": [{}], "boxes": [[1, 2, 3]]}"#, "invalid length 3"),
            (
                br#"{"metadata": [{}], "standard_info": {"standard_center": [0, 0, 0], "standard_scale": -1}}"#,
                "scale -1",
            ),
            (b"{\"metadata\": [{\"person_name\": \"\xff\"}]}", "front_metadata.json"),
            (b"{\"metadata\": [", "EOF"),
            (b"", "EOF"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn bare_lists_and_landmarks_of_another_length_are_taken() {
        let bare = read(br#" [{"person_name": "a"}, {"file_path": "b.jpg"}]"#).unwrap();
        assert_eq!((bare.person(1).as_str(), bare.pictures[1].image_path.as_deref()), ("person_1", Some("b.jpg")));
        let text = br#"{"metadata": [{}, {}], "landmarks_3d_original": [[[0,0,0],[0,0,0],[0,0,0],[0,0,0],[0,0,0]]]}"#;
        assert!(read(text).unwrap().landmarks_3d.is_empty());
    }

    #[test]
    fn people_come_in_the_order_of_their_first_frontal_picture() {
        let side = |names: &[&str]| {
            let names: Vec<_> = names.iter().map(|name| format!("{{\"person_name\": \"{name}\"}}")).collect();
            read(format!("[{}]", names.join(",")).as_bytes()).unwrap()
        };
        let people = pairing(&side(&["c", "a", "c", "lonely"]), &side(&["a", "c", "stranger", "a", "stranger"]));
        let person = |name: &str, front: &[usize], video: &[usize]| Person {
            name: name.into(),
            front: front.to_vec(),
            video: video.to_vec(),
        };
        assert_eq!(people.met, [person("c", &[0, 2], &[1]), person("a", &[1], &[0, 3])]);
        assert_eq!(
            people.warnings(),
            [
                "1 person has no video frame and is left out: `lonely`",
                "1 person has no frontal picture and their 2 video frames are left out: `stranger`",
            ]
        );
    }

    #[test]
    fn paths_of_windows_become_local_and_absolute_ones_stay() {
        for (stored, local) in [("a\\b/c.jpg", "a/b/c.jpg"), ("/x/y.jpg", "/x/y.jpg"), ("plain.jpg", "plain.jpg")] {
            assert_eq!(local_path(stored), Path::new(local));
        }
    }
}
