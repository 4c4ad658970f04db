//! The builder that starts an export: what to export, and how.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::ops::RangeInclusive;

use burn::module::Module;
use burn::tensor::{Device, TensorData};
use contract::Axis;
use graph::encode::MAX_INLINE_WEIGHTS;
use graph::optimise::optimise;
use graph::{DEFAULT_OPSET, Dim, Graph, OPSETS, checker};

use crate::capture::{Trace, record};
use crate::coverage::{Assignment, Coverage, Sizes, Symbol};
use crate::error::ExportError;
use crate::io::{AnyTensor, Inputs, Kind, Outputs, Values};
use crate::lower::{Boundary, lower};
use crate::model::{ExportedModel, ModelInput, Provenance, Reference, Warning};
use crate::panics::quietly;
use crate::resolve::{reads_no_values, resolve};

/// Describes an export; [`Exporter::export`] carries it out.
#[derive(Debug, Clone)]
pub struct Exporter {
    name: String,
    opset: u32,
    optimise: bool,
    inputs: Vec<Declared>,
    outputs: Vec<String>,
    recorded_at: Vec<(String, [usize; 3])>,
    sizes: Vec<(String, Sizes)>,
    inline_weight_limit: u64,
}

#[derive(Debug, Clone)]
struct Declared {
    name: String,
    axes: Vec<Axis>,
    /// The declared values, if any.
    range: Option<Range>,
}

