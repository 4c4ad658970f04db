//! Notices changed pictures when a gallery is in the same folder as its pictures.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::DeployError;
use crate::gallery::{Gallery, Stamp};
use crate::pictures;

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
        let mut real = Real::default();
        let mut known = HashSet::new();
        let (mut changed, mut gone) = (0, 0);
        for rows in gallery.rows()?.chunks(ROWS) {
            for template in gallery.templates(rows)? {
                let files: Vec<PathBuf> = template.files().map(|file| real.of(&gallery.file(file))).collect();
                if !files.iter().any(|file| file.starts_with(&root)) {
                    continue;
                }
                match Stamp::of(&files) {
                    None => gone += 1,
                    now => changed += usize::from(template.stamp.is_some() && now != template.stamp),
                }
                known.extend(files);
            }
        }
        if known.is_empty() {
            return Ok(None);
        }
        let new = there.iter().filter(|picture| !known.contains(&real.of(picture.path()))).count();
        let found = Self { new: new.saturating_sub(gallery.about().skipped), changed, gone };
        Ok((found != Self { new: 0, changed: 0, gone: 0 }).then_some(found))
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
