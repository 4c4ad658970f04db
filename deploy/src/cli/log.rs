//! `deploy gallery log`: what was done to a gallery.

use std::collections::VecDeque;
use std::process::ExitCode;

use ::gallery::LogEntry;
use serde_json::json;

use super::args::{FactsFormat, GalleryLogArgs};
use super::shared::{print, print_json};
use crate::report::aligned;
use crate::{DeployError, gallery, time};

pub(crate) fn run(
    GalleryLogArgs { gallery: folder, last, format, .. }: &GalleryLogArgs,
) -> Result<ExitCode, DeployError> {
    if gallery::is_older(folder) {
        return Err(DeployError::Older { path: folder.clone() });
    }
    let most = last.map_or(usize::MAX, |last| last.get());
    let mut entries = VecDeque::new();
    let problems = gallery::read(folder)?.log(|entry| {
        if entries.len() == most {
            entries.pop_front();
        }
        entries.push_back(entry);
    })?;
    match format {
        FactsFormat::Json => print_json(&json!({"entries": entries, "problems": problems}))?,
        FactsFormat::Table if entries.is_empty() && problems.is_empty() => {
            print("no log: an earlier version made the gallery, and the next change begins one\n")?;
        }
        FactsFormat::Table => {
            let titles =
                ["", "time", "who", "change", "templates", "numbers", "people", "detail", "program", "contract id"];
            let mut lines = vec![titles.map(str::to_owned).to_vec()];
            lines.extend(entries.iter().map(line));
            print(&aligned(&lines))?;
            problems.iter().for_each(|problem| terminal::warn(problem));
        }
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(terminal::EXIT_NO) })
}

fn line(entry: &LogEntry) -> Vec<String> {
    let change = match (&entry.change, &entry.command) {
        (change, command) if change == command => change.clone(),
        (change, command) => format!("{change} ({command})"),
    };
    let known = entry.subjects.ranges.iter().map(|[first, last]| u128::from(last - first) + 1).sum::<u128>();
    let people = match (entry.names.join(", "), entry.subjects.more || known > entry.names.len() as u128) {
        (names, false) => names,
        // Who was removed has a number and no name.
        (names, true) if names.is_empty() => format!("no. {}", entry.subjects),
        (names, true) => format!("{names}, … (no. {})", entry.subjects),
    };
    vec![
        entry.number.to_string(),
        time::text(entry.at),
        entry.who.clone(),
        change,
        entry.count.to_string(),
        entry.templates.to_string(),
        people,
        entry.detail.clone(),
        entry.program.clone(),
        entry.contract_id.clone(),
    ]
}