/// Values that an input is declared to take.
#[derive(Debug, Clone, Copy)]
enum Range {
    Floats(f32, f32),
    Integers(i64, i64),
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
            recorded_at: vec![],
            sizes: vec![],
            inline_weight_limit: MAX_INLINE_WEIGHTS,
        }
    }

    /// Sets the operator set; see [`OPSETS`].
    pub fn opset(mut self, opset: u32) -> Self {
        self.opset = opset;
        self
    }

    /// Whether to optimise the graph (the default).
    pub fn optimise(mut self, optimise: bool) -> Self {
        self.optimise = optimise;
        self
    }

    /// Stores the weights in a separate file if they exceed `bytes` bytes in total; see [`DataFile`](crate::DataFile).
    /// Above [`MAX_INLINE_WEIGHTS`], the default, they always are.
    pub fn external_data(mut self, bytes: u64) -> Self {
        self.inline_weight_limit = bytes;
        self
    }

    /// Names the next input and its axes. Equal symbols mean equal sizes, also across inputs. Float inputs are
    /// compared on values in the range of normalised pictures, -2.64 to 2.64; use [`Self::floats`] for other ranges.
    pub fn input(self, name: impl Into<String>, axes: impl Into<Vec<Axis>>) -> Self {
        self.declare(name.into(), axes.into(), None)
    }

    /// [`Self::input`] for floats in `range`, both ends included. The comparison covers the whole range.
    pub fn floats(self, name: impl Into<String>, axes: impl Into<Vec<Axis>>, range: RangeInclusive<f32>) -> Self {
        self.declare(name.into(), axes.into(), Some(Range::Floats(*range.start(), *range.end())))
    }

    /// [`Self::input`] for integers in `low..high`. The range must hold valid indices, because the module is run on
    /// them.
    pub fn integers(self, name: impl Into<String>, axes: impl Into<Vec<Axis>>, low: i64, high: i64) -> Self {
        self.declare(name.into(), axes.into(), Some(Range::Integers(low, high)))
    }

    fn declare(mut self, name: String, axes: Vec<Axis>, range: Option<Range>) -> Self {
        self.inputs.push(Declared { name, axes, range });
        self
    }

    /// Names the next output. If no output is named, they are called `output`, or `output_0`, `output_1`, ….
    pub fn output(mut self, name: impl Into<String>) -> Self {
        self.outputs.push(name.into());
        self
    }

    /// Declares the sizes of the axis `symbol`. The module is recorded and the model compared only at such sizes,
    /// including the least and the largest. By default, a first axis may have any size; for other axes the exporter
    /// tries whether the module accepts odd sizes or only multiples of 32.
    pub fn sizes(mut self, symbol: impl Into<String>, sizes: Sizes) -> Self {
        self.sizes.push((symbol.into(), sizes));
        self
    }

    /// Sets three different sizes at which the axis `symbol` is recorded. The default is 2, 3, 5 for first axes.
    /// For others it is 64, 96, 160 and, if the module accepts them, odd sizes, which show how it rounds. Unless
    /// [`Self::sizes`] declares more, the model is compared between the smallest and the largest of the three, at
    /// multiples of their greatest common divisor.
    pub fn recorded_at(mut self, symbol: impl Into<String>, sizes: [usize; 3]) -> Self {
        self.recorded_at.push((symbol.into(), sizes));
        self
    }

    /// Records `module` through `forward`, whose inputs and outputs are tensors of any rank and kind (see
    /// [`Inputs`], [`Outputs`]), and writes it as ONNX. What is exported is `module.valid()`, without training
    /// behaviour. The module itself is not changed.
    ///
    /// # Errors
    /// See [`ExportError`]. All operations without a lowering are reported at once.
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
        let values: Vec<Values> =
            self.inputs.iter().zip(&kinds).map(|(input, kind)| input.values(*kind)).collect::<Result<_, _>>()?;
        let mut coverage = Coverage::new(self.symbols()?);
        let record = |sizes: &Assignment, other: bool| {
            let inputs: Vec<TensorData> = self
                .inputs
                .iter()
                .zip(&values)
                .map(|(input, values)| {
                    let shape = coverage.shape(&input.axes, sizes);
                    if other { values.varied(shape) } else { values.blank(shape) }
                })
                .collect();
            record(module, &inputs, coverage.text(sizes), &forward)
        };
        let runs = coverage.recorded();
        let base = record(&runs[0], false)?;
        let again = quietly(|| record(&runs[0], true)).map_err(|error| match error {
            ExportError::Trace { message, .. } => ExportError::ReadsInput { detail: message },
            other => other,
        })?;
        reads_no_values(&base, &again)?;
        drop(again);
        let all = |runs: &[Assignment]| -> Result<Vec<_>, ExportError> {
            runs.iter().map(|sizes| Ok(record(sizes, false)?.sharing(&base))).collect()
        };
        let mut traces = all(&runs[1..])?;
        // Many networks accept only multiples of 32 and panic otherwise; then even sizes have to do. Where a panic
        // cannot be caught, odd sizes are not tried.
        let [odd, even] = coverage.joint();
        let odd = if cfg!(panic = "abort") { vec![] } else { odd };
        let (mut more, found) = match quietly(|| all(&odd)) {
            Ok(found) if !odd.is_empty() => (odd, found),
            Ok(_) | Err(ExportError::Trace { .. }) => {
                let found = all(&even)?;
                (even, found)
            }
            Err(other) => return Err(other),
        };
        traces.extend(found);
        let extremes = coverage.extremes();
        traces.extend(all(&extremes)?);
        traces.insert(0, base);
        more.extend(extremes);
        coverage.more = more;
        let boundary = self.boundary(traces[0].outputs.len())?;
        let resolved = resolve(coverage.clone(), traces)?;
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
            .zip(values)
            .zip(&graph.inputs)
            .map(|((input, values), &id)| ModelInput {
                name: input.name,
                axes: input.axes,
                values,
                dtype: graph.value(id).dtype,
            })
            .collect();
        let module = module.valid();
        let device = module.devices().into_iter().next().unwrap_or_default();
        let provenance = Provenance {
            name: self.name,
            opset: self.opset,
            optimised: self.optimise,
            inline_weight_limit: self.inline_weight_limit,
            inputs,
            coverage,
            operations,
            origins,
        };
        let burn_module = Box::new(ModuleWithForward { module, device, forward, signature: PhantomData });
        Ok(ExportedModel::new(provenance, graph, burn_module, warnings))
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
                    expected: signature.rank,
                });
            }
        }
        Ok(())
    }

    /// The symbols of all inputs, in order of appearance, with the user's sizes.
    fn symbols(&self) -> Result<Vec<Symbol>, ExportError> {
        let mut names: Vec<(&str, bool)> = vec![];
        for input in &self.inputs {
            for (axis, size) in input.axes.iter().enumerate() {
                if let Axis::Symbol(symbol) = size
                    && !names.iter().any(|(name, _)| name == symbol)
                {
                    names.push((symbol, axis == 0));
                }
            }
        }
        let said = self.recorded_at.iter().map(|(symbol, _)| symbol).chain(self.sizes.iter().map(|(symbol, _)| symbol));
        if let Some(unknown) = said.into_iter().find(|symbol| !names.iter().any(|(name, _)| name == symbol)) {
            let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let allowed = match known.as_slice() {
                [] => "the inputs have fixed axes only".to_owned(),
                known => format!("the inputs' axes are called `{}`", known.join("`, `")),
            };
            return Err(ExportError::Sizes { symbol: unknown.clone(), found: "no input has it".into(), allowed });
        }
        let symbol = |(name, batch): (&str, bool)| {
            let declared = self.sizes.iter().rev().find(|(symbol, _)| symbol == name).map(|(_, sizes)| *sizes);
            let recorded = self.recorded_at.iter().rev().find(|(symbol, _)| symbol == name).map(|(_, sizes)| *sizes);
            Symbol::new(name, batch, declared, recorded)
        };
        names.into_iter().map(symbol).collect()
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

/// The exported module with its forward function.
struct ModuleWithForward<M, I, O, F> {
    module: M,
    device: Device,
    forward: F,
    signature: PhantomData<fn(I) -> O>,
}

impl<M, I, O, F> Reference for ModuleWithForward<M, I, O, F>
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

impl Declared {
    /// The values of this input, checked against the `kind` of tensor that the forward function expects.
    fn values(&self, kind: Kind) -> Result<Values, ExportError> {
        let refuse =
            |found: String, allowed: &'static str| Err(ExportError::Range { input: self.name.clone(), found, allowed });
        match (kind, self.range) {
            (Kind::Float, None) => Ok(Values::Floats(None)),
            (Kind::Float, Some(Range::Floats(low, high))) if low.is_finite() && high.is_finite() && low < high => {
                Ok(Values::Floats(Some([low, high])))
            }
            (Kind::Int, None) => Ok(Values::Integers([0, 2])),
            (Kind::Int, Some(Range::Integers(low, high))) if low < high => Ok(Values::Integers([low, high])),
            (Kind::Bool, None) => Ok(Values::Booleans),
            (Kind::Float, Some(Range::Floats(low, high))) => {
                refuse(format!("{low} to {high}"), "two finite numbers, the smaller first")
            }
            (Kind::Int, Some(Range::Integers(low, high))) => {
                refuse(format!("integers in {low}..{high}"), "ranges of at least one integer")
            }
            (Kind::Float, _) => refuse("integers".into(), "floats, which the forward function expects,"),
            (Kind::Int, _) => refuse("floats".into(), "integers, which the forward function expects,"),
            (Kind::Bool, _) => refuse("a range".into(), "only booleans, which have no range,"),
        }
    }
}

fn warnings(graph: &Graph) -> Vec<Warning> {
    let dependent = graph.dependent();
    let uses = graph.uses();
    let name = |id| graph.value(id).name.clone();
    let constant = graph.outputs.iter().filter(|id| !dependent.contains(id));
    let unused = graph.inputs.iter().filter(|id| uses.count(**id) == 0);
    let random = graph.nodes.iter().filter(|node| node.op.is_random());
    constant
        .map(|&id| Warning::ConstantOutput { output: name(id) })
        .chain(unused.map(|&id| Warning::UnusedInput { input: name(id) }))
        .chain(random.map(|node| Warning::Random { node: node.name.clone() }))
        .collect()
}
