//! Who is on a picture: the folder or the file name decides, by one rule for every program.
//!
//! Below a listed folder, the first folder on the way to the picture says who it is. Folders named like sets (`train`,
//! `query`, `bounding_box_test`, …) say nothing, nor does what is above them. A picture in the listed folder itself,
//! in a set's folder, or listed alone is named by its file name if that has Market-1501's form,
//! `<identity>_c<camera>`, and else by the folder it lies in. [`Naming`] makes either decide everywhere.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use super::listing::{LeftOut, Listing, first};
use super::{DatasetError, NameError, Sample, name};

/// Names of folders that are sets and nobody's, lower case.
pub(super) const SETS: [&str; 18] = [
    "train",
    "train_all",
    "training",
    "val",
    "validation",
    "test",
    "testing",
    "query",
    "gallery",
    "probe",
    "probes",
    "bounding_box_train",
    "bounding_box_test",
    "gt_bbox",
    "images",
    "images_detected",
    "images_labeled",
    "multi-query",
];

/// What says who is on a picture, instead of the rule of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The file name, where it has Market-1501's form.
    File,
    /// The folder.
    Folder,
}

impl FromStr for Naming {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "file" => Ok(Self::File),
            "folder" => Ok(Self::Folder),
            _ => Err(format!("`{text}` is none of file, folder")),
        }
    }
}

/// Pictures of a place, in natural order, and what was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PictureList {
    /// The pictures.
    pub samples: Vec<Sample>,
    /// What lies among them and is not used.
    pub left_out: LeftOut,
    /// Where both folder and file name seem to say who is on a picture: which was taken, and how to take the other.
    pub note: Option<String>,
}

/// The name of an identity as it is kept and compared: composed (NFC), because systems spell `ü` in two ways.
///
/// # Errors
/// If it is empty or has control characters.
pub fn identity_name(text: &str) -> Result<String, NameError> {
    let name: String = text.nfc().collect();
    let control = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}');
    if name.trim().is_empty() {
        Err(NameError::Empty)
    } else if name.contains(control) {
        Err(NameError::Control { name })
    } else {
        Ok(name)
    }
}

