//! Runs models in ONNX Runtime, which is loaded once per process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{OutputSelector, RunOptions};
use ort::value::{DynValue, Tensor as OrtTensor};

use crate::encode::with_outputs;
use crate::error::Error;
use crate::tensor::{DType, Tensor};

/// A loaded ONNX Runtime. Cheap to copy: the library is loaded once and stays loaded.
#[derive(Clone)]
pub struct Runtime {
    library: PathBuf,
    environment: Environment,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").finish_non_exhaustive()
    }
}

/// An output of a model, as f64.
#[derive(Debug, Clone)]
pub struct Array {
    /// Element type of the output.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f64>,
}

/// An open model.
#[derive(Debug)]
pub struct Session(ort::session::Session);

/// Options for opening a model.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// Whether ONNX Runtime optimises the graph (at its default level) or runs it exactly as written.
    pub optimise: bool,
    /// Folder of the external weights.
    pub beside: Option<&'a Path>,
    /// Values to add to the outputs.
    pub outputs: &'a [String],
}

impl Opening<'_> {
    /// Options for a model without external weights.
    pub fn plain(optimise: bool) -> Self {
        Self { optimise, beside: None, outputs: &[] }
    }
}

impl Runtime {
    /// Loads the library that [`onnxruntime::locate`] finds, or returns the one loaded before.
    ///
    /// # Errors
    /// If it is missing or too old; the message says how to install it.
    pub fn load() -> Result<Self, Error> {
        // A failed load cannot be repeated within a process, so its outcome is kept either way.
        static LOADED: OnceLock<Result<Environment, String>> = OnceLock::new();
        let path = onnxruntime::locate()?;
        let loaded = LOADED.get_or_init(|| {
            let builder = ort::init_from(&path).map_err(|error| error.to_string())?;
            builder.with_name("vitrine-export").build().map_err(|error| error.to_string())
        });
        match loaded {
            Ok(environment) => Ok(Self { library: path, environment: environment.clone() }),
            Err(cause) => Err(Error::RuntimeMissing { path, cause: cause.clone() }),
        }
    }

    /// The environment, for your own sessions: a process can load only one.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Version of the library, if it tells.
    pub fn version(&self) -> Option<String> {
        onnxruntime::version(&self.library)
    }

    /// Opens a model.
    ///
    /// # Errors
    /// If ONNX Runtime refuses it.
    pub fn open(&self, model: &[u8], how: Opening) -> Result<Session, Error> {
        let attempt = || -> Result<Session, ort::Error> {
            let level = if how.optimise { GraphOptimizationLevel::All } else { GraphOptimizationLevel::Disable };
            let mut builder = ort::session::Session::builder(&self.environment)?.with_optimization_level(level)?;
            if let Some(folder) = how.beside {
                // ONNX Runtime does not accept a tensor of 2 GiB from memory.
                let key = "session.model_external_initializers_file_folder_path";
                builder = builder.with_config_entry(key, folder.to_string_lossy())?;
            }
            builder.commit_from_memory(&with_outputs(model, how.outputs)).map(Session)
        };
        attempt().map_err(|source| Error::Runtime { doing: "loading the model", source })
    }
}

impl Session {
    /// Runs the model on named inputs and returns the named outputs, in order.
    ///
    /// # Errors
    /// If an input does not fit the model, an output does not exist, or ONNX Runtime fails.
    pub fn run(&mut self, inputs: &[(String, Tensor)], outputs: &[String]) -> Result<Vec<Array>, Error> {
        let failed = |source: ort::Error| Error::Runtime { doing: "running the model", source };
        let mut feeds: Vec<(String, DynValue)> = vec![];
        for (name, tensor) in inputs {
            feeds.push((name.clone(), feed(tensor).map_err(failed)?));
        }
        let wanted = outputs.iter().fold(OutputSelector::no_default(), |all, name| all.with(name));
        let options = RunOptions::new().map_err(failed)?.with_outputs(wanted);
        let given = self.0.run_with_options(feeds, &options).map_err(failed)?;
        outputs.iter().map(|name| fetch(&given[name.as_str()]).map_err(failed)).collect()
    }

    /// Runs the model and shows `see` the name, shape and values of each named output of single precision, without
    /// copying; of no name, it computes all outputs and shows none.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn visit(
        &mut self,
        inputs: &[(String, Tensor)],
        outputs: &[String],
        mut see: impl FnMut(&str, &[usize], &[f32]),
    ) -> Result<(), Error> {
        let failed = |source: ort::Error| Error::Runtime { doing: "running the model", source };
        let mut feeds: Vec<(String, DynValue)> = vec![];
        for (name, tensor) in inputs {
            feeds.push((name.clone(), feed(tensor).map_err(failed)?));
        }
        if outputs.is_empty() {
            self.0.run(feeds).map_err(failed)?;
            return Ok(());
        }
        let wanted = outputs.iter().fold(OutputSelector::no_default(), |all, name| all.with(name));
        let options = RunOptions::new().map_err(failed)?.with_outputs(wanted);
        let given = self.0.run_with_options(feeds, &options).map_err(failed)?;
        for name in outputs {
            if let Ok((shape, values)) = given[name.as_str()].try_extract_tensor::<f32>() {
                let shape: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
                see(name, &shape, values);
            }
        }
        Ok(())
    }
}

fn feed(tensor: &Tensor) -> Result<DynValue, ort::Error> {
    let shape: Vec<i64> = tensor.dims().iter().map(|&size| size as i64).collect();
    macro_rules! feed {
        ($t:ty) => {{
            let chunks = tensor.bytes().as_chunks().0.iter();
            let values: Vec<$t> = chunks.map(|&chunk| <$t>::from_le_bytes(chunk)).collect();
            Ok(OrtTensor::from_array((shape, values))?.into_dyn())
        }};
    }
    match tensor.dtype() {
        DType::Double => feed!(f64),
        DType::Float => feed!(f32),
        DType::Int64 => feed!(i64),
        DType::Int32 => feed!(i32),
        DType::Int16 => feed!(i16),
        DType::Int8 => feed!(i8),
        DType::Uint64 => feed!(u64),
        DType::Uint32 => feed!(u32),
        DType::Uint16 => feed!(u16),
        DType::Uint8 => feed!(u8),
        DType::Bool => {
            let values: Vec<bool> = tensor.bytes().iter().map(|&byte| byte != 0).collect();
            Ok(OrtTensor::from_array((shape, values))?.into_dyn())
        }
        DType::Float16 => feed!(half::f16),
        DType::Bfloat16 => feed!(half::bf16),
    }
}

fn fetch(value: &DynValue) -> Result<Array, ort::Error> {
    macro_rules! fetch {
        ($($t:ty as $dtype:ident),+) => {
            $(
                if let Ok((shape, values)) = value.try_extract_tensor::<$t>() {
                    let shape = shape.iter().map(|&size| size as usize).collect();
                    let values = values.iter().map(|&value| value as f64).collect();
                    return Ok(Array { dtype: DType::$dtype, shape, values });
                }
            )+
        };
    }
    fetch!(
        f32 as Float,
        f64 as Double,
        i64 as Int64,
        i32 as Int32,
        i16 as Int16,
        i8 as Int8,
        u64 as Uint64,
        u32 as Uint32,
        u16 as Uint16,
        u8 as Uint8
    );
    let (shape, values) = value.try_extract_tensor::<bool>()?;
    let shape = shape.iter().map(|&size| size as usize).collect();
    Ok(Array { dtype: DType::Bool, shape, values: values.iter().map(|&value| f64::from(u8::from(value))).collect() })
}
