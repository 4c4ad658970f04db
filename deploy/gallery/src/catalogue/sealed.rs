//! What is different in the catalogue of an encrypted gallery: names, sources and pictures are sealed under the keys of
//! their subjects, whose names stand before them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::{Act, Catalogue, Change, Note, Sql, add_subject, id_of, signed};
use crate::id::KeyId;
use crate::vault::{Fate, Place, Vault, key_of};
use crate::{GalleryError, NewTemplate, TemplateId};

/// Numbers of subjects with their names as they are stored.
pub(super) fn subjects(connection: &Connection) -> Sql<Vec<(u32, String)>> {
    let mut all = connection.prepare_cached("SELECT number, name FROM subjects ORDER BY number")?;
    all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Numbers and names of keys by the names of subjects.
pub(super) fn numbers(vault: &Vault, all: &[(u32, String)]) -> Result<HashMap<Arc<str>, (u32, KeyId)>, GalleryError> {
    let open = |(number, stored): &(u32, String)| {
        Ok((vault.open_name(*number, stored)?, (*number, key_of(stored).unwrap_or_default())))
    };
    all.iter().map(open).collect()
}

/// Notes that the key of a stored text is to be deleted.
pub(super) fn doom(connection: &Connection, stored: &str) -> Sql<()> {
    let Some(key) = key_of(stored) else { return Ok(()) };
    connection.prepare_cached("INSERT OR IGNORE INTO doomed VALUES (?1)")?.execute([key]).map(drop)
}

/// The same of all keys.
pub(super) fn doom_all(connection: &Connection) -> Sql<()> {
    let mut all = connection.prepare("SELECT name FROM subjects UNION ALL SELECT source FROM templates")?;
    let all: Vec<String> = all.query_map([], |row| row.get(0))?.collect::<Sql<_>>()?;
    all.iter().try_for_each(|stored| doom(connection, stored))
}

impl Catalogue {
    /// Keys that are to be deleted.
    pub(crate) fn doomed(&self) -> Result<Vec<KeyId>, GalleryError> {
        if self.vault.is_none() {
            return Ok(Vec::new());
        }
        self.read("read", |connection| {
            connection.prepare("SELECT key FROM doomed")?.query_map([], |row| row.get(0))?.collect()
        })
    }

    /// Templates whose key was deleted from the key store, which a copy of the gallery from before still has. A key
    /// that is missing for no reason is an error.
    pub(crate) fn erased(&self) -> Result<Vec<TemplateId>, GalleryError> {
        let Some(vault) = &self.vault else { return Ok(Vec::new()) };
        let sources = self.read("read", |connection| {
            let mut all = connection.prepare("SELECT id, source FROM templates ORDER BY id")?;
            let mut rows = all.query([])?;
            let mut found: BTreeMap<KeyId, Vec<TemplateId>> = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let key = key_of(row.get_ref(1)?.as_str()?).unwrap_or_default();
                found.entry(key).or_default().push(id_of(row, 0)?);
            }
            Ok(found)
        })?;
        let mut erased = Vec::new();
        for (key, ids) in sources {
            match vault.fate(&key)? {
                Fate::There => {}
                Fate::Erased => erased.extend(ids),
                Fate::Missing => return Err(vault.lost(&key)?),
            }
        }
        erased.sort_unstable();
        Ok(erased)
    }

    /// The names of the keys of templates, in the order asked for.
    pub(crate) fn keys_of(&self, ids: &[TemplateId]) -> Result<Vec<KeyId>, GalleryError> {
        if self.vault.is_none() {
            return Ok(vec![KeyId::default(); ids.len()]);
        }
        self.read("read", |connection| ids.iter().map(|id| key_of_template(connection, *id)).collect())
    }
}

/// The name of the key of a template.
fn key_of_template(connection: &Connection, id: TemplateId) -> Sql<KeyId> {
    let mut query = connection.prepare_cached("SELECT source FROM templates WHERE id = ?1")?;
    let source: String = query.query_row([signed(id.0)], |row| row.get(0))?;
    Ok(key_of(&source).unwrap_or_default())
}

