//! A gallery in a Milvus cluster, for more rows than one machine should hold.
//!
//! One collection with one row for each template: ids count from 1, so a snapshot is the ids up to the last one that
//! was committed. Two kinds of rows are no templates, have ids below 0 and are found by no search:
//! - the state (model, generation, last id), a new row for each change; the newest is true. To enrol is to write rows
//!   behind the last id and then a state that knows them, so others see all of them or none.
//! - locks. A program that changes the gallery writes one, and goes on only if it then sees no other. A cluster cannot
//!   know that a program ended, so the lock of one that was killed stays, and whoever is refused reads how to take it
//!   away; that also takes away what was not committed.
//!
//! The server ranks rows by float32 inner products, exactly: the collection has no approximate index. More rows than
//! asked for are fetched and scored with [`metrics::dot`], and more still until no row that was not fetched can belong
//! to the answer, so that hits, similarities and ties are those of every other engine.

mod address;
mod client;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use metrics::Rows;
use milvus::v2::types::{FieldData, QueryResults};
use serde::{Deserialize, Serialize};

pub use address::{Access, Address};

use crate::engine::{best_first, evenly};
use crate::template::check_rows;
use crate::{
    Ability, Ask, Columns, Engine, Filter, GalleryError, Hit, Info, Lack, Model, NewTemplate, Selection, Snapshot,
    Template, TemplateId,
};
use client::{ANSWER_BYTES, Answer, Client, Fresh};
use rows::{ABOUT, CAMERA, ID, SOURCE, SUBJECT, TAKEN, VALUES, column, condition, one_of, within};

/// Layout of the rows; another program's is refused.
const VERSION: u32 = 1;

/// Values of a row that Milvus stores.
const DIMS: std::ops::RangeInclusive<usize> = 2..=32_768;

/// Rows that Milvus returns for a probe.
const MAX_FETCHED: usize = 16_384;

/// Hits that can be asked for: some of the rows that are fetched only prove that the others are further away.
const MAX_HITS: usize = 10_000;

/// Rows that are fetched beyond those asked for.
const SPARE: usize = 8;

/// Ids in one answer, in one condition, and templates in one answer.
const PAGE: u64 = 16_384;
const IDS: usize = 8_192;
const TEMPLATES: usize = 500;

/// Bytes of one question. Servers take 64 MiB, and what they write to their log is cut into less.
const QUESTION_BYTES: usize = 8 << 20;

/// Bytes of a hit in an answer, and of a row around its values.
const HIT_BYTES: usize = 32;
const ROW_BYTES: usize = 64;

/// Ids of locks are below, those of states above.
const LOCKS: i64 = -(1 << 62);

/// How long a lock of another program is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a cluster cannot do.
const LACKS: [Lack; 3] = [
    Lack {
        ability: Ability::Erase,
        why: "a Milvus cluster keeps removed rows in its log and its files until it compacts them, and shows them to \
              nobody",
    },
    Lack {
        ability: Ability::RemoveWhole,
        why: "a Milvus cluster takes a large removal in parts, and one that is cut off has removed some; repeat it",
    },
    Lack { ability: Ability::AnyHits, why: "a Milvus cluster returns few rows to a probe; ask for at most 10000" },
];

/// A gallery in a Milvus cluster. Any number of programs may read it while one of them changes it.
pub struct Milvus {
    client: Arc<Client>,
    model: Model,
    /// One change at a time within this program, too.
    changing: Mutex<()>,
}

/// What is true of the gallery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    version: u32,
    model: Model,
    generation: u64,
    /// Templates have ids up to this one.
    last: u64,
}

/// Who is changing the gallery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// Process and machine.
    who: String,
    /// Seconds since 1970.
    since: u64,
}

impl std::fmt::Debug for Milvus {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Milvus").field("address", &self.client.address()).finish_non_exhaustive()
    }
}

