//! Graph -> protobuf bytes. The order of everything is that of the graph: same weights, same file.

use std::borrow::Cow;

use onnx::{
    AttributeProto, AttributeType, DataLocation, DataType, Dimension, DimensionProto, GraphProto, Message, ModelProto,
    NodeProto, OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto,
    ValueInfoProto,
};

use sha2::{Digest, Sha256};

use crate::error::ExportError;
use crate::graph::{Attribute, DType, Dim, Graph, Node, Op, Reduction, Tensor, Value};

/// Most bytes of weights in a model file: protobuf ends at 2 GiB, and names need room.
pub const LARGEST_FILE: u64 = (2 << 30) - (16 << 20);

/// Weights below this size stay in the model file whatever the rest does: shapes and axes among them, which runtimes read
/// before they load anything.
const SMALL: usize = 1024;

/// Where a tensor begins in the data file: whole memory pages, so that runtimes can map it.
const ALIGNMENT: usize = 4096;

/// A model as it is written: the file, and beside it the weights that are too large for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The model file.
    pub model: Vec<u8>,
    /// The data file.
    pub data: Option<DataFile>,
}

impl Encoded {
    /// Reads the model back, checked as a file that nobody vouches for.
    ///
    /// # Errors
    /// [`ExportError::ReadBack`] if our own reader refuses it.
    pub fn parse(&self) -> Result<ModelProto, ExportError> {
        parse(&self.model, self.data.as_ref())
    }

    /// Bytes of both files.
    pub fn bytes(&self) -> u64 {
        (self.model.len() + self.data.as_ref().map_or(0, |data| data.bytes.len())) as u64
    }
}

/// Weights beside a model file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Name in the folder of the model. It follows from the content: a new model never finds the weights of an old one.
    pub name: String,
    /// Content: tensors in the order of the graph, each at a multiple of 4096.
    pub bytes: Vec<u8>,
}

/// [`Encoded::parse`] of its parts.
pub(crate) fn parse(model: &[u8], data: Option<&DataFile>) -> Result<ModelProto, ExportError> {
    let limits = onnx::Limits::default();
    let read = match data {
        None => onnx::parse(model, "model.onnx".as_ref(), &limits),
        Some(data) => onnx::parse_with_data(model, &limits, &data.name, data.bytes.len() as u64),
    };
    read.map_err(|error| ExportError::ReadBack(Box::new(error)))
}

/// Whether a file name is that of a [`DataFile`] of ours.
pub(crate) fn is_data_file(name: &str) -> bool {
    let hash = name.strip_prefix("model.").and_then(|rest| rest.strip_suffix(".onnx.data"));
    hash.is_some_and(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Encodes a graph for an operator set into one file.
///
/// # Errors
/// If the weights do not fit.
pub(crate) fn encode(graph: &Graph, opset: u32, metadata: &[(String, String)]) -> Result<Vec<u8>, ExportError> {
    match bytes_of_weights(graph) {
        bytes if bytes > LARGEST_FILE => Err(ExportError::TooLarge { bytes, limit: LARGEST_FILE }),
        _ => Ok(model(graph, opset, metadata).encode_to_vec()),
    }
}

/// Encodes a graph for an operator set; weights of more than `most_inside` bytes together go into a file of their own.
pub(crate) fn encode_apart(graph: &Graph, opset: u32, metadata: &[(String, String)], most_inside: u64) -> Encoded {
    let mut proto = model(graph, opset, metadata);
    if bytes_of_weights(graph) <= most_inside.min(LARGEST_FILE) {
        return Encoded { model: proto.encode_to_vec(), data: None };
    }
    let mut bytes = vec![];
    let tensors = proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
    let mut apart: Vec<&mut TensorProto> = tensors.filter(|tensor| tensor.raw_data.len() >= SMALL).collect();
    for tensor in &mut apart {
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
        let entry = |key: &str, value: String| StringStringEntryProto { key: key.into(), value };
        let length = tensor.raw_data.len().to_string();
        tensor.external_data = vec![entry("offset", bytes.len().to_string()), entry("length", length)];
        tensor.data_location = DataLocation::External as i32;
        bytes.append(&mut tensor.raw_data);
    }
    let name = format!("model.{}.onnx.data", &contract::hex(&Sha256::digest(&bytes))[..16]);
    for tensor in apart {
        tensor.external_data.insert(0, StringStringEntryProto { key: "location".into(), value: name.clone() });
    }
    Encoded { model: proto.encode_to_vec(), data: (!bytes.is_empty()).then_some(DataFile { name, bytes }) }
}

fn bytes_of_weights(graph: &Graph) -> u64 {
    graph.initialisers().map(|(_, tensor)| tensor.bytes().len() as u64).sum()
}

/// Lets a model file give some more of its values as outputs, whoever wrote it: protobuf appends the lists of a message that
/// comes twice.
pub(crate) fn with_outputs<'a>(model: &'a [u8], values: &[String]) -> Cow<'a, [u8]> {
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

fn model(graph: &Graph, opset: u32, metadata: &[(String, String)]) -> ModelProto {
    let mut initializer: Vec<TensorProto> =
        graph.initialisers().map(|(id, constant)| tensor(constant, &graph.value(id).name)).collect();
    let node = graph.nodes.iter().map(|node| self::node(graph, node, opset, &mut initializer)).collect();
    let boundary: Vec<_> = graph.inputs.iter().chain(&graph.outputs).collect();
    let info = |id| value_info(graph.value(id));
    let between = graph.nodes.iter().flat_map(|node| &node.outputs).filter(|id| !boundary.contains(id));
    ModelProto {
        ir_version: ir_version(opset),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: i64::from(opset) }],
        producer_name: "vitrine".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: format!("{}, exported from Burn {}", graph.name, crate::BURN_VERSION),
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
        // Axes became an input with operator set 13 for sums, with 18 for the others.
        if opset >= 18 || *reduction == Reduction::Sum {
            let name = format!("{}/axes", node.name);
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

fn attribute(name: &str, value: Attribute) -> AttributeProto {
    let base = AttributeProto { name: name.to_owned(), ..Default::default() };
    match value {
        Attribute::Int(i) => AttributeProto { r#type: AttributeType::Int as i32, i, ..base },
        Attribute::Ints(ints) => AttributeProto { r#type: AttributeType::Ints as i32, ints, ..base },
        Attribute::Float(f) => AttributeProto { r#type: AttributeType::Float as i32, f, ..base },
        Attribute::Text(text) => AttributeProto { r#type: AttributeType::String as i32, s: text.into(), ..base },
        Attribute::Type(dtype) => {
            AttributeProto { r#type: AttributeType::Int as i32, i: i64::from(data_type(dtype) as i32), ..base }
        }
        Attribute::Tensor(value) => {
            AttributeProto { r#type: AttributeType::Tensor as i32, t: Some(tensor(&value, "")), ..base }
        }
    }
}

fn tensor(tensor: &Tensor, name: &str) -> TensorProto {
    TensorProto {
        dims: tensor.dims().iter().map(|&size| size as i64).collect(),
        data_type: data_type(tensor.dtype()) as i32,
        name: name.to_owned(),
        raw_data: tensor.bytes().to_vec(),
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
