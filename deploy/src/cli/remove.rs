//! `deploy remove`: a person's rows out of a gallery.

use std::process::ExitCode;

use ::gallery::{Engine, GalleryError};

use super::args::RemoveArgs;
use super::shared::{self, print};
use crate::{DeployError, gallery};

pub(crate) fn run(RemoveArgs { gallery: folder, identity, writing }: &RemoveArgs) -> Result<ExitCode, DeployError> {
    let store = shared::writing(writing.wait, |wait| gallery::write(folder, wait))?;
    let removed = store.remove(&gallery::person(identity)).map_err(|error| match error {
        GalleryError::NoSubject { .. } => {
            DeployError::NotEnrolled { identity: identity.clone(), gallery: folder.clone() }
        }
        other => other.into(),
    })?;
    let left = store.info()?.templates;
    let rows = |count: u64| if count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
    print(&format!("{identity} removed, {}; {} left in {}\n", rows(removed), rows(left), folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
