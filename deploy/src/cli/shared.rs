//! Shared by several commands.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use contract::EmbeddingSpec;
use datasets::{DatasetError, LeftOut, Naming, Note};
use metrics::open_set::{self, OpenSetOptions, OpenSetReport};
use metrics::verification::{self, VerificationOptions, VerificationReport};

use crate::DeployError;
use crate::embed::{self, Collected, Skipped};
use crate::gallery::{Embeddings, Gallery};
use crate::identity::Identity;
use crate::manifest;
use crate::pictures::{self, Input};
use crate::runtime::{Model, Provider};
use crate::search::{self, Ask, Ranked};
use crate::trained::Overlap;

use super::args::{ModelArgs, OneArgs, PairArgs, PairFiles, PictureArgs, SplitArgs};

/// Writes a result to stdout. A closed pipe (`| head`) is not an error.
pub(super) fn print(text: &str) -> Result<(), DeployError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(DeployError::Write { path: "standard output".into(), source })
        }
        _ => Ok(()),
    }
}

pub(super) fn print_json(value: &impl serde::Serialize) -> Result<(), DeployError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| DeployError::Write { path: "standard output".into(), source: error.into() })?;
    print(&(text + "\n"))
}

/// Opens the model for `pictures` pictures and reports on stderr what it runs on.
pub(super) fn open(ModelArgs { model, run }: &ModelArgs, pictures: usize) -> Result<Model, DeployError> {
    terminal::note_fewer_threads(run.threads);
    let lanes = embed::Options { threads: run.threads(), ..embed::Options::default() }.lanes(pictures);
    let model = Model::open(model, &run.options(lanes))?;
    say_opened(&model, run.provider);
    Ok(model)
}

/// Reports on stderr what a model runs on.
pub(super) fn say_opened(model: &Model, asked: Provider) {
    let asked = match (asked, model.provider) {
        (Provider::Auto, Provider::Cpu) if model.runtime.onnxruntime().is_some() => " (auto), which runs all nodes",
        (Provider::Auto, _) => " (auto)",
        _ => "",
    };
    terminal::tell!("{} on {}{asked}, self-test {}", model.contract.architecture, model.runs_on(), model.self_test);
    if let Some(note) = &model.provider_note {
        terminal::note(note);
    }
    if let Some(placed) = &model.placed {
        terminal::note(&placed.to_string());
    }
}

/// The pictures of `places`, or their pairs. Skipped files are reported, and an error if `strict`; so is what names the
/// people where folders and file names contradict each other.
pub(super) fn list(
    places: &[PathBuf],
    pairs: &PairArgs,
    naming: Option<Naming>,
    strict: bool,
) -> Result<Vec<Input>, DeployError> {
    let (rows, notes) = list_with_notes(places, pairs, naming, strict)?;
    say_naming(&notes);
    Ok(rows)
}

/// What is named on a command line.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Folders and files, those of lists and patterns too.
    pub(super) places: Vec<PathBuf>,
    /// Rows of tables.
    pub(super) pictures: Vec<Input>,
    /// Files of embeddings.
    pub(super) arrays: Vec<PathBuf>,
}

/// Tells tables, lists, patterns and files of embeddings from folders and pictures.
pub(super) fn named(paths: &[PathBuf]) -> Result<Named, DeployError> {
    let mut all = Named::default();
    for path in paths {
        let ending = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match &ending[..] {
            _ if path.as_os_str() == "-" => all.places.extend(manifest::list(path)?),
            "csv" => all.pictures.extend(manifest::read_pictures(path)?),
            "txt" => all.places.extend(manifest::list(path)?),
            "npy" => all.arrays.push(path.clone()),
            _ => all.places.extend(pictures::expanded(path)?),
        }
    }
    Ok(all)
}

/// Says what names the people.
pub(super) fn say_naming(notes: &[Note]) {
    for Note { text, other } in notes {
        let what = match other {
            Naming::File => "the file names",
            Naming::Folder => "the folder",
        };
        terminal::note(&format!("{text}; `--identity-from {other}` takes {what}"));
    }
}

/// [`list`], with what is to be said once it is known that nothing else names the people.
pub(super) fn list_with_notes(
    places: &[PathBuf],
    pairs: &PairArgs,
    naming: Option<Naming>,
    strict: bool,
) -> Result<(Vec<Input>, Vec<Note>), DeployError> {
    if !pairs.pairs {
        let listed = pictures::list(places, naming)?;
        say_left_out(&listed.left_out, &[], strict)?;
        return Ok((listed.pictures, listed.notes));
    }
    let mut rows = Vec::new();
    for place in places {
        let list = datasets::paired::list_pairs(place, &pairs.options())?;
        let sizes = datasets::paired::of_two_sizes(list.pairs.iter());
        list.warnings.iter().chain(&sizes).for_each(|warning| terminal::warn(warning));
        say_left_out(&list.left_out, &list.warnings, strict)?;
        rows.extend(pictures::of_pairs(list.pairs.iter(), &list.classes));
    }
    Ok((rows, Vec::new()))
}

