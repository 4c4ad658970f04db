//! What may be wrong with a data set, before anybody trains on it: people who train and are tested, equal pictures,
//! pictures that cannot be read, cameras that see next to nobody, queries that cannot be scored.

mod look;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;

use super::{DISTRACTOR, Dataset, Sample, Scorable};
use look::{Look, Seen, see};

/// Examples that are kept of a finding.
const EXAMPLES: usize = 100;

/// Examples that are kept of one picture's near duplicates.
const OF_ONE: usize = 8;

/// The largest camera's share of the training pictures over the smallest one's, above which a camera is said to see too
/// little.
const IMBALANCE: usize = 10;

/// What an audit calls tiny and nearly equal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AuditOptions {
    /// Shorter side in pixels below which a picture is tiny.
    pub min_side: u32,
    /// Grey levels of 256 that two nearly equal pictures differ by at most in the mean, made small and brought to one
    /// light and contrast.
    pub distance: f32,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { min_side: 24, distance: 4.0 }
    }
}

/// What an audit has just done, for progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tick {
    /// Read a picture.
    Read,
    /// Compared a picture with those behind it.
    Compared,
}

/// Pictures, identities and cameras of one of a dataset's sets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct SetFacts {
    /// Pictures.
    pub pictures: usize,
    /// Identities, distractors not among them.
    pub identities: usize,
    /// Cameras; 0 where they are not known.
    pub cameras: usize,
}

/// Pictures of one camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CameraFacts {
    /// Number of the camera.
    pub camera: i64,
    /// Pictures that train.
    pub train: usize,
    /// Queries.
    pub query: usize,
    /// Pictures of the gallery.
    pub gallery: usize,
}

/// What a dataset holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DatasetFacts {
    /// Its name.
    pub name: String,
    /// The training set.
    pub train: SetFacts,
    /// The queries.
    pub query: SetFacts,
    /// The gallery.
    pub gallery: SetFacts,
    /// How many queries can be scored.
    pub scorable: Scorable,
    /// Its cameras, ascending; none where they are not known.
    pub cameras: Vec<CameraFacts>,
    /// How many training identities have how many pictures: pictures, identities.
    pub pictures_of_identities: Vec<[usize; 2]>,
    /// What its listing left out, and other warnings.
    pub warnings: Vec<String>,
}

/// Kinds of findings, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// Identities that train and are tested.
    SharedIdentities,
    /// Equal pictures, one of which trains and one tests.
    EqualAcrossSplits,
    /// Nearly equal pictures, one of which trains and one tests.
    NearAcrossSplits,
    /// Equal pictures of different identities.
    EqualAcrossIdentities,
    /// Nearly equal pictures of different identities.
    NearAcrossIdentities,
    /// Equal pictures of one identity by different cameras.
    EqualAcrossCameras,
    /// Nearly equal pictures of one identity by different cameras.
    NearAcrossCameras,
    /// Equal pictures of one identity by one camera, or by cameras that are not known.
    Equal,
    /// Nearly equal pictures of one identity by one camera, or by cameras that are not known: neighbouring frames.
    Near,
    /// Queries whose identity is not in the gallery.
    QueryAbsent,
    /// Queries whose identity is in the gallery from their own camera only.
    QueryOwnCamera,
    /// Pictures that cannot be read.
    Unreadable,
    /// Pictures that are too small to show much.
    Tiny,
    /// Pictures of one colour.
    Blank,
    /// Training identities with one picture.
    OnePicture,
    /// Training identities that one camera sees, where there are several.
    OneCamera,
    /// Cameras with few training pictures.
    RareCamera,
}

