//! Why an export fails: one enum, each variant holds the fields of its sentence.

use std::fmt;
use std::path::PathBuf;

use graph::Dim;
use serde::Serialize;

/// An operation that cannot be written as ONNX, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Burn's name: `Module::Conv2d`.
    pub operation: String,
    /// Path of the module it belongs to, or of the nearest one before it.
    pub module: String,
    /// What is missing.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` in `{}` ({})", self.operation, self.module, self.reason)
    }
}

fn list(refusals: &[Refusal]) -> String {
    refusals.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; ")
}

/// Where a model begins to differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Divergence {
    /// At a node: what it reads agrees, what it writes does not.
    Node {
        /// Its name, a module path where it carries a module's weights.
        node: String,
        /// Its operator.
        operator: String,
        /// Largest absolute difference of what it writes; infinite if shapes differ or only one value is finite.
        max_abs: f64,
        /// Largest absolute value that was expected there.
        scale: f64,
    },
    /// At none, while ONNX Runtime leaves the graph as it is written. Where its answers differ all the same, its own
    /// optimisation changes them.
    Nowhere,
    /// It could not be found out.
    Unknown {
        /// Why.
        cause: String,
    },
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Divergence::Node { node, operator, max_abs, scale } => {
                write!(
                    f,
                    "the first node that differs is `{node}` ({operator}), by {max_abs:.1e} where values reach {scale:.1e}"
                )
            }
            Divergence::Nowhere => f.write_str(
                "no node differs while ONNX Runtime leaves the graph as written: its own optimisation does it",
            ),
            Divergence::Unknown { cause } => write!(f, "the first node was not found: {cause}"),
        }
    }
}