/// Warns about skipped files and folders that are not in `said` yet; an error if `strict`.
pub(super) fn say_left_out(left_out: &LeftOut, said: &[String], strict: bool) -> Result<(), DeployError> {
    let warnings = left_out.warnings();
    if strict && left_out.is_loss() {
        return Err(DatasetError::LeftOut { warning: left_out.losses().join("; ") }.into());
    }
    warnings.iter().filter(|warning| !said.contains(warning)).for_each(|warning| terminal::warn(warning));
    Ok(())
}

/// The test pairs of a split of a folder, or all pairs; and a name for them.
pub(super) fn test_pairs(
    folder: &Path,
    pairs: &PairArgs,
    split: &SplitArgs,
    strict: bool,
) -> Result<(Vec<Input>, String), DeployError> {
    use datasets::paired::{PairOptions, PairedDataset, SplitRule};
    // `all` is not a split.
    let rule = split.split.parse().ok();
    if split.split_seed.is_some() && matches!(rule, None | Some(SplitRule::Session)) {
        let why = format!("nothing is drawn with `--split {}`", split.split);
        return Err(DeployError::Unused { flag: "--split-seed", why });
    }
    let Some(rule) = rule else {
        return Ok((list(&[folder.to_owned()], pairs, None, strict)?, "all pairs".to_owned()));
    };
    let seed = split.split_seed.unwrap_or(PairOptions::default().seed);
    let options = PairOptions { seed, split: rule, ..pairs.options() };
    let data = PairedDataset::open(folder, &options)?;
    let sizes = datasets::paired::of_two_sizes(data.test.iter());
    data.warnings.iter().chain(&sizes).for_each(|warning| terminal::warn(warning));
    say_left_out(&data.left_out, &data.warnings, strict)?;
    let rows = pictures::of_pairs(data.test.iter(), &data.classes);
    Ok((rows, format!("{}, test split by {}", data.name, split.split)))
}

/// Opens a gallery to change it. With `wait`, says whom it waits for.
pub(super) fn writing<T>(wait: bool, open: impl Fn(bool) -> Result<T, DeployError>) -> Result<T, DeployError> {
    match open(false) {
        Err(DeployError::Locked(held)) if wait => {
            terminal::note(&format!("{held}; waiting until it is done"));
            open(true)
        }
        Err(DeployError::Migrating(migrating)) if wait => {
            terminal::note(&format!("{migrating}; waiting until it is done"));
            open(true)
        }
        opened => opened,
    }
}

/// Changes a gallery that a server keeps. With `wait`, says whom it waits for.
pub(super) fn changing<T>(wait: bool, change: impl Fn() -> Result<T, DeployError>) -> Result<T, DeployError> {
    let mut said = false;
    loop {
        match change() {
            Err(DeployError::Gallery(held @ ::gallery::GalleryError::Held { .. })) if wait => {
                if !said {
                    terminal::note(&format!("{held}; waiting until it is done"));
                }
                said = true;
            }
            done => return done,
        }
    }
}

/// What galleries of the model are pinned to.
pub(super) fn pin(model: &Model, spec: &EmbeddingSpec) -> ::gallery::Model {
    model.pin(spec)
}

/// The row of one person: a picture for each input of the model. A missing one is an error, unless the model accepts
/// that and there is another. The identity comes from the first file's name or folder, as `naming` says; and what is to
/// be said about that.
pub(super) fn one_row(
    model: &Model,
    one: &PairFiles,
    naming: Option<Naming>,
) -> Result<(Input, Vec<Note>), DeployError> {
    let missing = |name: &str| DeployError::MissingModality { missing: name.into() };
    let (mut files, mut absent) = (Vec::new(), Vec::new());
    if let [_] = model.contract.input.as_slice() {
        files.extend(one.palm.iter().chain(&one.vein).cloned());
    } else {
        for (input, file) in model.contract.input.iter().zip([&one.palm, &one.vein]) {
            match file {
                Some(file) => files.push(file.clone()),
                None if input.absent.is_some() => absent.push(input.name.clone()),
                None => return Err(missing(&input.name)),
            }
        }
    }
    let Some(first) = files.first() else {
        return Err(missing(absent.first().map_or("picture", String::as_str)));
    };
    let mut listed = pictures::list(std::slice::from_ref(first), naming)?;
    let mut row = listed.pictures.swap_remove(0);
    (row.files, row.missing) = (files, absent);
    Ok((row, listed.notes))
}

/// [`one_row`] of the named person.
pub(super) fn named_row(model: &Model, one: &OneArgs) -> Result<Input, DeployError> {
    let (row, _) = one_row(model, &one.files, None)?;
    Ok(Input { identity: Identity::given(&one.identity), camera: None, ..row })
}

