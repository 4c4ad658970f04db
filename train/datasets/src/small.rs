//! Sets of the years before Market-1501: VIPeR, GRID, PRID 2011 (single shot), QMUL i-LIDS, and SenseReID, whose names
//! are alike. They are laid out as they are published, and as torchreid expects them below its folder of data.
//!
//! VIPeR, PRID 2011 and i-LIDS have no published split: authors average over random ones. GRID's are in a MATLAB file.
//! Where torchreid has left its `splits.json` beside the pictures, its first split is followed; else the first half of
//! the people trains, in the order of their numbers. SenseReID is for tests alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::listing::Listing;
use super::three_folders;
use super::{DatasetError, LeftOut, Parts, Sample};

/// One of these sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Small {
    /// Gray et al. 2007: 632 people, one picture by each of two cameras.
    Viper,
    /// Loy et al. 2009: 250 people, one picture by each of two of eight cameras, and 775 of others.
    Grid,
    /// Hirzer et al. 2011: two cameras; of the people of each, the first 200 are the same.
    Prid2011,
    /// Zheng et al. 2009: 119 people in 476 pictures. Which cameras took them is not published.
    Ilids,
    /// Zhao et al. 2017 (Spindle Net): for tests.
    SenseReid,
}

/// Which picture of a tested person it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Query,
    Gallery,
    /// One that a test has no use for.
    Neither,
}

/// Torchreid's file of splits. Its paths are those of the machine that made it, so only names are used.
#[derive(Deserialize)]
struct Split {
    train: Vec<Entry>,
    #[serde(default)]
    query: Vec<Entry>,
    #[serde(default)]
    gallery: Vec<Entry>,
}

/// A picture by its path or name, or a person.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Person(i64),
    Name(String),
    Picture((String, IgnoredAny, IgnoredAny)),
}

/// Somebody in both cameras of PRID 2011 has at most this number.
const PRID_SHARED: i64 = 200;

