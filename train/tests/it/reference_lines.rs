//! The command lines and settings files of the LightMBN reference, as they are, and what ends without losing a run.

use std::fs::File;
use std::path::Path;

use fixtures::{PedestrianConfig, Size, pedestrians};
use train::run::checkpoint::Checkpoint;

use crate::support::{Ended, command, json, train};

fn market(at: &Path, cameras: usize) {
    let config = PedestrianConfig {
        train_identities: 4,
        test_identities: 3,
        cameras,
        size: Size { height: 32, width: 32 },
        ..Default::default()
    };
    pedestrians(&config, &at.join("DATA")).unwrap();
}

/// What makes the lines small: of a flag given twice the last counts.
const SMALL: &str = " --height 32 --width 32 --batchid 2 --batchimage 2 --epochs 1 --n-thread 2 --overwrite";

const LIGHT_MBN: &str = "--datadir DATA --data_train market1501 --data_test market1501 --model LMBN_n --batchid 6 \
    --batchimage 8 --batchtest 32 --test_every 20 --epochs 130 --loss 0.5*CrossEntropy+0.5*MSLoss --margin 0.7 --nGPU \
    1 --lr 6e-4 --optimizer ADAM --random_erasing --feats 512 --save light --if_labelsmooth --w_cosine_annealing";

const BAG_OF_TRICKS: &str = "--datadir DATA --data_train market1501 --data_test market1501 --model ResNet50 --batchid \
    16 --batchimage 4 --batchtest 32 --test_every 10 --epochs 120 --save tricks --decay_type step_40_70 --loss \
    0.5*CrossEntropy+0.5*Triplet --margin 0.3 --nGPU 1 --lr 3.5e-4 --optimizer ADAM --random_erasing --warmup linear \
    --if_labelsmooth";

const PCB: &str = "--datadir DATA --data_train market1501 --data_test market1501 --model PCB --batchid 8 --batchimage \
    8 --batchtest 32 --test_every 10 --epochs 120 --save parts --decay_type step_50_80_110 --loss \
    0.5*CrossEntropy+0.5*MSLoss --margin 0.7 --nGPU 1 --lr 5e-3 --optimizer SGD --random_erasing --warmup linear \
    --if_labelsmooth --bnneck --parts 3";

/// A settings file with every key of the reference's.
const FILE: &str = "T: 1\nact: relu\nactivation_map: false\namsgrad: false\nbatchid: 6\nbatchimage: 8\nbatchtest: \
    32\nbeta1: 0.9\n\
    beta2: 0.999\nbnneck: false\nconfig: ''\ncosine_annealing: false\ncpu: false\ncuhk03_labeled: false\ncutout: \
    false\n\
    dampening: 0\ndata_test: market1501\ndata_train: market1501\ndatadir: DATA\ndecay_type: step\ndrop_block: false\n\
    epochs: 2\nepsilon: 1.0e-08\nfeat_inference: after\nfeats: 512\ngamma: 0.1\nh_ratio: 0.3\nheight: \
    32\nif_labelsmooth: true\n\
    load: ''\nloss: 0.5*CrossEntropy+0.5*MSLoss\nlr: 0.0006\nlr_decay: 60\nmargin: 0.7\nmodel: LMBN_n\nmomentum: \
    0.9\nnGPU: 1\n\
    nThread: 4\nnep_id: ''\nnep_name: x.ji/mcmp\nnep_token: ''\nnesterov: false\nnum_anchors: 2\nnum_classes: 751\n\
    optimizer: ADAM\nparts: 6\npcb_different_lr: true\npool: avg\npre_train: ''\nprobability: 0.5\nrandom_erasing: \
    true\n\
    re_rank: false\nreset: false\nsampler: true\nsave: ''\ntest_every: 20\ntest_only: false\nw_cosine_annealing: \
    true\n\
    w_ratio: 1.0\nwandb: false\nwandb_name: ''\nwarmup: constant\nweight_decay: 0.0005\nwidth: 32\n";