impl FindingKind {
    /// What is counted.
    pub fn title(self) -> &'static str {
        match self {
            Self::SharedIdentities => "identities that train and are tested",
            Self::EqualAcrossSplits => "equal pictures, one trains and one tests",
            Self::NearAcrossSplits => "nearly equal pictures, one trains and one tests",
            Self::EqualAcrossIdentities => "equal pictures of different identities",
            Self::NearAcrossIdentities => "nearly equal pictures of different identities",
            Self::EqualAcrossCameras => "equal pictures of one identity by different cameras",
            Self::NearAcrossCameras => "nearly equal pictures of one identity by different cameras",
            Self::Equal => "equal pictures of one identity, by one camera as far as is known",
            Self::Near => "nearly equal pictures of one identity, by one camera as far as is known",
            Self::QueryAbsent => "queries of people who are not in the gallery",
            Self::QueryOwnCamera => "queries with a match from their own camera only",
            Self::Unreadable => "pictures that cannot be read",
            Self::Tiny => "tiny pictures",
            Self::Blank => "pictures of one colour",
            Self::OnePicture => "training identities with one picture",
            Self::OneCamera => "training identities that one camera sees",
            Self::RareCamera => "cameras with few training pictures",
        }
    }

    /// Why that matters, in a sentence.
    pub fn why(self) -> &'static str {
        match self {
            Self::SharedIdentities | Self::EqualAcrossSplits | Self::NearAcrossSplits => {
                "The test asks for what training has shown: scores will be too high."
            }
            Self::EqualAcrossIdentities | Self::NearAcrossIdentities => {
                "One person may have two names, or one picture a wrong one."
            }
            Self::EqualAcrossCameras | Self::NearAcrossCameras => {
                "One of the cameras may be wrong; a query then finds itself."
            }
            Self::Equal => "Copies add nothing and weigh more than other pictures.",
            Self::Near => "Neighbouring frames of a track; they add little.",
            Self::QueryAbsent | Self::QueryOwnCamera => "The protocol leaves them out of every average.",
            Self::Unreadable => "Training takes others in their place, evaluation leaves them out.",
            Self::Tiny => "They are stretched to the network's size and show little.",
            Self::Blank => "They show nobody.",
            Self::OnePicture => "Metric losses find no second picture of them.",
            Self::OneCamera => "Nothing teaches the network how they look elsewhere.",
            Self::RareCamera => "The network learns next to nothing of how they see.",
        }
    }
}

/// An instance of a finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// Who or what it is about, and what is wrong.
    pub what: String,
    /// Pictures that show it; may be empty.
    #[serde(serialize_with = "lossy")]
    pub pictures: Vec<PathBuf>,
}

/// Paths as text, whatever bytes they have.
fn lossy<S: serde::Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

/// All instances of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// How often it was found: people, pictures, queries, cameras, or pairs of pictures.
    pub count: usize,
    /// The first instances.
    pub examples: Vec<Example>,
}

/// What is in some datasets, and what may be wrong with them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// Each dataset.
    pub datasets: Vec<DatasetFacts>,
    /// Picture files that were looked at.
    pub files: usize,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
}

/// Findings by kind, while they are collected.
#[derive(Default)]
struct Findings(BTreeMap<FindingKind, (usize, Vec<Example>)>);

impl Findings {
    fn add(&mut self, kind: FindingKind, count: usize, example: impl FnOnce() -> Example) {
        let (all, examples) = self.0.entry(kind).or_default();
        *all += count;
        if examples.len() < EXAMPLES {
            examples.push(example());
        }
    }
}

/// A picture in its set.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Number of the dataset.
    dataset: usize,
    /// `train`, `query` or `gallery`.
    set: &'static str,
    sample: &'a Sample,
    /// Whether the sample's camera is one that took it.
    camera_known: bool,
}

impl Place<'_> {
    fn trains(&self) -> bool {
        self.set == "train"
    }

    /// Identity and set, for people.
    fn text(&self) -> String {
        let Sample { identity, identity_name, camera, .. } = self.sample;
        let who = if identity_name.is_empty() { identity.to_string() } else { identity_name.clone() };
        let camera = if self.camera_known { format!(", camera {camera}") } else { String::new() };
        format!("`{who}` ({}{camera})", self.set)
    }
}

/// Looks at every picture of the datasets, each as it is listed alone, and reports what may be wrong. `tick` is called
/// from the threads of rayon's pool: once for each picture file, and once more for each that is compared.
pub fn audit(sets: &[Dataset], options: AuditOptions, tick: &(dyn Fn(Tick) + Sync)) -> Audit {
    let mut findings = Findings::default();
    sets.iter().for_each(|set| of_listing(set, &mut findings));
    let mut places = Vec::new();
    for (dataset, set) in sets.iter().enumerate() {
        let camera_known = set.cameras_known;
        places.extend(set.samples().map(|(set, sample)| Place { dataset, set, sample, camera_known }));
    }
    // A file may be in two sets, such as a query that is in the gallery as well.
    let mut numbers = HashMap::<&Path, usize>::new();
    let mut files: Vec<&Path> = Vec::new();
    let file_of: Vec<usize> = places
        .iter()
        .map(|place| {
            *numbers.entry(&place.sample.path).or_insert_with(|| {
                files.push(&place.sample.path);
                files.len() - 1
            })
        })
        .collect();
    let seen: Vec<Result<Seen, String>> = files
        .par_iter()
        .map(|path| {
            let seen = see(path);
            tick(Tick::Read);
            seen
        })
        .collect();
    for (path, seen) in files.iter().zip(&seen) {
        of_picture(path, seen, options, &mut findings);
    }
    let originals = equal(&places, &file_of, &seen, &mut findings);
    near(&originals, options, tick, &mut findings);
    let findings = findings.0.into_iter().map(|(kind, (count, examples))| Finding { kind, count, examples });
    Audit { datasets: sets.iter().map(facts).collect(), files: files.len(), findings: findings.collect() }
}

