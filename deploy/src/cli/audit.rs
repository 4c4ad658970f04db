//! `deploy audit`: whether the record of what was done to a gallery is whole.

use std::process::ExitCode;

use serde_json::json;

use super::args::{AuditArgs, AuditCommand, AuditVerifyArgs, FactsFormat};
use super::log;
use super::shared::{print, print_json};
use crate::{DeployError, gallery};

pub(crate) fn run(AuditArgs { command }: &AuditArgs) -> Result<ExitCode, DeployError> {
    match command {
        AuditCommand::Verify(args) => verify(args),
        AuditCommand::List(args) => log::run(args),
    }
}

fn verify(AuditVerifyArgs { gallery: folder, head, format, .. }: &AuditVerifyArgs) -> Result<ExitCode, DeployError> {
    if gallery::is_older(folder) {
        return Err(DeployError::Older { path: folder.clone() });
    }
    let store = gallery::read(folder)?;
    let problems = store.verify_log(head.as_deref())?;
    let (mut records, mut last) = (0_u64, None);
    store.log(|entry| {
        records += 1;
        last = Some(entry.hash);
    })?;
    match format {
        FactsFormat::Json => print_json(&json!({"records": records, "head": last, "problems": problems}))?,
        FactsFormat::Table if problems.is_empty() => {
            let last = last.map_or(String::new(), |last| format!("; the last one is {last}"));
            print(&format!("{records} records, all as written{last}\n"))?;
        }
        FactsFormat::Table => print(&(problems.join("\n") + "\n"))?,
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(terminal::EXIT_NO) })
}
