//! What was done to a gallery is noted with it, and stays as it was noted.

use std::path::Path;

use gallery::{Engine, GalleryError, LogEntry, Model, NewTemplate, Rows, Selection, Store, TemplateId, traces};
use rusqlite::{Connection, params};
use sha2::Digest;

use crate::support::{enrol, model, names, row_of, scratch};

const DIM: usize = 8;

fn log(folder: &Path) -> Vec<LogEntry> {
    let mut entries = Vec::new();
    assert_eq!(Store::open(folder).unwrap().log(|entry| entries.push(entry)).unwrap(), Vec::<String>::new());
    entries
}

fn database(folder: &Path) -> Connection {
    Connection::open(folder.join("gallery.db")).unwrap()
}

/// What each record says: change, command, count, ids, numbers of subjects.
fn said(entry: &LogEntry) -> (&str, &str, u64, String, String) {
    (&entry.change, &entry.command, entry.count, entry.templates.to_string(), entry.subjects.to_string())
}

fn all(entries: &[LogEntry]) -> Vec<(&str, &str, u64, String, String)> {
    entries.iter().map(said).collect()
}

fn line<'a>(
    change: &'a str,
    command: &'a str,
    count: u64,
    ids: &str,
    subjects: &str,
) -> (&'a str, &'a str, u64, String, String) {
    (change, command, count, ids.to_owned(), subjects.to_owned())
}

#[test]
fn every_change_is_noted_with_it() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["anna", "bob", "anna"], DIM).unwrap();
    let nobody = NewTemplate { source: "x.jpg".into(), ..NewTemplate::default() };
    store.enrol(&[nobody], Rows::new(&row_of("x", DIM), 1, DIM).unwrap()).unwrap();
    store.remove(&Selection::Subject("anna".into())).unwrap();
    store.compact().unwrap();
    let both: Result<(), GalleryError> = store.change(|changes| {
        changes.by("sync");
        let carl = row_of("carl", DIM);
        changes.enrol(&[crate::support::named("carl")], Rows::new(&carl, 1, DIM).unwrap())?;
        changes.remove(&Selection::Subject("bob".into())).map(drop)
    });
    both.unwrap();
    // What fails is not noted.
    store.remove(&Selection::Subject("bob".into())).unwrap_err();
    let wanted = [
        line("make", "make", 0, "", ""),
        line("enrol", "enrol", 3, "1-3", "1-2"),
        line("enrol", "enrol", 1, "4", ""),
        line("remove", "remove", 2, "1 3", "1"),
        line("compact", "compact", 2, "1 3", ""),
        line("remove", "sync", 1, "2", "2"),
        line("enrol", "sync", 1, "5", "3"),
    ];
    let entries = log(&folder);
    assert_eq!(all(&entries), wanted);
    assert_eq!(entries[6].names, ["carl"]);
    assert!(entries[1].names.is_empty(), "who is removed has no name any more");
    for (at, entry) in entries.iter().enumerate() {
        assert_eq!((entry.number, &*entry.contract_id), (at as u64 + 1, "0123456789abcdef"));
        assert!(entry.program.starts_with("vitrine ") && entry.at > 1_700_000_000_000, "{entry:?}");
    }
    let other = Model { contract_id: "fedcba9876543210".into(), ..model(DIM) };
    let (store, ()) = store
        .renew(&other, |changes| {
            changes.by("embed");
            changes.enrol(&[crate::support::named("dora")], Rows::new(&row_of("dora", DIM), 1, DIM).unwrap()).map(drop)
        })
        .map_err(|error: GalleryError| error)
        .unwrap();
    let entries = log(&folder);
    assert_eq!(all(&entries[7..]), [line("clear", "embed", 2, "", ""), line("enrol", "embed", 1, "6", "4")]);
    assert_eq!(entries[8].contract_id, "fedcba9876543210");
    assert_eq!(store.check().unwrap(), []);
}

