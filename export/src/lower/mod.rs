//! Burn's recorded operations -> ONNX operators. One function per operation; the dispatch names every kind of
//! `burn_ir`'s, so that a new one stops the build.

mod activation;
mod attention;
mod base;
mod conv;
mod dispatch;
mod function;
mod norm;
mod numeric;
mod pool;
mod random;
mod reduce;
mod sample;
mod scatter;
mod table;
mod weighted;

use std::collections::HashMap;

use burn::backend::ir::{OperationIr, ScalarIr, TensorId, TensorIr};
use burn::tensor::{BoolStore, DType as BurnType, TensorData};

use crate::error::{ExportError, Refusal};
use crate::graph::{DType, Dim, Factor, Formula, Graph, Node, Op, Plain, Tensor, Value, ValueId};
use crate::operations::LoweredOperation;
use crate::resolve::{Fit, Ramp, Resolved, name};

pub(crate) use dispatch::KINDS;

/// Why one operation was not lowered.
#[derive(Debug)]
pub(crate) enum Reason {
    /// It has no lowering, or this configuration of it has none.
    Unsupported(String),
    /// It needs a number that follows an input's size by no rule of ours.
    Baked(String),
    /// A constant of it is bad.
    Fatal(ExportError),
}

pub(crate) type Lowered = Result<(), Reason>;

/// `axis`, where a tensor of that rank has it: recordings from elsewhere may say anything.
fn axis_of(rank: usize, axis: usize) -> Result<usize, Reason> {
    if axis < rank { Ok(axis) } else { Err(Reason::Unsupported(format!("axis {axis} of a tensor of rank {rank}"))) }
}

/// The declared boundary of the graph.
#[derive(Debug, Clone)]
pub(crate) struct Boundary {
    /// Names and shapes of the inputs, in order.
    pub inputs: Vec<(String, Vec<Dim>)>,
    /// Names of the outputs, in order.
    pub outputs: Vec<String>,
}

/// Where a value of the graph comes from: an output of a recorded operation. Passes keep what a value means, so that this
/// holds for whatever is left of the graph after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The value.
    pub value: ValueId,
    /// Index of the operation in the recording.
    pub operation: usize,
    /// Which of its outputs.
    pub output: usize,
}

/// Lowers a resolved recording for an operator set. What each operation became and where values come from is in the order
/// of the recording.
///
/// # Errors
/// All operations without lowering at once; a constant that is not finite; a number that would be baked.
pub(crate) fn lower(
    resolved: &Resolved,
    name_of_graph: &str,
    boundary: &Boundary,
    opset: u32,
) -> Result<(Graph, Vec<LoweredOperation>, Vec<Origin>), ExportError> {
    let mut lowering = Lowering::new(resolved, name_of_graph, boundary, opset)?;
    let mut refusals: Vec<Refusal> = vec![];
    let mut operations = vec![];
    for (index, operation) in resolved.base.operations.iter().enumerate() {
        lowering.enter(index, operation);
        let before = lowering.graph.nodes.len();
        let refusal = match dispatch::operation(&mut lowering, operation) {
            Ok(()) => {
                let onnx = lowering.graph.nodes[before..].iter().map(|node| node.op.name()).collect();
                operations.push(LoweredOperation { operation: name(operation), module: lowering.module.clone(), onnx });
                continue;
            }
            Err(Reason::Fatal(error)) => return Err(error),
            Err(Reason::Baked(detail)) => {
                return Err(ExportError::Baked { operation: name(operation), module: lowering.module, detail });
            }
            Err(Reason::Unsupported(reason)) => {
                Refusal { operation: name(operation), module: lowering.module.clone(), reason }
            }
        };
        if !refusals.contains(&refusal) {
            refusals.push(refusal);
        }
        // Go on with placeholders, so that the rest is looked at too; such a graph is never returned.
        for out in operation.outputs() {
            lowering.placeholder(out);
        }
    }
    if !refusals.is_empty() {
        return Err(ExportError::Unsupported(refusals));
    }
    let (graph, origins) = lowering.finish(boundary)?;
    Ok((graph, operations, origins))
}

