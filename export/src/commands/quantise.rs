//! `export quantise MODEL.onnx --calibrate DIR`: a model in a smaller number format, with what that costs and gains.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use contract::{ModelContract, Quantisation};
use export::bundle::facts::{Latency, NodeFact, PlanFile, Quality};
use export::bundle::precision::{Made, PLAN, write_precision};
use export::bundle::{MODEL, Thresholds};
use export::graph::precision::range::Method;
use export::graph::precision::{self, Batch, Int8, Plan, Planner, Prepared, Target, observe, prepare};
use export::graph::run::{Opening, Session};
use export::{Bundle, Certificate, Runtime};
use files::lock::LockError;
use onnx::{Message, ModelProto};

use super::calibrate::{Pictures, quality};
use super::format::Format;

/// Flags that say how numbers become smaller.
#[derive(Debug, Clone, clap::Args)]
pub struct PrecisionArgs {
    /// What it is made for: ONNX Runtime on a CPU, or TensorRT (explicit, symmetric) [default: cpu]. For int8.
    #[arg(long, value_enum)]
    pub target: Option<TargetName>,
    /// How ranges are chosen from the calibration pictures [default: entropy]. For int8; float16 needs the smallest
    /// and the largest value.
    #[arg(long, value_enum)]
    pub range: Option<RangeName>,
    /// Bits of weights, 7 or 8 [default: 8, or 7 where this processor has no VNNI and --target is cpu]. Processors
    /// without VNNI add two products in 16 bits, which 8 bits can exceed. For int8.
    #[arg(long, value_name = "7|8", value_parser = bits)]
    pub weight_bits: Option<u8>,
    /// Most pictures that calibrate, from 2 to 4096; of the rest, up to four times as many test [default: 64].
    #[arg(long, value_name = "N", value_parser = pictures)]
    pub pictures: Option<usize>,
    /// Repeat the plan of an earlier run (its plan.json) instead of measuring. Measured times differ from run to run;
    /// with a plan, the same model and pictures give the same file. For int8.
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// Least mean cosine against float32 on pictures that did not calibrate [default: 0.98].
    #[arg(long, value_name = "COSINE", value_parser = cosine)]
    pub min_cosine: Option<f64>,
    /// Write the model even if it is slower than its float32 on this machine, or less alike than allowed.
    #[arg(long)]
    pub force: bool,
}

/// Number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Precision {
    /// 8-bit integers where they gain time, for CPUs and TensorRT.
    Int8,
    /// float16, for GPUs. On a CPU it is cast back: half the file, no speed.
    Fp16,
}

/// Target by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TargetName {
    /// ONNX Runtime on a CPU.
    Cpu,
    /// TensorRT.
    Tensorrt,
}

/// Rule of ranges by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RangeName {
    /// Smallest and largest value.
    Minmax,
    /// The middle 99.99 % of values.
    Percentile,
    /// Least divergence of the distribution.
    Entropy,
}

/// Flags of `export quantise`.
#[derive(Debug, clap::Args)]
pub struct QuantiseArgs {
    /// float32 model, ours or anyone's: the file, or the folder of a bundle.
    model: PathBuf,
    /// Pictures to calibrate and to test with, as the model is going to see them. Folders or names may say who is on
    /// them.
    #[arg(long, value_name = "DIR")]
    calibrate: PathBuf,
    /// Contract of a model that has none inside.
    #[arg(long, value_name = "FILE")]
    contract: Option<PathBuf>,
    /// Number format.
    #[arg(long, value_enum, default_value_t = Precision::Int8)]
    precision: Precision,
    #[command(flatten)]
    how: PrecisionArgs,
    /// Folder to write.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Format of the results on stdout.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

fn bits(text: &str) -> Result<u8, String> {
    terminal::whole(text, 7, 8).map(|bits| bits as u8)
}

fn pictures(text: &str) -> Result<usize, String> {
    terminal::whole(text, 2, 4096)
}

fn cosine(text: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|cosine| (0.0..=1.0).contains(cosine));
    found.ok_or_else(|| "a number from 0 to 1 is needed".into())
}

