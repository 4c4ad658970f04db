//! Files of FAISS's flat index of inner products (`IndexFlatIP`), which for rows of unit length is the exact search of
//! this program. The file has rows and nothing else; what is said about them goes beside it.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use files::npy::{Matrix, MatrixError};

use crate::DeployError;

/// How the file of an `IndexFlatIP` begins.
const FLAT_IP: &[u8; 4] = b"IxFI";

/// Bytes before the rows: kind, dim, rows, two numbers of no meaning, whether it is trained, metric, number of values.
const HEADER: usize = 4 + 4 + 8 + 8 + 8 + 1 + 4 + 8;

/// What FAISS writes where it wrote something once.
const DUMMY: i64 = 1 << 20;

/// The bytes before the values of a file of `rows` rows.
pub fn header(rows: usize, dim: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER);
    bytes.extend(FLAT_IP);
    bytes.extend((dim as i32).to_le_bytes());
    bytes.extend((rows as i64).to_le_bytes());
    bytes.extend([DUMMY.to_le_bytes(), DUMMY.to_le_bytes()].concat());
    // It is trained; its metric is the inner product.
    bytes.push(1);
    bytes.extend(0_i32.to_le_bytes());
    bytes.extend(((rows * dim) as u64).to_le_bytes());
    bytes
}

/// Rows and width that a header says, if `bytes` bytes of values fit it.
fn shape(header: &[u8], bytes: u64) -> Result<(usize, usize), String> {
    if !header.starts_with(FLAT_IP) {
        let kind = header[..header.len().min(4)].escape_ascii();
        return Err(format!("it is an index of kind `{kind}`; a flat one of inner products (IndexFlatIP) is read"));
    }
    if header.len() < HEADER {
        return Err(format!("{} bytes are too few for an index of FAISS, whose header has {HEADER}", header.len()));
    }
    let number = |at: usize| i64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let word = |at: usize| i32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let (dim, rows, metric, count) = (word(4), number(8), word(33), number(37));
    if metric != 0 {
        return Err(format!("its metric is {metric}; 0, the inner product, is read"));
    }
    let (dim, rows) = (usize::try_from(dim), usize::try_from(rows));
    let (Ok(dim), Ok(rows)) = (dim, rows) else { return Err("its numbers of rows and values are negative".into()) };
    let expected = dim.checked_mul(rows).filter(|expected| i64::try_from(*expected) == Ok(count));
    if expected.and_then(|values| values.checked_mul(size_of::<f32>())).is_none_or(|wanted| wanted as u64 != bytes) {
        return Err(format!("its header says {rows} rows of {dim} values, behind it are {bytes} bytes"));
    }
    Ok((rows, dim))
}

/// Rows of a file of either kind, told by how it begins: numpy's or FAISS's. Some are read at a time.
pub struct Vectors<R> {
    kind: Kind<R>,
    rows: usize,
    dim: usize,
}

enum Kind<R> {
    Npy(Matrix<R>),
    Faiss {
        source: R,
        /// Rows that were read.
        done: usize,
    },
}

