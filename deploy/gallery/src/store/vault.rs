//! Encrypted galleries: how one is opened, becomes one and gets another key.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use metrics::Rows;
use serde::Serialize;

use super::changes::Target;
use super::{Exclusive, SEALED_SEGMENT_BYTES, Store, segment_rows};
use crate::catalogue::{Act, Change, Extent, Facts, Note, Place};
use crate::id::KeyId;
use crate::segment::{Header, Record};
use crate::turn::Turn;
use crate::vault::{KeyFile, Vault};
use crate::{GalleryError, TemplateId};

/// Memory that holds decrypted rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct HeldMemory {
    /// Bytes.
    pub bytes: usize,
    /// How many of them the system keeps out of its swap space. It may allow that for a few only (`ulimit -l`).
    pub locked: usize,
}

/// The keys of a gallery, if it is encrypted.
pub(super) fn unlock(folder: &Path, facts: &Facts, key: Option<&KeyFile>) -> Result<Option<Arc<Vault>>, GalleryError> {
    let path = folder.to_owned();
    match (facts.sealed, key) {
        (false, None) => Ok(None),
        (false, Some(key)) => Err(GalleryError::NotEncrypted { path, key: key.path().to_owned() }),
        (true, None) => Err(GalleryError::KeyNeeded { path }),
        (true, Some(key)) => Ok(Some(Arc::new(Vault::open(key, facts.gallery, folder)?))),
    }
}

