//! What is enrolled, in SQLite. Nothing else knows SQL.

mod log;
mod people;
mod sealed;
mod staged;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Row, TransactionBehavior, params};

use crate::id::{GalleryId, KeyId};
use crate::template::MAX_TAGS;
use crate::vault::Vault;
use crate::{GalleryError, Model, NewTemplate, Selection, Template, TemplateId};
pub(crate) use log::{Act, Note};
pub use log::{LogEntry, Ranges};
pub(crate) use people::Ask as PeopleAsk;
pub use people::{Found, Match, Person, PersonTemplate, Verdict};
pub(crate) use staged::Next;

/// The catalogue's file in the folder of a gallery.
pub(crate) const FILE: &str = "gallery.db";

/// Version of the catalogue that is written; that of the segments is their own.
const VERSION: u32 = 3;

/// The first version. It is read, and becomes the present one when it is opened for writing.
const OLDEST: u32 = 1;

/// The first version with a log and staged segments.
const LOGGED: u32 = 2;

/// Tells our files from other SQLite files: "VTRN".
const APPLICATION: i32 = 0x5654_524E;

/// A reader meets a lock only while another process recovers the log or removes it.
const PATIENCE: Duration = Duration::from_secs(30);

/// An open catalogue.
#[derive(Debug)]
pub(crate) struct Catalogue {
    connection: Connection,
    path: PathBuf,
    /// A commit failed: its pages may be in the log all the same.
    unsure: Cell<bool>,
    /// Who makes changes, unless a change says otherwise.
    who: String,
    /// The keys of an encrypted gallery, once they are known.
    vault: Option<Arc<Vault>>,
}

/// What only changes when the gallery is made anew.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    pub(crate) gallery: GalleryId,
    pub(crate) model: Model,
    /// Rows after which another segment is begun.
    pub(crate) segment_rows: usize,
    /// It is encrypted.
    pub(crate) sealed: bool,
    /// Its templates are renewable: what they are turned by.
    pub(crate) turn: Option<KeyId>,
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct State {
    pub(crate) generation: u64,
    pub(crate) next_template: u64,
    pub(crate) next_segment: u64,
}

/// A segment and its rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) segment: u64,
    /// No id in it is below.
    pub(crate) first: TemplateId,
    pub(crate) rows: usize,
}

/// Which segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Those that are searched.
    Live,
    /// Those of the model that the gallery migrates to.
    Staged,
}

impl Place {
    fn table(self) -> &'static str {
        match self {
            Self::Live => "segments",
            Self::Staged => "staged",
        }
    }
}

/// A template's fields as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) id: TemplateId,
    pub(crate) subject: Option<u32>,
    pub(crate) camera: Option<u32>,
    pub(crate) taken: Option<i64>,
    pub(crate) tags: u64,
}

impl Numbers {
    /// From the columns id, subject, camera, taken, tags.
    fn of(row: &Row<'_>) -> Sql<Self> {
        let tags = row.get::<_, i64>(4)? as u64;
        Ok(Self { id: id_of(row, 0)?, subject: row.get(1)?, camera: row.get(2)?, taken: row.get(3)?, tags })
    }
}

type Sql<T> = Result<T, rusqlite::Error>;

