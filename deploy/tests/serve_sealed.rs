//! Encrypted galleries as the service serves them, and what is left of who is removed through it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use gallery::{Engine, Filter, KeyFile, Store, TemplateId, traces};
use serde_json::{Value, json};

use crate::fixture::Fixture;
use crate::serve::{Service, TOWN, png, settle};

/// Ways to keep a gallery: what `serve` is told, and the key file.
const WAYS: [(&str, Option<&str>); 3] = [
    ("@model.onnx --gallery @plain", None),
    ("@model.onnx --gallery @sealed --key-file @keys/sealed", Some("keys/sealed")),
    ("@model.onnx --gallery @turned --key-file @keys/turned --renewable", Some("keys/turned")),
];

fn with_keys() -> Fixture {
    let fixture = Fixture::new();
    std::fs::create_dir(fixture.path("keys")).unwrap();
    fixture
}

/// All matches of a probe of each of the four, without what only this answer has.
fn found(service: &Service) -> Vec<Vec<Value>> {
    let one = |person: &&str| {
        let reply = service.form("/v1/search?k=12", &[("picture", &png(person, 0.55))]).is(200);
        reply["matches"].as_array().unwrap().clone()
    };
    TOWN.iter().map(one).collect()
}

#[test]
fn encrypted_and_renewable_galleries_answer_as_plain_ones() {
    let fixture = with_keys();
    let mut plain = None;
    for (line, key) in WAYS {
        let service = Service::start(&fixture, line);
        settle(&service);
        let first = found(&service);
        assert_eq!(service.get("/v1/info").is(200)["gallery"]["encrypted"], key.is_some());
        // What was answered 201 outlives a kill, and the key opens it again.
        service.signal("KILL");
        drop(service);
        let service = Service::start(&fixture, line);
        let again = found(&service);
        let plain = plain.get_or_insert_with(|| first.clone());
        for other in [&first, &again] {
            for (ours, theirs) in other.iter().flatten().zip(plain.iter().flatten()) {
                let facts = |one: &Value| ["rank", "name", "template", "subject", "camera"].map(|key| one[key].clone());
                assert_eq!(facts(ours), facts(theirs), "{line}");
                let off = ours["similarity"].as_f64().unwrap() - theirs["similarity"].as_f64().unwrap();
                assert!(off.abs() < 1e-6, "{line}: off by {off:e}");
            }
            assert_eq!(other.iter().map(Vec::len).collect::<Vec<_>>(), [12; 4]);
        }
        drop(service);
        let more = key.map(|key| format!("--key-file @{key}")).unwrap_or_default();
        let folder = line.split(' ').nth(2).unwrap();
        let info = fixture.run(&format!("gallery info {folder} --format json {more}")).done();
        let info: Value = serde_json::from_str(&info).unwrap();
        assert_eq!(
            (&info["encrypted"], &info["renewable"]),
            (&key.is_some().into(), &line.contains("--renewable").into())
        );
        fixture.run(&format!("gallery check {folder} {more}")).done();
    }
}

#[test]
fn a_key_that_does_not_fit_is_refused_before_anything_is_served() {
    let fixture = with_keys();
    for (line, _) in WAYS {
        drop(Service::start(&fixture, line));
    }
    let refused = |line: &str, facts: &[&str]| fixture.run(&format!("serve @model.onnx {line}")).error(facts);
    refused("--gallery @sealed", &["sealed", "--key-file"]);
    refused("--gallery @sealed --key-file @none", &["none"]);
    refused("--gallery @sealed --key-file @keys/turned", &["turned", "sealed"]);
    refused("--gallery @plain --key-file @keys/sealed", &["plain", "sealed"]);
    refused(
        "--gallery @sealed --key-file @keys/sealed --renewable",
        &["--renewable", "sealed", "`deploy gallery renew`"],
    );
    refused("--gallery @new --renewable", &["--key-file"]);
    refused("--key-file @keys/sealed", &["--gallery"]);
    // Another key with this key store.
    std::fs::write(fixture.path("keys/other"), format!("vitrine-key-1 {}\n", "5".repeat(64))).unwrap();
    private(&fixture.path("keys/other"), 0o600);
    std::fs::copy(fixture.path("keys/sealed.subjects"), fixture.path("keys/other.subjects")).unwrap();
    let said = refused("--gallery @sealed --key-file @keys/other", &["other", "sealed"]);
    assert!(said.contains("it is not the key of the gallery"), "{said}");
    // One that others can read.
    private(&fixture.path("keys/sealed"), 0o644);
    refused("--gallery @sealed --key-file @keys/sealed", &["keys/sealed", "644"]);
}