impl Milvus {
    /// Makes an empty gallery for embeddings of `model`.
    ///
    /// # Errors
    /// If the cluster cannot be reached or has a collection of that name, and rows of a length that it does not store.
    pub fn create(address: &Address, access: &Access, model: &Model) -> Result<Self, GalleryError> {
        storable(model)?;
        let client = Client::connect(address, access)?;
        if client.exists()? {
            return Err(client.error("create", "there is a collection of that name already; give another"));
        }
        Self::made(client, model)
    }

    /// Opens a gallery. If the address has a lock to take away, that is done first.
    ///
    /// # Errors
    /// If the cluster cannot be reached or has no gallery there, and if there is no such lock.
    pub fn open(address: &Address, access: &Access) -> Result<Self, GalleryError> {
        let client = Client::connect(address, access)?;
        if !client.exists()? {
            let (path, problem) = (PathBuf::from(client.address()), "the cluster has no collection of that name");
            return Err(GalleryError::NoGallery { path, problem: problem.to_owned() });
        }
        Self::opened(client, address)
    }

    /// Opens a gallery of any model, or makes one for embeddings of `model` where there is none.
    ///
    /// # Errors
    /// As [`Milvus::open`] and [`Milvus::create`].
    pub fn open_or_create(address: &Address, access: &Access, model: &Model) -> Result<Self, GalleryError> {
        storable(model)?;
        let client = Client::connect(address, access)?;
        if client.exists()? { Self::opened(client, address) } else { Self::made(client, model) }
    }

    fn made(client: Client, model: &Model) -> Result<Self, GalleryError> {
        client.create(model.dim)?;
        let state = State { version: VERSION, model: model.clone(), generation: 0, last: 0 };
        client.insert(rows::mark(state.id(), json(&state), model.dim))?;
        Ok(Self { client: Arc::new(client), model: model.clone(), changing: Mutex::default() })
    }

    fn opened(client: Client, address: &Address) -> Result<Self, GalleryError> {
        client.load()?;
        let (state, locks) = marks(&client)?;
        let milvus = Self { client: Arc::new(client), model: state.model.clone(), changing: Mutex::default() };
        if let Some(lock) = address.unlock {
            if !locks.iter().any(|(id, _)| lock_number(*id) == lock) {
                let problem = format!("it has no lock {lock:x}; give the address without `?unlock`");
                return Err(milvus.client.error("unlock", problem));
            }
            milvus.take_back(&state)?;
            milvus.client.delete(&one_of(&[lock_id(lock)]))?;
        }
        Ok(milvus)
    }

    /// Whose embeddings the gallery holds.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Deletes the gallery with all that is in it.
    ///
    /// # Errors
    /// If the cluster refuses.
    pub fn destroy(self) -> Result<(), GalleryError> {
        self.client.destroy()
    }

