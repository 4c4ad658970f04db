//! What is stored beside an embedding.

use std::path::{Path, PathBuf};

use ::gallery::NewTemplate;
use serde::{Deserialize, Serialize};

use crate::identity::{Identity, Name, NameSource};
use crate::pictures::{Input, lossy};

/// What is stored beside an embedding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Row", into = "Row")]
pub struct Template {
    /// The first file, as it was named; see [`Gallery::file`](super::Gallery::file).
    pub path: PathBuf,
    /// Files for the model's further inputs, in its order: the veins of a palm.
    pub others: Vec<PathBuf>,
    /// Inputs of the model that had no file.
    pub missing: Vec<String>,
    /// Who it is.
    pub identity: Identity,
    /// Camera, from 0, where it is known.
    pub camera: Option<u32>,
    /// When it was taken, in milliseconds since 1970, where it is known.
    pub taken: Option<i64>,
    /// Words to filter by.
    pub tags: Vec<String>,
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
            camera: None,
            taken: None,
            tags: Vec::new(),
            stamp: None,
        }
    }
}

impl From<&Input> for Template {
    fn from(input: &Input) -> Self {
        let Input { files, missing, identity, camera, taken, tags } = input;
        Self {
            path: files[0].clone(),
            others: files[1..].to_vec(),
            missing: missing.clone(),
            identity: identity.clone(),
            camera: *camera,
            taken: *taken,
            tags: tags.clone(),
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

/// Tags that say who somebody is where a name does not; words that people choose do not begin like these.
pub const OWN: char = '~';

/// Tag of [`Identity::Junk`].
pub const JUNK: &str = "~junk";

/// Tag of [`Identity::Distractor`].
pub const DISTRACTOR: &str = "~distractor";

/// Tag of people who are named by [the file name](NameSource::File).
pub const BY_FILE: &str = "~by-file";

/// The picture of a stored template.
#[derive(Serialize, Deserialize)]
struct Source {
    #[serde(serialize_with = "lossy")]
    path: PathBuf,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<PathBuf>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    /// Size and time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stamp: Option<[u64; 2]>,
}

impl Template {
    /// As galleries store it.
    pub fn to_stored(&self) -> NewTemplate {
        let Self { path, others, missing, identity, camera, taken, tags, stamp } = self;
        let (subject, mark) = match identity {
            Identity::Person(Name { text, source: NameSource::File }) => (Some(text.clone()), Some(BY_FILE)),
            Identity::Person(Name { text, source: NameSource::Given }) => (Some(text.clone()), None),
            Identity::Junk => (None, Some(JUNK)),
            Identity::Distractor => (None, Some(DISTRACTOR)),
            Identity::Unnamed => (None, None),
        };
        let stamp = stamp.map(|Stamp { size, modified }| [size, modified]);
        let source = Source { path: path.clone(), others: others.clone(), missing: missing.clone(), stamp };
        NewTemplate {
            subject,
            camera: *camera,
            taken: *taken,
            tags: tags.iter().cloned().chain(mark.map(str::to_owned)).collect(),
            source: serde_json::to_string(&source).unwrap_or_default(),
        }
    }
}

impl From<NewTemplate> for Template {
    fn from(NewTemplate { subject, camera, taken, mut tags, source }: NewTemplate) -> Self {
        let marked = |mark: &str| tags.iter().any(|tag| tag == mark);
        let identity = match subject {
            Some(text) if marked(BY_FILE) => Identity::by_file(text),
            Some(text) => Identity::given(text),
            None if marked(JUNK) => Identity::Junk,
            None if marked(DISTRACTOR) => Identity::Distractor,
            None => Identity::Unnamed,
        };
        tags.retain(|tag| !tag.starts_with(OWN));
        // Other programs may store a path and nothing else.
        let plain = |_| Source { path: PathBuf::from(&source), others: vec![], missing: vec![], stamp: None };
        let Source { path, others, missing, stamp } = serde_json::from_str(&source).unwrap_or_else(plain);
        let stamp = stamp.map(|[size, modified]| Stamp { size, modified });
        Self { path, others, missing, identity, camera, taken, tags, stamp }
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
    /// 0 if unknown.
    camera: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    taken: Option<i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stamp: Option<Stamp>,
}

impl From<Row> for Template {
    fn from(row: Row) -> Self {
        let Row { path, others, missing, identity, identity_name, camera, taken, tags, stamp } = row;
        let identity = Identity::from_parts(identity, identity_name);
        let camera = u32::try_from(camera).ok().filter(|camera| *camera > 0 || identity.is_by_file());
        Self { path, others, missing, identity, camera, taken, tags, stamp }
    }
}

impl From<Template> for Row {
    fn from(Template { path, others, missing, identity, camera, taken, tags, stamp }: Template) -> Self {
        let (number, text) = identity.to_parts();
        let (number, text) = (number, text.to_owned());
        let camera = camera.map_or(0, i64::from);
        Self { path, others, missing, identity: number, identity_name: text, camera, taken, tags, stamp }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_galleries_store_comes_back() {
        let identities = [
            Identity::Junk,
            Identity::Distractor,
            Identity::Unnamed,
            Identity::by_file("0007"),
            Identity::given("0007"),
            Identity::given("M\u{fc}ller, \"A\""),
        ];
        for identity in identities {
            let template = Template {
                path: "a/b \u{1}.jpg".into(),
                others: vec!["v.png".into()],
                missing: vec!["vein".into()],
                identity,
                camera: Some(3),
                taken: Some(-7),
                tags: vec!["gate".into()],
                stamp: Some(Stamp { size: 12, modified: 34 }),
            };
            assert_eq!(Template::from(template.to_stored()), template);
            let line = serde_json::to_string(&template).unwrap();
            assert_eq!(serde_json::from_str::<Template>(&line).unwrap(), template);
        }
        let foreign = NewTemplate { source: "C:\\x.jpg".into(), ..NewTemplate::default() };
        assert_eq!(Template::from(foreign).path, PathBuf::from("C:\\x.jpg"));
        let old = r#"{"path":"a.jpg","identity":4503599627370500,"identity_name":"ada","camera":0}"#;
        assert_eq!(serde_json::from_str::<Template>(old).unwrap().camera, None, "0 stood for none");
    }
}
