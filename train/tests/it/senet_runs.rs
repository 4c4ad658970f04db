//! The program's SENet half: the manual's command lines, resuming, foreign checkpoints, bad data, and what training
//! is for.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, TensorData};
use files::npy::encode;
use fixtures::{FaceFeaturesConfig, face_features};
use train::families::senet::net::{SenetNetConfig, SenetTripletNetwork};
use train::weights::StateDict;

use crate::support::{Python, json, tensors, train, write_pth};

/// What makes the manual's networks small; flags given before these win nothing, so only absent ones are named.
const SMALL: [&str; 6] = ["--image_dim", "64", "--identity_dims", "1,5,9", "--log_dir", "logs"];

/// A folder with a small face set where the manual has it.
fn set() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("train/datas/file");
    let config = FaceFeaturesConfig { people: 12, frames: 8, dim: 64, identity_rank: 8, ..Default::default() };
    face_features(&config, &data).unwrap();
    (folder, data)
}

/// The words of a command line after the program's name, as the manual prints them.
fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().filter(|word| *word != "\\").collect()
}

fn run<'a>(at: &Path, line: &'a str, more: &[&'a str]) -> crate::support::Ended {
    let arguments: Vec<&str> =
        ["senet"].into_iter().chain(words(line)).chain(SMALL).chain(more.iter().copied()).collect();
    train(at, &arguments)
}

/// The text without the sequences that move the cursor or set colours.
fn plain(shown: &str) -> String {
    let mut parts = shown.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest)
    })
}

/// `script` of util-linux gives the program a terminal.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_an_epoch_is_no_wider_and_progress_tells_what_is_left() {
    let (folder, _) = set();
    let shown = |columns: usize, colours: bool| {
        let line = "--data_dir train/datas/file --image_dim 64 --identity_dims 1,5,9 --epochs 2 --overwrite";
        let typed = format!("stty cols {columns} rows 24; exec {} senet {line}", env!("CARGO_BIN_EXE_train"));
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &typed, "/dev/null"]).current_dir(folder.path()).stdin(std::process::Stdio::null());
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            script.env_remove(name);
        }
        script.env("TERM", "xterm").envs((!colours).then_some(("NO_COLOR", "1")));
        String::from_utf8(script.output().unwrap().stdout).unwrap()
    };
    let coloured = shown(80, true);
    assert!(coloured.contains("\u{1b}[33m\u{1b}[1mwarning:\u{1b}[0m "), "{coloured}");
    let text = plain(&coloured);
    let frames = text.lines().flat_map(|line| line.split('\r')).filter(|frame| frame.contains(" batches  "));
    let frames: Vec<_> = frames.collect();
    assert!(!frames.is_empty(), "{text}");
    for frame in frames {
        assert!(frame.contains(" left") && frame.chars().count() <= 80, "{frame}");
    }
    let mut lines = text.lines().map(|line| line.rsplit('\r').find(|part| !part.is_empty()).unwrap_or_default());
    let first = lines.find(|line| line.starts_with("epoch 2/2  ")).unwrap();
    let more: Vec<_> = lines.take_while(|line| line.starts_with("           ")).collect();
    assert!((1..=3).contains(&more.len()), "{text}");
    for line in [first].iter().chain(&more) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let facts = format!("{first}  {}", more.iter().map(|line| line.trim()).collect::<Vec<_>>().join("  "));

    let plainly = shown(300, false);
    assert!(plainly.contains("warning: ") && !plainly.contains("\u{1b}[33m"), "{plainly}");
    let wide = plain(&plainly);
    let whole = wide.lines().filter_map(|line| line.rsplit('\r').find(|part| part.starts_with("epoch 2/2  lr")));
    // Two runs differ in speed alone.
    let named =
        |line: &str| line.split("  ").filter(|fact| !fact.contains("img/s")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(whole.map(named).collect::<Vec<_>>(), [named(&facts)]);
}

