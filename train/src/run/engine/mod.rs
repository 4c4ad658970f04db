//! The one training loop: epochs, steps, evaluation, checkpoints, interruption. What is special to a family is its
//! [`Task`].

mod error;
mod group;
mod settings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::module::Module;
use burn::optim::GradientsParams;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use terminal::progress;

pub use self::error::{TaskError, TrainError};
pub(crate) use self::group::Group;
use self::group::Mean;
pub use self::settings::{BadLoss, Better, Decisive, Patience, Settings};
use crate::loss::LossTerms;
use crate::rng::Step;
use crate::run::amp;
use crate::run::average::{self, Average};
use crate::run::checkpoint::{self, Checkpoint, CheckpointError, Keep, Queries, Record};
use crate::run::history::{EpochRecord, History};
use crate::run::log::Log;
use crate::run::optim::{OptimError, Optimizer, OptimizerConfig};
pub use crate::run::tensorboard::Reporter;
use crate::weights::StateDict;

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

    /// Rows that a batch norm of the network sees in a batch.
    fn rows(&self, batch: &Self::Batch) -> usize {
        self.pictures(batch)
    }

    /// Which pictures a batch holds, for the message when its loss is not a number.
    fn describe(&self, batch: &Self::Batch) -> String;

    /// Loss of one batch. State of the loss (class centres) moves. Whatever is random in it follows from `step` and
    /// the run's seed.
    fn loss(&mut self, net: &Self::Net, batch: &Self::Batch, step: Step) -> LossTerms;

    /// Further figures of the last batch (accuracy, triplets found), for the log: `train/<name>`, mean over batches.
    /// The names are the same in every batch.
    fn figures(&self) -> Vec<(String, f64)> {
        Vec::new()
    }

    /// Metrics of a network on a device without autodiff; [`Task::decisive`] says which chooses the best. Empty where
    /// there is nothing to evaluate on.
    ///
    /// # Errors
    /// If the evaluation data cannot be read.
    fn evaluate(&self, net: &Self::Net) -> Result<BTreeMap<String, f64>, TaskError>;

    /// The metric by which the best network is chosen.
    fn decisive(&self) -> Decisive;

    /// Queries of the set that decides; none for tasks without a gallery.
    fn queries(&self) -> Option<Queries> {
        None
    }

    /// Factor of the learning rate of the parameter at `path` (`layer1.conv.weight`). 0: it is frozen, which means no
    /// update, no state, and no share in the gradients' norm.
    fn rate(&self, path: &str) -> f64 {
        let _ = path;
        1.0
    }

    /// What the log looks like.
    fn log(&self) -> Log {
        Log::default()
    }

    /// After the evaluation of `epoch` (from 1): pictures and histograms for TensorBoard. The network is on a device
    /// without autodiff.
    ///
    /// # Errors
    /// If the evaluation data cannot be read.
    fn report(&self, net: &Self::Net, epoch: usize, out: &mut Reporter) -> Result<(), TaskError> {
        let _ = (net, epoch, out);
        Ok(())
    }

    /// State of the loss, for the checkpoint.
    fn state(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Takes over what [`Task::state`] gave.
    ///
    /// # Errors
    /// If it is not that.
    fn set_state(&mut self, state: &[u8]) -> Result<(), TaskError> {
        if state.is_empty() { Ok(()) } else { Err("a run of this family has no state of its own".into()) }
    }

    /// Training pictures that turned out unreadable so far, for the report of an epoch.
    fn unreadable(&self) -> usize {
        0
    }
}

/// The batches of an epoch.
pub struct Epoch<B> {
    /// Batches in the whole epoch, those already done included.
    pub steps: usize,
    /// The batches that remain, each with its number in the epoch, from 0. One that no picture is left of is left out.
    pub batches: Box<dyn Iterator<Item = Result<(usize, B), TaskError>>>,
}

