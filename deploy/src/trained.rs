//! Checks whether a model is tested on people it was trained on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use contract::Training;
use serde::Serialize;

use crate::gallery::Embeddings;
use crate::identity::Identity;

/// Number of pictures per person that are looked up. Training stores the first one, which may be gone by now.
const LOOKED_UP: usize = 4;

/// How many of the tested people the model was trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Overlap {
    /// Tested people.
    pub tested: usize,
    /// Tested people the model was trained on.
    pub trained_on: usize,
    /// Tested people for whom this is unknown, because the model stores only a part of its people.
    pub unknown: usize,
}

impl Overlap {
    /// Looks up the people of these rows by their pictures; `None` if the model does not store whom it was trained on.
    pub fn of<'a>(training: &Training, tested: impl IntoIterator<Item = &'a Embeddings>) -> Option<Self> {
        let known = training.people.as_ref()?;
        let mut people = BTreeMap::<&str, Vec<PathBuf>>::new();
        for embeddings in tested {
            for template in &embeddings.templates {
                if let Identity::Person(name) = &template.identity {
                    people.entry(&name.text).or_default().push(embeddings.file(&template.path));
                }
            }
        }
        let mut overlap = Self { tested: people.len(), trained_on: 0, unknown: 0 };
        for pictures in people.into_values() {
            let firsts = datasets::by_name(pictures.iter().map(PathBuf::as_path).collect());
            let look_up = |picture| known.holds(&training.dataset_fingerprint, picture).ok().flatten();
            let found: Vec<Option<bool>> = firsts.into_iter().take(LOOKED_UP).map(look_up).collect();
            if found.contains(&Some(true)) {
                overlap.trained_on += 1;
            } else if found.first() == Some(&None) {
                overlap.unknown += 1;
            }
        }
        Some(overlap)
    }

    /// A warning if any tested person was trained on.
    pub fn warning(&self, training: &Training) -> Option<String> {
        let Self { tested, trained_on, unknown } = self;
        let split = training.people.as_ref().map(|people| people.split.as_str()).unwrap_or_default();
        (*trained_on > 0).then(|| {
            let more = if *unknown > 0 { format!(", and {unknown} more may be") } else { String::new() };
            format!(
                "{trained_on} of the {tested} people tested are among those the model was trained on ({split}){more}: \
                 for other people, the numbers will be worse"
            )
        })
    }
}
