//! Reads a model file nobody vouches for. ONNX Runtime follows external-data paths wherever they lead and allocates
//! what a shape claims, so both are checked here first; and what decoding the file takes is known before it is done.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use prost::Message;

use crate::size::decoded;
use crate::{
    AttributeProto, DataLocation, DataType, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto,
};

/// What a model file may ask for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest model file in bytes, external data not counted. Protobuf itself ends at 2 GiB.
    pub file_bytes: u64,
    /// Deepest nesting of subgraphs (`If`, `Loop`).
    pub graph_depth: usize,
    /// Bytes in memory that a byte of the file may become when it is decoded. Nodes of usual models take five times
    /// their size.
    pub decoded_factor: u64,
    /// Bytes in memory that every file may take, however small it is.
    pub decoded_slack: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { file_bytes: 2 << 30, graph_depth: 16, decoded_factor: 16, decoded_slack: 64 << 20 }
    }
}

/// What is wrong with the external data of a tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataProblem {
    /// Of two entries with one key runtimes may take either.
    #[error("`{key}` is given twice")]
    Twice {
        /// `location`, `offset` or `length`.
        key: &'static str,
    },
    /// An offset or a length that is no number.
    #[error("{key} `{text}` is not a number")]
    NotANumber {
        /// `offset` or `length`.
        key: &'static str,
        /// As written in the file.
        text: String,
    },
    /// Another length than the shape needs.
    #[error("{found} bytes for shape {dims:?}, which needs {needed}")]
    Length {
        /// Bytes as written in the file.
        found: u64,
        /// Bytes of the shape.
        needed: u64,
        /// The shape.
        dims: Vec<i64>,
    },
    /// The file is shorter than that.
    #[error("bytes {offset}..+{length} of a file of {size} bytes")]
    Beyond {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Bytes of the file.
        size: u64,
    },
    /// There is no such file.
    #[error("there is no such file beside the model")]
    Missing,
    /// The file cannot be opened, or is a link out of the folder.
    #[error("{0}")]
    Unreadable(
        /// The cause.
        std::io::Error,
    ),
    /// A model that is not written yet comes with another file.
    #[error("only `{there}` is there")]
    OtherFile {
        /// The file it comes with.
        there: String,
    },
}

/// What is wrong with the shape of a tensor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeProblem {
    /// A negative size, or too many elements.
    #[error("sizes must be 0 or more and their product below 2^64")]
    Uncountable,
    /// Another number of bytes.
    #[error("{found} bytes of data ({width} per element)")]
    Bytes {
        /// Bytes in the file.
        found: u64,
        /// Bytes of an element.
        width: u64,
    },
    /// Another number of values in the type's own field.
    #[error("{found} values")]
    Values {
        /// Values in the file.
        found: u64,
    },
    /// Another number of texts.
    #[error("{found} texts")]
    Texts {
        /// Texts in the file.
        found: u64,
    },
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
    /// There are no bytes.
    #[error("`{}` is empty (0 bytes); an ONNX model is needed", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
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
    /// Small in the file, large in memory.
    #[error(
        "model `{}` would take more than {allowed} bytes of memory once it is decoded, which is what a file of {found} \
         bytes may take",
        path.display()
    )]
    Decoded {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// Bytes of memory it may take: [`Limits::decoded_factor`] and [`Limits::decoded_slack`].
        allowed: u64,
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
    #[error(
        "model `{}`: tensor `{tensor}` wants external data at `{location}`; only a file in the model's own folder is \
         allowed. In Python, `onnx.save(onnx.load(\"{0}\"), \"flat.onnx\", save_as_external_data=True)` writes the \
         model with its data beside it",
        path.display()
    )]
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
        problem: DataProblem,
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
        problem: ShapeProblem,
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
    let bytes = read_bytes(path, limits)?;
    let model = parse(&bytes, path, limits)?;
    Ok((model, bytes))
}

