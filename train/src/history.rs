//! Records of a run, one per epoch, and the files that show them: `training_history.json`, `metrics.csv`, a TensorBoard
//! event file and `training_curves.png`. The JSON file is the source; the others are drawn from it whenever it is saved.
//!
//! ```
//! use train::history::{EpochRecord, History};
//!
//! # let folder = tempfile::tempdir()?;
//! let mut history = History::open(folder.path())?;
//! history.push(EpochRecord {
//!     lr: 6e-5,
//!     terms: [("CrossEntropy".to_owned(), 3.1), ("MSLoss".to_owned(), 0.9)].into(),
//!     total: 4.0,
//!     seconds: 12.5,
//!     images_per_second: 38.4,
//!     metrics: [("mAP".to_owned(), 0.31), ("rank1".to_owned(), 0.52)].into(),
//!     ..EpochRecord::new(1)
//! })?;
//! history.save()?;
//! # Ok::<(), anyhow::Error>(())
//! ```

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use contract::files::{self, WriteError};

use crate::{curves, events};

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
    /// Wall clock of the epoch, evaluation left out.
    pub seconds: f64,
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
            seconds: 0.0,
            images_per_second: 0.0,
            finished: now,
            metrics: BTreeMap::new(),
        }
    }

    /// Every number with its name: `lr`, `loss/...`, `speed/...`, `metrics/...`.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (String, f64)> {
        let single = [("lr", self.lr), ("loss/total", self.total)];
        let speed = [("speed/seconds", self.seconds), ("speed/images_per_second", self.images_per_second)];
        let named = |group: &'static str, values: &BTreeMap<String, f64>| {
            values.iter().map(|(name, value)| (format!("{group}/{name}"), *value)).collect::<Vec<_>>()
        };
        let single = single.into_iter().map(|(name, value)| (name.to_owned(), value));
        let speed = speed.into_iter().map(|(name, value)| (name.to_owned(), value));
        single.chain(named("loss", &self.terms)).chain(speed).chain(named("metrics", &self.metrics))
    }

    /// Twelve digits: what a log needs, and few enough that reading and writing give the same number for ever.
    fn rounded(mut self) -> Self {
        let singles =
            [&mut self.lr, &mut self.total, &mut self.seconds, &mut self.images_per_second, &mut self.finished];
        for value in singles.into_iter().chain(self.terms.values_mut()).chain(self.metrics.values_mut()) {
            *value = format!("{value:.11e}").parse().unwrap_or(*value);
        }
        self
    }
}

