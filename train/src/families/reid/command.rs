//! `train reid`: a re-identification run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use burn::module::Module;
use burn::tensor::Device;
use terminal::EXIT_NO;

use crate::device;
use crate::families::reid::cli::ReidArgs;
use crate::families::reid::evaluate::{EvalReport, RANKS, Reading, warn_when_collapsed};
use crate::families::reid::import;
use crate::families::reid::net::{ReidNet, ReidNetConfig};
use crate::families::reid::settings::ReidConfig;
use crate::families::reid::task::{self as reid, ReidTask};
use crate::run::checkpoint::{Checkpoint, Queries};
use crate::run::directory;
use crate::run::engine::Task;
use crate::run::flags::{EvalArgs, Format};
use crate::run::settings::{Layers, resolve};
use crate::run::start::{self, Family, Finished, Opened, Plan};
use crate::weights::{Copies, Partial, StateDict};

/// `train reid`.
pub fn train(args: &ReidArgs) -> anyhow::Result<ExitCode> {
    if args.test_only {
        return test_only(args);
    }
    start::train(&ReidRun { partial: args.pre_train_partial, copies: copies(args) }, &args.run, args)
}

/// Runs of re-identification.
struct ReidRun {
    /// Classifiers of another number of classes keep their start values.
    partial: bool,
    /// Which copy of the weights it starts from.
    copies: Copies,
}

/// Which copy of the weights of `--pre-train` is meant.
fn copies(args: &ReidArgs) -> Copies {
    if args.pre_train_no_ema { Copies::Raw } else { Copies::Average }
}

impl Family for ReidRun {
    type Config = ReidConfig;
    type Task = ReidTask;
    type Network = ReidNetConfig;

    const FAMILY: &'static str = reid::FAMILY;
    const VERB: &'static str = "reid";
    const METRIC: &'static str = "mAP";
    const RUNS: &'static str = "runs/reid";

    fn place(config: &ReidConfig) -> PathBuf {
        Path::new(Self::RUNS).join(name(&config.save))
    }

    fn data_folder(config: &mut ReidConfig) -> &mut String {
        &mut config.datadir
    }

    fn seed(config: &ReidConfig) -> u64 {
        config.seed
    }

    fn open(&self, plan: &Plan<Self>, device: &Device) -> anyhow::Result<Opened<Self>> {
        let config = &plan.config;
        let task = ReidTask::open(config, device).map_err(anyhow::Error::from_boxed)?;
        let network = task.network();
        let settings = reid::settings(config, plan.keep).map_err(anyhow::Error::from_boxed)?;
        let mut net = ReidNet::new(&network, config.seed, device);
        let reads = plan.checkpoint().is_none() && !config.pre_train.is_empty();
        let flags = [("pre-train-no-ema", self.copies == Copies::Raw), ("pre-train-partial", self.partial)];
        if let Some((flag, _)) = flags.into_iter().find(|(_, given)| *given && !reads) {
            bail!("--{flag} is for the weights of --pre-train, and none are read");
        }
        if let Some(checkpoint) = plan.checkpoint() {
            checkpoint.agrees(&checkpoint.network(reid::FAMILY)?, &network, ToString::to_string)?;
            StateDict::load_file(&checkpoint.path, &mut net, network.net.name(), Partial::Nothing)?;
        } else if config.pre_train.is_empty() {
            terminal::tell!("starting from random weights (seed {})", config.seed);
        } else {
            let partial = if self.partial { Partial::Classifiers } else { Partial::Nothing };
            let path = Path::new(&config.pre_train);
            let weights = StateDict::read_copy(path, self.copies)?;
            let report = import::load(&mut net, path, weights, partial, &network.net, "--pre-train-partial")?;
            import::check_copies(path, self.copies, &report, "--pre-train-no-ema")?;
            terminal::tell!("starting from {}: {report}", config.pre_train);
        }
        if config.freeze_epochs > 0 {
            terminal::tell!("the backbone is frozen for the first {} epochs", config.freeze_epochs);
        }
        terminal::tell!("{}", task.describe_data());
        let dataset = (task.dataset_name().to_owned(), task.fingerprint());
        let people = Some(task.trained_on());
        Ok(Opened { config: task.config().clone(), task, net, network, dataset, people, settings, anew: false })
    }

