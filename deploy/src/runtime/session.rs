//! Opens a model by its contract, tests it, and runs it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use contract::{Axis, ContractError, EmbeddingSpec, ModelContract, PictureSpec};
use ort::ep;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionInputValue, SessionInputs};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};
use sha2::{Digest, Sha256};

use super::library::{self, Runtime};
use crate::DeployError;

/// Where a model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Provider {
    /// CUDA where it really runs, else the CPU; the model says which.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, by device number.
    Cuda(u16),
    /// TensorRT, by device number; operators it lacks run on CUDA.
    TensorRt(u16),
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Provider::Auto => f.write_str("auto"),
            Provider::Cpu => f.write_str("cpu"),
            Provider::Cuda(device) => write!(f, "cuda:{device}"),
            Provider::TensorRt(device) => write!(f, "tensorrt:{device}"),
        }
    }
}

impl std::str::FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let allowed = || format!("`{text}` is no provider; auto, cpu, cuda[:DEVICE] and tensorrt[:DEVICE] are allowed");
        let (name, device) = match text.split_once(':') {
            None => (text, None),
            Some((name, device)) => (name, Some(device.parse::<u16>().map_err(|_| allowed())?)),
        };
        match (name, device) {
            ("auto", None) => Ok(Provider::Auto),
            ("cpu", None) => Ok(Provider::Cpu),
            ("cuda", device) => Ok(Provider::Cuda(device.unwrap_or(0))),
            ("tensorrt", device) => Ok(Provider::TensorRt(device.unwrap_or(0))),
            _ => Err(allowed()),
        }
    }
}

impl Provider {
    /// Adds the provider to a session under construction; an error if it does not register.
    fn register(self, builder: SessionBuilder) -> Result<SessionBuilder, ort::Error> {
        let cuda = |device: u16| {
            // TensorFloat-32 would change embeddings in the third digit, and with them the gallery.
            ep::CUDA::default().with_device_id(device.into()).with_tf32(false).build().error_on_failure()
        };
        let providers = match self {
            // Without the arena every run asks the system for its memory again: an eighth of the time.
            Provider::Auto | Provider::Cpu => {
                vec![ep::CPU::default().with_arena_allocator(true).build().error_on_failure()]
            }
            Provider::Cuda(device) => vec![cuda(device)],
            Provider::TensorRt(device) => {
                let tensorrt = ep::TensorRT::default().with_device_id(device.into()).build().error_on_failure();
                vec![tensorrt, cuda(device)]
            }
        };
        Ok(builder.with_execution_providers(providers)?)
    }

    /// Whether the provider really registers with the loaded library; the error says why not.
    ///
    /// # Errors
    /// What ONNX Runtime says.
    pub fn probe(self, runtime: &Runtime) -> Result<(), ort::Error> {
        self.register(Session::builder(&runtime.environment)?).map(drop)
    }
}

/// How a model is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it runs.
    pub provider: Provider,
    /// Threads for everything together; 0 is one per core.
    pub threads: usize,
    /// Batches that run at the same time on the CPU, each with its share of the threads. One run of a small network does not
    /// use many cores well; several do.
    pub lanes: usize,
    /// Contract of a foreign model that carries none.
    pub contract: Option<PathBuf>,
    /// Whether the golden vectors are run at opening.
    pub self_test: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { provider: Provider::Auto, threads: 0, lanes: 1, contract: None, self_test: true }
    }
}

impl Options {
    /// Threads to use: those asked for, or one per core.
    pub fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        }
    }
}

/// What the self-test said.
#[derive(Debug, Clone, PartialEq)]
pub enum SelfTest {
    /// Every output is within the tolerance.
    Passed {
        /// Largest difference.
        max_diff: f32,
        /// Allowed difference.
        tolerance: f32,
        /// Compared values.
        values: usize,
    },
    /// The model has no golden vectors.
    NoGolden,
    /// It was not asked for.
    Skipped,
}

