//! People by number, their pictures, and what was found: what a service keeps beside the rows.

use gallery::{
    Engine, Found, GalleryError, LogEntry, NewTemplate, Rows, Selection, Store, TemplateId, Verdict, traces,
};

use crate::support::{enrol, model, named, names, row_of, scratch};

const DIM: usize = 16;

fn change<T>(store: &Store, work: impl FnOnce(&mut gallery::Changes<'_>) -> Result<T, GalleryError>) -> T {
    store.change(work).unwrap()
}

/// Bytes that start as a JPEG does and are found again.
fn jpeg(of: &str) -> Vec<u8> {
    [&[0xFF, 0xD8, 0xFF, 0xE0][..], format!("the picture of {of}").as_bytes()].concat()
}

fn log(store: &Store) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    assert_eq!(store.log(|entry| entries.push(entry)).unwrap(), Vec::<String>::new());
    entries
}

/// Whether any file of the gallery has the bytes.
fn has(store: &Store, bytes: &[u8]) -> bool {
    let files = ["gallery.db", "gallery.db-wal", "segments/00000001.values", "segments/00000001.rows"];
    let files = files.map(|file| std::fs::read(store.folder().join(file)).unwrap_or_default());
    files.iter().any(|file| file.windows(bytes.len()).any(|window| window == bytes))
}

#[test]
fn people_are_listed_by_number() {
    let scratch = scratch();
    let store = Store::create(&scratch.path().join("g"), &model(DIM)).unwrap();
    let ids = enrol(&store, &["Anna", "bob", "Anna", "Hannah"], DIM).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    change(&store, |changes| changes.picture(ids[0], &jpeg("Anna")));
    let people = store.people(0, 10, None).unwrap();
    let brief: Vec<_> = people.iter().map(|one| (one.number, &*one.name, one.templates, one.picture)).collect();
    assert_eq!(brief, [(1, "Anna", 2, Some(ids[0])), (2, "bob", 1, None), (3, "Hannah", 1, None)]);
    assert!(people.iter().all(|one| one.enrolled.is_some_and(|at| (now - 60_000..=now).contains(&at))), "{people:?}");
    let numbers = |after, most, containing| -> Vec<u32> {
        store.people(after, most, containing).unwrap().iter().map(|one| one.number).collect()
    };
    assert_eq!((numbers(0, 2, None), numbers(2, 9, None), numbers(3, 9, None)), (vec![1, 2], vec![3], vec![]));
    assert_eq!(
        (numbers(0, 9, Some("ANNA")), numbers(0, 1, Some("h")), numbers(0, 9, Some("%"))),
        (vec![1, 3], vec![3], vec![])
    );
    let (anna, templates) = store.person(1).unwrap().unwrap();
    assert_eq!(anna, people[0]);
    let brief: Vec<_> = templates.iter().map(|one| (one.template.id, one.picture)).collect();
    assert_eq!(brief, [(ids[0], true), (ids[2], false)]);
    assert_eq!((templates[0].template.about.clone(), store.person(4).unwrap()), (named("Anna"), None));
}

#[test]
fn pictures_go_with_their_templates() {
    let scratch = scratch();
    let store = Store::create(&scratch.path().join("g"), &model(DIM)).unwrap();
    let ids = enrol(&store, &["anna", "bob"], DIM).unwrap();
    change(&store, |changes| {
        changes.picture(ids[0], &jpeg("anna, first"))?;
        changes.picture(ids[0], &jpeg("anna"))?;
        changes.picture(ids[1], &jpeg("bob"))
    });
    assert_eq!(store.picture(ids[0]).unwrap(), Some(jpeg("anna")));
    store.remove(&Selection::Templates(vec![ids[0]])).unwrap();
    assert_eq!((store.picture(ids[0]).unwrap(), store.picture(ids[1]).unwrap()), (None, Some(jpeg("bob"))));
    assert!(has(&store, b"the picture of bob") && !has(&store, b"the picture of anna"));
    // A picture comes with the template or not at all.
    let both: Result<_, GalleryError> = store.change(|changes| {
        let new = changes.enrol(&[named("carl")], Rows::new(&row_of("carl", DIM), 1, DIM).unwrap())?;
        changes.picture(new[0], &jpeg("carl"))?;
        changes.picture(TemplateId(99), &jpeg("nobody"))
    });
    assert!(matches!(both, Err(GalleryError::NoTemplate { id: TemplateId(99) })), "{both:?}");
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), ["bob"]);
    for (bytes, told) in [(&b"GIF89a"[..], "does not start as a JPEG"), (&[0xFF; 300 << 10], "at most 262144 bytes")] {
        let error = store.change(|changes| changes.picture(ids[1], bytes)).map_err(|error: GalleryError| error);
        assert!(error.unwrap_err().to_string().contains(told));
    }
    assert_eq!(store.check().unwrap(), []);
}

