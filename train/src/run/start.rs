//! The one way to start a run, whatever it trains: [`Plan::resolve`] → [`Plan::validate`] → [`Start::claim`] →
//! [`Claimed::train`].
//!
//! Everything that can be refused is refused before [`Start::claim`], which is the only code that deletes: settings,
//! data, weights, the optimiser's and the task's state, the history, and whether another process has the directory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use burn::tensor::Device;
use contract::trained::TrainedOn;
use files::lock::Lock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::device;
use crate::run::amp;
use crate::run::checkpoint::{self, Checkpoint, CheckpointError, Record};
use crate::run::directory::{self, FACTS, Source};
use crate::run::engine::{self, Better, Decisive, Outcome, Resume, Task, TrainError};
use crate::run::epoch::EpochRecord;
use crate::run::flags::RunArgs;
use crate::run::history::History;
use crate::run::settings::{self, Layers, Settings};

/// What is special to the runs of one family.
pub(crate) trait Family {
    /// Settings; every flag of the command is one of their fields.
    type Config: Settings;
    /// Data, network and loss.
    type Task: Task;
    /// What fixes the network's parameters.
    type Network: Serialize + DeserializeOwned + PartialEq;

    /// Family in checkpoints.
    const FAMILY: &'static str;
    /// Words between `train` and `--resume` that continue a run.
    const VERB: &'static str;
    /// The metric that decides, in messages.
    const METRIC: &'static str;
    /// Folder below which `--resume` looks for a run by its name.
    const RUNS: &'static str;
    /// The flag that starts a new run from the weights of another, where there is one.
    const WEIGHTS: Option<&'static str> = Some("--pre-train");

    /// The run directory of these settings without `--save-dir`.
    fn place(config: &Self::Config) -> PathBuf;

    /// The folder of the data, for a run that is continued from another working directory.
    fn data_folder(config: &mut Self::Config) -> &mut String;

    /// Seed of the run.
    fn seed(config: &Self::Config) -> u64;

    /// Takes over a checkpoint that is not of Vitrine; none where the family knows no other.
    ///
    /// # Errors
    /// If it cannot be read.
    fn adopt(&self, path: &Path) -> anyhow::Result<Option<Adopted>> {
        let _ = path;
        Ok(None)
    }

    /// Opens the data and makes the network with the weights that it starts from. Writes nothing.
    ///
    /// # Errors
    /// Whatever makes it impossible to train.
    fn open(&self, plan: &Plan<Self>, device: &Device) -> anyhow::Result<Opened<Self>>
    where
        Self: Sized;

    /// What a run does after its last epoch.
    ///
    /// # Errors
    /// If results cannot be computed or written.
    fn finish(&self, run: &Finished<'_, Self>) -> anyhow::Result<()>
    where
        Self: Sized,
    {
        let _ = run;
        Ok(())
    }
}

/// What another program's checkpoint brings along.
pub(crate) struct Adopted {
    /// Weights and record, as a checkpoint of ours; they are in a temporary folder.
    pub checkpoint: Checkpoint,
    /// Keeps that folder.
    pub folder: files::TemporaryFolder,
    /// Epochs that the other program trained.
    pub history: Vec<EpochRecord>,
}

/// What a family opens for a run.
pub(crate) struct Opened<F: Family> {
    /// The settings, with what the data decide.
    pub config: F::Config,
    /// Data and loss.
    pub task: F::Task,
    /// The network, on the autodiff device.
    pub net: <F::Task as Task>::Net,
    /// What fixes its parameters.
    pub network: F::Network,
    /// The data's name and fingerprint.
    pub dataset: (String, String),
    /// The people trained on, for families that recognise people.
    pub people: Option<TrainedOn>,
    /// What the loop needs.
    pub settings: engine::Settings,
    /// Only the weights come from the checkpoint: optimiser, log and epochs start afresh.
    pub anew: bool,
}

/// A run as the command line asks for it.
pub(crate) struct Plan<F: Family> {
    /// Settings.
    pub config: F::Config,
    /// Where its files go.
    pub dir: PathBuf,
    /// The checkpoint it continues.
    pub source: Option<Source>,
    /// Resumable checkpoints to keep.
    pub keep: usize,
    device: Device,
    overwrite: bool,
    /// Where the run was started, if not here.
    started: Option<PathBuf>,
    history: Vec<EpochRecord>,
    _folder: Option<files::TemporaryFolder>,
}

impl<F: Family> Plan<F> {
    /// Settings and directory; none where only the settings were asked for, which are then printed.
    ///
    /// # Errors
    /// Settings that are wrong, a run to continue that is not there, a directory that holds another.
    pub fn resolve(family: &F, args: &RunArgs, flags: &impl Serialize) -> anyhow::Result<Option<Self>> {
        Self::resolve_from(family, args, flags, None, &[])
    }