#[test]
fn the_manuals_command_lines_run_as_typed() {
    let (folder, _) = set();
    let at = folder.path();
    let lines = [
        ("basic", "--data_dir train/datas/file --batch_size 32 --epochs 100 --lr 1e-4"),
        (
            "complete",
            "--data_dir train/datas/file --batch_size 32 --num_workers 4 --epochs 100 --lr 1e-4 --weight_decay 1e-5 \
             --identity_preserve_weight 0.3 --margin 0.3 --alpha 2.0 --beta 1.0 --angle_threshold 30.0 --se_reduction \
             16 --fusion_alpha 0.7 --use_amp --save_dir train_transformer3D/triplet/checkpoints_senet --log_dir \
             train_transformer3D/triplet/logs_senet",
        ),
        (
            "first exploration",
            "--data_dir train/datas/file --batch_size 16 --epochs 20 --lr 5e-5 --identity_preserve_weight 0.2",
        ),
        (
            "full",
            "--data_dir train/datas/file --batch_size 32 --epochs 100 --lr 1e-4 --identity_preserve_weight 0.3 \
             --use_amp",
        ),
        ("small memory", "--data_dir train/datas/file --batch_size 16 --gradient_accumulation_steps 2 --use_amp"),
    ];
    for (name, line) in lines {
        let ended = run(at, line, &["--epochs", "1", "--hidden_dim", "32", "--overwrite"]).ok();
        assert!(ended.stderr.contains("fusion weight 0.7000"), "{name}: {}", ended.stderr);
        let dir =
            if name == "complete" { "train_transformer3D/triplet/checkpoints_senet" } else { "checkpoints_senet" };
        for file in
            ["best_model.safetensors", "final_model.safetensors", "final_training_curves.png", "test_metrics.json"]
        {
            assert!(at.join(dir).join(file).is_file(), "{name}: {file}");
        }
        let history = json(&at.join(dir).join("training_history.json"));
        assert_eq!(history["train_metrics"].as_array().unwrap().len(), 1, "{name}");
        for key in
            ["total_loss", "triplet_loss", "reconstruction_loss", "identity_loss", "num_triplets", "fusion_alpha"]
        {
            assert!(history["train_metrics"][0][key].is_f64(), "{name}: {key}");
        }
        for key in ["total_loss", "triplet_loss", "cosine_sim"] {
            assert!(history["val_metrics"][0][key].is_f64(), "{name}: {key}");
        }
        assert_eq!(history["args"]["epochs"], 1, "{name}");
    }
    let larger =
        "--data_dir train/datas/file --hidden_dim 2048 --num_layers 5 --se_reduction 8 --batch_size 16 --use_amp";
    // As typed it writes hundreds of megabytes, so the widest flag is given again, smaller.
    run(at, larger, &["--epochs", "1", "--hidden_dim", "128", "--overwrite"]).ok();
    let events = std::fs::read_dir(at.join("logs")).unwrap().count();
    assert!(events > 0, "TensorBoard's file");
}

#[test]
fn fine_tuning_takes_the_flags_and_continues_the_same_bits() {
    let (folder, _) = set();
    let at = folder.path();
    let base = "--data_dir train/datas/file --batch_size 16 --epochs 3 --hidden_dim 32 --save_interval 1";
    run(at, base, &[]).ok();
    let first = at.join("checkpoints_senet");
    // From the manual, with the checkpoint's PyTorch name.
    let line = "--data_dir train/datas/file --resume checkpoints_senet/checkpoint_epoch_1.pth --save_dir again";
    run(at, line, &[]).ok();
    let last = |dir: &Path| tensors(&dir.join("final_model.safetensors"));
    assert_eq!(last(&first), last(&at.join("again")), "dropout, batches and moments go on as if nothing had been");
    assert_eq!(json(&at.join("again/training_history.json")), json(&first.join("training_history.json")));

    let line = "--data_dir train/datas/file --resume checkpoints_senet/checkpoint_epoch_2.pth --lr 5e-5 --epochs 4";
    run(at, line, &["--save_dir", "tuned"]).ok();
    let history = json(&at.join("tuned/training_history.json"));
    assert_eq!((&history["args"]["lr"], &history["args"]["epochs"]), (&5e-5.into(), &4.into()));
    assert_eq!(history["train_metrics"].as_array().unwrap().len(), 4);
    // Epoch 3 of 4 from 5e-5: 1e-6 + 4.9e-5 (1 + cos(pi 2/4)) / 2.
    let lr = json(&at.join("tuned/training_records.json"))[2]["lr"].as_f64().unwrap();
    assert!((lr - 2.55e-5).abs() < 1e-12, "{lr}");
    run(at, "--resume checkpoints_senet/checkpoint_epoch_2.safetensors --num_layers 2 --save_dir other", &[])
        .refused(&["SENet", "3", "2"]);
    // Other parameters would train, or be computed otherwise: nothing of the optimiser's state fits them.
    run(at, "--resume checkpoints_senet/checkpoint_epoch_2.safetensors --learnable_fusion false --save_dir other", &[])
        .refused(&["learned", "fixed"]);
    run(at, "--resume checkpoints_senet/checkpoint_epoch_2.safetensors --use_batch_stat --save_dir other", &[])
        .refused(&["batch's"]);
    run(at, "--resume checkpoints_senet/checkpoint_epoch_2.safetensors --pose_unit right-angles --save_dir other", &[])
        .refused(&["3", "90"]);
}