/// Neither the values of who was removed nor the name.
#[test]
fn a_log_keeps_nothing_of_who_is_removed() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["anna", "zacharias"], DIM).unwrap();
    store.remove(&Selection::Subject("zacharias".into())).unwrap();
    assert_eq!(traces(&folder, &row_of("zacharias", DIM)).unwrap(), []);
    for file in ["gallery.db", "gallery.db-wal"] {
        let bytes = std::fs::read(folder.join(file)).unwrap_or_default();
        assert!(!bytes.windows(9).any(|window| window == b"zacharias"), "{file}");
    }
    assert_eq!(all(&log(&folder))[2], line("remove", "remove", 1, "2", "2"));
}

#[test]
fn a_record_that_is_changed_later_is_found() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["anna", "bob"], DIM).unwrap();
    store.remove(&Selection::Subject("bob".into())).unwrap();
    enrol(&store, &["carl"], DIM).unwrap();
    drop(store);
    let good = std::fs::read(folder.join("gallery.db")).unwrap();
    for (edit, told) in [
        ("UPDATE log SET count = 3 WHERE number = 2", "record 2 of the log"),
        ("UPDATE log SET change = 'enrol' WHERE number = 3", "record 3 of the log"),
        ("UPDATE log SET at = at + 1 WHERE number = 1", "record 1 of the log"),
        ("UPDATE log SET templates = 'all' WHERE number = 2", "after number 1"),
        ("UPDATE log SET program = 'another' WHERE number = 4", "record 4 of the log"),
        ("UPDATE log SET contract_id = 'x' WHERE number = 4", "record 4 of the log"),
        ("UPDATE log SET subjects = '' WHERE number = 3", "record 3 of the log"),
        ("UPDATE log SET command = 'sync' WHERE number = 3", "record 3 of the log"),
        ("DELETE FROM log WHERE number = 3", "record 4 after record 2"),
        ("DELETE FROM log WHERE number = 4", "ends with record 3"),
        ("DELETE FROM log", "ends with record 0"),
        ("UPDATE log SET who = 'somebody else' WHERE number = 3", "record 3 of the log"),
        ("UPDATE log SET who = '' WHERE number = 3", "record 3 of the log"),
        ("UPDATE log SET detail = 'x' WHERE number = 3", "record 3 of the log"),
        ("UPDATE log SET number = -number WHERE number > 2; UPDATE log SET number = 7 + number WHERE number < 0",
         "record 3 of the log"),
        ("INSERT INTO log SELECT 5, at, change, command, count, templates, subjects, program, contract_id, hash, who,
          detail FROM log WHERE number = 4", "record 5 of the log"),
    ] {
        database(&folder).execute_batch(edit).unwrap();
        let store = Store::open(&folder).unwrap();
        let problems = store.check().unwrap();
        assert!(problems.iter().any(|found| found.problem.contains(told)), "{edit}: {problems:?}");
        assert_eq!(names(&*store.snapshot().unwrap(), DIM), ["anna", "carl"], "{edit}");
        drop(store);
        for left in ["gallery.db-wal", "gallery.db-shm"] {
            let _ = std::fs::remove_file(folder.join(left));
        }
        std::fs::write(folder.join("gallery.db"), &good).unwrap();
    }
    assert_eq!(Store::open(&folder).unwrap().check().unwrap(), []);
    // The log of another gallery, whole as it is, is not this one's.
    let other = scratch.path().join("h");
    let store = Store::create(&other, &model(DIM)).unwrap();
    enrol(&store, &["anna", "bob"], DIM).unwrap();
    drop(store);
    let database = database(&folder);
    database.execute("ATTACH ?1 AS other", [other.join("gallery.db").to_str().unwrap()]).unwrap();
    database.execute_batch("DELETE FROM log; INSERT INTO log SELECT * FROM other.log").unwrap();
    drop(database);
    let problems = Store::open(&folder).unwrap().check().unwrap();
    assert!(problems.iter().any(|found| found.problem.contains("record 1 of the log")), "{problems:?}");
}

