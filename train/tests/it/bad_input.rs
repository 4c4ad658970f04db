//! Data and runs that do not go together, each through the program.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{command, pictures, small, train};

#[test]
fn a_batch_larger_than_the_data_is_refused_and_single_pictures_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let data = pictures(at, 6, 4);
    let run = |more: &[&str]| train(at, &small(&[&["--model", "OSNet_x0_25", "--epochs", "1"], more].concat()));
    run(&["--batchid", "4"]).refused(&["4", "3", "--batchid"]);
    run(&["--batchid", "4", "--batchimage", "4", "--sampler", "False"]).refused(&["16", "12", "--batchid"]);
    assert!(!at.join("runs").exists(), "nothing was begun");
    // More pictures of each identity than there are: some come more than once.
    run(&["--batchid", "3", "--batchimage", "8", "--save", "many"]).ok();
    for picture in ["1", "2", "3"] {
        std::fs::remove_file(data.join(format!("id0/{picture}.png"))).unwrap();
    }
    let ended = run(&["--batchid", "3", "--save", "single"]).ok();
    let told = "1 of 3 identities have one training picture, which is in a batch 2 times";
    assert!(ended.stderr.contains(told), "{}", ended.stderr);
    let ended = run(&["--sampler", "False", "--save", "any"]).ok();
    assert!(!ended.stderr.contains("one training picture"), "only batches of identities repeat it: {}", ended.stderr);
}

#[test]
fn a_run_that_continues_with_other_data_or_another_network_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let data = pictures(at, 6, 4);
    train(at, &small(&["--model", "OSNet_x0_25", "--epochs", "1"])).ok();
    train(at, &["reid", "--resume", "test", "--epochs", "2", "--model", "OSNet_x0_5"]).refused(&[
        "OSNet_x0_25",
        "OSNet_x0_5",
        "--pre-train",
    ]);
    train(at, &["reid", "--resume", "test", "--epochs", "2", "--datadir", "elsewhere"]).refused(&["`elsewhere`"]);
    // The same people in more pictures may train on.
    std::fs::copy(data.join("id0/0.png"), data.join("id0/9.png")).unwrap();
    let ended = train(at, &["reid", "--resume", "test", "--epochs", "2"]).ok();
    assert!(ended.stderr.contains("warning: the dataset `folders` is not the one this run began with"), "{ended:?}");
    // More people are other classes.
    let more = data.join("id9");
    std::fs::create_dir(&more).unwrap();
    for number in 0..4 {
        std::fs::copy(data.join("id0/0.png"), more.join(format!("{number}.png"))).unwrap();
    }
    train(at, &["reid", "--resume", "test", "--epochs", "3", "--train-identities", "4"]).refused(&[
        "3",
        "4",
        "--pre-train",
        "runs/reid/test/checkpoint_epoch_2.safetensors",
    ]);
}

/// A picture that was read in the first epoch and cannot be in a later one.
#[cfg(unix)]
#[test]
fn a_picture_that_rots_between_epochs_is_named_and_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let data = pictures(at, 4, 4);
    let more = ["--model", "OSNet_x0_25", "--epochs", "10000", "--test-every", "0", "--cache-mb", "0"];
    let said = at.join("stderr");
    let mut run =
        command(at, &small(&more)).stdout(Stdio::null()).stderr(File::create(&said).unwrap()).spawn().unwrap();
    let begun = Instant::now();
    let mut wait_for = |text: &str| loop {
        let told = std::fs::read_to_string(&said).unwrap();
        if told.contains(text) {
            return told;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "`{text}` is not said: {told}");
        assert!(run.try_wait().unwrap().is_none(), "the run has ended: {told}");
        std::thread::sleep(Duration::from_millis(20));
    };
    let told = wait_for("epoch 2/10000  lr ");
    assert!(!told.contains("unreadable") && !told.contains("warning"), "{told}");
    // In one step, as a file system fails: the run reads the whole picture or what is left of it.
    let picture = data.join("id0/2.png");
    let bytes = std::fs::read(&picture).unwrap();
    std::fs::write(at.join("half.png"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::rename(at.join("half.png"), &picture).unwrap();
    let told = wait_for("1 unreadable pictures");
    let warned = told.lines().filter(|line| line.contains("`data/id0/2.png`")).collect::<Vec<_>>();
    assert!(matches!(&warned[..], [one] if one.ends_with("another of its identity taken")), "{told}");
    let sent = std::process::Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(run.wait().unwrap().code(), Some(130), "the run went on, and was saved");
}
