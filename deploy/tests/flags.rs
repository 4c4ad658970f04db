//! Every flag of every command is read: it changes what the command says or writes, or it is refused where it would
//! change nothing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::fixture::Fixture;

/// What giving a flag does.
#[derive(Clone, Copy)]
enum Does {
    /// The line needs it and has it.
    Needed,
    /// It changes the answer or a file.
    Changes,
    /// An error that names these facts, which spaces part.
    Refused(&'static str),
    /// What it does needs a state of its own: the test that shows it.
    ShownBy(&'static str),
}

use Does::{Changes, Needed, Refused, ShownBy};

/// A flag with its value, and what it does.
type Row = (&'static str, Does);

/// What every command that runs a model has.
const RUN: [Row; 10] = [
    ("--provider nowhere", Refused("nowhere")),
    ("--threads 1", ShownBy("embed::the_same_bits_twice_and_the_same_rows_in_any_batch")),
    ("--contract @contract.json", Refused("`--contract contract.json")),
    ("--skip-self-test", Changes),
    TUNING[0],
    TUNING[1],
    TUNING[2],
    TUNING[3],
    TUNING[4],
    ("--help", Changes),
];

/// Of what opens a gallery that may be encrypted.
const KEY: [Row; 1] = [("--key-file @nokey", Refused("nokey"))];

/// Of what makes a gallery that may be encrypted.
const NEW_KEY: [Row; 2] = [("--key-file @key", Changes), ("--renewable", Refused("--key-file"))];

/// How ONNX Runtime is set up.
const TUNING: [Row; 5] = [
    ("--runtime nowhere", Refused("nowhere onnxruntime rten")),
    ("--optimisation off", ShownBy("runtime::how_a_model_runs_is_told_and_answers_stay")),
    ("--spinning off", ShownBy("runtime::how_a_model_runs_is_told_and_answers_stay")),
    ("--arena off", ShownBy("runtime::how_a_model_runs_is_told_and_answers_stay")),
    ("--engine-cache @engines", Refused("--engine-cache tensorrt cpu")),
];

const PAIRS: [Row; 4] = [
    ("--layout plain", Refused("--pairs")),
    ("--palm-band palm", Refused("--pairs")),
    ("--vein-band vein", Refused("--pairs")),
    ("--pattern x", Refused("--pairs")),
];

const SPLIT: [Row; 2] = [("--split all", Refused("--pairs")), ("--split-seed 1", Refused("--pairs"))];

const READING: [Row; 2] = [
    ("--batch-size 1", ShownBy("embed::the_same_bits_twice_and_the_same_rows_in_any_batch")),
    ("--strict", Refused("--strict")),
];

/// Holds `line` with each flag of its command against the line without; `out` is what the command may write.
fn walk(fixture: &Fixture, line: &str, out: &[&str], rows: &[&[Row]]) {
    std::fs::write(fixture.path("contract.json"), serde_json::to_string(&crate::fixture::contract()).unwrap()).unwrap();
    let verb: Vec<&str> =
        line.split(' ').take(if line.starts_with("gallery ") || line.starts_with("audit ") { 2 } else { 1 }).collect();
    has_rows(fixture, &verb.join(" "), rows);
    let rows: Vec<Row> = rows.iter().flat_map(|rows| rows.iter().copied()).collect();
    let run = |line: &str| {
        out.iter().for_each(|out| clear(&fixture.path(out)));
        let answer = fixture.run(line);
        let files: Vec<_> = out.iter().map(|out| content(&fixture.path(out))).collect();
        (answer, files)
    };
    let (usual, usual_files) = run(line);
    assert!(usual.code < 2, "{line}: {}", usual.stderr);
    for (flag, does) in rows {
        match does {
            Needed => assert!(line.contains(flag.split(' ').next().unwrap()), "{line} {flag}"),
            ShownBy(test) => assert!(run(&format!("{line} {flag}")).0.code < 2, "{line} {flag}; see {test}"),
            Refused(facts) => {
                let (answer, files) = run(&format!("{line} {flag}"));
                assert!(files.iter().all(Vec::is_empty), "{line} {flag} wrote something");
                answer.error(&facts.split(' ').collect::<Vec<_>>());
            }
            Changes => {
                let (answer, files) = run(&format!("{line} {flag}"));
                assert!(answer.code < 2, "{line} {flag}: {}", answer.stderr);
                let same = (&answer.stdout, &answer.stderr, &files) == (&usual.stdout, &usual.stderr, &usual_files);
                assert!(!same, "{line} {flag} changes nothing");
            }
        }
    }
}

/// Every flag that the help of a command lists has a row, and every row is a flag.
fn has_rows(fixture: &Fixture, verb: &str, rows: &[&[Row]]) {
    let help = fixture.run(&format!("{verb} --help")).done();
    // Prose that begins with a flag is indented further.
    let starts =
        help.lines().filter(|line| line.trim_start_matches(' ').starts_with('-') && !line.starts_with("       "));
    let words = starts.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")));
    let flags: BTreeSet<&str> = words.map(|word| word.trim_end_matches(',')).collect();
    let names = rows.iter().flat_map(|rows| rows.iter()).map(|row| row.0.split(' ').next().unwrap()).collect();
    assert_eq!(flags, names, "`deploy {verb}` has flags without a row, or the other way round");
}

fn clear(path: &Path) {
    let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

/// Names and bytes of a file or of all below a folder; of a gallery that is not encrypted, what is enrolled.
fn content(path: &Path) -> Vec<(String, Vec<u8>)> {
    if path.join("gallery.db").is_file() && !gallery::Store::is_encrypted_at(path).unwrap() {
        let rows = deploy::gallery::Gallery::open(path).unwrap().load().unwrap();
        let line = |row| serde_json::to_string(&rows.templates[row]).unwrap();
        let bytes = |row| rows.row(row).iter().flat_map(|value| value.to_le_bytes()).collect();
        return (0..rows.templates.len()).map(|row| (line(row), bytes(row))).collect();
    }
    if path.is_dir() {
        let mut entries: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.retain(|path| !path.ends_with(".lock"));
        entries.sort();
        return entries.iter().flat_map(|path| content(path)).collect();
    }
    std::fs::read(path).map(|bytes| vec![(path.display().to_string(), bytes)]).unwrap_or_default()
}

/// Three people with file names that contradict their folders, and a file that is no picture.
fn set() -> Fixture {
    let fixture = Fixture::new();
    for (at, person) in ["ada", "ben", "cleo"].into_iter().enumerate() {
        for frame in 1..=3 {
            let variation = 0.2 * (frame + at) as f32;
            fixture.picture(&format!("set/{person}/{frame:04}_c2.png"), person, variation);
        }
    }
    std::fs::write(fixture.path("set/ada/broken.png"), "no picture").unwrap();
    fixture
}

/// Six hands of three pairs, and the model of pairs.
fn hands() -> Fixture {
    let fixture = Fixture::new();
    fixture.write_model("pair.onnx", &crate::pairs::model());
    for hand in 1..=6 {
        for n in 1..=3 {
            for side in ["palm", "vein"] {
                let variation = 0.1 * n as f32;
                fixture.picture(&format!("set/{side}/{hand:03}_l/{n}.png"), &format!("{side} {hand}"), variation);
            }
        }
    }
    fixture
}

/// More threads than cores wait for each other: what is more is not used, which is said. A negative number is out of
/// the range and no flag.
#[test]
fn threads_have_a_range_and_cores_an_end() {
    let fixture = set();
    let line = "embed @set -m @model.onnx -o @out --replace --threads";
    let cores = std::thread::available_parallelism().unwrap().get();
    if cores < 256 {
        let answer = fixture.run(&format!("{line} 256"));
        assert!(answer.stderr.contains(&format!("{cores} are used")), "{}", answer.stderr);
        answer.done();
    }
    let most = terminal::most_threads().to_string();
    fixture.run(&format!("{line} -1")).error(&["--threads", "'-1'", "0", &most]);
    let evaluate = "evaluate -m @model.onnx --datadir @set --dataset folders --train-identities";
    fixture.run(&format!("{evaluate} -1")).error(&["--train-identities", "'-1'", "1", "1000000000"]);
    let search = "search -m @model.onnx --gallery @set --query @set -k";
    fixture.run(&format!("{search} -1")).error(&["--top-k", "'-1'", "1", "1000000"]);
}

#[test]
fn of_embed() {
    let own = [
        ("--palm @set/ada/0001_c2.png", Refused("--palm")),
        ("--vein @set/ada/0001_c2.png", Refused("--vein")),
        ("--model", Needed),
        ("--out", Needed),
        ("--replace", ShownBy("embed::embeddings_are_only_replaced_on_request")),
        ("--wait", ShownBy("gallery::enrolments_that_wait_all_happen")),
        ("--identity-from file", Changes),
        ("--pairs", Refused("palm/<identity>")),
        ("--every 2", Refused("--every")),
        ("--frames 2", Refused("--frames")),
        ("--failures @failures.jsonl", ShownBy("sources::pictures_that_cannot_be_used_are_listed_in_a_file")),
    ];
    walk(&set(), "embed @set --model @model.onnx --out @out", &["out"], &[&own, &RUN, &PAIRS, &READING, &NEW_KEY]);
    let one = "embed --model @model.onnx --out @out --palm @set/ada/0001_c2.png";
    for (flag, _) in [("--pairs", Needed)].iter().chain(&PAIRS) {
        set().run(&format!("{one} {flag}")).error(&[flag.split(' ').next().unwrap(), "--palm"]);
    }
}

#[test]
fn of_search() {
    let own = [
        ("--gallery", Needed),
        ("--query", Needed),
        ("--palm @set/ada/0001_c2.png", Refused("--palm")),
        ("--vein @set/ada/0001_c2.png", Refused("--vein")),
        ("--model", Needed),
        ("--top-k 1", Changes),
        ("--min-similarity 0.9", Changes),
        ("--fpir 0.5", Refused("--fpir 0.5 `--min-similarity`")),
        ("--subject cleo", Changes),
        ("--camera 1", Changes),
        ("--since 2026-11-28", Changes),
        ("--until 2026-11-28", Changes),
        ("--tag gate", Changes),
        ("--by subject", Changes),
        ("--fusion mean", Refused("--by subject")),
        ("--expand 3", Changes),
        ("--index exact", ShownBy("index::an_index_is_made_searched_told_and_checked")),
        ("--effort 64", Refused("--index")),
        ("--rerank", ShownBy("search::re_ranking_changes_the_answer")),
        ("--rerank-top 5", Refused("--rerank")),
        ("--frontalize @frontal.onnx", Refused("--poses")),
        ("--poses @poses.csv", Refused("--frontalize")),
        ("--format json", Changes),
        ("--report @page.html", Changes),
        ("--report-probes 1", Refused("--report")),
        ("--identity-from file", Changes),
        ("--pairs", Refused("palm/<identity>")),
    ];
    let line = "search --model @model.onnx --gallery @set --query @set/ben";
    let fixture = set();
    walk(&fixture, line, &["page.html"], &[&own, &RUN, &PAIRS, &READING, &KEY]);
    let page = |more: &str| {
        fixture.run(&format!("{line} --report @page.html {more}")).done();
        std::fs::read(fixture.path("page.html")).unwrap()
    };
    assert_ne!(page("--report-probes 1"), page(""));
    fixture.run("embed @set --model @model.onnx -o @rows").done();
    let one = "search --model @model.onnx --gallery @rows --palm @set/ada/0001_c2.png";
    fixture.run(&format!("{one} --pairs")).error(&["`--pairs`", "gallery"]);
    let [named, other] = ["file", "folder"].map(|from| fixture.run(&format!("{one} --identity-from {from}")).done());
    assert_ne!(named, other);
    // What is for pairs goes with nothing that is not.
    for (flag, _) in PAIRS {
        fixture.run(&format!("{line} --identity-from file {flag}")).error(&["--identity-from"]);
    }
}

#[test]
fn of_evaluate() {
    let own = [
        ("--model", Needed),
        ("--dataset dukemtmc", Changes),
        ("--datadir", Needed),
        ("--train-identities 1", Refused("`folders`")),
        ("--cuhk03-labeled", Refused("`cuhk03_labeled`")),
        ("--single-shot", Changes),
        ("--expand 3", Changes),
        ("--rerank", Changes),
        ("--rerank-top 5", Refused("--rerank")),
        ("--format json", Changes),
        ("--report @page.html", Changes),
        ("--report-probes 1", Refused("--report")),
        ("--pairs", Refused("palm/<identity>")),
    ];
    let line = "evaluate --model @model.onnx --datadir @market/Market-1501-v15.09.15";
    let fixture = crate::evaluate::market();
    std::fs::write(fixture.path("market/Market-1501-v15.09.15/query/0003_c1s1_000001_00.png"), "no picture").unwrap();
    walk(&fixture, line, &["page.html"], &[&own, &RUN, &PAIRS, &SPLIT, &READING]);
    for (flag, _) in PAIRS.iter().chain(&SPLIT) {
        let set = ["--dataset market1501", "--train-identities 1", "--cuhk03-labeled"];
        for other in set.into_iter().chain(["--rerank", "--expand 2", "--single-shot"]) {
            let flags = [*flag, other].map(|flag| flag.split(' ').next().unwrap());
            fixture.run(&format!("{line} {flag} {other}")).error(&flags);
        }
    }
}

#[test]
fn of_evaluate_pairs() {
    let own = [
        ("--model", Needed),
        ("--dataset folders", Refused("--pairs")),
        ("--datadir", Needed),
        ("--train-identities 1", Refused("--pairs")),
        ("--cuhk03-labeled", Refused("--pairs")),
        ("--single-shot", Refused("--pairs")),
        ("--expand 3", Refused("--pairs")),
        ("--rerank", Refused("--pairs")),
        ("--rerank-top 5", Refused("--pairs")),
        ("--format json", Changes),
        ("--report @page.html", Changes),
        ("--report-probes 1", Refused("--pairs --report-probes")),
        ("--pairs", Needed),
        ("--layout casia", Refused("casia")),
        ("--palm-band vein", Refused("vein")),
        ("--vein-band palm", Refused("palm")),
        ("--pattern x", Refused("`x` `band`")),
        ("--split all", Changes),
        ("--split-seed 1", Changes),
    ];
    let fixture = hands();
    std::fs::write(fixture.path("set/palm/001_l/4.png"), "no picture").unwrap();
    std::fs::write(fixture.path("set/vein/001_l/4.png"), "no picture").unwrap();
    let line = "evaluate --model @pair.onnx --datadir @set --pairs";
    for seedless in ["all", "session"] {
        fixture.run(&format!("{line} --split {seedless} --split-seed 1")).error(&["--split-seed", seedless]);
    }
    fixture.run(&format!("{line} --report @page.html --report-probes 1")).error(&["--report-probes", "--pairs"]);
    walk(&fixture, line, &["page.html"], &[&own, &RUN, &READING]);
}

#[test]
fn of_enroll_and_verify() {
    let fixture = set();
    let one = [
        ("--model", Needed),
        ("--palm", Needed),
        ("--vein @set/ada/0002_c2.png", Refused("1 image 2")),
        ("--identity", Needed),
        ("--gallery", Needed),
    ];
    let own = [
        ("--wait", ShownBy("gallery::enrolments_that_wait_all_happen")),
        ("--camera 3", Changes),
        ("--taken 2026-11-28", Changes),
        ("--tag gate", Changes),
        ("--similar 0.1", ShownBy("enroll::what_is_worth_a_look_is_reported_or_left_out")),
        ("--selective", ShownBy("enroll::what_is_worth_a_look_is_reported_or_left_out")),
        ("--format json", Changes),
        ("--identity-from file", Refused("--identity")),
        ("--pairs", Refused("--palm")),
        ("--layout plain", Refused("--palm")),
        ("--palm-band palm", Refused("--palm")),
        ("--vein-band vein", Refused("--palm")),
        ("--pattern x", Refused("--palm")),
        ("--batch-size 1", ShownBy("embed::the_same_bits_twice_and_the_same_rows_in_any_batch")),
        ("--strict", ShownBy("enroll::all_or_nobody_is_enrolled")),
    ];
    let about = "--model @model.onnx --palm @set/ada/0001_c2.png --identity ada --gallery";
    walk(&fixture, &format!("enroll {about} @people"), &["people"], &[&one, &own, &RUN, &NEW_KEY]);
    fixture.run(&format!("enroll {about} @people")).done();
    let own = [
        ("--threshold", Needed),
        ("--far 0.1", Refused("--far")),
        ("--explain @drawn", Refused("model.onnx --attention")),
        ("--format json", Changes),
    ];
    walk(&fixture, &format!("verify {about} @people --threshold 0.5"), &[], &[&one, &own, &RUN, &KEY]);
}

#[test]
fn of_remove() {
    let fixture = set();
    let embed = || fixture.run("embed @set --model @model.onnx --out @people --replace").done();
    // Nobody is removed twice, so that each line has a gallery of its own.
    for (line, code) in [
        ("--gallery @people --identity ada", 0),
        ("--gallery @people --identity ada --wait", 0),
        ("--gallery @people --identity nobody", 2),
        ("--gallery @people", 2),
        ("--identity ada", 2),
    ] {
        embed();
        assert_eq!(fixture.run(&format!("remove {line}")).code, code, "{line}");
        assert_eq!(fixture.rows("people").1.len(), if code == 0 { 6 } else { 9 }, "{line}");
    }
    std::fs::remove_dir_all(fixture.path("people")).unwrap();
    embed();
    for (line, code, left) in [
        ("--template 2", 0, 8),
        ("--template 2", 2, 8),
        ("--template 1 --template 3", 0, 6),
        ("--template 4 --identity ada", 2, 6),
        ("--identity ben --verify", 0, 3),
    ] {
        let answer = fixture.run(&format!("remove --gallery @people {line}"));
        assert_eq!((answer.code, fixture.rows("people").1.len()), (code, left), "{line}: {}", answer.stderr);
        assert_eq!(answer.stdout.contains("no byte of them is left"), line.ends_with("--verify"), "{}", answer.stdout);
    }
    let help = fixture.run("remove --help").done();
    let flags: BTreeSet<&str> = help.split_whitespace().filter(|word| word.starts_with("--")).collect();
    let flags: BTreeSet<&str> = flags.iter().map(|flag| flag.trim_end_matches([']', ',', '.'])).collect();
    assert_eq!(
        flags,
        ["--identity", "--template", "--gallery", "--engine", "--verify", "--wait", "--key-file", "--format", "--help"]
            .into()
    );
}

#[test]
fn of_gallery() {
    let fixture = set();
    fixture.run("embed @set --model @model.onnx --out @people").done();
    let format = [("--format json", Changes), ("--help", Changes)];
    walk(&fixture, "gallery info @people", &[], &[&format, &KEY]);
    walk(&fixture, "gallery check @people", &[], &[&format, &KEY]);
    let wait = [("--wait", ShownBy("gallery::enrolments_that_wait_all_happen")), ("--help", Changes)];
    walk(&fixture, "gallery compact @people", &[], &[&wait, &KEY]);
    let log = [("--last 1", Changes), ("--format json", Changes), ("--help", Changes)];
    walk(&fixture, "gallery log @people", &[], &[&log, &KEY]);
    walk(&fixture, "audit list @people", &[], &[&log, &KEY]);
    let head = [("--head 12", Refused("--head")), ("--format json", Changes), ("--help", Changes)];
    walk(&fixture, "audit verify @people", &[], &[&head, &KEY]);
    let shown = ShownBy("migrate::what_cannot_be_embedded_again_is_listed_and_keeps_the_gallery_as_it_is");
    let own = [
        ("--model", Needed),
        ("--pictures @none", Refused("none")),
        ("--take-changed", shown),
        ("--drop-missing", shown),
        ("--restart", Refused("--restart")),
        ("--format json", Changes),
        ("--wait", ShownBy("gallery::enrolments_that_wait_all_happen")),
        ("--batch-size 1", ShownBy("embed::the_same_bits_twice_and_the_same_rows_in_any_batch")),
        ("--strict", shown),
    ];
    walk(&fixture, "gallery migrate @people --model @model.onnx", &[], &[&own, &RUN, &KEY]);
    let own = [
        ("--model", Needed),
        ("--folder @set/ben", Changes),
        ("--dry-run", Changes),
        ("--wait", ShownBy("gallery::enrolments_that_wait_all_happen")),
    ];
    walk(&fixture, "gallery sync @people --model @model.onnx", &[], &[&own, &RUN, &READING, &KEY]);
    let own = [("--out", Needed), ("--format faiss", Changes), ("--help", Changes)];
    walk(&fixture, "gallery export @people --out @rows", &["rows", "rows.jsonl"], &[&own, &KEY]);
    let own = [
        ("--out", Needed),
        ("--rows @none.jsonl", Refused("--rows")),
        ("--model @none.onnx", Refused("--model")),
        ("--contract @contract.json", Refused("--model")),
    ];
    fixture.run("gallery export @people --out @rows").done();
    walk(&fixture, "gallery import @rows --out @imported", &["imported"], &[&own, &wait, &NEW_KEY]);
    let own = [("--key-file", Needed), ("--renewable", ShownBy("vault::rows_that_come_from_elsewhere_are_encrypted"))];
    // Each line has a gallery of its own, which is encrypted once.
    for (flag, _) in own.iter().chain(&wait) {
        fixture.run("gallery import @rows --out @later").done();
        let flag = if *flag == "--key-file" { "" } else { *flag };
        fixture.run(&format!("gallery encrypt @later --key-file @later-key {flag}")).done();
        std::fs::remove_dir_all(fixture.path("later")).unwrap();
    }
    has_rows(&fixture, "gallery encrypt", &[&own, &wait]);
    fixture.run("gallery import @rows --out @sealed --key-file @sealed-key").done();
    let own = [("--key-file", Needed)];
    walk(&fixture, "gallery renew @sealed --key-file @sealed-key", &[], &[&own, &wait]);
    let own = [("--key-file", Needed), ("--new-key-file", Needed)];
    has_rows(&fixture, "gallery rotate-key", &[&own, &wait]);
    fixture.run("gallery rotate-key @sealed --key-file @sealed-key --new-key-file @next-key").done();
    fixture.run("gallery rotate-key @sealed --key-file @next-key --new-key-file @last-key --wait").done();
}

#[test]
fn of_calibrate() {
    let own = [
        ("--model", Needed),
        ("--datadir", Needed),
        ("--far 0.4", Changes),
        ("--fpir 0.5", Changes),
        ("--templates 2", Refused("--fpir")),
        ("--fusion mean", Refused("--fpir")),
        ("--identity-from file", Changes),
        ("--format json", Changes),
        ("--report @page.html", Changes),
        ("--pairs", Refused("palm/<identity>")),
    ];
    let fixture = set();
    // The usual rates want more people than three.
    let line = "calibrate --model @model.onnx --datadir @set --far 0.5";
    let own_rates: Vec<Row> = own.into_iter().filter(|row| row.0 != "--far 0.4").chain([("--far", Needed)]).collect();
    walk(&fixture, line, &["page.html"], &[&own_rates, &RUN, &PAIRS, &SPLIT, &READING]);
    let at = |far: &str| fixture.run(&line.replace("0.5", far)).done();
    assert_ne!(at("0.4"), at("0.7"));
    for (flag, _) in PAIRS.iter().chain(&SPLIT) {
        fixture.run(&format!("{line} {flag} --identity-from file")).error(&["--identity-from"]);
    }
}

#[test]
fn of_adopt() {
    let fixture = set();
    fixture.write_model("foreign.onnx", &crate::fixture::graph());
    let own = [
        ("--preset", Needed),
        ("--size 64x32", Refused("`--size")),
        ("--mean 0.4", Changes),
        ("--std 0.3", Changes),
        ("--range 0,255", Changes),
        ("--colour bgr", Changes),
        ("--layout nhwc", Refused("`--layout")),
        ("--filter opencv", Changes),
        ("--output features", Changes),
        ("--flip", Changes),
        ("--name Tiny", Changes),
        ("--licence MIT", Changes),
        ("--pictures @set", Changes),
        ("--sheet @seen.png", Refused("--pictures")),
        ("--out", Needed),
        ("--format json", Changes),
        ("--help", Changes),
    ];
    walk(&fixture, "adopt @foreign.onnx --preset torchreid --out @bundle", &["bundle"], &[&own]);
}

#[test]
fn of_inspect_and_doctor() {
    let fixture = Fixture::new();
    walk(&fixture, "inspect @model.onnx", &[], &[&[("--format json", Changes)], &RUN]);
    let own = [
        ("--model @model.onnx", Changes),
        ("--contract @contract.json", Refused("--model")),
        ("--format json", Changes),
        ("--help", Changes),
    ];
    walk(&fixture, "doctor", &[], &[&own]);
}

#[test]
fn of_bench() {
    let fixture = Fixture::new();
    let shown = ShownBy("bench::every_combination_is_measured");
    let own = [
        ("--provider nowhere", Refused("nowhere xnnpack")),
        ("--batch 3", shown),
        ("--threads 1", shown),
        ("--seconds", Needed),
        ("--contract @contract.json", Refused("`--contract contract.json")),
        ("--format json", Changes),
        ("--picture @drawn.png", Changes),
        ("--help", Changes),
    ];
    let own: Vec<Row> = own.into_iter().filter(|row| row.0 != "--batch 3").chain([("--batch", Needed)]).collect();
    walk(&fixture, "bench @model.onnx --seconds 0.001 --batch 1", &["drawn.png"], &[&own, &TUNING]);
    for (flag, facts) in [("--batch 0", "4096"), ("--seconds 0", "3600"), ("--seconds NaN", "3600")] {
        let line = format!("bench @model.onnx {flag}");
        fixture.run(&line).error(&[flag.split(' ').next().unwrap(), facts]);
    }
}

#[test]
fn of_frontalize() {
    let fixture = crate::frontalize::with_frontalizer();
    for person in ["a", "b"] {
        fixture.picture(&format!("views/{person}.png"), person, 0.0);
    }
    std::fs::write(fixture.path("views/broken.png"), "no picture").unwrap();
    std::fs::write(fixture.path("poses.csv"), "path,yaw,pitch,roll\na.png,60,0,0\nb.png,-60,0,0\n").unwrap();
    let own = [("--frontalize", Needed), ("--poses", Needed), ("--model", Needed), ("--out", Needed)];
    let line = "frontalize @views --frontalize @frontal.onnx --model @model.onnx --poses @poses.csv --out @front.npy";
    walk(&fixture, line, &["front.npy"], &[&own, &RUN, &READING]);
    let rows = "frontalize @rows.npy --frontalize @frontal.onnx --poses @poses.csv --out @front.npy";
    for flag in ["--strict", "--batch-size 3"] {
        fixture.run(&format!("{rows} {flag}")).error(&["--model"]);
    }
}

#[test]
fn of_generate() {
    let fixture = crate::generate::fixture();
    let own = [
        ("--model", Needed),
        ("--image", Needed),
        ("--pose 1,2,3", Changes),
        ("--poses @poses.npy", Refused("--poses")),
        ("--turntable", Refused("--turntable")),
        ("--steps 3", Refused("--steps")),
        ("--turn 30", Refused("--turn")),
        ("--out", Needed),
    ];
    let line = "generate --model @drawing.onnx --image @face.png --out @out.png";
    let own: Vec<Row> = own.into_iter().filter(|row| row.0 != "--pose 1,2,3").chain([("--pose", Needed)]).collect();
    walk(&fixture, &format!("{line} --pose 1,2,3"), &["out.png"], &[&own, &RUN]);
    let drawn = |more: &str| {
        fixture.run(&format!("{line} {more}")).done();
        std::fs::read(fixture.path("out.png")).unwrap()
    };
    let usual = drawn("--turntable");
    assert_ne!(drawn("--turntable --steps 3"), usual);
    assert_ne!(drawn("--turntable --turn 30"), usual);
    assert_ne!(drawn("--pose 1,2,3"), drawn("--pose 20,2,3"));
}

/// It serves with each flag until it is told to stop, or says why it does not.
#[cfg(feature = "serve")]
#[test]
fn of_serve() {
    let shown = ShownBy("serve::what_is_too_much_or_malformed_is_refused_with_the_limit_and_its_flag");
    let slow = ShownBy("serve::slow_silent_and_half_closed_clients_lose_their_place");
    let own = [
        ("--gallery", Needed),
        ("--key-file @key", ShownBy("serve_sealed::encrypted_and_renewable_galleries_answer_as_plain_ones")),
        ("--renewable", Refused("--key-file")),
        ("--listen 192.0.2.1:0", Refused("192.0.2.1:0 --keys --listen")),
        ("--keys @none.json", Refused("none.json")),
        ("--tls-cert @cert.pem", Refused("--tls-key")),
        ("--tls-key @key.pem", Refused("--tls-cert")),
        ("--threshold 0.5", ShownBy("serve::searches_can_be_judged_and_filtered")),
        ("--fpir 0.01", Refused("0.01 --fpir")),
        ("--far 2", Refused("--far '2'")),
        ("--batch-size 1", ShownBy("serve::enrolments_outlive_a_kill")),
        ("--max-body 20000", shown),
        ("--max-pixels 3000", shown),
        ("--max-pictures 2", shown),
        ("--max-requests 0", Refused("--max-requests '0' 1 4096")),
        ("--max-connections 4", slow),
        ("--max-memory 1", Refused("--max-memory '1' 16 1048576")),
        ("--max-queue 0", Refused("--max-queue '0' 1 65536")),
        ("--header-seconds 1", slow),
        ("--body-seconds 1", slow),
        ("--deadline-seconds 0", Refused("--deadline-seconds '0' 1 3600")),
        ("--rate 5", Refused("--keys")),
        ("--grace-seconds 0", Refused("--grace-seconds '0' 1 3600")),
        ("--log text", ShownBy("serve::the_log_holds_no_picture_no_vector_no_key_and_no_name")),
    ];
    // Which file it is, is known when it runs.
    let run = RUN.map(|(flag, does)| match flag {
        "--skip-self-test" => (flag, ShownBy("model::a_changed_weight_fails_the_self_test")),
        _ => (flag, does),
    });
    let fixture = Fixture::new();
    std::fs::write(fixture.path("contract.json"), serde_json::to_string(&crate::fixture::contract()).unwrap()).unwrap();
    has_rows(&fixture, "serve", &[&own, &run]);
    for (at, (flag, does)) in own.iter().chain(&run).enumerate() {
        let line = format!("@model.onnx --gallery @people{at} {flag}");
        match does {
            Needed | Changes => {}
            ShownBy(_) => {
                let service = crate::serve::Service::start(&fixture, &line);
                service.signal("TERM");
                assert_eq!(service.end(), Some(0), "{line}");
            }
            Refused(facts) => {
                fixture.run(&format!("serve {line}")).error(&facts.split(' ').collect::<Vec<_>>());
            }
        }
    }
}
