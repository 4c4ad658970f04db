//! Opens a model by its contract, tests it, and runs it.

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};

use contract::{Axis, ContractError, EmbeddingSpec, InputSpec, ModelContract, PictureSpec};
use ort::session::{RunOptions, Session, SessionInputValue};
use ort::value::{Outlet, ValueType};

use super::backend::{self, Backend, Declared, Wanted};
use super::engines::{self, Engines, Owner};
use super::facts::{GraphFacts, ModelFile, axes, facts, identity, model_files, port};
use super::library::Runtime;
use super::machine::{self, Machine};
use super::newest::too_new;
use super::oldest::{spatial, too_old};
use super::placement::Placement;
use super::pool::{Outputs, Pool};
use super::provider::{Provider, Setup, choose};
use super::self_test::{SelfTest, self_test};
use super::tensors::{self, Element};
#[cfg(feature = "rten")]
use super::tuning::Optimisation;
use super::tuning::{Tuned, Tuning};
use super::work::Work;
use crate::DeployError;

/// How a model is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// What runs it.
    pub runtime: Wanted,
    /// Where it runs.
    pub provider: Provider,
    /// Threads for everything together; 0 is one per core.
    pub threads: usize,
    /// Batches that run at the same time on the CPU, each with its share of the threads. One run of a small network
    /// does not use many cores well; several do.
    pub lanes: usize,
    /// Contract of a foreign model that carries none.
    pub contract: Option<PathBuf>,
    /// Whether the golden vectors are run at opening.
    pub self_test: bool,
    /// How threads and memory are spent.
    pub tuning: Tuning,
    /// Folder for what TensorRT builds; none is the user's cache. An error with another provider.
    pub engines: Option<PathBuf>,
    /// Told before TensorRT builds an engine.
    pub building: Option<Building>,
}

/// Called with a folder before TensorRT builds an engine into it, which takes minutes. What it returns is dropped when
/// that is done.
pub type Building = fn(&Path) -> Box<dyn Any>;

impl Default for Options {
    fn default() -> Self {
        Self {
            runtime: Wanted::Auto,
            provider: Provider::Auto,
            threads: 0,
            lanes: 1,
            contract: None,
            self_test: true,
            tuning: Tuning::default(),
            engines: None,
            building: None,
        }
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

/// What a model is opened by.
#[derive(Clone, Copy)]
pub(crate) enum By<'a> {
    /// Its own contract, or the one that the options name.
    Contract,
    /// A contract that is made from what the library says of the outputs.
    Draft(&'a dyn Fn(&[Outlet]) -> ModelContract),
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
    /// The execution provider that really runs; the CPU in rten.
    pub provider: Provider,
    /// Why `auto` did not take a faster provider, or another runtime than ONNX Runtime, where it tried.
    pub provider_note: Option<String>,
    /// Who runs which nodes; none on the CPU, which runs all. See [`Model::placement`].
    pub placed: Option<Placement>,
    /// How threads and memory are spent.
    pub tuned: Tuned,
    /// Threads of each session.
    pub threads: usize,
    /// What the self-test said.
    pub self_test: SelfTest,
    /// Facts about the graph.
    pub graph: GraphFacts,
    /// What runs it.
    pub runtime: Backend,
    /// Batches that run at the same time.
    pub lanes: usize,
    /// Type of each input's values in the graph, in the contract's order.
    elements: Vec<Element>,
    /// Rows of the largest batch that a run may have; more run in portions.
    most_rows: Option<usize>,
    /// Of ONNX Runtime.
    sessions: Pool,
    #[cfg(feature = "rten")]
    rten: Option<super::rten::Rten>,
}

/// The model file of a bundle.
pub(crate) const MODEL: &str = "model.onnx";

/// Most sessions opened side by side.
const MAX_LANES: usize = 8;

/// Most bytes of weights in all sessions together: each has a copy. A larger model has one session, whose runs use all
/// threads.
const LARGEST_SESSIONS: u64 = 1 << 30;

/// Sessions to open for `lanes` batches at a time of a model of `bytes`.
fn sessions(lanes: usize, threads: usize, bytes: u64) -> usize {
    let fit = usize::try_from(LARGEST_SESSIONS / bytes.max(1)).unwrap_or(MAX_LANES);
    lanes.min(threads).min(MAX_LANES).min(fit).max(1)
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("path", &self.path).field("provider", &self.provider).finish_non_exhaustive()
    }
}

impl Model {
    /// Opens the model file, or the `model.onnx` of the bundle folder, at `path`.
    ///
    /// The file is checked before ONNX Runtime sees it, weights beside it must be those that their name promises, the
    /// contract is compared with the graph, and the golden vectors are run.
    ///
    /// # Errors
    /// See [`DeployError`]. A provider that was asked for by name is one if it does not run, or leaves nodes to others
    /// that do more than compute with shapes.
    pub fn open(path: &Path, options: &Options) -> Result<Self, DeployError> {
        Self::open_as(path, options, By::Contract)
    }

