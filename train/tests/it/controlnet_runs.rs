//! `train controlnet` as its users run it, on made-up heads.

use std::path::Path;

use burn::tensor::{Device, TensorData};
use fixtures::{HeadsConfig, heads};
use serde_json::Value;
use train::families::controlnet::net::{ControlNet, ControlNetConfig, EncoderKind};
use train::weights::StateDict;

use super::support::{Python, json, tensors, train, write_pth};

/// Made-up heads below `at`, where the manual's lines look for them.
fn set(at: &Path, people: usize, frames: usize) {
    let config = HeadsConfig { people, frames, size: 24, ..HeadsConfig::default() };
    heads(&config, &at.join("train/datas/file")).unwrap();
}

/// Flags that make the manual's runs small; of a flag given twice the last counts.
const SMALL: &str = "--epochs 1 --image_size 16 --feature_dim 8 --max_samples 30";

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// The command lines of the manual, without `python …/train_image_controlnet.py`.
const MANUAL: [&str; 15] = [
    "controlnet data_dir train/datas/file epochs 100 batch_size 16 lr 1e-4",
    "controlnet --data_dir train/datas/file --image_dir train/datas/file --batch_size 16 --num_workers 4 --image_size \
     112 --feature_dim 512 --pose_dim 3 --num_control_layers 3 --epochs 100 --lr 1e-4 --weight_decay 1e-5 \
     --pose_loss_weight 0.1 --loss_type mse --use_amp --gradient_accumulation_steps 1 --save_dir \
     train_transformer3D/controlnetlike/checkpoints_image --log_dir train_transformer3D/controlnetlike/logs_image \
     --save_interval 10",
    "controlnet --data_dir train/datas/file --batch_size 16 --epochs 50 --lr 1e-4 --freeze_generator \
     --save_dir train_transformer3D/controlnetlike/checkpoints_image_stage1",
    "controlnet --data_dir train/datas/file --batch_size 16 --epochs 50 --lr 5e-5 \
     --resume train_transformer3D/controlnetlike/checkpoints_image_stage1/best_model.pth \
     --save_dir train_transformer3D/controlnetlike/checkpoints_image_stage2",
    "controlnet --data_dir train/datas/file --batch_size 32 --epochs 100 --lr 1e-4 --use_amp \
     --save_dir train_transformer3D/controlnetlike/checkpoints_image_amp",
    "controlnet --data_dir train/datas/file --batch_size 8 --epochs 100 --lr 1e-4 --gradient_accumulation_steps 4 \
     --save_dir train_transformer3D/controlnetlike/checkpoints_image_accum",
    "controlnet --data_dir train/datas/file --batch_size 16 --epochs 100 --loss_type mse --overwrite",
    "controlnet --data_dir train/datas/file --batch_size 16 --epochs 100 --loss_type l1 --overwrite",
    "controlnet --data_dir train/datas/file --batch_size 16 --epochs 100 --loss_type combined --overwrite",
    "controlnet --data_dir train/datas/file --batch_size 16 --epochs 100 --pose_loss_weight 0.5 --overwrite",
    "controlnet --data_dir train/datas/file --batch_size 16 --epochs 100 --pose_loss_weight 0.01 --overwrite",
    // As typed it is epoch 50 of 100; there is one epoch here.
    "controlnet --data_dir train/datas/file --batch_size 16 --epochs 100 \
     --resume train_transformer3D/controlnetlike/checkpoints_image/checkpoint_epoch_1.pth \
     --save_dir train_transformer3D/controlnetlike/checkpoints_image_resume",
    "controlnet --data_dir train/datas/file --batch_size 4 --num_workers 2 --epochs 100 --lr 1e-4 \
     --gradient_accumulation_steps 8 --use_amp --save_dir train_transformer3D/controlnetlike/checkpoints_image_small",
    "controlnet --data_dir train/datas/file --batch_size 16 --epochs 10 --save_interval 5 \
     --save_dir train_transformer3D/controlnetlike/checkpoints_image_test",
    "controlnet --data_dir train/datas/file --batch_size 16 --num_workers 4 --image_size 112 --feature_dim 512 \
     --pose_dim 3 --num_control_layers 3 --epochs 100 --lr 1e-4 --weight_decay 1e-5 --pose_loss_weight 0.1 \
     --loss_type mse --use_amp --gradient_accumulation_steps 1 --save_dir \
     train_transformer3D/controlnetlike/checkpoints_image --log_dir train_transformer3D/controlnetlike/logs_image \
     --save_interval 10 --overwrite",
];

