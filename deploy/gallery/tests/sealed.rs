//! Encrypted galleries: nothing of a person is on the disk in plain, and without the key it is nothing.

use std::path::{Path, PathBuf};

use gallery::{
    Ask, Engine, Found, GalleryError, KeyFile, Layout, NewTemplate, Opening, Rows, Selection, Store, TemplateId, traces,
};

use crate::support::{Dice, copy, enrol, model, named, names, row_of, scratch, unit_rows};

const DIM: usize = 16;

/// A folder with a gallery `g` of this key.
struct Place {
    scratch: tempfile::TempDir,
    key: KeyFile,
}

impl Place {
    fn new() -> Self {
        let scratch = scratch();
        std::fs::create_dir(scratch.path().join("keys")).unwrap();
        let key = KeyFile::create(&scratch.path().join("keys/key")).unwrap();
        Self { scratch, key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn create(&self) -> Store {
        let layout = Layout { key: Some(self.key.clone()), ..Layout::default() };
        Store::create_with(&self.path("g"), &model(DIM), layout).unwrap()
    }

    fn write(&self, folder: &str) -> Result<Store, GalleryError> {
        write(&self.path(folder), &self.key)
    }

    fn open(&self, folder: &str) -> Result<Store, GalleryError> {
        Store::open_with(&self.path(folder), Some(&self.key))
    }
}

fn write(folder: &Path, key: &KeyFile) -> Result<Store, GalleryError> {
    Store::write_with(folder, &Opening { key: Some(key.clone()), ..Opening::default() })
}

/// Every file below a folder that has these bytes.
fn with(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) {
                found.push(path);
            }
        }
    }
    found
}

fn jpeg(of: &str) -> Vec<u8> {
    [&[0xFF, 0xD8, 0xFF, 0xE0][..], format!("the picture of {of}").as_bytes()].concat()
}

/// Somebody with a picture and a match.
fn add(store: &Store, name: &str) -> TemplateId {
    let done: Result<_, GalleryError> = store.change(|changes| {
        let new = changes.enrol(&[named(name)], Rows::new(&row_of(name, DIM), 1, DIM).unwrap())?;
        changes.picture(new[0], &jpeg(name))?;
        changes.matched(&Found { template: Some(new[0]), similarity: Some(0.5), accepted: None })?;
        changes.describe("pictures of /home/zacharias")?;
        Ok(new[0])
    });
    done.unwrap()
}

#[test]
fn nothing_of_a_person_is_on_the_disk_in_plain() {
    let place = Place::new();
    let store = place.create();
    let id = add(&store, "zacharias");
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), ["zacharias"]);
    assert_eq!(store.picture(id).unwrap(), Some(jpeg("zacharias")));
    assert_eq!(store.about().unwrap(), "pictures of /home/zacharias");
    assert_eq!(store.people(0, 9, Some("ZACH")).unwrap()[0].name, "zacharias");
    assert_eq!(store.person(1).unwrap().unwrap().1[0].template.about.source, "zacharias.jpg");
    assert_eq!(store.matches(9).unwrap()[0].name.as_deref(), Some("zacharias"));
    let mut names = Vec::new();
    store.log(|entry| names.extend(entry.names)).unwrap();
    assert_eq!(names, ["zacharias", "zacharias"], "of the enrolment and of the match");
    let all = place.scratch.path();
    for secret in [&b"zacharias"[..], b"the picture of", &jpeg("")[..4], b"7a616368"] {
        assert_eq!(with(all, secret), Vec::<PathBuf>::new(), "{}", String::from_utf8_lossy(secret));
    }
    assert_eq!(traces(all, &row_of("zacharias", DIM)).unwrap(), []);
    assert_eq!(store.check().unwrap(), []);
    assert!(store.is_encrypted() && Store::is_encrypted_at(&place.path("g")).unwrap());
    let memory = store.held_memory();
    assert!(memory.bytes > DIM * 4 && memory.locked <= memory.bytes, "{memory:?}");
    // Names and rows are found again by the next who opens it.
    drop(store);
    let store = place.open("g").unwrap();
    let now = store.snapshot().unwrap();
    let hits = now.search(Rows::new(&row_of("zacharias", DIM), 1, DIM).unwrap(), &Ask::nearest(1)).unwrap();
    assert_eq!(hits[0][0].id, id);
    // Equal rows, names and pictures look different wherever they are stored.
    let store = {
        drop(store);
        place.write("g").unwrap()
    };
    let other = add(&store, "zacharias");
    assert!(other > id);
    let bytes = std::fs::read(place.path("g/segments/00000001.values")).unwrap();
    let (first, second) = bytes[4096..].split_at(DIM * 4 + 40);
    assert!(first.iter().zip(second).filter(|(a, b)| a == b).count() < DIM);
}

