//! Galleries that several processes change, and that die while they do.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fixture::Fixture;

/// Four people, a picture each.
fn people() -> (Fixture, Vec<String>) {
    let fixture = Fixture::new();
    let names = ["ada", "ben", "cleo", "dan"];
    names.iter().for_each(|name| drop(fixture.picture(&format!("set/{name}/0.png"), name, 0.0)));
    (fixture, names.map(str::to_owned).to_vec())
}

fn enrol(fixture: &Fixture, name: &str, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deploy"));
    command.arg("enroll").arg("-m").arg(fixture.path("model.onnx")).arg("--gallery").arg(fixture.path("people"));
    command.arg("--identity").arg(name).arg("--picture").arg(fixture.path(&format!("set/{name}/0.png"))).args(more);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Whoever was told to be enrolled is, with their own face, and nobody else's.
fn holds(fixture: &Fixture, names: &[&String]) {
    let (_, rows) = fixture.rows("people");
    assert_eq!(rows.len(), names.len());
    for name in names {
        let claim = format!("verify -m @model.onnx --gallery @people --identity {name} --threshold 0.999");
        fixture.run(&format!("{claim} --picture @set/{name}/0.png")).done();
    }
}

#[test]
fn enrolments_at_once_are_all_there_or_refused() {
    let (fixture, names) = people();
    for round in 0..5 {
        let _ = std::fs::remove_dir_all(fixture.path("people"));
        let children: Vec<_> = names.iter().map(|name| enrol(&fixture, name, &[]).spawn().unwrap()).collect();
        let mut enrolled = Vec::new();
        for (name, child) in names.iter().zip(children) {
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            match output.status.code() {
                Some(0) => enrolled.push(name),
                code => {
                    assert_eq!(code, Some(2), "round {round}: {stderr}");
                    fixtures::assert_names(fixtures::error_message(&stderr), &["people", "`--wait`"]);
                }
            }
        }
        assert!(!enrolled.is_empty());
        holds(&fixture, &enrolled);
    }
}

#[test]
fn enrolments_that_wait_all_happen() {
    let (fixture, names) = people();
    let children: Vec<_> = names.iter().map(|name| enrol(&fixture, name, &["--wait"]).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    holds(&fixture, &names.iter().collect::<Vec<_>>());
}

/// Whoever waits is told for whom.
#[test]
fn who_waits_says_for_whom() {
    let (fixture, names) = people();
    assert!(enrol(&fixture, &names[0], &[]).status().unwrap().success());
    let lock = files::lock::Lock::wait(&fixture.path("people")).unwrap();
    let mut waiting = enrol(&fixture, &names[1], &["--wait"]).spawn().unwrap();
    let lines = BufReader::new(waiting.stderr.take().unwrap()).lines();
    let wanted = format!("process {} is writing to", std::process::id());
    let said = lines.map(Result::unwrap).find(|line| line.contains("is writing to")).expect("it says so and waits");
    assert!(said.starts_with("note: ") && said.contains(&wanted) && said.contains("waiting"), "{said}");
    assert!(waiting.try_wait().unwrap().is_none());
    drop(lock);
    assert!(waiting.wait().unwrap().success());
    holds(&fixture, &names[..2].iter().collect::<Vec<_>>());
}

/// Killed at any moment, `enroll` leaves a gallery that opens and can be enrolled into.
#[test]
fn a_killed_enrolment_leaves_a_whole_gallery() {
    let (fixture, names) = people();
    fixture.run("embed @set -m @model.onnx -o @people").done();
    for round in 0..15 {
        let before = fixture.rows("people").1.len();
        let mut child = enrol(&fixture, &names[0], &[]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(15 + 7 * round));
        let _ = child.kill();
        child.wait().unwrap();
        fixture.run("search -m @model.onnx --gallery @people --query @set").done();
        let after = enrol(&fixture, &names[1], &[]).output().unwrap();
        assert!(after.status.success(), "{}", String::from_utf8_lossy(&after.stderr));
        let rows = fixture.rows("people").1.len();
        assert!(rows == before + 1 || rows == before + 2, "{before} rows became {rows}");
        assert_eq!(fixture.gallery_files("people"), [".lock", "gallery.db", "segments"]);
        assert_eq!(fixture.run("gallery check @people").code, 0);
    }
}

/// The person's rows are in no file any more, and everybody else is found as before.
#[test]
fn who_is_removed_is_gone_from_the_files() {
    let (fixture, names) = people();
    fixture.picture("set/ben/1.png", "ben", 0.3);
    fixture.run("embed @set -m @model.onnx -o @people").done();
    let (before, rows) = fixture.rows("people");
    let of = |name: &str| -> Vec<usize> { (0..rows.len()).filter(|row| rows[*row]["identity_name"] == name).collect() };
    let bytes = |row: usize| -> Vec<u8> { before.row(row).iter().flat_map(|value| value.to_le_bytes()).collect() };
    let holds = |what: &[u8]| {
        let names = |folder: &str| -> Vec<_> {
            fixture.files(folder).into_iter().map(|name| fixture.path(folder).join(name)).collect()
        };
        let files = [names("people"), names("people/segments")].concat();
        let held = files.iter().filter_map(|path| std::fs::read(path).ok());
        held.filter(|file| file.windows(what.len()).any(|window| window == what)).count()
    };
    assert_eq!((of("ben").len(), holds(&bytes(of("ben")[0])), holds(b"ben")), (2, 1, 1));
    let said = fixture.run("remove --gallery @people --identity ben").done();
    assert!(said.starts_with("ben removed, 2 rows; 3 rows left in "), "{said}");
    for row in of("ben") {
        assert_eq!(holds(&bytes(row)), 0);
    }
    assert_eq!(holds(b"ben"), 0);
    assert_eq!(holds(&bytes(of("ada")[0])), 1);
    let claim = |name: &str| {
        format!(
            "verify -m @model.onnx --gallery @people --threshold 0.999 --identity {name} --picture @set/{name}/0.png"
        )
    };
    fixture.run(&claim("ben")).error(&["`ben`", "people"]);
    fixture.run(&claim("cleo")).done();
    fixture.run("remove --gallery @people --identity ben").error(&["`ben`", "people"]);
    fixture.run("remove --gallery @set --identity ben").error(&["set", "gallery.db"]);
    assert!(!fixture.path("set/.lock").exists(), "what is no gallery is left alone");
    // Nobody is left, and somebody comes.
    for name in names.iter().filter(|name| *name != "ben") {
        fixture.run(&format!("remove --gallery @people --identity {name}")).done();
    }
    assert_eq!(fixture.run("search -m @model.onnx --gallery @people --query @set").code, 1);
    assert!(enrol(&fixture, "ben", &[]).output().unwrap().status.success());
    fixture.run(&claim("ben")).done();
}

/// A gallery in the folder of its pictures, which change.
#[test]
fn a_gallery_among_its_pictures_notices_what_happens_to_them() {
    let (fixture, _) = people();
    std::fs::write(fixture.path("set/ada/broken.png"), "no picture").unwrap();
    fixture.run("embed @set -m @model.onnx -o @set").done();
    let search = |gallery: &str| -> (serde_json::Value, String) {
        let line = format!("search -m @model.onnx --gallery @{gallery} --query @set/ada/0.png --format json");
        let answer = fixture.run(&line);
        let (report, said): (serde_json::Value, String) =
            (serde_json::from_str(&answer.stdout).unwrap(), answer.stderr.clone());
        answer.done();
        (report["stale"].clone(), said)
    };
    let (stale, said) = search("set");
    assert!(stale.is_null() && !said.contains("gallery sync"), "nothing has happened: {said}");
    fixture.picture("set/eve/0.png", "eve", 0.0);
    fixture.picture("set/ben/0.png", "zoe", 0.0);
    std::fs::remove_dir_all(fixture.path("set/cleo")).unwrap();
    let (stale, said) = search("set");
    assert_eq!(stale, serde_json::json!({"new": 1, "changed": 1, "gone": 1}));
    assert!(said.contains("1 new, 1 changed, 1 gone; `deploy gallery sync`"), "{said}");
    // Somebody who is enrolled from elsewhere changes nothing of that.
    fixture.picture("other/fay.png", "fay", 0.0);
    fixture.run("enroll -m @model.onnx --gallery @set --identity fay --picture @other/fay.png").done();
    std::fs::remove_file(fixture.path("other/fay.png")).unwrap();
    assert_eq!(search("set").0, serde_json::json!({"new": 1, "changed": 1, "gone": 1}));
    fixture.run("embed @set -m @model.onnx -o @set --replace").done();
    assert!(search("set").0.is_null());
    // A gallery elsewhere may outlive its pictures.
    fixture.run("embed @set -m @model.onnx -o @elsewhere").done();
    std::fs::remove_dir_all(fixture.path("set/eve")).unwrap();
    assert!(search("elsewhere").0.is_null());
}

/// Rows that go out as numpy's and FAISS's files, and come back with what is said about them.
#[test]
fn rows_go_out_and_come_back() {
    let (fixture, _) = people();
    fixture.picture("set2/0002_c3s1_000001_00.png", "eve", 0.0);
    fixture.picture("set2/-1_c3s1_000001_00.png", "fay", 0.0);
    fixture.picture("set2/0000_c4s1_000001_00.png", "gus", 0.0);
    fixture.run("embed @set @set2 -m @model.onnx -o @people --identity-from file").done();
    let wanted = fixture.rows("people");
    let told = fixture.run("gallery info @people --format json").done();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["templates"], &told["model"]["dim"]), (&7.into(), &crate::fixture::DIM.into()));

    fixture.run("gallery export @people -o @rows").done();
    assert_eq!(fixture.files("rows"), ["embeddings.json", "embeddings.npy", "rows.jsonl"]);
    fixture.run("gallery export @people -o @rows").error(&["rows", "empty"]);
    assert_eq!(fixture.rows("rows"), wanted, "it is a gallery of the older layout");
    fixture.run("gallery export @people -o @rows.index --format faiss").done();
    #[cfg(unix)]
    for file in ["rows/embeddings.npy", "rows/rows.jsonl", "rows/embeddings.json", "rows.index", "rows.jsonl"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(fixture.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }

    let import = |line: &str, to: &str| {
        assert!(fixture.run(&format!("gallery import {line}")).done().contains("7 templates"), "{line}");
        assert_eq!(fixture.rows(to), wanted, "{line}");
        fixture.run(&format!("gallery check @{to}")).done();
    };
    import("@rows -o @one", "one");
    import("@people -o @two", "two");
    import("@rows.index -o @three -m @model.onnx", "three");
    import("@rows/embeddings.npy -o @four -m @model.onnx --rows @rows/rows.jsonl", "four");
    fixture.run("gallery import @rows -o @one").error(&["one", "7"]);
    fixture.run("gallery import @rows.index -o @five").error(&["`--model`", "rows.index"]);
    fixture.run("gallery import @rows.index -m @model.onnx").error(&["`--out`", "rows.index"]);
    fixture.run("gallery import @people").error(&["`--out`", "embeddings.npy"]);
    std::fs::write(fixture.path("few.jsonl"), "").unwrap();
    let few = "gallery import @rows.index -o @five -m @model.onnx --rows @few.jsonl";
    fixture.run(few).error(&["few.jsonl", "0", "7"]);
    std::fs::write(fixture.path("bad.index"), "IxFI").unwrap();
    fixture.run("gallery import @bad.index -o @five -m @model.onnx").error(&["bad.index", "4", "45"]);
    assert!(!fixture.path("five").exists());
}

/// Galleries of earlier versions are searched as they are, changed only after they are converted, and then have all
/// that they had.
#[test]
fn a_gallery_of_the_older_layout_is_read_and_converted() {
    let (fixture, names) = people();
    fixture.run("embed @set -m @model.onnx -o @made").done();
    fixture.run("gallery export @made -o @people").done();
    let search = || {
        let line = "search -m @model.onnx --gallery @people --query @set --format json";
        let report: serde_json::Value = serde_json::from_str(&fixture.run(line).done()).unwrap();
        let found = |probe: &serde_json::Value| -> Vec<(String, f64)> {
            let matches = probe["matches"].as_array().unwrap();
            let one = |found: &serde_json::Value| {
                (found["path"].as_str().unwrap().to_owned(), found["similarity"].as_f64().unwrap())
            };
            matches.iter().map(one).collect()
        };
        (report["probes"].as_array().unwrap().iter().map(found).collect::<Vec<_>>(), report["summary"].clone())
    };
    let before = search();
    holds(&fixture, &names.iter().collect::<Vec<_>>());
    let refused = enrol(&fixture, &names[0], &[]).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(2));
    fixtures::assert_names(fixtures::error_message(&said), &["people", "embeddings.npy", "import"]);
    fixture.run("remove --gallery @people --identity ada").error(&["people", "embeddings.npy", "import"]);
    fixture.run("gallery compact @people").error(&["people", "embeddings.npy", "import"]);
    fixture.run("embed @set -m @model.onnx -o @people").error(&["`--replace`", "4"]);
    fixture.run("gallery import @people").done();
    assert_eq!(fixture.gallery_files("people"), [".lock", "gallery.db", "segments"]);
    assert_eq!(search(), before);
    assert!(enrol(&fixture, &names[0], &[]).output().unwrap().status.success());
    assert_eq!(fixture.rows("people").1.len(), 5);
    // And one that is replaced.
    fixture.run("gallery export @people -o @again").done();
    fixture.run("embed @set -m @model.onnx -o @again --replace").done();
    assert_eq!(fixture.gallery_files("again"), [".lock", "gallery.db", "segments"]);
    assert_eq!(fixture.rows("again").1.len(), 4);
}

