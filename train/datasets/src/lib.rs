//! Pictures and who is on them: public re-identification datasets by name, and your own folders.
//!
//! Training and `deploy` list the same pictures in the same order, because both use this crate. Only [`audit`] reads
//! pixels.
//!
//! ```no_run
//! use datasets::{Dataset, Options};
//! let market = Dataset::open("market1501", "data".as_ref(), &Options::default())?;
//! println!("{} identities to train on, {} queries", market.classes().len(), market.query.len());
//! # Ok::<(), datasets::DatasetError>(())
//! ```

pub mod audit;
pub mod columns;
mod cuhk03;
mod error;
mod folders;
mod identity;
mod listing;
mod manifest;
pub mod mot;
mod msmt17;
mod name;
pub mod paired;
mod small;
mod three_folders;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use contract::trained::TrainedOn;
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use error::{DatasetError, NameError};
pub use identity::{Naming, Note, PictureList, identity_name, list_pictures, number_of};
pub use listing::LeftOut;
pub use manifest::is_table;
pub use name::{natural, parse};

use listing::Listing;
use small::Small;

/// Identity of junk: neither right nor wrong. Such pictures are left out of a [`Dataset`].
pub const JUNK: i64 = -1;

/// Identity of distractors by Market-1501's convention: nobody in particular, and wrong for everybody.
pub const DISTRACTOR: i64 = 0;

/// A picture, its identity and its camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The file.
    pub path: PathBuf,
    /// Number of the identity; unique within a dataset, not dense. 0 is Market-1501's distractors.
    pub identity: i64,
    /// The identity as its folder or file name has it.
    pub identity_name: String,
    /// Camera, from 0.
    pub camera: i64,
}

/// Choices that a layout leaves open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// `folders` only: how many identities train, the first ones in natural order; half of them if `None`.
    pub train_identities: Option<usize>,
    /// Whether `cuhk03` means `cuhk03_labeled` instead of `cuhk03_detected`.
    pub cuhk03_labeled: bool,
}

/// Number of pictures, identities and cameras.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Training pictures.
    pub train: usize,
    /// Query pictures.
    pub query: usize,
    /// Gallery pictures, distractors included, junk not.
    pub gallery: usize,
    /// Training identities.
    pub classes: usize,
    /// Cameras.
    pub cameras: usize,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { train, query, gallery, classes, cameras } = self;
        write!(
            f,
            "{train} training pictures of {classes} identities, {query} queries, {gallery} gallery pictures, {cameras} \
             cameras"
        )
    }
}

/// How many queries an evaluation can score: the others are in no average.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Scorable {
    /// All queries.
    pub queries: usize,
    /// Those whose identity is in the gallery from another camera.
    pub scored: usize,
    /// Those whose identity is in the gallery from their own camera only, which the protocol leaves out.
    pub own_camera: usize,
    /// Those whose identity is not in the gallery.
    pub absent: usize,
}

impl std::fmt::Display for Scorable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { queries, scored, own_camera, absent } = self;
        write!(f, "{scored} of {queries} queries have a match from another camera")?;
        for (count, what) in [(own_camera, "match from their own camera only"), (absent, "person not in the gallery")] {
            if *count > 0 {
                write!(f, "; {what}: {count}")?;
            }
        }
        Ok(())
    }
}

/// The three sets of a re-identification dataset, each in natural order of its file names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// Names of its parts, joined by `+`.
    pub name: String,
    /// Pictures to train on.
    pub train: Vec<Sample>,
    /// Query pictures.
    pub query: Vec<Sample>,
    /// Gallery pictures, distractors included.
    pub gallery: Vec<Sample>,
    /// Files and folders among them that are not used.
    pub left_out: LeftOut,
    /// Other warnings, one sentence each.
    pub warnings: Vec<String>,
    /// Whether cameras are those that took the pictures. If not, they only keep the protocol from leaving matches out.
    pub cameras_known: bool,
    /// Folder of each part; the fingerprint's file names are relative to it.
    bases: Vec<PathBuf>,
}

/// What a layout's folders hold.
struct Parts {
    /// Training, query and gallery pictures.
    samples: [Vec<Sample>; 3],
    left_out: LeftOut,
    warnings: Vec<String>,
    /// See [`Dataset::cameras_known`].
    cameras_known: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Market1501,
    DukeMtmc,
    Cuhk03Labeled,
    Cuhk03Detected,
    Msmt17,
    Small(Small),
    Folders,
}

