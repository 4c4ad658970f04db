//! The command lines and settings files of the LightMBN reference, as they are, and what ends without losing a run.

use std::fs::File;
use std::path::{Path, PathBuf};

use fixtures::{PedestrianConfig, Size, pedestrians};
use train::run::checkpoint::Checkpoint;
use train::weights::StateDict;

use crate::support::{Ended, Python, command, json, train, write_pth};

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
const SMALL: &str = " --height 32 --width 32 --batchid 2 --batchimage 2 --n-thread 2 --epochs 1";

/// The lines of the manual and of the reference's own, behind the program's name and with a folder of pictures.
const LIGHT_MBN: &str = "--datadir DATA --data_train market1501 --data_test market1501 --model LMBN_n --batchid 6 \
    --batchimage 8 --batchtest 32 --test_every 20 --epochs 130 --loss 0.5*CrossEntropy+0.5*MSLoss --margin 0.7 --nGPU \
    1 --lr 6e-4 --optimizer ADAM --random_erasing --feats 512 --save '' --if_labelsmooth --w_cosine_annealing";

const BAG_OF_TRICKS: &str = "--datadir DATA --data_train market1501 --data_test market1501 --model ResNet50 --batchid \
    16 --batchimage 4 --batchtest 32 --test_every 10 --epochs 120 --save '' --decay_type step_40_70 --loss \
    0.5*CrossEntropy+0.5*Triplet --margin 0.3 --nGPU 1 --lr 3.5e-4 --optimizer ADAM --random_erasing --warmup \
    'linear' --if_labelsmooth";

const PCB: &str = "--datadir DATA --data_train Market1501 --data_test Market1501 --model PCB --batchid 8 --batchimage \
    8 --batchtest 32 --test_every 10 --epochs 120 --save '' --decay_type step_50_80_110 --loss \
    0.5*CrossEntropy+0.5*MSLoss --margin 0.7 --nGPU 1 --lr 5e-3 --optimizer SGD --random_erasing --warmup 'linear' \
    --if_labelsmooth --bnneck --parts 3";

const MGN: &str = "--datadir DATA --data_train Market1501 --data_test Market1501 --model MGN --batchid 16 \
    --batchimage 4 --batchtest 32 --test_every 10 --epochs 120 --save '' --decay_type step_50_80_110 --loss \
    0.5*CrossEntropy+0.5*Triplet --margin 1.2 --nGPU 1 --lr 2e-4 --optimizer ADAM --random_erasing --warmup 'linear' \
    --if_labelsmooth";

/// The settings of `lmbn_config.yaml`, but for the folder of pictures.
const LIGHT_MBN_FILE: &str = "T: 3\nact: relu\namsgrad: false\nbatchid: 6\nbatchimage: 8\nbatchtest: 32\nbeta1: 0.9\n\
    beta2: 0.999\nbnneck: false\nconfig: \"\"\ncosine_annealing: false\ncpu: false\ncuhk03_labeled: false\n\
    cutout: false\ndampening: 0\ndata_test: market1501\ndata_train: market1501\ndatadir: DATA\n\
    decay_type: step_50_80_110\ndrop_block: false\nepochs: 2\nepsilon: 1.0e-08\nfeat_inference: after\nfeats: 512\n\
    gamma: 0.1\nh_ratio: 0.3\nheight: 384\nif_labelsmooth: true\nloss: 0.5*CrossEntropy+0.5*MSLoss\nlr: 0.0006\n\
    lr_decay: 60\nmargin: 0.7\nmodel: LMBN_n\nmomentum: 0.9\nnGPU: 1\nnThread: 8\nnep_id: \"\"\nnesterov: false\n\
    num_anchors: 1\nnum_classes: 751\noptimizer: ADAM\nparts: 6\npcb_different_lr: true\npool: avg\n\
    probability: 0.5\nrandom_erasing: true\nreset: false\nsampler: true\ntest_every: 10\nw_cosine_annealing: true\n\
    w_ratio: 1.0\nwarmup: constant\nweight_decay: 0.0005\nwidth: 128\nwandb: false\nwandb_name: \"\"\n";

