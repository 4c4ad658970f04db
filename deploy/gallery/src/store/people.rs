//! People, pictures and matches, and who did what: what a service keeps beside the rows.

use metrics::Rows;

use super::{Changes, Store};
use crate::catalogue::{Act, Found, Match, Note, PeopleAsk, Person, PersonTemplate, Verdict};
use crate::{GalleryError, NewTemplate, TemplateId};

/// Bytes of the name of who asks.
const MAX_WHO: usize = 128;

impl Store {
    /// At most `most` people with numbers above `after`, in order of their numbers; with `containing` only those whose
    /// name has it in it, in letters of any case.
    ///
    /// # Errors
    /// If the gallery cannot be read; one of an earlier version is to be opened for writing first.
    pub fn people(&self, after: u32, most: usize, containing: Option<&str>) -> Result<Vec<Person>, GalleryError> {
        self.catalogue()?.people(&PeopleAsk { after, most, containing })
    }

    /// The person of a number, with all templates in order of their ids; none if there is none.
    ///
    /// # Errors
    /// As [`Store::people`].
    pub fn person(&self, number: u32) -> Result<Option<(Person, Vec<PersonTemplate>)>, GalleryError> {
        self.catalogue()?.person(number)
    }

    /// The small picture of a template, as JPEG; none if it has none.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    pub fn picture(&self, id: TemplateId) -> Result<Option<Vec<u8>>, GalleryError> {
        self.catalogue()?.picture(id)
    }

    /// At most `most` of the matches of late, the newest first. A thousand are kept.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    pub fn matches(&self, most: usize) -> Result<Vec<Match>, GalleryError> {
        self.catalogue()?.matches(most)
    }

    /// The hash of the log's last record. Whoever keeps it elsewhere can tell later that no record up to it was changed
    /// or taken away; see [`Store::verify_log`]. None in a gallery of a version without a log.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    pub fn log_head(&self) -> Result<Option<String>, GalleryError> {
        let mut head = None;
        self.log(|entry| head = Some(entry.hash))?;
        Ok(head)
    }

    /// What is wrong with the log: a record that was changed, is missing or in another place, or, with a `head` that
    /// [`Store::log_head`] returned before, that it no longer has that record.
    ///
    /// # Errors
    /// If the gallery cannot be read.
    pub fn verify_log(&self, head: Option<&str>) -> Result<Vec<String>, GalleryError> {
        let mut found = false;
        let mut problems = self.log(|entry| found |= head == Some(&*entry.hash))?;
        if let Some(head) = head.filter(|_| !found) {
            problems.push(format!("no record of the log has the hash {head}: its end was cut off or written anew"));
        }
        Ok(problems)
    }
}

impl Changes<'_> {
    /// Who asks for these changes: the name of a key. Without it the log has the user of the machine.
    ///
    /// # Errors
    /// If it is empty, longer than 128 bytes or has control characters.
    pub fn on_behalf_of(&mut self, who: &str) -> Result<(), GalleryError> {
        if who.trim().is_empty() || who.len() > MAX_WHO || who.chars().any(char::is_control) {
            let value = who.chars().filter(|letter| !letter.is_control()).take(100).collect();
            let problem = format!("a name of 1 to {MAX_WHO} bytes without control characters is allowed");
            return Err(GalleryError::Field { what: "name of who asks", value, problem });
        }
        self.change.set_who(who);
        Ok(())
    }

    /// Stores a small picture of a template, in place of the one it had: the bytes of a JPEG, at most 256 KiB. It goes
    /// with the template.
    ///
    /// # Errors
    /// If it is something else, or there is no such template.
    pub fn picture(&mut self, id: TemplateId, jpeg: &[u8]) -> Result<(), GalleryError> {
        self.part(|own| own.change.set_picture(id, jpeg))?;
        self.changed = true;
        Ok(())
    }

    /// Removes a person by number, as [`Changes::remove`] does by name.
    ///
    /// # Errors
    /// [`GalleryError::NoPerson`].
    pub fn remove_person(&mut self, number: u32) -> Result<u64, GalleryError> {
        let who = self.part(|own| own.change.selection(number))?;
        self.remove(&who)
    }

    /// Gives all templates of one person to another; the first is nobody then. The templates get new ids, which are
    /// returned in their order, and keep what is said about them, their pictures and their matches. The log has one
    /// record of it.
    ///
    /// # Errors
    /// [`GalleryError::NoPerson`]; if both are the same, or a row is damaged.
    pub fn merge(&mut self, from: u32, into: u32) -> Result<Vec<TemplateId>, GalleryError> {
        self.part(|own| own.merged(from, into))
    }

    fn merged(&mut self, from: u32, into: u32) -> Result<Vec<TemplateId>, GalleryError> {
        let (who, name) = (self.change.selection(from)?, self.change.name_of(into)?);
        if from == into {
            let problem = "a person is merged into another one".to_owned();
            return Err(GalleryError::Field { what: "subject", value: from.to_string(), problem });
        }
        let old = self.change.templates_of(from)?;
        let ids: Vec<TemplateId> = old.iter().map(|template| template.id).collect();
        let mut values = Vec::new();
        // Rows of this change are there, too, and known to nobody else.
        for (extent, ids) in self.store.in_extents(&self.change.segments()?, &ids)? {
            let header = self.store.header(extent.segment);
            let segment = self.store.segment(header, extent.rows, None)?;
            for id in ids {
                let row = segment.find(*id).ok_or(GalleryError::NoTemplate { id: *id })?;
                values.extend(segment.checked_row(row).map_err(|bad| bad.error)?.1);
            }
        }
        let about = old.iter().map(|old| NewTemplate { subject: Some(name.clone()), ..old.about.clone() });
        let about: Vec<NewTemplate> = about.collect();
        let values = Rows::new(&values, about.len(), self.store.facts.model.dim).expect("a row for each template");
        let numbers = self.change.enrol(&about)?;
        self.append(&about, &numbers, values)?;
        let mut note = Note::of(Act::Merge, about.len() as u64);
        for (old, (new, _)) in ids.iter().zip(&numbers) {
            self.change.adopt(*old, new.id)?;
            note.templates.add(new.id.0);
        }
        self.change.correct(from, into)?;
        self.erased += self.change.remove(&who)?.len() as u64;
        [from, into].into_iter().for_each(|number| note.subjects.add(number.into()));
        let detail = format!("no. {from} into no. {into}");
        self.change.note(&Note { detail: &detail, ..note })?;
        self.changed = true;
        Ok(numbers.iter().map(|(numbers, _)| numbers.id).collect())
    }

    /// Notes that a search was answered, in the log and among the matches of late, and returns its number.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn matched(&mut self, found: &Found) -> Result<u64, GalleryError> {
        let number = self.part(|own| own.change.matched(found))?;
        self.changed = true;
        Ok(number)
    }

    /// Notes what somebody says about a match: that it is right, or that it is wrong, and who it is.
    ///
    /// # Errors
    /// [`GalleryError::NoMatch`], [`GalleryError::NoPerson`].
    pub fn review(&mut self, number: u64, verdict: Verdict, subject: Option<u32>) -> Result<(), GalleryError> {
        self.part(|own| own.change.review(number, verdict, subject))?;
        self.changed = true;
        Ok(())
    }

    /// Notes in the log that somebody was refused: what was asked for and what for want of, at most 256 bytes, and
    /// never whom it was about.
    ///
    /// # Errors
    /// If it is longer or has control characters.
    pub fn denied(&mut self, what: &str) -> Result<(), GalleryError> {
        self.part(|own| own.change.deny(what))?;
        self.changed = true;
        Ok(())
    }
}
