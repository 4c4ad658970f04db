//! Bits flip and files end too early: an error or the right answer, never another one.

use std::path::{Path, PathBuf};

use gallery::{Ask, Engine, Filter, GalleryError, Hit, Layout, Rows, Selection, Store, Template};

use crate::support::{Dice, enrol, model, named, row_of, scratch, unit_rows};

const DIM: usize = 8;

type Answers = (Vec<Vec<Hit>>, Vec<Template>, u64, Vec<Template>, Vec<f32>);

/// Everything that a gallery can be asked.
fn answers(folder: &Path) -> Result<Answers, GalleryError> {
    let store = Store::open(folder)?;
    let now = store.snapshot()?;
    let probes = unit_rows(&mut Dice(9), 6, DIM);
    let hits = now.search(Rows::new(&probes, 6, DIM).unwrap(), &Ask::nearest(8))?;
    let filter =
        Filter { subjects: Some(vec!["p3".into(), "p7".into()]), cameras: Some(vec![1, 2]), ..Filter::default() };
    let some = now.select(&filter)?;
    let all = now.select(&Filter::default())?;
    let count = now.count(&Filter::default())?;
    Ok((hits, now.templates(&some)?, count, now.templates(&all)?, now.vectors(&all)?.unwrap()))
}

fn gallery(folder: &Path) {
    let layout = Layout { segment_bytes: 30 * DIM * 4, ..Layout::default() };
    let store = Store::create_with(folder, &model(DIM), layout).unwrap();
    let mut dice = Dice(3);
    for batch in 0..4 {
        let names: Vec<String> = (0..20).map(|_| format!("p{}", dice.below(12))).collect();
        let templates = names.iter().enumerate().map(|(at, name)| {
            let tags = vec![format!("t{}", at % 3)];
            gallery::NewTemplate { camera: Some(at as u32 % 4), taken: Some(batch), tags, ..named(name) }
        });
        let values = unit_rows(&mut dice, 20, DIM);
        store.enrol(&templates.collect::<Vec<_>>(), Rows::new(&values, 20, DIM).unwrap()).unwrap();
    }
    store.remove(&Selection::Subject("p5".into())).unwrap();
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, mut files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    files.extend(folders.iter().flat_map(|folder| self::files(folder)));
    // What readers leave of SQLite's log is empty.
    let ending = |path: &Path| path.extension().and_then(|ending| ending.to_str()).unwrap_or("").to_owned();
    files.retain(|path| ["db", "rows", "values"].contains(&&*ending(path)));
    files.sort();
    files
}

#[test]
fn a_flipped_bit_is_an_error_or_changes_nothing() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    gallery(&folder);
    let right = answers(&folder).unwrap();
    let mut dice = Dice(4);
    let mut noticed = 0;
    let files = files(&folder);
    assert_eq!(files.len(), 7, "the catalogue and three segments: {files:?}");
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        let rows = path.extension().is_some_and(|ending| ending != "db");
        for _ in 0..600 {
            // In a segment's header only its 48 bytes mean something.
            let at = match dice.below(bytes.len()) {
                at if rows && (48..4096).contains(&at) => at % 48,
                at => at,
            };
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << dice.below(8);
            std::fs::write(&path, &flipped).unwrap();
            let found = answers(&folder);
            let told = Store::open(&folder).and_then(|store| store.check());
            let place = format!("{}, byte {at}", path.display());
            match found {
                Ok(found) => assert!(found == right, "{place}: another answer"),
                Err(error) => {
                    noticed += 1;
                    assert!(!matches!(&told, Ok(problems) if problems.is_empty()), "{place}: check is silent: {error}");
                }
            }
            // Of a removed row the record is left, which `check` reads.
            assert!(!rows || !matches!(&told, Ok(problems) if problems.is_empty()), "{place}: check is silent");
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(noticed > 1500, "{noticed} noticed");
    assert!(answers(&folder).unwrap() == right);
}