impl fmt::Display for SelfTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SelfTest::Passed { max_diff, tolerance, values } => {
                write!(f, "passed: {values} golden values within {max_diff:.1e} ({tolerance:.1e} allowed)")
            }
            SelfTest::NoGolden => f.write_str("not possible: the model carries no golden vectors"),
            SelfTest::Skipped => f.write_str("skipped"),
        }
    }
}

/// A value of the graph as the runtime sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Element type.
    pub element: String,
    /// Axes: sizes, symbols, or `?`.
    pub shape: Vec<String>,
}

/// Facts about the graph, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphFacts {
    /// Operator sets by domain.
    pub opset: BTreeMap<String, i64>,
    /// Nodes by operator.
    pub nodes: BTreeMap<String, usize>,
    /// Values in float initialisers.
    pub parameters: u64,
    /// Bytes of the model's files together.
    pub file_bytes: u64,
    /// Tool that wrote the file.
    pub producer: String,
    /// Inputs.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
}

/// A file that a model consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFile {
    /// Its name in the model's folder.
    pub name: String,
    /// SHA-256 of its content.
    pub sha256: String,
    /// Its size in bytes.
    pub bytes: u64,
}

/// An opened model.
pub struct Model {
    /// The model file.
    pub path: PathBuf,
    /// What it promises.
    pub contract: ModelContract,
    /// SHA-256 of the model file; where weights lie beside it, of the hashes of all [`Self::files`].
    pub sha256: String,
    /// The model file, and those beside it that hold weights.
    pub files: Vec<ModelFile>,
    /// The execution provider that really runs.
    pub provider: Provider,
    /// Why `auto` did not take a faster provider, where it tried one.
    pub provider_note: Option<String>,
    /// What the self-test said.
    pub self_test: SelfTest,
    /// Facts about the graph.
    pub graph: GraphFacts,
    /// The library it runs in.
    pub runtime: Runtime,
    /// Batches that run at the same time.
    pub lanes: usize,
    sessions: Pool,
}

/// Most sessions opened side by side: each has its own copy of the weights.
const MAX_LANES: usize = 8;

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("path", &self.path).field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Output values by name, each with its shape.
pub type Outputs = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

impl Model {
    /// Opens the model file, or the `model.onnx` of the bundle folder, at `path`.
    ///
    /// The file is checked before ONNX Runtime sees it, weights beside it must be those that their name promises, the contract is compared with the graph, and the golden vectors are
    /// run.
    ///
    /// # Errors
    /// See [`DeployError`]; a provider that was asked for and does not run is an error.
    pub fn open(path: &Path, options: &Options) -> Result<Self, DeployError> {
        let path = if path.is_dir() { path.join("model.onnx") } else { path.to_owned() };
        let (file, bytes) = onnx::read(&path, &onnx::Limits::default())?;
        let files = model_files(&path, &bytes, &onnx::data_files(&file))?;
        let sha256 = identity(&files);
        let contract = read_contract(&path, &file, &sha256, options)?;
        let runtime = library::load()?;

        let (threads, mut lanes) = (options.threads(), options.lanes.max(1));
        let (provider, provider_note) = choose(options.provider, &runtime)?;
        if provider != Provider::Cpu {
            // A device runs one batch at a time best; the threads decode meanwhile.
            lanes = 1;
        }
        let lanes = lanes.min(threads).min(MAX_LANES);
        // The checked bytes themselves, unless weights lie beside the file: then the runtime must know the folder.
        let source = if files.len() > 1 { Source::File(&path) } else { Source::Bytes(&path, &bytes) };
        let open = || open_session(&runtime, source, provider, (threads / lanes).max(1));
        let first = open()?;
        let ports = |outlets: &[Outlet]| outlets.iter().map(port).collect::<Vec<_>>();
        let file_bytes = files.iter().map(|file| file.bytes).sum();
        let graph = facts(&file, file_bytes, ports(first.inputs()), ports(first.outputs()));
        drop(file);
        let model = Model {
            path: path.clone(),
            contract,
            sha256,
            files,
            provider,
            provider_note,
            self_test: SelfTest::Skipped,
            graph,
            runtime: runtime.clone(),
            lanes,
            sessions: Pool::default(),
        };
        model.agree(first.inputs(), first.outputs())?;
        model.sessions.put(first);
        let self_test = if options.self_test { model.run_golden()? } else { SelfTest::Skipped };
        let more = std::thread::scope(|scope| {
            let opening: Vec<_> = (1..lanes).map(|_| scope.spawn(open)).collect();
            let joined = opening.into_iter().map(|thread| thread.join().expect("opening a session does not panic"));
            joined.collect::<Result<Vec<_>, _>>()
        })?;
        more.into_iter().for_each(|session| model.sessions.put(session));
        Ok(Model { self_test, ..model })
    }