    /// [`Model::open`], by the model's contract or by one that is still made.
    pub(crate) fn open_as(path: &Path, options: &Options, by: By<'_>) -> Result<Self, DeployError> {
        let path = model_file(path)?;
        let (file, bytes) = onnx::read(&path, &onnx::Limits::default())?;
        let files = model_files(&path, &bytes, &onnx::data_files(&file))?;
        let sha256 = identity(&files);
        let contract = match by {
            By::Contract => Some(read_contract(&path, &file, &sha256, options)?),
            By::Draft(_) => None,
        };
        let (runtime, note) = backend::choose(options.runtime, options.provider)?;
        spatial(&path, &file)?;
        let file_bytes = files.iter().map(|file| file.bytes).sum();
        // The checked bytes themselves, unless weights lie beside the file: then the runtime must know the folder.
        let source = if files.len() > 1 { Source::File(&path) } else { Source::Bytes(&path, &bytes) };
        let told = contract.as_ref().map(|contract| contract.input.as_slice()).unwrap_or_default();
        let opening = Opening { path: &path, file: &file, file_bytes, source, sha256: &sha256, inputs: told };
        let opened = match &runtime {
            Backend::OnnxRuntime(library) => opening.in_onnxruntime(library, options)?,
            Backend::Rten => opening.in_rten(options)?,
        };
        let contract = match (contract, by) {
            (Some(contract), _) => contract,
            (None, By::Draft(draft)) => draft(opened.session.as_ref().map(Session::outputs).unwrap_or_default()),
            (None, By::Contract) => return Err(DeployError::NoContract { path }),
        };
        let ports = |ports: &[Declared]| ports.iter().map(port).collect::<Vec<_>>();
        let [inputs, outputs] = &opened.ports;
        let graph = facts(&file, file_bytes, ports(inputs), ports(outputs));
        let mut model = Model {
            path: path.clone(),
            contract,
            sha256,
            files,
            provider: opened.provider,
            provider_note: note.or(opened.note),
            placed: None,
            tuned: opened.setup.0,
            threads: opened.setup.1.threads,
            self_test: SelfTest::Skipped,
            graph,
            runtime: runtime.clone(),
            lanes: opened.lanes,
            elements: Vec::new(),
            most_rows: opened.setup.1.engines.as_ref().and_then(Engines::most_rows),
            sessions: Pool::default(),
            #[cfg(feature = "rten")]
            rten: opened.rten,
        };
        model.elements = model.agree(inputs, outputs)?;
        if let Backend::Rten = &runtime {
            model.plain_inputs()?;
        }
        if let Some(session) = opened.session {
            model.sessions.put(session);
        }
        let placed = if model.provider == Provider::Cpu { None } else { Some(model.placement()?) };
        // An engine is built when a session opens or first runs.
        drop(opened.building);
        if let Some(missed) = placed.as_ref().and_then(|placed| placed.missed(options.provider)) {
            let provider = options.provider.to_string();
            return Err(DeployError::Placement { path, provider, missed });
        }
        let run = |inputs: &[&[f32]], rows: usize| model.run(inputs, rows, None);
        let self_test =
            if options.self_test { self_test(&model.path, &model.contract, run)? } else { SelfTest::Skipped };
        if let Backend::OnnxRuntime(library) = &runtime {
            let (tuned, setup) = &opened.setup;
            let open = || open_session(library, source, model.provider, *tuned, setup);
            let more = std::thread::scope(|scope| {
                let opening: Vec<_> = (1..model.lanes).map(|_| scope.spawn(open)).collect();
                let joined = opening.into_iter().map(|thread| thread.join().expect("opening a session does not panic"));
                joined.collect::<Result<Vec<_>, _>>()
            })?;
            more.into_iter().for_each(|session| model.sessions.put(session));
        }
        Ok(Model { placed, self_test, ..model })
    }

