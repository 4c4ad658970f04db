//! The layout of Market-1501, also used for copies of DukeMTMC-reID, CUHK03 and MSMT17: `bounding_box_train`, `query`
//! and `bounding_box_test`, with identity and camera in each file name.

use std::path::Path;

use super::listing::Listing;
use super::{DatasetError, JUNK, LeftOut, Parts, Sample, name};

/// The folders: training, query, gallery.
pub(super) const FOLDERS: [&str; 3] = ["bounding_box_train", "query", "bounding_box_test"];

/// Whether the layout is there, maybe without one of its folders. `query` alone is a folder of other layouts, too.
pub(super) fn fits(base: &Path) -> bool {
    [FOLDERS[0], FOLDERS[2]].iter().any(|folder| base.join(folder).is_dir())
}

/// Training, query and gallery pictures. `example` is a name of the right form.
pub(super) fn open(base: &Path, example: &'static str) -> Result<Parts, DatasetError> {
    let mut left_out = LeftOut::default();
    let [train, query, gallery] = FOLDERS.map(|folder| split(&base.join(folder), example, &mut left_out));
    let samples = cameras_from_0([train?, query?, gallery?]);
    Ok(Parts { samples, left_out, warnings: vec![], cameras_known: true })
}

/// Cameras of names, which count from 1; of a set that has a camera 0, they stay as they are.
pub(super) fn cameras_from_0(mut samples: [Vec<Sample>; 3]) -> [Vec<Sample>; 3] {
    if samples.iter().flatten().all(|sample| sample.camera > 0) {
        samples.iter_mut().flatten().for_each(|sample| sample.camera -= 1);
    }
    samples
}

/// The cameras are those of the names.
fn split(folder: &Path, example: &'static str, left_out: &mut LeftOut) -> Result<Vec<Sample>, DatasetError> {
    if !folder.is_dir() {
        return Err(DatasetError::NoFolder { root: folder.to_owned() });
    }
    let listing = Listing::of(folder)?;
    let mut samples = Vec::with_capacity(listing.pictures.len());
    for path in &listing.pictures {
        let (identity, text, camera) =
            name::fields(path).ok_or_else(|| DatasetError::Name { path: path.clone(), example })?;
        if identity == JUNK {
            continue;
        }
        let sample = Sample { path: path.clone(), identity, identity_name: text.to_owned(), camera };
        check(&sample)?;
        samples.push(sample);
    }
    if samples.is_empty() {
        let junk = if listing.pictures.is_empty() { "" } else { ", all junk (identity -1)" };
        return Err(DatasetError::Empty {
            folder: folder.to_owned(),
            found: format!("{}{junk}", listing.found()),
            allowed: format!("at least one picture with a name such as `{example}`"),
        });
    }
    left_out.extend(listing.left_out);
    Ok(samples)
}

/// Whether identity and camera are numbers that a set may have. Below 0 there is junk only, which is left out before.
pub(super) fn check(sample: &Sample) -> Result<(), DatasetError> {
    for (what, found, end) in [("identity", sample.identity, i64::MAX), ("camera", sample.camera, name::MAX_CAMERA)] {
        if !(0..end).contains(&found) {
            let allowed = match end {
                i64::MAX => "numbers from 0, and -1 for junk,".to_owned(),
                end => format!("0 to {}", end - 1),
            };
            return Err(DatasetError::Range { path: sample.path.clone(), what, found, allowed });
        }
    }
    Ok(())
}
