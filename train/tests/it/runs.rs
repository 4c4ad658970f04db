//! Whole runs of the program on a few small pictures.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;
use train::run::checkpoint::Checkpoint;

use crate::support::{self, Ended, command, files, json, pictures, small, tensors, train};

/// A folder with pictures and `runs/reid/straight`: two epochs in one go, made once for all tests. Made afresh by
/// each test program, and left in the build folder.
fn straight() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("straight");
        let _ = std::fs::remove_dir_all(&folder);
        pictures(&folder, 8, 6);
        let ended = train(&folder, &small(&["--epochs", "2", "--test-every", "1", "--save", "straight"])).ok();
        std::fs::write(folder.join("stdout"), ended.stdout).unwrap();
        std::fs::write(folder.join("stderr"), ended.stderr).unwrap();
        folder
    })
}

fn run(name: &str) -> PathBuf {
    straight().join("runs/reid").join(name)
}

/// The numbers of a history that a resumed run must repeat: all but the clock's.
fn numbers(run: &Path) -> Vec<Value> {
    let mut records = json(&run.join("training_history.json")).as_array().unwrap().clone();
    for record in &mut records {
        for clock in ["seconds", "waiting", "images_per_second", "finished"] {
            record.as_object_mut().unwrap().remove(clock).unwrap();
        }
    }
    records
}

