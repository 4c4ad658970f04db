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

/// What is embedded or imported lies nowhere in plain if a key is given.
#[test]
fn rows_that_come_from_elsewhere_are_encrypted() {
    let fixture = Fixture::new();
    for person in ["ada", "zacharias"] {
        fixture.picture(&format!("set/{person}/0.png"), person, 0.0);
    }
    fixture.picture("door.png", "zacharias", 0.02);
    let best = |folder: &str, more: &str| {
        let line = format!("search -m @model.onnx --gallery @{folder} --query @door.png --format json {more}");
        json(&fixture.run(&line).done())["probes"][0]["matches"][0].clone()
    };
    let facts = |folder: &str, key: &str| {
        let told = json(&fixture.run(&format!("gallery info @{folder} --format json --key-file @{key}")).done());
        (told["encrypted"] == true, told["renewable"] == true, told["templates"].as_u64().unwrap())
    };
    let nothing_plain = |folder: &str| {
        assert_eq!(with(&fixture.path(folder), b"zacharias"), Vec::<PathBuf>::new());
        let (rows, _) = fixture.rows("plain");
        for row in rows.rows() {
            assert_eq!(gallery::traces(&fixture.path(folder), row.as_slice().unwrap()).unwrap(), [], "{folder}");
        }
    };
    fixture.run("embed @set -m @model.onnx -o @plain").done();
    let wanted = best("plain", "");
    assert_eq!(wanted["identity"], "zacharias");
    let same = |folder: &str, key: &str| {
        nothing_plain(folder);
        let found = best(folder, &format!("--key-file @{key}"));
        assert_eq!((&found["identity"], &found["template"]), (&wanted["identity"], &wanted["template"]), "{folder}");
        let off = found["similarity"].as_f64().unwrap() - wanted["similarity"].as_f64().unwrap();
        assert!(off.abs() < 1e-6, "{folder}: {off:e}");
        fixture.run(&format!("gallery check @{folder} --key-file @{key}")).done();
    };
    fixture.run("embed @set -m @model.onnx -o @embedded --key-file @k1 --renewable").done();
    assert_eq!(facts("embedded", "k1"), (true, true, 2));
    same("embedded", "k1");
    // Replaced: encrypted as before, and the keys of those who were there are gone.
    let keys = std::fs::read(fixture.path("k1.subjects")).unwrap();
    fixture.run("embed @set -m @model.onnx -o @embedded --replace").error(&["embedded", "--key-file"]);
    fixture.run("embed @set -m @model.onnx -o @embedded --key-file @k1").error(&["embedded", "--replace"]);
    fixture.run("embed @set -m @model.onnx -o @embedded --replace --key-file @k1").done();
    assert_eq!(facts("embedded", "k1"), (true, true, 2));
    nothing_plain("embedded");
    assert_ne!(std::fs::read(fixture.path("k1.subjects")).unwrap(), keys);
    // A gallery that is not encrypted does not become so in passing, and none is made beside it.
    fixture.run("embed @set -m @model.onnx -o @plain --replace --key-file @k1").error(&["plain", "k1"]);
    assert_eq!(best("plain", ""), wanted);

    // From a gallery, encrypted or not; from files of rows; in its own folder from the older layout.
    fixture.run("gallery import @plain -o @copied --key-file @k2").done();
    assert_eq!(facts("copied", "k2"), (true, false, 2));
    same("copied", "k2");
    fixture.run("gallery import @copied -o @again").error(&["copied", "--key-file"]);
    assert!(!fixture.path("again").exists(), "nothing is made of what cannot be read");
    fixture.run("gallery import @copied -o @again --key-file @k2 --renewable").done();
    assert_eq!(facts("again", "k2"), (true, true, 2));
    same("again", "k2");
    for (format, name) in [("parquet", "rows.parquet"), ("faiss", "rows.faiss"), ("npy", "older")] {
        fixture.run(&format!("gallery export @plain -o @{name} --format {format}")).done();
        let model = if format == "faiss" { "--model @model.onnx" } else { "" };
        fixture.run(&format!("gallery import @{name} -o @from-{format} --key-file @k3 {model}")).done();
        same(&format!("from-{format}"), "k3");
    }
    fixture.run("gallery import @older --key-file @k4 --renewable").done();
    assert_eq!(facts("older", "k4"), (true, true, 2));
    same("older", "k4");

    // What frontalize writes is a file of numpy's, which is not encrypted.
    let frontal = crate::frontalize::with_frontalizer();
    std::fs::write(frontal.path("poses.csv"), "yaw,pitch,roll\n60,0,0\n-60,0,0\n").unwrap();
    let rows = "--frontalize @frontal.onnx --poses @poses.csv --out @front.npy";
    frontal.run(&format!("frontalize @rows.npy {rows} --key-file @k")).error(&["--key-file"]);
    let model = Model { contract_id: "0123456789abcdef".into(), dim: 2, ..Model::default() };
    let layout = gallery::Layout {
        key: Some(gallery::KeyFile::create(&frontal.path("k")).unwrap()),
        ..gallery::Layout::default()
    };
    drop(Store::create_with(&frontal.path("people"), &model, layout).unwrap());
    let said = frontal.run(&format!("frontalize @people {rows}")).error(&["people", "`deploy gallery export`"]);
    assert!(said.contains("is not encrypted"), "{said}");
    assert!(!frontal.path("front.npy").exists());
}