/// Where the pictures of one dataset are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// By folders and file names.
    Layout(Kind),
    /// In a table.
    Table(PathBuf),
}

impl Source {
    /// The sources of `names`; none of an empty text.
    fn all(names: &str, root: &Path, options: &Options) -> Result<Vec<Self>, DatasetError> {
        let parts: Vec<&str> = if names.trim().is_empty() { vec![] } else { names.split('+').collect() };
        let (mut sources, mut at) = (Vec::new(), 0);
        while at < parts.len() {
            // A file may have a `+` in its name.
            let table =
                (at + 1..=parts.len()).rev().find_map(|end| Some((manifest::find(&parts[at..end], root)?, end)));
            let (source, end) = match table {
                Some((path, end)) => (Self::Table(path), end),
                None if is_table(parts[at]) => {
                    let name = parts[at].trim().to_owned();
                    return Err(DatasetError::NoTable { name, root: root.to_owned() });
                }
                None => (Self::Layout(Kind::of(parts[at], options)?), at + 1),
            };
            sources.push(source);
            at = end;
        }
        Ok(sources)
    }

    fn name(&self) -> String {
        match self {
            Self::Layout(kind) => kind.name().into(),
            Self::Table(path) => path.display().to_string(),
        }
    }
}

/// Every name [`Dataset::open`] knows.
pub const NAMES: [&str; 12] = [
    "market1501",
    "dukemtmc",
    "cuhk03",
    "cuhk03_labeled",
    "cuhk03_detected",
    "msmt17",
    "viper",
    "grid",
    "prid2011",
    "ilids",
    "sensereid",
    "folders",
];

impl Kind {
    const NAMED: [Self; 10] = [
        Self::Market1501,
        Self::DukeMtmc,
        Self::Cuhk03Labeled,
        Self::Cuhk03Detected,
        Self::Msmt17,
        Self::Small(Small::Viper),
        Self::Small(Small::Grid),
        Self::Small(Small::Prid2011),
        Self::Small(Small::Ilids),
        Self::Small(Small::SenseReid),
    ];