/// A gallery of one model becomes one of another, as a whole.
#[test]
fn replacing_takes_another_model_and_leaves_nothing_of_the_first() {
    let (fixture, _) = people();
    fixture.run("embed @set -m @model.onnx -o @people").done();
    let before = fixture.rows("people");
    let mut other = crate::fixture::contract();
    other.embedding.as_mut().unwrap().contract_id = "fedcba9876543210".into();
    fixture.write_model("other.onnx", &crate::fixture::with_contract(crate::fixture::graph(), &other));
    fixture
        .run("enroll -m @other.onnx --gallery @people --identity ada --picture @set/ada/0.png")
        .error(&["other.onnx"]);
    std::fs::write(fixture.path("set/ada/broken.png"), "no picture").unwrap();
    fixture.run("embed @set -m @other.onnx -o @people --replace --strict").error(&["broken.png"]);
    assert_eq!(fixture.rows("people"), before, "nothing is replaced by a part");
    fixture.run("embed @set -m @other.onnx -o @people --replace").done();
    fixture.run("search -m @other.onnx --gallery @people --query @set").done();
    fixture.run("search -m @model.onnx --gallery @people --query @set").error(&["fedcba9876543210"]);
    fixture.run("gallery check @people").done();
}

/// The gallery follows its folder, wherever either is, and leaves alone who was enrolled from elsewhere.
#[test]
fn sync_follows_the_folder() {
    let (fixture, _) = people();
    std::fs::write(fixture.path("set/ada/broken.png"), "no picture").unwrap();
    fixture.run("embed @set -m @model.onnx -o @people").done();
    fixture.picture("other/fay.png", "fay", 0.0);
    fixture.run("enroll -m @model.onnx --gallery @people --identity fay --picture @other/fay.png").done();
    let sync = |more: &str| fixture.run(&format!("gallery sync @people -m @model.onnx {more}"));
    let answer = sync("");
    assert!(answer.stderr.contains("none of the 1 new and changed pictures"), "{}", answer.stderr);
    assert!(answer.stdout.starts_with("1 new, 0 changed, 0 gone; 5 templates in "), "{}", answer.stdout);
    fixture.picture("set/eve/0.png", "eve", 0.0);
    fixture.picture("set/ben/0.png", "zoe", 0.0);
    std::fs::remove_dir_all(fixture.path("set/cleo")).unwrap();
    std::fs::remove_file(fixture.path("set/ada/broken.png")).unwrap();
    let before = fixture.rows("people");
    assert!(sync("--dry-run").done().contains("1 new, 1 changed, 1 gone; 5 templates"));
    assert_eq!(fixture.rows("people"), before);
    assert!(sync("").done().starts_with("1 new, 1 changed, 1 gone; 5 templates in "));
    assert!(sync("").done().starts_with("0 new, 0 changed, 0 gone; 5 templates in "));
    fixture.run("embed @set -m @model.onnx -o @wanted").done();
    let rows = |folder: &str| {
        let (values, rows) = fixture.rows(folder);
        let of = |(row, values): (&serde_json::Value, ndarray::ArrayView1<'_, f32>)| {
            (row["identity_name"].as_str().unwrap().to_owned(), row["path"].to_string(), values.to_vec())
        };
        let mut rows: Vec<_> = rows.iter().zip(values.rows()).map(of).collect();
        rows.retain(|(name, ..)| name != "fay");
        rows.sort_by(|a, b| a.1.cmp(&b.1));
        rows
    };
    assert_eq!(rows("people"), rows("wanted"));
    // A disk that is not there is no reason to forget anybody.
    std::fs::rename(fixture.path("set"), fixture.path("moved")).unwrap();
    sync("").error(&[&format!("`{}`", fixture.path("set").display())]);
    assert_eq!(fixture.rows("people").1.len(), 5);
    fixture.run("enroll -m @model.onnx --gallery @new --identity fay --picture @other/fay.png").done();
    fixture.run("gallery sync @new -m @model.onnx").error(&["`--folder`", "new"]);
    fixture.run("gallery sync @new -m @model.onnx --folder @moved").done();
    assert_eq!(fixture.rows("new").1.len(), 5);
}

