//! Gives every network of our tests to burn-onnx's exporter and keeps what it makes of them.
//!
//! usage: burn_onnx_exports FOLDER
//!
//! Writes `NAME.onnx` for each network that it exports, and `table.json`: what became of each network, and the kinds of
//! operations that it has a lowering for. Exit 0 done, 2 error.

#[path = "../../../export/tests/burn_onnx/by_path.rs"]
mod by_path;
#[path = "../../../export/tests/burn_onnx/list.rs"]
mod list;
#[path = "../../../export/tests/networks/mod.rs"]
mod networks;
#[path = "../../../export/tests/burn_onnx/plain.rs"]
mod plain;
mod taken;
#[path = "../../../export/tests/weights.rs"]
mod weights;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use burn::module::Module;
use burn_onnx::export::{AxisSpec, InputSpec, OnnxExporter};
use onnx::{Message, ModelProto};
use serde_json::{Value, json};

use burn_onnx::export::ExportOutput as Given;
use by_path::weights_by_path;
use list::{Input, Visitor};
use taken::Taken;
use weights::{filled, known};

/// The version that Cargo.toml pins.
const VERSION: &str = "0.22.0";

/// Kinds of operations that this version lowers, counted in its source: the variants of `OperationIr` for which the
/// four functions `lower` in `src/export/lower/{base,numeric,module,direct}.rs` give something else than `Ok(false)`.
/// Operations on floats, integers and truth values share `Base` and `Numeric`. Some are lowered in part:
/// `AdaptiveAvgPool2d` to 1×1 only, `Interpolate` not by Lanczos.
const KINDS: [&str; 40] = [
    "Base::Cat",
    "Base::Ones",
    "Base::Reshape",
    "Base::Scatter",
    "Base::Select",
    "Base::Slice",
    "Base::Zeros",
    "Numeric::Abs",
    "Numeric::Add",
    "Numeric::AddScalar",
    "Numeric::ArgMax",
    "Numeric::ArgMin",
    "Numeric::Div",
    "Numeric::DivScalar",
    "Numeric::Full",
    "Numeric::MaxDimWithIndices",
    "Numeric::MinDimWithIndices",
    "Numeric::Mul",
    "Numeric::MulScalar",
    "Numeric::Neg",
    "Numeric::Pad",
    "Numeric::Sub",
    "Numeric::SubScalar",
    "Numeric::SumDim",
    "Int::Matmul",
    "Float::Exp",
    "Float::Log",
    "Float::Matmul",
    "Float::Sqrt",
    "Float::Tanh",
    "Activation::Relu",
    "Activation::Sigmoid",
    "Module::AdaptiveAvgPool2d",
    "Module::AvgPool2d",
    "Module::BatchNorm",
    "Module::Conv1d",
    "Module::Conv2d",
    "Module::Interpolate",
    "Module::Linear",
    "Module::MaxPool2d",
];

/// Batch size of models that it exports for one size only.
const FIXED: usize = 3;

/// Model files above this many bytes are kept without the network's own weights, which follow from its paths.
const LARGE: usize = 100 << 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = arguments.as_slice() else {
        eprintln!("usage: burn_onnx_exports FOLDER");
        return ExitCode::from(2);
    };
    // Panics of the exporter are in the table.
    std::panic::set_hook(Box::new(|_| ()));
    let mut exports = Exports { folder: folder.into(), rows: vec![], failure: None };
    list::others(&mut exports);
    list::persons(&mut exports);
    list::faces(&mut exports);
    list::palms(&mut exports);
    match exports.finish() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

struct Exports {
    folder: PathBuf,
    rows: Vec<Value>,
    failure: Option<anyhow::Error>,
}