/// What derives from rows is refused: it would lie on the disk in plain.
#[test]
fn an_encrypted_gallery_has_no_index() {
    let place = Place::new();
    let store = place.create();
    enrol(&store, &["anna"], DIM).unwrap();
    for error in [store.reduce().unwrap_err(), store.index(&|_| ()).unwrap_err()] {
        assert!(matches!(error, GalleryError::Unsupported { .. }), "{error}");
    }
    assert_eq!(with(&place.path("g"), b"vitrint8"), Vec::<PathBuf>::new());
}

#[test]
fn keys_that_do_not_fit_are_refused_by_name() {
    let place = Place::new();
    drop(enrol(&place.create(), &["anna"], DIM).unwrap());
    let folder = place.path("g");
    for error in [Store::open(&folder).unwrap_err(), Store::write(&folder, false).unwrap_err()] {
        assert!(matches!(error, GalleryError::KeyNeeded { .. }) && error.to_string().contains("/g`"), "{error}");
    }
    // A key of another gallery, of nothing, and what is no key.
    let other = KeyFile::create(&place.path("other")).unwrap();
    let told = |key: &KeyFile| Store::open_with(&folder, Some(key)).unwrap_err().to_string();
    assert!(told(&other).contains("key store `") && told(&other).contains("is not there"), "{}", told(&other));
    let layout = Layout { key: Some(other.clone()), ..Layout::default() };
    drop(Store::create_with(&place.path("h"), &model(DIM), layout).unwrap());
    assert!(told(&other).contains("no keys of the gallery"), "{}", told(&other));
    std::fs::copy(place.key.store(), other.store()).unwrap();
    assert!(told(&other).contains("is not the key of the gallery"), "{}", told(&other));
    assert!(KeyFile::create(place.key.path()).is_err(), "a key is never overwritten");
    for (text, problem) in [("", "64 hex"), ("vitrine-key-1 00\n", "64 hex"), ("x", "64 hex")] {
        let path = place.path("bad");
        drop(std::fs::remove_file(&path));
        std::fs::write(&path, text).unwrap();
        private(&path, 0o600);
        let error = KeyFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("bad`") && error.contains(problem), "{error}");
    }
    assert!(KeyFile::open(&place.path("none")).is_err());
    #[cfg(unix)]
    {
        private(place.key.path(), 0o640);
        let error = KeyFile::open(place.key.path()).unwrap_err().to_string();
        assert!(error.contains("640") && error.contains("chmod 600"), "{error}");
        private(place.key.path(), 0o600);
    }
    let same = KeyFile::open(place.key.path()).unwrap();
    assert_eq!(names(&*write(&folder, &same).unwrap().snapshot().unwrap(), DIM), ["anna"]);
    // Neither the key file nor what the library prints of it says the key.
    let key = std::fs::read_to_string(place.key.path()).unwrap();
    assert!(!format!("{same:?}").contains(key.split(' ').next_back().unwrap().trim()));
    let plain = place.path("plain");
    drop(Store::create(&plain, &model(DIM)).unwrap());
    for error in [Store::open_with(&plain, Some(&same)).unwrap_err(), write(&plain, &same).unwrap_err()] {
        assert!(matches!(error, GalleryError::NotEncrypted { .. }), "{error}");
    }
    // A key store from before somebody was enrolled.
    let early = std::fs::read(place.key.store()).unwrap();
    enrol(&write(&folder, &same).unwrap(), &["bob"], DIM).unwrap();
    let late = std::fs::read(place.key.store()).unwrap();
    std::fs::write(place.key.store(), early).unwrap();
    for error in [place.open("g").unwrap_err(), place.write("g").unwrap_err()] {
        assert!(matches!(&error, GalleryError::Damaged { path, .. } if *path == place.key.store()), "{error}");
        assert!(error.to_string().contains("older than the gallery"), "{error}");
    }
    std::fs::write(place.key.store(), late).unwrap();
    assert_eq!(names(&*place.open("g").unwrap().snapshot().unwrap(), DIM), ["anna", "bob"]);
}