/// Whoever names a server hears that this program has no engine for it.
#[cfg(not(feature = "milvus"))]
#[test]
fn an_address_needs_a_program_that_was_built_for_it() {
    let (fixture, _) = people();
    let at = "--engine milvus://127.0.0.1:1/people";
    let picture = "--picture @set/ada/0.png";
    for line in [
        format!("enroll -m @model.onnx {at} --identity ada {picture}"),
        format!("verify -m @model.onnx {at} --identity ada --threshold 0.9 {picture}"),
        format!("search -m @model.onnx {at} --query @set"),
        format!("remove {at} --identity ada"),
    ] {
        fixture.run(&line).error(&["`milvus`", "`cargo build --release -p deploy --features milvus`"]);
    }
}

/// The server is that of `ci/cluster`.
#[cfg(feature = "milvus")]
#[test]
fn a_gallery_that_a_server_keeps_is_used_like_one_in_a_folder() {
    let (fixture, names) = people();
    let server = std::env::var("VITRINE_TEST_MILVUS").expect("VITRINE_TEST_MILVUS names no server; run ci/cluster");
    let at = format!("--engine {server}/deploy_{}", std::process::id());
    let none = fixture.run(&format!("search -m @model.onnx {at} --query @set"));
    none.error(&[&format!("deploy_{}", std::process::id()), "collection"]);
    for name in &names {
        let enroll = |at: &str| {
            let line = format!("enroll -m @model.onnx {at} --identity {name} --picture @set/{name}/0.png");
            fixture.run(&line).done()
        };
        let said = enroll(&at);
        assert!(said.contains(&format!("{name} enrolled")) && said.contains("milvus://"), "{said}");
        enroll("--gallery @people");
    }
    for name in &names {
        let claim = format!("verify -m @model.onnx {at} --identity {name} --threshold 0.999");
        fixture.run(&format!("{claim} --picture @set/{name}/0.png")).done();
    }
    // The same answer to the last digit as from a folder.
    let found = |at: &str| {
        let line = format!("search -m @model.onnx {at} --query @set -k 3 --format csv");
        fixture.run(&line).done().replace(fixture.folder.path().to_str().unwrap(), "")
    };
    assert_eq!(found(&at), found("--gallery @people"));
    // A model of another contract is refused.
    let mut other = crate::fixture::contract();
    other.embedding.as_mut().unwrap().contract_id = "fedcba9876543210".into();
    fixture.write_model("other.onnx", &crate::fixture::with_contract(crate::fixture::graph(), &other));
    fixture.run(&format!("search -m @other.onnx {at} --query @set")).error(&["other.onnx", "milvus://"]);
    let picture = "--identity eve --picture @set/ada/0.png";
    fixture.run(&format!("enroll -m @other.onnx {at} {picture}")).error(&["other.onnx", "milvus://"]);
    fixture.run(&format!("remove {at} --identity ben --verify")).error_saying("prove that they are gone");
    let removed = fixture.run(&format!("remove {at} --identity ben"));
    assert!(removed.stderr.contains("overwrite removed values") && removed.stderr.contains("Milvus"));
    assert!(removed.done().contains("3 rows left"));
    fixture.run(&format!("remove {at} --identity ben")).error(&["`ben`"]);
    fixture.run("search -m @model.onnx --engine milvus://a:b@c/d --query @set").error(&["MILVUS_TOKEN"]);
    fixture
        .run("search -m @model.onnx --engine milvus://127.0.0.1:1/d --query @set")
        .error(&["127.0.0.1:1", "refused"]);
}