    /// What runs the model, for people: the execution provider, or the runtime that has none.
    pub fn runs_on(&self) -> String {
        match &self.runtime {
            Backend::OnnxRuntime(_) => self.provider.to_string(),
            Backend::Rten => self.runtime.name().to_owned(),
        }
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

    /// What galleries of the model are pinned to.
    pub fn pin(&self, spec: &EmbeddingSpec) -> ::gallery::Model {
        ::gallery::Model {
            contract_id: spec.contract_id.clone(),
            dim: spec.dim,
            architecture: self.contract.architecture.clone(),
            sha256: self.sha256.clone(),
        }
    }

    /// Runs a batch of normalised pictures, a slice for each input: the output the embedding is made from, or the
    /// first.
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

    /// Runs a batch: `inputs` in the contract's order, each `[rows, ..]`; the outputs by name, each with its shape.
    /// `only` leaves out every other output.
    ///
    /// # Errors
    /// If a length does not fit, an output is missing or ONNX Runtime fails.
    pub fn run(&self, inputs: &[&[f32]], rows: usize, only: Option<&str>) -> Result<Outputs, DeployError> {
        self.run_with(inputs, rows, &Ask { only, options: None })
    }

    /// Who runs which nodes, told by a run on one row of zeros.
    ///
    /// # Errors
    /// As [`Model::run`], and if the profile of the run cannot be written to the folder for temporary files.
    pub fn placement(&self) -> Result<Placement, DeployError> {
        if let Backend::Rten = self.runtime {
            return Ok(Placement::alone(self.runtime.name(), &self.graph.nodes));
        }
        self.profiled(1, Placement::in_folder)
    }

    /// What a run on `rows` rows computes, with what the layouts of [`super::Optimisation::All`] add to fill up
    /// vectors; none in rten, which does not tell the sizes of values.
    ///
    /// # Errors
    /// As [`Model::placement`].
    pub fn work(&self, rows: usize) -> Result<Option<Work>, DeployError> {
        match self.runtime {
            Backend::OnnxRuntime(_) => self.profiled(rows, Work::in_folder).map(Some),
            Backend::Rten => Ok(None),
        }
    }

    /// What `read` finds in the profile of a run on zeros.
    fn profiled<T>(&self, rows: usize, read: impl Fn(&Path) -> std::io::Result<T>) -> Result<T, DeployError> {
        let zeros = |input: &InputSpec| vec![0.0; rows * input.row().map_or(0, |row| row.iter().product())];
        let zeros: Vec<Vec<f32>> = self.contract.input.iter().map(zeros).collect();
        let zeros: Vec<&[f32]> = zeros.iter().map(Vec::as_slice).collect();
        let unwritten = |source| DeployError::Write { path: std::env::temp_dir(), source };
        let folder = tempfile::tempdir().map_err(unwritten)?;
        let mut profiled = RunOptions::new().map_err(|source| self.failed(source))?;
        profiled.enable_profiling(folder.path().join("run")).map_err(|source| self.failed(source))?;
        self.run_with(&zeros, rows, &Ask { only: None, options: Some(&profiled) })?;
        read(folder.path()).map_err(unwritten)
    }

    fn failed(&self, source: ort::Error) -> DeployError {
        DeployError::Runtime { what: format!("run model `{}`", self.path.display()), source }
    }

    fn run_with(&self, inputs: &[&[f32]], rows: usize, ask: &Ask<'_>) -> Result<Outputs, DeployError> {
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
            Some(Axis::Size(size)) => Some(*size),
            _ => None,
        };
        let portions = portions(rows, fixed, self.most_rows);
        if let [Portion { run, .. }] = portions[..]
            && run == rows
        {
            return self.run_batch(inputs, rows, ask);
        }
        let mut all = Outputs::new();
        for Portion { start, used, run } in portions {
            let portion = inputs.iter().zip(&row).map(|(values, size)| {
                let mut padded = values[start * size..(start + used) * size].to_vec();
                padded.resize(run * size, 0.0);
                padded
            });
            let portion: Vec<_> = portion.collect();
            let portion: Vec<_> = portion.iter().map(Vec::as_slice).collect();
            for (name, (mut shape, mut values)) in self.run_batch(&portion, run, ask)? {
                values.truncate(values.len() / run * used);
                if let Some(first) = shape.first_mut() {
                    *first = rows;
                }
                all.entry(name).or_insert((shape, Vec::new())).1.append(&mut values);
            }
        }
        Ok(all)
    }