/// Pictures that calibrate, unless told otherwise.
const PICTURES: usize = 64;

/// Least mean cosine, unless told otherwise.
const MIN_COSINE: f64 = 0.98;

/// Share of values inside a range by percentile.
const SHARE: f64 = 0.9999;

/// Most that Rank-1 and mAP may fall.
const MOST_LOST: f64 = 0.003;

/// Least speed-up that is not called slower: times of one machine differ by that much.
const LEAST_SPEED_UP: f64 = 0.97;

/// Rows of the timed batches.
const TIMED: [usize; 2] = [1, 16];

/// Runs that are timed of each model, in turn.
const ROUNDS: usize = 7;

/// Pictures whose outputs the planner compares.
const COMPARED: usize = 8;

impl PrecisionArgs {
    /// Refuses flags that have no effect for the format, before anything is read.
    ///
    /// # Errors
    /// Names the first such flag.
    pub fn check(&self, precision: Precision) -> anyhow::Result<()> {
        if precision == Precision::Int8 {
            return Ok(());
        }
        let flags = [
            ("--target", self.target.is_some()),
            ("--range", self.range.is_some()),
            ("--weight-bits", self.weight_bits.is_some()),
            ("--plan", self.plan.is_some()),
        ];
        match flags.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => bail!("{flag} is for --precision int8, not for fp16"),
            None => Ok(()),
        }
    }

    /// The first flag given, by whoever asked for no smaller format.
    pub fn first_given(&self) -> Option<&'static str> {
        let flags = [
            ("--target", self.target.is_some()),
            ("--range", self.range.is_some()),
            ("--weight-bits", self.weight_bits.is_some()),
            ("--pictures", self.pictures.is_some()),
            ("--plan", self.plan.is_some()),
            ("--min-cosine", self.min_cosine.is_some()),
            ("--force", self.force),
        ];
        flags.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    fn least_cosine(&self) -> f64 {
        self.min_cosine.unwrap_or(MIN_COSINE)
    }

    fn int8(&self) -> Int8 {
        let target = match self.target.unwrap_or(TargetName::Cpu) {
            TargetName::Cpu => Target::Cpu,
            TargetName::Tensorrt => Target::TensorRt,
        };
        let default = if target == Target::Cpu && !adds_in_32_bits() { 7 } else { 8 };
        Int8 { target, weight_bits: self.weight_bits.unwrap_or(default) }
    }

    fn method(&self) -> (Method, &'static str) {
        match self.range.unwrap_or(RangeName::Entropy) {
            RangeName::Minmax => (Method::MinMax, "minmax"),
            RangeName::Percentile => (Method::Percentile { share: SHARE }, "percentile"),
            RangeName::Entropy => (Method::Entropy, "entropy"),
        }
    }
}

/// Whether products of bytes are added in 32 bits: everywhere but on x86 processors without VNNI.
fn adds_in_32_bits() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read or written, the model does not fit, or a gate refuses it.
pub fn run(args: &QuantiseArgs) -> anyhow::Result<ExitCode> {
    args.how.check(args.precision)?;
    let runtime = Runtime::load()?;
    let name = args.output.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned());
    let job = Job { name, precision: args.precision, how: &args.how, calibrate: &args.calibrate, output: &args.output };
    convert(&model_file(&args.model)?, args.contract.as_deref(), &job, &runtime)?.show(args.format)?;
    Ok(ExitCode::SUCCESS)
}

/// The model file of a bundle, or the file that was named.
fn model_file(path: &Path) -> anyhow::Result<Cow<'_, Path>> {
    if !path.is_dir() {
        return Ok(Cow::Borrowed(path));
    }
    let file = path.join(MODEL);
    // What else is wrong with it is told when it is read.
    let missing = std::fs::symlink_metadata(&file).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound);
    match missing {
        true => bail!("`{}` has no {MODEL}; a model file or the folder of a bundle is needed", path.display()),
        false => Ok(Cow::Owned(file)),
    }
}

