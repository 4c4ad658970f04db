//! `train palmvein` from outside, on drawn palms at toy size.

use std::path::Path;

use burn::tensor::{Device, TensorData};
use fixtures::{PalmConfig, palms};
use train::checkpoint::Checkpoint;
use train::model::StateDict;
use train::model::palmvein::{
    Branch, ConvNextConfig, EfficientVitConfig, FusionConfig, PalmVeinNet, PalmVeinNetConfig,
};

use crate::support::{Ended, Python, json, tensors, train, write_pth};

const SIZES: &str = "--img-size 32 --vit-dims 8,8,16 --vit-depths 1,1,1 --vit-heads 2,2,2 --vit-key-dims 4,4,4 \
    --cnn-dims 4,8,8,16 --cnn-depths 1,1,1,1 --layer-scale 1";

/// Drawn palms of ten people below `at`, small.
fn draw(at: &Path) {
    palms(&PalmConfig { people: 5, samples: 6, size: 32, ..PalmConfig::default() }, &at.join("palms")).unwrap();
}

/// `train palmvein <stage>` with toy sizes and these flags.
fn run(at: &Path, stage: &str, more: &str) -> Ended {
    let fixed = format!("palmvein {stage} --datadir palms --n-thread 2 --patience 0 {SIZES} {more}");
    train(at, &fixed.split_whitespace().collect::<Vec<_>>())
}

#[test]
fn both_stages_train_and_resuming_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    draw(at);
    let stage1 = run(at, "stage1", "--branch all --epochs 1 --loss triplet+identity").ok();
    assert_eq!(stage1.stdout.lines().count(), 4, "{}", stage1.stdout);
    for branch in Branch::ALL {
        let best = Checkpoint::best(&at.join("runs/palmvein/test/stage1").join(branch.name())).unwrap().unwrap();
        assert!(best.record.metrics.contains_key("EER"), "{branch}");
    }
    let start = "--stage1 runs/palmvein/test/stage1 --batch 6 --out-dim-global 16 --out-dim-local 16 --lr 0.01";
    for (name, more) in [
        ("frozen", "--mode spatial --modality-dropout 0.3"),
        ("tuned", "--mode vector --freeze-stage1 false --loss-mode advanced --backbone-lr 1e-4"),
    ] {
        let flags = |epochs: usize, save: &str| format!("{start} {more} --epochs {epochs} --save {save}");
        run(at, "stage2", &flags(2, name)).ok();
        let whole = at.join(format!("runs/palmvein/{name}/stage2"));
        // The rate follows the number of epochs: the same run, stopped in the middle by a copy of its first epoch.
        let first = whole.join("checkpoint_epoch_1.safetensors");
        let resumed = format!("--resume {} --save-dir again-{name}", first.display());
        run(at, "stage2", &format!("{} {resumed}", flags(2, name))).ok();
        let last = "final_model.safetensors";
        assert_eq!(tensors(&whole.join(last)), tensors(&at.join(format!("again-{name}")).join(last)), "{name}");

        let stage1 = at.join("runs/palmvein/test/stage1/cnn_vein/best_model.safetensors");
        let (before, after) = (tensors(&stage1), tensors(&whole.join(last)));
        let key = "stages.0.0.dwconv.weight";
        let same = before[&format!("model.{key}")] == after[&format!("cnn_vein.{key}")];
        assert_eq!(same, name == "frozen", "{name}: backbones move only where they are to");
        let history = json(&whole.join("training_history.json"));
        let metrics = &history[1]["metrics"];
        assert!(metrics["EER"].as_f64().is_some() && metrics["accuracy"].as_f64().is_some(), "{metrics}");
        assert_eq!(metrics["EER_palm_alone"].is_number(), name == "frozen", "{metrics}");
    }
    // Frozen at first, then along.
    run(at, "stage2", &format!("{start} --epochs 2 --unfreeze-epoch 2 --save thawed")).ok();
    let after = tensors(&at.join("runs/palmvein/thawed/stage2/final_model.safetensors"));
    let before = tensors(&at.join("runs/palmvein/test/stage1/vit_palm/best_model.safetensors"));
    let key = "patch_embed.0.c.weight";
    assert_ne!(before[&format!("model.{key}")], after[&format!("vit_palm.{key}")]);
    // Without stage 1, palm and vein through the same backbones.
    run(at, "stage2", "--from-scratch --freeze-stage1 false --share-backbones --epochs 1 --save one").ok();
    let keys = tensors(&at.join("runs/palmvein/one/stage2/final_model.safetensors"));
    assert!(keys.keys().any(|key| key.starts_with("vit_palm.")) && !keys.keys().any(|key| key.contains("_vein.patch")));
}

