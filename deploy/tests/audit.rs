//! What was done to a gallery, and whether that record is whole.

use gallery::{Engine, Model, Rows, Store};
use serde_json::Value;

use crate::fixture::Fixture;

fn made() -> Fixture {
    let fixture = Fixture::new();
    let model = Model { contract_id: "0123456789abcdef".into(), dim: 2, ..Model::default() };
    let store = Store::create(&fixture.path("people"), &model).unwrap();
    let anna = gallery::NewTemplate { subject: Some("anna".into()), ..Default::default() };
    store.enrol(&[anna], Rows::new(&[0.6, 0.8], 1, 2).unwrap()).unwrap();
    let denied: Result<(), gallery::GalleryError> = store.change(|changes| {
        changes.on_behalf_of("front desk")?;
        changes.denied("DELETE /v1/subjects: role match")
    });
    denied.unwrap();
    fixture
}

#[test]
fn the_record_says_who_did_what() {
    let fixture = made();
    let text = fixture.run("audit list @people --format json").done();
    let all: Value = serde_json::from_str(&text).unwrap();
    let said = |entry: &Value| format!("{} {}", entry["who"].as_str().unwrap(), entry["change"].as_str().unwrap());
    let entries = all["entries"].as_array().unwrap();
    assert_eq!(said(&entries[2]), "front desk deny");
    assert!(said(&entries[1]).starts_with("user ") && said(&entries[1]).ends_with(" enrol"), "{text}");
    let table = fixture.run("audit list @people --last 1").done();
    assert!(table.contains("front desk") && table.contains("DELETE /v1/subjects: role match"), "{table}");
    assert_eq!(table.lines().count(), 2);
}

#[test]
fn a_record_that_is_not_whole_is_named() {
    let fixture = made();
    let verify = |more: &str| fixture.run(&format!("audit verify @people {more}"));
    let told: Value = serde_json::from_str(&verify("--format json").done()).unwrap();
    assert_eq!((&told["records"], &told["problems"]), (&3.into(), &Value::Array(vec![])));
    let head = told["head"].as_str().unwrap();
    assert_eq!(verify("").done(), format!("3 records, all as written; the last one is {head}\n"));
    verify(&format!("--head {head}")).done();
    let other = "0".repeat(64);
    let answer = verify(&format!("--head {other}"));
    assert!(answer.code == 1 && answer.stdout.contains(&other), "{}", answer.stdout);
    verify("--head 12").error(&["--head", "64"]);
    // An edit beside SQLite.
    let mut bytes = std::fs::read(fixture.path("people/gallery.db")).unwrap();
    let at = bytes.windows(10).position(|window| window == b"front desk").unwrap();
    bytes[at] = b'F';
    std::fs::write(fixture.path("people/gallery.db"), bytes).unwrap();
    let answer = verify("");
    assert_eq!((answer.code, &*answer.stdout), (1, "record 3 of the log is not what was written\n"));
    fixture.run("audit verify @none").error(&["none"]);
}