    /// Runs one session of the pool on lengths that are known to fit.
    fn run_batch(&self, inputs: &[&[f32]], rows: usize, ask: &Ask<'_>) -> Result<Outputs, DeployError> {
        let Ask { only, options } = *ask;
        let failed = |source| self.failed(source);
        #[cfg(feature = "rten")]
        if let Some(rten) = &self.rten {
            return self.run_in_rten(rten, inputs, rows, only);
        }
        let mut named: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for ((spec, values), element) in self.contract.input.iter().zip(inputs).zip(&self.elements) {
            let value = tensors::input(spec, *element, rows, values).map_err(failed)?;
            named.push((spec.name.as_str(), value));
        }
        let plain = if options.is_none() { Some(RunOptions::new().map_err(failed)?) } else { None };
        let options = options.or(plain.as_ref()).expect("the one or the other is there");
        let mut session = self.sessions.take();
        let outputs = session.run(named, options).map_err(failed)?;
        let mut all = Outputs::new();
        for output in self.contract.output.iter().filter(|output| only.is_none_or(|only| only == output.name)) {
            let Some(value) = outputs.get(&output.name) else { return Err(missing(&output.name, self)) };
            all.insert(output.name.clone(), tensors::output(value).map_err(failed)?);
        }
        match only {
            Some(name) if all.is_empty() => Err(missing(name, self)),
            _ => Ok(all),
        }
    }

    #[cfg(feature = "rten")]
    fn run_in_rten(
        &self,
        rten: &super::rten::Rten,
        inputs: &[&[f32]],
        rows: usize,
        only: Option<&str>,
    ) -> Result<Outputs, DeployError> {
        let shape = |spec: &InputSpec| std::iter::once(rows).chain(spec.row().unwrap_or_default()).collect();
        let named = self.contract.input.iter().zip(inputs);
        let named: Vec<_> = named.map(|(spec, values)| (spec.name.as_str(), shape(spec), *values)).collect();
        let names = self.contract.output.iter().map(|output| output.name.as_str());
        let asked: Vec<&str> = names.filter(|name| only.is_none_or(|only| only == *name)).collect();
        match only {
            Some(name) if asked.is_empty() => Err(missing(name, self)),
            _ => rten.run(&self.path, &named, &asked),
        }
    }

    /// Fails if an input is not float32 in the order of the contract, which is all that rten is given.
    fn plain_inputs(&self) -> Result<(), DeployError> {
        for (input, element) in self.contract.input.iter().zip(&self.elements) {
            let last = input.picture.as_ref().is_some_and(PictureSpec::is_channels_last);
            if last || *element != Element::Float {
                let problem = format!("input `{}` is not float32 with the channels first", input.name);
                return Err(DeployError::Rten { path: self.path.clone(), problem });
            }
        }
        Ok(())
    }

