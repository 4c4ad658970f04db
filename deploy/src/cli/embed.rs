//! `deploy embed`: pictures to a gallery.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::gallery::{Changes, Store};
use contract::preprocess::PictureError;

use super::args::EmbedArgs;
use super::shared::{Named, embed_options, list, named, one_row, open, pin, print, say_naming, tell_skipped, writing};
use crate::embed::{Report, Source};
use crate::gallery::{self, About, Enrolment, Gallery, Template};
use crate::identity::Identity;
use crate::pictures::{Input, path_text};
use crate::video::Video;
use crate::{DeployError, embed};

pub(crate) fn run(args: &EmbedArgs) -> Result<ExitCode, DeployError> {
    args.key.unlock(&args.out)?;
    vacant(args)?;
    let Asked { mut pictures, videos, places } = asked(args)?;
    // Nobody knows how many frames a video has.
    let known = videos.is_empty().then_some(pictures.len());
    let model = open(&args.model, known.unwrap_or(usize::MAX))?;
    if args.pictures.is_empty() {
        let (row, notes) = one_row(&model, &args.one, args.naming.identity_from)?;
        say_naming(&notes);
        pictures.push(row);
    }
    let of = videos.is_empty().then_some(pictures.len());
    let (_, spec) = model.embedding()?;
    let mut failures = args.failures.as_deref().map(Failures::create).transpose()?;
    let target = writing(args.writing.wait, |wait| Target::open(args, &pin(&model, spec), wait))?;
    let bar = terminal::progress(of.unwrap_or_default() as u64, "embed", "pictures");
    let options = embed_options(&args.model, &args.reading);
    let dim = spec.dim;
    let written = target.fill(&pin(&model, spec), |changes| {
        changes.by("embed");
        let mut rows = Enrolment::new(changes, dim);
        let report = Report {
            done: |count| bar.inc(count as u64),
            failed: |picture: &embed::Picture, error: &PictureError| match &mut failures {
                Some(failures) => failures.add(picture.input.path(), error),
                None => Ok(()),
            },
        };
        let source = Source::new(&pictures, &videos);
        let skipped = embed::stream_from(&model, source, of, &options, report, |picture, row| {
            rows.row(Template::from(&*picture.input).stamped(), row)
        })?;
        let count = rows.finish()?;
        let identity_from = args.naming.identity_from.map(|naming| naming.to_string());
        let about = About { places, identity_from, ..About::here(skipped.count) };
        changes.describe(&about.text())?;
        Ok((count, skipped))
    });
    bar.finish_and_clear();
    if let Some(failures) = failures {
        failures.finish()?;
    }
    let (rows, skipped) = written?;
    tell_skipped(&skipped, of.unwrap_or(rows + skipped.count));
    print(&format!("{rows} embeddings of {dim} values in {}\n", args.out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// What is to be embedded.
struct Asked {
    pictures: Vec<Input>,
    videos: Vec<(Video, Identity)>,
    /// Folders and files that `gallery sync` follows.
    places: Vec<PathBuf>,
}

/// The pictures and videos that are asked for.
fn asked(args: &EmbedArgs) -> Result<Asked, DeployError> {
    let Named { places, mut pictures, arrays } = named(&args.pictures)?;
    if let Some(array) = arrays.first() {
        let problem =
            "rows of embeddings are enrolled by `deploy enroll`, or made a gallery by `deploy gallery import`";
        return Err(DeployError::Pattern { path: array.clone(), problem: problem.to_owned() });
    }
    let (videos, places): (Vec<PathBuf>, Vec<PathBuf>) = places.into_iter().partition(|place| Video::is_one(place));
    if args.pairs.pairs && places.is_empty() {
        let why = "no folder is listed".to_owned();
        return Err(DeployError::Unused { flag: "--pairs", why });
    }
    for (flag, given) in [("--every", args.every.is_some()), ("--frames", args.frames.is_some())] {
        if given && videos.is_empty() {
            return Err(DeployError::Unused { flag, why: "no video is listed".to_owned() });
        }
    }
    let most = args.frames.map(|most| most.get() as u64);
    if let Some(place) = videos.iter().find(|place| most.is_none() && Video::is_live(place)) {
        let problem = "it may never end; say by `--frames N` how many frames to embed".to_owned();
        return Err(DeployError::Video { path: place.clone(), problem });
    }
    if !places.is_empty() {
        pictures.extend(list(&places, &args.pairs, args.naming.identity_from, args.reading.strict)?);
    }
    let every = args.every.map_or(1, |every| every.get() as u64);
    let videos = videos.into_iter().map(|place| (Video { place, every, most }, Identity::Unnamed)).collect();
    let places = if args.pairs.pairs { Vec::new() } else { places };
    Ok(Asked { pictures, videos, places })
}

/// The file of pictures that cannot be used.
struct Failures {
    file: BufWriter<std::fs::File>,
    path: PathBuf,
}

impl Failures {
    fn create(path: &Path) -> Result<Self, DeployError> {
        let file = std::fs::File::create(path);
        let file = file.map_err(|source| DeployError::Write { path: path.to_owned(), source })?;
        Ok(Self { file: BufWriter::new(file), path: path.to_owned() })
    }

    fn add(&mut self, picture: &Path, error: &PictureError) -> Result<(), DeployError> {
        let line = serde_json::json!({ "path": path_text(picture), "problem": terminal::sentence(error) });
        writeln!(self.file, "{line}").map_err(|source| DeployError::Write { path: self.path.clone(), source })
    }

    fn finish(mut self) -> Result<(), DeployError> {
        self.file.flush().map_err(|source| DeployError::Write { path: self.path.clone(), source })
    }
}

/// An error if the folder to write to holds embeddings that are not to be replaced.
fn vacant(args: &EmbedArgs) -> Result<(), DeployError> {
    if args.replace || !gallery::is_gallery(&args.out) {
        return Ok(());
    }
    match Gallery::open(&args.out).and_then(|gallery| gallery.count()) {
        Ok(0) => Ok(()),
        // A gallery whose creation was interrupted.
        Err(DeployError::NoGallery(_)) => Ok(()),
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
        let store = gallery::open_or_make(&args.out, model, args.key.making(wait))?;
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
