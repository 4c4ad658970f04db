//! `deploy enroll`: adds a row to a gallery.

use std::process::ExitCode;

use super::args::EnrollArgs;
use super::shared::{embed_row, exclusive, facts, named_row, open, print};
use crate::DeployError;
use crate::gallery::{self, Writer};

pub(crate) fn run(EnrollArgs { one, writing }: &EnrollArgs) -> Result<ExitCode, DeployError> {
    let model = open(&one.model, 1)?;
    let row = named_row(&model, one)?;
    let (_, spec) = model.embedding()?;
    let folder = &one.gallery;
    let new = embed_row(&model, one, &row)?;
    // Nobody else may add rows between reading the old ones and writing the new ones.
    let exclusive = exclusive(folder, writing.wait)?;
    let old = match gallery::is_embeddings(folder) {
        true => Some(gallery::open(folder, &model.path, &spec.contract_id, spec.dim)?),
        false => None,
    };
    let mut writer = Writer::create(exclusive, spec.dim)?;
    let mut facts = facts(&model, spec, 0);
    let mut template = new.templates[0].clone().stamped();
    if let Some((old, before)) = &old {
        if before.folder != facts.folder {
            // Relative paths in the gallery start in another folder than the working folder.
            for path in std::iter::once(&mut template.path).chain(&mut template.others) {
                *path = facts.folder.join(&*path);
            }
        }
        (facts.skipped, facts.folder) = (before.skipped, before.folder.clone());
        for (at, template) in old.templates.iter().enumerate() {
            writer.row(template, old.row(at))?;
        }
    }
    writer.row(&template, new.row(0))?;
    let facts = writer.finish(facts)?;
    let rows = if facts.rows == 1 { "1 row".to_owned() } else { format!("{} rows", facts.rows) };
    print(&format!("{} enrolled; {rows} in {}\n", one.identity, folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
