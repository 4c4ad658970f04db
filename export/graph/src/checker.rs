//! Structural rules of ONNX. Our own graph is checked at every export before it is encoded, with errors that name the
//! node; continuous integration also runs Python's `onnx.checker` on exported files.

use std::collections::HashSet;

use onnx::ModelProto;

use crate::error::Error;
use crate::graph::Graph;
use crate::op::{Op, Plain};
use crate::tensor::DType;

/// Checks that values are defined once and before they are read, that names are unique, that operators exist in the
/// operator set and have a valid number of inputs and outputs, and that shape operands are 64-bit integers.
///
/// # Errors
/// The first broken rule, with the node's name.
pub fn check(graph: &Graph, opset: u32) -> Result<(), Error> {
    let broken = |node: &str, rule: String| Err(Error::Malformed { node: node.to_owned(), rule });
    let mut names = HashSet::new();
    let mut defined = HashSet::new();
    for id in graph.inputs.iter().copied().chain(graph.initialisers().map(|(id, _)| id)) {
        let value = graph.value(id);
        if !names.insert(value.name.as_str()) || !defined.insert(id) {
            return broken(&value.name, "its name is used twice".into());
        }
    }
    let mut nodes = HashSet::new();
    for node in &graph.nodes {
        if !nodes.insert(node.name.as_str()) {
            return broken(&node.name, "its name is used twice".into());
        }
        if let Some(unknown) = node.inputs.iter().flatten().find(|id| !defined.contains(id)) {
            return broken(&node.name, format!("it reads `{}` before it is written", graph.value(*unknown).name));
        }
        for &id in &node.outputs {
            let name = graph.value(id).name.as_str();
            if name.is_empty() || !names.insert(name) || !defined.insert(id) {
                return broken(&node.name, format!("its output `{name}` is written twice or has no name"));
            }
        }
        let schema = node.op.schema();
        let [least, most] = schema.inputs;
        let present = node.inputs.iter().flatten().count();
        if present < least || node.inputs.len() > most || node.outputs.is_empty() {
            return broken(&node.name, format!("{} inputs, {least} to {most} allowed", node.inputs.len()));
        }
        if node.op.since() > opset {
            let rule =
                format!("{} needs operator set {}, but the graph is for {opset}", node.op.name(), node.op.since());
            return broken(&node.name, rule);
        }
        if let (Op::Plain(Plain::Add | Plain::Sub | Plain::Mul | Plain::Div | Plain::MatMul), Some(left), Some(right)) =
            (&node.op, node.input(0), node.input(1))
            && graph.value(left).dtype != graph.value(right).dtype
        {
            let (left, right) = (graph.value(left).dtype, graph.value(right).dtype);
            return broken(
                &node.name,
                format!("its inputs are {left:?} and {right:?}, but must have one type; cast one of them"),
            );
        }
        if let Some(position) = schema.shape
            && let Some(id) = node.input(position)
            && graph.value(id).dtype != DType::Int64
        {
            return broken(&node.name, format!("input {position} must hold 64-bit integers"));
        }
        if let Op::Transpose { order } = &node.op {
            let mut sorted = order.clone();
            sorted.sort_unstable();
            if !sorted.iter().copied().eq(0..order.len() as i64) {
                return broken(&node.name, format!("{order:?} is not a permutation of axes"));
            }
        }
    }
    let mut outputs = HashSet::new();
    for &id in &graph.outputs {
        let name = graph.value(id).name.as_str();
        if !defined.contains(&id) || !outputs.insert(name) {
            return broken(name, "an output must be written by a node, and listed once".into());
        }
    }
    if graph.outputs.is_empty() {
        return broken(&graph.name, "a graph needs an output".into());
    }
    Ok(())
}

/// Checks an encoded file for the rules that do not depend on the operator: values are defined once and before they are
/// read, names are unique, and outputs exist. Nodes inside subgraphs are left to ONNX Runtime.
///
/// # Errors
/// [`Error::Malformed`] with the first broken rule.
pub fn check_file(model: &ModelProto) -> Result<(), Error> {
    let broken = |node: &str, rule: String| Err(Error::Malformed { node: node.to_owned(), rule });
    let Some(graph) = &model.graph else { return broken("the model", "it has no graph".into()) };
    // An input may have the name of a constant, which is then its default.
    let mut defined: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
    if defined.len() != graph.input.len() {
        return broken(&graph.name, "two inputs share a name".into());
    }
    let mut constants = HashSet::new();
    for tensor in &graph.initializer {
        if !constants.insert(tensor.name.as_str()) {
            return broken(&tensor.name, "its name is used twice".into());
        }
    }
    defined.extend(constants);
    let mut nodes = HashSet::new();
    for node in &graph.node {
        if !node.name.is_empty() && !nodes.insert(node.name.as_str()) {
            return broken(&node.name, "its name is used twice".into());
        }
        if let Some(unknown) = node.input.iter().find(|name| !name.is_empty() && !defined.contains(name.as_str())) {
            return broken(&node.name, format!("it reads `{unknown}` before it is written"));
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if !defined.insert(name) {
                return broken(&node.name, format!("its output `{name}` is written twice"));
            }
        }
    }
    match graph.output.iter().find(|output| !defined.contains(output.name.as_str())) {
        Some(output) => broken(&output.name, "an output must be written by a node".into()),
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
        let fault = |graph: &Graph| check(graph, 20).unwrap_err().to_string();
        assert!(fault(&graph).contains("an output must be written"));
        graph.nodes.push(node("relu", vec![Some(y)], vec![y]));
        assert!(fault(&graph).contains("reads `y` before it is written"));
        graph.nodes[0].inputs = vec![Some(x)];
        check(&graph, 20).unwrap();
        graph.nodes.push(node("again", vec![Some(x)], vec![y]));
        assert!(fault(&graph).contains("written twice"));
        graph.nodes[1] = node("relu", vec![Some(x)], vec![x]);
        assert!(fault(&graph).contains("used twice"));
        graph.nodes.pop();
        graph.nodes[0].op = Op::Gelu { tanh: false };
        assert!(check(&graph, 17).unwrap_err().to_string().contains("needs operator set 20"));
    }
}