impl<B> Epoch<B> {
    /// An epoch of `steps` batches; `batches` yields those that remain, each with its number.
    pub fn new<E: Into<TaskError>>(
        steps: usize,
        batches: impl Iterator<Item = Result<(usize, B), E>> + 'static,
    ) -> Self {
        Self { steps, batches: Box::new(batches.map(|batch| batch.map_err(E::into))) }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// All epochs are done, or the metric stopped improving; the best value of the decisive metric and its epoch.
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

/// Lets the first Ctrl-C or SIGTERM set the flag that is returned, and the second end the process at once.
pub fn watch_interrupts() -> &'static AtomicBool {
    static STOP: AtomicBool = AtomicBool::new(false);
    let handler = || {
        if STOP.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        terminal::tell!("\nstopping after this step; once more to stop at once, without saving");
    };
    // Fails only if a handler is already installed, and then it is ours.
    let _ = ctrlc::set_handler(handler);
    &STOP
}

/// A sum stored as bits: JSON readers may round the last digit of a decimal.
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
#[serde(default)]
struct Sums {
    /// Batches with a finite loss.
    steps: usize,
    /// Batches without.
    skipped: usize,
    pictures: usize,
    seconds: Sum,
    /// Of these, waiting for the loader.
    waiting: Sum,
    total: Sum,
    terms: Vec<(String, Sum)>,
    figures: Vec<(String, Sum)>,
}

/// What one batch adds to the log.
struct Values {
    total: f64,
    terms: Vec<(String, f64)>,
    figures: Vec<(String, f64)>,
}

impl Sums {
    fn add(&mut self, values: &Values, pictures: usize, [seconds, waiting]: [f64; 2]) {
        self.steps += 1;
        self.pictures += pictures;
        self.seconds.0 += seconds;
        self.waiting.0 += waiting;
        self.total.0 += values.total;
        for (sums, values) in [(&mut self.terms, &values.terms), (&mut self.figures, &values.figures)] {
            if sums.is_empty() {
                *sums = values.iter().map(|(name, value)| (name.clone(), Sum(*value))).collect();
            } else {
                sums.iter_mut().zip(values).for_each(|((_, sum), (_, value))| sum.0 += value);
            }
        }
    }

    fn mean(&self, sum: Sum) -> f64 {
        sum.0 / self.steps.max(1) as f64
    }

    fn means(&self, sums: &[(String, Sum)]) -> BTreeMap<String, f64> {
        sums.iter().map(|(name, sum)| (name.clone(), self.mean(*sum))).collect()
    }

    fn loss(&self) -> f64 {
        self.mean(self.total)
    }

    fn rate(&self) -> f64 {
        self.pictures as f64 / self.seconds.0.max(1e-9)
    }