    fn of(name: &str, options: &Options) -> Result<Self, DatasetError> {
        let kind = match name.trim().to_lowercase().as_str() {
            "market1501" => Self::Market1501,
            "dukemtmc" => Self::DukeMtmc,
            "cuhk03" if options.cuhk03_labeled => Self::Cuhk03Labeled,
            "cuhk03" | "cuhk03_detected" => Self::Cuhk03Detected,
            "cuhk03_labeled" => Self::Cuhk03Labeled,
            "msmt17" => Self::Msmt17,
            "viper" => Self::Small(Small::Viper),
            "grid" => Self::Small(Small::Grid),
            "prid2011" => Self::Small(Small::Prid2011),
            "ilids" => Self::Small(Small::Ilids),
            "sensereid" => Self::Small(Small::SenseReid),
            "folders" => Self::Folders,
            _ => return Err(DatasetError::UnknownName { name: name.to_owned(), known: NAMES.to_vec() }),
        };
        Ok(kind)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Market1501 => "market1501",
            Self::DukeMtmc => "dukemtmc",
            Self::Cuhk03Labeled => "cuhk03_labeled",
            Self::Cuhk03Detected => "cuhk03_detected",
            Self::Msmt17 => "msmt17",
            Self::Small(Small::Viper) => "viper",
            Self::Small(Small::Grid) => "grid",
            Self::Small(Small::Prid2011) => "prid2011",
            Self::Small(Small::Ilids) => "ilids",
            Self::Small(Small::SenseReid) => "sensereid",
            Self::Folders => "folders",
        }
    }

    /// Folders below the root that may hold it; the root itself is tried first.
    fn places(self) -> &'static [&'static str] {
        match self {
            Self::Market1501 => &[
                "Market-1501-v15.09.15",
                "Market-1501",
                "Market-1501/Market-1501-v15.09.15",
                "market1501",
                "market1501/Market-1501-v15.09.15",
            ],
            Self::DukeMtmc => &["DukeMTMC-reID", "dukemtmc-reid", "dukemtmc-reid/DukeMTMC-reID", "dukemtmc"],
            Self::Cuhk03Labeled => {
                &["cuhk03/CUHK03_labeled", "CUHK03/CUHK03_labeled", "CUHK03_labeled", "cuhk03", "CUHK03"]
            }
            Self::Cuhk03Detected => {
                &["cuhk03/CUHK03_detected", "CUHK03/CUHK03_detected", "CUHK03_detected", "cuhk03", "CUHK03"]
            }
            Self::Msmt17 => &[
                "msmt17/MSMT17",
                "MSMT17",
                "MSMT17_V1",
                "MSMT17_V2",
                "msmt17/MSMT17_V1",
                "msmt17/MSMT17_V2",
                "MSMT17/MSMT17_V1",
                "MSMT17/MSMT17_V2",
                "msmt17",
            ],
            Self::Small(Small::Viper) => &["VIPeR", "VIPeR.v1.0/VIPeR", "viper/VIPeR", "viper"],
            Self::Small(Small::Grid) => &["underground_reid", "grid/underground_reid", "grid", "GRID"],
            Self::Small(Small::Prid2011) => {
                &["single_shot", "prid_2011/single_shot", "prid2011/single_shot", "prid2011/prid_2011/single_shot"]
            }
            Self::Small(Small::Ilids) => {
                &["Persons", "i-LIDS_Pedestrian/Persons", "ilids/i-LIDS_Pedestrian/Persons", "ilids/Persons"]
            }
            Self::Small(Small::SenseReid) => &["SenseReID", "sensereid/SenseReID", "sensereid"],
            Self::Folders => &[],
        }
    }

    fn fits(self, base: &Path) -> bool {
        match self {
            Self::Folders => folders::fits(base),
            Self::Small(small) => small.fits(base),
            Self::Msmt17 => three_folders::fits(base) || msmt17::fits(base),
            Self::Cuhk03Labeled => three_folders::fits(base) || cuhk03::fits(base, "labeled"),
            Self::Cuhk03Detected => three_folders::fits(base) || cuhk03::fits(base, "detected"),
            Self::Market1501 | Self::DukeMtmc => three_folders::fits(base),
        }
    }

    fn base(self, root: &Path) -> Option<PathBuf> {
        let places = self.places().iter().map(|place| root.join(place));
        std::iter::once(root.to_owned()).chain(places).find(|base| self.fits(base))
    }

    /// A picture's name of the right form.
    fn example(self) -> &'static str {
        match self {
            Self::Market1501 => "0002_c1s1_000451_03.jpg",
            Self::DukeMtmc => "0005_c2_f0046985.jpg",
            Self::Cuhk03Labeled | Self::Cuhk03Detected => "0001_c1_1.png",
            Self::Msmt17 => "0012_c13_0007.jpg",
            Self::Small(small) => small.example(),
            Self::Folders => "s1/1.png",
        }
    }

    fn open(self, root: &Path, options: &Options) -> Result<Dataset, DatasetError> {
        let base = match self {
            Self::Folders => root.to_owned(),
            _ => self.base(root).ok_or_else(|| self.not_found(root))?,
        };
        let parts = match self {
            Self::Folders => folders::open(&base, options)?,
            Self::Small(small) => small.open(&base)?,
            Self::Msmt17 if msmt17::fits(&base) => msmt17::open(&base)?,
            Self::Cuhk03Labeled if cuhk03::fits(&base, "labeled") => cuhk03::open(&base, "labeled")?,
            Self::Cuhk03Detected if cuhk03::fits(&base, "detected") => cuhk03::open(&base, "detected")?,
            _ => three_folders::open(&base, self.example())?,
        };
        let mut dataset = Dataset::of(self.name().into(), parts, base);
        dataset.warnings.extend(self.differs_from_published(&dataset));
        Ok(dataset)
    }

    /// A warning about a set whose folder has the published set's name, but not its counts: files may be missing. Any
    /// other folder of this layout holds somebody's own pictures, as many as they like.
    fn differs_from_published(self, dataset: &Dataset) -> Option<String> {
        let base = dataset.bases.first()?;
        let own = base.canonicalize().unwrap_or_else(|_| base.clone());
        let own = own.file_name()?.to_str()?;
        let published = self.places().iter().filter_map(|place| place.rsplit('/').next()).any(|name| name == own);
        let (found, official) = (dataset.counts(), official(self.name())?);
        (published && found != official)
            .then(|| format!("`{}` holds {found}; {} as it was published has {official}", base.display(), self.name()))
    }

    fn not_found(self, root: &Path) -> DatasetError {
        let found = Listing::found_below(root).unwrap_or_else(|error| error.to_string());
        let places: Vec<_> = self.places().iter().map(|place| format!("`{place}`")).collect();
        let three = || three_folders::FOLDERS.join(", ");
        let what = if let Self::Small(small) = self { small.allowed() } else { three() };
        let mut allowed = format!("{what}, there or in {}", places.join(", "));
        if self == Self::Msmt17 {
            allowed = format!("{}, or {allowed}", msmt17::ALLOWED);
        }
        if root.is_dir() && folders::fits(root) {
            allowed.push_str(" (the folder looks like dataset `folders`, one folder per identity)");
        }
        DatasetError::NotFound { name: self.name().into(), root: root.to_owned(), found, allowed }
    }

    /// The only dataset whose folders are found.
    fn detect(root: &Path, options: &Options) -> Result<Self, DatasetError> {
        if three_folders::fits(root) {
            // All of this layout look alike inside; the folder's own name tells them apart.
            let own = root.canonicalize().unwrap_or_else(|_| root.to_owned());
            let own = own.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            return Ok(match own {
                own if own.contains("duke") => Self::DukeMtmc,
                own if own.contains("msmt") => Self::Msmt17,
                own if own.contains("cuhk03") && own.contains("labeled") => Self::Cuhk03Labeled,
                own if own.contains("cuhk03") => Self::Cuhk03Detected,
                _ => Self::Market1501,
            });
        }
        let mut found: Vec<_> = Self::NAMED.into_iter().filter(|kind| kind.base(root).is_some()).collect();
        if found.contains(&Self::Cuhk03Labeled) && found.contains(&Self::Cuhk03Detected) {
            let other = if options.cuhk03_labeled { Self::Cuhk03Detected } else { Self::Cuhk03Labeled };
            found.retain(|kind| *kind != other);
        }
        match found[..] {
            [kind] => Ok(kind),
            [] if folders::fits(root) => Ok(Self::Folders),
            [] => Err(DatasetError::NotFound {
                name: "(not named)".into(),
                root: root.to_owned(),
                found: Listing::found_below(root)?,
                allowed: format!("the folder of one of {}", NAMES.join(", ")),
            }),
            _ => Err(DatasetError::Ambiguous {
                root: root.to_owned(),
                found: found.into_iter().map(Self::name).collect(),
            }),
        }
    }
}

