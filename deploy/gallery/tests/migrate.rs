//! A gallery becomes one of another model, while it is searched.

use gallery::{Ask, Engine, Filter, GalleryError, Migrated, Model, NewTemplate, Rows, Selection, Store, TemplateId};

use crate::support::{enrol, model, named, names, row_of, scratch};

const DIM: usize = 8;
const NEW: usize = 12;

fn other() -> Model {
    Model { contract_id: "fedcba9876543210".into(), ..model(NEW) }
}

fn stage(store: &Store, ids: &[u64], who: &[&str]) {
    let ids: Vec<TemplateId> = ids.iter().copied().map(TemplateId).collect();
    let values: Vec<f32> = who.iter().flat_map(|name| row_of(name, NEW)).collect();
    store.stage(&ids, Rows::new(&values, ids.len(), NEW).unwrap()).unwrap();
}

fn left(store: &Store) -> Vec<u64> {
    store.to_migrate().unwrap().iter().map(|id| id.0).collect()
}

#[test]
fn all_that_is_said_stays_and_the_old_rows_are_searched_until_the_end() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    let about = |name: &str, camera| NewTemplate {
        camera: Some(camera),
        taken: Some(1_700_000_000_000 + i64::from(camera)),
        tags: vec!["gate".into(), "hat".into()],
        ..named(name)
    };
    let rows = ["anna", "bob", "carl"].map(|name| row_of(name, DIM)).concat();
    store.enrol(&[about("anna", 1), about("bob", 2), about("carl", 3)], Rows::new(&rows, 3, DIM).unwrap()).unwrap();
    let reader = Store::open(&folder).unwrap();
    let before = reader.snapshot().unwrap();
    let told = before.templates(&before.select(&Filter::default()).unwrap()).unwrap();

    assert!(matches!(store.stage(&[], Rows::new(&[], 0, NEW).unwrap()), Err(GalleryError::NoMigration { .. })));
    assert_eq!(left(&store), [1, 2, 3]);
    store.begin_migration(&other()).unwrap();
    stage(&store, &[2], &["bob"]);
    assert_eq!(left(&store), [1, 3]);
    let migration = reader.migration().unwrap().unwrap();
    assert_eq!((migration.model, migration.templates), (other(), 1));
    assert_eq!(names(&*reader.snapshot().unwrap(), DIM), ["anna", "bob", "carl"], "it is searched as it was");
    assert_eq!(store.check().unwrap(), []);
    // Another model is another migration.
    let third = Model { contract_id: "00000000000000aa".into(), ..model(NEW) };
    assert!(matches!(store.begin_migration(&third), Err(GalleryError::OtherMigration { .. })));
    // Rows of the wrong width.
    let narrow = store.stage(&[TemplateId(1)], Rows::new(&row_of("anna", DIM), 1, DIM).unwrap());
    assert!(matches!(narrow, Err(GalleryError::Dimension { found: DIM, wanted: NEW })), "{narrow:?}");

    // The process ends, and another goes on.
    drop(store);
    let store = Store::write(&folder, false).unwrap();
    store.begin_migration(&other()).unwrap();
    assert_eq!(left(&store), [1, 3]);
    let error = store.finish_migration(false).unwrap_err();
    assert!(matches!(error, GalleryError::NotMigrated { templates: 2, .. }), "{error}");
    let store = Store::write(&folder, false).unwrap();
    assert_eq!(store.model(), &model(DIM));
    stage(&store, &[1, 3], &["anna", "carl"]);
    let (store, done) = store.finish_migration(false).unwrap();
    assert_eq!(done, Migrated { templates: 3, dropped: 0, indexed: false });
    assert_eq!((store.model(), store.migration().unwrap()), (&other(), None));
    let now = store.snapshot().unwrap();
    assert_eq!(now.templates(&now.select(&Filter::default()).unwrap()).unwrap(), told);
    assert_eq!(names(&*now, NEW), ["anna", "bob", "carl"]);
    assert_eq!(store.check().unwrap(), []);
    // Who searched before goes on with what there was; who opens it anew has the new model.
    let hits = before.search(Rows::new(&row_of("carl", DIM), 1, DIM).unwrap(), &Ask::nearest(1)).unwrap();
    assert_eq!(hits[0][0].id, TemplateId(3));
    assert!(matches!(reader.snapshot(), Err(GalleryError::Renewed { .. })));
    assert_eq!(names(&*Store::open(&folder).unwrap().snapshot().unwrap(), NEW), ["anna", "bob", "carl"]);
    let mut last = None;
    assert!(store.log(|entry| last = Some(entry)).unwrap().is_empty());
    let last = last.unwrap();
    assert_eq!((&*last.change, last.count, &*last.templates.to_string()), ("migrate", 3, "1-3"));
    assert_eq!(last.contract_id, other().contract_id);
    // The next ids are new ones.
    assert_eq!(enrol(&store, &["dora"], NEW).unwrap(), [TemplateId(4)]);
}

