//! What the verbs do.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, bail};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use contract::{cli::EXIT_NO, files, fill};
use serde_json::json;
use train::checkpoint::{self, Checkpoint, CheckpointError, Record};
use train::config::ReidConfig;
use train::engine::{self, Outcome};
use train::evaluate::{EvalReport, RANKS, Reading, warn_when_collapsed};
use train::loss::{LossParams, LossSum};
use train::model::{Partial, ReidNet, ReidNetConfig, StateDict};
use train::optim::{Optimizer, OptimizerConfig};
use train::task::reid::{self, ReidTask};

use crate::cli::{BenchStepArgs, Cli, Command, EvalArgs, Format, ImportArgs, InspectArgs, ReidArgs};

/// Folder below which runs lie.
const RUNS: &str = "runs/reid";

/// Does what was asked.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Reid(args) => train_reid(&args),
        Command::Eval(args) => eval(&args),
        Command::Import(args) => import(&args),
        Command::Inspect(args) => inspect(&args),
        Command::BenchStep(args) => bench_step(&args),
    }
}

fn train_reid(args: &ReidArgs) -> anyhow::Result<ExitCode> {
    let resumed = args.resume.as_deref().map(find_run).transpose()?;
    let base = resumed.as_ref().map(|(_, checkpoint)| &checkpoint.record.config);
    let (config, origins) = args.resolve(base)?;
    if args.print_config {
        let settings = serde_json::to_value(&config)?;
        for (key, value) in settings.as_object().into_iter().flatten() {
            println!("{key:<20} {value:<32} {}", origins[key].as_str().unwrap_or_default());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let dir = match (&args.save_dir, &resumed) {
        (Some(dir), _) => dir.clone(),
        (None, Some((dir, _))) => dir.clone(),
        (None, None) => Path::new(RUNS).join(&config.save),
    };
    if resumed.is_none() && !args.overwrite && dir.join("run.json").exists() {
        bail!(
            "`{}` already holds a run: continue it with --resume, replace it with --overwrite, or choose another --save",
            dir.display()
        );
    }

    let stop = engine::watch_interrupts();
    let device = Device::flex().autodiff();
    let mut task = ReidTask::open(&config, &device).map_err(anyhow::Error::from_boxed)?;
    let (network, fingerprint) = (task.network(), task.fingerprint());
    let settings = reid::settings(&config, args.keep_checkpoints).map_err(anyhow::Error::from_boxed)?;
    let mut net = ReidNet::new(&network, config.seed, &device)?;
    if let Some((_, checkpoint)) = &resumed {
        let saved: ReidNetConfig = checkpoint.network(reid::FAMILY)?;
        if saved != network {
            let (path, found, allowed) = (checkpoint.path.clone(), saved.to_string(), network.to_string());
            return Err(CheckpointError::Other { path, found, allowed }.into());
        }
        if checkpoint.record.dataset_fingerprint != fingerprint {
            eprintln!("warning: the dataset `{}` is not the one this run began with", checkpoint.record.dataset);
        }
        StateDict::load_file(&checkpoint.path, &mut net, &network.model, Partial::Nothing)?;
        let Record { epoch, step, .. } = checkpoint.record;
        let within = if step > 0 { format!(" and {step} batches") } else { String::new() };
        eprintln!("continuing {} after epoch {epoch}{within}", checkpoint.path.display());
    } else if config.pre_train.is_empty() {
        eprintln!("starting from random weights (seed {})", config.seed);
    } else {
        let partial = if args.pre_train_partial { Partial::Classifiers } else { Partial::Nothing };
        let report = net.load_pretrained(Path::new(&config.pre_train), partial)?;
        eprintln!("starting from {}: {report}", config.pre_train);
    }
    eprintln!("{}", task.describe_data());

    let record = Record {
        family: reid::FAMILY.into(),
        network: serde_json::to_value(&network)?,
        config: serde_json::to_value(task.config())?,
        command: command_line(),
        dataset: task.dataset_name().to_owned(),
        dataset_fingerprint: fingerprint,
        ..Record::default()
    };
    let versions = json!({ "vitrine": env!("CARGO_PKG_VERSION"), "burn": train::BURN_VERSION });
    let run = json!({
        "command": record.command,
        "config": record.config,
        "network": record.network,
        "seed": config.seed,
        "dataset": record.dataset,
        "dataset_fingerprint": record.dataset_fingerprint,
        "resumed_from": resumed.as_ref().map(|(_, checkpoint)| checkpoint.path.display().to_string()),
        "versions": versions,
    });
    // From here on the run directory is ours; what was wrong so far has touched nothing.
    if resumed.is_none() {
        checkpoint::remove_all(&dir).with_context(|| format!("cannot clear `{}`", dir.display()))?;
    }
    files::write(&dir.join("run.json"), serde_json::to_string_pretty(&run)?)?;

    let resume = resumed.as_ref().map(|(_, checkpoint)| checkpoint);
    let (_, outcome) = engine::train(&mut task, net, &settings, &dir, record, resume, stop)?;
    match outcome {
        Outcome::Finished { best } => {
            let best = best.map(|(map, epoch)| format!(", best mAP {map:.4} after epoch {epoch}")).unwrap_or_default();
            println!("{}{best}", dir.display());
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted { checkpoint } => {
            eprintln!("saved {}; continue with `train reid --resume {}`", checkpoint.display(), dir.display());
            // What a shell expects of a program that Ctrl-C ended.
            Ok(ExitCode::from(130))
        }
    }
}

/// The run directory and newest checkpoint that `--resume` names: a path, or the name of a run.
fn find_run(named: &Path) -> anyhow::Result<(PathBuf, Checkpoint)> {
    let run = if named.exists() { named.to_owned() } else { Path::new(RUNS).join(named) };
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

fn eval(args: &EvalArgs) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let network: ReidNetConfig = checkpoint.network(reid::FAMILY)?;
    let mut config: ReidConfig =
        serde_json::from_value(checkpoint.record.config.clone()).context("the checkpoint's settings are malformed")?;
    if let Some(datadir) = &args.datadir {
        config.datadir = datadir.display().to_string();
    }
    if let Some(dataset) = &args.dataset {
        config.data_test = dataset.clone();
    }
    config.train_identities = args.train_identities.or(config.train_identities);
    let mut net = ReidNet::new(&network, config.seed, &Device::flex())?;
    StateDict::load_file(&checkpoint.path, &mut net, &network.model, Partial::Nothing)?;
    let reading = Reading { batch: args.batchtest, threads: args.n_thread, strict: args.strict };
    let reports = reid::evaluate(&net.valid(), &config, reading, args.rerank).map_err(anyhow::Error::from_boxed)?;
    for report in &reports {
        warn_when_collapsed(&report.spread);
    }
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&reports)?),
        Format::Table => reports.iter().for_each(print_report),
    }
    let answered = reports.iter().any(|report| report.ranking.valid_queries > 0);
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NO) })
}