#[test]
fn a_run_writes_its_directory() {
    let names: Vec<String> = files(&run("straight")).into_keys().collect();
    let wanted = [
        "best_model.safetensors",
        "checkpoint_epoch_1.safetensors",
        "checkpoint_epoch_1.state",
        "checkpoint_epoch_2.safetensors",
        "checkpoint_epoch_2.state",
        "final_model.safetensors",
        "metrics.csv",
        "run.json",
        "training_curves.png",
        "training_history.json",
    ];
    let others: Vec<&String> = names.iter().filter(|name| !wanted.contains(&name.as_str())).collect();
    assert!(matches!(&others[..], [events] if events.starts_with("events.out.tfevents.")), "{names:?}");
    assert!(wanted.iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");

    let facts = json(&run("straight").join("run.json"));
    assert!(facts["command"].as_str().unwrap().contains("--epochs 2"), "{facts}");
    assert_eq!(
        (&facts["config"]["epochs"], &facts["seed"], &facts["dataset"]),
        (&2.into(), &1.into(), &"folders".into())
    );
    assert_eq!(facts["dataset_fingerprint"].as_str().unwrap().len(), 64);
    assert_eq!(facts["versions"]["burn"], "0.22.1");
    let records = numbers(&run("straight"));
    let terms = records[1]["terms"].as_object().unwrap();
    assert_eq!(terms.keys().collect::<Vec<_>>(), ["CrossEntropy", "MSLoss"]);
    for metric in ["mAP", "mINP", "rank1", "rank3", "rank5", "rank10"] {
        assert!((0.0..=1.0).contains(&records[0]["metrics"][metric].as_f64().unwrap()), "{metric}");
    }

    let said = |name: &str| std::fs::read_to_string(straight().join(name)).unwrap();
    let (stdout, stderr) = (said("stdout"), said("stderr"));
    assert!(stdout.starts_with("runs/reid/straight, best mAP ") && stdout.lines().count() == 1, "{stdout}");
    for text in
        ["starting from random weights (seed 1)", "folders: 24 pictures of 4 identities", "epoch 1/2  lr ", "epoch 2/2"]
    {
        assert!(stderr.contains(text), "`{text}` is not in: {stderr}");
    }
    assert!(stderr.contains("img/s") && !stderr.contains("unreadable"), "{stderr}");

    let best = Checkpoint::open(&run("straight")).unwrap();
    assert!(best.path.ends_with("best_model.safetensors"));
    assert_eq!(best.record.best.unwrap().1, best.record.epoch);
}

#[test]
fn a_run_continues_in_another_directory_from_a_checkpoint_by_its_pytorch_name() {
    let checkpoint = "runs/reid/straight/checkpoint_epoch_1.pth";
    train(straight(), &["reid", "--resume", checkpoint, "--save-dir", "elsewhere"]).ok();
    let elsewhere = straight().join("elsewhere");
    assert_eq!(numbers(&elsewhere), numbers(&run("straight")));
    let last = "checkpoint_epoch_2.safetensors";
    assert_eq!(tensors(&elsewhere.join(last)), tensors(&run("straight").join(last)));
    train(straight(), &["reid", "--resume", checkpoint, "--save-dir", "elsewhere"])
        .refused(&["`elsewhere`", "--overwrite"]);
}

#[test]
fn two_epochs_are_one_and_a_resumed_one() {
    let ended = train(straight(), &small(&["--epochs", "1", "--test-every", "1", "--save", "halves"])).ok();
    assert!(ended.stdout.contains("after epoch 1"), "{}", ended.stdout);
    let ended = train(straight(), &["reid", "--resume", "halves", "--epochs", "2"]).ok();
    assert!(ended.stderr.contains("checkpoint_epoch_1.safetensors after epoch 1\n"), "{}", ended.stderr);
    same_as_straight("halves");
    // A finished run has nothing to continue.
    train(straight(), &["reid", "--resume", "halves"]).ok();
    same_as_straight("halves");
}

fn same_as_straight(name: &str) {
    assert_eq!(numbers(&run(name)), numbers(&run("straight")));
    for file in ["final_model", "best_model", "checkpoint_epoch_2"] {
        let file = format!("{file}.safetensors");
        let (found, wanted) = (tensors(&run(name).join(&file)), tensors(&run("straight").join(&file)));
        let different: Vec<_> = wanted.iter().filter(|(key, bytes)| found.get(*key) != Some(bytes)).collect();
        assert!(
            different.is_empty() && found.len() == wanted.len(),
            "{file}: {:?}",
            different.iter().map(|(key, _)| key).collect::<Vec<_>>()
        );
    }
    let state = |name| std::fs::read(run(name).join("checkpoint_epoch_2.state")).unwrap();
    assert!(state(name) == state("straight"), "state of the optimiser");
}

/// Ctrl-C as a shell sends it, somewhere in the first or second epoch.
#[cfg(unix)]
#[test]
fn an_interrupted_run_continues_as_if_it_had_not_been() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let arguments = small(&["--epochs", "2", "--test-every", "1", "--save", "interrupted"]);
    let mut child = command(straight(), &arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // The handler is there before run.json, and that before the first step.
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let reader = std::thread::spawn(move || stderr.lines().map(Result::unwrap).collect::<Vec<_>>().join("\n"));
    let began = Instant::now();
    while !run("interrupted").join("run.json").exists() {
        assert!(began.elapsed() < Duration::from_secs(120), "no run began");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let ended = Ended { stderr: reader.join().unwrap(), ..child.wait_with_output().unwrap().into() };
    assert_eq!(ended.code, Some(130), "{}", ended.stderr);
    assert!(ended.stderr.contains("continue with `train reid --resume runs/reid/interrupted`"), "{}", ended.stderr);
    assert!(!run("interrupted").join("final_model.safetensors").exists());
    let within: Vec<String> = files(&run("interrupted")).into_keys().filter(|name| name.contains("_step_")).collect();
    println!("interrupted at {within:?}");
    assert_eq!(within.len(), 2, "within the first epoch");

    let ended = train(straight(), &["reid", "--resume", "runs/reid/interrupted"]).ok();
    println!("{}", ended.stderr);
    same_as_straight("interrupted");
    let left = files(&run("interrupted")).into_keys().filter(|name| name.contains("_step_")).count();
    assert_eq!(left, 0, "checkpoints within an epoch go when it is done");
}

#[test]
fn no_epochs_save_the_untrained_network() {
    let ended = train(straight(), &small(&["--epochs", "0", "--save", "untrained"])).ok();
    assert!(ended.stdout.contains("best mAP") && ended.stdout.contains("after epoch 0"), "{}", ended.stdout);
    let (best, last) =
        (run("untrained").join("best_model.safetensors"), run("untrained").join("final_model.safetensors"));
    assert!(tensors(&best) == tensors(&last));
    assert_eq!(Checkpoint::open(&last).unwrap().record.metrics.len(), 6);
    // Pictures that differ in noise only are all the same to a network that has learned nothing.
    support::coloured(&straight().join("noise"), 4, 4, 0.0);
    let ended = train(straight(), &["eval", "runs/reid/untrained", "--datadir", "noise"]).ok();
    assert!(ended.stderr.contains("warning: the embeddings are nearly identical (mean cosine 0.9"), "{}", ended.stderr);
}

#[test]
fn evaluation_repeats_to_the_last_bit_and_equals_that_of_training() {
    let eval =
        |more: &[&str]| train(straight(), &[&["eval", "runs/reid/straight", "--format", "json"], more].concat()).ok();
    let first = eval(&[]);
    assert_eq!(first.stdout, eval(&["--batchtest", "5", "--n-thread", "1"]).stdout);
    let reports: Value = serde_json::from_str(&first.stdout).unwrap();
    let ranking = &reports[0]["ranking"];
    let best = Checkpoint::open(&run("straight")).unwrap();
    assert_eq!(ranking["map"].as_f64().unwrap(), best.record.metrics["mAP"]);
    assert_eq!(ranking["cmc"][0].as_f64().unwrap(), best.record.metrics["rank1"]);
    assert_eq!(reports[0]["skipped"], 0);
    let table = train(straight(), &["eval", "runs/reid/straight", "--rerank"]).ok();
    for text in ["folders: 12 of 12 queries", "cosine", "re-ranked", "Rank-1", "mINP", "95 % intervals over 4 people"] {
        assert!(table.stdout.contains(text), "{}", table.stdout);
    }
}

/// What else can be asked: each is told in the table, and the page has the curves and the queries with their pictures.
#[test]
fn an_evaluation_is_expanded_re_ranked_drawn_and_shown() {
    let eval = |more: &[&str]| train(straight(), &[&["eval", "runs/reid/straight"], more].concat()).ok();
    let asked = ["--rerank", "--expand", "2", "--single-shot", "--report", "page.html"];
    let table = eval(&asked).stdout;
    for text in ["queries expanded by the 2 nearest entries", "single shot ", "re-ranked "] {
        assert!(table.contains(text), "{table}");
    }
    let of = |more: &[&str]| -> Value {
        let reports: Value = serde_json::from_str(&eval(&[more, &["--format", "json"]].concat()).stdout).unwrap();
        reports[0].clone()
    };
    let (plain, full) = (of(&[]), of(&asked));
    assert_eq!(
        (&plain["expanded"], &plain["single_shot"], &plain["reranked"]),
        (&0.into(), &Value::Null, &Value::Null)
    );
    let (ranking, shot) = (&full["ranking"], full["single_shot"].as_array().unwrap());
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&ranking["minp"]) > 0.0 && number(&ranking["minp"]) <= number(&ranking["map"]), "{ranking}");
    assert!(number(&ranking["intervals"]["map"]["low"]) <= number(&ranking["map"]), "{ranking}");
    // With one picture of each person fewer entries can come before the right one.
    assert!(shot.len() == 50 && shot.windows(2).all(|pair| number(&pair[0]) <= number(&pair[1])), "{shot:?}");
    assert!(number(&shot[3]) == 1.0, "four people: {shot:?}");

    let page = std::fs::read_to_string(straight().join("page.html")).unwrap();
    assert_eq!(page.matches("<section>").count(), 12, "the queries");
    for text in
        [">CMC<", ">same person<", ">re-ranking<", "By cosine similarity", "LMBN_n", "image/jpeg", "over 4 people"]
    {
        assert!(page.contains(text), "{text} in {page}");
    }
    assert!(!page.contains(&*straight().to_string_lossy()), "the folders of this machine are nobody's business");
    train(straight(), &["eval", "runs/reid/straight", "--expand", "1001"]).refused(&["--expand", "1000"]);
}

