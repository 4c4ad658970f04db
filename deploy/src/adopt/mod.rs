//! Makes a bundle of somebody else's ONNX file: what its graph says is read, what it cannot say is asked for or taken
//! from a [`Preset`], what it does is found out by running it, and known answers are stored for the self-test.

mod card;
mod graph;
mod plan;
mod preset;
mod sheet;

use std::path::{Path, PathBuf};

use contract::{Axis, EmbeddingSpec, Exporter, Golden, InputSpec, ModelContract, OutputSpec, PictureSpec, Training};
use files::TemporaryFolder;
use ort::value::{Outlet, ValueType};

use crate::DeployError;
use crate::runtime::{By, MODEL, Mixed, Model, Options, Provider, Wanted, mixed, model_file};

pub use plan::{Fact, Wishes};
pub use preset::{PRESETS, Preset};
pub use sheet::{Channel, Sheet, sheet};

use plan::Plan;

/// Rows of the golden vectors.
const GOLDEN_BATCH: usize = 2;

/// Edges of the golden input's blocks, the first that tiles is taken.
const GOLDEN_BLOCKS: [usize; 6] = [16, 8, 32, 4, 2, 1];

/// Approximate number of elements that golden vectors store.
const GOLDEN_VALUES: usize = 256;

/// Most values of an embedding; more is a map of features that nobody has pooled.
const MOST_VALUES: usize = 1 << 15;

/// A bundle that is complete, tested, and does not have its place yet.
#[derive(Debug)]
pub struct Adopted {
    /// Its contract.
    pub contract: ModelContract,
    /// What was settled how.
    pub facts: Vec<Fact>,
    /// What its user should know.
    pub notes: Vec<String>,
    /// The model as it was opened from the bundle, on the CPU.
    pub model: Model,
    folder: TemporaryFolder,
}

/// Makes the bundle of the model file, or of the `model.onnx` in the folder, at `path`; it waits beside `out`.
///
/// # Errors
/// [`DeployError::Unsaid`] with all that is to be said, [`DeployError::Adopt`] where the graph is no embedder of one
/// picture or something contradicts it, [`DeployError::NotEmpty`] where `out` holds something, and as
/// [`Model::open`].
pub fn adopt(path: &Path, wishes: &Wishes, out: &Path) -> Result<Adopted, DeployError> {
    vacant(out)?;
    let file = model_file(path)?;
    let (model, bytes) = onnx::read(&file, &onnx::Limits::default())?;
    if model.metadata_props.iter().any(|entry| entry.key.starts_with(contract::KEY_PREFIX)) {
        let problem = format!("it carries a contract already; `deploy inspect {}` shows it", file.display());
        return Err(DeployError::Adopt { path: file, problem });
    }
    let mut plan = plan::plan(&file, &model, wishes)?;
    let (precision, opset) = (graph::precision(&model), graph::opset(&model));
    drop(model);
    let options = Options { runtime: Wanted::OnnxRuntime, provider: Provider::Cpu, ..Options::default() };
    let draft = |outputs: &[Outlet]| draft(&plan, outputs, precision, opset);
    let mut opened = Model::open_as(&file, &options, By::Draft(&draft))?;
    let mut notes = std::mem::take(&mut plan.notes);
    let contract = measure(&mut opened, &plan, &mut notes)?;
    let contract = ModelContract {
        training: Training { licence: wishes.licence.clone().unwrap_or_default(), ..Training::default() },
        ..contract
    };
    contract.check().map_err(|source| DeployError::Contract { path: file.clone(), source })?;
    let beside: Vec<String> = opened.files.iter().skip(1).map(|file| file.name.clone()).collect();
    drop(opened);

    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |source| DeployError::Write { path, source }
    };
    files::make_folder(parent).map_err(unwritable(parent))?;
    let folder = TemporaryFolder::new_in(parent).map_err(unwritable(parent))?;
    write(
        folder.path(),
        &file,
        &bytes,
        &beside,
        &contract,
        &card::card(&file, &contract, &plan.facts, &notes, wishes),
    )?;
    drop(bytes);
    let model = Model::open(folder.path(), &options)?;
    Ok(Adopted { contract, facts: plan.facts, notes, model, folder })
}

impl Adopted {
    /// Gives the bundle its place, a folder that is not there or empty.
    ///
    /// # Errors
    /// If something is there meanwhile, or it cannot be renamed.
    pub fn place(self, out: &Path) -> Result<(), DeployError> {
        vacant(out)?;
        let unwritable = |source| DeployError::Write { path: out.to_owned(), source };
        // An open model may keep files of the folder open, which not every system can rename then.
        drop(self.model);
        if out.is_dir() {
            std::fs::remove_dir(out).map_err(unwritable)?;
        }
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The folder was made for its maker alone.
        let permissions = std::fs::metadata(parent).map_err(unwritable)?.permissions();
        std::fs::set_permissions(self.folder.path(), permissions).map_err(unwritable)?;
        self.folder.persist(out).map_err(unwritable)
    }
}