impl Change<'_> {
    /// The numbers of the subjects of templates and the names of their keys; new subjects are added. A template of
    /// nobody has a key of its own.
    pub(super) fn sealed_owners(
        &self,
        vault: &Vault,
        templates: &[NewTemplate],
    ) -> Result<Vec<(Option<u32>, KeyId)>, GalleryError> {
        let mut known = numbers(vault, &self.run(subjects)?)?;
        let named = templates.iter().filter_map(|template| template.subject.as_deref());
        let new: BTreeSet<&str> = named.filter(|name| !known.contains_key(*name)).collect();
        let nobody = templates.iter().filter(|template| template.subject.is_none()).count();
        let mut keys = vault.make(new.len() + nobody)?.into_iter();
        let mut key = || keys.next().expect("a key for each");
        // Numbers in the order of the templates, as in a gallery that is not encrypted.
        let mut owners = Vec::with_capacity(templates.len());
        for template in templates {
            let Some(name) = template.subject.as_deref() else {
                owners.push((None, key()));
                continue;
            };
            if let Some((number, key)) = known.get(name) {
                owners.push((Some(*number), *key));
                continue;
            }
            let key = key();
            let mut failed = None;
            let number = self.run(|connection| {
                add_subject(connection, |number| {
                    let sealed = vault.seal_text(&key, Place::Name(number), name);
                    Ok(sealed.unwrap_or_else(|error| {
                        failed = Some(error);
                        String::new()
                    }))
                })
            })?;
            if let Some(error) = failed {
                return Err(error);
            }
            known.insert(name.into(), (number, key));
            owners.push((Some(number), key));
        }
        Ok(owners)
    }

    /// The key store has deleted these keys.
    pub(crate) fn forget_doomed(&self, keys: &[KeyId]) -> Result<(), GalleryError> {
        self.run(|connection| {
            let mut delete = connection.prepare_cached("DELETE FROM doomed WHERE key = ?1")?;
            keys.iter().try_for_each(|key| delete.execute([key]).map(drop))
        })
    }

    /// The name of the key of a template.
    pub(crate) fn key_of(&self, id: TemplateId) -> Result<KeyId, GalleryError> {
        self.run(|connection| key_of_template(connection, id))
    }

    /// Makes it the catalogue of an encrypted gallery: seals all that is said. Returns the names of the keys of its
    /// templates.
    pub(crate) fn seal_all(&mut self, vault: &Arc<Vault>) -> Result<HashMap<TemplateId, KeyId>, GalleryError> {
        type Row = (TemplateId, Option<u32>, String);
        let (names, rows, pictures, about) = self.run(|connection| {
            connection.execute_batch(include_str!("../schema_sealed.sql"))?;
            let mut rows = connection.prepare("SELECT id, subject, source FROM templates ORDER BY id")?;
            let rows = rows.query_map([], |row| Ok((id_of(row, 0)?, row.get(1)?, row.get(2)?)))?;
            let rows: Vec<Row> = rows.collect::<Sql<_>>()?;
            let mut pictures = connection.prepare("SELECT template FROM pictures")?;
            let pictures: Vec<TemplateId> = pictures.query_map([], |row| id_of(row, 0))?.collect::<Sql<_>>()?;
            Ok((subjects(connection)?, rows, pictures, super::fact::<String>(connection, "about")?))
        })?;
        let nobody = rows.iter().filter(|(_, subject, _)| subject.is_none()).count();
        let mut keys = vault.make(names.len() + nobody)?.into_iter();
        let mut key = || keys.next().expect("a key for each");
        let mut of_subject = HashMap::new();
        for (number, name) in names {
            let key = key();
            let sealed = vault.seal_text(&key, Place::Name(number), &name)?;
            self.run(|connection| {
                let mut update = connection.prepare_cached("UPDATE subjects SET name = ?2 WHERE number = ?1")?;
                update.execute(params![number, sealed])
            })?;
            of_subject.insert(number, key);
        }
        let mut of_template = HashMap::new();
        for (id, subject, source) in rows {
            let key = subject.map_or_else(&mut key, |subject| of_subject.get(&subject).copied().unwrap_or_default());
            let sealed = vault.seal_text(&key, Place::Source(id), &source)?;
            self.run(|connection| {
                let mut update = connection.prepare_cached("UPDATE templates SET source = ?2 WHERE id = ?1")?;
                update.execute(params![signed(id.0), sealed])
            })?;
            of_template.insert(id, key);
        }
        for id in pictures {
            let read = "SELECT jpeg FROM pictures WHERE template = ?1";
            let plain: Vec<u8> =
                self.run(|connection| connection.prepare_cached(read)?.query_row([signed(id.0)], |row| row.get(0)))?;
            let sealed = vault.seal_blob(&of_template[&id], Place::Picture(id), &plain)?;
            self.run(|connection| {
                let mut update = connection.prepare_cached("UPDATE pictures SET jpeg = ?2 WHERE template = ?1")?;
                update.execute(params![signed(id.0), sealed])
            })?;
        }
        self.vault = Some(Arc::clone(vault));
        if !about.is_empty() {
            self.describe(&about)?;
        }
        self.note(&Note::of(Act::Encrypt, of_template.len() as u64))?;
        Ok(of_template)
    }
}
