//! Training half of Vitrine: losses, schedules, optimisers and the records of a run.

mod curves;
mod events;
pub mod history;
pub mod loss;
pub mod optim;
pub mod schedule;
