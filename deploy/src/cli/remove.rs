//! `deploy remove`: a person's rows out of a gallery.

use std::process::ExitCode;

use super::args::RemoveArgs;
use super::shared::{exclusive, print};
use crate::DeployError;
use crate::gallery::{self, Writer};
use crate::identity::Identity;

pub(crate) fn run(RemoveArgs { gallery: folder, identity, writing }: &RemoveArgs) -> Result<ExitCode, DeployError> {
    // Before a folder is made or locked.
    gallery::facts(folder)?;
    let exclusive = exclusive(folder, writing.wait)?;
    let (old, facts) = gallery::read(folder)?;
    let person = Identity::given(identity);
    let stays = |row: &usize| old.templates[*row].identity.same(&person) != Some(true);
    let left: Vec<usize> = (0..old.templates.len()).filter(stays).collect();
    let removed = old.templates.len() - left.len();
    if removed == 0 {
        return Err(DeployError::NotEnrolled { identity: identity.clone(), gallery: folder.clone() });
    }
    let mut writer = Writer::create(exclusive, old.dim)?;
    for row in &left {
        writer.row(&old.templates[*row], old.row(*row))?;
    }
    let facts = writer.finish(facts)?;
    let rows = |count: usize| if count == 1 { "1 row".to_owned() } else { format!("{count} rows") };
    print(&format!("{identity} removed, {}; {} left in {}\n", rows(removed), rows(facts.rows), folder.display()))?;
    Ok(ExitCode::SUCCESS)
}
