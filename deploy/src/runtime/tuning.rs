//! How ONNX Runtime spends threads and memory.

use std::fmt;
use std::str::FromStr;

use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};

use super::machine::Machine;

/// How far ONNX Runtime rewrites a graph before it runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Optimisation {
    /// Not at all.
    Off,
    /// What is the same to the bit on every provider: constants folded, nodes without effect removed.
    Basic,
    /// And nodes joined into one.
    Extended,
    /// And layouts of this processor.
    #[default]
    All,
}

/// Names on the command line.
const LEVELS: [(&str, Optimisation); 4] = [
    ("off", Optimisation::Off),
    ("basic", Optimisation::Basic),
    ("extended", Optimisation::Extended),
    ("all", Optimisation::All),
];

impl fmt::Display for Optimisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(LEVELS.iter().find(|(_, level)| level == self).map_or("", |(name, _)| name))
    }
}

impl FromStr for Optimisation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = LEVELS.iter().find(|(name, _)| *name == text).map(|(_, level)| *level);
        found.ok_or_else(|| format!("`{text}` is no level; off, basic, extended and all are allowed"))
    }
}

/// What was asked for; what is none is decided by the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tuning {
    /// Whether threads that wait for work keep their cores busy.
    pub spinning: Option<bool>,
    /// Whether memory of a run is kept for the next one.
    pub arena: Option<bool>,
    /// How far the graph is rewritten.
    pub optimisation: Optimisation,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuned {
    /// Whether threads that wait for work keep their cores busy.
    pub spinning: bool,
    /// Whether memory of a run is kept for the next one.
    pub arena: bool,
    /// How far the graph is rewritten.
    pub optimisation: Optimisation,
}

/// Memory in bytes below which nothing is kept between runs.
const LITTLE_MEMORY: u64 = 1 << 30;

impl Tuning {
    /// Fills in what was left open. Threads do not spin under a quota of processor time: waiting would use it up.
    /// Memory is kept, which saves an eighth of the time, unless there is less than a gibibyte of it.
    pub fn on(self, machine: &Machine) -> Tuned {
        let little = machine.usable_memory().is_some_and(|bytes| bytes < LITTLE_MEMORY);
        Tuned {
            spinning: self.spinning.unwrap_or(machine.limits.cores.is_none()),
            arena: self.arena.unwrap_or(!little),
            optimisation: self.optimisation,
        }
    }
}

impl fmt::Display for Tuned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on: bool| if on { "on" } else { "off" };
        let (spinning, arena) = (word(self.spinning), word(self.arena));
        write!(f, "optimisation {}, spinning {spinning}, arena {arena}", self.optimisation)
    }
}

impl Tuned {
    /// Sets a session under construction up for `threads` threads.
    pub(super) fn apply(self, builder: SessionBuilder, threads: usize) -> Result<SessionBuilder, ort::Error> {
        let level = match self.optimisation {
            Optimisation::Off => GraphOptimizationLevel::Disable,
            Optimisation::Basic => GraphOptimizationLevel::Level1,
            Optimisation::Extended => GraphOptimizationLevel::Level2,
            Optimisation::All => GraphOptimizationLevel::All,
        };
        Ok(builder
            .with_optimization_level(level)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(self.spinning)?
            .with_memory_pattern(self.arena)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Limits;
    use super::*;

    fn machine(cores: Option<f64>, memory: Option<u64>, limit: Option<u64>) -> Machine {
        let limits = Limits { cores, memory: limit };
        Machine { processor: None, cores: 4, limits, memory, instructions: Vec::new() }
    }

    #[test]
    fn containers_and_small_devices_have_defaults_of_their_own() {
        let on = |tuning: Tuning, machine: Machine| {
            let tuned = tuning.on(&machine);
            (tuned.spinning, tuned.arena)
        };
        let usual = Tuning::default();
        assert_eq!(on(usual, machine(None, Some(8 << 30), None)), (true, true));
        assert_eq!(on(usual, machine(Some(1.5), Some(8 << 30), None)), (false, true));
        assert_eq!(on(usual, machine(None, Some(8 << 30), Some(512 << 20))), (true, false));
        assert_eq!(on(usual, machine(None, Some(900 << 20), None)), (true, false));
        assert_eq!(on(usual, machine(None, None, None)), (true, true));
        let asked = Tuning { spinning: Some(true), arena: Some(true), ..usual };
        assert_eq!(on(asked, machine(Some(0.5), Some(256 << 20), None)), (true, true));
        let asked = Tuning { spinning: Some(false), arena: Some(false), ..usual };
        assert_eq!(on(asked, machine(None, Some(8 << 30), None)), (false, false));
    }

    #[test]
    fn levels_by_name() {
        for (name, level) in LEVELS {
            assert_eq!((name.parse(), level.to_string().as_str()), (Ok(level), name));
        }
        assert!("3".parse::<Optimisation>().unwrap_err().contains("are allowed"));
    }
}
