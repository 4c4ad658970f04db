//! Where ONNX Runtime is found, and that it tells nobody. It is loaded at run time, so that one binary serves CPU, CUDA
//! and TensorRT.

use std::path::{Path, PathBuf};

mod telemetry;

/// Environment variable that names the library file.
pub const VARIABLE: &str = "ORT_DYLIB_PATH";

/// What to type when it is missing or too old.
pub const INSTALL: &str = "ci/onnxruntime cpu";

/// Oldest release that has the interface we compile against.
pub const OLDEST: &str = "1.31";

/// File name of the library on this system.
pub const LIBRARY: &str = if cfg!(windows) {
    "onnxruntime.dll"
} else if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else {
    "libonnxruntime.so"
};

/// Why no library could be chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The variable is set, but there is no such file. Falling back to another library would hide the mistake.
    #[error("{VARIABLE} names `{}`, which is not a file", path.display())]
    Variable {
        /// Value of the variable.
        path: PathBuf,
    },
}

/// The ONNX Runtime library: `ORT_DYLIB_PATH`; beside the executable; `.cache/onnxruntime/current` in the executable's
/// folder or one above it; else the bare file name, for the system's own library path. The working folder counts
/// nowhere: whoever can write to a folder could run code in every program that is started there (CWE-426).
///
/// # Errors
/// If `ORT_DYLIB_PATH` names no file.
pub fn locate() -> Result<PathBuf, RuntimeError> {
    let variable = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let executable = std::env::current_exe().ok();
    let beside = executable.as_deref().and_then(Path::parent);
    search(variable, beside)
}

fn search(variable: Option<PathBuf>, beside: Option<&Path>) -> Result<PathBuf, RuntimeError> {
    if let Some(path) = variable {
        return if path.is_file() { Ok(path) } else { Err(RuntimeError::Variable { path }) };
    }
    let installed = |folder: &Path| folder.join(".cache/onnxruntime/current").join(LIBRARY);
    let above = beside.into_iter().flat_map(Path::ancestors).map(installed);
    let mut candidates = beside.map(|folder| folder.join(LIBRARY)).into_iter().chain(above);
    Ok(candidates.find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(LIBRARY)))
}

/// The file behind the loaded library `path`, links resolved, where the system tells; a bare name was looked up by it.
pub fn loaded(path: &Path) -> PathBuf {
    if let Ok(file) = path.canonicalize() {
        return file;
    }
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mapped = maps.lines().filter_map(|line| line.find('/').map(|start| Path::new(&line[start..])));
    let name = |path: &&Path| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("libonnxruntime."));
    mapped.into_iter().find(name).map_or_else(|| path.to_owned(), Path::to_path_buf)
}

/// Release of the loaded library `path`, from the version its symbols carry or its file name; none where neither tells.
pub fn version(path: &Path) -> Option<String> {
    let file = loaded(path);
    symbol_version(&std::fs::read(&file).ok()?).or_else(|| {
        let name = file.file_name()?.to_str()?;
        let version = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        version.starts_with("1.").then(|| version.trim_end_matches(".dylib").to_owned())
    })
}

/// `1.31.1` of the symbol version `VERS_1.31.1`, which builds for Linux define.
fn symbol_version(library: &[u8]) -> Option<String> {
    const MARKER: &[u8] = b"VERS_1.";
    let at = library.windows(MARKER.len()).position(|window| window == MARKER)?;
    let version = library[at + 5..].iter().take(16).take_while(|byte| byte.is_ascii_digit() || **byte == b'.');
    Some(version.map(|byte| char::from(*byte)).collect())
}

/// The sentence for a library that cannot be loaded.
pub fn advice(path: &Path) -> String {
    format!(
        "cannot use ONNX Runtime at `{}`; {OLDEST} or newer is needed: run `{INSTALL}`, or set {VARIABLE} to the library file",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_symbols() {
        assert_eq!(symbol_version(b"..\0VERS_1.31.1\0OrtGetApiBase").as_deref(), Some("1.31.1"));
        assert_eq!(symbol_version(b"GLIBC_2.17"), None);
    }

    #[test]
    fn the_order_is_variable_executable_cache_system() {
        let root = tempfile::tempdir().unwrap();
        let touch = |path: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            path
        };
        let beside = root.path().join("target/release");
        let find = |variable| search(variable, Some(&beside));
        assert_eq!(find(None).unwrap(), Path::new(LIBRARY));
        let cached = touch(&format!(".cache/onnxruntime/current/{LIBRARY}"));
        assert_eq!(find(None).unwrap(), cached);
        let own = touch(&format!("target/release/{LIBRARY}"));
        assert_eq!(find(None).unwrap(), own);
        let named = touch("elsewhere/lib.so");
        assert_eq!(find(Some(named.clone())).unwrap(), named);
        let error = find(Some(root.path().join("missing.so"))).unwrap_err();
        assert!(error.to_string().contains("missing.so"), "{error}");
    }
}
