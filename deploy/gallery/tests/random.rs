//! Random use of a store against the same use of a gallery in memory.

use gallery::{
    Ask, Engine, Filter, KeyFile, Layout, Memory, Model, NewTemplate, Opening, Rows, Selection, Store, TemplateId,
};

use crate::support::{Dice, model, row_of, scratch, unit_rows};

const DIM: usize = 12;

/// The models that a gallery goes to and fro between.
fn models() -> [Model; 2] {
    [model(DIM), Model { contract_id: "fedcba9876543210".into(), ..model(DIM - 3) }]
}

/// The row of a template by a model.
fn embedded(id: TemplateId, by: &Model) -> Vec<f32> {
    row_of(&format!("{} by {}", id.0, by.contract_id), by.dim)
}

#[test]
fn whatever_is_done_the_store_is_the_plain_gallery() {
    let migrations: usize = (0..40).map(|seed| run(seed, false)).sum();
    assert!(migrations > 100, "{migrations} migrations");
}

#[test]
fn whatever_is_done_an_encrypted_store_is_the_plain_gallery() {
    let migrations: usize = (100..120).map(|seed| run(seed, true)).sum();
    assert!(migrations > 50, "{migrations} migrations");
}

/// Number of migrations.
fn run(seed: u64, encrypted: bool) -> usize {
    let mut dice = Dice(seed);
    let folder = scratch();
    let key = encrypted.then(|| KeyFile::create(&folder.path().join("key")).unwrap());
    let folder = folder.path().join("g");
    let layout = Layout { segment_bytes: (1 + dice.below(40)) * DIM * 4, key: key.clone(), ..Layout::default() };
    let mut store = Store::create_with(&folder, &model(DIM), layout).unwrap();
    let mut memory = Memory::new(model(DIM));
    let mut migrations = 0;
    let mut ids: Vec<TemplateId> = Vec::new();
    for step in 0..60 {
        let at = format!("seed {seed}, step {step}");
        let dim = store.model().dim;
        match dice.below(16) {
            0..4 => {
                let count = 1 + dice.below(25);
                let templates: Vec<NewTemplate> = (0..count).map(|_| template(&mut dice)).collect();
                let values = unit_rows(&mut dice, count, dim);
                let values = Rows::new(&values, count, dim).unwrap();
                let new = store.enrol(&templates, values).unwrap();
                assert_eq!(memory.enrol(&templates, values).unwrap(), new, "{at}");
                ids.extend(new);
            }
            4..6 if !ids.is_empty() => {
                let what: Vec<TemplateId> = (0..1 + dice.below(6)).map(|_| ids[dice.below(ids.len())]).collect();
                same_removal(&store, &memory, &Selection::Templates(what), &at);
            }
            6 => same_removal(&store, &memory, &Selection::Subject(format!("p{}", dice.below(30))), &at),
            7 => {
                let before = store.info().unwrap().removed;
                assert_eq!(store.compact().unwrap().rows, before, "{at}");
                assert_eq!(store.info().unwrap().removed, 0, "{at}");
            }
            8 if !encrypted => {
                store.reduce().unwrap();
                assert_eq!(store.reduce().unwrap(), 0, "{at}");
            }
            9 => {
                drop(store);
                store = Store::write_with(&folder, &Opening { wait: true, key: key.clone(), ..Opening::default() })
                    .unwrap();
            }
            // A part of the templates that are left, in order but with gaps; the last step takes their place.
            10..13 => {
                let [one, other] = models();
                let to = if *store.model() == one { other } else { one };
                store.begin_migration(&to).unwrap();
                let mut some = store.to_migrate().unwrap();
                let few = dice.below(2) == 0;
                some.retain(|_| !few || dice.below(2) == 0);
                let values: Vec<f32> = some.iter().flat_map(|id| embedded(*id, &to)).collect();
                store.stage(&some, Rows::new(&values, some.len(), to.dim).unwrap()).unwrap();
                let left = store.to_migrate().unwrap();
                let drop = dice.below(4) == 0;
                if left.is_empty() || drop {
                    let (migrated, done) = store.finish_migration(drop).unwrap();
                    assert_eq!(done.dropped, left.len() as u64, "{at}");
                    store = migrated;
                    let row = |template: &gallery::Template| {
                        left.binary_search(&template.id).is_err().then(|| embedded(template.id, &to))
                    };
                    memory = memory.migrated(to.clone(), row).unwrap();
                    assert_eq!(store.migration().unwrap(), None, "{at}");
                    migrations += 1;
                }
            }
            // One person becomes another: templates of the same rows with new ids.
            13 | 14 => {
                let people = store.people(0, 999, None).unwrap();
                if let [_, _, ..] = &people[..] {
                    let from = dice.below(people.len());
                    let into = (from + 1 + dice.below(people.len() - 1)) % people.len();
                    let (from, into) = (&people[from], &people[into]);
                    let merge = store.change(|changes| changes.merge(from.number, into.number));
                    let new = merge.map_err(|error: gallery::GalleryError| error).unwrap();
                    let now = memory.snapshot().unwrap();
                    let filter = Filter { subjects: Some(vec![from.name.clone()]), ..Filter::default() };
                    let old = now.select(&filter).unwrap();
                    let values = now.vectors(&old).unwrap().unwrap();
                    let about = now.templates(&old).unwrap().into_iter().map(|one| one.about);
                    let about = about.map(|about| NewTemplate { subject: Some(into.name.clone()), ..about });
                    let values = Rows::new(&values, old.len(), dim).unwrap();
                    assert_eq!(memory.enrol(&about.collect::<Vec<_>>(), values).unwrap(), new, "{at}");
                    memory.remove(&Selection::Subject(from.name.clone())).unwrap();
                    ids.extend(new);
                }
            }
            _ => {
                let reader = Store::open_with(&folder, key.as_ref()).unwrap();
                same_answers(&reader, &memory, &mut dice, &at);
            }
        }
        same_answers(&store, &memory, &mut dice, &at);
        let (a, b) = (store.info().unwrap(), memory.info().unwrap());
        assert_eq!((a.templates, a.subjects, &a.model), (b.templates, b.subjects, &b.model), "{at}");
        assert_eq!(store.check().unwrap(), [], "{at}");
    }
    migrations
}

