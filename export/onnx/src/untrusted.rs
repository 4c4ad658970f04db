//! Reads a model file nobody vouches for. ONNX Runtime follows external-data paths wherever they lead and allocates what
//! a shape claims, so both are checked here first.

use std::path::{Component, Path, PathBuf};

use prost::Message;

use crate::{DataLocation, GraphProto, ModelProto, NodeProto, TensorProto};

/// What a model file may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest model file in bytes, external data not counted. Protobuf itself ends at 2 GiB.
    pub file_bytes: u64,
    /// Deepest nesting of subgraphs (`If`, `Loop`).
    pub graph_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 2 << 30, graph_depth: 16 }
    }
}

/// Why a model file was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelFileError {
    /// The file cannot be read.
    #[error("cannot read model `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is larger than [`Limits::file_bytes`].
    #[error("model `{}` has {found} bytes, {allowed} allowed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The limit in bytes.
        allowed: u64,
    },
    /// The bytes are no ONNX model, or end early.
    #[error("`{}` is not an ONNX model or is truncated ({found} bytes)", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// Decodable, but without a graph, nodes or outputs: another protobuf file, or an empty one.
    #[error("`{}` holds no ONNX graph: {what}", path.display())]
    NoGraph {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// An external tensor points outside the model's folder.
    #[error("model `{}`: tensor `{tensor}` wants external data at `{location}`; only a file in the model's own folder is allowed", path.display())]
    ExternalPath {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The location as written in the file.
        location: String,
    },
    /// An external tensor's file is missing or shorter than the model says.
    #[error("model `{}`: external data of tensor `{tensor}` at `{location}`: {problem}", path.display())]
    ExternalData {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The location as written in the file.
        location: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor's shape is negative, overflows, or does not match its data.
    #[error("model `{}`: tensor `{tensor}` has shape {dims:?} but {problem}", path.display())]
    TensorShape {
        /// The model file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape as written.
        dims: Vec<i64>,
        /// What is wrong with it.
        problem: String,
    },
    /// Subgraphs nested deeper than [`Limits::graph_depth`].
    #[error("model `{}` nests subgraphs deeper than {allowed} levels", path.display())]
    Depth {
        /// The model file.
        path: PathBuf,
        /// The limit.
        allowed: usize,
    },
}

/// Reads and checks the model file at `path`.
///
/// # Errors
/// See [`ModelFileError`].
pub fn read(path: &Path, limits: &Limits) -> Result<(ModelProto, Vec<u8>), ModelFileError> {
    let unreadable = |source| ModelFileError::Read { path: path.to_owned(), source };
    let found = std::fs::metadata(path).map_err(unreadable)?.len();
    if found > limits.file_bytes {
        return Err(ModelFileError::TooLarge { path: path.to_owned(), found, allowed: limits.file_bytes });
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let model = parse(&bytes, path, limits)?;
    Ok((model, bytes))
}

/// Checks model bytes that came from `path`.
///
/// # Errors
/// See [`ModelFileError`].
pub fn parse(bytes: &[u8], path: &Path, limits: &Limits) -> Result<ModelProto, ModelFileError> {
    let model = ModelProto::decode(bytes).map_err(|source| ModelFileError::Malformed {
        path: path.to_owned(),
        found: bytes.len() as u64,
        source,
    })?;
    let missing = |what| ModelFileError::NoGraph { path: path.to_owned(), what };
    let graph = model.graph.as_ref().ok_or_else(|| missing("no graph"))?;
    if graph.output.is_empty() {
        return Err(missing("the graph has no output"));
    }
    if model.opset_import.is_empty() {
        return Err(missing("no operator set is named"));
    }
    let check = Check { path, limits };
    check.graph(graph, 0)?;
    for function in &model.functions {
        check.nodes(&function.node, 0)?;
    }
    Ok(model)
}

struct Check<'a> {
    path: &'a Path,
    limits: &'a Limits,
}

impl Check<'_> {
    fn graph(&self, graph: &GraphProto, depth: usize) -> Result<(), ModelFileError> {
        if depth > self.limits.graph_depth {
            return Err(ModelFileError::Depth { path: self.path.to_owned(), allowed: self.limits.graph_depth });
        }
        for tensor in &graph.initializer {
            self.tensor(tensor)?;
        }
        for sparse in &graph.sparse_initializer {
            for tensor in sparse.values.iter().chain(&sparse.indices) {
                self.tensor(tensor)?;
            }
        }
        self.nodes(&graph.node, depth)
    }

    fn nodes(&self, nodes: &[NodeProto], depth: usize) -> Result<(), ModelFileError> {
        for attribute in nodes.iter().flat_map(|node| &node.attribute) {
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                self.tensor(tensor)?;
            }
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                self.graph(graph, depth + 1)?;
            }
        }
        Ok(())
    }

    fn tensor(&self, tensor: &TensorProto) -> Result<(), ModelFileError> {
        let bad = |problem: String| ModelFileError::TensorShape {
            path: self.path.to_owned(),
            tensor: tensor.name.clone(),
            dims: tensor.dims.clone(),
            problem,
        };
        let elements = tensor
            .dims
            .iter()
            .try_fold(1u64, |product, &size| product.checked_mul(u64::try_from(size).ok()?))
            .ok_or_else(|| bad("sizes must be 0 or more and their product below 2^64".into()))?;
        if tensor.data_location == DataLocation::External as i32 {
            return self.external(tensor);
        }
        let Some(width) = element_bytes(tensor.data_type) else { return Ok(()) };
        let raw = tensor.raw_data.len() as u64;
        if raw > 0 && elements.checked_mul(width) != Some(raw) {
            return Err(bad(format!("{raw} bytes of data ({width} per element)")));
        }
        Ok(())
    }

    fn external(&self, tensor: &TensorProto) -> Result<(), ModelFileError> {
        let entry =
            |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        let location = entry("location").unwrap_or_default();
        let mut components = Path::new(location).components();
        let inside = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
            && !location.contains(['\\', ':', '\0']);
        if !inside {
            return Err(ModelFileError::ExternalPath {
                path: self.path.to_owned(),
                tensor: tensor.name.clone(),
                location: location.to_owned(),
            });
        }
        let bad = |problem: String| ModelFileError::ExternalData {
            path: self.path.to_owned(),
            tensor: tensor.name.clone(),
            location: location.to_owned(),
            problem,
        };
        let number = |key: &str| match entry(key) {
            None => Ok(0),
            Some(text) => text.parse::<u64>().map_err(|_| bad(format!("{key} `{text}` is not a number"))),
        };
        let (offset, length) = (number("offset")?, number("length")?);
        let file = self.path.with_file_name(location);
        // A symbolic link would lead out of the folder after all.
        let metadata = std::fs::symlink_metadata(&file).map_err(|error| bad(error.to_string()))?;
        if !metadata.is_file() {
            return Err(bad("not a regular file".into()));
        }
        match offset.checked_add(length) {
            Some(end) if end <= metadata.len() => Ok(()),
            _ => Err(bad(format!("bytes {offset}..+{length} of a file of {} bytes", metadata.len()))),
        }
    }
}