/// A file's or folder's name as composed text. Bytes that are no text are written `\xff`, so that two such names stay
/// two.
pub(super) fn text_of(name: &OsStr) -> String {
    let mut text = String::new();
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.extend(chunk.valid().nfc());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// [`identity_name`] of a folder.
pub(super) fn folder_name(folder: &Path) -> Result<String, DatasetError> {
    identity_name(&text_of(folder.file_name().unwrap_or_default()))
        .map_err(|source| DatasetError::IdentityName { path: folder.to_owned(), source })
}

/// The number of an identity that only has a name: a hash, at least 2⁵² and below 2⁵³, so that two listings give one
/// name one number.
pub fn number_of(name: &str) -> i64 {
    let digest = Sha256::digest(name.nfc().collect::<String>());
    let hash = digest.iter().take(8).fold(0_u64, |hash, byte| hash << 8 | u64::from(*byte));
    (hash >> 12 | 1 << 52) as i64
}

/// The pictures in `place`, a folder with all below it or a single file, in natural order; who is on them is decided
/// by the rule of this crate, or by `naming`.
///
/// Identity and camera come from a file name of Market-1501's form; junk ([`crate::JUNK`]) is listed too. Where the
/// folder decides, the identity's number is [`number_of`] its name, and the camera is 0.
///
/// # Errors
/// See [`DatasetError`]; no picture at all is one.
pub fn list_pictures(place: &Path, naming: Option<Naming>) -> Result<PictureList, DatasetError> {
    let listing = if place.is_dir() {
        Listing::recursive(place)?
    } else if place.is_file() {
        Listing { pictures: vec![place.to_owned()], ..Listing::default() }
    } else if place.exists() {
        return Err(DatasetError::NotRegular { path: place.to_owned() });
    } else {
        return Err(DatasetError::NoFolder { root: place.to_owned() });
    };
    if listing.pictures.is_empty() {
        return Err(DatasetError::Empty {
            folder: place.to_owned(),
            found: listing.found(),
            allowed: format!("at least one file that ends in {}", contract::preprocess::EXTENSIONS.join(", ")),
        });
    }
    let (mut samples, mut contradicted) = (Vec::with_capacity(listing.pictures.len()), Vec::new());
    for path in listing.pictures {
        let parsed = name::parse(&path).map(|(number, text, camera)| (number, text.to_owned(), camera));
        let below = folder_below(place, &path);
        let by_file = match naming {
            Some(Naming::File) => true,
            Some(Naming::Folder) => false,
            None => below.is_none(),
        };
        if let Some((identity, identity_name, camera)) = parsed.clone().filter(|_| by_file) {
            samples.push(Sample { path, identity, identity_name, camera });
            continue;
        }
        let folder = below.unwrap_or_else(|| own_folder(&path));
        let identity_name = folder_name(&folder)?;
        if naming.is_none() && parsed.is_some_and(|(_, text, _)| text != identity_name) {
            contradicted.push(path.clone());
        }
        samples.push(Sample { identity: number_of(&identity_name), identity_name, camera: 0, path });
    }
    let note = (!contradicted.is_empty()).then(|| {
        format!(
            "folders name the people on the pictures, although {} of {} file names contain another identity: {}",
            contradicted.len(),
            samples.len(),
            first(contradicted.iter().map(PathBuf::as_path))
        )
    });
    Ok(PictureList { samples, left_out: listing.left_out, note })
}

/// The folder that says who is on a picture: the first one below `place`, or below the last set on the way.
fn folder_below(place: &Path, picture: &Path) -> Option<PathBuf> {
    let way = picture.parent()?.strip_prefix(place).ok()?;
    let mut folder = place.to_owned();
    let mut found = None;
    for part in way.components() {
        folder.push(part);
        match is_set(part.as_os_str()) {
            true => found = None,
            false => found = found.or_else(|| Some(folder.clone())),
        }
    }
    found
}

/// Whether a folder's name is that of a set.
pub(super) fn is_set(name: &OsStr) -> bool {
    SETS.contains(&name.to_string_lossy().to_lowercase().as_str())
}

/// The folder a picture lies in. `.` and `..` have no name of their own.
fn own_folder(picture: &Path) -> PathBuf {
    let parent = picture.parent().unwrap_or(Path::new(""));
    let real = if parent.file_name().is_none() { Path::new(".").join(parent).canonicalize().ok() } else { None };
    real.unwrap_or_else(|| parent.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_composed_and_checked() {
        assert_eq!(identity_name("Mu\u{308}ller").unwrap(), "M\u{fc}ller");
        assert_eq!(number_of("Mu\u{308}ller"), number_of("M\u{fc}ller"));
        for empty in ["", " ", "\u{a0}"] {
            assert_eq!(identity_name(empty), Err(NameError::Empty));
        }
        for control in ["a\nb", "\u{1b}[31mred", "a\0", "a\u{2028}b", "abc\u{202e}gnp"] {
            let error = identity_name(control).unwrap_err();
            assert!(matches!(error, NameError::Control { .. }));
            assert!(!error.to_string().contains(|c: char| c.is_control()), "{error:?}");
        }
        assert_eq!(identity_name("=1+1, \"Smith\" <b>").unwrap(), "=1+1, \"Smith\" <b>");
    }

    #[test]
    fn the_folder_that_says_who_it_is() {
        let cases = [
            ("anna/0001_c2.jpg", Some("anna")),
            ("anna/session1/1.jpg", Some("anna")),
            ("0001_c2.jpg", None),
            ("bounding_box_test/0001_c2.jpg", None),
            ("Market-1501/bounding_box_test/0001_c2.jpg", None),
            ("query/anna/1.jpg", Some("anna")),
            ("pytorch/gallery/0002/0002_c1.jpg", Some("0002")),
        ];
        for (path, expected) in cases {
            let found = folder_below(Path::new("set"), &Path::new("set").join(path));
            let found = found.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
            assert_eq!(found, expected, "{path}");
        }
    }
}