/// Lines that share a directory in the manual are told to replace what the one before left there.
#[test]
fn every_command_line_of_the_manual_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    set(at, 7, 5);
    for line in MANUAL {
        let arguments = [words(line), words(SMALL)].concat();
        let ended = train(at, &arguments).ok();
        assert!(ended.stdout.contains("best validation loss"), "{line}: {}", ended.stdout);
    }
    let run = at.join("train_transformer3D/controlnetlike/checkpoints_image");
    for name in ["best_model.safetensors", "final_model.safetensors", "final_training_curves.png", "report.html"] {
        assert!(run.join(name).is_file(), "{name}");
    }
    let history = json(&run.join("training_history.json"));
    for (part, keys) in [
        ("train_metrics", &["total_loss", "image_loss", "pose_loss"][..]),
        ("val_metrics", &["total_loss", "image_loss", "psnr"]),
    ] {
        assert!(keys.iter().all(|key| history[part][0][key].as_f64().unwrap().is_finite()), "{history}");
    }
    assert_eq!(history["args"]["loss_type"], "mse");
    let logs = std::fs::read_dir(at.join("train_transformer3D/controlnetlike/logs_image")).unwrap();
    assert!(logs.count() > 0, "a TensorBoard file");
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("unseen people") && page.matches("data:image/png;base64,").count() == 1);
    // Three angles, and the panels of the curves.
    assert!(page.matches("<svg").count() > 3 && page.contains(">yaw<") && page.contains("sources as they are read"));
    assert!(page.contains("Curves") && !page.contains("NaN"));
    assert!(!page.contains(&*at.to_string_lossy()), "a path of this machine");

    // The same figures and page of the checkpoint alone.
    let line = "eval train_transformer3D/controlnetlike/checkpoints_image --format json --report again.html";
    let figures: Value = serde_json::from_str(&train(at, &words(line)).ok().stdout).unwrap();
    assert_eq!(figures["parts"], json(&run.join("test_metrics.json")));
    let again = std::fs::read_to_string(at.join("again.html")).unwrap();
    assert!(again.contains("unseen people") && again.matches("<svg").count() == 3 && !again.contains("Curves"));
    let table = train(at, &words("eval train_transformer3D/controlnetlike/checkpoints_image")).ok().stdout;
    assert!(table.contains("copy source") && table.contains("mean picture"), "{table}");
}

#[test]
fn stages_begin_anew_and_runs_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    set(at, 7, 4);
    let small = "controlnet --data-dir train/datas/file --image-size 16 --feature-dim 8 --batch-size 8 \
        --save-interval 1 --log-dir logs";
    let run = |more: &str| train(at, &[words(small), words(more)].concat());

    run("--epochs 2 --freeze-generator --save-dir one").ok();
    let first = tensors(&at.join("one/checkpoint_epoch_1.safetensors"));
    let second = tensors(&at.join("one/checkpoint_epoch_2.safetensors"));
    let moved = |key: &&String| first[*key] != second[*key] && !key.ends_with("num_batches_tracked");
    let moved: Vec<_> = first.keys().filter(moved).collect();
    assert!(moved.iter().any(|key| key.starts_with("zero_conv.")), "{moved:?}");
    assert!(moved.iter().all(|key| !key.starts_with("image_generator.")), "{moved:?}");

    // The second stage: other parameters train, so only the weights are taken over, under the manual's name of the
    // file.
    let ended = run("--epochs 2 --lr 5e-5 --resume one/best_model.pth --save-dir two").ok();
    assert!(ended.stderr.contains("start afresh"), "{}", ended.stderr);
    let history = json(&at.join("two/training_history.json"));
    assert_eq!(history["train_metrics"].as_array().unwrap().len(), 2);
    let run_json: Value = json(&at.join("two/run.json"));
    assert_eq!(
        (run_json["config"]["freeze_generator"].clone(), run_json["config"]["lr"].clone()),
        (false.into(), 5e-5.into())
    );
    run("--epochs 3 --resume one/best_model.pth --freeze-generator false").refused(&["--save-dir"]);

    // The same parameters: the run goes on, in its directory or another, to the same weights as one that was not
    // stopped.
    run("--epochs 3 --save-dir straight").ok();
    run("--epochs 3 --resume straight/checkpoint_epoch_1.pth --save-dir again").ok();
    let end = |name: &str| tensors(&at.join(name).join("final_model.safetensors"));
    assert!(end("straight") == end("again"), "resumed from the first epoch, the weights differ");
    assert_eq!(json(&at.join("again/training_history.json"))["val_metrics"].as_array().unwrap().len(), 3);
}

