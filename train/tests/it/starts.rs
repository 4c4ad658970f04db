//! How runs start: what is refused changes nothing, one process has a directory, and nothing is trained twice.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use train::run::checkpoint::Checkpoint;

use crate::support::{Ended, coloured, command, files, json, pictures, small, tensors, train};

/// A run of the smallest network on a few pictures.
fn tiny<'a>(more: &[&'a str]) -> Vec<&'a str> {
    small(&[&["--model", "OSNet_x0_25", "--test_every", "1"], more].concat())
}

/// A folder with pictures and runs of so many epochs.
fn with_runs(runs: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path(), 4, 8);
    for (name, epochs) in runs {
        train(folder.path(), &tiny(&["--save", name, "--epochs", epochs])).ok();
    }
    folder
}

#[test]
fn a_refused_run_changes_nothing() {
    let folder = with_runs(&[("a", "2"), ("b", "1")]);
    let at = folder.path();
    let runs = ["runs/reid/a", "runs/reid/b"].map(|run| at.join(run));
    let before = runs.clone().map(|run| files(&run));
    let best = "runs/reid/a/best_model.safetensors";
    let best_path = format!("`{best}`");
    for (arguments, facts) in [
        (&["--resume", best, "--save-dir", "runs/reid/b", "--overwrite"][..], &[best_path.as_str(), "--pre-train"][..]),
        (&["--resume", best, "--lr", "1"], &[&best_path, "--pre-train"]),
        (&["--resume", "a", "--optimizer", "SGD", "--epochs", "3"], &["ADAM", "SGD"]),
        (&["--resume", "a", "--epochs", "3", "--loss", "1*Nothing"], &["`Nothing`", "Triplet"]),
        (&["--resume", "a", "--save-dir", "runs/reid/b"], &["`runs/reid/b`", "--overwrite"]),
        (
            &["--resume", "a", "--save-dir", "./runs/reid/a", "--overwrite"],
            &["--overwrite", "`./runs/reid/a`", "--resume"],
        ),
    ] {
        train(at, &[&["reid"], arguments].concat()).refused(facts);
        assert!(runs.clone().map(|run| files(&run)) == before, "{arguments:?}");
    }
    // The history of a run that continues is read before anything is written, too.
    std::fs::write(runs[0].join("training_history.json"), "not a list").unwrap();
    let before = files(&runs[0]);
    train(at, &["reid", "--resume", "a", "--epochs", "3"]).refused(&["training_history.json"]);
    assert!(files(&runs[0]) == before);
}

#[test]
fn the_second_process_in_a_directory_is_refused() {
    let folder = with_runs(&[]);
    let at = folder.path();
    let run = at.join("runs/reid/one");
    let long = tiny(&["--save", "one", "--epochs", "10000"]);
    let mut first = command(at, &long).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let begun = Instant::now();
    while Checkpoint::newest(&run).ok().flatten().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "the first run does not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
    let holder = first.id().to_string();
    train(at, &["reid", "--resume", "one"]).refused(&[&holder, "`runs/reid/one`"]);
    train(at, &tiny(&["--save", "one"])).refused(&[&holder, "`runs/reid/one`"]);
    train(at, &tiny(&["--save", "one", "--overwrite"])).refused(&[&holder, "`runs/reid/one`"]);
    assert!(first.try_wait().unwrap().is_none(), "the first run goes on");
    first.kill().unwrap();
    first.wait().unwrap();
    // The lock of a process that was killed is nobody's.
    let done = Checkpoint::newest(&run).unwrap().unwrap().record.epoch + 1;
    train(at, &["reid", "--resume", "one", "--epochs", &done.to_string()]).ok();
}

