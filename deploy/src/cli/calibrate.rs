//! `deploy calibrate`: measures thresholds and writes them into the contract.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use contract::{KEY_PREFIX, ModelContract, Threshold};
use metrics::verification::VerificationOptions;
use serde_json::json;

use super::args::{CalibrateArgs, FactsFormat};
use super::shared::{Compared, compare, embed_options, list, open, print, print_json, test_pairs};
use crate::DeployError;
use crate::report::aligned;

pub(crate) fn run(args: &CalibrateArgs) -> Result<ExitCode, DeployError> {
    let strict = args.reading.strict;
    let (rows, _) = match args.pairs.pairs {
        true => test_pairs(&args.datadir, &args.pairs, &args.split, strict)?,
        false => {
            (list(std::slice::from_ref(&args.datadir), &args.pairs, args.naming.identity_from, strict)?, String::new())
        }
    };
    let model = open(&args.model, rows.len())?;
    let measured = VerificationOptions { fars: args.far.clone(), resamples: 0, ..VerificationOptions::default() };
    let Compared { report, people, .. } =
        compare(&model, rows, "calibrate", &embed_options(&args.model, &args.reading), measured)?;
    let mut thresholds = Vec::new();
    for one in &report.tar {
        if one.below_resolution || !one.point.threshold.is_finite() {
            let pairs = report.trials.impostor;
            terminal::warn(&format!(
                "{pairs} pairs of people are too few to measure a false accept rate of {}: left out",
                one.target
            ));
            continue;
        }
        let similarity = f64::from(one.point.threshold);
        thresholds.push(Threshold { similarity, far: one.point.far, tar: one.point.tar });
    }
    if thresholds.is_empty() {
        return Err(DeployError::NoCalibration { trials: report.trials.impostor, far: args.far.clone() });
    }
    let written = match &args.model.run.contract {
        Some(given) => write_given(given, &thresholds)?,
        None => {
            let contract = ModelContract { threshold: Some(thresholds.clone()), ..model.contract.clone() };
            write(&model.path, &contract)?
        }
    };
    match args.format {
        FactsFormat::Json => print_json(&json!({
            "model": model.path,
            "written": written,
            "people": people,
            "identities": report.identities,
            "distractors": report.distractors,
            "genuine": report.genuine,
            "impostor": report.impostor,
            "threshold": thresholds,
        }))?,
        FactsFormat::Table => {
            let mut lines = vec![["similarity from", "FAR", "TAR"].map(str::to_owned).to_vec()];
            lines.extend(thresholds.iter().map(|Threshold { similarity, far, tar }| {
                vec![format!("{similarity:.4}"), format!("{:.4} %", 100.0 * far), format!("{:.2} %", 100.0 * tar)]
            }));
            let written: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
            print(&format!("{}in {}\n", aligned(&lines), written.join(" and ")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Puts the thresholds into a contract in a file of its own. Returns the file written.
fn write_given(path: &Path, thresholds: &[Threshold]) -> Result<Vec<PathBuf>, DeployError> {
    let json = |source| DeployError::Json { path: path.to_owned(), source };
    let text = files::read_text_limited(path, contract::LARGEST_FILE);
    let text = text.map_err(|source| DeployError::Read { path: path.to_owned(), source })?;
    let mut contract: serde_json::Value = serde_json::from_str(&text).map_err(json)?;
    contract["threshold"] = serde_json::to_value(thresholds).map_err(json)?;
    files::write(path, serde_json::to_string_pretty(&contract).map_err(json)? + "\n")?;
    Ok(vec![path.to_owned()])
}

/// Puts the thresholds into the model file, whose other bytes stay, and into the copy of its contract beside it.
/// Returns the files written.
fn write(path: &Path, contract: &ModelContract) -> Result<Vec<PathBuf>, DeployError> {
    let bytes = onnx::read_bytes(path, &onnx::Limits::default())?;
    let key = format!("{KEY_PREFIX}threshold");
    let metadata = contract.to_metadata();
    let value = metadata.iter().find(|(name, _)| *name == key).map_or("null", |(_, value)| value.as_str());
    let changed = onnx::with_metadata(&bytes, &key, value).map_err(|source| {
        let found = bytes.len() as u64;
        DeployError::from(onnx::ModelFileError::Malformed { path: path.to_owned(), found, source })
    })?;
    files::write(path, changed)?;
    let copy = path.with_file_name("contract.json");
    if copy.is_file() {
        let json = |source| DeployError::Json { path: copy.clone(), source };
        files::write(&copy, serde_json::to_string_pretty(contract).map_err(json)? + "\n")?;
        return Ok(vec![path.to_owned(), copy]);
    }
    Ok(vec![path.to_owned()])
}
