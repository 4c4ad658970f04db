//! Real processes killed at any moment.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use gallery::{Engine, Filter, Found, GalleryError, KeyFile, Layout, Model, Opening, Rows, Selection, Store, traces};

use crate::support::{Dice, enrol, model, names, row_of, scratch};

const DIM: usize = 64;
const FOLDER: &str = "VITRINE_TEST_GALLERY";
const SEED: &str = "VITRINE_TEST_SEED";
const KEY: &str = "VITRINE_TEST_KEY";

/// Kills of a writer; `VITRINE_TEST_KILLS` asks for more.
const KILLS: u64 = 200;

/// The models that the gallery migrates to and fro between, one after the other.
fn models() -> [Model; 2] {
    [model(DIM), Model { contract_id: "fedcba9876543210".into(), ..model(DIM - 16) }]
}

/// The process that is killed; alone it does nothing. Before each change it says what it is going to do, after it that
/// it is done.
#[test]
fn writer_that_is_killed() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let mut journal = OpenOptions::new().append(true).create(true).open(folder.with_extension("journal")).unwrap();
    let mut say = |line: String| journal.write_all((line + "\n").as_bytes()).unwrap();
    let key = std::env::var(KEY).ok().map(|key| KeyFile::open(Path::new(&key)).unwrap());
    let mut store = write(folder, key.as_ref());
    let mut dice = Dice(seed);
    for change in 0.. {
        let dim = store.model().dim;
        let known = names(&*store.snapshot().unwrap(), dim);
        match dice.below(13) {
            0..5 => {
                let names: Vec<String> =
                    (0..1 + dice.below(60)).map(|number| format!("s{seed}c{change}n{number}")).collect();
                say(format!("+ {}", names.join(" ")));
                enrol(&store, &names.iter().map(String::as_str).collect::<Vec<_>>(), dim).unwrap();
            }
            5 | 6 if !known.is_empty() => {
                // About as many leave as come.
                let leave: Vec<String> =
                    (0..1 + known.len() / 3).map(|_| known[dice.below(known.len())].clone()).collect();
                let leave: BTreeSet<String> = leave.into_iter().collect();
                let filter = Filter { subjects: Some(leave.iter().cloned().collect()), ..Filter::default() };
                let ids = store.snapshot().unwrap().select(&filter).unwrap();
                say(format!("- {}", leave.into_iter().collect::<Vec<_>>().join(" ")));
                store.remove(&Selection::Templates(ids)).unwrap();
            }
            // Somebody becomes somebody else, with a picture and a match.
            7 | 8 if known.len() > 1 => {
                let people = store.people(0, 2, None).unwrap();
                let [from, into] = &people[..] else { continue };
                say(format!("> {} {}", from.name, into.name));
                let merged = store.change(|changes| {
                    let new = changes.merge(from.number, into.number)?;
                    changes.picture(new[0], &[0xFF, 0xD8, 0xFF, 1])?;
                    let found = Found { template: Some(new[0]), ..Found::default() };
                    changes.matched(&found)
                });
                merged.map_err(|error: GalleryError| error).unwrap();
            }
            9..12 => {
                say("=".into());
                let [one, other] = models();
                let to = if *store.model() == one { other } else { one };
                store.begin_migration(&to).unwrap();
                let mut some = store.to_migrate().unwrap();
                let few = dice.below(3) == 0;
                some.retain(|_| !few || dice.below(2) == 0);
                let templates = store.snapshot().unwrap().templates(&some).unwrap();
                let row =
                    |template: &gallery::Template| row_of(template.about.source.strip_suffix(".jpg").unwrap(), to.dim);
                let values: Vec<f32> = templates.iter().flat_map(row).collect();
                store.stage(&some, Rows::new(&values, some.len(), to.dim).unwrap()).unwrap();
                if store.to_migrate().unwrap().is_empty() {
                    store = store.finish_migration(false).unwrap().0;
                }
            }
            _ => {
                say("=".into());
                store.compact().unwrap();
            }
        }
        say("done".into());
    }
}

fn write(folder: &Path, key: Option<&KeyFile>) -> Store {
    Store::write_with(folder, &Opening { wait: true, key: key.cloned(), ..Opening::default() }).unwrap()
}

