//! Checkpoints: one safetensors file that PyTorch opens, with everything about the run in its header, and beside it the
//! optimiser's state, for resuming.
//!
//! The state is written first and the weights name its hash, so that a crash in between leaves a checkpoint that is
//! whole or none.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use contract::trained::TrainedOn;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::run::history::History;
use crate::weights::{StateDict, WeightsError};

/// Key of our record in the header of a weights file.
const KEY: &str = "vitrine";

/// File of the best network of a run.
pub const BEST: &str = "best_model.safetensors";

/// File of the last network of a finished run.
pub const FINAL: &str = "final_model.safetensors";

/// What a checkpoint says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Family: `reid`.
    pub family: String,
    /// What fixes the network's parameters.
    pub network: serde_json::Value,
    /// The run's configuration.
    pub config: serde_json::Value,
    /// Command line.
    pub command: String,
    /// Name of the dataset.
    pub dataset: String,
    /// Hash of its file list.
    pub dataset_fingerprint: String,
    /// The people trained on, for families that recognise people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub people: Option<TrainedOn>,
    /// Queries of the set that decides, for families that rank a gallery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queries: Option<Queries>,
    /// Finished epochs.
    pub epoch: usize,
    /// Finished batches of the epoch after those.
    pub step: usize,
    /// Batches since the start.
    pub steps: u64,
    /// Metrics at that epoch, when it was evaluated.
    pub metrics: BTreeMap<String, f64>,
    /// Best value so far of the metric that decides, and its epoch.
    pub best: Option<(f64, usize)>,
    /// Its last value that was an improvement for early stopping, and the evaluations since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub patience: Option<(f64, usize)>,
    /// Sums of the unfinished epoch's log, so that a resumed epoch logs the same means.
    pub partial: serde_json::Value,
    /// SHA-256 of the optimiser's state beside the weights, where there is one.
    pub state_sha256: Option<String>,
    /// Version of Vitrine that wrote it.
    pub version: String,
}

/// How many queries of a test set can be scored: those with a match from another camera in the gallery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queries {
    /// Name of the set.
    pub dataset: String,
    /// All of them.
    pub all: usize,
    /// Those that can be scored.
    pub scored: usize,
}

impl Queries {
    /// What to say of scores that are all 0.
    pub fn warning(&self) -> Option<String> {
        let Self { dataset, all, scored } = self;
        (*scored == 0).then(|| {
            format!(
                "{dataset}: 0 of {all} queries could be scored, because none has a match from another camera in the \
                 gallery"
            )
        })
    }
}

