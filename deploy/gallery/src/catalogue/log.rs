//! What was done to a gallery: a chain of records, each with a hash of itself and of the record before.

use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Catalogue, Change, Sql, fact, set_fact, signed, unsigned};
use crate::GalleryError;
use crate::id::GalleryId;

/// Fact with number and hash of the last record.
const HEAD: &str = "log";

/// Who writes the records.
const PROGRAM: &str = concat!("vitrine ", env!("CARGO_PKG_VERSION"));

/// Problems of a log that are told.
const TOLD: usize = 100;

/// What was done to templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// The gallery was made.
    Make,
    /// A gallery of an earlier version got its log: what was done before is not in it.
    Upgrade,
    Enrol,
    Remove,
    /// All templates were taken out, to be replaced.
    Clear,
    /// Rows of removed templates were taken out of the files.
    Compact,
    /// Templates were embedded again by another model.
    Migrate,
    /// Templates of a subject were given to another.
    Merge,
    /// A search was answered.
    Match,
    /// Somebody said whether a match is right.
    Review,
    /// Somebody was refused.
    Deny,
    /// All that is stored was sealed.
    Encrypt,
    /// Its keys are wrapped by another.
    RotateKey,
    /// Templates are turned anew.
    Renew,
}

impl Act {
    fn word(self) -> &'static str {
        match self {
            Self::Make => "make",
            Self::Upgrade => "upgrade",
            Self::Enrol => "enrol",
            Self::Remove => "remove",
            Self::Clear => "clear",
            Self::Compact => "compact",
            Self::Migrate => "migrate",
            Self::Merge => "merge",
            Self::Match => "match",
            Self::Review => "review",
            Self::Deny => "deny",
            Self::Encrypt => "encrypt",
            Self::RotateKey => "rotate-key",
            Self::Renew => "renew",
        }
    }
}

/// What is to be noted about a change.
#[derive(Debug)]
pub(crate) struct Note<'a> {
    pub(crate) act: Act,
    /// What the program was asked for; none where that is the same.
    pub(crate) command: Option<&'a str>,
    pub(crate) count: u64,
    pub(crate) templates: Ranges,
    pub(crate) subjects: Ranges,
    /// A few words, never about who somebody is.
    pub(crate) detail: &'a str,
}

impl Note<'_> {
    /// A note that names no templates.
    pub(crate) fn of(act: Act, count: u64) -> Self {
        let (templates, subjects) = Default::default();
        Self { act, command: None, count, templates, subjects, detail: "" }
    }
}

/// Numbers as ranges in the order they came; of very scattered ones only the first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ranges {
    /// First and last number of each range.
    pub ranges: Vec<[u64; 2]>,
    /// There were more numbers than these.
    pub more: bool,
}

impl Ranges {
    /// Ranges that are kept.
    const MOST: usize = 32;

    /// Takes a number, which may be there already.
    pub(crate) fn add(&mut self, number: u64) {
        if self.ranges.iter().any(|[first, last]| (*first..=*last).contains(&number)) {
            return;
        }
        let count = self.ranges.len();
        match self.ranges.last_mut() {
            Some([_, last]) if last.checked_add(1) == Some(number) => *last = number,
            _ if count < Self::MOST => self.ranges.push([number, number]),
            _ => self.more = true,
        }
    }

    fn read(text: &str) -> Option<Self> {
        let mut found = Self::default();
        for word in text.split_whitespace() {
            if word == "+" {
                found.more = true;
                continue;
            }
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let range = [first.parse().ok()?, last.parse().ok()?];
            if range[0] > range[1] {
                return None;
            }
            found.ranges.push(range);
        }
        Some(found)
    }
}

impl std::fmt::Display for Ranges {
    /// `1-20 25 +`, where `+` stands for more.
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let range = |[first, last]: &[u64; 2]| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        let words: Vec<String> = self.ranges.iter().map(range).chain(self.more.then(|| "+".to_owned())).collect();
        to.write_str(&words.join(" "))
    }
}

