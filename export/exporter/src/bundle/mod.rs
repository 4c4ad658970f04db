//! The folder that leaves the exporter: `models-onnx/<name>/` with `model.onnx` and, beside it, `contract.json`,
//! `CARD.md` and `certificate.json`. It is replaced as one: whenever an export is killed, the old bundle is there or
//! the new one.

mod card;
pub mod certificate;
pub mod facts;
pub mod precision;
mod recheck;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use contract::{Axis, ContractError, KEY_PREFIX, ModelContract};
use files::lock::{Lock, LockError};
use files::{WriteError, together};
use graph::encode::Encoded;
use graph::run::Runtime;

use crate::error::ExportError;
use crate::model::ExportedModel;
use crate::verify::{Parity, Tolerance};

use card::{axes_text, card};
pub use certificate::Certificate;
pub use recheck::{Bundle, Check, Outcome};

/// What was written.
#[derive(Debug, Clone)]
pub struct Written {
    /// The folder.
    pub folder: PathBuf,
    /// The model file in it.
    pub model: PathBuf,
    /// The contract as it is in the file.
    pub contract: ModelContract,
    /// The comparison with Burn that came before writing.
    pub parity: Parity,
    /// Size of the model in bytes, weights beside it included.
    pub bytes: u64,
    /// What became of the calibrated thresholds of the bundle that was there.
    pub thresholds: Thresholds,
}

/// What became of calibrated thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thresholds {
    /// There were none.
    None,
    /// The new model gives the same embeddings: they hold for it too.
    Kept,
    /// The new model gives other embeddings: it is to be calibrated anew.
    Dropped,
}

/// The model file of a bundle.
pub const MODEL: &str = "model.onnx";

/// Rows of the golden vectors.
const GOLDEN_BATCH: usize = 2;

/// Edges of the golden input's blocks, the first that tiles is taken.
const GOLDEN_BLOCKS: [usize; 6] = [16, 8, 32, 4, 2, 1];

/// Completes the contract (golden vectors, contract id, exporter), verifies the encoded model and writes the bundle.
/// Nothing is written, and nothing that was there is touched, unless verification passes. The model has its contract
/// inside and decides which bundle is there: it takes its name by one rename, and the files beside it wait for it
/// (see [`files::together`]). Other files of the folder stay.
///
/// The caller fills in what only it knows: family, input and output meaning, embedding, training.
/// `exporter.checkpoint_sha256` is kept. Nothing that is written names a path of this machine.
///
/// # Errors
/// If the contract contradicts the model, verification fails, or a file cannot be written.
pub fn write(
    folder: &Path,
    model: &ExportedModel,
    contract: ModelContract,
    runtime: &Runtime,
) -> Result<Written, ExportError> {
    write_in_turn(folder, model, contract, runtime, |_| ())
}

/// [`write()`], for programs that say what they wait for: where another program is writing to the folder, `waits` is
/// called with who that is, before this one waits until it is done.
///
/// # Errors
/// As [`write()`].
pub fn write_in_turn(
    folder: &Path,
    model: &ExportedModel,
    contract: ModelContract,
    runtime: &Runtime,
    waits: impl FnOnce(&LockError),
) -> Result<Written, ExportError> {
    let mut contract = complete(model, contract)?;
    // Beside the place where the weights are going to be, so that they are written once.
    let existing = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let mut files = model.encode_in(existing, &contract.to_metadata())?;
    let comparison = model.compare(&files, runtime, Tolerance::default())?;
    let certificate = Certificate::new(model, &contract, &files, &comparison, runtime)?;
    let parity = comparison.parity;

    let path = folder.join(MODEL);
    let _lock = held(&path, waits)?;
    // After certifying: thresholds are no part of what is certified.
    let thresholds = carry_over(&path, &mut contract, &mut files.model)?;
    let bytes = files.bytes();
    let json = serde_json::to_string_pretty(&contract).expect("a contract is plain data") + "\n";
    let (card, certificate) = (card(model, &contract, &parity, bytes), certificate.to_json());
    let beside = contract::BESIDE.into_iter().zip([json.as_bytes(), card.as_bytes(), certificate.as_bytes()]);
    replace(&path, files, &beside.collect::<Vec<_>>())?;
    Ok(Written { folder: folder.to_owned(), model: path, contract, parity, bytes, thresholds })
}

/// Makes the folder of a bundle's model, waits for other programs that write to it, and settles what a killed one left.
fn held(model: &Path, waits: impl FnOnce(&LockError)) -> Result<Lock, ExportError> {
    let folder = model.parent().unwrap_or(Path::new("."));
    let unwritable = |source| WriteError { path: folder.to_owned(), source };
    files::make_folder(folder).map_err(unwritable)?;
    let lock = match Lock::take(folder) {
        Err(held @ LockError::Held { .. }) => {
            waits(&held);
            Lock::wait(folder)?
        }
        taken => taken?,
    };
    together::settle(model, &contract::BESIDE)?;
    Ok(lock)
}

/// Puts the thresholds of the model that is to be replaced into the new one, where they hold for it.
fn carry_over(path: &Path, contract: &mut ModelContract, model: &mut Vec<u8>) -> Result<Thresholds, ExportError> {
    let id = |contract: &ModelContract| contract.embedding.as_ref().map(|embedding| embedding.contract_id.clone());
    let before = onnx::read(path, &onnx::Limits::default()).ok();
    let before = before.and_then(|(model, _)| contract_of(&model).ok());
    match before.as_ref().and_then(|before| Some((before, before.threshold.clone()?))) {
        _ if contract.threshold.is_some() => Ok(Thresholds::None),
        None => Ok(Thresholds::None),
        Some((before, thresholds)) if id(before) == id(contract) => {
            contract.threshold = Some(thresholds);
            *model = with_thresholds(model, contract)?;
            Ok(Thresholds::Kept)
        }
        Some(_) => Ok(Thresholds::Dropped),
    }
}

