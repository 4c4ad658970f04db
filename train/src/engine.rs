//! The one training loop: epochs, steps, evaluation, checkpoints, interruption. What is special to a family is its [`Task`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use contract::cli::progress;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{self, Checkpoint, CheckpointError, Record};
use crate::history::{EpochRecord, History, HistoryError};
use crate::loss::LossTerms;
use crate::model::StateDict;
use crate::optim::{OptimError, Optimizer, OptimizerConfig};
use crate::schedule::Schedule;

/// An error of a task's own data or evaluation.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

/// A family's data, network and loss, as the loop sees them.
pub trait Task {
    /// The network, on an autodiff device.
    type Net: Module;
    /// What one step reads.
    type Batch;

    /// The batches of `epoch` (from 1), without the first `done`: a pure function of its arguments and the seed.
    ///
    /// # Errors
    /// If no batch can be made.
    fn epoch(&self, epoch: usize, done: usize) -> Result<Epoch<Self::Batch>, TaskError>;

    /// Pictures in a batch.
    fn pictures(&self, batch: &Self::Batch) -> usize;

    /// Which pictures a batch holds, for the message when its loss is not a number.
    fn describe(&self, batch: &Self::Batch) -> String;

    /// Loss of one batch. State of the loss (class centres) moves.
    fn loss(&mut self, net: &Self::Net, batch: &Self::Batch) -> LossTerms;

    /// Metrics of a network on a device without autodiff; the one called [`Task::decisive`] chooses the best.
    ///
    /// # Errors
    /// If the evaluation data cannot be read.
    fn evaluate(&self, net: &Self::Net) -> Result<BTreeMap<String, f64>, TaskError>;

    /// Name of the metric by which the best network is chosen; larger is better.
    fn decisive(&self) -> &'static str;

    /// State of the loss, for the checkpoint.
    fn state(&self) -> Vec<u8>;

    /// Takes over what [`Task::state`] gave.
    ///
    /// # Errors
    /// If it is not that.
    fn set_state(&mut self, state: &[u8]) -> Result<(), TaskError>;

    /// Training pictures that turned out unreadable so far, for the report of an epoch.
    fn unreadable(&self) -> usize {
        0
    }
}

/// The batches of an epoch.
pub struct Epoch<B> {
    /// Steps in the whole epoch, those already done included.
    pub steps: usize,
    /// The batches that remain.
    pub batches: Box<dyn Iterator<Item = Result<B, TaskError>>>,
}

/// What the loop needs besides the task.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Epochs of the whole run; 0: the network is evaluated and saved as it is.
    pub epochs: usize,
    /// Epochs between evaluations; 0: only after the last.
    pub test_every: usize,
    /// Learning rates.
    pub schedule: Schedule,
    /// Optimiser.
    pub optimizer: OptimizerConfig,
    /// Resumable checkpoints kept.
    pub keep: usize,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All epochs are done; the best value of the decisive metric and its epoch.
    Finished {
        /// Best value and its epoch.
        best: Option<(f64, usize)>,
    },
    /// Stopped by the user after a save.
    Interrupted {
        /// The checkpoint to resume from.
        checkpoint: PathBuf,
    },
}

/// Why a run ended early. Nothing that was saved before has been overwritten.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The loss is NaN or infinite.
    #[error("the loss is {value} at epoch {epoch}, batch {step} of {steps} ({terms}); pictures: {pictures}")]
    Loss {
        /// The loss.
        value: f64,
        /// Epoch, from 1.
        epoch: usize,
        /// Batch, from 1.
        step: usize,
        /// Batches in the epoch.
        steps: usize,
        /// The terms by name.
        terms: String,
        /// The pictures of the batch.
        pictures: String,
    },
    /// A weight is NaN or infinite, though the losses so far were finite.
    #[error("`{parameter}` is not finite after epoch {epoch} and {step} more steps; what was saved before is intact")]
    Weights {
        /// The first such parameter.
        parameter: String,
        /// Finished epochs.
        epoch: usize,
        /// Finished steps after them.
        step: usize,
    },
    /// The epoch has no batch.
    #[error("epoch {epoch} has no batch: there are fewer pictures or identities than one batch wants")]
    Empty {
        /// Epoch, from 1.
        epoch: usize,
    },
    /// Data or evaluation.
    #[error(transparent)]
    Task(TaskError),
    /// Saving or resuming.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Logging.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The optimiser's settings or saved state.
    #[error(transparent)]
    Optimizer(#[from] OptimError),
}

/// Lets the first Ctrl-C or SIGTERM set the flag that is returned, and the second end the process at once.
pub fn watch_interrupts() -> &'static AtomicBool {
    static STOP: AtomicBool = AtomicBool::new(false);
    let handler = || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        eprintln!("\nstopping after this step; once more to stop at once, without saving");
    };
    // Only fails when a handler exists already, which then is this one.
    let _ = ctrlc::set_handler(handler);
    &STOP
}

/// A sum of which every bit survives the record: readers of JSON may round the last one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
struct Sum(f64);

