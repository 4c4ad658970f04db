//! Rows of many requests, embedded together: a bounded queue, and a thread for each session of the model.
//!
//! A thread takes what waits, up to a batch, whenever it is free: under load batches fill up, and a single request
//! waits for nobody. What nobody waits for any more, or what has waited too long, is not computed.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::error::Problem;
use super::metrics::Metrics;
use crate::embed;
use crate::runtime::{Model, Outputs};

/// What is to be computed, and who waits for it.
pub(crate) enum Job {
    /// An embedding of the normalised pictures of one row, `[channels, height, width]` of each input.
    Embed { inputs: Vec<Vec<f32>>, reply: oneshot::Sender<Result<Vec<f32>, Problem>> },
    /// All outputs for a batch of one's own.
    Infer { inputs: Vec<Vec<f32>>, rows: usize, reply: oneshot::Sender<Result<Outputs, Problem>> },
}

impl Job {
    /// Whether nobody waits for it.
    fn is_left(&self) -> bool {
        match self {
            Self::Embed { reply, .. } => reply.is_closed(),
            Self::Infer { reply, .. } => reply.is_closed(),
        }
    }

    fn refuse(self, problem: Problem) {
        // Who is gone needs no answer.
        match self {
            Self::Embed { reply, .. } => drop(reply.send(Err(problem))),
            Self::Infer { reply, .. } => drop(reply.send(Err(problem))),
        }
    }
}

struct Waiting {
    job: Job,
    until: Instant,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Waiting>,
    closed: bool,
}

/// What waits for a session.
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    most: usize,
    deadline: Duration,
    metrics: Arc<Metrics>,
}

