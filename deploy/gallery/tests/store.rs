//! What a folder promises: private files, one writer, readers beside it, clear refusals.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gallery::{
    Ask, Engine, Filter, GalleryError, Layout, Model, NewTemplate, Rows, Selection, Snapshot, Store, traces,
};

use crate::support::{Dice, enrol, model, named, names, row_of, scratch, unit_rows};

const DIM: usize = 8;
const FOLDER: &str = "VITRINE_TEST_READ_GALLERY";

fn new(folder: &Path) -> Store {
    let store = Store::create(folder, &model(DIM)).unwrap();
    enrol(&store, &["anna", "bob"], DIM).unwrap();
    store
}

#[test]
fn what_was_enrolled_is_there_again() {
    let scratch = scratch();
    let folder = scratch.path().join("new/g");
    let ids = {
        let store = Store::create(&folder, &model(DIM)).unwrap();
        enrol(&store, &["anna", "bob"], DIM).unwrap()
    };
    let store = Store::open(&folder).unwrap();
    assert_eq!((store.model(), store.folder()), (&model(DIM), &*folder));
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), ["anna", "bob"]);
    assert!(matches!(enrol(&store, &["carl"], DIM), Err(GalleryError::ReadOnly { .. })));
    assert!(matches!(store.remove(&Selection::Templates(ids)), Err(GalleryError::ReadOnly { .. })));
    assert!(matches!(store.compact(), Err(GalleryError::ReadOnly { .. })));
}

#[test]
fn the_second_writer_is_told_who_the_first_is_or_waits() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let first = new(&folder);
    let error = Store::write(&folder, false).unwrap_err();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    let second = std::thread::spawn({
        let folder = folder.clone();
        move || {
            let store = Store::write(&folder, true).unwrap();
            enrol(&store, &["dora"], DIM).unwrap();
        }
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(!second.is_finished());
    enrol(&first, &["carl"], DIM).unwrap();
    drop(first);
    second.join().unwrap();
    assert_eq!(names(&*Store::open(&folder).unwrap().snapshot().unwrap(), DIM), ["anna", "bob", "carl", "dora"]);
}

/// The reader of the test below in a process of its own: every state it sees is one that was committed.
#[test]
fn reader_beside_a_writer() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let store = Store::open(Path::new(&folder)).unwrap();
    let (mut states, start) = (0, Instant::now());
    let mut most = 0;
    while start.elapsed() < Duration::from_secs(2) {
        let now = store.snapshot().unwrap();
        let ids = now.select(&Filter::default()).unwrap();
        // Pairs come and go together, the left beside the right.
        assert_eq!(ids.len() % 2, 0);
        let hits = now.search(Rows::new(&row_of("l1", DIM), 1, DIM).unwrap(), &Ask::nearest(ids.len())).unwrap();
        for hit in &hits[0] {
            let found = now.templates(&[hit.id]).unwrap();
            let name = found[0].about.subject.clone().unwrap();
            assert_eq!(hit.similarity, metrics::dot(&row_of("l1", DIM), &row_of(&name, DIM)), "{name}");
        }
        states += 1;
        most = most.max(ids.len());
    }
    println!("seen {states} {most}");
}

#[test]
fn readers_in_other_processes_see_whole_states() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let layout = Layout { segment_bytes: 40 * DIM * 4, ..Layout::default() };
    let store = Store::create_with(&folder, &model(DIM), layout).unwrap();
    let reader = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::reader_beside_a_writer", "--nocapture"])
            .env(FOLDER, &folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut readers = [reader(), reader()];
    let mut dice = Dice(8);
    let mut known = Vec::new();
    for pair in 0.. {
        if readers.iter_mut().all(|reader| reader.try_wait().unwrap().is_some()) {
            break;
        }
        match dice.below(5) {
            0 if known.len() > 20 => {
                let ids: Vec<_> = known.drain(..10).flatten().collect();
                store.remove(&Selection::Templates(ids)).unwrap();
            }
            1 => drop(store.compact().unwrap()),
            _ => known.push(enrol(&store, &[&format!("l{pair}"), &format!("r{pair}")], DIM).unwrap()),
        }
    }
    for reader in readers {
        let output = reader.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let seen = text.lines().find_map(|line| line.strip_prefix("seen ")).unwrap().to_owned();
        let seen: Vec<usize> = seen.split(' ').map(|number| number.parse().unwrap()).collect();
        assert!(seen[0] > 10 && seen[1] > 20, "{seen:?} states and rows");
    }
    assert_eq!(store.check().unwrap(), []);
}