/// Bytes per element of a `DataType` number; none for strings, packed and unknown types.
fn element_bytes(data_type: i32) -> Option<u64> {
    use crate::DataType::*;
    Some(match crate::DataType::try_from(data_type).ok()? {
        Uint8 | Int8 | Bool | Float8E4M3Fn | Float8E4M3Fnuz | Float8E5M2 | Float8E5M2Fnuz => 1,
        Uint16 | Int16 | Float16 | Bfloat16 => 2,
        Float | Int32 | Uint32 => 4,
        Int64 | Double | Uint64 | Complex64 => 8,
        Complex128 => 16,
        Undefined | String | Uint4 | Int4 | Float4E2M1 => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OperatorSetIdProto, StringStringEntryProto, ValueInfoProto};

    fn model(initializer: TensorProto) -> Vec<u8> {
        ModelProto {
            ir_version: 10,
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 20 }],
            graph: Some(GraphProto {
                initializer: vec![initializer],
                output: vec![ValueInfoProto { name: "y".into(), ..Default::default() }],
                ..Default::default()
            }),
            ..Default::default()
        }
        .encode_to_vec()
    }

    fn external(location: &str) -> TensorProto {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        TensorProto {
            name: "w".into(),
            dims: vec![2],
            data_type: 1,
            data_location: DataLocation::External as i32,
            external_data: vec![entry("location", location), entry("length", "8")],
            ..Default::default()
        }
    }

    #[test]
    fn external_data_stays_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        for location in ["../secret", "/etc/passwd", "a/../../b", "sub/w.bin", "", "..", "C:\\w.bin"] {
            let error = parse(&model(external(location)), &path, &Limits::default()).unwrap_err();
            assert!(matches!(error, ModelFileError::ExternalPath { .. }), "{location}: {error}");
        }
        std::fs::write(folder.path().join("w.bin"), [0u8; 8]).unwrap();
        parse(&model(external("w.bin")), &path, &Limits::default()).unwrap();
        std::fs::write(folder.path().join("w.bin"), [0u8; 7]).unwrap();
        let error = parse(&model(external("w.bin")), &path, &Limits::default()).unwrap_err();
        assert!(error.to_string().contains("file of 7 bytes"), "{error}");
    }

    #[test]
    fn every_truncation_is_an_error_or_a_model() {
        let whole = model(TensorProto {
            name: "w".into(),
            dims: vec![2],
            data_type: 1,
            raw_data: vec![0; 8],
            ..Default::default()
        });
        let path = Path::new("model.onnx");
        parse(&whole, path, &Limits::default()).unwrap();
        for end in 0..whole.len() {
            // Whatever it answers, it must answer: no panic, no endless allocation.
            let _ = parse(&whole[..end], path, &Limits::default());
        }
        assert!(parse(&whole[..whole.len() - 1], path, &Limits::default()).is_err());
        assert!(parse(b"not a model at all", path, &Limits::default()).is_err());
    }

    #[test]
    fn shapes_must_match_their_data() {
        let path = Path::new("model.onnx");
        for dims in [vec![3], vec![-1], vec![i64::MAX, i64::MAX]] {
            let tensor =
                TensorProto { name: "w".into(), dims, data_type: 1, raw_data: vec![0; 8], ..Default::default() };
            let error = parse(&model(tensor), path, &Limits::default()).unwrap_err();
            assert!(matches!(error, ModelFileError::TensorShape { .. }), "{error}");
        }
    }
}