/// The model file with the thresholds of its contract.
fn with_thresholds(model: &[u8], contract: &ModelContract) -> Result<Vec<u8>, ExportError> {
    let key = format!("{KEY_PREFIX}threshold");
    let Some((_, value)) = contract.to_metadata().into_iter().find(|(name, _)| *name == key) else {
        return Ok(model.to_vec());
    };
    onnx::with_metadata(model, &key, &value).map_err(|error| ExportError::Undecodable(Box::new(error)))
}

/// The contract inside a model.
fn contract_of(model: &onnx::ModelProto) -> Result<ModelContract, ContractError> {
    let entries = model.metadata_props.iter().map(|entry| (entry.key.as_str(), entry.value.as_str()));
    ModelContract::from_metadata(entries)
}

/// Writes a model file at `path`, after the data file that it may have beside it has been moved there, and removes
/// those that the replaced model named and no other model of the folder names. After a crash the old model or the new
/// one is there, each with the weights it names.
///
/// # Errors
/// If a file cannot be written; an old data file that cannot be removed is left.
pub fn write_model(path: &Path, model: Encoded) -> Result<(), WriteError> {
    replace(path, model, &[])
}

/// [`write_model`] with the files `beside` it, each a name and its content.
fn replace(path: &Path, model: Encoded, beside: &[(&str, &[u8])]) -> Result<(), WriteError> {
    // Only what the replaced model named: other models may lie in the same folder.
    let before =
        onnx::read(path, &onnx::Limits::default()).map(|(model, _)| onnx::data_files(&model)).unwrap_or_default();
    if let Some(data) = &model.data {
        files::move_to(&data.path(), &path.with_file_name(&data.name))?;
    }
    if let Err(error) = together::replace(path, &model.model, beside) {
        // New weights that no model names. The new model may be in place, and only a file beside it not.
        if let Some(data) = &model.data
            && named_by_models(path, None).is_some_and(|names| !names.contains(&data.name))
        {
            let _ = files::remove(&path.with_file_name(&data.name));
        }
        return Err(error);
    }
    let kept = model.data.as_ref().map(|data| data.name.as_str());
    let mut old =
        before.iter().filter(|name| files::promised_sha256(name).is_some() && Some(name.as_str()) != kept).peekable();
    if old.peek().is_none() {
        return Ok(());
    }
    // Equal weights have the same name, so that two models of a folder may share them.
    let Some(others) = named_by_models(path, path.file_name()) else { return Ok(()) };
    for name in old.filter(|name| !others.contains(name)) {
        // What is left over is litter, not an error.
        let _ = files::remove(&path.with_file_name(name));
    }
    Ok(())
}

/// Data files that models in the folder of `path` name, without the model called `except`; none where that cannot be
/// told of one of them.
fn named_by_models(path: &Path, except: Option<&OsStr>) -> Option<Vec<String>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut names = vec![];
    for entry in std::fs::read_dir(folder).ok()? {
        let other = entry.ok()?.path();
        let is_model = other.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("onnx"));
        if is_model && (except.is_none() || other.file_name() != except) {
            // Not checked whole: its data may be missing, and it names it all the same.
            let bytes = onnx::read_bytes(&other, &onnx::Limits::default()).ok()?;
            names.extend(onnx::named_files(&bytes, &onnx::Limits::default()).ok()?);
        }
    }
    Some(names)
}

fn complete(model: &ExportedModel, mut contract: ModelContract) -> Result<ModelContract, ExportError> {
    let refuse = |problem: String| Err(ExportError::Contract { problem });
    let names = |specs: Vec<(String, Vec<Axis>)>| specs;
    let (inputs, outputs) = (names(model.inputs()), names(model.outputs()));
    let declared: Vec<_> = contract.input.iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect();
    if declared != inputs {
        return refuse(format!("it declares inputs {}, the model has {}", listed(&declared), listed(&inputs)));
    }
    let declared: Vec<_> = contract.output.iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect();
    if declared != outputs {
        return refuse(format!("it declares outputs {}, the model has {}", listed(&declared), listed(&outputs)));
    }
    contract.exporter.version = env!("CARGO_PKG_VERSION").into();
    contract.exporter.opset = i64::from(model.opset());
    contract.exporter.burn = crate::BURN_VERSION.into();
    if contract.golden.is_none() {
        contract.golden =
            GOLDEN_BLOCKS.iter().find_map(|&block| model.golden(&contract.input, "golden", GOLDEN_BATCH, block).ok());
    }
    if let Some(output) = contract.embedding.as_ref().map(|embedding| embedding.output.clone()) {
        let id = contract.embedding_id(&model.network_sha256(&output)?);
        if let Some(embedding) = contract.embedding.as_mut() {
            embedding.contract_id = id.unwrap_or_default();
        }
    }
    match contract.check() {
        Ok(()) => Ok(contract),
        Err(error) => refuse(error.to_string()),
    }
}

fn listed(specs: &[(String, Vec<Axis>)]) -> String {
    specs.iter().map(|(name, axes)| format!("{name} {}", axes_text(axes))).collect::<Vec<_>>().join(", ")
}