/// Embeds one row; an unusable picture is an error.
pub(super) fn embed_row(model: &Model, run: &ModelArgs, row: &Input) -> Result<Embeddings, DeployError> {
    let options = embed::Options { batch_size: 1, threads: run.run.threads(), strict: true };
    match embed::collect(model, std::slice::from_ref(row), &options) {
        // Nobody asked for --strict: a single picture has to be usable.
        Err(DeployError::Strict { source, .. }) => Err(source.into()),
        collected => Ok(collected?.embeddings),
    }
}

pub(super) fn embed_options(model: &ModelArgs, pictures: &PictureArgs) -> embed::Options {
    embed::Options { batch_size: pictures.batch_size.get(), threads: model.run.threads(), strict: pictures.strict }
}

/// Embeds into memory with a progress bar, and reports unusable pictures on stderr.
pub(super) fn collect(
    model: &Model,
    pictures: &[Input],
    what: &str,
    options: &embed::Options,
) -> Result<Collected, DeployError> {
    let bar = terminal::progress(pictures.len() as u64, what, "pictures");
    let collected = embed::collect_with(model, pictures, options, |count| bar.inc(count as u64));
    bar.finish_and_clear();
    let collected = collected?;
    tell_skipped(&collected.skipped, pictures.len());
    Ok(collected)
}

/// Ranks with a progress bar.
pub(super) fn ranked(probes: &Embeddings, gallery: &Gallery, ask: &Ask, twins: bool) -> Result<Ranked, DeployError> {
    let total = ask.comparisons(probes.templates.len(), gallery.count()?);
    let bar = terminal::progress(total, "compare", "pairs");
    let found = search::rank(probes, gallery, ask, twins, |count| bar.inc(count as u64));
    bar.finish_and_clear();
    found
}

/// How many of the people in these rows the model was trained on, if it stores that. Warns if there are any.
pub(super) fn overlap(model: &Model, tested: &[&Embeddings]) -> Option<Overlap> {
    let training = &model.contract.training;
    let overlap = Overlap::of(training, tested.iter().copied())?;
    if let Some(warning) = overlap.warning(training) {
        terminal::warn(&warning);
    }
    Some(overlap)
}

/// Verification of a model.
pub(super) struct Compared {
    /// The results.
    pub(super) report: VerificationReport,
    /// Those of open-set identification, if it was asked for.
    pub(super) open: Option<OpenSetReport>,
    /// Number of unusable rows.
    pub(super) skipped: usize,
    /// How many of the people it was trained on, if it stores that.
    pub(super) people: Option<Overlap>,
}

/// Verification of the model on `rows`. Junk is skipped; distractors are impostors to everybody and not compared with
/// each other.
pub(super) fn compare(
    model: &Model,
    mut rows: Vec<Input>,
    what: &str,
    options: &embed::Options,
    measured: VerificationOptions,
    open: Option<OpenSetOptions>,
) -> Result<Compared, DeployError> {
    let all = rows.len();
    rows.retain(|row| row.identity != Identity::Junk);
    if rows.len() < all {
        let junk = all - rows.len();
        terminal::note(&format!("{junk} of {all} pictures are junk (identity -1) and are left out"));
    }
    let Collected { embeddings, skipped } = collect(model, &rows, what, options)?;
    let people = overlap(model, &[&embeddings]);
    let rows = embeddings.view()?;
    warn_when_collapsed(&metrics::spread(rows));
    let identities = || embeddings.templates.iter().map(|template| &template.identity);
    let numbers: HashMap<&str, i64> =
        identities().map(Identity::text).collect::<BTreeSet<_>>().into_iter().zip(datasets::DISTRACTOR + 1..).collect();
    let number = |of: &Identity| match of {
        Identity::Distractor => datasets::DISTRACTOR,
        person => numbers[person.text()],
    };
    let labels: Vec<i64> = identities().map(number).collect();
    let measured = VerificationOptions { distractor: Some(datasets::DISTRACTOR), ..measured };
    let report = verification::evaluate(rows, &labels, &measured)?;
    let open = open.map(|open| {
        let people = open_set::subjects(&labels, open.templates, measured.distractor);
        let galleries = open_set::sizes(people.saturating_sub(1));
        open_set::evaluate(rows, &labels, &OpenSetOptions { galleries, distractor: measured.distractor, ..open })
    });
    Ok(Compared { report, open: open.transpose()?, skipped: skipped.count, people })
}

pub(super) fn warn_when_collapsed(spread: &metrics::Spread) {
    if let Some(warning) = spread.warning() {
        terminal::warn(&warning);
    }
}

pub(super) fn tell_skipped(skipped: &Skipped, of: usize) {
    if skipped.count == 0 {
        return;
    }
    let mut lines = vec![format!("{} of {of} pictures cannot be used and are left out:", skipped.count)];
    for error in &skipped.named {
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
        lines.push(format!("  {error}{cause}"));
    }
    if skipped.count > skipped.named.len() {
        lines.push(format!("  and {} more", skipped.count - skipped.named.len()));
    }
    terminal::warn(&lines.join("\n"));
}
