//! A graph's wiring by names.

use std::collections::{HashMap, HashSet};

use onnx::{DataType, GraphProto, NodeProto, TensorProto};

/// Who writes and reads each value.
pub(super) struct Net<'a> {
    pub graph: &'a GraphProto,
    producers: HashMap<&'a str, usize>,
    consumers: HashMap<&'a str, Vec<usize>>,
    constants: HashMap<&'a str, &'a TensorProto>,
    outputs: HashSet<&'a str>,
}

impl<'a> Net<'a> {
    pub fn new(graph: &'a GraphProto) -> Self {
        let mut net = Self {
            graph,
            producers: HashMap::new(),
            consumers: HashMap::new(),
            constants: graph.initializer.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect(),
            outputs: graph.output.iter().map(|output| output.name.as_str()).collect(),
        };
        for (index, node) in graph.node.iter().enumerate() {
            for name in node.output.iter().filter(|name| !name.is_empty()) {
                net.producers.insert(name, index);
            }
            let mut read = |name: &'a str| {
                let readers = net.consumers.entry(name).or_default();
                if readers.last() != Some(&index) {
                    readers.push(index);
                }
            };
            node.input.iter().for_each(|name| read(name));
            subgraphs(node).for_each(|graph| captured(graph, &mut read));
        }
        net
    }

    pub fn constant(&self, name: &str) -> Option<&'a TensorProto> {
        self.constants.get(name).copied()
    }

    pub fn producer(&self, name: &str) -> Option<usize> {
        self.producers.get(name).copied()
    }

    pub fn consumers(&self, name: &str) -> &[usize] {
        self.consumers.get(name).map_or(&[], Vec::as_slice)
    }

    pub fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    /// The node's only result, followed by the ReLU behind it where nothing else reads what is between.
    pub fn result(&self, node: &'a NodeProto) -> Option<&'a str> {
        let [output] = node.output.as_slice() else { return None };
        if let [only] = self.consumers(output)
            && !self.is_output(output)
            && let reader = &self.graph.node[*only]
            && standard(reader)
            && reader.op_type == "Relu"
            && let [after] = reader.output.as_slice()
        {
            return Some(after);
        }
        Some(output)
    }
}

/// Whether a node's operator is of the ONNX standard.
pub(super) fn standard(node: &NodeProto) -> bool {
    node.domain.is_empty() || node.domain == "ai.onnx"
}

/// Graphs inside a node.
pub(super) fn subgraphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.as_deref().into_iter().chain(&attribute.graphs))
}

/// Every name that the nodes of an inner graph and its outputs mention: those of outer values are among them.
fn captured<'a>(graph: &'a GraphProto, read: &mut dyn FnMut(&'a str)) {
    graph.output.iter().for_each(|output| read(&output.name));
    for node in &graph.node {
        node.input.iter().for_each(|name| read(name));
        subgraphs(node).for_each(|graph| captured(graph, read));
    }
}

pub(super) fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    node.attribute.iter().find(|attribute| attribute.name == name).and_then(|a| a.i).unwrap_or(default)
}

pub(super) fn ints<'a>(node: &'a NodeProto, name: &str) -> Option<&'a [i64]> {
    node.attribute.iter().find(|attribute| attribute.name == name).map(|attribute| attribute.ints.as_slice())
}

pub(super) fn float(node: &NodeProto, name: &str, default: f32) -> f32 {
    node.attribute.iter().find(|attribute| attribute.name == name).and_then(|a| a.f).unwrap_or(default)
}

/// The values of a constant of single precision that is in the file.
pub(super) fn floats(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != DataType::Float as i32 || tensor.data_location != 0 {
        return None;
    }
    if tensor.raw_data.is_empty() {
        return Some(tensor.float_data.clone());
    }
    Some(tensor.raw_data.as_chunks().0.iter().map(|&chunk| f32::from_le_bytes(chunk)).collect())
}

pub(super) fn dims(tensor: &TensorProto) -> Vec<usize> {
    tensor.dims.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect()
}

/// Names that are not used yet.
pub(super) struct Names(HashSet<String>);

impl Names {
    pub fn of(graph: &GraphProto) -> Self {
        let mut names = HashSet::new();
        all(graph, &mut names);
        Self(names)
    }

    pub fn fresh(&mut self, wanted: &str) -> String {
        let free = (0..).map(|n| if n == 0 { wanted.to_owned() } else { format!("{wanted}_{n}") });
        let name = free.into_iter().find(|name| !self.0.contains(name)).unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

fn all(graph: &GraphProto, names: &mut HashSet<String>) {
    names.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
    names.extend(graph.input.iter().chain(&graph.output).map(|value| value.name.clone()));
    for node in &graph.node {
        names.extend(node.input.iter().chain(&node.output).chain([&node.name]).cloned());
        subgraphs(node).for_each(|graph| all(graph, names));
    }
}