/// Of a list given twice the last counts, as of every flag.
#[test]
fn a_list_given_again_replaces_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let value = |stage: &str, more: &str, setting: &str| {
        let shown = run(folder.path(), stage, &format!("{more} --print-config")).ok().stdout;
        let line = shown.lines().find(|line| line.split_whitespace().next() == Some(setting));
        line.unwrap_or_else(|| panic!("{setting} in {shown}")).split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(value("stage1", "", "vit_dims"), "[8,8,16]");
    assert_eq!(value("stage1", "--vit-dims 4,4,8 --vit-dims 16,16,32", "vit_dims"), "[16,16,32]");
    assert_eq!(value("stage2", "--cnn-depths 2,2,2,2", "cnn_depths"), "[2,2,2,2]");
    run(folder.path(), "stage1", "--vit-dims 4,4 --vit-dims 8").refused(&["command line", "3"]);
}

#[test]
fn stage_2_names_what_is_wrong_with_its_start() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    run(at, "stage1", "").refused(&["palms"]);
    draw(at);
    run(at, "stage2", "").refused(&["no stage-1 weights for vit_palm", "--stage1", "--from-scratch"]);
    run(at, "stage2", "--stage1 nowhere").refused(&["nowhere/vit_palm", "vit_palm_phase1_best.pth"]);
    run(at, "stage2", "--from-scratch").refused(&["--from-scratch", "--freeze-stage1"]);
    run(at, "stage2", "--arcface-m 4").refused(&["ArcFace margin is 4", "3.14159"]);
    run(at, "stage2", "--out-dim-local 64").refused(&["--out-dim-global", "--out-dim-local"]);
    run(at, "stage2", "--vit-dims 8,8").refused(&["command line", "3"]);
    run(at, "stage1", "--img-size 16").refused(&["--img-size is 16", "32"]);
    run(at, "stage1", "--branch all --epochs 0").ok();
    // Of other sizes, of the other kind, and of another design.
    let start = "--stage1 runs/palmvein/test/stage1";
    run(at, "stage2", &format!("{start} --vit-dims 16,16,16")).refused(&["vit_palm", "another shape"]);
    let cnn = "runs/palmvein/test/stage1/cnn_palm/best_model.safetensors";
    run(at, "stage2", &format!("{start} --vit-palm {cnn}")).refused(&["cnn_palm", "left over"]);
    run(at, "stage2", &format!("{start} --mixer cascaded")).refused(&["--mixer global"]);
    let other = Python::dict([("global_blocks.0.weight", Python::Tensor(TensorData::new(vec![0.0_f32], [1])))]);
    write_pth(&at.join("other.pth"), &other);
    run(at, "stage2", &format!("{start} --vit-palm other.pth")).refused(&["another design", "cross-attention"]);
    assert!(!at.join("runs/palmvein/test/stage2").exists(), "nothing was begun");
}

