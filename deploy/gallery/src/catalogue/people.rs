//! Who is enrolled and what was found, for programs that show it: people by their numbers, small pictures, recent
//! matches.

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;

use super::{Act, Catalogue, Change, Note, Ranges, Sql, id_of, log, opened, sealed, signed, templates, unsigned};
use crate::vault::Place;
use crate::{GalleryError, Selection, Template, TemplateId};

/// Bytes of a small picture at most.
pub(crate) const MAX_PICTURE: usize = 256 << 10;

/// Matches that are kept; of more the oldest go.
const KEPT: i64 = 1000;

/// Bytes of the detail of a record at most.
const MAX_DETAIL: usize = 256;

/// A person who is enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Person {
    /// Number in the gallery, never used again.
    pub number: u32,
    /// Name.
    pub name: String,
    /// How many templates.
    pub templates: u64,
    /// The newest template that has a picture.
    pub picture: Option<TemplateId>,
    /// When the first of the templates was enrolled, in milliseconds since 1970; none if an earlier version did it.
    pub enrolled: Option<i64>,
}

/// A template of a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PersonTemplate {
    /// The template.
    #[serde(flatten)]
    pub template: Template,
    /// Whether it has a picture.
    pub picture: bool,
    /// When it was enrolled, in milliseconds since 1970; none if an earlier version did it.
    pub enrolled: Option<i64>,
}

/// What a search found first.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Found {
    /// The best template; none if there was no hit.
    pub template: Option<TemplateId>,
    /// Its similarity.
    pub similarity: Option<f32>,
    /// Whether that reached the threshold; none without one.
    pub accepted: Option<bool>,
}

/// What somebody said about a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is right.
    Confirmed,
    /// It is wrong.
    Wrong,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Wrong => "wrong",
        }
    }
}

/// A search that was answered lately.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Match {
    /// Number, never used again.
    pub number: u64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// The best template; none if there was no hit.
    pub template: Option<TemplateId>,
    /// Number of its subject.
    pub subject: Option<u32>,
    /// The subject's name.
    pub name: Option<String>,
    /// Its similarity.
    pub similarity: Option<f32>,
    /// Whether that reached the threshold; none without one.
    pub accepted: Option<bool>,
    /// What somebody said about it.
    pub verdict: Option<Verdict>,
    /// Who it is, as somebody said: number of a subject.
    pub corrected: Option<u32>,
}

/// Which people are listed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// Only those of higher numbers.
    pub(crate) after: u32,
    /// At most so many.
    pub(crate) most: usize,
    /// Only those whose name has this in it, in letters of any case.
    pub(crate) containing: Option<&'a str>,
}

fn person(connection: &Connection, number: u32, name: String) -> Sql<Person> {
    let mut query = connection.prepare_cached(
        "SELECT count(*), min(enrolled), (SELECT max(template) FROM pictures JOIN templates ON template = id
                                          WHERE subject = ?1)
         FROM templates WHERE subject = ?1",
    )?;
    query.query_row([number], |row| {
        let picture = row.get::<_, Option<i64>>(2)?.map(|id| TemplateId(unsigned(id)));
        Ok(Person { number, name, templates: unsigned(row.get(0)?), picture, enrolled: row.get(1)? })
    })
}

impl Catalogue {
    /// Whether there is what version 3 brought: galleries of before have neither pictures nor matches.
    fn is_newest(&self) -> Result<bool, GalleryError> {
        Ok(self.version()? == super::VERSION)
    }

    /// People in order of their numbers. A gallery of an earlier version is to be opened for writing first.
    pub(crate) fn people(&self, ask: &Ask<'_>) -> Result<Vec<Person>, GalleryError> {
        self.newest()?;
        let wanted = ask.containing.map(str::to_lowercase);
        let mut failed = None;
        let people = self.read("read", |connection| {
            let mut all = connection.prepare("SELECT number, name FROM subjects WHERE number > ?1 ORDER BY number")?;
            let mut rows = all.query([ask.after])?;
            let mut people = Vec::new();
            while people.len() < ask.most
                && let Some(row) = rows.next()?
            {
                let number = row.get(0)?;
                let name = match self.opened_name(number, row.get(1)?) {
                    Ok(name) => name,
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                };
                if wanted.as_ref().is_none_or(|wanted| name.to_lowercase().contains(wanted)) {
                    people.push(person(connection, number, name)?);
                }
            }
            Ok(people)
        })?;
        failed.map_or(Ok(people), Err)
    }

