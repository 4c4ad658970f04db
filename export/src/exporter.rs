//! What is to be exported and how: the builder at the head of the path.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use burn::module::Module;
use burn::tensor::{BoolStore, DType as BurnType, Device, TensorData};
use contract::Axis;
use graph::encode::LARGEST_FILE;
use graph::optimise::optimise;
use graph::{DEFAULT_OPSET, Dim, Graph, OPSETS, checker};

use crate::capture::{Trace, quietly, record};
use crate::error::ExportError;
use crate::io::{AnyTensor, Inputs, Kind, Outputs, SampleInput};
use crate::lower::{Boundary, lower};
use crate::model::{ExportedModel, ModelInput, Recipe, Subject, Warning};
use crate::resolve::{Plan, Sizes, resolve};

/// Sizes at which the first axis of an input is recorded when it is a symbol.
const BATCH_SIZES: [usize; 3] = [2, 3, 5];

/// Sizes at which other symbolic axes are recorded: multiples of 32, which networks that halve five times divide.
const OTHER_SIZES: [usize; 3] = [64, 96, 160];

/// Describes an export; [`Exporter::export`] carries it out.
#[derive(Debug, Clone)]
pub struct Exporter {
    name: String,
    opset: u32,
    optimise: bool,
    inputs: Vec<Declared>,
    outputs: Vec<String>,
    sizes: Vec<(String, [usize; 3])>,
    most_inside: u64,
}

#[derive(Debug, Clone)]
struct Declared {
    name: String,
    axes: Vec<Axis>,
    integers: [i64; 2],
}