/// A change of a gallery, as it was noted when it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogEntry {
    /// Counts from 1.
    pub number: u64,
    /// When, in milliseconds since 1970, by the clock of the machine.
    pub at: i64,
    /// Who asked for it: the name of a key, or a user of the machine. Empty in records of earlier versions.
    pub who: String,
    /// What was done: make, upgrade, enrol, remove, clear, compact, migrate, merge, match, review, deny, encrypt,
    /// rotate-key or renew.
    pub change: String,
    /// What the program was asked for: sync, which removes and enrols, or the same as `change`.
    pub command: String,
    /// Number of templates to which it was done.
    pub count: u64,
    /// Their ids.
    pub templates: Ranges,
    /// Numbers of their subjects.
    pub subjects: Ranges,
    /// A few words about it: the similarity of a match, what was refused.
    pub detail: String,
    /// Names of those of the subjects that are still enrolled, at most eight. They are looked up and not part of the
    /// record.
    pub names: Vec<String>,
    /// The program and its version.
    pub program: String,
    /// Contract id of the gallery's model, after the change.
    pub contract_id: String,
    /// SHA-256 of all this but the names, and of the hash before, in hexadecimal. Whoever keeps it elsewhere can tell
    /// later that nothing before was changed.
    pub hash: String,
}

impl LogEntry {
    /// Names that are looked up.
    const NAMES: u64 = 8;

    fn hash_after(&self, before: &str) -> String {
        let Self { number, at, change, command, count, templates, subjects, program, contract_id, .. } = self;
        let Self { who, detail, names: _, hash: _, .. } = self;
        let mut hash = Sha256::new();
        // The length before each text: no two records have the same bytes.
        let numbers = [number.to_string(), at.to_string(), count.to_string(), templates.to_string()];
        let texts: [&str; 5] = [before, change, command, program, contract_id];
        // Records of earlier versions have neither.
        let newer = (!who.is_empty() || !detail.is_empty()).then(|| [who.clone(), detail.clone()]);
        let newer = newer.into_iter().flatten();
        for text in texts.into_iter().map(str::to_owned).chain(numbers).chain([subjects.to_string()]).chain(newer) {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        hex::encode(hash.finalize())
    }

    fn of(row: &Row<'_>) -> Sql<Option<Self>> {
        let (templates, subjects): (String, String) = (row.get(5)?, row.get(6)?);
        let (Some(templates), Some(subjects)) = (Ranges::read(&templates), Ranges::read(&subjects)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            number: unsigned(row.get(0)?),
            at: row.get(1)?,
            change: row.get(2)?,
            command: row.get(3)?,
            count: unsigned(row.get(4)?),
            templates,
            subjects,
            names: Vec::new(),
            program: row.get(7)?,
            contract_id: row.get(8)?,
            hash: row.get(9)?,
            who: row.get(10)?,
            detail: row.get(11)?,
        }))
    }
}

/// Starts the chain with the gallery's own id, so that no other gallery's log fits.
pub(super) fn begin(connection: &Connection) -> Sql<()> {
    let head = format!("0 {}", start(connection)?);
    connection.execute("INSERT INTO facts VALUES (?1, ?2)", params![HEAD, head]).map(drop)
}

