//! Metadata of a model file changed in its bytes, so that fields this crate does not know stay as they are.

use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use crate::StringStringEntryProto;

/// `ModelProto.metadata_props`.
const METADATA: u32 = 14;

/// The file without its metadata entries of this key; every other byte stays.
///
/// # Errors
/// If the bytes are no protobuf message.
pub fn without_metadata(model: &[u8], key: &str) -> Result<Vec<u8>, prost::DecodeError> {
    let mut kept = Vec::with_capacity(model.len());
    let mut rest = model;
    while !rest.is_empty() {
        let start = rest;
        let (field, wire) = decode_key(&mut rest)?;
        let length = match wire {
            WireType::LengthDelimited => decode_varint(&mut rest)?,
            WireType::Varint => {
                decode_varint(&mut rest)?;
                0
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            // Groups are not in ONNX's schema; the decoder says so.
            WireType::StartGroup | WireType::EndGroup => return Err(decode_error(model)),
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= rest.len());
        let Some(length) = length else { return Err(decode_error(model)) };
        let (content, after) = rest.split_at(length);
        let drop = field == METADATA
            && wire == WireType::LengthDelimited
            && StringStringEntryProto::decode(content)?.key == key;
        if !drop {
            kept.extend_from_slice(&start[..start.len() - after.len()]);
        }
        rest = after;
    }
    Ok(kept)
}

/// The file with one metadata entry of this key, at its end; every other byte stays.
///
/// # Errors
/// As [`without_metadata`].
pub fn with_metadata(model: &[u8], key: &str, value: &str) -> Result<Vec<u8>, prost::DecodeError> {
    let mut bytes = without_metadata(model, key)?;
    let entry = StringStringEntryProto { key: key.into(), value: value.into() };
    encode_key(METADATA, WireType::LengthDelimited, &mut bytes);
    encode_varint(entry.encoded_len() as u64, &mut bytes);
    bytes.extend(entry.encode_to_vec());
    Ok(bytes)
}

/// What the decoder says of bytes that are no model; a message cut short where it finds nothing.
fn decode_error(model: &[u8]) -> prost::DecodeError {
    let truncated = || StringStringEntryProto::decode(&[0x0a_u8, 0x01][..]).expect_err("one byte is missing");
    crate::ModelProto::decode(model).err().unwrap_or_else(truncated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ModelProto;

    #[test]
    fn an_entry_comes_and_goes_and_the_rest_stays() {
        let model = ModelProto {
            ir_version: 10,
            producer_name: "somebody".into(),
            metadata_props: vec![StringStringEntryProto { key: "author".into(), value: "anna".into() }],
            ..ModelProto::default()
        };
        // A field that no schema of ours has.
        let mut bytes = model.encode_to_vec();
        encode_key(1000, WireType::Varint, &mut bytes);
        encode_varint(77, &mut bytes);
        let once = with_metadata(&bytes, "vitrine.threshold", "[1]").unwrap();
        assert!(once.starts_with(&bytes));
        let twice = with_metadata(&once, "vitrine.threshold", "[2]").unwrap();
        let entries = ModelProto::decode(twice.as_slice()).unwrap().metadata_props;
        let said: Vec<_> = entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
        assert_eq!(said, [("author", "anna"), ("vitrine.threshold", "[2]")]);
        assert_eq!(without_metadata(&twice, "vitrine.threshold").unwrap(), bytes);
    }

    #[test]
    fn bytes_that_are_no_message_are_refused() {
        let whole = with_metadata(&[], "k", "v").unwrap();
        for cut in 1..whole.len() {
            assert!(without_metadata(&whole[..cut], "k").is_err(), "{cut} bytes");
        }
        assert!(without_metadata(&[0x0b, 0x0c], "k").is_err(), "a group");
    }
}
