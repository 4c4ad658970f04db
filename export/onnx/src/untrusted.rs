//! Reads a model file nobody vouches for. ONNX Runtime follows external-data paths wherever they lead and allocates
//! what a shape claims, so both are checked here first.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use prost::Message;

use crate::{AttributeProto, DataLocation, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto};

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

/// Checks model bytes that came from `path`; external data is looked for beside it.
///
/// # Errors
/// See [`ModelFileError`].
pub fn parse(bytes: &[u8], path: &Path, limits: &Limits) -> Result<ModelProto, ModelFileError> {
    Check { path, limits, size: &|name| size_beside(path, name) }.model(bytes)
}

/// [`parse`] for a model that is not written yet: its external data is a file called `name` of `size` bytes.
///
/// # Errors
/// See [`ModelFileError`].
pub fn parse_with_data(bytes: &[u8], limits: &Limits, name: &str, size: u64) -> Result<ModelProto, ModelFileError> {
    let size = |wanted: &str| if wanted == name { Ok(size) } else { Err(format!("only `{name}` is there")) };
    Check { path: Path::new("model.onnx"), limits, size: &size }.model(bytes)
}

/// Gives `take` the values of a tensor of the checked model at `path`, little-endian, in pieces; read from beside the
/// model where they are external. A tensor that keeps them in a typed field gives its encoding.
///
/// # Errors
/// If the external file cannot be read.
pub fn tensor_bytes(path: &Path, tensor: &TensorProto, mut take: impl FnMut(&[u8])) -> std::io::Result<()> {
    let Some((name, range)) = external_range(tensor) else {
        match tensor.raw_data.as_slice() {
            [] => take(&tensor.encode_to_vec()),
            raw => take(raw),
        }
        return Ok(());
    };
    let mut file = std::fs::File::open(path.with_file_name(name))?;
    file.seek(SeekFrom::Start(range.start))?;
    let mut reader = BufReader::with_capacity(1 << 20, file.take(range.end - range.start));
    loop {
        let length = match reader.fill_buf()? {
            [] => return Ok(()),
            piece => {
                take(piece);
                piece.len()
            }
        };
        reader.consume(length);
    }
}

/// File and byte range of a tensor of a checked model, if its values are beside the model; a length that is not given
/// reaches to the end of all files.
pub fn external_range(tensor: &TensorProto) -> Option<(&str, Range<u64>)> {
    if tensor.data_location != DataLocation::External as i32 {
        return None;
    }
    let number = |key: &'static str| entries(tensor, key).next().and_then(|text| text.parse::<u64>().ok());
    let start = number("offset").unwrap_or(0);
    let end = number("length").map_or(u64::MAX, |length| start.saturating_add(length));
    Some((entries(tensor, "location").next().unwrap_or_default(), start..end))
}

/// Names of the files beside a checked model that hold values of its tensors, wherever those are, each once, in order
/// of appearance.
pub fn data_files(model: &ModelProto) -> Vec<String> {
    let mut names: Vec<String> = vec![];
    let _ = tensors(model, usize::MAX, &mut |tensor| {
        if let Some((name, _)) = external_range(tensor).filter(|(name, _)| !names.iter().any(|known| known == name)) {
            names.push(name.to_owned());
        }
        Ok::<(), ()>(())
    });
    names
}

/// Why [`tensors`] ended early.
enum Stop<E> {
    /// Subgraphs are nested too deeply.
    Depth,
    /// What was done with a tensor failed.
    Tensor(E),
}

/// Calls `visit` with every tensor of a model: initialisers, dense and sparse, and those in attributes of nodes,
/// subgraphs and functions.
fn tensors<'a, E>(
    model: &'a ModelProto,
    depth: usize,
    visit: &mut dyn FnMut(&'a TensorProto) -> Result<(), E>,
) -> Result<(), Stop<E>> {
    let mut walk = Walk { visit, depth };
    model.graph.iter().try_for_each(|graph| walk.graph(graph, 0))?;
    model.functions.iter().try_for_each(|function| {
        walk.nodes(&function.node, 0)?;
        walk.attributes(&function.attribute_proto, 0)
    })
}

struct Walk<'v, 'a, E> {
    visit: &'v mut dyn FnMut(&'a TensorProto) -> Result<(), E>,
    /// Deepest nesting of subgraphs.
    depth: usize,
}

impl<'a, E> Walk<'_, 'a, E> {
    fn graph(&mut self, graph: &'a GraphProto, depth: usize) -> Result<(), Stop<E>> {
        if depth > self.depth {
            return Err(Stop::Depth);
        }
        self.all(&graph.initializer)?;
        self.sparse(&graph.sparse_initializer)?;
        self.nodes(&graph.node, depth)
    }

    fn all(&mut self, tensors: impl IntoIterator<Item = &'a TensorProto>) -> Result<(), Stop<E>> {
        tensors.into_iter().try_for_each(|tensor| (self.visit)(tensor).map_err(Stop::Tensor))
    }

    fn sparse(&mut self, tensors: impl IntoIterator<Item = &'a SparseTensorProto>) -> Result<(), Stop<E>> {
        self.all(tensors.into_iter().flat_map(|sparse| sparse.values.iter().chain(&sparse.indices)))
    }

    fn nodes(&mut self, nodes: &'a [NodeProto], depth: usize) -> Result<(), Stop<E>> {
        nodes.iter().try_for_each(|node| self.attributes(&node.attribute, depth))
    }

    fn attributes(&mut self, attributes: &'a [AttributeProto], depth: usize) -> Result<(), Stop<E>> {
        for attribute in attributes {
            self.all(attribute.t.iter().chain(&attribute.tensors))?;
            self.sparse(attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors))?;
            attribute.g.iter().chain(&attribute.graphs).try_for_each(|graph| self.graph(graph, depth + 1))?;
        }
        Ok(())
    }
}

