//! The reasons why a graph cannot be written or run.

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
        rule: String,
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