/// A record or a file of records that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The file exists but cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file is not a list of records.
    #[error("`{}` is not a training history", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// Records out of order.
    #[error("`{}` has epoch {found} after epoch {before}", path.display())]
    Order {
        /// The file.
        path: PathBuf,
        /// The later record.
        found: usize,
        /// The earlier record.
        before: usize,
    },
    /// A number that is none.
    #[error("epoch {epoch}: {name} is {value}")]
    NotFinite {
        /// Of the record.
        epoch: usize,
        /// Which number.
        name: String,
        /// NaN or an infinity.
        value: f64,
    },
    /// The picture of the curves could not be compressed.
    #[error("cannot encode the training curves")]
    Picture(#[source] image::ImageError),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Name of the table in the run directory.
const TABLE: &str = "metrics.csv";

/// Name of the drawn curves in the run directory.
const CURVES: &str = "training_curves.png";

/// The records of a run directory.
#[derive(Debug, Clone)]
pub struct History {
    folder: PathBuf,
    records: Vec<EpochRecord>,
}

impl History {
    /// Name of the source file in the run directory.
    pub const FILE: &str = "training_history.json";

    /// Reads the records of a run directory; one without a history starts empty.
    ///
    /// # Errors
    /// A file that is there but is no history: it is never overwritten.
    pub fn open(folder: &Path) -> Result<Self, HistoryError> {
        let path = folder.join(Self::FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => b"[]".to_vec(),
            Err(source) => return Err(HistoryError::Read { path, source }),
        };
        let records: Vec<EpochRecord> = match serde_json::from_slice(&text) {
            Ok(records) => records,
            Err(source) => return Err(HistoryError::Parse { path, source }),
        };
        if let Some(pair) = records.windows(2).find(|pair| pair[0].epoch >= pair[1].epoch) {
            return Err(HistoryError::Order { path, found: pair[1].epoch, before: pair[0].epoch });
        }
        let records = records.into_iter().map(EpochRecord::rounded).collect();
        Ok(Self { folder: folder.to_owned(), records })
    }

    /// The files of a history in `folder`, whether they are there or not.
    pub(crate) fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
        let named = [Self::FILE, TABLE, CURVES].map(|name| folder.join(name));
        named.into_iter().chain(events::existing(folder))
    }

    /// All records, by epoch.
    pub fn records(&self) -> &[EpochRecord] {
        &self.records
    }

    /// The earliest record with the highest value of a metric.
    pub fn best(&self, metric: &str) -> Option<&EpochRecord> {
        let value = |record: &EpochRecord| record.metrics.get(metric).copied();
        self.records
            .iter()
            .filter(|record| value(record).is_some())
            .reduce(|best, record| if value(record) > value(best) { record } else { best })
    }

    /// Adds an epoch. A run that resumes from an earlier checkpoint repeats epochs: the new record replaces its
    /// predecessor and everything after it.
    ///
    /// # Errors
    /// A number that is NaN or infinite; nothing is added.
    pub fn push(&mut self, record: EpochRecord) -> Result<(), HistoryError> {
        let epoch = record.epoch;
        if let Some((name, value)) = record.numbers().find(|(_, value)| !value.is_finite()) {
            return Err(HistoryError::NotFinite { epoch, name, value });
        }
        self.records.retain(|earlier| earlier.epoch < epoch);
        self.records.push(record.rounded());
        Ok(())
    }

    /// Writes all four files; each is replaced as a whole, and an event file that is merely longer is appended to.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&self) -> Result<(), HistoryError> {
        let path = self.folder.join(Self::FILE);
        files::write_with(&path, |file| {
            // One record per line: readable, and a diff shows the new epochs.
            for (index, record) in self.records.iter().enumerate() {
                file.write_all(if index == 0 { b"[\n" } else { b",\n" })?;
                serde_json::to_writer(&mut *file, record)?;
            }
            file.write_all(if self.records.is_empty() { b"[]\n" } else { b"\n]\n" })
        })?;
        files::write_with(&self.folder.join(TABLE), |file| table(&self.records, file))?;
        events::write(&self.folder, &self.records)?;
        let picture = curves::png(&self.records).map_err(HistoryError::Picture)?;
        Ok(files::write(&self.folder.join(CURVES), picture)?)
    }
}

