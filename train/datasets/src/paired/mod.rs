//! Pairs of pictures of one hand, the palm's lines and the veins beneath: public multispectral sets by name, and your
//! own folders or lists.
//!
//! Palm and vein are joined by the common part of their names; all splits share one class map. No pixels are read.
//!
//! ```no_run
//! use datasets::paired::{PairOptions, PairedDataset};
//! let data = PairedDataset::open("data/palms".as_ref(), &PairOptions::default())?;
//! println!("{}", data.describe());
//! # Ok::<(), datasets::DatasetError>(())
//! ```

mod list;
mod names;
mod split;

use std::path::{Path, PathBuf};

use contract::trained::TrainedOn;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{DatasetError, LeftOut};

/// What a picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Modality {
    /// The lines of the skin, under visible light.
    Palm,
    /// The veins beneath it, under near infra-red.
    Vein,
}

impl Modality {
    /// Both, palm first, as everywhere.
    pub const BOTH: [Self; 2] = [Self::Palm, Self::Vein];

    /// `palm` or `vein`: the name of the model's input.
    pub fn name(self) -> &'static str {
        match self {
            Self::Palm => "palm",
            Self::Vein => "vein",
        }
    }
}

/// Two pictures of one hand, taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// Picture of the lines.
    pub palm: PathBuf,
    /// Picture of the veins.
    pub vein: PathBuf,
    /// Number of the identity; dense over all identities of the set.
    pub class: usize,
    /// Session, from 1; 1 where the layout has none.
    pub session: u32,
    /// The common part of the two file names.
    pub name: String,
}

impl Pair {
    /// One of the two pictures.
    pub fn path(&self, modality: Modality) -> &Path {
        match modality {
            Modality::Palm => &self.palm,
            Modality::Vein => &self.vein,
        }
    }
}

/// Folders and names of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PairLayout {
    /// Detected from folders and names.
    #[default]
    Auto,
    /// `palm/<identity>/<n>.png` and `vein/<identity>/<n>.png`.
    Plain,
    /// `<subject>_<l|r>_<spectrum>_<nn>.jpg`, CASIA's multispectral palms: palm WHT, else 460; vein 940, else 850.
    Casia,
    /// `<Red|NIR>/<palm>/<n>.bmp`, PolyU's multispectral palms, where samples 1 to 6 are session 1; or as distributed,
    /// `Multispectral_<R|I>/<palm>/<session>_<n>_s.bmp`.
    PolyU,
    /// `<palmprint|palmvein>/session<1|2>/<n>.bmp`, Tongji's: ten consecutive pictures of each palm.
    Tongji,
    /// `manifest.csv` with the columns palm, vein, identity and optionally session.
    Manifest,
}

impl PairLayout {
    /// Every layout by name.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("auto", Self::Auto),
        ("plain", Self::Plain),
        ("casia", Self::Casia),
        ("polyu", Self::PolyU),
        ("tongji", Self::Tongji),
        ("manifest", Self::Manifest),
    ];

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, layout)| *layout == self).map_or("auto", |(name, _)| name)
    }
}

impl std::str::FromStr for PairLayout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(&Self::NAMES, text)
    }
}

/// How test pairs are separated from training pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitRule {
    /// Some pairs of each identity test: closed set.
    Pairs,
    /// The last session tests; earlier ones train and validate.
    Session,
    /// Other people test: open set.
    #[default]
    People,
}

impl SplitRule {
    /// Every rule by name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("pairs", Self::Pairs), ("session", Self::Session), ("people", Self::People)];
}

impl std::str::FromStr for SplitRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        by_name(&Self::NAMES, text)
    }
}

fn by_name<T: Copy>(names: &[(&str, T)], text: &str) -> Result<T, String> {
    let known = || names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    found.map(|(_, value)| *value).ok_or_else(|| format!("`{text}` is none of {}", known()))
}

/// Choices that a layout leaves open.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PairOptions {
    /// Folders and names.
    pub layout: PairLayout,
    /// Folder or spectrum of the palm pictures, such as `Red` or `WHT`; the layout's usual one if `None`.
    pub palm: Option<String>,
    /// Folder or spectrum of the vein pictures, such as `NIR` or `940`.
    pub vein: Option<String>,
    /// Regular expression over a picture's relative path, with the groups `band` and `index` and optionally
    /// `subject`, `hand` and `session`; replaces the layout's.
    pub pattern: Option<String>,
    /// How test pairs are separated from the others.
    pub split: SplitRule,
    /// Shares of training, validation and test, which add up to 1. With [`SplitRule::People`] the last is a share of
    /// the identities.
    pub shares: [f64; 3],
    /// Seed of the split.
    pub seed: u64,
}