/// What the reference saves: blocks of the front-pose head that could never run, settings, histories.
fn foreign(path: &Path) -> SenetNetConfig {
    let config = SenetNetConfig { image_dim: 64, identity_dim: 64, hidden_dim: 32, ..SenetNetConfig::default() };
    let net = SenetTripletNetwork::new(&config, 7, &Device::flex());
    let state: StateDict = StateDict::of(&net)
        .iter()
        .map(|(key, data)| match key {
            "front_pose_layers.1.0.weight" => (key.to_owned(), TensorData::new(vec![0.5f32; 16 * 32], [16, 32])),
            _ => (key.to_owned(), data.clone()),
        })
        .collect();
    let args = Python::dict([
        ("hidden_dim", Python::Int(32)),
        ("epochs", Python::Int(9)),
        ("margin", Python::Float(1.5)),
        ("use_amp", Python::Bool(false)),
    ]);
    let epochs = |keys: &[(&str, f64)]| {
        let epoch = |at: usize| {
            let entry = |(key, value): &(&str, f64)| ((*key).to_owned(), Python::Float(value + at as f64));
            Python::Dict(keys.iter().map(entry).collect())
        };
        Python::List((0..5).map(epoch).collect())
    };
    let value = Python::dict([
        ("epoch", Python::Int(4)),
        ("model_state_dict", Python::state(&state, str::to_owned)),
        ("optimizer_state_dict", Python::optimizer()),
        ("train_metrics_history", epochs(&[("total_loss", 3.0), ("identity_loss", 0.25), ("triplet_loss", 2.0)])),
        ("val_metrics_history", epochs(&[("total_loss", 1.0), ("cosine_sim", 0.5)])),
        ("args", args),
    ]);
    write_pth(path, &value);
    config
}

#[test]
fn a_checkpoint_of_the_reference_is_imported_and_resumed() {
    let (folder, _) = set();
    let at = folder.path();
    std::fs::create_dir(at.join("old")).unwrap();
    let config = foreign(&at.join("old/checkpoint_epoch_5.pth"));
    let ended =
        train(at, &["import", "old/checkpoint_epoch_5.pth", "--model", "SENet", "-o", "senet.safetensors"]).ok();
    assert!(
        ended.stderr.contains("front_pose_layers.1.0.weight") && ended.stderr.contains("initial"),
        "{}",
        ended.stderr
    );
    let theirs = StateDict::of(&SenetTripletNetwork::new(&config, 7, &Device::flex()));
    let ours = StateDict::read(&at.join("senet.safetensors")).unwrap();
    for (key, data) in theirs.iter().filter(|(key, _)| !key.starts_with("front_pose_layers.1.0.weight")) {
        assert_eq!(ours.get(key).unwrap().as_bytes(), data.as_bytes(), "{key}");
    }
    let ended =
        run(at, "--data_dir train/datas/file --resume old/checkpoint_epoch_5.pth --batch_size 16 --epochs 6", &[]);
    let ended = ended.ok();
    assert!(
        ended.stderr.contains("PyTorch checkpoint after epoch 5") && ended.stderr.contains("start afresh"),
        "{}",
        ended.stderr
    );
    let history = json(&at.join("old/training_history.json"));
    // The margin is the checkpoint's, the number of epochs that of the flag.
    assert_eq!((&history["args"]["margin"], &history["args"]["epochs"]), (&1.5.into(), &6.into()));
    // Five epochs that it tells of, and one of ours.
    assert_eq!(history["train_metrics"].as_array().unwrap().len(), 6);
    assert_eq!(
        (&history["train_metrics"][1]["total_loss"], &history["val_metrics"][1]["cosine_sim"]),
        (&5.25.into(), &1.5.into())
    );
    // Resumed once more, it would overwrite what came of the first time.
    run(at, "--data_dir train/datas/file --resume old/checkpoint_epoch_5.pth --batch_size 16 --epochs 6", &[])
        .refused(&["`old`", "--resume", "--overwrite"]);
}

