//! Learning rate of an epoch: a pure function of the settings, so that a resumed run continues on the same curve.
//!
//! ```
//! use train::run::schedule::{Decay, Schedule};
//!
//! let schedule = Schedule { lr: 6e-4, epochs: 130, decay: Decay::WarmupCosine { warmup: 10 } };
//! assert_eq!(schedule.lr(10), 6e-4);
//! assert!((schedule.lr(130) - 6e-7).abs() < 1e-15);
//! ```

use std::f64::consts::PI;

use crate::words::words;

words! {
    /// How the learning rate starts, where no cosine says.
    Warmup {
        /// At its full value.
        Constant = "constant",
        /// Rising in equal steps over the warm-up epochs.
        Linear = "linear",
    }
}

/// The rate over the epochs of a run; constant within an epoch.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Schedule {
    /// Highest rate.
    pub lr: f64,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// How the rate falls.
    pub decay: Decay,
}

/// Shapes of the curve.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Half a cosine over all epochs, towards `floor`.
    Cosine {
        /// The rate one epoch after the last.
        floor: f64,
    },
    /// Linear rise over `warmup` epochs, then half a cosine that reaches a thousandth of the rate in the last epoch.
    WarmupCosine {
        /// Epochs of the rise; 0 for none.
        warmup: usize,
    },
    /// The rate times `gamma` for every milestone reached.
    Step {
        /// Finished epochs at which the rate falls, in any order.
        milestones: Vec<usize>,
        /// Factor of each fall.
        gamma: f64,
        /// Epochs of the linear rise; `None` for none.
        warmup: Option<usize>,
    },
}

/// A schedule as typed. The flags may contradict each other; the first one set wins.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleFlags {
    /// Highest rate.
    pub lr: f64,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// Plain cosine.
    pub cosine_annealing: bool,
    /// Cosine after a warm-up.
    pub w_cosine_annealing: bool,
    /// Finished epochs at which the rate falls.
    pub milestones: Vec<usize>,
    /// Factor of each milestone.
    pub gamma: f64,
    /// Start of the rate without a cosine.
    pub warmup: Warmup,
    /// Epochs of a warm-up.
    pub warmup_epochs: usize,
}

/// A number of a schedule that is out of its range.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{what} is {found}, {wanted} wanted")]
pub struct ScheduleError {
    /// Which number.
    pub what: &'static str,
    /// As given.
    pub found: f64,
    /// The range.
    pub wanted: &'static str,
}

impl Schedule {
    /// Half a cosine from `lr` in the first epoch, which would reach `floor` one epoch after the last of `epochs`.
    pub fn cosine(lr: f64, floor: f64, epochs: usize) -> Self {
        Self { lr, epochs, decay: Decay::Cosine { floor } }
    }

    /// What the flags of a command line ask for.
    ///
    /// # Errors
    /// A rate or factor that is not finite or out of range.
    pub fn from_flags(flags: &ScheduleFlags) -> Result<Self, ScheduleError> {
        let &ScheduleFlags { lr, gamma, epochs, warmup_epochs, .. } = flags;
        if !(lr.is_finite() && lr > 0.0) {
            return Err(ScheduleError { what: "learning rate", found: lr, wanted: "a finite number above 0" });
        }
        if !(gamma.is_finite() && gamma >= 0.0) {
            return Err(ScheduleError { what: "gamma", found: gamma, wanted: "a finite number, at least 0" });
        }
        let decay = if flags.cosine_annealing {
            Decay::Cosine { floor: 0.0 }
        } else if flags.w_cosine_annealing {
            Decay::WarmupCosine { warmup: warmup_epochs }
        } else {
            let warmup = match flags.warmup {
                Warmup::Linear => Some(warmup_epochs),
                Warmup::Constant => None,
            };
            Decay::Step { milestones: flags.milestones.clone(), gamma, warmup }
        };
        Ok(Self { lr, epochs, decay })
    }

