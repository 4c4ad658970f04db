//! The copy in eight bits is read first and changes no answer, whatever the vectors are and whatever happens to it.

use std::path::Path;

use gallery::{Ask, Engine, Filter, Hit, Layout, Memory, NewTemplate, Rows, Selection, Store, traces};

use crate::support::{Dice, enrol, model, names, normalise, row_of, scratch, unit_rows};

/// Rows that eight bits tell apart badly or not at all.
fn adversarial(dice: &mut Dice, rows: usize, dim: usize) -> Vec<f32> {
    let base: Vec<f32> = (0..dim).map(|_| dice.value()).collect();
    let mut values = Vec::with_capacity(rows * dim);
    for row in 0..rows {
        let new: Vec<f32> = match row % 6 {
            // Near one another, by less than a step of the integers.
            0 => base.iter().map(|value| value + 1e-3 * dice.value()).collect(),
            1 => base.iter().map(|value| value + 1e-6 * dice.value()).collect(),
            // One value takes all the bits; the others decide.
            2 => (0..dim).map(|at| if at == 7 % dim { 1.0 } else { 2e-3 * dice.value() }).collect(),
            3 => (0..dim).map(|at| if at == 7 % dim { 50.0 } else { base[at] }).collect(),
            // The longest rows of integers there are.
            4 => (0..dim).map(|_| if dice.below(2) == 0 { 1.0 } else { -1.0 }).collect(),
            // Halfway between two integers.
            _ => (0..dim).map(|at| if at == 0 { 127.0 } else { dice.below(100) as f32 + 0.5 }).collect(),
        };
        values.extend(new);
        normalise(&mut values[row * dim..]);
    }
    values
}

fn both(folder: &Path, values: Rows<'_>) -> (Store, Memory) {
    let dim = values.cols();
    let layout = Layout { segment_bytes: 500 * dim * 4, ..Layout::default() };
    let (store, memory) = (Store::create_with(folder, &model(dim), layout).unwrap(), Memory::new(model(dim)));
    let about = |row: usize| NewTemplate { camera: Some(row as u32 % 5), ..NewTemplate::default() };
    let templates: Vec<NewTemplate> = (0..values.rows()).map(about).collect();
    assert_eq!(store.enrol(&templates, values).unwrap(), memory.enrol(&templates, values).unwrap());
    (store, memory)
}

fn same(store: &dyn Engine, memory: &Memory, probes: Rows<'_>, at: &str) {
    let (store, memory) = (store.snapshot().unwrap(), memory.snapshot().unwrap());
    let some = Filter { cameras: Some(vec![1, 4]), ..Filter::default() };
    for filter in [Filter::default(), some] {
        for k in [1, 10, 50] {
            let ask = Ask { filter: filter.clone(), ..Ask::nearest(k) };
            assert_eq!(store.search(probes, &ask).unwrap(), memory.search(probes, &ask).unwrap(), "{at}, {ask:?}");
        }
    }
}

#[test]
fn vectors_that_eight_bits_cannot_tell_apart_are_found_exactly() {
    let cases = [
        (1500, 33, 1),
        (1500, 128, 3),
        (1200, 100, 64),
        (700, 2, 20),
        (300, 3584, 9),
        (150, 3584, 40),
        // The first rows are compared in float32; these are enough for eight bits.
        (2000, 3584, 40),
    ];
    for (rows, dim, probes) in cases {
        let mut dice = Dice(dim as u64);
        let values = adversarial(&mut dice, rows, dim);
        let values = Rows::new(&values, rows, dim).unwrap();
        let folder = scratch();
        let (store, memory) = both(&folder.path().join("g"), values);
        let other = adversarial(&mut dice, probes, dim);
        // Many probes are compared with eight bits of the rows without a copy as well.
        for copy in [false, true] {
            if copy {
                store.reduce().unwrap();
            }
            // Rows themselves are probes: their nearest differ by the last bits.
            same(&store, &memory, values.slice(0..probes), &format!("{rows} x {dim}, copy {copy}"));
            same(&store, &memory, Rows::new(&other, probes, dim).unwrap(), &format!("{rows} x {dim}, others, {copy}"));
        }
    }
}

/// Without this the other tests would pass if the copy were never read.
#[test]
fn the_copy_is_what_is_read() {
    let folder = scratch();
    let folder = folder.path().join("g");
    let (rows, dim) = (400, 64);
    let values = unit_rows(&mut Dice(1), rows, dim);
    let (store, _) = both(&folder, Rows::new(&values, rows, dim).unwrap());
    store.reduce().unwrap();
    let probe = Rows::new(&values[..dim], 1, dim).unwrap();
    let found = store.snapshot().unwrap().search(probe, &Ask::nearest(1)).unwrap();
    // The row that is least like the probe is damaged: nobody looks at it in full.
    let least = (0..rows).min_by(|a, b| {
        let similarity = |row: &usize| metrics::dot(&values[..dim], &values[row * dim..(row + 1) * dim]);
        similarity(a).total_cmp(&similarity(b))
    });
    let path = folder.join("segments/00000001.values");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 + least.unwrap() * dim * 4] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let search = || Store::open(&folder).unwrap().snapshot().unwrap().search(probe, &Ask::nearest(1));
    assert_eq!(search().unwrap(), found);
    std::fs::remove_file(folder.join("segments/00000001.int8")).unwrap();
    search().unwrap_err();
}

