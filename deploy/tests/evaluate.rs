//! `deploy evaluate`.

use contract::Training;
use contract::trained::TrainedOn;
use serde_json::Value;

use crate::fixture::Fixture;

/// Two queries. The first has a perfect match. Before the match of the second lies the picture of a third person who
/// looks like the query; junk and the query's own camera look like it too and must not count.
pub(crate) fn market() -> Fixture {
    let fixture = Fixture::new();
    let root = "market/Market-1501-v15.09.15";
    fixture.picture(&format!("{root}/bounding_box_train/0007_c1s1_000001_00.png"), "gil", 0.0);
    fixture.picture(&format!("{root}/bounding_box_train/0007_c2s1_000001_00.png"), "gil", 0.1);
    fixture.picture(&format!("{root}/query/0001_c1s1_000001_00.png"), "ada", 0.0);
    fixture.picture(&format!("{root}/query/0002_c1s1_000001_00.png"), "ben", 0.0);
    for (name, person, variation) in [
        ("0001_c2s1_000001_00", "ada", 0.0),
        ("0002_c2s1_000001_00", "ben", 0.3),
        ("0003_c2s1_000001_00", "ben", 0.0),
        ("0002_c1s1_000002_00", "ben", 0.0),
        ("-1_c3s1_000001_00", "ben", 0.0),
        ("0000_c3s1_000001_00", "zoe", 0.0),
    ] {
        fixture.picture(&format!("{root}/bounding_box_test/{name}.png"), person, variation);
    }
    fixture
}

/// AP and inverse negative penalty of the first query are 1, of the second 1/2: mAP and mINP 3/4, Rank-1 1/2, Rank-3 1.
/// Two people can tell hardly anything: the bound for two trials is 1 - 0.025^(1/2) = 84 %.
#[test]
fn numbers_are_those_worked_by_hand() {
    let fixture = market();
    let line = "evaluate -m @model.onnx --dataset market1501 --datadir @market";
    let report: Value = serde_json::from_str(&fixture.run(&format!("{line} --format json")).done()).unwrap();
    let number = |name: &str| report[name].as_f64().unwrap();
    assert_eq!((number("rank1"), number("rank3"), number("rank10"), number("map")), (0.5, 1.0, 1.0, 0.75));
    assert_eq!((number("minp"), &report["intervals"]["identities"]), (0.75, &2.into()));
    let interval = |name: &str, end: &str| report["intervals"][name][end].as_f64().unwrap();
    assert_eq!((interval("rank1", "low"), interval("rank1", "high")), (0.0, 1.0));
    assert!(interval("map", "low") < 0.16 && interval("minp", "high") == 1.0, "{report}");
    assert_eq!((report["cmc"][0].as_f64(), report["cmc"][49].as_f64()), (Some(0.5), Some(1.0)));
    assert_eq!((&report["queries"], &report["valid_queries"]), (&2.into(), &2.into()));
    assert_eq!((&report["dataset"], &report["spread"]["collapsed"]), (&"market1501".into(), &false.into()));
    let table = fixture.run(line).done();
    assert!(table.contains("Rank-1 50.00 %") && table.contains("mAP 75.00 %"), "{table}");
    assert!(table.contains("mINP 75.00 %") && table.contains("95 % intervals over 2 people: Rank-1 0.00"), "{table}");
    let csv = fixture.run(&format!("{line} --format csv")).done();
    assert!(csv.lines().nth(1).unwrap().contains(",0.5,1,1,1,0.75,0.75,0,1,0."), "{csv}");
    // The names that other scripts use.
    let line = "evaluate -m @model.onnx --data_test market1501 --data_dir @market";
    assert_eq!(fixture.run(line).done(), table);
}