    /// The error of a model that does something else than the `task`.
    pub(crate) fn lacks(&self, task: &'static str, problem: impl Into<String>) -> DeployError {
        let (architecture, family) = (self.contract.architecture.clone(), self.contract.family.clone());
        DeployError::Task { path: self.path.clone(), architecture, family, task, problem: problem.into() }
    }

    /// The picture inputs and the embedding, for models that have nothing else.
    ///
    /// # Errors
    /// [`DeployError::Task`] if the model does something else.
    pub fn embedding(&self) -> Result<(Vec<&PictureSpec>, &EmbeddingSpec), DeployError> {
        let lacks = |problem: &str| self.lacks("embed pictures", problem);
        let embedding = self.contract.embedding.as_ref().ok_or_else(|| lacks("its contract has no `embedding`"))?;
        let pictures: Option<Vec<_>> = self.contract.input.iter().map(|input| input.picture.as_ref()).collect();
        match pictures {
            Some(pictures) if !pictures.is_empty() => Ok((pictures, embedding)),
            _ => Err(lacks("a picture input is needed, it takes numbers")),
        }
    }

    /// Runs a batch of normalised pictures, a slice for each input: the output the embedding is made from, or the first.
    ///
    /// # Shapes
    /// - `batches`: `[rows, channels, height, width]` of each of the contract's inputs
    /// - returns: `[rows, ..]`
    ///
    /// # Errors
    /// As [`Model::run`].
    pub fn features(&self, batches: &[&[f32]], rows: usize) -> Result<Vec<f32>, DeployError> {
        let name = match &self.contract.embedding {
            Some(embedding) => &embedding.output,
            None => &self.contract.output[0].name,
        };
        Ok(self.run(batches, rows, Some(name))?.remove(name).map(|(_, values)| values).unwrap_or_default())
    }

    /// Runs a batch: `inputs` in the contract's order, each `[rows, ..]`; the outputs by name, each with its shape. `only` leaves
    /// out every other output.
    ///
    /// # Errors
    /// If a length does not fit, an output is missing or ONNX Runtime fails.
    pub fn run(&self, inputs: &[&[f32]], rows: usize, only: Option<&str>) -> Result<Outputs, DeployError> {
        let mut row = Vec::with_capacity(inputs.len());
        for (spec, values) in self.contract.input.iter().zip(inputs) {
            let size = spec.row().map_or(0, |row| row.iter().product());
            if values.len() != rows * size || rows == 0 {
                return Err(DeployError::Batch { rows, found: values.len(), needed: rows * size });
            }
            row.push(size);
        }
        if row.len() != self.contract.input.len() || row.len() != inputs.len() {
            let (found, needed) = (inputs.len(), self.contract.input.len());
            return Err(DeployError::Inputs { path: self.path.clone(), found, needed });
        }
        let fixed = match self.contract.input[0].shape.first() {
            Some(Axis::Size(size)) if *size != rows => *size,
            _ => return self.run_batch(inputs, rows, only),
        };
        // A graph of a fixed batch is fed in portions, the last one padded with zeros.
        let mut all = Outputs::new();
        for start in (0..rows).step_by(fixed) {
            let used = fixed.min(rows - start);
            let portion = inputs.iter().zip(&row).map(|(values, size)| {
                let mut padded = values[start * size..(start + used) * size].to_vec();
                padded.resize(fixed * size, 0.0);
                padded
            });
            let portion: Vec<_> = portion.collect();
            let portion: Vec<_> = portion.iter().map(Vec::as_slice).collect();
            for (name, (mut shape, mut values)) in self.run_batch(&portion, fixed, only)? {
                values.truncate(values.len() / fixed * used);
                if let Some(first) = shape.first_mut() {
                    *first = rows;
                }
                all.entry(name).or_insert((shape, Vec::new())).1.append(&mut values);
            }
        }
        Ok(all)
    }