    /// The epoch's record; the learning rate and the evaluation are not known here.
    fn record(&self, epoch: usize) -> EpochRecord {
        EpochRecord {
            total: self.loss(),
            terms: self.means(&self.terms),
            figures: self.means(&self.figures),
            seconds: self.seconds.0,
            waiting: self.waiting.0,
            images_per_second: self.rate(),
            ..EpochRecord::new(epoch)
        }
    }
}

/// Where a run continues. Whatever can be refused has been read.
pub struct Resume<N> {
    optimizer: Optimizer,
    sums: Sums,
    average: Option<Average<N>>,
    saved: Record,
    /// Best value so far of the metric that decides, and its epoch.
    pub best: Option<(f64, usize)>,
}

impl<N: Module> Resume<N> {
    /// Reads what a checkpoint holds besides the weights, which `net` already has, and gives the task its part.
    ///
    /// # Errors
    /// If it is missing, damaged, or not of this optimiser, network or task.
    pub fn read<T: Task<Net = N>>(
        checkpoint: &Checkpoint,
        task: &mut T,
        net: &N,
        settings: &Settings,
    ) -> Result<Self, TrainError> {
        let parts = unpack(checkpoint)?;
        let optimizer = Optimizer::from_bytes(&settings.optimizer, &parts.optimizer, net)?;
        task.set_state(&parts.task).map_err(TrainError::Task)?;
        let average = match (settings.ema, &parts.average) {
            (None, None) => None,
            (Some(decay), Some(bytes)) => {
                let average = Average::from_bytes(bytes, net, decay);
                Some(average.map_err(|problem| damaged(checkpoint, problem))?)
            }
            (_, saved) => return Err(TrainError::Average { path: checkpoint.path.clone(), saved: saved.is_some() }),
        };
        let saved = checkpoint.record.clone();
        let mut sums = Sums::default();
        if !saved.partial.is_null() {
            let malformed = |source| CheckpointError::Record { path: checkpoint.path.clone(), source };
            sums = serde_json::from_value(saved.partial.clone()).map_err(malformed)?;
        }
        let best = saved.best;
        Ok(Self { optimizer, sums, average, saved, best })
    }
}

/// Trains `net` in the run directory `dir`, from `resume` where it is given (the network then already has its
/// weights), until all epochs are done or `stop` is set. `record` describes the run; the loop fills in what changes.
///
/// # Errors
/// See [`TrainError`].
pub fn train<T: Task>(
    task: &mut T,
    mut net: T::Net,
    settings: &Settings,
    dir: &Path,
    mut record: Record,
    resume: Option<Resume<T::Net>>,
    stop: &AtomicBool,
) -> Result<(T::Net, Outcome), TrainError> {
    let mut history = History::open(dir, task.log(), settings.log_dir.as_deref())?;
    let begins = resume.is_none();
    let (mut optimizer, mut sums, mut average) = match resume {
        Some(Resume { optimizer, sums, average, saved, best }) => {
            (record.epoch, record.step, record.steps) = (saved.epoch, saved.step, saved.steps);
            (record.metrics, record.patience, record.best) = (saved.metrics, saved.patience, best);
            (optimizer, sums, average)
        }
        None => {
            let average = settings.ema.map(|decay| Average::new(&net, decay));
            (Optimizer::new(&settings.optimizer)?, Sums::default(), average)
        }
    };
    history.begin_at(record.epoch, record.steps)?;
    if settings.epochs == 0 && begins {
        evaluate(task, &net.valid(), settings, &mut record)?;
        checkpoint::save_weights(&dir.join(checkpoint::BEST), &weights(&net, &record)?, &record)?;
    }

    let kept = Keep { newest: settings.keep, every: settings.save_interval };
    while record.epoch < settings.epochs && !out_of_patience(settings, &record) {
        let epoch = record.epoch + 1;
        let lr = settings.schedule.lr(epoch);
        let mut run = Run {
            settings,
            record: &mut record,
            sums: &mut sums,
            history: &mut history,
            average: average.as_mut(),
            stop,
        };
        let steps;
        (net, steps) = run.epoch(task, net, &mut optimizer, lr)?;
        let due = epoch == settings.epochs || epoch.is_multiple_of(settings.test_every);
        if record.step < steps || due {
            // Also before an evaluation: should it fail, or be stopped, the epoch is not lost.
            record.partial = serde_json::to_value(&sums).expect("sums are plain data");
            history.flush()?;
            let weights = weights(&net, &record)?;
            let checkpoint = save(task, &weights, &optimizer, average.as_ref(), dir, &record, kept)?;
            if stop.load(Ordering::SeqCst) {
                return Ok((net, Outcome::Interrupted { checkpoint }));
            }
        }
        if sums.steps == 0 {
            return Err(TrainError::AllSkipped { epoch });
        }
        (record.epoch, record.step, record.partial) = (epoch, 0, serde_json::Value::Null);
        record.metrics = BTreeMap::new();
        let mut reporter = Reporter::default();
        let mut better = false;
        if due {
            let valid = average.as_ref().map_or_else(|| net.valid(), |average| average.net().clone());
            better = evaluate(task, &valid, settings, &mut record)?;
            task.report(&valid, epoch, &mut reporter).map_err(TrainError::Task)?;
        }
        report(epoch, settings.epochs, lr, &sums, &record.metrics, task.unreadable());
        history.push(EpochRecord { lr, metrics: record.metrics.clone(), ..sums.record(epoch) })?;
        history.attach(epoch, reporter);
        history.save()?;
        sums = Sums::default();
        let weights = weights(&net, &record)?;
        // The checkpoint last: what a crash before it loses is done again on resuming.
        if better {
            save_kept(&dir.join(checkpoint::BEST), &weights, average.as_ref(), &record)?;
        }
        if kept.retains(epoch) {
            history.draw_epoch(epoch)?;
        }
        let checkpoint = save(task, &weights, &optimizer, average.as_ref(), dir, &record, kept)?;
        if stop.load(Ordering::SeqCst) && epoch < settings.epochs {
            return Ok((net, Outcome::Interrupted { checkpoint }));
        }
    }
    if let Some((_, waited)) = record.patience.filter(|_| out_of_patience(settings, &record)) {
        let metric = task.decisive().metric;
        terminal::tell!("stopped after epoch {}: no better {metric} in {waited} evaluations", record.epoch);
    }
    if record.epoch > 0 {
        history.draw_final()?;
    }
    let weights = weights(&net, &record)?;
    if record.epoch > 0 && record.best.is_none() {
        terminal::warn("no evaluation tells which epoch is the best: the last network counts as the best");
        save_kept(&dir.join(checkpoint::BEST), &weights, average.as_ref(), &record)?;
    }
    save_kept(&dir.join(checkpoint::FINAL), &weights, average.as_ref(), &record)?;
    Ok((net, Outcome::Finished { best: record.best }))
}

/// Whether the evaluations so far end the run.
fn out_of_patience(settings: &Settings, record: &Record) -> bool {
    let waited = record.patience.map_or(0, |(_, waited)| waited);
    settings.patience.is_some_and(|patience| waited >= patience.evaluations)
}

/// Evaluates a network on a device without autodiff into the record; whether it is the best so far.
fn evaluate<T: Task>(task: &T, net: &T::Net, settings: &Settings, record: &mut Record) -> Result<bool, TrainError> {
    /// The earliest of equals stays the best, also when the last bit of its value was lost in a file.
    const EQUAL: f64 = 1e-9;
    record.metrics = task.evaluate(net).map_err(TrainError::Task)?;
    let decisive = task.decisive();
    let Some(&value) = record.metrics.get(decisive.metric) else {
        if record.metrics.is_empty() {
            return Ok(false);
        }
        let found = record.metrics.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        return Err(TrainError::Undecided { metric: decisive.metric, found });
    };
    let min_delta = settings.patience.map_or(0.0, |patience| patience.min_delta);
    record.patience = Some(match record.patience {
        Some((best, waited)) if !decisive.improves(value, best, min_delta.max(EQUAL)) => (best, waited + 1),
        _ => (value, 0),
    });
    let better = record.best.is_none_or(|(best, _)| decisive.improves(value, best, EQUAL));
    if better {
        record.best = Some((value, record.epoch));
    }
    Ok(better)
}

/// The state of the loop that an epoch moves.
struct Run<'a, N> {
    settings: &'a Settings,
    record: &'a mut Record,
    sums: &'a mut Sums,
    history: &'a mut History,
    average: Option<&'a mut Average<N>>,
    stop: &'a AtomicBool,
}

