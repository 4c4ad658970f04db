//! `deploy evaluate --pairs`: verification of pairs of palm and vein pictures.

use std::process::ExitCode;

use contract::dataset::paired::{PairOptions, PairedDataset, list_pairs};
use metrics::verification::{self, VerificationOptions};
use serde_json::json;

use crate::DeployError;
use crate::cli::args::{EvaluateArgs, Format};
use crate::cli::{collect, embed_options, open, print, print_json, warn_when_collapsed};
use crate::gallery;
use crate::report::ModelFacts;

pub(crate) fn run(args: &EvaluateArgs) -> Result<ExitCode, DeployError> {
    let options = PairOptions { seed: args.split_seed, ..args.pairs.options() };
    let (rows, name, warnings) = match args.split.parse() {
        Ok(split) => {
            let data = PairedDataset::open(&args.datadir, &PairOptions { split, ..options })?;
            let rows = gallery::of_pairs(data.test.iter(), &data.classes);
            (rows, format!("{}, test split by {}", data.name, args.split), data.warnings)
        }
        // `all` is no rule.
        Err(_) => {
            let list = list_pairs(&args.datadir, &options)?;
            (gallery::of_pairs(list.pairs.iter(), &list.classes), format!("{}, all pairs", list.layout), list.warnings)
        }
    };
    warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    let model = open(&args.model, rows.len())?;
    let collected = collect(&model, &rows, "pairs", &embed_options(&args.model, &args.reading))?;
    let matrix = collected.embeddings.matrix()?;
    warn_when_collapsed(&metrics::spread(&matrix));
    let labels: Vec<i64> = collected.embeddings.pictures.iter().map(|picture| picture.identity).collect();
    let report = verification::evaluate(&matrix, &labels, &VerificationOptions::default())?;
    let facts = ModelFacts::from(&model);
    let dataset = format!("{name} in {}", args.datadir.display());
    match args.format {
        Format::Table => print(&format!("{} on {dataset}\n{}", facts.architecture, contract::report::table(&report)))?,
        Format::Json => print_json(&json!({
            "model": facts,
            "dataset": dataset,
            "skipped": collected.skipped.count,
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
            ("Model", format!("{} · {}", facts.architecture, facts.path.display())),
            ("Contract", facts.contract_id.clone()),
            ("Data", dataset),
            ("Left out", format!("{} pairs that cannot be read", collected.skipped.count)),
        ];
        contract::files::write(path, contract::report::html("Verification", &facts, &report))?;
        eprintln!("report in {}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}
