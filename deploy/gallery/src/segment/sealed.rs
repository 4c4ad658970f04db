//! Rows of an encrypted gallery: on the disk they are sealed, each under the key of its subject and for its place; in
//! memory, which is locked where the system allows it, they are what the files of another gallery hold.
//!
//! A row of `N.values` is sealed float32. A row of `N.rows` is the id (8), the name of the key (16), a CRC-32 of the
//! two and their place (4) and the sealed record. A row without the name of a key is erased.

use std::sync::Arc;

use rayon::prelude::*;

use super::format::{HEADER, RECORD, SEALED_ROW as ROW, SEALED_START as START, array};
use super::map::{Locked, Map};
use super::{Header, Kind, Record};
use crate::id::{KeyId, NO_KEY};
use crate::vault::{Fate, Key, Place, Vault};
use crate::{GalleryError, TemplateId};

/// Rows that a thread opens at a time.
const CHUNK: usize = 64;

fn start(header: &Header, row: usize, id: TemplateId, key: &KeyId) -> [u8; START] {
    let mut bytes = [0; START];
    bytes[..8].copy_from_slice(&id.0.to_le_bytes());
    bytes[8..24].copy_from_slice(key);
    let check = check(header, row, &bytes[..24]);
    bytes[24..].copy_from_slice(&check.to_le_bytes());
    bytes
}

fn check(header: &Header, row: usize, bytes: &[u8]) -> u32 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(&header.gallery);
    hash.update(&header.segment.to_le_bytes());
    hash.update(&(row as u64).to_le_bytes());
    hash.update(bytes);
    hash.finalize()
}

/// What is left of a row that is erased.
pub(super) fn erased(header: &Header, row: usize, id: TemplateId) -> [u8; ROW] {
    let mut bytes = [0; ROW];
    bytes[..START].copy_from_slice(&start(header, row, id, &NO_KEY));
    bytes
}

/// The bytes of both files for rows from `at` on.
pub(super) fn seal(
    vault: &Vault,
    header: &Header,
    at: usize,
    values: &[f32],
    records: &[Record],
) -> Result<[Vec<u8>; 2], GalleryError> {
    let stride = header.stride(Kind::Values);
    let (mut sealed, mut starts) = (vec![0; records.len() * stride], vec![0; records.len() * ROW]);
    let rows = sealed.par_chunks_exact_mut(stride).zip(starts.par_chunks_exact_mut(ROW));
    rows.zip(values.par_chunks_exact(header.dim)).zip(records).enumerate().try_for_each(
        |(row, (((values_to, record_to), values), record))| {
            let (row, id, key) = (at + row, record.id, &record.key);
            if record.erased {
                record_to.copy_from_slice(&erased(header, row, id));
                return Ok(());
            }
            record_to[..START].copy_from_slice(&start(header, row, id, key));
            let place = Place::Record(header.segment, row, id);
            vault.seal(key, place, &record.encode(header), &mut record_to[START..])?;
            vault.seal(key, Place::Values(header.segment, row, id), bytemuck::cast_slice(values), values_to)
        },
    )?;
    Ok([sealed, starts])
}

/// Rows that are open, as the files of another gallery hold them, and the names of their keys.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) values: Map,
    pub(super) records: Map,
    pub(super) keys: Vec<KeyId>,
    /// They are kept out of the swap space.
    pub(super) locked: bool,
}

/// Opens the rows of two files. What `older`, the same segment with fewer rows, has open is copied. A row that is not
/// what was sealed gets a record whose checksum is wrong: whoever reads it finds out, and nobody else.
pub(super) fn open(
    vault: &Vault,
    header: &Header,
    [values_from, records_from]: [&[u8]; 2],
    older: Option<&Open>,
) -> Result<Open, GalleryError> {
    let rows = (records_from.len() - HEADER) / ROW;
    let bytes = header.dim * size_of::<f32>();
    let failed = |source| GalleryError::Io { what: "get memory for", path: "the rows".into(), source };
    let mut values = Locked::new(HEADER + rows * bytes).map_err(failed)?;
    let mut records = Locked::new(HEADER + rows * RECORD).map_err(failed)?;
    // Both are tried: one may be small enough.
    let locked = [values.lock(), records.lock()] == [true; 2];
    let mut keys = vec![NO_KEY; rows];
    let known = older.map_or(0, |older| older.keys.len().min(rows));
    let stride = header.stride(Kind::Values);
    let parts = values.bytes()[HEADER..].par_chunks_mut(CHUNK * bytes);
    let parts = parts.zip(records.bytes()[HEADER..].par_chunks_mut(CHUNK * RECORD)).zip(keys.par_chunks_mut(CHUNK));
    parts.enumerate().try_for_each(|(part, ((values, records), keys))| {
        let mut last: Option<(KeyId, Arc<Key>)> = None;
        let rows = values.chunks_exact_mut(bytes).zip(records.chunks_exact_mut(RECORD)).zip(keys);
        for (row, ((values, record), key)) in (part * CHUNK..).zip(rows) {
            let from: [u8; ROW] = array(records_from, HEADER + row * ROW);
            let id = Record::id(&from);
            let named: KeyId = array(&from, 8);
            record[..8].copy_from_slice(&id.0.to_le_bytes());
            if u32::from_le_bytes(array(&from, 24)) != check(header, row, &from[..24]) {
                continue;
            }
            let erased = || Record::erased(&header.gallery, id, header.dim).encode(header);
            if named == NO_KEY {
                record.copy_from_slice(&erased());
                continue;
            }
            *key = named;
            if let Some(older) = older.filter(|older| row < known && older.keys[row] == named) {
                values.copy_from_slice(&older.values.bytes()[HEADER + row * bytes..][..bytes]);
                record.copy_from_slice(&older.records.bytes()[HEADER + row * RECORD..][..RECORD]);
                continue;
            }
            // Rows of a person often follow each other.
            let known_key = last.take().filter(|(id, _)| *id == named).map(|(_, key)| key);
            let found = match known_key {
                Some(key) => Ok(key),
                None => vault.opener(&named)?,
            };
            let opener = match found {
                Ok(key) => key,
                // Its subject was removed, and the row is overwritten when that is finished.
                Err(Fate::Erased) => {
                    record.copy_from_slice(&erased());
                    *key = NO_KEY;
                    continue;
                }
                Err(_) => continue,
            };
            let mut plain = [0; RECORD];
            let sealed = &values_from[HEADER + row * stride..][..stride];
            if vault.unseal_with(&opener, Place::Record(header.segment, row, id), &from[START..], &mut plain)
                && vault.unseal_with(&opener, Place::Values(header.segment, row, id), sealed, values)
            {
                record.copy_from_slice(&plain);
            }
            last = Some((named, opener));
        }
        Ok::<(), GalleryError>(())
    })?;
    let (values, records) = (values.freeze().map_err(failed)?, records.freeze().map_err(failed)?);
    Ok(Open { values, records, keys, locked })
}
