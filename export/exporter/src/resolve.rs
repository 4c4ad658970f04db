//! Aligns several traces of one module, at different sizes of its dynamic axes, into one graph with symbolic axes.
//!
//! A trace is concrete: it says 2 where the batch was 2. Comparing traces shows which numbers depend on which
//! symbol. Shapes become [`Dim`]s: by the operation's own rule where it is known ([`infer`]), else by the formula of an
//! axis with equal sizes in all traces, else by a rule that fits them ([`fit`]). A number inside an operation that
//! depends on a symbol is an error unless the lowering asks for it through [`Resolved::number`]. Constants that differ
//! are an error unless they are arithmetic sequences that grow with a size. No number is silently baked in.

mod fit;
mod infer;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use burn::backend::ir::{BaseOperationIr, ModuleOperationIr, OperationIr, TensorId, TensorIr};
use burn::tensor::TensorData;
use graph::{Dim, Formula};
use serde_json::Value as Json;

use crate::capture::{Trace, equal};
use crate::coverage::Coverage;
use crate::error::ExportError;

pub(crate) use fit::Fit;
use infer::infer;

/// The aligned traces.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The base trace, whose operations and constants are lowered.
    pub base: Trace,
    /// The same operation in every trace: `[operation][trace]`.
    aligned: Vec<Vec<OperationIr>>,
    dims: HashMap<TensorId, Vec<Dim>>,
    ramps: HashMap<TensorId, Ramp>,
    sizes: Known,
    /// Module of each operation, or else the nearest named one before it.
    pub modules: Vec<String>,
}

impl Resolved {
    /// Shape of a tensor of the base trace.
    pub(crate) fn dims(&self, tensor: &TensorIr) -> Vec<Dim> {
        let recorded = || tensor.shape.iter().map(|&size| Dim::Size(size)).collect();
        self.dims.get(&tensor.id).cloned().unwrap_or_else(recorded)
    }

    /// The number that `pick` finds in operation `index`; `None` if it differs between traces and fits no known
    /// rule.
    pub(crate) fn number(&self, index: usize, pick: impl Fn(&OperationIr) -> Option<i64>) -> Option<Fit> {
        let numbers: Option<Vec<i64>> = self.aligned[index].iter().map(pick).collect();
        self.sizes.find(&numbers?).map(Fit::from)
    }

    /// If the constant `id` is an arithmetic sequence that grows with a size: the sequence and its length.
    pub(crate) fn ramp(&self, id: TensorId) -> Option<(Ramp, Dim)> {
        Some((*self.ramps.get(&id)?, self.dims.get(&id)?.first()?.clone()))
    }
}

/// `start`, `start + step`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ramp {
    pub start: i64,
    pub step: i64,
}

impl Ramp {
    /// The common sequence of two constants, of which one continues further; one may have a single element.
    fn common(a: &TensorData, b: &TensorData) -> Option<Self> {
        let single = |data: &TensorData| {
            let vector = data.shape().len() == 1 && (data.dtype().is_int() || data.dtype().is_uint());
            let mut values = data.iter::<i64>();
            let first = values.next().filter(|_| vector)?;
            values.next().is_none().then_some(first)
        };
        match (Self::of(a), Self::of(b)) {
            (Some(ours), Some(theirs)) => (ours == theirs).then_some(ours),
            (Some(ramp), None) => (single(b) == Some(ramp.start)).then_some(ramp),
            (None, Some(ramp)) => (single(a) == Some(ramp.start)).then_some(ramp),
            (None, None) => None,
        }
    }

    /// The sequence of a vector of at least two integers in equal steps.
    fn of(data: &TensorData) -> Option<Self> {
        if data.shape().len() != 1 || !(data.dtype().is_int() || data.dtype().is_uint()) {
            return None;
        }
        let values: Vec<i64> = data.iter::<i64>().collect();
        let (start, step) = (*values.first()?, values.get(1)?.checked_sub(values[0])?);
        values.windows(2).all(|pair| pair[1].checked_sub(pair[0]) == Some(step)).then_some(Self { start, step })
    }
}

