//! Who somebody is, and who of a search is known.

use std::collections::BTreeMap;

use crate::pictures::{FOLDER_IDENTITY, Picture};

/// Which identities of a probe set and a gallery really say who somebody is.
#[derive(Debug)]
pub struct Identities {
    gallery: BTreeMap<i64, usize>,
    folders: usize,
}

impl Identities {
    /// Looks at the gallery.
    pub fn of(gallery: &[Picture]) -> Self {
        let mut count = BTreeMap::new();
        for picture in gallery {
            *count.entry(picture.identity).or_default() += 1;
        }
        let folders = count.range(FOLDER_IDENTITY..).count();
        Self { gallery: count, folders }
    }

    /// Whether a match is right; `None` where either identity is not known.
    pub fn right(&self, probe: &Picture, entry: &Picture) -> Option<bool> {
        let nobody = entry.identity == datasets::JUNK || (entry.named_by_folder() && self.folders < 2);
        (self.known(probe) && !nobody).then_some(probe.identity == entry.identity)
    }

    /// Whether the probe's identity is known. The name of a folder is an identity only where the gallery is laid out in
    /// several folders and the probe's is one of them.
    pub fn known(&self, probe: &Picture) -> bool {
        match probe.identity {
            datasets::JUNK => false,
            identity if identity >= FOLDER_IDENTITY => self.folders > 1 && self.gallery.contains_key(&identity),
            // 0 is a distractor: somebody, but nobody in particular.
            identity => identity > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(identity: i64) -> Picture {
        let (others, missing) = (vec![], vec![]);
        Picture { path: "p.jpg".into(), others, missing, identity, identity_name: String::new(), camera: 0 }
    }

    #[test]
    fn right_wrong_and_unknown() {
        let folder = |n: i64| picture(FOLDER_IDENTITY + n);
        let numbered = Identities::of(&[picture(1), picture(2), picture(0), picture(-1)]);
        assert_eq!(numbered.right(&picture(1), &picture(1)), Some(true));
        assert_eq!(numbered.right(&picture(1), &picture(2)), Some(false));
        assert_eq!(numbered.right(&picture(1), &picture(0)), Some(false), "distractors are wrong");
        assert_eq!(numbered.right(&picture(9), &picture(1)), Some(false), "somebody who is not enrolled");
        assert_eq!(numbered.right(&picture(1), &picture(-1)), None, "junk");
        assert_eq!(numbered.right(&folder(1), &picture(1)), None, "a folder of snapshots");
        let folders = Identities::of(&[folder(1), folder(2)]);
        assert_eq!(folders.right(&folder(1), &folder(1)), Some(true));
        assert_eq!(folders.right(&folder(1), &folder(2)), Some(false));
        assert_eq!(folders.right(&folder(3), &folder(2)), None);
        let flat = Identities::of(&[folder(1), folder(1)]);
        assert_eq!(flat.right(&picture(1), &folder(1)), None, "one flat folder names nobody");
        assert_eq!(flat.right(&folder(1), &folder(1)), None, "nor does it when the probes lie there too");
    }
}
