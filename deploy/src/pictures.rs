//! What can be embedded: pictures and pairs of pictures, listed from files and folders.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use contract::InputSpec;
use datasets::paired::Pair;
use datasets::{LeftOut, Naming, Note, Sample};

use crate::DeployError;
use crate::identity::Identity;
use crate::video::Video;

/// The pictures of one row, and who is on them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// A file for each of the model's inputs that is not missing, in its order: one picture, or palm and veins. At
    /// least one.
    pub files: Vec<PathBuf>,
    /// Names of inputs without a file; only models that were trained with modality dropout accept them.
    pub missing: Vec<String>,
    /// Who is on them.
    pub identity: Identity,
    /// Camera, from 0, where it is known.
    pub camera: Option<u32>,
    /// When it was taken, in milliseconds since 1970, where it is known.
    pub taken: Option<i64>,
    /// Words to filter by.
    pub tags: Vec<String>,
}

impl Input {
    /// A picture.
    pub fn new(file: PathBuf, identity: Identity, camera: Option<u32>) -> Self {
        Self { files: vec![file], missing: Vec::new(), identity, camera, taken: None, tags: Vec::new() }
    }

    /// The first file.
    pub fn path(&self) -> &Path {
        &self.files[0]
    }

    /// Its files in the order of the model's `inputs`, `None` for missing ones.
    pub fn in_order<'a>(&'a self, inputs: &'a [InputSpec]) -> impl Iterator<Item = Option<&'a PathBuf>> {
        let mut given = self.files.iter();
        inputs.iter().map(move |input| if self.missing.contains(&input.name) { None } else { given.next() })
    }
}

impl From<Sample> for Input {
    /// A picture from a listing.
    fn from(Sample { path, identity, identity_name, camera }: Sample) -> Self {
        let identity = Identity::from_parts(identity, identity_name);
        // A folder says nothing about the camera.
        let camera = u32::try_from(camera).ok().filter(|_| identity.is_by_file());
        Self::new(path, identity, camera)
    }
}

/// Pictures that can be embedded, and what was skipped.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// The pictures.
    pub pictures: Vec<Input>,
    /// Files and folders that were skipped.
    pub left_out: LeftOut,
    /// Which of the two was used for pictures whose folder and file name disagree.
    pub notes: Vec<Note>,
}

/// The pictures of files and folders, in the order given and natural order within. Who is on them is decided as in
/// [`datasets::list_pictures`], or by `naming`.
///
/// # Errors
/// If one does not exist or holds no picture.
pub fn list(places: &[PathBuf], naming: Option<Naming>) -> Result<Listed, DeployError> {
    if let Some(missing) = places.iter().find(|place| !place.exists()) {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no file or folder of this name");
        return Err(DeployError::Read { path: missing.clone(), source });
    }
    let list = datasets::list_pictures(places, naming)?;
    let pictures = list.samples.into_iter().map(Input::from).collect();
    Ok(Listed { pictures, left_out: list.left_out, notes: list.notes })
}

/// The files and folders that a pattern such as `cams/*/2026*.jpg` matches, in natural order; the path itself if it is
/// no pattern, or there is a file or folder of that name.
///
/// # Errors
/// If it is not a pattern although it looks like one, or matches nothing.
pub fn expanded(path: &Path) -> Result<Vec<PathBuf>, DeployError> {
    let Some(text) = path.to_str().filter(|text| text.contains(['*', '?', '['])) else {
        return Ok(vec![path.to_owned()]);
    };
    if path.exists() || Video::is_live(path) {
        return Ok(vec![path.to_owned()]);
    }
    let wrong = |problem: String| DeployError::Pattern { path: path.to_owned(), problem };
    let found = glob::glob(text).map_err(|error| wrong(error.to_string()))?;
    let mut found = found
        .collect::<Result<Vec<PathBuf>, _>>()
        .map_err(|error| DeployError::Read { path: error.path().to_owned(), source: error.into() })?;
    if found.is_empty() {
        return Err(wrong("no file or folder matches it".to_owned()));
    }
    found.sort_by(|left, right| datasets::natural(left, right));
    Ok(found)
}

/// Whether these identities come from folders or from file names; `None` if some come from each.
pub fn naming<'a>(identities: impl IntoIterator<Item = &'a Identity>) -> Option<Naming> {
    let (mut by_file, mut given) = (false, false);
    identities.into_iter().for_each(|identity| if identity.is_by_file() { by_file = true } else { given = true });
    match (by_file, given) {
        (true, false) => Some(Naming::File),
        (false, true) => Some(Naming::Folder),
        _ => None,
    }
}

/// One row per pair; `classes` maps class numbers to names.
pub fn of_pairs<'a>(pairs: impl Iterator<Item = &'a Pair>, classes: &[String]) -> Vec<Input> {
    let row = |pair: &Pair| Input {
        files: vec![pair.palm.clone(), pair.vein.clone()],
        missing: Vec::new(),
        identity: Identity::given(&classes[pair.class]),
        camera: None,
        taken: None,
        tags: Vec::new(),
    };
    pairs.map(row).collect()
}

/// [`path_text`], in JSON.
pub(crate) fn lossy<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text(path))
}

/// The path as text. Bytes that are no Unicode are written `\xff`: two such paths stay two, but the file cannot be
/// opened again.
pub(crate) fn path_text(path: &Path) -> Cow<'_, str> {
    if let Some(text) = path.to_str() {
        return Cow::Borrowed(text);
    }
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_expanded_in_natural_order_and_names_are_taken_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        ["10.jpg", "9.jpg", "a[1].jpg", "b.png"].iter().for_each(|name| std::fs::write(path(name), "").unwrap());
        let found = |name: &str| expanded(&path(name));
        assert_eq!(found("[0-9]*.jpg").unwrap(), [path("9.jpg"), path("10.jpg")]);
        assert_eq!(found("a[1].jpg").unwrap(), [path("a[1].jpg")]);
        assert_eq!(found("none.jpg").unwrap(), [path("none.jpg")], "what is not there is told later");
        assert!(found("*.gif").unwrap_err().to_string().contains("no file or folder matches"));
        assert!(found("[.gif").unwrap_err().to_string().contains("[.gif"));
    }

    #[cfg(unix)]
    #[test]
    fn paths_that_are_no_unicode_stay_two() {
        use std::os::unix::ffi::OsStrExt;
        let text = |bytes: &'static [u8]| path_text(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!([text(b"a/\xff.jpg"), text(b"a/\xfe.jpg")], ["a/\\xff.jpg", "a/\\xfe.jpg"]);
        assert_eq!(text("m\u{fc}.jpg".as_bytes()), "m\u{fc}.jpg");
    }
}