/// Pictures of queries are in TensorBoard's file and on the page where they were asked for, and nowhere else.
#[test]
fn activation_maps_and_ranked_lists_are_drawn_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    pictures(at, 8, 4);
    let flags = ["--model", "OSNet_x0_25", "--epochs", "2", "--test_every", "1"];
    let run = |save: &str, more: &[&str]| {
        train(at, &small(&[&flags, &["--save", save][..], more].concat())).ok();
        let events = files(&at.join("runs/reid").join(save)).into_iter();
        events.filter(|(name, _)| name.starts_with("events.")).map(|(_, bytes)| bytes).collect::<Vec<_>>().concat()
    };
    // Pictures are whole PNG files inside of events.
    let drawn = |events: &[u8]| -> Vec<image::RgbImage> {
        let starts = events.windows(8).enumerate().filter(|(_, bytes)| *bytes == b"\x89PNG\r\n\x1a\n");
        starts.map(|(at, _)| image::load_from_memory(&events[at..]).unwrap().to_rgb8()).collect()
    };
    assert!(drawn(&run("plain", &[])).is_empty());
    let both = drawn(&run("both", &["--activation_map", "--ranked-lists", "3"]));
    let sizes: Vec<_> = both.iter().map(image::RgbImage::dimensions).collect();
    // Eight queries (two of each tested person) of 32×32 with one map each; three of them with eight entries.
    let expected = [(2 * 36 + 4, 8 * 36 + 4), (9 * 36 + 4, 3 * 36 + 4)];
    assert_eq!(sizes, [expected, expected].concat(), "two pictures in each of two epochs");
    let ranked = &both[3];
    for row in 0..3 {
        let frames: Vec<[u8; 3]> = (1..9).map(|at| ranked.get_pixel(36 * at + 4, 36 * row + 4).0).collect();
        let green = frames.iter().filter(|frame| **frame == [46, 160, 67]).count();
        let red = frames.iter().filter(|frame| **frame == [218, 54, 51]).count();
        assert_eq!((green, red), (2, 6), "two entries of each person: {frames:?}");
    }
    let maps = drawn(&run("map", &["--activation-map"]));
    assert!(maps == [both[0].clone(), both[2].clone()], "the flags do not depend on one another");
    assert!(maps[0] != maps[1], "the network has learned");

    let page = |more: &[&str]| {
        train(at, &[&["eval", "runs/reid/map", "--report", "page.html"], more].concat()).ok();
        std::fs::read_to_string(at.join("page.html")).unwrap()
    };
    let (plain, looked) = (page(&[]), page(&["--activation-map"]));
    let title = "Where the network looks";
    assert!(!plain.contains(title) && looked.contains(title), "{plain}");
    let uris = looked.split("<img src=\"data:image/jpeg;base64,").skip(1);
    let decoded = uris.map(|uri| base64(uri.split('"').next().unwrap()));
    let decoded: Vec<_> =
        decoded.map(|bytes| image::load_from_memory(&bytes).unwrap().to_rgb8().dimensions()).collect();
    assert_eq!(decoded, [(32, 32); 16], "each of eight queries, and its map");
    train(at, &["eval", "runs/reid/map", "--activation-map"]).refused(&["--activation-map", "--report"]);
    let weights = "runs/reid/map/final_model.safetensors";
    for (flag, more) in
        [("--activation-map", ["--activation-map", "true"]), ("--ranked-lists", ["--ranked-lists", "2"])]
    {
        let line = small(&[&flags[..2], &["--test-only", "--pre-train", weights], &more].concat());
        train(at, &line).refused(&[flag, "--test-only"]);
        let line = small(&[&flags, &["--data-test", "none"][..], &more].concat());
        train(at, &line).refused(&[&flag[2..].replace('-', "_"), "--data-test"]);
    }
    train(at, &small(&["--ranked-lists", "1001"])).refused(&["--ranked-lists", "1000"]);
}

