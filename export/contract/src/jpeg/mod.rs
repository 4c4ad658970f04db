//! JPEG as libjpeg-turbo decodes it, and with it Pillow, OpenCV and what was trained with them: the same inverse
//! transform, the same interpolation of chroma, the same conversion to RGB, bit for bit.
//!
//! Decoders that round elsewhere are up to some levels off, most on small pictures with subsampled chroma, and a
//! network sees the difference. `ci/pictures` compares with Pillow.
//!
//! It reads Huffman-coded pictures of 8 bits, sequential and progressive, grey, RGB, YCbCr, CMYK and YCCK. What
//! libjpeg-turbo only warns of, as data that stop early or codes that do not exist, is an error here: the picture is
//! damaged.

mod bits;
mod idct;
mod markers;
mod progressive;
mod samples;
mod scan;

use image::RgbImage;
use image::metadata::Orientation;

pub(crate) use markers::MAGIC;
use markers::{Reader, Segment};
pub(crate) use samples::share;

/// Coefficients of a block, and its samples.
const BLOCK: usize = 64;

/// Most scans of a picture. Encoders write up to some dozens; each of thousands may pass over the whole picture for a
/// few bytes.
const MAX_SCANS: usize = 500;

/// Why a JPEG is not decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JpegError {
    /// The data stop before the end marker.
    #[error("its data stop before the end marker")]
    CutOff,
    /// The data contradict themselves.
    #[error("{0}")]
    Damaged(&'static str),
    /// A kind of JPEG that we do not read.
    #[error("it is {0}, which is not read; baseline and progressive JPEG of 8 bits are")]
    Unread(&'static str),
}

/// What the header of a JPEG says.
pub(crate) struct Header {
    /// Width, height.
    pub(crate) size: [u32; 2],
    /// Which way up it is, by its EXIF data.
    pub(crate) orientation: Orientation,
    /// Bytes of memory that [`decode`] takes, besides the file and the RGB picture.
    pub(crate) memory: u64,
    /// Whether an end marker is there. Without one nothing need be decoded.
    pub(crate) whole: bool,
}

/// Reads the header, up to the first compressed data.
pub(crate) fn header(file: &[u8]) -> Result<Header, JpegError> {
    let mut reader = Reader::new(file)?;
    let mut orientation = Orientation::NoTransforms;
    loop {
        match reader.next()? {
            Segment::Exif(data) => orientation = Orientation::from_exif_chunk(data).unwrap_or(orientation),
            Segment::Scan(scan) => {
                // Of a whole file it is at the very end. Compressed data have no such pair of bytes.
                let whole = file[scan.data..].windows(2).rev().any(|pair| pair == [0xff, 0xd9]);
                let frame = reader.frame()?;
                let size = frame.size.map(|size| size as u32);
                return Ok(Header { size, orientation, memory: frame.memory(), whole });
            }
            Segment::End => return Err(JpegError::Damaged("it has no picture")),
        }
    }
}

/// Decodes to RGB. What is CMYK becomes RGB as in Pillow. Its caller has looked at the size.
pub(crate) fn decode(file: &[u8]) -> Result<RgbImage, JpegError> {
    let mut reader = Reader::new(file)?;
    let mut scans = 0;
    loop {
        match reader.next()? {
            Segment::Exif(_) => {}
            Segment::Scan(data) => {
                scans += 1;
                if scans > MAX_SCANS {
                    return Err(JpegError::Damaged("it has more than 500 scans"));
                }
                let frame = reader.frame()?;
                if frame.size.contains(&0) {
                    return Err(JpegError::Damaged("it has no pixels"));
                }
                let end = if frame.progressive {
                    progressive::scan(&mut reader, file, data)?
                } else {
                    scan::scan(&mut reader, file, data)?
                };
                reader.go_on(end);
            }
            Segment::End => break,
        }
    }
    let mut frame = reader.into_frame()?;
    if !frame.components.iter().all(|component| component.begun) {
        return Err(JpegError::Damaged("the data of a colour are missing"));
    }
    if frame.progressive {
        progressive::finish(&mut frame)?;
    }
    Ok(samples::rgb(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files, and what Pillow 13.0 (libjpeg-turbo 3.2) makes of them; `fixtures/pillow/README.md`.
    #[test]
    fn pixels_are_those_of_libjpeg_turbo() {
        let golden = fixtures::Golden::load("pillow").unwrap();
        let cases = golden.json()["jpeg"]["cases"].as_object().unwrap();
        assert!(cases.len() >= 20, "{} cases", cases.len());
        for (name, case) in cases {
            let (_, file) = golden.tensor_u8(case["file"].as_str().unwrap()).unwrap();
            let (shape, expected) = golden.tensor_u8(case["pixels"].as_str().unwrap()).unwrap();
            let found = decode(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!([found.height() as usize, found.width() as usize, 3], *shape, "{name}");
            let apart = found.as_raw().iter().zip(&expected).map(|(found, expected)| found.abs_diff(*expected));
            assert_eq!(apart.max(), Some(0), "{name}: levels of difference");
            let header = header(&file).unwrap();
            assert_eq!(header.size, [found.width(), found.height()], "{name}");
        }
    }

    /// Whatever is cut off or changed, there is an answer, and a file that stops early is an error.
    #[test]
    fn damaged_files_are_told() {
        let golden = fixtures::Golden::load("pillow").unwrap();
        for (name, case) in golden.json()["jpeg"]["cases"].as_object().unwrap() {
            let (_, file) = golden.tensor_u8(case["file"].as_str().unwrap()).unwrap();
            for end in (0..file.len()).step_by(5).chain(file.len().saturating_sub(9)..file.len()) {
                assert!(decode(&file[..end]).is_err(), "{name}: {end} of {} bytes", file.len());
            }
            // The data stop early, and an end marker follows.
            let half = [&file[..file.len() - file.len() / 4], &[0xff, 0xd9]].concat();
            assert!(decode(&half).is_err(), "{name}: a quarter is missing");
            for at in 2..file.len() {
                let mut changed = file.clone();
                changed[at] ^= 1 << (at % 8);
                // A changed size may be a large one.
                if header(&changed).is_ok_and(|header| header.memory < 1 << 20) {
                    let _ = decode(&changed);
                }
            }
        }
    }
}
