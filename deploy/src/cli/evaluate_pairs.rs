//! `deploy evaluate --pairs`: verification of pairs of palm and vein pictures.

use std::process::ExitCode;

use metrics::verification::VerificationOptions;
use serde_json::json;

use super::args::{EvaluateArgs, Format};
use super::shared::{Compared, compare, embed_options, open, print, print_json, test_pairs};
use crate::DeployError;
use crate::report::ModelFacts;

pub(crate) fn run(args: &EvaluateArgs) -> Result<ExitCode, DeployError> {
    let (rows, name) = test_pairs(&args.datadir, &args.pairs, &args.split, args.reading.strict)?;
    let model = open(&args.model, rows.len())?;
    let options = embed_options(&args.model, &args.reading);
    let Compared { report, skipped, people, .. } =
        compare(&model, rows, "pairs", &options, VerificationOptions::default(), None)?;
    let facts = ModelFacts::from(&model);
    let dataset = format!("{name} in {}", args.datadir.display());
    match args.report.format {
        Format::Table => print(&format!("{} on {dataset}\n{}", facts.architecture, ::report::table(&report)))?,
        Format::Json => print_json(&json!({
            "model": facts,
            "dataset": dataset,
            "skipped": skipped,
            "people": people,
            "verification": report,
        }))?,
        Format::Csv => {
            let mut text = String::from("similarity,far,tar\n");
            for point in &report.curve {
                text.push_str(&format!("{},{},{}\n", point.threshold, point.far, point.tar));
            }
            print(&text)?;
        }
    }
    if let Some(path) = &args.report.report {
        let facts = [
            ("Model", facts.summary()),
            ("Contract", facts.contract_id.clone()),
            ("Data", name),
            ("Left out", format!("{skipped} pairs that cannot be read")),
        ];
        files::write(path, ::report::html("Verification", &facts, &report))?;
        terminal::tell!("report in {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
