//! Records of a run, one per epoch, and the files that show them: `training_history.json`, `metrics.csv`, a TensorBoard
//! event file and `training_curves.png`. A [`Log`] says what they look like.
//!
//! ```
//! use train::run::history::{EpochRecord, History};
//! use train::run::log::Log;
//!
//! # let folder = tempfile::tempdir()?;
//! let mut history = History::open(folder.path(), Log::default(), None)?;
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

use files::WriteError;
use files::table::Writer;

use crate::run::curves;
pub use crate::run::epoch::EpochRecord;
use crate::run::log::{Log, Named, Summary};
use crate::run::tensorboard::{self as events, EventFile, Reporter, Stamp};

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
    /// A number that is NaN or infinite.
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

/// Name of the curves of a finished run, for families that want them under this name.
const FINAL_CURVES: &str = "final_training_curves.png";

/// The records of a run directory.
#[derive(Debug, Clone)]
pub struct History {
    folder: PathBuf,
    log: Log,
    records: Vec<EpochRecord>,
    events: EventFile,
}

impl History {
    /// Name of the history in the run directory.
    pub const FILE: &str = "training_history.json";

    /// Name of our records where that file has another form.
    pub const RECORDS: &str = "training_records.json";

    /// Reads the records of a run directory; one without a history starts empty. TensorBoard's file is in `log_dir`,
    /// where several runs may have theirs, or else in the run directory.
    ///
    /// # Errors
    /// The file exists but is not a history. It is never overwritten.
    pub fn open(folder: &Path, log: Log, log_dir: Option<&Path>) -> Result<Self, HistoryError> {
        let path = folder.join(if log.summary.is_some() { Self::RECORDS } else { Self::FILE });
        let text = match files::read_limited(&path, files::LARGEST_TABLE) {
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
        let batch_tags: Vec<&str> = log.batch.iter().map(|one| one.name.as_str()).collect();
        let run = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let (place, run) = match log_dir.filter(|dir| *dir != folder) {
            Some(dir) => (dir, run.as_str()),
            None => (folder, ""),
        };
        let unreadable = |source| HistoryError::Read { path: place.to_owned(), source };
        let events = EventFile::open(place, run, &batch_tags, log.first_epoch).map_err(unreadable)?;
        Ok(Self { folder: folder.to_owned(), log, records, events })
    }

    /// The files of a history in `folder`, whether they are there or not.
    pub(crate) fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
        let figure =
            |name: &str| name == FINAL_CURVES || (name.starts_with("training_curves_epoch_") && name.ends_with(".png"));
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let figures = entries.filter(move |path| path.file_name().and_then(|name| name.to_str()).is_some_and(figure));
        let named = [Self::FILE, Self::RECORDS, TABLE, CURVES].map(|name| folder.join(name));
        named.into_iter().chain(figures).chain(events::existing(folder))
    }

    /// Forgets what TensorBoard's file has beyond `epochs` finished epochs and `batches` batches, which a run that
    /// starts there will do again. The records stay until [`History::push`] replaces them.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn begin_at(&mut self, epochs: usize, batches: u64) -> Result<(), HistoryError> {
        Ok(self.events.retain(|stamp| match stamp {
            Stamp::Batch(batch) => batch < batches,
            Stamp::Epoch(epoch) => epoch <= epochs,
        })?)
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
    /// A number that is NaN or infinite; nothing is added. Or if TensorBoard's file cannot be written.
    pub fn push(&mut self, record: EpochRecord) -> Result<(), HistoryError> {
        let epoch = record.epoch;
        if let Some((name, value)) = record.numbers().find(|(_, value)| !value.is_finite()) {
            return Err(HistoryError::NotFinite { epoch, name, value });
        }
        let record = record.rounded();
        self.records.retain(|earlier| earlier.epoch < epoch);
        self.events.retain(|stamp| !matches!(stamp, Stamp::Epoch(later) if later >= epoch))?;
        let numbers =
            if self.log.epoch.is_empty() { record.numbers().collect() } else { record.renamed(&self.log.epoch) };
        self.events.scalars(Stamp::Epoch(epoch), [record.finished - record.seconds, record.finished], numbers);
        self.records.push(record);
        Ok(())
    }

    /// Adds a batch to TensorBoard's file, if the log wants batches. `batch` counts from 0 since the start of the run.
    pub fn batch(&mut self, batch: u64, record: EpochRecord) {
        if !self.log.batch.is_empty() {
            self.events.scalars(Stamp::Batch(batch), [record.finished; 2], record.renamed(&self.log.batch));
        }
    }

