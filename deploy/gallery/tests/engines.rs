use std::path::Path;
use std::sync::Mutex;

use gallery::{Engine, KeyFile, Layout, Memory, Model, Store};

use crate::suite;
use crate::support::scratch;

#[test]
fn memory_keeps_every_promise() {
    suite::all(&|model| Box::new(Memory::new(model.clone())));
}

#[test]
fn the_store_keeps_every_promise() {
    let folder = scratch();
    suite::all(&|model| Box::new(Store::create(&next(folder.path()), model).unwrap()));
}

/// Rows that lie in many segments must not be told from rows in one.
#[test]
fn the_store_keeps_every_promise_in_tiny_segments() {
    let folder = scratch();
    suite::all(&|model: &Model| -> Box<dyn Engine> {
        let layout = Layout { segment_bytes: 3 * 4 * model.dim, ..Layout::default() };
        Box::new(Store::create_with(&next(folder.path()), model, layout).unwrap())
    });
}

/// Nor may rows that are encrypted, in one segment or in many.
#[test]
fn an_encrypted_store_keeps_every_promise() {
    let folder = scratch();
    let key = KeyFile::create(&folder.path().join("key")).unwrap();
    for rows in [usize::MAX, 3] {
        suite::all(&|model: &Model| -> Box<dyn Engine> {
            let segment_bytes = rows.saturating_mul(4 * model.dim);
            let layout = Layout { segment_bytes, key: Some(key.clone()), ..Layout::default() };
            Box::new(Store::create_with(&next(folder.path()), model, layout).unwrap())
        });
    }
}

fn next(folder: &Path) -> std::path::PathBuf {
    static NUMBER: Mutex<usize> = Mutex::new(0);
    let mut number = NUMBER.lock().unwrap();
    *number += 1;
    folder.join(number.to_string())
}
