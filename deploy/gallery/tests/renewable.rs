//! Renewable templates: searched as they are, worthless under another key.

use std::path::Path;

use gallery::{Ask, Engine, Filter, GalleryError, KeyFile, Layout, Memory, NewTemplate, Rows, Selection, Store};

use crate::support::{Dice, copy, model, normalise, scratch};

/// How far similarities of turned rows may be from those of the rows: two roundings to float32 of each value, and the
/// sums of both comparisons in float32.
const BOUND: f32 = 1e-6;

/// Rows of people: `each` around a centre, all centres random.
fn people(dice: &mut Dice, people: usize, each: usize, dim: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(people * each * dim);
    for _ in 0..people {
        let centre: Vec<f32> = (0..dim).map(|_| dice.value()).collect();
        for _ in 0..each {
            let start = all.len();
            all.extend(centre.iter().map(|value| value + 0.5 * dice.value()));
            normalise(&mut all[start..]);
        }
    }
    all
}

fn create(folder: &Path, dim: usize, key: &KeyFile) -> Store {
    let layout = Layout { key: Some(key.clone()), renewable: true, ..Layout::default() };
    Store::create_with(folder, &model(dim), layout).unwrap()
}

fn enrol(engine: &dyn Engine, values: &[f32], dim: usize) {
    let rows = values.len() / dim;
    let about = |row: usize| NewTemplate { subject: Some(format!("p{}", row / 4)), ..NewTemplate::default() };
    let about: Vec<NewTemplate> = (0..rows).map(about).collect();
    engine.enrol(&about, Rows::new(values, rows, dim).unwrap()).unwrap();
}

#[test]
fn ranks_and_similarities_are_those_of_plain_templates() {
    for (dim, count) in [(64, 60), (512, 60), (3584, 20)] {
        let scratch = scratch();
        let key = KeyFile::create(&scratch.path().join("key")).unwrap();
        let mut dice = Dice(dim as u64);
        let values = people(&mut dice, count, 4, dim);
        let (mut store, memory) = (create(&scratch.path().join("g"), dim, &key), Memory::new(model(dim)));
        enrol(&store, &values, dim);
        enrol(&memory, &values, dim);
        let probes = people(&mut Dice(dim as u64), count, 4, dim);
        let probes = Rows::new(&probes, count * 4, dim).unwrap().slice(0..count.min(40));
        let plain = memory.snapshot().unwrap();
        for renewal in 0..3 {
            let now = store.snapshot().unwrap();
            for ask in [Ask::nearest(10), Ask { filter: some(), ..Ask::nearest(3) }] {
                let (found, wanted) = (now.search(probes, &ask).unwrap(), plain.search(probes, &ask).unwrap());
                for (found, wanted) in found.iter().zip(&wanted) {
                    assert_eq!(found.len(), wanted.len());
                    for (at, (found, wanted)) in found.iter().zip(wanted).enumerate() {
                        let off = (found.similarity - wanted.similarity).abs();
                        assert!(off <= BOUND, "{dim}, renewal {renewal}, rank {at}: off by {off:e}");
                    }
                    let ids = |hits: &[gallery::Hit]| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
                    assert_eq!(ids(found), ids(wanted), "{dim}, renewal {renewal}");
                }
            }
            let ids = now.select(&Filter::default()).unwrap();
            let back = now.vectors(&ids).unwrap().unwrap();
            let off = back.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-6, "{dim}: rows come back off by {off:e}");
            store = store.renew_templates().unwrap();
            assert!(store.is_renewable());
        }
        assert_eq!(store.check().unwrap(), []);
        // Who comes and goes later, too.
        store.remove(&Selection::Subject("p0".into())).unwrap();
        let probe = Rows::new(&values[..dim], 1, dim).unwrap();
        assert!(store.snapshot().unwrap().search(probe, &Ask::nearest(1)).unwrap()[0][0].similarity < 0.6);
    }
}

fn some() -> Filter {
    Filter { subjects: Some((0..20).map(|number| format!("p{}", number * 2)).collect()), ..Filter::default() }
}

/// A copy from before a renewal is of no use to anybody.
#[test]
fn a_copy_from_before_a_renewal_is_refused() {
    let dim = 64;
    let scratch = scratch();
    let key = KeyFile::create(&scratch.path().join("key")).unwrap();
    let folder = scratch.path().join("g");
    let values = people(&mut Dice(3), 10, 4, dim);
    let store = create(&folder, dim, &key);
    enrol(&store, &values, dim);
    let backup = scratch.path().join("backup");
    copy(&folder, &backup);
    drop(store.renew_templates().unwrap());
    let error = Store::open_with(&backup, Some(&key)).unwrap_err();
    assert!(matches!(error, GalleryError::Renewable { .. }), "{error}");
    // A gallery that was only encrypted becomes renewable.
    let layout = Layout { key: Some(key.clone()), ..Layout::default() };
    let store = Store::create_with(&scratch.path().join("h"), &model(dim), layout).unwrap();
    enrol(&store, &values, dim);
    let store = store.renew_templates().unwrap();
    assert!(store.is_renewable());
    // It may get the rows of another model.
    let other = gallery::Model { contract_id: "fedcba9876543210".into(), ..model(dim + 1) };
    store.begin_migration(&other).unwrap();
    let ids = store.to_migrate().unwrap();
    let new = people(&mut Dice(4), 10, 4, dim + 1);
    store.stage(&ids, Rows::new(&new, 40, dim + 1).unwrap()).unwrap();
    assert!(store.snapshot().is_ok());
    let (store, _) = store.finish_migration(false).unwrap();
    let hits = store.snapshot().unwrap().search(Rows::new(&new, 40, dim + 1).unwrap(), &Ask::nearest(1)).unwrap();
    assert!(hits.iter().zip(&ids).all(|(hits, id)| hits[0].id == *id && hits[0].similarity > 1.0 - BOUND));
    // What they are turned by is kept with the keys: without an encrypted gallery there is none.
    let error = Store::create(&scratch.path().join("p"), &model(dim)).unwrap().renew_templates().unwrap_err();
    assert!(matches!(error, GalleryError::Unsupported { .. }), "{error}");
    let layout = Layout { renewable: true, ..Layout::default() };
    let error = Store::create_with(&scratch.path().join("n"), &model(dim), layout).unwrap_err();
    assert!(matches!(error, GalleryError::Unsupported { .. }), "{error}");
}
