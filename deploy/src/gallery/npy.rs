//! NumPy's `.npy`, version 1.0, `float32 [rows, dim]` in C order: written row by row, read as a whole.

use std::io::{self, Seek, SeekFrom, Write};

/// Bytes of our header: room for any row count, so that it can be completed after the rows.
const HEADER: usize = 128;

const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";

/// Writes rows; the header is completed by [`Writer::finish`].
pub(crate) struct Writer<W> {
    out: W,
    dim: usize,
    rows: usize,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(mut out: W, dim: usize) -> io::Result<Self> {
        out.write_all(&header(0, dim))?;
        Ok(Self { out, dim, rows: 0 })
    }

    /// Appends a row of `dim` values.
    pub(crate) fn row(&mut self, row: &[f32]) -> io::Result<()> {
        debug_assert_eq!(row.len(), self.dim);
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.rows += 1;
        self.out.write_all(&bytes)
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&header(self.rows, self.dim))?;
        self.out.flush()?;
        Ok(self.out)
    }
}

fn header(rows: usize, dim: usize) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend(((HEADER - MAGIC.len() - 2) as u16).to_le_bytes());
    header.extend(format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}").bytes());
    header.resize(HEADER - 1, b' ');
    header.push(b'\n');
    header
}

/// Reads a file of [`Writer`], or of `numpy.save` of the same kind. The shape is checked against the length before
/// anything is allocated; the error says what is wrong.
pub(crate) fn read(bytes: &[u8]) -> Result<(Vec<f32>, usize, usize), String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("not a .npy file of version 1.0")?;
    let (length, rest) = rest.split_at_checked(2).ok_or("the header is cut off")?;
    let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
    let (header, data) = rest.split_at_checked(length).ok_or("the header is cut off")?;
    let header = std::str::from_utf8(header).map_err(|_| "the header is no text")?;
    if !header.contains("'descr': '<f4'") || !header.contains("'fortran_order': False") {
        return Err(format!("little-endian float32 in C order is needed, the header says {}", header.trim()));
    }
    let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).map(|(shape, _)| shape);
    let sizes = shape.map(|shape| shape.split(',').map(|size| size.trim().parse::<usize>()).collect::<Vec<_>>());
    let Some([Ok(rows), Ok(dim)]) = sizes.as_deref() else {
        return Err(format!("a shape of two axes is needed, the header says {}", header.trim()));
    };
    if rows.checked_mul(*dim).and_then(|values| values.checked_mul(4)) != Some(data.len()) {
        return Err(format!("shape [{rows}, {dim}] does not fit {} bytes of values", data.len()));
    }
    let values = data.chunks_exact(4).map(|value| f32::from_le_bytes([value[0], value[1], value[2], value[3]]));
    Ok((values.collect(), *rows, *dim))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(rows: &[[f32; 3]]) -> Vec<u8> {
        let mut writer = Writer::new(io::Cursor::new(Vec::new()), 3).unwrap();
        rows.iter().for_each(|row| writer.row(row).unwrap());
        writer.finish().unwrap().into_inner()
    }

    #[test]
    fn round_trip_and_a_second_reader() {
        let bytes = written(&[[1.0, -2.0, 3.5], [0.0, 1e-30, f32::MAX]]);
        let (values, rows, dim) = read(&bytes).unwrap();
        assert_eq!((rows, dim, values[5]), (2, 3, f32::MAX));
        use ndarray_npy::ReadNpyExt;
        let array = ndarray::Array2::<f32>::read_npy(bytes.as_slice()).unwrap();
        assert_eq!((array.dim(), array.as_slice()), ((2, 3), Some(values.as_slice())));
        assert_eq!(bytes.len() % 64, 24, "values start at a multiple of 64");
    }

    #[test]
    fn wrong_files_are_told_apart() {
        let good = written(&[[1.0; 3]; 4]);
        for end in 0..good.len() {
            assert!(read(&good[..end]).is_err(), "cut at {end}");
        }
        let replaced = |from: &str, to: &str| {
            let at = good.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
            let mut bytes = good.clone();
            bytes.splice(at..at + from.len(), to.bytes());
            read(&bytes).unwrap_err()
        };
        assert!(replaced("<f4", "<f8").contains("float32"));
        assert!(replaced("False", "True ").contains("C order"));
        assert!(replaced("(4, 3)", "(9, 9)").contains("does not fit"));
        assert!(replaced("(4, 3), }              ", "(18446744073709551615, 3)").contains("does not fit"));
        assert!(replaced("(4, 3)", "(12, )").contains("two axes"));
    }
}