/// Bytes that are written in base64.
fn base64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let letters: Vec<u8> = text.bytes().filter(|letter| *letter != b'=').map(value).collect();
    let bits = letters.chunks(4).flat_map(|four| {
        let sum = four.iter().fold(0u32, |sum, six| sum << 6 | u32::from(*six)) << (6 * (4 - four.len()));
        sum.to_be_bytes()[1..four.len()].to_vec()
    });
    bits.collect()
}

/// A network of one set on two: each is evaluated on its own, and the last lines compare them.
#[test]
fn several_test_sets_are_compared_in_a_table() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let drawn = support::coloured(&at.join("drawn"), 6, 4, 60.0);
    for set in ["Market-1501-v15.09.15", "DukeMTMC-reID"] {
        for (identity, number) in (0..6).flat_map(|identity| (0..4).map(move |number| (identity, number))) {
            let part = match (identity, number) {
                (0..2, _) => "bounding_box_train",
                (_, 0) => "query",
                _ => "bounding_box_test",
            };
            let rest = if set.starts_with("Duke") { format!("_f{number:07}") } else { format!("s1_{number:06}_00") };
            let name = format!("{:04}_c{}{rest}.png", identity + 1, 1 + number % 2);
            let to = at.join("data").join(set).join(part);
            std::fs::create_dir_all(&to).unwrap();
            std::fs::copy(drawn.join(format!("id{identity}/{number}.png")), to.join(name)).unwrap();
        }
    }
    train(at, &small(&["--data_train", "market1501", "--data_test", "market1501+dukemtmc", "--epochs", "0"])).ok();
    let eval = |more: &[&str]| train(at, &[&["eval", "runs/reid/test"], more].concat()).ok().stdout;
    let table = eval(&["--report", "page.html"]);
    let lines: Vec<Vec<&str>> = table.lines().rev().take(3).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[2], ["dataset", "queries", "mAP", "mINP", "Rank-1"], "{table}");
    assert_eq!((lines[1][0], lines[0][0]), ("market1501", "dukemtmc"));
    assert_eq!(lines[1][1..], lines[0][1..], "the same pictures under other names");
    assert!(at.join("page-market1501.html").is_file() && at.join("page-dukemtmc.html").is_file());
    let other = eval(&["--data_test", "dukemtmc"]);
    assert!(other.starts_with("dukemtmc: 4 of 4 queries") && !other.contains("dataset "), "{other}");
}

