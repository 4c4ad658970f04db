//! What must not work: each through the program, with exit code 2 and a message that says what, where, found and
//! allowed.

use std::path::Path;

use crate::support::{files, pictures, small, train};

#[test]
fn data_that_cannot_be_trained_on_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let run = |more: &[&str]| train(at, &small(more));
    run(&[]).refused_saying("`data` does not exist");
    std::fs::create_dir(at.join("data")).unwrap();
    run(&[]).refused(&["`data`", "found", "market1501"]);
    run(&["--data_train", "market1501"]).refused(&["`market1501`", "`data`", "bounding_box_train"]);
    run(&["--data_train", "market"]).refused(&["`market`", "msmt17"]);
    pictures(at, 1, 4);
    run(&["--data_train", "folders"]).refused(&["`data`", "1", "2"]);
    pictures(at, 2, 4);
    run(&[]).refused(&["one", "2"]);
    pictures(at, 6, 4);
    run(&["--batchid", "4"]).refused(&["4", "3", "--batchid"]);
    run(&["--model", "LMBN_x"]).refused(&["`LMBN_x`", "`LMBN_n`", "ResNet50"]);
    run(&["--model", "lmbn-r"]).refused_saying("did you mean `LMBN_r`?");
    train(at, &["inspect", "--model", "resnet"]).refused_saying("did you mean `ResNet50`?");
    for flag in ["--pre-train-partial", "--pre-train-no-ema"] {
        run(&[flag]).refused(&[flag, "--pre-train"]);
    }
    let marked = run(&["--loss", "1*Focal+1*Tripel"]).refused(&["`Tripel`", "Triplet", "11"]);
    assert!(marked.stderr.contains("\n    1*Focal+1*Tripel\n              ^^^^^^\n"), "{}", marked.stderr);
    assert!(!at.join("runs").exists(), "nothing was begun");
}

#[test]
fn additions_that_nothing_uses_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    pictures(at, 4, 4);
    let run = |more: &[&str]| train(at, &small(more));
    run(&["--rand-magnitude", "5"]).refused(&["`rand_magnitude`", "--rand-augment"]);
    run(&["--balance-cameras", "--sampler", "False"]).refused(&["`balance_cameras`", "--sampler"]);
    // A folder for each identity tells of no cameras.
    run(&["--balance-cameras"]).refused(&["--balance-cameras", "8"]);
    run(&["--freeze-epochs", "3"]).refused(&["`freeze_epochs`", "--pre-train"]);
    run(&["--ema", "1"]).refused(&["--ema", "1", "0"]);
    run(&["--colour-jitter", "1.5"]).refused(&["--colour-jitter", "1.5", "0"]);
    run(&["--color-jitter", "-1"]).refused(&["--colour-jitter", "-1", "0"]);
    run(&["--rand-augment", "15"]).refused(&["--rand-augment", "15", "14"]);
    run(&["--rand-augment", "1", "--rand-magnitude", "31"]).refused(&["--rand-magnitude", "31", "30"]);
    assert!(!at.join("runs").exists(), "nothing was begun");
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let run = |more: &[&str]| train(at, &[&["reid"], more].concat());
    run(&["--epochs", "many"]).refused(&["many", "--epochs"]);
    run(&["--sampler", "maybe"]).refused(&["--sampler", "'maybe'", "True", "False"]);
    run(&["--optimizer", "LAMB"]).refused(&["--optimizer", "'LAMB'", "RMSprop"]);
    run(&["--batchid", "1"]).refused(&["--batchid", "1", "2"]);
    run(&["--decay-type", "step_70_40"]).refused(&["--decay-type", "step_40_70"]);
    run(&["--learning-rate", "1"]).refused(&["--learning-rate"]);
    run(&["--resume", "x", "--overwrite"]).refused(&["--overwrite", "--resume"]);
    run(&["--resume", "nowhere"]).refused(&["`nowhere`", "`runs/reid/nowhere`"]);
    let settings = at.join("settings.yaml");
    std::fs::write(&settings, "epochs: 3\nepoch: 4\n").unwrap();
    run(&["--config", "settings.yaml"]).refused(&["settings.yaml", "`epoch`", "epochs"]);
    std::fs::write(&settings, "epochs: many\n").unwrap();
    run(&["--config", "settings.yaml"]).refused(&["settings.yaml", "many"]);
    run(&["--config", "other.yaml"]).refused(&["`other.yaml`", "os"]);
    train(at, &["eval", "nothing"]).refused(&["`nothing`", "`train`"]);
    train(at, &["eval", "."]).refused(&["`.`", "best_model.safetensors"]);
}