    /// The name of a subject, from how it is stored.
    pub(super) fn opened_name(&self, number: u32, stored: String) -> Result<String, GalleryError> {
        match &self.vault {
            None => Ok(stored),
            Some(vault) => vault.open_name(number, &stored).map(|name| name.to_string()),
        }
    }

    /// A person by number, with all templates.
    pub(crate) fn person(&self, number: u32) -> Result<Option<(Person, Vec<PersonTemplate>)>, GalleryError> {
        self.newest()?;
        let known = self.read("read", |connection| {
            let name = connection.prepare_cached("SELECT name FROM subjects WHERE number = ?1")?;
            let Some(name) = { name }.query_row([number], |row| row.get(0)).optional()? else { return Ok(None) };
            let mut query = connection.prepare_cached(
                "SELECT id, enrolled, EXISTS (SELECT 1 FROM pictures WHERE template = id) FROM templates
                 WHERE subject = ?1 ORDER BY id",
            )?;
            let rows = query.query_map([number], |row| Ok((id_of(row, 0)?, row.get(1)?, row.get(2)?)))?;
            let rows: Vec<(TemplateId, Option<i64>, bool)> = rows.collect::<Sql<_>>()?;
            Ok(Some((person(connection, number, name)?, rows)))
        })?;
        let Some((mut person, rows)) = known else { return Ok(None) };
        person.name = self.opened_name(number, person.name)?;
        let ids: Vec<TemplateId> = rows.iter().map(|(id, ..)| *id).collect();
        let templates = self.templates(&ids)?.into_iter().zip(rows);
        let templates =
            templates.map(|(template, (_, enrolled, picture))| PersonTemplate { template, picture, enrolled });
        Ok(Some((person, templates.collect())))
    }

    /// The picture of a template, if it has one.
    pub(crate) fn picture(&self, id: TemplateId) -> Result<Option<Vec<u8>>, GalleryError> {
        if !self.is_newest()? {
            return Ok(None);
        }
        let stored: Option<Vec<u8>> = self.read("read", |connection| {
            let mut query = connection.prepare_cached("SELECT jpeg FROM pictures WHERE template = ?1")?;
            query.query_row([signed(id.0)], |row| row.get(0)).optional()
        })?;
        match (stored, &self.vault) {
            (Some(stored), Some(vault)) => Ok(Some(vault.open_blob(Place::Picture(id), &stored)?.to_vec())),
            (stored, _) => Ok(stored),
        }
    }

    /// The last matches, the newest first.
    pub(crate) fn matches(&self, most: usize) -> Result<Vec<Match>, GalleryError> {
        if !self.is_newest()? {
            return Ok(Vec::new());
        }
        let mut all: Vec<Match> = self.read("read", |connection| {
            let mut query = connection.prepare_cached(
                "SELECT matches.number, at, template, templates.subject, name, similarity, accepted, verdict,
                        matches.subject
                 FROM matches LEFT JOIN templates ON template = id LEFT JOIN subjects
                      ON templates.subject = subjects.number
                 ORDER BY matches.number DESC LIMIT ?1",
            )?;
            let rows = query.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| {
                let verdict = row.get::<_, Option<String>>(7)?;
                let verdict = verdict.map(|word| if word == "confirmed" { Verdict::Confirmed } else { Verdict::Wrong });
                Ok(Match {
                    number: unsigned(row.get(0)?),
                    at: row.get(1)?,
                    template: row.get::<_, Option<i64>>(2)?.map(|id| TemplateId(unsigned(id))),
                    subject: row.get(3)?,
                    name: row.get(4)?,
                    similarity: row.get::<_, Option<f64>>(5)?.map(|similarity| similarity as f32),
                    accepted: row.get(6)?,
                    verdict,
                    corrected: row.get(8)?,
                })
            })?;
            rows.collect()
        })?;
        for found in &mut all {
            if let (Some(number), Some(name)) = (found.subject, found.name.take()) {
                found.name = Some(self.opened_name(number, name)?);
            }
        }
        Ok(all)
    }

    fn newest(&self) -> Result<(), GalleryError> {
        if self.is_newest()? {
            return Ok(());
        }
        let why = "an earlier version made it; open it for writing once, as `deploy gallery compact` does";
        Err(GalleryError::Unsupported { what: "list people by number", why })
    }
}

