//! Random use of a store against the same use of a gallery in memory.

use gallery::{Ask, Engine, Filter, Layout, Memory, NewTemplate, Rows, Selection, Snapshot, Store, TemplateId};

use crate::support::{Dice, model, scratch, unit_rows};

const DIM: usize = 12;

#[test]
fn whatever_is_done_the_store_is_the_plain_gallery() {
    for seed in 0..30 {
        run(seed);
    }
}

fn run(seed: u64) {
    let mut dice = Dice(seed);
    let folder = scratch();
    let folder = folder.path().join("g");
    let layout = Layout { segment_bytes: (1 + dice.below(40)) * DIM * 4, ..Layout::default() };
    let mut store = Store::create_with(&folder, &model(DIM), layout).unwrap();
    let memory = Memory::new(model(DIM));
    let mut ids: Vec<TemplateId> = Vec::new();
    for step in 0..60 {
        let at = format!("seed {seed}, step {step}");
        match dice.below(11) {
            0..4 => {
                let count = 1 + dice.below(25);
                let templates: Vec<NewTemplate> = (0..count).map(|_| template(&mut dice)).collect();
                let values = unit_rows(&mut dice, count, DIM);
                let values = Rows::new(&values, count, DIM).unwrap();
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
            8 => {
                store.reduce().unwrap();
                assert_eq!(store.reduce().unwrap(), 0, "{at}");
            }
            9 => {
                drop(store);
                store = Store::write(&folder, true).unwrap();
            }
            _ => {
                let reader = Store::open(&folder).unwrap();
                same_answers(&*reader.snapshot().unwrap(), &*memory.snapshot().unwrap(), &mut dice, &at);
            }
        }
        same_answers(&*store.snapshot().unwrap(), &*memory.snapshot().unwrap(), &mut dice, &at);
        let (a, b) = (store.info().unwrap(), memory.info().unwrap());
        assert_eq!((a.templates, a.subjects), (b.templates, b.subjects), "{at}");
    }
    assert_eq!(store.check().unwrap(), [], "seed {seed}");
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

fn same_answers(store: &dyn Snapshot, memory: &dyn Snapshot, dice: &mut Dice, at: &str) {
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
        let probes = unit_rows(dice, 5, DIM);
        let probes = Rows::new(&probes, 5, DIM).unwrap();
        let min_similarity = (dice.below(2) == 0).then_some(0.3);
        let ask = Ask { k: 1 + dice.below(30), min_similarity, filter };
        assert_eq!(store.search(probes, &ask).unwrap(), memory.search(probes, &ask).unwrap(), "{at}: {ask:?}");
    }
}
