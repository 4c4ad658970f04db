//! Who is on a picture: the folder or the file name decides, by the same rule in every program.
//!
//! The first folder below a listed folder, on the path to the picture, names the person. Folders named like sets
//! (`train`, `query`, `bounding_box_test`, …) and the folders above them name nobody. A picture without such a folder
//! lies in the listed folder itself or is listed alone: its own folder names the person if the pictures come from at
//! least two folders that are not sets, so that `people/*` gives the same names as `people`. Pictures from a single
//! folder or from a set's folder are named by their file names if these have Market-1501's form,
//! `<identity>_c<camera>`, and otherwise by their folder. [`Naming`] overrides the rule, and a [`Note`] tells what was
//! used where folder and file name contradict each other.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

use super::listing::{LeftOut, Listing, first};
use super::{DatasetError, NameError, Sample, name};

/// Names of folders that are sets and not people, in lower case.
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

/// What names the person on a picture, in place of this module's rule.
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

impl std::fmt::Display for Naming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Folder => "folder",
        })
    }
}

/// Both folder and file name seem to say who is on a picture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Which was used, and for how many pictures.
    pub text: String,
    /// Which was not used.
    pub other: Naming,
}

/// Pictures of the listed places, in natural order, and what was left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PictureList {
    /// The pictures.
    pub samples: Vec<Sample>,
    /// Files and folders among them that are not used.
    pub left_out: LeftOut,
    /// Where folders and file names contradict each other: which was used.
    pub notes: Vec<Note>,
}

/// The name of an identity as it is kept and compared: composed (NFC), because systems spell `ü` in two ways.
///
/// # Errors
/// If it is empty or has invisible characters: controls, direction marks, zero-width spaces.
pub fn identity_name(text: &str) -> Result<String, NameError> {
    let name: String = text.nfc().collect();
    if name.trim().is_empty() {
        Err(NameError::Empty)
    } else if has_unseen(&name) {
        Err(NameError::Control { name })
    } else {
        Ok(name)
    }
}

/// Whether a name has an invisible character, which makes two names look alike or breaks up a table.
fn has_unseen(name: &str) -> bool {
    // Within words of scripts whose letters join, from Arabic to Mongolian, the joiners are spelling.
    let joins = |c: Option<&char>| c.is_some_and(|c| ('\u{600}'..='\u{18af}').contains(c));
    let characters: Vec<char> = name.chars().collect();
    characters.iter().enumerate().any(|(at, c)| match c {
        '\u{200c}' | '\u{200d}' => {
            !(joins(at.checked_sub(1).map(|at| &characters[at])) && joins(characters.get(at + 1)))
        }
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' => true,
        '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    })
}

/// A file or folder name as composed text. Bytes that are not valid text are written `\xff`, so that two such names
/// stay different.
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

/// The pictures in `places`, folders with all below them or single files, in the order given and in natural order
/// within a folder; who is on them is decided by the rule of this crate, or by `naming`.
///
/// Identity and camera come from a file name of Market-1501's form; junk ([`crate::JUNK`]) is listed too. Where the
/// folder decides, the identity's number is [`number_of`] its name, and the camera is 0.
///
/// # Errors
/// See [`DatasetError`]; a place without any picture is one.
pub fn list_pictures<P: AsRef<Path>>(places: &[P], naming: Option<Naming>) -> Result<PictureList, DatasetError> {
    let mut all = PictureList::default();
    let mut found = Vec::new();
    for place in places.iter().map(AsRef::as_ref) {
        let listing = pictures_in(place)?;
        all.left_out.extend(listing.left_out);
        found.extend(listing.pictures.into_iter().map(|path| (folder_below(place, &path), path)));
    }
    let alone = found.iter().filter(|(below, _)| below.is_none()).map(|(_, path)| own_folder(path));
    let alone: BTreeSet<PathBuf> = alone.filter(|folder| !folder.file_name().is_some_and(is_set)).collect();
    let (mut by_folder, mut by_file) = (Vec::new(), Vec::new());
    for (below, path) in found {
        let own = own_folder(&path);
        let below = below.or_else(|| Some(own.clone()).filter(|own| alone.len() > 1 && alone.contains(own)));
        let takes_file = match naming {
            Some(naming) => naming == Naming::File,
            None => below.is_none(),
        };
        let parsed = name::parse(&path).map(|(number, text, camera)| (number, text.to_owned(), camera));
        let folder = below.unwrap_or(own);
        let contradicts = |(_, text, _): &(i64, String, i64)| {
            naming.is_none() && Some(text.as_str()) != folder.file_name().map(text_of).as_deref()
        };
        if parsed.as_ref().is_some_and(contradicts) {
            match takes_file {
                true if alone.contains(&folder) => by_file.push(path.clone()),
                true => {}
                false => by_folder.push(path.clone()),
            }
        }
        if let Some((identity, identity_name, camera)) = parsed.filter(|_| takes_file) {
            all.samples.push(Sample { path, identity, identity_name, camera });
            continue;
        }
        let identity_name = folder_name(&folder)?;
        all.samples.push(Sample { identity: number_of(&identity_name), identity_name, camera: 0, path });
    }
    let count = all.samples.len();
    let named = |pictures: &[PathBuf]| first(pictures.iter().map(PathBuf::as_path));
    if !by_folder.is_empty() {
        let text = format!(
            "folders name the people on the pictures, although {} of {count} file names contain another identity: {}",
            by_folder.len(),
            named(&by_folder)
        );
        all.notes.push(Note { text, other: Naming::File });
    }
    if !by_file.is_empty() {
        let text = format!(
            "file names name the people on {} of {count} pictures, not the folder these lie in: {}",
            by_file.len(),
            named(&by_file)
        );
        all.notes.push(Note { text, other: Naming::Folder });
    }
    Ok(all)
}

/// The pictures of one place; none is an error.
fn pictures_in(place: &Path) -> Result<Listing, DatasetError> {
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
    Ok(listing)
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

/// A picture's own folder. `.` and `..` have no name, so they are resolved.
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
        for control in ["a\nb", "\u{1b}[31mred", "a\0", "a\u{2028}b", "abc\u{202e}gnp", "an\u{200b}na", "anna\u{feff}"]
            .into_iter()
            .chain(["\u{2067}anna\u{2069}", "an\u{200d}na", "anna\u{200c}", "an\u{ad}na", "an\u{e0041}na"])
        {
            let error = identity_name(control).unwrap_err();
            assert!(matches!(error, NameError::Control { .. }));
            assert!(!error.to_string().contains(|c: char| c.is_control()), "{error:?}");
        }
        // Joiners are spelling in Persian and Hindi.
        for name in [
            "=1+1, \"Smith\" <b>",
            "\u{639}\u{644}\u{6cc}\u{200c}\u{631}\u{636}\u{627}",
            "\u{915}\u{94d}\u{200d}\u{937}",
        ] {
            assert_eq!(identity_name(name).unwrap(), name);
        }
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
