//! Who a person is, and which identities of a search are known.

use std::collections::HashMap;

use datasets::{DISTRACTOR, JUNK};
use metrics::Label;

/// Identities from here on are hashes of names, smaller ones are numbers in file names; see [`datasets::number_of`].
const NAMED: i64 = 1 << 52;

/// Who is on a picture, as far as known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Neither right nor wrong: left out of every number.
    Junk,
    /// Somebody without an identity: a wrong match for everyone.
    Distractor,
    /// A person.
    Person(Name),
    /// Unknown: the name of the picture's folder is not that of a person.
    Unnamed,
}

/// Name of a person. Two persons are the same if their names are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// As it is written, composed (NFC).
    pub text: String,
    /// Where the name comes from.
    pub source: NameSource,
}

/// Where a person's name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameSource {
    /// The file name, which has Market-1501's form and names the camera, too.
    File,
    /// A folder, a list of pairs, or the command line. The name of a folder may not be that of a person.
    Given,
}

impl Identity {
    /// A person named by a folder, a list or the command line.
    pub fn given(text: impl Into<String>) -> Self {
        Self::Person(Name { text: text.into(), source: NameSource::Given })
    }

    /// A person named by the file name.
    pub fn by_file(text: impl Into<String>) -> Self {
        Self::Person(Name { text: text.into(), source: NameSource::File })
    }

    /// From the number and the text that listings and galleries have; see [`datasets::list_pictures`].
    pub fn from_parts(number: i64, text: String) -> Self {
        match number {
            DISTRACTOR => Self::Distractor,
            number if number < 0 => Self::Junk,
            number if number < NAMED => Self::by_file(text),
            _ if text.is_empty() => Self::Unnamed,
            _ => Self::given(text),
        }
    }

    /// The number and the text that galleries store.
    pub fn to_parts(&self) -> (i64, &str) {
        match self {
            Self::Junk => (JUNK, self.text()),
            Self::Distractor => (DISTRACTOR, self.text()),
            Self::Person(Name { text, source: NameSource::File }) => {
                // A number that is none of a file name would be read as something else.
                let number = text.parse().ok().filter(|number| (1..NAMED).contains(number));
                (number.unwrap_or_else(|| datasets::number_of(text)), text)
            }
            Self::Person(Name { text, source: NameSource::Given }) => (datasets::number_of(text), text),
            Self::Unnamed => (datasets::number_of(""), self.text()),
        }
    }

    /// The name; `-1` for junk and `0000` for a distractor, as in Market-1501; empty if unknown.
    pub fn text(&self) -> &str {
        match self {
            Self::Junk => "-1",
            Self::Distractor => "0000",
            Self::Person(name) => &name.text,
            Self::Unnamed => "",
        }
    }

    /// Whether both are the same person; `None` if unknown.
    pub fn same(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Person(one), Self::Person(other)) => Some(one.text == other.text),
            (Self::Person(_), Self::Distractor) | (Self::Distractor, Self::Person(_)) => Some(false),
            // Two distractors may be one person.
            (Self::Distractor, Self::Distractor) => None,
            (Self::Junk | Self::Unnamed, _) | (_, Self::Junk | Self::Unnamed) => None,
        }
    }

    /// Whether the identity comes from a file name, which then also names the camera.
    pub fn is_by_file(&self) -> bool {
        matches!(self, Self::Person(Name { source: NameSource::File, .. }) | Self::Junk | Self::Distractor)
    }
}

/// The people of a gallery, and a number for each.
///
/// A name that was [given](NameSource::Given) may be that of a folder of snapshots. It counts as a person if the
/// gallery has at least two different names, and for a probe only if it is one of them.
#[derive(Debug)]
pub struct People {
    /// Whether the gallery has at least two names.
    several: bool,
    /// Of those names of the gallery that are asked about.
    numbers: HashMap<String, i64>,
}

