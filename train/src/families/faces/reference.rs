//! Checkpoints of the reference: `train import --model`, and a PyTorch checkpoint behind `--resume`.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use burn::store::pytorch_reader::{PickleValue, PytorchReader};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::run::checkpoint::{self, Checkpoint, Record};
use crate::run::engine;
use crate::run::epoch::EpochRecord;
use crate::run::flags::ImportArgs;
use crate::run::optim::OptimizerConfig;
use crate::run::settings::{Settings, fields};
use crate::run::start::Adopted;
use crate::weights::StateDict;

/// Settings of a family whose checkpoints the reference writes.
pub trait Reference: Settings {
    /// The network in messages.
    const NAME: &'static str;

    /// The reference's figures of an epoch under our names.
    const NAMES: Names;

    /// Settings that the reference does not write down: its own.
    fn reference_defaults() -> Self;

    /// These settings, corrected by what the tensors show.
    ///
    /// # Errors
    /// What tensors are missing or cannot be trained with these settings.
    fn with_shapes_of(self, state: &StateDict) -> anyhow::Result<Self>;

    /// The network, filled from the file, and its record at epoch 0.
    ///
    /// # Errors
    /// Tensors that do not fit.
    fn load(&self, path: &Path) -> anyhow::Result<(StateDict, Record)>;

    /// How the run's gradients become steps.
    fn optimizer(&self) -> OptimizerConfig;
}

/// A figure of the reference, ours, and what it is multiplied by on the way.
pub type Renamed = (&'static str, &'static str, f64);

/// Which figures of the reference become which of ours.
pub struct Names {
    /// Training figures whose sum is the loss.
    pub total: &'static [&'static str],
    /// Training figures that are terms of the loss.
    pub terms: &'static [Renamed],
    /// Other training figures.
    pub figures: &'static [Renamed],
    /// Validation figures.
    pub metrics: &'static [Renamed],
    /// Training figures that we measure at validation.
    pub late: &'static [Renamed],
}

/// What a checkpoint of the reference holds besides weights and optimiser.
struct Foreign<S> {
    config: S,
    /// Finished epochs.
    epoch: usize,
    history: Vec<EpochRecord>,
}

/// Makes a checkpoint of foreign weights.
pub fn import<S: Reference>(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let foreign = Foreign::<S>::read(&args.weights)?;
    let (weights, record) = foreign.load(&args.weights)?;
    checkpoint::save_weights(&args.output, &weights, &record)?;
    terminal::show!("{}: {} of {} parameters", args.output.display(), S::NAME, weights.parameters())?;
    Ok(ExitCode::SUCCESS)
}

/// A PyTorch checkpoint behind `--resume`, as one of ours in a temporary folder. Its optimiser's moments and its best
/// value are not taken over.
pub fn adopt<S: Reference>(path: &Path) -> anyhow::Result<Option<Adopted>> {
    let foreign = Foreign::<S>::read(path)?;
    let (weights, record) = foreign.load(path)?;
    let state = engine::fresh_state(&foreign.config.optimizer())?;
    let place = std::env::temp_dir();
    let folder = files::TemporaryFolder::new_in(&place)
        .with_context(|| format!("cannot make a temporary folder in `{}`", place.display()))?;
    let ours = folder.path().join("adopted.safetensors");
    let record = Record { state_sha256: Some(hex::encode(Sha256::digest(&state))), ..record };
    files::write(&ours.with_extension("state"), state)?;
    checkpoint::save_weights(&ours, &weights, &record)?;
    terminal::tell!(
        "{}: a PyTorch checkpoint after epoch {}; its weights, settings and history are taken over, its optimiser's \
         moments and its best value are not: they start afresh",
        path.display(),
        foreign.epoch
    );
    Ok(Some(Adopted { checkpoint: Checkpoint::open(&ours)?, folder, history: foreign.history }))
}

impl<S: Reference> Foreign<S> {
    fn read(path: &Path) -> anyhow::Result<Self> {
        // First as weights, which refuses files that want to run code.
        let state = StateDict::read(path)?;
        if !state.origin().is_empty() {
            terminal::note(&format!("{}: {}", path.display(), state.origin()));
        }
        let pickle = PytorchReader::read_pickle_data(path, None).ok().map(plain);
        let entry = |name: &str| pickle.as_ref().and_then(|pickle| pickle.get(name)).cloned().unwrap_or_default();
        let mut values = fields(&S::reference_defaults());
        // Something has to stand there where nobody said what the data were.
        values.insert("data_dir".into(), "unknown".into());
        if let Value::Object(args) = entry("args") {
            for (key, value) in args {
                // Folders that are none are null there and empty here.
                if values.contains_key(&key) && !value.is_null() && value != "" {
                    values.insert(key, value);
                }
            }
        }
        let named = || format!("the settings in `{}` are not those of a run of {}", path.display(), S::NAME);
        let config: S = serde_json::from_value(Value::Object(values)).with_context(named)?;
        let config = config
            .with_shapes_of(&state)
            .with_context(|| format!("`{}` cannot be used as {}", path.display(), S::NAME))?;
        config.check().with_context(named)?;
        // Epochs are counted from 0 there, and named when they end.
        let epoch = entry("epoch").as_u64().map_or(0, |epoch| epoch as usize + 1);
        let history = history(&S::NAMES, &entry("train_metrics_history"), &entry("val_metrics_history"));
        Ok(Self { config, epoch, history })
    }

    fn load(&self, path: &Path) -> anyhow::Result<(StateDict, Record)> {
        let (weights, record) = self.config.load(path)?;
        Ok((weights, Record { epoch: self.epoch, ..record }))
    }
}

/// The reference's epochs under our names.
fn history(names: &Names, train: &Value, validation: &Value) -> Vec<EpochRecord> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let number = |metrics: &Value, key: &str| metrics[key].as_f64().filter(|value| value.is_finite());
    let take = |metrics: &Value, names: &[Renamed]| -> BTreeMap<String, f64> {
        let one = |(theirs, ours, factor): &Renamed| Some(((*ours).to_owned(), number(metrics, theirs)? * factor));
        names.iter().filter_map(one).collect()
    };
    let validation = list(validation);
    let record = |(at, train): (usize, Value)| EpochRecord {
        total: names.total.iter().filter_map(|name| number(&train, name)).sum(),
        terms: take(&train, names.terms),
        figures: take(&train, names.figures),
        metrics: {
            let mut metrics = take(validation.get(at).unwrap_or(&json!({})), names.metrics);
            metrics.extend(take(&train, names.late));
            metrics
        },
        ..EpochRecord::new(at + 1)
    };
    list(train).into_iter().enumerate().map(record).collect()
}

/// Numbers, texts, lists and dictionaries of a pickle; anything else is null.
fn plain(value: PickleValue) -> Value {
    match value {
        PickleValue::Bool(value) => value.into(),
        PickleValue::Int(value) => value.into(),
        PickleValue::Float(value) => value.into(),
        PickleValue::String(value) => value.into(),
        PickleValue::List(values) => values.into_iter().map(plain).collect(),
        PickleValue::Dict(entries) => {
            entries.into_iter().map(|(key, value)| (key, plain(value))).collect::<Map<_, _>>().into()
        }
        PickleValue::None | PickleValue::Bytes(_) | PickleValue::Unsupported(_) => Value::Null,
    }
}
