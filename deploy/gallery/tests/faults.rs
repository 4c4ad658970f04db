//! The disk fails, tears a write or stops working altogether at every single call.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gallery::{
    Disk, Engine, Found, GalleryError, KeyFile, Layout, Model, Opening, Rows, Selection, Store, System, traces,
};

use crate::support::{enrol, model, named, names, row_of, scratch};

const DIM: usize = 16;

/// What happens at the call whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// It fails and does nothing.
    Fail,
    /// A write fails after half of its bytes.
    Tear,
    /// A write fails after half of its bytes, and so does every call after it: the process has died.
    Die,
}

#[derive(Debug)]
struct Faulty {
    fault: Fault,
    turn: usize,
    calls: AtomicUsize,
}

impl Faulty {
    fn new(fault: Fault, turn: usize) -> Arc<Self> {
        Arc::new(Self { fault, turn, calls: AtomicUsize::new(0) })
    }

    fn reached(&self) -> bool {
        self.calls.load(Ordering::SeqCst) > self.turn
    }

    /// Lets the call happen, or not. `half` is what a torn write does.
    fn call<T>(&self, whole: impl FnOnce() -> io::Result<T>, half: impl FnOnce()) -> io::Result<T> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call == self.turn && self.fault != Fault::Fail {
            half();
        }
        if call == self.turn || (call > self.turn && self.fault == Fault::Die) {
            return Err(io::Error::other("planted"));
        }
        whole()
    }
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.call(|| System.create(path), || ())
    }

    fn write(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let half = || System.write(file, offset, &bytes[..bytes.len() / 2]).unwrap();
        self.call(|| System.write(file, offset, bytes), half)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.call(|| System.sync(file), || ())
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        self.call(|| System.cut(file, length), || ())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.call(|| System.sync_folder(folder), || ())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|| System.remove(path), || ())
    }
}

fn on(disk: Arc<dyn Disk>, key: Option<&KeyFile>) -> Opening {
    Opening { wait: true, disk, key: key.cloned() }
}

/// A copy of the rows, in a gallery that may have one.
fn reduce(store: &Store) -> Result<(), GalleryError> {
    if store.is_encrypted() { Ok(()) } else { store.reduce().map(drop) }
}

/// A folder for a gallery, and beside it the key of one that is encrypted.
fn site(encrypted: bool) -> (tempfile::TempDir, Option<KeyFile>) {
    let scratch = scratch();
    let key = encrypted.then(|| KeyFile::create(&scratch.path().join("key")).unwrap());
    (scratch, key)
}

/// A change, and who is enrolled after it.
struct Step {
    work: fn(&Store) -> Result<(), GalleryError>,
    after: fn(&mut Vec<&'static str>),
}

const STEPS: [Step; 10] = [
    Step {
        work: |store| enrol(store, &["d", "e", "f", "g", "h", "i"], DIM).map(drop),
        after: |names| names.extend(["d", "e", "f", "g", "h", "i"]),
    },
    Step { work: reduce, after: |_| () },
    Step {
        work: |store| store.remove(&Selection::Subject("b".into())).map(drop),
        after: |names| names.retain(|name| *name != "b"),
    },
    Step { work: |store| store.compact().map(drop), after: |_| () },
    Step { work: |store| enrol(store, &["j"], DIM).map(drop), after: |names| names.push("j") },
    Step { work: reduce, after: |_| () },
    Step {
        work: |store| store.remove(&Selection::Subject("j".into())).map(drop),
        after: |names| names.retain(|name| *name != "j"),
    },
    Step { work: |store| enrol(store, &["k", "l"], DIM).map(drop), after: |names| names.extend(["k", "l"]) },
    Step {
        work: |store| {
            let values = row_of("m", DIM);
            store.change(|changes| {
                let new = changes.enrol(&[named("m")], Rows::new(&values, 1, DIM).unwrap())?;
                changes.picture(new[0], &[0xFF, 0xD8, 0xFF])?;
                changes.matched(&Found { template: Some(new[0]), ..Found::default() }).map(drop)
            })
        },
        after: |names| names.push("m"),
    },
    // `m` becomes another template of `a`.
    Step {
        work: |store| {
            let people = store.people(0, 99, None)?;
            let number = |name: &str| people.iter().find(|one| one.name == name).map_or(0, |one| one.number);
            store.change(|changes| changes.merge(number("m"), number("a")).map(drop))
        },
        after: |names| {
            names.retain(|name| *name != "m");
            names.push("a");
        },
    },
];

fn new(folder: &Path, key: Option<&KeyFile>) {
    let layout = Layout { segment_bytes: 4 * DIM * 4, key: key.cloned(), ..Layout::default() };
    let store = Store::create_with(folder, &model(DIM), layout).unwrap();
    enrol(&store, &["a", "b", "c"], DIM).unwrap();
}

/// Nobody is lost, mixed up or back; nothing of who was removed is left; the next change works.
fn is_whole(folder: &Path, key: Option<&KeyFile>, known: &[&str], gone: &[&str], at: &str) {
    // Tests that start processes keep a lock for a moment longer.
    let store = Store::write_with(folder, &on(Arc::new(System), key)).unwrap();
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), known, "{at}");
    assert_eq!(store.check().unwrap(), [], "{at}");
    for name in gone {
        assert_eq!(traces(folder, &row_of(name, DIM)).unwrap(), [], "{at}: {name} is left");
    }
    enrol(&store, &["z"], DIM).unwrap();
    let now = names(&*store.snapshot().unwrap(), DIM);
    assert_eq!(now.last().map(String::as_str), Some("z"), "{at}");
    assert_eq!(now.len(), known.len() + 1, "{at}");
}

