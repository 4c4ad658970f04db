use serde::{Deserialize, Serialize};

/// Names a template in its gallery for ever: ids grow with every enrolment and are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TemplateId(pub u64);
