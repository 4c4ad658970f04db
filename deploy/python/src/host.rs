//! What this Python brings along.

use std::path::PathBuf;

use pyo3::prelude::*;

/// What to type where ONNX Runtime is missing.
const INSTALL: &str = "pip install 'vitrine[onnxruntime]'";

/// Sets the environment that ONNX Runtime is to be loaded in, as programs have it before they begin.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    let environment = py.import("os")?.getattr("environ")?;
    onnxruntime::VARIABLES.iter().try_for_each(|(name, value)| environment.set_item(name, value))
}

/// Makes the library of the package `onnxruntime` known, if this Python has it. The package is not imported: that
/// would load a second copy. One that was installed since the last call is found.
pub(crate) fn find(py: Python<'_>) {
    onnxruntime::set_host(onnxruntime::Host { library: library(py), install: INSTALL });
}

fn library(py: Python<'_>) -> Option<PathBuf> {
    // What other code did to the interpreter's list of modules is no error here.
    let spec = py.import("importlib.util").and_then(|util| util.call_method1("find_spec", ("onnxruntime",))).ok()?;
    let folders: Vec<PathBuf> = spec.getattr("submodule_search_locations").and_then(|own| own.extract()).ok()?;
    let files = folders.iter().filter_map(|folder| folder.join("capi").read_dir().ok()).flatten().flatten();
    // Its name ends with the version, on Linux after `.so`.
    let named = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
            name == onnxruntime::LIBRARY
                || name.starts_with("libonnxruntime.so.")
                || name.starts_with("libonnxruntime.1")
        })
    };
    files.map(|file| file.path()).filter(|path| named(path) && path.is_file()).max()
}
