//! Your own pictures, one folder per identity. The names alone decide which identities train and which pictures are
//! queries.

use std::collections::BTreeMap;
use std::path::Path;

use super::identity::{folder_name, is_set};
use super::listing::{LeftOut, Listing, unread};
use super::{DatasetError, JUNK, Options, Parts, Sample, name, three_folders};

const ALLOWED: &str = "a folder per identity with pictures in it (`<root>/<identity>/*.jpg`), or such folders below \
                       `train` and `test`, or below `train`, `query` and `gallery`,";

/// Whether the folder looks like this layout.
pub(super) fn fits(root: &Path) -> bool {
    let has_identities = |folder: &Path| {
        let listing = Listing::of(folder).unwrap_or_default();
        listing.folders.iter().any(|folder| Listing::of(folder).is_ok_and(|inner| !inner.pictures.is_empty()))
    };
    has_identities(root) || sets(root).is_ok_and(|sets| sets.iter().any(|set| has_identities(&root.join(set))))
}

/// Names of the sets that `root` has as folders, as written.
fn sets(root: &Path) -> Result<Vec<String>, DatasetError> {
    let names = Listing::of(root)?.folders.into_iter().filter_map(|path| path.file_name().map(ToOwned::to_owned));
    Ok(names.filter(|name| is_set(name)).map(|name| name.to_string_lossy().into_owned()).collect())
}

/// Training, query and gallery pictures.
pub(super) fn open(root: &Path, options: &Options) -> Result<Parts, DatasetError> {
    let found = sets(root)?;
    let has = |name: &str| found.iter().any(|found| found == name);
    let training = if has("train_all") { "train_all" } else { "train" };
    let three = has(training) && has("query") && has("gallery");
    if let Some(count) = options.train_identities
        && (three || (has("train") && has("test")))
    {
        return Err(DatasetError::Identities {
            folder: root.to_owned(),
            found: format!("sets of its own, {}", found.join(", ")),
            allowed: format!("{count} training identities can only be chosen where one folder holds all"),
        });
    }
    if three {
        return three_sets(root, training, has("val"));
    }
    let (train, test, left_out) = if has("train") && has("test") {
        let (train, mut left_out) = identities(&root.join("train"))?;
        let (test, others) = identities(&root.join("test"))?;
        left_out.extend(others);
        (train, test, left_out)
    } else if found.len() > 1 {
        // Each of them would be taken for a person.
        return Err(DatasetError::Sets { root: root.to_owned(), found });
    } else {
        let (mut all, left_out) = identities(root)?;
        let training = training_share(root, all.len(), &left_out, options)?;
        let test = all.split_off(training);
        (all, test, left_out)
    };
    let numbers = numbered(train.iter().chain(&test).map(|(name, _)| name.clone()));
    let sample = |name: &String, path: &Path, camera| Sample {
        path: path.to_owned(),
        identity: numbers[name],
        identity_name: name.clone(),
        camera,
    };
    let mut samples = [vec![], vec![], vec![]];
    for (name, listing) in &train {
        samples[0].extend(listing.pictures.iter().map(|path| sample(name, path, 0)));
    }
    for (name, listing) in &test {
        for (index, path) in listing.pictures.iter().enumerate() {
            // Different cameras, or the protocol would take the gallery's pictures of the identity away.
            let camera = index % 2;
            samples[1 + camera].push(sample(name, path, camera as i64));
        }
    }
    if samples[2].is_empty() {
        return Err(DatasetError::Identities {
            folder: root.to_owned(),
            found: format!("{} test identities of one picture each", test.len()),
            allowed: "at least 2 pictures of one are needed, a query and its gallery".into(),
        });
    }
    Ok(Parts { samples, left_out, warnings: vec![], cameras_known: false })
}

/// How many of `count` identities train.
fn training_share(root: &Path, count: usize, left_out: &LeftOut, options: &Options) -> Result<usize, DatasetError> {
    let training = options.train_identities.unwrap_or(count / 2);
    if count >= 2 && (1..count).contains(&training) {
        return Ok(training);
    }
    let mut found = match count {
        1 => "1 identity".to_owned(),
        _ => format!("{count} identities"),
    };
    if !left_out.unread.is_empty() {
        found = format!("{found}; {}", unread(&left_out.unread));
    }
    let allowed = match options.train_identities {
        Some(training) if count >= 2 => format!("{training} were asked for training, 1 to {} are allowed", count - 1),
        _ => "at least 2 are needed, one to train and one to test".to_owned(),
    };
    Err(DatasetError::Identities { folder: root.to_owned(), found, allowed })
}