/// The bytes of the model file at `path`, which are not looked at: a regular file of no more than
/// [`Limits::file_bytes`].
///
/// # Errors
/// [`ModelFileError::Read`] or [`ModelFileError::TooLarge`].
pub fn read_bytes(path: &Path, limits: &Limits) -> Result<Vec<u8>, ModelFileError> {
    files::read_limited(path, limits.file_bytes).map_err(|source| {
        let refused = source.get_ref().and_then(|inner| inner.downcast_ref::<files::Refused>()).copied();
        match refused {
            Some(files::Refused::TooLarge { found, allowed }) => {
                ModelFileError::TooLarge { path: path.to_owned(), found, allowed }
            }
            _ => ModelFileError::Read { path: path.to_owned(), source },
        }
    })
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
    let other = || DataProblem::OtherFile { there: name.to_owned() };
    let size = |wanted: &str| if wanted == name { Ok(size) } else { Err(other()) };
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

/// [`data_files`] of a model whose data need not be there.
///
/// # Errors
/// If the bytes are no model that could be read.
pub fn named_files(bytes: &[u8], limits: &Limits) -> Result<Vec<String>, ModelFileError> {
    Check { path: Path::new("model.onnx"), limits, size: &|_| Ok(u64::MAX) }
        .model(bytes)
        .map(|model| data_files(&model))
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
        self.all(
            tensors
                .into_iter()
                .flat_map(|sparse| sparse.values.as_deref().into_iter().chain(sparse.indices.as_deref())),
        )
    }

    fn nodes(&mut self, nodes: &'a [NodeProto], depth: usize) -> Result<(), Stop<E>> {
        nodes.iter().try_for_each(|node| self.attributes(&node.attribute, depth))
    }

    fn attributes(&mut self, attributes: &'a [AttributeProto], depth: usize) -> Result<(), Stop<E>> {
        for attribute in attributes {
            self.all(attribute.t.as_deref().into_iter().chain(&attribute.tensors))?;
            self.sparse(attribute.sparse_tensor.as_deref().into_iter().chain(&attribute.sparse_tensors))?;
            let mut graphs = attribute.g.as_deref().into_iter().chain(&attribute.graphs);
            graphs.try_for_each(|graph| self.graph(graph, depth + 1))?;
        }
        Ok(())
    }
}

fn entries<'a>(tensor: &'a TensorProto, key: &'a str) -> impl Iterator<Item = &'a str> {
    tensor.external_data.iter().filter(move |entry| entry.key == key).map(|entry| entry.value.as_str())
}

/// Size of a file in the folder of the model, or of one that a link leads to in the same cache of a model hub.
fn size_beside(path: &Path, name: &str) -> Result<u64, DataProblem> {
    let beside = path.with_file_name(name);
    let size = files::resolve_inside(&beside).and_then(|file| Ok(file.metadata()?.len()));
    size.map_err(|error| match error.get_ref() {
        None if error.kind() == std::io::ErrorKind::NotFound => DataProblem::Missing,
        _ => DataProblem::Unreadable(error),
    })
}

struct Check<'a> {
    path: &'a Path,
    limits: &'a Limits,
    /// Bytes of an external file, or why it cannot be one.
    size: &'a dyn Fn(&str) -> Result<u64, DataProblem>,
}

