//! Encodes a graph as protobuf. Everything is in the order of the graph, so equal weights give equal files.

use std::borrow::Cow;
use std::io::Write;
use std::path::{Path, PathBuf};

use files::{TemporaryFolder, WriteError};
use onnx::{
    AttributeProto, AttributeType, DataLocation, DataType, Dimension, DimensionProto, GraphProto, Message, ModelProto,
    NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};

use sha2::{Digest, Sha256};

use crate::dim::Dim;
use crate::error::Error;
use crate::graph::{Graph, Node, Value};
use crate::op::{Attribute, Op, Reduction};
use crate::tensor::{DType, Tensor};

/// Most bytes of weights inside a model file: protobuf is limited to 2 GiB, and names need room.
pub const MAX_INLINE_WEIGHTS: u64 = (2 << 30) - (16 << 20);

/// Most bytes of a model file: readers count them in a signed 32-bit integer.
const LARGEST_MESSAGE: u64 = i32::MAX as u64;

/// Weights below this size always stay in the model file. They include shapes and axes, which runtimes read before they
/// load external data.
const SMALL: usize = 1024;

/// Alignment of tensors in the data file: whole memory pages, so that runtimes can map them.
const ALIGNMENT: u64 = 4096;

/// An encoded model: the model file and, if the weights are too large for it, a data file.
#[derive(Debug)]
pub struct Encoded {
    /// The model file.
    pub model: Vec<u8>,
    /// The data file.
    pub data: Option<DataFile>,
}

impl Encoded {
    /// Reads the model back with all the checks for untrusted files.
    ///
    /// # Errors
    /// [`Error::ReadBack`] if our own reader refuses it.
    pub fn parse(&self) -> Result<ModelProto, Error> {
        parse(&self.model, self.data.as_ref())
    }

    /// Total bytes of both files.
    pub fn bytes(&self) -> u64 {
        self.model.len() as u64 + self.data.as_ref().map_or(0, |data| data.bytes)
    }
}

/// The weights beside a model file: tensors in the order of the graph, each at a multiple of 4096 bytes.
///
/// The file is written to disk at once, in a temporary folder that is removed when this value is dropped. ONNX Runtime
/// reads tensors of 2 GiB or more only from a file, and gigabytes should not be in memory twice.
#[derive(Debug)]
pub struct DataFile {
    /// Name in the folder of the model. It depends on the content, so a new model never reads the weights of an old
    /// one.
    pub name: String,
    /// SHA-256 of the content, in hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    pub bytes: u64,
    folder: TemporaryFolder,
}

impl DataFile {
    /// Writes the external weights of a graph into a new temporary folder inside `folder`.
    fn stage(graph: &Graph, folder: &Path) -> Result<Self, WriteError> {
        let attempt = || {
            let folder = TemporaryFolder::new_in(folder)?;
            let unnamed = folder.path().join("weights");
            let mut file = std::fs::File::create_new(&unnamed)?;
            let (mut hash, mut bytes) = (Sha256::new(), 0u64);
            for (_, tensor) in graph.initialisers().filter(|(_, tensor)| goes_apart(tensor)) {
                let gap = bytes.next_multiple_of(ALIGNMENT) - bytes;
                for piece in [&[0; ALIGNMENT as usize][..gap as usize], tensor.bytes()] {
                    hash.update(piece);
                    file.write_all(piece)?;
                    bytes += piece.len() as u64;
                }
            }
            let sha256 = hex::encode(hash.finalize());
            let name = files::weights_name(&sha256);
            std::fs::rename(unnamed, folder.path().join(&name))?;
            Ok(Self { name, sha256, bytes, folder })
        };
        attempt().map_err(|source| WriteError { path: folder.to_owned(), source })
    }

    /// The temporary folder that holds the file until it is moved into place.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The file itself.
    pub fn path(&self) -> PathBuf {
        self.folder().join(&self.name)
    }
}

fn goes_apart(tensor: &Tensor) -> bool {
    tensor.bytes().len() >= SMALL
}