/// A table gives the numbers of its pictures' folders, with a stranger in the gallery and junk.
#[test]
fn a_table_of_pictures_gives_the_numbers_of_its_folders() {
    let fixture = market();
    let mut table = "path,identity,camera,split\n".to_owned();
    for (name, who, camera, split) in [
        ("query/0001_c1s1_000001_00", "Ada", 1, "query"),
        ("query/0002_c1s1_000001_00", "\"Ben, the second\"", 1, "query"),
        ("bounding_box_test/0001_c2s1_000001_00", "Ada", 2, "gallery"),
        ("bounding_box_test/0002_c2s1_000001_00", "\"Ben, the second\"", 2, "gallery"),
        ("bounding_box_test/0003_c2s1_000001_00", "Cleo", 2, "gallery"),
        ("bounding_box_test/0002_c1s1_000002_00", "\"Ben, the second\"", 1, "gallery"),
        ("bounding_box_test/-1_c3s1_000001_00", "-1", 3, "gallery"),
        ("bounding_box_test/0000_c3s1_000001_00", "", 3, "gallery"),
    ] {
        table += &format!("market/Market-1501-v15.09.15/{name}.png,{who},{camera},{split}\n");
    }
    std::fs::write(fixture.path("own.csv"), table).unwrap();
    let line = "evaluate -m @model.onnx --datadir @market --format json --dataset";
    let report = |set: &str| -> Value { serde_json::from_str(&fixture.run(&format!("{line} {set}")).done()).unwrap() };
    let (folders, own) = (report("market1501"), report("@own.csv"));
    assert_eq!((&own["dataset"], &own["map"]), (&"own.csv".into(), &0.75.into()));
    for name in ["cmc", "queries", "valid_queries", "gallery_entries"] {
        assert_eq!(own[name], folders[name], "{name}");
    }
}

/// What expansion does to a ranking is worked by hand in crate `metrics`; here, that it is asked for, told and bounded.
#[test]
fn queries_are_expanded_by_their_nearest_entries() {
    let fixture = market();
    let line = "evaluate -m @model.onnx --dataset market1501 --datadir @market --format json";
    let of = |more: &str| -> Value { serde_json::from_str(&fixture.run(&format!("{line} {more}")).done()).unwrap() };
    let (plain, expanded) = (of(""), of("--expand 4"));
    assert_eq!((plain.get("expanded"), &expanded["expanded"]), (None, &4.into()));
    let map = |report: &Value| report["map"].as_f64().unwrap();
    assert_eq!((map(&plain), map(&of("--expand 0"))), (0.75, 0.75));
    assert!(map(&expanded) > 0.0 && map(&expanded) <= 1.0, "{expanded}");
    fixture.run(&format!("{line} --expand 1001")).error(&["--expand", "1001", "1000"]);
}

/// Each query has one right entry, so every draw ranks it alike: Ada's first, Ben's second.
#[test]
fn one_picture_of_each_person_is_drawn() {
    let fixture = market();
    let line = "evaluate -m @model.onnx --dataset market1501 --datadir @market --single-shot";
    let report: Value = serde_json::from_str(&fixture.run(&format!("{line} --format json")).done()).unwrap();
    let cmc = report["single_shot"].as_array().unwrap();
    assert_eq!((cmc.len(), &cmc[0], &cmc[1]), (50, &0.5.into(), &1.0.into()));
    let table = fixture.run(line).done();
    assert!(table.contains("one picture of each person in the gallery: Rank-1 50.00 %"), "{table}");
    for other in ["--rerank", "--expand 2"] {
        fixture.run(&format!("{line} {other}")).error(&["--single-shot", other.split(' ').next().unwrap()]);
    }
}

#[test]
fn several_datasets_are_evaluated_each_on_its_own() {
    let fixture = market();
    for (name, person) in [("query/0005_c1_f01", "eve"), ("bounding_box_test/0005_c2_f01", "eve")] {
        fixture.picture(&format!("market/DukeMTMC-reID/{name}.png"), person, 0.0);
    }
    fixture.picture("market/DukeMTMC-reID/bounding_box_train/0006_c1_f01.png", "fay", 0.0);
    let line = "evaluate -m @model.onnx --dataset market1501+dukemtmc --datadir @market --report @page.html";
    let csv = fixture.run(&format!("{line} --format csv")).done();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert!(lines[1].starts_with("market1501,2,2,") && lines[2].starts_with("dukemtmc,1,1,1,false,1,1,1,1,1"), "{csv}");
    assert!(fixture.path("page-market1501.html").is_file() && fixture.path("page-dukemtmc.html").is_file());
    let json: Value = serde_json::from_str(&fixture.run(&format!("{line} --format json")).done()).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
}

