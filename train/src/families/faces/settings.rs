//! How both face manuals train.

use crate::run::engine::{BadLoss, Settings};
use crate::run::optim::{OptimizerConfig, OptimizerKind};
use crate::run::schedule::Schedule;

/// Learning rate that the cosine of the face manuals falls to.
const FLOOR: f64 = 1e-6;

/// Global norm of the gradients there, at most.
const CLIP: f64 = 1.0;

/// How both face manuals train: AdamW along half a cosine, gradients clipped, a batch whose loss is not finite skipped;
/// weights are averaged with this decay, if it is above 0.
pub(crate) fn face_settings(epochs: usize, lr: f64, weight_decay: f64, ema: f64) -> Settings {
    let optimizer = OptimizerConfig { kind: OptimizerKind::AdamW, weight_decay, ..OptimizerConfig::default() };
    let schedule = Schedule::cosine(lr, FLOOR, epochs);
    let plain = Settings::new(epochs, schedule, optimizer);
    Settings { clip_norm: Some(CLIP), on_bad_loss: BadLoss::Skip, ..plain.averaged(ema) }
}
