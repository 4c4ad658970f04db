//! Work without Python's lock.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use deploy::DeployError;
use pyo3::prelude::*;

use crate::error::raised;

/// Does it while other threads of Python run. A panic does not cross the border: it is an error like the others.
pub(crate) fn work<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T, DeployError> + Send) -> PyResult<T> {
    let done = py.detach(|| catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(panicked(&*panic))));
    done.map_err(|error| raised(&error))
}

fn panicked(panic: &(dyn Any + Send)) -> DeployError {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned());
    DeployError::Panicked { message }
}