impl Check<'_> {
    fn model(&self, bytes: &[u8]) -> Result<ModelProto, ModelFileError> {
        if bytes.is_empty() {
            return Err(ModelFileError::Empty { path: self.path.to_owned() });
        }
        let allowed =
            (bytes.len() as u64).saturating_mul(self.limits.decoded_factor).saturating_add(self.limits.decoded_slack);
        if decoded(bytes, allowed) > allowed {
            return Err(ModelFileError::Decoded { path: self.path.to_owned(), found: bytes.len() as u64, allowed });
        }
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
        let bad = |problem: ShapeProblem| ModelFileError::TensorShape {
            path: self.path.to_owned(),
            tensor: tensor.name.clone(),
            dims: tensor.dims.clone(),
            problem,
        };
        let elements = tensor
            .dims
            .iter()
            .try_fold(1u64, |product, &size| product.checked_mul(u64::try_from(size).ok()?))
            .ok_or_else(|| bad(ShapeProblem::Uncountable))?;
        if tensor.data_location == DataLocation::External as i32 {
            return self
                .external(tensor, element_bytes(tensor.data_type).and_then(|width| elements.checked_mul(width)));
        }
        let Some(width) = element_bytes(tensor.data_type) else {
            return match tensor.string_data.len() as u64 {
                found if tensor.data_type == DataType::String as i32 && found != elements => {
                    Err(bad(ShapeProblem::Texts { found }))
                }
                _ => Ok(()),
            };
        };
        let raw = tensor.raw_data.len() as u64;
        if raw > 0 && elements.checked_mul(width) != Some(raw) {
            return Err(bad(ShapeProblem::Bytes { found: raw, width }));
        }
        match typed_elements(tensor) {
            Some(found) if raw == 0 && found != elements => Err(bad(ShapeProblem::Values { found })),
            _ => Ok(()),
        }
    }

    /// Checks a tensor whose values, `needed` bytes where that is known, lie in another file.
    fn external(&self, tensor: &TensorProto, needed: Option<u64>) -> Result<(), ModelFileError> {
        let location = entries(tensor, "location").next().unwrap_or_default();
        let bad = |problem: DataProblem| ModelFileError::ExternalData {
            path: self.path.to_owned(),
            tensor: tensor.name.clone(),
            location: location.to_owned(),
            problem,
        };
        // Of two entries with one key runtimes may take the one that was not looked at.
        for key in ["location", "offset", "length"] {
            if entries(tensor, key).count() > 1 {
                return Err(bad(DataProblem::Twice { key }));
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
        let number = |key: &'static str| match entries(tensor, key).next() {
            None => Ok(None),
            Some(text) => {
                text.parse::<u64>().map(Some).map_err(|_| bad(DataProblem::NotANumber { key, text: text.to_owned() }))
            }
        };
        let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?);
        let size = (self.size)(location).map_err(&bad)?;
        if let (Some(needed), Some(length)) = (needed, length)
            && needed != length
        {
            return Err(bad(DataProblem::Length { found: length, needed, dims: tensor.dims.clone() }));
        }
        let length = length.or(needed).unwrap_or(0);
        match offset.checked_add(length) {
            Some(end) if end <= size => Ok(()),
            _ => Err(bad(DataProblem::Beyond { offset, length, size })),
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

/// Elements in the typed field that a tensor's type has; none for types that have none.
fn typed_elements(tensor: &TensorProto) -> Option<u64> {
    use crate::DataType::*;
    let count = match DataType::try_from(tensor.data_type).ok()? {
        Float => tensor.float_data.len(),
        Complex64 => tensor.float_data.len() / 2,
        Double => tensor.double_data.len(),
        Complex128 => tensor.double_data.len() / 2,
        Int64 => tensor.int64_data.len(),
        Uint32 | Uint64 => tensor.uint64_data.len(),
        Uint8 | Int8 | Uint16 | Int16 | Int32 | Bool | Float16 | Bfloat16 | Float8E4M3Fn | Float8E4M3Fnuz
        | Float8E5M2 | Float8E5M2Fnuz => tensor.int32_data.len(),
        Undefined | String | Uint4 | Int4 | Float4E2M1 => return None,
    };
    Some(count as u64)
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
        let problem = |location: &str| match parse(&model(external(location)), &path, &Limits::default()) {
            Err(ModelFileError::ExternalData { problem, .. }) => problem,
            other => panic!("{location}: {other:?}"),
        };
        let short = problem("w.bin");
        assert!(matches!(short, DataProblem::Beyond { offset: 0, length: 8, size: 7 }), "{short}");
        #[cfg(unix)]
        for (link, to, kind) in [
            ("link.bin", "/etc/hostname", std::io::ErrorKind::PermissionDenied),
            ("dangling.bin", "nowhere", std::io::ErrorKind::NotFound),
        ] {
            std::os::unix::fs::symlink(to, folder.path().join(link)).unwrap();
            let unreadable = problem(link);
            assert!(matches!(&unreadable, DataProblem::Unreadable(cause) if cause.kind() == kind), "{unreadable}");
        }
        assert!(matches!(problem("none.bin"), DataProblem::Missing));
        let error = parse(&model(external("sub/w.bin")), &path, &Limits::default()).unwrap_err().to_string();
        assert!(error.contains("save_as_external_data=True"), "the way out: {error}");
    }

    /// Hugging Face's cache: names are links to files called by their hashes.
    #[cfg(unix)]
    #[test]
    fn a_model_in_a_hub_cache_is_read() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let (blobs, snapshot) = (root.path().join("models--a--b/blobs"), root.path().join("models--a--b/snapshots/r"));
        [&blobs, &snapshot].into_iter().for_each(|folder| std::fs::create_dir_all(folder).unwrap());
        std::fs::write(blobs.join("0123"), model(external("model.onnx.data"))).unwrap();
        std::fs::write(blobs.join("4567"), [1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        symlink("../../blobs/0123", snapshot.join("model.onnx")).unwrap();
        symlink("../../blobs/4567", snapshot.join("model.onnx.data")).unwrap();
        let path = snapshot.join("model.onnx");
        let (read, _) = read(&path, &Limits::default()).unwrap();
        let mut bytes = vec![];
        tensor_bytes(&path, &read.graph.unwrap().initializer[0], |piece| bytes.extend_from_slice(piece)).unwrap();
        assert_eq!(bytes, [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[cfg(unix)]
    #[test]
    fn only_regular_files_of_the_allowed_size_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = read(&path, &Limits::default()).unwrap_err();
        let ModelFileError::Read { source, .. } = &error else { panic!("{error}") };
        let refused = source.get_ref().and_then(|cause| cause.downcast_ref::<files::Refused>());
        assert!(matches!(refused, Some(files::Refused::Kind { .. })), "{source}");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, [0; 11]).unwrap();
        let error = read(&path, &Limits { file_bytes: 10, ..Limits::default() }).unwrap_err();
        assert!(matches!(error, ModelFileError::TooLarge { found: 11, allowed: 10, .. }), "{error}");
    }

    /// Every way to have much of little: 10 MB of the smallest messages at every place.
    #[test]
    fn small_files_of_many_messages_are_refused_before_they_are_decoded() {
        let wrapped = |tags: &[u8], content: Vec<u8>| {
            tags.iter().rev().fold(content, |content, tag| {
                let mut bytes = vec![*tag];
                prost::encoding::encode_varint(content.len() as u64, &mut bytes);
                [bytes, content].concat()
            })
        };
        let places: [(&[u8], u8); 5] =
            [(&[0x3a, 0x0a], 0x2a), (&[0x3a], 0x0a), (&[0x3a], 0x2a), (&[], 0x72), (&[0x3a, 0x0a, 0x2a], 0x5a)];
        for (tags, tag) in places {
            let bytes = wrapped(tags, [tag, 0].repeat(5 << 20));
            let error = parse(&bytes, Path::new("model.onnx"), &Limits::default()).unwrap_err();
            assert!(matches!(error, ModelFileError::Decoded { .. }), "{tags:?} {tag}: {error}");
        }
    }

    /// Where `tensor` may hide in a model.
    fn hidden(tensor: TensorProto) -> Vec<Vec<u8>> {
        let sparse = SparseTensorProto { values: Some(Box::new(tensor.clone())), indices: None };
        let attributes = [
            AttributeProto { t: Some(Box::new(tensor.clone())), ..Default::default() },
            AttributeProto { tensors: vec![tensor.clone()], ..Default::default() },
            AttributeProto { sparse_tensor: Some(Box::new(sparse.clone())), ..Default::default() },
            AttributeProto { sparse_tensors: vec![sparse.clone()], ..Default::default() },
            AttributeProto {
                g: Some(Box::new(GraphProto { initializer: vec![tensor.clone()], ..Default::default() })),
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
            assert_eq!(named_files(&bytes, &Limits::default()).unwrap(), ["w.bin"]);
            assert_eq!(data_files(&ModelProto::decode(bytes.as_slice()).unwrap()), ["w.bin"]);
        }
    }

    /// Entries that lie about the tensor, or say two things at once.
    #[test]
    fn external_data_must_be_what_the_shape_needs() {
        let refused = |edit: &dyn Fn(&mut TensorProto)| {
            let mut tensor = external("w.bin");
            edit(&mut tensor);
            parse_with_data(&model(tensor), &Limits::default(), "w.bin", 8).unwrap_err()
        };
        let problem = |edit: &dyn Fn(&mut TensorProto)| match refused(edit) {
            ModelFileError::ExternalData { problem, .. } => problem,
            other => panic!("{other}"),
        };
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        let with = |key: &'static str, value: &str| {
            let entry = entry(key, value);
            problem(&move |tensor| tensor.external_data.push(entry.clone()))
        };
        parse_with_data(&model(external("w.bin")), &Limits::default(), "w.bin", 8).unwrap();
        assert!(matches!(with("location", "../x"), DataProblem::Twice { key: "location" }));
        assert!(matches!(with("length", "4"), DataProblem::Twice { key: "length" }));
        assert!(matches!(with("offset", "1"), DataProblem::Beyond { offset: 1, length: 8, size: 8 }));
        assert!(matches!(with("offset", &u64::MAX.to_string()), DataProblem::Beyond { offset: u64::MAX, .. }));
        assert!(matches!(with("offset", "-1"), DataProblem::NotANumber { key: "offset", text } if text == "-1"));
        let large = problem(&|tensor| tensor.dims = vec![1 << 40]);
        assert!(matches!(large, DataProblem::Length { found: 8, needed: 4_398_046_511_104, .. }), "{large}");
        let endless = refused(&|tensor| tensor.dims = vec![i64::MAX, 4]);
        let uncountable = |error: &ModelFileError| {
            matches!(error, ModelFileError::TensorShape { problem: ShapeProblem::Uncountable, .. })
        };
        assert!(uncountable(&endless), "{endless}");
        let unsaid = problem(&|tensor| {
            tensor.dims = vec![1 << 40];
            tensor.external_data.pop();
        });
        assert!(matches!(unsaid, DataProblem::Beyond { length: 4_398_046_511_104, size: 8, .. }), "{unsaid}");
        let other = problem(&|tensor| tensor.external_data[0].value = "v.bin".into());
        assert!(matches!(&other, DataProblem::OtherFile { there } if there == "w.bin"), "{other}");
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
            let negative = tensor.dims != [3];
            let error = parse(&model(tensor), path, &Limits::default()).unwrap_err();
            let ModelFileError::TensorShape { problem, .. } = &error else { panic!("{error}") };
            let wanted = ShapeProblem::Bytes { found: 8, width: 4 };
            assert_eq!(*problem, if negative { ShapeProblem::Uncountable } else { wanted });
        }
        let typed = |data_type: DataType, dims: Vec<i64>| {
            let tensor = TensorProto {
                name: "w".into(),
                dims,
                data_type: data_type as i32,
                float_data: vec![0.5; 4],
                int32_data: vec![1; 2],
                uint64_data: vec![1; 3],
                string_data: vec![vec![]; 5],
                ..Default::default()
            };
            parse(&model(tensor), path, &Limits::default())
        };
        let fitting = [
            (DataType::Float, 4),
            (DataType::Complex64, 2),
            (DataType::Float16, 2),
            (DataType::Uint64, 3),
            (DataType::String, 5),
        ];
        for (data_type, elements) in fitting {
            typed(data_type, vec![elements]).unwrap();
            for dims in [vec![elements + 1], vec![1 << 40], vec![0]] {
                let error = typed(data_type, dims).unwrap_err();
                assert!(matches!(error, ModelFileError::TensorShape { .. }), "{data_type:?}: {error}");
            }
        }
    }

    /// Foreign models keep numbers in fields that ours do not use: another value is another hash.
    #[test]
    fn typed_values_are_part_of_what_is_hashed() {
        let bytes = |tensor: TensorProto| {
            let read = ModelProto::decode(model(tensor).as_slice()).unwrap();
            let mut bytes = vec![];
            let tensor = &read.graph.as_ref().unwrap().initializer[0];
            tensor_bytes(Path::new("model.onnx"), tensor, |piece| bytes.extend_from_slice(piece)).unwrap();
            bytes
        };
        let number = |value| bytes(TensorProto { uint64_data: vec![value], ..Default::default() });
        assert_ne!(number(1), number(2));
        let text = |value: &str| bytes(TensorProto { string_data: vec![value.into()], ..Default::default() });
        assert_ne!(text("a"), text("b"));
    }
}