    /// Compares what the graph declares with the contract. The type of each input.
    fn agree(&self, inputs: &[Declared], outputs: &[Declared]) -> Result<Vec<Element>, DeployError> {
        let names = |outlets: &[Declared]| format!("{:?}", outlets.iter().map(Declared::name).collect::<Vec<_>>());
        let declared = self.contract.input.iter().map(|input| ("input", &input.name, &input.shape));
        let declared =
            declared.chain(self.contract.output.iter().map(|output| ("output", &output.name, &output.shape)));
        let mut elements = Vec::new();
        // Converters write the batch of their example into the shape of an output, and leave that of the input open.
        let mut free_batch = false;
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
            match Element::of(*ty, kind == "input") {
                Ok(element) if kind == "input" => elements.push(element),
                Ok(_) => {}
                Err(allowed) => {
                    let found = format!("{ty:?}").to_lowercase();
                    return Err(disagree("the element type of ", allowed.into(), found));
                }
            }
            // -1 is an axis the graph leaves open, which a fixed size of the contract may narrow.
            let fits = |(declared, found): (&Axis, &i64)| match declared {
                Axis::Size(size) => *found == -1 || i64::try_from(*size) == Ok(*found),
                Axis::Symbol(_) => *found == -1,
            };
            free_batch |= kind == "input" && found.first() == Some(&-1);
            let example = kind == "output" && free_batch && found.first() == Some(&1);
            let skipped = usize::from(example && matches!(shape.first(), Some(Axis::Symbol(_))));
            if shape.len() != found.len() || !shape.iter().zip(found.iter()).skip(skipped).all(fits) {
                let mut has = format!("[{}]", port(outlet).shape.join(", "));
                // The usual mistake with foreign models: a graph made for one batch size.
                if let (Some(Axis::Symbol(_)), Some(size @ 0..)) = (shape.first(), found.first())
                    && shape.len() == found.len()
                    && shape.iter().zip(found.iter()).skip(1).all(fits)
                {
                    has += &format!(" (write {size} for the first axis of `{name}` in the contract)");
                }
                if kind == "input" && is_channels_last(shape, found) {
                    has += CHANNELS_LAST;
                }
                return Err(disagree("the shape of ", axes(shape), has));
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
            let sizes = output.and_then(|output| output.shape.get(1..)).unwrap_or_default();
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
        for (spec, element) in self.contract.input.iter().zip(&elements) {
            if *element == Element::Byte && !spec.picture.as_ref().is_some_and(PictureSpec::is_plain) {
                return Err(DeployError::Disagree {
                    path: self.path.clone(),
                    what: format!("the values of input `{}`", spec.name),
                    declared: spec.picture.as_ref().map_or("numbers".into(), |picture| {
                        format!("`range` {:?}, `mean` {:?}, `std` {:?}", picture.range, picture.mean, picture.std)
                    }),
                    found: "uint8, which takes each pixel's 0 to 255 (`range` [0, 255], every `mean` 0, every `std` 1)"
                        .into(),
                });
            }
        }
        Ok(elements)
    }
}

/// Advice for a graph that takes `[batch, height, width, channels]`.
const CHANNELS_LAST: &str = " (the channels are last: write `layout` \"NHWC\" and the shape in this order)";

/// Whether the graph has the contract's channels behind its height and width.
fn is_channels_last(declared: &[Axis], found: &[i64]) -> bool {
    let ([_, Axis::Size(channels), Axis::Size(height), Axis::Size(width)], [_, rest @ ..]) = (declared, found) else {
        return false;
    };
    let last = [height, width, channels];
    channels != width
        && rest.len() == 3
        && rest.iter().zip(last).all(|(found, size)| *found == -1 || *found == *size as i64)
}

fn missing(name: &str, model: &Model) -> DeployError {
    DeployError::Disagree {
        path: model.path.clone(),
        what: format!("output `{name}`"),
        declared: "it exists".into(),
        found: "no such output".into(),
    }
}

/// The file of the model at `path`: itself, or the `model.onnx` of a bundle's folder.
///
/// # Errors
/// If a folder has none, or one that leads elsewhere.
pub(crate) fn model_file(path: &Path) -> Result<PathBuf, DeployError> {
    /// Most bundles that are named.
    const MOST: usize = 20;
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let file = path.join(MODEL);
    if file.symlink_metadata().is_err() {
        let inside = std::fs::read_dir(path).map_err(|source| DeployError::Read { path: path.to_owned(), source })?;
        let inside = inside.flatten().filter(|entry| entry.path().join(MODEL).is_file());
        let mut bundles: Vec<String> = inside.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        bundles.sort();
        bundles.truncate(MOST);
        return Err(DeployError::NoBundle { path: path.to_owned(), bundles });
    }
    // A folder from elsewhere must not lead to other files; a file that is named may be any.
    files::resolve_inside(&file).map_err(|source| DeployError::Read { path: file.clone(), source })?;
    Ok(file)
}

/// What is asked of a run: one output or all, and ONNX Runtime's options, where they are not the usual ones.
struct Ask<'a> {
    only: Option<&'a str>,
    options: Option<&'a RunOptions>,
}

/// A checked model file on its way into a runtime.
struct Opening<'a> {
    path: &'a Path,
    file: &'a onnx::ModelProto,
    file_bytes: u64,
    source: Source<'a>,
    sha256: &'a str,
    /// Inputs of the contract; none while that is made.
    inputs: &'a [InputSpec],
}

/// A model in a runtime.
struct Opened {
    provider: Provider,
    note: Option<String>,
    setup: (Tuned, Setup),
    lanes: usize,
    /// Inputs and outputs.
    ports: [Vec<Declared>; 2],
    /// Of ONNX Runtime.
    session: Option<Session>,
    #[cfg(feature = "rten")]
    rten: Option<super::rten::Rten>,
    /// What was told that an engine is built.
    building: Option<Box<dyn Any>>,
}

