//! What a model file will take once it is decoded, counted on its bytes: an empty message is two bytes in a file and
//! hundreds in memory.

use std::mem::size_of;

use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::{
    AttributeProto, DimensionProto, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    SparseTensorProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};

/// Deepest nesting that is followed; prost's decoder refuses what is nested deeper.
const DEPTH: usize = 100;

/// A message, as far as what it holds goes.
#[derive(Clone, Copy)]
enum Kind {
    Model,
    Pair,
    Opset,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    Dimension,
}

/// What a field of a message holds.
enum Field {
    Message(Kind),
    /// Strings or bytes, one of several.
    Bytes,
    /// Numbers of this size in memory, one or many of them.
    Numbers(usize),
    /// One value, in the message itself, or nothing that is decoded.
    Other,
}

impl Kind {
    /// Bytes of the message in memory, without what it points to.
    fn size(self) -> usize {
        match self {
            Kind::Model => size_of::<ModelProto>(),
            Kind::Pair => size_of::<StringStringEntryProto>(),
            Kind::Opset => size_of::<OperatorSetIdProto>(),
            Kind::Function => size_of::<FunctionProto>(),
            Kind::Graph => size_of::<GraphProto>(),
            Kind::Node => size_of::<NodeProto>(),
            Kind::Attribute => size_of::<AttributeProto>(),
            Kind::Tensor => size_of::<TensorProto>(),
            Kind::Sparse => size_of::<SparseTensorProto>(),
            Kind::ValueInfo => size_of::<ValueInfoProto>(),
            Kind::Type => size_of::<TypeProto>(),
            Kind::TensorType => size_of::<TensorTypeProto>(),
            Kind::Shape => size_of::<TensorShapeProto>(),
            Kind::Dimension => size_of::<DimensionProto>(),
        }
    }

    /// What a field holds; the numbers are those of [`crate::messages`], which a test compares.
    fn field(self, number: u32) -> Field {
        use Field::{Bytes, Message, Numbers, Other};
        match (self, number) {
            (Kind::Model, 7) => Message(Kind::Graph),
            (Kind::Model, 8) => Message(Kind::Opset),
            (Kind::Model, 14) => Message(Kind::Pair),
            (Kind::Model, 25) => Message(Kind::Function),
            (Kind::Function, 7) => Message(Kind::Node),
            (Kind::Function, 11) => Message(Kind::Attribute),
            (Kind::Graph, 1) => Message(Kind::Node),
            (Kind::Graph, 5) => Message(Kind::Tensor),
            (Kind::Graph, 15) => Message(Kind::Sparse),
            (Kind::Graph, 11..=13) => Message(Kind::ValueInfo),
            (Kind::Node, 1 | 2) => Bytes,
            (Kind::Node, 5) => Message(Kind::Attribute),
            (Kind::Attribute, 5 | 10) => Message(Kind::Tensor),
            (Kind::Attribute, 6 | 11) => Message(Kind::Graph),
            (Kind::Attribute, 7) => Numbers(size_of::<f32>()),
            (Kind::Attribute, 8) => Numbers(size_of::<i64>()),
            (Kind::Attribute, 9) => Bytes,
            (Kind::Attribute, 22 | 23) => Message(Kind::Sparse),
            (Kind::Tensor, 1 | 7 | 10 | 11) => Numbers(size_of::<u64>()),
            (Kind::Tensor, 4 | 5) => Numbers(size_of::<u32>()),
            (Kind::Tensor, 6) => Bytes,
            (Kind::Tensor, 13) => Message(Kind::Pair),
            (Kind::Sparse, 1 | 2) => Message(Kind::Tensor),
            (Kind::ValueInfo, 2) => Message(Kind::Type),
            (Kind::Type, 1) => Message(Kind::TensorType),
            (Kind::TensorType, 2) => Message(Kind::Shape),
            (Kind::Shape, 1) => Message(Kind::Dimension),
            _ => Other,
        }
    }
}

/// At most this many bytes are taken by decoding `model`, beside its texts and raw data, which are no more than the
/// file, and the room that growing lists take, which is at most twice as much. It stops as soon as there are more than
/// `limit`, and where the bytes are no message: the decoder stops there too.
pub(crate) fn decoded(model: &[u8], limit: u64) -> u64 {
    let mut count = Count { bytes: 0, limit };
    count.message(Kind::Model, model, 0);
    count.bytes
}

struct Count {
    bytes: u64,
    limit: u64,
}

