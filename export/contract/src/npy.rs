//! NumPy's `.npy`, version 1.0, little-endian floats in C order: written row by row or as a whole, read as a whole.
//!
//! ```
//! use contract::npy::{Array, encode};
//!
//! let bytes = encode(&[2, 3], &[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0]);
//! assert_eq!(Array::decode(&bytes)?.into_f32()?, (vec![2, 3], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]));
//! # Ok::<(), contract::npy::NpyError>(())
//! ```

use std::io::{self, Seek, SeekFrom, Write};

/// Bytes of our header: room for any row count, so that it can be completed after the rows.
const HEADER: usize = 128;

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// Why bytes are not the array that is needed. The file's name is the caller's to add.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum NpyError {
    /// Another format, or another version of this one.
    #[error("not a .npy file of version 1.0")]
    Magic,
    /// The header ends early.
    #[error("the header is cut off")]
    Cut,
    /// A header that cannot be read.
    #[error("the header `{found}` does not give a type, an order and a shape")]
    Header {
        /// The header.
        found: String,
    },
    /// Another type of number or byte order.
    #[error("the values are `{found}`; {wanted} in little-endian order is needed")]
    Type {
        /// As the header says.
        found: String,
        /// What is read.
        wanted: &'static str,
    },
    /// Columns first.
    #[error("the values are in Fortran order, C order is needed")]
    Order,
    /// Too few or too many bytes.
    #[error("shape {shape:?} does not fit {bytes} bytes of values")]
    Length {
        /// As the header says.
        shape: Vec<usize>,
        /// Bytes behind the header.
        bytes: usize,
    },
    /// Another number of axes than two.
    #[error("shape {shape:?}, two axes are needed")]
    Axes {
        /// As the header says.
        shape: Vec<usize>,
    },
}

/// A number that `.npy` files of ours hold.
pub trait Number: Copy {
    /// NumPy's name of the type.
    const TYPE: &'static str;

    /// Little-endian bytes.
    fn append(self, bytes: &mut Vec<u8>);
}

impl Number for f32 {
    const TYPE: &'static str = "<f4";

    fn append(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
}

impl Number for f64 {
    const TYPE: &'static str = "<f8";

    fn append(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_le_bytes());
    }
}

/// Values of an array, row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Single precision.
    F32(Vec<f32>),
    /// Double precision.
    F64(Vec<f64>),
}

/// An array as its file holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Sizes of the axes.
    pub shape: Vec<usize>,
    /// As many values as the shape says.
    pub values: Values,
}

impl Array {
    /// Reads what [`encode`], [`Writer`] or `numpy.save` wrote. The shape is checked against the length before anything is
    /// allocated.
    ///
    /// # Errors
    /// See [`NpyError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, NpyError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(NpyError::Magic)?;
        let (length, rest) = rest.split_at_checked(2).ok_or(NpyError::Cut)?;
        let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
        let (header, data) = rest.split_at_checked(length).ok_or(NpyError::Cut)?;
        let header = String::from_utf8_lossy(header);
        let malformed = || NpyError::Header { found: header.trim().to_owned() };
        let after = |key: &str| header.split_once(key).map(|(_, rest)| rest.trim_start()).ok_or_else(malformed);
        let shape = after("'shape':")?.strip_prefix('(').and_then(|rest| rest.split_once(')')).ok_or_else(malformed)?.0;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape: Vec<usize> = sizes.map(|size| size.parse().map_err(|_| malformed())).collect::<Result<_, _>>()?;
        if !after("'fortran_order':")?.starts_with("False") {
            return Err(NpyError::Order);
        }
        let kind =
            after("'descr':")?.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).ok_or_else(malformed)?.0;
        let size = match kind {
            f32::TYPE => 4,
            f64::TYPE => 8,
            _ => return Err(NpyError::Type { found: kind.to_owned(), wanted: "float32 or float64" }),
        };
        let needed = shape.iter().try_fold(size, |product: usize, axis| product.checked_mul(*axis));
        if needed != Some(data.len()) {
            return Err(NpyError::Length { shape, bytes: data.len() });
        }
        let values = if size == 4 {
            Values::F32(data.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
        } else {
            Values::F64(data.as_chunks().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect())
        };
        Ok(Self { shape, values })
    }

    /// Shape and values of a float32 array.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn into_f32(self) -> Result<(Vec<usize>, Vec<f32>), NpyError> {
        match self.values {
            Values::F32(values) => Ok((self.shape, values)),
            Values::F64(_) => Err(NpyError::Type { found: f64::TYPE.into(), wanted: "float32" }),
        }
    }

    /// Shape and values in double precision, whatever the file has.
    pub fn into_f64(self) -> (Vec<usize>, Vec<f64>) {
        match self.values {
            Values::F32(values) => (self.shape, values.into_iter().map(f64::from).collect()),
            Values::F64(values) => (self.shape, values),
        }
    }

    /// Values, rows and columns of a float32 matrix.
    ///
    /// # Errors
    /// If it is of another type, or has another number of axes.
    pub fn into_matrix(self) -> Result<(Vec<f32>, usize, usize), NpyError> {
        let (shape, values) = self.into_f32()?;
        match shape[..] {
            [rows, columns] => Ok((values, rows, columns)),
            _ => Err(NpyError::Axes { shape }),
        }
    }
}