    fn finish(&self, run: &Finished<'_, Self>) -> anyhow::Result<()> {
        const HELP: &str = "more --epochs or another --lr may help, and --recipe has published settings";
        start::warn_no_better(run.dir, run.task.decisive(), HELP, || {
            let mut net = ReidNet::new(run.network, run.config.seed, &run.device);
            if !run.config.pre_train.is_empty() {
                let path = Path::new(&run.config.pre_train);
                // Embeddings need no classifier.
                net.load_weights(path, StateDict::read_copy(path, self.copies)?, Partial::Classifiers)?;
            }
            run.task.deciding(&net.valid()).map_err(anyhow::Error::from_boxed)
        })
    }
}

/// A run's name. Scripts pass an empty name to get a fresh directory, so that is the time in seconds since 1970.
fn name(save: &str) -> String {
    if !save.trim().is_empty() {
        return save.to_owned();
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    format!("run-{now}")
}

/// `train eval` of a re-identification network.
pub fn eval(args: &EvalArgs, checkpoint: &Checkpoint) -> anyhow::Result<ExitCode> {
    let network: ReidNetConfig = checkpoint.network(reid::FAMILY)?;
    let mut config: ReidConfig = checkpoint.settings()?;
    directory::follow_of(&mut config.datadir, checkpoint);
    if let Some(datadir) = &args.datadir {
        config.datadir = datadir.display().to_string();
    }
    if let Some(dataset) = &args.dataset {
        config.data_test = dataset.clone();
    }
    config.train_identities = args.train_identities.or(config.train_identities);
    let mut net = ReidNet::new(&network, config.seed, &device::open(args.device)?);
    StateDict::load_file(&checkpoint.path, &mut net, network.net.name(), Partial::Nothing)?;
    let reading = Reading { batch: args.batch(), threads: args.threads(), strict: args.strict };
    evaluate(&net, &config, reading, args.rerank, args.format)
}

/// `--test-only`: the weights of `--pre-train` on the test sets.
fn test_only(args: &ReidArgs) -> anyhow::Result<ExitCode> {
    let (mut config, _) = resolve::<ReidConfig>(args, Layers::of(&args.run))?;
    if config.pre_train.is_empty() {
        bail!("--test-only evaluates the weights of --pre-train, which is not given");
    }
    let path = Path::new(&config.pre_train);
    let weights = StateDict::read_copy(path, copies(args))?;
    if let Some(classes) = weights.classes() {
        config.num_classes = classes;
    }
    let network = reid::network(&config);
    let mut net = ReidNet::new(&network, config.seed, &device::open(args.run.device)?);
    let weights = weights.fitted_to(&StateDict::of(&net).keys());
    let report = weights.clone().load(path, &mut net, network.net.name(), Partial::Nothing);
    let report = report.map_err(|error| import::explained(error, import::other_network(&weights, &network.net)))?;
    import::check_copies(path, copies(args), &report, "--pre-train-no-ema")?;
    terminal::note(&format!("{}: {report}", path.display()));
    let reading = Reading { batch: config.batchtest, threads: config.n_thread, strict: config.strict };
    evaluate(&net, &config, reading, config.re_rank, Format::Table)
}

/// Evaluates a network on the test sets of `config` and prints the reports.
pub fn evaluate(
    net: &ReidNet,
    config: &ReidConfig,
    reading: Reading,
    rerank: bool,
    format: Format,
) -> anyhow::Result<ExitCode> {
    let reports = reid::evaluate(&net.valid(), config, reading, rerank).map_err(anyhow::Error::from_boxed)?;
    for report in &reports {
        warn_when_collapsed(&report.spread);
        let EvalReport { dataset, ranking, .. } = report;
        let (all, scored) = (ranking.queries, ranking.valid_queries);
        if let Some(warning) = (Queries { dataset: dataset.clone(), all, scored }).warning() {
            terminal::warn(&warning);
        }
    }
    format.print(&reports, || reports.iter().map(table).collect())?;
    let answered = reports.iter().any(|report| report.ranking.valid_queries > 0);
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

fn table(report: &EvalReport) -> String {
    let EvalReport { dataset, ranking, reranked, skipped, .. } = report;
    let line = |name: &str, ranking: &metrics::RankingReport| {
        let ranks: String = RANKS.iter().map(|k| format!("  Rank-{k} {:.4}", ranking.rank(*k))).collect();
        format!("{name:<12} mAP {:.4}{ranks}\n", ranking.map)
    };
    let (cosine, reranked) = (line("cosine", ranking), reranked.as_ref().map(|ranking| line("re-ranked", ranking)));
    format!(
        "{dataset}: {} of {} queries with a match, {} in the gallery, {skipped} unreadable pictures left out\n\
         {cosine}{}",
        ranking.valid_queries,
        ranking.queries,
        ranking.gallery,
        reranked.unwrap_or_default()
    )
}
