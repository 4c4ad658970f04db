//! Any batches, made ahead by threads and handed out in order.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::{LoaderError, Skipped, lock};

/// What every family's batches have in common.
pub trait Batch: Send + 'static {
    /// Rows; a batch without any is left out.
    fn rows(&self) -> usize;

    /// Pictures that could not be read.
    fn skipped(&mut self) -> &mut Vec<Skipped>;
}

/// Makes the batch of a number; may give up half-way once the flag is set, when nobody wants it any more.
type Make<B> = dyn Fn(usize, &AtomicBool) -> Result<B, LoaderError> + Send + Sync;

/// The batches of one epoch, made ahead by threads. Dropping it stops them.
pub struct Batches<B: Batch> {
    shared: Arc<Shared<B>>,
    threads: Vec<JoinHandle<()>>,
    /// Skipped pictures of batches that had no other.
    carried: Vec<Skipped>,
    /// Whether anything was readable, or an error was handed out.
    yielded: bool,
}

impl<B: Batch> fmt::Debug for Batches<B> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Batches").field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

struct Shared<B> {
    make: Box<Make<B>>,
    count: usize,
    /// Batches made ahead of the one that is asked for.
    ahead: usize,
    state: Mutex<State<B>>,
    changed: Condvar,
    stopped: AtomicBool,
}

struct State<B> {
    /// The next batch nobody makes yet.
    next: usize,
    /// The next batch to hand out.
    wanted: usize,
    ready: BTreeMap<usize, Result<B, LoaderError>>,
    panic: Option<Box<dyn Any + Send>>,
}

impl<B: Batch> Batches<B> {
    /// Starts making batches `start` to `count` in `workers` threads, at least one. What `make` returns may depend on
    /// the number alone, so that the threads change nothing.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn made_by(
        count: usize,
        start: usize,
        workers: usize,
        make: impl Fn(usize, &AtomicBool) -> Result<B, LoaderError> + Send + Sync + 'static,
    ) -> Result<Self, LoaderError> {
        let workers = workers.clamp(1, count.max(1));
        let state = Mutex::new(State { next: start, wanted: start, ready: BTreeMap::new(), panic: None });
        let shared = Arc::new(Shared {
            make: Box::new(make),
            count,
            ahead: workers.max(2),
            state,
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        // Of an epoch that goes on, a batch before the first of these was readable.
        let mut batches = Self { shared, threads: vec![], carried: vec![], yielded: start > 0 };
        for worker in 0..workers {
            let shared = batches.shared.clone();
            let thread = std::thread::Builder::new().name(format!("decode-{worker}"));
            match thread.spawn(move || shared.work()) {
                Ok(thread) => batches.threads.push(thread),
                // Fewer threads are slower, not wrong.
                Err(_) if worker > 0 => break,
                Err(source) => return Err(LoaderError::Threads { source: Arc::new(source) }),
            }
        }
        Ok(batches)
    }

    /// Batches still to come, if none turns out unreadable as a whole.
    pub fn remaining(&self) -> usize {
        self.shared.count.saturating_sub(lock(&self.shared.state).wanted)
    }

    /// Each batch with its number among all batches of the epoch, from 0. A batch that is left out, because none of its
    /// pictures can be read, has a number as well.
    pub fn numbered(mut self) -> impl Iterator<Item = Result<(usize, B), LoaderError>> {
        std::iter::from_fn(move || self.next_numbered())
    }

    fn next_numbered(&mut self) -> Option<Result<(usize, B), LoaderError>> {
        loop {
            let mut state = lock(&self.shared.state);
            if state.wanted >= self.shared.count {
                break;
            }
            let number = state.wanted;
            let made = loop {
                if let Some(panic) = state.panic.take() {
                    drop(state);
                    std::panic::resume_unwind(panic);
                }
                if let Some(made) = state.ready.remove(&number) {
                    break made;
                }
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            };
            state.wanted = if made.is_err() { self.shared.count } else { number + 1 };
            drop(state);
            self.shared.changed.notify_all();
            match made {
                Ok(mut batch) if batch.rows() == 0 => self.carried.append(batch.skipped()),
                Ok(mut batch) => {
                    batch.skipped().splice(..0, self.carried.drain(..));
                    self.yielded = true;
                    return Some(Ok((number, batch)));
                }
                Err(error) => {
                    self.yielded = true;
                    return Some(Err(error));
                }
            }
        }
        let count = self.carried.len();
        let last = self.carried.drain(..).next_back().filter(|_| !self.yielded)?;
        self.yielded = true;
        Some(Err(LoaderError::AllUnreadable { count, source: last.error }))
    }
}

impl<B: Batch> Iterator for Batches<B> {
    type Item = Result<B, LoaderError>;

    /// # Panics
    /// With the panic of a decoding thread.
    fn next(&mut self) -> Option<Self::Item> {
        self.next_numbered().map(|batch| batch.map(|(_, batch)| batch))
    }
}

impl<B: Batch> Drop for Batches<B> {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Under the lock: a thread between its check and its wait would miss the news.
        drop(lock(&self.shared.state));
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // Their panics are caught inside.
            let _ = thread.join();
        }
    }
}

impl<B: Batch> Shared<B> {
    /// A thread's life: takes the next batch that is not too far ahead, makes it, puts it down.
    fn work(&self) {
        loop {
            let mut state = lock(&self.state);
            while !self.stopped.load(Ordering::Relaxed)
                && state.next < self.count
                && state.next >= state.wanted + self.ahead
            {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            // After an error `wanted` is at the end: nothing more is asked for.
            if self.stopped.load(Ordering::Relaxed) || state.next.max(state.wanted) >= self.count {
                return;
            }
            let number = state.next;
            state.next += 1;
            drop(state);
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (self.make)(number, &self.stopped)));
            let mut state = lock(&self.state);
            match made {
                Ok(made) => drop(state.ready.insert(number, made)),
                Err(panic) => state.panic = Some(panic),
            }
            drop(state);
            self.changed.notify_all();
        }
    }
}
