//! `deploy search`.

use serde_json::Value;

use crate::fixture::{Fixture, contract, graph, reference_embedding, with_contract};

/// Four people, three pictures each in the gallery, one probe each.
fn town() -> Fixture {
    let fixture = Fixture::new();
    for (number, person) in ["ada", "ben", "cleo", "dan"].iter().enumerate() {
        let number = number + 1;
        fixture.picture(&format!("probes/000{number}_c1s1_000001_00.png"), person, 0.0);
        for shot in 1..=3 {
            let name = format!("gallery/000{number}_c2s1_00000{shot}_00.png");
            fixture.picture(&name, person, 0.25 * shot as f32);
        }
    }
    fixture
}

fn search(fixture: &Fixture, flags: &str) -> Value {
    let line = format!("search -m @model.onnx --gallery @gallery --query @probes --format json {flags}");
    serde_json::from_str(&fixture.run(&line).done()).unwrap()
}

#[test]
fn matches_are_ranked_by_the_references_similarity() {
    let fixture = town();
    let report = search(&fixture, "-k 12");
    let probes = report["probes"].as_array().unwrap();
    assert_eq!(probes.len(), 4);
    for probe in probes {
        let own = reference_embedding(probe["path"].as_str().unwrap().as_ref());
        let matches = probe["matches"].as_array().unwrap();
        assert_eq!(matches.len(), 12);
        let mut last = 2.0;
        for (index, found) in matches.iter().enumerate() {
            let other = reference_embedding(found["path"].as_str().unwrap().as_ref());
            let expected: f32 = own.iter().zip(&other).map(|(a, b)| a * b).sum();
            let similarity = found["similarity"].as_f64().unwrap();
            assert!((similarity - f64::from(expected)).abs() < 1e-5, "{similarity} {expected}");
            assert!(similarity <= last && found["rank"] == index + 1);
            assert_eq!(found["correct"], found["identity"] == probe["identity"]);
            last = similarity;
        }
    }
    assert_eq!(report["summary"]["rank1"], 1.0);
    assert_eq!(report["model"]["architecture"], "Tiny");
    assert_eq!(report["gallery_entries"], 12);
}

#[test]
fn an_embedded_gallery_answers_as_its_pictures_do() {
    let fixture = town();
    let direct = search(&fixture, "");
    fixture.run("embed @gallery -m @model.onnx -o @out").done();
    let line = "search -m @model.onnx --gallery @out --query @probes --format json";
    let embedded: Value = serde_json::from_str(&fixture.run(line).done()).unwrap();
    assert_eq!(direct["probes"], embedded["probes"]);
    assert_eq!(direct["summary"], embedded["summary"]);
}

#[test]
fn a_gallery_of_another_model_is_refused() {
    let fixture = town();
    fixture.run("embed @gallery -m @model.onnx -o @out").done();
    let mut other = contract();
    other.embedding.as_mut().unwrap().contract_id = "fedcba9876543210".into();
    fixture.write_model("other.onnx", &with_contract(graph(), &other));
    let id = contract().embedding.unwrap().contract_id;
    let answer = fixture.run("search -m @other.onnx --gallery @out --query @probes");
    answer.error(&["embedded by another model", &id, "fedcba9876543210"]);
}

#[test]
fn damaged_galleries_are_refused() {
    let fixture = town();
    let embed = || fixture.run("embed @gallery -m @model.onnx -o @out --replace").done();
    let refused = |words: &[&str]| {
        fixture.run("search -m @model.onnx --gallery @out --query @probes").error(words);
    };
    // Galleries of older versions have no checksums; the files are looked at all the same.
    let without_checksums = || {
        let path = fixture.path("out/embeddings.json");
        let mut facts: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        facts.as_object_mut().unwrap().remove("sha256").unwrap();
        std::fs::write(path, facts.to_string()).unwrap();
    };
    embed();
    let values = std::fs::read(fixture.path("out/embeddings.npy")).unwrap();
    let mut nan = values.clone();
    nan[128..132].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(fixture.path("out/embeddings.npy"), &nan).unwrap();
    refused(&["embeddings.npy", "SHA-256"]);
    without_checksums();
    refused(&["row 0", "unit length"]);
    std::fs::write(fixture.path("out/embeddings.npy"), &values[..values.len() - 4]).unwrap();
    refused(&["embeddings.npy", "does not fit"]);
    embed();
    let rows = std::fs::read_to_string(fixture.path("out/rows.jsonl")).unwrap();
    std::fs::write(fixture.path("out/rows.jsonl"), rows.lines().next().unwrap()).unwrap();
    refused(&["rows.jsonl", "SHA-256"]);
    without_checksums();
    refused(&["rows.jsonl", "1 lines for 12 rows"]);
    std::fs::write(fixture.path("out/rows.jsonl"), "{").unwrap();
    refused(&["rows.jsonl"]);
    std::fs::remove_file(fixture.path("out/embeddings.json")).unwrap();
    refused(&["embeddings.json"]);
}

