//! Approximate search: it may miss, and that is all.

use std::collections::BTreeSet;
use std::path::Path;

use gallery::{
    Approximate, Ask, Engine, Filter, GalleryError, Hit, Info, Layout, Memory, NewTemplate, Rows, Selection, Snapshot,
    Store, TemplateId,
};

use crate::suite;
use crate::support::{Dice, model, normalise, scratch};

/// Indexes after every change.
struct Indexed(Approximate);

impl Engine for Indexed {
    fn enrol(&self, templates: &[NewTemplate], values: Rows<'_>) -> Result<Vec<TemplateId>, GalleryError> {
        let ids = self.0.enrol(templates, values)?;
        self.0.index()?;
        Ok(ids)
    }

    fn remove(&self, what: &Selection) -> Result<u64, GalleryError> {
        self.0.remove(what)
    }

    fn snapshot(&self) -> Result<Box<dyn Snapshot>, GalleryError> {
        self.0.snapshot()
    }

    fn info(&self) -> Result<Info, GalleryError> {
        self.0.info()
    }
}

/// Its galleries are so small that every row is looked at.
#[test]
fn the_approximate_store_keeps_every_promise() {
    let folder = scratch();
    let number = std::sync::atomic::AtomicUsize::new(0);
    suite::all(&|model| {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let store = Store::create(&folder.path().join(number.to_string()), model).unwrap();
        Box::new(Indexed(Approximate::new(store, 1)))
    });
}

const DIM: usize = 64;
const ROWS: usize = 12_000;

/// Twenty rows around each centre, so that the nearest are not just anybody.
fn clustered(dice: &mut Dice, rows: usize, centres: &[f32]) -> Vec<f32> {
    let mut values = Vec::with_capacity(rows * DIM);
    for row in 0..rows {
        let at = dice.below(centres.len() / DIM) * DIM;
        values.extend((0..DIM).map(|value| centres[at + value] + 0.7 * dice.value()));
        normalise(&mut values[row * DIM..]);
    }
    values
}

fn engines(folder: &Path, values: Rows<'_>) -> (Approximate, Memory) {
    let layout = Layout { segment_bytes: 8000 * DIM * 4, ..Layout::default() };
    let store = Store::create_with(folder, &model(DIM), layout).unwrap();
    let memory = Memory::new(model(DIM));
    let about = |row: usize| NewTemplate { camera: Some(row as u32 % 20), ..NewTemplate::default() };
    let templates: Vec<NewTemplate> = (0..values.rows()).map(about).collect();
    store.enrol(&templates, values).unwrap();
    memory.enrol(&templates, values).unwrap();
    (Approximate::new(store, 128), memory)
}

/// The share of `wanted` that was found; every similarity is the one that the plain scan has.
fn recall(found: &[Vec<Hit>], wanted: &[Vec<Hit>], similarity: impl Fn(usize, TemplateId) -> f32) -> f64 {
    let mut shares = 0.0;
    for (probe, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert_eq!(found.len(), wanted.len());
        assert!(found.windows(2).all(|two| two[0].similarity >= two[1].similarity));
        assert!(found.iter().all(|hit| hit.similarity == similarity(probe, hit.id)));
        let ids: BTreeSet<TemplateId> = found.iter().map(|hit| hit.id).collect();
        assert_eq!(ids.len(), found.len());
        shares += wanted.iter().filter(|hit| ids.contains(&hit.id)).count() as f64 / wanted.len() as f64;
    }
    shares / found.len() as f64
}

