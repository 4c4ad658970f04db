//! Data of one's own: tables of pictures, joined sets, tests on other sets.

use std::fmt::Write;
use std::path::Path;

use datasets::{Dataset, Options};
use fixtures::{PedestrianConfig, Size, pedestrians};

use crate::support::{json, tensors, train};

const LINE: &str = "reid --model OSNet_x0_25 --height 32 --width 32 --batchid 2 --batchimage 2 --n-thread 1 --epochs 1";

fn run(more: &str) -> Vec<&str> {
    LINE.split_whitespace().chain(more.split_whitespace()).collect()
}

/// A small set in Market-1501's layout.
fn market(place: &Path, train_identities: usize, seed: u64) {
    let config = PedestrianConfig {
        train_identities,
        test_identities: 3,
        cameras: 2,
        distractors: 2,
        junk: 1,
        images_per_camera: 2,
        size: Size { height: 32, width: 32 },
        seed,
        ..Default::default()
    };
    pedestrians(&config, place).unwrap();
}

/// Pictures that are cut from videos: those of the boxes that are wanted, with a table that trains and tests.
#[test]
fn people_are_cut_from_videos_and_trained_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    // Two videos of 40 frames, in each five people of a grey of their own on black.
    for (video, number) in [("MOT17-02-FRCNN", 0), ("MOT17-02-DPM", 0), ("MOT17-04-FRCNN", 1)] {
        let place = at.join("MOT17/train").join(video);
        std::fs::create_dir_all(place.join("gt")).unwrap();
        std::fs::create_dir_all(place.join("img1")).unwrap();
        let mut lines = String::new();
        for frame in 1..=40u32 {
            let mut picture = image::RgbImage::new(200, 80);
            for person in 1..=5u32 {
                let (left, top) = (40 * person - 30 + frame / 10, 10);
                let grey = image::Rgb([(20 + 40 * person + 15 * number) as u8; 3]);
                let body = image::RgbImage::from_pixel(20, 60, grey);
                image::imageops::replace(&mut picture, &body, left.into(), top);
                // The fifth is hidden in the second half.
                let visible = if person == 5 && frame > 20 { 0.1 } else { 0.9 };
                writeln!(lines, "{frame},{person},{},{},20,60,1,1,{visible}", left + 1, top + 1).unwrap();
            }
            writeln!(lines, "{frame},9,1,1,30,60,1,3,1").unwrap();
            if video != "MOT17-02-DPM" {
                picture.save(place.join(format!("img1/{frame:06}.jpg"))).unwrap();
            }
        }
        std::fs::write(place.join("gt/gt.txt"), lines).unwrap();
    }
    std::fs::write(at.join("MOT17/train/MOT17-04-FRCNN/img1/000001.jpg"), "no picture").unwrap();
    let crops = |more: &[&str]| train(at, &[&["crops", "MOT17"], more].concat());
    let ended = crops(&["-o", "cut", "--every", "10"]).ok();
    // Four people four times and one twice in each video; five are in the frame that is none.
    assert!(ended.stdout.contains("31 pictures of 10 people, 6 of whom train; 5 outside"), "{}", ended.stdout);
    assert!(ended.stdout.contains("80 of other classes, 40 seen too little"), "{}", ended.stdout);
    assert!(ended.stderr.contains("MOT17-04-FRCNN/img1/000001.jpg"), "{}", ended.stderr);
    let table = std::fs::read_to_string(at.join("cut/crops.csv")).unwrap();
    for row in [
        "MOT17-02_0001/000001.jpg,MOT17-02_0001,0,train,1",
        "MOT17-02_0002/000011.jpg,MOT17-02_0002,0,query,11",
        "MOT17-04_0002/000021.jpg,MOT17-04_0002,3,gallery,21",
    ] {
        assert!(table.lines().any(|line| line == row), "{row} in {table}");
    }
    let cut = image::open(at.join("cut/MOT17-02_0003/000031.jpg")).unwrap().to_rgb8();
    assert_eq!(cut.dimensions(), (20, 60));
    assert!(cut.get_pixel(10, 30)[0].abs_diff(140) < 8 && cut.pixels().all(|pixel| pixel[0] > 70), "the third alone");
    let ended = train(at, &run("--data_train cut/crops.csv --save cut")).ok();
    assert!(ended.stderr.contains("6 of 6 queries have a match"), "{}", ended.stderr);
    crops(&["-o", "cut"]).refused(&["`cut`", "--output"]);
    crops(&["-o", "other", "--class", "7"]).refused(&["`MOT17`"]);
    crops(&["-o", "other", "--visibility", "1.5"]).refused(&["--visibility", "1.5"]);
    train(at, &["crops", "cut", "-o", "other"]).refused(&["`cut`", "gt/gt.txt"]);
    assert!(!at.join("other").exists(), "nothing is written of what is refused");
}