/// Two processes that begin at the same moment in a directory that is not there yet: one trains, one is refused.
#[test]
fn of_two_that_begin_together_one_trains() {
    let folder = with_runs(&[]);
    let at = folder.path();
    for round in 0..3 {
        let save = format!("round{round}");
        let ended: Vec<Ended> = std::thread::scope(|scope| {
            let start = |seed: &'static str| {
                let save = save.as_str();
                scope.spawn(move || train(at, &tiny(&["--save", save, "--epochs", "2", "--seed", seed])))
            };
            [start("2"), start("3")].into_iter().map(|run| run.join().unwrap()).collect()
        });
        let codes: Vec<_> = ended.iter().map(|ended| ended.code).collect();
        assert!(codes == [Some(0), Some(2)] || codes == [Some(2), Some(0)], "{ended:?}");
        let run = at.join("runs/reid").join(&save);
        let seed = json(&run.join("run.json"))["seed"].clone();
        for checkpoint in [Checkpoint::newest(&run).unwrap(), Checkpoint::best(&run).unwrap()] {
            assert_eq!(checkpoint.unwrap().record.config["seed"], seed);
        }
    }
}

/// A checkpoint file whose record says that epoch `epoch` was the best.
fn with_best(file: &[u8], value: f64, epoch: usize) -> Vec<u8> {
    let (length, rest) = file.split_first_chunk::<8>().unwrap();
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let text = &mut header["__metadata__"]["vitrine"];
    let mut record: serde_json::Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    record["best"] = serde_json::json!([value, epoch]);
    *text = record.to_string().into();
    let mut header = header.to_string();
    // Tensors begin at a multiple of 8 bytes.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), tensors].concat()
}

#[test]
fn the_best_network_of_a_future_that_is_given_up_goes() {
    let folder = with_runs(&[("run", "3")]);
    let at = folder.path();
    let run = at.join("runs/reid/run");
    let first = Checkpoint::open(&run.join("checkpoint_epoch_2.safetensors")).unwrap();
    // As if the third epoch had been the best.
    let best = run.join("best_model.safetensors");
    let third = std::fs::read(run.join("checkpoint_epoch_3.safetensors")).unwrap();
    std::fs::write(&best, with_best(&third, 0.99, 3)).unwrap();
    assert_eq!(Checkpoint::best(&run).unwrap().unwrap().record.best, Some((0.99, 3)));

    let resume = first.path.display().to_string();
    let ended = train(at, &["reid", "--resume", &resume, "--lr", "1e-9", "--epochs", "3"]).ok();
    assert!(!ended.stdout.contains("0.99"), "{}", ended.stdout);
    let history = json(&run.join("training_history.json"));
    let kept = Checkpoint::best(&run).unwrap().unwrap().record;
    let (value, epoch) = kept.best.unwrap();
    let of_epoch = history.as_array().unwrap().iter().find(|record| record["epoch"] == epoch).unwrap();
    assert!((of_epoch["metrics"]["mAP"].as_f64().unwrap() - value).abs() < 1e-9, "{history}");
}

/// In a run with an average of weights the best network is the average that was evaluated, also where it has to be
/// taken from a checkpoint, whose own weights are those of the last step.
#[test]
fn the_best_network_of_a_run_with_an_average_is_the_average() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    pictures(at, 4, 8);
    for (name, epochs) in [("short", "1"), ("long", "2")] {
        train(at, &tiny(&["--save", name, "--epochs", epochs, "--ema", "0.5"])).ok();
    }
    let file = |run: &str, name: &str| at.join("runs/reid").join(run).join(format!("{name}.safetensors"));
    // As if the second epoch had been the best: the run that goes on behind the first gives it up.
    let second = std::fs::read(file("long", "checkpoint_epoch_2")).unwrap();
    std::fs::write(file("long", "best_model"), with_best(&second, 0.99, 2)).unwrap();
    let first = file("long", "checkpoint_epoch_1").display().to_string();
    train(at, &["reid", "--resume", &first, "--epochs", "1"]).ok();
    let best = tensors(&file("long", "best_model"));
    assert!(best == tensors(&file("short", "best_model")), "what was evaluated after the first epoch");
    assert!(best != tensors(&file("long", "checkpoint_epoch_1")), "the weights of the last step are others");
}

