//! Files that are derived from a gallery's rows: made, told, checked, removed, and searched with.

use deploy::gallery::{Embeddings, Template};
use gallery::{Engine, Model, Store};

use crate::fixture::{DIM, Fixture};

/// Rows of the gallery: more than a walk would look at whatever it is asked for.
const ROWS: usize = 3000;

/// A gallery of rows near a few centres, and the picture of somebody.
fn large() -> Fixture {
    let fixture = Fixture::new();
    fixture.picture("probe/0.png", "ada", 0.0);
    let contract_id = "0123456789abcdef".to_owned();
    let model = Model { contract_id, dim: DIM, architecture: "Tiny".into(), ..Model::default() };
    let store = Store::create(&fixture.path("people"), &model).unwrap();
    let all = rows(0..ROWS);
    enrol(&store, &all);
    fixture
}

fn rows(numbers: std::ops::Range<usize>) -> Embeddings {
    let mut values = Vec::with_capacity(numbers.len() * DIM);
    let mut templates = Vec::new();
    for row in numbers {
        let centre = contract::fill::fill(&format!("index.centre.{}", row % 150), &[DIM]);
        let own = contract::fill::fill(&format!("index.row.{row}"), &[DIM]);
        let sum: Vec<f32> = centre.iter().zip(&own).map(|(centre, own)| centre + 0.5 * own).collect();
        let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
        values.extend(sum.iter().map(|value| value / length));
        templates.push(Template { path: format!("{row}.png").into(), ..Template::default() });
    }
    Embeddings { values, dim: DIM, templates, folder: "".into() }
}

