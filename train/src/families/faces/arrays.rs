//! The arrays beside a metadata file.

use std::path::Path;

use files::npy::Array;
use metrics::Matrix;

use super::{FacesError, KEYPOINTS, Metadata, Side, Standard};

/// Largest array that is read, in bytes.
const MAX_FILE: u64 = 16 << 30;

/// The values of these rows, one after another.
///
/// # Panics
/// If there are fewer rows.
pub fn gather(matrix: &Matrix, rows: impl IntoIterator<Item = usize>) -> Vec<f32> {
    rows.into_iter().flat_map(|row| matrix.row(row)).copied().collect()
}

/// Reads the embeddings of one side, `<side>_feature.npy`: a row for each picture of its metadata.
///
/// # Errors
/// A file that is missing, of another type or shape, or with rows that are not finite or only zeros.
pub fn read_features(folder: &Path, side: Side, metadata: &Metadata) -> Result<Matrix, FacesError> {
    let path = folder.join(format!("{}_feature.npy", side.name()));
    let (shape, values) = read(&path)?.into_f32().map_err(|source| FacesError::Npy { path: path.clone(), source })?;
    let rows = metadata.pictures.len();
    match shape[..] {
        [found, width] if found == rows && width > 0 => {
            check_finite(&path, width, values.iter().map(|value| value.is_finite()))?;
            let rows = values.chunks_exact(width).enumerate();
            let zero: Vec<usize> =
                rows.filter(|(_, row)| row.iter().all(|value| *value == 0.0)).map(|(at, _)| at).collect();
            match zero[..] {
                [] => Ok(Matrix::new(values, found, width).expect("an array has as many values as its shape says")),
                [row, ref rest @ ..] => Err(FacesError::Zero { path, row, more: rest.len() }),
            }
        }
        _ => {
            let wanted = format!("[{rows}, width], a row for each picture of `{}`,", metadata.path.display());
            Err(FacesError::Shape { path, found: shape, wanted })
        }
    }
}

/// Reads the 3-D keypoints of one side as they are stored, `<side>_keypoints.npy`: float64 or float32.
///
/// # Errors
/// As [`read_features`].
pub fn read_keypoints(
    folder: &Path,
    side: Side,
    metadata: &Metadata,
) -> Result<Vec<[[f64; 3]; KEYPOINTS]>, FacesError> {
    let path = folder.join(format!("{}_keypoints.npy", side.name()));
    let (shape, values) = read(&path)?.into_f64();
    let rows = metadata.pictures.len();
    if shape != [rows, KEYPOINTS, 3] {
        let wanted = format!("[{rows}, {KEYPOINTS}, 3], a row for each picture of `{}`,", metadata.path.display());
        return Err(FacesError::Shape { path, found: shape, wanted });
    }
    check_finite(&path, KEYPOINTS * 3, values.iter().map(|value| value.is_finite()))?;
    let points = values.as_chunks::<3>().0;
    Ok(points.as_chunks::<KEYPOINTS>().0.to_vec())
}

/// The keypoints a network sees: each face about its own centre, or with `own_centre` off about that of the standard,
/// times the standard's scale. From `landmarks_3d_original` where the metadata has them, else from the `stored` rows,
/// which are then used unchanged. Without a standard the scale is 1.
///
/// # Panics
/// If `stored` has not a row for each picture.
pub fn normalised_keypoints(
    metadata: &Metadata,
    stored: &[[[f64; 3]; KEYPOINTS]],
    standard: Option<&Standard>,
    own_centre: bool,
) -> Vec<[[f32; 3]; KEYPOINTS]> {
    assert_eq!(stored.len(), metadata.pictures.len(), "a row for each picture");
    if metadata.landmarks_3d.is_empty() {
        return stored.iter().map(|face| face.map(|point| point.map(|value| value as f32))).collect();
    }
    let scale = standard.map_or(1.0, |standard| standard.scale);
    let normalise = |face: &[[f64; 3]; KEYPOINTS]| {
        let own = || std::array::from_fn(|axis| face.iter().map(|point| point[axis]).sum::<f64>() / KEYPOINTS as f64);
        let centre: [f64; 3] = match standard {
            Some(standard) if !own_centre => standard.centre,
            _ => own(),
        };
        face.map(|point| std::array::from_fn(|axis| ((point[axis] - centre[axis]) * scale) as f32))
    };
    metadata.landmarks_3d.iter().map(normalise).collect()
}

fn read(path: &Path) -> Result<Array, FacesError> {
    let unreadable = |source| FacesError::Read { path: path.to_owned(), source };
    let bytes = std::fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_FILE {
        return Err(FacesError::Size { path: path.to_owned(), bytes, allowed: MAX_FILE });
    }
    let bytes = files::read_limited(path, MAX_FILE).map_err(unreadable)?;
    Array::decode(&bytes).map_err(|source| FacesError::Npy { path: path.to_owned(), source })
}

