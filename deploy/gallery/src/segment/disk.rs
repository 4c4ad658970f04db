use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// Everything that a gallery writes by itself; SQLite writes the rest. The tests put one in its place that fails, tears
/// and dies.
pub trait Disk: Send + Sync + std::fmt::Debug {
    /// Makes an empty file, or empties it, readable by its owner only.
    ///
    /// # Errors
    /// What the system refuses; so for all of these.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Writes all of `bytes` from byte `offset` on.
    ///
    /// # Errors
    /// Part of it may be written.
    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when the file's content would survive a power cut.
    ///
    /// # Errors
    /// It may not survive.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Shortens the file.
    ///
    /// # Errors
    /// It is as it was.
    fn cut(&self, file: &File, length: u64) -> io::Result<()>;

    /// Returns when files made and removed in the folder would stay so after a power cut.
    ///
    /// # Errors
    /// They may not.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Removes the file.
    ///
    /// # Errors
    /// It is still there.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The disk there is.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Disk for System {
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(path)
    }

    fn write(&self, mut file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}