impl Exporter {
    /// An export of the network called `name`, for operator set [`DEFAULT_OPSET`].
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            opset: DEFAULT_OPSET,
            optimise: true,
            inputs: vec![],
            outputs: vec![],
            sizes: vec![],
            most_inside: LARGEST_FILE,
        }
    }

    /// Chooses the operator set; see [`OPSETS`].
    pub fn opset(mut self, opset: u32) -> Self {
        self.opset = opset;
        self
    }

    /// Whether the graph is simplified (it is by default).
    pub fn optimise(mut self, optimise: bool) -> Self {
        self.optimise = optimise;
        self
    }

    /// Puts the weights into a file of their own when they have more than `bytes` bytes together; see [`DataFile`](crate::DataFile).
    /// Above [`LARGEST_FILE`], the default, they always are.
    pub fn external_data(mut self, bytes: u64) -> Self {
        self.most_inside = bytes;
        self
    }

    /// Names the next input and its axes. Equal symbols are equal sizes, also across inputs.
    pub fn input(mut self, name: impl Into<String>, axes: impl Into<Vec<Axis>>) -> Self {
        self.inputs.push(Declared { name: name.into(), axes: axes.into(), integers: [0, 2] });
        self
    }

    /// [`Self::input`] of integers from `low` to before `high`: indices must be valid while recording and comparing.
    pub fn integers(mut self, name: impl Into<String>, axes: impl Into<Vec<Axis>>, low: i64, high: i64) -> Self {
        self.inputs.push(Declared { name: name.into(), axes: axes.into(), integers: [low, high] });
        self
    }

    /// Names the next output. Without names, outputs are called `output`, or `output_0` and so on.
    pub fn output(mut self, name: impl Into<String>) -> Self {
        self.outputs.push(name.into());
        self
    }

    /// Three different sizes at which the axis `symbol` is recorded. The default is 2, 3, 5 for first axes, and for others 64, 96,
    /// 160 and, if the module takes them, odd sizes, which tell apart how it rounds. A network that cannot take those needs
    /// its own; what it does at sizes with another divisor than these is then not known.
    pub fn recorded_at(mut self, symbol: impl Into<String>, sizes: [usize; 3]) -> Self {
        self.sizes.push((symbol.into(), sizes));
        self
    }

    /// Records `module` through `forward`, which takes and gives tensors of any rank and kind (see [`Inputs`], [`Outputs`]), and
    /// writes it as ONNX. Training behaviour is left behind: what is exported is `module.valid()`. The module itself is not
    /// changed.
    ///
    /// # Errors
    /// See [`ExportError`]; operations without a lowering are reported all at once.
    pub fn export<M, I, O, F>(self, module: &M, forward: F) -> Result<ExportedModel, ExportError>
    where
        M: Module + 'static,
        I: Inputs + 'static,
        O: Outputs + 'static,
        F: Fn(&M, I) -> O + 'static,
    {
        let signatures = I::signatures();
        self.check::<I>()?;
        let kinds: Vec<Kind> = signatures.iter().map(|signature| signature.kind).collect();
        let mut plan = self.plan();
        let record = |sizes: &Sizes| {
            let inputs: Vec<TensorData> = self
                .inputs
                .iter()
                .zip(&kinds)
                .map(|(input, kind)| blank(*kind, input.integers[0], plan.shape(&input.axes, sizes)))
                .collect();
            let text = plan.symbols.iter().zip(sizes).map(|(symbol, size)| format!("{symbol} {size}"));
            record(module, &inputs, text.collect::<Vec<_>>().join(", "), &forward)
        };
        let runs = plan.runs();
        let base = record(&runs[0])?;
        let all = |runs: &[Sizes]| -> Result<Vec<_>, ExportError> {
            runs.iter().map(|sizes| Ok(record(sizes)?.sharing(&base))).collect()
        };
        let mut traces = all(&runs[1..])?;
        // Many networks take multiples only, and say so by a panic: then those have to do.
        let (odd, even) = (plan.odd(), plan.even());
        let (joint, more) = match quietly(|| all(&odd)) {
            Ok(more) if !odd.is_empty() => (odd, more),
            Ok(_) | Err(ExportError::Trace { .. }) => {
                let more = all(&even)?;
                (even, more)
            }
            Err(other) => return Err(other),
        };
        traces.extend(more);
        traces.insert(0, base);
        plan.joint = joint;
        let boundary = self.boundary(traces[0].outputs.len())?;
        let resolved = resolve(plan.clone(), traces)?;
        let (mut graph, operations, origins) = lower(&resolved, &self.name, &boundary, self.opset)?;
        let warnings = warnings(&graph);
        checker::check(&graph, self.opset)?;
        if self.optimise {
            optimise(&mut graph, self.opset);
            checker::check(&graph, self.opset)?;
        }
        let inputs = self
            .inputs
            .into_iter()
            .zip(kinds)
            .zip(&graph.inputs)
            .map(|((input, kind), &id)| ModelInput {
                name: input.name,
                axes: input.axes,
                sample: SampleInput { kind, integers: input.integers },
                dtype: graph.value(id).dtype,
            })
            .collect();
        let module = module.valid();
        let device = module.devices().into_iter().next().unwrap_or_default();
        let recipe = Recipe {
            name: self.name,
            opset: self.opset,
            optimised: self.optimise,
            most_inside: self.most_inside,
            inputs,
            plan,
            operations,
            origins,
        };
        let subject = Box::new(Network { module, device, forward, signature: PhantomData });
        Ok(ExportedModel::new(recipe, graph, subject, warnings))
    }

    fn check<I: Inputs>(&self) -> Result<(), ExportError> {
        if !OPSETS.contains(&self.opset) {
            return Err(ExportError::Opset { found: self.opset });
        }
        let signatures = I::signatures();
        if signatures.len() != self.inputs.len() {
            return Err(ExportError::Count { what: "input", declared: self.inputs.len(), found: signatures.len() });
        }
        for (input, signature) in self.inputs.iter().zip(&signatures) {
            if input.axes.len() != signature.rank {
                return Err(ExportError::InputRank {
                    input: input.name.clone(),
                    declared: input.axes.len(),
                    taken: signature.rank,
                });
            }
        }
        Ok(())
    }

    fn plan(&self) -> Plan {
        let mut plan = Plan { symbols: vec![], choices: vec![], open: vec![], joint: vec![] };
        for input in &self.inputs {
            for (axis, size) in input.axes.iter().enumerate() {
                let Axis::Symbol(symbol) = size else { continue };
                if plan.symbols.contains(symbol) {
                    continue;
                }
                let chosen = self.sizes.iter().rev().find(|(name, _)| name == symbol).map(|(_, sizes)| *sizes);
                plan.symbols.push(symbol.clone());
                plan.open.push(chosen.is_none() && axis > 0);
                plan.choices.push(chosen.unwrap_or(if axis == 0 { BATCH_SIZES } else { OTHER_SIZES }));
            }
        }
        plan
    }

    fn boundary(&self, outputs: usize) -> Result<Boundary, ExportError> {
        let names = match (self.outputs.as_slice(), outputs) {
            ([], 1) => vec!["output".to_owned()],
            ([], count) => (0..count).map(|index| format!("output_{index}")).collect(),
            (names, count) if names.len() == count => names.to_vec(),
            (names, count) => {
                return Err(ExportError::Count { what: "output", declared: names.len(), found: count });
            }
        };
        if names.is_empty() {
            return Err(ExportError::Count { what: "output", declared: 0, found: 0 });
        }
        let dim = |axis: &Axis| match axis {
            Axis::Size(size) => Dim::Size(*size),
            Axis::Symbol(symbol) => Dim::symbol(symbol),
        };
        let inputs: Vec<(String, Vec<Dim>)> =
            self.inputs.iter().map(|input| (input.name.clone(), input.axes.iter().map(dim).collect())).collect();
        let mut seen = BTreeSet::new();
        match inputs.iter().map(|(name, _)| name).chain(&names).find(|name| !seen.insert(name.as_str())) {
            Some(name) => Err(ExportError::DuplicateName { name: name.clone() }),
            None => Ok(Boundary { inputs, outputs: names }),
        }
    }
}