impl Dataset {
    fn of(name: String, parts: Parts, base: PathBuf) -> Self {
        let Parts { samples: [train, query, gallery], left_out, warnings, cameras_known } = parts;
        Self { name, train, query, gallery, left_out, warnings, cameras_known, bases: vec![base] }
    }

    /// Lists the datasets called `names`, joined by `+`, below the folder `root`, for training: the identities and
    /// cameras of each follow those of the ones before; query and gallery are the first's. Without a name, the
    /// folders decide. A name that ends in `.csv`, `.tsv`, `.jsonl`, `.ndjson` or `.parquet` is a table of pictures:
    /// see [`is_table`].
    ///
    /// # Errors
    /// See [`DatasetError`]; a set without training pictures is one.
    pub fn open(names: &str, root: &Path, options: &Options) -> Result<Self, DatasetError> {
        let mut parts = Self::list_each(names, root, options)?;
        for part in &parts {
            part.needs("train", &part.train)?;
        }
        if parts.len() == 1 {
            return Ok(parts.remove(0));
        }
        let mut all = Self {
            name: String::new(),
            train: vec![],
            query: vec![],
            gallery: vec![],
            left_out: LeftOut::default(),
            warnings: vec![],
            cameras_known: true,
            bases: vec![],
        };
        let (mut identities, mut cameras) = (0, 0);
        for (index, part) in parts.into_iter().enumerate() {
            let classes = part.classes();
            let most = part.train.iter().map(|sample| sample.camera + 1).max().unwrap_or(0);
            for mut sample in part.train {
                let class = classes.binary_search(&sample.identity).expect("the classes are these identities");
                sample.identity = identities + class as i64;
                sample.identity_name = format!("{}/{}", part.name, sample.identity_name);
                sample.camera += cameras;
                all.train.push(sample);
            }
            identities += classes.len() as i64;
            cameras += most;
            if index == 0 {
                (all.query, all.gallery) = (part.query, part.gallery);
            }
            all.name = if index == 0 { part.name } else { format!("{}+{}", all.name, part.name) };
            all.left_out.extend(part.left_out);
            all.warnings.extend(part.warnings);
            all.cameras_known &= part.cameras_known;
            all.bases.extend(part.bases);
        }
        Ok(all)
    }