/// Does the job for a model with a contract inside.
///
/// # Errors
/// As [`Job::run`].
pub fn from_bundle(model: &Path, job: &Job<'_>, runtime: &Runtime) -> anyhow::Result<Done> {
    convert(model, None, job, runtime)
}

fn convert(path: &Path, contract: Option<&Path>, job: &Job<'_>, runtime: &Runtime) -> anyhow::Result<Done> {
    let (model, bytes) = onnx::read(path, &onnx::Limits::default())?;
    export::graph::checker::check_file(&model).with_context(|| format!("`{}` is refused", path.display()))?;
    let contract = contract_of(&model, contract, path)?;
    let source = Source { path, sha256: sha256(&bytes), certificate: certificate(path, &bytes) };
    job.run(model, contract, &source, runtime)
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(Sha256::digest(bytes))
}

fn contract_of(model: &ModelProto, file: Option<&Path>, path: &Path) -> anyhow::Result<ModelContract> {
    let entries = || model.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
    let inside = entries().any(|(key, _)| key.starts_with(contract::KEY_PREFIX));
    match file {
        Some(file) if inside => bail!(
            "--contract {} is not used: `{}` has a contract inside, which is the one that holds",
            file.display(),
            path.display()
        ),
        Some(file) => {
            let text = files::read_text_limited(file, contract::LARGEST_FILE)
                .with_context(|| format!("`{}` cannot be read", file.display()))?;
            ModelContract::from_json(&text).with_context(|| format!("`{}` is refused", file.display()))
        }
        None => ModelContract::from_metadata(entries()).with_context(|| {
            format!(
                "`{}` cannot be quantised; --contract FILE names the contract of a model without one",
                path.display()
            )
        }),
    }
}

/// The certificate beside a model, if it is this model's.
fn certificate(model: &Path, bytes: &[u8]) -> Option<Certificate> {
    let folder = model.parent().filter(|_| model.file_name().is_some_and(|name| name == MODEL))?;
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let bundle = Bundle::open(folder).ok()?;
    let certificate = bundle.certificate();
    let bare = onnx::without_metadata(bytes, &format!("{}threshold", contract::KEY_PREFIX)).ok()?;
    [sha256(bytes), sha256(&bare)].contains(&certificate.model.sha256).then(|| certificate.clone())
}

/// The float32 model.
pub struct Source<'a> {
    /// Where it is.
    pub path: &'a Path,
    /// SHA-256 of the file.
    pub sha256: String,
    /// Its certificate, if it has one.
    pub certificate: Option<Certificate>,
}

/// What is to be made.
pub struct Job<'a> {
    /// Name of the model.
    pub name: String,
    /// Number format.
    pub precision: Precision,
    /// Flags.
    pub how: &'a PrecisionArgs,
    /// Pictures.
    pub calibrate: &'a Path,
    /// Folder to write.
    pub output: &'a Path,
}

/// What was made.
pub struct Done {
    model: PathBuf,
    bytes: u64,
    source_bytes: u64,
    contract: ModelContract,
    quality: Quality,
    plan: PlanFile,
}

/// The model in its new format, and why each node is what it is.
struct Converted {
    model: ModelProto,
    nodes: Vec<NodeFact>,
    target: &'static str,
    range: &'static str,
    weight_bits: u8,
}