impl Catalogue {
    /// Makes an empty catalogue in an existing folder, whose lock the caller holds. With keys it is of an encrypted
    /// gallery.
    pub(crate) fn create(
        folder: &Path,
        model: &Model,
        segment_rows: usize,
        (gallery, vault, turn): (GalleryId, Option<Arc<Vault>>, Option<KeyId>),
    ) -> Result<Self, GalleryError> {
        let path = folder.join(FILE);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        // SQLite gives its log the mode of the database.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).map_err(GalleryError::io("create", &path))?;
        let mut new = Self::connect(folder, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        new.run("create", |connection| {
            connection.pragma_update(None, "journal_mode", "WAL")?;
            let change = connection.transaction_with_behavior(TransactionBehavior::Exclusive)?;
            change.execute_batch(include_str!("schema.sql"))?;
            change.execute_batch(include_str!("schema_2.sql"))?;
            change.execute_batch(include_str!("schema_3.sql"))?;
            let set = |key: &str, value: &dyn rusqlite::ToSql| {
                change.execute("INSERT INTO facts VALUES (?1, ?2)", params![key, value])
            };
            set("contract_id", &model.contract_id)?;
            set("dim", &(model.dim as i64))?;
            set("architecture", &model.architecture)?;
            set("model_sha256", &model.sha256)?;
            set("made_by", &concat!("vitrine ", env!("CARGO_PKG_VERSION")))?;
            set("segment_rows", &(segment_rows as i64))?;
            set("about", &"")?;
            set("gallery", &gallery)?;
            if vault.is_some() {
                change.execute_batch(include_str!("schema_sealed.sql"))?;
            }
            if let Some(turn) = &turn {
                set("turn", turn)?;
            }
            change.pragma_update(None, "application_id", APPLICATION)?;
            change.pragma_update(None, "user_version", VERSION)?;
            log::begin(&change)?;
            log::note(&change, &log::local_user(), &Note::of(Act::Make, 0))?;
            seal(&change)?;
            change.commit()
        })?;
        Ok(new.with_keys(vault))
    }

    /// The keys of an encrypted gallery.
    pub(crate) fn set_keys(&mut self, vault: Arc<Vault>) {
        self.vault = Some(vault);
    }

    /// The same with the keys of an encrypted gallery.
    pub(crate) fn with_keys(self, vault: Option<Arc<Vault>>) -> Self {
        Self { vault, ..self }
    }

    /// Whether the folder has a catalogue; one whose creation was interrupted is none.
    pub(crate) fn exists(folder: &Path) -> Result<bool, GalleryError> {
        if !folder.join(FILE).is_file() {
            return Ok(false);
        }
        let found = Self::connect(folder, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let tables = found.read("read", |connection| {
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        })?;
        Ok(tables > 0)
    }

    /// Opens an existing catalogue.
    pub(crate) fn open(folder: &Path, write: bool) -> Result<Self, GalleryError> {
        let path = folder.join(FILE);
        let none = |problem: &str| GalleryError::NoGallery { path: folder.to_owned(), problem: problem.to_owned() };
        match std::fs::metadata(&path) {
            Ok(facts) if facts.is_file() => {}
            Err(source) if source.kind() == ErrorKind::PermissionDenied => {
                return Err(GalleryError::Io { what: "read", path: folder.to_owned(), source });
            }
            _ if folder.is_dir() => return Err(none(&format!("it has no {FILE}"))),
            _ if folder.exists() => return Err(none("it is a file, and a gallery is a folder")),
            _ => return Err(none("there is no such folder")),
        }
        let mode = if write { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
        let found = Self::connect(folder, mode)?;
        let application = found.read("open", |connection| {
            connection.pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0))
        })?;
        match (application, found.version()?) {
            (0, 0) => Err(none("it was not made to the end")),
            (APPLICATION, OLDEST..=VERSION) => Ok(found),
            (APPLICATION, version) => Err(GalleryError::Version { path, found: version, known: VERSION }),
            _ => Err(none(&format!("{FILE} is a database of something else"))),
        }
    }

    fn version(&self) -> Result<u32, GalleryError> {
        self.read("open", version)
    }

    /// Makes a catalogue of an earlier version one of this version, in one transaction.
    pub(crate) fn upgrade(&mut self) -> Result<(), GalleryError> {
        let found = self.version()?;
        if found == VERSION {
            return Ok(());
        }
        let (templates, _, _) = self.counts()?;
        let change = self.change()?;
        change.run(|connection| {
            if found < LOGGED {
                connection.execute_batch(include_str!("schema_2.sql"))?;
                log::begin(connection)?;
            }
            connection.execute_batch(include_str!("schema_3.sql"))?;
            connection.pragma_update(None, "user_version", VERSION)
        })?;
        change.note(&Note::of(Act::Upgrade, templates))?;
        change.commit()
    }

    fn connect(folder: &Path, mode: OpenFlags) -> Result<Self, GalleryError> {
        let path = folder.join(FILE);
        let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let (place, flags) = if mode == OpenFlags::SQLITE_OPEN_READ_ONLY && read_only_disk(folder) {
            // Nobody can change it, and its log cannot be made.
            (uri(&path), flags | OpenFlags::SQLITE_OPEN_URI)
        } else {
            (path.clone(), flags)
        };
        let connect = || -> Sql<Connection> {
            let connection = Connection::open_with_flags(place, flags)?;
            connection.busy_timeout(PATIENCE)?;
            connection.set_prepared_statement_cache_capacity(32);
            // A commit is on the disk when it returns; what is deleted is overwritten; no temporary file is made; a
            // file made by somebody else runs nothing.
            connection.execute_batch(
                "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON;
                 PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
            )?;
            Ok(connection)
        };
        match connect() {
            Ok(connection) => {
                Ok(Self { connection, path, unsure: Cell::new(true), who: log::local_user(), vault: None })
            }
            Err(error) => Err(failed("open", &path, error)),
        }
    }

    fn read<T>(&self, what: &'static str, work: impl FnOnce(&Connection) -> Sql<T>) -> Result<T, GalleryError> {
        work(&self.connection).map_err(|error| failed(what, &self.path, error))
    }

    fn run<T>(&mut self, what: &'static str, work: impl FnOnce(&mut Connection) -> Sql<T>) -> Result<T, GalleryError> {
        work(&mut self.connection).map_err(|error| failed(what, &self.path, error))
    }

    /// Starts a change that only [`Change::commit`] makes happen.
    pub(crate) fn change(&mut self) -> Result<Change<'_>, GalleryError> {
        // A commit that failed, of this process or of one that died, may have left its pages in the log, and a power
        // cut might bring them back: with rows that were meanwhile overwritten by others. A commit of nothing takes
        // their place in the log before anything is written elsewhere.
        if self.unsure.get() {
            self.begin()?.commit()?;
        }
        self.begin()
    }

