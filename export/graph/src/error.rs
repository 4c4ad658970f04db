//! Why a graph cannot be written or run.

/// What is wrong with a graph, its file or the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph breaks a rule of ONNX.
    #[error("the graph is malformed at `{node}`: {rule}")]
    Malformed {
        /// Node or value.
        node: String,
        /// The rule it breaks.
        rule: String,
    },
    /// A protobuf file ends at 2 GiB.
    #[error("the model has {bytes} bytes, {limit} fit into one ONNX file")]
    TooLarge {
        /// Bytes of the constants, or of the file.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// Our own reader refuses what we wrote.
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
    /// ONNX Runtime cannot be found or loaded.
    #[cfg(feature = "run")]
    #[error("{}", onnxruntime::advice(path))]
    RuntimeMissing {
        /// Library that was tried.
        path: std::path::PathBuf,
        /// What loading said.
        cause: String,
    },
    /// The variable that names ONNX Runtime is wrong.
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
