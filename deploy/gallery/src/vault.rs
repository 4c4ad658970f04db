//! Keys of encrypted galleries: a key file that whoever owns the gallery keeps, and beside it the key store, a database
//! with a key for each subject, wrapped by the key of the file. Neither lies in the folder of the gallery, so a copy of
//! that folder has no key. A subject whose key is deleted cannot be decrypted again, in the gallery or in any copy.
//!
//! Everything is sealed by XChaCha20-Poly1305 under a nonce of 192 random bits, which is never chosen twice, and bound
//! to the gallery and to its place in it.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::{AeadInOut, KeyInit, Tag, XChaCha20Poly1305, XNonce};
use rayon::prelude::*;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::id::{GalleryId, KeyId, NO_KEY};
use crate::{GalleryError, TemplateId};

/// Bytes of a key.
const KEY: usize = 32;

/// Bytes of a nonce.
const NONCE: usize = 24;

/// Bytes that tell whether the others are what was sealed.
const TAG: usize = 16;

/// Bytes that sealing adds.
pub(crate) const SEAL: usize = NONCE + TAG;

/// How a key file starts.
const START: &str = "vitrine-key-1 ";

/// Tells our key stores from other SQLite files: "VTRK".
const APPLICATION: i32 = 0x5654_524B;

/// Version of the key store.
const VERSION: i32 = 1;

/// A key store is locked for moments only.
const PATIENCE: Duration = Duration::from_secs(30);

/// A key, overwritten when it is done with.
pub(crate) type Key = Zeroizing<[u8; KEY]>;

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], GalleryError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| GalleryError::Io {
        what: "read random bytes from",
        path: "the system".into(),
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(bytes)
}

/// The key of encrypted galleries, which is read from a file. The file is all that has to be kept; what is in its key
/// store is of no use without it.
#[derive(Clone)]
pub struct KeyFile {
    path: PathBuf,
    key: Arc<Key>,
}

impl std::fmt::Debug for KeyFile {
    /// Without the key.
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("KeyFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl KeyFile {
    /// Makes a new key in a new file, readable by its owner only.
    ///
    /// # Errors
    /// If there is such a file, or it cannot be written.
    pub fn create(path: &Path) -> Result<Self, GalleryError> {
        let key: Key = Zeroizing::new(random()?);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(path).map_err(GalleryError::io("create", path))?;
        let text = Zeroizing::new(format!("{START}{}\n", hex::encode(*key)));
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(GalleryError::io("write", path))?;
        sync_parent(path)?;
        Ok(Self { path: path.to_owned(), key: Arc::new(key) })
    }

    /// Reads the key of a file.
    ///
    /// # Errors
    /// If it is no key file, or others than its owner can read it.
    pub fn open(path: &Path) -> Result<Self, GalleryError> {
        let problem = |problem: String| GalleryError::KeyFile { path: path.to_owned(), problem };
        let bytes = files::read_limited(path, 4096).map_err(|error| problem(error.to_string()))?;
        let bytes = Zeroizing::new(bytes);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = path.metadata().map_err(GalleryError::io("read", path))?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(problem(format!("its mode is {mode:03o}, so others can read it; `chmod 600` it")));
            }
        }
        let text = std::str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().strip_prefix(START));
        let mut key: Key = Zeroizing::new([0; KEY]);
        match text.map(|text| hex::decode_to_slice(text, &mut *key)) {
            Some(Ok(())) => Ok(Self { path: path.to_owned(), key: Arc::new(key) }),
            _ => Err(problem(format!("it is not `{}` and 64 hexadecimal digits", START.trim_end()))),
        }
    }

    /// Reads the key of a file, or makes a new one where there is none.
    ///
    /// # Errors
    /// As either.
    pub fn open_or_create(path: &Path) -> Result<Self, GalleryError> {
        if path.exists() { Self::open(path) } else { Self::create(path) }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The key store: a file beside the key file, of its name and `.subjects`. It changes with every person who comes
    /// or goes.
    pub fn store(&self) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(".subjects");
        name.into()
    }
}

fn sync_parent(path: &Path) -> Result<(), GalleryError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if cfg!(unix) {
        let synced = std::fs::File::open(parent).and_then(|folder| folder.sync_all());
        synced.map_err(GalleryError::io("sync", parent))?;
    }
    Ok(())
}

