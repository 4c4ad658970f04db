//! `deploy search`.

use metrics::Distances;
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
    let mut embedded: Value = serde_json::from_str(&fixture.run(line).done()).unwrap();
    // Only what is enrolled has a number that stays.
    for probe in embedded["probes"].as_array_mut().unwrap() {
        for found in probe["matches"].as_array_mut().unwrap() {
            assert!(found.as_object_mut().unwrap().remove("template").is_some_and(|id| id.is_u64()));
        }
    }
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
    answer.error(&["out", &id, "other.onnx", "fedcba9876543210", "migrate"]);
}

#[test]
fn damaged_galleries_of_the_older_layout_are_refused() {
    let fixture = town();
    fixture.run("embed @gallery -m @model.onnx -o @made").done();
    let embed = || {
        let _ = std::fs::remove_dir_all(fixture.path("out"));
        fixture.run("gallery export @made -o @out").done()
    };
    let refused = |facts: &[&str]| {
        fixture.run("search -m @model.onnx --gallery @out --query @probes").error(facts);
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
    refused(&["embeddings.npy", "0", "NaN"]);
    std::fs::write(fixture.path("out/embeddings.npy"), &values[..values.len() - 4]).unwrap();
    refused(&["embeddings.npy", "[12, 64]", &(12 * 64 * 4 - 4).to_string()]);
    embed();
    let rows = std::fs::read_to_string(fixture.path("out/rows.jsonl")).unwrap();
    std::fs::write(fixture.path("out/rows.jsonl"), rows.lines().next().unwrap()).unwrap();
    refused(&["rows.jsonl", "SHA-256"]);
    without_checksums();
    refused(&["rows.jsonl", "1", "12"]);
    std::fs::write(fixture.path("out/rows.jsonl"), "{").unwrap();
    refused(&["rows.jsonl", "column"]);
    std::fs::remove_file(fixture.path("out/embeddings.json")).unwrap();
    refused(&["embeddings.json"]);
}

#[test]
fn damaged_galleries_are_refused_and_checked() {
    let fixture = town();
    let search = || fixture.run("search -m @model.onnx --gallery @out --query @probes");
    let embed = || fixture.run("embed @gallery -m @model.onnx -o @out --replace").done();
    embed();
    assert!(fixture.run("gallery check @out").done().contains("12 templates"));
    let segment = fixture.files("out/segments").into_iter().find(|name| name.ends_with(".values")).unwrap();
    let path = fixture.path("out/segments").join(&segment);
    let whole = std::fs::read(&path).unwrap();
    // The last value changes its sign: the row keeps its length.
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 0x80;
    std::fs::write(&path, &bytes).unwrap();
    search().error(&[&segment, "11"]);
    let checked = fixture.run("gallery check @out --format json");
    assert_eq!(checked.code, 1, "{}", checked.stderr);
    let report: Value = serde_json::from_str(&checked.stdout).unwrap();
    assert_eq!(report["problems"].as_array().unwrap().len(), 1, "{report}");
    std::fs::write(&path, &whole[..whole.len() - 4]).unwrap();
    search().error_saying("too short");
    std::fs::write(&path, &whole).unwrap();
    search().done();
    std::fs::write(fixture.path("out/gallery.db"), "no database").unwrap();
    search().error(&["gallery.db"]);
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
    assert!(answer.stderr.contains("12 probes are in the gallery: they match themselves"), "{}", answer.stderr);
    answer.done();
    fixture.run("search -m @model.onnx --gallery @gallery --query @stranger --min-similarity 2").error(&[
        "--min-similarity",
        "'2'",
        "-1",
        "1",
    ]);
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

/// Paths of the matches of each probe, in order.
fn order(report: &Value) -> Vec<Vec<String>> {
    let paths = |probe: &Value| -> Vec<String> {
        let matches = probe["matches"].as_array().unwrap();
        matches.iter().map(|found| found["path"].as_str().unwrap().to_owned()).collect()
    };
    report["probes"].as_array().unwrap().iter().map(paths).collect()
}

/// The order of entries is that of the published method on the rows that `deploy embed` writes: of everyone, or of the
/// nearest entries of one probe, whoever else is asked about.
#[test]
fn re_ranking_changes_the_answer() {
    let fixture = town();
    // People who look alike: without them the nearest are right in either order.
    for (number, (person, variation)) in [("ada", 1.1), ("ben", 1.3), ("cleo", 1.2), ("dan", 1.4)].iter().enumerate() {
        fixture.picture(&format!("gallery/001{number}_c2s1_000001_00.png"), person, *variation);
    }
    let plain = search(&fixture, "-k 16");
    let rows = |folder: &str| {
        fixture.run(&format!("embed @{folder} -m @model.onnx -o @{folder}-rows --replace")).done();
        let (values, rows) = fixture.rows(&format!("{folder}-rows"));
        let (count, dim) = values.dim();
        let paths: Vec<String> = rows.iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect();
        (metrics::Matrix::new(values.into_raw_vec_and_offset().0, count, dim).unwrap(), paths)
    };
    let ((probes, _), (gallery, paths)) = (rows("probes"), rows("gallery"));
    let sorted = |distance: &[f32], paths: &[String]| -> Vec<String> {
        let mut order: Vec<usize> = (0..distance.len()).collect();
        order.sort_by(|a, b| distance[*a].total_cmp(&distance[*b]));
        order.into_iter().map(|at| paths[at].clone()).collect()
    };
    let everyone = search(&fixture, "-k 16 --rerank --rerank-top all");
    let distance = metrics::rerank(&probes, &gallery, &metrics::Rerank::default()).unwrap().matrix();
    let wanted: Vec<_> = (0..4).map(|probe| sorted(distance.row(probe), &paths)).collect();
    assert_eq!(order(&everyone), wanted);
    assert_ne!(order(&everyone), order(&plain));
    assert_eq!((&everyone["reranked"], everyone.get("rerank_top")), (&true.into(), None));

    let usual = search(&fixture, "-k 16 --rerank");
    assert_eq!(usual["rerank_top"], 200);
    let few = search(&fixture, "-k 16 --rerank --rerank-top 9");
    for (report, n) in [(&usual, 16), (&few, 9)] {
        for (probe, (found, plain)) in order(report).iter().zip(order(&plain)).enumerate() {
            let row = |path: &String| gallery.row(paths.iter().position(|other| other == path).unwrap());
            let values: Vec<f32> = plain[..n].iter().flat_map(row).copied().collect();
            let one = metrics::Matrix::new(probes.row(probe).to_vec(), 1, probes.cols()).unwrap();
            let nearest = metrics::Matrix::new(values, n, probes.cols()).unwrap();
            let distance = metrics::rerank(&one, &nearest, &metrics::Rerank::default()).unwrap().matrix();
            assert_eq!(*found, sorted(distance.row(0), &plain[..n]), "{n} nearest");
        }
    }
    assert_ne!(order(&usual), order(&plain));
    let alone = search(&fixture, "-k 16 --rerank --query @probes/0003_c1s1_000001_00.png");
    assert_eq!(order(&alone)[4], order(&usual)[2], "other probes change nothing");
    let matches = usual["probes"][0]["matches"].as_array().unwrap();
    let distances: Vec<f64> = matches.iter().map(|found| found["reranked_distance"].as_f64().unwrap()).collect();
    assert!(distances.windows(2).all(|pair| pair[0] <= pair[1]), "{distances:?}");
    assert!(plain["probes"][0]["matches"][0].get("reranked_distance").is_none());
    for n in ["0", "4097", "most"] {
        let line = format!("search -m @model.onnx --gallery @gallery --query @probes --rerank --rerank-top {n}");
        fixture.run(&line).error(&["--rerank-top", &format!("'{n}'"), "1", "4096", "all"]);
    }
}

/// By another spelling of the path, by a link, or as a copy: what is there itself is no success.
#[test]
fn a_probe_that_is_in_the_gallery_does_not_count() {
    let fixture = Fixture::new();
    for (number, person) in ["ada", "ben", "cleo"].iter().enumerate() {
        // The only other picture of each looks like the next person.
        let next = ["ben", "cleo", "ada"][number];
        fixture.picture(&format!("people/{person}/1.png"), person, 0.0);
        fixture.picture(&format!("people/{person}/2.png"), next, 0.2);
        std::fs::create_dir_all(fixture.path(&format!("copies/{person}"))).unwrap();
        let copy = fixture.path(&format!("copies/{person}/{number}.png"));
        std::fs::copy(fixture.path(&format!("people/{person}/1.png")), copy).unwrap();
    }
    std::fs::create_dir(fixture.path("elsewhere")).unwrap();
    let run = |folder: &str, line: &str| {
        let words = line.split_whitespace();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_deploy"));
        let output = command.args(words).current_dir(fixture.path(folder)).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert!(output.status.success(), "{}", text(output.stderr));
        (text(output.stdout), text(output.stderr))
    };
    run("people", "embed . -m ../model.onnx -o ../rows");
    for (from, query, more) in [
        ("elsewhere", "../people/ada/1.png ../people/ben/1.png ../people/cleo/1.png", ""),
        ("people", "ada/../ada/1.png ben/1.png ./cleo/1.png", "--rerank"),
        (".", "copies", "--rerank --rerank-top all"),
        (".", "copies", ""),
    ] {
        let back = if from == "." { "" } else { "../" };
        let line = format!("search -m {back}model.onnx --gallery {back}rows --format json -k 1 {more} --query {query}");
        let (found, notes) = run(from, &line);
        assert!(notes.contains("3 probes are in the gallery"), "{line}: {notes}");
        let report: Value = serde_json::from_str(&found).unwrap();
        assert_eq!(report["probes"][0]["matches"][0]["correct"], true, "it is found all the same");
        assert_eq!((&report["summary"]["rank1"], &report["summary"]["valid_queries"]), (&0.0.into(), &3.into()));
    }
    // Another picture of the same name is another picture.
    for person in ["ada", "ben", "cleo"] {
        fixture.picture(&format!("others/{person}/1.png"), person, 0.05);
    }
    let (found, notes) = run(".", "search -m model.onnx --gallery rows --query others --format json -k 1");
    assert!(!notes.contains("in the gallery"), "{notes}");
    assert_eq!(serde_json::from_str::<Value>(&found).unwrap()["summary"]["rank1"], 1.0);
}

/// The page shows the pictures that were embedded, wherever the program runs and whatever is called alike there.
#[test]
fn the_page_shows_the_gallerys_own_pictures() {
    let fixture = Fixture::new();
    for (folder, person) in [("one", "ada"), ("two", "ben")] {
        fixture.picture(&format!("{folder}/set/x/1.png"), person, 0.0);
        fixture.picture(&format!("{folder}/set/y/1.png"), &format!("{person}'s twin"), 0.0);
    }
    let run = |folder: &str, line: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_deploy"));
        let output = command.args(line.split_whitespace()).current_dir(fixture.path(folder)).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let pictures = |folder: &str| {
        run(folder, "search -m ../model.onnx --gallery ../rows --query ../one/set/x/1.png --report ../page.html");
        let page = std::fs::read_to_string(fixture.path("page.html")).unwrap();
        assert!(!page.contains("class=\"missing\""), "{page}");
        let uris = page.split("href=\"data:").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
        uris.collect::<Vec<_>>()
    };
    run("one", "embed set -m ../model.onnx -o ../rows");
    let usual = pictures("one");
    assert_eq!(usual.len(), 3);
    assert_eq!(pictures("two"), usual, "`set/x/1.png` is there, too, and somebody else");
    // Who is enrolled from elsewhere is shown, and the others stay.
    run("two", "enroll -m ../model.onnx --gallery ../rows --identity ben --picture set/x/1.png");
    let after = pictures("one");
    assert_eq!((after.len(), usual.iter().all(|picture| after.contains(picture))), (4, true));
    assert_eq!(pictures("two"), after);
}

/// Somebody who is enrolled by hand under the name that file names have is that person.
#[test]
fn a_name_is_one_person_whoever_says_it() {
    let fixture = town();
    fixture.run("embed @gallery -m @model.onnx -o @rows").done();
    let picture = fixture.picture("new.png", "ada", 0.05);
    let enrol = format!("enroll -m @model.onnx --gallery @rows --identity 0001 --picture {}", picture.display());
    fixture.run(&enrol).done();
    let line = "search -m @model.onnx --gallery @rows --query @probes/0001_c1s1_000001_00.png -k 1 --format json";
    let report: Value = serde_json::from_str(&fixture.run(line).done()).unwrap();
    let best = &report["probes"][0]["matches"][0];
    assert!(best["path"].as_str().unwrap().ends_with("new.png"), "{best}");
    assert_eq!((&best["identity"], &best["correct"]), (&"0001".into(), &true.into()));
    let claim = "verify -m @model.onnx --gallery @rows --identity 0001 --threshold 0.9 --format json --picture";
    let answer: Value = serde_json::from_str(&fixture.run(&format!("{claim} @new.png")).done()).unwrap();
    assert_eq!(answer["enrolled_rows"], 4);
}

#[test]
fn the_page_holds_pictures_and_frames() {
    let fixture = town();
    fixture.picture("probes/<b>snapshot\u{202e}gpj.png", "zoe", 0.0);
    let line = "search -m @model.onnx --gallery @gallery --query @probes -k 5 --report @page/search.html";
    fixture.run(line).done();
    let page = std::fs::read_to_string(fixture.path("page/search.html")).unwrap();
    assert_eq!(page.matches("<section>").count(), 5);
    assert_eq!(page.matches("<use href=\"#p").count(), 5 + 5 * 5);
    assert!(page.matches("class=\"match right\"").count() >= 4 * 3);
    assert!(page.matches("class=\"match wrong\"").count() >= 4);
    assert_eq!(page.matches("class=\"match unknown\"").count(), 5, "the snapshot's");
    assert!(page.contains("Rank-1") && page.contains("mAP") && page.contains("Tiny"));
    assert!(!page.contains("<b>snapshot") && page.contains("&lt;b&gt;snapshot\\u{202e}gpj"), "names are text");
    assert!(!page.contains("http"), "nothing is loaded from elsewhere");
    // Every file was named by its absolute path.
    let here = fixture.path("gallery");
    assert!(!page.contains(&*here.parent().unwrap().to_string_lossy()), "a path of this machine in {page}");
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
    fixture.run(line).error(&["0009_c1s1_000001_00.png", "--strict"]);
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
    // Listing the people's own folders is listing the folder above them.
    let answer = fixture.run("embed @set/ada @set/ben @set/cleo -m @model.onnx -o @own");
    assert!(answer.stderr.contains("folders name the people") && answer.stderr.contains("`--identity-from file`"));
    answer.done();
    let names = |folder: &str| fixture.rows(folder).1.iter().map(|row| row["identity"].clone()).collect::<Vec<_>>();
    assert_eq!(names("own"), names("rows"));
    assert_eq!(search("--gallery @own"), ("ada".into(), true.into()));
    // One folder may hold many people; which rule was taken is said.
    let answer = fixture.run("embed @set/ada -m @model.onnx -o @one");
    assert!(answer.stderr.contains("file names name the people on 3 of 3"), "{}", answer.stderr);
    assert!(answer.stderr.contains("`--identity-from folder` takes the folder"), "{}", answer.stderr);
    answer.done();
    let evaluated = fixture.run("evaluate -m @model.onnx --dataset folders --datadir @set --train-identities 1").done();
    assert!(evaluated.contains("Rank-1 100.00 %"), "{evaluated}");
}

/// The threshold for a rate among strangers is that of the calibrated gallery that is as large as the one searched, of
/// as many templates a person, fused alike; what was not measured is refused.
#[test]
fn a_rate_of_strangers_selects_the_threshold_for_the_size_of_the_gallery() {
    let fixture = Fixture::new();
    for (at, person) in ["ada", "ben", "cleo", "dan", "eve", "fay"].into_iter().enumerate() {
        for frame in 0..4 {
            fixture.picture(&format!("set/{person}/{frame}.png"), person, 0.3 * frame as f32 + 0.05 * at as f32);
        }
        fixture.picture(&format!("ones/{person}/0.png"), person, 0.1);
        if at < 4 {
            fixture.picture(&format!("four/{person}/0.png"), person, 0.1);
        }
    }
    fixture.picture("stranger.png", "zoe", 0.0);
    fixture.run("embed @four -m @model.onnx -o @few").done();
    fixture.run("embed @ones -m @model.onnx -o @all").done();
    fixture.run("embed @set -m @model.onnx -o @many").done();
    let search = |gallery: &str, more: &str| {
        fixture.run(&format!("search -m @model.onnx --gallery @{gallery} --query @stranger.png --format json {more}"))
    };
    search("few", "--fpir 0.2").error(&["0.2", "4", "1", "`deploy calibrate --fpir 0.2`"]);

    let calibrate = "calibrate -m @model.onnx --datadir @set --far 0.5 --format json";
    let written = |more: &str| -> Vec<serde_json::Value> {
        let answer: serde_json::Value =
            serde_json::from_str(&fixture.run(&format!("{calibrate} {more}")).done()).unwrap();
        answer["threshold"].as_array().unwrap().clone()
    };
    let all = written("--fpir 0.5,0.2");
    let of = |all: &[serde_json::Value], gallery: u64, rate: f64| {
        let fits = |one: &&serde_json::Value| one["measured"]["rate"]["fpir"]["gallery"] == gallery;
        let kept = all.iter().filter(fits).filter(|one| one["far"].as_f64().unwrap() <= rate * (1.0 + 1e-9));
        let loosest = kept.max_by(|a, b| a["far"].as_f64().unwrap().total_cmp(&b["far"].as_f64().unwrap()));
        loosest.unwrap()["similarity"].as_f64().unwrap()
    };
    // Of six people, galleries of 1, 2, 3 and 5 strangers can be drawn for each; four are searched like five.
    let sizes: Vec<u64> = all.iter().filter_map(|one| one["measured"]["rate"]["fpir"]["gallery"].as_u64()).collect();
    assert_eq!(sizes, [1, 2, 3, 5, 1, 2, 3, 5]);
    for rate in [0.5, 0.2] {
        let answer = search("few", &format!("--fpir {rate}"));
        let found: serde_json::Value = serde_json::from_str(&answer.stdout).unwrap();
        assert_eq!(found["decision"]["people"], 4);
        assert_eq!(found["min_similarity"].as_f64().unwrap() as f32, of(&all, 5, rate) as f32, "{rate}");
    }
    assert!(of(&all, 5, 0.2) > of(&all, 1, 0.5));
    // More people, more templates and another rule were not measured.
    search("all", "--fpir 0.5").error(&["6", "1", "`deploy calibrate --fpir 0.5`"]);
    search("many", "--fpir 0.5").error(&["6", "4", "`deploy calibrate --fpir 0.5 --templates 4`"]);
    assert_eq!(search("few", "--fpir 0.5 --by subject --fusion mean").code, search("few", "--fpir 0.5").code);
    // Another calibration of pairs leaves the thresholds of searches as they are; one of searches replaces them.
    assert_eq!(written("").len(), 9);
    let means = written("--fpir 0.5 --templates 2 --fusion mean");
    assert_eq!(means.len(), 5);
    assert!(means[1..].iter().all(|one| one["measured"]["fusion"] == "mean" && one["measured"]["templates"] == 2));
    search("few", "--fpir 0.5").error(&["4", "1", "`deploy calibrate --fpir 0.5`"]);
    // Six people cannot show one in a thousand, and none can be enrolled with all their pictures.
    let told = fixture.run(&format!("{calibrate} --fpir 0.001,0.5"));
    assert!(told.stderr.contains("probes of 6 people are too few") && told.stderr.contains("takes 1000"));
    assert_eq!(told.code, 0);
    fixture.run(&format!("{calibrate} --fpir 0.5 --templates 4")).error(&["--templates", "4", "5"]);
}