fn vacant(out: &Path) -> Result<(), DeployError> {
    let read = |source| DeployError::Read { path: out.to_owned(), source };
    match std::fs::read_dir(out) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            // Says which part of the path is a file.
            files::make_folder(out).map_err(|source| DeployError::Write { path: out.to_owned(), source })
        }
        Err(error) => Err(read(error)),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => Err(DeployError::NotEmpty { path: out.to_owned() }),
        },
    }
}

/// The contract as far as it is known before the model has run.
fn draft(plan: &Plan, outputs: &[Outlet], precision: &str, opset: i64) -> ModelContract {
    // The library knows sizes that the file does not declare.
    let found = outputs.iter().find(|outlet| outlet.name() == plan.output).map(Outlet::dtype);
    let axis = |(at, size): (usize, &i64)| match usize::try_from(*size) {
        Ok(size) => Axis::Size(size),
        Err(_) if at == 0 => Axis::Symbol("batch".into()),
        Err(_) => Axis::Symbol(format!("axis {at}")),
    };
    let shape = match found {
        Some(ValueType::Tensor { shape, .. }) => shape.iter().enumerate().map(axis).collect(),
        _ => Vec::new(),
    };
    ModelContract {
        version: contract::VERSION,
        family: "foreign".into(),
        architecture: plan.name.clone(),
        input: vec![plan.input.clone()],
        output: vec![OutputSpec {
            name: plan.output.clone(),
            meaning: "features of the picture".into(),
            shape,
            unit_length: false,
            metric: "cosine".into(),
            picture: None,
            map: None,
        }],
        // How many values it has is not known before it has run.
        embedding: None,
        threshold: None,
        golden: None,
        precision: precision.into(),
        quantisation: None,
        training: Training::default(),
        exporter: Exporter { version: env!("CARGO_PKG_VERSION").into(), opset, ..Exporter::default() },
    }
}

/// Completes the draft by what the model gives for known pictures.
fn measure(model: &mut Model, plan: &Plan, notes: &mut Vec<String>) -> Result<ModelContract, DeployError> {
    let path = model.path.clone();
    let refuse = |problem: String| Err(DeployError::Adopt { path: path.clone(), problem });
    let Some((golden, pictures)) = golden(&model.contract.input[0]) else {
        return refuse(format!("a batch of its pictures has more than {} values", contract::LARGEST_GOLDEN));
    };
    let name = model.contract.output[0].name.clone();
    let run = |model: &Model| -> Result<(Vec<usize>, Vec<f32>), DeployError> {
        let mut outputs = model.run(&[&pictures], GOLDEN_BATCH, Some(&name))?;
        Ok(outputs.remove(&name).unwrap_or_default())
    };
    let free = matches!(model.contract.input[0].shape.first(), Some(Axis::Symbol(_)));
    // A graph made from an example of one picture may declare a free batch and not bear it.
    let alone = if free {
        let wrong = match run(model) {
            Err(error) => Some(terminal::sentence(&error)),
            Ok((shape, _)) if shape.first() != Some(&GOLDEN_BATCH) => {
                Some(format!("output `{name}` of two pictures has the shape {shape:?}"))
            }
            Ok(_) => mixed(model)?.map(|Mixed { difference, .. }| {
                format!("the features of a picture differ by up to {difference:.1e} with the picture beside it")
            }),
        };
        wrong.map(|wrong| format!("it runs one picture at a time: {wrong}"))
    } else {
        mixed(model)?.map(|mixed| mixed.to_string())
    };
    if let Some(note) = alone {
        if free {
            model.contract.input[0].shape[0] = Axis::Size(1);
        }
        notes.push(note);
    }
    let (shape, features) = run(model)?;
    let dim = features.len() / GOLDEN_BATCH;
    let row = shape.get(1..).unwrap_or_default();
    if row.iter().product::<usize>() != dim || !(2..=MOST_VALUES).contains(&dim) {
        return refuse(format!(
            "output `{name}` of two pictures has the shape {shape:?}; rows of 2 to {MOST_VALUES} values are embeddings"
        ));
    }
    if !features.iter().all(|value| value.is_finite()) {
        return refuse(format!("output `{name}` is not finite for pictures of blocks; is `--range` right?"));
    }
    let mut contract = model.contract.clone();
    let first = match (&contract.input[0].shape[0], contract.output[0].shape.first()) {
        (Axis::Symbol(_), _) => Axis::Symbol("batch".into()),
        (Axis::Size(_), Some(Axis::Size(declared))) => Axis::Size(*declared),
        (Axis::Size(size), _) => Axis::Size(*size),
    };
    let output = &mut contract.output[0];
    output.shape = std::iter::once(first).chain(row.iter().copied().map(Axis::Size)).collect();
    let length = |row: &[f32]| row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    output.unit_length = features.chunks_exact(dim).all(|row| (length(row) - 1.0).abs() < 1e-3);
    contract.embedding =
        Some(EmbeddingSpec { output: name.clone(), dim, parts: 1, flip: plan.flip, contract_id: String::new() });
    if let [one, other] = features.chunks_exact(dim).collect::<Vec<_>>()[..] {
        let dot: f64 = one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum();
        let cosine = dot / (length(one) * length(other));
        if cosine.is_nan() || cosine > 0.9999 {
            notes.push(format!(
                "two different test pictures have the cosine similarity {cosine:.6}: `--range`, `--mean` or `--std` \
                 may be wrong, or the weights untrained"
            ));
        }
    }
    let every = features.len().div_ceil(GOLDEN_VALUES).max(1);
    let stored: Vec<f32> = features.iter().step_by(every).copied().collect();
    let largest = features.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
    let tolerance = largest * if plan.half { tolerance("fp16") } else { tolerance(&contract.precision) };
    contract.golden = Some(Golden { tolerance, every, output: [(name, stored)].into(), ..golden });
    contract.exporter.checkpoint_sha256 = model.sha256.clone();
    let id = contract.embedding_id(&model.sha256);
    if let Some(embedding) = contract.embedding.as_mut() {
        embedding.contract_id = id.unwrap_or_default();
    }
    Ok(contract)
}