/// What the losses of a run do not read is refused; what they read is not, nor what says the default.
#[test]
fn settings_of_losses_that_are_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let run = |line: &str| {
        let words: Vec<&str> = ["reid", "--print-config"].into_iter().chain(line.split(' ')).collect();
        train(folder.path(), &words)
    };
    run("--loss 1*CrossEntropy --margin 0.3").refused(&["`margin`", "MSLoss", "RankedList"]);
    run("--loss 1*CenterLoss+1*Focal --margin 0.3").refused(&["`margin`", "Triplet"]);
    run("--loss 1*Triplet --if_labelsmooth").refused(&["`if_labelsmooth`", "CrossEntropy"]);
    run("--loss 1*Triplet --center-rule sgd").refused(&["`center_rule`", "CenterLoss"]);
    run("--loss 1*CenterLoss --center-rule best").refused(&["--center-rule", "'best'", "wen", "sgd"]);
    run("--loss 1*CrossEntropy --margin 1.2 --center-rule wen").ok();
    run("--loss 1*CrossEntropy+1*RankedList+0.0005*CenterLoss --margin 0.3 --if_labelsmooth --center-rule sgd").ok();
}

#[test]
fn unreadable_pictures_are_replaced_and_counted_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let data = pictures(at, 4, 4);
    std::fs::write(data.join("id0/1.png"), b"no picture").unwrap();
    std::fs::write(data.join("id2/0.png"), b"no picture").unwrap();
    let ended = train(at, &small(&["--epochs", "2"])).ok();
    let warned = |name: &str| ended.stderr.matches(&format!("{name}`")).count();
    assert_eq!(warned("id0/1.png"), 1, "once, not in each epoch: {}", ended.stderr);
    assert_eq!(warned("id2/0.png"), 2, "in each evaluation, that of the start included: {}", ended.stderr);
    assert!(
        ended.stderr.contains("another of its identity taken") && ended.stderr.contains("left out"),
        "{}",
        ended.stderr
    );
    let last = ended.stderr.lines().find(|line| line.starts_with("epoch 2/2")).unwrap();
    assert!(last.ends_with("  1 unreadable pictures"), "{last}");
    let table = train(at, &["eval", "runs/reid/test"]).ok().stdout;
    assert!(table.contains("1 unreadable pictures left out"), "{table}");
    train(at, &["eval", "runs/reid/test", "--strict"]).refused(&["id2/0.png", "--strict"]);
    train(at, &small(&["--strict", "--save", "strict"])).refused(&["id0/1.png", "--strict"]);
    // Files of another kind are lost as well: said by both verbs, an error for both with --strict.
    for path in ["id0/1.png", "id2/0.png"] {
        std::fs::copy(data.join("id1/0.png"), data.join(path)).unwrap();
    }
    for number in 0..3 {
        std::fs::write(data.join(format!("id1/{number}.jp2")), b"II*").unwrap();
    }
    for words in [&["eval", "runs/reid/test"][..], &small(&["--save", "again", "--epochs", "0", "--overwrite"])] {
        let told = train(at, words).ok().stderr;
        assert!(told.contains(".jp2"), "{words:?}: {told}");
        train(at, &[words, &["--strict"]].concat()).refused(&[".jp2"]);
    }
}