impl Default for Record {
    /// A record of nothing yet, by this version.
    fn default() -> Self {
        Self {
            family: String::new(),
            network: serde_json::Value::Null,
            config: serde_json::Value::Null,
            command: String::new(),
            dataset: String::new(),
            dataset_fingerprint: String::new(),
            people: None,
            queries: None,
            epoch: 0,
            step: 0,
            steps: 0,
            metrics: BTreeMap::new(),
            best: None,
            patience: None,
            partial: serde_json::Value::Null,
            state_sha256: None,
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }
}

impl Record {
    /// The command that made the network, for files that are published: of paths that start at the root or at home
    /// the last part is left.
    pub fn published_command(&self) -> String {
        let words = shlex::split(&self.command)
            .unwrap_or_else(|| self.command.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let words = words.iter().map(|word| {
            let word = without_path(word);
            if word.contains(' ') { format!("'{word}'") } else { word }
        });
        words.collect::<Vec<_>>().join(" ")
    }

    /// The same of a run on `dataset`, by its name and the hash of its file list.
    pub fn on(self, dataset: impl Into<String>, fingerprint: impl Into<String>) -> Self {
        Self { dataset: dataset.into(), dataset_fingerprint: fingerprint.into(), ..self }
    }
}

/// A word of a command line without a path of the machine it ran on.
fn without_path(word: &str) -> String {
    let start = word.find(['/', '~', '\\']).unwrap_or(word.len());
    let before = &word[..start];
    let private = start < word.len()
        && (before.is_empty() || before.ends_with(['=', ':']))
        && !before.ends_with("http:")
        && !before.ends_with("https:");
    if !private {
        return word.to_owned();
    }
    let last = word.trim_end_matches(['/', '\\']).rsplit(['/', '\\']).next().unwrap_or_default();
    format!("{before}…/{last}")
}

/// Whether nothing is there, not even a folder on the way.
fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Why a checkpoint cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// Nothing is there.
    #[error("there is no `{}`; {NEEDED}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file of something else.
    #[error("`{}` is no checkpoint; {NEEDED}", path.display())]
    NoWeights {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        source: WeightsError,
    },
    /// A folder without a checkpoint.
    #[error("no checkpoint in `{}`; looked for {BEST}, {FINAL} and checkpoint_epoch_*.safetensors", path.display())]
    NotFound {
        /// The folder.
        path: PathBuf,
    },
    /// Weights of others, or of an older Vitrine.
    #[error(
        "`{}` carries no record of a Vitrine run; `train import` makes a checkpoint of foreign weights",
        path.display()
    )]
    NoRecord {
        /// The file.
        path: PathBuf,
    },
    /// The record is not what this version reads.
    #[error("the record in `{}` is malformed", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: serde_json::Error,
    },
    /// A checkpoint of another family or network.
    #[error("`{}` is a checkpoint of {found}, {allowed} is needed here", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What it holds.
        found: String,
        /// What is needed.
        allowed: String,
    },
    /// The optimiser's state is missing or not the one the weights were saved with.
    #[error(
        "cannot resume from `{}`: its state `{}` {problem}; another checkpoint of the run may be whole, and \
         re-identification starts anew with these weights by --pre-train",
        path.display(),
        state.display()
    )]
    State {
        /// The weights file.
        path: PathBuf,
        /// The state file.
        state: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Something cannot be written.
    #[error(transparent)]
    Write(#[from] files::WriteError),
    /// A checkpoint cannot be written.
    #[error("the checkpoint `{}` needs {room} bytes{whole}", path.display())]
    Unsaved {
        /// Its weights file.
        path: PathBuf,
        /// Bytes of weights and state.
        room: u64,
        /// What to continue with.
        whole: Whole,
        /// The cause.
        source: files::WriteError,
    },
}

/// What a checkpoint is opened by.
const NEEDED: &str = "the folder of a run that `train` made, or a checkpoint in one (.safetensors), is needed; \
                      `train import` makes one of foreign weights";

/// The newest checkpoint that is whole, in a message.
#[derive(Debug)]
pub struct Whole(Option<PathBuf>);

impl std::fmt::Display for Whole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(path) => write!(f, "; `{0}` is whole: make room, and continue with --resume {0}", path.display()),
            None => f.write_str("; none is saved yet"),
        }
    }
}

/// A checkpoint on disk, its record read.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The weights file.
    pub path: PathBuf,
    /// What it says about itself.
    pub record: Record,
}