/// What is sealed, and where it belongs: it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// The name of the subject of a number.
    Name(u32),
    /// The source of a template.
    Source(TemplateId),
    /// The picture of a template.
    Picture(TemplateId),
    /// What is noted about the gallery.
    About,
    /// The values of a row of a segment.
    Values(u64, usize, TemplateId),
    /// Its record.
    Record(u64, usize, TemplateId),
    /// The key of a name.
    Key(KeyId),
    /// The key of the gallery.
    Gallery,
    /// What renewable templates are turned by.
    Turn(KeyId),
}

impl Place {
    /// The bytes that are sealed along with it: of no two places the same.
    fn bytes(self, gallery: &GalleryId) -> [u8; 41] {
        let mut bytes = [0; 41];
        bytes[..16].copy_from_slice(gallery);
        let mut put = |kind: u8, numbers: [u64; 3]| {
            bytes[16] = kind;
            for (at, number) in numbers.into_iter().enumerate() {
                bytes[17 + at * 8..25 + at * 8].copy_from_slice(&number.to_le_bytes());
            }
        };
        match self {
            Self::Name(number) => put(1, [number.into(), 0, 0]),
            Self::Source(id) => put(2, [id.0, 0, 0]),
            Self::Picture(id) => put(3, [id.0, 0, 0]),
            Self::About => put(4, [0; 3]),
            Self::Values(segment, row, id) => put(5, [segment, row as u64, id.0]),
            Self::Record(segment, row, id) => put(6, [segment, row as u64, id.0]),
            Self::Key(id) | Self::Turn(id) => {
                let kind = if matches!(self, Self::Key(_)) { 7 } else { 9 };
                let id = u128::from_le_bytes(id);
                put(kind, [id as u64, (id >> 64) as u64, 0]);
            }
            Self::Gallery => put(8, [0; 3]),
        }
        bytes
    }
}

/// Seals `bytes` into `sealed`, which has [`SEAL`] more.
fn seal(key: &Key, gallery: &GalleryId, place: Place, bytes: &[u8], sealed: &mut [u8]) -> Result<(), GalleryError> {
    let nonce: [u8; NONCE] = random()?;
    let (start, rest) = sealed.split_at_mut(NONCE);
    let (body, tag) = rest.split_at_mut(bytes.len());
    start.copy_from_slice(&nonce);
    body.copy_from_slice(bytes);
    let cipher = XChaCha20Poly1305::new(&(**key).into());
    let found = cipher
        .encrypt_inout_detached(&XNonce::from(nonce), &place.bytes(gallery), InOutBuf::from(body))
        .expect("far below the cipher's limit of 256 GiB");
    tag.copy_from_slice(&found);
    Ok(())
}

/// Opens `sealed` into `bytes`, which has [`SEAL`] less; false if it is not what was sealed there under this key.
fn unseal(key: &Key, gallery: &GalleryId, place: Place, sealed: &[u8], bytes: &mut [u8]) -> bool {
    if sealed.len() != bytes.len() + SEAL {
        return false;
    }
    let (nonce, rest) = sealed.split_at(NONCE);
    let (body, tag) = rest.split_at(bytes.len());
    let nonce = XNonce::from(<[u8; NONCE]>::try_from(nonce).expect("as many bytes"));
    let tag = Tag::from(<[u8; TAG]>::try_from(tag).expect("as many bytes"));
    bytes.copy_from_slice(body);
    let cipher = XChaCha20Poly1305::new(&(**key).into());
    let opened = cipher.decrypt_inout_detached(&nonce, &place.bytes(gallery), InOutBuf::from(&mut *bytes), &tag);
    if opened.is_err() {
        bytes.fill(0);
    }
    opened.is_ok()
}

/// The same in vectors.
fn sealed(key: &Key, gallery: &GalleryId, place: Place, bytes: &[u8]) -> Result<Vec<u8>, GalleryError> {
    let mut all = vec![0; bytes.len() + SEAL];
    seal(key, gallery, place, bytes, &mut all).map(|()| all)
}

fn unsealed(key: &Key, gallery: &GalleryId, place: Place, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(vec![0; sealed.len().checked_sub(SEAL)?]);
    unseal(key, gallery, place, sealed, &mut bytes).then_some(bytes)
}