#[test]
fn the_manuals_lines_run_as_typed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    market(at, 2);
    for (name, line) in [("light", LIGHT_MBN), ("tricks", BAG_OF_TRICKS), ("parts", PCB)] {
        let words: Vec<&str> =
            ["reid"].into_iter().chain(line.split_whitespace()).chain(SMALL.split_whitespace()).collect();
        let ended = train(at, &words).ok();
        assert!(ended.stderr.contains("`nGPU` is ignored: --device"), "{}", ended.stderr);
        assert!(at.join("runs/reid").join(name).join("final_model.safetensors").is_file(), "{name}");
    }
    std::fs::write(at.join("lmbn_config.yaml"), FILE).unwrap();
    let line = "reid --test_only --config lmbn_config.yaml --pre_train runs/reid/light/final_model.safetensors";
    let tested = train(at, &line.split(' ').collect::<Vec<_>>()).ok();
    let evaluated = train(at, &["eval", "runs/reid/light/final_model.safetensors"]).ok();
    assert_eq!(tested.stdout, evaluated.stdout, "the same weights on the same set");
    assert!(!at.join("runs/reid/test").exists(), "nothing is trained");
    train(at, &["reid", "--test_only"]).refused(&["--pre-train"]);
    let half = [
        "reid",
        "--test_only",
        "--config",
        "lmbn_config.yaml",
        "--pre_train",
        "runs/reid/tricks/final_model.safetensors",
    ];
    train(at, &half).refused(&["LMBN_n"]);
}

const LINE: &str = "reid --model OSNet_x0_25 --datadir DATA --data_train market1501 --data_test market1501 --height \
    32 --width 32 --batchid 2 --batchimage 2 --n-thread 1 --test_every 1";

/// What can score no network is refused before hours are lost; without a test the last network is the best.
#[test]
fn a_set_of_one_camera_is_refused_and_can_be_trained_on_without_a_test() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    market(at, 1);
    let words = |more: &[&'static str]| LINE.split_whitespace().chain(more.iter().copied()).collect::<Vec<_>>();
    let facts = ["`market1501`", "0 of 3 queries", "match from their own camera only: 3", "--data-test none"];
    let refused = train(at, &words(&["--epochs", "3", "--save", "one"])).refused(&facts[..1]);
    assert!(facts.iter().all(|fact| refused.stderr.contains(fact)), "{}", refused.stderr);
    assert!(!at.join("runs").exists(), "nothing was begun");
    let ended = train(at, &words(&["--epochs", "3", "--save", "one", "--data_test", "none"])).ok();
    assert!(ended.stderr.contains("no test: --data-test is none"), "{}", ended.stderr);
    let best = Checkpoint::best(&at.join("runs/reid/one")).unwrap().unwrap();
    assert_eq!((best.record.epoch, best.record.metrics.len()), (3, 0));
    train(at, &["eval", "runs/reid/one"]).refused(&["--data-test", "`none`"]);
    let asked = train(at, &["eval", "runs/reid/one", "--dataset", "market1501"]);
    assert_eq!(asked.code, Some(1));
    let words = " queries could be scored, because none has a match from another camera";
    assert!(asked.stderr.contains(words), "{}", asked.stderr);
}

/// A log on a full disk and one whose reader has gone cost nothing; results that cannot be written are an error, but
/// for those of a reader that has seen enough.
#[cfg(target_os = "linux")]
#[test]
fn a_log_that_cannot_be_written_ends_no_training() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    market(at, 2);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    let closed = || std::io::pipe().unwrap().1;
    let words =
        |save: &'static str| LINE.split_whitespace().chain(["--epochs", "2", "--save", save]).collect::<Vec<_>>();
    let ended = command(at, &words("full")).stderr(full()).status().unwrap();
    assert_eq!(ended.code(), Some(0));
    let ended = command(at, &words("closed")).stderr(closed()).stdout(closed()).status().unwrap();
    assert_eq!(ended.code(), Some(0));
    for run in ["full", "closed"] {
        let history = json(&at.join("runs/reid").join(run).join("training_history.json"));
        assert_eq!(history.as_array().unwrap().len(), 2, "{run}");
    }
    for words in [
        &["inspect", "runs/reid/full"][..],
        &["eval", "runs/reid/full", "--format", "json"],
        &["reid", "--print-config"],
    ] {
        assert_eq!(command(at, words).stdout(closed()).status().unwrap().code(), Some(0), "{words:?}");
        let output = command(at, words).stdout(full()).output().unwrap();
        Ended::from(output).refused(&["stdout", "os"]);
    }
}

#[test]
fn numbers_below_zero_say_the_range() {
    let folder = tempfile::tempdir().unwrap();
    for (flag, value, facts) in [
        ("--seed", "-1", ["--seed", "'-1'", "0"]),
        ("--epochs", "-3", ["--epochs", "'-3'", "0"]),
        ("--weight-decay", "-1", ["--weight-decay", "-1", "0"]),
        ("--lr", "-0.5", ["--lr", "-0.5", "0"]),
    ] {
        train(folder.path(), &["reid", flag, value, "--print-config"]).refused(&facts);
    }
}
