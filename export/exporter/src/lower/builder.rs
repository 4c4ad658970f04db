//! The graph under construction: values, nodes and constants of one operation after the other.

use std::collections::HashMap;

use burn::backend::ir::{OperationIr, ScalarIr, TensorId, TensorIr};
use burn::tensor::{DType as BurnType, TensorData};
use graph::{DType, Dim, Formula, Graph, Node, Op, Plain, Tensor, Value, ValueId};

use crate::error::ExportError;
use crate::resolve::{Ramp, Resolved};
use crate::types::{dtype, tensor};

/// Why one operation was not lowered.
#[derive(Debug)]
pub(crate) enum Reason {
    /// The operation, or this configuration of it, has no lowering.
    Unsupported(String),
    /// Needs a number that depends on an input size in a way we cannot express.
    Baked(String),
    /// The operation has an unusable constant.
    Fatal(ExportError),
}

pub(crate) type Lowered = Result<(), Reason>;

/// `axis`, checked against `rank`: a trace that we did not record may hold any number.
pub(super) fn axis_of(rank: usize, axis: usize) -> Result<usize, Reason> {
    if axis < rank { Ok(axis) } else { Err(Reason::Unsupported(format!("axis {axis} of a tensor of rank {rank}"))) }
}

/// The ONNX type of a Burn type, refusing quantised tensors.
pub(crate) fn onnx_type(burn: BurnType) -> Result<DType, Reason> {
    dtype(burn).ok_or_else(|| Reason::Unsupported("quantised tensors are not lowered yet".into()))
}

/// The declared inputs and outputs of the graph.
#[derive(Debug, Clone)]
pub(crate) struct Boundary {
    /// Names and shapes of the inputs, in order.
    pub inputs: Vec<(String, Vec<Dim>)>,
    /// Names of the outputs, in order.
    pub outputs: Vec<String>,
}

/// The recorded operation and output that a value of the graph comes from. Passes do not change what a value means, so
/// this holds for all values that remain after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The value.
    pub value: ValueId,
    /// Index of the operation in the trace.
    pub operation: usize,
    /// Index of the output.
    pub output: usize,
}

/// The graph under construction, and the current operation of the trace.
pub(crate) struct Lowering<'a> {
    pub(super) resolved: &'a Resolved,
    pub(super) graph: Graph,
    opset: u32,
    values: HashMap<TensorId, ValueId>,
    output_names: HashMap<TensorId, String>,
    pub(super) index: usize,
    pub(super) module: String,
    /// Whether the operation is the module itself (it reads the module's parameters and data). Its node then has the
    /// module's name; all other nodes are named below it, after their operator.
    is_module: bool,
    pub(super) sizes: HashMap<Dim, ValueId>,
}

impl<'a> Lowering<'a> {
    pub(super) fn new(
        resolved: &'a Resolved,
        name_of_graph: &str,
        boundary: &Boundary,
        opset: u32,
    ) -> Result<Self, ExportError> {
        let mut graph = Graph::new(name_of_graph);
        graph.doc = format!("{name_of_graph}, exported from Burn {}", crate::BURN_VERSION);
        let mut values = HashMap::new();
        let mut inputs = vec![];
        for (id, (wanted, dims)) in resolved.base.inputs.iter().zip(&boundary.inputs) {
            let data = resolved.base.values.get(id).ok_or_else(|| lost(*id))?;
            let dtype = dtype(data.dtype()).ok_or_else(|| lost(*id))?;
            let value = graph.add_value(wanted, dtype, dims.clone());
            inputs.push(value);
            values.insert(*id, value);
        }
        graph.inputs = inputs;
        // Reserve the names of outputs before any node can claim them.
        let mut output_names = HashMap::new();
        for (id, wanted) in resolved.base.outputs.iter().zip(&boundary.outputs) {
            if !graph.reserve(wanted) {
                return Err(ExportError::DuplicateName { name: wanted.clone() });
            }
            let computed = !values.contains_key(id) && !resolved.base.values.contains_key(id);
            if computed && !output_names.contains_key(id) {
                output_names.insert(*id, wanted.clone());
            }
        }
        Ok(Self {
            resolved,
            graph,
            opset,
            values,
            output_names,
            index: 0,
            module: String::new(),
            is_module: false,
            sizes: HashMap::new(),
        })
    }

    pub(super) fn enter(&mut self, index: usize, operation: &OperationIr) {
        self.index = index;
        self.module.clone_from(&self.resolved.modules[index]);
        let parameters = &self.resolved.base.parameters;
        let constant = |tensor: &&TensorIr| self.resolved.base.values.contains_key(&tensor.id);
        let reads_parameter = operation.inputs().any(|tensor| parameters.contains_key(&tensor.id));
        let reads_data =
            operation.inputs().any(|tensor| !constant(&tensor) || self.resolved.base.inputs.contains(&tensor.id));
        self.is_module = reads_parameter && reads_data && !self.module.is_empty();
    }