impl Checkpoint {
    /// Opens a weights file, or the best network of a run directory (else the final one, else the newest checkpoint).
    ///
    /// # Errors
    /// See [`CheckpointError`].
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        if !path.is_dir() {
            return Self::file(path).map_err(|error| match error {
                CheckpointError::Weights(WeightsError::Read { path, source }) if is_missing(&source) => {
                    CheckpointError::Missing { path }
                }
                CheckpointError::Weights(source @ WeightsError::Format { .. }) => {
                    CheckpointError::NoWeights { path: path.to_owned(), source }
                }
                other => other,
            });
        }
        // A folder that cannot be read would look empty.
        if let Err(source) = path.read_dir() {
            return Err(WeightsError::Read { path: path.to_owned(), source }.into());
        }
        let chosen = [BEST, FINAL].map(|name| path.join(name)).into_iter().find(|file| file.is_file());
        match chosen.or_else(|| list(path).pop().map(|(_, file)| file)) {
            Some(file) => Self::file(&file),
            None => Err(CheckpointError::NotFound { path: path.to_owned() }),
        }
    }

    /// The newest checkpoint of a run directory that can be resumed; none where no epoch was begun.
    ///
    /// # Errors
    /// If the newest is damaged.
    pub fn newest(run: &Path) -> Result<Option<Self>, CheckpointError> {
        list(run).pop().map(|(_, file)| Self::file(&file)).transpose()
    }

    /// The best network of a run directory; none before the first evaluation.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn best(run: &Path) -> Result<Option<Self>, CheckpointError> {
        let path = run.join(BEST);
        if path.is_file() { Self::file(&path).map(Some) } else { Ok(None) }
    }

    /// The last network of a finished run; none where no run was finished.
    ///
    /// # Errors
    /// If the file is damaged.
    pub(crate) fn last(run: &Path) -> Result<Option<Self>, CheckpointError> {
        let path = run.join(FINAL);
        if path.is_file() { Self::file(&path).map(Some) } else { Ok(None) }
    }

    fn file(path: &Path) -> Result<Self, CheckpointError> {
        let header = read_header(path)?;
        let Some(text) = header.get(KEY) else {
            return Err(CheckpointError::NoRecord { path: path.to_owned() });
        };
        let record =
            serde_json::from_str(text).map_err(|source| CheckpointError::Record { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), record })
    }

    /// The record's network, when the checkpoint is of `family`.
    ///
    /// # Errors
    /// If it is of another family, or the description is malformed.
    pub fn network<T: serde::de::DeserializeOwned>(&self, family: &str) -> Result<T, CheckpointError> {
        if self.record.family != family {
            let found = format!("the family `{}`", self.record.family);
            return Err(CheckpointError::Other { path: self.path.clone(), found, allowed: format!("`{family}`") });
        }
        serde_json::from_value(self.record.network.clone())
            .map_err(|source| CheckpointError::Record { path: self.path.clone(), source })
    }

    /// That the `saved` network is the one that is `wanted`; `name` is what the error calls one.
    ///
    /// # Errors
    /// [`CheckpointError::Other`] if it is not.
    pub fn agrees<T: PartialEq>(
        &self,
        saved: &T,
        wanted: &T,
        name: impl Fn(&T) -> String,
    ) -> Result<(), CheckpointError> {
        if saved == wanted {
            return Ok(());
        }
        Err(CheckpointError::Other { path: self.path.clone(), found: name(saved), allowed: name(wanted) })
    }

    /// The settings of the run that made it.
    ///
    /// # Errors
    /// If they are not those of this family and version.
    pub fn settings<T: serde::de::DeserializeOwned>(&self) -> Result<T, CheckpointError> {
        serde_json::from_value(self.record.config.clone())
            .map_err(|source| CheckpointError::Record { path: self.path.clone(), source })
    }

    /// The state saved beside the weights.
    ///
    /// # Errors
    /// If it is missing or was saved with other weights.
    pub fn state(&self) -> Result<Vec<u8>, CheckpointError> {
        let state = state_path(&self.path);
        let wrong = |problem: String| CheckpointError::State { path: self.path.clone(), state: state.clone(), problem };
        let Some(expected) = &self.record.state_sha256 else {
            return Err(wrong("was not saved: this file holds weights only".into()));
        };
        let read = |path: &Path| files::read_limited(path, files::LARGEST_ARRAY);
        let bytes = read(&state).map_err(|error| wrong(format!("cannot be read: {error}")));
        if let Some(bytes) = bytes.as_ref().ok().filter(|bytes| sha256(bytes) == *expected) {
            return Ok(bytes.clone());
        }
        // A crash while it was replaced.
        if let Some(bytes) = read(&aside_path(&self.path)).ok().filter(|bytes| sha256(bytes) == *expected) {
            return Ok(bytes);
        }
        let found = sha256(&bytes?);
        Err(wrong(format!("has SHA-256 {found}, the weights were saved with {expected}")))
    }

    /// Whether weights and state can be read, as they were saved.
    pub(crate) fn is_whole(&self) -> bool {
        StateDict::read(&self.path).is_ok() && self.state().is_ok()
    }

    /// SHA-256 of the weights file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn sha256(&self) -> Result<String, CheckpointError> {
        let (sha256, _) =
            files::sha256(&self.path).map_err(|source| WeightsError::Read { path: self.path.clone(), source })?;
        Ok(sha256)
    }
}