/// The same pictures train the same network, whether folders or a table say who is on them.
#[test]
fn a_table_trains_as_its_folders_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    market(&at.join("data"), 4, 1);
    let set = Dataset::open("market1501", &at.join("data"), &Options::default()).unwrap();
    let (mut csv, mut lines) = ("path;identity;camera;split\n".to_owned(), String::new());
    for (split, samples) in [("train", &set.train), ("query", &set.query), ("gallery", &set.gallery)] {
        for one in samples {
            let path = one.path.strip_prefix(at).unwrap().display();
            let name = if one.identity == 0 { "" } else { &one.identity_name };
            writeln!(csv, "{path};{name};{};{split}", one.camera).unwrap();
            let line =
                serde_json::json!({ "path": path.to_string(), "identity": name, "camera": one.camera, "split": split });
            writeln!(lines, "{line}").unwrap();
        }
    }
    std::fs::write(at.join("own.csv"), csv).unwrap();
    std::fs::write(at.join("own.jsonl"), lines).unwrap();
    let ended = train(at, &run("--datadir data --data_train market1501 --save layout")).ok();
    assert!(
        ended.stderr.contains("test on market1501: 6 of 6 queries have a match from another camera"),
        "{}",
        ended.stderr
    );
    for name in ["own.csv", "own.jsonl"] {
        // No folder of datasets is needed.
        let ended = train(at, &run(&format!("--data_train {name} --save {name}"))).ok();
        assert!(ended.stderr.contains(&format!("test on {name}: 6 of 6")), "{}", ended.stderr);
        let file = |run: &str| tensors(&at.join("runs/reid").join(run).join("final_model.safetensors"));
        assert!(file(name) == file("layout"), "{name}");
        let metrics =
            |run: &str| json(&at.join("runs/reid").join(run).join("training_history.json"))[0]["metrics"].clone();
        assert_eq!(metrics(name), metrics("layout"));
    }
    // A run finds its table from any folder.
    let (elsewhere, run_of) = (at.join("elsewhere"), at.join("runs/reid/own.csv").display().to_string());
    std::fs::create_dir(&elsewhere).unwrap();
    train(&elsewhere, &["reid", "--resume", &run_of, "--epochs", "2"]).ok();
    train(&elsewhere, &["eval", &run_of]).ok();
    std::fs::write(at.join("wrong.csv"), "path,identity,camera,split\n../x.jpg,1,1,train\n").unwrap();
    train(at, &run("--data_train wrong.csv")).refused(&["`wrong.csv`", "line", "2", "`path`", "`../x.jpg`", "`..`"]);
    std::fs::write(at.join("train.csv"), "path,identity,camera,split\ndata/query,1,1,train\nwrong.csv,1,2,train\n")
        .unwrap();
    train(at, &run("--data_train train.csv")).refused(&["`train.csv`", "`query`", "1", "`--data-test none`"]);
    train(at, &run("--data_train absent.csv")).refused(&["`absent.csv`", "`Market-1501-v15.09.15`"]);
}