    pub(super) fn finish(mut self, boundary: &Boundary) -> Result<(Graph, Vec<Origin>), ExportError> {
        let outputs: Vec<TensorId> = self.resolved.base.outputs.clone();
        for (id, wanted) in outputs.iter().zip(&boundary.outputs) {
            let source = match self.values.get(id) {
                Some(&value) => value,
                None => match self.constant(*id) {
                    Ok(value) => value,
                    Err(Reason::Fatal(error)) => return Err(error),
                    Err(_) => return Err(lost(*id)),
                },
            };
            let own = self.output_names.get(id) == Some(wanted);
            let output = if own {
                source
            } else {
                // The output is an input, a constant, or a tensor that is another output already.
                let info = self.graph.value(source).clone();
                let output = self.graph.add_reserved(wanted, info.dtype, info.dims);
                let name = self.graph.node_name(&format!("{wanted}/Identity"));
                self.graph.nodes.push(Node {
                    name,
                    op: Plain::Identity.into(),
                    inputs: vec![Some(source)],
                    outputs: vec![output],
                });
                output
            };
            self.graph.outputs.push(output);
        }
        let mut origins: Vec<Origin> = vec![];
        for (operation, recorded) in self.resolved.base.operations.iter().enumerate() {
            for (output, tensor) in recorded.outputs().enumerate() {
                if let Some(&value) = self.values.get(&tensor.id) {
                    origins.push(Origin { value, operation, output });
                }
            }
        }
        Ok((self.graph, origins))
    }

    /// Refuses nodes, from `first` on, that ONNX Runtime has no kernel for.
    pub(super) fn runnable(&self, first: usize) -> Lowered {
        for node in &self.graph.nodes[first..] {
            let dtype = node.input(node.op.typed_input()).map(|id| self.value(id).dtype);
            if let Some(dtype) = dtype.filter(|&dtype| !node.op.computes(dtype, self.opset)) {
                return Err(Reason::Unsupported(format!(
                    "ONNX Runtime has no `{}` for {dtype:?} in operator set {}; cast the tensor to another type first",
                    node.op.name(),
                    self.opset
                )));
            }
        }
        Ok(())
    }

    pub(super) fn placeholder(&mut self, out: &TensorIr) {
        if !self.values.contains_key(&out.id) {
            let dtype = dtype(out.dtype).unwrap_or(DType::Float);
            let value = self.graph.add_value("placeholder", dtype, self.resolved.dims(out));
            self.values.insert(out.id, value);
        }
    }

    /// The operator set of the graph.
    pub(crate) fn opset(&self) -> u32 {
        self.opset
    }

    /// Shape of a tensor.
    pub(crate) fn dims(&self, tensor: &TensorIr) -> Vec<Dim> {
        self.resolved.dims(tensor)
    }

    /// The value of an operation's input.
    pub(crate) fn input(&mut self, tensor: &TensorIr) -> Result<ValueId, Reason> {
        match self.values.get(&tensor.id) {
            Some(&value) => Ok(value),
            None => self.constant(tensor.id),
        }
    }

    fn constant(&mut self, id: TensorId) -> Result<ValueId, Reason> {
        let data = self.resolved.base.values.get(&id).ok_or_else(|| Reason::Fatal(lost(id)))?;
        if let Some((ramp, count)) = self.resolved.ramp(id) {
            let value = self.ramp(ramp, &count, onnx_type(data.dtype())?)?;
            self.values.insert(id, value);
            return Ok(value);
        }
        let name = match self.resolved.base.parameters.get(&id) {
            Some(parameter) => {
                check_finite(&parameter.path, data)?;
                parameter.path.clone()
            }
            None => self.below("constant"),
        };
        let tensor = tensor(data)
            .ok_or_else(|| Reason::Unsupported(format!("constants of type {:?} have no ONNX form", data.dtype())))?;
        let value = self.graph.add_initialiser(&name, tensor);
        self.values.insert(id, value);
        Ok(value)
    }

    /// A sequence that counts up to a size -> ONNX `Range`, whose bounds have rank 0.
    pub(super) fn ramp(&mut self, ramp: Ramp, count: &Dim, dtype: DType) -> Result<ValueId, Reason> {
        let length = count.formula().and_then(|count| count.times(&Formula::constant(ramp.step)));
        let end = length.and_then(|length| length.plus(&Formula::constant(ramp.start)));
        let end = end.ok_or_else(|| Reason::Baked("a constant counts up to an unknown size".into()))?;
        let value = self.range(ramp.start, &Dim::Formula(end), ramp.step, count)?;
        Ok(self.cast(value, dtype))
    }

