//! `train reid`: a re-identification run.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use burn::module::Module;
use burn::tensor::Device;
use contract::preprocess;
use terminal::EXIT_NO;

use crate::device;
use crate::families::reid::cli::ReidArgs;
use crate::families::reid::evaluate::{Ask, Embedded, EvalReport, RANKS, Reading, warn_when_collapsed};
use crate::families::reid::import;
use crate::families::reid::look::{self, LOOKED_AT};
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
    match &args.datadir {
        Some(datadir) => config.datadir = datadir.display().to_string(),
        None => directory::follow_of(&mut config.datadir, checkpoint),
    }
    if let Some(dataset) = &args.dataset {
        config.data_test = dataset.clone();
    }
    config.train_identities = args.train_identities.or(config.train_identities);
    let mut net = ReidNet::new(&network, config.seed, &device::open(args.device)?);
    StateDict::load_file(&checkpoint.path, &mut net, network.net.name(), Partial::Nothing)?;
    let reading = Reading { batch: args.batch(), threads: args.threads(), strict: args.strict };
    let ask = Ask { rerank: args.rerank, expand: args.expand, single_shot: args.single_shot };
    let facts = vec![
        ("network", network.net.name().to_owned()),
        ("checkpoint", file_name(&checkpoint.path)),
        ("trained on", checkpoint.record.dataset.clone()),
        ("finished epochs", checkpoint.record.epoch.to_string()),
    ];
    if args.activation_map && args.report.is_none() {
        bail!("--activation-map draws into the page of --report, which is not given");
    }
    let page = args.report.as_deref().map(|path| Page { path, facts, activation: args.activation_map });
    evaluate(&net, &config, reading, ask, args.format, page)
}

/// The last part of a path.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// `--test-only`: the weights of `--pre-train` on the test sets.
fn test_only(args: &ReidArgs) -> anyhow::Result<ExitCode> {
    let (mut config, _) = resolve::<ReidConfig>(args, Layers::of(&args.run))?;
    for (flag, given) in [("activation-map", config.activation_map), ("ranked-lists", config.ranked_lists > 0)] {
        if given {
            bail!("--{flag} draws for TensorBoard, and --test-only writes nothing; `train eval --report` makes a page");
        }
    }
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
    let ask = Ask { rerank: config.re_rank, ..Ask::default() };
    evaluate(&net, &config, reading, ask, Format::Table, None)
}

/// A page to write.
pub struct Page<'a> {
    /// Its file.
    pub path: &'a Path,
    /// Lines about the network.
    pub facts: Vec<(&'static str, String)>,
    /// Whether it shows where the network looks.
    pub activation: bool,
}

