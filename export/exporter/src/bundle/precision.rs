//! Bundles of models in a smaller number format: the same four files, with a certificate that says what the format was
//! measured to cost, and the plan that made it.

use std::path::{Path, PathBuf};

use contract::{Axis, Golden, KEY_PREFIX, ModelContract};
use files::lock::LockError;
use graph::encode::Encoded;
use graph::run::{Opening, Runtime};
use graph::{DType, Tensor};
use onnx::{Message, ModelProto, StringStringEntryProto};

use super::certificate::{self, Certificate, CheckpointFacts, ModelFacts, Tools};
use super::facts::{Counts, PlanFile, PrecisionFacts, Quality, Ranking};
use super::{GOLDEN_BATCH, GOLDEN_BLOCKS, MODEL, Thresholds, carry_over, held, replace};
use crate::error::ExportError;
use crate::verify::{Parity, Tolerance};

/// Name of the plan beside the model.
pub const PLAN: &str = "plan.json";

/// Approximate number of elements that golden vectors store of the largest output.
const GOLDEN_VALUES: usize = 256;

/// Largest golden tolerance as a share of the largest golden value. Integer kernels of two processors differ by some
/// steps of rounding.
const LOOSEST: f32 = 0.1;

/// Least golden tolerance as a share of the most, so 2 % of the largest value: a GPU really computes in float16, which
/// this machine's CPU does not.
const LEAST: f32 = 0.2;

/// How much further than ONNX Runtime's integer kernels from its float ones another machine may be.
const MARGIN: f32 = 4.0;

/// A model in a smaller format, with all that was measured.
pub struct Made<'a> {
    /// The model; its metadata is replaced.
    pub model: ModelProto,
    /// The float32 model's contract with `precision` and `quantisation` of this one.
    pub contract: ModelContract,
    /// Quality on pictures that did not calibrate.
    pub quality: Quality,
    /// Plan and times.
    pub plan: PlanFile,
    /// The float32 model's certificate, where it is a bundle of ours.
    pub certificate: Option<&'a Certificate>,
    /// Name of the model.
    pub name: String,
}

/// What was written.
#[derive(Debug, Clone)]
pub struct WrittenPrecision {
    /// The model file.
    pub model: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The contract in it.
    pub contract: ModelContract,
    /// What became of the calibrated thresholds of the bundle that was there.
    pub thresholds: Thresholds,
}