impl Count {
    /// Counts what a message holds; none where the decoder would stop, or where the limit is passed.
    fn message(&mut self, kind: Kind, mut rest: &[u8], depth: usize) -> Option<()> {
        if depth > DEPTH {
            return None;
        }
        while rest.has_remaining() {
            let (number, wire) = decode_key(&mut rest).ok()?;
            let field = kind.field(number);
            if wire != WireType::LengthDelimited {
                skip_field(wire, number, &mut rest, DecodeContext::default()).ok()?;
                self.add(if let Field::Numbers(size) = field { size } else { 0 })?;
                continue;
            }
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            let (content, after) = rest.split_at_checked(length)?;
            rest = after;
            match field {
                Field::Message(inner) => {
                    self.add(inner.size())?;
                    self.message(inner, content, depth + 1)?;
                }
                Field::Bytes => self.add(size_of::<Vec<u8>>())?,
                // Packed numbers take a byte or more each: no fewer than they are is fine here.
                Field::Numbers(size) => self.add(content.len().saturating_mul(size))?,
                Field::Other => {}
            }
        }
        Some(())
    }

    fn add(&mut self, bytes: usize) -> Option<()> {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        (self.bytes <= self.limit).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields of the messages as their declarations have them, so that none is forgotten here.
    #[test]
    fn fields_are_those_of_the_messages() {
        let kinds = [
            ("ModelProto", Kind::Model),
            ("StringStringEntryProto", Kind::Pair),
            ("OperatorSetIdProto", Kind::Opset),
            ("FunctionProto", Kind::Function),
            ("GraphProto", Kind::Graph),
            ("NodeProto", Kind::Node),
            ("AttributeProto", Kind::Attribute),
            ("TensorProto", Kind::Tensor),
            ("SparseTensorProto", Kind::Sparse),
            ("ValueInfoProto", Kind::ValueInfo),
            ("TypeProto", Kind::Type),
            ("TensorTypeProto", Kind::TensorType),
            ("TensorShapeProto", Kind::Shape),
            ("DimensionProto", Kind::Dimension),
        ];
        let source = include_str!("messages.rs");
        let mut seen = 0;
        for declaration in source.split("#[derive(Clone, PartialEq, Message)]").skip(1) {
            let body = declaration.split("\n}").next().unwrap();
            let name = body.split("pub struct ").nth(1).unwrap().split(' ').next().unwrap();
            let (_, kind) = kinds.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("{name}"));
            for field in body.split("#[prost(").skip(1) {
                let (attributes, rest) = field.split_once(")]").unwrap();
                let Some((_, tag)) = attributes.split_once("tag = \"") else { continue };
                let number: u32 = tag.trim_end_matches('"').parse().unwrap();
                let holds = rest.split_once(": ").unwrap().1.split(',').next().unwrap();
                let found = kind.field(number);
                let fits = match &found {
                    Field::Message(inner) => {
                        let (inner, _) = kinds.iter().find(|(_, kind)| kind.size() == inner.size()).unwrap();
                        attributes.starts_with("message") && (holds.contains("Proto") || holds.contains(inner))
                    }
                    Field::Bytes => holds == "Vec<String>" || holds == "Vec<Vec<u8>>",
                    Field::Numbers(4) => holds == "Vec<f32>" || holds == "Vec<i32>",
                    Field::Numbers(_) => holds == "Vec<i64>" || holds == "Vec<u64>" || holds == "Vec<f64>",
                    Field::Other => !attributes.starts_with("message") && !attributes.contains("repeated"),
                };
                assert!(fits, "{name}, field {number}: {attributes}: {holds}");
                seen += 1;
            }
        }
        assert!(seen > 50, "{seen} fields");
    }

    #[test]
    fn what_is_small_in_the_file_is_counted_as_in_memory() {
        // A graph with a node with empty attributes: 2a 00 each.
        let attributes = [0x2a, 0].repeat(1000);
        let wrapped = |tag: u8, content: &[u8]| {
            let mut bytes = vec![tag];
            prost::encoding::encode_varint(content.len() as u64, &mut bytes);
            bytes.extend(content);
            bytes
        };
        let model = wrapped(0x3a, &wrapped(0x0a, &attributes));
        let fixed = (Kind::Graph.size() + Kind::Node.size()) as u64;
        assert_eq!(decoded(&model, u64::MAX), fixed + 1000 * Kind::Attribute.size() as u64);
        assert!(Kind::Attribute.size() <= 300, "{} bytes", Kind::Attribute.size());
        assert!(decoded(&model, 1000) < 2000, "it goes no further than the limit");
        // Packed sizes of one byte become eight.
        let shape = wrapped(0x3a, &wrapped(0x2a, &wrapped(0x0a, &[1; 50])));
        assert_eq!(decoded(&shape, u64::MAX), (Kind::Graph.size() + Kind::Tensor.size()) as u64 + 400);
    }
}
