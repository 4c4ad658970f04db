//! ONNX as bytes: the protobuf messages (`onnx.proto`, ONNX 1.23, IR version up to 13) written by hand as
//! [`prost::Message`] structs, and [`read`], which checks a file before any runtime sees it.
//!
//! Only what an exporter writes or a deployment inspects has a field here; prost skips unknown fields when it decodes,
//! so a foreign model is read without loss of what we ask about, but must not be re-encoded from these structs.

mod messages;
mod metadata;
mod size;
mod untrusted;

pub use messages::*;
pub use metadata::{with_metadata, without_metadata};
pub use untrusted::{
    DataProblem, Limits, ModelFileError, ShapeProblem, data_files, external_range, named_files, parse, parse_with_data,
    read, read_bytes, tensor_bytes,
};

/// Field numbers are the schema's; a test of `export` checks files written with them against Python `onnx`.
pub use prost::{DecodeError, Message};

// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
