//! What a folder holds, in natural order on every file system, and what is left out.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::{DatasetError, name};
use contract::preprocess::{is_picture, is_unread_picture};

/// Folders that systems, servers and archivers create among pictures, in lower case. They hold thumbnails, copies and
/// deleted files.
const JUNK_FOLDERS: [&str; 11] = [
    "@eadir",
    "@recycle",
    "@recently-snapshot",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "__macosx",
    "lost+found",
    "network trash folder",
    "temporary items",
];

/// Number of names that a warning lists; it counts the rest.
const NAMED: usize = 5;

/// Files and folders among the pictures of a data set that are not used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Pictures of formats that are not read, recognised by their extensions.
    pub unread: Vec<PathBuf>,
    /// Pipes, sockets and devices with names like pictures.
    pub special: Vec<PathBuf>,
    /// Pictures of a table that are not there.
    pub missing: Vec<PathBuf>,
    /// Subfolders that cannot be read, with the system's reason.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Folders that are known to hold no pictures of a data set, such as a server's thumbnails.
    pub junk: Vec<PathBuf>,
    /// Hidden pictures and folders: those whose names begin with a dot.
    pub hidden: Vec<PathBuf>,
}

impl LeftOut {
    /// Whether pictures are left out that were probably meant: an error where every picture must be usable.
    pub fn is_loss(&self) -> bool {
        !(self.unread.is_empty() && self.special.is_empty() && self.missing.is_empty() && self.unreadable.is_empty())
    }

    /// Adds what another folder leaves out.
    pub fn extend(&mut self, other: Self) {
        self.unread.extend(other.unread);
        self.special.extend(other.special);
        self.missing.extend(other.missing);
        self.unreadable.extend(other.unreadable);
        self.junk.extend(other.junk);
        self.hidden.extend(other.hidden);
    }

    /// One sentence for each kind of file that is left out.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.losses();
        if !self.junk.is_empty() {
            let why = "because systems and servers keep thumbnails and deleted files there";
            warnings.push(counted(&self.junk, "folder", "folders", why));
        }
        if !self.hidden.is_empty() {
            let why = "because they are hidden";
            warnings.push(counted(&self.hidden, "file or folder", "files and folders", why));
        }
        warnings
    }

    /// The sentences about what [`LeftOut::is_loss`] counts.
    pub fn losses(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.unread.is_empty() {
            let readable = contract::preprocess::EXTENSIONS.join(", ");
            let why = format!("because only {readable} can be read ({})", endings(&self.unread));
            warnings.push(counted(&self.unread, "picture", "pictures", &why));
        }
        if !self.special.is_empty() {
            warnings.push(counted(&self.special, "file", "files", "because only regular files are pictures"));
        }
        if !self.missing.is_empty() {
            warnings.push(counted(&self.missing, "picture", "pictures", "because there is no such file"));
        }
        for (folder, reason) in self.unreadable.iter().take(NAMED) {
            warnings.push(format!("folder `{}` is left out, because it cannot be read: {reason}", folder.display()));
        }
        if self.unreadable.len() > NAMED {
            warnings.push(format!("{} folders in all cannot be read", self.unreadable.len()));
        }
        warnings
    }
}

/// How many files have each ending.
fn endings(paths: &[PathBuf]) -> String {
    let mut endings = BTreeMap::<String, usize>::new();
    for path in paths {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        *endings.entry(ending).or_default() += 1;
    }
    endings.iter().map(|(ending, count)| format!("{count} .{ending}")).collect::<Vec<_>>().join(", ")
}

/// Pictures of formats that are not read, for messages; empty if there are none.
pub(super) fn unread(paths: &[PathBuf]) -> String {
    let what = match paths.len() {
        0 => return String::new(),
        1 => "1 picture of a format that is not read".to_owned(),
        count => format!("{count} pictures of formats that are not read"),
    };
    format!("{what} ({})", endings(paths))
}

fn counted(paths: &[PathBuf], one: &str, many: &str, why: &str) -> String {
    let what = if paths.len() == 1 { format!("1 {one} is") } else { format!("{} {many} are", paths.len()) };
    format!("{what} left out, {why}: {}", first(paths.iter().map(PathBuf::as_path)))
}

/// The first few paths, in backticks.
pub(super) fn first<'a>(paths: impl ExactSizeIterator<Item = &'a Path>) -> String {
    let more = if paths.len() > NAMED { ", …" } else { "" };
    let named: Vec<_> = paths.take(NAMED).map(|path| format!("`{}`", path.display())).collect();
    named.join(", ") + more
}

