//! The bytes of a segment's two files.
//!
//! `N.values` is a header of one page and rows of `dim` float32, `N.rows` the same header and a [`Record`] for each
//! row. Those of an encrypted gallery hold the same sealed, see [`super::sealed`]. `N.int8` is derived from them, see
//! [`super::reduced`]. The header's 48 bytes, numbers little-endian: what the file is (8 letters), version (4), the
//! machine's byte order (4), id of the gallery (16), number of the segment (8), dim (4), CRC-32 of these 44 (4).

use crate::TemplateId;
use crate::id::{GalleryId, KeyId, NO_KEY};
use crate::vault::SEAL;

/// Bytes before the first row: a page, so that rows are aligned when the file is mapped.
pub(crate) const HEADER: usize = 4096;

/// Bytes behind the values of a reduced row: scale, error, checksum of the float32 values, checksum of all this.
pub(crate) const TAIL: usize = 16;

/// Version of the layout, of segments and catalogue.
pub(crate) const VERSION: u32 = 1;

/// Bytes of a record.
pub(crate) const RECORD: usize = 48;

/// Bytes before a sealed record.
pub(super) const SEALED_START: usize = 28;

/// Bytes of a sealed row of records.
pub(super) const SEALED_ROW: usize = SEALED_START + RECORD + SEAL;

/// Reads as another number on a machine of the other byte order.
const BYTE_ORDER: u32 = 0x0102_0304;

/// Which of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Values,
    Rows,
    /// Derived from the two.
    Reduced,
    /// Derived from them.
    Graph,
}

impl Kind {
    fn magic(self, sealed: bool) -> &'static [u8; 8] {
        match self {
            Self::Values if sealed => b"vitrsval",
            Self::Rows if sealed => b"vitrsrow",
            Self::Values => b"vitrvals",
            Self::Rows => b"vitrrows",
            Self::Reduced => b"vitrint8",
            Self::Graph => b"vitrgrph",
        }
    }

    /// Ending of the file's name.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Rows => "rows",
            Self::Reduced => "int8",
            Self::Graph => "graph",
        }
    }

    /// Bytes of one row that is not sealed.
    pub(crate) fn stride(self, dim: usize) -> usize {
        match self {
            Self::Values => dim * size_of::<f32>(),
            Self::Rows => RECORD,
            Self::Reduced => dim + TAIL,
            Self::Graph => unreachable!("the width of a graph is its own"),
        }
    }
}

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) gallery: GalleryId,
    pub(crate) segment: u64,
    pub(crate) dim: usize,
    /// Rows are encrypted.
    pub(crate) sealed: bool,
}

/// Checksums of what lies before each row and each record: the same for all, and computed once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seeds {
    gallery: u32,
    records: u32,
}

impl Seeds {
    /// Of a gallery, for checksums of values only.
    fn of(gallery: &GalleryId) -> Self {
        Header { gallery: *gallery, segment: 0, dim: 0, sealed: false }.seeds()
    }

    /// Checksum of a row's values: of another row or gallery it would be another one.
    pub(crate) fn values(self, id: TemplateId, values: &[u8]) -> u32 {
        let mut hash = crc32fast::Hasher::new_with_initial(self.gallery);
        hash.update(&id.0.to_le_bytes());
        hash.update(values);
        hash.finalize()
    }

    fn record(self, bytes: &[u8]) -> u32 {
        let mut hash = crc32fast::Hasher::new_with_initial(self.records);
        hash.update(&bytes[..44]);
        hash.finalize()
    }
}

/// A header that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Misfit {
    ByteOrder,
    Version(u32),
    Damaged(&'static str),
}

impl Header {
    /// Bytes of one row of a file.
    pub(crate) fn stride(&self, kind: Kind) -> usize {
        match kind {
            Kind::Values if self.sealed => kind.stride(self.dim) + SEAL,
            Kind::Rows if self.sealed => SEALED_ROW,
            kind => kind.stride(self.dim),
        }
    }