/// A network of the manual's program in small, as it trains on pictures of 16 pixels.
fn small_network(encoder: EncoderKind) -> ControlNetConfig {
    let (features, angles, size) = (8, 3, 16);
    ControlNetConfig { encoder, features, angles, size, control_layers: 2, dropout: 0.1, pose_scale: 1.0 }
}

/// What the reference saves: weights, settings, epochs counted from 0, their figures.
fn foreign(path: &Path, frozen: bool) -> StateDict {
    let state = StateDict::of(&ControlNet::new(&small_network(EncoderKind::Conv), 7, &Device::flex()));
    let figures = |keys: [&str; 3]| {
        let epoch = |at: i32| Python::dict(keys.map(|key| (key, Python::Float(1.5 + f64::from(at)))));
        Python::List((0..5).map(epoch).collect())
    };
    let value = Python::dict([
        ("epoch", Python::Int(4)),
        ("model_state_dict", Python::state(&state, str::to_owned)),
        ("optimizer_state_dict", Python::optimizer()),
        ("train_metrics_history", figures(["total_loss", "image_loss", "pose_loss"])),
        ("val_metrics_history", figures(["total_loss", "image_loss", "psnr"])),
        (
            "args",
            Python::dict([
                ("data_dir", Python::Text("train/datas/file".into())),
                // A size is read from the tensors, whatever was written down.
                ("image_size", Python::Int(112)),
                ("loss_type", Python::Text("l1".into())),
                ("lr", Python::Float(0.25)),
                ("epochs", Python::Int(6)),
                ("freeze_generator", Python::Bool(frozen)),
            ]),
        ),
    ]);
    write_pth(path, &value);
    state
}

#[test]
fn a_checkpoint_of_the_reference_is_imported_and_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    set(at, 7, 3);
    std::fs::create_dir(at.join("old")).unwrap();
    let state = foreign(&at.join("old/checkpoint_epoch_5.pth"), false);
    let line = "import old/checkpoint_epoch_5.pth --model ImageControlNet -o imported.safetensors";
    assert!(train(at, &words(line)).ok().stdout.contains("ImageControlNet"));
    let ours = StateDict::read(&at.join("imported.safetensors")).unwrap();
    for (key, data) in state.iter() {
        assert_eq!(ours.get(key).unwrap().as_bytes(), data.as_bytes(), "{key}");
    }

    let run = |more: &str| train(at, &[words("controlnet --log_dir logs --batch_size 8"), words(more)].concat());
    let ended = run("--resume old/checkpoint_epoch_5.pth --lr 1e-4 --save_dir on").ok();
    assert!(
        ended.stderr.contains("PyTorch checkpoint after epoch 5") && ended.stderr.contains("start afresh"),
        "{}",
        ended.stderr
    );
    let history = json(&at.join("on/training_history.json"));
    // The loss is the checkpoint's, the rate that of the flag; the pose is compared as the reference does.
    let args = &history["args"];
    assert_eq!((&args["loss_type"], &args["pose_target"]), (&"l1".into(), &"target".into()));
    assert_eq!((&args["lr"], &args["image_size"]), (&1e-4.into(), &16.into()));
    assert_eq!(history["val_metrics"].as_array().unwrap().len(), 6, "five epochs that it tells of, and the sixth");
    assert_eq!(history["val_metrics"][2]["psnr"], 3.5);
    let end = tensors(&at.join("on/final_model.safetensors"));
    let moved = |key: &str| end[key] != state.get(key).unwrap().as_bytes();
    assert!(moved("image_generator.generator.9.weight"), "an epoch has moved the weights");

    // A first stage of theirs, a second of ours: other parameters train, so its weights are all that is taken.
    foreign(&at.join("old/best_model.pth"), true);
    let ended = run("--resume old/best_model.pth --epochs 1 --lr 5e-5 --save_dir two").ok();
    assert!(ended.stderr.contains("generator frozen") && ended.stderr.contains("start afresh"), "{}", ended.stderr);
    let history = json(&at.join("two/training_history.json"));
    assert_eq!(history["train_metrics"].as_array().unwrap().len(), 1);
    run("--resume old/best_model.pth --epochs 1 --save_dir two").refused(&["`two`", "--overwrite"]);

    let lacking = state.iter().filter(|(key, _)| !key.starts_with("control_branch.pose_encoder"));
    let lacking: StateDict = lacking.map(|(key, data)| (key.to_owned(), data.clone())).collect();
    write_pth(&at.join("old/less.pth"), &Python::state(&lacking, str::to_owned));
    run("--resume old/less.pth --save_dir three").refused(&["less.pth", "control_branch.pose_encoder.0.weight"]);
}