#[test]
fn data_that_does_not_fit_is_refused_and_named() {
    let (folder, data) = set();
    let at = folder.path();
    let line = "--data_dir train/datas/file --batch_size 16 --epochs 1 --hidden_dim 32";
    let names = ["front_metadata.json", "front_feature.npy", "front_keypoints.npy", "video_metadata.json"];
    for name in names.into_iter().chain(["video_feature.npy", "video_keypoints.npy"]) {
        let path = data.join(name);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        run(at, line, &[]).refused(&[name]);
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        run(at, line, &[]).refused(&[name]);
        std::fs::write(&path, bytes).unwrap();
    }
    let features = data.join("video_feature.npy");
    let good = std::fs::read(&features).unwrap();
    let mut broken = vec![0.5f32; 96 * 64];
    broken[65] = f32::NAN;
    for (bytes, facts) in [
        (encode(&[95, 64], &[0.5f32; 95 * 64]), ["[95, 64]", "[96, width]"]),
        (encode(&[96, 64], &[1e39f64; 96 * 64]), ["1e39", "float32"]),
        (encode(&[96, 64], &[0.0f32; 96 * 64]), ["0", "zeros"]),
        (encode(&[96, 64], &broken), ["1", "finite"]),
        (encode(&[96, 32], &[0.5f32; 96 * 32]), ["64", "32"]),
    ] {
        std::fs::write(&features, bytes).unwrap();
        run(at, line, &[]).refused(&facts);
    }
    std::fs::write(&features, good).unwrap();
    run(at, line, &["--batch_size", "90"]).refused(&["90", "--batch-size"]);
    run(at, line, &["--image_dim", "32"]).refused(&["--image-dim", "64", "32"]);
    run(at, line, &["--pose_dim", "2"]).refused(&["--pose-dim", "3", "2"]);
    run(at, line, &["--se_reduction", "7"]).refused(&["--se-reduction", "64"]);
    run(at, line, &["--fusion_alpha", "1.2"]).refused(&["--fusion-alpha"]);
    run(at, line, &["--train_ratio", "0.05"]).refused(&["12", "0.05", "--train-ratio"]);
    run(at, line, &["--num_workers", "2"]).refused(&["`num_workers`", "ImageControlNet"]);
    run(at, line, &["--min_yaw", "170"]).refused(&["--min-yaw"]);
    assert!(!at.join("checkpoints_senet").exists(), "what was wrong has touched nothing");
}

#[test]
fn a_channel_picture_and_an_analysis_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    face_features(&FaceFeaturesConfig { people: 40, frames: 6, ..Default::default() }, &at.join("data")).unwrap();
    let ended = train(at, &["senet", "analyse", "--data-dir", "data", "--format", "json"]).ok();
    let found: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let mut dims: Vec<u64> =
        found["identity_dims"].as_array().unwrap().iter().map(|dim| dim["dim"].as_u64().unwrap()).collect();
    let mut stable: Vec<u64> = fixtures::STABLE_DIMENSIONS.iter().map(|dim| *dim as u64).collect();
    dims.sort_unstable();
    stable.sort_unstable();
    assert_eq!(dims, stable, "the dimensions that the generator leaves alone");

    train(at, &["senet", "--data_dir", "data", "--epochs", "1", "--hidden_dim", "32"]).ok();
    let ended = train(at, &["inspect", "checkpoints_senet", "--channels", "-k", "3", "-o", "gates.png"]).ok();
    assert_eq!(ended.stdout.lines().filter(|line| line.starts_with("   ")).count(), 6, "{}", ended.stdout);
    assert!(image::open(at.join("gates.png")).unwrap().width() > 500);
    train(at, &["inspect", "checkpoints_senet", "--channels", "--sample", "240"])
        .refused(&["--sample", "240", "0", "239"]);
}

/// The measurement of the README in small: people of 12 dimensions, embeddings of 64 values, 900 steps, a few seconds
/// of a processor. Least squares with a term for the turn finds nine of ten; with the pose in degrees the network
/// finds one.
#[test]
fn with_the_target_term_frontalisation_helps_people_it_never_saw() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let config = FaceFeaturesConfig { people: 300, frames: 8, dim: 64, identity_rank: 12, ..Default::default() };
    face_features(&config, &at.join("data")).unwrap();
    let line = "senet --data_dir data --image_dim 64 --hidden_dim 128 --num_layers 2 --identity_preserve_weight 0 \
                --pose_unit right-angles --target_weight 5 --epochs 20 --lr 3e-3 --log_dir logs --save_interval 0";
    train(at, &words(line)).ok();
    let found = json(&at.join("checkpoints_senet/test_metrics.json"));
    let rise = |figure: &str| {
        let way = |name: &str| found["identification"][name][figure].as_f64().unwrap();
        way("frontalised") - way("untouched")
    };
    println!("{found:#}");
    // 0.36 to 0.76, 0.08 to 0.60, 0.03 to 0.50 where this was written.
    assert!(rise("cosine") > 0.3 && rise("rank1") > 0.35 && rise("tar") > 0.3, "{found:#}");
}
