//! Models in float16, with islands of float32 where the range of float16 is too small or rounding does harm.

use std::collections::{BTreeMap, HashMap, HashSet};

use half::f16;
use onnx::{AttributeProto, AttributeType, DataType, GraphProto, ModelProto, NodeProto, TensorProto};

use super::insert::drop_unused;
use super::net::{Names, Net, floats, standard};
use super::{Prepared, Ranges};

/// A model in float16.
#[derive(Debug, Clone, PartialEq)]
pub struct Half {
    /// The model.
    pub model: ModelProto,
    /// Nodes that compute in float16, in the order of the file.
    pub nodes: Vec<String>,
    /// Nodes that stay float32 because of their values, each with the reason. Operators that always stay are not
    /// listed.
    pub islands: Vec<(String, String)>,
}

/// Largest magnitude that a value may have been seen with: half of float16's, for inputs that were not seen.
const LARGEST: f32 = 32_752.0;

/// Least magnitude that the largest seen value must have: 16 times the least normal number.
const SMALLEST: f32 = 9.77e-4;

/// Most that rounding may change constants, as a share of their root mean square: half the step of a normal number is
/// 4.9e-4, and more means that part of them is lost below the range.
const ROUNDING: f64 = 1e-3;

/// Operators whose inputs and results are all of one float type, and which float16 does no harm. Norms, softmax,
/// divisions, roots, powers and sums over axes are none of them.
const KNOWN: [&str; 33] = [
    "Add",
    "AveragePool",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Flatten",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Pad",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Slice",
    "Split",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// Inputs of these operators from this index on are not of the float type.
fn of_type(operator: &str) -> usize {
    match operator {
        "Reshape" | "Slice" | "Split" | "Squeeze" | "Unsqueeze" => 1,
        _ => usize::MAX,
    }
}

/// Whether input `index` of a node has the node's float type.
fn typed(node: &NodeProto, index: usize) -> bool {
    let pads = node.op_type == "Pad" && index != 0 && index != 2;
    index < of_type(&node.op_type) && !pads && node.input.get(index).is_some_and(|name| !name.is_empty())
}

/// Turns a model into float16. Inputs and outputs of the model stay as they are. `ranges` are the float32 values seen;
/// a value without a range is no float32 tensor, and the nodes at it stay.
pub fn half(model: &Prepared, ranges: &Ranges) -> Half {
    let net = model.net();
    let mut islands = vec![];
    let mut halves: HashSet<usize> = HashSet::new();
    for (index, node) in net.graph.node.iter().enumerate() {
        if !standard(node) || !KNOWN.contains(&node.op_type.as_str()) {
            continue;
        }
        match reason(&net, node, ranges) {
            Some(Some(reason)) => islands.push((node.name.clone(), reason)),
            Some(None) => {
                halves.insert(index);
            }
            None => {}
        }
    }
    let nodes = net.graph.node.iter().enumerate().filter(|(index, _)| halves.contains(index));
    let nodes = nodes.map(|(_, node)| node.name.clone()).collect();
    let graph = rewritten(&net, &halves);
    Half { model: ModelProto { graph: Some(graph), ..model.model().clone() }, nodes, islands }
}

/// `None`: not a node of float32 values. Otherwise why it must stay, if it must.
fn reason(net: &Net, node: &NodeProto, ranges: &Ranges) -> Option<Option<String>> {
    let inputs = node.input.iter().enumerate().filter(|(index, _)| typed(node, *index)).map(|(_, name)| name);
    for name in inputs.chain(&node.output) {
        if let Some(tensor) = net.constant(name) {
            let values = floats(tensor)?;
            if let Some(reason) = rounded(&values) {
                return Some(Some(format!("constant `{name}` {reason}")));
            }
            continue;
        }
        let [low, high] = *ranges.get(name)?;
        let largest = low.abs().max(high.abs());
        if largest.is_nan() || largest > LARGEST {
            return Some(Some(format!("`{name}` reaches {largest:.3e}, {LARGEST} is allowed")));
        }
        if largest > 0.0 && largest < SMALLEST {
            return Some(Some(format!("`{name}` reaches no more than {largest:.3e}, {SMALLEST:.3e} is needed")));
        }
    }
    Some(None)
}

/// What is wrong with constants as float16.
fn rounded(values: &[f32]) -> Option<String> {
    if let Some(large) = values.iter().find(|value| !f16::from_f32(**value).is_finite()) {
        return Some(format!("has {large:.3e}, {} is the largest", f16::MAX));
    }
    let square = |value: f32| f64::from(value) * f64::from(value);
    let error: f64 = values.iter().map(|&value| square(value - f16::from_f32(value).to_f32())).sum();
    let all: f64 = values.iter().map(|&value| square(value)).sum();
    (error.sqrt() > ROUNDING * all.sqrt()).then(|| format!("would change by {:.1e} of itself", (error / all).sqrt()))
}

fn rewritten(net: &Net, halves: &HashSet<usize>) -> GraphProto {
    let mut names = Names::of(net.graph);
    let mut graph = net.graph.clone();
    let mut nodes = vec![];
    // What each float32 value is called in float16.
    let mut as_half: HashMap<String, String> = HashMap::new();
    let mut constants: BTreeMap<String, TensorProto> = BTreeMap::new();
    for (index, node) in net.graph.node.iter().enumerate() {
        let is_half = halves.contains(&index);
        let mut changed = node.clone();
        for at in 0..node.input.len() {
            let name = &node.input[at];
            if is_half && typed(node, at) {
                if let Some(tensor) = net.constant(name) {
                    if !as_half.contains_key(name) {
                        let new = names.fresh(&format!("{name}/half"));
                        constants.insert(new.clone(), converted(tensor, &new));
                        as_half.insert(name.clone(), new);
                    }
                } else if !as_half.contains_key(name) {
                    let new = names.fresh(&format!("{name}/half"));
                    nodes.push(cast(name, &new, DataType::Float16, &mut names));
                    as_half.insert(name.clone(), new);
                }
                changed.input[at].clone_from(&as_half[name]);
            }
        }
        let mut behind = vec![];
        if is_half {
            for (written, name) in changed.output.iter_mut().zip(&node.output).filter(|(_, name)| !name.is_empty()) {
                let new = names.fresh(&format!("{name}/half"));
                as_half.insert(name.clone(), new.clone());
                // Cast back under its own name where somebody needs it, inner graphs and outputs among them.
                let float = |&reader: &usize| {
                    let node = &net.graph.node[reader];
                    let untyped = |(at, found): (usize, &String)| found == name && !typed(node, at);
                    !halves.contains(&reader) || node.input.iter().enumerate().any(untyped)
                };
                if net.is_output(name) || net.consumers(name).iter().any(float) {
                    behind.push(cast(&new, name, DataType::Float, &mut names));
                }
                *written = new;
            }
        }
        nodes.push(changed);
        nodes.extend(behind);
    }
    graph.node = nodes;
    graph.initializer.extend(constants.into_values());
    // Types of values in between are no longer those.
    graph.value_info.clear();
    drop_unused(&mut graph);
    graph
}

fn converted(tensor: &TensorProto, name: &str) -> TensorProto {
    // `reason` has refused constants of other types.
    let values = floats(tensor).unwrap_or_default();
    TensorProto {
        dims: tensor.dims.clone(),
        data_type: DataType::Float16 as i32,
        raw_data: values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect(),
        name: name.to_owned(),
        ..TensorProto::default()
    }
}

fn cast(from: &str, to: &str, kind: DataType, names: &mut Names) -> NodeProto {
    NodeProto {
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        name: names.fresh(&format!("{from}/Cast")),
        op_type: "Cast".into(),
        attribute: vec![AttributeProto {
            name: "to".into(),
            r#type: AttributeType::Int as i32,
            i: Some(kind as i64),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    }
}