    /// Runs one session of the pool on lengths that are known to fit.
    fn run_batch(&self, inputs: &[&[f32]], rows: usize, only: Option<&str>) -> Result<Outputs, DeployError> {
        let failed = |source| DeployError::Runtime { what: format!("run model `{}`", self.path.display()), source };
        let mut named = Vec::with_capacity(inputs.len());
        for (spec, values) in self.contract.input.iter().zip(inputs) {
            let shape: Vec<usize> = std::iter::once(rows).chain(spec.row().unwrap_or_default()).collect();
            let tensor = TensorRef::from_array_view((shape, *values)).map_err(failed)?;
            named.push((spec.name.as_str(), SessionInputValue::from(tensor)));
        }
        let mut session = self.sessions.take();
        let outputs = session.run(named).map_err(failed)?;
        let mut all = Outputs::new();
        for output in self.contract.output.iter().filter(|output| only.is_none_or(|only| only == output.name)) {
            let Some(value) = outputs.get(&output.name) else { return Err(missing(&output.name, self)) };
            let (shape, values) = value.try_extract_tensor::<f32>().map_err(failed)?;
            let shape = shape.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
            all.insert(output.name.clone(), (shape, values.to_vec()));
        }
        match only {
            Some(name) if all.is_empty() => Err(missing(name, self)),
            _ => Ok(all),
        }
    }

    /// Compares what the session declares with the contract.
    fn agree(&self, inputs: &[Outlet], outputs: &[Outlet]) -> Result<(), DeployError> {
        let names = |outlets: &[Outlet]| format!("{:?}", outlets.iter().map(Outlet::name).collect::<Vec<_>>());
        let declared = self.contract.input.iter().map(|input| ("input", &input.name, &input.shape));
        let declared =
            declared.chain(self.contract.output.iter().map(|output| ("output", &output.name, &output.shape)));
        for (kind, name, shape) in declared {
            let outlets = if kind == "input" { inputs } else { outputs };
            let disagree = |what: &str, declared: String, found: String| DeployError::Disagree {
                path: self.path.clone(),
                what: format!("{what}{kind} `{name}`"),
                declared,
                found,
            };
            let Some(outlet) = outlets.iter().find(|outlet| outlet.name() == name) else {
                return Err(disagree("", "it exists".into(), names(outlets)));
            };
            let ValueType::Tensor { ty, shape: found, .. } = outlet.dtype() else {
                return Err(disagree("the type of ", "a tensor".into(), format!("{:?}", outlet.dtype())));
            };
            if *ty != TensorElementType::Float32 {
                return Err(disagree("the element type of ", "float32".into(), format!("{ty:?}")));
            }
            // -1 is an axis the graph leaves open, which a fixed size of the contract may narrow.
            let fits = |(declared, found): (&Axis, &i64)| match declared {
                Axis::Size(size) => *found == -1 || i64::try_from(*size) == Ok(*found),
                Axis::Symbol(_) => *found == -1,
            };
            if shape.len() != found.len() || !shape.iter().zip(found.iter()).all(fits) {
                return Err(disagree("the shape of ", axes(shape), format!("[{}]", port(outlet).shape.join(", "))));
            }
        }
        if inputs.len() != self.contract.input.len() {
            return Err(DeployError::Disagree {
                path: self.path.clone(),
                what: "the inputs".into(),
                declared: format!("{:?}", self.contract.input.iter().map(|input| &input.name).collect::<Vec<_>>()),
                found: names(inputs),
            });
        }
        if let Some(embedding) = &self.contract.embedding {
            let output = self.contract.output.iter().find(|output| output.name == embedding.output);
            let sizes = output.map(|output| &output.shape[1..]).unwrap_or_default();
            let per_row = sizes.iter().try_fold(1, |product, axis| match axis {
                Axis::Size(size) => Some(product * size),
                Axis::Symbol(_) => None,
            });
            let parts = if let [_, Axis::Size(parts)] = sizes { *parts } else { 1 };
            if per_row != Some(embedding.dim) || (parts != embedding.parts && embedding.parts != 1) {
                return Err(DeployError::Disagree {
                    path: self.path.clone(),
                    what: format!("the embedding made from output `{}`", embedding.output),
                    declared: format!("{} values in {} parts", embedding.dim, embedding.parts),
                    found: axes(output.map(|output| output.shape.as_slice()).unwrap_or_default()),
                });
            }
        }
        Ok(())
    }

