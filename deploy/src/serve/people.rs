//! The gallery of a service: who is in it, and the one thread that changes it.
//!
//! What waits while a change is written is written together, in one transaction: each is answered after the commit, and
//! the disk is waited for once.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use gallery::{Changes, Engine, Found, GalleryError, Model, NewTemplate, Person, PersonTemplate, Rows};
use gallery::{Selection, Store, TemplateId, Verdict};
use tokio::sync::{mpsc, oneshot};

use super::error::Problem;
use super::metrics::Metrics;
use crate::DeployError;
use crate::gallery::{self as galleries, About, Gallery, Making};
use crate::identify::Size;

/// Changes that are written together at most.
const TOGETHER: usize = 256;

/// A removal waits so long for those who read the gallery as it was before: until then SQLite's log keeps the name.
const READERS: Duration = Duration::from_secs(5);

/// How often they are looked for.
const LOOK: Duration = Duration::from_millis(5);

/// The same for readers who stay longer.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is to be done.
pub(crate) enum Act {
    /// Enrol templates, one for each row of `values`, each with its small picture.
    Enrol { templates: Vec<NewTemplate>, values: Vec<f32>, pictures: Vec<Option<Vec<u8>>> },
    /// Note what a search found.
    Match(Found),
    /// Note that somebody was refused.
    Deny(String),
    /// Remove a person by number.
    Remove(u32),
    /// Remove a template.
    RemoveTemplate(TemplateId),
    /// Give all templates of one person to another.
    Merge { from: u32, into: u32 },
    /// Note what somebody says about a match.
    Review { number: u64, verdict: Verdict, subject: Option<u32> },
    /// Note the similarity from which on somebody is found.
    Threshold(f32),
}

impl Act {
    /// Whether others may be in its transaction. What removes waits for the disk a second time.
    fn joins(&self) -> bool {
        matches!(self, Self::Enrol { .. } | Self::Match(_) | Self::Deny(_))
    }

    /// Whether it takes names, templates or pictures out.
    fn removes(&self) -> bool {
        matches!(self, Self::Remove(_) | Self::RemoveTemplate(_) | Self::Merge { .. })
    }

    /// Whether it changes who is enrolled.
    fn enrols(&self) -> bool {
        matches!(self, Self::Enrol { .. }) || self.removes()
    }
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Templates that are new.
    pub(crate) templates: Vec<TemplateId>,
    /// Number of a match, or of templates that were removed.
    pub(crate) number: u64,
}

/// A change, who asks for it, and who waits for it.
struct Change {
    act: Act,
    who: Option<String>,
    reply: oneshot::Sender<Result<Done, Problem>>,
}

/// A gallery that is open to be changed.
pub(crate) struct People {
    store: Arc<Store>,
    changes: Mutex<Option<mpsc::Sender<Change>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    most: usize,
    /// Changes of who is enrolled.
    enrolled: Arc<AtomicU64>,
    /// Their number, and how many people there were then.
    size: Mutex<Option<(u64, Size)>>,
}