fn enrol(store: &Store, rows: &Embeddings) {
    let new: Vec<_> = rows.templates.iter().map(Template::to_stored).collect();
    store.enrol(&new, rows.view().unwrap()).unwrap();
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

fn indexes(fixture: &Fixture) -> serde_json::Value {
    json(&fixture.run("gallery info @people --format json").done())["indexes"].clone()
}

/// Writes embeddings as probes.
fn probes(fixture: &Fixture, name: &str, numbers: std::ops::Range<usize>) {
    let rows = rows(numbers);
    std::fs::write(fixture.path(name), files::npy::encode(&[rows.templates.len(), DIM], &rows.values)).unwrap();
}

fn matches(report: &serde_json::Value) -> Vec<Vec<(u64, f64)>> {
    let one = |hit: &serde_json::Value| (hit["template"].as_u64().unwrap(), hit["similarity"].as_f64().unwrap());
    let of = |probe: &serde_json::Value| probe["matches"].as_array().unwrap().iter().map(one).collect();
    report["probes"].as_array().unwrap().iter().map(of).collect()
}

fn search(fixture: &Fixture, more: &str) -> Vec<Vec<(u64, f64)>> {
    let line = format!("search -m @model.onnx --gallery @people --query @probes.npy -k 20 --format json {more}");
    matches(&json(&fixture.run(&line).done()))
}

#[test]
fn the_reduced_copy_is_made_told_and_removed_and_changes_no_answer() {
    let fixture = large();
    probes(&fixture, "probes.npy", 500..520);
    let none = serde_json::json!({"rows": 0, "bytes": 0});
    assert_eq!(indexes(&fixture), serde_json::json!({"rows": ROWS, "reduced": none, "graph": none}));
    let before = search(&fixture, "");
    let said = fixture.run("gallery index @people --kind reduced").done();
    assert!(said.starts_with("3000 of 3000 rows in the copy of ") && said.contains(" s\n"), "{said}");
    assert!(fixture.files("people/segments").contains(&"00000001.int8".to_owned()));
    let bytes = 4096 + ROWS * (DIM + 16);
    assert_eq!(indexes(&fixture)["reduced"], serde_json::json!({"rows": ROWS, "bytes": bytes}));
    assert_eq!(search(&fixture, ""), before);
    // Who is new is told, and found.
    let store = Store::write(&fixture.path("people"), false).unwrap();
    enrol(&store, &rows(7000..7002));
    drop(store);
    let told = fixture.run("gallery info @people").done();
    assert!(told.contains("3000 of 3002 rows, 2 are new"), "{told}");
    assert!(told.contains("gallery index --kind ann"), "{told}");
    probes(&fixture, "probes.npy", 7001..7002);
    assert_eq!(search(&fixture, "")[0][0].0, 3002);
    fixture.run("gallery index @people --kind reduced").done();
    assert_eq!(indexes(&fixture)["reduced"]["rows"], 3002);
    let said = fixture.run("gallery index @people --kind none").done();
    assert!(said.starts_with("no index is left in ") && said.contains("3002 rows"), "{said}");
    assert_eq!(fixture.files("people/segments"), ["00000001.rows", "00000001.values"]);
    assert_eq!(indexes(&fixture)["reduced"], none);
    fixture.run("gallery check @people").done();
    fixture.run("gallery index @people").error(&["--kind"]);
    fixture.run("gallery index @probe --kind reduced").error(&["probe", "gallery.db"]);
}

#[test]
fn flags_of_an_index_that_change_nothing_are_refused() {
    let fixture = large();
    let line = "search -m @model.onnx --gallery @people --query @probe";
    fixture.run(&format!("{line} --effort 64")).error(&["--index"]);
    fixture.run(&format!("{line} --index exact --effort 64")).error(&["`--effort`", "`--index ann`"]);
    fixture.run(&format!("{line} --index ann --effort 0")).error(&["--effort", "65536"]);
    fixture
        .run(&format!("{line} --index ann --rerank --rerank-top all"))
        .error(&["`--index ann`", "`--rerank-top all`"]);
    let pictures = "search -m @model.onnx --gallery @probe --query @probe --index ann";
    fixture.run(pictures).error(&["`--index ann`", "`deploy embed`"]);
    fixture.run("gallery export @people -o @older").done();
    let older = "search -m @model.onnx --gallery @older --query @probe --index ann";
    fixture.run(older).error(&["embeddings.npy", "import"]);
}

/// Whoever wants approximate search hears what to build.
#[cfg(not(feature = "ann"))]
#[test]
fn a_program_without_approximate_search_names_the_feature() {
    let fixture = large();
    let words = ["`ann`", "`cargo build --release -p deploy --features ann`"];
    fixture.run("search -m @model.onnx --gallery @people --query @probe --index ann").error(&words);
    fixture.run("gallery index @people --kind ann").error(&words);
    assert_eq!(fixture.files("people/segments"), ["00000001.rows", "00000001.values"], "nothing is begun");
}

#[cfg(feature = "ann")]
mod approximate {
    use super::*;

    #[test]
    fn an_index_is_made_searched_told_and_checked() {
        let fixture = large();
        probes(&fixture, "probes.npy", 500..520);
        let line = "search -m @model.onnx --gallery @people --query @probe --index ann";
        let none = format!("`deploy gallery index {} --kind ann`", fixture.path("people").display());
        fixture.run(line).error(&[&none]);
        let exact = search(&fixture, "");
        let said = fixture.run("gallery index @people --kind ann").done();
        assert!(said.starts_with("3000 of 3000 rows in the copy and 3000 in the graph of "), "{said}");
        assert_eq!(indexes(&fixture)["graph"]["rows"], ROWS);
        fixture.run("gallery check @people").done();
        assert_eq!(search(&fixture, "--index exact"), exact);
        let found = search(&fixture, "--index ann");
        let (mut shared, mut all) = (0, 0);
        for (found, exact) in found.iter().zip(&exact) {
            // Nothing is in a wrong place, and every similarity is exact.
            assert!(found.windows(2).all(|two| two[0].1 >= two[1].1));
            shared += exact.iter().filter(|hit| found.contains(hit)).count();
            all += exact.len();
        }
        assert!(shared * 100 >= all * 90, "{shared} of {all}");
        let answer = fixture.run(line);
        assert!(answer.stderr.contains("this search is approximate"), "{}", answer.stderr);
        assert!(answer.stderr.contains("3000 of 3000 rows are in the index, 0 are newer"), "{}", answer.stderr);
        // New rows are searched exactly until they are merged.
        let store = Store::write(&fixture.path("people"), false).unwrap();
        enrol(&store, &rows(7000..7005));
        drop(store);
        probes(&fixture, "probes.npy", 7000..7005);
        let new = |found: &[Vec<(u64, f64)>]| found.iter().map(|hits| hits[0].0).collect::<Vec<_>>();
        assert_eq!(new(&search(&fixture, "--index ann --effort 16")), [3001, 3002, 3003, 3004, 3005]);
        assert!(fixture.run(line).stderr.contains("3000 of 3005 rows are in the index, 5 are newer"));
        fixture.run("gallery index @people --kind ann").done();
        assert_eq!(indexes(&fixture)["graph"]["rows"], 3005);
        assert_eq!(new(&search(&fixture, "--index ann")), [3001, 3002, 3003, 3004, 3005]);
        // Damage is named, and the next index mends it.
        let path = fixture.path("people/segments/00000001.graph");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[5000] ^= 1;
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let answer = fixture.run("gallery check @people");
        assert_eq!(answer.code, 1);
        assert!(
            answer.stdout.contains("00000001.graph") && answer.stdout.contains("gallery index"),
            "{}",
            answer.stdout
        );
        fixture.run("gallery index @people --kind ann").done();
        fixture.run("gallery check @people").done();
        // Compaction says what it drops.
        fixture.run("remove --gallery @people --template 7").done();
        let answer = fixture.run("gallery compact @people");
        assert!(answer.stderr.contains("3005 rows have moved"), "{}", answer.stderr);
        assert!(answer.stderr.contains("--kind ann"), "{}", answer.stderr);
        let told = indexes(&fixture);
        assert_eq!((&told["reduced"]["rows"], &told["graph"]["rows"]), (&3004.into(), &0.into()));
        fixture.run(line).error(&[&none]);
        fixture.run("gallery index @people --kind ann").done();
        fixture.run("gallery index @people --kind reduced").done();
        assert!(!path.exists());
        assert_eq!(indexes(&fixture)["reduced"]["rows"], 3004);
    }
}
