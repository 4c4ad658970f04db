use serde::{Deserialize, Serialize};

use crate::{GalleryError, TemplateId};

/// What is said about an embedding when it is enrolled.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NewTemplate {
    /// Who it is; none for somebody nobody has named. Names are compared as they are written: composing accents alike
    /// is the caller's.
    pub subject: Option<String>,
    /// Which camera saw it, below [`MAX_CAMERA`].
    pub camera: Option<u32>,
    /// When, in milliseconds since 1970-01-01 00:00 UTC.
    pub taken: Option<i64>,
    /// Words to filter by; their order does not matter.
    pub tags: Vec<String>,
    /// Where it comes from: the path of a picture. It is stored and given back, never read.
    pub source: String,
}

/// An enrolled embedding, without its values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// Its name in the gallery.
    pub id: TemplateId,
    /// What was said when it was enrolled; tags sorted, each once.
    #[serde(flatten)]
    pub about: NewTemplate,
}

/// Cameras are numbered below this.
pub const MAX_CAMERA: u32 = u32::MAX;

/// Values of a row at most.
pub const MAX_DIM: usize = 1 << 16;

/// Different tags in a gallery: they are the bits of a number.
pub const MAX_TAGS: usize = 64;

/// Bytes of a name or a tag.
const MAX_NAME: usize = 1024;

/// Bytes of a source: longer than any path.
const MAX_SOURCE: usize = 16 << 10;

impl NewTemplate {
    /// Fails unless every field can be stored.
    pub(crate) fn check(&self) -> Result<(), GalleryError> {
        let field = |what, value: &str, problem: &str| {
            let value = value.chars().take(100).collect();
            Err(GalleryError::Field { what, value, problem: problem.to_owned() })
        };
        let names = self.subject.iter().map(|name| ("subject", name)).chain(self.tags.iter().map(|tag| ("tag", tag)));
        for (what, name) in names {
            if name.trim().is_empty() || name.chars().any(char::is_control) {
                return field(what, name, "a name has letters and no control characters");
            }
            if name.len() > MAX_NAME {
                return field(what, name, "at most 1024 bytes are allowed");
            }
        }
        if self.source.len() > MAX_SOURCE {
            return field("source", &self.source, "at most 16 KiB are allowed");
        }
        if self.camera == Some(MAX_CAMERA) {
            return field("camera", &MAX_CAMERA.to_string(), "cameras are numbered from 0 to 4294967294");
        }
        if self.taken == Some(i64::MIN) {
            return field("time", &i64::MIN.to_string(), "out of range");
        }
        Ok(())
    }

    /// Checksum of every field, tags sorted, of this template in this gallery.
    pub(crate) fn checksum(&self, gallery: &[u8; 16], id: TemplateId) -> u32 {
        let mut hash = crc32fast::Hasher::new();
        hash.update(gallery);
        hash.update(&id.0.to_le_bytes());
        // The length before each text: no two templates have the same bytes.
        let mut text = |text: Option<&str>| {
            hash.update(&text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            hash.update(text.unwrap_or_default().as_bytes());
        };
        text(self.subject.as_deref());
        text(self.camera.map(|camera| camera.to_string()).as_deref());
        text(self.taken.map(|taken| taken.to_string()).as_deref());
        text(Some(&self.source));
        self.tags.iter().for_each(|tag| text(Some(tag)));
        hash.finalize()
    }

    /// The same with its tags sorted, each once.
    pub(crate) fn tidied(&self) -> Self {
        let mut tidied = self.clone();
        tidied.tags.sort();
        tidied.tags.dedup();
        tidied
    }
}

/// How far a stored row may be from unit length.
pub(crate) const LENGTH_TOLERANCE: f64 = 1e-3;

/// Fails unless the rows are embeddings: `dim` finite values each, of unit length.
pub(crate) fn check_rows(rows: metrics::Rows<'_>, dim: usize) -> Result<(), GalleryError> {
    if rows.cols() != dim {
        return Err(GalleryError::Dimension { found: rows.cols(), wanted: dim });
    }
    for row in 0..rows.rows() {
        let values = rows.row(row);
        let length = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let problem = format!("value {at} is {}; values are finite", values[at]);
            return Err(GalleryError::Row { row, problem });
        }
        if (length - 1.0).abs() > LENGTH_TOLERANCE {
            let problem = format!("its length is {length:.4}; embeddings have unit length");
            return Err(GalleryError::Row { row, problem });
        }
    }
    Ok(())
}
