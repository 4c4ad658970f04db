//! What the loop needs besides the task.

use std::path::PathBuf;

use crate::run::optim::OptimizerConfig;
use crate::run::schedule::Schedule;

/// What the loop needs besides the task. [`Settings::new`] gives the plainest run; change the fields from there.
///
/// ```
/// use train::run::engine::{Patience, Settings};
/// use train::run::optim::OptimizerConfig;
/// use train::run::schedule::Schedule;
///
/// let plain = Settings::new(100, Schedule::cosine(1e-4, 1e-6, 100), OptimizerConfig::default());
/// let patient = Settings {
///     accumulation: 4,
///     clip_norm: Some(1.0),
///     patience: Some(Patience { evaluations: 15, min_delta: 0.1 }),
///     ..plain
/// };
/// assert_eq!(patient.test_every, 1);
/// ```
#[derive(Debug, Clone)]
pub struct Settings {
    /// Epochs of the whole run; 0: the untrained network is evaluated and saved.
    pub epochs: usize,
    /// Epochs between evaluations; 0: only after the last.
    pub test_every: usize,
    /// Learning rates.
    pub schedule: Schedule,
    /// Optimiser.
    pub optimizer: OptimizerConfig,
    /// Resumable checkpoints kept, the newest ones.
    pub keep: usize,
    /// Batches whose gradients are averaged into one step, at least 1. What is left at the end of an epoch is a step
    /// too.
    pub accumulation: usize,
    /// Largest global L2 norm of a step's gradients: over the parameters that train, after averaging.
    pub clip_norm: Option<f64>,
    /// Epochs between checkpoints that stay whatever `keep` says; 0: none do.
    pub save_interval: usize,
    /// When to stop before the last epoch.
    pub patience: Option<Patience>,
    /// What to do with a batch whose loss is NaN or infinite.
    pub on_bad_loss: BadLoss,
    /// Compute in bfloat16, with weights, their updates and losses in single precision; see [`crate::run::amp`].
    pub amp: bool,
    /// Decay of a moving average of weights and running statistics: see [`crate::run::average`]. It is what is
    /// evaluated, and what the best and the final network are; checkpoints have the weights of the last step, and the
    /// average in their state.
    pub ema: Option<f64>,
    /// Folder of the TensorBoard file; the run directory without it.
    pub log_dir: Option<PathBuf>,
}

impl Settings {
    /// One batch a step, no clipping, an evaluation after every epoch, no early stop, single precision.
    pub fn new(epochs: usize, schedule: Schedule, optimizer: OptimizerConfig) -> Self {
        Self {
            epochs,
            test_every: 1,
            schedule,
            optimizer,
            keep: 2,
            accumulation: 1,
            clip_norm: None,
            save_interval: 0,
            patience: None,
            on_bad_loss: BadLoss::Stop,
            amp: false,
            ema: None,
            log_dir: None,
        }
    }

    /// The same with weights that are averaged by this decay, if it is above 0.
    #[must_use]
    pub fn averaged(self, decay: f64) -> Self {
        Self { ema: (decay > 0.0).then_some(decay), ..self }
    }
}

/// Early stopping on the metric that decides.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Patience {
    /// Evaluations in a row without an improvement, at which the run ends.
    pub evaluations: usize,
    /// An improvement is more than this, in the metric's unit.
    pub min_delta: f64,
}

/// What becomes of a batch whose loss, or of a step whose gradient, is not finite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BadLoss {
    /// The run ends with an error that names the pictures.
    #[default]
    Stop,
    /// It is left out with a message, and counted.
    Skip,
}

/// The metric by which the best network is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decisive {
    /// Its name among those of [`super::Task::evaluate`].
    pub metric: &'static str,
    /// Its direction.
    pub better: Better,
}

impl Decisive {
    /// Larger is better.
    pub fn higher(metric: &'static str) -> Self {
        Self { metric, better: Better::Higher }
    }

    /// Smaller is better.
    pub fn lower(metric: &'static str) -> Self {
        Self { metric, better: Better::Lower }
    }

    /// Whether `value` is better than `best` by more than `delta`.
    pub(crate) fn improves(self, value: f64, best: f64, delta: f64) -> bool {
        match self.better {
            Better::Higher => value > best + delta,
            Better::Lower => value < best - delta,
            Better::Latest => true,
        }
    }
}

/// Direction of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// Larger is better.
    Higher,
    /// Smaller is better.
    Lower,
    /// The metric tells nothing: the newest network counts as the best.
    Latest,
}