#[test]
fn an_old_snapshot_outlives_removal_and_compaction() {
    let scratch = scratch();
    let store = Store::create(&scratch.path().join("g"), &model(DIM)).unwrap();
    let all: Vec<String> = (0..300).map(|number| format!("p{number}")).collect();
    enrol(&store, &all.iter().map(String::as_str).collect::<Vec<_>>(), DIM).unwrap();
    let before = store.snapshot().unwrap();
    let probe = row_of("p7", DIM);
    let search = |now: &dyn Snapshot, k| now.search(Rows::new(&probe, 1, DIM).unwrap(), &Ask::nearest(k)).unwrap();
    // The checksums of every row are looked at once, before they change.
    let old = search(&*before, 300);
    store.remove(&Selection::Subject("p7".into())).unwrap();
    store.remove(&Selection::Subject("p100".into())).unwrap();
    store.compact().unwrap();
    let gone = |id: &gallery::TemplateId| [8, 101].contains(&id.0);
    for k in [1, 5, 298, 300] {
        let wanted: Vec<_> = old[0].iter().filter(|hit| !gone(&hit.id)).take(k).copied().collect();
        assert_eq!(search(&*before, k)[0], wanted, "k {k}");
        assert_eq!(search(&*store.snapshot().unwrap(), k)[0], wanted, "k {k}");
    }
}

#[test]
fn a_filter_that_was_looked_at_before_does_not_bring_removed_rows_back() {
    let scratch = scratch();
    let store = Store::create(&scratch.path().join("g"), &model(DIM)).unwrap();
    let rows = 300;
    let values = unit_rows(&mut Dice(5), rows, DIM);
    let about = |row: usize| NewTemplate { camera: Some(row as u32 % 3), ..NewTemplate::default() };
    let templates: Vec<NewTemplate> = (0..rows).map(about).collect();
    let ids = store.enrol(&templates, Rows::new(&values, rows, DIM).unwrap()).unwrap();
    let before = store.snapshot().unwrap();
    let ask =
        |camera| Ask { filter: Filter { cameras: Some(vec![camera]), ..Filter::default() }, ..Ask::nearest(rows) };
    let search = |camera| before.search(Rows::new(&values[..DIM], 1, DIM).unwrap(), &ask(camera)).unwrap().remove(0);
    let old = [search(0), search(1), search(1)];
    assert_eq!((old[0].len(), old[1].len(), &old[1]), (100, 100, &old[2]));
    assert_eq!(before.select(&ask(0).filter).unwrap(), ids.iter().step_by(3).copied().collect::<Vec<_>>());
    store.remove(&Selection::Templates(vec![ids[1], ids[3], ids[100]])).unwrap();
    for (camera, removed) in [(1, [ids[1], ids[100]]), (0, [ids[3], ids[3]]), (1, [ids[1], ids[100]])] {
        let wanted: Vec<_> = old[camera].iter().filter(|hit| !removed.contains(&hit.id)).copied().collect();
        assert_eq!(search(camera as u32), wanted, "camera {camera}");
        assert_eq!(before.count(&ask(camera as u32).filter).unwrap(), wanted.len() as u64, "camera {camera}");
    }
}

#[test]
fn removed_rows_are_overwritten_in_every_file() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = new(&folder);
    let row = row_of("anna", DIM);
    let found = traces(&folder, &row).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].file.ends_with("segments/00000001.values") && found[0].offset == 4096);
    // Wherever it is: a log, a copy, at any offset.
    let litter = folder.join("segments/.tmp");
    std::fs::write(&litter, [&vec![1; (1 << 20) - 13], bytemuck::cast_slice::<f32, u8>(&row)].concat()).unwrap();
    assert_eq!(traces(&folder, &row).unwrap().len(), 2);
    std::fs::remove_file(litter).unwrap();
    store.remove(&Selection::Subject("anna".into())).unwrap();
    assert_eq!(traces(&folder, &row).unwrap(), []);
    assert_eq!(traces(&folder, &row_of("bob", DIM)).unwrap().len(), 1);
    let name = |folder: &Path| -> bool {
        let files = ["gallery.db", "gallery.db-wal"].map(|file| std::fs::read(folder.join(file)).unwrap_or_default());
        files.iter().any(|bytes| bytes.windows(4).any(|window| window == b"anna"))
    };
    assert!(!name(&folder), "the name is left");
    assert_eq!(store.check().unwrap(), []);
    let before = store.info().unwrap();
    assert_eq!((before.templates, before.removed), (1, 1));
    store.compact().unwrap();
    let after = store.info().unwrap();
    assert_eq!((after.templates, after.removed), (1, 0));
}