/// The bytes of a file of `values`, row-major.
///
/// # Panics
/// If there are not as many values as `shape` says.
pub fn encode<T: Number>(shape: &[usize], values: &[T]) -> Vec<u8> {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "as many values as the shape says");
    let mut bytes = header(T::TYPE, shape);
    values.iter().for_each(|value| value.append(&mut bytes));
    bytes
}

/// Writes float32 rows; the header is completed by [`Writer::finish`].
pub struct Writer<W> {
    out: W,
    dim: usize,
    rows: usize,
}

impl<W: Write + Seek> Writer<W> {
    /// Rows of `dim` values.
    ///
    /// # Errors
    /// If the header's place cannot be written.
    pub fn new(mut out: W, dim: usize) -> io::Result<Self> {
        out.write_all(&header(f32::TYPE, &[0, dim]))?;
        Ok(Self { out, dim, rows: 0 })
    }

    /// Appends a row of `dim` values.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn row(&mut self, row: &[f32]) -> io::Result<()> {
        debug_assert_eq!(row.len(), self.dim);
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.rows += 1;
        self.out.write_all(&bytes)
    }

    /// Completes the header.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header(f32::TYPE, &[self.rows, self.dim]))?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(((HEADER - MAGIC.len() - 2) as u16).to_le_bytes());
    // A tuple of one has a comma behind it in Python.
    let sizes = match shape {
        [only] => format!("{only},"),
        _ => shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    header.extend(format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({sizes}), }}").bytes());
    header.resize(HEADER - 1, b' ');
    header.push(b'\n');
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(rows: &[[f32; 3]]) -> Vec<u8> {
        let mut writer = Writer::new(io::Cursor::new(Vec::new()), 3).unwrap();
        rows.iter().for_each(|row| writer.row(row).unwrap());
        writer.finish().unwrap().into_inner()
    }

    /// What numpy saves, byte for byte: `fixtures/npy/README.md` has the commands.
    fn of_numpy(name: &str) -> Vec<u8> {
        std::fs::read(fixtures::fixture(&format!("npy/{name}.npy"))).unwrap()
    }

    #[test]
    fn files_are_those_of_numpy() {
        let bytes = written(&[[1.0, -2.0, 3.5], [0.0, 1e-30, f32::MAX]]);
        assert_eq!(bytes, of_numpy("matrix"));
        let (values, rows, dim) = Array::decode(&bytes).unwrap().into_matrix().unwrap();
        assert_eq!((rows, dim, values[5]), (2, 3, f32::MAX));
        assert_eq!(encode(&[2, 3], &values), bytes);

        let cube: Vec<f64> = (0..12).map(f64::from).collect();
        let bytes = encode(&[2, 2, 3], &cube);
        assert_eq!(bytes, of_numpy("cube"));
        assert_eq!(Array::decode(&bytes).unwrap().into_f64(), (vec![2, 2, 3], cube));
        assert!(Array::decode(&bytes).unwrap().into_f32().unwrap_err().to_string().contains("float32"));
        assert_eq!(encode(&[2], &[1.0f32, 2.0]), of_numpy("line"));
    }

    #[test]
    fn wrong_files_are_told_apart() {
        let good = written(&[[1.0; 3]; 4]);
        for end in 0..good.len() {
            assert!(Array::decode(&good[..end]).is_err(), "cut at {end}");
        }
        let replaced = |from: &str, to: &str| {
            let at = good.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            let mut bytes = good.clone();
            bytes.splice(at..at + from.len(), to.bytes());
            Array::decode(&bytes).and_then(Array::into_matrix).unwrap_err().to_string()
        };
        assert!(replaced("<f4", "<i4").contains("float32"));
        assert!(replaced("<f4", ">f4").contains("`>f4`; float32 or float64 in little-endian"));
        assert!(replaced("<f4", "<f8").contains("does not fit"));
        assert!(replaced("False", "True ").contains("C order"));
        assert!(replaced("(4, 3)", "(9, 9)").contains("does not fit"));
        assert!(replaced("(4, 3), }              ", "(18446744073709551615, 3)").contains("does not fit"));
        assert!(replaced("(4, 3)", "(12, )").contains("two axes"));
        assert!(replaced("(4, 3)", "(4 ;3)").contains("does not give"));
    }
}