fn print_report(report: &EvalReport) {
    let EvalReport { dataset, ranking, .. } = report;
    println!(
        "{dataset}: {} of {} queries with a match, {} in the gallery, {} unreadable pictures left out",
        ranking.valid_queries, ranking.queries, ranking.gallery, report.skipped
    );
    let line = |name: &str, ranking: &metrics::RankingReport| {
        let ranks: String = RANKS.iter().map(|k| format!("  Rank-{k} {:.4}", ranking.rank(*k))).collect();
        println!("{name:<12} mAP {:.4}{ranks}", ranking.map);
    };
    line("cosine", ranking);
    if let Some(reranked) = &report.reranked {
        line("re-ranked", reranked);
    }
}

fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let weights = StateDict::read(&args.weights)?;
    let classes = match args.num_classes {
        Some(classes) => classes,
        None => weights.classes().with_context(|| {
            format!("`{}` has no classifier to count the classes from; give --num-classes", args.weights.display())
        })?,
    };
    let network = ReidNetConfig { model: args.model.clone(), classes, features: args.feats };
    let config = ReidConfig {
        model: args.model.clone(),
        feats: args.feats,
        height: args.height,
        width: args.width,
        num_classes: classes,
        ..ReidConfig::default()
    };
    config.check()?;
    let mut net = ReidNet::new(&network, config.seed, &Device::flex())?;
    let partial = if args.partial { Partial::Classifiers } else { Partial::Nothing };
    let report = net.load_pretrained(&args.weights, partial)?;
    let record = Record {
        family: reid::FAMILY.into(),
        network: serde_json::to_value(&network)?,
        config: serde_json::to_value(&config)?,
        command: command_line(),
        ..Record::default()
    };
    checkpoint::save_weights(&args.output, &StateDict::of(&net), &record)?;
    println!("{}: {}, {report}", args.output.display(), network.model);
    Ok(ExitCode::SUCCESS)
}

