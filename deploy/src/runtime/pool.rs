//! Sessions that batches take in turn.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, PoisonError};

use ort::session::{RunOptions, Session, SessionInputs};

/// Output values by name, each with its shape.
pub type Outputs = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Sessions waiting for a batch.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<Session>>,
    returned: Condvar,
}

/// A session out of the pool; goes back when dropped.
pub(super) struct Taken<'a> {
    session: Option<Session>,
    pool: &'a Pool,
}

impl Pool {
    pub(super) fn put(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        self.returned.notify_one();
    }

    pub(super) fn take(&self) -> Taken<'_> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(session) = idle.pop() {
                return Taken { session: Some(session), pool: self };
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Taken<'_> {
    pub(super) fn run<'s, 'i, 'v: 'i, const N: usize>(
        &'s mut self,
        inputs: impl Into<SessionInputs<'i, 'v, N>>,
        options: &'s RunOptions,
    ) -> ort::Result<ort::session::SessionOutputs<'s>> {
        self.session.as_mut().expect("present until dropped").run_with_options(inputs, options)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.put(session);
        }
    }
}
