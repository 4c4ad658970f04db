//! `CARD.md`: what a model is, where it comes from and how it was checked, for people.

use contract::{Axis, ModelContract};

use crate::model::ExportedModel;
use crate::verify::Parity;

pub(super) fn axes_text(axes: &[Axis]) -> String {
    let axis = |axis: &Axis| match axis {
        Axis::Size(size) => size.to_string(),
        Axis::Symbol(symbol) => symbol.clone(),
    };
    format!("[{}]", axes.iter().map(axis).collect::<Vec<_>>().join(", "))
}

/// A choice of the contract in the contract's own word: `rgb`.
fn word(choice: &impl serde::Serialize) -> String {
    serde_json::to_value(choice).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

pub(super) fn card(model: &ExportedModel, contract: &ModelContract, parity: &Parity, bytes: u64) -> String {
    let known = |text: &str| if text.is_empty() { "not known".to_owned() } else { text.to_owned() };
    let training = &contract.training;
    let mut text = format!(
        "# {name}\n\n{family} network `{architecture}`, {parameters} values of weights, {megabytes:.1} MB, ONNX \
         operator set {opset}, {precision}.\n\n## Inputs and outputs\n\n| | name | shape | meaning \
         |\n|---|---|---|---|\n",
        name = model.name(),
        family = contract.family,
        architecture = contract.architecture,
        parameters = model.graph().parameters(),
        megabytes = bytes as f64 / 1e6,
        opset = model.opset(),
        precision = contract.precision,
    );
    for input in &contract.input {
        let Some(picture) = &input.picture else {
            text.push_str(&format!(
                "| input | `{}` | {} | {} |\n",
                input.name,
                axes_text(&input.shape),
                known(&input.meaning)
            ));
            continue;
        };
        let [height, width] = picture.size;
        let meaning = if input.meaning.is_empty() { String::new() } else { format!("{}: ", input.meaning) };
        text.push_str(&format!(
            "| input | `{}` | {} | {meaning}{} picture, {height}×{width} (height × width), JPEG by {}, {} resize, \
             range {:?}, mean {:?}, std {:?} |\n",
            input.name,
            axes_text(&input.shape),
            word(&picture.colour),
            word(&picture.decoder),
            word(&picture.filter),
            picture.range,
            picture.mean,
            picture.std
        ));
    }
    for output in &contract.output {
        let unit = if output.unit_length { ", length 1" } else { "" };
        let metric = if output.metric.is_empty() { String::new() } else { format!(", compared by {}", output.metric) };
        let picture = output.picture.as_ref().map(|picture| {
            let [black, white] = picture.range;
            format!(", {} picture, black {black}, white {white}", word(&picture.colour))
        });
        text.push_str(&format!(
            "| output | `{}` | {} | {}{metric}{unit}{} |\n",
            output.name,
            axes_text(&output.shape),
            output.meaning,
            picture.unwrap_or_default()
        ));
    }
    text.push_str(&format!(
        "\n## Data and licence\n\n- Dataset: {} (fingerprint {})\n- Licence: {}\n- Epoch: {}\n",
        known(&training.dataset),
        known(&training.dataset_fingerprint),
        known(&training.licence),
        training.epoch
    ));
    if !training.metrics.is_empty() {
        text.push_str("\n## Metrics at that epoch\n\n| metric | value |\n|---|---:|\n");
        for (metric, value) in &training.metrics {
            text.push_str(&format!("| {metric} | {value:.4} |\n"));
        }
    }
    text.push_str(&format!(
        "\n## How it was made\n\n- Training: `{}`\n- Checkpoint SHA-256: {}\n- Exported by Vitrine {} from Burn {}\n",
        known(&training.command),
        known(&contract.exporter.checkpoint_sha256),
        contract.exporter.version,
        contract.exporter.burn
    ));
    text.push_str(&format!(
        "\n## ONNX Runtime against Burn\n\nIntegers and booleans are equal. A float may differ by {:.0e} of the root \
         mean square of its channel, plus {:.0e} of itself and {:.0e} of the root mean square of the output; smallest \
         cosine of a row {}.\n\n{}",
        parity.tolerance.channel,
        parity.tolerance.relative,
        parity.tolerance.floor,
        parity.tolerance.min_cosine,
        parity.to_markdown()
    ));
    for (axis, sizes) in &parity.sizes {
        let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
        text.push_str(&format!("\nCompared at `{axis}` {}; other sizes were not tried.\n", sizes.join(", ")));
    }
    if contract.golden.is_none() {
        text.push_str(
            "\nNote: no golden vectors could be made for these inputs, so that the model has no self-test.\n",
        );
    }
    for warning in model.warnings() {
        text.push_str(&format!("\nNote: {warning}.\n"));
    }
    text
}
