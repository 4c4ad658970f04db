//! `deploy embed`: pictures to a gallery.

use std::path::Path;
use std::process::ExitCode;

use ::gallery::{Changes, GalleryError, Store};

use super::args::EmbedArgs;
use super::shared::{embed_options, list, one_row, open, pin, print, say_naming, tell_skipped, writing};
use crate::gallery::{self, About, Enrolment, Gallery, Template};
use crate::{DeployError, embed};

pub(crate) fn run(args: &EmbedArgs) -> Result<ExitCode, DeployError> {
    vacant(args)?;
    let mut pictures = list(&args.pictures, &args.pairs, args.naming.identity_from, args.reading.strict)?;
    let model = open(&args.model, pictures.len())?;
    if args.pictures.is_empty() {
        let (row, notes) = one_row(&model, &args.one, args.naming.identity_from)?;
        say_naming(&notes);
        pictures.push(row);
    }
    let (_, spec) = model.embedding()?;
    let target = writing(args.writing.wait, |wait| Target::open(args, &pin(&model, spec), wait))?;
    let bar = terminal::progress(pictures.len() as u64, "embed", "pictures");
    let options = embed_options(&args.model, &args.reading);
    let done = |count| bar.inc(count as u64);
    let dim = spec.dim;
    let written = target.fill(&pin(&model, spec), |changes| {
        changes.by("embed");
        let mut rows = Enrolment::new(changes, dim);
        let skipped = embed::stream(&model, &pictures, &options, done, |picture, row| {
            rows.row(Template::from(picture).stamped(), row)
        })?;
        let count = rows.finish()?;
        let followed = if args.pairs.pairs { Vec::new() } else { args.pictures.clone() };
        let identity_from = args.naming.identity_from.map(|naming| naming.to_string());
        let about = About { places: followed, identity_from, ..About::here(skipped.count) };
        changes.describe(&about.text())?;
        Ok((count, skipped))
    });
    bar.finish_and_clear();
    let (rows, skipped) = written?;
    tell_skipped(&skipped, pictures.len());
    print(&format!("{rows} embeddings of {dim} values in {}\n", args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// An error if the folder to write to holds embeddings that are not to be replaced.
fn vacant(args: &EmbedArgs) -> Result<(), DeployError> {
    if args.replace || !gallery::is_gallery(&args.out) {
        return Ok(());
    }
    match Gallery::open(&args.out).and_then(|gallery| gallery.count()) {
        Ok(0) => Ok(()),
        // A gallery whose creation was interrupted.
        Err(DeployError::Gallery(GalleryError::NoGallery { .. })) => Ok(()),
        rows => {
            let rows = rows.map_or_else(|_| "unknown".to_owned(), |rows| rows.to_string());
            Err(DeployError::Occupied { path: args.out.clone(), rows })
        }
    }
}

/// The folder that is written to, which no other program changes meanwhile.
struct Target<'a> {
    store: Store,
    folder: &'a Path,
    /// A gallery of the older layout is there, which is to be replaced.
    older: bool,
}

impl<'a> Target<'a> {
    fn open(args: &'a EmbedArgs, model: &::gallery::Model, wait: bool) -> Result<Self, DeployError> {
        let store = Store::write_or_create(&args.out, model, wait)?;
        // Somebody may have enrolled meanwhile.
        vacant(args)?;
        Ok(Self { store, folder: &args.out, older: gallery::is_older(&args.out) })
    }

    /// Replaces what is there by what `work` enrols, in one change.
    fn fill<T>(
        self,
        model: &::gallery::Model,
        work: impl FnOnce(&mut Changes<'_>) -> Result<T, DeployError>,
    ) -> Result<T, DeployError> {
        let (_store, done) = self.store.renew(model, work)?;
        if self.older {
            gallery::older::remove(self.folder)?;
        }
        Ok(done)
    }
}
