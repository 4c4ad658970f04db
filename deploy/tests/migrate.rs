//! A gallery becomes one of another model, and its log says so.

use std::process::{Command, Stdio};
use std::time::Duration;

use deploy::gallery::Gallery;
use serde_json::Value;

use crate::fixture::Fixture;

/// The id of `other.onnx`.
const OTHER: &str = "fedcba9876543210";

/// People with pictures, and a second model whose embeddings are others: it does not look at mirrored pictures.
fn fixture(people: &[&str], pictures: usize) -> Fixture {
    let fixture = Fixture::new();
    for name in people {
        for picture in 0..pictures {
            fixture.picture(&format!("set/{name}/{picture}.png"), name, 0.1 * picture as f32);
        }
    }
    write(&fixture, "other.onnx", OTHER);
    fixture
}

fn write(fixture: &Fixture, name: &str, contract_id: &str) {
    let mut contract = crate::fixture::contract();
    let embedding = contract.embedding.as_mut().unwrap();
    (embedding.flip, embedding.contract_id) = (false, contract_id.into());
    fixture.write_model(name, &crate::fixture::with_contract(crate::fixture::graph(), &contract));
}

/// Numbers of the templates of a gallery.
fn numbers(fixture: &Fixture, gallery: &str) -> Vec<usize> {
    Gallery::open(&fixture.path(gallery)).unwrap().rows().unwrap()
}