fn new_key() -> Result<Key, GalleryError> {
    random().map(Zeroizing::new)
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    There,
    /// Its subject was removed.
    Erased,
    /// The key store does not know it.
    Missing,
}

/// The open keys of a gallery.
pub(crate) struct Vault {
    gallery: GalleryId,
    file: KeyFile,
    /// Seals what belongs to no subject.
    own: Key,
    store: Mutex<Connection>,
    keys: RwLock<HashMap<KeyId, Arc<Key>>>,
    /// Names that were opened before.
    names: Mutex<HashMap<(KeyId, u32), Arc<str>>>,
}

impl std::fmt::Debug for Vault {
    /// Without keys.
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Vault").field("file", &self.file).finish_non_exhaustive()
    }
}

const TABLES: &str = "
    CREATE TABLE galleries (gallery BLOB PRIMARY KEY, own BLOB NOT NULL) STRICT, WITHOUT ROWID;
    -- What renewable templates are turned by.
    CREATE TABLE turns (gallery BLOB NOT NULL, id BLOB NOT NULL, wrapped BLOB NOT NULL, PRIMARY KEY (gallery, id))
        STRICT, WITHOUT ROWID;
    CREATE TABLE keys (gallery BLOB NOT NULL, id BLOB NOT NULL, wrapped BLOB NOT NULL, PRIMARY KEY (gallery, id))
        STRICT, WITHOUT ROWID;
    -- Keys that were deleted with their subjects: whoever finds one in a copy of the gallery knows why it is gone.
    CREATE TABLE erased (gallery BLOB NOT NULL, id BLOB NOT NULL, PRIMARY KEY (gallery, id)) STRICT, WITHOUT ROWID;";

impl Vault {
    /// Makes the keys of a new gallery, or of one that is encrypted from now on. Those that an attempt of before, or a
    /// copy of the gallery, has there are taken.
    pub(crate) fn create(file: &KeyFile, gallery: GalleryId, folder: &Path) -> Result<Self, GalleryError> {
        let store = connect(file, true)?;
        let own = sealed(&file.key, &gallery, Place::Gallery, &*new_key()?)?;
        let insert = "INSERT OR IGNORE INTO galleries VALUES (?1, ?2)";
        store.execute(insert, params![gallery, own]).map_err(failed(file, "change"))?;
        sync_parent(&file.path)?;
        Self::open(file, gallery, folder)
    }

    fn of(file: &KeyFile, gallery: GalleryId, own: Key, store: Connection, keys: HashMap<KeyId, Arc<Key>>) -> Self {
        let (keys, names, store) = (RwLock::new(keys), Mutex::default(), Mutex::new(store));
        Self { gallery, file: file.clone(), own, store, keys, names }
    }

