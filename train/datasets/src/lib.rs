//! Pictures and who is on them: public re-identification datasets by name, and your own folders.
//!
//! Training and `deploy` list the same pictures in the same order, because both use this crate. It reads no pixels.
//!
//! ```no_run
//! use datasets::{Dataset, Options};
//! let market = Dataset::open("market1501", "data".as_ref(), &Options::default())?;
//! println!("{} identities to train on, {} queries", market.classes().len(), market.query.len());
//! # Ok::<(), datasets::DatasetError>(())
//! ```

mod cuhk03;
mod error;
mod folders;
mod identity;
mod listing;
mod msmt17;
mod name;
pub mod paired;
mod three_folders;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use contract::trained::TrainedOn;
use sha2::{Digest, Sha256};

pub use error::{DatasetError, NameError};
pub use identity::{Naming, Note, PictureList, identity_name, list_pictures, number_of};
pub use listing::LeftOut;
pub use name::{natural, parse};

use listing::Listing;
use three_folders::Rules;

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
    /// Folder of each part; the fingerprint's file names are relative to it.
    bases: Vec<PathBuf>,
}

/// What a layout's folders hold.
struct Parts {
    /// Training, query and gallery pictures.
    samples: [Vec<Sample>; 3],
    left_out: LeftOut,
    warnings: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Market1501,
    DukeMtmc,
    Cuhk03Labeled,
    Cuhk03Detected,
    Msmt17,
    Folders,
}

/// Every name [`Dataset::open`] knows.
pub const NAMES: [&str; 7] =
    ["market1501", "dukemtmc", "cuhk03", "cuhk03_labeled", "cuhk03_detected", "msmt17", "folders"];

impl Kind {
    const NAMED: [Self; 5] =
        [Self::Market1501, Self::DukeMtmc, Self::Cuhk03Labeled, Self::Cuhk03Detected, Self::Msmt17];

    fn of(name: &str, options: &Options) -> Result<Self, DatasetError> {
        let kind = match name.trim().to_lowercase().as_str() {
            "market1501" => Self::Market1501,
            "dukemtmc" => Self::DukeMtmc,
            "cuhk03" if options.cuhk03_labeled => Self::Cuhk03Labeled,
            "cuhk03" | "cuhk03_detected" => Self::Cuhk03Detected,
            "cuhk03_labeled" => Self::Cuhk03Labeled,
            "msmt17" => Self::Msmt17,
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
            Self::Folders => &[],
        }
    }

    fn fits(self, base: &Path) -> bool {
        match self {
            Self::Folders => folders::fits(base),
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

    fn rules(self) -> Rules {
        let (example, identities, cameras) = match self {
            Self::Market1501 => ("0002_c1s1_000451_03.jpg", 0..=1501, 1..=6),
            Self::DukeMtmc => ("0005_c2_f0046985.jpg", 0..=i64::MAX, 1..=8),
            Self::Cuhk03Labeled | Self::Cuhk03Detected => ("0001_c1_1.png", 0..=i64::MAX, 1..=2),
            Self::Msmt17 => ("0012_c13_0007.jpg", 0..=i64::MAX, 1..=15),
            Self::Folders => ("s1/1.png", 0..=i64::MAX, 1..=i64::MAX),
        };
        // The widest of the public sets; with one camera more, no other name helps.
        let way_out = "; a set of your own in this layout is read as `msmt17`, which takes any identity, and cameras \
                       1 to 15 (none is 0)";
        Rules { example, identities, cameras, way_out: (self != Self::Msmt17).then_some(way_out) }
    }

    fn open(self, root: &Path, options: &Options) -> Result<Dataset, DatasetError> {
        let base = match self {
            Self::Folders => root.to_owned(),
            _ => self.base(root).ok_or_else(|| self.not_found(root))?,
        };
        let Parts { samples: [train, query, gallery], left_out, warnings } = match self {
            Self::Folders => folders::open(&base, options)?,
            Self::Msmt17 if msmt17::fits(&base) => msmt17::open(&base, &self.rules())?,
            Self::Cuhk03Labeled if cuhk03::fits(&base, "labeled") => cuhk03::open(&base, "labeled", &self.rules())?,
            Self::Cuhk03Detected if cuhk03::fits(&base, "detected") => cuhk03::open(&base, "detected", &self.rules())?,
            _ => three_folders::open(&base, &self.rules())?,
        };
        Ok(Dataset { name: self.name().into(), train, query, gallery, left_out, warnings, bases: vec![base] })
    }

    fn not_found(self, root: &Path) -> DatasetError {
        let found = Listing::found_below(root).unwrap_or_else(|error| error.to_string());
        let places: Vec<_> = self.places().iter().map(|place| format!("`{place}`")).collect();
        let mut allowed = format!("{}, there or in {}", three_folders::FOLDERS.join(", "), places.join(", "));
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
    /// Lists the datasets called `names`, joined by `+`, below the folder `root`, for training: the identities and
    /// cameras of each follow those of the ones before; query and gallery are the first's. Without a name, the
    /// folders decide.
    ///
    /// # Errors
    /// See [`DatasetError`].
    pub fn open(names: &str, root: &Path, options: &Options) -> Result<Self, DatasetError> {
        let mut parts = Self::open_each(names, root, options)?;
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
            all.bases.extend(part.bases);
        }
        Ok(all)
    }

    /// Lists the datasets called `names`, joined by `+`, below `root`, each on its own, for evaluation.
    ///
    /// # Errors
    /// See [`DatasetError`].
    pub fn open_each(names: &str, root: &Path, options: &Options) -> Result<Vec<Self>, DatasetError> {
        let kinds = if names.trim().is_empty() {
            vec![]
        } else {
            names.split('+').map(|name| Kind::of(name, options)).collect::<Result<Vec<_>, _>>()?
        };
        for (index, kind) in kinds.iter().enumerate() {
            if kinds[..index].contains(kind) {
                return Err(DatasetError::Repeated { name: kind.name().into() });
            }
        }
        if !root.is_dir() {
            return Err(DatasetError::NoFolder { root: root.to_owned() });
        }
        let kinds = if kinds.is_empty() { vec![Kind::detect(root, options)?] } else { kinds };
        kinds.into_iter().map(|kind| kind.open(root, options)).collect()
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

/// Pictures by the names of their files and then by their paths, in natural order: the first one is the same however
/// the pictures are distributed over folders of sets.
pub fn by_name(mut pictures: Vec<&Path>) -> Vec<&Path> {
    let name = |path: &Path| PathBuf::from(path.file_name().unwrap_or_default());
    pictures.sort_by(|a, b| natural(&name(a), &name(b)).then_with(|| natural(a, b)));
    pictures
}

/// Published counts of the dataset called `name`; `None` for `folders` and combinations.
pub fn official(name: &str) -> Option<Counts> {
    let [train, query, gallery, classes, cameras] = match name {
        "market1501" => [12_936, 3_368, 15_913, 751, 6],
        "dukemtmc" => [16_522, 2_228, 17_661, 702, 8],
        "cuhk03_labeled" => [7_368, 1_400, 5_328, 767, 2],
        "cuhk03_detected" => [7_365, 1_400, 5_332, 767, 2],
        "msmt17" => [32_621, 11_659, 82_161, 1_041, 15],
        _ => return None,
    };
    Some(Counts { train, query, gallery, classes, cameras })
}

#[cfg(test)]
mod tests;