impl Queue {
    pub(crate) fn new(most: usize, deadline: Duration, metrics: Arc<Metrics>) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), most, deadline, metrics }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts all of the jobs of a request into the queue, or none.
    pub(crate) fn push(&self, jobs: Vec<Job>) -> Result<(), Problem> {
        let mut state = self.lock();
        if state.jobs.len() + jobs.len() > self.most {
            let found = format!("{} rows, and {} wait", jobs.len(), state.jobs.len());
            drop(state);
            let full = Problem::busy("queue of the model", "the queue is full");
            return Err(full.found(found).allowed(format!("{} rows", self.most)).flag("--max-queue"));
        }
        let until = Instant::now() + self.deadline;
        state.jobs.extend(jobs.into_iter().map(|job| Waiting { job, until }));
        self.metrics.queue.set(state.jobs.len() as i64);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Lets the threads end when the queue is empty.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// The next jobs, which run together; none once the queue is closed and empty.
    fn take(&self, most: usize) -> Option<Vec<Job>> {
        let mut state = self.lock();
        loop {
            let mut batch = Vec::new();
            let now = Instant::now();
            while let Some(waiting) = state.jobs.front() {
                let alone = matches!(waiting.job, Job::Infer { .. });
                if batch.len() >= most || alone && !batch.is_empty() {
                    break;
                }
                let Some(Waiting { job, until }) = state.jobs.pop_front() else { break };
                if job.is_left() {
                    self.metrics.dropped.inc();
                } else if until < now {
                    self.metrics.dropped.inc();
                    let late = Problem::busy("queue of the model", "this waited too long for the network");
                    let allowed = format!("{} seconds", self.deadline.as_secs());
                    job.refuse(late.allowed(allowed).flag("--deadline-seconds"));
                } else {
                    batch.push(job);
                    if alone {
                        break;
                    }
                }
            }
            self.metrics.queue.set(state.jobs.len() as i64);
            if !batch.is_empty() {
                // More than this thread takes is for another one.
                if !state.jobs.is_empty() {
                    self.changed.notify_one();
                }
                return Some(batch);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Starts a thread for each session of the model; they end after the queue is closed.
pub(crate) fn start(model: &Arc<Model>, queue: &Arc<Queue>, batch: usize) -> std::io::Result<()> {
    for lane in 0..model.lanes {
        let (model, queue) = (Arc::clone(model), Arc::clone(queue));
        std::thread::Builder::new().name(format!("network {lane}")).spawn(move || {
            let mut memory = Memory::default();
            while let Some(jobs) = queue.take(batch) {
                run(&model, jobs, &mut memory, &queue.metrics);
            }
        })?;
    }
    Ok(())
}

/// Memory that a thread keeps from batch to batch.
#[derive(Default)]
struct Memory {
    batches: Vec<Vec<f32>>,
    mirrored: Vec<Vec<f32>>,
}

fn run(model: &Model, jobs: Vec<Job>, memory: &mut Memory, metrics: &Metrics) {
    let (mut rows, mut waiting) = (Vec::new(), Vec::new());
    for job in jobs {
        match job {
            Job::Embed { inputs, reply } => {
                rows.push(inputs);
                waiting.push(reply);
            }
            Job::Infer { inputs, rows, reply } => {
                metrics.batch.observe(rows as f64);
                let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
                let done = guarded(|| model.run(&inputs, rows, None));
                drop(reply.send(done));
            }
        }
    }
    if waiting.is_empty() {
        return;
    }
    metrics.batch.observe(rows.len() as f64);
    match guarded(|| embedded(model, &rows, memory)) {
        Err(problem) => {
            let mut problem = Some(problem);
            for reply in waiting {
                // One failure is told once with its cause.
                let told = problem.take().unwrap_or_else(|| Problem::internal("another row of the batch failed"));
                drop(reply.send(Err(told)));
            }
        }
        Ok((values, dim)) => {
            for (row, reply) in values.chunks_exact(dim).zip(waiting) {
                let answer = match contract::embedding::check(row) {
                    Ok(()) => Ok(row.to_vec()),
                    Err(problem) => Err(Problem::unfit("picture", format!("it has no embedding: {problem}"))),
                };
                drop(reply.send(answer));
            }
        }
    }
}

fn embedded(
    model: &Model,
    rows: &[Vec<Vec<f32>>],
    memory: &mut Memory,
) -> Result<(Vec<f32>, usize), crate::DeployError> {
    let (inputs, spec) = model.embedding()?;
    memory.batches.resize(inputs.len(), Vec::new());
    for (input, batch) in memory.batches.iter_mut().enumerate() {
        batch.clear();
        rows.iter().for_each(|row| batch.extend_from_slice(&row[input]));
    }
    let Memory { batches, mirrored } = memory;
    Ok((embed::embed_rows(model, &inputs, spec, batches, rows.len(), mirrored)?, spec.dim))
}

/// A panic is an error of those who wait, and of nobody else.
fn guarded<T>(work: impl FnOnce() -> Result<T, crate::DeployError>) -> Result<T, Problem> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done.map_err(|error| Problem::internal(terminal::sentence(&error))),
        Err(_) => Err(Problem::internal("the network panicked; its message is on stderr")),
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    type Reply = oneshot::Receiver<Result<Vec<f32>, Problem>>;

    fn job(number: f32) -> (Job, Reply) {
        let (reply, answer) = oneshot::channel();
        (Job::Embed { inputs: vec![vec![number]], reply }, answer)
    }

    fn numbers(jobs: &[Job]) -> Vec<f32> {
        let number = |job: &Job| match job {
            Job::Embed { inputs, .. } | Job::Infer { inputs, .. } => inputs[0][0],
        };
        jobs.iter().map(number).collect()
    }

    fn queue(most: usize, deadline: Duration) -> Queue {
        Queue::new(most, deadline, Arc::new(Metrics::new()))
    }

    #[test]
    fn what_waits_runs_together_and_what_nobody_waits_for_does_not() {
        let queue = queue(8, Duration::from_secs(3600));
        let (jobs, answers): (Vec<Job>, Vec<Reply>) = (0..5).map(|number| job(number as f32)).unzip();
        queue.push(jobs).unwrap();
        let mut answers: Vec<Option<Reply>> = answers.into_iter().map(Some).collect();
        answers[1] = None;
        assert_eq!(numbers(&queue.take(3).unwrap()), [0.0, 2.0, 3.0]);
        assert_eq!(numbers(&queue.take(3).unwrap()), [4.0]);
        assert_eq!(queue.metrics.dropped.get(), 1);
        queue.close();
        assert!(queue.take(3).is_none());
    }

    #[test]
    fn a_batch_of_ones_own_runs_alone() {
        let queue = queue(8, Duration::from_secs(3600));
        let (first, _one) = job(1.0);
        let (reply, _two) = oneshot::channel();
        let (last, _three) = job(3.0);
        queue.push(vec![first, Job::Infer { inputs: vec![vec![2.0]], rows: 1, reply }, last]).unwrap();
        let taken: Vec<Vec<f32>> = (0..3).map(|_| numbers(&queue.take(8).unwrap())).collect();
        assert_eq!(taken, [[1.0], [2.0], [3.0]]);
    }

    #[test]
    fn a_full_queue_refuses_whole_requests_and_names_its_limit() {
        let queue = queue(2, Duration::from_secs(3600));
        let (one, _answer) = job(1.0);
        queue.push(vec![one]).unwrap();
        let (jobs, _answers): (Vec<Job>, Vec<Reply>) = (0..2).map(|number| job(number as f32)).unzip();
        let refused = format!("{:?}", queue.push(jobs).unwrap_err());
        assert!(refused.contains("--max-queue") && refused.contains("2 rows"), "{refused}");
        assert_eq!(queue.take(8).unwrap().len(), 1, "nothing of a refused request is there");
    }

    #[test]
    fn what_waited_too_long_is_refused_and_not_computed() {
        let queue = queue(2, Duration::ZERO);
        let (late, mut answer) = job(1.0);
        queue.push(vec![late]).unwrap();
        // The clock is past the deadline once it has moved at all.
        let pushed = Instant::now();
        while Instant::now() == pushed {}
        queue.close();
        assert!(queue.take(8).is_none());
        let refused = answer.try_recv().unwrap().unwrap_err();
        assert_eq!(refused.into_response().status(), axum::http::StatusCode::SERVICE_UNAVAILABLE);
    }
}