#[cfg(unix)]
fn private(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn private(_: &Path, _: u32) {}

/// Whatever bit of a sealed file is flipped, the answer is an error or the same.
#[test]
fn a_flipped_bit_of_what_is_sealed_is_an_error() {
    let place = Place::new();
    let store = place.create();
    for name in ["anna", "bob", "carl"] {
        add(&store, name);
    }
    store.remove(&Selection::Subject("bob".into())).unwrap();
    drop(store);
    let probe = row_of("anna", DIM);
    let answer = || -> Result<Vec<String>, GalleryError> {
        let store = place.open("g")?;
        let now = store.snapshot()?;
        now.search(Rows::new(&probe, 1, DIM).unwrap(), &Ask::nearest(3))?;
        let ids = now.select(&gallery::Filter::default())?;
        now.vectors(&ids)?;
        Ok(now.templates(&ids)?.into_iter().map(|one| one.about.subject.unwrap()).collect())
    };
    assert_eq!(answer().unwrap(), ["anna", "carl"]);
    let mut errors = 0;
    for file in ["g/segments/00000001.values", "g/segments/00000001.rows"] {
        let path = place.path(file);
        let good = std::fs::read(&path).unwrap();
        for at in (0..48).chain(4096..good.len()) {
            let mut bytes = good.clone();
            bytes[at] ^= 1 << (at % 8);
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, &bytes).unwrap();
            match answer() {
                Ok(found) => assert_eq!(found, ["anna", "carl"], "{file}, byte {at}"),
                Err(error) => {
                    assert!(
                        matches!(
                            error,
                            GalleryError::Damaged { .. }
                                | GalleryError::Version { .. }
                                | GalleryError::ByteOrder { .. }
                        ),
                        "{file}, byte {at}: {error}"
                    );
                    errors += 1;
                }
            }
        }
        std::fs::write(&path, &good).unwrap();
    }
    assert!(errors > 250, "{errors}");
    // Rows, names and pictures that changed places, each whole.
    let path = place.path("g/segments/00000001.values");
    let good = std::fs::read(&path).unwrap();
    let stride = DIM * 4 + 40;
    let mut bytes = good.clone();
    (0..stride).for_each(|at| bytes.swap(4096 + at, 4096 + 2 * stride + at));
    std::fs::write(&path, &bytes).unwrap();
    assert!(matches!(answer(), Err(GalleryError::Damaged { .. })));
    std::fs::write(&path, &good).unwrap();
    for edit in [
        "UPDATE subjects SET name = (SELECT name FROM subjects WHERE number = 3) || '' WHERE number = 1",
        "UPDATE templates SET source = (SELECT source FROM templates WHERE id = 3) WHERE id = 1",
    ] {
        let file = place.path("g/gallery.db");
        let good = std::fs::read(&file).unwrap();
        let database = rusqlite::Connection::open(&file).unwrap();
        database.execute_batch("PRAGMA ignore_check_constraints = ON; DROP INDEX IF EXISTS x").unwrap();
        let edited = database.execute_batch(edit);
        drop(database);
        if edited.is_ok() {
            let error = answer().unwrap_err();
            assert!(matches!(error, GalleryError::Sealed { .. } | GalleryError::Damaged { .. }), "{edit}: {error}");
        } else {
            // Names are different, each of its own.
            assert!(edit.contains("subjects"));
        }
        for left in ["g/gallery.db-wal", "g/gallery.db-shm"] {
            drop(std::fs::remove_file(place.path(left)));
        }
        std::fs::write(&file, good).unwrap();
    }
    assert_eq!(answer().unwrap(), ["anna", "carl"]);
}

