//! Rows of another model, which are to take the place of those that are searched.

use rusqlite::{Connection, OptionalExtension};

use super::{
    Catalogue, Change, Extent, Numbers, Place, Sql, extents, fact, id_of, opened, set_fact, signed, templates, unsigned,
};
use crate::id::KeyId;
use crate::{GalleryError, Model, NewTemplate, TemplateId};

/// Sources that take the place of those that templates have, once the gallery is one of the next model. There is such a
/// table while a gallery migrates, at most; its rows go with their templates.
const MOVED: &str = "CREATE TABLE IF NOT EXISTS moved
    (template INTEGER PRIMARY KEY REFERENCES templates ON DELETE CASCADE, source TEXT NOT NULL) STRICT;";

/// What a gallery migrates to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Next {
    pub(crate) model: Model,
    /// Rows after which another segment is begun.
    pub(crate) segment_rows: usize,
}

impl Catalogue {
    /// What the gallery migrates to, if it does.
    pub(crate) fn next(&self) -> Result<Option<Next>, GalleryError> {
        let next = self.read("read", |connection| {
            let Some(contract_id) = fact::<String>(connection, "next_contract_id").optional()? else {
                return Ok(None);
            };
            let model = Model {
                contract_id,
                dim: unsigned(fact(connection, "next_dim")?),
                architecture: fact(connection, "next_architecture")?,
                sha256: fact(connection, "next_model_sha256")?,
            };
            Ok(Some(Next { model, segment_rows: unsigned(fact(connection, "next_segment_rows")?) }))
        })?;
        match next {
            Some(next) if !(1..=crate::MAX_DIM).contains(&next.model.dim) || next.segment_rows == 0 => {
                let problem = format!("it says {} values a row of the next model", next.model.dim);
                Err(GalleryError::damaged(&self.path, problem))
            }
            next => Ok(next),
        }
    }

    /// Segments of the next model, in the order in which they were made.
    pub(crate) fn staged(&self) -> Result<Vec<Extent>, GalleryError> {
        if self.version()? < super::LOGGED {
            return Ok(Vec::new());
        }
        self.read("read", |connection| extents(connection, Place::Staged))
    }

    /// Numbers of all segments that the catalogue knows.
    pub(crate) fn in_use(&self) -> Result<Vec<u64>, GalleryError> {
        Ok(self.segments()?.iter().chain(&self.staged()?).map(|extent| extent.segment).collect())
    }

    /// Fields of templates as numbers, in the order asked for.
    pub(crate) fn numbers_of(&self, ids: &[TemplateId]) -> Result<Vec<Numbers>, GalleryError> {
        super::found(self.read("read", |connection| {
            let mut query =
                connection.prepare_cached("SELECT id, subject, camera, taken, tags FROM templates WHERE id = ?1")?;
            let mut one = |id: &TemplateId| query.query_row([signed(id.0)], Numbers::of).optional();
            ids.iter().map(|id| one(id).map(|found| found.ok_or(*id))).collect::<Sql<Vec<_>>>()
        })?)
    }

    /// Ids of all templates, in order.
    pub(crate) fn ids(&self) -> Result<Vec<TemplateId>, GalleryError> {
        self.read("read", |connection| {
            connection.prepare("SELECT id FROM templates ORDER BY id")?.query_map([], |row| id_of(row, 0))?.collect()
        })
    }
}