/// Whoever knows how can cut the end of a log off so that the rest is a chain; a hash that was kept tells that.
#[test]
fn a_cut_end_is_found_by_a_hash_that_was_kept() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["anna", "bob"], DIM).unwrap();
    let early = store.log_head().unwrap().unwrap();
    store.remove(&Selection::Subject("bob".into())).unwrap();
    let head = store.log_head().unwrap().unwrap();
    let verify = |head: &str| Store::open(&folder).unwrap().verify_log(Some(head)).unwrap();
    assert_eq!((verify(&early), verify(&head)), (vec![], vec![]));
    drop(store);
    let database = database(&folder);
    database.execute_batch("DELETE FROM log WHERE number = 3").unwrap();
    database.execute("UPDATE facts SET value = ?1 WHERE key = 'log'", [format!("2 {early}")]).unwrap();
    seal(&database, true);
    drop(database);
    assert_eq!((Store::open(&folder).unwrap().verify_log(None).unwrap(), verify(&early)), (vec![], vec![]));
    let told = verify(&head);
    assert!(told.len() == 1 && told[0].contains(&head) && told[0].contains("cut off"), "{told:?}");
}

/// Makes the catalogue what version 2 wrote: records without who asked, whose hashes are of the rest.
fn of_version_2(folder: &Path) {
    let mut entries = Vec::new();
    Store::open(folder).unwrap().log(|entry| entries.push(entry)).unwrap();
    let database = database(folder);
    let undo = "DROP TABLE pictures; DROP TABLE matches; ALTER TABLE templates DROP COLUMN enrolled;
                ALTER TABLE log DROP COLUMN who; ALTER TABLE log DROP COLUMN detail; PRAGMA user_version = 2;";
    database.execute_batch(undo).unwrap();
    let gallery: Vec<u8> =
        database.query_row("SELECT value FROM facts WHERE key = 'gallery'", [], |row| row.get(0)).unwrap();
    let mut before = hex::encode(gallery);
    for LogEntry { number, at, change, command, count, templates, subjects, program, contract_id, .. } in &entries {
        let mut hash = sha2::Sha256::new();
        let numbers = [number.to_string(), at.to_string(), count.to_string(), templates.to_string()];
        let texts = [&before, change, command, program, contract_id].map(String::clone);
        for text in texts.into_iter().chain(numbers).chain([subjects.to_string()]) {
            hash.update((text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        before = hex::encode(hash.finalize());
        database.execute("UPDATE log SET hash = ?1 WHERE number = ?2", params![before, *number as i64]).unwrap();
    }
    let head = format!("{} {before}", entries.len());
    database.execute("UPDATE facts SET value = ?1 WHERE key = 'log'", [head]).unwrap();
    seal(&database, true);
}

/// Makes the catalogue what version 1 wrote.
fn of_version_1(folder: &Path) {
    let database = database(folder);
    of_version_2(folder);
    let undo = "DROP TABLE log; DROP TABLE staged; DELETE FROM facts WHERE key = 'log'; PRAGMA user_version = 1;";
    database.execute_batch(undo).unwrap();
    seal(&database, false);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB 'sqlite_*'";
    assert_eq!(database.query_row(tables, [], |row| row.get::<_, i64>(0)).unwrap(), 7, "as in version 1");
}

/// Writes the checksum of the catalogue as it is.
fn seal(database: &Connection, staged: bool) {
    let mut hash = crc32fast::Hasher::new();
    for query in [
        "SELECT key || quote(value) FROM facts ORDER BY key",
        "SELECT generation || ' ' || next_template || ' ' || next_segment || ' ' || next_subject FROM state",
        "SELECT number || ' ' || first || ' ' || rows FROM segments ORDER BY number",
    ]
    .into_iter()
    .chain(staged.then_some("SELECT number || ' ' || first || ' ' || rows FROM staged ORDER BY number"))
    {
        let mut query = database.prepare(query).unwrap();
        let mut rows = query.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            hash.update(row.get_ref(0).unwrap().as_bytes().unwrap());
            hash.update(b"\n");
        }
    }
    database.execute("UPDATE state SET checksum = ?1", [hash.finalize()]).unwrap();
}

/// A catalogue of version 2 keeps its records, whose hashes stay right.
#[test]
fn a_log_of_version_2_goes_on() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    drop(enrol(&Store::create(&folder, &model(DIM)).unwrap(), &["anna", "bob"], DIM).unwrap());
    of_version_2(&folder);
    let reader = Store::open(&folder).unwrap();
    assert_eq!(
        (reader.check().unwrap(), reader.matches(9).unwrap(), reader.picture(TemplateId(1)).unwrap()),
        (vec![], vec![], None)
    );
    assert!(matches!(reader.people(0, 9, None), Err(GalleryError::Unsupported { .. })));
    let before = log(&folder);
    assert!(before.len() == 2 && before.iter().all(|entry| entry.who.is_empty() && entry.detail.is_empty()));
    let store = Store::write(&folder, false).unwrap();
    enrol(&store, &["carl"], DIM).unwrap();
    assert_eq!((version(&folder), store.check().unwrap()), (3, vec![]));
    let after = log(&folder);
    assert_eq!(after[..2], before);
    assert_eq!(all(&after[2..]), [line("upgrade", "upgrade", 2, "", ""), line("enrol", "enrol", 1, "3", "3")]);
    assert!(after[2..].iter().all(|entry| entry.who.starts_with("user ")), "{after:?}");
    // Who asked cannot be taken out of a new record as if an earlier version had written it.
    database(&folder).execute_batch("UPDATE log SET who = '' WHERE number = 4").unwrap();
    assert_eq!(store.verify_log(None).unwrap(), ["record 4 of the log is not what was written"]);
}

fn version(folder: &Path) -> i64 {
    database(folder).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

/// A catalogue of version 1 is read as it is, and is of the present one after the first change: as a whole, or not at
/// all.
#[test]
fn an_older_catalogue_is_read_and_brought_up_by_the_first_change() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    drop(enrol(&Store::create(&folder, &model(DIM)).unwrap(), &["anna", "bob"], DIM).unwrap());
    of_version_1(&folder);
    let reader = Store::open(&folder).unwrap();
    let before = reader.snapshot().unwrap();
    assert_eq!(names(&*before, DIM), ["anna", "bob"]);
    assert_eq!((reader.check().unwrap(), log(&folder), reader.migration().unwrap()), (vec![], vec![], None));
    assert_eq!(version(&folder), 1, "reading changes nothing");

    // The disk fails when it is brought up.
    database(&folder).execute_batch("CREATE TABLE staged (a)").unwrap();
    let error = Store::write(&folder, false).unwrap_err();
    assert!(matches!(error, GalleryError::Catalogue { .. }), "{error}");
    assert_eq!((version(&folder), names(&*reader.snapshot().unwrap(), DIM).len()), (1, 2));
    database(&folder).execute_batch("DROP TABLE staged").unwrap();

    let store = Store::write(&folder, false).unwrap();
    enrol(&store, &["carl"], DIM).unwrap();
    assert_eq!(version(&folder), 3);
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), ["anna", "bob", "carl"]);
    assert_eq!(names(&*reader.snapshot().unwrap(), DIM), ["anna", "bob", "carl"], "a reader of before goes on");
    assert_eq!(names(&*before, DIM), ["anna", "bob"], "and so does its snapshot");
    let wanted = [line("upgrade", "upgrade", 2, "", ""), line("enrol", "enrol", 1, "3", "3")];
    assert_eq!(all(&log(&folder)), wanted);
    assert_eq!(store.check().unwrap(), []);
}
