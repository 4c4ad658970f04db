//! The run directory: which checkpoint `--resume` names, what a directory holds, what a continued run takes along.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::run::checkpoint::{self, Checkpoint, Record};
use crate::run::engine;
use crate::run::history::History;

/// File of a run's facts.
pub(crate) const FACTS: &str = "run.json";

/// What `run.json` tells a run that continues.
#[derive(Debug, Deserialize)]
pub(crate) struct Facts {
    /// Working directory when the run was started.
    pub folder: PathBuf,
}

impl Facts {
    /// Reads a run directory's facts; `None` without the file, or if an earlier version wrote it.
    pub fn read(run: &Path) -> Option<Self> {
        const MOST: u64 = 1 << 20;
        let text = files::read_text_limited(&run.join(FACTS), MOST).ok()?;
        serde_json::from_str(&text).ok()
    }
}

/// The checkpoint that a run continues.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Its directory.
    pub dir: PathBuf,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// What the user called it.
    pub named: PathBuf,
    /// It was made from another program's checkpoint.
    pub adopted: bool,
}

impl Source {
    /// The file that the run continues.
    pub fn path(&self) -> &Path {
        if self.adopted { &self.named } else { &self.checkpoint.path }
    }
}

/// The checkpoint that `--resume` names: a file, a run directory (its newest checkpoint), or the name of a run below
/// `runs`. A PyTorch file name of a checkpoint that was never written by PyTorch is ours of the same name.
pub(crate) fn find(named: &Path, runs: &Path) -> anyhow::Result<Source> {
    let source = |dir: &Path, checkpoint: Checkpoint| {
        let (dir, named) = (dir.to_owned(), named.to_owned());
        Source { dir, checkpoint, named, adopted: false }
    };
    let ours = named.with_extension("safetensors");
    let is_pytorch = named.extension().is_some_and(|kind| kind == "pth" || kind == "pt");
    let file = if is_pytorch && !named.exists() { ours } else { named.to_owned() };
    if file.is_file() {
        let dir = file.parent().map(Path::to_owned).unwrap_or_default();
        return Ok(source(&dir, Checkpoint::open(&file)?));
    }
    // A folder here may have the name of a run by chance.
    let below = runs.join(named);
    let mut looked = vec![named.to_owned()];
    looked.extend((below != named).then_some(below));
    for dir in &looked {
        match Checkpoint::newest(dir) {
            Ok(Some(checkpoint)) => return Ok(source(dir, checkpoint)),
            Ok(None) => {}
            Err(error) => {
                let damaged = checkpoint::newest_path(dir).unwrap_or_else(|| dir.clone());
                return Err(with_whole(error.into(), dir, &damaged));
            }
        }
    }
    if let Some(begun) = looked.iter().find(|dir| dir.join(FACTS).is_file()) {
        bail!(
            "the run in `{}` stopped before its first checkpoint: start it again with --overwrite instead of --resume",
            begun.display()
        );
    }
    let places: Vec<String> = looked.iter().map(|place| format!("`{}`", place.display())).collect();
    bail!("no run to resume at {}", places.join(" nor at "))
}

/// The error, with the newest other checkpoint of the run that is whole.
pub(crate) fn with_whole_one(error: anyhow::Error, checkpoint: &Checkpoint) -> anyhow::Error {
    let dir = checkpoint.path.parent().map(Path::to_owned).unwrap_or_default();
    with_whole(error, &dir, &checkpoint.path)
}

fn with_whole(error: anyhow::Error, dir: &Path, damaged: &Path) -> anyhow::Error {
    match checkpoint::newest_whole(dir, damaged) {
        Some(whole) => {
            let way = format!("cannot continue; `{}` is whole: --resume that", whole.path.display());
            error.context(way)
        }
        None => error,
    }
}

/// What to do when a network has diverged.
pub(crate) fn after_divergence(dir: &Path) -> String {
    match checkpoint::newest_whole(dir, Path::new("")) {
        Some(whole) => {
            format!("training has diverged; lower --lr, and continue with --resume {}", whole.path.display())
        }
        None => "training has diverged before the first checkpoint; start again with a lower --lr".to_owned(),
    }
}

/// Lets a run that was started elsewhere find its data: a relative folder is the one where the run was started, if
/// there is one, though another of its name is here. Returns that place if it is not here.
pub(crate) fn follow(folder: &mut String, run: &Path) -> Option<PathBuf> {
    let path = Path::new(folder.as_str());
    if path.is_absolute() {
        return None;
    }
    let started = Facts::read(run)?.folder;
    let data = started.join(path);
    if !data.exists() || same(&data, path) {
        return None;
    }
    terminal::note(&format!("data in `{}`, relative to where the run was started", data.display()));
    *folder = data.display().to_string();
    Some(started)
}

/// [`follow`] of the settings of a checkpoint that is evaluated.
pub(crate) fn follow_of(folder: &mut String, checkpoint: &Checkpoint) {
    let _ = follow(folder, checkpoint.path.parent().unwrap_or(Path::new("")));
}

/// A file of a run in a directory, which a new run there would delete or replace.
pub(crate) fn occupied(dir: &Path) -> Option<PathBuf> {
    std::iter::once(dir.join(FACTS)).chain(checkpoint::files_of(dir)).find(|file| file.exists())
}

/// The files of a run's log that a run takes along which continues it in another directory.
pub(crate) fn history_of(dir: &Path) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let mut taken = Vec::new();
    for name in [History::FILE, History::RECORDS] {
        let path = dir.join(name);
        if path.is_file() {
            let bytes = files::read_limited(&path, files::LARGEST_TABLE);
            taken.push((name, bytes.with_context(|| format!("cannot read `{}`", path.display()))?));
        }
    }
    Ok(taken)
}