/// Writes weights only.
///
/// # Errors
/// If the file cannot be written; an older one is then untouched.
pub fn save_weights(path: &Path, weights: &StateDict, record: &Record) -> Result<(), CheckpointError> {
    Ok(files::write(path, serialised(weights, record))?)
}

/// A weights file with its record.
pub(crate) fn serialised(weights: &StateDict, record: &Record) -> Vec<u8> {
    let text = serde_json::to_string(record).expect("a record is plain data");
    weights.to_safetensors(record.steps, BTreeMap::from([(KEY.to_owned(), text)]))
}

/// Which checkpoints of whole epochs stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// This many of the newest.
    pub newest: usize,
    /// Those of every so many epochs; 0: none for this reason.
    pub every: usize,
}

impl Keep {
    /// Whether the checkpoint of `epoch` stays whatever comes after it.
    pub fn retains(self, epoch: usize) -> bool {
        self.every > 0 && epoch > 0 && epoch.is_multiple_of(self.every)
    }
}

/// Writes weights and state as the run's newest checkpoint. Then removes checkpoints within an epoch, which this one
/// supersedes, those of later epochs, which a run that resumed from an earlier one has left behind, and whole epochs
/// but those `kept`.
///
/// Both files are complete before either takes its name, and an earlier checkpoint of that name keeps its state until
/// its weights are replaced: after a crash or on a full disk the old checkpoint is whole, or the new one.
///
/// # Errors
/// If a file cannot be written; all older checkpoints are then untouched.
pub fn save(
    run: &Path,
    weights: &StateDict,
    state: &[u8],
    record: &Record,
    kept: Keep,
) -> Result<PathBuf, CheckpointError> {
    let step = if record.step > 0 { format!("_step_{}", record.step) } else { String::new() };
    let path = run.join(format!("checkpoint_epoch_{}{step}.safetensors", record.epoch));
    let record = Record { state_sha256: Some(sha256(state)), ..record.clone() };
    let bytes = serialised(weights, &record);
    let room = (bytes.len() + state.len()) as u64;
    replace(&path, &bytes, state).map_err(|source| {
        let whole = newest_whole(run, Path::new("")).map(|whole| whole.path);
        CheckpointError::Unsaved { path: path.clone(), room, whole: Whole(whole), source }
    })?;

    let this = (record.epoch, record.step);
    let (mut whole, others): (Vec<_>, Vec<_>) =
        list(run).into_iter().filter(|(at, _)| *at != this).partition(|(at, _)| at.1 == 0 && *at < this);
    whole.retain(|((epoch, _), _)| !kept.retains(*epoch));
    let others_kept = kept.newest.max(1).saturating_sub(usize::from(record.step == 0));
    whole.truncate(whole.len().saturating_sub(others_kept));
    for (_, old) in others.into_iter().chain(whole) {
        // Weights first: a state without weights is litter, weights without a state look like a damaged checkpoint.
        let _ = remove(&old).and_then(|()| remove(&state_path(&old)));
    }
    Ok(path)
}

/// Replaces a checkpoint's weights and state, in this order: the old state moves aside, the new state takes its place,
/// the new weights take theirs. [`Checkpoint::state`] looks aside.
fn replace(weights: &Path, bytes: &[u8], state: &[u8]) -> Result<(), files::WriteError> {
    let (place, aside) = (state_path(weights), aside_path(weights));
    let (staged_state, staged_weights) = (files::stage(&place, state)?, files::stage(weights, bytes)?);
    if weights.exists() && place.exists() {
        std::fs::rename(&place, &aside).map_err(|source| files::WriteError { path: aside.clone(), source })?;
    }
    staged_state.commit()?;
    staged_weights.commit()?;
    // Left over, it is litter.
    let _ = remove(&aside);
    Ok(())
}

/// Files of a run in its directory, whether they are there or not: every checkpoint, and the log that belongs to them.
pub(crate) fn files_of(run: &Path) -> impl Iterator<Item = PathBuf> {
    let checkpoints = list(run).into_iter().flat_map(|(_, file)| [state_path(&file), aside_path(&file), file]);
    checkpoints.chain([BEST, FINAL].map(|name| run.join(name))).chain(History::files(run))
}

