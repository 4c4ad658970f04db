//! What the timed steps of both face families share. They take no dropout: its random numbers would differ from the
//! peer's.

use crate::run::bench_step::Update;
use crate::run::optim::{OptimizerConfig, OptimizerKind};

/// Degrees that poses reach.
pub const ANGLES: f32 = 60.0;

/// AdamW as both manuals set it.
pub fn adamw() -> Update {
    let optimizer = OptimizerConfig { kind: OptimizerKind::AdamW, weight_decay: 1e-5, ..OptimizerConfig::default() };
    Update { optimizer, lr: 1e-4, rate: |_| 1.0 }
}
