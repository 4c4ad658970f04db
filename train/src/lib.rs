//! Training half of Vitrine: losses, schedules, optimisers and the records of a run.

pub mod loss;