    /// Opens the keys of a gallery. `folder` is where that is.
    pub(crate) fn open(file: &KeyFile, gallery: GalleryId, folder: &Path) -> Result<Self, GalleryError> {
        let wrong = |problem: String| GalleryError::KeyFile { path: file.path.clone(), problem };
        if !file.store().is_file() {
            return Err(wrong(format!("its key store `{}` is not there", file.store().display())));
        }
        let store = connect(file, false)?;
        type Wrapped = (KeyId, Vec<u8>);
        let read = || -> Result<(Option<Vec<u8>>, Vec<Wrapped>), rusqlite::Error> {
            let row = store.query_row("SELECT own FROM galleries WHERE gallery = ?1", [gallery], |row| row.get(0));
            let mut query = store.prepare("SELECT id, wrapped FROM keys WHERE gallery = ?1")?;
            let keys = query.query_map([gallery], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok((row.optional()?, keys.collect::<Result<_, _>>()?))
        };
        let (own, wrapped) = read().map_err(failed(file, "read"))?;
        let Some(own) = own else {
            return Err(wrong(format!("its key store has no keys of the gallery `{}`", folder.display())));
        };
        let not_ours = || wrong(format!("it is not the key of the gallery `{}`", folder.display()));
        let key = |place, sealed: &[u8]| -> Option<Key> {
            let bytes = unsealed(&file.key, &gallery, place, sealed)?;
            Some(Zeroizing::new(<[u8; KEY]>::try_from(&bytes[..]).ok()?))
        };
        let own = key(Place::Gallery, &own).ok_or_else(not_ours)?;
        let damaged = || GalleryError::damaged(&file.store(), "a key in it is not what was stored");
        let keys = wrapped.par_iter().map(|(id, sealed)| Some((*id, Arc::new(key(Place::Key(*id), sealed)?))));
        let keys = keys.collect::<Option<HashMap<_, _>>>().ok_or_else(damaged)?;
        Ok(Self::of(file, gallery, own, store, keys))
    }

    pub(crate) fn file(&self) -> &KeyFile {
        &self.file
    }

    /// Makes a key that renewable templates are turned by, which is durable when this returns.
    pub(crate) fn make_turn(&self) -> Result<KeyId, GalleryError> {
        let (id, key) = (random()?, new_key()?);
        let wrapped = sealed(&self.file.key, &self.gallery, Place::Turn(id), &*key)?;
        self.change(|store| {
            store.execute("INSERT INTO turns VALUES (?1, ?2, ?3)", params![self.gallery, id, wrapped])
        })?;
        Ok(id)
    }

    /// What renewable templates are turned by.
    pub(crate) fn turn(&self, id: KeyId) -> Result<Zeroizing<[u8; KEY]>, GalleryError> {
        let query = "SELECT wrapped FROM turns WHERE gallery = ?1 AND id = ?2";
        let found = self.store().query_row(query, params![self.gallery, id], |row| row.get::<_, Vec<u8>>(0)).optional();
        let Some(wrapped) = found.map_err(failed(&self.file, "read"))? else {
            return Err(GalleryError::Renewable { path: self.file.store() });
        };
        let bytes = unsealed(&self.file.key, &self.gallery, Place::Turn(id), &wrapped);
        let bytes = bytes.and_then(|bytes| <[u8; KEY]>::try_from(&bytes[..]).ok());
        let problem = "a key in it is not what was stored";
        bytes.map(Zeroizing::new).ok_or_else(|| GalleryError::damaged(&self.file.store(), problem))
    }

    /// Deletes what templates were turned by before, for ever.
    pub(crate) fn forget_turns(&self, but: Option<KeyId>) -> Result<(), GalleryError> {
        let but = but.unwrap_or(NO_KEY);
        self.change(|store| {
            store.execute("DELETE FROM turns WHERE gallery = ?1 AND id <> ?2", params![self.gallery, but]).map(drop)
        })
    }

    fn store(&self) -> MutexGuard<'_, Connection> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in a transaction that is on the disk when this returns.
    fn change<T>(&self, work: impl FnOnce(&Connection) -> Result<T, rusqlite::Error>) -> Result<T, GalleryError> {
        let mut store = self.store();
        let failed = |error| failed(&self.file, "change")(error);
        let change = store.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let done = work(&change).map_err(failed)?;
        change.commit().map(|()| done).map_err(failed)
    }

    /// Makes keys, which are durable when this returns. Those of a change that fails later are of nobody.
    pub(crate) fn make(&self, count: usize) -> Result<Vec<KeyId>, GalleryError> {
        if count == 0 {
            return Ok(Vec::new());
        }
        let new =
            (0..count).map(|_| Ok((random()?, Arc::new(new_key()?)))).collect::<Result<Vec<_>, GalleryError>>()?;
        let wrap = |(id, key): &(KeyId, Arc<Key>)| sealed(&self.file.key, &self.gallery, Place::Key(*id), &***key);
        let wrapped = new.iter().map(wrap).collect::<Result<Vec<_>, _>>()?;
        self.change(|store| {
            let mut insert = store.prepare_cached("INSERT INTO keys VALUES (?1, ?2, ?3)")?;
            new.iter()
                .zip(&wrapped)
                .try_for_each(|((id, _), wrapped)| insert.execute(params![self.gallery, id, wrapped]).map(drop))
        })?;
        let ids = new.iter().map(|(id, _)| *id).collect();
        self.keys.write().unwrap_or_else(PoisonError::into_inner).extend(new);
        Ok(ids)
    }

    /// Deletes keys for ever: nothing that was sealed under them can be opened again.
    pub(crate) fn erase(&self, ids: &[KeyId]) -> Result<(), GalleryError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.change(|store| {
            let mut delete = store.prepare_cached("DELETE FROM keys WHERE gallery = ?1 AND id = ?2")?;
            let mut note = store.prepare_cached("INSERT OR IGNORE INTO erased VALUES (?1, ?2)")?;
            ids.iter().try_for_each(|id| {
                delete.execute(params![self.gallery, id])?;
                note.execute(params![self.gallery, id]).map(drop)
            })
        })?;
        self.keys.write().unwrap_or_else(PoisonError::into_inner).retain(|id, _| !ids.contains(id));
        self.names.lock().unwrap_or_else(PoisonError::into_inner).retain(|(id, _), _| !ids.contains(id));
        Ok(())
    }