impl Job<'_> {
    /// Calibrates, plans, converts, tests and writes.
    ///
    /// # Errors
    /// If the model or the pictures do not fit, or a gate refuses.
    pub fn run(
        &self,
        model: ModelProto,
        contract: ModelContract,
        source: &Source<'_>,
        runtime: &Runtime,
    ) -> anyhow::Result<Done> {
        if contract.precision != "fp32" {
            bail!(
                "`{}` is `{}` by its contract; a float32 model (`fp32`) is needed",
                source.path.display(),
                contract.precision
            );
        }
        let flip = contract.embedding.as_ref().is_some_and(|embedding| embedding.flip);
        let input = contract.input.clone();
        let pictures = Pictures::list(self.calibrate, &input, flip, self.how.pictures.unwrap_or(PICTURES))?;
        single(&model, source.path)?;
        let prepared = prepare(model, source.path)?;
        let calibration = pictures.calibration()?;
        terminal::tell!("calibrating with {} pictures, testing with {}", calibration.pictures, pictures.tested());
        let method = if self.precision == Precision::Fp16 { Method::MinMax } else { self.how.method().0 };
        let seen = observe(&prepared, &calibration.batches, method, runtime)?;
        let converted = match self.precision {
            Precision::Int8 => self.integers(&prepared, &seen.ranges, &pictures, &calibration.batches, runtime)?,
            Precision::Fp16 => halves(&prepared, &seen.ranges),
        };
        let format = converted.nodes.iter().filter(|node| node.format != "fp32").count();
        if format == 0 {
            bail!(
                "no node of `{}` is worth {} here: {}",
                source.path.display(),
                self.word(),
                reasons(&converted.nodes)
            );
        }
        let quality = quality(prepared.model(), &converted.model, &contract, &pictures, runtime)?;
        let latency = self.latency(&prepared, &converted.model, &pictures, runtime)?;
        self.gate(&quality, &latency)?;
        let plan = PlanFile {
            version: 1,
            target: converted.target.into(),
            weight_bits: converted.weight_bits,
            nodes: converted.nodes,
            latency,
        };
        let all = plan.nodes.len();
        let thresholds = contract.threshold.is_some();
        let contract = ModelContract {
            precision: self.word().into(),
            quantisation: Some(Quantisation {
                source_sha256: source.sha256.clone(),
                target: converted.target.into(),
                range: converted.range.into(),
                weight_bits: converted.weight_bits,
                pictures: calibration.pictures,
                fingerprint: calibration.fingerprint.clone(),
                nodes: [format, all],
            }),
            ..contract
        };
        let made = Made {
            model: converted.model,
            contract,
            quality: quality.clone(),
            plan: plan.clone(),
            certificate: source.certificate.as_ref(),
            name: self.name.clone(),
        };
        let waits = |held: &LockError| terminal::note(&format!("{held}; waiting until it is done"));
        let written = write_precision(self.output, made, runtime, waits)?;
        if thresholds {
            terminal::warn(
                "the thresholds of the float32 model are not carried over, because the embeddings differ: run `deploy \
                 calibrate`",
            );
        }
        match written.thresholds {
            Thresholds::None => {}
            Thresholds::Kept => {
                terminal::note("the thresholds of the replaced model are kept: the embeddings are the same")
            }
            Thresholds::Dropped => terminal::warn(
                "the thresholds of the replaced model are dropped, because the embeddings differ: run `deploy \
                 calibrate`",
            ),
        }
        let source_bytes = std::fs::metadata(source.path).map_or(0, |facts| facts.len());
        let (model, bytes, contract) = (written.model, written.bytes, written.contract);
        Ok(Done { model, bytes, source_bytes, contract, quality, plan })
    }

    fn word(&self) -> &'static str {
        match self.precision {
            Precision::Int8 => "int8",
            Precision::Fp16 => "fp16",
        }
    }

    fn integers(
        &self,
        model: &Prepared,
        ranges: &precision::Ranges,
        pictures: &Pictures,
        batches: &[Batch],
        runtime: &Runtime,
    ) -> anyhow::Result<Converted> {
        let mut how = self.how.int8();
        let plan = match &self.how.plan {
            Some(path) => {
                let given = read_plan(path)?;
                let word = target_word(how.target);
                if given.target != word {
                    bail!("the plan `{}` is for `{}`, --target is `{word}`", path.display(), given.target);
                }
                if self.how.weight_bits.is_none() {
                    how.weight_bits = given.weight_bits;
                } else if given.weight_bits != how.weight_bits {
                    let (found, asked) = (given.weight_bits, how.weight_bits);
                    bail!("the plan `{}` has weights of {found} bits, --weight-bits is {asked}", path.display());
                }
                let chosen: BTreeSet<String> =
                    given.nodes.into_iter().filter(|node| node.format == "int8").map(|node| node.node).collect();
                precision::fixed(model, &how, &chosen).map_err(|node| {
                    let path = path.display();
                    anyhow::anyhow!("the plan `{path}` has node `{node}` in integers, which this model cannot have so")
                })?
            }
            None => self.measured(model, ranges, &how, pictures, batches, runtime)?,
        };
        let inserted = precision::integers(model, ranges, &plan.chosen(), &how);
        let format = |node: &str| if inserted.nodes.iter().any(|found| found == node) { "int8" } else { "fp32" };
        let nodes = plan.nodes.iter().map(|node| {
            let left = inserted.left.iter().find(|(name, _)| *name == node.node);
            NodeFact {
                node: node.node.clone(),
                operator: node.operator.clone(),
                format: format(&node.node).into(),
                reason: left.map_or_else(|| node.reason.clone(), |(_, reason)| reason.clone()),
                gain: node.gain,
                loss: node.loss,
            }
        });
        Ok(Converted {
            nodes: nodes.collect(),
            target: target_word(how.target),
            range: self.how.method().1,
            weight_bits: how.weight_bits,
            model: inserted.model.clone(),
        })
    }

    fn measured(
        &self,
        model: &Prepared,
        ranges: &precision::Ranges,
        how: &Int8,
        pictures: &Pictures,
        batches: &[Batch],
        runtime: &Runtime,
    ) -> anyhow::Result<Plan> {
        let timed = match how.target {
            Target::Cpu => pictures.timed(&TIMED)?,
            Target::TensorRt => vec![],
        };
        let rows = batches.first().map_or(1, |batch| batch[0].1.dims()[0].max(1));
        let compared = &batches[..batches.len().min(COMPARED.div_ceil(rows))];
        let bar = terminal::progress(1000, "planning", "‰");
        let progress = |what: &str, share: f64| {
            bar.set_message(what.to_owned());
            bar.set_position((1000.0 * share) as u64);
        };
        let planner = Planner {
            model,
            ranges,
            how: *how,
            timed: &timed,
            compared,
            rounds: ROUNDS,
            // A tenth of the way above what the gate asks of other pictures.
            least_cosine: (0.9 * self.how.least_cosine() + 0.1).min(1.0 - 1e-9),
            runtime,
            progress: &progress,
        };
        let plan = planner.plan();
        bar.finish_and_clear();
        Ok(plan?)
    }

    /// Times of the timed batches; the fastest of some runs of the two models in turn.
    fn latency(
        &self,
        float: &Prepared,
        found: &ModelProto,
        pictures: &Pictures,
        runtime: &Runtime,
    ) -> anyhow::Result<Vec<Latency>> {
        let open = |model: &ModelProto| runtime.open(&model.encode_to_vec(), Opening::plain(true));
        let (mut float, mut found) = (open(float.model())?, open(found)?);
        let time = |session: &mut Session, batch: &Batch| -> anyhow::Result<Duration> {
            let start = Instant::now();
            session.visit(batch, &[], |_, _, _| ())?;
            Ok(start.elapsed())
        };
        let mut all = vec![];
        for batch in pictures.timed(&TIMED)? {
            let mut best = [Duration::MAX; 2];
            for round in 0..=ROUNDS {
                let times = [time(&mut float, &batch)?, time(&mut found, &batch)?];
                // The first round allocates.
                if round > 0 {
                    best = [best[0].min(times[0]), best[1].min(times[1])];
                }
            }
            let [float32, found] = best.map(|time| time.as_secs_f64());
            all.push(Latency { batch: batch[0].1.dims()[0], float32, found });
        }
        Ok(all)
    }

    fn gate(&self, quality: &Quality, latency: &[Latency]) -> anyhow::Result<()> {
        let mut refused = vec![];
        let (found, least) = (quality.mean_cosine, self.how.least_cosine());
        if found.is_nan() || found < least {
            refused.push(format!(
                "the mean cosine against float32 is {found:.6} on {} pictures, {least} is needed (--min-cosine)",
                quality.pictures
            ));
        }
        if let Some(ranking) = &quality.ranking {
            for (what, [before, after]) in [("Rank-1", ranking.rank_1), ("mAP", ranking.map)] {
                if before - after > MOST_LOST {
                    refused.push(format!(
                        "{what} falls from {:.2} % to {:.2} %, {} points are allowed",
                        100.0 * before,
                        100.0 * after,
                        100.0 * MOST_LOST
                    ));
                }
            }
        }
        let slow = latency.iter().filter(|latency| latency.speed_up() < LEAST_SPEED_UP);
        let slow: Vec<String> = slow.map(|l| format!("{:.2}× at batch {}", l.speed_up(), l.batch)).collect();
        match (self.precision, self.how.target) {
            _ if slow.is_empty() => {}
            (Precision::Fp16, _) => terminal::note(&format!(
                "on this CPU it is {} as fast as float32: ONNX Runtime casts float16 back here; it is for GPUs",
                slow.join(", ")
            )),
            (_, Some(TargetName::Tensorrt)) => terminal::note(&format!(
                "on this CPU it is {} as fast as float32; it is made for TensorRT, where it was not timed",
                slow.join(", ")
            )),
            _ => refused.push(format!(
                "it is slower than float32 on this machine: {} as fast, {LEAST_SPEED_UP} is needed",
                slow.join(", ")
            )),
        }
        if refused.is_empty() {
            return Ok(());
        }
        let refused = refused.join("; ");
        if self.how.force {
            terminal::warn(&format!("{refused}; written because of --force"));
            return Ok(());
        }
        bail!("the {} model is refused: {refused}; --force writes it all the same", self.word())
    }
}

