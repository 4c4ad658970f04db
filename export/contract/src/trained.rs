//! Which people a model was trained on, so that nobody tests it on them unawares.
//!
//! A person is known by a picture: 48 bits of the SHA-256 over the data set's fingerprint and the bytes of the person's
//! first picture. Names do not do, as `0002` is somebody else in every set. A fingerprint gives no picture and no name
//! away; whoever has the picture can ask whether its person was trained on, which is what it is for. The data set's
//! fingerprint in it keeps models that were trained on other sets from being compared by their people.
//!
//! Of more than [`MOST`] people, those with the smallest fingerprints are kept: a sample that chance draws, and still
//! an answer for each person whose fingerprint is among that many smallest. It is 48 KiB at most.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::picture::{self, PictureError};

/// Most people whose fingerprints are kept.
pub const MOST: usize = 4096;

/// Hexadecimal digits of a fingerprint.
const DIGITS: usize = 12;

/// The people whom a model was trained on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainedOn {
    /// What parted them from the people to test on.
    pub split: String,
    /// How many they are.
    pub people: usize,
    /// Their fingerprints, or the smallest [`MOST`] of them, ascending, 12 hexadecimal digits each.
    pub fingerprints: String,
}

impl TrainedOn {
    /// From the pictures of each person, in order, and the fingerprint of the data set. The first picture that can be
    /// read is taken; a person without one is left out, as nothing can be learnt of that person.
    pub fn of<'a, P: IntoIterator<Item = &'a Path>>(
        split: impl Into<String>,
        dataset: &str,
        people: impl IntoIterator<Item = P>,
    ) -> Self {
        let first = |pictures: P| pictures.into_iter().find_map(|picture| fingerprint(dataset, picture).ok());
        let mut all: Vec<String> = people.into_iter().filter_map(first).collect();
        let people = all.len();
        all.sort_unstable();
        all.truncate(MOST);
        Self { split: split.into(), people, fingerprints: all.concat() }
    }

    fn kept(&self) -> impl Iterator<Item = &[u8]> {
        self.fingerprints.as_bytes().chunks(DIGITS)
    }

    /// Whether the person in `picture` was trained on, by that person's first picture; `None` if that is not known,
    /// because only a part of many fingerprints is kept.
    ///
    /// # Errors
    /// If the picture cannot be read, or is no regular file.
    pub fn holds(&self, dataset: &str, picture: &Path) -> Result<Option<bool>, PictureError> {
        let wanted = fingerprint(dataset, picture)?;
        let kept: Vec<&[u8]> = self.kept().collect();
        let found = kept.binary_search(&wanted.as_bytes()).is_ok();
        let all = kept.len() == self.people;
        Ok(match kept.last() {
            _ if found || all => Some(found),
            Some(last) if wanted.as_bytes() < *last => Some(false),
            _ => None,
        })
    }

    /// What is wrong with it, if anything.
    pub fn problem(&self) -> Option<TrainedProblem> {
        let digits = self.fingerprints.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
        let count = self.fingerprints.len() / DIGITS;
        if !digits || !self.fingerprints.len().is_multiple_of(DIGITS) {
            Some(TrainedProblem::Digits)
        } else if count != self.people.min(MOST) {
            Some(TrainedProblem::Count)
        } else if !self.kept().is_sorted() {
            Some(TrainedProblem::Order)
        } else {
            None
        }
    }
}

/// What is wrong with fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TrainedProblem {
    /// Other characters, or a part of a fingerprint.
    #[error("{DIGITS} hexadecimal digits for each person are needed")]
    Digits,
    /// Too few or too many.
    #[error("one for each person is needed, or {MOST} of more people")]
    Count,
    /// Not in ascending order.
    #[error("ascending ones are needed")]
    Order,
}