    /// Runs `work` while no other program changes the gallery, and makes the state true that it returns.
    fn change<T>(&self, work: impl FnOnce(&State) -> Result<(State, T), GalleryError>) -> Result<T, GalleryError> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (lock, state) = self.lock()?;
        let done = self.same(&state).and_then(|()| {
            // Of a call that failed and was done all the same, after what it wrote was taken back.
            if self.client.count(&format!("{ID} > {}", state.last))? > 0 {
                self.take_back(&state)?;
            }
            let (next, done) = work(&state)?;
            self.commit(lock, &state, State { generation: state.generation + 1, ..next })?;
            Ok(done)
        });
        match done {
            Ok(done) => self.client.delete(&one_of(&[state.id(), lock])).map(|()| done),
            Err(error) => {
                // If this fails as well the lock stays: it is the sign that there is something to take back.
                self.take_back(&state).and_then(|()| self.client.delete(&one_of(&[lock])))?;
                Err(error)
            }
        }
    }

    /// Makes `next` true.
    fn commit(&self, lock: i64, state: &State, next: State) -> Result<(), GalleryError> {
        let (now, locks) = marks(&self.client)?;
        if now != *state || !locks.iter().any(|(id, _)| *id == lock) {
            let problem = "somebody took this program's lock away, or made the gallery anew; nothing is changed";
            return Err(self.client.error("change", problem));
        }
        let written = self.client.insert(rows::mark(next.id(), json(&next), next.model.dim));
        // A call that failed may have been done all the same.
        written.or_else(|error| if marks(&self.client)?.0 == next { Ok(()) } else { Err(error) })
    }

    /// Removes rows that no state knows.
    fn take_back(&self, state: &State) -> Result<(), GalleryError> {
        self.client.delete(&format!("{ID} > {}", state.last))
    }

    /// Writes a lock and then reads whether it is the only one: of two programs that do so at once, the one that reads
    /// last sees both.
    fn lock(&self) -> Result<(i64, State), GalleryError> {
        let begun = Instant::now();
        loop {
            let dice = RandomState::new().hash_one(std::process::id());
            let id = lock_id(dice);
            let machine = std::fs::read_to_string("/proc/sys/kernel/hostname");
            let machine = machine.map_or_else(|_| "a machine".to_owned(), |name| name.trim().to_owned());
            let who = format!("process {} on {machine}", std::process::id());
            let holder = Holder { who, since: seconds() };
            self.client.insert(rows::mark(id, json(&holder), self.model.dim))?;
            let read = marks(&self.client).map(|(state, mut locks)| {
                locks.retain(|(other, _)| *other != id);
                (state, locks)
            });
            if let Ok((state, locks)) = &read
                && locks.is_empty()
            {
                return Ok((id, state.clone()));
            }
            self.client.delete(&one_of(&[id]))?;
            let (_, locks) = read?;
            let (other, holder) = &locks[0];
            if begun.elapsed() > PATIENCE {
                return Err(GalleryError::Held {
                    engine: self.client.address().to_owned(),
                    holder: holder.who.clone(),
                    seconds: seconds().saturating_sub(holder.since),
                    lock: lock_number(*other),
                });
            }
            std::thread::sleep(Duration::from_millis(50 + dice % 200));
        }
    }

    /// Fails if there is another gallery where the one was that was opened.
    fn same(&self, state: &State) -> Result<(), GalleryError> {
        if state.model == self.model {
            return Ok(());
        }
        Err(self.client.error("go on with", "it was made anew, of another model, since it was opened; open it again"))
    }

    fn moment(&self) -> Result<Moment, GalleryError> {
        let state = marks(&self.client)?.0;
        self.same(&state)?;
        Ok(Moment::new(&self.client, state))
    }
}

impl Engine for Milvus {
    fn enrol(&self, templates: &[NewTemplate], values: Rows<'_>) -> Result<Vec<TemplateId>, GalleryError> {
        let dim = self.model.dim;
        check_rows(values, dim)?;
        assert_eq!(templates.len(), values.rows(), "one template for each row");
        let templates: Vec<NewTemplate> = templates.iter().map(NewTemplate::tidied).collect();
        for template in &templates {
            template.check()?;
            let (count, bytes) = (template.tags.len(), rows::words(&template.tags).len());
            if count > rows::MAX_TEMPLATE_TAGS || bytes > rows::MAX_TEXT as usize {
                let problem = format!(
                    "a template has at most {} tags, of {} bytes when every byte but letters and digits counts as \
                     three",
                    rows::MAX_TEMPLATE_TAGS,
                    rows::MAX_TEXT
                );
                return Err(GalleryError::Field { what: "number of tags", value: count.to_string(), problem });
            }
        }
        if templates.is_empty() {
            return Ok(Vec::new());
        }
        self.change(|state| {
            let largest = templates.iter().map(size_of_about).max().unwrap_or_default();
            let each = (QUESTION_BYTES / (dim * size_of::<f32>() + ROW_BYTES + largest)).max(1);
            let first = state.last + 1;
            for (part, own) in templates.chunks(each).enumerate() {
                let from = part * each;
                self.client.insert(rows::columns((first as usize + from) as i64, own, values, from))?;
            }
            let last = state.last + templates.len() as u64;
            Ok((State { last, ..state.clone() }, (first..=last).map(TemplateId).collect()))
        })
    }

