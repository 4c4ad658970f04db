//! `deploy calibrate`: measures thresholds and writes them into the contract.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use contract::{BESIDE, KEY_PREFIX, ModelContract, Rate, Threshold};
use files::lock::Lock;
use files::together;
use metrics::open_set::OpenSetOptions;
use metrics::verification::VerificationOptions;
use serde_json::json;

use super::args::{CalibrateArgs, FactsFormat};
use super::shared::{Compared, compare, embed_options, list, open, print, print_json, test_pairs};
use crate::DeployError;
use crate::identity::Identity;
use crate::pictures::Input;
use crate::report::Calibration;

pub(crate) fn run(args: &CalibrateArgs) -> Result<ExitCode, DeployError> {
    let strict = args.reading.strict;
    let (rows, which) = match args.pairs.pairs {
        true => test_pairs(&args.datadir, &args.pairs, &args.split, strict)?,
        false => {
            let folder = std::slice::from_ref(&args.datadir);
            (list(folder, &args.pairs, args.naming.identity_from, strict)?, "all pictures".to_owned())
        }
    };
    check(&rows, args)?;
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
    let Compared { report, open, people, skipped } = compare(&model, rows, "calibrate", &options, measured, open)?;
    let folder = args.datadir.file_name().unwrap_or(args.datadir.as_os_str()).to_string_lossy();
    let data = format!("{folder}, {which}");
    let calibration =
        Calibration { model: (&model).into(), data, skipped, people, verification: report, open_set: open };
    calibration.left_out().iter().for_each(|sentence| terminal::warn(sentence));
    let mut thresholds = calibration.of_comparisons();
    if thresholds.is_empty() {
        let trials = calibration.verification.trials.impostor;
        return Err(DeployError::NoCalibration { trials, far: args.far.clone() });
    }
    match &calibration.open_set {
        Some(_) => {
            thresholds.extend(calibration.of_searches());
            say_dropped(model.contract.threshold.iter().flatten().filter(|one| is_of_searches(one)), &thresholds);
        }
        None => thresholds.extend(model.contract.threshold.iter().flatten().filter(|one| is_of_searches(one)).cloned()),
    }
    // Before the model is changed: a page that cannot be written changes nothing.
    if let Some(path) = &args.report {
        files::write(path, calibration.html())?;
        terminal::tell!("report in {}", path.display());
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
            "skipped": skipped,
            "people": people,
            "identities": calibration.verification.identities,
            "distractors": calibration.verification.distractors,
            "genuine": calibration.verification.genuine,
            "impostor": calibration.verification.impostor,
            "threshold": thresholds,
            "not_measured": calibration.unclaimed(),
            "verification": calibration.verification,
            "open_set": calibration.open_set,
        }))?,
        FactsFormat::Table => {
            let written: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
            print(&format!("{}in {}\n", calibration.table(), written.join(" and ")))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Fails if the names leave nothing to measure, before anything is embedded.
fn check(rows: &[Input], args: &CalibrateArgs) -> Result<(), DeployError> {
    let mut pictures = BTreeMap::<&str, usize>::new();
    for row in rows {
        if let Identity::Person(name) = &row.identity {
            *pictures.entry(&name.text).or_default() += 1;
        }
    }
    let distractors = rows.iter().any(|row| row.identity == Identity::Distractor);
    let wrong = |problem| Err(DeployError::Uncalibratable { path: args.datadir.clone(), problem });
    let layout = if args.pairs.pairs {
        "pairs of two hands or more are needed"
    } else {
        "a folder for each of two or more people is needed, and `--identity-from` chooses what names them"
    };
    let most = pictures.values().copied().max().unwrap_or(0);
    match (pictures.len(), args.fpir.is_empty()) {
        (0, _) => wrong(format!("nobody on {} is named; {layout}", of_pictures(rows.len()))),
        (1, _) if !distractors => {
            let name = pictures.keys().next().copied().unwrap_or_default();
            wrong(format!("all of {} are of one person, `{name}`; {layout}", of_pictures(rows.len())))
        }
        _ if most < 2 => {
            wrong("nobody has two pictures, which are compared to tell how often people are refused".into())
        }
        (_, false) if most <= args.templates => wrong(format!(
            "with --templates {}, somebody needs {} pictures or more: the last ones are searched for; nobody has more \
             than {most}",
            args.templates,
            args.templates + 1
        )),
        _ => Ok(()),
    }
}

fn of_pictures(count: usize) -> String {
    if count == 1 { "1 picture".to_owned() } else { format!("{count} pictures") }
}

/// Says which thresholds of searches were measured for another decision and go with the old calibration.
fn say_dropped<'a>(before: impl Iterator<Item = &'a Threshold>, now: &[Threshold]) {
    let decision = |threshold: &Threshold| threshold.measured.as_ref().map(|one| (one.templates, one.fusion));
    let dropped = before.filter(|old| !now.iter().any(|new| is_of_searches(new) && decision(new) == decision(old)));
    let templates: BTreeSet<u32> = dropped.filter_map(decision).map(|(templates, _)| templates).collect();
    if !templates.is_empty() {
        let flags: Vec<String> = templates.iter().map(|templates| format!("`--templates {templates}`")).collect();
        terminal::warn(&format!(
            "thresholds of searches measured with {} are dropped: a model keeps those of its last calibration",
            flags.join(" and ")
        ));
    }
}

fn is_of_searches(threshold: &Threshold) -> bool {
    threshold.measured.as_ref().is_some_and(|measured| matches!(measured.rate, Rate::Fpir { .. }))
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