    /// Lists the datasets called `names`, joined by `+`, below `root`, each on its own, for evaluation.
    ///
    /// # Errors
    /// See [`DatasetError`]; a set without queries or without a gallery is one.
    pub fn open_each(names: &str, root: &Path, options: &Options) -> Result<Vec<Self>, DatasetError> {
        let sets = Self::list_each(names, root, options)?;
        for set in &sets {
            set.needs("query", &set.query)?;
            set.needs("gallery", &set.gallery)?;
        }
        Ok(sets)
    }

    /// The datasets called `names`, joined by `+`, each on its own; those that come as a table may lack pictures to
    /// train on, queries or a gallery.
    ///
    /// # Errors
    /// See [`DatasetError`].
    pub fn list_each(names: &str, root: &Path, options: &Options) -> Result<Vec<Self>, DatasetError> {
        let mut sources = Source::all(names, root, options)?;
        for (index, source) in sources.iter().enumerate() {
            if sources[..index].contains(source) {
                return Err(DatasetError::Repeated { name: source.name() });
            }
        }
        let in_folders = |source: &Source| matches!(source, Source::Layout(_));
        if (sources.is_empty() || sources.iter().any(in_folders)) && !root.is_dir() {
            return Err(DatasetError::NoFolder { root: root.to_owned() });
        }
        if sources.is_empty() {
            sources.push(Source::Layout(Kind::detect(root, options)?));
        }
        let open = |source: Source| match source {
            Source::Layout(kind) => kind.open(root, options),
            Source::Table(path) => {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let base = path.parent().unwrap_or(Path::new("")).to_owned();
                Ok(Self::of(name, manifest::open(&path)?, base))
            }
        };
        sources.into_iter().map(open).collect()
    }

    /// That one of its sets has pictures.
    fn needs(&self, set: &'static str, samples: &[Sample]) -> Result<(), DatasetError> {
        if !samples.is_empty() {
            return Ok(());
        }
        let counts = [("train", self.train.len()), ("query", self.query.len()), ("gallery", self.gallery.len())];
        let mut found = counts.map(|(set, count)| format!("{count} {set}")).join(", ");
        let losses = self.left_out.losses();
        if !losses.is_empty() {
            found = format!("{found}; {}", losses.join("; "));
        }
        Err(DatasetError::NoSet { name: self.name.clone(), found, set })
    }

    /// Which of the queries can be scored.
    pub fn scorable(&self) -> Scorable {
        let mut cameras = BTreeMap::<i64, BTreeSet<i64>>::new();
        for picture in &self.gallery {
            cameras.entry(picture.identity).or_default().insert(picture.camera);
        }
        let mut found = Scorable { queries: self.query.len(), ..Scorable::default() };
        for query in &self.query {
            match cameras.get(&query.identity) {
                None => found.absent += 1,
                Some(all) if all.iter().all(|camera| *camera == query.camera) => found.own_camera += 1,
                Some(_) => found.scored += 1,
            }
        }
        found
    }

    /// All warnings: what is left out, and the dataset's own.
    pub fn all_warnings(&self) -> Vec<String> {
        self.left_out.warnings().into_iter().chain(self.warnings.iter().cloned()).collect()
    }

    /// The training identities, ascending. Their indices are the classes of the classifier.
    pub fn classes(&self) -> Vec<i64> {
        let identities: BTreeSet<i64> = self.train.iter().map(|sample| sample.identity).collect();
        identities.into_iter().collect()
    }

    /// Class of each training picture, `0..classes().len()`.
    pub fn train_classes(&self) -> Vec<usize> {
        let classes = self.classes();
        let class =
            |sample: &Sample| classes.binary_search(&sample.identity).expect("the classes are these identities");
        self.train.iter().map(class).collect()
    }

