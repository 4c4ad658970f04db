//! Why a run ends early.

use std::path::PathBuf;

use metrics::MetricsError;

use crate::run::checkpoint::CheckpointError;
use crate::run::history::HistoryError;
use crate::run::optim::OptimError;

/// An error of a task's own data or evaluation.
pub type TaskError = Box<dyn std::error::Error + Send + Sync>;

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
    /// The norm of a step's gradients is NaN or infinite, though its losses were finite.
    #[error("the gradients' norm is {norm} at epoch {epoch}, batch {step} of {steps}")]
    Gradients {
        /// The norm.
        norm: f64,
        /// Epoch, from 1.
        epoch: usize,
        /// Last batch of the step, from 1.
        step: usize,
        /// Batches in the epoch.
        steps: usize,
    },
    /// Not one batch of an epoch had a finite loss.
    #[error("no batch of epoch {epoch} had a finite loss")]
    AllSkipped {
        /// Epoch, from 1.
        epoch: usize,
    },
    /// A weight is NaN or infinite, though the losses so far were finite.
    #[error("`{parameter}` is not finite after epoch {epoch} and {step} more steps")]
    Weights {
        /// The first such parameter.
        parameter: String,
        /// Finished epochs.
        epoch: usize,
        /// Finished steps after them.
        step: usize,
    },
    /// Pictures were left out of a batch until one row remained.
    #[error(
        "batch {step} of {steps} of epoch {epoch} has one row left ({pictures}), and batch normalisation needs two: \
         too many of its pictures cannot be read"
    )]
    SingleRow {
        /// Epoch, from 1.
        epoch: usize,
        /// Batch, from 1.
        step: usize,
        /// Batches in the epoch.
        steps: usize,
        /// The pictures of the batch.
        pictures: String,
    },
    /// The epoch has no batch.
    #[error("epoch {epoch} has no batch: there are fewer pictures or identities than one batch wants")]
    Empty {
        /// Epoch, from 1.
        epoch: usize,
    },
    /// An evaluation lacks the metric that decides.
    #[error("the evaluation gave no `{metric}`, by which the best network is chosen; it gave {found}")]
    Undecided {
        /// The metric.
        metric: &'static str,
        /// Those that it gave.
        found: String,
    },
    /// A checkpoint with an average of weights and settings without, or the other way round.
    #[error(
        "`{}` was saved {} an average of weights, and --ema asks for {}",
        path.display(),
        if *saved { "with" } else { "without" },
        if *saved { "none" } else { "one" }
    )]
    Average {
        /// The checkpoint.
        path: PathBuf,
        /// Whether it has an average.
        saved: bool,
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

impl TrainError {
    /// Whether numbers of the training itself have become NaN or infinite.
    pub fn is_divergence(&self) -> bool {
        match self {
            Self::Loss { .. } | Self::Gradients { .. } | Self::Weights { .. } | Self::AllSkipped { .. } => true,
            Self::Task(error) => matches!(error.downcast_ref(), Some(MetricsError::NotFinite { .. })),
            _ => false,
        }
    }
}