/// Removes every checkpoint of a run directory, and the log that belongs to them.
///
/// # Errors
/// If a file cannot be removed.
pub(crate) fn remove_all(run: &Path) -> std::io::Result<()> {
    files_of(run).try_for_each(|file| remove(&file))
}

/// Removes a file that need not be there.
///
/// # Errors
/// If it is there and cannot be removed.
pub(crate) fn remove(file: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(file) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Err(error),
        _ => Ok(()),
    }
}

/// The newest checkpoint of a run directory that is whole, but for the file `damaged`.
pub(crate) fn newest_whole(run: &Path, damaged: &Path) -> Option<Checkpoint> {
    let others = list(run).into_iter().rev().filter(|(_, file)| file != damaged);
    others.filter_map(|(_, file)| Checkpoint::file(&file).ok()).find(Checkpoint::is_whole)
}

/// The file of the newest checkpoint of a run directory, damaged or not.
pub(crate) fn newest_path(run: &Path) -> Option<PathBuf> {
    list(run).pop().map(|(_, file)| file)
}

/// Resumable checkpoints of a run directory, oldest first, by (epoch, step).
fn list(run: &Path) -> Vec<((usize, usize), PathBuf)> {
    let Ok(entries) = std::fs::read_dir(run) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let stem = path.file_name()?.to_str()?.strip_prefix("checkpoint_epoch_")?.strip_suffix(".safetensors")?;
            let (epoch, step) = stem.split_once("_step_").unwrap_or((stem, "0"));
            Some(((epoch.parse().ok()?, step.parse().ok()?), path))
        })
        .collect();
    found.sort();
    found
}

fn state_path(weights: &Path) -> PathBuf {
    weights.with_extension("state")
}

/// Where the state of a checkpoint is while the checkpoint is replaced by one of the same name.
fn aside_path(weights: &Path) -> PathBuf {
    weights.with_extension("state.replaced")
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The free-form part of a safetensors header, without reading the tensors.
fn read_header(path: &Path) -> Result<BTreeMap<String, String>, CheckpointError> {
    use std::io::Read;
    /// The format's own limit.
    const MAX_HEADER: u64 = 100_000_000;
    let unreadable = |source| WeightsError::Read { path: path.to_owned(), source };
    let format = |reason: &str| WeightsError::Format { path: path.to_owned(), reason: reason.into() };
    let mut file = files::open_regular(path).map_err(unreadable)?;
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| format("it is shorter than a header"))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        // A zip or pickle read as a length is astronomically large: foreign weights, not a checkpoint of ours.
        return Err(CheckpointError::NoRecord { path: path.to_owned() });
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(unreadable)?;
    if header.len() as u64 != length {
        return Err(format("its header is truncated").into());
    }
    // The tensors are stepped over: as values they would take many times their text.
    #[derive(serde::Deserialize)]
    struct Header {
        #[serde(default, rename = "__metadata__")]
        metadata: BTreeMap<String, String>,
    }
    let header: Header =
        serde_json::from_slice(&header).map_err(|_| format("its header is not JSON, or its metadata no texts"))?;
    Ok(header.metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_published_without_paths() {
        let table = [
            ("train reid --datadir /home/anna/Market-1501/ --lr 1e-3", "train reid --datadir …/Market-1501 --lr 1e-3"),
            ("/opt/vitrine/train reid --save=/srv/runs/a", "…/train reid --save=…/a"),
            ("train reid --datadir '/home/anna/my sets/duke'", "train reid --datadir …/duke"),
            ("train reid --datadir '/home/anna/my sets'", "train reid --datadir '…/my sets'"),
            ("train reid --datadir ~/sets/duke", "train reid --datadir …/duke"),
            ("train reid --datadir 'C:\\Users\\anna\\set'", "train reid --datadir C:…/set"),
            (
                "train reid --datadir sets/duke --from https://example.org/a",
                "train reid --datadir sets/duke --from https://example.org/a",
            ),
        ];
        for (command, published) in table {
            assert_eq!(Record { command: command.into(), ..Record::default() }.published_command(), published);
        }
    }
}