impl<N: Module> Run<'_, N> {
    /// The rest of one epoch, or as much of it as is done before `stop`: the network after it and the batches of the
    /// whole epoch. It ends between two steps only, so that no gradient is left over.
    fn epoch<T: Task<Net = N>>(
        &mut self,
        task: &mut T,
        mut net: N,
        optimizer: &mut Optimizer,
        lr: f64,
    ) -> Result<(N, usize), TrainError> {
        let Settings { accumulation, on_bad_loss, epochs, .. } = *self.settings;
        let epoch = self.record.epoch + 1;
        let Epoch { steps, batches } = task.epoch(epoch, self.record.step).map_err(TrainError::Task)?;
        if steps == 0 {
            return Err(TrainError::Empty { epoch });
        }
        let amp = self.settings.amp && net.devices().iter().all(amp::pays);
        let bar = progress(steps as u64, &format!("epoch {epoch}/{epochs}"), "batches");
        let bar = bar.with_position(self.record.step as u64);
        let mut group = Group::default();
        let mut clock = Instant::now();
        let mut stopped = false;
        for batch in batches {
            let (number, batch) = batch.map_err(TrainError::Task)?;
            let waiting = clock.elapsed().as_secs_f64();
            let pictures = task.pictures(&batch);
            let step = number + 1;
            // A batch that would have ended the step before this one was left out.
            if number / accumulation.max(1) != self.record.step.saturating_sub(1) / accumulation.max(1) {
                net = self.update(task, net, optimizer, &mut group, lr, steps)?;
            }
            if task.rows(&batch) < 2 {
                return Err(TrainError::SingleRow { epoch, step, steps, pictures: task.describe(&batch) });
            }
            let low = amp.then(|| amp::lower(net.clone()));
            let loss = task.loss(low.as_ref().unwrap_or(&net), &batch, Step { epoch, batch: step - 1 });
            let (total, terms) = loss.values();
            let values = Values { total, terms, figures: task.figures() };
            let finite = total.is_finite();
            if finite {
                let net = low.as_ref().unwrap_or(&net);
                group.add(net, GradientsParams::from_grads(loss.total.backward(), net));
            } else {
                let terms = values.terms.iter().map(|(name, value)| format!("{name} {value}"));
                let (terms, pictures) = (terms.collect::<Vec<_>>().join(", "), task.describe(&batch));
                let error = TrainError::Loss { value: total, epoch, step, steps, terms, pictures };
                self.leave_out(error, on_bad_loss)?;
            }
            self.record.step = step;
            self.record.steps += 1;
            let whole = step.is_multiple_of(accumulation.max(1)) || step == steps;
            if whole {
                net = self.update(task, net, optimizer, &mut group, lr, steps)?;
            }
            let seconds = std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
            if finite {
                self.sums.add(&values, pictures, [seconds, waiting]);
                let Values { total, terms, figures } = values;
                let (terms, figures) = (terms.into_iter().collect(), figures.into_iter().collect());
                let record = EpochRecord { lr, total, terms, figures, ..EpochRecord::new(epoch) };
                self.history.batch(self.record.steps - 1, record);
            }
            bar.set_message(format!("loss {:.4}  {:.1} img/s", self.sums.loss(), self.sums.rate()));
            bar.set_position(step as u64);
            stopped = whole && self.stop.load(Ordering::SeqCst);
            if stopped {
                break;
            }
        }
        if !stopped {
            // The last batches may have been left out.
            net = self.update(task, net, optimizer, &mut group, lr, steps)?;
            self.record.step = steps;
        }
        bar.finish_and_clear();
        Ok((net, steps))
    }

    /// The network after the step of the batches in `group`, which is empty then; as it was if there are none.
    fn update<T: Task<Net = N>>(
        &mut self,
        task: &T,
        net: N,
        optimizer: &mut Optimizer,
        group: &mut Group,
        lr: f64,
        steps: usize,
    ) -> Result<N, TrainError> {
        let Settings { clip_norm, on_bad_loss, .. } = *self.settings;
        let Some(Mean { gradients, norm }) = group.take(&net, |path| task.rate(path) != 0.0, clip_norm) else {
            return Ok(net);
        };
        let Some(norm) = norm.filter(|norm| !norm.is_finite()) else {
            let net = optimizer.step_scaled(lr, |path| task.rate(path), net, gradients);
            self.average.iter_mut().for_each(|average| average.follow(&net));
            return Ok(net);
        };
        let (epoch, step) = (self.record.epoch + 1, self.record.step);
        self.leave_out(TrainError::Gradients { norm, epoch, step, steps }, on_bad_loss)?;
        Ok(net)
    }

    /// Goes on without what is not finite, if that was asked for.
    fn leave_out(&mut self, error: TrainError, on_bad_loss: BadLoss) -> Result<(), TrainError> {
        if on_bad_loss == BadLoss::Stop {
            return Err(error);
        }
        terminal::tell!("warning: left out: {error}");
        self.sums.skipped += 1;
        Ok(())
    }
}

