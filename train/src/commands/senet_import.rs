//! SENet weights of the reference: `train import --model SENet`, and a PyTorch checkpoint behind `--resume`.

use std::path::Path;

use anyhow::Context;
use burn::store::pytorch_reader::{PickleValue, PytorchReader};
use burn::tensor::Device;
use contract::files;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use train::checkpoint::{self, Checkpoint, CheckpointError, Record};
use train::config::SenetConfig;
use train::engine;
use train::history::EpochRecord;
use train::model::StateDict;
use train::model::senet::{SenetTripletNetwork, load, senet_of};
use train::task::senet::{self, FAMILY, SenetTask};

use super::run;
use crate::cli::settings::fields;
use crate::cli::{ImportArgs, RunArgs};

/// What a checkpoint of the reference holds besides weights and optimiser.
struct Foreign {
    config: SenetConfig,
    /// Finished epochs.
    epoch: usize,
    history: Vec<EpochRecord>,
}

/// Makes a checkpoint of foreign weights.
pub fn import(args: &ImportArgs) -> anyhow::Result<()> {
    let foreign = Foreign::read(&args.weights)?;
    let (net, record) = foreign.network(&args.weights)?;
    checkpoint::save_weights(&args.output, &StateDict::of(&net), &record)?;
    println!("{}: SENet of {} parameters", args.output.display(), StateDict::of(&net).parameters());
    Ok(())
}

/// Where `--resume` names a checkpoint that PyTorch wrote, writes one of ours beside it, or in the run directory that was asked for, and
/// resumes from that. Returns the epochs it tells of.
pub fn replace_foreign(args: &mut RunArgs) -> anyhow::Result<Vec<EpochRecord>> {
    let Some(path) = args.resume.clone().filter(|path| path.is_file()) else { return Ok(Vec::new()) };
    match Checkpoint::open(&path) {
        Err(CheckpointError::NoRecord { .. }) => {}
        _ => return Ok(Vec::new()),
    }
    let foreign = Foreign::read(&path)?;
    let (net, record) = foreign.network(&path)?;
    let settings = senet::settings(&foreign.config, 1);
    let state = engine::fresh_state(&settings.optimizer)?;
    let folder = args.save_dir.clone().unwrap_or_else(|| path.parent().map(Path::to_owned).unwrap_or_default());
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let ours = folder.join(format!("{stem}.imported.safetensors"));
    let record = Record { state_sha256: Some(contract::hex(&Sha256::digest(&state))), ..record };
    files::write(&ours.with_extension("state"), state)?;
    checkpoint::save_weights(&ours, &StateDict::of(&net), &record)?;
    eprintln!(
        "{}: a PyTorch checkpoint after epoch {}; its weights, settings and history are taken over as {}, its optimiser's moments and its \
         best value are not: they start anew",
        path.display(),
        foreign.epoch,
        ours.display()
    );
    args.resume = Some(ours);
    Ok(foreign.history)
}

impl Foreign {
    fn read(path: &Path) -> anyhow::Result<Self> {
        // First as weights, which refuses files that want to run code.
        let state = StateDict::read(path)?;
        let pickle = PytorchReader::read_pickle_data(path, None).ok().map(plain);
        let entry = |name: &str| pickle.as_ref().and_then(|pickle| pickle.get(name)).cloned().unwrap_or_default();
        let mut values = fields(&SenetConfig::default());
        if let Value::Object(args) = entry("args") {
            for (key, value) in args {
                if values.contains_key(&key) && !value.is_null() {
                    values.insert(key, value);
                }
            }
        }
        let named = || format!("the settings in `{}` are not those of a SENet run", path.display());
        let config: SenetConfig = serde_json::from_value(Value::Object(values)).with_context(named)?;
        // What the tensors show beats what was written down.
        let shown = senet_of(&state, &SenetTask::network(&config))
            .map_err(|problem| anyhow::anyhow!("`{}` holds no SENet: {problem}", path.display()))?;
        let config = SenetConfig {
            data_dir: if config.data_dir.is_empty() { "unknown".into() } else { config.data_dir },
            image_dim: shown.image_dim,
            pose_dim: shown.pose_dim,
            hidden_dim: shown.hidden_dim,
            // Depths 1 and 2 are one network.
            num_layers: shown.num_layers,
            se_reduction: shown.se_reduction,
            identity_dims: config.identity_dims.into_iter().filter(|dim| *dim < shown.image_dim).collect(),
            ..config
        };
        config.check().with_context(named)?;
        anyhow::ensure!(
            shown.identity_dim == shown.image_dim,
            "`{}` has {} identity features for embeddings of {} values; the reconstruction compares them, so they must be as many",
            path.display(),
            shown.identity_dim,
            shown.image_dim
        );
        // Epochs are counted from 0 there, and named when they end.
        let epoch = entry("epoch").as_u64().map_or(0, |epoch| epoch as usize + 1);
        Ok(Self { config, epoch, history: history(&entry("train_metrics_history"), &entry("val_metrics_history")) })
    }

    fn network(&self, path: &Path) -> anyhow::Result<(SenetTripletNetwork, Record)> {
        let network = SenetTask::network(&self.config);
        let mut net = SenetTripletNetwork::new(&network, self.config.seed, &Device::flex());
        load(path, &mut net)?;
        let record = Record { epoch: self.epoch, ..run::record(FAMILY, &network, &self.config)? };
        Ok((net, record))
    }
}

/// The reference's epochs under our names.
fn history(train: &Value, validation: &Value) -> Vec<EpochRecord> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let number = |metrics: &Value, key: &str| metrics[key].as_f64().filter(|value| value.is_finite());
    let take = |metrics: &Value, names: &[(&str, &str, f64)]| {
        names
            .iter()
            .filter_map(|(theirs, ours, factor)| Some(((*ours).to_owned(), number(metrics, theirs)? * factor)))
            .collect()
    };
    let validation = list(validation);
    let record = |(at, train): (usize, Value)| EpochRecord {
        total: number(&train, "total_loss").unwrap_or_default() + number(&train, "identity_loss").unwrap_or_default(),
        terms: take(
            &train,
            &[
                ("triplet_loss", "triplet", 1.0),
                ("reconstruction_loss", "reconstruction", train::loss::RECONSTRUCTION),
                ("identity_loss", "identity", 1.0),
            ],
        ),
        figures: take(&train, &[("num_triplets", "num_triplets", 1.0), ("reconstruction_loss", "reconstruction", 1.0)]),
        metrics: {
            let names = ["total_loss", "triplet_loss", "cosine_sim"].map(|name| (name, name, 1.0));
            let mut metrics: std::collections::BTreeMap<String, f64> =
                take(validation.get(at).unwrap_or(&json!({})), &names);
            metrics.extend(number(&train, "fusion_alpha").map(|value| ("fusion_alpha".to_owned(), value)));
            metrics
        },
        ..EpochRecord::new(at + 1)
    };
    list(train).into_iter().enumerate().map(record).collect()
}

/// Numbers, texts, lists and dictionaries of a pickle; what is none of them is null.
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