    /// A key, if it is there. Another process may have made it since these were read.
    fn key(&self, id: &KeyId) -> Result<Option<Arc<Key>>, GalleryError> {
        let known = self.keys.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if known.is_some() || *id == NO_KEY {
            return Ok(known);
        }
        let query = "SELECT wrapped FROM keys WHERE gallery = ?1 AND id = ?2";
        let found = self.store().query_row(query, params![self.gallery, id], |row| row.get::<_, Vec<u8>>(0)).optional();
        let Some(wrapped) = found.map_err(failed(&self.file, "read"))? else { return Ok(None) };
        let bytes = unsealed(&self.file.key, &self.gallery, Place::Key(*id), &wrapped);
        let bytes = bytes.and_then(|bytes| <[u8; KEY]>::try_from(&bytes[..]).ok());
        let problem = "a key in it is not what was stored";
        let bytes = bytes.ok_or_else(|| GalleryError::damaged(&self.file.store(), problem))?;
        let key = Arc::new(Zeroizing::new(bytes));
        self.keys.write().unwrap_or_else(PoisonError::into_inner).insert(*id, Arc::clone(&key));
        Ok(Some(key))
    }

    /// What became of a key.
    pub(crate) fn fate(&self, id: &KeyId) -> Result<Fate, GalleryError> {
        if self.key(id)?.is_some() {
            return Ok(Fate::There);
        }
        let query = "SELECT 1 FROM erased WHERE gallery = ?1 AND id = ?2";
        let erased = self.store().query_row(query, params![self.gallery, id], |_| Ok(())).optional();
        let erased = erased.map_err(failed(&self.file, "read"))?;
        Ok(if erased.is_some() { Fate::Erased } else { Fate::Missing })
    }

    /// A key for many rows, or what became of it.
    pub(crate) fn opener(&self, id: &KeyId) -> Result<Result<Arc<Key>, Fate>, GalleryError> {
        match self.key(id)? {
            Some(key) => Ok(Ok(key)),
            None => self.fate(id).map(Err),
        }
    }

    /// Opens what was sealed under a key; false if it is not what was sealed there.
    pub(crate) fn unseal_with(&self, key: &Key, place: Place, sealed: &[u8], bytes: &mut [u8]) -> bool {
        unseal(key, &self.gallery, place, sealed, bytes)
    }

    /// The error of a key that is not there.
    pub(crate) fn lost(&self, id: &KeyId) -> Result<GalleryError, GalleryError> {
        let path = self.file.store();
        Ok(match self.fate(id)? {
            Fate::Missing => {
                let problem =
                    "a key of the gallery is missing from it: it is older than the gallery, or of another one";
                GalleryError::damaged(&path, problem)
            }
            _ => GalleryError::Erased { path },
        })
    }

    /// Seals bytes under a key of the gallery.
    pub(crate) fn seal(&self, id: &KeyId, place: Place, bytes: &[u8], sealed: &mut [u8]) -> Result<(), GalleryError> {
        let Some(key) = self.key(id)? else { return Err(self.lost(id)?) };
        seal(&key, &self.gallery, place, bytes, sealed)
    }

    /// Opens what was sealed; none if it is not what was sealed there.
    ///
    /// # Errors
    /// If the key is not there.
    pub(crate) fn unseal(
        &self,
        id: &KeyId,
        place: Place,
        sealed: &[u8],
        bytes: &mut [u8],
    ) -> Result<bool, GalleryError> {
        let Some(key) = self.key(id)? else { return Err(self.lost(id)?) };
        Ok(unseal(&key, &self.gallery, place, sealed, bytes))
    }

