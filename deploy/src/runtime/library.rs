//! ONNX Runtime: loaded once per process, from where [`onnxruntime::locate`] finds it.

use std::path::PathBuf;
use std::sync::OnceLock;

use ort::environment::Environment;

use crate::DeployError;

/// The loaded library.
#[derive(Clone)]
pub struct Runtime {
    /// The file that was asked for; a bare name was looked up by the system.
    pub library: PathBuf,
    /// The environment of all sessions.
    pub(crate) environment: Environment,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime").field("library", &self.library).finish_non_exhaustive()
    }
}

/// Loads ONNX Runtime, or returns what is loaded already.
///
/// # Errors
/// If there is no library, it does not load, or it is older than [`onnxruntime::OLDEST`].
pub fn load() -> Result<Runtime, DeployError> {
    static LOADED: OnceLock<Runtime> = OnceLock::new();
    static LOADING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = LOADING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(runtime) = LOADED.get() {
        return Ok(runtime.clone());
    }
    let library = onnxruntime::locate()?;
    let builder = ort::init_from(&library).map_err(|source| DeployError::Load { path: library.clone(), source })?;
    let environment = builder
        .with_name("vitrine")
        .with_telemetry(false)
        .build()
        .map_err(|source| DeployError::Runtime { what: "start".into(), source })?;
    // What fails reaches us as an error and is printed once; the library would print it a second time.
    environment.set_log_level(ort::logging::LogLevel::Fatal);
    Ok(LOADED.get_or_init(|| Runtime { library, environment }).clone())
}

impl Runtime {
    /// The file that really is loaded, links resolved, where the system tells.
    pub fn file(&self) -> PathBuf {
        onnxruntime::loaded(&self.library)
    }

    /// Release of the library, where it tells.
    pub fn version(&self) -> Option<String> {
        onnxruntime::version(&self.library)
    }
}
