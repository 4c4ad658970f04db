//! The whole chain through the programs, from drawn palms to a person verified on a device.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use fixtures::{PalmConfig, palms};
use serde_json::Value;

/// A program of the workspace, in the folder of this package's program.
fn program(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_export")).with_file_name(name);
    assert!(path.is_file(), "`{}` is built with the whole workspace: cargo test --workspace", path.display());
    path
}

fn run(at: &Path, line: &str) -> Output {
    let mut words = line.split_whitespace();
    Command::new(program(words.next().unwrap())).args(words).current_dir(at).output().unwrap()
}

/// Runs a program that must end with `code`; returns its stdout, or stderr if `code` is 2.
#[track_caller]
fn ends(at: &Path, line: &str, code: i32) -> String {
    let output = run(at, line);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{line}\n{out}{err}");
    if code == 2 { err.into_owned() } else { out.into_owned() }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn the_device_says_what_training_said() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    palms(&PalmConfig { people: 6, samples: 4, size: 32, ..PalmConfig::default() }, &at.join("palms")).unwrap();
    let sizes = "--img-size 32 --vit-dims 8,8,16 --vit-depths 1,1,1 --vit-heads 2,2,2 --vit-key-dims 4,4,4 \
        --cnn-dims 4,8,8,16 --cnn-depths 1,1,1,1 --layer-scale 1 --out-dim-global 16 --out-dim-local 16";
    let stage2 = "train palmvein stage2 --datadir palms --from-scratch --freeze-stage1 false --epochs 1";
    ends(at, &format!("{stage2} {sizes} --modality-dropout 0.5 --save bears"), 0);
    let trained = json(&ends(at, "train eval runs/palmvein/bears/stage2 --format json", 0));
    ends(at, "export --onnx runs/palmvein/bears/stage2 -o bears --attention", 0);
    let deployed = json(&ends(at, "deploy evaluate -m bears --datadir palms --pairs --format json", 0));
    let (ours, theirs) = (&trained["verification"], &deployed["verification"]);
    for count in ["samples", "identities", "genuine", "impostor"] {
        assert_eq!(ours[count], theirs[count], "{count}");
    }
    // Rounding may swap two neighbouring pairs in the ranking.
    let near = |ours: &Value, theirs: &Value, allowed: f64| {
        let (ours, theirs) = (ours.as_f64().unwrap(), theirs.as_f64().unwrap());
        assert!((ours - theirs).abs() <= allowed, "{ours} while training, {theirs} on the device");
    };
    near(&ours["eer"]["rate"], &theirs["eer"]["rate"], 0.07);
    near(&ours["auc"], &theirs["auc"], 0.006);
    near(&ours["genuine_mean"], &theirs["genuine_mean"], 1e-4);
    near(&ours["impostor_mean"], &theirs["impostor_mean"], 1e-4);
    near(&ours["auc_interval"]["low"], &theirs["auc_interval"]["low"], 0.02);

    // Nobody who is tested was trained on; of everybody, some were.
    assert_eq!(deployed["people"], serde_json::json!({"tested": ours["identities"], "trained_on": 0, "unknown": 0}));
    let all = json(&ends(at, "deploy evaluate -m bears --datadir palms --pairs --split all --format json", 0));
    let trained = &all["people"];
    let count = |name: &str| trained[name].as_u64().unwrap();
    assert_eq!(count("tested") - count("trained_on"), ours["identities"].as_u64().unwrap(), "{trained}");

    // A model trained with modality dropout accepts a single modality.
    let contract = json(&std::fs::read_to_string(at.join("bears/contract.json")).unwrap());
    assert_eq!((&contract["input"][0]["absent"], &contract["input"][1]["absent"]), (&0.0.into(), &0.0.into()));
    let anna = "--gallery people --identity anna";
    let vein = "--vein palms/vein/001_l/1.png";
    ends(at, &format!("deploy enroll -m bears {anna} --palm palms/palm/001_l/1.png"), 0);
    let found = ends(at, &format!("deploy verify -m bears {anna} {vein} --threshold -1 --explain drawn"), 0);
    assert!(found.starts_with("match"), "{found}");
    // The local half has a weight per position, the global half one per channel.
    for (file, width) in [("local.png", 3 * 224), ("global.png", 512)] {
        assert_eq!(image::open(at.join("drawn").join(file)).unwrap().width(), width, "{file}");
    }
    let table = std::fs::read_to_string(at.join("drawn/weights.csv")).unwrap();
    assert_eq!(table.lines().filter(|line| line.contains(",global,")).count(), 16);
    assert_eq!(table.lines().filter(|line| line.contains(",local,")).count(), 1, "one place at 32 pixels");

    // Thresholds are not part of the certified content.
    ends(at, "deploy calibrate -m bears --datadir palms --pairs --split all --far 0.1", 0);
    ends(at, &format!("deploy verify -m bears {anna} --palm palms/palm/001_l/1.png --far 0.1"), 0);
    ends(at, "export verify bears", 0);
    let mut bytes = std::fs::read(at.join("bears/model.onnx")).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(at.join("bears/model.onnx"), bytes).unwrap();
    let refused = run(at, "export verify bears");
    assert_ne!(refused.status.code(), Some(0), "{}", String::from_utf8_lossy(&refused.stdout));

    // A model trained without modality dropout refuses half a pair.
    ends(at, &format!("{stage2} {sizes} --epochs 0 --save plain"), 0);
    ends(at, "export --onnx runs/palmvein/plain/stage2 -o plain", 0);
    let refused = ends(at, &format!("deploy enroll -m plain --gallery others --identity anna {vein}"), 2);
    assert!(refused.contains("needs a palm picture") && refused.contains("--modality-dropout"), "{refused}");
    let refused = ends(at, &format!("deploy search -m plain --gallery palms --pairs {vein}"), 2);
    assert!(refused.contains("needs a palm picture"), "{refused}");
}