/// [`Encoded::parse`] for the parts of a model.
///
/// # Errors
/// [`Error::ReadBack`] if our own reader refuses them.
pub fn parse(model: &[u8], data: Option<&DataFile>) -> Result<ModelProto, Error> {
    let limits = onnx::Limits::default();
    let read = match data {
        None => onnx::parse(model, "model.onnx".as_ref(), &limits),
        Some(data) => onnx::parse_with_data(model, &limits, &data.name, data.bytes),
    };
    read.map_err(|error| Error::ReadBack(Box::new(error)))
}

/// Encodes a graph for an operator set as one file.
///
/// # Errors
/// If the model does not fit into one file.
pub fn encode(graph: &Graph, opset: u32, metadata: &[(String, String)]) -> Result<Vec<u8>, Error> {
    match bytes_of_weights(graph) {
        bytes if bytes > MAX_INLINE_WEIGHTS => Err(Error::TooLarge { bytes, limit: MAX_INLINE_WEIGHTS }),
        _ => message(&model(graph, opset, metadata, &mut tensor)),
    }
}

/// Encodes a graph for an operator set. If the weights exceed `inline_weight_limit` bytes in total, or leave no room
/// for the rest, they go into a data file, temporarily inside `folder`.
///
/// # Errors
/// If the rest alone does not fit into one file, or `folder` cannot be written to.
pub fn encode_apart(
    graph: &Graph,
    opset: u32,
    metadata: &[(String, String)],
    inline_weight_limit: u64,
    folder: &Path,
) -> Result<Encoded, Error> {
    if bytes_of_weights(graph) <= inline_weight_limit {
        match encode(graph, opset, metadata) {
            Err(Error::TooLarge { .. }) => {}
            model => return Ok(Encoded { model: model?, data: None }),
        }
    }
    let mut end = 0u64;
    let mut place = |constant: &Tensor, name: &str| {
        if !goes_apart(constant) {
            return tensor(constant, name);
        }
        let (offset, length) = (end.next_multiple_of(ALIGNMENT), constant.bytes().len() as u64);
        end = offset + length;
        let entry = |key: &str, value: u64| StringStringEntryProto { key: key.into(), value: value.to_string() };
        let external_data = vec![entry("offset", offset), entry("length", length)];
        TensorProto { external_data, data_location: DataLocation::External as i32, ..described(constant, name) }
    };
    let mut proto = model(graph, opset, metadata, &mut place);
    if end == 0 {
        return Ok(Encoded { model: message(&proto)?, data: None });
    }
    let data = DataFile::stage(graph, folder)?;
    let tensors = proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
    for tensor in tensors.filter(|tensor| !tensor.external_data.is_empty()) {
        tensor.external_data.insert(0, StringStringEntryProto { key: "location".into(), value: data.name.clone() });
    }
    Ok(Encoded { model: message(&proto)?, data: Some(data) })
}

/// The bytes of a model file, if they are within protobuf's limit.
fn message(proto: &ModelProto) -> Result<Vec<u8>, Error> {
    match proto.encoded_len() as u64 {
        bytes if bytes > LARGEST_MESSAGE => Err(Error::TooLarge { bytes, limit: LARGEST_MESSAGE }),
        _ => Ok(proto.encode_to_vec()),
    }
}

fn bytes_of_weights(graph: &Graph) -> u64 {
    graph.initialisers().map(|(_, tensor)| tensor.bytes().len() as u64).sum()
}

/// Adds values to the outputs of any encoded model, without decoding it: protobuf concatenates the lists of a message
/// that occurs twice.
pub fn with_outputs<'a>(model: &'a [u8], values: &[String]) -> Cow<'a, [u8]> {
    if values.is_empty() {
        return Cow::Borrowed(model);
    }
    // The runtime infers the type.
    let output = values.iter().map(|name| ValueInfoProto { name: name.clone(), ..Default::default() }).collect();
    let more = ModelProto { graph: Some(GraphProto { output, ..Default::default() }), ..Default::default() };
    Cow::Owned([model, &more.encode_to_vec()].concat())
}