#[test]
fn inspection_shows_the_run() {
    let table = train(straight(), &["inspect", "runs/reid/straight/checkpoint_epoch_2.safetensors"]).ok().stdout;
    assert!(table.contains("resumable   yes") && table.contains("epoch       2"), "{table}");
    let facts = train(straight(), &["inspect", "runs/reid/straight", "--format", "json"]).ok().stdout;
    let facts: Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["record"]["network"]["classes"], 4);
    assert!(facts["parameters"].as_u64().unwrap() > 5_000_000);
}

#[test]
fn flags_that_hang_on_another_are_refused_without_it() {
    train(straight(), &["inspect", "runs/reid/straight", "--pairs", "3"]).refused(&["--attention"]);
    train(straight(), &["inspect", "runs/reid/straight", "--sample", "3"]).refused(&["--channels"]);
}

#[test]
fn only_the_checkpoints_asked_for_are_kept() {
    let arguments = small(&["--epochs", "3", "--test-every", "0", "--keep-checkpoints", "1", "--save", "one"]);
    train(straight(), &arguments).ok();
    let names: Vec<String> = files(&run("one")).into_keys().filter(|name| name.starts_with("checkpoint")).collect();
    assert_eq!(names, ["checkpoint_epoch_3.safetensors", "checkpoint_epoch_3.state"]);
    let evaluated: Vec<bool> = numbers(&run("one")).iter().map(|record| record.get("metrics").is_some()).collect();
    assert_eq!(evaluated, [false, false, true], "only after the last epoch");
}

#[test]
fn names_of_the_scripts_people_come_from_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "reid",
        "--print-config",
        "--data_train",
        "market1501",
        "--data_test",
        "dukemtmc",
        "--w_cosine_annealing",
        "--if_labelsmooth",
        "--sampler",
        "True",
        "--random_erasing",
        "False",
        "--nThread",
        "3",
        "--batchid=6",
        "--data_dir",
        "d",
    ];
    let table = train(folder.path(), &arguments).ok().stdout;
    for (key, value) in [
        ("data_train", "\"market1501\""),
        ("data_test", "\"dukemtmc\""),
        ("w_cosine_annealing", "true"),
        ("if_labelsmooth", "true"),
        ("sampler", "true"),
        ("random_erasing", "false"),
        ("n_thread", "3"),
        ("batchid", "6"),
        ("datadir", "\"d\""),
    ] {
        let line = table.lines().find(|line| line.split_whitespace().next() == Some(key)).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, [key, value, "command", "line"]);
    }
    assert!(table.lines().any(|line| line.starts_with("epochs ") && line.ends_with("default")), "{table}");
    assert!(support::files(folder.path()).is_empty(), "nothing is run");
}

