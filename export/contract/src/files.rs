//! Files are written to a temporary name, synced and renamed: a crash leaves the old state or the new.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use sha2::Digest;

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{}`", path.display())]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// The cause.
    pub source: std::io::Error,
}

/// Writes `bytes` to `path`, which is created or replaced as a whole; missing parent folders are created.
///
/// # Errors
/// If any step fails; `path` is then as it was.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<(), WriteError> {
    write_with(path, |file| file.write_all(bytes.as_ref()))
}

/// Lets `fill` write the content of `path`, which is created or replaced as a whole; missing parent folders are created.
///
/// # Errors
/// If any step fails; `path` is then as it was.
pub fn write_with(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<(), WriteError> {
    let attempt = || {
        let folder = folder_of(path)?;
        let mut file = tempfile::Builder::new().prefix(".vitrine-").suffix(".tmp").tempfile_in(folder)?;
        let mut writer = std::io::BufWriter::new(file.as_file_mut());
        fill(&mut writer)?;
        writer.flush()?;
        drop(writer);
        finish(file.as_file(), path)?;
        file.persist(path).map_err(|error| error.error)?;
        sync_folder(folder)
    };
    attempt().map_err(|source| WriteError { path: path.to_owned(), source })
}

/// Moves the complete file `from` to `path`, which is created or replaced as a whole; missing parent folders are created. From
/// another file system it is copied.
///
/// # Errors
/// If any step fails; `path` is then as it was.
pub fn move_to(from: &Path, path: &Path) -> Result<(), WriteError> {
    let attempt = || {
        let folder = folder_of(path)?;
        finish(&std::fs::OpenOptions::new().write(true).open(from)?, path)?;
        std::fs::rename(from, path)?;
        sync_folder(folder)
    };
    match attempt() {
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            write_with(path, |file| std::io::copy(&mut std::fs::File::open(from)?, file).map(drop))?;
            // What is left over is litter, not an error.
            let _ = std::fs::remove_file(from);
            Ok(())
        }
        done => done.map_err(|source| WriteError { path: path.to_owned(), source }),
    }
}

/// The folder of `path`, made if it is missing.
fn folder_of(path: &Path) -> std::io::Result<&Path> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)?;
    Ok(folder)
}

/// Makes a file that is going to be renamed to `path` readable like what was there, or like any other, and safe on the disk.
fn finish(file: &std::fs::File, path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        // Temporary files are private.
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    file.sync_all()
}

/// A rename lives in the folder.
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

/// SHA-256 of a file in hexadecimal, and its size in bytes; read in pieces, so that the size does not matter.
///
/// # Errors
/// If it cannot be read.
pub fn sha256(path: &Path) -> std::io::Result<(String, u64)> {
    let mut hash = sha2::Sha256::default();
    let mut reader = std::io::BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
    let mut bytes = 0;
    loop {
        let piece = reader.fill_buf()?;
        if piece.is_empty() {
            return Ok((crate::hex(&hash.finalize()), bytes));
        }
        hash.update(piece);
        let length = piece.len();
        bytes += length as u64;
        reader.consume(length);
    }
}

/// Name of the file with the weights beside a model, from their SHA-256: a new model never finds the weights of an old one.
pub fn weights_name(sha256: &str) -> String {
    let digits: String = sha256.chars().take(PROMISED_DIGITS).collect();
    format!("model.{digits}.onnx.data")
}

/// First digits of the SHA-256 that [`weights_name`] promises of a file's content; none if the name is another.
pub fn promised_sha256(name: &str) -> Option<&str> {
    let digits = name.strip_prefix("model.").and_then(|rest| rest.strip_suffix(".onnx.data"))?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (digits.len() == PROMISED_DIGITS && digits.bytes().all(hex)).then_some(digits)
}

/// Digits of a hash in a file name: 64 bits tell files apart, whoever wants to deceive has easier ways.
const PROMISED_DIGITS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_content_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.txt");
        write(&path, "old").unwrap();
        let error = write_with(&path, |file| {
            file.write_all(b"half of the n")?;
            Err(std::io::Error::other("disk full"))
        })
        .unwrap_err();
        assert!(error.to_string().contains("b.txt"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        write(&path, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn a_file_is_moved_to_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let (from, path) = (folder.path().join("made"), folder.path().join("a/b.txt"));
        for content in ["first", "second"] {
            std::fs::write(&from, content).unwrap();
            move_to(&from, &path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert!(!from.exists());
        }
        let error = move_to(&from, &path).unwrap_err();
        assert!(error.to_string().contains("b.txt"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
        // Most systems have their memory as another file system.
        if let Ok(other) = tempfile::tempdir_in("/dev/shm") {
            let from = other.path().join("made");
            std::fs::write(&from, "third").unwrap();
            move_to(&from, &path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "third");
            assert!(!from.exists());
        }
    }

    #[test]
    fn names_of_weights_promise_their_hash() {
        let hash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let name = weights_name(hash);
        assert_eq!(name, "model.0123456789abcdef.onnx.data");
        assert_eq!(promised_sha256(&name), Some(&hash[..16]));
        for other in ["model.onnx.data", "model.0123456789abcdeF.onnx.data", "model.0123.onnx.data", "weights.bin"] {
            assert_eq!(promised_sha256(other), None, "{other}");
        }
    }
}
