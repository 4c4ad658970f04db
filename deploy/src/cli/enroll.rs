//! `deploy enroll`: adds people to a gallery.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::gallery::Near;
use rayon::prelude::*;
use serde::Serialize;

use super::args::{EnrollArgs, FactsFormat};
use super::shared::{
    self, Named, collect, embed_options, list, named, one_row, open, pin, print, print_json, warn_when_collapsed,
};
use crate::gallery::{self, Embeddings, Gallery, Place, Template};
use crate::identity::{Identity, NameSource};
use crate::manifest;
use crate::pictures::{Input, path_text};
use crate::quality::Quality;
use crate::runtime::Model;
use crate::{DeployError, twins, verify};

/// From here on a template may be the same picture again. Other batch sizes change a similarity by less.
const DUPLICATE: f32 = 1.0 - 1e-4;

/// From here on it is, whatever its file is.
const EQUAL: f32 = 1.0 - 1e-6;

/// From here on somebody else is very similar, where nothing is calibrated.
const SIMILAR: f32 = 0.9;

/// Templates of the gallery that each new one is compared with: the nearest.
const NEAREST: usize = 8;

/// Most reports of a kind that are printed.
const SHOWN: usize = 10;

pub(crate) fn run(args: &EnrollArgs) -> Result<ExitCode, DeployError> {
    args.key.unlock(&args.gallery)?;
    let (pictures, arrays) = asked(args)?;
    let model = open(&args.model, pictures.len().max(1))?;
    let (inputs, spec) = model.embedding()?;
    let pin = pin(&model, spec);
    gallery::fits(&args.gallery, &pin, &model.path)?;
    let pictures = rows(args, &model, pictures)?;
    say_who_is_named_by_a_folder(args, &pictures);
    let (new, skipped) = embedded(args, &model, &pictures, &arrays)?;
    warn_when_collapsed(&metrics::spread(new.view()?));
    let qualities = qualities(&new, inputs[0]);

    let wait = args.writing.wait;
    let place =
        shared::writing(wait, |wait| Place::open_or_create(&args.gallery, &pin, &model.path, args.key.making(wait)))?;
    let limit = args.similar.or_else(|| calibrated(&model)).unwrap_or(SIMILAR);
    let mut report = compare(&new, &args.gallery, limit)?;
    report.poor = qualities;
    report.skipped = skipped;
    report.similar_from = limit;
    let new = if args.selective { without(new, &report) } else { new };
    report.enrolled = new.templates.len();
    let people = new.templates.iter().filter_map(|template| match &template.identity {
        Identity::Person(name) => Some(name.text.clone()),
        _ => None,
    });
    let people: Vec<String> = people.collect::<BTreeSet<_>>().into_iter().collect();
    let ids = match &place {
        Place::Folder(store) => gallery::add(store, new)?,
        Place::Server(remote) => shared::changing(wait, || gallery::add_at(remote, &new))?,
    };
    report.templates = ids.into_iter().map(|id| id.0).collect();
    report.rows = place.count()?;
    match args.format {
        FactsFormat::Json => print_json(&report)?,
        FactsFormat::Table => {
            report.warn(args.selective);
            let rows = counted(report.rows, "row");
            let who = match (&people[..], report.enrolled) {
                ([name], 1) => name.clone(),
                (people, count) => {
                    format!("{} of {}", counted(count as u64, "template"), people_count(people.len()))
                }
            };
            print(&format!("{who} enrolled; {rows} in {}\n", args.gallery.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn people_count(count: usize) -> String {
    if count == 1 { "1 person".to_owned() } else { format!("{count} people") }
}

/// The similarity that the model's thresholds of comparisons with one template ask for at the lowest rate.
fn calibrated(model: &Model) -> Option<f32> {
    let thresholds = model.contract.threshold.iter().flatten().filter(|one| verify::sets(one, 1).is_some());
    thresholds.min_by(|a, b| a.far.total_cmp(&b.far)).map(|strictest| strictest.similarity as f32)
}

/// The pictures that are asked for, and the files of embeddings.
fn asked(args: &EnrollArgs) -> Result<(Vec<Input>, Vec<PathBuf>), DeployError> {
    let Named { places, mut pictures, arrays } = named(&args.pictures)?;
    if args.pairs.pairs && places.is_empty() {
        let why = "no folder is listed".to_owned();
        return Err(DeployError::Unused { flag: "--pairs", why });
    }
    if !places.is_empty() {
        pictures.extend(list(&places, &args.pairs, args.naming.identity_from, args.reading.strict)?);
    }
    Ok((pictures, arrays))
}

/// Says whom a picture that is listed alone shows, where only its folder tells: few people expect that.
fn say_who_is_named_by_a_folder(args: &EnrollArgs, pictures: &[Input]) {
    let alone = |picture: &&Input| args.identity.is_none() && args.pictures.iter().any(|path| path == picture.path());
    if let Some(Input { files, identity: Identity::Person(name), .. }) = pictures.iter().find(alone)
        && name.source == NameSource::Given
    {
        terminal::note(&format!(
            "`{}` is taken for `{}`, as its folder is called; `--identity NAME` says who it is",
            path_text(&files[0]),
            name.text
        ));
    }
}

/// All that is to be embedded, as the flags name it.
fn rows(args: &EnrollArgs, model: &Model, mut pictures: Vec<Input>) -> Result<Vec<Input>, DeployError> {
    if args.pictures.is_empty() {
        pictures.push(one_row(model, &args.files, None)?.0);
    }
    let all = pictures.len();
    pictures.retain(|picture| picture.identity != Identity::Junk || args.identity.is_some());
    if pictures.len() < all {
        terminal::note(&format!("{} of {all} pictures are junk (identity -1) and are left out", all - pictures.len()));
    }
    for picture in &mut pictures {
        name(args, &mut picture.identity, &mut picture.camera, &mut picture.taken, &mut picture.tags);
    }
    Ok(pictures)
}

/// Applies what the flags say about everything.
fn name(
    args: &EnrollArgs,
    identity: &mut Identity,
    camera: &mut Option<u32>,
    taken: &mut Option<i64>,
    tags: &mut Vec<String>,
) {
    if let Some(name) = &args.identity {
        // The camera in a name that is not believed is not believed either.
        *camera = camera.filter(|_| !identity.is_by_file());
        *identity = Identity::given(name);
    }
    *camera = args.camera.or(*camera);
    *taken = args.taken.or(*taken);
    tags.extend(args.tag.iter().cloned());
}

/// The rows of pictures and of files of embeddings, and how many pictures cannot be used.
fn embedded(
    args: &EnrollArgs,
    model: &Model,
    pictures: &[Input],
    arrays: &[PathBuf],
) -> Result<(Embeddings, usize), DeployError> {
    let (_, spec) = model.embedding()?;
    let mut all = Embeddings { values: Vec::new(), dim: spec.dim, templates: Vec::new(), folder: PathBuf::new() };
    let mut skipped = 0;
    if let ([one], true) = (pictures, args.pictures.is_empty()) {
        all = shared::embed_row(model, &args.model, one)?;
    } else if !pictures.is_empty() || arrays.is_empty() {
        let collected = collect(model, pictures, "embed", &embed_options(&args.model, &args.reading))?;
        (all, skipped) = (collected.embeddings, collected.skipped.count);
    }
    all.templates = all.templates.into_iter().map(Template::stamped).collect();
    for path in arrays {
        let values = gallery::array(path, spec.dim)?;
        let count = values.len() / spec.dim;
        let table = path.with_extension("csv");
        let mut templates = match table.is_file() {
            true => manifest::read(&table)?,
            false => vec![Input::new(path.clone(), Identity::Unnamed, None); count],
        };
        if templates.len() != count {
            let problem = format!("it has {} rows for the {count} rows of `{}`", templates.len(), path.display());
            return Err(DeployError::Manifest { path: table, problem });
        }
        for (row, template) in templates.iter_mut().enumerate() {
            if template.files.is_empty() || template.files[0] == *path {
                template.files = vec![format!("{}#{row}", path.display()).into()];
            }
            name(args, &mut template.identity, &mut template.camera, &mut template.taken, &mut template.tags);
        }
        all.values.extend(values);
        all.templates.extend(templates.iter().map(|template| Template::from(template).stamped()));
    }
    Ok((all, skipped))
}

/// What was enrolled, and what is worth a look.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// New templates.
    enrolled: usize,
    /// Their numbers.
    templates: Vec<u64>,
    /// Templates of the gallery now.
    rows: u64,
    /// Pictures that cannot be used.
    skipped: usize,
    /// New templates that are there already.
    duplicates: Vec<Pair>,
    /// New templates that look like somebody else.
    similar: Vec<Pair>,
    /// Similarity from which on they do.
    similar_from: f32,
    /// New templates of poor pictures.
    poor: Vec<Poor>,
}

#[derive(Debug, Serialize)]
struct Pair {
    #[serde(skip)]
    row: usize,
    path: String,
    identity: String,
    other_path: String,
    other_identity: String,
    similarity: f32,
}

#[derive(Debug, Serialize)]
struct Poor {
    #[serde(skip)]
    row: usize,
    path: String,
    problems: Vec<String>,
    #[serde(flatten)]
    quality: Quality,
}

impl Report {
    fn warn(&self, selective: bool) {
        let left_out = if selective { ", left out" } else { "" };
        let pair = |pair: &Pair| {
            format!(
                "{} ({}) and {} ({}): {:.4}",
                pair.path, pair.identity, pair.other_path, pair.other_identity, pair.similarity
            )
        };
        let say = |what: String, lines: Vec<String>| {
            let more = lines.len().saturating_sub(SHOWN);
            let mut text = vec![format!("{what} ({}):", lines.len())];
            text.extend(lines.into_iter().take(SHOWN).map(|line| format!("  {line}")));
            text.extend((more > 0).then(|| format!("  and {more} more")));
            if text.len() > 1 {
                terminal::warn(&text.join("\n"));
            }
        };
        say(format!("templates that are enrolled already{left_out}"), self.duplicates.iter().map(pair).collect());
        say("templates that look like somebody else".to_owned(), self.similar.iter().map(pair).collect());
        let poor = |poor: &Poor| format!("{}: {}", poor.path, poor.problems.join("; "));
        say(format!("pictures that are poor{left_out}"), self.poor.iter().map(poor).collect());
    }
}

/// Compares the new rows with the gallery and with each other.
fn compare(new: &Embeddings, gallery: &Path, limit: f32) -> Result<Report, DeployError> {
    let mut report = Report::default();
    let gallery = Gallery::open(gallery)?;
    let rows = new.view()?;
    let floor = Some(limit.min(DUPLICATE));
    let there = gallery.nearest(rows, NEAREST, floor)?;
    let here = ::gallery::nearest_rows(rows, rows, NEAREST, floor);
    for (row, template) in new.templates.iter().enumerate() {
        let found: Vec<usize> = there[row].iter().map(|near| near.row).collect();
        let mut others: Vec<(Near, Template)> = there[row].iter().copied().zip(gallery.templates(&found)?).collect();
        // Of two new rows the later one is like the earlier one.
        let earlier = here[row].iter().filter(|near| near.row < row);
        others.extend(earlier.map(|near| (*near, new.templates[near.row].clone())));
        let pair = |(near, other): &(Near, Template)| Pair {
            row,
            path: path_text(&template.path).into_owned(),
            identity: template.identity.text().to_owned(),
            other_path: path_text(&other.path).into_owned(),
            other_identity: other.identity.text().to_owned(),
            similarity: near.similarity,
        };
        let same = |other: &Template| template.identity.same(&other.identity);
        let again = others.iter().enumerate().find(|(at, (near, other))| {
            // Those of the gallery come first.
            let their_file = |path: &Path| if *at < found.len() { gallery.file(path) } else { path.to_owned() };
            near.similarity >= DUPLICATE
                && same(other) != Some(false)
                && (near.similarity >= EQUAL || twins::same_content((template, Path::to_owned), (other, their_file)))
        });
        let again = again.map(|(_, found)| found);
        report.duplicates.extend(again.map(pair));
        let similar = others.iter().filter(|(near, other)| near.similarity >= limit && same(other) == Some(false));
        report.similar.extend(similar.max_by(|a, b| a.0.similarity.total_cmp(&b.0.similarity)).map(pair));
    }
    Ok(report)
}

/// Measures the pictures.
fn qualities(new: &Embeddings, input: &contract::PictureSpec) -> Vec<Poor> {
    let poor = |(row, template): (usize, &Template)| {
        // Rows of a file of embeddings have no picture, or one that is gone.
        let quality = Quality::of(Path::new(&template.path), input).ok()?;
        let problems = quality.problems(input);
        let path = path_text(&template.path).into_owned();
        (!problems.is_empty()).then_some(Poor { row, path, problems, quality })
    };
    new.templates.par_iter().enumerate().filter_map(poor).collect()
}

/// The rows that are neither duplicates nor of poor pictures.
fn without(new: Embeddings, report: &Report) -> Embeddings {
    let pairs = report.duplicates.iter().map(|pair| pair.row);
    let out: BTreeSet<usize> = pairs.chain(report.poor.iter().map(|poor| poor.row)).collect();
    let kept: Vec<usize> = (0..new.templates.len()).filter(|row| !out.contains(row)).collect();
    Embeddings {
        values: kept.iter().flat_map(|row| new.row(*row)).copied().collect(),
        templates: kept.iter().map(|row| new.templates[*row].clone()).collect(),
        ..new
    }
}