    fn remove(&self, what: &Selection) -> Result<u64, GalleryError> {
        if matches!(what, Selection::Templates(ids) if ids.is_empty()) {
            return Ok(0);
        }
        self.change(|state| {
            let moment = Moment::new(&self.client, state.clone());
            let ids: Vec<TemplateId> = match what {
                Selection::Templates(ids) => {
                    moment.about(ids, &[ID])?;
                    ids.iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
                }
                Selection::Subject(name) => {
                    let filter = Filter { subjects: Some(vec![name.clone()]), ..Filter::default() };
                    let ids = moment.select(&filter)?;
                    if ids.is_empty() {
                        return Err(GalleryError::NoSubject { name: name.clone() });
                    }
                    ids
                }
            };
            for ids in ids.chunks(IDS) {
                let ids: Vec<i64> = ids.iter().map(|id| id.0 as i64).collect();
                self.client.delete(&one_of(&ids))?;
            }
            Ok((state.clone(), ids.len() as u64))
        })
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, GalleryError> {
        Ok(Box::new(self.moment()?))
    }

    /// Reads every subject's name.
    fn info(&self) -> Result<Info, GalleryError> {
        let moment = self.moment()?;
        let subjects = moment.subjects()?;
        let templates = moment.count(&Filter::default())?;
        let State { model, generation, .. } = moment.state;
        Ok(Info { model, templates, subjects, removed: 0, bytes: 0, generation })
    }

    fn lacks(&self) -> &'static [Lack] {
        &LACKS
    }
}

/// The gallery up to the last id of a state.
struct Moment {
    client: Arc<Client>,
    state: State,
    /// Subjects by their stored names, numbered from 1 in order; read when somebody asks.
    subjects: OnceLock<BTreeMap<String, u32>>,
}

impl Moment {
    fn new(client: &Arc<Client>, state: State) -> Self {
        Self { client: Arc::clone(client), state, subjects: OnceLock::new() }
    }

    /// Every subject's stored name and number.
    fn names(&self) -> Result<&BTreeMap<String, u32>, GalleryError> {
        if let Some(names) = self.subjects.get() {
            return Ok(names);
        }
        let mut names = BTreeMap::new();
        self.pages("", &[ID, SUBJECT], &mut |page| {
            let page = column(page, SUBJECT, FieldData::as_varchar)?;
            names.extend(page.iter().filter(|name| !name.is_empty()).map(|name| (name.clone(), 0)));
            Ok(())
        })?;
        (1..).zip(names.values_mut()).for_each(|(number, name)| *name = number);
        Ok(self.subjects.get_or_init(|| names))
    }

    /// Calls `take` with the rows that pass, in order of their ids from page to page but not within one.
    fn pages(
        &self,
        condition: &str,
        fields: &[&str],
        take: &mut dyn FnMut(&QueryResults) -> Result<(), String>,
    ) -> Result<(), GalleryError> {
        let mut ranges = vec![(0, self.state.last)];
        while let Some((after, upto)) = ranges.pop() {
            let passing = within(after, upto, condition);
            let few = upto - after <= PAGE || self.client.count(&passing)? <= PAGE;
            match if few { self.client.query(&passing, fields, Fresh::Now)? } else { Answer::TooLarge } {
                Answer::Rows(page) => take(&page).map_err(|problem| self.client.error("read", problem))?,
                Answer::TooLarge if upto - after > 1 => {
                    let middle = after + (upto - after) / 2;
                    ranges.extend([(middle, upto), (after, middle)]);
                }
                Answer::TooLarge => return Err(self.too_large(upto)),
            }
        }
        Ok(())
    }