/// Comma-separated, a row per epoch; a column for every name that occurs, empty where an epoch lacks it.
fn table(records: &[EpochRecord], file: &mut dyn Write) -> std::io::Result<()> {
    let mut columns: Vec<String> = Vec::new();
    for (name, _) in records.iter().flat_map(EpochRecord::numbers) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let quoted = |name: &str| match name.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", name.replace('"', "\"\"")),
        false => name.to_owned(),
    };
    write!(file, "epoch")?;
    for column in &columns {
        write!(file, ",{}", quoted(column))?;
    }
    writeln!(file)?;
    for record in records {
        let values: BTreeMap<String, f64> = record.numbers().collect();
        write!(file, "{}", record.epoch)?;
        for column in &columns {
            match values.get(column) {
                Some(value) => write!(file, ",{value}")?,
                None => write!(file, ",")?,
            }
        }
        writeln!(file)?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run as it might go, evaluated every fifth epoch.
    pub(crate) fn run(epochs: usize) -> Vec<EpochRecord> {
        let noise =
            |name: &str, epoch: usize| contract::fill::unit(&format!("{name}{epoch}"), 1).next().unwrap_or(0.5) - 0.5;
        let record = |epoch: usize| {
            let t = epoch as f64 / 60.0;
            let entropy = 3.0 * (-2.5 * t).exp() + 0.7 + 0.15 * noise("ce", epoch);
            let similarity = 1.2 * (-2.0 * t).exp() + 0.2 + 0.08 * noise("ms", epoch);
            let metric = |top: f64, name: &str| top * (1.0 - (-2.2 * t).exp()) + 0.03 * noise(name, epoch);
            let metrics = [("mAP", 0.86), ("rank1", 0.95), ("rank5", 0.98)]
                .map(|(name, top)| (name.to_owned(), metric(top, name)));
            EpochRecord {
                lr: crate::schedule::Schedule {
                    lr: 6e-4,
                    epochs: 130,
                    decay: crate::schedule::Decay::WarmupCosine { warmup: 10 },
                }
                .lr(epoch),
                terms: [("CrossEntropy".to_owned(), entropy), ("MSLoss".to_owned(), similarity)].into(),
                total: entropy + similarity,
                seconds: 12.0 + noise("s", epoch),
                images_per_second: 40.0 + noise("i", epoch),
                finished: 1.8e9 + 13.25 * epoch as f64,
                metrics: if epoch.is_multiple_of(5) { metrics.into() } else { BTreeMap::new() },
                ..EpochRecord::new(epoch)
            }
        };
        (1..=epochs).map(record).collect()
    }

    fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let entry = |entry: std::io::Result<std::fs::DirEntry>| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        };
        std::fs::read_dir(folder).unwrap().map(entry).collect()
    }

    #[test]
    fn a_resumed_run_writes_the_same_files_as_a_straight_one() {
        let (straight, resumed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut history = History::open(straight.path()).unwrap();
        for record in run(12) {
            history.push(record).unwrap();
        }
        history.save().unwrap();

        // Interrupted after epoch 8, the last checkpoint being that of epoch 5.
        let mut history = History::open(resumed.path()).unwrap();
        for record in run(8) {
            history.push(EpochRecord { total: if record.epoch > 5 { 99.0 } else { record.total }, ..record }).unwrap();
            history.save().unwrap();
        }
        for record in run(12).split_off(5) {
            let mut history = History::open(resumed.path()).unwrap();
            history.push(record).unwrap();
            history.save().unwrap();
        }
        let (straight, resumed) = (files(straight.path()), files(resumed.path()));
        assert_eq!(straight.keys().collect::<Vec<_>>(), resumed.keys().collect::<Vec<_>>());
        assert_eq!(straight.len(), 4, "{:?}", straight.keys());
        for (name, bytes) in &straight {
            assert!(bytes == &resumed[name], "{name} differs");
        }
    }

    #[test]
    fn the_table_has_a_column_for_every_name() {
        let mut text = Vec::new();
        let mut records: Vec<_> = run(5).into_iter().map(EpochRecord::rounded).collect();
        records[4].metrics = [("odd, \"name\"".to_owned(), 0.5)].into();
        table(&records, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(
            rows[0],
            "epoch,lr,loss/total,loss/CrossEntropy,loss/MSLoss,speed/seconds,speed/images_per_second,\"metrics/odd, \"\"name\"\"\""
        );
        assert!(rows[1].starts_with("1,0.00006") && rows[1].ends_with(','), "{}", rows[1]);
        assert!(rows[5].ends_with(",0.5"), "{}", rows[5]);
    }

    #[test]
    fn the_best_epoch_is_the_earliest_of_equals() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(folder.path()).unwrap();
        assert!(history.best("mAP").is_none());
        for (epoch, value) in [(1, 0.2), (2, 0.4), (3, 0.4), (4, 0.1)] {
            let metrics = [("mAP".to_owned(), value)].into();
            history.push(EpochRecord { metrics, ..EpochRecord::new(epoch) }).unwrap();
        }
        assert_eq!(history.best("mAP").map(|record| record.epoch), Some(2));
    }

    #[test]
    fn damage_is_named_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = History::open(folder.path()).unwrap();
        let terms = [("MSLoss".to_owned(), f64::NAN)].into();
        let error = history.push(EpochRecord { terms, ..EpochRecord::new(3) }).unwrap_err().to_string();
        assert_eq!(error, "epoch 3: loss/MSLoss is NaN");
        assert!(history.records().is_empty());

        let path = folder.path().join(History::FILE);
        for text in ["[{", "{}", "[{\"epoch\": 1}]"] {
            std::fs::write(&path, text).unwrap();
            let error = History::open(folder.path()).unwrap_err().to_string();
            assert!(error.contains("training_history.json` is not a training history"), "{error}");
        }
        let swapped: Vec<_> = run(2).into_iter().rev().collect();
        std::fs::write(&path, serde_json::to_string(&swapped).unwrap()).unwrap();
        let error = History::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("epoch 1 after epoch 2"), "{error}");
    }
}