impl Default for PairOptions {
    fn default() -> Self {
        Self {
            layout: PairLayout::Auto,
            palm: None,
            vein: None,
            pattern: None,
            split: SplitRule::People,
            shares: [0.6, 0.2, 0.2],
            seed: 42,
        }
    }
}

/// All pairs below a folder, identities in natural order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairList {
    /// The layout, by name.
    pub layout: &'static str,
    /// Name of each class.
    pub classes: Vec<String>,
    /// The pairs, by class.
    pub pairs: Vec<Pair>,
    /// Files and folders among the pictures that are not used; the warnings name them.
    pub left_out: LeftOut,
    /// What was left out, and why; for stderr.
    pub warnings: Vec<String>,
}

/// Pairs, split into training, validation and test.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PairedDataset {
    /// Name of its layout.
    pub name: String,
    /// Name of each class; the first `num_classes` train.
    pub classes: Vec<String>,
    /// Number of classes with training pairs; every class of `train` and `val` is below it.
    pub num_classes: usize,
    /// Pairs to train on.
    pub train: Vec<Pair>,
    /// Pairs that choose the best epoch, of the identities that train.
    pub val: Vec<Pair>,
    /// Pairs to test with; with [`SplitRule::People`] of classes from `num_classes` on.
    pub test: Vec<Pair>,
    /// Files and folders among the pictures that are not used; the warnings name them.
    pub left_out: LeftOut,
    /// What was left out, and why; for stderr.
    pub warnings: Vec<String>,
    base: PathBuf,
}

/// Lists the pairs below `root` without splitting them; identities with a single pair are included.
///
/// # Errors
/// See [`DatasetError`]: no layout fits, one modality is empty, a pattern or manifest is malformed.
pub fn list_pairs(root: &Path, options: &PairOptions) -> Result<PairList, DatasetError> {
    list::list(root, options, 1)
}

/// A warning that names the first pairs whose two pictures differ in size; reads the headers of all files.
pub fn of_two_sizes<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Option<String> {
    list::of_two_sizes(pairs)
}

impl PairedDataset {
    /// Lists the pairs below `root` and splits them. Identities with fewer than two pairs are dropped with a warning.
    ///
    /// # Errors
    /// See [`DatasetError`]: also too few identities, and shares that do not add up to 1.
    pub fn open(root: &Path, options: &PairOptions) -> Result<Self, DatasetError> {
        let PairList { layout, classes, pairs, left_out, warnings } = list::list(root, options, 2)?;
        let mut data = split::split(root, layout, classes, pairs, options)?;
        (data.left_out, data.warnings) = (left_out, warnings);
        data.base = root.to_owned();
        Ok(data)
    }

    /// Training, validation and test pairs.
    pub fn all(&self) -> impl Iterator<Item = &Pair> {
        self.train.iter().chain(&self.val).chain(&self.test)
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let strangers = match self.classes.len() - self.num_classes {
            0 => String::new(),
            count => format!(" of {count} others"),
        };
        format!(
            "{}: {} pairs of {} hands to train on, {} to validate, {} to test{strangers}",
            self.name,
            self.train.len(),
            self.num_classes,
            self.val.len(),
            self.test.len()
        )
    }

    /// The people to train on, by the palm of their first pair, whichever set it is in.
    pub fn trained_on(&self, options: &PairOptions) -> TrainedOn {
        let mut pictures = vec![Vec::new(); self.num_classes];
        for pair in self.all().filter(|pair| pair.class < self.num_classes) {
            pictures[pair.class].push(pair.palm.as_path());
        }
        let [train, validation, test] = options.shares;
        let split = SplitRule::NAMES.iter().find(|(_, rule)| *rule == options.split).map_or("", |(name, _)| name);
        let split =
            format!("{}: split by {split}, shares {train}/{validation}/{test}, seed {}", self.name, options.seed);
        TrainedOn::of(split, &self.fingerprint(), pictures.into_iter().map(crate::by_name))
    }

    /// SHA-256 over the pairs' split, names relative to the set's folder, class and sizes in bytes: the same wherever
    /// the set lies, another when a picture is added, removed, renamed or replaced by one of another size.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (split, pairs) in [("train", &self.train), ("val", &self.val), ("test", &self.test)] {
            for pair in pairs {
                for path in [&pair.palm, &pair.vein] {
                    for part in path.strip_prefix(&self.base).unwrap_or(path).components() {
                        hash.update(part.as_os_str().as_encoded_bytes());
                        hash.update(b"/");
                    }
                    let size = std::fs::metadata(path).map_or_else(|_| "missing".into(), |file| file.len().to_string());
                    hash.update(format!("\0{size}\0"));
                }
                hash.update(format!("{split}\0{}\n", self.classes[pair.class]));
            }
        }
        hex::encode(hash.finalize())
    }
}

#[cfg(test)]
mod tests;