impl Opening<'_> {
    fn in_onnxruntime(&self, runtime: &Runtime, options: &Options) -> Result<Opened, DeployError> {
        let Self { path, file, file_bytes, source, sha256, inputs } = *self;
        let threads = options.threads();
        let (provider, note) = choose(options.provider, runtime)?;
        // A device runs one batch at a time best; the threads decode meanwhile.
        let lanes = if provider == Provider::Cpu { sessions(options.lanes, threads, file_bytes) } else { 1 };
        let tuned = options.tuning.on(&Machine::read());
        let kept = engines(provider, options, sha256, inputs)?;
        let new = kept.as_ref().filter(|kept| !kept.built()).map(|kept| kept.folder.clone());
        let building = new.zip(options.building).map(|(folder, told)| told(&folder));
        let setup = Setup { threads: (threads / lanes).max(1), arena: tuned.arena, engines: kept };
        let session = open_session(runtime, source, provider, tuned, &setup);
        let session = session.map_err(|error| match too_new(runtime, path, file) {
            Some(newer) => newer,
            None => too_old(path, file, error),
        })?;
        let ports = [Declared::of_outlets(session.inputs()), Declared::of_outlets(session.outputs())];
        Ok(Opened {
            provider,
            note,
            setup: (tuned, setup),
            lanes,
            ports,
            session: Some(session),
            #[cfg(feature = "rten")]
            rten: None,
            building,
        })
    }

    #[cfg(feature = "rten")]
    fn in_rten(&self, options: &Options) -> Result<Opened, DeployError> {
        use super::rten::{From, Rten};
        let Self { path, file, source, .. } = *self;
        let tuning = options.tuning;
        let of_onnxruntime = [
            ("--spinning", tuning.spinning.is_some()),
            ("--arena", tuning.arena.is_some()),
            ("--optimisation", !matches!(tuning.optimisation, Optimisation::All | Optimisation::Off)),
            ("--engine-cache", options.engines.is_some()),
        ];
        if let Some((flag, _)) = of_onnxruntime.into_iter().find(|(_, given)| *given) {
            return Err(DeployError::Unused {
                flag,
                why: "rten, which runs the model, has no such setting".to_owned(),
            });
        }
        let from = match source {
            Source::File(path) => From::File(path),
            Source::Bytes(_, bytes) => From::Bytes(bytes),
        };
        let threads = options.threads();
        let rten = Rten::open(path, file, &from, threads, tuning.optimisation == Optimisation::All)?;
        Ok(Opened {
            provider: Provider::Cpu,
            note: None,
            setup: (tuning.on(&Machine::read()), Setup { threads, ..Setup::default() }),
            // All runs share the threads.
            lanes: options.lanes.min(threads).max(1),
            ports: super::rten::ports(file),
            session: None,
            rten: Some(rten),
            building: None,
        })
    }

    #[cfg(not(feature = "rten"))]
    fn in_rten(&self, _: &Options) -> Result<Opened, DeployError> {
        Err(DeployError::NotBuiltIn { what: "--runtime rten", feature: "rten" })
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
    tuned: Tuned,
    setup: &Setup,
) -> Result<Session, DeployError> {
    let (Source::File(path) | Source::Bytes(path, _)) = source;
    let failed = |source| DeployError::Runtime { what: format!("open model `{}`", path.display()), source };
    let builder = Session::builder(&runtime.environment).map_err(failed)?;
    let builder = tuned.apply(builder, setup.threads).map_err(failed)?;
    let mut builder = provider.register(builder, setup).map_err(|source| provider.refused(runtime, source))?;
    match source {
        Source::File(path) => builder.commit_from_file(path),
        Source::Bytes(_, bytes) => builder.commit_from_memory(bytes),
    }
    .map_err(failed)
}

/// Opens a graph of ours as a model is opened.
///
/// # Errors
/// [`DeployError::Runtime`] and [`DeployError::Provider`].
pub(super) fn open_bytes(
    runtime: &Runtime,
    bytes: &[u8],
    provider: Provider,
    tuned: Tuned,
    setup: &Setup,
) -> Result<Session, DeployError> {
    open_session(runtime, Source::Bytes(Path::new("a graph of our own"), bytes), provider, tuned, setup)
}

