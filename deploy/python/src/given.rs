//! Arguments of methods: files, pixels and embeddings.

use std::borrow::Cow;
use std::path::PathBuf;

use contract::preprocess::{MAX_EDGE, MAX_PIXELS, PictureError};
use deploy::DeployError;
use deploy::embed::Picture;
use deploy::identity::Identity;
use deploy::pictures::Input;
use image::RgbImage;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyTuple};

use crate::error::raised;

/// What pictures and embeddings may be.
const ALLOWED: &str = "a path, an array uint8 [height, width, 3] or [pictures, height, width, 3], an array of floats \
                       [rows, dim], or a list of one of these";

/// What was given.
pub(crate) enum Given {
    /// Pictures to embed.
    Pictures(Vec<Row>),
    /// Embeddings, with the shape `[rows, dim]`.
    Vectors { values: Vec<f32>, shape: [usize; 2] },
}

/// The pictures of one row: one for each of the model's inputs.
pub(crate) enum Row {
    Files(Vec<PathBuf>),
    Arrays(Vec<Array>),
}

/// A picture in memory that stays Python's until it is embedded.
pub(crate) struct Array {
    pixels: Py<PyAny>,
    height: u32,
    width: u32,
}

/// One thing that was given.
enum One<'py> {
    File(PathBuf),
    Picture(Array),
    Pictures(Vec<Array>),
    Vectors(Bound<'py, PyAny>),
}

/// Files, pixels or embeddings, and whether they are embeddings.
pub(crate) fn given(what: &Bound<'_, PyAny>) -> PyResult<Given> {
    let mut rows = Vec::new();
    if let Some(one) = one(what)? {
        match one {
            One::File(path) => rows.push(Row::Files(vec![path])),
            One::Picture(array) => rows.push(Row::Arrays(vec![array])),
            One::Pictures(arrays) => rows.extend(arrays.into_iter().map(|array| Row::Arrays(vec![array]))),
            One::Vectors(array) => return vectors(&array),
        }
        return Ok(Given::Pictures(rows));
    }
    let items = what.try_iter().map_err(|_| refused(what))?;
    let embeddings = PyList::empty(what.py());
    for item in items {
        let item = item?;
        what.py().check_signals()?;
        match one(&item)? {
            Some(One::File(path)) => rows.push(Row::Files(vec![path])),
            Some(One::Picture(array)) => rows.push(Row::Arrays(vec![array])),
            Some(One::Pictures(_)) => return Err(PyValueError::new_err("a list has single pictures and no batches")),
            Some(One::Vectors(array)) => embeddings.append(array)?,
            None => rows.push(several(&item)?),
        }
        if !embeddings.is_empty() && !rows.is_empty() {
            return Err(PyValueError::new_err("a list has either pictures or embeddings"));
        }
    }
    if embeddings.is_empty() {
        return Ok(Given::Pictures(rows));
    }
    vectors(&numpy(what.py())?.call_method1("stack", (embeddings,))?)
}

/// The pictures of one row of a model with several inputs.
fn several(item: &Bound<'_, PyAny>) -> PyResult<Row> {
    let row = item.cast::<PyTuple>().map_err(|_| refused(item))?;
    let (mut files, mut arrays) = (Vec::new(), Vec::new());
    for item in row {
        match one(&item)? {
            Some(One::File(path)) => files.push(path),
            Some(One::Picture(array)) => arrays.push(array),
            _ => return Err(refused(&item)),
        }
    }
    match (files.is_empty(), arrays.is_empty()) {
        (false, true) => Ok(Row::Files(files)),
        (true, false) => Ok(Row::Arrays(arrays)),
        _ => Err(PyValueError::new_err("a tuple has a picture for each input of the model: all paths, or all arrays")),
    }
}

fn refused(item: &Bound<'_, PyAny>) -> PyErr {
    let found = item.get_type().name().map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("`{found}` is neither a picture nor an embedding; allowed are {ALLOWED}"))
}

