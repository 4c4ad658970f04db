//! What every run shares, whatever its family: settings, directory, resuming, `run.json`, the last line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use burn::tensor::Device;
use serde::Serialize;
use serde_json::{Value, json};

use crate::device;
use crate::run::amp;
use crate::run::checkpoint::{self, Checkpoint, Record};
use crate::run::engine::Outcome;
use crate::run::flags::RunArgs;
use crate::run::history::History;
use crate::run::settings::{Settings, resolve};

/// A run as the flags ask for it; nothing has been written yet.
pub struct Run<S> {
    /// Settings.
    pub config: S,
    /// Where its files go.
    pub dir: PathBuf,
    /// The checkpoint it continues.
    pub resumed: Option<Checkpoint>,
    /// Where it computes, without autodiff.
    pub device: Device,
}

impl<S: Settings> Run<S> {
    /// Settles settings and directory; none where only the settings were asked for, which then are printed. `place`
    /// is where a run of these settings lies without `--save-dir`; `runs` is where `--resume` looks for a run by its
    /// name.
    pub fn prepare(
        args: &RunArgs,
        flags: &impl Serialize,
        runs: &Path,
        place: impl FnOnce(&S) -> PathBuf,
    ) -> anyhow::Result<Option<Self>> {
        if args.overwrite && args.resume.is_some() && args.save_dir.is_none() {
            bail!(
                "--overwrite would delete what --resume continues; give one of them, or another directory with --save-dir"
            );
        }
        let resumed = args.resume.as_deref().map(|named| find(named, runs)).transpose()?;
        let base = resumed.as_ref().map(|(_, checkpoint)| &checkpoint.record.config);
        let (config, origins) = resolve::<S>(flags, args.config.as_deref(), base)?;
        if args.print_config {
            for (key, value) in crate::run::settings::fields(&config) {
                let value = value.to_string();
                terminal::show!("{key:<24} {value:<32} {}", origins[&key].as_str().unwrap_or_default())?;
            }
            return Ok(None);
        }
        let device = device::open(args.device)?;
        let (dir, continued) = match (&args.save_dir, &resumed) {
            (Some(dir), resumed) => (dir.clone(), resumed.as_ref().is_some_and(|(run, _)| same(run, dir))),
            (None, Some((dir, _))) => (dir.clone(), true),
            (None, None) => (place(&config), false),
        };
        if continued && args.overwrite {
            bail!("--overwrite would delete `{}`, which --resume continues; give one of them", dir.display());
        }
        if !continued && !args.overwrite && dir.join("run.json").exists() {
            bail!(
                "`{}` already holds a run: continue it with --resume, replace it with --overwrite, or choose another directory",
                dir.display()
            );
        }
        Ok(Some(Self { config, dir, resumed: resumed.map(|(_, checkpoint)| checkpoint), device }))
    }

    /// Makes the run directory this run's own and writes `run.json`. From here on what was there is gone, unless it
    /// is continued; a run that continues in another directory takes the history along.
    pub fn begin(&self, record: &Record, seed: u64) -> anyhow::Result<()> {
        let from = self.resumed.as_ref().and_then(|checkpoint| checkpoint.path.parent());
        let moves = from.filter(|from| !same(from, &self.dir));
        if self.resumed.is_none() || moves.is_some() {
            checkpoint::remove_all(&self.dir).with_context(|| format!("cannot clear `{}`", self.dir.display()))?;
        }
        if let (Some(from), Some(checkpoint)) = (moves, &self.resumed) {
            // A best network of epochs after the checkpoint does not belong to what continues.
            let best = Checkpoint::best(from)?.filter(|best| best.record.epoch <= checkpoint.record.epoch);
            let histories = [History::FILE, History::RECORDS].map(|name| from.join(name));
            for path in histories.into_iter().chain(best.map(|best| best.path)) {
                let (true, Some(name)) = (path.is_file(), path.file_name()) else { continue };
                let bytes = std::fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
                files::write(&self.dir.join(name), bytes)?;
            }
        }
        let asked = record.config.get("use_amp").and_then(serde_json::Value::as_bool).unwrap_or_default();
        let precision = amp::describe(asked, &self.device);
        if asked {
            terminal::tell!("computing in {precision}");
        }
        let run = json!({
            "command": record.command,
            "config": record.config,
            "network": record.network,
            "seed": seed,
            "device": device::name(&self.device),
            "precision": precision,
            "dataset": record.dataset,
            "dataset_fingerprint": record.dataset_fingerprint,
            "resumed_from": self.resumed.as_ref().map(|checkpoint| checkpoint.path.display().to_string()),
            "versions": { "vitrine": env!("CARGO_PKG_VERSION"), "burn": crate::BURN_VERSION },
        });
        Ok(files::write(&self.dir.join("run.json"), serde_json::to_string_pretty(&run)?)?)
    }

    /// Says how the run ended: its directory on stdout, the best value of the metric that decides, or how to continue.
    ///
    /// # Errors
    /// If stdout does not take it; the run is saved all the same.
    pub fn end(&self, outcome: Outcome, family: &str, metric: &str) -> anyhow::Result<ExitCode> {
        match outcome {
            Outcome::Finished { best } => {
                let best = best.map(|(value, epoch)| format!(", best {metric} {value:.4} after epoch {epoch}"));
                terminal::show!("{}{}", self.dir.display(), best.unwrap_or_default())?;
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Interrupted { checkpoint } => {
                let dir = self.dir.display();
                terminal::tell!("saved {}; continue with `train {family} --resume {dir}`", checkpoint.display());
                // What a shell expects of a program that Ctrl-C ended.
                Ok(ExitCode::from(130))
            }
        }
    }
}

/// Says where a run goes on that makes `new` records, and warns of data it did not begin with and of epochs that are
/// all done.
pub fn continues(checkpoint: &Checkpoint, new: &Record, epochs: usize) {
    let Record { epoch, step, dataset_fingerprint, .. } = &checkpoint.record;
    if *dataset_fingerprint != new.dataset_fingerprint {
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

/// A record of a run that begins now.
pub fn record(family: &str, network: &impl Serialize, config: &impl Serialize) -> anyhow::Result<Record> {
    Ok(Record {
        family: family.into(),
        network: serde_json::to_value(network)?,
        config: serde_json::to_value(config)?,
        command: command_line(),
        ..Record::default()
    })
}

/// The run directory and newest checkpoint that `--resume` names: a path, or the name of a run below `runs`. A
/// PyTorch file name of a checkpoint that was never written by PyTorch is ours of the same name.
fn find(named: &Path, runs: &Path) -> anyhow::Result<(PathBuf, Checkpoint)> {
    let ours = named.with_extension("safetensors");
    let run = match named {
        _ if named.exists() => named.to_owned(),
        _ if named.extension().is_some_and(|kind| kind == "pth" || kind == "pt") && ours.is_file() => ours,
        _ => runs.join(named),
    };
    if run.is_file() {
        let dir = run.parent().map(Path::to_owned).unwrap_or_default();
        return Ok((dir, Checkpoint::open(&run)?));
    }
    match Checkpoint::newest(&run)? {
        Some(checkpoint) => Ok((run, checkpoint)),
        None if run == named => bail!("no checkpoint to resume in `{}`", named.display()),
        None => bail!("no run to resume at `{}` nor at `{}`", named.display(), run.display()),
    }
}

/// Whether two paths are the same folder, which need not exist.
pub fn same(a: &Path, b: &Path) -> bool {
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