/// Refuses models whose inputs are not of single precision.
fn single(model: &ModelProto, path: &Path) -> anyhow::Result<()> {
    let graph = model.graph.as_ref();
    let constant = |name: &str| graph.is_some_and(|graph| graph.initializer.iter().any(|tensor| tensor.name == name));
    for input in graph.iter().flat_map(|graph| &graph.input).filter(|input| !constant(&input.name)) {
        let kind = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()).map(|tensor| tensor.elem_type);
        if kind != Some(onnx::DataType::Float as i32) {
            let kind = kind.and_then(|kind| onnx::DataType::try_from(kind).ok());
            let found = kind.map_or_else(|| "no tensor".to_owned(), |kind| format!("of type {kind:?}"));
            bail!("input `{}` of `{}` is {found}; float32 is needed", input.name, path.display());
        }
    }
    Ok(())
}

fn target_word(target: Target) -> &'static str {
    match target {
        Target::Cpu => "cpu",
        Target::TensorRt => "tensorrt",
    }
}

/// Largest plan in bytes: that of a network of 900 nodes has some 150 kB.
const LARGEST_PLAN: u64 = 64 << 20;

fn read_plan(path: &Path) -> anyhow::Result<PlanFile> {
    let text = files::read_text_limited(path, LARGEST_PLAN);
    let text = text.with_context(|| format!("the plan `{}` cannot be read", path.display()))?;
    let plan: PlanFile =
        serde_json::from_str(&text).with_context(|| format!("`{}` is no plan (`{PLAN}`)", path.display()))?;
    if plan.version != 1 {
        bail!("the plan `{}` has version {}, this program reads 1", path.display(), plan.version);
    }
    Ok(plan)
}