    /// Rows of these ids, which may repeat, in no order.
    fn about(&self, ids: &[TemplateId], fields: &[&str]) -> Result<Vec<QueryResults>, GalleryError> {
        let wanted: BTreeSet<TemplateId> = ids.iter().copied().collect();
        let beyond = |id: &&TemplateId| id.0 == 0 || id.0 > self.state.last;
        if let Some(&id) = wanted.iter().find(beyond) {
            return Err(GalleryError::NoTemplate { id });
        }
        let wanted: Vec<i64> = wanted.iter().map(|id| id.0 as i64).collect();
        let each = if fields == [ID] { IDS } else { TEMPLATES };
        let mut pages = Vec::new();
        let mut parts: Vec<&[i64]> = wanted.chunks(each).rev().collect();
        while let Some(part) = parts.pop() {
            match self.client.query(&one_of(part), fields, Fresh::Now)? {
                Answer::Rows(page) => pages.push(page),
                Answer::TooLarge if part.len() > 1 => {
                    let (low, high) = part.split_at(part.len() / 2);
                    parts.extend([high, low]);
                }
                Answer::TooLarge => return Err(self.too_large(part[0].unsigned_abs())),
            }
        }
        let mut found: BTreeSet<i64> = BTreeSet::new();
        for page in &pages {
            found.extend(column(page, ID, FieldData::as_int64).map_err(|problem| self.client.error("read", problem))?);
        }
        match wanted.iter().find(|id| !found.contains(id)) {
            None => Ok(pages),
            Some(id) => Err(GalleryError::NoTemplate { id: TemplateId(id.unsigned_abs()) }),
        }
    }

    fn too_large(&self, id: u64) -> GalleryError {
        self.client.error("read", format!("template {id} is more than the client takes"))
    }

    /// Values by id; those that are gone are left out. `ids` are distinct.
    fn values(&self, ids: &[i64], fresh: Fresh) -> Result<BTreeMap<i64, Vec<f32>>, GalleryError> {
        let dim = self.state.model.dim;
        let each = (ANSWER_BYTES / (dim * size_of::<f32>() + ROW_BYTES)).clamp(1, IDS);
        let mut values = BTreeMap::new();
        for part in ids.chunks(each) {
            let Answer::Rows(page) = self.client.query(&one_of(part), &[ID, VALUES], fresh)? else {
                return Err(self.too_large(part[0].unsigned_abs()));
            };
            let wrong = |problem: String| self.client.error("read", problem);
            let found = column(&page, ID, FieldData::as_int64).map_err(wrong)?;
            let rows = column(&page, VALUES, FieldData::as_float_vectors).map_err(wrong)?;
            for (id, row) in found.iter().zip(rows) {
                if row.len() != dim {
                    let problem = format!("template {id} has {} values in place of {dim}", row.len());
                    return Err(self.client.error("read", problem));
                }
                values.insert(*id, row.clone());
            }
        }
        // Rows never change, so any server that has one has the right one; one that is behind may not have it yet.
        if fresh == Fresh::Any {
            let missing: Vec<i64> = ids.iter().filter(|id| !values.contains_key(id)).copied().collect();
            values.extend(self.values(&missing, Fresh::Now)?);
        }
        Ok(values)
    }
}

impl Snapshot for Moment {
    fn search(&self, probes: Rows<'_>, ask: &Ask) -> Result<Vec<Vec<Hit>>, GalleryError> {
        let dim = self.state.model.dim;
        check_rows(probes, dim)?;
        let mut hits = vec![Vec::new(); probes.rows()];
        if ask.k > MAX_HITS {
            return Err(LACKS[2].error());
        }
        let Some(condition) = condition(&ask.filter).filter(|_| ask.k > 0 && self.state.last > 0) else {
            return Ok(hits);
        };
        let condition = within(0, self.state.last, &condition);
        // How far the server's sum of products and ours may be from the true one, together.
        let tolerance = dim as f32 * f32::EPSILON;
        let mut open: Vec<usize> = (0..probes.rows()).collect();
        let mut limit = (ask.k + SPARE).min(MAX_FETCHED);
        loop {
            let each = (ANSWER_BYTES / (limit * HIT_BYTES)).min(QUESTION_BYTES / (dim * size_of::<f32>())).max(1);
            let mut unsure = Vec::new();
            for part in open.chunks(each) {
                let rows = part.iter().map(|probe| probes.row(*probe).to_vec()).collect();
                let found = self.client.search(&condition, rows, limit)?;
                let ids: BTreeSet<i64> = found.iter().flatten().map(|(id, _)| *id).collect();
                let values = self.values(&ids.into_iter().collect::<Vec<_>>(), Fresh::Any)?;
                for (&probe, found) in part.iter().zip(found) {
                    let hit = |(id, _): &(i64, f32)| {
                        let similarity = metrics::dot(probes.row(probe), values.get(id)?);
                        Some(Hit { id: TemplateId(id.unsigned_abs()), similarity })
                    };
                    let mut own: Vec<Hit> = found.iter().filter_map(hit).collect();
                    own.sort_by(best_first);
                    own.truncate(ask.k);
                    // Nothing that was not fetched is more similar than this.
                    let unseen = found.iter().map(|(_, score)| score + tolerance).reduce(f32::min);
                    let whole = found.len() < limit
                        || unseen.is_none_or(|unseen| {
                            own.get(ask.k - 1).is_some_and(|least| least.similarity > unseen)
                                || ask.min_similarity.is_some_and(|least| least > unseen)
                        });
                    own.retain(|hit| ask.min_similarity.is_none_or(|least| hit.similarity >= least));
                    hits[probe] = own;
                    if !whole {
                        unsure.push(probe);
                    }
                }
            }
            if unsure.is_empty() {
                return Ok(hits);
            }
            if limit == MAX_FETCHED {
                let problem =
                    format!("{MAX_FETCHED} templates are too equally near to probe {} to rank them", unsure[0]);
                return Err(self.client.error("search", problem));
            }
            open = unsure;
            limit = (limit * 4).min(MAX_FETCHED);
        }
    }