impl Change<'_> {
    /// Begins a migration.
    pub(crate) fn set_next(&self, Next { model, segment_rows }: &Next) -> Result<(), GalleryError> {
        self.run(|connection| {
            let set = |key: &str, value: &dyn rusqlite::ToSql| {
                connection.execute("INSERT INTO facts VALUES (?1, ?2)", rusqlite::params![key, value]).map(drop)
            };
            set("next_contract_id", &model.contract_id)?;
            set("next_dim", &(model.dim as i64))?;
            set("next_architecture", &model.architecture)?;
            set("next_model_sha256", &model.sha256)?;
            set("next_segment_rows", &(*segment_rows as i64))
        })
    }

    /// Notes the next sources of templates, one for each, or that they stay. Their keys are those of an encrypted
    /// gallery.
    pub(crate) fn set_moved(
        &self,
        owners: &[(TemplateId, KeyId)],
        sources: Option<&[String]>,
    ) -> Result<(), GalleryError> {
        self.run(|connection| {
            connection.execute_batch(MOVED)?;
            let mut delete = connection.prepare_cached("DELETE FROM moved WHERE template = ?1")?;
            owners.iter().try_for_each(|(id, _)| delete.execute([signed(id.0)]).map(drop))
        })?;
        for ((id, key), source) in owners.iter().zip(sources.unwrap_or_default()) {
            let place = crate::vault::Place::Source(*id);
            let sealed = self.vault.as_ref().map(|vault| vault.seal_text(key, place, source)).transpose()?;
            let source = sealed.as_ref().unwrap_or(source);
            let insert = "INSERT INTO moved VALUES (?1, ?2)";
            self.run(|connection| connection.prepare_cached(insert)?.execute((signed(id.0), source)).map(drop))?;
        }
        Ok(())
    }

    /// Whether a source changes.
    pub(crate) fn any_moved(&self) -> Result<bool, GalleryError> {
        self.run(|connection| {
            connection.execute_batch(MOVED)?;
            connection.prepare("SELECT 1 FROM moved")?.exists([])
        })
    }

    /// What is said about templates with their next sources; none of those whose source stays.
    pub(crate) fn moved(&self, ids: &[TemplateId]) -> Result<Vec<Option<NewTemplate>>, GalleryError> {
        let (stored, sources) = self.run(|connection| {
            let mut source = connection.prepare_cached("SELECT source FROM moved WHERE template = ?1")?;
            let mut source = |id: &TemplateId| source.query_row([signed(id.0)], |row| row.get(0)).optional();
            let sources: Vec<Option<String>> = ids.iter().map(&mut source).collect::<Sql<_>>()?;
            Ok((templates(connection, ids)?, sources))
        })?;
        let vault = self.vault.as_deref();
        let next = |(template, source): (crate::Template, Option<String>)| {
            let Some(mut source) = source else { return Ok(None) };
            if let Some(vault) = vault {
                source = vault.open_text(crate::vault::Place::Source(template.id), &source)?;
            }
            Ok(Some(NewTemplate { source, ..template.about }))
        };
        opened(vault, stored)?.into_iter().zip(sources).map(next).collect()
    }

    /// Forgets the staged segments and what they were for.
    pub(crate) fn forget_next(&self) -> Result<(), GalleryError> {
        self.run(forget)
    }

    /// Forgets the staged segments, whose rows are written anew.
    pub(crate) fn forget_staged(&self) -> Result<(), GalleryError> {
        self.run(|connection| connection.execute("DELETE FROM staged", [])).map(drop)
    }

    /// Makes the staged segments those that are searched, and their model the gallery's. `gone` are templates that have
    /// an overwritten row in them.
    pub(crate) fn switch(&self, Next { model, segment_rows }: &Next, gone: &[TemplateId]) -> Result<(), GalleryError> {
        self.run(|connection| {
            connection.execute_batch(MOVED)?;
            connection.execute_batch(
                "UPDATE templates SET source = (SELECT source FROM moved WHERE template = id)
                 WHERE id IN (SELECT template FROM moved);
                 DELETE FROM segments; DELETE FROM removed;
                 INSERT INTO segments SELECT number, first, rows FROM staged;",
            )?;
            let mut insert = connection.prepare_cached("INSERT INTO removed VALUES (?1, 1)")?;
            gone.iter().try_for_each(|id| insert.execute([signed(id.0)]).map(drop))?;
            set_model(connection, model, *segment_rows)?;
            forget(connection)
        })
    }
}

/// Makes it a gallery of `model`.
pub(super) fn set_model(connection: &Connection, model: &Model, segment_rows: usize) -> Sql<()> {
    set_fact(connection, "contract_id", &model.contract_id)?;
    set_fact(connection, "dim", &(model.dim as i64))?;
    set_fact(connection, "architecture", &model.architecture)?;
    set_fact(connection, "model_sha256", &model.sha256)?;
    set_fact(connection, "segment_rows", &(segment_rows as i64))
}

pub(super) fn forget(connection: &Connection) -> Sql<()> {
    connection
        .execute_batch("DELETE FROM staged; DELETE FROM facts WHERE key GLOB 'next_*'; DROP TABLE IF EXISTS moved;")
}