/// Killed at any moment, `embed --replace` leaves all rows of before or all rows of after.
#[test]
fn a_killed_replacement_leaves_the_old_rows_or_the_new_ones() {
    let (fixture, _) = people();
    fixture.run("embed @set -m @model.onnx -o @people").done();
    let old = fixture.rows("people").0;
    fixture.picture("more/eve/0.png", "eve", 0.0);
    fixture.picture("more/eve/1.png", "eve", 0.5);
    let new = {
        fixture.run("embed @more -m @model.onnx -o @wanted").done();
        fixture.rows("wanted").0
    };
    for round in 0..12 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_deploy"));
        command.arg("embed").arg(fixture.path("more")).arg("-m").arg(fixture.path("model.onnx"));
        command.arg("-o").arg(fixture.path("people")).arg("--replace").stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(20 + 9 * round));
        let _ = child.kill();
        child.wait().unwrap();
        let now = fixture.rows("people").0;
        assert!(now == old || now == new, "{} rows", now.nrows());
        fixture.run("gallery check @people").done();
        fixture.run("embed @set -m @model.onnx -o @people --replace").done();
        assert_eq!(fixture.rows("people").0, old);
    }
}

#[test]
fn what_is_no_gallery_is_told_with_how_one_is_made() {
    let fixture = Fixture::new();
    fixture.picture("one.png", "ada", 0.0);
    std::fs::create_dir(fixture.path("empty")).unwrap();
    for line in ["gallery info @empty", "remove --gallery @empty --identity ada"] {
        fixture.run(line).error(&["empty", "`deploy enroll`"]);
    }
}