    fn count(&self, filter: &Filter) -> Result<u64, GalleryError> {
        match condition(filter).filter(|_| self.state.last > 0) {
            Some(condition) => self.client.count(&within(0, self.state.last, &condition)),
            None => Ok(0),
        }
    }

    fn select(&self, filter: &Filter) -> Result<Vec<TemplateId>, GalleryError> {
        let mut ids = Vec::new();
        if let Some(condition) = condition(filter) {
            self.pages(&condition, &[ID], &mut |page| {
                let page = column(page, ID, FieldData::as_int64)?;
                ids.extend(page.iter().map(|id| TemplateId(id.unsigned_abs())));
                Ok(())
            })?;
        }
        ids.sort();
        Ok(ids)
    }

    /// Of a large gallery by asking for ids here and there: most of them are templates.
    fn sample(&self, filter: &Filter, count: usize) -> Result<Vec<TemplateId>, GalleryError> {
        let (last, wanted) = (self.state.last, 4 * count as u64);
        if *filter == Filter::default() && last > PAGE && wanted <= IDS as u64 {
            let ids: Vec<i64> = (0..wanted).map(|at| 1 + (at * last / wanted) as i64).collect();
            if let Answer::Rows(page) = self.client.query(&one_of(&ids), &[ID], Fresh::Now)? {
                let found =
                    column(&page, ID, FieldData::as_int64).map_err(|problem| self.client.error("read", problem))?;
                let mut found: Vec<TemplateId> = found.iter().map(|id| TemplateId(id.unsigned_abs())).collect();
                found.sort();
                if found.len() >= count {
                    return Ok(evenly(found.len(), count).map(|at| found[at]).collect());
                }
            }
        }
        let all = self.select(filter)?;
        Ok(evenly(all.len(), count).map(|at| all[at]).collect())
    }

    fn subjects(&self) -> Result<u64, GalleryError> {
        Ok(self.names()?.len() as u64)
    }

    fn numbers(&self, names: &[String]) -> Result<Vec<Option<u32>>, GalleryError> {
        let all = self.names()?;
        Ok(names.iter().map(|name| all.get(&rows::encoded(name)).copied()).collect())
    }

    fn columns(&self, filter: &Filter, each: &mut dyn FnMut(Columns)) -> Result<(), GalleryError> {
        let Some(condition) = condition(filter) else { return Ok(()) };
        let names = self.names()?;
        self.pages(&condition, &[ID, SUBJECT, CAMERA, TAKEN], &mut |page| {
            let mut rows = rows::numbers(page, names)?;
            rows.sort_by_key(|row| row.id);
            rows.into_iter().for_each(&mut *each);
            Ok(())
        })
    }

