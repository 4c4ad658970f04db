//! `deploy enroll`: adds a row to a gallery.

use std::process::ExitCode;

use ::gallery::Engine;

use super::args::EnrollArgs;
use super::shared::{self, embed_row, named_row, open, pin, print};
use crate::DeployError;
use crate::gallery::{self, Template};

pub(crate) fn run(EnrollArgs { one, writing }: &EnrollArgs) -> Result<ExitCode, DeployError> {
    let model = open(&one.model, 1)?;
    let row = named_row(&model, one)?;
    let (_, spec) = model.embedding()?;
    let folder = &one.gallery;
    let new = embed_row(&model, one, &row)?;
    let pin = pin(&model, spec);
    let store = shared::writing(writing.wait, |wait| gallery::write_or_create(folder, &pin, &model.path, wait))?;
    let templates = new.templates.into_iter().map(Template::stamped).collect();
    gallery::add(&store, gallery::Embeddings { templates, ..new })?;
    let rows = match store.info()?.templates {
        1 => "1 row".to_owned(),
        rows => format!("{rows} rows"),
    };
    print(&format!("{} enrolled; {rows} in {}\n", one.identity, folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