/// Why a module was not exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The declared inputs do not fit what the forward function takes.
    #[error("input `{input}` is declared with rank {declared}, the forward function takes rank {taken}")]
    InputRank {
        /// Name of the input.
        input: String,
        /// Rank declared to the exporter.
        declared: usize,
        /// Rank of the tensor the function takes.
        taken: usize,
    },
    /// More or fewer names than tensors.
    #[error("{declared} {what} names declared, the forward function has {found}")]
    Count {
        /// `input` or `output`.
        what: &'static str,
        /// Names declared to the exporter.
        declared: usize,
        /// Tensors of the function.
        found: usize,
    },
    /// Two inputs or outputs share a name.
    #[error("the name `{name}` is declared twice; inputs and outputs need different names")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The operator set is outside the range we write.
    #[error("operator set {found} is not supported; {} to {} are", crate::OPSETS.start(), crate::OPSETS.end())]
    Opset {
        /// The one asked for.
        found: u32,
    },
    /// A dynamic axis whose sizes cannot be used.
    #[error("axis `{symbol}`: {found}; {allowed}")]
    Sizes {
        /// The symbol.
        symbol: String,
        /// What was said of it.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// Values of an input that cannot be used.
    #[error("input `{input}` is declared to take {found}; {allowed} are allowed")]
    Range {
        /// Name of the input.
        input: String,
        /// What was said of it.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The forward function panicked while it was recorded.
    #[error(
        "the forward function cannot be recorded at {sizes}: {message}; `Exporter::sizes` says which sizes an axis takes, and \
         computed values cannot be read while recording"
    )]
    Trace {
        /// Sizes of the symbols: `batch 2, height 64`.
        sizes: String,
        /// The panic's message.
        message: String,
    },
    /// The forward function records something else when its inputs have other values.
    #[error(
        "the forward function reads the values of its inputs while it is recorded, or is not the same each time: {detail}; the \
         model would answer for the recorded values only"
    )]
    ReadsInput {
        /// What differs.
        detail: String,
    },
    /// The module panicked while Burn computed what the model is compared with.
    #[error(
        "the module cannot compute what to compare with at {sizes}: {message}; `Exporter::sizes` says which sizes an axis takes"
    )]
    Reference {
        /// Sizes of the symbols: `batch 7, height 101`.
        sizes: String,
        /// The panic's message.
        message: String,
    },
    /// Burn could not close the recording.
    #[error("burn could not record the module: {cause}")]
    Capture {
        /// What it said.
        cause: String,
    },
    /// Two recordings with other sizes have other operations.
    #[error(
        "the module computes differently at different sizes: operation {index} is {first}, but {second}, after `{module}`"
    )]
    Diverged {
        /// Operation and sizes of the first recording: `Float::Exp at batch 2`.
        first: String,
        /// Operation and sizes of the second recording.
        second: String,
        /// Index of the operation.
        index: usize,
        /// Nearest named module before it.
        module: String,
    },
    /// Two recordings at different sizes return different tensors, although they compute the same.
    #[error("the module returns different outputs at different sizes: at {first} and at {second}, {detail}")]
    OutputsDiffer {
        /// Sizes of the first recording: `batch 2`.
        first: String,
        /// Sizes of the second recording.
        second: String,
        /// Which output, and what differs.
        detail: String,
    },
    /// A number inside an operation follows an input's size; writing it down would bake that size in.
    #[error(
        "`{operation}` in `{module}` depends on the size of a dynamic axis: {detail}; make the axis fixed, or compute it from the tensor's shape"
    )]
    Baked {
        /// Burn's name of the operation.
        operation: String,
        /// Path of the module.
        module: String,
        /// What differs between recordings.
        detail: String,
    },
    /// Operations without a lowering, all of them, in graph order.
    #[error("no ONNX lowering for {}", list(.0))]
    Unsupported(
        /// Each operation once per module.
        Vec<Refusal>,
    ),
    /// A parameter holds NaN or an infinity.
    #[error("parameter `{parameter}` holds {value} at element {index}; such a model answers nothing useful")]
    NotFinite {
        /// Path of the parameter.
        parameter: String,
        /// The value.
        value: f64,
        /// Row-major index of the first such element.
        index: usize,
    },
    /// The graph cannot be written or run.
    #[error(transparent)]
    Graph(
        /// The cause.
        #[from]
        graph::Error,
    ),
    /// ONNX has no type for the elements of an input.
    #[error("input `{input}` holds {dtype}, for which ONNX has no type")]
    Feed {
        /// Name of the input.
        input: String,
        /// Burn's name of the element type.
        dtype: String,
    },
    /// Bytes are no model at all.
    #[error("the bytes are no ONNX model")]
    Undecodable(
        /// The cause.
        #[source]
        Box<onnx::DecodeError>,
    ),
    /// ONNX Runtime and Burn disagree on the same input.
    #[error(
        "`{output}` differs from Burn by {max_abs:.1e} ({limit:.1e} allowed), cosine {min_cosine:.7} ({min_allowed} at least), at {sizes} on input `{seed}`; {}", located(first.as_deref())
    )]
    Parity {
        /// Name of the output.
        output: String,
        /// Largest absolute difference; infinite when only one of the two is finite.
        max_abs: f64,
        /// Largest allowed.
        limit: f64,
        /// Smallest cosine of a row.
        min_cosine: f64,
        /// Smallest allowed.
        min_allowed: f64,
        /// Sizes of the symbols: `batch 7, height 101`.
        sizes: String,
        /// Name of the input tensor whose row is worst.
        seed: String,
        /// Where the two begin to differ; `None` if it was not looked for.
        first: Option<Box<Divergence>>,
    },
    /// An output has another shape or type in ONNX Runtime than in Burn, or there are more or fewer of them.
    #[error("`{output}` is {found} in ONNX Runtime and {expected} in Burn, at {sizes}")]
    OutputForm {
        /// Name of the output.
        output: String,
        /// Type and shape in ONNX Runtime.
        found: String,
        /// Type and shape in Burn.
        expected: String,
        /// Sizes of the symbols.
        sizes: String,
    },
    /// An input that golden vectors are not defined for.
    #[error(
        "golden vectors need float inputs: numbers of fixed size, or pictures that blocks of {block} tile; `{input}` is {shape}"
    )]
    Golden {
        /// Name of the input.
        input: String,
        /// Its shape.
        shape: String,
        /// Edge of a block.
        block: usize,
    },
    /// The contract contradicts the model or itself.
    #[error("the contract does not fit the model: {problem}")]
    Contract {
        /// What contradicts.
        problem: String,
    },
    /// A certificate cannot be read as one.
    #[error("the certificate `{}` is refused: {problem}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file of a bundle cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The folder of the bundle cannot be locked.
    #[error(transparent)]
    Lock(
        /// The cause.
        #[from]
        files::lock::LockError,
    ),
    /// A file of the bundle cannot be written.
    #[error(transparent)]
    Write(
        /// The cause.
        #[from]
        files::WriteError,
    ),
}

fn located(first: Option<&Divergence>) -> String {
    first.map_or_else(|| "the first node was not looked for".into(), Divergence::to_string)
}

/// A shape for people: `[batch, 3, 384, 128]`.
pub(crate) fn shape_text(dims: &[Dim]) -> String {
    format!("[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "))
}