impl People {
    /// Opens the gallery of a folder, or makes it, for embeddings of the model.
    ///
    /// # Errors
    /// As [`galleries::write_or_create`].
    pub(crate) fn open(
        folder: &Path,
        model: &Model,
        model_path: &Path,
        how: Making,
        most: usize,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, DeployError> {
        let store = Arc::new(galleries::write_or_create(folder, model, model_path, how)?);
        if store.about()?.is_empty() {
            store.change(|changes| changes.describe(&About::here(0).text()))?;
        }
        count(&store, metrics);
        let (changes, waiting) = mpsc::channel(most);
        let enrolled = Arc::new(AtomicU64::new(0));
        let (own, metrics, changed) = (Arc::clone(&store), Arc::clone(metrics), Arc::clone(&enrolled));
        let thread = std::thread::Builder::new().name("gallery".into());
        let thread = thread.spawn(move || write(&own, waiting, &metrics, &changed));
        let thread = thread.map_err(|source| DeployError::Read { path: folder.to_owned(), source })?;
        let (changes, writer) = (Mutex::new(Some(changes)), Mutex::new(Some(thread)));
        Ok(Self { store, changes, writer, most, enrolled, size: Mutex::default() })
    }

    pub(crate) fn model(&self) -> &Model {
        self.store.model()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// The gallery as it is now.
    pub(crate) fn now(&self) -> Result<Gallery, DeployError> {
        let about = About::of(&self.store.about()?);
        Ok(Gallery::at(self.store.snapshot()?, self.store.model().clone(), about))
    }

    /// How many people and templates are searched, counted once after each change of who is enrolled.
    pub(crate) fn size(&self) -> Result<Size, DeployError> {
        // Before the gallery is looked at: what is counted is never older than that.
        let changes = self.enrolled.load(Ordering::SeqCst);
        let mut known = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, size)) = known.filter(|(at, _)| *at == changes) {
            return Ok(size);
        }
        let size = self.now()?.size()?;
        *known = Some((changes, size));
        Ok(size)
    }

    /// A person and all templates.
    pub(crate) fn person(&self, number: u32) -> Result<(Person, Vec<PersonTemplate>), Problem> {
        self.store.person(number)?.ok_or_else(|| GalleryError::NoPerson { number }.into())
    }

    fn send(&self, act: Act, who: Option<String>) -> Result<oneshot::Receiver<Result<Done, Problem>>, Problem> {
        let (reply, answer) = oneshot::channel();
        let sender = self.changes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sender = sender.ok_or_else(|| Problem::busy("gallery", "the service is stopping"))?;
        sender.try_send(Change { act, who, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Problem::busy("gallery", "too many changes wait")
                .allowed(format!("{} changes", self.most))
                .flag("--max-queue"),
            mpsc::error::TrySendError::Closed(_) => Problem::internal("the thread that changes the gallery has ended"),
        })?;
        Ok(answer)
    }

    /// Does it on behalf of who asks; it is durable when this returns.
    pub(crate) async fn change(&self, act: Act, who: Option<String>) -> Result<Done, Problem> {
        let answer = self.send(act, who)?.await;
        answer.unwrap_or_else(|_| Err(Problem::internal("the thread that changes the gallery gave no answer")))
    }

    /// Notes a refusal, which nobody waits for.
    pub(crate) fn deny(&self, what: String, who: String) -> Result<(), Problem> {
        self.send(Act::Deny(what), Some(who)).map(drop)
    }

    /// Does what waits and then no more.
    pub(crate) fn finish(&self) {
        drop(self.changes.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(writer) = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic there was told when it happened.
            drop(writer.join());
        }
    }
}

/// Counts what is enrolled.
fn count(store: &Store, metrics: &Metrics) {
    if let Ok(info) = store.info() {
        metrics.templates.set(i64::try_from(info.templates).unwrap_or(i64::MAX));
        metrics.subjects.set(i64::try_from(info.subjects).unwrap_or(i64::MAX));
    }
}

/// The thread that changes the gallery.
fn write(store: &Store, mut waiting: mpsc::Receiver<Change>, metrics: &Metrics, enrolled: &AtomicU64) {
    let (mut ahead, mut untidy) = (None, false);
    while let Some(first) = ahead.take().or_else(|| next(store, &mut waiting, &mut untidy)) {
        let mut group = vec![first];
        while group.len() < TOGETHER && group[0].act.joins() {
            let Ok(next) = waiting.try_recv() else { break };
            // The log has one name for a change.
            if !next.act.joins() || next.who != group[0].who {
                ahead = Some(next);
                break;
            }
            group.push(next);
        }
        // What was not begun when its client left is not done; nobody waits for a refusal.
        let before = group.len();
        group.retain(|change| matches!(change.act, Act::Deny(_)) || !change.reply.is_closed());
        metrics.dropped.inc_by((before - group.len()) as u64);
        if !group.is_empty() {
            metrics.commit.observe(group.len() as f64);
            let counts = group.iter().any(|change| change.act.enrols());
            untidy |= group.iter().any(|change| change.act.removes());
            apply(store, group, enrolled);
            if counts {
                count(store, metrics);
            }
        }
    }
}

