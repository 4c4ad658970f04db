//! Learning rate of an epoch: a pure function of the settings, so that a resumed run continues on the same curve.
//!
//! ```
//! use train::schedule::{Decay, Schedule};
//!
//! let schedule = Schedule { lr: 6e-4, epochs: 130, decay: Decay::WarmupCosine { warmup: 10 } };
//! assert_eq!(schedule.lr(10), 6e-4);
//! assert!((schedule.lr(130) - 6e-7).abs() < 1e-15);
//! ```

use std::f64::consts::PI;

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
    /// Half a cosine over all epochs, towards 0.
    Cosine,
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

/// A schedule as typed: flags that may contradict each other, of which the first that is set wins.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleFlags<'a> {
    /// Highest rate.
    pub lr: f64,
    /// Epochs of the whole run.
    pub epochs: usize,
    /// Plain cosine.
    pub cosine_annealing: bool,
    /// Cosine after a warm-up.
    pub w_cosine_annealing: bool,
    /// `step`, or `step_40_70` with milestones.
    pub decay_type: &'a str,
    /// Factor of each milestone.
    pub gamma: f64,
    /// `linear` or `constant`, the latter being none.
    pub warmup: &'a str,
    /// Epochs of a warm-up.
    pub warmup_epochs: usize,
}

/// A schedule that cannot be.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Not `step` followed by numbers.
    #[error("decay type `{found}` is not `step` or `step_N_N...` with epochs N, such as `step_40_70`")]
    DecayType {
        /// As typed.
        found: String,
    },
    /// Another kind of warm-up.
    #[error("unknown warm-up `{found}`; known: linear, constant")]
    Warmup {
        /// As typed.
        found: String,
    },
    /// A number out of its range.
    #[error("{what} is {found}, {wanted} wanted")]
    Range {
        /// Which number.
        what: &'static str,
        /// As given.
        found: f64,
        /// The range.
        wanted: &'static str,
    },
}

impl Schedule {
    /// Reads the flags of the command line; `decay_type` must be valid in the cosine modes too.
    ///
    /// # Errors
    /// A text or a number that does not describe a schedule.
    pub fn from_flags(flags: &ScheduleFlags) -> Result<Self, ScheduleError> {
        let milestones = milestones(flags.decay_type)?;
        let rise = match flags.warmup {
            "linear" => Some(flags.warmup_epochs),
            "constant" => None,
            other => return Err(ScheduleError::Warmup { found: other.to_owned() }),
        };
        let range = |what, found: f64, fits: bool, wanted| match fits {
            true => Ok(()),
            false => Err(ScheduleError::Range { what, found, wanted }),
        };
        range("learning rate", flags.lr, flags.lr.is_finite() && flags.lr > 0.0, "a finite number above 0")?;
        range("number of epochs", flags.epochs as f64, flags.epochs > 0, "at least 1")?;
        range("gamma", flags.gamma, flags.gamma.is_finite() && flags.gamma >= 0.0, "a finite number, at least 0")?;
        let decay = if flags.cosine_annealing {
            Decay::Cosine
        } else if flags.w_cosine_annealing {
            Decay::WarmupCosine { warmup: flags.warmup_epochs }
        } else {
            Decay::Step { milestones, gamma: flags.gamma, warmup: rise }
        };
        Ok(Self { lr: flags.lr, epochs: flags.epochs, decay })
    }

    /// Rate during `epoch`, counted from 1. Epochs beyond the last follow the formula on.
    pub fn lr(&self, epoch: usize) -> f64 {
        let finished = epoch.saturating_sub(1);
        let cosine = |part: f64| (1.0 + (PI * part).cos()) / 2.0;
        let rise = |warmup: usize| (finished < warmup).then(|| self.lr * ((finished + 1) as f64 / warmup as f64));
        match &self.decay {
            Decay::Cosine => self.lr * cosine(finished as f64 / self.epochs as f64),
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

/// `step_40_70` → 40 and 70; `step` → none.
fn milestones(text: &str) -> Result<Vec<usize>, ScheduleError> {
    let wrong = || ScheduleError::DecayType { found: text.to_owned() };
    let numbers = text.strip_prefix("step").ok_or_else(wrong)?;
    if numbers.is_empty() {
        return Ok(Vec::new());
    }
    let numbers = numbers.strip_prefix('_').ok_or_else(wrong)?;
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
    numbers.split('_').map(|part| digits(part).ok_or_else(wrong)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(lr: f64, epochs: usize) -> ScheduleFlags<'static> {
        ScheduleFlags {
            lr,
            epochs,
            cosine_annealing: false,
            w_cosine_annealing: false,
            decay_type: "step",
            gamma: 0.1,
            warmup: "constant",
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
        let steps = ScheduleFlags { decay_type: "step_40_70", ..flags(6e-4, 130) };
        for (name, flags) in [
            ("w_cosine_lr6e-4_130", ScheduleFlags { w_cosine_annealing: true, ..steps.clone() }),
            (
                "step_40_70_linear_lr3.5e-4_120",
                ScheduleFlags { warmup: "linear", lr: 3.5e-4, epochs: 120, ..steps.clone() },
            ),
            ("step_40_70_constant_lr6e-4_130", steps.clone()),
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
    fn wrong_flags_are_named() {
        assert_eq!(milestones("step_50_80_110").unwrap(), [50, 80, 110]);
        for text in ["", "cosine", "step_", "step40", "step_40_", "step_a", "step_-1", "step_+4", "step_4.5", "Step"] {
            let typed = ScheduleFlags { cosine_annealing: true, decay_type: text, ..flags(1e-3, 5) };
            let error = Schedule::from_flags(&typed).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
        let error = |flags| Schedule::from_flags(&flags).unwrap_err().to_string();
        assert!(error(ScheduleFlags { warmup: "cosine", ..flags(1e-3, 5) }).contains("known: linear, constant"));
        assert!(error(flags(f64::NAN, 5)).contains("learning rate is NaN"));
        assert!(error(flags(0.0, 5)).contains("above 0"));
        assert!(error(flags(1e-3, 0)).contains("number of epochs is 0"));
    }
}