#[test]
fn most_are_found_nobody_removed_is_and_nobody_new_is_missed() {
    let mut dice = Dice(5);
    let centres: Vec<f32> = (0..ROWS / 20 * DIM).map(|_| dice.value()).collect();
    let values = clustered(&mut dice, ROWS, &centres);
    let values = Rows::new(&values, ROWS, DIM).unwrap();
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let (engine, memory) = engines(&folder, values);
    let probes = clustered(&mut dice, 100, &centres);
    let probes = Rows::new(&probes, 100, DIM).unwrap();
    let similarity = |probe: usize, id: TemplateId| metrics::dot(probes.row(probe), values.row(id.0 as usize - 1));
    let search = |engine: &dyn Engine, ask: &Ask| engine.snapshot().unwrap().search(probes, ask).unwrap();
    let ask = Ask::nearest(50);
    assert_eq!(search(&engine, &ask), search(&memory, &ask), "without an index it is exact");
    assert_eq!(engine.index().unwrap(), ROWS as u64);
    let found = search(&engine, &ask);
    let share = recall(&found, &search(&memory, &ask), similarity);
    assert!((0.94..1.0).contains(&share), "recall@50 is {share}");
    // Some of the best are removed: the next are found in their place.
    let gone: BTreeSet<TemplateId> = found.iter().flat_map(|hits| hits[..3].iter().map(|hit| hit.id)).collect();
    let what = Selection::Templates(gone.iter().copied().collect());
    engine.remove(&what).unwrap();
    memory.remove(&what).unwrap();
    let found = search(&engine, &ask);
    assert!(found.iter().flatten().all(|hit| !gone.contains(&hit.id)));
    let share = recall(&found, &search(&memory, &ask), similarity);
    assert!(share >= 0.94, "recall@50 after removal is {share}");
    // A selective filter is exact, a wide one is not wrong.
    let few = Ask { filter: Filter { cameras: Some(vec![3, 4]), ..Filter::default() }, ..Ask::nearest(50) };
    assert_eq!(search(&engine, &few), search(&memory, &few));
    let most = Filter { cameras: Some((1..20).collect()), ..Filter::default() };
    let most = Ask { filter: most, min_similarity: Some(-1.0), ..Ask::nearest(50) };
    let found = search(&engine, &most);
    assert!(found.iter().flatten().all(|hit| (hit.id.0 - 1) % 20 != 0));
    let share = recall(&found, &search(&memory, &most), similarity);
    assert!(share >= 0.94, "recall@50 with a filter is {share}");
    // Who was enrolled since is found: the probes themselves.
    let new = engine.enrol(&vec![NewTemplate::default(); 100], probes).unwrap();
    let found = search(&engine, &Ask::nearest(1));
    assert_eq!(found.iter().map(|hits| hits[0].id).collect::<Vec<_>>(), new);
    assert_eq!(engine.store().check().unwrap(), []);
}

#[test]
fn a_graph_that_leads_nowhere_or_anywhere_changes_no_similarity() {
    let mut dice = Dice(6);
    let centres: Vec<f32> = (0..60 * DIM).map(|_| dice.value()).collect();
    let values = clustered(&mut dice, 3000, &centres);
    let values = Rows::new(&values, 3000, DIM).unwrap();
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let (engine, memory) = engines(&folder, values);
    engine.index().unwrap();
    drop(engine);
    let path = folder.join("segments/00000001.graph");
    let whole = std::fs::read(&path).unwrap();
    let probes = values.slice(0..20);
    let wanted = memory.snapshot().unwrap().search(probes, &Ask::nearest(10)).unwrap();
    for turn in 0..12 {
        let mut bytes = whole.clone();
        match turn % 4 {
            0 => bytes[4096..].fill(0xFF),
            1 => bytes[4096..].iter_mut().for_each(|byte| *byte = dice.below(256) as u8),
            2 => bytes.truncate(dice.below(whole.len())),
            _ => bytes[dice.below(90)] ^= 1 << dice.below(8),
        }
        std::fs::write(&path, bytes).unwrap();
        let engine = Approximate::new(Store::open(&folder).unwrap(), 32);
        let found = engine.snapshot().unwrap().search(probes, &Ask::nearest(10)).unwrap();
        recall(&found, &wanted, |probe, id| metrics::dot(probes.row(probe), values.row(id.0 as usize - 1)));
    }
    // A copy that the walk cannot rely on: exact.
    std::fs::write(&path, &whole).unwrap();
    let copy = folder.join("segments/00000001.int8");
    let mut bytes = std::fs::read(&copy).unwrap();
    (0..100).for_each(|_| bytes[4096 + dice.below(3000 * (DIM + 16))] ^= 1);
    std::fs::write(&copy, bytes).unwrap();
    let engine = Approximate::new(Store::open(&folder).unwrap(), 32);
    assert_eq!(engine.snapshot().unwrap().search(probes, &Ask::nearest(10)).unwrap(), wanted);
}