fn check_finite(path: &Path, width: usize, finite: impl Iterator<Item = bool>) -> Result<(), FacesError> {
    let mut rows: Vec<usize> = finite.enumerate().filter(|(_, finite)| !finite).map(|(at, _)| at / width).collect();
    rows.dedup();
    match rows[..] {
        [] => Ok(()),
        [row, ref rest @ ..] => Err(FacesError::NotFinite { path: path.to_owned(), row, more: rest.len() }),
    }
}

#[cfg(test)]
mod tests {
    use files::npy::encode;

    use super::*;

    fn two() -> (tempfile::TempDir, Metadata) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("front_metadata.json"), r#"{"metadata": [{}, {}]}"#).unwrap();
        let metadata = Metadata::read(folder.path(), Side::Front).unwrap();
        (folder, metadata)
    }

    #[test]
    fn features_are_read_and_whatever_is_wrong_is_named() {
        let (folder, metadata) = two();
        let path = folder.path().join("front_feature.npy");
        let missing = read_features(folder.path(), Side::Front, &metadata).unwrap_err().to_string();
        assert!(missing.contains("front_feature.npy"), "{missing}");
        let read = |bytes: Vec<u8>| {
            std::fs::write(&path, bytes).unwrap();
            read_features(folder.path(), Side::Front, &metadata).map_err(|error| {
                use std::error::Error;
                format!("{error}: {}", error.source().map(ToString::to_string).unwrap_or_default())
            })
        };
        let matrix = read(encode(&[2, 3], &[0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0])).unwrap();
        assert_eq!((matrix.rows(), matrix.cols(), matrix.row(1)), (2, 3, &[3.0, 4.0, 5.0][..]));
        let wide = read(encode(&[2, 3], &[0.0f64, 1.0, 2.0, 3.0, 4.0, 5.0])).unwrap();
        assert_eq!(wide, matrix, "float64 is rounded");
        assert_eq!(gather(&matrix, [1, 0]), [3.0, 4.0, 5.0, 0.0, 1.0, 2.0]);
        for (bytes, word) in [
            (encode(&[1, 3], &[0.0f32; 3]), "shape [1, 3]; [2, width]"),
            (encode(&[2, 0], &[0.0f32; 0]), "shape [2, 0]"),
            (encode(&[6], &[0.0f32; 6]), "shape [6]"),
            (encode(&[2, 3], &[1e39f64; 6]), "float32"),
            (encode(&[2, 2], &[0.0f32, 1.0, 0.0, 0.0]), "row 1 of"),
            (encode(&[2, 2], &[0.0, 0.0, f32::NAN, f32::INFINITY]), "row 1"),
            (encode(&[2, 2], &[f32::NAN, 0.0, 0.0, f32::INFINITY]), "row 0 of"),
            (b"PK\x03\x04".to_vec(), "not a .npy"),
        ] {
            let error = read(bytes).unwrap_err();
            assert!(error.contains(word) && error.contains("front_feature.npy"), "{word}: {error}");
        }
    }

    #[test]
    fn keypoints_are_about_their_own_centre_or_that_of_the_standard() {
        let (folder, mut metadata) = two();
        let path = folder.path().join("front_keypoints.npy");
        let stored: Vec<f32> = (0..30).map(|value| value as f32).collect();
        std::fs::write(&path, encode(&[2, KEYPOINTS, 3], &stored)).unwrap();
        let stored = read_keypoints(folder.path(), Side::Front, &metadata).unwrap();
        assert_eq!(stored[1][4], [27.0, 28.0, 29.0]);
        let standard = Standard { centre: [1.0, 0.0, 0.0], scale: 0.5 };
        // Without landmarks the rows are used unchanged.
        assert_eq!(normalised_keypoints(&metadata, &stored, Some(&standard), true)[1][4], [27.0, 28.0, 29.0]);
        metadata.landmarks_3d = stored.clone();
        assert_eq!(normalised_keypoints(&metadata, &stored, Some(&standard), true)[0][0], [-3.0, -3.0, -3.0]);
        assert_eq!(normalised_keypoints(&metadata, &stored, Some(&standard), false)[0][0], [-0.5, 0.5, 1.0]);
        assert_eq!(normalised_keypoints(&metadata, &stored, None, true)[0][4], [6.0, 6.0, 6.0]);
        std::fs::write(&path, encode(&[2, 4, 3], &[0.0f64; 24])).unwrap();
        let error = read_keypoints(folder.path(), Side::Front, &metadata).unwrap_err().to_string();
        assert!(error.contains("[2, 5, 3]"), "{error}");
    }
}
