use std::error::Error;
use std::path::{Path, PathBuf};

use files::lock::LockError;

use crate::TemplateId;

/// Why a gallery cannot do what it was asked for. Whatever it is, the gallery is as it was, unless the variant says
/// otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GalleryError {
    /// The system refused.
    #[error("cannot {what} `{}`", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("cannot {what} the catalogue `{}`", path.display())]
    Catalogue {
        /// What was tried.
        what: &'static str,
        /// Its file.
        path: PathBuf,
        /// SQLite's words.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Another program is changing the gallery.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// Another program is changing the gallery, which is migrating to another model.
    #[error("{held}, which is migrating to the model of contract id `{contract_id}`")]
    Migrating {
        /// Who.
        held: LockError,
        /// Contract id of the model that it migrates to.
        contract_id: String,
    },
    /// A migration to another model than the one given is not finished.
    #[error(
        "`{}` is migrating to the model of contract id `{found}`, and that is not finished; the model given has \
         `{asked}`",
        path.display()
    )]
    OtherMigration {
        /// The folder.
        path: PathBuf,
        /// Contract id of the model that it migrates to.
        found: String,
        /// That of the model given.
        asked: String,
    },
    /// No migration was begun.
    #[error("`{}` is not migrating to another model", path.display())]
    NoMigration {
        /// The folder.
        path: PathBuf,
    },
    /// A migration is to be finished with templates that the next model has not embedded.
    #[error("{templates} templates of `{}` are not embedded by the next model", path.display())]
    NotMigrated {
        /// The folder.
        path: PathBuf,
        /// How many.
        templates: u64,
    },
    /// **The gallery is of its new model.** But files of the old one could not be removed yet; opening the gallery for
    /// writing tries again.
    #[error(
        "`{}` has its new model, but files of the old one could not be removed yet; the next change does",
        path.display()
    )]
    OldRowsLeft {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: Box<GalleryError>,
    },
    /// There is no gallery.
    #[error("`{}` is no gallery: {problem}", path.display())]
    NoGallery {
        /// Where it was looked for.
        path: PathBuf,
        /// What is missing.
        problem: String,
    },
    /// A gallery is made where there is one already, or where its own folder is in use.
    #[error("`{}` has {found} already; a gallery is made where there is none", path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The gallery was made anew, of another model perhaps, since it was opened.
    #[error("`{}` was made anew since it was opened; open it again", path.display())]
    Renewed {
        /// The folder.
        path: PathBuf,
    },
    /// A part of a change failed, so that nothing of it happened.
    #[error("nothing is changed in `{}`: a part of the change failed", path.display())]
    GivenUp {
        /// The folder.
        path: PathBuf,
    },
    /// It was made by another version of this program.
    #[error("`{}` has layout version {found}, this program reads {known} at most", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Version of the file.
        found: u32,
        /// Version that is read.
        known: u32,
    },
    /// It was made on a machine that stores numbers the other way round.
    #[error("`{}` is of a machine of the other byte order; export it there and import it here", path.display())]
    ByteOrder {
        /// The file.
        path: PathBuf,
    },
    /// SQLite's log needs memory that processes share, which file systems over a network do not offer.
    #[error("`{}` is on a network file system ({kind}), where a gallery is not safe; use a local disk", path.display())]
    Network {
        /// The folder.
        path: PathBuf,
        /// The file system.
        kind: &'static str,
    },
    /// The gallery was opened for reading.
    #[error("`{}` is open for reading only", path.display())]
    ReadOnly {
        /// The folder.
        path: PathBuf,
    },
    /// Rows of another length than the gallery's.
    #[error("rows of {found} values, the gallery has rows of {wanted}")]
    Dimension {
        /// Values in a row given.
        found: usize,
        /// Values in a row of the gallery.
        wanted: usize,
    },
    /// A row that is no embedding.
    #[error("row {row}: {problem}")]
    Row {
        /// Which of the rows given, from 0.
        row: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// Something said about a template cannot be stored.
    #[error("{what} {value:?}: {problem}")]
    Field {
        /// Which field.
        what: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        problem: String,
    },
    /// More of something than a gallery can hold.
    #[error("{found} {what}; a gallery holds at most {allowed}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many it would be.
        found: u64,
        /// How many can be.
        allowed: u64,
    },
    /// There is no such template.
    #[error("template {} is not in the gallery", id.0)]
    NoTemplate {
        /// Its id.
        id: TemplateId,
    },
    /// There is no such subject.
    #[error("{name:?} is not enrolled")]
    NoSubject {
        /// The name.
        name: String,
    },
    /// There is no subject of that number.
    #[error("nobody in the gallery has number {number}")]
    NoPerson {
        /// The number.
        number: u32,
    },
    /// There is no such match, or it is too long ago.
    #[error("match {number} is not among those of late")]
    NoMatch {
        /// Its number.
        number: u64,
    },
    /// The gallery is encrypted, and no key was given.
    #[error("`{}` is encrypted; its key file is needed", path.display())]
    KeyNeeded {
        /// The folder.
        path: PathBuf,
    },
    /// A key was given for a gallery that is not encrypted.
    #[error("`{}` is not encrypted, and the key file `{}` was given", path.display(), key.display())]
    NotEncrypted {
        /// The folder.
        path: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The gallery is encrypted already.
    #[error("`{}` is encrypted already", path.display())]
    Encrypted {
        /// The folder.
        path: PathBuf,
    },
    /// **The gallery is encrypted.** But files of its plain rows could not be removed yet; opening the gallery for
    /// writing tries again.
    #[error(
        "`{}` is encrypted, but files of plain rows could not be removed yet; the next change does",
        path.display()
    )]
    PlainLeft {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: Box<GalleryError>,
    },
    /// A key file, or the key store beside it, that does not fit.
    #[error("key file `{}`: {problem}", path.display())]
    KeyFile {
        /// The key file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A part of an encrypted gallery is not what was sealed there.
    #[error("{what} is not what was encrypted there")]
    Sealed {
        /// Which.
        what: String,
    },
    /// The templates of a gallery were renewed after this copy of it was made.
    #[error(
        "the templates were renewed after this copy of the gallery was made, and what its own are turned by is gone \
         from `{}`",
        path.display()
    )]
    Renewable {
        /// The key store.
        path: PathBuf,
    },
    /// Somebody was removed after this copy of the gallery was made.
    #[error(
        "people were removed after this copy of the gallery was made, and their keys are gone from `{}`; open it for \
         writing once, as `deploy gallery compact` does, and they are removed from it, too",
        path.display()
    )]
    Erased {
        /// The key store.
        path: PathBuf,
    },
    /// Stored bytes are not what was written.
    #[error("`{}` is damaged: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the row where it is one.
        problem: String,
    },
    /// A server that keeps the gallery refused, or cannot be reached.
    #[error("cannot {what} `{engine}`: {problem}")]
    Server {
        /// What was tried.
        what: &'static str,
        /// The gallery's address.
        engine: String,
        /// The server's words, or what to do.
        problem: String,
    },
    /// Another program is changing a gallery that a server keeps, or ended while it did.
    #[error(
        "{holder} has been changing `{engine}` for {seconds} seconds; if that program has ended, give the address \
         `{engine}?unlock={lock:x}` once"
    )]
    Held {
        /// The gallery's address.
        engine: String,
        /// Which program.
        holder: String,
        /// For how long, by the clock of this machine.
        seconds: u64,
        /// Number of its lock.
        lock: u64,
    },
    /// The engine cannot do it.
    #[error("this gallery cannot {what}: {why}")]
    Unsupported {
        /// What.
        what: &'static str,
        /// Why not.
        why: &'static str,
    },
    /// **The templates are removed**: no search finds them, now or after a crash. But their values could not be
    /// overwritten yet; opening the gallery for writing tries again.
    #[error("{templates} templates are removed, but their values could not be overwritten yet; repeat the command")]
    NotErased {
        /// How many.
        templates: u64,
        /// Why.
        source: Box<GalleryError>,
    },
}

impl GalleryError {
    /// For `map_err`: `what` failed on `path`.
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { what, path: path.to_owned(), source }
    }

    pub(crate) fn damaged(path: &Path, problem: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), problem: problem.into() }
    }
}
