//! Tells whether a probe is in the gallery: as the same file, or as another file with the same bytes.

use std::path::{Path, PathBuf};

use crate::gallery::Template;

/// Whether both are one file, by whatever path. Files of different names are different.
pub fn same_file(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one.file_name() == other.file_name() && real(one).is_some_and(|one| Some(one) == real(other))
}

/// Whether the files of both hold the same bytes. With each template comes what finds its files.
pub fn same_content(
    (one, our_file): (&Template, impl Fn(&Path) -> PathBuf),
    (other, their_file): (&Template, impl Fn(&Path) -> PathBuf),
) -> bool {
    let mut files = one.files().zip(other.files());
    one.files().count() == other.files().count()
        && files.all(|(one, other)| same_bytes(&our_file(one), &their_file(other)))
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

    #[test]
    fn the_same_file_by_another_path_and_the_same_bytes_in_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        std::fs::create_dir(at.join("people")).unwrap();
        for (name, bytes) in [("people/a.png", "aa"), ("people/b.png", "bb"), ("copy.png", "aa"), ("a.png", "cc")] {
            std::fs::write(at.join(name), bytes).unwrap();
        }
        let same = |one: &str, other: &str| same_file(&at.join(one), &at.join(other));
        assert!(same("people/a.png", "people/../people/a.png"));
        assert!(!same("people/a.png", "a.png"), "a file of the same name is not the same file");
        assert!(!same("people/a.png", "copy.png") && !same("gone.png", "gone.png"));
        let template = |path: &str| Template { path: path.into(), ..Template::default() };
        let content = |one: &str, other: &str| {
            let file = |path: &Path| at.join(path);
            same_content((&template(one), file), (&template(other), file))
        };
        assert!(content("people/a.png", "copy.png") && !content("people/a.png", "people/b.png"));
        assert!(!content("gone.png", "gone.png"));
    }
}