fn inspect(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let weights = StateDict::read(&checkpoint.path)?;
    let parameters = weights.parameters();
    let record = &checkpoint.record;
    if args.format == Format::Json {
        let facts = json!({ "path": checkpoint.path, "parameters": parameters, "record": record });
        println!("{}", serde_json::to_string_pretty(&facts)?);
        return Ok(ExitCode::SUCCESS);
    }
    let tensors = weights.iter().count();
    println!("{}\n  family      {}\n  network     {}", checkpoint.path.display(), record.family, record.network);
    println!("  parameters  {parameters} in {tensors} tensors, running statistics counted as tensors only");
    println!("  epoch       {} ({} steps)", record.epoch, record.steps);
    println!("  dataset     {} {}", record.dataset, record.dataset_fingerprint);
    println!("  metrics     {}", serde_json::to_string(&record.metrics)?);
    println!("  resumable   {}", if record.state_sha256.is_some() { "yes" } else { "no, weights only" });
    println!("  command     {}", record.command);
    Ok(ExitCode::SUCCESS)
}

fn bench_step(args: &BenchStepArgs) -> anyhow::Result<ExitCode> {
    // Before anything touches the pool: it is made once.
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    let device = Device::flex().autodiff();
    let network = ReidNetConfig { model: args.model.clone(), classes: args.identities, features: 512 };
    let mut net = ReidNet::new(&network, 1, &device)?;
    // Weights, pictures and identities by the rules of the golden vectors, which the peer follows too: the losses must agree.
    let filled: StateDict = StateDict::of(&net)
        .iter()
        .map(|(key, data)| (key.to_owned(), TensorData::new(fill::fill(key, data.shape()), data.shape().clone())))
        .collect();
    filled.load_into(&mut net);
    let params =
        LossParams { num_classes: args.identities, label_smoothing: true, margin: 0.7, feat_dim: 512, seed: 1 };
    let mut loss = LossSum::new("0.5*CrossEntropy+0.5*MSLoss", &params)?;
    let mut optimizer = Optimizer::new(&OptimizerConfig::default())?;
    let shape = [args.batch, 3, args.height, args.width];
    let block = 16;
    if !args.height.is_multiple_of(block) || !args.width.is_multiple_of(block) {
        bail!("--height and --width are {}×{}; multiples of {block} are allowed", args.height, args.width);
    }
    let pixels = fill::blocks("input", shape, block);
    let identities: Vec<i64> = (0..args.batch).map(|k| ((k / 4) % args.identities) as i64).collect();
    let (mut losses, mut forward, mut backward, mut update) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut processor = Vec::new();
    for _ in 0..args.warmup + args.steps {
        let before = processor_seconds();
        let mut clock = Instant::now();
        let mut lap = || std::mem::replace(&mut clock, Instant::now()).elapsed().as_secs_f64();
        let images = Tensor::<4>::from_data(TensorData::new(pixels.clone(), shape), &device);
        let classes = Tensor::<1, Int>::from_data(TensorData::new(identities.clone(), [args.batch]), &device);
        let output = net.forward(images);
        let terms = loss.forward(&output.scores, &output.features, classes);
        losses.push(terms.values().0);
        forward.push(lap());
        let gradients = GradientsParams::from_grads(terms.total.backward(), &net);
        backward.push(lap());
        net = optimizer.step(6e-4, net, gradients);
        update.push(lap());
        processor.extend(before.zip(processor_seconds()).map(|(before, after)| after - before));
    }
    let timed = |phase: &[f64]| phase[args.warmup..].to_vec();
    let seconds: Vec<f64> =
        (args.warmup..losses.len()).map(|step| forward[step] + backward[step] + update[step]).collect();
    let facts = json!({
        "network": network, "batch": args.batch, "size": [args.height, args.width], "device": "flex",
        "ops": train::ops::name(), "threads": args.threads, "seconds": seconds, "forward": timed(&forward),
        "backward": timed(&backward), "optimizer": timed(&update), "losses": losses,
        "processor": processor.split_off(processor.len().min(args.warmup)),
    });
    match args.format {
        Format::Json => println!("{facts}"),
        Format::Table => println!("{}", serde_json::to_string_pretty(&facts)?),
    }
    Ok(ExitCode::SUCCESS)
}

/// Processor time this program has taken, all threads together, where Linux tells. Unlike time on the clock it hardly depends on
/// what else the machine does.
fn processor_seconds() -> Option<f64> {
    /// Linux gives times to programs in hundredths of a second, on every architecture Rust has.
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name before the last bracket may hold blanks; user and system time are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS);
    Some(seconds()? + seconds()?)
}

fn command_line() -> String {
    std::env::args().collect::<Vec<_>>().join(" ")
}
