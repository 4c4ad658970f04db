//! A table of cases for every kind of operation: the smallest function that uses it, on inputs with its special cases,
//! compared between ONNX Runtime and Burn at several operator sets, as recorded and optimised.

mod activations;
mod attention;
mod batches;
mod bits;
mod convolutions;
mod functions;
mod movement;
mod nan;
mod numbers;
mod poolings;
mod random;
mod reductions;
mod sampling;
mod scattering;
pub mod session;
mod table;

use burn::module::Module;
use burn::tensor::{Bool, BoolStore, DType, Int, Tensor, TensorData};
use contract::{Axis, fill};
use export::{ExportError, ExportedModel, Exporter, Inputs, Kind, OPSETS, Outputs, Support, operation_kinds};

type Export = Box<dyn Fn(u32, bool) -> Result<ExportedModel, ExportError>>;

/// One case: a function, its inputs, and how close ONNX Runtime must come.
pub struct Case {
    name: String,
    inputs: Vec<TensorData>,
    export: Export,
    close: Close,
    /// The expected outputs, where Burn's CPU backend cannot compute them.
    expected: Option<Vec<TensorData>>,
    /// First operator set with this configuration, if it is later than that of its kind.
    since: Option<u32>,
}

/// How close numbers must be.
#[derive(Clone, Copy)]
enum Close {
    /// Largest difference, in units of the larger of 1 and the number. NaN equals NaN, and an infinity equals itself.
    Within(f64),
    /// Equal bit for bit, including the sign of zero.
    Exact,
}

/// A module without parameters: all values of a case are inputs.
#[derive(Module, Debug)]
struct Nothing {
    unit: (),
}

/// A case whose numbers may differ by rounding.
pub fn case<I, O>(
    name: impl Into<String>,
    inputs: impl Into<Vec<TensorData>>,
    forward: impl Fn(I) -> O + Clone + 'static,
) -> Case
where
    I: Inputs + 'static,
    O: Outputs + 'static,
{
    let name = name.into();
    let inputs = inputs.into();
    let (title, shapes) = (name.clone(), inputs.clone());
    let export = move |opset: u32, optimise: bool| {
        let mut exporter = Exporter::new(&title).opset(opset).optimise(optimise);
        for (index, (signature, data)) in I::signatures().into_iter().zip(&shapes).enumerate() {
            let axes: Vec<Axis> = data.shape().iter().map(|&size| Axis::Size(size)).collect();
            let input = format!("x{index}");
            exporter = match signature.kind {
                Kind::Int => exporter.integers(input, axes, 0, 1),
                Kind::Float | Kind::Bool => exporter.input(input, axes),
            };
        }
        let forward = forward.clone();
        exporter.export(&Nothing { unit: () }, move |_: &Nothing, inputs: I| forward(inputs))
    };
    Case { name, inputs, export: Box::new(export), close: Close::Within(1e-5), expected: None, since: None }
}

impl Case {
    /// Requires bit-for-bit equality, including signs of zeros.
    pub fn exact(self) -> Self {
        Self { close: Close::Exact, ..self }
    }

    /// Sets another tolerance.
    pub fn within(self, tolerance: f64) -> Self {
        Self { close: Close::Within(tolerance), ..self }
    }

    /// Sets the expected outputs, for functions that Burn's CPU backend cannot compute.
    pub fn expecting(self, outputs: impl Into<Vec<TensorData>>) -> Self {
        Self { expected: Some(outputs.into()), ..self }
    }

    /// Expects a refusal before this operator set.
    pub fn since(self, opset: u32) -> Self {
        Self { since: Some(opset), ..self }
    }

    /// First operator set of the case according to the public table.
    fn first_opset(&self, model: &ExportedModel) -> u32 {
        let since = |kind: String| {
            operation_kinds().find(|known| known.to_string() == kind).map_or(0, |known| match known.support {
                Support::Lowered { since, .. } => since,
                _ => 0,
            })
        };
        let kinds = model.operations().iter().map(|operation| since(operation.kind()));
        kinds.chain(self.since).max().unwrap_or(*OPSETS.start())
    }