impl<R: Read + Seek> Vectors<R> {
    /// Reads the header; it has to fit the file's length.
    ///
    /// # Errors
    /// If it cannot be read; what is wrong with it, in words.
    pub fn open(mut source: R) -> Result<Self, VectorsError> {
        let length = source.seek(SeekFrom::End(0))?;
        source.seek(SeekFrom::Start(0))?;
        let mut start = Vec::new();
        source.by_ref().take(HEADER as u64).read_to_end(&mut start)?;
        if !start.starts_with(b"Ix") {
            let matrix = Matrix::open(source)?;
            let (rows, dim) = (matrix.rows(), matrix.columns());
            return Ok(Self { kind: Kind::Npy(matrix), rows, dim });
        }
        let (rows, dim) = shape(&start, length.saturating_sub(HEADER as u64)).map_err(VectorsError::Wrong)?;
        Ok(Self { kind: Kind::Faiss { source, done: 0 }, rows, dim })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The next `count` rows, `[rows, dim]`, fewer at the end.
    ///
    /// # Errors
    /// If they cannot be read, or are no numbers of single precision.
    pub fn next(&mut self, count: usize) -> Result<Vec<f32>, VectorsError> {
        match &mut self.kind {
            Kind::Npy(matrix) => Ok(matrix.next(count)?),
            Kind::Faiss { source, done } => {
                let count = count.min(self.rows - *done);
                let mut bytes = vec![0; count * self.dim * size_of::<f32>()];
                source.read_exact(&mut bytes)?;
                *done += count;
                Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
            }
        }
    }
}

impl Vectors<BufReader<File>> {
    /// Opens a file.
    ///
    /// # Errors
    /// As [`Vectors::open`], with the file's name.
    pub fn open_file(path: &Path) -> Result<Self, DeployError> {
        let open = || Self::open(BufReader::new(files::open_regular(path)?));
        open().map_err(|error| error.of(path))
    }
}

/// Why rows cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VectorsError {
    /// The system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// What is wrong with the file.
    #[error("{0}")]
    Wrong(String),
}

impl From<MatrixError> for VectorsError {
    fn from(error: MatrixError) -> Self {
        match error {
            MatrixError::Io(error) => Self::Io(error),
            other => Self::Wrong(other.to_string()),
        }
    }
}

impl VectorsError {
    /// The same, with the name of the file.
    pub fn of(self, path: &Path) -> DeployError {
        let path = path.to_owned();
        match self {
            Self::Io(source) => DeployError::Read { path, source },
            Self::Wrong(problem) => DeployError::Features { path, problem },
        }
    }
}

/// All rows of a file of either kind, their number and their width.
///
/// # Errors
/// If it cannot be read, is neither, or has more than is held in memory.
pub fn read(path: &Path) -> Result<(Vec<f32>, usize, usize), DeployError> {
    let mut vectors = Vectors::open_file(path)?;
    let (rows, dim) = (vectors.rows(), vectors.dim());
    let found = (rows as u64).saturating_mul(dim as u64).saturating_mul(size_of::<f32>() as u64);
    if found > files::LARGEST_ARRAY {
        let source = files::Refused::TooLarge { found, allowed: files::LARGEST_ARRAY }.into();
        return Err(DeployError::Read { path: path.to_owned(), source });
    }
    Ok((vectors.next(rows).map_err(|error| error.of(path))?, rows, dim))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn decode(bytes: &[u8]) -> Result<(Vec<f32>, usize, usize), String> {
        let mut vectors = Vectors::open(Cursor::new(bytes)).map_err(|error| error.to_string())?;
        let (rows, dim) = (vectors.rows(), vectors.dim());
        let mut values = Vec::new();
        for _ in 0..=rows {
            values.extend(vectors.next(1).map_err(|error| error.to_string())?);
        }
        Ok((values, rows, dim))
    }

    /// The bytes that faiss-cpu 1.15.1 writes for `IndexFlatIP(2)` with the rows (1, 0) and (0.6, 0.8).
    #[test]
    fn the_bytes_are_those_of_faiss() {
        let values = [1.0_f32, 0.0, 0.6, 0.8];
        let bytes = [header(2, 2), values.iter().flat_map(|value| value.to_le_bytes()).collect()].concat();
        let wanted = "49784649\
                      02000000\
                      0200000000000000\
                      0000100000000000\
                      0000100000000000\
                      01\
                      00000000\
                      0400000000000000\
                      0000803f00000000\
                      9a99193fcdcc4c3f";
        assert_eq!(hex::encode(&bytes), wanted);
        assert_eq!(decode(&bytes).unwrap(), (vec![1.0, 0.0, 0.6, 0.8], 2, 2));
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} bytes");
        }
        for (at, word) in [(0, "npy"), (3, "IndexFlatIP"), (4, "rows"), (9, "rows"), (33, "metric"), (37, "rows")] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0xFF;
            assert!(decode(&wrong).unwrap_err().contains(word), "{at}");
        }
    }
}
