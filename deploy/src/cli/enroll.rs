//! `deploy enroll`: one more row in a gallery.

use std::process::ExitCode;

use super::args::EnrollArgs;
use super::shared::{embed_row, facts, named_row, open, print};
use crate::DeployError;
use crate::gallery::{self, Exclusive, Writer};

pub(crate) fn run(EnrollArgs { one, writing }: &EnrollArgs) -> Result<ExitCode, DeployError> {
    let model = open(&one.model, 1)?;
    let row = named_row(&model, one)?;
    let (_, spec) = model.embedding()?;
    let folder = &one.gallery;
    let new = embed_row(&model, one, &row)?;
    // From reading the old rows to writing the new ones nobody else may add any.
    let exclusive = Exclusive::take(folder, writing.wait)?;
    let old = match gallery::is_embeddings(folder) {
        true => Some(gallery::open(folder, &model.path, &spec.contract_id, spec.dim)?),
        false => None,
    };
    let mut writer = Writer::create(exclusive, spec.dim)?;
    let mut skipped = 0;
    if let Some((old, facts)) = &old {
        skipped = facts.skipped;
        for (at, picture) in old.pictures.iter().enumerate() {
            writer.row(picture, old.row(at))?;
        }
    }
    writer.row(&new.pictures[0], new.row(0))?;
    let facts = writer.finish(facts(&model, spec, skipped))?;
    let rows = if facts.rows == 1 { "1 row".to_owned() } else { format!("{} rows", facts.rows) };
    print(&format!("{} enrolled; {rows} in {}\n", one.identity, folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