    /// Runs the golden input and compares the stored outputs.
    fn run_golden(&self) -> Result<SelfTest, DeployError> {
        let Some(golden) = &self.contract.golden else { return Ok(SelfTest::NoGolden) };
        let wrong = |problem: String| DeployError::Golden { path: self.path.clone(), problem };
        if golden.output.is_empty() || !golden.tolerance.is_finite() || golden.tolerance <= 0.0 {
            return Err(wrong("have no output or no tolerance above 0".into()));
        }
        let mut inputs = Vec::new();
        for spec in &self.contract.input {
            let Some((_, values)) = golden.input(spec) else {
                let size = spec.row().unwrap_or_default();
                return Err(wrong(format!(
                    "use blocks of {}, which do not tile input `{}` {size:?}",
                    golden.block, spec.name
                )));
            };
            inputs.push(values);
        }
        let inputs: Vec<_> = inputs.iter().map(Vec::as_slice).collect();
        let outputs = self.run(&inputs, golden.batch, None)?;
        let (mut worst, mut values) = (0.0f32, 0);
        for (name, expected) in &golden.output {
            let Some((shape, found)) = outputs.get(name) else {
                return Err(wrong(format!("name output `{name}`, which the contract does not have")));
            };
            if expected.len() != found.len().div_ceil(golden.every) {
                let (stored, every) = (expected.len(), golden.every);
                return Err(wrong(format!(
                    "have {stored} values of output `{name}` {shape:?}, every {every} is stored"
                )));
            }
            let compared = expected.iter().zip(found.iter().step_by(golden.every));
            let differences: Vec<f32> = compared.map(|(expected, found)| (expected - found).abs()).collect();
            let max_diff = largest(differences.iter().copied());
            let wrong = |diff: &f32| diff.is_nan() || *diff > golden.tolerance;
            if let Some(at) = differences.iter().position(wrong) {
                return Err(DeployError::SelfTest {
                    path: self.path.clone(),
                    output: name.clone(),
                    max_diff,
                    at: at * golden.every,
                    tolerance: golden.tolerance,
                });
            }
            worst = worst.max(max_diff);
            values += expected.len();
        }
        Ok(SelfTest::Passed { max_diff: worst, tolerance: golden.tolerance, values })
    }
}

/// The largest difference; NaN if any is.
fn largest(differences: impl Iterator<Item = f32>) -> f32 {
    differences.fold(0.0, |worst, diff| if diff.is_nan() || worst.is_nan() { f32::NAN } else { worst.max(diff) })
}

fn missing(name: &str, model: &Model) -> DeployError {
    DeployError::Disagree {
        path: model.path.clone(),
        what: format!("output `{name}`"),
        declared: "it exists".into(),
        found: "no such output".into(),
    }
}

/// Sessions waiting for a batch.
#[derive(Default)]
struct Pool {
    idle: Mutex<Vec<Session>>,
    returned: Condvar,
}

/// A session out of the pool; goes back when dropped.
struct Taken<'a> {
    session: Option<Session>,
    pool: &'a Pool,
}