#[test]
fn files_that_are_cut_missing_or_of_another_gallery_are_named() {
    let scratch = scratch();
    let (folder, other) = (scratch.path().join("g"), scratch.path().join("h"));
    gallery(&folder);
    gallery(&other);
    let right = answers(&folder).unwrap();
    for path in files(&folder) {
        let bytes = std::fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        for length in [0, 1, 47, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..length]).unwrap();
            match answers(&folder) {
                // SQLite reads zeros where its last page ends too early, and that page may end with one.
                Ok(found) => assert!(
                    name == "gallery.db" && length == bytes.len() - 1 && found == right,
                    "{name} of {length} bytes is taken for whole"
                ),
                Err(error) => assert!(
                    chain(&error).contains(name) || name == "gallery.db",
                    "{name} of {length} bytes: {}",
                    chain(&error)
                ),
            }
        }
        std::fs::remove_file(&path).unwrap();
        let error = answers(&folder).unwrap_err();
        assert!(chain(&error).contains(&name[..8]), "no {name}: {}", chain(&error));
        if name != "gallery.db" {
            std::fs::copy(other.join("segments").join(name), &path).unwrap();
            let error = answers(&folder).unwrap_err();
            assert!(error.to_string().contains("another gallery"), "{error}");
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(answers(&folder).unwrap() == right);
}

/// Segments of a later version, and of a machine that stores numbers the other way round.
#[test]
fn segments_that_others_wrote_are_refused_for_what_they_are() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    enrol(&Store::create(&folder, &model(DIM)).unwrap(), &["a", "b"], DIM).unwrap();
    for name in ["values", "rows"] {
        let path = folder.join(format!("segments/00000001.{name}"));
        let bytes = std::fs::read(&path).unwrap();
        let with = |change: fn(&mut [u8])| {
            let mut other = bytes.clone();
            change(&mut other);
            let checksum = crc32fast::hash(&other[..44]);
            other[44..48].copy_from_slice(&checksum.to_le_bytes());
            std::fs::write(&path, other).unwrap();
            let store = Store::open(&folder).unwrap();
            let (error, told) = (store.snapshot().map(drop).unwrap_err(), store.check().unwrap());
            assert!(!told.is_empty(), "{name}");
            error
        };
        let newer = with(|bytes| bytes[8] = 2);
        assert!(matches!(&newer, GalleryError::Version { found: 2, known: 1, path: at } if *at == path), "{newer}");
        let other = with(|bytes| bytes[12..16].reverse());
        assert!(matches!(&other, GalleryError::ByteOrder { path: at } if *at == path), "{other}");
        std::fs::write(&path, bytes).unwrap();
    }
    assert_eq!(crate::support::names(&*Store::open(&folder).unwrap().snapshot().unwrap(), DIM), ["a", "b"]);
}

/// Rows that change places have right checksums for another place.
#[test]
fn rows_that_changed_places_are_noticed() {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    enrol(&store, &["a", "b"], DIM).unwrap();
    drop(store);
    for (ending, stride) in [("values", DIM * 4), ("rows", 48)] {
        let path = folder.join(format!("segments/00000001.{ending}"));
        let bytes = std::fs::read(&path).unwrap();
        let (mut swapped, (first, second)) = (bytes[..4096].to_vec(), bytes[4096..].split_at(stride));
        swapped.extend([second, first].concat());
        std::fs::write(&path, swapped).unwrap();
        let now = Store::open(&folder).unwrap().snapshot().unwrap();
        let found = now.search(Rows::new(&row_of("a", DIM), 1, DIM).unwrap(), &Ask::nearest(1));
        // Records that changed places with nothing else are found by their values' checksums.
        assert!(matches!(found, Err(GalleryError::Damaged { .. })), "{ending}: {found:?}");
        assert!(!Store::open(&folder).unwrap().check().unwrap().is_empty(), "{ending}");
        std::fs::write(&path, bytes).unwrap();
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    error.to_string() + &source.unwrap_or_default()
}