/// The best network of a run that continues at a checkpoint.
pub(crate) enum Best {
    /// The file that is in the checkpoint's directory.
    File(Checkpoint, Vec<u8>),
    /// The checkpoint itself: the file is of a later one, of a future that is given up.
    Itself(Record, Vec<u8>),
    /// None yet.
    None,
}

/// The best network up to the checkpoint, counted in batches: an evaluation right behind it is of the same weights.
pub(crate) fn best_of(source: &Source) -> anyhow::Result<Best> {
    let read = |path: &Path| {
        files::read_limited(path, files::LARGEST_ARRAY).with_context(|| format!("cannot read `{}`", path.display()))
    };
    let record = &source.checkpoint.record;
    if !source.adopted
        && let Some(best) = Checkpoint::best(&source.dir)?
        && best.record.steps <= record.steps
    {
        let bytes = read(&best.path)?;
        return Ok(Best::File(best, bytes));
    }
    if record.step == 0 && record.best.is_some_and(|(_, epoch)| epoch == record.epoch) {
        let bytes = match engine::averaged(&source.checkpoint)? {
            Some(weights) => checkpoint::serialised(&weights, record),
            None => read(&source.checkpoint.path)?,
        };
        return Ok(Best::Itself(record.clone(), bytes));
    }
    Ok(Best::None)
}

impl Best {
    /// Puts it into the run directory `dir`, where the run goes on `in_place` or begins. Returns its value and epoch.
    pub fn put(self, dir: &Path, in_place: bool) -> anyhow::Result<Option<(f64, usize)>> {
        let path = dir.join(checkpoint::BEST);
        match self {
            Self::File(best, bytes) => {
                if !in_place {
                    files::write(&path, bytes)?;
                }
                Ok(best.record.best)
            }
            Self::Itself(record, bytes) => {
                files::write(&path, bytes)?;
                Ok(record.best)
            }
            Self::None => {
                checkpoint::remove(&path).with_context(|| format!("cannot remove `{}`", path.display()))?;
                Ok(None)
            }
        }
    }
}

/// Says where a run goes on that makes `new` records, and warns of data it did not begin with and of epochs that are
/// all done.
pub(crate) fn say_continues(checkpoint: &Checkpoint, new: &Record, epochs: usize) {
    let Record { epoch, step, dataset_fingerprint, .. } = &checkpoint.record;
    if !dataset_fingerprint.is_empty() && *dataset_fingerprint != new.dataset_fingerprint {
        terminal::tell!("warning: the dataset `{}` is not the one this run began with", new.dataset);
    }
    let within = if *step > 0 { format!(" and {step} batches") } else { String::new() };
    terminal::tell!("continuing {} after epoch {epoch}{within}", checkpoint.path.display());
    let changed = changed(&checkpoint.record.config, &new.config);
    if !changed.is_empty() {
        terminal::note(&format!(
            "new from here on: {}; weights, the optimiser's state, finished epochs and history are kept",
            changed.join(", ")
        ));
    }
    if *epoch >= epochs {
        terminal::tell!("warning: {epoch} epochs are done and --epochs is {epochs}: nothing is left to train");
    }
}

/// Settings whose values are not those of the checkpoint.
fn changed(old: &Value, new: &Value) -> Vec<String> {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return Vec::new() };
    let differ = new.iter().filter_map(|(key, value)| {
        let before = old.get(key).filter(|before| *before != value)?;
        Some(format!("{key} {value} (was {before})"))
    });
    differ.collect()
}

/// A record of a network that has not trained yet.
pub(crate) fn record(family: &str, network: &impl Serialize, config: &impl Serialize) -> anyhow::Result<Record> {
    Ok(Record {
        family: family.into(),
        network: serde_json::to_value(network)?,
        config: serde_json::to_value(config)?,
        command: command_line(),
        ..Record::default()
    })
}

/// Whether two paths are the same folder, which need not exist.
pub(crate) fn same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or(path.into());
    whole(a) == whole(b)
}

/// How this program was called, for a shell to do it again.
pub(crate) fn command_line() -> String {
    quoted(std::env::args_os())
}

/// Words of a command line as a shell takes them.
fn quoted(words: impl Iterator<Item = OsString>) -> String {
    let words: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
    // No word of a command line holds a NUL, the one thing that no quotes help.
    shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_that_a_resumed_run_changes_are_told() {
        let (old, new) = (json!({"lr": 0.1, "loss": "a", "gone": 1}), json!({"lr": 0.2, "loss": "a", "fresh": 2}));
        assert_eq!(changed(&old, &new), ["lr 0.2 (was 0.1)"]);
    }

    #[test]
    fn the_recorded_command_can_be_run_again() {
        let words = ["train", "reid", "--datadir", "my data", "--save", "it's", "--loss", "0.5*Triplet+1*MSLoss"];
        let line = quoted(words.iter().map(OsString::from));
        assert_eq!(shlex::split(&line).unwrap(), words);
        assert_eq!(quoted(["train", "eval", "runs/a"].into_iter().map(OsString::from)), "train eval runs/a");
        #[cfg(unix)]
        {
            use std::os::unix::ffi::OsStringExt;
            let line = quoted([OsString::from_vec(b"x\xff".to_vec())].into_iter());
            assert_eq!(shlex::split(&line).unwrap(), ["x\u{fffd}"], "no panic");
        }
    }
}
