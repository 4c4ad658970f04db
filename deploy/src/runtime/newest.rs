//! Whether a model that does not open is of a newer format than the library reads.
//!
//! The library says so in words that change with its releases. Instead, it is asked to open the smallest model of the
//! same versions.

use std::path::Path;

use onnx::{
    DataType, Dimension, DimensionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use ort::session::Session;

use super::Runtime;
use crate::DeployError;

/// Versions that every library reads that this program runs with.
const OLD_IR: i64 = 8;
const OLD_SET: i64 = 13;

/// The error for a model whose IR version or operator set the library does not know; `None` if it knows them.
pub(super) fn too_new(runtime: &Runtime, path: &Path, model: &ModelProto) -> Option<DeployError> {
    let error = |what: String, wanted: i64, available: i64| DeployError::TooNew {
        path: path.to_owned(),
        wanted: format!("{what} {wanted}"),
        available: format!("{what} {available}"),
    };
    let ir = |version: i64| opens(runtime, version, &[set("", OLD_SET)]);
    if let Some(newest) = newest_below(model.ir_version, OLD_IR, ir) {
        return Some(error("IR version".to_owned(), model.ir_version, newest));
    }
    model.opset_import.iter().find_map(|import| {
        // Of another domain than ONNX's own, any version may be known.
        let (first, name) = match import.domain.as_str() {
            "" | "ai.onnx" => (OLD_SET, "operator set".to_owned()),
            "ai.onnx.ml" => (1, format!("operator set `{}`", import.domain)),
            _ => return None,
        };
        let sets = |version: i64| match first {
            OLD_SET => opens(runtime, OLD_IR, &[set("", version)]),
            _ => opens(runtime, OLD_IR, &[set("", OLD_SET), set(&import.domain, version)]),
        };
        newest_below(import.version, first, sets).map(|newest| error(name, import.version, newest))
    })
}

/// The newest version that `opens`, where `wanted` does not and `known` does.
fn newest_below(wanted: i64, known: i64, opens: impl Fn(i64) -> bool) -> Option<i64> {
    if wanted <= known || opens(wanted) || !opens(known) {
        return None;
    }
    let (mut newest, mut refused) = (known, wanted);
    while refused - newest > 1 {
        let middle = newest + (refused - newest) / 2;
        if opens(middle) { newest = middle } else { refused = middle }
    }
    Some(newest)
}

fn set(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.to_owned(), version }
}

/// Whether the library opens a model of one node with these versions.
fn opens(runtime: &Runtime, ir_version: i64, sets: &[OperatorSetIdProto]) -> bool {
    let shape = TensorShapeProto { dim: vec![DimensionProto { value: Some(Dimension::Value(1)) }] };
    let tensor_type = Some(TensorTypeProto { elem_type: DataType::Float as i32, shape: Some(shape) });
    let port = |name: &str| ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto { tensor_type: tensor_type.clone() }),
        ..Default::default()
    };
    let node = NodeProto {
        op_type: "Identity".to_owned(),
        input: vec!["x".to_owned()],
        output: vec!["y".to_owned()],
        ..Default::default()
    };
    let graph = GraphProto {
        name: "smallest".to_owned(),
        node: vec![node],
        input: vec![port("x")],
        output: vec![port("y")],
        ..Default::default()
    };
    let model = ModelProto { ir_version, opset_import: sets.to_vec(), graph: Some(graph), ..Default::default() };
    let session = Session::builder(&runtime.environment)
        .and_then(|mut builder| builder.commit_from_memory(&model.encode_to_vec()));
    session.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_found() {
        let upto = |last: i64| move |version: i64| version <= last;
        assert_eq!(newest_below(99, 13, upto(26)), Some(26));
        assert_eq!(newest_below(i64::MAX, 13, upto(26)), Some(26));
        assert_eq!(newest_below(27, 13, upto(26)), Some(26));
        assert_eq!(newest_below(26, 13, upto(26)), None, "it is known");
        assert_eq!(newest_below(5, 13, upto(26)), None, "it is older than what every library knows");
        assert_eq!(newest_below(99, 13, |_| false), None, "nothing opens, for another reason");
    }
}