/// The next change. While there is none, what a removal left in SQLite's log is taken out of it as soon as nobody reads
/// the gallery as it was before.
fn next(store: &Store, waiting: &mut mpsc::Receiver<Change>, untidy: &mut bool) -> Option<Change> {
    while *untidy {
        match waiting.try_recv() {
            Ok(change) => return Some(change),
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        *untidy = !tidied(store);
        if *untidy {
            std::thread::sleep(LOOK_AGAIN);
        }
    }
    waiting.blocking_recv()
}

/// Whether nothing of who was removed is left in SQLite's log.
fn tidied(store: &Store) -> bool {
    store.tidy().unwrap_or_else(|error| {
        let cause = terminal::sentence(&error);
        tracing::error!(cause, "SQLite's log cannot be emptied");
        // Repeating it would not help.
        true
    })
}

/// Waits for those who read the gallery as it was before a removal: searches of this service are done in a moment.
/// Those who take longer, other programs perhaps, are not waited for.
fn settle(store: &Store) {
    let since = Instant::now();
    while !tidied(store) && since.elapsed() < READERS {
        std::thread::sleep(LOOK);
    }
}

/// Does all in one transaction; if one of them cannot be done, each in its own.
fn apply(store: &Store, mut group: Vec<Change>, enrolled: &AtomicU64) {
    let each = |changes: &mut Changes<'_>| group.iter().map(|change| one(changes, store, change)).collect();
    let all: Result<Vec<Done>, DeployError> = store.change(each);
    if group.iter().any(|change| change.act.enrols()) {
        enrolled.fetch_add(1, Ordering::SeqCst);
    }
    match all {
        Ok(done) => {
            if group.iter().any(|change| change.act.removes()) {
                settle(store);
            }
            for (change, done) in group.into_iter().zip(done) {
                drop(change.reply.send(Ok(done)));
            }
        }
        Err(error) if group.len() == 1 => {
            if let Some(change) = group.pop() {
                drop(change.reply.send(Err(error.into())));
            }
        }
        Err(_) => group.into_iter().for_each(|change| apply(store, vec![change], enrolled)),
    }
}

fn one(changes: &mut Changes<'_>, store: &Store, change: &Change) -> Result<Done, DeployError> {
    changes.by("serve");
    if let Some(who) = &change.who {
        changes.on_behalf_of(who)?;
    }
    let done = match &change.act {
        Act::Enrol { templates, values, pictures } => {
            let ids = changes.enrol(templates, Rows::new(values, templates.len(), store.model().dim)?)?;
            for (id, picture) in ids.iter().zip(pictures) {
                picture.iter().try_for_each(|picture| changes.picture(*id, picture))?;
            }
            Done { templates: ids, number: 0 }
        }
        Act::Match(found) => Done { number: changes.matched(found)?, ..Done::default() },
        Act::Deny(what) => {
            changes.denied(what)?;
            Done::default()
        }
        Act::Remove(number) => Done { number: changes.remove_person(*number)?, ..Done::default() },
        Act::RemoveTemplate(id) => {
            Done { number: changes.remove(&Selection::Templates(vec![*id]))?, ..Done::default() }
        }
        Act::Merge { from, into } => Done { templates: changes.merge(*from, *into)?, number: 0 },
        Act::Review { number, verdict, subject } => {
            changes.review(*number, *verdict, *subject)?;
            Done { number: *number, ..Done::default() }
        }
        Act::Threshold(similarity) => {
            let about = About::of(&store.about()?);
            changes.describe(&About { threshold: Some(*similarity), ..about }.text())?;
            Done::default()
        }
    };
    Ok(done)
}