/// The first IR version whose ONNX release has the operator set: readers refuse versions newer than themselves.
fn ir_version(opset: u32) -> i64 {
    match opset {
        ..=18 => 8,
        19 | 20 => 9,
        21 | 22 => 10,
        _ => 11,
    }
}

fn model(
    graph: &Graph,
    opset: u32,
    metadata: &[(String, String)],
    store: &mut dyn FnMut(&Tensor, &str) -> TensorProto,
) -> ModelProto {
    let mut initializer: Vec<TensorProto> =
        graph.initialisers().map(|(id, constant)| store(constant, &graph.value(id).name)).collect();
    let node = graph.nodes.iter().map(|node| self::node(graph, node, opset, &mut initializer)).collect();
    let boundary: Vec<_> = graph.inputs.iter().chain(&graph.outputs).collect();
    let info = |id| value_info(graph.value(id));
    let between = graph.nodes.iter().flat_map(|node| &node.outputs).filter(|id| !boundary.contains(id));
    ModelProto {
        ir_version: ir_version(opset),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: i64::from(opset) }],
        producer_name: "vitrine".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: graph.doc.clone(),
        graph: Some(GraphProto {
            name: graph.name.clone(),
            node,
            initializer,
            input: graph.inputs.iter().map(|&id| info(id)).collect(),
            output: graph.outputs.iter().map(|&id| info(id)).collect(),
            value_info: between.map(|&id| info(id)).collect(),
            ..Default::default()
        }),
        metadata_props: metadata
            .iter()
            .map(|(key, value)| StringStringEntryProto { key: key.clone(), value: value.clone() })
            .collect(),
        ..Default::default()
    }
}

fn node(graph: &Graph, node: &Node, opset: u32, initializer: &mut Vec<TensorProto>) -> NodeProto {
    let name = |id| graph.value(id).name.clone();
    let mut input: Vec<String> = node.inputs.iter().map(|id| id.map_or_else(String::new, name)).collect();
    let mut attribute: Vec<AttributeProto> =
        node.op.attributes().into_iter().map(|(name, value)| self::attribute(name, value)).collect();
    if let Op::Reduce { reduction, axes, .. } = &node.op {
        // Axes became an input in operator set 13 for sums, and in 18 for the other reductions.
        if opset >= 18 || *reduction == Reduction::Sum {
            let name = free(graph, &format!("{}/axes", node.name));
            initializer.push(tensor(&Tensor::int64s(axes), &name));
            input.push(name);
        } else {
            attribute.insert(0, self::attribute("axes", Attribute::Ints(axes.clone())));
        }
    }
    NodeProto {
        input,
        output: node.outputs.iter().map(|&id| name(id)).collect(),
        name: node.name.clone(),
        op_type: node.op.name(),
        attribute,
        ..Default::default()
    }
}

/// A name that no value of the graph has: `wanted`, with a number appended if necessary.
fn free(graph: &Graph, wanted: &str) -> String {
    let numbered = (1..).map(|number| format!("{wanted}_{number}"));
    let mut names = std::iter::once(wanted.to_owned()).chain(numbered);
    names.find(|name| !graph.has_value(name)).expect("numbers do not end")
}