#[test]
fn a_directory_with_files_of_a_run_is_not_taken() {
    let folder = with_runs(&[("a", "1")]);
    let at = folder.path();
    let other = at.join("runs/reid/x");
    std::fs::create_dir(&other).unwrap();
    std::fs::copy(at.join("runs/reid/a/final_model.safetensors"), other.join("best_model.safetensors")).unwrap();
    let before = files(&other);
    let weights = "runs/reid/x/best_model.safetensors";
    train(at, &tiny(&["--save", "x", "--pre-train", weights])).refused(&[
        "`runs/reid/x`",
        "`runs/reid/x/best_model.safetensors`",
        "--overwrite",
    ]);
    assert!(files(&other) == before);
    train(at, &tiny(&["--save", "x", "--pre-train", weights, "--overwrite", "--epochs", "1"])).ok();
}

#[test]
fn a_run_is_found_by_name_or_path_from_anywhere() {
    let folder = with_runs(&[("test", "1"), ("other", "1")]);
    let at = folder.path();
    std::fs::create_dir(at.join("test")).unwrap();
    train(at, &["reid", "--resume", "test", "--epochs", "2"]).ok();
    // From another folder: the run's relative data folder is the one where it was started.
    let elsewhere = at.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let ended = train(&elsewhere, &["reid", "--resume", "../runs/reid/test", "--epochs", "3"]).ok();
    assert!(ended.stderr.contains("relative to where the run was started"), "{}", ended.stderr);
    let there = train(&elsewhere, &["eval", "../runs/reid/test", "--format", "json"]).ok().stdout;
    assert_eq!(there, train(at, &["eval", "runs/reid/test", "--format", "json"]).ok().stdout);
    // Another folder of the data's name is here: the run's own is meant, unless a flag asks for this one.
    coloured(&elsewhere.join("data"), 6, 3, 60.0);
    let eval =
        |at: &Path, run: &str, more: &[&str]| train(at, &[&["eval", run, "--format", "json"], more].concat()).ok();
    let (again, there) = (eval(&elsewhere, "../runs/reid/other", &[]), eval(at, "runs/reid/other", &[]));
    assert!(
        again.stdout == there.stdout && again.stderr.contains("relative to where the run was started"),
        "{again:?}"
    );
    let here = eval(&elsewhere, "../runs/reid/other", &["--datadir", "data"]);
    assert!(here.stdout != there.stdout && !here.stderr.contains("relative to where"), "{here:?}");
    let line = ["reid", "--resume", "../runs/reid/other", "--epochs", "2", "--save-dir", "more"];
    train(&elsewhere, &line).ok();
    let data = json(&elsewhere.join("more/run.json"))["config"]["datadir"].as_str().unwrap().to_owned();
    assert_eq!(Path::new(&data).canonicalize().unwrap(), at.join("data").canonicalize().unwrap());
    // A run that was killed before its first checkpoint.
    let killed = at.join("runs/reid/killed");
    std::fs::create_dir(&killed).unwrap();
    std::fs::copy(at.join("runs/reid/test/run.json"), killed.join("run.json")).unwrap();
    for name in ["killed", "runs/reid/killed"] {
        train(at, &["reid", "--resume", name]).refused(&["`runs/reid/killed`", "--overwrite", "--resume"]);
    }
}

#[test]
fn a_damaged_checkpoint_names_one_that_is_whole() {
    let folder = with_runs(&[("run", "2")]);
    let at = folder.path();
    let run = at.join("runs/reid/run");
    let (weights, state) = (run.join("checkpoint_epoch_2.safetensors"), run.join("checkpoint_epoch_2.state"));
    let whole = [std::fs::read(&weights).unwrap(), std::fs::read(&state).unwrap()];
    let way = ["`runs/reid/run/checkpoint_epoch_1.safetensors`", "--resume"];
    let resume = |facts: &[&str]| {
        let before = files(&run);
        train(at, &["reid", "--resume", "run", "--epochs", "3"]).refused(&[&way, facts].concat());
        assert!(files(&run) == before);
    };
    std::fs::write(&weights, &whole[0][..whole[0].len() / 2]).unwrap();
    resume(&["checkpoint_epoch_2.safetensors"]);
    std::fs::write(&weights, &whole[0][..4]).unwrap();
    resume(&["checkpoint_epoch_2.safetensors"]);
    std::fs::write(&weights, &whole[0]).unwrap();
    std::fs::write(&state, &whole[1][..whole[1].len() / 2]).unwrap();
    resume(&["checkpoint_epoch_2.state", "SHA-256"]);
    std::fs::remove_file(&state).unwrap();
    resume(&["checkpoint_epoch_2.state"]);
    let first = "runs/reid/run/checkpoint_epoch_1.safetensors";
    train(at, &["reid", "--resume", first, "--epochs", "2"]).ok();
    assert!(
        tensors(&weights) == {
            std::fs::write(at.join("old"), &whole[0]).unwrap();
            tensors(&at.join("old"))
        }
    );
}