/// Nobody in particular: by Market-1501's convention, which `folders` does not follow.
fn is_nobody(set: &Dataset, sample: &Sample) -> bool {
    sample.identity == DISTRACTOR && set.name != "folders"
}

fn facts(set: &Dataset) -> DatasetFacts {
    let of = |samples: &[Sample]| SetFacts {
        pictures: samples.len(),
        identities: samples
            .iter()
            .filter(|one| !is_nobody(set, one))
            .map(|one| one.identity)
            .collect::<BTreeSet<_>>()
            .len(),
        cameras: samples.iter().filter(|_| set.cameras_known).map(|one| one.camera).collect::<BTreeSet<_>>().len(),
    };
    let mut cameras = BTreeMap::new();
    for (name, sample) in set.samples().filter(|_| set.cameras_known) {
        let camera = sample.camera;
        let facts = cameras.entry(camera).or_insert(CameraFacts { camera, train: 0, query: 0, gallery: 0 });
        match name {
            "train" => facts.train += 1,
            "query" => facts.query += 1,
            _ => facts.gallery += 1,
        }
    }
    let mut sizes = BTreeMap::<usize, usize>::new();
    by_identity(&set.train).into_values().for_each(|of| *sizes.entry(of.len()).or_default() += 1);
    DatasetFacts {
        name: set.name.clone(),
        train: of(&set.train),
        query: of(&set.query),
        gallery: of(&set.gallery),
        scorable: set.scorable(),
        cameras: cameras.into_values().collect(),
        pictures_of_identities: sizes.into_iter().map(|(pictures, identities)| [pictures, identities]).collect(),
        warnings: set.all_warnings(),
    }
}

fn by_identity(samples: &[Sample]) -> BTreeMap<i64, Vec<&Sample>> {
    let mut all = BTreeMap::<i64, Vec<&Sample>>::new();
    samples.iter().for_each(|sample| all.entry(sample.identity).or_default().push(sample));
    all
}

/// What the names of one dataset tell.
fn of_listing(set: &Dataset, findings: &mut Findings) {
    let (train, query, gallery) = (by_identity(&set.train), by_identity(&set.query), by_identity(&set.gallery));
    let example = |samples: &[&Sample], note: String| Example {
        what: format!("{}: `{}`{note}", set.name, samples[0].identity_name),
        pictures: vec![samples[0].path.clone()],
    };
    for (identity, samples) in &train {
        let tested = query.get(identity).or_else(|| gallery.get(identity));
        if let Some(tested) = tested.filter(|_| !is_nobody(set, samples[0])) {
            findings.add(FindingKind::SharedIdentities, 1, || {
                let mut shared = example(samples, String::new());
                shared.pictures.push(tested[0].path.clone());
                shared
            });
        }
        if let [_] = samples[..] {
            findings.add(FindingKind::OnePicture, 1, || example(samples, String::new()));
        }
    }
    let cameras = |samples: &[&Sample]| samples.iter().map(|one| one.camera).collect::<BTreeSet<_>>();
    let of_train: BTreeSet<i64> = set.train.iter().map(|one| one.camera).collect();
    if set.cameras_known && of_train.len() > 1 {
        for samples in train.values().filter(|samples| samples.len() > 1) {
            if let [camera] = cameras(samples).into_iter().collect::<Vec<_>>()[..] {
                findings.add(FindingKind::OneCamera, 1, || example(samples, format!(", camera {camera}")));
            }
        }
        let mut pictures = BTreeMap::<i64, usize>::new();
        set.train.iter().for_each(|one| *pictures.entry(one.camera).or_default() += 1);
        let most = pictures.values().copied().max().unwrap_or(0);
        for (camera, count) in pictures.into_iter().filter(|(_, count)| count * IMBALANCE < most) {
            findings.add(FindingKind::RareCamera, 1, || Example {
                what: format!("{}: camera {camera} has {count} training pictures, the largest {most}", set.name),
                pictures: vec![],
            });
        }
    }
    for samples in query.values() {
        let found = gallery.get(&samples[0].identity).map(|gallery| cameras(gallery));
        for &sample in samples {
            match &found {
                None => findings.add(FindingKind::QueryAbsent, 1, || example(&[sample], String::new())),
                Some(cameras) if cameras.iter().all(|camera| *camera == sample.camera) => {
                    let note = format!(", camera {}", sample.camera);
                    findings.add(FindingKind::QueryOwnCamera, 1, || example(&[sample], note));
                }
                Some(_) => {}
            }
        }
    }
}

