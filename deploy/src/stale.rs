//! Notices what happens to the pictures of a gallery.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::DeployError;
use crate::gallery::{Gallery, Stamp};
use crate::pictures::{self, Input};

/// Differences between a gallery and the pictures in its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Stale {
    /// Pictures that are not in the gallery.
    pub new: usize,
    /// Rows whose picture has another size or time of modification.
    pub changed: usize,
    /// Rows whose picture no longer exists.
    pub gone: usize,
}

impl Stale {
    /// Compares the gallery in `folder` with the pictures there. `None` if no row was made from a picture in the
    /// folder, or if nothing differs. Rows of pictures elsewhere do not count: these may have been deleted on purpose.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    pub fn of(folder: &Path, gallery: &Gallery) -> Result<Option<Self>, DeployError> {
        let Ok(root) = folder.canonicalize() else { return Ok(None) };
        // Most galleries are in a folder of their own, and their templates need not be looked at.
        let there = pictures::list(std::slice::from_ref(&root), None).map(|listed| listed.pictures).unwrap_or_default();
        let has_folders = std::fs::read_dir(&root).is_ok_and(|mut entries| {
            entries.any(|entry| entry.is_ok_and(|entry| entry.path().is_dir() && entry.file_name() != SEGMENTS))
        });
        if there.is_empty() && !has_folders {
            return Ok(None);
        }
        let Difference { new, changed, gone, known } = Difference::of(gallery, &[root], there)?;
        // What could not be used then is not new.
        let new = new.len().saturating_sub(gallery.about().skipped);
        let found = Self { new, changed: changed.len(), gone: gone.len() };
        Ok((known > 0 && found != Self { new: 0, changed: 0, gone: 0 }).then_some(found))
    }
}

/// What has happened to the pictures of a gallery since they were embedded.
#[derive(Debug, Default)]
pub struct Difference {
    /// Pictures that are not in the gallery.
    pub new: Vec<Input>,
    /// Rows whose picture has another size or time of modification, with the picture.
    pub changed: Vec<(usize, Input)>,
    /// Rows whose picture no longer exists.
    pub gone: Vec<usize>,
    /// Rows that were made from a picture in the folders.
    pub known: usize,
}

impl Difference {
    /// Compares the rows that were made from pictures below `roots` with the pictures that are `there` now. Other rows
    /// do not count.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    pub fn of(gallery: &Gallery, roots: &[PathBuf], there: Vec<Input>) -> Result<Self, DeployError> {
        let mut real = Real::default();
        let roots: Vec<PathBuf> =
            roots.iter().map(|root| root.canonicalize().unwrap_or_else(|_| root.clone())).collect();
        let mut difference = Self::default();
        let mut now: HashMap<PathBuf, Input> =
            there.into_iter().map(|picture| (real.of(picture.path()), picture)).collect();
        let mut known = HashSet::new();
        for rows in gallery.rows()?.chunks(ROWS) {
            for (row, template) in rows.iter().zip(gallery.templates(rows)?) {
                let files: Vec<PathBuf> = template.files().map(|file| real.of(&gallery.file(file))).collect();
                if !files.iter().any(|file| roots.iter().any(|root| file.starts_with(root))) {
                    continue;
                }
                difference.known += 1;
                let stamp = Stamp::of(&files);
                let is_changed = stamp != template.stamp && template.stamp.is_some();
                match (stamp, now.get(&files[0])) {
                    (None, _) => difference.gone.push(*row),
                    (Some(_), Some(picture)) if is_changed => difference.changed.push((*row, picture.clone())),
                    // It exists, and is not listed: of a format that is not read any more, or hidden.
                    (Some(_), None) if is_changed => difference.gone.push(*row),
                    _ => {}
                }
                known.extend(files);
            }
        }
        now.retain(|path, _| !known.contains(path));
        difference.new = now.into_values().collect();
        difference.new.sort_by(|a, b| datasets::natural(a.path(), b.path()));
        Ok(difference)
    }
}

/// The folder of a gallery that is no folder of pictures.
const SEGMENTS: &str = "segments";

/// Templates that are read at a time.
const ROWS: usize = 4096;

/// Canonical paths. If the folder of a file is gone, its nearest existing ancestor is made canonical.
#[derive(Default)]
struct Real(HashMap<PathBuf, PathBuf>);

impl Real {
    fn of(&mut self, file: &Path) -> PathBuf {
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return file.to_owned() };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        if let Some(real) = self.0.get(folder) {
            return real.join(name);
        }
        let real = match folder.canonicalize() {
            Ok(real) => real,
            Err(_) => self.of(folder),
        };
        self.0.insert(folder.to_owned(), real.clone());
        real.join(name)
    }
}
