//! `deploy verify`: one probe against one enrolled person.

use std::process::ExitCode;

use serde_json::json;

use super::args::{FactsFormat, VerifyArgs};
use super::shared::{embed_row, named_row, open, pin, print, print_json};
use crate::explain::explain;
use crate::gallery::Gallery;
use crate::report::Decision;
use crate::{DeployError, verify};

pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode, DeployError> {
    let model = open(&args.one.model, 1)?;
    let row = named_row(&model, &args.one)?;
    let (_, spec) = model.embedding()?;
    let enrolled = Gallery::open_for(&args.one.gallery, &pin(&model, spec), &model.path)?;
    let theirs = enrolled.of_person(&args.one.identity)?;
    if theirs.is_empty() {
        let (identity, gallery) = (args.one.identity.clone(), args.one.gallery.clone());
        return Err(DeployError::NotEnrolled { identity, gallery });
    }
    let values = enrolled.vectors(&theirs)?;
    let calibrated = || {
        let thresholds = model.contract.threshold.as_deref().unwrap_or_default();
        let unfit = thresholds.iter().filter(|one| verify::sets(one, theirs.len()).is_none()).count();
        let chosen = verify::threshold(thresholds, args.far, theirs.len());
        chosen.ok_or(DeployError::NoThreshold { far: args.far, templates: theirs.len(), unfit })
    };
    let (threshold, decision) = match args.threshold {
        Some(chosen) => (f64::from(chosen), Decision::chosen(chosen, "--threshold", "--far")),
        None => {
            let record = calibrated()?;
            let sets = verify::sets(record, theirs.len()).unwrap_or(1);
            (record.similarity, Decision::verification(record, sets))
        }
    };
    let explained =
        args.explain.as_ref().map(|folder| explain(&model, &row, &args.one.identity, folder)).transpose()?;
    let probe = embed_row(&model, &args.one.model, &row)?;
    let similarity = verify::similarity(probe.row(0), values.chunks_exact(spec.dim)).unwrap_or(f32::MIN);
    let matches = f64::from(similarity) >= threshold;
    match args.format {
        FactsFormat::Json => print_json(&json!({
            "identity": args.one.identity,
            "match": matches,
            "similarity": similarity,
            "threshold": threshold,
            "far": args.threshold.is_none().then_some(args.far),
            "enrolled_rows": theirs.len(),
            "decision": decision,
            "attention": explained,
        }))?,
        FactsFormat::Table => {
            let (answer, sign) = if matches { ("match", "≥") } else { ("no match", "<") };
            let meaning = decision.meaning.join("\n");
            print(&format!("{answer}: similarity {similarity:.4} {sign} threshold {threshold:.4}\n{meaning}\n"))?;
        }
    }
    Ok(ExitCode::from(if matches { 0 } else { terminal::EXIT_NO }))
}
