//! TensorBoard event files: scalar summaries, protobuf messages in the record framing of TensorFlow.

use std::io::Write;
use std::path::{Path, PathBuf};

use contract::files::{self, WriteError};
use prost::Message;

use crate::history::EpochRecord;

/// `tensorflow.Event`, the fields in use.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Unix seconds.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    /// Only in the first event of a file.
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `tensorflow.Summary`.
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

/// `tensorflow.Summary.Value`, the fields in use.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// Writes the event file of a run directory. The content follows from the records alone, so a file that is a beginning of
/// it, be it torn by a crash, is appended to: TensorBoard follows a growing file, but not one that is replaced.
pub(crate) fn write(folder: &Path, records: &[EpochRecord]) -> Result<(), WriteError> {
    let Some(first) = records.first() else { return Ok(()) };
    let path = match existing(folder) {
        Some(path) => path,
        None => folder.join(format!("events.out.tfevents.{:010}.vitrine", first.finished as u64)),
    };
    let content = encode(records);
    let old = std::fs::read(&path).unwrap_or_default();
    match content.strip_prefix(old.as_slice()) {
        Some(rest) if !old.is_empty() => {
            let append = || std::fs::OpenOptions::new().append(true).open(&path)?.write_all(rest);
            append().map_err(|source| WriteError { path: path.clone(), source })
        }
        _ => files::write(&path, content),
    }
}

/// The event file of an earlier save.
pub(crate) fn existing(folder: &Path) -> Option<PathBuf> {
    let ours = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("events.out.tfevents.") && name.ends_with(".vitrine")
    };
    std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).filter(ours).min()
}

/// All records as the bytes of an event file.
fn encode(records: &[EpochRecord]) -> Vec<u8> {
    let start = records.first().map_or(0.0, |record| record.finished - record.seconds);
    let head = Event { wall_time: start, file_version: Some("brain.Event:2".to_owned()), ..Event::default() };
    let event = |record: &EpochRecord| {
        let value = record.numbers().map(|(tag, value)| Value { tag, simple_value: Some(value as f32) }).collect();
        let (wall_time, step) = (record.finished, record.epoch as i64);
        Event { wall_time, step, summary: Some(Summary { value }), ..Event::default() }
    };
    let mut bytes = Vec::new();
    for event in std::iter::once(head).chain(records.iter().map(event)) {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        bytes.extend_from_slice(&length);
        bytes.extend_from_slice(&masked(crc32c(&length)).to_le_bytes());
        bytes.extend_from_slice(&data);
        bytes.extend_from_slice(&masked(crc32c(&data)).to_le_bytes());
    }
    bytes
}

/// TensorFlow's mask, against checksums of data that contains checksums.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index = 0;
        while index < 256 {
            let mut crc = index as u32;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
                bit += 1;
            }
            table[index] = crc;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::tests::run;

    /// Reads what [`encode`] writes; `None` if a length or a checksum is wrong.
    fn decode(mut bytes: &[u8]) -> Option<Vec<Event>> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_first_chunk::<8>()?;
            let (crc, rest) = rest.split_first_chunk::<4>()?;
            let size = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (data, rest) = rest.split_at_checked(size)?;
            let (data_crc, rest) = rest.split_first_chunk::<4>()?;
            let sound = masked(crc32c(length)) == u32::from_le_bytes(*crc)
                && masked(crc32c(data)) == u32::from_le_bytes(*data_crc);
            events.push(sound.then(|| Event::decode(data).ok()).flatten()?);
            bytes = rest;
        }
        Some(events)
    }

    /// Test vectors of RFC 3720, section B.4.
    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn events_hold_every_number_under_its_tag() {
        let records = run(5);
        let bytes = encode(&records);
        let events = decode(&bytes).unwrap();
        assert_eq!(events.len(), 6);
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        for (event, record) in events[1..].iter().zip(&records) {
            assert_eq!((event.step, event.wall_time), (record.epoch as i64, record.finished));
            let found: Vec<_> = event
                .summary
                .iter()
                .flat_map(|summary| &summary.value)
                .map(|v| (v.tag.clone(), v.simple_value))
                .collect();
            assert_eq!(found, record.numbers().map(|(tag, value)| (tag, Some(value as f32))).collect::<Vec<_>>());
        }
        let mut damaged = bytes.clone();
        for at in [0, 9, 40, bytes.len() - 1] {
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_none(), "byte {at}");
            damaged[at] ^= 1;
        }
    }

    #[test]
    fn a_torn_file_is_completed_and_a_foreign_beginning_replaced() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &run(3)).unwrap();
        let path = existing(folder.path()).unwrap();
        let three = std::fs::read(&path).unwrap();
        std::fs::write(&path, &three[..three.len() - 7]).unwrap();
        write(folder.path(), &run(5)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), encode(&run(5)));
        // A resumed run that replaced epoch 3.
        let mut other = run(3);
        other[2].total = 7.0;
        write(folder.path(), &other).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), encode(&other));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