/// The formulas of all axes seen so far, with their value in each trace.
#[derive(Debug)]
struct Known {
    coverage: Coverage,
    formulas: Vec<(Formula, Vec<i64>)>,
}

impl Known {
    fn new(coverage: Coverage) -> Self {
        let mut known = Self { coverage, formulas: vec![] };
        for symbol in known.coverage.symbols.clone() {
            known.learn(&Formula::symbol(symbol.name));
        }
        known
    }

    fn learn(&mut self, formula: &Formula) {
        if formula.number().is_none()
            && self.formulas.iter().all(|(old, _)| old != formula)
            && let Some(numbers) = self.coverage.evaluate(formula)
        {
            self.formulas.push((formula.clone(), numbers));
        }
    }

    /// All axes of a tensor that occurs in each of the `runs` traces, each found by `resolve`. Remembers new
    /// formulas.
    fn shape(
        &mut self,
        seen: Option<&Vec<Vec<usize>>>,
        runs: usize,
        resolve: impl Fn(&Self, &[i64], usize, usize) -> Dim,
    ) -> Vec<Dim> {
        let Some(seen) = seen else { return vec![] };
        let rank = seen.first().map_or(0, Vec::len);
        let axis = |axis: usize| {
            let numbers: Vec<i64> = seen.iter().filter_map(|shape| shape.get(axis)).map(|&size| size as i64).collect();
            if numbers.len() == runs { resolve(self, &numbers, rank, axis) } else { Dim::Unknown }
        };
        let dims: Vec<Dim> = (0..rank).map(axis).collect();
        for formula in dims.iter().filter_map(Dim::formula) {
            self.learn(&formula);
        }
        dims
    }

    fn agrees(&self, formula: &Formula, numbers: &[i64]) -> bool {
        self.coverage.evaluate(formula).as_deref() == Some(numbers)
    }

    /// The formula of `numbers`: a known axis, or else a symbol or known axis scaled, shifted or divided.
    fn find(&self, numbers: &[i64]) -> Option<Formula> {
        if let Some((formula, _)) = self.formulas.iter().find(|(_, known)| known == numbers) {
            return Some(formula.clone());
        }
        self.coverage.fit(numbers).or_else(|| {
            self.formulas.iter().find_map(|(formula, known)| {
                let points: Vec<(i64, i64)> = known.iter().copied().zip(numbers.iter().copied()).collect();
                fit::floor_line(formula, &points).filter(|found| self.agrees(found, numbers))
            })
        })
    }

    /// The size of one axis of an operation's output.
    fn axis(&self, operation: &OperationIr, inputs: &[Vec<Dim>], rank: usize, axis: usize, numbers: &[i64]) -> Dim {
        let known = |input: usize, axis: usize| inputs.get(input)?.get(axis)?.formula();
        // Broadcasting aligns axes from the last.
        let opposite = inputs.iter().filter_map(|dims| dims.get((axis + dims.len()).checked_sub(rank)?)?.formula());
        let mut likely = infer(operation, axis, &known).into_iter().chain(opposite);
        let first = numbers.first().copied().unwrap_or(0);
        if numbers.iter().all(|&number| number == first) {
            // At the recorded sizes, rounding may hide that a size depends on a symbol.
            let hidden = likely.find(|formula| formula.number().is_none() && self.agrees(formula, numbers));
            return Dim::from(hidden.unwrap_or(Formula::constant(first)));
        }
        let others = inputs.iter().flatten().filter_map(Dim::formula);
        let candidates = likely.chain(others);
        let folded = || {
            inputs.first().into_iter().flat_map(|dims| products(dims)).find_map(|product| {
                let numbers_of = self.coverage.evaluate(&product)?;
                let points: Vec<(i64, i64)> = numbers_of.into_iter().zip(numbers.iter().copied()).collect();
                fit::floor_line(&product, &points)
            })
        };
        candidates
            .into_iter()
            .find(|formula| self.agrees(formula, numbers))
            .or_else(|| self.formulas.iter().find(|(_, known)| known == numbers).map(|(formula, _)| formula.clone()))
            .or_else(|| folded().filter(|formula| self.agrees(formula, numbers)))
            .or_else(|| self.find(numbers))
            .map_or(Dim::Unknown, Dim::from)
    }
}