#[test]
fn published_weights_of_both_stages_are_imported() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let config = PalmVeinNetConfig {
        vit: EfficientVitConfig { embed_dim: [8, 8, 16], depth: [1, 2, 1], ..EfficientVitConfig::default() },
        cnn: ConvNextConfig { dims: [4, 8, 8, 16], depths: [1, 2, 1, 1], ..ConvNextConfig::default() },
        fusion: FusionConfig {
            use_spatial_fusion: true,
            out_dim_global: 16,
            out_dim_local: 16,
            classes: 5,
            ..FusionConfig::default()
        },
        ..PalmVeinNetConfig::default()
    };
    let net = PalmVeinNet::new(&config, 3, &Device::flex()).unwrap();
    let state = StateDict::of(&net);
    let part = |name: &str| {
        let inside = |(key, data): (&str, &TensorData)| {
            Some((key.strip_prefix(&format!("{name}."))?.to_owned(), Python::Tensor(data.clone())))
        };
        Python::Dict(state.iter().filter_map(inside).collect())
    };
    let names = ["vit_palm", "vit_vein", "cnn_palm", "cnn_vein", "fusion"];
    let mut entries: Vec<(String, Python)> = names.iter().map(|name| ((*name).to_owned(), part(name))).collect();
    entries.push(("epoch".into(), Python::Int(7)));
    write_pth(&at.join("stage2_best.pth"), &Python::Dict(entries));
    train(at, &["import", "stage2_best.pth", "--model", "palmvein", "-o", "whole.safetensors"]).ok();
    let imported = Checkpoint::open(&at.join("whole.safetensors")).unwrap();
    let network: PalmVeinNetConfig = imported.network("palmvein").unwrap();
    let head = FusionConfig {
        in_dim_global: network.fusion.in_dim_global,
        in_dim_local: network.fusion.in_dim_local,
        ..config.fusion
    };
    assert_eq!(network, PalmVeinNetConfig { fusion: head, ..config });
    assert_eq!(
        StateDict::read(&imported.path).unwrap().get("fusion.arcface.weight"),
        state.get("fusion.arcface.weight")
    );

    // One backbone: bare, and beside its criterion.
    let beside = Python::dict([("model", part("cnn_vein")), ("criterion", Python::dict([]))]);
    for (name, value) in [("bare.pth", part("cnn_vein")), ("beside.pth", beside)] {
        write_pth(&at.join(name), &value);
        train(at, &["import", name, "--model", "cnn-vein", "-o", "one.safetensors"]).ok();
        let key = "stages.1.1.gamma";
        let one = StateDict::read(&at.join("one.safetensors")).unwrap();
        assert_eq!(one.get(&format!("model.{key}")).or(one.get(key)), state.get(&format!("cnn_vein.{key}")));
    }
    train(at, &["import", "bare.pth", "--model", "vit-palm", "-o", "no.safetensors"]).refused(&["other kind"]);
}

#[test]
fn ablations_make_one_table() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    draw(at);
    let flags =
        "--from-scratch --freeze-stage1 false --epochs 1 --seeds 2 --out-dim-global 8 --out-dim-local 8 -o table";
    let ended = run(at, "ablate", &format!("{flags} --ablation palm-only,concat,spatial")).ok();
    assert_eq!(ended.stdout.lines().count(), 2 + 3, "{}", ended.stdout);
    let rows = &json(&at.join("table/table.json"))["rows"];
    for (row, head) in rows.as_array().unwrap().iter().zip(["palm-only", "concat", "spatial"]) {
        assert_eq!((row["head"].as_str(), row["runs"].as_u64()), (Some(head), Some(2)));
        let ends = row["eer_interval"].as_array().unwrap();
        assert!(ends[0].as_f64() <= ends[1].as_f64() && row["eer"].as_f64().unwrap() <= 1.0, "{row}");
    }
    assert!(rows[0]["parameters"].as_u64() < rows[1]["parameters"].as_u64());
    assert_eq!(std::fs::read_to_string(at.join("table/table.csv")).unwrap().lines().count(), 4);
    run(at, "ablate", &format!("{flags} --ablation concat")).refused(&["`table` already holds"]);
    run(at, "ablate", "--from-scratch --freeze-stage1 false --ablation channels").refused(&["`channels`", "channel"]);
    run(at, "ablate", "--ablation concat").refused(&["no stage-1 weights"]);
}