fn halves(model: &Prepared, ranges: &precision::Ranges) -> Converted {
    let half = precision::half(model, ranges);
    let nodes = model.nodes().map(|(node, operator)| {
        let island = half.islands.iter().find(|(name, _)| name == node);
        let (format, reason) = match island {
            Some((_, reason)) => ("fp32", reason.as_str()),
            None if half.nodes.iter().any(|name| name == node) => ("fp16", "in range"),
            None => ("fp32", "this operator stays"),
        };
        let (node, operator) = (node.to_owned(), operator.to_owned());
        NodeFact { node, operator, format: format.into(), reason: reason.into(), gain: None, loss: None }
    });
    Converted { nodes: nodes.collect(), target: "gpu", range: "minmax", weight_bits: 16, model: half.model.clone() }
}

/// Why nodes stayed, each reason once with its count.
fn reasons(nodes: &[NodeFact]) -> String {
    let mut counts: Vec<(&str, usize)> = vec![];
    for node in nodes {
        match counts.iter_mut().find(|(reason, _)| *reason == node.reason) {
            Some((_, count)) => *count += 1,
            None => counts.push((&node.reason, 1)),
        }
    }
    counts.into_iter().map(|(reason, count)| format!("{count} nodes: {reason}")).collect::<Vec<_>>().join(", ")
}