    /// Bytes for the catalogue: the name of the key and what is sealed under it.
    pub(crate) fn seal_blob(&self, id: &KeyId, place: Place, bytes: &[u8]) -> Result<Vec<u8>, GalleryError> {
        let mut all = vec![0; id.len() + bytes.len() + SEAL];
        all[..id.len()].copy_from_slice(id);
        self.seal(id, place, bytes, &mut all[id.len()..])?;
        Ok(all)
    }

    /// The same as text.
    pub(crate) fn seal_text(&self, id: &KeyId, place: Place, text: &str) -> Result<String, GalleryError> {
        self.seal_blob(id, place, text.as_bytes()).map(hex::encode)
    }

    /// Opens bytes of the catalogue.
    pub(crate) fn open_blob(&self, place: Place, stored: &[u8]) -> Result<Zeroizing<Vec<u8>>, GalleryError> {
        let damaged = || GalleryError::Sealed { what: place.told() };
        let (id, sealed) = stored.split_first_chunk::<16>().ok_or_else(damaged)?;
        let mut bytes = Zeroizing::new(vec![0; sealed.len().checked_sub(SEAL).ok_or_else(damaged)?]);
        if self.unseal(id, place, sealed, &mut bytes)? { Ok(bytes) } else { Err(damaged()) }
    }

    /// Opens text of the catalogue.
    pub(crate) fn open_text(&self, place: Place, stored: &str) -> Result<String, GalleryError> {
        let damaged = || GalleryError::Sealed { what: place.told() };
        let bytes = self.open_blob(place, &hex::decode(stored).map_err(|_| damaged())?)?;
        std::str::from_utf8(&bytes).map(str::to_owned).map_err(|_| damaged())
    }

    /// Opens the name of a subject, which is remembered.
    pub(crate) fn open_name(&self, number: u32, stored: &str) -> Result<Arc<str>, GalleryError> {
        let place = Place::Name(number);
        let id = key_of(stored).ok_or(GalleryError::Sealed { what: place.told() })?;
        let names = || self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = names().get(&(id, number)) {
            return Ok(Arc::clone(known));
        }
        let name: Arc<str> = self.open_text(place, stored)?.into();
        names().insert((id, number), Arc::clone(&name));
        Ok(name)
    }

    /// Seals what is noted about the gallery.
    pub(crate) fn seal_about(&self, about: &str) -> Result<String, GalleryError> {
        sealed(&self.own, &self.gallery, Place::About, about.as_bytes()).map(hex::encode)
    }

    /// Opens it.
    pub(crate) fn open_about(&self, stored: &str) -> Result<String, GalleryError> {
        let open = || {
            let bytes = unsealed(&self.own, &self.gallery, Place::About, &hex::decode(stored).ok()?)?;
            std::str::from_utf8(&bytes).ok().map(str::to_owned)
        };
        open().ok_or(GalleryError::Sealed { what: Place::About.told() })
    }

    /// Copies all keys into the key store of another key file, wrapped by its key.
    pub(crate) fn copy_to(&self, file: &KeyFile) -> Result<Self, GalleryError> {
        if file.store() == self.file.store() {
            let problem = "it is the key file that the gallery has".to_owned();
            return Err(GalleryError::KeyFile { path: file.path.clone(), problem });
        }
        let (ids, erased, turns) = {
            let store = self.store();
            let ids = |table: &str| -> Result<Vec<KeyId>, rusqlite::Error> {
                let mut query = store.prepare(&format!("SELECT id FROM {table} WHERE gallery = ?1"))?;
                query.query_map([self.gallery], |row| row.get(0))?.collect()
            };
            let read = || Ok((ids("keys")?, ids("erased")?, ids("turns")?));
            read().map_err(failed(&self.file, "read"))?
        };
        let mut wrapped = Vec::with_capacity(ids.len());
        for id in &ids {
            let Some(key) = self.key(id)? else { return Err(self.lost(id)?) };
            wrapped.push(sealed(&file.key, &self.gallery, Place::Key(*id), &**key)?);
        }
        let mut turned = Vec::with_capacity(turns.len());
        for id in turns {
            turned.push((id, sealed(&file.key, &self.gallery, Place::Turn(id), &*self.turn(id)?)?));
        }
        let own = sealed(&file.key, &self.gallery, Place::Gallery, &*self.own)?;
        let mut store = connect(file, true)?;
        let copy = |store: &mut Connection| {
            let change = store.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // What an attempt that was interrupted left.
            forget(&change, &self.gallery)?;
            change.execute("INSERT INTO galleries VALUES (?1, ?2)", params![self.gallery, own])?;
            for (id, wrapped) in &turned {
                change.execute("INSERT INTO turns VALUES (?1, ?2, ?3)", params![self.gallery, id, wrapped])?;
            }
            for (id, wrapped) in ids.iter().zip(&wrapped) {
                let mut insert = change.prepare_cached("INSERT INTO keys VALUES (?1, ?2, ?3)")?;
                insert.execute(params![self.gallery, id, wrapped])?;
            }
            for id in &erased {
                let mut insert = change.prepare_cached("INSERT INTO erased VALUES (?1, ?2)")?;
                insert.execute(params![self.gallery, id])?;
            }
            change.commit()
        };
        copy(&mut store).map_err(failed(file, "change"))?;
        sync_parent(&file.path)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Self::of(file, self.gallery, self.own.clone(), store, keys))
    }

    /// Deletes all keys of the gallery from this key store, when another has them.
    pub(crate) fn forget(&self) -> Result<(), GalleryError> {
        self.change(|store| forget(store, &self.gallery))
    }
}