fn attribute(name: &str, value: Attribute) -> AttributeProto {
    let base = AttributeProto { name: name.to_owned(), ..Default::default() };
    match value {
        Attribute::Int(i) => AttributeProto { r#type: AttributeType::Int as i32, i: Some(i), ..base },
        Attribute::Ints(ints) => AttributeProto { r#type: AttributeType::Ints as i32, ints, ..base },
        Attribute::Float(f) => AttributeProto { r#type: AttributeType::Float as i32, f: Some(f), ..base },
        Attribute::Text(text) => AttributeProto { r#type: AttributeType::String as i32, s: Some(text.into()), ..base },
        Attribute::Type(dtype) => {
            AttributeProto { r#type: AttributeType::Int as i32, i: Some(i64::from(data_type(dtype) as i32)), ..base }
        }
        Attribute::Tensor(value) => {
            AttributeProto { r#type: AttributeType::Tensor as i32, t: Some(Box::new(tensor(&value, ""))), ..base }
        }
    }
}

fn tensor(tensor: &Tensor, name: &str) -> TensorProto {
    TensorProto { raw_data: tensor.bytes().to_vec(), ..described(tensor, name) }
}

/// A tensor's description, without its values.
fn described(tensor: &Tensor, name: &str) -> TensorProto {
    TensorProto {
        dims: tensor.dims().iter().map(|&size| size as i64).collect(),
        data_type: data_type(tensor.dtype()) as i32,
        name: name.to_owned(),
        ..Default::default()
    }
}

fn value_info(value: &Value) -> ValueInfoProto {
    let axis = |dim: &Dim| DimensionProto {
        value: match dim {
            Dim::Size(size) => Some(Dimension::Value(*size as i64)),
            Dim::Unknown => None,
            symbolic => Some(Dimension::Symbol(symbolic.to_string())),
        },
    };
    ValueInfoProto {
        name: value.name.clone(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorTypeProto {
                elem_type: data_type(value.dtype) as i32,
                shape: Some(TensorShapeProto { dim: value.dims.iter().map(axis).collect() }),
            }),
        }),
        ..Default::default()
    }
}

fn data_type(dtype: DType) -> DataType {
    match dtype {
        DType::Float => DataType::Float,
        DType::Double => DataType::Double,
        DType::Float16 => DataType::Float16,
        DType::Bfloat16 => DataType::Bfloat16,
        DType::Int8 => DataType::Int8,
        DType::Int16 => DataType::Int16,
        DType::Int32 => DataType::Int32,
        DType::Int64 => DataType::Int64,
        DType::Uint8 => DataType::Uint8,
        DType::Uint16 => DataType::Uint16,
        DType::Uint32 => DataType::Uint32,
        DType::Uint64 => DataType::Uint64,
        DType::Bool => DataType::Bool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Plain;

    /// A graph that copies its input and has one constant.
    fn graph(constant: Tensor, name: &str) -> Graph {
        let mut graph = Graph::new("test");
        let x = graph.add_value("x", DType::Float, vec![Dim::Size(2)]);
        let y = graph.add_value("y", DType::Float, vec![Dim::Size(2)]);
        graph.inputs.push(x);
        graph.outputs.push(y);
        graph.add_initialiser(name, constant);
        let (inputs, outputs) = (vec![Some(x)], vec![y]);
        graph.nodes.push(Node { name: "copy".into(), op: Plain::Identity.into(), inputs, outputs });
        graph
    }

    /// Readers made from the proto2 form of `onnx.proto` check whether the field is present; OpenCV refuses a file
    /// without it.
    #[test]
    fn attributes_of_value_0_are_written() {
        for (value, bytes) in [
            (Attribute::Int(0), &[0x18, 0][..]),
            (Attribute::Float(0.0), &[0x15, 0, 0, 0, 0]),
            (Attribute::Text(""), &[0x22, 0]),
        ] {
            let encoded = attribute("a", value.clone()).encode_to_vec();
            assert!(encoded.windows(bytes.len()).any(|window| window == bytes), "{value:?}: {encoded:?}");
        }
        // In a whole file, every attribute has the field that its type names.
        let mut graph = graph(zeros(0), "w");
        graph.nodes[0].op = Op::Gemm { transpose_b: false };
        graph.nodes[0].inputs.push(Some(graph.inputs[0]));
        let proto = ModelProto::decode(&*encode(&graph, 20, &[]).unwrap()).unwrap();
        let attributes = proto.graph.unwrap().node.into_iter().flat_map(|node| node.attribute);
        assert_eq!(attributes.map(|attribute| attribute.i).collect::<Vec<_>>(), [Some(0)]);
    }

    #[test]
    fn axes_take_no_name_that_a_value_has() {
        let mut graph = graph(Tensor::int64s(&[0]), "copy/axes");
        graph.nodes[0].op = Op::Reduce { reduction: Reduction::Sum, axes: vec![0], keep_dims: true };
        let proto = ModelProto::decode(&*encode(&graph, 20, &[]).unwrap()).unwrap();
        crate::checker::check_file(&proto).unwrap();
        assert_eq!(proto.graph.unwrap().node[0].input, ["x", "copy/axes_1"]);
    }

    /// Zeros, whose memory pages are never touched and so take no memory.
    fn zeros(bytes: usize) -> Tensor {
        Tensor::new(DType::Uint8, vec![bytes], vec![0; bytes]).unwrap()
    }

    #[test]
    fn no_message_is_larger_than_readers_can_count() {
        let mut proto = model(&graph(zeros(0), "w"), 20, &[], &mut tensor);
        let room = |proto: &mut ModelProto, bytes: usize| {
            proto.graph.as_mut().unwrap().initializer[0].raw_data = vec![0; bytes];
            proto.encoded_len() as u64
        };
        let most = usize::try_from(LARGEST_MESSAGE).unwrap();
        let overhead = room(&mut proto, most) - LARGEST_MESSAGE;
        let largest = most - usize::try_from(overhead).unwrap();
        assert_eq!(room(&mut proto, largest), LARGEST_MESSAGE);
        assert_eq!(room(&mut proto, largest + 1), LARGEST_MESSAGE + 1);
        let error = message(&proto).unwrap_err();
        assert!(matches!(error, Error::TooLarge { bytes, .. } if bytes == LARGEST_MESSAGE + 1), "{error}");
    }

    #[test]
    fn weights_beyond_the_limit_go_apart() {
        let folder = tempfile::tempdir().unwrap();
        let encode_apart = |graph: &Graph, most| encode_apart(graph, 20, &[], most, folder.path()).unwrap();
        let weights = graph(zeros(3 << 10), "w");
        assert!(encode_apart(&weights, 3 << 10).data.is_none());
        let apart = encode_apart(&weights, (3 << 10) - 1);
        let read = apart.parse().unwrap().graph.unwrap();
        let data = apart.data.unwrap();
        assert_eq!((data.bytes, std::fs::read(data.path()).unwrap()), (3 << 10, vec![0; 3 << 10]));
        assert_eq!(files::sha256(&data.path()).unwrap(), (data.sha256.clone(), data.bytes));
        assert_eq!(read.initializer[0].external_data[0].value, data.name);
        // A file that was not moved into place is removed.
        drop(data);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        // Constants that runtimes read before loading stay inside.
        assert!(encode_apart(&graph(zeros(SMALL - 1), "w"), 0).data.is_none());
        // Above the limit, nothing fits inside.
        let huge = graph(zeros((MAX_INLINE_WEIGHTS + 1) as usize), "w");
        let error = encode(&huge, 20, &[]).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: MAX_INLINE_WEIGHTS, .. }), "{error}");
    }

    /// Checks gaps between tensors against the offsets in the model.
    #[test]
    fn tensors_are_where_the_model_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut graph = graph(Tensor::new(DType::Uint8, vec![5000], vec![1; 5000]).unwrap(), "a");
        graph.add_initialiser("small", Tensor::int64s(&[1]));
        graph.add_initialiser("b", Tensor::new(DType::Uint8, vec![1024], vec![2; 1024]).unwrap());
        let encoded = encode_apart(&graph, 20, &[], 0, folder.path()).unwrap();
        let (proto, data) = (encoded.parse().unwrap(), encoded.data.unwrap());
        assert_eq!(data.bytes, 8192 + 1024);
        for (_, tensor) in graph.initialisers().filter(|(_, tensor)| goes_apart(tensor)) {
            let first = tensor.bytes()[0];
            let written = &proto.graph.as_ref().unwrap().initializer[if first == 1 { 0 } else { 2 }];
            let mut bytes = vec![];
            let model = data.folder().join("model.onnx");
            onnx::tensor_bytes(&model, written, |piece| bytes.extend_from_slice(piece)).unwrap();
            assert_eq!(bytes, tensor.bytes());
        }
    }
}