impl Done {
    /// Prints what was made.
    ///
    /// # Errors
    /// If stdout cannot be written.
    pub fn show(&self, format: Format) -> anyhow::Result<()> {
        if format == Format::Json {
            let facts = serde_json::json!({
                "model": self.model, "bytes": self.bytes, "float32_bytes": self.source_bytes,
                "precision": self.contract.precision, "quantisation": self.contract.quantisation,
                "quality": self.quality, "latency": self.plan.latency, "nodes": self.plan.nodes,
                "contract_id": self.contract.embedding.as_ref().map(|embedding| &embedding.contract_id),
            });
            terminal::show!("{facts}")?;
            return Ok(());
        }
        terminal::show!("{:<40} {:<22} {:<6} {:>8} {:>9}  why", "node", "operator", "format", "gain", "loss")?;
        for fact in &self.plan.nodes {
            let gain = fact.gain.map(|gain| format!("{:.2} %", 100.0 * gain)).unwrap_or_default();
            let loss = fact.loss.map(|loss| format!("{loss:.1e}")).unwrap_or_default();
            let (node, operator, reason) = (terminal::printable(&fact.node), &fact.operator, &fact.reason);
            terminal::show!("{node:<40} {operator:<22} {:<6} {gain:>8} {loss:>9}  {reason}", fact.format)?;
        }
        let Quality { pictures, mean_cosine, min_cosine, ranking } = &self.quality;
        terminal::show!("\ncosine on {pictures} other pictures: mean {mean_cosine:.5}, smallest {min_cosine:.5}")?;
        if let Some(ranking) = ranking {
            let [before, after] = ranking.rank_1.map(|value| 100.0 * value);
            terminal::show!("Rank-1 {before:.2} % → {after:.2} %")?;
            let [before, after] = ranking.map.map(|value| 100.0 * value);
            terminal::show!("mAP {before:.2} % → {after:.2} %")?;
        }
        for latency in &self.plan.latency {
            let (batch, times) = (latency.batch, [latency.float32, latency.found].map(|seconds| 1e3 * seconds));
            let speed_up = latency.speed_up();
            terminal::show!("batch {batch}: {:.2} ms → {:.2} ms, {speed_up:.2}×", times[0], times[1])?;
        }
        let [before, after] = [self.source_bytes, self.bytes].map(|bytes| bytes as f64 / 1e6);
        terminal::show!("{}  {before:.1} MB → {after:.1} MB", self.model.display())?;
        Ok(())
    }
}