    /// [`Self::resolve`] with other settings than the defaults below file and flags, for a run that continues none.
    /// Settings that are `shared` are for other runs of the command, too, and may be without effect on this one.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_from(
        family: &F,
        args: &RunArgs,
        flags: &impl Serialize,
        defaults: Option<&Value>,
        shared: &[&str],
    ) -> anyhow::Result<Option<Self>> {
        if args.overwrite && args.resume.is_some() && args.save_dir.is_none() {
            bail!(
                "--overwrite would delete what --resume continues; give one of them, or another directory with \
                 --save-dir"
            );
        }
        let (mut source, mut history, mut folder) = (None, Vec::new(), None);
        if let Some(named) = &args.resume {
            match directory::find(named, Path::new(F::RUNS)) {
                Ok(found) => source = Some(found),
                Err(error) => {
                    let foreign = matches!(error.downcast_ref(), Some(CheckpointError::NoRecord { .. }));
                    let adopted = if foreign { family.adopt(named)? } else { None };
                    let Some(Adopted { checkpoint, folder: kept, history: earlier }) = adopted else {
                        return Err(error);
                    };
                    let dir = named.parent().map(Path::to_owned).unwrap_or_default();
                    source = Some(Source { dir, checkpoint, named: named.clone(), adopted: true });
                    (history, folder) = (earlier, Some(kept));
                }
            }
        }
        let base = source.as_ref().map(|source| &source.checkpoint.record.config).or(defaults);
        let layers = Layers { base, shared, ..Layers::of(args) };
        let (mut config, origins) = settings::resolve::<F::Config>(flags, layers)?;
        if args.print_config {
            for (key, value) in settings::fields(&config) {
                let value = value.to_string();
                terminal::show!("{key:<24} {value:<32} {}", origins[&key].as_str().unwrap_or_default())?;
            }
            return Ok(None);
        }
        // The setting is called as in each family's reference script. Nobody asked for the default, so it gets no note.
        let fields = settings::fields(&config);
        let asked =
            ["n_thread", "num_workers"].into_iter().find(|name| origins.get(*name).is_some_and(|at| at != "default"));
        let threads = asked.and_then(|name| fields.get(name)?.as_u64());
        terminal::note_threads(threads.map_or(0, |threads| threads as usize));
        // A folder of this command is relative to here, one of the checkpoint to where the run was started.
        let is_saved = |name: &&str| origins.get(*name).is_some_and(|at| at == settings::CHECKPOINT);
        let saved = source.as_ref().filter(|_| ["datadir", "data_dir"].iter().any(is_saved));
        // Older checkpoints of the run name their data relative to this place.
        let started = saved.and_then(|source| directory::follow(F::data_folder(&mut config), &source.dir));
        let device = device::open(args.device)?;
        let dir = match (&args.save_dir, &source) {
            (Some(dir), _) => dir.clone(),
            (None, Some(source)) => source.dir.clone(),
            (None, None) => F::place(&config),
        };
        let plan = Self {
            config,
            dir,
            source,
            keep: args.keep_checkpoints,
            device,
            overwrite: args.overwrite,
            started,
            history,
            _folder: folder,
        };
        if plan.continues_in_place() && args.overwrite {
            let dir = plan.dir.display();
            bail!("--overwrite would delete `{dir}`, which --resume continues; give one of them");
        }
        Ok(Some(plan))
    }