impl Small {
    /// Folders of the pictures, below the set's; one alone holds all.
    fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Viper | Self::Prid2011 => &["cam_a", "cam_b"],
            Self::Grid => &["probe", "gallery"],
            Self::Ilids => &[""],
            Self::SenseReid => &["test_probe", "test_gallery"],
        }
    }

    /// A picture's name of the right form.
    pub(super) fn example(self) -> &'static str {
        match self {
            Self::Viper => "000_45.bmp",
            Self::Grid => "0001_1_25004_107_32_106_221.jpeg",
            Self::Prid2011 => "person_0001.png",
            Self::Ilids => "0001001.jpg",
            Self::SenseReid => "00001_0.jpg",
        }
    }

    /// What is needed, for messages.
    pub(super) fn allowed(self) -> String {
        let folders: Vec<&str> = self.folders().iter().copied().filter(|folder| !folder.is_empty()).collect();
        let place = if folders.is_empty() { String::new() } else { format!(" in {}", folders.join(" and ")) };
        format!("pictures with names such as `{}`{place}", self.example())
    }

    /// Identity, as number and as written, and camera where the name has one.
    fn read(self, path: &Path) -> Option<(i64, &str, Option<i64>)> {
        let name = path.file_stem()?.to_str()?;
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = |text: &str| if digits(text) { text.parse::<i64>().ok() } else { None };
        match self {
            // Number 0 is nobody in particular elsewhere, and somebody here.
            Self::Viper => {
                let (who, angle) = name.split_once('_')?;
                number(angle)?;
                Some((number(who)?.checked_add(1)?, who, None))
            }
            Self::SenseReid => {
                let (who, camera) = name.split_once('_')?;
                Some((number(who)?.checked_add(1)?, who, Some(number(camera)?)))
            }
            Self::Grid => {
                let mut fields = name.split('_');
                let (who, camera) = (fields.next()?, fields.next()?);
                Some((number(who)?, who, Some(number(camera)?.checked_sub(1)?)))
            }
            Self::Prid2011 => {
                let who = name.strip_prefix("person_")?;
                Some((number(who)?, who, None))
            }
            // Each picture of a person counts as one of another camera, as in torchreid.
            Self::Ilids => {
                let (who, place) = name.split_at_checked(4).filter(|_| name.len() == 7)?;
                Some((number(who)?, who, Some(number(place)?.checked_sub(1)?)))
            }
        }
    }

    /// Whether the folders are there, and their pictures have such names.
    pub(super) fn fits(self, base: &Path) -> bool {
        self.folders().iter().all(|folder| {
            let first = Listing::of(&base.join(folder)).ok().and_then(|listing| listing.pictures.into_iter().next());
            first.is_some_and(|first| self.read(&first).is_some())
        })
    }

    /// Training, query and gallery pictures.
    pub(super) fn open(self, base: &Path) -> Result<Parts, DatasetError> {
        let (mut left_out, mut found) = (LeftOut::default(), Vec::new());
        for (number, folder) in self.folders().iter().enumerate() {
            let folder = base.join(folder);
            let listing = Listing::of(&folder)?;
            if listing.pictures.is_empty() {
                return Err(DatasetError::Empty { folder, found: listing.found(), allowed: self.allowed() });
            }
            left_out.extend(listing.left_out);
            for path in listing.pictures {
                let wrong = || DatasetError::Name { path: path.clone(), example: self.example() };
                let (identity, text, camera) = self.read(&path).ok_or_else(wrong)?;
                let camera = camera.unwrap_or(number as i64);
                let sample = Sample { identity_name: text.to_owned(), identity, camera, path: path.clone() };
                three_folders::check(&sample)?;
                found.push((sample, if number == 0 { Side::Query } else { Side::Gallery }));
            }
        }
        if self == Self::Ilids {
            // One query and one entry of each person, the first two.
            let mut seen = BTreeMap::<i64, usize>::new();
            for (sample, side) in &mut found {
                let count = seen.entry(sample.identity).or_default();
                *side = [Side::Query, Side::Gallery].get(*count).copied().unwrap_or(Side::Neither);
                *count += 1;
            }
        }
        if self == Self::Prid2011 {
            // Behind the shared people, equal numbers of the two cameras are different people.
            found.retain(|(sample, side)| sample.identity <= PRID_SHARED || *side == Side::Gallery);
        }
        let (samples, warnings) = match self.split(base)? {
            _ if self == Self::SenseReid => (by_people(found, &BTreeSet::new()), vec![]),
            Some((path, split)) => self.followed(&path, split, found, &mut left_out)?,
            None => {
                let people = matched(&found);
                let training: BTreeSet<i64> = people.iter().take(people.len() / 2).copied().collect();
                let warning = format!(
                    "the first {} of {} people train, the others test: without torchreid's `{}` there is no split that \
                     others have used",
                    training.len(),
                    people.len(),
                    self.splits()
                );
                (by_people(found, &training), vec![warning])
            }
        };
        Ok(Parts { cameras_known: self != Self::Ilids, samples, left_out, warnings })
    }

    /// Name of torchreid's file.
    fn splits(self) -> &'static str {
        if self == Self::Prid2011 { "splits_single_shot.json" } else { "splits.json" }
    }

    /// Torchreid's first split, where its file lies with the pictures or up to two folders above them.
    fn split(self, base: &Path) -> Result<Option<(PathBuf, Split)>, DatasetError> {
        let file = base.ancestors().take(3).map(|folder| folder.join(self.splits())).find(|path| path.is_file());
        let Some(path) = file else { return Ok(None) };
        let text = files::read_limited(&path, files::LARGEST_TABLE);
        let text = text.map_err(|source| DatasetError::Read { path: path.clone(), source })?;
        let splits: Vec<Split> =
            serde_json::from_slice(&text).map_err(|source| DatasetError::Split { path: path.clone(), source })?;
        match splits.into_iter().next() {
            Some(split) if !split.train.is_empty() => Ok(Some((path, split))),
            _ => Err(DatasetError::Empty {
                folder: path,
                found: "no split, or one without training pictures".into(),
                allowed: "a list of splits, each with `train`,".into(),
            }),
        }
    }

    /// The pictures as a split has them, and what is to be said about it.
    fn followed(
        self,
        path: &Path,
        split: Split,
        found: Vec<(Sample, Side)>,
        left_out: &mut LeftOut,
    ) -> Result<([Vec<Sample>; 3], Vec<String>), DatasetError> {
        let warning = format!("the first split of `{}` is followed", path.display());
        let people = |entries: &[Entry]| -> Option<BTreeSet<i64>> {
            let person = |entry: &Entry| if let Entry::Person(number) = entry { Some(*number) } else { None };
            entries.iter().map(person).collect()
        };
        if let Some(training) = people(&split.train) {
            return Ok((by_people(found, &training), vec![warning]));
        }
        // Folder and name: those of the two cameras may be equal.
        let key = |path: &str| {
            let mut parts = path.rsplit(['/', '\\']);
            let name = parts.next().unwrap_or_default().to_owned();
            let folder = if self.folders().len() > 1 { parts.next().unwrap_or_default() } else { "" };
            (folder.to_owned(), name)
        };
        let mut sets = BTreeMap::new();
        for (set, entries) in [&split.train, &split.query, &split.gallery].into_iter().enumerate() {
            for entry in entries {
                let (Entry::Name(path) | Entry::Picture((path, ..))) = entry else { continue };
                sets.insert(key(path), set);
            }
        }
        let mut samples = [vec![], vec![], vec![]];
        for (sample, _) in found {
            if let Some(set) = sets.remove(&key(&sample.path.to_string_lossy())) {
                samples[set].push(sample);
            }
        }
        let base = path.parent().unwrap_or(Path::new(""));
        left_out.missing.extend(sets.into_keys().map(|(folder, name)| base.join(folder).join(name)));
        if let Some(set) = samples.iter().position(Vec::is_empty) {
            return Err(DatasetError::Empty {
                folder: path.to_owned(),
                found: format!("no picture that is there for {}", ["training", "queries", "the gallery"][set]),
                allowed: "lists of the set's own pictures".into(),
            });
        }
        Ok((samples, vec![warning]))
    }
}