/// Products of neighbouring axes, which a reshape may merge.
fn products(dims: &[Dim]) -> Vec<Formula> {
    let mut products = vec![];
    for first in 0..dims.len() {
        let mut product = Formula::constant(1);
        for dim in &dims[first..] {
            match dim.formula().and_then(|formula| product.times(&formula)) {
                Some(longer) => product = longer,
                None => break,
            }
            if product.number().is_none() {
                products.push(product.clone());
            }
        }
    }
    products
}

/// The result of aligning traces with the base trace.
#[derive(Default)]
struct Alignment {
    /// The base trace's operations with their counterparts: `[operation][trace]`.
    aligned: Vec<Vec<OperationIr>>,
    /// Shapes of the base trace's tensors in every trace.
    shapes: HashMap<TensorId, Vec<Vec<usize>>>,
    /// Constants that are sequences and longer in some traces.
    ramps: HashMap<TensorId, Ramp>,
    /// Whether the traces have equal sizes, so that nothing may differ.
    strict: bool,
}

impl Alignment {
    fn new(base: &Trace) -> Self {
        let mut shapes: HashMap<TensorId, Vec<Vec<usize>>> = HashMap::new();
        for tensor in base.operations.iter().flat_map(OperationIr::nodes) {
            shapes.entry(tensor.id).or_insert_with(|| vec![sizes(tensor)]);
        }
        let aligned = base.operations.iter().map(|operation| vec![operation.clone()]).collect();
        Self { aligned, shapes, ..Self::default() }
    }

    /// Aligns one more trace.
    fn add(&mut self, base: &Trace, modules: &[String], other: &Trace) -> Result<(), ExportError> {
        let mut twins: HashMap<TensorId, TensorId> = base.inputs.iter().copied().zip(other.inputs.clone()).collect();
        let mut seen = HashSet::new();
        let length = base.operations.len().max(other.operations.len());
        for index in 0..length {
            let (left, right) = (base.operations.get(index), other.operations.get(index));
            let at = |operation: Option<&OperationIr>, sizes: &str| {
                format!("{} at {sizes}", operation.map_or_else(|| "nothing".into(), name))
            };
            let diverged = || ExportError::Diverged {
                first: at(left, &base.sizes),
                second: at(right, &other.sizes),
                index,
                module: modules.get(index).or(modules.last()).cloned().unwrap_or_default(),
            };
            let (Some(left), Some(right)) = (left, right) else { return Err(diverged()) };
            let (ours, theirs) = (left.nodes(), right.nodes());
            if name(left) != name(right) || ours.len() != theirs.len() {
                return Err(diverged());
            }
            let baked =
                |detail: String| ExportError::Baked { operation: name(left), module: modules[index].clone(), detail };
            for (our, their) in ours.iter().zip(&theirs) {
                let known = twins.insert(our.id, their.id);
                if known.is_some_and(|twin| twin != their.id) || our.shape.len() != their.shape.len() {
                    return Err(diverged());
                }
                if self.strict && our.shape != their.shape {
                    return Err(baked(format!("shape {:?} becomes {:?}", sizes(our), sizes(their))));
                }
                match (base.values.get(&our.id), other.values.get(&their.id)) {
                    _ if base.inputs.contains(&our.id) => {}
                    (Some(a), Some(b)) if known.is_none() && !equal(a, b) => match Ramp::common(a, b) {
                        Some(ramp) if !self.strict => {
                            self.ramps.insert(our.id, ramp);
                        }
                        _ => return Err(baked(format!("a constant of shape {:?} differs", sizes(our)))),
                    },
                    (Some(_), None) | (None, Some(_)) => return Err(diverged()),
                    _ => {}
                }
                if seen.insert(our.id) {
                    self.shapes.entry(our.id).or_default().push(sizes(their));
                }
            }
            let dynamic_fields = if self.strict { BTreeSet::new() } else { dynamic_fields(left) };
            if let Some(detail) = difference(left, right, &dynamic_fields) {
                return Err(baked(detail));
            }
            self.aligned[index].push(right.clone());
        }
        same_outputs(base, other, &twins)
    }
}