/// What one picture tells.
fn of_picture(path: &Path, seen: &Result<Seen, String>, options: AuditOptions, findings: &mut Findings) {
    let pictures = || vec![path.to_owned()];
    match seen {
        Err(error) => {
            let what = error.clone();
            findings.add(FindingKind::Unreadable, 1, || Example { what, pictures: pictures() });
        }
        Ok(Seen { size: (width, height), look, .. }) => {
            let what = || format!("`{}`, {width}×{height} pixels", path.display());
            if (*width).min(*height) < options.min_side {
                findings.add(FindingKind::Tiny, 1, || Example { what: what(), pictures: pictures() });
            }
            if look.is_none() {
                findings.add(FindingKind::Blank, 1, || Example { what: what(), pictures: pictures() });
            }
        }
    }
}

/// What a pair of pictures is called; none of one file that is query and gallery picture.
fn relation(left: &Place, right: &Place, equal: bool) -> Option<FindingKind> {
    use FindingKind::{
        Equal, EqualAcrossCameras, EqualAcrossIdentities, EqualAcrossSplits, Near, NearAcrossCameras,
        NearAcrossIdentities, NearAcrossSplits,
    };
    let one_file = left.sample.path == right.sample.path;
    let one_person = left.dataset == right.dataset && left.sample.identity == right.sample.identity;
    let kinds = if left.trains() != right.trains() {
        [EqualAcrossSplits, NearAcrossSplits]
    } else if one_file && left.dataset == right.dataset {
        return None;
    } else if !one_person {
        [EqualAcrossIdentities, NearAcrossIdentities]
    } else if left.camera_known && left.sample.camera != right.sample.camera {
        [EqualAcrossCameras, NearAcrossCameras]
    } else {
        [Equal, Near]
    };
    Some(if equal { kinds[0] } else { kinds[1] })
}

fn pair(left: &Place, right: &Place, note: String) -> Example {
    Example {
        what: format!("{} and {}{note}", left.text(), right.text()),
        pictures: vec![left.sample.path.clone(), right.sample.path.clone()],
    }
}

/// Reports pictures that equal an earlier one, pixel by pixel. Returns the others, all of them different, with their
/// looks.
fn equal<'a>(
    places: &[Place<'a>],
    file_of: &[usize],
    seen: &[Result<Seen, String>],
    findings: &mut Findings,
) -> Vec<(Place<'a>, Look)> {
    let (mut first, mut originals) = (HashMap::<[u8; 32], usize>::new(), Vec::new());
    for (at, (place, file)) in places.iter().zip(file_of).enumerate() {
        let Ok(Seen { pixels, look: Some(look), .. }) = &seen[*file] else { continue };
        let original = *first.entry(*pixels).or_insert(at);
        if original == at {
            originals.push((*place, *look));
        } else if let Some(kind) = relation(&places[original], place, true) {
            findings.add(kind, 1, || pair(&places[original], place, String::new()));
        }
    }
    originals
}

/// Reports pairs of different pictures that look alike.
fn near(originals: &[(Place, Look)], options: AuditOptions, tick: &(dyn Fn(Tick) + Sync), findings: &mut Findings) {
    type Row = (BTreeMap<FindingKind, usize>, Vec<(FindingKind, usize, f32)>);
    let row = |at: usize| -> Row {
        let (place, look) = &originals[at];
        let (mut counts, mut kept) = (BTreeMap::<FindingKind, usize>::new(), Vec::new());
        for (other, (second, other_look)) in originals.iter().enumerate().skip(at + 1) {
            let Some(distance) = look.distance(other_look, options.distance) else { continue };
            let Some(kind) = relation(place, second, false) else { continue };
            let count = counts.entry(kind).or_default();
            *count += 1;
            if *count <= OF_ONE {
                kept.push((kind, other, distance));
            }
        }
        tick(Tick::Compared);
        (counts, kept)
    };
    let rows: Vec<Row> = (0..originals.len()).into_par_iter().map(row).collect();
    for (at, (counts, kept)) in rows.into_iter().enumerate() {
        for (kind, other, distance) in kept {
            let note = format!(", {distance:.1} levels apart");
            findings.add(kind, 1, || pair(&originals[at].0, &originals[other].0, note));
        }
        for (kind, count) in counts {
            findings.0.entry(kind).or_default().0 += count.saturating_sub(OF_ONE);
        }
    }
}

#[cfg(test)]
mod tests;
