//! `vitrine.Model`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use contract::preprocess::PictureError;
use deploy::DeployError;
use deploy::embed::{self, Picture, Report, Skipped};
use deploy::pictures::Input;
use deploy::runtime::{self, Provider};
use pyo3::exceptions::{PyUserWarning, PyValueError};
use pyo3::prelude::*;

use crate::given::{self, Given, Row};
use crate::host;
use crate::work::work;

/// How often a long run looks whether the user wants to end it.
const INTERRUPTED: Duration = Duration::from_millis(100);

/// A model that embeds pictures.
#[pyclass(frozen, module = "vitrine")]
pub(crate) struct Model {
    pub(crate) opened: Arc<runtime::Model>,
    threads: usize,
    dim: usize,
}

/// Rows of pictures.
pub(crate) struct Rows {
    /// `[rows, dim]`; those of pictures that cannot be used are NaN.
    pub(crate) values: Vec<f32>,
    /// What was embedded, in the same order.
    pub(crate) inputs: Vec<Input>,
    skipped: Skipped,
}

#[pymethods]
impl Model {
    #[new]
    #[pyo3(signature = (folder, *, threads = 0, provider = "auto", contract = None, self_test = true))]
    fn new(
        py: Python<'_>,
        folder: PathBuf,
        threads: usize,
        provider: &str,
        contract: Option<PathBuf>,
        self_test: bool,
    ) -> PyResult<Self> {
        let provider: Provider = provider.parse().map_err(PyValueError::new_err)?;
        let threads = terminal::at_most_cores(threads);
        // How many pictures will come is not known.
        let lanes = embed::Options { threads, ..embed::Options::default() }.lanes(usize::MAX);
        let options = runtime::Options { provider, threads, lanes, contract, self_test, ..runtime::Options::default() };
        host::find(py);
        let opened = work(py, || {
            let opened = runtime::Model::open(&folder, &options)?;
            opened.embedding()?;
            Ok(opened)
        })?;
        let dim = opened.embedding().map_or(0, |(_, spec)| spec.dim);
        Ok(Self { opened: Arc::new(opened), threads, dim })
    }

    /// Values of an embedding.
    #[getter]
    fn dim(&self) -> usize {
        self.dim
    }

    /// The network.
    #[getter]
    fn architecture(&self) -> &str {
        &self.opened.contract.architecture
    }

    /// The model file.
    #[getter]
    fn path(&self) -> &Path {
        &self.opened.path
    }

    /// What runs it: the execution provider.
    #[getter]
    fn provider(&self) -> String {
        self.opened.runs_on()
    }

    /// The file of the ONNX Runtime that runs it.
    #[getter]
    fn library(&self) -> Option<PathBuf> {
        self.opened.runtime.onnxruntime().map(runtime::Runtime::file)
    }

    fn __repr__(&self) -> String {
        let library = self.library().unwrap_or_default();
        format!(
            "<vitrine.Model {} ({}), {} values, on {} of {}>",
            self.opened.path.display(),
            self.architecture(),
            self.dim,
            self.provider(),
            library.display()
        )
    }

    /// Embeddings of pictures.
    #[pyo3(signature = (pictures, *, batch_size = embed::Options::BATCH_SIZE, strict = true))]
    fn embed<'py>(&self, pictures: &Bound<'py, PyAny>, batch_size: usize, strict: bool) -> PyResult<Bound<'py, PyAny>> {
        let py = pictures.py();
        let Given::Pictures(rows) = given::given(pictures)? else {
            return Err(PyValueError::new_err("these are embeddings already; pictures are embedded"));
        };
        if !(1..=1 << 16).contains(&batch_size) {
            return Err(PyValueError::new_err(format!(
                "batch_size {batch_size}; whole numbers from 1 to 65536 are allowed"
            )));
        }
        let Rows { values, skipped, .. } = self.rows(py, &rows, batch_size, strict)?;
        warn(py, &skipped, rows.len())?;
        given::array(py, &values, self.dim)
    }
}

impl Model {
    /// Embeds rows; with `strict` all of them, or it is an error that names the first that cannot be used.
    pub(crate) fn rows(&self, py: Python<'_>, rows: &[Row], batch_size: usize, strict: bool) -> PyResult<Rows> {
        let inputs: Vec<Input> = rows.iter().enumerate().map(|(number, row)| row.input(number)).collect();
        let mut values = vec![f32::NAN; rows.len() * self.dim];
        let mut skipped = Skipped::default();
        if rows.is_empty() {
            return Ok(Rows { values, inputs, skipped });
        }
        // Python's own exceptions, which `deploy` does not know.
        let raised = Mutex::new(None);
        let raise = |error: PyErr| {
            *raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            DeployError::NoPictures
        };
        let source = inputs.iter().zip(rows).map(|(input, row)| row.picture(input).map_err(&raise));
        let options = embed::Options { batch_size, threads: self.threads, strict };
        let done = work(py, || {
            let report = Report { done: |_| (), failed: |_: &Picture<'_>, _: &PictureError| Ok(()) };
            let mut looked = Instant::now();
            let embedded =
                embed::stream_from(&self.opened, source, Some(rows.len()), &options, report, |picture, row| {
                    if looked.elapsed() > INTERRUPTED {
                        looked = Instant::now();
                        Python::attach(|py| py.check_signals()).map_err(&raise)?;
                    }
                    values[picture.number * self.dim..][..self.dim].copy_from_slice(row);
                    Ok(())
                });
            skipped = embedded.map_err(|error| match error {
                // Nobody asked for --strict.
                DeployError::Strict { source, .. } => source.into(),
                other => other,
            })?;
            Ok(())
        });
        match raised.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => done.map(|()| Rows { values, inputs, skipped }),
        }
    }

    /// What galleries of its embeddings are pinned to.
    pub(crate) fn pin(&self) -> Result<::gallery::Model, DeployError> {
        let (_, spec) = self.opened.embedding()?;
        Ok(self.opened.pin(spec))
    }
}

/// Says which pictures cannot be used.
fn warn(py: Python<'_>, skipped: &Skipped, of: usize) -> PyResult<()> {
    if skipped.count == 0 {
        return Ok(());
    }
    let named = skipped.named.iter().map(|error| format!("\n  {}", terminal::sentence(error))).collect::<String>();
    let more = skipped.count - skipped.named.len();
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    let text = format!("{} of {of} pictures cannot be used, their rows are NaN:{named}{more}", skipped.count);
    let text = terminal::printable(&text).into_owned();
    py.import("warnings")?.call_method1("warn", (text, py.get_type::<PyUserWarning>())).map(drop)
}