fn sizes(tensor: &TensorIr) -> Vec<usize> {
    tensor.shape.iter().copied().collect()
}

/// Checks that a trace at the base sizes with other input values is equal to `base`. If not, the module read the
/// values.
///
/// # Errors
/// [`ExportError::ReadsInput`].
pub(crate) fn reads_no_values(base: &Trace, other: &Trace) -> Result<(), ExportError> {
    let mut alignment = Alignment { strict: true, ..Alignment::new(base) };
    let found = alignment.add(base, &modules(base), other);
    found.map_err(|error| ExportError::ReadsInput { detail: error.to_string() })
}

/// Aligns traces; the first is the base.
pub(crate) fn resolve(coverage: Coverage, traces: Vec<Trace>) -> Result<Resolved, ExportError> {
    let mut traces = traces.into_iter();
    let Some(base) = traces.next() else {
        return Err(ExportError::Capture { cause: "nothing was recorded".into() });
    };
    let modules = modules(&base);
    let mut alignment = Alignment::new(&base);
    for other in traces {
        alignment.add(&base, &modules, &other)?;
    }
    let Alignment { aligned, shapes, ramps, .. } = alignment;
    let runs = coverage.recorded().len();
    let mut known = Known::new(coverage);
    let mut dims: HashMap<TensorId, Vec<Dim>> = HashMap::new();
    for operation in &base.operations {
        // Graph inputs and constants are added when first used. The shape of an output follows from its inputs.
        let mut inputs: Vec<Vec<Dim>> = vec![];
        for tensor in operation.inputs() {
            let found = dims.entry(tensor.id).or_insert_with(|| {
                known.shape(shapes.get(&tensor.id), runs, |known, numbers, _, _| {
                    known.find(numbers).map_or(Dim::Unknown, Dim::from)
                })
            });
            inputs.push(found.clone());
        }
        for tensor in operation.outputs() {
            dims.entry(tensor.id).or_insert_with(|| {
                known.shape(shapes.get(&tensor.id), runs, |known, numbers, rank, axis| {
                    known.axis(operation, &inputs, rank, axis, numbers)
                })
            });
        }
    }
    Ok(Resolved { base, aligned, dims, ramps, sizes: known, modules })
}

/// Checks that both traces return the same outputs: results of the same operations, the same inputs or equal
/// constants. A network may record equal operations at every size and still return different ones of their results.
fn same_outputs(base: &Trace, other: &Trace, twins: &HashMap<TensorId, TensorId>) -> Result<(), ExportError> {
    let differ =
        |detail: String| ExportError::OutputsDiffer { first: base.sizes.clone(), second: other.sizes.clone(), detail };
    if base.outputs.len() != other.outputs.len() {
        return Err(differ(format!("{} outputs, then {}", base.outputs.len(), other.outputs.len())));
    }
    for (index, (ours, theirs)) in base.outputs.iter().zip(&other.outputs).enumerate() {
        match (twins.get(ours), base.values.get(ours), other.values.get(theirs)) {
            (Some(twin), ..) if twin == theirs => {}
            // A constant that no operation reads has no twin.
            (None, Some(ours), Some(theirs)) if equal(ours, theirs) => {}
            (None, Some(_), Some(_)) => return Err(differ(format!("output {index} is a constant that differs"))),
            _ => return Err(differ(format!("output {index} is the result of another operation"))),
        }
    }
    Ok(())
}

/// The module each operation belongs to: that of a parameter it reads, else the one before.
fn modules(trace: &Trace) -> Vec<String> {
    let mut current = String::new();
    let mut modules = Vec::with_capacity(trace.operations.len());
    for operation in &trace.operations {
        if let Some(parameter) = operation.inputs().find_map(|tensor| trace.parameters.get(&tensor.id)) {
            current.clone_from(&parameter.module);
        }
        modules.push(current.clone());
    }
    modules
}

