//! The layout of Market-1501, also used for copies of DukeMTMC-reID, CUHK03 and MSMT17: `bounding_box_train`, `query`
//! and `bounding_box_test`, with identity and camera in each file name.

use std::ops::RangeInclusive;
use std::path::Path;

use super::listing::Listing;
use super::{DatasetError, JUNK, LeftOut, Parts, Sample, name};

/// The folders: training, query, gallery.
pub(super) const FOLDERS: [&str; 3] = ["bounding_box_train", "query", "bounding_box_test"];

/// Numbers that names of a dataset may contain.
pub(super) struct Rules {
    pub(super) example: &'static str,
    pub(super) identities: RangeInclusive<i64>,
    /// As in the names, counted from 1.
    pub(super) cameras: RangeInclusive<i64>,
    /// What to do with another set in this layout whose numbers are out of range.
    pub(super) way_out: Option<&'static str>,
}

/// Whether the layout is there, maybe without one of its folders. `query` alone is a folder of other layouts, too.
pub(super) fn fits(base: &Path) -> bool {
    [FOLDERS[0], FOLDERS[2]].iter().any(|folder| base.join(folder).is_dir())
}

/// Training, query and gallery pictures.
pub(super) fn open(base: &Path, rules: &Rules) -> Result<Parts, DatasetError> {
    let mut left_out = LeftOut::default();
    let [train, query, gallery] = FOLDERS.map(|folder| split(&base.join(folder), rules, &mut left_out));
    Ok(Parts { samples: [train?, query?, gallery?], left_out, warnings: vec![] })
}

fn split(folder: &Path, rules: &Rules, left_out: &mut LeftOut) -> Result<Vec<Sample>, DatasetError> {
    if !folder.is_dir() {
        return Err(DatasetError::NoFolder { root: folder.to_owned() });
    }
    let listing = Listing::of(folder)?;
    let mut samples = Vec::with_capacity(listing.pictures.len());
    for path in &listing.pictures {
        let (identity, text, camera) =
            name::fields(path).ok_or_else(|| DatasetError::Name { path: path.clone(), example: rules.example })?;
        if identity == JUNK {
            continue;
        }
        let sample = Sample { path: path.clone(), identity, identity_name: text.to_owned(), camera: camera - 1 };
        check(&sample, rules)?;
        samples.push(sample);
    }
    if samples.is_empty() {
        let junk = if listing.pictures.is_empty() { "" } else { ", all junk (identity -1)" };
        return Err(DatasetError::Empty {
            folder: folder.to_owned(),
            found: format!("{}{junk}", listing.found()),
            allowed: format!("at least one picture with a name such as `{}`", rules.example),
        });
    }
    left_out.extend(listing.left_out);
    Ok(samples)
}

/// Whether identity and camera are in range.
pub(super) fn check(sample: &Sample, rules: &Rules) -> Result<(), DatasetError> {
    let numbers = [("identity", sample.identity, &rules.identities), ("camera", sample.camera + 1, &rules.cameras)];
    for (what, found, allowed) in numbers {
        if !allowed.contains(&found) {
            let allowed = match *allowed.end() {
                i64::MAX => format!("{what} numbers from {}", allowed.start()),
                end => format!("{} to {end}", allowed.start()),
            };
            let way_out = rules.way_out.unwrap_or_default();
            return Err(DatasetError::Range { path: sample.path.clone(), what, found, allowed, way_out });
        }
    }
    Ok(())
}