    /// A run of `config` in `dir` that goes on where a run of the same settings there stopped, and begins where there
    /// is none.
    ///
    /// # Errors
    /// If the newest checkpoint there is damaged.
    pub fn in_directory(config: F::Config, dir: PathBuf, device: Device, overwrite: bool) -> anyhow::Result<Self> {
        let source = match Checkpoint::newest(&dir)? {
            Some(checkpoint) if !overwrite && checkpoint.record.config == serde_json::to_value(&config)? => {
                Some(Source { dir: dir.clone(), checkpoint, named: dir.clone(), adopted: false })
            }
            _ => None,
        };
        let (started, history) = (None, Vec::new());
        Ok(Self { config, dir, source, keep: 1, device, overwrite, started, history, _folder: None })
    }

    /// Whether the run directory holds the end of a run with these very settings.
    pub fn is_finished(&self) -> bool {
        let last = Checkpoint::last(&self.dir).ok().flatten();
        !self.overwrite && last.is_some_and(|last| Value::Object(settings::fields(&self.config)) == last.record.config)
    }

    /// The checkpoint that this run continues.
    pub fn checkpoint(&self) -> Option<&Checkpoint> {
        self.source.as_ref().map(|source| &source.checkpoint)
    }

    /// Whether the run goes on in the directory of its checkpoint.
    pub fn continues_in_place(&self) -> bool {
        self.source.as_ref().is_some_and(|source| !source.adopted && directory::same(&source.dir, &self.dir))
    }

    /// The directory's lock, where there is a directory, and that it holds nothing that would be lost.
    fn reserve(&self) -> anyhow::Result<Option<Lock>> {
        let lock = if self.dir.is_dir() { Some(Lock::take(&self.dir)?) } else { None };
        if !self.continues_in_place()
            && !self.overwrite
            && let Some(found) = directory::occupied(&self.dir)
        {
            bail!(
                "`{}` already holds a run (`{}`): continue it with --resume, replace it with --overwrite, or choose \
                 another directory with --save-dir",
                self.dir.display(),
                found.display()
            );
        }
        Ok(lock)
    }

    /// Reads and fits everything that the run needs. Writes and deletes nothing.
    ///
    /// # Errors
    /// Whatever would end the run before its first step.
    pub fn validate(self, family: &F) -> anyhow::Result<Start<F>> {
        let lock = self.reserve()?;
        let opened = self.open(family);
        let (opened, resume) = match (opened, self.checkpoint()) {
            (Err(error), Some(checkpoint)) => return Err(with_way_out::<F>(error, checkpoint)),
            (opened, _) => opened?,
        };
        let record = Record {
            family: F::FAMILY.into(),
            network: serde_json::to_value(&opened.network)?,
            config: serde_json::to_value(&opened.config)?,
            command: directory::command_line(),
            people: opened.people.clone(),
            queries: opened.task.queries(),
            ..Record::default()
        }
        .on(&opened.dataset.0, &opened.dataset.1);
        if let Some(checkpoint) = self.checkpoint().filter(|_| !opened.anew) {
            directory::say_continues(checkpoint, &record, opened.settings.epochs);
        }
        Ok(Start { plan: self, lock, opened, record, resume })
    }

    fn open(&self, family: &F) -> anyhow::Result<(Opened<F>, Option<ResumeOf<F>>)> {
        let mut opened = family.open(self, &self.device.clone().autodiff())?;
        let Some(source) = self.source.as_ref().filter(|_| !opened.anew) else { return Ok((opened, None)) };
        // The log of the checkpoint's directory, which a run in a new directory takes along.
        if !source.adopted {
            History::open(&source.dir, opened.task.log(), opened.settings.log_dir.as_deref())?;
        }
        let resume = Resume::read(&source.checkpoint, &mut opened.task, &opened.net, &opened.settings)?;
        Ok((opened, Some(resume)))
    }
}

/// What to do where a checkpoint cannot be continued: another checkpoint, or a new run from its weights.
fn with_way_out<F: Family>(error: anyhow::Error, checkpoint: &Checkpoint) -> anyhow::Error {
    if !checkpoint.is_whole() {
        return directory::with_whole_one(error, checkpoint);
    }
    let other = matches!(error.downcast_ref(), Some(CheckpointError::Other { .. }))
        || matches!(error.downcast_ref(), Some(TrainError::Optimizer(_) | TrainError::Average { .. }));
    match F::WEIGHTS.filter(|_| other) {
        Some(flag) => error.context(format!(
            "the run cannot go on with these settings; without --resume, {flag} {} starts a new one from its weights",
            checkpoint.path.display()
        )),
        None => error,
    }
}