/// Sources of pictures that moved are those of the last time that a template was staged, from the end on.
#[test]
fn sources_change_with_the_rows() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["anna", "bob", "carl", "dora"], DIM).unwrap();
    let sources = |store: &Store| -> Vec<String> {
        let now = store.snapshot().unwrap();
        let all = now.templates(&now.select(&Filter::default()).unwrap()).unwrap();
        all.into_iter().map(|template| template.about.source).collect()
    };
    let before = sources(&store);
    store.begin_migration(&other()).unwrap();
    let moved = |ids: &[u64], who: &[&str], sources: &[&str]| {
        let ids: Vec<TemplateId> = ids.iter().copied().map(TemplateId).collect();
        let values: Vec<f32> = who.iter().flat_map(|name| row_of(name, NEW)).collect();
        let sources: Vec<String> = sources.iter().map(|source| (*source).to_owned()).collect();
        store.stage_moved(&ids, Rows::new(&values, ids.len(), NEW).unwrap(), &sources)
    };
    moved(&[1, 2, 3], &["anna", "bob", "carl"], &["x/anna.jpg", "x/bob.jpg", "x/carl.jpg"]).unwrap();
    stage(&store, &[2, 4], &["bob", "dora"]);
    moved(&[3], &["carl"], &["y/carl.jpg"]).unwrap();
    let long = "x".repeat(20_000);
    assert!(matches!(moved(&[4], &["dora"], &[&long]), Err(GalleryError::Field { what: "source", .. })));
    assert_eq!(sources(&store), before);
    assert_eq!(store.check().unwrap(), []);
    // Of somebody who goes nothing is left.
    store.remove(&Selection::Subject("anna".into())).unwrap();
    let (store, done) = store.finish_migration(false).unwrap();
    assert_eq!(done.templates, 3);
    assert_eq!(sources(&store), ["bob.jpg", "y/carl.jpg", "dora.jpg"]);
    assert_eq!(store.check().unwrap(), []);
    // What was given up is forgotten.
    store.begin_migration(&model(DIM)).unwrap();
    let ids = [TemplateId(4)];
    store.stage_moved(&ids, Rows::new(&row_of("dora", DIM), 1, DIM).unwrap(), &["z/dora.jpg".into()]).unwrap();
    store.abandon_migration().unwrap();
    store.begin_migration(&model(DIM)).unwrap();
    stage_old(&store);
    let (store, _) = store.finish_migration(false).unwrap();
    assert_eq!(sources(&store), ["bob.jpg", "y/carl.jpg", "dora.jpg"]);
}

/// Stages the three that are left, in the first model.
fn stage_old(store: &Store) {
    let values = ["bob", "carl", "dora"].map(|name| row_of(name, DIM)).concat();
    store.stage(&[2, 3, 4].map(TemplateId), Rows::new(&values, 3, DIM).unwrap()).unwrap();
}

