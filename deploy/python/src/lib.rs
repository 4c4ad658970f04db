//! Vitrine's models and galleries as a Python module.
//!
//! Arguments from Python become pictures and rows ([`given`]), `deploy` does the work while Python's lock is given back
//! ([`work`]), and its errors become exceptions with the sentences of the command line ([`error`]). What the module
//! offers is described for users in `vitrine.pyi`.

#![allow(clippy::result_large_err, reason = "the error is that of `deploy`")]

mod error;
mod gallery;
mod given;
mod host;
mod model;
mod work;

/// The module.
#[pyo3::pymodule]
mod vitrine {
    use std::path::PathBuf;

    use pyo3::prelude::*;

    #[pymodule_export]
    use super::gallery::{Gallery, Match};
    #[pymodule_export]
    use super::model::Model;

    /// Opens encrypted galleries with the key of this file from here on.
    #[pyfunction]
    fn unlock(py: Python<'_>, file: PathBuf) -> PyResult<()> {
        super::work::work(py, || deploy::gallery::unlock(&file))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        super::host::prepare(module.py())
    }
}