/// Those of `bag_of_tricks_config.yaml`.
const BAG_OF_TRICKS_FILE: &str = "T: 3\nact: relu\namsgrad: false\nbatchid: 16\nbatchimage: 4\nbatchtest: 32\n\
    beta1: 0.9\nbeta2: 0.999\nbnneck: true\nconfig: ''\ncpu: false\ncutout: false\ndampening: 0\n\
    data_test: DukeMTMC\ndata_train: DukeMTMC\ndatadir: DATA\ndecay_type: step_40_70\ndrop_block: false\n\
    epochs: 120\nepsilon: 1.0e-08\nfeat_inference: after\nfeats: 256\ngamma: 0.1\nh_ratio: 0.33\nheight: 384\n\
    if_labelsmooth: true\nloss: 1*CrossEntropy+1*Triplet\nlr: 0.00035\nlr_decay: 60\nmargin: 0.3\nmodel: ResNet50\n\
    momentum: 0.9\nnGPU: 1\nnThread: 4\nnesterov: true\nnum_anchors: 1\nnum_classes: 702\noptimizer: ADAM\n\
    parts: 2\npcb_different_lr: true\npool: avg\nprobability: 0.5\nrandom_erasing: true\nreset: false\n\
    sampler: true\ntest_every: 10\nw_ratio: 1.0\nwarmup: linear\nweight_decay: 0.0005\nwidth: 128\n";

/// The words of a line as a shell gives them.
fn words(line: &str) -> Vec<&str> {
    ["reid"].into_iter().chain(line.split_whitespace().map(|word| word.trim_matches('\''))).collect()
}

/// Runs a line, made small, in a folder without runs; the directory that it made.
fn made(at: &Path, line: &str, small: &str) -> (Ended, PathBuf) {
    let _ = std::fs::remove_dir_all(at.join("runs"));
    let ended = train(at, &words(&format!("{line}{small}"))).ok();
    let runs: Vec<_> = std::fs::read_dir(at.join("runs/reid")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let [run] = &runs[..] else { panic!("{runs:?}") };
    let name = run.file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("run-"), "without a name it has that of its time: {name}");
    assert!(run.join("final_model.safetensors").is_file(), "{line}");
    (ended, run.clone())
}

#[test]
fn the_manuals_lines_run_as_typed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    market(at, 2);
    // MGN's 76 million parameters are not trained: its state would fill a gigabyte.
    let untrained = SMALL.replace("--epochs 1", "--epochs 0");
    for (line, small) in [(LIGHT_MBN, SMALL), (BAG_OF_TRICKS, SMALL), (PCB, SMALL), (MGN, &untrained)] {
        let (ended, _) = made(at, line, small);
        assert!(ended.stderr.contains("`nGPU` is ignored: --device"), "{}", ended.stderr);
    }
}

/// The reference's files have every setting that it has: those that nothing uses are named with the reason, once each.
#[test]
fn the_references_settings_files_run_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    market(at, 2);
    std::fs::write(at.join("lmbn_config.yaml"), LIGHT_MBN_FILE).unwrap();
    std::fs::write(at.join("bag_of_tricks_config.yaml"), BAG_OF_TRICKS_FILE).unwrap();
    let told = |ended: &Ended, keys: &[&str]| {
        for key in keys {
            assert_eq!(ended.stderr.matches(&format!("`{key}` ")).count(), 1, "{key}: {}", ended.stderr);
        }
    };
    let (ended, run) = made(at, "--config bag_of_tricks_config.yaml --save ''", SMALL);
    told(&ended, &["T", "act", "feats", "nesterov", "num_classes", "parts", "pcb_different_lr", "h_ratio", "lr_decay"]);
    assert_eq!(json(&run.join("run.json"))["config"]["bnneck"], true);
    let tricks = at.join("tricks.safetensors");
    std::fs::rename(run.join("final_model.safetensors"), &tricks).unwrap();

    let (ended, run) = made(at, "--config lmbn_config.yaml --save ''", SMALL);
    told(&ended, &["T", "nGPU", "nep_id", "wandb", "wandb_name", "reset", "decay_type", "pcb_different_lr"]);
    // A run is continued under its directory; in the reference that is the folder of the checkpoint.
    let line = format!("--config lmbn_config.yaml --load {}", run.display());
    let longer = SMALL.replace("--epochs 1", "--epochs 2");
    train(at, &words(&format!("{line}{longer}"))).ok();
    assert_eq!(json(&run.join("training_history.json")).as_array().unwrap().len(), 2);

    // The weights as the reference writes them.
    let model = run.join("final_model.safetensors");
    let state = StateDict::read(&model).unwrap();
    write_pth(&at.join("MODEL.pth"), &Python::state(&state, |key| format!("module.{key}")));
    let line = "--test_only --config lmbn_config.yaml --pre_train MODEL.pth";
    let tested = train(at, &words(&format!("{line} --height 32 --width 32"))).ok();
    let evaluated = train(at, &["eval", model.to_str().unwrap()]).ok();
    assert_eq!(tested.stdout, evaluated.stdout, "the same weights on the same set");
    train(at, &["reid", "--test_only"]).refused(&["--pre-train"]);
    let half = format!("--test_only --config lmbn_config.yaml --pre_train {}", tricks.display());
    train(at, &words(&half)).refused(&["LMBN_n"]);
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
