//! What a folder holds, in natural order, whatever the file system's.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::{DatasetError, name};
use contract::preprocess::is_picture;

/// The entries of one folder. Hidden ones (a leading dot, such as macOS' `._0002_c1.jpg`) are left out.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files that end like pictures; a broken link is among them, so that it is counted as unreadable and not lost.
    pub(super) pictures: Vec<PathBuf>,
    /// Folders, links to folders too.
    pub(super) folders: Vec<PathBuf>,
    /// Other files.
    pub(super) others: usize,
}

impl Listing {
    /// Reads one folder.
    pub(super) fn of(folder: &Path) -> Result<Self, DatasetError> {
        let failed = |source| DatasetError::Read { path: folder.to_owned(), source };
        let mut listing = Self::default();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let mut kind = entry.file_type().map_err(failed)?;
            if kind.is_symlink()
                && let Ok(target) = std::fs::metadata(&path)
            {
                kind = target.file_type();
            }
            match kind.is_dir() {
                true => listing.folders.push(path),
                false if is_picture(&path) => listing.pictures.push(path),
                false => listing.others += 1,
            }
        }
        listing.pictures.sort_by(|left, right| name::natural(left, right));
        listing.folders.sort_by(|left, right| name::natural(left, right));
        Ok(listing)
    }

    /// The folder and all below it. A folder that links lead to twice is read once, one that contains `top` not at
    /// all: a link upwards must not bring in the neighbours' pictures.
    pub(super) fn recursive(top: &Path) -> Result<Self, DatasetError> {
        let real =
            |path: &Path| path.canonicalize().map_err(|source| DatasetError::Read { path: path.to_owned(), source });
        let real_top = real(top)?;
        let mut all = Self::default();
        let mut seen = HashSet::new();
        let mut todo = vec![top.to_owned()];
        while let Some(folder) = todo.pop() {
            let real = real(&folder)?;
            if (real != real_top && real_top.starts_with(&real)) || !seen.insert(real) {
                continue;
            }
            let listing = Self::of(&folder)?;
            all.pictures.extend(listing.pictures);
            all.others += listing.others;
            // The last is read next, so the order is that of the names.
            todo.extend(listing.folders.iter().rev().cloned());
            all.folders.extend(listing.folders);
        }
        all.pictures.sort_by(|left, right| name::natural(left, right));
        Ok(all)
    }

    /// In words, for messages.
    pub(super) fn found(&self) -> String {
        let mut words = Vec::new();
        let mut count = |count: usize, one: &str, many: &str| match count {
            0 => {}
            1 => words.push(format!("1 {one}")),
            n => words.push(format!("{n} {many}")),
        };
        count(self.pictures.len(), "picture", "pictures");
        count(self.folders.len(), "folder", "folders");
        count(self.others, "other file", "other files");
        let mut text = if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
        if !self.folders.is_empty() {
            let names = self.folders.iter().take(5).filter_map(|folder| folder.file_name());
            let names: Vec<_> = names.map(|name| format!("`{}`", name.to_string_lossy())).collect();
            let more = if self.folders.len() > 5 { ", …" } else { "" };
            text = format!("{text} ({}{more})", names.join(", "));
        }
        text
    }
}