impl Pool {
    fn put(&self, session: Session) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        self.returned.notify_one();
    }

    fn take(&self) -> Taken<'_> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(session) = idle.pop() {
                return Taken { session: Some(session), pool: self };
            }
            idle = self.returned.wait(idle).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Taken<'_> {
    fn run<'s, 'i, 'v: 'i, const N: usize>(
        &'s mut self,
        inputs: impl Into<SessionInputs<'i, 'v, N>>,
    ) -> ort::Result<ort::session::SessionOutputs<'s>> {
        self.session.as_mut().expect("present until dropped").run(inputs)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.pool.put(session);
        }
    }
}

fn choose(asked: Provider, runtime: &Runtime) -> Result<(Provider, Option<String>), DeployError> {
    use ep::ExecutionProvider;
    let refused =
        |source| DeployError::Provider { provider: asked.to_string(), library: runtime.library.clone(), source };
    match asked {
        Provider::Auto => {
            if !matches!(ep::CUDA::is_available(), Ok(true)) {
                return Ok((Provider::Cpu, None));
            }
            // Compiled in does not mean that its driver and libraries are here.
            match Provider::Cuda(0).probe(runtime) {
                Ok(()) => Ok((Provider::Cuda(0), None)),
                Err(error) => Ok((Provider::Cpu, Some(format!("cuda does not run here: {error}")))),
            }
        }
        provider => provider.probe(runtime).map(|()| (provider, None)).map_err(refused),
    }
}

/// What a session is opened from; the path is for messages where bytes are given.
#[derive(Clone, Copy)]
enum Source<'a> {
    File(&'a Path),
    Bytes(&'a Path, &'a [u8]),
}

fn open_session(
    runtime: &Runtime,
    source: Source<'_>,
    provider: Provider,
    threads: usize,
) -> Result<Session, DeployError> {
    let (Source::File(path) | Source::Bytes(path, _)) = source;
    let failed = |source| DeployError::Runtime { what: format!("open model `{}`", path.display()), source };
    let build = || -> Result<SessionBuilder, ort::Error> {
        let builder = Session::builder(&runtime.environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?;
        Ok(builder)
    };
    let builder = provider.register(build().map_err(failed)?);
    let mut builder = builder.map_err(|source| DeployError::Provider {
        provider: provider.to_string(),
        library: runtime.library.clone(),
        source,
    })?;
    match source {
        Source::File(path) => builder.commit_from_file(path),
        Source::Bytes(_, bytes) => builder.commit_from_memory(bytes),
    }
    .map_err(failed)
}

/// The model file at `path` and those called `beside` in its folder; those that we named must hold what their name promises.
fn model_files(path: &Path, bytes: &[u8], beside: &[String]) -> Result<Vec<ModelFile>, DeployError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut all = vec![ModelFile { name, sha256: hex::encode(Sha256::digest(bytes)), bytes: bytes.len() as u64 }];
    for name in beside {
        let unreadable = |source| DeployError::Read { path: path.with_file_name(name), source };
        let (sha256, bytes) = files::sha256(&path.with_file_name(name)).map_err(unreadable)?;
        if let Some(promised) = files::promised_sha256(name).filter(|digits| !sha256.starts_with(*digits)) {
            let (path, file, promised) = (path.to_owned(), name.clone(), promised.to_owned());
            return Err(DeployError::Weights { path, file, promised, sha256 });
        }
        all.push(ModelFile { name: name.clone(), sha256, bytes });
    }
    Ok(all)
}

/// One hash for all files of a model.
fn identity(files: &[ModelFile]) -> String {
    match files {
        [only] => only.sha256.clone(),
        // The model file may have been renamed, the others it knows by name.
        [model, beside @ ..] => {
            let mut hash = Sha256::new_with_prefix(&model.sha256);
            beside.iter().for_each(|file| hash.update(format!("\n{}  {}", file.sha256, file.name)));
            hex::encode(hash.finalize())
        }
        [] => String::new(),
    }
}