impl Store {
    /// Whether the gallery in a folder is encrypted, which is seen without its key.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn is_encrypted_at(folder: &Path) -> Result<bool, GalleryError> {
        let catalogue = crate::catalogue::Catalogue::open(folder, false)?;
        catalogue.hold()?;
        Ok(catalogue.facts()?.sealed)
    }

    /// Whether the gallery is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.facts.sealed
    }

    /// The memory that holds decrypted rows now.
    pub fn held_memory(&self) -> HeldMemory {
        let all = self.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().map(|segment| segment.memory()).fold(HeldMemory::default(), |sum, (bytes, locked)| HeldMemory {
            bytes: sum.bytes + bytes,
            locked: sum.locked + locked,
        })
    }

    /// Fails if what is derived from rows would lie on the disk in plain.
    pub(super) fn plain_on_disk(&self) -> Result<(), GalleryError> {
        let why = "it is encrypted, and a copy or a graph of its rows would lie on the disk in plain";
        if self.facts.sealed { Err(GalleryError::Unsupported { what: "be indexed", why }) } else { Ok(()) }
    }

    /// Encrypts a gallery, in one change. Copies and graphs of its rows are gone, and so are the files of its plain
    /// rows; but the disk may keep what was in them until it writes there again.
    ///
    /// # Errors
    /// [`GalleryError::Encrypted`]; if the gallery is migrating to another model, or a row is damaged. The gallery is
    /// then as it was, and to be opened again.
    pub fn encrypt(mut self, key: &KeyFile) -> Result<Self, GalleryError> {
        if self.facts.sealed {
            return Err(GalleryError::Encrypted { path: self.folder.clone() });
        }
        if self.writer()?.catalogue.next()?.is_some() {
            let why = "it is migrating to another model; finish that first, or give it up";
            return Err(GalleryError::Unsupported { what: "be encrypted", why });
        }
        let vault = Arc::new(Vault::create(key, self.facts.gallery, &self.folder)?);
        let dim = self.facts.model.dim;
        let rows = self.facts.segment_rows.min(segment_rows(SEALED_SEGMENT_BYTES, dim));
        self.rewrite(&vault, rows, |change| change.seal_all(&vault).map(Some), |values| values)?;
        self.facts = Facts { sealed: true, segment_rows: rows, ..self.facts };
        self.mapped = Default::default();
        self.reduced = Default::default();
        self.vault = Some(Arc::clone(&vault));
        {
            let mut writer = self.writer()?;
            writer.segments = writer.segments.sealing(Arc::clone(&vault));
            writer.catalogue.set_keys(vault);
            let left = || {
                writer.segments.sweep(&writer.catalogue.in_use()?)?;
                writer.catalogue.tidy()
            };
            let plain_left = |source| GalleryError::PlainLeft { path: self.folder.clone(), source: Box::new(source) };
            left().map_err(plain_left)?;
        }
        Ok(self)
    }

    /// Writes all rows anew, sealed, after `work` in one change; rows of removed templates are gone. `work` may have
    /// new keys of templates, `turn` makes of values what is stored instead.
    fn rewrite(
        &self,
        vault: &Arc<Vault>,
        rows: usize,
        work: impl FnOnce(&mut Change<'_>) -> Result<Option<HashMap<TemplateId, KeyId>>, GalleryError>,
        turn: impl Fn(Vec<f32>) -> Vec<f32>,
    ) -> Result<(), GalleryError> {
        let mut writer = self.writer()?;
        self.erase(&mut writer)?;
        let Exclusive { catalogue, segments, .. } = &mut *writer;
        let (extents, dim) = (catalogue.segments()?, self.facts.model.dim);
        let dead: Vec<TemplateId> = catalogue.removed()?.into_iter().map(|(id, _)| id).collect();
        let sealing = segments.sealing(Arc::clone(vault));
        let mut change = catalogue.change()?;
        let keys = work(&mut change)?;
        let key_of = |record: &Record| match &keys {
            None => Ok(record.key),
            Some(keys) => keys.get(&record.id).copied().ok_or(GalleryError::NoTemplate { id: record.id }),
        };
        extents.iter().try_for_each(|extent| change.drop_segment(extent.segment))?;
        change.set_segment_rows(rows)?;
        let to = Target { change: &change, segments: &sealing, place: Place::Live, rows };
        let mut last: Option<Extent> = None;
        for extent in extents {
            let old = self.map(extent)?;
            for start in (0..extent.rows).step_by(Self::COPY) {
                let (mut values, mut records) = (Vec::new(), Vec::new());
                for row in start..extent.rows.min(start + Self::COPY) {
                    let (record, row) = old.checked_row(row).map_err(|bad| bad.error)?;
                    if dead.binary_search(&record.id).is_err() {
                        records.push(Record { key: key_of(&record)?, ..record });
                        values.extend_from_slice(&row);
                    }
                }
                let values = turn(values);
                for (record, values) in records.iter_mut().zip(values.chunks_exact(dim)) {
                    let values = bytemuck::cast_slice(values);
                    record.values = Record::checksum(&self.facts.gallery, record.id, values);
                }
                let values = Rows::new(&values, records.len(), dim).expect("rows of as many values");
                last = to.append(|segment| Header { sealed: true, ..self.header(segment) }, last, values, &records)?;
            }
        }
        change.forget(&dead)?;
        change.commit()
    }

    /// Whether templates are renewable: stored as a key of the key store turns them.
    pub fn is_renewable(&self) -> bool {
        self.turn.is_some()
    }

    /// Turns all templates of an encrypted gallery by a new key, in one change, and deletes the one that they were
    /// turned by before: what somebody stole of them is worth nothing from then on, and neither is a copy of the
    /// gallery from before. They are renewable afterwards if they were not.
    ///
    /// # Errors
    /// If the gallery is not encrypted or is migrating to another model, or a row is damaged. It is then as it was, and
    /// to be opened again.
    pub fn renew_templates(mut self) -> Result<Self, GalleryError> {
        let Some(vault) = self.vault.clone() else {
            let why = "it is not encrypted; what they are turned by is kept with the keys";
            return Err(GalleryError::Unsupported { what: "have renewable templates", why });
        };
        if self.writer()?.catalogue.next()?.is_some() {
            let why = "it is migrating to another model; finish that first, or give it up";
            return Err(GalleryError::Unsupported { what: "be renewed", why });
        }
        let id = vault.make_turn()?;
        let dim = self.facts.model.dim;
        let new = Turn::new(&*vault.turn(id)?, dim);
        let rows = self.facts.segment_rows;
        let note = |change: &mut Change<'_>| {
            change.set_turn(id)?;
            change.note(&Note::of(Act::Renew, 0)).map(|()| None)
        };
        let turn = |values: Vec<f32>| {
            let plain = self.turn.as_ref().map_or_else(|| values.clone(), |old| old.back(&values));
            new.turned(Rows::new(&plain, plain.len() / dim, dim).expect("whole rows"))
        };
        self.rewrite(&vault, rows, note, turn)?;
        self.facts.turn = Some(id);
        self.mapped = Default::default();
        self.turn = Some(Arc::new(new));
        {
            let writer = self.writer()?;
            let left = || {
                vault.forget_turns(Some(id))?;
                writer.segments.sweep(&writer.catalogue.in_use()?)?;
                writer.catalogue.tidy()
            };
            let old_left = |source| GalleryError::OldRowsLeft { path: self.folder.clone(), source: Box::new(source) };
            left().map_err(old_left)?;
        }
        Ok(self)
    }

    /// Wraps the keys of an encrypted gallery by the key of another file and takes them out of the key store that they
    /// were in. The rows are not touched. Repeating it after a crash finishes it.
    ///
    /// # Errors
    /// If the gallery is not encrypted, or the other file is the one it has; what the disk refuses.
    pub fn rotate_key(mut self, key: &KeyFile) -> Result<Self, GalleryError> {
        let Some(old) = self.vault.take() else {
            return Err(GalleryError::NotEncrypted { path: self.folder.clone(), key: key.path().to_owned() });
        };
        let new = Arc::new(old.copy_to(key)?);
        {
            let mut writer = self.writer()?;
            let change = writer.catalogue.change()?;
            change.note(&Note::of(Act::RotateKey, 0))?;
            change.commit()?;
            writer.segments = writer.segments.sealing(Arc::clone(&new));
            writer.catalogue.set_keys(Arc::clone(&new));
        }
        self.vault = Some(new);
        old.forget()?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Ask, Engine, Layout, Model, NewTemplate};

    const DIM: usize = 128;
    const PEOPLE: usize = 150;

    /// Templates of a person.
    const EACH: usize = 4;

    /// Rows of people around random centres.
    fn people() -> Vec<f32> {
        let mut state = 11_u64;
        let mut value = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        let mut all: Vec<f32> = Vec::new();
        for _ in 0..PEOPLE {
            let centre: Vec<f32> = (0..DIM).map(|_| value()).collect();
            for _ in 0..EACH {
                let row: Vec<f32> = centre.iter().map(|centre| centre + 0.5 * value()).collect();
                let length = row.iter().map(|value| value * value).sum::<f32>().sqrt();
                all.extend(row.iter().map(|value| value / length));
            }
        }
        all
    }

    fn create(folder: &Path, key: &KeyFile, values: &[f32]) -> Store {
        let model = Model { contract_id: "0123456789abcdef".into(), dim: DIM, ..Model::default() };
        let layout = Layout { key: Some(key.clone()), renewable: true, ..Layout::default() };
        let store = Store::create_with(folder, &model, layout).unwrap();
        let rows = values.len() / DIM;
        store.enrol(&vec![NewTemplate::default(); rows], Rows::new(values, rows, DIM).unwrap()).unwrap();
        store
    }

    /// What is stored, which whoever stole the disk and the keys of the rows, but not what turns them, would have.
    fn stolen(store: &Store) -> Vec<f32> {
        let extents = store.catalogue().unwrap().segments().unwrap();
        extents.into_iter().flat_map(|extent| store.map(extent).unwrap().values().data().to_vec()).collect()
    }

    fn row(of: &[f32], at: usize) -> &[f32] {
        &of[at * DIM..(at + 1) * DIM]
    }

    #[test]
    fn templates_of_two_keys_are_strangers() {
        let scratch = tempfile::tempdir().unwrap();
        let key = KeyFile::create(&scratch.path().join("key")).unwrap();
        let values = people();
        let [a, b] = ["a", "b"].map(|name| stolen(&create(&scratch.path().join(name), &key, &values)));
        let rows = PEOPLE * EACH;
        let same = |one: usize, other: usize| one / EACH == other / EACH;
        let (mut mated, mut strangers, mut first) = (Vec::new(), Vec::new(), 0);
        for probe in 0..rows {
            let scores: Vec<f32> = (0..rows).map(|at| metrics::dot(row(&a, probe), row(&b, at))).collect();
            let best = (0..rows).max_by(|one, other| scores[*one].total_cmp(&scores[*other])).unwrap();
            first += usize::from(same(best, probe));
            for (at, score) in scores.into_iter().enumerate() {
                if same(at, probe) { mated.push(score) } else { strangers.push(score) }
            }
        }
        let d_sys = linkability(&mated, &strangers);
        // The first few of the others, as if they were mated: what the measure makes of chance.
        let (some, rest) = strangers.split_at(mated.len());
        let chance = linkability(some, rest);
        // Within a gallery people are near themselves, as before: all of this is from the key.
        let within: Vec<f32> =
            (0..rows).map(|at| metrics::dot(row(&a, at), row(&a, at / EACH * EACH + (at + 1) % EACH))).collect();
        let linked = linkability(&within, &strangers);
        let (by_chance, least) = (rows as f64 / PEOPLE as f64, within.iter().copied().fold(f32::MAX, f32::min));
        let matched = mated.iter().filter(|score| **score >= least).count();
        println!(
            "{first} of {rows} are first across keys, {by_chance:.0} by chance; {matched} of {} comparisons across \
             keys reach the similarity that all of a person reach within a gallery; D_sys {d_sys:.4}, {chance:.4} of \
             strangers, {linked:.4} under one key",
            mated.len()
        );
        // 4 of 600 by chance, and 16 or more once in a hundred thousand times.
        assert!(first < 16, "{first} of {rows} are found across keys");
        assert!(matched == 0 && linked > 0.95, "{matched} across keys; D_sys {linked} under one");
        assert!(d_sys < 0.1, "D_sys {d_sys}, {chance} of strangers");
    }

    /// The global measure of linkability of Gomez-Barrero et al. (2018), 0 to 1, from scores of mated and other
    /// pairs, with as many of both in doubt as not (omega 1) and densities in 40 bins of equal width.
    fn linkability(mated: &[f32], strangers: &[f32]) -> f64 {
        const BINS: usize = 40;
        let all = || mated.iter().chain(strangers);
        let (low, high) = all().fold((f32::MAX, f32::MIN), |(low, high), score| (low.min(*score), high.max(*score)));
        let density = |scores: &[f32]| {
            let mut bins = [0.0; BINS];
            for score in scores {
                let at = ((score - low) / (high - low) * BINS as f32) as usize;
                bins[at.min(BINS - 1)] += 1.0 / scores.len() as f64;
            }
            bins
        };
        let pairs = density(mated).into_iter().zip(density(strangers));
        let local = |(mated, strangers): (f64, f64)| {
            let ratio = if strangers > 0.0 { mated / strangers } else { f64::INFINITY };
            let linked = if ratio <= 1.0 {
                0.0
            } else if ratio.is_infinite() {
                1.0
            } else {
                2.0 * ratio / (1.0 + ratio) - 1.0
            };
            linked * mated
        };
        pairs.map(local).sum()
    }

    #[test]
    fn renewal_makes_what_was_stolen_worthless() {
        let scratch = tempfile::tempdir().unwrap();
        let key = KeyFile::create(&scratch.path().join("key")).unwrap();
        let values = people();
        let store = create(&scratch.path().join("g"), &key, &values);
        let before = stolen(&store);
        // As probes they find nobody now, and nobody in the gallery of tomorrow.
        let rows = Rows::new(&before, before.len() / DIM, DIM).unwrap();
        let best = |store: &Store| {
            let hits = store.snapshot().unwrap().search(rows, &Ask::nearest(1)).unwrap();
            hits.iter().map(|hits| hits[0].similarity).fold(f32::MIN, f32::max)
        };
        assert!(best(&store) < 0.6, "{}", best(&store));
        let store = store.renew_templates().unwrap();
        assert!(best(&store) < 0.6, "{}", best(&store));
        let after = stolen(&store);
        let alike = (0..before.len() / DIM).filter(|at| metrics::dot(row(&before, *at), row(&after, *at)) > 0.5);
        assert_eq!(alike.count(), 0);
    }
}
