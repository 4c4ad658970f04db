//! Disks that are full, or that can only be read: real ones, a few hundred KiB of memory, mounted for a process.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::Command;

use gallery::{Engine, GalleryError, Selection, Store};

use crate::support::{enrol, model, names};

const DIM: usize = 64;
const FOLDER: &str = "VITRINE_TEST_SMALL_DISK";

/// Runs a test of this file in a process that has a small disk of its own. Not every machine lets a user mount one.
fn with_small_disk(test: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let own = |script: &str| {
        let mut command = Command::new("unshare");
        command
            .args(["--map-root-user", "--mount", "sh", "-c"])
            .arg(format!("mount -t tmpfs -o size=700k tmpfs \"$1\"{script}"));
        command.arg("sh").arg(scratch.path());
        command
    };
    if !own("").output().is_ok_and(|output| output.status.success()) {
        eprintln!("{test} is not tested: no disk can be mounted here");
        return;
    }
    let program = std::env::current_exe().unwrap();
    let mut command = own(" && exec \"$2\" --exact \"$3\" --nocapture");
    let output = command.arg(program).arg(test).env(FOLDER, scratch.path()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

fn small_disk() -> Option<PathBuf> {
    std::env::var(FOLDER).ok().map(PathBuf::from)
}

fn chain(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", chain(source)));
    error.to_string() + &source.unwrap_or_default()
}

fn is_full(error: &GalleryError) -> bool {
    let said = chain(error);
    ["No space left", "disk is full"].iter().any(|words| said.contains(words))
}

#[test]
fn what_fills_a_disk() {
    let Some(disk) = small_disk() else { return };
    let folder = disk.join("g");
    let store = Store::create(&folder, &model(DIM)).unwrap();
    std::fs::write(disk.join("ballast"), vec![1; 150 << 10]).unwrap();
    let mut known: Vec<String> = Vec::new();
    let error = loop {
        let new: Vec<String> = (known.len()..known.len() + 20).map(|number| format!("p{number}")).collect();
        match enrol(&store, &new.iter().map(String::as_str).collect::<Vec<_>>(), DIM) {
            Ok(_) => known.extend(new),
            Err(error) => break error,
        }
    };
    assert!(is_full(&error), "{}", chain(&error));
    assert!(known.len() > 100, "{}", known.len());
    // What was said to be enrolled is, and is found.
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), known);
    // Nobody is lost by a change that has no room, and it succeeds or says so.
    match store.remove(&Selection::Subject("p1".into())) {
        Ok(_) | Err(GalleryError::NotErased { .. }) => known.retain(|name| name != "p1"),
        Err(error) => assert!(is_full(&error), "{}", chain(&error)),
    }
    drop(store);
    match Store::write(&folder, false) {
        Ok(store) => assert_eq!(names(&*store.snapshot().unwrap(), DIM), known),
        Err(error) => assert!(is_full(&error), "{}", chain(&error)),
    }
    std::fs::remove_file(disk.join("ballast")).unwrap();
    let store = Store::write(&folder, false).unwrap();
    assert_eq!((names(&*store.snapshot().unwrap(), DIM), store.check().unwrap()), (known.clone(), vec![]));
    enrol(&store, &["last"], DIM).unwrap();
    known.push("last".into());
    assert_eq!(names(&*store.snapshot().unwrap(), DIM), known);
}

#[test]
fn a_full_disk_is_called_so_and_loses_nothing() {
    with_small_disk("disk::what_fills_a_disk");
}

#[test]
fn what_is_done_on_a_disk_that_can_only_be_read() {
    let Some(disk) = small_disk() else { return };
    let folder = disk.join("g");
    enrol(&Store::create(&folder, &model(DIM)).unwrap(), &["anna", "bob"], DIM).unwrap();
    let mount = |how: &str| {
        let done = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(&disk).status().unwrap();
        assert!(done.success());
    };
    mount("ro");
    let store = Store::open(&folder).unwrap();
    assert_eq!((names(&*store.snapshot().unwrap(), DIM), store.check().unwrap()), (own(&["anna", "bob"]), vec![]));
    assert!(store.log(|_| ()).unwrap().is_empty());
    drop(store);
    let refused = |path: &Path| {
        let created = Store::create(path, &model(DIM)).map(drop);
        [Store::write(&folder, false).map(drop).unwrap_err(), created.unwrap_err()]
    };
    for error in refused(&disk.join("new")) {
        assert!(chain(&error).contains("Read-only file system"), "{}", chain(&error));
    }
    mount("rw");
    let store = Store::write(&folder, false).unwrap();
    assert_eq!((names(&*store.snapshot().unwrap(), DIM), store.check().unwrap()), (own(&["anna", "bob"]), vec![]));
}

#[test]
fn a_gallery_that_can_only_be_read_is_searched_and_not_changed() {
    with_small_disk("disk::what_is_done_on_a_disk_that_can_only_be_read");
}

fn own(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