#[test]
fn a_step_is_timed_on_a_made_up_batch_and_on_pictures() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 4, 6);
    let small = "bench-step --model OSNet_x0_25 --height 32 --width 32 --steps 2 --format json";
    let run = |more: &[&str]| train(folder.path(), &[&small.split(' ').collect::<Vec<_>>(), more].concat());
    let facts = |more: &[&str]| serde_json::from_str::<Value>(&run(more).ok().stdout).unwrap();
    let [made_up, read] = [facts(&[]), facts(&["--datadir", "data"])];
    for facts in [&made_up, &read] {
        let phase = |name: &str| facts[name].as_array().unwrap().iter().map(|one| one.as_f64().unwrap()).collect();
        let phases = ["loader", "forward", "backward", "optimizer", "seconds"].map(phase);
        let [loader, forward, backward, update, seconds]: [Vec<f64>; 5] = phases;
        for step in 0..2 {
            let sum = loader[step] + forward[step] + backward[step] + update[step];
            assert!((sum - seconds[step]).abs() < 1e-9 && forward[step] > 0.0, "{facts}");
        }
        assert_eq!(facts["losses"].as_array().unwrap().len(), 3, "the step that warms up and two");
    }
    assert_ne!(made_up["losses"][0], read["losses"][0], "other pictures");
    run(&["--datadir", "data", "--batch", "6"]).refused(&["--batch", "6", "4"]);
    run(&["--datadir", "data", "--identities", "1"]).refused(&["data", "2", "1", "--identities"]);
    run(&["--datadir", "nowhere"]).refused(&["nowhere"]);
}

/// Settings of glibc's heap that a running `train` sees.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn freed_memory_is_kept_unless_the_environment_says_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let seen = |given: &[(&str, &str)]| {
        let endless = ["bench-step", "--model", "OSNet_x0_25", "--height", "32", "--width", "32", "--steps", "1000000"];
        let mut running = command(folder.path(), &endless).envs(given.iter().copied()).spawn().unwrap();
        // The program is started again within its first moments, which are long on a busy machine.
        let (deadline, mut seen) = (Instant::now() + Duration::from_secs(60), Vec::new());
        while seen.is_empty() && Instant::now() < deadline {
            let environment = std::fs::read(format!("/proc/{}/environ", running.id())).unwrap();
            let lines = environment.split(|byte| *byte == 0).map(|line| String::from_utf8_lossy(line).into_owned());
            seen = lines.filter(|line| line.starts_with("MALLOC_")).collect();
            seen.sort();
            std::thread::sleep(Duration::from_millis(10));
        }
        running.kill().unwrap();
        running.wait().unwrap();
        seen
    };
    let names: Vec<String> = seen(&[]).iter().map(|line| line.split('=').next().unwrap().to_owned()).collect();
    assert_eq!(names, ["MALLOC_MMAP_MAX_", "MALLOC_TOP_PAD_", "MALLOC_TRIM_THRESHOLD_"]);
    assert_eq!(seen(&[("MALLOC_TOP_PAD_", "0")]), ["MALLOC_TOP_PAD_=0"]);
}

/// Through the program: a run of the smallest OSNet, its weights imported again.
#[test]
fn osnet_runs_and_its_weights_are_imported() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    pictures(at, 6, 4);
    let model = ["--model", "OSNet_x0_25", "--epochs", "1", "--use_amp", "--nGPU", "1", "--save", ""];
    let ended = train(at, &small(&model)).ok();
    assert!(ended.stderr.contains("computing in float32: --use_amp changes nothing"), "{}", ended.stderr);
    let run = ended.stdout.split([',', '\n']).next().unwrap().to_owned();
    assert!(run.starts_with("runs/reid/run-"), "{run}");
    let facts = json(&at.join(&run).join("run.json"));
    assert_eq!((facts["device"].as_str(), facts["network"]["model"].as_str()), (Some("cpu"), Some("OSNet_x0_25")));
    assert!(facts["precision"].as_str().unwrap().starts_with("float32"));
    let weights = Path::new(&run).join("final_model.safetensors").display().to_string();
    let imported = ["import", &weights, "--model", "OSNet_x0_25", "--feats", "16", "-o", "again.safetensors"];
    train(at, &imported).ok();
    train(at, &["eval", "again.safetensors", "--datadir", "data", "--device", "auto"]).ok();
    train(at, &["eval", "again.safetensors", "--datadir", "data", "--device", "gpu"]).refused(&["`gpu`", "cuda:0"]);
    train(at, &small(&["--nGPU", "2"])).refused(&["--nGPU", "2"]);
}
