//! Finds probes that are in the gallery: as the same file, or as another file with the same bytes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::gallery::Embeddings;

/// Entries that were made from the same pictures as the probes.
pub struct Twins<'a> {
    probes: &'a Embeddings,
    gallery: &'a Embeddings,
    /// Rows of the same path, per probe.
    by_path: Vec<Vec<usize>>,
}

impl<'a> Twins<'a> {
    /// Compares canonical paths, of entries whose file name is that of a probe.
    pub fn of(probes: &'a Embeddings, gallery: &'a Embeddings) -> Self {
        let name = |path: &Path| path.file_name().map(OsStr::to_owned);
        let real =
            |embeddings: &Embeddings, path: &Path| -> Option<PathBuf> { embeddings.file(path).canonicalize().ok() };
        let mut called: HashMap<_, Vec<(usize, Option<PathBuf>)>> = HashMap::new();
        for (probe, template) in probes.templates.iter().enumerate() {
            let path = real(probes, &template.path);
            called.entry(name(&template.path)).or_default().push((probe, path));
        }
        let mut by_path = vec![Vec::new(); probes.templates.len()];
        for (row, template) in gallery.templates.iter().enumerate() {
            let Some(namesakes) = called.get(&name(&template.path)) else { continue };
            let Some(path) = real(gallery, &template.path) else { continue };
            for (probe, _) in namesakes.iter().filter(|(_, other)| other.as_ref() == Some(&path)) {
                by_path[*probe].push(row);
            }
        }
        Self { probes, gallery, by_path }
    }

    /// Entries that were made from the probe's file.
    pub fn by_path(&self, probe: usize) -> impl Iterator<Item = usize> + '_ {
        self.by_path[probe].iter().copied()
    }

    /// Whether the probe and an entry are the same file, or their files hold the same bytes.
    pub fn are(&self, probe: usize, row: usize) -> bool {
        if self.by_path[probe].contains(&row) {
            return true;
        }
        let (ours, theirs) = (&self.probes.templates[probe], &self.gallery.templates[row]);
        let mut files = ours.files().zip(theirs.files());
        ours.files().count() == theirs.files().count()
            && files.all(|(one, other)| same_bytes(&self.probes.file(one), &self.gallery.file(other)))
    }
}

/// Whether both files exist and have equal content. Files of different sizes are not read.
fn same_bytes(one: &Path, other: &Path) -> bool {
    let size = |path: &Path| std::fs::metadata(path).ok().filter(|file| file.is_file()).map(|file| file.len());
    let (Some(one_size), Some(other_size)) = (size(one), size(other)) else { return false };
    one_size == other_size && matches!((std::fs::read(one), std::fs::read(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::Template;

    fn embeddings(folder: &Path, paths: &[&str]) -> Embeddings {
        let template = |path: &&str| Template { path: path.into(), ..Template::default() };
        let templates = paths.iter().map(template).collect();
        Embeddings { values: vec![], dim: 0, templates, folder: folder.to_owned() }
    }

    #[test]
    fn the_same_file_by_another_path_and_the_same_bytes_in_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::create_dir(at.join("people")).unwrap();
        for (name, bytes) in [("people/a.png", "aa"), ("people/b.png", "bb"), ("copy.png", "aa"), ("a.png", "cc")] {
            std::fs::write(at.join(name), bytes).unwrap();
        }
        let gallery = embeddings(&at.join("people"), &["a.png", "b.png", "../copy.png", "gone.png"]);
        let probes = embeddings(at, &["people/../people/a.png", "a.png", "copy.png", "gone.png"]);
        let twins = Twins::of(&probes, &gallery);
        let paths: Vec<Vec<usize>> = (0..4).map(|probe| twins.by_path(probe).collect()).collect();
        assert_eq!(paths, [vec![0], vec![], vec![2], vec![]]);
        let are: Vec<Vec<usize>> = (0..4).map(|probe| (0..4).filter(|row| twins.are(probe, *row)).collect()).collect();
        assert_eq!(are, [vec![0, 2], vec![], vec![0, 2], vec![]], "a file of the same name is not the same file");
    }
}