/// Between two runs somebody comes, somebody goes, and the gallery is compacted.
#[test]
fn what_is_enrolled_and_removed_meanwhile_is_carried_over() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["anna", "bob", "carl", "dora"], DIM).unwrap();
    store.begin_migration(&other()).unwrap();
    stage(&store, &[1, 2, 4], &["anna", "bob", "dora"]);
    enrol(&store, &["eve"], DIM).unwrap();
    store.remove(&Selection::Subject("bob".into())).unwrap();
    for dim in [DIM, NEW] {
        assert_eq!(gallery::traces(&folder, &row_of("bob", dim)).unwrap(), [], "{dim} values");
    }
    store.compact().unwrap();
    assert_eq!((left(&store), store.migration().unwrap().unwrap().templates), (vec![3, 5], 2));
    assert_eq!(store.check().unwrap(), []);
    // Whom nobody can embed goes, if that is asked for.
    stage(&store, &[5], &["eve"]);
    let (store, done) = store.finish_migration(true).unwrap();
    assert_eq!((done.templates, done.dropped), (3, 1));
    assert_eq!(names(&*store.snapshot().unwrap(), NEW), ["anna", "dora", "eve"]);
    assert_eq!(store.check().unwrap(), []);
    let mut said = Vec::new();
    store.log(|entry| said.push((entry.change, entry.command, entry.templates.to_string()))).unwrap();
    let line = |change: &str, command: &str, ids: &str| (change.to_owned(), command.to_owned(), ids.to_owned());
    assert_eq!(said[said.len() - 2..], [line("remove", "migrate", "3"), line("migrate", "migrate", "1 4-5")]);
    // The place of the one who was removed is given back.
    assert_eq!(store.info().unwrap().removed, 1);
    assert_eq!(store.compact().unwrap().rows, 1);
    assert_eq!(names(&*store.snapshot().unwrap(), NEW), ["anna", "dora", "eve"]);
}

#[test]
fn a_migration_that_is_given_up_leaves_nothing() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["anna", "bob"], DIM).unwrap();
    assert!(!store.abandon_migration().unwrap());
    store.begin_migration(&other()).unwrap();
    stage(&store, &[1], &["anna"]);
    assert!(store.abandon_migration().unwrap());
    assert_eq!((store.migration().unwrap(), left(&store)), (None, vec![1, 2]));
    assert_eq!(gallery::traces(&folder, &row_of("anna", NEW)).unwrap(), []);
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), ["anna", "bob"]);
    assert_eq!(store.check().unwrap(), []);
    // So does a gallery that is made anew.
    store.begin_migration(&other()).unwrap();
    stage(&store, &[2], &["bob"]);
    let (store, ()) = store.renew(&model(DIM), |_| Ok::<_, GalleryError>(())).unwrap();
    assert_eq!((store.migration().unwrap(), store.info().unwrap().templates), (None, 0));
    assert_eq!(gallery::traces(&folder, &row_of("bob", NEW)).unwrap(), []);
    assert_eq!(store.check().unwrap(), []);
}

/// Whoever is refused is told why it may take hours.
#[test]
fn who_is_refused_is_told_of_the_migration() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["anna"], DIM).unwrap();
    assert!(matches!(Store::write(&folder, false), Err(GalleryError::Locked(_))));
    store.begin_migration(&other()).unwrap();
    let error = Store::write(&folder, false).unwrap_err();
    assert!(matches!(error, GalleryError::Migrating { .. }), "{error}");
    let told = error.to_string();
    assert!(told.contains(&format!("process {}", std::process::id())) && told.contains("fedcba9876543210"), "{told}");
}

/// Staged rows that are damaged never come to be searched.
#[test]
fn damaged_rows_do_not_take_the_place_of_good_ones() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["anna", "bob"], DIM).unwrap();
    store.begin_migration(&other()).unwrap();
    stage(&store, &[1, 2], &["anna", "bob"]);
    drop(store);
    let path = folder.join("segments/00000002.values");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[4096 + 5] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let store = Store::write(&folder, false).unwrap();
    let told = store.check().unwrap();
    assert!(matches!(&told[..], [one] if one.problem.contains("row 0, template 1")), "{told:?}");
    let error = store.finish_migration(false).unwrap_err();
    assert!(matches!(error, GalleryError::Damaged { .. }), "{error}");
    let store = Store::write(&folder, false).unwrap();
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), ["anna", "bob"]);
    assert!(store.abandon_migration().unwrap());
    assert_eq!(store.check().unwrap(), []);
}