#[test]
fn a_loss_that_is_no_number_stops_the_run_and_overwrites_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    pictures(at, 4, 8);
    train(at, &small(&["--epochs", "1"])).ok();
    let run = at.join("runs/reid/test");
    let before = files(&run);
    let mad = ["reid", "--resume", "test", "--epochs", "3", "--lr", "1e30"];
    let ended = train(at, &mad).refused(&[
        "2",
        ".png",
        "CrossEntropy",
        "--lr",
        "--resume",
        "runs/reid/test/checkpoint_epoch_1.safetensors",
    ]);
    println!("{}", ended.stderr);
    let after = files(&run);
    // The run had begun: its facts are those of the new settings.
    for (name, bytes) in before.iter().filter(|(name, _)| *name != "run.json") {
        assert!(after[name] == *bytes, "{name} was overwritten");
    }
    assert_eq!(before.len(), after.len(), "{:?}", after.keys());
    train(at, &["reid", "--resume", "test", "--epochs", "2"]).ok();

    // An occupied directory is not taken, nor emptied when the new run cannot begin.
    let before = files(&run);
    train(at, &small(&[])).refused(&["`runs/reid/test`", "--resume", "--overwrite"]);
    train(at, &small(&["--overwrite", "--batchid", "60"])).refused(&["60", "--batchid"]);
    train(at, &small(&["--overwrite", "--pre_train", "missing.pth"])).refused(&["`missing.pth`", "os"]);
    assert!(files(&run) == before);
    train(at, &["reid", "--resume", "test", "--feats", "32"]).refused(&[
        "LMBN_n",
        "16",
        "32",
        "--pre-train",
        "runs/reid/test/checkpoint_epoch_2.safetensors",
    ]);
    let mad = small(&["--save", "mad", "--lr", "1e30", "--epochs", "1"]);
    let ended = train(at, &mad).refused(&["1", "--lr"]);
    assert!(!ended.stderr.contains("--resume"), "there is nothing to resume: {}", ended.stderr);
    train(at, &small(&["--overwrite", "--epochs", "0"])).ok();
    assert_eq!(files(&run).len(), 3, "of the old run nothing is left: {:?}", files(&run).keys());
}

/// Whatever is there in place of a run or a face set, the error says that, and what is needed.
#[test]
fn what_is_no_run_and_no_face_set_is_refused_with_what_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    std::fs::create_dir_all(at.join("people/anna")).unwrap();
    std::fs::write(at.join("bad.jpg"), "").unwrap();
    for verb in ["eval", "inspect"] {
        for (path, said) in [("nothing", "there is no"), ("bad.jpg/x", "there is no"), ("bad.jpg", "is no checkpoint")]
        {
            let ended = train(at, &[verb, path]).refused_saying(said);
            ended.refused(&[&format!("`{path}`"), "`train`", ".safetensors", "`train import`"]);
        }
        train(at, &[verb, "people"]).refused(&["`people`", "best_model.safetensors"]);
    }
    for family in ["senet", "controlnet"] {
        for (path, said) in [
            ("people", "it has no front_metadata.json"),
            ("bad.jpg", "it is a file"),
            ("nothing", "there is no such folder"),
        ] {
            let ended = train(at, &[family, "--data_dir", path]).refused_saying(said);
            ended.refused(&[&format!("`{path}`"), "front_metadata.json", "video_metadata.json", "docs/faces.md"]);
        }
    }
    assert_eq!(std::fs::read_dir(at).unwrap().count(), 2, "nothing was begun");
}

#[test]
fn a_run_directory_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    pictures(at, 4, 4);
    std::fs::write(at.join("runs"), b"a file where a folder should be").unwrap();
    train(at, &small(&[])).refused(&["runs/reid/test"]);
    train(at, &small(&["--save-dir", "runs/here"])).refused(&["`runs/here`", "`runs`"]);
    assert_eq!(std::fs::read(Path::new(at).join("runs")).unwrap(), b"a file where a folder should be");
}
