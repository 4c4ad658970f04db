//! `deploy inspect`: what a model is and promises.

use std::process::ExitCode;

use contract::{Axis, Fusion, Measured, Orientation, PictureSpec, Rate};
use serde_json::json;

use super::args::{FactsFormat, InspectArgs};
use super::doctor::providers;
use super::shared::{print, print_json};
use crate::DeployError;
use crate::report::{aligned, thousands};
use crate::runtime::{Mixed, Model, ModelFile, Placement, Port, mixed};

pub(crate) fn run(args: &InspectArgs) -> Result<ExitCode, DeployError> {
    terminal::note_fewer_threads(args.run.threads);
    let model = Model::open(&args.model, &args.run.options(1))?;
    let trial = if args.run.skip_self_test { Ok(None) } else { trial(&model).map(Some) };
    let told = trial.as_ref().ok().and_then(Option::as_ref);
    match args.format {
        FactsFormat::Json => print_json(&facts(&model, told))?,
        FactsFormat::Table => print(&table(&model, told))?,
    }
    if let Some(mixed) = told.and_then(|trial| trial.mixed.as_ref()) {
        terminal::warn(&mixed.to_string());
    }
    trial.map(|_| ExitCode::SUCCESS)
}

/// What runs of the model tell.
struct Trial {
    placement: Placement,
    mixed: Option<Mixed>,
}

/// Runs the model on one row of zeros and on two rows: some graphs open and fail at the first picture.
fn trial(model: &Model) -> Result<Trial, DeployError> {
    Ok(Trial { placement: model.placement()?, mixed: mixed(model)? })
}

fn available(model: &Model) -> Vec<&'static str> {
    let Some(runtime) = model.runtime.onnxruntime() else { return vec!["cpu"] };
    let runs = providers(runtime).into_iter().filter(|state| state.problem.is_none());
    runs.map(|state| state.provider.kind()).collect()
}

fn facts(model: &Model, trial: Option<&Trial>) -> serde_json::Value {
    let port = |port: &Port| json!({"name": port.name, "element": port.element, "shape": port.shape});
    let file = |file: &ModelFile| json!({"name": file.name, "sha256": file.sha256, "bytes": file.bytes});
    let graph = &model.graph;
    // rten has no such settings.
    let own = model.runtime.onnxruntime().is_some();
    json!({
        "path": model.path.to_string_lossy(),
        "sha256": model.sha256,
        "files": model.files.iter().map(file).collect::<Vec<_>>(),
        "file_bytes": graph.file_bytes,
        "producer": graph.producer,
        "opset": graph.opset,
        "nodes": graph.nodes,
        "parameters": graph.parameters,
        "inputs": graph.inputs.iter().map(port).collect::<Vec<_>>(),
        "outputs": graph.outputs.iter().map(port).collect::<Vec<_>>(),
        "runtime": {
            "name": model.runtime.name(),
            "library": model.runtime.file().map(|file| file.to_string_lossy().into_owned()),
            "version": model.runtime.version(),
            "provider": model.provider.to_string(),
            "available": available(model),
            "threads": model.threads,
            "optimisation": model.tuned.optimisation.to_string(),
            "spinning": own.then_some(model.tuned.spinning),
            "arena": own.then_some(model.tuned.arena),
            "nodes": trial.map(|trial| trial.placement.counts()),
            "nodes_of_shapes": trial.map(|trial| trial.placement.of_shapes()),
        },
        "batch": trial.map(batch),
        "self_test": model.self_test.to_string(),
        "contract": model.contract,
    })
}

/// Whether rows of a batch see each other.
fn batch(trial: &Trial) -> serde_json::Value {
    match &trial.mixed {
        None => json!({"rows_are_independent": true}),
        Some(Mixed { output, difference, largest }) => json!({
            "rows_are_independent": false, "output": output, "difference": difference, "largest": largest,
        }),
    }
}