    /// Adds an epoch's record.
    pub fn attach(&mut self, epoch: usize, reporter: Reporter) {
        let now = self.records.last().map_or(0.0, |record| record.finished);
        self.events.report(Stamp::Epoch(epoch), now, reporter);
    }

    /// Writes what batches added to TensorBoard's file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<(), HistoryError> {
        Ok(self.events.flush()?)
    }

    /// Writes all files; each is replaced as a whole, TensorBoard's is appended to.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn save(&mut self) -> Result<(), HistoryError> {
        let records = self.folder.join(if self.log.summary.is_some() { Self::RECORDS } else { Self::FILE });
        files::write_with(&records, |file| {
            // One record per line: readable, and a diff shows the new epochs.
            for (index, record) in self.records.iter().enumerate() {
                file.write_all(if index == 0 { b"[\n" } else { b",\n" })?;
                serde_json::to_writer(&mut *file, record)?;
            }
            file.write_all(if self.records.is_empty() { b"[]\n" } else { b"\n]\n" })
        })?;
        if let Some(summary) = &self.log.summary {
            let text = serde_json::to_string_pretty(&summarise(summary, &self.records));
            files::write(&self.folder.join(Self::FILE), text.expect("numbers and settings are plain data"))?;
        }
        files::write_with(&self.folder.join(TABLE), |file| table(&self.records, file))?;
        self.flush()?;
        self.write_curves(CURVES)
    }

    /// Draws the curves up to `epoch`, if the log has figures.
    ///
    /// # Errors
    /// If the picture cannot be written.
    pub fn draw_epoch(&self, epoch: usize) -> Result<(), HistoryError> {
        if self.log.figures { self.write_curves(&format!("training_curves_epoch_{epoch}.png")) } else { Ok(()) }
    }

    /// Draws the curves of the finished run, if the log wants figures.
    ///
    /// # Errors
    /// If the picture cannot be written.
    pub fn draw_final(&self) -> Result<(), HistoryError> {
        if self.log.figures { self.write_curves(FINAL_CURVES) } else { Ok(()) }
    }

    fn write_curves(&self, name: &str) -> Result<(), HistoryError> {
        let picture = curves::picture(&self.records, &self.log.panels).map_err(HistoryError::Picture)?;
        Ok(files::write(&self.folder.join(name), picture)?)
    }
}

/// The records in the references' form.
fn summarise(summary: &Summary, records: &[EpochRecord]) -> serde_json::Value {
    let entries = |names: &[Named]| {
        let entry = |record: &EpochRecord| {
            let numbers = record.renamed(names);
            let entry = || numbers.iter().map(|(name, value)| (name.clone(), (*value).into())).collect();
            (!numbers.is_empty()).then(|| serde_json::Value::Object(entry()))
        };
        records.iter().filter_map(entry).collect::<Vec<_>>()
    };
    serde_json::json!({
        "train_metrics": entries(&summary.train),
        "val_metrics": entries(&summary.validation),
        "args": summary.args,
    })
}

