//! `--recipe`: each starts a run of the program, and a run that ends worse than nothing names what helps.

use std::path::Path;

use fixtures::{FaceFeaturesConfig, HeadsConfig, PalmConfig, face_features, heads, palms};
use serde_json::Value;

use crate::support::{Ended, json, pictures, train};

/// `train` with the words of a line.
fn line(at: &Path, line: &str) -> Ended {
    train(at, &line.split_whitespace().collect::<Vec<_>>())
}

/// One line of text.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_recipe_of_re_identification_trains() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    pictures(at, 8, 4);
    // Name, what it has that no default is, and published Rank-1 and mAP.
    let recipes = [
        ("lmbn_n", ["model", "\"LMBN_n\"", "margin", "0.7"], ["96.3", "91.5"]),
        ("bot", ["bnneck", "true", "decay_type", "\"step_40_70\""], ["94.2", "85.4"]),
        ("pcb", ["parts", "3", "optimizer", "\"SGD\""], ["95.1", "86.3"]),
        ("mgn", ["model", "\"MGN\"", "lr", "0.0002"], ["94.7", "87.5"]),
    ];
    let help = unwrapped(&line(at, "reid --help").ok().stdout);
    for (name, [key, value, other, its], published) in recipes {
        let flags = "--datadir data --height 32 --width 32 --batchid 2 --batchimage 2 --n-thread 2 --epochs 1 \
                     --keep-checkpoints 1";
        line(at, &format!("reid --recipe {name} {flags} --save {name}")).ok();
        let run = at.join("runs/reid").join(name);
        let config = &json(&run.join("run.json"))["config"];
        assert_eq!((config[key].to_string(), config[other].to_string()), (value.into(), its.into()), "{name}");
        assert_eq!((&config["epochs"], &config["if_labelsmooth"]), (&1.into(), &true.into()), "{name}");
        assert!(run.join("best_model.safetensors").is_file(), "{name}");
        // Gigabytes of the larger networks.
        std::fs::remove_dir_all(run).unwrap();
        let about = help.split(&format!("- {name}: ")).nth(1).unwrap_or_else(|| panic!("{name} in {help}"));
        let about = about.split(" - ").next().unwrap();
        for part in published.into_iter().chain(["Target on Market-1501", "README of LightMBN", "not measured here"]) {
            assert!(about.contains(part), "{part} in {about}");
        }
    }
    let shown = line(at, "reid --recipe bot --lr 1e-3 --print-config").ok().stdout;
    let row = |key: &str| shown.lines().find(|line| line.starts_with(&format!("{key} "))).unwrap();
    assert!(row("batchid").ends_with("recipe bot") && row("lr").ends_with("command line"), "{shown}");
    line(at, "reid --recipe lmbn").refused(&["--recipe", "'lmbn'", "'lmbn_n'", "bot"]);
    line(at, "reid --recipe frontal").refused(&["--recipe", "'frontal'", "mgn"]);
    line(at, "reid --recipe bot --resume test").refused(&["--recipe", "--resume"]);
}

/// Colours that even an untrained network tells apart: no training makes more of them.
#[test]
fn a_run_that_is_no_better_than_its_start_names_what_helps() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let colours = [[250, 10, 10], [10, 250, 10], [10, 10, 250], [240, 240, 30]];
    for (identity, colour) in colours.into_iter().enumerate() {
        let folder = at.join(format!("data/id{identity}"));
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..4_u8 {
            let colour = colour.map(|value: u8| value.saturating_add(number));
            image::RgbImage::from_pixel(32, 32, image::Rgb(colour)).save(folder.join(format!("{number}.png"))).unwrap();
        }
    }
    let flags =
        "reid --model OSNet_x0_25 --datadir data --height 32 --width 32 --batchid 2 --batchimage 2 --n-thread 1";
    let untrained = line(at, &format!("{flags} --epochs 0 --save untrained")).ok();
    assert!(untrained.stdout.contains("best mAP 1.0000"), "{}", untrained.stdout);
    assert!(!untrained.stderr.contains("is no better"), "nothing was trained: {}", untrained.stderr);
    let ended = line(at, &format!("{flags} --epochs 1")).ok().stderr;
    assert!(ended.contains("is no better than the 1.0000 of the network it started from"), "{ended}");
    assert!(ended.contains("--recipe") && ended.contains("--lr"), "{ended}");
    // Resumed, it is compared with the same start.
    let ended = line(at, "reid --resume test --epochs 2").ok().stderr;
    assert!(ended.contains("is no better than the 1.0000"), "{ended}");
}

