//! `deploy calibrate`: measures thresholds and writes them into the contract.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use contract::{BESIDE, Fusion, KEY_PREFIX, Measured, ModelContract, Rate, Threshold};
use files::lock::Lock;
use files::together;
use metrics::open_set::{self, OpenSetOptions, OpenSetPoint, OpenSetReport};
use metrics::verification::{Interval, Trials, VerificationOptions};
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
    let measured =
        VerificationOptions { fars: args.far.clone(), far_intervals: true, ..VerificationOptions::default() };
    let open = (!args.fpir.is_empty()).then(|| OpenSetOptions {
        fpirs: args.fpir.clone(),
        templates: args.templates,
        fusion: args.fusion.into(),
        ..OpenSetOptions::default()
    });
    let options = embed_options(&args.model, &args.reading);
    let Compared { report, open, people, .. } = compare(&model, rows, "calibrate", &options, measured, open)?;
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
        let (far, tar) = (one.point.far, one.point.tar);
        let measured = Measured {
            // Every pair of pictures is a comparison of a probe with a person of one template.
            rate: Rate::Fmr,
            fusion: Fusion::Max,
            templates: 1,
            identities: report.trials.genuine,
            pairs: report.trials.impostor,
            far_interval: interval(one.far_interval, far),
            tar_interval: interval(one.interval, tar),
        };
        let similarity = f64::from(one.point.threshold);
        thresholds.push(Threshold { similarity, far, tar, measured: Some(measured) });
    }
    if thresholds.is_empty() {
        return Err(DeployError::NoCalibration { trials: report.trials.impostor, far: args.far.clone() });
    }
    let pairwise = thresholds.len();
    match &open {
        Some(open) => thresholds.extend(of_searches(open)),
        None => thresholds.extend(model.contract.threshold.iter().flatten().filter(|one| is_of_searches(one)).cloned()),
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
            let head = ["similarity from", "FAR", "95 % interval", "TAR", "95 % interval"];
            let mut lines = vec![head.map(str::to_owned).to_vec()];
            for Threshold { similarity, far, tar, measured } in &thresholds[..pairwise] {
                let percent = |rate: f64, digits: usize| format!("{:.digits$} %", 100.0 * rate);
                let interval = |of: [f64; 2], digits: usize| of.map(|rate| percent(rate, digits)).join(" to ");
                let interval = |of: fn(&Measured) -> [f64; 2], digits: usize| {
                    measured.as_ref().map_or_else(String::new, |measured| interval(of(measured), digits))
                };
                let (of_far, of_tar) = (interval(|of| of.far_interval, 4), interval(|of| of.tar_interval, 2));
                lines.push(vec![format!("{similarity:.4}"), percent(*far, 4), of_far, percent(*tar, 2), of_tar]);
            }
            let Trials { genuine, impostor } = report.trials;
            let on = format!(
                "one comparison with one template; {genuine} identities with two pictures, {impostor} pairs of identities"
            );
            let written: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
            let searches = open.as_ref().map(|open| searches(open, &thresholds[pairwise..])).unwrap_or_default();
            print(&format!("{}{on}\n{searches}in {}\n", aligned(&lines), written.join(" and ")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn interval(interval: Option<Interval>, rate: f64) -> [f64; 2] {
    interval.map_or([rate; 2], |of| [of.low, of.high])
}

fn is_of_searches(threshold: &Threshold) -> bool {
    threshold.measured.as_ref().is_some_and(|measured| matches!(measured.rate, Rate::Fpir { .. }))
}

/// The thresholds of searches that the people measured can tell.
fn of_searches(open: &OpenSetReport) -> Vec<Threshold> {
    let mut untold: Vec<f64> = open.points.iter().filter(|one| one.below_resolution).map(|one| one.target).collect();
    untold.dedup();
    for rate in untold {
        terminal::warn(&format!(
            "probes of {} people are too few to measure a false positive identification rate of {rate}, which takes {}: left \
             out",
            open.trials,
            (1.0 / rate).ceil()
        ));
    }
    let threshold = |point: &OpenSetPoint| Threshold {
        similarity: point.similarity.into(),
        far: point.fpir,
        tar: 1.0 - point.fnir,
        measured: Some(Measured {
            rate: Rate::Fpir { gallery: point.gallery as u64 },
            fusion: match open.fusion {
                open_set::Fusion::Max => Fusion::Max,
                open_set::Fusion::Mean => Fusion::Mean,
            },
            templates: open.templates as u32,
            identities: open.subjects,
            pairs: open.trials as u64,
            far_interval: interval(point.fpir_interval, point.fpir),
            tar_interval: {
                let [low, high] = interval(point.fnir_interval, point.fnir);
                [1.0 - high, 1.0 - low]
            },
        }),
    };
    open.points.iter().filter(|point| !point.below_resolution).map(threshold).collect()
}

/// The thresholds of searches as a table.
fn searches(open: &OpenSetReport, thresholds: &[Threshold]) -> String {
    let head = ["people searched", "similarity from", "FPIR", "95 % interval", "FNIR"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    for threshold in thresholds {
        let Some(Measured { rate: Rate::Fpir { gallery }, far_interval, .. }) = &threshold.measured else { continue };
        let percent = |rate: f64| format!("{:.4} %", 100.0 * rate);
        let interval = far_interval.map(percent).join(" to ");
        let fnir = format!("{:.2} %", 100.0 * (1.0 - threshold.tar));
        lines.push(vec![
            gallery.to_string(),
            format!("{:.4}", threshold.similarity),
            percent(threshold.far),
            interval,
            fnir,
        ]);
    }
    let templates = if open.templates == 1 { "1 template" } else { &format!("{} templates", open.templates) };
    let rule = match open.fusion {
        open_set::Fusion::Max => "the largest similarity",
        open_set::Fusion::Mean => "the mean similarity",
    };
    format!(
        "\n{}searches with {templates} a person, {rule} of them; {} people enrolled, probes of {}\n",
        aligned(&lines),
        open.subjects,
        open.trials
    )
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

/// Puts the thresholds into the model file, whose other bytes stay, and into the copy of its contract beside it, both
/// as one. Returns the files written.
fn write(path: &Path, contract: &ModelContract) -> Result<Vec<PathBuf>, DeployError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _lock = Lock::wait(folder)?;
    together::settle(path, &BESIDE)?;
    let bytes = onnx::read_bytes(path, &onnx::Limits::default())?;
    let key = format!("{KEY_PREFIX}threshold");
    let metadata = contract.to_metadata();
    let value = metadata.iter().find(|(name, _)| *name == key).map_or("null", |(_, value)| value.as_str());
    let changed = onnx::with_metadata(&bytes, &key, value).map_err(|source| {
        let found = bytes.len() as u64;
        DeployError::from(onnx::ModelFileError::Malformed { path: path.to_owned(), found, source })
    })?;
    let copy = path.with_file_name(BESIDE[0]);
    if !copy.is_file() {
        files::write(path, changed)?;
        return Ok(vec![path.to_owned()]);
    }
    let json =
        serde_json::to_string_pretty(contract).map_err(|source| DeployError::Json { path: copy.clone(), source });
    together::replace(path, &changed, &[(BESIDE[0], (json? + "\n").as_bytes())])?;
    Ok(vec![path.to_owned(), copy])
}