/// Who can be enrolled at all but is not.
fn others<'a>(known: &[&str]) -> Vec<&'a str> {
    ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"]
        .into_iter()
        .filter(|name| !known.contains(name))
        .collect()
}

#[test]
fn a_failing_call_fails_one_change_and_no_other() {
    let faults = [Fault::Fail, Fault::Tear].map(|fault| [(fault, false), (fault, true)]);
    for (fault, encrypted) in faults.into_iter().flatten() {
        let mut turns = 0;
        for turn in 0.. {
            let (scratch, key) = site(encrypted);
            let (folder, key) = (scratch.path().join("g"), key.as_ref());
            new(&folder, key);
            let at = format!("{fault:?} at call {turn}, encrypted {encrypted}");
            let disk = Faulty::new(fault, turn);
            let mut known = vec!["a", "b", "c"];
            // Opening writes too.
            let store = match Store::write_with(&folder, &on(disk.clone(), key)) {
                Ok(store) => store,
                Err(error) => panic!("{at}: nothing was to be repaired: {error}"),
            };
            let mut failed = 0;
            for (number, step) in STEPS.iter().enumerate() {
                let done = (step.work)(&store);
                let at = format!("{at}, step {number}");
                match &done {
                    Ok(()) => (step.after)(&mut known),
                    Err(GalleryError::NotErased { templates: 1, .. }) => (step.after)(&mut known),
                    // `j` was not enrolled before it was to be removed.
                    Err(GalleryError::NoSubject { name }) if name == "j" && !known.contains(&"j") => {}
                    Err(GalleryError::NoPerson { number: 0 }) if !known.contains(&"m") => {}
                    Err(error) => {
                        assert!(std::error::Error::source(error).unwrap().to_string().contains("planted"), "{at}")
                    }
                }
                failed += usize::from(done.is_err());
                assert_eq!(names(&*store.snapshot().unwrap(), DIM), known, "{at}");
            }
            drop(store);
            is_whole(&folder, key, &known, &others(&known), &at);
            if !disk.reached() {
                assert_eq!(failed, 0);
                break;
            }
            // What could not be swept after compaction is no failure of the next step, but of this one.
            assert!(failed > 0, "{at}: nobody was told");
            turns += 1;
        }
        assert!(turns > 40, "{turns} calls");
    }
}

#[test]
fn a_process_that_dies_at_any_call_leaves_the_old_gallery_or_the_new_one() {
    [false, true].into_iter().for_each(dies);
}

fn dies(encrypted: bool) {
    let mut turns = 0;
    for turn in 0.. {
        let (scratch, key) = site(encrypted);
        let (folder, key) = (scratch.path().join("g"), key.as_ref());
        new(&folder, key);
        let at = format!("dead at call {turn}, encrypted {encrypted}");
        let disk = Faulty::new(Fault::Die, turn);
        let store = Store::write_with(&folder, &on(disk.clone(), key)).unwrap();
        let mut known = vec!["a", "b", "c"];
        for step in &STEPS {
            match (step.work)(&store) {
                Ok(()) => (step.after)(&mut known),
                Err(error) => {
                    // Not acknowledged: either is right for a change whose commit is its last call. Ours all commit
                    // after their own writes, except for removal, which is true once it is committed.
                    if matches!(error, GalleryError::NotErased { .. }) {
                        (step.after)(&mut known);
                    }
                    break;
                }
            }
        }
        drop(store);
        is_whole(&folder, key, &known, &others(&known), &at);
        if !disk.reached() {
            break;
        }
        turns += 1;
    }
    assert!(turns > 40, "{turns} calls");
}

