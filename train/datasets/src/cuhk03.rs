//! CUHK03's new protocol as the usual tools write it: pictures in `images_{detected,labeled}`, the split in
//! `splits_new_{detected,labeled}.json`.

use std::path::{Path, PathBuf};

use contract::preprocess::is_unread_picture;
use serde::Deserialize;

use super::three_folders;
use super::{DatasetError, LeftOut, Parts, Sample};

/// One split; each entry is a path, an identity and a camera from 0. The paths are those of the machine that unpacked
/// the pictures, so only the file names are used.
#[derive(Deserialize)]
struct Split {
    train: Vec<(String, i64, i64)>,
    query: Vec<(String, i64, i64)>,
    gallery: Vec<(String, i64, i64)>,
}

fn files(base: &Path, boxes: &str) -> (PathBuf, PathBuf) {
    (base.join(format!("splits_new_{boxes}.json")), base.join(format!("images_{boxes}")))
}

/// Whether the split file and the pictures exist. `boxes` is `labeled` or `detected`.
pub(super) fn fits(base: &Path, boxes: &str) -> bool {
    let (split, pictures) = files(base, boxes);
    split.is_file() && pictures.is_dir()
}

/// Training, query and gallery pictures.
pub(super) fn open(base: &Path, boxes: &str) -> Result<Parts, DatasetError> {
    let (file, folder) = files(base, boxes);
    let text = files::read_limited(&file, files::LARGEST_TABLE);
    let text = text.map_err(|source| DatasetError::Read { path: file.clone(), source })?;
    let splits: Vec<Split> =
        serde_json::from_slice(&text).map_err(|source| DatasetError::Split { path: file.clone(), source })?;
    let empty = || DatasetError::Empty {
        folder: file.clone(),
        found: "an empty split".into(),
        allowed: "train, query and gallery with entries of path, identity and camera".into(),
    };
    let split = splits.into_iter().next().ok_or_else(empty)?;
    let mut left_out = LeftOut::default();
    let mut samples = |entries: Vec<(String, i64, i64)>| -> Result<Vec<Sample>, DatasetError> {
        let mut samples = Vec::with_capacity(entries.len());
        for (path, identity, camera) in entries {
            let name = path.rsplit(['/', '\\']).next().unwrap_or_default();
            let sample = Sample { path: folder.join(name), identity, identity_name: identity.to_string(), camera };
            three_folders::check(&sample)?;
            if is_unread_picture(&sample.path) { left_out.unread.push(sample.path) } else { samples.push(sample) }
        }
        if samples.is_empty() { Err(empty()) } else { Ok(samples) }
    };
    let samples = [samples(split.train)?, samples(split.query)?, samples(split.gallery)?];
    Ok(Parts { samples, left_out, warnings: vec![], cameras_known: true })
}