impl Visitor for Exports {
    fn visit<M, I, O>(&mut self, name: &'static str, new: fn() -> M, inputs: &[Input], forward: fn(&M, I) -> O)
    where
        M: Module + 'static,
        I: Taken + 'static,
        O: Given + 'static,
    {
        let row = match any_batch(new, inputs, forward) {
            Ok(model) => self.keep(name, &new(), &model, json!({ "batch": "any" })),
            Err(no_batch) => match fixed_batch(new, inputs, forward) {
                Ok(model) => self.keep(name, &new(), &model, json!({ "batch": FIXED, "any_batch": no_batch })),
                Err(refusal) => Ok(json!({ "because": kind(&refusal), "refusal": refusal })),
            },
        };
        match row {
            Ok(mut row) => {
                row["network"] = name.into();
                eprintln!("{name}: {}", row.get("because").unwrap_or(&row["nodes"]));
                self.rows.push(row);
            }
            Err(error) => self.failure = Some(error.context(format!("network `{name}`"))),
        }
    }
}

impl Exports {
    /// Writes the model file, and completes its row.
    fn keep<M: Module>(&self, name: &str, net: &M, bytes: &[u8], mut row: Value) -> anyhow::Result<Value> {
        let mut model = ModelProto::decode(bytes).context("what burn-onnx wrote cannot be read")?;
        let graph = model.graph.as_mut().context("what burn-onnx wrote has no graph")?;
        row["nodes"] = graph.node.len().into();
        row["opset"] = model.opset_import.first().map(|set| set.version).into();
        row["weights"] = "inside".into();
        let mut bytes = bytes.to_vec();
        if bytes.len() > LARGE {
            let own = weights_by_path(net);
            for tensor in &mut graph.initializer {
                if own.get(&tensor.name).is_some_and(|data| *data.as_bytes() == tensor.raw_data) {
                    tensor.raw_data = vec![];
                }
            }
            row["weights"] = "left out".into();
            bytes = model.encode_to_vec();
        }
        ensure!(bytes.len() <= 2 * LARGE, "{} bytes are too much to keep", bytes.len());
        files::write(&self.folder.join(format!("{name}.onnx")), &bytes)?;
        Ok(row)
    }

    fn finish(self) -> anyhow::Result<()> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let table = json!({ "burn_onnx": VERSION, "kinds": KINDS.as_slice(), "networks": self.rows });
        let text = serde_json::to_string_pretty(&table)? + "\n";
        Ok(files::write(Path::new(&self.folder).join("table.json").as_path(), text)?)
    }
}

/// The model with a first axis of any size.
fn any_batch<M: Module, I: Taken, O: Given>(
    new: fn() -> M,
    inputs: &[Input],
    forward: fn(&M, I) -> O,
) -> Result<Vec<u8>, String> {
    let spec = |input: &Input| {
        let fixed = input.row.iter().map(|_| AxisSpec::Static);
        InputSpec::new(std::iter::once(AxisSpec::dynamic("batch")).chain(fixed).collect::<Vec<_>>())
    };
    let specs: Vec<InputSpec> = inputs.iter().map(spec).collect();
    let sample = |batch| I::zeros(&mut inputs.iter(), batch);
    told(|| OnnxExporter::new().export_dynamic(&new().valid(), sample(2), sample(FIXED), &specs, forward))
}

/// The model for [`FIXED`] rows.
fn fixed_batch<M: Module, I: Taken, O: Given>(
    new: fn() -> M,
    inputs: &[Input],
    forward: fn(&M, I) -> O,
) -> Result<Vec<u8>, String> {
    told(|| OnnxExporter::new().export(&new().valid(), I::zeros(&mut inputs.iter(), FIXED), forward))
}

/// The model's bytes, or why there are none.
fn told(
    export: impl FnOnce() -> Result<burn_onnx::export::OnnxModel, burn_onnx::export::ExportError>,
) -> Result<Vec<u8>, String> {
    match catch_unwind(AssertUnwindSafe(export)) {
        Ok(Ok(model)) => Ok(model.into_bytes()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            Err(format!("panicked: {text}"))
        }
    }
}

/// The kind of operation in a refusal such as `unsupported operation at index 3: NumericFloat(F32,
/// MaxDim(ReduceDimOpIr {…`; the whole text if it is another.
fn kind(refusal: &str) -> String {
    let parts = || {
        let (_, operation) = refusal.strip_prefix("unsupported operation at index ")?.split_once(": ")?;
        let (group, operation) = operation.split_once('(')?;
        // A data type comes before the operation where there is one.
        let operation = match operation.split_once(", ") {
            Some((dtype, rest)) if dtype.chars().all(char::is_alphanumeric) => rest,
            _ => operation,
        };
        let name = operation.split(['(', ' ', ')', '{']).next()?;
        Some(format!("{group}::{name}"))
    };
    parts().unwrap_or_else(|| refusal.to_owned())
}