#[test]
fn a_threshold_nobody_reaches_is_exit_code_1() {
    let fixture = town();
    fixture.picture("stranger/x.png", "zoe", 0.0);
    let line = "search -m @model.onnx --gallery @gallery --query @stranger --min-similarity 0.9999";
    let answer = fixture.run(line);
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    assert!(answer.stdout.contains("no match"), "{}", answer.stdout);
    let report: Value = serde_json::from_str(&fixture.run(&format!("{line} --format json")).stdout).unwrap();
    assert_eq!(report["probes"][0]["matches"], Value::Array(vec![]));
    assert_eq!(report["probes"][0]["identity"], Value::Null, "a folder of strangers is no identity");
    // One probe that has a match is enough.
    let line = "search -m @model.onnx --gallery @gallery --query @stranger @gallery --min_similarity=0.9999";
    let answer = fixture.run(line);
    assert!(answer.stderr.contains("12 probes are in the gallery"), "{}", answer.stderr);
    answer.done();
    fixture.run("search -m @model.onnx --gallery @gallery --query @stranger --min-similarity 2").error(&["-1 to 1"]);
}

#[test]
fn csv_has_a_line_per_match() {
    let fixture = town();
    let text = fixture.run("search -m @model.onnx --gallery @gallery --query @probes -k 2 --format csv").done();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 1 + 4 * 2);
    assert!(lines.iter().all(|line| line.len() == 9));
    assert_eq!(lines[0][..3], ["probe", "probe_identity", "rank"]);
    assert_eq!((lines[1][1], lines[1][2], lines[1][6], lines[1][8]), ("0001", "1", "0001", "true"));
    let table = fixture.run("search -m @model.onnx --gallery @gallery --query @probes -k 2").done();
    assert!(table.starts_with("probe") && table.contains("Rank-1 100.00 %"), "{table}");
}

#[test]
fn re_ranking_changes_the_answer() {
    let fixture = town();
    let (plain, reranked) = (search(&fixture, "-k 12"), search(&fixture, "-k 12 --rerank"));
    assert_eq!(reranked["reranked"], true);
    assert_ne!(plain["probes"], reranked["probes"]);
    let matches = reranked["probes"][0]["matches"].as_array().unwrap();
    let distances: Vec<f64> = matches.iter().map(|found| found["reranked_distance"].as_f64().unwrap()).collect();
    assert!(distances.windows(2).all(|pair| pair[0] <= pair[1]), "{distances:?}");
    assert!(plain["probes"][0]["matches"][0].get("reranked_distance").is_none());
}

#[test]
fn the_page_holds_pictures_and_frames() {
    let fixture = town();
    fixture.picture("probes/<b>snapshot.png", "zoe", 0.0);
    let line = "search -m @model.onnx --gallery @gallery --query @probes -k 5 --report @page/search.html";
    fixture.run(line).done();
    let page = std::fs::read_to_string(fixture.path("page/search.html")).unwrap();
    assert_eq!(page.matches("<section>").count(), 5);
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 5 + 5 * 5);
    assert!(page.matches("class=\"match right\"").count() >= 4 * 3);
    assert!(page.matches("class=\"match wrong\"").count() >= 4);
    assert_eq!(page.matches("class=\"match unknown\"").count(), 5, "the snapshot's");
    assert!(page.contains("Rank-1") && page.contains("mAP") && page.contains("Tiny"));
    assert!(!page.contains("<b>snapshot") && page.contains("&lt;b&gt;snapshot"), "names are text");
    assert!(!page.contains("http"), "nothing is loaded from elsewhere");
    fixture.run(&format!("{line} --report-probes 2")).done();
    let page = std::fs::read_to_string(fixture.path("page/search.html")).unwrap();
    assert!(page.contains("first 2 of 5 probes"));
}

#[test]
fn broken_probes_are_skipped_or_an_error() {
    let fixture = town();
    std::fs::write(fixture.path("probes/0009_c1s1_000001_00.png"), "no picture").unwrap();
    let report = search(&fixture, "");
    assert_eq!((report["probes"].as_array().unwrap().len(), &report["skipped"]), (4, &1.into()));
    let line = "search -m @model.onnx --gallery @gallery --query @probes --strict";
    fixture.run(line).error(&["0009_c1s1", "--strict"]);
    std::fs::create_dir(fixture.path("empty")).unwrap();
    fixture.run("search -m @model.onnx --gallery @empty --query @probes").error(&["empty"]);
    fixture.run("search -m @model.onnx --gallery @missing --query @probes").error(&["missing"]);
}

/// Frames that are numbered like identities, in a folder per person.
#[test]
fn folders_say_who_it_is_in_every_verb() {
    let fixture = Fixture::new();
    for (at, who) in ["ada", "ben", "cleo"].into_iter().enumerate() {
        for frame in 1..=3 {
            fixture.picture(&format!("set/{who}/{frame:04}_c2.png"), who, 0.02 * (3 * at + frame) as f32);
        }
    }
    let search = |more: &str| {
        let line = format!("search -m @model.onnx --query @set/ada/0001_c2.png -k 2 --format json {more}");
        let report: serde_json::Value = serde_json::from_str(&fixture.run(&line).done()).unwrap();
        let found = report["probes"][0]["matches"][1].clone();
        (found["identity"].clone(), found["correct"].clone())
    };
    assert_eq!(search("--gallery @set"), ("ada".into(), true.into()), "the probe is named as the gallery is");
    let answer = fixture.run("embed @set -m @model.onnx -o @rows");
    assert!(answer.stderr.contains("9 of 9") && answer.stderr.contains("--identity-from"), "{}", answer.stderr);
    answer.done();
    assert_eq!(search("--gallery @rows"), ("ada".into(), true.into()));
    let (_, correct) = search("--gallery @set --identity-from file");
    assert_eq!(correct, Value::Bool(false), "frame numbers");
    let evaluated = fixture.run("evaluate -m @model.onnx --dataset folders --datadir @set --train-identities 1").done();
    assert!(evaluated.contains("Rank-1 100.00 %"), "{evaluated}");
}
