//! `deploy remove`: a person, or single templates, out of a gallery.

use std::process::ExitCode;

use ::gallery::{Ability, GalleryError, Selection, TemplateId, Trace};

use super::args::RemoveArgs;
use super::shared::{self, print};
use crate::gallery::{self, Gallery, Place};
use crate::{DeployError, report};

pub(crate) fn run(args: &RemoveArgs) -> Result<ExitCode, DeployError> {
    let folder = &args.gallery;
    let wait = args.writing.wait;
    let place = shared::writing(wait, |wait| Place::open(folder, wait))?;
    let engine = place.engine();
    if args.verify {
        engine.require(Ability::Erase)?;
    }
    let (what, rows) = match &args.identity {
        Some(name) => (gallery::person(name), Gallery::open(folder)?.of_person(name)?),
        None => {
            let ids = args.template.iter().copied().map(TemplateId).collect();
            (Selection::Templates(ids), args.template.iter().map(|id| *id as usize).collect())
        }
    };
    let gone = |error| match error {
        GalleryError::NoSubject { name } => DeployError::NotEnrolled { identity: name, gallery: folder.clone() },
        other => other.into(),
    };
    // What is looked for afterwards has to be known before.
    let before = if args.verify {
        Gallery::open(folder)?.vectors(&rows).map_err(|error| match error {
            DeployError::Gallery(error) | DeployError::NoGallery(error) => gone(error),
            other => other,
        })?
    } else {
        Vec::new()
    };
    let removed = shared::changing(wait, || engine.remove(&what).map_err(gone))?;
    let left = place.count()?;
    let rows = |count: u64| if count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
    let who = args.identity.clone().unwrap_or_else(|| match &args.template[..] {
        [id] => format!("template {id}"),
        ids => format!("{} templates", ids.len()),
    });
    print(&format!("{who} removed, {}; {} left in {}\n", rows(removed), rows(left), folder.display()))?;
    if !args.verify {
        if let Err(why) = engine.require(Ability::Erase) {
            terminal::warn(&why.to_string());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut traces: Vec<Trace> = Vec::new();
    for row in before.chunks_exact(place.model().dim) {
        traces.extend(::gallery::traces(folder, row)?);
    }
    if traces.is_empty() {
        print(&format!("no byte of {} is left in any file\n", if removed == 1 { "it" } else { "them" }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![["file", "left at byte"].map(str::to_owned).to_vec()];
    lines.extend(traces.iter().map(|trace| vec![trace.file.display().to_string(), trace.offset.to_string()]));
    print(&report::aligned(&lines))?;
    Ok(ExitCode::from(terminal::EXIT_NO))
}