/// Comma-separated, a row per epoch; a column for every name that occurs, empty where an epoch lacks it.
fn table(records: &[EpochRecord], file: &mut dyn Write) -> std::io::Result<()> {
    let mut columns: Vec<String> = Vec::new();
    for (name, _) in records.iter().flat_map(EpochRecord::numbers) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let header: Vec<&str> = std::iter::once("epoch").chain(columns.iter().map(String::as_str)).collect();
    let mut table = Writer::exact(&header);
    for record in records {
        let values: BTreeMap<String, f64> = record.numbers().collect();
        let value = |column| values.get(column).map(ToString::to_string).unwrap_or_default();
        table.row(std::iter::once(record.epoch.to_string()).chain(columns.iter().map(value)));
    }
    file.write_all(table.finish().as_bytes())?;
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
                lr: crate::run::schedule::Schedule {
                    lr: 6e-4,
                    epochs: 130,
                    decay: crate::run::schedule::Decay::WarmupCosine { warmup: 10 },
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

    fn open(folder: &Path) -> Result<History, HistoryError> {
        History::open(folder, Log::default(), None)
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
        let mut history = open(straight.path()).unwrap();
        for record in run(12) {
            history.push(record).unwrap();
        }
        history.save().unwrap();

        // Interrupted after epoch 8, the last checkpoint being that of epoch 5.
        let mut history = open(resumed.path()).unwrap();
        for record in run(8) {
            history.push(EpochRecord { total: if record.epoch > 5 { 99.0 } else { record.total }, ..record }).unwrap();
            history.save().unwrap();
        }
        for record in run(12).split_off(5) {
            let mut history = open(resumed.path()).unwrap();
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
    fn a_family_may_name_its_numbers() {
        use crate::run::log::named;
        let folder = tempfile::tempdir().unwrap();
        let (dir, logs) = (folder.path().join("run"), folder.path().join("logs"));
        let log = Log {
            batch: named([("loss/total", "Train/Loss"), ("lr", "Train/LearningRate")]),
            epoch: named([("loss/total", "Epoch/TrainLoss"), ("metrics/mAP", "Epoch/ValMap")]),
            first_epoch: 0,
            figures: true,
            summary: Some(Summary {
                train: named([("loss/total", "total_loss"), ("loss/MSLoss", "ms_loss")]),
                validation: named([("metrics/mAP", "map")]),
                args: serde_json::json!({ "lr": 1e-4 }),
            }),
            ..Log::default()
        };
        let mut history = History::open(&dir, log.clone(), Some(&logs)).unwrap();
        for record in run(5) {
            history.batch(record.epoch as u64 - 1, record.clone());
            history.push(record).unwrap();
        }
        history.save().unwrap();
        history.draw_epoch(5).unwrap();
        history.draw_final().unwrap();
        let text: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join(History::FILE)).unwrap()).unwrap();
        let keys: Vec<_> = text.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["train_metrics", "val_metrics", "args"]);
        let entry = |list: &str, at: usize, key: &str| text[list][at][key].as_f64();
        let record = run(5).pop().unwrap().rounded();
        assert_eq!(text["train_metrics"].as_array().unwrap().len(), 5);
        assert_eq!(entry("train_metrics", 4, "total_loss"), Some(record.total));
        assert_eq!(entry("train_metrics", 4, "ms_loss"), Some(record.terms["MSLoss"]));
        assert_eq!(text["val_metrics"].as_array().unwrap().len(), 1, "only evaluated epochs");
        assert_eq!(entry("val_metrics", 0, "map"), Some(record.metrics["mAP"]));
        assert_eq!(text["args"]["lr"], 1e-4);
        let names: Vec<_> = files(&dir).into_keys().collect();
        assert_eq!(
            names,
            [
                "final_training_curves.png",
                "metrics.csv",
                "training_curves.png",
                "training_curves_epoch_5.png",
                "training_history.json",
                "training_records.json"
            ]
        );
        let names: Vec<_> = files(&logs).into_keys().collect();
        assert_eq!(names, ["events.out.tfevents.1800000013.run.vitrine"]);
        assert_eq!(History::open(&dir, log, Some(&logs)).unwrap().records().len(), 5);
        assert_eq!(History::files(&dir).filter(|path| path.exists()).count(), 6, "all are known for removal");
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
            "epoch,lr,loss/total,loss/CrossEntropy,loss/MSLoss,speed/seconds,speed/waiting,speed/images_per_second,\
             \"metrics/odd, \"\"name\"\"\""
        );
        assert!(rows[1].starts_with("1,0.00006") && rows[1].ends_with(','), "{}", rows[1]);
        assert!(rows[5].ends_with(",0.5"), "{}", rows[5]);
    }

    #[test]
    fn the_best_epoch_is_the_earliest_of_equals() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = open(folder.path()).unwrap();
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
        let mut history = open(folder.path()).unwrap();
        let terms = [("MSLoss".to_owned(), f64::NAN)].into();
        let error = history.push(EpochRecord { terms, ..EpochRecord::new(3) }).unwrap_err().to_string();
        assert_eq!(error, "epoch 3: loss/MSLoss is NaN");
        assert!(history.records().is_empty());

        let path = folder.path().join(History::FILE);
        for text in ["[{", "{}", "[{\"epoch\": 1}]"] {
            std::fs::write(&path, text).unwrap();
            let error = open(folder.path()).unwrap_err().to_string();
            assert!(error.contains("training_history.json` is not a training history"), "{error}");
        }
        // All zeros, and no longer on the disk than a line.
        std::fs::File::create(&path).unwrap().set_len(files::LARGEST_TABLE + 1).unwrap();
        let error = open(folder.path()).unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("it has 1073741825 bytes or more, 1073741824 are allowed"), "{error}: {cause}");
        std::fs::remove_file(&path).unwrap();
        let swapped: Vec<_> = run(2).into_iter().rev().collect();
        std::fs::write(&path, serde_json::to_string(&swapped).unwrap()).unwrap();
        let error = open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("epoch 1 after epoch 2"), "{error}");
    }
}
