//! Picture files before they are decoded: what may be read, and why a picture cannot be used.

use std::fs::File;
#[cfg(feature = "pictures")]
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest edge of a picture we decode, in pixels.
pub const MAX_EDGE: u32 = 16_384;

/// Most pixels of a picture we decode: 64 million, 192 MB as RGB.
pub const MAX_PIXELS: u64 = 1 << 26;

/// Most bytes of memory for one decoded picture: 16 bits a channel and an alpha channel are eight bytes a pixel.
pub(crate) const MAX_BYTES: u64 = MAX_PIXELS * 8;

/// Largest picture file we read, in bytes: the largest picture without compression, and room for its headers.
pub const MAX_FILE: u64 = MAX_BYTES + (1 << 20);

/// Largest value of 12 bits.
#[cfg(feature = "pictures")]
pub(crate) const TWELVE_BITS: u16 = 0xfff;

/// Why a picture cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PictureError {
    /// The file cannot be opened.
    #[error("cannot read picture `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A folder, pipe, socket or device: reading one may never end.
    #[error("picture `{}` is {found}; a regular file is needed", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// More bytes than any picture we decode has.
    #[error("picture `{}` has {bytes} bytes; at most {MAX_FILE} are allowed", path.display())]
    LargeFile {
        /// The file.
        path: PathBuf,
        /// Its size, as far as it was read.
        bytes: u64,
    },
    /// The header claims more pixels than we decode; nothing was allocated.
    #[error(
        "picture `{}` claims {width}×{height} pixels; at most {MAX_EDGE} an edge and {MAX_PIXELS} in all are allowed",
        path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Claimed width.
        width: u32,
        /// Claimed height.
        height: u32,
    },
    /// A picture without pixels.
    #[error("picture `{}` has {width}×{height} pixels; at least 1×1 is needed", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Width.
        width: u32,
        /// Height.
        height: u32,
    },
    /// A JPEG whose end is missing.
    #[error("picture `{}` is cut off: its JPEG data stops before the end marker", path.display())]
    CutOff {
        /// The file.
        path: PathBuf,
    },
    /// Values of 16 bits of which only the lower bits are used.
    #[error(
        "picture `{}` has 16 bits of which it uses {}: its largest value is {most} of 65535; scale its values to 0 to \
         65535, or write it with 8 bits",
        path.display(), 16 - most.leading_zeros()
    )]
    Shallow {
        /// The file.
        path: PathBuf,
        /// The largest value.
        most: u16,
    },
    /// The network makes nothing of it that can be compared.
    #[error("picture `{}` has no embedding", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: crate::embedding::RowError,
    },
    /// Not a picture, or a damaged one.
    #[cfg(feature = "pictures")]
    #[error("cannot decode picture `{}`", path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: image::ImageError,
    },
}

/// The file and its size. Only regular files are opened: a pipe or device could keep the reader waiting for ever.
pub(crate) fn open(path: &Path) -> Result<(File, u64), PictureError> {
    let unreadable = |source| PictureError::Read { path: path.to_owned(), source };
    let kind = std::fs::metadata(path).map_err(unreadable)?;
    if !kind.is_file() {
        let found = if kind.is_dir() { "a folder" } else { "a pipe, socket or device" };
        return Err(PictureError::NotAFile { path: path.to_owned(), found });
    }
    if kind.len() > MAX_FILE {
        return Err(PictureError::LargeFile { path: path.to_owned(), bytes: kind.len() });
    }
    Ok((File::open(path).map_err(unreadable)?, kind.len()))
}

/// The file's bytes, even if it grows meanwhile.
#[cfg(feature = "pictures")]
pub(crate) fn content(path: &Path) -> Result<Vec<u8>, PictureError> {
    let (file, size) = open(path)?;
    let mut bytes = Vec::with_capacity(size as usize + 1);
    file.take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| PictureError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(PictureError::LargeFile { path: path.to_owned(), bytes: bytes.len() as u64 });
    }
    Ok(bytes)
}
