//! `deploy enroll` of many, and what `deploy search` can ask of them.

use serde_json::Value;

use crate::fixture::Fixture;

/// Three people, three pictures each.
fn town() -> Fixture {
    let fixture = Fixture::new();
    for person in ["ada", "ben", "cleo"] {
        for shot in 0..3 {
            fixture.picture(&format!("set/{person}/{shot}.png"), person, 0.2 * shot as f32);
        }
    }
    fixture
}

fn json(fixture: &Fixture, line: &str) -> Value {
    let answer = fixture.run(&format!("{line} --format json"));
    let report = serde_json::from_str(&answer.stdout).unwrap_or_default();
    answer.done();
    report
}

/// Names and how many templates each has.
fn people(fixture: &Fixture) -> Vec<(String, usize)> {
    let mut people = std::collections::BTreeMap::new();
    for row in fixture.rows("people").1 {
        *people.entry(row["identity_name"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    people.into_iter().collect()
}

fn named(wanted: &[(&str, usize)]) -> Vec<(String, usize)> {
    wanted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

const ENROLL: &str = "enroll -m @model.onnx --gallery @people";

#[test]
fn folders_lists_tables_and_rows_are_enrolled() {
    let fixture = town();
    let told = fixture.run(&format!("{ENROLL} @set")).done();
    assert!(told.starts_with("9 templates of 3 people enrolled; 9 rows in "), "{told}");
    assert_eq!(people(&fixture), named(&[("ada", 3), ("ben", 3), ("cleo", 3)]));

    fixture.picture("more/x.png", "dan", 0.0);
    let list = format!("{}\n\n", fixture.path("more/x.png").display());
    std::fs::write(fixture.path("list.txt"), list).unwrap();
    let told = fixture.run(&format!("{ENROLL} @list.txt --identity dan --camera 4 --tag gate --tag day")).done();
    assert!(told.starts_with("dan enrolled; 10 rows in "), "{told}");
    let dan = fixture.rows("people").1.pop().unwrap();
    assert_eq!(
        (&dan["identity_name"], &dan["camera"], &dan["tags"]),
        (&"dan".into(), &4.into(), &serde_json::json!(["day", "gate"]))
    );

    fixture.picture("more/y.png", "eve", 0.0);
    std::fs::write(
        fixture.path("people.csv"),
        "path,subject,camera,taken,tags\nmore/x.png,\"Dan, the second\",1,2026-11-28T14:03,night\nmore/y.png,,,,\n",
    )
    .unwrap();
    let report = json(&fixture, &format!("{ENROLL} @people.csv"));
    assert_eq!(
        (&report["enrolled"], &report["rows"], &report["templates"]),
        (&2.into(), &12.into(), &serde_json::json!([11, 12]))
    );
    let rows = fixture.rows("people").1;
    assert_eq!(
        (&rows[10]["identity_name"], &rows[10]["taken"]),
        (&"Dan, the second".into(), &1_795_874_580_000_i64.into())
    );
    assert_eq!(rows[11]["identity_name"], "");

    fixture.run("gallery export @people -o @rows").done();
    let told = fixture.run(&format!("{ENROLL} @rows/embeddings.npy --identity fay")).done();
    assert!(told.starts_with("12 templates of 1 person enrolled; 24 rows in "), "{told}");
    let before = fixture.rows("rows").0;
    assert_eq!(fixture.rows("people").0.slice(ndarray::s![12.., ..]), before, "the bits that were exported");
    std::fs::write(fixture.path("rows/embeddings.csv"), "subject\nada\n").unwrap();
    fixture.run(&format!("{ENROLL} @rows/embeddings.npy")).error(&["embeddings.csv", "1", "12", "embeddings.npy"]);
    std::fs::write(fixture.path("people.csv"), "path,colour\nmore/x.png,red\n").unwrap();
    fixture.run(&format!("{ENROLL} @people.csv")).error(&["people.csv", "`colour`", "path"]);
}

#[test]
fn all_or_nobody_is_enrolled() {
    let fixture = town();
    std::fs::write(fixture.path("set/ben/broken.png"), "no picture").unwrap();
    fixture.run(&format!("{ENROLL} @set --strict")).error(&["broken.png", "--strict"]);
    assert!(!fixture.path("people").exists(), "nothing is made");
    let answer = fixture.run(&format!("{ENROLL} @set"));
    assert!(answer.stderr.contains("1 of 10 pictures"), "{}", answer.stderr);
    answer.done();
    let before = fixture.rows("people");
    let long = "x".repeat(300);
    fixture.run(&format!("{ENROLL} @set --tag ~junk")).error(&["--tag", "~"]);
    fixture.run(&format!("{ENROLL} @set --camera 4294967295")).error(&["--camera"]);
    fixture.run(&format!("{ENROLL} @set --taken noon")).error(&["--taken", "2026-11-28T14:03"]);
    fixture.run(&format!("{ENROLL} @{long}")).error(&[&long]);
    fixture.run(ENROLL).error(&["DIR_OR_FILE"]);
    fixture.run(&format!("{ENROLL} --picture @set/ada/0.png")).error(&["--identity"]);
    assert_eq!(fixture.rows("people"), before);
}

/// The same picture again, somebody else who looks alike, and pictures that are too poor.
#[test]
fn what_is_worth_a_look_is_reported_or_left_out() {
    let fixture = town();
    fixture.run(&format!("{ENROLL} @set")).done();
    fixture.picture("new/ada/again.png", "ada", 0.0);
    fixture.picture("new/zoe/alike.png", "ben", 0.01);
    fixture.picture("new/zoe/good.png", "zoe", 0.0);
    image::RgbImage::from_fn(64, 128, |x, y| image::Rgb([(x / 8 + y / 8) as u8 % 2 * 20; 3]))
        .save(fixture.path("new/zoe/dark.png"))
        .unwrap();
    let report = json(&fixture, &format!("{ENROLL} @new --similar 0.995"));
    let paths = |what: &str| -> Vec<String> {
        let path = |one: &Value| one["path"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        report[what].as_array().unwrap().iter().map(path).collect()
    };
    assert_eq!(report["enrolled"], 4);
    assert_eq!(paths("duplicates"), ["again.png"]);
    assert_eq!(paths("similar"), ["alike.png"]);
    assert_eq!(report["similar"][0]["other_identity"], "ben");
    assert_eq!(paths("poor"), ["dark.png"]);
    assert!(report["poor"][0]["problems"][0].as_str().unwrap().starts_with("dark: mean brightness"), "{report}");
    let answer = fixture.run(&format!("{ENROLL} @new/ada/again.png --identity ada --selective"));
    assert!(answer.stderr.contains("templates that are enrolled already, left out (1):"), "{}", answer.stderr);
    answer.done();
    assert_eq!(people(&fixture), named(&[("ada", 4), ("ben", 3), ("cleo", 3), ("zoe", 3)]));
}

#[test]
fn filters_choose_who_is_searched() {
    let fixture = town();
    for (number, person) in ["ada", "ben", "cleo"].iter().enumerate() {
        let about = format!(
            "--identity {person} --camera {number} --taken 2026-11-0{} --tag floor{number} --tag in",
            number + 1
        );
        fixture.run(&format!("{ENROLL} @set/{person} {about}")).done();
    }
    let found = |filter: &str| -> Vec<String> {
        let report =
            json(&fixture, &format!("search -m @model.onnx --gallery @people --query @set/ada/0.png -k 99 {filter}"));
        let matches = report["probes"][0]["matches"].as_array().unwrap();
        let mut names: Vec<String> =
            matches.iter().map(|found| found["identity"].as_str().unwrap().to_owned()).collect();
        names.sort();
        assert_eq!(report["gallery_entries"], names.len());
        names.dedup();
        names
    };
    assert_eq!(found(""), ["ada", "ben", "cleo"]);
    assert_eq!(found("--subject cleo"), ["cleo"]);
    assert_eq!(found("--subject cleo --subject ben"), ["ben", "cleo"]);
    assert_eq!(found("--camera 1"), ["ben"]);
    assert_eq!(found("--camera 0 --camera 2"), ["ada", "cleo"]);
    assert_eq!(found("--since 2026-11-02"), ["ben", "cleo"]);
    assert_eq!(found("--until 2026-11-02"), ["ada"]);
    assert_eq!(found("--since 2026-11-01T12:00 --until 2026-11-03"), ["ben"]);
    assert_eq!(found("--tag in"), ["ada", "ben", "cleo"]);
    assert_eq!(found("--tag in --tag floor2"), ["cleo"]);
    let nobody = fixture.run("search -m @model.onnx --gallery @people --query @set/ada/0.png --subject nobody");
    assert_eq!(nobody.code, 1, "{}", nobody.stderr);
    // Pictures that are embedded on the spot pass the same filters.
    let line = "search -m @model.onnx --gallery @set --query @set/ada/0.png -k 99 --subject ben";
    assert_eq!(json(&fixture, line)["gallery_entries"], 3);
}

#[test]
fn people_rows_and_lists_are_searched_for() {
    let fixture = town();
    fixture.run(&format!("{ENROLL} @set")).done();
    let line = "search -m @model.onnx --gallery @people --query @set/ada/0.png";
    let report = json(&fixture, &format!("{line} -k 9 --by subject"));
    let matches = report["probes"][0]["matches"].as_array().unwrap();
    assert_eq!((matches.len(), &matches[0]["identity"]), (3, &"ada".into()));
    let mean = json(&fixture, &format!("{line} -k 9 --by subject --fusion mean"));
    let best = &mean["probes"][0]["matches"][0];
    assert_eq!((&best["identity"], &best["templates"], &mean["fusion"]), (&"ada".into(), &3.into(), &"mean".into()));
    assert!(best["similarity"].as_f64() < matches[0]["similarity"].as_f64());
    fixture.run(&format!("{line} --by subject --rerank")).error(&["--by", "--rerank"]);
    let expanded = json(&fixture, &format!("{line} --expand 3"));
    assert_eq!((&expanded["expanded"], &expanded["probes"][0]["matches"][0]["identity"]), (&3.into(), &"ada".into()));

    fixture.run("embed @set/ben -m @model.onnx -o @probes").done();
    fixture.run("gallery export @probes -o @rows").done();
    let rows = json(&fixture, "search -m @model.onnx --gallery @people --query @rows/embeddings.npy @set/cleo -k 1");
    let best: Vec<&str> = rows["probes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|probe| probe["matches"][0]["identity"].as_str().unwrap())
        .collect();
    assert_eq!(best, ["cleo", "cleo", "cleo", "ben", "ben", "ben"]);
    assert!(rows["probes"][4]["path"].as_str().unwrap().ends_with("embeddings.npy#1"));

    use std::io::Write;
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_deploy"))
        .args(["search", "-k", "1", "--format", "csv", "--query", "-", "-m"])
        .arg(fixture.path("model.onnx"))
        .arg("--gallery")
        .arg(fixture.path("people"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let paths = ["set/ada/1.png", "set/cleo/2.png"].map(|path| fixture.path(path).display().to_string());
    child.stdin.take().unwrap().write_all(paths.join("\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.lines().count() == 3, "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// A picture that is listed alone has the name of its folder, which is said; a list that names nothing says where.
#[test]
fn what_a_newcomer_may_not_expect_is_said() {
    let fixture = town();
    let door = fixture.picture("door.png", "dan", 0.0);
    let folder = door.parent().unwrap().file_name().unwrap().to_str().unwrap();
    let answer = fixture.run(&format!("{ENROLL} @door.png"));
    assert!(
        answer.stderr.contains(&format!("`{folder}`")) && answer.stderr.contains("--identity"),
        "{}",
        answer.stderr
    );
    for named in ["@door.png --identity dan", "@set"] {
        let answer = fixture.run(&format!("{ENROLL} {named}"));
        assert!(!answer.stderr.contains("--identity"), "{}", answer.stderr);
    }
    std::fs::write(fixture.path("list.txt"), format!("{}\n\nhello\n", door.display())).unwrap();
    fixture.run(&format!("{ENROLL} @list.txt")).error(&["list.txt", "3", "`hello`"]);
}
