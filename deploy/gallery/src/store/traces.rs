use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files_of;
use crate::GalleryError;
use crate::segment::quantised;

/// A piece of a vector that was found in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// The file.
    pub file: PathBuf,
    /// The byte where it begins.
    pub offset: u64,
}

/// Values of the pieces that are looked for.
const PIECE: usize = 8;

/// Pieces of a vector that are found in a file before the rest is left uncounted.
const ENOUGH: usize = 100;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// Integers of a reduced copy that are looked for together, and how many of them are not zero at least: fewer say
/// little, another vector may have them as well.
const CODES: usize = 128;
const TELLING: usize = 64;

/// Pieces of the reduced copy of a vector: integers in a row or, where those say little, the whole row with its scale
/// and its error.
fn reduced(vector: &[f32]) -> Vec<Vec<u8>> {
    if vector.iter().all(|value| *value == 0.0) {
        return Vec::new();
    }
    let row = quantised(vector);
    let telling = |piece: &&[u8]| piece.iter().filter(|byte| **byte != 0).count() >= TELLING;
    let pieces: Vec<Vec<u8>> = row[..vector.len()].chunks_exact(CODES).filter(telling).map(<[u8]>::to_vec).collect();
    if pieces.is_empty() { vec![row] } else { pieces }
}

/// Looks through every byte of every file below `folder`, whatever it is, for pieces of `vector`: eight values in a
/// row, or 128 of its reduced copy, at any offset. Proves that a removed template is nowhere. Pieces of zeros only are
/// not looked for.
///
/// # Errors
/// If a file cannot be read: then nothing is proved.
pub fn traces(folder: &Path, vector: &[f32]) -> Result<Vec<Trace>, GalleryError> {
    let bytes: &[u8] = bytemuck::cast_slice(vector);
    let length = (PIECE * size_of::<f32>()).min(bytes.len());
    let starts = (0..=bytes.len() - length).step_by(length.max(1));
    let exact = starts.map(|start| bytes[start..start + length].to_vec());
    let all: Vec<Vec<u8>> = exact.chain(reduced(vector)).filter(|piece| piece.iter().any(|byte| *byte != 0)).collect();
    let length = all.iter().map(Vec::len).max().unwrap_or(1);
    let mut pieces: HashMap<[u8; 4], Vec<&[u8]>> = HashMap::new();
    for piece in &all {
        pieces.entry(piece[..4].try_into().expect("four bytes")).or_default().push(piece);
    }
    // Most windows of four bytes begin no piece: two of them say so without a look at the table.
    let mut begins = vec![false; 1 << 16];
    pieces.keys().for_each(|start| begins[usize::from(u16::from_le_bytes([start[2], start[3]]))] = true);
    let mut found = Vec::new();
    for path in files_of(folder).map_err(GalleryError::io("read", folder))? {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            // A log that was removed since the folder was read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(GalleryError::Io { what: "read", path, source }),
        };
        let (mut window, mut start, mut here) = (Vec::new(), 0, 0);
        loop {
            let before = window.len();
            let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut window);
            read.map_err(GalleryError::io("read", &path))?;
            if before == window.len() {
                break;
            }
            for at in 0..window.len().saturating_sub(3) {
                if begins[usize::from(u16::from_le_bytes([window[at + 2], window[at + 3]]))]
                    && let Some(pieces) = pieces.get(&window[at..at + 4])
                    && pieces.iter().any(|piece| window[at..].starts_with(piece) && at + piece.len() > before)
                    && here < ENOUGH
                {
                    found.push(Trace { file: path.clone(), offset: start + at as u64 });
                    here += 1;
                }
            }
            // A piece may begin in one chunk and end in the next.
            let keep = window.len().min(length - 1);
            start += (window.len() - keep) as u64;
            window.drain(..window.len() - keep);
        }
    }
    Ok(found)
}
