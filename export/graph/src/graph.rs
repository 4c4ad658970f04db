//! The ONNX graph in memory: typed values, nodes and initialisers. No Burn, no protobuf.

use std::collections::{BTreeMap, HashSet};

use crate::dim::Dim;
use crate::op::{Op, Plain};
use crate::tensor::{DType, Tensor};

/// A value of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);

/// Name, type and shape of a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Name in the file.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub dims: Vec<Dim>,
}

/// One operator call.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name in the file: the module path for a node that carries a module's parameters.
    pub name: String,
    /// Operator and attributes.
    pub op: Op,
    /// Values read; `None` for an omitted optional input.
    pub inputs: Vec<Option<ValueId>>,
    /// Values written.
    pub outputs: Vec<ValueId>,
}

impl Node {
    /// Input `index`, if present.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// Whether the node's operator is `plain`.
    pub fn is(&self, plain: Plain) -> bool {
        self.op == Op::Plain(plain)
    }
}

/// Nodes in topological order, with the values between them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// Name of the graph: the architecture.
    pub name: String,
    /// What the graph was made from, for people who open the file.
    pub doc: String,
    values: Vec<Value>,
    /// Nodes in topological order.
    pub nodes: Vec<Node>,
    /// Inputs in the order of the forward function.
    pub inputs: Vec<ValueId>,
    /// Outputs in the order of the forward function.
    pub outputs: Vec<ValueId>,
    initialisers: BTreeMap<ValueId, Tensor>,
    names: HashSet<String>,
    node_names: HashSet<String>,
    redefined: HashSet<ValueId>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A free name for a node: `wanted`, with a number appended if necessary. A node and a value may share a name.
    pub fn node_name(&mut self, wanted: &str) -> String {
        unique(&mut self.node_names, wanted)
    }

    /// Whether a value is called `name`, or the name is reserved.
    pub(crate) fn has_value(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Reserves a name for [`Self::add_reserved`]. `false` if it is taken.
    pub fn reserve(&mut self, name: &str) -> bool {
        self.names.insert(name.to_owned())
    }

    /// Adds a value under a reserved name.
    pub fn add_reserved(&mut self, name: &str, dtype: DType, dims: Vec<Dim>) -> ValueId {
        self.add(name.to_owned(), dtype, dims)
    }

    /// Adds a value called `wanted`, with a number appended if necessary.
    pub fn add_value(&mut self, wanted: &str, dtype: DType, dims: Vec<Dim>) -> ValueId {
        let name = unique(&mut self.names, wanted);
        self.add(name, dtype, dims)
    }

    fn add(&mut self, name: String, dtype: DType, dims: Vec<Dim>) -> ValueId {
        let id = ValueId(u32::try_from(self.values.len()).expect("fewer than 2^32 values"));
        self.values.push(Value { name, dtype, dims });
        id
    }

    /// Adds a constant called `wanted`, with a number appended if necessary.
    pub fn add_initialiser(&mut self, wanted: &str, tensor: Tensor) -> ValueId {
        let dims = tensor.dims().iter().map(|&size| Dim::Size(size)).collect();
        let id = self.add_value(wanted, tensor.dtype(), dims);
        self.initialisers.insert(id, tensor);
        id
    }

    /// Name, type and shape of a value.
    ///
    /// # Panics
    /// If `id` belongs to another graph.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }

    /// All constants, in the order they were added.
    pub fn initialisers(&self) -> impl Iterator<Item = (ValueId, &Tensor)> {
        self.initialisers.iter().map(|(&id, tensor)| (id, tensor))
    }

    /// The constant that a value holds, if it is one.
    pub fn initialiser(&self, id: ValueId) -> Option<&Tensor> {
        self.initialisers.get(&id)
    }

    /// The constant that a value holds, to change it in place. Verify the model again afterwards.
    pub fn initialiser_mut(&mut self, id: ValueId) -> Option<&mut Tensor> {
        self.initialisers.get_mut(&id)
    }

    /// The constant called `name`.
    pub fn initialiser_named(&self, name: &str) -> Option<ValueId> {
        self.initialisers.keys().copied().find(|&id| self.value(id).name == name)
    }

    /// The integers of a value, if it is a constant of 64-bit integers.
    pub fn int64s(&self, id: ValueId) -> Option<Vec<i64>> {
        self.initialiser(id)?.to_i64s()
    }

    /// Marks a value as different from the recorded one. Passes must do so: the search for a fault compares all other
    /// values with Burn's.
    pub(crate) fn redefine(&mut self, id: ValueId) {
        self.redefined.insert(id);
    }

    /// Whether a value still equals the recorded one.
    pub fn as_recorded(&self, id: ValueId) -> bool {
        !self.redefined.contains(&id)
    }

    /// Removes constants for which `keep` is false.
    pub(crate) fn retain_initialisers(&mut self, keep: impl Fn(ValueId) -> bool) {
        self.initialisers.retain(|&id, _| keep(id));
    }

    /// Turns a value into a constant after its node has been removed. If it is a reshaped or transposed `parameter`, it
    /// takes over the parameter's name.
    pub(crate) fn make_constant(&mut self, id: ValueId, tensor: Tensor, parameter: Option<ValueId>) {
        if let Some(parameter) = parameter {
            let (a, b) = (id.0 as usize, parameter.0 as usize);
            let name = std::mem::take(&mut self.values[a].name);
            self.values[a].name = std::mem::replace(&mut self.values[b].name, name);
            self.initialisers.remove(&parameter);
        }
        self.initialisers.insert(id, tensor);
    }

    /// The constant `id` with its values in another shape. If nothing else reads it, it is changed in place and keeps
    /// its name.
    pub(crate) fn reshape_initialiser(&mut self, id: ValueId, tensor: Tensor) -> ValueId {
        if self.uses().count(id) != 1 {
            let name = self.value(id).name.clone();
            return self.add_initialiser(&name, tensor);
        }
        self.values[id.0 as usize].dims = tensor.dims().iter().map(|&size| Dim::Size(size)).collect();
        self.initialisers.insert(id, tensor);
        id
    }

    /// How often each value is read, where being an output counts as one.
    pub fn uses(&self) -> Uses {
        let mut counts = vec![0; self.values.len()];
        let read = self.nodes.iter().flat_map(|node| node.inputs.iter().flatten()).chain(&self.outputs);
        for id in read {
            counts[id.0 as usize] += 1;
        }
        Uses(counts)
    }

    /// Index of the node that writes each value.
    pub fn producers(&self) -> Producers {
        let mut writers = vec![None; self.values.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for id in &node.outputs {
                writers[id.0 as usize] = Some(index);
            }
        }
        Producers(writers)
    }

    /// Replaces `old` by `new` in the inputs of all nodes. Graph outputs are not replaced: the user named them.
    pub(crate) fn redirect(&mut self, old: ValueId, new: ValueId) {
        for input in self.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
            if *input == Some(old) {
                *input = Some(new);
            }
        }
    }

    /// Values that depend on an input of the graph.
    pub fn dependent(&self) -> HashSet<ValueId> {
        let mut dependent: HashSet<_> = self.inputs.iter().copied().collect();
        for node in &self.nodes {
            if node.inputs.iter().flatten().any(|id| dependent.contains(id)) {
                dependent.extend(&node.outputs);
            }
        }
        dependent
    }

    /// Number of elements in all constants.
    pub fn parameters(&self) -> usize {
        self.initialisers.values().map(Tensor::count).sum()
    }
}

/// The number of reads of each value, at the time it was computed.
///
/// An array, not a map: passes compute it for every rewrite, and graphs have tens of thousands of values.
pub struct Uses(Vec<u32>);

impl Uses {
    /// Number of reads of a value.
    pub fn count(&self, id: ValueId) -> usize {
        self.0.get(id.0 as usize).map_or(0, |&count| count as usize)
    }
}

/// The node that writes each value, at the time it was computed.
pub struct Producers(Vec<Option<usize>>);

impl Producers {
    /// Index of the node that writes a value; `None` for inputs and constants.
    pub fn of(&self, id: ValueId) -> Option<usize> {
        self.0.get(id.0 as usize).copied().flatten()
    }
}

/// Takes a free name: `wanted`, with a number appended if necessary.
fn unique(names: &mut HashSet<String>, wanted: &str) -> String {
    let mut name = wanted.to_owned();
    let mut number = 0;
    while !names.insert(name.clone()) {
        number += 1;
        name = format!("{wanted}_{number}");
    }
    name
}