    pub(crate) fn encode(self, kind: Kind) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER);
        bytes.extend_from_slice(kind.magic(self.sealed));
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&BYTE_ORDER.to_ne_bytes());
        bytes.extend_from_slice(&self.gallery);
        bytes.extend_from_slice(&self.segment.to_le_bytes());
        bytes.extend_from_slice(&(self.dim as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.resize(HEADER, 0);
        bytes
    }

    /// What checksums of rows and records of this segment begin with.
    pub(crate) fn seeds(self) -> Seeds {
        let gallery = crc32fast::hash(&self.gallery);
        let mut records = crc32fast::Hasher::new_with_initial(gallery);
        records.update(&self.segment.to_le_bytes());
        Seeds { gallery, records: records.finalize() }
    }

    /// Fails unless `bytes` starts with this header.
    pub(crate) fn expect(self, kind: Kind, bytes: &[u8]) -> Result<(), Misfit> {
        let wanted = self.encode(kind);
        let Some(found) = bytes.get(..HEADER) else { return Err(Misfit::Damaged("it ends within its header")) };
        let number = |at: usize| u32::from_le_bytes(array(found, at));
        if found[..8] != wanted[..8] {
            return Err(Misfit::Damaged("it does not start as a segment does"));
        }
        if u32::from_ne_bytes(array(found, 12)) == BYTE_ORDER.swap_bytes() {
            return Err(Misfit::ByteOrder);
        }
        if number(44) != crc32fast::hash(&found[..44]) {
            return Err(Misfit::Damaged("the checksum of its header is wrong"));
        }
        if number(8) != VERSION {
            return Err(Misfit::Version(number(8)));
        }
        if found[..48] != wanted[..48] {
            return Err(Misfit::Damaged("it belongs to another gallery, segment or model"));
        }
        Ok(())
    }
}

pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("a slice of N bytes")
}

/// What is known about a row without the catalogue: enough to filter it, to tell whose it is and whether its values are
/// what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: TemplateId,
    /// Number of the subject in the catalogue; 0 for none.
    pub(crate) subject: u32,
    /// [`Record::NO_CAMERA`] for none.
    pub(crate) camera: u32,
    /// [`Record::NO_TIME`] for none.
    pub(crate) taken: i64,
    /// Bits of tags.
    pub(crate) tags: u64,
    /// Its values are overwritten.
    pub(crate) erased: bool,
    /// Checksum of its values.
    pub(crate) values: u32,
    /// Checksum of what the catalogue says about it; 0 once it is erased.
    pub(crate) about: u32,
    /// Name of the key it is sealed under, which is not part of what is sealed.
    pub(crate) key: KeyId,
}

const ENROLLED: u32 = 1;
const ERASED: u32 = 2;

impl Record {
    pub(crate) const NO_CAMERA: u32 = u32::MAX;
    pub(crate) const NO_TIME: i64 = i64::MIN;

    /// Checksum of a row's values.
    pub(crate) fn checksum(gallery: &GalleryId, id: TemplateId, values: &[u8]) -> u32 {
        Seeds::of(gallery).values(id, values)
    }

    /// The record of a row that is removed: nothing but its place is left.
    pub(crate) fn erased(gallery: &GalleryId, id: TemplateId, dim: usize) -> Self {
        let values = Self::checksum(gallery, id, &vec![0; dim * size_of::<f32>()]);
        let (camera, taken) = (Self::NO_CAMERA, Self::NO_TIME);
        Self { id, subject: 0, camera, taken, tags: 0, erased: true, values, about: 0, key: NO_KEY }
    }