/// The module that was exported, with its forward function.
struct Network<M, I, O, F> {
    module: M,
    device: Device,
    forward: F,
    signature: PhantomData<fn(I) -> O>,
}

impl<M, I, O, F> Subject for Network<M, I, O, F>
where
    M: Module,
    I: Inputs,
    O: Outputs,
    F: Fn(&M, I) -> O,
{
    fn forward(&self, inputs: Vec<TensorData>) -> Vec<TensorData> {
        let outputs = (self.forward)(&self.module, I::take(&mut inputs.into_iter(), &self.device)).tensors();
        outputs.into_iter().filter_map(AnyTensor::into_values).collect()
    }

    fn record(&self, inputs: &[TensorData]) -> Result<Trace, ExportError> {
        record(&self.module, inputs, String::new(), &self.forward)
    }
}

fn blank(kind: Kind, integer: i64, shape: Vec<usize>) -> TensorData {
    match kind {
        Kind::Float => TensorData::zeros::<f32, _>(shape),
        Kind::Int => TensorData::full(shape, integer),
        Kind::Bool => TensorData::full_dtype(shape, false, BurnType::Bool(BoolStore::Native)),
    }
}

fn warnings(graph: &Graph) -> Vec<Warning> {
    let dependent = graph.dependent();
    let uses = graph.uses();
    let name = |id| graph.value(id).name.clone();
    let constant = graph.outputs.iter().filter(|id| !dependent.contains(id));
    let unused = graph.inputs.iter().filter(|id| !uses.contains_key(id));
    let random = graph.nodes.iter().filter(|node| node.op.is_random());
    constant
        .map(|&id| Warning::ConstantOutput { output: name(id) })
        .chain(unused.map(|&id| Warning::UnusedInput { input: name(id) }))
        .chain(random.map(|node| Warning::Random { node: node.name.clone() }))
        .collect()
}