    fn begin(&mut self) -> Result<Change<'_>, GalleryError> {
        let path = self.path.clone();
        let begun = self.connection.transaction_with_behavior(TransactionBehavior::Immediate);
        let change = begun.map_err(|error| failed("change", &path, error))?;
        Ok(Change { change, path, unsure: &self.unsure, who: self.who.clone(), vault: self.vault.clone() })
    }

    /// From here on this connection sees the catalogue as it is now.
    ///
    /// # Errors
    /// SQLite keeps no checksums: if the facts or the list of segments are not what was written, it is found here.
    pub(crate) fn hold(&self) -> Result<(), GalleryError> {
        let whole = self.read("read", |connection| {
            connection.execute_batch("BEGIN")?;
            let sealed: i64 = connection.query_row("SELECT checksum FROM state", [], |row| row.get(0))?;
            Ok(sealed == i64::from(checksum(connection)?))
        })?;
        let problem = "the checksum of its facts and segments is wrong";
        if whole { Ok(()) } else { Err(GalleryError::damaged(&self.path, problem)) }
    }

    /// Writes the log's pages to their places and empties it, so that what was deleted is not left in it. A reader with
    /// an older snapshot prevents it; then it is done some other time.
    pub(crate) fn tidy(&self) -> Result<bool, GalleryError> {
        self.read("tidy", |connection| {
            // It would wait for readers, who may be there for hours.
            connection.busy_timeout(Duration::ZERO)?;
            let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
            connection.busy_timeout(PATIENCE)?;
            match busy {
                Ok(busy) => Ok(busy == 0),
                Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    pub(crate) fn facts(&self) -> Result<Facts, GalleryError> {
        let facts = self.read("read", |connection| {
            let text = |key: &str| fact::<String>(connection, key);
            Ok(Facts {
                gallery: fact(connection, "gallery")?,
                model: Model {
                    contract_id: text("contract_id")?,
                    dim: unsigned(fact(connection, "dim")?),
                    architecture: text("architecture")?,
                    sha256: text("model_sha256")?,
                },
                segment_rows: unsigned(fact(connection, "segment_rows")?),
                sealed: fact::<i64>(connection, "sealed").optional()?.is_some(),
                turn: fact(connection, "turn").optional()?,
            })
        })?;
        if !(1..=crate::MAX_DIM).contains(&facts.model.dim) || facts.segment_rows == 0 {
            return Err(GalleryError::damaged(&self.path, format!("it says {} values a row", facts.model.dim)));
        }
        Ok(facts)
    }

    /// What the program that fills the gallery notes about it.
    pub(crate) fn about(&self) -> Result<String, GalleryError> {
        let about: String = self.read("read", |connection| fact(connection, "about"))?;
        match &self.vault {
            Some(vault) if !about.is_empty() => vault.open_about(&about),
            _ => Ok(about),
        }
    }

    pub(crate) fn state(&self) -> Result<State, GalleryError> {
        self.read("read", state)
    }

    /// All segments, in their order.
    pub(crate) fn segments(&self) -> Result<Vec<Extent>, GalleryError> {
        self.read("read", |connection| extents(connection, Place::Live))
    }

    /// Templates that are removed and whose rows are still there, in order of their ids, with whether they are erased.
    pub(crate) fn removed(&self) -> Result<Vec<(TemplateId, bool)>, GalleryError> {
        self.read("read", |connection| {
            let mut rows = connection.prepare_cached("SELECT template, erased FROM removed ORDER BY template")?;
            rows.query_map([], |row| Ok((id_of(row, 0)?, row.get(1)?)))?.collect()
        })
    }

    /// Numbers of templates, subjects and removed rows.
    pub(crate) fn counts(&self) -> Result<(u64, u64, u64), GalleryError> {
        self.read("read", |connection| {
            let count = |table: &str| {
                let query = format!("SELECT count(*) FROM {table}");
                connection.query_row(&query, [], |row| row.get::<_, i64>(0)).map(unsigned)
            };
            Ok((count("templates")?, count("subjects")?, count("removed")?))
        })
    }

    /// Whether the template is enrolled.
    pub(crate) fn has(&self, id: TemplateId) -> Result<bool, GalleryError> {
        self.read("read", |connection| {
            connection.prepare_cached("SELECT 1 FROM templates WHERE id = ?1")?.exists([signed(id.0)])
        })
    }

    /// Templates in the order asked for.
    pub(crate) fn templates(&self, ids: &[TemplateId]) -> Result<Vec<Template>, GalleryError> {
        opened(self.vault.as_deref(), self.read("read", |connection| templates(connection, ids))?)
    }

    /// Fields of every template as numbers, in order of the ids.
    pub(crate) fn numbers(&self, mut each: impl FnMut(Numbers)) -> Result<(), GalleryError> {
        self.read("read", |connection| {
            let mut all = connection.prepare("SELECT id, subject, camera, taken, tags FROM templates ORDER BY id")?;
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                each(Numbers::of(row)?);
            }
            Ok(())
        })
    }

    /// Number of subjects, without a look at the templates.
    pub(crate) fn subjects(&self) -> Result<u64, GalleryError> {
        self.read("read", |connection| {
            connection.query_row("SELECT count(*) FROM subjects", [], |row| row.get::<_, i64>(0)).map(unsigned)
        })
    }

    /// The numbers of names; none for those that are not enrolled. They are looked up in the index and in the table: a
    /// name that only one of them has is damage, and not somebody who is not enrolled.
    pub(crate) fn subject_numbers(&self, names: &[String]) -> Result<Vec<Option<u32>>, GalleryError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(vault) = &self.vault {
            let all = self.read("read", sealed::subjects)?;
            let all = sealed::numbers(vault, &all)?;
            return Ok(names.iter().map(|name| all.get(&**name).map(|(number, _)| *number)).collect());
        }
        let (indexed, listed) = self.read("read", |connection| {
            let mut query = connection.prepare_cached("SELECT number FROM subjects WHERE name = ?1")?;
            let indexed = names.iter().map(|name| query.query_row([name], |row| row.get(0)).optional());
            let indexed = indexed.collect::<Sql<Vec<Option<u32>>>>()?;
            let mut all = connection.prepare_cached("SELECT number, name FROM subjects NOT INDEXED")?;
            let mut wanted: BTreeMap<&str, Option<u32>> = names.iter().map(|name| (&name[..], None)).collect();
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                if let Some(number) = wanted.get_mut(row.get_ref(1)?.as_str()?) {
                    *number = Some(row.get(0)?);
                }
            }
            let listed: Vec<Option<u32>> = names.iter().map(|name| wanted[&name[..]]).collect();
            Ok((indexed, listed))
        })?;
        let problem = "its index of subjects is not what its table of subjects says";
        if indexed == listed { Ok(indexed) } else { Err(GalleryError::damaged(&self.path, problem)) }
    }

    /// Bits and names of all tags, by name.
    pub(crate) fn tags(&self) -> Result<Vec<(u32, String)>, GalleryError> {
        self.read("read", tags)
    }

    /// What SQLite finds wrong with its own file.
    pub(crate) fn problems(&self) -> Result<Vec<String>, GalleryError> {
        self.read("check", |connection| {
            let mut found = Vec::new();
            for pragma in ["PRAGMA integrity_check", "PRAGMA foreign_key_check"] {
                let mut check = connection.prepare(pragma)?;
                let lines = check.query_map([], |row| row.get::<_, String>(0))?.collect::<Sql<Vec<_>>>()?;
                found.extend(lines.into_iter().filter(|line| line != "ok"));
            }
            Ok(found)
        })
    }
}

