//! A program that searches once does not keep the rows in its memory.

use gallery::{Ask, Engine, Hit, KeyFile, Layout, NewTemplate, Rows, Snapshot, Store};

use crate::support::{Dice, model, scratch, unit_rows};

const ROWS: usize = 30_000;
const DIM: usize = 256;
/// Of all values.
const BYTES: usize = ROWS * DIM * size_of::<f32>();

/// The ten nearest to one probe, without and with keeping rows in memory.
fn searches(store: &Store, mut between: impl FnMut(&str)) -> [Vec<Vec<Hit>>; 3] {
    let mut dice = Dice(5);
    let values = unit_rows(&mut dice, ROWS, DIM);
    store.enrol(&vec![NewTemplate::default(); ROWS], Rows::new(&values, ROWS, DIM).unwrap()).unwrap();
    let probe = unit_rows(&mut dice, 1, DIM);
    let now = store.snapshot().unwrap();
    let search = |now: &dyn Snapshot| now.search(Rows::new(&probe, 1, DIM).unwrap(), &Ask::nearest(10)).unwrap();
    let kept = search(&*now);
    between("kept");
    now.read_once();
    let once = search(&*now);
    between("once");
    let again = search(&*now);
    between("again");
    [kept, once, again]
}

/// Bytes of the values below `folder` that are in the memory of this process.
#[cfg(target_os = "linux")]
fn mapped(folder: &std::path::Path) -> usize {
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = maps.lines();
    let mut bytes = 0;
    while let Some(line) = lines.next() {
        if line.contains(folder.to_str().unwrap()) && line.ends_with(".values") {
            let size = lines.find_map(|line| line.strip_prefix("Rss:")).unwrap();
            bytes += size.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024;
        }
    }
    bytes
}

#[cfg(target_os = "linux")]
#[test]
fn rows_leave_memory_when_they_were_compared_once() {
    let folder = scratch();
    let store = Store::create(&folder.path().join("g"), &model(DIM)).unwrap();
    let mut sizes = Vec::new();
    let [kept, once, again] = searches(&store, |what| sizes.push((what.to_owned(), mapped(folder.path()))));
    assert_eq!(once, kept);
    assert_eq!(again, kept);
    let size = |what: &str| sizes.iter().find(|(own, _)| own == what).unwrap().1;
    assert!(size("kept") > BYTES * 9 / 10, "{sizes:?} of {BYTES}");
    // What is left are pages of the rows that were found, and some around them.
    assert!(size("once") < BYTES / 4 && size("again") < BYTES / 4, "{sizes:?} of {BYTES}");
}

/// The rows of an encrypted gallery are in memory alone: given back, they would be zeros.
#[test]
fn open_rows_of_an_encrypted_gallery_stay() {
    let folder = scratch();
    let key = KeyFile::create(&folder.path().join("key")).unwrap();
    let layout = Layout { key: Some(key), ..Layout::default() };
    let store = Store::create_with(&folder.path().join("g"), &model(DIM), layout).unwrap();
    let [kept, once, again] = searches(&store, |_| ());
    assert!(kept[0].len() == 10 && once == kept && again == kept);
}