/// An ImageNet ResNet-50 under torchvision's keys, classifier included, reads the pictures and stays as it is, its
/// running statistics too; unless it is told to train.
#[test]
fn a_pretrained_backbone_is_used_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    set(at, 8, 3);
    let network = ControlNet::new(&small_network(EncoderKind::Resnet50), 7, &Device::flex());
    let backbone = |key: &str| key.strip_prefix("image_encoder.backbone.").map(str::to_owned);
    let imagenet: StateDict = StateDict::of(&network)
        .iter()
        .filter_map(|(key, data)| Some((backbone(key)?, data.clone())))
        .chain([("fc.weight".to_owned(), TensorData::new(vec![0.5f32; 10 * 2048], [10, 2048]))])
        .collect();
    write_pth(&at.join("resnet50.pth"), &Python::state(&imagenet, str::to_owned));
    std::fs::write(at.join("resnet50.safetensors"), imagenet.to_safetensors(0, Default::default())).unwrap();
    let same = |dir: &str, kind: &str| {
        let end = tensors(&at.join(dir).join("final_model.safetensors"));
        let of_kind = imagenet.iter().filter(|(key, _)| !key.starts_with("fc.") && key.ends_with(kind));
        let found: Vec<bool> =
            of_kind.map(|(key, data)| end[&format!("image_encoder.backbone.{key}")] == data.as_bytes()).collect();
        assert!(found.len() > 50, "{kind}: {}", found.len());
        found.iter().filter(|same| **same).count() as f64 / found.len() as f64
    };
    let line = "controlnet --data_dir train/datas/file --image_size 16 --feature_dim 8 --batch_size 8 --epochs 1 \
        --log_dir logs";
    for (file, dir, more) in
        [("resnet50.pth", "frozen", ""), ("resnet50.safetensors", "free", "--freeze_backbone false --lr 1e-2")]
    {
        let ended = train(at, &[words(line), vec!["--pre_train", file, "--save_dir", dir], words(more)].concat()).ok();
        assert!(ended.stderr.contains("encoder resnet50"), "{}", ended.stderr);
        for kind in ["weight", "running_var"] {
            assert_eq!(same(dir, kind), if more.is_empty() { 1.0 } else { 0.0 }, "{dir}: {kind}");
        }
    }
}

#[test]
fn bad_data_and_settings_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    set(at, 3, 3);
    let run = |line: &str| train(at, &words(line));
    run("controlnet --data-dir nowhere").refused(&["`nowhere`", "front_metadata.json"]);
    run("controlnet --data-dir train/datas/file").refused_saying("nobody is left to validate");
    run("controlnet --data-dir train/datas/file --image-size 100").refused(&["--image-size", "100", "16"]);
    run("controlnet --data-dir train/datas/file --pose-dim 4").refused(&["3", "--pose-dim", "4"]);
    run("controlnet --data-dir train/datas/file --encoder insightface").refused(&["front_feature.npy"]);
    run("controlnet --data-dir train/datas/file --loss-type l2").refused(&["l2", "combined"]);
    run("controlnet --data-dir train/datas/file stray").refused(&["stray"]);
    std::fs::write(at.join("train/datas/file/video_keypoints.npy"), b"short").unwrap();
    run("controlnet --data-dir train/datas/file").refused(&["video_keypoints.npy"]);
    assert!(!at.join("checkpoints_image").exists());
}

/// On people nobody trained on, and on new poses of the others, the network is nearer to the truth than the source
/// picture and than the mean of all. The pose is weighted as by default: in right angles that does not drown the
/// picture. Forty steps, some ten seconds of a processor: less does not learn to turn a head.
#[test]
fn a_short_run_beats_the_source_and_the_mean_picture() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let config = HeadsConfig { people: 24, frames: 6, size: 16, ..HeadsConfig::default() };
    heads(&config, &at.join("heads")).unwrap();
    let line = "controlnet --data-dir heads --pose-source metadata --image-size 16 --feature-dim 16 --epochs 10 --lr \
                3e-3 --batch-size 16 --min-angle 25 --holdout-poses 0.2 --pose-unit right-angles --dropout 0 \
                --save-dir run --log-dir run --save-interval 0";
    let ended = train(at, &words(line)).ok();
    let scores = json(&at.join("run/test_metrics.json"));
    println!("{}", ended.stderr);
    for part in scores.as_array().unwrap() {
        let psnr = |way: &str| part[way]["psnr"].as_f64().unwrap();
        for other in ["copy_source", "mean_picture"] {
            assert!(psnr("network") > psnr(other), "{part}");
        }
    }
    assert_eq!(scores.as_array().unwrap().len(), 2);
}
