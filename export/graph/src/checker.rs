//! Structural rules of ONNX. Our own graph is checked at every export before it is encoded, with errors that name the
//! node; continuous integration also runs Python's `onnx.checker` on exported files.

use std::collections::HashSet;

use onnx::ModelProto;

use crate::error::{Error, Rule};
use crate::graph::Graph;
use crate::op::{Op, Plain};
use crate::tensor::DType;

/// Checks that values are defined once and before they are read, that names are unique, that operators exist in the
/// operator set and have a valid number of inputs and outputs, and that shape operands are 64-bit integers.
///
/// # Errors
/// The first broken rule, with the node's name.
pub fn check(graph: &Graph, opset: u32) -> Result<(), Error> {
    let broken = |node: &str, rule: Rule| Err(Error::Malformed { node: node.to_owned(), rule });
    let mut names = HashSet::new();
    let mut defined = HashSet::new();
    for id in graph.inputs.iter().copied().chain(graph.initialisers().map(|(id, _)| id)) {
        let value = graph.value(id);
        if !names.insert(value.name.as_str()) || !defined.insert(id) {
            return broken(&value.name, Rule::NameTwice);
        }
    }
    let mut nodes = HashSet::new();
    for node in &graph.nodes {
        if !nodes.insert(node.name.as_str()) {
            return broken(&node.name, Rule::NameTwice);
        }
        if let Some(unknown) = node.inputs.iter().flatten().find(|id| !defined.contains(id)) {
            return broken(&node.name, Rule::Unwritten { value: graph.value(*unknown).name.clone() });
        }
        for &id in &node.outputs {
            let name = graph.value(id).name.as_str();
            if name.is_empty() || !names.insert(name) || !defined.insert(id) {
                return broken(&node.name, Rule::WrittenTwice { value: name.to_owned() });
            }
        }
        let schema = node.op.schema();
        let [least, most] = schema.inputs;
        let present = node.inputs.iter().flatten().count();
        if present < least || node.inputs.len() > most || node.outputs.is_empty() {
            return broken(&node.name, Rule::Inputs { found: node.inputs.len(), least, most });
        }
        if node.op.since() > opset {
            let (operator, since) = (node.op.name(), node.op.since());
            return broken(&node.name, Rule::Opset { operator, since, opset });
        }
        if let (Op::Plain(Plain::Add | Plain::Sub | Plain::Mul | Plain::Div | Plain::MatMul), Some(left), Some(right)) =
            (&node.op, node.input(0), node.input(1))
            && graph.value(left).dtype != graph.value(right).dtype
        {
            let (left, right) = (graph.value(left).dtype, graph.value(right).dtype);
            return broken(&node.name, Rule::Types { left, right });
        }
        if let Some(position) = schema.shape
            && let Some(id) = node.input(position)
            && graph.value(id).dtype != DType::Int64
        {
            return broken(&node.name, Rule::ShapeType { position });
        }
        if let Op::Transpose { order } = &node.op {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..order.len() as i64) {
                return broken(&node.name, Rule::Order { order: order.clone() });
            }
        }
    }
    let mut outputs = HashSet::new();
    for &id in &graph.outputs {
        let name = graph.value(id).name.as_str();
        if !defined.contains(&id) || !outputs.insert(name) {
            return broken(name, Rule::Output);
        }
    }
    if graph.outputs.is_empty() {
        return broken(&graph.name, Rule::NoOutput);
    }
    Ok(())
}

/// Checks an encoded file for the rules that do not depend on the operator: values are defined once and before they are
/// read, names are unique, and outputs exist. Nodes inside subgraphs are left to ONNX Runtime.
///
/// # Errors
/// [`Error::Malformed`] with the first broken rule.
pub fn check_file(model: &ModelProto) -> Result<(), Error> {
    let broken = |node: &str, rule: Rule| Err(Error::Malformed { node: node.to_owned(), rule });
    let Some(graph) = &model.graph else { return broken("the model", Rule::NoGraph) };
    // An input may have the name of a constant, which is then its default.
    let mut defined: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    if defined.len() != graph.input.len() {
        return broken(&graph.name, Rule::SharedInput);
    }
    let mut constants = HashSet::new();
    for tensor in &graph.initializer {
        if !constants.insert(tensor.name.as_str()) {
            return broken(&tensor.name, Rule::NameTwice);
        }
    }
    defined.extend(constants);
    let mut nodes = HashSet::new();
    for node in &graph.node {
        if !node.name.is_empty() && !nodes.insert(node.name.as_str()) {
            return broken(&node.name, Rule::NameTwice);
        }
        if let Some(unknown) = node.input.iter().find(|name| !name.is_empty() && !defined.contains(name.as_str())) {
            return broken(&node.name, Rule::Unwritten { value: unknown.clone() });
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !defined.insert(name) {
                return broken(&node.name, Rule::WrittenTwice { value: name.clone() });
            }
        }
    }
    match graph.output.iter().find(|output| !defined.contains(output.name.as_str())) {
        Some(output) => broken(&output.name, Rule::Output),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dim::Dim;
    use crate::graph::Node;

    #[test]
    fn broken_graphs_are_named() {
        let mut graph = Graph::new("test");
        let x = graph.add_value("x", DType::Float, vec![Dim::Size(2)]);
        let y = graph.add_value("y", DType::Float, vec![Dim::Size(2)]);
        let node =
            |name: &str, inputs: Vec<_>, outputs| Node { name: name.into(), op: Plain::Relu.into(), inputs, outputs };
        graph.inputs.push(x);
        graph.outputs.push(y);
        let broken = |graph: &Graph, opset: u32| match check(graph, opset) {
            Err(Error::Malformed { node, rule }) => (node, rule),
            other => panic!("{other:?}"),
        };
        let fault = |graph: &Graph| broken(graph, 20);
        let at = |node: &str, rule: Rule| (node.to_owned(), rule);
        assert_eq!(fault(&graph), at("y", Rule::Output));
        graph.nodes.push(node("relu", vec![Some(y)], vec![y]));
        assert_eq!(fault(&graph), at("relu", Rule::Unwritten { value: "y".into() }));
        graph.nodes[0].inputs = vec![Some(x)];
        check(&graph, 20).unwrap();
        graph.nodes.push(node("again", vec![Some(x)], vec![y]));
        assert_eq!(fault(&graph), at("again", Rule::WrittenTwice { value: "y".into() }));
        graph.nodes[1] = node("relu", vec![Some(x)], vec![x]);
        assert_eq!(fault(&graph), at("relu", Rule::NameTwice));
        graph.nodes.pop();
        graph.nodes[0].op = Op::Gelu { tanh: false };
        assert_eq!(broken(&graph, 17), at("relu", Rule::Opset { operator: "Gelu".into(), since: 20, opset: 17 }));
        graph.nodes[0].op = Op::Transpose { order: vec![1] };
        assert_eq!(fault(&graph), at("relu", Rule::Order { order: vec![1] }));
        graph.nodes[0].inputs.clear();
        assert_eq!(fault(&graph), at("relu", Rule::Inputs { found: 0, least: 1, most: 1 }));
        graph.outputs.clear();
        graph.nodes.clear();
        assert_eq!(fault(&graph), at("test", Rule::NoOutput));
        let error = Error::Malformed { node: "relu".into(), rule: Rule::Unwritten { value: "y".into() } };
        assert_eq!(error.to_string(), "the graph is malformed at `relu`: it reads `y` before it is written");
    }
}