/// A limit on the size of files stands in for a disk that is full: every write behind it fails.
#[cfg(unix)]
#[test]
fn a_full_disk_costs_no_checkpoint() {
    let folder = with_runs(&[("run", "2")]);
    let at = folder.path();
    let run = at.join("runs/reid/run");
    let weights = std::fs::metadata(run.join("checkpoint_epoch_2.safetensors")).unwrap().len();
    let state = std::fs::metadata(run.join("checkpoint_epoch_2.state")).unwrap().len();
    assert!(state > weights, "the state has two moments of each weight");
    let limited = |kib: u64, arguments: &str| -> Ended {
        let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$0\" {arguments}");
        let mut bash = Command::new("bash");
        bash.args(["-c", &script, env!("CARGO_BIN_EXE_train")]).current_dir(at);
        bash.output().unwrap().into()
    };
    let checkpoints = || {
        let mut found = files(&run);
        found.retain(|name, _| name.starts_with("checkpoint_"));
        found
    };
    let before = checkpoints();
    // Of epoch 3 nothing fits; then the weights do, and the state does not.
    for kib in [weights / 2048, (weights + state) / 2048] {
        let ended = limited(kib, "reid --resume run --epochs 3").refused(&[
            "checkpoint_epoch_2_step_",
            "bytes",
            "`runs/reid/run/checkpoint_epoch_2.safetensors`",
            "--resume",
        ]);
        assert!(checkpoints() == before, "{}", ended.stderr);
    }
    // The same checkpoint once more: epoch 2 is done again, and its files are not replaced by half.
    let first = "runs/reid/run/checkpoint_epoch_1.safetensors";
    // If epoch 2 is better than epoch 1, its weights are the first file that does not fit.
    let ended = limited(weights / 2048, &format!("reid --resume {first} --epochs 2"));
    let named = ["checkpoint_epoch_1_step_", "best_model.safetensors"].iter().any(|name| ended.stderr.contains(name));
    assert!(ended.code == Some(2) && named, "{}", ended.stderr);
    assert!(checkpoints() == before);
    train(at, &["reid", "--resume", "run", "--epochs", "3"]).ok();
    let litter = files(&run).into_keys().filter(|name| name.starts_with(".vitrine-")).count();
    assert_eq!(litter, 0);
}

#[test]
fn what_a_killed_run_left_unfinished_is_swept() {
    let folder = with_runs(&[("run", "1")]);
    let run = folder.path().join("runs/reid/run");
    std::fs::write(run.join(".vitrine-abcdef.tmp"), "half a checkpoint").unwrap();
    train(folder.path(), &["reid", "--resume", "run", "--epochs", "2"]).ok();
    assert!(!Path::new(&run.join(".vitrine-abcdef.tmp")).exists());
}

#[test]
fn shells_and_the_manual_know_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let text = train(folder.path(), &["completions", "bash"]).stdout;
    for word in ["reid", "palmvein", "bench-step", "completions", "--batchimage"] {
        assert!(text.contains(word), "no {word}");
    }
    assert!(train(folder.path(), &["man", "man1"]).stdout.ends_with("train.1\n"));
    for (page, word) in
        [("train.1", "senet"), ("train-reid.1", "\\-\\-batchimage"), ("train-palmvein-stage1.1", "\\-\\-epochs")]
    {
        let text = std::fs::read_to_string(folder.path().join("man1").join(page)).unwrap();
        assert!(text.contains(word), "{page}");
    }
}