/// The entries of one folder.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files that end like pictures; a broken link is among them, so that it is counted as unreadable and not lost.
    pub(super) pictures: Vec<PathBuf>,
    /// Folders, links to folders too.
    pub(super) folders: Vec<PathBuf>,
    /// Number of files that are not pictures.
    pub(super) others: usize,
    /// Everything that is skipped.
    pub(super) left_out: LeftOut,
}

impl Listing {
    /// Reads one folder.
    pub(super) fn of(folder: &Path) -> Result<Self, DatasetError> {
        let failed = |source| DatasetError::Read { path: folder.to_owned(), source };
        let mut listing = Self::default();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let mut kind = entry.file_type().map_err(failed)?;
            if kind.is_symlink()
                && let Ok(target) = std::fs::metadata(&path)
            {
                kind = target.file_type();
            }
            let left_out = &mut listing.left_out;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                // macOS keeps a `._0002_c1.jpg` beside each picture on foreign disks.
                if kind.is_dir() || is_picture(&path) {
                    left_out.hidden.push(path);
                }
            } else if kind.is_dir() {
                let name = entry.file_name().to_string_lossy().to_lowercase();
                let junk = JUNK_FOLDERS.contains(&name.as_str());
                if junk { left_out.junk.push(path) } else { listing.folders.push(path) }
            } else if is_unread_picture(&path) {
                left_out.unread.push(path);
            } else if !is_picture(&path) {
                listing.others += 1;
            } else if kind.is_file() || kind.is_symlink() {
                listing.pictures.push(path);
            } else {
                left_out.special.push(path);
            }
        }
        let left_out = &mut listing.left_out;
        let lists = [&mut left_out.unread, &mut left_out.special, &mut left_out.junk, &mut left_out.hidden];
        for list in [&mut listing.pictures, &mut listing.folders].into_iter().chain(lists) {
            list.sort_by(|left, right| name::natural(left, right));
        }
        Ok(listing)
    }

    /// The folder and all its subfolders. A folder that is reached through several links is read once, and one that
    /// contains `top` is skipped: a link upwards must not bring in neighbouring pictures. A subfolder that cannot be
    /// read is left out.
    pub(super) fn recursive(top: &Path) -> Result<Self, DatasetError> {
        let real =
            |path: &Path| path.canonicalize().map_err(|source| DatasetError::Read { path: path.to_owned(), source });
        let real_top = real(top)?;
        let mut all = Self::default();
        let mut seen = HashSet::new();
        let mut todo = vec![top.to_owned()];
        while let Some(folder) = todo.pop() {
            let listing = real(&folder).and_then(|real| {
                let again = (real != real_top && real_top.starts_with(&real)) || !seen.insert(real);
                if again { Ok(Self::default()) } else { Self::of(&folder) }
            });
            let listing = match listing {
                Err(DatasetError::Read { source, .. }) if folder != top => {
                    all.left_out.unreadable.push((folder, source.to_string()));
                    continue;
                }
                listing => listing?,
            };
            all.pictures.extend(listing.pictures);
            all.others += listing.others;
            all.left_out.extend(listing.left_out);
            // The last is read next, so the order is that of the names.
            todo.extend(listing.folders.iter().rev().cloned());
            all.folders.extend(listing.folders);
        }
        all.pictures.sort_by(|left, right| name::natural(left, right));
        Ok(all)
    }

    /// Describes what is there, including the pictures of unread formats in the folders of sets and identities below.
    pub(super) fn found_below(root: &Path) -> Result<String, DatasetError> {
        let mut listing = Self::of(root)?;
        let mut level = listing.folders.clone();
        for _ in 0..2 {
            // A folder below that cannot be read is no reason here.
            let inner: Vec<Self> = level.iter().filter_map(|folder| Self::of(folder).ok()).collect();
            level = inner.iter().flat_map(|inner| inner.folders.iter().cloned()).collect();
            inner.into_iter().for_each(|inner| listing.left_out.unread.extend(inner.left_out.unread));
        }
        Ok(listing.found())
    }

    /// Describes what is there, for messages.
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
        let unread = unread(&self.left_out.unread);
        words.extend((!unread.is_empty()).then_some(unread));
        let mut text = if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
        if !self.folders.is_empty() {
            let names = self.folders.iter().take(NAMED).filter_map(|folder| folder.file_name());
            let names: Vec<_> = names.map(|name| format!("`{}`", name.to_string_lossy())).collect();
            let more = if self.folders.len() > NAMED { ", …" } else { "" };
            text = format!("{text} ({}{more})", names.join(", "));
        }
        text
    }
}