    /// Failures of the case, by operator set.
    fn failures(&self) -> Vec<String> {
        let last = *OPSETS.end();
        let newest = match (self.export)(last, false) {
            Ok(model) => model,
            Err(error) => return vec![format!("{}: {error}", self.name)],
        };
        let first = self.first_opset(&newest);
        let expected = self.expected.clone().unwrap_or_else(|| newest.reference(self.inputs.clone()));
        let mut failures = vec![];
        let mut opsets = vec![17, first - 1, first, 20, last];
        opsets.retain(|opset| OPSETS.contains(opset));
        opsets.sort_unstable();
        opsets.dedup();
        for (opset, optimise) in opsets.into_iter().map(|opset| (opset, false)).chain([(20.max(first), true)]) {
            let result = (self.export)(opset, optimise);
            let problem = match result {
                Err(ExportError::Unsupported(refusals)) if opset < first => {
                    let named =
                        refusals.iter().all(|refusal| refusal.reason.contains(&format!("operator set {first}")));
                    (!named).then(|| format!("refused without naming operator set {first}: {refusals:?}"))
                }
                Ok(_) if opset < first => Some("exported for an operator set that lacks it".into()),
                Err(error) => Some(error.to_string()),
                Ok(model) => match session::run(&model, &self.inputs) {
                    Err(error) => Some(format!("ONNX Runtime: {error}")),
                    Ok(found) => self.difference(&expected, &found),
                },
            };
            let form = if optimise { "optimised" } else { "as recorded" };
            failures.extend(problem.map(|problem| format!("{} at {opset}, {form}: {problem}", self.name)));
        }
        failures
    }

    fn difference(&self, expected: &[TensorData], found: &[TensorData]) -> Option<String> {
        if expected.len() != found.len() {
            return Some(format!("{} outputs, {} expected", found.len(), expected.len()));
        }
        expected.iter().zip(found).enumerate().find_map(|(index, (expected, found))| {
            if expected.shape() != found.shape() || !same_type(expected.dtype(), found.dtype()) {
                let describe = |data: &TensorData| format!("{:?} {:?}", data.dtype(), data.shape());
                return Some(format!("output {index} is {}, {} expected", describe(found), describe(expected)));
            }
            let pairs = expected.iter::<f64>().zip(found.iter::<f64>());
            let wrong = |&(a, b): &(f64, f64)| {
                let same = a == b || (a.is_nan() && b.is_nan());
                match self.close {
                    Close::Exact => !same || (a == 0.0 && a.is_sign_negative() != b.is_sign_negative()),
                    Close::Within(limit) => {
                        let distance = (a - b).abs() / a.abs().max(1.0);
                        !same && (distance.is_nan() || distance > limit)
                    }
                }
            };
            let (at, (a, b)) = pairs.enumerate().find(|(_, pair)| wrong(pair))?;
            Some(format!("output {index} has {b:?} at {at}, {a:?} expected"))
        })
    }
}

/// Burn's devices store booleans in several ways, and integers without a type of their own in 32 or 64 bits.
fn same_type(a: DType, b: DType) -> bool {
    let free = |dtype: DType| match dtype {
        DType::Bool(_) => 1,
        DType::I32 | DType::I64 => 2,
        _ => 0,
    };
    a == b || (free(a) > 0 && free(a) == free(b))
}

/// Runs all cases and reports every failing one.
fn run(cases: Vec<Case>) {
    let failures: Vec<String> = cases.iter().flat_map(Case::failures).collect();
    assert!(failures.is_empty(), "{} of {} rows fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

/// Floats.
pub fn floats<const D: usize>(shape: [usize; D], values: &[f32]) -> TensorData {
    TensorData::new(values.to_vec(), shape)
}

/// Integers.
pub fn integers<const D: usize>(shape: [usize; D], values: &[i64]) -> TensorData {
    TensorData::new(values.to_vec(), shape)
}

/// Booleans, each given as 0 or 1.
pub fn truths<const D: usize>(shape: [usize; D], values: &[u8]) -> TensorData {
    let values: Vec<bool> = values.iter().map(|&value| value != 0).collect();
    TensorData::new(values, shape).convert_dtype(DType::Bool(BoolStore::Native))
}

/// Reproducible values in [-1, 1), different for each name.
pub fn noise<const D: usize>(name: &str, shape: [usize; D]) -> TensorData {
    let values: Vec<f32> = fill::unit(name, shape.iter().product()).map(|u| (2.0 * u - 1.0) as f32).collect();
    TensorData::new(values, shape)
}

/// Special values of arithmetic.
pub fn edges() -> TensorData {
    const EDGES: [f32; 14] =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -2.5, 3e38, -1e-40, 7.25];
    floats([EDGES.len()], &EDGES)
}

/// Short names for the tensors of the cases.
type F<const D: usize> = Tensor<D>;
type I<const D: usize> = Tensor<D, Int>;
type B<const D: usize> = Tensor<D, Bool>;

/// All cases, for the test of the public table.
fn all() -> Vec<Case> {
    [
        activations::cases(),
        attention::cases(),
        bits::cases(),
        convolutions::cases(),
        functions::cases(),
        movement::cases(),
        numbers::cases(),
        poolings::cases(),
        random::cases(),
        reductions::cases(),
        sampling::cases(),
        scattering::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