/// An epoch for people and logs: a line, or as many as it takes on a narrow terminal.
fn report(epoch: usize, epochs: usize, lr: f64, sums: &Sums, metrics: &BTreeMap<String, f64>, unreadable: usize) {
    let share = sums.waiting.0 / sums.seconds.0.max(1e-9);
    let waiting = if share >= 0.05 { format!(" ({:.0} % waiting for data)", 100.0 * share) } else { String::new() };
    let mut facts = vec![
        format!("epoch {epoch}/{epochs}"),
        format!("lr {lr:.2e}"),
        format!("loss {:.4}", sums.loss()),
        format!("{:.1} img/s{waiting}", sums.rate()),
    ];
    if epoch < epochs {
        facts.push(format!("{} left", terminal::duration(sums.seconds.0 * (epochs - epoch) as f64)));
    }
    facts.extend(metric_facts(metrics));
    if unreadable > 0 {
        facts.push(format!("{unreadable} unreadable pictures"));
    }
    if sums.skipped > 0 {
        facts.push(format!("{} left out", sums.skipped));
    }
    terminal::tell!("{}", terminal::facts(&facts, terminal::columns()));
}

/// Each metric with four decimals, `rank5` before `rank10`.
pub(crate) fn metric_facts(metrics: &BTreeMap<String, f64>) -> Vec<String> {
    let mut metrics: Vec<_> = metrics.iter().collect();
    metrics.sort_by_key(|(name, _)| {
        let word = name.trim_end_matches(|c: char| c.is_ascii_digit());
        (word, name[word.len()..].parse::<u64>().ok())
    });
    metrics.into_iter().map(|(name, value)| format!("{name} {value:.4}")).collect()
}

