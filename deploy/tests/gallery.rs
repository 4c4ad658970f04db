//! Galleries that several processes change, and that die while they do.

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
                    assert!(stderr.contains("is writing to") && stderr.contains("--wait"), "{stderr}");
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
        assert_eq!(fixture.files("people"), [".lock", "embeddings.json", "embeddings.npy", "rows.jsonl"]);
    }
}