/// After a removal nothing of the person can be found, in plain or sealed, and no copy of before can be opened.
#[test]
fn who_is_removed_is_erased_from_every_copy() {
    let place = Place::new();
    let store = place.create();
    let nobody = NewTemplate { source: "somebody.jpg".into(), ..NewTemplate::default() };
    add(&store, "anna");
    let id = add(&store, "zacharias");
    let row = row_of("somebody", DIM);
    let unnamed = store.enrol(&[nobody], Rows::new(&row, 1, DIM).unwrap()).unwrap();
    copy(&place.path("g"), &place.path("backup"));
    // The sealed bytes of before.
    let values = std::fs::read(place.path("g/segments/00000001.values")).unwrap();
    let rows = std::fs::read(place.path("g/segments/00000001.rows")).unwrap();
    let (value, record) = (DIM * 4 + 40, 116);
    let mut sealed: Vec<Vec<u8>> = Vec::new();
    for at in [1, 2] {
        sealed.push(values[4096 + at * value..][..value].to_vec());
        sealed.push(rows[4096 + at * record + 28..][..record - 28].to_vec());
    }
    let database = rusqlite::Connection::open(place.path("g/gallery.db")).unwrap();
    let text = |query: &str| database.query_row(query, [], |row| row.get::<_, String>(0)).unwrap().into_bytes();
    sealed.push(text("SELECT name FROM subjects WHERE number = 2"));
    sealed.push(text("SELECT source FROM templates WHERE id = 2"));
    sealed.push(text("SELECT source FROM templates WHERE id = 3"));
    let picture = "SELECT jpeg FROM pictures WHERE template = 2";
    sealed.push(database.query_row(picture, [], |row| row.get(0)).unwrap());
    drop(database);
    let keys = rusqlite::Connection::open(place.key.store()).unwrap();
    let wrapped: Vec<Vec<u8>> = {
        let mut all = keys.prepare("SELECT wrapped FROM keys").unwrap();
        all.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    drop(keys);
    assert_eq!(wrapped.len(), 3);
    for bytes in &sealed {
        assert!(!with(&place.path("g"), bytes).is_empty());
    }
    assert_eq!(store.remove(&Selection::Templates(vec![id, unnamed[0]])).unwrap(), 2);
    for bytes in &sealed {
        assert_eq!(with(&place.path("g"), bytes), Vec::<PathBuf>::new());
    }
    let left = wrapped.iter().filter(|wrapped| !with(&place.path("keys"), wrapped).is_empty()).count();
    assert_eq!(left, 1, "only the key of who is left");
    for name in ["zacharias", "somebody"] {
        assert_eq!(traces(place.scratch.path(), &row_of(name, DIM)).unwrap(), [], "{name}");
        assert_eq!(with(place.scratch.path(), name.as_bytes()), Vec::<PathBuf>::new());
    }
    let mut last = None;
    store.log(|entry| last = Some(entry)).unwrap();
    let last = last.unwrap();
    assert_eq!((&*last.change, last.count, last.templates.to_string()), ("remove", 2, "2-3".to_owned()));
    assert_eq!(store.check().unwrap(), []);
    drop(store);

    // The copy from before is whole, and its key file is there.
    let error = place.open("backup").unwrap_err();
    assert!(matches!(error, GalleryError::Erased { .. }), "{error}");
    let store = place.write("backup").unwrap();
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), ["anna"]);
    assert_eq!((store.picture(id).unwrap(), store.people(0, 9, None).unwrap().len()), (None, 1));
    for bytes in &sealed {
        assert_eq!(with(&place.path("backup"), bytes), Vec::<PathBuf>::new());
    }
    let mut said = Vec::new();
    store.log(|entry| said.push((entry.change, entry.command, entry.templates.to_string()))).unwrap();
    assert_eq!(said.pop(), Some(("remove".into(), "restore".into(), "2-3".into())));
    assert_eq!(store.check().unwrap(), []);
    drop(store);
    assert_eq!(names(&*place.open("backup").unwrap().snapshot().unwrap(), DIM), ["anna"]);
}