/// The people with a query and an entry, in the order of their numbers.
fn matched(found: &[(Sample, Side)]) -> BTreeSet<i64> {
    let of = |wanted: Side| -> BTreeSet<i64> {
        found.iter().filter(|(_, side)| *side == wanted).map(|(sample, _)| sample.identity).collect()
    };
    &of(Side::Query) & &of(Side::Gallery)
}

/// All pictures of the people who train, and of the others those that a test is made of.
fn by_people(found: Vec<(Sample, Side)>, training: &BTreeSet<i64>) -> [Vec<Sample>; 3] {
    let mut samples = [vec![], vec![], vec![]];
    for (sample, side) in found {
        match side {
            _ if training.contains(&sample.identity) => samples[0].push(sample),
            Side::Query => samples[1].push(sample),
            Side::Gallery => samples[2].push(sample),
            Side::Neither => {}
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, Options};

    /// Empty pictures below a new folder.
    fn folder(pictures: impl IntoIterator<Item = String>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for picture in pictures {
            let path = folder.path().join(picture);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        folder
    }

    fn open(folder: &tempfile::TempDir, name: &str) -> Dataset {
        let set = Dataset::list_each(name, folder.path(), &Options::default()).unwrap().remove(0);
        assert_eq!(
            set,
            Dataset::list_each("", folder.path(), &Options::default()).unwrap().remove(0),
            "{name} is told"
        );
        set
    }

    /// Name below the set's own folder, identity and camera.
    fn facts(samples: &[Sample]) -> Vec<(String, i64, i64)> {
        let fact = |one: &Sample| {
            let mut parts = one.path.iter().rev();
            let (name, folder) = (parts.next().unwrap(), parts.next().unwrap());
            (format!("{}/{}", folder.display(), name.display()), one.identity, one.camera)
        };
        samples.iter().map(fact).collect()
    }

    fn of<const N: usize>(facts: [(&str, i64, i64); N]) -> Vec<(String, i64, i64)> {
        facts.map(|(name, identity, camera)| (name.to_owned(), identity, camera)).into()
    }

    #[test]
    fn viper_is_read_with_and_without_a_split() {
        let pictures = ["a/000_45", "a/001_0", "a/007_90", "a/873_0", "b/000_90", "b/001_90", "b/007_180", "b/873_90"];
        let root = folder(pictures.map(|name| format!("viper/VIPeR/cam_{name}.bmp")));
        let set = open(&root, "viper");
        let train = [("cam_a/000_45.bmp", 1, 0), ("cam_a/001_0.bmp", 2, 0), ("cam_b/000_90.bmp", 1, 1)];
        assert_eq!(facts(&set.train), of([train[0], train[1], train[2], ("cam_b/001_90.bmp", 2, 1)]));
        assert_eq!(facts(&set.query), of([("cam_a/007_90.bmp", 8, 0), ("cam_a/873_0.bmp", 874, 0)]));
        assert_eq!(facts(&set.gallery), of([("cam_b/007_180.bmp", 8, 1), ("cam_b/873_90.bmp", 874, 1)]));
        assert!(set.warnings[0].contains("first 2 of 4 people") && set.warnings[0].contains("splits.json"), "{set:?}");
        assert!(set.warnings[1].contains("as it was published"), "{set:?}");
        // As torchreid writes them, on another machine.
        let splits = r#"[{"train": [["/x/VIPeR/cam_a/007_90.bmp", 0, 0], ["/x/VIPeR/cam_b/007_180.bmp", 0, 1]],
            "query": [["C:\\x\\cam_b\\000_90.bmp", 0, 1]], "gallery": [["/x/VIPeR/cam_a/000_45.bmp", 0, 0],
            ["/x/VIPeR/cam_a/002_45.bmp", 1, 0]], "num_train_pids": 1}]"#;
        std::fs::write(root.path().join("viper/splits.json"), splits).unwrap();
        let set = open(&root, "viper");
        assert_eq!(facts(&set.train), of([("cam_a/007_90.bmp", 8, 0), ("cam_b/007_180.bmp", 8, 1)]));
        assert_eq!(facts(&set.query), of([("cam_b/000_90.bmp", 1, 1)]));
        assert_eq!(facts(&set.gallery), of([("cam_a/000_45.bmp", 1, 0)]));
        assert!(set.left_out.missing[0].ends_with("cam_a/002_45.bmp"), "{set:?}");
        for (text, allowed) in [("[]", "no split"), ("{}", "splits.json"), (r#"[{"train": ["none"]}]"#, "training")] {
            std::fs::write(root.path().join("viper/splits.json"), text).unwrap();
            let error = Dataset::list_each("viper", root.path(), &Options::default()).unwrap_err().to_string();
            assert!(error.contains("splits.json") && error.contains(allowed), "{error}");
        }
    }

    #[test]
    fn grid_has_distractors_and_cameras_in_its_names() {
        let names = ["probe/0001_1_250", "probe/0002_3_1", "gallery/0000_5_7", "gallery/0001_2_9", "gallery/0002_6_4"];
        let root = folder(names.map(|name| format!("grid/underground_reid/{name}_107_32_106_221.jpeg")));
        let set = open(&root, "GRID");
        let name = |name: &str| format!("{name}_107_32_106_221.jpeg");
        assert_eq!(facts(&set.train), [(name("probe/0001_1_250"), 1, 0), (name("gallery/0001_2_9"), 1, 1)]);
        assert_eq!(facts(&set.query), [(name("probe/0002_3_1"), 2, 2)]);
        assert_eq!(facts(&set.gallery), [(name("gallery/0000_5_7"), 0, 4), (name("gallery/0002_6_4"), 2, 5)]);
        std::fs::write(root.path().join("grid/underground_reid/probe/portrait.jpeg"), "").unwrap();
        let error = Dataset::list_each("grid", root.path(), &Options::default()).unwrap_err().to_string();
        assert!(error.contains("portrait.jpeg") && error.contains("0001_1_25004"), "{error}");
    }

    /// Person 201 of one camera is not person 201 of the other.
    #[test]
    fn prid_shares_its_first_two_hundred() {
        let numbers = [("a", [1, 2, 201]), ("b", [1, 2, 201])];
        let names = numbers.map(|(camera, people)| {
            people.map(|person| format!("prid2011/prid_2011/single_shot/cam_{camera}/person_{person:04}.png"))
        });
        let root = folder(names.into_iter().flatten());
        let set = open(&root, "prid2011");
        assert_eq!(facts(&set.train), of([("cam_a/person_0001.png", 1, 0), ("cam_b/person_0001.png", 1, 1)]));
        assert_eq!(facts(&set.query), of([("cam_a/person_0002.png", 2, 0)]));
        assert_eq!(facts(&set.gallery), of([("cam_b/person_0002.png", 2, 1), ("cam_b/person_0201.png", 201, 1)]));
        let splits = r#"[{"train": [2], "test": [1]}, {"train": [1], "test": [2]}]"#;
        std::fs::write(root.path().join("prid2011/splits_single_shot.json"), splits).unwrap();
        let set = open(&root, "prid2011");
        assert_eq!(facts(&set.query), of([("cam_a/person_0001.png", 1, 0)]));
        assert_eq!(set.gallery.len(), 2);
    }

    #[test]
    fn ilids_tests_one_picture_against_another() {
        let names = ["0001001", "0001002", "0002001", "0002002", "0002003", "0003001"];
        let root = folder(names.map(|name| format!("ilids/i-LIDS_Pedestrian/Persons/{name}.jpg")));
        let set = open(&root, "ilids");
        assert_eq!(facts(&set.train), of([("Persons/0001001.jpg", 1, 0), ("Persons/0001002.jpg", 1, 1)]));
        let query = of([("Persons/0002001.jpg", 2, 0), ("Persons/0003001.jpg", 3, 0)]);
        assert_eq!((facts(&set.query), facts(&set.gallery)), (query, of([("Persons/0002002.jpg", 2, 1)])));
        let splits = r#"[{"train": ["0003001.jpg"], "query": ["0002003.jpg"], "gallery": ["0002001.jpg"]}]"#;
        std::fs::write(root.path().join("ilids/splits.json"), splits).unwrap();
        let set = open(&root, "ilids");
        assert_eq!(
            (facts(&set.train), facts(&set.query)),
            (of([("Persons/0003001.jpg", 3, 0)]), of([("Persons/0002003.jpg", 2, 2)]))
        );
    }

    #[test]
    fn sensereid_only_tests() {
        let names = ["probe/00000_0", "probe/00000_1", "gallery/00000_0", "gallery/00412_1"];
        let root = folder(names.map(|name| format!("sensereid/SenseReID/test_{name}.jpg")));
        let set = open(&root, "sensereid");
        assert_eq!(facts(&set.query), of([("test_probe/00000_0.jpg", 1, 0), ("test_probe/00000_1.jpg", 1, 1)]));
        assert_eq!((set.train.len(), set.gallery[1].identity), (0, 413));
        let error = Dataset::open("sensereid", root.path(), &Options::default()).unwrap_err().to_string();
        assert!(error.contains("`train`") && error.contains("sensereid"), "{error}");
    }
}
