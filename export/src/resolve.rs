//! Several recordings of one module, at different sizes of its dynamic axes -> one graph with symbolic axes.
//!
//! A recording is concrete: it says 2 where the batch was 2. Comparing recordings tells which numbers follow which
//! symbol. Shapes become [`Dim`]s; a number inside an operation that follows a symbol is an error unless the lowering
//! asks for it through [`Resolved::number`]; constants that differ are an error. Nothing is baked in silence.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use burn::backend::ir::{BaseOperationIr, ModuleOperationIr, OperationIr, TensorId, TensorIr};
use serde_json::Value as Json;

use crate::capture::Trace;
use crate::error::ExportError;
use crate::graph::Dim;

/// The sizes that symbols had in one recording, in the order of [`Plan::symbols`].
pub(crate) type Sizes = Vec<usize>;

/// Which sizes are recorded: a base, and for each symbol two more with only that symbol changed.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Symbols of all inputs, in order of appearance.
    pub symbols: Vec<String>,
    /// Three sizes per symbol.
    pub choices: Vec<[usize; 3]>,
}

impl Plan {
    /// All recordings, the base first.
    pub(crate) fn runs(&self) -> Vec<Sizes> {
        let base: Sizes = self.choices.iter().map(|choice| choice[0]).collect();
        let mut runs = vec![base.clone()];
        for (symbol, choice) in self.choices.iter().enumerate() {
            for &size in &choice[1..] {
                let mut sizes = base.clone();
                sizes[symbol] = size;
                runs.push(sizes);
            }
        }
        runs
    }

    /// The numbers one quantity had in the recordings -> what it is. `None` if no rule of ours fits.
    pub(crate) fn fit(&self, numbers: &[i64]) -> Option<Fit> {
        let base = *numbers.first()?;
        let mut slopes = vec![];
        for (index, (symbol, choice)) in self.symbols.iter().zip(&self.choices).enumerate() {
            let [x0, x1, x2] = choice.map(|size| size as i64);
            let (y1, y2) = (*numbers.get(1 + 2 * index)?, *numbers.get(2 + 2 * index)?);
            if y1 == base && y2 == base {
                continue;
            }
            // One line through three points, or nothing: rounding and minima are not lines.
            if (y1 - base) * (x2 - x0) != (y2 - base) * (x1 - x0) {
                return None;
            }
            slopes.push((symbol, x0, y1 - base, x1 - x0));
        }
        match slopes.as_slice() {
            [] => Some(Fit::Fixed(base)),
            &[(symbol, x, rise, run)] => {
                let (rise, run) = if run < 0 { (-rise, -run) } else { (rise, run) };
                let offset = base * run - rise * x;
                let divisor = gcd(gcd(rise, run), offset).max(1);
                Some(Fit::Dynamic(Dim::Linear {
                    symbol: symbol.clone(),
                    numerator: rise / divisor,
                    offset: offset / divisor,
                    denominator: run / divisor,
                }))
            }
            &[(a, xa, rise_a, run_a), (b, xb, rise_b, run_b)] => {
                // Proportional to both, or nothing.
                let proportional = |x: i64, rise: i64, run: i64| base * run == rise * x;
                let exact = base % (xa * xb) == 0;
                (exact && proportional(xa, rise_a, run_a) && proportional(xb, rise_b, run_b))
                    .then(|| Fit::Dynamic(Dim::Product { factor: base / (xa * xb), symbols: [a.clone(), b.clone()] }))
            }
            _ => None,
        }
    }
}

/// What a number of the recordings is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fit {
    /// The same everywhere.
    Fixed(i64),
    /// Follows a symbol.
    Dynamic(Dim),
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}

/// The recordings, aligned.
#[derive(Debug)]
pub(crate) struct Resolved {
    /// The base recording: its operations and constants are the ones lowered.
    pub base: Trace,
    /// Operations of all recordings, by operation: `[operation][recording]`.
    aligned: Vec<Vec<OperationIr>>,
    dims: HashMap<TensorId, Vec<Dim>>,
    plan: Plan,
    /// Module of each operation, or the nearest named one before it.
    pub modules: Vec<String>,
}

impl Resolved {
    /// Shape of a tensor of the base recording.
    pub(crate) fn dims(&self, tensor: &TensorIr) -> Vec<Dim> {
        let recorded = || tensor.shape.iter().map(|&size| Dim::Size(size)).collect();
        self.dims.get(&tensor.id).cloned().unwrap_or_else(recorded)
    }

    /// A number that `pick` finds in operation `index`: `None` if it differs between recordings by no rule of ours.
    pub(crate) fn number(&self, index: usize, pick: impl Fn(&OperationIr) -> Option<i64>) -> Option<Fit> {
        let numbers: Option<Vec<i64>> = self.aligned[index].iter().map(pick).collect();
        self.plan.fit(&numbers?)
    }
}