#[test]
fn rows_take_little_more_than_their_values() {
    let scratch = scratch();
    let (rows, dim) = (5000, 512);
    let store = Store::create(&scratch.path().join("g"), &model(dim)).unwrap();
    let values = unit_rows(&mut Dice(2), rows, dim);
    let template = |row: usize| NewTemplate {
        subject: Some(format!("{:04}", row / 4)),
        camera: Some(row as u32 % 6),
        taken: Some(1_700_000_000_000 + row as i64),
        tags: vec!["gate".into()],
        source: format!("Market-1501/bounding_box_train/{row:04}_c1s1_{row:06}_01.jpg"),
    };
    let templates: Vec<NewTemplate> = (0..rows).map(template).collect();
    store.enrol(&templates, Rows::new(&values, rows, dim).unwrap()).unwrap();
    drop(store);
    let store = Store::open(&scratch.path().join("g")).unwrap();
    let bytes = store.info().unwrap().bytes as f64 / (rows * dim * 4) as f64;
    assert!(bytes < 1.1, "{bytes:.3} times the values");
}

#[test]
fn what_is_no_gallery_is_refused_and_left_alone() {
    let scratch = scratch();
    let folder = scratch.path();
    for (folder, problem) in [(folder.join("none"), "no such folder"), (folder.to_owned(), "no gallery.db")] {
        for error in [Store::open(&folder).unwrap_err(), Store::write(&folder, false).unwrap_err()] {
            assert!(matches!(error, GalleryError::NoGallery { .. }) && error.to_string().contains(problem), "{error}");
        }
    }
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
    // Somebody's pictures, in a folder that happens to have the name of ours.
    let pictures = folder.join("pictures");
    std::fs::create_dir_all(pictures.join("segments")).unwrap();
    std::fs::write(pictures.join("segments/1.jpg"), "x").unwrap();
    let error = Store::create(&pictures, &model(DIM)).unwrap_err();
    assert!(matches!(error, GalleryError::Occupied { found: "files", .. }), "{error}");
    assert!(!pictures.join("gallery.db").exists());
    std::fs::write(folder.join("gallery.db"), "no database, but long enough to be looked at as one".repeat(100))
        .unwrap();
    let error = Store::open(folder).unwrap_err();
    assert!(matches!(error, GalleryError::Damaged { .. }), "{error}");
    let existing = folder.join("g");
    drop(new(&existing));
    assert!(matches!(Store::create(&existing, &model(DIM)), Err(GalleryError::Occupied { .. })));
    for dim in [0, gallery::MAX_DIM + 1] {
        let error = Store::create(&folder.join("dim"), &model(dim)).unwrap_err();
        assert!(matches!(error, GalleryError::Field { what: "dim", .. }), "{error}");
    }
    let database = rusqlite::Connection::open(folder.join("other.db")).unwrap();
    database.execute_batch("CREATE TABLE t (a); PRAGMA application_id = 7;").unwrap();
    drop(database);
    std::fs::create_dir(folder.join("o")).unwrap();
    std::fs::rename(folder.join("other.db"), folder.join("o/gallery.db")).unwrap();
    let error = Store::write(&folder.join("o"), false).unwrap_err();
    assert!(error.to_string().contains("a database of something else"), "{error}");
    let database = rusqlite::Connection::open(existing.join("gallery.db")).unwrap();
    database.execute_batch("PRAGMA user_version = 4").unwrap();
    drop(database);
    for error in [Store::open(&existing).unwrap_err(), Store::write(&existing, false).unwrap_err()] {
        assert!(error.to_string().contains("layout version 4, this program reads 3"), "{error}");
    }
}

/// A gallery may lie among the pictures it was made of.
#[test]
fn other_files_of_the_folder_are_left_alone() {
    let scratch = scratch();
    let folder = scratch.path();
    std::fs::write(folder.join("holiday.jpg"), "x").unwrap();
    drop(new(folder));
    std::fs::write(folder.join("segments/holiday.jpg"), "x").unwrap();
    std::fs::write(folder.join("segments/00000007.values"), "of nobody").unwrap();
    let store = Store::write(folder, false).unwrap();
    store.remove(&Selection::Subject("anna".into())).unwrap();
    store.compact().unwrap();
    assert!(folder.join("holiday.jpg").exists() && folder.join("segments/holiday.jpg").exists());
    assert!(!folder.join("segments/00000007.values").exists());
}