/// Whoever reads meanwhile is not disturbed, and who was removed is found by nobody who looks later.
#[test]
fn readers_beside_a_writer_keep_what_they_have() {
    let place = Place::new();
    let store = place.create();
    let many: Vec<String> = (0..200).map(|number| format!("p{number}")).collect();
    enrol(&store, &many.iter().map(String::as_str).collect::<Vec<_>>(), DIM).unwrap();
    let reader = place.open("g").unwrap();
    let before = reader.snapshot().unwrap();
    enrol(&store, &["late"], DIM).unwrap();
    store.remove(&Selection::Subject("p7".into())).unwrap();
    let found = |now: &dyn gallery::Snapshot, name: &str| -> f32 {
        let hits = now.search(Rows::new(&row_of(name, DIM), 1, DIM).unwrap(), &Ask::nearest(1)).unwrap();
        hits[0][0].similarity
    };
    assert!(found(&*before, "late") < 0.99 && found(&*before, "p8") > 0.99);
    let after = reader.snapshot().unwrap();
    assert!(found(&*after, "late") > 0.99 && found(&*after, "p7") < 0.99 && found(&*after, "p8") > 0.99);
    assert_eq!(names(&*after, DIM).len(), 200);
    store.compact().unwrap();
    assert_eq!(names(&*reader.snapshot().unwrap(), DIM), names(&*store.snapshot().unwrap(), DIM));
    assert_eq!((store.check().unwrap(), reader.check().unwrap()), (vec![], vec![]));
}

#[test]
fn a_gallery_is_encrypted_later_in_one_change() {
    let place = Place::new();
    let folder = place.path("g");
    let layout = Layout { segment_bytes: 5 * DIM * 4, ..Layout::default() };
    let store = Store::create_with(&folder, &model(DIM), layout).unwrap();
    let id = add(&store, "anna");
    enrol(&store, &["bob", "carl", "dora", "eve", "fay", "gus"], DIM).unwrap();
    let nobody = NewTemplate { source: "x.jpg".into(), ..NewTemplate::default() };
    store.enrol(&[nobody], Rows::new(&row_of("x", DIM), 1, DIM).unwrap()).unwrap();
    store.remove(&Selection::Subject("carl".into())).unwrap();
    store.reduce().unwrap();
    let now = store.snapshot().unwrap();
    let ids = now.select(&gallery::Filter::default()).unwrap();
    let (values, about) = (now.vectors(&ids).unwrap(), now.templates(&ids).unwrap());
    let people = store.people(0, 99, None).unwrap();
    drop(now);
    let store = store.encrypt(&place.key).unwrap();
    for _ in 0..2 {
        let now = place.open("g").unwrap();
        let same = now.snapshot().unwrap();
        assert_eq!(same.select(&gallery::Filter::default()).unwrap(), ids);
        assert_eq!((same.vectors(&ids).unwrap(), same.templates(&ids).unwrap()), (values.clone(), about.clone()));
        assert_eq!((now.people(0, 99, None).unwrap(), now.picture(id).unwrap()), (people.clone(), Some(jpeg("anna"))));
        assert_eq!((now.about().unwrap(), now.check().unwrap()), ("pictures of /home/zacharias".into(), vec![]));
        // The next change, too.
        enrol(&store, &["hal"], DIM).unwrap();
        store.remove(&Selection::Subject("hal".into())).unwrap();
    }
    for name in ["anna", "bob", "x"] {
        assert_eq!(traces(&folder, &row_of(name, DIM)).unwrap(), [], "{name}");
    }
    for secret in [&b"anna"[..], b"zacharias", b"x.jpg", b"the picture of", b"vitrint8"] {
        assert_eq!(with(&folder, secret), Vec::<PathBuf>::new(), "{}", String::from_utf8_lossy(secret));
    }
    let mut said = Vec::new();
    store.log(|entry| said.push((entry.change, entry.count))).unwrap();
    assert!(said.contains(&("encrypt".into(), 7)), "{said:?}");
    assert!(matches!(store.encrypt(&place.key), Err(GalleryError::Encrypted { .. })));
    // One that is migrating waits.
    let other = Store::create(&place.path("h"), &model(DIM)).unwrap();
    other.begin_migration(&gallery::Model { contract_id: "fedcba9876543210".into(), ..model(DIM) }).unwrap();
    assert!(matches!(other.encrypt(&place.key), Err(GalleryError::Unsupported { .. })));
}