impl From<u64> for Sum {
    fn from(bits: u64) -> Self {
        Self(f64::from_bits(bits))
    }
}

impl From<Sum> for u64 {
    fn from(sum: Sum) -> Self {
        sum.0.to_bits()
    }
}

/// Sums of an epoch's log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Sums {
    steps: usize,
    pictures: usize,
    seconds: Sum,
    total: Sum,
    terms: Vec<(String, Sum)>,
}

impl Sums {
    fn add(&mut self, total: f64, terms: Vec<(String, f64)>, pictures: usize, seconds: f64) {
        self.steps += 1;
        self.pictures += pictures;
        self.seconds.0 += seconds;
        self.total.0 += total;
        if self.terms.is_empty() {
            self.terms = terms.into_iter().map(|(name, value)| (name, Sum(value))).collect();
        } else {
            self.terms.iter_mut().zip(terms).for_each(|((_, sum), (_, value))| sum.0 += value);
        }
    }

    fn mean(&self, sum: Sum) -> f64 {
        sum.0 / self.steps.max(1) as f64
    }

    fn loss(&self) -> f64 {
        self.mean(self.total)
    }

    fn rate(&self) -> f64 {
        self.pictures as f64 / self.seconds.0.max(1e-9)
    }
}

/// Trains `net` in the run directory `dir`, from `resume` where it is given (the network then already has its weights), until
/// all epochs are done or `stop` is set. `record` describes the run; the loop fills in what changes.
///
/// # Errors
/// See [`TrainError`].
pub fn train<T: Task>(
    task: &mut T,
    mut net: T::Net,
    settings: &Settings,
    dir: &Path,
    mut record: Record,
    resume: Option<&Checkpoint>,
    stop: &AtomicBool,
) -> Result<(T::Net, Outcome), TrainError> {
    let mut history = History::open(dir)?;
    let mut optimizer = Optimizer::new(&settings.optimizer)?;
    let mut sums = Sums::default();
    if let Some(checkpoint) = resume {
        let (saved_optimizer, saved_task) = unpack(checkpoint)?;
        optimizer = Optimizer::from_bytes(&settings.optimizer, &saved_optimizer, &net)?;
        task.set_state(&saved_task).map_err(TrainError::Task)?;
        let saved = &checkpoint.record;
        (record.epoch, record.step, record.steps) = (saved.epoch, saved.step, saved.steps);
        record.metrics = saved.metrics.clone();
        // The file, not the checkpoint: an evaluation after it may have found a better one.
        record.best = Checkpoint::best(dir)?.and_then(|best| best.record.best);
        if !saved.partial.is_null() {
            let malformed = |source| CheckpointError::Record { path: checkpoint.path.clone(), source };
            sums = serde_json::from_value(saved.partial.clone()).map_err(malformed)?;
        }
    }
    if settings.epochs == 0 && resume.is_none() {
        evaluate(task, &net, &mut record)?;
        checkpoint::save_weights(&dir.join(checkpoint::BEST), &weights(&net, &record)?, &record)?;
    }

    while record.epoch < settings.epochs {
        let epoch = record.epoch + 1;
        let lr = settings.schedule.lr(epoch);
        let steps;
        (net, steps) = run_epoch(task, net, &mut optimizer, lr, &mut record, &mut sums, settings.epochs, stop)?;
        let due = epoch == settings.epochs || epoch.is_multiple_of(settings.test_every);
        if record.step < steps || due {
            // Also before an evaluation: should it fail, or be stopped, the epoch is not lost.
            record.partial = serde_json::to_value(&sums).expect("sums are plain data");
            let weights = weights(&net, &record)?;
            let checkpoint = save(task, &weights, &optimizer, dir, &record, settings.keep)?;
            if stop.load(Ordering::SeqCst) {
                return Ok((net, Outcome::Interrupted { checkpoint }));
            }
        }
        (record.epoch, record.step, record.partial) = (epoch, 0, serde_json::Value::Null);
        record.metrics = BTreeMap::new();
        let better = due && evaluate(task, &net, &mut record)?;
        report(epoch, settings.epochs, lr, &sums, &record.metrics, task.unreadable());
        history.push(EpochRecord {
            lr,
            total: sums.loss(),
            terms: sums.terms.iter().map(|(name, sum)| (name.clone(), sums.mean(*sum))).collect(),
            seconds: sums.seconds.0,
            images_per_second: sums.rate(),
            metrics: record.metrics.clone(),
            ..EpochRecord::new(epoch)
        })?;
        history.save()?;
        sums = Sums::default();
        let weights = weights(&net, &record)?;
        // The checkpoint last: what a crash before it loses is done again on resuming.
        if better {
            checkpoint::save_weights(&dir.join(checkpoint::BEST), &weights, &record)?;
        }
        let checkpoint = save(task, &weights, &optimizer, dir, &record, settings.keep)?;
        if stop.load(Ordering::SeqCst) && epoch < settings.epochs {
            return Ok((net, Outcome::Interrupted { checkpoint }));
        }
    }
    checkpoint::save_weights(&dir.join(checkpoint::FINAL), &weights(&net, &record)?, &record)?;
    Ok((net, Outcome::Finished { best: record.best }))
}

