//! The reasons why a graph cannot be written or run.

use crate::tensor::DType;

/// A rule of ONNX that a graph breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rule {
    /// Two nodes, or two values, share the name.
    #[error("its name is used twice")]
    NameTwice,
    /// A node comes before the one that writes its input, or nobody does.
    #[error("it reads `{value}` before it is written")]
    Unwritten {
        /// The input.
        value: String,
    },
    /// Two nodes write one value, or one without a name.
    #[error("its output `{value}` is written twice or has no name")]
    WrittenTwice {
        /// The output.
        value: String,
    },
    /// Too few or too many inputs.
    #[error("{found} inputs, {least} to {most} allowed")]
    Inputs {
        /// Inputs of the node.
        found: usize,
        /// Fewest of its operator.
        least: usize,
        /// Most of its operator.
        most: usize,
    },
    /// The operator is newer than the operator set.
    #[error("{operator} needs operator set {since}, but the graph is for {opset}")]
    Opset {
        /// The operator.
        operator: String,
        /// First operator set that has it.
        since: u32,
        /// Operator set of the graph.
        opset: u32,
    },
    /// Operands of different types.
    #[error("its inputs are {left:?} and {right:?}, but must have one type; cast one of them")]
    Types {
        /// Type of the first.
        left: DType,
        /// Type of the second.
        right: DType,
    },
    /// A shape operand of another type than 64-bit integers.
    #[error("input {position} must hold 64-bit integers")]
    ShapeType {
        /// Index of the input.
        position: usize,
    },
    /// Axes that are not each there once.
    #[error("{order:?} is not a permutation of axes")]
    Order {
        /// The axes.
        order: Vec<i64>,
    },
    /// An output that nobody writes, or that is listed twice.
    #[error("an output must be written by a node, and listed once")]
    Output,
    /// No output at all.
    #[error("a graph needs an output")]
    NoOutput,
    /// Two inputs share a name.
    #[error("two inputs share a name")]
    SharedInput,
    /// A file without a graph.
    #[error("it has no graph")]
    NoGraph,
}

/// An error of a graph, its file or the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph breaks a rule of ONNX.
    #[error("the graph is malformed at `{node}`: {rule}")]
    Malformed {
        /// Node or value.
        node: String,
        /// The broken rule.
        rule: Rule,
    },
    /// The model exceeds protobuf's limit of 2 GiB.
    #[error("the model has {bytes} bytes, but one ONNX file holds at most {limit}")]
    TooLarge {
        /// Bytes of the constants or of the whole file.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Our own reader refuses the encoded model.
    #[error("the encoded model does not read back")]
    ReadBack(
        /// The cause.
        #[source]
        Box<onnx::ModelFileError>,
    ),
    /// The file of weights cannot be written.
    #[error(transparent)]
    Write(
        /// The cause.
        #[from]
        files::WriteError,
    ),
    /// Ranges of values are to be seen in no run.
    #[error("no calibration inputs")]
    NoCalibration,
    /// ONNX Runtime cannot be found or loaded.
    #[cfg(feature = "run")]
    #[error("{}: {cause}", onnxruntime::advice(path))]
    RuntimeMissing {
        /// Library that was tried.
        path: std::path::PathBuf,
        /// The loader's message.
        cause: String,
    },
    /// The environment variable that names ONNX Runtime is wrong.
    #[cfg(feature = "run")]
    #[error(transparent)]
    RuntimePath(
        /// The cause.
        #[from]
        onnxruntime::RuntimeError,
    ),
    /// ONNX Runtime refuses the model or fails to run it.
    #[cfg(feature = "run")]
    #[error("onnx runtime {doing} failed")]
    Runtime {
        /// `loading the model`, …
        doing: &'static str,
        /// The cause.
        #[source]
        source: ort::Error,
    },
}
