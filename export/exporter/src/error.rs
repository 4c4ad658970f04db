//! The reasons an export can fail: one enum, whose variants hold the fields of their message.

use std::fmt;
use std::path::PathBuf;

use graph::Dim;
use serde::Serialize;

/// An error and its causes in one line, the most specific last. Programs have this from `terminal`, which a library
/// without progress bars does not need.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.map(ToString::to_string).fold(error.to_string(), |said, cause| match said.contains(&cause) {
        true => said,
        false => format!("{said}: {cause}"),
    })
}

/// An operation that cannot be written as ONNX, and its module.
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

/// Where a model starts to differ from its reference.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Divergence {
    /// At this node: its inputs agree, its output does not.
    Node {
        /// Name of the node: a module path if the node carries a module's weights.
        node: String,
        /// Operator of the node.
        operator: String,
        /// Largest absolute difference of its output; infinite if shapes differ or only one side is finite.
        max_abs: f64,
        /// Largest absolute value expected there.
        scale: f64,
    },
    /// At no node, as long as ONNX Runtime runs the graph as written. If its results still differ, its own
    /// optimisation changes them.
    Nowhere,
    /// The search failed.
    Unknown {
        /// Why it failed.
        cause: String,
    },
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Divergence::Node { node, operator, max_abs, scale } => {
                write!(
                    f,
                    "the first node that differs is `{node}` ({operator}), by {max_abs:.1e} where values reach \
                     {scale:.1e}"
                )
            }
            Divergence::Nowhere => f.write_str(
                "no node differs when ONNX Runtime runs the graph as written: its own optimisation causes the \
                 difference",
            ),
            Divergence::Unknown { cause } => write!(f, "the first differing node was not found: {cause}"),
        }
    }
}

/// What is wrong with a certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// Another layout.
    #[error("it has version {found}, this program reads {read}")]
    Version {
        /// Version in the file.
        found: u64,
        /// The version that is read.
        read: u32,
    },
    /// No layout is named.
    #[error("it has no `version`")]
    NoVersion,
    /// It is not JSON, or a field is absent or of another form.
    #[error("{0}")]
    Malformed(
        /// The cause.
        serde_json::Error,
    ),
}

