//! What a graph says of itself, read from its file without ONNX Runtime.

use std::collections::BTreeSet;

use contract::Axis;
use onnx::{DataType, Dimension, ModelProto, NodeProto, TensorProto, ValueInfoProto};

/// An input or output as it is declared.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) element: DataType,
    /// None where no shape is declared.
    pub(super) shape: Option<Vec<Axis>>,
}

impl Port {
    fn of(value: &ValueInfoProto) -> Self {
        let tensor = value.r#type.as_ref().and_then(|ty| ty.tensor_type.as_ref());
        let axis = |(at, dim): (usize, &onnx::DimensionProto)| match &dim.value {
            Some(Dimension::Value(size @ 1..)) => usize::try_from(*size).map_or_else(|_| open(at), Axis::Size),
            Some(Dimension::Symbol(symbol)) if !symbol.is_empty() => Axis::Symbol(symbol.clone()),
            _ => open(at),
        };
        Self {
            name: value.name.clone(),
            element: tensor.and_then(|tensor| DataType::try_from(tensor.elem_type).ok()).unwrap_or(DataType::Undefined),
            shape: tensor
                .and_then(|tensor| tensor.shape.as_ref())
                .map(|shape| shape.dim.iter().enumerate().map(axis).collect()),
        }
    }

    /// Whether its values are floats that are read.
    pub(super) fn is_float(&self) -> bool {
        [DataType::Float, DataType::Float16].contains(&self.element)
    }

    /// Whether a row may be a vector of several values: `[batch, 512]` or `[batch, 512, 1, 1]`.
    pub(super) fn is_vector(&self) -> bool {
        let Some(shape) = &self.shape else { return true };
        let long = shape.iter().skip(1).filter(|axis| **axis != Axis::Size(1)).count();
        self.is_float() && long == 1
    }

    /// Name, type and shape, for people.
    pub(super) fn text(&self) -> String {
        let element = format!("{:?}", self.element).to_lowercase();
        let shape = self.shape.as_deref().map_or_else(|| "of any shape".to_owned(), super::shape_text);
        format!("`{}` {shape} {element}", self.name)
    }
}

/// An axis without size and name.
fn open(at: usize) -> Axis {
    Axis::Symbol(if at == 0 { "batch".to_owned() } else { format!("axis {at}") })
}

fn nodes(model: &ModelProto) -> &[NodeProto] {
    model.graph.as_ref().map(|graph| graph.node.as_slice()).unwrap_or_default()
}

fn initialisers(model: &ModelProto) -> &[TensorProto] {
    model.graph.as_ref().map(|graph| graph.initializer.as_slice()).unwrap_or_default()
}

/// Inputs that the caller gives: old files list their weights among the inputs.
pub(super) fn inputs(model: &ModelProto) -> Vec<Port> {
    let weights: BTreeSet<&str> = initialisers(model).iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs = model.graph.iter().flat_map(|graph| &graph.input);
    inputs.filter(|input| !weights.contains(input.name.as_str())).map(Port::of).collect()
}

/// Outputs.
pub(super) fn outputs(model: &ModelProto) -> Vec<Port> {
    model.graph.iter().flat_map(|graph| &graph.output).map(Port::of).collect()
}

/// The number format of the weights: `int8` where they are quantised, `fp16` where most of their bytes are.
pub(super) fn precision(model: &ModelProto) -> &'static str {
    let quantised = ["QLinearConv", "QLinearMatMul", "DequantizeLinear", "ConvInteger", "MatMulInteger"];
    let weights = |types: &[DataType]| -> u64 {
        let of = initialisers(model).iter().filter(|tensor| types.iter().any(|ty| *ty as i32 == tensor.data_type));
        of.map(|tensor| tensor.dims.iter().map(|size| size.unsigned_abs()).product::<u64>()).sum()
    };
    let (single, half) = (weights(&[DataType::Float]), weights(&[DataType::Float16]));
    let bytes = weights(&[DataType::Int8, DataType::Uint8]);
    if bytes > single + half && nodes(model).iter().any(|node| quantised.contains(&node.op_type.as_str())) {
        "int8"
    } else if half > single {
        "fp16"
    } else {
        "fp32"
    }
}

/// Version of ONNX's own operator set; 0 if the file names none.
pub(super) fn opset(model: &ModelProto) -> i64 {
    let own = model.opset_import.iter().find(|set| ["", "ai.onnx"].contains(&set.domain.as_str()));
    own.map_or(0, |set| set.version)
}

/// How a graph begins to calculate with its pixels, if by constants: `Sub by 103.53 to 123.675, Div by 57.12`.
pub(super) fn normalisation(model: &ModelProto, input: &str) -> Option<String> {
    /// Nodes looked at behind the input: a normalisation has at most a few.
    const MOST: usize = 8;
    /// What hands values on as they are.
    const CARRIES: [&str; 6] = ["Cast", "Identity", "Transpose", "Unsqueeze", "Squeeze", "Reshape"];
    let mut value = input;
    let mut steps = Vec::new();
    for _ in 0..MOST {
        // A graph may ask for the shape of its input besides.
        let next = nodes(model).iter().find(|node| {
            node.input.iter().any(|name| name == value) && !["Shape", "Size"].contains(&node.op_type.as_str())
        });
        let Some(node) = next else { break };
        match node.op_type.as_str() {
            "Sub" | "Add" | "Mul" | "Div" => {
                let other = node.input.iter().find(|name| *name != value);
                let Some(constant) = other.and_then(|name| constant(model, name)) else { break };
                steps.push(step(&node.op_type, &constant));
            }
            carries if CARRIES.contains(&carries) => {}
            _ => break,
        }
        let Some(output) = node.output.first() else { break };
        value = output;
    }
    (!steps.is_empty()).then(|| steps.join(", "))
}

fn step(op: &str, constant: &[f32]) -> String {
    let low = constant.iter().copied().fold(f32::INFINITY, f32::min);
    let high = constant.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    match constant {
        [] => format!("{op} by constants"),
        _ if low == high => format!("{op} by {low}"),
        _ => format!("{op} by {low} to {high}"),
    }
}

/// The values of a weight or of a constant's node, none where they are of a type that is not read; `None` if it is
/// neither.
fn constant(model: &ModelProto, name: &str) -> Option<Vec<f32>> {
    if let Some(tensor) = initialisers(model).iter().find(|tensor| tensor.name == name) {
        return Some(values(tensor));
    }
    let made = |node: &&NodeProto| node.op_type == "Constant" && node.output.iter().any(|output| output == name);
    let attribute = nodes(model).iter().find(made)?.attribute.first()?;
    Some(match (&attribute.t, attribute.f) {
        (Some(tensor), _) => values(tensor),
        (None, Some(value)) => vec![value],
        (None, None) => attribute.floats.clone(),
    })
}

fn values(tensor: &TensorProto) -> Vec<f32> {
    /// More than a normalisation has.
    const MOST: usize = 1 << 12;
    let raw = &tensor.raw_data[..tensor.raw_data.len().min(8 * MOST)];
    let (words, rest) = (raw.as_chunks::<4>().0, &tensor.float_data);
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) if raw.is_empty() => rest.iter().copied().take(MOST).collect(),
        Ok(DataType::Float) => words.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
        Ok(DataType::Float16) => {
            raw.as_chunks::<2>().0.iter().map(|bytes| half::f16::from_le_bytes(*bytes).to_f32()).collect()
        }
        Ok(DataType::Double) => raw.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes) as f32).collect(),
        _ => Vec::new(),
    }
}
