//! Pictures of one's own: a folder per identity. Which identities train and which picture is a query follows from the
//! names alone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::listing::Listing;
use super::{DatasetError, Options, Sample, name};

const ALLOWED: &str = "a folder per identity with pictures in it (`<root>/<identity>/*.jpg`), or such folders below \
                       `train` and `test`,";

/// Whether the folder looks like this layout: a folder with a picture in it, or `train` and `test`.
pub(super) fn fits(root: &Path) -> bool {
    let has_identities = |folder: &Path| {
        let listing = Listing::of(folder).unwrap_or_default();
        listing.folders.iter().any(|folder| Listing::of(folder).is_ok_and(|inner| !inner.pictures.is_empty()))
    };
    has_identities(root) || (has_identities(&root.join("train")) && has_identities(&root.join("test")))
}

/// Training, query and gallery pictures.
pub(super) fn open(root: &Path, options: &Options) -> Result<[Vec<Sample>; 3], DatasetError> {
    let (train, test) = (root.join("train"), root.join("test"));
    let (train, test) = if train.is_dir() && test.is_dir() {
        if let Some(count) = options.train_identities {
            return Err(DatasetError::Identities {
                folder: root.to_owned(),
                found: "`train` and `test` of its own".into(),
                allowed: format!("{count} training identities can only be chosen where one folder holds all"),
            });
        }
        (identities(&train)?, identities(&test)?)
    } else {
        let mut all = identities(root)?;
        let count = all.len();
        let training = options.train_identities.unwrap_or(count / 2);
        if count < 2 || !(1..count).contains(&training) {
            let found = match count {
                1 => "1 identity".to_owned(),
                _ => format!("{count} identities"),
            };
            let allowed = match options.train_identities {
                Some(training) if count >= 2 => {
                    format!("{training} were asked for training, 1 to {} are allowed", count - 1)
                }
                _ => "at least 2 are needed, one to train and one to test".to_owned(),
            };
            return Err(DatasetError::Identities { folder: root.to_owned(), found, allowed });
        }
        let test = all.split_off(training);
        (all, test)
    };

    // One number per name, also where `train` and `test` share names.
    let mut names: Vec<&OsString> = train.iter().chain(&test).map(|(name, _)| name).collect();
    names.sort_by(|left, right| name::natural(Path::new(left), Path::new(right)));
    names.dedup();
    let numbers: BTreeMap<OsString, i64> = names.into_iter().cloned().zip(0..).collect();
    let sample = |name: &OsString, path: &Path, camera| Sample {
        path: path.to_owned(),
        identity: numbers[name],
        identity_name: name.to_string_lossy().into_owned(),
        camera,
    };
    let mut splits = [vec![], vec![], vec![]];
    for (name, listing) in &train {
        splits[0].extend(listing.pictures.iter().map(|path| sample(name, path, 0)));
    }
    for (name, listing) in &test {
        for (index, path) in listing.pictures.iter().enumerate() {
            // Different cameras, or the protocol would take the gallery's pictures of the identity away.
            let camera = index % 2;
            splits[1 + camera].push(sample(name, path, camera as i64));
        }
    }
    if splits[2].is_empty() {
        return Err(DatasetError::Identities {
            folder: root.to_owned(),
            found: format!("{} test identities of one picture each", test.len()),
            allowed: "at least 2 pictures of one are needed, a query and its gallery".into(),
        });
    }
    Ok(splits)
}

/// The identity folders in natural order, each with its pictures; folders without any are no identities.
fn identities(folder: &Path) -> Result<Vec<(OsString, Listing)>, DatasetError> {
    let listing = Listing::of(folder)?;
    let mut identities = Vec::new();
    for path in &listing.folders {
        let pictures = Listing::recursive(path)?;
        if !pictures.pictures.is_empty() {
            identities.push((path.file_name().unwrap_or_default().to_owned(), pictures));
        }
    }
    if identities.is_empty() {
        let found = listing.found();
        return Err(DatasetError::Empty { folder: folder.to_owned(), found, allowed: ALLOWED.into() });
    }
    Ok(identities)
}