/// Recovery itself is interrupted, at every call, and then done again.
#[test]
fn recovery_that_is_interrupted_is_done_again() {
    [false, true].into_iter().for_each(recovers);
}

fn recovers(encrypted: bool) {
    let mut turns = 0;
    for turn in 0.. {
        let (scratch, key) = site(encrypted);
        let (folder, key) = (scratch.path().join("g"), key.as_ref());
        new(&folder, key);
        // A removal whose overwriting was torn, and an enrolment that died behind the committed rows.
        let store = Store::write_with(&folder, &on(Faulty::new(Fault::Die, 0), key)).unwrap();
        assert!(matches!(store.remove(&Selection::Subject("b".into())), Err(GalleryError::NotErased { .. })));
        drop(store);
        let segment = folder.join("segments/00000001.values");
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes.extend_from_slice(bytemuck::cast_slice(&row_of("x", DIM)));
        std::fs::write(&segment, bytes).unwrap();
        std::fs::write(folder.join("segments/00000009.values"), "begun").unwrap();

        let disk = Faulty::new(Fault::Die, turn);
        let interrupted = Store::write_with(&folder, &on(disk.clone(), key));
        assert_eq!(interrupted.is_err(), disk.reached(), "call {turn}");
        drop(interrupted);
        is_whole(&folder, key, &["a", "c"], &["b", "x"], &format!("dead at call {turn} of recovery"));
        if !disk.reached() {
            break;
        }
        turns += 1;
    }
    assert!(turns > 8, "{turns} calls");
}

/// The model that galleries migrate to.
fn other() -> Model {
    Model { contract_id: "fedcba9876543210".into(), ..model(DIM + 8) }
}

/// Goes on with a migration to the end, or to the first error; two templates at a time, the last ones first, so that
/// they have to be put in order.
fn migrate(store: Store) -> Result<Store, GalleryError> {
    store.begin_migration(&other())?;
    loop {
        let left = store.to_migrate()?;
        if left.is_empty() {
            return store.finish_migration(false).map(|(store, _)| store);
        }
        let some = &left[left.len().saturating_sub(2)..];
        let templates = store.snapshot()?.templates(some)?;
        let rows = templates.iter().flat_map(|one| row_of(one.about.subject.as_ref().unwrap(), DIM + 8));
        let rows: Vec<f32> = rows.collect();
        // Under the names that they have, which are written anew all the same.
        let sources: Vec<String> = templates.into_iter().map(|one| one.about.source).collect();
        store.stage_moved(some, Rows::new(&rows, some.len(), DIM + 8).unwrap(), &sources)?;
    }
}

/// A migration in which somebody is removed and somebody enrolled fails at any call. The gallery is the old one or the
/// new one, has whom it had, and the migration goes on.
#[test]
fn a_migration_that_is_interrupted_goes_on() {
    for fault in [Fault::Fail, Fault::Tear, Fault::Die] {
        let mut turns = 0;
        for turn in 0.. {
            let folder = scratch();
            let folder = folder.path().join("g");
            new(&folder, None);
            let at = format!("{fault:?} at call {turn}");
            let disk = Faulty::new(fault, turn);
            let store = Store::write_with(&folder, &on(disk.clone(), None)).unwrap();
            let mut known = vec!["a", "b", "c"];
            let first = |store: &Store, known: &mut Vec<&str>| -> Result<(), GalleryError> {
                store.begin_migration(&other())?;
                let ids = store.to_migrate()?;
                let rows = ["b", "c"].map(|name| row_of(name, DIM + 8)).concat();
                store.stage(&ids[1..], Rows::new(&rows, 2, DIM + 8).unwrap())?;
                match store.remove(&Selection::Subject("b".into())) {
                    Err(error) if !matches!(error, GalleryError::NotErased { .. }) => return Err(error),
                    // A call that fails may be the one that overwrites.
                    done => {
                        known.retain(|name| *name != "b");
                        done?
                    }
                };
                enrol(store, &["d"], DIM)?;
                known.push("d");
                Ok(())
            };
            let done = match first(&store, &mut known) {
                Ok(()) => migrate(store).map(drop),
                Err(error) => {
                    drop(store);
                    Err(error)
                }
            };
            if let Err(error) = &done {
                assert!(chain(error).contains("planted"), "{at}: {}", chain(error));
            }
            assert_eq!(done.is_err(), disk.reached(), "{at}: {done:?}");
            let store = Store::write(&folder, true).unwrap();
            let dim = store.model().dim;
            let switched = done.is_ok() || matches!(done, Err(GalleryError::OldRowsLeft { .. }));
            assert_eq!(dim, if switched { DIM + 8 } else { DIM }, "{at}");
            assert_eq!(names(&*store.snapshot().unwrap(), dim), known, "{at}");
            assert_eq!(store.check().unwrap(), [], "{at}");
            let store = if switched { store } else { migrate(store).unwrap() };
            assert_eq!((store.model(), names(&*store.snapshot().unwrap(), DIM + 8)), (&other(), own(&known)), "{at}");
            assert_eq!(store.check().unwrap(), [], "{at}");
            for row in known.iter().map(|name| row_of(name, DIM)) {
                assert_eq!(traces(&folder, &row).unwrap(), [], "{at}: a row of the old model is left");
            }
            for row in others(&known).iter().map(|name| row_of(name, DIM + 8)) {
                assert_eq!(traces(&folder, &row).unwrap(), [], "{at}: a row of somebody removed is left");
            }
            if !disk.reached() {
                break;
            }
            turns += 1;
        }
        assert!(turns > 30, "{turns} calls");
    }
}