/// Evaluates a network on the test sets of `config`, each on its own, and prints the reports. With `page`, it also
/// writes a page of each.
pub fn evaluate(
    net: &ReidNet,
    config: &ReidConfig,
    reading: Reading,
    ask: Ask,
    format: Format,
    page: Option<Page<'_>>,
) -> anyhow::Result<ExitCode> {
    let net = net.valid();
    let sets = reid::heeded_test_sets(config, reading.strict).map_err(anyhow::Error::from_boxed)?;
    let several = sets.len() > 1;
    let mut reports = Vec::new();
    for set in &sets {
        let embedded = Embedded::of(&net, set, &reid::picture_spec(config), reading);
        let embedded = embedded.map_err(anyhow::Error::from_boxed)?;
        let report = embedded.report(ask).map_err(anyhow::Error::from_boxed)?;
        warn_when_collapsed(&report.spread);
        let EvalReport { dataset, ranking, skipped, .. } = &report;
        let (all, scored) = (ranking.queries, ranking.valid_queries);
        if let Some(warning) = (Queries { dataset: dataset.clone(), all, scored }).warning() {
            terminal::warn(&warning);
        }
        if let Some(Page { path, facts, activation }) = &page {
            let mut facts = facts.clone();
            facts.push(("dataset", format!("{dataset}: {all} queries, {} gallery entries", ranking.gallery)));
            facts.push(("unreadable pictures left out", skipped.to_string()));
            if report.expanded > 0 {
                facts.push(("queries expanded by", format!("the {} nearest entries of each", report.expanded)));
            }
            let evaluation = embedded.page(&report, facts).map_err(anyhow::Error::from_boxed)?;
            let path = if several { report::with_suffix(path, dataset) } else { path.to_path_buf() };
            let small = |file: &Path| preprocess::reduced(file, report::THUMBNAIL).ok();
            let mut looks = Vec::new();
            if *activation {
                let of_file = |query: &report::ranking::WorstQuery| {
                    set.query.iter().find(|sample| sample.path == query.picture.file).cloned()
                };
                let shown: Vec<_> = evaluation.worst.iter().take(LOOKED_AT).filter_map(of_file).collect();
                let input = reid::picture_spec(config);
                looks = look::activation(&net, &shown, &input, reading).map_err(anyhow::Error::from_boxed)?;
            }
            files::write(&path, evaluation.html_with("Evaluation", small, &look::section(&looks)?))?;
            terminal::tell!("report in {}", path.display());
        }
        reports.push(report);
    }
    format.print(&reports, || {
        let each: String = reports.iter().map(table).collect();
        if several { each + &across(&reports) } else { each }
    })?;
    let answered = reports.iter().any(|report| report.ranking.valid_queries > 0);
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

fn table(report: &EvalReport) -> String {
    let EvalReport { dataset, ranking, reranked, single_shot, expanded, skipped, .. } = report;
    let ranks =
        |of: &dyn Fn(usize) -> f64| RANKS.iter().map(|k| format!("  Rank-{k} {:.4}", of(*k))).collect::<String>();
    let line = |name: &str, ranking: &metrics::RankingReport| {
        let intervals = ranking.intervals.as_ref().map(|of| format!("{:<12} {}\n", "", report::intervals(of)));
        let means = format!("mAP {:.4}  mINP {:.4}", ranking.map, ranking.minp);
        format!("{name:<12} {means}{}\n{}", ranks(&|k| ranking.rank(k)), intervals.unwrap_or_default())
    };
    let mut text = format!(
        "{dataset}: {} of {} queries with a match, {} in the gallery, {skipped} unreadable pictures left out\n",
        ranking.valid_queries, ranking.queries, ranking.gallery,
    );
    if *expanded > 0 {
        text += &format!("queries expanded by the {expanded} nearest entries of each\n");
    }
    text += &line("cosine", ranking);
    text += &reranked.as_ref().map(|ranking| line("re-ranked", ranking)).unwrap_or_default();
    if let Some(cmc) = single_shot {
        let end = "of one picture of each person in the gallery";
        text += &format!("{:<12}{} ({end})\n", "single shot", ranks(&|k| cmc[k - 1]));
    }
    text
}

/// One line for each set, for comparison.
fn across(reports: &[EvalReport]) -> String {
    let reranked = reports.iter().any(|report| report.reranked.is_some());
    let name = |report: &EvalReport| report.dataset.chars().count();
    let width = reports.iter().map(name).max().unwrap_or(0).max("dataset".len());
    let more = if reranked { "  re-ranked mAP  Rank-1" } else { "" };
    let mut text = format!("\n{:<width$}  queries     mAP    mINP  Rank-1{more}\n", "dataset");
    for EvalReport { dataset, ranking, reranked, .. } in reports {
        let [map, minp, rank1] = [ranking.map, ranking.minp, ranking.rank(1)];
        text += &format!("{dataset:<width$}  {:>7}  {map:.4}  {minp:.4}  {rank1:.4}", ranking.valid_queries);
        text += &reranked.as_ref().map(|of| format!("  {:>13.4}  {:.4}", of.map, of.rank(1))).unwrap_or_default();
        text.push('\n');
    }
    text
}