#[test]
fn a_killed_writer_loses_nothing_and_mixes_nothing_up() {
    kill(std::env::var("VITRINE_TEST_KILLS").map_or(KILLS, |kills| kills.parse().unwrap()), false);
}

/// The key store is written by SQLite, beside the gallery's own.
#[test]
fn a_killed_writer_of_an_encrypted_gallery_loses_nothing() {
    kill(std::env::var("VITRINE_TEST_KILLS").map_or(KILLS / 2, |kills| kills.parse().unwrap()), true);
}

fn kill(kills: u64, encrypted: bool) {
    let scratch = scratch();
    let folder = scratch.path().join("g");
    let path = scratch.path().join("key");
    let key = encrypted.then(|| KeyFile::create(&path).unwrap());
    let layout = Layout { segment_bytes: 100 * DIM * 4, key: key.clone(), ..Layout::default() };
    drop(Store::create_with(&folder, &model(DIM), layout).unwrap());
    let journal = folder.with_extension("journal");
    let mut dice = Dice(1);
    // Who is enrolled, and who was.
    let mut known: Vec<String> = Vec::new();
    let mut outcomes = [0, 0];
    let (mut switched, mut last) = (0, DIM);
    for kill in 0..kills {
        std::fs::write(&journal, "").unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kill::writer_that_is_killed", "--nocapture"])
            .env(FOLDER, &folder)
            .env(SEED, kill.to_string())
            .envs(encrypted.then_some((KEY, &path)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(2_000 + dice.below(if encrypted { 80_000 } else { 40_000 }) as u64));
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.stderr.is_empty(), "kill {kill}: {}", String::from_utf8_lossy(&output.stderr));

        let (mut gone, mut pending) = (Vec::new(), None);
        let text = std::fs::read_to_string(&journal).unwrap();
        for line in text.lines() {
            match line {
                "done" => apply(&mut known, &mut gone, pending.take().unwrap()),
                change => pending = Some(change),
            }
        }
        let store = write(&folder, key.as_ref());
        let dim = store.model().dim;
        switched += usize::from(dim != last);
        last = dim;
        let now = names(&*store.snapshot().unwrap(), dim);
        if now != known {
            // What was not acknowledged has happened as a whole.
            apply(&mut known, &mut gone, pending.unwrap_or_else(|| panic!("kill {kill}: nothing was going on")));
            assert_eq!(now, known, "kill {kill}: {pending:?}");
            outcomes[1] += 1;
        } else if pending.is_some() {
            outcomes[0] += 1;
        }
        if kill % 10 == 0 {
            assert_eq!(store.check().unwrap(), [], "kill {kill}");
            for (name, model) in gone.iter().take(3).flat_map(|name| models().map(|model| (name, model))) {
                assert_eq!(traces(&folder, &row_of(name, model.dim)).unwrap(), [], "kill {kill}: {name} is left");
            }
        }
    }
    println!("{kills} kills: {} changes undone, {} found done, {switched} migrations", outcomes[0], outcomes[1]);
    assert!(outcomes[0] > 0, "no change was interrupted");
    assert!(switched > 0, "no migration was finished");
    let mut records = 0;
    assert_eq!(Store::open_with(&folder, key.as_ref()).unwrap().log(|_| records += 1).unwrap(), Vec::<String>::new());
    // Encrypted, a change takes longer than what is left of it until the kill where the machine is busy.
    let least = if key.is_some() { 10 } else { kills };
    assert!(records > least, "{records} records");
}

fn apply(known: &mut Vec<String>, gone: &mut Vec<String>, change: &str) {
    let (kind, list) = change.split_at(1);
    let list: Vec<String> = list.split_whitespace().map(String::from).collect();
    match kind {
        "+" => known.extend(list),
        "-" => {
            known.retain(|name| !list.contains(name));
            gone.extend(list);
        }
        // Templates get new ids, and are the last ones then.
        ">" => {
            let count = known.iter().filter(|name| **name == list[0]).count();
            known.retain(|name| *name != list[0]);
            known.extend((0..count).map(|_| list[1].clone()));
        }
        _ => {}
    }
}
