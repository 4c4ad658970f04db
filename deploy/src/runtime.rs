//! ONNX Runtime: loaded once per process, from where [`contract::runtime::locate`] finds it.

use std::path::{Path, PathBuf};
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
/// If there is no library, it does not load, or it is older than [`contract::runtime::OLDEST`].
pub fn load() -> Result<Runtime, DeployError> {
    static LOADED: OnceLock<Runtime> = OnceLock::new();
    static LOADING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one_at_a_time = LOADING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(runtime) = LOADED.get() {
        return Ok(runtime.clone());
    }
    let library = contract::runtime::locate()?;
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
        if let Ok(path) = self.library.canonicalize() {
            return path;
        }
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mapped = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
        let name = |path: &&Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime."));
        mapped.into_iter().find(name).map_or_else(|| self.library.clone(), Path::to_path_buf)
    }

    /// Release of the library, from the version its symbols carry or its file name; none where neither tells.
    pub fn version(&self) -> Option<String> {
        let file = self.file();
        symbol_version(&std::fs::read(&file).ok()?).or_else(|| {
            let name = file.file_name()?.to_str()?;
            let version = name.trim_start_matches(|c: char| !c.is_ascii_digit());
            version.starts_with("1.").then(|| version.trim_end_matches(".dylib").to_owned())
        })
    }
}

/// `1.31.1` of the symbol version `VERS_1.31.1`, which builds for Linux define.
fn symbol_version(library: &[u8]) -> Option<String> {
    const MARKER: &[u8] = b"VERS_1.";
    let at = library.windows(MARKER.len()).position(|window| window == MARKER)?;
    let version = library[at + 5..].iter().take(16).take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
    Some(version.map(|byte| char::from(*byte)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_symbols() {
        assert_eq!(symbol_version(b"..\0VERS_1.31.1\0OrtGetApiBase").as_deref(), Some("1.31.1"));
        assert_eq!(symbol_version(b"GLIBC_2.17"), None);
    }
}