/// The model's own contract, or the one given for a foreign model.
fn read_contract(
    path: &Path,
    file: &onnx::ModelProto,
    sha256: &str,
    options: &Options,
) -> Result<ModelContract, DeployError> {
    let entries = file.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
    let own = ModelContract::from_metadata(entries);
    let malformed = |path: &Path| {
        let path = path.to_owned();
        |source| DeployError::Contract { path, source }
    };
    let mut contract = match (own, &options.contract) {
        (Err(ContractError::Missing), None) => return Err(DeployError::NoContract { path: path.to_owned() }),
        (Err(ContractError::Missing), Some(given)) => {
            let unreadable = |source| DeployError::Read { path: given.clone(), source };
            let text = std::fs::read_to_string(given).map_err(unreadable)?;
            ModelContract::from_json(&text).map_err(malformed(given))?
        }
        (_, Some(given)) => return Err(DeployError::TwoContracts { path: path.to_owned(), given: given.clone() }),
        (own, None) => own.map_err(malformed(path))?,
    };
    if let Some(embedding) = contract.embedding.as_mut().filter(|embedding| embedding.contract_id.is_empty()) {
        // A contract written by hand cannot know the hash of the weights.
        embedding.contract_id = ModelContract::embedding_id(&contract.input, embedding, &contract.precision, sha256);
    }
    Ok(contract)
}

fn axes(shape: &[Axis]) -> String {
    let names = shape.iter().map(|axis| match axis {
        Axis::Size(size) => size.to_string(),
        Axis::Symbol(symbol) => symbol.clone(),
    });
    format!("[{}]", names.collect::<Vec<_>>().join(", "))
}

fn port(outlet: &Outlet) -> Port {
    let name = outlet.name().to_owned();
    let ValueType::Tensor { ty, shape, dimension_symbols } = outlet.dtype() else {
        return Port { name, element: format!("{:?}", outlet.dtype()), shape: Vec::new() };
    };
    let axis = |(size, symbol): (&i64, &String)| match (size, symbol.as_str()) {
        (-1, "") => "?".to_owned(),
        (-1, symbol) => symbol.to_owned(),
        (size, _) => size.to_string(),
    };
    Port { name, element: ty.to_string(), shape: shape.iter().zip(dimension_symbols.iter()).map(axis).collect() }
}

fn facts(file: &onnx::ModelProto, file_bytes: u64, inputs: Vec<Port>, outputs: Vec<Port>) -> GraphFacts {
    let mut nodes = BTreeMap::new();
    let graph = file.graph.as_ref();
    for node in graph.map(|graph| graph.node.as_slice()).unwrap_or_default() {
        *nodes.entry(node.op_type.clone()).or_default() += 1;
    }
    let floats = [onnx::DataType::Float, onnx::DataType::Float16, onnx::DataType::Bfloat16, onnx::DataType::Int8];
    let initialisers = graph.map(|graph| graph.initializer.as_slice()).unwrap_or_default();
    let weights = initialisers.iter().filter(|tensor| floats.iter().any(|float| *float as i32 == tensor.data_type));
    let domain = |domain: &str| if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() };
    GraphFacts {
        opset: file.opset_import.iter().map(|opset| (domain(&opset.domain), opset.version)).collect(),
        nodes,
        parameters: weights.map(|tensor| tensor.dims.iter().map(|size| size.unsigned_abs()).product::<u64>()).sum(),
        file_bytes,
        producer: format!("{} {}", file.producer_name, file.producer_version).trim().to_owned(),
        inputs,
        outputs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_by_name() {
        let good = [("auto", Provider::Auto), ("cpu", Provider::Cpu), ("cuda", Provider::Cuda(0))];
        for (text, provider) in good.into_iter().chain([("tensorrt:2", Provider::TensorRt(2))]) {
            assert_eq!(text.parse(), Ok(provider));
        }
        for text in ["", "gpu", "cpu:1", "cuda:x", "cuda:-1"] {
            assert!(text.parse::<Provider>().unwrap_err().contains("are allowed"), "{text}");
        }
    }

    #[test]
    fn nan_is_the_largest_difference() {
        assert_eq!(largest([0.5, 0.25].into_iter()), 0.5);
        assert!(largest([0.5, f32::NAN, 1.0].into_iter()).is_nan());
    }
}