fn contract_id(fixture: &Fixture, gallery: &str) -> String {
    Gallery::open(&fixture.path(gallery)).unwrap().model().contract_id.clone()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_gallery_is_embedded_again_and_keeps_all_that_is_said() {
    let fixture = fixture(&["ada", "ben", "cleo"], 3);
    let enroll = |model: &str, gallery: &str| {
        let line = format!("enroll -m @{model} --gallery @{gallery} --camera 3 --taken 2026-11-28 --tag gate");
        fixture.run(&format!("{line} @set")).done();
        fixture.run(&format!("enroll -m @{model} --gallery @{gallery} --identity dan --picture @set/ada/0.png")).done();
        fixture.run(&format!("remove --gallery @{gallery} --template 2")).done();
    };
    enroll("model.onnx", "people");
    enroll("other.onnx", "wanted");
    let before = fixture.rows("people");
    assert_ne!(before.0, fixture.rows("wanted").0, "the models differ");
    // The way out is named by whoever is refused.
    let way_out = ["migrate", "people", "other.onnx", OTHER];
    fixture.run("search -m @other.onnx --gallery @people --query @set").error(&way_out);
    fixture.run("enroll -m @other.onnx --gallery @people --identity eve --picture @set/ada/0.png").error(&way_out);

    let answer = fixture.run("gallery migrate @people -m @other.onnx");
    assert!(answer.stderr.contains("thresholds of the old model"), "{}", answer.stderr);
    let said = answer.done();
    assert!(said.starts_with("9 templates embedded again") && said.contains(OTHER), "{said}");
    let after = fixture.rows("people");
    assert_eq!(after, fixture.rows("wanted"), "the rows are those of who enrols anew");
    assert_eq!((&after.1, numbers(&fixture, "people")), (&before.1, numbers(&fixture, "wanted")));
    assert_eq!(contract_id(&fixture, "people"), OTHER);
    fixture.run("gallery check @people").done();
    fixture.run("search -m @other.onnx --gallery @people --query @set").done();
    fixture.run("search -m @model.onnx --gallery @people --query @set").error(&["migrate", "people", "model.onnx"]);

    // Once more there is nothing to do, by whatever name the verb has; and back again.
    let said = fixture.run("migrate @people -m @other.onnx").done();
    assert!(said.contains("nothing is embedded again"), "{said}");
    let report = json(&fixture.run("gallery migrate @people -m @model.onnx --format json").done());
    let facts = [&report["switched"], &report["templates"], &report["dropped"], &report["lost"]];
    assert_eq!(facts, [&Value::from(true), &9.into(), &0.into(), &Value::Array(vec![])]);
    assert_eq!((report["from"]["contract_id"].as_str(), fixture.rows("people")), (Some(OTHER), before));
    let log = json(&fixture.run("gallery log @people --format json").done());
    let changes: Vec<&str> =
        log["entries"].as_array().unwrap().iter().map(|entry| entry["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["make", "enrol", "enrol", "remove", "migrate", "migrate"]);
    assert_eq!(log["entries"][4]["contract_id"], OTHER);
}

/// Rows of a file, and pictures that are gone, changed or no pictures any more.
#[test]
fn what_cannot_be_embedded_again_is_listed_and_keeps_the_gallery_as_it_is() {
    let fixture = fixture(&["ada", "ben", "cleo", "dan"], 1);
    fixture.run("enroll -m @model.onnx --gallery @people @set").done();
    fixture.run("gallery export @people -o @rows").done();
    std::fs::copy(fixture.path("rows/embeddings.npy"), fixture.path("more.npy")).unwrap();
    fixture.run("enroll -m @model.onnx --gallery @people @more.npy --identity eve").done();
    let before = fixture.rows("people");
    let good = std::fs::read(fixture.path("set/cleo/0.png")).unwrap();
    std::fs::remove_file(fixture.path("set/ada/0.png")).unwrap();
    std::fs::write(fixture.path("set/cleo/0.png"), "no picture").unwrap();
    fixture.picture("set/dan/0.png", "dan", 0.7);

    let line = "gallery migrate @people -m @other.onnx";
    let listed = |answer: crate::fixture::Answer| -> Vec<(u64, String)> {
        assert_eq!(answer.code, 2, "{}", answer.stderr);
        assert!(answer.stderr.contains("--drop-missing"), "{}", answer.stderr);
        let report = json(&answer.stdout);
        assert_eq!(report["switched"], false);
        let lost = report["lost"].as_array().unwrap().iter();
        lost.map(|lost| (lost["template"].as_u64().unwrap(), lost["cause"].as_str().unwrap().to_owned())).collect()
    };
    let cause = |template: u64, cause: &str| (template, cause.to_owned());
    let rows: Vec<(u64, String)> = (5..=8).map(|template| cause(template, "no_picture")).collect();
    let lost = listed(fixture.run(&format!("{line} --format json")));
    assert_eq!(lost[..3], [cause(1, "missing"), cause(3, "changed"), cause(4, "changed")]);
    assert_eq!(lost[3..], rows);
    let told = fixture.run(line);
    for word in ["ada", "0.png", "more.npy#3"] {
        assert!(told.stdout.contains(word), "{}", told.stdout);
    }
    assert_eq!(told.stdout.lines().count(), 8);
    let said = told.error(&["7", "8", "people", "--drop-missing", "--take-changed"]);
    // What was embedded stays embedded, and the gallery what it was.
    assert!(said.contains("1 of 8 templates were embedded by an earlier run"), "{said}");
    assert_eq!(fixture.rows("people"), before);
    fixture
        .run("verify -m @model.onnx --gallery @people --identity ben --picture @set/ben/0.png --threshold 0.9")
        .done();
    let info = json(&fixture.run("gallery info @people --format json").done());
    assert_eq!(
        (&info["migration"]["templates"], info["migration"]["model"]["contract_id"].as_str()),
        (&1.into(), Some(OTHER))
    );
    assert!(fixture.run("gallery info @people").done().contains("deploy gallery migrate"));

    let lost = listed(fixture.run(&format!("{line} --take-changed --format json")));
    assert_eq!(lost[..2], [cause(1, "missing"), cause(3, "unusable")], "{lost:?}");
    fixture.run(&format!("{line} --take-changed --strict")).error(&["--strict", "cleo"]);
    // The pictures come back, and somebody is enrolled and removed meanwhile.
    fixture.picture("set/ada/0.png", "ada", 0.0);
    std::fs::write(fixture.path("set/cleo/0.png"), good).unwrap();
    fixture.picture("more/fay.png", "fay", 0.0);
    fixture.run("enroll -m @model.onnx --gallery @people --identity fay --picture @more/fay.png").done();
    fixture.run("remove --gallery @people --identity ben").done();
    let said = fixture.run(&format!("{line} --take-changed --drop-missing")).done();
    assert!(said.contains("4 templates embedded again") && said.contains("4 removed; 4 in"), "{said}");
    assert_eq!(numbers(&fixture, "people"), [1, 3, 4, 9]);
    fixture.run("gallery check @people").done();
    for name in ["ada", "cleo", "dan"] {
        let claim = format!("verify -m @other.onnx --gallery @people --identity {name} --threshold 0.999");
        fixture.run(&format!("{claim} --picture @set/{name}/0.png")).done();
    }
}

#[test]
fn pictures_that_moved_are_found_by_their_names() {
    let fixture = fixture(&["ada", "ben"], 2);
    fixture.run("enroll -m @model.onnx --gallery @people @set").done();
    fixture.run("embed -m @model.onnx -o @followed @set").done();
    fixture.run("enroll -m @model.onnx --gallery @sealed @set --key-file @key").done();
    fixture.run("enroll -m @other.onnx --gallery @wanted @set").done();
    let wanted = fixture.rows("wanted").0;
    std::fs::create_dir(fixture.path("disk")).unwrap();
    // A copy, as another program makes it: its times are other ones.
    for name in ["ada", "ben"] {
        std::fs::create_dir_all(fixture.path(&format!("disk/photos/{name}"))).unwrap();
        for picture in 0..2 {
            let bytes = std::fs::read(fixture.path(&format!("set/{name}/{picture}.png"))).unwrap();
            std::fs::write(fixture.path(&format!("disk/photos/{name}/{picture}.png")), bytes).unwrap();
        }
    }
    std::fs::remove_dir_all(fixture.path("set")).unwrap();
    let line = "gallery migrate @people -m @other.onnx";
    // Nobody is removed because a disk is not there.
    let refused = fixture.run(&format!("{line} --drop-missing")).error(&["4", "--pictures"]);
    assert!(!refused.contains("--drop-missing"), "{refused}");
    fixture.run(&format!("{line} --pictures @disk")).error(&["4", "--pictures"]);
    let answer = fixture.run(&format!("{line} --pictures @disk/photos"));
    assert!(answer.stderr.contains("set") && answer.stderr.contains("photos"), "{}", answer.stderr);
    answer.done();
    // Everybody has the picture that was embedded, as it is there.
    std::fs::create_dir(fixture.path("disk/again")).unwrap();
    fixture.run("enroll -m @other.onnx --gallery @disk/again @disk/photos").done();
    let again = fixture.rows("disk/again");
    assert_eq!(again.0, wanted);
    assert!(again.1.iter().all(|said| said["path"].as_str().unwrap().contains("disk/photos/")), "{:?}", again.1);
    assert_eq!(fixture.rows("people"), again);
    fixture.run("gallery check @people").done();
    // What follows a folder follows the one that the pictures are in now; what is sealed stays so.
    for (gallery, key) in [("followed", ""), ("sealed", "--key-file @key")] {
        fixture.run(&format!("gallery migrate @{gallery} -m @other.onnx --pictures @disk/photos {key}")).done();
        fixture.run(&format!("gallery check @{gallery} {key}")).done();
        let found =
            fixture.run(&format!("search -m @other.onnx --gallery @{gallery} --query @disk/photos/ben/0.png {key}"));
        let found = found.done();
        assert!(found.contains("disk/photos/ada/0.png"), "{found}");
    }
    let told = fixture.run("gallery sync @followed -m @other.onnx").done();
    assert!(told.starts_with("0 new, 0 changed, 0 gone; 4 templates"), "{told}");
    let bytes = std::fs::read(fixture.path("sealed/gallery.db")).unwrap();
    assert!(!bytes.windows(11).any(|part| part == b"disk/photos"), "the path is on the disk in plain");
}

/// Pictures that moved to two folders, embedded by two runs: each template has the path of its own.
#[test]
fn each_template_has_the_path_that_its_picture_was_embedded_from() {
    let fixture = fixture(&["ada", "ben"], 1);
    fixture.run("enroll -m @model.onnx --gallery @people @set").done();
    for (name, disk) in [("ada", "one"), ("ben", "two")] {
        std::fs::create_dir_all(fixture.path(disk)).unwrap();
        std::fs::rename(fixture.path(&format!("set/{name}")), fixture.path(&format!("{disk}/{name}"))).unwrap();
    }
    let migrate = |disk: &str| fixture.run(&format!("gallery migrate @people -m @other.onnx --pictures @{disk}"));
    migrate("one").error(&["1", "2", "--drop-missing"]);
    let paths = || -> Vec<String> {
        fixture.rows("people").1.iter().map(|said| said["path"].as_str().unwrap().to_owned()).collect()
    };
    assert!(paths().iter().all(|path| path.contains("/set/")), "nothing changes before the end: {:?}", paths());
    migrate("two").done();
    let paths = paths();
    assert!(paths[0].ends_with("one/ada/0.png") && paths[1].ends_with("two/ben/0.png"), "{paths:?}");
    fixture.run("gallery check @people").done();
}

/// Another model, and the one the gallery has, while a migration is not finished.
#[test]
fn a_migration_is_finished_or_forgotten() {
    let fixture = fixture(&["ada", "ben"], 1);
    write(&fixture, "third.onnx", "00000000000000aa");
    fixture.run("enroll -m @model.onnx --gallery @people @set").done();
    let before = fixture.rows("people");
    std::fs::rename(fixture.path("set/ada"), fixture.path("away")).unwrap();
    fixture.run("gallery migrate @people -m @other.onnx --restart").error(&["--restart"]);
    fixture.run("gallery migrate @people -m @other.onnx").error(&["1", "2", "--drop-missing"]);
    fixture.run("gallery migrate @people -m @third.onnx").error(&[OTHER, "00000000000000aa", "--restart"]);
    // Who is refused while it runs is told.
    let lock = files::lock::Lock::wait(&fixture.path("people")).unwrap();
    let eve = "enroll -m @model.onnx --gallery @people --identity eve --picture @set/ben/0.png";
    fixture.run(eve).error(&[OTHER, "--wait", &std::process::id().to_string()]);
    drop(lock);
    let said = fixture.run("gallery migrate @people -m @model.onnx --restart").done();
    assert!(said.contains("nothing is embedded again"), "{said}");
    let info = json(&fixture.run("gallery info @people --format json").done());
    assert_eq!((&info["migration"], fixture.rows("people")), (&Value::Null, before));
    fixture.run("gallery migrate @people -m @other.onnx").error(&["1", "2", "--drop-missing"]);
    std::fs::rename(fixture.path("away"), fixture.path("set/ada")).unwrap();
    fixture.run("gallery migrate @people -m @third.onnx --restart").done();
    assert_eq!(contract_id(&fixture, "people"), "00000000000000aa");
    fixture.run("gallery check @people").done();
}

/// Killed at any moment, the gallery is the old one or the new one, is searched, and the migration goes on.
#[test]
fn a_killed_migration_goes_on() {
    let fixture = fixture(&["ada", "ben", "cleo"], 200);
    fixture.run("enroll -m @model.onnx --gallery @people @set").done();
    fixture.run("enroll -m @other.onnx --gallery @wanted @set").done();
    let (old, new) = (fixture.rows("people"), fixture.rows("wanted"));
    assert_eq!(old.1.len(), 600);
    for round in 0..40 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deploy"));
        command.arg("gallery").arg("migrate").arg(fixture.path("people")).arg("-m").arg(fixture.path("other.onnx"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + 10 * round));
        let _ = child.kill();
        child.wait().unwrap();
        fixture.run("gallery check @people").done();
        let now = fixture.rows("people");
        if contract_id(&fixture, "people") == OTHER {
            assert!(now == new, "round {round}");
            break;
        }
        assert!(now == old, "round {round}");
        fixture
            .run("verify -m @model.onnx --gallery @people --identity ada --picture @set/ada/0.png --threshold 0.9")
            .done();
    }
    fixture.run("gallery migrate @people -m @other.onnx").done();
    assert!(fixture.rows("people") == new);
    fixture.run("gallery check @people").done();
}

/// What every verb notes.
#[test]
fn the_log_says_what_was_done() {
    let fixture = fixture(&["ada", "ben"], 2);
    fixture.run("embed @set -m @model.onnx -o @people").done();
    fixture.picture("more/eve.png", "eve", 0.0);
    fixture.run("enroll -m @model.onnx --gallery @people --identity eve --picture @more/eve.png").done();
    fixture.run("remove --gallery @people --identity eve --verify").done();
    std::fs::remove_file(fixture.path("set/ada/1.png")).unwrap();
    fixture.picture("set/ben/2.png", "ben", 0.5);
    fixture.run("gallery sync @people -m @model.onnx").done();
    fixture.run("gallery compact @people").done();
    let log = |more: &str| json(&fixture.run(&format!("gallery log @people --format json {more}")).done());
    let all = log("");
    let said: Vec<String> = all["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let word = |name: &str| entry[name].as_str().unwrap().to_owned();
            format!("{} {} {} {}", word("change"), word("command"), entry["count"], entry["templates"]["ranges"])
        })
        .collect();
    assert_eq!(
        said,
        [
            "make make 0 []",
            "enrol embed 4 [[1,4]]",
            "enrol enrol 1 [[5,5]]",
            "remove remove 1 [[5,5]]",
            "remove sync 1 [[2,2]]",
            "enrol sync 1 [[6,6]]",
            "compact compact 2 [[2,2],[5,5]]",
        ]
    );
    assert_eq!(all["entries"][1]["names"], serde_json::json!(["ada", "ben"]));
    assert_eq!(all["entries"][3]["names"], serde_json::json!([]), "the name went with the person");
    assert_eq!(all["problems"], serde_json::json!([]));
    assert_eq!(log("--last 2")["entries"].as_array().unwrap()[..], all["entries"].as_array().unwrap()[5..]);
    let table = fixture.run("gallery log @people").done();
    assert_eq!(table.lines().count(), 8);
    assert!(table.contains("remove (sync)") && table.contains("ada, ben") && table.contains("no. 3"), "{table}");
    fixture.run("gallery import @people -o @copy").done();
    let table = fixture.run("gallery log @copy").done();
    assert!(table.contains("enrol (import)"), "{table}");
    fixture.run("gallery log @set").error(&["set", "gallery.db"]);
    fixture.run("gallery export @people -o @rows").done();
    fixture.run("gallery log @rows").error(&["rows", "embeddings.npy"]);
}