fn entries<'a>(tensor: &'a TensorProto, key: &'a str) -> impl Iterator<Item = &'a str> {
    tensor.external_data.iter().filter(move |entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// Size of a file in the folder of the model.
fn size_beside(path: &Path, name: &str) -> Result<u64, String> {
    // A symbolic link would lead out of the folder after all.
    let metadata = std::fs::symlink_metadata(path.with_file_name(name)).map_err(|error| error.to_string())?;
    if metadata.is_file() { Ok(metadata.len()) } else { Err("not a regular file".into()) }
}

struct Check<'a> {
    path: &'a Path,
    limits: &'a Limits,
    /// Bytes of an external file, or why it cannot be one.
    size: &'a dyn Fn(&str) -> Result<u64, String>,
}

impl Check<'_> {
    fn model(&self, bytes: &[u8]) -> Result<ModelProto, ModelFileError> {
        let model = ModelProto::decode(bytes).map_err(|source| ModelFileError::Malformed {
            path: self.path.to_owned(),
            found: bytes.len() as u64,
            source,
        })?;
        let missing = |what| ModelFileError::NoGraph { path: self.path.to_owned(), what };
        let graph = model.graph.as_ref().ok_or_else(|| missing("no graph"))?;
        if graph.output.is_empty() {
            return Err(missing("the graph has no output"));
        }
        if model.opset_import.is_empty() {
            return Err(missing("no operator set is named"));
        }
        match tensors(&model, self.limits.graph_depth, &mut |tensor| self.tensor(tensor)) {
            Ok(()) => Ok(model),
            Err(Stop::Tensor(error)) => Err(error),
            Err(Stop::Depth) => {
                Err(ModelFileError::Depth { path: self.path.to_owned(), allowed: self.limits.graph_depth })
            }
        }
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
            return self
                .external(tensor, element_bytes(tensor.data_type).and_then(|width| elements.checked_mul(width)));
        }
        let Some(width) = element_bytes(tensor.data_type) else { return Ok(()) };
        let raw = tensor.raw_data.len() as u64;
        if raw > 0 && elements.checked_mul(width) != Some(raw) {
            return Err(bad(format!("{raw} bytes of data ({width} per element)")));
        }
        Ok(())
    }

    /// Checks a tensor whose values, `needed` bytes where that is known, lie in another file.
    fn external(&self, tensor: &TensorProto, needed: Option<u64>) -> Result<(), ModelFileError> {
        let location = entries(tensor, "location").next().unwrap_or_default();
        let bad = |problem: String| ModelFileError::ExternalData {
            path: self.path.to_owned(),
            tensor: tensor.name.clone(),
            location: location.to_owned(),
            problem,
        };
        // Of two entries with one key runtimes may take the one that was not looked at.
        for key in ["location", "offset", "length"] {
            if entries(tensor, key).count() > 1 {
                return Err(bad(format!("`{key}` is given twice")));
            }
        }
        let mut components = Path::new(location).components();
        let inside = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
            && !location.contains(['/', '\\', ':', '\0']);
        if !inside {
            return Err(ModelFileError::ExternalPath {
                path: self.path.to_owned(),
                tensor: tensor.name.clone(),
                location: location.to_owned(),
            });
        }
        let number = |key: &str| match entries(tensor, key).next() {
            None => Ok(None),
            Some(text) => text.parse::<u64>().map(Some).map_err(|_| bad(format!("{key} `{text}` is not a number"))),
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let size = (self.size)(location).map_err(&bad)?;
        if let (Some(needed), Some(length)) = (needed, length)
            && needed != length
        {
            return Err(bad(format!("{length} bytes for shape {:?}, which needs {needed}", tensor.dims)));
        }
        let length = length.or(needed).unwrap_or(0);
        match offset.checked_add(length) {
            Some(end) if end <= size => Ok(()),
            _ => Err(bad(format!("bytes {offset}..+{length} of a file of {size} bytes"))),
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
    use crate::{FunctionProto, OperatorSetIdProto, StringStringEntryProto, ValueInfoProto};

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
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/etc/hostname", folder.path().join("link.bin")).unwrap();
            let error = parse(&model(external("link.bin")), &path, &Limits::default()).unwrap_err();
            assert!(error.to_string().contains("not a regular file"), "{error}");
        }
    }

    /// Where `tensor` may hide in a model.
    fn hidden(tensor: TensorProto) -> Vec<Vec<u8>> {
        let sparse = SparseTensorProto { values: Some(tensor.clone()), indices: None };
        let attributes = [
            AttributeProto { t: Some(tensor.clone()), ..Default::default() },
            AttributeProto { tensors: vec![tensor.clone()], ..Default::default() },
            AttributeProto { sparse_tensor: Some(sparse.clone()), ..Default::default() },
            AttributeProto { sparse_tensors: vec![sparse.clone()], ..Default::default() },
            AttributeProto {
                g: Some(GraphProto { initializer: vec![tensor.clone()], ..Default::default() }),
                ..Default::default()
            },
        ];
        let plain = ModelProto::decode(model(TensorProto::default()).as_slice()).unwrap();
        let edited = |edit: &dyn Fn(&mut ModelProto)| {
            let mut model = plain.clone();
            edit(&mut model);
            model.encode_to_vec()
        };
        let mut models = vec![
            model(tensor.clone()),
            edited(&|model| model.graph.as_mut().unwrap().sparse_initializer.push(sparse.clone())),
        ];
        for attribute in attributes {
            let node = NodeProto { attribute: vec![attribute.clone()], ..Default::default() };
            models.push(edited(&|model| model.graph.as_mut().unwrap().node.push(node.clone())));
            let function = FunctionProto { node: vec![node.clone()], ..Default::default() };
            models.push(edited(&|model| model.functions.push(function.clone())));
            let function = FunctionProto { attribute_proto: vec![attribute], ..Default::default() };
            models.push(edited(&|model| model.functions.push(function.clone())));
        }
        models
    }

    #[test]
    fn external_data_is_found_wherever_a_tensor_may_be() {
        for bytes in hidden(external("../secret")) {
            let error = parse(&bytes, Path::new("model.onnx"), &Limits::default()).unwrap_err();
            assert!(matches!(error, ModelFileError::ExternalPath { .. }), "{error}");
        }
        for bytes in hidden(external("w.bin")) {
            assert_eq!(data_files(&ModelProto::decode(bytes.as_slice()).unwrap()), ["w.bin"]);
        }
    }

    /// Entries that lie about the tensor, or say two things at once.
    #[test]
    fn external_data_must_be_what_the_shape_needs() {
        let refused = |edit: &dyn Fn(&mut TensorProto)| {
            let mut tensor = external("w.bin");
            edit(&mut tensor);
            parse_with_data(&model(tensor), &Limits::default(), "w.bin", 8).unwrap_err().to_string()
        };
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        parse_with_data(&model(external("w.bin")), &Limits::default(), "w.bin", 8).unwrap();
        assert!(
            refused(&|tensor| tensor.external_data.push(entry("location", "../x")))
                .contains("`location` is given twice")
        );
        assert!(refused(&|tensor| tensor.external_data.push(entry("length", "4"))).contains("`length` is given twice"));
        assert!(refused(&|tensor| tensor.external_data.push(entry("offset", "1"))).contains("bytes 1..+8"));
        assert!(
            refused(&|tensor| tensor.external_data.push(entry("offset", &u64::MAX.to_string())))
                .contains("of a file of 8")
        );
        assert!(refused(&|tensor| tensor.external_data.push(entry("offset", "-1"))).contains("not a number"));
        assert!(refused(&|tensor| tensor.dims = vec![1 << 40]).contains("which needs 4398046511104"));
        assert!(refused(&|tensor| tensor.dims = vec![i64::MAX, 4]).contains("below 2^64"));
        assert!(
            refused(&|tensor| {
                tensor.dims = vec![1 << 40];
                tensor.external_data.pop();
            })
            .contains("of a file of 8 bytes")
        );
        assert!(refused(&|tensor| tensor.external_data[0].value = "v.bin".into()).contains("only `w.bin` is there"));
    }

    #[test]
    fn external_values_are_read_where_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(folder.path().join("w.bin"), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]).unwrap();
        let mut tensor = external("w.bin");
        tensor.external_data.push(StringStringEntryProto { key: "offset".into(), value: "4".into() });
        let model = parse(&model(tensor.clone()), &path, &Limits::default()).unwrap();
        let mut bytes = vec![];
        tensor_bytes(&path, &tensor, |piece| bytes.extend_from_slice(piece)).unwrap();
        assert_eq!(bytes, [5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(data_files(&model), ["w.bin"]);
    }

    /// Every byte of a model with external data, changed in turn: an answer, never a panic and never a path outside.
    #[test]
    fn damaged_external_models_are_answered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        std::fs::write(folder.path().join("w.bin"), [0u8; 8]).unwrap();
        let whole = model(external("w.bin"));
        for at in 0..whole.len() {
            for change in [1, 0x80, 0xff, b'/' ^ whole[at], b'.' ^ whole[at]] {
                let mut bytes = whole.clone();
                bytes[at] ^= change;
                if let Ok(model) = parse(&bytes, &path, &Limits::default()) {
                    for tensor in &model.graph.unwrap().initializer {
                        assert!(!entries(tensor, "location").any(|name| name.contains("..") || name.contains('/')));
                    }
                }
            }
        }
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