/// Evaluates the network into the record; whether it is the best so far.
fn evaluate<T: Task>(task: &T, net: &T::Net, record: &mut Record) -> Result<bool, TrainError> {
    /// The earliest of equals stays the best, also when the last bit of its value was lost in a file.
    const EQUAL: f64 = 1e-9;
    record.metrics = task.evaluate(&net.valid()).map_err(TrainError::Task)?;
    let value = record.metrics.get(task.decisive()).copied();
    let better = value.filter(|value| record.best.is_none_or(|(best, _)| *value > best + EQUAL));
    if let Some(value) = better {
        record.best = Some((value, record.epoch));
    }
    Ok(better.is_some())
}

/// The rest of one epoch, or as much of it as is done before `stop`: the network after it and the steps of the whole epoch.
#[expect(clippy::too_many_arguments, reason = "the state of the loop above, which is its only caller")]
fn run_epoch<T: Task>(
    task: &mut T,
    mut net: T::Net,
    optimizer: &mut Optimizer,
    lr: f64,
    record: &mut Record,
    sums: &mut Sums,
    epochs: usize,
    stop: &AtomicBool,
) -> Result<(T::Net, usize), TrainError> {
    let epoch = record.epoch + 1;
    let Epoch { steps, batches } = task.epoch(epoch, record.step).map_err(TrainError::Task)?;
    if steps == 0 {
        return Err(TrainError::Empty { epoch });
    }
    let bar = progress(steps as u64, &format!("epoch {epoch}/{epochs}"), "batches").with_position(record.step as u64);
    let mut clock = Instant::now();
    for batch in batches {
        let batch = batch.map_err(TrainError::Task)?;
        let pictures = task.pictures(&batch);
        let loss = task.loss(&net, &batch);
        let (total, terms) = loss.values();
        if !total.is_finite() {
            let terms = terms.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ");
            let pictures = task.describe(&batch);
            return Err(TrainError::Loss { value: total, epoch, step: record.step + 1, steps, terms, pictures });
        }
        let gradients = GradientsParams::from_grads(loss.total.backward(), &net);
        net = optimizer.step(lr, net, gradients);
        (record.step, record.steps) = (record.step + 1, record.steps + 1);
        let seconds = std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
        sums.add(total, terms, pictures, seconds);
        bar.set_message(format!("loss {:.4}  {:.1} img/s", sums.loss(), sums.rate()));
        bar.inc(1);
        if stop.load(Ordering::SeqCst) {
            break;
        }
    }
    bar.finish_and_clear();
    Ok((net, steps))
}

/// One line per epoch for people and logs.
fn report(epoch: usize, epochs: usize, lr: f64, sums: &Sums, metrics: &BTreeMap<String, f64>, unreadable: usize) {
    let metrics: String = metrics.iter().map(|(name, value)| format!("  {name} {value:.4}")).collect();
    let unreadable = if unreadable > 0 { format!("  {unreadable} unreadable pictures") } else { String::new() };
    let (loss, rate) = (sums.loss(), sums.rate());
    eprintln!("epoch {epoch}/{epochs}  lr {lr:.2e}  loss {loss:.4}  {rate:.1} img/s{metrics}{unreadable}");
}

/// The network's tensors, when all are finite.
fn weights<M: Module>(net: &M, record: &Record) -> Result<StateDict, TrainError> {
    let weights = StateDict::of(net);
    match weights.first_not_finite().map(str::to_owned) {
        None => Ok(weights),
        Some(parameter) => Err(TrainError::Weights { parameter, epoch: record.epoch, step: record.step }),
    }
}

/// Saves everything a resumed run needs.
fn save<T: Task>(
    task: &T,
    weights: &StateDict,
    optimizer: &Optimizer,
    dir: &Path,
    record: &Record,
    keep: usize,
) -> Result<PathBuf, TrainError> {
    let (optimizer, task) = (optimizer.to_bytes()?, task.state());
    let part = |bytes| TensorView::new(Dtype::U8, vec![<[u8]>::len(bytes)], bytes).expect("a byte is a u8");
    let parts = [("optimizer", part(&optimizer)), ("task", part(&task))];
    let state = safetensors::serialize(parts, None).expect("two parts of known size");
    Ok(checkpoint::save(dir, weights, &state, record, keep)?)
}

/// The optimiser's and the task's state of a checkpoint.
fn unpack(checkpoint: &Checkpoint) -> Result<(Vec<u8>, Vec<u8>), TrainError> {
    let state = checkpoint.state()?;
    let malformed = |error: safetensors::SafeTensorError| {
        TrainError::from(CheckpointError::State {
            path: checkpoint.path.clone(),
            state: checkpoint.path.with_extension("state"),
            problem: format!("is malformed: {error}"),
        })
    };
    let parts = SafeTensors::deserialize(&state).map_err(malformed)?;
    let part = |name| parts.tensor(name).map(|part| part.data().to_vec()).map_err(malformed);
    Ok((part("optimizer")?, part("task")?))
}

#[cfg(test)]
mod tests;
