//! `deploy enroll`: one more row in a gallery.

use std::process::ExitCode;

use crate::cli::args::EnrollArgs;
use crate::cli::{named_row, open, print};
use crate::gallery::{self, Facts, Writer};
use crate::{DeployError, embed};

pub(crate) fn run(args: &EnrollArgs) -> Result<ExitCode, DeployError> {
    let model = open(&args.model, 1)?;
    let row = named_row(&model, &args.one)?;
    let (_, spec) = model.embedding()?;
    let folder = &args.one.gallery;
    let options = embed::Options { batch_size: 1, threads: args.model.run.threads, strict: true };
    let new = embed::collect(&model, &[row], &options)?.embeddings;
    let old = match gallery::is_embeddings(folder) {
        true => Some(gallery::open(folder, &model.path, &spec.contract_id, spec.dim)?),
        false => None,
    };
    let mut writer = Writer::create(folder, spec.dim)?;
    let mut skipped = 0;
    if let Some((old, facts)) = &old {
        skipped = facts.skipped;
        for (at, picture) in old.pictures.iter().enumerate() {
            writer.row(picture, old.row(at))?;
        }
    }
    writer.row(&new.pictures[0], new.row(0))?;
    let facts = writer.finish(Facts {
        version: 0,
        contract_id: spec.contract_id.clone(),
        architecture: model.contract.architecture.clone(),
        model_sha256: model.sha256.clone(),
        dim: 0,
        rows: 0,
        skipped,
        folder: std::env::current_dir().unwrap_or_default(),
        made_by: format!("deploy {}", env!("CARGO_PKG_VERSION")),
    })?;
    let rows = if facts.rows == 1 { "1 row".to_owned() } else { format!("{} rows", facts.rows) };
    print(&format!("{} enrolled; {rows} in {}\n", args.one.identity, folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