/// Why a module was not exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// Something else where a bundle was looked for.
    #[error("`{}` is no bundle: {found}; the folder of one is needed, with model.onnx and certificate.json",
        path.display())]
    NoBundle {
        /// Where it was looked for.
        path: PathBuf,
        /// What is there.
        found: String,
    },
    /// An input was declared with another rank than the forward function expects.
    #[error("input `{input}` is declared with rank {declared}, but the forward function expects rank {expected}")]
    InputRank {
        /// Name of the input.
        input: String,
        /// Rank declared to the exporter.
        declared: usize,
        /// Rank that the function expects.
        expected: usize,
    },
    /// The number of names differs from the number of tensors.
    #[error("{declared} {what} names are declared, but the forward function has {found} {what}s")]
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
        /// The requested operator set.
        found: u32,
    },
    /// The sizes of a dynamic axis cannot be used.
    #[error("axis `{symbol}`: {found}; {allowed}")]
    Sizes {
        /// The symbol.
        symbol: String,
        /// What was declared.
        found: String,
        /// What is allowed.
        allowed: String,
    },
    /// The declared values of an input cannot be used.
    #[error("input `{input}` is declared to take {found}; {allowed} are allowed")]
    Range {
        /// Name of the input.
        input: String,
        /// What was declared.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// The forward function panicked while it was recorded.
    #[error(
        "the forward function cannot be recorded at {sizes}: {message}; declare the sizes that an axis takes with \
         `Exporter::sizes`, and do not read computed values while recording"
    )]
    Trace {
        /// Sizes of the symbols: `batch 2, height 64`.
        sizes: String,
        /// The panic's message.
        message: String,
    },
    /// The forward function records different operations when its inputs have other values.
    #[error(
        "the forward function reads the values of its inputs while it is recorded, or changes from call to call: \
         {detail}; the model would be right for the recorded values only"
    )]
    ReadsInput {
        /// What differs.
        detail: String,
    },
    /// The module panicked while Burn computed the expected outputs.
    #[error(
        "the module cannot compute its outputs at {sizes}: {message}; declare the sizes that an axis takes with \
         `Exporter::sizes`"
    )]
    Reference {
        /// Sizes of the symbols: `batch 7, height 101`.
        sizes: String,
        /// The panic's message.
        message: String,
    },
    /// Burn could not finish the recording.
    #[error("burn could not record the module: {cause}")]
    Capture {
        /// Burn's message.
        cause: String,
    },
    /// Traces at two sizes hold different operations.
    #[error(
        "the module computes differently at different sizes: after `{module}`, operation {index} is {first}, \
         but {second}"
    )]
    Diverged {
        /// Operation and sizes of the first trace: `Float::Exp at batch 2`.
        first: String,
        /// Operation and sizes of the second trace.
        second: String,
        /// Index of the operation.
        index: usize,
        /// Nearest named module before it.
        module: String,
    },
    /// The module returns different tensors at different sizes, although it records the same operations.
    #[error("the module returns different outputs at different sizes: at {first} and at {second}, {detail}")]
    OutputsDiffer {
        /// Sizes of the first trace: `batch 2`.
        first: String,
        /// Sizes of the second trace.
        second: String,
        /// Which output differs, and how.
        detail: String,
    },
    /// A number inside an operation depends on the size of an input. Written as a constant, it would be wrong at
    /// other sizes.
    #[error(
        "`{operation}` in `{module}` depends on the size of a dynamic axis: {detail}; make the axis fixed, or compute \
         the number from the tensor's shape"
    )]
    Baked {
        /// Burn's name of the operation.
        operation: String,
        /// Path of the module.
        module: String,
        /// What differs between traces.
        detail: String,
    },
    /// Operations without a lowering: all of them, in graph order.
    #[error("no ONNX lowering for {}", list(.0))]
    Unsupported(
        /// Each operation once per module.
        Vec<Refusal>,
    ),
    /// A parameter holds NaN or an infinity.
    #[error("parameter `{parameter}` holds {value} at element {index}; its outputs would be useless")]
    NotFinite {
        /// Path of the parameter.
        parameter: String,
        /// The value.
        value: f64,
        /// Row-major index of the first such element.
        index: usize,
    },
    /// The graph cannot be encoded or run.
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
    /// The bytes are not an ONNX model.
    #[error("the bytes are not an ONNX model")]
    Undecodable(
        /// The cause.
        #[source]
        Box<onnx::DecodeError>,
    ),
    /// ONNX Runtime and Burn disagree on the same input.
    #[error(
        "`{output}` differs from Burn by {max_abs:.1e} ({limit:.1e} allowed), cosine {min_cosine:.7} \
         (at least {min_allowed} required), at {sizes} on input `{seed}`; {}",
        located(first.as_deref())
    )]
    Parity {
        /// Name of the output.
        output: String,
        /// Largest absolute difference; infinite when only one of the two is finite.
        max_abs: f64,
        /// Largest allowed difference.
        limit: f64,
        /// Smallest cosine of a row.
        min_cosine: f64,
        /// Smallest allowed cosine.
        min_allowed: f64,
        /// Sizes of the symbols: `batch 7, height 101`.
        sizes: String,
        /// Name of the input row with the worst difference.
        seed: String,
        /// Where the two start to differ; `None` if nobody searched.
        first: Option<Box<Divergence>>,
    },
    /// An output has another shape or type in ONNX Runtime than in Burn, or the number of outputs differs.
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
    /// Golden vectors are not defined for this kind of input.
    #[error(
        "golden vectors need float inputs: vectors of fixed size, or pictures whose sides are multiples of {block}; \
         `{input}` is {shape}"
    )]
    Golden {
        /// Name of the input.
        input: String,
        /// Its shape.
        shape: String,
        /// Edge of a block in pixels.
        block: usize,
    },
    /// The contract contradicts the model or itself.
    #[error("the contract does not fit the model: {problem}")]
    Contract {
        /// What contradicts.
        problem: String,
    },
    /// A file is not a valid certificate.
    #[error("the certificate `{}` is refused: {problem}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: CertificateProblem,
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
    first.map_or_else(|| "the first differing node was not searched for".into(), Divergence::to_string)
}

/// A shape as text for messages: `[batch, 3, 384, 128]`.
pub(crate) fn shape_text(dims: &[Dim]) -> String {
    format!("[{}]", dims.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "))
}