fn private(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Names of what holds one of these: files below the folder, and what the process has open though its name is gone.
fn holders(folder: &Path, process: u32, secrets: &[(&str, Vec<u8>)]) -> Vec<String> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
        }
    }
    for open in std::fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten() {
        let open = open.unwrap().path();
        let target = std::fs::read_link(&open).unwrap_or_default();
        // Sockets, pipes and memory have no path.
        if target.starts_with("/") && target.to_string_lossy().ends_with(" (deleted)") {
            files.push(open);
        }
    }
    let mut found = Vec::new();
    for file in files {
        // A log that was removed meanwhile.
        let Ok(bytes) = std::fs::read(&file) else { continue };
        for (what, secret) in secrets {
            if bytes.windows(secret.len()).any(|window| window == secret) {
                found.push(format!("{what} in {}", file.display()));
            }
        }
    }
    found
}

/// Pieces of a picture: of its beginning, which tells the format, none.
fn pieces(what: &'static str, bytes: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let from = bytes.len() / 2;
    bytes[from..].chunks_exact(24).take(8).map(|piece| (what, piece.to_vec())).collect()
}

/// Rows of templates, as whoever has the key reads them.
fn rows(folder: &Path, key: Option<&KeyFile>, ids: &[u64]) -> Vec<f32> {
    let store = Store::open_with(folder, key).unwrap();
    let ids: Vec<TemplateId> = ids.iter().map(|id| TemplateId(*id)).collect();
    store.snapshot().unwrap().vectors(&ids).unwrap().unwrap()
}