/// Aligns recordings; the first is the base.
pub(crate) fn resolve(plan: Plan, traces: Vec<Trace>) -> Result<Resolved, ExportError> {
    let mut traces = traces.into_iter();
    let Some(base) = traces.next() else {
        return Err(ExportError::Capture { cause: "nothing was recorded".into() });
    };
    let modules = modules(&base);
    let mut aligned: Vec<Vec<OperationIr>> = base.operations.iter().map(|operation| vec![operation.clone()]).collect();
    let mut shapes: HashMap<TensorId, Vec<Vec<usize>>> = HashMap::new();
    let sizes = |tensor: &TensorIr| tensor.shape.iter().copied().collect::<Vec<usize>>();
    for tensor in base.operations.iter().flat_map(OperationIr::nodes) {
        shapes.entry(tensor.id).or_insert_with(|| vec![sizes(tensor)]);
    }
    for other in traces {
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
                match (base.values.get(&our.id), other.values.get(&their.id)) {
                    _ if base.inputs.contains(&our.id) => {}
                    (Some(a), Some(b))
                        if known.is_none() && (a.shape() != b.shape() || a.as_bytes() != b.as_bytes()) =>
                    {
                        return Err(baked(format!("a constant of shape {:?} differs", sizes(our))));
                    }
                    (Some(_), None) | (None, Some(_)) => return Err(diverged()),
                    _ => {}
                }
                if seen.insert(our.id) {
                    shapes.entry(our.id).or_default().push(sizes(their));
                }
            }
            if let Some(detail) = difference(left, right) {
                return Err(baked(detail));
            }
            aligned[index].push(right.clone());
        }
    }
    let runs = plan.runs().len();
    let resolve_axis = |axis: usize, seen: &[Vec<usize>]| {
        let numbers: Vec<i64> = seen.iter().map(|shape| shape[axis] as i64).collect();
        match plan.fit(&numbers) {
            Some(Fit::Fixed(size)) => Dim::Size(size as usize),
            Some(Fit::Dynamic(dim)) => dim,
            None => Dim::Unknown,
        }
    };
    let dims = shapes
        .into_iter()
        .filter(|(_, seen)| seen.len() == runs)
        .map(|(id, seen)| (id, (0..seen[0].len()).map(|axis| resolve_axis(axis, &seen)).collect()))
        .collect();
    Ok(Resolved { base, aligned, dims, plan, modules })
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
fn followed(operation: &OperationIr) -> BTreeSet<&'static str> {
    let fields: &[&'static str] = match operation {
        OperationIr::BaseFloat(inner) | OperationIr::BaseInt(inner) | OperationIr::BaseBool(inner) => match inner {
            BaseOperationIr::Slice(_) | BaseOperationIr::SliceAssign(_) => &["ranges"],
            BaseOperationIr::RepeatDim(_) => &["times"],
            _ => &[],
        },
        OperationIr::Module(ModuleOperationIr::Interpolate(_)) => &["output_size"],
        _ => &[],
    };
    fields.iter().copied().collect()
}

/// The first number in an operation, tensors aside, that differs between two recordings.
fn difference(left: &OperationIr, right: &OperationIr) -> Option<String> {
    if left == right {
        return None;
    }
    let (left_json, right_json) = (serde_json::to_value(left).ok()?, serde_json::to_value(right).ok()?);
    compare(&left_json, &right_json, "", &followed(left))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(symbols: &[&str]) -> Plan {
        let choices = [[2, 3, 5], [32, 64, 160]];
        Plan { symbols: symbols.iter().map(|s| (*s).to_owned()).collect(), choices: choices[..symbols.len()].to_vec() }
    }

    #[test]
    fn numbers_become_formulas() {
        let fit = |f: &dyn Fn(i64) -> i64| plan(&["batch"]).fit(&[f(2), f(3), f(5)]);
        let text = |f: &dyn Fn(i64) -> i64| match fit(f) {
            Some(Fit::Fixed(number)) => number.to_string(),
            Some(Fit::Dynamic(dim)) => dim.to_string(),
            None => "none".into(),
        };
        assert_eq!(text(&|_| 7), "7");
        assert_eq!(text(&|b| b), "batch");
        assert_eq!(text(&|b| 4 * b), "4*batch");
        assert_eq!(text(&|b| b + 1), "batch + 1");
        assert_eq!(text(&|b| b / 2), "none");
        assert_eq!(text(&|b| b * b), "none");
    }

    #[test]
    fn two_symbols_may_multiply() {
        let plan = plan(&["batch", "height"]);
        let all = |f: &dyn Fn(i64, i64) -> i64| {
            let numbers: Vec<i64> = plan.runs().iter().map(|run| f(run[0] as i64, run[1] as i64)).collect();
            match plan.fit(&numbers) {
                Some(Fit::Dynamic(dim)) => dim.to_string(),
                other => format!("{other:?}"),
            }
        };
        assert_eq!(all(&|b, h| 3 * b * h), "3*batch*height");
        assert_eq!(all(&|_, h| h / 16), "height/16");
        assert_eq!(all(&|b, h| b + h), "None");
    }
}