    fn templates(&self, ids: &[TemplateId]) -> Result<Vec<Template>, GalleryError> {
        let mut templates = BTreeMap::new();
        for page in self.about(ids, &ABOUT)? {
            let page = rows::templates(&page).map_err(|problem| self.client.error("read", problem))?;
            templates.extend(page.into_iter().map(|template| (template.id, template)));
        }
        ids.iter().map(|id| templates.get(id).cloned().ok_or(GalleryError::NoTemplate { id: *id })).collect()
    }

    fn vectors(&self, ids: &[TemplateId]) -> Result<Option<Vec<f32>>, GalleryError> {
        let wanted: BTreeSet<u64> = ids.iter().map(|id| id.0).collect();
        if let Some(&id) = wanted.iter().find(|id| **id == 0 || **id > self.state.last) {
            return Err(GalleryError::NoTemplate { id: TemplateId(id) });
        }
        let wanted: Vec<i64> = wanted.into_iter().map(|id| id as i64).collect();
        let rows = self.values(&wanted, Fresh::Now)?;
        let mut values = Vec::with_capacity(ids.len() * self.state.model.dim);
        for id in ids {
            values.extend_from_slice(rows.get(&(id.0 as i64)).ok_or(GalleryError::NoTemplate { id: *id })?);
        }
        Ok(Some(values))
    }
}

impl State {
    /// Id of its row.
    fn id(&self) -> i64 {
        -1 - self.generation as i64
    }
}

/// The state and the locks.
fn marks(client: &Client) -> Result<(State, Vec<(i64, Holder)>), GalleryError> {
    let Answer::Rows(answer) = client.query(&format!("{ID} < 0"), &[ID, SOURCE], Fresh::Now)? else {
        return Err(client.error("read", "it has too many rows that are no templates"));
    };
    let wrong = |problem: String| client.error("read", problem);
    let ids = column(&answer, ID, FieldData::as_int64).map_err(wrong)?;
    let texts = column(&answer, SOURCE, FieldData::as_varchar).map_err(wrong)?;
    let mut state: Option<State> = None;
    let mut locks = Vec::new();
    for (&id, text) in ids.iter().zip(texts) {
        if id < LOCKS {
            // A lock that cannot be read is one all the same.
            let unknown = |_| Holder { who: "an unknown program".to_owned(), since: 0 };
            locks.push((id, serde_json::from_str(text).unwrap_or_else(unknown)));
            continue;
        }
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let found: Version = serde_json::from_str(text).map_err(|error| wrong(format!("row {id}: {error}")))?;
        if found.version != VERSION {
            let path = PathBuf::from(client.address());
            return Err(GalleryError::Version { path, found: found.version, known: VERSION });
        }
        let one: State = serde_json::from_str(text).map_err(|error| wrong(format!("row {id}: {error}")))?;
        if state.as_ref().is_none_or(|state| state.generation < one.generation) {
            state = Some(one);
        }
    }
    let state = state.ok_or_else(|| GalleryError::NoGallery {
        path: PathBuf::from(client.address()),
        problem: "the collection has no row that says of which model it is; give another name".to_owned(),
    })?;
    locks.sort_by_key(|(id, _)| *id);
    Ok((state, locks))
}

fn storable(model: &Model) -> Result<(), GalleryError> {
    if DIMS.contains(&model.dim) {
        return Ok(());
    }
    let problem = format!("a Milvus cluster stores rows of {} to {} values", DIMS.start(), DIMS.end());
    Err(GalleryError::Field { what: "dim", value: model.dim.to_string(), problem })
}

/// The number of a lock, below 2^61, and the id of its row.
fn lock_number(id: i64) -> u64 {
    (LOCKS - 1).abs_diff(id)
}

fn lock_id(number: u64) -> i64 {
    LOCKS - 1 - (number & ((1 << 61) - 1)) as i64
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn size_of_about(template: &NewTemplate) -> usize {
    let name = |name: &String| 3 * name.len();
    template.subject.as_ref().map_or(0, name)
        + 2 * template.tags.iter().map(name).sum::<usize>()
        + template.source.len()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers and texts are JSON")
}
