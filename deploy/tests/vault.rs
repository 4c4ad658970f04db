//! Encrypted galleries as the program makes and uses them.

use std::path::{Path, PathBuf};

use gallery::{Engine, Model, NewTemplate, Rows, Store};
use serde_json::Value;

use crate::fixture::Fixture;

/// Every file below the fixture's folder that has these bytes, but for pictures.
fn with(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if std::fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) {
                found.push(path);
            }
        }
    }
    found
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_gallery_is_encrypted_from_the_first_person_on() {
    let fixture = Fixture::new();
    for person in ["ada", "zacharias"] {
        fixture.picture(&format!("set/{person}/0.png"), person, 0.0);
    }
    fixture.picture("door.png", "zacharias", 0.02);
    let key = "--key-file @key";
    fixture.run(&format!("enroll @set -m @model.onnx --gallery @people {key} --renewable")).done();
    assert_eq!(with(&fixture.path("people"), b"zacharias"), Vec::<PathBuf>::new());
    fixture.run("search -m @model.onnx --gallery @people --query @door.png").error(&["--key-file", "people"]);
    let search = format!("search -m @model.onnx --gallery @people --query @door.png --format json {key}");
    let report = json(&fixture.run(&search).done());
    let best = &report["probes"][0]["matches"][0];
    assert_eq!(best["identity"], "zacharias", "{report:#}");
    assert!(best["similarity"].as_f64().unwrap() > 0.9, "{best}");
    let verify = "verify -m @model.onnx --gallery @people --identity zacharias --picture @door.png --threshold 0.9";
    fixture.run(&format!("{verify} {key}")).done();
    let info = json(&fixture.run(&format!("gallery info @people --format json {key}")).done());
    assert_eq!((&info["encrypted"], &info["renewable"]), (&true.into(), &true.into()));
    fixture.run(&format!("gallery check @people {key}")).done();
    fixture.run(&format!("gallery index @people --kind reduced {key}")).error(&["encrypted"]);
    fixture.run(&format!("gallery renew @people {key}")).done();
    assert_eq!(json(&fixture.run(&search).done())["probes"][0]["matches"][0]["identity"], "zacharias");
    fixture.run(&format!("remove --gallery @people --identity zacharias --verify {key}")).done();
    assert_eq!(json(&fixture.run(&search).done())["probes"][0]["matches"][0]["identity"], "ada");
    let log = json(&fixture.run(&format!("audit list @people --format json {key}")).done());
    let changes: Vec<&str> =
        log["entries"].as_array().unwrap().iter().map(|entry| entry["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["make", "enrol", "renew", "remove"]);
    fixture.run(&format!("audit verify @people {key}")).done();
}

#[test]
fn a_gallery_is_encrypted_later_and_gets_another_key() {
    let fixture = Fixture::new();
    let model = Model { contract_id: "0123456789abcdef".into(), dim: 2, ..Model::default() };
    let store = Store::create(&fixture.path("people"), &model).unwrap();
    let anna = NewTemplate { subject: Some("zacharias".into()), source: "{}".into(), ..NewTemplate::default() };
    store.enrol(&[anna], Rows::new(&[0.6, 0.8], 1, 2).unwrap()).unwrap();
    drop(store);
    fixture.run("gallery check @people --key-file @none").error(&["none"]);
    assert_eq!(with(&fixture.path("people"), b"zacharias").len(), 1);
    fixture.run("gallery encrypt @people --key-file @key").done();
    assert_eq!(with(&fixture.path("people"), b"zacharias"), Vec::<PathBuf>::new());
    fixture.run("gallery check @people").error(&["--key-file", "people"]);
    fixture.run("gallery check @people --key-file @key").done();
    fixture.run("gallery rotate-key @people --key-file @key --new-key-file @new").done();
    fixture.run("gallery check @people --key-file @key").error(&["key", "people"]);
    fixture.run("gallery check @people --key-file @new").done();
    fixture.run("gallery encrypt @people --key-file @new").error_saying("encrypted already");
    // A key for what has no use for one.
    let plain = Store::create(&fixture.path("plain"), &model).unwrap();
    drop(plain);
    fixture.run("gallery info @plain --key-file @new").error(&["plain", "new"]);
    fixture.run("serve @model.onnx --key-file @new").error(&["--gallery"]);
    fixture.run("serve @model.onnx --gallery @people --key-file @none").error(&["none"]);
}