/// Completes the contract (golden vectors of ONNX Runtime, contract id) and writes the bundle as one, after the plan.
/// Thresholds are not carried over: the embeddings are others.
///
/// # Errors
/// If the model cannot be run, the contract is contradictory, or a file cannot be written.
pub fn write_precision(
    folder: &Path,
    made: Made<'_>,
    runtime: &Runtime,
    waits: impl FnOnce(&LockError),
) -> Result<WrittenPrecision, ExportError> {
    let Made { mut model, mut contract, quality, plan, certificate, name } = made;
    contract.threshold = None;
    contract.exporter.version = env!("CARGO_PKG_VERSION").into();
    contract.exporter.opset = opset(&model);
    model.metadata_props.retain(|entry| !entry.key.starts_with(KEY_PREFIX));
    if contract.embedding.is_some() {
        let graph = model.graph.as_ref().map(Message::encode_to_vec).unwrap_or_default();
        let id = contract.embedding_id(&certificate::sha256(&graph));
        if let Some(embedding) = contract.embedding.as_mut() {
            embedding.contract_id = id.unwrap_or_default();
        }
    }
    contract.golden = golden(&model, &contract, runtime)?;
    contract.check().map_err(|error| ExportError::Contract { problem: error.to_string() })?;
    let entries = contract.to_metadata().into_iter().map(|(key, value)| StringStringEntryProto { key, value });
    model.metadata_props.extend(entries);
    let mut bytes = model.encode_to_vec();
    let counts = Counts::of(&model);
    let float32_certified = certificate.is_some_and(|certificate| certificate.precision.is_none());
    let weights = certificate::weights_sha256(&model, Path::new(MODEL))
        .map_err(|source| ExportError::Read { path: MODEL.into(), source })?;
    let optimised = certificate.is_some_and(|certificate| certificate.model.optimised);
    let untried = Parity { tolerance: Tolerance::default(), batch: vec![], sizes: Default::default() };
    let certified = Certificate {
        version: certificate::VERSION,
        name,
        model: ModelFacts::new(&bytes, &model, None, weights, optimised),
        checkpoint: CheckpointFacts { sha256: contract.exporter.checkpoint_sha256.clone() },
        tools: Tools {
            vitrine: env!("CARGO_PKG_VERSION").into(),
            burn: contract.exporter.burn.clone(),
            onnx_runtime: runtime.version().unwrap_or_default(),
            provider: "cpu".into(),
            platform: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        },
        parity: certificate.map_or(untried, |certificate| certificate.parity.clone()),
        runs: vec![],
        metrics: certificate.map(|certificate| certificate.metrics.clone()).unwrap_or_default(),
        precision: Some(PrecisionFacts { quality, counts, float32_certified }),
    };
    let card = card(&certified, &contract, &plan, bytes.len());

    let path = folder.join(MODEL);
    let _lock = held(&path, waits)?;
    let thresholds = carry_over(&path, &mut contract, &mut bytes)?;
    // First, so that a model always has the plan of the last attempt beside it.
    let json = serde_json::to_string_pretty(&plan).expect("a plan is plain data") + "\n";
    files::write(&folder.join(PLAN), json)?;
    let json = serde_json::to_string_pretty(&contract).expect("a contract is plain data") + "\n";
    let certificate = certified.to_json();
    let beside = contract::BESIDE.into_iter().zip([json.as_bytes(), card.as_bytes(), certificate.as_bytes()]);
    let size = bytes.len() as u64;
    replace(&path, Encoded { model: bytes, data: None }, &beside.collect::<Vec<_>>())?;
    Ok(WrittenPrecision { model: path, bytes: size, contract, thresholds })
}

fn opset(model: &ModelProto) -> i64 {
    model.opset_import.iter().find(|set| set.domain.is_empty()).map_or(0, |set| set.version)
}

/// Golden vectors: what ONNX Runtime gives on this machine. The tolerance is a multiple of how far its integer kernels
/// are from the same model without them, from 2 % to 10 % of the largest value.
fn golden(model: &ModelProto, contract: &ModelContract, runtime: &Runtime) -> Result<Option<Golden>, ExportError> {
    let batch = match contract.input.first().and_then(|input| input.shape.first()) {
        Some(Axis::Size(size)) => *size,
        _ => GOLDEN_BATCH,
    };
    let pixels = contract.golden.as_ref().is_some_and(|golden| golden.pixels);
    let drawn = |block: usize| {
        let golden = Golden {
            seed: "golden".into(),
            batch,
            block,
            pixels,
            tolerance: 0.0,
            every: 1,
            output: Default::default(),
        };
        let inputs: Option<Vec<_>> = contract
            .input
            .iter()
            .map(|spec| {
                let (shape, values) = golden.input(spec)?;
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                Some((spec.name.clone(), Tensor::new(DType::Float, shape, bytes)?))
            })
            .collect();
        Some((golden, inputs?))
    };
    let Some((mut golden, inputs)) = GOLDEN_BLOCKS.iter().find_map(|&block| drawn(block)) else { return Ok(None) };
    let names: Vec<String> = contract.output.iter().map(|output| output.name.clone()).collect();
    let bytes = model.encode_to_vec();
    let fast = runtime.open(&bytes, Opening::plain(true))?.run(&inputs, &names)?;
    let plain = runtime.open(&bytes, Opening::plain(false))?.run(&inputs, &names)?;
    let largest = fast.iter().map(|array| array.values.len()).max().unwrap_or(1);
    golden.every = largest.div_ceil(GOLDEN_VALUES).max(1);
    let mut apart = 0.0f32;
    for ((name, fast), plain) in names.into_iter().zip(&fast).zip(&plain) {
        let differences = fast.values.iter().zip(&plain.values).map(|(a, b)| (a - b).abs() as f32);
        apart = differences.fold(apart, f32::max);
        let stored = fast.values.iter().step_by(golden.every).map(|&value| value as f32).collect();
        golden.output.insert(name, stored);
    }
    let most = loosest(&golden);
    golden.tolerance = (MARGIN * apart).clamp(LEAST * most, most);
    Ok(Some(golden))
}