#[test]
fn a_gallery_gets_another_key() {
    let place = Place::new();
    let store = place.create();
    add(&store, "anna");
    add(&store, "bob");
    store.remove(&Selection::Subject("bob".into())).unwrap();
    copy(&place.path("g"), &place.path("backup"));
    let new = KeyFile::create(&place.path("keys/new")).unwrap();
    let store = store.rotate_key(&new).unwrap();
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), ["anna"]);
    enrol(&store, &["carl"], DIM).unwrap();
    let error = store.rotate_key(&KeyFile::open(new.path()).unwrap()).unwrap_err();
    assert!(matches!(error, GalleryError::KeyFile { .. }), "{error}");
    let error = place.open("g").unwrap_err().to_string();
    assert!(error.contains("no keys of the gallery"), "{error}");
    let open = |folder: &str| Store::open_with(&place.path(folder), Some(&new)).unwrap();
    assert_eq!(names(&*open("g").snapshot().unwrap(), DIM), ["anna", "carl"]);
    assert_eq!(open("g").check().unwrap(), []);
    // A copy from before opens with the new key, since the keys of people are the same.
    assert_eq!(names(&*open("backup").snapshot().unwrap(), DIM), ["anna"]);
}

/// Several galleries may have one key file.
#[test]
fn galleries_of_one_key_do_not_meet() {
    let place = Place::new();
    let first = place.create();
    let layout = Layout { key: Some(place.key.clone()), ..Layout::default() };
    let second = Store::create_with(&place.path("h"), &model(DIM), layout).unwrap();
    add(&first, "anna");
    add(&second, "bob");
    first.remove(&Selection::Subject("anna".into())).unwrap();
    assert_eq!(names(&*second.snapshot().unwrap(), DIM), ["bob"]);
    // The rows of one are nothing in the other.
    drop((first, second));
    for file in ["segments/00000001.values", "segments/00000001.rows"] {
        std::fs::copy(place.path("h").join(file), place.path("g").join(file)).unwrap();
    }
    let opened = place.write("g").and_then(|store| store.snapshot().map(drop));
    assert!(matches!(opened, Err(GalleryError::Damaged { .. })), "{opened:?}");
}

/// Prints what opening costs: `cargo test --release -p vitrine-gallery --test main -- sealed::what_opening_costs
/// --nocapture`, with `VITRINE_TEST_ROWS` for more rows.
#[test]
fn what_opening_costs() {
    let rows: usize = std::env::var("VITRINE_TEST_ROWS").map_or(2000, |rows| rows.parse().unwrap());
    let dim = 512;
    let place = Place::new();
    let values = unit_rows(&mut Dice(3), rows, dim);
    let templates: Vec<NewTemplate> = (0..rows).map(|row| named(&format!("p{}", row / 4))).collect();
    for encrypted in [false, true] {
        let layout = Layout { key: encrypted.then(|| place.key.clone()), ..Layout::default() };
        let folder = place.path(&format!("g{encrypted}"));
        let store = Store::create_with(&folder, &model(dim), layout).unwrap();
        let start = std::time::Instant::now();
        store.enrol(&templates, Rows::new(&values, rows, dim).unwrap()).unwrap();
        let enrolled = start.elapsed();
        drop(store);
        let key = encrypted.then_some(&place.key);
        let start = std::time::Instant::now();
        let store = Store::open_with(&folder, key).unwrap();
        let now = store.snapshot().unwrap();
        let opened = start.elapsed();
        let probe = Rows::new(&values[..dim], 1, dim).unwrap();
        assert_eq!(now.search(probe, &Ask::nearest(1)).unwrap()[0][0].id, TemplateId(1));
        let memory = store.held_memory();
        println!(
            "encrypted {encrypted}: {rows} rows of {dim}: enrolled in {enrolled:.0?}, opened in {opened:.1?}, \
             {:.0} rows/s; {memory:?}",
            rows as f64 / opened.as_secs_f64()
        );
        assert_eq!(memory.bytes > rows * dim * 4, encrypted);
    }
}