/// A change of the catalogue that has not happened yet.
pub(crate) struct Change<'a> {
    change: rusqlite::Transaction<'a>,
    path: PathBuf,
    unsure: &'a Cell<bool>,
    /// Who asks for it.
    who: String,
    vault: Option<Arc<Vault>>,
}

impl Change<'_> {
    fn run<T>(&self, work: impl FnOnce(&Connection) -> Sql<T>) -> Result<T, GalleryError> {
        work(&self.change).map_err(|error| failed("change", &self.path, error))
    }

    /// Makes it happen: when this returns it is on the disk.
    pub(crate) fn commit(self) -> Result<(), GalleryError> {
        let Self { change, path, unsure, .. } = self;
        unsure.set(true);
        let count = change.execute("UPDATE state SET generation = generation + 1", []);
        let done = count.and_then(|_| seal(&change)).and_then(|()| change.commit());
        unsure.set(done.is_err());
        done.map_err(|error| failed("change", &path, error))
    }

    pub(crate) fn segments(&self) -> Result<Vec<Extent>, GalleryError> {
        self.run(|connection| extents(connection, Place::Live))
    }

    /// Takes everything out and makes it a gallery of `model`; returns how many templates there were.
    pub(crate) fn clear(&self, model: &Model, segment_rows: usize) -> Result<u64, GalleryError> {
        self.run(|connection| {
            let templates = connection.query_row("SELECT count(*) FROM templates", [], |row| row.get::<_, i64>(0))?;
            if self.vault.is_some() {
                sealed::doom_all(connection)?;
            }
            connection.execute_batch(
                "DELETE FROM templates; DELETE FROM subjects; DELETE FROM tags; DELETE FROM segments;
                 DELETE FROM removed;",
            )?;
            staged::forget(connection)?;
            staged::set_model(connection, model, segment_rows)?;
            Ok(unsigned(templates))
        })
    }

    /// What templates are turned by, from here on.
    pub(crate) fn set_turn(&self, turn: KeyId) -> Result<(), GalleryError> {
        let insert = "INSERT OR REPLACE INTO facts VALUES ('turn', ?1)";
        self.run(|connection| connection.execute(insert, [turn])).map(drop)
    }

    /// Rows after which another segment is begun, from here on.
    pub(crate) fn set_segment_rows(&self, rows: usize) -> Result<(), GalleryError> {
        self.run(|connection| set_fact(connection, "segment_rows", &(rows as i64)))
    }

    pub(crate) fn describe(&self, about: &str) -> Result<(), GalleryError> {
        let sealed = self.vault.as_ref().map(|vault| vault.seal_about(about)).transpose()?;
        let about = sealed.as_deref().unwrap_or(about);
        self.run(|connection| set_fact(connection, "about", &about))
    }

    /// A segment of a new number for ids from `first` on, with no rows yet.
    pub(crate) fn add_segment(&self, place: Place, first: TemplateId) -> Result<Extent, GalleryError> {
        self.run(|connection| {
            let segment = state(connection)?.next_segment;
            connection.execute("UPDATE state SET next_segment = next_segment + 1", [])?;
            let insert = format!("INSERT INTO {} VALUES (?1, ?2, 0)", place.table());
            connection.execute(&insert, [signed(segment), signed(first.0)])?;
            Ok(Extent { segment, first, rows: 0 })
        })
    }

    pub(crate) fn set_rows(&self, place: Place, extent: Extent) -> Result<(), GalleryError> {
        let values = [extent.rows as i64, signed(extent.segment)];
        let update = format!("UPDATE {} SET rows = ?1 WHERE number = ?2", place.table());
        self.run(|connection| connection.execute(&update, values)).map(drop)
    }

    pub(crate) fn drop_segment(&self, segment: u64) -> Result<(), GalleryError> {
        self.run(|connection| connection.execute("DELETE FROM segments WHERE number = ?1", [signed(segment)])).map(drop)
    }

    /// Enrols templates and returns their fields as numbers, with new ids that follow each other, and in an encrypted
    /// gallery the names of their keys.
    pub(crate) fn enrol(&self, templates: &[NewTemplate]) -> Result<Vec<(Numbers, KeyId)>, GalleryError> {
        let bits = self.bits(templates)?;
        let owners = match &self.vault {
            None => self.owners(templates)?,
            Some(vault) => self.sealed_owners(vault, templates)?,
        };
        let first = self.run(|connection| state(connection).map(|state| state.next_template))?;
        let mut sources = Vec::new();
        if let Some(vault) = &self.vault {
            for (id, (template, (_, key))) in (first..).zip(templates.iter().zip(&owners)) {
                let place = crate::vault::Place::Source(TemplateId(id));
                sources.push(vault.seal_text(key, place, &template.source)?);
            }
        }
        self.run(|connection| {
            let last = first + templates.len() as u64;
            connection.execute("UPDATE state SET next_template = ?1", [signed(last)])?;
            let mut insert = connection.prepare_cached(
                "INSERT INTO templates (id, subject, camera, taken, tags, source, enrolled)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            let now = log::now();
            let mut all = Vec::with_capacity(templates.len());
            for (at, ((template, (subject, key)), tags)) in templates.iter().zip(owners).zip(bits).enumerate() {
                let id = first + at as u64;
                let NewTemplate { camera, taken, .. } = template;
                let source = sources.get(at).unwrap_or(&template.source);
                insert.execute(params![signed(id), subject, camera, taken, tags as i64, source, now])?;
                let numbers = Numbers { id: TemplateId(id), subject, camera: *camera, taken: *taken, tags };
                all.push((numbers, key));
            }
            Ok(all)
        })
    }

    /// The numbers of the subjects of templates; those of new ones are added.
    fn owners(&self, templates: &[NewTemplate]) -> Result<Vec<(Option<u32>, KeyId)>, GalleryError> {
        self.run(|connection| {
            let mut known = connection.prepare_cached("SELECT number FROM subjects WHERE name = ?1")?;
            let mut number_of = |name: &String| -> Sql<u32> {
                match known.query_row([name], |row| row.get(0)).optional()? {
                    Some(number) => Ok(number),
                    None => add_subject(connection, |_| Ok(name.clone())),
                }
            };
            let owner = |template: &NewTemplate| {
                Ok((template.subject.as_ref().map(&mut number_of).transpose()?, KeyId::default()))
            };
            templates.iter().map(owner).collect()
        })
    }

    /// The tags of each template as bits; new tags get a bit that no template has.
    fn bits(&self, templates: &[NewTemplate]) -> Result<Vec<u64>, GalleryError> {
        let mut known: BTreeMap<String, u32> = self.run(tags)?.into_iter().map(|(bit, name)| (name, bit)).collect();
        let new: BTreeSet<&String> =
            templates.iter().flat_map(|template| &template.tags).filter(|tag| !known.contains_key(*tag)).collect();
        if known.len() + new.len() > MAX_TAGS {
            // Tags whose last template was removed give their bits back.
            let used = self.run(|connection| {
                let mut all = connection.prepare("SELECT DISTINCT tags FROM templates")?;
                let bits = all.query_map([], |row| row.get::<_, i64>(0))?;
                bits.map(|bits| bits.map(|bits| bits as u64)).try_fold(0, |used, bits| Ok(used | bits?))
            })?;
            let wanted = templates.iter().flat_map(|template| &template.tags);
            let wanted = wanted.filter_map(|tag| known.get(tag)).fold(used, |wanted, bit| wanted | 1 << bit);
            known.retain(|_, bit| wanted >> *bit & 1 == 1);
            let found = known.len() + new.len();
            if found > MAX_TAGS {
                return Err(GalleryError::TooMany { what: "tags", found: found as u64, allowed: MAX_TAGS as u64 });
            }
            self.run(|connection| connection.execute("DELETE FROM tags WHERE ?1 >> bit & 1 = 0", [wanted as i64]))?;
        }
        let new: Vec<String> = new.into_iter().cloned().collect();
        let used = known.values().fold(0_u64, |used, bit| used | 1 << bit);
        let free = (0..MAX_TAGS as u32).filter(|bit| used >> bit & 1 == 0);
        for (name, bit) in new.into_iter().zip(free) {
            self.run(|connection| connection.execute("INSERT INTO tags VALUES (?1, ?2)", params![bit, name]))?;
            known.insert(name, bit);
        }
        let bits = |template: &NewTemplate| template.tags.iter().fold(0, |bits, tag| bits | 1 << known[tag]);
        Ok(templates.iter().map(bits).collect())
    }

    /// Takes templates out of the catalogue, and subjects and tags that have none left; returns their ids and the
    /// numbers of their subjects.
    pub(crate) fn remove(&self, what: &Selection) -> Result<Vec<(TemplateId, Option<u32>)>, GalleryError> {
        let ids = match what {
            Selection::Templates(ids) => ids.clone(),
            Selection::Subject(name) => self.of_subject(name)?,
        };
        if let (Selection::Subject(name), []) = (what, &ids[..]) {
            return Err(GalleryError::NoSubject { name: name.clone() });
        }
        let mut removed = Vec::with_capacity(ids.len());
        let mut tagged = 0_u64;
        for id in ids {
            let gone = self.run(|connection| {
                let delete = "DELETE FROM templates WHERE id = ?1 RETURNING subject, source, tags";
                let mut delete = connection.prepare_cached(delete)?;
                let row = delete.query_row([signed(id.0)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
                row.optional()
            })?;
            let gone: Option<(Option<u32>, String, i64)> = gone;
            match gone {
                // Asked for twice.
                None if removed.iter().any(|(other, _)| *other == id) => continue,
                None => return Err(GalleryError::NoTemplate { id }),
                Some((subject, source, tags)) => self.run(|connection| {
                    tagged |= tags as u64;
                    connection.prepare_cached("INSERT INTO removed VALUES (?1, 0)")?.execute([signed(id.0)])?;
                    let mut orphan = connection.prepare_cached(
                        "DELETE FROM subjects WHERE number = ?1
                         AND NOT EXISTS (SELECT 1 FROM templates WHERE subject = ?1) RETURNING number",
                    )?;
                    let orphan = orphan.query_row([subject], |_| Ok(())).optional()?;
                    // The source is sealed under the key of the subject, or of this template alone.
                    if self.vault.is_some() && (subject.is_none() || orphan.is_some()) {
                        sealed::doom(connection, &source)?;
                    }
                    removed.push((id, subject));
                    Ok(())
                })?,
            }
        }
        // A word may say who it was.
        self.run(|connection| {
            let orphan =
                "DELETE FROM tags WHERE bit = ?1 AND NOT EXISTS (SELECT 1 FROM templates WHERE tags >> ?1 & 1)";
            let mut orphan = connection.prepare_cached(orphan)?;
            let mut bits = (0..MAX_TAGS as u32).filter(|bit| tagged >> bit & 1 == 1);
            bits.try_for_each(|bit| orphan.execute([bit]).map(drop))
        })?;
        Ok(removed)
    }

    /// Notes that the rows of removed templates are overwritten.
    pub(crate) fn set_erased(&self, ids: &[TemplateId]) -> Result<(), GalleryError> {
        self.run(|connection| {
            let mut set = connection.prepare_cached("UPDATE removed SET erased = 1 WHERE template = ?1")?;
            ids.iter().try_for_each(|id| set.execute([signed(id.0)]).map(drop))
        })
    }

    /// Forgets removed templates whose rows are no more.
    pub(crate) fn forget(&self, ids: &[TemplateId]) -> Result<(), GalleryError> {
        self.run(|connection| {
            let mut delete = connection.prepare_cached("DELETE FROM removed WHERE template = ?1")?;
            ids.iter().try_for_each(|id| delete.execute([signed(id.0)]).map(drop))
        })
    }
}

/// Whether the folder's file system can only be read, so that nobody changes it.
fn read_only_disk(folder: &Path) -> bool {
    let flags = rustix::fs::statvfs(folder).map(|facts| facts.f_flag);
    flags.is_ok_and(|flags| flags.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// The address by which SQLite opens a file that nobody changes.
fn uri(path: &Path) -> PathBuf {
    let escaped = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    PathBuf::from(format!("file:{escaped}?immutable=1"))
}

fn failed(what: &'static str, path: &Path, error: rusqlite::Error) -> GalleryError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            GalleryError::Damaged { path, problem: error.to_string() }
        }
        _ => {
            // Readers, too, share an index of the log, for which SQLite makes a file; it names no reason.
            let no_room = |error: &rusqlite::ffi::Error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
            let source: Box<dyn Error + Send + Sync> = match error.sqlite_error().is_some_and(no_room) {
                true => format!("there is no room for its -shm file, so the disk is full ({error})").into(),
                false => error.into(),
            };
            GalleryError::Catalogue { what, path, source }
        }
    }
}

fn fact<T: rusqlite::types::FromSql>(connection: &Connection, key: &str) -> Sql<T> {
    connection.prepare_cached("SELECT value FROM facts WHERE key = ?1")?.query_row([key], |row| row.get(0))
}

fn set_fact(connection: &Connection, key: &str, value: &dyn rusqlite::ToSql) -> Sql<()> {
    connection.execute("UPDATE facts SET value = ?2 WHERE key = ?1", params![key, value]).map(drop)
}

fn version(connection: &Connection) -> Sql<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0)).map(|version| version as u32)
}