fn own(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    error.to_string() + &source.unwrap_or_default()
}

#[test]
fn a_creation_that_is_interrupted_can_be_repeated() {
    let folder = scratch();
    let folder = folder.path().join("g");
    let layout = Layout { disk: Faulty::new(Fault::Die, 0), ..Layout::default() };
    Store::create_with(&folder, &model(DIM), layout).unwrap_err();
    // The catalogue may be there already; then it is a gallery, and empty.
    let store = Store::write(&folder, false).or_else(|_| Store::create(&folder, &model(DIM))).unwrap();
    enrol(&store, &["a"], DIM).unwrap();
    drop(store);
    // As if the process had died between the first and the second file.
    let folder = folder.with_file_name("h");
    std::fs::create_dir_all(folder.join("segments")).unwrap();
    std::fs::write(folder.join("gallery.db"), "").unwrap();
    assert!(matches!(Store::open(&folder), Err(GalleryError::NoGallery { .. })));
    assert!(matches!(Store::write(&folder, false), Err(GalleryError::NoGallery { .. })));
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["a"], DIM).unwrap();
}

/// A gallery is encrypted, and its templates are renewed, under a disk that stops at any call: it is what it was or
/// what it is to be, and the same people are in it.
#[test]
fn encryption_and_renewal_happen_or_do_not() {
    for renewal in [false, true] {
        let mut turns = 0;
        for turn in 0.. {
            let (scratch, key) = site(true);
            let (folder, key) = (scratch.path().join("g"), key.as_ref().unwrap());
            new(&folder, renewal.then_some(key));
            let at = format!("renewal {renewal}, dead at call {turn}");
            let disk = Faulty::new(Fault::Die, turn);
            let store = Store::write_with(&folder, &on(disk.clone(), renewal.then_some(key))).unwrap();
            let done = if renewal { store.renew_templates() } else { store.encrypt(key) };
            assert_eq!(done.is_err(), disk.reached(), "{at}: {done:?}");
            drop(done);
            let sealed = Store::is_encrypted_at(&folder).unwrap();
            let store = Store::write_with(&folder, &on(Arc::new(System), sealed.then_some(key))).unwrap();
            let people = |store: &Store| {
                let now = store.snapshot().unwrap();
                let ids = now.select(&gallery::Filter::default()).unwrap();
                let values = now.vectors(&ids).unwrap().unwrap();
                let about = now.templates(&ids).unwrap();
                for (one, row) in about.iter().zip(values.chunks_exact(DIM)) {
                    let similarity = metrics::dot(row, &row_of(one.about.subject.as_ref().unwrap(), DIM));
                    assert!(similarity > 1.0 - 1e-6, "{at}: {similarity}");
                }
                about.into_iter().map(|one| one.about.subject.unwrap()).collect::<Vec<_>>()
            };
            assert_eq!(people(&store), ["a", "b", "c"], "{at}");
            assert_eq!(store.check().unwrap(), [], "{at}");
            let again = match (renewal, sealed) {
                (true, _) => store.renew_templates().unwrap(),
                (false, false) => store.encrypt(key).unwrap(),
                (false, true) => store,
            };
            assert_eq!(people(&again), ["a", "b", "c"], "{at}");
            assert_eq!((again.check().unwrap(), again.is_encrypted()), (vec![], true), "{at}");
            for name in ["a", "b", "c"] {
                assert_eq!(traces(&folder, &row_of(name, DIM)).unwrap(), [], "{at}: {name} is left in plain");
            }
            if !disk.reached() {
                break;
            }
            turns += 1;
        }
        assert!(turns > 8, "{turns} calls");
    }
}