/// Where a run of a family continues.
type ResumeOf<F> = Resume<<<F as Family>::Task as Task>::Net>;

/// A run that can begin.
pub(crate) struct Start<F: Family> {
    plan: Plan<F>,
    lock: Option<Lock>,
    opened: Opened<F>,
    record: Record,
    resume: Option<ResumeOf<F>>,
}

impl<F: Family> Start<F> {
    /// Makes the run directory this run's own and writes its facts. What was there is gone from here on, unless it is
    /// continued; a run that continues in another directory takes the history and the best network along.
    ///
    /// # Errors
    /// If another process has taken the directory, or it cannot be written.
    pub fn claim(self) -> anyhow::Result<Claimed<F>> {
        let Self { plan, lock, opened, record, mut resume } = self;
        let dir = plan.dir.as_path();
        let lock = match lock {
            Some(lock) => lock,
            None => {
                let unwritable = || format!("cannot make the run directory `{}`", dir.display());
                files::make_folder(dir).with_context(unwritable)?;
                let lock = Lock::take(dir)?;
                // Another run may have begun and ended here since this one looked.
                if let (false, Some(found)) = (plan.overwrite, directory::occupied(dir)) {
                    bail!("`{}` has become another run's meanwhile (`{}`)", dir.display(), found.display());
                }
                lock
            }
        };
        files::sweep(dir);
        let source = plan.source.as_ref().filter(|_| !opened.anew);
        let in_place = source.is_some() && plan.continues_in_place();
        let best = source.map(directory::best_of).transpose()?;
        if !in_place {
            // Read before anything is deleted: the run may continue a file of this directory.
            let taken = source.map_or(Ok(Vec::new()), |source| directory::history_of(&source.dir))?;
            checkpoint::remove_all(dir).with_context(|| format!("cannot clear `{}`", dir.display()))?;
            for (name, bytes) in taken {
                files::write(&dir.join(name), bytes)?;
            }
        }
        if let (Some(best), Some(resume)) = (best, &mut resume) {
            resume.best = best.put(dir, in_place)?;
        }
        if !plan.history.is_empty() && source.is_some() {
            let mut history = History::open(dir, opened.task.log(), opened.settings.log_dir.as_deref())?;
            plan.history.iter().cloned().try_for_each(|record| history.push(record))?;
            history.save()?;
        }
        write_facts(&plan, &record, source)?;
        Ok(Claimed { plan, opened, record, resume, _lock: lock })
    }
}

/// Writes `run.json`.
fn write_facts<F: Family>(plan: &Plan<F>, record: &Record, source: Option<&Source>) -> anyhow::Result<()> {
    let asked = record.config.get("use_amp").and_then(Value::as_bool).unwrap_or_default();
    let precision = amp::describe(asked, &plan.device);
    if asked {
        terminal::tell!("computing in {precision}");
    }
    let facts = json!({
        "command": record.command,
        "folder": plan.started.clone().or_else(|| std::env::current_dir().ok()),
        "config": record.config,
        "network": record.network,
        "seed": F::seed(&plan.config),
        "device": device::name(&plan.device),
        "precision": precision,
        "dataset": record.dataset,
        "dataset_fingerprint": record.dataset_fingerprint,
        "queries": record.queries,
        "resumed_from": source.map(Source::path),
        "versions": { "vitrine": env!("CARGO_PKG_VERSION"), "burn": crate::BURN_VERSION },
    });
    Ok(files::write(&plan.dir.join(FACTS), serde_json::to_string_pretty(&facts)?)?)
}

/// A run whose directory is its own.
pub(crate) struct Claimed<F: Family> {
    plan: Plan<F>,
    opened: Opened<F>,
    record: Record,
    resume: Option<ResumeOf<F>>,
    /// Held until the run ends.
    _lock: Lock,
}