/// The most that golden vectors of a smaller format may allow.
pub(super) fn loosest(golden: &Golden) -> f32 {
    let scale = golden.output.values().flatten().fold(0.0f32, |largest, value| largest.max(value.abs()));
    LOOSEST * scale.max(f32::MIN_POSITIVE)
}

fn percent(value: f64) -> String {
    format!("{:.2} %", 100.0 * value)
}

fn card(certificate: &Certificate, contract: &ModelContract, plan: &PlanFile, bytes: usize) -> String {
    let known = |text: &str| if text.is_empty() { "not known".to_owned() } else { text.to_owned() };
    let mut text = format!(
        "# {name}\n\n{family} network `{architecture}`, {megabytes:.1} MB, ONNX operator set {opset}, {precision}.\n",
        name = certificate.name,
        family = contract.family,
        architecture = contract.architecture,
        megabytes = bytes as f64 / 1e6,
        opset = contract.exporter.opset,
        precision = contract.precision,
    );
    if let Some(facts) = &contract.quantisation {
        let [format, all] = facts.nodes;
        text.push_str(&format!(
            "\n## How it was made\n\n- From the float32 model with SHA-256 {}\n- For: {}, weights of {} bits\n- \
             Ranges: {} of {} pictures (fingerprint {})\n- {format} of {all} nodes compute in {}\n",
            facts.source_sha256,
            facts.target,
            facts.weight_bits,
            facts.range,
            facts.pictures,
            facts.fingerprint,
            contract.precision
        ));
    }
    if let Some(PrecisionFacts { quality, float32_certified, .. }) = &certificate.precision {
        text.push_str(&format!(
            "- {}\n\n## Against float32, on {} pictures that did not calibrate\n\n| | float32 | {} |\n|---|---:|---:|\n\
             | mean cosine | 1 | {:.6} |\n| smallest cosine | 1 | {:.6} |\n",
            if *float32_certified {
                "The float32 model was compared with Burn before; this one is compared with that"
            } else {
                "The float32 model is not one of ours: nothing says how it was made"
            },
            quality.pictures,
            contract.precision,
            quality.mean_cosine,
            quality.min_cosine
        ));
        match &quality.ranking {
            Some(Ranking { identities, rank_1, map }) => text.push_str(&format!(
                "| Rank-1 | {} | {} |\n| mAP | {} | {} |\n\nEach picture of {identities} people was searched among all \
                 others.\n",
                percent(rank_1[0]),
                percent(rank_1[1]),
                percent(map[0]),
                percent(map[1])
            )),
            None => text.push_str("\nThe pictures do not say who is on them, so no ranking was compared.\n"),
        }
    }
    if !plan.latency.is_empty() {
        text.push_str(
            "\n## Time on the machine that made it\n\n| batch | float32 ms | ms | speed-up |\n|---:|---:|---:|---:|\n",
        );
        for latency in &plan.latency {
            let (before, after) = (1e3 * latency.float32, 1e3 * latency.found);
            text.push_str(&format!("| {} | {before:.2} | {after:.2} | {:.2}× |\n", latency.batch, latency.speed_up()));
        }
    }
    text.push_str(&format!(
        "\n## Data and licence\n\n- Dataset: {}\n- Licence: {}\n- Decision thresholds are not carried over: run \
         `deploy calibrate`\n",
        known(&contract.training.dataset),
        known(&contract.training.licence)
    ));
    text.push_str(
        "\n## Nodes\n\n| node | operator | format | why | gain | loss of cosine |\n|---|---|---|---|---:|---:|\n",
    );
    for fact in &plan.nodes {
        let gain = fact.gain.map(|gain| format!("{:.2} %", 100.0 * gain)).unwrap_or_default();
        let loss = fact.loss.map(|loss| format!("{loss:.1e}")).unwrap_or_default();
        let name = fact.node.replace('|', "\\|");
        text.push_str(&format!(
            "| `{name}` | {} | {} | {} | {gain} | {loss} |\n",
            fact.operator, fact.format, fact.reason
        ));
    }
    text
}