fn names(folder: &Path, key: Option<&KeyFile>) -> Vec<String> {
    let store = Store::open_with(folder, key).unwrap();
    let now = store.snapshot().unwrap();
    let ids = now.select(&Filter::default()).unwrap();
    let templates = now.templates(&ids).unwrap();
    let names = templates.into_iter().filter_map(|one| one.about.subject);
    names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

/// A word that one person alone has.
const TAG: &str = "ticket-4711-zq";

/// While others search, so that there are readers of what was before, and whatever the gallery is kept as.
#[test]
fn who_is_removed_through_the_service_is_in_no_file() {
    const NAME: &str = "Zacharias Quint";
    for (line, key) in WAYS {
        let fixture = with_keys();
        let service = Service::start(&fixture, line);
        settle(&service);
        let folder = fixture.path(line.split(' ').nth(2).unwrap().trim_start_matches('@'));
        // A copy in eight bits, as `gallery index` makes it, while nobody serves.
        let service = if key.is_none() {
            service.signal("TERM");
            assert_eq!(service.end(), Some(0));
            let early = Service::start(&fixture, line);
            enrol(&early, NAME);
            early.signal("TERM");
            assert_eq!(early.end(), Some(0));
            fixture.run("gallery index @plain --kind reduced").done();
            Service::start(&fixture, line)
        } else {
            enrol(&service, NAME);
            service
        };
        let pictures = [png("zacharias", 0.1), png("zacharias", 0.2)];
        let listed = service.get("/v1/subjects?q=Zacharias").is(200);
        let number = listed["subjects"][0]["id"].as_u64().unwrap();
        let person = service.get(&format!("/v1/subjects/{number}")).is(200);
        let templates = person["templates"].as_array().unwrap();
        let ids: Vec<u64> = templates.iter().map(|one| one["id"].as_u64().unwrap()).collect();
        let small: Vec<Vec<u8>> =
            templates.iter().map(|one| service.get(one["picture"].as_str().unwrap()).body).collect();
        // All that a service notes about somebody: searches, and what was said about them.
        let probe = [("picture", &pictures[0][..])];
        let search = service.form("/v1/search?k=1", &probe).is(200);
        assert_eq!(search["matches"][0]["name"], NAME);
        let review = format!("/v1/matches/{}/review", search["id"]);
        service.json("POST", &review, &json!({"verdict": "wrong", "subject": number})).is(200);
        service.form(&format!("/v1/verify?subject={number}"), &probe).is(200);
        let own = key.map(|key| KeyFile::open(&fixture.path(key)).unwrap());
        let values = rows(&folder, own.as_ref(), &ids);
        let dim = values.len() / ids.len();

        let mut secrets = vec![("the name", NAME.as_bytes().to_vec())];
        secrets.push(("the name in hexadecimal", hex(NAME.as_bytes())));
        secrets.push(("the tag", TAG.as_bytes().to_vec()));
        pictures.iter().for_each(|sent| secrets.extend(pieces("the picture", sent)));
        small.iter().for_each(|small| secrets.extend(pieces("the small picture", small)));
        let everything = fixture.folder.path();
        let rows_of =
            |folder: &Path| -> usize { values.chunks_exact(dim).map(|row| traces(folder, row).unwrap().len()).sum() };
        let before = holders(everything, service.process(), &secrets);
        let kept = |what: &str| before.iter().any(|one| one.starts_with(what));
        assert_eq!((kept("the name"), kept("the small picture")), (key.is_none(), key.is_none()), "{before:?}");
        assert!(!kept("the picture"), "pictures are not kept: {before:?}");
        assert_eq!(rows_of(everything) > 0, key.is_none());
        let elsewhere = tempfile::tempdir().unwrap();
        copy(&folder, &elsewhere.path().join("backup"));

        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let _stop = Stop(&done);
            for person in TOWN.into_iter().take(3) {
                let (service, done) = (&service, &done);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        service.form("/v1/search?k=3", &[("picture", &png(person, 0.3))]).is(200);
                    }
                });
            }
            let removed = service.ask("DELETE", &format!("/v1/subjects/{number}"), &[], &[]).is(200);
            assert_eq!(removed["removed"], 2);
            // Nobody waits for anything: it is so when that is answered.
            let left = holders(everything, service.process(), &secrets);
            assert_eq!((left, rows_of(everything)), (Vec::<String>::new(), 0), "{line}");
        });
        let audit = service.get("/v1/audit?limit=1000").is(200);
        let told = audit["records"].as_array().unwrap().iter().rfind(|one| one["change"] == "remove").unwrap();
        assert!(told.to_string().contains(&number.to_string()) && !audit.to_string().contains("Zacharias"), "{audit}");
        assert!(!service.get("/v1/matches").is(200).to_string().contains("Zacharias"));
        service.get(&format!("/v1/subjects/{number}")).refuses(404, &[&number.to_string()]);
        service.signal("TERM");
        assert_eq!(service.end(), Some(0));
        let left = holders(everything, 0, &secrets);
        assert_eq!((left, rows_of(everything)), (Vec::<String>::new(), 0), "{line}, after it has stopped");

        // A backup from before, with the keys of today: reading it is refused, and serving it removes them from it.
        let (Some(key), Some(own)) = (key, own) else { continue };
        let more = format!("--key-file @{key}");
        let backup = fixture.path("backup");
        copy(&elsewhere.path().join("backup"), &backup);
        fixture.run(&format!("gallery check @backup {more}")).error(&["`deploy gallery compact`"]);
        fixture.picture("probe.png", "zacharias", 0.1);
        fixture
            .run(&format!("search -m @model.onnx --gallery @backup --query @probe.png {more}"))
            .error(&["`deploy gallery compact`"]);
        fixture.run(&format!("gallery export @backup --out @rows {more}")).error(&["`deploy gallery compact`"]);
        let service = Service::start(&fixture, &format!("@model.onnx --gallery @backup {more}"));
        let best = service.form("/v1/search?k=1", &probe).is(200);
        assert!(TOWN.contains(&best["matches"][0]["name"].as_str().unwrap()), "{best}");
        service.get(&format!("/v1/subjects/{number}")).refuses(404, &[&number.to_string()]);
        drop(service);
        assert_eq!(names(&backup, Some(&own)), TOWN);
    }
}

/// Ends those who search, also where the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Two pictures with all that may be said about them.
fn enrol(service: &Service, name: &str) {
    let pictures = [png("zacharias", 0.1), png("zacharias", 0.2)];
    let parts: [(&str, &[u8]); 6] = [
        ("tag", TAG.as_bytes()),
        ("name", name.as_bytes()),
        ("picture", &pictures[0]),
        ("picture", &pictures[1]),
        ("keep_picture", b"true"),
        ("camera", b"5"),
    ];
    service.form("/v1/subjects", &parts).is(201);
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            copy(&entry, &target);
        } else {
            std::fs::copy(&entry, &target).unwrap();
        }
    }
}