/// The network's tensors, when all are finite.
fn weights<M: Module>(net: &M, record: &Record) -> Result<StateDict, TrainError> {
    let weights = StateDict::of(net);
    match weights.first_not_finite().map(str::to_owned) {
        None => Ok(weights),
        Some(parameter) => Err(TrainError::Weights { parameter, epoch: record.epoch, step: record.step }),
    }
}

/// Writes the network that was evaluated: the average where there is one, else that of the last step, whose `weights`
/// are given.
fn save_kept<N: Module>(
    path: &Path,
    last: &StateDict,
    average: Option<&Average<N>>,
    record: &Record,
) -> Result<(), TrainError> {
    let averaged = average.map(|average| weights(average.net(), record)).transpose()?;
    Ok(checkpoint::save_weights(path, averaged.as_ref().unwrap_or(last), record)?)
}

/// Saves everything a resumed run needs.
fn save<T: Task>(
    task: &T,
    weights: &StateDict,
    optimizer: &Optimizer,
    average: Option<&Average<T::Net>>,
    dir: &Path,
    record: &Record,
    kept: Keep,
) -> Result<PathBuf, TrainError> {
    let average = average.map(Average::to_bytes);
    let state = pack(&optimizer.to_bytes()?, &task.state(), average.as_deref());
    Ok(checkpoint::save(dir, weights, &state, record, kept)?)
}

/// What [`unpack`] reads.
fn pack(optimizer: &[u8], task: &[u8], average: Option<&[u8]>) -> Vec<u8> {
    let part = |bytes| TensorView::new(Dtype::U8, vec![<[u8]>::len(bytes)], bytes).expect("a byte is a u8");
    let average = average.map(|bytes| ("average", part(bytes)));
    let parts = [("optimizer", part(optimizer)), ("task", part(task))].into_iter().chain(average);
    safetensors::serialize(parts, None).expect("parts of known size")
}

/// Parts of a checkpoint's state.
struct Parts {
    optimizer: Vec<u8>,
    task: Vec<u8>,
    average: Option<Vec<u8>>,
}

/// The state of a run whose optimiser has taken no step and whose loss has none: beside foreign weights it lets them
/// be resumed.
///
/// # Errors
/// If the settings are out of range.
pub fn fresh_state(optimizer: &OptimizerConfig) -> Result<Vec<u8>, OptimError> {
    Ok(pack(&Optimizer::new(optimizer)?.to_bytes()?, &[], None))
}

/// The state of a checkpoint.
fn unpack(checkpoint: &Checkpoint) -> Result<Parts, TrainError> {
    let state = checkpoint.state()?;
    let malformed = |error| damaged(checkpoint, format!("is malformed: {error}"));
    let parts = SafeTensors::deserialize(&state).map_err(malformed)?;
    let part = |name| parts.tensor(name).map(|part| part.data().to_vec());
    Ok(Parts {
        optimizer: part("optimizer").map_err(malformed)?,
        task: part("task").map_err(malformed)?,
        average: part("average").ok(),
    })
}

/// The averaged weights of a checkpoint, of a run that averages them.
///
/// # Errors
/// If its state cannot be read.
pub(crate) fn averaged(checkpoint: &Checkpoint) -> Result<Option<StateDict>, TrainError> {
    let weights = unpack(checkpoint)?.average.map(|bytes| average::weights(&bytes));
    weights.transpose().map_err(|problem| damaged(checkpoint, problem))
}

/// The error of a state that is not what this version writes.
fn damaged(checkpoint: &Checkpoint, problem: String) -> TrainError {
    let path = checkpoint.path.clone();
    CheckpointError::State { state: path.with_extension("state"), path, problem }.into()
}

#[cfg(test)]
mod tests;