fn forget(store: &Connection, gallery: &GalleryId) -> Result<(), rusqlite::Error> {
    for table in ["galleries", "keys", "erased", "turns"] {
        store.execute(&format!("DELETE FROM {table} WHERE gallery = ?1"), [gallery])?;
    }
    Ok(())
}

impl Place {
    fn told(self) -> String {
        match self {
            Self::Name(number) => format!("the name of subject {number}"),
            Self::Source(id) => format!("the source of template {}", id.0),
            Self::Picture(id) => format!("the picture of template {}", id.0),
            Self::About => "what is noted about the gallery".to_owned(),
            Self::Values(_, row, id) | Self::Record(_, row, id) => format!("row {row}, template {}", id.0),
            Self::Key(_) | Self::Gallery | Self::Turn(_) => "a key".to_owned(),
        }
    }
}

/// The name of the key under which text of the catalogue is sealed.
pub(crate) fn key_of(stored: &str) -> Option<KeyId> {
    let mut id = NO_KEY;
    hex::decode_to_slice(stored.get(..2 * NO_KEY.len())?, &mut id).ok()?;
    (id != NO_KEY).then_some(id)
}

fn failed(file: &KeyFile, what: &'static str) -> impl FnOnce(rusqlite::Error) -> GalleryError {
    let path = file.store();
    move |error| GalleryError::Catalogue { what, path, source: error.into() }
}

/// Opens the key store of a file, or makes it.
fn connect(file: &KeyFile, create: bool) -> Result<Connection, GalleryError> {
    let path = file.store();
    if create {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&path).map_err(GalleryError::io("create", &path))?;
    }
    let open = || -> Result<(Connection, i32, i32), rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let store = Connection::open_with_flags(&path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        store.busy_timeout(PATIENCE)?;
        // A change is on the disk when it returns; what is deleted is overwritten, and no log stays behind.
        store.execute_batch(
            "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON;
             PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON;",
        )?;
        let number = |name: &str| store.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
        let (application, version) = (number("application_id")?, number("user_version")?);
        Ok((store, application, version))
    };
    let (mut store, application, version) = open().map_err(failed(file, "open"))?;
    match (application, version) {
        (APPLICATION, VERSION) => Ok(store),
        (0, 0) if create => {
            let make = |store: &mut Connection| {
                let change = store.transaction_with_behavior(TransactionBehavior::Exclusive)?;
                // Another process may have made it meanwhile.
                if change.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0))? == 0 {
                    change.execute_batch(TABLES)?;
                    change.pragma_update(None, "application_id", APPLICATION)?;
                    change.pragma_update(None, "user_version", VERSION)?;
                }
                change.commit()
            };
            make(&mut store).map_err(failed(file, "create"))?;
            Ok(store)
        }
        (APPLICATION, found) => Err(GalleryError::Version { path, found: found as u32, known: VERSION as u32 }),
        _ => Err(GalleryError::KeyFile {
            path: file.path.clone(),
            problem: format!("`{}` is no key store", path.display()),
        }),
    }
}