impl Change<'_> {
    /// The name of a subject.
    pub(crate) fn name_of(&self, number: u32) -> Result<String, GalleryError> {
        let name = self.run(|connection| {
            let mut query = connection.prepare_cached("SELECT name FROM subjects WHERE number = ?1")?;
            query.query_row([number], |row| row.get(0)).optional()
        })?;
        let name: String = name.ok_or(GalleryError::NoPerson { number })?;
        match &self.vault {
            None => Ok(name),
            Some(vault) => vault.open_name(number, &name).map(|name| name.to_string()),
        }
    }

    /// Templates of the subject of a name, in order of their ids.
    pub(super) fn of_subject(&self, name: &str) -> Result<Vec<TemplateId>, GalleryError> {
        if let Some(vault) = &self.vault {
            let all = sealed::numbers(vault, &self.run(sealed::subjects)?)?;
            return match all.get(name) {
                None => Ok(Vec::new()),
                Some((number, _)) => self.run(|connection| {
                    let mut query =
                        connection.prepare_cached("SELECT id FROM templates WHERE subject = ?1 ORDER BY id")?;
                    query.query_map([number], |row| id_of(row, 0))?.collect()
                }),
            };
        }
        self.run(|connection| {
            let mut query = connection.prepare_cached(
                "SELECT id FROM templates JOIN subjects ON subject = number WHERE name = ?1 ORDER BY id",
            )?;
            query.query_map([name], |row| id_of(row, 0))?.collect()
        })
    }

    /// Templates of a subject, in order of their ids.
    pub(crate) fn templates_of(&self, number: u32) -> Result<Vec<Template>, GalleryError> {
        let all = self.run(|connection| {
            let mut query = connection.prepare_cached("SELECT id FROM templates WHERE subject = ?1 ORDER BY id")?;
            let ids = query.query_map([number], |row| id_of(row, 0))?.collect::<Sql<Vec<_>>>()?;
            templates(connection, &ids)
        })?;
        opened(self.vault.as_deref(), all)
    }

    /// Stores the picture of a template in place of the one it had.
    pub(crate) fn set_picture(&self, id: TemplateId, jpeg: &[u8]) -> Result<(), GalleryError> {
        let problem = match jpeg {
            _ if jpeg.len() > MAX_PICTURE => format!("at most {MAX_PICTURE} bytes are allowed"),
            [0xFF, 0xD8, 0xFF, ..] => String::new(),
            _ => "it does not start as a JPEG does".to_owned(),
        };
        if !problem.is_empty() {
            return Err(GalleryError::Field { what: "picture", value: format!("{} bytes", jpeg.len()), problem });
        }
        let is_there = "SELECT 1 FROM templates WHERE id = ?1";
        if !self.run(|connection| connection.prepare_cached(is_there)?.exists([signed(id.0)]))? {
            return Err(GalleryError::NoTemplate { id });
        }
        let sealed = match &self.vault {
            None => None,
            Some(vault) => Some(vault.seal_blob(&self.key_of(id)?, Place::Picture(id), jpeg)?),
        };
        let jpeg = sealed.as_deref().unwrap_or(jpeg);
        self.run(|connection| {
            let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO pictures VALUES (?1, ?2)")?;
            insert.execute(params![signed(id.0), jpeg]).map(drop)
        })
    }

    /// Gives `new` what belongs to `old`, which stands for the same picture of somebody else.
    pub(crate) fn adopt(&self, old: TemplateId, new: TemplateId) -> Result<(), GalleryError> {
        let ids = [signed(old.0), signed(new.0)];
        if let Some(vault) = &self.vault {
            let stored: Option<Vec<u8>> = self.run(|connection| {
                let mut query = connection.prepare_cached("SELECT jpeg FROM pictures WHERE template = ?1")?;
                query.query_row([ids[0]], |row| row.get(0)).optional()
            })?;
            // It is sealed for its place.
            if let Some(stored) = stored {
                let jpeg = vault.open_blob(Place::Picture(old), &stored)?;
                self.set_picture(new, &jpeg)?;
                self.run(|connection| connection.execute("DELETE FROM pictures WHERE template = ?1", [ids[0]]))?;
            }
        }
        self.run(|connection| {
            for update in [
                "UPDATE templates SET enrolled = (SELECT enrolled FROM templates WHERE id = ?1) WHERE id = ?2",
                "UPDATE pictures SET template = ?2 WHERE template = ?1",
                "UPDATE matches SET template = ?2 WHERE template = ?1",
            ] {
                connection.prepare_cached(update)?.execute(ids)?;
            }
            Ok(())
        })
    }

    /// What people said is `from` is `into` from here on.
    pub(crate) fn correct(&self, from: u32, into: u32) -> Result<(), GalleryError> {
        let update = "UPDATE matches SET subject = ?2 WHERE subject = ?1";
        self.run(|connection| connection.execute(update, [from, into])).map(drop)
    }

    /// Notes what a search found, here and in the log, and returns its number.
    pub(crate) fn matched(&self, found: &Found) -> Result<u64, GalleryError> {
        let Found { template, similarity, accepted } = *found;
        let (number, template, subject) = self.run(|connection| {
            // One that was removed since the search is nobody.
            let mut known = connection.prepare_cached("SELECT id, subject FROM templates WHERE id = ?1")?;
            let known = template.map(|id| {
                known.query_row([signed(id.0)], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<u32>>(1)?)))
            });
            let known = known.map(|known| known.optional()).transpose()?.flatten();
            let mut insert = connection.prepare_cached(
                "INSERT INTO matches (at, template, similarity, accepted) VALUES (?1, ?2, ?3, ?4) RETURNING number",
            )?;
            let similarity = similarity.map(f64::from);
            let row = params![log::now(), known.map(|(id, _)| id), similarity, accepted];
            let number: i64 = insert.query_row(row, |row| row.get(0))?;
            connection.prepare_cached("DELETE FROM matches WHERE number <= ?1")?.execute([number - KEPT])?;
            Ok((unsigned(number), known.map(|(id, _)| id), known.and_then(|(_, subject)| subject)))
        })?;
        let mut note = Note::of(Act::Match, 1);
        template.into_iter().for_each(|id| note.templates.add(unsigned(id)));
        subject.into_iter().for_each(|subject| note.subjects.add(subject.into()));
        let accepted = accepted.map_or("", |accepted| if accepted { ", accepted" } else { ", rejected" });
        let similarity = similarity.map_or("no hit".to_owned(), |similarity| format!("similarity {similarity:.4}"));
        let detail = format!("no. {number}: {similarity}{accepted}");
        self.note(&Note { detail: &detail, ..note })?;
        Ok(number)
    }

    /// Notes what somebody says about a match.
    pub(crate) fn review(&self, number: u64, verdict: Verdict, subject: Option<u32>) -> Result<(), GalleryError> {
        if let Some(subject) = subject {
            self.name_of(subject)?;
        }
        let rows = self.run(|connection| {
            let update = "UPDATE matches SET verdict = ?2, subject = ?3 WHERE number = ?1";
            connection.execute(update, params![signed(number), verdict.word(), subject])
        })?;
        if rows == 0 {
            return Err(GalleryError::NoMatch { number });
        }
        let mut subjects = Ranges::default();
        subject.into_iter().for_each(|subject| subjects.add(subject.into()));
        let detail = format!("no. {number}: {}", verdict.word());
        self.note(&Note { subjects, detail: &detail, ..Note::of(Act::Review, 1) })
    }

    /// Notes in the log that somebody was refused.
    pub(crate) fn deny(&self, what: &str) -> Result<(), GalleryError> {
        if what.len() > MAX_DETAIL || what.chars().any(char::is_control) {
            let problem = format!("at most {MAX_DETAIL} bytes without control characters are allowed");
            let value = what.chars().filter(|letter| !letter.is_control()).take(100).collect();
            return Err(GalleryError::Field { what: "refusal", value, problem });
        }
        self.note(&Note { detail: what, ..Note::of(Act::Deny, 0) })
    }

    /// The selection that removes a person.
    pub(crate) fn selection(&self, number: u32) -> Result<Selection, GalleryError> {
        self.name_of(number).map(Selection::Subject)
    }
}
