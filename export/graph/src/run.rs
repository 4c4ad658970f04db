//! ONNX Runtime, loaded once per process.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{OutputSelector, RunOptions};
use ort::value::{DynValue, Tensor as OrtTensor};

use crate::encode::with_outputs;
use crate::error::Error;
use crate::tensor::{DType, Tensor};

/// A loaded ONNX Runtime. Cheap to copy around: the library is loaded once and stays.
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

/// An output as 64-bit floats.
#[derive(Debug, Clone)]
pub struct Array {
    /// Type that the elements had.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub values: Vec<f64>,
}

/// A model, opened.
#[derive(Debug)]
pub struct Session(ort::session::Session);

/// How a model is opened.
#[derive(Debug, Clone, Copy)]
pub struct Opening<'a> {
    /// At the default level, else exactly as written.
    pub optimise: bool,
    /// Folder of the weights that are not in the model itself.
    pub beside: Option<&'a Path>,
    /// Values that become outputs too.
    pub outputs: &'a [String],
}

impl Opening<'_> {
    /// A model that is complete in itself.
    pub fn plain(optimise: bool) -> Self {
        Self { optimise, beside: None, outputs: &[] }
    }
}

impl Runtime {
    /// Loads the library that [`onnxruntime::locate`] finds, or gives the one loaded before.
    ///
    /// # Errors
    /// If it is missing or too old; the message says what to run.
    pub fn load() -> Result<Self, Error> {
        // Loading fails for good in a process, so that the outcome may be kept, whichever it was.
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

    /// What was loaded, for sessions of one's own: a process can load only once.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Release of the library, where it tells.
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
                // From memory the runtime takes no tensor of 2 GiB.
                let key = "session.model_external_initializers_file_folder_path";
                builder = builder.with_config_entry(key, folder.to_string_lossy())?;
            }
            builder.commit_from_memory(&with_outputs(model, how.outputs)).map(Session)
        };
        attempt().map_err(|source| Error::Runtime { doing: "loading the model", source })
    }
}

impl Session {
    /// Runs the model on named inputs and gives those outputs, in order.
    ///
    /// # Errors
    /// If an input does not fit the model, an output is not one of its, or ONNX Runtime fails.
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
                    return Ok(Array { dtype: DType::$dtype, shape, values: values.iter().map(|&value| value as f64).collect() });
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