fn start(connection: &Connection) -> Sql<String> {
    fact::<GalleryId>(connection, "gallery").map(hex::encode)
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

/// Who runs this program: what the environment calls the user, which anybody can change, and the system's number.
pub(super) fn local_user() -> String {
    let name = ["USER", "LOGNAME", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let name: String = name.unwrap_or_default().chars().filter(|letter| letter.is_ascii_graphic()).take(64).collect();
    #[cfg(unix)]
    let name = format!("{name} (uid {})", rustix::process::getuid().as_raw());
    format!("user {}", name.trim())
}

/// Adds a record to the chain.
pub(super) fn note(connection: &Connection, who: &str, note: &Note<'_>) -> Sql<()> {
    let head: String = fact(connection, HEAD)?;
    let (last, before) = head.split_once(' ').unwrap_or_default();
    let mut entry = LogEntry {
        number: last.parse().unwrap_or(0) + 1,
        at: now(),
        who: who.to_owned(),
        detail: note.detail.to_owned(),
        change: note.act.word().to_owned(),
        command: note.command.unwrap_or(note.act.word()).to_owned(),
        count: note.count,
        templates: note.templates.clone(),
        subjects: note.subjects.clone(),
        names: Vec::new(),
        program: PROGRAM.to_owned(),
        contract_id: fact(connection, "contract_id")?,
        hash: String::new(),
    };
    entry.hash = entry.hash_after(before);
    let mut insert = connection.prepare_cached(
        "INSERT INTO log (number, at, change, command, count, templates, subjects, program, contract_id, hash, who,
                          detail)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    insert.execute(params![
        signed(entry.number),
        entry.at,
        entry.change,
        entry.command,
        signed(entry.count),
        entry.templates.to_string(),
        entry.subjects.to_string(),
        entry.program,
        entry.contract_id,
        entry.hash,
        entry.who,
        entry.detail,
    ])?;
    set_fact(connection, HEAD, &format!("{} {}", entry.number, entry.hash))
}

impl Change<'_> {
    /// Notes in the log what this change does.
    pub(crate) fn note(&self, about: &Note<'_>) -> Result<(), GalleryError> {
        self.run(|connection| note(connection, &self.who, about))
    }

    /// Who asks for this change.
    pub(crate) fn set_who(&mut self, who: &str) {
        who.clone_into(&mut self.who);
    }
}

impl Catalogue {
    /// Hands out every record, the first one first, and returns what is wrong with the chain. A catalogue of an earlier
    /// version has none.
    pub(crate) fn log(&self, mut each: impl FnMut(LogEntry)) -> Result<Vec<String>, GalleryError> {
        let version = self.version()?;
        if version < super::LOGGED {
            return Ok(Vec::new());
        }
        let newer = if version < super::VERSION { "'', ''" } else { "who, detail" };
        let mut failed = None;
        let problems = self.read("read the log of", |connection| {
            let mut problems = Vec::new();
            let mut tell = |problem: String| {
                if problems.len() < TOLD {
                    problems.push(problem);
                }
            };
            let mut all = connection.prepare(&format!(
                "SELECT number, at, change, command, count, templates, subjects, program, contract_id, hash, {newer}
                 FROM log ORDER BY number"
            ))?;
            let mut names = connection
                .prepare("SELECT number, name FROM subjects WHERE number BETWEEN ?1 AND ?2 ORDER BY number LIMIT ?3")?;
            let (mut last, mut before) = (0, start(connection)?);
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                let Some(mut entry) = LogEntry::of(row)? else {
                    tell(format!("a record of the log after number {last} is not one"));
                    continue;
                };
                if entry.number != last + 1 {
                    tell(format!("the log has record {} after record {last}", entry.number));
                }
                if entry.hash != entry.hash_after(&before) {
                    tell(format!("record {} of the log is not what was written", entry.number));
                }
                for [first, last] in &entry.subjects.ranges {
                    let left = LogEntry::NAMES - entry.names.len() as u64;
                    let found = names.query_map([signed(*first), signed(*last), signed(left)], |row| {
                        Ok((row.get::<_, u32>(0)?, row.get::<_, String>(1)?))
                    })?;
                    for name in found {
                        let (number, name) = name?;
                        match self.opened_name(number, name) {
                            Ok(name) => entry.names.push(name),
                            Err(error) => failed = Some(error),
                        }
                    }
                }
                (last, before) = (entry.number, entry.hash.clone());
                each(entry);
            }
            let head: Option<String> = fact(connection, HEAD).optional()?;
            if head != Some(format!("{last} {before}")) {
                tell(format!("the log ends with record {last}, which is not the last one"));
            }
            Ok(problems)
        })?;
        failed.map_or(Ok(problems), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_ranges_and_scattered_ones_an_end() {
        let of = |numbers: &[u64]| {
            let mut ranges = Ranges::default();
            numbers.iter().for_each(|number| ranges.add(*number));
            ranges
        };
        assert_eq!(of(&[4, 5, 6, 9, 5, 10, 2]).to_string(), "4-6 9-10 2");
        let scattered = of(&(0..100).map(|number| number * 2).collect::<Vec<_>>());
        assert_eq!((scattered.ranges.len(), scattered.more), (Ranges::MOST, true));
        assert!(scattered.to_string().ends_with("62 +"));
        for ranges in [of(&[]), of(&[7]), scattered, of(&[u64::MAX, 0])] {
            assert_eq!(Ranges::read(&ranges.to_string()), Some(ranges));
        }
        for text in ["1-", "x", "1 2 -3", "++", "3-2", "18446744073709551616"] {
            assert_eq!(Ranges::read(text), None, "{text}");
        }
    }
}