/// Golden vectors without answers, and their pictures; none where these would be too large.
fn golden(input: &InputSpec) -> Option<(Golden, Vec<f32>)> {
    let of = |block: usize| Golden {
        seed: "golden".into(),
        batch: GOLDEN_BATCH,
        block,
        pixels: true,
        tolerance: 1.0,
        every: 1,
        output: Default::default(),
    };
    GOLDEN_BLOCKS.iter().find_map(|block| of(*block).input(input).map(|(_, pictures)| (of(*block), pictures)))
}

/// Difference that another machine may make, as a share of the largest value. In single precision runtimes differ by
/// about 1e-6 and a wrong weight by more than 1e-2; half precision has a thousandth of it in each value; and integer
/// kernels of processors with and without VNNI round and saturate differently.
fn tolerance(precision: &str) -> f32 {
    match precision {
        "fp32" => 1e-3,
        "fp16" => 2e-2,
        _ => 1e-1,
    }
}

/// Writes the files of the bundle into the empty `folder`.
fn write(
    folder: &Path,
    from: &Path,
    model: &[u8],
    beside: &[String],
    contract: &ModelContract,
    card: &str,
) -> Result<(), DeployError> {
    for name in beside {
        let (source, target) = (from.with_file_name(name), folder.join(name));
        if contract::BESIDE.iter().chain([&MODEL]).any(|taken| taken.eq_ignore_ascii_case(name)) {
            let problem = format!("its data file `{name}` has the name of another file of the bundle");
            return Err(DeployError::Adopt { path: from.to_owned(), problem });
        }
        let read = |source| DeployError::Read { path: from.with_file_name(name), source };
        std::fs::copy(files::resolve_inside(&source).map_err(read)?, &target)
            .map_err(|source| DeployError::Write { path: target, source })?;
    }
    let mut bytes = model.to_vec();
    for (key, value) in contract.to_metadata() {
        bytes = onnx::with_metadata(&bytes, &key, &value).map_err(|source| {
            let found = model.len() as u64;
            DeployError::from(onnx::ModelFileError::Malformed { path: from.to_owned(), found, source })
        })?;
    }
    let json = serde_json::to_string_pretty(contract);
    let json = json.map_err(|source| DeployError::Json { path: folder.join(contract::BESIDE[0]), source })? + "\n";
    let [contract, card_name, _] = contract::BESIDE;
    for (name, bytes) in [(MODEL, bytes.as_slice()), (contract, json.as_bytes()), (card_name, card.as_bytes())] {
        files::write(&folder.join(name), bytes)?;
    }
    Ok(())
}

/// A choice of the contract in the contract's own word: `rgb`.
pub(crate) fn word(choice: &impl serde::Serialize) -> String {
    serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// `[batch, 3, 256, 128]`.
fn shape_text(shape: &[Axis]) -> String {
    let axes = shape.iter().map(|axis| match axis {
        Axis::Size(size) => size.to_string(),
        Axis::Symbol(symbol) => symbol.clone(),
    });
    format!("[{}]", axes.collect::<Vec<_>>().join(", "))
}

/// The picture of an adopted model's only input.
fn picture(contract: &ModelContract) -> Option<&PictureSpec> {
    contract.input.first()?.picture.as_ref()
}

/// Where the contact sheet goes unless it is said: beside the bundle, which is given to others and must not take
/// people's pictures along.
pub fn sheet_beside(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or(out.as_os_str()).to_owned();
    name.push(".png");
    out.with_file_name(name)
}
