//! `deploy gallery migrate`: a gallery becomes one of another model.

use std::process::ExitCode;

use ::gallery::Engine;
use serde_json::json;

use super::args::{FactsFormat, GalleryMigrateArgs};
use super::shared::{embed_options, open, pin, print, print_json, writing};
use crate::gallery::About;
use crate::migrate::{self, Cause, Look, Lost};
use crate::report::aligned;
use crate::{DeployError, gallery};

pub(crate) fn run(args: &GalleryMigrateArgs) -> Result<ExitCode, DeployError> {
    let folder = &args.gallery;
    if let Some(moved) = args.pictures.as_ref().filter(|moved| !moved.is_dir()) {
        let source = std::io::Error::from(std::io::ErrorKind::NotADirectory);
        return Err(DeployError::Read { path: moved.clone(), source });
    }
    // From here on nobody else changes it.
    let store = writing(args.writing.wait, |wait| gallery::write(folder, wait))?;
    let templates = store.info()?.templates;
    let model = open(&args.model, usize::try_from(templates).unwrap_or(usize::MAX))?;
    let (_, spec) = model.embedding()?;
    let (old, new) = (store.model().clone(), pin(&model, spec));
    if args.restart && !store.abandon_migration()? {
        let why = format!("no migration of `{}` was interrupted", folder.display());
        return Err(DeployError::Unused { flag: "--restart", why });
    }
    let report = |switched: bool, templates: u64, dropped: u64, lost: &[Lost]| {
        let (from, to) = (&old, &new);
        json!({
            "switched": switched, "from": from, "to": to, "templates": templates, "dropped": dropped, "lost": lost,
        })
    };
    if old.contract_id == new.contract_id {
        let (folder, id) = (folder.display(), &new.contract_id);
        match args.format {
            FactsFormat::Json => print_json(&report(false, 0, 0, &[]))?,
            FactsFormat::Table => {
                print(&format!("{folder} is of this model (contract id {id}); nothing is embedded again\n"))?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    store.begin_migration(&new)?;
    let look = Look::new(&store, args.pictures.as_deref(), args.take_changed)?;
    if let (Some(root), Some(moved)) = (look.root(), &args.pictures) {
        terminal::note(&format!("pictures of {} are looked for in {}", root.display(), moved.display()));
    }
    let before = store.migration()?.map_or(0, |migration| migration.templates);
    if before > 0 {
        terminal::note(&format!("{before} of {templates} templates were embedded by an earlier run"));
    }
    let bar = terminal::progress(templates, "migrate", "pictures");
    bar.inc(before);
    let options = embed_options(&args.model, &args.reading);
    let lost = migrate::embed(&store, &model, &look, &options, |count| bar.inc(count as u64));
    bar.finish_and_clear();
    let lost = lost?;
    let none = lost.len() as u64 == templates && templates > 0;
    let kept = !lost.is_empty() && (!args.drop_missing || none);
    if args.format == FactsFormat::Table && !lost.is_empty() {
        print(&table(&lost))?;
    }
    if kept {
        if args.format == FactsFormat::Json {
            print_json(&report(false, templates - lost.len() as u64, 0, &lost))?;
        }
        let changed = lost.iter().filter(|lost| lost.cause == Cause::Changed).count();
        return Err(DeployError::NotMigrated { path: folder.clone(), lost: lost.len(), of: templates, changed });
    }
    let (store, done) = store.finish_migration(args.drop_missing)?;
    if let Some(about) = look.about(About::of(&store.about()?)) {
        store.change(|changes| changes.describe(&about.text()))?;
    }
    match args.format {
        FactsFormat::Json => print_json(&report(true, done.templates, done.dropped, &lost))?,
        FactsFormat::Table => {
            let dropped = if done.dropped > 0 { format!(", {} removed", done.dropped) } else { String::new() };
            let (rows, model) = (store.info()?.templates, &model.contract.architecture);
            print(&format!(
                "{} templates embedded again by {model} (contract id {}){dropped}; {rows} in {}\n",
                done.templates,
                new.contract_id,
                folder.display()
            ))?;
        }
    }
    let own = match model.contract.threshold.as_deref() {
        Some([_, ..]) => "the new model brings its own",
        _ => "`deploy calibrate` measures those of the new one",
    };
    terminal::note(&format!("thresholds of the old model mean nothing for the new rows; {own}"));
    if done.indexed {
        let folder = folder.display();
        terminal::note(&format!(
            "the index of the old rows is gone; `deploy gallery index {folder}` makes one of the new"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Templates that cannot be embedded again, in columns.
fn table(lost: &[Lost]) -> String {
    let mut lines = vec![["template", "identity", "picture", "problem"].map(str::to_owned).to_vec()];
    lines.extend(lost.iter().map(|Lost { template, identity, path, cause: _, problem }| {
        vec![template.to_string(), identity.clone(), path.display().to_string(), problem.clone()]
    }));
    aligned(&lines)
}
