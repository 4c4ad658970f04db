//! What is recorded of one epoch.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::run::log::Named;

/// What happened in one epoch.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EpochRecord {
    /// Counted from 1.
    pub epoch: usize,
    /// Learning rate of the epoch.
    pub lr: f64,
    /// Weighted loss terms by name, mean over batches.
    pub terms: BTreeMap<String, f64>,
    /// Their sum.
    pub total: f64,
    /// Further figures of the batches by name, mean over batches.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub figures: BTreeMap<String, f64>,
    /// Wall clock of the epoch, evaluation left out.
    pub seconds: f64,
    /// The part of it in which the loop waited for the loader.
    #[serde(default)]
    pub waiting: f64,
    /// Training pictures per second.
    pub images_per_second: f64,
    /// Unix time at the end of the epoch, seconds.
    pub finished: f64,
    /// Evaluation after the epoch, by name, fractions of 1; empty when there was none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metrics: BTreeMap<String, f64>,
}

impl EpochRecord {
    /// A record that ends now and holds only zeros.
    pub fn new(epoch: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        Self {
            epoch,
            lr: 0.0,
            terms: BTreeMap::new(),
            total: 0.0,
            figures: BTreeMap::new(),
            seconds: 0.0,
            waiting: 0.0,
            images_per_second: 0.0,
            finished: now,
            metrics: BTreeMap::new(),
        }
    }

    /// Every number with its name: `lr`, `loss/...`, `train/...`, `speed/...`, `metrics/...`.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (String, f64)> {
        let single = [("lr", self.lr), ("loss/total", self.total)];
        let speed = [
            ("speed/seconds", self.seconds),
            ("speed/waiting", self.waiting),
            ("speed/images_per_second", self.images_per_second),
        ];
        let named = |group: &'static str, values: &BTreeMap<String, f64>| {
            values.iter().map(|(name, value)| (format!("{group}/{name}"), *value)).collect::<Vec<_>>()
        };
        let single = single.into_iter().map(|(name, value)| (name.to_owned(), value));
        let speed = speed.into_iter().map(|(name, value)| (name.to_owned(), value));
        let batches = named("loss", &self.terms).into_iter().chain(named("train", &self.figures));
        single.chain(batches).chain(speed).chain(named("metrics", &self.metrics))
    }

    /// The numbers that `names` asks for and this record has, under their names there.
    pub(crate) fn renamed(&self, names: &[Named]) -> Vec<(String, f64)> {
        let numbers: BTreeMap<String, f64> = self.numbers().collect();
        names.iter().filter_map(|one| Some((one.name.clone(), *numbers.get(&one.number)?))).collect()
    }

    /// Twelve digits: what a log needs, and few enough that reading and writing give the same number for ever.
    pub(crate) fn rounded(mut self) -> Self {
        let clocks = [&mut self.seconds, &mut self.waiting, &mut self.images_per_second, &mut self.finished];
        let singles = [&mut self.lr, &mut self.total].into_iter().chain(clocks);
        let named = self.terms.values_mut().chain(self.figures.values_mut()).chain(self.metrics.values_mut());
        for value in singles.chain(named) {
            *value = format!("{value:.11e}").parse().unwrap_or(*value);
        }
        self
    }
}
