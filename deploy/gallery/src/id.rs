use serde::{Deserialize, Serialize};

/// Names a template in its gallery for ever: ids grow with every enrolment and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateId(pub u64);

/// Identifies a gallery: its segments and no others fit its catalogue.
pub(crate) type GalleryId = [u8; 16];

/// Names a key of a gallery: random, so that no other ever has the name.
pub(crate) type KeyId = [u8; 16];

/// What stands where there is no key.
pub(crate) const NO_KEY: KeyId = [0; 16];