/// Sets that train together and others that test: each test set has its own numbers, and those of the first have no
/// name in front.
#[test]
fn joined_sets_train_and_other_sets_test() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (place, identities, seed) in [("Market-1501-v15.09.15", 4, 1), ("MSMT17", 3, 2), ("DukeMTMC-reID", 2, 3)] {
        market(&at.join("data").join(place), identities, seed);
    }
    let sets = "--datadir data --data_train market1501+msmt17 --data_test dukemtmc+market1501 --save both";
    let ended = train(at, &run(sets)).ok();
    let told = &ended.stderr;
    assert!(told.contains("market1501+msmt17: 28 pictures of 7 identities"), "{told}");
    assert!(told.contains("test on dukemtmc: ") && told.contains("test on market1501: "), "{told}");
    assert!(!told.contains("also train"), "{told}");
    let history = json(&at.join("runs/reid/both/training_history.json"));
    let metrics = &history[0]["metrics"];
    for metric in ["mAP", "rank1", "market1501_mAP", "market1501_rank1"] {
        assert!(metrics[metric].is_number(), "{metric} is not in {history}");
    }
    assert_eq!(json(&at.join("runs/reid/both/run.json"))["dataset"], "market1501+msmt17");
    // The numbers are those of an evaluation on the set alone.
    for (set, metric) in [("dukemtmc", "mAP"), ("market1501", "market1501_mAP")] {
        let table = train(at, &["eval", "runs/reid/both", "--dataset", set, "--format", "json"]).ok().stdout;
        let report: serde_json::Value = serde_json::from_str(&table).unwrap();
        let (alone, then) = (&report[0]["ranking"]["map"], &metrics[metric]);
        assert!((alone.as_f64().unwrap() - then.as_f64().unwrap()).abs() < 1e-9, "{set}: {alone} and {then}");
    }
    // A test person among those who train is noticed in joined sets as well.
    let own = at.join("data/Market-1501-v15.09.15");
    let query = std::fs::read_dir(own.join("query")).unwrap().next().unwrap().unwrap();
    std::fs::copy(query.path(), own.join("bounding_box_train").join(query.file_name())).unwrap();
    let ended = train(at, &run(&format!("{sets} --overwrite --epochs 0"))).ok();
    assert!(ended.stderr.contains("market1501: 1 of 3 people that are tested also train"), "{}", ended.stderr);
}

/// Findings are no error; a data set that cannot be listed is one.
#[test]
fn an_audit_tells_what_is_wrong_with_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let data = at.join("data");
    market(&data, 4, 1);
    let clean = train(at, &["audit", "data"]).ok().stdout;
    assert!(clean.contains("market1501\n  train    16 pictures of 4 identities, 2 cameras"), "{clean}");
    assert!(clean.contains("6 of 6 queries have a match from another camera"), "{clean}");
    // A person of the test trains, too, with a query's picture and with one that is damaged.
    let mut queries: Vec<_> = std::fs::read_dir(data.join("query")).unwrap().map(|one| one.unwrap().path()).collect();
    queries.sort();
    let who = &queries[0].file_name().unwrap().to_str().unwrap()[..4];
    let training = data.join("bounding_box_train");
    std::fs::copy(&queries[0], training.join(format!("{who}_c2s9_000001_01.jpg"))).unwrap();
    std::fs::write(training.join(format!("{who}_c1s9_000002_01.jpg")), "no picture").unwrap();
    let told = train(at, &["audit", "market1501", "--datadir", "data", "--report", "audit.html"]).ok();
    for title in ["identities that train and are tested", "equal pictures, one trains and one tests", "cannot be read"]
    {
        assert!(told.stdout.contains(title), "{title} is not in {}", told.stdout);
    }
    let page = std::fs::read_to_string(at.join("audit.html")).unwrap();
    assert!(page.contains("data:image/jpeg") && page.contains("s9_000001_01.jpg"), "no picture of the leak");
    let json = train(at, &["audit", "data", "--format", "json", "--n-thread", "1"]).ok().stdout;
    let audit: serde_json::Value = serde_json::from_str(&json).unwrap();
    let count = |kind: &str| {
        let all = audit["findings"].as_array().unwrap();
        all.iter().find(|one| one["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in {json}"))["count"].clone()
    };
    assert_eq!([count("shared-identities"), count("equal-across-splits"), count("unreadable")], [1, 1, 1]);
    train(at, &["audit", "nowhere"]).refused(&["`nowhere`", "market1501"]);
    train(at, &["audit", "market1501", "--datadir", "nowhere"]).refused_saying("`nowhere` does not exist");
    train(at, &["audit", "data", "--cuhk03-labeled"]).refused(&["--cuhk03-labeled", "market1501"]);
    train(at, &["audit", "data", "--distance", "33"]).refused(&["--distance", "'33'", "32"]);
    train(at, &["audit", "data", "--min-side", "0"]).refused(&["--min-side", "0", "1"]);
}