/// The graph in the making, and where we are in the recording.
pub(crate) struct Lowering<'a> {
    resolved: &'a Resolved,
    graph: Graph,
    opset: u32,
    values: HashMap<TensorId, ValueId>,
    output_names: HashMap<TensorId, String>,
    index: usize,
    module: String,
    /// Whether the operation is the module itself (it reads the module's parameters and data): its node then has the
    /// module's name, all others are named after their operator below it.
    is_module: bool,
    sizes: HashMap<Dim, ValueId>,
}

impl<'a> Lowering<'a> {
    fn new(resolved: &'a Resolved, name_of_graph: &str, boundary: &Boundary, opset: u32) -> Result<Self, ExportError> {
        let mut graph = Graph::new(name_of_graph);
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
        // The names of outputs are taken before a node can have them.
        let mut output_names = HashMap::new();
        for (id, wanted) in resolved.base.outputs.iter().zip(&boundary.outputs) {
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

    fn enter(&mut self, index: usize, operation: &OperationIr) {
        self.index = index;
        self.module.clone_from(&self.resolved.modules[index]);
        let parameters = &self.resolved.base.parameters;
        let constant = |tensor: &&TensorIr| self.resolved.base.values.contains_key(&tensor.id);
        let reads_parameter = operation.inputs().any(|tensor| parameters.contains_key(&tensor.id));
        let reads_data =
            operation.inputs().any(|tensor| !constant(&tensor) || self.resolved.base.inputs.contains(&tensor.id));
        self.is_module = reads_parameter && reads_data && !self.module.is_empty();
    }

    fn finish(mut self, boundary: &Boundary) -> Result<(Graph, Vec<Origin>), ExportError> {
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
                // An input, a constant, or a tensor that is an output under another name already.
                let info = self.graph.value(source).clone();
                let output = self.graph.add_value(wanted, info.dtype, info.dims);
                let name = self.graph.unique(&format!("{wanted}/Identity"));
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

    fn placeholder(&mut self, out: &TensorIr) {
        if !self.values.contains_key(&out.id) {
            let dtype = dtype(out.dtype).unwrap_or(DType::Float);
            let value = self.graph.add_value("placeholder", dtype, self.resolved.dims(out));
            self.values.insert(out.id, value);
        }
    }

    /// The operator set we write for.
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
            let value = self.ramp(ramp, &count, float_type(data.dtype())?)?;
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

    /// A constant that counts up to a size -> ONNX `Range`, whose bounds are of rank 0.
    fn ramp(&mut self, ramp: Ramp, count: &Dim, dtype: DType) -> Result<ValueId, Reason> {
        let length = count.formula().and_then(|count| count.times(&Formula::constant(ramp.step)));
        let end = length.and_then(|length| length.plus(&Formula::constant(ramp.start)));
        let end = end.ok_or_else(|| Reason::Baked("a constant counts up to a size we do not know".into()))?;
        let end = self.size(&Dim::Formula(end))?;
        let scalar = self.int64s("scalar", &[]);
        let end = self.step(Plain::Reshape, &[end, scalar], DType::Int64, vec![]);
        let number = |l: &mut Self, role: &str, value: i64| l.scalar(role, BurnType::I64, ScalarIr::Int(value));
        let (start, step) = (number(self, "start", ramp.start)?, number(self, "step", ramp.step)?);
        let value = self.step(Plain::Range, &[start, end, step], DType::Int64, vec![count.clone()]);
        if dtype == DType::Int64 {
            return Ok(value);
        }
        Ok(self.step(Op::Cast { to: dtype }, &[value], dtype, vec![count.clone()]))
    }

    /// A name below the current module: `backbone.conv1/Relu`.
    fn below(&self, what: &str) -> String {
        if self.module.is_empty() { what.to_owned() } else { format!("{}/{what}", self.module) }
    }

    /// Adds the node that computes the operation's output.
    pub(crate) fn emit(&mut self, op: impl Into<Op>, inputs: &[ValueId], out: &TensorIr) -> Lowered {
        self.emit_all(op.into(), inputs, &[out])
    }

    /// [`Self::emit`] for an operator with several outputs.
    pub(crate) fn emit_all(&mut self, op: Op, inputs: &[ValueId], outs: &[&TensorIr]) -> Lowered {
        let wanted = if self.is_module { self.module.clone() } else { self.below(&op.name()) };
        // The module's name is given once; what else the operation needs is below it.
        self.is_module = false;
        let name = self.graph.unique(&wanted);
        let mut outputs = vec![];
        for (position, out) in outs.iter().enumerate() {
            let dtype = float_type(out.dtype)?;
            let dims = self.dims(out);
            let suffix = if position == 0 { "output".to_owned() } else { format!("output_{position}") };
            let wanted = self.output_names.get(&out.id).cloned().unwrap_or_else(|| format!("{name}/{suffix}"));
            let value = self.graph.add_value(&wanted, dtype, dims);
            self.values.insert(out.id, value);
            outputs.push(value);
        }
        self.graph.nodes.push(Node { name, op, inputs: inputs.iter().copied().map(Some).collect(), outputs });
        Ok(())
    }

    /// [`Self::emit`] for operators that ONNX has for no integers of 8 and 16 bits: those go through 32.
    pub(crate) fn emit_wide(&mut self, op: impl Into<Op>, inputs: &[ValueId], out: &TensorIr) -> Lowered {
        let to = float_type(out.dtype)?;
        let inputs: Vec<ValueId> = inputs.iter().map(|&input| self.widened(input)).collect();
        if !to.is_narrow() {
            return self.emit(op, &inputs, out);
        }
        let dims = self.dims(out);
        let value = self.step(op, &inputs, DType::Int32, dims);
        self.emit(Op::Cast { to }, &[value], out)
    }

    /// An integer of 8 or 16 bits as one of 32; anything else as it is.
    pub(crate) fn widened(&mut self, value: ValueId) -> ValueId {
        if self.value(value).dtype.is_narrow() { self.cast(value, DType::Int32) } else { value }
    }

    /// The operator, and its inputs, that gives `yes` where `mask` is set and `no` elsewhere, of shape `dims`. Runtimes have
    /// `Where` for no truth values: those are put together by logic.
    pub(crate) fn choose(&mut self, mask: ValueId, [yes, no]: [ValueId; 2], dims: &[Dim]) -> (Op, Vec<ValueId>) {
        if self.value(no).dtype != DType::Bool {
            return (Plain::Where.into(), vec![mask, yes, no]);
        }
        let unset = self.like(Plain::Not, &[mask]);
        let yes = self.step(Plain::And, &[mask, yes], DType::Bool, dims.to_vec());
        let no = self.step(Plain::And, &[unset, no], DType::Bool, dims.to_vec());
        (Plain::Or.into(), vec![yes, no])
    }

    /// Adds a node for a step on the way to the operation's output.
    pub(crate) fn step(&mut self, op: impl Into<Op>, inputs: &[ValueId], dtype: DType, dims: Vec<Dim>) -> ValueId {
        let op = op.into();
        let wanted = self.below(&op.name());
        let name = self.graph.unique(&wanted);
        let value = self.graph.add_value(&format!("{name}/output"), dtype, dims);
        self.graph.nodes.push(Node {
            name,
            op,
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![value],
        });
        value
    }

    /// A step that keeps type and shape of its first input.
    pub(crate) fn like(&mut self, op: impl Into<Op>, inputs: &[ValueId]) -> ValueId {
        let info = self.graph.value(inputs[0]).clone();
        self.step(op, inputs, info.dtype, info.dims)
    }

    /// Optional inputs behind those of the node that was just added.
    pub(crate) fn more_inputs<const N: usize>(&mut self, inputs: [Option<ValueId>; N]) {
        if let Some(node) = self.graph.nodes.last_mut() {
            node.inputs.extend(inputs);
        }
    }

    /// What is known of a value.
    pub(crate) fn value(&self, id: ValueId) -> &Value {
        self.graph.value(id)
    }

    /// A value as another type; itself if it has that already.
    pub(crate) fn cast(&mut self, value: ValueId, to: DType) -> ValueId {
        let info = self.graph.value(value).clone();
        if info.dtype == to { value } else { self.step(Op::Cast { to }, &[value], to, info.dims) }
    }

    /// Refuses operators that came with a later operator set, or whose form in this one ONNX Runtime cannot run.
    pub(crate) fn available(&self, op: impl Into<Op>) -> Result<Op, Reason> {
        let op = op.into();
        let (name, since, opset) = (op.name(), op.since(), self.opset);
        let refuse = |problem: String| Err(Reason::Unsupported(problem));
        match op.until() {
            _ if opset < since => refuse(format!("`{name}` needs operator set {since} or later, this is {opset}")),
            Some(until) if opset > until => refuse(format!(
                "ONNX Runtime has `{name}` up to operator set {until}, this is {opset}; export for {until}"
            )),
            _ => Ok(op),
        }
    }

    /// Gives the operation's output the value of another tensor: the operation does nothing.
    pub(crate) fn alias(&mut self, input: ValueId, out: &TensorIr) -> Lowered {
        if self.output_names.contains_key(&out.id) {
            return self.emit(Plain::Identity, &[input], out);
        }
        self.values.insert(out.id, input);
        Ok(())
    }

    /// A constant of one number, of rank 0.
    pub(crate) fn scalar(&mut self, role: &str, dtype: BurnType, value: ScalarIr) -> Result<ValueId, Reason> {
        let data = TensorData::full_dtype([0usize; 0], value, dtype);
        let tensor = tensor(&data)
            .ok_or_else(|| Reason::Unsupported(format!("constants of type {dtype:?} have no ONNX form")))?;
        let name = self.below(role);
        Ok(self.graph.add_initialiser(&name, tensor))
    }

    /// A constant of one float.
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

    /// A shape as a value: a constant where it is fixed, else computed from the shapes of the inputs.
    pub(crate) fn shape(&mut self, role: &str, dims: &[Dim]) -> Result<ValueId, Reason> {
        let fixed: Option<Vec<i64>> = dims.iter().map(|dim| dim.size().map(|size| size as i64)).collect();
        if let Some(fixed) = fixed {
            return Ok(self.int64s(role, &fixed));
        }
        let parts = dims.iter().map(|dim| self.size(dim)).collect::<Result<Vec<_>, _>>()?;
        if let [only] = parts[..] {
            return Ok(only);
        }
        Ok(self.step(Op::Concat { axis: 0 }, &parts, DType::Int64, vec![Dim::Size(dims.len())]))
    }

    /// One size as a vector of one 64-bit integer.
    pub(crate) fn size(&mut self, dim: &Dim) -> Result<ValueId, Reason> {
        if let Some(&value) = self.sizes.get(dim) {
            return Ok(value);
        }
        let value = match dim {
            Dim::Size(size) => self.int64s("size", &[*size as i64]),
            Dim::Unknown => return Err(Reason::Baked("the size follows the inputs' sizes by no rule we know".into())),
            Dim::Formula(formula) => self.formula(formula)?,
        };
        self.sizes.insert(dim.clone(), value);
        Ok(value)
    }

    /// A formula in arithmetic of the inputs' shapes. Divisions have no negative part, so that rounding towards 0 is rounding
    /// down.
    fn formula(&mut self, formula: &Formula) -> Result<ValueId, Reason> {
        let one = || vec![Dim::Size(1)];
        let mut sum: Option<ValueId> = None;
        // The constant last: one operand less where there is none.
        let terms = formula.terms().skip_while(|(factors, _)| factors.is_empty());
        let constant = formula.terms().find(|(factors, _)| factors.is_empty());
        for (factors, coefficient) in terms.chain(constant) {
            let mut product: Option<ValueId> = None;
            for factor in factors {
                let value = match factor {
                    Factor::Symbol(symbol) => self.symbol(symbol)?,
                    Factor::Quotient(inner, divisor) => {
                        let inner = self.size(&Dim::Formula(inner.clone()))?;
                        let divisor = self.int64s("divisor", &[*divisor]);
                        self.step(Plain::Div, &[inner, divisor], DType::Int64, one())
                    }
                };
                product = Some(match product {
                    Some(product) => self.step(Plain::Mul, &[product, value], DType::Int64, one()),
                    None => value,
                });
            }
            let term = match product {
                None => self.int64s("offset", &[coefficient]),
                Some(product) if coefficient == 1 => product,
                Some(product) => {
                    let coefficient = self.int64s("factor", &[coefficient]);
                    self.step(Plain::Mul, &[product, coefficient], DType::Int64, one())
                }
            };
            sum = Some(match sum {
                Some(sum) => self.step(Plain::Add, &[sum, term], DType::Int64, one()),
                None => term,
            });
        }
        Ok(sum.unwrap_or_else(|| self.int64s("size", &[0])))
    }

    /// A symbol, from the shape of the first input that has it.
    fn symbol(&mut self, symbol: &str) -> Result<ValueId, Reason> {
        let bare = Dim::symbol(symbol);
        if let Some(&value) = self.sizes.get(&bare) {
            return Ok(value);
        }
        let found = self.graph.inputs.iter().find_map(|&input| {
            let value = self.graph.value(input);
            value.dims.iter().position(|dim| *dim == bare).map(|axis| (input, axis, value.dims.len()))
        });
        let (input, axis, rank) = found.ok_or_else(|| Reason::Baked(format!("no input has an axis `{symbol}`")))?;
        let shape = self.step(Plain::Shape, &[input], DType::Int64, vec![Dim::Size(rank)]);
        let index = self.int64s("axis", &[axis as i64]);
        let value = self.step(Op::Gather { axis: 0 }, &[shape, index], DType::Int64, vec![Dim::Size(1)]);
        self.sizes.insert(bare, value);
        Ok(value)
    }

    /// A number inside the current operation.
    pub(crate) fn number(&self, field: &str, pick: impl Fn(&OperationIr) -> Option<i64>) -> Result<Fit, Reason> {
        let follows = || Reason::Baked(format!("`{field}` follows the inputs' sizes by no rule we know"));
        self.resolved.number(self.index, pick).ok_or_else(follows)
    }

    /// Sizes of axes that must be fixed.
    pub(crate) fn fixed(&self, what: &str, dims: &[Dim]) -> Result<Vec<usize>, Reason> {
        let moving = |dim: &Dim| Reason::Baked(format!("{what} needs a fixed axis, this one is `{dim}`"));
        dims.iter().map(|dim| dim.size().ok_or_else(|| moving(dim))).collect()
    }
}

fn lost(id: TensorId) -> ExportError {
    ExportError::Capture { cause: format!("{id} is used but neither computed nor given") }
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

/// The ONNX type of a Burn type; none for quantised ones.
pub(crate) fn dtype(burn: BurnType) -> Option<DType> {
    Some(match burn {
        BurnType::F64 => DType::Double,
        BurnType::F32 | BurnType::Flex32 => DType::Float,
        BurnType::F16 => DType::Float16,
        BurnType::BF16 => DType::Bfloat16,
        BurnType::I64 => DType::Int64,
        BurnType::I32 => DType::Int32,
        BurnType::I16 => DType::Int16,
        BurnType::I8 => DType::Int8,
        BurnType::U64 => DType::Uint64,
        BurnType::U32 => DType::Uint32,
        BurnType::U16 => DType::Uint16,
        BurnType::U8 => DType::Uint8,
        BurnType::Bool(_) => DType::Bool,
        BurnType::QFloat(_) => return None,
    })
}

/// [`dtype`], refusing quantised tensors.
pub(crate) fn float_type(burn: BurnType) -> Result<DType, Reason> {
    dtype(burn).ok_or_else(|| Reason::Unsupported("quantised tensors are not lowered yet".into()))
}

/// Burn's array as ONNX's.
fn tensor(data: &TensorData) -> Option<Tensor> {
    let dims: Vec<usize> = data.shape().iter().copied().collect();
    let native = match data.dtype() {
        BurnType::Bool(BoolStore::U32) => data.clone().convert_dtype(BurnType::Bool(BoolStore::Native)),
        BurnType::Flex32 => data.clone().convert_dtype(BurnType::F32),
        _ => return Tensor::new(dtype(data.dtype())?, dims, data.as_bytes().to_vec()),
    };
    Tensor::new(dtype(native.dtype())?, dims, native.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use burn::backend::ir::{
        CustomOpIr, DistributedOperationIr, FloatOperationIr, LinearOpIr, ModuleOperationIr, UnaryOpIr,
    };

    use super::*;
    use crate::capture::Trace;
    use crate::resolve::{Plan, resolve};

    /// One operation from `x` to `y`, as a recording would have it.
    fn lowered(
        to: BurnType,
        operation: impl Fn(TensorIr, TensorIr) -> OperationIr,
    ) -> Result<(Vec<String>, DType), ExportError> {
        let (x, y) = (TensorId::new(1), TensorId::new(2));
        let tensor = |id, dtype| TensorIr::uninit(id, [3, 3].into(), dtype);
        let trace = Trace {
            sizes: String::new(),
            operations: vec![operation(tensor(x, BurnType::F32), tensor(y, to))],
            values: [(x, TensorData::zeros::<f32, _>([3, 3]).into())].into(),
            parameters: std::collections::BTreeMap::new(),
            inputs: vec![x],
            outputs: vec![y],
        };
        let resolved = resolve(Plan { symbols: vec![], choices: vec![], open: vec![], joint: vec![] }, vec![trace])?;
        let dims = vec![Dim::Size(3), Dim::Size(3)];
        let boundary = Boundary { inputs: vec![("x".into(), dims)], outputs: vec!["y".into()] };
        let (graph, ..) = lower(&resolved, "test", &boundary, 20)?;
        crate::verify::checker::check(&graph, 20)?;
        let names = graph.nodes.iter().map(|node| node.op.name()).collect();
        Ok((names, graph.value(graph.outputs[0]).dtype))
    }

    #[test]
    fn what_burn_never_records_is_lowered_all_the_same() {
        let truth = BurnType::Bool(BoolStore::Native);
        let function = |function: FloatOperationIr| OperationIr::Float(BurnType::F32, function);
        let nan = lowered(truth, |input, out| function(FloatOperationIr::IsNan(UnaryOpIr { input, out })));
        assert_eq!(nan.unwrap(), (vec!["IsNaN".to_owned()], DType::Bool));
        let infinite = lowered(truth, |input, out| function(FloatOperationIr::IsInf(UnaryOpIr { input, out })));
        assert_eq!(infinite.unwrap(), (vec!["IsInf".to_owned()], DType::Bool));
        let linear = lowered(BurnType::F32, |x, out| {
            let (weight, bias) = (x.clone(), Some(x.clone()));
            OperationIr::Module(ModuleOperationIr::Linear(LinearOpIr { x, weight, bias, out }))
        });
        assert_eq!(linear.unwrap(), (vec!["MatMul".to_owned(), "Add".to_owned()], DType::Float));
    }

    #[test]
    fn refusals_say_why_and_what_to_do() {
        let custom = lowered(BurnType::F32, |x, y| OperationIr::Custom(CustomOpIr::new("mine", &[x], &[y])))
            .unwrap_err()
            .to_string();
        assert!(custom.contains("`Custom::mine`") && custom.contains("with Burn's operations"), "{custom}");
        let collective =
            lowered(BurnType::F32, |_, _| OperationIr::Distributed(DistributedOperationIr::SyncCollective));
        let collective = collective.unwrap_err().to_string();
        assert!(collective.contains("export `module.valid()` of one device"), "{collective}");
        // Every refusal in the table says both.
        for kind in KINDS.iter().copied().flatten() {
            if let crate::operations::Fate::Refused { reason, way_out } = kind.fate {
                assert!(!reason.is_empty() && !way_out.is_empty(), "{kind}");
            }
        }
    }
}
