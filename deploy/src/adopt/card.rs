//! `CARD.md` of an adopted model: what it is, and how each setting was come by.

use std::fmt::Write as _;
use std::path::Path;

use contract::ModelContract;

use super::plan::{Fact, Wishes};
use super::{picture, shape_text, word};

pub(super) fn card(file: &Path, contract: &ModelContract, facts: &[Fact], notes: &[String], wishes: &Wishes) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let mut text = format!(
        "# {}\n\nAdopted by Vitrine {} from `{}` (SHA-256 {}), {}, ONNX operator set {}.\n\n",
        one_line(&contract.architecture),
        contract.exporter.version,
        one_line(&name),
        contract.exporter.checkpoint_sha256,
        contract.precision,
        contract.exporter.opset
    );
    text.push_str("## Inputs and outputs\n\n| | name | shape | meaning |\n|---|---|---|---|\n");
    for input in &contract.input {
        let meaning = picture(contract).map_or_else(String::new, |picture| {
            let [height, width] = picture.size;
            format!(
                "{} picture, {height}×{width} (height × width), {} resize, range {:?}, mean {:?}, std {:?}, {}",
                word(&picture.colour),
                word(&picture.filter),
                picture.range,
                picture.mean,
                picture.std,
                picture.layout
            )
        });
        let _ = writeln!(text, "| input | `{}` | {} | {meaning} |", one_line(&input.name), shape_text(&input.shape));
    }
    for output in &contract.output {
        let unit = if output.unit_length { ", length 1" } else { "" };
        let (name, shape) = (one_line(&output.name), shape_text(&output.shape));
        let _ = writeln!(text, "| output | `{name}` | {shape} | {}, compared by cosine{unit} |", output.meaning);
    }
    text.push_str("\n## How this was settled\n\n| what | value | from |\n|---|---|---|\n");
    for Fact { what, value, from } in facts {
        let _ = writeln!(text, "| {what} | {} | {} |", one_line(value), one_line(from));
    }
    if let Some(preset) = &wishes.preset {
        let _ = write!(text, "\nThe preset `{}` says what these files say:\n\n", preset.name);
        preset.sources.iter().for_each(|source| {
            let _ = writeln!(text, "- {source}");
        });
        if !preset.besides.is_empty() {
            let _ = write!(text, "\nNote: with {}, {}; that is not done here.\n", preset.name, preset.besides);
        }
    }
    for note in notes {
        let _ = write!(text, "\nNote: {}.\n", one_line(note));
    }
    let licence = if contract.training.licence.is_empty() { "not known" } else { &contract.training.licence };
    let _ = write!(text, "\n## Data and licence\n\n- Licence: {}\n\n## Self-test\n\n", one_line(licence));
    if let Some(golden) = &contract.golden {
        let _ = writeln!(
            text,
            "The golden vectors are what ONNX Runtime gave for {} made-up pictures when the model was adopted, on the \
             CPU. Another machine may differ by {:.1e}.",
            golden.batch, golden.tolerance
        );
    }
    text
}

/// Names come from files of others: none begins a line or a cell of its own.
fn one_line(text: &str) -> String {
    terminal::printable(text).replace(['\n', '\t'], " ").replace('|', "\\|")
}