#[test]
fn the_manuals_defaults_frontalise_worse_than_nothing_and_the_recipe_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let config = FaceFeaturesConfig { people: 300, frames: 8, dim: 64, identity_rank: 12, ..Default::default() };
    face_features(&config, &at.join("data")).unwrap();
    let small = "senet --data_dir data --image_dim 64 --identity_dims 1,5,9 --hidden_dim 128 --num_layers 2 --log_dir \
                 logs --save_interval 0";
    let cosines = |run: &str| {
        let found = json(&at.join(run).join("test_metrics.json"));
        ["frontalised", "untouched"].map(|way| found["identification"][way]["cosine"].as_f64().unwrap())
    };
    let ended = line(at, &format!("{small} --epochs 3 --lr 1e-3 --save_dir manual")).ok().stderr;
    let [after, before] = cosines("manual");
    assert!(after < before, "{after} of {before}");
    let warned = ended.lines().find(|line| line.starts_with("warning: frontalised embeddings are worse")).unwrap();
    for part in ["`--recipe frontal`", &format!("{after:.4}"), &format!("{before:.4}"), "--target-weight 5"] {
        assert!(warned.contains(part), "{part} in {warned}");
    }
    assert!(line(at, "eval manual").ok().stderr.contains("--recipe frontal"), "asked later, the same");
    // Fewer and smaller data than the recipe is for learn at a higher rate.
    let ended = line(at, &format!("{small} --recipe frontal --epochs 20 --lr 3e-3 --save_dir recipe")).ok().stderr;
    let [after, before] = cosines("recipe");
    println!("{before} to {after}");
    assert!(after > before + 0.2, "{before} to {after}");
    assert!(!ended.contains("worse"), "{ended}");
    let settings = &json(&at.join("recipe/run.json"))["config"];
    assert_eq!((&settings["target_weight"], &settings["pose_unit"]), (&5.0.into(), &"right-angles".into()));
}

#[test]
fn heads_train_by_their_recipe() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    heads(&HeadsConfig { people: 10, frames: 4, size: 24, ..HeadsConfig::default() }, &at.join("data")).unwrap();
    let small = "controlnet --data_dir data --image_size 16 --feature_dim 8 --max_samples 30 --log_dir logs";
    line(at, &format!("{small} --recipe heads --epochs 1 --save_dir recipe")).ok();
    let settings = &json(&at.join("recipe/run.json"))["config"];
    assert_eq!(
        (&settings["pose_source"], &settings["lr"], &settings["image_size"]),
        (&"metadata".into(), &0.002.into(), &16.into())
    );
    let ended = line(at, &format!("{small} --epochs 1 --lr 1e-9 --save_dir manual")).ok().stderr;
    let scores = &json(&at.join("manual/test_metrics.json"))[0];
    let psnr = |way: &str| scores[way]["psnr"].as_f64().unwrap();
    assert!(psnr("network") < psnr("copy_source"), "{scores}");
    let warned = ended.lines().find(|line| line.starts_with("warning: unseen people are drawn worse")).unwrap();
    for part in ["`--recipe heads`".to_owned(), format!("{:.2} dB", psnr("network"))] {
        assert!(warned.contains(&part), "{part} in {warned}");
    }
}

#[test]
fn hands_train_by_their_recipes() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    palms(&PalmConfig { people: 5, samples: 6, size: 32, ..PalmConfig::default() }, &at.join("palms")).unwrap();
    let small = "--recipe hands --datadir palms --n-thread 2 --img-size 32 --cnn-dims 4,8,8,16 --epochs 1";
    // Nothing moves: the network is the one it started from, to the last bit.
    let still = line(at, &format!("palmvein stage1 {small} --lr 1e-12 --weight-decay 0 --save still")).ok().stderr;
    assert!(still.contains("EER of the run") && still.contains("`--recipe hands`"), "{still}");
    for branch in ["cnn-palm", "cnn-vein"] {
        line(at, &format!("palmvein stage1 {small} --branch {branch}")).ok();
    }
    line(at, &format!("palmvein stage2 {small} --stage1 runs/palmvein/test/stage1")).ok();
    let config = |run: &str| json(&at.join("runs/palmvein/test").join(run).join("run.json"))["config"].take();
    let (first, head): (Value, Value) = (config("stage1/cnn_vein"), config("stage2"));
    assert_eq!((&first["loss"], &first["rotation"], &first["epochs"]), (&"softmax".into(), &4.0.into(), &1.into()));
    assert_eq!((&head["parts"], &head["arcface_m"]), (&"local-only".into(), &0.2.into()));
    line(at, "palmvein stage2 --recipe hand").refused(&["--recipe", "'hand'", "'hands'"]);
}