#[test]
fn the_page_leaves_out_what_the_protocol_does() {
    let fixture = market();
    let line = "evaluate -m @model.onnx --dataset market1501 --datadir @market --report @page.html";
    fixture.run(line).done();
    let page = std::fs::read_to_string(fixture.path("page.html")).unwrap();
    assert_eq!(page.matches("<section>").count(), 2);
    assert!(!page.contains("-1_c3s1"), "junk");
    let here = fixture.path("market");
    assert!(!page.contains(&*here.parent().unwrap().to_string_lossy()), "a path of this machine in {page}");
    let worst = page.split("<section>").nth(1).unwrap();
    assert!(worst.contains("0002_c1s1_000001_00") && worst.contains("AP <b>50.0 %</b>"), "{worst}");
    assert!(worst.contains("first match at rank 2"), "{worst}");
    assert!(!worst.contains("0002_c1s1_000002_00"), "the same person in the same camera");
    assert!(page.contains("0000_c3s1"), "distractors stay");
    for text in [">CMC<", ">same person<", ">different people<", "mINP", "over 2 people"] {
        assert!(page.contains(text), "{text} in {page}");
    }
    fixture.run(&format!("{line} --report-probes 1")).done();
    let page = std::fs::read_to_string(fixture.path("page.html")).unwrap();
    assert_eq!((page.matches("<section>").count(), page.matches("1 of 2 queries are shown").count()), (1, 1));
    fixture.run(&format!("{line} --rerank")).done();
}

#[test]
fn collapsed_embeddings_are_told() {
    let fixture = market();
    let mut model = crate::fixture::graph();
    // Weights of zero leave the bias, the same for every picture.
    model.graph.as_mut().unwrap().initializer[0].raw_data.fill(0);
    let contract = contract::ModelContract { golden: None, ..crate::fixture::contract() };
    fixture.write_model("collapsed.onnx", &crate::fixture::with_contract(model, &contract));
    let gallery = "market/Market-1501-v15.09.15/bounding_box_test";
    for line in [
        "evaluate -m @collapsed.onnx --dataset market1501 --datadir @market --report @page.html".to_owned(),
        format!("search -m @collapsed.onnx --gallery @{gallery} --query @{gallery} --report @page.html"),
    ] {
        let answer = fixture.run(&line);
        assert!(answer.stderr.contains("nearly identical"), "{}", answer.stderr);
        answer.done();
        assert!(std::fs::read_to_string(fixture.path("page.html")).unwrap().contains("class=\"warning\""));
    }
}

/// Gallery pictures of the second query's person in other cameras are gone, and the first query's are of its own.
#[test]
fn nothing_to_score_is_exit_code_1_and_no_number() {
    let fixture = market();
    let root = "market/Market-1501-v15.09.15";
    for (folder, name) in [("bounding_box_test", "0001_c2s1_000001_00"), ("bounding_box_test", "0002_c2s1_000001_00")] {
        std::fs::remove_file(fixture.path(&format!("{root}/{folder}/{name}.png"))).unwrap();
    }
    let line = "evaluate -m @model.onnx --dataset market1501 --datadir @market";
    let answer = fixture.run(&format!("{line} --format json"));
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    let reason = "identity of 1 query is in the gallery only from the query's own camera";
    assert!(answer.stderr.contains("market1501") && answer.stderr.contains(reason), "{}", answer.stderr);
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((&report["queries"], &report["valid_queries"]), (&2.into(), &0.into()));
    assert!(report.get("map").is_none() && report.get("rank1").is_none(), "{report}");
    let csv = fixture.run(&format!("{line} --format csv"));
    assert_eq!(
        (csv.code, csv.stdout.lines().nth(1)),
        (1, Some("market1501,2,0,3,false,,,,,,,,,,,,")),
        "{}",
        csv.stdout
    );
    let table = fixture.run(&format!("{line} --report @page.html"));
    assert_eq!(table.code, 1);
    assert!(table.stdout.contains(reason) && !table.stdout.contains("Rank-1"), "{}", table.stdout);
    assert!(!std::fs::read_to_string(fixture.path("page.html")).unwrap().contains("Rank-1"));
    // Now everybody stays in one camera, or nobody is enrolled.
    std::fs::remove_file(fixture.path(&format!("{root}/query/0001_c1s1_000001_00.png"))).unwrap();
    let one_camera = fixture.run(line);
    assert!(one_camera.stdout.contains("identity of every query is in the gallery only from"), "{}", one_camera.stdout);
    std::fs::remove_file(fixture.path(&format!("{root}/bounding_box_test/0002_c1s1_000002_00.png"))).unwrap();
    let nobody = fixture.run(line);
    assert!(nobody.stdout.contains("identity of no query is in the gallery"), "{}", nobody.stdout);
}