/// Sets with a folder per identity, or with all pictures side by side: identity and camera are taken from the file
/// names if all have Market-1501's form and none contradicts its folder. Else the folders are the identities, and
/// query and gallery are two cameras.
fn three_sets(root: &Path, training: &str, validation: bool) -> Result<Parts, DatasetError> {
    let mut left_out = LeftOut::default();
    let mut pictures = Vec::new();
    for set in [training, "query", "gallery"] {
        let folder = root.join(set);
        let listing = Listing::recursive(&folder)?;
        if listing.pictures.is_empty() {
            return Err(DatasetError::Empty { folder, found: listing.found(), allowed: ALLOWED.into() });
        }
        left_out.extend(listing.left_out);
        let mut of_set = Vec::new();
        for path in listing.pictures {
            let own = path.strip_prefix(&folder).ok().filter(|way| way.components().count() > 1);
            let own = own.and_then(|way| way.components().next()).map(|part| folder_name(&folder.join(part)));
            of_set.push((own.transpose()?, path));
        }
        pictures.push(of_set);
    }
    let by_file = pictures.iter().flatten().all(|(folder, path)| {
        name::fields(path).is_some_and(|(_, text, _)| folder.as_ref().is_none_or(|folder| folder == text))
    });
    let numbers = numbered(pictures.iter().flatten().filter_map(|(folder, _)| folder.clone()));
    let mut samples = [vec![], vec![], vec![]];
    for ((set, samples), camera) in pictures.into_iter().zip(&mut samples).zip([0, 0, 1]) {
        for (folder, path) in set {
            match (name::fields(&path).filter(|_| by_file), folder) {
                (Some((JUNK, ..)), _) => {}
                (Some((identity, text, camera)), _) => {
                    let identity_name = text.to_owned();
                    samples.push(Sample { path, identity, identity_name, camera });
                }
                (None, Some(identity_name)) => {
                    samples.push(Sample { identity: numbers[&identity_name], identity_name, path, camera });
                }
                (None, None) => return Err(DatasetError::Name { path, example: "query/anna/1.jpg" }),
            }
        }
    }
    if by_file {
        samples = three_folders::cameras_from_0(samples);
    }
    let mut warnings = Vec::new();
    if validation && training == "train" {
        warnings
            .push(format!("`{}` is not used: `train` trains, `query` and `gallery` test", root.join("val").display()));
    }
    Ok(Parts { samples, left_out, warnings, cameras_known: by_file })
}

/// One number per name, in natural order, also where sets share names.
fn numbered(names: impl Iterator<Item = String>) -> BTreeMap<String, i64> {
    let mut names: Vec<String> = names.collect();
    names.sort_by(|left, right| name::natural(Path::new(left), Path::new(right)));
    names.dedup();
    names.into_iter().zip(0..).collect()
}

/// The identity folders in natural order, each with its pictures; folders without any are no identities.
fn identities(folder: &Path) -> Result<(Vec<(String, Listing)>, LeftOut), DatasetError> {
    let Listing { folders, mut left_out, pictures, others } = Listing::of(folder)?;
    let mut identities: Vec<(String, Listing)> = Vec::new();
    let mut places = BTreeMap::new();
    for path in &folders {
        let inner = match Listing::recursive(path) {
            Err(DatasetError::Read { path, source }) => {
                left_out.unreadable.push((path, source.to_string()));
                continue;
            }
            inner => inner?,
        };
        left_out.extend(inner.left_out.clone());
        if inner.pictures.is_empty() {
            continue;
        }
        // One name can be spelt by two sequences of bytes, and be two folders.
        let name = folder_name(path)?;
        let place = *places.entry(name.clone()).or_insert(identities.len());
        match identities.get_mut(place) {
            Some((_, listing)) => listing.pictures.extend(inner.pictures),
            None => identities.push((name, inner)),
        }
    }
    if identities.is_empty() {
        let found = Listing { folders, left_out, pictures, others }.found();
        return Err(DatasetError::Empty { folder: folder.to_owned(), found, allowed: ALLOWED.into() });
    }
    Ok((identities, left_out))
}