    pub(crate) fn encode(&self, header: &Header) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.id.0.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.subject.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.camera.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.taken.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.tags.to_le_bytes());
        bytes[32..36].copy_from_slice(&(if self.erased { ERASED } else { ENROLLED }).to_le_bytes());
        bytes[36..40].copy_from_slice(&self.values.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.about.to_le_bytes());
        let check = header.seeds().record(&bytes);
        bytes[44..].copy_from_slice(&check.to_le_bytes());
        bytes
    }

    /// None if the checksum is wrong.
    pub(crate) fn decode(seeds: Seeds, bytes: &[u8; RECORD]) -> Option<Self> {
        let kind = u32::from_le_bytes(array(bytes, 32));
        let whole = u32::from_le_bytes(array(bytes, 44)) == seeds.record(bytes);
        (whole && [ENROLLED, ERASED].contains(&kind)).then(|| Self::decode_unchecked(bytes))
    }

    /// The same of bytes whose checksum was right before.
    pub(crate) fn decode_unchecked(bytes: &[u8; RECORD]) -> Self {
        Self {
            id: Self::id(bytes),
            subject: u32::from_le_bytes(array(bytes, 8)),
            camera: u32::from_le_bytes(array(bytes, 12)),
            taken: i64::from_le_bytes(array(bytes, 16)),
            tags: u64::from_le_bytes(array(bytes, 24)),
            erased: u32::from_le_bytes(array(bytes, 32)) != ENROLLED,
            values: u32::from_le_bytes(array(bytes, 36)),
            about: u32::from_le_bytes(array(bytes, 40)),
            key: NO_KEY,
        }
    }

    /// The id alone, unchecked.
    pub(crate) fn id(bytes: &[u8]) -> TemplateId {
        TemplateId(u64::from_le_bytes(array(bytes, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Header = Header { gallery: [7; 16], segment: 3, dim: 512, sealed: false };

    #[test]
    fn a_header_fits_its_own_file_only() {
        let bytes = OWN.encode(Kind::Values);
        assert_eq!((bytes.len(), OWN.expect(Kind::Values, &bytes)), (HEADER, Ok(())));
        let (segment, dim) = (Header { segment: 4, ..OWN }, Header { dim: 511, ..OWN });
        for other in [Header { gallery: [8; 16], ..OWN }, segment, dim, Header { sealed: true, ..OWN }] {
            assert!(matches!(other.expect(Kind::Values, &bytes), Err(Misfit::Damaged(_))), "{other:?}");
        }
        assert!(matches!(OWN.expect(Kind::Rows, &bytes), Err(Misfit::Damaged(_))));
        assert!(matches!(OWN.expect(Kind::Values, &bytes[..HEADER - 1]), Err(Misfit::Damaged(_))));
        for at in 0..48 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(OWN.expect(Kind::Values, &flipped).is_err(), "byte {at}");
        }
        let mut newer = bytes.clone();
        newer[8] = 2;
        let check = crc32fast::hash(&newer[..44]);
        newer[44..48].copy_from_slice(&check.to_le_bytes());
        assert_eq!(OWN.expect(Kind::Values, &newer), Err(Misfit::Version(2)));
        let mut swapped = bytes;
        swapped[12..16].reverse();
        assert_eq!(OWN.expect(Kind::Values, &swapped), Err(Misfit::ByteOrder));
    }

    /// Of the same bytes in every version.
    #[test]
    fn checksums_are_of_gallery_place_and_content() {
        let values = [1, 2, 3, 4];
        let whole = [&[7; 16][..], &5_u64.to_le_bytes(), &values].concat();
        assert_eq!(Record::checksum(&[7; 16], TemplateId(5), &values), crc32fast::hash(&whole));
        assert_eq!(OWN.seeds().values(TemplateId(5), &values), crc32fast::hash(&whole));
        let bytes = Record::erased(&OWN.gallery, TemplateId(5), 1).encode(&OWN);
        let whole = [&[7; 16][..], &3_u64.to_le_bytes(), &bytes[..44]].concat();
        assert_eq!(bytes[44..], crc32fast::hash(&whole).to_le_bytes());
    }

    #[test]
    fn a_record_survives_and_no_flipped_bit_does() {
        let record = Record {
            id: TemplateId(1 << 40),
            subject: 9,
            camera: Record::NO_CAMERA,
            taken: -5,
            tags: 1 << 63,
            erased: false,
            values: 77,
            about: 88,
            key: NO_KEY,
        };
        let bytes = record.encode(&OWN);
        assert_eq!((Record::decode(OWN.seeds(), &bytes), Record::id(&bytes)), (Some(record), record.id));
        assert_eq!(Record::decode_unchecked(&bytes), record);
        assert_eq!(Record::decode(Header { segment: 4, ..OWN }.seeds(), &bytes), None);
        for bit in 0..RECORD * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::decode(OWN.seeds(), &flipped), None, "bit {bit}");
        }
    }
}