/// Burn's name of an operation: `Module::Conv2d`, `NumericFloat::Add`.
pub(crate) fn name(operation: &OperationIr) -> String {
    let inner: &dyn std::fmt::Debug = match operation {
        OperationIr::BaseFloat(inner) | OperationIr::BaseInt(inner) | OperationIr::BaseBool(inner) => inner,
        OperationIr::NumericFloat(_, inner) | OperationIr::NumericInt(_, inner) => inner,
        OperationIr::Bool(inner) => inner,
        OperationIr::Int(inner) => inner,
        OperationIr::Float(_, inner) => inner,
        OperationIr::Module(inner) => inner,
        OperationIr::Activation(inner) => inner,
        OperationIr::Distributed(inner) => inner,
        OperationIr::Custom(inner) => return format!("Custom::{}", inner.id),
        OperationIr::Init(_) => return "Init".into(),
        OperationIr::Drop(_) => return "Drop".into(),
    };
    let family = match operation {
        OperationIr::BaseFloat(_) => "BaseFloat",
        OperationIr::BaseInt(_) => "BaseInt",
        OperationIr::BaseBool(_) => "BaseBool",
        OperationIr::NumericFloat(..) => "NumericFloat",
        OperationIr::NumericInt(..) => "NumericInt",
        OperationIr::Bool(_) => "Bool",
        OperationIr::Int(_) => "Int",
        OperationIr::Float(..) => "Float",
        OperationIr::Module(_) => "Module",
        OperationIr::Activation(_) => "Activation",
        OperationIr::Distributed(_) => "Distributed",
        OperationIr::Custom(_) | OperationIr::Init(_) | OperationIr::Drop(_) => "",
    };
    let mut variant = VariantName::default();
    // The derived Debug writes the variant's name first; the writer stops it right there.
    let _ = std::fmt::write(&mut variant, format_args!("{inner:?}"));
    format!("{family}::{}", variant.0)
}

/// Keeps what comes before the first character that is no part of a name, then refuses more.
#[derive(Default)]
struct VariantName(String);

impl std::fmt::Write for VariantName {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
        self.0.push_str(&text[..end]);
        if end == text.len() { Ok(()) } else { Err(std::fmt::Error) }
    }
}

/// Fields whose numbers the lowering reads through [`Resolved::number`] or from the output's shape.
fn dynamic_fields(operation: &OperationIr) -> BTreeSet<&'static str> {
    let fields: &[&'static str] = match operation {
        OperationIr::BaseFloat(inner) | OperationIr::BaseInt(inner) | OperationIr::BaseBool(inner) => match inner {
            // The step is not among them: it must be the same at all sizes.
            BaseOperationIr::Slice(_) | BaseOperationIr::SliceAssign(_) => &["start", "end"],
            BaseOperationIr::RepeatDim(_) => &["times"],
            _ => &[],
        },
        OperationIr::Module(ModuleOperationIr::Interpolate(_)) => &["output_size"],
        _ => &[],
    };
    fields.iter().copied().collect()
}

/// The first number in an operation, tensors aside, that differs between two recordings.
fn difference(left: &OperationIr, right: &OperationIr, dynamic_fields: &BTreeSet<&'static str>) -> Option<String> {
    if left == right {
        return None;
    }
    let (left_json, right_json) = (serde_json::to_value(left).ok()?, serde_json::to_value(right).ok()?);
    compare(&left_json, &right_json, "", dynamic_fields)
}

fn compare(left: &Json, right: &Json, path: &str, skip: &BTreeSet<&'static str>) -> Option<String> {
    match (left, right) {
        (Json::Object(a), Json::Object(b)) => {
            // A tensor: identity, shape and lifetime are compared elsewhere, the type must stay.
            let tensor = a.contains_key("id") && a.contains_key("shape") && a.contains_key("status");
            let fields: BTreeMap<_, _> = a.iter().collect();
            fields.into_iter().filter(|(key, _)| !skip.contains(key.as_str()) && (!tensor || *key == "dtype")).find_map(
                |(key, value)| compare(value, b.get(key).unwrap_or(&Json::Null), &format!("{path}.{key}"), skip),
            )
        }
        (Json::Array(a), Json::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(index, (a, b))| compare(a, b, &format!("{path}[{index}]"), skip))
        }
        _ if left == right => None,
        _ => {
            let field = path.trim_start_matches('.').split_once('.').map_or(path, |(_, field)| field);
            Some(format!("`{field}` is {left} in one recording and {right} in another"))
        }
    }
}