/// The model remembers one of the people who are tested, and one of the training folder.
#[test]
fn people_who_were_trained_on_are_counted() {
    let fixture = Fixture::new();
    for person in ["ada", "ben", "cleo", "dan"] {
        (1..=3).for_each(|at| drop(fixture.picture(&format!("set/{person}/{at}.png"), person, 0.1 * at as f32)));
    }
    let model = |people: &[&str]| {
        let pictures: Vec<_> = people.iter().map(|person| fixture.path(&format!("set/{person}/1.png"))).collect();
        let people = TrainedOn::of("the first half", "print", pictures.iter().map(|path| [path.as_path()]));
        let dataset_fingerprint = "print".to_owned();
        let training =
            Training { dataset: "folders".into(), dataset_fingerprint, people: Some(people), ..Default::default() };
        let contract = contract::ModelContract { training, ..crate::fixture::contract() };
        fixture.write_model("trained.onnx", &crate::fixture::with_contract(crate::fixture::graph(), &contract));
    };
    // Cleo and Dan are tested.
    let line = "evaluate -m @trained.onnx --dataset folders --datadir @set --format json";
    let overlap = |answer: crate::fixture::Answer| -> (Value, String) {
        let (report, said): (Value, String) = (serde_json::from_str(&answer.stdout).unwrap(), answer.stderr.clone());
        answer.done();
        (report["people"].clone(), said)
    };
    model(&["ada", "cleo"]);
    let counts =
        |trained: usize, tested: usize| serde_json::json!({"tested": tested, "trained_on": trained, "unknown": 0});
    let (found, said) = overlap(fixture.run(line));
    assert_eq!(found, counts(1, 2));
    assert!(said.contains("1 of the 2 people tested") && said.contains("the first half"), "{said}");
    let calibrate = "calibrate -m @trained.onnx --datadir @set --far 0.4 --format json";
    let (found, said) = overlap(fixture.run(calibrate));
    assert_eq!(found, counts(2, 4));
    assert!(said.contains("2 of the 4 people tested"), "{said}");
    assert!(fixture.run("inspect @trained.onnx").done().contains("2 people; the first half"));
    // Under another name, and when the first picture is gone.
    std::fs::rename(fixture.path("set/cleo"), fixture.path("set/claire")).unwrap();
    assert_eq!(overlap(fixture.run(line)).0, counts(1, 2));
    model(&["ada", "ben"]);
    let (found, said) = overlap(fixture.run(line));
    assert_eq!((found, said.contains("people tested")), (counts(0, 2), false));
    // Distractors are nobody.
    let market = market();
    std::fs::copy(fixture.path("trained.onnx"), market.path("trained.onnx")).unwrap();
    let line = line.replace("folders --datadir @set", "market1501 --datadir @market");
    assert_eq!(overlap(market.run(&line)).0, counts(0, 3));
    // A model that does not say whom it was trained on.
    assert_eq!(overlap(market.run(&line.replace("trained", "model"))).0, Value::Null);
}

#[test]
fn missing_and_unknown_datasets_are_errors() {
    let fixture = market();
    fixture.run("evaluate -m @model.onnx --dataset market --datadir @market").error(&["`market`", "market1501"]);
    fixture.run("evaluate -m @model.onnx --dataset market1501 --datadir @none").error(&["none"]);
    std::fs::create_dir(fixture.path("empty")).unwrap();
    fixture.run("evaluate -m @model.onnx --dataset market1501 --datadir @empty").error(&["empty", "bounding_box_test"]);
}
