//! Errors as exceptions.

use std::io::ErrorKind;

use ::gallery::GalleryError;
use deploy::DeployError;
use pyo3::PyErr;
use pyo3::exceptions::{
    PyBlockingIOError, PyFileExistsError, PyFileNotFoundError, PyIsADirectoryError, PyNotADirectoryError, PyOSError,
    PyPermissionError, PyRuntimeError, PyValueError,
};

/// The exception of an error, with the sentence that the command line prints: a `RuntimeError` if the machine cannot
/// run models, an `OSError` if the system refused a file or it is not there, otherwise a `ValueError`.
pub(crate) fn raised(error: &DeployError) -> PyErr {
    let text = terminal::printable(&terminal::sentence(error)).into_owned();
    let make = match error {
        DeployError::Locate(_)
        | DeployError::Load { .. }
        | DeployError::Runtime { .. }
        | DeployError::Provider { .. }
        | DeployError::Placement { .. }
        | DeployError::Panicked { .. } => PyRuntimeError::new_err::<String>,
        DeployError::NoGallery(_) | DeployError::NoBundle { .. } => PyFileNotFoundError::new_err,
        DeployError::Locked(_) | DeployError::Migrating(_) => PyBlockingIOError::new_err,
        DeployError::Gallery(GalleryError::Occupied { .. }) => PyFileExistsError::new_err,
        other => match refused(other) {
            None => PyValueError::new_err,
            Some(ErrorKind::NotFound) => PyFileNotFoundError::new_err,
            Some(ErrorKind::PermissionDenied) => PyPermissionError::new_err,
            Some(ErrorKind::AlreadyExists) => PyFileExistsError::new_err,
            Some(ErrorKind::IsADirectory) => PyIsADirectoryError::new_err,
            Some(ErrorKind::NotADirectory) => PyNotADirectoryError::new_err,
            Some(_) => PyOSError::new_err,
        },
    };
    make(text)
}

/// Why the system refused, if that is the cause. Readers of formats report damaged files as errors of reading, too.
fn refused(error: &DeployError) -> Option<ErrorKind> {
    let first: &(dyn std::error::Error + 'static) = error;
    let causes = std::iter::successors(Some(first), |error| error.source());
    let system = causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    system
        .filter(|cause| cause.raw_os_error().is_some() || cause.kind() == ErrorKind::NotFound)
        .map(|c| c.kind())
        .last()
}