/// Where TensorRT keeps what it builds for this model; none for other providers.
fn engines(
    provider: Provider,
    options: &Options,
    sha256: &str,
    inputs: &[InputSpec],
) -> Result<Option<Engines>, DeployError> {
    let Provider::TensorRt(device) = provider else {
        return match &options.engines {
            Some(_) => Err(DeployError::Unused {
                flag: "--engine-cache",
                why: format!("only `tensorrt` builds engines, and the model runs on `{provider}`"),
            }),
            None => Ok(None),
        };
    };
    let why = || "neither XDG_CACHE_HOME nor HOME names a folder for what TensorRT builds".to_owned();
    let root = options.engines.clone().or_else(engines::usual_folder);
    let root = root.ok_or_else(|| DeployError::Needed { flag: "--engine-cache", why: why() })?;
    let gpus = machine::gpus().unwrap_or_default();
    // Registering has loaded it. Python packages leave the release out of its name; its size tells two apart.
    let tensorrt = onnxruntime::mapped("libnvinfer.so").map(|file| {
        let bytes = file.metadata().map_or(0, |facts| facts.len());
        format!("{} of {bytes} bytes", file.display())
    });
    let tensorrt = tensorrt.unwrap_or_default();
    let owner = Owner { gpu: gpus.get(usize::from(device)), tensorrt: &tensorrt, sha256 };
    let engines = Engines::new(&root, owner, inputs);
    engines.prepare(owner)?;
    Ok(Some(engines))
}

/// A part of a batch that runs by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Portion {
    /// Its first row.
    start: usize,
    /// Its rows.
    used: usize,
    /// Rows that run: zeros fill up a graph of a fixed batch.
    run: usize,
}

/// A batch of `rows`, cut for a graph of a `fixed` batch, or for one that takes at `most` so many rows.
fn portions(rows: usize, fixed: Option<usize>, most: Option<usize>) -> Vec<Portion> {
    let step = fixed.or(most).unwrap_or(rows).max(1);
    let portion = |start: usize| {
        let used = step.min(rows - start);
        Portion { start, used, run: fixed.unwrap_or(used) }
    };
    (0..rows).step_by(step).map(portion).collect()
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
            let text = files::read_text_limited(given, contract::LARGEST_FILE).map_err(unreadable)?;
            ModelContract::from_json(&text).map_err(malformed(given))?
        }
        (_, Some(given)) => return Err(DeployError::TwoContracts { path: path.to_owned(), given: given.clone() }),
        (own, None) => own.map_err(malformed(path))?,
    };
    if contract.embedding.as_ref().is_some_and(|embedding| embedding.contract_id.is_empty()) {
        // A contract written by hand cannot know the hash of the model.
        let id = contract.embedding_id(sha256);
        if let Some(embedding) = contract.embedding.as_mut() {
            embedding.contract_id = id.unwrap_or_default();
        }
    }
    Ok(contract)
}

#[cfg(test)]
mod tests {
    use super::{portions, sessions};

    #[test]
    fn batches_are_cut_for_graphs_that_take_fewer_rows() {
        let cut = |rows, fixed, most| {
            let portions = portions(rows, fixed, most);
            portions.iter().map(|portion| [portion.start, portion.used, portion.run]).collect::<Vec<_>>()
        };
        assert_eq!(cut(5, None, None), [[0, 5, 5]]);
        assert_eq!(cut(5, Some(2), None), [[0, 2, 2], [2, 2, 2], [4, 1, 2]]);
        assert_eq!(cut(2, Some(2), Some(64)), [[0, 2, 2]]);
        assert_eq!(cut(130, None, Some(64)), [[0, 64, 64], [64, 64, 64], [128, 2, 2]]);
        assert_eq!(cut(1, Some(4), None), [[0, 1, 4]]);
    }

    #[test]
    fn sessions_share_a_bound_on_copies_of_the_weights() {
        let mb = |megabytes: u64| megabytes << 20;
        assert_eq!([0, 10, 128, 129, 300, 600, 5000].map(|size| sessions(16, 16, mb(size))), [8, 8, 8, 7, 3, 1, 1]);
        assert_eq!((sessions(3, 16, mb(10)), sessions(16, 2, mb(10)), sessions(0, 0, mb(10))), (3, 2, 1));
    }
}