    /// Number of different cameras over all three sets.
    pub fn camera_count(&self) -> usize {
        self.samples().map(|(_, sample)| sample.camera).collect::<BTreeSet<_>>().len()
    }

    /// Counts of this dataset, to compare with [`official`].
    pub fn counts(&self) -> Counts {
        Counts {
            train: self.train.len(),
            query: self.query.len(),
            gallery: self.gallery.len(),
            classes: self.classes().len(),
            cameras: self.camera_count(),
        }
    }

    /// SHA-256 over the pictures' set, name relative to the dataset's folder, identity, camera and size in bytes: the
    /// same wherever the dataset is, another when a picture is added, removed, renamed or replaced by one of
    /// another size.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (set, sample) in self.samples() {
            let relative = self.bases.iter().find_map(|base| sample.path.strip_prefix(base).ok());
            for part in relative.unwrap_or(&sample.path).components() {
                hash.update(part.as_os_str().as_encoded_bytes());
                hash.update(b"/");
            }
            let size =
                std::fs::metadata(&sample.path).map_or_else(|_| "missing".to_owned(), |file| file.len().to_string());
            hash.update(format!("\0{set}\0{}\0{}\0{size}\n", sample.identity, sample.camera));
        }
        hex::encode(hash.finalize())
    }

    /// The people to train on, by their first pictures.
    pub fn trained_on(&self) -> TrainedOn {
        let mut pictures = BTreeMap::<i64, Vec<&Path>>::new();
        for sample in &self.train {
            pictures.entry(sample.identity).or_default().push(&sample.path);
        }
        let split = format!("{}: the {} identities of its training set", self.name, pictures.len());
        TrainedOn::of(split, &self.fingerprint(), pictures.into_values().map(by_name))
    }

    fn samples(&self) -> impl Iterator<Item = (&'static str, &Sample)> {
        let sets = [("train", &self.train), ("query", &self.query), ("gallery", &self.gallery)];
        sets.into_iter().flat_map(|(set, samples)| samples.iter().map(move |sample| (set, sample)))
    }
}

/// `names` with tables that are not below `root` as absolute paths, so that a run finds them from any working folder.
///
/// # Errors
/// If a name is not that of a dataset, or a table does not exist.
pub fn anchored(names: &str, root: &Path, options: &Options) -> Result<String, DatasetError> {
    let sources = Source::all(names, root, options)?;
    let outside = |source: &Source| match source {
        Source::Table(path) if !path.starts_with(root) => std::path::absolute(path).ok()?.to_str().map(str::to_owned),
        _ => None,
    };
    if !sources.iter().any(|source| outside(source).is_some()) {
        return Ok(names.to_owned());
    }
    let name = |source: &Source| match source {
        Source::Table(path) => path.strip_prefix(root).unwrap_or(path).display().to_string(),
        Source::Layout(kind) => kind.name().to_owned(),
    };
    Ok(sources.iter().map(|source| outside(source).unwrap_or_else(|| name(source))).collect::<Vec<_>>().join("+"))
}

/// Pictures by the names of their files and then by their paths, in natural order: the first one is the same however
/// the pictures are distributed over folders of sets.
pub fn by_name(mut pictures: Vec<&Path>) -> Vec<&Path> {
    let name = |path: &Path| PathBuf::from(path.file_name().unwrap_or_default());
    pictures.sort_by(|a, b| natural(&name(a), &name(b)).then_with(|| natural(a, b)));
    pictures
}

/// Published counts of the dataset called `name`; `None` for `folders`, combinations, and sets whose split is not
/// published with all its counts.
pub fn official(name: &str) -> Option<Counts> {
    let [train, query, gallery, classes, cameras] = match name {
        "market1501" => [12_936, 3_368, 15_913, 751, 6],
        "dukemtmc" => [16_522, 2_228, 17_661, 702, 8],
        "cuhk03_labeled" => [7_368, 1_400, 5_328, 767, 2],
        "cuhk03_detected" => [7_365, 1_400, 5_332, 767, 2],
        "msmt17" => [32_621, 11_659, 82_161, 1_041, 15],
        "viper" => [632, 316, 316, 316, 2],
        "prid2011" => [200, 100, 649, 100, 2],
        "sensereid" => [0, 1_040, 3_388, 0, 2],
        _ => return None,
    };
    Some(Counts { train, query, gallery, classes, cameras })
}

#[cfg(test)]
mod tests;