fn fingerprint(dataset: &str, picture: &Path) -> Result<String, PictureError> {
    let (mut file, _) = picture::open(picture)?;
    let mut hash = Sha256::new();
    hash.update(dataset);
    hash.update([0]);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(|source| PictureError::Read { path: picture.to_owned(), source })? {
            0 => break,
            read => hash.update(&buffer[..read]),
        }
    }
    Ok(hex::encode(&hash.finalize()[..DIGITS / 2]))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn people_are_known_by_their_picture_and_not_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let picture = |name: &str, bytes: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let people = [picture("a.png", "ada"), picture("b.png", "ben"), picture("c.png", "cleo")];
        let trained = TrainedOn::of("people", "set", people.iter().map(|path| [path.as_path()]));
        assert_eq!((trained.people, trained.fingerprints.len(), trained.problem()), (3, 36, None));
        let holds = |path: &Path| trained.holds("set", path).unwrap();
        assert!(people.iter().all(|path| holds(path) == Some(true)));
        assert_eq!(holds(&picture("renamed.png", "ben")), Some(true));
        assert_eq!(holds(&picture("a.png", "dan")), Some(false));
        assert_eq!(trained.holds("other set", &people[1]).unwrap(), Some(false));
        assert!(trained.holds("set", &folder.path().join("none.png")).is_err());
        // Of a person whose first picture cannot be read, the next one.
        let none = folder.path().join("none.png");
        let pictures = [vec![none.as_path(), &people[0], &people[1]], vec![none.as_path()]];
        let trained = TrainedOn::of("people", "set", pictures);
        let holds = |path: &Path| trained.holds("set", path).unwrap();
        assert_eq!((trained.people, holds(&people[0]), holds(&people[1])), (1, Some(true), Some(false)));
    }

    /// Reading a pipe waits for its writer: the person's next picture is taken.
    #[cfg(unix)]
    #[test]
    fn a_pipe_among_the_pictures_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, picture] = ["a.png", "b.png"].map(|name| folder.path().join(name));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::fs::write(&picture, "ada").unwrap();
        let trained = TrainedOn::of("people", "set", [[pipe.as_path(), &picture]]);
        assert_eq!((trained.people, trained.holds("set", &picture).unwrap()), (1, Some(true)));
        assert!(matches!(trained.holds("set", &pipe), Err(PictureError::NotAFile { .. })));
    }

    /// Of many people a sample is kept, which answers rightly or not at all.
    #[test]
    fn of_many_people_a_part_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = |at: usize| folder.path().join(at.to_string());
        let all: Vec<PathBuf> = (0..2 * MOST).map(path).collect();
        all.iter().enumerate().for_each(|(at, path)| std::fs::write(path, at.to_string()).unwrap());
        let trained = TrainedOn::of("people", "set", all[..MOST + 904].iter().map(|path| [path.as_path()]));
        assert_eq!((trained.people, trained.fingerprints.len(), trained.problem()), (5000, 12 * MOST, None));
        let (mut known, mut unknown) = (0, 0);
        for (at, path) in all.iter().enumerate() {
            match trained.holds("set", path).unwrap() {
                Some(held) => {
                    assert_eq!(held, at < 5000);
                    known += usize::from(held);
                }
                None => unknown += 1,
            }
        }
        assert_eq!(known, MOST);
        // Of the people who were not trained on, as large a part is known.
        assert!(unknown > 904 && unknown < 2000, "{unknown}");
    }

    #[test]
    fn damaged_ones_are_named() {
        let with =
            |people, fingerprints: &str| TrainedOn { split: String::new(), people, fingerprints: fingerprints.into() };
        assert_eq!(with(0, "").problem(), None);
        assert_eq!(with(1, "0123").problem(), Some(TrainedProblem::Digits));
        assert_eq!(with(1, "01234567890g").problem(), Some(TrainedProblem::Digits));
        assert_eq!(with(2, "0123456789ab").problem(), Some(TrainedProblem::Count));
        assert_eq!(with(2, "0123456789ab000000000000").problem(), Some(TrainedProblem::Order));
    }
}