    /// `0..count`.
    pub(crate) fn indices(&mut self, count: &Dim) -> Result<ValueId, Reason> {
        self.range(0, count, 1, count)
    }

    /// ONNX `Range` of `count` 64-bit integers, whose bounds have rank 0.
    fn range(&mut self, start: i64, end: &Dim, step: i64, count: &Dim) -> Result<ValueId, Reason> {
        let end = self.size(end)?;
        let scalar = self.int64s("scalar", &[]);
        let end = self.intermediate(Plain::Reshape, &[end, scalar], DType::Int64, vec![]);
        let number = |l: &mut Self, role: &str, value: i64| l.scalar(role, BurnType::I64, ScalarIr::Int(value));
        let (start, step) = (number(self, "start", start)?, number(self, "step", step)?);
        Ok(self.intermediate(Plain::Range, &[start, end, step], DType::Int64, vec![count.clone()]))
    }

    /// A name below the current module: `backbone.conv1/Relu`.
    pub(super) fn below(&self, what: &str) -> String {
        if self.module.is_empty() { what.to_owned() } else { format!("{}/{what}", self.module) }
    }

    /// Adds the node that computes the operation's output.
    pub(crate) fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId], out: &TensorIr) -> Lowered {
        self.emit_all(op.into(), inputs, &[out])
    }

    /// [`Self::emit`] for an operator with several outputs.
    pub(crate) fn emit_all(&mut self, op: Op, inputs: &[ValueId], outs: &[&TensorIr]) -> Lowered {
        let wanted = if self.is_module { self.module.clone() } else { self.below(&op.name()) };
        // Only one node has the module's own name; further nodes of the operation are below it.
        self.is_module = false;
        let name = self.graph.node_name(&wanted);
        let mut outputs = vec![];
        for (position, out) in outs.iter().enumerate() {
            let dtype = onnx_type(out.dtype)?;
            let dims = self.dims(out);
            let suffix = if position == 0 { "output".to_owned() } else { format!("output_{position}") };
            let value = match self.output_names.get(&out.id) {
                Some(reserved) => self.graph.add_reserved(reserved, dtype, dims),
                None => self.graph.add_value(&format!("{name}/{suffix}"), dtype, dims),
            };
            self.values.insert(out.id, value);
            outputs.push(value);
        }
        self.graph.nodes.push(Node { name, op, inputs: inputs.iter().copied().map(Some).collect(), outputs });
        Ok(())
    }

    /// [`Self::emit`] for operators that ONNX lacks for integers of 8 and 16 bits: computed in 32 bits.
    pub(crate) fn emit_via_int32(&mut self, op: impl Into<Op>, inputs: &[ValueId], out: &TensorIr) -> Lowered {
        let to = onnx_type(out.dtype)?;
        let inputs: Vec<ValueId> = inputs.iter().map(|&input| self.widen_to_int32(input)).collect();
        if !to.is_narrow() {
            return self.emit(op, &inputs, out);
        }
        let dims = self.dims(out);
        let value = self.intermediate(op, &inputs, DType::Int32, dims);
        self.emit(Op::Cast { to }, &[value], out)
    }

    /// An integer of 8 or 16 bits cast to 32; any other value unchanged.
    pub(crate) fn widen_to_int32(&mut self, value: ValueId) -> ValueId {
        if self.value(value).dtype.is_narrow() { self.cast(value, DType::Int32) } else { value }
    }

    /// The operator and inputs that give `yes` where `mask` is set and `no` elsewhere, with shape `dims`. Runtimes lack
    /// `Where` for booleans, which are combined by logic instead.
    pub(crate) fn select(&mut self, mask: ValueId, [yes, no]: [ValueId; 2], dims: &[Dim]) -> (Op, Vec<ValueId>) {
        if self.value(no).dtype != DType::Bool {
            return (Plain::Where.into(), vec![mask, yes, no]);
        }
        let unset = self.intermediate_like(Plain::Not, &[mask]);
        let yes = self.intermediate(Plain::And, &[mask, yes], DType::Bool, dims.to_vec());
        let no = self.intermediate(Plain::And, &[unset, no], DType::Bool, dims.to_vec());
        (Plain::Or.into(), vec![yes, no])
    }

    /// Adds a node for an intermediate result of the operation.
    pub(crate) fn intermediate(
        &mut self,
        op: impl Into<Op>,
        inputs: &[ValueId],
        dtype: DType,
        dims: Vec<Dim>,
    ) -> ValueId {
        let op = op.into();
        let wanted = self.below(&op.name());
        let name = self.graph.node_name(&wanted);
        let value = self.graph.add_value(&format!("{name}/output"), dtype, dims);
        self.graph.nodes.push(Node {
            name,
            op,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![value],
        });
        value
    }

    /// [`Self::intermediate`] with the type and shape of the first input.
    pub(crate) fn intermediate_like(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        let info = self.graph.value(inputs[0]).clone();
        self.intermediate(op, inputs, info.dtype, info.dims)
    }

    /// Adds optional inputs to the node that was added last.
    pub(crate) fn more_inputs<const N: usize>(&mut self, inputs: [Option<ValueId>; N]) {
        if let Some(node) = self.graph.nodes.last_mut() {
            node.inputs.extend(inputs);
        }
    }

    /// Name, type and shape of a value.
    pub(crate) fn value(&self, id: ValueId) -> &Value {
        self.graph.value(id)
    }

    /// A value cast to another type; itself if it has that type already.
    pub(crate) fn cast(&mut self, value: ValueId, to: DType) -> ValueId {
        let info = self.graph.value(value).clone();
        if info.dtype == to { value } else { self.intermediate(Op::Cast { to }, &[value], to, info.dims) }
    }

    /// Refuses operators that a later operator set introduced, or whose version in this one ONNX Runtime lacks.
    pub(crate) fn available(&self, op: impl Into<Op>) -> Result<Op, Reason> {
        let op = op.into();
        let (name, since, opset) = (op.name(), op.since(), self.opset);
        let refuse = |problem: String| Err(Reason::Unsupported(problem));
        match op.until() {
            _ if opset < since => {
                refuse(format!("`{name}` needs operator set {since} or later; this export is for {opset}"))
            }
            Some(until) if opset > until => refuse(format!(
                "ONNX Runtime has `{name}` up to operator set {until}, but this export is for {opset}; export for \
                 {until}"
            )),
            _ => Ok(op),
        }
    }

    /// Makes the operation's output an alias of `input`: the operation does nothing.
    pub(crate) fn alias(&mut self, input: ValueId, out: &TensorIr) -> Lowered {
        if self.output_names.contains_key(&out.id) {
            return self.emit(Plain::Identity, &[input], out);
        }
        self.values.insert(out.id, input);
        Ok(())
    }

    /// A constant scalar, of rank 0.
    pub(crate) fn scalar(&mut self, role: &str, dtype: BurnType, value: ScalarIr) -> Result<ValueId, Reason> {
        let data = TensorData::full_dtype([0usize; 0], value, dtype);
        let tensor = tensor(&data)
            .ok_or_else(|| Reason::Unsupported(format!("constants of type {dtype:?} have no ONNX form")))?;
        let name = self.below(role);
        Ok(self.graph.add_initialiser(&name, tensor))
    }

    /// A constant float scalar.
    pub(crate) fn float(&mut self, role: &str, dtype: BurnType, value: f64) -> Result<ValueId, Reason> {
        self.scalar(role, dtype, ScalarIr::Float(value))
    }

    /// A constant vector of 64-bit integers.
    pub(crate) fn int64s(&mut self, role: &str, values: &[i64]) -> ValueId {
        let name = self.below(role);
        self.graph.add_initialiser(&name, Tensor::int64s(values))
    }

    /// A constant tensor of 64-bit integers.
    pub(crate) fn int64_tensor<const D: usize>(&mut self, role: &str, dims: [usize; D], values: Vec<i64>) -> ValueId {
        let tensor = Tensor::int64s(&values).reshaped(dims.to_vec()).expect("as many values as the shape has");
        self.constant_tensor(role, tensor)
    }

    /// A constant tensor of floats, rounded to `dtype`.
    pub(crate) fn floats<const D: usize>(
        &mut self,
        role: &str,
        dtype: BurnType,
        dims: [usize; D],
        values: Vec<f64>,
    ) -> Result<ValueId, Reason> {
        let tensor = tensor(&TensorData::new(values, dims).convert_dtype(dtype))
            .ok_or_else(|| Reason::Unsupported(format!("constants of type {dtype:?} have no ONNX form")))?;
        Ok(self.constant_tensor(role, tensor))
    }

    /// A constant tensor.
    pub(crate) fn constant_tensor(&mut self, role: &str, tensor: Tensor) -> ValueId {
        let name = self.below(role);
        self.graph.add_initialiser(&name, tensor)
    }
}

fn lost(id: TensorId) -> ExportError {
    ExportError::Capture { cause: format!("{id} is read, but it is neither computed nor an input or constant") }
}

fn check_finite(path: &str, data: &TensorData) -> Result<(), Reason> {
    if !data.dtype().is_float() {
        return Ok(());
    }
    let bad = data.iter::<f64>().enumerate().find(|(_, value)| !value.is_finite());
    match bad {
        None => Ok(()),
        Some((index, value)) => Err(Reason::Fatal(ExportError::NotFinite { parameter: path.to_owned(), value, index })),
    }
}