/// A path or an array; none for a list or what else there is.
fn one<'py>(item: &Bound<'py, PyAny>) -> PyResult<Option<One<'py>>> {
    if let Ok(path) = item.extract::<PathBuf>() {
        return Ok(Some(One::File(path)));
    }
    // Those of other libraries too: Pillow's pictures, tensors on the CPU.
    if !item.hasattr("__array__")? && !item.hasattr("__array_interface__")? {
        return Ok(None);
    }
    let array = numpy(item.py())?.call_method1("asarray", (item,))?;
    let shape: Vec<usize> = array.getattr("shape")?.extract()?;
    let dtype = array.getattr("dtype")?;
    let (kind, bytes): (String, usize) = (dtype.getattr("kind")?.extract()?, dtype.getattr("itemsize")?.extract()?);
    match (&*kind, bytes, &shape[..]) {
        ("u", 1, &[height, width, 3]) => Ok(Some(One::Picture(Array::new(array, height, width)?))),
        ("u", 1, &[_, height, width, 3]) => {
            let each = array.try_iter()?.map(|own| Array::new(own?, height, width));
            Ok(Some(One::Pictures(each.collect::<PyResult<_>>()?)))
        }
        ("f", _, [_] | [_, _]) => Ok(Some(One::Vectors(array))),
        _ => {
            let name: String = dtype.getattr("name")?.extract()?;
            Err(PyValueError::new_err(format!(
                "an array {name} {shape:?} is neither a picture nor an embedding; allowed are {ALLOWED}"
            )))
        }
    }
}

fn numpy(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("numpy")
}

/// Embeddings of an array of floats; one alone is a row.
fn vectors(array: &Bound<'_, PyAny>) -> PyResult<Given> {
    let rows = numpy(array.py())?.call_method1("atleast_2d", (array,))?.call_method1("astype", ("float32",))?;
    let shape: Vec<usize> = rows.getattr("shape")?.extract()?;
    let &[count, dim] = &shape[..] else { return Err(refused(array)) };
    let bytes = rows.call_method0("tobytes")?;
    let values = bytes.cast::<PyBytes>()?.as_bytes().chunks_exact(size_of::<f32>());
    // The length of a chunk is that of a number.
    let values = values.map(bytemuck::pod_read_unaligned).collect();
    Ok(Given::Vectors { values, shape: [count, dim] })
}

impl Array {
    fn new(pixels: Bound<'_, PyAny>, height: usize, width: usize) -> PyResult<Self> {
        let edge = |edge: usize| u32::try_from(edge).unwrap_or(u32::MAX);
        let (path, height, width) = (PathBuf::from("array"), edge(height), edge(width));
        let refused = |error: PictureError| raised(&DeployError::Picture(error));
        if height == 0 || width == 0 {
            return Err(refused(PictureError::Empty { path, width, height }));
        }
        if height.max(width) > MAX_EDGE || u64::from(height) * u64::from(width) > MAX_PIXELS {
            return Err(refused(PictureError::TooLarge { path, width, height }));
        }
        Ok(Self { pixels: pixels.unbind(), height, width })
    }

    /// A copy.
    fn read(&self, py: Python<'_>) -> PyResult<RgbImage> {
        let bytes = self.pixels.bind(py).call_method0("tobytes")?;
        let bytes = bytes.cast::<PyBytes>()?.as_bytes().to_vec();
        RgbImage::from_raw(self.width, self.height, bytes)
            .ok_or_else(|| PyValueError::new_err("an array changed its shape while it was embedded"))
    }
}

impl Row {
    /// What is embedded and stored of it; arrays are named by their number.
    pub(crate) fn input(&self, number: usize) -> Input {
        let files = match self {
            Self::Files(files) => files.clone(),
            Self::Arrays(arrays) => vec![PathBuf::from(format!("array {number}")); arrays.len()],
        };
        Input { files, ..Input::new(PathBuf::new(), Identity::Unnamed, None) }
    }

    /// Whether it has files that can be looked at again.
    pub(crate) fn is_files(&self) -> bool {
        matches!(self, Self::Files(_))
    }

    /// As the embedding takes it.
    pub(crate) fn picture<'a>(&self, input: &'a Input) -> PyResult<Picture<'a>> {
        let pixels = match self {
            Self::Files(_) => Vec::new(),
            Self::Arrays(arrays) => {
                Python::attach(|py| arrays.iter().map(|array| array.read(py)).collect::<PyResult<_>>())?
            }
        };
        Ok(Picture::new(Cow::Borrowed(input), pixels))
    }
}

/// Rows as an array float32 `[rows, dim]` of numpy.
pub(crate) fn array<'py>(py: Python<'py>, values: &[f32], dim: usize) -> PyResult<Bound<'py, PyAny>> {
    let bytes = PyByteArray::new(py, bytemuck::cast_slice(values));
    let array = numpy(py)?.call_method1("frombuffer", (bytes, "float32"))?;
    array.call_method1("reshape", (values.len() / dim.max(1), dim))
}
