//! `deploy verify`: one probe against one enrolled person.

use std::process::ExitCode;

use serde_json::json;

use super::args::{FactsFormat, VerifyArgs};
use super::shared::{embed_row, named_row, open, print, print_json};
use crate::explain::explain;
use crate::{DeployError, gallery};

pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode, DeployError> {
    let model = open(&args.one.model, 1)?;
    let calibrated = || {
        let thresholds = model.contract.threshold.iter().flatten().filter(|one| one.far <= args.far);
        let loosest = thresholds.max_by(|a, b| a.far.total_cmp(&b.far));
        loosest.map(|one| one.similarity).ok_or(DeployError::NoThreshold { far: args.far })
    };
    let threshold = args.threshold.map(f64::from).map_or_else(calibrated, Ok)?;
    let row = named_row(&model, &args.one)?;
    let (_, spec) = model.embedding()?;
    let (enrolled, _) = gallery::open(&args.one.gallery, &model.path, &spec.contract_id, spec.dim)?;
    let theirs: Vec<usize> =
        (0..enrolled.pictures.len()).filter(|at| enrolled.pictures[*at].identity_name == args.one.identity).collect();
    if theirs.is_empty() {
        let (identity, gallery) = (args.one.identity.clone(), args.one.gallery.clone());
        return Err(DeployError::NotEnrolled { identity, gallery });
    }
    let explained =
        args.explain.as_ref().map(|folder| explain(&model, &row, &args.one.identity, folder)).transpose()?;
    let probe = embed_row(&model, &args.one, &row)?;
    let similarity = theirs.iter().map(|at| metrics::dot(probe.row(0), enrolled.row(*at))).fold(f32::MIN, f32::max);
    let matches = f64::from(similarity) >= threshold;
    match args.format {
        FactsFormat::Json => print_json(&json!({
            "identity": args.one.identity,
            "match": matches,
            "similarity": similarity,
            "threshold": threshold,
            "enrolled_rows": theirs.len(),
            "attention": explained,
        }))?,
        FactsFormat::Table => {
            let (answer, sign) = if matches { ("match", "≥") } else { ("no match", "<") };
            print(&format!("{answer}: similarity {similarity:.4} {sign} threshold {threshold:.4}\n"))?;
        }
    }
    Ok(ExitCode::from(if matches { 0 } else { terminal::EXIT_NO }))
}