#[test]
fn a_merge_gives_everything_to_the_other() {
    let scratch = scratch();
    let store = Store::create(&scratch.path().join("g"), &model(DIM)).unwrap();
    let named = |source: &str| NewTemplate { source: source.into(), ..named("anna m.") };
    let about = NewTemplate { camera: Some(3), tags: vec!["gate".into()], taken: Some(5), ..named("1.jpg") };
    let values = [row_of("x", DIM), row_of("y", DIM)].concat();
    let ids = store.enrol(&[about.clone(), named("2.jpg")], Rows::new(&values, 2, DIM).unwrap()).unwrap();
    enrol(&store, &["anna"], DIM).unwrap();
    let number = change(&store, |changes| {
        changes.picture(ids[1], &jpeg("y"))?;
        let found = Found { template: Some(ids[0]), similarity: Some(0.75), accepted: Some(true) };
        let number = changes.matched(&found)?;
        changes.review(number, Verdict::Confirmed, Some(1))?;
        Ok(number)
    });
    let before = store.person(1).unwrap().unwrap().1;
    let new = change(&store, |changes| {
        changes.on_behalf_of("desk")?;
        changes.merge(1, 2)
    });
    assert_eq!(new, [TemplateId(4), TemplateId(5)]);
    assert_eq!((store.person(1).unwrap(), store.people(0, 9, None).unwrap().len()), (None, 1));
    let (anna, templates) = store.person(2).unwrap().unwrap();
    assert_eq!((&*anna.name, anna.templates, anna.picture), ("anna", 3, Some(new[1])));
    assert_eq!(templates[1].template.about, NewTemplate { subject: Some("anna".into()), ..about });
    assert_eq!((templates[1].enrolled, templates[2].enrolled), (before[0].enrolled, before[1].enrolled));
    let now = store.snapshot().unwrap();
    assert_eq!(now.vectors(&new).unwrap().unwrap(), values);
    assert!(now.templates(&ids).is_err() && store.picture(ids[1]).unwrap().is_none());
    assert_eq!(store.picture(new[1]).unwrap(), Some(jpeg("y")));
    let found = store.matches(9).unwrap().remove(0);
    assert_eq!(
        (found.number, found.template, found.subject, found.corrected),
        (number, Some(new[0]), Some(2), Some(2))
    );
    assert_eq!((found.name.as_deref(), found.verdict), (Some("anna"), Some(Verdict::Confirmed)));
    // The old rows are overwritten, the new ones are there; the name is gone.
    assert_eq!(traces(store.folder(), &row_of("x", DIM)).unwrap().len(), DIM / 8);
    assert!(!has(&store, b"anna m."));
    let last = log(&store).pop().unwrap();
    assert_eq!((&*last.change, &*last.who, last.count, &*last.detail), ("merge", "desk", 2, "no. 1 into no. 2"));
    assert_eq!((last.templates.to_string(), last.subjects.to_string()), ("4-5".into(), "1-2".into()));
    assert_eq!(store.check().unwrap(), []);
    for (from, into, told) in [(1, 2, "number 1"), (2, 1, "number 1"), (2, 2, "another one")] {
        let error = store.change(|changes| changes.merge(from, into)).map_err(|error: GalleryError| error);
        assert!(error.unwrap_err().to_string().contains(told), "{from} into {into}");
    }
    // Rows that were enrolled in the same change can be merged, too.
    let new = change(&store, |changes| {
        let bob = NewTemplate { subject: Some("bob".into()), ..named("3.jpg") };
        changes.enrol(&[bob], Rows::new(&row_of("bob", DIM), 1, DIM).unwrap())?;
        changes.merge(3, 2)
    });
    assert_eq!(store.snapshot().unwrap().vectors(&new).unwrap().unwrap(), row_of("bob", DIM));
    assert_eq!(store.check().unwrap(), []);
}