#[test]
fn a_copy_that_does_not_match_is_never_relied_on() {
    let (rows, dim) = (900, 24);
    let mut dice = Dice(2);
    let values = unit_rows(&mut dice, rows, dim);
    let values = Rows::new(&values, rows, dim).unwrap();
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let (store, memory) = both(&folder, values);
    store.reduce().unwrap();
    let probes = values.slice(0..40);
    let search = |at: &str| same(&Store::open(&folder).unwrap(), &memory, probes, at);
    let path = folder.join("segments/00000001.int8");
    let whole = std::fs::read(&path).unwrap();
    for turn in 0..60 {
        let mut bytes = whole.clone();
        let at = format!("turn {turn}");
        match turn % 5 {
            // A few flipped bits, the header among the places.
            0 | 1 => (0..1 + turn).for_each(|_| bytes[dice.below(whole.len())] ^= 1 << dice.below(8)),
            2 => bytes[dice.below(4096).min(60)] ^= 4,
            3 => bytes.truncate(dice.below(whole.len())),
            // Two rows have changed places.
            _ => {
                let (stride, a, b) = (dim + 16, dice.below(450), dice.below(450));
                for byte in 0..stride {
                    bytes.swap(4096 + a * stride + byte, 4096 + b * stride + byte);
                }
            }
        }
        // Not in place: this process has the file mapped.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        search(&at);
        let named = store.check().unwrap();
        let told = |problem: &gallery::Problem| problem.file == path && problem.template.is_none();
        assert!(named.iter().all(told), "{at}: {named:?}");
    }
    std::fs::remove_file(&path).unwrap();
    search("deleted");
    // Made again, from nothing and from what is there.
    assert_eq!(store.reduce().unwrap(), 500);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    let mut bytes = whole.clone();
    bytes[5000] ^= 1;
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(store.check().unwrap().len(), 1);
    assert_eq!(store.reduce().unwrap(), 500);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    assert_eq!((store.check().unwrap(), store.reduce().unwrap()), (vec![], 0));
    // The copy of another gallery.
    let other = scratch.path().join("other");
    both(&other, values).0.reduce().unwrap();
    std::fs::copy(other.join("segments/00000001.int8"), &path).unwrap();
    search("of another gallery");
    assert_eq!(store.remove_reduced().unwrap(), 2);
    search("removed");
}

#[test]
fn what_is_removed_is_erased_in_the_copy_too() {
    const DIM: usize = 300;
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["anna", "bob", "carl"], DIM).unwrap();
    store.reduce().unwrap();
    enrol(&store, &["dora"], DIM).unwrap();
    let copies = |name: &str| {
        let found = traces(&folder, &row_of(name, DIM)).unwrap();
        found.iter().filter(|trace| trace.file.ends_with("segments/00000001.int8")).count()
    };
    assert_eq!((copies("anna"), copies("bob"), copies("dora")), (2, 2, 0));
    let before = store.snapshot().unwrap();
    for name in ["bob", "dora"] {
        store.remove(&Selection::Subject(name.into())).unwrap();
        assert_eq!(traces(&folder, &row_of(name, DIM)).unwrap(), [], "{name}");
    }
    let hits = |store: &dyn gallery::Snapshot| -> Vec<Hit> {
        let row = row_of("bob", DIM);
        store.search(Rows::new(&row, 1, DIM).unwrap(), &Ask::nearest(9)).unwrap().remove(0)
    };
    assert_eq!(hits(&*before), hits(&*store.snapshot().unwrap()));
    assert_eq!(hits(&*before).len(), 2);
    assert_eq!(store.check().unwrap(), []);
    // The copy follows a compaction.
    store.compact().unwrap();
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), ["anna", "carl"]);
    assert!(folder.join("segments/00000002.int8").is_file() && !folder.join("segments/00000001.int8").exists());
    assert_eq!((store.reduce().unwrap(), store.check().unwrap()), (0, vec![]));
    // A file of something else may hold anything.
    std::fs::remove_file(folder.join("segments/00000002.int8")).unwrap();
    let row = row_of("anna", DIM);
    std::fs::write(folder.join("segments/00000002.int8"), bytemuck::cast_slice::<f32, u8>(&row)).unwrap();
    store.remove(&Selection::Subject("anna".into())).unwrap();
    assert_eq!(traces(&folder, &row).unwrap(), []);
}

/// A small row's copy says little but for its scale and its error.
#[test]
fn copies_of_small_rows_are_found() {
    for dim in [1, 2, 9, 40, 128, 200] {
        let scratch = scratch();
        let folder = scratch.path().join("g");
        let store = Store::create(&folder, &model(dim)).unwrap();
        enrol(&store, &["anna", "bob"], dim).unwrap();
        store.reduce().unwrap();
        let found = traces(&folder, &row_of("anna", dim)).unwrap();
        assert!(found.iter().any(|trace| trace.file.ends_with("segments/00000001.int8")), "{dim}: {found:?}");
    }
}
