//! Which nodes can be computed in integers, and how.

use onnx::NodeProto;

use super::Target;
use super::net::{Net, dims, float, floats, int, standard};

/// How a node is quantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Weights are the second input, with one scale for each index of this axis.
    Weighted { axis: usize },
    /// All inputs are values, and so is the result.
    Plain,
    /// The result has a range of its own, whatever was seen: from 0 to 1.
    Unit,
}

/// A node that can be computed in integers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its name.
    pub node: String,
    /// Its operator.
    pub operator: String,
    /// Nodes that cost alike have one signature: operator, weights, attributes.
    pub signature: String,
    /// Whether it is a convolution of each channel on its own, which integers make slower on CPUs.
    pub depthwise: bool,
}

/// The nodes of a graph that can be computed in integers by `target`, in the order of the file.
pub fn candidates(model: &super::Prepared, target: Target) -> Vec<Candidate> {
    let net = model.net();
    let nodes = net.graph.node.iter().filter(|node| rule(&net, node, target).is_some());
    nodes
        .map(|node| {
            let weights = node.input.get(1).and_then(|name| net.constant(name)).map(dims).unwrap_or_default();
            let attributes: Vec<String> = node
                .attribute
                .iter()
                .map(|a| format!("{}={:?}{:?}{:?}", a.name, a.i.unwrap_or(0), a.f.unwrap_or(0.0), a.ints))
                .collect();
            let depthwise =
                node.op_type == "Conv" && int(node, "group", 1) > 1 && weights.get(1).is_some_and(|&inner| inner == 1);
            Candidate {
                node: node.name.clone(),
                operator: node.op_type.clone(),
                signature: format!("{} {weights:?} {}", node.op_type, attributes.join(" ")),
                depthwise,
            }
        })
        .collect()
}

/// What becomes of a node; `None` if it stays float.
pub(super) fn rule(net: &Net, node: &NodeProto, target: Target) -> Option<Rule> {
    if !standard(node) || node.output.len() != 1 {
        return None;
    }
    let value =
        |index: usize| node.input.get(index).is_some_and(|name| !name.is_empty() && net.constant(name).is_none());
    let weights = |index: usize| {
        let tensor = net.constant(node.input.get(index)?)?;
        // Weights that are not finite are for whoever runs the model to see.
        let (values, dims) = (floats(tensor)?, dims(tensor));
        let whole = !values.is_empty() && values.len() == dims.iter().product::<usize>();
        (whole && values.iter().all(|value| value.is_finite())).then_some(dims)
    };
    // A bias is written in integers by the runtime, so it must be a constant.
    let bias = || node.input.get(2).is_none_or(|name| name.is_empty() || net.constant(name).is_some());
    match (node.op_type.as_str(), target) {
        ("Conv", _) => (value(0) && bias() && weights(1)?.len() >= 3).then_some(Rule::Weighted { axis: 0 }),
        ("ConvTranspose", Target::TensorRt) => {
            let plain = int(node, "group", 1) == 1;
            (value(0) && bias() && plain && weights(1)?.len() >= 3).then_some(Rule::Weighted { axis: 1 })
        }
        ("Gemm", _) => {
            let plain = float(node, "alpha", 1.0) == 1.0 && float(node, "beta", 1.0) == 1.0;
            let axis = if int(node, "transB", 0) == 0 { 1 } else { 0 };
            let fits = value(0) && bias() && plain && int(node, "transA", 0) == 0;
            (fits && weights(1)?.len() == 2).then_some(Rule::Weighted { axis })
        }
        ("MatMul", _) if !value(1) => (value(0) && weights(1)?.len() == 2).then_some(Rule::Weighted { axis: 1 }),
        ("MatMul", _) => (value(0) && value(1)).then_some(Rule::Plain),
        ("Add", _) => (value(0) && value(1)).then_some(Rule::Plain),
        ("AveragePool" | "GlobalAveragePool", _) => value(0).then_some(Rule::Plain),
        ("Mul", Target::Cpu) => (value(0) && value(1)).then_some(Rule::Plain),
        ("LeakyRelu", Target::Cpu) => value(0).then_some(Rule::Plain),
        ("Concat", Target::Cpu) => (0..node.input.len()).all(value).then_some(Rule::Plain),
        ("Sigmoid", Target::Cpu) => value(0).then_some(Rule::Unit),
        _ => None,
    }
}

/// Whether integers pass through unchanged: the result has the scale of the input.
pub(super) fn passes(node: &NodeProto) -> bool {
    let known = ["MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"];
    standard(node) && node.output.len() == 1 && !node.input.is_empty() && known.contains(&node.op_type.as_str())
}
