//! Files of FAISS's flat index of inner products (`IndexFlatIP`), which for rows of unit length is the exact search of
//! this program. The file has rows and nothing else; what is said about them goes beside it.

use std::path::Path;

use files::npy::Array;

use crate::DeployError;

/// How the file of an `IndexFlatIP` begins.
const FLAT_IP: &[u8; 4] = b"IxFI";

/// Bytes before the rows: kind, dim, rows, two numbers of no meaning, whether it is trained, metric, number of values.
const HEADER: usize = 4 + 4 + 8 + 8 + 8 + 1 + 4 + 8;

/// What FAISS writes where it wrote something once.
const DUMMY: i64 = 1 << 20;

/// The bytes of a file of `rows` rows.
pub fn encode(values: &[f32], rows: usize, dim: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + size_of_val(values));
    bytes.extend(FLAT_IP);
    bytes.extend((dim as i32).to_le_bytes());
    bytes.extend((rows as i64).to_le_bytes());
    bytes.extend([DUMMY.to_le_bytes(), DUMMY.to_le_bytes()].concat());
    // It is trained; its metric is the inner product.
    bytes.push(1);
    bytes.extend(0_i32.to_le_bytes());
    bytes.extend((values.len() as u64).to_le_bytes());
    values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    bytes
}

/// Values, rows and width of a file.
///
/// # Errors
/// What is wrong with it, in words.
pub fn decode(bytes: &[u8]) -> Result<(Vec<f32>, usize, usize), String> {
    let Some((header, values)) = bytes.split_at_checked(HEADER) else {
        return Err(format!("{} bytes are too few for an index of FAISS, whose header has {HEADER}", bytes.len()));
    };
    if !header.starts_with(FLAT_IP) {
        let kind = header[..4].escape_ascii();
        return Err(format!("it is an index of kind `{kind}`; a flat one of inner products (IndexFlatIP) is read"));
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
    let (floats, rest) = values.as_chunks::<4>();
    if expected != Some(floats.len()) || !rest.is_empty() {
        let found = values.len();
        return Err(format!("its header says {rows} rows of {dim} values, behind it are {found} bytes"));
    }
    Ok((floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(), rows, dim))
}

/// Rows of a file of either kind, told by how it begins: numpy's or FAISS's.
///
/// # Errors
/// If it cannot be read or is neither.
pub fn read(path: &Path) -> Result<(Vec<f32>, usize, usize), DeployError> {
    let bytes = files::read_limited(path, files::LARGEST_ARRAY);
    let bytes = bytes.map_err(|source| DeployError::Read { path: path.to_owned(), source })?;
    let wrong = |problem| DeployError::Features { path: path.to_owned(), problem };
    if bytes.starts_with(b"Ix") {
        return decode(&bytes).map_err(wrong);
    }
    Array::decode(&bytes).and_then(Array::into_matrix).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes that faiss-cpu 1.15.1 writes for `IndexFlatIP(2)` with the rows (1, 0) and (0.6, 0.8).
    #[test]
    fn the_bytes_are_those_of_faiss() {
        let bytes = encode(&[1.0, 0.0, 0.6, 0.8], 2, 2);
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
        for (at, word) in [(0, "IndexFlatIP"), (4, "rows"), (9, "rows"), (33, "metric"), (37, "rows")] {
            let mut wrong = bytes.clone();
            wrong[at] ^= 0xFF;
            assert!(decode(&wrong).unwrap_err().contains(word), "{at}");
        }
    }
}