fn table(model: &Model, trial: Option<&Trial>) -> String {
    let (contract, graph) = (&model.contract, &model.graph);
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(vec![name.to_owned(), value]);
        }
    };
    line("model", model.path.display().to_string());
    line("architecture", format!("{} (family {}, {})", contract.architecture, contract.family, contract.precision));
    if let Some(how) = &contract.quantisation {
        let [format, all] = how.nodes;
        let (target, bits, range, pictures) = (&how.target, how.weight_bits, &how.range, how.pictures);
        line(
            "made for",
            format!(
                "{target}: {format} of {all} nodes, weights of {bits} bits, ranges ({range}) of {pictures} pictures"
            ),
        );
    }
    line("sha256", model.sha256.clone());
    line("file", format!("{:.2} MB, {} parameters", graph.file_bytes as f64 / 1e6, thousands(graph.parameters)));
    for file in model.files.iter().filter(|_| model.files.len() > 1) {
        line("", format!("{}: {:.2} MB, sha256 {}", file.name, file.bytes as f64 / 1e6, file.sha256));
    }
    let opsets = graph.opset.iter().map(|(domain, version)| format!("{domain} {version}"));
    line("opset", opsets.collect::<Vec<_>>().join(", "));
    line("written by", graph.producer.clone());
    line("Burn", contract.exporter.burn.clone());
    for input in &contract.input {
        line("input", format!("{} {}", input.name, shape(&input.shape)));
        line("", input.meaning.clone());
        line("", input.absent.map_or_else(String::new, |absent| format!("may be missing: {absent} in its place")));
        if let Some(picture) = &input.picture {
            let [height, width] = picture.size;
            let PictureSpec { colour, decoder, orientation, resize, filter, range, mean, std, .. } = picture;
            let steps = format!(
                "{colour:?}, JPEG of {}, {}, {resize:?} by {} to height {height}, width {width}",
                decoder,
                match orientation {
                    Orientation::Exif => "turned by Exif",
                    Orientation::Stored => "not turned",
                },
                filter
            );
            line("", format!("{steps}, range {range:?}, mean {mean:?}, std {std:?}").to_lowercase());
        }
    }
    for output in &contract.output {
        line("output", format!("{} {}: {}", output.name, shape(&output.shape), output.meaning));
    }
    if let Some(embedding) = &contract.embedding {
        let flip = if embedding.flip { ", mirrored view added" } else { "" };
        line("embedding", format!("{} values in {} parts{flip}, compared by cosine", embedding.dim, embedding.parts));
        line("contract id", embedding.contract_id.clone());
    }
    for threshold in contract.threshold.iter().flatten() {
        let shares = format!("TAR {:.4} at FAR {:.1e}", threshold.tar, threshold.far);
        line("threshold", format!("similarity {:.4}: {shares}", threshold.similarity));
        if let Some(measured) = &threshold.measured {
            line("", decision(measured));
        }
    }
    let training = &contract.training;
    if !training.dataset.is_empty() || training.epoch > 0 {
        line("trained on", format!("{}, {} epochs", training.dataset, training.epoch));
    }
    if let Some(people) = &training.people {
        line("", format!("{} people; {}", people.people, people.split));
    }
    let metrics = training.metrics.iter().map(|(name, value)| format!("{name} {value:.4}"));
    line("metrics", metrics.collect::<Vec<_>>().join(", "));
    line("command", training.command.clone());
    line("licence", training.licence.clone());
    let count = graph.nodes.values().sum::<usize>();
    let mut kinds: Vec<_> = graph.nodes.iter().collect();
    kinds.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let kinds = kinds.into_iter().map(|(kind, count)| format!("{count} {kind}"));
    line("nodes", format!("{count}: {}", kinds.collect::<Vec<_>>().join(", ")));
    let version = model.runtime.version().unwrap_or_default();
    line(
        "runs on",
        format!(
            "{} with {} {version}; available: {}",
            model.provider,
            model.runtime.name(),
            available(model).join(", ")
        ),
    );
    let tuned = model.runtime.onnxruntime().map(|_| format!(", {}", model.tuned)).unwrap_or_default();
    line("", format!("threads {}{tuned}", model.threads));
    if let Some(Trial { placement, mixed }) = trial {
        line("", placement.to_string());
        let alike = || "a row gives the same alone and beside another".to_owned();
        line("batch", mixed.as_ref().map_or_else(alike, |mixed| mixed.to_string()));
    }
    line("self-test", model.self_test.to_string());
    aligned(&lines)
}

/// What a threshold's rates are rates of, and on how much they were measured.
fn decision(measured: &Measured) -> String {
    let rate = match measured.rate {
        Rate::Fmr => "comparison with a person".to_owned(),
        Rate::Fpir { gallery } => format!("search in a gallery of {gallery} people"),
    };
    let fusion = match measured.fusion {
        Fusion::Max => "largest",
        Fusion::Mean => "mean",
    };
    let [[low_far, high_far], [low_tar, high_tar]] = [measured.far_interval, measured.tar_interval];
    let Measured { identities, pairs, .. } = measured;
    let trials = match measured.rate {
        Rate::Fmr => format!("{identities} identities and {pairs} pairs of them"),
        Rate::Fpir { .. } => format!("{identities} people enrolled and probes of {pairs}"),
    };
    format!(
        "per {rate}, {fusion} similarity to {}; TAR {low_tar:.4} to {high_tar:.4}, FAR {low_far:.1e} to \
         {high_far:.1e} by {trials}",
        if measured.templates == 1 { "1 template".to_owned() } else { format!("{} templates", measured.templates) },
    )
}

fn shape(axes: &[Axis]) -> String {
    let axes = axes.iter().map(|axis| match axis {
        Axis::Size(size) => size.to_string(),
        Axis::Symbol(symbol) => symbol.clone(),
    });
    format!("[{}]", axes.collect::<Vec<_>>().join(", "))
}