#[test]
fn matches_are_kept_for_a_while_and_go_with_whom_they_are_about() {
    let scratch = scratch();
    let store = Store::create(&scratch.path().join("g"), &model(DIM)).unwrap();
    let ids = enrol(&store, &["anna", "bob"], DIM).unwrap();
    let found = |id| Found { template: Some(id), similarity: Some(0.5), accepted: Some(false) };
    change(&store, |changes| {
        changes.matched(&found(ids[0]))?;
        changes.matched(&found(ids[1]))?;
        changes.matched(&Found::default())?;
        // Somebody who was removed since the search.
        changes.matched(&found(TemplateId(77)))?;
        changes.review(2, Verdict::Wrong, Some(1))
    });
    let brief = |store: &Store| -> Vec<_> {
        let all = store.matches(9).unwrap();
        all.iter().map(|one| (one.number, one.template, one.subject, one.verdict, one.corrected)).collect()
    };
    assert_eq!(
        brief(&store),
        [
            (4, None, None, None, None),
            (3, None, None, None, None),
            (2, Some(ids[1]), Some(2), Some(Verdict::Wrong), Some(1)),
            (1, Some(ids[0]), Some(1), None, None),
        ]
    );
    let said: Vec<_> = log(&store)[2..].iter().map(|entry| (entry.change.clone(), entry.detail.clone())).collect();
    let said: Vec<_> = said.iter().map(|(change, detail)| (&**change, &**detail)).collect();
    assert_eq!(
        said,
        [
            ("match", "no. 1: similarity 0.5000, rejected"),
            ("match", "no. 2: similarity 0.5000, rejected"),
            ("match", "no. 3: no hit"),
            ("match", "no. 4: similarity 0.5000, rejected"),
            ("review", "no. 2: wrong"),
        ]
    );
    // Who somebody is said to be goes as well as who was found.
    change(&store, |changes| changes.remove_person(1));
    assert_eq!(brief(&store).iter().map(|one| one.0).collect::<Vec<_>>(), [4, 3]);
    for (number, subject, told) in [(2, None, "match 2"), (3, Some(1), "number 1")] {
        let error = store.change(|changes| changes.review(number, Verdict::Wrong, subject));
        assert!(error.map_err(|error: GalleryError| error).unwrap_err().to_string().contains(told));
    }
    change(&store, |changes| (0..1100).try_for_each(|_| changes.matched(&found(ids[1])).map(drop)));
    let all = store.matches(usize::MAX).unwrap();
    assert_eq!((all.len(), all[0].number), (1000, 1104));
    // Numbers are never used again.
    store.remove(&Selection::Subject("bob".into())).unwrap();
    assert_eq!(store.matches(9).unwrap(), []);
    assert_eq!(change(&store, |changes| changes.matched(&Found::default())), 1105);
    assert_eq!(store.check().unwrap(), []);
}

#[test]
fn who_asks_is_noted_and_so_are_refusals() {
    let scratch = scratch();
    let store = Store::create(&scratch.path().join("g"), &model(DIM)).unwrap();
    change(&store, |changes| {
        changes.on_behalf_of("front desk")?;
        changes.enrol(&[named("anna")], Rows::new(&row_of("anna", DIM), 1, DIM).unwrap())?;
        changes.denied("DELETE /v1/subjects: role match, enrol is needed")
    });
    let entries = log(&store);
    assert!(entries[0].who.starts_with("user "), "{:?}", entries[0]);
    let said: Vec<_> = entries[1..].iter().map(|one| (&*one.who, &*one.change, &*one.detail)).collect();
    let denied = ("front desk", "deny", "DELETE /v1/subjects: role match, enrol is needed");
    assert!(said.contains(&denied) && said.contains(&("front desk", "enrol", "")), "{said:?}");
    let long = "x".repeat(300);
    for what in ["a\nb", &long] {
        let error = store.change(|changes| changes.denied(what)).map_err(|error: GalleryError| error);
        assert!(matches!(error, Err(GalleryError::Field { what: "refusal", .. })));
        let error = store.change(|changes| changes.on_behalf_of(what)).map_err(|error: GalleryError| error);
        assert!(matches!(error, Err(GalleryError::Field { .. })));
    }
    assert_eq!(log(&store).len(), 3);
}