    /// Rate during `epoch`, counted from 1. Epochs beyond the last follow the formula on.
    pub fn lr(&self, epoch: usize) -> f64 {
        let finished = epoch.saturating_sub(1);
        let cosine = |part: f64| (1.0 + (PI * part).cos()) / 2.0;
        let rise = |warmup: usize| (finished < warmup).then(|| self.lr * ((finished + 1) as f64 / warmup as f64));
        match &self.decay {
            Decay::Cosine { floor } => floor + (self.lr - floor) * cosine(finished as f64 / self.epochs.max(1) as f64),
            Decay::WarmupCosine { warmup } => rise(*warmup).unwrap_or_else(|| {
                let floor = self.lr / 1000.0;
                // A run that ends with its warm-up would divide by zero.
                let span = self.epochs.saturating_sub(warmup + 1).max(1);
                floor + (self.lr - floor) * cosine((finished - warmup) as f64 / span as f64)
            }),
            Decay::Step { milestones, gamma, warmup } => {
                let reached = milestones.iter().filter(|milestone| **milestone <= finished).count();
                warmup.and_then(rise).unwrap_or(self.lr) * gamma.powi(reached as i32)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(lr: f64, epochs: usize) -> ScheduleFlags {
        ScheduleFlags {
            lr,
            epochs,
            cosine_annealing: false,
            w_cosine_annealing: false,
            milestones: vec![],
            gamma: 0.1,
            warmup: Warmup::Constant,
            warmup_epochs: 10,
        }
    }

    fn curve(flags: &ScheduleFlags) -> Vec<f64> {
        let schedule = Schedule::from_flags(flags).unwrap();
        (1..=flags.epochs).map(|epoch| schedule.lr(epoch)).collect()
    }

    /// Golden: `fixtures/reid_losses`, the four curves of the reference.
    #[test]
    fn curves_match_the_reference() {
        let golden = fixtures::Golden::load("reid_losses").unwrap();
        let steps = ScheduleFlags { milestones: vec![40, 70], ..flags(6e-4, 130) };
        for (name, flags) in [
            ("w_cosine_lr6e-4_130", ScheduleFlags { w_cosine_annealing: true, ..steps.clone() }),
            (
                "step_40_70_linear_lr3.5e-4_120",
                ScheduleFlags { warmup: Warmup::Linear, lr: 3.5e-4, epochs: 120, ..steps.clone() },
            ),
            ("step_40_70_constant_lr6e-4_130", steps),
            ("cosine_annealing_lr6e-4_80", ScheduleFlags { cosine_annealing: true, ..flags(6e-4, 80) }),
        ] {
            let expected = golden.json()["schedules"][name]["lr"].as_array().unwrap();
            let found = curve(&flags);
            assert_eq!(found.len(), expected.len(), "{name}");
            let relative = |(found, expected): (&f64, &serde_json::Value)| {
                let expected = expected.as_f64().unwrap();
                (found - expected).abs() / expected
            };
            let worst = found.iter().zip(expected).map(relative).fold(0.0, f64::max);
            println!("{name}: {worst:.1e} relative");
            assert!(worst <= 1e-12, "{name}: {worst:.1e}");
        }
    }

    /// `torch.optim.lr_scheduler.CosineAnnealingLR(AdamW([p], lr=1e-4), 100, eta_min=1e-6)` of torch 2.15 at epochs
    /// 0, 1, 10, 50, 99.
    #[test]
    fn a_cosine_may_end_above_zero() {
        let schedule = Schedule::cosine(1e-4, 1e-6, 100);
        for (epoch, expected) in [
            (0, 1e-4),
            (1, 9.997557473810373e-5),
            (10, 9.757729755661012e-5),
            (50, 5.050000000000003e-5),
            (99, 1.0244252618962857e-6),
        ] {
            let found = schedule.lr(epoch + 1);
            assert!((found - expected).abs() <= 1e-12 * expected, "{epoch}: {found} for {expected}");
        }
    }

    #[test]
    fn short_runs_and_other_warm_ups_stay_finite() {
        for epochs in 1..=13 {
            for warmup_epochs in [0, 1, 3, 10, 20] {
                let rates = curve(&ScheduleFlags { w_cosine_annealing: true, warmup_epochs, ..flags(1e-3, epochs) });
                assert!(
                    rates.iter().all(|lr| lr.is_finite() && (0.0..=1e-3).contains(lr)),
                    "{epochs}, {warmup_epochs}"
                );
            }
        }
        let eleven = curve(&ScheduleFlags { w_cosine_annealing: true, ..flags(1e-3, 11) });
        assert_eq!(eleven[9..], [1e-3, 1e-3]);
        let three = curve(&ScheduleFlags { w_cosine_annealing: true, warmup_epochs: 3, ..flags(3e-3, 20) });
        assert!(three.iter().zip([1e-3, 2e-3, 3e-3, 3e-3]).all(|(found, wanted)| (found - wanted).abs() < 1e-17));
        assert!((three[19] - 3e-6).abs() < 1e-18);
    }

    #[test]
    fn wrong_numbers_are_named() {
        let error = |flags| Schedule::from_flags(&flags).unwrap_err().to_string();
        assert!(error(flags(f64::NAN, 5)).contains("learning rate is NaN"));
        assert!(error(flags(0.0, 5)).contains("above 0"));
        assert!(error(ScheduleFlags { gamma: -1.0, ..flags(1e-3, 5) }).contains("gamma is -1"));
    }
}
