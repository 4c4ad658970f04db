//! The service as its clients meet it: the built program, spoken to over a socket.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixture::{Fixture, contract, graph, person_picture, reference_embedding, with_contract};

/// A running service, which ends with the test.
pub(crate) struct Service {
    child: Child,
    address: String,
    log: PathBuf,
}

/// What it answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&self.body)))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// A refusal that must have this status and name these facts.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, facts: &[&str]) {
        let error = self.is(status)["error"].to_string();
        for fact in facts {
            assert!(error.contains(fact), "`{fact}` is not in {error}");
        }
    }
}

impl Service {
    pub(crate) fn start(fixture: &Fixture, line: &str) -> Self {
        let log = fixture.path(&format!("log {}.txt", line.len()));
        let words = line.split_whitespace().map(|word| match word.strip_prefix('@') {
            Some(name) => fixture.path(name).into_os_string(),
            None => word.into(),
        });
        let mut child = Command::new(env!("CARGO_BIN_EXE_deploy"))
            .arg("serve")
            .args(words)
            .args(["--listen", "127.0.0.1:0"])
            // What it would write there is found with the rest.
            .env("TMPDIR", fixture.folder.path())
            .stdout(Stdio::piped())
            .stderr(std::fs::OpenOptions::new().create(true).append(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let address = first.trim().rsplit('/').next().unwrap().to_owned();
        assert!(first.starts_with("listening on http"), "{first}{}", std::fs::read_to_string(&log).unwrap());
        Self { child, address, log }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        // A service that hangs fails the test instead of keeping it.
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    pub(crate) fn head(&self, method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + &format!("content-length: {length}\r\n\r\n")
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(self.head(method, path, headers, body.len()).as_bytes()).unwrap();
        // A body that is refused by its length is not read to its end.
        let _ = stream.write_all(body);
        read(stream)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], &[])
    }

    pub(crate) fn json(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.ask(method, path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Sends pictures and fields as a form.
    pub(crate) fn form(&self, path: &str, parts: &[(&str, &[u8])]) -> Reply {
        self.form_with(path, parts, &[])
    }

    fn form_with(&self, path: &str, parts: &[(&str, &[u8])], headers: &[(&str, &str)]) -> Reply {
        let headers = [headers, &[("content-type", "multipart/form-data; boundary=seam")]].concat();
        self.ask("POST", path, &headers, &form(parts))
    }

    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(done.unwrap().success());
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end and returns the exit code.
    pub(crate) fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub(crate) fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn form(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, bytes) in parts {
        let file = if ["picture", "palm", "print", "vein"].contains(name) { "; filename=\"x\"" } else { "" };
        body.extend(format!("--seam\r\ncontent-disposition: form-data; name=\"{name}\"{file}\r\n\r\n").bytes());
        body.extend_from_slice(bytes);
        body.extend(b"\r\n");
    }
    body.extend(b"--seam--\r\n");
    body
}

pub(crate) fn read(mut stream: impl Read) -> Reply {
    let mut all = Vec::new();
    // What comes before an end by force is the answer.
    let _ = stream.read_to_end(&mut all);
    let at = all.windows(4).position(|four| four == b"\r\n\r\n");
    let at = at.unwrap_or_else(|| panic!("no answer: {}", String::from_utf8_lossy(&all)));
    let headers = String::from_utf8(all[..at].to_vec()).unwrap().to_lowercase();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, headers, body: all[at + 4..].to_vec() }
}

/// A PNG of a person.
pub(crate) fn png(person: &str, variation: f32) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    person_picture(person, variation).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

fn floats(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|one| one.as_f64().unwrap() as f32).collect()
}

pub(crate) const TOWN: [&str; 4] = ["ada", "ben", "cleo", "dan"];

/// A service whose gallery has three pictures of each of four people.
fn town(fixture: &Fixture, more: &str) -> Service {
    let service = Service::start(fixture, &format!("@model.onnx --gallery @people {more}"));
    settle(&service);
    service
}

/// Enrols three pictures of each of the four.
pub(crate) fn settle(service: &Service) {
    for person in TOWN {
        let pictures: Vec<Vec<u8>> = (1..4).map(|frame| png(person, 0.1 * frame as f32)).collect();
        let mut parts: Vec<(&str, &[u8])> = pictures.iter().map(|picture| ("picture", &picture[..])).collect();
        parts.push(("name", person.as_bytes()));
        parts.push(("camera", b"3"));
        assert_eq!(service.form("/v1/subjects", &parts).is(201)["templates"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn answers_are_those_of_the_commands() {
    let fixture = Fixture::new();
    let service = town(&fixture, "");
    for by in ["template", "subject"] {
        for person in TOWN {
            let path = fixture.picture(&format!("probes/{person}.png"), person, 0.55);
            let found = service.ask(
                "POST",
                &format!("/v1/search?k=7&by={by}"),
                &[("content-type", "image/png")],
                &std::fs::read(&path).unwrap(),
            );
            let found = found.is(200);
            let line = format!("search -m @model.onnx --gallery @people --query @probes/{person}.png -k 7 --by {by}");
            let told: Value = serde_json::from_str(&fixture.run(&format!("{line} --format json")).done()).unwrap();
            let told = told["probes"][0]["matches"].as_array().unwrap();
            let own = found["matches"].as_array().unwrap();
            assert_eq!(own.len(), if by == "subject" { 4 } else { 7 });
            for (one, other) in own.iter().zip(told) {
                let facts = |of: &Value, name: &str| (of["similarity"].clone(), of["rank"].clone(), of[name].clone());
                assert_eq!(facts(one, "name"), facts(other, "identity"), "{one} {other}");
                assert_eq!(one["template"], other["template"]);
            }
            assert_eq!((&own[0]["name"], &own[0]["camera"]), (&json!(person), &json!(3)));
            assert_eq!(found["threshold"], Value::Null);
            // The raw values, by the network's own reference.
            let body = json!({"pictures": [base64(&std::fs::read(&path).unwrap())]});
            let embedded = floats(&service.json("POST", "/v1/embed", &body).is(200)["embeddings"][0]);
            let expected = reference_embedding(&path);
            let far = embedded.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(embedded.len() == expected.len() && far < 1e-5, "{far}");
            let similarity = |other: &str| {
                let (one, two) = (std::fs::read(&path).unwrap(), png(other, 0.0));
                service.form("/v1/verify", &[("picture", &one), ("picture", &two)]).is(200)["similarity"].as_f64()
            };
            assert!(similarity(person) > similarity(if person == "ada" { "ben" } else { "ada" }));
        }
    }
    let recent = service.get("/v1/matches?limit=3").is(200);
    let recent = recent["matches"].as_array().unwrap();
    assert_eq!((recent.len(), &recent[0]["best"]["name"], &recent[0]["id"]), (3, &json!("dan"), &json!(8)));
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let three = |three: &[u8]| {
        let number = three.iter().chain([&0, &0]).take(3).fold(0, |number, byte| number << 8 | usize::from(*byte));
        let letter = |at: usize| if at <= three.len() { LETTERS[number >> (18 - 6 * at) & 63] as char } else { '=' };
        [0, 1, 2, 3].map(letter)
    };
    bytes.chunks(3).flat_map(three).collect()
}

#[test]
fn people_are_listed_merged_and_removed() {
    let fixture = Fixture::new();
    let service = town(&fixture, "");
    let first = service.get("/v1/subjects?limit=3").is(200);
    assert_eq!((&first["subjects"][2]["name"], &first["next"]), (&json!("cleo"), &json!(3)));
    let rest = service.get("/v1/subjects?limit=3&after=3").is(200);
    assert_eq!((&rest["subjects"][0]["id"], &rest["next"]), (&json!(4), &Value::Null));
    assert_eq!(service.get("/v1/subjects?q=E").is(200)["subjects"].as_array().unwrap().len(), 2, "ben, cleo");
    // Anna with a small picture; who looks like somebody else is told.
    let large = image::DynamicImage::ImageRgb8(person_picture("ada", 0.1)).resize_exact(
        600,
        300,
        image::imageops::FilterType::Nearest,
    );
    let mut picture = std::io::Cursor::new(Vec::new());
    large.write_to(&mut picture, image::ImageFormat::Png).unwrap();
    let again = png("ada", 0.1);
    let parts: [(&str, &[u8]); 4] =
        [("name", "anna".as_bytes()), ("picture", picture.get_ref()), ("picture", &again), ("keep_picture", b"true")];
    let anna = service.form("/v1/subjects", &parts).is(201);
    let warned = anna["warnings"].as_array().unwrap();
    assert!(warned.iter().any(|one| one["kind"] == "similar" && one["name"] == "ada"), "{anna}");
    let twice = service.form("/v1/subjects", &[("name", b"ada"), ("picture", &again)]).is(201);
    assert_eq!(twice["warnings"][0]["kind"], "duplicate", "{twice}");
    let number = anna["subject"].as_u64().unwrap();
    let person = service.get(&format!("/v1/subjects/{number}")).is(200);
    let small = service.get(person["templates"][0]["picture"].as_str().unwrap());
    assert!(small.status == 200 && small.headers.contains("content-type: image/jpeg"));
    let decoded = image::load_from_memory(&small.body).unwrap();
    assert_eq!((decoded.width(), decoded.height()), (256, 128));
    service.get("/v1/templates/1/picture").refuses(404, &["template 1"]);
    // A form with the other spelling of the name is the same person.
    let spelled = service.form("/v1/subjects", &[("name", "Mu\u{308}ller".as_bytes()), ("picture", &again)]).is(201);
    assert_eq!(spelled["name"], "M\u{fc}ller");

    let merged = service.json("POST", "/v1/subjects/1/merge", &json!({"from": number})).is(200);
    assert_eq!(merged["templates"].as_array().unwrap().len(), 2);
    service.get(&format!("/v1/subjects/{number}")).refuses(404, &[&number.to_string()]);
    assert_eq!(service.get("/v1/subjects/1").is(200)["templates"].as_array().unwrap().len(), 6);
    assert_eq!(service.ask("DELETE", "/v1/templates/1", &[], &[]).is(200)["removed"], 1);
    assert_eq!(service.ask("DELETE", "/v1/subjects/1", &[], &[]).is(200)["removed"], 5);
    service.ask("DELETE", "/v1/subjects/1", &[], &[]).refuses(404, &["1"]);
    service.ask("DELETE", "/v1/templates/1", &[], &[]).refuses(404, &["1"]);
    service.json("POST", "/v1/subjects/2/merge", &json!({"from": 2})).refuses(422, &["another"]);
    assert_eq!(service.get("/v1/subjects?q=ada").is(200)["subjects"], json!([]));
    let found = service.form("/v1/search?k=1000", &[("picture", &again)]).is(200);
    assert!(!found["matches"].to_string().contains("\"ada\""));
    let audit = service.get("/v1/audit?limit=1000").is(200);
    let done: Vec<&str> =
        audit["records"].as_array().unwrap().iter().filter_map(|one| one["change"].as_str()).collect();
    for change in ["make", "enrol", "merge", "remove", "match"] {
        assert!(done.contains(&change), "{change} is not in {done:?}");
    }
    assert_eq!(audit["problems"], json!([]));
    assert_eq!(fixture.run("gallery check @people").code, 0);
}

#[test]
fn searches_can_be_judged_and_filtered() {
    let fixture = Fixture::new();
    let service = town(&fixture, "--threshold 0.5");
    let probe = png("ben", 0.0);
    let other = service.form("/v1/search?subject=1&camera=3&k=1", &[("picture", &probe)]).is(200);
    assert_eq!(other["matches"][0]["name"], "ada");
    assert_eq!(service.form("/v1/search?camera=4", &[("picture", &probe)]).is(200)["matches"], json!([]));
    let found = service.form("/v1/search", &[("picture", &probe), ("k", b"1")]).is(200);
    assert_eq!((&found["matches"][0]["decision"], &found["threshold"]), (&json!("match"), &json!(0.5)));
    let id = found["id"].as_u64().unwrap();
    let review = |id: u64, body: Value| service.json("POST", &format!("/v1/matches/{id}/review"), &body);
    review(id, json!({"verdict": "wrong", "subject": 1})).is(200);
    let recent = service.get("/v1/matches").is(200);
    assert_eq!(recent["matches"][0]["review"], json!({"verdict": "wrong", "subject": 1, "name": "ada"}));
    review(id, json!({"verdict": "right"})).refuses(422, &["right", "confirmed"]);
    review(99, json!({"verdict": "wrong"})).refuses(404, &["99"]);
    // Another threshold, stored.
    let set = |body: Value| service.json("PUT", "/v1/threshold", &body);
    set(json!({"similarity": 2})).refuses(422, &["similarity", "2", "-1 to 1"]);
    set(json!({"similarity": 0.9999, "store": true})).is(200);
    assert_eq!(service.get("/v1/thresholds").is(200)["threshold"], 0.9999);
    let found = service.form("/v1/search", &[("picture", &png("ben", 0.9))]).is(200);
    assert_eq!(found["matches"][0]["decision"], "no match");
    drop(service);
    let service = Service::start(&fixture, "@model.onnx --gallery @people");
    assert_eq!(service.get("/v1/info").is(200)["gallery"]["threshold"], 0.9999, "of the gallery");
    let with = |fields: &str| service.form(&format!("/v1/verify?subject=2{fields}"), &[("picture", &probe)]);
    assert_eq!(with("&threshold=0.1").is(200)["decision"], "match");
    assert_eq!(with("").is(200)["decision"], Value::Null, "nothing is calibrated");
    with("&far=0.1&threshold=0.1").refuses(422, &["far", "threshold"]);
    with("&far=1").refuses(422, &["far", "below 1"]);
}

#[test]
fn what_is_too_much_or_malformed_is_refused_with_the_limit_and_its_flag() {
    let fixture = Fixture::new();
    let limits = "--max-body 20000 --max-pixels 3000 --max-pictures 2";
    let service = Service::start(&fixture, &format!("@model.onnx --gallery @people {limits}"));
    let ada = png("ada", 0.0);
    let image = [("content-type", "image/png")];
    service.ask("POST", "/v1/search", &image, &vec![0; 20001]).refuses(413, &["20001 bytes", "20000", "--max-body"]);
    let mut wide = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(3001, 1).write_to(&mut wide, image::ImageFormat::Png).unwrap();
    let large = service.ask("POST", "/v1/search", &image, wide.get_ref());
    large.refuses(422, &["picture 1", "3001", "3000 pixels", "--max-pixels"]);
    let three: [(&str, &[u8]); 3] = [("picture", &ada), ("picture", &ada), ("picture", &ada)];
    service.form("/v1/embed", &three).refuses(422, &["3 pictures", "2 pictures", "--max-pictures"]);
    service.form("/v1/search", &three[..2]).refuses(422, &["2 pictures", "1 picture"]);
    service.form("/v1/verify", &three[..1]).refuses(422, &["1 pictures", "two pictures"]);
    service.form("/v1/subjects", &three[..1]).refuses(422, &["name"]);
    service.ask("POST", "/v1/search", &image, b"no picture").refuses(422, &["picture 1"]);
    service.ask("POST", "/v1/search", &image, &ada[..ada.len() / 2]).refuses(422, &["picture 1"]);
    service.ask("POST", "/v1/search", &image, b"").refuses(422, &["picture"]);
    service.ask("POST", "/v1/search", &[("content-type", "text/plain")], &ada).refuses(400, &["text/plain", "image/"]);
    service.ask("POST", "/v1/search", &[], &ada).refuses(400, &["Content-Type", "multipart/form-data"]);
    service.ask("POST", "/v1/search?k=0", &image, &ada).refuses(422, &["`k`", "0", "1 to 1000"]);
    service.ask("POST", "/v1/search?k=1&k=2", &image, &ada).refuses(422, &["`k`", "once"]);
    service.ask("POST", "/v1/search?colour=red", &image, &ada).refuses(422, &["colour", "camera"]);
    service.ask("POST", "/v1/search?since=yesterday", &image, &ada).refuses(422, &["since", "2026-11-28"]);
    service.ask("POST", "/v1/search?by=face", &image, &ada).refuses(422, &["face", "subject"]);
    let form = [("content-type", "multipart/form-data; boundary=seam")];
    for body in [&b"--seam"[..], b"--seam\r\n\r\n", b"", b"--seam\r\ncontent-disposition: form-data; name=\"picture\""]
    {
        let refused = service.ask("POST", "/v1/search", &form, body);
        assert!([400, 422].contains(&refused.status), "{refused:?}");
    }
    service.ask("POST", "/v1/search", &[("content-type", "multipart/form-data")], &ada).refuses(400, &["oundary"]);
    for (body, told) in
        [("{", "EOF"), ("[]", "object"), ("{\"pictures\": [1]}", "number 1"), ("{\"pictures\": {}}", "text")]
    {
        let json = [("content-type", "application/json")];
        service.ask("POST", "/v1/search", &json, body.as_bytes()).refuses(400, &[told]);
    }
    let many: String = (0..300).map(|at| format!("\"a{at}\":0,")).collect();
    let json = [("content-type", "application/json")];
    service.ask("POST", "/v1/embed", &json, format!("{{{many}\"b\":0}}").as_bytes()).refuses(400, &["256"]);
    let form_of =
        |name: &str, value: &[u8]| service.form("/v1/subjects", &[("picture", &ada), ("name", b"ada"), (name, value)]);
    form_of("camera", b"-1").refuses(422, &["camera", "-1"]);
    form_of("taken", b"noon").refuses(422, &["taken"]);
    form_of("tag", b"~junk").refuses(422, &["tag", "~junk"]);
    form_of("keep_picture", b"perhaps").refuses(422, &["keep_picture", "true, false"]);
    form_of("name", b"ben").refuses(422, &["name", "once"]);
    let unseen = service.form("/v1/subjects", &[("picture", &ada), ("name", "a\u{200b}".as_bytes())]);
    unseen.refuses(422, &["name"]);
    service.form("/v1/subjects", &[("picture", &ada), ("name", b"\xff")]).refuses(400, &["name", "UTF-8"]);
    service.get("/v1/subjects/x").refuses(422, &["x", "whole number"]);
    service.get("/v1/subjects/7").refuses(404, &["7"]);
    service.get("/nothing").refuses(404, &["/nothing"]);
    let method = service.ask("DELETE", "/v1/search", &[], &[]);
    method.refuses(405, &["DELETE", "/v1/search"]);
    assert!(method.headers.contains("allow: post"), "{}", method.headers);
    assert_eq!(service.get("/v1/info").is(200)["gallery"]["templates"], 0, "nothing of it was enrolled");
    // Not a line of the log is about a failure of the service.
    assert!(!service.logged().contains("ERROR") && !service.logged().contains("panicked"), "{}", service.logged());
}

#[test]
fn without_a_gallery_pictures_are_compared_and_the_rest_is_refused() {
    let fixture = Fixture::new();
    let service = Service::start(&fixture, "@model.onnx");
    let ada = png("ada", 0.0);
    let same = service.form("/v1/verify", &[("picture", &ada), ("picture", &ada)]).is(200);
    assert!(same["similarity"].as_f64().unwrap() > 0.9999, "{same}");
    service.form("/v1/search", &[("picture", &ada)]).refuses(409, &["--gallery"]);
    service.get("/v1/subjects").refuses(409, &["--gallery"]);
    assert_eq!(service.get("/v1/info").is(200)["gallery"], Value::Null);
}

#[test]
fn a_pair_is_sent_as_two_parts() {
    let fixture = Fixture::new();
    fixture.write_model("pair.onnx", &crate::pairs::model());
    let service = Service::start(&fixture, "@pair.onnx --gallery @hands");
    let (palm, vein) = (png("palm 1", 0.0), png("vein 1", 0.0));
    for print in ["print", "palm"] {
        let pair: [(&str, &[u8]); 3] = [(print, &palm), ("vein", &vein), ("name", b"hand 1")];
        service.form("/v1/subjects", &pair).is(201);
        let found = service.form("/v1/search", &pair[..2]).is(200);
        assert!(found["matches"][0]["similarity"].as_f64().unwrap() > 0.9999, "{found}");
        assert_eq!(found["quality"].as_array().unwrap().len(), 2);
    }
    let listed = json!({"pictures": [base64(&palm), base64(&vein)]});
    assert!(service.json("POST", "/v1/search", &listed).is(200)["matches"][0]["similarity"].as_f64().unwrap() > 0.9999);
    service.form("/v1/search", &[("picture", &palm)]).refuses(422, &["picture", "palm", "vein"]);
    service.form("/v1/search", &[("palm", &palm), ("vein", &vein), ("vein", &vein)]).refuses(422, &["each row"]);
    let sizes = service.get("/v1/info").is(200)["model"]["inputs"].clone();
    assert_eq!((&sizes[0]["name"], &sizes[1]["name"]), (&json!("palm"), &json!("vein")));
}

fn add_key(fixture: &Fixture, role: &str) -> String {
    let key = fixture.run(&format!("keys add --keys @keys.json --name {role}-key --role {role}")).done();
    key.trim().to_owned()
}

#[test]
fn a_role_may_what_it_may_and_raw_values_are_for_admins() {
    let fixture = Fixture::new();
    let roles = ["read", "match", "enrol", "admin"];
    let keys = roles.map(|role| add_key(&fixture, role));
    let service = Service::start(&fixture, "@model.onnx --gallery @people --keys @keys.json --rate 1000000");
    let routes: [(&str, &str, Option<usize>); 20] = [
        ("GET", "/v2", None),
        ("GET", "/v2/health/live", None),
        ("GET", "/v2/health/ready", None),
        ("GET", "/openapi.json", None),
        ("GET", "/", None),
        ("GET", "/v1/info", Some(0)),
        ("GET", "/v1/subjects", Some(0)),
        ("GET", "/v1/thresholds", Some(0)),
        ("GET", "/metrics", Some(0)),
        ("GET", "/v2/models/model", Some(1)),
        ("POST", "/v1/search", Some(1)),
        ("POST", "/v1/verify", Some(1)),
        ("GET", "/v1/matches", Some(1)),
        ("POST", "/v1/subjects", Some(2)),
        ("DELETE", "/v1/subjects/1", Some(2)),
        ("DELETE", "/v1/templates/1", Some(2)),
        ("POST", "/v1/embed", Some(3)),
        ("POST", "/v2/models/model/infer", Some(3)),
        ("GET", "/v1/audit", Some(3)),
        ("PUT", "/v1/threshold", Some(3)),
    ];
    for (method, path, needed) in routes {
        for (at, key) in keys.iter().enumerate() {
            let bearer = format!("Bearer {key}");
            let status = service.ask(method, path, &[("authorization", &bearer)], &[]).status;
            let let_in = needed.is_none_or(|needed| at >= needed);
            assert_eq!(status == 403, !let_in, "{method} {path} as {}: {status}", roles[at]);
            assert!(status != 401 && status < 500, "{method} {path}: {status}");
        }
        for value in ["", "Bearer vitrine_00", "Basic YTpi"] {
            let headers = [("authorization", value)];
            let reply = service.ask(method, path, if value.is_empty() { &[] } else { &headers }, &[]);
            assert_eq!(reply.status == 401, needed.is_some(), "{method} {path} `{value}`: {}", reply.status);
            assert_eq!(reply.headers.contains("www-authenticate: bearer"), needed.is_some());
        }
    }
    // Where files lie on the machine is for admins.
    for (at, key) in keys.iter().enumerate() {
        let info = service.ask("GET", "/v1/info", &[("authorization", &format!("Bearer {key}"))], &[]).is(200);
        let path = info.to_string().contains("\"/");
        assert_eq!((path, info["runtime"]["library"].is_string()), (at == 3, at == 3), "{}: {info}", roles[at]);
    }
    // What was refused is in the gallery's log, by the name of the key.
    let bearer = format!("Bearer {}", keys[3]);
    let audit = service.ask("GET", "/v1/audit?limit=1000", &[("authorization", &bearer)], &[]).is(200);
    let denied = |one: &&Value| one["change"] == "deny" && one["who"] == "read-key";
    let told = audit["records"].as_array().unwrap().iter().find(denied).unwrap();
    assert!(told["detail"].as_str().unwrap().contains("role read"), "{told}");
    // A key that is taken out is let in until the file is read again.
    fixture.run("keys remove --keys @keys.json --name read-key").done();
    assert!(!fixture.run("keys list --keys @keys.json").done().contains("read-key"));
    let read = format!("Bearer {}", keys[0]);
    service.ask("GET", "/v1/info", &[("authorization", &read)], &[]).is(200);
    service.ask("POST", "/v1/reload", &[("authorization", &bearer)], &[]).is(200);
    assert_eq!(service.ask("GET", "/v1/info", &[("authorization", &read)], &[]).status, 401);
}

#[test]
fn a_service_that_would_let_everybody_in_does_not_start() {
    let fixture = Fixture::new();
    let said = fixture.run("serve @model.onnx --listen 0.0.0.0:0").error(&["0.0.0.0:0", "--keys", "--listen"]);
    assert!(said.contains("loopback"), "{said}");
    fixture.run("serve @model.onnx --listen [::]:0").error(&["--keys"]);
    std::fs::write(fixture.path("keys.json"), "{\"keys\": []}").unwrap();
    fixture.run("serve @model.onnx --listen 0.0.0.0:0 --keys @keys.json").error_saying("keys.json`: it has no key");
    std::fs::write(fixture.path("keys.json"), "{\"keys\": [{\"name\": \"a\"}]}").unwrap();
    fixture.run("serve @model.onnx --keys @keys.json").error(&["keys.json", "role"]);
    fixture.run("serve @none.onnx").error(&["none.onnx"]);
    fixture.run("serve @model.onnx --tls-cert @c.pem").error(&["--tls-key"]);
    fixture.run("serve @model.onnx --tls-cert @c.pem --tls-key @k.pem").error(&["c.pem"]);
    fixture.run("serve @model.onnx --threshold 0.5").error(&["--gallery"]);
    fixture.run("serve @model.onnx --rate 5").error(&["--keys"]);
    fixture.run("serve @model.onnx --gallery @people --fpir 0.01").error(&["0.01", "--fpir"]);
    let service = Service::start(&fixture, "@model.onnx --gallery @people");
    fixture.run(&format!("serve @model.onnx --listen {}", service.address)).error(&[&service.address, "--listen"]);
    fixture.run("serve @model.onnx --gallery @people").error(&["people", &service.child.id().to_string()]);
}

#[test]
fn no_page_of_another_site_and_no_other_name_is_let_in_without_keys() {
    let fixture = Fixture::new();
    let service = Service::start(&fixture, "@model.onnx --gallery @people");
    let ask = |host: &str, origin: Option<&str>| {
        let mut stream = service.connect();
        let origin = origin.map(|origin| format!("origin: {origin}\r\n")).unwrap_or_default();
        let head = format!("GET /v1/info HTTP/1.1\r\nhost: {host}\r\n{origin}connection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        read(stream).status
    };
    let own = service.address.clone();
    assert_eq!((ask(&own, None), ask(&own, Some(&format!("http://{own}")))), (200, 200));
    assert_eq!((ask("faces.example", None), ask(&own, Some("http://faces.example"))), (403, 403));
}

#[test]
fn enrolments_outlive_a_kill() {
    let fixture = Fixture::new();
    let service = Arc::new(Service::start(&fixture, "@model.onnx --gallery @people"));
    let enrolled: Vec<String> = std::thread::scope(|scope| {
        let work = |lane: usize| {
            let service = Arc::clone(&service);
            move || {
                let mut done = Vec::new();
                for at in 0..5 {
                    let name = format!("p{lane}-{at}");
                    let picture = png(&name, 0.1);
                    let parts: [(&str, &[u8]); 2] = [("picture", &picture), ("name", name.as_bytes())];
                    if service.form("/v1/subjects", &parts).status == 201 {
                        done.push(name);
                    }
                }
                done
            }
        };
        let lanes: Vec<_> = (0..4).map(|lane| scope.spawn(work(lane))).collect();
        lanes.into_iter().flat_map(|lane| lane.join().unwrap()).collect()
    });
    assert_eq!(enrolled.len(), 20);
    service.signal("KILL");
    drop(service);
    let service = Service::start(&fixture, "@model.onnx --gallery @people --batch-size 1");
    let subjects = service.get("/v1/subjects?limit=1000").is(200);
    let names = subjects["subjects"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned());
    assert_eq!(names.collect::<BTreeSet<_>>(), enrolled.into_iter().collect());
    assert_eq!(fixture.run("gallery check @people").code, 0);
}

#[test]
fn what_was_accepted_is_finished_and_then_it_stops() {
    let fixture = Fixture::new();
    let service = Service::start(&fixture, "@model.onnx --gallery @people");
    let picture = png("ada", 0.0);
    let body = form(&[("picture", &picture), ("name", b"ada")]);
    let mut stream = service.connect();
    let head =
        service.head("POST", "/v1/subjects", &[("content-type", "multipart/form-data; boundary=seam")], body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body[..body.len() / 2]).unwrap();
    // The request is being read once it is counted.
    while !String::from_utf8_lossy(&service.get("/metrics").body).contains("vitrine_in_flight 2") {
        std::thread::yield_now();
    }
    service.signal("TERM");
    while !service.logged().contains("told to stop") {
        std::thread::yield_now();
    }
    stream.write_all(&body[body.len() / 2..]).unwrap();
    assert_eq!(read(stream).is(201)["subject"], 1);
    assert_eq!(service.end(), Some(0));
    let subjects = fixture.run("gallery info @people --format json").done();
    assert!(subjects.contains("\"templates\": 1"), "{subjects}");
}

#[test]
fn slow_silent_and_half_closed_clients_lose_their_place() {
    let fixture = Fixture::new();
    let slow = "--header-seconds 1 --body-seconds 1 --max-connections 4";
    let service = Service::start(&fixture, &format!("@model.onnx --gallery @people {slow}"));
    let ended = |mut stream: TcpStream| {
        let mut left = Vec::new();
        // An end, whichever it is; a place that is kept ends the test by its time.
        match stream.read_to_end(&mut left) {
            Ok(_) => left,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => left,
            Err(error) => panic!("still open: {error}"),
        }
    };
    let mut silent = service.connect();
    let mut headers = service.connect();
    headers.write_all(b"GET /v1/info HTTP/1.1\r\nhost: x").unwrap();
    let mut body = service.connect();
    body.write_all(service.head("POST", "/v1/search", &[("content-type", "image/png")], 100).as_bytes()).unwrap();
    body.write_all(b"slow").unwrap();
    let half = service.connect();
    half.shutdown(Shutdown::Write).unwrap();
    silent.flush().unwrap();
    assert_eq!(ended(silent), b"");
    ended(headers);
    let answer = String::from_utf8(ended(body)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("--body-seconds"), "{answer}");
    ended(half);
    // All four places are free again.
    service.get("/v1/info").is(200);
}

#[test]
fn the_log_holds_no_picture_no_vector_no_key_and_no_name() {
    let fixture = Fixture::new();
    let key = add_key(&fixture, "admin");
    let service = Service::start(&fixture, "@model.onnx --gallery @people --keys @keys.json");
    let bearer = format!("Bearer {key}");
    let own = [("authorization", &bearer[..])];
    let picture = png("ada", 0.0);
    let parts: [(&str, &[u8]); 2] = [("picture", &picture), ("name", b"Zacharias")];
    assert_eq!(service.form_with("/v1/subjects", &parts, &own).status, 201);
    assert_eq!(service.form_with("/v1/search", &parts[..1], &own).status, 200);
    let embedded = service.form_with("/v1/embed", &parts[..1], &own).is(200);
    assert_eq!(service.ask("GET", "/v1/subjects?q=Zacharias", &own, &[]).status, 200);
    assert_eq!(service.ask("GET", "/v1/subjects/Zacharias", &own, &[]).status, 422);
    assert_eq!(service.ask("GET", "/Zacharias", &own, &[]).status, 404);
    assert_eq!(service.form_with("/v1/search?tag=Zacharias&k=0", &parts[..1], &own).status, 422);
    assert_eq!(service.ask("GET", "/v1/info", &[("authorization", "Bearer vitrine_wrong")], &[]).status, 401);
    let log = service.logged();
    let first = embedded["embeddings"][0][0].to_string();
    let stored = std::fs::read_to_string(fixture.path("keys.json")).unwrap();
    let stored: Value = serde_json::from_str(&stored).unwrap();
    for secret in [&key, "Zacharias", &first, "vitrine_wrong", &base64(&picture)[..40], "PNG", "IHDR"] {
        assert!(!log.contains(secret), "`{secret}` is in the log");
    }
    assert!(!log.contains(stored["keys"][0]["sha256"].as_str().unwrap()));
    // It does say who asked for what.
    for line in log.lines().filter(|line| line.contains("answered")) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["route"].is_string() && line["status"].is_u64(), "{line}");
    }
    assert!(log.contains("\"route\":\"/v1/subjects/{id}\"") && log.contains("\"key\":\"admin-key\""), "{log}");
}

#[test]
fn another_contract_is_refused_and_the_old_model_serves_on() {
    let fixture = Fixture::new();
    let service = town(&fixture, "");
    let before = service.get("/v1/info").is(200)["model"]["sha256"].clone();
    let mut other = contract();
    other.embedding.as_mut().unwrap().contract_id = "fedcba9876543210".into();
    fixture.write_model("model.onnx", &with_contract(graph(), &other));
    let own = contract().embedding.unwrap().contract_id;
    service.ask("POST", "/v1/reload", &[], &[]).refuses(409, &["fedcba9876543210", &own]);
    std::fs::write(fixture.path("model.onnx"), "no model").unwrap();
    service.ask("POST", "/v1/reload", &[], &[]).refuses(409, &["serve on"]);
    assert_eq!(service.get("/v1/info").is(200)["model"]["sha256"], before);
    let probe = png("ada", 0.0);
    assert_eq!(service.form("/v1/search?k=1", &[("picture", &probe)]).is(200)["matches"][0]["name"], "ada");
    // The same contract with another training is taken, here by a signal.
    let mut newer = contract();
    newer.training.epoch = 8;
    fixture.write_model("model.onnx", &with_contract(graph(), &newer));
    service.signal("HUP");
    while service.get("/v1/info").is(200)["model"]["sha256"] == before {
        std::thread::yield_now();
    }
    assert_eq!(service.form("/v1/search?k=1", &[("picture", &probe)]).is(200)["matches"][0]["name"], "ada");
}

#[test]
fn the_inference_protocol_takes_json_and_bytes() {
    let fixture = Fixture::new();
    let service = Service::start(&fixture, "@model.onnx");
    let name = service.get("/v1/info").is(200)["model"]["name"].as_str().unwrap().to_owned();
    let own = format!("/v2/models/{name}");
    let infer = format!("{own}/infer");
    let model = service.get(&own).is(200);
    let spec = contract().input.remove(0);
    let row = spec.row().unwrap();
    assert_eq!(model["inputs"][0]["shape"], json!([-1, row[0], row[1], row[2]]));
    let picture = fixture.picture("ada.png", "ada", 0.2);
    let mut values = vec![0.0; row.iter().product()];
    contract::preprocess::load(&picture, spec.picture.as_ref().unwrap(), &mut values).unwrap();
    let expected = crate::fixture::reference(&values);
    let close = |found: &[f32]| {
        let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(found.len() == expected.len() && far < 1e-4, "{far}");
    };
    let shape = json!([1, row[0], row[1], row[2]]);
    let input = |data: Value| json!({"name": "image", "shape": shape, "datatype": "FP32", "data": data});
    let asked = json!({"id": "seven", "inputs": [input(json!(values))]});
    let answer = service.json("POST", &infer, &asked).is(200);
    assert_eq!((&answer["id"], &answer["outputs"][0]["name"]), (&json!("seven"), &json!("features")));
    close(&floats(&answer["outputs"][0]["data"]));
    // Bytes in, bytes out.
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let head = json!({
        "parameters": {"binary_data_output": true},
        "inputs": [{
            "name": "image", "shape": shape, "datatype": "FP32", "parameters": {"binary_data_size": bytes.len()},
        }],
    });
    let head = head.to_string();
    let length = head.len().to_string();
    let headers = [("inference-header-content-length", &length[..]), ("content-type", "application/octet-stream")];
    let reply = service.ask("POST", &infer, &headers, &[head.as_bytes(), &bytes].concat());
    let at = reply.headers.lines().find_map(|line| line.strip_prefix("inference-header-content-length: ")).unwrap();
    let told: Value = serde_json::from_slice(&reply.body[..at.parse().unwrap()]).unwrap();
    let tail = &reply.body[at.parse().unwrap()..];
    assert_eq!(told["outputs"][0]["parameters"]["binary_data_size"], tail.len());
    let found: Vec<f32> = tail.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    close(&found);
    // Errors are a sentence there.
    for (asked, facts) in [
        (json!({"inputs": []}), ["image", "missing"]),
        (json!({"inputs": [input(json!([1.0]))]}), ["image", "1"]),
        (json!({"inputs": [{"name": "image", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}), ["[1, 2]", "32"]),
        (json!({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}), ["x", "image"]),
        (json!({"inputs": [{"name": "image", "shape": shape, "datatype": "INT8", "data": [1]}]}), ["INT8", "FP32"]),
        (json!({"inputs": [{"name": "image", "shape": shape, "datatype": "FP32"}]}), ["image", "data"]),
    ] {
        let refused = service.json("POST", &infer, &asked);
        assert!([400, 422].contains(&refused.status), "{asked}");
        let sentence = refused.json()["error"].as_str().unwrap().to_owned();
        assert!(facts.iter().all(|fact| sentence.contains(fact)), "{sentence}");
    }
    assert_eq!(service.get("/v2/models/other").status, 404);
    assert_eq!(service.get(&format!("{own}/ready")).is(200)["ready"], true);
    assert_eq!(service.get("/v2/health/ready").is(200)["ready"], true);
    let extensions = service.get("/v2").is(200)["extensions"].clone();
    assert_eq!(extensions, json!(["binary_tensor_data"]));
}

#[test]
fn the_page_comes_with_what_it_may_do() {
    let fixture = Fixture::new();
    let service = Service::start(&fixture, "@model.onnx");
    let index = service.get("/");
    assert_eq!(index.status, 200);
    for header in [
        "content-type: text/html; charset=utf-8",
        "content-security-policy: default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "permissions-policy: camera=(self), microphone=(), geolocation=()",
    ] {
        assert!(index.headers.contains(header), "{header}\n{}", index.headers);
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/serve/page");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_type().unwrap().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        let reply = service.get(&format!("/page/{name}"));
        assert_eq!((reply.status, &reply.body), (200, &std::fs::read(entry.path()).unwrap()), "{name}");
        assert!(!reply.headers.contains("application/octet-stream"), "{name} has no type");
        let tag = reply.headers.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        let again = service.ask("GET", &format!("/page/{name}"), &[("if-none-match", &tag)], &[]);
        assert_eq!((again.status, again.body.len()), (304, 0), "{name}");
        files += 1;
    }
    assert!(files > 0);
    service.get("/page/../Cargo.toml").refuses(404, &["page"]);
    service.get("/page/none.js").refuses(404, &["none.js"]);
}

/// `UPDATE_OPENAPI=1` writes it.
#[test]
fn the_document_of_the_interface_is_the_one_that_was_looked_at() {
    let fixture = Fixture::new();
    let service = Service::start(&fixture, "@model.onnx");
    let told = serde_json::to_string_pretty(&service.get("/openapi.json").is(200)).unwrap() + "\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(&path, &told).unwrap();
    }
    assert_eq!(told, std::fs::read_to_string(&path).unwrap(), "the document changed; UPDATE_OPENAPI=1 takes it");
    let document: Value = serde_json::from_str(&told).unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let reply = service.ask(&method.to_uppercase(), &path.replace("{id}", "1"), &[], &[]);
            let text = String::from_utf8_lossy(&reply.body).into_owned();
            assert!(reply.status != 405 && !text.contains("there is nothing here"), "{method} {path}: {text}");
        }
    }
}