/// Camera of a probe without one. It equals no entry's camera, so the protocol excludes no entry for it.
const NO_CAMERA: i64 = -2;

/// Camera of an entry without one. It equals no probe's camera.
const NO_ENTRY_CAMERA: i64 = -3;

/// Identity of a probe whose person is not in the gallery.
const NOBODY_HERE: i64 = i64::MAX;

impl People {
    /// The people of a gallery with at least two names or not, and those of its names that are asked about, with the
    /// number above [`DISTRACTOR`] that its entries of that name have.
    pub fn known(several: bool, numbers: impl IntoIterator<Item = (String, i64)>) -> Self {
        Self { several, numbers: numbers.into_iter().collect() }
    }

    /// Looks at the identities of a gallery.
    pub fn of<'a>(gallery: impl IntoIterator<Item = &'a Identity>) -> Self {
        let mut numbers = HashMap::new();
        for identity in gallery {
            if let Identity::Person(name) = identity {
                let next = DISTRACTOR + 1 + numbers.len() as i64;
                numbers.entry(name.text.clone()).or_insert(next);
            }
        }
        Self { several: numbers.len() > 1, numbers }
    }

    /// Whether the gallery has at least two names.
    pub fn are_several(&self) -> bool {
        self.several
    }

    /// The number of a name that was asked about.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.numbers.get(name).copied()
    }

    /// Whether a probe's person is in the gallery.
    pub fn has(&self, probe: &Identity) -> bool {
        matches!(self.probe(probe), Identity::Person(name) if self.numbers.contains_key(&name.text))
    }

    /// An identity of the gallery, or [`Identity::Unnamed`] if its name does not count as a person.
    fn entry<'b>(&self, identity: &'b Identity) -> &'b Identity {
        match identity {
            Identity::Person(Name { source: NameSource::Given, .. }) if !self.several => &Identity::Unnamed,
            known => known,
        }
    }

    /// An identity of a probe, or [`Identity::Unnamed`] if its name does not count as a person.
    pub fn probe<'b>(&self, identity: &'b Identity) -> &'b Identity {
        match identity {
            Identity::Person(Name { text, source: NameSource::Given })
                if !self.several || !self.numbers.contains_key(text.as_str()) =>
            {
                &Identity::Unnamed
            }
            known => known,
        }
    }

    /// Whether a match is right; `None` if either identity is unknown.
    pub fn right(&self, probe: &Identity, entry: &Identity) -> Option<bool> {
        self.probe(probe).same(self.entry(entry))
    }

    /// Label of an entry for the Market-1501 protocol; one whose name was not asked about is like one of nobody.
    pub fn entry_label(&self, identity: &Identity, camera: Option<u32>) -> Label {
        let number = match self.entry(identity) {
            Identity::Person(name) => self.numbers.get(&name.text).copied(),
            Identity::Distractor => Some(DISTRACTOR),
            Identity::Junk | Identity::Unnamed => None,
        };
        Self::label(number, camera)
    }

    /// Label of an entry with this number, or of nobody.
    pub fn label(number: Option<i64>, camera: Option<u32>) -> Label {
        Label { identity: number.unwrap_or(metrics::JUNK), camera: camera.map_or(NO_ENTRY_CAMERA, i64::from) }
    }

    /// Label of a probe for the Market-1501 protocol. Probes without an identity are junk, which is not scored.
    pub fn probe_label(&self, probe: &Identity, camera: Option<u32>) -> Label {
        let identity = match self.probe(probe) {
            Identity::Person(name) => self.numbers.get(&name.text).copied().unwrap_or(NOBODY_HERE),
            Identity::Distractor | Identity::Junk | Identity::Unnamed => metrics::JUNK,
        };
        let camera = camera.filter(|_| probe.is_by_file());
        Label { identity, camera: camera.map_or(NO_CAMERA, i64::from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Identity {
        Identity::by_file(text)
    }

    fn given(text: &str) -> Identity {
        Identity::given(text)
    }

    #[test]
    fn right_wrong_and_unknown() {
        let gallery = [file("0001"), file("0002"), Identity::Distractor, Identity::Junk];
        let numbered = People::of(&gallery);
        assert_eq!(numbered.right(&file("0001"), &file("0001")), Some(true));
        assert_eq!(numbered.right(&file("0001"), &file("0002")), Some(false));
        assert_eq!(numbered.right(&file("0001"), &Identity::Distractor), Some(false), "distractors are wrong");
        assert_eq!(numbered.right(&file("0009"), &file("0001")), Some(false), "somebody who is not enrolled");
        assert_eq!(numbered.right(&file("0001"), &Identity::Junk), None);
        assert_eq!(numbered.right(&given("snapshots"), &file("0001")), None, "a folder of snapshots");
        assert_eq!(numbered.right(&Identity::Distractor, &Identity::Distractor), None);
        let gallery = [given("ada"), given("ben")];
        let folders = People::of(&gallery);
        assert_eq!(folders.right(&given("ada"), &given("ada")), Some(true));
        assert_eq!(folders.right(&given("ada"), &given("ben")), Some(false));
        assert_eq!(folders.right(&given("cleo"), &given("ben")), None);
        let gallery = [given("pictures"), given("pictures")];
        let flat = People::of(&gallery);
        assert_eq!(flat.right(&file("0001"), &given("pictures")), None, "one flat folder names nobody");
        assert_eq!(flat.right(&given("pictures"), &given("pictures")), None, "nor if the probes lie there too");
    }

    /// Somebody who is enrolled by hand under the name that file names have is the same person.
    #[test]
    fn a_name_is_one_person_whoever_says_it() {
        let gallery = [file("0001"), given("0001"), file("0002")];
        let people = People::of(&gallery);
        assert_eq!(people.right(&file("0001"), &given("0001")), Some(true));
        assert_eq!(people.right(&given("0001"), &file("0001")), Some(true));
        assert_eq!(people.right(&file("0002"), &given("0001")), Some(false));
        let labels: Vec<i64> = gallery.iter().map(|identity| people.entry_label(identity, None).identity).collect();
        assert_eq!(labels, [1, 1, 2]);
    }

    #[test]
    fn labels_of_the_protocol() {
        let gallery = [given("ada"), given("ben"), Identity::Distractor, Identity::Junk, Identity::Unnamed];
        let people = People::of(&gallery);
        let labels: Vec<i64> = gallery.iter().map(|identity| people.entry_label(identity, None).identity).collect();
        assert_eq!(labels, [1, 2, DISTRACTOR, metrics::JUNK, metrics::JUNK]);
        let probe = |identity: Identity| people.probe_label(&identity, Some(3));
        assert_eq!(probe(given("ben")), Label { identity: 2, camera: NO_CAMERA });
        assert_eq!(probe(file("ben")), Label { identity: 2, camera: 3 });
        assert_eq!(probe(file("dan")).identity, NOBODY_HERE, "known, and not in the gallery");
        for nobody in [given("dan"), Identity::Distractor, Identity::Junk, Identity::Unnamed] {
            assert_eq!(probe(nobody).identity, metrics::JUNK);
        }
    }

    #[test]
    fn what_galleries_store_comes_back() {
        let people = [file("0007"), given("0007"), given("M\u{fc}ller")];
        for identity in [Identity::Junk, Identity::Distractor, Identity::Unnamed].into_iter().chain(people) {
            let (number, text) = identity.to_parts();
            assert_eq!(Identity::from_parts(number, text.to_owned()), identity);
        }
        assert_eq!(file("0007").to_parts(), (7, "0007"));
        assert_eq!(given("0007").to_parts().0, datasets::number_of("0007"));
        assert_eq!(Identity::from_parts(-3, "-3".into()), Identity::Junk);
        // A dataset may number its people by itself.
        assert_eq!(file("s1").to_parts().0, datasets::number_of("s1"));
    }
}