fn template(dice: &mut Dice) -> NewTemplate {
    let tags: Vec<String> =
        ["day", "gate", "hat"].into_iter().filter(|_| dice.below(2) == 0).map(String::from).collect();
    NewTemplate {
        subject: (dice.below(6) > 0).then(|| format!("p{}", dice.below(30))),
        camera: (dice.below(4) > 0).then(|| dice.below(4) as u32),
        taken: (dice.below(4) > 0).then(|| dice.below(1000) as i64),
        tags,
        source: format!("{}.jpg", dice.below(1000)),
    }
}

fn same_removal(store: &Store, memory: &Memory, what: &Selection, at: &str) {
    match (store.remove(what), memory.remove(what)) {
        (Ok(a), Ok(b)) => assert_eq!(a, b, "{at}"),
        (Err(a), Err(b)) => assert_eq!(a.to_string(), b.to_string(), "{at}"),
        other => panic!("{at}: {other:?}"),
    }
}

fn same_answers(store: &Store, memory: &Memory, dice: &mut Dice, at: &str) {
    let dim = memory.info().unwrap().model.dim;
    let (store, memory) = (store.snapshot().unwrap(), memory.snapshot().unwrap());
    let filter = Filter {
        subjects: (dice.below(3) == 0).then(|| (0..10).map(|name| format!("p{name}")).collect()),
        cameras: (dice.below(3) == 0).then(|| vec![dice.below(4) as u32, 1]),
        from: (dice.below(3) == 0).then(|| dice.below(1000) as i64),
        until: (dice.below(3) == 0).then(|| dice.below(1000) as i64),
        tags: if dice.below(3) == 0 { vec!["day".into()] } else { vec![] },
    };
    for filter in [Filter::default(), filter] {
        let ids = store.select(&filter).unwrap();
        assert_eq!(memory.select(&filter).unwrap(), ids, "{at}: {filter:?}");
        assert_eq!(store.count(&filter).unwrap(), ids.len() as u64, "{at}");
        assert_eq!(store.templates(&ids).unwrap(), memory.templates(&ids).unwrap(), "{at}");
        assert_eq!(store.vectors(&ids).unwrap(), memory.vectors(&ids).unwrap(), "{at}");
        let probes = unit_rows(dice, 5, dim);
        let probes = Rows::new(&probes, 5, dim).unwrap();
        let min_similarity = (dice.below(2) == 0).then_some(0.3);
        let ask = Ask { k: 1 + dice.below(30), min_similarity, filter };
        assert_eq!(store.search(probes, &ask).unwrap(), memory.search(probes, &ask).unwrap(), "{at}: {ask:?}");
    }
}