/// A run after its last epoch.
pub(crate) struct Finished<'a, F: Family> {
    /// Settings.
    pub config: &'a F::Config,
    /// The run directory.
    pub dir: &'a Path,
    /// Data and loss.
    pub task: &'a F::Task,
    /// What fixes the network's parameters.
    pub network: &'a F::Network,
    /// What the loop needed.
    pub settings: &'a engine::Settings,
    /// The last network, on the autodiff device.
    pub last: <F::Task as Task>::Net,
    /// Where the network trained.
    pub device: Device,
}

impl<F: Family> Claimed<F> {
    /// Trains to the end, or until the user stops it.
    ///
    /// # Errors
    /// See [`engine::TrainError`]; checkpoints that were saved before stay.
    pub fn train(self, family: &F) -> anyhow::Result<Outcome> {
        let Self { plan, opened, record, resume, _lock } = self;
        let Opened { config, mut task, net, network, settings, .. } = opened;
        let stop = engine::watch_interrupts();
        let (last, outcome) =
            engine::train(&mut task, net, &settings, &plan.dir, record, resume, stop).map_err(|error| {
                let diverged = error.is_divergence();
                let error = anyhow::Error::from(error);
                if diverged { error.context(directory::after_divergence(&plan.dir)) } else { error }
            })?;
        if let Outcome::Finished { .. } = outcome {
            let device = plan.device.clone().autodiff();
            let (config, dir) = (&config, plan.dir.as_path());
            family.finish(&Finished {
                config,
                dir,
                task: &task,
                network: &network,
                settings: &settings,
                last,
                device,
            })?;
        }
        Ok(outcome)
    }
}

/// Warns of a run whose best network is no better than the one it started from, by the metric that decides. `start`
/// measures that one, where it can be; `help` is what to try.
///
/// # Errors
/// If the best network cannot be read.
pub(crate) fn warn_no_better(
    dir: &Path,
    decisive: Decisive,
    help: &str,
    start: impl FnOnce() -> anyhow::Result<Option<f64>>,
) -> anyhow::Result<()> {
    let best = Checkpoint::best(dir)?.and_then(|best| best.record.best);
    let Some((best, epoch)) = best.filter(|(_, epoch)| *epoch > 0 && decisive.better != Better::Latest) else {
        return Ok(());
    };
    let metric = decisive.metric;
    terminal::tell!("measuring the network that the run started from, for comparison");
    match start() {
        Ok(Some(start)) if !decisive.improves(best, start, 0.0) => terminal::warn(&format!(
            "the best {metric} of the run, {best:.4} after epoch {epoch}, is no better than the {start:.4} of the \
             network it started from: {help}"
        )),
        Ok(_) => {}
        // The run itself is done.
        Err(error) => terminal::note(&format!("the network it started from is not compared: {error:#}")),
    }
    Ok(())
}

/// Runs a training command, from its flags to its last line of output.
///
/// # Errors
/// Whatever keeps the run from beginning or ends it early.
pub(crate) fn train<F: Family>(family: &F, args: &RunArgs, flags: &impl Serialize) -> anyhow::Result<ExitCode> {
    let Some(plan) = Plan::resolve(family, args, flags)? else { return Ok(ExitCode::SUCCESS) };
    run(family, plan)
}

/// [`train`] from a plan.
///
/// # Errors
/// As [`train`].
pub(crate) fn run<F: Family>(family: &F, plan: Plan<F>) -> anyhow::Result<ExitCode> {
    let dir = plan.dir.clone();
    let outcome = plan.validate(family)?.claim()?.train(family)?;
    match outcome {
        Outcome::Finished { best } => {
            let best = best.map(|(value, epoch)| format!(", best {} {value:.4} after epoch {epoch}", F::METRIC));
            terminal::show!("{}{}", dir.display(), best.unwrap_or_default())?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted { checkpoint } => {
            let (saved, dir) = (checkpoint.display(), dir.display());
            terminal::tell!("saved {saved}; continue with `train {} --resume {dir}`", F::VERB);
            // What a shell expects of a program that Ctrl-C ended.
            Ok(ExitCode::from(130))
        }
    }
}