fn state(connection: &Connection) -> Sql<State> {
    let mut query = connection.prepare_cached("SELECT generation, next_template, next_segment FROM state")?;
    query.query_row([], |row| {
        Ok(State {
            generation: unsigned(row.get(0)?),
            next_template: unsigned(row.get(1)?),
            next_segment: unsigned(row.get(2)?),
        })
    })
}

/// CRC-32 of what a snapshot relies on before it has seen a row.
fn checksum(connection: &Connection) -> Sql<u32> {
    let mut hash = crc32fast::Hasher::new();
    // Version 1 has no staged segments.
    let staged = "SELECT number || ' ' || first || ' ' || rows FROM staged ORDER BY number";
    let staged = (version(connection)? >= LOGGED).then_some(staged);
    for query in [
        "SELECT key || quote(value) FROM facts ORDER BY key",
        "SELECT generation || ' ' || next_template || ' ' || next_segment || ' ' || next_subject FROM state",
        "SELECT number || ' ' || first || ' ' || rows FROM segments ORDER BY number",
    ]
    .into_iter()
    .chain(staged)
    {
        let mut query = connection.prepare_cached(query)?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            hash.update(row.get_ref(0)?.as_bytes()?);
            hash.update(b"\n");
        }
    }
    Ok(hash.finalize())
}