#[test]
fn several_changes_are_one() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = new(&folder);
    let before = store.info().unwrap();
    let now = || names(&*store.snapshot().unwrap(), DIM);
    let row = |name: &str| row_of(name, DIM);
    let (carl, dora) = (row("carl"), row("dora"));
    fn one(row: &[f32]) -> Rows<'_> {
        Rows::new(row, 1, DIM).unwrap()
    }
    let done: Result<_, GalleryError> = store.change(|changes| {
        changes.enrol(&[named("carl")], one(&carl))?;
        changes.remove(&Selection::Subject("anna".into()))?;
        changes.describe("two of them")?;
        assert_eq!(now(), ["anna", "bob"], "others see nothing yet");
        changes.enrol(&[named("dora")], one(&dora))
    });
    assert_eq!(done.unwrap().len(), 1);
    assert_eq!(
        (now(), store.about().unwrap()),
        (vec!["bob".into(), "carl".into(), "dora".into()], "two of them".into())
    );
    assert_eq!(store.info().unwrap().generation, before.generation + 2, "the change, and that the row is erased");
    assert_eq!(traces(&folder, &row("anna")).unwrap(), []);

    // Nothing of a change that fails, and nothing of one whose failure nobody looked at.
    let fails: Result<(), GalleryError> = store.change(|changes| {
        changes.enrol(&[named("eve")], one(&row("eve")))?;
        changes.remove(&Selection::Subject("nobody".into())).map(drop)
    });
    assert!(matches!(fails, Err(GalleryError::NoSubject { .. })));
    let ignored: Result<(), GalleryError> = store.change(|changes| {
        changes.remove(&Selection::Subject("bob".into()))?;
        let _ = changes
            .enrol(&[named("eve"), named("\n")], Rows::new(&[carl.clone(), dora.clone()].concat(), 2, DIM).unwrap());
        Ok(())
    });
    assert!(matches!(ignored, Err(GalleryError::GivenUp { .. })), "{ignored:?}");
    assert_eq!(now(), ["bob", "carl", "dora"]);
    enrol(&store, &["fay"], DIM).unwrap();
    assert_eq!(now(), ["bob", "carl", "dora", "fay"]);
    drop(store);
    assert_eq!(Store::write(&folder, false).unwrap().check().unwrap(), []);
}

#[test]
fn a_gallery_is_made_anew_in_one_change() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = new(&folder);
    let reader = Store::open(&folder).unwrap();
    let before = reader.snapshot().unwrap();
    let other = Model { contract_id: "fedcba9876543210".into(), ..model(DIM + 3) };
    let fails: Result<(Store, ()), GalleryError> = store.renew(&other, |changes| {
        changes.enrol(&[named("carl")], Rows::new(&row_of("carl", DIM + 3), 1, DIM + 3).unwrap())?;
        changes.enrol(&[named("")], Rows::new(&row_of("dora", DIM + 3), 1, DIM + 3).unwrap()).map(drop)
    });
    assert!(matches!(fails, Err(GalleryError::Field { .. })));
    assert_eq!(names(&*reader.snapshot().unwrap(), DIM), ["anna", "bob"]);
    let store = Store::write(&folder, false).unwrap();
    assert_eq!(store.model(), &model(DIM));
    let renewed: Result<_, GalleryError> = store.renew(&other, |changes| {
        changes.enrol(&[named("carl")], Rows::new(&row_of("carl", DIM + 3), 1, DIM + 3).unwrap())
    });
    let (store, ids) = renewed.unwrap();
    assert!(ids[0].0 > 2, "ids are never used again");
    assert_eq!((store.model(), names(&*store.snapshot().unwrap(), DIM + 3)), (&other, vec!["carl".into()]));
    assert_eq!(store.check().unwrap(), []);
    assert_eq!(traces(&folder, &row_of("anna", DIM)).unwrap(), []);
    // Who had it open is told, and what was seen before stays.
    assert!(matches!(reader.snapshot(), Err(GalleryError::Renewed { .. })));
    assert!(matches!(reader.info(), Err(GalleryError::Renewed { .. })));
    assert_eq!(before.search(Rows::new(&row_of("bob", DIM), 1, DIM).unwrap(), &Ask::nearest(1)).unwrap()[0][0].id.0, 2);
    drop(store);
    assert_eq!(Store::write_or_create(&folder, &model(DIM), false).unwrap().model(), &other, "what is there stays");
    let new = Store::write_or_create(&scratch.path().join("new"), &model(DIM), false).unwrap();
    assert_eq!((new.model(), new.info().unwrap().templates), (&model(DIM), 0));
}

#[cfg(unix)]
#[test]
fn every_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = new(&folder);
    let _reader = store.snapshot().unwrap();
    let mut seen = 0;
    for folder in [folder.clone(), folder.join("segments")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let wanted = if entry.path().is_dir() { 0o700 } else { 0o600 };
            if entry.file_name() != ".lock" {
                assert_eq!(mode, wanted, "{}: {mode:o}", entry.path().display());
                seen += 1;
            }
        }
    }
    assert_eq!(seen, 6, "catalogue, its log and index, the folder, two files of rows");
}