/// Writes the checksum of the catalogue as it is.
fn seal(connection: &Connection) -> Sql<()> {
    connection.execute("UPDATE state SET checksum = ?1", [checksum(connection)?]).map(drop)
}

fn extents(connection: &Connection, place: Place) -> Sql<Vec<Extent>> {
    let query = match place {
        Place::Live => "SELECT number, first, rows FROM segments ORDER BY first",
        // Where ids are mended later, they begin again.
        Place::Staged => "SELECT number, first, rows FROM staged ORDER BY number",
    };
    let mut query = connection.prepare_cached(query)?;
    let extent = |row: &Row<'_>| {
        Ok(Extent { segment: unsigned(row.get(0)?), first: id_of(row, 1)?, rows: unsigned(row.get(2)?) })
    };
    query.query_map([], extent)?.collect()
}

fn tags(connection: &Connection) -> Sql<Vec<(u32, String)>> {
    let mut query = connection.prepare_cached("SELECT bit, name FROM tags ORDER BY name")?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Adds a subject of a new number, for which `name` has the name.
fn add_subject(connection: &Connection, name: impl FnOnce(u32) -> Sql<String>) -> Sql<u32> {
    let number = connection.query_row(
        "UPDATE state SET next_subject = next_subject + 1 RETURNING next_subject - 1",
        [],
        |row| row.get::<_, u32>(0),
    )?;
    let name = name(number)?;
    connection.prepare_cached("INSERT INTO subjects VALUES (?1, ?2)")?.execute(params![number, name])?;
    Ok(number)
}

/// A template as it is stored, and the number of its subject.
type Stored = (Template, Option<u32>);

/// Opens what is sealed of templates.
fn opened(vault: Option<&Vault>, all: Vec<Result<Stored, TemplateId>>) -> Result<Vec<Template>, GalleryError> {
    let open = |(mut template, number): Stored| {
        if let Some(vault) = vault {
            let NewTemplate { subject, source, .. } = &mut template.about;
            if let (Some(name), Some(number)) = (&mut *subject, number) {
                *name = vault.open_name(number, name)?.to_string();
            }
            *source = vault.open_text(crate::vault::Place::Source(template.id), source)?;
        }
        Ok(template)
    };
    found(all)?.into_iter().map(open).collect()
}

/// Templates in the order asked for, as they are stored, or the ids of those that are not there.
fn templates(connection: &Connection, ids: &[TemplateId]) -> Sql<Vec<Result<Stored, TemplateId>>> {
    let tags = tags(connection)?;
    let mut query = connection.prepare_cached(
        "SELECT name, camera, taken, tags, source, subject FROM templates LEFT JOIN subjects ON subject = number
         WHERE id = ?1",
    )?;
    let mut template = |id: &TemplateId| {
        let row = query.query_row([signed(id.0)], |row| {
            let bits = row.get::<_, i64>(3)? as u64;
            let tags = tags.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| name.clone());
            let about = NewTemplate {
                subject: row.get(0)?,
                camera: row.get(1)?,
                taken: row.get(2)?,
                tags: tags.collect(),
                source: row.get(4)?,
            };
            Ok((Template { id: *id, about }, row.get(5)?))
        });
        row.optional()
    };
    ids.iter().map(|id| template(id).map(|found| found.ok_or(*id))).collect()
}

/// All of them, or the error of the first that is not there.
fn found<T>(all: Vec<Result<T, TemplateId>>) -> Result<Vec<T>, GalleryError> {
    all.into_iter().map(|found| found.map_err(|id| GalleryError::NoTemplate { id })).collect()
}

fn id_of(row: &Row<'_>, column: usize) -> Sql<TemplateId> {
    row.get(column).map(|id| TemplateId(unsigned(id)))
}

/// SQLite's integers have a sign; none of our counts does. A damaged file's may: it becomes 0, which nothing has.
fn unsigned<T: TryFrom<i64> + Default>(value: i64) -> T {
    T::try_from(value).unwrap_or_default()
}

/// Ids grow by one with each template: 2^63 are never reached.
fn signed(id: u64) -> i64 {
    i64::try_from(id).unwrap_or(i64::MAX)
}
